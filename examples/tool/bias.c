/* msae bias: which latents go with an attribute, and what depends on them. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    NAME_WIDTH = 24, /* of a column */
    SHOWN = 20,
    STEPS = 11,
    SWEPT_ROWS = 1000,    /* rows of a sweep, evenly spaced among those with a label */
    ABLATED_ROWS = 10000, /* and of ablations */
    LISTED_VALUES = 5     /* of an attribute with too many, in an error */
};

typedef struct bias_job {
    tool_common common;
    const char *model_path, *names_path, *output;
    const char *swept; /* the latent to sweep, by number or name */
    size_t top, steps;
    tool_inputs inputs;
    tool_names names;
    tool_study study;
} bias_job;

/* ---------------------------------------------------------------------------------------------
   The attribute
   ------------------------------------------------------------------------------------------ */

static int choose_positive(tool_study *study) {
    const tool_labels *labels = &study->labels;
    char list[256] = "";
    if (labels->n_classes == 1) {
        return tool_fail(study->labels_path, "the attribute is constant: every label is '%s'",
                         labels->classes[0]);
    }
    if (study->positive == NULL && labels->n_classes == 2) {
        study->positive_class = 1;
        return TOOL_OK;
    }
    for (size_t c = 0; study->positive != NULL && c < labels->n_classes; c++) {
        if (strcmp(labels->classes[c], study->positive) != 0) continue;
        study->positive_class = (uint32_t)c;
        return TOOL_OK;
    }
    for (size_t c = 0, at = 0; c < labels->n_classes && c < LISTED_VALUES && at < sizeof list;
         c++) {
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", c == 0 ? "" : ", ",
                               labels->classes[c]);
    }
    if (labels->n_classes > LISTED_VALUES) {
        list[sizeof list - 5] = '\0';
        strcat(list, " ..");
    }
    if (study->positive != NULL) {
        return tool_fail("--positive", "no label is '%s', but %s", study->positive, list);
    }
    return tool_fail(study->labels_path,
                     "has %zu values (%s); --positive says which of them to set "
                     "against the rest",
                     labels->n_classes, list);
}

static int split_groups(tool_study *study) {
    const tool_labels *labels = &study->labels;
    study->attribute = tool_alloc(labels->rows, sizeof *study->attribute);
    if (study->attribute == NULL) return tool_fail_memory();
    for (size_t r = 0; r < labels->rows; r++) {
        study->attribute[r] = 2;
        if (labels->of_row[r] == TOOL_NO_LABEL) continue;
        study->attribute[r] = labels->of_row[r] == study->positive_class;
        study->rows_of[study->attribute[r]]++;
    }
    study->value[1] = labels->classes[study->positive_class];
    study->value[0] =
        labels->n_classes == 2 ? labels->classes[1 - study->positive_class] : "others";
    for (int g = 0; g < 2; g++) {
        if (study->rows_of[g] > 1) continue;
        return tool_fail(
            study->labels_path, "only one row is '%s' (row %zu): too few to compare",
            study->value[g],
            labels->first[g == 1 || labels->n_classes != 2 ? study->positive_class
                                                           : 1 - study->positive_class]);
    }
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   Correlations, the probe, samples of rows
   ------------------------------------------------------------------------------------------ */

/* Latents without a correlation come last. */
static int by_strength(const void *a, const void *b) {
    const attribute_correlation *x = a, *y = b;
    const double p = isfinite(x->r) ? fabs(x->r) : -1, q = isfinite(y->r) ? fabs(y->r) : -1;
    if (p != q) return p < q ? 1 : -1;
    return x->latent < y->latent ? -1 : 1;
}

/* Of some rows and their groups; the probe is asked for group 1. */
static attribute_audit audit_of(const tool_study *study, const msae_data *rows,
                                const uint8_t *groups) {
    const attribute_audit audit = {study->model, rows, study->k, groups, &study->probe, 1};
    return audit;
}

static int correlate(tool_study *study) {
    const msae_model *model = study->model;
    msae_error error;
    study->all = tool_alloc(model->n_latents, sizeof *study->all);
    if (study->all == NULL) return tool_fail_memory();
    const attribute_audit audit = audit_of(study, study->data, study->attribute);
    if (attributes_correlate(&audit, 0, study->all, &error) != MSAE_OK) {
        return tool_fail_error(study->data_path, &error);
    }
    qsort(study->all, model->n_latents, sizeof *study->all, by_strength);
    if (!isfinite(study->all[0].r)) {
        return tool_fail(study->data_path, "no latent varies over these rows");
    }
    return TOOL_OK;
}

static int fit_probe(tool_study *study) {
    const size_t rows = study->labels.rows;
    linear_probe_desc desc = {0};
    msae_error error;
    uint32_t *classes = tool_alloc(rows, sizeof *classes);
    if (classes == NULL) return tool_fail_memory();
    for (size_t r = 0; r < rows; r++) {
        classes[r] = study->attribute[r] <= 1 ? study->attribute[r] : LINEAR_PROBE_NO_CLASS;
    }
    desc.host.simd = study->model->simd;
    desc.host.parallel = study->model->parallel;
    desc.input = (linear_probe_input)study->probe_input;
    int status = TOOL_OK;
    if (linear_probe_fit(&study->probe, study->data, classes, 2, &desc, &error) != MSAE_OK ||
        linear_probe_measure(&study->probe, study->data, classes, &study->score, &error) !=
            MSAE_OK) {
        status = tool_fail_error(study->data_path, &error);
    }
    free(classes);
    return status;
}

/* At most `limit` of the labelled rows, evenly spaced, with their groups. */
static int sample_rows(const tool_study *study, size_t limit, msae_data *rows, float **values,
                       uint8_t **groups) {
    const size_t labelled = study->rows_of[0] + study->rows_of[1];
    const size_t count = labelled < limit ? labelled : limit;
    const size_t cols = study->data->cols;
    size_t seen = 0, taken = 0;
    *values = tool_alloc(count, cols * sizeof **values);
    *groups = tool_alloc(count, sizeof **groups);
    if (*values == NULL || *groups == NULL) return tool_fail_memory();
    for (size_t r = 0; r < study->labels.rows && taken < count; r++) {
        if (study->attribute[r] > 1) continue;
        if (seen++ != taken * labelled / count) continue;
        (*groups)[taken] = study->attribute[r];
        msae_data_read(study->data, r, 1, *values + taken++ * cols);
    }
    *rows = msae_data_view(*values, count, cols);
    return TOOL_OK;
}

int tool_study_open(tool_study *study) {
    int status = tool_load_labels(&study->labels, study->labels_path, study->column, study->data,
                                  study->data_path);
    if (status == TOOL_OK) status = choose_positive(study);
    if (status == TOOL_OK) status = split_groups(study);
    if (status == TOOL_OK) status = correlate(study);
    return status == TOOL_OK ? fit_probe(study) : status;
}

void tool_study_close(tool_study *study) {
    free(study->attribute);
    free(study->all);
    tool_free_labels(&study->labels);
    linear_probe_free(&study->probe);
}

/* From 0 to the latent's largest value in the data. */
int tool_study_sweep(const tool_study *study, uint32_t latent, attribute_point *points,
                     size_t steps, size_t *n_rows) {
    const msae_top_desc top = {&latent, 1, 1, study->k};
    msae_error error;
    msae_hit strongest;
    msae_data rows;
    float *x = NULL;
    uint8_t *groups = NULL;
    size_t active;
    if (msae_top_rows(study->model, study->data, &top, &strongest, &active, &error) != MSAE_OK) {
        return tool_fail_error(study->data_path, &error);
    }
    float *values = tool_alloc(steps, sizeof *values);
    int status =
        values != NULL ? sample_rows(study, SWEPT_ROWS, &rows, &x, &groups) : tool_fail_memory();
    if (status == TOOL_OK) {
        for (size_t s = 0; s < steps; s++) {
            values[s] = strongest.value * (float)s / (float)(steps - 1);
        }
        const attribute_audit audit = audit_of(study, &rows, groups);
        if (attributes_sweep(&audit, latent, values, steps, points, &error) != MSAE_OK) {
            status = tool_fail_error(study->data_path, &error);
        }
        *n_rows = rows.rows;
    }
    free(values);
    free(x);
    free(groups);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   What is printed of the correlations
   ------------------------------------------------------------------------------------------ */

static size_t count_significant(const bias_job *job) {
    size_t count = 0;
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) count += job->study.all[j].q < 0.05;
    return count;
}

static void print_correlation_json(const bias_job *job, const attribute_correlation *c) {
    tool_json json = tool_json_line("correlation");
    tool_json_count(&json, "latent", c->latent);
    tool_json_name(&json, &job->names, c->latent);
    tool_json_real(&json, "r", c->r);
    tool_json_real(&json, "low", c->low);
    tool_json_real(&json, "high", c->high);
    tool_json_real(&json, "p", c->p);
    tool_json_real(&json, "log10_p", c->log10_p);
    tool_json_real(&json, "q", c->q);
    tool_json_real(&json, "mean_negative", c->mean[0]);
    tool_json_real(&json, "mean_positive", c->mean[1]);
    tool_json_real(&json, "frequency_negative", c->frequency[0]);
    tool_json_real(&json, "frequency_positive", c->frequency[1]);
    tool_json_end(&json, '}');
}

static void print_correlations(const bias_job *job) {
    if (!job->common.json) {
        char text[TOOL_K_TEXT];
        printf("%s: %zu rows are '%s', %zu are '%s', %zu have no label; %s\n",
               job->study.column != NULL ? job->study.column : job->study.labels_path,
               job->study.rows_of[1], job->study.value[1], job->study.rows_of[0],
               job->study.value[0], job->study.labels.unlabelled,
               tool_k_text(&job->inputs.model, job->study.k, text));
        printf("%zu of %zu latents go with it (q below 0.05); the strongest:\n",
               count_significant(job), job->inputs.model.n_latents);
        printf("%7s  %-24s %7s  %-18s %9s  %-20s %s\n", "latent", "name", "r", "95 % interval", "q",
               "mean value, - and +", "frequency, - and +");
    }
    for (size_t i = 0; i < job->top && isfinite(job->study.all[i].r); i++) {
        const attribute_correlation *c = &job->study.all[i];
        tool_short_name room;
        if (job->common.json) {
            print_correlation_json(job, c);
        } else {
            printf("%7lu  ", (unsigned long)c->latent);
            tool_print_column(tool_short_name_of(&job->names, c->latent, &room), NAME_WIDTH);
            printf(" %+7.3f  %+.3f .. %+.3f  %9.2g  %8.4f %8.4f    %6.2f%% %6.2f%%\n", c->r, c->low,
                   c->high, c->q, c->mean[0], c->mean[1], 100 * c->frequency[0],
                   100 * c->frequency[1]);
        }
    }
}

static void put_number(FILE *file, double value) {
    if (isfinite(value)) {
        fprintf(file, "\t%.7g", value);
    } else {
        fputs("\t", file);
    }
}

static int write_table(const bias_job *job) {
    tool_output output;
    int status = tool_output_open(&output, job->output);
    if (status != TOOL_OK) return status;
    fputs("latent\tname\tr\tlow\thigh\tp\tlog10_p\tq\tmean_negative\tmean_positive\t"
          "active_negative\tactive_positive\n",
          output.file);
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const attribute_correlation *c = &job->study.all[j];
        const double numbers[] = {
            c->r,       c->low,     c->high,         c->p,           c->log10_p, c->q,
            c->mean[0], c->mean[1], c->frequency[0], c->frequency[1]};
        fprintf(output.file, "%lu\t%s", (unsigned long)c->latent,
                tool_name_of(&job->names, c->latent));
        for (size_t i = 0; i < TOOL_COUNT_OF(numbers); i++) {
            put_number(output.file, numbers[i]);
        }
        fputc('\n', output.file);
    }
    return tool_output_close(&output);
}

/* ---------------------------------------------------------------------------------------------
   Sweep and ablations
   ------------------------------------------------------------------------------------------ */

static void print_sweep(const bias_job *job, uint32_t latent, const attribute_point *points,
                        size_t rows) {
    tool_short_name room;
    if (job->common.json) {
        tool_json json = tool_json_line("sweep");
        tool_json_count(&json, "latent", latent);
        tool_json_name(&json, &job->names, latent);
        tool_json_choices(&json, &job->names);
        tool_json_text(&json, "class", job->study.value[1]);
        tool_json_count(&json, "rows", rows);
        tool_json_begin(&json, "points", '[');
        for (size_t s = 0; s < job->steps; s++) {
            tool_json_begin(&json, NULL, '{');
            tool_json_real(&json, "value", (double)points[s].value);
            tool_json_real(&json, "probability", points[s].probability);
            tool_json_real(&json, "of_negative", points[s].of_group[0]);
            tool_json_real(&json, "of_positive", points[s].of_group[1]);
            tool_json_end(&json, '}');
        }
        tool_json_end(&json, ']');
        tool_json_end(&json, '}');
        return;
    }
    printf("\nlatent %lu %s over its range, the rest of %zu rows as it is: probability of '%s'\n",
           (unsigned long)latent, tool_short_name_of(&job->names, latent, &room), rows,
           job->study.value[1]);
    printf("%10s  %8s  %8s  %8s\n", "value", "all", job->study.value[0], job->study.value[1]);
    for (size_t s = 0; s < job->steps; s++) {
        const attribute_point *point = &points[s];
        printf("%10.4f  %8.4f  %8.4f  %8.4f  ", (double)point->value, point->probability,
               point->of_group[0], point->of_group[1]);
        for (int i = 0; i < (int)(point->probability * 30 + 0.5); i++) putchar('*');
        putchar('\n');
    }
}

static int sweep(const bias_job *job, uint32_t latent) {
    attribute_point *points = tool_alloc(job->steps, sizeof *points);
    size_t rows = 0;
    if (points == NULL) return tool_fail_memory();
    int status = tool_study_sweep(&job->study, latent, points, job->steps, &rows);
    if (status == TOOL_OK) print_sweep(job, latent, points, rows);
    free(points);
    return status;
}

static void print_ablations(const bias_job *job, const attribute_ablation *ablations, size_t count,
                            size_t rows) {
    if (!job->common.json) {
        printf("\ndecisions of %zu that change without a latent\n", rows);
        printf("%7s  %-24s %8s %8s  %s\n", "latent", "name", "active", "changed",
               "to and from the class");
    }
    for (size_t i = 0; i < count; i++) {
        const attribute_ablation *a = &ablations[i];
        tool_short_name room;
        if (job->common.json) {
            tool_json json = tool_json_line("ablation");
            tool_json_count(&json, "latent", a->latent);
            tool_json_name(&json, &job->names, a->latent);
            tool_json_count(&json, "rows", rows);
            tool_json_count(&json, "active", a->active);
            tool_json_count(&json, "flips", a->flips);
            tool_json_count(&json, "to_positive", a->gained);
            tool_json_count(&json, "from_positive", a->lost);
            tool_json_end(&json, '}');
        } else {
            printf("%7lu  ", (unsigned long)a->latent);
            tool_print_column(tool_short_name_of(&job->names, a->latent, &room), NAME_WIDTH);
            printf(" %8zu %8zu  +%zu -%zu\n", a->active, a->flips, a->gained, a->lost);
        }
    }
}

static int ablate(const bias_job *job) {
    msae_error error;
    msae_data rows;
    float *values = NULL;
    uint8_t *groups = NULL;
    size_t count = 0;
    while (count < job->top && isfinite(job->study.all[count].r)) count++;
    uint32_t *latents = tool_alloc(count, sizeof *latents);
    attribute_ablation *ablations = tool_alloc(count, sizeof *ablations);
    int status = latents != NULL && ablations != NULL
                     ? sample_rows(&job->study, ABLATED_ROWS, &rows, &values, &groups)
                     : tool_fail_memory();
    if (status == TOOL_OK) {
        for (size_t i = 0; i < count; i++) latents[i] = job->study.all[i].latent;
        const attribute_audit audit = audit_of(&job->study, &rows, NULL);
        if (attributes_ablate(&audit, latents, count, ablations, &error) != MSAE_OK) {
            status = tool_fail_error(job->study.data_path, &error);
        } else {
            print_ablations(job, ablations, count, rows.rows);
        }
    }
    free(latents);
    free(ablations);
    free(values);
    free(groups);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   The run
   ------------------------------------------------------------------------------------------ */

static void print_done(const bias_job *job, const linear_probe_score *score) {
    if (!job->common.json) {
        printf("\nthe probe is right on %.2f%% of the %zu labelled rows, on which it was fitted\n",
               100 * score->accuracy, score->rows);
        return;
    }
    tool_json json = tool_json_line("done");
    tool_json_text(&json, "positive", job->study.value[1]);
    tool_json_text(&json, "negative", job->study.value[0]);
    tool_json_count(&json, "rows_positive", job->study.rows_of[1]);
    tool_json_count(&json, "rows_negative", job->study.rows_of[0]);
    tool_json_count(&json, "without_label", job->study.labels.unlabelled);
    tool_json_k(&json, &job->inputs.model, job->study.k);
    tool_json_count(&json, "significant", count_significant(job));
    tool_json_real(&json, "probe_accuracy", score->accuracy);
    tool_json_done(&json);
}

static int load(bias_job *job) {
    tool_study *study = &job->study;
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, study->data_path);
    if (status != TOOL_OK) return status;
    const size_t n = job->inputs.model.n_latents;
    if (job->top > n) job->top = n;
    status = tool_settle_k(&job->inputs.model, job->model_path, &study->k);
    if (status != TOOL_OK) return status;
    study->model = &job->inputs.model;
    study->data = &job->inputs.data;
    return tool_load_names(&job->names, job->names_path, &job->inputs.stored, job->model_path);
}

/* Whether the latent has a range to sweep. */
static int check_swept(const tool_study *study, uint32_t latent) {
    const attribute_correlation *c = study->all;
    while (c->latent != latent) c++;
    if (c->frequency[0] > 0 || c->frequency[1] > 0) return TOOL_OK;
    return tool_fail("--sweep", "latent %lu is active on no labelled row of %s",
                     (unsigned long)latent, study->data_path);
}

static int run(void *context) {
    bias_job *job = context;
    const tool_study *study = &job->study;
    uint32_t swept = 0;
    if (job->steps < 2) return tool_fail("--steps", "a sweep has at least 2");
    int status = load(job);
    if (status == TOOL_OK && job->swept != NULL) {
        status = tool_find_concept("--sweep", &job->names, job->swept, &swept);
    }
    if (status == TOOL_OK) status = tool_study_open(&job->study);
    if (status == TOOL_OK && job->swept == NULL) swept = study->all[0].latent;
    if (status == TOOL_OK) status = check_swept(study, swept);
    if (status == TOOL_OK && job->output != NULL) status = write_table(job);
    if (status != TOOL_OK) return status;
    print_correlations(job);
    status = sweep(job, swept);
    if (status == TOOL_OK) status = ablate(job);
    if (status == TOOL_OK) print_done(job, &study->score);
    return status;
}

static void close_job(void *context) {
    bias_job *job = context;
    tool_study_close(&job->study);
    tool_free_names(&job->names);
    tool_close_inputs(&job->inputs);
}

static const bias_job defaults = {.top = SHOWN, .steps = STEPS};

#define AT(member) offsetof(bias_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(model_path), ""},
    {"DATA", NULL, TOOL_OPERAND, AT(study.data_path), ""},
    {"--labels", "L.tsv", TOOL_TEXT, AT(study.labels_path), "a label for each row (required)"},
    {"--column", "C", TOOL_TEXT, AT(study.column), "the labels' column: the attribute"},
    {"--positive", "VALUE", TOOL_TEXT, AT(study.positive),
     "the value to set against the rest (default: the second of two)"},
    {"--names", "NAMES.tsv", TOOL_TEXT, AT(names_path), "names of the latents (msae name)"},
    {"--top", "N", TOOL_COUNT, AT(top), "latents to show and ablate (default: 20)"},
    TOOL_OPTION_K(bias_job, study.k),
    {"--sweep", "LATENT", TOOL_TEXT, AT(swept),
     "the latent to sweep, by number or name (default: the strongest)"},
    {"--steps", "N", TOOL_COUNT, AT(steps), "values of the sweep (default: 11)"},
    {"--probe-input", "published|raw", TOOL_CHOICE, AT(study.probe_input),
     "embeddings less their mean, or as they are, at unit length (default: published)"},
    {"-o", "TABLE.tsv", TOOL_WRITES_TABLE, AT(output), "also write a table of all latents"},
    TOOL_OPTION_OWN_STATISTICS,
    TOOL_OPTION_SKIP_BAD,
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {NULL, TOOL_REQUIRED, "--labels"},
    {"--tensor", TOOL_READS, "DATA"},
};

const tool_command tool_bias = {
    .name = "bias",
    .brief = "finds the latents that go with an attribute",
    .summary =
        "Finds the latents that go with an attribute of the rows: the point-biserial correlation\n"
        "of each with the attribute, its confidence interval, q, its p value corrected for the\n"
        "number of latents (Benjamini-Hochberg), and its frequency in either group. Then fits a\n"
        "linear probe to the attribute and shows its probability along the range of one latent\n"
        "(on at most 1,000 rows), and how many of its decisions (of at most 10,000) change\n"
        "without each of the strongest.\n"
        "Rows with an empty label are left out.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(bias_job),
    .defaults = &defaults,
    .run = run,
    .close = close_job,
};
