/* msae steer: edits concepts of embeddings and decodes them. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct steer_job {
    tool_common common;
    const char *model_path, *data_path, *names_path, *output;
    const char *row, *labels_path, *column;
    const char *lists[MSAE_EDIT_COUNT]; /* of each operation's option */
    size_t top, k;
    int keep_rest, raw;
    tool_inputs inputs;
    tool_words labels;
    tool_names names;
    tool_edits edits;
    float *out;            /* [rows, d] */
    msae_steered *steered; /* [rows] */
    msae_change *changes;  /* [n] */
    size_t *others;        /* [n] latents that are not edited, most changed first */
    size_t n_others;
} steer_job;

static const char *const option_names[] = {"--set", "--add", "--scale", "--clamp", "--ablate"};

/* ---------------------------------------------------------------------------------------------
   Output
   ------------------------------------------------------------------------------------------ */

/* Means over the rows that have a value. */
static msae_steered mean_of(const msae_steered *steered, size_t rows) {
    msae_steered sum = {0, 0, 0, 0};
    size_t steered_rows = 0, cosines = 0, recon_cosines = 0;
    for (size_t r = 0; r < rows; r++) {
        if (!isfinite(steered[r].distance)) continue; /* left out */
        steered_rows++;
        sum.distance += steered[r].distance;
        sum.recon_distance += steered[r].recon_distance;
        if (isfinite(steered[r].cosine)) {
            sum.cosine += steered[r].cosine;
            cosines++;
        }
        if (isfinite(steered[r].recon_cosine)) {
            sum.recon_cosine += steered[r].recon_cosine;
            recon_cosines++;
        }
    }
    sum.distance /= (double)steered_rows;
    sum.recon_distance /= (double)steered_rows;
    sum.cosine = cosines > 0 ? sum.cosine / (double)cosines : NAN;
    sum.recon_cosine = recon_cosines > 0 ? sum.recon_cosine / (double)recon_cosines : NAN;
    return sum;
}

static void json_change(const steer_job *job, tool_json *json, size_t latent) {
    const msae_change *change = &job->changes[latent];
    tool_json_concept(json, &job->names, latent);
    tool_json_real(json, "before", change->before);
    tool_json_real(json, "after", change->after);
    tool_json_real(json, "change", change->change);
}

/* How far the edits alone moved the rows, in cosine. The cosine of equal rows is 1 but for
   rounding, to either side. */
static double moved(const steer_job *job, const msae_steered *mean) {
    const double cosine = job->keep_rest ? mean->cosine : mean->recon_cosine;
    const double distance = job->keep_rest ? mean->distance : mean->recon_distance;
    return distance == 0 || cosine > 1 ? 0 : 1 - cosine;
}

static void print_json(const steer_job *job, const msae_steered *mean, size_t rows) {
    tool_json json = tool_json_line("done");
    tool_json_count(&json, "rows", rows);
    tool_json_k(&json, &job->inputs.model, job->k);
    tool_json_count(&json, "cols", job->inputs.model.n_inputs);
    tool_json_text(&json, "file", job->output);
    tool_json_bool(&json, "keep_rest", job->keep_rest);
    tool_json_real(&json, "cosine", mean->cosine);
    tool_json_real(&json, "distance", mean->distance);
    tool_json_real(&json, "recon_cosine", mean->recon_cosine);
    tool_json_real(&json, "recon_distance", mean->recon_distance);
    tool_json_real(&json, "moved", moved(job, mean));
    tool_json_choices(&json, &job->names);
    tool_json_begin(&json, "edits", '[');
    for (size_t i = 0; i < job->edits.count; i++) {
        const msae_edit *edit = &job->edits.items[i];
        tool_json_begin(&json, NULL, '{');
        tool_json_text(&json, "operation", tool_operation_name(edit->operation));
        if (edit->operation != MSAE_EDIT_ABLATE) {
            tool_json_real(&json, "value", (double)edit->value);
        }
        if (edit->operation == MSAE_EDIT_CLAMP) tool_json_real(&json, "high", (double)edit->high);
        json_change(job, &json, edit->latent);
        tool_json_end(&json, '}');
    }
    tool_json_end(&json, ']');
    tool_json_begin(&json, "others", '[');
    for (size_t i = 0; i < job->n_others; i++) {
        tool_json_begin(&json, NULL, '{');
        json_change(job, &json, job->others[i]);
        tool_json_end(&json, '}');
    }
    tool_json_end(&json, ']');
    tool_json_done(&json);
}

static void print_change(const steer_job *job, size_t latent, const char *operation) {
    const msae_change *change = &job->changes[latent];
    tool_short_name room;
    printf("%-7s %6zu %10.4f %10.4f %10.4f  %s\n", operation, latent, change->before, change->after,
           change->change, tool_short_name_of(&job->names, latent, &room));
}

static void print_text(const steer_job *job, const msae_steered *mean, size_t rows) {
    char text[TOOL_K_TEXT];
    printf("%s: %zu row%s of %zu; %s\n", job->output, rows, tool_plural(rows),
           job->inputs.model.n_inputs, tool_k_text(&job->inputs.model, job->k, text));
    printf("from the rows to the steered ones: cosine %.4f, distance %.4f\n", mean->cosine,
           mean->distance);
    printf("between the decoded codes, without and with the edits: cosine %.4f, distance %.4f\n",
           mean->recon_cosine, mean->recon_distance);
    for (size_t i = 0; i < job->edits.count; i++) {
        const uint32_t latent = job->edits.items[i].latent;
        tool_print_change(&job->names, latent, job->changes[latent].before,
                          job->changes[latent].after);
    }
    printf("moved %.2g in cosine\n", moved(job, mean));
    printf("\nlatents encoded anew, mean values without and with the edits\n");
    printf("%-7s %6s %10s %10s %10s  %s\n", "edit", "latent", "without", "with", "|change|",
           job->names_path != NULL ? "name" : "");
    for (size_t i = 0; i < job->edits.count; i++) {
        print_change(job, job->edits.items[i].latent,
                     tool_operation_name(job->edits.items[i].operation));
    }
    for (size_t i = 0; i < job->n_others; i++) print_change(job, job->others[i], "-");
}

/* ---------------------------------------------------------------------------------------------
   The run
   ------------------------------------------------------------------------------------------ */

static int is_edited(const steer_job *job, size_t latent) {
    size_t i = 0;
    while (i < job->edits.count && job->edits.items[i].latent != latent) i++;
    return i < job->edits.count;
}

/* The latents that changed most beside those edited; ties: the lower latent. */
static void find_others(steer_job *job) {
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const double change = job->changes[j].change;
        size_t place = job->n_others;
        if (!(change > 0) || is_edited(job, j)) continue;
        while (place > 0 && job->changes[job->others[place - 1]].change < change) place--;
        if (place == job->top) continue;
        if (job->n_others < job->top) job->n_others++;
        memmove(job->others + place + 1, job->others + place,
                (job->n_others - place - 1) * sizeof *job->others);
        job->others[place] = j;
    }
}

/* Whether a latent that is not active stays so. */
static int leaves_inactive(const steer_job *job, uint32_t latent) {
    for (size_t i = 0; i < job->edits.count; i++) {
        const msae_edit *edit = &job->edits.items[i];
        if (edit->latent != latent) continue;
        if (edit->operation == MSAE_EDIT_CLAMP
                ? edit->value > 0 || edit->high < 0
                : edit->operation < MSAE_EDIT_SCALE && edit->value != 0) {
            return 0;
        }
    }
    return 1;
}

static int mark_active(void *user, const tool_encoded *block) {
    unsigned char *active = user;
    for (size_t r = 0; r < block->rows; r++) {
        const msae_code *codes = block->codes + r * block->stride;
        for (size_t e = 0; e < block->counts[r]; e++) active[codes[e].latent] = 1;
    }
    return TOOL_OK;
}

/* Says which edits find nothing to change. */
static int warn_of_inactive(const steer_job *job, const msae_data *data) {
    size_t first = 0;
    while (first < job->edits.count && !leaves_inactive(job, job->edits.items[first].latent)) {
        first++;
    }
    if (first == job->edits.count) return TOOL_OK;
    unsigned char *active = tool_alloc(job->inputs.model.n_latents, 1);
    if (active == NULL) return tool_fail_memory();
    int status =
        tool_encode_data(&job->inputs.model, data, job->data_path, job->k, mark_active, active);
    for (size_t i = first; i < job->edits.count && status == TOOL_OK; i++) {
        const uint32_t latent = job->edits.items[i].latent;
        if (active[latent] || !leaves_inactive(job, latent)) continue;
        active[latent] = 1; /* once */
        tool_warn(NULL, "latent %lu is active in none of these rows: nothing to change",
                  (unsigned long)latent);
    }
    free(active);
    return status;
}

static int steer(steer_job *job, const msae_data *data) {
    const msae_model *model = &job->inputs.model;
    const size_t rows = data->rows;
    msae_steer_desc desc = {0};
    msae_error error;
    if (job->top > model->n_latents) job->top = model->n_latents;
    job->out = tool_alloc(rows, model->n_inputs * sizeof *job->out);
    job->steered = tool_alloc(rows, sizeof *job->steered);
    job->changes = tool_alloc(model->n_latents, sizeof *job->changes);
    job->others = tool_alloc(job->top, sizeof *job->others);
    if (job->out == NULL || job->steered == NULL || job->changes == NULL || job->others == NULL) {
        return tool_fail_memory();
    }
    desc.edits = job->edits.items;
    desc.n_edits = job->edits.count;
    desc.k = job->k;
    desc.keep_rest = job->keep_rest;
    if (msae_steer(model, data, &desc, job->out, job->steered, job->changes, &error) != MSAE_OK) {
        return tool_fail_error(job->data_path, &error);
    }
    int status = warn_of_inactive(job, data);
    if (status != TOOL_OK) return status;
    msae_writer writer = msae_to_file(job->output);
    if (msae_npy_write(&writer, job->out, rows, model->n_inputs, &error) != MSAE_OK) {
        return tool_fail_error(job->output, &error);
    }
    find_others(job);
    const msae_steered mean = mean_of(job->steered, rows);
    if (job->common.json) {
        print_json(job, &mean, rows);
    } else {
        print_text(job, &mean, rows);
    }
    return TOOL_OK;
}

/* All rows, or the one of --row. */
static int steer_rows(steer_job *job) {
    const msae_data *data = &job->inputs.data;
    const tool_row_labels labels = {job->labels.words, job->labels_path, "--labels"};
    size_t row;
    if (job->row == NULL) return steer(job, data);
    int status = tool_find_row("--row", job->row, &labels, data, job->data_path, &row);
    if (status != TOOL_OK) return status;
    float *x = tool_alloc(data->cols, sizeof *x);
    if (x == NULL) return tool_fail_memory();
    msae_data_read(data, row, 1, x);
    const msae_data one = msae_data_view(x, 1, data->cols);
    status = steer(job, &one);
    free(x);
    return status;
}

static int read_edits(steer_job *job) {
    int status =
        tool_load_names(&job->names, job->names_path, &job->inputs.stored, job->model_path);
    for (int i = 0; i < MSAE_EDIT_COUNT && status == TOOL_OK; i++) {
        status = tool_add_edits(option_names[i], job->lists[i], &job->names, (msae_operation)i,
                                &job->edits);
    }
    return status;
}

/* For typical values: sums over the rows that a latent is active on, and their number. */
typedef struct value_sums {
    double *sum; /* [n] */
    size_t *count;
} value_sums;

static int add_values(void *user, const tool_encoded *block) {
    value_sums *sums = user;
    for (size_t r = 0; r < block->rows; r++) {
        const msae_code *codes = block->codes + r * block->stride;
        for (size_t e = 0; e < block->counts[r]; e++) {
            sums->sum[codes[e].latent] += (double)codes[e].value;
            sums->count[codes[e].latent]++;
        }
    }
    return TOOL_OK;
}

/* What the edits' values stand for: means over DATA where a latent is active. */
static int scale_edits(steer_job *job) {
    const size_t n = job->inputs.model.n_latents;
    value_sums sums;
    if (job->raw || !tool_needs_typical(&job->edits)) return TOOL_OK;
    sums.sum = tool_alloc(n, sizeof *sums.sum);
    sums.count = tool_alloc(n, sizeof *sums.count);
    int status = sums.sum != NULL && sums.count != NULL ? TOOL_OK : tool_fail_memory();
    if (status == TOOL_OK) {
        status = tool_encode_data(&job->inputs.model, &job->inputs.data, job->data_path, job->k,
                                  add_values, &sums);
    }
    for (size_t j = 0; j < n && status == TOOL_OK; j++) {
        if (sums.count[j] > 0) sums.sum[j] /= (double)sums.count[j];
    }
    if (status == TOOL_OK) status = tool_scale_edits(&job->edits, sums.sum, job->data_path);
    free(sums.sum);
    free(sums.count);
    return status;
}

static int run(void *context) {
    steer_job *job = context;
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, job->data_path);
    if (status != TOOL_OK) return status;
    status = tool_settle_k(&job->inputs.model, job->model_path, &job->k);
    if (status != TOOL_OK) return status;
    status = read_edits(job);
    if (status == TOOL_OK) status = scale_edits(job);
    if (status == TOOL_OK) {
        status = tool_load_words(&job->labels, job->labels_path, job->column, job->inputs.data.rows,
                                 job->data_path);
    }
    return status == TOOL_OK ? steer_rows(job) : status;
}

static void close_job(void *context) {
    steer_job *job = context;
    free(job->out);
    free(job->steered);
    free(job->changes);
    free(job->others);
    tool_free_words(&job->labels);
    tool_free_names(&job->names);
    tool_close_inputs(&job->inputs);
}

static const steer_job defaults = {.top = 10};

#define AT(member) offsetof(steer_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(model_path), ""},
    {"DATA", NULL, TOOL_OPERAND, AT(data_path), ""},
    {"-o", "OUT.npy", TOOL_WRITES_EMBEDDINGS, AT(output), "file to write, float32 (required)"},
    {"--set", "C=V,..", TOOL_TEXT, AT(lists[MSAE_EDIT_SET]), "sets concepts to values"},
    {"--add", "C=V,..", TOOL_TEXT, AT(lists[MSAE_EDIT_ADD]), "adds to them"},
    {"--scale", "C=V,..", TOOL_TEXT, AT(lists[MSAE_EDIT_SCALE]), "multiplies them"},
    {"--clamp", "C=LOW:HIGH,..", TOOL_TEXT, AT(lists[MSAE_EDIT_CLAMP]),
     "keeps them within a range"},
    {"--ablate", "C,..", TOOL_TEXT, AT(lists[MSAE_EDIT_ABLATE]), "sets them to 0"},
    {"--raw", NULL, TOOL_FLAG, AT(raw),
     "values of --set, --add and --clamp as they are; otherwise 1 is a latent's typical "
     "value,\n"
     "its mean over the rows of DATA where it is active"},
    TOOL_OPTION_NAMES(steer_job, names_path),
    {"--row", "R|LABEL", TOOL_TEXT, AT(row),
     "only this row (default: all): its number, counted from 0, or with --labels its label\n"
     "(=1984 for one of digits alone)"},
    TOOL_OPTION_LABELS(steer_job, labels_path),
    TOOL_OPTION_COLUMN(steer_job, column),
    {"--keep-rest", NULL, TOOL_FLAG, AT(keep_rest),
     "keep what the codes miss of a row: add to it only what the edits change"},
    TOOL_OPTION_K(steer_job, k),
    TOOL_OPTION_REFINE,
    {"--top", "N", TOOL_COUNT, AT(top), "other latents to list, most changed (default: 10)"},
    TOOL_OPTION_OWN_STATISTICS,
    TOOL_OPTION_SKIP_BAD,
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {NULL, TOOL_REQUIRED, "--set|--add|--scale|--clamp|--ablate"},
    {NULL, TOOL_REQUIRED, "-o"},
    {"--raw", TOOL_NEEDS, "--set|--add|--clamp"},
    {"--labels", TOOL_NEEDS, "--row"},
    {"--column", TOOL_NEEDS, "--labels"},
    {"--tensor", TOOL_READS, "DATA"},
};

const tool_command tool_steer = {
    .name = "steer",
    .brief = "edits concepts of embeddings",
    .summary =
        "Encodes the rows of DATA, edits the values of concepts (C: a latent's number or, with\n"
        "--names, its name) and writes what the edited codes decode to. The options apply in the\n"
        "order below; a latent that is not active has the value 0. Then tells how far the rows\n"
        "moved and which other latents changed: both the written rows and those that there would\n"
        "be without the edits are encoded once more and compared.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(steer_job),
    .defaults = &defaults,
    .run = run,
    .close = close_job,
};
