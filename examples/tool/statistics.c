/* Data and the statistics of a model: whether the rows are of another kind than those that the
   model was trained on, and a model that centres and scales rows by statistics of their own. */
#include "tool.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_BLOCKS = 128, SAMPLE_ROWS = 8 }; /* of a sample, spread evenly over the rows */
enum { SAMPLE_MOST = SAMPLE_BLOCKS * SAMPLE_ROWS };

/* How far a mean may lie from the model's, as its squared distance over the variance of the rows
   that the model was trained on, E ||x - mean||^2; FEW is for the scatter of a mean over few rows.
   Measured on CLIP (48,195 images, 2,278 words) and GloVe (20,000 words by frequency), the model's
   statistics being those of all images or words:
       words on images 1.56, images on words 2.67; 1, 2, 5 and 20 words drawn 2,000 times: at least
       2.02, 1.50, 1.38 and 1.42;
       one of the nine image sets at most .56, one of 1,878 classes at most 1.06; 1, 2, 5 and 20
       images drawn: at most 1.66, 1.05, .70 and .13;
       a block of 2,500 words on all 20,000 at most .13, on the first 2,500 at most .40.
   Where one image set alone is the model's, others are far from it by the same measure. */
#define FAR 1.25
#define FEW 0.5

/* How long the rows may be, as their E ||x||^2 over that of the rows that the model was trained on.
   The spread about their own mean is no measure of units: rows of one class have little of it.
   CLIP's rows have unit length, so that each class has 1. GloVe: single words .19 to 5.2; 2, 5 and
   20 words drawn 2,000 times .53 to 2.2, .69 to 1.6 and .82 to 1.23; a block of 2,500 words .94 to
   1.14. */
#define SHORT (1.0 / 16)
#define LONG 16.0

double tool_variance(const msae_model *model) {
    const double d = (double)model->n_inputs, scale = (double)model->scale;
    if (model->history.scaling == MSAE_SCALING_RMS) return d / (scale * scale);
    if (model->history.scaling == MSAE_SCALING_PAPER) return sqrt(d) / scale;
    return 0;
}

/* What is looked at. */
typedef struct sample {
    float *block;   /* [SAMPLE_ROWS][d] */
    double *sum;    /* [d] of the rows that count */
    float *first;   /* [d] the first of them */
    double squares; /* sum of their ||x||^2 */
    double about;   /* sum of their ||x - first||^2 */
    size_t rows;    /* that count */
    size_t beyond;  /* left out for their norm */
    double *norms;  /* [rows + beyond] squared */
} sample;

/* Adds finite rows, those whose squared norm is below the limit to the sums. */
static void add_rows(sample *s, size_t rows, size_t d, double limit) {
    for (size_t r = 0; r < rows; r++) {
        const float *x = s->block + r * d;
        double squares = 0;
        for (size_t i = 0; i < d; i++) squares += (double)x[i] * (double)x[i];
        if (!isfinite(squares)) continue;
        s->norms[s->rows + s->beyond] = squares;
        if (squares >= limit) {
            s->beyond++;
            continue;
        }
        if (s->rows++ == 0) memcpy(s->first, x, d * sizeof *x);
        s->squares += squares;
        for (size_t i = 0; i < d; i++) {
            const double difference = (double)x[i] - (double)s->first[i];
            s->about += difference * difference;
            s->sum[i] += (double)x[i];
        }
    }
}

/* A sample of the rows, all where they are few. What cannot be read is left out: whoever works on
   the rows reads it again, and says so. */
static void look(sample *s, const msae_source *source, double limit) {
    const uint64_t rows = source->rows, few = SAMPLE_MOST;
    const uint64_t blocks = rows < few ? (rows + SAMPLE_ROWS - 1) / SAMPLE_ROWS : SAMPLE_BLOCKS;
    msae_error error;
    s->rows = s->beyond = 0;
    s->squares = s->about = 0;
    memset(s->sum, 0, source->cols * sizeof *s->sum);
    for (uint64_t b = 0; b < blocks; b++) {
        const uint64_t last = rows - SAMPLE_ROWS; /* (of no meaning where the rows are few) */
        const uint64_t first = rows < few
                                   ? b * SAMPLE_ROWS
                                   : last / (SAMPLE_BLOCKS - 1) * b +
                                         last % (SAMPLE_BLOCKS - 1) * b / (SAMPLE_BLOCKS - 1);
        const size_t count = rows - first < SAMPLE_ROWS ? (size_t)(rows - first) : SAMPLE_ROWS;
        if (source->read(source->user, first, count, s->block, &error) != MSAE_OK) continue;
        add_rows(s, count, source->cols, limit);
    }
}

/* What the sample says; whether it is of another kind. */
static int judge(const sample *s, const msae_model *model, double variance, tool_shift *shift) {
    const double rows = (double)s->rows;
    double distance = 0, length = variance, spread = s->about / rows, norm = 0;
    if (s->rows == 0) return 0;
    for (size_t i = 0; i < model->n_inputs; i++) {
        const double mean = s->sum[i] / rows, of_model = (double)model->mean[i];
        const double from_first = mean - (double)s->first[i];
        distance += (mean - of_model) * (mean - of_model) / variance;
        length += of_model * of_model;
        spread -= from_first * from_first;
        norm += mean * mean;
    }
    length = s->squares / rows / length;
    shift->distance = distance;
    shift->length = sqrt(length);
    shift->is_far = distance > FAR + FEW / rows;
    shift->is_scaled = (length > 0 && length < SHORT) || length > LONG; /* zeros have no units */
    shift->is_flat = s->rows < 2 || spread <= TOOL_ROUNDING * TOOL_ROUNDING * norm;
    return shift->is_far || shift->is_scaled;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Whether it is a few rows of far larger norm that make the rows another kind. */
static void find_rare(sample *s, const msae_source *source, const msae_model *model,
                      double variance, double limit, tool_shift *shift) {
    const size_t all = s->rows, left_out = s->beyond;
    tool_shift others = *shift;
    qsort(s->norms, all + left_out, sizeof *s->norms, compare);
    const double rare = (double)MSAE_RARE_NORM * MSAE_RARE_NORM * s->norms[all / 2];
    if (rare <= 0 || rare >= limit || s->norms[all - 1] < rare) return;
    look(s, source, rare);
    if (s->rows < 2 || judge(s, model, variance, &others)) return;
    shift->rare = all - s->rows;
    shift->rows = all;
}

/* Whether the model takes rows as they are. */
static int is_uncentred(const msae_model *model) {
    size_t i = 0;
    while (i < model->n_inputs && model->mean[i] == 0) i++;
    return i == model->n_inputs && model->scale == 1;
}

int tool_find_shift(const msae_model *model, const msae_source *source, float norm_limit,
                    tool_shift *shift) {
    const size_t d = model->n_inputs;
    const double variance = tool_variance(model);
    double limit = norm_limit > 0 ? (double)norm_limit * (double)norm_limit : (double)FLT_MAX;
    sample s = {0};
    memset(shift, 0, sizeof *shift);
    if (variance == 0) return TOOL_OK;
    s.block = tool_alloc(d, (SAMPLE_ROWS + 1) * sizeof *s.block);
    s.sum = tool_alloc(d, sizeof *s.sum);
    s.norms = tool_alloc(SAMPLE_MOST, sizeof *s.norms);
    const int has_memory = s.block != NULL && s.sum != NULL && s.norms != NULL;
    if (has_memory) {
        s.first = s.block + SAMPLE_ROWS * d;
        look(&s, source, limit);
        if (s.beyond > s.rows) { /* most are: these are the rows, then */
            limit = INFINITY;
            look(&s, source, limit);
        }
        if (judge(&s, model, variance, shift)) {
            if (is_uncentred(model)) {
                shift->without =
                    "their codes mean little: the model has no mean and no scale to be "
                    "replaced";
            } else if (source->rows < 2) {
                shift->without = "its codes mean little; several such rows in one file have a "
                                 "mean of their own";
            } else if (shift->is_flat) {
                shift->without = "their codes mean little: rows without spread have no scale of "
                                 "their own";
            }
            find_rare(&s, source, model, variance, limit, shift);
        }
    }
    free(s.block);
    free(s.sum);
    free(s.norms);
    return has_memory ? TOOL_OK : tool_fail_memory();
}

void tool_warn_of_shift(const tool_shift *shift, const char *path, const char *advice) {
    char mean[120] = "", length[100] = "";
    if (shift->rare > 0) {
        tool_warn(path,
                  "%zu of %zu rows looked at %s above %d times the median, which moves the %s",
                  shift->rare, shift->rows, shift->rare == 1 ? "has a norm" : "have norms",
                  MSAE_RARE_NORM, shift->is_far ? "mean" : "mean norm");
        return;
    }
    if (shift->is_far) {
        snprintf(mean, sizeof mean,
                 "the mean of the rows lies far from that of the model's data (by %.3g of its "
                 "variance)",
                 shift->distance);
    }
    if (shift->is_scaled) {
        snprintf(length, sizeof length, "%s %.3g times as long%s: other units?",
                 shift->is_far ? ", and they are" : "the rows are", shift->length,
                 shift->is_far ? "" : " as those of the model's data");
    }
    if (shift->is_far || shift->is_scaled) {
        tool_warn(path, "%s%s%s %s", mean, length, shift->is_scaled ? "" : ":", advice);
    }
}

int tool_warn_of_kind(const msae_model *model, const msae_source *source, const char *path,
                      const char *advice) {
    tool_shift shift;
    const int status = tool_find_shift(model, source, 0, &shift);
    if (status == TOOL_OK) tool_warn_of_shift(&shift, path, advice);
    return status;
}

int tool_own_statistics(msae_model *model, const msae_source *source, int skip_bad,
                        const char *path, float **mean) {
    msae_error error;
    float scale;
    if (is_uncentred(model)) {
        return tool_fail("--own-statistics", "the model has no mean and no scale to be replaced");
    }
    if (source->rows < 2) {
        return tool_fail("--own-statistics", "%s has one row, which has no mean of its own", path);
    }
    *mean = tool_alloc(source->cols, sizeof **mean);
    if (*mean == NULL) return tool_fail_memory();
    if (msae_source_statistics(source, (msae_scaling)model->history.scaling, skip_bad, NULL, NULL,
                               *mean, &scale, &error) != MSAE_OK) {
        return tool_fail_row(path, &error);
    }
    model->mean = *mean;
    model->scale = scale;
    if (tool_is_flat(model, source)) {
        return tool_fail("--own-statistics",
                         "%s has rows without spread, which have no scale of their own", path);
    }
    return TOOL_OK;
}

int tool_centre(msae_model *model, const tool_common *common, const msae_source *source,
                const char *path, float **mean) {
    if (common->own_statistics) {
        return tool_own_statistics(model, source, common->skip_bad, path, mean);
    }
    tool_shift shift;
    const int status = tool_find_shift(model, source, 0, &shift);
    if (status != TOOL_OK) return status;
    tool_warn_of_shift(&shift, path,
                       shift.without != NULL
                           ? shift.without
                           : "--own-statistics centres and scales them by their own");
    return TOOL_OK;
}
