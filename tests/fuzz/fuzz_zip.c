/* Matrices in a zip and in text: whatever the bytes, what is found is a .npy of the size that it
   says, and memory is given back.
   Options: -max_len=2048 */
#include "fuzz.h"

#include "../../examples/tool/bytes.c"
#include "../../examples/tool/inflate.c"
#include "../../examples/tool/zip.c"
#include "../../examples/tool/torch.c"

#include "../../examples/tool/matrix.c"

/* Inflate alone: the first byte times 16 is the room. */
static void check_inflate(const uint8_t *input, size_t size) {
    const size_t room = (size_t)input[0] * 16;
    unsigned char *out = (unsigned char *)fuzz_take(room + 1);
    msae_error error;
    if (inflate_bytes(input + 1, size - 1, out, room, &error) != MSAE_OK) {
        CHECK(error.message[0] != '\0' && error.position <= size);
    }
}

static void check_text(const msae_reader *file) {
    fuzz_heap heap;
    const msae_allocator allocator = fuzz_heap_allocator(&heap);
    matrix_file matrix;
    msae_error error;
    msae_data data;
    if (matrix_open_text(&matrix, file, &allocator, &error) == MSAE_OK) {
        CHECK(msae_data_load(&data, matrix.reader, NULL, NULL, &error) == MSAE_OK);
        CHECK(data.rows > 0 && data.cols > 0 && data.dtype == MSAE_F32);
        msae_data_free(&data);
    } else {
        CHECK(error.message[0] != '\0' && error.position <= file->size);
    }
    matrix_close(&matrix);
    CHECK(heap.held == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    const msae_reader file = msae_from_memory(fuzz_copy(input, size), size);
    fuzz_heap heap;
    const msae_allocator allocator = fuzz_heap_allocator(&heap);
    matrix_file matrix;
    msae_error error;
    msae_data data;
    const msae_status status = matrix_open(&matrix, &file, NULL, &allocator, &error);
    if (status == MSAE_OK) {
        if (msae_data_load(&data, matrix.reader, NULL, NULL, &error) == MSAE_OK) {
            CHECK(data.rows > 0 && data.cols > 0);
            msae_data_free(&data);
        }
    } else {
        CHECK(error.code == status && error.message[0] != '\0');
    }
    matrix_close(&matrix);
    CHECK(heap.held == 0);
    if (size > 0) check_inflate(input, size);
    if (size > 0) check_text(&file);
    fuzz_release();
    return 0;
}
