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
    double overlap; /* of the decoder, the same at every k */
    int cosines;    /* .. of rows that are brought to unit length */
} eval_job;

/* `own`: as the model encodes by itself. */
static void print_json(const eval_job *job, const msae_metrics *m, int own) {
    tool_json json = tool_json_line(NULL);
    if (own) {
        tool_json_own(&json, &job->inputs.model);
    } else {
        tool_json_count(&json, "k", m->k);
    }
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
    tool_json_done(&json);
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

static void print_row(const char *k, const msae_metrics *m) {
    printf("%7s", k);
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

static void print_table(const eval_job *job, const msae_metrics *results) {
    const tool_ks *ks = &job->ks;
    char text[TOOL_K_TEXT];
    printf("%7s %8s%9s %8s %8s%9s %8s%9s %8s%9s %8s %8s%9s %8s %7s\n", "k", "fvu_row", "",
           "fvu_set", "nmse", "", "nmae", "", "cs", "", "sparsity", "l0", "", "cknna", "dead");
    for (size_t i = 0; i < ks->count; i++) {
        if (i == ks->own_at && ks->own_unlisted) continue;
        snprintf(text, sizeof text, "%zu", results[i].k);
        print_row(text, &results[i]);
    }
    if (ks->own) {
        print_row("own", &results[ks->own_at]);
        printf("own: as the model encodes by itself, %s\n",
               tool_k_text(&job->inputs.model, 0, text));
    }
    printf("%zu row%s, mean \302\261 standard deviation over them; decoder overlap (do): ",
           results[0].rows, tool_plural(results[0].rows));
    if (isfinite(job->overlap)) {
        printf("%.6g\n", job->overlap);
    } else {
        puts("-");
    }
}

/* Measures at job->ks. */
static int measure(const eval_job *job, msae_metrics *results) {
    static const size_t as_it_encodes = 0;
    const tool_ks *ks = &job->ks;
    msae_error error;
    msae_eval_desc desc = {0};
    msae_status status = MSAE_OK;
    desc.cknna = !job->no_cknna;
    desc.ks = ks->values;
    desc.n_ks = ks->count;
    if (ks->count > 0) {
        status = msae_evaluate(&job->inputs.model, &job->inputs.data, &desc, ks->count, results,
                               NULL, &error);
    }
    if (status == MSAE_OK && ks->own && ks->own_at == ks->count) {
        desc.ks = &as_it_encodes;
        desc.n_ks = 1;
        status = msae_evaluate(&job->inputs.model, &job->inputs.data, &desc, 1,
                               &results[ks->own_at], NULL, &error);
    }
    return status == MSAE_OK ? TOOL_OK : tool_fail_error(job->data_path, &error);
}

static int evaluate(const eval_job *job) {
    const tool_ks *ks = &job->ks;
    msae_metrics *results = tool_alloc(ks->count + 1, sizeof *results);
    if (results == NULL) return tool_fail_memory();
    int status = measure(job, results);
    if (status == TOOL_OK && job->common.json) {
        for (size_t i = 0; i < ks->count; i++) {
            if (i != ks->own_at || !ks->own_unlisted) print_json(job, &results[i], 0);
        }
        if (ks->own) print_json(job, &results[ks->own_at], 1);
    } else if (status == TOOL_OK) {
        print_table(job, results);
    }
    free(results);
    return status;
}

static int run(void *context) {
    eval_job *job = context;
    msae_error error;
    job->inputs.as_stored = 1;
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, job->data_path);
    if (status != TOOL_OK) return status;
    status = tool_settle_ks(&job->inputs.model, job->model_path, &job->ks);
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
    tool_close_inputs(&job->inputs);
}

#define AT(member) offsetof(eval_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(model_path), ""},
    {"DATA", NULL, TOOL_OPERAND, AT(data_path), ""},
    {"--k", TOOL_KS_ARGUMENT, TOOL_KS, AT(ks), TOOL_KS_HELP},
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
        "latents' directions overlap.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(eval_job),
    .run = run,
    .close = close_job,
};
