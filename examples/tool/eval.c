/* msae eval: the sweep. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>

typedef struct eval_job {
    tool_common common;
    const char *model_path, *data_path;
    tool_ks ks;
    int no_cknna;
    tool_inputs inputs;
    double overlap;        /* of the decoder, the same at every k */
    int cosines;           /* .. of rows that are brought to unit length */
    msae_metrics *results; /* as encoded; with --refine behind them those of refined codes */
} eval_job;

/* The results of refined codes; NULL without --refine. */
static const msae_metrics *refined_of(const eval_job *job, size_t at) {
    return job->common.refine > 0 ? &job->results[job->ks.count + 1 + at] : NULL;
}

static void print_json_line(const eval_job *job, const msae_metrics *m, int own, int is_refined) {
    tool_json json = tool_json_line(NULL);
    if (own) {
        tool_json_own(&json, &job->inputs.model);
    } else {
        tool_json_count(&json, "k", m->k);
    }
    if (is_refined) tool_json_count(&json, "refine", (uint64_t)job->common.refine - 1);
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
    tool_json_real(&json, "do", job->overlap);
    tool_json_real(&json, "l2_ratio", m->l2_ratio);
    tool_json_real(&json, "relative_reconstruction_bias", m->recon_bias);
    tool_json_real(&json, "explained_variance", 1 - m->fvu_set);
    tool_json_real(&json, "frac_alive", 1 - (double)m->ndn / (double)job->inputs.model.n_latents);
    tool_json_done(&json);
}

static void print_json(const void *context, size_t at, int own) {
    const eval_job *job = context;
    print_json_line(job, &job->results[at], own, 0);
    if (refined_of(job, at) != NULL) print_json_line(job, refined_of(job, at), own, 1);
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

static void print_cells(const msae_metrics *m) {
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

static void print_row(const void *context, size_t at, int own) {
    const eval_job *job = context;
    if (own) {
        printf("%7s", "own");
    } else {
        printf("%7zu", job->results[at].k);
    }
    print_cells(&job->results[at]);
    if (refined_of(job, at) != NULL) {
        printf("%7s", "refined");
        print_cells(refined_of(job, at));
    }
}

static void print_table(const eval_job *job) {
    const size_t rows = job->results[0].rows;
    printf("%7s %8s%9s %8s %8s%9s %8s%9s %8s%9s %8s %8s%9s %8s %7s\n", "k", "fvu_row", "",
           "fvu_set", "nmse", "", "nmae", "", "cs", "", "sparsity", "l0", "", "cknna", "dead");
    tool_print_ks(&job->ks, print_row, job);
    tool_print_own(&job->ks, &job->inputs.model);
    if (job->common.refine > 0) {
        printf("refined: values fitted, %d exchange%s\n", job->common.refine - 1,
               tool_plural((uint64_t)job->common.refine - 1));
    }
    printf("%zu row%s, mean \302\261 standard deviation over them; decoder overlap (do): ", rows,
           tool_plural(rows));
    if (isfinite(job->overlap)) {
        printf("%.6g\n", job->overlap);
    } else {
        puts("-");
    }
}

static msae_status measure(void *context, const size_t *ks, size_t count, size_t at,
                           msae_error *error) {
    const eval_job *job = context;
    msae_model model = job->inputs.model; /* shares the arrays */
    msae_eval_desc desc = {0};
    msae_status status;
    desc.cknna = !job->no_cknna;
    desc.ks = ks;
    desc.n_ks = count;
    status = msae_evaluate(&model, &job->inputs.data, &desc, count, job->results + at, NULL, error);
    if (status != MSAE_OK || job->common.refine == 0) return status;
    model.refine = job->common.refine;
    return msae_evaluate(&model, &job->inputs.data, &desc, count,
                         job->results + job->ks.count + 1 + at, NULL, error);
}

static int evaluate(eval_job *job) {
    msae_error error;
    job->results = tool_alloc(2 * (job->ks.count + 1), sizeof *job->results);
    if (job->results == NULL) return tool_fail_memory();
    if (tool_measure_ks(&job->ks, measure, job, &error) != MSAE_OK) {
        return tool_fail_error(job->data_path, &error);
    }
    if (job->common.json) {
        tool_print_ks(&job->ks, print_json, job);
    } else {
        print_table(job);
    }
    return TOOL_OK;
}

static int run(void *context) {
    eval_job *job = context;
    msae_error error;
    job->inputs.as_stored = 1;
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, job->data_path);
    if (status != TOOL_OK) return status;
    status = tool_settle_ks(&job->inputs.model, job->model_path, &job->ks);
    job->inputs.model.refine = 0; /* both kinds of codes are measured, one after the other */
    if (status != TOOL_OK) return status;
    job->overlap = NAN; /* of small weights it is not computed */
    if (job->inputs.model.weights == MSAE_F32 &&
        msae_decoder_overlap(&job->inputs.model, job->cosines, &job->overlap, &error) != MSAE_OK) {
        return tool_fail_error(job->model_path, &error);
    }
    return evaluate(job);
}

static void close_job(void *context) {
    eval_job *job = context;
    free(job->results);
    tool_close_inputs(&job->inputs);
}

#define AT(member) offsetof(eval_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(model_path), ""},
    {"DATA", NULL, TOOL_OPERAND, AT(data_path), ""},
    {"--k", TOOL_KS_ARGUMENT, TOOL_KS, AT(ks), TOOL_KS_HELP},
    TOOL_OPTION_REFINE,
    TOOL_OPTION_OWN_STATISTICS,
    {"--no-cknna", NULL, TOOL_FLAG, AT(no_cknna), "leave out cknna, the slowest metric"},
    {"--do-cosines", NULL, TOOL_FLAG, AT(cosines),
     "do of decoder rows at unit length (default: as they are, as published)"},
    TOOL_OPTION_SKIP_BAD,
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {"--tensor", TOOL_READS, "DATA"},
};

const tool_command tool_eval = {
    .name = "eval",
    .brief = "measures a model at every sparsity",
    .summary =
        "Measures how well a model rebuilds embeddings from their k strongest latents, at\n"
        "several k and as it encodes by itself: fvu_row and fvu_set, the unexplained share of\n"
        "the variance; nmse and nmae, errors against the size of the embedding; cs, the cosine of\n"
        "both; l0, the number of active latents a row; sparsity, the share that is not active;\n"
        "cknna, how far the codes keep the embeddings' neighbours; dead, the number of dead\n"
        "latents (in JSON ndn, its published name). And of the model alone: do, how far the\n"
        "latents' directions overlap. JSON also has l2_ratio (of a reconstruction's length to the\n"
        "embedding's), relative_reconstruction_bias (1: no shrinkage), explained_variance (1 less\n"
        "fvu_set) and frac_alive (1 less the share of dead latents), under SAELens' names. With\n"
        "--refine each line is followed by one of refined "
        "codes;\n"
        "without --k the sweep then ends at half of the inputs.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(eval_job),
    .run = run,
    .close = close_job,
};
