/* msae name: words for latents, and the rows that activate them most. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

enum {
    LISTED_ROWS = 8, /* of a latent that is shown to people, unless --top says otherwise */
    CANDIDATES = 10, /* words of a latent in --json, and among which a name counts as found */
    CHECKED_ROWS = 20,
    DEFAULT_K = 64
};

/* A latent is of a class when that share of its strongest rows is. */
#define CHECKED_SHARE 0.6

/* From where on a name by the decoder is valid: what the published work calls strict. */
#define DECODER_SCORE 0.42f
#define DECODER_RATIO 2.0f

enum { BY_ROWS = 1, BY_DECODER };

typedef struct name_options {
    tool_common common;
    const char *model_path, *vocabulary_path, *words_path, *output;
    const char *data_path, *labels_path; /* rows and what to call them */
    const char *test_path, *test_labels_path;
    const char *column;
    int by, keep_means;
    float min_score, min_ratio; /* a name is valid from here on */
    float hubs;
    size_t name_rows; /* strongest rows that a name rests on */
    size_t top;       /* rows to list for a latent, 0: none */
    size_t list;      /* latents to show to people, 0: none */
    size_t k;         /* latents of a row that count as active */
} name_options;

typedef struct name_job {
    name_options options;
    tool_inputs inputs; /* the data is the vocabulary */
    msae_data rows;     /* the data of --data, if given */
    tool_words words;
    tool_labels labels; /* of --labels, if given */
    msae_name *names;   /* [n] */
    msae_hit *best;     /* [n, CANDIDATES] */
    msae_hit *top;      /* [n, options.top] */
    size_t *fires;      /* [n]: rows on which the latent is active */
} name_job;

static const msae_data *rows_of(const name_job *job) {
    return job->options.data_path != NULL ? &job->rows : &job->inputs.data;
}

static const char *rows_path(const name_job *job) {
    const name_options *o = &job->options;
    return o->data_path != NULL ? o->data_path : o->vocabulary_path;
}

/* What to call a row that is listed; room is for a row that has only a number. */
static const char *label_of(const name_job *job, size_t row, char room[24]) {
    if (job->options.data_path == NULL) return job->words.words[row];
    if (job->options.labels_path != NULL) return job->labels.label[row];
    snprintf(room, 24, "%zu", row);
    return room;
}

static const char *word_of(const name_job *job, size_t word) {
    return word != MSAE_NO_WORD ? job->words.words[word] : "";
}

static int is_valid(const name_job *job, size_t latent) {
    const msae_name *name = &job->names[latent];
    return name->word != MSAE_NO_WORD && name->score >= job->options.min_score &&
           name->score >= job->options.min_ratio * name->runner_up_score;
}

static size_t count_valid(const name_job *job) {
    size_t valid = 0;
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) valid += (size_t)is_valid(job, j);
    return valid;
}

/* ---------------------------------------------------------------------------------------------
   Strongest rows
   ------------------------------------------------------------------------------------------ */

static int find_top_rows(name_job *job) {
    name_options *o = &job->options;
    const size_t n = job->inputs.model.n_latents;
    msae_error error;
    if (o->top > rows_of(job)->rows) o->top = rows_of(job)->rows;
    job->top = tool_alloc(n, o->top * sizeof *job->top);
    job->fires = tool_alloc(n, sizeof *job->fires);
    if (job->top == NULL || job->fires == NULL) return tool_fail_memory();
    if (msae_top_rows(&job->inputs.model, rows_of(job), o->k, NULL, 0, o->top, job->top, job->fires,
                      &error) != MSAE_OK) {
        return tool_fail_error(rows_path(job), &error);
    }
    return TOOL_OK;
}

static size_t top_count(const name_job *job, size_t latent) {
    const size_t fires = job->fires[latent];
    return fires < job->options.top ? fires : job->options.top;
}

static const char *top_label(const name_job *job, size_t latent, size_t place, char room[24]) {
    return label_of(job, job->top[latent * job->options.top + place].row, room);
}

/* ---------------------------------------------------------------------------------------------
   How often the names are right: against the classes of labelled rows
   ------------------------------------------------------------------------------------------ */

typedef struct name_check {
    size_t rows;
    size_t of_a_class;         /* latents whose strongest rows share a class */
    size_t named;              /* .. which is a word of the vocabulary */
    size_t first, within, ten; /* .. that is the best word, the runner-up or it, among the ten */
} name_check;

/* The class that most of a latent's strongest rows have, or TOOL_NO_LABEL when too few share it. */
static uint32_t shared_class(const msae_hit *hits, const tool_labels *labels) {
    for (size_t i = 0; i < CHECKED_ROWS; i++) {
        const uint32_t class_of = labels->of_row[hits[i].row];
        size_t count = 0;
        if (class_of == TOOL_NO_LABEL) continue;
        for (size_t j = 0; j < CHECKED_ROWS; j++) {
            count += labels->of_row[hits[j].row] == class_of;
        }
        if ((double)count >= CHECKED_SHARE * CHECKED_ROWS) return class_of;
    }
    return TOOL_NO_LABEL;
}

static int is_a_word(const name_job *job, const char *class_name) {
    for (size_t w = 0; w < job->words.count; w++) {
        if (tool_is_named(job->words.words[w], class_name)) return 1;
    }
    return 0;
}

static void check_latent(const name_job *job, size_t latent, const char *class_name,
                         name_check *check) {
    const msae_name *name = &job->names[latent];
    const msae_hit *best = job->best + latent * CANDIDATES;
    int found = 0;
    check->of_a_class++;
    if (!is_a_word(job, class_name)) return;
    check->named++;
    if (tool_is_named(word_of(job, name->word), class_name)) {
        check->first++;
        check->within++;
    } else if (tool_is_named(word_of(job, name->runner_up), class_name)) {
        check->within++;
    }
    for (size_t i = 0; i < CANDIDATES; i++) {
        found |= tool_is_named(word_of(job, best[i].row), class_name);
    }
    check->ten += (size_t)found;
}

static int check_names(const name_job *job, const msae_data *data, const char *path,
                       const tool_labels *labels, name_check *check) {
    const size_t n = job->inputs.model.n_latents;
    msae_hit *hits = tool_alloc(n, CHECKED_ROWS * sizeof *hits);
    size_t *counts = tool_alloc(n, sizeof *counts);
    msae_error error;
    int status = TOOL_OK;
    memset(check, 0, sizeof *check);
    check->rows = data->rows;
    if (hits == NULL || counts == NULL) {
        status = tool_fail_memory();
    } else if (msae_top_rows(&job->inputs.model, data, job->options.k, NULL, 0, CHECKED_ROWS, hits,
                             counts, &error) != MSAE_OK) {
        status = tool_fail_error(path, &error);
    }
    for (size_t j = 0; j < n && status == TOOL_OK; j++) {
        uint32_t class_of = TOOL_NO_LABEL;
        if (counts[j] >= CHECKED_ROWS) class_of = shared_class(hits + j * CHECKED_ROWS, labels);
        if (class_of != TOOL_NO_LABEL) check_latent(job, j, labels->classes[class_of], check);
    }
    free(hits);
    free(counts);
    return status;
}

static void print_check(const name_job *job, const char *path, const name_check *check) {
    if (job->options.common.json) {
        tool_json json = tool_json_line("check");
        tool_json_text(&json, "data", path);
        tool_json_count(&json, "rows", check->rows);
        tool_json_count(&json, "of_a_class", check->of_a_class);
        tool_json_count(&json, "class_is_a_word", check->named);
        tool_json_count(&json, "right_first", check->first);
        tool_json_count(&json, "right_first_or_runner_up", check->within);
        tool_json_count(&json, "right_within_ten", check->ten);
        tool_json_end(&json, '}');
        return;
    }
    printf("%s: %zu latents whose %d strongest rows share a class (%.0f %%), a word in %zu cases: "
           "%zu named so, %zu by name or runner-up, %zu within ten\n",
           path, check->of_a_class, CHECKED_ROWS, 100 * CHECKED_SHARE, check->named, check->first,
           check->within, check->ten);
}

static int check_and_print(const name_job *job, const msae_data *data, const char *path,
                           const tool_labels *labels) {
    name_check check;
    int status = check_names(job, data, path, labels, &check);
    if (status == TOOL_OK) print_check(job, path, &check);
    return status;
}

/* Rows that the naming did not see. */
static int check_test(const name_job *job) {
    const name_options *o = &job->options;
    msae_data data;
    tool_labels labels;
    int status =
        tool_load_data(&data, o->test_path, o->common.tensor, job->inputs.model.n_inputs, 0);
    if (status != TOOL_OK) return status;
    status = tool_load_labels(&labels, o->test_labels_path, o->column, data.rows, o->test_path);
    if (status == TOOL_OK) status = check_and_print(job, &data, o->test_path, &labels);
    tool_free_labels(&labels);
    msae_data_free(&data);
    return status;
}

static int check_all(const name_job *job) {
    const name_options *o = &job->options;
    int status = TOOL_OK;
    if (o->labels_path != NULL) {
        status = check_and_print(job, &job->rows, o->data_path, &job->labels);
    }
    if (status == TOOL_OK && o->test_path != NULL) status = check_test(job);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Output
   ------------------------------------------------------------------------------------------ */

static void print_tsv(const name_job *job, FILE *file) {
    char room[24];
    fputs("latent\tname\tscore\trunner_up\trunner_up_score\tvalid", file);
    fputs(job->options.top > 0 ? "\tfires\ttop\n" : "\n", file);
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const msae_name *name = &job->names[j];
        fprintf(file, "%zu\t%s\t%.4f\t%s\t%.4f\t%d", j, word_of(job, name->word),
                (double)name->score, word_of(job, name->runner_up), (double)name->runner_up_score,
                is_valid(job, j));
        if (job->options.top > 0) {
            fprintf(file, "\t%zu\t", job->fires[j]);
            for (size_t i = 0; i < top_count(job, j); i++) {
                fprintf(file, "%s%s", i == 0 ? "" : "; ", top_label(job, j, i, room));
            }
        }
        fputc('\n', file);
    }
}

/* A word, or null. */
static void json_word(const name_job *job, tool_json *json, const char *key, size_t word) {
    if (word != MSAE_NO_WORD) {
        tool_json_text(json, key, job->words.words[word]);
    } else {
        tool_json_null(json, key);
    }
}

static void print_json(const name_job *job) {
    char room[24];
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const msae_name *name = &job->names[j];
        const msae_hit *best = job->best + j * CANDIDATES;
        tool_json json = tool_json_line(NULL);
        tool_json_count(&json, "latent", j);
        json_word(job, &json, "name", name->word);
        tool_json_real(&json, "score", (double)name->score);
        json_word(job, &json, "runner_up", name->runner_up);
        tool_json_real(&json, "runner_up_score", (double)name->runner_up_score);
        tool_json_bool(&json, "valid", is_valid(job, j));
        tool_json_begin(&json, "words", '[');
        for (size_t i = 0; i < CANDIDATES && best[i].row != MSAE_NO_WORD; i++) {
            tool_json_text(&json, NULL, job->words.words[best[i].row]);
        }
        tool_json_end(&json, ']');
        if (job->options.top > 0) {
            tool_json_count(&json, "fires", job->fires[j]);
            tool_json_begin(&json, "top", '[');
            for (size_t i = 0; i < top_count(job, j); i++) {
                tool_json_text(&json, NULL, top_label(job, j, i, room));
            }
            tool_json_end(&json, ']');
        }
        tool_json_end(&json, '}');
    }
}

static void print_summary(const name_job *job) {
    const name_options *o = &job->options;
    const size_t n = job->inputs.model.n_latents, valid = count_valid(job);
    size_t named = 0;
    for (size_t j = 0; j < n; j++) named += job->names[j].word != MSAE_NO_WORD;
    if (o->common.json) {
        tool_json json = tool_json_line("done");
        tool_json_count(&json, "latents", n);
        tool_json_count(&json, "named", named);
        tool_json_count(&json, "valid", valid);
        tool_json_real(&json, "min_score", (double)o->min_score);
        tool_json_real(&json, "min_ratio", (double)o->min_ratio);
        tool_json_end(&json, '}');
    } else {
        printf("%s: %zu latents, %zu named, %zu with a valid name (score from %g, %g times the "
               "runner-up's)\n",
               o->output, n, named, valid, (double)o->min_score, (double)o->min_ratio);
    }
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
    char room[24];
    printf("%6zu  %.*s%*s %.2f %6.2f%% ", latent, width, word, width < 18 ? 18 - width : 0, "",
           (double)name->score, 100 * (double)job->fires[latent] / (double)rows_of(job)->rows);
    for (size_t i = 0; i < top_count(job, latent); i++) {
        const char *label = top_label(job, latent, i, room);
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
    name_options *o = &job->options;
    int status = tool_open_inputs(&job->inputs, &o->common, o->model_path, o->vocabulary_path);
    if (status != TOOL_OK) return status;
    const size_t n = job->inputs.model.n_latents;
    if (o->k == 0) o->k = n < DEFAULT_K ? n : DEFAULT_K;
    if (o->k > n) {
        return tool_fail("--k", "%zu is more than the %zu latents of %s", o->k, n, o->model_path);
    }
    status = tool_load_words(&job->words, o->words_path, job->inputs.data.rows, o->vocabulary_path);
    if (status != TOOL_OK || o->data_path == NULL) return status;
    status =
        tool_load_data(&job->rows, o->data_path, o->common.tensor, job->inputs.model.n_inputs, 0);
    if (status != TOOL_OK || o->labels_path == NULL) return status;
    return tool_load_labels(&job->labels, o->labels_path, o->column, job->rows.rows, o->data_path);
}

static int name_latents(name_job *job) {
    const name_options *o = &job->options;
    const size_t n = job->inputs.model.n_latents;
    msae_error error;
    msae_name_desc desc = {0};
    desc.data = o->by == BY_ROWS ? &job->rows : NULL;
    desc.rows = o->name_rows;
    desc.k = o->k;
    desc.hubs = o->hubs;
    desc.keep_means = o->keep_means;
    uint32_t *groups = tool_alloc(job->words.count, sizeof *groups);
    job->names = tool_alloc(n, sizeof *job->names);
    job->best = tool_alloc(n, CANDIDATES * sizeof *job->best);
    if (groups == NULL || job->names == NULL || job->best == NULL) {
        free(groups);
        return tool_fail_memory();
    }
    int status = tool_group_synonyms(&job->words, groups);
    desc.synonyms = groups;
    if (status == TOOL_OK && (msae_name_latents(&job->inputs.model, &job->inputs.data, &desc,
                                                job->names, &error) != MSAE_OK ||
                              msae_name_words(&job->inputs.model, &job->inputs.data, &desc,
                                              CANDIDATES, job->best, &error) != MSAE_OK)) {
        status = tool_fail_error(o->by == BY_ROWS ? o->data_path : o->vocabulary_path, &error);
    }
    free(groups);
    return status == TOOL_OK && o->top > 0 ? find_top_rows(job) : status;
}

/* With a file for the table, standard output is free for something shorter. */
static int print_results(const name_job *job) {
    const name_options *o = &job->options;
    const int is_quiet = o->output == NULL && (o->common.json || o->list > 0);
    int status = is_quiet ? TOOL_OK : print_names(job);
    if (status != TOOL_OK) return status;
    if (o->common.json) print_json(job);
    if (o->list > 0) status = print_list(job);
    if (o->common.json || o->output != NULL || o->list > 0) {
        if (status == TOOL_OK) status = check_all(job);
    }
    if (status == TOOL_OK && (o->common.json || o->output != NULL)) print_summary(job);
    return status;
}

/* What is wrong with the options, and the defaults that hang on others. */
static int settle(name_options *o) {
    const char *inputs[] = {o->model_path,  o->vocabulary_path,  o->words_path, o->data_path,
                            o->labels_path, o->test_labels_path, o->test_path};
    if (o->vocabulary_path == NULL) return tool_usage("name", "--vocab FILE is missing");
    if (o->words_path == NULL) return tool_usage("name", "--words FILE is missing");
    if (o->data_path == NULL && o->labels_path != NULL) {
        return tool_usage("name", "--labels are of the rows of --data, which is missing");
    }
    if (o->data_path == NULL && o->by == BY_ROWS) {
        return tool_usage("name", "--by rows needs --data");
    }
    if ((o->test_path == NULL) != (o->test_labels_path == NULL)) {
        return tool_usage("name", "--test and --test-labels go together");
    }
    if (o->list > 0 && o->common.json) {
        return tool_usage("name", "--list and --json exclude each other");
    }
    if (o->by == 0) o->by = o->data_path != NULL && !o->keep_means ? BY_ROWS : BY_DECODER;
    if (o->by == BY_ROWS && o->keep_means) {
        return tool_usage("name", "--keep-means is of --by decoder");
    }
    if (o->min_score < 0) o->min_score = o->by == BY_ROWS ? TOOL_ROWS_SCORE : DECODER_SCORE;
    if (o->min_ratio < 0) o->min_ratio = o->by == BY_ROWS ? TOOL_ROWS_RATIO : DECODER_RATIO;
    if (o->hubs == 0) o->hubs = MSAE_OFF; /* asked for; otherwise it is below zero */
    if (o->hubs < 0 && o->hubs != MSAE_OFF) o->hubs = 0;
    if (o->list > 0 && o->top == 0) o->top = LISTED_ROWS;
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        if (tool_same_file(o->output, inputs[i])) {
            return tool_fail(o->output, "is read and would be replaced");
        }
    }
    return o->output != NULL ? tool_check_output("name", o->output) : TOOL_OK;
}

static int run(name_job *job) {
    int status = settle(&job->options);
    if (status == TOOL_OK) status = load(job);
    if (status == TOOL_OK) status = name_latents(job);
    if (status == TOOL_OK) status = print_results(job);
    return status;
}

int tool_name(int argc, char **argv) {
    name_job job;
    memset(&job, 0, sizeof job);
    name_options *o = &job.options;
    o->min_score = o->min_ratio = -1;
    o->hubs = -2; /* not given */
    const tool_option options[] = {
        {"--vocab", "V.npy", TOOL_TEXT, &o->vocabulary_path,
         "embeddings of words, from the same source as the model's data (required)"},
        {"--words", "FILE", TOOL_TEXT, &o->words_path,
         "the words: one a line, or a .tsv with a column `word` (required)"},
        {"--data", "X.npy", TOOL_TEXT, &o->data_path,
         "name by a latent's strongest rows in this data, which is far better"},
        {"-o", "NAMES.tsv", TOOL_TEXT, &o->output, "file to write (default: standard output)"},
        {"--min-score", "T", TOOL_REAL, &o->min_score,
         "score from which on a name is valid (default: 0.22; by the decoder 0.42)"},
        {"--min-ratio", "Q", TOOL_REAL, &o->min_ratio,
         ".. if it is also Q times that of the runner-up (default: 1.2; 2)"},
        {"--by", "rows|decoder", TOOL_CHOICE, &o->by,
         "what is compared with the words (default: rows where there is --data)"},
        {"--rows", "N", TOOL_COUNT, &o->name_rows, "strongest rows that a name rests on (20)"},
        {"--hubs", "W", TOOL_REAL, &o->hubs,
         "how much is taken off words that are near everything (by rows: 0.5)"},
        {"--keep-means", NULL, TOOL_FLAG, &o->keep_means,
         "by the decoder, as published, without subtracting the means of both sides"},
        {"--top", "N", TOOL_COUNT, &o->top, "also give the N rows that activate each latent most"},
        {"--labels", "FILE", TOOL_TEXT, &o->labels_path,
         "what to call the rows of --data; also counts how often names are right"},
        {"--column", "C", TOOL_TEXT, &o->column, "the labels' column, when they are a table"},
        {"--test", "Y.npy", TOOL_TEXT, &o->test_path,
         "counts that on the strongest rows of other data too"},
        {"--test-labels", "FILE", TOOL_TEXT, &o->test_labels_path, "their labels"},
        {"--k", "K", TOOL_COUNT, &o->k, "latents of a row that count as active (default: 64)"},
        {"--list", "N", TOOL_COUNT, &o->list, "show N latents to people instead of the table"},
        TOOL_OPTION_TENSOR(o->common),
        TOOL_OPTION_THREADS(o->common),
        TOOL_OPTION_SIMD(o->common),
        TOOL_OPTION_JSON(o->common),
    };
    const tool_syntax syntax = {
        "name",
        {{"MODEL", &o->model_path}},
        "Names every latent with a word: the one nearest to the rows that activate it most, or\n"
        "without --data the one in whose direction its decoder row points. Writes a table:\n"
        "latent, name, score (a cosine), runner_up (the next that means something else),\n"
        "runner_up_score, valid; with --top also fires, the number of rows on which the latent\n"
        "is active, and top, its strongest rows (of --data, or else of the vocabulary).",
        options,
        sizeof options / sizeof options[0],
        NULL,
        NULL,
    };
    int status = tool_parse(&syntax, argc, argv);
    if (status != TOOL_GO) return status;
    status = run(&job);
    free(job.names);
    free(job.best);
    free(job.top);
    free(job.fires);
    tool_free_words(&job.words);
    tool_free_labels(&job.labels);
    msae_data_free(&job.rows);
    tool_close_inputs(&job.inputs);
    return status;
}
