/* What the readers of files share: errors that say where, memory of an allocator, arrays that
   grow, parts of files, whole numbers, checksums and UTF-8 in bytes. Needs msae.h alone; a program
   that takes json.c, zip.c or one of the audits takes bytes.c along. All functions are
   thread-safe. */
#ifndef BYTES_H
#define BYTES_H

#include "../../msae.h"

#if defined(__MINGW32__) /* whose own printf does not know %zu */
#define BYTES_PRINTF(text, first) __attribute__((format(gnu_printf, text, first)))
#elif defined(__GNUC__)
#define BYTES_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define BYTES_PRINTF(text, first)
#endif

/* Fills in an error, NULL for none, and returns its code. */
msae_status bytes_fail(msae_error *error, msae_status code, uint64_t position, const char *format,
                       ...) BYTES_PRINTF(4, 5);
/* MSAE_ERROR_MEMORY, likewise. */
msae_status bytes_fail_memory(msae_error *error);

/* Memory of the allocator, or of malloc where that is NULL or empty; at least one byte. NULL: there
   is none. Release with bytes_give and the same size. */
void *bytes_take(const msae_allocator *allocator, size_t size);
/* Releases memory of bytes_take; NULL is fine. */
void bytes_give(const msae_allocator *allocator, void *memory, size_t size);
/* Makes room for `count` items of `size` bytes in an array of bytes_take, which has room for *room
   of them (none: NULL and 0); new ones are zeros. Returns where the items are from then on, and
   raises *room; NULL when there is no memory: then the array is as it was. */
void *bytes_grow(const msae_allocator *allocator, void *items, size_t *room, size_t count,
                 size_t size);

/* Reads a part of a file; MSAE_ERROR_IO where the file has no such part, or it cannot be read. */
msae_status bytes_read(const msae_reader *reader, uint64_t offset, void *out, size_t size,
                       msae_error *error);
/* The same into memory of the allocator; NULL, with the status, when that fails. Release with
   bytes_give. */
void *bytes_read_block(const msae_reader *reader, uint64_t offset, uint64_t size,
                       const msae_allocator *allocator, msae_status *status, msae_error *error);

/* A whole number of `count` bytes, 8 at most, little-endian on every machine. */
uint64_t bytes_get(const unsigned char *bytes, size_t count);
/* Writes the lowest `count` bytes of a whole number, little-endian on every machine. */
void bytes_put(unsigned char *bytes, size_t count, uint64_t value);
/* The float32 of these bits, and the bits of a float32. */
float bytes_float(uint32_t bits);
uint32_t bytes_of_float(float value);

/* CRC-32 as zip has it. */
uint32_t bytes_crc(const void *bytes, size_t size);

/* Bytes of the UTF-8 character at text, of which `left` bytes are there (SIZE_MAX: a text that ends
   in a zero); 0 when it is none. */
size_t bytes_utf8(const unsigned char *text, size_t left);

#endif /* BYTES_H */
