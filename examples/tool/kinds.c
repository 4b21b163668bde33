/* What a file is that cannot be read as what it should be. */
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { START = 512 }; /* bytes that are looked at */

/* What was wanted, as errors say it: what it is not, and what to do. */
static const struct {
    const char *name, *advice;
} wants[] = {
    {"data", ""},
    {"a model", ""},
    {"codes", ": msae encode makes them"},
    {"an index", ": msae search --save-index makes one"},
    {"a checkpoint", ": msae train --checkpoint makes one"},
    {"text", ""},
};

/* "is IT, not what was wanted", with what to do. */
static int fail_other(const char *path, tool_content wanted, const char *is, int may_be_swapped) {
    return tool_fail(path, "%s, not %s%s", is, wants[wanted].name,
                     may_be_swapped && wanted <= TOOL_MODEL ? ": MODEL and DATA swapped?"
                                                            : wants[wanted].advice);
}

static int begins(const unsigned char *bytes, size_t size, const char *start, size_t length) {
    return size >= length && memcmp(bytes, start, length) == 0;
}

static int is_plain_text(const unsigned char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] < 32 && strchr("\t\n\r\f", bytes[i]) == NULL) return 0;
        if (bytes[i] == 0 || bytes[i] == 127) return 0;
    }
    return size > 0;
}

static int has(const unsigned char *bytes, size_t size, const char *word) {
    const size_t length = strlen(word);
    for (size_t i = 0; i + length <= size; i++) {
        if (memcmp(bytes + i, word, length) == 0) return 1;
    }
    return 0;
}

/* Files that are neither a .npy nor a safetensors, by how they begin; NULL: unknown, or
   torch.save's where a model is wanted, of which the reader says more. */
static const char *foreign_kind(const unsigned char *bytes, size_t size, tool_content wanted) {
    static const struct {
        const char *start;
        size_t length;
        const char *kind;
    } kinds[] = {
        {"\x1f\x8b", 2, "is compressed by gzip: unpack it first"},
        {"\x28\xb5\x2f\xfd", 4, "is compressed by zstd: unpack it first"},
        {"PAR1", 4, "is a parquet: numpy.save of its column makes a .npy"},
        {"\x89HDF", 4, "is HDF5: numpy.save of its data set makes a .npy"},
        {"\x89PNG", 4, "is a picture (PNG): its embedding is needed"},
        {"\xff\xd8\xff", 3, "is a picture (JPEG): its embedding is needed"},
        {"GGUF", 4, "is GGUF, which is not read"},
    };
    for (size_t i = 0; i < TOOL_COUNT_OF(kinds); i++) {
        if (begins(bytes, size, kinds[i].start, kinds[i].length)) return kinds[i].kind;
    }
    if (begins(bytes, size, "PK\3\4", 4)) {
        if (has(bytes, size, ".npy")) {
            return "is an .npz: numpy.save of numpy.load(..)['x'] makes a .npy of one array";
        }
        if (wanted == TOOL_MODEL) return NULL;
        return has(bytes, size, "data.pkl") ? "is of torch.save" : "is a zip";
    }
    if (size > 1 && bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5) {
        if (wanted == TOOL_MODEL) return NULL;
        return "is a pickle, which is not read: numpy.save of the array in it makes a .npy";
    }
    if (!is_plain_text(bytes, size) || wanted == TOOL_TEXT_FILE) return NULL;
    if (has(bytes, size, "\"weight_map\"") || has(bytes, size, "\"total_size\"")) {
        return "is an index (JSON): name the safetensors files that it lists";
    }
    return NULL;
}

/* Text that is no index of others' files. */
static int fail_text(const char *path, const unsigned char *bytes, size_t size,
                     tool_content wanted) {
    const char *is = bytes[0] == '{'                             ? "is JSON"
                     : begins(bytes, size, "latent\tname", 11)   ? "holds names of latents"
                     : begins(bytes, size, "latent\tparent", 13) ? "holds a concept tree"
                                                                 : "is text";
    if (wanted != TOOL_DATA) return fail_other(path, wanted, is, 0);
    return tool_fail(path, "%s, not a .npy or a safetensors%s", is,
                     strcmp(is, "is text") == 0 ? ": numpy.save of its numbers makes a .npy" : "");
}

/* What a safetensors file is, and whether that is what was wanted; NULL: any other. */
static const char *kind_of_safetensors(const msae_safetensors *file, tool_content *is) {
    *is = TOOL_CODES;
    if (msae_safetensors_find(file, "indptr") != NULL) return "holds codes";
    *is = TOOL_INDEX;
    if (msae_safetensors_find(file, "starts") != NULL &&
        msae_safetensors_find(file, "counts") != NULL) {
        return "is an index of msae search";
    }
    *is = TOOL_CHECKPOINT;
    if (msae_safetensors_find(file, "run.epoch") != NULL) return "is a checkpoint";
    *is = TOOL_MODEL;
    if (msae_safetensors_find(file, "latent_bias") != NULL ||
        msae_safetensors_find(file, "W_dec") != NULL) {
        return "is a model";
    }
    *is = TOOL_DATA;
    return file->n_tensors == 1 && file->tensors[0].rank == 2 ? "is data" : NULL;
}

static void list_names(const msae_safetensors *file, char *text, size_t bytes) {
    text[0] = '\0';
    for (size_t i = 0, at = 0; i < file->n_tensors && at < bytes; i++) {
        at += (size_t)snprintf(text + at, bytes - at, "%s%.*s", i == 0 ? "" : ", ",
                               (int)file->tensors[i].name_bytes, file->tensors[i].name);
    }
}

/* What a safetensors file is, or the tensors that it has. */
static int fail_safetensors(const char *path, tool_content wanted, const msae_error *error) {
    msae_safetensors file;
    msae_error ignored;
    tool_content is;
    char names[512];
    if (msae_safetensors_open(&file, msae_from_file(path), NULL, &ignored) != MSAE_OK) {
        return tool_fail_error(path, error);
    }
    const char *kind = kind_of_safetensors(&file, &is);
    list_names(&file, names, sizeof names);
    msae_safetensors_close(&file);
    if (is == TOOL_CHECKPOINT && wanted == TOOL_MODEL) is = wanted; /* which may be read as one */
    if (kind != NULL && is != wanted) {
        if (is == TOOL_CODES && wanted == TOOL_DATA) {
            return tool_fail(path, "%s, not data: msae decode makes embeddings of them", kind);
        }
        return fail_other(path, wanted, kind, is != TOOL_CODES && is != TOOL_INDEX);
    }
    if (kind == NULL && wanted != TOOL_DATA) {
        return tool_fail(path, "is a safetensors file of other tensors (%s), not %s%s", names,
                         wants[wanted].name, wants[wanted].advice);
    }
    if (wanted == TOOL_DATA && error->code == MSAE_ERROR_ARGUMENT) {
        if (strcmp(error->message, "no tensor has that name") == 0) {
            return tool_fail(path, "%s (--tensor), but %s", error->message, names);
        }
        return tool_fail(path, "%s (--tensor NAME)", error->message);
    }
    return tool_fail_error(path, error);
}

/* Plain float32 without a header whose name, .._ROWS_COLS.npy, does not fit its length: 1 when
   that was said. */
static int fail_headerless(const char *path) {
    const size_t length = strlen(path);
    unsigned long long rows, cols;
    struct stat info;
    int end = 0;
    if (!tool_has_ending(path, ".npy")) return 0;
    const char *at = path + length - 4;
    for (int underscores = 0; at > path && underscores < 2;) underscores += *--at == '_';
    if (sscanf(at, "_%9llu_%9llu.npy%n", &rows, &cols, &end) != 2 || at[end] != '\0' || end == 0 ||
        stat(path, &info) != 0 || !S_ISREG(info.st_mode)) {
        return 0;
    }
    tool_fail(path, "its name says %llu x %llu floats, which are %llu bytes; it has %llu", rows,
              cols, 4 * rows * cols, (unsigned long long)info.st_size);
    return 1;
}

/* Whether the file has room for the header that a safetensors file of such a start has. */
static int may_be_safetensors(const char *path, const unsigned char start[8]) {
    struct stat info;
    return stat(path, &info) == 0 && info.st_size >= 8 &&
           bytes_get(start, 8) <= (uint64_t)info.st_size - 8;
}

/* Says of a path that cannot be opened how far it leads. */
int tool_fail_open(const char *path) {
    struct stat info;
    char folder[1024];
    if (stat(path, &info) == 0) {
        return tool_fail(path, "cannot be opened%s%s", access(path, R_OK) != 0 ? ": " : "",
                         access(path, R_OK) != 0 ? strerror(errno) : "");
    }
    const int code = errno;
    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        const size_t bytes = (size_t)(slash - path);
        if (bytes == 0 || bytes >= sizeof folder) continue;
        memcpy(folder, path, bytes);
        folder[bytes] = '\0';
        if (stat(folder, &info) != 0) {
            return errno == ENOENT
                       ? tool_fail(path, "cannot be opened: there is no folder %s", folder)
                       : tool_fail(path, "cannot be opened: %s", strerror(errno));
        }
        if (!S_ISDIR(info.st_mode)) {
            return tool_fail(path, "cannot be opened: %s is a file, not a folder", folder);
        }
    }
    return tool_fail(path, "cannot be opened: %s",
                     code == ENOENT ? "there is no such file" : strerror(code));
}

int tool_fail_content(const char *path, tool_content wanted, const msae_error *error) {
    unsigned char start[START];
    FILE *file;
    if (error->code == MSAE_ERROR_IO || error->code == MSAE_ERROR_MEMORY ||
        (file = fopen(path, "rb")) == NULL) {
        return tool_fail_error(path, error);
    }
    const size_t size = fread(start, 1, sizeof start, file);
    fclose(file);
    const int is_npy = begins(start, size, "\x93NUMPY", 6);
    if (wanted == TOOL_DATA && begins(start, size, "PK\3\4", 4))
        return tool_fail_error(path, error);
    const char *kind = foreign_kind(start, size, wanted);
    if (is_npy && wanted != TOOL_DATA) return fail_other(path, wanted, "is data", 1);
    if (kind != NULL && wanted > TOOL_MODEL && tool_is_torch(start, size)) {
        return fail_other(path, wanted, kind, 0);
    }
    if (kind != NULL) return tool_fail(path, "%s", kind);
    const int is_table = tool_has_ending(path, ".csv") || tool_has_ending(path, ".tsv") ||
                         tool_has_ending(path, ".txt");
    if (wanted == TOOL_DATA && is_table && is_plain_text(start, size) &&
        !begins(start, size, "latent\t", 7)) {
        return tool_fail_error(path, error); /* text with numbers */
    }
    if (wanted != TOOL_TEXT_FILE && is_plain_text(start, size)) {
        return fail_text(path, start, size, wanted);
    }
    if (!is_npy && wanted == TOOL_DATA && fail_headerless(path)) return TOOL_FAILED;
    if (size > 8 && wanted != TOOL_TEXT_FILE && !is_npy && start[8] != '{' &&
        error->code == MSAE_ERROR_FORMAT && !tool_is_torch(start, size) &&
        !may_be_safetensors(path, start)) {
        return tool_fail(path, "neither a .npy nor a safetensors file");
    }
    return is_npy ? tool_fail_error(path, error) : fail_safetensors(path, wanted, error);
}
