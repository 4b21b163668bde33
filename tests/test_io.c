/* A system that fails: every allocation, read, write, seek, flush, close and rename of every
   operation, each in its turn, alone and with all that follow, and short instead of failing. Each
   time there is a status, nothing is held, no half-written file is left, and the file that was
   there before is there still (or the new one, whole).

   The library's calls are led here by macros around the header. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum fault { FAIL, FAIL_ON, SHORT, FAULTS } fault;

static struct {
    size_t calls, at; /* calls so far; the one that fails, from 1 (0: none) */
    fault fault;
    size_t blocks, streams; /* held now */
    size_t syncs;           /* of files and folders */
} sys;

/* 1 when this call is to fail. */
static int fails(void) {
    sys.calls++;
    return sys.at != 0 && (sys.fault == FAIL_ON ? sys.calls >= sys.at : sys.calls == sys.at);
}

static void *sys_malloc(size_t bytes) {
    void *memory = fails() ? NULL : malloc(bytes);
    sys.blocks += memory != NULL;
    return memory;
}

static void sys_free(void *memory) {
    sys.blocks -= memory != NULL;
    free(memory);
}

static FILE *sys_fopen(const char *path, const char *mode) {
    FILE *file = fails() ? NULL : fopen(path, mode);
    sys.streams += file != NULL;
    return file;
}

/* A close that fails closes all the same. */
static int sys_fclose(FILE *file) {
    const int failed = fails();
    sys.streams--;
    return fclose(file) != 0 || failed ? EOF : 0;
}

static size_t sys_fread(void *buffer, size_t size, size_t count, FILE *file) {
    if (fails()) return sys.fault == SHORT ? fread(buffer, size, count / 2, file) : 0;
    return fread(buffer, size, count, file);
}

static size_t sys_fwrite(const void *buffer, size_t size, size_t count, FILE *file) {
    if (fails()) return sys.fault == SHORT ? fwrite(buffer, size, count / 2, file) : 0;
    return fwrite(buffer, size, count, file);
}

static int sys_fseek(FILE *file, long offset, int from) {
    return fails() ? -1 : fseek(file, offset, from);
}

static long sys_ftell(FILE *file) {
    return fails() ? -1 : ftell(file);
}

static int sys_fflush(FILE *file) {
    return fails() ? EOF : fflush(file);
}

/* (What is really on the disk is nothing that a test could see, and waiting takes minutes.) */
static int sys_fsync(int descriptor) {
    sys.syncs++;
    return fails() || descriptor < 0 ? -1 : 0;
}

static int sys_open(const char *path, int flags) {
    return fails() ? -1 : open(path, flags);
}

static int sys_rename(const char *from, const char *to) {
    return fails() ? -1 : rename(from, to);
}

#define MSAE_MALLOC(bytes) sys_malloc(bytes)
#define MSAE_FREE(memory) sys_free(memory)
#define fopen(path, mode) sys_fopen(path, mode)
#define fclose(file) sys_fclose(file)
#define fread(buffer, size, count, file) sys_fread(buffer, size, count, file)
#define fwrite(buffer, size, count, file) sys_fwrite(buffer, size, count, file)
#define fseek(file, offset, from) sys_fseek(file, offset, from)
#define ftell(file) sys_ftell(file)
#define fflush(file) sys_fflush(file)
#define fsync(descriptor) sys_fsync(descriptor)
#define open(path, flags) sys_open(path, flags)
#define rename(from, to) sys_rename(from, to)

#include "test.h"

enum { D = 5, N = 12, ROWS = 14 };

static char folder[] = "/tmp/msae-test-XXXXXX";
static char model_path[64], run_path[64], data_path[64], bare_path[64], out_path[64];

static struct world {
    float x[ROWS * D];
    msae_data data;
    msae_train_desc desc;
    msae_model model;
    msae_trainer trainer;
} world;

/* ---------------------------------------------------------------------------------------------
   Operations. Those that write, write to out_path.
   ------------------------------------------------------------------------------------------ */

typedef msae_status operation(void);

static msae_status create(void) {
    msae_model model;
    msae_status status = msae_model_init(&model, &world.desc.model, NULL);
    msae_model_free(&model);
    return status;
}

static int save_on_the_way(const msae_progress *progress, void *user) {
    msae_status *status = (msae_status *)user;
    (void)progress;
    msae_writer writer = msae_to_file(out_path);
    *status = msae_trainer_save(&world.trainer, &writer, NULL);
    return *status != MSAE_OK;
}

/* A run with a checkpoint at every step, and the model at the end. */
static msae_status train(void) {
    msae_trainer *trainer = &world.trainer;
    msae_status inner = MSAE_OK, status = msae_trainer_init(trainer, &world.desc, NULL);
    if (status == MSAE_OK) status = test_fit(trainer, &world.data, save_on_the_way, &inner, NULL);
    if (inner != MSAE_OK) status = status == MSAE_ERROR_STOPPED ? inner : MSAE_OK;
    if (status == MSAE_OK) status = msae_save_file(&trainer->model, out_path, NULL);
    msae_trainer_free(trainer);
    return status;
}

static msae_status save(void) {
    return msae_save_file(&world.model, out_path, NULL);
}

static msae_status save_npy(void) {
    msae_writer writer = msae_to_file(out_path);
    return msae_npy_write(&writer, world.x, ROWS, D, NULL);
}

static msae_status save_tensors(void) {
    const msae_tensor tensor = {"x", 1, MSAE_F32, 2, {ROWS, D}, world.x, sizeof world.x, 0};
    msae_writer writer = msae_to_file(out_path);
    return msae_safetensors_write(&writer, &tensor, 1, NULL, 0, NULL);
}

static msae_status resume_and_checkpoint(void) {
    msae_trainer trainer;
    msae_status status = msae_trainer_load(&trainer, msae_from_file(run_path), NULL, NULL);
    if (status == MSAE_OK) status = test_fit(&trainer, &world.data, NULL, NULL, NULL);
    msae_writer writer = msae_to_file(out_path);
    if (status == MSAE_OK) status = msae_trainer_save(&trainer, &writer, NULL);
    CHECK(status == MSAE_OK || trainer.memory != NULL || trainer.workspace == NULL);
    msae_trainer_free(&trainer);
    return status;
}

static msae_status load_and_encode(void) {
    msae_model model;
    msae_code codes[ROWS * 3];
    size_t counts[ROWS];
    msae_status status = msae_load_file(&model, model_path, NULL, NULL);
    if (status != MSAE_OK) return status;
    void *workspace = test_alloc(msae_workspace_bytes(&model, ROWS));
    status =
        msae_encode_rows(&model, workspace, world.x, ROWS, 3, &(msae_rows){codes, counts, 3}, NULL);
    free(workspace);
    msae_model_free(&model);
    return status;
}

static msae_status load_data_and_evaluate(void) {
    msae_metrics results[MSAE_MAX_LEVELS];
    msae_data data;
    msae_status status = msae_data_load(&data, msae_from_file(data_path), NULL, NULL, NULL);
    if (status == MSAE_OK)
        status = msae_evaluate(&world.model, &data, NULL, COUNT(results), results, NULL, NULL);
    msae_data_free(&data);
    return status;
}

/* Floats without a header, told by the file's name. */
static msae_status load_bare_data(void) {
    msae_data data;
    msae_status status = msae_data_load(&data, msae_from_file(bare_path), NULL, NULL, NULL);
    CHECK(status != MSAE_OK || (data.rows == ROWS && data.cols == D));
    msae_data_free(&data);
    return status;
}

/* A set of two files that is read in windows, so that it goes from one to the other and back. */
static msae_status train_over_files(void) {
    const char *const paths[] = {data_path, bare_path};
    msae_stream_desc stream;
    msae_trainer trainer;
    msae_files files;
    msae_status status;
    memset(&stream, 0, sizeof stream);
    memset(&trainer, 0, sizeof trainer);
    stream.block_rows = 7;
    stream.window_rows = 14;
    status = msae_files_open(&files, paths, 2, NULL, NULL, NULL);
    if (status == MSAE_OK) status = msae_trainer_init(&trainer, &world.desc, NULL);
    if (status == MSAE_OK) {
        status = msae_trainer_fit(&trainer, &files.source, &stream, NULL, NULL, NULL);
        CHECK(status != MSAE_OK || trainer.step == 2 * ROWS / 7);
    }
    msae_trainer_free(&trainer);
    msae_files_close(&files);
    return status;
}

static msae_status name(void) {
    msae_name names[N];
    double overlap;
    msae_status status = msae_decoder_overlap(&world.model, 0, &overlap, NULL);
    if (status != MSAE_OK) return status;
    return msae_name_latents(&world.model, &world.data, NULL, names, NULL);
}

/* ---------------------------------------------------------------------------------------------
   The sweep
   ------------------------------------------------------------------------------------------ */

typedef struct bytes {
    unsigned char data[16384];
    size_t size;
} bytes;

/* What is at out_path; nothing has size 0. Not through the library, and not counted. */
static void read_out(bytes *file) {
    const int descriptor = (open)(out_path, O_RDONLY);
    file->size = 0;
    if (descriptor < 0) return;
    const ssize_t got = read(descriptor, file->data, sizeof file->data);
    CHECK(got > 0 && (size_t)got < sizeof file->data);
    file->size = got > 0 ? (size_t)got : 0;
    close(descriptor);
}

static int same(const bytes *a, const bytes *b) {
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

static size_t files_in_folder(void) {
    size_t count = 0;
    DIR *directory = opendir(folder);
    while (directory && readdir(directory)) count++;
    if (directory) closedir(directory);
    return count - 2;
}

/* Every call of `run` fails in its turn; at least `needed` of them are expected. `writes`: to
   out_path, where an older file is. `whole`: each file that it can leave there is in the list of
   those that it leaves when nothing fails. */
static void sweep(operation *run, size_t needed, int writes) {
    static bytes old, fresh, found;
    memset(&sys, 0, sizeof sys);
    unlink(out_path);
    CHECK_STATUS(MSAE_OK, run());
    read_out(&fresh);
    CHECK(writes == (fresh.size > 0));
    CHECK(sys.syncs == (run == train ? 2 * 3 : 2 * (size_t)writes)); /* each file, and its folder */
    for (int kind = 0; kind < FAULTS; kind++) {
        for (size_t at = 1;; at++) {
            unlink(out_path);
            memset(&sys, 0, sizeof sys);
            msae_writer writer = msae_to_file(out_path);
            if (writes) CHECK_STATUS(MSAE_OK, msae_npy_write(&writer, world.x, 1, D, NULL));
            read_out(&old);
            const size_t files = files_in_folder();
            memset(&sys, 0, sizeof sys);
            sys.at = at;
            sys.fault = (fault)kind;
            test_note("call %zu, fault %d", at, kind);
            const msae_status status = run();
            const int met = sys.calls >= at;
            sys.at = 0;
            read_out(&found);
            CHECK(sys.blocks == 0 && sys.streams == 0);
            CHECK(files_in_folder() == files);
            if (status == MSAE_OK) {
                CHECK(same(&found, &fresh));
            } else {
                CHECK(met && (status == MSAE_ERROR_MEMORY || status == MSAE_ERROR_IO));
                /* a run leaves its last checkpoint, which any reader takes */
                if (!same(&found, &old)) {
                    msae_model model;
                    CHECK(run == train);
                    CHECK_STATUS(
                        MSAE_OK,
                        msae_load(&model, msae_from_memory(found.data, found.size), NULL, NULL));
                    msae_model_free(&model);
                }
            }
            if (!met) {
                CHECK_STATUS(MSAE_OK, status);
                CHECK(at > needed);
                break;
            }
        }
    }
}

static void make_world(void) {
    uint64_t seed = 1;
    world.desc = test_desc(&test_recipes[9], D, N); /* jumprelu, which has every tensor */
    world.desc.batch = 7;
    world.desc.epochs = 1;
    test_fill(&seed, world.x, ROWS * D, 1);
    world.data = msae_data_view(world.x, ROWS, D);
    msae_trainer trainer;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &world.desc, NULL));
    msae_writer writer = msae_to_file(run_path);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(&trainer, &writer, NULL));
    msae_trainer_free(&trainer);
    CHECK_STATUS(MSAE_OK, msae_model_init(&world.model, &world.desc.model, NULL));
    CHECK_STATUS(MSAE_OK, msae_save_file(&world.model, model_path, NULL));
    writer = msae_to_file(data_path);
    CHECK_STATUS(MSAE_OK, msae_npy_write(&writer, world.x, ROWS, D, NULL));
    const int bare = (open)(bare_path, O_WRONLY | O_CREAT, 0600);
    CHECK(write(bare, world.x, sizeof world.x) == (ssize_t)sizeof world.x && close(bare) == 0);
}

#define SWEEP(operation, needed, writes) \
    (test_begin(#operation), sweep(operation, needed, writes), test_end())

int main(void) {
    if (!mkdtemp(folder)) {
        printf("no folder for files\n");
        return 1;
    }
    snprintf(model_path, sizeof model_path, "%s/model", folder);
    snprintf(run_path, sizeof run_path, "%s/run", folder);
    snprintf(data_path, sizeof data_path, "%s/data", folder);
    snprintf(bare_path, sizeof bare_path, "%s/x_%d_%d.npy", folder, ROWS, D);
    snprintf(out_path, sizeof out_path, "%s/out", folder);
    RUN(make_world);
    SWEEP(create, 1, 0);
    SWEEP(train, 100, 1);
    SWEEP(save, 20, 1);
    SWEEP(save_npy, 8, 1);
    SWEEP(save_tensors, 8, 1);
    SWEEP(resume_and_checkpoint, 50, 1);
    SWEEP(load_and_encode, 10, 0);
    SWEEP(load_data_and_evaluate, 6, 0);
    SWEEP(load_bare_data, 5, 0);
    SWEEP(train_over_files, 40, 0);
    SWEEP(name, 2, 0);
    memset(&sys, 0, sizeof sys);
    msae_model_free(&world.model);
    unlink(model_path);
    unlink(run_path);
    unlink(data_path);
    unlink(bare_path);
    unlink(out_path);
    CHECK(rmdir(folder) == 0);
    return test_finish();
}
