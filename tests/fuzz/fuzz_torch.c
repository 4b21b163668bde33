/* The reader of torch.save files: what it accepts is a tree of bounded depth and size whose tensors
   lie in their storages, and can be read. Checksums are not looked at, or nothing would get past
   them. An input that starts with 'P' is a file; any other is a pickle behind its first byte, put
   into a zip with a few storages.
   Options: -max_len=1024
   Dictionaries: torch */
#include "fuzz.h"

#include "../../examples/tool/bytes.c"
#include "../../examples/tool/zip.c"
#include "../../examples/tool/torch.c"

/* Appends a record to a zip and its entry to the directory. */
static void add_record(buffer *zip_bytes, buffer *directory, const char *name, const void *bytes,
                       size_t size) {
    const size_t start = zip_bytes->size, name_bytes = strlen(name);
    for (int local = 1; local >= 0; local--) {
        buffer *b = local ? zip_bytes : directory;
        add_number(b, 4, local ? ZIP_LOCAL : ZIP_ENTRY);
        add_number(b, 8, 0);
        add_number(b, local ? 2 : 4, 0);
        add_number(b, 4, 0); /* the checksum */
        add_number(b, 4, size);
        add_number(b, 4, size);
        add_number(b, 2, name_bytes);
        add_number(b, 2, 0);
        if (!local) add_number(b, 8, 0);
        if (!local) add_number(b, 2, 0);
        if (!local) add_number(b, 4, start);
        add_words(b, name);
    }
    add(zip_bytes, bytes, size);
}

static fuzz_file zip_of(const uint8_t *pickle, size_t size) {
    static const unsigned char zeros[64] = {1, 2, 3};
    buffer z = {NULL, NULL, 0, 0, 0}, directory = {NULL, NULL, 0, 0, 0};
    fuzz_file file;
    add_record(&z, &directory, "a/data.pkl", pickle, size);
    add_record(&z, &directory, "a/data/0", zeros, 64);
    add_record(&z, &directory, "a/data/1", zeros, 8);
    add_record(&z, &directory, "a/data/2", zeros, 0);
    const size_t start = z.size, bytes = directory.size;
    add(&z, directory.bytes, directory.size);
    add_number(&z, 4, ZIP_END);
    add_number(&z, 4, 0);
    add_number(&z, 2, 4);
    add_number(&z, 2, 4);
    add_number(&z, 4, bytes);
    add_number(&z, 4, start);
    add_number(&z, 2, 0);
    file.bytes = (unsigned char *)fuzz_copy(z.bytes, z.size);
    file.size = z.size;
    free(z.bytes);
    free(directory.bytes);
    return file;
}

static void check_tensor(const msae_reader *reader, const torch_tensor *tensor) {
    uint64_t elements = 1;
    float *as_float;
    double *as_double;
    CHECK(tensor->rank <= MSAE_MAX_RANK && tensor->at <= reader->size);
    CHECK(tensor->bytes <= reader->size - tensor->at);
    for (size_t k = 0; k < tensor->rank; k++) elements *= tensor->shape[k];
    CHECK(elements == tensor->elements);
    if (elements > 256) return;
    as_float = (float *)fuzz_take((size_t)elements * sizeof *as_float);
    as_double = (double *)fuzz_take((size_t)elements * sizeof *as_double);
    CHECK(torch_read(reader, tensor, MSAE_F32, as_float, NULL, NULL) == MSAE_OK);
    CHECK(torch_read(reader, tensor, MSAE_F64, as_double, NULL, NULL) == MSAE_OK);
    for (size_t i = 0; i < elements; i++) {
        CHECK((float)as_double[i] == as_float[i] || isnan(as_float[i]));
    }
}

/* Visits every value, which are no more than the file has bytes. */
static void check_value(const msae_reader *reader, const torch_value *value, size_t depth,
                        size_t *left) {
    const size_t count = value->kind == TORCH_DICT ? 2 * (size_t)value->count : value->count;
    /* so many containers may lie inside each other, and something in the last one */
    CHECK(depth < TORCH_MAX_DEPTH || (depth == TORCH_MAX_DEPTH && !is_container(value)));
    CHECK(value->kind < TORCH_KINDS);
    CHECK(*left > 0);
    --*left;
    if (value->kind == TORCH_TENSOR && fuzz_n_blocks < FUZZ_BLOCKS / 2) {
        check_tensor(reader, value->as.tensor);
    }
    if (value->kind == TORCH_TEXT || value->kind == TORCH_BYTES) {
        CHECK(value->as.text[value->count] == '\0');
    }
    if (!is_container(value)) return;
    for (size_t i = 0; i < count; i++) {
        const torch_value *item = value->as.items[i];
        if (value->kind == TORCH_DICT && i % 2 == 0 && item->kind == TORCH_TEXT &&
            strlen(item->as.text) == item->count) {
            CHECK(torch_find(value, item->as.text) == value->as.items[i + 1]);
        }
        check_value(reader, item, depth + 1, left);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    const fuzz_file bytes = size > 0 && input[0] == 'P'
                                ? (fuzz_file){(unsigned char *)fuzz_copy(input, size), size}
                                : zip_of(input + (size > 0), size - (size > 0));
    const msae_reader reader = msae_from_memory(bytes.bytes, bytes.size);
    size_t left = bytes.size;
    fuzz_heap heap;
    const msae_allocator allocator = fuzz_heap_allocator(&heap);
    torch_file file;
    msae_error error;
    const msae_status status = torch_open(&file, &reader, TORCH_NO_CRC, &allocator, &error);
    CHECK(heap.most <= 200 * bytes.size + 4096);
    if (status == MSAE_OK) {
        check_value(&reader, file.root, 0, &left);
    } else {
        CHECK(error.code == status && error.message[0] && error.position <= bytes.size);
    }
    torch_close(&file);
    CHECK(heap.held == 0);
    fuzz_release();
    return 0;
}
