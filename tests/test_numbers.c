/* Difficult numbers: what is not finite is refused and leaves no trace; what is only very large,
   very small or all the same is right or refused, never NaN in silence. */
#include "metrics.h"

#include <float.h>

enum { D = 19, N = 37, ROWS = 9, MOST_LATENTS = 130 };

/* What every case of a recipe on a path starts from: a model that has taken two steps. */
typedef struct subject {
    msae_trainer trainer;
    float x[ROWS * D];
} subject;

static msae_train_desc desc_on(const test_recipe *recipe, msae_simd simd) {
    msae_train_desc desc = test_desc(recipe, D, N);
    desc.batch = ROWS;
    desc.model.host.simd = simd;
    return desc;
}

static int open_subject(subject *s, const msae_train_desc *desc) {
    uint64_t seed = 11;
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&s->trainer, desc, NULL))) return 0;
    test_fill(&seed, s->x, ROWS * D, 1);
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&s->trainer, s->x, ROWS, NULL, NULL));
    }
    return 1;
}

/* All that a step changes, one after the other. */
typedef struct state {
    float numbers[3 * (2 * N * D + D + 2 * N) + 1];
    size_t count;
    uint64_t counters[7];
    uint32_t fired[MOST_LATENTS];
} state;

static void take_state(const msae_trainer *trainer, state *now) {
    const msae_parameters all[] = {test_weights(&trainer->model), trainer->moment1,
                                   trainer->moment2};
    const struct msae_train_workspace *ws = trainer->workspace;
    memset(now, 0, sizeof *now);
    for (size_t p = 0; p < COUNT(all); p++) {
        test_parameter list[TEST_MAX_PARAMETERS];
        const size_t count = test_list(&trainer->model, &all[p], list);
        for (size_t i = 0; i < count; i++) {
            const size_t size = list[i].rows * list[i].cols;
            memcpy(now->numbers + now->count, list[i].values, size * sizeof(float));
            now->count += size;
        }
    }
    now->numbers[now->count++] = trainer->model.threshold;
    now->counters[0] = trainer->step;
    now->counters[1] = trainer->rows;
    now->counters[2] = trainer->model.history.steps;
    now->counters[3] = trainer->model.history.rows;
    now->counters[4] = ws->period_steps;
    now->counters[5] = ws->period_rows;
    now->counters[6] = ws->dead;
    memcpy(now->fired, ws->fired, trainer->model.n_latents * sizeof *ws->fired);
}

static int same_state(const msae_trainer *trainer, const state *before) {
    static state now;
    take_state(trainer, &now);
    return memcmp(&now, before, sizeof now) == 0;
}

static int all_finite(const msae_trainer *trainer) {
    static state now;
    int finite = 1;
    take_state(trainer, &now);
    for (size_t i = 0; i < now.count; i++) finite &= test_is_finite((double)now.numbers[i]);
    return finite;
}

/* The status is a refusal that says so, with a line of text. */
#define CHECK_REFUSED(call)                                      \
    do {                                                         \
        msae_error error;                                        \
        memset(&error, 0, sizeof error);                         \
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE, call);               \
        CHECK(error.code == MSAE_ERROR_NOT_FINITE);              \
        CHECK(error.message[0] && strstr(error.message, "Inf")); \
    } while (0)

/* ---------------------------------------------------------------------------------------------
   Steps that are refused
   ------------------------------------------------------------------------------------------ */

static float bits(uint32_t value) {
    float number;
    memcpy(&number, &value, sizeof number);
    return number;
}

/* NaN and Inf of both signs. */
static const uint32_t not_finite[] = {0x7fc00000u, 0xffc00000u, 0x7f800000u, 0xff800000u};

/* Ways to spoil a model or the next batch; each is undone by copying the good bytes back. */
typedef struct poison {
    const char *name;
    void (*spoil)(msae_model *model, float *x, uint32_t what);
    int overflows; /* all numbers are finite until the step multiplies them */
} poison;

static void spoil_encoder(msae_model *model, float *x, uint32_t what) {
    (void)x;
    model->encoder[(N - 1) * D + 3] = bits(what);
}

static void spoil_decoder(msae_model *model, float *x, uint32_t what) {
    (void)x;
    model->decoder[5 * D + 2] = bits(what);
}

static void spoil_pre_bias(msae_model *model, float *x, uint32_t what) {
    (void)x;
    model->pre_bias[D - 1] = bits(what);
}

static void spoil_latent_bias(msae_model *model, float *x, uint32_t what) {
    (void)x;
    model->latent_bias[N - 1] = bits(what);
}

static void spoil_threshold(msae_model *model, float *x, uint32_t what) {
    (void)x;
    if (model->log_threshold)
        model->log_threshold[7] = bits(what);
    else
        spoil_latent_bias(model, x, what);
}

static void spoil_row(msae_model *model, float *x, uint32_t what) {
    (void)model;
    x[3 * D + 4] = bits(what);
}

/* Products with a latent's first two weights that float does not hold; nothing else of the row
   counts, not even under normalize. */
static void overflow(msae_model *model, float *x, float first, float second) {
    for (size_t r = 0; r < ROWS; r++) {
        memset(x + r * D, 0, D * sizeof *x);
        x[r * D] = 50;
        x[r * D + 1] = -50;
    }
    memset(model->encoder + 9 * D, 0, D * sizeof *x);
    model->encoder[9 * D] = first;
    model->encoder[9 * D + 1] = second;
}

/* Inf - Inf: a NaN whose sign is the processor's choice, so that ReLU may take it for inactive. */
static void overflow_both_ways(msae_model *model, float *x, uint32_t what) {
    (void)what;
    overflow(model, x, 3e38f, 3e38f);
}

static void overflow_downwards(msae_model *model, float *x, uint32_t what) {
    (void)what;
    overflow(model, x, -3e38f, 3e38f);
}

static void overflow_upwards(msae_model *model, float *x, uint32_t what) {
    (void)what;
    overflow(model, x, 3e38f, -3e38f);
}

static void overflow_decoder(msae_model *model, float *x, uint32_t what) {
    (void)x, (void)what;
    for (size_t i = 0; i < N * D; i++) model->decoder[i] = i % 3 ? 2e38f : -1e38f;
    for (size_t i = 0; i < ROWS * D; i++) x[i] *= 1e3f;
}

static void overflow_when_centred(msae_model *model, float *x, uint32_t what) {
    (void)what;
    model->mean[6] = -3e38f;
    x[2 * D + 6] = 3e38f;
}

static const poison poisons[] = {
    {"encoder", spoil_encoder, 0},
    {"decoder", spoil_decoder, 0},
    {"pre_bias", spoil_pre_bias, 0},
    {"latent_bias", spoil_latent_bias, 0},
    {"log_threshold", spoil_threshold, 0},
    {"row", spoil_row, 0},
    {"Inf - Inf", overflow_both_ways, 1},
    {"below -FLT_MAX", overflow_downwards, 1},
    {"above FLT_MAX", overflow_upwards, 1},
    {"reconstruction", overflow_decoder, 1},
    {"row off the mean", overflow_when_centred, 1},
};

static void restore(subject *s, const subject *good, const state *before) {
    const msae_parameters weights = test_weights(&s->trainer.model);
    test_parameter list[TEST_MAX_PARAMETERS];
    const size_t count = test_list(&s->trainer.model, &weights, list);
    const float *from = before->numbers;
    for (size_t i = 0; i < count; i++) {
        memcpy(list[i].values, from, list[i].rows * list[i].cols * sizeof(float));
        from += list[i].rows * list[i].cols;
    }
    memset(s->trainer.model.mean, 0, D * sizeof(float));
    memcpy(s->x, good->x, sizeof s->x);
}

/* Both halves on a spoiled subject: refused, nothing changed, and after the repair the next step is
   that of a run that never met it. */
static void check_refused(subject *s, subject *never, const char *where) {
    static state before, spoiled;
    take_state(&s->trainer, &before);
    for (size_t p = 0; p < COUNT(poisons); p++) {
        for (size_t w = 0; w < COUNT(not_finite); w++) {
            if (poisons[p].overflows && w > 0) continue;
            test_note("%s, %s %08x", where, poisons[p].name, (unsigned)not_finite[w]);
            poisons[p].spoil(&s->trainer.model, s->x, not_finite[w]);
            take_state(&s->trainer, &spoiled);
            CHECK_REFUSED(msae_trainer_step(&s->trainer, s->x, ROWS, NULL, &error));
            CHECK(same_state(&s->trainer, &spoiled));
            restore(s, never, &before);
            CHECK(same_state(&s->trainer, &before));
        }
    }
    test_note("%s, the next step", where);
    CHECK_STATUS(MSAE_OK, msae_trainer_step(&s->trainer, s->x, ROWS, NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_trainer_step(&never->trainer, never->x, ROWS, NULL, NULL));
    take_state(&never->trainer, &before);
    CHECK(same_state(&s->trainer, &before));
}

static void steps_that_meet_nan_change_nothing(void) {
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            static subject s, never;
            char where[64];
            const msae_train_desc desc = desc_on(recipe, simd);
            snprintf(where, sizeof where, "%s, %s", msae_enum_name(MSAE_ENUM_SIMD, (int)simd),
                     recipe->name);
            test_note("%s", where);
            if (!open_subject(&s, &desc) || !open_subject(&never, &desc)) continue;
            check_refused(&s, &never, where);
            msae_trainer_free(&s.trainer);
            msae_trainer_free(&never.trainer);
        }
    }
}

/* Three workers in turns, the last task first. */
static void run_backwards(void *user, size_t tasks, msae_task task, void *context) {
    (void)user;
    for (size_t i = tasks; i-- > 0;) task(context, i, i % 3);
}

/* A latent of any worker's block: the refusal does not depend on who finds it. */
static void nan_in_any_block(void) {
    enum { MANY = 300 };
    const msae_parallel three = {run_backwards, NULL, 3};
    float *x = test_random_floats(5, 40 * D, 1);
    FOR_EACH_RECIPE(recipe) {
        msae_train_desc desc = test_desc(recipe, D, MANY);
        msae_trainer trainer;
        desc.model.host.parallel = three;
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) continue;
        for (size_t j = 0; j < MANY; j += 23) {
            test_note("%s, latent %zu", recipe->name, j);
            trainer.model.latent_bias[j] = bits(0xffc00000u);
            CHECK_REFUSED(msae_trainer_step(&trainer, x, 40, NULL, &error));
            trainer.model.latent_bias[j] = 0;
        }
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, 40, NULL, NULL));
        msae_trainer_free(&trainer);
    }
    free(x);
}

/* Gradients written between the halves: not finite, or finite with squares that are not. */
static void gradients_that_cannot_be_squared(void) {
    static const uint32_t bad[] = {
        0x7fc00000u, 0xffc00000u, 0x7f800000u, 0xff800000u, 0x7f7fffffu /* FLT_MAX */,
        0x65000000u /* 3.8e22 */};
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            static subject s, never;
            static state before;
            msae_train_desc desc = desc_on(recipe, simd);
            test_parameter list[TEST_MAX_PARAMETERS];
            desc.clip = MSAE_OFF; /* nothing comes between the gradient and its square */
            if (!open_subject(&s, &desc) || !open_subject(&never, &desc)) continue;
            msae_data data = msae_data_view(s.x, ROWS, D);
            const size_t count = test_list(&s.trainer.model, &s.trainer.grad, list);
            take_state(&s.trainer, &before);
            CHECK_STATUS(MSAE_OK,
                         msae_trainer_gradients(&s.trainer, &data, NULL, ROWS, NULL, NULL));
            for (size_t i = 0; i < count; i++) {
                for (size_t w = 0; w < COUNT(bad); w++) {
                    float *last = list[i].values + list[i].rows * list[i].cols - 1;
                    const float good = *last;
                    test_note("%s, %s, %s %08x", msae_enum_name(MSAE_ENUM_SIMD, (int)simd),
                              recipe->name, list[i].name, (unsigned)bad[w]);
                    *last = bits(bad[w]);
                    CHECK_REFUSED(msae_trainer_update(&s.trainer, NULL, &error));
                    CHECK(same_state(&s.trainer, &before));
                    *last = good;
                }
            }
            test_note("%s, %s, the next step", msae_enum_name(MSAE_ENUM_SIMD, (int)simd),
                      recipe->name);
            CHECK_STATUS(MSAE_OK, msae_trainer_update(&s.trainer, NULL, NULL));
            CHECK_STATUS(MSAE_OK, msae_trainer_step(&never.trainer, never.x, ROWS, NULL, NULL));
            take_state(&never.trainer, &before);
            CHECK(same_state(&s.trainer, &before));
            msae_trainer_free(&s.trainer);
            msae_trainer_free(&never.trainer);
        }
    }
}

/* The largest gradient that is taken has a second moment that float holds, without clipping; with
   it, a bias may have any finite gradient. */
static void largest_gradients(void) {
    FOR_EACH_PATH(simd) {
        for (int clipped = 0; clipped < 2; clipped++) {
            static subject s;
            msae_train_desc desc = desc_on(&test_recipes[0], simd);
            const float large = clipped ? 1e37f : 8e18f;
            msae_step_stats stats;
            test_note("%s, clipped %d", msae_enum_name(MSAE_ENUM_SIMD, (int)simd), clipped);
            desc.clip = clipped ? 1 : MSAE_OFF;
            if (!open_subject(&s, &desc)) continue;
            msae_data data = msae_data_view(s.x, ROWS, D);
            memset(&stats, 0, sizeof stats);
            CHECK_STATUS(MSAE_OK,
                         msae_trainer_gradients(&s.trainer, &data, NULL, ROWS, &stats, NULL));
            const float moment = s.trainer.moment2.latent_bias[4];
            s.trainer.grad.latent_bias[4] = -large;
            CHECK_STATUS(MSAE_OK, msae_trainer_update(&s.trainer, &stats, NULL));
            CHECK(fabs(stats.grad_norm / (double)large - 1) <= 1e-6);
            const double used = clipped ? 1 : (double)large;
            const double want = 0.999 * (double)moment + (1 - (double)0.999f) * used * used;
            CHECK(fabs((double)s.trainer.moment2.latent_bias[4] / want - 1) <= 1e-4);
            CHECK(all_finite(&s.trainer));
            msae_trainer_free(&s.trainer);
        }
    }
}

/* ---------------------------------------------------------------------------------------------
   Data of any scale
   ------------------------------------------------------------------------------------------ */

enum { SET = 60, EPOCHS = 2 };

/* Trains on rows of size 2^exponent. */
static msae_status train_at(msae_trainer *trainer, const msae_train_desc *desc, float *x,
                            int exponent, msae_error *error) {
    uint64_t seed = 3;
    msae_data data = msae_data_view(x, SET, D);
    test_fill(&seed, x, SET * D, 1);
    for (size_t i = 0; i < SET * D; i++) x[i] = ldexpf(x[i] + (i % D == 2), exponent);
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(trainer, desc, NULL))) return MSAE_ERROR_MEMORY;
    return test_fit(trainer, &data, NULL, NULL, error);
}

static int close_to(double a, double b) {
    return fabs(a - b) <= 1e-5 * (1e-3 + fabs(b));
}

/* Codes, reconstructions and metrics of one model, trained at another scale. */
static void check_scaled(const msae_model *one, const float *x, const msae_model *other,
                         const float *scaled, int exponent) {
    static const size_t ks[] = {2, 5};
    static float want[2 * SET * D], got[2 * SET * D];
    msae_metrics a[2], b[2];
    msae_eval_desc eval;
    msae_code codes_a[5], codes_b[5];
    const msae_data data_a = msae_data_view(x, SET, D), data_b = msae_data_view(scaled, SET, D);
    void *workspace = test_alloc(msae_workspace_bytes(one, SET));
    size_t differ = 0;
    memset(&eval, 0, sizeof eval);
    eval.ks = ks;
    eval.n_ks = 2;
    for (size_t r = 0; r < SET; r++) {
        const size_t count = test_encode(one, workspace, x + r * D, 5, codes_a);
        CHECK(test_encode(other, workspace, scaled + r * D, 5, codes_b) == count);
        CHECK(memcmp(codes_a, codes_b, count * sizeof *codes_a) == 0);
    }
    CHECK_STATUS(MSAE_OK, msae_forward(one, workspace, x, SET, ks, 2, want, NULL));
    CHECK_STATUS(MSAE_OK, msae_forward(other, workspace, scaled, SET, ks, 2, got, NULL));
    for (size_t i = 0; i < COUNT(want); i++) differ += got[i] != ldexpf(want[i], exponent);
    CHECK(differ == 0);
    CHECK_STATUS(MSAE_OK, msae_evaluate(one, &data_a, &eval, COUNT(a), a, NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_evaluate(other, &data_b, &eval, COUNT(b), b, NULL, NULL));
    for (size_t i = 0; i < 2; i++) {
        CHECK(close_to(b[i].fvu_row, a[i].fvu_row) && close_to(b[i].fvu_set, a[i].fvu_set));
        CHECK(close_to(b[i].nmse, a[i].nmse) && close_to(b[i].nmae, a[i].nmae));
        CHECK(close_to(b[i].cs, a[i].cs) && b[i].l0 == a[i].l0 && b[i].ndn == a[i].ndn);
    }
    free(workspace);
}

/* Powers of two change no bit of what the model sees: 2^60 is 1e18, 2^100 1e30. */
static void any_scale_trains_alike(void) {
    static const int exponents[] = {-90, -60, 60, 100, 118};
    static float x[SET * D], scaled[SET * D];
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            msae_train_desc desc = desc_on(recipe, simd);
            msae_trainer one, other;
            static state want;
            desc.epochs = EPOCHS;
            desc.geometric_median = recipe->tied;
            CHECK_STATUS(MSAE_OK, train_at(&one, &desc, x, 0, NULL));
            take_state(&one, &want);
            for (size_t e = 0; e < COUNT(exponents); e++) {
                test_note("%s, %s, 2^%d", msae_enum_name(MSAE_ENUM_SIMD, (int)simd), recipe->name,
                          exponents[e]);
                CHECK_STATUS(MSAE_OK, train_at(&other, &desc, scaled, exponents[e], NULL));
                CHECK(same_state(&other, &want));
                CHECK(other.model.scale == ldexpf(one.model.scale, -exponents[e]));
                check_scaled(&one.model, x, &other.model, scaled, exponents[e]);
                msae_trainer_free(&other);
            }
            msae_trainer_free(&one);
        }
    }
}

/* Denormal rows and rows at the end of float have no scale that float holds. */
static void scales_beyond_float_are_refused(void) {
    static const struct {
        msae_scaling scaling;
        int exponent;
    } beyond[] = {
        {MSAE_SCALING_RMS, -140},  {MSAE_SCALING_RMS, 127},  {MSAE_SCALING_PAPER, -70},
        {MSAE_SCALING_PAPER, 100}, {MSAE_SCALING_PAPER, 66}, {MSAE_SCALING_PAPER, -66},
    };
    static float x[SET * D];
    float mean[D], scale = -7;
    for (size_t i = 0; i < D; i++) mean[i] = -5;
    for (size_t e = 0; e < COUNT(beyond); e++) {
        msae_train_desc desc = desc_on(&test_recipes[0], MSAE_SIMD_AUTO);
        msae_trainer trainer;
        msae_error error;
        msae_data data = msae_data_view(x, SET, D);
        test_note("scaling %d, 2^%d", beyond[e].scaling, beyond[e].exponent);
        desc.scaling = beyond[e].scaling;
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     train_at(&trainer, &desc, x, beyond[e].exponent, &error));
        CHECK(strstr(error.message, "spread") != NULL);
        CHECK(trainer.step == 0 && !trainer.has_statistics && trainer.model.scale == 1);
        msae_trainer_free(&trainer);
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     test_data_statistics(&data, beyond[e].scaling, 0, NULL, mean, &scale, NULL));
        CHECK(scale == -7 && mean[3] == -5);
        CHECK_STATUS(MSAE_OK,
                     test_data_statistics(&data, MSAE_SCALING_NONE, 0, NULL, mean, &scale, NULL));
        CHECK(scale == 1);
        scale = -7;
        for (size_t i = 0; i < D; i++) mean[i] = -5;
    }
}

/* Without scaling, whatever comes in: a step is refused and changes nothing, or it is finite and
   has something to learn from. */
static void rows_as_they_come(void) {
    static float x[SET * D];
    FOR_EACH_PATH(simd) {
        for (int loss = MSAE_LOSS_NMSE; loss < MSAE_LOSS_COUNT; loss++) {
            size_t taken = 0, refused = 0;
            for (int exponent = -145; exponent <= 127; exponent += 8) {
                static state before;
                msae_train_desc desc = desc_on(&test_recipes[0], simd);
                msae_trainer trainer;
                msae_step_stats stats;
                uint64_t seed = 4;
                msae_error error;
                test_note("%s, %s, 2^%d", msae_enum_name(MSAE_ENUM_SIMD, (int)simd),
                          msae_enum_name(MSAE_ENUM_LOSS, (int)loss), exponent);
                desc.loss = (msae_loss)loss;
                if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
                test_fill(&seed, x, ROWS * D, 1);
                for (size_t i = 0; i < ROWS * D; i++) x[i] = ldexpf(x[i], exponent);
                take_state(&trainer, &before);
                memset(&stats, 0, sizeof stats);
                msae_status status = msae_trainer_step(&trainer, x, ROWS, &stats, &error);
                if (status == MSAE_OK) {
                    taken++;
                    /* a cosine may have no reconstruction; mse's gradient is as small as x^2 */
                    const int nothing = loss == MSAE_LOSS_COSINE && stats.rows_left_out == ROWS;
                    CHECK(test_is_finite(stats.loss) && test_is_finite(stats.grad_norm));
                    CHECK((stats.loss > 0) == !nothing && all_finite(&trainer));
                    CHECK(stats.grad_norm > 0 || nothing ||
                          (loss == MSAE_LOSS_MSE && exponent < -60));
                } else {
                    refused++;
                    CHECK(status == MSAE_ERROR_NOT_FINITE && error.message[0]);
                    CHECK(same_state(&trainer, &before));
                }
                if (exponent >= -17 && exponent <= 23) CHECK_STATUS(MSAE_OK, status);
                msae_trainer_free(&trainer);
            }
            test_note("%s, loss %d", msae_enum_name(MSAE_ENUM_SIMD, (int)simd), loss);
            CHECK(taken > 6 && refused > 0);
        }
    }
}

/* ---------------------------------------------------------------------------------------------
   Inference and analysis
   ------------------------------------------------------------------------------------------ */

enum { MANY_ROWS = 70, BAD_ROW = 66 }; /* in the second tile */

/* Rows and weights that are finite, and one row whose product with them is not. */
static void codes_that_overflow(void) {
    static float x[MANY_ROWS * D], z[MANY_ROWS * N], recon[MANY_ROWS * D];
    static const size_t ks[] = {3};
    static const float rows[][2] = {{3e38f, 3e38f}, {3e38f, -3e38f}, {-3e38f, 3e38f}};
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            msae_train_desc desc = desc_on(recipe, simd);
            msae_code codes[MANY_ROWS * 3];
            size_t counts[MANY_ROWS];
            msae_error error;
            msae_model model;
            msae_eval_desc eval;
            msae_metrics metrics;
            msae_data data = msae_data_view(x, MANY_ROWS, D);
            memset(&eval, 0, sizeof eval);
            eval.ks = ks;
            eval.n_ks = 1;
            if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL))) continue;
            void *workspace = test_alloc(msae_workspace_bytes(&model, MANY_ROWS));
            for (size_t w = 0; w < COUNT(rows); w++) {
                test_note("%s, %s, weights %zu", msae_enum_name(MSAE_ENUM_SIMD, (int)simd),
                          recipe->name, w);
                memset(x, 0, sizeof x);
                x[BAD_ROW * D] = 50;
                x[BAD_ROW * D + 1] = -50;
                memset(model.encoder, 0, N * D * sizeof(float));
                memset(model.decoder, 0, N * D * sizeof(float));
                model.encoder[9 * D] = rows[w][0];
                model.encoder[9 * D + 1] = rows[w][1];
                size_t count = 1;
                CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                             msae_encode(&model, workspace, x + BAD_ROW * D, 3, codes, &count));
                CHECK(count == 0);
                CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                             msae_encode_rows(&model, workspace, x, MANY_ROWS, 3,
                                              &(msae_rows){codes, counts, 3}, &error));
                CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                             msae_encode_dense(&model, workspace, x, MANY_ROWS, 3, z, &error));
                CHECK(error.position == BAD_ROW);
                CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                             msae_forward(&model, workspace, x, MANY_ROWS, ks, 1, recon, &error));
                CHECK(error.position == BAD_ROW);
                CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                             msae_evaluate(&model, &data, &eval, 1, &metrics, NULL, &error));
                CHECK(error.position == BAD_ROW && strstr(error.message, "row 66 gives a NaN"));
                CHECK_STATUS(MSAE_OK, msae_encode_rows(&model, workspace, x, BAD_ROW, 3,
                                                       &(msae_rows){codes, counts, 3}, NULL));
            }
            /* finite codes of a row whose reconstruction is not */
            if (!recipe->normalize && recipe->soft_cap == 0 && !recipe->tied) {
                test_note("%s, %s, decoder", msae_enum_name(MSAE_ENUM_SIMD, (int)simd),
                          recipe->name);
                model.encoder[9 * D] = 1;
                model.encoder[9 * D + 1] = -1;
                model.decoder[9 * D + 5] = 3e38f;
                CHECK(test_encode(&model, workspace, x + BAD_ROW * D, 1, codes) == 1);
                CHECK(codes[0].latent == 9 && codes[0].value == 100);
                CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                             msae_forward(&model, workspace, x, MANY_ROWS, ks, 1, recon, &error));
                CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                             msae_evaluate(&model, &data, &eval, 1, &metrics, NULL, &error));
                CHECK(error.position == BAD_ROW);
                msae_decode(&model, codes, 1, NULL, recon);
                CHECK(test_magnitude((double)recon[5]) == TEST_INFINITY && recon[4] == 0);
            }
            free(workspace);
            msae_model_free(&model);
        }
    }
}

/* Overlap and names see directions alone, however long the rows are. */
static void directions_of_any_length(void) {
    enum { WORDS = 30 };
    static const int exponents[] = {-120, -70, 70, 120};
    FOR_EACH_PATH(simd) {
        msae_train_desc desc = desc_on(&test_recipes[0], simd);
        msae_model model;
        msae_name want[N], names[N];
        double overlap, as_it_is, other;
        float *words = test_random_floats(6, WORDS * D, 1), *scaled = test_floats(WORDS * D);
        float *decoder = test_floats(N * D);
        msae_data plain = msae_data_view(words, WORDS, D), data = msae_data_view(scaled, WORDS, D);
        if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL))) return;
        memcpy(decoder, model.decoder, N * D * sizeof(float));
        CHECK_STATUS(MSAE_OK, msae_decoder_overlap(&model, 1, &overlap, NULL));
        CHECK_STATUS(MSAE_OK, msae_decoder_overlap(&model, 0, &as_it_is, NULL));
        CHECK(as_it_is < overlap); /* rows begin at a tenth of unit length */
        CHECK_STATUS(MSAE_OK, msae_name_latents(&model, &plain, NULL, want, NULL));
        for (size_t e = 0; e < COUNT(exponents); e++) {
            const int up = exponents[e];
            test_note("%s, 2^%d", msae_enum_name(MSAE_ENUM_SIMD, (int)simd), up);
            for (size_t i = 0; i < N * D; i++) {
                model.decoder[i] = ldexpf(decoder[i], i / D % 2 ? up : 0);
            }
            for (size_t i = 0; i < WORDS * D; i++) scaled[i] = ldexpf(words[i], up);
            CHECK_STATUS(MSAE_OK, msae_decoder_overlap(&model, 1, &other, NULL));
            CHECK(close_to(other, overlap));
            for (size_t i = 0; i < N * D; i++) model.decoder[i] = ldexpf(decoder[i], up / 4);
            CHECK_STATUS(MSAE_OK, msae_decoder_overlap(&model, 0, &other, NULL));
            CHECK(close_to(ldexp(other, -(up / 4) * 4), as_it_is));
            for (size_t i = 0; i < N * D; i++) {
                model.decoder[i] = ldexpf(decoder[i], i / D % 2 ? up : 0);
            }
            CHECK_STATUS(MSAE_OK, msae_name_latents(&model, &data, NULL, names, NULL));
            for (size_t j = 0; j < N; j++) {
                CHECK(names[j].word == want[j].word && close_to(names[j].score, want[j].score));
            }
        }
        /* a row of zeros has no direction */
        memcpy(model.decoder, decoder, N * D * sizeof(float));
        memset(model.decoder + 4 * D, 0, D * sizeof(float));
        CHECK_STATUS(MSAE_OK, msae_decoder_overlap(&model, 1, &other, NULL));
        CHECK(other < overlap);
        CHECK_STATUS(MSAE_OK, msae_name_latents(&model, &plain, NULL, names, NULL));
        CHECK(names[4].word == MSAE_NO_WORD && names[4].score == 0);
        /* words at both ends of float, whose differences from their mean float does not hold */
        for (size_t i = 0; i < WORDS * D; i++) scaled[i] = i / D == 3 ? -3.4e38f : 3.4e38f;
        CHECK_STATUS(MSAE_OK, msae_name_latents(&model, &data, NULL, names, NULL));
        for (size_t j = 0; j < N; j++) CHECK(fabsf(names[j].score) <= 1.00001f);
        msae_model_free(&model);
        free(words);
        free(scaled);
        free(decoder);
    }
}

/* Metrics are ratios: of any size the same, to what doubles hold. */
static void metrics_of_any_size(void) {
    static const int exponents[] = {-126, -60, 60, 126};
    static float x[SET * D], recon[SET * D], scaled[SET * D], scaled_recon[SET * D], z[SET * N];
    uint64_t seed = 9;
    msae_metrics want, got;
    msae_model model;
    msae_train_desc desc = desc_on(&test_recipes[0], MSAE_SIMD_AUTO);
    double cknna = 0;
    test_fill(&seed, x, SET * D, 0.9f);
    test_fill(&seed, recon, SET * D, 0.9f);
    test_fill(&seed, z, SET * N, 1);
    for (size_t i = 0; i < SET * D; i++) { /* few bits, so that the smallest floats hold them */
        x[i] = roundf(x[i] * 64) / 64;
        recon[i] = roundf(recon[i] * 64) / 64;
    }
    want = test_measure(x, recon, z, SET, D, N);
    for (size_t e = 0; e < COUNT(exponents); e++) {
        test_note("2^%d", exponents[e]);
        for (size_t i = 0; i < SET * D; i++) {
            scaled[i] = ldexpf(x[i], exponents[e]);
            scaled_recon[i] = ldexpf(recon[i], exponents[e]);
        }
        got = test_measure(scaled, scaled_recon, z, SET, D, N);
        CHECK(close_to(got.fvu_row, want.fvu_row) && close_to(got.fvu_set, want.fvu_set));
        CHECK(close_to(got.fvu_row_std, want.fvu_row_std) && close_to(got.cs, want.cs));
        CHECK(close_to(got.nmse, want.nmse) && close_to(got.nmae, want.nmae));
    }
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL))) return;
    cknna = test_cknna(&model, scaled, D, z, N, SET);
    CHECK(test_is_nan(cknna)); /* 2^252 is no float */
    msae_model_free(&model);
}

/* ---------------------------------------------------------------------------------------------
   Smallest sizes, and numbers that are all the same
   ------------------------------------------------------------------------------------------ */

typedef enum kind { RANDOM, EQUAL_ROWS, CONSTANT_ROWS, ZERO_ROWS, DENORMALS, KINDS } kind;

static void fill_kind(float *x, size_t rows, size_t d, kind which) {
    uint64_t seed = 21;
    test_fill(&seed, x, rows * d, 1);
    for (size_t i = 0; i < rows * d; i++) {
        if (which == EQUAL_ROWS) x[i] = (float)(i % d) + 0.3f;
        if (which == CONSTANT_ROWS) x[i] = (float)(i / d) + 0.7f;
        if (which == ZERO_ROWS) x[i] = 0;
        if (which == DENORMALS) x[i] = (float)(i % 7) * 1e-42f;
    }
}

/* A whole run, then everything that can be asked of its model: all of it finite. */
static void check_smallest(const msae_train_desc *desc, const float *x, size_t rows) {
    const size_t d = desc->model.n_inputs, n = desc->model.n_latents, ks[] = {n};
    msae_trainer trainer;
    msae_error error;
    msae_metrics metrics;
    msae_eval_desc eval;
    msae_data data = msae_data_view(x, rows, d);
    float *recon = test_floats(rows * d);
    msae_code *codes = (msae_code *)test_alloc(n * sizeof *codes);
    memset(&eval, 0, sizeof eval);
    eval.ks = ks;
    eval.n_ks = 1;
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, desc, NULL))) return;
    const msae_model *model = &trainer.model;
    void *workspace = test_alloc(msae_workspace_bytes(model, rows));
    const msae_status status = test_fit(&trainer, &data, NULL, NULL, &error);
    /* denormal rows have no scale, and without one no gradient */
    if (status != MSAE_OK) CHECK(status == MSAE_ERROR_NOT_FINITE && x[1] < 1e-40f);
    CHECK(all_finite(&trainer) && test_is_finite((double)model->scale));
    for (size_t r = 0; r < rows; r++) {
        const size_t count = test_encode(model, workspace, x + r * d, n, codes);
        CHECK(count <= n);
        for (size_t e = 0; e < count; e++) CHECK(test_is_finite((double)codes[e].value));
    }
    CHECK_STATUS(MSAE_OK, msae_forward(model, workspace, x, rows, ks, 1, recon, NULL));
    for (size_t i = 0; i < rows * d; i++) CHECK(test_is_finite((double)recon[i]));
    CHECK_STATUS(MSAE_OK, msae_evaluate(model, &data, &eval, 1, &metrics, NULL, NULL));
    CHECK(metrics.rows == rows && test_is_finite(metrics.l0));
    free(workspace);
    free(codes);
    free(recon);
    msae_trainer_free(&trainer);
}

static void smallest_sizes(void) {
    static const struct {
        size_t d, n, rows, batch;
    } shapes[] = {{1, 1, 1, 1}, {1, 5, 3, 2}, {7, 1, 3, 1}, {7, 5, 1, 8}, {3, MOST_LATENTS, 4, 1}};
    static float x[64];
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            for (size_t i = 0; i < COUNT(shapes); i++) {
                for (int which = RANDOM; which < KINDS; which++) {
                    msae_train_desc desc = test_desc(recipe, shapes[i].d, shapes[i].n);
                    static const size_t every[] = {1, 2, 3, 4, 5};
                    test_note("%s, %s, shape %zu, kind %d",
                              msae_enum_name(MSAE_ENUM_SIMD, (int)simd), recipe->name, i, which);
                    desc.model.host.simd = simd;
                    desc.batch = shapes[i].batch;
                    desc.epochs = 3;
                    if (shapes[i].n == 5 &&
                        desc.model.nesting_start >
                            0) { /* a level for each latent, most of them idle */
                        desc.model.nesting = every;
                        desc.model.nesting_start = 0;
                        desc.model.n_levels = 5;
                    }
                    fill_kind(x, shapes[i].rows, shapes[i].d, (kind)which);
                    check_smallest(&desc, x, shapes[i].rows);
                }
            }
        }
    }
}

/* What normalize takes off a constant row is all there is of it. */
static void constant_rows_come_back(void) {
    static const size_t ks[] = {N};
    static const float sizes[] = {1e-42f, 1e-30f, 1, 1e18f, 3e38f};
    FOR_EACH_PATH(simd) {
        static float x[COUNT(sizes) * D], recon[COUNT(sizes) * D];
        msae_train_desc desc = desc_on(&test_recipes[2], simd);
        msae_model model;
        test_note("%s", msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
        if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL))) return;
        CHECK(model.normalize);
        test_randomize(&model, 5);
        void *workspace = test_alloc(msae_workspace_bytes(&model, COUNT(sizes)));
        for (size_t i = 0; i < COUNT(x); i++) x[i] = sizes[i / D];
        CHECK_STATUS(MSAE_OK, msae_forward(&model, workspace, x, COUNT(sizes), ks, 1, recon, NULL));
        CHECK(test_same(x, recon, COUNT(x)));
        free(workspace);
        msae_model_free(&model);
    }
}

/* A batch of one row many times has that row's gradient. */
static void duplicate_rows(void) {
    enum { COPIES = 16 };
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            msae_train_desc desc = desc_on(recipe, simd);
            msae_trainer once, often;
            static const size_t index[COPIES] = {0};
            float *x = test_random_floats(31, D, 1);
            msae_data data = msae_data_view(x, 1, D);
            test_parameter a[TEST_MAX_PARAMETERS], b[TEST_MAX_PARAMETERS];
            test_note("%s, %s", msae_enum_name(MSAE_ENUM_SIMD, (int)simd), recipe->name);
            desc.batch = COPIES;
            if (test_is_batch_topk(recipe->recipe)) desc.model.k = N; /* cuts no ties apart */
            if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&once, &desc, NULL))) continue;
            if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&often, &desc, NULL))) continue;
            CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&once, &data, NULL, 1, NULL, NULL));
            CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&often, &data, index, COPIES, NULL, NULL));
            const size_t count = test_list(&once.model, &once.grad, a);
            test_list(&often.model, &often.grad, b);
            for (size_t i = 0; i < count; i++) {
                CHECK(test_error(b[i].values, a[i].values, a[i].rows * a[i].cols) <= 2e-6);
            }
            msae_trainer_free(&once);
            msae_trainer_free(&often);
            free(x);
        }
    }
}

/* A decoder row of any length: the step refuses it or leaves it no longer than one. */
static void decoder_rows_of_any_length(void) {
    static const float lengths[] = {0, 1e-42f, 1e-30f, 1e-20f, 1e-8f, 1e5f, 1e15f, 1e20f, 3e38f};
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            for (size_t i = 0; i < COUNT(lengths); i++) {
                static subject s;
                static state before;
                msae_train_desc desc = desc_on(recipe, simd);
                test_note("%s, %s, length %g", msae_enum_name(MSAE_ENUM_SIMD, (int)simd),
                          recipe->name, (double)lengths[i]);
                if (!open_subject(&s, &desc)) continue;
                float *row = s.trainer.model.decoder + 3 * D;
                const double norm = test_norm(row, D);
                for (size_t c = 0; c < D; c++) {
                    row[c] = (float)((double)row[c] / norm * (double)lengths[i]);
                }
                take_state(&s.trainer, &before);
                const msae_status status = msae_trainer_step(&s.trainer, s.x, ROWS, NULL, NULL);
                if (lengths[i] <= 1) CHECK_STATUS(MSAE_OK, status);
                if (status == MSAE_OK) {
                    CHECK(all_finite(&s.trainer) && test_norm(row, D) <= 1.1);
                } else {
                    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, status);
                    CHECK(same_state(&s.trainer, &before));
                }
                msae_trainer_free(&s.trainer);
            }
        }
    }
}

/* Weights of zero give no codes and a step that is finite. */
static void weights_of_zero(void) {
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            static subject s;
            msae_code codes[N];
            msae_train_desc desc = desc_on(recipe, simd);
            test_note("%s, %s", msae_enum_name(MSAE_ENUM_SIMD, (int)simd), recipe->name);
            if (!open_subject(&s, &desc)) continue;
            msae_model *model = &s.trainer.model;
            memset(model->encoder, 0, N * D * sizeof(float));
            memset(model->decoder, 0, N * D * sizeof(float));
            memset(model->latent_bias, 0, N * sizeof(float));
            void *workspace = test_alloc(msae_workspace_bytes(model, 1));
            const size_t count = test_encode(model, workspace, s.x, N, codes);
            for (size_t e = 0; e < count; e++) CHECK(codes[e].value == 0);
            CHECK(count == 0 || recipe->activation == MSAE_ACTIVATION_IDENTITY);
            CHECK_STATUS(MSAE_OK, msae_trainer_step(&s.trainer, s.x, ROWS, NULL, NULL));
            CHECK(all_finite(&s.trainer));
            free(workspace);
            msae_trainer_free(&s.trainer);
        }
    }
}

/* The gradient through a soft cap, 1 - (z / c)^2, cancels where it is saturated: what is left of it
   is wrong by no more than the rounding of one. */
static void saturated_soft_cap(void) {
    static const double through[] = {0.1, 1, 3, 6, 8, 9, 10, 20, 1000};
    const double cap = 0.37f;
    FOR_EACH_PATH(simd) {
        for (size_t c = 0; c < 2 * COUNT(through); c++) {
            const size_t i = c / 2;
            const test_recipe *recipe = &test_recipes[c % 2 ? 5 : 9]; /* topk, jumprelu */
            msae_train_desc desc = test_desc(recipe, 2, 1);
            msae_trainer trainer;
            const float x[2] = {1, 0.5f};
            msae_data data = msae_data_view(x, 1, 2);
            test_note("%s, %s, v / c = %g", msae_enum_name(MSAE_ENUM_SIMD, (int)simd), recipe->name,
                      through[i]);
            if (recipe->recipe == MSAE_RECIPE_JUMPRELU) desc.model.threshold = 1e-9f;
            desc.model.host.simd = simd;
            desc.model.soft_cap = (float)cap;
            if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
            msae_model *model = &trainer.model;
            model->encoder[0] = (float)(through[i] * cap);
            model->encoder[1] = 0;
            model->decoder[0] = 0.8f;
            model->decoder[1] = -0.6f;
            const double t = tanh((double)model->encoder[0] / cap), z = cap * t;
            const double off[2] = {z * (double)model->decoder[0] - 1,
                                   z * (double)model->decoder[1] - 0.5};
            const double dz =
                2 / 1.25 *
                (off[0] * (double)model->decoder[0] + off[1] * (double)model->decoder[1]);
            CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&trainer, &data, NULL, 1, NULL, NULL));
            CHECK(fabs((double)trainer.grad.latent_bias[0] - dz * (1 - t * t)) <= 5e-7 * fabs(dz));
            msae_trainer_free(&trainer);
        }
    }
}

/* Doubles beyond float are Inf as float32, which every check then finds. */
static void doubles_beyond_float(void) {
    const double bad[] = {1e39, -1e39, 3.5e38, 1e308, HUGE_VAL, -HUGE_VAL};
    for (size_t i = 0; i < COUNT(bad); i++) {
        double x[6] = {1, -(double)FLT_MAX, 1e-300, 2, 3, 4};
        float out[6], mean[2], scale;
        msae_error error;
        msae_data data = msae_data_view(NULL, 3, 2);
        data.dtype = MSAE_F64;
        data.values = x;
        test_note("%g", bad[i]);
        CHECK_STATUS(MSAE_OK, msae_data_check(&data, NULL));
        msae_data_read(&data, 0, 3, out);
        CHECK(out[0] == 1 && out[1] == -FLT_MAX && out[2] == 0 && out[5] == 4);
        x[5] = bad[i];
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_data_check(&data, &error));
        CHECK(error.position == 2);
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     test_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, mean, &scale, NULL));
    }
}

/* A row of zeros has no norm to weigh the L1 term with: it counts for the other losses alone. */
static void rows_of_zeros_under_l1(void) {
    FOR_EACH_PATH(simd) {
        msae_train_desc desc = desc_on(&test_recipes[8], simd);
        msae_trainer trainer;
        msae_step_stats both, one;
        float x[2 * D];
        uint64_t seed = 8;
        test_note("%s", msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
        desc.loss = MSAE_LOSS_MSE;
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
        test_fill(&seed, x, D, 1);
        memset(x + D, 0, D * sizeof *x);
        for (size_t j = 0; j < N; j++) trainer.model.latent_bias[j] = 0.5f;
        msae_data data = msae_data_view(x, 2, D);
        CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&trainer, &data, NULL, 1, &one, NULL));
        CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&trainer, &data, NULL, 2, &both, NULL));
        CHECK(close_to(both.sparse_loss, one.sparse_loss) && one.sparse_loss > 0);
        CHECK(both.l0 > one.l0 / 2 && both.rows == 2);
        CHECK_STATUS(MSAE_OK, msae_trainer_update(&trainer, NULL, NULL));
        CHECK(all_finite(&trainer));
        msae_trainer_free(&trainer);
    }
}

int main(void) {
    RUN(doubles_beyond_float);
    RUN(rows_of_zeros_under_l1);
    RUN(steps_that_meet_nan_change_nothing);
    RUN(nan_in_any_block);
    RUN(gradients_that_cannot_be_squared);
    RUN(largest_gradients);
    RUN(any_scale_trains_alike);
    RUN(scales_beyond_float_are_refused);
    RUN(rows_as_they_come);
    RUN(codes_that_overflow);
    RUN(directions_of_any_length);
    RUN(metrics_of_any_size);
    RUN(smallest_sizes);
    RUN(constant_rows_come_back);
    RUN(duplicate_rows);
    RUN(decoder_rows_of_any_length);
    RUN(weights_of_zero);
    RUN(saturated_soft_cap);
    return test_finish();
}
