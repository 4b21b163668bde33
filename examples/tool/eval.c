/* msae eval: the sweep. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>

typedef struct eval_job {
    tool_common common;
    const char *model_path, *data_path;
    tool_counts ks;
    int no_cknna, own_statistics;
    tool_inputs inputs;
    float *mean, scale; /* of the data, with --own-statistics */
    double overlap;     /* of the decoder, the same at every k */
} eval_job;

static void print_json(const msae_metrics *m, double overlap) {
    tool_json json = tool_json_line(NULL);
    tool_json_count(&json, "k", m->k);
    tool_json_count(&json, "rows", m->rows);
    tool_json_real(&json, "fvu_row", m->fvu_row);
    tool_json_real(&json, "fvu_row_std", m->fvu_row_std);
    tool_json_real(&json, "fvu_set", m->fvu_set);
    tool_json_real(&json, "nmse", m->nmse);
    tool_json_real(&json, "nmse_std", m->nmse_std);
    tool_json_real(&json, "nmae", m->nmae);
    tool_json_real(&json, "nmae_std", m->nmae_std);
    tool_json_real(&json, "cs", m->cs);
    tool_json_real(&json, "cs_std", m->cs_std);
    tool_json_real(&json, "sparsity", m->sparsity);
    tool_json_real(&json, "l0", m->l0);
    tool_json_real(&json, "l0_std", m->l0_std);
    tool_json_real(&json, "cknna", m->cknna);
    tool_json_count(&json, "ndn", m->ndn);
    tool_json_real(&json, "do", overlap);
    tool_json_end(&json, '}');
}

static void print_cell(double value, int width, int decimals) {
    if (isfinite(value)) {
        printf(" %*.*f", width, decimals, value);
    } else {
        printf(" %*s", width, "-");
    }
}

/* A mean and the deviation over the rows. */
static void print_pair(double mean, double deviation, int width, int decimals) {
    print_cell(mean, width, decimals);
    if (isfinite(mean) && isfinite(deviation)) {
        printf(" \302\261%-*.*f", width - 1, decimals, deviation); /* plus-minus, two bytes */
    } else {
        printf(" %*s", width, "");
    }
}

static void print_table(const msae_metrics *results, size_t count, double overlap) {
    printf("%7s %8s%9s %8s %8s%9s %8s%9s %8s%9s %8s %8s%9s %8s %7s\n", "k", "fvu_row", "",
           "fvu_set", "nmse", "", "nmae", "", "cs", "", "sparsity", "l0", "", "cknna", "ndn");
    for (size_t i = 0; i < count; i++) {
        const msae_metrics *m = &results[i];
        printf("%7zu", m->k);
        print_pair(m->fvu_row, m->fvu_row_std, 8, 5);
        print_cell(m->fvu_set, 8, 5);
        print_pair(m->nmse, m->nmse_std, 8, 5);
        print_pair(m->nmae, m->nmae_std, 8, 5);
        print_pair(m->cs, m->cs_std, 8, 5);
        print_cell(m->sparsity, 8, 5);
        print_pair(m->l0, m->l0_std, 8, 1);
        print_cell(m->cknna, 8, 4);
        printf(" %7zu\n", m->ndn);
    }
    printf("%zu rows, mean \302\261 standard deviation over them; decoder overlap (do): ",
           results[0].rows);
    if (isfinite(overlap)) {
        printf("%.6g\n", overlap);
    } else {
        puts("-");
    }
}

/* Measures at job->ks and prints. */
static int evaluate(eval_job *job) {
    msae_error error;
    msae_eval_desc desc = {0};
    msae_metrics *results = tool_alloc(job->ks.count, sizeof *results);
    int status = TOOL_OK;
    if (results == NULL) return tool_fail_memory();

    desc.ks = job->ks.values;
    desc.n_ks = job->ks.count;
    desc.cknna = !job->no_cknna;
    desc.mean = job->mean;
    desc.scale = job->scale;
    if (msae_evaluate(&job->inputs.model, &job->inputs.data, &desc, results, &error) != MSAE_OK) {
        status = tool_fail_error(job->data_path, &error);
    } else if (job->common.json) {
        for (size_t i = 0; i < job->ks.count; i++) print_json(&results[i], job->overlap);
    } else {
        print_table(results, job->ks.count, job->overlap);
    }
    free(results);
    return status;
}

/* Mean and scale of the data, scaled in the way the model's own data was. */
static int find_statistics(eval_job *job) {
    const msae_model *model = &job->inputs.model;
    msae_error error;
    job->mean = tool_alloc(model->n_inputs, sizeof *job->mean);
    if (job->mean == NULL) return tool_fail_memory();
    if (msae_data_statistics(&job->inputs.data, (msae_scaling)model->history.scaling, 0, NULL,
                             job->mean, &job->scale, &error) != MSAE_OK) {
        return tool_fail_error(job->data_path, &error);
    }
    return TOOL_OK;
}

static int run(eval_job *job) {
    msae_error error;
    job->inputs.as_stored = 1;
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, job->data_path);
    if (status != TOOL_OK) return status;
    size_t n = job->inputs.model.n_latents;
    if (job->ks.count == 0) job->ks.count = msae_default_ks(n, job->ks.values);
    for (size_t i = 0; i < job->ks.count; i++) {
        if (job->ks.values[i] > n) {
            return tool_fail("--k", "%zu is more than the %zu latents of %s", job->ks.values[i], n,
                             job->model_path);
        }
        if (i > 0 && job->ks.values[i] <= job->ks.values[i - 1]) {
            return tool_fail("--k", "the list does not ascend");
        }
    }
    job->overlap = NAN; /* of small weights it is not computed */
    if (job->inputs.model.weights == MSAE_F32 &&
        msae_decoder_overlap(&job->inputs.model, &job->overlap, &error) != MSAE_OK) {
        return tool_fail_error(job->model_path, &error);
    }
    if (job->own_statistics) status = find_statistics(job);
    return status == TOOL_OK ? evaluate(job) : status;
}

int tool_eval(int argc, char **argv) {
    eval_job job = {0};
    const tool_option options[] = {
        {"--k", "K,K,..", TOOL_COUNTS, &job.ks,
         "latents to keep, ascending (default: 16, 32, 64 .. all)"},
        {"--own-statistics", NULL, TOOL_FLAG, &job.own_statistics,
         "centre and scale DATA by its own mean and spread: for another modality (text for "
         "images)"},
        {"--no-cknna", NULL, TOOL_FLAG, &job.no_cknna, "leave out cknna, the slowest metric"},
        TOOL_OPTION_TENSOR(job.common),
        TOOL_OPTION_THREADS(job.common),
        TOOL_OPTION_SIMD(job.common),
        TOOL_OPTION_JSON(job.common),
    };
    const tool_syntax syntax = {
        "eval",
        {{"MODEL", &job.model_path}, {"DATA", &job.data_path}},
        "Measures how well a model rebuilds embeddings from their k strongest latents, at\n"
        "several k: fvu_row and fvu_set, the unexplained share of the variance; nmse and nmae,\n"
        "errors against the size of the embedding; cs, the cosine of both; sparsity and l0, the\n"
        "share of latents that are off and the number that are on; cknna, how far the codes\n"
        "keep the embeddings' neighbours; ndn, the number of latents that are never on. And of\n"
        "the model alone: do, how far the latents' directions overlap.",
        options,
        sizeof options / sizeof options[0],
        NULL,
        NULL,
    };
    int status = tool_parse(&syntax, argc, argv);
    if (status != TOOL_GO) return status;
    status = run(&job);
    free(job.mean);
    tool_close_inputs(&job.inputs);
    return status;
}
