/* The smallest whole program: trains on 20,000 word vectors, then says which concepts a few words
   are made of. Run it from the folder that holds examples/; it takes some seconds. */
#define MSAE_IMPLEMENTATION
#include "../msae.h"

#include <stdio.h>
#include <stdlib.h>

enum { WORDS = 20000, DIMENSIONS = 100, LATENTS = 1024 };
static char words[WORDS][64];

static int fail(const char *what) {
    fprintf(stderr, "hello: %s\n", what);
    return 1;
}

int main(void) {
    msae_train_desc desc = {0}; /* zero means default */
    msae_trainer trainer;
    msae_data vectors;
    msae_error error;
    FILE *list = fopen("examples/data/glove_words.txt", "r");
    if (list == NULL) return fail("run me from the folder that holds examples/");
    for (size_t i = 0; i < WORDS; i++) {
        if (fscanf(list, "%63s", words[i]) != 1) return fail("words are missing");
    }
    fclose(list);
    const char *path = "examples/data/glove_f16.npy";
    if (msae_data_load_file(&vectors, path, NULL, NULL, &error) != MSAE_OK) {
        return fail(error.message);
    }

    desc.model.n_inputs = DIMENSIONS;
    desc.model.n_latents = LATENTS;
    desc.model.nesting_start = 16;
    desc.batch = 256;
    desc.epochs = 5;
    desc.lr = 1e-3f;
    if (msae_trainer_init(&trainer, &desc, &error) != MSAE_OK) return fail(error.message);
    if (msae_fit(&trainer, &vectors, NULL, NULL, &error) != MSAE_OK) return fail(error.message);

    static msae_name names[LATENTS]; /* the word that each latent is closest to */
    if (msae_name_latents(&trainer.model, &vectors, NULL, names, &error) != MSAE_OK) return 1;
    void *workspace = malloc(msae_workspace_bytes(&trainer.model, 1));
    for (size_t i = 500; workspace != NULL && i < 5000; i += 300) {
        float x[DIMENSIONS];
        msae_code codes[5];
        msae_data_read(&vectors, i, 1, x);
        size_t count = msae_encode(&trainer.model, workspace, x, 5, codes);
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
