/* The safetensors reader: what it accepts keeps the format's rules, and can be written and read
   again.
   Options: -max_len=512
   Dictionaries: safetensors */
#include "fuzz.h"

static int same_text(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    return a_bytes == b_bytes && memcmp(a, b, a_bytes) == 0;
}

/* One after the other up to the end, names and keys once each and found under their names. */
static void check_rules(const msae_safetensors *file, const fuzz_file *bytes) {
    const unsigned char *end = bytes->bytes + bytes->size;
    const unsigned char *next =
        file->n_tensors ? (const unsigned char *)file->tensors[0].data : end;
    size_t sum = 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const msae_tensor *tensor = &file->tensors[i];
        uint64_t bytes_of_shape;
        CHECK(tensor->data == next && tensor->bytes <= (size_t)(end - next));
        CHECK(tensor->rank <= MSAE_MAX_RANK);
        CHECK(msae__shape_bytes(tensor, &bytes_of_shape) && bytes_of_shape == tensor->bytes);
        CHECK(memchr(tensor->name, 0, tensor->name_bytes) == NULL);
        CHECK(msae_safetensors_find(file, fuzz_string(tensor->name, tensor->name_bytes)) == tensor);
        next += tensor->bytes;
        sum += tensor->bytes;
    }
    CHECK(next == end && 8 + msae__load_le(bytes->bytes, 8) + sum == bytes->size);
    for (size_t i = 0; i < file->n_metadata; i++) {
        const msae_metadata *entry = &file->metadata[i];
        CHECK(msae_safetensors_metadata(file, fuzz_string(entry->key, entry->key_bytes)) == entry);
    }
    /* no name has a control character */
    CHECK(!msae_safetensors_find(file, "\n") && !msae_safetensors_metadata(file, "\n"));
}

static int has_escapes(const msae_safetensors *file) {
    for (size_t i = 0; i < file->n_tensors; i++) {
        if (memchr(file->tensors[i].name, '\\', file->tensors[i].name_bytes)) return 1;
    }
    for (size_t i = 0; i < file->n_metadata; i++) {
        const msae_metadata *entry = &file->metadata[i];
        if (memchr(entry->key, '\\', entry->key_bytes)) return 1;
        if (memchr(entry->value, '\\', entry->value_bytes)) return 1;
    }
    return 0;
}

static void check_copy(const msae_safetensors *file, const msae_safetensors *copy) {
    CHECK(copy->n_tensors == file->n_tensors && copy->n_metadata == file->n_metadata);
    for (size_t i = 0; i < file->n_tensors; i++) {
        /* by name: the order of empty tensors at one place is open */
        const msae_tensor *a = &file->tensors[i];
        const msae_tensor *b = msae_safetensors_find(copy, fuzz_string(a->name, a->name_bytes));
        CHECK(b && b->dtype == a->dtype && b->rank == a->rank);
        CHECK(memcmp(b->shape, a->shape, a->rank * sizeof *a->shape) == 0);
        CHECK(b->bytes == a->bytes && memcmp(b->data, a->data, a->bytes) == 0);
    }
    for (size_t i = 0; i < file->n_metadata; i++) {
        const msae_metadata *a = &file->metadata[i], *b = &copy->metadata[i];
        CHECK(same_text(a->key, a->key_bytes, b->key, b->key_bytes));
        CHECK(same_text(a->value, a->value_bytes, b->value, b->value_bytes));
    }
}

static void check_writing(const msae_safetensors *file) {
    msae_safetensors copy;
    fuzz_file written;
    msae_writer writer = msae_to_memory(NULL, 0);
    msae_status status = msae_safetensors_write(&writer, file->tensors, file->n_tensors,
                                                file->metadata, file->n_metadata, NULL);
    written.size = writer.bytes;
    CHECK(status == (has_escapes(file) ? MSAE_ERROR_ARGUMENT : MSAE_OK));
    if (status != MSAE_OK) return;
    written.bytes = (unsigned char *)fuzz_take(written.size);
    writer = msae_to_memory(written.bytes, written.size);
    CHECK(msae_safetensors_write(&writer, file->tensors, file->n_tensors, file->metadata,
                                 file->n_metadata, NULL) == MSAE_OK);
    CHECK(msae_safetensors_open(&copy, msae_from_memory(written.bytes, written.size), NULL, NULL) ==
          MSAE_OK);
    check_copy(file, &copy);
    msae_safetensors_close(&copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    const fuzz_file bytes = fuzz_file_of(input, size, FUZZ_SAFETENSORS);
    fuzz_heap heap;
    const msae_allocator allocator = fuzz_heap_allocator(&heap);
    msae_safetensors file;
    msae_error error;
    const msae_status status =
        msae_safetensors_open(&file, msae_from_memory(bytes.bytes, bytes.size), &allocator, &error);
    /* "a few times": `"":"",` is six bytes of header and makes 32 */
    CHECK(heap.most <= 6 * bytes.size + 64);
    if (status == MSAE_OK) {
        check_rules(&file, &bytes);
        check_writing(&file);
    } else {
        CHECK(error.code == status && error.message[0] && error.position <= bytes.size);
    }
    msae_safetensors_close(&file);
    CHECK(heap.held == 0);
    fuzz_release();
    return 0;
}
