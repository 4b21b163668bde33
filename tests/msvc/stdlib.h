/* For compiling msae.h as clang-cl does, without Microsoft's headers. */
#ifndef MSVC_STDLIB_H
#define MSVC_STDLIB_H

#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
void *malloc(size_t bytes);
void free(void *memory);
void abort(void);
#ifdef __cplusplus
}
#endif

#endif
