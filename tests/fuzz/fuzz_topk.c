/* Selection against a plain sort, on every path: the codes of the k largest, the cuts of nested
   levels, ties in the order of the latents.
   Options: -max_len=512 */
#include "fuzz.h"

enum { MAX_KEYS = 256 };

typedef struct entry {
    int32_t key;
    uint32_t index;
} entry;

static int by_key(const void *a, const void *b) {
    const entry *x = (const entry *)a, *y = (const entry *)b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static int by_index(const void *a, const void *b) {
    const entry *x = (const entry *)a, *y = (const entry *)b;
    return x->index < y->index ? -1 : 1;
}

/* The first k of the sorted entries, as codes in the order of the latents, then sorted by value. */
static void check_codes(const msae_kernels *kernels, const float *pre, size_t n, size_t k,
                        msae_activation activation, const entry *sorted, size_t active) {
    const size_t want = k < active ? k : active, room = msae__cut_room(n);
    msae_code *codes = (msae_code *)fuzz_take(n * sizeof *codes);
    msae_code *spare = (msae_code *)fuzz_take(n * sizeof *spare);
    int32_t *keys = (int32_t *)fuzz_take(n * sizeof *keys);
    int32_t *scratch = (int32_t *)fuzz_take(2 * room * sizeof *scratch);
    entry *kept = (entry *)fuzz_copy(sorted, want * sizeof *kept);
    int is_number = 1;
    qsort(kept, want, sizeof *kept, by_index);
    CHECK(msae__top_codes(kernels, pre, n, k, activation, codes, keys, scratch) == want);
    for (size_t i = 0; i < want; i++) {
        const float value = pre[kept[i].index];
        const float wanted = activation == MSAE_ACTIVATION_ABS ? fabsf(value) : value;
        CHECK(codes[i].latent == kept[i].index);
        CHECK(fuzz_same_floats(&codes[i].value, &wanted, 1));
        is_number = is_number && !isnan(value);
    }
    msae__sort_codes(codes, want, spare);
    for (size_t i = 0; i < want && is_number; i++) CHECK(codes[i].latent == sorted[i].index);
}

static void check_cuts(const msae_kernels *kernels, const entry *sorted, size_t active,
                       const int32_t *keys, const size_t *ks, size_t levels, int32_t lowest) {
    int32_t *scratch = (int32_t *)fuzz_take(msae__cut_room(active) * sizeof *scratch);
    msae__cut cuts[MSAE_MAX_LEVELS];
    const msae__key_list list = {keys, active, active ? sorted[0].key : lowest, lowest};
    msae__cuts(kernels, &list, ks, levels, cuts, scratch);
    for (size_t i = 0; i < levels; i++) {
        if (ks[i] < active) {
            const int32_t key = sorted[ks[i] - 1].key;
            const size_t ties = cuts[i].ties;
            CHECK(cuts[i].key == key && ties >= 1 && ties <= ks[i]);
            CHECK(sorted[ks[i] - ties].key == key);
            CHECK(ties == ks[i] || sorted[ks[i] - ties - 1].key > key);
            CHECK(cuts[i].partial == (sorted[ks[i]].key == key));
        } else {
            CHECK(cuts[i].key == lowest && cuts[i].ties == 0 && !cuts[i].partial);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    fuzz_input in = fuzz_input_of(input, size);
    const msae_activation activation =
        (msae_activation)(MSAE_ACTIVATION_RELU + (int)fuzz_below(&in, 3));
    const int32_t lowest = msae__lowest(activation);
    const size_t n = 1 + fuzz_below(&in, MAX_KEYS), k = 1 + fuzz_below(&in, n);
    const size_t wanted_levels = 1 + fuzz_below(&in, 8), step = 1 + fuzz_below(&in, 64);
    /* a few values over and over make ties */
    const size_t period = 1 + fuzz_below(&in, MAX_KEYS);
    float *pre = (float *)fuzz_take(n * sizeof *pre);
    entry *sorted = (entry *)fuzz_take(n * sizeof *sorted);
    int32_t *keys = (int32_t *)fuzz_take(n * sizeof *keys);
    size_t ks[MSAE_MAX_LEVELS], levels = 0, active = 0;
    for (size_t i = 0; i < n; i++) pre[i] = i < period ? fuzz_float(&in) : pre[i - period];
    for (size_t i = 0; i < n; i++) {
        const int32_t key = msae__key(pre[i], activation);
        if (key <= lowest) continue;
        keys[active] = key;
        sorted[active].key = key;
        sorted[active++].index = (uint32_t)i;
    }
    qsort(sorted, active, sizeof *sorted, by_key);
    for (size_t at = step; at <= n && levels < wanted_levels; at += step) ks[levels++] = at;
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        check_codes(kernels, pre, n, k, activation, sorted, active);
        check_cuts(kernels, sorted, active, keys, ks, levels, lowest);
    }
    fuzz_release();
    return 0;
}
