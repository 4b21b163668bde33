/* Data of any kind. The input's first line is a file name, by which data without a header is told,
   and the name of the tensor to take (none when empty); the file follows.
   Options: -max_len=512
   Dictionaries: npy safetensors */
#include "fuzz.h"

static void check_data(const msae_data *data, const fuzz_file *file) {
    const unsigned char *values = (const unsigned char *)data->values;
    const size_t bytes = data->rows * data->cols * msae_dtype_bytes(data->dtype);
    const size_t offset = (size_t)(values - file->bytes);
    size_t index[3];
    float *out = (float *)fuzz_take(data->rows * data->cols * sizeof *out);
    float *few = (float *)fuzz_take(3 * data->cols * sizeof *few);
    CHECK(data->rows > 0 && data->cols > 0);
    CHECK(msae__dtype_is_float(data->dtype) || data->dtype == MSAE_I8);
    CHECK(data->owned != NULL || (offset <= file->size && bytes <= file->size - offset));
    index[0] = data->rows - 1;
    index[1] = 0;
    index[2] = data->rows / 2;
    msae_data_read(data, 0, data->rows, out);
    for (size_t i = 0; i < 3; i++) {
        msae_data_read(data, index[i], 1, few + i * data->cols);
        CHECK(fuzz_same_numbers(few + i * data->cols, out + index[i] * data->cols, data->cols));
    }
    msae_data_check(data, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    const uint8_t *line_end = size ? (const uint8_t *)memchr(input, '\n', size) : NULL;
    const size_t line = line_end ? (size_t)(line_end - input) : 0;
    const size_t start = line_end ? line + 1 : 0;
    const char *name = fuzz_string(input, line);
    const fuzz_format format = size > line && strstr(name, "npy") ? FUZZ_NPY : FUZZ_SAFETENSORS;
    const fuzz_file file = fuzz_file_of(input + start, size - start, format);
    msae_data data;
    msae__matrix matrix;
    msae_error error, located;
    msae_reader reader = msae_from_memory(file.bytes, file.size), named = reader;
    reader.memory = NULL; /* as of any other source */
    named.path = name;
    if (msae__is_headerless(&named, &matrix)) {
        CHECK(matrix.offset == 0 && matrix.dtype == MSAE_F32);
        data = msae_data_view(NULL, (size_t)matrix.rows, matrix.cols);
        data.native = 0;
        data.values = file.bytes;
        CHECK(data.rows * data.cols * 4 == file.size);
        check_data(&data, &file);
    }
    if (msae_data_load(&data, msae_from_memory(file.bytes, file.size), *name ? name : NULL, NULL,
                       &error) == MSAE_OK) {
        check_data(&data, &file);
        /* from its header alone the same is found */
        CHECK(msae__locate_matrix(&reader, *name ? name : NULL, 0, NULL, &matrix, NULL) == MSAE_OK);
        CHECK(matrix.rows == data.rows && matrix.cols == data.cols && matrix.dtype == data.dtype);
        CHECK((matrix.is_swapped || matrix.is_by_columns) == (data.owned != NULL));
        CHECK(data.owned != NULL ||
              file.bytes + matrix.offset == (const unsigned char *)data.values);
        msae_data_free(&data);
    } else {
        CHECK(error.message[0] && data.values == NULL);
        CHECK(msae__locate_matrix(&reader, *name ? name : NULL, 0, NULL, &matrix, &located) ==
              error.code);
        CHECK(strcmp(located.message, error.message) == 0);
        /* among others it may still be one without rows */
        CHECK(msae__locate_matrix(&reader, *name ? name : NULL, 1, NULL, &matrix, NULL) !=
                  MSAE_OK ||
              matrix.rows == 0);
    }
    fuzz_release();
    return 0;
}
