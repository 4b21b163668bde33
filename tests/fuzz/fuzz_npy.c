/* The .npy reader: what it accepts ends exactly at the end, and every row can be read.
   Options: -max_len=256
   Dictionaries: npy */
#include "fuzz.h"

/* Row by row, or as a whole: the same floats. */
static void read_rows(const msae_data *data) {
    const size_t values = data->rows * data->cols, last = data->rows - 1;
    float *all = (float *)fuzz_take(values * sizeof *all);
    float *row = (float *)fuzz_take(data->cols * sizeof *row);
    msae_data_read(data, 0, data->rows, all);
    msae_data_read(data, last, 1, row);
    CHECK(fuzz_same_numbers(row, all + last * data->cols, data->cols));
    msae_data_check(data, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    const fuzz_file file = fuzz_file_of(input, size, FUZZ_NPY);
    msae_data data;
    msae_error error;
    if (file.size >= 6 && memcmp(file.bytes, "\x93NUMPY", 6) == 0) {
        const msae_status status =
            msae_data_load(&data, msae_from_memory(file.bytes, file.size), NULL, NULL, &error);
        if (status == MSAE_OK) {
            const unsigned char *values = (const unsigned char *)data.values;
            const size_t bytes = data.rows * data.cols * msae_dtype_bytes(data.dtype);
            CHECK(data.dtype <= MSAE_F64 || data.dtype == MSAE_I8);
            CHECK(data.rows > 0 && data.cols > 0);
            if (data.owned != NULL) { /* big-endian or in Fortran order */
                CHECK(values == data.owned && bytes == data.owned_bytes && bytes < file.size);
            } else {
                CHECK(values > file.bytes && values + bytes == file.bytes + file.size);
            }
            read_rows(&data);
            msae_data_free(&data);
        } else {
            CHECK(error.code == status && error.message[0] && error.position <= file.size);
            CHECK(data.values == NULL);
        }
    }
    fuzz_release();
    return 0;
}
