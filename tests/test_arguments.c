/* What the calls make of arguments that do not fit: rows of another width, rows beyond the data, no
   rows, bad rows far from the first, rooms that are small, and structs that are moved. */
#include "test.h"

#include "audits.h"

enum { D = 12, N = 40, ROWS = 150, WORDS = 9, BAD = 131, CLASSES = 3, TOP = 2 };

static struct world {
    float *x; /* [ROWS][D] */
    msae_train_desc desc;
    msae_trainer trainer;
    msae_model *model; /* the trainer's */
    linear_probe probe;
    uint32_t labels[ROWS];
    uint8_t attribute[ROWS];
    msae_data data, words;
} world;

static void open_world(void) {
    memset(&world, 0, sizeof world);
    world.x = test_random_floats(1, ROWS * D, 1);
    world.data = msae_data_view(world.x, ROWS, D);
    world.words = msae_data_view(world.x, WORDS, D);
    world.desc = test_desc(&test_recipes[0], D, N);
    world.desc.revivals = 2;
    for (size_t r = 0; r < ROWS; r++) {
        world.labels[r] = (uint32_t)(r % CLASSES);
        world.attribute[r] = r % 2;
    }
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&world.trainer, &world.desc, NULL));
    world.model = &world.trainer.model;
    CHECK_STATUS(MSAE_OK, msae_trainer_step(&world.trainer, world.x, 32, NULL, NULL));
    CHECK_STATUS(MSAE_OK,
                 linear_probe_fit(&world.probe, &world.data, world.labels, CLASSES, NULL, NULL));
}

static void close_world(void) {
    linear_probe_free(&world.probe);
    msae_trainer_free(&world.trainer);
    free(world.x);
}

/* ---------------------------------------------------------------------------------------------
   Every call that takes rows with a model or a probe
   ------------------------------------------------------------------------------------------ */

static msae_status calibrate(const msae_data *data, msae_error *error) {
    return msae_calibrate(world.model, data, error);
}

static msae_status evaluate(const msae_data *data, msae_error *error) {
    msae_metrics results[MSAE_MAX_LEVELS];
    return msae_evaluate(world.model, data, NULL, COUNT(results), results, NULL, error);
}

static msae_status top_rows(const msae_data *data, msae_error *error) {
    static msae_hit hits[N * TOP];
    size_t counts[N];
    return test_top_rows(world.model, data, 3, NULL, N, TOP, hits, counts, error);
}

static msae_status name_words_of(const msae_data *data, msae_error *error) {
    static msae_name names[N];
    return msae_name_latents(world.model, data, NULL, names, error);
}

static msae_status name_by_rows_of(const msae_data *data, msae_error *error) {
    static msae_name names[N];
    msae_name_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.data = data;
    return msae_name_latents(world.model, &world.words, &desc, names, error);
}

static msae_status score_by_rows_of(const msae_data *data, msae_error *error) {
    static msae_score scores[N];
    const msae_source source = msae_source_data(data);
    return msae_score_latents(world.model, &source, NULL, scores, NULL, error);
}

static msae_status build_index(const msae_data *data, msae_error *error) {
    msae_index index;
    const msae_status status = msae_index_build(&index, world.model, data, 3, error);
    msae_index_free(&index);
    return status;
}

static msae_status steer(const msae_data *data, msae_error *error) {
    static float out[ROWS * D];
    static msae_change changes[N];
    const msae_edit edit = {1, MSAE_EDIT_ADD, 1, 0};
    msae_steer_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.edits = &edit;
    desc.n_edits = 1;
    return msae_steer(world.model, data, &desc, out, NULL, changes, error);
}

static msae_status correlate(const msae_data *data, msae_error *error) {
    static attribute_correlation results[N];
    return test_correlate(world.model, data, world.attribute, 3, 0, results, error);
}

static msae_status measure_probe(const msae_data *data, msae_error *error) {
    linear_probe_score score;
    return linear_probe_measure(&world.probe, data, world.labels, &score, error);
}

static msae_status agreement(const msae_data *data, msae_error *error) {
    const size_t ks[] = {1, 5};
    linear_probe_agreement results[2];
    return linear_probe_compare(&world.probe, world.model, data, ks, 2, results, error);
}

static msae_status sweep(const msae_data *data, msae_error *error) {
    const float values[] = {0, 1};
    attribute_point points[2];
    return test_sweep(test_audit_by(&world.probe, 0, world.model, data, world.attribute, 3), 1,
                      values, 2, points, error);
}

static msae_status ablate(const msae_data *data, msae_error *error) {
    const uint32_t latent = 1;
    attribute_ablation result;
    return test_ablate(test_audit_by(&world.probe, 0, world.model, data, NULL, 3), &latent, 1,
                       &result, error);
}

static msae_status statistics(const msae_data *data, msae_error *error) {
    return test_statistics(&world.trainer, data, error);
}

static msae_status statistics_of_source(const msae_data *data, msae_error *error) {
    const msae_source source = msae_source_data(data);
    return msae_trainer_statistics(&world.trainer, &source, error);
}

static msae_status gradients(const msae_data *data, msae_error *error) {
    return msae_trainer_gradients(&world.trainer, data, NULL, data->rows, NULL, error);
}

static msae_status train_forward(const msae_data *data, msae_error *error) {
    return msae_trainer_forward(&world.trainer, data, NULL, data->rows, NULL, NULL, NULL, error);
}

static msae_status fit(const msae_data *data, msae_error *error) {
    return test_fit(&world.trainer, data, NULL, NULL, error);
}

static msae_status fit_source(const msae_data *data, msae_error *error) {
    msae_source source = msae_source_data(data);
    source.data = NULL;
    return msae_trainer_fit(&world.trainer, &source, NULL, NULL, NULL, error);
}

static msae_status revive(const msae_data *data, msae_error *error) {
    return msae_trainer_revive(&world.trainer, data, NULL, data->rows, NULL, error);
}

/* Of these only those that read all rows can say which one is bad. */
static const struct call {
    const char *name;
    msae_status (*run)(const msae_data *data, msae_error *error);
    int encodes; /* so that a row that is finite may overflow */
} calls[] = {
    {"calibrate", calibrate, 1},
    {"evaluate", evaluate, 1},
    {"top_rows", top_rows, 1},
    {"name_latents", name_words_of, 0},
    {"name_latents by rows", name_by_rows_of, 1},
    {"score_latents", score_by_rows_of, 1},
    {"index_build", build_index, 1},
    {"steer", steer, 1},
    {"correlate", correlate, 1},
    {"probe_measure", measure_probe, 0},
    {"probe_agreement", agreement, 1},
    {"sweep_latent", sweep, 1},
    {"ablate", ablate, 1},
    {"train_statistics", statistics, 0},
    {"train_statistics_source", statistics_of_source, 0},
    {"train_gradients", gradients, 0},
    {"train_forward", train_forward, 0},
    {"fit", fit, 0},
    {"fit_source", fit_source, 0},
};

/* Rows of another width are refused with both widths, and none of them is read. */
static void widths(void) {
    static const size_t cols[] = {1, D - 1, D + 1, 100};
    open_world();
    for (size_t c = 0; c < COUNT(cols); c++) {
        char has[32], takes[32];
        float *x = test_random_floats(2, ROWS * cols[c], 1);
        const msae_data data = msae_data_view(x, ROWS, cols[c]);
        snprintf(has, sizeof has, "has %u columns", (unsigned)cols[c]);
        snprintf(takes, sizeof takes, "takes %u", (unsigned)D);
        for (size_t i = 0; i <= COUNT(calls); i++) {
            msae_error error;
            test_note("%s, %u columns", i < COUNT(calls) ? calls[i].name : "revive",
                      (unsigned)cols[c]);
            if (!CHECK_STATUS(MSAE_ERROR_SHAPE,
                              (i < COUNT(calls) ? calls[i].run : revive)(&data, &error))) {
                continue;
            }
            CHECK(error.code == MSAE_ERROR_SHAPE && error.position == MSAE_NO_POSITION);
            CHECK(strstr(error.message, has) && strstr(error.message, takes));
        }
        free(x);
    }
    close_world();
}

/* The row that is not finite has its number, in whatever tile it is. */
static void positions_of_bad_rows(void) {
    open_world();
    for (size_t i = 0; i < COUNT(calls); i++) {
        static const size_t rows[] = {3, 64, BAD};
        for (size_t r = 0; r < COUNT(rows); r++) {
            float *at = world.x + rows[r] * D + 5, kept = *at;
            msae_error error;
            char row[32];
            test_note("%s, row %u", calls[i].name, (unsigned)rows[r]);
            snprintf(row, sizeof row, "row %u ", (unsigned)rows[r]);
            memset(&error, 0, sizeof error);
            *at = msae__bits_float(0x7fc00000u);
            CHECK_STATUS(MSAE_ERROR_NOT_FINITE, calls[i].run(&world.data, &error));
            CHECK(error.position == rows[r] && strncmp(error.message, row, strlen(row)) == 0);
            *at = kept;
        }
    }
    close_world();
}

/* So has one whose numbers are finite and give an infinite one in the model. */
static void positions_of_overflows(void) {
    open_world();
    for (size_t i = 0; i < COUNT(calls); i++) {
        static const size_t rows[] = {3, 64, BAD};
        for (size_t r = 0; r < COUNT(rows) && calls[i].encodes; r++) {
            float kept[D], *at = world.x + rows[r] * D;
            msae_error error;
            test_note("%s, row %u", calls[i].name, (unsigned)rows[r]);
            memset(&error, 0, sizeof error);
            memcpy(kept, at, sizeof kept);
            for (size_t c = 0; c < D; c++) at[c] = 3e38f;
            for (size_t j = 0; j < D; j++) world.model->encoder[j] = 2;
            CHECK_STATUS(MSAE_ERROR_NOT_FINITE, calls[i].run(&world.data, &error));
            CHECK(error.position == rows[r]);
            CHECK(strstr(error.message, "gives a NaN or Inf in the model"));
            memcpy(at, kept, sizeof kept);
        }
    }
    close_world();
}

/* Without rows there is nothing to say, and nothing is made up. */
static void no_rows(void) {
    const msae_data none = msae_data_view(NULL, 0, D), narrow = msae_data_view(NULL, ROWS, 0);
    open_world();
    for (size_t i = 0; i < COUNT(calls); i++) {
        msae_error error;
        test_note("%s", calls[i].name);
        memset(&error, 0, sizeof error);
        CHECK(calls[i].run(&none, &error) != MSAE_OK && error.message[0] != 0);
        memset(&error, 0, sizeof error);
        CHECK_STATUS(MSAE_ERROR_SHAPE, calls[i].run(&narrow, &error));
        CHECK(strstr(error.message, "has 0 columns") != NULL);
        CHECK(calls[i].run(&none, NULL) != MSAE_OK && calls[i].run(&narrow, NULL) != MSAE_OK);
    }
    float mean[D], scale;
    linear_probe probe;
    msae_hit hit;
    size_t count = 1;
    CHECK(test_data_statistics(&none, MSAE_SCALING_RMS, 0, NULL, mean, &scale, NULL) != MSAE_OK);
    CHECK(test_data_statistics(&narrow, MSAE_SCALING_RMS, 0, NULL, mean, &scale, NULL) != MSAE_OK);
    CHECK(test_geometric_median(&none, NULL, 1, 0, NULL, mean, NULL) != MSAE_OK);
    CHECK(test_geometric_median(&narrow, NULL, 1, 0, NULL, mean, NULL) != MSAE_OK);
    CHECK(linear_probe_fit(&probe, &none, world.labels, CLASSES, NULL, NULL) != MSAE_OK);
    CHECK(linear_probe_fit(&probe, &narrow, world.labels, CLASSES, NULL, NULL) != MSAE_OK);
    CHECK(msae_nearest_rows(world.model, &none, world.x, 1, 1, &hit, &count, NULL) != MSAE_OK);
    CHECK(msae_nearest_rows(world.model, &narrow, world.x, 1, 1, &hit, &count, NULL) != MSAE_OK);
    CHECK_STATUS(MSAE_OK, msae_data_check(&none, NULL));
    CHECK_STATUS(MSAE_OK, msae_data_read(&none, 0, 0, mean));
    close_world();
}

/* ---------------------------------------------------------------------------------------------
   Rows beyond the data
   ------------------------------------------------------------------------------------------ */

/* Reads within the set give its rows, all others nothing. */
static void check_reads(const msae_source *source, const float *x, size_t rows) {
    static const size_t firsts[] = {0, 1, ROWS / 2, ROWS - 1, ROWS, ROWS + 1, SIZE_MAX};
    static const size_t counts[] = {0, 1, ROWS / 2, ROWS, ROWS + 1, SIZE_MAX};
    float *out = test_floats(ROWS * D);
    for (size_t f = 0; f < COUNT(firsts); f++) {
        for (size_t c = 0; c < COUNT(counts); c++) {
            const size_t first = firsts[f], count = counts[c];
            const int within = first <= rows && count <= rows - first;
            msae_error error;
            for (size_t i = 0; i < ROWS * D; i++) out[i] = 7;
            test_note("rows %zu, first %zu, count %zu", rows, first, count);
            const msae_status status = source->read(source->user, first, count, out, &error);
            if (within) {
                CHECK(status == MSAE_OK && test_same(out, x + first * D, count * D));
            } else if (CHECK_STATUS(MSAE_ERROR_ARGUMENT, status)) {
                CHECK(out[0] == 7 && error.position >= rows);
                CHECK(strstr(error.message, "has no row") != NULL);
            }
        }
    }
    free(out);
}

static void rows_beyond_the_data(void) {
    float out[3 * D];
    size_t index[3] = {0, ROWS - 1, 5};
    msae_error error;
    open_world();
    const msae_source source = msae_source_data(&world.data);
    check_reads(&source, world.x, ROWS);
    for (size_t i = 0; i < 3 * D; i++) out[i] = 7;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_data_read(&world.data, ROWS - 1, 2, out));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_data_read(&world.data, SIZE_MAX, 2, out));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_data_read(&world.data, 2, SIZE_MAX, out));
    CHECK(out[0] == 7);
    for (size_t r = 0; r < 3; r++) {
        CHECK_STATUS(MSAE_OK, msae_data_read(&world.data, index[r], 1, out + r * D));
    }
    CHECK(test_same(out + D, world.x + (ROWS - 1) * D, D));
    index[2] = ROWS;
    out[0] = 7;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_data_read(&world.data, index[2], 1, out));
    CHECK(out[0] == 7);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_trainer_gradients(&world.trainer, &world.data, index, 3, NULL, &error));
    CHECK(error.position == ROWS && strstr(error.message, "has no row 150"));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_trainer_forward(&world.trainer, &world.data, index, 3,
                                                           NULL, NULL, NULL, &error));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_trainer_revive(&world.trainer, &world.data, index, 3, NULL, &error));
    CHECK(msae_trainer_revive(&world.trainer, &world.data, NULL, ROWS + 1, NULL, &error) !=
          MSAE_OK);
    CHECK(msae_trainer_gradients(&world.trainer, &world.data, NULL, ROWS + 1, NULL, NULL) !=
          MSAE_OK);
    close_world();
}

#ifndef MSAE_NO_STDIO
static void rows_beyond_files(void) {
    static const char *const names[] = {"/part-0.npy", "/part-1.npy"};
    const char *folder = test_folder();
    char paths[2][128];
    const char *list[2];
    msae_files files;
    float *x = test_random_floats(1, ROWS * D, 1);
    for (size_t i = 0; i < 2; i++) {
        snprintf(paths[i], sizeof paths[i], "%s%s", folder, names[i]);
        list[i] = paths[i];
        msae_writer writer = msae_to_file(paths[i]);
        CHECK_STATUS(MSAE_OK,
                     msae_npy_write(&writer, x + i * (ROWS - 30) * D, i ? 30 : ROWS - 30, D, NULL));
    }
    if (CHECK_STATUS(MSAE_OK, msae_files_open(&files, list, 2, NULL, NULL, NULL))) {
        check_reads(&files.source, x, ROWS);
        CHECK(msae_files_find(&files, ROWS - 1) == &files.shards[1]);
        CHECK(!msae_files_find(&files, ROWS) && !msae_files_find(&files, UINT64_MAX));
        msae_files_close(&files);
    }
    for (size_t i = 0; i < 2; i++) remove(paths[i]);
    TEST_RMDIR(folder);
    free(x);
}
#endif

/* ---------------------------------------------------------------------------------------------
   Rooms
   ------------------------------------------------------------------------------------------ */

/* As many latents as the caller says, and no more than there are; without a list 0 is all. */
static void room_for_top_rows(void) {
    const uint32_t latent = 0;
    static msae_hit hits[N * TOP];
    size_t counts[N];
    open_world();
    for (size_t i = 0; i < N; i++) counts[i] = 77;
    CHECK_STATUS(MSAE_OK,
                 test_top_rows(world.model, &world.data, 3, NULL, 5, TOP, hits, counts, NULL));
    CHECK(counts[4] != 77 && counts[5] == 77);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_top_rows(world.model, &world.data, 3, &latent, 0, TOP, hits, counts, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 test_top_rows(world.model, &world.data, 3, NULL, N + 1, TOP, hits, counts, NULL));
    CHECK(counts[5] == 77);
    CHECK_STATUS(MSAE_OK,
                 test_top_rows(world.model, &world.data, 3, NULL, 0, TOP, hits, counts, NULL));
    for (size_t i = 0; i < N; i++) CHECK(counts[i] != 77);
    close_world();
}

/* ---------------------------------------------------------------------------------------------
   Structs that are moved, and descriptors that are gone
   ------------------------------------------------------------------------------------------ */

/* `from` to `to`; what is left behind is of no more use. */
static void move(void *to, void *from, size_t bytes) {
    memcpy(to, from, bytes);
    memset(from, 0xa5, bytes);
}

/* A trainer by value, of a descriptor and lists that end with this call. */
static msae_trainer make_trainer(size_t epochs) {
    size_t nesting[3] = {4, 16, N};
    float weights[3] = {3, 2, 1};
    msae_train_desc desc = test_desc(&test_recipes[0], D, N);
    msae_trainer trainer;
    desc.model.nesting = nesting;
    desc.model.n_levels = 3;
    desc.model.level_weights = weights;
    desc.model.n_level_weights = 3;
    desc.epochs = epochs;
    desc.batch = 32;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    memset(nesting, 0xa5, sizeof nesting);
    memset(weights, 0xa5, sizeof weights);
    memset(&desc, 0xa5, sizeof desc);
    return trainer;
}

static unsigned char *checkpoint_of(const msae_trainer *trainer, size_t *bytes) {
    unsigned char *file;
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(trainer, &writer, NULL));
    *bytes = writer.bytes;
    file = (unsigned char *)test_alloc(*bytes);
    writer = msae_to_memory(file, *bytes);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(trainer, &writer, NULL));
    return file;
}

/* A trainer that moves before each of its epochs ends where one that stays does; its descriptor is
   still one that a trainer can be made of. */
static void trainers_move(void) {
    enum { EPOCHS = 3 };
    float *x = test_random_floats(1, ROWS * D, 1);
    const msae_data data = msae_data_view(x, ROWS, D);
    msae_trainer stays = make_trainer(EPOCHS), *moves = NULL, again;
    size_t bytes, moved_bytes;
    msae_train_desc resolved;
    for (size_t epoch = 0; epoch <= EPOCHS; epoch++) {
        msae_trainer *place = (msae_trainer *)test_alloc(sizeof *place);
        if (moves) {
            move(place, moves, sizeof *place);
            free(moves);
        } else {
            *place = make_trainer(EPOCHS);
        }
        moves = place;
        if (epoch == 0) continue;
        moves->desc.epochs = stays.desc.epochs = epoch;
        CHECK_STATUS(MSAE_OK, test_fit(&stays, &data, NULL, NULL, NULL));
        CHECK_STATUS(MSAE_OK, test_fit(moves, &data, NULL, NULL, NULL));
    }
    CHECK_STATUS(MSAE_OK, msae_train_desc_resolve(&moves->desc, &resolved, NULL));
    CHECK(resolved.model.n_levels == 3 && moves->desc.model.nesting[1] == 16);
    CHECK(moves->desc.model.level_weights[0] == 3);
    if (CHECK_STATUS(MSAE_OK, msae_trainer_init(&again, &moves->desc, NULL))) {
        CHECK(again.model.nesting[0] == 4 && again.model.level_weights[2] == 1);
        msae_trainer_free(&again);
    }
    unsigned char *file = checkpoint_of(&stays, &bytes);
    unsigned char *moved = checkpoint_of(moves, &moved_bytes);
    CHECK(moves->step == stays.step && moved_bytes == bytes);
    CHECK(test_same(moves->model.encoder, stays.model.encoder, N * D));
    if (CHECK_STATUS(MSAE_OK,
                     msae_trainer_load(&again, msae_from_memory(moved, moved_bytes), NULL, NULL))) {
        CHECK(again.desc.model.nesting[1] == 16 && again.desc.model.level_weights[1] == 2);
        msae_trainer_free(&again);
    }
    free(file);
    free(moved);
    msae_trainer_free(&stays);
    msae_trainer_free(moves);
    free(moves);
    free(x);
}

/* So do all the others. */
static void others_move(void) {
    msae_code codes[N], want[N];
    size_t count;
    open_world();
    void *workspace = test_alloc(msae_workspace_bytes(world.model, 1));
    const size_t kept = test_encode_own(world.model, workspace, world.x, want);

    size_t bytes;
    msae_model model, model_there;
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_save(world.model, &writer, NULL));
    bytes = writer.bytes;
    void *file = test_alloc(bytes);
    writer = msae_to_memory(file, bytes);
    CHECK_STATUS(MSAE_OK, msae_save(world.model, &writer, NULL));
    CHECK_STATUS(MSAE_OK, msae_load(&model, msae_from_memory(file, bytes), NULL, NULL));
    move(&model_there, &model, sizeof model);
    CHECK_STATUS(MSAE_OK, msae_encode(&model_there, workspace, world.x, N, codes, &count));
    CHECK(count == kept && memcmp(codes, want, count * sizeof *codes) == 0);

    msae_index index, index_there;
    msae_hit hit;
    CHECK_STATUS(MSAE_OK, msae_index_build(&index, &model_there, &world.data, 3, NULL));
    move(&index_there, &index, sizeof index);
    void *query = test_alloc(msae_index_workspace_bytes(&index_there, 1));
    CHECK_STATUS(MSAE_OK, msae_index_query(&index_there, query, codes, 3, 1, &hit, &count, NULL));
    CHECK(count == 1 && hit.row == 0);

    msae_safetensors opened, opened_there;
    CHECK_STATUS(MSAE_OK,
                 msae_safetensors_open(&opened, msae_from_memory(file, bytes), NULL, NULL));
    move(&opened_there, &opened, sizeof opened);
    CHECK(msae_safetensors_find(&opened_there, "encoder") != NULL);

    linear_probe probe_there;
    float before[CLASSES], after[CLASSES];
    test_predict(&world.probe, world.x, 1, before);
    move(&probe_there, &world.probe, sizeof probe_there);
    test_predict(&probe_there, world.x, 1, after);
    CHECK(test_same(after, before, CLASSES));
    move(&world.probe, &probe_there, sizeof probe_there);

    msae_stream held, held_there;
    const size_t *rows;
    CHECK_STATUS(MSAE_OK, test_stream(&held, &world.data, 16, 1, NULL));
    move(&held_there, &held, sizeof held);
    CHECK(test_next(&held_there, &rows) == 16 && rows[15] < ROWS);

    msae_source source = msae_source_data(&world.data), source_there;
    msae_stream_desc desc;
    msae_stream stream, stream_there;
    msae_batch batch;
    memset(&desc, 0, sizeof desc);
    desc.batch = 16;
    source.data = NULL;
    move(&source_there, &source, sizeof source);
    CHECK_STATUS(MSAE_OK, msae_stream_init(&stream, &source_there, &desc, NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_stream_next(&stream, &batch, NULL));
    move(&stream_there, &stream, sizeof stream);
    CHECK_STATUS(MSAE_OK, msae_stream_next(&stream_there, &batch, NULL));
    CHECK(batch.rows == 16);
    for (size_t r = 0; r < batch.rows; r++) {
        const uint64_t row = msae_stream_row(&stream_there, batch.index[r]);
        float x[D];
        CHECK_STATUS(MSAE_OK, msae_data_read(batch.data, batch.index[r], 1, x));
        CHECK(row < ROWS && test_same(x, world.x + row * D, D));
    }

    msae_stream_free(&stream_there);
    msae_stream_free(&held_there);
    msae_safetensors_close(&opened_there);
    msae_index_free(&index_there);
    msae_model_free(&model_there);
    free(query);
    free(file);
    free(workspace);
    close_world();
}

int main(void) {
    RUN(widths);
    RUN(positions_of_bad_rows);
    RUN(positions_of_overflows);
    RUN(no_rows);
    RUN(rows_beyond_the_data);
#ifndef MSAE_NO_STDIO
    RUN(rows_beyond_files);
#endif
    RUN(room_for_top_rows);
    RUN(trainers_move);
    RUN(others_move);
    return test_finish();
}
