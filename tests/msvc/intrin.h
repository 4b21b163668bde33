/* For compiling msae.h as clang-cl does, without Microsoft's headers. */
#ifndef MSVC_INTRIN_H
#define MSVC_INTRIN_H

#include <immintrin.h>
#ifdef __cplusplus
extern "C" {
#endif
void __cpuid(int r[4], int leaf);
void __cpuidex(int r[4], int leaf, int sub);
unsigned long long _xgetbv(unsigned number);
#ifdef __cplusplus
}
#endif

#endif
