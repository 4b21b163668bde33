/* msae name: words for latents, and the rows that activate them most. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

enum {
    LISTED_ROWS = 8, /* of a latent that is shown to people, unless --top says otherwise */
    CANDIDATES = 10, /* words of a latent in --json, and among which a name counts as found */
    RANKED = 32,     /* words of a latent among which it finds one that tells it apart */
    CHECKED_ROWS = 20
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
    const char *column, *tree_path;
    int by, keep_means;
    float min_score, min_ratio; /* a name is valid from here on */
    float hubs;
    size_t min_support; /* .. on so many rows */
    size_t name_rows;   /* strongest rows that a name rests on */
    size_t top;         /* rows to list for a latent, 0: none */
    size_t list;        /* latents to show to people, 0: none */
    size_t k;           /* latents of a row that count as active */
} name_options;

typedef struct name_job {
    name_options options;
    tool_inputs inputs; /* the data is the vocabulary */
    msae_data rows;     /* the data of --data, if given */
    tool_words words;
    tool_labels labels; /* of --labels, if given */
    msae_data test;     /* the data of --test, if given, and its labels */
    tool_labels test_labels;
    tool_parents tree; /* of --tree, if given */
    uint32_t *groups;  /* [words]: of those that share a synonym */
    msae_name *names;  /* [n] */
    msae_hit *best;    /* [n, RANKED] */
    size_t *apart;     /* [n]: a second word, or MSAE_NO_WORD */
    msae_hit *top;     /* [n, n_top], by options.top and for purity */
    size_t n_top;
    size_t used;         /* rows of rows_of that are not left out */
    size_t *active_rows; /* [n]: rows on which the latent is active */
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

/* By the decoder alone there are no rows to bear a name out. */
static int is_supported(const name_job *job, size_t latent) {
    return job->options.data_path == NULL || job->active_rows[latent] >= job->options.min_support;
}

static int is_valid(const name_job *job, size_t latent) {
    const msae_name *name = &job->names[latent];
    return name->word != MSAE_NO_WORD && name->score >= job->options.min_score &&
           name->score >= job->options.min_ratio * name->runner_up_score &&
           is_supported(job, latent);
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
    msae_top_desc desc = {0};
    name_options *o = &job->options;
    const size_t n = job->inputs.model.n_latents;
    msae_error error;
    job->used = tool_used_rows(rows_of(job));
    if (o->top > job->used) o->top = job->used;
    job->n_top = o->top > CHECKED_ROWS ? o->top : CHECKED_ROWS;
    job->top = tool_alloc(n, job->n_top * sizeof *job->top);
    job->active_rows = tool_alloc(n, sizeof *job->active_rows);
    if (job->top == NULL || job->active_rows == NULL) return tool_fail_memory();
    desc.top = job->n_top;
    desc.k = o->k;
    if (msae_top_rows(&job->inputs.model, rows_of(job), &desc, job->top, job->active_rows,
                      &error) != MSAE_OK) {
        return tool_fail_error(rows_path(job), &error);
    }
    return TOOL_OK;
}

static size_t top_count(const name_job *job, size_t latent) {
    if (job->options.top == 0) return 0; /* nor is there anything counted without --data */
    const size_t rows = job->active_rows[latent];
    return rows < job->options.top ? rows : job->options.top;
}

static const char *top_label(const name_job *job, size_t latent, size_t place, char room[24]) {
    return label_of(job, job->top[latent * job->n_top + place].row, room);
}

/* The share of a latent's strongest rows that are of the class most of them are of; rows without a
   label are of none. Below zero where there are no rows. */
static double purity_of(const name_job *job, size_t latent) {
    const msae_hit *hits = job->top + latent * job->n_top;
    const size_t rows =
        job->active_rows[latent] < CHECKED_ROWS ? job->active_rows[latent] : CHECKED_ROWS;
    return rows > 0 ? tool_purity(&job->labels, hits, rows, NULL) : -1;
}

/* ---------------------------------------------------------------------------------------------
   What tells latents of one name apart
   ------------------------------------------------------------------------------------------ */

/* A latent among those of its name; for qsort. */
typedef struct namesake {
    uint32_t group;
    size_t latent;
    tool_claim claim;
} namesake;

static int by_group(const void *a, const void *b) {
    const namesake *x = a, *y = b;
    const int order = tool_compare_claims(&y->claim, &x->claim);
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    if (order != 0) return order;
    return x->latent < y->latent ? -1 : 1;
}

/* What a group's latents have of each word. */
typedef struct word_sum {
    double value;
    size_t count;
    int taken; /* by a better latent of the group, or by the name itself */
} word_sum;

/* Where in a latent's ranking words start that say something else than its name. */
static size_t first_other(const name_job *job, size_t latent) {
    const msae_hit *best = job->best + latent * RANKED;
    size_t i = 0;
    while (i < RANKED && best[i].row != job->names[latent].runner_up) i++;
    return i;
}

/* Of a latent's words the one that is its own most: by how far its score exceeds the mean of the
   group, in which a latent that does not rank the word counts with the latent's lowest score. */
static size_t own_word(const name_job *job, size_t latent, const word_sum *sums, size_t size) {
    const msae_hit *best = job->best + latent * RANKED;
    size_t end = RANKED, word = MSAE_NO_WORD;
    double most = 0;
    while (end > 0 && best[end - 1].row == MSAE_NO_WORD) end--;
    for (size_t i = first_other(job, latent); i < end; i++) {
        const word_sum *sum = &sums[best[i].row];
        const double lowest = (double)best[end - 1].value * (double)(size - sum->count);
        const double excess = (double)best[i].value - (sum->value + lowest) / (double)size;
        if (sums[job->groups[best[i].row]].taken || (word != MSAE_NO_WORD && excess <= most)) {
            continue;
        }
        word = best[i].row;
        most = excess;
    }
    return word;
}

/* Adds a latent's words to the sums of its group, or clears those again. */
static void sum_words(const name_job *job, size_t latent, word_sum *sums, int clear) {
    const msae_hit *best = job->best + latent * RANKED;
    static const word_sum none = {0, 0, 0};
    for (size_t i = 0; i < RANKED && best[i].row != MSAE_NO_WORD; i++) {
        word_sum *sum = &sums[best[i].row];
        sum->value += (double)best[i].value;
        sum->count++;
        if (clear) *sum = sums[job->groups[best[i].row]] = none;
    }
}

/* A second word for each of the latents that have a name in common, each another. */
static void tell_group_apart(name_job *job, const namesake *group, size_t size, word_sum *sums) {
    for (size_t i = 0; i < size; i++) sum_words(job, group[i].latent, sums, 0);
    sums[group[0].group].taken = 1;
    for (size_t i = 0; i < size; i++) {
        const size_t word = own_word(job, group[i].latent, sums, size);
        job->apart[group[i].latent] = word;
        if (word != MSAE_NO_WORD) sums[job->groups[word]].taken = 1;
    }
    for (size_t i = 0; i < size; i++) sum_words(job, group[i].latent, sums, 1);
    memset(&sums[group[0].group], 0, sizeof *sums);
}

static tool_claim claim_of(const name_job *job, size_t latent) {
    tool_claim claim = {is_valid(job, latent), (double)job->names[latent].score, TOOL_UNKNOWN};
    if (job->options.data_path != NULL) claim.support = job->active_rows[latent];
    return claim;
}

static int tell_apart(name_job *job) {
    const size_t n = job->inputs.model.n_latents;
    namesake *all = tool_alloc(n, sizeof *all);
    word_sum *sums = tool_alloc(job->words.count, sizeof *sums);
    size_t count = 0;
    job->apart = tool_alloc(n, sizeof *job->apart);
    if (all == NULL || sums == NULL || job->apart == NULL) {
        free(all);
        free(sums);
        return tool_fail_memory();
    }
    for (size_t j = 0; j < n; j++) {
        job->apart[j] = MSAE_NO_WORD;
        if (job->names[j].word == MSAE_NO_WORD) continue;
        all[count].group = job->groups[job->names[j].word];
        all[count].latent = j;
        all[count++].claim = claim_of(job, j);
    }
    qsort(all, count, sizeof *all, by_group);
    for (size_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && all[end].group == all[first].group;) end++;
        if (end - first > 1) tell_group_apart(job, all + first, end - first, sums);
    }
    free(all);
    free(sums);
    return TOOL_OK;
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
    const msae_hit *best = job->best + latent * RANKED;
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
    msae_top_desc desc = {0};
    msae_error error;
    int status = TOOL_OK;
    desc.top = CHECKED_ROWS;
    desc.k = job->options.k;
    memset(check, 0, sizeof *check);
    check->rows = tool_used_rows(data);
    if (hits == NULL || counts == NULL) {
        status = tool_fail_memory();
    } else if (msae_top_rows(&job->inputs.model, data, &desc, hits, counts, &error) != MSAE_OK) {
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
        tool_json_k(&json, &job->inputs.model, job->options.k);
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

static int check_all(const name_job *job) {
    const name_options *o = &job->options;
    int status = TOOL_OK;
    if (o->labels_path != NULL) {
        status = check_and_print(job, &job->rows, o->data_path, &job->labels);
    }
    if (status == TOOL_OK && o->test_path != NULL) { /* rows that the naming did not see */
        status = check_and_print(job, &job->test, o->test_path, &job->test_labels);
    }
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Output
   ------------------------------------------------------------------------------------------ */

/* The best parent, -1 for a root, and its name. */
static void put_parent(const name_job *job, size_t latent, FILE *file) {
    size_t count;
    const msae_edge *parents = tool_parents_of(&job->tree, latent, &count);
    if (count == 0) {
        fputs("\t-1\t", file);
        return;
    }
    fprintf(file, "\t%lu\t%s", (unsigned long)parents->parent,
            word_of(job, job->names[parents->parent].word));
}

/* support, rows, agreement, purity: empty where there is nothing to count. */
static void put_evidence(const name_job *job, size_t latent, FILE *file) {
    const double purity = job->options.labels_path != NULL ? purity_of(job, latent) : -1;
    if (job->options.data_path == NULL) {
        fputs("\t\t\t\t", file);
        return;
    }
    fprintf(file, "\t%zu\t%zu\t", job->active_rows[latent], job->used);
    if (job->names[latent].rows > 0) fprintf(file, "%.4f", (double)job->names[latent].agreement);
    fputc('\t', file);
    if (purity >= 0) fprintf(file, "%.2f", purity);
}

static void print_tsv(const name_job *job, FILE *file) {
    const uint64_t model = msae_model_checksum(&job->inputs.stored);
    char room[24], codes[TOOL_K_TEXT] = "";
    if (job->options.data_path != NULL) {
        tool_k_text(&job->inputs.model, job->options.k, codes);
    }
    fputs("latent\tname\tscore\trunner_up\trunner_up_score\tvalid\tsupport\trows\tagreement\t"
          "purity\tapart\tmodel\tcodes",
          file);
    if (job->options.tree_path != NULL) fputs("\tparent\tname_parent", file);
    fputs(job->options.top > 0 ? "\ttop\n" : "\n", file);
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const msae_name *name = &job->names[j];
        const char *apart = word_of(job, job->apart[j]);
        fprintf(file, "%zu\t%s\t%.4f\t%s\t%.4f\t%d", j, word_of(job, name->word),
                (double)name->score, word_of(job, name->runner_up), (double)name->runner_up_score,
                is_valid(job, j));
        put_evidence(job, j, file);
        fprintf(file, "\t%.*s\t%016llx\t%s", (int)tool_first_synonym(apart), apart,
                (unsigned long long)model, codes);
        if (job->options.tree_path != NULL) put_parent(job, j, file);
        if (job->options.top > 0) fputc('\t', file);
        for (size_t i = 0; i < top_count(job, j); i++) {
            fprintf(file, "%s%s", i == 0 ? "" : "; ", top_label(job, j, i, room));
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

static void json_evidence(const name_job *job, tool_json *json, size_t latent) {
    if (job->options.data_path != NULL) {
        tool_json_count(json, "support", job->active_rows[latent]);
        if (job->names[latent].rows > 0) {
            tool_json_real(json, "agreement", (double)job->names[latent].agreement);
        }
    } else {
        tool_json_null(json, "support");
    }
    if (job->options.labels_path != NULL && job->active_rows[latent] > 0) {
        tool_json_real(json, "purity", purity_of(job, latent));
    }
    json_word(job, json, "apart", job->apart[latent]);
}

static void json_parents(const name_job *job, tool_json *json, size_t latent) {
    size_t count;
    const msae_edge *parents = tool_parents_of(&job->tree, latent, &count);
    tool_json_begin(json, "parents", '[');
    for (size_t i = 0; i < count; i++) {
        tool_json_begin(json, NULL, '{');
        tool_json_count(json, "latent", parents[i].parent);
        json_word(job, json, "name", job->names[parents[i].parent].word);
        tool_json_real(json, "p", (double)parents[i].p);
        tool_json_real(json, "lift", (double)parents[i].lift);
        tool_json_end(json, '}');
    }
    tool_json_end(json, ']');
}

static void print_json(const name_job *job) {
    char room[24];
    for (size_t j = 0; j < job->inputs.model.n_latents; j++) {
        const msae_name *name = &job->names[j];
        const msae_hit *best = job->best + j * RANKED;
        tool_json json = tool_json_line(NULL);
        tool_json_count(&json, "latent", j);
        json_word(job, &json, "name", name->word);
        tool_json_real(&json, "score", (double)name->score);
        json_word(job, &json, "runner_up", name->runner_up);
        tool_json_real(&json, "runner_up_score", (double)name->runner_up_score);
        tool_json_bool(&json, "valid", is_valid(job, j));
        json_evidence(job, &json, j);
        if (job->options.tree_path != NULL) json_parents(job, &json, j);
        tool_json_begin(&json, "words", '[');
        for (size_t i = 0; i < CANDIDATES && best[i].row != MSAE_NO_WORD; i++) {
            tool_json_text(&json, NULL, job->words.words[best[i].row]);
        }
        tool_json_end(&json, ']');
        if (job->options.top > 0) {
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
        tool_json_k(&json, &job->inputs.model, o->k);
        tool_json_count(&json, "named", named);
        tool_json_count(&json, "valid", valid);
        tool_json_real(&json, "min_score", (double)o->min_score);
        tool_json_real(&json, "min_ratio", (double)o->min_ratio);
        tool_json_count(&json, "min_support", o->min_support);
        tool_json_checksum(&json, "model", &job->inputs.stored);
        tool_json_done(&json);
    } else {
        char text[TOOL_K_TEXT];
        printf("%s: %zu latents, %zu named, %zu with a valid name (score from %g, %g times the "
               "runner-up's",
               o->output, n, named, valid, (double)o->min_score, (double)o->min_ratio);
        if (o->data_path != NULL) {
            printf(", on at least %zu row%s)", o->min_support, tool_plural(o->min_support));
        } else {
            printf("; without --data nothing tells on how many rows)");
        }
        printf("; %s\n", tool_k_text(&job->inputs.model, o->k, text));
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
    size_t latent, active_rows;
} candidate;

static int by_active_rows(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->active_rows != y->active_rows) return x->active_rows < y->active_rows ? 1 : -1;
    return x->latent < y->latent ? -1 : 1;
}

static int is_own_top_row(const name_job *job, size_t latent) {
    for (size_t i = 0; i < top_count(job, latent); i++) {
        if (job->top[latent * job->n_top + i].row == job->names[latent].word) return 1;
    }
    return 0;
}

/* A latent that few rows activate has not shown what it means, and one that many activate means
   little: worth showing is one with a full list of top rows, active on at most a twentieth of all
   rows, whose name is valid and, where the rows are the vocabulary itself, one of the top rows. */
static int is_worth_showing(const name_job *job, size_t latent) {
    return job->active_rows[latent] >= job->options.top &&
           job->active_rows[latent] <= job->used / 20 && is_valid(job, latent) &&
           (job->options.data_path != NULL || is_own_top_row(job, latent));
}

enum { LONGEST_LABEL = 64, SHOWN_NAME = 26 };

/* " < animal", if there is such a name; returns how many characters that are. */
static size_t print_parent(const name_job *job, size_t latent) {
    size_t count;
    const msae_edge *parents = tool_parents_of(&job->tree, latent, &count);
    const char *word = count > 0 ? word_of(job, job->names[parents->parent].word) : "";
    if (*word == '\0') return 0;
    fputs(" < ", stdout);
    return 3 + tool_print_label(word, tool_first_synonym(word), LONGEST_LABEL);
}

static void print_latent(const name_job *job, size_t latent) {
    const msae_name *name = &job->names[latent];
    const char *word = job->words.words[name->word], *apart = word_of(job, job->apart[latent]);
    char room[24];
    printf("%6zu  ", latent);
    size_t width = tool_print_label(word, tool_first_synonym(word), LONGEST_LABEL);
    if (*apart != '\0') {
        fputs(" (", stdout);
        width += 3 + tool_print_label(apart, tool_first_synonym(apart), LONGEST_LABEL);
        putchar(')');
    }
    width += print_parent(job, latent);
    printf("%*s %.2f %8.2f%% ", width < SHOWN_NAME ? SHOWN_NAME - (int)width : 0, "",
           (double)name->score, 100 * (double)job->active_rows[latent] / (double)job->used);
    for (size_t i = 0; i < top_count(job, latent); i++) {
        const char *label = top_label(job, latent, i, room);
        fputs(i == 0 ? " " : ", ", stdout);
        tool_print_label(label, tool_first_synonym(label), LONGEST_LABEL);
    }
    putchar('\n');
}

/* Lists options.list latents, from the highest to the lowest frequency, evenly among those that are
   worth showing. */
static int print_list(const name_job *job) {
    const size_t n = job->inputs.model.n_latents;
    candidate *candidates = tool_alloc(n, sizeof *candidates);
    size_t count = 0, shown = job->options.list;
    char text[TOOL_K_TEXT];
    if (candidates == NULL) return tool_fail_memory();
    for (size_t j = 0; j < n; j++) {
        if (!is_worth_showing(job, j)) continue;
        candidates[count].latent = j;
        candidates[count++].active_rows = job->active_rows[j];
    }
    qsort(candidates, count, sizeof *candidates, by_active_rows);
    if (shown > count) shown = count;
    printf("%6s  %-26s %-4s %9s  %s\n", "latent",
           job->options.tree_path != NULL ? "name < parent" : "name", "cos", "frequency",
           "strongest rows");
    for (size_t i = 0; i < shown; i++) {
        print_latent(job, candidates[(2 * i + 1) * count / (2 * shown)].latent);
    }
    printf("%zu of the %zu latents worth showing, out of %zu (%s)\n", shown, count, n,
           tool_k_text(&job->inputs.model, job->options.k, text));
    free(candidates);
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   The run
   ------------------------------------------------------------------------------------------ */

static int load_named(name_job *job) {
    name_options *o = &job->options;
    job->inputs.any_mean = 1; /* words have one of their own, which naming takes off */
    int status = tool_open_inputs(&job->inputs, &o->common, o->model_path, o->vocabulary_path);
    if (status != TOOL_OK) return status;
    status = tool_settle_k(&job->inputs.model, o->model_path, &o->k);
    if (status != TOOL_OK) return status;
    status = tool_load_parents(&job->tree, o->tree_path, &job->inputs.stored, o->model_path);
    if (status != TOOL_OK) return status;
    status = tool_load_words(&job->words, o->words_path, NULL, job->inputs.data.rows,
                             o->vocabulary_path);
    if (status != TOOL_OK || o->data_path == NULL) return status;
    status = tool_load_data(&job->rows, o->data_path, o->common.tensor, job->inputs.model.n_inputs,
                            o->common.skip_bad);
    if (status == TOOL_OK && o->min_support > job->rows.rows) {
        return tool_fail("--min-support", "%zu is more than the %zu row%s of %s", o->min_support,
                         job->rows.rows, tool_plural(job->rows.rows), o->data_path);
    }
    if (status != TOOL_OK) return status;
    const msae_source source = msae_source_data(&job->rows);
    status = tool_centre(&job->inputs.model, &o->common, &source, o->data_path, &job->inputs.mean);
    if (status != TOOL_OK) return status;
    return tool_load_labels(&job->labels, o->labels_path, o->column, &job->rows, o->data_path);
}

/* All that is read, before anything is written. */
static int load(name_job *job) {
    const name_options *o = &job->options;
    int status = load_named(job);
    if (status != TOOL_OK || o->test_path == NULL) return status;
    status = tool_load_data(&job->test, o->test_path, o->common.tensor, job->inputs.model.n_inputs,
                            o->common.skip_bad);
    if (status != TOOL_OK) return status;
    return tool_load_labels(&job->test_labels, o->test_labels_path, o->column, &job->test,
                            o->test_path);
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
    job->groups = tool_alloc(job->words.count, sizeof *job->groups);
    job->names = tool_alloc(n, sizeof *job->names);
    job->best = tool_alloc(n, RANKED * sizeof *job->best);
    if (job->groups == NULL || job->names == NULL || job->best == NULL) return tool_fail_memory();
    int status = tool_group_synonyms(&job->words, job->groups);
    desc.synonyms = job->groups;
    desc.top = RANKED;
    desc.words = job->best;
    if (status == TOOL_OK && msae_name_latents(&job->inputs.model, &job->inputs.data, &desc,
                                               job->names, &error) != MSAE_OK) {
        status = tool_fail_error(o->by == BY_ROWS ? o->data_path : o->vocabulary_path, &error);
    }
    if (status == TOOL_OK && (o->data_path != NULL || o->top > 0)) status = find_top_rows(job);
    return status == TOOL_OK ? tell_apart(job) : status;
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
    if (o->data_path == NULL && o->by == BY_ROWS) {
        return tool_usage("name", "--by rows needs --data");
    }
    if (o->by == 0) o->by = o->data_path != NULL && !o->keep_means ? BY_ROWS : BY_DECODER;
    if (o->by == BY_ROWS && o->keep_means) {
        return tool_usage("name", "--keep-means is of --by decoder");
    }
    if (o->by == BY_DECODER && o->name_rows > 0) {
        return tool_usage("name", "--rows is of --by rows");
    }
    if (o->data_path == NULL && o->test_path == NULL && o->top == 0 && o->list == 0 && o->k > 0) {
        return tool_usage("name", "--k needs --data, --test, --top or --list");
    }
    if (o->min_score < 0) o->min_score = o->by == BY_ROWS ? TOOL_ROWS_SCORE : DECODER_SCORE;
    if (o->min_ratio < 0) o->min_ratio = o->by == BY_ROWS ? TOOL_ROWS_RATIO : DECODER_RATIO;
    if (o->hubs == 0) o->hubs = MSAE_OFF; /* asked for; otherwise it is below zero */
    if (o->hubs < 0 && o->hubs != MSAE_OFF) o->hubs = 0;
    if (o->list > 0 && o->top == 0) o->top = LISTED_ROWS;
    return TOOL_OK;
}

static int run(void *context) {
    name_job *job = context;
    int status = settle(&job->options);
    if (status == TOOL_OK) status = load(job);
    if (job->options.min_support == 0) job->options.min_support = TOOL_MIN_SUPPORT;
    if (status == TOOL_OK) status = name_latents(job);
    if (status == TOOL_OK) status = print_results(job);
    return status;
}

static void close_job(void *context) {
    name_job *job = context;
    free(job->groups);
    free(job->names);
    free(job->best);
    free(job->apart);
    free(job->top);
    free(job->active_rows);
    tool_free_words(&job->words);
    tool_free_parents(&job->tree);
    tool_free_labels(&job->test_labels);
    msae_data_free(&job->test);
    tool_free_labels(&job->labels);
    msae_data_free(&job->rows);
    tool_close_inputs(&job->inputs);
}

static const name_job defaults = {
    .options = {.min_score = -1, .min_ratio = -1, .hubs = -2 /* not given */}};

#define AT(member) offsetof(name_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(options.model_path), ""},
    {"--vocab", "V.npy", TOOL_TEXT, AT(options.vocabulary_path),
     "embeddings of words, from the same source as the model's data (required)"},
    {"--words", "FILE", TOOL_TEXT, AT(options.words_path),
     "the words: one a line, or a .tsv with a column `word` (required)"},
    {"--data", "X.npy", TOOL_TEXT, AT(options.data_path),
     "name by a latent's strongest rows in this data, which is far better"},
    {"--own-statistics", NULL, TOOL_FLAG, AT(options.common.own_statistics),
     "centre and scale the rows of --data by their own mean and spread: for another modality"},
    {"-o", "NAMES.tsv", TOOL_WRITES_TABLE, AT(options.output),
     "file to write (default: standard output)"},
    {"--min-score", "T", TOOL_REAL, AT(options.min_score),
     "score from which on a name is valid (default: 0.22; by the decoder 0.42)"},
    {"--min-ratio", "Q", TOOL_REAL, AT(options.min_ratio),
     ".. if it is also Q times that of the runner-up (default: 1.2; 2)"},
    {"--min-support", "N", TOOL_COUNT, AT(options.min_support),
     ".. and the latent is active on N rows of --data (default: 20)"},
    {"--by", "rows|decoder", TOOL_CHOICE, AT(options.by),
     "what is compared with the words (default: rows where there is --data)"},
    {"--rows", "N", TOOL_COUNT, AT(options.name_rows),
     "strongest rows that a name is taken from (20)"},
    {"--hubs", "W", TOOL_REAL, AT(options.hubs),
     "how much is taken off words that are near everything (by rows: 0.6)"},
    {"--keep-means", NULL, TOOL_FLAG, AT(options.keep_means),
     "by the decoder, as published, without subtracting the means of both sides"},
    {"--top", "N", TOOL_COUNT, AT(options.top),
     "also give the N rows that activate each latent most"},
    {"--labels", "FILE", TOOL_TEXT, AT(options.labels_path),
     "what to call the rows of --data; also counts how often names are right"},
    {"--column", "C", TOOL_TEXT, AT(options.column), "the labels' column, when they are a table"},
    {"--test", "Y.npy", TOOL_TEXT, AT(options.test_path),
     "counts that on the strongest rows of other data too"},
    {"--test-labels", "FILE", TOOL_TEXT, AT(options.test_labels_path), "their labels"},
    TOOL_OPTION_TREE(name_job, options.tree_path),
    TOOL_OPTION_K(name_job, options.k),
    TOOL_OPTION_REFINE,
    {"--list", "N", TOOL_COUNT, AT(options.list), "show N latents to people instead of the table"},
    TOOL_OPTION_SKIP_BAD,
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {NULL, TOOL_REQUIRED, "--vocab"},           {NULL, TOOL_REQUIRED, "--words"},
    {"--test", TOOL_TOGETHER, "--test-labels"}, {"--min-support", TOOL_NEEDS, "--data"},
    {"--labels", TOOL_NEEDS, "--data"},         {"--own-statistics", TOOL_NEEDS, "--data"},
    {"--refine", TOOL_NEEDS, "--data|--test"},  {"--column", TOOL_NEEDS, "--labels|--test-labels"},
    {"--list", TOOL_EXCLUDES, "--json"},        {"--tensor", TOOL_READS, "--vocab|--data|--test"},
};

const tool_command tool_name = {
    .name = "name",
    .brief = "names a model's latents with words",
    .summary =
        "Names every latent with a word: the one nearest to the rows that activate it most, or\n"
        "without --data the one in whose direction its decoder row points. Writes a table:\n"
        "latent, name, score (a cosine), runner_up (the next that means something else),\n"
        "runner_up_score, valid; of --data support (the rows on which the latent is active), rows\n"
        "(of how many), agreement (the mean cosine between its strongest rows) and, with "
        "--labels,\n"
        "purity (the share of these that are of one class); apart (what tells it from others of\n"
        "that name); model (the checksum of its weights); of --data codes (k and refinement); "
        "with\n"
        "--tree parent (-1 for a root) and name_parent; with --top also top, the strongest rows\n"
        "(of --data, or else of the vocabulary).",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(name_job),
    .defaults = &defaults,
    .run = run,
    .close = close_job,
};
