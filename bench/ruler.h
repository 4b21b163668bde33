/* What a core can do at most, as loops over vectors: multiply-adds from registers, multiply-adds with
   a load for each, reads, and the clock. tests/ruler.sh looks into the object code for as many
   instructions as are counted here: a compiler that proves two chains equal keeps one of them, and
   the ruler says more than the processor can do. Needs gcc or clang. */
#ifndef RULER_H
#define RULER_H

#include <stddef.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* The loops of an instruction path. A chain adds to one register; there are enough of them to hide
   the latency of a multiply-add (of the scalar path: of a product and a sum), and registers for
   all. */
typedef struct ruler {
    const char *path; /* its name in msae.h */
    size_t lanes, chains, streams;
    /* lanes * chains * turns multiply-adds; start: RULER_START floats */
    float (*peak)(const float *start, size_t turns);
    /* Multiply-adds on x [count], each vector loaded once; count: whole turns of lanes * streams */
    float (*loads)(const float *start, const float *x, size_t count);
    /* Sums of x [count], likewise */
    float (*read)(const float *start, const float *x, size_t count);
} ruler;

enum { RULER_START = 26 * 16 };

#define RULER_EACH(k, n) _Pragma("GCC unroll 32") for (size_t k = 0; k < (n); k++)

/* RULER_KEEP: the compiler knows nothing of the vector any more. `start` comes from the caller for
   the same reason. */
#define RULER_LOOPS(path, target, type, lanes, chains, streams, load, fma, add)                  \
    static target float ruler_##path##_peak(const float *start, size_t turns) {                  \
        const type a = load(start), b = load(start + (lanes));                                   \
        type c[chains];                                                                          \
        RULER_EACH(k, chains) c[k] = load(start + (k + 2) * (lanes));                            \
        for (size_t i = 0; i < turns; i++) {                                                     \
            RULER_EACH(k, chains) {                                                              \
                c[k] = fma(c[k], b, a);                                                          \
                RULER_KEEP_##path(c[k]);                                                         \
            }                                                                                    \
        }                                                                                        \
        RULER_EACH(k, (chains)-1) c[0] = add(c[0], c[k + 1]);                                    \
        return *(const float *)(const void *)&c[0];                                              \
    }                                                                                            \
    static target float ruler_##path##_loads(const float *start, const float *x, size_t count) { \
        const type b = load(start);                                                              \
        type c[streams];                                                                         \
        RULER_EACH(k, streams) c[k] = load(start + (k + 2) * (lanes));                           \
        for (const float *end = x + count; x < end; x += (streams) * (lanes)) {                  \
            RULER_EACH(k, streams) {                                                             \
                c[k] = fma(load(x + k * (lanes)), b, c[k]);                                      \
                RULER_KEEP_##path(c[k]);                                                         \
            }                                                                                    \
        }                                                                                        \
        RULER_EACH(k, (streams)-1) c[0] = add(c[0], c[k + 1]);                                   \
        return *(const float *)(const void *)&c[0];                                              \
    }                                                                                            \
    static target float ruler_##path##_read(const float *start, const float *x, size_t count) {  \
        type c[streams];                                                                         \
        RULER_EACH(k, streams) c[k] = load(start + (k + 2) * (lanes));                           \
        for (const float *end = x + count; x < end; x += (streams) * (lanes)) {                  \
            RULER_EACH(k, streams) {                                                             \
                c[k] = add(c[k], load(x + k * (lanes)));                                         \
                RULER_KEEP_##path(c[k]);                                                         \
            }                                                                                    \
        }                                                                                        \
        RULER_EACH(k, (streams)-1) c[0] = add(c[0], c[k + 1]);                                   \
        return *(const float *)(const void *)&c[0];                                              \
    }

#if defined(__x86_64__) || defined(__i386__)
#define RULER_KEEP_scalar(v) __asm__ volatile("" : "+x"(v))
#define RULER_KEEP_avx2(v) __asm__ volatile("" : "+x"(v))
#define RULER_KEEP_avx512(v) __asm__ volatile("" : "+v"(v))
#elif defined(__aarch64__)
#define RULER_KEEP_scalar(v) __asm__ volatile("" : "+w"(v))
#define RULER_KEEP_neon(v) __asm__ volatile("" : "+w"(v))
#else
#define RULER_KEEP_scalar(v) __asm__ volatile("" : "+m"(v))
#endif

#define RULER_LOAD_SCALAR(p) (*(p))
#define RULER_FMA_SCALAR(x, y, z) ((x) * (y) + (z))
#define RULER_ADD_SCALAR(x, y) ((x) + (y))
RULER_LOOPS(scalar, , float, 1, 14, 7, RULER_LOAD_SCALAR, RULER_FMA_SCALAR, RULER_ADD_SCALAR)
#if defined(__x86_64__) || defined(__i386__)
RULER_LOOPS(avx2, __attribute__((target("avx2,fma"))), __m256, 8, 12, 12, _mm256_loadu_ps,
            _mm256_fmadd_ps, _mm256_add_ps)
RULER_LOOPS(avx512, __attribute__((target("avx512f"))), __m512, 16, 12, 12, _mm512_loadu_ps,
            _mm512_fmadd_ps, _mm512_add_ps)
#elif defined(__aarch64__)
#define RULER_FMA_NEON(x, y, z) vfmaq_f32(z, x, y)
RULER_LOOPS(neon, , float32x4_t, 4, 24, 24, vld1q_f32, RULER_FMA_NEON, vaddq_f32)
#endif

#define RULER_ROW(path, lanes, chains, streams)                                   \
    {                                                                             \
#path, lanes, chains, streams, ruler_##path##_peak, ruler_##path##_loads, \
            ruler_##path##_read                                                   \
    }
static const ruler rulers[] = {
    RULER_ROW(scalar, 1, 14, 7),
#if defined(__x86_64__) || defined(__i386__)
    RULER_ROW(avx2, 8, 12, 12),
    RULER_ROW(avx512, 16, 12, 12),
#elif defined(__aarch64__)
    RULER_ROW(neon, 4, 24, 24),
#endif
};

/* The ruler of a path; the scalar one where the path has none. */
static __attribute__((unused)) const ruler *ruler_for(const char *path) {
    for (size_t i = 0; i < sizeof rulers / sizeof *rulers; i++) {
        if (strcmp(rulers[i].path, path) == 0) return &rulers[i];
    }
    return &rulers[0];
}

/* 16 additions a turn, each of which waits for the one before: as many cycles. Returns the turns, or
   0 where the loop is not known. */
static __attribute__((unused)) size_t ruler_clock(size_t turns) {
#if defined(__x86_64__) || defined(__aarch64__)
    size_t sum = turns;
    const size_t one = turns & 1;
    for (size_t i = 0; i < turns; i++) {
        RULER_EACH(k, 16) {
#ifdef __aarch64__
            __asm__ volatile("add %0, %0, %1" : "+r"(sum) : "r"(one));
#else
            __asm__ volatile("add %1, %0" : "+r"(sum) : "r"(one));
#endif
        }
    }
    return turns;
#else
    return 0;
#endif
}

#endif
