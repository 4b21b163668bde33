/* What a build does before the game ships: trains a little model on the bundled word vectors, names
   its concepts, makes its weights int8 and writes the assets that engine.c reads. Argument: the
   folder for them. */
#define MSAE_IMPLEMENTATION
#include "../../msae.h"

#include <stdio.h>
#include <string.h>

enum { LATENTS = 1024, MAX_WORDS = 20000, WORD = 32 };

static char words[MAX_WORDS][WORD];

static const char *const things[] = {"castle", "dragon", "sword", "river", "gold", "forest"};

static size_t read_words(const char *path) {
    FILE *file = fopen(path, "r");
    size_t count = 0;
    if (!file) return 0;
    while (count < MAX_WORDS && fgets(words[count], WORD, file)) {
        words[count][strcspn(words[count], "\r\n")] = 0;
        count++;
    }
    fclose(file);
    return count;
}

/* A file of that name in the folder, open for writing. */
static FILE *asset(const char *folder, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return fopen(path, "wb");
}

static int bake(const char *folder, const msae_data *vectors, msae_error *error) {
    msae_train_desc desc;
    msae_trainer trainer;
    msae_model small;
    static msae_hit top[LATENTS];
    static size_t counts[LATENTS];
    const msae_top_desc strongest = {NULL, LATENTS, 1, 8};
    char path[512];
    /* weights that halve from level to level: the few strongest concepts carry what they can */
    const float weights[] = {128, 64, 32, 16, 8, 4, 2, 1};
    const msae_source source = msae_source_data(vectors);
    memset(&desc, 0, sizeof desc);
    desc.model.n_inputs = vectors->cols;
    desc.model.n_latents = LATENTS;
    desc.model.nesting_start = 8;
    desc.model.level_weights = weights;
    desc.model.n_level_weights = sizeof weights / sizeof *weights;
    desc.batch = 256;
    desc.epochs = 6;
    desc.lr = 1e-3f;
    if (msae_trainer_init(&trainer, &desc, error) != MSAE_OK ||
        msae_trainer_fit(&trainer, &source, NULL, NULL, NULL, error) != MSAE_OK ||
        msae_top_rows(&trainer.model, vectors, &strongest, top, counts, error) != MSAE_OK ||
        msae_compact(&trainer.model, MSAE_I8, NULL, &small, error) != MSAE_OK) {
        return 0;
    }
    snprintf(path, sizeof path, "%s/concepts.safetensors", folder);
    if (msae_save_file(&small, path, error) != MSAE_OK) return 0;
    msae_model_free(&small);
    msae_trainer_free(&trainer);

    strcpy(error->message, "the assets cannot be written");
    FILE *names = asset(folder, "concepts.txt"), *list = asset(folder, "things.txt");
    FILE *floats = asset(folder, "things.f32");
    if (!names || !list || !floats) return 0;
    for (size_t j = 0; j < LATENTS; j++) {
        fprintf(names, "%s\n", counts[j] ? words[top[j].row] : "(dead)");
    }
    for (size_t t = 0; t < sizeof things / sizeof *things; t++) {
        for (size_t r = 0; r < vectors->rows; r++) {
            float row[1024];
            if (strcmp(words[r], things[t]) != 0) continue;
            msae_data_read(vectors, r, 1, row);
            fwrite(row, sizeof *row, vectors->cols, floats); /* (for this machine alone) */
            fprintf(list, "%s\n", things[t]);
        }
    }
    return fclose(names) == 0 && fclose(list) == 0 && fclose(floats) == 0;
}

int main(int argc, char **argv) {
    msae_data vectors;
    msae_error error;
    if (argc != 2) return 2;
    const char *path = "examples/data/glove_f16.npy";
    if (msae_data_load(&vectors, msae_from_file(path), NULL, NULL, &error) != MSAE_OK) {
        fprintf(stderr, "bake: %s: %s (run me from the folder that holds examples/)\n", path,
                error.message);
        return 1;
    }
    strcpy(error.message, "the words do not belong to the vectors");
    if (vectors.cols > 1024 || read_words("examples/data/glove_words.txt") != vectors.rows ||
        !bake(argv[1], &vectors, &error)) {
        fprintf(stderr, "bake: %s (run me from the folder that holds examples/)\n", error.message);
        return 1;
    }
    msae_data_free(&vectors);
    return 0;
}
