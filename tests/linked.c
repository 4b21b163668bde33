/* The library for the tests that look at none of its internals (TEST_LINKED in test.h). */
#define _POSIX_C_SOURCE 200809L

#define MSAE_IMPLEMENTATION
#define MSAE_USE_PTHREADS
#include "msae.h"

#include <string.h>

msae_simd test_next_path(msae_simd simd);
msae_status test_median(const msae_source *source, const float *mean, float scale, int skip_bad,
                        const msae_collective *collective, const msae_allocator *allocator,
                        float *median, msae_error *error);
#define TEST_INSIDE
#include "inside.h"
