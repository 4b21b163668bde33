/* examples/by_hand.c, plain loops, against the library: the loss of every step, the gradients and,
   after five steps, the parameters. */
#include "test.h"

#define BY_HAND_ONLY_FUNCTIONS
#include "../examples/by_hand.c"

#define LIMIT 1e-5

/* ||a - b|| / ||b|| */
static double apart(const float *a, const float *b, size_t n) {
    double off = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        off += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(off / size);
}

static void check_step(int step, msae_trainer *trainer, const float *x, int rows) {
    msae_step_stats stats = {0};
    const msae_data data = msae_data_view(x, (size_t)rows, D);
    CHECK_STATUS(MSAE_OK, msae_trainer_gradients(trainer, &data, NULL, (size_t)rows, &stats, NULL));
    const float loss = batch_loss(x, rows);
    CHECK(fabs((double)loss - stats.loss) <= LIMIT * stats.loss);
    CHECK(apart(gradient.encoder[0], trainer->grad.encoder, N * D) <= LIMIT);
    CHECK(apart(gradient.decoder[0], trainer->grad.decoder, N * D) <= LIMIT);
    CHECK(apart(gradient.pre_bias, trainer->grad.pre_bias, D) <= LIMIT);
    CHECK(apart(gradient.latent_bias, trainer->grad.latent_bias, N) <= LIMIT);
    CHECK_STATUS(MSAE_OK, msae_trainer_update(trainer, &stats, NULL));
    update(step, trainer->desc.lr);
}

static void five_steps(void) {
    size_t nesting[LEVELS];
    msae_train_desc desc;
    msae_trainer trainer;
    memset(&desc, 0, sizeof desc);
    for (int l = 0; l < LEVELS; l++) nesting[l] = (size_t)level_k[l];
    desc.model.n_inputs = D;
    desc.model.n_latents = N;
    desc.model.recipe = MSAE_RECIPE_MSAE_UW;
    desc.model.nesting = nesting;
    desc.model.n_levels = LEVELS;
    desc.lr = 1e-3f;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    memset(&moment1, 0, sizeof moment1);
    memset(&moment2, 0, sizeof moment2);
    test_randomize(&trainer.model, 3);
    memcpy(model.encoder, trainer.model.encoder, sizeof model.encoder);
    memcpy(model.decoder, trainer.model.decoder, sizeof model.decoder);
    memcpy(model.pre_bias, trainer.model.pre_bias, sizeof model.pre_bias);
    memcpy(model.latent_bias, trainer.model.latent_bias, sizeof model.latent_bias);
    for (int step = 1; step <= 5; step++) {
        float *x = test_random_floats((uint64_t)step, ROWS * D, 1);
        check_step(step, &trainer, x, step == 5 ? 7 : ROWS); /* a last batch is smaller */
        free(x);
    }
    CHECK(apart(model.encoder[0], trainer.model.encoder, N * D) <= LIMIT);
    CHECK(apart(model.decoder[0], trainer.model.decoder, N * D) <= LIMIT);
    CHECK(apart(model.pre_bias, trainer.model.pre_bias, D) <= LIMIT);
    CHECK(apart(model.latent_bias, trainer.model.latent_bias, N) <= LIMIT);
    msae_trainer_free(&trainer);
}

int main(void) {
    RUN(five_steps);
    return test_finish();
}
