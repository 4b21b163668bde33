/* Inputs and outputs of the commands. */
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------------------
   Inputs
   ------------------------------------------------------------------------------------------ */

int tool_start_threads(const tool_common *common, msae_pool **pool) {
    msae_error error;
    if (common->threads > MSAE_MAX_WORKERS) {
        return tool_fail("--threads", "%zu is more than %d", common->threads, MSAE_MAX_WORKERS);
    }
    if (msae_pool_create(pool, common->threads, &error) != MSAE_OK) {
        return tool_fail_error("--threads", &error);
    }
    return TOOL_OK;
}

static int load_file(msae_data *data, const char *path, const char *tensor, size_t cols,
                     int bad_rows) {
    msae_error error;
    int status = TOOL_OK;
    if (msae_data_load_file(data, path, tensor, NULL, &error) != MSAE_OK) {
        return tool_fail_error(path, &error);
    }
    if (cols != 0 && data->cols != cols) {
        status = tool_fail(path, "has %zu columns where %zu are needed", data->cols, cols);
    } else if (!bad_rows && msae_data_check(data, &error) != MSAE_OK) {
        status = tool_fail_error(path, &error);
    }
    if (status != TOOL_OK) msae_data_free(data);
    return status;
}

int tool_load_data(msae_data *data, const char *path, const char *tensor, size_t cols,
                   int bad_rows) {
    tool_rows rows = {0};
    int status = tool_add_rows(&rows, path);
    if (status == TOOL_OK && rows.count == 1) {
        status = load_file(data, rows.paths[0], tensor, cols, bad_rows);
    } else if (status == TOOL_OK) {
        status = tool_open_rows(&rows, tensor, cols);
        if (status == TOOL_OK) status = tool_hold_rows(&rows, tensor, bad_rows, data);
    }
    tool_close_rows(&rows);
    return status;
}

int tool_open_inputs(tool_inputs *inputs, const tool_common *common, const char *model_path,
                     const char *data_path) {
    msae_load_desc desc = {0};
    int status = tool_start_threads(common, &inputs->pool);
    if (status != TOOL_OK) return status;
    desc.simd = (msae_simd)common->simd;
    desc.parallel = msae_pool_parallel(inputs->pool);
    desc.widen = !inputs->as_stored;
    status = tool_load_model(&inputs->model, model_path, &desc);
    if (status != TOOL_OK || data_path == NULL) return status;
    return tool_load_data(&inputs->data, data_path, common->tensor, inputs->model.n_inputs, 0);
}

void tool_close_inputs(tool_inputs *inputs) {
    msae_data_free(&inputs->data);
    msae_model_free(&inputs->model);
    msae_pool_free(inputs->pool);
}

/* ---------------------------------------------------------------------------------------------
   Outputs
   ------------------------------------------------------------------------------------------ */

/* The name under which a file is written before it is renamed to path, or NULL. */
static char *temporary_name(const char *path) {
    const size_t bytes = strlen(path) + 32;
    char *name = malloc(bytes);
    if (name != NULL) snprintf(name, bytes, "%s.%ld.tmp", path, (long)getpid());
    return name;
}

int tool_check_output(const char *command, const char *path) {
    tool_output probe;
    if (path == NULL) return tool_usage(command, "-o FILE is missing");
    int status = tool_output_open(&probe, path);
    if (status == TOOL_OK) tool_output_drop(&probe);
    return status;
}

int tool_same_file(const char *a, const char *b) {
    struct stat x, y;
    if (a == NULL || b == NULL) return 0;
    if (strcmp(a, b) == 0) return 1;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int tool_output_open(tool_output *output, const char *path) {
    struct stat info;
    output->path = path;
    output->temporary = NULL;
    output->file = stdout;
    if (path == NULL) return TOOL_OK;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return tool_fail_errno(path, EISDIR);
        /* The rename at the end would put a plain file in a device's place. */
        if (!S_ISREG(info.st_mode)) return tool_fail(path, "Not a regular file");
        if (access(path, W_OK) != 0) return tool_fail_errno(path, errno);
    }
    output->temporary = temporary_name(path);
    if (output->temporary == NULL) return tool_fail_memory();
    output->file = fopen(output->temporary, "w");
    if (output->file != NULL) return TOOL_OK;
    int status = tool_fail_errno(path, errno);
    free(output->temporary);
    return status;
}

void tool_output_drop(tool_output *output) {
    fclose(output->file);
    remove(output->temporary);
    free(output->temporary);
}

void tool_put_le(unsigned char *bytes, size_t count, uint64_t value) {
    for (size_t i = 0; i < count; i++) bytes[i] = (unsigned char)(value >> 8 * i);
}

uint64_t tool_get_le(const unsigned char *bytes, size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++) value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

int tool_output_close(tool_output *output) {
    int status = TOOL_OK;
    if (output->path == NULL) return TOOL_OK; /* standard output is checked when the program ends */
    errno = 0;
    int failed = ferror(output->file);
    failed |= fflush(output->file) || fsync(fileno(output->file));
    failed |= fclose(output->file);
    if (failed || rename(output->temporary, output->path) != 0) {
        status = tool_fail(output->path, "%s", errno != 0 ? strerror(errno) : "writing failed");
        remove(output->temporary);
    }
    free(output->temporary);
    return status;
}
