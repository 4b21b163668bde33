/* msae train: data in, model out. */
#include "tool.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_EXPANSION = 8 };

/* What is given of the hyper-parameters: 0 means not given, MSAE_OFF a given zero. */
#define GIVEN(field, kind, ...) GIVEN_##kind field;
#define GIVEN_COUNT size_t
#define GIVEN_FLOAT float
#define GIVEN_TIMES int
#define GIVEN_CHOICE int /* place in its enum */
typedef struct train_given {
    MSAE_TRAIN_LIST(GIVEN)
} train_given;

typedef struct train_options {
    tool_common common;
    const char *data, *output, *validation, *checkpoint, *resume;
    tool_rest more; /* files of the data */
    train_given given;
    int recipe, activation; /* places in their enums */
    int tied, normalize, geometric_median, in_memory, no_shares, fast;
    size_t latents, k, every, window, shares;
    tool_counts nesting;
    tool_reals weights;
    float expansion, max_norm;
    float soft_cap; /* as given.* */
    uint64_t seed;
} train_options;

typedef struct train_job {
    train_options options;
    const tool_team *team; /* NULL: this process is the only one */
    int leads;             /* writes the files and tells of progress */
    msae_pool *pool;
    tool_rows rows;
    msae_data data; /* the same rows when they are held in memory */
    msae_source source;
    msae_background reader; /* for rows that are not */
    msae_data validation;
    msae_trainer trainer;
    /* progress */
    int status; /* why the callback stopped the run */
    int shows_bar;
    uint64_t kept_step; /* the last one after which a checkpoint was made, or tried */
    double start, last_drawn;
    uint64_t rows_before, steps_before; /* of an earlier part of the run */
    tool_outcome outcome;
} train_job;

/* The signal that asked for an end of the run. The step under way is finished, and so are writes to
   files; the next one of the same signal ends the program at once. */
static volatile sig_atomic_t stop_signal;

static void on_signal(int number) {
    stop_signal = number;
}

int tool_stop_signal(void) {
    return (int)stop_signal;
}

static void catch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART | (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---------------------------------------------------------------------------------------------
   Several processes
   ------------------------------------------------------------------------------------------ */

/* 1: the values [count] are now sums over all processes; 0: these cannot be reached. */
static int sum_over_team(const train_job *job, double *values, size_t count) {
    if (job->team == NULL) return 1;
    return job->team->collective.sum_doubles(job->team->collective.user, values, count);
}

/* The status that a process came here with, and a failure where another's was one: what is to fail
   in one must not leave the others waiting for it. */
static int agree(const train_job *job, int status) {
    double failed = status != TOOL_OK;
    if (!sum_over_team(job, &failed, 1) || (status == TOOL_OK && failed > 0)) {
        return status != TOOL_OK ? status : TOOL_FAILED;
    }
    return status;
}

/* The first process whose value is not that of rank 0, or 0 when all have the same. */
static int find_different(const train_job *job, uint64_t value, size_t *rank) {
    double halves[2 * MSAE_MAX_RANKS] = {0};
    *rank = 0;
    if (job->team == NULL) return TOOL_OK;
    const size_t ranks = job->team->collective.ranks, own = job->team->collective.rank;
    halves[2 * own] = (double)(value >> 32);
    halves[2 * own + 1] = (double)(value & 0xffffffffu);
    if (!sum_over_team(job, halves, 2 * ranks)) return TOOL_FAILED;
    for (size_t r = 1; r < ranks && *rank == 0; r++) {
        if (halves[2 * r] != halves[0] || halves[2 * r + 1] != halves[1]) *rank = r;
    }
    return TOOL_OK;
}

static uint64_t add_bits(uint64_t sum, const float *values, size_t count) {
    for (size_t i = 0; values != NULL && i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        sum = (sum ^ bits) * 0x9e3779b97f4a7c15u; /* a change of any bit reaches the upper ones */
        sum ^= sum >> 32;
    }
    return sum;
}

static uint64_t parameter_bits(const msae_model *model) {
    const size_t n = model->n_latents, d = model->n_inputs;
    uint64_t sum = 1;
    sum = add_bits(sum, model->encoder, n * d);
    if (!model->tied) sum = add_bits(sum, model->decoder, n * d);
    sum = add_bits(sum, model->latent_bias, n);
    sum = add_bits(sum, model->log_threshold, n);
    sum = add_bits(sum, model->pre_bias, d);
    sum = add_bits(sum, model->mean, d);
    return add_bits(sum, &model->scale, 1);
}

/* Every process makes the same updates to the same parameters, or the model is that of none. */
static int check_parameters(const train_job *job) {
    size_t rank;
    if (job->team == NULL) return TOOL_OK;
    int status = find_different(job, parameter_bits(&job->trainer.model), &rank);
    if (status != TOOL_OK || rank == 0) return status;
    return tool_fail("train", "after step %llu rank %zu has other parameters than rank 0",
                     (unsigned long long)job->trainer.step, rank);
}

/* Before the first step: what would have them differ later. */
static int check_team(const train_job *job) {
    const msae_trainer *trainer = &job->trainer;
    const struct {
        uint64_t value;
        const char *what;
    } same[] = {
        {(uint64_t)trainer->model.simd,
         "has another instruction path than rank 0; --simd names one for all"},
        {job->source.rows, "sees other data than rank 0, by its number of rows"},
        {job->source.cols, "sees other data than rank 0, by its number of columns"},
        {trainer->step, "resumes from another step than rank 0"},
        {trainer->position.row, "resumes from another row than rank 0"},
    };
    for (size_t i = 0; i < TOOL_COUNT_OF(same); i++) {
        size_t rank;
        int status = find_different(job, same[i].value, &rank);
        if (status != TOOL_OK) return status;
        if (rank != 0) return tool_fail("train", "rank %zu %s", rank, same[i].what);
    }
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   Progress
   ------------------------------------------------------------------------------------------ */

static double rows_per_second(const train_job *job, double seconds) {
    return (double)(job->trainer.rows - job->rows_before) / seconds;
}

static void draw_bar(const train_job *job, const msae_progress *progress) {
    const double total = (double)(progress->epochs * progress->steps);
    const double done = (double)(progress->epoch * progress->steps + progress->step + 1) / total;
    const double done_now = done - (double)job->steps_before / total;
    const double elapsed = job->last_drawn - job->start;
    const double seconds = done_now > 0 ? elapsed * (1 - done) / done_now : 0;
    const unsigned long left = (unsigned long)(seconds + 0.5);
    char bar[25];
    for (size_t i = 0; i < sizeof bar - 1; i++) {
        bar[i] = (double)i < done * (double)(sizeof bar - 1) ? '#' : '.';
    }
    bar[sizeof bar - 1] = '\0';
    fprintf(stderr, "\r[%s] epoch %zu/%zu  loss %.5f  %.0f rows/s  %lu:%02lu left\033[K", bar,
            progress->epoch + 1, progress->epochs, progress->stats->loss,
            rows_per_second(job, elapsed), left / 60, left % 60);
    fflush(stderr);
}

static void clear_bar(const train_job *job) {
    if (job->shows_bar) fputs("\r\033[K", stderr);
}

/* The loss on the validation rows, batch by batch, of which each process has its share. */
static int measure_validation(train_job *job, double *loss) {
    const size_t batch = job->trainer.desc.batch;
    const size_t ranks = job->team != NULL ? job->team->collective.ranks : 1;
    const size_t rank = job->team != NULL ? job->team->collective.rank : 0;
    msae_data part = job->validation;
    double sums[3] = {0, 0, 0};
    int status = TOOL_OK;
    for (size_t first = 0; first < job->validation.rows && status == TOOL_OK; first += part.rows) {
        msae_step_stats stats;
        msae_error error;
        const size_t row_bytes = part.cols * msae_dtype_bytes(part.dtype);
        part.rows = job->validation.rows - first < batch ? job->validation.rows - first : batch;
        part.values = (const char *)job->validation.values + first * row_bytes;
        if (first / batch % ranks != rank) continue;
        if (msae_trainer_forward(&job->trainer, &part, NULL, part.rows, NULL, NULL, &stats,
                                 &error) != MSAE_OK) {
            status = tool_fail_error(job->options.validation, &error);
            break;
        }
        sums[0] += stats.loss * (double)stats.rows;
        sums[1] += (double)stats.rows;
        sums[2] += stats.recon_loss * (double)stats.rows;
    }
    status = agree(job, status);
    if (status == TOOL_OK && !sum_over_team(job, sums, 3)) status = TOOL_FAILED;
    *loss = sums[0] / sums[1];
    job->outcome.validation = sums[2] / sums[1];
    return status;
}

static void print_epoch_json(const train_job *job, const msae_progress *progress,
                             const double *validation, double seconds) {
    tool_json json = tool_json_line("epoch");
    tool_json_count(&json, "epoch", progress->epoch + 1);
    tool_json_count(&json, "epochs", progress->epochs);
    tool_json_count(&json, "rows", progress->rows);
    tool_json_real(&json, "seconds", seconds);
    tool_json_real(&json, "rows_per_s", rows_per_second(job, seconds));
    tool_json_real(&json, "loss", progress->epoch_stats->loss);
    tool_json_real(&json, "recon_loss", progress->epoch_stats->recon_loss);
    tool_json_real(&json, "sparse_loss", progress->epoch_stats->sparse_loss);
    tool_json_real(&json, "l0", progress->epoch_stats->l0);
    tool_json_count(&json, "dead", progress->stats->dead_latents);
    tool_json_count(&json, "revived", job->trainer.revived);
    tool_json_real(&json, "lr", progress->stats->lr);
    if (validation != NULL) tool_json_real(&json, "val_loss", *validation);
    tool_json_end(&json, '}');
    fflush(stdout); /* who reads along should not have to wait for a full buffer */
}

static void print_epoch_line(const train_job *job, const msae_progress *progress,
                             const double *validation, double seconds) {
    fprintf(stderr, "epoch %zu/%zu  loss %.5f", progress->epoch + 1, progress->epochs,
            progress->epoch_stats->loss);
    if (validation != NULL) fprintf(stderr, "  validation %.5f", *validation);
    fprintf(stderr, "  l0 %.1f  dead %zu", progress->epoch_stats->l0,
            progress->stats->dead_latents);
    if (job->trainer.desc.revivals > 0) {
        fprintf(stderr, "  revived %llu", (unsigned long long)job->trainer.revived);
    }
    fprintf(stderr, "  %.0f rows/s\n", rows_per_second(job, seconds));
}

static int end_epoch(train_job *job, const msae_progress *progress) {
    double validation;
    int validates = job->options.validation != NULL;
    clear_bar(job);
    if (validates && measure_validation(job, &validation) != TOOL_OK) return TOOL_FAILED;
    const double seconds = tool_seconds() - job->start;
    if (!job->leads) return TOOL_OK;
    if (job->options.common.json) {
        print_epoch_json(job, progress, validates ? &validation : NULL, seconds);
    } else if (!job->shows_bar || validates) {
        print_epoch_line(job, progress, validates ? &validation : NULL, seconds);
    }
    return TOOL_OK;
}

static int save_checkpoint(const train_job *job) {
    const char *path = job->options.checkpoint;
    msae_error error;
    if (!job->leads) return TOOL_OK;
    msae_writer writer = msae_to_file(path);
    if (msae_trainer_save(&job->trainer, &writer, &error) != MSAE_OK) {
        clear_bar(job);
        return tool_fail_error(path, &error);
    }
    if (job->options.common.json) {
        tool_json json = tool_json_line("checkpoint");
        tool_json_count(&json, "step", job->trainer.step);
        tool_json_count(&json, "rows", job->trainer.rows);
        tool_json_text(&json, "file", path);
        tool_json_end(&json, '}');
        fflush(stdout);
    }
    return TOOL_OK;
}

static int on_progress(const msae_progress *progress, void *user) {
    train_job *job = user;
    const train_options *o = &job->options;
    const int ends_epoch = progress->step + 1 == progress->steps;
    const int ends_run = ends_epoch && progress->epoch + 1 == progress->epochs;
    const int is_due = o->every > 0 ? job->trainer.step % o->every == 0 : ends_epoch;
    const double now = tool_seconds();
    if (job->shows_bar && now - job->last_drawn > 0.1) {
        job->last_drawn = now;
        draw_bar(job, progress);
    }
    tool_add_step(&job->outcome, progress);
    if (ends_epoch) job->status = end_epoch(job, progress);
    if (job->status == TOOL_OK && o->checkpoint != NULL && is_due) {
        job->kept_step = job->trainer.step;
        job->status = check_parameters(job);
        if (job->status == TOOL_OK) job->status = save_checkpoint(job);
    }
    return job->status != TOOL_OK || (stop_signal != 0 && !ends_run); /* the model is ready then */
}

/* ---------------------------------------------------------------------------------------------
   Before and after
   ------------------------------------------------------------------------------------------ */

/* What is meant by a given number, or one of a resolved descriptor. */
static float or_zero(float given) {
    return given > 0 ? given : 0;
}

/* n_latents of a float factor: at most what a code's index can hold, so that the product is
   safe. */
static int expanded(const train_options *options, size_t n_inputs, size_t *n_latents) {
    const double factor = options->expansion > 0 ? options->expansion : DEFAULT_EXPANSION;
    const double product = factor * (double)n_inputs;
    if (product < 1 || product > (double)UINT32_MAX) {
        return tool_fail("--expansion", "%g times %zu inputs gives no usable number of latents",
                         factor, n_inputs);
    }
    *n_latents = (size_t)product;
    return TOOL_OK;
}

#define TAKE(field, kind, ...) desc->field = TAKE_##kind(field) o->given.field;
#define TAKE_COUNT(field)
#define TAKE_FLOAT(field)
#define TAKE_TIMES(field)
#define TAKE_CHOICE(field) (msae_##field)

static int describe(train_job *job, msae_train_desc *desc) {
    const train_options *o = &job->options;
    memset(desc, 0, sizeof *desc);
    if (job->team != NULL) desc->collective = job->team->collective;
    desc->model.n_inputs = job->source.cols;
    desc->model.n_latents = o->latents;
    if (o->latents == 0) {
        int status = expanded(o, job->source.cols, &desc->model.n_latents);
        if (status != TOOL_OK) return status;
    }
    desc->model.recipe = (msae_recipe)o->recipe;
    desc->model.activation = (msae_activation)o->activation;
    if (o->nesting.count == 1) {
        desc->model.nesting_start = o->nesting.values[0];
    } else if (o->nesting.count > 1) {
        desc->model.nesting = o->nesting.values;
        desc->model.n_levels = o->nesting.count;
    }
    if (o->weights.count > 0) {
        desc->model.level_weights = o->weights.values;
        desc->model.n_level_weights = o->weights.count;
    }
    desc->model.k = o->k;
    desc->model.tied = o->tied;
    desc->model.normalize = o->normalize;
    desc->model.soft_cap = or_zero(o->soft_cap);
    desc->model.seed = o->seed != TOOL_NO_NUMBER ? o->seed : 0;
    desc->model.host = tool_host(&o->common, job->pool);
    MSAE_TRAIN_LIST(TAKE)
    desc->geometric_median = o->geometric_median;
    desc->skip_bad = o->common.skip_bad;
    desc->max_norm = o->max_norm;
    return TOOL_OK;
}

static void print_start(const train_job *job) {
    const msae_model *model = &job->trainer.model;
    const msae_train_desc *desc = &job->trainer.desc;
    tool_note_rows(&job->rows);
    if (job->options.common.json) {
        tool_json json = tool_json_line("start");
        tool_json_text(&json, "recipe", msae_enum_name(MSAE_ENUM_RECIPE, (int)model->recipe));
        tool_json_count(&json, "rows", job->source.rows);
        tool_json_count(&json, "files", job->rows.count);
        tool_json_bool(&json, "in_memory", job->source.data != NULL);
        tool_json_count(&json, "n_inputs", model->n_inputs);
        tool_json_count(&json, "n_latents", model->n_latents);
        tool_json_counts(&json, "nesting", model->nesting, model->n_levels);
        tool_json_k(&json, model, 0);
        tool_json_count(&json, "epochs", desc->epochs);
        tool_json_count(&json, "batch", desc->batch);
        tool_json_real(&json, "lr", (double)desc->lr);
        tool_json_count(&json, "seed", desc->model.seed);
        tool_json_count(&json, "step", job->trainer.step);
        if (job->options.checkpoint != NULL) {
            tool_json_text(&json, "checkpoint", job->options.checkpoint);
        }
        tool_json_end(&json, '}');
        fflush(stdout);
        return;
    }
    const int has_widths = model->recipe == MSAE_RECIPE_MSAE_WIDTH;
    fprintf(stderr, "recipe %s: %llu row%s%s, %zu inputs, %zu latents",
            msae_enum_name(MSAE_ENUM_RECIPE, (int)model->recipe),
            (unsigned long long)job->source.rows, tool_plural(job->source.rows),
            job->source.data != NULL ? "" : ", read as needed", model->n_inputs, model->n_latents);
    if (model->k > 0) fprintf(stderr, ", k %zu", model->k);
    for (size_t i = 0; model->n_levels > 1 && i < model->n_levels; i++) {
        fprintf(stderr, "%s%zu",
                i > 0        ? " "
                : has_widths ? ", widths "
                             : ", levels ",
                model->nesting[i]);
    }
    fprintf(stderr, "; epochs %zu, batch %zu, learning rate %g\n", desc->epochs, desc->batch,
            (double)desc->lr);
    if (job->options.resume != NULL) {
        fprintf(stderr, "going on after step %llu, with checkpoints in %s\n",
                (unsigned long long)job->trainer.step, job->options.checkpoint);
    }
}

/* Rows of the data that took no part. */
static uint64_t rows_skipped(const msae_trainer *trainer) {
    const msae_rare_rows *rare = &trainer->rare;
    const uint64_t beyond = rare->norm_limit > 0 ? rare->beyond : 0;
    const uint64_t rows = trainer->desc.skip_bad ? rare->bad + beyond : beyond;
    if (trainer->rows_skipped == 0) return 0;
    return rows > 0 ? rows : trainer->rows_skipped; /* (of a run that began in an older version) */
}

static void print_done(const train_job *job, double seconds) {
    const msae_trainer *trainer = &job->trainer;
    const double speed = rows_per_second(job, seconds);
    const size_t threads = msae_pool_parallel(job->pool).workers;
    const char *simd = msae_enum_name(MSAE_ENUM_SIMD, (int)trainer->model.simd);
    if (job->options.common.json) {
        tool_json json = tool_json_line("done");
        tool_json_count(&json, "rows", trainer->rows);
        tool_json_count(&json, "rows_skipped", rows_skipped(trainer));
        tool_json_count(&json, "steps", trainer->step);
        tool_json_real(&json, "seconds", seconds);
        tool_json_real(&json, "rows_per_s", speed);
        tool_json_real(&json, "loss", trainer->epoch.loss);
        tool_json_count(&json, "threads", threads);
        tool_json_text(&json, "simd", simd);
        tool_json_text(&json, "file", job->options.output);
        tool_json_warnings(&json);
        tool_json_end(&json, '}');
        return;
    }
    printf("%s: loss %.5f after %llu row%s in %.1f s (%.0f rows/s, %zu threads, %s)\n",
           job->options.output, trainer->epoch.loss, (unsigned long long)trainer->rows,
           tool_plural(trainer->rows), seconds, speed, threads, simd);
}

/* Where a run that ended early can go on; signal 0: another process was lost. */
static void print_stopped(const train_job *job, int signal) {
    const int has_steps = job->trainer.step > job->steps_before;
    const char *file = has_steps ? job->options.checkpoint : job->options.resume;
    const unsigned long long step = job->trainer.step;
    if (!job->leads) return;
    if (job->options.common.json) {
        tool_json json = tool_json_line("stopped");
        tool_json_count(&json, "step", job->trainer.step);
        tool_json_count(&json, "rows", job->trainer.rows);
        tool_json_count(&json, "signal", (uint64_t)signal);
        if (file != NULL) tool_json_text(&json, "file", file);
        tool_json_end(&json, '}');
        if (signal != 0) return;
    }
    char text[64] = "";
    if (signal == 0) snprintf(text, sizeof text, "msae: another process is gone: ");
    if (file != NULL) {
        fprintf(stderr, "%sstopped after step %llu; --resume %s goes on from there\n", text, step,
                file);
    } else if (has_steps) {
        fprintf(stderr, "%sstopped after step %llu; without --checkpoint nothing is kept\n", text,
                step);
    } else {
        fprintf(stderr, "%sstopped before the first step\n", text);
    }
}

/* ---------------------------------------------------------------------------------------------
   The run
   ------------------------------------------------------------------------------------------ */

/* More than this, as float32, is read in windows instead of being held. */
#define HELD_BYTES (256.0 * 1024 * 1024)

static int open_data(train_job *job) {
    const train_options *o = &job->options;
    int status = tool_add_rows(&job->rows, o->data);
    for (size_t i = 0; i < o->more.count && status == TOOL_OK; i++) {
        status = tool_add_rows(&job->rows, o->more.values[i]);
    }
    if (status == TOOL_OK) status = tool_open_rows(&job->rows, o->common.tensor, 0);
    if (status != TOOL_OK) return status;
    job->source = job->rows.files.source;
    return TOOL_OK;
}

static int load_validation(train_job *job) {
    const train_options *o = &job->options;
    if (o->validation == NULL) return TOOL_OK;
    return tool_load_data(&job->validation, o->validation, o->common.tensor, job->source.cols,
                          o->common.skip_bad);
}

/* Holds the data in memory, or prepares to read it as the run goes on. A run that shuffles all rows
   at once needs all of them; one that was begun in windows keeps to them wherever the rows lie. */
static int place_data(train_job *job) {
    const train_options *o = &job->options;
    const msae_position *at = &job->trainer.position;
    const double bytes = (double)job->source.rows * (double)job->source.cols * sizeof(float);
    int holds = o->in_memory || (o->window == 0 && bytes <= HELD_BYTES);
    msae_error error;
    if (at->rows > 0) holds = o->in_memory || at->window_rows == 0;
    if (holds) {
        int status =
            tool_hold_rows(&job->rows, o->common.tensor,
                           o->common.skip_bad ? TOOL_BAD_KEPT : TOOL_BAD_REFUSED, &job->data);
        if (status != TOOL_OK) return status;
        job->source = msae_source_data(&job->data);
    } else if (msae_background_create(&job->reader, &error) != MSAE_OK) {
        return tool_fail_error(o->data, &error);
    }
    return TOOL_OK;
}

/* By the use of a hyper-parameter: whether it is used, and the enum that decides. */
#define IDLE(field, kind, range, ours, others, before, use, option, ...) \
    {"--" option, o->given.field != 0, USE_##use},
#define USE_ALL 1, MSAE_ENUM_RECIPE
#define USE_PENALTY has_penalty, MSAE_ENUM_RECIPE
#define USE_JUMPRELU recipe == MSAE_RECIPE_JUMPRELU, MSAE_ENUM_RECIPE
#define USE_TRAPEZOID schedule == MSAE_SCHEDULE_TRAPEZOID, MSAE_ENUM_SCHEDULE

/* Options that would have no effect on the recipe or the schedule. */
static int check_use(const train_options *o, msae_recipe recipe, msae_schedule schedule) {
    const int has_levels = tool_is_nested(recipe) || recipe == MSAE_RECIPE_MSAE_WIDTH;
    const int has_penalty = recipe == MSAE_RECIPE_RELU || recipe == MSAE_RECIPE_JUMPRELU;
    const int has_activation = tool_is_nested(recipe) || recipe == MSAE_RECIPE_TOPK;
    const struct {
        const char *name;
        int is_given, is_used;
        msae_enum decides;
    } options[] = {
        {"--nesting", o->nesting.count > 0, has_levels, MSAE_ENUM_RECIPE},
        {"--weights", o->weights.count > 0, has_levels, MSAE_ENUM_RECIPE},
        {"--k", o->k > 0, !has_penalty, MSAE_ENUM_RECIPE},
        {"--activation", o->activation > MSAE_ACTIVATION_RELU, has_activation, MSAE_ENUM_RECIPE},
        MSAE_TRAIN_LIST(IDLE) /* --epochs .. --scale */
    };
    for (size_t i = 0; i < TOOL_COUNT_OF(options); i++) {
        const int by_schedule = options[i].decides == MSAE_ENUM_SCHEDULE;
        if (!options[i].is_given || options[i].is_used) continue;
        return tool_usage(
            "train", "%s does not apply to %s %s", options[i].name,
            by_schedule ? "schedule" : "recipe",
            msae_enum_name(options[i].decides, by_schedule ? (int)schedule : (int)recipe));
    }
    return TOOL_OK;
}

static int begin(train_job *job) {
    msae_error error;
    msae_train_desc desc, plain;
    int status = describe(job, &desc);
    if (status != TOOL_OK) return status;
    memset(&plain, 0, sizeof plain); /* for the recipe and the schedule alone */
    plain.model.n_inputs = desc.model.n_inputs;
    plain.model.n_latents = desc.model.n_latents;
    plain.model.recipe = desc.model.recipe;
    plain.schedule = desc.schedule;
    if (msae_train_desc_resolve(&plain, &plain, &error) != MSAE_OK) {
        return tool_fail_error("train", &error);
    }
    status = check_use(&job->options, plain.model.recipe, plain.schedule);
    if (status != TOOL_OK) return status;
    if (msae_trainer_init(&job->trainer, &desc, &error) != MSAE_OK) {
        return tool_fail_error("train", &error);
    }
    return place_data(job);
}

/* Whether the library's error is one of this process: those that tell of another's have no text. */
static int is_own(const train_job *job, msae_status status) {
    return status != MSAE_ERROR_STOPPED && (job->team == NULL || !job->team->lost);
}

/* Mean and scale, ahead of the first line, so that an error of the data is all that is said. */
static int measure_data(train_job *job) {
    msae_error error;
    msae_status status;
    if (job->options.resume != NULL) return TOOL_OK;
    status = msae_trainer_statistics(&job->trainer, &job->source, &error);
    if (status == MSAE_OK) return TOOL_OK;
    return is_own(job, status) ? tool_fail_rows(&job->rows, &error) : TOOL_FAILED;
}

/* Rows of a window that the options ask for. */
static size_t window_rows(const train_job *job) {
    const double rows = (double)job->options.window * 1048576.0 / (4.0 * (double)job->source.cols);
    if (job->options.in_memory && job->options.window == 0) return SIZE_MAX;
    return rows < 1 ? job->options.window > 0 : rows < (double)SIZE_MAX ? (size_t)rows : SIZE_MAX;
}

/* Windows hold whole blocks and a batch at least. */
static int same_window(const train_job *job) {
    const msae_position *at = &job->trainer.position;
    const uint64_t least = at->batch + at->block_rows;
    uint64_t rows = window_rows(job);
    if (rows < least) rows = least;
    return rows <= at->window_rows && at->window_rows - rows < at->block_rows;
}

static int same_counts(const tool_counts *given, const size_t *values, size_t count) {
    if (given->count == 1 && count > 0) return given->values[0] == values[0];
    return given->count == count && memcmp(given->values, values, count * sizeof *values) == 0;
}

static int same_reals(const tool_reals *given, const float *values, size_t count) {
    int same = given->count == count;
    for (size_t i = 0; same && i < count; i++) same = given->values[i] == values[i];
    return same;
}

#define DIFFERS(field, kind, range, ours, others, before, use, option, ...) \
    {"--" option, o->given.field != 0 && DIFFERS_##kind(o->given.field, desc->field)},
#define DIFFERS_COUNT(given, own) given != own
#define DIFFERS_FLOAT(given, own) or_zero(given) != or_zero(own)
#define DIFFERS_TIMES(given, own) given != own
#define DIFFERS_CHOICE(given, own) given != (int)own

/* Options that are given beside --resume must be what the run was begun with, so that the command
   that began it can simply be repeated; only the number of epochs may change. */
static int check_agreement(const train_job *job) {
    const train_options *o = &job->options;
    const msae_train_desc *desc = &job->trainer.desc;
    const msae_model *model = &job->trainer.model;
    const int nested = tool_is_nested(model->recipe) || model->recipe == MSAE_RECIPE_MSAE_WIDTH;
    size_t latents = 0;
    if (o->expansion > 0 && expanded(o, model->n_inputs, &latents) != TOOL_OK) return TOOL_FAILED;
    const struct {
        const char *name;
        int differs;
    } options[] = {
        {"--recipe", o->recipe != 0 && o->recipe != (int)model->recipe},
        {"--latents", o->latents != 0 && o->latents != model->n_latents},
        {"--expansion", latents != 0 && latents != model->n_latents},
        {"--nesting", nested && o->nesting.count != 0 &&
                          !same_counts(&o->nesting, model->nesting, model->n_levels)},
        {"--weights",
         o->weights.count != 0 && !same_reals(&o->weights, model->level_weights, model->n_levels)},
        {"--k", o->k != 0 && o->k != model->k},
        {"--activation", o->activation != 0 && o->activation != (int)model->activation},
        {"--tied", o->tied && !model->tied},
        {"--normalize", o->normalize && !model->normalize},
        {"--softcap", o->soft_cap != 0 && or_zero(o->soft_cap) != model->soft_cap},
        MSAE_TRAIN_LIST(DIFFERS) /* --epochs .. --scale */
        {"--geometric-median", o->geometric_median && !desc->geometric_median},
        {"--seed", o->seed != TOOL_NO_NUMBER && o->seed != desc->model.seed},
        {"--skip-bad", o->common.skip_bad && !desc->skip_bad},
        {"--max-norm", o->max_norm > 0 && o->max_norm != desc->max_norm},
        {"--window", o->window != 0 && job->trainer.position.rows != 0 && !same_window(job)},
    };
    for (size_t i = 0; i < TOOL_COUNT_OF(options); i++) {
        if (options[i].differs) {
            return tool_fail(options[i].name, "the run in %s has another value", o->resume);
        }
    }
    return check_use(o, model->recipe, desc->schedule);
}

static int resume(train_job *job) {
    const train_options *o = &job->options;
    msae_trainer *trainer = &job->trainer;
    msae_error error;
    const msae_load_desc desc = tool_load_desc(&o->common, job->pool);
    if (msae_trainer_load(trainer, msae_from_file(o->resume), &desc, &error) != MSAE_OK) {
        return tool_fail_content(o->resume, TOOL_CHECKPOINT, &error);
    }
    if (trainer->model.n_inputs != job->source.cols) {
        return tool_fail(job->rows.name, "has %zu columns where %zu are needed", job->source.cols,
                         trainer->model.n_inputs);
    }
    if (trainer->position.rows != 0 && trainer->position.rows != job->source.rows) {
        return tool_fail(job->rows.name, "has %llu row%s, the run in %s is over %llu",
                         (unsigned long long)job->source.rows, tool_plural(job->source.rows),
                         o->resume, (unsigned long long)trainer->position.rows);
    }
    if (o->given.epochs != 0 && o->given.epochs < trainer->desc.epochs) {
        return tool_fail("--epochs", "the run in %s has %zu, which may only be raised", o->resume,
                         trainer->desc.epochs);
    }
    if (o->given.epochs != 0) trainer->desc.epochs = o->given.epochs;
    job->rows_before = trainer->rows;
    job->steps_before = job->kept_step = trainer->step;
    if (job->team != NULL) trainer->desc.collective = job->team->collective;
    int status = check_agreement(job);
    return status == TOOL_OK ? place_data(job) : status;
}

/* The signal that ended the run, whichever process it came to, which is 0 when one failed. */
static int agree_signal(const train_job *job, int failed) {
    double sums[3] = {failed, stop_signal != 0, (double)stop_signal};
    if (!sum_over_team(job, sums, 3) || sums[0] > 0 || sums[1] < 1) return 0;
    return (int)(sums[2] / sums[1]);
}

/* A run that a failure or a signal ended. What it did up to its last whole step is kept, even where
   the other processes are gone: a step changes nothing before all have brought their part. */
static int end_early(train_job *job, msae_status fitted, const msae_error *error) {
    const train_options *o = &job->options;
    int status = job->status, signal = 0;
    clear_bar(job);
    if (status == TOOL_OK && is_own(job, fitted)) status = tool_fail_rows(&job->rows, error);
    if (job->team == NULL || !job->team->lost) signal = agree_signal(job, status != TOOL_OK);
    if (o->checkpoint != NULL && job->trainer.step > job->kept_step) {
        const int saved = save_checkpoint(job);
        if (saved != TOOL_OK) return saved;
    }
    if (signal != 0 || (job->team != NULL && job->team->lost)) print_stopped(job, signal);
    /* A signal's exit status is what the shell gives a program that it killed. */
    return signal != 0 ? 128 + signal : TOOL_FAILED;
}

static train_job *running; /* what tool_keep_steps is about */

void tool_keep_steps(void) {
    train_job *job = running;
    if (job == NULL || job->options.checkpoint == NULL || job->trainer.step <= job->kept_step) {
        return;
    }
    job->kept_step = job->trainer.step;
    job->status = save_checkpoint(job);
}

/* Gradients of several processes are summed in shares unless that is not wanted, so that their
   number does not show in the result; a single process does it when it is asked to. */
enum { DEFAULT_SHARES = 12 }; /* which two, three, four and six processes divide evenly */

static size_t shares(const train_job *job) {
    const train_options *o = &job->options;
    if (o->no_shares || o->shares > 0 || job->team == NULL) return o->no_shares ? 0 : o->shares;
    return job->team->collective.ranks <= DEFAULT_SHARES ? DEFAULT_SHARES : 0;
}

/* The published schedule begins its descent above 1 where epochs are no multiple of five. */
static void warn_of_schedule(train_job *job) {
    msae_trainer *trainer = &job->trainer;
    const float before = trainer->lr_factor;
    size_t epoch = (size_t)floor(0.8 * (double)trainer->desc.epochs);
    if (trainer->desc.schedule != MSAE_SCHEDULE_PUBLISHED &&
        trainer->desc.schedule != MSAE_SCHEDULE_CAPPED) {
        return;
    }
    if (trainer->position.epoch > epoch) epoch = (size_t)trainer->position.epoch;
    msae_trainer_schedule(trainer, epoch, 0, 1);
    if (trainer->lr_factor > 1) {
        tool_warn(
            NULL,
            "the %s schedule multiplies the learning rate by %.3g in epoch %zu of %zu, because "
            "the number of epochs is no multiple of five; --schedule linear never goes above 1",
            msae_enum_name(MSAE_ENUM_SCHEDULE, (int)trainer->desc.schedule),
            (double)trainer->lr_factor, epoch + 1, trainer->desc.epochs);
    }
    trainer->lr_factor = before;
}

/* Of rows that are unlike the others, which are left out or take over the rest. */
static void warn_of_rare(const train_job *job) {
    const msae_rare_rows *rare = &job->trainer.rare;
    const msae_train_desc *desc = &job->trainer.desc;
    const tool_rows *rows = &job->rows;
    const msae_shard *shard =
        rows->count > 1 ? msae_files_find(&rows->files, rare->first_beyond) : NULL;
    const int is_one = rare->beyond == 1;
    const unsigned long long first = rare->first_beyond - (shard != NULL ? shard->first_row : 0);
    char fate[160];
    tool_skip_rows(rows, rows->files.shards[0].dtype, job->source.rows, rare->bad, rare->first_bad);
    if (rare->beyond == 0) return;
    if (desc->max_norm > 0) {
        snprintf(fate, sizeof fate, " and %s left out", is_one ? "was" : "were");
    } else {
        snprintf(fate, sizeof fate, ": --max-norm %d leaves %s out%s", MSAE_RARE_NORM,
                 is_one ? "it" : "them",
                 is_one || desc->geometric_median
                     ? ""
                     : "; --geometric-median helps where they share a direction");
    }
    tool_warn(rows->name, "%llu row%s a norm above %g times the median (first: row %llu%s%s)%s",
              (unsigned long long)rare->beyond, is_one ? " has" : "s have",
              desc->max_norm > 0 ? (double)desc->max_norm : (double)MSAE_RARE_NORM, first,
              shard != NULL ? " of " : "", shard != NULL ? shard->path : "", fate);
}

/* Of rows of another kind; those that training leaves out do not count. Short memory is no reason
   to leave the others of a team alone: training itself will say so. */
static void warn_of_kind(const train_job *job, const msae_source *source, const char *path,
                         const char *advice) {
    tool_shift shift;
    if (tool_find_shift(&job->trainer.model, source, job->trainer.rare.norm_limit, &shift) ==
        TOOL_OK) {
        tool_warn_of_shift(&shift, path, advice);
    }
}

/* Of rows that are all alike, and of those of another kind than what the model's mean and scale are
   of. */
static void warn_of_rows(train_job *job) {
    const train_options *o = &job->options;
    tool_warn_of_spread(&job->outcome, &job->trainer.model, &job->source, job->rows.name);
    if (o->resume != NULL) {
        warn_of_kind(job, &job->source, job->rows.name,
                     "training goes on with the mean and scale of the first");
    }
    if (o->validation != NULL) {
        const msae_source source = msae_source_data(&job->validation);
        warn_of_kind(job, &source, o->validation,
                     "its loss tells nothing of rows like those of DATA");
    }
}

static int train(train_job *job) {
    const train_options *o = &job->options;
    msae_error error;
    msae_stream_desc stream = {0};
    job->shows_bar = job->leads && isatty(STDERR_FILENO);
    job->start = job->last_drawn = tool_seconds();
    int status = check_team(job);
    if (status == TOOL_OK) status = measure_data(job);
    if (status == TOOL_OK) status = check_parameters(job);
    if (status != TOOL_OK) {
        if (job->team != NULL && job->team->lost) print_stopped(job, 0);
        return status;
    }
    if (job->leads) print_start(job);
    if (job->leads) warn_of_schedule(job);
    if (job->leads) warn_of_rare(job);
    if (job->leads) warn_of_rows(job);
    catch_signals();
    stream.window_rows = job->source.data != NULL ? SIZE_MAX : window_rows(job);
    stream.background = job->reader;
    stream.shares = shares(job);
    running = job;
    msae_status fitted =
        msae_trainer_fit(&job->trainer, &job->source, &stream, on_progress, job, &error);
    running = NULL;
    if (fitted != MSAE_OK) return end_early(job, fitted, &error);
    const double seconds = tool_seconds() - job->start;
    if (job->leads && msae_save_file(&job->trainer.model, o->output, &error) != MSAE_OK) {
        status = tool_fail_error(o->output, &error);
    }
    if (!job->leads) return agree(job, TOOL_OK);
    if (status == TOOL_OK) {
        tool_warn_of_outcome(&job->outcome, &job->trainer, &job->source, o->validation);
        print_done(job, seconds);
    }
    agree(job, status); /* (whoever is gone by now: the model is there) */
    return status;
}

/* Whether the run goes on in the checkpoint that it comes from. */
static int keeps_on(const train_options *o) {
    return o->resume != NULL && tool_same_file(o->resume, o->checkpoint);
}

static int check_outputs(const train_job *job) {
    const train_options *o = &job->options;
    if (!job->leads) return TOOL_OK;
    int status = tool_check_output("-o", o->output, TOOL_WRITES_MODEL);
    if (status == TOOL_OK && keeps_on(o)) {
        status = tool_check_input(o->resume);
        return status == TOOL_OK ? tool_add_output("--resume", o->resume) : status;
    }
    if (status == TOOL_OK && o->checkpoint != NULL) {
        status = tool_check_output("--checkpoint", o->checkpoint, TOOL_WRITES_CHECKPOINT);
    }
    return status == TOOL_OK && o->resume != NULL ? tool_check_input(o->resume) : status;
}

/* All that one process can fail at while the others do not. */
static int prepare(train_job *job) {
    const train_options *o = &job->options;
    int status = check_outputs(job);
    if (status == TOOL_OK) status = open_data(job);
    if (status == TOOL_OK) status = tool_start_threads(&o->common, &job->pool);
    if (status == TOOL_OK) status = load_validation(job);
    if (status == TOOL_OK) status = o->resume != NULL ? resume(job) : begin(job);
    if (status == TOOL_OK && job->leads && keeps_on(o)) {
        status = tool_check_writable(o->resume, "; --checkpoint FILE keeps the run elsewhere");
    }
    return status;
}

/* What --fast stands for, but for what is given. Measured (bench/README.md, time to published
   quality): one pass of more and larger steps reaches what two by default do; a long run ends a
   little worse for them. */
static int take_fast(train_options *o) {
    train_given *given = &o->given;
    if (!o->fast) return TOOL_OK;
    if (o->recipe != MSAE_RECIPE_DEFAULT && o->recipe != MSAE_RECIPE_MSAE) {
        return tool_usage("train", "--fast does not apply to recipe %s",
                          msae_enum_name(MSAE_ENUM_RECIPE, o->recipe));
    }
    if (given->epochs == 0) given->epochs = 1;
    if (given->batch == 0) given->batch = 128;
    if (given->lr == 0) given->lr = 3e-3f;
    if (given->revivals == 0) given->revivals = 12;
    return TOOL_OK;
}

static int run(void *context) {
    train_job *job = context;
    train_options *o = &job->options;
    int status = take_fast(o);
    if (status != TOOL_OK) return status;
    job->leads = job->team == NULL || job->team->collective.rank == 0;
    if (o->checkpoint == NULL) o->checkpoint = o->resume;
    if (job->team != NULL && o->common.threads == 0) o->common.threads = job->team->threads;
    if (o->window > 0 && o->in_memory && o->resume == NULL) {
        return tool_usage("train", "--window and --in-memory exclude each other");
    }
    if (o->no_shares && job->team == NULL) {
        return tool_usage("train",
                          "--no-shares is of msae-mpi; one process has shares only with --shares");
    }
    status = agree(job, prepare(job));
    return status == TOOL_OK ? train(job) : status;
}

static void close_job(void *context) {
    train_job *job = context;
    msae_trainer_free(&job->trainer);
    msae_data_free(&job->validation);
    msae_data_free(&job->data);
    msae_background_free(&job->reader);
    tool_close_rows(&job->rows);
    msae_pool_free(job->pool);
}

static const train_job defaults = {.options = {.seed = TOOL_NO_NUMBER}};

#define AT(member) offsetof(train_job, member)

/* The options of a hyper-parameter. */
#define OPTION(field, kind, range, ours, others, before, use, option, argument, help) \
    OPTION_##kind(field, OPTION_##range, option, argument, help)
#define OPTION_COUNT(field, type, option, argument, help) \
    {"--" option, argument, TOOL_COUNT, AT(options.given.field), help},
#define OPTION_FLOAT(field, type, option, argument, help) \
    {"--" option, argument, type, AT(options.given.field), help},
#define OPTION_TIMES(field, type, option, argument, help)               \
    {"--" option, argument, TOOL_TIMES, AT(options.given.field), help}, \
        {"--no-" option, NULL, TOOL_NEVER, AT(options.given.field), "never"},
#define OPTION_CHOICE(field, type, option, argument, help) \
    {"--" option, argument, TOOL_CHOICE, AT(options.given.field), help},
#define OPTION_ABOVE_0 TOOL_POSITIVE
#define OPTION_FROM_0 TOOL_SETTING
#define OPTION_BELOW_1 TOOL_SETTING
#define OPTION_OR_OFF TOOL_SETTING

/* What they exclude. */
#define RULE(field, kind, range, ours, others, before, use, option, ...) RULE_##kind(option)
#define RULE_COUNT(option)
#define RULE_FLOAT(option)
#define RULE_TIMES(option) {"--" option, TOOL_EXCLUDES, "--no-" option},
#define RULE_CHOICE(option)

static const tool_option options[] = {
    {"DATA", NULL, TOOL_OPERAND, AT(options.data), ""},
    {"DATA", NULL, TOOL_REST, AT(options.more), ""},
    {"-o", "MODEL", TOOL_TEXT, AT(options.output), "file to write, a safetensors (required)"},
    {"--recipe", "msae-uw|msae-rw|topk|batchtopk|relu|jumprelu|msae|msae-width", TOOL_CHOICE,
     AT(options.recipe), "what to train (default: msae)"},
    {"--fast", NULL, TOOL_FLAG, AT(options.fast),
     "recipe msae in a hurry: --epochs 1 --batch 128 --lr 0.003 --revivals 12, where these\n"
     "are not given"},
    {"--latents", "N", TOOL_COUNT, AT(options.latents), "number of latents"},
    {"--expansion", "F", TOOL_POSITIVE, AT(options.expansion),
     "number of latents as a multiple of the inputs (default: 8)"},
    {"--nesting", "K | K,K,..", TOOL_COUNTS, AT(options.nesting),
     "levels: a start that doubles, or a list (default: msae 16, msae-uw, -rw 64)"},
    {"--weights", "A,A,..", TOOL_REALS, AT(options.weights),
     "weights of the levels in the loss (default: the recipe's)"},
    {"--k", "K", TOOL_COUNT, AT(options.k),
     "latents that the model keeps of a row (default: 64, batchtopk, msae-width 32).\n"
     "Of no effect on the training of msae, msae-uw, msae-rw; not for relu, jumprelu"},
    {"--activation", "relu|identity|abs", TOOL_CHOICE, AT(options.activation),
     "of the latents that TopK selects (default: relu)"},
    {"--tied", NULL, TOOL_FLAG, AT(options.tied), "one matrix serves as encoder and decoder"},
    {"--normalize", NULL, TOOL_FLAG, AT(options.normalize),
     "each row enters with mean 0 and deviation 1"},
    {"--softcap", "C", TOOL_SETTING, AT(options.soft_cap), "latents pass through C tanh(v / C)"},
    MSAE_TRAIN_LIST(OPTION) /* --epochs .. --scale */
    {"--geometric-median", NULL, TOOL_FLAG, AT(options.geometric_median),
     "start the bias at the data's geometric median"},
    {"--seed", "S", TOOL_NUMBER, AT(options.seed), "of weights and shuffling (default: 0)"},
    {"--skip-bad", NULL, TOOL_FLAG, AT(options.common.skip_bad),
     "leave out rows with NaN or Inf instead of failing"},
    {"--max-norm", "F", TOOL_POSITIVE, AT(options.max_norm),
     "leave out rows with a norm of more than F times the median"},
    {"--val", "FILE", TOOL_FILES, AT(options.validation),
     "report the loss on these rows every epoch"},
    {"--checkpoint", "FILE", TOOL_TEXT, AT(options.checkpoint),
     "keep the state of the run here, every epoch and at Ctrl-C"},
    {"--every", "STEPS", TOOL_COUNT, AT(options.every),
     ".. and every so many steps instead of epochs"},
    {"--resume", "FILE", TOOL_TEXT, AT(options.resume),
     "go on from a checkpoint, with its options; --epochs may be raised. The\n"
     "run keeps its state in this file from then on, unless --checkpoint is given"},
    {"--window", "MIB", TOOL_COUNT, AT(options.window),
     "read the data in windows of this size (default: 64 for data over 256)"},
    {"--in-memory", NULL, TOOL_FLAG, AT(options.in_memory),
     "hold all of the data and shuffle it at once, whatever its size"},
    {"--shares", "N", TOOL_COUNT, AT(options.shares),
     "sum gradients in so many shares, so that any number of\n"
     "processes up to N gives the same model (msae-mpi: 12)"},
    {"--no-shares", NULL, TOOL_FLAG, AT(options.no_shares),
     "msae-mpi: faster, and the same but for the last bits"},
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {NULL, TOOL_REQUIRED, "-o"},
    {"--latents", TOOL_EXCLUDES, "--expansion"},
    MSAE_TRAIN_LIST(RULE) /* --revivals and --no-revivals */
    {"--shares", TOOL_EXCLUDES, "--no-shares"},
    {"--every", TOOL_NEEDS, "--checkpoint|--resume"},
    {"--tensor", TOOL_READS, "DATA|--val"},
};

const tool_command tool_train = {
    .name = "train",
    .brief = "trains a model on embeddings",
    .summary =
        "Trains a model on the rows of DATA and writes it to MODEL. Several DATA are one set. "
        "Data\n"
        "of more than 256 MiB as float32 is not held but read in windows, beside the training;\n"
        "the rows of a window are shuffled, and so are the blocks that make it up.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(train_job),
    .defaults = &defaults,
    .run = run,
    .close = close_job,
};

int tool_train_over(const tool_team *team, int argc, char **argv) {
    tool_command command = tool_train;
    train_job job = defaults;
    job.team = team;
    command.defaults = &job;
    return tool_run(&command, argc, argv);
}
