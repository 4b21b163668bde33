/* The encoder product at the shapes of bench/shapes.txt: msae.h, and in turns with it OpenBLAS and
   BLIS where they are installed. Options: --shapes FILE, --threads T, --rounds R, --simd PATH,
   --json. */
#include "bench.h"

typedef struct product {
    msae__matmul matmul;
    const msae_parallel *parallel;
    float *c;
} product;

/* Seconds of one product, by msae.h where blas is NULL: 20 ms to warm up, in which the threads find
   a core each, then the median of what 20 ms hold. */
static double timed(const product *p, const bench_blas *blas) {
    static double times[BENCH_MAX_ROUNDS];
    const msae__matmul *m = &p->matmul;
    double begin = bench_seconds(), now = begin;
    size_t count = 0;
    while (count < 3 || (now - begin < 40e-3 && count < BENCH_MAX_ROUNDS)) {
        const double start = now;
        if (blas) { /* row-major, A B^T */
            blas->sgemm(101, 111, 112, (int)m->rows, (int)m->cols, (int)m->depth, 1, m->a,
                        (int)m->a_stride, m->b, (int)m->b_stride, 0, p->c, (int)m->ldc);
        } else {
            msae__run_matmul(m, p->parallel);
        }
        now = bench_seconds();
        if (now - begin > 20e-3) times[count++] = now - start;
    }
    return bench_median(times, count);
}

/* Largest difference of two results, as a share of the largest value. */
static double difference(const float *a, const float *b, size_t count) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return worst / largest;
}

static int bench_shape(size_t rows, size_t cols, size_t depth, const bench_options *options,
                       const msae_parallel *parallel, const bench_blas *blas) {
    const msae_kernels *kernels = msae__kernels_for(options->simd);
    const double flops = 2.0 * (double)rows * (double)cols * (double)depth;
    const size_t stride = msae__stride(depth);
    static double times[3][BENCH_MAX_ROUNDS], ratios[3][BENCH_MAX_ROUNDS];
    static double shares[BENCH_MAX_ROUNDS];
    bench_machine machine = bench_machine_for(options->simd);
    float *a = bench_random(rows * stride, 1), *b = bench_random(cols * depth, 2);
    float *c = bench_random(rows * cols, 3), *out = bench_random(rows * cols, 4);
    float *packed = bench_random(msae__packed_floats(kernels, rows, depth), 5);
    float *panels = bench_random(msae__workers(parallel) * msae__panel_floats(kernels, depth), 6);
    product p;
    int bad = 0;
    memset(&p, 0, sizeof p);
    p.matmul.kernels = kernels;
    p.matmul.a = a;
    p.matmul.b = b;
    p.matmul.a_stride = stride;
    p.matmul.b_stride = depth;
    p.matmul.rows = rows;
    p.matmul.cols = p.matmul.ldc = cols;
    p.matmul.depth = depth;
    p.matmul.c_block = MSAE__LATENT_BLOCK;
    p.matmul.c = out;
    p.matmul.packed = packed;
    p.matmul.panels = panels;
    p.parallel = parallel;
    p.c = c;
    for (size_t round = 0; round < options->rounds + 1; round++) { /* the first one warms up */
        const size_t at = round ? round - 1 : 0;
        times[0][at] = timed(&p, NULL);
        shares[at] = flops / times[0][at] * 1e-9 / bench_peak(&machine, parallel);
        for (int k = 0; k < 2; k++) {
            if (!blas[k].sgemm) continue;
            times[k + 1][at] = timed(&p, &blas[k]);
            bench_settle();
            ratios[k + 1][at] = times[k + 1][at] / times[0][at];
            if (difference(out, c, rows * cols) > 1e-5) bad = 1;
        }
    }
    if (options->json) {
        printf("{\"bench\":\"gemm\",\"rows\":%zu,\"latents\":%zu,\"inputs\":%zu,\"gflops\":%.2f,"
               "\"of_peak\":%.3f",
               rows, cols, depth, flops / bench_median(times[0], options->rounds) * 1e-9,
               bench_median(shares, options->rounds));
        for (int k = 0; k < 2; k++) {
            if (!blas[k].sgemm) continue;
            printf(",\"over_%s\":%.3f,\"%s_kernels\":\"%s\"", k ? "blis" : "openblas",
                   bench_median(ratios[k + 1], options->rounds), k ? "blis" : "openblas",
                   blas[k].kernels);
        }
        printf("}\n");
    } else {
        const double seconds = bench_median(times[0], options->rounds);
        printf("%6zu %7zu %7zu %10.1f us %8.1f %7.0f %%", rows, cols, depth, seconds * 1e6,
               flops / seconds * 1e-9, 100 * bench_median(shares, options->rounds));
        for (int k = 0; k < 2; k++) {
            if (blas[k].sgemm) {
                printf(" %8.2f x", bench_median(ratios[k + 1], options->rounds));
            }
        }
        printf("\n");
    }
    fflush(stdout);
    free(a);
    free(b);
    free(c);
    free(out);
    free(packed);
    free(panels);
    return bad ? bench_fail("gemm", "the results differ") : 0;
}

int main(int argc, char **argv) {
    bench_options options;
    bench_blas blas[2];
    msae_parallel parallel;
    msae_pool *pool;
    msae_error error;
    char line[256];
    FILE *file;
    memset(&options, 0, sizeof options);
    options.threads = 2;
    options.rounds = 5;
    options.shapes = "bench/shapes.txt";
    if (bench_parse(&options, argc, argv)) return 2;
    if (msae_pool_create(&pool, options.threads, &error) != MSAE_OK) {
        return bench_fail("threads", error.message);
    }
    parallel = msae_pool_parallel(pool);
    blas[0] = bench_openblas(options.threads);
    blas[1] = bench_blis(options.threads);
    file = fopen(options.shapes, "r");
    if (!file) return bench_fail(options.shapes, "cannot be opened");
    if (!options.json) {
        printf("Encoder product, %zu threads, medians of %zu rounds; x: their time over ours\n",
               options.threads, options.rounds);
        for (int k = 0; k < 2; k++) {
            if (blas[k].sgemm)
                printf("%s with its kernels for %s\n", blas[k].name, blas[k].kernels);
        }
        printf("%6s %7s %7s %13s %8s %9s", "rows", "latents", "inputs", "time", "GFLOP/s",
               "of peak");
        for (int k = 0; k < 2; k++) {
            if (blas[k].sgemm) printf(" %10s", blas[k].name);
        }
        printf("\n");
    }
    while (fgets(line, sizeof line, file)) {
        size_t rows, latents, inputs;
        if (line[0] == '#' || sscanf(line, "%zu %zu %zu", &rows, &latents, &inputs) != 3) continue;
        if (bench_shape(rows, latents, inputs, &options, &parallel, blas)) return 1;
    }
    fclose(file);
    msae_pool_free(pool);
    return 0;
}
