/* A model inside a program without files: its bytes in memory, all memory from the program's own
   block, and no allocation once the model is there - as in a game or on a phone. MSAE_NO_STDIO
   keeps the library free of files; printing is this program's own affair. */
#define MSAE_IMPLEMENTATION
#define MSAE_NO_STDIO
#include "../msae.h"

#include <stdio.h>
#include <string.h>

enum { INPUTS = 16, LATENTS = 64, ROWS = 256, STEPS = 300, KEEP = 4 };

/* An allocator over one block, as a game engine has it: memory is handed out in order, and all
   of it given back at once by setting `used` to zero. */
typedef struct arena {
    unsigned char *block;
    size_t used, size, calls;
} arena;

static void *arena_alloc(size_t bytes, void *user) {
    arena *a = user;
    const size_t rounded = (bytes + 63) / 64 * 64;
    a->calls++;
    if (rounded < bytes || rounded > a->size - a->used) return NULL;
    a->used += rounded;
    return a->block + a->used - rounded;
}

static void arena_free(void *memory, size_t bytes, void *user) {
    (void)memory;
    (void)bytes;
    (void)user;
}

/* Rows that are sums of three out of 32 fixed directions: something with concepts to find. */
static void make_rows(float rows[ROWS][INPUTS], unsigned *seed) {
    memset(rows, 0, ROWS * sizeof rows[0]);
    for (size_t r = 0; r < ROWS; r++) {
        for (int part = 0; part < 3; part++) {
            *seed = *seed * 1664525u + 1013904223u;
            const unsigned direction = *seed >> 27;
            for (unsigned i = 0; i < INPUTS; i++) {
                rows[r][i] +=
                    (direction * 37 + i * i * 11 + direction * i * 5) % 17 < 8 ? 1.0f : -1.0f;
            }
        }
    }
}

/* Stands in for the file that a real program would have linked in or read from its package: trains
   a little model and writes it to `bytes`. Returns its size, 0 on failure. */
static size_t make_model_bytes(arena *memory, void *bytes, size_t room, msae_error *error) {
    static float rows[ROWS][INPUTS];
    unsigned seed = 1;
    msae_trainer trainer;
    msae_train_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.model.n_inputs = INPUTS;
    desc.model.n_latents = LATENTS;
    desc.model.nesting_start = 4;
    desc.model.host.allocator.alloc = arena_alloc;
    desc.model.host.allocator.free = arena_free;
    desc.model.host.allocator.user = memory;
    desc.batch = ROWS;
    desc.lr = 0.01f;
    if (msae_trainer_init(&trainer, &desc, error) != MSAE_OK) return 0;
    for (int step = 0; step < STEPS; step++) {
        make_rows(rows, &seed);
        if (msae_trainer_step(&trainer, rows[0], ROWS, NULL, error) != MSAE_OK) return 0;
    }
    msae_writer writer = msae_to_memory(bytes, room);
    if (msae_save(&trainer.model, &writer, error) != MSAE_OK) return 0;
    return writer.bytes;
}

static float distance(const float *a, const float *b) {
    float sum = 0;
    for (size_t i = 0; i < INPUTS; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

int main(void) {
    static unsigned char block[4 << 20], bytes[64 << 10], workspace[1 << 20];
    static float rows[ROWS][INPUTS];
    arena memory = {block, 0, sizeof block, 0};
    unsigned seed = 2;
    msae_model model;
    msae_load_desc desc;
    msae_error error;
    strcpy(error.message, "not enough room");

    const size_t size = make_model_bytes(&memory, bytes, sizeof bytes, &error);
    memory.used = 0;
    memset(&desc, 0, sizeof desc);
    desc.host.allocator.alloc = arena_alloc;
    desc.host.allocator.free = arena_free;
    desc.host.allocator.user = &memory;
    if (size == 0 || msae_load(&model, msae_from_memory(bytes, size), &desc, &error) != MSAE_OK ||
        msae_workspace_bytes(&model, 1) > sizeof workspace) {
        fprintf(stderr, "from_memory: %s\n", error.message);
        return 1;
    }
    printf("a model of %zu bytes in %zu bytes of the program's own memory\n", size, memory.used);

    const size_t calls = memory.calls;
    make_rows(rows, &seed);
    for (size_t r = 0; r < 4; r++) {
        msae_code codes[KEEP];
        float rebuilt[INPUTS], edited[INPUTS];
        size_t count;
        if (msae_encode(&model, workspace, rows[r], KEEP, codes, &count) != MSAE_OK) return 1;
        msae_decode(&model, codes, count, NULL, rebuilt);
        printf("row %zu:", r);
        for (size_t i = 0; i < count; i++) {
            printf(" %u (%.2f)", (unsigned)codes[i].latent, (double)codes[i].value);
        }
        if (count > 0) codes[0].value = 0; /* the row without its strongest concept */
        msae_decode(&model, codes, count, NULL, edited);
        printf(", off by %.2f; without the first by %.2f\n", (double)distance(rows[r], rebuilt),
               (double)distance(rows[r], edited));
    }
    printf("allocations while encoding and decoding: %zu\n", memory.calls - calls);
    msae_model_free(&model);
    return 0;
}
