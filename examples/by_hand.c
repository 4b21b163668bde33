/* A Matryoshka sparse autoencoder by hand: the forward pass, loss, gradients and update of msae.h in
   plain loops, one number at a time, for reading. It is slow, and the same: tests/test_by_hand.c holds
   it to the library. As a program it trains on rows that are sums of a few hidden directions. */
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { D = 16, N = 48, ROWS = 64, LEVELS = 3 }; /* inputs, latents, rows of a batch, levels */
static const int level_k[LEVELS] = {2, 6, N};   /* latents that each level keeps */

typedef struct parameters {
    float encoder[N][D], decoder[N][D]; /* a row for each latent */
    float pre_bias[D], latent_bias[N];
} parameters;
enum { NUMBERS = sizeof(parameters) / sizeof(float) };

static parameters model, gradient, moment1, moment2;

static float dot(const float *a, const float *b) {
    float sum = 0;
    for (int i = 0; i < D; i++) sum += a[i] * b[i];
    return sum;
}

/* How many latents of a row come before latent j: larger ones, and of equal ones the lower. */
static int rank_of(const float *pre, int j) {
    int before = 0;
    for (int i = 0; i < N; i++) before += pre[i] > pre[j] || (pre[i] == pre[j] && i < j);
    return before;
}

/* One row: adds its part of the gradients, returns its loss, the mean over the levels of
   ||r - x||^2 / ||x||^2. */
static float row_loss(const float *x, int rows) {
    float input[D], z[N], r[LEVELS][D], g[LEVELS][D], pre[N], loss = 0;
    int rank[N];
    /* pre = (x - pre_bias) encoder^T + latent_bias, z = ReLU(pre) */
    for (int i = 0; i < D; i++) input[i] = x[i] - model.pre_bias[i];
    for (int j = 0; j < N; j++) {
        pre[j] = dot(input, model.encoder[j]) + model.latent_bias[j];
        z[j] = pre[j] > 0 ? pre[j] : 0;
    }
    for (int j = 0; j < N; j++) rank[j] = rank_of(pre, j);
    /* r_l = pre_bias + sum of z_j decoder_j over the level_k[l] strongest latents */
    for (int l = 0; l < LEVELS; l++) {
        float error = 0;
        memcpy(r[l], model.pre_bias, sizeof r[l]);
        for (int j = 0; j < N; j++) {
            if (rank[j] >= level_k[l]) continue;
            for (int i = 0; i < D; i++) r[l][i] += z[j] * model.decoder[j][i];
        }
        for (int i = 0; i < D; i++) error += (r[l][i] - x[i]) * (r[l][i] - x[i]);
        loss += error / dot(x, x) / LEVELS;
    }
    /* g_l = sum over levels m >= l of dloss / dr_m: a latent of level l is in all later ones */
    for (int l = LEVELS - 1; l >= 0; l--) {
        for (int i = 0; i < D; i++) {
            g[l][i] = 2 * (r[l][i] - x[i]) / dot(x, x) / LEVELS / (float)rows;
            if (l + 1 < LEVELS) g[l][i] += g[l + 1][i];
        }
    }
    for (int i = 0; i < D; i++) gradient.pre_bias[i] += g[0][i];
    for (int j = 0; j < N; j++) {
        int level = 0; /* at which the latent enters */
        while (rank[j] >= level_k[level]) level++;
        if (z[j] == 0) continue; /* ReLU lets nothing through */
        float dpre = dot(model.decoder[j], g[level]);
        gradient.latent_bias[j] += dpre;
        for (int i = 0; i < D; i++) {
            gradient.decoder[j][i] += z[j] * g[level][i];
            gradient.encoder[j][i] += dpre * input[i];
            gradient.pre_bias[i] -= dpre * model.encoder[j][i];
        }
    }
    return loss;
}

static float batch_loss(const float *x, int rows) {
    float loss = 0;
    memset(&gradient, 0, sizeof gradient);
    for (int b = 0; b < rows; b++) loss += row_loss(x + b * D, rows);
    return loss / (float)rows;
}

/* The published update: decoder rows to unit length, the gradient along them taken out, all gradients
   together clipped to a norm of 1, Adam. `step` counts from 1. */
static void update(int step, float lr) {
    const float beta1 = 0.9f, beta2 = 0.999f, eps = 6.25e-10f;
    float *p = (float *)&model, *g = (float *)&gradient;
    float *m = (float *)&moment1, *v = (float *)&moment2, norm = 0;
    for (int j = 0; j < N; j++) {
        float length = sqrtf(dot(model.decoder[j], model.decoder[j])) + 1.1920929e-7f, along;
        for (int i = 0; i < D; i++) {
            model.decoder[j][i] /= length;
            model.encoder[j][i] *= length;
        }
        model.latent_bias[j] *= length;
        along = dot(gradient.decoder[j], model.decoder[j]);
        for (int i = 0; i < D; i++) gradient.decoder[j][i] -= along * model.decoder[j][i];
    }
    for (int i = 0; i < NUMBERS; i++) norm += g[i] * g[i];
    norm = sqrtf(norm);
    for (int i = 0; i < NUMBERS; i++) {
        const float clipped = g[i] * (norm > 1 ? 1 / (norm + 1e-6f) : 1);
        m[i] = beta1 * m[i] + (1 - beta1) * clipped;
        v[i] = beta2 * v[i] + (1 - beta2) * clipped * clipped;
        p[i] -= lr * m[i] / (1 - powf(beta1, (float)step)) /
                (sqrtf(v[i] / (1 - powf(beta2, (float)step))) + eps);
    }
}

#ifndef BY_HAND_ONLY_FUNCTIONS
static unsigned state = 1;
static float uniform(void) { /* in -1 .. 1 */
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

int main(void) {
    static float truth[N / 2][D], x[ROWS][D];
    for (int j = 0; j < N / 2; j++) {
        for (int i = 0; i < D; i++) truth[j][i] = uniform();
    }
    for (int j = 0; j < N; j++) { /* random decoder rows, the encoder the same */
        for (int i = 0; i < D; i++) model.encoder[j][i] = model.decoder[j][i] = 0.05f * uniform();
    }
    for (int step = 1; step <= 2000; step++) {
        memset(x, 0, sizeof x);
        for (int b = 0; b < ROWS; b++) {
            for (int c = 0; c < 3; c++) { /* three hidden concepts a row */
                const int j = (int)((uniform() + 1) * N / 4);
                const float amount = 1.5f + uniform();
                for (int i = 0; i < D; i++) x[b][i] += amount * truth[j][i];
            }
        }
        const float loss = batch_loss(x[0], ROWS);
        update(step, 3e-3f);
        if (step % 400 == 0) printf("step %4d  loss %.4f\n", step, (double)loss);
    }
    return 0;
}
#endif
