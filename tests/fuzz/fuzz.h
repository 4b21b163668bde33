/* What the fuzz targets share: the library's own copy, checks that end the program, numbers taken
   from the input, blocks of exact size, and files spelled as text.

   A target is one file, fuzz_NAME.c. It includes this file first, defines LLVMFuzzerTestOneInput,
   and says on a line of its own which options of libFuzzer suit it:
       Options: -max_len=512
   and, if it has any, the dictionaries (NAME.dict) it wants:
       Dictionaries: npy safetensors
   Its seeds are in seeds.c; an input that found something becomes one, under a name that says what.
   `make test` replays them with any compiler; `make fuzz` needs clang. */
#ifndef FUZZ_H
#define FUZZ_H

#define _POSIX_C_SOURCE 200809L

#define MSAE_IMPLEMENTATION
#define MSAE_STATIC
#define MSAE_USE_PTHREADS
#include "msae.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---------------------------------------------------------------------------------------------
   Checks
   ------------------------------------------------------------------------------------------ */

static inline void fuzz_fail(const char *text, const char *file, int line) {
    fprintf(stderr, "%s:%d: %s does not hold\n", file, line, text);
    abort();
}

#define CHECK(condition) ((condition) ? (void)0 : fuzz_fail(#condition, __FILE__, __LINE__))

/* ---------------------------------------------------------------------------------------------
   Blocks of exactly the size asked for, so that a sanitizer sees the first byte beyond. All are
   freed at once when the input is done with.
   ------------------------------------------------------------------------------------------ */

enum { FUZZ_BLOCKS = 1024 };

static void *fuzz_blocks[FUZZ_BLOCKS];
static size_t fuzz_n_blocks;

static inline void *fuzz_take(size_t bytes) {
    void *block = calloc(bytes ? bytes : 1, 1); /* zeros: every run of an input is the same */
    CHECK(block && fuzz_n_blocks < FUZZ_BLOCKS);
    return fuzz_blocks[fuzz_n_blocks++] = block;
}

static inline void *fuzz_copy(const void *from, size_t bytes) {
    void *copy = fuzz_take(bytes);
    if (bytes) memcpy(copy, from, bytes);
    return copy;
}

static inline char *fuzz_string(const void *from, size_t bytes) {
    char *copy = (char *)fuzz_take(bytes + 1);
    if (bytes) memcpy(copy, from, bytes);
    copy[bytes] = 0;
    return copy;
}

static inline void fuzz_release(void) {
    while (fuzz_n_blocks > 0) free(fuzz_blocks[--fuzz_n_blocks]);
}

/* A heap behind the allocator hook that knows the most that was ever held at once. */
typedef struct fuzz_heap {
    size_t held, most;
} fuzz_heap;

static inline void *fuzz_heap_alloc(size_t bytes, void *user) {
    fuzz_heap *heap = (fuzz_heap *)user;
    heap->held += bytes;
    if (heap->held > heap->most) heap->most = heap->held;
    return malloc(bytes ? bytes : 1);
}

static inline void fuzz_heap_free(void *memory, size_t bytes, void *user) {
    if (memory) ((fuzz_heap *)user)->held -= bytes;
    free(memory);
}

static inline msae_allocator fuzz_heap_allocator(fuzz_heap *heap) {
    msae_allocator allocator = {fuzz_heap_alloc, fuzz_heap_free, heap};
    heap->held = heap->most = 0;
    return allocator;
}

/* ---------------------------------------------------------------------------------------------
   Numbers from the input
   ------------------------------------------------------------------------------------------ */

typedef struct fuzz_input {
    const uint8_t *at;
    size_t left;
    uint64_t random; /* what floats are made of when the input has come to its end */
    int tame;        /* 1: floats are small numbers only */
} fuzz_input;

static inline fuzz_input fuzz_input_of(const uint8_t *bytes, size_t size) {
    fuzz_input in = {bytes, size, size, 0};
    return in;
}

/* The next byte; 0 beyond the end. */
static inline unsigned fuzz_byte(fuzz_input *in) {
    if (in->left == 0) return 0;
    in->left--;
    return *in->at++;
}

/* A number below `limit` (at most 65536). */
static inline size_t fuzz_below(fuzz_input *in, size_t limit) {
    unsigned number = fuzz_byte(in);
    if (limit > 256) number |= fuzz_byte(in) << 8;
    return number % limit;
}

static inline uint32_t fuzz_bits(fuzz_input *in) {
    uint32_t bits = 0;
    for (int i = 0; i < 4; i++) bits = bits << 8 | fuzz_byte(in);
    return bits;
}

/* One byte makes an extreme or a small number, or says that four bytes of bits follow. Past the end
   numbers are random in [-1, 1), so that a short input fills arrays too. */
static inline float fuzz_float(fuzz_input *in) {
    static const uint32_t extremes[] = {
        0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x00800000, 0x80800001, 0x7f7fffff,
        0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7e967699, 0x0da24260,
        0x3f800000, 0xbf800000, 0x3f800001, 0x3f7fffff, 0x4b800000, 0x5d5e0b6b,
    };
    unsigned byte;
    if (in->left == 0) {
        in->random = in->random * 6364136223846793005u + 1442695040888963407u;
        return (float)(in->random >> 40) * 0x1p-23f - 1.0f;
    }
    byte = fuzz_byte(in);
    if (byte < COUNT(extremes) && !in->tame) return msae__bits_float(extremes[byte]);
    if (byte < 224 || in->tame) return ((float)byte - 122.0f) / 16;
    return msae__bits_float(fuzz_bits(in));
}

/* The same, but 1 for NaN and Inf. */
static inline float fuzz_finite(fuzz_input *in) {
    float value = fuzz_float(in);
    return msae__is_finite(value) ? value : 1;
}

static inline int fuzz_same_floats(const float *a, const float *b, size_t count) {
    return memcmp(a, b, count * sizeof *a) == 0;
}

/* The same bits, or NaN both: which NaN it is depends on the instructions. */
static inline int fuzz_same_numbers(const float *a, const float *b, size_t count) {
    size_t i = 0;
    while (i < count && (fuzz_same_floats(a + i, b + i, 1) || (isnan(a[i]) && isnan(b[i])))) i++;
    return i == count;
}

/* The next path after `simd` that this machine can run. */
static inline msae_simd fuzz_next_path(msae_simd simd) {
    do {
        simd = (msae_simd)(simd + 1);
    } while (simd < MSAE_SIMD_COUNT && !msae__simd_available(simd));
    return simd;
}

#define FOR_EACH_PATH(simd)                                                       \
    for (msae_simd simd = fuzz_next_path(MSAE_SIMD_AUTO); simd < MSAE_SIMD_COUNT; \
         simd = fuzz_next_path(simd))

/* ---------------------------------------------------------------------------------------------
   Files
   ------------------------------------------------------------------------------------------ */

typedef struct fuzz_file {
    unsigned char *bytes;
    size_t size;
} fuzz_file;

typedef enum fuzz_format { FUZZ_SAFETENSORS, FUZZ_NPY } fuzz_format;

enum { FUZZ_MAX_DATA = 4095 };

/* The file that an input stands for, in a block of its own size. One that starts with '{' is the
   text of a header up to a zero byte, then a number of two bytes, the size of the data, and then a
   pattern that the data repeats: what depends on the header's length and the amount of data stays
   right while the text changes. Any other input is a file as it is. */
static inline fuzz_file fuzz_file_of(const uint8_t *input, size_t size, fuzz_format format) {
    fuzz_file file = {NULL, size};
    const uint8_t *end = size ? (const uint8_t *)memchr(input, 0, size) : NULL;
    const size_t text = end ? (size_t)(end - input) : size;
    const size_t prefix = format == FUZZ_NPY ? 10 : 8;
    const uint8_t *pattern = input + text + 3;
    size_t data, period;
    if (size == 0 || input[0] != '{') {
        file.bytes = (unsigned char *)fuzz_copy(input, size);
        return file;
    }
    data = size >= text + 3 ? (input[text + 1] | (size_t)input[text + 2] << 8) & FUZZ_MAX_DATA : 0;
    period = size > text + 3 ? size - text - 3 : 0;
    file.size = prefix + text + data;
    file.bytes = (unsigned char *)fuzz_take(file.size);
    if (format == FUZZ_NPY) {
        memcpy(file.bytes, "\x93NUMPY\x01\x00", 8);
        msae__store_le(file.bytes + 8, 2, text);
    } else {
        msae__store_le(file.bytes, 8, text);
    }
    memcpy(file.bytes + prefix, input, text);
    for (size_t i = 0; i < data; i++) {
        file.bytes[prefix + text + i] = period ? pattern[i % period] : 0;
    }
    return file;
}

/* Spoils a key of the header, whatever stands behind it: the same length, no longer known. */
static inline void fuzz_rename_key(fuzz_file *file, const char *key) {
    const size_t length = strlen(key), header = 8 + (size_t)msae__load_le(file->bytes, 8);
    for (size_t at = 8; at + length <= header; at++) {
        if (file->bytes[at] == (unsigned char)*key && /* (traced calls are slow) */
            memcmp(file->bytes + at, key, length) == 0) {
            file->bytes[at] = '_';
        }
    }
}

#endif
