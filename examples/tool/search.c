/* msae search: rows near a row, an embedding or a list of concepts, by concepts and by embeddings
   side by side; and how often each way finds rows of the same class. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SHOWN_CONCEPTS = 5,
    MAX_SHOWN_EDITS = 5,
    RAW_QUERIES = 960, /* queries whose hits are held at once */
    MAX_CLASS_LATENTS = 256
};

typedef struct search_options {
    tool_common common;
    const char *model_path, *data_path, *labels_path, *column, *names_path;
    const char *query_path, *query_labels_path, *query_column, *row;
    const char *concepts, *edit, *without, *index_path, *save_path;
    uint64_t seed;
    size_t top, k, evaluate, ablate;
    int model_statistics, keep_rest, raw;
} search_options;

/* Queries as embeddings [count, d] and as codes [count, room]. */
typedef struct search_queries {
    size_t count, room;
    size_t *rows; /* of the data or of the query file */
    float *x;
    msae_code *codes;
    size_t *counts;
} search_queries;

typedef struct search_job {
    search_options options;
    tool_inputs inputs;
    msae_data query_data;
    tool_labels labels;
    tool_words query_labels;
    size_t row; /* of --row */
    tool_names names;
    tool_edits edits;
    msae_index index;
    msae_model query_model; /* the model's arrays; may see them with another mean and scale */
    float *query_mean;
    double *typical;          /* [n] mean value where active, 0: nowhere; NULL with --raw */
    double *moved;            /* [queries] how far the edits moved each, in cosine */
    float *values;            /* [queries, edits, 2] of edited latents, before and after */
    msae_code *class_latents; /* [classes, ablate]: those that tell each class best, and how well */
    void *workspace;          /* of the encoder */
    void *query_workspace;
    search_queries queries;
    msae_hit *by_concepts, *by_embedding; /* [top + 1], [RAW_QUERIES or fewer, top + 1] */
    size_t *raw_counts;
    size_t n_raw;
} search_job;

static int is_from_data(const search_job *job) {
    const search_options *o = &job->options;
    return o->evaluate > 0 || (o->query_path == NULL && o->concepts == NULL);
}

static const char *label_of(const search_job *job, size_t row) {
    return job->options.labels_path != NULL ? job->labels.label[row] : NULL;
}

/* What query i is called, or NULL. */
static const char *query_label(const search_job *job, size_t i) {
    if (is_from_data(job)) return label_of(job, job->queries.rows[i]);
    return job->query_labels.words != NULL ? job->query_labels.words[job->queries.rows[i]] : NULL;
}

/* ---------------------------------------------------------------------------------------------
   The index
   ------------------------------------------------------------------------------------------ */

/* An index of the same model and rows is not of another model because one of both was made with the
   other's mean. */
static int fail_index(const search_job *job, const msae_error *error) {
    const search_options *o = &job->options;
    const msae_source source = msae_source_data(&job->inputs.data);
    msae_model other = job->inputs.stored;
    float *mean = NULL;
    int is_same = 0;
    if (job->inputs.mean != NULL) {
        is_same = msae_index_check(&job->index, &other, &job->inputs.data, NULL) == MSAE_OK;
    } else if (source.rows > 1 && other.scale != 1 && !tool_is_flat(&other, &source)) {
        int status = tool_own_statistics(&other, &source, o->common.skip_bad, o->data_path, &mean);
        if (status == TOOL_OK) {
            is_same = msae_index_check(&job->index, &other, &job->inputs.data, NULL) == MSAE_OK;
        }
        free(mean);
        if (status != TOOL_OK) return status;
    }
    if (!is_same) return tool_fail_error(o->index_path, error);
    return tool_fail(o->index_path, "was made with%s --model-statistics: so must it be used",
                     job->inputs.mean != NULL ? "" : "out");
}

static int load_index(search_job *job) {
    const search_options *o = &job->options;
    msae_load_desc desc = {0};
    msae_error error;
    desc.host.parallel = job->inputs.model.parallel;
    int status = tool_check_input(o->index_path);
    if (status != TOOL_OK) return status;
    if (msae_index_load(&job->index, msae_from_file(o->index_path), &desc, &error) != MSAE_OK) {
        return tool_fail_content(o->index_path, TOOL_INDEX, &error);
    }
    if (msae_index_check(&job->index, &job->inputs.model, &job->inputs.data, &error) != MSAE_OK) {
        return fail_index(job, &error);
    }
    if (o->k > 0 && o->k != job->index.k) {
        char text[TOOL_K_TEXT];
        return tool_fail("--k", "%s was made with %s", o->index_path,
                         tool_k_text(&job->inputs.model, job->index.k, text));
    }
    if (o->common.refine > 0 && (size_t)o->common.refine != job->index.refine) {
        return job->index.refine > 0
                   ? tool_fail("--refine", "%s was made with --refine %zu", o->index_path,
                               job->index.refine - 1)
                   : tool_fail("--refine", "%s was made without --refine", o->index_path);
    }
    job->inputs.model.refine = job->query_model.refine = (int)job->index.refine;
    return TOOL_OK;
}

static int build_index(search_job *job) {
    const search_options *o = &job->options;
    msae_error error;
    if (msae_index_build(&job->index, &job->inputs.model, &job->inputs.data, o->k, &error) !=
        MSAE_OK) {
        return tool_fail_error(o->data_path, &error);
    }
    msae_writer writer = msae_to_file(o->save_path);
    if (o->save_path != NULL && msae_index_save(&job->index, &writer, &error) != MSAE_OK) {
        return tool_fail_error(o->save_path, &error);
    }
    return TOOL_OK;
}

/* Mean values of the latents where they are active: what a value of 1 stands for. */
static int find_typical_values(search_job *job) {
    const msae_index *index = &job->index;
    job->typical = tool_alloc(index->n_latents, sizeof *job->typical);
    if (job->typical == NULL) return tool_fail_memory();
    for (size_t j = 0; j < index->n_latents; j++) {
        const size_t first = (size_t)index->starts[j], end = (size_t)index->starts[j + 1];
        for (size_t e = first; e < end; e++) job->typical[j] += (double)index->entry_value[e];
        if (end > first) job->typical[j] /= (double)(end - first);
    }
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   The latents that tell a class
   ------------------------------------------------------------------------------------------ */

/* Puts a latent into a class's list, by descending correlation. */
static void insert_latent(msae_code *list, size_t room, uint32_t latent, float correlation) {
    size_t place = room;
    while (place > 0 && list[place - 1].value < correlation) place--;
    if (place == room) return;
    memmove(list + place + 1, list + place, (room - place - 1) * sizeof *list);
    list[place].latent = latent;
    list[place].value = correlation;
}

/* For each class the latents whose values correlate most with being of it (point-biserial), over
   all rows of the index: job->class_latents. */
static int find_class_latents(search_job *job) {
    const msae_index *index = &job->index;
    const tool_labels *labels = &job->labels;
    const double rows = (double)index->rows;
    const size_t room = job->options.ablate;
    job->class_latents = tool_alloc(labels->n_classes, room * sizeof *job->class_latents);
    double *sums = tool_alloc(labels->n_classes, sizeof *sums);
    if (job->class_latents == NULL || sums == NULL) {
        free(sums);
        return tool_fail_memory();
    }
    for (size_t j = 0; j < index->n_latents; j++) {
        double sum = 0, squares = 0;
        memset(sums, 0, labels->n_classes * sizeof *sums);
        for (size_t at = (size_t)index->starts[j]; at < index->starts[j + 1]; at++) {
            const double value = (double)index->entry_value[at];
            const uint32_t class = labels->of_row[index->entry_row[at]];
            sum += value;
            squares += value * value;
            if (class != TOOL_NO_LABEL) sums[class] += value;
        }
        const double deviation = sqrt(fmax(squares / rows - sum / rows * (sum / rows), 0));
        for (size_t c = 0; c < labels->n_classes && deviation > 0; c++) {
            const double in = (double)labels->counts[c], out = rows - in;
            if (sums[c] == 0 || out == 0) continue;
            const double difference = sums[c] / in - (sum - sums[c]) / out;
            insert_latent(job->class_latents + c * room, room, (uint32_t)j,
                          (float)(difference / deviation * sqrt(in * out) / rows));
        }
    }
    free(sums);
    return TOOL_OK;
}

/* Edits that take them out of a query. */
static int edit_out_class(search_job *job) {
    const search_options *o = &job->options;
    const tool_labels *labels = &job->labels;
    size_t class = 0;
    if (o->without == NULL) return TOOL_OK;
    while (class < labels->n_classes && strcmp(labels->classes[class], o->without) != 0) class ++;
    if (class == labels->n_classes) {
        return tool_fail("--without", "no row has the label '%s' in %s", o->without,
                         o->labels_path);
    }
    int status = find_class_latents(job);
    for (size_t i = 0; i < o->ablate && status == TOOL_OK; i++) {
        const msae_code *code = &job->class_latents[class * o->ablate + i];
        if (!(code->value > 0)) break;
        msae_edit *edit = &job->edits.items[job->edits.count++];
        edit->latent = code->latent;
        edit->operation = MSAE_EDIT_ABLATE;
    }
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Queries
   ------------------------------------------------------------------------------------------ */

static int make_room(search_job *job, size_t count) {
    search_queries *q = &job->queries;
    const msae_model *model = &job->inputs.model;
    const size_t room = (job->index.k > 0 ? job->index.k : model->n_latents) + job->edits.count;
    q->count = count;
    q->room = room > TOOL_MAX_CONCEPTS ? room : TOOL_MAX_CONCEPTS + job->edits.count;
    q->rows = tool_alloc(count, sizeof *q->rows);
    q->x = tool_alloc(count, model->n_inputs * sizeof *q->x);
    q->codes = tool_alloc(count, q->room * sizeof *q->codes);
    q->counts = tool_alloc(count, sizeof *q->counts);
    job->workspace = tool_alloc(msae_workspace_bytes(model, 1), 1);
    job->query_workspace =
        tool_alloc(msae_index_workspace_bytes(&job->index, job->options.top + 1), 1);
    job->n_raw = count < RAW_QUERIES ? count : RAW_QUERIES;
    job->by_concepts = tool_alloc(job->options.top + 1, sizeof *job->by_concepts);
    job->by_embedding = tool_alloc(job->n_raw, (job->options.top + 1) * sizeof *job->by_embedding);
    job->raw_counts = tool_alloc(job->n_raw, sizeof *job->raw_counts);
    if (q->rows == NULL || q->x == NULL || q->codes == NULL || q->counts == NULL ||
        job->workspace == NULL || job->query_workspace == NULL || job->by_concepts == NULL ||
        job->by_embedding == NULL || job->raw_counts == NULL) {
        return tool_fail_memory();
    }
    return TOOL_OK;
}

/* Lets rows of another kind than the model's have their own statistics, unless an option says whose
   they are to have. One row alone has none, nor have rows that are all alike. */
static int centre(const search_job *job, int own_statistics, const msae_data *data,
                  const char *path, msae_model *model, float **mean) {
    const msae_source source = msae_source_data(data);
    tool_shift shift;
    if (job->options.model_statistics) return TOOL_OK;
    const int skip_bad = job->options.common.skip_bad;
    if (own_statistics) return tool_own_statistics(model, &source, skip_bad, path, mean);
    const int status = tool_find_shift(model, &source, 0, &shift);
    if (status != TOOL_OK) return status;
    const int has_own =
        (shift.is_far || shift.is_scaled) && shift.rare == 0 && shift.without == NULL;
    tool_warn_of_shift(&shift, path,
                       has_own ? "centred and scaled by their own (--model-statistics: by the "
                                 "model's)"
                               : shift.without);
    return has_own ? tool_own_statistics(model, &source, skip_bad, path, mean) : TOOL_OK;
}

/* Reads query i from a row of the data or of the query file, and encodes it. */
static int read_query(search_job *job, size_t i, const msae_data *data, const char *path,
                      size_t row) {
    search_queries *q = &job->queries;
    float *x = q->x + i * data->cols;
    msae_error error;
    q->rows[i] = row;
    msae_data_read(data, row, 1, x);
    const msae_rows room = {q->codes + i * q->room, &q->counts[i], q->room - job->edits.count};
    if (msae_encode_rows(&job->query_model, job->workspace, x, 1, job->index.k, &room, &error) !=
        MSAE_OK) {
        return tool_fail(path, "row %zu gives a NaN or Inf in the model", row);
    }
    return TOOL_OK;
}

static float value_of(const search_queries *q, size_t i, uint32_t latent) {
    const msae_code *codes = q->codes + i * q->room;
    size_t e = 0;
    while (e < q->counts[i] && codes[e].latent != latent) e++;
    return e < q->counts[i] ? codes[e].value : 0;
}

/* Keeps what the edited latents of query i are: before (0) or after (1). */
static void keep_values(search_job *job, size_t i, int after) {
    for (size_t e = 0; e < job->edits.count && job->values != NULL; e++) {
        job->values[2 * (i * job->edits.count + e) + (size_t)after] =
            value_of(&job->queries, i, job->edits.items[e].latent);
    }
}

static double distance_in_cosine(const float *a, const float *b, size_t d) {
    const double distance = 1 - tool_cosine(a, b, d);
    return distance < 0 ? 0 : distance; /* (of equal rows it is rounded below) */
}

/* Edits the codes of query i. Its embedding becomes what they decode to or, with --keep-rest, takes
   on what the edits change of that. */
static int edit_query(search_job *job, size_t i, const msae_edit *edits, size_t n_edits) {
    search_queries *q = &job->queries;
    const msae_model *model = &job->query_model;
    const size_t d = model->n_inputs;
    msae_code *codes = q->codes + i * q->room;
    float *x = q->x + i * d, moments[2];
    float *base = tool_alloc(2 * d, sizeof *base), *edited = base + d;
    msae_error error;
    int status = TOOL_OK;
    if (base == NULL) return tool_fail_memory();
    msae_row_moments(model, x, moments);
    msae_decode(model, codes, q->counts[i], moments, base);
    if (msae_edit_codes(model, edits, n_edits, codes, &q->counts[i], &error) != MSAE_OK) {
        status = tool_fail_error("--edit", &error);
    } else {
        msae_decode(model, codes, q->counts[i], moments, edited);
        for (size_t c = 0; c < d && job->options.keep_rest; c++) {
            edited[c] = x[c] + (edited[c] - base[c]);
            base[c] = x[c];
        }
        if (job->moved != NULL) job->moved[i] = distance_in_cosine(base, edited, d);
        memcpy(x, edited, d * sizeof *x);
    }
    free(base);
    return status;
}

/* The embedding of a list of concepts, of whose values only the ratios matter: they decode at the
   length that a row's codes have on average. */
static int decode_concepts(search_job *job) {
    search_queries *q = &job->queries;
    const msae_index *index = &job->index;
    double norm = 0, mean = 0;
    msae_code *codes = tool_alloc(q->counts[0], sizeof *codes);
    if (codes == NULL) return tool_fail_memory();
    for (size_t r = 0; r < index->rows; r++) mean += index->norms[r] / (double)index->rows;
    for (size_t e = 0; e < q->counts[0]; e++) {
        norm += (double)q->codes[e].value * (double)q->codes[e].value;
    }
    for (size_t e = 0; e < q->counts[0]; e++) {
        codes[e].latent = q->codes[e].latent;
        codes[e].value = (float)((double)q->codes[e].value * (mean / sqrt(norm)));
    }
    msae_decode(&job->query_model, codes, q->counts[0], NULL, q->x);
    free(codes);
    return TOOL_OK;
}

/* The list of --concepts as the one query. */
static int take_concepts(search_job *job) {
    const search_options *o = &job->options;
    search_queries *q = &job->queries;
    tool_concepts concepts;
    int status = tool_read_concepts("--concepts", o->concepts, &job->names, &concepts);
    for (size_t i = 0; i < concepts.count && status == TOOL_OK; i++) {
        const tool_concept *concept = &concepts.items[i];
        const double mean = job->typical != NULL ? job->typical[concept->latent] : 1;
        const double unit = mean != 0 ? mean : 1; /* one that no row has finds none */
        const float value = (float)(unit * (concept->has_value ? concept->value : 1));
        if (concept->has_range || !isfinite(value)) {
            return tool_fail("--concepts", "latent %lu needs a value (dog=2) or none, which is 1",
                             (unsigned long)concept->latent);
        }
        if (tool_has_plus(concept)) {
            return tool_fail("--concepts",
                             "latent %lu: there is nothing to add to; dog=2 is a value, and --edit "
                             "dog=+2 adds to a query",
                             (unsigned long)concept->latent);
        }
        if (value == 0) continue;
        q->codes[q->counts[0]].latent = concept->latent;
        q->codes[q->counts[0]++].value = value;
    }
    return status;
}

static int take_rows(search_job *job) {
    const search_options *o = &job->options;
    const int own = o->query_path == NULL;
    const msae_data *data = own ? &job->inputs.data : &job->query_data;
    const char *path = own ? o->data_path : o->query_path;
    size_t row = o->row != NULL ? job->row : 0;
    int status = TOOL_OK;
    for (size_t i = 0; i < job->queries.count && status == TOOL_OK; i++, row++) {
        while (tool_is_skipped(data, row)) row++;
        status = read_query(job, i, data, path, row);
    }
    return status;
}

/* How errors and people call query i. */
static void describe_query(const search_job *job, size_t i, char *text, size_t bytes) {
    const search_options *o = &job->options;
    if (o->concepts != NULL) {
        snprintf(text, bytes, "the list of concepts");
    } else {
        snprintf(text, bytes, "row %zu of %s", job->queries.rows[i],
                 o->query_path != NULL ? o->query_path : o->data_path);
    }
}

static int make_queries(search_job *job) {
    const search_options *o = &job->options;
    const int one = o->concepts != NULL || o->row != NULL;
    int status = make_room(job, one ? 1 : tool_used_rows(&job->query_data));
    if (status == TOOL_OK) status = o->concepts != NULL ? take_concepts(job) : take_rows(job);
    if (status == TOOL_OK && job->typical != NULL) {
        status = tool_scale_edits(&job->edits, job->typical, o->data_path);
    }
    if (status == TOOL_OK && job->edits.count > 0) {
        job->moved = tool_alloc(job->queries.count, sizeof *job->moved);
        job->values = tool_alloc(job->queries.count, 2 * job->edits.count * sizeof *job->values);
        if (job->moved == NULL || job->values == NULL) return tool_fail_memory();
    }
    for (size_t i = 0; i < job->queries.count && status == TOOL_OK; i++) {
        char name[256];
        if (job->edits.count > 0) {
            keep_values(job, i, 0);
            status = edit_query(job, i, job->edits.items, job->edits.count);
            keep_values(job, i, 1);
        }
        describe_query(job, i, name, sizeof name);
        if (status == TOOL_OK && job->queries.counts[i] == 0) {
            status = tool_fail(NULL, "%s has no active latent%s", name,
                               job->edits.count > 0 ? " after the edits" : "");
        }
    }
    if (status == TOOL_OK && o->concepts != NULL) status = decode_concepts(job);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Hits
   ------------------------------------------------------------------------------------------ */

/* Takes out a row and what is beyond --top. */
static size_t without_row(const search_job *job, msae_hit *hits, size_t count, size_t row) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (hits[i].row != row && kept < job->options.top) hits[kept++] = hits[i];
    }
    return kept;
}

/* The row of the data that query i is, or one that there is not. */
static size_t own_row(const search_job *job, size_t i) {
    return is_from_data(job) ? job->queries.rows[i] : SIZE_MAX;
}

/* Hits of query i by its concepts; their number in *count. */
static int search_concepts(search_job *job, size_t i, size_t *count) {
    const search_queries *q = &job->queries;
    msae_error error;
    if (msae_index_query(&job->index, job->query_workspace, q->codes + i * q->room, q->counts[i],
                         job->options.top + 1, job->by_concepts, count, &error) != MSAE_OK) {
        return tool_fail_error(NULL, &error);
    }
    *count = without_row(job, job->by_concepts, *count, own_row(job, i));
    return TOOL_OK;
}

/* Hits of the queries from `first` on, as many as are held at once, by their embeddings. */
static int search_embeddings(search_job *job, size_t first) {
    const search_queries *q = &job->queries;
    const size_t d = job->inputs.data.cols, room = job->options.top + 1;
    const size_t count = q->count - first < job->n_raw ? q->count - first : job->n_raw;
    msae_error error;
    for (size_t i = 0; i < count * d; i++) {
        if (!isfinite(q->x[first * d + i])) {
            return tool_fail(NULL, "the edited embedding overflows");
        }
    }
    if (msae_nearest_rows(&job->inputs.model, &job->inputs.data, q->x + first * d, count, room,
                          job->by_embedding, job->raw_counts, &error) != MSAE_OK) {
        return tool_fail_error(job->options.data_path, &error);
    }
    for (size_t i = 0; i < count; i++) {
        job->raw_counts[i] = without_row(job, job->by_embedding + i * room, job->raw_counts[i],
                                         own_row(job, first + i));
    }
    return TOOL_OK;
}

/* The share of `top` hits that are of the class; those that there are not count as others. */
static double precision(const search_job *job, const msae_hit *hits, size_t count, uint32_t class) {
    size_t same = 0;
    for (size_t i = 0; i < count; i++) same += job->labels.of_row[hits[i].row] == class;
    return (double)same / (double)job->options.top;
}

/* What rows drawn blindly from the others would give. */
static double chance(const search_job *job, uint32_t class) {
    const size_t others = job->labels.rows - 1;
    return others > 0 ? (double)(job->labels.counts[class] - 1) / (double)others : 0;
}

/* The class of query i where precision can be said, or TOOL_NO_LABEL. */
static uint32_t class_of(const search_job *job, size_t i) {
    if (job->options.labels_path == NULL || !is_from_data(job)) return TOOL_NO_LABEL;
    return job->labels.of_row[job->queries.rows[i]];
}

/* ---------------------------------------------------------------------------------------------
   Output
   ------------------------------------------------------------------------------------------ */

/* What the embedding of the query is that embeddings are compared with. */
static const char *embedding_kind(const search_job *job) {
    if (job->options.concepts == NULL && job->edits.count == 0) return "embedding";
    if (job->options.concepts == NULL && job->options.keep_rest) return "edited";
    return "decoded";
}

static void json_edits(const search_job *job, tool_json *json, size_t i) {
    tool_json_begin(json, "edits", '[');
    for (size_t e = 0; e < job->edits.count; e++) {
        const float *values = job->values + 2 * (i * job->edits.count + e);
        tool_json_begin(json, NULL, '{');
        tool_json_concept(json, &job->names, job->edits.items[e].latent);
        tool_json_real(json, "before", (double)values[0]);
        tool_json_real(json, "after", (double)values[1]);
        tool_json_end(json, '}');
    }
    tool_json_end(json, ']');
    tool_json_real(json, "moved", job->moved[i]);
}

static void print_query_json(const search_job *job, size_t i, const msae_hit *raw, size_t n_raw,
                             size_t n_concepts) {
    const search_queries *q = &job->queries;
    const uint32_t class = class_of(job, i);
    tool_json json = tool_json_line(NULL);
    tool_json_count(&json, "query", i);
    if (job->options.concepts == NULL) tool_json_count(&json, "row", q->rows[i]);
    if (query_label(job, i)) tool_json_text(&json, "label", query_label(job, i));
    tool_json_k(&json, &job->inputs.model, job->index.k);
    tool_json_count(&json, "active", q->counts[i]);
    tool_json_codes(&json, "concepts", &job->names, q->codes + i * q->room,
                    q->counts[i] < SHOWN_CONCEPTS ? q->counts[i] : SHOWN_CONCEPTS);
    tool_json_choices(&json, &job->names);
    if (job->moved != NULL) json_edits(job, &json, i);
    tool_json_text(&json, "compared", embedding_kind(job));
    tool_json_hits(&json, "by_concepts", "cosine", job->by_concepts, n_concepts, job->labels.label);
    tool_json_hits(&json, "by_embedding", "cosine", raw, n_raw, job->labels.label);
    if (class != TOOL_NO_LABEL) {
        tool_json_real(&json, "precision_concepts",
                       precision(job, job->by_concepts, n_concepts, class));
        tool_json_real(&json, "precision_embedding", precision(job, raw, n_raw, class));
        tool_json_real(&json, "chance", chance(job, class));
    }
    tool_json_done(&json);
}

enum { LABEL_WIDTH = 22 };

/* A hit with the beginning of its label, in a column of its own; count: how many there are. */
static void print_hit(const search_job *job, const msae_hit *hits, size_t count, size_t place) {
    if (place >= count) {
        printf("  %8s %7s  %-*s", "", "", LABEL_WIDTH, "");
        return;
    }
    const char *label = label_of(job, hits[place].row);
    printf("  %8zu %7.4f  ", hits[place].row, (double)hits[place].value);
    tool_print_column(label ? label : "", LABEL_WIDTH);
}

/* "dog 6.83 -> 0, cat 0 -> 2.1, moved 0.12 in cosine". */
static void print_edits(const search_job *job, size_t i) {
    size_t shown = 0, changed = 0;
    for (size_t e = 0; e < job->edits.count; e++) {
        const float *values = job->values + 2 * (i * job->edits.count + e);
        const uint32_t latent = job->edits.items[e].latent;
        changed += values[0] != values[1];
        if (shown == MAX_SHOWN_EDITS || (values[0] == values[1] && job->edits.count > shown + 1)) {
            continue;
        }
        tool_print_change(&job->names, latent, (double)values[0], (double)values[1]);
        shown++;
    }
    printf("%smoved %.2g in cosine\n", changed > shown ? ".., " : "", job->moved[i]);
}

static void print_query_text(const search_job *job, size_t i, const msae_hit *raw, size_t n_raw,
                             size_t n_concepts) {
    const search_queries *q = &job->queries;
    const uint32_t class = class_of(job, i);
    const char *kind = embedding_kind(job);
    char name[256], text[TOOL_K_TEXT], head[TOOL_K_TEXT + 16];
    describe_query(job, i, name, sizeof name);
    printf("%s%s", i > 0 ? "\n" : "", name);
    if (query_label(job, i)) printf(" (%s)", query_label(job, i));
    printf("%s: %zu latent%s,", job->edits.count > 0 ? ", edited" : "", q->counts[i],
           tool_plural(q->counts[i]));
    for (size_t e = 0; e < q->counts[i] && e < SHOWN_CONCEPTS; e++) {
        const msae_code *code = &q->codes[i * q->room + e];
        tool_short_name room;
        const char *concept = tool_short_name_of(&job->names, code->latent, &room);
        printf(" %lu%s%s%s=%.3g", (unsigned long)code->latent, *concept ? " (" : "", concept,
               *concept ? ")" : "", (double)code->value);
    }
    printf("%s\n", q->counts[i] > SHOWN_CONCEPTS ? " .." : "");
    if (job->moved != NULL) print_edits(job, i);
    snprintf(head, sizeof head, "by concepts (%s)",
             tool_k_text(&job->inputs.model, job->index.k, text));
    printf("%4s  %-40s  %s\n", "", head,
           strcmp(kind, "embedding") == 0 ? "by embedding"
           : strcmp(kind, "edited") == 0  ? "by embedding, with what the edits change added"
                                          : "by the embedding that these concepts decode to");
    for (size_t e = 0; e < n_concepts || e < n_raw; e++) {
        printf("%4zu", e + 1);
        print_hit(job, job->by_concepts, n_concepts, e);
        print_hit(job, raw, n_raw, e);
        putchar('\n');
    }
    if (class != TOOL_NO_LABEL) {
        printf("of the same class: %.2f by concepts, %.2f by embedding, %.4f by chance\n",
               precision(job, job->by_concepts, n_concepts, class),
               precision(job, raw, n_raw, class), chance(job, class));
    }
}

static int show_query(search_job *job, size_t i, size_t first) {
    const size_t place = i - first;
    const msae_hit *raw = job->by_embedding + place * (job->options.top + 1);
    size_t n_concepts;
    int status = search_concepts(job, i, &n_concepts);
    if (status != TOOL_OK) return status;
    if (n_concepts == 0) {
        char name[256];
        describe_query(job, i, name, sizeof name);
        return tool_fail(job->options.data_path, "no %srow has any of the latents of %s",
                         is_from_data(job) ? "other " : "", name);
    }
    if (job->options.common.json) {
        print_query_json(job, i, raw, job->raw_counts[place], n_concepts);
    } else {
        print_query_text(job, i, raw, job->raw_counts[place], n_concepts);
    }
    return TOOL_OK;
}

static int show_queries(search_job *job) {
    int status = make_queries(job);
    for (size_t i = 0, first = 0; i < job->queries.count && status == TOOL_OK; i++) {
        if (i % job->n_raw == 0) {
            first = i;
            status = search_embeddings(job, first);
        }
        if (status == TOOL_OK) status = show_query(job, i, first);
    }
    return status;
}

/* ---------------------------------------------------------------------------------------------
   How good it is: many rows as queries, and once more without their class's concepts
   ------------------------------------------------------------------------------------------ */

/* One way of searching over all queries. */
typedef struct search_score {
    double precision, squares; /* sums over the queries */
    size_t own, changed; /* queries whose hits are mostly of their class at first, and then not */
} search_score;

enum { PLAIN, ABLATED, CONTROL, STATES };

typedef struct search_evaluation {
    size_t *rows; /* [queries] */
    size_t count, eligible;
    search_score concepts[STATES], embedding[STATES];
    uint8_t *own; /* [queries][2]: mostly of the own class, by concepts and by embedding */
    double chance;
    size_t ablated, with_latent; /* latents taken out, queries that had one */
} search_evaluation;

/* Draws rows of classes that have others too, without repeating one. */
static int draw_rows(search_job *job, search_evaluation *e) {
    const tool_labels *labels = &job->labels;
    uint64_t state = job->options.seed;
    e->rows = tool_alloc(labels->rows, sizeof *e->rows);
    if (e->rows == NULL) return tool_fail_memory();
    for (size_t r = 0; r < labels->rows; r++) {
        if (labels->of_row[r] == TOOL_NO_LABEL || labels->counts[labels->of_row[r]] < 2) continue;
        e->rows[e->eligible++] = r;
    }
    if (e->eligible == 0) {
        return tool_fail(job->options.labels_path, "no two rows have the same label");
    }
    e->count = job->options.evaluate < e->eligible ? job->options.evaluate : e->eligible;
    for (size_t i = 0; i < e->count; i++) {
        const size_t other = i + (size_t)(tool_random(&state) % (e->eligible - i));
        const size_t row = e->rows[i];
        e->rows[i] = e->rows[other];
        e->rows[other] = row;
    }
    return TOOL_OK;
}

/* The class that most hits have, the one met first among equals; TOOL_NO_LABEL when most have
   none. */
static uint32_t majority(const search_job *job, const msae_hit *hits, size_t count) {
    uint32_t best = TOOL_NO_LABEL;
    size_t most = 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t class = job->labels.of_row[hits[i].row];
        size_t same = 0;
        for (size_t j = i; j < count; j++) same += job->labels.of_row[hits[j].row] == class;
        if (same > most) {
            most = same;
            best = class;
        }
    }
    return best;
}

static void add_score(const search_job *job, search_score *scores, int state, uint8_t *own,
                      const msae_hit *hits, size_t count, uint32_t class) {
    const double share = precision(job, hits, count, class);
    const int is_own = majority(job, hits, count) == class;
    scores[state].precision += share;
    scores[state].squares += share * share;
    if (state == PLAIN) *own = (uint8_t)is_own;
    scores[state].own += *own;
    scores[state].changed += *own && !is_own;
}

/* Queries first .. that are held at once, as they are now. */
static int score_queries(search_job *job, search_evaluation *e, size_t first, int state) {
    int status = search_embeddings(job, 0);
    for (size_t i = 0; i < job->queries.count && status == TOOL_OK; i++) {
        const uint32_t class = class_of(job, i);
        const msae_hit *raw = job->by_embedding + i * (job->options.top + 1);
        uint8_t *own = e->own + 2 * (first + i);
        size_t n_concepts;
        status = search_concepts(job, i, &n_concepts);
        if (status != TOOL_OK) break;
        add_score(job, e->concepts, state, own, job->by_concepts, n_concepts, class);
        add_score(job, e->embedding, state, own + 1, raw, job->raw_counts[i], class);
        if (state == PLAIN) e->chance += chance(job, class);
    }
    return status;
}

static int is_class_latent(const search_job *job, uint32_t class, uint32_t latent) {
    const size_t room = job->options.ablate;
    const msae_code *list = job->class_latents + class * room;
    size_t i = 0;
    while (i < room && !(list[i].latent == latent && list[i].value > 0)) i++;
    return i < room;
}

/* Takes the class's latents out of query i or, as the control, as many of its strongest others. */
static int ablate_query(search_job *job, search_evaluation *e, size_t i, int state) {
    const search_queries *q = &job->queries;
    const uint32_t class = class_of(job, i);
    const msae_code *codes = q->codes + i * q->room;
    msae_edit edits[2][MAX_CLASS_LATENTS];
    size_t own = 0, others = 0;
    memset(edits, 0, sizeof edits);
    for (size_t c = 0; c < q->counts[i]; c++) {
        const int is_own = is_class_latent(job, class, codes[c].latent);
        size_t *count = is_own ? &own : &others;
        if (*count == job->options.ablate) continue;
        edits[is_own][*count].latent = codes[c].latent;
        edits[is_own][(*count)++].operation = MSAE_EDIT_ABLATE;
    }
    if (state == ABLATED) {
        e->ablated += own;
        e->with_latent += own > 0;
    }
    return edit_query(job, i, edits[state == ABLATED], others < own ? others : own);
}

/* The group of queries from `first` on in one state. */
static int evaluate_group(search_job *job, search_evaluation *e, size_t first, int state) {
    int status = TOOL_OK;
    for (size_t i = 0; i < job->queries.count && status == TOOL_OK; i++) {
        status = read_query(job, i, &job->inputs.data, job->options.data_path, e->rows[first + i]);
        if (status == TOOL_OK && state != PLAIN) status = ablate_query(job, e, i, state);
    }
    return status == TOOL_OK ? score_queries(job, e, first, state) : status;
}

/* Mean and standard error. */
static double mean_of(const search_score *score, size_t count, double *error) {
    const double n = (double)count, mean = score->precision / n;
    *error = count > 1 ? sqrt(fmax(score->squares / n - mean * mean, 0) / (n - 1)) : NAN;
    return mean;
}

static void json_scores(tool_json *json, const char *key, const search_score *scores,
                        size_t count) {
    static const char *const states[] = {"precision", "ablated", "control"};
    tool_json_begin(json, key, '{');
    for (int s = 0; s < STATES; s++) {
        double error, mean = mean_of(&scores[s], count, &error);
        tool_json_begin(json, states[s], '{');
        tool_json_real(json, "mean", mean);
        tool_json_real(json, "error", error);
        tool_json_count(json, "own_class", scores[s].own);
        tool_json_count(json, "changed", scores[s].changed);
        tool_json_end(json, '}');
    }
    tool_json_end(json, '}');
}

static void print_evaluation_json(const search_job *job, const search_evaluation *e) {
    tool_json json = tool_json_line(NULL);
    tool_json_count(&json, "queries", e->count);
    tool_json_count(&json, "eligible", e->eligible);
    tool_json_count(&json, "top", job->options.top);
    tool_json_k(&json, &job->inputs.model, job->index.k);
    tool_json_real(&json, "chance", e->chance / (double)e->count);
    tool_json_count(&json, "ablate", job->options.ablate);
    tool_json_real(&json, "ablated_latents", (double)e->ablated / (double)e->count);
    tool_json_count(&json, "queries_with_them", e->with_latent);
    json_scores(&json, "concepts", e->concepts, e->count);
    json_scores(&json, "embedding", e->embedding, e->count);
    tool_json_done(&json);
}

static void print_scores(const char *way, const search_score *scores, size_t count) {
    printf("%-14s", way);
    for (int s = 0; s < STATES; s++) {
        double error, mean = mean_of(&scores[s], count, &error);
        printf("  %6.4f +- %6.4f", mean, error);
        if (s != PLAIN) printf("  %4zu of %4zu", scores[s].changed, scores[s].own);
    }
    putchar('\n');
}

static void print_evaluation_text(const search_job *job, const search_evaluation *e) {
    char text[TOOL_K_TEXT];
    printf("%zu query rows of the %zu whose class has others; %s\n", e->count, e->eligible,
           tool_k_text(&job->inputs.model, job->index.k, text));
    printf("precision at %zu: the share of hits of the query's class; by chance %.4f\n",
           job->options.top, e->chance / (double)e->count);
    printf(
        "ablated: without the latents that tell the class best (at most %zu; %zu of the queries\n"
        "had one, %.2f on average); control: without as many of the row's strongest others;\n"
        "changed: of the queries whose hits were mostly of their class, those for which another\n"
        "class took its place\n\n",
        job->options.ablate, e->with_latent, (double)e->ablated / (double)e->count);
    printf("%-14s  %-16s  %-30s  %-30s\n", "", "precision", "ablated           changed",
           "control           changed");
    print_scores("by concepts", e->concepts, e->count);
    print_scores("by embedding", e->embedding, e->count);
}

static int evaluate_rows(search_job *job, search_evaluation *e) {
    int status = draw_rows(job, e);
    if (status == TOOL_OK) status = find_class_latents(job);
    if (status == TOOL_OK) {
        status = make_room(job, e->count < RAW_QUERIES ? e->count : RAW_QUERIES);
    }
    if (status != TOOL_OK) return status;
    e->own = tool_alloc(e->count, 2);
    if (e->own == NULL) return tool_fail_memory();
    for (size_t first = 0; first < e->count; first += job->n_raw) {
        job->queries.count = e->count - first < job->n_raw ? e->count - first : job->n_raw;
        for (int state = PLAIN; state < STATES && status == TOOL_OK; state++) {
            status = evaluate_group(job, e, first, state);
        }
        if (status != TOOL_OK) return status;
    }
    if (job->options.common.json) {
        print_evaluation_json(job, e);
    } else {
        print_evaluation_text(job, e);
    }
    return TOOL_OK;
}

static int evaluate(search_job *job) {
    search_evaluation e;
    memset(&e, 0, sizeof e);
    int status = evaluate_rows(job, &e);
    free(e.rows);
    free(e.own);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   The run
   ------------------------------------------------------------------------------------------ */

static int find_row(search_job *job) {
    const search_options *o = &job->options;
    const tool_row_labels own = {job->labels.label, o->labels_path, "--labels"};
    const tool_row_labels query = {job->query_labels.words, o->query_labels_path, "--query-labels"};
    return o->query_path != NULL
               ? tool_find_row("--row", o->row, &query, &job->query_data, o->query_path, &job->row)
               : tool_find_row("--row", o->row, &own, &job->inputs.data, o->data_path, &job->row);
}

/* Everything but the index, which takes long to build: what is wrong shows first. */
static int load_inputs(search_job *job) {
    search_options *o = &job->options;
    job->inputs.any_mean = 1; /* of the data and of queries, see centre */
    int status = tool_open_inputs(&job->inputs, &o->common, o->model_path, o->data_path);
    if (status != TOOL_OK) return status;
    status = tool_settle_k(&job->inputs.model, o->model_path, &o->k);
    if (status != TOOL_OK) return status;
    status = centre(job, 0, &job->inputs.data, o->data_path, &job->inputs.model, &job->inputs.mean);
    if (status != TOOL_OK) return status;
    job->query_model = o->query_path != NULL ? job->inputs.stored : job->inputs.model;
    status = tool_load_names(&job->names, o->names_path, &job->inputs.stored, o->model_path);
    if (status == TOOL_OK) {
        status = tool_load_labels(&job->labels, o->labels_path, o->column, &job->inputs.data,
                                  o->data_path);
    }
    if (status == TOOL_OK && o->query_path != NULL) {
        status = tool_load_data(&job->query_data, o->query_path, NULL, job->inputs.data.cols,
                                o->common.skip_bad);
        if (status == TOOL_OK) {
            status = centre(job, o->common.own_statistics, &job->query_data, o->query_path,
                            &job->query_model, &job->query_mean);
        }
    }
    if (status == TOOL_OK) {
        status = tool_load_words(&job->query_labels, o->query_labels_path, o->query_column,
                                 job->query_data.rows, o->query_path);
    }
    if (status == TOOL_OK && o->row != NULL) status = find_row(job);
    if (status == TOOL_OK) {
        status = tool_add_edits("--edit", o->edit, &job->names, MSAE_EDIT_COUNT, &job->edits);
    }
    if (status == TOOL_OK && o->concepts != NULL) { /* (read again once there are units) */
        tool_concepts concepts;
        status = tool_read_concepts("--concepts", o->concepts, &job->names, &concepts);
    }
    return status;
}

static int run(void *context) {
    search_job *job = context;
    search_options *o = &job->options;
    if (o->ablate > MAX_CLASS_LATENTS) {
        return tool_fail("--ablate", "%zu is more than %d", o->ablate, MAX_CLASS_LATENTS);
    }
    int status = load_inputs(job);
    if (status != TOOL_OK) return status;
    if (o->top >= job->inputs.data.rows) o->top = job->inputs.data.rows;
    status = o->index_path != NULL ? load_index(job) : build_index(job);
    if (status == TOOL_OK && !o->raw) status = find_typical_values(job);
    if (status == TOOL_OK) status = edit_out_class(job);
    if (status != TOOL_OK) return status;
    return o->evaluate > 0 ? evaluate(job) : show_queries(job);
}

static void close_job(void *context) {
    search_job *job = context;
    free(job->queries.rows);
    free(job->queries.x);
    free(job->queries.codes);
    free(job->queries.counts);
    free(job->workspace);
    free(job->query_workspace);
    free(job->by_concepts);
    free(job->by_embedding);
    free(job->raw_counts);
    free(job->typical);
    free(job->moved);
    free(job->values);
    free(job->class_latents);
    free(job->query_mean);
    msae_index_free(&job->index);
    msae_data_free(&job->query_data);
    tool_free_words(&job->query_labels);
    tool_free_labels(&job->labels);
    tool_free_names(&job->names);
    tool_close_inputs(&job->inputs);
}

static const search_job defaults = {.options = {.top = 10, .ablate = 64}};

#define AT(member) offsetof(search_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(options.model_path), ""},
    {"DATA", NULL, TOOL_OPERAND, AT(options.data_path), ""},
    {"--row", "R|LABEL", TOOL_TEXT, AT(options.row),
     "rows like this row of DATA or, with --query, of QUERY: its number, counted from 0, or\n"
     "its label where there is a file of them (=1984 for one of digits alone)"},
    {"--query", "QUERY", TOOL_TEXT, AT(options.query_path), "rows like each row of a data file"},
    {"--query-labels", "FILE", TOOL_TEXT, AT(options.query_labels_path),
     "what the rows of QUERY are: the column word of a .tsv, or a list, one a line"},
    {"--query-column", "NAME", TOOL_TEXT, AT(options.query_column),
     ".. another column of the .tsv"},
    {"--own-statistics", NULL, TOOL_FLAG, AT(options.common.own_statistics),
     "centre and scale QUERY by its own mean and spread, also where it lies near the model's"},
    {"--model-statistics", NULL, TOOL_FLAG, AT(options.model_statistics),
     "centre and scale DATA and QUERY by the model's, also where theirs lie far from them"},
    {"--concepts", "C=V,..", TOOL_TEXT, AT(options.concepts),
     "rows with these concepts; without a value: 1"},
    {"--edit", "C=V,..", TOOL_TEXT, AT(options.edit),
     "changes the query: dog=0 sets, cat=+2 adds, cat=-1 takes off, fur=0:1 clamps"},
    {"--without", "LABEL", TOOL_TEXT, AT(options.without),
     "takes the latents that tell rows of this label best out of the query (see --ablate)"},
    {"--raw", NULL, TOOL_FLAG, AT(options.raw),
     "values of --concepts and --edit as they are; otherwise 1 is a latent's typical value,\n"
     "its mean where it is active"},
    {"--keep-rest", NULL, TOOL_FLAG, AT(options.keep_rest),
     "with --edit: compare embeddings with the query's own plus what the edits change"},
    {"--top", "N", TOOL_COUNT, AT(options.top), "rows to list (default: 10)"},
    TOOL_OPTION_K(search_job, options.k),
    TOOL_OPTION_REFINE,
    TOOL_OPTION_LABELS(search_job, options.labels_path),
    TOOL_OPTION_COLUMN(search_job, options.column),
    TOOL_OPTION_NAMES(search_job, options.names_path),
    {"--save-index", "FILE", TOOL_WRITES_INDEX, AT(options.save_path),
     "keep the index of DATA's codes"},
    {"--index", "FILE", TOOL_TEXT, AT(options.index_path), ".. and use it again"},
    {"--evaluate", "N", TOOL_COUNT, AT(options.evaluate),
     "instead: how often N rows find rows of their class, by both ways and by chance"},
    {"--seed", "S", TOOL_NUMBER, AT(options.seed), ".. of the choice of rows (default: 0)"},
    {"--ablate", "M", TOOL_COUNT, AT(options.ablate),
     "latents of a class that --without and --evaluate take out (default: 64)"},
    TOOL_OPTION_SKIP_BAD,
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {NULL, TOOL_REQUIRED, "--row|--query|--concepts|--evaluate"},
    {"--own-statistics", TOOL_NEEDS, "--query"},
    {"--own-statistics", TOOL_EXCLUDES, "--model-statistics"},
    {"--query-labels", TOOL_NEEDS, "--query"},
    {"--query-column", TOOL_NEEDS, "--query-labels"},
    {"--column", TOOL_NEEDS, "--labels"},
    {"--evaluate", TOOL_NEEDS, "--labels"},
    {"--without", TOOL_NEEDS, "--labels"},
    {"--concepts", TOOL_EXCLUDES, "--row|--query|--evaluate"},
    {"--evaluate", TOOL_EXCLUDES, "--row|--query|--edit|--without"},
    {"--index", TOOL_EXCLUDES, "--save-index"},
    {"--raw", TOOL_NEEDS, "--concepts|--edit"},
    {"--keep-rest", TOOL_NEEDS, "--edit|--without"},
    {"--seed", TOOL_NEEDS, "--evaluate"},
    {"--ablate", TOOL_NEEDS, "--without|--evaluate"},
    {"--tensor", TOOL_READS, "DATA|--query"},
};

const tool_command tool_search = {
    .name = "search",
    .brief = "finds rows by their concepts and by their embeddings",
    .summary =
        "Finds the rows of DATA nearest to a query in two ways, side by side: by the cosine of\n"
        "their codes (which concepts they share) and by that of their embeddings. Concepts (C)\n"
        "are given by number or, with --names, by name. A list of concepts, and a query that is\n"
        "edited, have no embedding of their own: what they decode to is compared instead. With\n"
        "--row, the row itself is no hit. Rows whose mean lies far from that of the model's data\n"
        "(text where those were images), or which are far longer or shorter, are centred and\n"
        "scaled by their own, which is said.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(search_job),
    .defaults = &defaults,
    .run = run,
    .close = close_job,
};
