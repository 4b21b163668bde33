/* msae steer: edits concepts of embeddings and decodes them. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct steer_job {
    tool_common common;
    const char *model_path, *data_path, *names_path, *output;
    const char *lists[MSAE_EDIT_COUNT]; /* of each operation's option */
    uint64_t row;
    size_t top, k;
    int keep_rest;
    tool_inputs inputs;
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
    size_t cosines = 0, recon_cosines = 0;
    for (size_t r = 0; r < rows; r++) {
        sum.distance += steered[r].distance / (double)rows;
        sum.recon_distance += steered[r].recon_distance / (double)rows;
        if (isfinite(steered[r].cosine)) {
            sum.cosine += steered[r].cosine;
            cosines++;
        }
        if (isfinite(steered[r].recon_cosine)) {
            sum.recon_cosine += steered[r].recon_cosine;
            recon_cosines++;
        }
    }
    sum.cosine = cosines > 0 ? sum.cosine / (double)cosines : NAN;
    sum.recon_cosine = recon_cosines > 0 ? sum.recon_cosine / (double)recon_cosines : NAN;
    return sum;
}

static void json_change(const steer_job *job, tool_json *json, size_t latent) {
    const msae_change *change = &job->changes[latent];
    tool_json_count(json, "latent", latent);
    if (job->names_path != NULL) tool_json_text(json, "name", tool_name_of(&job->names, latent));
    tool_json_real(json, "before", change->before);
    tool_json_real(json, "after", change->after);
    tool_json_real(json, "change", change->change);
}

static void print_json(const steer_job *job, const msae_steered *mean, size_t rows) {
    tool_json json = tool_json_line("done");
    tool_json_count(&json, "rows", rows);
    tool_json_count(&json, "cols", job->inputs.model.n_inputs);
    tool_json_text(&json, "file", job->output);
    tool_json_bool(&json, "keep_rest", job->keep_rest);
    tool_json_real(&json, "cosine", mean->cosine);
    tool_json_real(&json, "distance", mean->distance);
    tool_json_real(&json, "recon_cosine", mean->recon_cosine);
    tool_json_real(&json, "recon_distance", mean->recon_distance);
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
    tool_json_end(&json, '}');
}

static void print_change(const steer_job *job, size_t latent, const char *operation) {
    const msae_change *change = &job->changes[latent];
    printf("%-7s %6zu %10.4f %10.4f %10.4f  %s\n", operation, latent, change->before, change->after,
           change->change, tool_name_of(&job->names, latent));
}

static void print_text(const steer_job *job, const msae_steered *mean, size_t rows) {
    printf("%s: %zu rows of %zu\n", job->output, rows, job->inputs.model.n_inputs);
    printf("from the rows to the steered ones: cosine %.4f, distance %.4f\n", mean->cosine,
           mean->distance);
    printf("between the decoded codes, without and with the edits: cosine %.4f, distance %.4f\n",
           mean->recon_cosine, mean->recon_distance);
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
    if (msae_write_npy(job->output, job->out, rows, model->n_inputs, &error) != MSAE_OK) {
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
    if (job->row == TOOL_NO_ROW) return steer(job, data);
    int status = tool_check_row("--row", job->row, data, job->data_path);
    if (status != TOOL_OK) return status;
    float *x = tool_alloc(data->cols, sizeof *x);
    if (x == NULL) return tool_fail_memory();
    msae_data_read(data, (size_t)job->row, 1, x);
    const msae_data one = msae_data_view(x, 1, data->cols);
    status = steer(job, &one);
    free(x);
    return status;
}

static int read_edits(steer_job *job) {
    int status = tool_load_names(&job->names, job->names_path, job->inputs.model.n_latents);
    for (int i = 0; i < MSAE_EDIT_COUNT && status == TOOL_OK; i++) {
        status = tool_add_edits(option_names[i], job->lists[i], &job->names, (msae_operation)i,
                                &job->edits);
    }
    return status;
}

static int run(steer_job *job) {
    int given = 0;
    for (int i = 0; i < MSAE_EDIT_COUNT; i++) given |= job->lists[i] != NULL;
    if (!given) {
        return tool_usage("steer", "one of --set, --add, --scale, --clamp and --ablate is needed");
    }
    int status = tool_check_output("steer", job->output);
    if (status == TOOL_OK) status = tool_check_apart("-o", job->output, job->model_path);
    if (status == TOOL_OK) status = tool_check_apart("-o", job->output, job->data_path);
    if (status == TOOL_OK) status = tool_check_apart("-o", job->output, job->names_path);
    if (status == TOOL_OK) {
        status = tool_open_inputs(&job->inputs, &job->common, job->model_path, job->data_path);
    }
    if (status != TOOL_OK) return status;
    if (job->k > job->inputs.model.n_latents) {
        return tool_fail("--k", "%zu is more than the %zu latents of %s", job->k,
                         job->inputs.model.n_latents, job->model_path);
    }
    status = read_edits(job);
    return status == TOOL_OK ? steer_rows(job) : status;
}

int tool_steer(int argc, char **argv) {
    steer_job job;
    memset(&job, 0, sizeof job);
    job.row = TOOL_NO_ROW;
    job.top = 10;
    const tool_option options[] = {
        {"-o", "OUT.npy", TOOL_TEXT, &job.output, "file to write, float32 (required)"},
        {"--set", "C=V,..", TOOL_TEXT, &job.lists[MSAE_EDIT_SET], "sets concepts to values"},
        {"--add", "C=V,..", TOOL_TEXT, &job.lists[MSAE_EDIT_ADD], "adds to them"},
        {"--scale", "C=V,..", TOOL_TEXT, &job.lists[MSAE_EDIT_SCALE], "multiplies them"},
        {"--clamp", "C=LOW:HIGH,..", TOOL_TEXT, &job.lists[MSAE_EDIT_CLAMP],
         "keeps them within a range"},
        {"--ablate", "C,..", TOOL_TEXT, &job.lists[MSAE_EDIT_ABLATE], "sets them to 0"},
        {"--names", "NAMES.tsv", TOOL_TEXT, &job.names_path,
         "the latents' names, as msae name writes them"},
        {"--row", "R", TOOL_NUMBER, &job.row, "only this row (default: all)"},
        {"--keep-rest", NULL, TOOL_FLAG, &job.keep_rest,
         "keep what the codes miss of a row: add to it only what the edits change"},
        {"--k", "K", TOOL_COUNT, &job.k,
         "latents to keep a row, the strongest (default: as the recipe does)"},
        {"--top", "N", TOOL_COUNT, &job.top, "other latents to list, most changed (default: 10)"},
        TOOL_OPTION_TENSOR(job.common),
        TOOL_OPTION_THREADS(job.common),
        TOOL_OPTION_SIMD(job.common),
        TOOL_OPTION_JSON(job.common),
    };
    const tool_syntax syntax = {
        "steer",
        {{"MODEL", &job.model_path}, {"DATA", &job.data_path}},
        "Encodes the rows of DATA, edits the values of concepts (C: a latent's number or, with\n"
        "--names, its name) and writes what the edited codes decode to. The options apply in the\n"
        "order below; a latent that is not active has the value 0. Then tells how far the rows\n"
        "moved and which other latents changed: both the written rows and those that there would\n"
        "be without the edits are encoded once more and compared.",
        options,
        sizeof options / sizeof options[0],
        NULL,
        NULL,
    };
    int status = tool_parse(&syntax, argc, argv);
    if (status != TOOL_GO) return status;
    status = run(&job);
    free(job.out);
    free(job.steered);
    free(job.changes);
    free(job.others);
    tool_free_names(&job.names);
    tool_close_inputs(&job.inputs);
    return status;
}
