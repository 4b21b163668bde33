/* What the benchmarks share: time, medians, what the machine can do at most, other people's BLAS.
   Include it first; it brings msae.h with its implementation. */
#ifndef BENCH_H
#define BENCH_H

#define _GNU_SOURCE /* clock_gettime, dlopen with RTLD_DEEPBIND */
#define MSAE_IMPLEMENTATION
#define MSAE_USE_PTHREADS
#include "msae.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__GNUC__)
#define BENCH_UNUSED __attribute__((unused))
#else
#define BENCH_UNUSED
#endif

enum { BENCH_MAX_ROUNDS = 1000 };

static BENCH_UNUSED double bench_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int bench_ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value below which `share` of the values lie; sorts them. */
static BENCH_UNUSED double bench_quantile(double *values, size_t count, double share) {
    size_t at = (size_t)(share * (double)count);
    qsort(values, count, sizeof *values, bench_ascending);
    return values[at < count ? at : count - 1];
}

static BENCH_UNUSED double bench_median(double *values, size_t count) {
    return bench_quantile(values, count, 0.5);
}

static BENCH_UNUSED int bench_fail(const char *what, const char *message) {
    fprintf(stderr, "bench: %s: %s\n", what, message);
    return 1;
}

static BENCH_UNUSED void *bench_alloc(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, 4096, bytes) != 0) {
        fprintf(stderr, "bench: out of memory\n");
        exit(1);
    }
    return memory;
}

/* Numbers in (-1, 1), the same on every machine. */
static BENCH_UNUSED float *bench_random(size_t count, uint32_t state) {
    float *values = (float *)bench_alloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(state >> 8) / 8388608.0f - 1;
    }
    return values;
}

/* ---------------------------------------------------------------------------------------------
   Options that all benchmarks take
   ------------------------------------------------------------------------------------------ */

typedef struct bench_options {
    size_t latents, inputs, batch, threads, rounds;
    const char *data, *recipe, *shapes;
    msae_simd simd;
    int json, brief;
} bench_options;

static BENCH_UNUSED int bench_parse(bench_options *options, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        size_t *number = strcmp(name, "--latents") == 0   ? &options->latents
                         : strcmp(name, "--inputs") == 0  ? &options->inputs
                         : strcmp(name, "--batch") == 0   ? &options->batch
                         : strcmp(name, "--threads") == 0 ? &options->threads
                         : strcmp(name, "--rounds") == 0  ? &options->rounds
                                                          : NULL;
        const char **text = strcmp(name, "--data") == 0     ? &options->data
                            : strcmp(name, "--recipe") == 0 ? &options->recipe
                            : strcmp(name, "--shapes") == 0 ? &options->shapes
                                                            : NULL;
        if (strcmp(name, "--json") == 0 || strcmp(name, "--brief") == 0) {
            *(name[2] == 'j' ? &options->json : &options->brief) = 1;
            continue;
        }
        if (!value || (!number && !text && strcmp(name, "--simd") != 0)) {
            return bench_fail(name, value ? "unknown option" : "unknown option or no value");
        }
        if (number) {
            char *end;
            *number = strtoul(value, &end, 10);
            if (end == value || *end || *number == 0) return bench_fail(name, "not a number");
        } else if (text) {
            *text = value;
        } else {
            const int simd = msae_enum_value(MSAE_ENUM_SIMD, value);
            options->simd = (msae_simd)simd;
            if (simd < 0 || !msae__simd_available(options->simd)) {
                return bench_fail(value, "not available");
            }
        }
        i++;
    }
    if (options->rounds > BENCH_MAX_ROUNDS) return bench_fail("--rounds", "too many");
    return 0;
}

/* ---------------------------------------------------------------------------------------------
   What the machine can do at most, by the path that is measured
   ------------------------------------------------------------------------------------------ */

/* Independent chains of multiply-adds, as many as hide the latency; returns the operations done. */
#define BENCH_TURNS 2000000
#define BENCH_PEAK(name, target, type, lanes, set, fma)                                     \
    static target double name(void) {                                                       \
        type a = set(1e-9f), b = set(0.999999f), c0 = a, c1 = b, c2 = a, c3 = b, c4 = a;    \
        type c5 = b, c6 = a, c7 = b, c8 = a, c9 = b;                                        \
        float kept[16];                                                                     \
        for (long i = 0; i < BENCH_TURNS; i++) {                                            \
            c0 = fma(c0, b, a), c1 = fma(c1, b, a), c2 = fma(c2, b, a), c3 = fma(c3, b, a); \
            c4 = fma(c4, b, a), c5 = fma(c5, b, a), c6 = fma(c6, b, a), c7 = fma(c7, b, a); \
            c8 = fma(c8, b, a), c9 = fma(c9, b, a);                                         \
        }                                                                                   \
        c0 = fma(c0, c1, c2), c3 = fma(c3, c4, c5), c6 = fma(c6, c7, c8);                   \
        c0 = fma(c0, c3, fma(c6, c9, c9));                                                  \
        memcpy(kept, &c0, sizeof c0);                                                       \
        bench_sink += kept[0];                                                              \
        return 2.0 * (lanes)*10 * BENCH_TURNS;                                              \
    }

/* Sum of `count` floats (a multiple of 128), to see how fast they can be read. */
#define BENCH_READ(name, target, type, lanes, zero, load, add)                                \
    static target void name(const float *x, size_t count) {                                   \
        type s0 = zero, s1 = zero, s2 = zero, s3 = zero;                                      \
        type s4 = zero, s5 = zero, s6 = zero, s7 = zero;                                      \
        float kept[16];                                                                       \
        for (size_t i = 0; i < count; i += 8 * (lanes)) {                                     \
            s0 = add(s0, load(x + i)), s1 = add(s1, load(x + i + (lanes)));                   \
            s2 = add(s2, load(x + i + 2 * (lanes))), s3 = add(s3, load(x + i + 3 * (lanes))); \
            s4 = add(s4, load(x + i + 4 * (lanes))), s5 = add(s5, load(x + i + 5 * (lanes))); \
            s6 = add(s6, load(x + i + 6 * (lanes))), s7 = add(s7, load(x + i + 7 * (lanes))); \
        }                                                                                     \
        s0 = add(add(add(s0, s1), add(s2, s3)), add(add(s4, s5), add(s6, s7)));               \
        memcpy(kept, &s0, sizeof s0);                                                         \
        bench_sink += kept[0];                                                                \
    }

static volatile float bench_sink; /* keeps the compiler from dropping the work */

#define BENCH_SET_SCALAR(x) (x)
#define BENCH_FMA_SCALAR(x, y, z) ((x) * (y) + (z))
#define BENCH_LOAD_SCALAR(p) (*(p))
#define BENCH_ADD_SCALAR(x, y) ((x) + (y))
BENCH_PEAK(bench_peak_scalar, , float, 1, BENCH_SET_SCALAR, BENCH_FMA_SCALAR)
BENCH_READ(bench_read_scalar, , float, 1, 0, BENCH_LOAD_SCALAR, BENCH_ADD_SCALAR)
#ifdef MSAE__HAS_AVX2
BENCH_PEAK(bench_peak_avx2, MSAE__AVX2, __m256, 8, _mm256_set1_ps, _mm256_fmadd_ps)
BENCH_READ(bench_read_avx2, MSAE__AVX2, __m256, 8, _mm256_setzero_ps(), _mm256_loadu_ps,
           _mm256_add_ps)
BENCH_PEAK(bench_peak_avx512, MSAE__AVX512, __m512, 16, _mm512_set1_ps, _mm512_fmadd_ps)
BENCH_READ(bench_read_avx512, MSAE__AVX512, __m512, 16, _mm512_setzero_ps(), _mm512_loadu_ps,
           _mm512_add_ps)
#endif
#ifdef MSAE__HAS_NEON
#define BENCH_FMA_NEON(x, y, z) vfmaq_f32(z, x, y)
BENCH_PEAK(bench_peak_neon, , float32x4_t, 4, vdupq_n_f32, BENCH_FMA_NEON)
BENCH_READ(bench_read_neon, , float32x4_t, 4, vdupq_n_f32(0), vld1q_f32, vaddq_f32)
#endif

typedef struct bench_machine {
    double (*peak)(void);
    void (*read)(const float *x, size_t count);
    const float *x;
    size_t count, tasks;
    double operations;
} bench_machine;

static BENCH_UNUSED bench_machine bench_machine_for(msae_simd simd) {
    bench_machine machine;
    memset(&machine, 0, sizeof machine);
    machine.peak = bench_peak_scalar;
    machine.read = bench_read_scalar;
    simd = msae__kernels_for(simd)->simd;
#ifdef MSAE__HAS_AVX2
    if (simd == MSAE_SIMD_AVX2) machine.peak = bench_peak_avx2, machine.read = bench_read_avx2;
    if (simd == MSAE_SIMD_AVX512) {
        machine.peak = bench_peak_avx512, machine.read = bench_read_avx512;
    }
#endif
#ifdef MSAE__HAS_NEON
    if (simd == MSAE_SIMD_NEON) machine.peak = bench_peak_neon, machine.read = bench_read_neon;
#endif
    return machine;
}

static BENCH_UNUSED void bench_peak_task(void *context, size_t task, size_t worker) {
    bench_machine *machine = (bench_machine *)context;
    const double operations = machine->peak();
    (void)worker;
    if (task == 0) machine->operations = operations;
}

/* GFLOP/s of all workers together, the best of a few tries. */
static BENCH_UNUSED double bench_peak(bench_machine *machine, const msae_parallel *parallel) {
    const size_t workers = msae__workers(parallel);
    double best = 0;
    for (int i = 0; i < 20; i++) { /* for long enough that the threads find a core each */
        const double start = bench_seconds();
        msae__parallel_for(parallel, workers, bench_peak_task, machine);
        best = fmax(best, machine->operations * (double)workers / (bench_seconds() - start));
    }
    return best * 1e-9;
}

static BENCH_UNUSED void bench_read_task(void *context, size_t task, size_t worker) {
    const bench_machine *machine = (const bench_machine *)context;
    const size_t part = machine->count / machine->tasks / 128 * 128; /* whole turns of read */
    (void)worker;
    machine->read(machine->x + task * part, part);
}

/* Reads the buffer once over the workers; the seconds it took. machine->x and ->count are set. */
static BENCH_UNUSED double bench_read_once(bench_machine *machine, const msae_parallel *parallel) {
    const double start = bench_seconds();
    machine->tasks = msae__workers(parallel);
    msae__parallel_for(parallel, machine->tasks, bench_read_task, machine);
    return bench_seconds() - start;
}

/* GB/s of all workers together over `bytes` that are read again and again. */
static BENCH_UNUSED double bench_bandwidth(bench_machine *machine, const msae_parallel *parallel,
                                           size_t bytes) {
    double times[15];
    machine->count = bytes / sizeof(float) / 4096 * 4096;
    float *x = bench_random(machine->count, 1);
    machine->x = x;
    for (int i = 0; i < 15; i++) times[i] = bench_read_once(machine, parallel);
    free(x);
    return (double)machine->count * sizeof(float) / bench_median(times, 15) * 1e-9;
}

static BENCH_UNUSED void bench_print_machine(msae_simd simd, const msae_parallel *parallel) {
    bench_machine machine = bench_machine_for(simd);
    const double peak = bench_peak(&machine, parallel);
    const double memory = bench_bandwidth(&machine, parallel, (size_t)256 << 20);
    printf("%s, %zu threads: FMA peak %.0f GFLOP/s, memory %.0f GB/s\n\n",
           msae_enum_name(MSAE_ENUM_SIMD, (int)msae__kernels_for(simd)->simd),
           msae__workers(parallel), peak, memory);
}

/* Other people's threads go on spinning for a while when their work is done: they would take the
   cores from whoever is measured next. */
static BENCH_UNUSED void bench_settle(void) {
    const struct timespec pause = {0, 80000000};
    nanosleep(&pause, NULL);
}

/* ---------------------------------------------------------------------------------------------
   OpenBLAS and BLIS, where they are installed
   ------------------------------------------------------------------------------------------ */

typedef void (*bench_sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                            const float *a, int lda, const float *b, int ldb, float beta, float *c,
                            int ldc);
typedef struct bench_blas {
    const char *name;
    bench_sgemm sgemm; /* NULL: not installed */
} bench_blas;

/* Each library gets its own namespace, because both define cblas_sgemm. */
static BENCH_UNUSED bench_blas bench_load_blas(const char *name, const char *const *files,
                                               const char *set_threads, size_t threads) {
    bench_blas blas = {name, NULL};
    void *library = NULL;
    int deep = RTLD_NOW | RTLD_LOCAL;
#ifdef RTLD_DEEPBIND
    deep |= RTLD_DEEPBIND;
#endif
    for (size_t i = 0; files[i] && !library; i++) library = dlopen(files[i], deep);
    if (library) {
        /* ISO C has no cast between the two kinds of pointers; POSIX says that they look alike */
        union {
            void *object;
            bench_sgemm sgemm;
            void (*set_int)(int);
            void (*set_long)(long);
        } symbol;
        symbol.object = dlsym(library, set_threads);
        if (symbol.object && set_threads[0] == 'b')
            symbol.set_long((long)threads);
        else if (symbol.object)
            symbol.set_int((int)threads);
        symbol.object = dlsym(library, "cblas_sgemm");
        blas.sgemm = symbol.sgemm;
    }
    return blas;
}

static BENCH_UNUSED bench_blas bench_openblas(size_t threads) {
    static const char *const files[] = {"libopenblas.so.0", "libopenblas.so", "libopenblas.dylib",
                                        NULL};
    return bench_load_blas("OpenBLAS", files, "openblas_set_num_threads", threads);
}

static BENCH_UNUSED bench_blas bench_blis(size_t threads) {
    static const char *const files[] = {"libblis.so.4", "libblis.so", "libblis.dylib", NULL};
    return bench_load_blas("BLIS", files, "bli_thread_set_num_threads", threads);
}

#endif
