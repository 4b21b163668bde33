/* Models in other projects' layouts: what is read computes what the layout means, what is written
   and read again computes the same, and what cannot be said exactly is refused with the reason. */
#include "test.h"

#include "../examples/tool/tool.h"

#include <dirent.h>

/* What the tool says is caught, to be looked at. */
static FILE *said(void) {
    static FILE *file;
    if (file == NULL) file = tmpfile();
    if (file == NULL) {
        puts("no temporary file");
        exit(1);
    }
    return file;
}

#undef stderr
#define stderr said()

#include "../examples/tool/bytes.c"
#include "../examples/tool/numbers.c"
#include "../examples/tool/output.c"
#include "../examples/tool/files.c"
#include "../examples/tool/kinds.c"
#include "../examples/tool/places.c"
#include "../examples/tool/rows.c"
#include "../examples/tool/outcome.c"
#include "../examples/tool/statistics.c"
#include "../examples/tool/zip.c"
#include "../examples/tool/torch.c"
#include "../examples/tool/inflate.c"
#include "../examples/tool/matrix.c"
#include "../examples/tool/json.c"
#include "../examples/tool/layouts.c"
#include "../examples/tool/export.c"
#include "../examples/tool/published.c"

static const char *folder; /* for files */
static size_t skipped;

/* The text since the last time. */
static const char *heard(void) {
    static char text[4096];
    const long bytes = ftell(said());
    rewind(said());
    text[fread(text, 1, bytes > 0 && bytes < 4096 ? (size_t)bytes : 0, said())] = '\0';
    rewind(said());
    return text;
}

static const char *path_of(const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_text(const char *path, const void *text, size_t size) {
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(text, 1, size, file) == size);
    if (file != NULL) fclose(file);
}

/* Takes away a folder that holds files only. */
static void remove_folder(const char *path) {
    DIR *open = opendir(path);
    if (open == NULL) return;
    for (struct dirent *entry; (entry = readdir(open)) != NULL;) {
        char *inside = path_in(path, entry->d_name);
        if (entry->d_name[0] != '.') remove(inside);
        free(inside);
    }
    closedir(open);
    rmdir(path);
}

static int is_empty(const char *path) {
    int count = 0;
    DIR *open = opendir(path);
    while (open != NULL && readdir(open) != NULL) count++;
    if (open != NULL) closedir(open);
    return count == 2;
}

/* ---------------------------------------------------------------------------------------------
   What models compute
   ------------------------------------------------------------------------------------------ */

/* Dense latents [rows, n] and reconstructions [rows, d] of a model. */
typedef struct outcome {
    float *z, *r;
} outcome;

static outcome compute(const msae_model *model, const float *x, size_t rows, size_t k) {
    const size_t n = model->n_latents, d = model->n_inputs;
    void *workspace = test_alloc(msae_workspace_bytes(model, rows));
    msae_code *codes = (msae_code *)test_alloc(n * sizeof *codes);
    outcome out = {test_floats(rows * n), test_floats(rows * d)};
    CHECK_STATUS(MSAE_OK, msae_encode_dense(model, workspace, x, rows, k, out.z, NULL));
    for (size_t r = 0; r < rows; r++) {
        float moments[2];
        const size_t count = k > 0 ? test_encode(model, workspace, x + r * d, k, codes)
                                   : test_encode_own(model, workspace, x + r * d, codes);
        msae_row_moments(model, x + r * d, moments);
        msae_decode(model, codes, count, moments, out.r + r * d);
    }
    free(workspace);
    free(codes);
    return out;
}

static void forget(outcome *out) {
    free(out->z);
    free(out->r);
}

/* The largest difference between a [count] and factor * b. */
static double distance(const float *a, const float *b, size_t count, double factor) {
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        const double difference = fabs((double)a[i] - factor * (double)b[i]);
        if (!(difference <= worst)) worst = difference;
    }
    return worst;
}

/* Loads a model and compares what it computes. */
static void check_same(const char *path, const float *x, size_t rows, size_t k,
                       const outcome *wanted, double factor) {
    msae_model model;
    if (!CHECK(tool_load_model(&model, path, NULL) == TOOL_OK)) {
        printf("  it said: %s", heard());
        return;
    }
    outcome got = compute(&model, x, rows, k);
    const double z = distance(got.z, wanted->z, rows * model.n_latents, factor);
    const double r = distance(got.r, wanted->r, rows * model.n_inputs, 1);
    if (!CHECK(z <= 1e-5 && r <= 1e-5)) printf("  off by %.3g and %.3g\n", z, r);
    forget(&got);
    msae_model_free(&model);
}

/* ---------------------------------------------------------------------------------------------
   Models that other code made, where they are at hand
   ------------------------------------------------------------------------------------------ */

static const char shared[] = "../shared/models";

static float *load_tensor(const char *path, const char *name, size_t *rows, size_t *cols) {
    msae_data data;
    float *values = NULL;
    if (msae_data_load(&data, msae_from_file(path), name, NULL, NULL) != MSAE_OK) return NULL;
    values = test_floats(data.rows * data.cols);
    msae_data_read(&data, 0, data.rows, values);
    *rows = data.rows;
    *cols = data.cols;
    msae_data_free(&data);
    return values;
}

/* A folder with expected.safetensors: the model in it, or its .pth. */
static void check_expected(const char *name) {
    char expected[512], path[512], inside[1024] = "";
    size_t rows = 0, d = 0, n = 0;
    outcome wanted;
    snprintf(path, sizeof path, "%s/%.200s", shared, name);
    snprintf(expected, sizeof expected, "%s/%.200s/expected.safetensors", shared, name);
    DIR *open = opendir(path);
    for (struct dirent *entry; open != NULL && (entry = readdir(open)) != NULL;) {
        if (strstr(entry->d_name, ".pth") != NULL) {
            snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        }
    }
    if (open != NULL) closedir(open);
    float *x = load_tensor(expected, "x", &rows, &d);
    if (x == NULL) return;
    test_note("%s", name);
    wanted.z = load_tensor(expected, "codes", &rows, &n);
    wanted.r = load_tensor(expected, "recon", &rows, &d);
    check_same(inside[0] != '\0' ? inside : path, x, rows, 0, &wanted, 1);
    forget(&wanted);
    wanted.z = load_tensor(expected, "codes_topk", &rows, &n);
    wanted.r = load_tensor(expected, "recon_topk", &rows, &d);
    if (wanted.z != NULL && wanted.r != NULL) { /* the k of their metadata */
        check_same(inside[0] != '\0' ? inside : path, x, rows, 8, &wanted, 1);
    }
    forget(&wanted);
    free(x);
}

static void models_of_other_code(void) {
    DIR *open = opendir(shared);
    if (open == NULL) {
        printf("%s is not there: its models are not compared\n", shared);
        skipped++;
        return;
    }
    for (struct dirent *entry; (entry = readdir(open)) != NULL;) {
        if (entry->d_name[0] != '.') check_expected(entry->d_name);
    }
    closedir(open);
}

/* ---------------------------------------------------------------------------------------------
   There and back
   ------------------------------------------------------------------------------------------ */

enum { ROWS = 30 };

/* A trained model over data that is neither centred nor scaled. */
static int train(msae_trainer *trainer, const msae_train_desc *desc, const float *x) {
    const msae_data data = msae_data_view(x, ROWS, desc->model.n_inputs);
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(trainer, desc, NULL))) return 0;
    CHECK_STATUS(MSAE_OK, test_statistics(trainer, &data, NULL));
    for (int i = 0; i < 8; i++) {
        CHECK_STATUS(MSAE_OK, msae_trainer_step(trainer, x, ROWS, NULL, NULL));
    }
    return 1;
}

static float *shifted_rows(size_t d) {
    float *x = test_random_floats(5, ROWS * d, 0.3f);
    for (size_t i = 0; i < ROWS * d; i++) x[i] += 0.2f * (float)(i % d % 5) - 0.3f;
    return x;
}

/* dictionary_learning's AutoEncoder gives latents times the decoder row's norm. */
static void scale_by_norms(const msae_model *model, outcome *out) {
    for (size_t j = 0; j < model->n_latents; j++) {
        const double norm = test_norm(model->decoder + j * model->n_inputs, model->n_inputs);
        for (size_t r = 0; r < ROWS; r++) {
            out->z[r * model->n_latents + j] *= (float)norm;
        }
    }
}

/* Rows of norm 1 to float precision, or the loader of theirs does not take the file. */
static void check_unit_rows(const char *path) {
    msae_reader reader = msae_from_file(path);
    torch_file file;
    CHECK_STATUS(MSAE_OK, msae__open_reader(&reader, NULL));
    CHECK_STATUS(MSAE_OK, torch_open(&file, &reader, 0, NULL, NULL));
    const torch_value *value = torch_find(file.root, "decoder.weight");
    if (CHECK(value != NULL && value->kind == TORCH_TENSOR)) {
        const torch_tensor decoder = torch_transposed(value->as.tensor);
        const size_t n = (size_t)decoder.shape[0], d = (size_t)decoder.shape[1];
        float *rows = test_floats(n * d);
        CHECK_STATUS(MSAE_OK, torch_read(&reader, &decoder, MSAE_F32, rows, NULL, NULL));
        for (size_t j = 0; j < n; j++) CHECK(fabs(test_norm(rows + j * d, d) - 1) < 1e-6);
        free(rows);
    }
    torch_close(&file);
    msae__close_reader(&reader);
}

static void there_and_back(const msae_model *model, const float *x, tool_layout layout, size_t k) {
    const char *out = path_of("there"), *back = path_of("back.safetensors");
    tool_target target, as_it_is = {TOOL_LAYOUT_MSAE, MSAE_RECIPE_DEFAULT, 0, 0, MSAE_F32};
    /* other layouts know a nested model's largest level, or a k that is asked for */
    const int by_level = k == 0 && layout != TOOL_LAYOUT_MSAE && tool_is_nested(model->recipe);
    outcome wanted = compute(model, x, ROWS, by_level ? model->nesting[model->n_levels - 1] : k);
    const double factor = 1 / (double)model->scale;
    msae_model loaded;
    if (CHECK(tool_plan_export(model, "it", layout, k, &target) == TOOL_OK) &&
        CHECK(tool_export_model(model, out, &target) == TOOL_OK)) {
        if (layout == TOOL_LAYOUT_DICTIONARY && target.recipe == MSAE_RECIPE_RELU) {
            scale_by_norms(model, &wanted);
            check_unit_rows(path_of("there/ae.pt"));
        }
        check_same(out, x, ROWS, 0, &wanted, factor);
        if (CHECK(tool_load_model(&loaded, out, NULL) == TOOL_OK)) {
            CHECK(tool_plan_export(&loaded, out, TOOL_LAYOUT_MSAE, 0, &as_it_is) == TOOL_OK);
            CHECK(tool_export_model(&loaded, back, &as_it_is) == TOOL_OK);
            check_same(back, x, ROWS, 0, &wanted, factor);
            msae_model_free(&loaded);
        }
        remove(back);
    } else {
        printf("  it said: %s", heard());
    }
    remove_folder(out);
    forget(&wanted);
}

static void check_not_written(const msae_model *model, tool_layout layout, const char *reason) {
    tool_target target;
    heard();
    CHECK(tool_plan_export(model, "it", layout, 0, &target) == TOOL_FAILED);
    const char *text = heard();
    if (!CHECK(strstr(text, reason) != NULL)) printf("  it said: %s", text);
}

static const char *reason_against(const test_recipe *recipe, tool_layout layout) {
    if (recipe->soft_cap > 0) return "has a soft cap";
    if (recipe->normalize) return "normalizes each row";
    if (recipe->activation == MSAE_ACTIVATION_ABS) return "by their magnitude (abs)";
    if (recipe->activation == MSAE_ACTIVATION_IDENTITY) return "negative latents (identity)";
    if (layout != TOOL_LAYOUT_SPARSIFY) return NULL;
    if (recipe->recipe == MSAE_RECIPE_JUMPRELU) return "whose thresholds sparsify has no place for";
    if (test_is_batch_topk(recipe->recipe)) return "whose threshold sparsify has no place for";
    return NULL;
}

/* Of nested widths the others know the last one, which is a BatchTopK; ours knows them all. */
static void widths_elsewhere(void) {
    msae_train_desc desc = test_desc(&test_recipes[COUNT(test_recipes) - 1], 8, 32);
    float *x = shifted_rows(8);
    msae_trainer trainer;
    if (train(&trainer, &desc, x)) {
        tool_target target;
        CHECK(trainer.model.recipe == MSAE_RECIPE_MSAE_WIDTH && trainer.model.n_levels > 1);
        for (int layout = TOOL_LAYOUT_MSAE; layout <= TOOL_LAYOUT_DICTIONARY; layout++) {
            test_note("%s", tool_layout_name((tool_layout)layout));
            memset(&target, 0, sizeof target);
            if (layout != TOOL_LAYOUT_SPARSIFY) {
                CHECK(tool_plan_export(&trainer.model, "it", (tool_layout)layout, 0, &target) ==
                      TOOL_OK);
                CHECK(target.recipe == (layout == TOOL_LAYOUT_MSAE ? MSAE_RECIPE_MSAE_WIDTH
                                                                   : MSAE_RECIPE_BATCHTOPK));
                CHECK(target.k == trainer.model.k && target.k == 5);
            }
            CHECK(tool_plan_export(&trainer.model, "it", (tool_layout)layout, 3, &target) ==
                  TOOL_OK);
            CHECK(target.recipe == MSAE_RECIPE_TOPK && target.k == 3);
        }
        msae_trainer_free(&trainer);
    }
    free(x);
}

static void to_every_layout_and_back(void) {
    static const size_t sizes[][2] = {{8, 32}, {24, 96}, {5, 13}, {17, 9}};
    static const msae_scaling scalings[] = {MSAE_SCALING_RMS, MSAE_SCALING_PAPER,
                                            MSAE_SCALING_NONE};
    size_t turn = 0;
    for (size_t s = 0; s < COUNT(sizes); s++) {
        float *x = shifted_rows(sizes[s][0]);
        FOR_EACH_RECIPE(recipe) {
            msae_train_desc desc = test_desc(recipe, sizes[s][0], sizes[s][1]);
            msae_trainer trainer;
            if (desc.model.nesting_start > 0) desc.model.nesting_start = 2;
            desc.scaling = scalings[turn++ % COUNT(scalings)];
            test_note("%s, %d to %d", recipe->name, (int)sizes[s][0], (int)sizes[s][1]);
            if (!train(&trainer, &desc, x)) continue;
            for (int layout = TOOL_LAYOUT_SAELENS; layout <= TOOL_LAYOUT_DICTIONARY; layout++) {
                const char *reason = reason_against(recipe, (tool_layout)layout);
                test_note("%s, %d to %d, %s", recipe->name, (int)sizes[s][0], (int)sizes[s][1],
                          tool_layout_name((tool_layout)layout));
                if (reason != NULL) {
                    check_not_written(&trainer.model, (tool_layout)layout, reason);
                } else {
                    there_and_back(&trainer.model, x, (tool_layout)layout, 0);
                }
                if (reason == NULL && recipe->recipe != MSAE_RECIPE_JUMPRELU) {
                    there_and_back(&trainer.model, x, (tool_layout)layout, 3);
                }
            }
            msae_trainer_free(&trainer);
        }
        free(x);
    }
}

/* Levels that stop before all latents are a TopK; in our own layout they stay, with another k. */
/* A .pth of each recipe that has one, under the name that says its hyper-parameters. */
static void published_and_back(void) {
    float *x = shifted_rows(8);
    size_t written = 0;
    FOR_EACH_RECIPE(recipe) {
        msae_train_desc desc = test_desc(recipe, 8, 20);
        msae_trainer trainer;
        msae_model back;
        tool_target target;
        tool_layout layout;
        char name[NAME_BYTES], file[512];
        test_note("%s", recipe->name);
        if (!train(&trainer, &desc, x)) continue;
        const msae_model *model = &trainer.model;
        heard();
        if (tool_plan_export(model, "it", TOOL_LAYOUT_PTH, 0, &target) != TOOL_OK) {
            const char *said = heard();
            CHECK(strstr(said, "which the published load_model cannot load") != NULL ||
                  strstr(said, "whose threshold msae-pth has no place for") != NULL);
            msae_trainer_free(&trainer);
            continue;
        }
        CHECK(tool_export_model(model, path_of("x.pth"), &target) == TOOL_FAILED);
        put_name(model, &target, name);
        CHECK(strstr(heard(), name) != NULL);
        snprintf(file, sizeof file, "%s_data.pth", path_of(name));
        if (CHECK(tool_export_model(model, file, &target) == TOOL_OK) &&
            CHECK(tool_import_model(&back, file, NULL, NULL, &layout) == TOOL_OK)) {
            CHECK(layout == TOOL_LAYOUT_PTH);
            outcome wanted = compute(model, x, ROWS, 5);
            check_same(file, x, ROWS, 5, &wanted, 1);
            CHECK(test_same(back.encoder, model->encoder, 20 * 8));
            CHECK(test_same(back.mean, model->mean, 8) && back.scale == model->scale);
            CHECK(back.tied == model->tied && back.normalize == model->normalize);
            forget(&wanted);
            msae_model_free(&back);
            written++;
        }
        remove(file);
        msae_trainer_free(&trainer);
    }
    CHECK(written >= 4);
    heard();
    free(x);
}

static void as_topk(void) {
    static const size_t levels[] = {2, 5};
    test_recipe recipe = test_recipes[0];
    float *x = shifted_rows(8);
    msae_train_desc desc = test_desc(&recipe, 8, 20);
    msae_trainer trainer;
    msae_model loaded;
    tool_target target;
    desc.model.nesting = levels;
    desc.model.nesting_start = 0;
    desc.model.n_levels = 2;
    if (train(&trainer, &desc, x)) {
        const char *path = path_of("k.safetensors");
        outcome wanted = compute(&trainer.model, x, ROWS, 4);
        CHECK(tool_plan_export(&trainer.model, "it", TOOL_LAYOUT_SPARSIFY, 0, &target) == TOOL_OK);
        CHECK(target.recipe == MSAE_RECIPE_TOPK && target.k == 5);
        there_and_back(&trainer.model, x, TOOL_LAYOUT_SPARSIFY, 0);
        CHECK(tool_plan_export(&trainer.model, "it", TOOL_LAYOUT_MSAE, 4, &target) == TOOL_OK);
        CHECK(tool_export_model(&trainer.model, path, &target) == TOOL_OK);
        check_same(path, x, ROWS, 0, &wanted, 1);
        if (CHECK(tool_load_model(&loaded, path, NULL) == TOOL_OK)) {
            CHECK(loaded.recipe == recipe.recipe && loaded.nesting[1] == 5 && loaded.k == 4);
            CHECK(loaded.history.steps == 8 && loaded.scale == trainer.model.scale);
            msae_model_free(&loaded);
        }
        heard();
        CHECK(tool_plan_export(&trainer.model, "it", TOOL_LAYOUT_MSAE, 21, &target) == TOOL_FAILED);
        CHECK(strstr(heard(), "--k: 21 is more than the 20 latents") != NULL);
        remove(path);
        forget(&wanted);
        msae_trainer_free(&trainer);
    }
    recipe = test_recipes[9]; /* jumprelu */
    desc = test_desc(&recipe, 8, 20);
    if (train(&trainer, &desc, x)) {
        CHECK(tool_plan_export(&trainer.model, "it", TOOL_LAYOUT_SAELENS, 3, &target) ==
              TOOL_FAILED);
        CHECK(strstr(heard(), "which a TopK cannot keep") != NULL);
        msae_trainer_free(&trainer);
    }
    free(x);
}

/* ---------------------------------------------------------------------------------------------
   Variants, against a plain computation in double
   ------------------------------------------------------------------------------------------ */

enum { D = 7, N = 18 };

typedef struct plain {
    float encoder[D * N], decoder[N * D], b_dec[D], b_enc[N], theta[N]; /* [d, n], [n, d] */
} plain;

static void make_plain(plain *p, uint64_t seed) {
    test_fill(&seed, p->encoder, D * N, 0.6f);
    test_fill(&seed, p->decoder, N * D, 0.6f);
    test_fill(&seed, p->b_dec, D, 0.4f);
    test_fill(&seed, p->b_enc, N, 0.2f);
    test_fill(&seed, p->theta, N, 0.3f);
}

typedef enum rule { RULE_RELU, RULE_TOPK, RULE_JUMP, RULE_ABOVE } rule;

/* How a layout differs from the plainest. */
typedef struct variant {
    rule rule;
    size_t k;
    double threshold; /* RULE_ABOVE */
    int unshifted, rescale, normalize;
} variant;

static int is_kept(const double *pre, size_t j, const plain *p, const variant *v) {
    size_t above = 0;
    if (!(pre[j] > 0)) return 0;
    if (v->rule == RULE_JUMP) return pre[j] > (double)p->theta[j];
    if (v->rule == RULE_ABOVE) return pre[j] > v->threshold;
    for (size_t i = 0; v->rule == RULE_TOPK && i < N; i++) above += pre[i] > pre[j];
    return v->rule == RULE_RELU || above < v->k;
}

static outcome compute_plainly(const plain *p, const variant *v, const float *x) {
    outcome out = {test_floats(ROWS * N), test_floats(ROWS * D)};
    for (size_t r = 0; r < ROWS; r++) {
        double mean = 0, deviation = 0, in[D], pre[N], norm[N], sum[D];
        for (size_t i = 0; i < D; i++) mean += (double)x[r * D + i] / D;
        for (size_t i = 0; i < D; i++) deviation += pow((double)x[r * D + i] - mean, 2) / (D - 1);
        deviation = sqrt(deviation);
        for (size_t i = 0; i < D; i++) {
            in[i] = (double)x[r * D + i];
            if (v->normalize) in[i] = (in[i] - mean) / (deviation + 1e-5);
            if (!v->unshifted) in[i] -= (double)p->b_dec[i];
            sum[i] = (double)p->b_dec[i];
        }
        for (size_t j = 0; j < N; j++) {
            norm[j] = test_norm(p->decoder + j * D, D);
            pre[j] = (double)p->b_enc[j];
            for (size_t i = 0; i < D; i++) pre[j] += in[i] * (double)p->encoder[i * N + j];
            if (v->rescale) pre[j] *= norm[j];
        }
        for (size_t j = 0; j < N; j++) {
            const double z = is_kept(pre, j, p, v) ? pre[j] : 0;
            out.z[r * N + j] = (float)z;
            for (size_t i = 0; i < D; i++) {
                sum[i] += z * (double)p->decoder[j * D + i] / (v->rescale ? norm[j] : 1);
            }
        }
        for (size_t i = 0; i < D; i++) {
            out.r[r * D + i] = (float)(v->normalize ? sum[i] * deviation + mean : sum[i]);
        }
    }
    return out;
}

/* Tensors of a file in the making, their numbers little-endian. */
static void add_floats(tensors *t, const char *name, size_t rank, size_t rows, size_t cols,
                       const float *values) {
    const size_t count = (rank > 0 ? rows : 1) * (rank > 1 ? cols : 1);
    unsigned char *bytes = (unsigned char *)test_alloc(4 * count);
    test_copy_le(bytes, values, count);
    put_tensor(t, name, rank, rows, cols, bytes);
}

static void free_tensors(tensors *t) {
    for (size_t i = 0; i < t->count; i++) free((void *)(uintptr_t)t->items[i].data);
    t->count = 0;
}

static void write_weights(const char *path, tensors *t) {
    msae_writer writer = msae_to_file(path);
    CHECK_STATUS(MSAE_OK, msae_safetensors_write(&writer, t->items, t->count, NULL, 0, NULL));
    free_tensors(t);
}

static void write_saelens(const plain *p, const char *cfg, const float *threshold,
                          const char *threshold_name, int is_one) {
    tensors t;
    const char *path = path_of("model");
    t.count = 0;
    mkdir(path, 0700);
    add_floats(&t, "W_enc", 2, D, N, p->encoder);
    add_floats(&t, "W_dec", 2, N, D, p->decoder);
    add_floats(&t, "b_dec", 1, D, 0, p->b_dec);
    add_floats(&t, "b_enc", 1, N, 0, p->b_enc);
    if (threshold != NULL) add_floats(&t, threshold_name, is_one ? 0 : 1, N, 0, threshold);
    write_weights(path_of("model/sae_weights.safetensors"), &t);
    write_text(path_of("model/cfg.json"), cfg, strlen(cfg));
}

#define SIZES "\"d_in\":7,\"d_sae\":18,"
#define SIX "\"metadata\":{\"sae_lens_version\":\"6.18.0\"}"

static void saelens_variants(void) {
    static const float above = 0.21f;
    static const struct {
        const char *config;
        variant v;
        const char *threshold;
    } cases[] = {
        {"{\"architecture\":\"topk\"," SIZES "\"k\":4," SIX "}", {RULE_TOPK, 4, 0, 0, 0, 0}, NULL},
        {"{\"architecture\":\"topk\"," SIZES "\"k\":4,\"apply_b_dec_to_input\":false," SIX "}",
         {RULE_TOPK, 4, 0, 1, 0, 0},
         NULL},
        {"{\"architecture\":\"topk\"," SIZES "\"k\":4,\"rescale_acts_by_decoder_norm\":true," SIX
         "}",
         {RULE_TOPK, 4, 0, 0, 1, 0},
         NULL},
        {"{\"architecture\":\"topk\"," SIZES
         "\"k\":4,\"normalize_activations\":\"layer_norm\",\"apply_b_dec_to_input\":false," SIX "}",
         {RULE_TOPK, 4, 0, 1, 0, 1},
         NULL},
        {"{\"architecture\":\"standard\"," SIZES "\"reshape_activations\":\"hook_z\"," SIX "}",
         {RULE_RELU, 0, 0, 0, 0, 0},
         NULL},
        {"{\"architecture\":\"jumprelu\"," SIZES "\"normalize_activations\":null," SIX "}",
         {RULE_JUMP, 0, 0, 0, 0, 0},
         "threshold"},
        {"{\"architecture\":\"batchtopk\"," SIZES "\"k\":4.5," SIX "}",
         {RULE_ABOVE, 0, (double)0.21f, 0, 0, 0},
         "topk_threshold"},
        {"{\"architecture\":\"matryoshka_batchtopk\"," SIZES
         "\"k\":4,\"rescale_acts_by_decoder_norm\":true," SIX "}",
         {RULE_ABOVE, 0, (double)0.21f, 0, 1, 0},
         "topk_threshold"},
        /* before version 6 */
        {"{\"architecture\":\"standard\"," SIZES
         "\"activation_fn_str\":\"topk\",\"activation_fn_kwargs\":{\"k\":4}}",
         {RULE_TOPK, 4, 0, 0, 0, 0},
         NULL},
        {"{\"architecture\":\"topk\"," SIZES "\"k\":9,\"activation_fn_str\":\"topk\","
         "\"activation_fn_kwargs\":{\"k\":4}}",
         {RULE_TOPK, 4, 0, 0, 0, 0},
         NULL},
        {"{\"architecture\":\"jumprelu\"," SIZES "\"activation_fn_str\":\"relu\"}",
         {RULE_JUMP, 0, 0, 0, 0, 0},
         "threshold"},
        /* keys of old that version 6 does not look at */
        {"{\"architecture\":\"jumprelu\"," SIZES "\"activation_fn\":\"topk\"," SIX "}",
         {RULE_JUMP, 0, 0, 0, 0, 0},
         "threshold"},
        {"{\"architecture\":\"topk\"," SIZES "\"k\":4,\"activation_fn\":\"relu\","
         "\"activation_fn_kwargs\":{\"k\":9},\"sae_lens_version\":\"10.1\"}",
         {RULE_TOPK, 4, 0, 0, 0, 0},
         NULL},
        {"{" SIZES "\"normalize_activations\":false,\"activation_fn_str\":\"relu\"}",
         {RULE_RELU, 0, 0, 0, 0, 0},
         NULL},
    };
    float *x = test_random_floats(9, ROWS * D, 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        plain p;
        make_plain(&p, 11 + i);
        const int is_one = cases[i].v.rule == RULE_ABOVE;
        outcome wanted = compute_plainly(&p, &cases[i].v, x);
        test_note("%s", cases[i].config);
        write_saelens(&p, cases[i].config,
                      cases[i].threshold == NULL ? NULL
                      : is_one                   ? &above
                                                 : p.theta,
                      cases[i].threshold, is_one);
        check_same(path_of("model"), x, ROWS, 0, &wanted, 1);
        check_same(path_of("model/sae_weights.safetensors"), x, ROWS, 0, &wanted, 1);
        remove_folder(path_of("model"));
        forget(&wanted);
    }
    free(x);
}

/* A matrix the other way round. */
static void transpose(const float *from, size_t rows, size_t cols, float *to) {
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < cols; j++) to[j * rows + i] = from[i * cols + j];
    }
}

static void dictionary_variants(void) {
    static const float above = 0.21f;
    static const struct {
        const char *dict_class;
        variant v;
    } cases[] = {
        {"AutoEncoder", {RULE_RELU, 0, 0, 0, 1, 0}}, /* its loader makes decoder rows unit */
        {"AutoEncoderNew", {RULE_RELU, 0, 0, 1, 0, 0}},
        {"AutoEncoderTopK", {RULE_TOPK, 4, 0, 0, 0, 0}},
        {"BatchTopKSAE", {RULE_ABOVE, 4, (double)0.21f, 0, 0, 0}},
        {"MatryoshkaBatchTopKSAE", {RULE_ABOVE, 4, (double)0.21f, 0, 0, 0}},
        {"MatroyshkaBatchTopKSAE", {RULE_ABOVE, 4, (double)0.21f, 0, 0, 0}}, /* its older name */
        {"JumpReluAutoEncoder", {RULE_JUMP, 0, 0, 1, 0, 0}},
    };
    float *x = test_random_floats(9, ROWS * D, 1), turned[N * D], decoder[N * D];
    for (size_t i = 0; i < COUNT(cases); i++) {
        plain p;
        tensors t;
        char text[256];
        const int is_linear = i < 4; /* nn.Linear: the other way round */
        static const char *const b_dec[] = {"bias",  "decoder.bias", "b_dec", "b_dec",
                                            "b_dec", "b_dec",        "b_dec"};
        make_plain(&p, 31 + i);
        transpose(p.encoder, D, N, turned);
        transpose(p.decoder, N, D, decoder);
        outcome wanted = compute_plainly(&p, &cases[i].v, x);
        t.count = 0;
        test_note("%s", cases[i].dict_class);
        if (is_linear) {
            add_floats(&t, "encoder.weight", 2, N, D, turned);
            add_floats(&t, "decoder.weight", 2, D, N, decoder);
        } else {
            add_floats(&t, "W_enc", 2, D, N, p.encoder);
            add_floats(&t, "W_dec", 2, N, D, p.decoder);
        }
        add_floats(&t, is_linear ? "encoder.bias" : "b_enc", 1, N, 0, p.b_enc);
        add_floats(&t, b_dec[i], 1, D, 0, p.b_dec);
        if (cases[i].v.rule == RULE_JUMP) add_floats(&t, "threshold", 1, N, 0, p.theta);
        if (cases[i].v.rule == RULE_ABOVE) add_floats(&t, "threshold", 0, 0, 0, &above);
        mkdir(path_of("model"), 0700);
        CHECK(write_torch(path_of("model/ae.pt"), &t) == TOOL_OK);
        free_tensors(&t);
        snprintf(text, sizeof text,
                 "{\"trainer\":{\"dict_class\":\"%s\",\"activation_dim\":7,\"dict_size\":18%s},"
                 "\"buffer\":null}",
                 cases[i].dict_class, cases[i].v.k > 0 ? ",\"k\":4" : "");
        write_text(path_of("model/config.json"), text, strlen(text));
        check_same(path_of("model"), x, ROWS, 0, &wanted, 1);
        check_same(path_of("model/ae.pt"), x, ROWS, 0, &wanted, 1);
        remove_folder(path_of("model"));
        forget(&wanted);
    }
    free(x);
}

/* A checkpoint of a run, whose configuration lies one folder up. */
static void dictionary_checkpoints(void) {
    static const char said_up[] = "{\"trainer\":{\"dict_class\":\"AutoEncoderTopK\",\"k\":4,"
                                  "\"lr_scale\":NaN,\"decay\":-Infinity}}";
    const variant v = {RULE_TOPK, 4, 0, 0, 0, 0};
    float *x = test_random_floats(9, ROWS * D, 1), turned[N * D], decoder[N * D];
    plain p;
    tensors t;
    make_plain(&p, 41);
    transpose(p.encoder, D, N, turned);
    transpose(p.decoder, N, D, decoder);
    outcome wanted = compute_plainly(&p, &v, x);
    t.count = 0;
    add_floats(&t, "encoder.weight", 2, N, D, turned);
    add_floats(&t, "decoder.weight", 2, D, N, decoder);
    add_floats(&t, "encoder.bias", 1, N, 0, p.b_enc);
    add_floats(&t, "b_dec", 1, D, 0, p.b_dec);
    mkdir(path_of("run"), 0700);
    mkdir(path_of("run/checkpoints"), 0700);
    CHECK(write_torch(path_of("run/checkpoints/ae_100.pt"), &t) == TOOL_OK);
    write_text(path_of("run/config.json"), said_up, sizeof said_up - 1);
    check_same(path_of("run/checkpoints/ae_100.pt"), x, ROWS, 0, &wanted, 1);
    /* beside another folder it means nothing */
    rename(path_of("run/checkpoints"), path_of("run/others"));
    msae_model model;
    CHECK(tool_load_model(&model, path_of("run/others/ae_100.pt"), NULL) == TOOL_FAILED);
    CHECK(strstr(heard(), "no config.json beside it") != NULL);
    remove_folder(path_of("run/others"));
    remove_folder(path_of("run"));
    free_tensors(&t);
    forget(&wanted);
    free(x);
}

/* ---------------------------------------------------------------------------------------------
   Folders with a configuration and weights of torch.save, and with a factor
   ------------------------------------------------------------------------------------------ */

/* model/FILE with SAELens' names, and a threshold where there is one. */
static void make_folder(const plain *p, const char *file, const char *config_name, const char *cfg,
                        const float *threshold, const char *threshold_name, int is_one) {
    tensors t;
    t.count = 0;
    mkdir(path_of("model"), 0700);
    add_floats(&t, "W_enc", 2, D, N, p->encoder);
    add_floats(&t, "W_dec", 2, N, D, p->decoder);
    add_floats(&t, "b_dec", 1, D, 0, p->b_dec);
    add_floats(&t, "b_enc", 1, N, 0, p->b_enc);
    if (threshold != NULL) add_floats(&t, threshold_name, is_one ? 0 : 1, N, 0, threshold);
    CHECK(write_torch(path_of(file), &t) == TOOL_OK);
    free_tensors(&t);
    write_text(path_of(config_name), cfg, strlen(cfg));
}

static void folders_of_torch(void) {
    static const float above = 0.21f;
    static const struct {
        const char *file, *config;
        variant v;
        const char *threshold;
        int without_b_enc;
        tool_layout layout;
    } cases[] = {
        {"model/weights.pt",
         "{\"architecture\":\"standard\",\"activation_fn_str\":\"relu\",\"d_in\":7,"
         "\"activation_fn_kwargs\":{},\"normalize_activations\":\"layer_norm\"}",
         {RULE_RELU, 0, 0, 0, 0, 1},
         NULL,
         0,
         TOOL_LAYOUT_PRISMA},
        {"model/weights.pt",
         "{\"architecture\":\"standard\",\"activation_fn_str\":\"topk\",\"d_in\":7,"
         "\"activation_fn_kwargs\":{\"k\":4},\"normalize_activations\":\"none\"}",
         {RULE_TOPK, 4, 0, 0, 0, 0},
         NULL,
         0,
         TOOL_LAYOUT_PRISMA},
        {"model/sae.pt",
         "{\"sae_type\":\"topk\",\"act_size\":7,\"top_k\":4,\"input_unit_norm\":true}",
         {RULE_TOPK, 4, 0, 0, 0, 1},
         NULL,
         1,
         TOOL_LAYOUT_BATCHTOPK},
        {"model/sae.pt",
         "{\"sae_type\":\"global-matryoshka-topk\",\"act_size\":7,\"top_k\":4,"
         "\"input_unit_norm\":false,\"group_sizes\":\"[9, 9]\",\"min_lr\":NaN}",
         {RULE_ABOVE, 4, (double)0.21f, 0, 0, 0},
         "threshold",
         1,
         TOOL_LAYOUT_BATCHTOPK},
        {"model/sae.pt",
         "{\"sae_type\":\"vanilla\",\"act_size\":7,\"input_unit_norm\":true}",
         {RULE_RELU, 0, 0, 0, 0, 1},
         NULL,
         0,
         TOOL_LAYOUT_BATCHTOPK},
        {"model/sae.pt",
         "{\"sae_type\":\"jumprelu\",\"act_size\":7}",
         {RULE_JUMP, 0, 0, 1, 0, 0},
         "jumprelu.log_threshold",
         0,
         TOOL_LAYOUT_BATCHTOPK},
    };
    float *x = test_random_floats(9, ROWS * D, 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const int is_one = cases[i].v.rule == RULE_ABOVE;
        tool_layout layout;
        msae_model model;
        float logs[N];
        plain p, used;
        make_plain(&p, 61 + i);
        for (size_t j = 0; j < N; j++) {
            p.theta[j] = fabsf(p.theta[j]) + 0.01f;
            logs[j] = logf(p.theta[j]);
        }
        used = p;
        if (cases[i].without_b_enc) memset(used.b_enc, 0, sizeof used.b_enc);
        outcome wanted = compute_plainly(&used, &cases[i].v, x);
        test_note("%s", cases[i].config);
        make_folder(&p, cases[i].file, "model/config.json", cases[i].config,
                    cases[i].threshold == NULL ? NULL
                    : is_one                   ? &above
                                               : logs,
                    cases[i].threshold, is_one);
        check_same(path_of("model"), x, ROWS, 0, &wanted, 1);
        check_same(path_of(cases[i].file), x, ROWS, 0, &wanted, 1);
        CHECK(tool_import_model(&model, path_of("model"), NULL, NULL, &layout) == TOOL_OK);
        CHECK(layout == cases[i].layout);
        msae_model_free(&model);
        remove_folder(path_of("model"));
        forget(&wanted);
    }
    free(x);
}

static void folders_of_torch_that_are_refused(void) {
    static const struct {
        const char *file, *config, *message;
    } cases[] = {
        {"model/weights.pt", "{\"architecture\":\"gated\"}", "the architecture 'gated' is not"},
        {"model/weights.pt", "{\"architecture\":\"standard\",\"is_transcoder\":true}",
         "is_transcoder is true"},
        {"model/weights.pt", "{\"architecture\":\"standard\",\"d_in\":8}", "d_in is 8"},
        {"model/weights.pt", "{\"architecture\":\"standard\",\"activation_fn_str\":\"tanh-relu\"}",
         "the activation 'tanh-relu' is not"},
        {"model/weights.pt",
         "{\"architecture\":\"standard\",\"normalize_activations\":\"constant_norm_rescale\"}",
         "it scales each row by its own norm"},
        {"model/weights.pt",
         "{\"architecture\":\"standard\",\"activation_fn_str\":\"topk\","
         "\"activation_fn_kwargs\":{\"k\":19}}",
         "k is 19, more than the 18 latents"},
        {"model/sae.pt", "{\"sae_type\":\"gated\",\"act_size\":7}", "the sae_type 'gated' is not"},
        {"model/sae.pt", "{\"sae_type\":\"topk\",\"act_size\":9}", "act_size is 9"},
        {"model/sae.pt", "{\"sae_type\":\"topk\",\"act_size\":7}", "k is missing"},
        {"model/sae.pt", "{\"sae_type\":\"topk\",\"act_size\":7,\"top_k\":NaN}",
         "top_k is no whole number"},
        {"model/sae.pt", "{\"sae_type\":\"batchtopk\",\"act_size\":7,\"top_k\":4}",
         "there is no threshold"},
        {"model/sae.pt", "{\"sae_type\":\"jumprelu\",\"act_size\":7}",
         "there is no tensor jumprelu.log_threshold"},
    };
    plain p;
    make_plain(&p, 71);
    for (size_t i = 0; i < COUNT(cases); i++) {
        msae_model model;
        test_note("%s", cases[i].config);
        make_folder(&p, cases[i].file, "model/config.json", cases[i].config, NULL, NULL, 0);
        heard();
        CHECK(tool_load_model(&model, path_of("model"), NULL) == TOOL_FAILED);
        const char *said = heard();
        if (!CHECK(strstr(said, cases[i].message) != NULL)) printf("  it said: %s", said);
        CHECK(strchr(said, '\n') == said + strlen(said) - 1);
        remove_folder(path_of("model"));
    }
}

/* What a layout that scales its inputs by s computes, with a plain model in between. */
static outcome compute_scaled(const plain *p, const variant *v, const float *x, double s) {
    float *scaled = test_floats(ROWS * D);
    for (size_t i = 0; i < ROWS * D; i++) scaled[i] = (float)(s * (double)x[i]);
    outcome out = compute_plainly(p, v, scaled);
    for (size_t i = 0; i < ROWS * D; i++) out.r[i] = (float)((double)out.r[i] / s);
    free(scaled);
    return out;
}

static void scaled_inputs(void) {
    static const char scaler[] = "{\"scaling_factor\": 2.5}";
    static const char saelens[] =
        "{\"architecture\":\"topk\"," SIZES
        "\"k\":4,\"normalize_activations\":\"expected_average_only_in\"," SIX "}";
    static const char *const llama[2] = {
        "{\"d_model\":7,\"d_sae\":18,\"jump_relu_threshold\":0.25,\"act_fn\":\"jumprelu\","
        "\"dataset_average_activation_norm\":{\"in\":5.0,\"out\":5.0}}",
        "{\"d_model\":7,\"d_sae\":18,\"jump_relu_threshold\":0.25,\"act_fn\":\"jumprelu\","
        "\"dataset_average_activation_norm\":{\"in\":5.0,\"out\":5.0},"
        "\"sparsity_include_decoder_norm\":true}"};
    const variant topk = {RULE_TOPK, 4, 0, 0, 0, 0};
    float *x = test_random_floats(9, ROWS * D, 1), turned[N * D], decoder[N * D];
    plain p;
    msae_model model;
    make_plain(&p, 81);
    outcome wanted = compute_scaled(&p, &topk, x, 2.5);
    write_saelens(&p, saelens, NULL, NULL, 0);
    CHECK(tool_load_model(&model, path_of("model"), NULL) == TOOL_FAILED);
    CHECK(strstr(heard(), "by a factor that the folder does not say") != NULL);
    write_text(path_of("model/activation_scaler.json"), scaler, sizeof scaler - 1);
    check_same(path_of("model"), x, ROWS, 0, &wanted, 1);
    check_same(path_of("model/sae_weights.safetensors"), x, ROWS, 0, &wanted, 1);
    write_text(path_of("model/activation_scaler.json"), "{\"scaling_factor\":-1}", 21);
    CHECK(tool_load_model(&model, path_of("model"), NULL) == TOOL_FAILED);
    CHECK(strstr(heard(), "activation_scaler.json: scaling_factor is -1, not positive") != NULL);
    remove_folder(path_of("model"));
    forget(&wanted);
    transpose(p.encoder, D, N, turned);
    transpose(p.decoder, N, D, decoder);
    for (size_t j = 0; j < N; j++) p.theta[j] = 0.25f;
    for (int by_norms = 0; by_norms < 2; by_norms++) {
        const variant jump = {RULE_JUMP, 0, 0, 1, by_norms, 0};
        tensors t;
        wanted = compute_scaled(&p, &jump, x, sqrt((double)D) / 5);
        t.count = 0;
        add_floats(&t, "encoder.weight", 2, N, D, turned);
        add_floats(&t, "encoder.bias", 1, N, 0, p.b_enc);
        add_floats(&t, "decoder.weight", 2, D, N, decoder);
        add_floats(&t, "decoder.bias", 1, D, 0, p.b_dec);
        mkdir(path_of("llama"), 0700);
        mkdir(path_of("llama/checkpoints"), 0700);
        write_weights(path_of("llama/checkpoints/final.safetensors"), &t);
        write_text(path_of("llama/hyperparams.json"), llama[by_norms], strlen(llama[by_norms]));
        test_note("by norms: %d", by_norms);
        check_same(path_of("llama"), x, ROWS, 0, &wanted, 1);
        check_same(path_of("llama/checkpoints/final.safetensors"), x, ROWS, 0, &wanted, 1);
        remove_folder(path_of("llama/checkpoints"));
        CHECK(tool_load_model(&model, path_of("llama"), NULL) == TOOL_FAILED);
        CHECK(strstr(heard(), "but no checkpoints/final.safetensors") != NULL);
        remove_folder(path_of("llama"));
        forget(&wanted);
    }
    free(x);
}

/* Weights alone, under each layout's names: --recipe says what selects latents. */
static void weights_without_a_configuration(void) {
    static const float above = 0.21f;
    static const struct {
        const char *encoder, *decoder, *b_enc, *b_dec;
        int is_torch, encoder_is_dn, decoder_is_dn, unshifted, rescale;
    } named[] = {
        {"W_enc", "W_dec", "b_enc", "b_dec", 0, 1, 0, 0, 0},
        {"encoder.weight", "W_dec", "encoder.bias", "b_dec", 0, 0, 0, 0, 0},
        {"W_enc", "W_dec", "b_enc", "b_dec", 1, 1, 0, 0, 0},
        {"encoder.weight", "decoder.weight", "encoder.bias", "b_dec", 1, 0, 1, 0, 0},
        {"encoder.weight", "decoder.weight", "encoder.bias", "decoder.bias", 1, 0, 1, 1, 0},
        {"encoder.weight", "decoder.weight", "encoder.bias", "bias", 1, 0, 1, 0, 1},
    };
    static const struct {
        msae_recipe recipe;
        rule rule;
    } recipes[] = {{MSAE_RECIPE_RELU, RULE_RELU},
                   {MSAE_RECIPE_TOPK, RULE_TOPK},
                   {MSAE_RECIPE_BATCHTOPK, RULE_ABOVE},
                   {MSAE_RECIPE_JUMPRELU, RULE_JUMP},
                   {MSAE_RECIPE_MSAE_UW, RULE_RELU}};
    const tool_target as_it_is = {TOOL_LAYOUT_MSAE, MSAE_RECIPE_DEFAULT, 0, 0, MSAE_F32};
    char back[512];
    float *x = test_random_floats(9, ROWS * D, 1), turned[N * D], decoder[N * D];
    snprintf(back, sizeof back, "%s", path_of("back.safetensors"));
    for (size_t i = 0; i < COUNT(named); i++) {
        for (size_t r = 0; r < COUNT(recipes); r++) {
            const char *path = path_of(named[i].is_torch ? "bare.pt" : "bare.safetensors");
            const int has_theta = recipes[r].rule == RULE_JUMP;
            tool_import import;
            tool_target target = as_it_is;
            msae_model model;
            plain p;
            tensors t;
            /* a JumpReLU under W_enc in a torch.save file is dictionary_learning's */
            const variant v = {recipes[r].rule,  4,
                               (double)above,    named[i].unshifted || (i == 2 && has_theta),
                               named[i].rescale, 0};
            make_plain(&p, 51 + i);
            transpose(p.encoder, D, N, turned);
            transpose(p.decoder, N, D, decoder);
            outcome wanted = compute_plainly(&p, &v, x);
            t.count = 0;
            if (named[i].encoder_is_dn) {
                add_floats(&t, named[i].encoder, 2, D, N, p.encoder);
            } else {
                add_floats(&t, named[i].encoder, 2, N, D, turned);
            }
            if (named[i].decoder_is_dn) {
                add_floats(&t, named[i].decoder, 2, D, N, decoder);
            } else {
                add_floats(&t, named[i].decoder, 2, N, D, p.decoder);
            }
            add_floats(&t, named[i].b_enc, 1, N, 0, p.b_enc);
            add_floats(&t, named[i].b_dec, 1, D, 0, p.b_dec);
            if (has_theta) add_floats(&t, "threshold", 1, N, 0, p.theta);
            if (recipes[r].rule == RULE_ABOVE) add_floats(&t, "threshold", 0, 0, 0, &above);
            if (named[i].is_torch) {
                CHECK(write_torch(path, &t) == TOOL_OK);
                free_tensors(&t);
            } else {
                write_weights(path, &t);
            }
            memset(&import, 0, sizeof import);
            import.recipe = (int)recipes[r].recipe;
            import.k = recipes[r].rule == RULE_TOPK ? 4 : 0;
            test_note("%s, %s in %s", msae_enum_name(MSAE_ENUM_RECIPE, (int)recipes[r].recipe),
                      named[i].b_dec, path);
            if (CHECK(tool_import_model(&model, path, NULL, &import, NULL) == TOOL_OK)) {
                CHECK(model.recipe == recipes[r].recipe);
                target.recipe = model.recipe;
                target.k = model.k;
                CHECK(tool_export_model(&model, back, &target) == TOOL_OK);
                check_same(back, x, ROWS, 0, &wanted, 1);
                msae_model_free(&model);
                remove(back);
            } else {
                printf("  it said: %s", heard());
            }
            heard();
            if (recipes[r].rule == RULE_TOPK) { /* what is said without the recipe, without its k */
                const int says = i == 4 || i == 5;
                import.recipe = 0;
                CHECK(tool_import_model(&model, path, NULL, &import, NULL) ==
                      (says ? TOOL_OK : TOOL_FAILED));
                CHECK(says || strstr(heard(), "convert it with --recipe") != NULL);
                msae_model_free(&model);
                import.recipe = MSAE_RECIPE_TOPK;
                import.k = 0;
                CHECK(tool_import_model(&model, path, NULL, &import, NULL) == TOOL_FAILED);
                CHECK(strstr(heard(), "k is missing") != NULL);
                import.recipe = MSAE_RECIPE_JUMPRELU;
                CHECK(tool_import_model(&model, path, NULL, &import, NULL) == TOOL_FAILED);
                CHECK(strstr(heard(), "there is no tensor threshold") != NULL);
                import.recipe = MSAE_RECIPE_MSAE_WIDTH;
                CHECK(tool_import_model(&model, path, NULL, &import, NULL) == TOOL_FAILED);
                CHECK(strstr(heard(), "has nested widths") != NULL);
            }
            remove(path);
            forget(&wanted);
        }
    }
    free(x);
}

/* Files of torch (tests/torch): the model lies in a dict, under a prefix, is one of a run that goes
   on; or there is none. */
static void models_inside(void) {
    static const struct {
        const char *name, *like; /* NULL: refused, with a message */
        int recipe;
        const char *message;
    } cases[] = {
        {"state_dict.ckpt", "plain.pt", MSAE_RECIPE_TOPK, NULL},
        {"module.pt", "plain.pt", MSAE_RECIPE_TOPK, NULL},
        {"running.pt", "finished.pt", 0, NULL},
        {"state_dict.ckpt", NULL, 0, "convert it with --recipe topk, batchtopk or relu"},
        {"two.pt", NULL, MSAE_RECIPE_TOPK, "holds 2 models (a, b): save the state dict of one"},
        {"two_prefixes.pt", NULL, MSAE_RECIPE_TOPK, "holds 2 models (a.encoder.weight [4, 2], "},
        {"features.pt", NULL, 0, "a dict of image_features [3, 2], paths, n: none of them is a"},
        {"tensor.pt", NULL, 0, "holds a tensor [3, 2]: data, and no model's state dict"},
        {"list.pt", NULL, 0, "holds no state dict"},
        {"whole.pt", NULL, 0, "is not allowed (of a whole model save model.state_dict())"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        msae_model model, other;
        tool_import import;
        char path[64];
        memset(&import, 0, sizeof import);
        import.recipe = cases[i].recipe;
        import.k = 2;
        snprintf(path, sizeof path, "tests/torch/%s", cases[i].name);
        test_note("%s", path);
        heard();
        const int status = tool_import_model(&model, path, NULL, &import, NULL);
        if (cases[i].like == NULL) {
            CHECK(status == TOOL_FAILED);
            CHECK(strstr(heard(), cases[i].message) != NULL);
        } else if (CHECK(status == TOOL_OK)) {
            snprintf(path, sizeof path, "tests/torch/%s", cases[i].like);
            CHECK(tool_import_model(&other, path, NULL, &import, NULL) == TOOL_OK);
            CHECK(memcmp(model.encoder, other.encoder, 8 * sizeof(float)) == 0);
            CHECK(memcmp(model.latent_bias, other.latent_bias, 4 * sizeof(float)) == 0);
            CHECK(memcmp(model.pre_bias, other.pre_bias, 2 * sizeof(float)) == 0);
            msae_model_free(&other);
        }
        msae_model_free(&model);
    }
}

/* Another recipe than the configuration says, and one where it says none. */
static void another_recipe(void) {
    const tool_target as_it_is = {TOOL_LAYOUT_MSAE, MSAE_RECIPE_RELU, 0, 0, MSAE_F32};
    const variant v = {RULE_RELU, 0, 0, 0, 0, 0};
    static const char *const configs[] = {"{\"architecture\":\"topk\",\"k\":4," SIX "}",
                                          "{\"architecture\":\"jumprelu\"}"};
    char back[512];
    float *x = test_random_floats(9, ROWS * D, 1);
    plain p;
    snprintf(back, sizeof back, "%s", path_of("back.safetensors"));
    make_plain(&p, 71);
    outcome wanted = compute_plainly(&p, &v, x);
    for (size_t i = 0; i < COUNT(configs); i++) {
        tool_import import;
        msae_model model;
        memset(&import, 0, sizeof import);
        import.recipe = MSAE_RECIPE_RELU;
        test_note("%s", configs[i]);
        write_saelens(&p, configs[i], p.theta, "threshold", 0);
        if (CHECK(tool_import_model(&model, path_of("model"), NULL, &import, NULL) == TOOL_OK)) {
            CHECK(tool_export_model(&model, back, &as_it_is) == TOOL_OK);
            check_same(back, x, ROWS, 0, &wanted, 1);
            msae_model_free(&model);
        }
        remove_folder(path_of("model"));
    }
    remove(back);
    forget(&wanted);
    free(x);
}

/* A state dict under names that say the hyper-parameters. */
static void published_names(void) {
    static const struct {
        const char *name;
        msae_recipe recipe;
        msae_activation activation;
        size_t first; /* level */
        int normalize;
        float soft_cap;
        const char *message; /* or what is wrong */
    } cases[] = {
        {"18_7_TopKReLU_4_UW_False_False_0.0_cc3m_ViT-B~32_train_image_1000_7.pth",
         MSAE_RECIPE_MSAE_UW, MSAE_ACTIVATION_RELU, 4, 0, 0, NULL},
        {"18_7_TopKReLU_4_RW_False_True_30.0_x.pth", MSAE_RECIPE_MSAE_RW, MSAE_ACTIVATION_RELU, 4,
         1, 30, NULL},
        {"18_7_TopKReLU_4_False_False_0.0_x.pt", MSAE_RECIPE_TOPK, MSAE_ACTIVATION_RELU, 4, 0, 0,
         NULL},
        {"18_7_TopK_4_False_False_0.0.pth", MSAE_RECIPE_TOPK, MSAE_ACTIVATION_IDENTITY, 4, 0, 0,
         NULL},
        {"18_7_TopKabs_4_False_False_0.0_.pth", MSAE_RECIPE_TOPK, MSAE_ACTIVATION_ABS, 4, 0, 0,
         NULL},
        {"18_7_BatchTopKReLU_4_False_False_0.0_x.pth", MSAE_RECIPE_BATCHTOPK, MSAE_ACTIVATION_RELU,
         4, 0, 0, NULL},
        {"18_7_ReLU_003_False_False_0.0_x.pth", MSAE_RECIPE_RELU, MSAE_ACTIVATION_RELU, 18, 0, 0,
         NULL},
        {"18_7_ReLU_False_False_0.5_x.pth", MSAE_RECIPE_RELU, MSAE_ACTIVATION_RELU, 18, 0, 0.5f,
         NULL},
        {"18_7_TopKReLU_4_UW_True_False_0.0_x.pth", 0, 0, 0, 0, 0,
         "its name says tied, but there is a decoder"},
        {"18_8_TopKReLU_4_UW_False_False_0.0_x.pth", 0, 0, 0, 0, 0,
         "its name says 18 latents of 8 inputs, the encoder has 18 of 7"},
        {"18_7_TopKReLU_19_False_False_0.0_x.pth", 0, 0, 0, 0, 0, "more than the 18 latents"},
        {"18_7_TopKReLU_19_UW_False_False_0.0_x.pth", 0, 0, 0, 0, 0,
         "the nesting starts beyond the latents"},
        {"18_7_TopKELU1p_4_False_False_0.0_x.pth", 0, 0, 0, 0, 0,
         "the activation 'TopKELU1p' in its name is not supported"},
        {"18_7_JumpReLU_18_False_False_0.0_x.pth", 0, 0, 0, 0, 0,
         "there is no tensor activation.log_threshold"},
        {"model.pth", 0, 0, 0, 0, 0, "its name does not say the hyper-parameters"},
        {"18_7_TopKReLU_4_UW_Perhaps_False_0.0_x.pth", 0, 0, 0, 0, 0, "its name does not say"},
    };
    plain p;
    tensors t;
    tool_import import;
    msae_model model;
    make_plain(&p, 3);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *path = path_of(cases[i].name);
        test_note("%s", cases[i].name);
        t.count = 0;
        add_floats(&t, "pre_bias", 1, D, 0, p.b_dec);
        add_floats(&t, "encoder", 2, D, N, p.encoder);
        add_floats(&t, "latent_bias", 1, N, 0, p.b_enc);
        add_floats(&t, "decoder", 2, N, D, p.decoder);
        CHECK(write_torch(path, &t) == TOOL_OK);
        free_tensors(&t);
        heard();
        const int status = tool_load_model(&model, path, NULL);
        if (cases[i].message != NULL) {
            const char *text = heard();
            CHECK(status == TOOL_FAILED && model.memory == NULL);
            if (!CHECK(strstr(text, cases[i].message) != NULL)) printf("  it said: %s", text);
        } else if (CHECK(status == TOOL_OK)) {
            CHECK(model.recipe == cases[i].recipe && model.activation == cases[i].activation);
            CHECK(model.nesting[0] == cases[i].first && model.normalize == cases[i].normalize);
            CHECK(model.soft_cap == cases[i].soft_cap && !model.tied && model.scale == 1);
            CHECK(model.n_inputs == D && model.n_latents == N);
            CHECK(model.encoder[1] == p.encoder[N] && model.decoder[1] == p.decoder[1]);
            msae_model_free(&model);
        } else {
            printf("  it said: %s", heard());
        }
        /* options say otherwise */
        memset(&import, 0, sizeof import);
        import.recipe = MSAE_RECIPE_TOPK;
        import.k = 5;
        import.tied = 1;
        import.normalize = 2;
        import.has_soft_cap = 1;
        import.soft_cap = 0.25f;
        if (cases[i].message == NULL &&
            CHECK(tool_import_model(&model, path, NULL, &import, NULL) == TOOL_OK)) {
            CHECK(model.recipe == MSAE_RECIPE_TOPK && model.nesting[0] == 5 && model.tied);
            CHECK(!model.normalize && model.soft_cap == 0.25f);
            msae_model_free(&model);
        }
        remove(path);
    }
}

/* ---------------------------------------------------------------------------------------------
   What is refused
   ------------------------------------------------------------------------------------------ */

static void check_config(const char *cfg, const char *message) {
    msae_model model;
    write_text(path_of("model/cfg.json"), cfg, strlen(cfg));
    test_note("%s", cfg);
    heard();
    if (!CHECK(tool_load_model(&model, path_of("model"), NULL) == TOOL_FAILED)) {
        msae_model_free(&model);
    }
    const char *text = heard();
    CHECK(strncmp(text, "msae: ", 6) == 0 && strchr(text, '\n') == text + strlen(text) - 1);
    if (!CHECK(strstr(text, message) != NULL)) printf("  it said: %s", text);
}

static void configurations(void) {
    static const char *const cases[][2] = {
        {"", "the file is empty"},
        {"[]", "is no JSON object"},
        {"{\"d_sae\":18,\"k\":4,}", "byte 18: a key is missing"},
        {"{\"architecture\":\"gated\"}", "the architecture 'gated' is not supported"},
        {"{\"architecture\":\"transcoder\"}", "the architecture 'transcoder' is not supported"},
        {"{\"architecture\":7}", "architecture is no text"},
        {"{\"architecture\":\"topk\"}", "k is missing"},
        {"{\"architecture\":\"topk\",\"k\":19}", "k is 19, more than the 18 latents"},
        {"{\"architecture\":\"topk\",\"k\":1.5}", "k is no whole number"},
        {"{\"architecture\":\"topk\",\"k\":-1}", "k is no whole number"},
        {"{\"architecture\":\"topk\",\"k\":1e300}", "k is no whole number"},
        {"{\"d_in\":8}", "d_in is 8, but the tensors have 7"},
        {"{\"d_sae\":17}", "d_sae is 17, but the tensors have 18"},
        {"{\"activation_fn_str\":\"tanh-relu\"}", "the activation 'tanh-relu' is not supported"},
        {"{\"architecture\":\"jumprelu\",\"activation_fn_str\":\"topk\","
         "\"activation_fn_kwargs\":{\"k\":4}}",
         "the architecture 'jumprelu' with the activation 'topk' is not supported"},
        {"{\"architecture\":\"jumprelu\",\"activation_fn_str\":\"tanh-relu\"}",
         "the activation 'tanh-relu' is not supported"},
        {"{\"architecture\":\"topk\",\"activation_fn_str\":\"relu\",\"k\":4}",
         "the architecture 'topk' with the activation 'relu' is not supported"},
        {"{\"architecture\":\"batchtopk\",\"activation_fn\":\"topk\"}",
         "the architecture 'batchtopk' with the activation 'topk' is not supported"},
        {"{\"activation_fn_str\":\"topk\",\"activation_fn_kwargs\":{\"k\":4,"
         "\"postact_fn\":\"Identity\"}}",
         "activation_fn_kwargs.postact_fn is not supported"},
        {"{\"activation_fn_str\":\"topk\"}", "k is missing"},
        {"{\"normalize_activations\":\"expected_average_only_in\"}",
         "it scales inputs by a factor that the folder does not say"},
        {"{\"normalize_activations\":true}", "'expected_average_only_in' is not supported"},
        {"{\"normalize_activations\":\"constant_norm_rescale\"}", "each row by its own norm"},
        {"{\"reshape_activations\":\"other\"}", "reshape_activations 'other' is not supported"},
        {"{\"apply_b_dec_to_input\":1}", "apply_b_dec_to_input is neither true nor false"},
        {"{\"architecture\":\"jumprelu\"}", "there is no tensor threshold"},
        {"{\"architecture\":\"batchtopk\"}", "there is no tensor topk_threshold"},
    };
    plain p;
    make_plain(&p, 5);
    write_saelens(&p, "{}", NULL, NULL, 0);
    for (size_t i = 0; i < COUNT(cases); i++) check_config(cases[i][0], cases[i][1]);
    remove_folder(path_of("model"));
}

static void sparsify_configurations(void) {
    static const char *const cases[][2] = {
        {"{\"activation\":\"groupmax\"}", "the activation 'groupmax' is not supported"},
        {"{\"transcode\":true}", "transcode is true: it predicts other activations"},
        {"{\"skip_connection\":true}", "skip_connection is true: its linear map"},
        {"{\"num_latents\":17,\"k\":3}", "num_latents is 17, but the tensors have 18"},
        {"{\"num_latents\":0,\"expansion_factor\":3,\"k\":3}", "expansion_factor is 3, but"},
        {"{\"d_in\":8,\"k\":3}", "d_in is 8, but the tensors have 7"},
        {"{}", "k is 32, more than the 18 latents"},
    };
    float *x = test_random_floats(9, ROWS * D, 1), turned[N * D];
    const variant v = {RULE_TOPK, 3, 0, 0, 0, 0};
    plain p;
    tensors t;
    outcome wanted;
    make_plain(&p, 6);
    transpose(p.encoder, D, N, turned);
    wanted = compute_plainly(&p, &v, x);
    t.count = 0;
    mkdir(path_of("model"), 0700);
    add_floats(&t, "encoder.weight", 2, N, D, turned);
    add_floats(&t, "encoder.bias", 1, N, 0, p.b_enc);
    add_floats(&t, "W_dec", 2, N, D, p.decoder);
    add_floats(&t, "b_dec", 1, D, 0, p.b_dec);
    write_weights(path_of("model/sae.safetensors"), &t);
    for (size_t i = 0; i < COUNT(cases); i++) check_config(cases[i][0], cases[i][1]);
    write_text(path_of("model/cfg.json"), "{\"k\":3,\"d_in\":7,\"num_latents\":18}", 33);
    check_same(path_of("model"), x, ROWS, 0, &wanted, 1);
    check_same(path_of("model/sae.safetensors"), x, ROWS, 0, &wanted, 1);
    remove_folder(path_of("model"));
    forget(&wanted);
    free(x);
}

/* Weights that do not fit each other, are no floats or not finite. */
static void weights_that_do_not_fit(void) {
    static const struct {
        const char *name;
        size_t rank, rows, cols;
        int is_integer, has_nan;
        const char *message;
    } cases[] = {
        {"W_enc", 1, N, 0, 0, 0, "tensor W_enc is [18], where 2 dimensions are needed"},
        {"W_dec", 2, N, D + 1, 0, 0, "W_enc has 18 latents of 7 inputs, W_dec [18, 8]"},
        {"W_dec", 2, D, N, 0, 0, "W_enc has 18 latents of 7 inputs, W_dec [7, 18]"},
        {"b_dec", 1, N, 0, 0, 0, "tensor b_dec is [18], where [7] is needed"},
        {"b_enc", 1, D, 0, 0, 0, "tensor b_enc is [7], where [18] is needed"},
        {"b_enc", 1, N, 0, 1, 0, "tensor b_enc is of type I32, not of floats"},
        {"W_enc", 2, D, N, 1, 0, "tensor W_enc is of type I32, not of floats"},
        {"W_enc", 2, D, N, 0, 1, "tensor W_enc has a NaN or Inf"},
        {"W_dec", 2, N, D, 0, 1, "tensor W_dec has a NaN or Inf"},
        {"b_dec", 1, D, 0, 0, 1, "tensor b_dec has a NaN or Inf"},
        {"other", 1, 1, 0, 0, 0, NULL},
    };
    static const struct {
        const char *name;
        size_t rank, rows, cols;
    } whole[] = {{"W_enc", 2, D, N}, {"W_dec", 2, N, D}, {"b_dec", 1, D, 0}, {"b_enc", 1, N, 0}};
    static const char cfg[] = "{" SIZES SIX "}";
    float values[N * (D + 1)];
    uint64_t seed = 4;
    test_fill(&seed, values, COUNT(values), 1);
    mkdir(path_of("model"), 0700);
    write_text(path_of("model/cfg.json"), cfg, strlen(cfg));
    for (size_t i = 0; i < COUNT(cases); i++) {
        tensors t;
        msae_model model;
        test_note("%s: %s", cases[i].name, cases[i].message != NULL ? cases[i].message : "");
        t.count = 0;
        for (size_t w = 0; w < COUNT(whole); w++) {
            const int is_it = strcmp(whole[w].name, cases[i].name) == 0;
            add_floats(&t, whole[w].name, is_it ? cases[i].rank : whole[w].rank,
                       is_it ? cases[i].rows : whole[w].rows, is_it ? cases[i].cols : whole[w].cols,
                       values);
            if (is_it && cases[i].is_integer) t.items[t.count - 1].dtype = MSAE_I32;
            if (is_it && cases[i].has_nan) {
                memcpy((unsigned char *)(uintptr_t)t.items[t.count - 1].data + 8, "\0\0\xc0\x7f",
                       4);
            }
        }
        write_weights(path_of("model/sae_weights.safetensors"), &t);
        heard();
        const int status = tool_load_model(&model, path_of("model"), NULL);
        const char *text = heard();
        CHECK(status == (cases[i].message != NULL ? TOOL_FAILED : TOOL_OK));
        if (cases[i].message != NULL && !CHECK(strstr(text, cases[i].message) != NULL)) {
            printf("  it said: %s", text);
        }
        msae_model_free(&model);
    }
    remove_folder(path_of("model"));
}

static void folders(void) {
    static const test_recipe *recipe = &test_recipes[5];
    msae_train_desc desc = test_desc(recipe, 8, 20);
    msae_trainer trainer;
    msae_model model;
    tool_target target;
    float *x = shifted_rows(8);
    mkdir(path_of("model"), 0700);
    heard();
    CHECK(tool_load_model(&model, path_of("model"), NULL) == TOOL_FAILED);
    CHECK(strstr(heard(), "is a folder with neither cfg.json nor ae.pt") != NULL);
    write_text(path_of("model/cfg.json"), "{}", 2);
    CHECK(tool_load_model(&model, path_of("model"), NULL) == TOOL_FAILED);
    CHECK(strstr(heard(), "neither sae_weights.safetensors nor sae.safetensors") != NULL);
    remove_folder(path_of("model"));
    CHECK(tool_load_model(&model, path_of("model"), NULL) == TOOL_FAILED);
    CHECK(strstr(heard(), "cannot be opened") != NULL);
    if (train(&trainer, &desc, x)) {
        CHECK(tool_plan_export(&trainer.model, "it", TOOL_LAYOUT_SAELENS, 0, &target) == TOOL_OK);
        write_text(path_of("model"), "x", 1); /* a file where the folder would be */
        CHECK(tool_export_model(&trainer.model, path_of("model"), &target) == TOOL_FAILED);
        CHECK(strstr(heard(), "is a file; saelens is a folder") != NULL);
        remove(path_of("model"));
        CHECK(tool_export_model(&trainer.model, path_of("no/model"), &target) == TOOL_FAILED);
        CHECK(strstr(heard(), "No such file") != NULL);
        /* one of the files cannot be written: neither is there */
        mkdir(path_of("model"), 0700);
        mkdir(path_of("model/sae_weights.safetensors"), 0700);
        CHECK(tool_export_model(&trainer.model, path_of("model"), &target) == TOOL_FAILED);
        heard();
        rmdir(path_of("model/sae_weights.safetensors"));
        CHECK(is_empty(path_of("model")));
        mkdir(path_of("model/cfg.json"), 0700);
        CHECK(tool_export_model(&trainer.model, path_of("model"), &target) == TOOL_FAILED);
        rmdir(path_of("model/cfg.json"));
        CHECK(is_empty(path_of("model")));
        /* a folder that is there is fine, twice too */
        CHECK(tool_export_model(&trainer.model, path_of("model"), &target) == TOOL_OK);
        CHECK(tool_export_model(&trainer.model, path_of("model"), &target) == TOOL_OK);
        remove_folder(path_of("model"));
        msae_trainer_free(&trainer);
    }
    heard();
    free(x);
}

/* ---------------------------------------------------------------------------------------------
   JSON
   ------------------------------------------------------------------------------------------ */

static void json_that_is_refused(void) {
    static const char *const cases[][2] = {
        {"", "byte 0: no JSON value"},
        {"nul", "byte 0: no JSON value"},
        {"nan", "byte 0: no JSON value"},
        {"Infinit", "byte 0: no JSON value"},
        {"-", "byte 0: no JSON value"},
        {"01", "byte 1: something behind the value"},
        {"1 2", "byte 2: something behind the value"},
        {"1.", "a number without digits behind its point"},
        {"1e+", "a number without digits in its exponent"},
        {"1e999", "a number that is too large"},
        {"1111111111111111111111111111111111111111111111111111111111111111", "63 characters"},
        {"[1", "byte 2: a comma or a bracket is missing"},
        {"[1}", "byte 2: a comma or a bracket is missing"},
        {"[1,]", "byte 3: no JSON value"},
        {"{1:2}", "byte 1: a key is missing"},
        {"{\"a\" 2}", "byte 5: a colon is missing"},
        {"{\"a\":1,\"b\":2,\"a\":3}", "a key that is twice in the object that ends here"},
        {"\"a", "byte 0: a text without an end"},
        {"\"a\n\"", "a control character in a text"},
        {"\"\\x\"", "an unknown escape"},
        {"\"\\u12g4\"", "an escape \\u without four hexadecimal digits"},
        {"\"\\u0000\"", "a zero character"},
        {"\"\\ud800\"", "half a surrogate pair"},
        {"\"\\ud800\\u0041\"", "half a surrogate pair"},
        {"\"\\udc00\"", "half a surrogate pair"},
        {"\"\xff\"", "no UTF-8"},
        {"\"\xed\xa0\x80\"", "no UTF-8"},
    };
    char deep[200];
    json_file file;
    msae_error error;
    for (size_t i = 0; i < COUNT(cases); i++) {
        test_note("%s", cases[i][0]);
        CHECK_STATUS(MSAE_ERROR_FORMAT,
                     json_parse(&file, cases[i][0], strlen(cases[i][0]), &error));
        if (!CHECK(strstr(error.message, cases[i][1]) != NULL)) puts(error.message);
        CHECK(file.root == NULL && file.memory == NULL);
    }
    for (size_t depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
        memset(deep, '[', depth);
        memset(deep + depth, ']', depth);
        test_note("%d brackets", (int)depth);
        const msae_status status = json_parse(&file, deep, 2 * depth, &error);
        CHECK_STATUS(depth == JSON_MAX_DEPTH ? MSAE_OK : MSAE_ERROR_FORMAT, status);
        if (status != MSAE_OK) CHECK(strstr(error.message, "too many brackets") != NULL);
        json_free(&file);
    }
}

static void json_that_is_read(void) {
    static const char text[] = " {\"a\" : [1, -2.5e1, true, false, null, \"x\"], \"\\u00e9\":{},"
                               "\"b\":\"\\ud83d\\ude00\\n\\/\\u20ac\",\"c\":[[],{}]} \n";
    json_file file;
    msae_error error;
    if (!CHECK_STATUS(MSAE_OK, json_parse(&file, text, sizeof text - 1, &error))) {
        puts(error.message);
        return;
    }
    const json_value *v = json_find(file.root, "a");
    CHECK(v != NULL && v->kind == JSON_LIST);
    v = v->first;
    CHECK(v->kind == JSON_NUMBER && v->number == 1 && v->key == NULL);
    v = v->next;
    CHECK(v->number == -25);
    v = v->next;
    CHECK(v->kind == JSON_BOOL && v->number == 1 && v->next->number == 0);
    v = v->next->next;
    CHECK(v->kind == JSON_NULL && strcmp(v->next->text, "x") == 0 && v->next->next == NULL);
    CHECK(json_find(file.root, "\xc3\xa9")->kind == JSON_OBJECT);
    CHECK(strcmp(json_find(file.root, "b")->text, "\xf0\x9f\x98\x80\n/\xe2\x82\xac") == 0);
    CHECK(json_find(file.root, "c")->first->next->kind == JSON_OBJECT);
    CHECK(json_find(file.root, "d") == NULL && json_find(NULL, "a") == NULL);
    json_free(&file);
}

int main(void) {
    folder = test_folder();
    RUN(models_of_other_code);
    RUN(widths_elsewhere);
    RUN(to_every_layout_and_back);
    RUN(published_and_back);
    RUN(as_topk);
    RUN(saelens_variants);
    RUN(dictionary_variants);
    RUN(dictionary_checkpoints);
    RUN(folders_of_torch);
    RUN(folders_of_torch_that_are_refused);
    RUN(scaled_inputs);
    RUN(weights_without_a_configuration);
    RUN(another_recipe);
    RUN(models_inside);
    RUN(published_names);
    RUN(configurations);
    RUN(sparsify_configurations);
    RUN(weights_that_do_not_fit);
    RUN(folders);
    RUN(json_that_is_refused);
    RUN(json_that_is_read);
    if (skipped > 0) test_passed--;
    CHECK(TEST_RMDIR(folder) == 0);
    if (skipped == 0) return test_finish();
    printf("%zu passed, %zu failed, %zu skipped\n", test_passed, test_failed, skipped);
    return test_failed > 0;
}
