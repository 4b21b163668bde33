/* Sets of files as one source of rows: names, patterns and lists. */
#include "tool.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---------------------------------------------------------------------------------------------
   Which files
   ------------------------------------------------------------------------------------------ */

static int add_path(tool_rows *rows, const char *path, size_t bytes) {
    char **paths = bytes_grow(NULL, rows->paths, &rows->room, rows->count + 1, sizeof *paths);
    if (paths == NULL) return tool_fail_memory();
    rows->paths = paths;
    char *copy = malloc(bytes + 1);
    if (copy == NULL) return tool_fail_memory();
    memcpy(copy, path, bytes);
    copy[bytes] = '\0';
    rows->paths[rows->count++] = copy;
    return tool_check_input(copy);
}

/* The length of the number that a name goes on with; *leading of it are zeros before the rest. */
static size_t number_length(const char *text, size_t *leading) {
    const size_t length = strspn(text, "0123456789");
    *leading = strspn(text, "0");
    if (*leading == length && length > 0) --*leading;
    return length;
}

int tool_by_numbers(const void *left, const void *right) {
    const char *const whole_a = *(char *const *)left, *const whole_b = *(char *const *)right;
    const char *a = whole_a, *b = whole_b;
    while (*a != '\0' && *b != '\0') {
        size_t zeros_a, zeros_b;
        const size_t length_a = number_length(a, &zeros_a), length_b = number_length(b, &zeros_b);
        const size_t digits_a = length_a - zeros_a, digits_b = length_b - zeros_b;
        if (length_a == 0 || length_b == 0) {
            if (*a != *b) break;
            a++, b++;
            continue;
        }
        if (digits_a != digits_b) return digits_a < digits_b ? -1 : 1;
        const int order = memcmp(a + zeros_a, b + zeros_b, digits_a);
        if (order != 0) return order;
        a += length_a, b += length_b;
    }
    if (*a != *b) return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
    return strcmp(whole_a, whole_b);
}

static int add_pattern(tool_rows *rows, const char *pattern) {
    tool_pattern *patterns =
        realloc(rows->patterns, (rows->n_patterns + 1) * sizeof *rows->patterns);
    if (patterns == NULL) return tool_fail_memory();
    rows->patterns = patterns;
    glob_t found;
    int status = TOOL_OK, code = glob(pattern, GLOB_NOSORT, NULL, &found);
    if (code != 0) {
        if (code == GLOB_NOSPACE) return tool_fail_memory();
        return tool_fail(pattern, "no file has such a name");
    }
    qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, tool_by_numbers);
    patterns[rows->n_patterns++] = (tool_pattern){pattern, rows->count, found.gl_pathc};
    for (size_t i = 0; i < found.gl_pathc && status == TOOL_OK; i++) {
        status = add_path(rows, found.gl_pathv[i], strlen(found.gl_pathv[i]));
    }
    globfree(&found);
    return status;
}

/* A file of file names, one a line. */
static int add_list(tool_rows *rows, const char *path) {
    const size_t before = rows->count;
    char *text;
    size_t size;
    int status = tool_read_file(path, &text, &size);
    if (status != TOOL_OK) return status;
    const char *line = text, *const end = line + size;
    while (line < end && status == TOOL_OK) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t bytes = (size_t)((stop != NULL ? stop : end) - line);
        if (memchr(line, '\0', bytes) != NULL) {
            status = tool_fail(path, "is not a list of file names");
        } else {
            const size_t length = bytes > 0 && line[bytes - 1] == '\r' ? bytes - 1 : bytes;
            if (length > 0) status = add_path(rows, line, length);
        }
        line += bytes + 1;
    }
    free(text);
    if (status == TOOL_OK && rows->count == before) {
        status = tool_fail(path, "names no files");
    }
    return status;
}

/* Counts an operand and calls the set by all of them. */
static int add_name(tool_rows *rows, const char *operand) {
    if (rows->n_operands++ == 0) {
        rows->name = rows->first_operand = operand;
        return TOOL_OK;
    }
    const size_t others = rows->n_operands - 1, bytes = strlen(rows->first_operand) + 64;
    char *name = realloc(rows->joint_name, bytes);
    if (name == NULL) return tool_fail_memory();
    snprintf(name, bytes, "%s and %zu other%s", rows->first_operand, others, tool_plural(others));
    rows->name = rows->joint_name = name;
    return TOOL_OK;
}

int tool_add_rows(tool_rows *rows, const char *operand) {
    struct stat info;
    int status = add_name(rows, operand);
    if (status != TOOL_OK) return status;
    if (operand[0] == '@') return add_list(rows, operand + 1);
    if (stat(operand, &info) != 0 && strpbrk(operand, "*?[") != NULL) {
        return add_pattern(rows, operand);
    }
    if (tool_is_folder(operand)) {
        return tool_fail(operand, "is a folder: name its files by a pattern in quotes, '*.npy'");
    }
    return add_path(rows, operand, strlen(operand));
}

/* ---------------------------------------------------------------------------------------------
   Their rows
   ------------------------------------------------------------------------------------------ */

void tool_note_rows(const tool_rows *rows) {
    for (size_t i = 0; i < rows->n_patterns; i++) {
        const tool_pattern *pattern = &rows->patterns[i];
        char *const *paths = rows->paths + pattern->first;
        if (pattern->count == 1) {
            tool_note(pattern->text, "1 file, %s", paths[0]);
        } else {
            tool_note(pattern->text, "%zu files, %s to %s", pattern->count, paths[0],
                      paths[pattern->count - 1]);
        }
    }
}

/* A warning of files that add nothing. */
static void warn_of_empty(const tool_rows *rows) {
    const msae_files *files = &rows->files;
    const msae_shard *first = NULL;
    size_t empty = 0;
    for (size_t i = files->n_shards; i > 0; i--) {
        if (files->shards[i - 1].rows > 0) continue;
        first = &files->shards[i - 1];
        empty++;
    }
    if (empty == 1) tool_warn(first->path, "has no rows: left out");
    if (empty > 1) {
        tool_warn(rows->name, "%zu of %zu files have no rows (first: %s): left out", empty,
                  files->n_shards, first->path);
    }
}

/* Whether a file is named as text with numbers is, and begins as text does. */
static int is_numbers(const char *path, const unsigned char *start, size_t size) {
    if (!tool_has_ending(path, ".csv") && !tool_has_ending(path, ".tsv") &&
        !tool_has_ending(path, ".txt")) {
        return 0;
    }
    for (size_t i = 0; i < size; i++) {
        if (start[i] < 32 && strchr("\t\n\r", start[i]) == NULL) return 0;
        if (start[i] == 0) return 0;
    }
    return size > 0;
}

/* Opens a file of a set of which some are zips or text; the others are read as they are. */
static msae_status open_rows_file(void *user, const char *path, msae_reader *reader,
                                  msae_error *error) {
    tool_rows *rows = (tool_rows *)user;
    unsigned char start[4] = {0};
    msae_status status = tool_open_reader(&rows->file, path, error);
    if (status != MSAE_OK) return status;
    *reader = rows->file;
    reader->path = path; /* by which it may be known */
    const size_t known = rows->file.size < sizeof start ? (size_t)rows->file.size : sizeof start;
    if (known == 0 || !rows->file.read(rows->file.user, 0, start, known)) return MSAE_OK;
    const int is_text = is_numbers(path, start, known);
    if (!is_text && !matrix_is_zip(start, known)) return MSAE_OK;
    status = is_text ? matrix_open_text(&rows->matrix, &rows->file, NULL, error)
                     : matrix_open(&rows->matrix, &rows->file, rows->tensor, NULL, error);
    *reader = rows->matrix.reader;
    if (status != MSAE_OK) tool_close_reader(&rows->file);
    return status;
}

static void close_rows_file(void *user, msae_reader *reader) {
    tool_rows *rows = (tool_rows *)user;
    matrix_close(&rows->matrix);
    tool_close_reader(&rows->file);
    memset(reader, 0, sizeof *reader);
}

int tool_is_converted(const char *path) {
    unsigned char start[4];
    FILE *file = tool_is_folder(path) ? NULL : fopen(path, "rb");
    if (file == NULL) return 0;
    const size_t size = fread(start, 1, sizeof start, file);
    fclose(file);
    return matrix_is_zip(start, size) || is_numbers(path, start, size);
}

msae_status tool_load_matrix(msae_data *data, const char *path, const char *tensor,
                             msae_error *error) {
    tool_rows rows = {0};
    msae_reader reader;
    if (!tool_is_converted(path))
        return msae_data_load(data, msae_from_file(path), tensor, NULL, error);
    memset(data, 0, sizeof *data);
    rows.tensor = tensor;
    msae_status status = open_rows_file(&rows, path, &reader, error);
    if (status != MSAE_OK) return status;
    status = msae_data_load(data, reader, NULL, NULL, error);
    close_rows_file(&rows, &reader);
    return status;
}

int tool_open_rows(tool_rows *rows, const char *tensor, size_t cols) {
    const msae_opener opener = {open_rows_file, close_rows_file, rows};
    const char *const *paths = (const char *const *)rows->paths;
    msae_error error;
    int any = 0;
    rows->tensor = tensor;
    for (size_t i = 0; i < rows->count && !any; i++) any = tool_is_converted(rows->paths[i]);
    if (msae_files_open_by(&rows->files, paths, rows->count, tensor, any ? &opener : NULL, NULL,
                           &error) != MSAE_OK) {
        return tool_fail_content(rows->paths[rows->files.at_fault], TOOL_DATA, &error);
    }
    warn_of_empty(rows);
    if (cols != 0 && rows->files.source.cols != cols) {
        return tool_fail(rows->paths[0], "has %zu columns where %zu are needed",
                         rows->files.source.cols, cols);
    }
    return TOOL_OK;
}

void tool_shift_row(msae_error *error, uint64_t by) {
    char message[sizeof error->message];
    const char *rest =
        strncmp(error->message, "row ", 4) == 0 ? strchr(error->message + 4, ' ') : NULL;
    if (rest == NULL || error->position == MSAE_NO_POSITION) return;
    error->position += by; /* modulo 2^64: backwards too */
    snprintf(message, sizeof message, "row %llu%s", (unsigned long long)error->position, rest);
    memcpy(error->message, message, sizeof message);
}

int tool_fail_row(const char *path, const msae_error *error) {
    /* (not of a row that is fine, but not what the model makes of it) */
    const int is_bad = error->code == MSAE_ERROR_NOT_FINITE &&
                       error->position != MSAE_NO_POSITION &&
                       strstr(error->message, "in the model") == NULL;
    if (!is_bad) return tool_fail_error(path, error);
    return tool_fail(path, "%s (--skip-bad leaves such rows out)", error->message);
}

/* What may be wrong with a value: of doubles, float32 cannot hold each. */
static const char *bad_value(msae_dtype dtype) {
    return dtype == MSAE_F64 ? "NaN, an Inf or a value beyond float32" : "NaN or Inf";
}

static uint64_t rows_skipped;

uint64_t tool_rows_skipped(void) {
    return rows_skipped;
}

void tool_json_skipped(tool_json *json) {
    tool_json_count(json, "rows_skipped", rows_skipped);
}

void tool_json_done(tool_json *json) {
    tool_json_skipped(json);
    tool_json_warnings(json);
    tool_json_end(json, '}');
}

int tool_skip_rows(const tool_rows *rows, msae_dtype dtype, uint64_t n_rows, uint64_t count,
                   uint64_t first) {
    const msae_shard *shard = rows->count > 1 ? msae_files_find(&rows->files, first) : NULL;
    const char *path = rows->count > 1 ? rows->name : rows->paths[0];
    const unsigned long long n = count;
    const unsigned long long row = first - (shard != NULL ? shard->first_row : 0);
    if (count == 0) return TOOL_OK;
    if (shard != NULL) dtype = shard->dtype;
    const char *what = bad_value(dtype);
    if (count == n_rows) return tool_fail(path, "every row has a %s", what);
    rows_skipped += count;
    tool_warn(path, "%llu row%s a %s (first: row %llu%s%s) and %s left out", n,
              count > 1 ? "s have" : " has", what, row, shard != NULL ? " of " : "",
              shard != NULL ? shard->path : "", count > 1 ? "were" : "was");
    return TOOL_OK;
}

int tool_fail_rows(const tool_rows *rows, const msae_error *error) {
    const msae_files *files = &rows->files;
    if (files->n_shards == 0) return tool_fail_error(rows->name, error);
    if (error->code == MSAE_ERROR_NOT_FINITE && error->position < files->source.rows) {
        const msae_shard *shard = msae_files_find(files, error->position);
        msae_error there = *error;
        tool_shift_row(&there, 0 - shard->first_row);
        /* (the library saw the rows as float32) */
        if (shard->dtype == MSAE_F64 && strstr(there.message, " has a NaN or Inf") != NULL) {
            snprintf(there.message, sizeof there.message, "row %llu has a %s",
                     (unsigned long long)there.position, bad_value(MSAE_F64));
        }
        return tool_fail_row(shard->path, &there);
    }
    /* (what is wrong with no file in particular concerns the set) */
    return tool_fail_error(error->code == MSAE_ERROR_IO ? rows->paths[files->at_fault] : rows->name,
                           error);
}

int tool_hold_rows(tool_rows *rows, const char *tensor, int bad_rows, msae_data *data) {
    const msae_source *source = &rows->files.source;
    msae_error error;
    if (rows->count == 1) {
        return tool_load_data(data, rows->paths[0], tensor, source->cols, bad_rows);
    }
    if (source->rows > SIZE_MAX / sizeof(float) / source->cols) return tool_fail_memory();
    const size_t count = (size_t)source->rows, bytes = count * source->cols * sizeof(float);
    float *values = tool_alloc(count, source->cols * sizeof *values);
    if (values == NULL) return tool_fail_memory();
    *data = msae_data_view(values, count, source->cols);
    data->owned = values;
    data->owned_bytes = bytes;
    if (source->read(source->user, 0, count, values, &error) == MSAE_OK &&
        (bad_rows != TOOL_BAD_REFUSED || msae_data_check(data, &error) == MSAE_OK)) {
        return TOOL_OK;
    }
    msae_data_free(data);
    return tool_fail_rows(rows, &error);
}

void tool_close_rows(tool_rows *rows) {
    msae_files_close(&rows->files);
    for (size_t i = 0; i < rows->count; i++) free(rows->paths[i]);
    free(rows->paths);
    free(rows->patterns);
    free(rows->joint_name);
    memset(rows, 0, sizeof *rows);
}
