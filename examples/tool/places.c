/* Files by their paths: where commands write, checked before work starts and written under a
   temporary name first; and files that are read, whole or piece by piece. */
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The name under which a file is written before it is renamed to path, or NULL. */
static char *temporary_name(const char *path) {
    const size_t bytes = strlen(path) + 32;
    char *name = malloc(bytes);
    if (name != NULL) snprintf(name, bytes, "%s.%ld.tmp", path, (long)getpid());
    return name;
}

/* What the command is to write. */
static struct {
    const char *option;
    char *path;
} outputs[TOOL_MAX_OUTPUTS];
static size_t n_outputs;

int tool_add_output(const char *option, const char *path) {
    char *copy = malloc(strlen(path) + 1);
    if (copy == NULL || n_outputs == TOOL_MAX_OUTPUTS) {
        free(copy);
        return tool_fail_memory();
    }
    outputs[n_outputs].option = option;
    outputs[n_outputs++].path = strcpy(copy, path);
    return TOOL_OK;
}

/* The other output that is in the same place as this one, or NULL. Of two that do not exist yet
   the temporary files tell: however the paths are spelled, one is there when the other is. */
static const char *find_twin(const tool_output *output) {
    const char *twin = NULL;
    for (size_t i = 0; i < n_outputs && twin == NULL; i++) {
        char *temporary = temporary_name(outputs[i].path);
        if (tool_same_file(output->path, outputs[i].path) ||
            tool_same_file(output->temporary, temporary)) {
            twin = outputs[i].option;
        }
        free(temporary);
    }
    return twin;
}

/* Endings by which files are told; all others may be given to anything. */
static const char *const endings[] = {
    ".safetensors", ".npy", ".npz", ".tsv", ".csv", ".txt", ".json", ".jsonl",   ".html", ".htm",
    ".pt",          ".pth", ".pkl", ".gz",  ".zip", ".h5",  ".hdf5", ".parquet", ".gguf", ".onnx"};

/* From TOOL_WRITES_MODEL on. */
static const struct {
    const char *what, *as;
    const char *fitting[2]; /* endings */
} products[] = {
    [TOOL_WRITES_MODEL - TOOL_WRITES_MODEL] = {"a model is", "as .safetensors", {".safetensors"}},
    [TOOL_WRITES_CHECKPOINT -
        TOOL_WRITES_MODEL] = {"a checkpoint is", "as .safetensors", {".safetensors"}},
    [TOOL_WRITES_CODES - TOOL_WRITES_MODEL] = {"codes are", "as .safetensors", {".safetensors"}},
    [TOOL_WRITES_INDEX - TOOL_WRITES_MODEL] = {"an index is", "as .safetensors", {".safetensors"}},
    [TOOL_WRITES_EMBEDDINGS - TOOL_WRITES_MODEL] = {"embeddings are", "as .npy", {".npy"}},
    [TOOL_WRITES_TABLE - TOOL_WRITES_MODEL] = {"a table is", "as .tsv", {".tsv", ".txt"}},
    [TOOL_WRITES_PAGE - TOOL_WRITES_MODEL] = {"a page is", "as .html", {".html", ".htm"}},
    [TOOL_WRITES_FOLDER -
        TOOL_WRITES_MODEL] = {"a model in this layout is", "into a folder", {NULL}},
    [TOOL_WRITES_PTH - TOOL_WRITES_MODEL] = {"a published model is", "as .pth", {".pth", ".pt"}},
};

int tool_check_ending(const char *path, tool_kind product) {
    const size_t what = (size_t)product - TOOL_WRITES_MODEL;
    for (size_t i = 0; i < 2 && products[what].fitting[i] != NULL; i++) {
        if (tool_has_ending(path, products[what].fitting[i])) return TOOL_OK;
    }
    for (size_t i = 0; i < TOOL_COUNT_OF(endings); i++) {
        if (!tool_has_ending(path, endings[i])) continue;
        return tool_fail(path, "%s written %s (its name says %s)", products[what].what,
                         products[what].as, endings[i]);
    }
    return TOOL_OK;
}

int tool_check_output(const char *option, const char *path, tool_kind product) {
    tool_output probe;
    int status = tool_check_ending(path, product);
    if (status != TOOL_OK) return status;
    status = tool_output_open(&probe, path);
    if (status != TOOL_OK) return status;
    const char *twin = find_twin(&probe);
    tool_output_drop(&probe);
    if (twin != NULL) return tool_fail(option, "%s is the file of %s too", path, twin);
    return tool_add_output(option, path);
}

int tool_check_input(const char *path) {
    for (size_t i = 0; i < n_outputs; i++) {
        const char *output = outputs[i].path;
        if (!tool_same_file(output, path)) continue;
        if (strcmp(output, path) == 0) {
            return tool_fail(outputs[i].option, "%s is read too", output);
        }
        return tool_fail(outputs[i].option, "%s is read too, as %s", output, path);
    }
    return TOOL_OK;
}

int tool_is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

int tool_same_file(const char *a, const char *b) {
    struct stat x, y;
    if (a == NULL || b == NULL) return 0;
    if (strcmp(a, b) == 0) return 1;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* `advice` ends the line that says why the file cannot be written. */
static int open_output(tool_output *output, const char *path, const char *advice) {
    struct stat info;
    output->path = path;
    output->temporary = NULL;
    output->file = stdout;
    if (path == NULL) return TOOL_OK;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return tool_fail(path, "%s%s", strerror(EISDIR), advice);
        /* The rename at the end would put a plain file in a device's place. */
        if (!S_ISREG(info.st_mode)) {
            return tool_fail(path, "Not a regular file%s", advice);
        }
        if (access(path, W_OK) != 0) return tool_fail(path, "%s%s", strerror(errno), advice);
    }
    output->temporary = temporary_name(path);
    if (output->temporary == NULL) return tool_fail_memory();
    output->file = fopen(output->temporary, "w");
    if (output->file != NULL) return TOOL_OK;
    int status = tool_fail(path, "%s%s", strerror(errno), advice);
    free(output->temporary);
    return status;
}

int tool_output_open(tool_output *output, const char *path) {
    return open_output(output, path, "");
}

int tool_check_writable(const char *path, const char *advice) {
    tool_output probe;
    int status = open_output(&probe, path, advice);
    if (status == TOOL_OK) tool_output_drop(&probe);
    return status;
}

void tool_output_drop(tool_output *output) {
    fclose(output->file);
    remove(output->temporary);
    free(output->temporary);
}

int tool_output_close(tool_output *output) {
    int status = TOOL_OK;
    if (output->path == NULL) return TOOL_OK; /* standard output is checked when the program ends */
    errno = 0;
    int failed = ferror(output->file);
    failed |= fflush(output->file) || fsync(fileno(output->file));
    failed |= fclose(output->file);
    if (failed || rename(output->temporary, output->path) != 0) {
        status = tool_fail_writing(output->path);
        remove(output->temporary);
    }
    free(output->temporary);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Reading a file whole
   ------------------------------------------------------------------------------------------ */

/* Everything in an open file, and a zero behind it. */
static int read_whole(FILE *file, const char *path, char **bytes, size_t *size) {
    const off_t length = fseeko(file, 0, SEEK_END) == 0 ? ftello(file) : -1;
    if (length < 0) return tool_fail(path, "its length cannot be told");
    if (length == 0) return tool_fail(path, "the file is empty");
    char *memory = (uint64_t)length < SIZE_MAX ? malloc((size_t)length + 1) : NULL;
    if (memory == NULL) return tool_fail_memory();
    if (fseeko(file, 0, SEEK_SET) != 0 ||
        fread(memory, 1, (size_t)length, file) != (size_t)length) {
        free(memory);
        return tool_fail(path, "cannot be read at byte 0");
    }
    memory[length] = '\0';
    *bytes = memory;
    *size = (size_t)length;
    return TOOL_OK;
}

int tool_read_file(const char *path, char **bytes, size_t *size) {
    *bytes = NULL;
    *size = 0;
    int status = tool_check_input(path);
    if (status != TOOL_OK) return status;
    if (tool_is_folder(path)) return tool_fail(path, "is a directory");
    FILE *file = fopen(path, "rb");
    if (file == NULL) return tool_fail_open(path);
    status = read_whole(file, path, bytes, size);
    fclose(file);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Reading a file piece by piece
   ------------------------------------------------------------------------------------------ */

static int read_piece(void *user, uint64_t offset, void *buffer, size_t bytes) {
    FILE *file = (FILE *)user;
    return offset <= INT64_MAX && fseeko(file, (off_t)offset, SEEK_SET) == 0 &&
           fread(buffer, 1, bytes, file) == bytes;
}

msae_status tool_open_reader(msae_reader *reader, const char *path, msae_error *error) {
    memset(reader, 0, sizeof *reader);
    if (tool_is_folder(path)) {
        return bytes_fail(error, MSAE_ERROR_IO, MSAE_NO_POSITION, "is a directory");
    }
    FILE *file = fopen(path, "rb");
    if (file == NULL) return bytes_fail(error, MSAE_ERROR_IO, MSAE_NO_POSITION, "cannot be opened");
    const off_t length = fseeko(file, 0, SEEK_END) == 0 ? ftello(file) : -1;
    if (length < 0) {
        fclose(file);
        return bytes_fail(error, MSAE_ERROR_IO, MSAE_NO_POSITION, "its length cannot be told");
    }
    reader->read = read_piece;
    reader->user = file;
    reader->size = (uint64_t)length;
    return MSAE_OK;
}

void tool_close_reader(msae_reader *reader) {
    if (reader->user != NULL) fclose((FILE *)reader->user);
    memset(reader, 0, sizeof *reader);
}
