/* msae report: a page about a model. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_MODELS = CHART_COLORS,
    CARDS = 50,
    TOP_ROWS = 8,
    NEAREST = 3,
    LARGE_SET = 1000, /* rows */
    FREQUENCY_BINS = 30,
    BIAS_ROWS = 20,
    SWEEP_STEPS = 21
};

typedef struct report_job {
    tool_common common;
    const char *model_path, *data_path, *output, *vocabulary_path, *words_path, *names_path;
    const char *labels_path, *column, *attribute, *positive, *log_path;
    tool_rest more; /* further models of the plots */
    int no_cknna;
    size_t k;

    tool_inputs inputs;
    msae_model models[MAX_MODELS]; /* beyond the first, which inputs has */
    const char *paths[MAX_MODELS];
    float *means[MAX_MODELS]; /* of those, with --own-statistics */
    size_t count;
    msae_metrics *sweeps[MAX_MODELS];
    tool_counts ks[MAX_MODELS];
    double overlap;
    latent_scores scores[MAX_MODELS];

    tool_labels labels;
    tool_names names;
    msae_data vocabulary;
    tool_words words;
    msae_name *found;    /* [n] with a vocabulary */
    msae_hit *top;       /* [n, TOP_ROWS] */
    size_t *active_rows; /* [n]: on which the latent is active */
    size_t used;         /* rows of the data that are not left out */
    uint32_t *card_of;   /* [n]: a latent's card, or CARDS */
    uint32_t cards[CARDS];
    size_t n_cards;
    size_t (*sparks)[SPARK_BINS]; /* [CARDS] */
    train_log log;
    tool_study study;
    attribute_point points[SWEEP_STEPS];
    size_t swept_rows;
} report_job;

static const msae_model *model_of(const report_job *job, size_t m) {
    return m == 0 ? &job->inputs.model : &job->models[m];
}

/* ---------------------------------------------------------------------------------------------
   What the page shows
   ------------------------------------------------------------------------------------------ */

static const char *name_of(const report_job *job, size_t latent) {
    if (job->found == NULL) return tool_name_of(&job->names, latent);
    const size_t word = job->found[latent].word;
    return word != MSAE_NO_WORD ? job->words.words[word] : "";
}

static int is_valid(const report_job *job, size_t latent) {
    if (job->found != NULL) {
        const msae_name *name = &job->found[latent];
        return name->word != MSAE_NO_WORD && name->score >= TOOL_ROWS_SCORE &&
               name->score >= TOOL_ROWS_RATIO * name->runner_up_score &&
               name->support >= TOOL_MIN_SUPPORT;
    }
    return job->names.name != NULL && job->names.name[latent] != NULL &&
           job->names.claims[latent].valid;
}

static size_t top_count(const report_job *job, size_t latent) {
    return job->active_rows[latent] < TOP_ROWS ? job->active_rows[latent] : TOP_ROWS;
}

/* Mean value on a latent's strongest rows; rows that are lacking count as zero. */
static double strength(const report_job *job, size_t latent) {
    double sum = 0;
    for (size_t i = 0; i < top_count(job, latent); i++) {
        sum += (double)job->top[latent * TOP_ROWS + i].value;
    }
    return sum / TOP_ROWS;
}

/* For qsort, which has no way to hand over the job. */
typedef struct candidate {
    uint32_t latent;
    int valid;
    double strength;
} candidate;

static int by_strength(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->valid != y->valid) return y->valid - x->valid;
    if (x->strength != y->strength) return x->strength < y->strength ? 1 : -1;
    return x->latent < y->latent ? -1 : 1;
}

/* Of a set that is large enough, latents with a full list of strongest rows and a frequency of at
   most a twentieth; of others all that are not dead. */
static int choose_cards(report_job *job) {
    const size_t n = job->inputs.model.n_latents, rows = job->used;
    const int is_large = rows >= LARGE_SET;
    candidate *candidates = tool_alloc(n, sizeof *candidates);
    size_t count = 0;
    job->card_of = tool_alloc(n, sizeof *job->card_of);
    job->sparks = tool_alloc(CARDS, sizeof *job->sparks);
    if (candidates == NULL || job->card_of == NULL || job->sparks == NULL) {
        free(candidates);
        return tool_fail_memory();
    }
    for (size_t j = 0; j < n; j++) {
        job->card_of[j] = CARDS;
        const size_t active = job->active_rows[j];
        if (active == 0) continue;
        if (is_large && (active < TOP_ROWS || active > rows / 20)) continue;
        candidates[count].latent = (uint32_t)j;
        candidates[count].valid = is_valid(job, j);
        candidates[count++].strength = strength(job, j);
    }
    qsort(candidates, count, sizeof *candidates, by_strength);
    for (; job->n_cards < CARDS && job->n_cards < count; job->n_cards++) {
        job->cards[job->n_cards] = candidates[job->n_cards].latent;
        job->card_of[candidates[job->n_cards].latent] = (uint32_t)job->n_cards;
    }
    free(candidates);
    return TOOL_OK;
}

/* Counts the cards' values between 0 and each latent's largest. */
static int on_encoded(void *user, const tool_encoded *block) {
    report_job *job = user;
    for (size_t r = 0; r < block->rows; r++) {
        const msae_code *codes = block->codes + r * block->stride;
        for (size_t i = 0; i < block->counts[r]; i++) {
            const uint32_t latent = codes[i].latent;
            const float most = job->top[(size_t)latent * TOP_ROWS].value;
            if (job->card_of[latent] == CARDS || !(most > 0)) continue;
            size_t bin = (size_t)(codes[i].value / most * SPARK_BINS);
            if (bin >= SPARK_BINS) bin = SPARK_BINS - 1;
            job->sparks[job->card_of[latent]][bin]++;
        }
    }
    return TOOL_OK;
}

static int evaluate(report_job *job) {
    msae_error error;
    for (size_t m = 0; m < job->count; m++) {
        const msae_model *model = model_of(job, m);
        msae_eval_desc desc = {0};
        job->ks[m].count = tool_default_ks(model->n_latents, job->ks[m].values);
        job->sweeps[m] = tool_alloc(job->ks[m].count, sizeof *job->sweeps[m]);
        if (job->sweeps[m] == NULL) return tool_fail_memory();
        desc.ks = job->ks[m].values;
        desc.n_ks = job->ks[m].count;
        desc.cknna = !job->no_cknna;
        if (msae_evaluate(model, &job->inputs.data, &desc, job->ks[m].count, job->sweeps[m], NULL,
                          &error) != MSAE_OK) {
            return tool_fail_error(job->data_path, &error);
        }
    }
    if (msae_decoder_overlap(&job->inputs.model, 0, &job->overlap, &error) != MSAE_OK) {
        return tool_fail_error(job->model_path, &error);
    }
    return TOOL_OK;
}

static int score_latents(report_job *job) {
    const msae_host host = tool_host(&job->common, job->inputs.pool);
    for (size_t m = 0; m < job->count; m++) {
        job->scores[m].model = model_of(job, m);
        job->scores[m].path = job->paths[m];
    }
    return measure_latents(job->scores, job->count, &job->inputs.data, job->data_path, job->k,
                           job->labels_path != NULL ? &job->labels : NULL, &host);
}

static int name_latents(report_job *job) {
    const msae_model *model = &job->inputs.model;
    msae_name_desc desc = {0};
    msae_error error;
    uint32_t *groups = tool_alloc(job->words.count, sizeof *groups);
    job->found = tool_alloc(model->n_latents, sizeof *job->found);
    int status = groups != NULL && job->found != NULL ? tool_group_synonyms(&job->words, groups)
                                                      : tool_fail_memory();
    desc.data = &job->inputs.data;
    desc.k = job->k;
    desc.synonyms = groups;
    if (status == TOOL_OK &&
        msae_name_latents(model, &job->vocabulary, &desc, job->found, &error) != MSAE_OK) {
        status = tool_fail_error(job->vocabulary_path, &error);
    }
    free(groups);
    return status;
}

static int find_rows(report_job *job) {
    const msae_model *model = &job->inputs.model;
    msae_top_desc desc = {0};
    msae_error error;
    job->top = tool_alloc(model->n_latents, TOP_ROWS * sizeof *job->top);
    job->active_rows = tool_alloc(model->n_latents, sizeof *job->active_rows);
    if (job->top == NULL || job->active_rows == NULL) return tool_fail_memory();
    desc.top = TOP_ROWS;
    desc.k = job->k;
    if (msae_top_rows(model, &job->inputs.data, &desc, job->top, job->active_rows, &error) !=
        MSAE_OK) {
        return tool_fail_error(job->data_path, &error);
    }
    int status = choose_cards(job);
    if (status != TOOL_OK) return status;
    return tool_encode_data(model, &job->inputs.data, job->data_path, job->k, on_encoded, job);
}

static int study_attribute(report_job *job) {
    tool_study *study = &job->study;
    study->model = &job->inputs.model;
    study->data = &job->inputs.data;
    study->data_path = job->data_path;
    study->labels_path = job->labels_path;
    study->column = job->attribute;
    study->positive = job->positive;
    study->k = job->k;
    int status = tool_study_open(study);
    if (status != TOOL_OK) return status;
    return tool_study_sweep(study, study->all[0].latent, job->points, SWEEP_STEPS,
                            &job->swept_rows);
}

/* ---------------------------------------------------------------------------------------------
   Sections
   ------------------------------------------------------------------------------------------ */

static void begin_section(FILE *page, const char *id, const char *title) {
    fprintf(page, "<section id=\"%s\"><h2>%s</h2>\n", id, title);
}

static void end_section(FILE *page) {
    fputs("</section>\n", page);
}

static void put_missing(FILE *page, const char *id, const char *title, const char *how) {
    begin_section(page, id, title);
    fprintf(page, "<p class=\"soft\">%s</p>\n", how);
    end_section(page);
}

static void put_tile(FILE *page, const char *what, double value, int decimals) {
    fputs("<div class=\"tile\"><b>", page);
    page_real(page, value, decimals);
    fprintf(page, "</b><span>%s</span></div>\n", what);
}

static void put_head(FILE *page, const report_job *job) {
    const msae_model *model = &job->inputs.model;
    const msae_metrics *sweep = job->sweeps[0];
    char what[32 + TOOL_K_TEXT], text[TOOL_K_TEXT];
    size_t dead = 0;
    for (size_t j = 0; j < model->n_latents; j++) dead += job->active_rows[j] == 0;
    fputs("<header><button class=\"theme\" type=\"button\" hidden>light or dark</button><h1>",
          page);
    page_label(page, page_file_name(job->model_path));
    fprintf(page, "</h1>\n<p class=\"soft\">%s, %zu inputs, %zu latents",
            msae_enum_name(MSAE_ENUM_RECIPE, (int)model->recipe), model->n_inputs,
            model->n_latents);
    if (model->n_levels > 1) {
        fputs(model->recipe == MSAE_RECIPE_MSAE_WIDTH ? ", widths" : ", levels", page);
        for (size_t i = 0; i < model->n_levels; i++) fprintf(page, " %zu", model->nesting[i]);
    }
    fprintf(page, "; %llu steps of training. Measured on the %zu rows of ",
            (unsigned long long)model->history.steps, job->used);
    page_label(page, page_file_name(job->data_path));
    fputs(".</p>\n<div class=\"tiles\">\n", page);
    for (size_t i = 0; i < job->ks[0].count; i++) {
        if (sweep[i].k != 32 && sweep[i].k != 256) continue;
        snprintf(what, sizeof what, "variance lost (FVU) at k = %zu", sweep[i].k);
        put_tile(page, what, sweep[i].fvu_row, 4);
        snprintf(what, sizeof what, "cosine (CS) at k = %zu", sweep[i].k);
        put_tile(page, what, sweep[i].cs, 4);
    }
    put_tile(page, "active latents a row, all kept", sweep[job->ks[0].count - 1].l0, 0);
    snprintf(what, sizeof what, "dead latents (%s)", tool_k_text(&job->inputs.model, job->k, text));
    put_tile(page, what, (double)dead, 0);
    put_tile(page, "decoder overlap (DO)", job->overlap, 5);
    fputs("</div></header>\n", page);
}

enum { PLOTTED_FVU, PLOTTED_CS, PLOTTED_CKNNA, PLOTTED };

static double plotted(const msae_metrics *m, int what) {
    return what == PLOTTED_FVU ? m->fvu_row : what == PLOTTED_CS ? m->cs : m->cknna;
}

static void put_legend(FILE *page, const report_job *job) {
    fputs("<ul class=\"legend\">", page);
    for (size_t m = 0; m < job->count; m++) {
        fputs("<li>", page);
        chart_key(page, m, 0);
        page_label(page, page_file_name(job->paths[m]));
        fputs("</li>", page);
    }
    fputs("</ul>\n", page);
}

static void put_sweep_charts(FILE *page, const report_job *job) {
    static const char *const titles[PLOTTED] = {"Variance lost (FVU)", "Cosine (CS)",
                                                "Kept neighbourhoods (CKNNA)"};
    static const char *const labels[PLOTTED] = {
        "FVU, mean over rows", "cosine of embedding and reconstruction", "CKNNA, 10 neighbours"};
    double x[MAX_MODELS][MSAE_MAX_LEVELS], y[MAX_MODELS][MSAE_MAX_LEVELS], levels[MSAE_MAX_LEVELS];
    chart_series series[MAX_MODELS];
    const msae_model *model = &job->inputs.model;
    /* widths are no numbers of latents kept */
    const size_t marked = model->recipe == MSAE_RECIPE_MSAE_WIDTH ? 0 : model->n_levels;
    for (size_t i = 0; i < marked; i++) levels[i] = (double)model->nesting[i];
    fputs("<div class=\"charts\">\n", page);
    for (int what = 0; what < PLOTTED; what++) {
        if (what == PLOTTED_CKNNA && !isfinite(job->sweeps[0][0].cknna)) continue;
        for (size_t m = 0; m < job->count; m++) {
            for (size_t i = 0; i < job->ks[m].count; i++) {
                x[m][i] = (double)job->ks[m].values[i];
                y[m][i] = plotted(&job->sweeps[m][i], what);
            }
            const chart_series line = {
                page_file_name(job->paths[m]), m, 0, x[m], y[m], NULL, job->ks[m].count};
            series[m] = line;
        }
        const chart c = {titles[what],
                         "Against the number of latents kept; dashed lines are the levels.",
                         {"k, latents kept a row", CHART_LOG2, 0, 0, 0},
                         {labels[what], what == PLOTTED_FVU ? CHART_LOG10 : CHART_LINEAR, 0, 0, 0},
                         series,
                         job->count,
                         levels,
                         marked};
        chart_write(page, &c);
    }
    fputs("</div>\n", page);
}

static void put_sweep(FILE *page, const report_job *job) {
    static const char *const heads[] = {"model", "k",        "FVU row", "FVU set", "NMSE", "NMAE",
                                        "CS",    "sparsity", "L0",      "CKNNA",   "dead"};
    begin_section(page, "sweep", "How well it rebuilds at every sparsity");
    fprintf(page,
            "<p>Only the k strongest latents of each row are kept; dead latents are active in no "
            "row. Dashed vertical lines mark the nested levels%s.</p>\n",
            job->count > 1 ? " of the first model" : "");
    put_legend(page, job);
    put_sweep_charts(page, job);
    page_table_begin(page, "The same in numbers; a click on a head sorts.", heads,
                     TOOL_COUNT_OF(heads), 0);
    for (size_t m = 0; m < job->count; m++) {
        for (size_t i = 0; i < job->ks[m].count; i++) {
            const msae_metrics *s = &job->sweeps[m][i];
            fputs("<tr>", page);
            page_cell_text(page, page_file_name(job->paths[m]));
            page_cell(page, (double)s->k, 0);
            page_cell(page, s->fvu_row, 5);
            page_cell(page, s->fvu_set, 5);
            page_cell(page, s->nmse, 5);
            page_cell(page, s->nmae, 5);
            page_cell(page, s->cs, 5);
            page_cell(page, s->sparsity, 5);
            page_cell(page, s->l0, 1);
            page_cell(page, s->cknna, 4);
            page_cell(page, (double)s->ndn, 0);
            fputs("</tr>\n", page);
        }
    }
    page_table_end(page);
    end_section(page);
}

static void put_curve(FILE *page, const report_job *job, const char *title, const char *label,
                      chart_scale scale, size_t field, size_t second) {
    const size_t count = job->log.count;
    double *numbers = tool_alloc(count, 3 * sizeof *numbers);
    if (numbers == NULL) return;
    for (size_t i = 0; i < count; i++) {
        const double *epoch = &job->log.epochs[i].epoch;
        numbers[i] = epoch[0];
        numbers[count + i] = epoch[field];
        numbers[2 * count + i] = epoch[second];
    }
    const int has_second = second != field && isfinite(numbers[2 * count]);
    const chart_series series[] = {{label, 0, 0, numbers, numbers + count, NULL, count},
                                   {"validation", 1, 1, numbers, numbers + 2 * count, NULL, count}};
    const chart c = {title,
                     "By epoch.",
                     {"epoch", CHART_LINEAR, 0, 0, 0},
                     {label, scale, 0, 0, 0},
                     series,
                     has_second ? 2 : 1,
                     NULL,
                     0};
    chart_write(page, &c);
    free(numbers);
}

static void put_training(FILE *page, const report_job *job) {
    if (job->log.count == 0) {
        put_missing(page, "training", "Training",
                    "--log LOG, what msae train --json printed, brings the curves of training.");
        return;
    }
    begin_section(page, "training", "Training");
    fputs("<p>The means of each epoch", page);
    fputs(isfinite(job->log.epochs[0].val_loss) ? "; dashed: on validation rows.</p>\n" : ".</p>\n",
          page);
    fputs("<div class=\"charts\">\n", page);
    put_curve(page, job, "Loss", "loss", CHART_LOG10, 1, 2);
    put_curve(page, job, "Active latents", "latents a row", CHART_LINEAR, 3, 3);
    put_curve(page, job, "Dead latents", "latents", CHART_LINEAR, 4, 4);
    fputs("</div>\n", page);
    end_section(page);
}

static void put_frequencies(FILE *page, const report_job *job) {
    const size_t n = job->inputs.model.n_latents, rows = job->used;
    const double low = -ceil(log10((double)rows) + (rows < 2 ? 1 : 0));
    size_t counts[FREQUENCY_BINS] = {0}, dead = 0;
    for (size_t j = 0; j < n; j++) {
        if (job->active_rows[j] == 0) {
            dead++;
            continue;
        }
        const double place = 1 - log10((double)job->active_rows[j] / (double)rows) / low;
        size_t bin = (size_t)(place * FREQUENCY_BINS);
        if (bin >= FREQUENCY_BINS) bin = FREQUENCY_BINS - 1;
        counts[bin]++;
    }
    char text[TOOL_K_TEXT];
    begin_section(page, "frequency", "How often latents are active");
    fprintf(page,
            "<p>A latent's frequency is the share of rows in which it is active (%s); %zu of "
            "%zu latents are dead: active in no row.</p>\n",
            tool_k_text(&job->inputs.model, job->k, text), dead, n);
    if (job->count > 1) put_legend(page, job);
    fputs("<div class=\"charts\">\n", page);
    chart_frequencies(page, "Latents by frequency", counts, FREQUENCY_BINS, low, dead);
    put_density(page, job->scores, job->count);
    fputs("</div>\n", page);
    end_section(page);
}

static void put_scores(FILE *page, const report_job *job) {
    begin_section(page, "scores", "How good its latents are");
    fputs("<p>The values of the active latents in descending order. Monosemanticity is the mean "
          "cosine of two of the rows on which a latent is active, weighted by its values (Pach et "
          "al. 2025), less that of any two rows. A latent whose decoder row has another near it, "
          "or that shares most of its rows with another, says little of its own. Common are "
          "latents on 0.1 % of the rows and more.",
          page);
    if (job->labels_path != NULL) fputs(" Purity is of latents active on 20 rows and more.", page);
    fputs(" <code>msae score</code> has each latent's.</p>\n", page);
    put_legend(page, job);
    put_score_charts(page, job->scores, job->count);
    put_score_table(page, job->scores, job->count);
    end_section(page);
}

/* The latents whose decoder rows are nearest. */
static void put_nearest(FILE *page, const report_job *job, size_t latent) {
    const msae_model *model = &job->inputs.model;
    const size_t d = model->n_inputs;
    double cosines[NEAREST];
    size_t nearest[NEAREST], count = 0;
    for (size_t j = 0; j < model->n_latents; j++) {
        if (j == latent || job->active_rows[j] == 0) continue;
        double cosine = tool_cosine(model->decoder + latent * d, model->decoder + j * d, d);
        if (isnan(cosine)) cosine = 0; /* (of a row of zeros) */
        size_t at = count < NEAREST ? count++ : NEAREST;
        for (; at > 0 && cosine > cosines[at - 1]; at--) {
            if (at == NEAREST) continue;
            cosines[at] = cosines[at - 1];
            nearest[at] = nearest[at - 1];
        }
        if (at == NEAREST) continue;
        cosines[at] = cosine;
        nearest[at] = j;
    }
    fputs("<p class=\"near\"><span class=\"soft\">near: </span>", page);
    for (size_t i = 0; i < count; i++) {
        const char *name = name_of(job, nearest[i]);
        fputs(i == 0 ? "" : "; ", page); /* names have commas */
        if (name[0] != '\0') page_label(page, name);
        fprintf(page, "%s%zu (%.2f)", name[0] != '\0' ? " " : "", nearest[i], cosines[i]);
    }
    fputs("</p>", page);
}

static void put_card(FILE *page, const report_job *job, size_t card) {
    const size_t latent = job->cards[card], rows = job->used;
    const char *name = name_of(job, latent);
    fputs("<article class=\"card\"><h3>", page);
    if (name[0] != '\0') {
        page_label(page, name);
    } else {
        fprintf(page, "latent %zu", latent);
    }
    fprintf(page, "</h3><p class=\"soft\">latent %zu, active in %zu rows (", latent,
            job->active_rows[latent]);
    page_share(page, (double)job->active_rows[latent] / (double)rows);
    fprintf(page, ")%s</p>\n",
            name[0] != '\0' && !is_valid(job, latent) ? ", an uncertain name" : "");
    chart_spark(page, job->sparks[card], "values where it is active, from 0 to the largest");
    fputs("<ol>", page);
    for (size_t i = 0; i < top_count(job, latent); i++) {
        const msae_hit *hit = &job->top[latent * TOP_ROWS + i];
        fputs("<li><span>", page);
        if (job->labels.label != NULL && job->labels.label[hit->row][0] != '\0') {
            page_label(page, job->labels.label[hit->row]);
        } else {
            fprintf(page, "row %zu", hit->row);
        }
        fprintf(page, "</span><span>%.2f</span></li>", (double)hit->value);
    }
    fputs("</ol>\n", page);
    put_nearest(page, job, latent);
    fputs("</article>\n", page);
}

static void put_cards(FILE *page, const report_job *job) {
    begin_section(page, "concepts", "The strongest concepts");
    fprintf(page, "<p>%zu latents%s, %sby their mean value on their %d strongest rows. ",
            job->n_cards, job->used >= LARGE_SET ? " of a frequency of at most a twentieth" : "",
            job->found != NULL || job->names.name != NULL ? "valid names first, then " : "ordered ",
            (int)TOP_ROWS);
    fputs("Each with those rows, the histogram of its values where it is active (heights as "
          "square roots), and the latents whose decoder rows are nearest (cosine).</p>\n",
          page);
    if (job->found == NULL && job->names.name == NULL) {
        fputs("<p class=\"soft\">--vocab V.npy --words WORDS, or --names NAMES.tsv, brings "
              "names.</p>\n",
              page);
    }
    if (job->labels_path == NULL) {
        fputs("<p class=\"soft\">--labels L.tsv --column C says what the rows are.</p>\n", page);
    }
    fputs("<div class=\"cards\">\n", page);
    for (size_t c = 0; c < job->n_cards; c++) put_card(page, job, c);
    fputs("</div>\n", page);
    end_section(page);
}

static void put_bias_chart(FILE *page, const report_job *job) {
    const tool_study *study = &job->study;
    double x[SWEEP_STEPS], y[3][SWEEP_STEPS];
    const char *const names[] = {"all rows", study->value[0], study->value[1]};
    chart_series series[3];
    for (size_t s = 0; s < SWEEP_STEPS; s++) {
        x[s] = (double)job->points[s].value;
        y[0][s] = job->points[s].probability;
        y[1][s] = job->points[s].of_group[0];
        y[2][s] = job->points[s].of_group[1];
    }
    fputs("<ul class=\"legend\">", page);
    for (size_t i = 0; i < 3; i++) {
        const chart_series line = {names[i], i, 0, x, y[i], NULL, SWEEP_STEPS};
        series[i] = line;
        fputs("<li>", page);
        chart_key(page, i, 0);
        page_label(page, names[i]);
        fputs("</li>", page);
    }
    fputs("</ul>\n<div class=\"charts\">\n", page);
    const chart c = {"The probe along the strongest latent",
                     "Mean probability of the class when the latent is set to a value.",
                     {"value of the latent", CHART_LINEAR, 0, 0, 0},
                     {"probability of the class", CHART_LINEAR, 0, 1, 1},
                     series,
                     3,
                     NULL,
                     0};
    chart_write(page, &c);
    fputs("</div>\n", page);
}

static void put_bias(FILE *page, const report_job *job) {
    static const char *const heads[] = {
        "latent", "name",         "r",           "95 % from",         "to",
        "q",      "mean, others", "mean, class", "frequency, others", "frequency, class"};
    const tool_study *study = &job->study;
    if (job->attribute == NULL) {
        put_missing(
            page, "bias", "What goes with an attribute",
            "--labels L.tsv --attribute COLUMN brings the latents that go with an attribute "
            "of the rows, and a probe's answers along the strongest.");
        return;
    }
    const uint32_t swept = study->all[0].latent;
    begin_section(page, "bias", "What goes with an attribute");
    fputs("<p>Point-biserial correlation of each latent with ", page);
    page_label(page, job->attribute);
    fputs(": the class ", page);
    page_label(page, study->value[1]);
    fprintf(page, " (%zu rows) against ", study->rows_of[1]);
    page_label(page, study->value[0]);
    fprintf(
        page,
        " (%zu rows). q is the p value corrected for all latents (Benjamini-Hochberg). A linear "
        "probe fitted to these rows is right on ",
        study->rows_of[0]);
    page_share(page, study->score.accuracy);
    fprintf(page, " of them; the plot sets latent %lu ", (unsigned long)swept);
    page_label(page, name_of(job, swept));
    fprintf(page, " to values over its range in %zu rows, all else as it is.</p>\n",
            job->swept_rows);
    put_bias_chart(page, job);
    page_table_begin(page, "The strongest; a click on a head sorts.", heads, TOOL_COUNT_OF(heads),
                     1);
    for (size_t i = 0; i < BIAS_ROWS && i < job->inputs.model.n_latents; i++) {
        const attribute_correlation *c = &study->all[i];
        if (!isfinite(c->r)) break;
        fputs("<tr>", page);
        page_cell(page, (double)c->latent, 0);
        page_cell_text(page, name_of(job, c->latent));
        page_cell(page, c->r, 3);
        page_cell(page, c->low, 3);
        page_cell(page, c->high, 3);
        fprintf(page, "<td data-key=\"%.6g\">", c->log10_p);
        if (c->q > 0) {
            fprintf(page, "%.2g</td>", c->q);
        } else {
            fputs("&lt; 1e-300</td>", page);
        }
        page_cell(page, c->mean[0], 4);
        page_cell(page, c->mean[1], 4);
        page_cell_share(page, c->frequency[0]);
        page_cell_share(page, c->frequency[1]);
        fputs("</tr>\n", page);
    }
    page_table_end(page);
    end_section(page);
}

static void put_page(FILE *page, const report_job *job) {
    page_begin(page, page_file_name(job->model_path));
    put_head(page, job);
    fputs("<main>\n", page);
    put_sweep(page, job);
    put_training(page, job);
    put_frequencies(page, job);
    put_scores(page, job);
    put_cards(page, job);
    put_bias(page, job);
    fputs("</main>\n<footer>Made by msae " MSAE_VERSION
          ". The measures are those of Zaigrajew, Baniecki and Biecek, Interpreting CLIP with "
          "Hierarchical Sparse Autoencoders (ICML 2025).</footer>\n",
          page);
    page_end(page);
}

/* ---------------------------------------------------------------------------------------------
   The run
   ------------------------------------------------------------------------------------------ */

static int load_models(report_job *job) {
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, job->data_path);
    if (status != TOOL_OK) return status;
    const msae_load_desc desc = tool_load_desc(&job->common, job->inputs.pool);
    job->paths[job->count++] = job->model_path;
    for (size_t i = 0; i < job->more.count; i++) {
        const char *path = job->more.values[i];
        if (tool_has_ending(path, ".npy")) {
            return tool_fail(path, "is data, and only models may follow DATA: put the pattern of "
                                   "several files in quotes");
        }
        if (job->count == MAX_MODELS) return tool_fail(path, "more than %d models", MAX_MODELS);
        msae_model *model = &job->models[job->count];
        float **mean = &job->means[job->count];
        job->paths[job->count++] = path; /* what there is of it is freed from here on */
        status = tool_load_more(model, path, &desc, &job->inputs.model, job->model_path);
        if (status != TOOL_OK) return status;
        const msae_source source = msae_source_data(&job->inputs.data);
        status = tool_centre(model, &job->common, &source, path, mean);
        if (status != TOOL_OK) return status;
    }
    return TOOL_OK;
}

static int load(report_job *job) {
    int status = load_models(job);
    if (status != TOOL_OK) return status;
    job->used = tool_used_rows(&job->inputs.data);
    const size_t d = job->inputs.model.n_inputs;
    status = tool_settle_k(&job->inputs.model, job->model_path, &job->k);
    if (status != TOOL_OK) return status;
    if (job->vocabulary_path != NULL) {
        status =
            tool_load_data(&job->vocabulary, job->vocabulary_path, NULL, d, job->common.skip_bad);
        if (status == TOOL_OK) {
            status = tool_load_words(&job->words, job->words_path, NULL, job->vocabulary.rows,
                                     job->vocabulary_path);
        }
    }
    if (status == TOOL_OK)
        status =
            tool_load_names(&job->names, job->names_path, &job->inputs.stored, job->model_path);
    if (status == TOOL_OK && job->log_path != NULL)
        status = load_train_log(&job->log, &job->inputs.stored, job->log_path);
    if (status == TOOL_OK) {
        status = tool_load_labels(&job->labels, job->labels_path,
                                  job->column != NULL ? job->column : job->attribute,
                                  &job->inputs.data, job->data_path);
    }
    return status;
}

static int run(void *context) {
    report_job *job = context;
    tool_output output;
    int status = load(job);
    const double start = tool_seconds();
    if (status == TOOL_OK) status = evaluate(job);
    const double evaluated = tool_seconds();
    if (status == TOOL_OK && job->vocabulary_path != NULL) status = name_latents(job);
    if (status == TOOL_OK) status = find_rows(job);
    if (status == TOOL_OK) status = score_latents(job);
    if (status == TOOL_OK && job->attribute != NULL) status = study_attribute(job);
    if (status == TOOL_OK) status = tool_output_open(&output, job->output);
    if (status != TOOL_OK) return status;
    put_page(output.file, job);
    status = tool_output_close(&output);
    if (status != TOOL_OK) return status;
    const double rest = tool_seconds() - evaluated;
    if (job->common.json) {
        tool_json json = tool_json_line("done");
        tool_json_text(&json, "file", job->output);
        tool_json_count(&json, "models", job->count);
        tool_json_k(&json, &job->inputs.model, job->k);
        tool_json_count(&json, "concepts", job->n_cards);
        tool_json_real(&json, "eval_seconds", evaluated - start);
        tool_json_real(&json, "other_seconds", rest);
        tool_json_done(&json);
    } else {
        char text[TOOL_K_TEXT];
        printf("%s: %zu model%s, %zu concepts (%s); evaluation %.1f s, the rest %.1f s\n",
               job->output, job->count, job->count > 1 ? "s" : "", job->n_cards,
               tool_k_text(&job->inputs.model, job->k, text), evaluated - start, rest);
    }
    return TOOL_OK;
}

static void close_job(void *context) {
    report_job *job = context;
    for (size_t m = 0; m < job->count; m++) {
        free(job->sweeps[m]);
        free(job->means[m]);
        free_latent_scores(&job->scores[m]);
        if (m > 0) msae_model_free(&job->models[m]);
    }
    tool_study_close(&job->study);
    tool_free_labels(&job->labels);
    tool_free_names(&job->names);
    tool_free_words(&job->words);
    msae_data_free(&job->vocabulary);
    free_train_log(&job->log);
    free(job->found);
    free(job->top);
    free(job->active_rows);
    free(job->card_of);
    free(job->sparks);
    tool_close_inputs(&job->inputs);
}

#define AT(member) offsetof(report_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(model_path), ""},
    {"DATA", NULL, TOOL_OPERAND, AT(data_path), ""},
    {"MODEL", NULL, TOOL_REST, AT(more), ""},
    {"-o", "PAGE.html", TOOL_WRITES_PAGE, AT(output), "file to write (required)"},
    {"--vocab", "V.npy", TOOL_TEXT, AT(vocabulary_path), "embeddings of words, for names"},
    {"--words", "FILE", TOOL_TEXT, AT(words_path), "the words (see msae name)"},
    {"--names", "NAMES.tsv", TOOL_TEXT, AT(names_path), "or names that msae name wrote"},
    {"--labels", "L.tsv", TOOL_TEXT, AT(labels_path), "what the rows are"},
    {"--column", "C", TOOL_TEXT, AT(column), "the labels' column"},
    {"--attribute", "COLUMN", TOOL_TEXT, AT(attribute),
     "a column of --labels for the study of bias (see msae bias)"},
    {"--positive", "VALUE", TOOL_TEXT, AT(positive),
     "its value to set against the rest (default: the second of two)"},
    {"--log", "LOG", TOOL_TEXT, AT(log_path), "what msae train --json printed"},
    TOOL_OPTION_K(report_job, k),
    TOOL_OPTION_REFINE,
    {"--no-cknna", NULL, TOOL_FLAG, AT(no_cknna), "leave out cknna, the slowest metric"},
    TOOL_OPTION_OWN_STATISTICS,
    TOOL_OPTION_SKIP_BAD,
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {"--names", TOOL_EXCLUDES, "--vocab"},
    {"--column", TOOL_NEEDS, "--labels"},
    {"--attribute", TOOL_NEEDS, "--labels"},
    {"--positive", TOOL_NEEDS, "--attribute"},
    {"--tensor", TOOL_READS, "DATA|--vocab"},
    {"--vocab", TOOL_TOGETHER, "--words"},
    {NULL, TOOL_REQUIRED, "-o"},
};

const tool_command tool_report = {
    .name = "report",
    .brief = "writes a page about a model",
    .summary =
        "Writes one page, to be opened in a browser, with what can be seen of a model: how well\n"
        "it rebuilds DATA at every sparsity (with further models on the same plots), how it was\n"
        "trained, how often latents are active and how good they are, its strongest concepts,\n"
        "and what goes with an attribute. The page needs nothing but itself.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(report_job),
    .run = run,
    .close = close_job,
};
