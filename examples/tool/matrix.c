/* Matrices in a zip. See matrix.h. */
#include "matrix.h"

#include "bytes.h"
#include "inflate.h"
#include "torch.h"
#include "zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int matrix_is_zip(const unsigned char *start, size_t size) {
    return size >= 4 && memcmp(start, "PK\3\4", 4) == 0;
}

void matrix_close(matrix_file *m) {
    bytes_give(&m->allocator, m->memory, m->memory_bytes);
    memset(m, 0, sizeof *m);
}

/* ---------------------------------------------------------------------------------------------
   What is presented
   ------------------------------------------------------------------------------------------ */

/* The header, and what follows it in memory or in the file. */
static int matrix_read(void *user, uint64_t offset, void *room, size_t bytes) {
    const matrix_file *m = (const matrix_file *)user;
    unsigned char *out = (unsigned char *)room;
    if (offset < m->header_bytes) {
        const size_t left = m->header_bytes - (size_t)offset, count = bytes < left ? bytes : left;
        memcpy(out, m->header + offset, count);
        out += count;
        bytes -= count;
        offset += count;
    }
    if (bytes == 0) return 1;
    offset -= m->header_bytes;
    if (m->memory == NULL) {
        return bytes_read(&m->file, m->at + offset, out, bytes, NULL) == MSAE_OK;
    }
    if (offset > m->memory_bytes || bytes > m->memory_bytes - offset) return 0;
    memcpy(out, m->memory + offset, bytes);
    return 1;
}

static void matrix_present(matrix_file *m, uint64_t bytes) {
    m->reader.read = matrix_read;
    m->reader.user = m;
    m->reader.size = m->header_bytes + bytes;
}

/* ---------------------------------------------------------------------------------------------
   .npz
   ------------------------------------------------------------------------------------------ */

/* The name of an array: the member's without .npy. */
static size_t array_name(const zip_member *m) {
    return zip_ends_in(m, ".npy") ? m->name_bytes - 4 : 0;
}

static int is_array(const zip_member *m, const char *name) {
    const size_t bytes = strlen(name);
    return (m->name_bytes == bytes || array_name(m) == bytes) && memcmp(m->name, name, bytes) == 0;
}

static msae_status open_member(matrix_file *m, const zip_member *array, msae_error *error) {
    unsigned char *packed = NULL;
    msae_status status = MSAE_OK;
    m->at = array->at;
    if (array->is_deflated) {
        if (array->bytes > SIZE_MAX) return bytes_fail_memory(error);
        packed = (unsigned char *)bytes_read_block(&m->file, array->at, array->stored,
                                                   &m->allocator, &status, error);
        if (packed == NULL) return status;
        m->memory_bytes = (size_t)array->bytes;
        m->memory = (unsigned char *)bytes_take(&m->allocator, m->memory_bytes);
        status = m->memory == NULL ? bytes_fail_memory(error)
                                   : inflate_bytes(packed, (size_t)array->stored, m->memory,
                                                   m->memory_bytes, error);
        bytes_give(&m->allocator, packed, (size_t)array->stored);
        if (status == MSAE_OK && bytes_crc(m->memory, m->memory_bytes) != array->crc) {
            status = zip_fail_member(error, array, "does not match its checksum");
        }
    }
    if (status == MSAE_OK) matrix_present(m, array->bytes);
    return status;
}

/* Whether an array's header says floats and two dimensions (or three, one of them 1), into *is. */
static msae_status array_is_matrix(matrix_file *m, const zip_member *array, int *is,
                                   msae_error *error) {
    static const char type[] = "'descr': '", shape[] = "'shape': (";
    unsigned char start[256];
    size_t type_at = 0, shape_at = 0, numbers = 0;
    const msae_status status = open_member(m, array, error);
    const size_t size = m->reader.size < sizeof start ? (size_t)m->reader.size : sizeof start;
    const int read = status == MSAE_OK && matrix_read(m, 0, start, size);
    for (size_t i = 0; read && i + 12 < size; i++) {
        if (memcmp(start + i, type, sizeof type - 1) == 0) type_at = i + sizeof type;
        if (memcmp(start + i, shape, sizeof shape - 1) == 0) shape_at = i + sizeof shape - 1;
    }
    for (size_t i = shape_at; shape_at > 0 && i < size && start[i] != ')'; i++) {
        const int is_digit = start[i] >= '0' && start[i] <= '9';
        numbers += is_digit && (i == shape_at || start[i - 1] < '0' || start[i - 1] > '9');
    }
    *is = type_at > 0 && type_at < size && (start[type_at] == 'f' || start[type_at] == 'V') &&
          numbers >= 2;
    bytes_give(&m->allocator, m->memory, m->memory_bytes);
    m->memory = NULL;
    m->memory_bytes = 0;
    memset(&m->reader, 0, sizeof m->reader);
    return status;
}

/* Adds a name to a list for people: in ASCII, whatever the file has. */
static void list_name(char text[160], const char *name, size_t bytes) {
    size_t used = strlen(text);
    if (used > 0 && used < 157) used += (size_t)snprintf(text + used, 160 - used, ", ");
    for (size_t i = 0; i < bytes && used < 159; i++) {
        text[used++] = name[i] > 32 && name[i] < 127 ? name[i] : '?';
    }
    text[used] = '\0';
}

static int has_array(const zip_file *zip, const char *name) {
    for (size_t i = 0; i < zip->n_members; i++) {
        if (is_array(&zip->members[i], name)) return 1;
    }
    return 0;
}

static msae_status open_npz(matrix_file *m, const zip_file *zip, const char *name,
                            msae_error *error) {
    const zip_member *found = NULL;
    size_t arrays = 0, matrices = 0;
    char names[160] = "";
    if (has_array(zip, "indptr") && has_array(zip, "indices") && name == NULL) {
        return bytes_fail(error, MSAE_ERROR_UNSUPPORTED, MSAE_NO_POSITION,
                          "is a sparse matrix of scipy: numpy.save of its toarray() makes a .npy");
    }
    for (size_t i = 0; i < zip->n_members; i++) {
        const zip_member *array = &zip->members[i];
        if (array_name(array) == 0) continue;
        arrays++;
        list_name(names, array->name, array_name(array));
        if (name != NULL && is_array(array, name)) found = array;
    }
    if (arrays == 0) {
        return bytes_fail(error, MSAE_ERROR_UNSUPPORTED, MSAE_NO_POSITION,
                          "is a zip without arrays: neither an .npz nor of torch.save");
    }
    if (name != NULL && found == NULL) {
        return bytes_fail(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION,
                          "no array has that name (--tensor), but %s", names);
    }
    for (size_t i = 0; i < zip->n_members && name == NULL && arrays > 1; i++) {
        int is_matrix = 0;
        if (array_name(&zip->members[i]) == 0) continue;
        const msae_status status = array_is_matrix(m, &zip->members[i], &is_matrix, error);
        if (status != MSAE_OK) return status;
        if (is_matrix) found = &zip->members[i];
        matrices += (size_t)is_matrix;
    }
    for (size_t i = 0; i < zip->n_members && found == NULL && arrays == 1; i++) {
        if (array_name(&zip->members[i]) > 0) found = &zip->members[i];
    }
    if (found == NULL || matrices > 1) {
        return bytes_fail(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION,
                          "holds %lu arrays (%s): name the matrix to read with --tensor",
                          (unsigned long)arrays, names);
    }
    return open_member(m, found, error);
}

/* ---------------------------------------------------------------------------------------------
   Tensors of torch.save
   ------------------------------------------------------------------------------------------ */

static const char *npy_type(msae_dtype dtype) {
    return dtype == MSAE_F32    ? "<f4"
           : dtype == MSAE_F16  ? "<f2"
           : dtype == MSAE_F64  ? "<f8"
           : dtype == MSAE_BF16 ? "<V2"
           : dtype == MSAE_I8   ? "|i1"
                                : NULL;
}

/* A tensor of floats [rows, cols], [rows, 1, cols] or [1, rows, cols], as two dimensions. */
static int squeeze(torch_tensor *tensor) {
    if (tensor->rank == 3 && (tensor->shape[0] == 1 || tensor->shape[1] == 1)) {
        const size_t gone = tensor->shape[1] == 1 ? 1 : 0;
        for (size_t k = gone; k < 2; k++) {
            tensor->shape[k] = tensor->shape[k + 1];
            tensor->stride[k] = tensor->stride[k + 1];
        }
        tensor->rank = 2;
    }
    return tensor->rank == 2 && npy_type(tensor->dtype) != NULL;
}

/* The header of a .npy in front of values that have none. */
static void make_header(matrix_file *m, const char *type, uint64_t rows, uint64_t cols) {
    memset(m->header, ' ', sizeof m->header);
    m->header_bytes = sizeof m->header;
    memcpy(m->header, "\x93NUMPY\1\0", 8);
    bytes_put(m->header + 8, 2, sizeof m->header - 10);
    const int length = snprintf((char *)m->header + 10, sizeof m->header - 10,
                                "{'descr': '%s', 'fortran_order': False, 'shape': (%llu, %llu), }",
                                type, (unsigned long long)rows, (unsigned long long)cols);
    m->header[10 + length] = ' ';
    m->header[sizeof m->header - 1] = '\n';
}

static msae_status open_tensor(matrix_file *m, torch_tensor tensor, const char *name,
                               msae_error *error) {
    if (!squeeze(&tensor) || tensor.shape[1] == 0) {
        return bytes_fail(error, MSAE_ERROR_SHAPE, MSAE_NO_POSITION,
                          "the tensor%s%s is not a matrix of floats", name != NULL ? " " : "",
                          name != NULL ? name : "");
    }
    const int is_plain =
        tensor.elements == 0 || (tensor.stride[1] == 1 && tensor.stride[0] == tensor.shape[1]);
    const char *type = is_plain ? npy_type(tensor.dtype) : "<f4";
    const uint64_t width = is_plain ? msae_dtype_bytes(tensor.dtype) : 4;
    make_header(m, type, tensor.shape[0], tensor.shape[1]);
    if (is_plain) {
        m->at = tensor.at + tensor.offset * width;
    } else {
        if (tensor.elements > SIZE_MAX / 4) return bytes_fail_memory(error);
        m->memory_bytes = 4 * (size_t)tensor.elements;
        float *values = (float *)bytes_take(&m->allocator, m->memory_bytes);
        m->memory = (unsigned char *)values;
        if (values == NULL) return bytes_fail_memory(error);
        const msae_status status =
            torch_read(&m->file, &tensor, MSAE_F32, values, &m->allocator, error);
        if (status != MSAE_OK) return status;
        for (size_t i = 0; i < tensor.elements; i++) { /* little-endian on every machine */
            const uint32_t bits = bytes_of_float(values[i]);
            bytes_put(m->memory + 4 * i, 4, bits);
        }
    }
    matrix_present(m, tensor.elements * width);
    return MSAE_OK;
}

typedef struct matrix_choice {
    const char *name; /* asked for, or NULL */
    const torch_value *found;
    size_t matrices;
    char names[160];
} matrix_choice;

/* The matrices of a dict, and of the dicts in it. */
static void matrix_look_into(matrix_choice *c, const torch_value *dict, int depth) {
    for (size_t i = 0; dict->kind == TORCH_DICT && i < dict->count; i++) {
        const torch_value *key = dict->as.items[2 * i], *value = dict->as.items[2 * i + 1];
        if (value->kind == TORCH_DICT && depth > 0) matrix_look_into(c, value, depth - 1);
        if (key->kind != TORCH_TEXT || value->kind != TORCH_TENSOR) continue;
        torch_tensor tensor = *value->as.tensor;
        const int is_named = c->name != NULL && strcmp(key->as.text, c->name) == 0;
        if (!squeeze(&tensor) && !is_named) continue;
        list_name(c->names, key->as.text, key->count);
        if (c->name != NULL ? !is_named || c->found != NULL : c->matrices++ > 0) continue;
        c->found = value;
    }
}

static msae_status open_saved(matrix_file *m, const char *name, msae_error *error) {
    torch_file file;
    matrix_choice c;
    msae_status status = torch_open(&file, &m->file, 0, &m->allocator, error);
    if (status != MSAE_OK) return status;
    memset(&c, 0, sizeof c);
    c.name = name;
    if (file.root->kind == TORCH_TENSOR) {
        status = open_tensor(m, *file.root->as.tensor, NULL, error);
    } else if (file.root->kind != TORCH_DICT) {
        status = bytes_fail(error, MSAE_ERROR_UNSUPPORTED, MSAE_NO_POSITION,
                            "holds neither a tensor nor a dict of tensors: save one of the two");
    } else {
        matrix_look_into(&c, file.root, 1);
        if (name == NULL && c.matrices > 1) {
            status = bytes_fail(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION,
                                "holds %lu matrices (%s): name the one to read with --tensor",
                                (unsigned long)c.matrices, c.names);
        } else if (c.found == NULL) {
            status = bytes_fail(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION,
                                name != NULL ? "no tensor has that name (--tensor)%s%s"
                                             : "holds a dict without a matrix of floats%s%s",
                                c.names[0] != '\0' ? ", but " : "", c.names);
        } else {
            status = open_tensor(m, *c.found->as.tensor, name, error);
        }
    }
    torch_close(&file);
    return status;
}

msae_status matrix_open(matrix_file *m, const msae_reader *file, const char *name,
                        const msae_allocator *allocator, msae_error *error) {
    zip_file zip;
    int is_torch = 0;
    memset(m, 0, sizeof *m);
    m->file = *file;
    if (allocator != NULL) m->allocator = *allocator;
    msae_status status = zip_open(&zip, &m->file, &m->allocator, error);
    if (status != MSAE_OK) return status;
    for (size_t i = 0; i < zip.n_members; i++) is_torch |= zip_ends_in(&zip.members[i], "data.pkl");
    status = is_torch ? open_saved(m, name, error) : open_npz(m, &zip, name, error);
    zip_close(&zip);
    if (status != MSAE_OK) matrix_close(m);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Text
   ------------------------------------------------------------------------------------------ */

typedef struct number_text {
    const char *start, *end;
    char separator; /* ' ': blanks, of any number */
    int has_names;  /* a first column of them */
} number_text;

static int is_text_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

/* The next field of a line, without the blanks around it; *at is behind its separator then, NULL
   after the last. 0 at the end of the line. */
static int next_text_field(const number_text *t, const char **at, const char *end,
                           const char **field, size_t *bytes) {
    const char *from = *at, *stop;
    if (from == NULL) return 0;
    while (from < end && is_text_blank(*from) && (t->separator == ' ' || *from != t->separator)) {
        from++;
    }
    if (t->separator == ' ' && from == end) return 0;
    stop = from;
    while (stop < end && (t->separator == ' ' ? !is_text_blank(*stop) : *stop != t->separator)) {
        stop++;
    }
    *at = stop < end ? stop + 1 : NULL;
    while (stop > from && is_text_blank(stop[-1])) stop--;
    *field = from;
    *bytes = (size_t)(stop - from);
    return 1;
}

/* A number as C and Python write them. */
static int read_text_value(const char *field, size_t bytes, float *value) {
    char copy[64], *behind;
    if (bytes == 0 || bytes >= sizeof copy) return 0;
    memcpy(copy, field, bytes);
    copy[bytes] = '\0';
    if (strspn(copy, "+-.0123456789eEnNaAiIfFtTyY") != bytes) return 0; /* no hexadecimal */
    *value = (float)strtod(copy, &behind); /* the locale is "C": nobody calls setlocale */
    return *behind == '\0';
}

/* The line at *at, which is behind it then; without its end. 0 at the end of the text. */
static int next_text_line(const number_text *t, const char **at, const char **line,
                          const char **end) {
    if (*at >= t->end) return 0;
    *line = *at;
    *end = memchr(*line, '\n', (size_t)(t->end - *line));
    if (*end == NULL) *end = t->end;
    *at = *end < t->end ? *end + 1 : t->end;
    if (*end > *line && (*end)[-1] == '\r') --*end;
    return 1;
}

/* What a line's fields are. */
typedef struct line_kind {
    size_t fields, numbers;
    int first_is_number, first_is_empty;
    int counts; /* 1: the numbers are 0, 1, 2 .. as pandas calls columns without names */
} line_kind;

static line_kind kind_of_line(const number_text *t, const char *line, const char *end) {
    line_kind kind = {0, 0, 0, 0, 1};
    const char *field;
    size_t bytes;
    float value = 0;
    while (next_text_field(t, &line, end, &field, &bytes)) {
        const int is_number = read_text_value(field, bytes, &value);
        if (kind.fields++ == 0) {
            kind.first_is_number = is_number;
            kind.first_is_empty = bytes == 0;
        }
        if (is_number && (double)value != (double)kind.numbers) kind.counts = 0;
        kind.numbers += (size_t)is_number;
    }
    return kind;
}

/* What separates numbers, and where they begin: behind a line of names, or of two sizes. */
static void look_at_text(number_text *t) {
    const char *at = t->start, *line, *end;
    line_kind first, second = {0, 0, 0, 0, 0};
    if (!next_text_line(t, &at, &line, &end)) return;
    const size_t bytes = (size_t)(end - line);
    const char *const behind = at;
    t->separator = memchr(line, '\t', bytes) != NULL  ? '\t'
                   : memchr(line, ',', bytes) != NULL ? ','
                   : memchr(line, ';', bytes) != NULL ? ';'
                                                      : ' ';
    first = kind_of_line(t, line, end);
    if (next_text_line(t, &at, &line, &end)) second = kind_of_line(t, line, end);
    const int has_names = first.numbers == 0;
    const int has_counts = first.counts && first.numbers > 2 && second.fields > 0 &&
                           first.numbers + (size_t)first.first_is_empty == first.fields;
    const int has_sizes =
        t->separator == ' ' && first.fields == 2 && first.numbers == 2 && second.fields > 2;
    t->has_names = first.fields > 1 && !first.first_is_number && first.numbers + 1 == first.fields;
    if (has_names || has_counts || has_sizes) {
        t->start = behind;
        t->has_names =
            (first.first_is_empty && first.fields > 1 && !has_sizes) ||
            (second.fields > 1 && !second.first_is_number && second.numbers + 1 == second.fields);
    }
}

/* Reads a line's numbers into out [cols] (NULL: counts them into *cols). */
static msae_status read_row_of_text(const number_text *t, const char *start, const char *line,
                                    const char *end, size_t number, size_t *cols, float *out,
                                    msae_error *error) {
    const char *at = line, *field;
    size_t bytes, count = 0, place = 0;
    while (next_text_field(t, &at, end, &field, &bytes)) {
        float value;
        if (place++ == 0 && t->has_names) continue;
        if (!read_text_value(field, bytes, &value)) {
            return bytes_fail(error, MSAE_ERROR_FORMAT, (uint64_t)(field - start),
                              "line %lu, column %lu: '%.*s' is not a number", (unsigned long)number,
                              (unsigned long)place, bytes < 24 ? (int)bytes : 24, field);
        }
        if (out != NULL && count < *cols) out[count] = value;
        count++;
    }
    if (*cols == 0) *cols = count;
    if (count == *cols && count > 0) return MSAE_OK;
    return bytes_fail(error, MSAE_ERROR_FORMAT, (uint64_t)(line - start),
                      "line %lu has %lu numbers where those before have %lu", (unsigned long)number,
                      (unsigned long)count, (unsigned long)*cols);
}

/* Two passes: one counts and checks, one fills. */
static msae_status read_all_text(matrix_file *m, const char *bytes, size_t size,
                                 msae_error *error) {
    number_text t = {bytes, bytes + size, ' ', 0};
    size_t cols = 0, rows = 0;
    if (size >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) t.start += 3;
    while (t.end > t.start && (t.end[-1] == '\n' || is_text_blank(t.end[-1]))) t.end--;
    while (t.start < t.end && (*t.start == '\n' || *t.start == '\r')) t.start++;
    look_at_text(&t);
    size_t skipped = 0;
    for (const char *c = bytes; c < t.start; c++) skipped += *c == '\n';
    for (int pass = 0; pass < 2; pass++) {
        const char *at = t.start, *line, *end;
        float *values = (float *)(void *)m->memory;
        rows = 0;
        while (next_text_line(&t, &at, &line, &end)) {
            const msae_status status =
                read_row_of_text(&t, bytes, line, end, skipped + rows + 1, &cols,
                                 pass > 0 ? values + rows * cols : NULL, error);
            if (status != MSAE_OK) return status;
            rows++;
        }
        if (pass > 0) break;
        if (rows == 0) {
            return bytes_fail(error, MSAE_ERROR_FORMAT, 0, "the text has no line of numbers");
        }
        if (rows > SIZE_MAX / sizeof(float) / cols) return bytes_fail_memory(error);
        m->memory_bytes = rows * cols * sizeof(float);
        m->memory = (unsigned char *)bytes_take(&m->allocator, m->memory_bytes);
        if (m->memory == NULL) return bytes_fail_memory(error);
    }
    for (size_t i = 0; i < rows * cols; i++) { /* little-endian on every machine */
        float value;
        memcpy(&value, m->memory + 4 * i, sizeof value);
        bytes_put(m->memory + 4 * i, 4, bytes_of_float(value));
    }
    make_header(m, "<f4", rows, cols);
    matrix_present(m, m->memory_bytes);
    return MSAE_OK;
}

msae_status matrix_open_text(matrix_file *m, const msae_reader *file,
                             const msae_allocator *allocator, msae_error *error) {
    msae_status status;
    memset(m, 0, sizeof *m);
    m->file = *file;
    if (allocator != NULL) m->allocator = *allocator;
    const size_t size = (size_t)file->size;
    char *bytes = (char *)bytes_read_block(&m->file, 0, file->size, &m->allocator, &status, error);
    if (bytes == NULL) return status;
    if (memchr(bytes, 0, size) != NULL) {
        status =
            bytes_fail(error, MSAE_ERROR_FORMAT, (uint64_t)((char *)memchr(bytes, 0, size) - bytes),
                       "is not text: it has a zero byte");
    } else {
        status = read_all_text(m, bytes, size, error);
    }
    bytes_give(&m->allocator, bytes, size);
    if (status != MSAE_OK) matrix_close(m);
    return status;
}
