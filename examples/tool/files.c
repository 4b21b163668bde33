/* Inputs of the commands. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

int tool_start_threads(const tool_common *common, msae_pool **pool) {
    msae_error error;
    if (common->threads > MSAE_MAX_WORKERS) {
        return tool_fail("--threads", "%zu is more than %d", common->threads, MSAE_MAX_WORKERS);
    }
    if (msae_pool_create(pool, common->threads, &error) != MSAE_OK) {
        return tool_fail_error("--threads", &error);
    }
    return TOOL_OK;
}

int tool_is_skipped(const msae_data *data, size_t row) {
    enum { CHUNK = 256 };
    float chunk[CHUNK];
    msae_data values = *data; /* as rows of one value each */
    if (!data->skip_bad) return 0;
    values.rows *= values.cols;
    values.cols = 1;
    for (size_t i = 0; i < data->cols; i += CHUNK) {
        const size_t count = data->cols - i < CHUNK ? data->cols - i : CHUNK;
        msae_data_read(&values, row * data->cols + i, count, chunk);
        if (tool_is_bad(chunk, count)) return 1;
    }
    return 0;
}

size_t tool_used_rows(const msae_data *data) {
    size_t used = 0;
    for (size_t r = 0; r < data->rows; r++) used += !tool_is_skipped(data, r);
    return used;
}

/* Makes the library leave out bad rows, and says which. */
static int skip_rows(msae_data *data, const tool_rows *rows) {
    size_t first = 0;
    data->skip_bad = 1;
    const size_t count = data->rows - tool_used_rows(data);
    while (count > 0 && !tool_is_skipped(data, first)) first++;
    data->skip_bad = count > 0; /* it costs a look at every row */
    return tool_skip_rows(rows, data->dtype, data->rows, count, first);
}

static int load_file(msae_data *data, const tool_rows *rows, const char *tensor, size_t cols,
                     int bad_rows) {
    const char *path = rows->paths[0];
    msae_error error;
    int status = TOOL_OK;
    if (tool_load_matrix(data, path, tensor, &error) != MSAE_OK) {
        return tool_fail_content(path, TOOL_DATA, &error);
    }
    if (cols != 0 && data->cols != cols) {
        status = tool_fail(path, "has %zu columns where %zu are needed", data->cols, cols);
    } else if (bad_rows == TOOL_BAD_REFUSED && msae_data_check(data, &error) != MSAE_OK) {
        status = tool_fail_row(path, &error);
    } else if (bad_rows == TOOL_BAD_SKIPPED) {
        status = skip_rows(data, rows);
    }
    if (status != TOOL_OK) msae_data_free(data);
    return status;
}

int tool_load_data(msae_data *data, const char *path, const char *tensor, size_t cols,
                   int bad_rows) {
    tool_rows rows = {0};
    int status = tool_add_rows(&rows, path);
    if (status == TOOL_OK && rows.count == 1) {
        status = load_file(data, &rows, tensor, cols, bad_rows);
    } else if (status == TOOL_OK) {
        status = tool_open_rows(&rows, tensor, cols);
        if (status == TOOL_OK) status = tool_hold_rows(&rows, tensor, bad_rows, data);
        if (status == TOOL_OK && bad_rows == TOOL_BAD_SKIPPED) {
            status = skip_rows(data, &rows);
            if (status != TOOL_OK) msae_data_free(data);
        }
    }
    if (status == TOOL_OK) tool_note_rows(&rows);
    tool_close_rows(&rows);
    return status;
}

msae_host tool_host(const tool_common *common, msae_pool *pool) {
    msae_host host = {0};
    host.simd = (msae_simd)common->simd;
    host.parallel = msae_pool_parallel(pool);
    return host;
}

msae_load_desc tool_load_desc(const tool_common *common, msae_pool *pool) {
    msae_load_desc desc = {0};
    desc.host = tool_host(common, pool);
    desc.widen = 1;
    return desc;
}

int tool_load_more(msae_model *model, const char *path, const msae_load_desc *desc,
                   const msae_model *first, const char *first_path) {
    int status = tool_load_model(model, path, desc);
    if (status != TOOL_OK || model->n_inputs == first->n_inputs) return status;
    return tool_fail(path, "has %zu inputs, %s has %zu", model->n_inputs, first_path,
                     first->n_inputs);
}

int tool_open_inputs(tool_inputs *inputs, const tool_common *common, const char *model_path,
                     const char *data_path) {
    int status = tool_start_threads(common, &inputs->pool);
    if (status != TOOL_OK) return status;
    if (model_path != NULL) {
        msae_load_desc desc = tool_load_desc(common, inputs->pool);
        desc.widen = !inputs->as_stored;
        status = tool_load_model(&inputs->model, model_path, &desc);
        inputs->model.refine = common->refine;
        inputs->stored = inputs->model;
    }
    if (status != TOOL_OK || data_path == NULL) return status;
    status = tool_load_data(&inputs->data, data_path, common->tensor, inputs->model.n_inputs,
                            common->skip_bad);
    if (status != TOOL_OK || model_path == NULL || inputs->any_mean) return status;
    const msae_source source = msae_source_data(&inputs->data);
    return tool_centre(&inputs->model, common, &source, data_path, &inputs->mean);
}

void tool_close_inputs(tool_inputs *inputs) {
    msae_data_free(&inputs->data);
    msae_model_free(&inputs->model);
    free(inputs->mean);
    msae_pool_free(inputs->pool);
}

/* ---------------------------------------------------------------------------------------------
   What a row keeps
   ------------------------------------------------------------------------------------------ */

int tool_settle_k(const msae_model *model, const char *model_path, size_t *k) {
    if (*k == TOOL_ALL) *k = model->n_latents;
    if (*k <= model->n_latents) return TOOL_OK;
    return tool_fail("--k", "%zu is more than the %zu latents of %s", *k, model->n_latents,
                     model_path);
}

typedef enum kept_by { BY_K, BY_THRESHOLD, ALL_ACTIVE } kept_by;

/* The rule, and *k as the number that goes with it. */
static kept_by rule_of(const msae_model *model, size_t *k) {
    if (*k == model->n_latents) return ALL_ACTIVE;
    if (*k > 0) return BY_K;
    *k = model->k;
    if (model->recipe == MSAE_RECIPE_BATCHTOPK || model->recipe == MSAE_RECIPE_MSAE_WIDTH) {
        return BY_THRESHOLD;
    }
    return model->k > 0 && model->k < model->n_latents ? BY_K : ALL_ACTIVE;
}

size_t tool_default_ks(size_t n, size_t *ks) {
    size_t count = 0;
    for (size_t k = 16; k < n && count + 1 < MSAE_MAX_LEVELS; k *= 2) ks[count++] = k;
    ks[count++] = n;
    return count;
}

int tool_settle_ks(const msae_model *model, const char *model_path, tool_ks *ks) {
    const size_t n = model->n_latents;
    size_t count = 0, place = 0, own = 0;
    if (ks->count == 0 && !ks->own) {
        ks->count = tool_default_ks(n, ks->values);
        while (model->refine > 0 && ks->count > 1 &&
               ks->values[ks->count - 1] > TOOL_REFINED_K(model)) {
            ks->count--;
        }
        ks->own = 1;
    }
    for (size_t i = 0; i < ks->count; i++) {
        size_t k = ks->values[i];
        if (k == TOOL_ALL) {
            k = n;
            if (count > 0 && ks->values[count - 1] == n) continue; /* as a number before */
        } else if (k > n) {
            return tool_fail("--k", "%zu is more than the %zu latents of %s", k, n, model_path);
        }
        if (count > 0 && k <= ks->values[count - 1]) {
            return tool_fail("--k", "%zu does not follow %zu: the list has to ascend", k,
                             ks->values[count - 1]);
        }
        ks->values[count++] = k;
    }
    ks->count = count;
    ks->own_at = count;
    ks->own_unlisted = 0;
    if (!ks->own) return TOOL_OK;
    switch (rule_of(model, &own)) {
    case BY_THRESHOLD:
        return TOOL_OK;
    case BY_K:
        break;
    default:
        own = n;
        break;
    }
    while (place < count && ks->values[place] < own) place++;
    ks->own_at = place;
    if (place < count && ks->values[place] == own) return TOOL_OK;
    ks->own_unlisted = 1;
    for (size_t i = ks->count++; i > place; i--) ks->values[i] = ks->values[i - 1];
    ks->values[place] = own;
    return TOOL_OK;
}

msae_status tool_measure_ks(const tool_ks *ks, tool_ks_measure measure, void *context,
                            msae_error *error) {
    static const size_t as_it_encodes = 0;
    msae_status status = MSAE_OK;
    if (ks->count > 0) status = measure(context, ks->values, ks->count, 0, error);
    if (status != MSAE_OK || !ks->own || ks->own_at != ks->count) return status;
    return measure(context, &as_it_encodes, 1, ks->own_at, error);
}

void tool_print_ks(const tool_ks *ks, tool_ks_print print, const void *context) {
    for (size_t i = 0; i < ks->count; i++) {
        if (i != ks->own_at || !ks->own_unlisted) print(context, i, 0);
    }
    if (ks->own) print(context, ks->own_at, 1);
}

void tool_print_own(const tool_ks *ks, const msae_model *model) {
    char text[TOOL_K_TEXT];
    if (!ks->own) return;
    printf("own: as the model encodes by itself, %s\n", tool_k_text(model, 0, text));
}

const char *tool_k_text(const msae_model *model, size_t k, char text[TOOL_K_TEXT]) {
    switch (rule_of(model, &k)) {
    case BY_K:
        snprintf(text, TOOL_K_TEXT, "k %zu", k);
        break;
    case BY_THRESHOLD:
        snprintf(text, TOOL_K_TEXT, "k %zu on average, by the threshold", k);
        break;
    default:
        snprintf(text, TOOL_K_TEXT, "all active latents");
        break;
    }
    if (model->refine > 0) {
        const size_t length = strlen(text);
        snprintf(text + length, TOOL_K_TEXT - length, ", refined, %d exchange%s", model->refine - 1,
                 tool_plural((uint64_t)model->refine - 1));
    }
    return text;
}

static const char *const rule_names[] = {"k", "threshold", "all"};

void tool_json_k(tool_json *json, const msae_model *model, size_t k) {
    const kept_by rule = rule_of(model, &k);
    tool_json_count(json, "k", rule == ALL_ACTIVE ? model->n_latents : k);
    tool_json_text(json, "kept_by", rule_names[rule]);
    if (model->refine > 0) tool_json_count(json, "refine", (uint64_t)model->refine - 1);
}

void tool_json_own(tool_json *json, const msae_model *model) {
    size_t k = 0;
    tool_json_null(json, "k");
    tool_json_bool(json, "own", 1);
    tool_json_text(json, "kept_by", rule_names[rule_of(model, &k)]);
}
