/* A small JSON reader for configurations: strict, without recursion, of bounded depth. Needs msae.h
   and bytes.c. */
#ifndef JSON_H
#define JSON_H

#include "../../msae.h"

typedef enum json_kind {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_TEXT,
    JSON_LIST,
    JSON_OBJECT
} json_kind;

/* One value; those of lists and objects are chained. */
typedef struct json_value json_value;
struct json_value {
    json_kind kind;
    const char *key;                /* in an object: terminated, escapes undone; else NULL */
    const char *text;               /* JSON_TEXT: likewise */
    double number;                  /* JSON_NUMBER, may be NaN or Inf; JSON_BOOL: 0 or 1 */
    const json_value *first, *next; /* first inside a list or object; next in the same one */
};

/* Lists and objects in each other, at most; and bytes of a file. */
#define JSON_MAX_DEPTH 64
#define JSON_MAX_BYTES (16 << 20)

/* A parsed text; owns its values. */
typedef struct json_file {
    const json_value *root;
    void *memory;
} json_file;

/* Parses a whole text: RFC 8259, UTF-8, keys once in each object, no zero characters;
   and NaN, Infinity and -Infinity, which Python writes. Errors say
   the byte. Takes 64 times the bytes at most. Nothing of `bytes` is needed afterwards. */
msae_status json_parse(json_file *file, const char *bytes, size_t size, msae_error *error);
/* Fine on a zeroed struct. */
void json_free(json_file *file);

/* The value of a key, or NULL (also when `object` is NULL or none). */
const json_value *json_find(const json_value *object, const char *key);

#endif /* JSON_H */
