/* Training on rows that no file holds: the library asks a callback for them, block by block, and
   keeps two windows of them in memory. Here a game's log of what its characters did stands in for
   the database: each row is made when it is asked for, the same one every time. */
#define MSAE_NO_STDIO
#define MSAE_IMPLEMENTATION
#include "../msae.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 200000, COLS = 24, HABITS = 12, LATENTS = 48 };

typedef struct history {
    float habits[HABITS][COLS]; /* what a row is made of */
    uint64_t asked;
} history;

static uint64_t mix(uint64_t value) {
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

/* Three habits of the row's own, and a little of anything. */
static void make_row(const history *h, uint64_t row, float *out) {
    uint64_t dice = mix(row + 1);
    for (int c = 0; c < COLS; c++) out[c] = 0.02f * (float)(mix(dice + (uint64_t)c) % 100) - 1;
    for (int c = 0; c < COLS; c++) out[c] *= 0.1f;
    for (int i = 0; i < 3; i++, dice = mix(dice)) {
        for (int c = 0; c < COLS; c++) out[c] += h->habits[dice % HABITS][c];
    }
}

static msae_status read_rows(void *user, uint64_t first, size_t rows, float *out,
                             msae_error *error) {
    history *h = (history *)user;
    (void)error; /* a database would say here what went wrong */
    h->asked += rows;
    for (size_t r = 0; r < rows; r++) make_row(h, first + r, out + r * COLS);
    return MSAE_OK;
}

int main(void) {
    static history h;
    msae_train_desc desc = {0};
    msae_stream_desc stream = {0};
    msae_source source = {0};
    msae_trainer trainer;
    msae_error error;
    for (int i = 0; i < HABITS; i++) {
        for (int c = 0; c < COLS; c++) {
            h.habits[i][c] = (float)(mix((uint64_t)(1000 + i * COLS + c)) % 200) * 0.01f - 1;
        }
    }
    source.rows = ROWS;
    source.cols = COLS;
    source.read = read_rows;
    source.user = &h;
    stream.block_rows = 500;
    stream.window_rows = 20000; /* 2 MB; all rows would be 19 */
    desc.model.n_inputs = COLS;
    desc.model.n_latents = LATENTS;
    desc.model.recipe = MSAE_RECIPE_TOPK;
    desc.model.k = 3;
    desc.batch = 512;
    desc.epochs = 3;
    if (msae_trainer_init(&trainer, &desc, &error) != MSAE_OK ||
        msae_trainer_fit(&trainer, &source, &stream, NULL, NULL, &error) != MSAE_OK) {
        printf("%s\n", error.message);
        return 1;
    }
    printf("%llu rows trained on, %llu asked for; loss %.4f with 3 latents a row\n",
           (unsigned long long)trainer.rows, (unsigned long long)h.asked, trainer.epoch.loss);
    msae_trainer_free(&trainer);
    return 0;
}
