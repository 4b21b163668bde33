/* Golden vectors: every recipe file and metrics.safetensors of the folders named on the command
   line (tests/golden by default) and of the folders in them, on every path of this machine. The
   latents kept must be the same, every number within LIMIT by relative L2 error. */
#include "metrics.h"

#include "audits.h"

#include <dirent.h>

#define LIMIT 1e-5

enum { LOSS, RECON, LATENT, GRAD, GRADCLIP, PARAM, METRIC, QUANTITIES };
static const char *const quantities[QUANTITIES] = {"loss",     "recon", "latent", "grad",
                                                   "gradclip", "param", "metric"};

static double worst[MSAE_SIMD_COUNT][QUANTITIES];

/* A file and the path it runs on. */
typedef struct golden {
    msae_safetensors file;
    const char *path;
    msae_simd simd;
} golden;

/* ---------------------------------------------------------------------------------------------
   Reading
   ------------------------------------------------------------------------------------------ */

/* The value of a key as a string, empty when it is not there. */
static void text_of(const golden *g, const char *key, char *text, size_t size) {
    const msae_metadata *entry = msae_safetensors_metadata(&g->file, key);
    size_t length = entry && entry->value_bytes < size ? entry->value_bytes : 0;
    if (length) memcpy(text, entry->value, length);
    text[length] = '\0';
}

static int text_is(const golden *g, const char *key, const char *expected) {
    char text[64];
    text_of(g, key, text, sizeof text);
    return strcmp(text, expected) == 0;
}

static float number_of(const golden *g, const char *key) {
    char text[64];
    text_of(g, key, text, sizeof text);
    return strtof(text, NULL);
}

static size_t size_of(const golden *g, const char *key) {
    return (size_t)number_of(g, key);
}

/* A JSON list of numbers; returns how many. */
static size_t list_of(const golden *g, const char *key, float *list) {
    char text[2048], *at = text;
    size_t count = 0;
    text_of(g, key, text, sizeof text);
    while (*at && count < MSAE_MAX_LEVELS) {
        char *end;
        float value = strtof(at + 1, &end);
        if (end == at + 1) break;
        list[count++] = value;
        at = end;
    }
    return count;
}

/* A tensor of `count` floats, released with free; NULL when there is none. */
static float *tensor_of(const golden *g, const char *name, size_t count) {
    const msae_tensor *tensor = msae_safetensors_find(&g->file, name);
    if (!tensor || tensor->dtype != MSAE_F32 || tensor->bytes != count * sizeof(float)) return NULL;
    float *values = test_floats(count);
    test_copy_le(values, tensor->data, count);
    return values;
}

/* A parameter, a gradient: as tensor_of, but in the order in which memory holds it. */
static float *parameter_of(const golden *g, const char *name, const test_parameter *p) {
    float *values = tensor_of(g, name, p->rows * p->cols);
    if (!values || strcmp(p->name, "encoder") != 0) return values;
    float *transposed = test_floats(p->rows * p->cols);
    for (size_t i = 0; i < p->rows; i++) {
        for (size_t j = 0; j < p->cols; j++) {
            transposed[i * p->cols + j] = values[j * p->rows + i];
        }
    }
    free(values);
    return transposed;
}

/* ---------------------------------------------------------------------------------------------
   Comparing
   ------------------------------------------------------------------------------------------ */

/* Frees `want`, which came from tensor_of or parameter_of. */
static void compare(const golden *g, int quantity, const char *name, const float *got, float *want,
                    size_t count) {
    test_note("%s, %s, %s", g->path, msae_enum_name(MSAE_ENUM_SIMD, (int)g->simd), name);
    if (!CHECK(want != NULL)) return;
    double error = test_error(got, want, count);
    test_note("%s, %s, %s: error %.2e", g->path, msae_enum_name(MSAE_ENUM_SIMD, (int)g->simd), name,
              error);
    CHECK(error <= LIMIT);
    if (!(error <= worst[g->simd][quantity])) worst[g->simd][quantity] = error;
    free(want);
}

static void compare_number(const golden *g, int quantity, const char *name, double got) {
    float value = (float)got;
    compare(g, quantity, name, &value, tensor_of(g, name, 1), 1);
}

/* A metric without a value (fvu_row of one input, cknna of fewer than 12 rows) is no number in the
   file either, or not there. */
static void compare_metric(const golden *g, const char *name, double got) {
    if (test_magnitude(got) <= TEST_INFINITY) {
        compare_number(g, METRIC, name, got);
        return;
    }
    float *want = tensor_of(g, name, 1);
    test_note("%s, %s, %s: no value", g->path, msae_enum_name(MSAE_ENUM_SIMD, (int)g->simd), name);
    CHECK(want == NULL || test_magnitude((double)*want) > TEST_INFINITY);
    free(want);
}

/* Compares all of `got` with the tensors "prefix.name". */
static void compare_parameters(const golden *g, int quantity, const char *prefix,
                               const msae_model *model, const msae_parameters *got) {
    test_parameter list[TEST_MAX_PARAMETERS];
    size_t count = test_list(model, got, list);
    for (size_t i = 0; i < count; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.%s", prefix, list[i].name);
        compare(g, quantity, name, list[i].values, parameter_of(g, name, &list[i]),
                list[i].rows * list[i].cols);
    }
}

static void compare_latents(const golden *g, const char *name, const float *got, size_t count) {
    float *want = tensor_of(g, name, count);
    size_t differ = 0;
    for (size_t i = 0; want && i < count; i++) differ += (got[i] != 0) != (want[i] != 0);
    test_note("%s, %s, %s", g->path, msae_enum_name(MSAE_ENUM_SIMD, (int)g->simd), name);
    CHECK(differ == 0);
    compare(g, LATENT, name, got, want, count);
}

/* ---------------------------------------------------------------------------------------------
   Recipes
   ------------------------------------------------------------------------------------------ */

/* The descriptor that a file's metadata asks for; `levels` and `weights` hold its lists. */
static msae_train_desc desc_of(const golden *g, size_t *levels, float *weights) {
    msae_train_desc desc;
    float ks[MSAE_MAX_LEVELS];
    memset(&desc, 0, sizeof desc);
    desc.model.host.simd = g->simd;
    desc.model.n_inputs = size_of(g, "d");
    desc.model.n_latents = size_of(g, "n");
    desc.model.tied = text_is(g, "tied", "True");
    desc.model.normalize = text_is(g, "normalize", "True");
    desc.model.soft_cap = number_of(g, "softcap");

    size_t n_levels = list_of(g, "ks", ks);
    size_t n_weights = list_of(g, "weights", weights);
    for (size_t i = 0; i < n_levels; i++) levels[i] = (size_t)ks[i];
    if (text_is(g, "act", "topk_nested")) {
        desc.model.recipe = MSAE_RECIPE_MSAE_UW;
        desc.model.nesting = levels;
        desc.model.n_levels = n_levels;
        desc.model.level_weights = weights;
        desc.model.n_level_weights = n_weights;
    } else if (text_is(g, "act", "topk") || text_is(g, "act", "topk_abs")) {
        desc.model.recipe = MSAE_RECIPE_TOPK;
        desc.model.k = levels[0];
        if (text_is(g, "act", "topk_abs")) desc.model.activation = MSAE_ACTIVATION_ABS;
    } else if (text_is(g, "act", "batchtopk")) {
        desc.model.recipe = MSAE_RECIPE_BATCHTOPK;
        desc.model.k = levels[0];
    } else if (text_is(g, "act", "relu")) {
        desc.model.recipe = MSAE_RECIPE_RELU;
    } else {
        CHECK(text_is(g, "act", "jumprelu"));
        desc.model.recipe = MSAE_RECIPE_JUMPRELU;
    }

    desc.batch = size_of(g, "batch");
    desc.loss = text_is(g, "loss", "nmse")  ? MSAE_LOSS_NMSE
                : text_is(g, "loss", "mse") ? MSAE_LOSS_MSE
                                            : MSAE_LOSS_COSINE;
    desc.sparse_weight = text_is(g, "sparse", "none") ? MSAE_OFF : number_of(g, "sparse_weight");
    if (text_is(g, "act", "jumprelu")) desc.bandwidth = number_of(g, "bandwidth");
    desc.lr = number_of(g, "hyper_lr");
    desc.beta1 = number_of(g, "hyper_beta1");
    desc.beta2 = number_of(g, "hyper_beta2");
    desc.eps = number_of(g, "hyper_eps");
    desc.weight_decay = number_of(g, "hyper_weight_decay");
    desc.clip = number_of(g, "hyper_clip");
    return desc;
}

static void run_forward(const golden *g, msae_trainer *trainer, const msae_data *data, size_t t) {
    size_t rows = data->rows, d = data->cols, n = trainer->model.n_latents;
    size_t levels = trainer->model.n_levels;
    float *recon = test_floats(levels * rows * d);
    float *latents = test_floats(levels * rows * n);
    CHECK_STATUS(MSAE_OK,
                 msae_trainer_forward(trainer, data, NULL, rows, recon, latents, NULL, NULL));
    for (size_t i = 0; i < levels; i++) {
        char name[64];
        snprintf(name, sizeof name, "recon.%zu.%zu", t, i);
        compare(g, RECON, name, recon + i * rows * d, tensor_of(g, name, rows * d), rows * d);
        snprintf(name, sizeof name, "latent.%zu.%zu", t, i);
        compare_latents(g, name, latents + i * rows * n, rows * n);
    }
    free(recon);
    free(latents);
}

/* What Adam got is not kept, but the first moments before and after the update tell. Leaves it in
   `before`, which held the moments from before. */
static void recover_gradient(const msae_trainer *trainer, msae_parameters *before) {
    test_parameter old[TEST_MAX_PARAMETERS], now[TEST_MAX_PARAMETERS];
    size_t count = test_list(&trainer->model, before, old);
    test_list(&trainer->model, &trainer->moment1, now);
    for (size_t i = 0; i < count; i++) {
        double beta = (double)trainer->desc.beta1;
        for (size_t j = 0; j < old[i].rows * old[i].cols; j++) {
            double m = (double)old[i].values[j], next = (double)now[i].values[j];
            old[i].values[j] = (float)((next - beta * m) / (1 - beta));
        }
    }
}

/* A copy of the trainer's first moments in one block, `encoder`'s. */
static msae_parameters copy_moments(const msae_trainer *trainer) {
    test_parameter list[TEST_MAX_PARAMETERS];
    size_t count = test_list(&trainer->model, &trainer->moment1, list);
    size_t d = trainer->model.n_inputs, n = trainer->model.n_latents;
    float *block = test_floats(2 * n * d + d + 2 * n);
    msae_parameters copy = {block, block + n * d, block + 2 * n * d, block + 2 * n * d + d, NULL};
    if (trainer->model.log_threshold) copy.log_threshold = copy.latent_bias + n;
    test_parameter target[TEST_MAX_PARAMETERS];
    test_list(&trainer->model, &copy, target);
    for (size_t i = 0; i < count; i++) {
        memcpy(target[i].values, list[i].values, list[i].rows * list[i].cols * sizeof(float));
    }
    return copy;
}

static void run_step(const golden *g, msae_trainer *trainer, size_t t) {
    size_t rows = trainer->desc.batch, d = trainer->model.n_inputs;
    char name[64];
    snprintf(name, sizeof name, "x.%zu", t);
    float *x = tensor_of(g, name, rows * d);
    if (!CHECK(x != NULL)) return;
    msae_data data = msae_data_view(x, rows, d);
    run_forward(g, trainer, &data, t);

    msae_step_stats stats;
    CHECK_STATUS(MSAE_OK, msae_trainer_gradients(trainer, &data, NULL, rows, &stats, NULL));
    snprintf(name, sizeof name, "loss.%zu", t);
    compare_number(g, LOSS, name, stats.loss);
    snprintf(name, sizeof name, "recon_loss.%zu", t);
    compare_number(g, LOSS, name, stats.recon_loss);
    snprintf(name, sizeof name, "sparse_loss.%zu", t);
    compare_number(g, LOSS, name, stats.sparse_loss);
    snprintf(name, sizeof name, "grad.%zu", t);
    compare_parameters(g, GRAD, name, &trainer->model, &trainer->grad);

    msae_parameters clipped = copy_moments(trainer);
    CHECK_STATUS(MSAE_OK, msae_trainer_update(trainer, &stats, NULL));
    recover_gradient(trainer, &clipped);
    snprintf(name, sizeof name, "gradclip.%zu", t);
    compare_parameters(g, GRADCLIP, name, &trainer->model, &clipped);
    snprintf(name, sizeof name, "param.%zu", t);
    msae_parameters weights = test_weights(&trainer->model);
    compare_parameters(g, PARAM, name, &trainer->model, &weights);
    free(clipped.encoder);
    free(x);
}

static void run_recipe(const golden *g) {
    size_t levels[MSAE_MAX_LEVELS];
    float level_weights[MSAE_MAX_LEVELS];
    msae_train_desc desc = desc_of(g, levels, level_weights);
    msae_trainer trainer;
    msae_error error = {MSAE_OK, MSAE_NO_POSITION, ""};
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, &error))) {
        printf("%s: %s\n", g->path, error.message);
        return;
    }

    msae_parameters weights = test_weights(&trainer.model);
    test_parameter list[TEST_MAX_PARAMETERS];
    size_t count = test_list(&trainer.model, &weights, list);
    int complete = 1;
    for (size_t i = 0; i < count; i++) {
        char name[64];
        snprintf(name, sizeof name, "init.%s", list[i].name);
        float *values = parameter_of(g, name, &list[i]);
        complete &= CHECK(values != NULL);
        if (values) memcpy(list[i].values, values, list[i].rows * list[i].cols * sizeof(float));
        free(values);
    }
    float *mean = tensor_of(g, "loss_mean", desc.model.n_inputs);
    complete &= CHECK(mean != NULL);
    if (mean) memcpy(trainer.loss_mean, mean, desc.model.n_inputs * sizeof(float));
    free(mean);

    size_t steps = size_of(g, "steps");
    complete &= CHECK(steps > 0);
    for (size_t t = 0; complete && t < steps; t++) run_step(g, &trainer, t);
    msae_trainer_free(&trainer);
}

/* ---------------------------------------------------------------------------------------------
   Metrics
   ------------------------------------------------------------------------------------------ */

/* The rows and columns of a matrix. */
static int shape_of(const golden *g, const char *name, size_t *rows, size_t *cols) {
    const msae_tensor *tensor = msae_safetensors_find(&g->file, name);
    if (!tensor || tensor->rank != 2) return 0;
    *rows = tensor->shape[0];
    *cols = tensor->shape[1];
    return 1;
}

/* The matching of two decoders, column by column. */
static void compare_alignment(const golden *g, const float *decoder, size_t n, size_t d) {
    float *other = tensor_of(g, "decoder2", n * d), *want = tensor_of(g, "alignment_columns", n);
    size_t *columns = (size_t *)test_alloc(n * sizeof *columns);
    alignment_result alignment;
    msae_host host;
    memset(&host, 0, sizeof host);
    host.simd = g->simd;
    if (CHECK(other && want) &&
        CHECK_STATUS(MSAE_OK, test_align(decoder, n, other, n, d, &host, columns, &alignment))) {
        for (size_t j = 0; j < n; j++) CHECK((float)columns[j] == want[j]);
        compare_number(g, METRIC, "alignment", alignment.mean);
    }
    free(other);
    free(want);
    free(columns);
}

static void run_metrics(const golden *g) {
    size_t rows, d, n;
    if (!CHECK(shape_of(g, "x", &rows, &d) && shape_of(g, "latents", &rows, &n))) return;
    float *x = tensor_of(g, "x", rows * d), *recon = tensor_of(g, "recon", rows * d);
    float *latents = tensor_of(g, "latents", rows * n);
    float *decoder = tensor_of(g, "decoder", n * d);
    msae_model model;
    msae_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.n_inputs = d;
    desc.n_latents = n;
    desc.host.simd = g->simd;
    if (CHECK(x && recon && latents && decoder) &&
        CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc, NULL))) {
        memcpy(model.decoder, decoder, n * d * sizeof(float));
        msae_metrics m;
        double cknna = 0, overlap = 0;
        m = test_measure(x, recon, latents, rows, d, n);
        cknna = test_cknna(&model, x, d, latents, n, rows);
        CHECK_STATUS(MSAE_OK, msae_decoder_overlap(&model, 0, &overlap, NULL));
        const struct {
            const char *name;
            double value;
        } values[] = {
            {"fvu_row", m.fvu_row}, {"fvu_set", m.fvu_set},   {"nmse", m.nmse}, {"nmae", m.nmae},
            {"cs", m.cs},           {"sparsity", m.sparsity}, {"l0", m.l0},     {"do", overlap},
            {"cknna", cknna},       {"ndn", (double)m.ndn},
        };
        for (size_t i = 0; i < COUNT(values); i++) {
            compare_metric(g, values[i].name, values[i].value);
        }
        compare_alignment(g, decoder, n, d);
        float *median = test_floats(d);
        msae_data data = msae_data_view(x, rows, d);
        CHECK_STATUS(MSAE_OK, test_geometric_median(&data, NULL, 1, 0, NULL, median, NULL));
        compare(g, METRIC, "geometric_median", median, tensor_of(g, "geometric_median", d), d);
        free(median);
        msae_model_free(&model);
    }
    free(x);
    free(recon);
    free(latents);
    free(decoder);
}

/* ---------------------------------------------------------------------------------------------
   Folders
   ------------------------------------------------------------------------------------------ */

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* A file is one case on each path. */
static void run_file(const char *path) {
    golden g;
    void *bytes;
    size_t size;
    int metrics = ends_with(path, "metrics.safetensors");
    g.path = path;
    FOR_EACH_PATH(simd) {
        g.simd = simd;
        test_begin(path);
        bytes = test_read_file(path, &size);
        if (CHECK(bytes)) {
            if (CHECK_STATUS(MSAE_OK, msae_safetensors_open(&g.file, msae_from_memory(bytes, size),
                                                            NULL, NULL))) {
                if (metrics) run_metrics(&g);
                if (!metrics && CHECK(!text_is(&g, "recipe", ""))) run_recipe(&g);
                msae_safetensors_close(&g.file);
            }
            free(bytes);
        }
        test_end();
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Runs what is in a folder, in the order of the names; gives 0 when it is not a folder. */
static int run_folder(const char *folder, int depth) {
    DIR *stream = opendir(folder);
    char *paths[1024];
    size_t count = 0;
    if (!stream) return 0;
    for (struct dirent *entry; (entry = readdir(stream)) && count < COUNT(paths);) {
        if (entry->d_name[0] == '.') continue;
        size_t bytes = strlen(folder) + strlen(entry->d_name) + 2;
        paths[count] = (char *)test_alloc(bytes);
        snprintf(paths[count++], bytes, "%s/%s", folder, entry->d_name);
    }
    closedir(stream);
    qsort(paths, count, sizeof *paths, by_name);
    for (size_t i = 0; i < count; i++) {
        if (ends_with(paths[i], ".safetensors")) {
            run_file(paths[i]);
        } else if (depth > 0) {
            run_folder(paths[i], depth - 1);
        }
        free(paths[i]);
    }
    return 1;
}

static void print_worst(void) {
    printf("worst relative L2 error, limit %.0e\n%-8s", LIMIT, "path");
    for (size_t i = 0; i < QUANTITIES; i++) printf("  %-8s", quantities[i]);
    printf("\n");
    FOR_EACH_PATH(simd) {
        printf("%-8s", msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
        for (size_t i = 0; i < QUANTITIES; i++) printf("  %.2e", worst[simd][i]);
        printf("\n");
    }
}

int main(int argc, char **argv) {
    static char *standard[] = {NULL, (char *)"tests/golden"};
    if (argc < 2) {
        argc = 2;
        argv = standard;
    }
    for (int i = 1; i < argc; i++) {
        if (!run_folder(argv[i], 1)) {
            printf("%s: no such folder\n", argv[i]);
            test_failed++;
        }
    }
    print_worst();
    return test_finish();
}
