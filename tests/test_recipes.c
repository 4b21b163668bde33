/* What the recipes msae and msae-width bring: the trapezoid, starts from rows, the selection of
   nested widths, which latents are active, and the revival of those that are not. */
#include "test.h"

enum { D = 6, N = 96, ROWS = 150 };

static float *data_rows(void) {
    float *x = test_random_floats(3, ROWS * D, 2);
    for (size_t i = 0; i < ROWS * D; i++) x[i] += (float)(i % D); /* away from the origin */
    return x;
}

static const test_recipe *recipe_of(const char *name) {
    const test_recipe *found = NULL;
    FOR_EACH_RECIPE(recipe) {
        if (strcmp(recipe->name, name) == 0) found = recipe;
    }
    return found;
}

/* ---------------------------------------------------------------------------------------------
   All that a trainer's latents are
   ------------------------------------------------------------------------------------------ */

typedef struct copy {
    test_parameter list[3 * TEST_MAX_PARAMETERS];
    size_t count;
    uint64_t revived, step;
} copy;

static size_t list_all(const msae_trainer *t, test_parameter *list) {
    const msae_parameters weights = test_weights(&t->model);
    size_t count = test_list(&t->model, &weights, list);
    count += test_list(&t->model, &t->moment1, list + count);
    return count + test_list(&t->model, &t->moment2, list + count);
}

static copy take_copy(const msae_trainer *t) {
    copy c;
    c.count = list_all(t, c.list);
    c.revived = t->revived;
    c.step = t->step;
    for (size_t i = 0; i < c.count; i++) {
        const size_t size = c.list[i].rows * c.list[i].cols;
        float *values = test_floats(size);
        memcpy(values, c.list[i].values, size * sizeof *values);
        c.list[i].values = values;
    }
    return c;
}

static void free_copy(copy *c) {
    for (size_t i = 0; i < c->count; i++) free(c->list[i].values);
}

/* Whether all is as it was but for latents that are marked (NULL: none). */
static int same_but(const msae_trainer *t, const copy *before, const unsigned char *marked) {
    test_parameter now[3 * TEST_MAX_PARAMETERS];
    const size_t n = t->model.n_latents;
    int same = list_all(t, now) == before->count && t->step == before->step;
    for (size_t i = 0; i < before->count && same; i++) {
        const int by_latent = strcmp(now[i].name, "pre_bias") != 0;
        const size_t width = now[i].rows == n ? now[i].cols : 1;
        for (size_t at = 0; at < now[i].rows * now[i].cols; at++) {
            if (by_latent && marked && marked[at / width]) continue;
            same &= test_same(now[i].values + at, before->list[i].values + at, 1);
        }
    }
    return same;
}

/* ---------------------------------------------------------------------------------------------
   Trapezoid
   ------------------------------------------------------------------------------------------ */

static int open_schedule(msae_trainer *trainer, float warmup, float decay, size_t epochs) {
    msae_train_desc desc = test_desc(recipe_of("msae"), 2, 3);
    desc.schedule = MSAE_SCHEDULE_TRAPEZOID;
    desc.warmup = warmup;
    desc.decay = decay;
    desc.epochs = epochs;
    return CHECK_STATUS(MSAE_OK, msae_trainer_init(trainer, &desc, NULL));
}

static void check_factors(float warmup, float decay, size_t steps, const float *want) {
    msae_trainer trainer;
    test_note("warmup %g, decay %g, %zu steps", (double)warmup, (double)decay, steps);
    if (!open_schedule(&trainer, warmup, decay, 1)) return;
    for (size_t s = 0; s < steps; s++) {
        msae_trainer_schedule(&trainer, 0, s, steps);
        CHECK(fabsf(trainer.lr_factor - want[s]) <= 1e-6f);
    }
    msae_trainer_free(&trainer);
}

static void trapezoid_in_numbers(void) {
    static const float both[] = {0.25f, 0.75f, 0.75f, 0.25f},
                       up[] = {0.125f, 0.375f, 0.625f, 0.875f};
    static const float down[] = {0.875f, 0.625f, 0.375f, 0.125f}, flat[] = {1, 1, 1, 1};
    static const float half[] = {0.5f}, whole[] = {1};
    static const float tenth[] = {0.5f, 1, 1, 1, 1, 1, 0.875f, 0.625f, 0.375f, 0.125f};
    check_factors(0.5f, 0.5f, 4, both);
    check_factors(1, MSAE_OFF, 4, up);
    check_factors(MSAE_OFF, 1, 4, down);
    check_factors(MSAE_OFF, MSAE_OFF, 4, flat);
    check_factors(MSAE_OFF, 1, 1, half);
    check_factors(1, MSAE_OFF, 1, half);
    check_factors(0, 0, 1, whole); /* the defaults, of which one step is in the middle */
    check_factors(0.1f, 0.4f, 10, tenth);
}

static void trapezoid_in_closed_form(void) {
    static const float shares[][2] = {
        {0, 0},          {0.03f, 0.4f}, {0.3f, 0.7f}, {MSAE_OFF, 0.25f}, {0.01f, MSAE_OFF},
        {1e-30f, 1e-30f}};
    static const size_t runs[][2] = {{1, 1}, {1, 7}, {7, 1}, {3, 11}, {30, 100}};
    for (size_t i = 0; i < COUNT(shares) * COUNT(runs); i++) {
        const size_t epochs = runs[i / COUNT(shares)][0], steps = runs[i / COUNT(shares)][1];
        const float *share = shares[i % COUNT(shares)];
        msae_trainer trainer;
        test_note("warmup %g, decay %g, %zu epochs of %zu", (double)share[0], (double)share[1],
                  epochs, steps);
        if (!open_schedule(&trainer, share[0], share[1], epochs)) continue;
        const double warmup = (double)trainer.desc.warmup, decay = (double)trainer.desc.decay;
        for (size_t s = 0; s < epochs * steps; s++) {
            const double done = ((double)s + 0.5) / (double)(epochs * steps);
            double want = done < warmup ? done / warmup : 1;
            if (done > 1 - decay) want = (1 - done) / decay;
            msae_trainer_schedule(&trainer, s / steps, s % steps, steps);
            CHECK(fabs((double)trainer.lr_factor - want) <= 1e-6);
            CHECK(trainer.lr_factor > 0 && trainer.lr_factor <= 1);
        }
        msae_trainer_schedule(&trainer, epochs, 0, steps); /* behind the end, where epochs go on */
        CHECK(trainer.lr_factor >= 0 && (decay == 0 || trainer.lr_factor == 0));
        msae_trainer_schedule(&trainer, 0, 0, 0); /* no steps are one */
        CHECK(trainer.lr_factor > 0 && trainer.lr_factor <= 1);
        msae_trainer_free(&trainer);
    }
}

/* ---------------------------------------------------------------------------------------------
   Starts from rows
   ------------------------------------------------------------------------------------------ */

/* A source over rows in memory of which one read may fail. */
typedef struct shelf {
    const float *x;
    size_t reads, fail_at;
} shelf;

static msae_status read_shelf(void *user, uint64_t first, size_t rows, float *out,
                              msae_error *error) {
    shelf *s = (shelf *)user;
    CHECK(rows > 0 && first < ROWS && rows <= ROWS - first);
    if (++s->reads == s->fail_at) return msae__fail(error, MSAE_ERROR_IO, "out of reach");
    memcpy(out, s->x + (size_t)first * D, rows * D * sizeof *out);
    return MSAE_OK;
}

/* Every latent is the mixture of one row and of the direction it has without: how many rows are in
   use. Rows that are not finite leave the direction as it is. */
static size_t check_mixture(const msae_trainer *rows, const msae_trainer *random, const float *x) {
    const msae_model *model = &rows->model;
    unsigned char used[ROWS] = {0};
    size_t count = 0, kept = 0, bad = 0;
    for (size_t i = 0; i < ROWS; i++) bad += !msae__row_is_finite(x + i * D, D);
    for (size_t j = 0; j < N; j++) {
        const float *got = model->decoder + j * D, *direction = random->model.decoder + j * D;
        size_t best = ROWS;
        double least = 1;
        CHECK(test_same(got, model->encoder + j * D, D));
        if (test_same(got, direction, D)) {
            kept++;
            continue;
        }
        CHECK(fabs(test_norm(got, D) - 0.1) <= 1e-7);
        for (size_t i = 0; i < ROWS; i++) {
            float centred[D], want[D];
            double mean = 0, length;
            if (!msae__row_is_finite(x + i * D, D)) continue;
            for (size_t c = 0; c < D; c++) {
                centred[c] = (x[i * D + c] - model->mean[c]) * model->scale;
                mean += (double)centred[c] / D;
            }
            for (size_t c = 0; c < D && model->normalize; c++) centred[c] -= (float)mean;
            length = test_norm(centred, D);
            for (size_t c = 0; c < D; c++) {
                want[c] = (float)(0.7 * (double)centred[c] / length + 3 * (double)direction[c]);
            }
            length = test_norm(want, D);
            for (size_t c = 0; c < D; c++) want[c] = (float)(0.1 * (double)want[c] / length);
            if (test_error(got, want, D) < least) {
                least = test_error(got, want, D);
                best = i;
            }
        }
        if (CHECK(least <= 1e-5 && best < ROWS)) count += !used[best]++;
    }
    CHECK((kept > 0) == (bad > 0) && kept < N / 2);
    return count;
}

static void start_from_rows(void) {
    float *x = data_rows(), *bad = data_rows();
    const uint32_t nan = 0x7fc00000u;
    for (size_t i = 0; i < ROWS; i += 6) memcpy(bad + i * D + i % D, &nan, sizeof nan);
    for (int option = 0; option < 8; option++) {
        const int skips = option >> 2;
        msae_train_desc desc = test_desc(recipe_of("msae"), D, N);
        const msae_data data = msae_data_view(skips ? bad : x, ROWS, D);
        shelf s = {skips ? bad : x, 0, 0};
        const msae_source source = {ROWS, D, read_shelf, &s, NULL};
        msae_trainer rows, random, again;
        desc.model.tied = option & 1;
        desc.model.normalize = option >> 1 & 1;
        desc.skip_bad = skips;
        test_note("tied %d, normalize %d, skip_bad %d", desc.model.tied, desc.model.normalize,
                  skips);
        CHECK_STATUS(MSAE_OK, msae_trainer_init(&rows, &desc, NULL));
        CHECK_STATUS(MSAE_OK, msae_trainer_init(&again, &desc, NULL));
        CHECK(rows.desc.start == MSAE_START_ROWS);
        desc.start = MSAE_START_RANDOM;
        CHECK_STATUS(MSAE_OK, msae_trainer_init(&random, &desc, NULL));
        copy untouched = take_copy(&random);
        CHECK(same_but(&rows, &untouched, NULL)); /* before it has seen data */
        CHECK_STATUS(MSAE_OK, test_statistics(&random, &data, NULL));
        CHECK(same_but(&random, &untouched, NULL));
        CHECK_STATUS(MSAE_OK, test_statistics(&rows, &data, NULL));
        CHECK(check_mixture(&rows, &random, s.x) > ROWS / 4);
        copy want = take_copy(&rows);
        CHECK_STATUS(MSAE_OK, msae_trainer_statistics(&again, &source, NULL));
        CHECK(same_but(&again, &want, NULL));
        /* once more, and after each read that fails, it is the same */
        const size_t reads = s.reads;
        CHECK_STATUS(MSAE_OK, test_statistics(&rows, &data, NULL));
        CHECK(same_but(&rows, &want, NULL));
        for (size_t at = 1; at <= reads; at++) {
            s.reads = 0;
            s.fail_at = at;
            CHECK_STATUS(MSAE_ERROR_IO, msae_trainer_statistics(&again, &source, NULL));
        }
        s.fail_at = 0;
        CHECK_STATUS(MSAE_OK, msae_trainer_statistics(&again, &source, NULL));
        CHECK(same_but(&again, &want, NULL));
        /* no more once there is something to lose */
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&rows, x, ROWS, NULL, NULL));
        copy stepped = take_copy(&rows);
        CHECK_STATUS(MSAE_OK, test_statistics(&rows, &data, NULL));
        CHECK(same_but(&rows, &stepped, NULL));
        free_copy(&untouched);
        free_copy(&want);
        free_copy(&stepped);
        msae_trainer_free(&rows);
        msae_trainer_free(&random);
        msae_trainer_free(&again);
    }
    free(x);
    free(bad);
}

/* Rows that are all the mean have no direction to lend; another seed lends other rows. */
static void start_without_directions(void) {
    float *x = data_rows(), *same = test_floats(ROWS * D);
    for (size_t i = 0; i < ROWS * D; i++) same[i] = (float)(i % D);
    const msae_data equal = msae_data_view(same, ROWS, D), data = msae_data_view(x, ROWS, D);
    msae_train_desc desc = test_desc(recipe_of("msae"), D, N);
    msae_trainer trainer, other;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    copy before = take_copy(&trainer);
    CHECK_STATUS(MSAE_OK, test_statistics(&trainer, &equal, NULL));
    CHECK(same_but(&trainer, &before, NULL));
    CHECK_STATUS(MSAE_OK, test_statistics(&trainer, &data, NULL));
    CHECK(!same_but(&trainer, &before, NULL));
    desc.model.seed++;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&other, &desc, NULL));
    CHECK_STATUS(MSAE_OK, test_statistics(&other, &data, NULL));
    CHECK(!test_same(other.model.decoder, trainer.model.decoder, D));
    free_copy(&before);
    msae_trainer_free(&trainer);
    msae_trainer_free(&other);
    free(x);
    free(same);
}

/* ---------------------------------------------------------------------------------------------
   Taking part
   ------------------------------------------------------------------------------------------ */

static void check_dead(msae_recipe recipe, const size_t *levels, size_t count, size_t want) {
    float *x = data_rows();
    msae_train_desc desc = test_desc(recipe_of("msae"), D, N);
    msae_trainer trainer;
    msae_step_stats stats;
    test_note("%s, %zu levels from %zu", msae_enum_name(MSAE_ENUM_RECIPE, (int)recipe), count,
              levels[0]);
    desc.model.recipe = recipe;
    desc.model.nesting = levels;
    desc.model.nesting_start = 0;
    desc.model.n_levels = count;
    desc.batch = ROWS;
    if (CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) {
        for (size_t j = 0; j < N; j++) { /* all are active, in the order of their numbers */
            trainer.model.latent_bias[j] = 1000 + 10 * (float)(N - j);
        }
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, ROWS, &stats, NULL));
        CHECK(stats.dead_latents == want);
        CHECK(stats.l0 == (double)levels[count - 1]);
        msae_trainer_free(&trainer);
    }
    free(x);
}

/* With msae those are dead that are never among the strongest of the largest level up to 64. */
static void dead_latents_by_level(void) {
    static const size_t usual[] = {16, 32, 64, 96}, large[] = {80, 96}, all[] = {96}, few[] = {8};
    static const size_t beside[] = {1, 63, 65, 96}, small[] = {2, 40};
    check_dead(MSAE_RECIPE_MSAE, usual, 4, 32);
    check_dead(MSAE_RECIPE_MSAE, large, 2, 16);
    check_dead(MSAE_RECIPE_MSAE, all, 1, 0);
    check_dead(MSAE_RECIPE_MSAE, few, 1, 88);
    check_dead(MSAE_RECIPE_MSAE, beside, 4, 33);
    check_dead(MSAE_RECIPE_MSAE, small, 2, 56);
    check_dead(MSAE_RECIPE_MSAE_UW, usual, 4, 0);
    check_dead(MSAE_RECIPE_MSAE_RW, large, 2, 0);
}

/* ---------------------------------------------------------------------------------------------
   Widths
   ------------------------------------------------------------------------------------------ */

typedef struct candidate {
    double value;
    size_t at;
} candidate;

static int larger_first(const void *a, const void *b) {
    const double x = ((const candidate *)a)->value, y = ((const candidate *)b)->value;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The k rows largest of the batch, of which each width takes those of its latents; the loss is the
   mean over the widths. */
static void check_widths(size_t n, const size_t *widths, size_t count, size_t k, size_t rows,
                         int uneven) {
    static const float weights[] = {1, 0, 2, 3, 0.5f, 1, 1};
    msae_train_desc desc = test_desc(recipe_of("msae-width"), D, n);
    msae_trainer trainer;
    msae_step_stats stats;
    float *x = data_rows();
    test_note("n %zu, %zu widths from %zu, k %zu, %zu rows", n, count, widths[0], k, rows);
    desc.model.nesting = widths;
    desc.model.nesting_start = 0;
    desc.model.n_levels = count;
    desc.model.k = k;
    desc.model.level_weights = uneven ? weights : NULL;
    desc.model.n_level_weights = uneven ? count : 0;
    desc.batch = ROWS;
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
    msae_model *model = &trainer.model;
    const msae_data data = msae_data_view(x, rows, D);
    CHECK_STATUS(MSAE_OK, test_statistics(&trainer, &data, NULL));
    test_randomize(model, 5);
    CHECK(model->k == k && model->n_levels == count && model->nesting[count - 1] == n);
    float *recon = test_floats(count * rows * D), *latents = test_floats(count * rows * n);
    candidate *all = (candidate *)test_alloc(rows * n * sizeof *all);
    double *z = (double *)test_alloc(rows * n * sizeof *z), loss = 0, sum = 0;
    size_t kept = 0;
    CHECK_STATUS(MSAE_OK,
                 msae_trainer_forward(&trainer, &data, NULL, rows, recon, latents, &stats, NULL));
    for (size_t at = 0; at < rows * n; at++) {
        const size_t b = at / n, j = at % n;
        all[at].at = at;
        all[at].value = (double)model->latent_bias[j];
        z[at] = 0;
        for (size_t c = 0; c < D; c++) {
            const double in =
                ((double)x[b * D + c] - (double)model->mean[c]) * (double)model->scale;
            all[at].value += (in - (double)model->pre_bias[c]) * (double)model->encoder[j * D + c];
        }
    }
    qsort(all, rows * n, sizeof *all, larger_first);
    for (; kept < k * rows && all[kept].value > 0; kept++) z[all[kept].at] = all[kept].value;
    CHECK(stats.l0 == (double)kept / (double)rows);
    for (size_t level = 0; level < count; level++) {
        double mean_loss = 0;
        for (size_t b = 0; b < rows; b++) {
            double error = 0, spread = 0;
            for (size_t c = 0; c < D; c++) {
                const double in =
                    ((double)x[b * D + c] - (double)model->mean[c]) * (double)model->scale;
                const double off = in - (double)trainer.loss_mean[c];
                double r = (double)model->pre_bias[c];
                for (size_t j = 0; j < widths[level]; j++) {
                    r += z[b * n + j] * (double)model->decoder[j * D + c];
                }
                CHECK(fabs((double)recon[(level * rows + b) * D + c] - r) <= 1e-4);
                error += (in - r) * (in - r);
                spread += off * off;
            }
            for (size_t j = 0; j < n; j++) {
                const double want = j < widths[level] ? z[b * n + j] : 0;
                CHECK(fabs((double)latents[(level * rows + b) * n + j] - want) <= 1e-4);
            }
            mean_loss += error / spread / (double)rows;
        }
        CHECK(fabs(stats.level_loss[level] - mean_loss) <= 1e-5 * mean_loss);
        loss += (double)model->level_weights[level] * mean_loss;
        sum += (double)model->level_weights[level];
    }
    CHECK(fabs(stats.loss - loss / sum) <= 1e-5 * loss);
    /* in two steps the threshold is the smallest that the second one keeps */
    CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, rows, NULL, NULL));
    CHECK(model->threshold == -1);
    CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, rows, NULL, NULL));
    CHECK(model->threshold > 0);
    free(recon);
    free(latents);
    free(all);
    free(z);
    free(x);
    msae_trainer_free(&trainer);
}

static void widths_by_hand(void) {
    static const size_t few[] = {3, 17, 32, 33, 64, 96}, one[] = {96}, odd[] = {1, 2, 37};
    static const size_t single[] = {1}, blocks[] = {3, 127, 128, 129, 256, 300}, far[] = {290, 300};
    for (int uneven = 0; uneven < 2; uneven++) {
        check_widths(96, few, COUNT(few), 5, ROWS, uneven);
        check_widths(96, few, COUNT(few), 96, 20, uneven);
        check_widths(96, one, 1, 7, 33, uneven);
        check_widths(300, blocks, COUNT(blocks), 6, ROWS, uneven); /* in more than one block */
        check_widths(300, blocks, COUNT(blocks), 1, 70, uneven);
        check_widths(300, far, COUNT(far), 9, 11, uneven);
        check_widths(37, odd, COUNT(odd), 1, 64, uneven);
        check_widths(37, odd, COUNT(odd), 4, 2, uneven);
        check_widths(1, single, 1, 1, 40, uneven);
    }
}

/* ---------------------------------------------------------------------------------------------
   Revival
   ------------------------------------------------------------------------------------------ */

/* Latents that are to take no part whatever the data is. */
static const size_t silent[] = {5, 40, 41, 90};

static void silence(msae_trainer *trainer) {
    for (size_t i = 0; i < COUNT(silent); i++) {
        const size_t j = silent[i] % trainer->model.n_latents;
        const int absolute = trainer->model.activation == MSAE_ACTIVATION_ABS;
        memset(trainer->model.encoder + j * D, 0, D * sizeof(float));
        trainer->model.latent_bias[j] = absolute ? 0 : -1e6f;
    }
}

/* Marks the latents that are active in rows, by what forward gives. */
static void mark_active(msae_trainer *trainer, const float *x, size_t rows, unsigned char *active) {
    const size_t n = trainer->model.n_latents, levels = trainer->model.n_levels;
    float *latents = test_floats(levels * rows * n);
    const msae_data data = msae_data_view(x, rows, D);
    size_t level = levels - 1;
    if (trainer->model.recipe == MSAE_RECIPE_MSAE) {
        while (level > 0 && trainer->model.nesting[level] > 64) level--;
    }
    CHECK_STATUS(MSAE_OK,
                 msae_trainer_forward(trainer, &data, NULL, rows, NULL, latents, NULL, NULL));
    for (size_t i = 0; i < rows * n; i++) active[i % n] |= latents[level * rows * n + i] != 0;
    free(latents);
}

/* A trainer with two steps behind it, in which some latents took no part. */
static int open_silent(msae_trainer *trainer, const msae_train_desc *desc, const float *x,
                       unsigned char *active) {
    const size_t rows = desc->batch < ROWS ? desc->batch : ROWS;
    const msae_data data = msae_data_view(x, ROWS, D);
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(trainer, desc, NULL))) return 0;
    CHECK_STATUS(MSAE_OK, test_statistics(trainer, &data, NULL));
    silence(trainer);
    memset(active, 0, desc->model.n_latents);
    for (int step = 0; step < 2; step++) {
        mark_active(trainer, x, rows, active);
        CHECK_STATUS(MSAE_OK, msae_trainer_step(trainer, x, rows, NULL, NULL));
    }
    return 1;
}

/* What is missed of rows, as shares of them, and in which order. */
typedef struct missed {
    float left[2 * ROWS * D];
    candidate order[2 * ROWS];
    size_t count;
} missed;

static missed rest;

static void find_missed(msae_trainer *trainer, const float *x, const size_t *index, size_t rows) {
    const size_t levels = trainer->model.n_levels;
    const size_t together = trainer->desc.batch < 64 ? trainer->desc.batch : 64;
    float *recon = test_floats(levels * together * D), *piece = test_floats(together * D);
    size_t level = levels - 1, next = 0;
    if (trainer->model.recipe == MSAE_RECIPE_MSAE) {
        while (level > 0 && trainer->model.nesting[level] > 64) level--;
    }
    rest.count = 0;
    while (next < rows) {
        size_t count = 0;
        for (; next < rows && count < together; next++) {
            const float *row = x + (index ? index[next] : next) * D;
            if (!msae__row_is_finite(row, D)) continue;
            memcpy(piece + count++ * D, row, D * sizeof *row);
        }
        const msae_data data = msae_data_view(piece, count, D);
        if (count == 0) break;
        CHECK_STATUS(MSAE_OK,
                     msae_trainer_forward(trainer, &data, NULL, count, recon, NULL, NULL, NULL));
        for (size_t r = 0; r < count; r++) {
            double left = 0, all = 0;
            float *to = rest.left + rest.count * D;
            for (size_t c = 0; c < D; c++) {
                const float in = (piece[r * D + c] - trainer->model.mean[c]) * trainer->model.scale;
                to[c] = in - recon[(level * count + r) * D + c];
                left += (double)to[c] * (double)to[c];
                all += (double)in * (double)in;
            }
            rest.order[rest.count].value = left / all;
            rest.order[rest.count].at = rest.count;
            rest.count++;
        }
    }
    qsort(rest.order, rest.count, sizeof *rest.order, larger_first);
    free(recon);
    free(piece);
}

/* Revives and checks all that may be known of it; the number that is revived. */
static size_t check_revival(msae_trainer *trainer, const float *x, const size_t *index, size_t rows,
                            const unsigned char *active) {
    const msae_data data = msae_data_view(x, ROWS, D);
    const size_t n = trainer->model.n_latents, cap = n / 32 > 1 ? n / 32 : 1;
    unsigned char marked[N] = {0}, used[2 * ROWS] = {0};
    size_t idle = 0, want, revived = 99, given = 0;
    double length = 0;
    for (size_t j = 0; j < n; j++) {
        idle += !active[j];
        if (active[j]) length += test_norm(trainer->model.encoder + j * D, D);
    }
    length = idle < n ? 0.5 * length / (double)(n - idle) : 0.5;
    find_missed(trainer, x, index, rows);
    want = idle < cap ? idle : cap;
    if (want > rest.count) want = rest.count;
    copy before = take_copy(trainer);
    CHECK_STATUS(MSAE_OK, msae_trainer_revive(trainer, &data, index, rows, &revived, NULL));
    CHECK(revived == want && trainer->revived == before.revived + want);
    for (size_t j = 0; j < n && given < want; j++) {
        const float *decoder = trainer->model.decoder + j * D;
        const float *encoder = trainer->model.encoder + j * D;
        int found = 0;
        if (active[j]) continue;
        marked[j] = 1;
        given++;
        for (size_t i = 0; i < want && !found; i++) {
            const float *left = rest.left + rest.order[i].at * D;
            float row[D];
            for (size_t c = 0; c < D; c++) {
                row[c] = (float)((double)left[c] / test_norm(left, D));
            }
            found = !used[i] && test_error(decoder, row, D) <= 1e-6;
            used[i] |= (unsigned char)found;
        }
        CHECK(found);
        for (size_t c = 0; c < D && !trainer->model.tied; c++) { /* (tied: one row, of length 1) */
            CHECK(fabs((double)encoder[c] - length * (double)decoder[c]) <= 1e-6 * length);
        }
        CHECK(trainer->model.latent_bias[j] == 0);
        CHECK(trainer->moment1.latent_bias[j] == 0 && trainer->moment2.latent_bias[j] == 0);
        for (size_t c = 0; c < D; c++) {
            CHECK(trainer->moment1.encoder[j * D + c] == 0);
            CHECK(trainer->moment2.encoder[j * D + c] == 0);
            CHECK(trainer->moment1.decoder[j * D + c] == 0);
            CHECK(trainer->moment2.decoder[j * D + c] == 0);
        }
    }
    CHECK(same_but(trainer, &before, marked));
    free_copy(&before);
    return revived;
}

static const test_recipe variants[] = {
    {"msae tied", MSAE_RECIPE_MSAE, MSAE_ACTIVATION_RELU, MSAE_LOSS_NMSE, 1, 0, 0},
    {"msae normalize", MSAE_RECIPE_MSAE, MSAE_ACTIVATION_RELU, MSAE_LOSS_NMSE, 0, 1, 0},
    {"msae abs", MSAE_RECIPE_MSAE, MSAE_ACTIVATION_ABS, MSAE_LOSS_MSE, 0, 0, 0},
    {"msae cosine cap", MSAE_RECIPE_MSAE, MSAE_ACTIVATION_RELU, MSAE_LOSS_COSINE, 0, 0, 0.7f},
    {"msae-width tied", MSAE_RECIPE_MSAE_WIDTH, MSAE_ACTIVATION_DEFAULT, MSAE_LOSS_NMSE, 1, 0, 0},
    {"msae-width cosine", MSAE_RECIPE_MSAE_WIDTH, MSAE_ACTIVATION_DEFAULT, MSAE_LOSS_COSINE, 0, 1,
     0.7f},
};

static void revive_with(const test_recipe *recipe, size_t n, size_t batch) {
    unsigned char active[N];
    size_t index[2 * ROWS], revived = 99;
    float *x = data_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    msae_train_desc desc = test_desc(recipe, D, n);
    msae_trainer trainer;
    desc.batch = batch;
    desc.revivals = 1;
    desc.lr = 0.001f;
    test_note("%s, n %zu, batches of %zu", recipe->name, n, batch);
    for (size_t i = 0; i < COUNT(index); i++) index[i] = (i * 7 + 3) % ROWS;
    if (open_silent(&trainer, &desc, x, active)) {
        const int has_idle = recipe->activation != MSAE_ACTIVATION_IDENTITY;
        size_t idle = 0;
        for (size_t j = 0; j < n; j++) idle += !active[j];
        CHECK((idle > 0) == has_idle);
        CHECK((check_revival(&trainer, x, NULL, ROWS, active) > 0) == has_idle);
        /* nothing was trained since */
        copy before = take_copy(&trainer);
        CHECK_STATUS(MSAE_OK, msae_trainer_revive(&trainer, &data, NULL, ROWS, &revived, NULL));
        CHECK(revived == 0 && same_but(&trainer, &before, NULL));
        CHECK(trainer.revived == before.revived);
        free_copy(&before);
        /* after another step with rows that come twice, and with bad ones, which are passed over */
        for (int bad = 0; bad < 2; bad++) {
            const size_t rows = batch < ROWS ? batch : ROWS;
            const uint32_t nan = 0x7fc00000u;
            memset(active, 0, n);
            silence(&trainer);
            mark_active(&trainer, x, rows, active);
            CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, rows, NULL, NULL));
            for (size_t i = 0; bad && i < ROWS; i += 3) memcpy(x + i * D + i % D, &nan, sizeof nan);
            check_revival(&trainer, x, index, bad ? 31 : COUNT(index), active);
        }
        msae_trainer_free(&trainer);
    }
    free(x);
}

static void revived_exactly(void) {
    FOR_EACH_RECIPE(recipe) {
        revive_with(recipe, N, ROWS);
        revive_with(recipe, 31,
                    7); /* fewer rows at once than are looked at together; one at most */
    }
    for (size_t i = 0; i < COUNT(variants); i++) {
        revive_with(&variants[i], N, ROWS);
        revive_with(&variants[i], 95, 1);
    }
}

/* Fewer rows than latents to revive, none, and none that can be used. */
static void too_few_rows_to_revive(void) {
    unsigned char active[N];
    float *x = data_rows();
    const uint32_t nan = 0x7fc00000u;
    for (size_t rows = 0; rows < 5; rows++) {
        for (int bad = 0; bad < 2; bad++) {
            msae_train_desc desc = test_desc(recipe_of("topk"), D, N);
            msae_trainer trainer;
            float *given = data_rows();
            desc.batch = ROWS;
            desc.revivals = 1;
            test_note("%zu rows, bad %d", rows, bad);
            for (size_t i = 0; bad && i < rows; i++) memcpy(given + i * D, &nan, sizeof nan);
            if (open_silent(&trainer, &desc, x, active)) {
                const size_t revived = check_revival(&trainer, given, NULL, rows, active);
                CHECK(revived == (bad ? 0 : rows < 3 ? rows : 3));
                msae_trainer_free(&trainer);
            }
            free(given);
        }
    }
    free(x);
}

static void revivals_that_are_refused(void) {
    float *x = data_rows();
    const msae_data data = msae_data_view(x, ROWS, D), narrow = msae_data_view(x, ROWS, D - 1);
    msae_train_desc desc = test_desc(recipe_of("msae"), D, N);
    size_t revived = 99;
    for (int kind = 0; kind < 3; kind++) {
        msae_trainer trainer;
        msae_error error;
        desc.revivals = kind == 0 ? MSAE_OFF : 1;
        memset(&error, 0, sizeof error);
        test_note("kind %d", kind);
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) continue;
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, ROWS, NULL, NULL));
        copy before = take_copy(&trainer);
        CHECK_STATUS(kind == 1 ? MSAE_ERROR_SHAPE : MSAE_ERROR_ARGUMENT,
                     msae_trainer_revive(&trainer, kind == 1 ? &narrow : &data, NULL,
                                         ROWS + (size_t)(kind == 2), &revived, &error));
        CHECK(error.message[0] && same_but(&trainer, &before, NULL) && trainer.revived == 0);
        free_copy(&before);
        msae_trainer_free(&trainer);
    }
    free(x);
}

/* Memory that runs out leaves all as it was, and all to be done. */
static void revivals_without_memory(void) {
    float *x = data_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_RECIPE(recipe) {
        unsigned char active[N];
        msae_train_desc desc = test_desc(recipe, D, N);
        msae_trainer trainer;
        test_heap heap;
        memset(&heap, 0, sizeof heap);
        desc.batch = ROWS;
        desc.revivals = 1;
        desc.model.host.allocator = test_heap_allocator(&heap);
        test_note("%s", recipe->name);
        if (!open_silent(&trainer, &desc, x, active)) continue;
        const size_t held = heap.bytes;
        copy before = take_copy(&trainer);
        for (size_t at = 1;; at++) {
            size_t revived = 99;
            heap.allocations = 0;
            heap.fail_at = at;
            const msae_status status =
                msae_trainer_revive(&trainer, &data, NULL, ROWS, &revived, NULL);
            CHECK(heap.bytes == held);
            if (heap.allocations < at) {
                CHECK_STATUS(MSAE_OK, status);
                CHECK(at > 1 || recipe->activation == MSAE_ACTIVATION_IDENTITY);
                CHECK((revived > 0) == (recipe->activation != MSAE_ACTIVATION_IDENTITY));
                CHECK(revived == 0 || heap.most > held);
                break;
            }
            CHECK_STATUS(MSAE_ERROR_MEMORY, status);
            CHECK(revived == 0 && same_but(&trainer, &before, NULL) && trainer.revived == 0);
        }
        free_copy(&before);
        msae_trainer_free(&trainer);
        CHECK(heap.bytes == 0);
    }
    free(x);
}

/* What is missed may overflow, or be nothing at all: no latent becomes what is no number. */
static void residuals_that_are_no_direction(void) {
    static const float value[] = {3e38f, 3e38f, 3, 1e-45f}, bias[] = {-3e38f, -3e38f, 3, 0};
    for (int kind = 0; kind < 4; kind++) {
        float *x = data_rows();
        const msae_data data = msae_data_view(x, ROWS, D);
        msae_train_desc desc = test_desc(recipe_of("msae"), D, N);
        msae_trainer trainer;
        size_t revived = 99;
        desc.batch = ROWS;
        desc.scaling = MSAE_SCALING_NONE;
        desc.loss = kind == 1 ? MSAE_LOSS_COSINE : MSAE_LOSS_NMSE;
        test_note("kind %d", kind);
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) break;
        for (size_t j = 0; j < N; j++) trainer.model.latent_bias[j] = -1e6f;
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, ROWS, NULL, NULL));
        memset(trainer.model.mean, 0, D * sizeof(float));
        for (size_t i = 0; i < ROWS * D; i++) x[i] = value[kind];
        for (size_t c = 0; c < D; c++) trainer.model.pre_bias[c] = bias[kind];
        for (size_t j = 0; j < N; j++) trainer.model.latent_bias[j] = -3e38f;
        memset(trainer.model.encoder, 0, N * D * sizeof(float));
        const msae_status status = msae_trainer_revive(&trainer, &data, NULL, ROWS, &revived, NULL);
        CHECK_STATUS(kind < 2 ? MSAE_ERROR_NOT_FINITE : MSAE_OK, status);
        CHECK(revived == 0 || (kind == 3 && revived == N / 32));
        for (size_t i = 0; i < N * D; i++) CHECK(test_is_finite((double)trainer.model.decoder[i]));
        msae_trainer_free(&trainer);
        free(x);
    }
}

/* ---------------------------------------------------------------------------------------------
   Whole runs
   ------------------------------------------------------------------------------------------ */

enum { RUN_BATCH = 25, EPOCHS = 3, STEPS = EPOCHS * 6 };

typedef struct bytes {
    unsigned char *data;
    size_t size;
} bytes;

static bytes checkpoint(const msae_trainer *trainer) {
    bytes file = {NULL, 0};
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(trainer, &writer, NULL));
    file.size = writer.bytes;
    file.data = (unsigned char *)test_alloc(file.size);
    writer = msae_to_memory(file.data, file.size);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(trainer, &writer, NULL));
    return file;
}

static int same_bytes(const bytes *a, const bytes *b) {
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* Few latents a row of many, so that there are always some without a part; but for those recipes
   where all are active. */
static const size_t first_levels[] = {1, 2, N};

static msae_train_desc run_desc(const test_recipe *recipe, int revivals) {
    msae_train_desc desc = test_desc(recipe, D, N);
    if (desc.model.k > 0) desc.model.k = 1;
    if (desc.model.nesting_start > 0) desc.model.nesting_start = 1;
    if (recipe->recipe == MSAE_RECIPE_MSAE) {
        desc.model.nesting = first_levels;
        desc.model.n_levels = COUNT(first_levels);
    }
    if (recipe->recipe == MSAE_RECIPE_RELU || recipe->recipe == MSAE_RECIPE_JUMPRELU) {
        desc.sparse_weight = 0.5f;
    }
    desc.batch = RUN_BATCH;
    desc.epochs = EPOCHS;
    desc.revivals = revivals;
    desc.lr = 0.001f;
    return desc;
}

typedef struct watch {
    const msae_trainer *trainer;
    size_t stop_at;              /* so many steps in all; 0: never */
    uint64_t revived[STEPS + 1]; /* after each step */
} watch;

static int watch_step(const msae_progress *progress, void *user) {
    watch *w = (watch *)user;
    const size_t done = progress->epoch * progress->steps + progress->step + 1;
    w->revived[done] = w->trainer->revived;
    return done == w->stop_at;
}

/* At even distances over the first 60 % of the steps, never before the first step. */
static void revivals_of_a_run(void) {
    static const int counts[] = {MSAE_OFF, 1, 2, 3, 6, 10, 1000};
    float *x = data_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    for (size_t i = 0; i < COUNT(counts); i++) {
        msae_train_desc desc = run_desc(recipe_of("topk"), counts[i]);
        msae_trainer trainer;
        size_t times = 0, last = 0;
        watch w;
        memset(&w, 0, sizeof w);
        test_note("%d revivals", counts[i]);
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) break;
        w.trainer = &trainer;
        CHECK_STATUS(MSAE_OK, test_fit(&trainer, &data, watch_step, &w, NULL));
        for (size_t done = 0; done < STEPS; done++) { /* before the step after so many */
            const uint64_t more = w.revived[done + 1] - w.revived[done];
            int due = 0;
            for (int r = 1; r <= counts[i]; r++) {
                const double place = 0.6 * STEPS * r / counts[i];
                due |= done > 0 && place <= (double)done && place > (double)done - 1;
            }
            CHECK((more > 0) == due && more <= N / 32);
            times += more > 0;
            if (more > 0) last = done;
        }
        CHECK(times == (counts[i] < 0 ? 0 : counts[i] > 10 ? 11 : (size_t)counts[i]));
        CHECK(counts[i] < 0 || last == 11); /* the first whole step behind 10.8 */
        CHECK(w.revived[STEPS] == trainer.revived);
        msae_trainer_free(&trainer);
    }
    free(x);
}

/* Cut after any step, with revivals before the cut and behind it. */
static void cut_between_revivals(void) {
    float *x = data_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_RECIPE(recipe) {
        const msae_train_desc desc = run_desc(recipe, 4);
        bytes want = {NULL, 0};
        uint64_t all = 0;
        size_t before = 0, behind = 0;
        for (size_t cut = 0; cut <= STEPS; cut++) { /* 0: not at all */
            msae_trainer trainer, again;
            watch w;
            memset(&w, 0, sizeof w);
            test_note("%s, cut after %zu", recipe->name, cut);
            CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
            w.trainer = &trainer;
            w.stop_at = cut;
            CHECK_STATUS(cut ? MSAE_ERROR_STOPPED : MSAE_OK,
                         test_fit(&trainer, &data, watch_step, &w, NULL));
            bytes file = checkpoint(&trainer);
            if (cut == 0) {
                want = file;
                all = trainer.revived;
                msae_trainer_free(&trainer);
                continue;
            }
            CHECK_STATUS(MSAE_OK, msae_trainer_load(&again, msae_from_memory(file.data, file.size),
                                                    NULL, NULL));
            CHECK(again.revived == trainer.revived && again.desc.revivals == 4);
            CHECK(again.desc.start == trainer.desc.start);
            bytes copied = checkpoint(&again);
            CHECK(same_bytes(&copied, &file));
            CHECK_STATUS(MSAE_OK, test_fit(&again, &data, NULL, NULL, NULL));
            bytes end = checkpoint(&again);
            CHECK(same_bytes(&end, &want) && again.revived == all);
            before += trainer.revived > 0 && trainer.revived < all;
            behind += trainer.revived < all;
            free(end.data);
            free(copied.data);
            free(file.data);
            msae_trainer_free(&trainer);
            msae_trainer_free(&again);
        }
        if (desc.model.nesting == first_levels || recipe->recipe == MSAE_RECIPE_TOPK ||
            test_is_batch_topk(recipe->recipe)) {
            CHECK(before > 0 && behind > before);
        }
        free(want.data);
    }
    free(x);
}

/* A run whose reads or memory fail at a revival goes on as if they had not. */
static void runs_that_fail_at_a_revival(void) {
    float *x = data_rows();
    msae_train_desc desc = run_desc(recipe_of("msae"), 3);
    shelf s = {x, 0, 0};
    const msae_source source = {ROWS, D, read_shelf, &s, NULL};
    msae_trainer trainer;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    CHECK_STATUS(MSAE_OK, msae_trainer_fit(&trainer, &source, NULL, NULL, NULL, NULL));
    CHECK(trainer.revived > 0);
    const bytes want = checkpoint(&trainer);
    const size_t reads = s.reads;
    msae_trainer_free(&trainer);
    for (size_t at = 1; at <= reads; at++) {
        test_note("read %zu of %zu", at, reads);
        CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
        s.reads = 0;
        s.fail_at = at;
        CHECK_STATUS(MSAE_ERROR_IO, msae_trainer_fit(&trainer, &source, NULL, NULL, NULL, NULL));
        CHECK_STATUS(MSAE_OK, msae_trainer_fit(&trainer, &source, NULL, NULL, NULL, NULL));
        bytes end = checkpoint(&trainer);
        CHECK(same_bytes(&end, &want));
        free(end.data);
        msae_trainer_free(&trainer);
    }
    free(want.data);
    free(x);
}

/* ---------------------------------------------------------------------------------------------
   Files
   ------------------------------------------------------------------------------------------ */

/* A file as another program might write it, without version and checksum: with `value` (NULL: none)
   for the note `key`, or as version 0.4 had it. */
static bytes rewritten(const bytes *from, const char *key, const char *value, int old) {
    static const char *const later[] = {"msae.train_start", "msae.train_warmup",
                                        "msae.train_decay", "msae.train_revivals",
                                        "msae.k",           "msae.run_revived"};
    msae_safetensors file;
    msae_tensor tensors[40];
    msae_metadata notes[64];
    size_t n_tensors = 0, n_notes = 0;
    bytes made = {NULL, 0};
    CHECK_STATUS(MSAE_OK, msae_safetensors_open(&file, msae_from_memory(from->data, from->size),
                                                NULL, NULL));
    for (size_t i = 0; i < file.n_tensors; i++) {
        if (old && &file.tensors[i] == msae_safetensors_find(&file, "run.fired_since")) continue;
        tensors[n_tensors++] = file.tensors[i];
    }
    for (size_t i = 0; i < file.n_metadata; i++) {
        const msae_metadata *note = &file.metadata[i];
        int left_out = note == msae_safetensors_metadata(&file, "msae.checksum") ||
                       note == msae_safetensors_metadata(&file, "msae.version");
        for (size_t l = 0; old && l < COUNT(later); l++) {
            left_out |= note == msae_safetensors_metadata(&file, later[l]);
        }
        if (key && note == msae_safetensors_metadata(&file, key)) {
            if (!value) continue;
            notes[n_notes] = *note;
            notes[n_notes].value = value;
            notes[n_notes++].value_bytes = strlen(value);
        } else if (!left_out) {
            notes[n_notes++] = *note;
        }
    }
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK,
                 msae_safetensors_write(&writer, tensors, n_tensors, notes, n_notes, NULL));
    made.size = writer.bytes;
    made.data = (unsigned char *)test_alloc(made.size);
    writer = msae_to_memory(made.data, made.size);
    CHECK_STATUS(MSAE_OK,
                 msae_safetensors_write(&writer, tensors, n_tensors, notes, n_notes, NULL));
    msae_safetensors_close(&file);
    return made;
}

static bytes checkpoint_of(const test_recipe *recipe, int revivals, size_t cut) {
    float *x = data_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    const msae_train_desc desc = run_desc(recipe, revivals);
    msae_trainer trainer;
    watch w;
    memset(&w, 0, sizeof w);
    w.trainer = &trainer;
    w.stop_at = cut;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    test_fit(&trainer, &data, watch_step, &w, NULL);
    bytes file = checkpoint(&trainer);
    msae_trainer_free(&trainer);
    free(x);
    return file;
}

static void expect_refused(const bytes *file, int as_model) {
    msae_trainer trainer;
    msae_model model;
    msae_error error;
    memset(&error, 0, sizeof error);
    CHECK(msae_trainer_load(&trainer, msae_from_memory(file->data, file->size), NULL, &error) !=
          MSAE_OK);
    CHECK(error.message[0] && !strchr(error.message, '\n') && !trainer.memory);
    if (as_model) {
        CHECK(msae_load(&model, msae_from_memory(file->data, file->size), NULL, &error) != MSAE_OK);
        CHECK(error.message[0] && !strchr(error.message, '\n') && !model.memory);
    }
}

static void notes_that_cannot_be(void) {
    static const struct {
        const char *recipe, *key, *values[7];
        int as_model;
    } wrong[] = {
        {"msae", "msae.train_revivals", {"", "1001", "-1", "65536", "4294967297", "x", "1.5"}, 1},
        {"msae", "msae.train_start", {"", "3", "-1", "256", "x"}, 0},
        {"msae", "msae.train_warmup", {"", "nan", "1.5", "0.7", "x"}, 0},
        {"msae", "msae.train_decay", {"", "inf", "1.01", "0.98", "-0.5"}, 0},
        {"msae", "msae.run_revived", {"", "1", "1,2,3", "-1,0", "1,x"}, 0},
        {"msae-width", "msae.k", {NULL, "0", "97", "-1", "x", "", "18446744073709551616"}, 1},
        {"batchtopk", "msae.k", {"0", "97", "-1", "x", ""}, 1},
        {"topk", "msae.k", {"0", "97", "2,3"}, 1},
        {"msae", "msae.k", {"0", "97", "-1", "x", ""}, 1},
        {"msae-width", "msae.nesting", {"", "1,2,95", "1,2,97", "2,1,96", "96,96"}, 1},
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        bytes file = checkpoint_of(recipe_of(wrong[i].recipe), 2, 6);
        for (size_t v = 0; v < COUNT(wrong[i].values); v++) {
            const char *value = wrong[i].values[v];
            if (!value && v > 0) break;
            test_note("%s, %s \"%s\"", wrong[i].recipe, wrong[i].key, value ? value : "(none)");
            bytes made = rewritten(&file, wrong[i].key, value, 0);
            expect_refused(&made, wrong[i].as_model);
            free(made.data);
        }
        free(file.data);
    }
}

/* What files of version 0.5 and before call schedule 1 was published with a cap, and stays so. */
static void schedule_of_before(void) {
    const bytes file = checkpoint_of(recipe_of("topk"), MSAE_OFF, 7);
    const bytes old = rewritten(&file, "msae.train_schedule", "1", 1);
    msae_trainer before;
    if (CHECK_STATUS(MSAE_OK, msae_trainer_load(&before, msae_from_memory(old.data, old.size), NULL,
                                                NULL))) {
        CHECK(before.desc.schedule == MSAE_SCHEDULE_CAPPED);
        before.desc.epochs = 2;
        msae_trainer_schedule(&before, 1, 0, 1);
        CHECK(before.lr_factor == 1.25f);
        msae_trainer_free(&before);
    }
    free(old.data);
    free(file.data);
}

/* Files of version 0.4 say nothing of starts, shares and revivals, and go on as they did. */
static void files_of_before(void) {
    static const char *const names[] = {"msae-uw", "msae-rw cosine", "topk", "batchtopk", "relu"};
    float *x = data_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    for (size_t i = 0; i < COUNT(names); i++) {
        const bytes file = checkpoint_of(recipe_of(names[i]), MSAE_OFF, 7);
        const bytes old = rewritten(&file, NULL, NULL, 1);
        msae_trainer now, before;
        msae_model model;
        test_note("%s", names[i]);
        CHECK(old.size < file.size);
        if (CHECK_STATUS(MSAE_OK,
                         msae_load(&model, msae_from_memory(old.data, old.size), NULL, NULL))) {
            CHECK(model.history.start == MSAE_START_RANDOM && model.history.revivals == 0);
            CHECK(model.k == (msae__is_nested(model.recipe)      ? 64
                              : model.recipe == MSAE_RECIPE_RELU ? 0
                                                                 : 1));
            msae_model_free(&model);
        }
        CHECK_STATUS(MSAE_OK,
                     msae_trainer_load(&now, msae_from_memory(file.data, file.size), NULL, NULL));
        if (CHECK_STATUS(MSAE_OK, msae_trainer_load(&before, msae_from_memory(old.data, old.size),
                                                    NULL, NULL))) {
            CHECK(before.desc.revivals == MSAE_OFF && before.desc.start == MSAE_START_RANDOM);
            CHECK(before.desc.schedule == now.desc.schedule && before.step == 7);
            CHECK_STATUS(MSAE_OK, test_fit(&now, &data, NULL, NULL, NULL));
            CHECK_STATUS(MSAE_OK, test_fit(&before, &data, NULL, NULL, NULL));
            copy end = take_copy(&now);
            CHECK(same_but(&before, &end, NULL) && before.step == STEPS);
            CHECK(before.model.threshold == now.model.threshold);
            free_copy(&end);
            msae_trainer_free(&before);
        }
        msae_trainer_free(&now);
        free(old.data);
        free(file.data);
    }
    free(x);
}

/* A k that the list of levels contradicts is no second opinion: one of them holds, everywhere. */
static void k_and_levels_agree(void) {
    static const char *const names[] = {"topk", "batchtopk"};
    for (size_t i = 0; i < COUNT(names); i++) {
        const bytes file = checkpoint_of(recipe_of(names[i]), MSAE_OFF, 5);
        const bytes other = rewritten(&file, "msae.k", "7", 0);
        msae_model model;
        test_note("%s", names[i]);
        if (msae_load(&model, msae_from_memory(other.data, other.size), NULL, NULL) == MSAE_OK) {
            CHECK(model.n_levels == 1 && model.nesting[0] == model.k);
            msae_model_free(&model);
        }
        free(other.data);
        free(file.data);
    }
}

/* ---------------------------------------------------------------------------------------------
   Sizes
   ------------------------------------------------------------------------------------------ */

static void fit_size(const test_recipe *recipe, size_t d, size_t n, size_t rows, size_t batch,
                     int one_level) {
    float *x = test_random_floats(4, rows * d, 2);
    const msae_data data = msae_data_view(x, rows, d);
    msae_train_desc desc = test_desc(recipe, d, n);
    msae_trainer trainer;
    size_t revived;
    if (one_level) {
        desc.model.nesting = &n;
        desc.model.n_levels = 1;
    }
    desc.model.nesting_start = 0;
    if (desc.model.k > 0) desc.model.k = n < 3 ? n : 3;
    desc.batch = batch;
    desc.epochs = 4;
    test_note("%s, loss %d, d %zu, n %zu, %zu rows, batches of %zu, one level %d", recipe->name,
              (int)recipe->loss, d, n, rows, batch, one_level);
    if (CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) {
        CHECK_STATUS(MSAE_OK, test_fit(&trainer, &data, NULL, NULL, NULL));
        CHECK_STATUS(MSAE_OK, msae_trainer_revive(&trainer, &data, NULL, rows, &revived, NULL));
        CHECK(trainer.step > 0 && revived <= (n < 32 ? 1 : n / 32));
        for (size_t i = 0; i < n * d; i++) {
            CHECK(test_is_finite((double)trainer.model.encoder[i]));
            CHECK(test_is_finite((double)trainer.model.decoder[i]));
        }
        msae_trainer_free(&trainer);
    }
    free(x);
}

static void sizes_of_one_and_odd_ones(void) {
    static const size_t widths[] = {1, 2, 7}, latents[] = {1, 2, 33, 131}, rows[] = {1, 2, 71};
    for (size_t i = 0; i < COUNT(widths) * COUNT(latents) * COUNT(rows); i++) {
        const size_t d = widths[i % 3], n = latents[i / 3 % 4], many = rows[i / 12];
        for (int option = 0; option < 24; option++) {
            test_recipe recipe = {
                "msae", MSAE_RECIPE_MSAE, MSAE_ACTIVATION_RELU, MSAE_LOSS_NMSE, 0, 0, 0};
            if (option & 1) {
                recipe.name = "msae-width";
                recipe.recipe = MSAE_RECIPE_MSAE_WIDTH;
            } else if (option % 3 == 1) {
                recipe.activation = MSAE_ACTIVATION_IDENTITY;
            } else if (option % 3 == 2) {
                recipe.activation = MSAE_ACTIVATION_ABS;
            }
            recipe.loss = (msae_loss)(MSAE_LOSS_NMSE + option % 3);
            recipe.tied = option >> 1 & 1;
            recipe.normalize = (option >> 2 & 1) && d > 1;
            recipe.soft_cap = option >> 3 & 1 ? 0.5f : 0;
            fit_size(&recipe, d, n, many, option % 5 == 0 ? 1 : 64, option >> 4 & 1);
        }
    }
}

int main(void) {
    RUN(trapezoid_in_numbers);
    RUN(trapezoid_in_closed_form);
    RUN(start_from_rows);
    RUN(start_without_directions);
    RUN(dead_latents_by_level);
    RUN(widths_by_hand);
    RUN(revived_exactly);
    RUN(too_few_rows_to_revive);
    RUN(revivals_that_are_refused);
    RUN(revivals_without_memory);
    RUN(residuals_that_are_no_direction);
    RUN(revivals_of_a_run);
    RUN(cut_between_revivals);
    RUN(runs_that_fail_at_a_revival);
    RUN(notes_that_cannot_be);
    RUN(schedule_of_before);
    RUN(files_of_before);
    RUN(k_and_levels_agree);
    RUN(sizes_of_one_and_odd_ones);
    return test_finish();
}
