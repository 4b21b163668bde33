/* msae encode: embeddings in, a file of sparse codes out, block by block. */
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BLOCK_CODES = 1 << 20, /* codes that are held densely at a time, unless one row has more */
    BLOCK_ROWS = 1024
};

/* ---------------------------------------------------------------------------------------------
   Blocks of encoded rows
   ------------------------------------------------------------------------------------------ */

typedef struct block_buffers {
    size_t rows, *counts;
    void *workspace;
    float *x;
    uint8_t *bad;
    msae_code *codes;
} block_buffers;

/* Rows of a source; errors are told of the set, or of the path when there is none. */
typedef struct row_input {
    const msae_source *source;
    const tool_rows *rows;
    const char *path;
    int skip_bad;
} row_input;

static int fail_input(const row_input *input, const msae_error *error) {
    return input->rows != NULL ? tool_fail_rows(input->rows, error)
                               : tool_fail_error(input->path, error);
}

/* Marks bad rows of a block, and clears them; counts[r] is 0 for them in the end. */
static size_t mark_bad(const block_buffers *buffers, size_t rows, size_t cols) {
    size_t count = 0;
    for (size_t r = 0; r < rows; r++) {
        float *x = buffers->x + r * cols;
        buffers->bad[r] = (uint8_t)tool_is_bad(x, cols);
        if (buffers->bad[r]) memset(x, 0, cols * sizeof *x);
        count += buffers->bad[r];
    }
    return count;
}

static size_t first_bad(const uint8_t *bad) {
    size_t r = 0;
    while (!bad[r]) r++;
    return r;
}

static int encode_blocks(const msae_model *model, const row_input *input, size_t k,
                         const block_buffers *buffers, tool_encoded_fn on_block, void *user) {
    const msae_source *source = input->source;
    tool_encoded block;
    uint64_t skipped = 0, first_skipped = 0;
    int status = TOOL_OK;
    block.x = buffers->x;
    block.bad = buffers->bad;
    block.codes = buffers->codes;
    block.counts = buffers->counts;
    block.stride = k > 0 ? k : model->n_latents;
    for (block.first = 0; block.first < source->rows && status == TOOL_OK;
         block.first += block.rows) {
        msae_error error;
        const uint64_t left = source->rows - block.first;
        block.rows = left < buffers->rows ? (size_t)left : buffers->rows;
        if (source->read(source->user, block.first, block.rows, buffers->x, &error) != MSAE_OK) {
            return fail_input(input, &error);
        }
        const size_t bad = input->skip_bad ? mark_bad(buffers, block.rows, source->cols) : 0;
        if (bad > 0 && skipped == 0) first_skipped = block.first + first_bad(buffers->bad);
        skipped += bad;
        if (msae_encode_rows(model, buffers->workspace, buffers->x, block.rows, k,
                             &(msae_rows){buffers->codes, buffers->counts, block.stride},
                             &error) != MSAE_OK) {
            tool_shift_row(&error, block.first);
            return fail_input(input, &error);
        }
        for (size_t r = 0; bad > 0 && r < block.rows; r++) {
            if (buffers->bad[r]) buffers->counts[r] = 0;
        }
        status = on_block(user, &block);
    }
    if (status != TOOL_OK || input->rows == NULL) return status; /* (data in memory: it was said) */
    return tool_skip_rows(input->rows, input->rows->files.shards[0].dtype, source->rows, skipped,
                          first_skipped);
}

static int encode_input(const msae_model *model, const row_input *input, size_t k,
                        tool_encoded_fn on_block, void *user) {
    const size_t stride = k > 0 ? k : model->n_latents;
    block_buffers buffers = {BLOCK_CODES / stride, NULL, NULL, NULL, NULL, NULL};
    if (k > model->n_latents) {
        return tool_fail("--k", "%zu is more than the model's %zu latents", k, model->n_latents);
    }
    if (buffers.rows > BLOCK_ROWS) buffers.rows = BLOCK_ROWS;
    if (buffers.rows == 0) buffers.rows = 1;
    buffers.counts = tool_alloc(buffers.rows, sizeof *buffers.counts);
    buffers.workspace = tool_alloc(msae_workspace_bytes(model, buffers.rows), 1);
    buffers.x = tool_alloc(buffers.rows, model->n_inputs * sizeof *buffers.x);
    buffers.bad = tool_alloc(buffers.rows, sizeof *buffers.bad);
    buffers.codes = tool_alloc(buffers.rows, stride * sizeof *buffers.codes);
    int complete = buffers.counts != NULL && buffers.workspace != NULL && buffers.x != NULL &&
                   buffers.bad != NULL && buffers.codes != NULL;
    int status =
        complete ? encode_blocks(model, input, k, &buffers, on_block, user) : tool_fail_memory();
    free(buffers.counts);
    free(buffers.workspace);
    free(buffers.x);
    free(buffers.bad);
    free(buffers.codes);
    return status;
}

int tool_encode_data(const msae_model *model, const msae_data *data, const char *path, size_t k,
                     tool_encoded_fn on_block, void *user) {
    const msae_source source = msae_source_data(data);
    const row_input input = {&source, NULL, path, data->skip_bad};
    return encode_input(model, &input, k, on_block, user);
}

/* The same of a set of files, of which a block of rows is in memory at a time. With skip_bad rows
   are left out as TOOL_BAD_SKIPPED has it. */
static int encode_rows(const msae_model *model, const tool_rows *rows, int skip_bad, size_t k,
                       tool_encoded_fn on_block, void *user) {
    const row_input input = {&rows->files.source, rows, rows->name, skip_bad};
    return encode_input(model, &input, k, on_block, user);
}

/* ---------------------------------------------------------------------------------------------
   Writing a codes file. How many codes there are is known at the end only, and a safetensors file
   has no holes: so values go to a file beside it and are appended last, while everything before
   them goes to its place at once.
   ------------------------------------------------------------------------------------------ */

enum { HEADER_BYTES = 1024 }; /* the JSON is padded with spaces, as the format allows */

typedef struct encode_job {
    tool_common common;
    const char *model_path, *output;
    const char *first_data;
    tool_rest more;
    size_t k;
    tool_inputs inputs;
    tool_rows rows;

    tool_output file;
    FILE *values; /* of the codes so far */
    char *values_name;
    unsigned char *buffer; /* of a block */
    size_t buffer_bytes;
    uint64_t entries;
} encode_job;

static uint64_t indptr_offset(void) {
    return HEADER_BYTES;
}

static uint64_t moments_offset(const encode_job *job) {
    return indptr_offset() + (job->rows.files.source.rows + 1) * sizeof(int64_t);
}

static uint64_t indices_offset(const encode_job *job) {
    const uint64_t moments = job->inputs.model.normalize ? 2 * sizeof(float) : 0;
    return moments_offset(job) + job->rows.files.source.rows * moments;
}

static int put_at(const encode_job *job, uint64_t offset, const void *bytes, size_t count) {
    errno = 0;
    if (offset > INT64_MAX || fseeko(job->file.file, (off_t)offset, SEEK_SET) != 0 ||
        fwrite(bytes, 1, count, job->file.file) != count) {
        return tool_fail_writing(job->output);
    }
    return TOOL_OK;
}

/* Room for `bytes` bytes of a block. */
static int make_room(encode_job *job, size_t bytes) {
    if (bytes <= job->buffer_bytes) return TOOL_OK;
    unsigned char *buffer = realloc(job->buffer, bytes);
    if (buffer == NULL) return tool_fail_memory();
    job->buffer = buffer;
    job->buffer_bytes = bytes;
    return TOOL_OK;
}

static int write_starts(encode_job *job, const tool_encoded *block) {
    uint64_t entries = job->entries;
    for (size_t r = 0; r < block->rows; r++) {
        entries += block->counts[r];
        bytes_put(job->buffer + 8 * r, 8, entries);
    }
    return put_at(job, indptr_offset() + 8 * (block->first + 1), job->buffer, 8 * block->rows);
}

static int write_moments(encode_job *job, const tool_encoded *block) {
    const msae_model *model = &job->inputs.model;
    for (size_t r = 0; r < block->rows; r++) {
        float moments[2] = {0, 1};
        if (!block->bad[r]) msae_row_moments(model, block->x + r * model->n_inputs, moments);
        bytes_put(job->buffer + 8 * r, 4, bytes_of_float(moments[0]));
        bytes_put(job->buffer + 8 * r + 4, 4, bytes_of_float(moments[1]));
    }
    return put_at(job, moments_offset(job) + 8 * block->first, job->buffer, 8 * block->rows);
}

static int write_codes(encode_job *job, const tool_encoded *block) {
    size_t bytes = 0;
    for (size_t r = 0; r < block->rows; r++) {
        const msae_code *codes = block->codes + r * block->stride;
        for (size_t i = 0; i < block->counts[r]; i++, bytes += 4) {
            bytes_put(job->buffer + bytes, 4, codes[i].latent);
        }
    }
    int status = put_at(job, indices_offset(job) + 4 * job->entries, job->buffer, bytes);
    if (status != TOOL_OK) return status;
    bytes = 0;
    for (size_t r = 0; r < block->rows; r++) {
        const msae_code *codes = block->codes + r * block->stride;
        for (size_t i = 0; i < block->counts[r]; i++, bytes += 4) {
            bytes_put(job->buffer + bytes, 4, bytes_of_float(codes[i].value));
        }
    }
    if (fwrite(job->buffer, 1, bytes, job->values) != bytes) return tool_fail_writing(job->output);
    job->entries += bytes / 4;
    return TOOL_OK;
}

static int on_encoded(void *user, const tool_encoded *block) {
    encode_job *job = user;
    size_t entries = 0;
    for (size_t r = 0; r < block->rows; r++) entries += block->counts[r];
    int status = make_room(job, 4 * entries > 8 * block->rows ? 4 * entries : 8 * block->rows);
    if (status == TOOL_OK) status = write_starts(job, block);
    if (status == TOOL_OK && job->inputs.model.normalize) status = write_moments(job, block);
    if (status == TOOL_OK) status = write_codes(job, block);
    return status;
}

/* The values behind the indices. */
static int append_values(encode_job *job) {
    uint64_t at = indices_offset(job) + 4 * job->entries;
    errno = 0;
    if (fflush(job->values) != 0 || fseeko(job->values, 0, SEEK_SET) != 0) {
        return tool_fail_writing(job->output);
    }
    int status = make_room(job, 1 << 20);
    for (uint64_t left = 4 * job->entries; left > 0 && status == TOOL_OK;) {
        const size_t bytes = left < 1 << 20 ? (size_t)left : 1 << 20;
        if (fread(job->buffer, 1, bytes, job->values) != bytes)
            return tool_fail_writing(job->output);
        status = put_at(job, at, job->buffer, bytes);
        at += bytes;
        left -= bytes;
    }
    return status;
}

static int write_header(const encode_job *job) {
    const msae_model *model = &job->inputs.model;
    const unsigned long long rows = job->rows.files.source.rows, entries = job->entries;
    const unsigned long long starts_end = 8 * (rows + 1);
    const unsigned long long moments_end = starts_end + (model->normalize ? 8 * rows : 0);
    const char *own = job->common.own_statistics ? ",\"" TOOL_CODES_OWN "\":\"1\"" : "";
    char refined[48] = "";
    char header[HEADER_BYTES + 1], moments[128] = "";
    if (model->normalize) {
        snprintf(moments, sizeof moments,
                 "\"moments\":{\"dtype\":\"F32\",\"shape\":[%llu,2],\"data_offsets\":[%llu,%llu]},",
                 rows, starts_end, moments_end);
    }
    if (model->refine > 0) {
        snprintf(refined, sizeof refined, ",\"" TOOL_CODES_REFINE "\":\"%d\"", model->refine - 1);
    }
    const int length = snprintf(
        header + 8, HEADER_BYTES - 8,
        "{\"__metadata__\":{\"" TOOL_CODES_INPUTS "\":\"%zu\",\"" TOOL_CODES_LATENTS
        "\":\"%zu\",\"" TOOL_CODES_K "\":\"%zu\",\"" TOOL_CODES_MODEL "\":\"%016llx\"%s%s},"
        "\"indptr\":{\"dtype\":\"I64\",\"shape\":[%llu],\"data_offsets\":[0,%llu]},%s"
        "\"indices\":{\"dtype\":\"I32\",\"shape\":[%llu],\"data_offsets\":[%llu,%llu]},"
        "\"values\":{\"dtype\":\"F32\",\"shape\":[%llu],\"data_offsets\":[%llu,%llu]}}",
        model->n_inputs, model->n_latents, job->k > 0 ? job->k : model->k,
        (unsigned long long)msae_model_checksum(&job->inputs.stored), own, refined, rows + 1,
        starts_end, moments, entries, moments_end, moments_end + 4 * entries, entries,
        moments_end + 4 * entries, moments_end + 8 * entries);
    memset(header + 8 + length, ' ', (size_t)(HEADER_BYTES - 8 - length));
    bytes_put((unsigned char *)header, 8, HEADER_BYTES - 8);
    return put_at(job, 0, header, HEADER_BYTES);
}

static int open_values(encode_job *job) {
    const size_t bytes = strlen(job->output) + 48;
    job->values_name = malloc(bytes);
    if (job->values_name == NULL) return tool_fail_memory();
    snprintf(job->values_name, bytes, "%s.%ld.values.tmp", job->output, (long)getpid());
    job->values = fopen(job->values_name, "w+b");
    return job->values != NULL ? TOOL_OK : tool_fail_errno(job->output, errno);
}

static int write_all(encode_job *job) {
    const unsigned char zero[8] = {0};
    int status = open_values(job);
    if (status == TOOL_OK) status = put_at(job, indptr_offset(), zero, sizeof zero);
    if (status == TOOL_OK) {
        status = encode_rows(&job->inputs.model, &job->rows, job->common.skip_bad, job->k,
                             on_encoded, job);
    }
    if (status == TOOL_OK) status = append_values(job);
    if (status == TOOL_OK) status = write_header(job);
    if (job->values != NULL) {
        fclose(job->values);
        remove(job->values_name);
    }
    return status;
}

static void print_encoded(const encode_job *job) {
    const unsigned long long rows = job->rows.files.source.rows;
    const double l0 = (double)job->entries / (double)(rows - tool_rows_skipped());
    if (job->common.json) {
        tool_json json = tool_json_line("done");
        tool_json_count(&json, "rows", rows);
        tool_json_k(&json, &job->inputs.model, job->k);
        tool_json_count(&json, "entries", job->entries);
        tool_json_real(&json, "l0", l0);
        tool_json_text(&json, "file", job->output);
        tool_json_done(&json);
    } else {
        char text[TOOL_K_TEXT];
        printf("%s: %llu row%s, %.1f active latents a row (%s)\n", job->output, rows,
               tool_plural(rows), l0, tool_k_text(&job->inputs.model, job->k, text));
    }
}

static int open_data(encode_job *job) {
    int status = tool_add_rows(&job->rows, job->first_data);
    for (size_t i = 0; i < job->more.count && status == TOOL_OK; i++) {
        status = tool_add_rows(&job->rows, job->more.values[i]);
    }
    if (status == TOOL_OK) {
        status = tool_open_rows(&job->rows, job->common.tensor, job->inputs.model.n_inputs);
    }
    if (status != TOOL_OK) return status;
    return tool_centre(&job->inputs.model, &job->common, &job->rows.files.source, job->rows.name,
                       &job->inputs.mean);
}

static int encode(void *context) {
    encode_job *job = context;
    job->inputs.as_stored = 1;
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, NULL);
    if (status == TOOL_OK) status = tool_settle_k(&job->inputs.model, job->model_path, &job->k);
    if (status == TOOL_OK) status = open_data(job);
    if (status != TOOL_OK) return status;
    if (job->inputs.model.n_latents > INT32_MAX) {
        return tool_fail(job->model_path, "has more latents than a codes file can number");
    }
    status = tool_output_open(&job->file, job->output);
    if (status != TOOL_OK) return status;
    tool_note_rows(&job->rows);
    status = write_all(job);
    if (status == TOOL_OK) {
        status = tool_output_close(&job->file);
    } else {
        tool_output_drop(&job->file);
    }
    if (status == TOOL_OK) print_encoded(job);
    return status;
}

static void close_job(void *context) {
    encode_job *job = context;
    free(job->values_name);
    free(job->buffer);
    tool_close_rows(&job->rows);
    tool_close_inputs(&job->inputs);
}

#define AT(member) offsetof(encode_job, member)

static const tool_option options[] = {
    {"MODEL", NULL, TOOL_OPERAND, AT(model_path), ""},
    {"DATA", NULL, TOOL_OPERAND, AT(first_data), ""},
    {"DATA", NULL, TOOL_REST, AT(more), ""},
    {"-o", "CODES", TOOL_WRITES_CODES, AT(output), "file to write, a safetensors (required)"},
    TOOL_OPTION_K(encode_job, k),
    TOOL_OPTION_REFINE,
    TOOL_OPTION_OWN_STATISTICS,
    TOOL_OPTION_SKIP_BAD,
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {NULL, TOOL_REQUIRED, "-o"},
    {"--tensor", TOOL_READS, "DATA"},
};

const tool_command tool_encode = {
    .name = "encode",
    .brief = "turns embeddings into sparse codes",
    .summary =
        "Writes the active latents of every row of DATA, strongest first, as compressed sparse\n"
        "rows: the tensors indptr I64 [rows + 1], indices I32 and values F32; row r has the\n"
        "entries indptr[r] .. indptr[r + 1] - 1. A model that normalizes rows adds moments F32\n"
        "[rows, 2], each row's mean and deviation. Several files are one set, as with msae train;\n"
        "neither rows nor codes are held in memory. A row that --skip-bad leaves out has no\n"
        "entries. The file's __metadata__ says which model made it. With --own-statistics msae\n"
        "decode gives rows about the model's mean.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(encode_job),
    .run = encode,
    .close = close_job,
};
