/* msae tree: which latents mean something more general than others. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_K = 32, DEFAULT_PARENTS = 3 };

typedef struct tree_job {
    tool_common common;
    const char *model_path, *data_path, *names_path, *output;
    size_t k, parents;
    float min_p, min_lift;
    tool_inputs inputs;
    tool_names names;
    msae_index index;
    msae_edge *edges; /* [count], by latent, the best parent first */
    size_t count;
    uint64_t model;          /* checksum, as names have it */
    char codes[TOOL_K_TEXT]; /* k and refinement */
} tree_job;

static size_t rows_of(const tree_job *job, size_t latent) {
    return (size_t)(job->index.starts[latent + 1] - job->index.starts[latent]);
}

/* The end of a latent's edges, which begin at `first`. */
static size_t end_of(const tree_job *job, size_t latent, size_t first) {
    while (first < job->count && job->edges[first].latent == latent) first++;
    return first;
}

/* ---------------------------------------------------------------------------------------------
   Output
   ------------------------------------------------------------------------------------------ */

/* The last cells of a line: both names, where there is a file of them, the model, its codes. */
static void put_names(const tree_job *job, FILE *file, size_t latent, const msae_edge *edge) {
    tool_short_name room;
    if (job->names_path != NULL) {
        fprintf(file, "\t%s", tool_short_name_of(&job->names, latent, &room));
        fprintf(file, "\t%s",
                edge != NULL ? tool_short_name_of(&job->names, edge->parent, &room) : "");
    }
    fprintf(file, "\t%016llx\t%s\n", (unsigned long long)job->model, job->codes);
}

static void put_table(const tree_job *job, FILE *file) {
    fprintf(file, "latent\tparent\tp\tlift\trows_latent\trows_parent%s\tmodel\tcodes\n",
            job->names_path != NULL ? "\tname_latent\tname_parent" : "");
    for (size_t j = 0, at = 0; j < job->index.n_latents; j++) {
        const size_t end = end_of(job, j, at);
        if (at == end) {
            fprintf(file, "%zu\t-1\t\t\t%zu\t", j, rows_of(job, j));
            put_names(job, file, j, NULL);
        }
        for (; at < end; at++) {
            const msae_edge *edge = &job->edges[at];
            fprintf(file, "%zu\t%lu\t%.4f\t%.4g\t%zu\t%zu", j, (unsigned long)edge->parent,
                    (double)edge->p, (double)edge->lift, rows_of(job, j),
                    rows_of(job, edge->parent));
            put_names(job, file, j, edge);
        }
    }
}

static int write_table(const tree_job *job) {
    tool_output output;
    int status = tool_output_open(&output, job->output);
    if (status != TOOL_OK) return status;
    put_table(job, output.file);
    return tool_output_close(&output);
}

static void put_json(const tree_job *job) {
    for (size_t j = 0, at = 0; j < job->index.n_latents; j++) {
        tool_json json = tool_json_line(NULL);
        tool_json_concept(&json, &job->names, j);
        tool_json_count(&json, "rows", rows_of(job, j));
        tool_json_begin(&json, "parents", '[');
        for (const size_t end = end_of(job, j, at); at < end; at++) {
            tool_json_edge(&json, &job->names, &job->edges[at]);
        }
        tool_json_end(&json, ']');
        tool_json_end(&json, '}');
    }
}

/* Edges on the longest way from a root. They ascend to latents that are on more rows, so that the
   rounds end. depth [n] is room. */
static size_t measure_depth(const tree_job *job, size_t *depth) {
    size_t deepest = 0;
    memset(depth, 0, job->index.n_latents * sizeof *depth);
    for (int changed = 1; changed;) {
        changed = 0;
        for (size_t i = 0; i < job->count; i++) {
            const msae_edge *edge = &job->edges[i];
            const size_t below = depth[edge->parent] + 1;
            if (depth[edge->latent] >= below) continue;
            depth[edge->latent] = below;
            if (below > deepest) deepest = below;
            changed = 1;
        }
    }
    return deepest;
}

static int put_summary(const tree_job *job) {
    const size_t n = job->index.n_latents;
    size_t *depth = tool_alloc(n, sizeof *depth);
    size_t roots = n, without = 0;
    if (depth == NULL) return tool_fail_memory();
    const size_t deepest = measure_depth(job, depth);
    for (size_t j = 0; j < n; j++) {
        roots -= depth[j] > 0;
        without += rows_of(job, j) == 0;
    }
    free(depth);
    if (job->common.json) {
        tool_json json = tool_json_line("done");
        tool_json_count(&json, "latents", n);
        tool_json_count(&json, "roots", roots);
        tool_json_count(&json, "without_rows", without);
        tool_json_count(&json, "edges", job->count);
        tool_json_count(&json, "depth", deepest);
        tool_json_count(&json, "rows", tool_used_rows(&job->inputs.data));
        tool_json_k(&json, &job->inputs.model, job->k);
        tool_json_checksum(&json, "model", &job->inputs.stored);
        tool_json_done(&json);
    } else {
        char text[TOOL_K_TEXT];
        printf("%s: %zu latents, %zu with a parent, %zu roots (%zu of them active on no row); "
               "%zu edge%s, depth %zu; %s\n",
               job->output, n, n - roots, roots, without, job->count, tool_plural(job->count),
               deepest, tool_k_text(&job->inputs.model, job->k, text));
    }
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   The run
   ------------------------------------------------------------------------------------------ */

static int load(tree_job *job) {
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, job->data_path);
    const size_t n = job->inputs.model.n_latents;
    if (status != TOOL_OK) return status;
    if (job->k == 0) job->k = n < DEFAULT_K ? n : DEFAULT_K;
    status = tool_settle_k(&job->inputs.model, job->model_path, &job->k);
    if (status != TOOL_OK) return status;
    if (job->parents > n) {
        return tool_fail("--parents", "%zu is more than the %zu latents of %s", job->parents, n,
                         job->model_path);
    }
    return tool_load_names(&job->names, job->names_path, &job->inputs.stored, job->model_path);
}

static int find_tree(tree_job *job) {
    const msae_tree_desc desc = {job->parents, 0, job->min_p, job->min_lift, 0};
    msae_error error;
    if (msae_index_build(&job->index, &job->inputs.model, &job->inputs.data, job->k, &error) !=
        MSAE_OK) {
        return tool_fail_error(job->data_path, &error);
    }
    job->model = msae_model_checksum(&job->inputs.stored);
    tool_k_text(&job->inputs.model, job->k, job->codes);
    job->edges = tool_alloc(job->index.n_latents, job->parents * sizeof *job->edges);
    if (job->edges == NULL) return tool_fail_memory();
    if (msae_concept_tree(&job->index, &desc, job->edges, &job->count, &error) != MSAE_OK) {
        return tool_fail_error(NULL, &error);
    }
    return TOOL_OK;
}

static int run(void *context) {
    tree_job *job = context;
    int status = TOOL_OK;
    if (job->min_p > 1) return tool_fail("--min-p", "%g is more than 1", (double)job->min_p);
    status = load(job);
    if (status == TOOL_OK) status = find_tree(job);
    if (status == TOOL_OK && (job->output != NULL || !job->common.json)) status = write_table(job);
    if (status != TOOL_OK) return status;
    if (job->common.json) put_json(job);
    return job->common.json || job->output != NULL ? put_summary(job) : TOOL_OK;
}

static void close_job(void *context) {
    tree_job *job = context;
    free(job->edges);
    msae_index_free(&job->index);
    tool_free_names(&job->names);
    tool_close_inputs(&job->inputs);
}

static const tree_job defaults = {.parents = DEFAULT_PARENTS};

#define AT(member) offsetof(tree_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(model_path), ""},
    {"DATA", NULL, TOOL_OPERAND, AT(data_path), ""},
    {"-o", "TREE.tsv", TOOL_WRITES_TABLE, AT(output), "file to write (default: standard output)"},
    TOOL_OPTION_NAMES(tree_job, names_path),
    {"--k", "K|all", TOOL_KEPT, AT(k),
     "latents kept of a row: the K strongest, or all (default: 32)"},
    {"--parents", "N", TOOL_COUNT, AT(parents), "parents of a latent, at most (default: 3)"},
    {"--min-p", "P", TOOL_SETTING, AT(min_p),
     "share of a latent's strong rows on which a parent is active, at least (default: 0.4)"},
    {"--min-lift", "L", TOOL_SETTING, AT(min_lift),
     ".. which is also L times the parent's frequency (default: 3)"},
    TOOL_OPTION_OWN_STATISTICS,
    TOOL_OPTION_SKIP_BAD,
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_REFINE,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {"--tensor", TOOL_READS, "DATA"},
};

const tool_command tool_tree = {
    .name = "tree",
    .brief = "finds the latents that mean something more general than others",
    .summary =
        "Finds each latent's parents: latents that are active on at least 1.5 times as many rows\n"
        "and on 40 % or more of its strong rows, the half on which its value is highest. Writes a "
        "table\n"
        "with a line for each latent and parent, the best parent first: latent, parent (-1 for a\n"
        "root, a latent without), p (the share of its strong rows on which the parent is active),\n"
        "lift (p over the parent's frequency), rows_latent and rows_parent (on which each is\n"
        "active), with --names name_latent and name_parent, model (the checksum of its weights)\n"
        "and codes (k and refinement). There are no cycles. A latent on fewer than 9 rows has no "
        "parent. `top` and\n"
        "`name` show parents with --tree.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(tree_job),
    .defaults = &defaults,
    .run = run,
    .close = close_job,
};
