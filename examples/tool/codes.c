/* msae encode and msae decode, and the file of sparse codes between them. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_CODES = 1 << 20, /* codes that encode holds densely at a time, unless one row has more */
    BLOCK_ROWS = 1024
};

static const char KEY_INPUTS[] = "n_inputs", KEY_LATENTS[] = "n_latents", KEY_K[] = "k";

/* ---------------------------------------------------------------------------------------------
   Reading a codes file
   ------------------------------------------------------------------------------------------ */

static int64_t read_i64(const unsigned char *array, size_t index) {
    int64_t value;
    memcpy(&value, array + index * sizeof value, sizeof value);
    return value;
}

static int32_t read_i32(const unsigned char *array, size_t index) {
    int32_t value;
    memcpy(&value, array + index * sizeof value, sizeof value);
    return value;
}

static float read_f32(const unsigned char *array, size_t index) {
    float value;
    memcpy(&value, array + index * sizeof value, sizeof value);
    return value;
}

int tool_is_codes(const msae_safetensors *file) {
    return msae_safetensors_find(file, "indptr") != NULL &&
           msae_safetensors_find(file, "indices") != NULL &&
           msae_safetensors_find(file, "values") != NULL;
}

/* The elements of a tensor of that type and rank, or NULL. */
static const unsigned char *find_array(const msae_safetensors *file, const char *name,
                                       msae_dtype dtype, size_t rank, size_t *length) {
    const msae_tensor *tensor = msae_safetensors_find(file, name);
    if (tensor == NULL || tensor->dtype != dtype || tensor->rank != rank) return NULL;
    if (rank == 2 && tensor->shape[1] != 2) return NULL;
    *length = tensor->shape[0];
    return tensor->data;
}

int tool_open_codes(tool_codes *codes, const msae_safetensors *file, const char *path) {
    size_t starts = 0, values = 0, moments = 0;
    codes->indptr = find_array(file, "indptr", MSAE_I64, 1, &starts);
    codes->indices = find_array(file, "indices", MSAE_I32, 1, &codes->entries);
    codes->values = find_array(file, "values", MSAE_F32, 1, &values);
    codes->moments = find_array(file, "moments", MSAE_F32, 2, &moments);
    if (codes->indptr == NULL || codes->indices == NULL || codes->values == NULL) {
        return tool_fail(path,
                         "is not a codes file: indptr I64, indices I32 and values F32 needed");
    }
    if (starts < 2) return tool_fail(path, "has no rows");
    codes->rows = starts - 1;
    if (values != codes->entries) {
        return tool_fail(path, "%zu values for %zu indices", values, codes->entries);
    }
    if (codes->moments != NULL && moments != codes->rows) {
        return tool_fail(path, "%zu moments for %zu rows", moments, codes->rows);
    }
    if (read_i64(codes->indptr, 0) != 0) return tool_fail(path, "indptr does not start at 0");
    for (size_t r = 0; r < codes->rows; r++) {
        if (read_i64(codes->indptr, r + 1) < read_i64(codes->indptr, r)) {
            return tool_fail(path, "indptr descends at row %zu", r);
        }
    }
    if ((uint64_t)read_i64(codes->indptr, codes->rows) != codes->entries) {
        return tool_fail(path, "indptr does not end at the %zu entries", codes->entries);
    }
    return TOOL_OK;
}

/* Fails when the file names a size that is not the model's. */
static int check_metadata(const msae_safetensors *file, const char *path, const char *key,
                          size_t expected) {
    const msae_metadata *entry = msae_safetensors_metadata(file, key);
    char text[32];
    int length = snprintf(text, sizeof text, "%zu", expected);
    if (entry == NULL) return TOOL_OK;
    if (entry->value_bytes == (size_t)length &&
        memcmp(entry->value, text, entry->value_bytes) == 0) {
        return TOOL_OK;
    }
    return tool_fail(path, "%s is %.*s, the model's is %zu", key,
                     (int)(entry->value_bytes < 32 ? entry->value_bytes : 32), entry->value,
                     expected);
}

/* Checks what only the model can tell: the latents' numbers; and that all values are finite. */
static int check_codes(const tool_codes *codes, const msae_model *model, const char *path) {
    if (model->normalize && codes->moments == NULL) {
        return tool_fail(path, "has no moments, which this model needs");
    }
    for (size_t r = 0; r < codes->rows; r++) {
        const size_t end = (size_t)read_i64(codes->indptr, r + 1);
        for (size_t i = (size_t)read_i64(codes->indptr, r); i < end; i++) {
            const int32_t latent = read_i32(codes->indices, i);
            if (latent < 0 || (size_t)latent >= model->n_latents) {
                return tool_fail(path, "row %zu: latent %ld of a model with %zu", r, (long)latent,
                                 model->n_latents);
            }
            if (!isfinite(read_f32(codes->values, i))) {
                return tool_fail(path, "row %zu: NaN or Inf", r);
            }
        }
        if (codes->moments != NULL && (!isfinite(read_f32(codes->moments, 2 * r)) ||
                                       !isfinite(read_f32(codes->moments, 2 * r + 1)))) {
            return tool_fail(path, "row %zu: NaN or Inf in the moments", r);
        }
    }
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   Encode
   ------------------------------------------------------------------------------------------ */

typedef struct block_buffers {
    size_t rows, *counts;
    void *workspace;
    float *x;
    msae_code *codes;
} block_buffers;

static int encode_blocks(const msae_model *model, const msae_data *data, const char *path, size_t k,
                         const block_buffers *buffers, tool_encoded_fn on_block, void *user) {
    tool_encoded block;
    int status = TOOL_OK;
    block.x = buffers->x;
    block.codes = buffers->codes;
    block.counts = buffers->counts;
    block.stride = k > 0 ? k : model->n_latents;
    for (block.first = 0; block.first < data->rows && status == TOOL_OK;
         block.first += block.rows) {
        msae_error error;
        const size_t left = data->rows - block.first;
        block.rows = left < buffers->rows ? left : buffers->rows;
        msae_data_read(data, block.first, block.rows, buffers->x);
        if (msae_encode_rows(model, buffers->workspace, buffers->x, block.rows, k, buffers->codes,
                             buffers->counts, &error) != MSAE_OK) {
            return tool_fail_error(path, &error);
        }
        status = on_block(user, &block);
    }
    return status;
}

int tool_encode_data(const msae_model *model, const msae_data *data, const char *path, size_t k,
                     tool_encoded_fn on_block, void *user) {
    const size_t stride = k > 0 ? k : model->n_latents;
    block_buffers buffers = {BLOCK_CODES / stride, NULL, NULL, NULL, NULL};
    if (k > model->n_latents) {
        return tool_fail("--k", "%zu is more than the model's %zu latents", k, model->n_latents);
    }
    if (buffers.rows > BLOCK_ROWS) buffers.rows = BLOCK_ROWS;
    if (buffers.rows == 0) buffers.rows = 1;
    buffers.counts = tool_alloc(buffers.rows, sizeof *buffers.counts);
    buffers.workspace = tool_alloc(msae_workspace_bytes(model, buffers.rows), 1);
    buffers.x = tool_alloc(buffers.rows, model->n_inputs * sizeof *buffers.x);
    buffers.codes = tool_alloc(buffers.rows, stride * sizeof *buffers.codes);
    int complete = buffers.counts != NULL && buffers.workspace != NULL && buffers.x != NULL &&
                   buffers.codes != NULL;
    int status = complete ? encode_blocks(model, data, path, k, &buffers, on_block, user)
                          : tool_fail_memory();
    free(buffers.counts);
    free(buffers.workspace);
    free(buffers.x);
    free(buffers.codes);
    return status;
}

typedef struct encode_job {
    tool_common common;
    const char *model_path, *data_path, *output;
    size_t k;
    tool_inputs inputs;
    /* the file's arrays */
    int64_t *indptr;
    int32_t *indices;
    float *values, *moments;
    size_t entries, capacity;
} encode_job;

/* Room for `count` more entries. */
static int grow(encode_job *job, size_t count) {
    const size_t limit = SIZE_MAX / sizeof *job->values / 2;
    size_t capacity = job->capacity;
    if (count > limit - job->entries) return tool_fail_memory();
    while (capacity < job->entries + count) capacity = capacity > 0 ? 2 * capacity : BLOCK_ROWS;
    if (capacity == job->capacity) return TOOL_OK;
    int32_t *indices = realloc(job->indices, capacity * sizeof *indices);
    if (indices != NULL) job->indices = indices;
    float *values = realloc(job->values, capacity * sizeof *values);
    if (values != NULL) job->values = values;
    if (indices == NULL || values == NULL) return tool_fail_memory();
    job->capacity = capacity;
    return TOOL_OK;
}

static int append_row(encode_job *job, const msae_code *codes, size_t count, size_t row) {
    int status = grow(job, count);
    if (status != TOOL_OK) return status;
    for (size_t i = 0; i < count; i++, job->entries++) {
        job->indices[job->entries] = (int32_t)codes[i].latent;
        job->values[job->entries] = codes[i].value;
    }
    job->indptr[row + 1] = (int64_t)job->entries;
    return TOOL_OK;
}

static int on_encoded(void *user, const tool_encoded *block) {
    encode_job *job = user;
    for (size_t r = 0; r < block->rows; r++) {
        int status =
            append_row(job, block->codes + r * block->stride, block->counts[r], block->first + r);
        if (status != TOOL_OK) return status;
        if (job->moments != NULL) {
            msae_row_moments(&job->inputs.model, block->x + r * job->inputs.model.n_inputs,
                             job->moments + 2 * (block->first + r));
        }
    }
    return TOOL_OK;
}

static msae_tensor tensor_of(const char *name, msae_dtype dtype, const void *data, size_t rows,
                             size_t cols) {
    msae_tensor tensor;
    memset(&tensor, 0, sizeof tensor);
    tensor.name = name;
    tensor.name_bytes = strlen(name);
    tensor.dtype = dtype;
    tensor.rank = cols > 1 ? 2 : 1;
    tensor.shape[0] = rows;
    tensor.shape[1] = cols;
    tensor.data = data;
    tensor.bytes = rows * cols * msae_dtype_bytes(dtype);
    return tensor;
}

static msae_metadata metadata_of(const char *key, const char *value) {
    msae_metadata entry = {key, value, strlen(key), strlen(value)};
    return entry;
}

static int write_codes(const encode_job *job) {
    const msae_model *model = &job->inputs.model;
    const size_t rows = job->inputs.data.rows;
    const msae_tensor tensors[] = {
        tensor_of("indptr", MSAE_I64, job->indptr, rows + 1, 1),
        tensor_of("indices", MSAE_I32, job->indices, job->entries, 1),
        tensor_of("values", MSAE_F32, job->values, job->entries, 1),
        tensor_of("moments", MSAE_F32, job->moments, rows, 2),
    };
    char inputs[32], latents[32], k[32];
    snprintf(inputs, sizeof inputs, "%zu", model->n_inputs);
    snprintf(latents, sizeof latents, "%zu", model->n_latents);
    snprintf(k, sizeof k, "%zu", job->k);
    const msae_metadata metadata[] = {
        metadata_of(KEY_INPUTS, inputs), metadata_of(KEY_LATENTS, latents),
        metadata_of(KEY_K, k), /* 0: as many as the recipe keeps */
    };
    msae_error error;
    if (msae_safetensors_write_file(job->output, tensors, job->moments != NULL ? 4 : 3, metadata, 3,
                                    &error) != MSAE_OK) {
        return tool_fail_error(job->output, &error);
    }
    return TOOL_OK;
}

static void print_encoded(const encode_job *job) {
    const size_t rows = job->inputs.data.rows;
    const double l0 = (double)job->entries / (double)rows;
    if (job->common.json) {
        tool_json json = tool_json_line("done");
        tool_json_count(&json, "rows", rows);
        tool_json_count(&json, "entries", job->entries);
        tool_json_real(&json, "l0", l0);
        tool_json_text(&json, "file", job->output);
        tool_json_end(&json, '}');
    } else {
        printf("%s: %zu rows, %.1f active latents a row\n", job->output, rows, l0);
    }
}

static int encode(encode_job *job) {
    int status = tool_check_output("encode", job->output);
    if (status != TOOL_OK) return status;
    status = tool_open_inputs(&job->inputs, &job->common, job->model_path, job->data_path);
    if (status != TOOL_OK) return status;
    const msae_model *model = &job->inputs.model;
    const size_t rows = job->inputs.data.rows;
    if (model->n_latents > INT32_MAX) {
        return tool_fail(job->model_path, "has more latents than a codes file can number");
    }
    job->indptr = tool_alloc(rows + 1, sizeof *job->indptr);
    if (model->normalize) job->moments = tool_alloc(rows, 2 * sizeof *job->moments);
    if (job->indptr == NULL || (model->normalize && job->moments == NULL)) {
        return tool_fail_memory();
    }
    status = tool_encode_data(model, &job->inputs.data, job->data_path, job->k, on_encoded, job);
    if (status == TOOL_OK) status = write_codes(job);
    if (status == TOOL_OK) print_encoded(job);
    return status;
}

int tool_encode(int argc, char **argv) {
    encode_job job = {0};
    const tool_option options[] = {
        {"-o", "CODES", TOOL_TEXT, &job.output, "file to write, a safetensors (required)"},
        {"--k", "K", TOOL_COUNT, &job.k,
         "latents to keep a row, the strongest (default: as the recipe does)"},
        TOOL_OPTION_TENSOR(job.common),
        TOOL_OPTION_THREADS(job.common),
        TOOL_OPTION_SIMD(job.common),
        TOOL_OPTION_JSON(job.common),
    };
    const tool_syntax syntax = {
        "encode",
        {{"MODEL", &job.model_path}, {"DATA", &job.data_path}},
        "Writes the active latents of every row of DATA, strongest first, as compressed sparse\n"
        "rows: the tensors indptr I64 [rows + 1], indices I32 and values F32; row r has the\n"
        "entries indptr[r] .. indptr[r + 1] - 1. A model that normalizes rows adds moments F32\n"
        "[rows, 2], each row's mean and deviation.",
        options,
        sizeof options / sizeof options[0],
        NULL,
        NULL,
    };
    int status = tool_parse(&syntax, argc, argv);
    if (status != TOOL_GO) return status;
    status = encode(&job);
    free(job.indptr);
    free(job.indices);
    free(job.values);
    free(job.moments);
    tool_close_inputs(&job.inputs);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Decode
   ------------------------------------------------------------------------------------------ */

typedef struct decode_job {
    tool_common common;
    const char *model_path, *codes_path, *output;
    tool_inputs inputs;
    tool_codes codes;
    msae_code *scratch; /* the longest row, for each worker */
    size_t longest;
    float *out;
} decode_job;

static void decode_row(void *context, size_t row, size_t worker) {
    decode_job *job = context;
    const size_t first = (size_t)read_i64(job->codes.indptr, row);
    const size_t count = (size_t)read_i64(job->codes.indptr, row + 1) - first;
    msae_code *codes = job->scratch + worker * job->longest;
    float moments[2] = {0, 1};
    for (size_t i = 0; i < count; i++) {
        codes[i].latent = (uint32_t)read_i32(job->codes.indices, first + i);
        codes[i].value = read_f32(job->codes.values, first + i);
    }
    if (job->inputs.model.normalize) {
        moments[0] = read_f32(job->codes.moments, 2 * row);
        moments[1] = read_f32(job->codes.moments, 2 * row + 1);
    }
    msae_decode_with(&job->inputs.model, codes, count, moments,
                     job->out + row * job->inputs.model.n_inputs);
}

static int decode_rows(decode_job *job) {
    const msae_model *model = &job->inputs.model;
    const msae_parallel parallel = msae_pool_parallel(job->inputs.pool);
    const size_t rows = job->codes.rows;
    msae_error error;
    for (size_t r = 0; r < rows; r++) {
        const int64_t count = read_i64(job->codes.indptr, r + 1) - read_i64(job->codes.indptr, r);
        if ((size_t)count > job->longest) job->longest = (size_t)count;
    }
    job->scratch = tool_alloc(job->longest, parallel.workers * sizeof *job->scratch);
    job->out = tool_alloc(rows, model->n_inputs * sizeof *job->out);
    if (job->scratch == NULL || job->out == NULL) return tool_fail_memory();
    parallel.parallel_for(parallel.user, rows, decode_row, job);
    if (msae_write_npy(job->output, job->out, rows, model->n_inputs, &error) != MSAE_OK) {
        return tool_fail_error(job->output, &error);
    }
    return TOOL_OK;
}

static int open_codes_for(decode_job *job, const msae_safetensors *file) {
    const msae_model *model = &job->inputs.model;
    const char *path = job->codes_path;
    int status = tool_open_codes(&job->codes, file, path);
    if (status == TOOL_OK) status = check_metadata(file, path, KEY_INPUTS, model->n_inputs);
    if (status == TOOL_OK) status = check_metadata(file, path, KEY_LATENTS, model->n_latents);
    if (status == TOOL_OK) status = check_codes(&job->codes, model, path);
    return status;
}

static void print_decoded(const decode_job *job) {
    const size_t rows = job->codes.rows, cols = job->inputs.model.n_inputs;
    if (job->common.json) {
        tool_json json = tool_json_line("done");
        tool_json_count(&json, "rows", rows);
        tool_json_count(&json, "cols", cols);
        tool_json_text(&json, "file", job->output);
        tool_json_end(&json, '}');
    } else {
        printf("%s: %zu rows of %zu\n", job->output, rows, cols);
    }
}

static int decode(decode_job *job) {
    msae_error error;
    void *bytes;
    size_t size;
    msae_safetensors file;
    int status = tool_check_output("decode", job->output);
    if (status == TOOL_OK) {
        status = tool_open_inputs(&job->inputs, &job->common, job->model_path, NULL);
    }
    if (status != TOOL_OK) return status;
    if (msae_read_file(job->codes_path, NULL, &bytes, &size, &error) != MSAE_OK) {
        return tool_fail_error(job->codes_path, &error);
    }
    if (msae_safetensors_open(&file, bytes, size, NULL, &error) != MSAE_OK) {
        status = tool_fail_error(job->codes_path, &error);
    } else {
        status = open_codes_for(job, &file);
        if (status == TOOL_OK) status = decode_rows(job);
        if (status == TOOL_OK) print_decoded(job);
        msae_safetensors_close(&file);
    }
    msae_release(NULL, bytes, size);
    return status;
}

int tool_decode(int argc, char **argv) {
    decode_job job = {0};
    const tool_option options[] = {
        {"-o", "OUT.npy", TOOL_TEXT, &job.output, "file to write, float32 (required)"},
        TOOL_OPTION_THREADS(job.common),
        TOOL_OPTION_SIMD(job.common),
        TOOL_OPTION_JSON(job.common),
    };
    const tool_syntax syntax = {
        "decode",
        {{"MODEL", &job.model_path}, {"CODES", &job.codes_path}},
        "Writes the embeddings that the codes of msae encode stand for, edited or not.",
        options,
        sizeof options / sizeof options[0],
        NULL,
        NULL,
    };
    int status = tool_parse(&syntax, argc, argv);
    if (status != TOOL_GO) return status;
    status = decode(&job);
    free(job.scratch);
    free(job.out);
    tool_close_inputs(&job.inputs);
    return status;
}
