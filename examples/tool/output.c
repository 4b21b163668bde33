/* Errors for people, JSON for machines. */
#include "tool.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static FILE *errors; /* NULL: standard error */

void tool_errors_to(FILE *file) {
    errors = file;
}

static int has_failed;

int tool_has_failed(void) {
    return has_failed;
}

static FILE *error_file(void) {
    return errors != NULL ? errors : stderr;
}

/* Whatever a file name holds, an error stays on one line. */
static void put_printable(const char *text) {
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        fputc(c < 32 || c == 127 ? '?' : c, error_file());
    }
}

/* "msae: KIND: SUBJECT: TEXT" without an end of line. */
static void put_line(const char *kind, const char *subject, const char *text) {
    fprintf(error_file(), "msae: %s", kind);
    if (subject != NULL) {
        put_printable(subject);
        fputs(": ", error_file());
    }
    put_printable(text);
}

static void put_error(const char *subject, const char *format, va_list arguments) {
    char text[1024];
    has_failed = 1;
    vsnprintf(text, sizeof text, format, arguments);
    put_line("", subject, text);
}

int tool_fail(const char *subject, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    put_error(subject, format, arguments);
    va_end(arguments);
    fputc('\n', error_file());
    return TOOL_FAILED;
}

int tool_fail_error(const char *subject, const msae_error *error) {
    if (error->code == MSAE_ERROR_IO && strcmp(error->message, "cannot be opened") == 0) {
        return tool_fail_open(subject);
    }
    return tool_fail(subject, "%s", error->message);
}

int tool_fail_errno(const char *subject, int code) {
    return tool_fail(subject, "%s", strerror(code));
}

int tool_fail_writing(const char *path) {
    return tool_fail(path, "%s", errno != 0 ? strerror(errno) : "writing failed");
}

int tool_fail_memory(void) {
    return tool_fail(NULL, "%s", msae_status_text(MSAE_ERROR_MEMORY));
}

int tool_usage(const char *command, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    put_error(command, format, arguments);
    va_end(arguments);
    fprintf(error_file(), " (see msae%s%s --help)\n", command != NULL ? " " : "",
            command != NULL ? command : "");
    return TOOL_USAGE;
}

/* Warnings are kept as well, for JSON that is printed later. */
static char warnings[TOOL_MAX_WARNINGS][1024];
static size_t n_warnings;

void tool_warn(const char *subject, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put_line("warning: ", subject, text);
    fputc('\n', error_file());
    if (n_warnings == TOOL_MAX_WARNINGS) return;
    snprintf(warnings[n_warnings++], sizeof warnings[0], "%.200s%s%.800s",
             subject != NULL ? subject : "", subject != NULL ? ": " : "", text);
}

void tool_note(const char *subject, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put_line("note: ", subject, text);
    fputc('\n', error_file());
}

void tool_json_warnings(tool_json *json) {
    tool_json_begin(json, "warnings", '[');
    for (size_t i = 0; i < n_warnings; i++) tool_json_text(json, NULL, warnings[i]);
    tool_json_end(json, ']');
}

const char *tool_plural(unsigned long long count) {
    return count == 1 ? "" : "s";
}

double tool_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void *tool_alloc(size_t count, size_t size) {
    if (count == 0) count = 1;
    return calloc(count, size); /* checks the product */
}

int tool_has_ending(const char *path, const char *ending) {
    const size_t length = strlen(path), bytes = strlen(ending);
    if (length <= bytes) return 0;
    for (size_t i = 0; i < bytes; i++) {
        if (tolower((unsigned char)path[length - bytes + i]) != ending[i]) return 0;
    }
    return path[length - bytes - 1] != '/';
}

/* ---------------------------------------------------------------------------------------------
   Labels
   ------------------------------------------------------------------------------------------ */

/* Bytes of the character at text, a stray byte being one. */
static size_t character_bytes(const char *text) {
    const size_t length = bytes_utf8((const unsigned char *)text, SIZE_MAX);
    return length > 0 ? length : 1;
}

/* The number of characters. */
static size_t count_characters(const char *text, size_t bytes) {
    size_t count = 0;
    for (size_t at = 0; at < bytes; at += character_bytes(text + at)) count++;
    return count;
}

static int is_between_words(char c) {
    return c == ' ' || c == ',' || c == ';' || c == '_' || c == '-' || c == '/';
}

size_t tool_shorten(const char *label, size_t bytes, size_t width) {
    size_t end = 0, words = 0, half = 0;
    if (count_characters(label, bytes) <= width) return bytes;
    for (size_t shown = 0; shown + 1 < width; shown++) {
        if (shown == width / 2) half = end;
        end += character_bytes(label + end);
        if (is_between_words(label[end]) && !is_between_words(label[end - 1])) words = end;
    }
    if (words > half) end = words;
    while (end > 0 && is_between_words(label[end - 1])) end--;
    return end;
}

size_t tool_print_label(const char *label, size_t bytes, size_t width) {
    const size_t shown = tool_shorten(label, bytes, width);
    fwrite(label, 1, shown, stdout);
    if (shown < bytes) fputs("\342\200\246", stdout); /* an ellipsis */
    return count_characters(label, shown) + (shown < bytes);
}

void tool_print_column(const char *label, size_t width) {
    const size_t shown = tool_print_label(label, strlen(label), width);
    printf("%*s", (int)(width - shown), "");
}

/* ---------------------------------------------------------------------------------------------
   JSON
   ------------------------------------------------------------------------------------------ */

static void json_key(tool_json *json, const char *key) {
    if (json->fields++ > 0) fputc(',', json->file);
    if (key != NULL) fprintf(json->file, "\"%s\":", key);
}

tool_json tool_json_line(const char *event) {
    tool_json json = {stdout, 0, 0};
    tool_json_begin(&json, NULL, '{');
    if (event != NULL) tool_json_text(&json, "event", event);
    return json;
}

void tool_json_begin(tool_json *json, const char *key, char bracket) {
    json_key(json, key);
    fputc(bracket, json->file);
    json->fields = 0;
    json->depth++;
}

void tool_json_end(tool_json *json, char bracket) {
    fputc(bracket, json->file);
    json->fields = 1;
    if (--json->depth > 0) return;
    fputc('\n', json->file);
    fflush(json->file);
    json->fields = 0;
}

void tool_json_text(tool_json *json, const char *key, const char *text) {
    const unsigned char *c = (const unsigned char *)text;
    json_key(json, key);
    fputc('"', json->file);
    while (*c != '\0') {
        size_t length = bytes_utf8(c, SIZE_MAX);
        if (length == 0) { /* the replacement character for each stray byte */
            fputs("\\ufffd", json->file);
            length = 1;
        } else if (*c < 32 || *c == '"' || *c == '\\') {
            fprintf(json->file, "\\u%04x", (unsigned)*c);
        } else {
            fwrite(c, 1, length, json->file);
        }
        c += length;
    }
    fputc('"', json->file);
}

void tool_json_escaped(tool_json *json, const char *key, size_t key_bytes, const char *text,
                       size_t text_bytes) {
    json_key(json, NULL);
    fputc('"', json->file);
    fwrite(key, 1, key_bytes, json->file);
    fputs("\":\"", json->file);
    fwrite(text, 1, text_bytes, json->file);
    fputc('"', json->file);
}

void tool_json_count(tool_json *json, const char *key, uint64_t value) {
    json_key(json, key);
    fprintf(json->file, "%llu", (unsigned long long)value);
}

void tool_json_real(tool_json *json, const char *key, double value) {
    json_key(json, key);
    if (isfinite(value)) {
        fprintf(json->file, "%.7g", value);
    } else {
        fputs("null", json->file);
    }
}

void tool_json_bool(tool_json *json, const char *key, int value) {
    json_key(json, key);
    fputs(value ? "true" : "false", json->file);
}

void tool_json_checksum(tool_json *json, const char *key, const msae_model *model) {
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)msae_model_checksum(model));
    tool_json_text(json, key, text);
}

void tool_json_null(tool_json *json, const char *key) {
    json_key(json, key);
    fputs("null", json->file);
}

void tool_json_hits(tool_json *json, const char *key, const char *value, const msae_hit *hits,
                    size_t count, const char *const *labels) {
    tool_json_begin(json, key, '[');
    for (size_t i = 0; i < count; i++) {
        tool_json_begin(json, NULL, '{');
        tool_json_count(json, "row", hits[i].row);
        tool_json_real(json, value, (double)hits[i].value);
        if (labels != NULL) tool_json_text(json, "label", labels[hits[i].row]);
        tool_json_end(json, '}');
    }
    tool_json_end(json, ']');
}

void tool_json_counts(tool_json *json, const char *key, const size_t *values, size_t count) {
    tool_json_begin(json, key, '[');
    for (size_t i = 0; i < count; i++) tool_json_count(json, NULL, values[i]);
    tool_json_end(json, ']');
}
