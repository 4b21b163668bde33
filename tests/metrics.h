/* Metrics and CKNNA of given arrays, by the functions that an evaluation is made of. */
#ifndef METRICS_H
#define METRICS_H

#include "test.h"

/* The metrics of x, recon [rows, d] and latents [rows, n] (k and cknna apart). */
static inline msae_metrics test_measure(const float *x, const float *recon, const float *latents,
                                        size_t rows, size_t d, size_t n) {
    msae__sweep_line line;
    msae__spread spread;
    msae_metrics result;
    uint8_t *fired = (uint8_t *)test_alloc(n);
    memset(&line, 0, sizeof line);
    memset(&spread, 0, sizeof spread);
    memset(&result, 0, sizeof result);
    memset(fired, 0, n);
    spread.mean = (double *)test_alloc(d * sizeof(double));
    memset(spread.mean, 0, d * sizeof(double));
    for (size_t r = 0; r < rows; r++) {
        size_t l0 = 0;
        for (size_t j = 0; j < n; j++) {
            l0 += latents[r * n + j] != 0;
            fired[j] |= latents[r * n + j] != 0;
        }
        const msae__row_metrics m = msae__measure_row(x + r * d, recon + r * d, d, l0);
        msae__sweep_add(&line, &m);
        msae__spread_add(&spread, x + r * d, d);
    }
    msae__sweep_finish(&line, n, spread.total, &result);
    for (size_t j = 0; j < n; j++) result.ndn += !fired[j];
    free(spread.mean);
    free(fired);
    return result;
}

/* CKNNA of a [rows, d] and b [rows, n] in one batch; NaN for fewer than 12 rows. */
static inline double test_cknna(const msae_model *model, const float *a, size_t d, const float *b,
                                size_t n, size_t rows) {
    msae__cknna_memory memory;
    msae__arena arena = msae__arena_over(NULL);
    if (rows < MSAE__CKNNA_LEAST) return msae__nan();
    msae__cknna_layout(model, rows, msae__max(d, n), &arena, &memory);
    void *block = test_alloc(arena.used + MSAE__ALIGN);
    arena = msae__arena_over(block);
    msae__cknna_layout(model, rows, msae__max(d, n), &arena, &memory);
    msae__find_neighbours(model, a, d, rows, d, NULL, &memory.similarity, &memory.k);
    msae__find_neighbours(model, b, n, rows, n, NULL, &memory.similarity, &memory.p);
    const double cknna = msae__cknna_value(&memory, rows);
    free(block);
    return cknna;
}

#endif
