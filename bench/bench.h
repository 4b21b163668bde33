/* What the benchmarks share: time, medians, what the machine can do at most, other people's BLAS.
   Include it first; it brings msae.h with its implementation. */
#ifndef BENCH_H
#define BENCH_H

#define _GNU_SOURCE /* clock_gettime, dlopen with RTLD_DEEPBIND */
#define MSAE_IMPLEMENTATION
#define MSAE_USE_PTHREADS
#include "msae.h"
#include "ruler.h"

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

typedef struct bench_machine {
    const ruler *ruler;
    float start[RULER_START];
    const float *x; /* what is read: a part for each task, again and again */
    size_t count, tasks, times;
} bench_machine;

static volatile float bench_sink; /* keeps the compiler from dropping the work */

static BENCH_UNUSED bench_machine bench_machine_for(msae_simd simd) {
    bench_machine machine;
    memset(&machine, 0, sizeof machine);
    simd = msae__kernels_for(simd)->simd;
    machine.ruler = ruler_for(msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
    for (size_t i = 0; i < RULER_START; i++) machine.start[i] = 0.5f + 0.001f * (float)i;
    machine.times = 1;
    return machine;
}

enum { BENCH_TURNS = 300000, BENCH_TRIES = 20 };

static BENCH_UNUSED void bench_peak_task(void *context, size_t task, size_t worker) {
    const bench_machine *machine = (const bench_machine *)context;
    (void)task, (void)worker;
    bench_sink = machine->ruler->peak(machine->start, BENCH_TURNS);
}

/* GFLOP/s of all workers together, the best of a few tries: multiply-adds from registers. */
static BENCH_UNUSED double bench_peak(bench_machine *machine, const msae_parallel *parallel) {
    const size_t workers = msae__workers(parallel);
    const double lanes = (double)(machine->ruler->lanes * machine->ruler->chains);
    double best = 0;
    for (int i = 0; i < BENCH_TRIES; i++) { /* for long enough that the threads find a core each */
        const double start = bench_seconds();
        msae__parallel_for(parallel, workers, bench_peak_task, machine);
        best = fmax(best, 2 * lanes * BENCH_TURNS * (double)workers / (bench_seconds() - start));
    }
    return best * 1e-9;
}

/* The floats of a task's part: whole turns of the ruler's loops. */
static size_t bench_part(const bench_machine *machine) {
    const size_t turn = machine->ruler->lanes * machine->ruler->streams;
    return machine->count / machine->tasks / turn * turn;
}

static BENCH_UNUSED void bench_loads_task(void *context, size_t task, size_t worker) {
    const bench_machine *machine = (const bench_machine *)context;
    const size_t part = bench_part(machine);
    (void)worker;
    for (size_t i = 0; i < machine->times; i++) {
        bench_sink = machine->ruler->loads(machine->start, machine->x + task * part, part);
    }
}

static BENCH_UNUSED void bench_read_task(void *context, size_t task, size_t worker) {
    const bench_machine *machine = (const bench_machine *)context;
    const size_t part = bench_part(machine);
    (void)worker;
    for (size_t i = 0; i < machine->times; i++) {
        bench_sink = machine->ruler->read(machine->start, machine->x + task * part, part);
    }
}

/* Goes over the buffer `times` times with all workers; the seconds that one time took. machine->x
   and ->count are set. */
static double bench_over(bench_machine *machine, const msae_parallel *parallel, msae_task task) {
    const double start = bench_seconds();
    machine->tasks = msae__workers(parallel);
    msae__parallel_for(parallel, machine->tasks, task, machine);
    return (bench_seconds() - start) / (double)machine->times;
}

static BENCH_UNUSED double bench_read_once(bench_machine *machine, const msae_parallel *parallel) {
    machine->times = 1;
    return bench_over(machine, parallel, bench_read_task);
}

/* Floats a second of all workers together, the best of a few tries, over `bytes` that are gone over
   again and again: in all 16 MB and more a try, so that starting the threads does not count. */
static double bench_rate(bench_machine *machine, const msae_parallel *parallel, size_t bytes,
                         msae_task task) {
    double best = 1e9;
    float *x;
    machine->count = bytes / sizeof(float);
    machine->times = ((size_t)16 << 20) / bytes + 1;
    machine->x = x = bench_random(machine->count, 1);
    for (int i = 0; i < BENCH_TRIES; i++) best = fmin(best, bench_over(machine, parallel, task));
    free(x);
    machine->times = 1;
    return (double)(bench_part(machine) * machine->tasks) / best;
}

/* GB/s of all workers together. */
static BENCH_UNUSED double bench_bandwidth(bench_machine *machine, const msae_parallel *parallel,
                                           size_t bytes) {
    return bench_rate(machine, parallel, bytes, bench_read_task) * sizeof(float) * 1e-9;
}

/* GFLOP/s of all workers together where each multiply-add loads a vector from the first-level cache,
   as in sums of decoder rows. */
static BENCH_UNUSED double bench_load_peak(bench_machine *machine, const msae_parallel *parallel) {
    const size_t bytes = msae__workers(parallel) * ((size_t)16 << 10);
    return bench_rate(machine, parallel, bytes, bench_loads_task) * 2 * 1e-9;
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
    bench_sgemm sgemm;   /* NULL: not installed */
    const char *kernels; /* what it chose for this processor */
} bench_blas;

/* A function of a library. ISO C has no cast between the two kinds of pointers; POSIX says that they
   look alike. */
typedef union bench_symbol {
    void *object;
    bench_sgemm sgemm;
    void (*set_int)(int);
    void (*set_long)(long);
    int (*number)(void);
    char *(*text)(void);
    char *(*text_of)(int);
} bench_symbol;

static bench_symbol bench_find(void *library, const char *name) {
    bench_symbol symbol;
    symbol.object = dlsym(library, name);
    return symbol;
}

/* Each library gets its own namespace, because both define cblas_sgemm. */
static void *bench_open(const char *const *files) {
    void *library = NULL;
    int deep = RTLD_NOW | RTLD_LOCAL;
#ifdef RTLD_DEEPBIND
    deep |= RTLD_DEEPBIND;
#endif
    for (size_t i = 0; files[i] && !library; i++) library = dlopen(files[i], deep);
    return library;
}

/* With the kernels that it chooses for this processor, whatever the environment says. */
static BENCH_UNUSED bench_blas bench_openblas(size_t threads) {
    static const char *const files[] = {"libopenblas.so.0", "libopenblas.so", "libopenblas.dylib",
                                        NULL};
    bench_blas blas = {"OpenBLAS", NULL, "?"};
    void *library;
    unsetenv("OPENBLAS_CORETYPE");
    library = bench_open(files);
    if (library) {
        const bench_symbol set = bench_find(library, "openblas_set_num_threads");
        const bench_symbol kernels = bench_find(library, "openblas_get_corename");
        if (set.object) set.set_int((int)threads);
        if (kernels.object) blas.kernels = kernels.text();
        blas.sgemm = bench_find(library, "cblas_sgemm").sgemm;
    }
    return blas;
}

static BENCH_UNUSED bench_blas bench_blis(size_t threads) {
    static const char *const files[] = {"libblis.so.4", "libblis.so", "libblis.dylib", NULL};
    bench_blas blas = {"BLIS", NULL, "?"};
    void *library = bench_open(files);
    if (library) {
        const bench_symbol set = bench_find(library, "bli_thread_set_num_threads");
        const bench_symbol query = bench_find(library, "bli_arch_query_id");
        const bench_symbol text = bench_find(library, "bli_arch_string");
        if (set.object) set.set_long((long)threads);
        if (query.object && text.object) blas.kernels = text.text_of(query.number());
        blas.sgemm = bench_find(library, "cblas_sgemm").sgemm;
    }
    return blas;
}

#endif
