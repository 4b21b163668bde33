/* Selection: one TopK of a row, and all levels of the nesting list at once, in one thread. The
   floor is the time to read the row at the speed that the machine reads from its caches. Options:
   --latents N, --rounds R, --simd PATH, --json. */
#include "bench.h"

/* Rows that are selected from in turns: enough that branch predictors learn nothing by heart. */
enum { ROWS = 64 };

typedef struct selection {
    const msae_kernels *kernels;
    float *pre; /* [ROWS][n] */
    size_t n, k, levels, ks[MSAE_MAX_LEVELS];
    int32_t *keys, *scratch;
    msae_code *codes;
} selection;

/* Microseconds for each row of: the k largest as codes. */
static double one_topk(const selection *s) {
    const double start = bench_seconds();
    for (size_t r = 0; r < ROWS; r++) {
        bench_sink += (float)msae__top_codes(s->kernels, s->pre + r * s->n, s->n, s->k,
                                             MSAE_ACTIVATION_RELU, s->codes, s->keys, s->scratch);
    }
    return (bench_seconds() - start) * 1e6 / ROWS;
}

/* The thresholds of every level; with `placed` also all latents, sorted by the level at which they
   enter. */
static double all_levels(const selection *s, int placed) {
    const double start = bench_seconds();
    for (size_t r = 0; r < ROWS; r++) {
        const float *pre = s->pre + r * s->n;
        int32_t sorted[MSAE__LATENT_BLOCK], floors[MSAE_MAX_LEVELS];
        uint8_t index[MSAE__LATENT_BLOCK], level[MSAE__LATENT_BLOCK], ends[MSAE_MAX_LEVELS];
        msae__key_list active = {s->scratch, 0, 0, 0};
        msae__cut cuts[MSAE_MAX_LEVELS];
        active.count = s->kernels->between(s->scratch, pre, s->n, 0, INT32_MAX, &active.largest);
        msae__cuts(s->kernels, &active, s->ks, s->levels, cuts, s->scratch + msae__cut_room(s->n));
        msae__floors(cuts, s->levels, 0, floors);
        bench_sink += (float)floors[0];
        for (size_t j = 0; j < s->n && placed; j += MSAE__LATENT_BLOCK) {
            msae__full(s->kernels)->place(sorted, index, level, ends, pre + j,
                              msae__min(MSAE__LATENT_BLOCK, s->n - j), floors, s->levels);
            bench_sink += (float)ends[0];
        }
    }
    return (bench_seconds() - start) * 1e6 / ROWS;
}

static void bench_size(size_t n, const bench_options *options) {
    const msae_parallel alone = {NULL, NULL, 0};
    static double one[BENCH_MAX_ROUNDS], cuts[BENCH_MAX_ROUNDS], ratio[BENCH_MAX_ROUNDS];
    static double all[BENCH_MAX_ROUNDS];
    bench_machine machine = bench_machine_for(options->simd);
    double floor_us, one_us, cuts_us, all_us;
    selection s;
    memset(&s, 0, sizeof s);
    s.kernels = msae__kernels_for(options->simd);
    s.n = n;
    s.k = msae__min(64, n);
    for (size_t k = s.k; k < n; k *= 2) s.ks[s.levels++] = k;
    s.ks[s.levels++] = n;
    s.pre = bench_random(ROWS * n, 1);
    for (size_t i = 0; i < ROWS * n; i++) { /* half of them active, with a long tail */
        const float x = s.pre[i];
        s.pre[i] = x * fabsf(x) * (1 + x * x);
    }
    s.keys = (int32_t *)bench_alloc(n * sizeof *s.keys);
    s.scratch = (int32_t *)bench_alloc(2 * msae__cut_room(n) * sizeof *s.scratch);
    s.codes = (msae_code *)bench_alloc(n * sizeof *s.codes);
    for (size_t round = 0; round < options->rounds + 5; round++) { /* the first ones warm up */
        const size_t at = round < 5 ? 0 : round - 5;
        one[at] = one_topk(&s);
        cuts[at] = all_levels(&s, 0);
        all[at] = all_levels(&s, 1);
        ratio[at] = cuts[at] / one[at];
    }
    floor_us = (double)n * sizeof(float) / bench_bandwidth(&machine, &alone, 256 << 10) * 1e-3;
    one_us = bench_median(one, options->rounds);
    cuts_us = bench_median(cuts, options->rounds);
    all_us = bench_median(all, options->rounds);
    if (options->json) {
        printf("{\"bench\":\"topk\",\"latents\":%zu,\"k\":%zu,\"us\":%.3f,\"levels\":%zu,"
               "\"thresholds_us\":%.3f,\"thresholds_over_one\":%.3f,\"placed_us\":%.3f,"
               "\"floor_us\":%.3f}\n",
               n, s.k, one_us, s.levels, cuts_us, bench_median(ratio, options->rounds), all_us,
               floor_us);
    } else {
        printf("%7zu %4zu %8.2f us %8zu %9.2f us %6.2f x %9.2f us %9.2f us\n", n, s.k, one_us,
               s.levels, cuts_us, bench_median(ratio, options->rounds), all_us, floor_us);
    }
    fflush(stdout);
    free(s.pre);
    free(s.keys);
    free(s.scratch);
    free(s.codes);
}

int main(int argc, char **argv) {
    static const size_t sizes[] = {1024, 2048, 4096, 6144, 16384};
    bench_options options;
    memset(&options, 0, sizeof options);
    options.rounds = 50;
    if (bench_parse(&options, argc, argv)) return 2;
    if (!options.json) {
        printf("Selection of a row, one thread, medians of %zu rounds\n", options.rounds);
        printf("%7s %4s %11s %8s %12s %8s %12s %12s\n", "latents", "k", "one TopK", "levels",
               "thresholds", "over one", ".. latents", "read once");
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (!options.latents) bench_size(sizes[i], &options);
    }
    if (options.latents) bench_size(options.latents, &options);
    return 0;
}
