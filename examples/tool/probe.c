/* msae probe: a linear probe on embeddings, and what it makes of a model's reconstructions. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_HOLDOUT 0.2f

typedef struct probe_job {
    tool_common common;
    const char *data_path, *labels_path, *column, *model_path, *test_path, *test_labels_path;
    tool_ks ks;
    float holdout, l2, tolerance;
    uint64_t seed;
    size_t min_rows, iterations;
    int input;          /* a linear_probe_input */
    tool_inputs inputs; /* the model, if given, and the data */
    msae_data test;     /* of --test */
    tool_labels labels, test_labels;
    uint32_t *train_of, *test_of; /* classes of either set's rows, LINEAR_PROBE_NO_CLASS */
    size_t left_out;              /* rows of classes that are too small */
    linear_probe probe;
    linear_probe_agreement *results; /* at job->ks, with a model */
} probe_job;

/* The rows that the probe is tested on. */
static const msae_data *tested(const probe_job *job) {
    return job->test_path != NULL ? &job->test : &job->inputs.data;
}

/* ---------------------------------------------------------------------------------------------
   Classes, and which rows are held out
   ------------------------------------------------------------------------------------------ */

static int check_classes(probe_job *job) {
    const tool_labels *labels = &job->labels;
    size_t kept = 0;
    for (size_t c = 0; c < labels->n_classes; c++) {
        if (labels->counts[c] < job->min_rows) {
            job->left_out += labels->counts[c];
        } else if (labels->counts[c] == 1 && job->test_path == NULL) {
            return tool_fail(job->labels_path,
                             "class '%s' has one row (row %zu), and none could be held out; leave "
                             "such classes out with --min-rows 2",
                             labels->classes[c], labels->first[c]);
        } else {
            kept++;
        }
    }
    if (kept == 0) {
        return tool_fail(job->labels_path, "no class has %zu row%s", job->min_rows,
                         tool_plural(job->min_rows));
    }
    if (kept == 1 && labels->n_classes == 1) {
        return tool_fail(job->labels_path, "every label is '%s': nothing to tell apart",
                         labels->classes[0]);
    }
    if (kept == 1) {
        return tool_fail(job->labels_path, "only one class has %zu row%s", job->min_rows,
                         tool_plural(job->min_rows));
    }
    return TOOL_OK;
}

/* Holds the share out of every class: at least one row, and at least one stays. */
static int hold_out(probe_job *job) {
    const tool_labels *labels = &job->labels;
    size_t *left = tool_alloc(labels->n_classes, sizeof *left);     /* rows not looked at yet .. */
    size_t *wanted = tool_alloc(labels->n_classes, sizeof *wanted); /* .. and still to hold out */
    uint64_t state = job->seed;
    job->train_of = tool_alloc(labels->rows, sizeof *job->train_of);
    job->test_of = tool_alloc(labels->rows, sizeof *job->test_of);
    if (left == NULL || wanted == NULL || job->train_of == NULL || job->test_of == NULL) {
        free(left);
        free(wanted);
        return tool_fail_memory();
    }
    for (size_t c = 0; c < labels->n_classes; c++) {
        const size_t count = labels->counts[c];
        left[c] = count;
        wanted[c] = (size_t)(job->holdout * (float)count + 0.5f);
        if (wanted[c] == 0) wanted[c] = 1;
        if (wanted[c] >= count) wanted[c] = count - 1;
        if (job->test_path != NULL) wanted[c] = 0;
    }
    for (size_t r = 0; r < labels->rows; r++) {
        const uint32_t c = labels->of_row[r];
        job->train_of[r] = job->test_of[r] = LINEAR_PROBE_NO_CLASS;
        if (c == TOOL_NO_LABEL || labels->counts[c] < job->min_rows) continue;
        if (wanted[c] > 0 && tool_random(&state) % left[c] < wanted[c]) {
            job->test_of[r] = c;
            wanted[c]--;
        } else {
            job->train_of[r] = c;
        }
        left[c]--;
    }
    free(left);
    free(wanted);
    return TOOL_OK;
}

/* Gives the test rows the numbers of the classes of the training rows. */
static int match_test_classes(probe_job *job) {
    const tool_labels *labels = &job->labels, *test = &job->test_labels;
    uint32_t *classes = tool_alloc(test->n_classes, sizeof *classes);
    int status = TOOL_OK;
    free(job->test_of);
    job->test_of = tool_alloc(test->rows, sizeof *job->test_of);
    if (classes == NULL || job->test_of == NULL) status = tool_fail_memory();
    for (size_t t = 0, c = 0; t < test->n_classes && status == TOOL_OK; t++) { /* both are sorted */
        while (c < labels->n_classes && strcmp(labels->classes[c], test->classes[t]) < 0) c++;
        if (c == labels->n_classes || strcmp(labels->classes[c], test->classes[t]) != 0) {
            status = tool_fail(job->test_labels_path, "row %zu: no training row is '%s'",
                               test->first[t], test->classes[t]);
        } else {
            classes[t] = labels->counts[c] < job->min_rows ? LINEAR_PROBE_NO_CLASS : (uint32_t)c;
        }
    }
    for (size_t r = 0; r < test->rows && status == TOOL_OK; r++) {
        const uint32_t t = test->of_row[r];
        job->test_of[r] = t == TOOL_NO_LABEL ? LINEAR_PROBE_NO_CLASS : classes[t];
    }
    free(classes);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Results
   ------------------------------------------------------------------------------------------ */

static void json_score(tool_json *json, const char *key, const linear_probe_score *score) {
    tool_json_begin(json, key, '{');
    tool_json_count(json, "rows", score->rows);
    tool_json_real(json, "accuracy", score->accuracy);
    tool_json_real(json, "macro_f1", score->macro_f1);
    tool_json_real(json, "log_loss", score->log_loss);
    tool_json_end(json, '}');
}

static void print_scores(const probe_job *job, const linear_probe_score *train,
                         const linear_probe_score *test, double seconds) {
    if (job->common.json) {
        tool_json json = tool_json_line("probe");
        tool_json_count(&json, "classes", job->labels.n_classes);
        tool_json_count(&json, "without_label", job->labels.unlabelled);
        tool_json_count(&json, "of_small_classes", job->left_out);
        json_score(&json, "train", train);
        json_score(&json, "test", test);
        tool_json_count(&json, "iterations", job->probe.iterations);
        tool_json_real(&json, "seconds", seconds);
        tool_json_done(&json);
        return;
    }
    printf("%zu classes; %zu rows without a label, %zu of classes that are too small; %zu steps of "
           "L-BFGS in %.1f s\n",
           job->labels.n_classes, job->labels.unlabelled, job->left_out, job->probe.iterations,
           seconds);
    printf("%-8s %8s %10s %10s %10s\n", "rows", "", "accuracy", "macro F1", "log loss");
    printf("%-8s %8zu %9.2f%% %10.4f %10.4f\n", "train", train->rows, 100 * train->accuracy,
           train->macro_f1, train->log_loss);
    printf("%-8s %8zu %9.2f%% %10.4f %10.4f\n", "test", test->rows, 100 * test->accuracy,
           test->macro_f1, test->log_loss);
}

static void print_agreement_at(const void *context, size_t at, int own) {
    const probe_job *job = context;
    const linear_probe_agreement *a = &job->results[at];
    if (job->common.json) {
        tool_json json = tool_json_line("agreement");
        if (own) {
            tool_json_own(&json, &job->inputs.model);
        } else {
            tool_json_count(&json, "k", a->k);
        }
        tool_json_real(&json, "kl", a->kl);
        tool_json_real(&json, "kl_std", a->kl_std);
        tool_json_real(&json, "agreement", a->agreement);
        tool_json_end(&json, '}');
        return;
    }
    if (own) {
        printf("%7s", "own");
    } else {
        printf("%7zu", a->k);
    }
    printf("  %10.5f  %10.5f  %9.2f%%\n", a->kl, a->kl_std, 100 * a->agreement);
}

static void print_agreement(const probe_job *job) {
    if (!job->common.json) {
        printf("\nwhat the probe makes of the reconstructions of the test rows by %s\n",
               job->model_path);
        printf("%7s  %10s  %10s  %s\n", "k", "KL (nats)", "deviation", "same class");
    }
    tool_print_ks(&job->ks, print_agreement_at, job);
    if (!job->common.json) tool_print_own(&job->ks, &job->inputs.model);
}

/* The rows of the test that have a class: their numbers and values. */
static int gather_test(const probe_job *job, size_t **numbers, size_t *count, float **values) {
    const msae_data *data = tested(job);
    *count = 0;
    *values = NULL;
    *numbers = tool_alloc(data->rows, sizeof **numbers);
    if (*numbers == NULL) return tool_fail_memory();
    for (size_t r = 0; r < data->rows; r++) {
        if (job->test_of[r] != LINEAR_PROBE_NO_CLASS) (*numbers)[(*count)++] = r;
    }
    *values = tool_alloc(*count, data->cols * sizeof **values);
    if (*values == NULL) return tool_fail_memory();
    for (size_t i = 0; i < *count; i++) {
        msae_data_read(data, (*numbers)[i], 1, *values + i * data->cols);
    }
    return TOOL_OK;
}

/* The test's rows that have a class, and where their answers go. */
typedef struct comparison {
    const probe_job *job;
    msae_data rows;
} comparison;

static msae_status compare_at(void *context, const size_t *ks, size_t count, size_t at,
                              msae_error *error) {
    const comparison *c = context;
    return linear_probe_compare(&c->job->probe, &c->job->inputs.model, &c->rows, ks, count,
                                c->job->results + at, error);
}

static int compare(probe_job *job) {
    const char *path = job->test_path != NULL ? job->test_path : job->data_path;
    comparison rows = {.job = job};
    msae_error error;
    size_t *numbers, count;
    float *values;
    int status = gather_test(job, &numbers, &count, &values);
    job->results = tool_alloc(job->ks.count + 1, sizeof *job->results);
    if (job->results == NULL) status = tool_fail_memory();
    if (status == TOOL_OK) {
        rows.rows = msae_data_view(values, count, tested(job)->cols);
        if (tool_measure_ks(&job->ks, compare_at, &rows, &error) != MSAE_OK) {
            status = error.code == MSAE_ERROR_NOT_FINITE && error.position < count
                         ? tool_fail(path, "row %zu gives a NaN or Inf in the model",
                                     numbers[error.position])
                         : tool_fail_error(path, &error);
        }
    }
    free(values);
    free(numbers);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   The run
   ------------------------------------------------------------------------------------------ */

static int load(probe_job *job) {
    int status = tool_open_inputs(&job->inputs, &job->common, job->model_path, job->data_path);
    const msae_data *data = &job->inputs.data;
    if (status == TOOL_OK && job->model_path != NULL) {
        status = tool_settle_ks(&job->inputs.model, job->model_path, &job->ks);
    }
    if (status == TOOL_OK) {
        status =
            tool_load_labels(&job->labels, job->labels_path, job->column, data, job->data_path);
    }
    if (status == TOOL_OK) status = check_classes(job);
    if (status == TOOL_OK) status = hold_out(job);
    if (status != TOOL_OK || job->test_path == NULL) return status;
    status = tool_load_data(&job->test, job->test_path, job->common.tensor, data->cols,
                            job->common.skip_bad);
    if (status == TOOL_OK && job->model_path != NULL) {
        const msae_source source = msae_source_data(&job->test);
        status = tool_warn_of_kind(&job->inputs.model, &source, job->test_path,
                                   "test on rows of the same kind");
    }
    if (status == TOOL_OK) {
        status = tool_load_labels(&job->test_labels, job->test_labels_path, job->column, &job->test,
                                  job->test_path);
    }
    return status == TOOL_OK ? match_test_classes(job) : status;
}

static int run(void *context) {
    probe_job *job = context;
    linear_probe_desc desc = {0};
    linear_probe_score train, test;
    msae_error error;
    if (job->holdout >= 1) return tool_fail("--holdout", "%g is not below 1", (double)job->holdout);
    int status = load(job);
    if (status != TOOL_OK) return status;
    const double start = tool_seconds();
    desc.host = tool_host(&job->common, job->inputs.pool);
    desc.l2 = job->l2;
    desc.tolerance = job->tolerance;
    desc.input = (linear_probe_input)job->input;
    desc.max_iterations = job->iterations;
    if (linear_probe_fit(&job->probe, &job->inputs.data, job->train_of, job->labels.n_classes,
                         &desc, &error) != MSAE_OK ||
        linear_probe_measure(&job->probe, &job->inputs.data, job->train_of, &train, &error) !=
            MSAE_OK) {
        return tool_fail_error(job->data_path, &error);
    }
    const double seconds = tool_seconds() - start;
    if (linear_probe_measure(&job->probe, tested(job), job->test_of, &test, &error) != MSAE_OK) {
        return tool_fail_error(job->test_path != NULL ? job->test_path : job->data_path, &error);
    }
    if (job->model_path != NULL) status = compare(job);
    if (status != TOOL_OK) return status;
    print_scores(job, &train, &test, seconds);
    if (job->results != NULL) print_agreement(job);
    return TOOL_OK;
}

static void close_job(void *context) {
    probe_job *job = context;
    free(job->train_of);
    free(job->test_of);
    free(job->results);
    tool_free_labels(&job->labels);
    tool_free_labels(&job->test_labels);
    linear_probe_free(&job->probe);
    msae_data_free(&job->test);
    tool_close_inputs(&job->inputs);
}

static const probe_job defaults = {.holdout = DEFAULT_HOLDOUT};

#define AT(member) offsetof(probe_job, member)

static const tool_option options[] = {
    {"DATA", NULL, TOOL_OPERAND, AT(data_path), ""},
    {"--labels", "L.tsv", TOOL_TEXT, AT(labels_path), "a label for each row (required)"},
    {"--column", "C", TOOL_TEXT, AT(column), "the labels' column"},
    {"--model", "MODEL", TOOL_TEXT, AT(model_path),
     "also compare the probe's answers on embeddings and reconstructions"},
    {"--k", TOOL_KS_ARGUMENT, TOOL_KS, AT(ks), TOOL_KS_HELP},
    {"--test", "Y.npy", TOOL_TEXT, AT(test_path), "rows to test on, instead of held-out ones"},
    {"--test-labels", "M.tsv", TOOL_TEXT, AT(test_labels_path), "their labels"},
    {"--holdout", "SHARE", TOOL_POSITIVE, AT(holdout),
     "share of each class's rows to hold out (default: 0.2)"},
    {"--seed", "S", TOOL_NUMBER, AT(seed), "which rows are held out (default: 0)"},
    {"--min-rows", "N", TOOL_COUNT, AT(min_rows), "leave out classes of fewer rows"},
    {"--probe-input", "published|raw", TOOL_CHOICE, AT(input),
     "embeddings less their mean, or as they are, at unit length (default: published)"},
    {"--l2", "W", TOOL_POSITIVE, AT(l2), "weight of the penalty (default: 1e-6)"},
    {"--tolerance", "T", TOOL_POSITIVE, AT(tolerance),
     "ends when the gradient is this share of the first (default: 1e-5)"},
    {"--iterations", "N", TOOL_COUNT, AT(iterations), "steps of L-BFGS at most (default: 5000)"},
    {"--own-statistics", NULL, TOOL_FLAG, AT(common.own_statistics),
     "with --model: centre and scale DATA in it by its own mean and spread: for another\n"
     "modality (text for images)"},
    TOOL_OPTION_SKIP_BAD,
    TOOL_OPTION_TENSOR,
    TOOL_OPTION_REFINE,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_SIMD,
    TOOL_OPTION_JSON,
};

static const tool_rule rules[] = {
    {NULL, TOOL_REQUIRED, "--labels"},       {"--test", TOOL_TOGETHER, "--test-labels"},
    {"--k", TOOL_NEEDS, "--model"},          {"--own-statistics", TOOL_NEEDS, "--model"},
    {"--holdout", TOOL_EXCLUDES, "--test"},  {"--seed", TOOL_EXCLUDES, "--test"},
    {"--tensor", TOOL_READS, "DATA|--test"},
};

const tool_command tool_probe = {
    .name = "probe",
    .brief = "tells classes apart, and what reconstructions keep of them",
    .summary =
        "Fits a linear probe (multinomial logistic regression on embeddings of unit length) to\n"
        "labels and tests it on rows that it did not see. With a model: how far its answers on\n"
        "reconstructions at every k agree with those on the embeddings, as KL divergence and as\n"
        "the share of rows with the same answer. Rows with an empty label are left out.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(probe_job),
    .defaults = &defaults,
    .run = run,
    .close = close_job,
};
