/* Checkpoints: a run that is cut and resumed, anywhere and any number of times, ends with the bytes
   of one that never stopped; and a checkpoint that is not one is refused. */
#include "test.h"

enum { D = 5, N = 12, ROWS = 22, BATCH = 4, EPOCHS = 3, STEPS = EPOCHS * 6 };

typedef struct bytes {
    unsigned char *data;
    size_t size;
} bytes;

static int same(const bytes *a, const bytes *b) {
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

static bytes checkpoint(const msae_trainer *trainer) {
    bytes file = {NULL, 0};
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(trainer, &writer, NULL));
    file.size = writer.bytes;
    file.data = (unsigned char *)test_alloc(file.size);
    writer = msae_to_memory(file.data, file.size);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(trainer, &writer, NULL));
    return file;
}

static msae_train_desc run_desc(const test_recipe *recipe) {
    msae_train_desc desc = test_desc(recipe, D, N);
    desc.batch = BATCH;
    desc.epochs = EPOCHS;
    desc.weight_decay = 0.01f;
    desc.schedule = MSAE_SCHEDULE_COSINE; /* another factor at every step */
    return desc;
}

static float *run_rows(void) {
    return test_random_floats(3, ROWS * D, 2);
}

/* Stops after so many steps in all. */
static int stop_at(const msae_progress *progress, void *user) {
    const size_t done = progress->epoch * progress->steps + progress->step + 1;
    return done == *(const size_t *)user;
}

/* A fresh run over x up to step `until`. */
static void start(msae_trainer *trainer, const test_recipe *recipe, const msae_data *data,
                  size_t until) {
    msae_train_desc desc = run_desc(recipe);
    CHECK_STATUS(MSAE_OK, msae_trainer_init(trainer, &desc, NULL));
    if (until == 0) return;
    CHECK_STATUS(until <= STEPS ? MSAE_ERROR_STOPPED : MSAE_OK,
                 test_fit(trainer, data, stop_at, &until, NULL));
}

static bytes whole_run(const test_recipe *recipe, const msae_data *data) {
    msae_trainer trainer;
    start(&trainer, recipe, data, STEPS + 1);
    CHECK(trainer.step == STEPS && trainer.rows == ROWS * EPOCHS);
    bytes end = checkpoint(&trainer);
    msae_trainer_free(&trainer);
    return end;
}

static void cut_at_every_step(void) {
    float *x = run_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_RECIPE(recipe) {
        bytes want = whole_run(recipe, &data);
        for (size_t cut = 0; cut <= STEPS; cut++) {
            msae_trainer trainer, again;
            test_note("%s, cut after %zu steps", recipe->name, cut);
            start(&trainer, recipe, &data, cut);
            bytes file = checkpoint(&trainer);
            msae_trainer_free(&trainer);
            if (!CHECK_STATUS(MSAE_OK,
                              msae_trainer_load(&again, msae_from_memory(file.data, file.size),
                                                NULL, NULL))) {
                continue;
            }
            bytes copy = checkpoint(&again);
            CHECK(same(&copy, &file));
            CHECK_STATUS(MSAE_OK, test_fit(&again, &data, NULL, NULL, NULL));
            bytes end = checkpoint(&again);
            CHECK(same(&end, &want));
            msae_trainer_free(&again);
            free(end.data);
            free(copy.data);
            free(file.data);
        }
        free(want.data);
    }
    free(x);
}

/* A checkpoint, and a new trainer from it, after each single step. */
static void cut_after_each_step(void) {
    float *x = run_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_RECIPE(recipe) {
        bytes want = whole_run(recipe, &data);
        msae_trainer trainer;
        start(&trainer, recipe, &data, 1);
        for (size_t until = 2; until <= STEPS + 1; until++) {
            bytes file = checkpoint(&trainer);
            msae_trainer_free(&trainer);
            test_note("%s, step %zu", recipe->name, until);
            CHECK_STATUS(
                MSAE_OK,
                msae_trainer_load(&trainer, msae_from_memory(file.data, file.size), NULL, NULL));
            CHECK_STATUS(until <= STEPS ? MSAE_ERROR_STOPPED : MSAE_OK,
                         test_fit(&trainer, &data, stop_at, &until, NULL));
            free(file.data);
        }
        bytes end = checkpoint(&trainer);
        CHECK(same(&end, &want));
        msae_trainer_free(&trainer);
        free(end.data);
        free(want.data);
    }
    free(x);
}

/* Without a file between: stopped, and called again. */
static void stopped_and_called_again(void) {
    float *x = run_rows();
    const msae_data data = msae_data_view(x, ROWS, D), fewer = msae_data_view(x, ROWS - 1, D);
    bytes want = whole_run(&test_recipes[0], &data);
    for (size_t cut = 1; cut <= STEPS; cut++) {
        msae_trainer trainer;
        msae_error error;
        test_note("%zu", cut);
        start(&trainer, &test_recipes[0], &data, cut);
        CHECK_STATUS(MSAE_ERROR_SHAPE, test_fit(&trainer, &fewer, NULL, NULL, &error));
        CHECK(strcmp(error.message, "the run was over 22 rows of data") == 0);
        CHECK_STATUS(MSAE_OK, test_fit(&trainer, &data, NULL, NULL, NULL));
        CHECK_STATUS(MSAE_OK, test_fit(&trainer, &data, NULL, NULL, NULL)); /* nothing left */
        bytes end = checkpoint(&trainer);
        CHECK(same(&end, &want));
        free(end.data);
        msae_trainer_free(&trainer);
    }
    free(want.data);
    free(x);
}

static void more_epochs_and_a_new_run(void) {
    float *x = run_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    msae_trainer trainer;
    start(&trainer, &test_recipes[0], &data, STEPS + 1);
    trainer.desc.epochs++;
    size_t cut = STEPS + 2;
    CHECK_STATUS(MSAE_ERROR_STOPPED, test_fit(&trainer, &data, stop_at, &cut, NULL));
    bytes file = checkpoint(&trainer), ends[2];
    for (int resumed = 0; resumed < 2; resumed++) {
        CHECK_STATUS(MSAE_OK, test_fit(&trainer, &data, NULL, NULL, NULL));
        CHECK(trainer.step == STEPS + STEPS / EPOCHS && trainer.epoch.rows == ROWS);
        ends[resumed] = checkpoint(&trainer);
        if (resumed) break;
        msae_trainer_free(&trainer);
        CHECK_STATUS(MSAE_OK, msae_trainer_load(&trainer, msae_from_memory(file.data, file.size),
                                                NULL, NULL));
        CHECK(trainer.desc.epochs == EPOCHS + 1);
    }
    CHECK(same(&ends[0], &ends[1]));
    free(file.data);
    free(ends[0].data);
    free(ends[1].data);
    memset(&trainer.position, 0, sizeof trainer.position);
    CHECK_STATUS(MSAE_OK, test_fit(&trainer, &data, NULL, NULL, NULL));
    CHECK(trainer.step == 2 * (STEPS + STEPS / EPOCHS));
    msae_trainer_free(&trainer);
    free(x);
}

/* One epoch in a loop of the caller's own. */
static void own_epoch(msae_trainer *trainer, msae_stream *stream, const msae_data *data,
                      size_t steps) {
    const size_t *index;
    size_t rows;
    while (steps-- > 0) {
        if ((rows = test_next(stream, &index)) == 0) rows = test_next(stream, &index);
        CHECK_STATUS(MSAE_OK, msae_trainer_gradients(trainer, data, index, rows, NULL, NULL));
        CHECK_STATUS(MSAE_OK, msae_trainer_update(trainer, NULL, NULL));
    }
    trainer->position = stream->at;
}

static void own_loop(void) {
    float *x = run_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    msae_train_desc desc = run_desc(&test_recipes[0]);
    for (size_t cut = 0; cut <= 15; cut++) {
        bytes ends[2];
        for (int cuts = 0; cuts < 2; cuts++) {
            msae_trainer trainer;
            msae_stream stream;
            test_note("cut after %zu", cut);
            CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
            CHECK_STATUS(MSAE_OK, test_stream(&stream, &data, BATCH, 9, NULL));
            own_epoch(&trainer, &stream, &data, cut);
            if (cuts) {
                bytes file = checkpoint(&trainer);
                msae_trainer_free(&trainer);
                msae_stream_free(&stream);
                CHECK_STATUS(MSAE_OK,
                             msae_trainer_load(&trainer, msae_from_memory(file.data, file.size),
                                               NULL, NULL));
                CHECK_STATUS(MSAE_OK, test_stream(&stream, &data, BATCH, 9, &trainer.position));
                free(file.data);
            }
            own_epoch(&trainer, &stream, &data, 15 - cut);
            ends[cuts] = checkpoint(&trainer);
            msae_stream_free(&stream);
            msae_trainer_free(&trainer);
        }
        CHECK(same(&ends[0], &ends[1]));
        free(ends[0].data);
        free(ends[1].data);
    }
    free(x);
}

/* With rows that are left out, counted on across the cut, and on every path. */
static void counters_and_paths(void) {
    float *x = run_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    x[7 * D] = NAN;
    for (size_t i = 0; i < D; i++) x[9 * D + i] *= 5000;
    FOR_EACH_PATH(simd) {
        msae_train_desc desc = run_desc(&test_recipes[0]);
        msae_trainer trainer, again;
        size_t cut = 10;
        test_note("%s", msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
        desc.skip_bad = 1;
        desc.max_norm = 60;
        desc.model.host.simd = simd;
        CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
        CHECK_STATUS(MSAE_ERROR_STOPPED, test_fit(&trainer, &data, stop_at, &cut, NULL));
        bytes file = checkpoint(&trainer);
        CHECK_STATUS(MSAE_OK,
                     msae_trainer_load(&again, msae_from_memory(file.data, file.size), NULL, NULL));
        CHECK(again.model.simd == simd && again.desc.skip_bad && again.desc.max_norm == 60);
        CHECK(again.rare.bad == 1 && again.rare.first_bad == 7);
        CHECK(again.rare.beyond == 1 && again.rare.first_beyond == 9);
        CHECK(test_same(&again.rare.norm_limit, &trainer.rare.norm_limit, 1));
        CHECK(test_same(&again.rare.median_norm, &trainer.rare.median_norm, 1));
        CHECK_STATUS(MSAE_OK, test_fit(&trainer, &data, NULL, NULL, NULL));
        CHECK_STATUS(MSAE_OK, test_fit(&again, &data, NULL, NULL, NULL));
        CHECK(again.rows_skipped == 2 * EPOCHS && trainer.rows_skipped == 2 * EPOCHS);
        CHECK(again.rows == (ROWS - 2) * EPOCHS && again.epoch.rows == ROWS - 2);
        CHECK(memcmp(&again.epoch, &trainer.epoch, sizeof again.epoch) == 0);
        msae_trainer_free(&again);
        msae_load_desc load;
        memset(&load, 0, sizeof load);
        load.host.simd = MSAE_SIMD_SCALAR;
        CHECK_STATUS(MSAE_OK, msae_trainer_load(&again, msae_from_memory(file.data, file.size),
                                                &load, NULL));
        CHECK(again.model.simd == MSAE_SIMD_SCALAR);
        msae_trainer_free(&again);
        msae_trainer_free(&trainer);
        free(file.data);
    }
    free(x);
}

/* Latents are counted in windows of a thousand steps: before, at and behind the end of one. */
static void cut_around_a_window(void) {
    float *x = run_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    msae_train_desc desc = run_desc(&test_recipes[5]);
    const size_t cuts[] = {999, 1000, 1001, 1010};
    desc.batch = 1;
    desc.epochs = 1100 / ROWS;
    for (size_t i = 0; i < COUNT(cuts); i++) {
        msae_trainer trainer, again;
        size_t cut = cuts[i];
        test_note("%zu", cut);
        CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
        trainer.model.latent_bias[3] = -1e6f; /* is never active */
        CHECK_STATUS(MSAE_ERROR_STOPPED, test_fit(&trainer, &data, stop_at, &cut, NULL));
        bytes file = checkpoint(&trainer);
        CHECK_STATUS(MSAE_OK,
                     msae_trainer_load(&again, msae_from_memory(file.data, file.size), NULL, NULL));
        CHECK_STATUS(MSAE_OK, test_fit(&trainer, &data, NULL, NULL, NULL));
        CHECK_STATUS(MSAE_OK, test_fit(&again, &data, NULL, NULL, NULL));
        bytes a = checkpoint(&trainer), b = checkpoint(&again);
        CHECK(same(&a, &b));
        msae_step_stats stats[2];
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, 1, &stats[0], NULL));
        CHECK_STATUS(MSAE_OK, msae_trainer_step(&again, x, 1, &stats[1], NULL));
        CHECK(stats[0].dead_latents == stats[1].dead_latents && stats[0].dead_latents > 0);
        free(a.data);
        free(b.data);
        free(file.data);
        msae_trainer_free(&trainer);
        msae_trainer_free(&again);
    }
    free(x);
}

/* A step whose very rate overflows would leave weights that no file may hold. */
static void rates_that_overflow(void) {
    float *x = run_rows();
    msae_train_desc desc = run_desc(&test_recipes[0]);
    msae_trainer trainer;
    msae_error error;
    desc.lr = 3e38f;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    bytes before = checkpoint(&trainer);
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_trainer_step(&trainer, x, ROWS, NULL, &error));
    CHECK(strcmp(error.message, "the learning rate is too large to step") == 0);
    bytes after = checkpoint(&trainer);
    CHECK(same(&before, &after));
    free(before.data);
    free(after.data);
    msae_trainer_free(&trainer);
    free(x);
}

/* What the descriptor says comes back, zeros too. */
static void descriptor_comes_back(void) {
    msae_train_desc desc = run_desc(&test_recipes[9]);
    msae_trainer trainer, again;
    desc.model.seed = UINT64_MAX;
    desc.beta1 = desc.eps = desc.clip = desc.sparse_weight = MSAE_OFF;
    desc.beta2 = 0.9f;
    desc.loss = MSAE_LOSS_MSE;
    desc.scaling = MSAE_SCALING_PAPER;
    desc.geometric_median = 1;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    trainer.lr_factor = 0.1f;
    bytes file = checkpoint(&trainer);
    if (CHECK_STATUS(MSAE_OK, msae_trainer_load(&again, msae_from_memory(file.data, file.size),
                                                NULL, NULL))) {
        const msae_train_desc *a = &trainer.desc, *b = &again.desc;
        CHECK(a->model.seed == b->model.seed && a->batch == b->batch && a->epochs == b->epochs);
        CHECK(test_same(&a->lr, &b->lr, 1) && test_same(&a->beta1, &b->beta1, 1));
        CHECK(test_same(&a->beta2, &b->beta2, 1) && test_same(&a->eps, &b->eps, 1));
        CHECK(test_same(&a->weight_decay, &b->weight_decay, 1) && test_same(&a->clip, &b->clip, 1));
        CHECK(test_same(&a->sparse_weight, &b->sparse_weight, 1));
        CHECK(test_same(&a->bandwidth, &b->bandwidth, 1));
        CHECK(a->loss == b->loss && a->schedule == b->schedule && a->scaling == b->scaling);
        CHECK(a->geometric_median == b->geometric_median && a->skip_bad == b->skip_bad);
        CHECK(test_same(&trainer.lr_factor, &again.lr_factor, 1) && !again.has_statistics);
        msae_trainer_free(&again);
    }
    free(file.data);
    msae_trainer_free(&trainer);
}

/* Any reader of models takes a checkpoint as one. */
static void also_a_model(void) {
    float *x = run_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    FOR_EACH_RECIPE(recipe) {
        msae_trainer trainer;
        msae_model model;
        test_note("%s", recipe->name);
        start(&trainer, recipe, &data, 7);
        bytes file = checkpoint(&trainer);
        if (CHECK_STATUS(MSAE_OK,
                         msae_load(&model, msae_from_memory(file.data, file.size), NULL, NULL))) {
            CHECK(test_same(model.encoder, trainer.model.encoder, N * D));
            CHECK(test_same(model.decoder, trainer.model.decoder, N * D));
            CHECK(model.history.steps == 7);
            msae_model_free(&model);
        }
        free(file.data);
        msae_trainer_free(&trainer);
    }
    free(x);
}

/* ---------------------------------------------------------------------------------------------
   Files that are no checkpoints
   ------------------------------------------------------------------------------------------ */

static void expect_refused(const bytes *file, const char *message) {
    msae_trainer trainer;
    msae_error error;
    memset(&error, 0, sizeof error);
    memset(&trainer, 0xff, sizeof trainer);
    msae_status status =
        msae_trainer_load(&trainer, msae_from_memory(file->data, file->size), NULL, &error);
    CHECK(status != MSAE_OK && status == error.code);
    CHECK(error.message[0] && !strchr(error.message, '\n'));
    if (message && !CHECK(strcmp(error.message, message) == 0)) printf("%s\n", error.message);
    CHECK(trainer.memory == NULL && trainer.workspace == NULL && trainer.model.encoder == NULL);
    msae_trainer_free(&trainer);
}

static bytes some_checkpoint(void) {
    float *x = run_rows();
    const msae_data data = msae_data_view(x, ROWS, D);
    msae_trainer trainer;
    start(&trainer, &test_recipes[9], &data, 8);
    bytes file = checkpoint(&trainer);
    msae_trainer_free(&trainer);
    free(x);
    return file;
}

static size_t header_size(const bytes *file) {
    size_t size = 0;
    for (size_t i = 8; i-- > 0;) size = size << 8 | file->data[i];
    return size;
}

static void cut_and_changed(void) {
    bytes file = some_checkpoint();
    for (size_t size = 0; size < file.size; size++) {
        bytes cut = {(unsigned char *)test_alloc(size), size};
        memcpy(cut.data, file.data, size);
        test_note("%zu of %zu bytes", size, file.size);
        expect_refused(&cut, NULL);
        free(cut.data);
    }
    for (size_t at = 0; at < 8 + header_size(&file); at++) {
        for (int bit = 0; bit < 8; bit++) {
            file.data[at] ^= (unsigned char)(1 << bit);
            test_note("byte %zu, bit %d", at, bit);
            expect_refused(&file, NULL);
            file.data[at] ^= (unsigned char)(1 << bit);
        }
    }
    free(file.data);
}

static void a_model_is_no_checkpoint(void) {
    msae_train_desc desc = run_desc(&test_recipes[0]);
    msae_model model;
    bytes file;
    CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL));
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_save(&model, &writer, NULL));
    file.size = writer.bytes;
    file.data = (unsigned char *)test_alloc(file.size);
    writer = msae_to_memory(file.data, file.size);
    CHECK_STATUS(MSAE_OK, msae_save(&model, &writer, NULL));
    expect_refused(&file, "is a model without the state of its training");
    free(file.data);
    msae_model_free(&model);
}

/* The checkpoint as another program might write it, without version and checksum: with `value` for
   the note `key`, or without the tensor of that name. */
static bytes rewritten(const msae_safetensors *file, const char *key, const char *value) {
    msae_tensor tensors[32];
    msae_metadata notes[64];
    size_t n_tensors = 0, n_notes = 0;
    bytes copy = {NULL, 0};
    for (size_t i = 0; i < file->n_tensors; i++) {
        if (!value && msae_safetensors_find(file, key) == &file->tensors[i]) continue;
        tensors[n_tensors++] = file->tensors[i];
    }
    for (size_t i = 0; i < file->n_metadata; i++) {
        const msae_metadata *note = &file->metadata[i];
        if (note == msae_safetensors_metadata(file, "msae.checksum") ||
            note == msae_safetensors_metadata(file, "msae.version")) {
            continue;
        }
        notes[n_notes] = *note;
        if (note == msae_safetensors_metadata(file, key) && value) {
            notes[n_notes].value = value;
            notes[n_notes].value_bytes = strlen(value);
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

static void state_that_cannot_be(void) {
    static const struct {
        const char *key, *values[6];
    } wrong[] = {
        {"msae.run_position", {"", "22,4,1", "22,0,1,8", "22,4,1,23", "22,4,1,-1", "22,4,1,8,0"}},
        {"msae.run_rng", {"", "0,0,0,0", "1,2,3", "1,2,3,18446744073709551616"}},
        {"msae.run_window", {"", "1000,0,0,0", "0,0,0,2", "0,0,0"}},
        {"msae.run_flags", {"", "2,0,0", "0,2,0", "0,0,2"}},
        {"msae.run_lr_factor", {"", "-1", "nan"}},
        {"msae.run_rows_skipped", {"", "-1", "x"}},
        {"msae.run_rare", {"", "1,2,3", "1,2,3,-1"}},
        {"msae.run_median_norm", {"", "-1", "nan"}},
        {"msae.run_epoch_rows", {"", "-1"}},
        {"msae.train_batch", {"", "0", "18446744073709551615"}},
        {"msae.train_epochs", {"", "0"}},
        {"msae.train_clip", {"", "0", "-2"}},
        {"msae.train_bandwidth", {"", "0", "-1"}},
        {"msae.train_beta1", {"", "1", "-0.5"}},
        {"msae.train_lr", {"", "-1"}},
        {"msae.train_loss", {"", "9"}},
    };
    bytes file = some_checkpoint();
    msae_safetensors parsed;
    msae_trainer trainer;
    CHECK_STATUS(MSAE_OK, msae_safetensors_open(&parsed, msae_from_memory(file.data, file.size),
                                                NULL, NULL));
    bytes copy = rewritten(&parsed, "nothing", NULL);
    CHECK_STATUS(MSAE_OK,
                 msae_trainer_load(&trainer, msae_from_memory(copy.data, copy.size), NULL, NULL));
    msae_trainer_free(&trainer);
    free(copy.data);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        for (size_t v = 0; v < COUNT(wrong[i].values) && wrong[i].values[v]; v++) {
            test_note("%s \"%s\"", wrong[i].key, wrong[i].values[v]);
            copy = rewritten(&parsed, wrong[i].key, wrong[i].values[v]);
            expect_refused(&copy, NULL);
            free(copy.data);
        }
    }
    for (size_t i = 0; i < parsed.n_tensors; i++) {
        char name[32];
        memcpy(name, parsed.tensors[i].name, parsed.tensors[i].name_bytes);
        name[parsed.tensors[i].name_bytes] = 0;
        test_note("no %s", name);
        copy = rewritten(&parsed, name, NULL);
        expect_refused(&copy, NULL);
        free(copy.data);
    }
    msae_safetensors_close(&parsed);
    free(file.data);
}

/* The only memory that no tensor vouches for. */
static void batches_beyond_all_memory(void) {
    msae_train_desc desc = run_desc(&test_recipes[7]);
    msae_trainer trainer;
    msae_safetensors parsed;
    msae_error error;
    test_heap heap;
    memset(&heap, 0, sizeof heap);
    const msae_load_desc load = {
        {MSAE_SIMD_AUTO, test_heap_allocator(&heap), {NULL, NULL, 0}}, 0, 0};
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    bytes file = checkpoint(&trainer);
    msae_trainer_free(&trainer);
    CHECK_STATUS(MSAE_OK, msae_safetensors_open(&parsed, msae_from_memory(file.data, file.size),
                                                NULL, NULL));
    bytes copy = rewritten(&parsed, "msae.train_batch", "4000000000");
    CHECK(msae_trainer_load(&trainer, msae_from_memory(copy.data, copy.size), &load, &error) !=
          MSAE_OK);
    CHECK(heap.most < 8 * copy.size && heap.bytes == 0 && error.message[0]);
    free(copy.data);
    msae_safetensors_close(&parsed);
    free(file.data);
}

/* Numbers no optimiser leaves behind: the first of every tensor of floats. */
static void moments_that_cannot_be(void) {
    bytes file = some_checkpoint();
    msae_safetensors parsed;
    CHECK_STATUS(MSAE_OK, msae_safetensors_open(&parsed, msae_from_memory(file.data, file.size),
                                                NULL, NULL));
    for (size_t i = 0; i < parsed.n_tensors; i++) {
        const msae_tensor *tensor = &parsed.tensors[i];
        unsigned char *at = file.data + tensor->offset, kept[4];
        if (tensor->dtype != MSAE_F32 && tensor->dtype != MSAE_F64) continue;
        if (tensor->dtype == MSAE_F64) at += 4; /* of the first number, where its exponent is */
        memcpy(kept, at, 4);
        test_note("%.*s", (int)tensor->name_bytes, tensor->name);
        memcpy(at, "\x00\x00\xff\x7f", 4); /* NaN */
        expect_refused(&file, NULL);
        if (strncmp(tensor->name, "moment2.", 8) == 0) {
            memcpy(at, "\x00\x00\x80\xbf", 4); /* -1 */
            expect_refused(&file, "a second moment is negative");
        }
        memcpy(at, kept, 4);
    }
    msae_safetensors_close(&parsed);
    free(file.data);
}

/* ---------------------------------------------------------------------------------------------
   Through callbacks and files
   ------------------------------------------------------------------------------------------ */

/* A store of bytes of which one access fails. */
typedef struct store {
    bytes file;
    size_t accesses, fail_at;
    uint64_t end; /* of the last read */
} store;

static int store_write(void *user, const void *data, size_t size) {
    store *s = (store *)user;
    if (++s->accesses == s->fail_at) return 0;
    s->file.data = (unsigned char *)realloc(s->file.data, s->file.size + size + 1);
    memcpy(s->file.data + s->file.size, data, size);
    s->file.size += size;
    return 1;
}

static int store_read(void *user, uint64_t offset, void *buffer, size_t size) {
    store *s = (store *)user;
    CHECK(size > 0 && offset <= s->file.size && size <= s->file.size - offset);
    CHECK(offset >= s->end || (offset == 0 && s->end == 8)); /* reads ascend */
    s->end = offset + size;
    if (++s->accesses == s->fail_at) return 0;
    memcpy(buffer, s->file.data + offset, size);
    return 1;
}

static void through_callbacks(void) {
    bytes file = some_checkpoint();
    msae_trainer trainer;
    CHECK_STATUS(MSAE_OK,
                 msae_trainer_load(&trainer, msae_from_memory(file.data, file.size), NULL, NULL));
    for (size_t at = 1;; at++) {
        store to = {{NULL, 0}, 0, at, 0};
        msae_writer writer = {store_write, &to, NULL, NULL, 0, 0};
        msae_status status = msae_trainer_save(&trainer, &writer, NULL);
        test_note("write %zu", at);
        const int through = to.accesses < at;
        CHECK_STATUS(through ? MSAE_OK : MSAE_ERROR_IO, status);
        CHECK(!through || (same(&to.file, &file) && writer.bytes == file.size));
        free(to.file.data);
        if (through) break;
    }
    for (size_t at = 1;; at++) {
        store from = {file, 0, at, 0};
        const msae_reader reader = {store_read, &from, file.size, NULL, NULL};
        msae_trainer again;
        msae_error error;
        msae_status status = msae_trainer_load(&again, reader, NULL, &error);
        test_note("read %zu", at);
        if (from.accesses < at) {
            CHECK_STATUS(MSAE_OK, status);
            bytes copy = checkpoint(&again);
            CHECK(same(&copy, &file));
            free(copy.data);
            msae_trainer_free(&again);
            break;
        }
        CHECK_STATUS(MSAE_ERROR_IO, status);
        CHECK(strncmp(error.message, "cannot be read at byte ", 23) == 0);
        CHECK(error.position < file.size && again.memory == NULL);
    }
    msae_trainer_free(&trainer);
    free(file.data);
}

static void through_files(void) {
    const char *folder = test_folder();
    char path[256];
    bytes file = some_checkpoint();
    msae_trainer trainer, again;
    CHECK_STATUS(MSAE_OK,
                 msae_trainer_load(&trainer, msae_from_memory(file.data, file.size), NULL, NULL));
    snprintf(path, sizeof path, "%s/run", folder);
    CHECK_STATUS(MSAE_ERROR_IO, msae_trainer_load(&again, msae_from_file(path), NULL, NULL));
    msae_writer writer = msae_to_file(path);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(&trainer, &writer, NULL));
    CHECK_STATUS(MSAE_OK, msae_trainer_save(&trainer, &writer, NULL));
    CHECK(writer.bytes == file.size);
    if (CHECK_STATUS(MSAE_OK, msae_trainer_load(&again, msae_from_file(path), NULL, NULL))) {
        bytes copy = checkpoint(&again);
        CHECK(same(&copy, &file));
        free(copy.data);
        msae_trainer_free(&again);
    }
    CHECK(remove(path) == 0 && TEST_RMDIR(folder) == 0); /* nothing else is left */
    CHECK_STATUS(MSAE_ERROR_IO, msae_trainer_save(&trainer, &writer, NULL));
    msae_trainer_free(&trainer);
    free(file.data);
}

/* As many levels as there can be and every number as long as it can be: the description has room
   for it, and the file says it all. */
static void the_longest_description(void) {
    enum { MANY = 11000 };
    FOR_EACH_RECIPE(recipe) {
        size_t nesting[MSAE_MAX_LEVELS], levels = MSAE_MAX_LEVELS;
        float weights[MSAE_MAX_LEVELS];
        msae_train_desc desc = test_desc(recipe, 1, MANY);
        msae_trainer trainer;
        msae_model model;
        test_note("%s", recipe->name);
        for (size_t i = 0; i < levels; i++) {
            nesting[i] = MANY - levels + 1 + i;
            weights[i] = 1.17549449e-38f;
        }
        desc.model.nesting = nesting;
        desc.model.n_levels = levels;
        desc.model.level_weights = weights;
        desc.model.n_level_weights = levels;
        desc.batch = 1;
        desc.revivals = 3;
        desc.geometric_median = desc.skip_bad = 1;
        desc.max_norm = 1.17549449f;
        if (msae_trainer_init(&trainer, &desc, NULL) != MSAE_OK) { /* a recipe of one level */
            desc.model.nesting = NULL;
            desc.model.level_weights = NULL;
            desc.model.n_levels = desc.model.n_level_weights = 0;
            if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) continue;
            levels = trainer.model.n_levels;
        }
        msae_history *h = &trainer.model.history;
        h->steps = h->rows = h->seed = UINT64_MAX;
        h->eps = h->weight_decay = h->warmup = h->decay = 1.17549449e-38f;
        h->lr = h->clip = h->sparse_weight = h->bandwidth = 1.17549449e-38f;
        trainer.step = trainer.rows = trainer.rows_skipped = trainer.revived = UINT64_MAX;
        trainer.lr_factor = 1.17549449e-38f;
        trainer.has_statistics = 1;
        memset(&trainer.rare, 0xff, sizeof trainer.rare);
        trainer.rare.median_norm = trainer.rare.norm_limit = 1.17549449e-38f;
        memset(&trainer.position, 0xff, sizeof trainer.position);
        trainer.model.has_level_thresholds = 1;
        bytes file = checkpoint(&trainer);
        if (CHECK_STATUS(MSAE_OK,
                         msae_load(&model, msae_from_memory(file.data, file.size), NULL, NULL))) {
            CHECK(model.n_levels == levels && model.history.seed == UINT64_MAX);
            CHECK(memcmp(model.nesting, trainer.model.nesting, levels * sizeof *nesting) == 0);
            CHECK(test_same(model.level_weights, trainer.model.level_weights, levels));
            msae_model_free(&model);
        }
        free(file.data);
        msae_trainer_free(&trainer);
    }
}

int main(void) {
    RUN(cut_at_every_step);
    RUN(cut_after_each_step);
    RUN(stopped_and_called_again);
    RUN(more_epochs_and_a_new_run);
    RUN(own_loop);
    RUN(counters_and_paths);
    RUN(cut_around_a_window);
    RUN(rates_that_overflow);
    RUN(descriptor_comes_back);
    RUN(also_a_model);
    RUN(cut_and_changed);
    RUN(a_model_is_no_checkpoint);
    RUN(state_that_cannot_be);
    RUN(batches_beyond_all_memory);
    RUN(moments_that_cannot_be);
    RUN(through_callbacks);
    RUN(through_files);
    RUN(the_longest_description);
    return test_finish();
}
