/* What tests/inference_pocket.c, a copy of the library for inference alone, offers to
   test_inference.c. Models are the same to both but for the kernels that they name. */
#ifndef INFERENCE_H
#define INFERENCE_H

typedef struct pocket_copy {
    msae_status (*map)(msae_model *model, const void *bytes, size_t size,
                       const msae_load_desc *desc, msae_error *error);
    msae_status (*load)(msae_model *model, msae_reader reader, const msae_load_desc *desc,
                        msae_error *error);
    void (*release)(msae_model *model);
    int (*available)(msae_simd simd);
    size_t (*workspace)(const msae_model *model, size_t rows);
    msae_status (*encode)(const msae_model *model, void *workspace, const float *x, size_t room,
                          msae_code *codes, size_t *count);
    msae_status (*level)(const msae_model *model, void *workspace, const float *x, size_t level,
                         size_t room, msae_code *codes, size_t *count);
    void (*begin)(msae_slices *slices, const msae_model *model, void *workspace, const float *x);
    size_t (*some)(msae_slices *slices, size_t latents);
    msae_status (*end)(msae_slices *slices, size_t room, msae_code *codes, size_t *count);
    void (*moments)(const msae_model *model, const float *x, float moments[2]);
    void (*decode)(const msae_model *model, const msae_code *codes, size_t count,
                   const float *moments, float *out);
    msae_status (*forward)(const msae_model *model, void *workspace, const float *x, size_t rows,
                           const size_t *ks, size_t n_ks, float *recon, msae_error *error);
    double (*root)(double value);
    float (*exp)(float value);
    float (*tanh)(float value);
} pocket_copy;

extern const pocket_copy pocket;

#endif
