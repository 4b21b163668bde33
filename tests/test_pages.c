/* Large pages: which blocks ask the system for them, and for which part. The call itself is
   replaced, so that the test does not depend on what the system has to give. */
#define madvise advised
#include "test.h"

#define LARGE ((size_t)2 << 20)

static size_t calls, allocated, freed;
static uintptr_t from, until;

int advised(void *memory, size_t bytes, int advice) {
    calls++;
    from = (uintptr_t)memory;
    until = from + bytes;
    CHECK(advice == 14); /* MADV_HUGEPAGE */
    return -1;           /* what a system without them says */
}

#ifdef __linux__
static const size_t asks = 1;
#else
static const size_t asks = 0;
#endif

static void large_blocks_ask_for_whole_pages(void) {
    for (size_t more = 0; more < 3; more++) {
        const size_t bytes = 4 * LARGE + more * (LARGE / 2 + 64);
        unsigned char *block;
        calls = 0;
        block = (unsigned char *)msae__alloc(NULL, bytes);
        if (!CHECK(block && calls == asks)) continue;
        block[0] = block[bytes - 1] = 1;
        if (calls > 0) {
            const uintptr_t first = (uintptr_t)block, last = first + bytes;
            CHECK(from % LARGE == 0 && until % LARGE == 0 && from < until);
            CHECK(from >= first && from - first < LARGE);
            CHECK(until <= last && last - until < LARGE);
        }
        msae__free(NULL, block, bytes);
    }
}

static void small_blocks_do_not_ask(void) {
    void *block;
    calls = 0;
    block = msae__alloc(NULL, 2 * LARGE - 1);
    CHECK(block && calls == 0);
    msae__free(NULL, block, 2 * LARGE - 1);
}

static void *own_alloc(size_t bytes, void *user) {
    (void)user;
    allocated += bytes;
    return malloc(bytes);
}

static void own_free(void *memory, size_t bytes, void *user) {
    (void)user;
    freed += bytes;
    free(memory);
}

/* What to ask of the caller's own memory is the caller's business. */
static void own_allocators_are_left_alone(void) {
    msae_allocator allocator;
    void *block;
    memset(&allocator, 0, sizeof allocator);
    allocator.alloc = own_alloc;
    allocator.free = own_free;
    calls = 0;
    block = msae__alloc(&allocator, 8 * LARGE);
    CHECK(block && calls == 0 && allocated == 8 * LARGE);
    msae__free(&allocator, block, 8 * LARGE);
    CHECK(freed == 8 * LARGE);
}

/* Weights, gradients, moments and workspace of a trainer are one such block. */
static void a_trainer_asks(void) {
    msae_train_desc desc;
    msae_trainer trainer;
    memset(&desc, 0, sizeof desc);
    desc.model.n_inputs = 256;
    desc.model.n_latents = 4096;
    calls = 0;
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
    CHECK(calls == asks);
    msae_trainer_free(&trainer);
}

int main(void) {
    RUN(large_blocks_ask_for_whole_pages);
    RUN(small_blocks_do_not_ask);
    RUN(own_allocators_are_left_alone);
    RUN(a_trainer_asks);
    return test_finish();
}
