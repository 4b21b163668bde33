/* Trains grids of recipes, several at once, and measures each on rows that none was trained on.

       build/bench/recipes DATA GRID FOLDER [--train ROWS] [--latents N] [--epochs E] [--batch B]
           [--seeds S] [--threads T] [--groups TSV --leave-out NAME,..] [--shuffle] [--cost]

   A grid has a line for each recipe: a name, then key=value (keys.h lists them). The first ROWS rows
   of DATA are for training (without --train five in six), the others for measuring; rows whose first
   column in TSV is one of the names are a set of their own, to measure what happens on other data.
   FOLDER/results.tsv keeps what was measured, so that a grid that was cut goes on where it stood;
   FOLDER/table.md and FOLDER/fvu.svg show it. --cost only compares the speed of the first two lines,
   epoch by epoch in turns. */
#include "../bench.h"

#include "../../examples/tool/alignment.c"
#include "../../examples/tool/bytes.c"

#include <math.h>

enum { MAX_LINES = 200, MAX_SEEDS = 16, MAX_KS = 16, LINE_BYTES = 512 };
enum { LEAST_ROWS = 20 }; /* of a latent, for its rows to tell whether they are of one kind */
enum { REFINEMENTS = 3, MOST_REFINED = 256 }; /* the largest k at which codes are refined too */

/* What stands for refined codes in results: values alone, one exchange, three. */
static const size_t refinements[REFINEMENTS] = {0, 1, 3};

typedef struct grid_line {
    char name[64], options[LINE_BYTES];
    size_t seeds;
} grid_line;

/* What was measured of one run, at each k of the sweep. */
typedef struct result {
    int is_there;
    size_t n_ks, ks[MAX_KS];
    double fvu[MAX_KS], cosine[MAX_KS], other[MAX_KS]; /* other: fvu of the set left out */
    double refined[MAX_KS][REFINEMENTS];               /* fvu of refined codes; 0: not measured */
    double other_refined[MAX_KS][REFINEMENTS];
    double dead;     /* share of latents that are dead over DATA at k = 64 */
    double frequent; /* latents that are active on 0.1 % of DATA and more at k = 64; NaN: .. */
    double monosemanticity; /* .. and the mean of those on 20 rows and more; NaN: not measured */
    double revived;         /* latents */
    double smallest;        /* k with cosine 0.99 and fvu below 0.1; 0: none */
    double seconds;
} result;

typedef struct job {
    const char *data_path, *grid_path, *folder, *groups, *leave_out;
    size_t train_rows, latents, epochs, batch, seeds, threads;
    int shuffles, cost;
    msae_data all, train, held, other;
    float *values; /* of all three, one after the other */
    grid_line lines[MAX_LINES];
    size_t n_lines;
    result results[MAX_LINES][MAX_SEEDS];
    FILE *log;
} job;

static void fail(const char *what, const char *message) {
    fprintf(stderr, "recipes: %s: %s\n", what, message);
    exit(1);
}

static void check(msae_status status, const char *what, const msae_error *error) {
    if (status != MSAE_OK) fail(what, error->message);
}

#include "keys.h"
#include "revival.h"
#include "levers.h"
#include "output.h"

/* ---------------------------------------------------------------------------------------------
   Data: training rows, held-out rows, rows of other sets
   ------------------------------------------------------------------------------------------ */

/* 1 for each row whose first column is among the names. */
static char *rows_left_out(const job *j, size_t rows) {
    char *left = (char *)calloc(rows, 1), line[65536];
    FILE *file;
    if (!left) fail("memory", "there is not enough");
    if (!j->groups) return left;
    file = fopen(j->groups, "r");
    if (!file || !fgets(line, sizeof line, file)) fail(j->groups, "cannot be read");
    for (size_t r = 0; r < rows; r++) {
        char wanted[1024], name[1024];
        if (!fgets(line, sizeof line, file)) fail(j->groups, "has fewer rows than the data");
        snprintf(name, sizeof name, ",%.*s,", (int)strcspn(line, "\t\r\n"), line);
        snprintf(wanted, sizeof wanted, ",%s,", j->leave_out ? j->leave_out : "");
        left[r] = strstr(wanted, name) != NULL;
    }
    fclose(file);
    return left;
}

static void load(job *j) {
    msae_error error;
    msae_data data;
    msae_source source;
    msae_stream_desc stream_desc;
    msae_stream stream;
    msae_batch order;
    size_t rows, cols, counts[3] = {0, 0, 0};
    char *left;
    check(msae_data_load(&data, msae_from_file(j->data_path), NULL, NULL, &error), j->data_path,
          &error);
    check(msae_data_check(&data, &error), j->data_path, &error);
    rows = data.rows;
    cols = data.cols;
    left = rows_left_out(j, rows);
    for (size_t r = 0; r < rows; r++) counts[2] += (size_t)left[r];
    counts[0] = j->train_rows ? j->train_rows : (rows - counts[2]) * 5 / 6;
    if (counts[0] + counts[2] >= rows) fail("--train", "leaves no rows to measure");
    counts[1] = rows - counts[2] - counts[0];
    j->values = (float *)bench_alloc(rows * cols * sizeof *j->values);
    /* files that are sorted in some way are shuffled, always in the same way */
    source = msae_source_data(&data);
    memset(&stream_desc, 0, sizeof stream_desc);
    stream_desc.batch = rows;
    stream_desc.seed = 1;
    check(msae_stream_init(&stream, &source, &stream_desc, NULL, &error), "memory", &error);
    check(msae_stream_next(&stream, &order, &error), j->data_path, &error);
    for (size_t r = 0, next[3] = {0, counts[0], counts[0] + counts[1]}; r < rows; r++) {
        const size_t from = j->shuffles ? order.index[r] : r;
        const int part = left[from] ? 2 : next[0] < counts[0] ? 0 : 1;
        msae_data_read(&data, from, 1, j->values + next[part]++ * cols);
    }
    msae_stream_free(&stream);
    msae_data_free(&data);
    free(left);
    j->all = msae_data_view(j->values, rows, cols);
    j->train = msae_data_view(j->values, counts[0], cols);
    j->held = msae_data_view(j->values + counts[0] * cols, counts[1], cols);
    j->other = msae_data_view(j->values + (counts[0] + counts[1]) * cols, counts[2], cols);
}

/* ---------------------------------------------------------------------------------------------
   One run
   ------------------------------------------------------------------------------------------ */

static void evaluate(const msae_model *model, const msae_data *data, const msae_eval_desc *desc,
                     size_t room, msae_metrics *metrics) {
    msae_error error;
    check(msae_evaluate(model, data, desc, room, metrics, NULL, &error), "evaluate", &error);
}

/* The smallest k with a cosine of 0.99 and an fvu below 0.1, of some forty. */
static double smallest_k(const msae_model *model, const msae_data *held) {
    size_t ks[40], count = 0;
    msae_metrics metrics[40];
    msae_eval_desc desc = {0};
    for (double k = 16; k < (double)model->n_latents && count < 40; k *= 1.125) {
        ks[count++] = (size_t)k;
    }
    desc.ks = ks;
    desc.n_ks = count;
    evaluate(model, held, &desc, sizeof metrics / sizeof *metrics, metrics);
    for (size_t i = 0; i < count; i++) {
        if (metrics[i].cs >= 0.99 && metrics[i].fvu_row < 0.1) return (double)ks[i];
    }
    return 0;
}

/* fvu of refined codes at each k that is not too large for them. */
static void measure_refined(const msae_model *model, const msae_data *data, const result *r,
                            double out[MAX_KS][REFINEMENTS]) {
    msae_model refining = *model; /* shares the arrays */
    for (size_t i = 0; i < r->n_ks && r->ks[i] <= MOST_REFINED; i++) {
        for (size_t f = 0; f < REFINEMENTS; f++) {
            msae_metrics metrics;
            msae_eval_desc desc = {0};
            desc.ks = &r->ks[i];
            desc.n_ks = 1;
            refining.refine = 1 + (int)refinements[f];
            evaluate(&refining, data, &desc, 1, &metrics);
            out[i][f] = metrics.fvu_row;
        }
    }
}

/* How many latents do their part, and whether each has rows of one kind (msae_score_latents). */
static void measure_latents(const job *j, const msae_model *model, result *r) {
    const size_t n = model->n_latents;
    const msae_source source = msae_source_data(&j->all);
    msae_score *scores = (msae_score *)bench_alloc(n * sizeof *scores);
    msae_score_desc desc;
    msae_error error;
    double sum = 0;
    size_t count = 0;
    memset(&desc, 0, sizeof desc);
    desc.k = n < 64 ? n : 64;
    desc.no_companions = 1;
    check(msae_score_latents(model, &source, &desc, scores, NULL, &error), "score", &error);
    r->frequent = 0;
    for (size_t i = 0; i < n; i++) {
        r->frequent += scores[i].frequency >= 0.001;
        if (scores[i].rows < LEAST_ROWS || isnan(scores[i].monosemanticity)) continue;
        sum += scores[i].monosemanticity;
        count++;
    }
    r->monosemanticity = sum / (double)count;
    free(scores);
}

static void measure(const job *j, const grid_line *line, const msae_model *model, result *r) {
    const size_t n = model->n_latents, at_64 = n < 64 ? n : 64;
    msae_metrics metrics[MSAE_MAX_LEVELS];
    msae_eval_desc desc = {0};
    desc.ks = r->ks;
    r->n_ks = 0;
    for (size_t k = 16; k <= n && r->n_ks + 2 < MAX_KS; k *= 2) { /* and the 20 % of the abstract */
        r->ks[r->n_ks++] = k;
        if (k < n / 5 && 2 * k > n / 5) r->ks[r->n_ks++] = (n + 4) / 5;
    }
    if (r->n_ks == 0 || r->ks[r->n_ks - 1] != n) r->ks[r->n_ks++] = n;
    desc.n_ks = r->n_ks;
    evaluate(model, &j->held, &desc, sizeof metrics / sizeof *metrics, metrics);
    for (size_t i = 0; i < r->n_ks; i++) {
        r->fvu[i] = metrics[i].fvu_row;
        r->cosine[i] = metrics[i].cs;
        r->other[i] = 0;
    }
    if (j->other.rows > 0) {
        evaluate(model, &j->other, &desc, sizeof metrics / sizeof *metrics, metrics);
        for (size_t i = 0; i < r->n_ks; i++) r->other[i] = metrics[i].fvu_row;
    }
    if (key_number(line, "refine", 0) > 0) {
        measure_refined(model, &j->held, r, r->refined);
        if (j->other.rows > 0) measure_refined(model, &j->other, r, r->other_refined);
    }
    desc.ks = &at_64;
    desc.n_ks = 1;
    evaluate(model, &j->all, &desc, sizeof metrics / sizeof *metrics, metrics);
    r->dead = (double)metrics[0].ndn / (double)n;
    measure_latents(j, model, r);
    r->smallest = smallest_k(model, &j->held);
}

static msae_train_desc describe(const job *j, const grid_line *line, size_t seed, levers *l) {
    msae_train_desc desc;
    memset(&desc, 0, sizeof desc);
    memset(l, 0, sizeof *l);
    desc.model.n_inputs = j->train.cols;
    desc.model.n_latents = j->latents;
    desc.model.seed = seed;
    desc.epochs = j->epochs;
    desc.batch = j->batch;
    read_keys(line, &desc, l);
    return desc;
}

static void model_path(const job *j, const grid_line *line, size_t seed, char *path, size_t room) {
    snprintf(path, room, "%s/%s-%zu.safetensors", j->folder, line->name, seed);
}

static void run_one(job *j, size_t line_index, size_t seed) {
    const grid_line *line = &j->lines[line_index];
    result *r = &j->results[line_index][seed];
    levers l;
    msae_train_desc desc = describe(j, line, seed, &l);
    msae_trainer trainer;
    msae_error error;
    char path[1024];
    check(msae_trainer_init(&trainer, &desc, &error), line->name, &error);
    r->seconds = bench_seconds();
    train_with(&trainer, &j->train, &l);
    r->seconds = bench_seconds() - r->seconds;
    r->revived = (double)trainer.revived;
    measure(j, line, &trainer.model, r);
    model_path(j, line, seed, path, sizeof path);
    check(msae_save_file(&trainer.model, path, &error), path, &error);
    msae_trainer_free(&trainer);
    r->is_there = 1;
}

static void run_task(void *context, size_t task, size_t worker) {
    job *j = (job *)context;
    const size_t line = task / MAX_SEEDS, seed = task % MAX_SEEDS;
    (void)worker;
    if (seed >= j->lines[line].seeds || j->results[line][seed].is_there) return;
    run_one(j, line, seed);
    flockfile(j->log);
    write_result(j->log, &j->lines[line], seed, &j->results[line][seed]);
    printf("%-24s seed %zu  %6.1f s ", j->lines[line].name, seed, j->results[line][seed].seconds);
    for (size_t i = 0; i < j->results[line][seed].n_ks; i++) {
        printf(" %.4f", j->results[line][seed].fvu[i]);
    }
    printf("  dead %.2f %%\n", 100 * j->results[line][seed].dead);
    fflush(stdout);
    funlockfile(j->log);
}

/* ---------------------------------------------------------------------------------------------
   Cost: two recipes epoch by epoch, in turns, on one thread
   ------------------------------------------------------------------------------------------ */

static int stop_at_epoch(const msae_progress *progress, void *user) {
    (void)user;
    return progress->step + 1 == progress->steps && progress->epoch + 1 < progress->epochs;
}

static void compare_cost(const job *j) {
    double ratios[BENCH_MAX_ROUNDS], totals[2] = {0, 0};
    const msae_source source = msae_source_data(&j->train);
    msae_trainer trainers[2];
    msae_error error;
    size_t count = 0;
    if (j->n_lines < 2) fail("--cost", "needs two lines");
    for (size_t i = 0; i < 2; i++) {
        levers l;
        msae_train_desc desc = describe(j, &j->lines[i], 0, &l);
        check(msae_trainer_init(&trainers[i], &desc, &error), j->lines[i].name, &error);
        check(msae_trainer_statistics(&trainers[i], &source, &error), j->lines[i].name, &error);
    }
    while (count < trainers[0].desc.epochs && count < BENCH_MAX_ROUNDS) {
        double seconds[2];
        for (size_t i = 0; i < 2; i++) {
            const size_t which = (count + i) % 2;
            const double start = bench_seconds();
            const msae_status status =
                msae_trainer_fit(&trainers[which], &source, NULL, stop_at_epoch, NULL, &error);
            if (status != MSAE_ERROR_STOPPED) check(status, j->lines[which].name, &error);
            seconds[which] = bench_seconds() - start;
            totals[which] += seconds[which];
        }
        ratios[count++] = seconds[0] / seconds[1];
    }
    printf("{\"bench\":\"recipe_cost\",\"recipe\":\"%s\",\"against\":\"%s\",\"epochs\":%zu,"
           "\"rows_per_s\":%.0f,\"against_rows_per_s\":%.0f,\"median_time_ratio\":%.3f}\n",
           j->lines[0].name, j->lines[1].name, count, (double)(j->train.rows * count) / totals[0],
           (double)(j->train.rows * count) / totals[1], bench_median(ratios, count));
    for (size_t i = 0; i < 2; i++) msae_trainer_free(&trainers[i]);
}

/* ---------------------------------------------------------------------------------------------
   The whole grid
   ------------------------------------------------------------------------------------------ */

static void parse(job *j, int argc, char **argv) {
    const char **texts[] = {&j->data_path, &j->grid_path, &j->folder};
    size_t given = 0;
    for (int i = 1; i < argc; i++) {
        size_t *number = strcmp(argv[i], "--train") == 0     ? &j->train_rows
                         : strcmp(argv[i], "--latents") == 0 ? &j->latents
                         : strcmp(argv[i], "--epochs") == 0  ? &j->epochs
                         : strcmp(argv[i], "--batch") == 0   ? &j->batch
                         : strcmp(argv[i], "--seeds") == 0   ? &j->seeds
                         : strcmp(argv[i], "--threads") == 0 ? &j->threads
                                                             : NULL;
        const char **text = strcmp(argv[i], "--groups") == 0      ? &j->groups
                            : strcmp(argv[i], "--leave-out") == 0 ? &j->leave_out
                                                                  : NULL;
        if (strcmp(argv[i], "--shuffle") == 0) {
            j->shuffles = 1;
        } else if (strcmp(argv[i], "--cost") == 0) {
            j->cost = 1;
        } else if (argv[i][0] == '-' && ((!number && !text) || i + 1 == argc)) {
            fail(argv[i], "unknown option, or no value");
        } else if (number) {
            *number = strtoul(argv[++i], NULL, 10);
            if (*number == 0) fail(argv[i], "not a number");
        } else if (text) {
            *text = argv[++i];
        } else {
            if (given == 3) fail(argv[i], "is one argument too many");
            *texts[given++] = argv[i];
        }
    }
    if (given < 3) fail("usage", "recipes DATA GRID FOLDER [--train ROWS ..]");
    if (j->seeds > MAX_SEEDS) fail("--seeds", "too many");
}

int main(int argc, char **argv) {
    static job j;
    msae_pool *pool;
    msae_parallel parallel;
    msae_error error;
    char path[1024];
    j.latents = 2048;
    j.epochs = 12;
    j.batch = 256;
    j.seeds = 1;
    parse(&j, argc, argv);
    read_grid(&j);
    load(&j);
    if (j.cost) {
        compare_cost(&j);
        return 0;
    }
    snprintf(path, sizeof path, "%s/results.tsv", j.folder);
    read_results(&j, path);
    j.log = fopen(path, "a");
    if (!j.log) fail(path, "cannot be written");
    check(msae_pool_create(&pool, j.threads, &error), "threads", &error);
    parallel = msae_pool_parallel(pool);
    parallel.parallel_for(parallel.user, j.n_lines * MAX_SEEDS, run_task, &j);
    msae_pool_free(pool);
    if (fclose(j.log) != 0) fail(path, "cannot be written");
    write_outputs(&j);
    free(j.values);
    return 0;
}
