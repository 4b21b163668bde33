/* Names of latents against a plain computation in double. */
#include "test.h"

enum { D = 9, N = 45, ROWS = 133, WORDS = 60, TOP = 4, K = 5, BAD_ROW = 131 };

typedef struct fixture {
    float *x, *words;
    msae_data data, vocabulary;
    msae_model model;
} fixture;

static void open_fixture(fixture *f, msae_simd simd) {
    msae_train_desc desc = test_desc(&test_recipes[0], D, N);
    f->x = test_random_floats(8, ROWS * D, 1);
    f->words = test_random_floats(14, WORDS * D, 1);
    for (size_t i = 0; i < ROWS * D; i++) f->x[i] += 0.5f;
    for (size_t i = 0; i < WORDS * D; i++) f->words[i] += 0.3f;
    /* Word 1 is nearly word 0, word 2 nearly word 0 and nearer to it. */
    for (size_t i = 0; i < D; i++) {
        f->words[D + i] = f->words[i] + (i == 0 ? 0.1f : 0);
        f->words[2 * D + i] = f->words[i] + (i == 0 ? 0.05f : 0);
    }
    f->data = msae_data_view(f->x, ROWS, D);
    f->vocabulary = msae_data_view(f->words, WORDS, D);
    desc.model.host.simd = simd;
    CHECK_STATUS(MSAE_OK, msae_model_init(&f->model, &desc.model, NULL));
    test_randomize(&f->model, 3);
    CHECK_STATUS(MSAE_OK, test_data_statistics(&f->data, MSAE_SCALING_RMS, 0, NULL, f->model.mean,
                                               &f->model.scale, NULL));
    f->model.latent_bias[11] = -1000; /* never active */
}

static void close_fixture(fixture *f) {
    msae_model_free(&f->model);
    free(f->x);
    free(f->words);
}

/* ---------------------------------------------------------------------------------------------
   The slow way
   ------------------------------------------------------------------------------------------ */

static double to_unit(double *v) {
    double squares = 0;
    for (size_t i = 0; i < D; i++) squares += v[i] * v[i];
    for (size_t i = 0; i < D && squares > 0; i++) v[i] /= sqrt(squares);
    return sqrt(squares);
}

static void naive_words(const fixture *f, int keep_means, double words[WORDS][D]) {
    double mean[D] = {0};
    for (size_t i = 0; i < WORDS * D && !keep_means; i++) {
        mean[i % D] += (double)f->words[i] / WORDS;
    }
    for (size_t w = 0; w < WORDS; w++) {
        for (size_t i = 0; i < D; i++) words[w][i] = (double)f->words[w * D + i] - mean[i];
        to_unit(words[w]);
    }
}

static double dot(const double *a, const double *b) {
    double sum = 0;
    for (size_t i = 0; i < D; i++) sum += a[i] * b[i];
    return sum;
}

/* The mean of the strongest rows' directions by the squares of the latents' values, of the 60 %
   that are nearest to that of all; its length, and the mean cosine of two of all, weighted by the
   product of those squares. */
static double rows_direction(const fixture *f, const float *z, size_t j, double *direction,
                             double *agreement) {
    double mean[D] = {0}, weights = 0, rows[TOP][D], of[TOP], nearness[TOP], pairs = 0;
    int used[ROWS] = {0}, count = 0;
    for (size_t i = 0; i < ROWS * D; i++) mean[i % D] += (double)f->x[i] / ROWS;
    memset(direction, 0, D * sizeof *direction);
    for (; count < TOP; count++) {
        size_t best = ROWS;
        for (size_t r = 0; r < ROWS; r++) {
            const float value = z[r * N + j];
            if (value != 0 && !used[r] && (best == ROWS || value > z[best * N + j])) best = r;
        }
        if (best == ROWS) break;
        used[best] = 1;
        double *row = rows[count];
        for (size_t i = 0; i < D; i++) row[i] = (double)f->x[best * D + i] - mean[i];
        to_unit(row);
        of[count] = (double)z[best * N + j] * (double)z[best * N + j];
        for (size_t i = 0; i < D; i++) direction[i] += of[count] * row[i];
        for (int other = 0; other < count; other++) {
            *agreement += of[count] * of[other] * dot(row, rows[other]);
            pairs += of[count] * of[other];
        }
    }
    if (pairs > 0) *agreement /= pairs;
    for (int t = 0; t < count; t++) nearness[t] = dot(direction, rows[t]);
    memset(direction, 0, D * sizeof *direction);
    for (int t = 0; t < count; t++) {
        int nearer = 0;
        for (int other = 0; other < count; other++) nearer += nearness[other] > nearness[t];
        if (nearer >= (count * 6 + 9) / 10) continue;
        for (size_t i = 0; i < D; i++) direction[i] += of[t] * rows[t][i];
        weights += of[t];
    }
    const double length = to_unit(direction);
    return weights > 0 ? length / weights : 0;
}

typedef struct naive_names {
    double words[WORDS][D], directions[N][D], length[N], agreement[N], hub[WORDS];
} naive_names;

static void naive_hubs(naive_names *m, double share) {
    const size_t most = (N + 19) / 20;
    for (size_t w = 0; w < WORDS; w++) {
        double best[(N + 19) / 20];
        for (size_t i = 0; i < most; i++) best[i] = -2;
        for (size_t j = 0; j < N; j++) {
            double value = dot(m->words[w], m->directions[j]);
            for (size_t i = 0; i < most && m->length[j] > 0; i++) {
                if (value <= best[i]) continue;
                double other = best[i];
                best[i] = value;
                value = other;
            }
        }
        m->hub[w] = 0;
        for (size_t i = 0; i < most; i++) m->hub[w] += share * best[i] / (double)most;
    }
}

static double rank_of(const naive_names *m, size_t j, size_t w) {
    return dot(m->words[w], m->directions[j]) - m->hub[w];
}

/* The highest-ranking word that `skipped` does not hold. */
static size_t best_word(const naive_names *m, size_t j, const int *skipped) {
    size_t best = WORDS;
    for (size_t w = 0; w < WORDS; w++) {
        if (!skipped[w] && (best == WORDS || rank_of(m, j, w) > rank_of(m, j, best))) best = w;
    }
    return best;
}

static void check_latent(const naive_names *m, size_t j, const msae_name_desc *desc,
                         const msae_name *name, const msae_hit *listed) {
    const double limit = desc->synonym < 0 ? 2 : desc->synonym > 0 ? (double)desc->synonym : 0.8;
    int skipped[WORDS] = {0};
    if (m->length[j] == 0) {
        CHECK(name->word == MSAE_NO_WORD && name->runner_up == MSAE_NO_WORD && name->score == 0);
        CHECK(listed[0].row == MSAE_NO_WORD);
        return;
    }
    const size_t word = best_word(m, j, skipped);
    CHECK(name->word == word);
    CHECK(fabs((double)name->score - m->length[j] * dot(m->words[word], m->directions[j])) < 1e-5);
    for (size_t w = 0; w < WORDS; w++) {
        skipped[w] = w == word || dot(m->words[w], m->words[word]) >= limit ||
                     (desc->synonyms && desc->synonyms[w] == desc->synonyms[word]);
    }
    const size_t other = best_word(m, j, skipped);
    CHECK(name->runner_up == other);
    CHECK(fabs((double)name->runner_up_score -
               m->length[j] * dot(m->words[other], m->directions[j])) < 1e-5);
    memset(skipped, 0, sizeof skipped);
    for (int i = 0; i < 3; i++) {
        const size_t next = best_word(m, j, skipped);
        skipped[next] = 1;
        CHECK(listed[i].row == next);
    }
}

/* ---------------------------------------------------------------------------------------------
   Cases
   ------------------------------------------------------------------------------------------ */

static void names_by_the_decoder(void) {
    static naive_names m;
    FOR_EACH_PATH(simd) {
        fixture f;
        msae_name names[N];
        msae_hit listed[N * 3];
        msae_name_desc desc;
        open_fixture(&f, simd);
        memset(&desc, 0, sizeof desc);
        desc.top = 3;
        desc.words = listed;
        for (desc.keep_means = 0; desc.keep_means < 2; desc.keep_means++) {
            naive_words(&f, desc.keep_means, m.words);
            for (size_t j = 0; j < N; j++) {
                for (size_t i = 0; i < D; i++) {
                    m.directions[j][i] =
                        (double)f.model.decoder[j * D + i] / (double)f.model.scale +
                        (desc.keep_means ? (double)f.model.mean[i] : 0);
                }
                to_unit(m.directions[j]);
                m.length[j] = 1;
            }
            for (int hubs = 0; hubs < 2; hubs++) {
                desc.hubs = hubs ? 0.25f : 0;
                naive_hubs(&m, (double)desc.hubs);
                desc.synonym = hubs ? MSAE_OFF : 0;
                CHECK_STATUS(MSAE_OK,
                             msae_name_latents(&f.model, &f.vocabulary, &desc, names, NULL));
                for (size_t j = 0; j < N; j++) {
                    test_note("latent %zu, keep_means %d, hubs %d, %s", j, desc.keep_means, hubs,
                              msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
                    check_latent(&m, j, &desc, &names[j], &listed[3 * j]);
                    CHECK(names[j].rows == 0 && names[j].support == 0);
                }
            }
        }
        close_fixture(&f);
    }
}

static void names_by_strongest_rows(void) {
    static naive_names m;
    FOR_EACH_PATH(simd) {
        fixture f;
        msae_name names[N];
        msae_hit listed[N * 3], alone[N * 3];
        msae_name_desc desc;
        uint32_t groups[WORDS];
        float *z = test_floats(ROWS * N);
        open_fixture(&f, simd);
        memset(&desc, 0, sizeof desc);
        desc.data = &f.data;
        desc.rows = TOP;
        desc.k = K;
        desc.top = 3;
        void *workspace = test_alloc(msae_workspace_bytes(&f.model, ROWS));
        CHECK_STATUS(MSAE_OK, msae_encode_dense(&f.model, workspace, f.x, ROWS, K, z, NULL));
        free(workspace);
        naive_words(&f, 0, m.words);
        for (size_t j = 0; j < N; j++) {
            m.agreement[j] = 0;
            m.length[j] = rows_direction(&f, z, j, m.directions[j], &m.agreement[j]);
        }
        CHECK(m.length[11] == 0);
        for (uint32_t w = 0; w < WORDS; w++) groups[w] = w / 2;
        for (int with_groups = 0; with_groups < 2; with_groups++) {
            naive_hubs(&m, with_groups ? 0 : 0.6);
            desc.hubs = with_groups ? MSAE_OFF : 0;
            desc.synonyms = with_groups ? groups : NULL;
            desc.words = listed;
            CHECK_STATUS(MSAE_OK, msae_name_latents(&f.model, &f.vocabulary, &desc, names, NULL));
            desc.words = alone;
            CHECK_STATUS(MSAE_OK, msae_name_latents(&f.model, &f.vocabulary, &desc, NULL, NULL));
            for (size_t i = 0; i < N * 3; i++) {
                CHECK(alone[i].row == listed[i].row && alone[i].value == listed[i].value);
            }
            for (size_t j = 0; j < N; j++) {
                size_t active = 0;
                for (size_t r = 0; r < ROWS; r++) active += z[r * N + j] != 0;
                test_note("latent %zu, groups %d, %s", j, with_groups,
                          msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
                check_latent(&m, j, &desc, &names[j], &listed[3 * j]);
                CHECK(names[j].rows == (active < TOP ? active : TOP));
                CHECK(names[j].support == active);
                CHECK(fabs((double)names[j].agreement - m.agreement[j]) < 1e-5);
            }
        }
        free(z);
        close_fixture(&f);
    }
}

static void the_same_for_any_threads(void) {
    fixture f;
    msae_name one[N], three[N];
    msae_name_desc desc;
    msae_pool *pool;
    memset(&desc, 0, sizeof desc);
    memset(one, 0, sizeof one);
    memset(three, 0, sizeof three);
    open_fixture(&f, MSAE_SIMD_AUTO);
    desc.data = &f.data;
    CHECK_STATUS(MSAE_OK, msae_name_latents(&f.model, &f.vocabulary, &desc, one, NULL));
    if (!CHECK_STATUS(MSAE_OK, msae_pool_create(&pool, 3, NULL))) return;
    f.model.parallel = msae_pool_parallel(pool);
    CHECK_STATUS(MSAE_OK, msae_name_latents(&f.model, &f.vocabulary, &desc, three, NULL));
    CHECK(memcmp(one, three, sizeof one) == 0);
    msae_pool_free(pool);
    close_fixture(&f);
}

static void vocabularies_that_cannot_serve(void) {
    fixture f;
    msae_name names[N];
    msae_name_desc desc;
    msae_error error;
    open_fixture(&f, MSAE_SIMD_AUTO);
    memset(&desc, 0, sizeof desc);
    msae_data one = msae_data_view(f.words, 1, D), narrow = msae_data_view(f.words, WORDS, D - 1);
    msae_data none = msae_data_view(f.words, 0, D), no_rows = msae_data_view(f.x, 0, D);
    desc.keep_means = 1; /* a single word is its own mean */
    CHECK_STATUS(MSAE_OK, msae_name_latents(&f.model, &one, &desc, names, NULL));
    CHECK(names[0].word == 0 && names[0].runner_up == MSAE_NO_WORD &&
          names[0].runner_up_score == -1);
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_name_latents(&f.model, &narrow, NULL, names, NULL));
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_name_latents(&f.model, &none, NULL, names, NULL));
    desc.data = &f.data;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_name_latents(&f.model, &f.vocabulary, &desc, names, NULL));
    desc.keep_means = 0;
    desc.k = N + 1;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_name_latents(&f.model, &f.vocabulary, &desc, names, NULL));
    desc.k = K;
    desc.data = &no_rows;
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_name_latents(&f.model, &f.vocabulary, &desc, names, NULL));
    desc.data = &f.data;
    f.x[BAD_ROW * D + 1] = INFINITY;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_name_latents(&f.model, &f.vocabulary, &desc, names, &error));
    CHECK(error.position == BAD_ROW);
    f.words[17 * D + 1] = NAN;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_name_latents(&f.model, &f.vocabulary, NULL, names, &error));
    CHECK(error.position == 17);
    close_fixture(&f);
}

/* Every allocation fails once; nothing leaks. */
static void memory_that_fails(void) {
    fixture f;
    test_heap heap;
    msae_name names[N];
    msae_name_desc desc;
    memset(&desc, 0, sizeof desc);
    open_fixture(&f, MSAE_SIMD_AUTO);
    desc.data = &f.data;
    const msae_allocator own = f.model.allocator;
    for (size_t fail_at = 1;; fail_at++) {
        memset(&heap, 0, sizeof heap);
        heap.fail_at = fail_at;
        f.model.allocator = test_heap_allocator(&heap);
        const msae_status status = msae_name_latents(&f.model, &f.vocabulary, &desc, names, NULL);
        CHECK(heap.bytes == 0);
        if (status == MSAE_OK) break;
        CHECK(status == MSAE_ERROR_MEMORY && fail_at < 20);
    }
    f.model.allocator = own;
    close_fixture(&f);
}

int main(void) {
    RUN(names_by_the_decoder);
    RUN(names_by_strongest_rows);
    RUN(the_same_for_any_threads);
    RUN(vocabularies_that_cannot_serve);
    RUN(memory_that_fails);
    return test_finish();
}
