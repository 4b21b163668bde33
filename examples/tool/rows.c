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
    if (rows->count == rows->room) {
        const size_t room = rows->room > 0 ? 2 * rows->room : 16;
        char **paths = realloc(rows->paths, room * sizeof *paths);
        if (paths == NULL) return tool_fail_memory();
        rows->paths = paths;
        rows->room = room;
    }
    char *copy = malloc(bytes + 1);
    if (copy == NULL) return tool_fail_memory();
    memcpy(copy, path, bytes);
    copy[bytes] = '\0';
    rows->paths[rows->count++] = copy;
    return TOOL_OK;
}

static int add_pattern(tool_rows *rows, const char *pattern) {
    glob_t found;
    int status = TOOL_OK, code = glob(pattern, 0, NULL, &found);
    if (code != 0) {
        if (code == GLOB_NOSPACE) return tool_fail_memory();
        return tool_fail(pattern, "no file has such a name");
    }
    for (size_t i = 0; i < found.gl_pathc && status == TOOL_OK; i++) {
        status = add_path(rows, found.gl_pathv[i], strlen(found.gl_pathv[i]));
    }
    globfree(&found);
    return status;
}

/* A file of file names, one a line. */
static int add_list(tool_rows *rows, const char *path) {
    const size_t before = rows->count;
    msae_error error;
    void *text;
    size_t size;
    int status = TOOL_OK;
    if (msae_read_file(path, NULL, &text, &size, &error) != MSAE_OK) {
        return tool_fail_error(path, &error);
    }
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
    msae_release(NULL, text, size);
    if (status == TOOL_OK && rows->count == before) {
        status = tool_fail(path, "names no files");
    }
    return status;
}

int tool_add_rows(tool_rows *rows, const char *operand) {
    struct stat info;
    if (rows->name == NULL) rows->name = operand;
    if (operand[0] == '@') return add_list(rows, operand + 1);
    if (strpbrk(operand, "*?[") != NULL && stat(operand, &info) != 0) {
        return add_pattern(rows, operand);
    }
    return add_path(rows, operand, strlen(operand));
}

/* ---------------------------------------------------------------------------------------------
   Their rows
   ------------------------------------------------------------------------------------------ */

int tool_open_rows(tool_rows *rows, const char *tensor, size_t cols) {
    msae_error error;
    if (msae_files_open(&rows->files, (const char *const *)rows->paths, rows->count, tensor, NULL,
                        &error) != MSAE_OK) {
        return tool_fail_error(rows->paths[rows->files.at_fault], &error);
    }
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

int tool_fail_rows(const tool_rows *rows, const msae_error *error) {
    const msae_files *files = &rows->files;
    if (files->n_shards == 0) return tool_fail_error(rows->name, error);
    if (error->code == MSAE_ERROR_NOT_FINITE && error->position < files->source.rows) {
        const msae_shard *shard = msae_files_find(files, error->position);
        msae_error there = *error;
        tool_shift_row(&there, 0 - shard->first_row);
        return tool_fail_error(shard->path, &there);
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
        (bad_rows || msae_data_check(data, &error) == MSAE_OK)) {
        return TOOL_OK;
    }
    msae_data_free(data);
    return tool_fail_rows(rows, &error);
}

int tool_is_among(const tool_rows *rows, const char *path) {
    for (size_t i = 0; i < rows->count; i++) {
        if (tool_same_file(rows->paths[i], path)) return 1;
    }
    return 0;
}

void tool_close_rows(tool_rows *rows) {
    msae_files_close(&rows->files);
    for (size_t i = 0; i < rows->count; i++) free(rows->paths[i]);
    free(rows->paths);
    memset(rows, 0, sizeof *rows);
}
