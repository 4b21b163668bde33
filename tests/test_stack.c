/* Stack use: every kind of call, on a thread whose stack was painted before, stays within what the
   manual states. */
#include "test.h"

#include <pthread.h>

/* Sanitizers and compilers that do not optimise put more on the stack than the manual speaks of. */
#if defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
#define MEASURES 0
#elif defined(__has_feature)
#define MEASURES                                                              \
    (!__has_feature(address_sanitizer) && !__has_feature(memory_sanitizer) && \
     !__has_feature(thread_sanitizer))
#else
#define MEASURES 1
#endif

enum { D = 70, N = 300, ROWS = 40, PAINT = 0x5a, ROOM = 1 << 20 };

static struct world {
    float *x, *out;
    msae_data data;
    msae_train_desc desc;
    msae_model model;
    msae_trainer trainer;
    void *workspace;
    msae_code codes[ROWS * N];
    size_t counts[ROWS];
    unsigned char *file, *run;
    size_t file_bytes, run_bytes;
} world;

static void encode(void) {
    size_t count;
    CHECK_STATUS(MSAE_OK,
                 msae_encode(&world.model, world.workspace, world.x, 8, world.codes, &count));
    msae_decode(&world.model, world.codes, count, NULL, world.out);
}

static void encode_rows(void) {
    CHECK_STATUS(MSAE_OK, msae_encode_rows(&world.model, world.workspace, world.x, ROWS, 0,
                                           &(msae_rows){world.codes, world.counts, N}, NULL));
    const size_t ks[] = {1, 8, N};
    CHECK_STATUS(MSAE_OK, msae_forward(&world.model, world.workspace, world.x, ROWS, ks, 3,
                                       world.out, NULL));
}

static void train(void) {
    CHECK_STATUS(MSAE_OK, msae_trainer_step(&world.trainer, world.x, ROWS, NULL, NULL));
    CHECK_STATUS(MSAE_OK, test_fit(&world.trainer, &world.data, NULL, NULL, NULL));
    CHECK(world.trainer.revived > 0);
}

static void evaluate(void) {
    msae_eval_desc desc;
    static msae_metrics results[MSAE_MAX_LEVELS];
    msae_name *names = (msae_name *)test_alloc(N * sizeof *names);
    memset(&desc, 0, sizeof desc);
    desc.cknna = 1;
    CHECK_STATUS(MSAE_OK, msae_evaluate(&world.model, &world.data, &desc, COUNT(results), results,
                                        NULL, NULL));
    CHECK_STATUS(MSAE_OK, msae_name_latents(&world.model, &world.data, NULL, names, NULL));
    free(names);
}

static void save_and_load(void) {
    msae_model model;
    msae_writer writer = msae_to_memory(world.file, world.file_bytes);
    CHECK_STATUS(MSAE_OK, msae_save(&world.model, &writer, NULL));
    CHECK_STATUS(MSAE_OK,
                 msae_load(&model, msae_from_memory(world.file, world.file_bytes), NULL, NULL));
    msae_model_free(&model);
}

static void checkpoint_and_resume(void) {
    msae_trainer trainer;
    size_t bytes;
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(&world.trainer, &writer, NULL));
    bytes = writer.bytes;
    CHECK(bytes <= world.run_bytes);
    writer = msae_to_memory(world.run, bytes);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(&world.trainer, &writer, NULL));
    CHECK_STATUS(MSAE_OK,
                 msae_trainer_load(&trainer, msae_from_memory(world.run, bytes), NULL, NULL));
    msae_trainer_free(&trainer);
}

static void *call(void *function) {
    void (*run)(void);
    memcpy(&run, function, sizeof run);
    run();
    return NULL;
}

/* Bytes of stack that run takes, with what a thread needs to start. */
static size_t stack_of(void (*run)(void)) {
    unsigned char *stack = NULL;
    pthread_attr_t attributes;
    pthread_t thread;
    size_t untouched = 0;
    if (!CHECK(posix_memalign((void **)&stack, 65536, ROOM) == 0)) return 0;
    memset(stack, PAINT, ROOM);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, ROOM);
    if (CHECK(pthread_create(&thread, &attributes, call, &run) == 0)) pthread_join(thread, NULL);
    while (untouched < ROOM && stack[untouched] == PAINT) untouched++;
    free(stack);
    return ROOM - untouched;
}

static void nothing(void) {
}

static void within_the_manual(void) {
    static const struct {
        const char *name;
        void (*run)(void);
        size_t most; /* KB */
    } calls[] = {
        {"encode, decode", encode, 12},    {"encode_rows, forward", encode_rows, 12},
        {"trainer_step, fit", train, 20},  {"evaluate, name", evaluate, 20},
        {"save, load", save_and_load, 20}, {"checkpoint, resume", checkpoint_and_resume, 24},
    };
    const size_t start = stack_of(nothing);
    for (size_t i = 0; i < COUNT(calls); i++) {
        const size_t bytes = stack_of(calls[i].run);
        test_note("%s: %zu bytes", calls[i].name, bytes - start);
        CHECK(bytes > start && (!MEASURES || bytes - start <= calls[i].most * 1024));
    }
}

int main(void) {
    world.desc = test_desc(&test_recipes[0], D, N);
    world.desc.batch = ROWS;
    world.desc.epochs = 2;
    world.desc.revivals = 2;
    world.x = test_random_floats(1, ROWS * D, 1);
    world.out = test_floats(3 * ROWS * D);
    world.data = msae_data_view(world.x, ROWS, D);
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&world.trainer, &world.desc, NULL));
    world.trainer.model.latent_bias[3] = -1e6f; /* there is something to revive */
    CHECK_STATUS(MSAE_OK, msae_model_init(&world.model, &world.desc.model, NULL));
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_save(&world.model, &writer, NULL));
    world.file_bytes = writer.bytes;
    CHECK_STATUS(MSAE_OK, msae_trainer_save(&world.trainer, &writer, NULL));
    world.run_bytes = writer.bytes;
    world.workspace = test_alloc(msae_workspace_bytes(&world.model, ROWS));
    world.file = (unsigned char *)test_alloc(world.file_bytes);
    world.run_bytes += 1024; /* the digits of its counters grow */
    world.run = (unsigned char *)test_alloc(world.run_bytes);
    RUN(within_the_manual);
    msae_trainer_free(&world.trainer);
    msae_model_free(&world.model);
    free(world.workspace);
    free(world.file);
    free(world.run);
    free(world.x);
    free(world.out);
    return test_finish();
}
