/* Files that version 0.5.0 wrote (tests/old, all with the rows of x.npy) do what they did then; and
   files of today with keys of other programs in their header. */
#include "test.h"

#define FOLDER "tests/old/"
#define LIMIT 2e-6

/* The models; codes_NAME.safetensors has what version 0.5.0 encoded the rows to. */
static const char *const models[] = {"msae", "jumprelu", "batchtopk", "topk", "width", "int8"};

static const char *path_of(const char *before, const char *name, const char *behind) {
    static char path[64];
    snprintf(path, sizeof path, FOLDER "%s%s%s", before, name, behind);
    return path;
}

typedef struct old_codes {
    void *bytes;
    size_t size;
    msae_safetensors file;
    const msae_tensor *starts, *latents, *values;
} old_codes;

static int open_codes(old_codes *codes, const char *model) {
    const char *path = path_of("codes_", model, ".safetensors");
    codes->bytes = test_read_file(path, &codes->size);
    if (!CHECK(codes->bytes) ||
        !CHECK_STATUS(MSAE_OK, msae_safetensors_open(&codes->file,
                                                     msae_from_memory(codes->bytes, codes->size),
                                                     NULL, NULL))) {
        return 0;
    }
    codes->starts = msae_safetensors_find(&codes->file, "indptr");
    codes->latents = msae_safetensors_find(&codes->file, "indices");
    codes->values = msae_safetensors_find(&codes->file, "values");
    return CHECK(codes->starts && codes->latents && codes->values);
}

static void close_codes(old_codes *codes) {
    msae_safetensors_close(&codes->file);
    free(codes->bytes);
}

/* The codes of row r, the strongest first. */
static void compare_row(const old_codes *codes, size_t r, const msae_code *got, size_t count) {
    const unsigned char *starts = (const unsigned char *)codes->starts->data;
    const size_t first = (size_t)msae__load_le(starts + 8 * r, 8);
    const size_t end = (size_t)msae__load_le(starts + 8 * (r + 1), 8);
    if (!CHECK(count == end - first)) return;
    for (size_t c = 0; c < count; c++) {
        float value;
        const unsigned char *values = (const unsigned char *)codes->values->data;
        const unsigned char *latents = (const unsigned char *)codes->latents->data;
        test_copy_le(&value, values + 4 * (first + c), 1);
        CHECK(got[c].latent == msae__load_le(latents + 4 * (first + c), 4));
        CHECK(fabsf(got[c].value - value) <= LIMIT * (1 + fabsf(value)));
    }
}

static void models_encode_as_they_did(void) {
    msae_data data;
    if (!CHECK_STATUS(MSAE_OK,
                      msae_data_load(&data, msae_from_file(FOLDER "x.npy"), NULL, NULL, NULL)))
        return;
    for (size_t m = 0; m < COUNT(models); m++) {
        msae_model model;
        old_codes old;
        test_note("%s", models[m]);
        if (!CHECK_STATUS(MSAE_OK, msae_load_file(&model, path_of("", models[m], ".safetensors"),
                                                  NULL, NULL)) ||
            !open_codes(&old, models[m])) {
            break;
        }
        void *workspace = test_alloc(msae_workspace_bytes(&model, 1));
        for (size_t r = 0; r < data.rows; r++) {
            float x[8];
            msae_code codes[8];
            msae_data_read(&data, r, 1, x);
            compare_row(&old, r, codes, test_encode(&model, workspace, x, 8, codes));
        }
        free(workspace);
        close_codes(&old);
        msae_model_free(&model);
    }
    msae_data_free(&data);
}

static void what_they_say_is_kept(void) {
    msae_model model, again;
    size_t bytes = 0;
    if (!CHECK_STATUS(MSAE_OK, msae_load_file(&model, FOLDER "msae.safetensors", NULL, NULL)))
        return;
    CHECK(model.recipe == MSAE_RECIPE_MSAE && model.n_levels == 3 && model.nesting[1] == 4);
    CHECK(model.history.steps == 12 && model.history.epochs == 4 && model.history.revivals == 6);
    CHECK(model.history.schedule == MSAE_SCHEDULE_TRAPEZOID && model.history.decay == 0.4f);
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_save(&model, &writer, NULL));
    bytes = writer.bytes;
    unsigned char *file = (unsigned char *)test_alloc(bytes);
    writer = msae_to_memory(file, bytes);
    CHECK_STATUS(MSAE_OK, msae_save(&model, &writer, NULL));
    CHECK_STATUS(MSAE_OK, msae_load(&again, msae_from_memory(file, bytes), NULL, NULL));
    CHECK(again.history.steps == 12 && memcmp(again.encoder, model.encoder, 192) == 0);
    free(file);
    msae_model_free(&again);
    msae_model_free(&model);
}

/* Version 0.5.0 wrote the choices of a run as numbers, and so did the first files of 0.6; since then
   they are names. */
static void choices_by_number_and_name(void) {
    static const struct {
        const char *key, *name, *number;
    } choices[] = {{"msae.train_loss", "nmse", "1"},
                   {"msae.train_scaling", "rms", "1"},
                   {"msae.train_schedule", "trapezoid", "5"},
                   {"msae.train_start", "rows", "2"}};
    msae_trainer trainer, again;
    msae_safetensors file;
    msae_metadata notes[64];
    size_t bytes = 0, n_notes = 0, made_bytes = 0;
    if (!CHECK_STATUS(MSAE_OK,
                      msae_trainer_load(&trainer, msae_from_file(FOLDER "checkpoint.safetensors"),
                                        NULL, NULL))) {
        return;
    }
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(&trainer, &writer, NULL));
    bytes = writer.bytes;
    unsigned char *now = (unsigned char *)test_alloc(bytes);
    writer = msae_to_memory(now, bytes);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(&trainer, &writer, NULL));
    CHECK_STATUS(MSAE_OK, msae_safetensors_open(&file, msae_from_memory(now, bytes), NULL, NULL));
    for (size_t i = 0; i < file.n_metadata; i++) {
        msae_metadata note = file.metadata[i];
        if (&file.metadata[i] == msae_safetensors_metadata(&file, "msae.checksum") ||
            &file.metadata[i] == msae_safetensors_metadata(&file, "msae.version")) {
            continue;
        }
        for (size_t c = 0; c < COUNT(choices); c++) {
            if (&file.metadata[i] != msae_safetensors_metadata(&file, choices[c].key)) continue;
            test_note("%s", choices[c].key);
            CHECK(msae__equals(note.value, note.value_bytes, choices[c].name));
            note.value = choices[c].number;
            note.value_bytes = 1;
        }
        notes[n_notes++] = note;
    }
    writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_safetensors_write(&writer, file.tensors, file.n_tensors, notes,
                                                 n_notes, NULL));
    made_bytes = writer.bytes;
    unsigned char *made = (unsigned char *)test_alloc(made_bytes);
    writer = msae_to_memory(made, made_bytes);
    CHECK_STATUS(MSAE_OK, msae_safetensors_write(&writer, file.tensors, file.n_tensors, notes,
                                                 n_notes, NULL));
    if (CHECK_STATUS(MSAE_OK,
                     msae_trainer_load(&again, msae_from_memory(made, made_bytes), NULL, NULL))) {
        CHECK(again.desc.loss == MSAE_LOSS_NMSE && again.desc.scaling == MSAE_SCALING_RMS);
        CHECK(again.desc.schedule == MSAE_SCHEDULE_TRAPEZOID &&
              again.desc.start == MSAE_START_ROWS);
        size_t size = 0;
        unsigned char *back = (unsigned char *)test_alloc(bytes);
        writer = msae_to_memory(NULL, 0);
        CHECK_STATUS(MSAE_OK, msae_trainer_save(&again, &writer, NULL));
        size = writer.bytes;
        CHECK(size == bytes);
        writer = msae_to_memory(back, bytes);
        CHECK_STATUS(MSAE_OK, msae_trainer_save(&again, &writer, NULL));
        CHECK(memcmp(back, now, bytes) == 0);
        free(back);
        msae_trainer_free(&again);
    }
    free(made);
    msae_safetensors_close(&file);
    free(now);
    msae_trainer_free(&trainer);
}

static void a_run_goes_on(void) {
    msae_trainer trainer;
    msae_model model;
    msae_data data;
    if (!CHECK_STATUS(MSAE_OK,
                      msae_data_load(&data, msae_from_file(FOLDER "x.npy"), NULL, NULL, NULL)))
        return;
    CHECK_STATUS(MSAE_OK, msae_load_file(&model, FOLDER "msae.safetensors", NULL, NULL));
    if (CHECK_STATUS(MSAE_OK,
                     msae_trainer_load(&trainer, msae_from_file(FOLDER "checkpoint.safetensors"),
                                       NULL, NULL))) {
        CHECK(memcmp(trainer.model.encoder, model.encoder, 192) == 0);
        CHECK(trainer.step == 12 && trainer.position.epoch == 3 && trainer.has_statistics == 1);
        trainer.desc.epochs = 6;
        CHECK_STATUS(MSAE_OK, test_fit(&trainer, &data, NULL, NULL, NULL));
        CHECK(trainer.step == 18);
        msae_trainer_free(&trainer);
    }
    msae_model_free(&model);
    msae_data_free(&data);
}

static void an_index_fits_its_model(void) {
    msae_index index;
    msae_model model;
    msae_data data;
    CHECK_STATUS(MSAE_OK, msae_data_load(&data, msae_from_file(FOLDER "x.npy"), NULL, NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_load_file(&model, FOLDER "msae.safetensors", NULL, NULL));
    if (CHECK_STATUS(MSAE_OK, msae_index_load(&index, msae_from_file(FOLDER "index.safetensors"),
                                              NULL, NULL))) {
        CHECK(index.k == 4 && index.rows == 24);
        CHECK_STATUS(MSAE_OK, msae_index_check(&index, &model, &data, NULL));
        msae_index_free(&index);
    }
    msae_model_free(&model);
    msae_data_free(&data);
}

/* The status of a file that has `value` (NULL: nothing) under `key`, and else what it had. */
static void load_with(const void *bytes, size_t size, const char *key, const char *value,
                      const char *message) {
    msae_safetensors file;
    msae_metadata notes[64];
    msae_model model;
    msae_error error;
    size_t n_notes = 0, made_size = 0;
    CHECK_STATUS(MSAE_OK, msae_safetensors_open(&file, msae_from_memory(bytes, size), NULL, NULL));
    const msae_metadata *old = msae_safetensors_metadata(&file, key);
    for (size_t i = 0; i < file.n_metadata; i++) {
        if (&file.metadata[i] != old) notes[n_notes++] = file.metadata[i];
    }
    if (value) {
        const msae_metadata note = {key, value, strlen(key), strlen(value)};
        notes[n_notes++] = note;
    }
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_safetensors_write(&writer, file.tensors, file.n_tensors, notes,
                                                 n_notes, NULL));
    made_size = writer.bytes;
    unsigned char *made = (unsigned char *)test_alloc(made_size);
    writer = msae_to_memory(made, made_size);
    CHECK_STATUS(MSAE_OK, msae_safetensors_write(&writer, file.tensors, file.n_tensors, notes,
                                                 n_notes, NULL));
    test_note("%s", key);
    const msae_status status = msae_load(&model, msae_from_memory(made, made_size), NULL, &error);
    CHECK((status == MSAE_OK) == (message == NULL));
    if (status == MSAE_OK) {
        msae_model_free(&model);
    } else if (message) {
        test_check(strcmp(error.message, message) == 0, error.message, __FILE__, __LINE__);
    }
    free(made);
    msae_safetensors_close(&file);
}

static void keys_of_others_are_passed_over(void) {
    static const char *const names[] = {"format", "recipe", "checksum", "msae_version",   "Msae.k",
                                        "a",      "msae",   "zz",       "modelspec.title"};
    static const char changed[] = "the header does not match its checksum";
    static const char missing[] = "the header's checksum is missing";
    msae_model model;
    size_t bytes = 0, size;
    void *old = test_read_file(FOLDER "topk.safetensors", &size);
    if (!CHECK(old)) return;
    CHECK_STATUS(MSAE_OK, msae_load(&model, msae_from_memory(old, size), NULL, NULL));
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_save(&model, &writer, NULL));
    bytes = writer.bytes;
    unsigned char *file = (unsigned char *)test_alloc(bytes);
    writer = msae_to_memory(file, bytes);
    CHECK_STATUS(MSAE_OK, msae_save(&model, &writer, NULL));
    for (size_t i = 0; i < COUNT(names); i++) load_with(file, bytes, names[i], "pt", NULL);
    load_with(file, bytes, "msae.more", "1", changed);
    load_with(file, bytes, "msae.tied", "0", changed);
    load_with(file, bytes, "msae.train_lr", NULL, changed);
    load_with(file, bytes, "msae.checksum", NULL, missing);
    load_with(file, bytes, "msae.format", "pt", "is not a model of msae.h");
    load_with(file, bytes, "msae.format", NULL, "is not a model of msae.h");
    /* without prefixes, whatever is there is ours */
    load_with(old, size, "more", "1", changed);
    load_with(old, size, "tied", "0", changed);
    load_with(old, size, "checksum", NULL, missing);
    free(file);
    msae_model_free(&model);
    free(old);
}

int main(void) {
    RUN(models_encode_as_they_did);
    RUN(what_they_say_is_kept);
    RUN(choices_by_number_and_name);
    RUN(a_run_goes_on);
    RUN(an_index_fits_its_model);
    RUN(keys_of_others_are_passed_over);
    return test_finish();
}
