/* Checkpoints. The input describes a tiny run, which goes some steps and is saved; then bytes of
   what was saved are changed. What resumes must train on, or stay the same when it is saved and
   resumed again (one of them for each input, which is faster); where nothing was changed, it must
   end with the bytes of a run that was not cut.
   Input that starts with '{' spells a file out instead.
   Options: -max_len=512 -entropic=0
   Dictionaries: safetensors model checkpoint */
#include "fuzz.h"

enum { MAX_INPUTS = 4, MAX_LATENTS = 9, ROWS = 4, MAX_CHANGES = 8, MAX_BYTES = 1 << 22 };

typedef struct run {
    msae_train_desc desc;
    float x[ROWS * MAX_INPUTS];
    msae_data data;
    size_t cut;  /* steps before the checkpoint */
    int windows; /* of the smallest size, where there is more than one; or all rows are one */
} run;

/* Memory is there up to a limit, as a batch of batchtopk may ask for any amount. */
static void *limited_alloc(size_t bytes, void *user) {
    (void)user;
    return bytes <= MAX_BYTES ? malloc(bytes) : NULL;
}

static void limited_free(void *memory, size_t bytes, void *user) {
    (void)bytes;
    (void)user;
    free(memory);
}

static const msae_allocator limited = {limited_alloc, limited_free, NULL};

static run make_run(fuzz_input *in) {
    run r;
    memset(&r, 0, sizeof r);
    r.desc.model.n_inputs = 1 + fuzz_below(in, MAX_INPUTS);
    r.desc.model.n_latents = 1 + fuzz_below(in, MAX_LATENTS);
    r.desc.model.recipe = (msae_recipe)fuzz_below(in, MSAE_RECIPE_COUNT);
    if (msae__has_k(r.desc.model.recipe)) r.desc.model.k = 1;
    if (msae__has_levels(r.desc.model.recipe) || r.desc.model.recipe == MSAE_RECIPE_DEFAULT) {
        r.desc.model.nesting_start = 1;
    }
    r.windows = (int)fuzz_byte(in);
    r.desc.model.tied = r.windows & 1;
    r.windows = r.windows >> 1 & 1;
    r.desc.model.normalize = fuzz_byte(in) & 1;
    r.desc.model.seed = fuzz_byte(in);
    r.desc.model.host.simd = MSAE_SIMD_SCALAR; /* the smallest workspace to clear */
    r.desc.model.host.allocator = limited;
    r.desc.batch = 1 + fuzz_below(in, ROWS);
    r.desc.epochs = 1;
    r.desc.lr = 0.01f;
    r.desc.loss = (msae_loss)fuzz_below(in, MSAE_LOSS_COUNT);
    r.desc.schedule = (msae_schedule)fuzz_below(in, MSAE_SCHEDULE_COUNT);
    r.desc.skip_bad = 1;
    r.cut = fuzz_below(in, ROWS);
    in->tame = fuzz_byte(in) & 1;
    for (size_t i = 0; i < ROWS * r.desc.model.n_inputs; i++) r.x[i] = fuzz_float(in);
    in->tame = 0;
    return r;
}

static int stop(const msae_progress *progress, void *user) {
    (void)progress;
    return --*(size_t *)user == 0;
}

static void begin(msae_trainer *trainer, const run *r, size_t *steps) {
    const msae_source source = msae_source_data(&r->data);
    msae_stream_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.block_rows = 1;
    desc.window_rows = r->windows ? 1 : ROWS;
    msae_trainer_fit(trainer, &source, &desc, stop, steps, NULL);
}

static fuzz_file save(const msae_trainer *trainer) {
    fuzz_file file;
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK(msae_trainer_save(trainer, &writer, NULL) == MSAE_OK);
    file.size = writer.bytes;
    file.bytes = (unsigned char *)fuzz_take(file.size);
    writer = msae_to_memory(file.bytes, file.size);
    CHECK(msae_trainer_save(trainer, &writer, NULL) == MSAE_OK);
    return file;
}

/* Where a run comes to when it goes on: a status, and all of its state. */
static fuzz_file finish(msae_trainer *trainer, const msae_data *data, msae_status *status) {
    const msae_source source = msae_source_data(data);
    const uint64_t epoch = trainer->position.epoch;
    if (epoch < SIZE_MAX - 1) trainer->desc.epochs = (size_t)epoch + 1; /* there is no end else */
    *status = msae_trainer_fit(trainer, &source, NULL, NULL, NULL, NULL);
    return save(trainer);
}

static int is_same(const fuzz_file *a, const fuzz_file *b) {
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

/* What is saved once more must resume to the same. */
static void check_saved_twice(const msae_trainer *trainer, const msae_load_desc *desc) {
    const fuzz_file saved = save(trainer);
    fuzz_file again;
    msae_trainer other;
    CHECK(msae_trainer_load(&other, msae_from_memory(saved.bytes, saved.size), desc, NULL) ==
          MSAE_OK);
    again = save(&other);
    CHECK(is_same(&again, &saved));
    msae_trainer_free(&other);
}

/* Resumes and either trains on and gives the end, or saves; no end when the file is refused. */
static fuzz_file resume(const fuzz_file *file, const msae_data *data, int trains_on,
                        msae_status *status) {
    msae_reader reader = msae_from_memory(file->bytes, file->size);
    fuzz_file end = {NULL, 0};
    msae_load_desc desc;
    msae_trainer trainer;
    msae_error error;
    memset(&desc, 0, sizeof desc);
    desc.host.allocator = limited;
    *status = msae_trainer_load(&trainer, reader, &desc, &error);
    if (*status != MSAE_OK) {
        CHECK(error.message[0] && trainer.memory == NULL && trainer.workspace == NULL);
        return end;
    }
    if (!trains_on)
        check_saved_twice(&trainer, &desc);
    else if (data->cols == trainer.model.n_inputs)
        end = finish(&trainer, data, status);
    msae_trainer_free(&trainer);
    return end;
}

static void cut_and_resumed(fuzz_input *in) {
    const size_t n_changes = fuzz_below(in, MAX_CHANGES);
    const unsigned flags = fuzz_byte(in);
    const int without_checksum = flags & 1, trains_on = (flags & 2) == 0;
    fuzz_input changes = *in;
    fuzz_file file, want = {NULL, 0}, end;
    msae_trainer trainer;
    msae_status status = MSAE_OK, resumed;
    size_t steps;
    run r;
    for (size_t i = 0; i < 3 * n_changes; i++) fuzz_byte(in);
    r = make_run(in);
    r.data = msae_data_view(r.x, ROWS, r.desc.model.n_inputs);
    if (msae_trainer_init(&trainer, &r.desc, NULL) != MSAE_OK) return;
    steps = r.cut;
    if (steps > 0) begin(&trainer, &r, &steps);
    file = save(&trainer);
    if (n_changes == 0) want = finish(&trainer, &r.data, &status);
    msae_trainer_free(&trainer);
    if (without_checksum) {
        fuzz_rename_key(&file, "msae.checksum");
        fuzz_rename_key(&file, "msae.version");
    }
    for (size_t i = 0; i < n_changes; i++) {
        const size_t at = fuzz_below(&changes, 65536);
        file.bytes[at % file.size] = (unsigned char)fuzz_byte(&changes);
    }
    end = resume(&file, &r.data, trains_on, &resumed);
    if (n_changes == 0 && trains_on) CHECK(resumed == status && is_same(&end, &want));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    if (size > 0 && input[0] == '{') {
        static const float x[ROWS * 2] = {1, 2, 3, 4, 5, -6, 7, -8};
        const msae_data data = msae_data_view(x, ROWS, 2);
        const fuzz_file file = fuzz_file_of(input, size, FUZZ_SAFETENSORS);
        msae_status status;
        resume(&file, &data, size & 1, &status);
    } else {
        fuzz_input in = fuzz_input_of(input, size);
        cut_and_resumed(&in);
    }
    fuzz_release();
    return 0;
}
