/* For compiling msae.h as clang-cl does, without Microsoft's headers. */
#ifndef MSVC_MALLOC_H
#define MSVC_MALLOC_H

#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
void *_aligned_malloc(size_t bytes, size_t alignment);
void _aligned_free(void *memory);
#ifdef __cplusplus
}
#endif

#endif
