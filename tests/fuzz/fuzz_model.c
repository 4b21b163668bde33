/* Models from files. Input that starts with an 'M' makes a tiny model, saves it and changes bytes
   of what was saved, so that most of them load; '{' spells a file out; the rest are raw bytes. What
   loads must encode and decode, and stay the same when it is saved and loaded again. What can be
   used where it lies, whose numbers are not looked at, must encode and decode too.
   Options: -max_len=1024
   Dictionaries: safetensors model */
#include "fuzz.h"

enum { MAX_INPUTS = 8, MAX_LATENTS = 40, MAX_CHANGES = 16 };

/* ---------------------------------------------------------------------------------------------
   Files
   ------------------------------------------------------------------------------------------ */

static fuzz_file save(const msae_model *model) {
    fuzz_file file;
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK(msae_save(model, &writer, NULL) == MSAE_OK);
    file.size = writer.bytes;
    file.bytes = (unsigned char *)fuzz_take(file.size);
    writer = msae_to_memory(file.bytes, file.size);
    CHECK(msae_save(model, &writer, NULL) == MSAE_OK);
    return file;
}

static void fill(fuzz_input *in, float *values, size_t count) {
    for (size_t i = 0; values && i < count; i++) values[i] = fuzz_finite(in);
}

static void make_history(fuzz_input *in, msae_history *h) {
    h->steps = fuzz_byte(in);
    h->seed = (uint64_t)fuzz_bits(in) << 32 | fuzz_byte(in);
    h->loss = (int)fuzz_below(in, 4);
    h->schedule = (int)fuzz_below(in, 4);
    h->lr = fuzz_finite(in);
    h->eps = fuzz_finite(in);
    h->bandwidth = fuzz_finite(in);
    h->start = (int)fuzz_below(in, MSAE_START_COUNT);
    h->revivals = (int)fuzz_below(in, MSAE_MAX_REVIVALS + 1);
    /* shares of a run */
    h->warmup = fabsf(fuzz_finite(in));
    h->decay = fabsf(fuzz_finite(in));
}

/* A model of any shape; 0 when there is none of that kind. */
static int make_model(fuzz_input *in, msae_model *model) {
    size_t nesting[MSAE_MAX_LEVELS];
    float weights[MSAE_MAX_LEVELS];
    msae_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.n_inputs = 1 + fuzz_below(in, MAX_INPUTS);
    desc.n_latents = 1 + fuzz_below(in, MAX_LATENTS);
    desc.recipe = (msae_recipe)fuzz_below(in, MSAE_RECIPE_COUNT);
    desc.activation = (msae_activation)fuzz_below(in, 4);
    desc.nesting = nesting;
    desc.n_levels = fuzz_below(in, 8);
    for (size_t i = 0, k = 0; i < desc.n_levels; i++) nesting[i] = k += 1 + fuzz_below(in, 6);
    if (fuzz_byte(in) & 1) {
        desc.level_weights = weights;
        desc.n_level_weights = desc.n_levels;
        for (size_t i = 0; i < desc.n_levels; i++) weights[i] = fabsf(fuzz_finite(in));
    }
    desc.k = fuzz_below(in, MAX_LATENTS);
    if (!msae__has_k(desc.recipe)) desc.k = 0;
    desc.tied = fuzz_byte(in) & 1;
    desc.normalize = fuzz_byte(in) & 1;
    desc.soft_cap = fabsf(fuzz_finite(in));
    if (msae_model_init(model, &desc, NULL) != MSAE_OK) return 0;
    make_history(in, &model->history);
    return 1;
}

static void fill_model(fuzz_input *in, msae_model *model) {
    const size_t n = model->n_latents, d = model->n_inputs;
    fill(in, model->encoder, n * d);
    if (!model->tied) fill(in, model->decoder, n * d);
    fill(in, model->pre_bias, d);
    fill(in, model->latent_bias, n);
    fill(in, model->log_threshold, n);
    fill(in, model->mean, d);
    fill(in, &model->threshold, 1);
    model->scale = fabsf(fuzz_finite(in));
}

/* A model by rows with weights of a kind instead; 0 when it is beyond their range. */
static int compact_model(msae_model *model, size_t kind) {
    static const msae_dtype types[] = {MSAE_F32, MSAE_F16, MSAE_BF16, MSAE_I8};
    msae_model compact;
    const int fits = msae_compact(model, types[kind], NULL, &compact, NULL) == MSAE_OK;
    msae_model_free(model);
    if (fits) *model = compact;
    return fits;
}

/* The file of a model that the input describes, with some of its bytes changed; none when there is
   no such model. */
static fuzz_file made_file(const uint8_t *input, size_t size, int *is_whole) {
    fuzz_input in = fuzz_input_of(input, size), changes;
    fuzz_file file = {NULL, 0};
    msae_model model;
    const size_t n_changes = fuzz_below(&in, MAX_CHANGES);
    const unsigned flags = (unsigned)fuzz_byte(&in);
    const int without_checksum = (int)(flags & 1);
    const size_t kind = flags >> 1 & 7; /* of weights, from 1; 0: as it is made */
    changes = in;
    for (size_t i = 0; i < 3 * n_changes; i++) fuzz_byte(&in);
    if (!make_model(&in, &model)) return file;
    fill_model(&in, &model);
    if (kind > 0 && !compact_model(&model, (kind - 1) % 4)) return file;
    *is_whole = n_changes == 0 && !without_checksum && model.scale > 0;
    file = save(&model);
    msae_model_free(&model);
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

/* ---------------------------------------------------------------------------------------------
   What loads
   ------------------------------------------------------------------------------------------ */

static void check_codes(const msae_model *model, const msae_code *codes, size_t count) {
    int finite = 1;
    for (size_t i = 0; i < count; i++) {
        CHECK(codes[i].latent < model->n_latents);
        for (size_t j = 0; j < i; j++) CHECK(codes[j].latent != codes[i].latent);
        finite = finite && msae__is_finite(codes[i].value);
    }
    for (size_t i = 1; i < count && finite; i++) CHECK(codes[i - 1].value >= codes[i].value);
}

static void use(const msae_model *model, fuzz_input *in) {
    const size_t n = model->n_latents, d = model->n_inputs;
    const size_t rooms[] = {0, 1, n};
    void *workspace = fuzz_take(msae_workspace_bytes(model, 1));
    float *x = (float *)fuzz_take(d * sizeof *x), *out = (float *)fuzz_take(d * sizeof *out);
    fill(in, x, d);
    for (size_t i = 0; i < COUNT(rooms); i++) {
        const size_t room = rooms[i];
        msae_code *codes = (msae_code *)fuzz_take(room * sizeof *codes);
        size_t count;
        float moments[2];
        const msae_status status = msae_encode(model, workspace, x, room, codes, &count);
        CHECK(count <= room && (status == MSAE_OK || count == 0));
        check_codes(model, codes, count);
        msae_row_moments(model, x, moments);
        msae_decode(model, codes, count, moments, out);
    }
}

/* Saves the model to a file that must be `file` to the byte. */
static void check_saved(const msae_model *model, const fuzz_file *file) {
    unsigned char *again = (unsigned char *)fuzz_take(file->size);
    msae_writer writer = msae_to_memory(again, file->size);
    CHECK(msae_save(model, &writer, NULL) == MSAE_OK);
    CHECK(writer.bytes == file->size && memcmp(again, file->bytes, file->size) == 0);
}

/* What other programs wrote may be written in another way, but then stays so. */
static void check_saved_twice(const msae_model *model) {
    const fuzz_file saved = save(model);
    msae_model loaded;
    CHECK(msae_load(&loaded, msae_from_memory(saved.bytes, saved.size), NULL, NULL) == MSAE_OK);
    check_saved(&loaded, &saved);
    msae_model_free(&loaded);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    int is_whole = 0;
    const fuzz_file file = size > 0 && input[0] == 'M'
                               ? made_file(input + 1, size - 1, &is_whole)
                               : fuzz_file_of(input, size, FUZZ_SAFETENSORS);
    fuzz_input in = fuzz_input_of(input, size);
    fuzz_heap heap;
    msae_load_desc desc;
    msae_model model, mapped;
    msae_error error;
    memset(&desc, 0, sizeof desc);
    desc.host.allocator = fuzz_heap_allocator(&heap);
    if (msae_load(&model, msae_from_memory(file.bytes, file.size), &desc, &error) == MSAE_OK) {
        use(&model, &in);
        if (is_whole)
            check_saved(&model, &file);
        else
            check_saved_twice(&model);
    } else {
        CHECK(!is_whole && error.message[0] && model.memory == NULL);
    }
    CHECK(heap.most <= 8 * file.size + 4096);
    if (msae_map(&mapped, file.bytes, file.size, NULL, NULL) == MSAE_OK) {
        CHECK(mapped.by_rows && mapped.memory == NULL);
        use(&mapped, &in);
    } else {
        CHECK(!model.latent_bias || !model.by_rows || !msae__little_endian() || !is_whole);
    }
    msae_model_free(&model);
    CHECK(heap.held == 0);
    fuzz_release();
    return 0;
}
