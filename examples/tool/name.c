/* msae name: words for latents, and the rows that activate them most. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

enum { LISTED_ROWS = 8 }; /* of a latent that is shown to people, unless --top says otherwise */

/* What the published work calls a valid name. */
#define STRICT_THRESHOLD 0.42f
#define STRICT_RATIO 2.0f

typedef struct name_options {
    tool_common common;
    const char *model_path, *vocabulary_path, *words_path, *output;
    const char *data_path, *labels_path; /* of the rows; NULL: the vocabulary and its words */
    int keep_means;
    float threshold, ratio; /* a name is valid from here on */
    size_t top;             /* rows to list for a latent, 0: none */
    size_t list;            /* latents to show to people, 0: none */
    size_t k;               /* latents of a row that count as active, 0: as the recipe does */
} name_options;

/* The rows that activate a latent most, by descending value. */
typedef struct top_row {
    size_t row;
    float value;
} top_row;

typedef struct name_job {
    name_options options;
    tool_inputs inputs; /* the data is the vocabulary */
    msae_data rows;     /* the data of --data, if given */
    tool_words words, labels;
    msae_name *names; /* [n] */
    top_row *top;     /* [n, options.top] */
    size_t *fires;    /* [n]: rows on which the latent is active */
} name_job;

static const msae_data *rows_of(const name_job *job) {
    return job->options.data_path != NULL ? &job->rows : &job->inputs.data;
}

static const char *rows_path(const name_job *job) {
    const name_options *o = &job->options;
    return o->data_path != NULL ? o->data_path : o->vocabulary_path;
}

static const char *label_of(const name_job *job, size_t row) {
    return job->options.data_path != NULL ? job->labels.words[row] : job->words.words[row];
}

static int is_valid(const name_job *job, size_t latent) {
    const msae_name *name = &job->names[latent];
    return name->score >= job->options.threshold &&
           name->score >= job->options.ratio * name->runner_up_score;
}

/* ---------------------------------------------------------------------------------------------
   Strongest rows
   ------------------------------------------------------------------------------------------ */

/* Puts a row into the descending list [count] if it is strong enough; earlier rows win ties. */
static void insert_row(top_row *list, size_t count, size_t row, float value) {
    if (value <= list[count - 1].value) return;
    size_t place = count - 1;
    for (; place > 0 && list[place - 1].value < value; place--) list[place] = list[place - 1];
    list[place].row = row;
    list[place].value = value;
}

static int on_encoded(void *user, const tool_encoded *block) {
    name_job *job = user;
    const size_t top = job->options.top;
    for (size_t r = 0; r < block->rows; r++) {
        const msae_code *codes = block->codes + r * block->stride;
        for (size_t i = 0; i < block->counts[r]; i++) {
            const size_t latent = codes[i].latent;
            job->fires[latent]++;
            insert_row(job->top + latent * top, top, block->first + r, codes[i].value);
        }
    }
    return TOOL_OK;
}

static int find_top_rows(name_job *job) {
    name_options *o = &job->options;
    const size_t n = job->inputs.model.n_latents, rows = rows_of(job)->rows;
    if (o->top > rows) o->top = rows;
    job->top = tool_alloc(n, o->top * sizeof *job->top); /* zeros: stronger than no row */
    job->fires = tool_alloc(n, sizeof *job->fires);
    if (job->top == NULL || job->fires == NULL) return tool_fail_memory();
    return tool_encode_data(&job->inputs.model, rows_of(job), rows_path(job), o->k, on_encoded,
                            job);
}

static size_t top_count(const name_job *job, size_t latent) {
    const size_t fires = job->fires[latent];
    return fires < job->options.top ? fires : job->options.top;
}

static const char *top_label(const name_job *job, size_t latent, size_t place) {
    return label_of(job, job->top[latent * job->options.top + place].row);
}

/* ---------------------------------------------------------------------------------------------
   Output
   ------------------------------------------------------------------------------------------ */

static void print_tsv(const name_job *job, FILE *file) {
    fputs("latent\tname\tscore\trunner_up\trunner_up_score\tvalid", file);
    fputs(job->options.top > 0 ? "\tfires\ttop\n" : "\n", file);
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const msae_name *name = &job->names[j];
        fprintf(file, "%zu\t%s\t%.4f\t%s\t%.4f\t%d", j, job->words.words[name->word],
                (double)name->score, job->words.words[name->runner_up],
                (double)name->runner_up_score, is_valid(job, j));
        if (job->options.top > 0) {
            fprintf(file, "\t%zu\t", job->fires[j]);
            for (size_t i = 0; i < top_count(job, j); i++) {
                fprintf(file, "%s%s", i == 0 ? "" : "; ", top_label(job, j, i));
            }
        }
        fputc('\n', file);
    }
}

static void print_json(const name_job *job) {
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const msae_name *name = &job->names[j];
        tool_json json = tool_json_line(NULL);
        tool_json_count(&json, "latent", j);
        tool_json_text(&json, "name", job->words.words[name->word]);
        tool_json_real(&json, "score", (double)name->score);
        tool_json_text(&json, "runner_up", job->words.words[name->runner_up]);
        tool_json_real(&json, "runner_up_score", (double)name->runner_up_score);
        tool_json_bool(&json, "valid", is_valid(job, j));
        if (job->options.top > 0) {
            tool_json_count(&json, "fires", job->fires[j]);
            tool_json_begin(&json, "top", '[');
            for (size_t i = 0; i < top_count(job, j); i++) {
                tool_json_text(&json, NULL, top_label(job, j, i));
            }
            tool_json_end(&json, ']');
        }
        tool_json_end(&json, '}');
    }
}

static void print_summary(const name_job *job) {
    const size_t n = job->inputs.model.n_latents;
    size_t valid = 0;
    for (size_t j = 0; j < n; j++) valid += (size_t)is_valid(job, j);
    printf("%s: %zu latents, %zu with a valid name\n", job->options.output, n, valid);
}

static int print_names(const name_job *job) {
    tool_output output;
    int status = tool_output_open(&output, job->options.output);
    if (status != TOOL_OK) return status;
    print_tsv(job, output.file);
    return tool_output_close(&output);
}

/* ---------------------------------------------------------------------------------------------
   A selection for people
   ------------------------------------------------------------------------------------------ */

/* For qsort, which has no way to hand over the job. */
typedef struct candidate {
    size_t latent, fires;
} candidate;

static int by_fires(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->fires != y->fires) return x->fires < y->fires ? 1 : -1;
    return x->latent < y->latent ? -1 : 1;
}

static int is_own_top_row(const name_job *job, size_t latent) {
    for (size_t i = 0; i < top_count(job, latent); i++) {
        if (job->top[latent * job->options.top + i].row == job->names[latent].word) return 1;
    }
    return 0;
}

/* A latent that few rows activate has not shown what it means, and one that many activate means
   little: worth showing is one with a full list of top rows, active on at most a twentieth of all
   rows, whose name is valid and, where the rows are the vocabulary itself, one of the top rows. */
static int is_worth_showing(const name_job *job, size_t latent) {
    return job->fires[latent] >= job->options.top &&
           job->fires[latent] <= rows_of(job)->rows / 20 && is_valid(job, latent) &&
           (job->options.data_path != NULL || is_own_top_row(job, latent));
}

/* Bytes of a label up to its first comma, where synonyms follow ("crane, Grus grus"); a label that
   is a comma counts. */
static int first_synonym(const char *label) {
    const size_t bytes = label[0] == '\0' ? 0 : 1 + strcspn(label + 1, ",");
    return bytes < 64 ? (int)bytes : 64;
}

static void print_latent(const name_job *job, size_t latent) {
    const msae_name *name = &job->names[latent];
    const char *word = job->words.words[name->word];
    const int width = first_synonym(word);
    printf("%6zu  %.*s%*s %.2f %6.2f%% ", latent, width, word, width < 18 ? 18 - width : 0, "",
           (double)name->score, 100 * (double)job->fires[latent] / (double)rows_of(job)->rows);
    for (size_t i = 0; i < top_count(job, latent); i++) {
        const char *label = top_label(job, latent, i);
        printf("%s%.*s", i == 0 ? " " : ", ", first_synonym(label), label);
    }
    putchar('\n');
}

/* Lists options.list latents, from the most to the least often active, evenly among those that are
   worth showing. */
static int print_list(const name_job *job) {
    const size_t n = job->inputs.model.n_latents;
    candidate *candidates = tool_alloc(n, sizeof *candidates);
    size_t count = 0, shown = job->options.list;
    if (candidates == NULL) return tool_fail_memory();
    for (size_t j = 0; j < n; j++) {
        if (!is_worth_showing(job, j)) continue;
        candidates[count].latent = j;
        candidates[count++].fires = job->fires[j];
    }
    qsort(candidates, count, sizeof *candidates, by_fires);
    if (shown > count) shown = count;
    printf("%6s  %-18s %-4s %7s  %s\n", "latent", "name", "cos", "active", "strongest rows");
    for (size_t i = 0; i < shown; i++) {
        print_latent(job, candidates[(2 * i + 1) * count / (2 * shown)].latent);
    }
    printf("%zu of the %zu latents worth showing, out of %zu\n", shown, count, n);
    free(candidates);
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   The run
   ------------------------------------------------------------------------------------------ */

static int load(name_job *job) {
    const name_options *o = &job->options;
    int status = tool_open_inputs(&job->inputs, &o->common, o->model_path, o->vocabulary_path);
    if (status != TOOL_OK) return status;
    const size_t words = job->inputs.data.rows;
    status = tool_load_words(&job->words, o->words_path, words, o->vocabulary_path);
    if (status != TOOL_OK || o->data_path == NULL) return status;
    status =
        tool_load_data(&job->rows, o->data_path, o->common.tensor, job->inputs.model.n_inputs, 0);
    if (status != TOOL_OK) return status;
    return tool_load_words(&job->labels, o->labels_path, job->rows.rows, o->data_path);
}

static int name_latents(name_job *job) {
    const name_options *o = &job->options;
    msae_error error;
    msae_name_desc desc = {0};
    desc.keep_means = o->keep_means;
    job->names = tool_alloc(job->inputs.model.n_latents, sizeof *job->names);
    if (job->names == NULL) return tool_fail_memory();
    if (msae_name_latents(&job->inputs.model, &job->inputs.data, &desc, job->names, &error) !=
        MSAE_OK) {
        return tool_fail_error(o->vocabulary_path, &error);
    }
    return o->top > 0 ? find_top_rows(job) : TOOL_OK;
}

/* With a file for the table, standard output is free for something shorter. */
static int print_results(const name_job *job) {
    const name_options *o = &job->options;
    int status =
        o->output != NULL || (!o->common.json && o->list == 0) ? print_names(job) : TOOL_OK;
    if (status != TOOL_OK) return status;
    if (o->common.json) {
        print_json(job);
    } else if (o->output != NULL) {
        print_summary(job);
    }
    return o->list > 0 ? print_list(job) : TOOL_OK;
}

static int run(name_job *job) {
    name_options *o = &job->options;
    if (o->words_path == NULL) return tool_usage("name", "--words FILE is missing");
    if ((o->data_path == NULL) != (o->labels_path == NULL)) {
        return tool_usage("name", "--data and --labels go together");
    }
    if (o->list > 0 && o->common.json) {
        return tool_usage("name", "--list and --json exclude each other");
    }
    if (o->list > 0 && o->top == 0) o->top = LISTED_ROWS;
    int status = o->output != NULL ? tool_check_output("name", o->output) : TOOL_OK;
    if (status == TOOL_OK) status = load(job);
    if (status == TOOL_OK) status = name_latents(job);
    if (status == TOOL_OK) status = print_results(job);
    return status;
}

int tool_name(int argc, char **argv) {
    name_job job;
    memset(&job, 0, sizeof job);
    name_options *o = &job.options;
    o->threshold = STRICT_THRESHOLD;
    o->ratio = STRICT_RATIO;
    const tool_option options[] = {
        {"--words", "FILE", TOOL_TEXT, &o->words_path,
         "VOCABULARY's words, one a line or first in a .tsv (required)"},
        {"-o", "NAMES.tsv", TOOL_TEXT, &o->output, "file to write (default: standard output)"},
        {"--keep-means", NULL, TOOL_FLAG, &o->keep_means,
         "compare as published, without subtracting the means of both sides"},
        {"--threshold", "T", TOOL_REAL, &o->threshold,
         "cosine from which on a name is valid (default: 0.42)"},
        {"--ratio", "Q", TOOL_REAL, &o->ratio,
         ".. if it is also Q times that of the runner-up (default: 2)"},
        {"--top", "N", TOOL_COUNT, &o->top, "also give the N rows that activate each latent most"},
        {"--data", "ROWS", TOOL_TEXT, &o->data_path, "the rows (default: VOCABULARY)"},
        {"--labels", "FILE", TOOL_TEXT, &o->labels_path, "what to call the rows of --data"},
        {"--k", "K", TOOL_COUNT, &o->k,
         "latents of a row that count as active (default: as the recipe does)"},
        {"--list", "N", TOOL_COUNT, &o->list, "show N latents to people instead of the table"},
        TOOL_OPTION_TENSOR(o->common),
        TOOL_OPTION_THREADS(o->common),
        TOOL_OPTION_SIMD(o->common),
        TOOL_OPTION_JSON(o->common),
    };
    const tool_syntax syntax = {
        "name",
        {{"MODEL", &o->model_path}, {"VOCABULARY", &o->vocabulary_path}},
        "Names every latent with the word of VOCABULARY (embeddings from the same source as\n"
        "the model's data) that points most in its direction. Prints a table: latent, name,\n"
        "score (the cosine), runner_up, runner_up_score, valid; with --top also fires, the\n"
        "number of rows on which the latent is active, and top, its strongest rows.",
        options,
        sizeof options / sizeof options[0],
        NULL,
        NULL,
    };
    int status = tool_parse(&syntax, argc, argv);
    if (status != TOOL_GO) return status;
    status = run(&job);
    free(job.names);
    free(job.top);
    free(job.fires);
    tool_free_words(&job.words);
    tool_free_words(&job.labels);
    msae_data_free(&job.rows);
    tool_close_inputs(&job.inputs);
    return status;
}
