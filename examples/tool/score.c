/* msae score: how good each latent is. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STRONGEST = 20, MAX_OTHERS = 16, QUANTILES = 5 };

/* From where on latents are said to be duplicates, and how many rows make one common. */
#define DUPLICATE_COSINE 0.9
#define DUPLICATE_OVERLAP 0.5
#define COMMON_FREQUENCY 0.001

typedef struct score_job {
    tool_common common;
    const char *model_path, *data_path, *by_path, *labels_path, *column, *names_path;
    const char *vocabulary_path, *words_path, *other_path, *output;
    tool_rest more; /* further models behind --other */
    size_t k;
    int companions; /* asked for, however many latents there are */

    tool_inputs inputs;
    msae_data by, vocabulary;
    tool_labels labels;
    tool_names names;
    tool_words words;
    msae_score *scores; /* [n] */
    double set_cosine;
    size_t used;       /* rows that are left out on neither side */
    msae_hit *top;     /* [n, STRONGEST], with labels */
    size_t *counts;    /* [n]: rows on which the latent is active, with them */
    double *agreement; /* [n]: of the strongest rows with the name; NaN: none */
    double *stability; /* [n]: mean cosine with its matches in the other models */
    size_t n_others;
} score_job;

/* ---------------------------------------------------------------------------------------------
   Measuring
   ------------------------------------------------------------------------------------------ */

static int score_latents(score_job *job) {
    const size_t n = job->inputs.model.n_latents;
    const msae_source source = msae_source_data(&job->inputs.data);
    const msae_source by = msae_source_data(&job->by);
    msae_score_desc desc = {0};
    msae_error error;
    job->scores = tool_alloc(n, sizeof *job->scores);
    if (job->scores == NULL) return tool_fail_memory();
    desc.k = job->k;
    desc.skip_bad = job->common.skip_bad;
    if (job->by_path != NULL) desc.by = &by;
    desc.no_companions = n > TOOL_MAX_PAIRED && !job->companions;
    if (desc.no_companions) {
        tool_note(job->model_path, "the companions of %zu latents are left out (see --companions)",
                  n);
    }
    if (msae_score_latents(&job->inputs.model, &source, &desc, job->scores, &job->set_cosine,
                           &error) != MSAE_OK) {
        return tool_fail_error(job->data_path, &error);
    }
    for (size_t r = 0; r < job->inputs.data.rows; r++) {
        job->used += !tool_is_skipped(&job->inputs.data, r) &&
                     (job->by_path == NULL || !tool_is_skipped(&job->by, r));
    }
    return TOOL_OK;
}

static int find_strongest(score_job *job) {
    const size_t n = job->inputs.model.n_latents;
    msae_top_desc desc = {0};
    msae_error error;
    if (job->labels_path == NULL) return TOOL_OK;
    job->top = tool_alloc(n, STRONGEST * sizeof *job->top);
    job->counts = tool_alloc(n, sizeof *job->counts);
    if (job->top == NULL || job->counts == NULL) return tool_fail_memory();
    desc.top = STRONGEST;
    desc.k = job->k;
    if (msae_top_rows(&job->inputs.model, &job->inputs.data, &desc, job->top, job->counts,
                      &error) != MSAE_OK) {
        return tool_fail_error(job->data_path, &error);
    }
    return TOOL_OK;
}

/* The word that a latent's name is, MSAE_NO_WORD where the vocabulary has it not. */
static size_t word_of_name(const tool_words *words, const char *name) {
    for (size_t w = 0; w < words->count; w++) {
        if (strcmp(words->words[w], name) == 0) return w;
    }
    for (size_t w = 0; w < words->count; w++) {
        if (tool_is_named(words->words[w], name)) return w;
    }
    return MSAE_NO_WORD;
}

/* Naming lists the scores of all words; of these the one of the latent's name is kept. */
static void keep_agreement(score_job *job, const msae_hit *best) {
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const char *name = tool_name_of(&job->names, j);
        const size_t word = name[0] != '\0' ? word_of_name(&job->words, name) : MSAE_NO_WORD;
        for (size_t i = 0; i < job->words.count && word != MSAE_NO_WORD; i++) {
            const msae_hit *hit = &best[j * job->words.count + i];
            if (hit->row == word) job->agreement[j] = (double)hit->value;
        }
    }
}

/* Measured anew on these rows where the words' embeddings are there, else as the file has it. */
static int find_agreement(score_job *job) {
    const size_t n = job->inputs.model.n_latents;
    msae_name_desc desc = {0};
    msae_error error;
    int status = TOOL_OK;
    if (job->names_path == NULL) return TOOL_OK;
    job->agreement = tool_alloc(n, sizeof *job->agreement);
    if (job->agreement == NULL) return tool_fail_memory();
    const tool_table *table = &job->names.table;
    const int has_scores =
        job->vocabulary_path == NULL && tool_find_column(table, "score") < table->columns;
    for (size_t j = 0; j < n; j++) {
        const int is_named = tool_name_of(&job->names, j)[0] != '\0';
        job->agreement[j] = has_scores && is_named ? job->names.claims[j].score : (double)NAN;
    }
    if (job->vocabulary_path == NULL) return TOOL_OK;
    desc.data = &job->inputs.data;
    desc.k = job->k;
    desc.top = job->words.count;
    desc.words = n <= SIZE_MAX / job->words.count
                     ? tool_alloc(n * job->words.count, sizeof *desc.words)
                     : NULL;
    if (desc.words == NULL) return tool_fail_memory();
    if (msae_name_latents(&job->inputs.model, &job->vocabulary, &desc, NULL, &error) != MSAE_OK) {
        status = tool_fail_error(job->vocabulary_path, &error);
    } else {
        keep_agreement(job, desc.words);
    }
    free(desc.words);
    return status;
}

/* Adds the cosines with the best one-to-one matching in another model; a latent that is left over
   counts as 0. */
static int match(score_job *job, const char *path) {
    const msae_model *model = &job->inputs.model;
    const msae_load_desc load_desc = tool_load_desc(&job->common, job->inputs.pool);
    size_t *columns = tool_alloc(model->n_latents, sizeof *columns);
    float *cosines = tool_alloc(model->n_latents, sizeof *cosines);
    msae_model other = {0};
    int status = columns != NULL && cosines != NULL
                     ? tool_load_more(&other, path, &load_desc, model, job->model_path)
                     : tool_fail_memory();
    if (status == TOOL_OK) {
        status = tool_align_decoders(model, &other, &load_desc.host, path, columns, cosines);
    }
    for (size_t j = 0; j < model->n_latents && status == TOOL_OK; j++) {
        job->stability[j] += (double)cosines[j] / (double)job->n_others;
    }
    msae_model_free(&other);
    free(columns);
    free(cosines);
    return status;
}

static int find_stability(score_job *job) {
    if (job->other_path == NULL) return TOOL_OK;
    job->n_others = 1 + job->more.count;
    job->stability = tool_alloc(job->inputs.model.n_latents, sizeof *job->stability);
    if (job->stability == NULL) return tool_fail_memory();
    int status = match(job, job->other_path);
    for (size_t i = 0; i < job->more.count && status == TOOL_OK; i++) {
        status = match(job, job->more.values[i]);
    }
    return status;
}

/* ---------------------------------------------------------------------------------------------
   What there is of a latent
   ------------------------------------------------------------------------------------------ */

static size_t listed_rows(const score_job *job, size_t latent) {
    return job->counts[latent] < STRONGEST ? job->counts[latent] : STRONGEST;
}

static double purity_of(const score_job *job, size_t latent, uint32_t *class_of) {
    *class_of = TOOL_NO_LABEL;
    if (job->top == NULL || job->counts[latent] == 0) return (double)NAN;
    return tool_purity(&job->labels, job->top + latent * STRONGEST, listed_rows(job, latent),
                       class_of);
}

static double agreement_of(const score_job *job, size_t latent) {
    if (job->agreement == NULL || job->scores[latent].rows == 0) return (double)NAN;
    return job->agreement[latent];
}

/* The share of the strongest rows whose label is the name. */
static double named_rows(const score_job *job, size_t latent) {
    const char *name = tool_name_of(&job->names, latent);
    size_t count = 0;
    if (job->top == NULL || name[0] == '\0' || job->counts[latent] == 0) return (double)NAN;
    for (size_t i = 0; i < listed_rows(job, latent); i++) {
        const uint32_t label = job->labels.of_row[job->top[latent * STRONGEST + i].row];
        count += label != TOOL_NO_LABEL && tool_is_named(job->labels.classes[label], name);
    }
    return (double)count / (double)listed_rows(job, latent);
}

/* The numbers that the summary tells of, NaN where a latent has none. Of the strongest rows of those
   that are active on fewer there is little to say. */
typedef enum measure {
    FREQUENCY,
    TYPICAL,
    MONOSEMANTICITY,
    MONOSEMANTICITY_COMMON, /* of latents that are common alone */
    COSINE,
    OVERLAP,
    PURITY,
    AGREEMENT,
    NAMED_ROWS,
    STABILITY,
    MEASURES
} measure;

static const struct {
    const char *key, *title;
} measures[MEASURES] = {
    {"frequency", "frequency"},
    {"typical", "typical value"},
    {"monosemanticity", "monosemanticity"},
    {"monosemanticity_common", ".. of those on 0.1 % of the rows and more"},
    {"cosine", "cosine with the nearest"},
    {"overlap", "rows shared with one"},
    {"purity", "purity, of those on 20 rows and more"},
    {"agreement", ".. agreement with the name"},
    {"named_rows", ".. rows of that name"},
    {"stability", "stability"},
};

static double value_of(const score_job *job, size_t latent, measure what) {
    const msae_score *score = &job->scores[latent];
    uint32_t class_of;
    if (score->rows == 0) return (double)NAN;
    if (what >= PURITY && what <= NAMED_ROWS && score->rows < STRONGEST) return (double)NAN;
    switch (what) {
    case FREQUENCY:
        return score->frequency;
    case TYPICAL:
        return score->typical;
    case MONOSEMANTICITY:
        return score->monosemanticity;
    case MONOSEMANTICITY_COMMON:
        return score->frequency >= COMMON_FREQUENCY ? score->monosemanticity : (double)NAN;
    case COSINE:
        return score->cosine;
    case OVERLAP:
        return score->overlap;
    case PURITY:
        return purity_of(job, latent, &class_of);
    case AGREEMENT:
        return agreement_of(job, latent);
    case NAMED_ROWS:
        return named_rows(job, latent);
    case STABILITY:
        return job->stability != NULL ? job->stability[latent] : (double)NAN;
    default:
        return (double)NAN;
    }
}

/* ---------------------------------------------------------------------------------------------
   Output
   ------------------------------------------------------------------------------------------ */

/* A column, empty where there is no number. */
static void put_number(FILE *file, const char *format, double value) {
    fputc('\t', file);
    if (isfinite(value)) fprintf(file, format, value);
}

static void put_latent(FILE *file, uint32_t latent) {
    fputc('\t', file);
    if (latent != MSAE_NO_LATENT) fprintf(file, "%lu", (unsigned long)latent);
}

static int write_scores(const score_job *job) {
    const uint64_t model = msae_model_checksum(&job->inputs.stored);
    char codes[TOOL_K_TEXT];
    tool_output output;
    int status = tool_output_open(&output, job->output);
    if (status != TOOL_OK) return status;
    FILE *file = output.file;
    tool_k_text(&job->inputs.model, job->k, codes);
    fputs("latent\trows\tfrequency\ttypical\tlargest\tmonosemanticity\tnearest\tcosine\tcompanion\t"
          "overlap\tclass\tpurity\tname\tagreement\tnamed_rows\tstability\tmodel\tcodes\n",
          file);
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const msae_score *score = &job->scores[j];
        uint32_t class_of;
        const double purity = purity_of(job, j, &class_of);
        fprintf(file, "%zu\t%llu\t%.6g", j, (unsigned long long)score->rows, score->frequency);
        put_number(file, "%.6g", score->typical);
        put_number(file, "%.6g", score->largest);
        put_number(file, "%.6f", score->monosemanticity);
        put_latent(file, score->nearest);
        put_number(file, "%.4f", score->cosine);
        put_latent(file, score->companion);
        put_number(file, "%.4f", score->overlap);
        fprintf(file, "\t%s", class_of != TOOL_NO_LABEL ? job->labels.classes[class_of] : "");
        put_number(file, "%.2f", purity);
        fprintf(file, "\t%s", tool_name_of(&job->names, j));
        put_number(file, "%.4f", agreement_of(job, j));
        put_number(file, "%.2f", named_rows(job, j));
        put_number(file, "%.4f", job->stability != NULL ? job->stability[j] : (double)NAN);
        fprintf(file, "\t%016llx\t%s\n", (unsigned long long)model, codes);
    }
    return tool_output_close(&output);
}

/* How a measure is distributed over the latents that have it. */
typedef struct distribution {
    size_t count;
    double mean, quantile[QUANTILES];
} distribution;

static const double shares[QUANTILES] = {0.05, 0.25, 0.5, 0.75, 0.95};

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* values [n] is room. */
static distribution distribution_of(const score_job *job, measure what, double *values) {
    distribution result = {0};
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const double value = value_of(job, j, what);
        if (!isfinite(value)) continue;
        values[result.count++] = value;
        result.mean += value;
    }
    if (result.count == 0) return result;
    result.mean /= (double)result.count;
    qsort(values, result.count, sizeof *values, by_value);
    for (size_t q = 0; q < QUANTILES; q++) {
        result.quantile[q] = values[(size_t)(shares[q] * (double)(result.count - 1) + 0.5)];
    }
    return result;
}

/* Latents of which so much is true. */
typedef struct tally {
    size_t active, common, near, shared, steady;
} tally;

static tally tally_of(const score_job *job) {
    tally count = {0};
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const msae_score *score = &job->scores[j];
        if (score->rows == 0) continue;
        count.active++;
        count.common += score->frequency >= COMMON_FREQUENCY;
        count.near += score->cosine > DUPLICATE_COSINE;
        count.shared += score->overlap > DUPLICATE_OVERLAP;
        count.steady += job->stability != NULL && job->stability[j] > 0.7;
    }
    return count;
}

static void print_json(const score_job *job, double seconds, double *values) {
    static const char *const keys[QUANTILES] = {"p5", "p25", "p50", "p75", "p95"};
    const tally count = tally_of(job);
    tool_json json = tool_json_line("done");
    tool_json_text(&json, "file", job->output);
    tool_json_count(&json, "latents", job->inputs.model.n_latents);
    tool_json_count(&json, "rows", job->used);
    tool_json_k(&json, &job->inputs.model, job->k);
    tool_json_count(&json, "active", count.active);
    tool_json_count(&json, "common", count.common);
    tool_json_count(&json, "cosine_above_90", count.near);
    tool_json_count(&json, "overlap_above_50", count.shared);
    if (job->stability != NULL) {
        tool_json_count(&json, "others", job->n_others);
        tool_json_count(&json, "stability_above_70", count.steady);
    }
    tool_json_real(&json, "set_cosine", job->set_cosine);
    for (size_t m = 0; m < MEASURES; m++) {
        const distribution d = distribution_of(job, (measure)m, values);
        if (d.count == 0) continue;
        tool_json_begin(&json, measures[m].key, '{');
        tool_json_count(&json, "latents", d.count);
        tool_json_real(&json, "mean", d.mean);
        for (size_t q = 0; q < QUANTILES; q++) tool_json_real(&json, keys[q], d.quantile[q]);
        tool_json_end(&json, '}');
    }
    tool_json_real(&json, "seconds", seconds);
    tool_json_checksum(&json, "model", &job->inputs.stored);
    tool_json_done(&json);
}

static void print_table(const score_job *job, double seconds, double *values) {
    const tally count = tally_of(job);
    char text[TOOL_K_TEXT];
    printf("%s: %zu latents on %zu row%s of %s (%s), %.1f s\n", job->output,
           job->inputs.model.n_latents, job->used, tool_plural(job->used), job->data_path,
           tool_k_text(&job->inputs.model, job->k, text), seconds);
    printf("%zu active, %zu of them on 0.1 %% of the rows and more; %zu have a decoder row nearer "
           "than %.1f, %zu share more than half of their rows with one latent",
           count.active, count.common, count.near, DUPLICATE_COSINE, count.shared);
    if (job->stability != NULL) {
        printf("; %zu are above 0.7 in %zu other model%s", count.steady, job->n_others,
               tool_plural(job->n_others));
    }
    printf("\n%-42s %7s %8s %8s %8s %8s %8s %8s\n", "", "latents", "mean", "5 %", "25 %", "median",
           "75 %", "95 %");
    for (size_t m = 0; m < MEASURES; m++) {
        const distribution d = distribution_of(job, (measure)m, values);
        if (d.count == 0) continue;
        printf("%-42s %7zu %8.4f", measures[m].title, d.count, d.mean);
        for (size_t q = 0; q < QUANTILES; q++) printf(" %8.4f", d.quantile[q]);
        putchar('\n');
    }
    if (isfinite(job->set_cosine)) {
        printf("monosemanticity is above %.4f, the mean cosine of two rows of %s\n",
               job->set_cosine, job->by_path != NULL ? job->by_path : job->data_path);
    }
}

static int print_summary(const score_job *job, double seconds) {
    double *values = tool_alloc(job->inputs.model.n_latents, sizeof *values);
    if (values == NULL) return tool_fail_memory();
    if (job->common.json) {
        print_json(job, seconds, values);
    } else {
        print_table(job, seconds, values);
    }
    free(values);
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   The run
   ------------------------------------------------------------------------------------------ */

static int load_by(score_job *job) {
    if (job->by_path == NULL) return TOOL_OK;
    int status =
        tool_load_data(&job->by, job->by_path, job->common.tensor, 0, job->common.skip_bad);
    if (status == TOOL_OK && job->by.rows != job->inputs.data.rows) {
        return tool_fail(job->by_path, "has %zu row%s, and %s has %zu", job->by.rows,
                         tool_plural(job->by.rows), job->data_path, job->inputs.data.rows);
    }
    return status;
}

static int load_names(score_job *job) {
    int status =
        tool_load_names(&job->names, job->names_path, &job->inputs.stored, job->model_path);
    if (status != TOOL_OK || job->vocabulary_path == NULL) return status;
    status = tool_load_data(&job->vocabulary, job->vocabulary_path, job->common.tensor,
                            job->inputs.model.n_inputs, job->common.skip_bad);
    if (status != TOOL_OK) return status;
    return tool_load_words(&job->words, job->words_path, NULL, job->vocabulary.rows,
                           job->vocabulary_path);
}

static int load(score_job *job) {
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, job->data_path);
    if (status != TOOL_OK) return status;
    status = tool_settle_k(&job->inputs.model, job->model_path, &job->k);
    if (status == TOOL_OK) status = load_by(job);
    if (status == TOOL_OK) {
        status = tool_load_labels(&job->labels, job->labels_path, job->column, &job->inputs.data,
                                  job->data_path);
    }
    return status == TOOL_OK ? load_names(job) : status;
}

static int run(void *context) {
    score_job *job = context;
    if (job->more.count > 0 && job->other_path == NULL) {
        return tool_usage("score", "models to compare with go behind --other");
    }
    if (job->more.count >= MAX_OTHERS) {
        return tool_usage("score", "takes at most %d other models", (int)MAX_OTHERS);
    }
    int status = load(job);
    const double start = tool_seconds();
    if (status == TOOL_OK) status = score_latents(job);
    if (status == TOOL_OK) status = find_strongest(job);
    if (status == TOOL_OK) status = find_agreement(job);
    if (status == TOOL_OK) status = find_stability(job);
    const double seconds = tool_seconds() - start;
    if (status == TOOL_OK) status = write_scores(job);
    return status == TOOL_OK ? print_summary(job, seconds) : status;
}

static void close_job(void *context) {
    score_job *job = context;
    free(job->scores);
    free(job->top);
    free(job->counts);
    free(job->agreement);
    free(job->stability);
    tool_free_words(&job->words);
    tool_free_names(&job->names);
    tool_free_labels(&job->labels);
    msae_data_free(&job->vocabulary);
    msae_data_free(&job->by);
    tool_close_inputs(&job->inputs);
}

#define AT(member) offsetof(score_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(model_path), ""},
    {"DATA", NULL, TOOL_OPERAND, AT(data_path), ""},
    {"OTHER", NULL, TOOL_REST, AT(more), ""},
    {"-o", "SCORES.tsv", TOOL_WRITES_TABLE, AT(output), "file to write (required)"},
    {"--by", "OTHER.npy", TOOL_TEXT, AT(by_path),
     "what says which rows are alike: another encoder's embeddings of the same rows (default:\n"
     "DATA itself)"},
    TOOL_OPTION_LABELS(score_job, labels_path),
    TOOL_OPTION_COLUMN(score_job, column),
    TOOL_OPTION_NAMES(score_job, names_path),
    {"--vocab", "V.npy", TOOL_TEXT, AT(vocabulary_path),
     "embeddings of words, to measure the names' agreement on these rows"},
    {"--words", "FILE", TOOL_TEXT, AT(words_path), "the words (see msae name)"},
    {"--other", "MODEL", TOOL_TEXT, AT(other_path),
     "another model, of another seed say, to find the latents in; more may follow"},
    TOOL_OPTION_K(score_job, k),
    TOOL_OPTION_REFINE,
    {"--companions", NULL, TOOL_FLAG, AT(companions),
     "look for the companions of more than 16,384 latents too, in memory of 2 n^2 bytes"},
    TOOL_OPTION_OWN_STATISTICS,
    TOOL_OPTION_SKIP_BAD,
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {"--column", TOOL_NEEDS, "--labels"}, {"--vocab", TOOL_TOGETHER, "--words"},
    {"--vocab", TOOL_NEEDS, "--names"},   {"--tensor", TOOL_READS, "DATA|--by|--vocab"},
    {NULL, TOOL_REQUIRED, "-o"},
};

const tool_command tool_score = {
    .name = "score",
    .brief = "says how good each latent is",
    .summary =
        "Scores every latent on the rows of DATA. Writes a table: latent; rows (on which it is\n"
        "active), frequency, typical and largest (its values there); monosemanticity (the mean\n"
        "cosine of two of these rows, weighted by its values, Pach et al. 2025, less that of any\n"
        "two rows); nearest and cosine (the latent with the nearest decoder row); companion and\n"
        "overlap (the latent that shares most rows with it, and how many of those of both); with\n"
        "--labels class and purity (of its 20 strongest rows, those of the commonest class); with\n"
        "--names name and agreement (the cosine of its strongest rows with it), and with both\n"
        "named_rows (of the 20 those whose label is the name); with --other stability (the mean\n"
        "cosine with its match in each other model, see msae align); model (the checksum of its\n"
        "weights) and codes (k and refinement). Prints how these are distributed.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(score_job),
    .run = run,
    .close = close_job,
};
