/* What the parts of msae report share: the page, its charts, training logs, scores of
   latents. */
#ifndef MSAE_REPORT_H
#define MSAE_REPORT_H

#include "tool.h"

/* ---------------------------------------------------------------------------------------------
   The page: text that comes from files goes through page_text or page_label (page.c)
   ------------------------------------------------------------------------------------------ */

/* Everything up to the content, with the style; and everything behind it, with the script. */
void page_begin(FILE *page, const char *title);
void page_end(FILE *page);

/* Text as HTML: markup escaped, control characters and bytes that are no UTF-8 as U+FFFD. */
void page_text(FILE *page, const char *text);
/* The same isolated from the direction of the text around it, and cut when it is very long. */
void page_label(FILE *page, const char *text);
/* The last part of a path. */
const char *page_file_name(const char *path);
/* A number to read, "-" for NaN. */
void page_real(FILE *page, double value, int decimals);
/* A share as a percentage of about three digits. */
void page_share(FILE *page, double share);

/* A table that a click on a column's head sorts: begin, rows of cells, end. The caption is ours;
   the cells of one column are text. */
void page_table_begin(FILE *page, const char *caption, const char *const *heads, size_t count,
                      size_t text_column);
void page_cell(FILE *page, double value, int decimals); /* the full value is the key to sort by */
void page_cell_share(FILE *page, double share);
void page_cell_text(FILE *page, const char *text);
void page_table_end(FILE *page);

/* ---------------------------------------------------------------------------------------------
   Charts as SVG (chart.c)
   ------------------------------------------------------------------------------------------ */

typedef enum chart_scale { CHART_LINEAR, CHART_LOG2, CHART_LOG10 } chart_scale;

/* Limits come from the data, or are low and high when those differ. */
typedef struct chart_axis {
    const char *label; /* with the unit */
    chart_scale scale;
    double low, high;
    int percent; /* values are shares */
} chart_axis;

enum { CHART_COLORS = 8 };

typedef struct chart_series {
    const char *name; /* for what a pointer shows */
    size_t color;     /* below CHART_COLORS, sets the marks' shape too */
    int dashed;
    const double *x, *y;         /* [count]; NaN, or zero on a log axis: a gap */
    const unsigned char *hollow; /* [count] marks that are outlines, or NULL */
    size_t count;
} chart_series;

/* An axis that is log10 turns linear when its values allow no logarithm, or lie close together. */
typedef struct chart {
    const char *title, *description; /* ours, no markup */
    chart_axis x, y;
    const chart_series *series;
    size_t n_series;
    const double *marks; /* vertical lines */
    size_t n_marks;
} chart;

void chart_write(FILE *page, const chart *chart);
/* What goes into a legend: line and mark of a series. */
void chart_key(FILE *page, size_t color, int dashed);

/* Shares counts[bins] of a log10 axis from 10^low to 1 in equal steps, beside the count at zero. */
void chart_frequencies(FILE *page, const char *title, const size_t *counts, size_t bins, double low,
                       size_t zero);

enum { SPARK_BINS = 24 };
/* A small histogram without axes. */
void chart_spark(FILE *page, const size_t counts[SPARK_BINS], const char *description);

/* ---------------------------------------------------------------------------------------------
   Logs of msae train --json (train_log.c)
   ------------------------------------------------------------------------------------------ */

/* NaN where a line has no such number. */
typedef struct log_epoch {
    double epoch, loss, val_loss, l0, dead, lr, seconds;
} log_epoch;

typedef struct train_log {
    log_epoch *epochs; /* ascending */
    size_t count;
} train_log;

/* Reads the epochs of a log; a run that was resumed takes the place of what it repeats. Fails where
   a run says that it trains another recipe or size than the model's. Release with free_train_log
   whether this fails or not. */
int load_train_log(train_log *log, const msae_model *model, const char *path);
void free_train_log(train_log *log);

/* ---------------------------------------------------------------------------------------------
   How good latents are, model beside model (report_scores.c)
   ------------------------------------------------------------------------------------------ */

/* Zero-initialise, then set model and path. */
typedef struct latent_scores {
    const msae_model *model;
    const char *path;
    msae_score *scores;         /* [n] */
    double *purity, *stability; /* [n], or NULL: without labels; without another model, and
                                   where one has more latents than TOOL_MAX_PAIRED */
} latent_scores;

/* Scores the latents of all models on the rows of data, that of `path`; k beyond a model's latents
   is all of them. labels NULL: no purity. Release each with free_latent_scores, also after a
   failure. */
int measure_latents(latent_scores *models, size_t count, const msae_data *data, const char *path,
                    size_t k, const tool_labels *labels, const msae_host *host);
void free_latent_scores(latent_scores *scores);
/* A chart of frequencies in descending order, with a line for each model, at most CHART_COLORS. */
void put_density(FILE *page, const latent_scores *models, size_t count);
/* Charts of all other scores so, and a table of them. */
void put_score_charts(FILE *page, const latent_scores *models, size_t count);
void put_score_table(FILE *page, const latent_scores *models, size_t count);

#endif /* MSAE_REPORT_H */
