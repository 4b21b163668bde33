/* What linear_probe.c, attributes.c and alignment.c share: memory in one block, parallel loops, and
   passes over the rows of a set. Private to them. */
#ifndef AUDIT_H
#define AUDIT_H

#include "../../msae.h"

#include "bytes.h"

#include <math.h>
#include <string.h>

static inline msae_status audit_fail_argument(msae_error *error, const char *text) {
    return bytes_fail(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "%s", text);
}

/* ---------------------------------------------------------------------------------------------
   Memory: everything in one block, which one function both counts and lays out
   ------------------------------------------------------------------------------------------ */

enum { AUDIT_ALIGN = 64 };

/* Memory in the making. Without `base` it is only counted. */
typedef struct audit_block {
    unsigned char *base;
    size_t used;
    int ok; /* 0: more than the address space */
} audit_block;

static inline audit_block audit_block_over(void *memory) {
    audit_block block;
    block.base = (unsigned char *)memory;
    if (memory) {
        block.base += (AUDIT_ALIGN - (uintptr_t)memory % AUDIT_ALIGN) % AUDIT_ALIGN;
    }
    block.used = 0;
    block.ok = 1;
    return block;
}

/* a b, or SIZE_MAX, which no block has room for. */
static inline size_t audit_times(size_t a, size_t b) {
    return b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

static inline void *audit_place(audit_block *block, size_t count, size_t bytes) {
    const size_t at = block->used, size = audit_times(count, bytes);
    if (size > SIZE_MAX - 2 * AUDIT_ALIGN - at) {
        block->ok = 0;
        return NULL;
    }
    block->used = at + (size + AUDIT_ALIGN - 1) / AUDIT_ALIGN * AUDIT_ALIGN;
    return block->base ? block->base + at : NULL;
}

#define AUDIT_PLACE(block, type, count) ((type *)audit_place(block, count, sizeof(type)))

/* What a counted block takes, of any alignment. */
static inline size_t audit_block_bytes(const audit_block *block) {
    return block->used + AUDIT_ALIGN;
}

/* Lays out the arrays of `context`. */
typedef void (*audit_layout)(void *context, audit_block *block);

typedef struct audit_memory {
    void *memory;
    size_t bytes;
} audit_memory;

/* Counts, takes and lays out. Release with audit_give. */
static inline msae_status audit_take(audit_memory *taken, const msae_allocator *allocator,
                                     audit_layout layout, void *context, msae_error *error) {
    audit_block block = audit_block_over(NULL);
    layout(context, &block);
    taken->bytes = audit_block_bytes(&block);
    taken->memory = block.ok ? bytes_take(allocator, taken->bytes) : NULL;
    if (!taken->memory) return bytes_fail_memory(error);
    block = audit_block_over(taken->memory);
    layout(context, &block);
    return MSAE_OK;
}

static inline void audit_give(const audit_memory *taken, const msae_allocator *allocator) {
    bytes_give(allocator, taken->memory, taken->bytes);
}

/* ---------------------------------------------------------------------------------------------
   Parallel loops
   ------------------------------------------------------------------------------------------ */

static inline size_t audit_min(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline void audit_for(const msae_parallel *parallel, size_t tasks, msae_task task,
                             void *context) {
    if (parallel->parallel_for && parallel->workers > 1 && tasks > 1) {
        parallel->parallel_for(parallel->user, tasks, task, context);
        return;
    }
    for (size_t i = 0; i < tasks; i++) task(context, i, 0);
}

/* ---------------------------------------------------------------------------------------------
   Rows
   ------------------------------------------------------------------------------------------ */

enum { AUDIT_ROWS = 64 }; /* of a tile */

static inline int audit_is_finite(double value) { /* by its bits: -ffast-math does no harm */
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits >> 52 & 0x7ff) != 0x7ff;
}

static inline double audit_nan(void) {
    const uint64_t bits = (uint64_t)0x7ff8 << 48;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The most probable class; ties: the lower. */
static inline size_t audit_argmax(const float *p, size_t classes) {
    size_t best = 0;
    for (size_t c = 1; c < classes; c++) {
        if (p[c] > p[best]) best = c;
    }
    return best;
}

static inline int audit_row_is_finite(const float *x, size_t d) {
    uint32_t worst = 0;
    for (size_t i = 0; i < d; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        if ((bits & 0x7f800000u) > worst) worst = bits & 0x7f800000u;
    }
    return worst != 0x7f800000u;
}

/* One row of a set as a set. */
static inline msae_data audit_row_of(const msae_data *data, size_t row) {
    msae_data one = *data;
    one.values =
        (const unsigned char *)data->values + row * data->cols * msae_dtype_bytes(data->dtype);
    one.rows = 1;
    return one;
}

/* A row with NaN or Inf as float32: NaN, Inf, or a double beyond float32. */
static inline msae_status audit_fail_row(const msae_data *data, size_t row, msae_error *error) {
    const msae_data one = audit_row_of(data, row);
    const char *tail = " has a NaN or Inf";
    msae_error found;
    if (msae_data_check(&one, &found) != MSAE_OK && strncmp(found.message, "row 0", 5) == 0) {
        tail = found.message + 5;
    }
    return bytes_fail(error, MSAE_ERROR_NOT_FINITE, row, "row %zu%s", row, tail);
}

/* 0 for a row that is left out. */
static inline int audit_row_is_used(const msae_data *data, size_t row) {
    msae_data one;
    if (!data->skip_bad) return 1;
    one = audit_row_of(data, row);
    return msae_data_check(&one, NULL) == MSAE_OK;
}

static inline msae_status audit_check_width(const char *who, size_t takes, const msae_data *data,
                                            msae_error *error) {
    if (data->cols == takes) return MSAE_OK;
    return bytes_fail(error, MSAE_ERROR_SHAPE, MSAE_NO_POSITION,
                      "the data has %zu columns where the %s takes %zu", data->cols, who, takes);
}

/* Whether a model can encode the rows of a set, with the k strongest latents. */
static inline msae_status audit_check_rows(const msae_model *model, const msae_data *data, size_t k,
                                           msae_error *error) {
    const msae_status status = audit_check_width("model", model->n_inputs, data, error);
    size_t row = 0;
    if (status != MSAE_OK) return status;
    if (data->rows == 0) {
        return bytes_fail(error, MSAE_ERROR_SHAPE, MSAE_NO_POSITION, "the data has no rows");
    }
    while (row < data->rows && !audit_row_is_used(data, row)) row++;
    if (row == data->rows) {
        return bytes_fail(error, MSAE_ERROR_SHAPE, MSAE_NO_POSITION, "the data has no usable row");
    }
    if (k > model->n_latents) {
        return bytes_fail(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION,
                          "k = %zu is more than the number of latents", k);
    }
    return MSAE_OK;
}

/* A tile of rows without those that are left out. */
typedef struct audit_tile {
    float *x; /* [AUDIT_ROWS][d] */
    size_t rows;
    size_t row[AUDIT_ROWS]; /* their numbers in the set */
} audit_tile;

/* The used ones among AUDIT_ROWS rows from `first` on. */
static inline msae_status audit_read(audit_tile *tile, const msae_data *data, size_t first,
                                     msae_error *error) {
    const size_t d = data->cols, rows = audit_min(AUDIT_ROWS, data->rows - first);
    const msae_status status = msae_data_read(data, first, rows, tile->x);
    tile->rows = 0;
    for (size_t r = 0; r < rows && status == MSAE_OK; r++) {
        if (!audit_row_is_finite(tile->x + r * d, d)) {
            if (!data->skip_bad) return audit_fail_row(data, first + r, error);
            continue;
        }
        if (tile->rows < r) memcpy(tile->x + tile->rows * d, tile->x + r * d, d * sizeof(float));
        tile->row[tile->rows++] = first + r;
    }
    return status;
}

/* What a call that encoded a tile failed with, under the row's number in the set: its rows are
   finite, so that what is not came about in the model. */
static inline msae_status audit_fail_tile(const audit_tile *tile, const msae_error *found,
                                          msae_error *error) {
    if (found->code == MSAE_ERROR_NOT_FINITE && found->position < tile->rows) {
        const size_t row = tile->row[found->position];
        return bytes_fail(error, MSAE_ERROR_NOT_FINITE, row,
                          "row %zu gives a NaN or Inf in the model", row);
    }
    if (error) *error = *found;
    return found->code;
}

#endif
