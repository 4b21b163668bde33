/* msae.h in a browser: what the page in this folder calls. One model, one set of words and one word
   at a time; results lie where the functions below say, until the next call of the same function.
   No stdio, nothing imported but the growth of memory. engine.js is the other side. */
#define MSAE_IMPLEMENTATION
#define MSAE_STATIC
#define MSAE_NO_STDIO
#define MSAE_NO_TRAIN
#include "msae.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WEB(name) __attribute__((export_name(#name))) name

enum { MOST_HITS = 64, MOST_EDITS = 64, MOST_KS = 64 };

static struct {
    msae_model model;
    msae_data words;
    msae_error error;
    void *workspace;
    msae_code *codes; /* of the word, with the edits; room for all latents and MOST_EDITS */
    size_t count;
    float *x, *rebuilt, *curve; /* the word, what its codes decode to, and that for each of ks */
    msae_hit hits[MOST_HITS];
    size_t ks[MOST_KS];
    float lost[MOST_KS];
} web;

void *WEB(web_alloc)(size_t bytes) {
    return malloc(bytes);
}

void WEB(web_free)(void *memory) {
    free(memory);
}

/* The last error's line, for people. */
const char *WEB(web_error)(void) {
    return web.error.message;
}

static msae_status open_all(const void *model, size_t model_bytes, const void *words,
                            size_t words_bytes) {
    size_t d, n;
    msae_status status =
        msae_load(&web.model, msae_from_memory(model, model_bytes), NULL, &web.error);
    if (status == MSAE_OK) {
        status = msae_data_load(&web.words, msae_from_memory(words, words_bytes), NULL, NULL,
                                &web.error);
    }
    if (status != MSAE_OK) return status;
    d = web.model.n_inputs;
    n = web.model.n_latents;
    if (web.words.cols != d) {
        strcpy(web.error.message, "the words' vectors and the model differ in length");
        return MSAE_ERROR_SHAPE;
    }
    web.model.refine = 1;
    web.workspace = malloc(msae_workspace_bytes(&web.model, 1)); /* the most that a call takes */
    web.model.refine = 0;
    web.codes = (msae_code *)malloc((n + MOST_EDITS) * sizeof *web.codes);
    web.x = (float *)malloc((2 + MOST_KS) * d * sizeof *web.x);
    if (!web.workspace || !web.codes || !web.x) {
        strcpy(web.error.message, "out of memory");
        return MSAE_ERROR_MEMORY;
    }
    web.rebuilt = web.x + d;
    web.curve = web.rebuilt + d;
    return MSAE_OK;
}

/* The bytes of a model and of a .npy of the words' vectors. The model is copied; the vectors must
   stay. 1, or 0 with an error. */
int WEB(web_open)(const void *model, size_t model_bytes, const void *words, size_t words_bytes) {
    return open_all(model, model_bytes, words, words_bytes) == MSAE_OK;
}

const char *WEB(web_path)(void) {
    return msae_enum_name(MSAE_ENUM_SIMD, (int)web.model.simd);
}

size_t WEB(web_inputs)(void) {
    return web.model.n_inputs;
}

size_t WEB(web_latents)(void) {
    return web.model.n_latents;
}

size_t WEB(web_words)(void) {
    return web.words.rows;
}

/* The k of each nesting level, ascending; 0 after the last one. */
size_t WEB(web_level)(size_t level) {
    return level < web.model.n_levels ? web.model.nesting[level] : 0;
}

/* Takes a word by its number. */
void WEB(web_take)(size_t word) {
    msae_data_read(&web.words, word, 1, web.x);
}

/* Whether codes are refined from now on, with so many exchanges. */
void WEB(web_refine)(int refines, size_t exchanges) {
    web.model.refine = refines ? 1 + (int)exchanges : 0;
}

/* The word's k strongest latents, or as many refined ones; how many there are. */
size_t WEB(web_encode)(size_t k) {
    const msae_until all = {0, 0, 0};
    msae_encode_until(&web.model, web.workspace, web.x, &all, k, web.codes, &web.count, NULL);
    if (web.model.refine > 0) {
        const msae_rows row = {web.codes, &web.count, k};
        msae_refine_rows(&web.model, web.workspace, web.x, 1, (size_t)web.model.refine - 1, &row,
                         &web.error);
    }
    return web.count;
}

const msae_code *WEB(web_codes)(void) {
    return web.codes;
}

/* Sets one latent of the codes; a value of 0 takes it out. At most MOST_EDITS of them between two
   calls of web_encode. */
int WEB(web_edit)(uint32_t latent, float value) {
    msae_edit edit = {0, MSAE_EDIT_SET, 0, 0};
    edit.latent = latent;
    edit.value = value;
    return msae_edit_codes(&web.model, &edit, 1, web.codes, &web.count, &web.error) == MSAE_OK;
}

const float *WEB(web_decode)(void) {
    float moments[2];
    msae_row_moments(&web.model, web.x, moments);
    msae_decode(&web.model, web.codes, web.count, moments, web.rebuilt);
    return web.rebuilt;
}

/* The cosine of the word and what was decoded last. */
double WEB(web_cosine)(void) {
    double xy = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < web.model.n_inputs; i++) {
        const double x = (double)web.x[i], y = (double)web.rebuilt[i];
        xy += x * y;
        xx += x * x;
        yy += y * y;
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : 0;
}

/* The share of a word's squared distance from the mean that a reconstruction misses. */
static double lost_by(const float *rebuilt) {
    double missed = 0, spread = 0;
    for (size_t i = 0; i < web.model.n_inputs; i++) {
        const double off = (double)web.x[i] - (double)rebuilt[i];
        const double from_mean = (double)web.x[i] - (double)web.model.mean[i];
        missed += off * off;
        spread += from_mean * from_mean;
    }
    return spread > 0 ? missed / spread : 0;
}

double WEB(web_lost)(void) {
    return lost_by(web.rebuilt);
}

/* Where to write up to 64 values of k, ascending, for web_curve. */
size_t *WEB(web_ks)(void) {
    return web.ks;
}

/* What of the word is lost at each of them, without edits; NULL with an error. */
const float *WEB(web_curve)(size_t count) {
    if (msae_forward(&web.model, web.workspace, web.x, 1, web.ks, count, web.curve, &web.error) !=
        MSAE_OK) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        web.lost[i] = (float)lost_by(web.curve + i * web.model.n_inputs);
    }
    return web.lost;
}

/* The words nearest to the word itself or (rebuilt 1) to what was decoded, by cosine; their number
   is `top`, at most 64, or less. */
size_t WEB(web_nearest)(int rebuilt, size_t top) {
    size_t count = 0;
    if (msae_nearest_rows(&web.model, &web.words, rebuilt ? web.rebuilt : web.x, 1, top, web.hits,
                          &count, &web.error) != MSAE_OK) {
        return 0;
    }
    return count;
}

const msae_hit *WEB(web_hits)(void) {
    return web.hits;
}
