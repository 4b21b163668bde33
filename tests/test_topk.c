/* Selection against a full sort. The models here have any pre-activations one likes: a unit matrix
   as input and the wanted matrix, transposed, as encoder, so that every product is exact. */
#include "test.h"

typedef enum pattern {
    RANDOM,
    TIES,
    SIGNED_ZEROS,
    ALL_ONE,
    ALL_ZERO,
    ALL_NEGATIVE,
    ASCENDING,
    DESCENDING,
    HUGE_VALUES,
    DENORMAL,
    WIDE_RANGE,
    PATTERNS
} pattern;

static void fill(pattern p, uint64_t seed, float *values, size_t count) {
    static const float zeros[] = {0.0f, -0.0f, 0.5f, -0.5f};
    test_fill(&seed, values, count, 1);
    for (size_t i = 0; i < count; i++) {
        uint64_t random = test_random(&seed);
        switch (p) {
        case TIES:
            values[i] = (float)(random % 5) - 2;
            break;
        case SIGNED_ZEROS:
            values[i] = zeros[random % COUNT(zeros)];
            break;
        case ALL_ONE:
            values[i] = 1;
            break;
        case ALL_ZERO:
            values[i] = 0;
            break;
        case ALL_NEGATIVE:
            values[i] = -1 - fabsf(values[i]);
            break;
        case ASCENDING:
            values[i] = (float)i - (float)(count / 3);
            break;
        case DESCENDING:
            values[i] = (float)(count / 2) - (float)i;
            break;
        case HUGE_VALUES:
            values[i] *= 1e15f;
            break;
        case DENORMAL:
            values[i] = (float)(int)(random % 9 - 4) * 1e-44f;
            break;
        case WIDE_RANGE:
            values[i] = ldexpf(values[i], (int)(random % 80) - 60);
            break;
        default:
            break;
        }
    }
}

/* ---------------------------------------------------------------------------------------------
   The answer
   ------------------------------------------------------------------------------------------ */

typedef struct entry {
    float key;
    size_t index;
} entry;

static int by_key(const void *a, const void *b) {
    const entry *x = (const entry *)a, *y = (const entry *)b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* All of `pre` by descending key; lower indices first where keys are equal. */
static entry *sorted(const float *pre, size_t count, msae_activation activation) {
    entry *entries = (entry *)test_alloc(count * sizeof *entries);
    for (size_t i = 0; i < count; i++) {
        entries[i].key = activation == MSAE_ACTIVATION_ABS ? fabsf(pre[i]) : pre[i];
        entries[i].index = i;
    }
    qsort(entries, count, sizeof *entries, by_key);
    return entries;
}

/* Whether `latents` [count] are the k first of `entries`, and zero elsewhere. */
static int is_selection(const float *latents, const entry *entries, size_t count, size_t k,
                        msae_activation activation) {
    for (size_t i = 0; i < count; i++) {
        int kept = i < k && (activation == MSAE_ACTIVATION_IDENTITY || entries[i].key > 0);
        if (latents[entries[i].index] != (kept ? entries[i].key : 0)) return 0;
    }
    return 1;
}

/* ---------------------------------------------------------------------------------------------
   Models
   ------------------------------------------------------------------------------------------ */

/* Makes the pre-activations of the unit matrix [rows, rows] be `pre` [rows, n]. */
static void set_pre_activations(msae_model *model, const float *pre) {
    size_t rows = model->n_inputs, n = model->n_latents;
    for (size_t j = 0; j < n; j++) {
        for (size_t b = 0; b < rows; b++) model->encoder[j * rows + b] = pre[b * n + j];
    }
}

static float *unit_matrix(size_t rows) {
    float *x = test_floats(rows * rows);
    for (size_t i = 0; i < rows * rows; i++) x[i] = i % (rows + 1) ? 0.0f : 1.0f;
    return x;
}

static msae_train_desc desc_of(msae_recipe recipe, msae_activation activation, size_t rows,
                               size_t n, msae_simd simd) {
    msae_train_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.model.n_inputs = rows;
    desc.model.n_latents = n;
    desc.model.recipe = recipe;
    desc.model.activation = activation;
    desc.model.host.simd = simd;
    desc.batch = rows;
    desc.loss = MSAE_LOSS_MSE;
    return desc;
}

/* Runs every pattern through a trainer of `desc` and compares every level with the sort. */
static void check_levels(const msae_train_desc *desc) {
    msae_trainer trainer;
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, desc, NULL))) return;
    msae_model *model = &trainer.model;
    size_t rows = model->n_inputs, n = model->n_latents, levels = model->n_levels;
    float *x = unit_matrix(rows), *pre = test_floats(rows * n);
    float *latents = test_floats(levels * rows * n);
    msae_data data = msae_data_view(x, rows, rows);
    for (int p = 0; p < PATTERNS; p++) {
        fill((pattern)p, n + 1, pre, rows * n);
        set_pre_activations(model, pre);
        test_note("pattern %d, n %zu, activation %d, %s", p, n, (int)model->activation,
                  msae_enum_name(MSAE_ENUM_SIMD, (int)model->simd));
        if (!CHECK_STATUS(MSAE_OK, msae_trainer_forward(&trainer, &data, NULL, rows, NULL, latents,
                                                        NULL, NULL))) {
            continue;
        }
        for (size_t b = 0; b < rows; b++) {
            entry *entries = sorted(pre + b * n, n, model->activation);
            for (size_t l = 0; l < levels; l++) {
                CHECK(is_selection(latents + (l * rows + b) * n, entries, n, model->nesting[l],
                                   model->activation));
            }
            free(entries);
        }
    }
    msae_trainer_free(&trainer);
    free(x);
    free(pre);
    free(latents);
}

/* ---------------------------------------------------------------------------------------------
   Cases
   ------------------------------------------------------------------------------------------ */

static void every_k_as_nested_levels(void) {
    FOR_EACH_PATH(simd) {
        for (int a = MSAE_ACTIVATION_RELU; a <= MSAE_ACTIVATION_ABS; a++) {
            for (size_t n = 1; n <= MSAE_MAX_LEVELS; n++) {
                size_t ks[MSAE_MAX_LEVELS];
                for (size_t i = 0; i < n; i++) ks[i] = i + 1;
                msae_train_desc desc = desc_of(MSAE_RECIPE_MSAE_UW, (msae_activation)a, 2, n, simd);
                desc.model.nesting = ks;
                desc.model.n_levels = n;
                check_levels(&desc);
            }
        }
    }
}

static void every_k_alone(void) {
    FOR_EACH_PATH(simd) {
        for (int a = MSAE_ACTIVATION_RELU; a <= MSAE_ACTIVATION_ABS; a++) {
            for (size_t n = 1; n <= 20; n++) {
                for (size_t k = 1; k <= n; k++) {
                    msae_train_desc desc =
                        desc_of(MSAE_RECIPE_TOPK, (msae_activation)a, 3, n, simd);
                    desc.model.k = k;
                    check_levels(&desc);
                }
            }
        }
    }
}

static void nested_lists_of_any_steps(void) {
    uint64_t seed = 3;
    FOR_EACH_PATH(simd) {
        for (size_t n = 65; n < 700; n += 31) {
            size_t ks[MSAE_MAX_LEVELS], count = 0;
            for (size_t k = 0; count < MSAE_MAX_LEVELS;) {
                k += 1 + (size_t)(test_random(&seed) % (n / 4));
                if (k > n) break;
                ks[count++] = k;
            }
            msae_train_desc desc = desc_of(MSAE_RECIPE_MSAE_RW, MSAE_ACTIVATION_RELU, 4, n, simd);
            desc.model.nesting = ks;
            desc.model.n_levels = count;
            check_levels(&desc);
        }
    }
}

static void large_n(void) {
    FOR_EACH_PATH(simd) {
        for (int a = MSAE_ACTIVATION_RELU; a <= MSAE_ACTIVATION_ABS; a++) {
            msae_train_desc desc = desc_of(MSAE_RECIPE_MSAE_UW, (msae_activation)a, 5, 6144, simd);
            check_levels(&desc); /* 64, 128 .. 4096, 6144 */
            desc.model.recipe = MSAE_RECIPE_TOPK;
            desc.model.n_latents = 20011;
            check_levels(&desc);
        }
    }
}

static void check_batch(size_t rows, size_t n, size_t k, msae_simd simd) {
    msae_train_desc desc = desc_of(MSAE_RECIPE_BATCHTOPK, MSAE_ACTIVATION_DEFAULT, rows, n, simd);
    msae_trainer trainer;
    desc.model.k = k;
    if (!CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL))) return;
    float *x = unit_matrix(rows), *pre = test_floats(rows * n), *latents = test_floats(rows * n);
    msae_data data = msae_data_view(x, rows, rows);
    for (int p = 0; p < PATTERNS; p++) {
        test_note("pattern %d, rows %zu, n %zu, k %zu, %s", p, rows, n, k,
                  msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
        fill((pattern)p, n, pre, rows * n);
        set_pre_activations(&trainer.model, pre);
        CHECK_STATUS(MSAE_OK,
                     msae_trainer_forward(&trainer, &data, NULL, rows, NULL, latents, NULL, NULL));
        entry *entries = sorted(pre, rows * n, MSAE_ACTIVATION_RELU);
        CHECK(is_selection(latents, entries, rows * n, k * rows, MSAE_ACTIVATION_RELU));
        free(entries);
    }
    msae_trainer_free(&trainer);
    free(x);
    free(pre);
    free(latents);
}

static void batch_selection(void) {
    FOR_EACH_PATH(simd) {
        for (size_t n = 1; n <= 257; n = n * 2 + 1) {
            for (size_t k = 1; k <= n; k = k * 3 + 1) check_batch(5, n, k, simd);
        }
    }
}

/* A batch of several tiles, the last of them short. */
static void batch_selection_over_tiles(void) {
    FOR_EACH_PATH(simd) {
        check_batch(600, 33, 1, simd);
        check_batch(600, 33, 9, simd);
        check_batch(600, 33, 33, simd);
    }
}

/* The codes of one row at every k: the sort's first k that are active, in the sort's order. */
static void check_codes(msae_model *model, const float *pre) {
    size_t n = model->n_latents;
    float one = 1;
    void *workspace = test_alloc(msae_workspace_bytes(model, 1));
    msae_code *codes = (msae_code *)test_alloc(n * sizeof *codes);
    entry *entries = sorted(pre, n, model->activation);
    size_t active = 0;
    set_pre_activations(model, pre);
    while (active < n && entries[active].key > 0) active++;
    for (size_t k = 1; k <= n; k += k < 130 ? 1 : n / 3) {
        size_t count = test_encode(model, workspace, &one, k, codes);
        CHECK(count == (active < k ? active : k));
        for (size_t i = 0; i < count && i < active; i++) {
            CHECK(codes[i].latent == entries[i].index && codes[i].value == entries[i].key);
        }
    }
    model->k = n < 7 ? n : 7;
    CHECK(test_encode_own(model, workspace, &one, codes) ==
          (active < model->k ? active : model->k));
    free(workspace);
    free(codes);
    free(entries);
}

static void codes_by_descending_value(void) {
    static const size_t sizes[] = {1, 2, 3, 7, 8, 9, 31, 64, 70, 129, 1000, 6144};
    FOR_EACH_PATH(simd) {
        for (int a = MSAE_ACTIVATION_RELU; a <= MSAE_ACTIVATION_ABS; a += 2) {
            for (size_t i = 0; i < COUNT(sizes); i++) {
                size_t n = sizes[i];
                msae_train_desc desc = desc_of(MSAE_RECIPE_MSAE_UW, (msae_activation)a, 1, n, simd);
                msae_model model;
                if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL))) continue;
                float *pre = test_floats(n);
                for (int p = 0; p < PATTERNS; p++) {
                    test_note("pattern %d, n %zu, activation %d, %s", p, n, a,
                              msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
                    fill((pattern)p, n + 5, pre, n);
                    check_codes(&model, pre);
                }
                msae_model_free(&model);
                free(pre);
            }
        }
    }
}

/* Infinity is refused in the data, but the largest finite numbers are not. */
static void largest_floats(void) {
    static const float pre[] = {3.4e38f, -3.4e38f, 1, 3.4028235e38f, 0, 1e-45f, -1e-45f};
    FOR_EACH_PATH(simd) {
        msae_train_desc desc =
            desc_of(MSAE_RECIPE_MSAE_UW, MSAE_ACTIVATION_RELU, 1, COUNT(pre), simd);
        msae_model model;
        if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL))) continue;
        test_note("%s", msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
        check_codes(&model, pre);
        msae_model_free(&model);
    }
}

int main(void) {
    RUN(every_k_as_nested_levels);
    RUN(every_k_alone);
    RUN(nested_lists_of_any_steps);
    RUN(large_n);
    RUN(batch_selection);
    RUN(batch_selection_over_tiles);
    RUN(codes_by_descending_value);
    RUN(largest_floats);
    return test_finish();
}
