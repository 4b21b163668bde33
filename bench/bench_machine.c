/* The machine: its processor, caches and clock under load; the most that it can do on an instruction
   path, by the loops of ruler.h, one worker alone and all together; and the kernels that OpenBLAS and
   BLIS choose for it. What the other benchmarks call a floor is made of these numbers. Options:
   --threads T, --simd PATH, --json. */
#include "bench.h"

#include <unistd.h>

/* The processor's name as the system tells it. */
static void processor(char *name, size_t room) {
    char line[512];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(name, room, "a processor without a name");
    while (file && fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        if (!value || strncmp(line, "model name", 10) != 0) continue;
        snprintf(name, room, "%s", value + 2);
        name[strcspn(name, "\n\"")] = '\0';
        break;
    }
    if (file) fclose(file);
}

/* Bytes of a level's data cache, as Linux tells it; `usual` where it does not. */
static size_t cache_bytes(int level, size_t usual) {
    size_t bytes = usual;
    for (int i = 0; i < 8; i++) {
        char path[96], type[32] = "";
        int number = 0;
        unsigned long kilobytes = 0;
        FILE *file;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        if (!(file = fopen(path, "r"))) break;
        if (fscanf(file, "%d", &number) != 1) number = 0;
        fclose(file);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        if ((file = fopen(path, "r"))) {
            if (fscanf(file, "%31s", type) != 1) type[0] = '\0';
            fclose(file);
        }
        if (number != level || strcmp(type, "Instruction") == 0) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if ((file = fopen(path, "r"))) {
            if (fscanf(file, "%luK", &kilobytes) == 1) bytes = (size_t)kilobytes << 10;
            fclose(file);
        }
    }
    return bytes;
}

enum { CLOCK_TURNS = 100000, CLOCK_TRIES = 100 };

/* A try is short, and timed where it runs: the best one was not interrupted. */
static void clock_task(void *context, size_t task, size_t worker) {
    double *seconds = (double *)context + worker;
    (void)task;
    for (int i = 0; i < CLOCK_TRIES; i++) {
        const double start = bench_seconds();
        if (ruler_clock(CLOCK_TURNS) == 0) return;
        *seconds = fmin(*seconds, bench_seconds() - start);
    }
}

/* GHz while all workers compute, of the fastest; 0: not known. */
static double clock_under_load(const msae_parallel *parallel) {
    double seconds[MSAE_MAX_WORKERS], least = 1;
    for (size_t i = 0; i < MSAE_MAX_WORKERS; i++) seconds[i] = 1;
    msae__parallel_for(parallel, msae__workers(parallel), clock_task, seconds);
    for (size_t i = 0; i < MSAE_MAX_WORKERS; i++) least = fmin(least, seconds[i]);
    return least < 1 ? 16.0 * CLOCK_TURNS / least * 1e-9 : 0;
}

typedef struct most {
    double peak, loads;         /* GFLOP/s */
    double first, second, last; /* GB/s from the levels of cache */
    double memory;              /* GB/s */
} most;

static most measure(bench_machine *machine, const msae_parallel *parallel, const size_t *caches) {
    const size_t workers = msae__workers(parallel);
    most m;
    m.peak = bench_peak(machine, parallel);
    m.loads = bench_load_peak(machine, parallel);
    m.first = bench_bandwidth(machine, parallel, workers * caches[0] / 2);
    m.second = bench_bandwidth(machine, parallel, workers * caches[1] / 2);
    m.last = bench_bandwidth(machine, parallel,
                             msae__min(caches[2] / 2, (workers * caches[1] + caches[2]) / 2));
    m.memory = bench_bandwidth(machine, parallel, msae__max((size_t)256 << 20, 4 * caches[2]));
    return m;
}

static void print_json(const char *name, const size_t *caches, double ghz, const char *simd,
                       size_t workers, const most *m, const bench_blas *blas) {
    printf("{\"bench\":\"machine\",\"processor\":\"%s\",\"cores\":%ld,\"caches\":[%zu,%zu,%zu],"
           "\"ghz\":%.2f,\"simd\":\"%s\",\"threads\":%zu,\"peak_gflops\":%.1f,"
           "\"load_peak_gflops\":%.1f,\"gb_per_s\":[%.1f,%.1f,%.1f,%.1f]",
           name, sysconf(_SC_NPROCESSORS_ONLN), caches[0], caches[1], caches[2], ghz, simd, workers,
           m->peak, m->loads, m->first, m->second, m->last, m->memory);
    for (int k = 0; k < 2; k++) {
        if (blas[k].sgemm) printf(",\"%s\":\"%s\"", k ? "blis" : "openblas", blas[k].kernels);
    }
    printf("}\n");
}

static void print_most(const most *m, const char *simd, size_t workers, double ghz, double lanes) {
    char cycle[64] = "";
    if (ghz > 0) {
        snprintf(cycle, sizeof cycle, " (%.2f a cycle)",
                 m->peak / (2 * lanes * ghz * (double)workers));
    }
    printf("%s, %zu %s: multiply-adds %.0f GFLOP/s%s, with a load for each %.0f;\n"
           "    reads, GB/s: %.0f first level, %.0f second, %.0f last, %.0f memory\n",
           simd, workers, workers == 1 ? "thread" : "threads", m->peak, cycle, m->loads, m->first,
           m->second, m->last, m->memory);
}

int main(int argc, char **argv) {
    const msae_parallel alone = {NULL, NULL, 1};
    const size_t caches[3] = {cache_bytes(1, (size_t)32 << 10), cache_bytes(2, (size_t)512 << 10),
                              cache_bytes(3, (size_t)8 << 20)};
    bench_options options;
    bench_machine machine;
    bench_blas blas[2];
    msae_parallel parallel;
    msae_pool *pool;
    msae_error error;
    char name[128];
    const char *simd;
    double ghz;
    memset(&options, 0, sizeof options);
    options.threads = 2;
    if (bench_parse(&options, argc, argv)) return 2;
    if (msae_pool_create(&pool, options.threads, &error) != MSAE_OK) {
        return bench_fail("threads", error.message);
    }
    parallel = msae_pool_parallel(pool);
    machine = bench_machine_for(options.simd);
    simd = msae_enum_name(MSAE_ENUM_SIMD, (int)msae__kernels_for(options.simd)->simd);
    blas[0] = bench_openblas(options.threads);
    blas[1] = bench_blis(options.threads);
    processor(name, sizeof name);
    ghz = clock_under_load(&parallel);
    if (!options.json) {
        printf("%s, %ld cores; caches %zu KB and %zu KB a core, %zu MB; ", name,
               sysconf(_SC_NPROCESSORS_ONLN), caches[0] >> 10, caches[1] >> 10, caches[2] >> 20);
        if (ghz > 0)
            printf("%.2f GHz under load\n", ghz);
        else
            printf("clock unknown\n");
    }
    for (int all = parallel.workers > 1 ? 0 : 1; all < 2; all++) {
        const most m = measure(&machine, all ? &parallel : &alone, caches);
        const size_t workers = all ? parallel.workers : 1;
        if (options.json)
            print_json(name, caches, ghz, simd, workers, &m, blas);
        else
            print_most(&m, simd, workers, ghz, (double)machine.ruler->lanes);
        fflush(stdout);
    }
    for (int k = 0; k < 2 && !options.json; k++) {
        if (blas[k].sgemm) printf("%s chose its kernels for %s\n", blas[k].name, blas[k].kernels);
    }
    if (!options.json) printf("\n");
    msae_pool_free(pool);
    return 0;
}
