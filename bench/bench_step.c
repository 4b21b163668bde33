/* Training steps: how long a whole step takes for every recipe, beside its floor; how one step of a
   recipe divides into phases, each beside the least time that its arithmetic or its memory traffic
   needs; and what more threads bring. Options: --recipe NAME, --latents N, --inputs D, --batch B,
   --threads T, --rounds R, --simd PATH, --data FILE.npy, --json, --brief (whole steps alone).
   Without --data the rows are random ones with the spread of real embeddings; rows of data that are
   shorter than --inputs go on with the next row's numbers. */
#include "bench.h"

/* The parallel loops of a step by what they do. The trainer hands its loops to the function of the
   descriptor: that is where they are timed. */
typedef enum phase { LOAD, PRODUCT, SELECT, DECODE, GRADIENTS, UPDATE, SERIAL, PHASES } phase;

static const char *const phase_names[] = {"load rows",        "encoder product", "selection",
                                          "decode and loss",  "gradients",       "update",
                                          "between the loops"};

typedef struct timer {
    msae_parallel inner;
    double seconds[PHASES];
} timer;

static phase phase_of(msae_task task) {
    if (task == msae__load_row_task) return LOAD;
    if (task == msae__matmul_task || task == msae__pack_task) return PRODUCT;
    if (task == msae__select_task || task == msae__count_candidates_task ||
        task == msae__write_candidates_task) {
        return SELECT;
    }
    if (task == msae__decode_task || task == msae__loss_task) return DECODE;
    if (task == msae__gradient_task || task == msae__encoder_bias_task) return GRADIENTS;
    if (task == msae__measure_task || task == msae__adam_task) return UPDATE;
    return SERIAL;
}

static void timed_for(void *user, size_t tasks, msae_task task, void *context) {
    timer *t = (timer *)user;
    const double start = bench_seconds();
    if (t->inner.parallel_for) {
        t->inner.parallel_for(t->inner.user, tasks, task, context);
    } else {
        for (size_t i = 0; i < tasks; i++) task(context, i, 0);
    }
    t->seconds[phase_of(task)] += bench_seconds() - start;
}

typedef struct run {
    msae_trainer trainer;
    msae_step_stats stats;
    timer timer;
    double step[BENCH_MAX_ROUNDS], gradients[BENCH_MAX_ROUNDS];
    double phases[PHASES][BENCH_MAX_ROUNDS];
} run;

/* Rows with the spread of real embeddings: a few strong directions and many weak ones. */
static msae_data random_rows(size_t rows, size_t inputs) {
    float *x = bench_random(rows * inputs, 1), *more = bench_random(rows * inputs, 2);
    msae_data data = msae_data_view(x, rows, inputs);
    for (size_t i = 0; i < rows * inputs; i++) {
        x[i] = (x[i] + more[i]) / (1 + 0.05f * (float)(i % inputs));
    }
    free(more);
    data.owned = x; /* so that msae_data_free gives it back */
    data.owned_bytes = rows * inputs * sizeof *x;
    return data;
}

/* Rows of `inputs` numbers from shorter ones: each goes on with its successor's. */
static void widen(msae_data *data, size_t inputs) {
    const size_t cols = data->cols, rows = data->rows;
    float *x = (float *)bench_alloc(rows * inputs * sizeof *x);
    float *row = (float *)bench_alloc(cols * sizeof *row);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < inputs; c += cols) {
            msae_data_read(data, (r + c / cols) % rows, 1, row);
            memcpy(x + r * inputs + c, row, msae__min(cols, inputs - c) * sizeof *x);
        }
    }
    free(row);
    msae_data_free(data);
    *data = msae_data_view(x, rows, inputs);
    data->owned = x;
    data->owned_bytes = rows * inputs * sizeof *x;
}

static int init(run *r, msae_recipe recipe, const bench_options *options, const msae_data *data,
                msae_parallel parallel) {
    const msae_source source = msae_source_data(data);
    msae_train_desc desc;
    msae_error error;
    memset(&desc, 0, sizeof desc);
    desc.model.n_inputs = data->cols;
    desc.model.n_latents = options->latents;
    desc.model.recipe = recipe;
    desc.model.host.simd = options->simd;
    desc.model.host.parallel.parallel_for = timed_for;
    desc.model.host.parallel.user = &r->timer;
    /* a single worker is not handed to the hook: two of them, one after the other, are timed */
    desc.model.host.parallel.workers = parallel.workers > 1 ? parallel.workers : 2;
    desc.batch = options->batch;
    r->timer.inner = parallel;
    if (msae_trainer_init(&r->trainer, &desc, &error) != MSAE_OK ||
        msae_trainer_statistics(&r->trainer, &source, &error) != MSAE_OK) {
        return bench_fail(msae_enum_name(MSAE_ENUM_RECIPE, (int)recipe), error.message);
    }
    return 0;
}

static int step(run *r, const msae_data *data, const size_t *index, size_t rows, size_t round) {
    const double start = bench_seconds();
    double middle, inside = 0;
    msae_error error;
    memset(r->timer.seconds, 0, sizeof r->timer.seconds);
    if (msae_trainer_gradients(&r->trainer, data, index, rows, &r->stats, &error) != MSAE_OK) {
        return bench_fail("gradients", error.message);
    }
    middle = bench_seconds();
    if (msae_trainer_update(&r->trainer, &r->stats, &error) != MSAE_OK) {
        return bench_fail("update", error.message);
    }
    r->gradients[round] = middle - start;
    r->step[round] = bench_seconds() - start;
    for (int p = 0; p < SERIAL; p++) {
        inside += r->timer.seconds[p];
        r->phases[p][round] = r->timer.seconds[p];
    }
    r->phases[SERIAL][round] = r->step[round] - inside;
    return 0;
}

/* Floating-point operations of a step: encoder product, then for each kept latent its part in the
   decode, in dz and in both weight gradients. */
static double product_flops(const run *r, size_t rows) {
    return 2.0 * (double)rows * (double)r->trainer.model.n_latents *
           (double)r->trainer.model.n_inputs;
}

static double sparse_flops(const run *r, size_t rows) {
    return 2.0 * r->stats.l0 * (double)rows * (double)r->trainer.model.n_inputs;
}

static void print_step(run *r, const bench_options *options, double peak) {
    const double seconds = bench_median(r->step, options->rounds);
    const double gradients = bench_median(r->gradients, options->rounds);
    const double flops = product_flops(r, options->batch) + 4 * sparse_flops(r, options->batch);
    const double floor = flops / (peak * 1e9);
    const char *name = msae_enum_name(MSAE_ENUM_RECIPE, (int)r->trainer.model.recipe);
    if (options->json) {
        printf("{\"bench\":\"step\",\"recipe\":\"%s\",\"inputs\":%zu,\"latents\":%zu,"
               "\"batch\":%zu,\"threads\":%zu,\"simd\":\"%s\",\"step_ms\":%.3f,"
               "\"gradients_ms\":%.3f,\"update_ms\":%.3f,\"rows_per_s\":%.1f,\"l0\":%.1f,"
               "\"floor_ms\":%.3f}\n",
               name, r->trainer.model.n_inputs, r->trainer.model.n_latents, options->batch,
               options->threads, msae_enum_name(MSAE_ENUM_SIMD, (int)r->trainer.model.simd),
               seconds * 1e3, gradients * 1e3, (seconds - gradients) * 1e3,
               (double)options->batch / seconds, r->stats.l0, floor * 1e3);
    } else {
        printf("%-10s %9.1f %9.1f %9.1f %9.0f %7.0f %9.1f %7.2f x\n", name, gradients * 1e3,
               (seconds - gradients) * 1e3, seconds * 1e3, (double)options->batch / seconds,
               r->stats.l0, floor * 1e3, seconds / floor);
    }
    fflush(stdout);
}

/* What a phase can do at most: multiply-adds from registers, multiply-adds with a load for each
   (GFLOP/s), bytes from a cache and from memory (GB/s). */
typedef struct limits {
    double peak, loads, cache, memory;
} limits;

static void print_phases(run *r, const bench_options *options, const msae_data *data,
                         const limits *most) {
    const msae_model *model = &r->trainer.model;
    const double rows = (double)options->batch, n = (double)model->n_latents;
    const double d = (double)model->n_inputs, whole = bench_median(r->step, options->rounds);
    const double sparse = sparse_flops(r, options->batch);
    double floors[PHASES] = {0}, loads[PHASES] = {0};
    floors[LOAD] = rows * d * (double)msae_dtype_bytes(data->dtype) / (most->memory * 1e9);
    floors[PRODUCT] = product_flops(r, options->batch) / (most->peak * 1e9);
    floors[SELECT] = rows * n * 4 / (most->cache * 1e9); /* the pre-activations, read once */
    floors[DECODE] = sparse / (most->peak * 1e9);
    floors[GRADIENTS] = 3 * sparse / (most->peak * 1e9);
    /* a multiply-add of a sparse sum loads a vector of its row; dz and the decoder's gradient, which
       read the same one, share it */
    loads[DECODE] = sparse / (most->loads * 1e9);
    loads[GRADIENTS] = 2 * sparse / (most->loads * 1e9);
    /* first pass: the decoder and both gradients; second: parameters, gradients and moments in,
       parameters and moments out */
    floors[UPDATE] = (3 + 2 * 7) * n * d * 4 / (most->memory * 1e9);
    if (!options->json) {
        printf("\n%s by phases: milliseconds; floor: the least that the arithmetic at peak or the\n"
               "memory traffic at full bandwidth needs; loads: that of the loads from the first "
               "level\n"
               "%-18s %9s %9s %8s %9s %7s\n",
               msae_enum_name(MSAE_ENUM_RECIPE, (int)model->recipe), "phase", "measured", "floor",
               "ratio", "loads", "share");
    }
    for (int p = 0; p < PHASES; p++) {
        const double seconds = bench_median(r->phases[p], options->rounds);
        if (options->json) {
            printf("{\"bench\":\"phase\",\"recipe\":\"%s\",\"phase\":\"%s\",\"ms\":%.3f,"
                   "\"floor_ms\":%.3f,\"loads_ms\":%.3f,\"share\":%.4f}\n",
                   msae_enum_name(MSAE_ENUM_RECIPE, (int)model->recipe), phase_names[p],
                   seconds * 1e3, floors[p] * 1e3, loads[p] * 1e3, seconds / whole);
            continue;
        }
        printf("%-18s %9.2f ", phase_names[p], seconds * 1e3);
        if (floors[p] > 0) {
            printf("%9.2f %6.2f x ", floors[p] * 1e3, seconds / floors[p]);
        } else {
            printf("%18s ", "");
        }
        if (loads[p] > 0) {
            printf("%9.2f ", loads[p] * 1e3);
        } else {
            printf("%9s ", "");
        }
        printf("%5.1f %%\n", 100 * seconds / whole);
    }
}

int main(int argc, char **argv) {
    const msae_parallel alone = {NULL, NULL, 1};
    static run runs[MSAE_RECIPE_COUNT], single;
    static double peaks[BENCH_MAX_ROUNDS], loads[BENCH_MAX_ROUNDS], ratios[BENCH_MAX_ROUNDS];
    bench_options options;
    bench_machine machine;
    msae_parallel parallel;
    msae_data data;
    msae_pool *pool;
    msae_error error;
    msae_recipe detailed = MSAE_RECIPE_MSAE_UW;
    limits most;
    size_t *index;
    memset(&options, 0, sizeof options);
    options.latents = 4096;
    options.batch = 1024;
    options.threads = 2;
    options.rounds = 7;
    if (bench_parse(&options, argc, argv)) return 2;
    if (!options.data) {
        data = random_rows(4 * options.batch, options.inputs ? options.inputs : 512);
    } else if (msae_data_load(&data, msae_from_file(options.data), NULL, NULL, &error) != MSAE_OK) {
        return bench_fail(options.data, error.message);
    } else if (options.inputs && options.inputs < data.cols) {
        return bench_fail("--inputs", "fewer than the data has");
    } else if (options.inputs > data.cols) {
        widen(&data, options.inputs);
    }
    if (options.recipe) {
        const int recipe = msae_enum_value(MSAE_ENUM_RECIPE, options.recipe);
        if (recipe <= 0) return bench_fail(options.recipe, "no such recipe");
        detailed = (msae_recipe)recipe;
    }
    if (msae_pool_create(&pool, options.threads, &error) != MSAE_OK) {
        return bench_fail("threads", error.message);
    }
    parallel = msae_pool_parallel(pool);
    options.threads = parallel.workers;
    machine = bench_machine_for(options.simd);
    index = (size_t *)bench_alloc(options.batch * sizeof *index);
    for (int k = 1; k < MSAE_RECIPE_COUNT; k++) {
        if (options.recipe && k != (int)detailed) continue;
        if (init(&runs[k], (msae_recipe)k, &options, &data, parallel)) return 1;
    }
    if (!options.brief && init(&single, detailed, &options, &data, alone)) return 1;
    for (size_t round = 0; round < options.rounds + 2; round++) { /* two to warm up */
        const size_t at = round < 2 ? 0 : round - 2;
        for (size_t i = 0; i < options.batch; i++) {
            index[i] = (round * options.batch + i) % data.rows;
        }
        for (int k = 1; k < MSAE_RECIPE_COUNT; k++) {
            if (!runs[k].trainer.memory) continue;
            if (step(&runs[k], &data, index, options.batch, at)) return 1;
        }
        peaks[at] = bench_peak(&machine, &parallel);
        loads[at] = bench_load_peak(&machine, &parallel);
        if (options.brief) continue;
        if (step(&single, &data, index, options.batch, at)) return 1;
        ratios[at] = single.step[at] / runs[detailed].step[at];
    }
    most.peak = bench_median(peaks, options.rounds);
    most.loads = bench_median(loads, options.rounds);
    if (!options.json) {
        printf("Training steps, d %zu, n %zu, %zu rows, %zu threads, %s; medians of %zu rounds in "
               "turns\nmultiply-adds %.0f GFLOP/s at most, %.0f with a load for each\n\n%-10s %9s "
               "%9s %9s %9s %7s %9s %9s\n",
               data.cols, options.latents, options.batch, options.threads,
               msae_enum_name(MSAE_ENUM_SIMD, (int)msae__kernels_for(options.simd)->simd),
               options.rounds, most.peak, most.loads, "recipe", "gradients", "update", "step ms",
               "rows/s", "l0", "floor", "ratio");
    }
    for (int k = 1; k < MSAE_RECIPE_COUNT; k++) {
        if (runs[k].trainer.memory) print_step(&runs[k], &options, most.peak);
    }
    if (!options.brief) {
        const double over_one = bench_median(ratios, options.rounds);
        most.memory = bench_bandwidth(&machine, &parallel, (size_t)256 << 20);
        most.cache = bench_bandwidth(&machine, &parallel, (size_t)512 << 10);
        print_phases(&runs[detailed], &options, &data, &most);
        if (options.json) {
            printf("{\"bench\":\"threads\",\"threads\":%zu,\"over_one\":%.3f}\n", options.threads,
                   over_one);
        } else {
            printf("\n%zu threads over one, %s: %.2f times as fast\n", options.threads,
                   msae_enum_name(MSAE_ENUM_RECIPE, (int)detailed), over_one);
        }
    }
    for (int k = 1; k < MSAE_RECIPE_COUNT; k++) msae_trainer_free(&runs[k].trainer);
    msae_trainer_free(&single.trainer);
    free(index);
    msae_data_free(&data);
    msae_pool_free(pool);
    return 0;
}
