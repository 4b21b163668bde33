/* msae decode: a file of sparse codes in, embeddings out, block by block; and what such a file
   is. */
#include "tool.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_ENTRIES = 1 << 19, /* codes that are held at a time, unless one row has more */
    BLOCK_ROWS = 1024
};

/* ---------------------------------------------------------------------------------------------
   A codes file
   ------------------------------------------------------------------------------------------ */

int tool_is_codes(const msae_safetensors *file) {
    return msae_safetensors_find(file, "indptr") != NULL &&
           msae_safetensors_find(file, "indices") != NULL &&
           msae_safetensors_find(file, "values") != NULL;
}

/* Where a tensor of that type and rank lies, and its length; 0 when there is none. */
static uint64_t find_array(const msae_safetensors *file, const char *name, msae_dtype dtype,
                           size_t rank, uint64_t *length) {
    const msae_tensor *tensor = msae_safetensors_find(file, name);
    if (tensor == NULL || tensor->dtype != dtype || tensor->rank != rank) return 0;
    if (rank == 2 && tensor->shape[1] != 2) return 0;
    *length = tensor->shape[0];
    return tensor->offset;
}

/* Bytes of the file, of which there are so many. */
static int read_bytes(const tool_codes *codes, uint64_t offset, void *bytes, size_t count,
                      const char *path) {
    if (count == 0 || codes->reader->read(codes->reader->user, offset, bytes, count)) {
        return TOOL_OK;
    }
    return tool_fail(path, "cannot be read at byte %llu", (unsigned long long)offset);
}

/* Where rows first .. first + rows start and the last one ends: starts [rows + 1]. */
static int read_starts(const tool_codes *codes, uint64_t first, size_t rows, uint64_t *starts,
                       const char *path) {
    unsigned char bytes[8 * (BLOCK_ROWS + 1)];
    int status = read_bytes(codes, codes->indptr + 8 * first, bytes, 8 * (rows + 1), path);
    for (size_t r = 0; r <= rows && status == TOOL_OK; r++) {
        starts[r] = bytes_get(bytes + 8 * r, 8);
        if (starts[r] > INT64_MAX || (r > 0 && starts[r] < starts[r - 1])) {
            return tool_fail(path, "indptr descends at row %llu",
                             (unsigned long long)(first + (r > 0 ? r - 1 : 0)));
        }
    }
    return status;
}

/* What the file says of the model that made it. */
static int read_model(tool_codes *codes, const msae_safetensors *file, const char *path) {
    const msae_metadata *model = msae_safetensors_metadata(file, TOOL_CODES_MODEL);
    const msae_metadata *own = msae_safetensors_metadata(file, TOOL_CODES_OWN);
    codes->model[0] = '\0';
    codes->own_statistics = own != NULL && own->value_bytes == 1 && own->value[0] == '1';
    if (model == NULL) return TOOL_OK;
    size_t digits = 0;
    while (digits < model->value_bytes && model->value[digits] != '\0' &&
           strchr("0123456789abcdef", model->value[digits]) != NULL) {
        digits++;
    }
    if (digits != 16 || model->value_bytes != 16) {
        return tool_fail(path, "'%.*s' is not a model's checksum",
                         (int)(model->value_bytes < 32 ? model->value_bytes : 32), model->value);
    }
    memcpy(codes->model, model->value, 16);
    codes->model[16] = '\0';
    return TOOL_OK;
}

int tool_open_codes(tool_codes *codes, const msae_safetensors *file, const msae_reader *reader,
                    const char *path) {
    uint64_t starts[BLOCK_ROWS + 1] = {0}, length = 0, values = 0, moments = 0;
    codes->reader = reader;
    codes->indptr = find_array(file, "indptr", MSAE_I64, 1, &length);
    codes->indices = find_array(file, "indices", MSAE_I32, 1, &codes->entries);
    codes->values = find_array(file, "values", MSAE_F32, 1, &values);
    codes->moments = find_array(file, "moments", MSAE_F32, 2, &moments);
    if (codes->indptr == 0 || codes->indices == 0 || codes->values == 0) {
        const msae_error error = {
            MSAE_ERROR_FORMAT, MSAE_NO_POSITION,
            "is not a codes file: indptr I64, indices I32 and values F32 needed"};
        return tool_fail_content(path, TOOL_CODES, &error);
    }
    if (length < 2) return tool_fail(path, "has no rows");
    codes->rows = length - 1;
    if (values != codes->entries) {
        return tool_fail(path, "%llu values for %llu indices", (unsigned long long)values,
                         (unsigned long long)codes->entries);
    }
    if (codes->moments != 0 && moments != codes->rows) {
        return tool_fail(path, "%llu moments for %llu rows", (unsigned long long)moments,
                         (unsigned long long)codes->rows);
    }
    int status = read_model(codes, file, path);
    if (status != TOOL_OK) return status;
    for (uint64_t first = 0, rows; first < codes->rows; first += rows) {
        rows = codes->rows - first < BLOCK_ROWS ? codes->rows - first : BLOCK_ROWS;
        status = read_starts(codes, first, (size_t)rows, starts, path);
        if (status != TOOL_OK) return status;
        if (first == 0 && starts[0] != 0) return tool_fail(path, "indptr does not start at 0");
        if (first + rows == codes->rows && starts[rows] != codes->entries) {
            return tool_fail(path, "indptr does not end at the %llu entries",
                             (unsigned long long)codes->entries);
        }
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

/* ---------------------------------------------------------------------------------------------
   Decode
   ------------------------------------------------------------------------------------------ */

typedef struct decode_job {
    tool_common common;
    const char *model_path, *codes_path, *output;
    tool_inputs inputs;
    tool_codes codes;
    tool_output file;
    /* a block: its first row, and codes of row r from starts[r] - starts[0] on */
    uint64_t first, starts[BLOCK_ROWS + 1];
    size_t rows;
    msae_code *entries;
    unsigned char *bytes; /* of indices or values */
    size_t room;          /* for so many entries */
    float *moments, *out; /* [BLOCK_ROWS, 2], [BLOCK_ROWS, d] */
} decode_job;

/* Reads the rows from `first` on that make a block, and checks what only the model can tell: the
   latents' numbers; and that all values are finite. */
static int read_rows_of_codes(decode_job *job, uint64_t first) {
    const tool_codes *codes = &job->codes;
    const uint64_t left = codes->rows - first;
    const char *path = job->codes_path;
    size_t rows = left < BLOCK_ROWS ? (size_t)left : BLOCK_ROWS;
    int status = read_starts(codes, first, rows, job->starts, path);
    if (status != TOOL_OK) return status;
    if (job->starts[rows] > codes->entries) return tool_fail(path, "was changed while it was read");
    while (rows > 1 && job->starts[rows] - job->starts[0] > BLOCK_ENTRIES) rows--;
    job->first = first;
    job->rows = rows;
    const uint64_t count = job->starts[rows] - job->starts[0];
    if (count > SIZE_MAX / 16) return tool_fail_memory();
    if (count > job->room) {
        free(job->entries);
        free(job->bytes);
        job->room = (size_t)count > BLOCK_ENTRIES ? (size_t)count : BLOCK_ENTRIES;
        job->entries = tool_alloc(job->room, sizeof *job->entries);
        job->bytes = tool_alloc(job->room, 4);
        if (job->entries == NULL || job->bytes == NULL) return tool_fail_memory();
    }
    status =
        read_bytes(codes, codes->indices + 4 * job->starts[0], job->bytes, 4 * (size_t)count, path);
    for (size_t i = 0; i < count && status == TOOL_OK; i++) {
        job->entries[i].latent = (uint32_t)bytes_get(job->bytes + 4 * i, 4);
    }
    if (status != TOOL_OK) return status;
    status =
        read_bytes(codes, codes->values + 4 * job->starts[0], job->bytes, 4 * (size_t)count, path);
    for (size_t i = 0; i < count && status == TOOL_OK; i++) {
        job->entries[i].value = bytes_float((uint32_t)bytes_get(job->bytes + 4 * i, 4));
    }
    for (size_t r = 0; r < 2 * rows; r++) job->moments[r] = (float)(r % 2);
    if (status == TOOL_OK && job->inputs.model.normalize) {
        unsigned char bytes[8 * BLOCK_ROWS];
        status = read_bytes(codes, codes->moments + 8 * first, bytes, 8 * rows, path);
        for (size_t i = 0; i < 2 * rows && status == TOOL_OK; i++) {
            job->moments[i] = bytes_float((uint32_t)bytes_get(bytes + 4 * i, 4));
        }
    }
    return status;
}

static int check_block(const decode_job *job) {
    const size_t latents = job->inputs.model.n_latents;
    for (size_t r = 0; r < job->rows; r++) {
        const unsigned long long row = job->first + r;
        for (uint64_t i = job->starts[r]; i < job->starts[r + 1]; i++) {
            const msae_code *code = &job->entries[i - job->starts[0]];
            if (code->latent >= latents) {
                return tool_fail(job->codes_path, "row %llu: latent %ld of a model with %zu", row,
                                 (long)(int32_t)code->latent, latents);
            }
            if (!isfinite(code->value)) {
                return tool_fail(job->codes_path, "row %llu: NaN or Inf", row);
            }
        }
        if (!isfinite(job->moments[2 * r]) || !isfinite(job->moments[2 * r + 1])) {
            return tool_fail(job->codes_path, "row %llu: NaN or Inf in the moments", row);
        }
    }
    return TOOL_OK;
}

static void decode_row(void *context, size_t r, size_t worker) {
    decode_job *job = context;
    const uint64_t start = job->starts[r] - job->starts[0];
    (void)worker;
    msae_decode(&job->inputs.model, job->entries + start,
                (size_t)(job->starts[r + 1] - job->starts[r]), job->moments + 2 * r,
                job->out + r * job->inputs.model.n_inputs);
}

/* The rows of `out` as float32, little-endian on every machine. */
static int write_block(const decode_job *job) {
    const size_t count = job->rows * job->inputs.model.n_inputs;
    unsigned char *bytes = (unsigned char *)job->out;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, bytes + 4 * i, sizeof bits);
        bytes_put(bytes + 4 * i, 4, bits);
    }
    errno = 0;
    return fwrite(bytes, 4, count, job->file.file) == count ? TOOL_OK
                                                            : tool_fail_writing(job->output);
}

/* A .npy's header, 128 bytes long. */
static int write_header(const decode_job *job) {
    char header[129] = "\x93NUMPY\x01\x00\x76\x00";
    const int length = snprintf(header + 10, sizeof header - 10,
                                "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %zu), }",
                                (unsigned long long)job->codes.rows, job->inputs.model.n_inputs);
    memset(header + 10 + length, ' ', (size_t)(117 - length));
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
    header[127] = '\n';
    errno = 0;
    return fwrite(header, 1, 128, job->file.file) == 128 ? TOOL_OK : tool_fail_writing(job->output);
}

static int decode_rows(decode_job *job) {
    const msae_parallel parallel = msae_pool_parallel(job->inputs.pool);
    job->moments = tool_alloc(BLOCK_ROWS, 2 * sizeof *job->moments);
    job->out = tool_alloc(BLOCK_ROWS, job->inputs.model.n_inputs * sizeof *job->out);
    if (job->moments == NULL || job->out == NULL) return tool_fail_memory();
    int status = write_header(job);
    for (uint64_t first = 0; first < job->codes.rows && status == TOOL_OK; first += job->rows) {
        status = read_rows_of_codes(job, first);
        if (status == TOOL_OK) status = check_block(job);
        if (status != TOOL_OK) return status;
        parallel.parallel_for(parallel.user, job->rows, decode_row, job);
        status = write_block(job);
    }
    return status;
}

/* Codes are only of the model that made them. Files of other programs need not say it. */
static int check_model(const decode_job *job) {
    const tool_codes *codes = &job->codes;
    char model[17];
    snprintf(model, sizeof model, "%016llx",
             (unsigned long long)msae_model_checksum(&job->inputs.stored));
    if (codes->model[0] == '\0') {
        tool_warn(job->codes_path, "does not say which model made it");
    } else if (strcmp(codes->model, model) != 0) {
        return tool_fail(job->codes_path, "is of the model %s, %s is %s: encode again",
                         codes->model, job->model_path, model);
    }
    if (codes->own_statistics) {
        tool_warn(job->codes_path, "was made with --own-statistics, which it does not hold: rows "
                                   "are decoded about the model's mean");
    }
    return TOOL_OK;
}

static int open_codes_for(decode_job *job, const msae_safetensors *file,
                          const msae_reader *reader) {
    const msae_model *model = &job->inputs.model;
    const char *path = job->codes_path;
    int status = tool_open_codes(&job->codes, file, reader, path);
    if (status == TOOL_OK) {
        status = check_metadata(file, path, TOOL_CODES_INPUTS, model->n_inputs);
    }
    if (status == TOOL_OK) {
        status = check_metadata(file, path, TOOL_CODES_LATENTS, model->n_latents);
    }
    if (status == TOOL_OK) status = check_model(job);
    if (status == TOOL_OK && model->normalize && job->codes.moments == 0) {
        status = tool_fail(path, "has no moments, which this model needs");
    }
    return status;
}

static void print_decoded(const decode_job *job) {
    const unsigned long long rows = job->codes.rows;
    const size_t cols = job->inputs.model.n_inputs;
    if (job->common.json) {
        tool_json json = tool_json_line("done");
        tool_json_count(&json, "rows", rows);
        tool_json_count(&json, "cols", cols);
        tool_json_text(&json, "file", job->output);
        tool_json_warnings(&json);
        tool_json_end(&json, '}');
    } else {
        printf("%s: %llu row%s of %zu\n", job->output, rows, tool_plural(rows), cols);
    }
}

static int decode_file(decode_job *job, const msae_safetensors *file, const msae_reader *reader) {
    int status = open_codes_for(job, file, reader);
    if (status == TOOL_OK) status = tool_output_open(&job->file, job->output);
    if (status != TOOL_OK) return status;
    status = decode_rows(job);
    if (status != TOOL_OK) {
        tool_output_drop(&job->file);
        return status;
    }
    status = tool_output_close(&job->file);
    if (status == TOOL_OK) print_decoded(job);
    return status;
}

static int decode(void *context) {
    decode_job *job = context;
    msae_error error;
    msae_reader reader;
    msae_safetensors file;
    job->inputs.as_stored = 1;
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, NULL);
    if (status == TOOL_OK) status = tool_check_input(job->codes_path);
    if (status != TOOL_OK) return status;
    if (tool_open_reader(&reader, job->codes_path, &error) != MSAE_OK) {
        return tool_fail_error(job->codes_path, &error);
    }
    if (msae_safetensors_open(&file, reader, NULL, &error) != MSAE_OK) {
        status = tool_fail_content(job->codes_path, TOOL_CODES, &error);
    } else {
        status = decode_file(job, &file, &reader);
        msae_safetensors_close(&file);
    }
    tool_close_reader(&reader);
    return status;
}

static void close_job(void *context) {
    decode_job *job = context;
    free(job->entries);
    free(job->bytes);
    free(job->moments);
    free(job->out);
    tool_close_inputs(&job->inputs);
}

#define AT(member) offsetof(decode_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(model_path), ""},
    {"CODES", NULL, TOOL_OPERAND, AT(codes_path), ""},
    {"-o", "OUT.npy", TOOL_WRITES_EMBEDDINGS, AT(output), "file to write, float32 (required)"},
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {NULL, TOOL_REQUIRED, "-o"},
};

const tool_command tool_decode = {
    .name = "decode",
    .brief = "turns sparse codes back into embeddings",
    .summary =
        "Writes the embeddings that the codes of msae encode stand for, edited or not. Codes that\n"
        "say which model made them (model in their __metadata__) are only decoded by that one.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(decode_job),
    .run = decode,
    .close = close_job,
};
