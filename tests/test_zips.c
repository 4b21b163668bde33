/* Matrices in zips, arrays of an .npz, stored and deflated, and tensors of torch.save; and in text. */
#include "test.h"

#include "../examples/tool/bytes.c"
#include "../examples/tool/inflate.c"
#include "../examples/tool/zip.c"
#include "../examples/tool/torch.c"

#include "../examples/tool/matrix.c"

static const float wanted[6] = {1, -2, 0.5f, 3, 96, -0.125f};

/* numpy.savez of x, and numpy.savez_compressed of x and of the whole numbers ids, with the time of
   their members set back. */
static const unsigned char stored[260] = {
    80,  75, 3,   4,   20, 0,   0,   0,   0,   0,   0,   0,   33,  0,   26,  83,  27,  95,  152,
    0,   0,  0,   152, 0,  0,   0,   5,   0,   0,   0,   120, 46,  110, 112, 121, 147, 78,  85,
    77,  80, 89,  1,   0,  118, 0,   123, 39,  100, 101, 115, 99,  114, 39,  58,  32,  39,  60,
    102, 52, 39,  44,  32, 39,  102, 111, 114, 116, 114, 97,  110, 95,  111, 114, 100, 101, 114,
    39,  58, 32,  70,  97, 108, 115, 101, 44,  32,  39,  115, 104, 97,  112, 101, 39,  58,  32,
    40,  50, 44,  32,  51, 41,  44,  32,  125, 32,  32,  32,  32,  32,  32,  32,  32,  32,  32,
    32,  32, 32,  32,  32, 32,  32,  32,  32,  32,  32,  32,  32,  32,  32,  32,  32,  32,  32,
    32,  32, 32,  32,  32, 32,  32,  32,  32,  32,  32,  32,  32,  32,  32,  32,  32,  32,  32,
    32,  32, 32,  32,  32, 32,  32,  32,  32,  32,  10,  0,   0,   128, 63,  0,   0,   0,   192,
    0,   0,  0,   63,  0,  0,   64,  64,  0,   0,   192, 66,  0,   0,   0,   190, 80,  75,  1,
    2,   20, 3,   20,  0,  0,   0,   0,   0,   0,   0,   33,  0,   26,  83,  27,  95,  152, 0,
    0,   0,  152, 0,   0,  0,   5,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   128,
    1,   0,  0,   0,   0,  120, 46,  110, 112, 121, 80,  75,  5,   6,   0,   0,   0,   0,   1,
    0,   1,  0,   51,  0,  0,   0,   187, 0,   0,   0,   0,   0};

static const unsigned char packed[360] = {
    80,  75,  3,   4,   20,  0,   0,   0,   8,   0,   0,   0,   33,  0,   26,  83,  27,  95,  89,
    0,   0,   0,   152, 0,   0,   0,   5,   0,   0,   0,   120, 46,  110, 112, 121, 155, 236, 23,
    234, 27,  16,  201, 200, 80,  198, 80,  173, 158, 146, 90,  156, 92,  164, 110, 165, 160, 110,
    147, 102, 162, 174, 163, 160, 158, 150, 95,  84,  82,  148, 152, 23,  159, 95,  148, 146, 10,
    18,  119, 75,  204, 41,  78,  5,   138, 23,  103, 36,  22,  164, 2,   249, 26,  70,  58,  10,
    198, 154, 58,  10,  181, 10,  100, 3,   46,  6,   134, 6,   123, 6,   6,   134, 3,   64,  12,
    164, 29,  28,  128, 76,  39,  32,  123, 31,  0,   80,  75,  3,   4,   20,  0,   0,   0,   8,
    0,   0,   0,   33,  0,   126, 106, 251, 201, 73,  0,   0,   0,   144, 0,   0,   0,   7,   0,
    0,   0,   105, 100, 115, 46,  110, 112, 121, 155, 236, 23,  234, 27,  16,  201, 200, 80,  198,
    80,  173, 158, 146, 90,  156, 92,  164, 110, 165, 160, 110, 147, 105, 161, 174, 163, 160, 158,
    150, 95,  84,  82,  148, 152, 23,  159, 95,  148, 146, 10,  18,  119, 75,  204, 41,  78,  5,
    138, 23,  103, 36,  22,  164, 2,   249, 26,  70,  58,  154, 58,  10,  181, 10,  20,  0,   46,
    6,   40,  96,  132, 210, 0,   80,  75,  1,   2,   20,  3,   20,  0,   0,   0,   8,   0,   0,
    0,   33,  0,   26,  83,  27,  95,  89,  0,   0,   0,   152, 0,   0,   0,   5,   0,   0,   0,
    0,   0,   0,   0,   0,   0,   0,   0,   128, 1,   0,   0,   0,   0,   120, 46,  110, 112, 121,
    80,  75,  1,   2,   20,  3,   20,  0,   0,   0,   8,   0,   0,   0,   33,  0,   126, 106, 251,
    201, 73,  0,   0,   0,   144, 0,   0,   0,   7,   0,   0,   0,   0,   0,   0,   0,   0,   0,
    0,   0,   128, 1,   124, 0,   0,   0,   105, 100, 115, 46,  110, 112, 121, 80,  75,  5,   6,
    0,   0,   0,   0,   2,   0,   2,   0,   104, 0,   0,   0,   234, 0,   0,   0,   0,   0};

/* What is found in bytes, or the error's text. */
static msae_status load(const unsigned char *bytes, size_t size, const char *name, float got[6],
                        msae_error *error) {
    const msae_reader file = msae_from_memory(bytes, size);
    test_heap heap = {0};
    const msae_allocator allocator = test_heap_allocator(&heap);
    matrix_file matrix;
    msae_data data;
    msae_status status = matrix_open(&matrix, &file, name, &allocator, error);
    if (status == MSAE_OK) {
        status = msae_data_load(&data, matrix.reader, NULL, NULL, error);
        if (status == MSAE_OK && data.rows * data.cols == 6)
            msae_data_read(&data, 0, data.rows, got);
        if (status == MSAE_OK) msae_data_free(&data);
    }
    matrix_close(&matrix);
    CHECK(heap.bytes == 0);
    return status;
}

/* Each allocation fails once: a status, and nothing stays. */
static void sweep(const void *bytes, size_t size, int is_text) {
    const msae_reader file = msae_from_memory(bytes, size);
    msae_status status = MSAE_ERROR_MEMORY;
    for (size_t fail_at = 1; status != MSAE_OK && CHECK(fail_at < 50); fail_at++) {
        test_heap heap = {0};
        const msae_allocator allocator = test_heap_allocator(&heap);
        matrix_file matrix;
        heap.fail_at = fail_at;
        status = is_text ? matrix_open_text(&matrix, &file, &allocator, NULL)
                         : matrix_open(&matrix, &file, NULL, &allocator, NULL);
        if (heap.allocations >= fail_at) {
            CHECK_STATUS(MSAE_ERROR_MEMORY, status);
            CHECK(heap.bytes == 0);
        } else {
            CHECK_STATUS(MSAE_OK, status);
            CHECK(fail_at > 2);
        }
        matrix_close(&matrix);
        CHECK(heap.bytes == 0);
        if (test_failures > 0) return;
    }
}

static void memory_that_fails(void) {
    static const char text[] = "a,b\n1,2\n3,4\n";
    sweep(stored, sizeof stored, 0);
    sweep(packed, sizeof packed, 0);
    sweep(text, sizeof text - 1, 1);
}

static void arrays(void) {
    static const struct {
        const unsigned char *bytes;
        size_t size;
        const char *name;
    } cases[] = {
        {stored, sizeof stored, NULL},    {stored, sizeof stored, "x"},
        {packed, sizeof packed, NULL},    {packed, sizeof packed, "x"},
        {packed, sizeof packed, "x.npy"},
    };
    msae_error error;
    for (size_t i = 0; i < COUNT(cases); i++) {
        float got[6] = {0};
        test_note("case %zu", i);
        CHECK_STATUS(MSAE_OK, load(cases[i].bytes, cases[i].size, cases[i].name, got, &error));
        CHECK(test_same(got, wanted, 6));
    }
    float got[6];
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, load(packed, sizeof packed, "y", got, &error));
    CHECK(strcmp(error.message, "no array has that name (--tensor), but ids, x") == 0);
    CHECK_STATUS(MSAE_ERROR_FORMAT, load(packed, sizeof packed, "ids", got, &error));
    CHECK(strstr(error.message, "whole numbers") != NULL);
}

/* Each cut is refused with a line; each changed byte is refused, or does not matter. */
static void damaged(const unsigned char *bytes, size_t size) {
    unsigned char *copy = (unsigned char *)test_alloc(size);
    msae_error error;
    float got[6];
    for (size_t cut = 0; cut < size; cut++) {
        memcpy(copy, bytes, cut);
        test_note("%zu bytes", cut);
        memset(&error, 0, sizeof error);
        CHECK(load(copy, cut, NULL, got, &error) != MSAE_OK && error.message[0] != '\0');
    }
    for (size_t at = 0; at < size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, bytes, size);
            copy[at] = (unsigned char)(copy[at] ^ 1 << bit);
            test_note("byte %zu, bit %d", at, bit);
            memset(&error, 0, sizeof error);
            const msae_status status = load(copy, size, NULL, got, &error);
            CHECK(status == MSAE_OK || error.message[0] != '\0');
        }
    }
    free(copy);
}

static void damaged_arrays(void) {
    damaged(stored, sizeof stored);
    damaged(packed, sizeof packed);
}

/* A comment may stand behind the end, and nothing else. */
static void comments(void) {
    unsigned char copy[sizeof stored + 9];
    msae_error error;
    float got[6] = {0};
    memcpy(copy, stored, sizeof stored);
    memcpy(copy + sizeof stored, "PK\5\6 made", 9);
    CHECK_STATUS(MSAE_ERROR_FORMAT, load(copy, sizeof copy, NULL, got, &error));
    CHECK(strstr(error.message, "something lies behind it") != NULL);
    bytes_put(copy + sizeof stored - 2, 2, 9);
    CHECK_STATUS(MSAE_OK, load(copy, sizeof copy, NULL, got, &error));
    CHECK(test_same(got, wanted, 6));
}

/* A deflated member whose bytes changed does not pass for what it was. */
static void checksums(void) {
    unsigned char copy[sizeof packed];
    size_t taken = 0;
    for (size_t at = 35; at < 120; at++) {
        msae_error error;
        float got[6] = {0};
        memcpy(copy, packed, sizeof packed);
        copy[at] = (unsigned char)(copy[at] ^ 0x10);
        if (load(copy, sizeof copy, "x", got, &error) == MSAE_OK) taken++;
    }
    CHECK(taken == 0);
}

/* A size that no compressed bytes of that number can have. */
static void bombs(void) {
    unsigned char copy[sizeof packed];
    size_t entry = 0;
    msae_error error;
    float got[6];
    memcpy(copy, packed, sizeof packed);
    for (size_t i = 0; i + 4 < sizeof packed && entry == 0; i++) {
        if (memcmp(packed + i, "PK\1\2", 4) == 0) entry = i;
    }
    bytes_put(copy + entry + 24, 4, 0xfffffff0u);
    CHECK_STATUS(MSAE_ERROR_FORMAT, load(copy, sizeof copy, "x", got, &error));
    CHECK(strstr(error.message, "longer than its bytes can say") != NULL);
    bytes_put(copy + entry + 24, 4, 100000);
    CHECK_STATUS(MSAE_ERROR_FORMAT, load(copy, sizeof copy, "x", got, &error));
}

typedef struct saved {
    unsigned char bytes[4096];
    size_t size;
} saved;

static int save_piece(void *user, const void *bytes, size_t size) {
    saved *s = (saved *)user;
    if (size > sizeof s->bytes - s->size) return 0;
    memcpy(s->bytes + s->size, bytes, size);
    s->size += size;
    return 1;
}

/* Gives the tensor of 2 x 3 the strides of one that was transposed, and the pickle its checksum. */
static void turn_features(saved *file) {
    const msae_reader reader = msae_from_memory(file->bytes, file->size);
    zip_file zip;
    CHECK_STATUS(MSAE_OK, zip_open(&zip, &reader, NULL, NULL));
    const zip_member *pickle = zip_find(&zip, "archive/", 8, "data.pkl", 8);
    unsigned char *bytes = file->bytes + pickle->at;
    size_t strides = 0;
    for (size_t i = 0; i + 12 <= pickle->bytes; i++) {
        if (memcmp(bytes + i, "(K\2K\3t(K\3K\1t", 12) == 0) strides = i + 6;
    }
    CHECK(strides > 0);
    memcpy(bytes + strides, "(K\1K\2t", 6);
    const uint32_t crc = bytes_crc(bytes, (size_t)pickle->bytes);
    for (size_t i = 0; i + 4 <= file->size; i++) {
        if (bytes_get(file->bytes + i, 4) == pickle->crc) bytes_put(file->bytes + i, 4, crc);
    }
    zip_close(&zip);
}

/* Tensors of a dict, as torch_write and torch.save write them. */
static void tensors(void) {
    static const float other[4] = {1, 2, 3, 4};
    static const float turned[6] = {1, 0.5f, 96, -2, 3, -0.125f};
    unsigned char little[24], more[16];
    msae_tensor items[2];
    const torch_content content = {items, 2, NULL, 0, NULL, 0};
    msae_writer writer;
    saved file;
    msae_error error;
    float got[6] = {0};
    memset(&writer, 0, sizeof writer);
    writer.write = save_piece;
    writer.user = &file;
    file.size = 0;
    test_copy_le(little, wanted, 6);
    test_copy_le(more, other, 4);
    memset(items, 0, sizeof items);
    items[0].name = "features";
    items[0].name_bytes = 8;
    items[0].rank = 2;
    items[0].shape[0] = 2;
    items[0].shape[1] = 3;
    items[0].data = little;
    items[0].bytes = sizeof little;
    items[1] = items[0];
    items[1].name = "scales";
    items[1].name_bytes = 6;
    items[1].rank = 1;
    items[1].shape[0] = 4;
    items[1].data = more;
    items[1].bytes = sizeof more;
    CHECK_STATUS(MSAE_OK, torch_write(&writer, "archive", &content, NULL, &error));
    CHECK_STATUS(MSAE_OK, load(file.bytes, file.size, NULL, got, &error));
    CHECK(test_same(got, wanted, 6));
    CHECK_STATUS(MSAE_OK, load(file.bytes, file.size, "features", got, &error));
    CHECK_STATUS(MSAE_ERROR_SHAPE, load(file.bytes, file.size, "scales", got, &error));
    CHECK(strcmp(error.message, "the tensor scales is not a matrix of floats") == 0);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, load(file.bytes, file.size, "none", got, &error));
    sweep(file.bytes, file.size, 0);
    turn_features(&file);
    CHECK_STATUS(MSAE_OK, load(file.bytes, file.size, NULL, got, &error));
    CHECK(test_same(got, turned, 6));
    sweep(file.bytes, file.size, 0);
    items[1].rank = 2;
    items[1].shape[0] = items[1].shape[1] = 2;
    file.size = 0;
    CHECK_STATUS(MSAE_OK, torch_write(&writer, "archive", &content, NULL, &error));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, load(file.bytes, file.size, NULL, got, &error));
    CHECK(strstr(error.message, "holds 2 matrices (features, scales)") != NULL);
}

static msae_status load_text(const char *text, size_t size, float *got, size_t shape[2],
                             msae_error *error) {
    const msae_reader file = msae_from_memory(text, size);
    test_heap heap = {0};
    const msae_allocator allocator = test_heap_allocator(&heap);
    matrix_file matrix;
    msae_data data;
    msae_status status = matrix_open_text(&matrix, &file, &allocator, error);
    if (status == MSAE_OK) status = msae_data_load(&data, matrix.reader, NULL, NULL, error);
    if (status == MSAE_OK) {
        shape[0] = data.rows;
        shape[1] = data.cols;
        if (data.rows * data.cols <= 6) msae_data_read(&data, 0, data.rows, got);
        msae_data_free(&data);
    }
    matrix_close(&matrix);
    CHECK(heap.bytes == 0);
    return status;
}

static void texts(void) {
    static const char *const same[] = {
        "1,-2,.5\n3,96,-0.125\n",
        "1, -2, 5e-1\r\n3 ,96,-.125",
        "\xef\xbb\xbf\x31;-2;0.5\n3;9.6e1;-0.125\n\n",
        "a\tb\tc\n1\t-2\t0.5\n3\t96\t-0.125\n",
        "id\ta\tb\tc\nx y\t1\t-2\t0.5\nz\t3\t96\t-0.125\n",
        "2 3\nx 1 -2 0.5\ny 3 96 -0.125\n",
        "  1 -2   0.5 \n\t3 96 -0.125\n",
        "0,1,2\n1,-2,0.5\n3,96,-0.125\n",
        ",0,1,2\n0,1,-2,0.5\n1,3,96,-0.125\n",
        ",a,b,c\n0,1,-2,0.5\n1,3,96,-0.125\n",
        "x,1,-2,0.5\ny,3,96,-0.125\n",
    };
    static const char *const refused[][2] = {
        {"", "the text has no line of numbers"},
        {"\n \n", "the text has no line of numbers"},
        {"a,b\n", "the text has no line of numbers"},
        {"1,2\n3\n", "line 2 has 1 numbers where those before have 2"},
        {"a,b\n1,2\n3\n", "line 3 has 1 numbers where those before have 2"},
        {"1,2\n3,4,5\n", "line 2 has 3 numbers where those before have 2"},
        {"1,,2\n3,4,5\n", "line 1, column 2: '' is not a number"},
        {"1,2\n3,0x4\n", "line 2, column 2: '0x4' is not a number"},
        {"1,2\n\n3,4\n", "line 2, column 1: '' is not a number"},
        {"1,2\n3,4 5\n", "line 2, column 2: '4 5' is not a number"},
    };
    msae_error error;
    size_t shape[2];
    for (size_t i = 0; i < COUNT(same); i++) {
        float got[6] = {0};
        test_note("%s", same[i]);
        CHECK_STATUS(MSAE_OK, load_text(same[i], strlen(same[i]), got, shape, &error));
        CHECK(shape[0] == 2 && shape[1] == 3 && test_same(got, wanted, 6));
        for (size_t cut = 0; cut < strlen(same[i]); cut++) { /* ends, one way or the other */
            (void)load_text(same[i], cut, got, shape, &error);
        }
    }
    for (size_t i = 0; i < COUNT(refused); i++) {
        float got[6];
        test_note("%s", refused[i][0]);
        CHECK_STATUS(MSAE_ERROR_FORMAT,
                     load_text(refused[i][0], strlen(refused[i][0]), got, shape, &error));
        if (!CHECK(strcmp(error.message, refused[i][1]) == 0)) puts(error.message);
    }
}

int main(void) {
    RUN(arrays);
    RUN(memory_that_fails);
    RUN(damaged_arrays);
    RUN(comments);
    RUN(checksums);
    RUN(bombs);
    RUN(tensors);
    RUN(texts);
    return test_finish();
}
