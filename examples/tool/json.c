/* A small JSON reader. See json.h. */
#include "json.h"

#include "bytes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A value while its object is open: keys are compared through a hash of them. */
typedef struct node {
    json_value value;
    uint64_t hash;
} node;

typedef struct parser {
    const char *bytes;
    size_t at, size;
    node *nodes; /* every value takes two bytes or more */
    size_t n_nodes, room;
    char *text; /* what texts are put together in: never longer than they stand in the file */
    node *open[JSON_MAX_DEPTH];
    json_value *last[JSON_MAX_DEPTH]; /* the last one of each open list or object */
    size_t depth;
    msae_error *error;
} parser;

/* Always 0. */
static int refuse(const parser *p, size_t at, const char *what) {
    bytes_fail(p->error, MSAE_ERROR_FORMAT, at, "byte %llu: %s", (unsigned long long)at, what);
    return 0;
}

static int next_byte(const parser *p) {
    return p->at < p->size ? (unsigned char)p->bytes[p->at] : -1;
}

static void skip_space(parser *p) {
    while (next_byte(p) == ' ' || next_byte(p) == '\t' || next_byte(p) == '\n' ||
           next_byte(p) == '\r')
        p->at++;
}

static int read_hex(parser *p, unsigned *code) {
    *code = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        const int c = next_byte(p);
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) return refuse(p, p->at, "an escape \\u without four hexadecimal digits");
        *code = *code << 4 | (unsigned)digit;
    }
    return 1;
}

static void put_utf8(parser *p, unsigned code) {
    if (code < 0x80) {
        *p->text++ = (char)code;
        return;
    }
    if (code < 0x800) {
        *p->text++ = (char)(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *p->text++ = (char)(0xe0 | code >> 12);
        } else {
            *p->text++ = (char)(0xf0 | code >> 18);
            *p->text++ = (char)(0x80 | (code >> 12 & 63));
        }
        *p->text++ = (char)(0x80 | (code >> 6 & 63));
    }
    *p->text++ = (char)(0x80 | (code & 63));
}

static int read_escape(parser *p) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const size_t start = p->at++;
    const int c = next_byte(p);
    const char *name = c > 0 ? strchr(names, c) : NULL;
    unsigned code, low;
    p->at++;
    if (name != NULL) {
        *p->text++ = values[name - names];
        return 1;
    }
    if (c != 'u') return refuse(p, start, "an unknown escape");
    if (!read_hex(p, &code)) return 0;
    if (code >= 0xd800 && code < 0xdc00) {
        if (p->size - p->at < 6 || p->bytes[p->at] != '\\' || p->bytes[p->at + 1] != 'u') {
            return refuse(p, start, "half a surrogate pair");
        }
        p->at += 2;
        if (!read_hex(p, &low)) return 0;
        if (low < 0xdc00 || low > 0xdfff) return refuse(p, start, "half a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
        return refuse(p, start, "half a surrogate pair");
    } else if (code == 0) {
        return refuse(p, start, "a zero character");
    }
    put_utf8(p, code);
    return 1;
}

/* The text that the running quote starts. */
static int read_quoted(parser *p, const char **text) {
    const size_t start = p->at++;
    *text = p->text;
    for (;;) {
        const int c = next_byte(p);
        size_t length;
        if (c < 0) return refuse(p, start, "a text without an end");
        if (c < 32) return refuse(p, p->at, "a control character in a text");
        if (c == '"') break;
        if (c == '\\') {
            if (!read_escape(p)) return 0;
            continue;
        }
        length = bytes_utf8((const unsigned char *)p->bytes + p->at, p->size - p->at);
        if (length == 0) return refuse(p, p->at, "no UTF-8");
        memcpy(p->text, p->bytes + p->at, length);
        p->text += length;
        p->at += length;
    }
    p->at++;
    *p->text++ = '\0';
    return 1;
}

static int is_digit(int c) {
    return c >= '0' && c <= '9';
}

static int read_number(parser *p, double *number) {
    const size_t start = p->at;
    char copy[64];
    if (next_byte(p) == '-') p->at++;
    if (!is_digit(next_byte(p))) return refuse(p, start, "no JSON value");
    if (next_byte(p) == '0') {
        p->at++;
    } else {
        while (is_digit(next_byte(p))) p->at++;
    }
    if (next_byte(p) == '.') {
        p->at++;
        if (!is_digit(next_byte(p)))
            return refuse(p, start, "a number without digits behind its point");
        while (is_digit(next_byte(p))) p->at++;
    }
    if (next_byte(p) == 'e' || next_byte(p) == 'E') {
        p->at++;
        if (next_byte(p) == '+' || next_byte(p) == '-') p->at++;
        if (!is_digit(next_byte(p)))
            return refuse(p, start, "a number without digits in its exponent");
        while (is_digit(next_byte(p))) p->at++;
    }
    if (p->at - start >= sizeof copy)
        return refuse(p, start, "a number of more than 63 characters");
    memcpy(copy, p->bytes + start, p->at - start);
    copy[p->at - start] = '\0';
    *number = strtod(copy, NULL); /* the locale is "C": nobody calls setlocale */
    if (!(*number <= 1.7976931348623157e308 && *number >= -1.7976931348623157e308)) {
        return refuse(p, start, "a number that is too large");
    }
    return 1;
}

static uint64_t hash_of(const char *text) {
    uint64_t hash = 14695981039346656037u;
    for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

/* Puts a value behind the last one of the innermost open list or object. */
static void chain(parser *p, json_value *value) {
    json_value *last;
    if (p->depth == 0) return;
    last = p->last[p->depth - 1];
    if (last == NULL) {
        p->open[p->depth - 1]->value.first = value;
    } else {
        last->next = value;
    }
    p->last[p->depth - 1] = value;
}

static int compare_hashes(const void *a, const void *b) {
    const node *x = *(const node *const *)a, *y = *(const node *const *)b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return strcmp(x->value.key, y->value.key);
}

/* Keys are there once: sorted, twins lie side by side. */
static int check_keys(parser *p, const json_value *object) {
    size_t count = 0, i = 0;
    const node **keys;
    int ok = 1;
    for (const json_value *v = object->first; v != NULL; v = v->next) count++;
    if (count < 2) return 1;
    keys = malloc(count * sizeof *keys);
    if (keys == NULL) return refuse(p, p->at, "out of memory");
    for (const json_value *v = object->first; v != NULL; v = v->next) {
        keys[i++] = (const node *)(const void *)v;
    }
    qsort(keys, count, sizeof *keys, compare_hashes);
    for (i = 1; i < count && ok; i++) ok = compare_hashes(&keys[i - 1], &keys[i]) != 0;
    free(keys);
    return ok || refuse(p, p->at, "a key that is twice in the object that ends here");
}

static int read_word(parser *p, json_value *value) {
    static const struct {
        const char *word;
        json_kind kind;
        double number;
    } words[] = {{"null", JSON_NULL, 0},
                 {"true", JSON_BOOL, 1},
                 {"false", JSON_BOOL, 0},
                 {"NaN", JSON_NUMBER, (double)NAN}, /* as Python writes them */
                 {"Infinity", JSON_NUMBER, (double)INFINITY},
                 {"-Infinity", JSON_NUMBER, -(double)INFINITY}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const size_t length = strlen(words[i].word);
        if (p->size - p->at < length || memcmp(p->bytes + p->at, words[i].word, length) != 0) {
            continue;
        }
        p->at += length;
        value->kind = words[i].kind;
        value->number = words[i].number;
        return 1;
    }
    value->kind = JSON_NUMBER;
    return read_number(p, &value->number);
}

/* A key with its colon, if the innermost is an object; then a value, or the start of one. */
static int read_value(parser *p) {
    node *fresh = &p->nodes[p->n_nodes];
    json_value *value = &fresh->value;
    if (p->n_nodes == p->room) return refuse(p, p->at, "more values than bytes");
    p->n_nodes++;
    memset(fresh, 0, sizeof *fresh);
    if (p->depth > 0 && p->open[p->depth - 1]->value.kind == JSON_OBJECT) {
        if (next_byte(p) != '"') return refuse(p, p->at, "a key is missing");
        if (!read_quoted(p, &value->key)) return 0;
        fresh->hash = hash_of(value->key);
        skip_space(p);
        if (next_byte(p) != ':') return refuse(p, p->at, "a colon is missing");
        p->at++;
        skip_space(p);
    }
    chain(p, value);
    if (next_byte(p) == '{' || next_byte(p) == '[') {
        value->kind = next_byte(p) == '{' ? JSON_OBJECT : JSON_LIST;
        if (p->depth == JSON_MAX_DEPTH)
            return refuse(p, p->at, "too many brackets inside each other");
        p->open[p->depth] = fresh;
        p->last[p->depth++] = NULL;
        p->at++;
        return 1;
    }
    if (next_byte(p) == '"') {
        value->kind = JSON_TEXT;
        return read_quoted(p, &value->text);
    }
    return read_word(p, value);
}

/* What may stand behind a value: brackets that close, then a comma. 1 when a value follows. */
static int read_between(parser *p, int *more) {
    *more = 0;
    while (p->depth > 0) {
        const json_value *inside = &p->open[p->depth - 1]->value;
        const int closing = inside->kind == JSON_OBJECT ? '}' : ']';
        skip_space(p);
        if (next_byte(p) == closing) {
            p->at++;
            if (inside->kind == JSON_OBJECT && !check_keys(p, inside)) return 0;
            p->depth--;
            continue;
        }
        if (p->last[p->depth - 1] != NULL) {
            if (next_byte(p) != ',') return refuse(p, p->at, "a comma or a bracket is missing");
            p->at++;
            skip_space(p);
        }
        *more = 1;
        return 1;
    }
    return 1;
}

static int read_all(parser *p) {
    int more = 1;
    skip_space(p);
    while (more) {
        if (!read_value(p) || !read_between(p, &more)) return 0;
    }
    skip_space(p);
    return p->at == p->size || refuse(p, p->at, "something behind the value");
}

msae_status json_parse(json_file *file, const char *bytes, size_t size, msae_error *error) {
    parser p;
    memset(file, 0, sizeof *file);
    memset(&p, 0, sizeof p);
    p.bytes = bytes;
    p.size = size;
    p.error = error;
    if (size > JSON_MAX_BYTES) {
        refuse(&p, 0, "more than 16 MB of JSON");
        return MSAE_ERROR_FORMAT;
    }
    /* values take a byte and a comma at least, all but the first; texts two quotes */
    p.room = size / 2 + 1;
    file->memory = malloc(p.room * sizeof *p.nodes + size + 1);
    if (file->memory == NULL) return bytes_fail_memory(error);
    p.nodes = file->memory;
    p.text = (char *)(p.nodes + p.room);
    if (!read_all(&p)) {
        json_free(file);
        return MSAE_ERROR_FORMAT;
    }
    file->root = &p.nodes[0].value;
    return MSAE_OK;
}

void json_free(json_file *file) {
    free(file->memory);
    memset(file, 0, sizeof *file);
}

const json_value *json_find(const json_value *object, const char *key) {
    if (object == NULL || object->kind != JSON_OBJECT) return NULL;
    for (const json_value *value = object->first; value != NULL; value = value->next) {
        if (strcmp(value->key, key) == 0) return value;
    }
    return NULL;
}
