/* The copy for inference alone in test_inference.c's program. */
#define MSAE_IMPLEMENTATION
#define MSAE_STATIC
#define MSAE_RUN_ONLY
#define MSAE_NO_STDIO
#include "msae.h"

#include "inference.h"

const pocket_copy pocket = {
    msae_map,
    msae_load,
    msae_model_free,
    msae__simd_available,
    msae_workspace_bytes,
    msae_encode,
    msae_encode_level,
    msae_encode_begin,
    msae_encode_some,
    msae_encode_end,
    msae_row_moments,
    msae_decode,
    msae_forward,
    msae__sqrt,
    msae__expf,
    msae__tanhf,
};
