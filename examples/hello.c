/* The smallest whole program: trains on 20,000 word vectors, then says which concepts a few words
   are made of. Run it from the folder that holds examples/; it takes some seconds. */
#define MSAE_IMPLEMENTATION
#include "../msae.h"

#include <stdio.h>
#include <stdlib.h>

enum { WORDS = 20000, INPUTS = 100, LATENTS = 1024, SHOWN = 5 };
static const char *const path = "examples/data/glove_f16.npy";
static char words[WORDS][64];
static msae_name names[LATENTS]; /* the word that each latent is closest to */

int main(void) {
    /* The levels keep 8, 16, 32 .. 1024 latents; the few strongest are to carry the most. */
    static const float weights[] = {128, 64, 32, 16, 8, 4, 2, 1};
    msae_train_desc desc = {0}; /* zero means default */
    msae_trainer trainer = {0};
    msae_data vectors = {0};
    msae_error error = {0};
    FILE *list = fopen("examples/data/glove_words.txt", "r");
    for (size_t i = 0; list != NULL && i < WORDS; i++) {
        if (fscanf(list, "%63s", words[i]) != 1) break;
    }
    if (list != NULL) fclose(list);

    desc.model.n_inputs = INPUTS;
    desc.model.n_latents = LATENTS;
    desc.model.nesting_start = 8;
    desc.model.level_weights = weights;
    desc.model.n_level_weights = sizeof weights / sizeof weights[0];
    desc.batch = 256;
    desc.epochs = 6;
    desc.lr = 1e-3f;
    const msae_status loaded = msae_data_load(&vectors, msae_from_file(path), NULL, NULL, &error);
    const msae_source source = msae_source_data(&vectors);
    if (loaded != MSAE_OK || msae_trainer_init(&trainer, &desc, &error) != MSAE_OK ||
        msae_trainer_fit(&trainer, &source, NULL, NULL, NULL, &error) != MSAE_OK ||
        msae_name_latents(&trainer.model, &vectors, NULL, names, &error) != MSAE_OK) {
        fprintf(stderr, "hello: %s: %s\n", path, error.message);
        return 1;
    }

    void *workspace = malloc(msae_workspace_bytes(&trainer.model, 1));
    for (size_t i = 900; workspace != NULL && i < WORDS; i += 1200) {
        float x[INPUTS];
        msae_code codes[SHOWN];
        msae_data_read(&vectors, i, 1, x);
        size_t count;
        if (msae_encode(&trainer.model, workspace, x, SHOWN, codes, &count) != MSAE_OK) return 1;
        printf("%-14s", words[i]);
        for (size_t c = 0; c < count; c++) {
            printf(" %s %.1f", words[names[codes[c].latent].word], (double)codes[c].value);
        }
        puts("");
    }
    free(workspace);
    msae_data_free(&vectors);
    msae_trainer_free(&trainer);
    return 0;
}
