/* The gradient of every recipe and every parameter against central differences of a loss computed
   here in double, straight from the formulas. */
#include "test.h"

#define LIMIT 1e-5
#define STEP 1e-5

/* ---------------------------------------------------------------------------------------------
   The loss once more: one row, one level and one sum at a time. Which latents are kept and on which
   side of their gate they are is taken at the unperturbed point, so that the loss is smooth.
   ------------------------------------------------------------------------------------------ */

typedef struct reference {
    const msae_train_desc *desc; /* resolved */
    const msae_model *model;     /* sizes, levels and options */
    size_t rows;
    double *encoder, *decoder, *pre_bias, *latent_bias, *log_threshold; /* tied: the same memory */
    double *x, *mean;                                                   /* [rows, d], [d] */
    size_t *level; /* [rows, n]: the first level that keeps the latent, n_levels when none does */
    double *slope; /* [rows, n]: of the activation, 1, 0 or -1 */
    double *bump;  /* [rows, n]: added to the latents */
} reference;

/* Deviation (n - 1) of one row and its mean; {1, 0} unless the model normalizes. */
static void row_moments(const reference *r, const double *x, double *deviation, double *mean) {
    size_t d = r->model->n_inputs;
    *deviation = 1;
    *mean = 0;
    if (!r->model->normalize) return;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < d; i++) sum += x[i];
    *mean = sum / (double)d;
    for (size_t i = 0; i < d; i++) squares += (x[i] - *mean) * (x[i] - *mean);
    *deviation = sqrt(squares / (double)(d - 1));
}

static double pre_activation(const reference *r, const double *x, size_t j) {
    size_t d = r->model->n_inputs;
    double deviation, mean, pre = r->latent_bias[j];
    row_moments(r, x, &deviation, &mean);
    for (size_t i = 0; i < d; i++) {
        double input = r->model->normalize ? (x[i] - mean) / (deviation + 1e-5) : x[i];
        pre += (input - r->pre_bias[i]) * r->encoder[j * d + i];
    }
    return pre;
}

/* Latents z [n] of row b at the last level, without the bumps. */
static void row_latents(const reference *r, size_t b, double *z) {
    size_t d = r->model->n_inputs, n = r->model->n_latents;
    double cap = (double)r->model->soft_cap;
    for (size_t j = 0; j < n; j++) {
        double value = r->slope[b * n + j] * pre_activation(r, r->x + b * d, j);
        z[j] = cap > 0 ? cap * tanh(value / cap) : value;
        if (r->level[b * n + j] == r->model->n_levels) z[j] = 0;
    }
}

/* The part of row b in the loss of a level. `u` [d] is the reconstruction in normalized space. */
static double row_loss(const reference *r, size_t b, const double *u) {
    size_t d = r->model->n_inputs;
    const double *x = r->x + b * d;
    double deviation, mean, error = 0, spread = 0, xx = 0, rr = 0, xr = 0;
    row_moments(r, x, &deviation, &mean);
    for (size_t i = 0; i < d; i++) {
        double recon = u[i] * deviation + mean;
        error += (recon - x[i]) * (recon - x[i]);
        spread += (r->mean[i] - x[i]) * (r->mean[i] - x[i]);
        xx += x[i] * x[i];
        rr += recon * recon;
        xr += x[i] * recon;
    }
    double rows = (double)r->rows;
    switch (r->desc->loss) {
    case MSAE_LOSS_NMSE:
        return error / spread / rows;
    case MSAE_LOSS_MSE:
        return error / (double)d / rows;
    default:
        return (1 - xr / sqrt(xx * rr)) * (1 - xr / sqrt(xx * rr)) / rows;
    }
}

/* The part of row b, with latents z (none below zero), in L1 (relu) or L0 (jumprelu). */
static double row_sparse_loss(const reference *r, size_t b, const double *z) {
    size_t d = r->model->n_inputs;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < d; i++) squares += r->x[b * d + i] * r->x[b * d + i];
    for (size_t j = 0; j < r->model->n_latents; j++) {
        if (r->model->recipe == MSAE_RECIPE_RELU) sum += z[j] / sqrt(squares);
        if (r->model->recipe == MSAE_RECIPE_JUMPRELU) sum += z[j] > exp(r->log_threshold[j]);
    }
    return sum / (double)r->rows;
}

static double total_loss(const reference *r) {
    size_t d = r->model->n_inputs, n = r->model->n_latents;
    double loss = 0, sparse = 0, weights = 0;
    double *u = (double *)test_alloc(d * sizeof *u), *z = (double *)test_alloc(n * sizeof *z);
    for (size_t l = 0; l < r->model->n_levels; l++) weights += (double)r->model->level_weights[l];
    for (size_t b = 0; b < r->rows; b++) {
        row_latents(r, b, z);
        sparse += row_sparse_loss(r, b, z);
        for (size_t l = 0; l < r->model->n_levels; l++) {
            for (size_t i = 0; i < d; i++) u[i] = r->pre_bias[i];
            for (size_t j = 0; j < n; j++) {
                double value = (r->level[b * n + j] <= l ? z[j] : 0) + r->bump[b * n + j];
                for (size_t i = 0; i < d; i++) u[i] += value * r->decoder[j * d + i];
            }
            loss += (double)r->model->level_weights[l] / weights * row_loss(r, b, u);
        }
    }
    free(u);
    free(z);
    return loss + (double)r->desc->sparse_weight * sparse;
}

/* Central difference along one number of the reference. */
static double derivative(const reference *r, double *value) {
    double kept = *value;
    *value = kept + STEP;
    double above = total_loss(r);
    *value = kept - STEP;
    double below = total_loss(r);
    *value = kept;
    return (above - below) / (2 * STEP);
}

/* Latents that rank before `at` of `count`: larger ones, and equal ones with a lower index. */
static size_t rank_of(const double *keys, size_t count, size_t at) {
    size_t rank = 0;
    for (size_t i = 0; i < count; i++) {
        rank += keys[i] > keys[at] || (keys[i] == keys[at] && i < at);
    }
    return rank;
}

/* Selection and gates of the point where the reference stands, which must be far enough from every
   gate for float and double to stand on the same side. */
static void freeze(reference *r) {
    const msae_model *model = r->model;
    size_t d = model->n_inputs, n = model->n_latents, count = r->rows * n;
    int absolute = model->activation == MSAE_ACTIVATION_ABS;
    double *pre = (double *)test_alloc(count * sizeof *pre);
    double *keys = (double *)test_alloc(count * sizeof *keys);
    for (size_t at = 0; at < count; at++) {
        pre[at] = pre_activation(r, r->x + at / n * d, at % n);
        keys[at] = absolute ? fabs(pre[at]) : pre[at];
        CHECK(fabs(pre[at]) > 1e-6);
    }
    for (size_t at = 0; at < count; at++) {
        double positive = pre[at] > 0 ? 1 : 0;
        size_t level = 0;
        switch (model->recipe) {
        case MSAE_RECIPE_RELU:
            break;
        case MSAE_RECIPE_JUMPRELU:
            level = !(pre[at] > exp(r->log_threshold[at % n]));
            break;
        case MSAE_RECIPE_BATCHTOPK:
            level = rank_of(keys, count, at) >= model->k * r->rows;
            break;
        case MSAE_RECIPE_MSAE_WIDTH: /* the first width that reaches the latent */
            while (at % n >= model->nesting[level]) level++;
            if (rank_of(keys, count, at) >= model->k * r->rows) level = model->n_levels;
            break;
        default:
            while (level < model->n_levels &&
                   rank_of(keys + at / n * n, n, at % n) >= model->nesting[level]) {
                level++;
            }
        }
        r->level[at] = level;
        if (absolute) {
            r->slope[at] = 2 * positive - 1;
        } else {
            r->slope[at] = model->activation == MSAE_ACTIVATION_IDENTITY ? 1 : positive;
        }
    }
    free(pre);
    free(keys);
}

/* The straight-through gradient of latent j's threshold, which no difference can show; the sum over
   the rows of -theta/w rect((v - theta)/w) dLoss/dz - 1/w rect((z - theta)/w) lambda/B. */
static double threshold_gradient(const reference *r, size_t j) {
    double theta = exp(r->log_threshold[j]), width = (double)r->desc->bandwidth, sum = 0;
    for (size_t b = 0; b < r->rows; b++) {
        size_t at = b * r->model->n_latents + j;
        double v = fmax(0, pre_activation(r, r->x + b * r->model->n_inputs, j));
        double z = v > theta ? v : 0;
        if (fabs(v - theta) < width / 2) sum -= theta / width * derivative(r, &r->bump[at]);
        if (fabs(z - theta) < width / 2) {
            sum -= 1 / width * (double)r->desc->sparse_weight / (double)r->rows;
        }
    }
    return sum;
}

/* ---------------------------------------------------------------------------------------------
   Comparing
   ------------------------------------------------------------------------------------------ */

static double *widen(const float *values, size_t count) {
    double *wide = (double *)test_alloc(count * sizeof *wide);
    for (size_t i = 0; i < count; i++) wide[i] = values ? (double)values[i] : 0;
    return wide;
}

static reference reference_of(const msae_trainer *trainer, const float *x, size_t rows) {
    const msae_model *m = &trainer->model;
    size_t d = m->n_inputs, n = m->n_latents;
    reference r;
    r.desc = &trainer->desc;
    r.model = m;
    r.rows = rows;
    r.encoder = widen(m->encoder, n * d);
    r.decoder = m->tied ? r.encoder : widen(m->decoder, n * d);
    r.pre_bias = widen(m->pre_bias, d);
    r.latent_bias = widen(m->latent_bias, n);
    r.log_threshold = widen(m->log_threshold, n);
    r.x = widen(x, rows * d);
    r.mean = widen(trainer->loss_mean, d);
    r.level = (size_t *)test_alloc(rows * n * sizeof *r.level);
    r.slope = widen(NULL, rows * n);
    r.bump = widen(NULL, rows * n);
    freeze(&r);
    return r;
}

static void reference_free(reference *r) {
    if (r->decoder != r->encoder) free(r->decoder);
    free(r->encoder);
    free(r->pre_bias);
    free(r->latent_bias);
    free(r->log_threshold);
    free(r->x);
    free(r->mean);
    free(r->level);
    free(r->slope);
    free(r->bump);
}

/* `values` are the reference's weights that belong to the gradient `got`; NULL for thresholds. */
static void compare(const reference *r, const test_parameter *got, double *values) {
    size_t count = got->rows * got->cols;
    float *want = test_floats(count);
    for (size_t i = 0; i < count; i++) {
        want[i] = (float)(values ? derivative(r, &values[i]) : threshold_gradient(r, i));
    }
    if (r->model->n_latents > 1) CHECK(test_norm(want, count) > 0);
    CHECK(test_error(got->values, want, count) <= LIMIT);
    free(want);
}

static void check_gradients(const test_recipe *recipe, msae_simd simd, size_t d, size_t n,
                            size_t rows) {
    char where[192];
    snprintf(
        where, sizeof where,
        "%s, d %zu, n %zu, rows %zu, loss %s, activation %d, tied %d, normalize %d, cap %g, %s",
        recipe->name, d, n, rows, msae_enum_name(MSAE_ENUM_LOSS, (int)recipe->loss),
        (int)recipe->activation, recipe->tied, recipe->normalize, (double)recipe->soft_cap,
        msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
    test_note("%s", where);
    msae_train_desc desc = test_desc(recipe, d, n);
    msae_trainer trainer;
    desc.model.host.simd = simd;
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
    test_randomize(&trainer.model, 11);
    float *x = test_random_floats(12, rows * d, 3 / sqrtf((float)d)),
          *mean = test_random_floats(13, d, 0.3f);
    memcpy(trainer.loss_mean, mean, d * sizeof *mean);
    msae_data data = msae_data_view(x, rows, d);
    msae_step_stats stats;
    memset(&stats, 0, sizeof stats);
    CHECK_STATUS(MSAE_OK, msae_trainer_gradients(&trainer, &data, NULL, rows, &stats, NULL));

    reference r = reference_of(&trainer, x, rows);
    double loss = total_loss(&r);
    CHECK(fabs(stats.loss - loss) <= LIMIT * loss);
    test_parameter list[TEST_MAX_PARAMETERS];
    size_t count = test_list(&trainer.model, &trainer.grad, list);
    for (size_t i = 0; i < count; i++) {
        const char *name = list[i].name;
        test_note("%s, %s", where, name);
        compare(&r, &list[i],
                strcmp(name, "encoder") == 0       ? r.encoder
                : strcmp(name, "decoder") == 0     ? r.decoder
                : strcmp(name, "pre_bias") == 0    ? r.pre_bias
                : strcmp(name, "latent_bias") == 0 ? r.latent_bias
                                                   : NULL);
    }
    reference_free(&r);
    msae_trainer_free(&trainer);
    free(x);
    free(mean);
}

/* Every loss, tied or not, normalized or not, capped or not. */
static void check_options(const char *name, msae_recipe kind, msae_activation activation) {
    test_recipe recipe = {name, kind, activation, MSAE_LOSS_DEFAULT, 0, 0, 0};
    for (int loss = MSAE_LOSS_NMSE; loss < MSAE_LOSS_COUNT; loss++) {
        for (int option = 0; option < 8; option++) {
            recipe.loss = (msae_loss)loss;
            recipe.tied = option & 1;
            recipe.normalize = option >> 1 & 1;
            recipe.soft_cap = option >> 2 & 1 ? 0.7f : 0;
            if (kind == MSAE_RECIPE_JUMPRELU && recipe.soft_cap > 0) continue;
            check_gradients(&recipe, MSAE_SIMD_AUTO, 7, 19, 6);
        }
    }
}

static void msae_uniform_weights(void) {
    check_options("msae-uw", MSAE_RECIPE_MSAE_UW, MSAE_ACTIVATION_RELU);
}

static void msae_reverse_weights_identity(void) {
    check_options("msae-rw", MSAE_RECIPE_MSAE_RW, MSAE_ACTIVATION_IDENTITY);
}

static void msae_abs(void) {
    check_options("msae-uw", MSAE_RECIPE_MSAE_UW, MSAE_ACTIVATION_ABS);
}

static void topk(void) {
    check_options("topk", MSAE_RECIPE_TOPK, MSAE_ACTIVATION_RELU);
}

static void topk_identity(void) {
    check_options("topk", MSAE_RECIPE_TOPK, MSAE_ACTIVATION_IDENTITY);
}

static void topk_abs(void) {
    check_options("topk", MSAE_RECIPE_TOPK, MSAE_ACTIVATION_ABS);
}

static void batchtopk(void) {
    check_options("batchtopk", MSAE_RECIPE_BATCHTOPK, MSAE_ACTIVATION_DEFAULT);
}

static void msae_balanced_weights(void) {
    check_options("msae", MSAE_RECIPE_MSAE, MSAE_ACTIVATION_RELU);
}

static void msae_widths(void) {
    check_options("msae-width", MSAE_RECIPE_MSAE_WIDTH, MSAE_ACTIVATION_DEFAULT);
}

static void relu_l1(void) {
    check_options("relu", MSAE_RECIPE_RELU, MSAE_ACTIVATION_DEFAULT);
}

static void jumprelu_l0(void) {
    check_options("jumprelu", MSAE_RECIPE_JUMPRELU, MSAE_ACTIVATION_DEFAULT);
}

/* Wider than a vector, more rows than a register tile, and single numbers. */
static void other_sizes(void) {
    static const size_t sizes[][3] = {{1, 1, 1}, {1, 9, 3}, {9, 1, 2}, {33, 17, 1}, {18, 40, 19}};
    FOR_EACH_PATH(simd) {
        FOR_EACH_RECIPE(recipe) {
            for (size_t i = 0; i < COUNT(sizes); i++) {
                if (sizes[i][0] == 1 && (recipe->normalize || recipe->loss == MSAE_LOSS_COSINE)) {
                    continue; /* no deviation; no angle but 0 and pi */
                }
                check_gradients(recipe, simd, sizes[i][0], sizes[i][1], sizes[i][2]);
            }
        }
    }
}

int main(void) {
    RUN(msae_uniform_weights);
    RUN(msae_reverse_weights_identity);
    RUN(msae_abs);
    RUN(topk);
    RUN(topk_identity);
    RUN(topk_abs);
    RUN(batchtopk);
    RUN(msae_balanced_weights);
    RUN(msae_widths);
    RUN(relu_l1);
    RUN(jumprelu_l0);
    RUN(other_sizes);
    return test_finish();
}
