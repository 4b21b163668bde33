/* msae top: a latent's strongest rows, a row's strongest concepts. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

typedef struct top_job {
    tool_common common;
    const char *model_path, *data_path, *labels_path, *column, *names_path, *tree_path;
    const char *latent, *row_text;
    size_t row, top, k;
    tool_inputs inputs;
    tool_labels labels;
    tool_names names;
    tool_parents tree;
} top_job;

/* The label, or NULL where there are none. */
static const char *label_of(const top_job *job, size_t row) {
    return job->labels_path != NULL ? job->labels.label[row] : NULL;
}

/* ---------------------------------------------------------------------------------------------
   A latent's rows
   ------------------------------------------------------------------------------------------ */

/* "parents: 463 animal (p 0.57, lift 7.9), ..", or that there are none. */
static void print_parents(const top_job *job, uint32_t latent) {
    size_t count;
    const msae_edge *parents = tool_parents_of(&job->tree, latent, &count);
    printf("parents: %s", count == 0 ? "none, a root" : "");
    for (size_t i = 0; i < count; i++) {
        if (i > 0) fputs(", ", stdout);
        tool_print_latent(&job->names, parents[i].parent);
        printf(" (p %.2f, lift %.1f)", (double)parents[i].p, (double)parents[i].lift);
    }
    putchar('\n');
}

static void print_rows(const top_job *job, uint32_t latent, const msae_hit *hits, size_t active) {
    const size_t rows = tool_used_rows(&job->inputs.data);
    const size_t listed = active < job->top ? active : job->top;
    char text[TOOL_K_TEXT];
    if (job->common.json) {
        tool_json json = tool_json_line(NULL);
        tool_json_concept(&json, &job->names, latent);
        tool_json_count(&json, "rows", rows);
        tool_json_k(&json, &job->inputs.model, job->k);
        tool_json_count(&json, "active", active);
        tool_json_choices(&json, &job->names);
        tool_json_parents(&json, &job->tree, &job->names, latent);
        tool_json_hits(&json, "top", "value", hits, listed, job->labels.label);
        tool_json_done(&json);
        return;
    }
    tool_short_name room;
    const char *name = tool_short_name_of(&job->names, latent, &room);
    printf("latent %lu%s%s: active on %zu of %zu row%s (%.2f%%; %s)\n", (unsigned long)latent,
           *name ? " " : "", name, active, rows, tool_plural(rows),
           100 * (double)active / (double)rows, tool_k_text(&job->inputs.model, job->k, text));
    if (job->tree_path != NULL) print_parents(job, latent);
    printf("%8s %9s  %s\n", "row", "value", job->labels_path != NULL ? "label" : "");
    for (size_t i = 0; i < listed; i++) {
        const char *label = label_of(job, hits[i].row);
        printf("%8zu %9.4f  %s\n", hits[i].row, (double)hits[i].value, label ? label : "");
    }
}

static int show_latent(top_job *job) {
    const msae_model *model = &job->inputs.model;
    const msae_data *data = &job->inputs.data;
    msae_error error;
    uint32_t latent;
    size_t active;
    int status = tool_find_concept("--latent", &job->names, job->latent, &latent);
    if (status != TOOL_OK) return status;
    if (job->top > data->rows) job->top = data->rows;
    msae_hit *hits = tool_alloc(job->top, sizeof *hits);
    if (hits == NULL) return tool_fail_memory();
    const msae_top_desc desc = {&latent, 1, job->top, job->k};
    if (msae_top_rows(model, data, &desc, hits, &active, &error) != MSAE_OK) {
        status = tool_fail_error(job->data_path, &error);
    } else if (active == 0) {
        status = tool_fail("--latent", "latent %lu is active on no row of %s",
                           (unsigned long)latent, job->data_path);
    } else {
        print_rows(job, latent, hits, active);
    }
    free(hits);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   A row's concepts
   ------------------------------------------------------------------------------------------ */

static void json_concepts(const top_job *job, tool_json *json, const msae_code *codes,
                          size_t count) {
    tool_json_begin(json, "concepts", '[');
    for (size_t i = 0; i < count; i++) {
        tool_json_begin(json, NULL, '{');
        tool_json_concept(json, &job->names, codes[i].latent);
        tool_json_real(json, "value", (double)codes[i].value);
        tool_json_parents(json, &job->tree, &job->names, codes[i].latent);
        tool_json_end(json, '}');
    }
    tool_json_end(json, ']');
}

/* "12 beagle < 463 dog": of several parents the best. */
static void print_concept(const top_job *job, const msae_code *code) {
    tool_short_name room;
    size_t count;
    const msae_edge *parents = tool_parents_of(&job->tree, code->latent, &count);
    const char *name = tool_short_name_of(&job->names, code->latent, &room);
    printf("%8lu %9.4f  %s", (unsigned long)code->latent, (double)code->value, name);
    if (count > 0) {
        printf("%s< ", *name != '\0' ? " " : "");
        tool_print_latent(&job->names, parents->parent);
    }
    putchar('\n');
}

static void print_concepts(const top_job *job, const msae_code *codes, size_t active) {
    const size_t listed = active < job->top ? active : job->top;
    const char *label = label_of(job, job->row);
    char text[TOOL_K_TEXT];
    if (job->common.json) {
        tool_json json = tool_json_line(NULL);
        tool_json_count(&json, "row", job->row);
        if (label) tool_json_text(&json, "label", label);
        tool_json_k(&json, &job->inputs.model, job->k);
        tool_json_count(&json, "active", active);
        json_concepts(job, &json, codes, listed);
        tool_json_done(&json);
        return;
    }
    printf("row %zu%s%s: %zu active latents (%s)\n", job->row, label && *label ? " " : "",
           label ? label : "", active, tool_k_text(&job->inputs.model, job->k, text));
    printf("%8s %9s  %s\n", "latent", "value",
           job->names_path != NULL  ? job->tree_path != NULL ? "name < parent" : "name"
           : job->tree_path != NULL ? "< parent"
                                    : "");
    for (size_t i = 0; i < listed; i++) print_concept(job, &codes[i]);
}

static int show_row(top_job *job) {
    const msae_model *model = &job->inputs.model;
    msae_error error;
    size_t active = 0;
    const tool_row_labels labels = {job->labels.label, job->labels_path, "--labels"};
    int status = tool_find_row("--row", job->row_text, &labels, &job->inputs.data, job->data_path,
                               &job->row);
    if (status != TOOL_OK) return status;
    float *x = tool_alloc(model->n_inputs, sizeof *x);
    void *workspace = tool_alloc(msae_workspace_bytes(model, 1), 1);
    msae_code *codes = tool_alloc(model->n_latents, sizeof *codes);
    if (x == NULL || workspace == NULL || codes == NULL) {
        status = tool_fail_memory();
    } else {
        msae_data_read(&job->inputs.data, job->row, 1, x);
        if (msae_encode_rows(model, workspace, x, 1, job->k,
                             &(msae_rows){codes, &active, model->n_latents}, &error) != MSAE_OK) {
            status = tool_fail_error(job->data_path, &error);
        } else if (active == 0) {
            status =
                tool_fail("--row", "row %zu of %s has no active latent", job->row, job->data_path);
        } else {
            print_concepts(job, codes, active);
        }
    }
    free(x);
    free(workspace);
    free(codes);
    return status;
}

static int run(void *context) {
    top_job *job = context;
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, job->data_path);
    if (status != TOOL_OK) return status;
    status = tool_settle_k(&job->inputs.model, job->model_path, &job->k);
    if (status != TOOL_OK) return status;
    status = tool_load_names(&job->names, job->names_path, &job->inputs.stored, job->model_path);
    if (status == TOOL_OK) {
        status =
            tool_load_parents(&job->tree, job->tree_path, &job->inputs.stored, job->model_path);
    }
    if (status == TOOL_OK) {
        status = tool_load_labels(&job->labels, job->labels_path, job->column, &job->inputs.data,
                                  job->data_path);
    }
    if (status != TOOL_OK) return status;
    return job->latent != NULL ? show_latent(job) : show_row(job);
}

static void close_job(void *context) {
    top_job *job = context;
    tool_free_labels(&job->labels);
    tool_free_names(&job->names);
    tool_free_parents(&job->tree);
    tool_close_inputs(&job->inputs);
}

static const top_job defaults = {.top = 10};

#define AT(member) offsetof(top_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(model_path), ""},
    {"DATA", NULL, TOOL_OPERAND, AT(data_path), ""},
    {"--latent", "J|NAME", TOOL_TEXT, AT(latent), "the latent whose strongest rows to list"},
    {"--row", "R|LABEL", TOOL_TEXT, AT(row_text),
     ".. or the row whose strongest concepts to list: its number, counted from 0, or with\n"
     "--labels its label (=1984 for one of digits alone)"},
    {"--top", "N", TOOL_COUNT, AT(top), "how many (default: 10)"},
    TOOL_OPTION_LABELS(top_job, labels_path),
    TOOL_OPTION_COLUMN(top_job, column),
    TOOL_OPTION_NAMES(top_job, names_path),
    TOOL_OPTION_TREE(top_job, tree_path),
    TOOL_OPTION_K(top_job, k),
    TOOL_OPTION_REFINE,
    TOOL_OPTION_OWN_STATISTICS,
    TOOL_OPTION_SKIP_BAD,
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {NULL, TOOL_REQUIRED, "--latent|--row"},
    {"--row", TOOL_EXCLUDES, "--latent"},
    {"--column", TOOL_NEEDS, "--labels"},
    {"--tensor", TOOL_READS, "DATA"},
};

const tool_command tool_top = {
    .name = "top",
    .brief = "shows a latent's strongest rows, or a row's strongest concepts",
    .summary =
        "Lists the rows of DATA that activate a latent most, or the latents that are strongest\n"
        "on a row. A latent is given by number or, with --names, by name; of several with one\n"
        "name those active on 20 rows or more come first, of these the valid ones, then the best\n"
        "score (counted less where the rows are few), then the most rows.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(top_job),
    .defaults = &defaults,
    .run = run,
    .close = close_job,
};
