/* msae align: how alike the concepts of two models are, or of one model over seeds. */
#include "tool.h"

#include "alignment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MODELS = 18 };

typedef struct align_job {
    tool_common common;
    const char *first, *second;
    tool_rest more;
    int encoder;
    const char *output;
    const char *paths[MAX_MODELS];
    msae_pool *pool;
    msae_model models[MAX_MODELS];
    size_t count;
} align_job;

/* The rows that are matched. */
static const float *rows_of(const align_job *job, const msae_model *model) {
    return job->encoder ? model->encoder : model->decoder;
}

int tool_align_decoders(const msae_model *a, const msae_model *b, const msae_host *host,
                        const char *path, size_t *columns, float *cosines) {
    alignment_sides sides = {0};
    alignment_result result;
    msae_error error;
    sides.a = a->decoder;
    sides.rows_a = a->n_latents;
    sides.b = b->decoder;
    sides.rows_b = b->n_latents;
    sides.d = a->n_inputs;
    sides.host = *host;
    if (align_rows(&sides, columns, cosines, &result, &error) == MSAE_OK) return TOOL_OK;
    return tool_fail_error(path, &error);
}

static int load(align_job *job) {
    int status = tool_start_threads(&job->common, &job->pool);
    if (status != TOOL_OK) return status;
    const msae_load_desc desc = tool_load_desc(&job->common, job->pool);
    job->paths[0] = job->first;
    job->paths[1] = job->second;
    for (size_t i = 0; i < job->more.count; i++) job->paths[2 + i] = job->more.values[i];
    status = tool_load_model(&job->models[0], job->first, &desc);
    for (job->count = 1; job->count < 2 + job->more.count && status == TOOL_OK; job->count++) {
        status = tool_load_more(&job->models[job->count], job->paths[job->count], &desc,
                                &job->models[0], job->first);
    }
    return status;
}

static int write_pairs(const align_job *job, size_t rows, const size_t *columns,
                       const float *cosines) {
    tool_output output;
    int status = tool_output_open(&output, job->output);
    if (status != TOOL_OK) return status;
    fputs("latent_a\tlatent_b\tcosine\n", output.file);
    for (size_t i = 0; i < rows; i++) {
        if (columns[i] == ALIGNMENT_NO_MATCH) continue;
        fprintf(output.file, "%zu\t%zu\t%.6f\n", i, columns[i], (double)cosines[i]);
    }
    return tool_output_close(&output);
}

static int align_pair(const align_job *job, size_t a, size_t b, alignment_result *alignment) {
    const msae_model *x = &job->models[a], *y = &job->models[b];
    size_t *columns = tool_alloc(x->n_latents, sizeof *columns);
    float *cosines = tool_alloc(x->n_latents, sizeof *cosines);
    alignment_sides sides = {0};
    msae_error error;
    int status = TOOL_OK;
    sides.a = rows_of(job, x);
    sides.rows_a = x->n_latents;
    sides.b = rows_of(job, y);
    sides.rows_b = y->n_latents;
    sides.d = x->n_inputs;
    sides.host = tool_host(&job->common, job->pool);
    if (columns == NULL || cosines == NULL) {
        status = tool_fail_memory();
    } else if (align_rows(&sides, columns, cosines, alignment, &error) != MSAE_OK) {
        status = tool_fail_error(job->paths[b], &error);
    } else if (job->output != NULL) {
        status = write_pairs(job, x->n_latents, columns, cosines);
    }
    free(columns);
    free(cosines);
    return status;
}

static void print_pair(const align_job *job, size_t a, size_t b,
                       const alignment_result *alignment) {
    if (job->common.json) {
        tool_json json = tool_json_line("pair");
        tool_json_text(&json, "a", job->paths[a]);
        tool_json_text(&json, "b", job->paths[b]);
        tool_json_text(&json, "rows", job->encoder ? "encoder" : "decoder");
        tool_json_count(&json, "matched", alignment->matched);
        tool_json_real(&json, "mean", alignment->mean);
        tool_json_real(&json, "above_50", alignment->above_50);
        tool_json_real(&json, "above_70", alignment->above_70);
        tool_json_real(&json, "above_90", alignment->above_90);
        tool_json_end(&json, '}');
        return;
    }
    if (a == 0 && b == 1) {
        printf("%8s %8s %8s %8s %8s  %s rows of\n", "matched", "mean", "> 0.5", "> 0.7", "> 0.9",
               job->encoder ? "encoder" : "decoder");
    }
    printf("%8zu %8.4f %7.2f%% %7.2f%% %7.2f%%  %s, %s\n", alignment->matched, alignment->mean,
           100 * alignment->above_50, 100 * alignment->above_70, 100 * alignment->above_90,
           job->paths[a], job->paths[b]);
}

/* Mean and deviation of the pairs' mean cosines and shares above 0.7. */
static void print_stability(const align_job *job, const alignment_result *pairs, size_t count) {
    double mean[2] = {0, 0}, squares[2] = {0, 0};
    for (size_t i = 0; i < count; i++) {
        mean[0] += pairs[i].mean / (double)count;
        mean[1] += pairs[i].above_70 / (double)count;
    }
    for (size_t i = 0; i < count; i++) {
        squares[0] += (pairs[i].mean - mean[0]) * (pairs[i].mean - mean[0]);
        squares[1] += (pairs[i].above_70 - mean[1]) * (pairs[i].above_70 - mean[1]);
    }
    for (int i = 0; i < 2; i++) squares[i] = sqrt(squares[i] / (double)count);
    if (job->common.json) {
        tool_json json = tool_json_line("stability");
        tool_json_count(&json, "models", job->count);
        tool_json_count(&json, "pairs", count);
        tool_json_real(&json, "mean", mean[0]);
        tool_json_real(&json, "mean_std", squares[0]);
        tool_json_real(&json, "above_70", mean[1]);
        tool_json_real(&json, "above_70_std", squares[1]);
        tool_json_end(&json, '}');
    } else {
        printf("%zu models, %zu pairs: mean cosine %.4f \302\261%.4f, above 0.7 %.2f%% "
               "\302\261%.2f%%\n",
               job->count, count, mean[0], squares[0], 100 * mean[1], 100 * squares[1]);
    }
}

static int run(void *context) {
    align_job *job = context;
    alignment_result pairs[MAX_MODELS * (MAX_MODELS - 1) / 2];
    size_t count = 0;
    if (job->output != NULL && job->more.count > 0) {
        return tool_usage("align", "-o is for the pairs of two models");
    }
    if (job->more.count > MAX_MODELS - 2) {
        return tool_usage("align", "takes at most %d models", MAX_MODELS);
    }
    int status = load(job);
    for (size_t b = 1; b < job->count && status == TOOL_OK; b++) {
        for (size_t a = 0; a < b && status == TOOL_OK; a++) {
            status = align_pair(job, a, b, &pairs[count]);
            if (status == TOOL_OK) print_pair(job, a, b, &pairs[count++]);
        }
    }
    if (status == TOOL_OK && count > 1) print_stability(job, pairs, count);
    return status;
}

static void close_job(void *context) {
    align_job *job = context;
    for (size_t i = 0; i < job->count; i++) msae_model_free(&job->models[i]);
    msae_pool_free(job->pool);
}

#define AT(member) offsetof(align_job, member)

static const tool_option options[] = {
    {"A", NULL, TOOL_OPERAND, AT(first), ""},
    {"B", NULL, TOOL_OPERAND, AT(second), ""},
    {"MORE", NULL, TOOL_REST, AT(more), ""},
    {"--encoder", NULL, TOOL_FLAG, AT(encoder), "match encoder rows instead of decoder rows"},
    {"-o", "PAIRS.tsv", TOOL_WRITES_TABLE, AT(output), "also write the pairs (two models)"},
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

const tool_command tool_align = {
    .name = "align",
    .brief = "matches the latents of two models",
    .summary =
        "Matches the latents of two models one to one so that the sum of the cosines of their\n"
        "decoder rows is the largest there is; prints the mean cosine and the share of pairs\n"
        "above 0.5, 0.7 and 0.9. With more models (of several seeds, say): every pair, and mean\n"
        "and deviation over the pairs.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .job_bytes = sizeof(align_job),
    .run = run,
    .close = close_job,
};
