/* Data with skip_bad: every call gives what it gives for the good rows alone, under their own
   numbers. */
#include "test.h"

#include "audits.h"

enum { ROWS = 230, D = 11, N = 40, K = 6, TOP = 4, CLASSES = 3, STEPS = 3 };

typedef struct fixture {
    msae_model model;
    float x[ROWS * D], good[ROWS * D]; /* all rows, and the good ones one after the other */
    double wide[ROWS * D];             /* all rows, bad by 1e300 too .. */
    unsigned char bytes[ROWS * D * 8]; /* .. as files have them */
    size_t place[ROWS], used;          /* of the good rows in x */
    uint32_t labels[ROWS], good_labels[ROWS];
    uint8_t attribute[ROWS], good_attribute[ROWS];
    msae_data data, only; /* x or wide with skip_bad; the good rows */
} fixture;

/* The first and the last row, single ones and a whole tile. */
static int is_bad(size_t r) {
    return r == 0 || r == 17 || r == ROWS - 1 || (r >= 64 && r < 64 + MSAE__INFERENCE_ROWS) ||
           r % 50 == 31;
}

static void open_fixture(fixture *f, const test_recipe *recipe, int wide) {
    const float bad[] = {(float)NAN, (float)INFINITY, -(float)INFINITY};
    msae_model_desc desc = test_desc(recipe, D, N).model;
    uint64_t seed = 11;
    CHECK_STATUS(MSAE_OK, msae_model_init(&f->model, &desc, NULL));
    test_randomize(&f->model, 3);
    f->model.scale = 1.5f;
    test_fill(&seed, f->x, ROWS * D, 1);
    f->used = 0;
    for (size_t r = 0; r < ROWS; r++) {
        f->labels[r] = (uint32_t)(r * 7 % 11 % CLASSES);
        f->attribute[r] = (uint8_t)(r * 5 % 7 % 3);
        if (r % 13 == 5) f->labels[r] = LINEAR_PROBE_NO_CLASS;
        if (is_bad(r)) {
            f->x[r * D + r % D] = bad[r % 3];
        } else {
            memcpy(f->good + f->used * D, f->x + r * D, D * sizeof(float));
            f->good_labels[f->used] = f->labels[r];
            f->good_attribute[f->used] = f->attribute[r];
            f->place[f->used++] = r;
        }
    }
    for (size_t i = 0; i < ROWS * D; i++) f->wide[i] = (double)f->x[i];
    f->wide[17 * D + 17 % D] = 1e300;
    for (size_t i = 0; i < ROWS * D; i++) {
        uint64_t bits;
        memcpy(&bits, &f->wide[i], sizeof bits);
        msae__store_le(f->bytes + 8 * i, 8, bits);
    }
    f->data = msae_data_view(f->x, ROWS, D);
    if (wide) {
        f->data.dtype = MSAE_F64;
        f->data.values = f->bytes;
        f->data.native = 0;
    }
    f->data.skip_bad = 1;
    f->only = msae_data_view(f->good, f->used, D);
}

static int is_near(double a, double b) {
    if (test_is_nan(a) || test_is_nan(b)) return test_is_nan(a) && test_is_nan(b);
    return fabs(a - b) <= 1e-5 * (fabs(a) + fabs(b)) + 1e-6;
}

static int are_near(const float *a, const float *b, size_t count) {
    size_t i = 0;
    while (i < count && is_near((double)a[i], (double)b[i])) i++;
    return i == count;
}

static void check_metrics(fixture *f) {
    const size_t ks[] = {2, 7, N};
    msae_metrics all[3], only[3];
    msae_eval_desc desc;
    float mean[2][D], scale[2];
    memset(&desc, 0, sizeof desc);
    desc.ks = ks;
    desc.n_ks = 3;
    desc.cknna = 1;
    CHECK_STATUS(MSAE_OK, msae_evaluate(&f->model, &f->data, &desc, COUNT(all), all, NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_evaluate(&f->model, &f->only, &desc, COUNT(only), only, NULL, NULL));
    for (size_t i = 0; i < 3; i++) {
        CHECK(all[i].rows == f->used && only[i].rows == f->used);
        CHECK(is_near(all[i].fvu_row, only[i].fvu_row));
        CHECK(is_near(all[i].fvu_set, only[i].fvu_set));
        CHECK(is_near(all[i].cs, only[i].cs) && is_near(all[i].l0, only[i].l0));
        CHECK(is_near(all[i].cknna, only[i].cknna) && all[i].ndn == only[i].ndn);
    }
    CHECK_STATUS(MSAE_OK, test_data_statistics(&f->data, MSAE_SCALING_RMS, 0, NULL, mean[0],
                                               &scale[0], NULL));
    CHECK_STATUS(MSAE_OK, test_data_statistics(&f->only, MSAE_SCALING_RMS, 0, NULL, mean[1],
                                               &scale[1], NULL));
    CHECK(are_near(mean[0], mean[1], D) && is_near((double)scale[0], (double)scale[1]));
}

static void check_rows(fixture *f) {
    msae_hit all[N * TOP], only[N * TOP], near_all[2 * TOP], near_only[2 * TOP];
    size_t counts[N], only_counts[N];
    msae_index index, only_index;
    CHECK_STATUS(MSAE_OK, test_top_rows(&f->model, &f->data, K, NULL, N, TOP, all, counts, NULL));
    CHECK_STATUS(MSAE_OK,
                 test_top_rows(&f->model, &f->only, K, NULL, N, TOP, only, only_counts, NULL));
    for (size_t j = 0; j < N; j++) {
        CHECK(counts[j] == only_counts[j]);
        for (size_t i = 0; i < TOP && i < counts[j]; i++) {
            CHECK(all[j * TOP + i].row == f->place[only[j * TOP + i].row]);
        }
    }
    CHECK_STATUS(MSAE_OK,
                 msae_nearest_rows(&f->model, &f->data, f->good, 2, TOP, near_all, counts, NULL));
    CHECK_STATUS(MSAE_OK, msae_nearest_rows(&f->model, &f->only, f->good, 2, TOP, near_only,
                                            only_counts, NULL));
    for (size_t i = 0; i < 2 * TOP; i++) {
        CHECK(counts[i / TOP] == TOP && near_all[i].row == f->place[near_only[i].row]);
    }
    if (!CHECK_STATUS(MSAE_OK, msae_index_build(&index, &f->model, &f->data, K, NULL))) return;
    CHECK_STATUS(MSAE_OK, msae_index_build(&only_index, &f->model, &f->only, K, NULL));
    CHECK(index.rows == ROWS && index.entries == only_index.entries);
    CHECK_STATUS(MSAE_OK, msae_index_check(&index, &f->model, &f->data, NULL));
    for (size_t e = 0; e < index.entries; e++) {
        CHECK(index.entry_row[e] == f->place[only_index.entry_row[e]]);
    }
    for (size_t r = 0; r < ROWS; r++) {
        if (is_bad(r)) CHECK(index.counts[r] == 0 && index.norms[r] == 0);
    }
    msae_index_free(&index);
    msae_index_free(&only_index);
}

static void check_names(fixture *f) {
    msae_name all[N], only[N];
    msae_hit words[N * 2], only_words[N * 2];
    msae_name_desc desc, only_desc;
    memset(&desc, 0, sizeof desc);
    desc.k = K;
    desc.top = 2;
    only_desc = desc;
    desc.words = words;
    only_desc.words = only_words;
    for (int by_rows = 0; by_rows < 2; by_rows++) {
        if (by_rows) desc.data = &f->data, only_desc.data = &f->only;
        CHECK_STATUS(MSAE_OK, msae_name_latents(&f->model, &f->data, &desc, all, NULL));
        CHECK_STATUS(MSAE_OK, msae_name_latents(&f->model, &f->only, &only_desc, only, NULL));
        for (size_t j = 0; j < N; j++) {
            CHECK(all[j].support == only[j].support && all[j].rows == only[j].rows);
            CHECK(is_near((double)all[j].score, (double)only[j].score));
            if (only[j].word == MSAE_NO_WORD) continue;
            CHECK(all[j].word == f->place[only[j].word]);
            CHECK(words[2 * j].row == f->place[only_words[2 * j].row]);
        }
    }
}

static void check_steering(fixture *f) {
    static float all[ROWS * D], only[ROWS * D];
    static msae_steered steered[ROWS], only_steered[ROWS];
    msae_change changes[N], only_changes[N];
    const msae_edit edit = {3, MSAE_EDIT_SET, 2, 0};
    msae_steer_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.edits = &edit;
    desc.n_edits = 1;
    desc.k = K;
    CHECK_STATUS(MSAE_OK, msae_steer(&f->model, &f->data, &desc, all, steered, changes, NULL));
    CHECK_STATUS(MSAE_OK,
                 msae_steer(&f->model, &f->only, &desc, only, only_steered, only_changes, NULL));
    for (size_t i = 0; i < f->used; i++) {
        CHECK(are_near(all + f->place[i] * D, only + i * D, D));
        CHECK(is_near(steered[f->place[i]].cosine, only_steered[i].cosine));
    }
    for (size_t r = 0; r < ROWS; r++) {
        float row[D];
        if (!is_bad(r)) continue;
        msae_data_read(&f->data, r, 1, row);
        CHECK(memcmp(all + r * D, row, sizeof row) == 0);
        CHECK(test_is_nan(steered[r].cosine) && test_is_nan(steered[r].distance));
    }
    for (size_t j = 0; j < N; j++) {
        CHECK(is_near(changes[j].before, only_changes[j].before));
        CHECK(is_near(changes[j].change, only_changes[j].change));
    }
}

static void check_probe(fixture *f) {
    const size_t ks[] = {3, N};
    const float values[STEPS] = {0, 1, 2};
    const uint32_t latents[] = {3, 5};
    linear_probe probe, only;
    linear_probe_score score, only_score;
    linear_probe_agreement agreements[2], only_agreements[2];
    attribute_correlation all[N], only_all[N];
    attribute_point points[STEPS], only_points[STEPS];
    attribute_ablation ablations[2], only_ablations[2];
    CHECK_STATUS(MSAE_OK, linear_probe_fit(&probe, &f->data, f->labels, CLASSES, NULL, NULL));
    CHECK_STATUS(MSAE_OK, linear_probe_fit(&only, &f->only, f->good_labels, CLASSES, NULL, NULL));
    CHECK(are_near(probe.weights, only.weights, CLASSES * D) && is_near(probe.loss, only.loss));
    CHECK_STATUS(MSAE_OK, linear_probe_measure(&probe, &f->data, f->labels, &score, NULL));
    CHECK_STATUS(MSAE_OK, linear_probe_measure(&only, &f->only, f->good_labels, &only_score, NULL));
    CHECK(score.rows == only_score.rows && is_near(score.accuracy, only_score.accuracy));
    CHECK_STATUS(MSAE_OK,
                 linear_probe_compare(&probe, &f->model, &f->data, ks, 2, agreements, NULL));
    CHECK_STATUS(MSAE_OK,
                 linear_probe_compare(&probe, &f->model, &f->only, ks, 2, only_agreements, NULL));
    for (size_t i = 0; i < 2; i++) {
        CHECK(is_near(agreements[i].kl, only_agreements[i].kl));
        CHECK(is_near(agreements[i].agreement, only_agreements[i].agreement));
    }
    CHECK_STATUS(MSAE_OK, test_correlate(&f->model, &f->data, f->attribute, K, 0, all, NULL));
    CHECK_STATUS(MSAE_OK,
                 test_correlate(&f->model, &f->only, f->good_attribute, K, 0, only_all, NULL));
    for (size_t j = 0; j < N; j++) {
        CHECK(is_near(all[j].r, only_all[j].r) && is_near(all[j].mean[1], only_all[j].mean[1]));
        CHECK(is_near(all[j].frequency[0], only_all[j].frequency[0]));
    }
    CHECK_STATUS(MSAE_OK, test_sweep(test_audit_by(&probe, 1, &f->model, &f->data, f->attribute, K),
                                     3, values, STEPS, points, NULL));
    CHECK_STATUS(MSAE_OK,
                 test_sweep(test_audit_by(&probe, 1, &f->model, &f->only, f->good_attribute, K), 3,
                            values, STEPS, only_points, NULL));
    for (size_t s = 0; s < STEPS; s++) {
        CHECK(is_near(points[s].probability, only_points[s].probability));
        CHECK(is_near(points[s].of_group[1], only_points[s].of_group[1]));
    }
    CHECK_STATUS(MSAE_OK, test_ablate(test_audit_by(&probe, 1, &f->model, &f->data, NULL, K),
                                      latents, 2, ablations, NULL));
    CHECK_STATUS(MSAE_OK, test_ablate(test_audit_by(&probe, 1, &f->model, &f->only, NULL, K),
                                      latents, 2, only_ablations, NULL));
    for (size_t i = 0; i < 2; i++) {
        CHECK(ablations[i].active == only_ablations[i].active);
        CHECK(ablations[i].flips == only_ablations[i].flips);
    }
    linear_probe_free(&probe);
    linear_probe_free(&only);
}

static void as_the_good_rows_alone(void) {
    static fixture f;
    for (int wide = 0; wide < 2; wide++) {
        for (size_t i = 0; i < COUNT(test_recipes); i += 2) {
            test_note("%s, wide %d", test_recipes[i].name, wide);
            open_fixture(&f, &test_recipes[i], wide);
            check_metrics(&f);
            check_rows(&f);
            check_names(&f);
            check_steering(&f);
            check_probe(&f);
            msae_model_free(&f.model);
        }
    }
}

static void thresholds_of_the_good_rows(void) {
    static fixture f;
    float thresholds[MSAE_MAX_LEVELS];
    open_fixture(&f, &test_recipes[0], 1);
    CHECK_STATUS(MSAE_OK, msae_calibrate(&f.model, &f.only, NULL));
    memcpy(thresholds, f.model.level_thresholds, sizeof thresholds);
    CHECK_STATUS(MSAE_OK, msae_calibrate(&f.model, &f.data, NULL));
    CHECK(are_near(thresholds, f.model.level_thresholds, f.model.n_levels));
    msae_model_free(&f.model);
}

static void training_on_the_good_rows(void) {
    static fixture f;
    msae_train_desc desc = test_desc(&test_recipes[0], D, N);
    msae_trainer trainer;
    desc.epochs = 1;
    open_fixture(&f, &test_recipes[0], 0);
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    CHECK_STATUS(MSAE_OK, test_fit(&trainer, &f.data, NULL, NULL, NULL));
    CHECK(trainer.rows_skipped == ROWS - f.used);
    msae_trainer_free(&trainer);
    msae_model_free(&f.model);
}

static void doubles_beyond_float32(void) {
    double x[] = {0.5, 1, 2, 1e300, (double)NAN, -1e39};
    msae_data data = msae_data_view(NULL, 3, 2);
    msae_error error;
    unsigned char bytes[sizeof x];
    for (size_t i = 0; i < COUNT(x); i++) {
        uint64_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        msae__store_le(bytes + 8 * i, 8, bits);
    }
    data.dtype = MSAE_F64;
    data.values = bytes;
    data.native = 0;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_data_check(&data, &error));
    CHECK(strcmp(error.message, "row 1 has a value beyond float32") == 0);
    msae__store_le(bytes + 24, 8, 0);
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_data_check(&data, &error));
    CHECK(strcmp(error.message, "row 2 has a NaN or Inf") == 0);
}

static void only_when_asked(void) {
    static fixture f;
    const size_t k = 4;
    msae_hit hits[N];
    size_t counts[N];
    msae_metrics metrics;
    msae_eval_desc desc;
    msae_error error;
    memset(&desc, 0, sizeof desc);
    desc.ks = &k;
    desc.n_ks = 1;
    open_fixture(&f, &test_recipes[0], 0);
    f.x[0] = 0.5f; /* row 0 is good now: the first bad one is row 17 */
    f.data.skip_bad = 0;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_evaluate(&f.model, &f.data, &desc, 1, &metrics, NULL, &error));
    CHECK(error.position == 17);
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 test_top_rows(&f.model, &f.data, K, NULL, N, 1, hits, counts, &error));
    CHECK(error.position == 17);
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_data_check(&f.data, &error));
    CHECK(strcmp(error.message, "row 17 has a NaN or Inf") == 0);
    f.data.skip_bad = 1;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_data_check(&f.data, &error));
    CHECK(error.position == 17);
    for (size_t r = 0; r < ROWS; r++) f.x[r * D] = (float)NAN;
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 msae_evaluate(&f.model, &f.data, &desc, 1, &metrics, NULL, &error));
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 test_top_rows(&f.model, &f.data, K, NULL, N, 1, hits, counts, &error));
    msae_model_free(&f.model);
}

static msae_status name_rows_of(msae_model *model, const msae_data *data, msae_error *error) {
    msae_name names[N];
    msae_name_desc desc;
    const float words[2 * D] = {1, 2};
    const msae_data vocabulary = msae_data_view(words, 2, D);
    memset(&desc, 0, sizeof desc);
    desc.data = data;
    return msae_name_latents(model, &vocabulary, &desc, names, error);
}

static msae_status evaluate_on(msae_model *model, const msae_data *data, msae_error *error) {
    msae_metrics results[MSAE_MAX_LEVELS];
    return msae_evaluate(model, data, NULL, COUNT(results), results, NULL, error);
}

static msae_status index_of(msae_model *model, const msae_data *data, msae_error *error) {
    msae_index index;
    return msae_index_build(&index, model, data, K, error);
}

static msae_status top_rows_of(msae_model *model, const msae_data *data, msae_error *error) {
    msae_hit hits[N];
    size_t counts[N];
    return test_top_rows(model, data, K, NULL, N, 1, hits, counts, error);
}

static msae_status score_rows_of(msae_model *model, const msae_data *data, msae_error *error) {
    const msae_source source = msae_source_data(data);
    msae_score scores[N];
    return msae_score_latents(model, &source, NULL, scores, NULL, error);
}

static msae_status steer_on(msae_model *model, const msae_data *data, msae_error *error) {
    static float out[ROWS * D];
    const msae_edit edit = {3, MSAE_EDIT_SET, 2, 0};
    const msae_steer_desc desc = {&edit, 1, K, 0};
    return msae_steer(model, data, &desc, out, NULL, NULL, error);
}

/* A good row that overflows in the model has its own number, though rows before it are left out. */
static void the_row_that_overflows(void) {
    enum { BIG = 140 };
    static fixture f;
    static msae_status (*const calls[])(msae_model *, const msae_data *, msae_error *) = {
        msae_calibrate, evaluate_on, index_of, top_rows_of, steer_on, name_rows_of, score_rows_of};
    open_fixture(&f, &test_recipes[0], 0);
    for (size_t i = 0; i < D; i++) f.x[BIG * D + i] = 3e38f;
    for (size_t i = 0; i < COUNT(calls); i++) {
        msae_error error;
        test_note("call %zu", i);
        error.position = 0;
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE, calls[i](&f.model, &f.data, &error));
        CHECK(error.position == BIG);
        CHECK(strcmp(error.message, "row 140 gives a NaN or Inf in the model") == 0);
    }
    msae_model_free(&f.model);
}

int main(void) {
    RUN(as_the_good_rows_alone);
    RUN(thresholds_of_the_good_rows);
    RUN(training_on_the_good_rows);
    RUN(doubles_beyond_float32);
    RUN(only_when_asked);
    RUN(the_row_that_overflows);
    return test_finish();
}
