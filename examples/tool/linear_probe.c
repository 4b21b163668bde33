/* A linear probe: its fit by L-BFGS, its answers, and what it makes of reconstructions. See
   linear_probe.h. */
#include "linear_probe.h"

#include "audit.h"

/* ---------------------------------------------------------------------------------------------
   The fit: the mean cross-entropy plus l2 / 2 ||W||^2, by L-BFGS over all rows at once
   ------------------------------------------------------------------------------------------ */

#define LOGISTIC_L2 1e-6f
#define LOGISTIC_TOLERANCE 1e-5f
#define LOGISTIC_ITERATIONS 5000
#define LOGISTIC_ROWS ((size_t)512) /* of a block */
#define LOGISTIC_PAIRS 10           /* steps that L-BFGS remembers */
#define LOGISTIC_TILE ((size_t)128) /* rows that are asked about at once */

/* A fit in progress. Parameters are all weights [classes][d], then all biases [classes]; rows are
   of unit length less their mean, which the bias takes up in the end. */
typedef struct logistic_fit {
    msae_host host;
    size_t d, classes, rows, parameters;
    double l2;
    float *x;         /* [rows][d] */
    float *xt;        /* the same for each block [d][R] */
    uint32_t *labels; /* [rows] */
    double *mean;     /* [d] */

    float *weights;                   /* [classes][d], of the parameters being tried */
    float *p, *pt;                    /* of a block [R][classes], [classes][R] */
    float *product;                   /* [classes][d] */
    double *losses;                   /* [R] */
    unsigned char *workspace;         /* of the products .. */
    size_t workspace_bytes;           /* .. and its size */
    double *at, *gradient;            /* [parameters] */
    double *trial, *trial_gradient;   /* [parameters] */
    double *direction;                /* [parameters] */
    float *steps, *changes;           /* [pairs][parameters] of both */
    double curvature[LOGISTIC_PAIRS]; /* 1 / <step, change> */

    const double *evaluated; /* parameters of the evaluation under way .. */
    size_t first, count;     /* .. and its block of rows */
} logistic_fit;

static msae_product logistic_product(const float *a, size_t rows, const float *b, size_t cols,
                                     size_t depth, float *c) {
    msae_product product;
    memset(&product, 0, sizeof product);
    product.a = a;
    product.b = b;
    product.c = c;
    product.rows = rows;
    product.cols = cols;
    product.depth = depth;
    return product;
}

/* A block's rows; NULL while there is no memory yet. */
static const float *logistic_block(const logistic_fit *f, const float *x) {
    return x ? x + f->first * f->d : NULL;
}

/* The logits of a block of rows, p = x W^T. */
static msae_product logistic_logits(const logistic_fit *f) {
    return logistic_product(logistic_block(f, f->x), f->count, f->weights, f->classes, f->d, f->p);
}

/* A block's gradient, (p - y)^T x, from both transposed. */
static msae_product logistic_gradient(const logistic_fit *f) {
    msae_product product =
        logistic_product(f->pt, f->classes, logistic_block(f, f->xt), f->d, f->count, f->product);
    product.a_stride = product.b_stride = LOGISTIC_ROWS;
    return product;
}

/* Room for the products of all blocks: the last one has fewer rows. */
static msae_status logistic_workspace(logistic_fit *f, msae_error *error) {
    const size_t last = (f->rows - 1) % LOGISTIC_ROWS + 1;
    const size_t counts[2] = {audit_min(f->rows, LOGISTIC_ROWS), last};
    f->first = 0;
    f->workspace_bytes = 0;
    for (int i = 0; i < 4; i++) {
        msae_product product;
        msae_status status;
        size_t bytes;
        f->count = counts[i / 2];
        product = i % 2 ? logistic_gradient(f) : logistic_logits(f);
        status = msae_multiply(&product, &f->host, NULL, &bytes, error);
        if (status != MSAE_OK) return status;
        if (bytes > f->workspace_bytes) f->workspace_bytes = bytes;
    }
    return MSAE_OK;
}

static void logistic_layout(void *context, audit_block *block) {
    logistic_fit *f = (logistic_fit *)context;
    const size_t d = f->d, classes = f->classes, parameters = f->parameters;
    const size_t blocks = (f->rows - 1) / LOGISTIC_ROWS + 1;
    const size_t pairs = audit_times(LOGISTIC_PAIRS, parameters);
    f->x = AUDIT_PLACE(block, float, audit_times(f->rows, d));
    f->labels = AUDIT_PLACE(block, uint32_t, f->rows);
    f->mean = AUDIT_PLACE(block, double, d);
    f->weights = AUDIT_PLACE(block, float, audit_times(classes, d));
    f->p = AUDIT_PLACE(block, float, audit_times(LOGISTIC_ROWS, classes));
    f->pt = AUDIT_PLACE(block, float, audit_times(LOGISTIC_ROWS, classes));
    f->xt = AUDIT_PLACE(block, float, audit_times(blocks * LOGISTIC_ROWS, d));
    f->product = AUDIT_PLACE(block, float, audit_times(classes, d));
    f->losses = AUDIT_PLACE(block, double, LOGISTIC_ROWS);
    f->workspace = AUDIT_PLACE(block, unsigned char, f->workspace_bytes);
    f->at = AUDIT_PLACE(block, double, parameters);
    f->gradient = AUDIT_PLACE(block, double, parameters);
    f->trial = AUDIT_PLACE(block, double, parameters);
    f->trial_gradient = AUDIT_PLACE(block, double, parameters);
    f->direction = AUDIT_PLACE(block, double, parameters);
    f->steps = AUDIT_PLACE(block, float, pairs);
    f->changes = AUDIT_PLACE(block, float, pairs);
}

/* A row that counts. */
static int logistic_counts(const msae_data *data, const uint32_t *labels, size_t row) {
    return labels[row] != LINEAR_PROBE_NO_CLASS && audit_row_is_used(data, row);
}

/* The mean of the labelled rows, into `mean` [d]; f->x and f->mean are used for it. */
static msae_status logistic_mean(logistic_fit *f, const msae_data *data, const uint32_t *labels,
                                 float *mean, msae_error *error) {
    const size_t d = f->d;
    memset(f->mean, 0, d * sizeof *f->mean);
    for (size_t r = 0; r < data->rows; r++) {
        if (!logistic_counts(data, labels, r)) continue;
        msae_data_read(data, r, 1, f->x);
        if (!audit_row_is_finite(f->x, d)) return audit_fail_row(data, r, error);
        for (size_t i = 0; i < d; i++) f->mean[i] += f->x[i];
    }
    for (size_t i = 0; i < d; i++) mean[i] = (float)(f->mean[i] / (double)f->rows);
    return MSAE_OK;
}

/* ||x - center||^2 (NULL: zeros). */
static double logistic_squares(const float *x, const float *center, size_t d) {
    double squares = 0;
    for (size_t i = 0; i < d; i++) {
        const double value = (double)x[i] - (center ? center[i] : 0);
        squares += value * value;
    }
    return squares;
}

/* The labelled rows less `center` (NULL: zeros), of unit length, less their mean. */
static msae_status logistic_rows(logistic_fit *f, const msae_data *data, const uint32_t *labels,
                                 const float *center, msae_error *error) {
    const size_t d = f->d;
    size_t row = 0;
    memset(f->mean, 0, d * sizeof *f->mean);
    for (size_t r = 0; r < data->rows; r++) {
        float *x = f->x + row * d;
        double squares;
        if (!logistic_counts(data, labels, r)) continue;
        msae_data_read(data, r, 1, x);
        if (!audit_row_is_finite(x, d)) return audit_fail_row(data, r, error);
        squares = logistic_squares(x, center, d);
        if (!(squares > 0) && !center) {
            return bytes_fail(error, MSAE_ERROR_ARGUMENT, r, "row %zu has no length", r);
        }
        for (size_t i = 0; i < d; i++) {
            const double value = (double)x[i] - (center ? center[i] : 0);
            x[i] = squares > 0 ? (float)(value / sqrt(squares)) : 0;
            f->mean[i] += x[i];
        }
        f->labels[row++] = labels[r];
    }
    for (size_t i = 0; i < d; i++) f->mean[i] /= (double)f->rows;
    for (size_t r = 0; r < f->rows; r++) {
        for (size_t i = 0; i < d; i++) f->x[r * d + i] = (float)(f->x[r * d + i] - f->mean[i]);
    }
    return MSAE_OK;
}

/* Logits to probabilities in place; ln of their sum, which is the loss of a logit of zero. */
static double logistic_softmax(float *p, size_t classes) {
    double sum = 0;
    float most = p[0];
    for (size_t c = 1; c < classes; c++) {
        if (p[c] > most) most = p[c];
    }
    for (size_t c = 0; c < classes; c++) {
        const double e = exp((double)p[c] - most);
        p[c] = (float)e;
        sum += e;
    }
    for (size_t c = 0; c < classes; c++) p[c] = (float)(p[c] / sum);
    return most + log(sum);
}

/* A row's loss, and p - y in the place of its logits. */
static void logistic_row_task(void *context, size_t task, size_t worker) {
    const logistic_fit *f = (const logistic_fit *)context;
    const double *bias = f->evaluated + f->classes * f->d;
    const uint32_t label = f->labels[f->first + task];
    float *p = f->p + task * f->classes;
    double own;
    (void)worker;
    for (size_t c = 0; c < f->classes; c++) p[c] = (float)(p[c] + bias[c]);
    own = p[label];
    f->losses[task] = logistic_softmax(p, f->classes) - own;
    p[label] -= 1;
}

/* to [cols][LOGISTIC_ROWS] = from [count][cols] transposed. */
static void logistic_transpose_block(const float *from, size_t count, size_t cols, size_t begin,
                                     size_t end, float *to) {
    for (size_t r = 0; r < count; r++) {
        for (size_t c = begin; c < end; c++) to[c * LOGISTIC_ROWS + r] = from[r * cols + c];
    }
}

/* A block of rows. */
static void logistic_transpose_task(void *context, size_t task, size_t worker) {
    const logistic_fit *f = (const logistic_fit *)context;
    const size_t first = task * LOGISTIC_ROWS, d = f->d;
    const size_t count = audit_min(LOGISTIC_ROWS, f->rows - first);
    (void)worker;
    for (size_t c = 0; c < d; c += 16) { /* few lines at a time */
        logistic_transpose_block(f->x + first * d, count, d, c, audit_min(c + 16, d),
                                 f->xt + first * d);
    }
}

/* A group of 16 classes of the block of rows under way. */
static void logistic_answers_task(void *context, size_t task, size_t worker) {
    const logistic_fit *f = (const logistic_fit *)context;
    (void)worker;
    logistic_transpose_block(f->p, f->count, f->classes, task * 16,
                             audit_min(task * 16 + 16, f->classes), f->pt);
}

/* The objective at `at` [parameters], and its gradient. */
static double logistic_evaluate(logistic_fit *f, const double *at, double *gradient) {
    const size_t d = f->d, classes = f->classes, weights = classes * d;
    double loss = 0, penalty = 0;
    for (size_t i = 0; i < weights; i++) f->weights[i] = (float)at[i];
    memset(gradient, 0, f->parameters * sizeof *gradient);
    f->evaluated = at;
    for (f->first = 0; f->first < f->rows; f->first += LOGISTIC_ROWS) {
        msae_product product; /* which cannot fail: its workspace was made for it */
        f->count = audit_min(LOGISTIC_ROWS, f->rows - f->first);
        product = logistic_logits(f);
        msae_multiply(&product, &f->host, f->workspace, &f->workspace_bytes, NULL);
        audit_for(&f->host.parallel, f->count, logistic_row_task, f);
        for (size_t r = 0; r < f->count; r++) {
            loss += f->losses[r];
            for (size_t c = 0; c < classes; c++) gradient[weights + c] += f->p[r * classes + c];
        }
        audit_for(&f->host.parallel, (classes + 15) / 16, logistic_answers_task, f);
        product = logistic_gradient(f);
        msae_multiply(&product, &f->host, f->workspace, &f->workspace_bytes, NULL);
        for (size_t i = 0; i < weights; i++) gradient[i] += f->product[i];
    }
    for (size_t i = 0; i < f->parameters; i++) gradient[i] /= (double)f->rows;
    for (size_t i = 0; i < weights; i++) {
        penalty += at[i] * at[i];
        gradient[i] += f->l2 * at[i];
    }
    return loss / (double)f->rows + 0.5 * f->l2 * penalty;
}

static double logistic_dot(const double *a, const double *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

static double logistic_dot_mixed(const float *a, const double *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

static void logistic_add_mixed(double *to, double factor, const float *from, size_t count) {
    for (size_t i = 0; i < count; i++) to[i] += factor * from[i];
}

/* direction = - H gradient by the two-loop recursion (Nocedal and Wright, algorithm 7.4); pairs
   kept are the last `kept` before number `next`. */
static void logistic_direction(logistic_fit *f, size_t kept, size_t next) {
    const size_t count = f->parameters;
    double factor[LOGISTIC_PAIRS];
    for (size_t i = 0; i < count; i++) f->direction[i] = -f->gradient[i];
    for (size_t i = 1; i <= kept; i++) {
        const size_t pair = (next - i) % LOGISTIC_PAIRS;
        factor[pair] =
            f->curvature[pair] * logistic_dot_mixed(f->steps + pair * count, f->direction, count);
        logistic_add_mixed(f->direction, -factor[pair], f->changes + pair * count, count);
    }
    if (kept > 0) {
        const size_t pair = (next - 1) % LOGISTIC_PAIRS;
        const float *change = f->changes + pair * count;
        double squares = 0;
        for (size_t i = 0; i < count; i++) squares += (double)change[i] * change[i];
        for (size_t i = 0; i < count; i++) f->direction[i] /= f->curvature[pair] * squares;
    }
    for (size_t i = kept; i > 0; i--) {
        const size_t pair = (next - i) % LOGISTIC_PAIRS;
        const double other =
            f->curvature[pair] * logistic_dot_mixed(f->changes + pair * count, f->direction, count);
        logistic_add_mixed(f->direction, factor[pair] - other, f->steps + pair * count, count);
    }
}

/* Moves along the direction until the objective has fallen enough (Armijo). 0 when it does not. */
static int logistic_search(logistic_fit *f, double step, double *objective) {
    const double slope = logistic_dot(f->direction, f->gradient, f->parameters);
    for (int halvings = 0; halvings < 40 && slope < 0; halvings++, step *= 0.5) {
        double value;
        for (size_t i = 0; i < f->parameters; i++) {
            f->trial[i] = f->at[i] + step * f->direction[i];
        }
        value = logistic_evaluate(f, f->trial, f->trial_gradient);
        if (audit_is_finite(value) && value <= *objective + 1e-4 * step * slope) {
            *objective = value;
            return 1;
        }
    }
    return 0;
}

/* Remembers the last step as pair number `next` when it tells something of the curvature. */
static int logistic_remember(logistic_fit *f, size_t next) {
    const size_t pair = next % LOGISTIC_PAIRS, count = f->parameters;
    float *step = f->steps + pair * count, *change = f->changes + pair * count;
    double curvature = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        step[i] = (float)(f->trial[i] - f->at[i]);
        change[i] = (float)(f->trial_gradient[i] - f->gradient[i]);
        curvature += (double)step[i] * change[i];
        squares += (double)change[i] * change[i];
    }
    if (curvature > 1e-10 * squares) {
        f->curvature[pair] = 1 / curvature;
        return 1;
    }
    f->curvature[pair] = 0; /* it may have taken the place of a pair that is used: no effect */
    return 0;
}

static void logistic_run(logistic_fit *f, double tolerance, size_t max_iterations,
                         linear_probe *probe) {
    const size_t count = f->parameters;
    size_t next = 0, kept = 0;
    double first_norm;
    audit_for(&f->host.parallel, (f->rows + LOGISTIC_ROWS - 1) / LOGISTIC_ROWS,
              logistic_transpose_task, f);
    memset(f->at, 0, count * sizeof *f->at);
    probe->loss = logistic_evaluate(f, f->at, f->gradient);
    first_norm = sqrt(logistic_dot(f->gradient, f->gradient, count));
    for (probe->iterations = 0; probe->iterations < max_iterations; probe->iterations++) {
        const double norm = sqrt(logistic_dot(f->gradient, f->gradient, count));
        double *spare;
        if (norm <= tolerance * first_norm || norm == 0) break;
        logistic_direction(f, kept, next);
        if (!logistic_search(f, kept > 0 ? 1 : 1 / norm, &probe->loss)) {
            if (kept == 0) break; /* nothing but rounding is left */
            kept = 0;
            continue;
        }
        if (logistic_remember(f, next)) {
            next++;
            if (kept < LOGISTIC_PAIRS) kept++;
        }
        spare = f->at;
        f->at = f->trial;
        f->trial = spare;
        spare = f->gradient;
        f->gradient = f->trial_gradient;
        f->trial_gradient = spare;
    }
}

/* ---------------------------------------------------------------------------------------------
   From rows and labels to a probe
   ------------------------------------------------------------------------------------------ */

static void logistic_probe_layout(void *context, audit_block *block) {
    linear_probe *probe = (linear_probe *)context;
    probe->weights = AUDIT_PLACE(block, float, audit_times(probe->n_classes, probe->n_inputs));
    probe->bias = AUDIT_PLACE(block, float, probe->n_classes);
    probe->mean = AUDIT_PLACE(block, float, probe->n_inputs);
}

static msae_status logistic_probe_init(linear_probe *probe, size_t d, size_t classes,
                                       const linear_probe_desc *desc, msae_error *error) {
    audit_memory memory;
    msae_status status;
    if (classes > SIZE_MAX / sizeof(double) / LOGISTIC_PAIRS / (d + 1)) {
        return bytes_fail_memory(error);
    }
    probe->n_inputs = d;
    probe->n_classes = classes;
    probe->host = desc->host;
    status = audit_take(&memory, &desc->host.allocator, logistic_probe_layout, probe, error);
    probe->memory = memory.memory;
    probe->memory_bytes = memory.bytes;
    if (desc->input == LINEAR_PROBE_INPUT_RAW) probe->mean = NULL;
    return status;
}

/* Fits to the rows, and moves what was found to rows that keep their mean. */
static msae_status logistic_solve(logistic_fit *f, linear_probe *probe, const msae_data *data,
                                  const uint32_t *labels, const linear_probe_desc *desc,
                                  msae_error *error) {
    const size_t d = f->d;
    const float tolerance = desc->tolerance > 0 ? desc->tolerance : LOGISTIC_TOLERANCE;
    msae_status status = MSAE_OK;
    if (probe->mean) status = logistic_mean(f, data, labels, probe->mean, error);
    if (status == MSAE_OK) status = logistic_rows(f, data, labels, probe->mean, error);
    if (status != MSAE_OK) return status;
    logistic_run(f, (double)tolerance,
                 desc->max_iterations ? desc->max_iterations : LOGISTIC_ITERATIONS, probe);
    for (size_t c = 0; c < f->classes; c++) {
        const double *row = f->at + c * d;
        const double shift = logistic_dot(row, f->mean, d);
        for (size_t i = 0; i < d; i++) probe->weights[c * d + i] = (float)row[i];
        probe->bias[c] = (float)(f->at[f->classes * d + c] - shift);
    }
    return MSAE_OK;
}

static msae_status logistic_fit_probe(linear_probe *probe, const msae_data *data,
                                      const uint32_t *labels, size_t rows,
                                      const linear_probe_desc *desc, msae_error *error) {
    logistic_fit f;
    audit_memory memory;
    msae_status status;
    memset(&f, 0, sizeof f);
    f.host = probe->host;
    f.d = probe->n_inputs;
    f.classes = probe->n_classes;
    f.rows = rows;
    f.parameters = f.classes * (f.d + 1);
    f.l2 = desc->l2 == MSAE_OFF ? 0 : (double)(desc->l2 > 0 ? desc->l2 : LOGISTIC_L2);
    status = logistic_workspace(&f, error);
    if (status != MSAE_OK) return status;
    status = audit_take(&memory, &f.host.allocator, logistic_layout, &f, error);
    if (status != MSAE_OK) return status;
    status = logistic_solve(&f, probe, data, labels, desc, error);
    audit_give(&memory, &f.host.allocator);
    return status;
}

/* Rows with a label, or what is wrong with one. */
static msae_status logistic_count_rows(const msae_data *data, const uint32_t *labels,
                                       size_t n_classes, size_t *rows, msae_error *error) {
    *rows = 0;
    for (size_t r = 0; r < data->rows; r++) {
        if (labels[r] == LINEAR_PROBE_NO_CLASS) continue;
        if (labels[r] >= n_classes) {
            return bytes_fail(error, MSAE_ERROR_ARGUMENT, r, "row %zu has no such class", r);
        }
        *rows += (size_t)audit_row_is_used(data, r);
    }
    if (*rows == 0) return audit_fail_argument(error, "no row has a label");
    return MSAE_OK;
}

msae_status linear_probe_fit(linear_probe *probe, const msae_data *data, const uint32_t *labels,
                             size_t n_classes, const linear_probe_desc *desc, msae_error *error) {
    linear_probe_desc plain;
    msae_status status;
    size_t rows;
    memset(&plain, 0, sizeof plain);
    memset(probe, 0, sizeof *probe);
    if (!desc) desc = &plain;
    if (data->cols == 0 || n_classes == 0 || n_classes >= LINEAR_PROBE_NO_CLASS) {
        return audit_fail_argument(error, "no inputs or no classes");
    }
    if ((unsigned)desc->input >= LINEAR_PROBE_INPUT_COUNT) {
        return audit_fail_argument(error, "unknown input of a probe");
    }
    status = logistic_count_rows(data, labels, n_classes, &rows, error);
    if (status == MSAE_OK) status = logistic_probe_init(probe, data->cols, n_classes, desc, error);
    if (status == MSAE_OK) status = logistic_fit_probe(probe, data, labels, rows, desc, error);
    if (status != MSAE_OK) linear_probe_free(probe);
    return status;
}

void linear_probe_free(linear_probe *probe) {
    const msae_allocator allocator = probe->host.allocator;
    bytes_give(&allocator, probe->memory, probe->memory_bytes);
    memset(probe, 0, sizeof *probe);
}

/* ---------------------------------------------------------------------------------------------
   Answers
   ------------------------------------------------------------------------------------------ */

/* A tile of rows on its way to probabilities. */
typedef struct logistic_answer {
    const linear_probe *probe;
    const float *x; /* [rows][d] */
    float *unit;    /* the same less the mean, at unit length */
    float *p;       /* [rows][classes] */
    unsigned char *workspace;
    size_t workspace_bytes;
} logistic_answer;

/* Finds the workspace's parts for tiles of so many rows; 0 when there is no such path or memory. */
static int logistic_answer_layout(logistic_answer *answer, size_t rows, audit_block *block) {
    const linear_probe *probe = answer->probe;
    const size_t d = probe->n_inputs;
    const msae_product product = logistic_product(NULL, rows, NULL, probe->n_classes, d, NULL);
    if (msae_multiply(&product, &probe->host, NULL, &answer->workspace_bytes, NULL) != MSAE_OK) {
        return 0;
    }
    answer->unit = AUDIT_PLACE(block, float, audit_times(rows, d));
    answer->workspace = AUDIT_PLACE(block, unsigned char, answer->workspace_bytes);
    return block->ok;
}

size_t linear_probe_workspace_bytes(const linear_probe *probe, size_t rows) {
    audit_block block = audit_block_over(NULL);
    logistic_answer answer;
    rows = rows > 0 ? audit_min(rows, LOGISTIC_TILE) : 1;
    answer.probe = probe;
    if (!logistic_answer_layout(&answer, rows, &block)) return SIZE_MAX;
    return audit_block_bytes(&block);
}

static void logistic_unit_task(void *context, size_t task, size_t worker) {
    const logistic_answer *answer = (const logistic_answer *)context;
    const size_t d = answer->probe->n_inputs;
    const float *x = answer->x + task * d, *mean = answer->probe->mean;
    const double squares = logistic_squares(x, mean, d);
    const double inverse = squares > 0 ? 1 / sqrt(squares) : 0;
    float *unit = answer->unit + task * d;
    (void)worker;
    for (size_t i = 0; i < d; i++) {
        const double value = (double)x[i] - (mean ? mean[i] : 0);
        unit[i] = (float)(value * inverse);
    }
}

static void logistic_softmax_task(void *context, size_t task, size_t worker) {
    const logistic_answer *answer = (const logistic_answer *)context;
    const size_t classes = answer->probe->n_classes;
    float *p = answer->p + task * classes;
    (void)worker;
    for (size_t c = 0; c < classes; c++) p[c] += answer->probe->bias[c];
    logistic_softmax(p, classes);
}

msae_status linear_probe_predict(const linear_probe *probe, void *workspace, const float *x,
                                 size_t rows, float *p, msae_error *error) {
    const size_t d = probe->n_inputs, classes = probe->n_classes;
    const size_t tile = audit_min(rows, LOGISTIC_TILE);
    audit_block block = audit_block_over(workspace);
    logistic_answer answer;
    if (rows == 0) return MSAE_OK;
    answer.probe = probe;
    if (!logistic_answer_layout(&answer, tile, &block)) {
        return bytes_fail(error, MSAE_ERROR_UNSUPPORTED, MSAE_NO_POSITION,
                          "the instruction path of the probe is not available here");
    }
    for (size_t first = 0; first < rows; first += tile) {
        const size_t count = audit_min(tile, rows - first);
        msae_product product;
        msae_status status;
        answer.x = x + first * d;
        answer.p = p + first * classes;
        audit_for(&probe->host.parallel, count, logistic_unit_task, &answer);
        product = logistic_product(answer.unit, count, probe->weights, classes, d, answer.p);
        status =
            msae_multiply(&product, &probe->host, answer.workspace, &answer.workspace_bytes, error);
        if (status != MSAE_OK) return status;
        audit_for(&probe->host.parallel, count, logistic_softmax_task, &answer);
    }
    return MSAE_OK;
}

/* ---------------------------------------------------------------------------------------------
   Scores
   ------------------------------------------------------------------------------------------ */

static double logistic_log(float p) {
    return log(p > 1e-38f ? (double)p : 1e-38);
}

/* What scoring works in. */
typedef struct logistic_scoring {
    const linear_probe *probe;
    float *x, *p;   /* [LOGISTIC_TILE][d], [LOGISTIC_TILE][classes] */
    size_t *counts; /* [3][classes]: right, answered, labelled */
    unsigned char *workspace;
} logistic_scoring;

static void logistic_scoring_layout(void *context, audit_block *block) {
    logistic_scoring *scoring = (logistic_scoring *)context;
    const linear_probe *probe = scoring->probe;
    const size_t rows = LOGISTIC_TILE;
    scoring->x = AUDIT_PLACE(block, float, audit_times(rows, probe->n_inputs));
    scoring->p = AUDIT_PLACE(block, float, audit_times(rows, probe->n_classes));
    scoring->counts = AUDIT_PLACE(block, size_t, audit_times(3, probe->n_classes));
    scoring->workspace =
        AUDIT_PLACE(block, unsigned char, linear_probe_workspace_bytes(probe, rows));
}

/* Adds the labelled ones among rows first .. first + rows - 1. */
static msae_status logistic_score_rows(const logistic_scoring *scoring, const msae_data *data,
                                       const uint32_t *labels, size_t first,
                                       linear_probe_score *score, msae_error *error) {
    const linear_probe *probe = scoring->probe;
    const size_t classes = probe->n_classes, d = probe->n_inputs;
    const size_t rows = audit_min(LOGISTIC_TILE, data->rows - first);
    size_t *right = scoring->counts, *answered = right + classes, *labelled = answered + classes;
    msae_status status = msae_data_read(data, first, rows, scoring->x);
    for (size_t r = 0; r < rows && status == MSAE_OK; r++) {
        if (!logistic_counts(data, labels, first + r)) continue;
        if (audit_row_is_finite(scoring->x + r * d, d)) continue;
        status = audit_fail_row(data, first + r, error);
    }
    if (status != MSAE_OK) return status;
    status = linear_probe_predict(probe, scoring->workspace, scoring->x, rows, scoring->p, error);
    for (size_t r = 0; r < rows && status == MSAE_OK; r++) {
        const uint32_t label = labels[first + r];
        const float *p = scoring->p + r * classes;
        size_t answer;
        if (!logistic_counts(data, labels, first + r)) continue;
        answer = audit_argmax(p, classes);
        right[label] += answer == label;
        answered[answer]++;
        labelled[label]++;
        score->log_loss -= logistic_log(p[label]);
    }
    return status;
}

static void logistic_sum_up(const logistic_scoring *scoring, linear_probe_score *score) {
    const size_t classes = scoring->probe->n_classes;
    const size_t *right = scoring->counts, *answered = right + classes;
    const size_t *labelled = answered + classes;
    size_t occurring = 0, hits = 0;
    for (size_t c = 0; c < classes; c++) {
        hits += right[c];
        if (answered[c] + labelled[c] == 0) continue;
        occurring++;
        score->macro_f1 += 2 * (double)right[c] / (double)(answered[c] + labelled[c]);
    }
    score->accuracy = (double)hits / (double)score->rows;
    score->log_loss /= (double)score->rows;
    score->macro_f1 /= (double)occurring;
}

msae_status linear_probe_measure(const linear_probe *probe, const msae_data *data,
                                 const uint32_t *labels, linear_probe_score *score,
                                 msae_error *error) {
    audit_memory memory;
    logistic_scoring scoring;
    msae_status status;
    memset(score, 0, sizeof *score);
    status = audit_check_width("probe", probe->n_inputs, data, error);
    if (status != MSAE_OK) return status;
    status = logistic_count_rows(data, labels, probe->n_classes, &score->rows, error);
    if (status != MSAE_OK) return status;
    scoring.probe = probe;
    status = audit_take(&memory, &probe->host.allocator, logistic_scoring_layout, &scoring, error);
    if (status != MSAE_OK) return status;
    memset(scoring.counts, 0, 3 * probe->n_classes * sizeof *scoring.counts);
    for (size_t first = 0; first < data->rows && status == MSAE_OK; first += LOGISTIC_TILE) {
        status = logistic_score_rows(&scoring, data, labels, first, score, error);
    }
    if (status == MSAE_OK) logistic_sum_up(&scoring, score);
    audit_give(&memory, &probe->host.allocator);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Reconstructions
   ------------------------------------------------------------------------------------------ */

/* Divergences at one k: mean and spread as they come (Welford), and equal answers. */
typedef struct logistic_tally {
    double mean, squares;
    size_t count, equal;
} logistic_tally;

static void logistic_tally_add(logistic_tally *tally, double value) {
    const double off = value - tally->mean;
    if (!audit_is_finite(value)) return;
    tally->mean += off / (double)++tally->count;
    tally->squares += off * (value - tally->mean);
}

/* What comparing works in: a tile of rows and its reconstructions. */
typedef struct logistic_comparison {
    const linear_probe *probe;
    const msae_model *model;
    const size_t *ks;
    size_t n_ks;
    audit_tile tile;
    unsigned char *encoding, *asking; /* workspaces of model and probe */
    float *recon;                     /* [n_ks][AUDIT_ROWS][d] */
    float *p, *q;                     /* [AUDIT_ROWS][classes] */
    logistic_tally *tallies;          /* [n_ks] */
} logistic_comparison;

static void logistic_comparison_layout(void *context, audit_block *block) {
    logistic_comparison *c = (logistic_comparison *)context;
    const size_t rows = AUDIT_ROWS, row = c->model->n_inputs;
    c->encoding = AUDIT_PLACE(block, unsigned char, msae_workspace_bytes(c->model, rows));
    c->asking = AUDIT_PLACE(block, unsigned char, linear_probe_workspace_bytes(c->probe, rows));
    c->tile.x = AUDIT_PLACE(block, float, audit_times(rows, row));
    c->recon = AUDIT_PLACE(block, float, audit_times(audit_times(c->n_ks, rows), row));
    c->p = AUDIT_PLACE(block, float, audit_times(rows, c->probe->n_classes));
    c->q = AUDIT_PLACE(block, float, audit_times(rows, c->probe->n_classes));
    c->tallies = AUDIT_PLACE(block, logistic_tally, c->n_ks);
}

/* KL(p || q) in nats. */
static double logistic_divergence(const float *p, const float *q, size_t classes) {
    double kl = 0;
    for (size_t c = 0; c < classes; c++) kl += p[c] * (logistic_log(p[c]) - logistic_log(q[c]));
    return kl;
}

/* The tile's rows and their reconstructions at every k. */
static msae_status logistic_compare_tile(logistic_comparison *c, msae_error *error) {
    const size_t rows = c->tile.rows, d = c->model->n_inputs, classes = c->probe->n_classes;
    msae_error found;
    msae_status status =
        msae_forward(c->model, c->encoding, c->tile.x, rows, c->ks, c->n_ks, c->recon, &found);
    if (status != MSAE_OK) return audit_fail_tile(&c->tile, &found, error);
    status = linear_probe_predict(c->probe, c->asking, c->tile.x, rows, c->p, error);
    for (size_t i = 0; i < c->n_ks && status == MSAE_OK; i++) {
        status =
            linear_probe_predict(c->probe, c->asking, c->recon + i * rows * d, rows, c->q, error);
        for (size_t r = 0; r < rows && status == MSAE_OK; r++) {
            const float *p = c->p + r * classes, *q = c->q + r * classes;
            logistic_tally_add(&c->tallies[i], logistic_divergence(p, q, classes));
            c->tallies[i].equal += audit_argmax(p, classes) == audit_argmax(q, classes);
        }
    }
    return status;
}

static msae_status logistic_compare_rows(logistic_comparison *c, const msae_data *data,
                                         linear_probe_agreement *results, msae_error *error) {
    msae_status status = MSAE_OK;
    size_t rows = 0;
    memset(c->tallies, 0, c->n_ks * sizeof *c->tallies);
    for (size_t first = 0; first < data->rows && status == MSAE_OK; first += AUDIT_ROWS) {
        status = audit_read(&c->tile, data, first, error);
        rows += c->tile.rows;
        if (status == MSAE_OK) status = logistic_compare_tile(c, error);
    }
    for (size_t i = 0; i < c->n_ks && status == MSAE_OK; i++) {
        const logistic_tally *tally = &c->tallies[i];
        results[i].k = c->ks[i];
        results[i].kl = tally->count ? tally->mean : audit_nan();
        results[i].kl_std =
            tally->count ? sqrt(tally->squares / (double)tally->count) : audit_nan();
        results[i].agreement = (double)tally->equal / (double)rows;
    }
    return status;
}

msae_status linear_probe_compare(const linear_probe *probe, const msae_model *model,
                                 const msae_data *data, const size_t *ks, size_t n_ks,
                                 linear_probe_agreement *results, msae_error *error) {
    audit_memory memory;
    logistic_comparison comparison;
    msae_status status = audit_check_rows(model, data, 0, error);
    if (status != MSAE_OK) return status;
    status = audit_check_width("probe", probe->n_inputs, data, error);
    if (status != MSAE_OK) return status;
    comparison.probe = probe;
    comparison.model = model;
    comparison.ks = ks;
    comparison.n_ks = n_ks;
    status = audit_take(&memory, &model->allocator, logistic_comparison_layout, &comparison, error);
    if (status != MSAE_OK) return status;
    status = logistic_compare_rows(&comparison, data, results, error);
    audit_give(&memory, &model->allocator);
    return status;
}
