/* A program that has set a locale with a decimal comma saves and loads the same bytes. With a
   folder as argument, models are written to it instead, for a comparison between machines. */
#include "test.h"

#include <locale.h>

enum { D = 5, N = 12 };

/* A model of the recipe with fractions in everything that files write as text. Nothing in it is
   computed, so that it is the same on every machine. */
static int open_model(msae_model *model, const test_recipe *recipe) {
    msae_train_desc desc = test_desc(recipe, D, N);
    uint64_t seed = 3;
    test_note("%s", recipe->name);
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(model, &desc.model, NULL))) return 0;
    test_randomize(model, 11);
    test_fill(&seed, model->mean, D, 3);
    model->scale = 1.7f;
    model->threshold = 0.25f;
    for (size_t i = 0; i < model->n_levels; i++) model->level_weights[i] = 1.5f + (float)i;
    model->history.lr = 0.0123f;
    model->history.beta1 = 0.9f;
    model->history.eps = 6.25e-10f;
    return 1;
}

static void *save(const msae_model *model, size_t *size) {
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_save(model, &writer, NULL));
    *size = writer.bytes;
    void *file = test_alloc(*size);
    writer = msae_to_memory(file, *size);
    CHECK_STATUS(MSAE_OK, msae_save(model, &writer, NULL));
    return file;
}

/* The name of a locale with a decimal comma, now in force, or NULL. */
static const char *set_comma(void) {
    static const char *const names[] = {"",           "de_DE.UTF-8",         "de_DE.utf8", "de_DE",
                                        "fr_FR.utf8", "German_Germany.1252", "de-DE"};
    for (size_t i = 0; i < COUNT(names); i++) {
        if (setlocale(LC_ALL, names[i]) && strcmp(localeconv()->decimal_point, ",") == 0) {
            return names[i];
        }
    }
    setlocale(LC_ALL, "C");
    return NULL;
}

static void models_under_a_decimal_comma(void) {
    FOR_EACH_RECIPE(recipe) {
        msae_model model, loaded;
        size_t size, comma_size, again_size;
        if (!open_model(&model, recipe)) return;
        void *file = save(&model, &size);
        set_comma();
        void *comma = save(&model, &comma_size);
        CHECK(comma_size == size && memcmp(comma, file, size) == 0);
        if (CHECK_STATUS(MSAE_OK, msae_load(&loaded, msae_from_memory(file, size), NULL, NULL))) {
            void *again = save(&loaded, &again_size);
            CHECK(loaded.history.lr == model.history.lr);
            CHECK(again_size == size && memcmp(again, file, size) == 0);
            free(again);
            msae_model_free(&loaded);
        }
        setlocale(LC_ALL, "C");
        free(comma);
        free(file);
        msae_model_free(&model);
    }
}

static void save_to(const char *folder) {
    FOR_EACH_RECIPE(recipe) {
        char path[512];
        msae_model model;
        if (!open_model(&model, recipe)) return;
        snprintf(path, sizeof path, "%s/%d.safetensors", folder, (int)(recipe - test_recipes));
        CHECK_STATUS(MSAE_OK, msae_save_file(&model, path, NULL));
        msae_model_free(&model);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) {
        test_begin("models for other machines");
        save_to(argv[1]);
        test_end();
    } else if (set_comma()) {
        setlocale(LC_ALL, "C");
        RUN(models_under_a_decimal_comma);
    } else {
        printf("there is no locale with a decimal comma here\n");
        printf("0 passed, 0 failed, 1 skipped\n");
        return 0;
    }
    return test_finish();
}
