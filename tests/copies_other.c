/* The other copy of the library in test_copies.c's program. */
#define MSAE_IMPLEMENTATION
#define MSAE_STATIC
#include "msae.h"

msae_status other_copy_init(msae_model *model, const msae_model_desc *desc);
msae_status other_copy_encode(const msae_model *model, void *workspace, const float *x, size_t room,
                              msae_code *codes, size_t *count);

msae_status other_copy_init(msae_model *model, const msae_model_desc *desc) {
    return msae_model_init(model, desc, NULL);
}

msae_status other_copy_encode(const msae_model *model, void *workspace, const float *x, size_t room,
                              msae_code *codes, size_t *count) {
    return msae_encode(model, workspace, x, room, codes, count);
}
