/* The library for inference alone, behind the app's own little interface; its functions are private
   to this file. */
#define MSAE_IMPLEMENTATION
#define MSAE_STATIC
#define MSAE_RUN_ONLY
#define MSAE_NO_STDIO
#include "../../msae.h"

#include "concepts.h"

#include <stdlib.h>

struct concepts {
    msae_model model;
    void *workspace;
    msae_code *codes; /* [n_latents] */
};

concepts *concepts_open(const void *bytes, size_t size, const char **why) {
    msae_error error;
    const char *unused;
    concepts *c = (concepts *)calloc(1, sizeof *c);
    if (!why) why = &unused;
    *why = "out of memory";
    if (!c) return NULL;
    /* Of a file from elsewhere the weights would be looked at too (msae_load_desc.check). */
    if (msae_map(&c->model, bytes, size, NULL, &error) != MSAE_OK) {
        *why = msae_status_text(error.code);
        concepts_close(c);
        return NULL;
    }
    c->workspace = malloc(msae_workspace_bytes(&c->model, 1));
    c->codes = (msae_code *)malloc(c->model.n_latents * sizeof *c->codes);
    if (!c->workspace || !c->codes) {
        concepts_close(c);
        return NULL;
    }
    return c;
}

void concepts_close(concepts *c) {
    if (!c) return;
    msae_model_free(&c->model);
    free(c->workspace);
    free(c->codes);
    free(c);
}

size_t concepts_inputs(const concepts *c) {
    return c->model.n_inputs;
}

size_t concepts_count(const concepts *c) {
    return c->model.n_latents;
}

size_t concepts_encode(concepts *c, const float *embedding, size_t k, uint32_t *numbers,
                       float *values) {
    size_t count;
    if (k > c->model.n_latents) k = c->model.n_latents;
    if (msae_encode(&c->model, c->workspace, embedding, k, c->codes, &count) != MSAE_OK) return 0;
    for (size_t e = 0; e < count; e++) {
        numbers[e] = c->codes[e].latent;
        values[e] = c->codes[e].value;
    }
    return count;
}

void concepts_decode(const concepts *c, const uint32_t *numbers, const float *values, size_t count,
                     float *embedding) {
    msae_code codes[CONCEPTS_MOST];
    if (count > CONCEPTS_MOST) count = CONCEPTS_MOST;
    for (size_t e = 0; e < count; e++) {
        codes[e].latent = numbers[e];
        codes[e].value = values[e];
    }
    msae_decode(&c->model, codes, count, NULL, embedding);
}
