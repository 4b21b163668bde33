/* The audits that lie beside the tool, taken in as their sources, and short ways to call them. For
   tests that include test.h before. */
#ifndef TEST_AUDITS_H
#define TEST_AUDITS_H

#include "../examples/tool/alignment.c"
#include "../examples/tool/attributes.c"
#include "../examples/tool/bytes.c"
#include "../examples/tool/linear_probe.c"

static inline void test_predict(const linear_probe *probe, const float *x, size_t rows, float *p) {
    void *workspace = test_alloc(linear_probe_workspace_bytes(probe, rows));
    CHECK_STATUS(MSAE_OK, linear_probe_predict(probe, workspace, x, rows, p, NULL));
    free(workspace);
}

static inline attribute_audit test_audit(const msae_model *model, const msae_data *data,
                                         const uint8_t *attribute, size_t k) {
    attribute_audit audit;
    memset(&audit, 0, sizeof audit);
    audit.model = model;
    audit.data = data;
    audit.attribute = attribute;
    audit.k = k;
    return audit;
}

static inline msae_status test_correlate(const msae_model *model, const msae_data *data,
                                         const uint8_t *attribute, size_t k, double confidence,
                                         attribute_correlation *results, msae_error *error) {
    const attribute_audit audit = test_audit(model, data, attribute, k);
    return attributes_correlate(&audit, confidence, results, error);
}

/* An audit with a probe. */
static inline attribute_audit test_audit_by(const linear_probe *probe, size_t class_index,
                                            const msae_model *model, const msae_data *data,
                                            const uint8_t *attribute, size_t k) {
    attribute_audit audit = test_audit(model, data, attribute, k);
    audit.probe = probe;
    audit.class_index = class_index;
    return audit;
}

static inline msae_status test_sweep(attribute_audit audit, uint32_t latent, const float *values,
                                     size_t steps, attribute_point *points, msae_error *error) {
    return attributes_sweep(&audit, latent, values, steps, points, error);
}

static inline msae_status test_ablate(attribute_audit audit, const uint32_t *latents,
                                      size_t n_latents, attribute_ablation *results,
                                      msae_error *error) {
    return attributes_ablate(&audit, latents, n_latents, results, error);
}

/* Matches two matrices on `host` (NULL: by default). */
static inline msae_status test_align(const float *a, size_t rows_a, const float *b, size_t rows_b,
                                     size_t d, const msae_host *host, size_t *columns,
                                     alignment_result *result) {
    alignment_sides sides;
    memset(&sides, 0, sizeof sides);
    sides.a = a;
    sides.rows_a = rows_a;
    sides.b = b;
    sides.rows_b = rows_b;
    sides.d = d;
    if (host) sides.host = *host;
    return align_rows(&sides, columns, NULL, result, NULL);
}

#endif
