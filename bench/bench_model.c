/* A model in use: latency of encoding 1, 8, 64 and 1024 rows, and of one row with small weights, time
   to load it from a file and to use one where it lies, and the memory that training takes. Options: --latents N, --inputs D, --threads T, --rounds R, --simd
   PATH, --json. */
#include "bench.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { K = 64 };

/* One row: its floor is to read the encoder once, as fast as this machine reads as many bytes in
   the same round. More rows: the product's arithmetic at peak. */
static int bench_rows(const msae_model *model, size_t rows, const bench_options *options,
                      const msae_parallel *parallel, double peak) {
    static double times[BENCH_MAX_ROUNDS], floors[BENCH_MAX_ROUNDS], shares[BENCH_MAX_ROUNDS];
    const size_t n = model->n_latents, d = model->n_inputs, rounds = options->rounds;
    bench_machine machine = bench_machine_for(options->simd);
    float *x = bench_random(rows * d, 7);
    void *workspace = bench_alloc(msae_workspace_bytes(model, rows));
    msae_code *codes = (msae_code *)bench_alloc(rows * K * sizeof *codes);
    size_t *counts = (size_t *)bench_alloc(rows * sizeof *counts);
    double p50, p99, floor;
    msae_error error;
    machine.x = model->encoder;
    machine.count = n * d / 4096 * 4096;
    for (size_t round = 0; round < rounds + 20; round++) {
        const size_t at = round < 20 ? 0 : round - 20; /* the first ones warm up */
        double start;
        floors[at] = rows == 1 ? bench_read_once(&machine, parallel)
                               : 2.0 * (double)(rows * n) * (double)d / (peak * 1e9);
        start = bench_seconds();
        if (msae_encode_rows(model, workspace, x, rows, K, &(msae_rows){codes, counts, K},
                             &error) != MSAE_OK) {
            return bench_fail("encode", error.message);
        }
        times[at] = bench_seconds() - start;
        shares[at] = floors[at] / times[at];
    }
    p50 = bench_median(times, rounds);
    p99 = bench_quantile(times, rounds, 0.99);
    floor = bench_median(floors, rounds);
    if (options->json) {
        printf("{\"bench\":\"encode\",\"rows\":%zu,\"latents\":%zu,\"inputs\":%zu,\"p50_us\":%.2f,"
               "\"p99_us\":%.2f,\"floor_us\":%.2f,\"of_floor\":%.3f}\n",
               rows, n, d, p50 * 1e6, p99 * 1e6, floor * 1e6, bench_median(shares, rounds));
    } else {
        printf("%6zu %10.1f us %10.1f us %10.1f us %8.0f %% %10.0f\n", rows, p50 * 1e6, p99 * 1e6,
               floor * 1e6, 100 * bench_median(shares, rounds), (double)rows / p50);
    }
    fflush(stdout);
    free(x);
    free(workspace);
    free(codes);
    free(counts);
    return 0;
}

/* One row in one thread with each kind of weights, in turns, and how long it takes to use such a
   model's file where it lies in memory. */
static int bench_small(const msae_model *model, const bench_options *options) {
    enum { KINDS = 4, FEW = 32 };
    static const msae_dtype types[KINDS] = {MSAE_F32, MSAE_F16, MSAE_BF16, MSAE_I8};
    static double times[KINDS][BENCH_MAX_ROUNDS], ratios[BENCH_MAX_ROUNDS];
    static double maps[BENCH_MAX_ROUNDS];
    const size_t rounds = options->rounds, d = model->n_inputs;
    msae_model models[KINDS];
    void *workspace, *files[KINDS];
    size_t bytes[KINDS];
    msae_load_desc load;
    msae_code codes[FEW];
    msae_error error;
    float *x = bench_random(16 * d, 7);
    memset(&load, 0, sizeof load);
    load.host.simd = options->simd;
    for (size_t t = 0; t < KINDS; t++) {
        msae_writer writer = msae_to_memory(NULL, 0);
        if (msae_compact(model, types[t], &load, &models[t], &error) != MSAE_OK ||
            msae_save(&models[t], &writer, &error) != MSAE_OK) {
            return bench_fail("small weights", error.message);
        }
        bytes[t] = writer.bytes;
        files[t] = bench_alloc(bytes[t]);
        writer = msae_to_memory(files[t], bytes[t]);
        if (msae_save(&models[t], &writer, &error) != MSAE_OK) {
            return bench_fail("small weights", error.message);
        }
    }
    workspace = bench_alloc(msae_workspace_bytes(&models[0], 1) +
                            msae_workspace_bytes(&models[KINDS - 1], 1));
    for (size_t round = 0; round < rounds; round++) {
        for (size_t t = 0; t < KINDS; t++) {
            for (int again = 0; again < 3; again++) { /* the first ones bring it into the cache */
                const double start = bench_seconds();
                size_t count;
                if (msae_encode(&models[t], workspace, x + round % 16 * d, FEW, codes, &count) !=
                    MSAE_OK) {
                    return bench_fail("one row", "NaN or Inf");
                }
                times[t][round] = bench_seconds() - start;
            }
        }
    }
    if (!options->json) printf("\nOne row, k %d, one thread; a file used where it lies\n", FEW);
    for (size_t t = 0; t < KINDS; t++) {
        for (size_t round = 0; round < rounds; round++) {
            msae_model mapped;
            const double start = bench_seconds();
            if (msae_map(&mapped, files[t], bytes[t], NULL, &error) != MSAE_OK) {
                return bench_fail("map", error.message);
            }
            maps[round] = bench_seconds() - start;
            ratios[round] = times[0][round] / times[t][round];
        }
        const double ratio = bench_median(ratios, rounds), map = bench_median(maps, rounds);
        double sorted[BENCH_MAX_ROUNDS];
        memcpy(sorted, times[t], rounds * sizeof *sorted);
        const double p50 = bench_median(sorted, rounds);
        if (options->json) {
            printf("{\"bench\":\"small\",\"weights\":\"%s\",\"bytes\":%zu,\"p50_us\":%.2f,"
                   "\"ratio\":%.3f,\"map_us\":%.2f}\n",
                   msae_enum_name(MSAE_ENUM_DTYPE, (int)types[t]), bytes[t], p50 * 1e6, ratio,
                   map * 1e6);
        } else {
            printf("%6s %10.1f us %6.2f x %10zu bytes, in place in %.1f us\n",
                   msae_enum_name(MSAE_ENUM_DTYPE, (int)types[t]), p50 * 1e6, ratio, bytes[t],
                   map * 1e6);
        }
    }
    for (size_t t = 0; t < KINDS; t++) {
        msae_model_free(&models[t]);
        free(files[t]);
    }
    free(workspace);
    free(x);
    return 0;
}

/* Loading, beside reading the same file into memory. */
static int bench_load(const msae_model *model, const bench_options *options) {
    static double loads[BENCH_MAX_ROUNDS], reads[BENCH_MAX_ROUNDS], ratios[BENCH_MAX_ROUNDS];
    const size_t rounds = msae__min(options->rounds, 15);
    char path[] = "/tmp/bench_model_XXXXXX";
    const int descriptor = mkstemp(path);
    msae_error error;
    int failed = 0;
    if (descriptor < 0) return bench_fail(path, "cannot be created");
    close(descriptor);
    if (msae_save_file(model, path, &error) != MSAE_OK) failed = bench_fail(path, error.message);
    for (size_t round = 0; round < rounds && !failed; round++) {
        double start = bench_seconds();
        FILE *file = fopen(path, "rb");
        msae_model loaded;
        long size;
        void *bytes;
        if (!file) {
            failed = bench_fail(path, "cannot be opened");
            break;
        }
        fseek(file, 0, SEEK_END);
        size = ftell(file);
        rewind(file);
        bytes = malloc((size_t)size);
        if (!bytes || fread(bytes, 1, (size_t)size, file) != (size_t)size) failed = 1;
        fclose(file);
        free(bytes);
        reads[round] = bench_seconds() - start;
        start = bench_seconds();
        if (msae_load_file(&loaded, path, NULL, &error) != MSAE_OK) {
            failed = bench_fail(path, error.message);
            break;
        }
        loads[round] = bench_seconds() - start;
        ratios[round] = loads[round] / reads[round];
        msae_model_free(&loaded);
    }
    remove(path);
    if (failed) return 1;
    if (options->json) {
        printf("{\"bench\":\"load\",\"load_ms\":%.3f,\"read_ms\":%.3f,\"ratio\":%.3f}\n",
               bench_median(loads, rounds) * 1e3, bench_median(reads, rounds) * 1e3,
               bench_median(ratios, rounds));
    } else {
        printf("\nLoading the model: %.2f ms; reading its file alone: %.2f ms (%.2f x)\n",
               bench_median(loads, rounds) * 1e3, bench_median(reads, rounds) * 1e3,
               bench_median(ratios, rounds));
    }
    return 0;
}

/* Peak resident memory of a process of its own that trains two steps, beyond what it held before
   the trainer came. */
static int bench_memory(const bench_options *options, size_t batch) {
    const size_t n = options->latents, d = options->inputs, rows = 2 * batch;
    const double parameters = 4.0 * (2.0 * (double)n * (double)d) * sizeof(float);
    double both[2];
    int ends[2];
    if (pipe(ends) != 0) return bench_fail("memory", "no pipe");
    fflush(stdout);
    if (fork() == 0) {
        float *x = bench_random(rows * d, 9);
        msae_trainer trainer;
        msae_train_desc desc;
        msae_pool *pool;
        struct rusage usage;
        if (msae_pool_create(&pool, options->threads, NULL) != MSAE_OK) _exit(1);
        memset(&desc, 0, sizeof desc);
        desc.model.n_inputs = d;
        desc.model.n_latents = n;
        desc.model.host.simd = options->simd;
        desc.model.host.parallel = msae_pool_parallel(pool);
        desc.batch = batch;
        getrusage(RUSAGE_SELF, &usage);
        both[0] = (double)usage.ru_maxrss;
        if (msae_trainer_init(&trainer, &desc, NULL) != MSAE_OK) _exit(1);
        for (size_t i = 0; i < 2; i++) {
            if (msae_trainer_step(&trainer, x + i * batch * d, batch, NULL, NULL) != MSAE_OK) {
                _exit(1);
            }
        }
        getrusage(RUSAGE_SELF, &usage);
        both[1] = (double)usage.ru_maxrss;
        if (write(ends[1], both, sizeof both) != (ssize_t)sizeof both) _exit(1);
        _exit(0);
    }
    close(ends[1]);
    if (read(ends[0], both, sizeof both) != (ssize_t)sizeof both) {
        return bench_fail("memory", "the training process failed");
    }
    close(ends[0]);
    wait(NULL);
    if (options->json) {
        printf("{\"bench\":\"memory\",\"batch\":%zu,\"peak_mb\":%.1f,\"parameters_mb\":%.1f}\n",
               batch, (both[1] - both[0]) / 1024, parameters / 1048576);
    } else {
        printf(
            "Training, %zu rows a batch: %.0f MB beyond the data = %.0f for parameters, gradients "
            "and moments + %.0f\n",
            batch, (both[1] - both[0]) / 1024, parameters / 1048576,
            (both[1] - both[0]) / 1024 - parameters / 1048576);
    }
    return 0;
}

int main(int argc, char **argv) {
    static const size_t sizes[] = {1, 8, 64, 1024};
    bench_options options;
    msae_model_desc desc;
    msae_model model;
    msae_parallel parallel;
    msae_pool *pool;
    msae_error error;
    bench_machine machine;
    double peak;
    memset(&options, 0, sizeof options);
    options.latents = 4096;
    options.inputs = 512;
    options.threads = 2;
    options.rounds = 200;
    if (bench_parse(&options, argc, argv)) return 2;
    if (msae_pool_create(&pool, options.threads, &error) != MSAE_OK) {
        return bench_fail("threads", error.message);
    }
    parallel = msae_pool_parallel(pool);
    memset(&desc, 0, sizeof desc);
    desc.n_inputs = options.inputs;
    desc.n_latents = options.latents;
    desc.host.simd = options.simd;
    desc.host.parallel = parallel;
    if (msae_model_init(&model, &desc, &error) != MSAE_OK) {
        return bench_fail("model", error.message);
    }
    machine = bench_machine_for(options.simd);
    peak = bench_peak(&machine, &parallel);
    if (!options.json) {
        printf("Encoding, d %zu, n %zu, k %d, %zu threads; one row's floor: reading the encoder\n"
               "%6s %13s %13s %13s %10s %10s\n",
               options.inputs, options.latents, K, options.threads, "rows", "p50", "p99", "floor",
               "of floor", "rows/s");
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (bench_rows(&model, sizes[i], &options, &parallel, peak)) return 1;
    }
    if (bench_small(&model, &options) || bench_load(&model, &options)) return 1;
    msae_model_free(&model);
    msae_pool_free(pool);
    return bench_memory(&options, 1024) || bench_memory(&options, 4096);
}
