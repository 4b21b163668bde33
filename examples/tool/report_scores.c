/* How good the latents of several models are, side by side on the page. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CURVE_POINTS = 200, STRONGEST = 20 };

#define DUPLICATE_COSINE 0.9
#define DUPLICATE_OVERLAP 0.5
#define COMMON_FREQUENCY 0.001

/* ---------------------------------------------------------------------------------------------
   Measuring
   ------------------------------------------------------------------------------------------ */

static int score_model(latent_scores *s, const msae_data *data, const char *path, size_t k) {
    const msae_source source = msae_source_data(data);
    const size_t n = s->model->n_latents;
    msae_score_desc desc = {0};
    msae_error error;
    desc.k = k < n ? k : n;
    desc.no_companions = n > TOOL_MAX_PAIRED;
    s->scores = tool_alloc(n, sizeof *s->scores);
    if (s->scores == NULL) return tool_fail_memory();
    if (msae_score_latents(s->model, &source, &desc, s->scores, NULL, &error) != MSAE_OK) {
        return tool_fail_error(path, &error);
    }
    return TOOL_OK;
}

/* Of latents that are active on as many rows as are looked at. */
static int find_purity(latent_scores *s, const msae_data *data, const char *path, size_t k,
                       const tool_labels *labels) {
    const size_t n = s->model->n_latents;
    msae_hit *top = tool_alloc(n, STRONGEST * sizeof *top);
    size_t *counts = tool_alloc(n, sizeof *counts);
    msae_top_desc desc = {0};
    msae_error error;
    int status = TOOL_OK;
    s->purity = tool_alloc(n, sizeof *s->purity);
    desc.top = STRONGEST;
    desc.k = k < n ? k : n;
    if (top == NULL || counts == NULL || s->purity == NULL) {
        status = tool_fail_memory();
    } else if (msae_top_rows(s->model, data, &desc, top, counts, &error) != MSAE_OK) {
        status = tool_fail_error(path, &error);
    }
    for (size_t j = 0; j < n && status == TOOL_OK; j++) {
        s->purity[j] = counts[j] < STRONGEST
                           ? (double)NAN
                           : tool_purity(labels, top + j * STRONGEST, STRONGEST, NULL);
    }
    free(top);
    free(counts);
    return status;
}

/* The best one-to-one matching of two models tells of the latents of both. */
static int match_pair(latent_scores *a, latent_scores *b, const msae_host *host, size_t others) {
    size_t *columns = tool_alloc(a->model->n_latents, sizeof *columns);
    float *cosines = tool_alloc(a->model->n_latents, sizeof *cosines);
    int status = columns != NULL && cosines != NULL
                     ? tool_align_decoders(a->model, b->model, host, b->path, columns, cosines)
                     : tool_fail_memory();
    for (size_t j = 0; j < a->model->n_latents && status == TOOL_OK; j++) {
        if (columns[j] >= b->model->n_latents) continue; /* no match */
        a->stability[j] += (double)cosines[j] / (double)others;
        b->stability[columns[j]] += (double)cosines[j] / (double)others;
    }
    free(columns);
    free(cosines);
    return status;
}

static int find_stability(latent_scores *models, size_t count, const msae_host *host) {
    int status = TOOL_OK;
    for (size_t m = 0; m < count; m++) {
        if (models[m].model->n_latents > TOOL_MAX_PAIRED) return TOOL_OK;
    }
    for (size_t m = 0; m < count && count > 1; m++) {
        models[m].stability = tool_alloc(models[m].model->n_latents, sizeof(double));
        if (models[m].stability == NULL) return tool_fail_memory();
    }
    for (size_t b = 1; b < count; b++) {
        for (size_t a = 0; a < b && status == TOOL_OK; a++) {
            status = match_pair(&models[a], &models[b], host, count - 1);
        }
    }
    return status;
}

int measure_latents(latent_scores *models, size_t count, const msae_data *data, const char *path,
                    size_t k, const tool_labels *labels, const msae_host *host) {
    int status = TOOL_OK;
    for (size_t m = 0; m < count && status == TOOL_OK; m++) {
        status = score_model(&models[m], data, path, k);
        if (status == TOOL_OK && labels != NULL) {
            status = find_purity(&models[m], data, path, k, labels);
        }
    }
    return status == TOOL_OK ? find_stability(models, count, host) : status;
}

void free_latent_scores(latent_scores *scores) {
    free(scores->scores);
    free(scores->purity);
    free(scores->stability);
    memset(scores, 0, sizeof *scores);
}

/* ---------------------------------------------------------------------------------------------
   Curves: values of the active latents in descending order, against the share of latents that have
   as much
   ------------------------------------------------------------------------------------------ */

typedef enum score_kind {
    FREQUENCY,
    MONOSEMANTICITY,
    PURITY,
    STABILITY,
    COSINE,
    OVERLAP,
    KINDS
} score_kind;

static const struct {
    const char *title, *label;
    int percent;
} kinds[KINDS] = {
    {"Density", "frequency", 1},
    {"Monosemanticity", "mean cosine, less that of all rows", 0},
    {"Purity", "of the 20 strongest rows", 1},
    {"Stability", "cosine with its match", 0},
    {"Nearest decoder row", "cosine", 0},
    {"Rows in common", "share of the rows of both", 1},
};

static double value_of(const latent_scores *s, size_t latent, score_kind kind) {
    const msae_score *score = &s->scores[latent];
    if (score->rows == 0) return (double)NAN;
    switch (kind) {
    case FREQUENCY:
        return score->frequency;
    case MONOSEMANTICITY:
        return score->monosemanticity;
    case PURITY:
        return s->purity != NULL ? s->purity[latent] : (double)NAN;
    case STABILITY:
        return s->stability != NULL ? s->stability[latent] : (double)NAN;
    case COSINE:
        return score->cosine;
    case OVERLAP:
        return score->overlap;
    default:
        return (double)NAN;
    }
}

static int descending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* The values there are, in order, into values [n]; returns how many. */
static size_t sort_values(const latent_scores *s, score_kind kind, double *values) {
    size_t count = 0;
    for (size_t j = 0; j < s->model->n_latents; j++) {
        const double value = value_of(s, j, kind);
        if (isfinite(value)) values[count++] = value;
    }
    qsort(values, count, sizeof *values, descending);
    return count;
}

/* One chart with a curve for each model; nothing where no latent has a value. */
static void put_curves(FILE *page, const latent_scores *models, size_t count, score_kind kind) {
    double(*points)[2][CURVE_POINTS] = tool_alloc(count, sizeof *points);
    chart_series series[CHART_COLORS];
    size_t drawn = 0;
    for (size_t m = 0; m < count && points != NULL; m++) {
        const size_t n = models[m].model->n_latents;
        double *values = tool_alloc(n, sizeof *values);
        const size_t found = values != NULL ? sort_values(&models[m], kind, values) : 0;
        const size_t shown = found < CURVE_POINTS ? found : CURVE_POINTS;
        for (size_t i = 0; i < shown; i++) {
            const size_t at = shown > 1 ? i * (found - 1) / (shown - 1) : 0;
            points[m][0][i] = (double)(at + 1) / (double)n;
            points[m][1][i] = values[at];
        }
        free(values);
        const chart_series line = {
            page_file_name(models[m].path), m, 0, points[m][0], points[m][1], NULL, shown};
        if (shown > 0) series[drawn++] = line;
    }
    const chart c = {kinds[kind].title,
                     "Values of the latents in descending order.",
                     {"share of the latents", CHART_LINEAR, 0, 1, 1},
                     {kinds[kind].label, kind == FREQUENCY ? CHART_LOG10 : CHART_LINEAR, 0, 0,
                      kinds[kind].percent},
                     series,
                     drawn,
                     NULL,
                     0};
    if (drawn > 0) chart_write(page, &c);
    free(points);
}

void put_density(FILE *page, const latent_scores *models, size_t count) {
    put_curves(page, models, count, FREQUENCY);
}

void put_score_charts(FILE *page, const latent_scores *models, size_t count) {
    fputs("<div class=\"charts\">\n", page);
    for (int kind = MONOSEMANTICITY; kind < KINDS; kind++) {
        put_curves(page, models, count, (score_kind)kind);
    }
    fputs("</div>\n", page);
}

/* ---------------------------------------------------------------------------------------------
   In numbers
   ------------------------------------------------------------------------------------------ */

static void put_median(FILE *page, const latent_scores *s, score_kind kind, int decimals) {
    double *values = tool_alloc(s->model->n_latents, sizeof *values);
    const size_t count = values != NULL ? sort_values(s, kind, values) : 0;
    page_cell(page, count > 0 ? values[count / 2] : (double)NAN, decimals);
    free(values);
}

void put_score_table(FILE *page, const latent_scores *models, size_t count) {
    static const char *const heads[] = {"model",
                                        "latents",
                                        "active",
                                        "common",
                                        "monosemanticity",
                                        "of common ones",
                                        "purity",
                                        "stability",
                                        "decoder rows nearer than 0.9",
                                        "half of the rows shared"};
    page_table_begin(page, "In numbers: medians, and how many latents; a click on a head sorts.",
                     heads, TOOL_COUNT_OF(heads), 0);
    for (size_t m = 0; m < count; m++) {
        const latent_scores *s = &models[m];
        const size_t n = s->model->n_latents;
        double *common = tool_alloc(n, sizeof *common);
        size_t active = 0, n_common = 0, valued = 0, near = 0, shared = 0;
        for (size_t j = 0; j < n && common != NULL; j++) {
            const msae_score *score = &s->scores[j];
            const int is_common = score->rows > 0 && score->frequency >= COMMON_FREQUENCY;
            active += score->rows > 0;
            n_common += (size_t)is_common;
            near += score->rows > 0 && score->cosine > DUPLICATE_COSINE;
            shared += score->rows > 0 && score->overlap > DUPLICATE_OVERLAP;
            if (is_common && isfinite(score->monosemanticity)) {
                common[valued++] = score->monosemanticity;
            }
        }
        if (valued > 0) qsort(common, valued, sizeof *common, descending);
        fputs("<tr>", page);
        page_cell_text(page, page_file_name(s->path));
        page_cell(page, (double)n, 0);
        page_cell(page, (double)active, 0);
        page_cell(page, (double)n_common, 0);
        put_median(page, s, MONOSEMANTICITY, 4);
        page_cell(page, valued > 0 ? common[valued / 2] : (double)NAN, 4);
        put_median(page, s, PURITY, 2);
        put_median(page, s, STABILITY, 3);
        page_cell(page, (double)near, 0);
        page_cell(page, (double)shared, 0);
        fputs("</tr>\n", page);
        free(common);
    }
    page_table_end(page);
}
