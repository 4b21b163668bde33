/* Training: descriptors, the two halves of a step, schedules, batches, data statistics, and what
   happens to rows that cannot be trained on. */
#include "test.h"

/* More rows than a tile has; one of the last tile is the bad one where there is one. */
enum { D = 11, N = 40, ROWS = 590, BAD_ROW = 571 };

static msae_train_desc desc_of(const test_recipe *recipe) {
    msae_train_desc desc = test_desc(recipe, D, N);
    desc.batch = ROWS;
    return desc;
}

static int open_trainer(msae_trainer *trainer, const test_recipe *recipe) {
    msae_train_desc desc = desc_of(recipe);
    test_note("%s", recipe->name);
    return CHECK_STATUS(MSAE_OK, msae_trainer_init(trainer, &desc, NULL));
}

/* Whether two trainers of one descriptor hold the same weights and moments. */
static int same_trainers(const msae_trainer *a, const msae_trainer *b) {
    msae_parameters of_a[3] = {test_weights(&a->model), a->moment1, a->moment2};
    msae_parameters of_b[3] = {test_weights(&b->model), b->moment1, b->moment2};
    int same = test_same(&a->model.threshold, &b->model.threshold, 1) && a->step == b->step;
    for (size_t p = 0; p < 3; p++) {
        test_parameter list_a[TEST_MAX_PARAMETERS], list_b[TEST_MAX_PARAMETERS];
        size_t count = test_list(&a->model, &of_a[p], list_a);
        test_list(&b->model, &of_b[p], list_b);
        for (size_t i = 0; i < count; i++) {
            same &= test_same(list_a[i].values, list_b[i].values, list_a[i].rows * list_a[i].cols);
        }
    }
    return same;
}

/* The largest relative error of the gradients of two trainers. */
static double gradient_error(const msae_trainer *a, const msae_trainer *b) {
    test_parameter list_a[TEST_MAX_PARAMETERS], list_b[TEST_MAX_PARAMETERS];
    size_t count = test_list(&a->model, &a->grad, list_a);
    double worst = 0;
    test_list(&b->model, &b->grad, list_b);
    for (size_t i = 0; i < count; i++) {
        double error =
            test_error(list_a[i].values, list_b[i].values, list_a[i].rows * list_a[i].cols);
        if (!(error <= worst)) worst = error;
    }
    return worst;
}

/* ---------------------------------------------------------------------------------------------
   Steps
   ------------------------------------------------------------------------------------------ */

static void two_halves_are_one_step(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_RECIPE(recipe) {
        msae_trainer whole, halves;
        if (!open_trainer(&whole, recipe) || !open_trainer(&halves, recipe)) continue;
        for (int i = 0; i < 3; i++) {
            msae_step_stats a, b;
            CHECK_STATUS(MSAE_OK, msae_trainer_step(&whole, x, ROWS, &a, NULL));
            CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&halves, &data, NULL, ROWS, &b, NULL));
            CHECK_STATUS(MSAE_OK, msae_trainer_update(&halves, &b, NULL));
            CHECK(a.loss == b.loss && a.grad_norm == b.grad_norm && a.lr == b.lr);
            CHECK(a.rows == ROWS && b.rows == ROWS && a.l0 == b.l0);
        }
        CHECK(same_trainers(&whole, &halves));
        CHECK(whole.step == 3 && whole.rows == 3 * ROWS);
        msae_trainer_free(&whole);
        msae_trainer_free(&halves);
    }
    free(x);
}

/* There is nothing to step along before the first half, after the second, and after a failure. */
static void updates_without_gradients(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    msae_data data = msae_data_view(x, ROWS, D);
    msae_trainer trainer, before;
    if (!open_trainer(&trainer, &test_recipes[0]) || !open_trainer(&before, &test_recipes[0])) {
        return;
    }
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_trainer_update(&trainer, NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&trainer, &data, NULL, ROWS, NULL, NULL));
    CHECK(msae_trainer_gradients(&trainer, &data, NULL, ROWS + 1, NULL, NULL) != MSAE_OK);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_trainer_update(&trainer, NULL, NULL));
    CHECK(same_trainers(&trainer, &before));
    CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, ROWS, NULL, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_trainer_update(&trainer, NULL, NULL));
    CHECK(trainer.step == 1);
    msae_trainer_free(&trainer);
    msae_trainer_free(&before);
    free(x);
}

/* Decoder rows stay unit, so a gradient along them is no gradient at all, to rounding. */
static void gradients_along_the_decoder(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_PATH(simd) {
        msae_trainer trainer;
        msae_step_stats stats;
        msae_train_desc desc = desc_of(&test_recipes[0]);
        desc.model.host.simd = simd;
        test_note("%s", msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) break;
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, ROWS, NULL, NULL));
        CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&trainer, &data, NULL, ROWS, &stats, NULL));
        memset(trainer.grad.encoder, 0, N * D * sizeof(float));
        memset(trainer.grad.pre_bias, 0, D * sizeof(float));
        memset(trainer.grad.latent_bias, 0, N * sizeof(float));
        for (size_t i = 0; i < N * D; i++) trainer.grad.decoder[i] = 7 * trainer.model.decoder[i];
        CHECK_STATUS(MSAE_OK, msae_trainer_update(&trainer, &stats, NULL));
        CHECK(stats.grad_norm <= 0.05); /* of 7 sqrt(N) */
        msae_trainer_free(&trainer);
    }
    free(x);
}

/* Under cosine a row whose reconstruction is zero has no loss, forward alone as well. */
static void zero_reconstructions_without_backward(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    msae_data data = msae_data_view(x, ROWS, D);
    msae_trainer trainer;
    msae_step_stats stats;
    if (!open_trainer(&trainer, &test_recipes[3])) return;
    for (size_t j = 0; j < N; j++) trainer.model.latent_bias[j] = -1e3f;
    CHECK_STATUS(MSAE_OK,
                 msae_trainer_forward(&trainer, &data, NULL, ROWS, NULL, NULL, &stats, NULL));
    CHECK(stats.rows_left_out == ROWS && stats.loss == 0 && stats.l0 == 0);
    msae_trainer_free(&trainer);
    free(x);
}

/* What a caller adds to the gradient between the halves goes into the update. */
static void gradients_from_elsewhere(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    msae_data data = msae_data_view(x, ROWS, D);
    msae_trainer plain, nudged;
    if (!open_trainer(&plain, &test_recipes[0]) || !open_trainer(&nudged, &test_recipes[0])) return;
    CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&plain, &data, NULL, ROWS, NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&nudged, &data, NULL, ROWS, NULL, NULL));
    nudged.grad.latent_bias[4] += 10; /* so much that the other way is impossible */
    CHECK_STATUS(MSAE_OK, msae_trainer_update(&plain, NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_trainer_update(&nudged, NULL, NULL));
    CHECK(nudged.model.latent_bias[4] < 0);
    CHECK(nudged.moment1.latent_bias[4] > 10 * fabsf(plain.moment1.latent_bias[4]));
    msae_trainer_free(&plain);
    msae_trainer_free(&nudged);
    free(x);
}

static void rows_by_their_numbers(void) {
    float *x = test_random_floats(1, ROWS * D, 1), *picked = test_floats(ROWS / 2 * D);
    size_t index[ROWS / 2];
    msae_data all = msae_data_view(x, ROWS, D), some = msae_data_view(picked, ROWS / 2, D);
    for (size_t i = 0; i < ROWS / 2; i++) {
        index[i] = (i * 7 + 3) % ROWS;
        memcpy(picked + i * D, x + index[i] * D, D * sizeof *x);
    }
    FOR_EACH_RECIPE(recipe) {
        msae_trainer by_index, by_rows;
        if (!open_trainer(&by_index, recipe) || !open_trainer(&by_rows, recipe)) continue;
        CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&by_index, &all, index, ROWS / 2, NULL, NULL));
        CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&by_rows, &some, NULL, ROWS / 2, NULL, NULL));
        CHECK(gradient_error(&by_index, &by_rows) == 0);
        msae_trainer_free(&by_index);
        msae_trainer_free(&by_rows);
    }
    free(x);
    free(picked);
}

/* The batch runs through in tiles: many rows give the mean of their parts. */
static void gradients_of_parts_add_up(void) {
    enum { MANY = 700, PART = 100 };
    float *x = test_random_floats(9, MANY * D, 1);
    FOR_EACH_RECIPE(recipe) {
        if (test_is_batch_topk(recipe->recipe)) continue; /* its selection is of the batch */
        msae_train_desc desc = test_desc(recipe, D, N);
        msae_trainer whole, part;
        desc.batch = MANY;
        test_note("%s", recipe->name);
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&whole, &desc, NULL))) continue;
        CHECK_STATUS(MSAE_OK, msae_trainer_init(&part, &desc, NULL));
        msae_data data = msae_data_view(x, MANY, D);
        CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&whole, &data, NULL, MANY, NULL, NULL));
        float *sum = test_floats(N * D);
        memset(sum, 0, N * D * sizeof *sum);
        for (size_t first = 0; first < MANY; first += PART) {
            data = msae_data_view(x + first * D, PART, D);
            CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&part, &data, NULL, PART, NULL, NULL));
            for (size_t i = 0; i < N * D; i++) sum[i] += part.grad.encoder[i] * PART / MANY;
        }
        CHECK(test_error(whole.grad.encoder, sum, N * D) <= 5e-6);
        free(sum);
        msae_trainer_free(&whole);
        msae_trainer_free(&part);
    }
    free(x);
}

static void bad_gradients_change_nothing(void) {
    const float bad[] = {NAN, INFINITY, -INFINITY};
    float *x = test_random_floats(1, ROWS * D, 1);
    msae_data data = msae_data_view(x, ROWS, D);
    for (size_t i = 0; i < COUNT(bad); i++) {
        msae_trainer trainer, before;
        if (!open_trainer(&trainer, &test_recipes[0]) || !open_trainer(&before, &test_recipes[0])) {
            return;
        }
        CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&trainer, &data, NULL, ROWS, NULL, NULL));
        trainer.grad.decoder[N * D - 1 - i] = bad[i];
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_trainer_update(&trainer, NULL, NULL));
        CHECK(same_trainers(&trainer, &before));
        msae_trainer_free(&trainer);
        msae_trainer_free(&before);
    }
    free(x);
}

/* Decoder rows are unit to first order after a step, and the norm before it is folded away. */
static void decoder_rows_are_unit(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    FOR_EACH_RECIPE(recipe) {
        msae_trainer trainer;
        if (!open_trainer(&trainer, recipe)) continue;
        trainer.desc.lr = 1e-4f;
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, ROWS, NULL, NULL));
        for (size_t j = 0; j < N; j++) {
            CHECK(fabs(test_norm(trainer.model.decoder + j * D, D) - 1) < 1e-3);
        }
        msae_trainer_free(&trainer);
    }
    free(x);
}

/* An EMA of the smallest positive value kept, from the second step on. */
static void threshold_of_batchtopk(void) {
    float *x = test_random_floats(1, ROWS * D, 1), *all = test_floats(5 * ROWS * N);
    msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_RECIPE(recipe) {
        msae_trainer trainer;
        double want = -1;
        if (!test_is_batch_topk(recipe->recipe) || !open_trainer(&trainer, recipe)) continue;
        CHECK(trainer.model.threshold == -1);
        CHECK(trainer.model.n_levels <= 5);
        const float *latents =
            all + (trainer.model.n_levels - 1) * ROWS * N; /* of the last width */
        for (int step = 0; step < 4; step++) {
            float smallest = INFINITY;
            CHECK_STATUS(MSAE_OK,
                         msae_trainer_forward(&trainer, &data, NULL, ROWS, NULL, all, NULL, NULL));
            for (size_t i = 0; i < ROWS * N; i++) {
                if (latents[i] > 0 && latents[i] < smallest) smallest = latents[i];
            }
            CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, ROWS, NULL, NULL));
            if (step == 1) want = (double)smallest;
            if (step > 1) want = 0.99 * want + 0.01 * (double)smallest;
            CHECK(fabs((double)trainer.model.threshold - want) <= 1e-6);
        }
        /* a batch that keeps nothing says nothing of the threshold */
        for (size_t j = 0; j < N; j++) trainer.model.latent_bias[j] = -1e3f;
        const float threshold = trainer.model.threshold;
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, ROWS, NULL, NULL));
        CHECK(trainer.model.threshold == threshold);
        msae_trainer_free(&trainer);
    }
    free(x);
    free(all);
}

static void a_batch_beyond_the_descriptor(void) {
    float *x = test_random_floats(1, (ROWS + 1) * D, 1);
    FOR_EACH_RECIPE(recipe) {
        msae_trainer trainer;
        if (!open_trainer(&trainer, recipe)) continue;
        msae_status status = msae_trainer_step(&trainer, x, ROWS + 1, NULL, NULL);
        CHECK_STATUS(test_is_batch_topk(recipe->recipe) ? MSAE_ERROR_ARGUMENT : MSAE_OK, status);
        CHECK(msae_trainer_step(&trainer, x, 0, NULL, NULL) != MSAE_OK);
        msae_trainer_free(&trainer);
    }
    free(x);
}

/* ---------------------------------------------------------------------------------------------
   Rows that cannot be trained on
   ------------------------------------------------------------------------------------------ */

static void bad_rows_are_refused(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    size_t index[2] = {4, BAD_ROW};
    msae_data data = msae_data_view(x, ROWS, D);
    x[BAD_ROW * D + 3] = NAN;
    FOR_EACH_RECIPE(recipe) {
        msae_trainer trainer, before;
        msae_error error;
        if (!open_trainer(&trainer, recipe) || !open_trainer(&before, recipe)) continue;
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_trainer_gradients(&trainer, &data, NULL, ROWS, NULL, &error));
        CHECK(error.position == BAD_ROW);
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_trainer_gradients(&trainer, &data, index, 2, NULL, &error));
        CHECK(error.position == BAD_ROW);
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_trainer_step(&trainer, x, ROWS, NULL, &error));
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_trainer_forward(&trainer, &data, NULL, ROWS, NULL, NULL, NULL, &error));
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE, test_statistics(&trainer, &data, &error));
        CHECK(error.position == BAD_ROW);
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_data_check(&data, &error));
        CHECK(error.position == BAD_ROW);
        CHECK(same_trainers(&trainer, &before));
        msae_trainer_free(&trainer);
        msae_trainer_free(&before);
    }
    free(x);
}

/* The loss and gradients of `x` are those of the rows of it that are good. */
static void check_like_good_rows(msae_trainer *trainer, msae_trainer *reference, const float *x,
                                 const size_t *good, size_t n_good, msae_step_stats *stats) {
    float *kept = test_floats(n_good * D);
    msae_data data = msae_data_view(x, ROWS, D);
    msae_step_stats want;
    for (size_t i = 0; i < n_good; i++) memcpy(kept + i * D, x + good[i] * D, D * sizeof *x);
    msae_data good_data = msae_data_view(kept, n_good, D);
    CHECK_STATUS(MSAE_OK, msae_trainer_gradients(trainer, &data, NULL, ROWS, stats, NULL));
    CHECK_STATUS(MSAE_OK, msae_trainer_gradients(reference, &good_data, NULL, n_good, &want, NULL));
    CHECK(fabs(stats->loss - want.loss) <= 1e-6 * want.loss);
    CHECK(gradient_error(trainer, reference) <= 2e-6);
    free(kept);
}

static void bad_rows_are_skipped_on_request(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    size_t good[ROWS], n_good = 0;
    x[0] = NAN;
    x[BAD_ROW * D + 3] = INFINITY;
    x[ROWS * D - 1] = -INFINITY;
    for (size_t b = 1; b < ROWS - 1; b++) {
        if (b != BAD_ROW) good[n_good++] = b;
    }
    FOR_EACH_RECIPE(recipe) {
        msae_train_desc desc = desc_of(recipe);
        msae_trainer trainer, reference;
        msae_step_stats stats;
        desc.skip_bad = 1;
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) continue;
        if (!open_trainer(&reference, recipe)) continue;
        check_like_good_rows(&trainer, &reference, x, good, n_good, &stats);
        CHECK(stats.rows == n_good && stats.rows_skipped == 3);
        msae_trainer_free(&trainer);
        msae_trainer_free(&reference);
    }
    free(x);
}

/* Rows of far larger norm than the others: told of, and left out of statistics and steps on request,
   with rows of NaN beside them. */
static void far_rows_are_left_out_on_request(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    const size_t far[] = {2, BAD_ROW, ROWS - 1};
    size_t good[ROWS], n_good = 0;
    for (size_t f = 0; f < COUNT(far); f++) {
        for (size_t i = 0; i < D; i++) x[far[f] * D + i] *= 3000;
    }
    for (size_t b = 0; b < ROWS; b++) {
        if (b != 1 && b != far[0] && b != far[1] && b != far[2]) good[n_good++] = b;
    }
    x[D] = NAN;
    FOR_EACH_RECIPE(recipe) {
        const msae_data data = msae_data_view(x, ROWS, D);
        float *kept = test_floats(n_good * D);
        const msae_data good_data = msae_data_view(kept, n_good, D);
        msae_train_desc desc = desc_of(recipe);
        msae_trainer trainer, reference, told;
        msae_step_stats stats;
        msae_error error;
        test_note("%s", recipe->name);
        desc.skip_bad = 1;
        desc.max_norm = 40;
        desc.geometric_median = 1;
        for (size_t i = 0; i < n_good; i++) memcpy(kept + i * D, x + good[i] * D, D * sizeof *x);
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) continue;
        desc.max_norm = 0;
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&reference, &desc, NULL))) continue;
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&told, &desc, NULL))) continue;
        CHECK_STATUS(MSAE_OK, test_statistics(&trainer, &data, NULL));
        CHECK_STATUS(MSAE_OK, test_statistics(&reference, &good_data, NULL));
        CHECK_STATUS(MSAE_OK, test_statistics(&told, &data, NULL));
        CHECK(trainer.rare.beyond == 3 && trainer.rare.first_beyond == 2);
        CHECK(trainer.rare.bad == 1 && trainer.rare.first_bad == 1);
        CHECK(told.rare.beyond == 3 && told.rare.first_beyond == 2 && told.rare.norm_limit == 0);
        CHECK(reference.rare.beyond == 0 && reference.rare.bad == 0);
        CHECK(trainer.rare.norm_limit >= 39 * trainer.rare.median_norm &&
              trainer.rare.norm_limit <= 41 * trainer.rare.median_norm);
        CHECK(fabsf(trainer.model.scale / reference.model.scale - 1) < 1e-6f);
        CHECK(test_error(trainer.model.mean, reference.model.mean, D) < 1e-6);
        CHECK(test_error(trainer.model.pre_bias, reference.model.pre_bias, D) < 1e-5);
        /* from here on the same to the bit, so that steps can be compared */
        memcpy(trainer.model.mean, reference.model.mean, D * sizeof(float));
        memcpy(trainer.model.pre_bias, reference.model.pre_bias, D * sizeof(float));
        memcpy(trainer.model.encoder, reference.model.encoder,
               trainer.model.n_latents * D * sizeof(float));
        memcpy(trainer.model.decoder, reference.model.decoder,
               trainer.model.n_latents * D * sizeof(float));
        trainer.model.scale = reference.model.scale;
        check_like_good_rows(&trainer, &reference, x, good, n_good, &stats);
        CHECK(stats.rows == n_good && stats.rows_skipped == 4);
        /* one is no error, the other is */
        trainer.desc.skip_bad = 0;
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_trainer_gradients(&trainer, &data, NULL, ROWS, NULL, &error));
        CHECK(error.position == 1);
        CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&trainer, &data, far, 3, &stats, &error));
        CHECK(stats.rows == 0 && stats.rows_skipped == 3);
        msae_trainer_free(&trainer);
        msae_trainer_free(&reference);
        msae_trainer_free(&told);
        free(kept);
    }
    free(x);
}

static void limits_of_norms(void) {
    static const float wrong[] = {-1, 0.5f, NAN, INFINITY};
    float x[ROWS * D] = {0};
    msae_data data = msae_data_view(x, ROWS, D);
    msae_train_desc desc = desc_of(&test_recipes[0]), resolved;
    msae_trainer trainer;
    for (size_t i = 0; i < COUNT(wrong); i++) {
        desc.max_norm = wrong[i];
        CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_train_desc_resolve(&desc, &resolved, NULL));
    }
    /* rows of zeros and of the largest norms, and a limit beyond them */
    desc.max_norm = 50;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    CHECK_STATUS(MSAE_OK, test_statistics(&trainer, &data, NULL));
    CHECK(trainer.rare.median_norm == 0 && trainer.rare.beyond == 0 &&
          trainer.rare.norm_limit == 0);
    x[3 * D] = 1e-20f;
    x[5 * D] = 1;
    x[6 * D] = 1e-20f;
    CHECK_STATUS(MSAE_OK, test_statistics(&trainer, &data, NULL));
    CHECK(fabsf(trainer.rare.median_norm - 1e-20f) < 1e-22f);
    CHECK(trainer.rare.beyond == 1 && trainer.rare.first_beyond == 5);
    for (size_t i = 0; i < COUNT(x); i++) x[i] = i % 2 ? 3e37f : -3e37f;
    CHECK_STATUS(MSAE_OK, test_statistics(&trainer, &data, NULL));
    CHECK(trainer.rare.beyond == 0 && trainer.rare.norm_limit == 0);
    msae_trainer_free(&trainer);
}

static void batches_of_bad_rows_only(void) {
    float x[2 * D];
    for (size_t i = 0; i < COUNT(x); i++) x[i] = NAN;
    FOR_EACH_RECIPE(recipe) {
        msae_train_desc desc = desc_of(recipe);
        msae_trainer trainer;
        msae_step_stats stats;
        test_note("%s", recipe->name);
        desc.skip_bad = 1;
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) continue;
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, 2, &stats, NULL));
        CHECK(stats.rows == 0 && stats.rows_skipped == 2);
        test_parameter list[TEST_MAX_PARAMETERS];
        msae_parameters weights = test_weights(&trainer.model);
        size_t count = test_list(&trainer.model, &weights, list);
        for (size_t i = 0; i < count; i++) {
            CHECK(test_magnitude(test_norm(list[i].values, list[i].rows * list[i].cols)) <
                  TEST_INFINITY);
        }
        msae_trainer_free(&trainer);
    }
}

/* nmse leaves a row out that equals the mean, cosine one that is zero; the others make the mean. */
static void rows_without_a_loss_are_left_out(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    size_t good[ROWS], n_good = 0;
    for (size_t b = 0; b < ROWS; b++) {
        if (b == 6 || b == ROWS - 1) {
            memset(x + b * D, 0, D * sizeof *x);
        } else {
            good[n_good++] = b;
        }
    }
    for (int loss = MSAE_LOSS_NMSE; loss <= MSAE_LOSS_COSINE; loss += 2) {
        test_recipe recipe = test_recipes[0];
        msae_trainer trainer, reference;
        msae_step_stats stats;
        recipe.loss = (msae_loss)loss;
        if (!open_trainer(&trainer, &recipe) || !open_trainer(&reference, &recipe)) continue;
        test_note("loss %s", msae_enum_name(MSAE_ENUM_LOSS, (int)recipe.loss));
        test_randomize(&trainer.model, 4);
        test_randomize(&reference.model, 4);
        check_like_good_rows(&trainer, &reference, x, good, n_good, &stats);
        CHECK(stats.rows_left_out == 2);
        msae_trainer_free(&trainer);
        msae_trainer_free(&reference);
    }
    free(x);
}

/* A latent that is active in no row of the window is dead, another is not. */
static void dead_latents_are_counted(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    msae_trainer trainer;
    msae_step_stats stats;
    test_recipe relu = {"relu", MSAE_RECIPE_RELU, MSAE_ACTIVATION_DEFAULT, MSAE_LOSS_MSE, 0, 0, 0};
    if (!open_trainer(&trainer, &relu)) return;
    trainer.desc.lr = 1e-9f;
    for (size_t j = 0; j < N; j++) trainer.model.latent_bias[j] = j < 7 ? -1e4f : 1e2f;
    CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, ROWS, &stats, NULL));
    CHECK(stats.dead_latents == 7);
    CHECK(stats.l0 == N - 7);
    msae_trainer_free(&trainer);
    free(x);
}

/* Counts of a full window stand until the next one is full. */
static void dead_latents_of_full_windows(void) {
    msae_trainer trainer;
    msae_step_stats stats;
    msae_train_desc desc = test_desc(&test_recipes[8], 2, 3);
    const float x[2] = {1, 0.5f};
    desc.lr = 1e-12f;
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
    for (size_t j = 0; j < 3; j++) trainer.model.latent_bias[j] = j == 1 ? -100.0f : 100.0f;
    for (size_t step = 1; step <= 2002; step++) {
        test_note("step %zu", step);
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, 1, &stats, NULL));
        CHECK(stats.dead_latents == (step < 2000 ? 1 : 2));
        if (step == 1000) { /* the next window has one that is active */
            trainer.model.latent_bias[0] = trainer.model.latent_bias[2] = -100;
            trainer.model.latent_bias[1] = 100;
        }
    }
    msae_trainer_free(&trainer);
}

/* ---------------------------------------------------------------------------------------------
   Schedules, batches, whole runs
   ------------------------------------------------------------------------------------------ */

static void open_run(msae_trainer *trainer, msae_schedule schedule, size_t epochs) {
    msae_train_desc desc = test_desc(&test_recipes[0], D, N);
    desc.schedule = schedule;
    desc.epochs = epochs;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(trainer, &desc, NULL));
}

static void epoch_schedules(void) {
    static const size_t epochs[] = {1, 2, 3, 4, 5, 7, 10, 30, 33};
    for (size_t i = 0; i < COUNT(epochs); i++) {
        double total = (double)epochs[i];
        msae_trainer published, capped, linear, constant;
        open_run(&published, MSAE_SCHEDULE_PUBLISHED, epochs[i]);
        open_run(&capped, MSAE_SCHEDULE_CAPPED, epochs[i]);
        open_run(&linear, MSAE_SCHEDULE_LINEAR, epochs[i]);
        open_run(&constant, MSAE_SCHEDULE_CONSTANT, epochs[i]);
        for (size_t e = 0; e < epochs[i]; e++) {
            double down =
                (double)e < floor(0.8 * total + 1e-9) ? 1 : (total - (double)e) / (0.2 * total);
            test_note("epoch %zu of %zu", e, epochs[i]);
            for (size_t step = 0; step < 3; step++) {
                msae_trainer_schedule(&published, e, step, 3);
                msae_trainer_schedule(&capped, e, step, 3);
                msae_trainer_schedule(&linear, e, step, 3);
                msae_trainer_schedule(&constant, e, step, 3);
                CHECK(fabs((double)published.lr_factor - down) <= 1e-6);
                CHECK(fabs((double)capped.lr_factor - fmin(1.25, down)) <= 1e-6);
                CHECK(fabs((double)linear.lr_factor - fmin(1, down)) <= 1e-6);
                CHECK(constant.lr_factor == 1);
            }
        }
        msae_trainer_free(&published);
        msae_trainer_free(&capped);
        msae_trainer_free(&linear);
        msae_trainer_free(&constant);
    }
}

/* The largest factor of a run of the published code. */
static void published_factors(void) {
    static const struct {
        size_t epochs;
        double most;
    } runs[] = {{1, 5},       {2, 2.5},      {3, 5 / 3.0},    {4, 1.25}, {5, 1},
                {6, 5 / 3.0}, {7, 10 / 7.0}, {11, 15 / 11.0}, {20, 1},   {30, 1}};
    for (size_t i = 0; i < COUNT(runs); i++) {
        msae_trainer trainer;
        double most = 0;
        open_run(&trainer, MSAE_SCHEDULE_PUBLISHED, runs[i].epochs);
        for (size_t e = 0; e < runs[i].epochs; e++) {
            msae_trainer_schedule(&trainer, e, 0, 1);
            most = fmax(most, (double)trainer.lr_factor);
        }
        test_note("%zu epochs: %g, expected %g", runs[i].epochs, most, runs[i].most);
        CHECK(fabs(most - runs[i].most) <= 1e-6);
        msae_trainer_free(&trainer);
    }
}

/* From 0.1 up to 1 over the first epoch in a line, then down to 0.1 in half a cosine. */
static void cosine_schedule(void) {
    enum { EPOCHS = 10, STEPS = 100 };
    msae_trainer trainer;
    open_run(&trainer, MSAE_SCHEDULE_COSINE, EPOCHS);
    for (size_t e = 0; e < EPOCHS; e++) {
        for (size_t step = 0; step < STEPS; step++) {
            double at = (double)e + (double)step / STEPS;
            double down = 0.1 + 0.45 * (1 + cos(3.14159265358979 * (at - 1) / (EPOCHS - 1)));
            msae_trainer_schedule(&trainer, e, step, STEPS);
            test_note("epoch %zu, step %zu, factor %g", e, step, (double)trainer.lr_factor);
            CHECK(fabs((double)trainer.lr_factor - (e ? down : 0.1 + 0.9 * at)) <= 0.9 / STEPS);
        }
    }
    msae_trainer_free(&trainer);
}

/* Where a run goes on beyond its epochs or has but one, factors stay within the schedule's. */
static void beyond_the_last_epoch(void) {
    for (int schedule = MSAE_SCHEDULE_DEFAULT + 1; schedule < MSAE_SCHEDULE_COUNT; schedule++) {
        for (size_t epochs = 1; epochs < 4; epochs++) {
            msae_trainer trainer;
            test_note("%s, %zu epochs", msae_enum_name(MSAE_ENUM_SCHEDULE, (int)schedule), epochs);
            open_run(&trainer, (msae_schedule)schedule, epochs);
            msae_trainer_schedule(&trainer, epochs + 2, 0, 0);
            const double want = schedule == MSAE_SCHEDULE_COSINE     ? 0.1
                                : schedule == MSAE_SCHEDULE_CONSTANT ? 1
                                                                     : 0;
            CHECK(fabs((double)trainer.lr_factor - want) <= 1e-6);
            msae_trainer_free(&trainer);
        }
    }
}

static void the_factor_scales_the_learning_rate(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    msae_trainer trainer;
    msae_step_stats stats;
    if (!open_trainer(&trainer, &test_recipes[0])) return;
    trainer.lr_factor = 0.25f;
    CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, ROWS, &stats, NULL));
    CHECK(fabs(stats.lr - 0.25 * 0.01) < 1e-8);
    /* The first Adam step is lr long for every number with a gradient. */
    for (size_t i = 0; i < D; i++)
        CHECK(fabs(fabs((double)trainer.model.pre_bias[i]) - 0.0025) < 1e-6);
    msae_trainer_free(&trainer);
    free(x);
}

/* Up to 1000 rows of one column. */
static msae_data numbers_view(size_t rows) {
    static const float numbers[1000];
    return msae_data_view(numbers, rows, 1);
}

static void every_row_once_an_epoch(void) {
    static const size_t sizes[][2] = {{10, 4}, {10, 5}, {1, 1}, {7, 100}, {1000, 64}};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t rows = sizes[i][0], batch = sizes[i][1];
        const msae_data data = numbers_view(rows);
        msae_stream stream, twin;
        unsigned char *seen = (unsigned char *)test_alloc(rows);
        size_t *previous = (size_t *)test_alloc(rows * sizeof *previous);
        test_note("%zu rows, batch %zu", rows, batch);
        if (!CHECK_STATUS(MSAE_OK, test_stream(&stream, &data, batch, 5, NULL))) break;
        CHECK_STATUS(MSAE_OK, test_stream(&twin, &data, batch, 5, NULL));
        for (size_t epoch = 0; epoch < 3; epoch++) {
            const size_t *index, *same;
            size_t total = 0, moved = 0, count;
            memset(seen, 0, rows);
            while ((count = test_next(&stream, &index)) > 0) {
                CHECK(count == (rows - total < batch ? rows - total : batch));
                CHECK(test_next(&twin, &same) == count);
                CHECK(memcmp(index, same, count * sizeof *index) == 0);
                for (size_t r = 0; r < count && total < rows; r++, total++) {
                    CHECK(index[r] < rows && !seen[index[r]]++);
                    moved += epoch && previous[total] != index[r];
                    previous[total] = index[r];
                }
            }
            CHECK(total == rows);
            CHECK(stream.at.epoch == epoch + 1);
            CHECK(test_next(&twin, &same) == 0);
            if (epoch && rows > 5) CHECK(moved > rows / 2);
        }
        msae_stream_free(&stream);
        msae_stream_free(&twin);
        free(seen);
        free(previous);
    }
}

static void every_order_is_as_likely(void) {
    enum { THREE = 3, EPOCHS = 6000 };
    const msae_data data = numbers_view(THREE);
    msae_stream stream;
    const size_t *index;
    size_t orders[THREE * THREE] = {0};
    if (!CHECK_STATUS(MSAE_OK, test_stream(&stream, &data, THREE, 1, NULL))) return;
    for (size_t epoch = 0; epoch < EPOCHS; epoch++) {
        CHECK(test_next(&stream, &index) == THREE);
        orders[index[0] * THREE + index[1]]++;
        CHECK(test_next(&stream, &index) == 0);
    }
    for (size_t i = 0; i < COUNT(orders); i++) {
        if (i / THREE != i % THREE) CHECK(orders[i] > 850 && orders[i] < 1150);
    }
    msae_stream_free(&stream);
}

typedef struct run_log {
    size_t calls, stop_at;
    double first_loss, last_loss;
    uint64_t rows;
} run_log;

static int log_step(const msae_progress *progress, void *user) {
    run_log *log = (run_log *)user;
    if (log->calls == 0) log->first_loss = progress->stats->loss;
    log->last_loss = progress->stats->loss;
    CHECK(progress->epochs == 10 && progress->steps == 4);
    CHECK(progress->epoch == log->calls / 4 && progress->step == log->calls % 4);
    log->rows = progress->rows;
    return ++log->calls == log->stop_at;
}

static void whole_runs(void) {
    enum { MANY = 250 };
    float *x = test_random_floats(3, MANY * D, 1);
    msae_data data = msae_data_view(x, MANY, D);
    FOR_EACH_RECIPE(recipe) {
        msae_train_desc desc = test_desc(recipe, D, N);
        msae_trainer trainer, again;
        run_log log = {0, 0, 0, 0, 0};
        test_note("%s", recipe->name);
        desc.epochs = 10;
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) continue;
        CHECK_STATUS(MSAE_OK, msae_trainer_init(&again, &desc, NULL));
        CHECK_STATUS(MSAE_OK, test_fit(&trainer, &data, log_step, &log, NULL));
        CHECK(log.calls == 40 && log.rows == 10 * MANY && trainer.rows == 10 * MANY);
        CHECK(log.last_loss < log.first_loss);
        CHECK(trainer.has_statistics && trainer.model.scale != 1);
        CHECK(trainer.model.history.steps == 40 && trainer.model.history.rows == 10 * MANY);
        CHECK_STATUS(MSAE_OK, test_fit(&again, &data, NULL, NULL, NULL));
        CHECK(same_trainers(&trainer, &again));
        msae_trainer_free(&trainer);
        msae_trainer_free(&again);
    }
    free(x);
}

static void runs_that_are_stopped(void) {
    enum { MANY = 250 };
    float *x = test_random_floats(3, MANY * D, 1);
    msae_data data = msae_data_view(x, MANY, D), other = msae_data_view(x, MANY, D - 1);
    msae_trainer trainer;
    run_log log = {0, 6, 0, 0, 0};
    open_run(&trainer, MSAE_SCHEDULE_LINEAR, 10);
    CHECK_STATUS(MSAE_ERROR_STOPPED, test_fit(&trainer, &data, log_step, &log, NULL));
    CHECK(log.calls == 6 && trainer.step == 6);
    CHECK_STATUS(MSAE_ERROR_SHAPE, test_fit(&trainer, &other, NULL, NULL, NULL));
    msae_trainer_free(&trainer);
    free(x);
}

/* ---------------------------------------------------------------------------------------------
   Data statistics
   ------------------------------------------------------------------------------------------ */

static void mean_and_scale(void) {
    float *x = test_random_floats(6, ROWS * D, 1), mean[D], scale;
    double want[D] = {0}, spread = 0;
    for (size_t i = 0; i < ROWS * D; i++) x[i] += (float)(i % D);
    for (size_t i = 0; i < ROWS * D; i++) want[i % D] += (double)x[i] / ROWS;
    for (size_t i = 0; i < ROWS * D; i++) {
        spread += ((double)x[i] - want[i % D]) * ((double)x[i] - want[i % D]) / ROWS;
    }
    const double scales[] = {0, sqrt(D / spread), sqrt(D) / spread, 1};
    msae_data data = msae_data_view(x, ROWS, D);
    for (int scaling = MSAE_SCALING_RMS; scaling < MSAE_SCALING_COUNT; scaling++) {
        test_note("%s", msae_enum_name(MSAE_ENUM_SCALING, (int)scaling));
        CHECK_STATUS(MSAE_OK, test_data_statistics(&data, (msae_scaling)scaling, 0, NULL, mean,
                                                   &scale, NULL));
        CHECK(fabs((double)scale - scales[scaling]) <= 1e-6 * scales[scaling]);
        for (size_t j = 0; j < D; j++)
            CHECK(fabs((double)mean[j] - want[j]) <= 1e-6 * (1 + want[j]));
    }
    x[5 * D] = NAN;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 test_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, mean, &scale, NULL));
    CHECK_STATUS(MSAE_OK,
                 test_data_statistics(&data, MSAE_SCALING_RMS, 1, NULL, mean, &scale, NULL));
    for (size_t j = 0; j < D; j++) CHECK(fabs((double)mean[j] - want[j]) < 0.1);
    data = msae_data_view(x, 1, D);
    CHECK_STATUS(MSAE_OK,
                 test_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, mean, &scale, NULL));
    CHECK(scale == 1 && test_same(mean, x, D));
    free(x);
}

/* Sums in double: a million rows far from the origin keep their spread. */
static void statistics_of_many_rows(void) {
    enum { MANY = 300000 };
    float *x = test_random_floats(6, MANY, 1), mean, scale;
    for (size_t i = 0; i < MANY; i++) x[i] = 1000 + (i % 2 ? 0.5f : -0.5f);
    msae_data data = msae_data_view(x, MANY, 1);
    CHECK_STATUS(MSAE_OK,
                 test_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, &mean, &scale, NULL));
    CHECK(mean == 1000 && fabsf(scale - 2) <= 1e-5f);
    free(x);
}

/* No rows, or none that can be used, have no mean. */
static void data_without_rows(void) {
    float x[D], mean[D], scale;
    for (size_t j = 0; j < D; j++) x[j] = NAN;
    msae_data none = msae_data_view(x, 0, D), bad = msae_data_view(x, 1, D);
    msae_trainer trainer;
    CHECK(test_data_statistics(&none, MSAE_SCALING_RMS, 0, NULL, mean, &scale, NULL) != MSAE_OK);
    CHECK(test_data_statistics(&bad, MSAE_SCALING_RMS, 1, NULL, mean, &scale, NULL) != MSAE_OK);
    CHECK(test_geometric_median(&none, NULL, 1, 0, NULL, mean, NULL) != MSAE_OK);
    CHECK(test_geometric_median(&bad, NULL, 1, 1, NULL, mean, NULL) != MSAE_OK);
    if (!open_trainer(&trainer, &test_recipes[0])) return;
    CHECK(test_fit(&trainer, &none, NULL, NULL, NULL) != MSAE_OK);
    none.cols = D - 1;
    CHECK_STATUS(MSAE_ERROR_SHAPE, test_statistics(&trainer, &none, NULL));
    CHECK(!trainer.has_statistics);
    msae_trainer_free(&trainer);
}

/* The median of points on a line is the middle one, wherever the outlier is. */
static void geometric_median(void) {
    float x[5 * 2] = {0, 0, 1, 1, 2, 2, 3, 3, 1000, 1000}, median[2];
    static const float mean[2] = {1, 1};
    msae_data data = msae_data_view(x, 5, 2);
    CHECK_STATUS(MSAE_OK, test_geometric_median(&data, NULL, 1, 0, NULL, median, NULL));
    CHECK(fabsf(median[0] - 2) < 0.01f && fabsf(median[1] - 2) < 0.01f);
    CHECK_STATUS(MSAE_OK, test_geometric_median(&data, mean, 3, 0, NULL, median, NULL));
    CHECK(fabsf(median[0] - 3) < 0.03f && fabsf(median[1] - 3) < 0.03f);
    x[9] = NAN;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 test_geometric_median(&data, NULL, 1, 0, NULL, median, NULL));
    CHECK_STATUS(MSAE_OK, test_geometric_median(&data, NULL, 1, 1, NULL, median, NULL));
    CHECK(median[0] >= 0.99f && median[0] <= 2.01f);

    msae_train_desc desc = test_desc(&test_recipes[0], 2, 3);
    msae_trainer trainer;
    desc.geometric_median = 1;
    x[9] = 1000;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    CHECK_STATUS(MSAE_OK, test_statistics(&trainer, &data, NULL));
    CHECK_STATUS(MSAE_OK, test_geometric_median(&data, trainer.model.mean, trainer.model.scale, 0,
                                                NULL, median, NULL));
    CHECK(test_same(trainer.model.pre_bias, median, 2) && median[0] < -0.1f);
    msae_trainer_free(&trainer);

    /* a row right where the iteration stands does not pull, and only such rows end it */
    const float around[3 * 2] = {-1, -1, 0, 0, 1, 1}, same[2 * 2] = {3, 4, 3, 4};
    data = msae_data_view(around, 3, 2);
    CHECK_STATUS(MSAE_OK, test_geometric_median(&data, NULL, 1, 0, NULL, median, NULL));
    CHECK(median[0] == 0 && median[1] == 0);
    data = msae_data_view(same, 2, 2);
    CHECK_STATUS(MSAE_OK, test_geometric_median(&data, NULL, 1, 0, NULL, median, NULL));
    CHECK(median[0] == 3 && median[1] == 4);
    /* a corner of 120 degrees is its own median, which the iteration nears ever more slowly */
    const float corner[3 * 2] = {0, 0, 1e4f, 0, -5e3f, 8660.254f};
    data = msae_data_view(corner, 3, 2);
    CHECK_STATUS(MSAE_OK, test_geometric_median(&data, NULL, 1, 0, NULL, median, NULL));
    CHECK(hypot((double)median[0], (double)median[1]) < 100 && median[1] > 0);
}

/* ---------------------------------------------------------------------------------------------
   Descriptors and memory
   ------------------------------------------------------------------------------------------ */

static void defaults_of_a_run(void) {
    static const struct {
        msae_recipe recipe;
        float lr, sparse_weight;
    } wanted[] = {
        {MSAE_RECIPE_MSAE_UW, 1e-4f, 0},
        {MSAE_RECIPE_MSAE_RW, 1e-4f, 0},
        {MSAE_RECIPE_TOPK, 5e-4f, 0},
        {MSAE_RECIPE_BATCHTOPK, 5e-4f, 0},
        {MSAE_RECIPE_RELU, 5e-5f, 0.003f},
        {MSAE_RECIPE_JUMPRELU, 5e-5f, 0.001f},
        {MSAE_RECIPE_DEFAULT, 2.8284271e-3f, 0},
        {MSAE_RECIPE_MSAE, 2.8284271e-3f, 0},
        {MSAE_RECIPE_MSAE_WIDTH, 2.8284271e-3f, 0},
    };
    /* and the learning rate by the batch: with its root, from one row to four times 256 */
    static const struct {
        size_t batch;
        double lr;
    } rates[] = {{1, 2e-3 / 16}, {64, 1e-3}, {256, 2e-3}, {1024, 4e-3}, {1025, 4e-3}, {8192, 4e-3}};
    for (size_t i = 0; i < COUNT(wanted); i++) {
        msae_train_desc desc, resolved;
        memset(&desc, 0, sizeof desc);
        desc.model.n_inputs = 4;
        desc.model.n_latents = 8;
        desc.model.recipe = wanted[i].recipe;
        test_note("%s", msae_enum_name(MSAE_ENUM_RECIPE, (int)wanted[i].recipe));
        CHECK_STATUS(MSAE_OK, msae_train_desc_resolve(&desc, &resolved, NULL));
        const msae_recipe recipe = resolved.model.recipe;
        const int ours = recipe == MSAE_RECIPE_MSAE || recipe == MSAE_RECIPE_MSAE_WIDTH;
        CHECK(resolved.lr == wanted[i].lr && resolved.sparse_weight == wanted[i].sparse_weight);
        CHECK(resolved.batch == (ours ? 512 : 4096) && resolved.epochs == 30);
        /* (casts, because constants may be wider than float, s390x has them so) */
        CHECK(resolved.beta1 == (float)0.9f);
        CHECK(resolved.beta2 == (ours ? (float)0.99f : (float)0.999f));
        CHECK(resolved.warmup == (float)0.03f && resolved.decay == (float)0.4f);
        CHECK(resolved.start == (ours ? MSAE_START_ROWS : MSAE_START_RANDOM));
        CHECK(resolved.revivals == (ours ? 6 : MSAE_OFF));
        CHECK(resolved.eps == (float)6.25e-10f);
        CHECK(resolved.weight_decay == 0 && resolved.clip == 1);
        CHECK(resolved.loss == MSAE_LOSS_NMSE && resolved.scaling == MSAE_SCALING_RMS);
        CHECK(resolved.schedule == (ours ? MSAE_SCHEDULE_TRAPEZOID : MSAE_SCHEDULE_PUBLISHED));
        if (wanted[i].recipe == MSAE_RECIPE_JUMPRELU) CHECK(resolved.bandwidth == 0.001f);
        for (size_t r = 0; ours && r < COUNT(rates); r++) {
            desc.batch = rates[r].batch;
            CHECK_STATUS(MSAE_OK, msae_train_desc_resolve(&desc, &resolved, NULL));
            CHECK(fabs((double)resolved.lr - rates[r].lr) <= 1e-6 * rates[r].lr);
        }
        desc.sparse_weight = desc.beta1 = desc.beta2 = desc.warmup = desc.decay = MSAE_OFF;
        desc.revivals = MSAE_OFF;
        desc.start = MSAE_START_RANDOM;
        CHECK_STATUS(MSAE_OK, msae_train_desc_resolve(&desc, &resolved, NULL));
        CHECK(resolved.sparse_weight == 0 && resolved.beta1 == 0 && resolved.beta2 == 0);
        CHECK(resolved.warmup == 0 && resolved.decay == 0 && resolved.revivals == MSAE_OFF);
        CHECK(resolved.start == MSAE_START_RANDOM);
    }
}

/* Clipping off means off: the norm Adam gets is the norm there is. */
static void clipping(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    static const float clips[] = {MSAE_OFF, 0.5f};
    for (size_t i = 0; i < COUNT(clips); i++) {
        msae_train_desc desc = test_desc(&test_recipes[0], D, N);
        msae_trainer trainer;
        msae_step_stats stats;
        double sum = 0;
        desc.clip = clips[i];
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) continue;
        msae_data data = msae_data_view(x, ROWS, D);
        CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&trainer, &data, NULL, ROWS, &stats, NULL));
        for (size_t j = 0; j < N; j++) trainer.grad.latent_bias[j] += 1;
        CHECK_STATUS(MSAE_OK, msae_trainer_update(&trainer, &stats, NULL));
        test_parameter list[TEST_MAX_PARAMETERS];
        size_t count = test_list(&trainer.model, &trainer.moment1, list);
        for (size_t p = 0; p < count; p++) {
            double norm = test_norm(list[p].values, list[p].rows * list[p].cols) / (1 - 0.9);
            sum += norm * norm;
        }
        CHECK(stats.grad_norm > 5);
        CHECK(fabs(sqrt(sum) - (i ? 0.5 : stats.grad_norm)) <= 1e-4 * stats.grad_norm);
        msae_trainer_free(&trainer);
    }
    free(x);
}

static void expect_bad_desc(const char *what, const msae_train_desc *desc) {
    msae_trainer trainer;
    msae_error error;
    test_note("%s", what);
    memset(&error, 0, sizeof error);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_trainer_init(&trainer, desc, &error));
    CHECK(error.code == MSAE_ERROR_ARGUMENT && error.message[0] && !strchr(error.message, '\n'));
    msae_trainer_free(&trainer);
}

static void descriptors_that_make_no_sense(void) {
    msae_train_desc desc;
#define BAD(change)                               \
    do {                                          \
        desc = test_desc(&test_recipes[0], D, N); \
        change;                                   \
        expect_bad_desc(#change, &desc);          \
    } while (0)
    BAD(desc.model.n_latents = 0);
    BAD(desc.lr = -1);
    BAD(desc.lr = NAN);
    BAD(desc.lr = INFINITY);
    BAD(desc.beta1 = 1);
    BAD(desc.beta1 = -0.5f);
    BAD(desc.beta2 = 1.5f);
    BAD(desc.beta2 = -0.5f);
    BAD(desc.eps = -2);
    BAD(desc.eps = INFINITY);
    BAD(desc.weight_decay = -0.5f);
    BAD(desc.weight_decay = INFINITY);
    BAD(desc.clip = NAN);
    BAD(desc.clip = -0.5f);
    BAD(desc.sparse_weight = NAN);
    BAD(desc.sparse_weight = INFINITY);
    BAD(desc.sparse_weight = 0.1f); /* topk has none */
    BAD(desc.bandwidth = -1);
    BAD(desc.bandwidth = INFINITY);
    BAD((desc.batch = SIZE_MAX / 3, desc.model.recipe = MSAE_RECIPE_BATCHTOPK));
    BAD((desc.batch = SIZE_MAX / 256, desc.model.recipe = MSAE_RECIPE_BATCHTOPK));
#if SIZE_MAX > UINT32_MAX
    BAD((desc.batch = (size_t)UINT32_MAX + 1, desc.model.k = 1));
#endif
    BAD(desc.loss = MSAE_LOSS_COUNT);
    BAD(desc.schedule = MSAE_SCHEDULE_COUNT);
    BAD(desc.scaling = MSAE_SCALING_COUNT);
    BAD(desc.start = MSAE_START_COUNT);
    BAD(desc.start = (msae_start)-1);
    BAD(desc.warmup = NAN);
    BAD(desc.warmup = INFINITY);
    BAD(desc.warmup = -0.5f);
    BAD(desc.warmup = 1.5f);
    BAD(desc.warmup = 0.7f); /* with the 0.4 of the decay */
    BAD(desc.decay = NAN);
    BAD(desc.decay = -INFINITY);
    BAD(desc.decay = -0.25f);
    BAD(desc.decay = 0.98f);
    BAD((desc.warmup = 0.5f, desc.decay = 0.5001f));
    BAD((desc.warmup = 3e38f, desc.decay = 3e38f));
    BAD(desc.revivals = MSAE_MAX_REVIVALS + 1);
    BAD(desc.revivals = -2);
    BAD(desc.revivals = -2147483647);
#undef BAD
}

/* A field that the recipe or the schedule has no use for is named, and a resolved descriptor, where
   all have their defaults, can be used again. */
static void fields_of_other_recipes(void) {
    static const size_t levels[] = {4, N};
    static const float weights[] = {2};
    FOR_EACH_RECIPE(recipe) {
        const msae_recipe r = recipe->recipe;
        const int has_penalty = r == MSAE_RECIPE_RELU || r == MSAE_RECIPE_JUMPRELU;
        const int has_levels = !has_penalty && r != MSAE_RECIPE_TOPK && r != MSAE_RECIPE_BATCHTOPK;
        msae_train_desc desc, usual;
        msae_trainer trainer;
        msae_error error;
        test_note("%s", recipe->name);
        memset(&usual, 0, sizeof usual);
        usual.model.n_inputs = D;
        usual.model.n_latents = N;
        usual.model.recipe = r;
        CHECK_STATUS(MSAE_OK, msae_train_desc_resolve(&usual, &desc, &error));
        CHECK_STATUS(MSAE_OK, msae_train_desc_resolve(&desc, &desc, &error));
        if (CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, &error))) {
            msae_trainer again;
            CHECK_STATUS(MSAE_OK, msae_trainer_init(&again, &trainer.desc, &error));
            msae_trainer_free(&again);
        }
        msae_trainer_free(&trainer);
#define IDLE(applies, field, change)                                                 \
    do {                                                                             \
        desc = usual;                                                                \
        change;                                                                      \
        test_note("%s: %s", recipe->name, #change);                                  \
        CHECK_STATUS((applies) ? MSAE_OK : MSAE_ERROR_ARGUMENT,                      \
                     msae_trainer_init(&trainer, &desc, &error));                    \
        if (!(applies))                                                              \
            CHECK(strstr(error.message, msae_enum_name(MSAE_ENUM_RECIPE, (int)r)) && \
                  strstr(error.message, field));                                     \
        msae_trainer_free(&trainer);                                                 \
    } while (0)
        IDLE(!has_penalty, " k", desc.model.k = 3);
        IDLE(has_levels, "model.nesting", desc.model.nesting_start = 4);
        IDLE(has_levels, "model.nesting", (desc.model.nesting = levels, desc.model.n_levels = 2));
        if (!has_levels) {
            IDLE(0, "model.level_weights",
                 (desc.model.level_weights = weights, desc.model.n_level_weights = 1));
        }
        IDLE(r == MSAE_RECIPE_JUMPRELU, "model.threshold", desc.model.threshold = 0.2f);
        IDLE(r == MSAE_RECIPE_JUMPRELU, "bandwidth", desc.bandwidth = 0.2f);
        IDLE(has_penalty, "sparse_weight", desc.sparse_weight = 0.2f);
#undef IDLE
        desc = usual;
        desc.schedule = MSAE_SCHEDULE_LINEAR;
        desc.warmup = 0.1f;
        CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_trainer_init(&trainer, &desc, &error));
        CHECK(strstr(error.message, "linear") && strstr(error.message, "warmup"));
        desc.warmup = MSAE_OFF;
        CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, &error));
        msae_trainer_free(&trainer);
    }
    msae_train_desc both = test_desc(&test_recipes[0], D, N);
    both.model.nesting = levels;
    both.model.n_levels = COUNT(levels);
    both.model.nesting_start = 5;
    expect_bad_desc("two starts of the nesting", &both);
}

/* Weights, gradients and two moments, and a workspace that does not know the batch. */
static void memory_of_training(void) {
    FOR_EACH_RECIPE(recipe) {
        msae_train_desc desc = test_desc(recipe, 256, 2048);
        msae_trainer trainer;
        size_t small, large, parameters = (recipe->tied ? 1 : 2) * (size_t)256 * 2048;
        test_note("%s", recipe->name);
        desc.batch = 4096;
        CHECK_STATUS(MSAE_OK, msae_trainer_init_in(&trainer, &desc, NULL, &small, NULL));
        desc.batch = 1000000;
        CHECK_STATUS(MSAE_OK, msae_trainer_init_in(&trainer, &desc, NULL, &large, NULL));
        CHECK(small >= 4 * parameters * sizeof(float));
        CHECK(small <= 4 * parameters * sizeof(float) + ((size_t)64 << 20));
        if (!test_is_batch_topk(recipe->recipe)) CHECK(small == large);
    }
}

static void trainer_in_the_callers_memory(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    FOR_EACH_RECIPE(recipe) {
        msae_train_desc desc = desc_of(recipe);
        msae_trainer own, lent;
        size_t bytes = 0;
        test_heap heap = {0, 0, 0, 0, 0};
        desc.model.host.allocator = test_heap_allocator(&heap);
        if (!open_trainer(&own, recipe)) continue;
        memset(&lent, 0xa5, sizeof lent);
        CHECK_STATUS(MSAE_OK, msae_trainer_init_in(&lent, &desc, NULL, &bytes, NULL));
        CHECK(bytes > 0 && lent.memory == NULL && lent.model.encoder == NULL);
        unsigned char *block = (unsigned char *)test_alloc(bytes + 1);
        size_t too_few = bytes - 1;
        CHECK_STATUS(MSAE_ERROR_MEMORY,
                     msae_trainer_init_in(&lent, &desc, block + 1, &too_few, NULL));
        CHECK(too_few == bytes - 1);
        desc.lr = -1;
        CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_trainer_init_in(&lent, &desc, NULL, &bytes, NULL));
        CHECK(bytes == 0);
        bytes = too_few + 1;
        CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                     msae_trainer_init_in(&lent, &desc, block + 1, &bytes, NULL));
        CHECK(lent.memory == NULL && lent.model.encoder == NULL);
        desc.lr = 0.01f;
        if (CHECK_STATUS(MSAE_OK, msae_trainer_init_in(&lent, &desc, block + 1, &bytes, NULL))) {
            for (int i = 0; i < 2; i++) {
                CHECK_STATUS(MSAE_OK, msae_trainer_step(&own, x, ROWS, NULL, NULL));
                CHECK_STATUS(MSAE_OK, msae_trainer_step(&lent, x, ROWS, NULL, NULL));
            }
            CHECK(same_trainers(&own, &lent));
            CHECK(heap.allocations == 0);
            msae_trainer_free(&lent);
        }
        free(block);
        msae_trainer_free(&own);
    }
    free(x);
}

static void steps_allocate_nothing(void) {
    float *x = test_random_floats(1, ROWS * D, 1);
    FOR_EACH_RECIPE(recipe) {
        test_heap heap = {0, 0, 0, 0, 0};
        msae_train_desc desc = desc_of(recipe);
        msae_trainer trainer;
        test_note("%s", recipe->name);
        desc.model.host.allocator = test_heap_allocator(&heap);
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) continue;
        size_t before = heap.allocations;
        CHECK(before > 0);
        for (int i = 0; i < 2; i++)
            CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, ROWS, NULL, NULL));
        CHECK(heap.allocations == before);
        msae_trainer_free(&trainer);
        CHECK(heap.bytes == 0);
    }
    free(x);
}

/* Squares that float cannot hold, or that vanish in it, are still the loss's divisor. */
static void rows_of_any_size_have_a_loss(void) {
    static const float sizes[] = {1e-24f, 1e-10f, 1, 1e10f, 1e19f};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        msae_trainer trainer;
        msae_train_desc desc = test_desc(&test_recipes[0], 4, 8);
        float x[8] = {1, 2, -1, 3, 0.5f, 0, 0, -1};
        msae_data data = msae_data_view(x, 2, 4);
        msae_step_stats stats;
        for (size_t k = 0; k < 8; k++) x[k] *= sizes[i];
        for (int loss = MSAE_LOSS_NMSE; loss <= MSAE_LOSS_COSINE; loss += 2) {
            desc.loss = (msae_loss)loss;
            if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
            test_note("size %g, loss %d", (double)sizes[i], loss);
            memset(&stats, 0, sizeof stats);
            CHECK_STATUS(MSAE_OK,
                         msae_trainer_forward(&trainer, &data, NULL, 2, NULL, NULL, &stats, NULL));
            CHECK(stats.rows == 2 && stats.rows_left_out == 0);
            CHECK(stats.loss > 0.1 && stats.loss < 2);
            msae_trainer_free(&trainer);
        }
    }
}

/* Pre-activations of Inf - Inf: the loss is no number, whatever the rows' other losses are. */
static void a_loss_that_is_no_number_is_refused(void) {
    for (int activation = MSAE_ACTIVATION_IDENTITY; activation <= MSAE_ACTIVATION_ABS;
         activation++) {
        msae_trainer trainer;
        msae_train_desc desc = test_desc(&test_recipes[0], 2, 8);
        const float x[4] = {4, 4, 1, 2};
        msae_data data = msae_data_view(x, 2, 2);
        desc.loss = MSAE_LOSS_MSE;
        desc.model.activation = (msae_activation)activation;
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
        for (size_t i = 0; i < 16; i++) trainer.model.encoder[i] = i % 2 ? -3e38f : 3e38f;
        test_note("activation %d", activation);
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_trainer_gradients(&trainer, &data, NULL, 2, NULL, NULL));
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_trainer_forward(&trainer, &data, NULL, 2, NULL, NULL, NULL, NULL));
        msae_trainer_free(&trainer);
    }
}

/* Activity counts once for each step taken, however often its gradients were computed. */
static void activity_counts_once_a_step(void) {
    msae_trainer trainer;
    msae_train_desc desc = test_desc(&test_recipes[0], 4, 8);
    const float x[8] = {1, 0.5f, 0, 0, -1, 0.5f, 0, 0};
    msae_data data = msae_data_view(x, 2, 4);
    desc.loss = MSAE_LOSS_COSINE; /* a row without a reconstruction: tiles run twice */
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
    for (size_t i = 0; i < 32; i++) trainer.model.encoder[i] = i == 0;
    for (int i = 0; i < 3; i++) {
        CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&trainer, &data, NULL, 2, NULL, NULL));
    }
    CHECK_STATUS(MSAE_OK, msae_trainer_update(&trainer, NULL, NULL));
    CHECK(trainer.workspace->period_rows == 2);
    for (size_t j = 0; j < 8; j++) CHECK(trainer.workspace->fired[j] == (j == 0));
    msae_trainer_free(&trainer);
}

int main(void) {
    RUN(two_halves_are_one_step);
    RUN(gradients_from_elsewhere);
    RUN(rows_by_their_numbers);
    RUN(gradients_of_parts_add_up);
    RUN(bad_gradients_change_nothing);
    RUN(decoder_rows_are_unit);
    RUN(threshold_of_batchtopk);
    RUN(a_batch_beyond_the_descriptor);
    RUN(bad_rows_are_refused);
    RUN(bad_rows_are_skipped_on_request);
    RUN(far_rows_are_left_out_on_request);
    RUN(limits_of_norms);
    RUN(batches_of_bad_rows_only);
    RUN(rows_without_a_loss_are_left_out);
    RUN(rows_of_any_size_have_a_loss);
    RUN(a_loss_that_is_no_number_is_refused);
    RUN(activity_counts_once_a_step);
    RUN(dead_latents_are_counted);
    RUN(dead_latents_of_full_windows);
    RUN(updates_without_gradients);
    RUN(gradients_along_the_decoder);
    RUN(zero_reconstructions_without_backward);
    RUN(epoch_schedules);
    RUN(published_factors);
    RUN(cosine_schedule);
    RUN(beyond_the_last_epoch);
    RUN(the_factor_scales_the_learning_rate);
    RUN(every_row_once_an_epoch);
    RUN(every_order_is_as_likely);
    RUN(whole_runs);
    RUN(runs_that_are_stopped);
    RUN(mean_and_scale);
    RUN(statistics_of_many_rows);
    RUN(data_without_rows);
    RUN(geometric_median);
    RUN(defaults_of_a_run);
    RUN(clipping);
    RUN(descriptors_that_make_no_sense);
    RUN(fields_of_other_recipes);
    RUN(memory_of_training);
    RUN(trainer_in_the_callers_memory);
    RUN(steps_allocate_nothing);
    return test_finish();
}
