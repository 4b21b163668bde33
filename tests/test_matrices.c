/* Matrices as others save them: every type, byte order and order of a .npy, in memory, from a file
   and as part of a set, and files that an opener gives. */
#include "test.h"

static const char *folder;

/* The bytes are what numpy 1.24 wrote of these six numbers, and ml_dtypes of bfloat16. */
static const float wanted[6] = {1, -2, 0.5f, 3, 96, -0.125f};

static const struct kind {
    const char *dictionary;
    const char *bytes;
    size_t size;
    msae_dtype dtype;
} kinds[] = {
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
     "\0\0\x80\x3f\0\0\0\xc0\0\0\0\x3f\0\0\x40\x40\0\0\xc0\x42\0\0\0\xbe", 24, MSAE_F32},
    {"{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }",
     "\x3f\x80\0\0\xc0\0\0\0\x3f\0\0\0\x40\x40\0\0\x42\xc0\0\0\xbe\0\0\0", 24, MSAE_F32},
    {"{'descr': '>f2', 'fortran_order': False, 'shape': (2, 3), }",
     "\x3c\0\xc0\0\x38\0\x42\0\x56\0\xb0\0", 12, MSAE_F16},
    {"{'descr': '>f8', 'fortran_order': False, 'shape': (2, 3), }",
     "\x3f\xf0\0\0\0\0\0\0\xc0\0\0\0\0\0\0\0\x3f\xe0\0\0\0\0\0\0\x40\x08\0\0\0\0\0\0\x40\x58\0\0\0"
     "\0\0\0\xbf\xc0\0\0\0\0\0\0",
     48, MSAE_F64},
    {"{'descr': '<V2', 'fortran_order': False, 'shape': (2, 3), }",
     "\x80\x3f\0\xc0\0\x3f\x40\x40\xc0\x42\0\xbe", 12, MSAE_BF16},
    {"{'descr': '|V2', 'fortran_order': False, 'shape': (2, 3), }",
     "\x80\x3f\0\xc0\0\x3f\x40\x40\xc0\x42\0\xbe", 12, MSAE_BF16},
    {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }",
     "\0\0\x80\x3f\0\0\x40\x40\0\0\0\xc0\0\0\xc0\x42\0\0\0\x3f\0\0\0\xbe", 24, MSAE_F32},
    {"{'descr': '>f2', 'fortran_order': True, 'shape': (2, 3), }",
     "\x3c\0\x42\0\xc0\0\x56\0\x38\0\xb0\0", 12, MSAE_F16},
    {"{'descr': '<f2', 'fortran_order': False, 'shape': (2, 1, 3), }",
     "\0\x3c\0\xc0\0\x38\0\x42\0\x56\0\xb0", 12, MSAE_F16},
    {"{'descr': '<f2', 'fortran_order': True, 'shape': (2, 1, 3), }",
     "\0\x3c\0\x42\0\xc0\0\x56\0\x38\0\xb0", 12, MSAE_F16},
    {"{'descr': '<f2', 'fortran_order': False, 'shape': (1, 2, 3), }",
     "\0\x3c\0\xc0\0\x38\0\x42\0\x56\0\xb0", 12, MSAE_F16},
};

/* A .npy of version 1.0 at out [256]; its length. */
static size_t make_npy(const char *dictionary, const void *values, size_t size,
                       unsigned char *out) {
    const size_t length = strlen(dictionary);
    memset(out, ' ', 128);
    memcpy(out, "\x93NUMPY\x01\x00\x76\x00", 10);
    memcpy(out + 10, dictionary, length);
    out[127] = '\n';
    memcpy(out + 128, values, size);
    return 128 + size;
}

/* A file in the folder of these tests. */
static const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(bytes, 1, size, file) == size);
    if (file != NULL) CHECK(fclose(file) == 0);
}

/* Rows all at once, and one by one backwards. */
static void check_source(const msae_source *source, const float *rows, size_t n_rows, size_t cols) {
    float got[64] = {0};
    if (!CHECK(source->rows == n_rows && source->cols == cols)) return;
    CHECK_STATUS(MSAE_OK, source->read(source->user, 0, n_rows, got, NULL));
    CHECK(test_same(got, rows, n_rows * cols));
    for (size_t r = n_rows; r > 0; r--) {
        CHECK_STATUS(MSAE_OK, source->read(source->user, r - 1, 1, got, NULL));
        CHECK(test_same(got, rows + (r - 1) * cols, cols));
    }
}

static void every_kind(void) {
    const char *path = in_folder("x.npy");
    for (size_t i = 0; i < COUNT(kinds); i++) {
        unsigned char bytes[256];
        const size_t size = make_npy(kinds[i].dictionary, kinds[i].bytes, kinds[i].size, bytes);
        msae_data data;
        msae_files files;
        msae_source source;
        test_note("%s", kinds[i].dictionary);
        if (!CHECK_STATUS(MSAE_OK,
                          msae_data_load(&data, msae_from_memory(bytes, size), NULL, NULL, NULL))) {
            continue;
        }
        CHECK(data.dtype == kinds[i].dtype);
        source = msae_source_data(&data);
        check_source(&source, wanted, 2, 3);
        msae_data_free(&data);
        write_file(path, bytes, size);
        if (CHECK_STATUS(MSAE_OK, msae_data_load(&data, msae_from_file(path), NULL, NULL, NULL))) {
            source = msae_source_data(&data);
            check_source(&source, wanted, 2, 3);
            msae_data_free(&data);
        }
        if (CHECK_STATUS(MSAE_OK, msae_files_open(&files, &path, 1, NULL, NULL, NULL))) {
            check_source(&files.source, wanted, 2, 3);
            msae_files_close(&files);
        }
        remove(path);
    }
}

/* int8 are the numbers that they are. */
static void bytes_with_a_sign(void) {
    static const signed char values[6] = {1, -2, 127, -128, 0, 5};
    static const float want[6] = {1, -2, 127, -128, 0, 5};
    unsigned char bytes[256];
    const size_t size =
        make_npy("{'descr': '|i1', 'fortran_order': False, 'shape': (3, 2), }", values, 6, bytes);
    msae_data data;
    msae_source source;
    CHECK_STATUS(MSAE_OK, msae_data_load(&data, msae_from_memory(bytes, size), NULL, NULL, NULL));
    source = msae_source_data(&data);
    check_source(&source, want, 3, 2);
    msae_data_free(&data);
}

/* More rows than a piece holds, in Fortran order, big-endian: value = 1000 row + column. */
static void many_rows_in_fortran_order(void) {
    enum { ROWS = 20000, COLS = 3 };
    unsigned char *bytes = (unsigned char *)test_alloc(128 + (size_t)ROWS * COLS * 8);
    float *got = (float *)test_alloc((size_t)ROWS * COLS * sizeof *got);
    const char *path = in_folder("x.npy");
    msae_files files;
    make_npy("{'descr': '>f8', 'fortran_order': True, 'shape': (20000, 3), }", "", 0, bytes);
    for (size_t c = 0; c < COLS; c++) {
        for (size_t r = 0; r < ROWS; r++) {
            const double value = 1000 * (double)r + (double)c;
            uint64_t bits;
            memcpy(&bits, &value, sizeof bits);
            for (size_t i = 0; i < 8; i++) {
                bytes[128 + (c * ROWS + r) * 8 + i] = (unsigned char)(bits >> (56 - 8 * i));
            }
        }
    }
    write_file(path, bytes, 128 + (size_t)ROWS * COLS * 8);
    if (CHECK_STATUS(MSAE_OK, msae_files_open(&files, &path, 1, NULL, NULL, NULL))) {
        size_t wrong = 0;
        const msae_source *source = &files.source;
        CHECK_STATUS(MSAE_OK, source->read(source->user, 5, ROWS - 5, got, NULL));
        for (size_t r = 0; r < ROWS - 5; r++) {
            for (size_t c = 0; c < COLS; c++) {
                wrong += got[r * COLS + c] != 1000 * (float)(r + 5) + (float)c;
            }
        }
        CHECK(wrong == 0);
        msae_files_close(&files);
    }
    remove(path);
    free(bytes);
    free(got);
}

/* Every cut of a file is one clear failure. */
static void cut_anywhere(void) {
    for (size_t i = 0; i < COUNT(kinds); i++) {
        unsigned char bytes[256];
        const size_t size = make_npy(kinds[i].dictionary, kinds[i].bytes, kinds[i].size, bytes);
        for (size_t cut = 1; cut < size; cut++) {
            msae_data data;
            msae_error error;
            test_note("%s, %zu bytes", kinds[i].dictionary, cut);
            CHECK(msae_data_load(&data, msae_from_memory(bytes, cut), NULL, NULL, &error) ==
                  MSAE_ERROR_FORMAT);
            CHECK(error.message[0] != '\0' && error.position <= cut && data.owned == NULL);
        }
    }
}

/* The one matrix of floats beside tensors of types that cannot be read. */
static void beside_other_types(void) {
    static const char header[] =
        "{\"a\\\"b\":{\"dtype\":\"F32\",\"shape\":[2,1,3],\"data_offsets\":[5,29]},"
        "\"q\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,1],\"data_offsets\":[0,2]},"
        "\"r\":{\"dtype\":\"F4\",\"shape\":[2,3],\"data_offsets\":[2,5]}}";
    unsigned char bytes[512] = {0};
    const size_t length = sizeof header - 1, size = 8 + length + 29;
    const char *const names[] = {NULL, "a\\\"b"};
    msae_data data;
    msae_error error;
    msae_source source;
    bytes[0] = (unsigned char)length;
    memcpy(bytes + 8, header, length);
    memcpy(bytes + 8 + length + 5, kinds[0].bytes, 24);
    for (size_t i = 0; i < COUNT(names); i++) {
        if (!CHECK_STATUS(MSAE_OK, msae_data_load(&data, msae_from_memory(bytes, size), names[i],
                                                  NULL, &error))) {
            continue;
        }
        source = msae_source_data(&data);
        check_source(&source, wanted, 2, 3);
        msae_data_free(&data);
    }
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 msae_data_load(&data, msae_from_memory(bytes, size), "q", NULL, &error));
    CHECK(strcmp(error.message, "the tensor is F8_E4M3, not F32, F16, BF16 or F64") == 0);
}

/* ---------------------------------------------------------------------------------------------
   Openers
   ------------------------------------------------------------------------------------------ */

typedef struct shelf {
    unsigned char bytes[2][256];
    size_t sizes[2], opened, open_now;
    size_t fails_at; /* this opening fails; 0: none */
} shelf;

static msae_status shelf_open(void *user, const char *path, msae_reader *reader,
                              msae_error *error) {
    shelf *s = (shelf *)user;
    const size_t which = strcmp(path, "second") == 0;
    if (++s->opened == s->fails_at) {
        memset(error, 0, sizeof *error);
        error->code = MSAE_ERROR_IO;
        strcpy(error->message, "is lent out");
        return MSAE_ERROR_IO;
    }
    s->open_now++;
    *reader = msae_from_memory(s->bytes[which], s->sizes[which]);
    return MSAE_OK;
}

static void shelf_close(void *user, msae_reader *reader) {
    shelf *s = (shelf *)user;
    (void)reader;
    s->open_now--;
}

static void files_by_an_opener(void) {
    static const char *const paths[2] = {"first", "second"};
    shelf s;
    msae_opener opener = {shelf_open, shelf_close, NULL};
    float rows[12], got[12];
    opener.user = &s;
    memcpy(rows, wanted, sizeof wanted);
    memcpy(rows + 6, wanted, sizeof wanted);
    for (size_t at = 0; at <= 6; at++) {
        msae_files files;
        msae_error error;
        msae_status status;
        memset(&s, 0, sizeof s);
        s.sizes[0] = make_npy(kinds[1].dictionary, kinds[1].bytes, kinds[1].size, s.bytes[0]);
        s.sizes[1] = make_npy(kinds[6].dictionary, kinds[6].bytes, kinds[6].size, s.bytes[1]);
        s.fails_at = at;
        test_note("failure %zu", at);
        status = msae_files_open_by(&files, paths, 2, NULL, &opener, NULL, &error);
        CHECK_STATUS(at == 1 || at == 2 ? MSAE_ERROR_IO : MSAE_OK, status);
        if (status == MSAE_OK) {
            const msae_source *source = &files.source;
            status = source->read(source->user, 0, 4, got, &error);
            CHECK_STATUS(at == 3 || at == 4 ? MSAE_ERROR_IO : MSAE_OK, status);
            if (status == MSAE_OK) CHECK(test_same(got, rows, 12));
        }
        if (status != MSAE_OK) {
            CHECK(strcmp(error.message, "is lent out") == 0);
            CHECK(files.at_fault == (at + 1) % 2);
        } else { /* the first again, then what has changed */
            s.sizes[0]--;
            CHECK_STATUS(MSAE_ERROR_IO, files.source.read(files.source.user, 0, 1, got, &error));
        }
        msae_files_close(&files);
        CHECK(s.open_now == 0);
    }
}

int main(void) {
    folder = test_folder();
    RUN(every_kind);
    RUN(bytes_with_a_sign);
    RUN(many_rows_in_fortran_order);
    RUN(cut_anywhere);
    RUN(beside_other_types);
    RUN(files_by_an_opener);
    TEST_RMDIR(folder);
    return test_finish();
}
