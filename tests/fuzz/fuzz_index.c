/* Indices from files. Input that starts with an 'I' makes a small index, saves it and changes bytes
   of what was saved, so that some of them load; '{' spells a file out; the rest are raw bytes. What
   loads must answer queries within its rows, stay the same when it is saved, and have a tree.
   Options: -max_len=768
   Dictionaries: safetensors index */
#include "fuzz.h"

enum { MAX_ROWS = 12, MAX_LATENTS = 9, MAX_CHANGES = 16, TOP = 5 };

/* The file of an index that the input describes, with some of its bytes changed. */
static fuzz_file made_file(const uint8_t *input, size_t size, int *is_whole) {
    fuzz_input in = fuzz_input_of(input, size), changes;
    fuzz_file file;
    msae_model_desc desc;
    msae_model model;
    msae_index index;
    const size_t n_changes = fuzz_below(&in, MAX_CHANGES), rows = 1 + fuzz_below(&in, MAX_ROWS);
    const int without_checksum = fuzz_byte(&in) & 1;
    size_t k;
    float *x;
    changes = in;
    in.tame = 1;
    for (size_t i = 0; i < 3 * n_changes; i++) fuzz_byte(&in);
    memset(&desc, 0, sizeof desc);
    desc.n_inputs = 1 + fuzz_below(&in, 3);
    desc.n_latents = 1 + fuzz_below(&in, MAX_LATENTS);
    desc.activation = (msae_activation)fuzz_below(&in, 4);
    CHECK(msae_model_init(&model, &desc, NULL) == MSAE_OK);
    k = fuzz_below(&in, desc.n_latents + 1);
    x = (float *)fuzz_take(rows * desc.n_inputs * sizeof *x);
    for (size_t i = 0; i < rows * desc.n_inputs; i++) x[i] = fuzz_finite(&in);
    const msae_data data = msae_data_view(x, rows, desc.n_inputs);
    CHECK(msae_index_build(&index, &model, &data, k, NULL) == MSAE_OK);
    CHECK(msae_index_check(&index, &model, &data, NULL) == MSAE_OK);
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK(msae_index_save(&index, &writer, NULL) == MSAE_OK);
    file.size = writer.bytes;
    file.bytes = (unsigned char *)fuzz_take(file.size);
    writer = msae_to_memory(file.bytes, file.size);
    CHECK(msae_index_save(&index, &writer, NULL) == MSAE_OK);
    msae_index_free(&index);
    msae_model_free(&model);
    *is_whole = n_changes == 0 && !without_checksum;
    if (without_checksum) {
        fuzz_rename_key(&file, "msae.checksum");
        fuzz_rename_key(&file, "msae.version");
    }
    for (size_t i = 0; i < n_changes; i++) {
        const size_t at = fuzz_below(&changes, 65536);
        file.bytes[at % file.size] = (unsigned char)fuzz_byte(&changes);
    }
    return file;
}

/* A query of some latents, each once. */
static void query(const msae_index *index, fuzz_input *in) {
    const size_t n = index->n_latents, step = 1 + fuzz_below(in, n);
    msae_code *codes = (msae_code *)fuzz_take((n / step + 1) * sizeof *codes);
    void *workspace = fuzz_take(msae_index_workspace_bytes(index, TOP));
    msae_hit hits[TOP];
    size_t count = 0, n_hits;
    for (size_t j = 0; j < n; j += step) {
        codes[count].latent = (uint32_t)j;
        codes[count++].value = fuzz_finite(in);
    }
    CHECK(msae_index_query(index, workspace, codes, count, TOP, hits, &n_hits, NULL) == MSAE_OK);
    CHECK(n_hits <= TOP && n_hits <= index->rows);
    for (size_t i = 0; i < n_hits; i++) {
        CHECK(hits[i].row < index->rows && fabsf(hits[i].value) <= 1.000001f);
        CHECK(i == 0 || hits[i - 1].value > hits[i].value ||
              (hits[i - 1].value == hits[i].value && hits[i - 1].row < hits[i].row));
    }
}

/* Its concept tree: parents that are on more rows, no more of them than asked for. */
static void find_tree(const msae_index *index, fuzz_input *in) {
    const size_t parents = 1 + fuzz_below(in, 3);
    const msae_tree_desc desc = {parents, 1, MSAE_OFF, MSAE_OFF, 1.01f};
    msae_edge *edges = (msae_edge *)fuzz_take(index->n_latents * parents * sizeof *edges);
    size_t count;
    CHECK(msae_concept_tree(index, &desc, edges, &count, NULL) == MSAE_OK);
    CHECK(count <= index->n_latents * parents);
    for (size_t i = 0; i < count; i++) {
        CHECK(edges[i].rows_parent > edges[i].rows_latent && edges[i].p > 0 && edges[i].p <= 1);
        CHECK(i == 0 || edges[i].latent > edges[i - 1].latent ||
              (edges[i].latent == edges[i - 1].latent && edges[i].p <= edges[i - 1].p));
    }
}

/* Saved and loaded again, it is saved to the same bytes. */
static void check_saved(const msae_index *index, const fuzz_file *file) {
    fuzz_file saved, again;
    msae_index loaded;
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK(msae_index_save(index, &writer, NULL) == MSAE_OK);
    saved.size = writer.bytes;
    saved.bytes = (unsigned char *)fuzz_take(saved.size);
    writer = msae_to_memory(saved.bytes, saved.size);
    CHECK(msae_index_save(index, &writer, NULL) == MSAE_OK);
    if (file) CHECK(saved.size == file->size && !memcmp(saved.bytes, file->bytes, file->size));
    CHECK(msae_index_load(&loaded, msae_from_memory(saved.bytes, saved.size), NULL, NULL) ==
          MSAE_OK);
    writer = msae_to_memory(NULL, 0);
    CHECK(msae_index_save(&loaded, &writer, NULL) == MSAE_OK);
    again.size = writer.bytes;
    CHECK(again.size == saved.size);
    again.bytes = (unsigned char *)fuzz_take(again.size);
    writer = msae_to_memory(again.bytes, again.size);
    CHECK(msae_index_save(&loaded, &writer, NULL) == MSAE_OK);
    CHECK(memcmp(saved.bytes, again.bytes, again.size) == 0);
    msae_index_free(&loaded);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    int is_whole = 0;
    const fuzz_file file = size > 0 && input[0] == 'I'
                               ? made_file(input + 1, size - 1, &is_whole)
                               : fuzz_file_of(input, size, FUZZ_SAFETENSORS);
    fuzz_input in = fuzz_input_of(input, size);
    fuzz_heap heap;
    msae_load_desc desc;
    msae_index index;
    msae_error error;
    memset(&desc, 0, sizeof desc);
    desc.host.allocator = fuzz_heap_allocator(&heap);
    if (msae_index_load(&index, msae_from_memory(file.bytes, file.size), &desc, &error) ==
        MSAE_OK) {
        query(&index, &in);
        check_saved(&index, is_whole ? &file : NULL);
    } else {
        CHECK(!is_whole && error.message[0] && index.memory == NULL);
    }
    CHECK(heap.most <= 8 * file.size + 4096);
    if (index.memory) find_tree(&index, &in);
    msae_index_free(&index);
    CHECK(heap.held == 0);
    fuzz_release();
    return 0;
}
