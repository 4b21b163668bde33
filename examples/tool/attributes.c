/* Attributes of rows: correlations with their statistics, sweeps and ablations through a probe. See
   attributes.h. */
#include "attributes.h"

#include "audit.h"

#include <stdlib.h>

/* ---------------------------------------------------------------------------------------------
   Statistics
   ------------------------------------------------------------------------------------------ */

/* ln Gamma(x) for x > 0 (Stirling's series from 10 on); lgamma would write to a global. */
static double attribute_log_gamma(double x) {
    double product = 1, inverse;
    for (; x < 10; x += 1) product *= x;
    inverse = 1 / (x * x);
    return (x - 0.5) * log(x) - x + 0.91893853320467274178 +
           (1.0 / 12 - inverse * (1.0 / 360 - inverse * (1.0 / 1260 - inverse / 1680))) / x -
           log(product);
}

/* The continued fraction of the incomplete beta function (Lentz; DLMF 8.17.22). */
static double attribute_beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1), f;
    if (fabs(d) < tiny) d = tiny;
    f = d = 1 / d;
    for (int m = 1; m < 10000; m++) {
        const double odd = a + 2 * m;
        for (int half = 0; half < 2; half++) {
            const double term = half ? -(a + m) * (a + b + m) * x / (odd * (odd + 1))
                                     : m * (b - m) * x / ((odd - 1) * odd);
            d = 1 + term * d;
            c = 1 + term / c;
            if (fabs(d) < tiny) d = tiny;
            if (fabs(c) < tiny) c = tiny;
            d = 1 / d;
            f *= c * d;
        }
        if (fabs(c * d - 1) < 1e-15) break;
    }
    return f;
}

/* ln I_x(a, b), regularised; `rest` is 1 - x, told apart so that neither is lost in the other. */
static double attribute_log_beta(double a, double b, double x, double rest) {
    const double front =
        attribute_log_gamma(a + b) - attribute_log_gamma(a) - attribute_log_gamma(b);
    if (x <= 0) return -HUGE_VAL;
    if (rest <= 0) return 0;
    if (x < (a + 1) / (a + b + 2)) {
        return front + a * log(x) + b * log(rest) - log(a) + log(attribute_beta_fraction(a, b, x));
    }
    return log1p(-exp(front + a * log(x) + b * log(rest) - log(b)) *
                 attribute_beta_fraction(b, a, rest));
}

/* The z of which a normal variable stays within +-z with that probability. */
static double attribute_normal_bound(double confidence) {
    double low = 0, high = 40;
    for (int i = 0; i < 100; i++) {
        const double z = 0.5 * (low + high);
        if (erfc(z / 1.41421356237309504880) > 1 - confidence) {
            low = z;
        } else {
            high = z;
        }
    }
    return low;
}

/* ---------------------------------------------------------------------------------------------
   Correlations
   ------------------------------------------------------------------------------------------ */

enum { ATTRIBUTE_LATENTS = 128 }; /* of a task */

/* Sums over rows of a latent's values less its first one. */
typedef struct attribute_sums {
    double shift, sum[2], squares;
    size_t active[2];
} attribute_sums;

typedef struct attribute_correlating {
    const msae_model *model;
    const uint8_t *attribute;
    size_t n;
    int is_first; /* no row has been counted yet */
    audit_tile tile;
    float *z; /* [AUDIT_ROWS][n], the tile's codes */
    unsigned char *workspace;
    attribute_sums *sums;          /* [n] */
    attribute_correlation **order; /* [n] */
} attribute_correlating;

/* A block of latents over the rows of a tile. */
static void attribute_correlate_task(void *context, size_t task, size_t worker) {
    const attribute_correlating *job = (const attribute_correlating *)context;
    const size_t begin = task * ATTRIBUTE_LATENTS;
    const size_t end = audit_min(begin + ATTRIBUTE_LATENTS, job->n);
    int is_first = job->is_first;
    (void)worker;
    for (size_t r = 0; r < job->tile.rows; r++) {
        const uint8_t group = job->attribute[job->tile.row[r]];
        const float *z = job->z + r * job->n;
        if (group > 1) continue;
        for (size_t j = begin; j < end; j++) {
            attribute_sums *sums = &job->sums[j];
            double value;
            if (is_first) sums->shift = z[j];
            value = z[j] - sums->shift;
            sums->sum[group] += value;
            sums->squares += value * value;
            sums->active[group] += z[j] != 0;
        }
        is_first = 0;
    }
}

static attribute_correlation attribute_correlation_of(const attribute_sums *sums, uint32_t latent,
                                                      const size_t rows[2], double bound) {
    const double n0 = (double)rows[0], n1 = (double)rows[1], n = n0 + n1;
    const double total = sums->sum[0] + sums->sum[1];
    const double spread = sums->squares - total * total / n;
    attribute_correlation c;
    c.latent = latent;
    for (int g = 0; g < 2; g++) {
        c.mean[g] = sums->shift + sums->sum[g] / (double)rows[g];
        c.frequency[g] = (double)sums->active[g] / (double)rows[g];
    }
    c.r = c.low = c.high = c.p = c.log10_p = c.q = audit_nan();
    if (!(spread > 0)) return c;
    c.r = (sums->sum[1] / n1 - sums->sum[0] / n0) * sqrt(n0 * n1 / n / spread);
    if (c.r > 1) c.r = 1;
    if (c.r < -1) c.r = -1;
    c.log10_p = attribute_log_beta(0.5 * (n - 2), 0.5, (1 - c.r) * (1 + c.r), c.r * c.r) /
                2.30258509299404568402;
    c.p = pow(10, c.log10_p);
    if (n > 3 && fabs(c.r) < 1) {
        const double z = atanh(c.r), off = bound / sqrt(n - 3);
        c.low = tanh(z - off);
        c.high = tanh(z + off);
    } else if (n > 3) {
        c.low = c.high = c.r;
    }
    return c;
}

/* The larger p first. */
static int attribute_compare_p(const void *left, const void *right) {
    const double a = (*(attribute_correlation *const *)left)->log10_p;
    const double b = (*(attribute_correlation *const *)right)->log10_p;
    return (a < b) - (a > b);
}

/* q of the latents with a p (Benjamini and Hochberg 1995): from the largest p down, the least of
   p m / rank so far; m latents have one, and ranks count from the smallest. */
static void attribute_correct_p(attribute_correlation *results, size_t n,
                                attribute_correlation **order) {
    size_t count = 0;
    double least = 1;
    for (size_t j = 0; j < n; j++) {
        if (audit_is_finite(results[j].r)) order[count++] = &results[j];
    }
    qsort(order, count, sizeof *order, attribute_compare_p);
    for (size_t i = 0; i < count; i++) {
        const double q = order[i]->p * (double)count / (double)(count - i);
        if (q < least) least = q;
        order[i]->q = least;
    }
}

static void attribute_correlate_layout(void *context, audit_block *block) {
    attribute_correlating *job = (attribute_correlating *)context;
    const size_t rows = AUDIT_ROWS;
    job->tile.x = AUDIT_PLACE(block, float, audit_times(rows, job->model->n_inputs));
    job->workspace = AUDIT_PLACE(block, unsigned char, msae_workspace_bytes(job->model, rows));
    job->z = AUDIT_PLACE(block, float, audit_times(rows, job->n));
    job->sums = AUDIT_PLACE(block, attribute_sums, job->n);
    job->order = AUDIT_PLACE(block, attribute_correlation *, job->n);
}

static msae_status attribute_correlate_rows(attribute_correlating *job,
                                            const attribute_audit *audit, msae_error *error) {
    const msae_data *data = audit->data;
    const size_t tasks = (job->n - 1) / ATTRIBUTE_LATENTS + 1;
    memset(job->sums, 0, job->n * sizeof *job->sums);
    job->is_first = 1;
    for (size_t first = 0; first < data->rows; first += AUDIT_ROWS) {
        msae_error found;
        msae_status status = audit_read(&job->tile, data, first, error);
        if (status != MSAE_OK) return status;
        status = msae_encode_dense(job->model, job->workspace, job->tile.x, job->tile.rows,
                                   audit->k, job->z, &found);
        if (status != MSAE_OK) return audit_fail_tile(&job->tile, &found, error);
        audit_for(&job->model->parallel, tasks, attribute_correlate_task, job);
        for (size_t r = 0; r < job->tile.rows; r++) {
            if (job->attribute[job->tile.row[r]] <= 1) job->is_first = 0;
        }
    }
    return MSAE_OK;
}

/* Rows of either group, or that they are too few. */
static msae_status attribute_count_groups(const attribute_audit *audit, size_t rows[2],
                                          msae_error *error) {
    rows[0] = rows[1] = 0;
    for (size_t r = 0; r < audit->data->rows; r++) {
        const uint8_t group = audit->attribute[r];
        if (group <= 1 && audit_row_is_used(audit->data, r)) rows[group]++;
    }
    if (rows[0] > 0 && rows[1] > 0 && rows[0] + rows[1] >= 3) return MSAE_OK;
    return audit_fail_argument(error, "the attribute is the same on all rows");
}

msae_status attributes_correlate(const attribute_audit *audit, double confidence,
                                 attribute_correlation *results, msae_error *error) {
    const msae_allocator *allocator = &audit->model->allocator;
    audit_memory memory;
    attribute_correlating job;
    msae_status status = audit_check_rows(audit->model, audit->data, audit->k, error);
    size_t rows[2];
    if (status != MSAE_OK) return status;
    if (!(confidence >= 0 && confidence < 1)) {
        return audit_fail_argument(error, "the confidence is not within 0 and 1");
    }
    status = attribute_count_groups(audit, rows, error);
    if (status != MSAE_OK) return status;
    job.model = audit->model;
    job.attribute = audit->attribute;
    job.n = audit->model->n_latents;
    status = audit_take(&memory, allocator, attribute_correlate_layout, &job, error);
    if (status != MSAE_OK) return status;
    status = attribute_correlate_rows(&job, audit, error);
    if (status == MSAE_OK) {
        const double bound = attribute_normal_bound(confidence > 0 ? confidence : 0.95);
        for (size_t j = 0; j < job.n; j++) {
            results[j] = attribute_correlation_of(&job.sums[j], (uint32_t)j, rows, bound);
        }
        attribute_correct_p(results, job.n, job.order);
    }
    audit_give(&memory, allocator);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Sweeps and ablations: a decoded row moves along a latent's decoder row, and the probe is asked
   again

   A reconstruction is linear in each code: raw = base + value * decoder row * deviation / scale,
   so that no row is decoded twice.
   ------------------------------------------------------------------------------------------ */

enum { ATTRIBUTE_QUESTIONS = 256 }; /* that the probe answers at once */

/* A row of the tile, moved by `amount` along the decoder row of a latent. */
typedef struct attribute_question {
    size_t row; /* of the tile */
    uint32_t latent;
    float amount;
    size_t place; /* of the value that is swept, or in the list of latents */
} attribute_question;

typedef struct attribute_effects {
    const attribute_audit *audit;
    const uint32_t *latents;
    size_t n_latents;
    int is_sweep;        /* 1: of latents[0]; 0: each latent is taken out */
    const float *values; /* [steps], of a sweep */
    size_t steps;
    attribute_point *points;       /* of a sweep .. */
    attribute_ablation *ablations; /* .. and of ablations */
    size_t rows, of_group[2];      /* rows so far */

    audit_tile tile;
    unsigned char *encoding, *asking; /* workspaces of model and probe */
    size_t room;                      /* codes of a row */
    msae_code *codes;                 /* [AUDIT_ROWS][room] */
    size_t *counts;                   /* [AUDIT_ROWS] */
    float *value_of;                  /* [n]: a row's codes, else 0 */
    float *base;                      /* [AUDIT_ROWS][d]: reconstructions that questions move */
    float *deviation;                 /* [AUDIT_ROWS]: of the row, over the model's scale */
    float *base_p;                    /* [AUDIT_ROWS][classes] */
    attribute_question *questions;    /* [ATTRIBUTE_QUESTIONS] */
    float *x, *p;                     /* [ATTRIBUTE_QUESTIONS][d], [..][classes] */
    size_t asked;                     /* questions that wait */
} attribute_effects;

static void attribute_effects_layout(void *context, audit_block *block) {
    attribute_effects *e = (attribute_effects *)context;
    const msae_model *model = e->audit->model;
    const linear_probe *probe = e->audit->probe;
    const size_t rows = AUDIT_ROWS, most = ATTRIBUTE_QUESTIONS;
    const size_t d = model->n_inputs, classes = probe->n_classes;
    e->tile.x = AUDIT_PLACE(block, float, audit_times(rows, d));
    e->encoding = AUDIT_PLACE(block, unsigned char, msae_workspace_bytes(model, rows));
    e->asking = AUDIT_PLACE(block, unsigned char, linear_probe_workspace_bytes(probe, most));
    e->codes = AUDIT_PLACE(block, msae_code, audit_times(rows, e->room));
    e->counts = AUDIT_PLACE(block, size_t, rows);
    e->value_of = AUDIT_PLACE(block, float, model->n_latents);
    e->base = AUDIT_PLACE(block, float, audit_times(rows, d));
    e->deviation = AUDIT_PLACE(block, float, rows);
    e->base_p = AUDIT_PLACE(block, float, audit_times(rows, classes));
    e->questions = AUDIT_PLACE(block, attribute_question, most);
    e->x = AUDIT_PLACE(block, float, audit_times(most, d));
    e->p = AUDIT_PLACE(block, float, audit_times(most, classes));
}

static void attribute_decode_task(void *context, size_t task, size_t worker) {
    const attribute_effects *e = (const attribute_effects *)context;
    const msae_model *model = e->audit->model;
    const msae_code *codes = e->codes + task * e->room;
    float moments[2];
    (void)worker;
    msae_row_moments(model, e->tile.x + task * model->n_inputs, moments);
    msae_decode(model, codes, e->counts[task], moments, e->base + task * model->n_inputs);
    e->deviation[task] = moments[1] / model->scale;
}

static void attribute_move_task(void *context, size_t task, size_t worker) {
    const attribute_effects *e = (const attribute_effects *)context;
    const attribute_question *question = &e->questions[task];
    const size_t d = e->audit->model->n_inputs;
    const float *base = e->base + question->row * d;
    const float *direction = e->audit->model->decoder + question->latent * d;
    const float amount = question->amount * e->deviation[question->row];
    float *x = e->x + task * d;
    (void)worker;
    for (size_t i = 0; i < d; i++) x[i] = base[i] + amount * direction[i];
}

/* Takes the latent that is swept out of the codes. */
static void attribute_without(attribute_effects *e, size_t row) {
    msae_code *codes = e->codes + row * e->room;
    size_t kept = 0;
    for (size_t i = 0; i < e->counts[row]; i++) {
        if (codes[i].latent != e->latents[0]) codes[kept++] = codes[i];
    }
    e->counts[row] = kept;
}

static void attribute_add_point(attribute_effects *e, const attribute_question *question,
                                const float *p) {
    const uint8_t *attribute = e->audit->attribute;
    const unsigned group = attribute ? attribute[e->tile.row[question->row]] : 2;
    const double probability = p[e->audit->class_index];
    attribute_point *point = &e->points[question->place];
    point->probability += probability;
    if (group <= 1) point->of_group[group] += probability;
}

static void attribute_add_ablation(attribute_effects *e, const attribute_question *question,
                                   const float *p) {
    const size_t classes = e->audit->probe->n_classes;
    const size_t before = audit_argmax(e->base_p + question->row * classes, classes);
    const size_t after = audit_argmax(p, classes);
    attribute_ablation *ablation = &e->ablations[question->place];
    ablation->active++;
    if (after == before) return;
    ablation->flips++;
    ablation->gained += after == e->audit->class_index;
    ablation->lost += before == e->audit->class_index;
}

/* Has the questions that wait answered. */
static msae_status attribute_ask(attribute_effects *e, msae_error *error) {
    const size_t classes = e->audit->probe->n_classes;
    msae_status status;
    audit_for(&e->audit->model->parallel, e->asked, attribute_move_task, e);
    status = linear_probe_predict(e->audit->probe, e->asking, e->x, e->asked, e->p, error);
    for (size_t i = 0; i < e->asked && status == MSAE_OK; i++) {
        if (e->is_sweep) {
            attribute_add_point(e, &e->questions[i], e->p + i * classes);
        } else {
            attribute_add_ablation(e, &e->questions[i], e->p + i * classes);
        }
    }
    e->asked = 0;
    return status;
}

static msae_status attribute_wait(attribute_effects *e, size_t row, uint32_t latent, float amount,
                                  size_t place, msae_error *error) {
    attribute_question *question = &e->questions[e->asked++];
    question->row = row;
    question->latent = latent;
    question->amount = amount;
    question->place = place;
    return e->asked == ATTRIBUTE_QUESTIONS ? attribute_ask(e, error) : MSAE_OK;
}

/* The questions about a row: each value, or each latent that is active taken out. */
static msae_status attribute_question_row(attribute_effects *e, size_t row, msae_error *error) {
    const msae_code *codes = e->codes + row * e->room;
    msae_status status = MSAE_OK;
    for (size_t s = 0; s < e->steps && status == MSAE_OK; s++) {
        status = attribute_wait(e, row, e->latents[0], e->values[s], s, error);
    }
    if (e->is_sweep) return status;
    for (size_t i = 0; i < e->counts[row]; i++) e->value_of[codes[i].latent] = codes[i].value;
    for (size_t i = 0; i < e->n_latents && status == MSAE_OK; i++) {
        const float value = e->value_of[e->latents[i]];
        if (value != 0) status = attribute_wait(e, row, e->latents[i], -value, i, error);
    }
    for (size_t i = 0; i < e->counts[row]; i++) e->value_of[codes[i].latent] = 0;
    return status;
}

static msae_status attribute_effects_of_tile(attribute_effects *e, msae_error *error) {
    const attribute_audit *audit = e->audit;
    const size_t rows = e->tile.rows;
    const msae_rows codes_of = {e->codes, e->counts, e->room};
    msae_error found;
    msae_status status =
        msae_encode_rows(audit->model, e->encoding, e->tile.x, rows, audit->k, &codes_of, &found);
    if (status != MSAE_OK) return audit_fail_tile(&e->tile, &found, error);
    for (size_t r = 0; r < rows; r++) {
        const unsigned group = audit->attribute ? audit->attribute[e->tile.row[r]] : 2;
        e->rows++;
        if (group <= 1) e->of_group[group]++;
        if (e->is_sweep) attribute_without(e, r);
    }
    audit_for(&audit->model->parallel, rows, attribute_decode_task, e);
    if (!e->is_sweep) {
        status = linear_probe_predict(audit->probe, e->asking, e->base, rows, e->base_p, error);
    }
    for (size_t r = 0; r < rows && status == MSAE_OK; r++) {
        status = attribute_question_row(e, r, error);
    }
    return status == MSAE_OK ? attribute_ask(e, error) : status;
}

static msae_status attribute_check_effects(const attribute_effects *e, msae_error *error) {
    const attribute_audit *audit = e->audit;
    msae_status status;
    if (audit->model->weights != MSAE_F32) {
        return bytes_fail(error, MSAE_ERROR_UNSUPPORTED, MSAE_NO_POSITION,
                          "this needs float32 weights (load the model with widen)");
    }
    status = audit_check_rows(audit->model, audit->data, audit->k, error);
    if (status != MSAE_OK) return status;
    status = audit_check_width("probe", audit->probe->n_inputs, audit->data, error);
    if (status != MSAE_OK) return status;
    if (audit->class_index >= audit->probe->n_classes) {
        return audit_fail_argument(error, "the probe has no such class");
    }
    for (size_t i = 0; i < e->n_latents; i++) {
        if (e->latents[i] < audit->model->n_latents) continue;
        return bytes_fail(error, MSAE_ERROR_ARGUMENT, i, "the model has no latent %zu",
                          (size_t)e->latents[i]);
    }
    return MSAE_OK;
}

static msae_status attribute_run_effects(attribute_effects *e, msae_error *error) {
    const attribute_audit *audit = e->audit;
    const msae_allocator *allocator = &audit->model->allocator;
    audit_memory memory;
    msae_status status = attribute_check_effects(e, error);
    if (status != MSAE_OK) return status;
    e->room = audit->k > 0 ? audit->k : audit->model->n_latents;
    status = audit_take(&memory, allocator, attribute_effects_layout, e, error);
    if (status != MSAE_OK) return status;
    memset(e->value_of, 0, audit->model->n_latents * sizeof *e->value_of);
    for (size_t first = 0; first < audit->data->rows && status == MSAE_OK; first += AUDIT_ROWS) {
        status = audit_read(&e->tile, audit->data, first, error);
        if (status == MSAE_OK) status = attribute_effects_of_tile(e, error);
    }
    audit_give(&memory, allocator);
    return status;
}

msae_status attributes_sweep(const attribute_audit *audit, uint32_t latent, const float *values,
                             size_t steps, attribute_point *points, msae_error *error) {
    attribute_effects effects;
    msae_status status;
    memset(&effects, 0, sizeof effects);
    for (size_t s = 0; s < steps; s++) memset(&points[s], 0, sizeof *points);
    effects.audit = audit;
    effects.latents = &latent;
    effects.n_latents = 1;
    effects.is_sweep = 1;
    effects.values = values;
    effects.steps = steps;
    effects.points = points;
    status = attribute_run_effects(&effects, error);
    for (size_t s = 0; s < steps && status == MSAE_OK; s++) {
        if (!audit_is_finite(points[s].probability)) {
            return bytes_fail(error, MSAE_ERROR_NOT_FINITE, s, "value %zu gives a NaN or Inf", s);
        }
        points[s].value = values[s];
        points[s].probability /= (double)effects.rows;
        for (int g = 0; g < 2; g++) {
            points[s].of_group[g] = effects.of_group[g] > 0
                                        ? points[s].of_group[g] / (double)effects.of_group[g]
                                        : audit_nan();
        }
    }
    return status;
}

msae_status attributes_ablate(const attribute_audit *audit, const uint32_t *latents,
                              size_t n_latents, attribute_ablation *results, msae_error *error) {
    attribute_effects effects;
    memset(&effects, 0, sizeof effects);
    for (size_t i = 0; i < n_latents; i++) {
        memset(&results[i], 0, sizeof *results);
        results[i].latent = latents[i];
    }
    effects.audit = audit;
    effects.latents = latents;
    effects.n_latents = n_latents;
    effects.ablations = results;
    return attribute_run_effects(&effects, error);
}
