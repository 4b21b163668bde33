/* Files: models survive a save and a load to the byte; hostile and damaged files give an error. */
#include "test.h"

/* ---------------------------------------------------------------------------------------------
   Bytes
   ------------------------------------------------------------------------------------------ */

/* Bytes in a block of exactly their size, so that a sanitizer sees the first byte read beyond. */
typedef struct bytes {
    unsigned char *data;
    size_t size;
} bytes;

static bytes bytes_copy(const void *data, size_t size) {
    bytes copy = {(unsigned char *)test_alloc(size), size};
    if (size) memcpy(copy.data, data, size);
    return copy;
}

static bytes bytes_join(const void *head, size_t head_size, const void *tail, size_t tail_size) {
    bytes joined = {(unsigned char *)test_alloc(head_size + tail_size), head_size + tail_size};
    memcpy(joined.data, head, head_size);
    if (tail_size) memcpy(joined.data + head_size, tail, tail_size);
    return joined;
}

static void put_little_endian(unsigned char *at, uint64_t value, size_t count) {
    for (size_t i = 0; i < count; i++) at[i] = (unsigned char)(value >> (8 * i));
}

/* ---------------------------------------------------------------------------------------------
   Models
   ------------------------------------------------------------------------------------------ */

/* A trained model of the recipe: two steps, so that nothing is at its initial value. */
static int train(msae_trainer *trainer, const test_recipe *recipe, size_t d, size_t n) {
    size_t rows = 12;
    msae_train_desc desc = test_desc(recipe, d, n);
    test_note("%s", recipe->name);
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(trainer, &desc, NULL))) return 0;
    float *x = test_random_floats(5, rows * d, 2);
    msae_data data = msae_data_view(x, rows, d);
    CHECK_STATUS(MSAE_OK, test_statistics(trainer, &data, NULL));
    for (int i = 0; i < 2; i++)
        CHECK_STATUS(MSAE_OK, msae_trainer_step(trainer, x, rows, NULL, NULL));
    free(x);
    return 1;
}

static bytes save(const msae_model *model) {
    bytes file = {NULL, 0};
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_save(model, &writer, NULL));
    file.size = writer.bytes;
    file.data = (unsigned char *)test_alloc(file.size);
    writer = msae_to_memory(file.data, file.size);
    CHECK_STATUS(MSAE_OK, msae_save(model, &writer, NULL));
    return file;
}

static bytes saved_model(const test_recipe *recipe, size_t d, size_t n) {
    msae_trainer trainer;
    bytes file = {NULL, 0};
    if (train(&trainer, recipe, d, n)) {
        file = save(&trainer.model);
        msae_trainer_free(&trainer);
    }
    return file;
}

static size_t header_size(const bytes *file) {
    size_t size = 0;
    for (size_t i = 8; i-- > 0;) size = size << 8 | file->data[i];
    return size;
}

static void saved_and_loaded_are_equal(void) {
    FOR_EACH_RECIPE(recipe) {
        msae_trainer trainer;
        if (!train(&trainer, recipe, 7, 19)) continue;
        msae_model *model = &trainer.model, loaded;
        bytes file = save(model);
        if (CHECK_STATUS(MSAE_OK,
                         msae_load(&loaded, msae_from_memory(file.data, file.size), NULL, NULL))) {
            bytes again = save(&loaded);
            CHECK(again.size == file.size && memcmp(again.data, file.data, file.size) == 0);
            free(again.data);
            CHECK(loaded.recipe == model->recipe && loaded.activation == model->activation);
            CHECK(loaded.tied == model->tied && loaded.normalize == model->normalize);
            CHECK(loaded.n_levels == model->n_levels && loaded.k == model->k);
            CHECK(memcmp(loaded.nesting, model->nesting, model->n_levels * sizeof(size_t)) == 0);
            CHECK(test_same(loaded.level_weights, model->level_weights, model->n_levels));
            CHECK(test_same(&loaded.soft_cap, &model->soft_cap, 1));
            CHECK(test_same(&loaded.threshold, &model->threshold, 1));
            CHECK(test_same(&loaded.scale, &model->scale, 1));
            CHECK(test_same(loaded.mean, model->mean, model->n_inputs));
            CHECK(memcmp(&loaded.history, &model->history, sizeof loaded.history) == 0);
            CHECK(loaded.history.steps == 2 && loaded.history.rows == 24);
            msae_parameters a = test_weights(&loaded), b = test_weights(model);
            test_parameter got[TEST_MAX_PARAMETERS], want[TEST_MAX_PARAMETERS];
            size_t count = test_list(&loaded, &a, got);
            CHECK(count == test_list(model, &b, want));
            for (size_t i = 0; i < count; i++) {
                CHECK(test_same(got[i].values, want[i].values, got[i].rows * got[i].cols));
            }
            msae_model_free(&loaded);
        }
        free(file.data);
        msae_trainer_free(&trainer);
    }
}

static int has(const msae_safetensors *file, const char *name) {
    return msae_safetensors_find(file, name) != NULL;
}

/* The tensors are where any reader of the format looks for them, the encoder as [d, n]. */
static void tensors_have_their_names_and_shapes(void) {
    FOR_EACH_RECIPE(recipe) {
        msae_trainer trainer;
        if (!train(&trainer, recipe, 3, 5)) continue;
        bytes bytes_of_file = save(&trainer.model);
        msae_safetensors file;
        if (!CHECK_STATUS(
                MSAE_OK,
                msae_safetensors_open(
                    &file, msae_from_memory(bytes_of_file.data, bytes_of_file.size), NULL, NULL))) {
            continue;
        }
        const msae_tensor *encoder = msae_safetensors_find(&file, "encoder");
        if (CHECK(encoder && encoder->rank == 2 && encoder->shape[0] == 3 &&
                  encoder->shape[1] == 5)) {
            float value;
            test_copy_le(&value, (const char *)encoder->data + sizeof value * (2 * 5 + 4), 1);
            CHECK(value == trainer.model.encoder[4 * 3 + 2]);
        }
        CHECK(has(&file, "pre_bias") && has(&file, "latent_bias"));
        CHECK(has(&file, "mean") && has(&file, "scale"));
        CHECK(has(&file, "decoder") == !recipe->tied);
        CHECK(has(&file, "log_threshold") == (recipe->recipe == MSAE_RECIPE_JUMPRELU));
        CHECK(has(&file, "threshold") == test_is_batch_topk(recipe->recipe));
        msae_safetensors_close(&file);
        free(bytes_of_file.data);
        msae_trainer_free(&trainer);
    }
}

static void expect_refused(const bytes *file) {
    msae_model model;
    msae_error error;
    memset(&error, 0, sizeof error);
    memset(&model, 0xff, sizeof model);
    msae_status status = msae_load(&model, msae_from_memory(file->data, file->size), NULL, &error);
    CHECK(status != MSAE_OK && status == error.code);
    CHECK(error.message[0] && !strchr(error.message, '\n'));
    CHECK(model.memory == NULL && model.n_inputs == 0);
    msae_model_free(&model);
}

static void cut_at_every_byte(void) {
    FOR_EACH_RECIPE(recipe) {
        bytes file = saved_model(recipe, 2, 3);
        for (size_t size = 0; size < file.size; size++) {
            bytes cut = bytes_copy(file.data, size);
            test_note("%s, %zu of %zu bytes", recipe->name, size, file.size);
            expect_refused(&cut);
            free(cut.data);
        }
        bytes longer = bytes_join(file.data, file.size, "", 1);
        test_note("%s, one byte more", recipe->name);
        expect_refused(&longer);
        free(longer.data);
        free(file.data);
    }
}

static void every_header_byte_changed(void) {
    static const unsigned char others[] = {0, ' ', '"', ',', '0', '9', '{', 0x80, 0xff};
    FOR_EACH_RECIPE(recipe) {
        bytes file = saved_model(recipe, 2, 3);
        for (size_t at = 0; at < 8 + header_size(&file); at++) {
            unsigned char kept = file.data[at];
            for (size_t i = 0; i < 8 + COUNT(others); i++) {
                file.data[at] = (unsigned char)(i < 8 ? kept ^ 1 << i : others[i - 8]);
                if (file.data[at] == kept) continue;
                test_note("%s, byte %zu is %d, was %d", recipe->name, at, file.data[at], kept);
                expect_refused(&file);
            }
            file.data[at] = kept;
        }
        free(file.data);
    }
}

/* What another program might have written: a model's file without version and checksum, and with
   one thing wrong with it. */
typedef enum damage { NONE, NOTE, DROPPED, RESHAPED, RETYPED } damage;

static int has_key(const msae_metadata *note, const char *key) {
    return note->key_bytes == strlen(key) && memcmp(note->key, key, note->key_bytes) == 0;
}

/* `at` is the number of the tensor, or of the note that gets `value` (NULL: is left out). */
static bytes rewritten(const msae_safetensors *file, damage what, size_t at, const char *value) {
    msae_tensor tensors[8];
    msae_metadata notes[64];
    size_t n_tensors = 0, n_notes = 0;
    bytes copy = {NULL, 0};
    for (size_t i = 0; i < file->n_tensors; i++) {
        msae_tensor *tensor = &tensors[n_tensors];
        *tensor = file->tensors[i];
        if (what >= DROPPED && i == at) {
            if (what == DROPPED) continue;
            if (what == RESHAPED) tensor->shape[tensor->rank++] = 1;
            if (what == RETYPED) tensor->dtype = MSAE_I32;
        }
        n_tensors++;
    }
    for (size_t i = 0; i < file->n_metadata; i++) {
        msae_metadata *note = &notes[n_notes];
        *note = file->metadata[i];
        if (has_key(note, "msae.checksum") || has_key(note, "msae.version")) continue;
        if (what == NOTE && i == at) {
            if (!value) continue;
            note->value = value;
            note->value_bytes = strlen(value);
        }
        n_notes++;
    }
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK,
                 msae_safetensors_write(&writer, tensors, n_tensors, notes, n_notes, NULL));
    copy.size = writer.bytes;
    copy.data = (unsigned char *)test_alloc(copy.size);
    writer = msae_to_memory(copy.data, copy.size);
    CHECK_STATUS(MSAE_OK,
                 msae_safetensors_write(&writer, tensors, n_tensors, notes, n_notes, NULL));
    return copy;
}

static void expect_damage_refused(const msae_safetensors *file, damage what, size_t at,
                                  const char *value) {
    bytes copy = rewritten(file, what, at, value);
    expect_refused(&copy);
    free(copy.data);
}

static void models_that_contradict_themselves(void) {
    static const struct {
        const char *key, *values[9];
    } wrong[] = {
        {"msae.format", {"", "other"}},
        {"msae.n_inputs", {"", "0", "3", "-2", "2x", "2.0", "18446744073709551618"}},
        {"msae.n_latents", {"", "0", "8", "10", "99999999999999", "18446744073709551625"}},
        {"msae.recipe", {"", "default", "relu2", "batchtopk", "jumprelu"}},
        {"msae.activation", {"", "default", "gelu"}},
        {"msae.tied", {"", "2", "yes"}},
        {"msae.normalize", {"", "2", "yes"}},
        {"msae.soft_cap", {"", "-1", "nan", "inf", "1e99", "0x1p3", "1 "}},
        {"msae.nesting",
         {"", "4,8,10", "4,8,8", "8,4,9", "0,8,9", "4,,9", "4,8,9,", "4.5,8,9", "4,0e999,9"}},
        {"msae.level_weights", {"", "1,1", "1,1,1,1", "1,-1,1", "0,0,0", "1,nan,1", "1,1,1e99"}},
    };
    bytes model = saved_model(&test_recipes[0], 2, 9);
    msae_safetensors file;
    CHECK_STATUS(MSAE_OK, msae_safetensors_open(&file, msae_from_memory(model.data, model.size),
                                                NULL, NULL));
    bytes copy = rewritten(&file, NONE, 0, NULL);
    msae_model loaded;
    CHECK_STATUS(MSAE_OK, msae_load(&loaded, msae_from_memory(copy.data, copy.size), NULL, NULL));
    msae_model_free(&loaded);
    free(copy.data);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        const msae_metadata *note = msae_safetensors_metadata(&file, wrong[i].key);
        if (!CHECK(note != NULL)) continue;
        size_t at = (size_t)(note - file.metadata);
        test_note("no %s", wrong[i].key);
        expect_damage_refused(&file, NOTE, at, NULL);
        for (size_t v = 0; v < COUNT(wrong[i].values) && wrong[i].values[v]; v++) {
            test_note("%s \"%s\"", wrong[i].key, wrong[i].values[v]);
            expect_damage_refused(&file, NOTE, at, wrong[i].values[v]);
        }
    }
    for (size_t i = 0; i < file.n_tensors; i++) {
        for (int what = DROPPED; what <= RETYPED; what++) {
            test_note("tensor %zu, damage %d", i, what);
            expect_damage_refused(&file, (damage)what, i, NULL);
        }
    }
    msae_safetensors_close(&file);
    free(model.data);
}

static void expect_message_of(const bytes *file, const char *message) {
    msae_model model;
    msae_error error;
    test_note("%s", message);
    CHECK(msae_load(&model, msae_from_memory(file->data, file->size), NULL, &error) != MSAE_OK);
    test_check(strcmp(error.message, message) == 0, error.message, __FILE__, __LINE__);
}

/* Each of a model's own rules in its own words. */
static void what_is_said_of_models(void) {
    bytes file = saved_model(&test_recipes[0], 2, 9), copy;
    msae_safetensors parsed;
    CHECK_STATUS(MSAE_OK, msae_safetensors_open(&parsed, msae_from_memory(file.data, file.size),
                                                NULL, NULL));
    const msae_metadata *notes = parsed.metadata;
    const size_t format = (size_t)(msae_safetensors_metadata(&parsed, "msae.format") - notes);
    const size_t tied = (size_t)(msae_safetensors_metadata(&parsed, "msae.tied") - notes);
    const size_t loss = (size_t)(msae_safetensors_metadata(&parsed, "msae.train_loss") - notes);
    const size_t scale = (size_t)(msae_safetensors_find(&parsed, "scale") - parsed.tensors);
    const float negative = -1;

    copy = rewritten(&parsed, NOTE, format, "other");
    expect_message_of(&copy, "is not a model of msae.h");
    free(copy.data);
    copy = rewritten(&parsed, NOTE, tied, "2");
    expect_message_of(&copy, "a hyper-parameter is missing or malformed");
    free(copy.data);
    copy = rewritten(&parsed, NOTE, loss, "259");
    expect_message_of(&copy, "a hyper-parameter is missing or malformed");
    free(copy.data);
    copy = rewritten(&parsed, DROPPED, scale, NULL);
    expect_message_of(&copy, "tensor scale is missing");
    free(copy.data);
    copy = rewritten(&parsed, RESHAPED, scale, NULL);
    expect_message_of(&copy, "tensor scale has another type or shape than the header says");
    free(copy.data);

    copy = bytes_copy(file.data, file.size);
    unsigned char *at = copy.data + parsed.tensors[scale].offset;
    put_little_endian(at, msae__float_bits(negative), 4);
    expect_message_of(&copy, "the scale is not positive");
    put_little_endian(at, 0, 4);
    expect_message_of(&copy, "the scale is not positive");
    put_little_endian(at, 0x7fc00000, 4);
    expect_message_of(&copy, "tensor scale has a NaN or Inf");
    memcpy(copy.data, file.data, file.size);
    copy.data[(size_t)((const unsigned char *)notes[tied].value - file.data)] ^= 1;
    expect_message_of(&copy, "the header does not match its checksum");
    memcpy(copy.data, file.data, file.size);
    const msae_metadata *sum = msae_safetensors_metadata(&parsed, "msae.checksum");
    copy.data[(size_t)((const unsigned char *)sum->key - file.data) + 5] = 'C';
    expect_message_of(&copy, "the header's checksum is missing");
    free(copy.data);
    msae_safetensors_close(&parsed);
    free(file.data);
}

static void weights_that_are_no_numbers(void) {
    const float bad[] = {INFINITY, -INFINITY, NAN};
    bytes file = saved_model(&test_recipes[0], 2, 3);
    size_t start = 8 + header_size(&file);
    for (size_t at = start; at < file.size; at += sizeof(float)) {
        for (size_t i = 0; i < COUNT(bad); i++) {
            bytes copy = bytes_copy(file.data, file.size);
            test_copy_le(copy.data + at, &bad[i], 1);
            test_note("byte %zu is %g", at - start, (double)bad[i]);
            expect_refused(&copy);
            free(copy.data);
        }
    }
    free(file.data);
}

/* ---------------------------------------------------------------------------------------------
   Safetensors
   ------------------------------------------------------------------------------------------ */

static bytes safetensors(const char *header, size_t header_bytes, size_t data_bytes) {
    bytes file = {(unsigned char *)test_alloc(8 + header_bytes + data_bytes),
                  8 + header_bytes + data_bytes};
    put_little_endian(file.data, header_bytes, 8);
    memcpy(file.data + 8, header, header_bytes);
    memset(file.data + 8 + header_bytes, 0, data_bytes);
    return file;
}

typedef struct crafted {
    const char *what;
    const char *message; /* NULL: the file is fine */
    const char *header;
    size_t data_bytes;
} crafted;

#define TENSOR(name, dtype, shape, begin, end)                                                     \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end \
    "]}"

static const crafted accepted[] = {
    {"no tensor", NULL, "{}", 0},
    {"no tensor, metadata", NULL, "{\"__metadata__\":{\"a\":\"b\"}}", 0},
    {"empty metadata", NULL, "{\"__metadata__\":{}}", 0},
    {"one tensor", NULL, "{" TENSOR("a", "F32", "[2]", 0, 8) "}", 8},
    {"a scalar", NULL, "{" TENSOR("a", "F32", "[]", 0, 4) "}", 4},
    {"an empty tensor", NULL, "{" TENSOR("a", "F32", "[0,3]", 0, 0) "}", 0},
    {"tensors in another order than their bytes", NULL,
     "{" TENSOR("a", "F32", "[1]", 4, 8) "," TENSOR("b", "F32", "[1]", 0, 4) "}", 8},
    {"every dtype", NULL,
     "{" TENSOR("a", "F64", "[1]", 0, 8) "," TENSOR("b", "I64", "[1]", 8, 16) "," TENSOR(
         "c", "F32", "[1]", 16,
         20) "," TENSOR("d", "I32", "[1]", 20,
                        24) "," TENSOR("e", "F16", "[1]", 24,
                                       26) "," TENSOR("f", "BF16", "[1]", 26,
                                                      28) "," TENSOR("g", "U8", "[1]", 28, 29) "}",
     29},
    {"spaces within", NULL,
     "{ \"a\" : { \"dtype\" : \"U8\" , \"shape\" : [ 1 ] , \"data_offsets\" : [ 0 , 1 ] } }", 1},
    {"spaces after", NULL, "{}      ", 0},
    {"blanks before and after", NULL, " \t\r\n{}\n\t \r", 0},
    {"the newer types", NULL,
     "{" TENSOR("a", "F8_E4M3", "[2]", 0, 2) "," TENSOR("b", "F8_E5M2", "[1]", 2, 3) "," TENSOR(
         "c", "F8_E8M0", "[1]", 3,
         4) "," TENSOR("d", "F8_E4M3FNUZ", "[1]", 4,
                       5) "," TENSOR("e", "F8_E5M2FNUZ", "[1]", 5,
                                     6) "," TENSOR("f", "F4", "[3,2]", 6,
                                                   9) "," TENSOR("g", "F6_E2M3", "[4]", 9,
                                                                 12) "," TENSOR("h", "F6_E3M2",
                                                                                "[8]", 12,
                                                                                18) "," TENSOR("i",
                                                                                               "C6"
                                                                                               "4",
                                                                                               "[1"
                                                                                               "]",
                                                                                               18,
                                                                                               26) "}",
     26},
    {"escapes in names", NULL,
     "{" TENSOR("a\\\"\\\\\\/", "U8", "[1]", 0, 1) "," TENSOR("\\ud83d\\ude00", "U8", "[1]", 1,
                                                              2) "}",
     2},
    {"UTF-8 in a name", NULL,
     "{" TENSOR("\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\x8d", "U8", "[1]", 0, 1) "}", 1},
    {"an escape in a value", NULL, "{\"__metadata__\":{\"a\":\"\\u0041\\n\\\"\"}}", 0},
};

static const crafted refused[] = {
    {"an empty header", "the header is empty (byte 8)", "", 0},
    {"no object", "the header does not start with { (byte 8)", "[]", 0},
    {"an object that does not end", "a tensor's name is not a string (byte 9)", "{", 0},
    {"two objects", "something follows the header's object (byte 10)", "{}{}", 0},
    {"text after the object", "something follows the header's object (byte 10)", "{}x", 0},
    {"bytes without a tensor", "something follows the tensors (byte 10)", "{}", 1},
    {"fewer bytes than the tensor", "a tensor lies outside the file (byte 13)",
     "{" TENSOR("a", "F32", "[2]", 0, 8) "}", 7},
    {"more bytes than the tensor", "something follows the tensors (byte 70)",
     "{" TENSOR("a", "F32", "[2]", 0, 8) "}", 9},
    {"the same name twice", "a tensor's name is there twice (byte 10)",
     "{" TENSOR("a", "U8", "[1]", 0, 1) "," TENSOR("a", "U8", "[1]", 1, 2) "}", 2},
    {"metadata twice", "__metadata__ is there twice (byte 42)",
     "{\"__metadata__\":{},\"__metadata__\":{}}", 0},
    {"a key of the metadata twice", "a key of __metadata__ is there twice (byte 26)",
     "{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0},
    {"dtype twice", "a tensor has a key twice (byte 28)",
     "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1},
    {"overlap", "two tensors overlap (byte 62)",
     "{" TENSOR("a", "U8", "[2]", 0, 2) "," TENSOR("b", "U8", "[2]", 1, 3) "}", 3},
    {"the same bytes twice", "two tensors overlap (byte 10)",
     "{" TENSOR("a", "U8", "[2]", 0, 2) "," TENSOR("b", "U8", "[2]", 0, 2) "}", 2},
    {"a hole", "there is a hole before a tensor (byte 62)",
     "{" TENSOR("a", "U8", "[1]", 0, 1) "," TENSOR("b", "U8", "[1]", 2, 3) "}", 3},
    {"a hole at the start", "there is a hole before a tensor (byte 10)",
     "{" TENSOR("a", "U8", "[1]", 1, 2) "}", 2},
    {"an end before the begin", "a tensor ends before it begins (byte 13)",
     "{" TENSOR("a", "U8", "[0]", 1, 0) "}", 0},
    {"an unknown dtype", "a tensor's dtype is unknown (byte 22)",
     "{" TENSOR("a", "F33", "[1]", 0, 4) "}", 4},
    {"a dtype in small letters", "a tensor's dtype is unknown (byte 22)",
     "{" TENSOR("a", "f32", "[1]", 0, 4) "}", 4},
    {"a size that is not the shape's", "a tensor's shape does not match its bytes (byte 13)",
     "{" TENSOR("a", "F32", "[3]", 0, 8) "}", 8},
    {"a shape whose product overflows", "a tensor is too large (byte 13)",
     "{" TENSOR("a", "U8", "[65536,65536,65536,65536]", 0, 0) "}", 0},
    {"a shape whose bytes overflow", "a tensor is too large (byte 13)",
     "{" TENSOR("a", "F64", "[65536,65536,65536,8192]", 0, 0) "}", 0},
    {"an overflow hidden by a zero", "a number is too large (byte 36)",
     "{" TENSOR("a", "U8", "[18446744073709551616,0]", 0, 0) "}", 0},
#if SIZE_MAX < UINT64_MAX
    {"a dimension beyond this machine", "a dimension is too large (byte 36)",
     "{" TENSOR("a", "U8", "[4294967296,0]", 0, 0) "}", 0},
#endif
    {"a dimension beyond 64 bits", "a number is too large (byte 36)",
     "{" TENSOR("a", "U8", "[18446744073709551617]", 0, 1) "}", 1},
    {"an offset beyond 64 bits", "a number is too large (byte 57)",
     "{" TENSOR("a", "U8", "[1]", 0, 18446744073709551617) "}", 1},
    {"a negative dimension", "a number is negative (byte 36)",
     "{" TENSOR("a", "U8", "[-1]", 0, 1) "}", 1},
    {"a fraction", "a number is not whole (byte 36)", "{" TENSOR("a", "U8", "[1.0]", 0, 1) "}", 1},
    {"an exponent", "a number is not whole (byte 36)", "{" TENSOR("a", "U8", "[1e0]", 0, 1) "}", 1},
    {"a leading zero", "a number starts with zero (byte 36)",
     "{" TENSOR("a", "U8", "[01]", 0, 1) "}", 1},
    {"a shape that is no list", "a tensor's shape is not a list (byte 35)",
     "{" TENSOR("a", "U8", "1", 0, 1) "}", 1},
    {"a trailing comma in the shape", "a number is missing (byte 38)",
     "{" TENSOR("a", "U8", "[1,]", 0, 1) "}", 1},
    {"one offset", "data_offsets needs two numbers (byte 56)",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1]}}", 1},
    {"three offsets", "data_offsets needs two numbers (byte 58)",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]}}", 1},
    {"no dtype", "a tensor lacks its dtype (byte 13)",
     "{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1},
    {"no shape", "a tensor lacks its shape (byte 13)",
     "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1},
    {"no offsets", "a tensor lacks its data_offsets (byte 13)",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1},
    {"a tensor that is no object", "a tensor is not an object (byte 13)", "{\"a\":1}", 0},
    {"metadata that is no object", "__metadata__ is not an object (byte 24)",
     "{\"__metadata__\":\"a\"}", 0},
    {"a number in the metadata", "a value of __metadata__ is not a string (byte 29)",
     "{\"__metadata__\":{\"a\":1}}", 0},
    {"an object in the metadata", "a value of __metadata__ is not a string (byte 29)",
     "{\"__metadata__\":{\"a\":{}}}", 0},
    {"a trailing comma", "a tensor's name is not a string (byte 61)",
     "{" TENSOR("a", "U8", "[1]", 0, 1) ",}", 1},
    {"a missing comma", "the header does not end (byte 60)",
     "{" TENSOR("a", "U8", "[1]", 0, 1) TENSOR("b", "U8", "[1]", 1, 2) "}", 2},
    {"a string that does not end", "a string does not end (byte 11)", "{\"a", 0},
    {"an escape that does not end", "a string does not end (byte 11)", "{\"a\\", 0},
    {"half a surrogate pair", "a string has a bad escape (byte 10)",
     "{" TENSOR("\\ud83d", "U8", "[1]", 0, 1) "}", 1},
    {"a surrogate pair the wrong way round", "a string has a bad escape (byte 10)",
     "{" TENSOR("\\ude00\\ud83d", "U8", "[1]", 0, 1) "}", 1},
    {"half a surrogate pair in a value", "a string has a bad escape (byte 30)",
     "{\"__metadata__\":{\"a\":\"\\ud83dx\"}}", 0},
    {"metadata that is null", "__metadata__ is not an object (byte 24)", "{\"__metadata__\":null}",
     0},
    {"a tensor that is null", "a tensor is not an object (byte 13)", "{\"a\":null}", 0},
    {"half a byte", "a tensor's shape does not match its bytes (byte 13)",
     "{" TENSOR("a", "F4", "[3]", 0, 1) "}", 1},
    {"two bits too few", "a tensor's shape does not match its bytes (byte 13)",
     "{" TENSOR("a", "F6_E2M3", "[4]", 0, 4) "}", 4},
    {"an unknown escape", "a string has a bad escape (byte 30)",
     "{\"__metadata__\":{\"a\":\"\\x\"}}", 0},
    {"a control character in a string", "a string has a control character (byte 30)",
     "{\"__metadata__\":{\"a\":\"\n\"}}", 0},
    {"a lone continuation byte", "a string is not UTF-8 (byte 30)",
     "{\"__metadata__\":{\"a\":\"\x80\"}}", 0},
    {"an overlong sequence", "a string is not UTF-8 (byte 30)",
     "{\"__metadata__\":{\"a\":\"\xc0\xaf\"}}", 0},
    {"a sequence that is cut", "a string is not UTF-8 (byte 30)",
     "{\"__metadata__\":{\"a\":\"\xe2\x82\"}}", 0},
    {"a surrogate", "a string is not UTF-8 (byte 30)",
     "{\"__metadata__\":{\"a\":\"\xed\xa0\x80\"}}", 0},
    {"beyond U+10FFFF", "a string is not UTF-8 (byte 30)",
     "{\"__metadata__\":{\"a\":\"\xf4\x90\x80\x80\"}}", 0},
    {"nine dimensions", "a tensor has more than 8 dimensions (byte 52)",
     "{" TENSOR("a", "U8", "[1,1,1,1,1,1,1,1,1]", 0, 1) "}", 1},
    {"metadata that does not end", "__metadata__ does not end (byte 32)",
     "{\"__metadata__\":{\"a\":\"b\"]}", 0},
    {"metadata without a colon", "a colon is missing in __metadata__ (byte 28)",
     "{\"__metadata__\":{\"a\"=\"b\"}}", 0},
    {"a key of the metadata that is a number", "a key of __metadata__ is not a string (byte 25)",
     "{\"__metadata__\":{1:\"b\"}}", 0},
    {"a tensor without a colon", "a colon is missing in a tensor (byte 22)",
     "{\"a\":{\"dtype\" \"U8\"}}", 0},
    {"a name without a colon", "a colon is missing in the header (byte 12)", "{\"a\"{}}", 0},
    {"a tensor that does not end", "a tensor does not end (byte 59)",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]]}", 1},
    {"a key of a tensor that is a number", "a key of a tensor is not a string (byte 14)",
     "{\"a\":{1:2}}", 0},
    {"an unknown key", "a tensor has an unknown key (byte 15)",
     "{\"a\":{\"type\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1},
    {"a dtype that is a number", "a tensor's dtype is not a string (byte 22)",
     "{\"a\":{\"dtype\":32}}", 0},
    {"a shape that does not end", "a tensor's shape does not end (byte 37)",
     "{" TENSOR("a", "U8", "[1}", 0, 1) "}", 1},
    {"offsets that are no list", "data_offsets is not a list (byte 54)",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":0}}", 1},
};

/* The same bytes as from a source of which nothing is known but that it can be read. */
static msae_reader from_elsewhere(const bytes *file) {
    msae_reader reader = msae_from_memory(file->data, file->size);
    reader.memory = NULL;
    return reader;
}

/* Opens the bytes in memory, and through a reader, which must come to the same. */
static msae_status open_twice(const bytes *file, msae_error *error) {
    const msae_reader reader = from_elsewhere(file);
    msae_safetensors opened, read;
    msae_error other;
    memset(error, 0, sizeof *error);
    memset(&other, 0, sizeof other);
    const msae_status status =
        msae_safetensors_open(&opened, msae_from_memory(file->data, file->size), NULL, error);
    CHECK_STATUS(status, msae_safetensors_open(&read, reader, NULL, &other));
    CHECK(strcmp(error->message, other.message) == 0 && error->position == other.position);
    CHECK(opened.n_tensors == read.n_tensors && opened.n_metadata == read.n_metadata);
    for (size_t i = 0; i < opened.n_tensors && i < read.n_tensors; i++) {
        const msae_tensor *a = &opened.tensors[i], *b = &read.tensors[i];
        CHECK(a->offset == b->offset && a->bytes == b->bytes && a->dtype == b->dtype);
        CHECK(a->name_bytes == b->name_bytes && memcmp(a->name, b->name, a->name_bytes) == 0);
        CHECK(a->data == file->data + a->offset && b->data == NULL);
    }
    msae_safetensors_close(&opened);
    msae_safetensors_close(&read);
    return status;
}

/* The byte that the message names is the error's position. */
static void expect_message(const msae_error *error, const char *message) {
    const char *byte = strstr(error->message, " (byte ");
    test_check(strcmp(error->message, message) == 0, error->message, __FILE__, __LINE__);
    CHECK(byte && strtoull(byte + 7, NULL, 10) == error->position);
}

static void rules_of_the_format(void) {
    for (size_t i = 0; i < COUNT(accepted) + COUNT(refused); i++) {
        const crafted *c = i < COUNT(accepted) ? &accepted[i] : &refused[i - COUNT(accepted)];
        bytes file = safetensors(c->header, strlen(c->header), c->data_bytes);
        msae_error error;
        test_note("%s", c->what);
        CHECK_STATUS(c->message ? MSAE_ERROR_FORMAT : MSAE_OK, open_twice(&file, &error));
        if (c->message) expect_message(&error, c->message);
        free(file.data);
    }
}

static void header_sizes_that_lie(void) {
    static const struct {
        uint64_t size;
        const char *message;
    } sizes[] = {
        {0, "the header is empty (byte 8)"},
        {1, "a tensor's name is not a string (byte 9)"},
        {100, "the header is cut off (byte 0)"},
        {100000001, "the header is cut off (byte 0)"},
        {(uint64_t)INT64_MAX, "the header is cut off (byte 0)"},
        {(uint64_t)INT64_MAX + 1, "the header is cut off (byte 0)"},
        {UINT64_MAX - 7, "the header is cut off (byte 0)"},
        {UINT64_MAX, "the header is cut off (byte 0)"},
    };
    bytes file = safetensors("{}", 2, 0);
    msae_error error;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        put_little_endian(file.data, sizes[i].size, 8);
        test_note("%llu", (unsigned long long)sizes[i].size);
        CHECK_STATUS(MSAE_ERROR_FORMAT, open_twice(&file, &error));
        expect_message(&error, sizes[i].message);
    }
    for (file.size = 0; file.size < 8; file.size++) {
        test_note("%zu bytes", file.size);
        CHECK_STATUS(MSAE_ERROR_FORMAT, open_twice(&file, &error));
        expect_message(&error, file.size == 0 ? "the file is empty (byte 0)"
                                              : "the header's length is cut off (byte 0)");
    }
    free(file.data);
}

/* A source of 8 bytes of header length and then spaces, as long as it says. */
static int read_spaces(void *user, uint64_t offset, void *buffer, size_t size) {
    memset(buffer, ' ', size);
    if (offset == 0) put_little_endian((unsigned char *)buffer, *(const uint64_t *)user, 8);
    return 1;
}

static void a_header_longer_than_allowed(void) {
    uint64_t length = 100000001;
    const msae_reader reader = {read_spaces, &length, (uint64_t)1 << 40, NULL, NULL};
    msae_safetensors file;
    msae_error error;
    CHECK_STATUS(MSAE_ERROR_FORMAT, msae_safetensors_open(&file, reader, NULL, &error));
    expect_message(&error, "the header is longer than 100 MB (byte 0)");
    length = 1000;
    CHECK_STATUS(MSAE_ERROR_FORMAT, msae_safetensors_open(&file, reader, NULL, &error));
    expect_message(&error, "the header does not start with { (byte 1008)");
}

/* Brackets as deep as the header is long must not take the stack with them. */
static void deep_nesting(void) {
    static const char *const brackets[] = {"[", "{\"a\":"};
    size_t size = 1000000;
    char *header = (char *)test_alloc(size);
    for (size_t i = 0; i < COUNT(brackets); i++) {
        size_t length = strlen(brackets[i]);
        for (size_t at = 0; at < size; at++) header[at] = brackets[i][at % length];
        memcpy(header, "{\"a\":", 5);
        bytes file = safetensors(header, size / 5 * 5, 0);
        msae_error error;
        CHECK_STATUS(MSAE_ERROR_FORMAT, open_twice(&file, &error));
        free(file.data);
    }
    free(header);
}

/* One tensor after the other in the header costs no more than it has to, and many are fine. */
static void many_tensors(void) {
    size_t count = 5000, size = 0;
    char *header = (char *)test_alloc(count * 80);
    for (size_t i = 0; i < count; i++) {
        size += (size_t)sprintf(
            header + size, "%c\"t%zu\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}",
            i ? ',' : '{', i, i, i + 1);
    }
    header[size++] = '}';
    bytes file = safetensors(header, size, count);
    msae_safetensors opened;
    if (CHECK_STATUS(MSAE_OK, msae_safetensors_open(&opened, msae_from_memory(file.data, file.size),
                                                    NULL, NULL))) {
        CHECK(opened.n_tensors == count);
        const msae_tensor *last = msae_safetensors_find(&opened, "t4999");
        CHECK(last && last->data == file.data + file.size - 1);
        CHECK(msae_safetensors_find(&opened, "t5000") == NULL);
        msae_safetensors_close(&opened);
    }
    free(file.data);
    free(header);
}

static void written_and_read_again(void) {
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    static const unsigned char odd[3] = {7, 8, 9};
    msae_tensor tensors[2] = {
        {"odd", 3, MSAE_U8, 1, {3}, odd, 3, 0},
        {"values", 6, MSAE_F32, 2, {2, 3}, values, sizeof values, 0},
    };
    msae_metadata metadata = {"key", "value", 3, 5};
    bytes file;
    msae_safetensors opened;
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_safetensors_write(&writer, tensors, 2, &metadata, 1, NULL));
    file.size = writer.bytes;
    file.data = (unsigned char *)test_alloc(file.size);
    writer = msae_to_memory(file.data, file.size);
    CHECK_STATUS(MSAE_OK, msae_safetensors_write(&writer, tensors, 2, &metadata, 1, NULL));
    if (CHECK_STATUS(MSAE_OK, msae_safetensors_open(&opened, msae_from_memory(file.data, file.size),
                                                    NULL, NULL))) {
        const msae_tensor *tensor = msae_safetensors_find(&opened, "values");
        CHECK(tensor && tensor->dtype == MSAE_F32 && tensor->rank == 2 && tensor->shape[0] == 2 &&
              tensor->shape[1] == 3 && memcmp(tensor->data, values, sizeof values) == 0);
        tensor = msae_safetensors_find(&opened, "odd");
        CHECK(tensor && tensor->dtype == MSAE_U8 && memcmp(tensor->data, odd, sizeof odd) == 0);
        const msae_metadata *entry = msae_safetensors_metadata(&opened, "key");
        CHECK(entry && entry->value_bytes == 5 && memcmp(entry->value, "value", 5) == 0);
        CHECK(msae_safetensors_metadata(&opened, "kez") == NULL);
        msae_safetensors_close(&opened);
    }
    writer = msae_to_memory(file.data, file.size - 1);
    CHECK(msae_safetensors_write(&writer, tensors, 2, &metadata, 1, NULL) != MSAE_OK);
    metadata.value = "a\"b";
    metadata.value_bytes = 3;
    writer = msae_to_memory(NULL, 0);
    CHECK(msae_safetensors_write(&writer, tensors, 2, &metadata, 1, NULL) != MSAE_OK);
    free(file.data);
}

/* The most memory held while the bytes are opened in every way there is; all is given back. */
static size_t memory_for(const bytes *file) {
    test_heap heap;
    memset(&heap, 0, sizeof heap);
    const msae_load_desc load = {
        {MSAE_SIMD_AUTO, test_heap_allocator(&heap), {NULL, NULL, 0}}, 0, 0};
    const msae_reader reader = from_elsewhere(file);
    msae_safetensors opened;
    msae_model model;
    msae_trainer trainer;
    msae_data data;
    msae_safetensors_open(&opened, msae_from_memory(file->data, file->size), &load.host.allocator,
                          NULL);
    msae_safetensors_close(&opened);
    msae_safetensors_open(&opened, reader, &load.host.allocator, NULL);
    msae_safetensors_close(&opened);
    msae_load(&model, msae_from_memory(file->data, file->size), &load, NULL);
    msae_model_free(&model);
    msae_load(&model, reader, &load, NULL);
    msae_model_free(&model);
    CHECK(msae_trainer_load(&trainer, reader, &load, NULL) != MSAE_OK);
    msae_data_load(&data, reader, NULL, &load.host.allocator, NULL);
    msae_data_free(&data);
    CHECK(heap.bytes == 0);
    return heap.most;
}

/* Whatever a file claims, memory follows from the bytes that are there. */
static void memory_follows_from_the_bytes(void) {
    static const char *const claims[] = {
        "{\"__metadata__\":{\"\":\"\",\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\",\"e\":\"\"}}",
        "{" TENSOR("x", "F32", "[1000000000,1000000]", 0, 4) "}",
        "{" TENSOR("encoder", "F32", "[100000,100000]", 0, 40000000000) "}",
    };
    static const struct {
        const char *key, *value;
    } sizes[] = {{"msae.n_latents", "999999999"},
                 {"msae.n_inputs", "999999999"},
                 {"msae.nesting", "4,8,999999"}};
    bytes file = saved_model(&test_recipes[0], 7, 9);
    msae_safetensors parsed;
    CHECK(memory_for(&file) < 3 * file.size + 256);
    CHECK_STATUS(MSAE_OK, msae_safetensors_open(&parsed, msae_from_memory(file.data, file.size),
                                                NULL, NULL));
    for (size_t i = 0; i < COUNT(sizes); i++) {
        const msae_metadata *note = msae_safetensors_metadata(&parsed, sizes[i].key);
        bytes copy = rewritten(&parsed, NOTE, (size_t)(note - parsed.metadata), sizes[i].value);
        test_note("%s", sizes[i].key);
        CHECK(memory_for(&copy) < 3 * copy.size + 256);
        free(copy.data);
    }
    msae_safetensors_close(&parsed);
    free(file.data);
    for (size_t i = 0; i < COUNT(claims); i++) {
        file = safetensors(claims[i], strlen(claims[i]), 4);
        test_note("%s", claims[i]);
        CHECK(memory_for(&file) < 8 * file.size + 256);
        free(file.data);
    }
}

/* ---------------------------------------------------------------------------------------------
   Data
   ------------------------------------------------------------------------------------------ */

/* A .npy of version 1 with the given dictionary; `data` follows the padded header. */
static bytes npy(const char *dictionary, const void *data, size_t data_bytes) {
    char header[256];
    size_t length = strlen(dictionary), total = (10 + length + 1 + 63) / 64 * 64;
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    put_little_endian((unsigned char *)header + 8, total - 10, 2);
    memcpy(header + 10, dictionary, length);
    header[total - 1] = '\n';
    return bytes_join(header, total, data, data_bytes);
}

static msae_status data_status(const bytes *file, msae_error *error) {
    msae_data data;
    memset(&data, 0xff, sizeof data);
    return msae_data_load(&data, msae_from_memory(file->data, file->size), NULL, NULL, error);
}

static void npy_of_every_float(void) {
    static const float want[6] = {1, -2, 0.5f, 0.25f, 1024, -0.125f};
    static const uint16_t halves[6] = {0x3c00, 0xc000, 0x3800, 0x3400, 0x6400, 0xb000};
    double doubles[6];
    unsigned char two[12], four[24], eight[48];
    for (size_t i = 0; i < 6; i++) {
        uint32_t word;
        uint64_t giant;
        doubles[i] = (double)want[i];
        memcpy(&word, &want[i], sizeof word);
        memcpy(&giant, &doubles[i], sizeof giant);
        put_little_endian(two + 2 * i, halves[i], 2);
        put_little_endian(four + 4 * i, word, 4);
        put_little_endian(eight + 8 * i, giant, 8);
    }
    const struct {
        const char *dictionary;
        const void *values;
        size_t size;
        msae_dtype dtype;
    } files[] = {
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3), }", two, 12, MSAE_F16},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", four, 24, MSAE_F32},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", eight, 48, MSAE_F64},
        {"{'shape': (2,3), 'fortran_order':False,'descr':\"<f4\"}", four, 24, MSAE_F32},
    };
    for (size_t i = 0; i < COUNT(files); i++) {
        bytes file = npy(files[i].dictionary, files[i].values, files[i].size);
        msae_data data;
        float got[6] = {0};
        test_note("%s", files[i].dictionary);
        if (CHECK_STATUS(MSAE_OK, msae_data_load(&data, msae_from_memory(file.data, file.size),
                                                 NULL, NULL, NULL)) &&
            CHECK(data.rows == 2 && data.cols == 3 && data.dtype == files[i].dtype)) {
            msae_data_read(&data, 0, 2, got);
            CHECK(test_same(got, want, 6));
            msae_data_read(&data, 1, 1, got);
            CHECK(test_same(got, want + 3, 3));
            msae_data_read(&data, 1, 1, got);
            msae_data_read(&data, 0, 1, got + 3);
            CHECK(test_same(got, want + 3, 3) && test_same(got + 3, want, 3));
        }
        free(file.data);
    }
}

static void npy_of_one_dimension_and_later_versions(void) {
    static const float values[3] = {1, 2, 3};
    bytes file =
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", values, sizeof values);
    msae_data data;
    CHECK_STATUS(MSAE_OK,
                 msae_data_load(&data, msae_from_memory(file.data, file.size), NULL, NULL, NULL));
    CHECK(data.rows * data.cols == 3);
    /* Version 2 has four bytes of header length. */
    bytes second = bytes_join(file.data, file.size, values, 2);
    memmove(second.data + 12, second.data + 10, file.size - 10);
    second.data[6] = 2;
    second.data[10] = second.data[11] = 0;
    CHECK_STATUS(MSAE_OK, msae_data_load(&data, msae_from_memory(second.data, second.size), NULL,
                                         NULL, NULL));
    CHECK(data.rows * data.cols == 3);
    free(second.data);
    free(file.data);
}

static void npy_that_cannot_serve(void) {
    static const struct {
        const char *what, *message, *dictionary;
        size_t data_bytes;
    } files[] = {
        {"integers", "the values are whole numbers, expected floats (byte 20)",
         "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }", 24},
        {"bytes", "the values are uint8 and may be packed or scaled, expected floats (byte 20)",
         "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }", 6},
        {"booleans", "the values are booleans, expected floats (byte 20)",
         "{'descr': '|b1', 'fortran_order': False, 'shape': (2, 3), }", 6},
        {"text", "the values are text, expected floats (byte 20)",
         "{'descr': '<U3', 'fortran_order': False, 'shape': (2, 3), }", 72},
        {"records of bytes", "the values are records, expected floats (byte 20)",
         "{'descr': '|V3', 'fortran_order': False, 'shape': (2, 3), }", 18},
        {"bfloat16 of another order", "the values are records, expected floats (byte 20)",
         "{'descr': '>V2', 'fortran_order': False, 'shape': (2, 3), }", 12},
        {"no type", "the values are of an unknown type, expected floats (byte 20)",
         "{'descr': '<', 'fortran_order': False, 'shape': (2, 3), }", 24},
        {"complex", "the values are complex numbers, expected floats (byte 20)",
         "{'descr': '<c8', 'fortran_order': False, 'shape': (2, 3), }", 48},
        {"records", "the values are records, expected floats (byte 20)",
         "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3), }", 24},
        {"objects", "the values are Python objects, expected floats (byte 20)",
         "{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }", 24},
        {"long double", "the values are floats of more than 64 bits (byte 20)",
         "{'descr': '<f16', 'fortran_order': False, 'shape': (2, 3), }", 96},
        {"three dimensions", "the array has more than two dimensions (byte 69)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 3), }", 48},
        {"four dimensions", "the array has more than two dimensions (byte 70)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 6), }", 24},
        {"no dimension", "the array has no dimensions (byte 60)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 4},
        {"zero rows", "the array has no rows or no columns (byte 60)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }", 0},
        {"nothing", "the array has no rows or no columns (byte 60)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }", 0},
        {"zero columns", "the array has no rows or no columns (byte 60)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0), }", 0},
        {"too few bytes", "the data is cut off (byte 151)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 23},
        {"no bytes", "the data is cut off (byte 128)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 0},
        {"too many bytes", "something follows the data (byte 152)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 25},
        {"a product that overflows", "the shape is too large (byte 128)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 0},
        {"a number beyond 64 bits", "a number is too large (byte 61)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551617, 1), }", 4},
        {"a negative number", "a number is negative (byte 61)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3), }", 24},
        {"no descr", "the header lacks descr (byte 53)",
         "{'fortran_order': False, 'shape': (2, 3), }", 24},
        {"no order", "the header lacks fortran_order (byte 45)",
         "{'descr': '<f4', 'shape': (2, 3), }", 24},
        {"no shape", "the header lacks shape (byte 52)",
         "{'descr': '<f4', 'fortran_order': False, }", 24},
        {"no dictionary", "the header is not a dictionary (byte 10)", "hello", 24},
        {"a dictionary that does not end", "a string in the header does not end (byte 64)",
         "{'descr': '<f4', 'fortran_order': False, 'sh", 24},
        {"a key that is a number", "a string in the header is missing (byte 11)", "{1: 2}", 0},
        {"a key without a colon", "a colon is missing in the header (byte 18)", "{'descr'='<f4'}",
         0},
        {"a dictionary without a brace at its end", "the header does not end (byte 31)",
         "{'descr': '<f4'      ]", 0},
        {"an order that is a number", "fortran_order is neither True nor False (byte 28)",
         "{'fortran_order': 0}", 0},
        {"a key twice", "the header has a key twice (byte 26)", "{'descr': '<f4','descr': '<f4'}",
         0},
        {"an unknown key", "the header has an unknown key (byte 11)", "{'order': 'C'}", 0},
        {"a shape that is a number", "the shape is missing (byte 20)", "{'shape': 3}", 0},
        {"a shape that does not end", "the shape does not end (byte 22)", "{'shape': (3]}", 0},
        {"a shape in brackets that is no tuple", "the shape is not a tuple (byte 60)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (3), }", 12},
        {"a shape with a fraction", "a number is not whole (byte 21)", "{'shape': (3.0,)}", 0},
        {"something after the dictionary", "something follows the header's dictionary (byte 68)",
         "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} x", 24},
    };
    static const unsigned char zeros[96] = {0};
    for (size_t i = 0; i < COUNT(files); i++) {
        bytes file = npy(files[i].dictionary, zeros, files[i].data_bytes);
        msae_error error;
        memset(&error, 0, sizeof error);
        test_note("%s", files[i].what);
        CHECK_STATUS(MSAE_ERROR_FORMAT, data_status(&file, &error));
        expect_message(&error, files[i].message);
        free(file.data);
    }
}

/* What stands before the dictionary. */
static void npy_preambles(void) {
    static const struct {
        const char *bytes, *message;
        size_t size;
    } files[] = {
        {"\x93NUMPY\x01\x00", "the .npy header's length is cut off (byte 6)", 8},
        {"\x93NUMPY\x02\x00\x01\x00", "the .npy header's length is cut off (byte 6)", 10},
        {"\x93NUMPY\x01\x00\x10\x00{}", "the .npy header is cut off (byte 8)", 12},
        {"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "the .npy header is cut off (byte 8)", 14},
        {"\x93NUMPY\x00\x00\x02\x00{}", "this version of .npy is unknown (byte 6)", 12},
        {"\x93NUMPY\x04\x00\x02\x00\x00\x00{}", "this version of .npy is unknown (byte 6)", 14},
        {"\x93NUMPY\x01\x01\x02\x00{}", "this version of .npy is unknown (byte 6)", 12},
        {"\x93NUMPY\x01\x00\x39\x00{'descr':'<f4','fortran_order':False,'shape':(1,1),}      1234",
         "the header does not end with a newline (byte 66)", 71},
    };
    for (size_t i = 0; i < COUNT(files); i++) {
        bytes file = bytes_copy(files[i].bytes, files[i].size);
        msae_error error;
        test_note("%zu", i);
        CHECK_STATUS(MSAE_ERROR_FORMAT, data_status(&file, &error));
        expect_message(&error, files[i].message);
        free(file.data);
    }
}

static void npy_cut_and_changed(void) {
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    bytes file =
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", values, sizeof values);
    for (size_t size = 0; size < file.size; size++) {
        bytes cut = bytes_copy(file.data, size);
        test_note("%zu bytes", size);
        CHECK(data_status(&cut, NULL) != MSAE_OK);
        free(cut.data);
    }
    /* What a changed byte gives need not be an error (a space), but must be told from its bytes. */
    for (size_t at = 0; at < file.size - sizeof values; at++) {
        unsigned char kept = file.data[at];
        for (int value = 0; value < 256; value++) {
            msae_data data;
            file.data[at] = (unsigned char)value;
            test_note("byte %zu is %d", at, value);
            if (msae_data_load(&data, msae_from_memory(file.data, file.size), NULL, NULL, NULL) ==
                MSAE_OK) {
                const unsigned char *first = (const unsigned char *)data.values;
                size_t size = data.rows * data.cols * msae_dtype_bytes(data.dtype);
                if (data.owned != NULL) { /* '>f4': put into order */
                    CHECK(size == data.owned_bytes && data.values == data.owned);
                } else {
                    CHECK(first > file.data && first + size == file.data + file.size);
                }
                msae_data_free(&data);
            }
        }
        file.data[at] = kept;
    }
    CHECK_STATUS(MSAE_OK, data_status(&file, NULL));
    free(file.data);
}

/* Every half there is, against its definition. */
static void all_halves(void) {
    uint16_t halves[65536];
    float *got = test_floats(65536);
    for (size_t i = 0; i < 65536; i++) put_little_endian((unsigned char *)&halves[i], i, 2);
    msae_data data = msae_data_view(got, 1, 65536);
    data.dtype = MSAE_F16;
    data.values = halves;
    msae_data_read(&data, 0, 1, got);
    for (size_t i = 0; i < 65536; i++) {
        int exponent = (int)(i >> 10 & 31), fraction = (int)(i & 1023);
        double value = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        test_note("%zu", i);
        if (exponent == 31) {
            CHECK(fraction ? test_is_nan(got[i]) : test_magnitude(got[i]) == TEST_INFINITY);
        } else {
            CHECK((double)fabsf(got[i]) == value);
        }
        CHECK(test_is_negative(got[i]) == (i >> 15 != 0));
    }
    free(got);
}

static void tensors_as_data(void) {
    static const char header[] = "{" TENSOR("a", "BF16", "[2,2]", 0, 8) "," TENSOR(
        "b", "F32", "[3]", 8, 20) "," TENSOR("c", "I32", "[1,1]", 20, 24) "}";
    static const unsigned char brains[8] = {0x80, 0x3f, 0x00, 0xc0, 0x00, 0x00, 0x80, 0x3e};
    static const float want[4] = {1, -2, 0, 0.25f};
    bytes file = safetensors(header, sizeof header - 1, 24);
    float got[4];
    msae_data data;
    memcpy(file.data + 8 + sizeof header - 1, brains, sizeof brains);
    if (CHECK_STATUS(MSAE_OK, msae_data_load(&data, msae_from_memory(file.data, file.size), "a",
                                             NULL, NULL)) &&
        CHECK(data.rows == 2 && data.cols == 2)) {
        msae_data_read(&data, 0, 2, got);
        CHECK(test_same(got, want, 4));
    }
    CHECK(msae_data_load(&data, msae_from_memory(file.data, file.size), "b", NULL, NULL) !=
          MSAE_OK);
    CHECK(msae_data_load(&data, msae_from_memory(file.data, file.size), "c", NULL, NULL) !=
          MSAE_OK);
    CHECK(msae_data_load(&data, msae_from_memory(file.data, file.size), "d", NULL, NULL) !=
          MSAE_OK);
    if (CHECK_STATUS(MSAE_OK, msae_data_load(&data, msae_from_memory(file.data, file.size), NULL,
                                             NULL, NULL))) {
        CHECK(data.rows == 2 && data.dtype == MSAE_BF16); /* the only matrix of floats */
    }
    free(file.data);
    static const char one[] = "{" TENSOR("only", "F64", "[1,1]", 0, 8) "}";
    file = safetensors(one, sizeof one - 1, 8);
    CHECK_STATUS(MSAE_OK, data_status(&file, NULL));
    free(file.data);
}

/* Without a name the only matrix of floats is taken, whatever is beside it. */
static void the_only_matrix(void) {
    static const struct {
        const char *header, *message; /* NULL: data of 3 x 2 */
        msae_status status;
    } files[] = {
        {"{" TENSOR("ids", "I64", "[3]", 0, 24) "," TENSOR("x", "F32", "[3,2]", 24, 48) "}", NULL,
         MSAE_OK},
        {"{" TENSOR("x", "F32", "[3,2]", 0, 24) "," TENSOR("logit_scale", "F32", "[]", 24, 28) "}",
         NULL, MSAE_OK},
        {"{" TENSOR("a", "F32", "[0,2]", 0, 0) "," TENSOR("b", "F32", "[3,0]", 0, 0) "," TENSOR(
             "x", "F16", "[3,2]", 0, 12) "," TENSOR("ids", "I32", "[3,2]", 12, 36) "}",
         NULL, MSAE_OK},
        {"{" TENSOR("image", "F32", "[3,2]", 0, 24) "," TENSOR(
             "ids", "I64", "[3]", 24, 48) "," TENSOR("text", "F16", "[1,2]", 48, 52) "}",
         "2 of the file's 3 tensors are matrices (image, text): name the one to read",
         MSAE_ERROR_ARGUMENT},
        {"{" TENSOR("ids", "I64", "[3]", 0, 24) "," TENSOR("a", "F32", "[0,2]", 24, 24) "}",
         "none of the file's 2 tensors is a matrix of F32, F16, BF16 or F64", MSAE_ERROR_SHAPE},
        {"{}", "none of the file's 0 tensors is a matrix of F32, F16, BF16 or F64",
         MSAE_ERROR_SHAPE},
        {"{" TENSOR("encoder", "F32", "[3,2]", 0, 24) "," TENSOR("latent_bias", "F32", "[3]", 24,
                                                                 36) "}",
         "the file holds a model: name the tensor to read", MSAE_ERROR_ARGUMENT},
        {"{" TENSOR("x", "F32", "[0,2]", 0, 0) "}",
         "the tensor is not a matrix with rows and columns", MSAE_ERROR_SHAPE},
    };
    static const size_t sizes[] = {48, 28, 36, 52, 24, 0, 36, 0};
    for (size_t i = 0; i < COUNT(files); i++) {
        bytes file = safetensors(files[i].header, strlen(files[i].header), sizes[i]);
        msae_data data;
        msae_error error;
        test_note("%s", files[i].header);
        CHECK_STATUS(files[i].status, msae_data_load(&data, msae_from_memory(file.data, file.size),
                                                     NULL, NULL, &error));
        if (files[i].message) {
            test_check(strcmp(error.message, files[i].message) == 0, error.message, __FILE__,
                       __LINE__);
        } else {
            CHECK(data.rows == 3 && data.cols == 2);
        }
        free(file.data);
    }
}

/* As many names as a message has room for. */
static void names_of_many_matrices(void) {
    for (size_t length = 1; length < 300; length++) {
        char header[2048] = "{", name[300];
        size_t at = 1;
        memset(name, 'n', length);
        for (int i = 0; i < 3; i++) {
            name[length - 1] = (char)('a' + i);
            at += (size_t)snprintf(header + at, sizeof header - at,
                                   "%s\"%.*s\":{\"dtype\":\"F32\",\"shape\":[1,1],"
                                   "\"data_offsets\":[%d,%d]}",
                                   i ? "," : "", (int)length, name, 4 * i, 4 * i + 4);
        }
        header[at++] = '}';
        bytes file = safetensors(header, at, 12);
        msae_error error;
        test_note("%zu", length);
        CHECK_STATUS(MSAE_ERROR_ARGUMENT, data_status(&file, &error));
        CHECK(strlen(error.message) < sizeof error.message);
        CHECK(strstr(error.message, "): name the one to read") != NULL);
        CHECK((strstr(error.message, "..)") == NULL) == (length <= 60));
        free(file.data);
    }
}

/* ---------------------------------------------------------------------------------------------
   The file system
   ------------------------------------------------------------------------------------------ */

static const char *folder;

static const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *path, const void *data, size_t size) {
    FILE *stream = fopen(path, "wb");
    CHECK(stream && fwrite(data, 1, size, stream) == size);
    if (stream) fclose(stream);
}

static void model_to_disk_and_back(void) {
    msae_trainer trainer;
    msae_model loaded;
    if (!train(&trainer, &test_recipes[0], 5, 9)) return;
    const char *path = in_folder("model.safetensors");
    CHECK_STATUS(MSAE_OK, msae_save_file(&trainer.model, path, NULL));
    CHECK_STATUS(MSAE_OK, msae_save_file(&trainer.model, path, NULL));
    bytes file = save(&trainer.model);
    size_t size;
    void *read = test_read_file(path, &size);
    if (CHECK(read)) CHECK(size == file.size && memcmp(read, file.data, size) == 0);
    free(read);
    if (CHECK_STATUS(MSAE_OK, msae_load_file(&loaded, path, NULL, NULL))) {
        CHECK(test_same(loaded.encoder, trainer.model.encoder, 5 * 9));
        msae_model_free(&loaded);
    }
    remove(path);
    /* Nothing else may be left in the folder: it can be removed and made again. */
    CHECK(TEST_RMDIR(folder) == 0 && TEST_MKDIR(folder) == 0);
    free(file.data);
    msae_trainer_free(&trainer);
}

static void places_that_cannot_be_written(void) {
    static const char *const paths[] = {
#ifndef _WIN32 /* where no file is special: it would be replaced */
        "/dev/full",
#endif
        "/nowhere/model.safetensors", "", "/tmp"};
    msae_trainer trainer;
    float one = 1;
    if (!train(&trainer, &test_recipes[0], 5, 9)) return;
    for (size_t i = 0; i < COUNT(paths); i++) {
        test_note("\"%s\"", paths[i]);
        CHECK_STATUS(MSAE_ERROR_IO, msae_save_file(&trainer.model, paths[i], NULL));
        msae_writer writer = msae_to_file(paths[i]);
        CHECK_STATUS(MSAE_ERROR_IO, msae_npy_write(&writer, &one, 1, 1, NULL));
        CHECK_STATUS(MSAE_ERROR_IO, msae_safetensors_write(&writer, NULL, 0, NULL, 0, NULL));
    }
    msae_trainer_free(&trainer);
}

static void places_that_cannot_be_read(void) {
    const char *paths[] = {"/nowhere/model.safetensors", "", folder};
    for (size_t i = 0; i < COUNT(paths); i++) {
        msae_model model;
        msae_data data;
        msae_error error;
        test_note("\"%s\"", paths[i]);
        memset(&error, 0, sizeof error);
        CHECK_STATUS(MSAE_ERROR_IO, msae_load_file(&model, paths[i], NULL, &error));
        CHECK(error.code == MSAE_ERROR_IO && error.message[0]);
        CHECK_STATUS(MSAE_ERROR_IO,
                     msae_data_load(&data, msae_from_file(paths[i]), NULL, NULL, NULL));
    }
    const char *path = in_folder("empty.npy");
    msae_data data;
    msae_model model;
    write_file(path, "", 0);
    test_note("an empty file");
    CHECK(msae_data_load(&data, msae_from_file(path), NULL, NULL, NULL) != MSAE_OK);
    CHECK(msae_load_file(&model, path, NULL, NULL) != MSAE_OK);
    remove(path);
}

static void npy_there_and_back(const char *path) {
    float values[15];
    uint64_t seed = 1;
    test_fill(&seed, values, COUNT(values), 3);
    msae_data data;
    msae_writer writer = msae_to_file(path);
    CHECK_STATUS(MSAE_OK, msae_npy_write(&writer, values, 5, 3, NULL));
    if (CHECK_STATUS(MSAE_OK, msae_data_load(&data, msae_from_file(path), NULL, NULL, NULL))) {
        float got[15];
        CHECK(data.rows == 5 && data.cols == 3 && data.dtype == MSAE_F32);
        msae_data_read(&data, 0, 5, got);
        CHECK(test_same(got, values, COUNT(values)));
        msae_data_free(&data);
    }
    CHECK(MSAE__REMOVE(path) == 0);
}

/* (the second name is UTF-8, on Windows too) */
static void npy_to_disk_and_back(void) {
    npy_there_and_back(in_folder("x.npy"));
    npy_there_and_back(in_folder("\xe3\x83\x87\xc3\xa9.npy"));
}

/* Bare float32 whose shape is in the file's name. */
static void headerless_data(void) {
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    static const char *const wrong[] = {"data_2_4.npy", "data_3_1.npy",
                                        "data_0_3.npy", "data_-2_-3.npy",
                                        "data.npy",     "data_4294967296_4294967296.npy"};
    const char *path = in_folder("clip_train_2_3.npy");
    msae_data data;
    float file[6];
    test_copy_le(file, values, COUNT(values));
    write_file(path, file, sizeof file);
    if (CHECK_STATUS(MSAE_OK, msae_data_load(&data, msae_from_file(path), NULL, NULL, NULL))) {
        float got[6];
        CHECK(data.rows == 2 && data.cols == 3);
        msae_data_read(&data, 0, 2, got);
        CHECK(test_same(got, values, COUNT(values)));
        msae_data_free(&data);
    }
    remove(path);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        path = in_folder(wrong[i]);
        test_note("%s", wrong[i]);
        write_file(path, file, sizeof file);
        CHECK(msae_data_load(&data, msae_from_file(path), NULL, NULL, NULL) != MSAE_OK);
        remove(path);
    }
}

int main(void) {
    folder = test_folder();
    RUN(saved_and_loaded_are_equal);
    RUN(tensors_have_their_names_and_shapes);
    RUN(cut_at_every_byte);
    RUN(every_header_byte_changed);
    RUN(models_that_contradict_themselves);
    RUN(what_is_said_of_models);
    RUN(weights_that_are_no_numbers);
    RUN(rules_of_the_format);
    RUN(header_sizes_that_lie);
    RUN(a_header_longer_than_allowed);
    RUN(deep_nesting);
    RUN(many_tensors);
    RUN(memory_follows_from_the_bytes);
    RUN(written_and_read_again);
    RUN(npy_of_every_float);
    RUN(npy_of_one_dimension_and_later_versions);
    RUN(npy_that_cannot_serve);
    RUN(npy_preambles);
    RUN(npy_cut_and_changed);
    RUN(all_halves);
    RUN(tensors_as_data);
    RUN(the_only_matrix);
    RUN(names_of_many_matrices);
    RUN(model_to_disk_and_back);
    RUN(places_that_cannot_be_written);
    RUN(places_that_cannot_be_read);
    RUN(npy_to_disk_and_back);
    RUN(headerless_data);
    TEST_RMDIR(folder);
    return test_finish();
}
