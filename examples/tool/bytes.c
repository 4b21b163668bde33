/* Errors, memory, parts of files, numbers, checksums and characters. See bytes.h. */
#include "bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

msae_status bytes_fail(msae_error *error, msae_status code, uint64_t position, const char *format,
                       ...) {
    va_list arguments;
    if (error == NULL) return code;
    error->code = code;
    error->position = position;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    return code;
}

msae_status bytes_fail_memory(msae_error *error) {
    return bytes_fail(error, MSAE_ERROR_MEMORY, MSAE_NO_POSITION, "%s",
                      msae_status_text(MSAE_ERROR_MEMORY));
}

void *bytes_take(const msae_allocator *allocator, size_t size) {
    if (size == 0) size = 1;
    if (allocator == NULL || allocator->alloc == NULL) return malloc(size);
    return allocator->alloc(size, allocator->user);
}

void bytes_give(const msae_allocator *allocator, void *memory, size_t size) {
    if (allocator == NULL || allocator->alloc == NULL) {
        free(memory);
    } else if (memory != NULL && allocator->free != NULL) {
        allocator->free(memory, size > 0 ? size : 1, allocator->user);
    }
}

void *bytes_grow(const msae_allocator *allocator, void *items, size_t *room, size_t count,
                 size_t size) {
    size_t more = *room > 0 ? *room : 16;
    if (count <= *room) return items;
    while (more < count && more <= SIZE_MAX / 2) more *= 2;
    if (more < count || more > SIZE_MAX / size) return NULL;
    unsigned char *fresh = (unsigned char *)bytes_take(allocator, more * size);
    if (fresh == NULL) return NULL;
    if (*room > 0) memcpy(fresh, items, *room * size);
    memset(fresh + *room * size, 0, (more - *room) * size);
    bytes_give(allocator, items, *room * size);
    *room = more;
    return fresh;
}

msae_status bytes_read(const msae_reader *reader, uint64_t offset, void *out, size_t size,
                       msae_error *error) {
    if (offset <= reader->size && size <= reader->size - offset &&
        (size == 0 || reader->read(reader->user, offset, out, size))) {
        return MSAE_OK;
    }
    return bytes_fail(error, MSAE_ERROR_IO, offset, "could not be read at byte %llu",
                      (unsigned long long)offset);
}

void *bytes_read_block(const msae_reader *reader, uint64_t offset, uint64_t size,
                       const msae_allocator *allocator, msae_status *status, msae_error *error) {
    void *block = size < SIZE_MAX ? bytes_take(allocator, (size_t)size) : NULL;
    *status = block == NULL ? bytes_fail_memory(error)
                            : bytes_read(reader, offset, block, (size_t)size, error);
    if (*status != MSAE_OK && block != NULL) {
        bytes_give(allocator, block, (size_t)size);
        block = NULL;
    }
    return block;
}

uint64_t bytes_get(const unsigned char *bytes, size_t count) {
    uint64_t value = 0;
    while (count > 0) value = value << 8 | bytes[--count];
    return value;
}

void bytes_put(unsigned char *bytes, size_t count, uint64_t value) {
    for (size_t i = 0; i < count; i++) bytes[i] = (unsigned char)(value >> (8 * i));
}

float bytes_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint32_t bytes_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Eight bytes at a time, by a table for each of them. */
uint32_t bytes_crc(const void *bytes, size_t size) {
    const unsigned char *at = (const unsigned char *)bytes;
    uint32_t tables[8][256], crc = 0xffffffffu;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (0xedb88320u & (0u - (value & 1)));
        tables[0][i] = value;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (size_t t = 1; t < 8; t++) {
            const uint32_t before = tables[t - 1][i];
            tables[t][i] = before >> 8 ^ tables[0][before & 255];
        }
    }
    for (; size >= 8; size -= 8, at += 8) {
        const uint32_t low = crc ^ (uint32_t)bytes_get(at, 4);
        crc = tables[7][low & 255] ^ tables[6][low >> 8 & 255] ^ tables[5][low >> 16 & 255] ^
              tables[4][low >> 24] ^ tables[3][at[4]] ^ tables[2][at[5]] ^ tables[1][at[6]] ^
              tables[0][at[7]];
    }
    for (; size > 0; size--, at++) crc = crc >> 8 ^ tables[0][(crc ^ *at) & 255];
    return ~crc;
}

size_t bytes_utf8(const unsigned char *text, size_t left) {
    const unsigned first = text[0];
    const size_t length = first < 0x80   ? 1
                          : first < 0xc2 ? 0
                          : first < 0xe0 ? 2
                          : first < 0xf0 ? 3
                          : first < 0xf5 ? 4
                                         : 0;
    if (length == 0 || length > left) return 0;
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
    }
    /* too long a form, half a surrogate pair, beyond the last character */
    if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f) ||
        (first == 0xf0 && text[1] < 0x90) || (first == 0xf4 && text[1] > 0x8f)) {
        return 0;
    }
    return length;
}
