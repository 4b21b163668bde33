/* Every path's kernels against plain loops in double: every tail, odd strides, unaligned pointers.
   What they write has canaries around it; what they read ends with its block, so that a sanitizer
   sees a step beyond. */
#include "test.h"

#include <float.h>

#ifndef FLT_EVAL_METHOD /* tcc does not say it */
#define FLT_EVAL_METHOD 0
#endif

enum { TAIL = 70 };

/* ---------------------------------------------------------------------------------------------
   Buffers and comparisons
   ------------------------------------------------------------------------------------------ */

/* `count` random floats, `offset` floats off a cache line, with canaries around them. */
static test_fence random_output(uint64_t seed, size_t count, size_t offset) {
    test_fence fence = test_fence_open(count * sizeof(float), offset * sizeof(float));
    test_fill(&seed, (float *)fence.memory, count, 1);
    return fence;
}

static float *floats_of(const test_fence *fence) {
    return (float *)fence->memory;
}

/* A sum in double, and the sum of its terms' magnitudes, by which float's error is measured. */
typedef struct exact {
    double sum, magnitude;
} exact;

static void add(exact *e, double term) {
    e->sum += term;
    e->magnitude += fabs(term);
}

static int is_near(float got, exact want) {
    return fabs((double)got - want.sum) <= 1e-6 * want.magnitude + 1e-30;
}

static exact dot_of(const float *a, const float *b, size_t n, double start) {
    exact e = {start, fabs(start)};
    for (size_t i = 0; i < n; i++) add(&e, (double)a[i] * (double)b[i]);
    return e;
}

static float *copy_of(const float *values, size_t count) {
    float *copy = test_floats(count);
    memcpy(copy, values, count * sizeof *values);
    return copy;
}

static void note_path(const msae_kernels *kernels, size_t a, size_t b, size_t c) {
    test_note("%s: %zu, %zu, %zu", msae_enum_name(MSAE_ENUM_SIMD, (int)kernels->simd), a, b, c);
}

/* ---------------------------------------------------------------------------------------------
   Vectors
   ------------------------------------------------------------------------------------------ */

static void dots(void) {
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        for (size_t n = 0; n <= TAIL; n++) {
            for (size_t offset = 0; offset < 9; offset++) {
                float *a = test_random_floats(n, offset + n, 1), *from_a = a + offset;
                float *b = test_random_floats(n + 99, 8 - offset + n, 1), *from_b = b + 8 - offset;
                note_path(kernels, n, offset, 0);
                CHECK(is_near(kernels->dot(from_a, from_b, n), dot_of(from_a, from_b, n, 0)));
                free(a);
                free(b);
            }
        }
    }
}

static void differences(void) {
    /* Where the compiler computes in more than float (x87, s390x), it rounds where it likes. */
    const double last_bit = FLT_EVAL_METHOD == 0 ? 0 : (double)FLT_EPSILON;
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        for (size_t n = 0; n <= TAIL; n++) {
            float *x = test_random_floats(n, n + 1, 1), *mean = test_random_floats(n + 9, n, 1);
            test_fence out = random_output(n + 99, n, n % 9);
            size_t wrong = 0;
            kernels->center(floats_of(&out), x + 1, mean, 1.7f, n);
            for (size_t i = 0; i < n; i++) {
                const double want = (double)((x[i + 1] - mean[i]) * 1.7f);
                wrong += fabs((double)floats_of(&out)[i] - want) > fabs(want) * last_bit;
            }
            kernels->center(x + 1, x + 1, mean, 1.7f, n); /* in place */
            note_path(kernels, n, 0, 0);
            CHECK(wrong == 0 && test_same(x + 1, floats_of(&out), n));
            free(x);
            free(mean);
            test_fence_close(&out);
        }
    }
}

/* Every half there is, against its definition; every tail. */
static void halves(void) {
    enum { ALL = 65536 };
    unsigned char *half = (unsigned char *)test_alloc(2 * ALL);
    for (size_t i = 0; i < ALL; i++) {
        half[2 * i] = (unsigned char)(i & 255);
        half[2 * i + 1] = (unsigned char)(i >> 8);
    }
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        float *out = test_floats(ALL);
        size_t wrong = 0;
        msae__full(kernels)->from_half(out, half, ALL);
        for (size_t i = 0; i < ALL; i++) {
            const int exponent = (int)(i >> 10 & 31), fraction = (int)(i & 1023);
            const double size =
                exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
            const int negative = i >> 15 != 0;
            const int as_signed = test_is_negative(out[i]) == negative;
            if (exponent < 31) {
                wrong += (double)out[i] != (negative ? -size : size) || !as_signed;
            } else if (fraction) {
                wrong += !test_is_nan((double)out[i]);
            } else {
                wrong += test_magnitude((double)out[i]) != TEST_INFINITY || !as_signed;
            }
        }
        note_path(kernels, ALL, 0, 0);
        CHECK(wrong == 0);
        for (size_t n = 0; n <= TAIL; n++) {
            test_fence few = random_output(n, n, n % 9);
            msae__full(kernels)->from_half(floats_of(&few), half + 2 * 15000 + 2 * n, n);
            note_path(kernels, n, 0, 0);
            CHECK(test_same(floats_of(&few), out + 15000 + n, n));
            test_fence_close(&few);
        }
        free(out);
    }
    free(half);
}

static void axpys(void) {
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        for (size_t n = 0; n <= TAIL; n++) {
            for (size_t offset = 0; offset < 9; offset++) {
                float *x = test_random_floats(n, offset + n, 1), factor = 0.7f;
                test_fence y = random_output(n + 99, n, 8 - offset);
                float *before = copy_of(floats_of(&y), n);
                kernels->axpy(floats_of(&y), factor, x + offset, n);
                note_path(kernels, n, offset, 0);
                for (size_t i = 0; i < n; i++) {
                    CHECK(is_near(floats_of(&y)[i],
                                  dot_of(&factor, x + offset + i, 1, (double)before[i])));
                }
                free(x);
                free(before);
                test_fence_close(&y);
            }
        }
    }
}

/* ---------------------------------------------------------------------------------------------
   Matrix products
   ------------------------------------------------------------------------------------------ */

static void check_tile(const msae_kernels *kernels, size_t rows, size_t cols, size_t k, size_t ldc,
                       int accumulate) {
    size_t mr = msae__full(kernels)->mr, nr = msae__full(kernels)->nr,
           count = (rows - 1) * ldc + cols;
    float *a = test_random_floats(k, k * mr, 1), *b = test_random_floats(k + 7, k * nr, 1);
    test_fence c = random_output(k + 9, count, 3);
    float *before = copy_of(floats_of(&c), count), *row = test_floats(k), *col = test_floats(k);
    msae__full(kernels)->gemm(a, b, k, floats_of(&c), ldc, rows, cols, accumulate);
    for (size_t at = 0; at < count; at++) {
        size_t i = at / ldc, j = at % ldc;
        if (j >= cols) { /* between the rows */
            CHECK(test_same(&floats_of(&c)[at], &before[at], 1));
            continue;
        }
        for (size_t s = 0; s < k; s++) {
            row[s] = a[s * mr + i];
            col[s] = b[s * nr + j];
        }
        CHECK(is_near(floats_of(&c)[at], dot_of(row, col, k, accumulate ? (double)before[at] : 0)));
    }
    free(a);
    free(b);
    free(before);
    free(row);
    free(col);
    test_fence_close(&c);
}

static void register_tiles(void) {
    static const size_t depths[] = {1, 2, 3, 8, 31, 256};
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        for (size_t rows = 1; rows <= msae__full(kernels)->mr; rows++) {
            for (size_t cols = 1; cols <= msae__full(kernels)->nr; cols++) {
                for (size_t i = 0; i < COUNT(depths); i++) {
                    note_path(kernels, rows, cols, depths[i]);
                    check_tile(kernels, rows, cols, depths[i], cols, i & 1);
                    check_tile(kernels, rows, cols, depths[i], msae__full(kernels)->nr + 5,
                               !(i & 1));
                }
            }
        }
    }
}

/* C = A B^T + bias of any shape, with rows of A and B further apart than they are long. */
static void check_matmul(msae_simd simd, size_t rows, size_t cols, size_t depth) {
    const msae_kernels *kernels = msae__kernels_for(simd);
    const msae_parallel alone = {NULL, NULL, 0};
    msae__matmul p;
    memset(&p, 0, sizeof p);
    p.kernels = kernels;
    p.rows = rows;
    p.cols = cols;
    p.depth = depth;
    p.a_stride = depth + 3;
    p.b_stride = depth + 1;
    p.ldc = cols + 2;
    p.c_block = MSAE__LATENT_BLOCK;
    size_t count = (rows - 1) * p.ldc + cols;
    float *a = test_random_floats(1, (rows - 1) * p.a_stride + depth, 1);
    float *b = test_random_floats(2, (cols - 1) * p.b_stride + depth, 1);
    float *bias = test_random_floats(3, cols, 1);
    test_fence c = random_output(4, count, 4);
    test_fence packed = random_output(5, msae__packed_floats(kernels, rows, depth), 0);
    test_fence panels = random_output(6, msae__panel_floats(kernels, depth), 0);
    p.a = a;
    p.b = b;
    p.bias = bias;
    p.c = floats_of(&c);
    p.packed = floats_of(&packed);
    p.panels = floats_of(&panels);
    p.probe = test_floats(cols / MSAE__LATENT_BLOCK + 1);
    float *before = copy_of(p.c, count);
    msae__run_matmul(&p, &alone);
    for (size_t first = 0; first < cols; first += MSAE__LATENT_BLOCK) {
        CHECK(p.probe[first / MSAE__LATENT_BLOCK] == 0);
    }
    free(p.probe);
    note_path(kernels, rows, cols, depth);
    for (size_t at = 0; at < count; at++) {
        size_t i = at / p.ldc, j = at % p.ldc;
        if (j < cols) {
            CHECK(is_near(p.c[at],
                          dot_of(a + i * p.a_stride, b + j * p.b_stride, depth, (double)bias[j])));
        } else {
            CHECK(test_same(&p.c[at], &before[at], 1));
        }
    }
    free(a);
    free(b);
    free(bias);
    free(before);
    test_fence_close(&c);
    test_fence_close(&packed);
    test_fence_close(&panels);
}

/* Every size of a tile of dots, strides longer than the rows. */
static void check_dots(const msae_kernels *kernels, size_t rows, size_t cols, size_t depth) {
    size_t a_stride = depth + 3, b_stride = depth + 1, ldc = cols + 2;
    float *a = test_random_floats(depth, (rows - 1) * a_stride + depth, 1);
    float *b = test_random_floats(depth + 1, (cols - 1) * b_stride + depth, 1);
    test_fence c = random_output(depth + 2, (rows - 1) * ldc + cols, 3);
    float *before = copy_of(floats_of(&c), (rows - 1) * ldc + cols);
    msae__few few = {floats_of(&c),        ldc,  a,    a_stride, rows, NULL,
                     b_stride * sizeof *b, cols, depth};
    few.w = (const unsigned char *)b;
    kernels->dots(&few);
    note_path(kernels, rows, cols, depth);
    for (size_t at = 0; at < (rows - 1) * ldc + cols; at++) {
        size_t i = at / ldc, j = at % ldc;
        if (j < cols)
            CHECK(is_near(floats_of(&c)[at], dot_of(a + i * a_stride, b + j * b_stride, depth, 0)));
        else
            CHECK(test_same(&floats_of(&c)[at], &before[at], 1));
    }
    free(a);
    free(b);
    free(before);
    test_fence_close(&c);
}

static void tiles_of_dots(void) {
    FOR_EACH_PATH(simd) {
        for (size_t rows = 1; rows <= 13; rows++) {
            for (size_t cols = 1; cols <= 9; cols++) {
                for (size_t depth = 1; depth <= TAIL; depth += rows == 7 ? 1 : 9) {
                    check_dots(msae__kernels_for(simd), rows, cols, depth);
                }
            }
        }
    }
}

/* Packing of every width, fewer rows than that, any depth. */
static void packing(void) {
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        for (size_t width = 1; width <= 34; width++) {
            for (size_t rows = 1; rows <= width; rows += 1 + (width > 9) * rows / 2) {
                for (size_t depth = 1; depth <= 20; depth++) {
                    const size_t stride = depth + rows % 3;
                    float *x = test_random_floats(depth, (rows - 1) * stride + depth, 1);
                    test_fence out = random_output(width, width * depth, 5);
                    size_t wrong = 0;
                    msae__full(kernels)->pack(floats_of(&out), width, x, stride, rows, depth);
                    for (size_t i = 0; i < width; i++) {
                        for (size_t s = 0; s < depth; s++) {
                            const float want = i < rows ? x[i * stride + s] : 0;
                            wrong += floats_of(&out)[s * width + i] != want;
                        }
                    }
                    note_path(kernels, width, rows, depth);
                    CHECK(wrong == 0);
                    free(x);
                    test_fence_close(&out);
                }
            }
        }
    }
}

static void matrix_products(void) {
    static const size_t depths[] = {1, 7, 16, 255, 256, 257, 600};
    FOR_EACH_PATH(simd) {
        for (size_t rows = 1; rows <= 20; rows++) {
            for (size_t cols = 1; cols <= TAIL; cols += 3) check_matmul(simd, rows, cols, 19);
        }
        for (size_t depth = 1; depth <= TAIL; depth++) check_matmul(simd, 7, 17, depth);
        for (size_t i = 0; i < COUNT(depths); i++) {
            check_matmul(simd, 65, 130, depths[i]);
            check_matmul(simd, 125, 70, depths[i]); /* more than one block of rows of C */
        }
        check_matmul(simd, 113, 33, MSAE__KC * MSAE__KC_PANELS + 9); /* .. and of panels */
    }
}

/* The public product: with gaps between rows and without, in a workspace of just its size that lies
   anywhere, for one worker and for several. */
static void check_product(const msae_host *host, size_t rows, size_t cols, size_t depth,
                          size_t gap) {
    const size_t a_stride = depth + gap, b_stride = depth + 2 * gap, c_stride = cols + gap;
    const size_t count = (rows - 1) * c_stride + cols;
    float *a = test_random_floats(1, (rows - 1) * a_stride + depth, 1);
    float *b = test_random_floats(2, (cols - 1) * b_stride + depth, 1);
    test_fence c = random_output(4, count, 1);
    float *before = copy_of(floats_of(&c), count);
    msae_product p = {a, b, floats_of(&c), rows, cols, depth, 0, 0, 0};
    msae_product sizes = {NULL, NULL, NULL, rows, cols, depth, 0, 0, 0};
    size_t bytes = 0, less;
    msae_error error;
    if (gap > 0) {
        p.a_stride = sizes.a_stride = a_stride;
        p.b_stride = sizes.b_stride = b_stride;
        p.c_stride = sizes.c_stride = c_stride;
    }
    CHECK_STATUS(MSAE_OK, msae_multiply(&sizes, host, NULL, &bytes, NULL));
    test_fence workspace = test_fence_open(bytes, 3);
    less = bytes - 1;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_multiply(&p, host, workspace.memory, &less, &error));
    CHECK(strstr(error.message, "too small") && test_same(p.c, before, count));
    CHECK_STATUS(MSAE_OK, msae_multiply(&p, host, workspace.memory, &bytes, NULL));
    for (size_t at = 0; at < count; at++) {
        const size_t i = at / c_stride, j = at % c_stride;
        if (j < cols) {
            CHECK(is_near(p.c[at], dot_of(a + i * a_stride, b + j * b_stride, depth, 0)));
        } else {
            CHECK(test_same(&p.c[at], &before[at], 1));
        }
    }
    free(a);
    free(b);
    free(before);
    test_fence_close(&workspace);
    test_fence_close(&c);
}

/* Two workers that take turns. */
static void run_in_turns(void *user, size_t tasks, msae_task task, void *context) {
    (void)user;
    for (size_t i = 0; i < tasks; i++) task(context, i, i % 2);
}

static void public_products(void) {
    FOR_EACH_PATH(simd) {
        msae_host host;
        memset(&host, 0, sizeof host);
        host.simd = simd;
        for (size_t gap = 0; gap < 4; gap += 3) {
            check_product(&host, 1, 1, 1, gap);
            check_product(&host, 9, 40, 33, gap);
            check_product(&host, 130, 150, 300, gap);
            host.parallel.parallel_for = run_in_turns;
            host.parallel.workers = 2;
        }
    }
    check_product(NULL, 30, 20, 10, 0);
}

static void products_that_cannot_be(void) {
    static const float x[4] = {1, 2, 3, 4};
    float c[4] = {7, 7, 7, 7};
    const msae_product good = {x, x, c, 2, 2, 2, 0, 0, 0};
    msae_host host;
    msae_error error;
    size_t bytes = 7;
    memset(&host, 0, sizeof host);
    for (int i = 0; i < 7; i++) {
        msae_product p = good;
        const int is_stride = i >= 3 && i < 6;
        size_t *const fields[] = {&p.rows,     &p.cols,     &p.depth, &p.a_stride,
                                  &p.b_stride, &p.c_stride, &p.rows};
        *fields[i] = is_stride ? 1 : i == 6 ? (size_t)1 << 31 : 0;
        test_note("field %d", i);
        CHECK_STATUS(i == 6 ? MSAE_ERROR_UNSUPPORTED : MSAE_ERROR_SHAPE,
                     msae_multiply(&p, NULL, NULL, &bytes, &error));
        CHECK(error.position == MSAE_NO_POSITION && strstr(error.message, "of the product"));
    }
    host.simd = MSAE_SIMD_COUNT;
    CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, msae_multiply(&good, &host, NULL, &bytes, &error));
    CHECK(bytes == 7 && c[0] == 7);
}

/* ---------------------------------------------------------------------------------------------
   Sparse sums
   ------------------------------------------------------------------------------------------ */

static void check_gather(const msae_kernels *kernels, size_t width, size_t count, size_t stride) {
    enum { BASE_ROWS = 11 };
    float *base = test_random_floats(width, (BASE_ROWS - 1) * stride + width, 1);
    float *a = test_random_floats(width + 3, width, 1);
    test_fence y = random_output(width + 1, width, 2), both = random_output(width + 1, width, 5);
    test_fence dot = random_output(width + 2, count, 3);
    float *weight = test_random_floats(width + 4, count, 1);
    float *y_before = copy_of(floats_of(&y), width), *dot_before = copy_of(floats_of(&dot), count);
    uint32_t index[TAIL];
    for (size_t e = 0; e < count; e++) index[e] = (uint32_t)(e * 7 % BASE_ROWS);
    const msae__gather rows = {base, stride, index, weight, count};
    msae__full(kernels)->gather_axpy(floats_of(&y), &rows, width);
    msae__full(kernels)->gather_dot_axpy(floats_of(&both), floats_of(&dot), a, &rows, width);
    note_path(kernels, width, count, stride);
    for (size_t i = 0; i < width; i++) {
        exact want = {(double)y_before[i], fabs((double)y_before[i])};
        for (size_t e = 0; e < count; e++) {
            add(&want, (double)weight[e] * (double)base[index[e] * stride + i]);
        }
        CHECK(is_near(floats_of(&y)[i], want));
        CHECK(is_near(floats_of(&both)[i], want));
    }
    for (size_t e = 0; e < count; e++) {
        CHECK(is_near(floats_of(&dot)[e],
                      dot_of(a, base + index[e] * stride, width, (double)dot_before[e])));
    }
    free(base);
    free(a);
    free(weight);
    free(y_before);
    free(dot_before);
    test_fence_close(&y);
    test_fence_close(&both);
    test_fence_close(&dot);
}

static void gathers(void) {
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        for (size_t width = 1; width <= 2 * MSAE__PANEL + 1; width++) {
            for (size_t count = 0; count <= 9; count++) {
                check_gather(kernels, width, count, width);
                check_gather(kernels, width, count, width + 5);
            }
            check_gather(kernels, width, TAIL, 2 * MSAE__PANEL + 3);
        }
    }
}

/* ---------------------------------------------------------------------------------------------
   Panels of a row's levels
   ------------------------------------------------------------------------------------------ */

static void check_levels(const msae_kernels *kernels, size_t levels, uint64_t seed) {
    enum { P = MSAE__PANEL, B = MSAE__LATENT_BLOCK };
    float *decoder = test_random_floats(seed, B * P, 1),
          *value = test_random_floats(seed + 1, B, 1);
    float *start = test_random_floats(seed + 2, P, 1), *target = test_random_floats(seed + 3, P, 1);
    float *factors = test_random_floats(seed + 4, levels, 1), *errors = test_floats(levels);
    test_fence sums = random_output(seed + 5, levels * P, 7);
    float *before = copy_of(floats_of(&sums), levels * P);
    uint8_t *index = (uint8_t *)test_alloc(B), *ends = (uint8_t *)test_alloc(levels);
    const float deviation = 1.3f, mean = 0.2f;
    size_t end = 0;
    for (uint8_t *at = ends; at < ends + levels; at++) {
        end += (size_t)(test_random(&seed) % (B / levels + 1));
        *at = (uint8_t)end;
    }
    for (size_t e = 0; e < B; e++) { /* the sign's bit is not part of the latent */
        index[e] = (uint8_t)(test_random(&seed) & 255);
    }
    msae__full(kernels)->decode(floats_of(&sums), decoder, index, value, ends, levels);
    note_path(kernels, levels, end, 0);
    for (size_t i = 0, e = 0; i < levels; i++) {
        for (size_t c = 0; c < P; c++) {
            exact want = {(double)before[i * P + c], fabs((double)before[i * P + c])};
            for (size_t k = e; k < ends[i]; k++) {
                add(&want, (double)value[k] * (double)decoder[(index[k] & 127) * P + c]);
            }
            CHECK(is_near(floats_of(&sums)[i * P + c], want));
        }
        e = ends[i];
    }
    memcpy(before, floats_of(&sums), levels * P * sizeof *before);
    msae__full(kernels)->reconstruct(floats_of(&sums), levels, start, target, deviation, mean,
                                     errors);
    for (size_t i = 0; i < levels; i++) {
        exact error = {0, 0};
        for (size_t c = 0; c < P; c++) {
            exact want = {(double)mean, (double)mean};
            add(&want, (double)start[c] * (double)deviation);
            for (size_t k = 0; k <= i; k++) {
                add(&want, (double)before[k * P + c] * (double)deviation);
            }
            CHECK(is_near(floats_of(&sums)[i * P + c], want));
            add(&error, pow((double)floats_of(&sums)[i * P + c] - (double)target[c], 2));
        }
        CHECK(is_near(errors[i], error));
    }
    memcpy(before, floats_of(&sums), levels * P * sizeof *before);
    msae__full(kernels)->residuals(floats_of(&sums), levels, target, factors);
    for (size_t i = 0; i < levels; i++) {
        for (size_t c = 0; c < P; c++) {
            exact want = {0, 0};
            for (size_t k = i; k < levels; k++) {
                add(&want, (double)factors[k] * (double)before[k * P + c]);
                add(&want, -(double)factors[k] * (double)target[c]);
            }
            CHECK(is_near(floats_of(&sums)[i * P + c], want));
        }
    }
    free(decoder);
    free(value);
    free(start);
    free(target);
    free(factors);
    free(errors);
    free(before);
    free(index);
    free(ends);
    test_fence_close(&sums);
}

static void levels_of_a_row(void) {
    FOR_EACH_PATH(simd) {
        for (size_t levels = 1; levels <= 9; levels++) {
            for (uint64_t seed = 0; seed < 20; seed++) {
                check_levels(msae__kernels_for(simd), levels, 100 * levels + seed);
            }
        }
        check_levels(msae__kernels_for(simd), MSAE_MAX_LEVELS, 1);
    }
}

/* ---------------------------------------------------------------------------------------------
   Selection
   ------------------------------------------------------------------------------------------ */

/* Keys with many equal ones, zeros, and both ends of the range. */
static int32_t *random_keys(uint64_t seed, size_t n) {
    static const int32_t ends[] = {0, 1, -1, INT32_MAX, INT32_MIN, INT32_MIN + 1};
    int32_t *keys = (int32_t *)test_alloc((n + 1) * sizeof *keys);
    for (size_t i = 0; i < n; i++) {
        const uint64_t random = test_random(&seed);
        keys[i] = random % 4 == 0   ? ends[random / 4 % COUNT(ends)]
                  : random % 4 == 1 ? (int32_t)(random / 4 % 9) * 1000
                                    : (int32_t)(random >> 33) - (random & 8 ? INT32_MAX : 0);
    }
    return keys;
}

/* Whether `kept` are the keys [n] within (low, high], in their order. */
static int is_between(const int32_t *kept, size_t count, const int32_t *keys, size_t n, int32_t low,
                      int32_t high, int32_t largest) {
    int32_t most = -5;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (keys[i] <= low || keys[i] > high) continue;
        if (at == count || kept[at++] != keys[i]) return 0;
        most = keys[i] > most ? keys[i] : most;
    }
    return at == count && most == largest;
}

static void keys_between(void) {
    static const int32_t bounds[] = {INT32_MIN, -1, 0, 1, 4000, INT32_MAX - 1, INT32_MAX};
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        for (size_t n = 0; n <= TAIL; n++) {
            int32_t *keys = random_keys(n, n);
            for (size_t f = 0; f < COUNT(bounds) * COUNT(bounds); f++) {
                const int32_t low = bounds[f % COUNT(bounds)], high = bounds[f / COUNT(bounds)];
                test_fence out = test_fence_open((n + 16) * sizeof *keys, 4);
                int32_t *kept = (int32_t *)out.memory, largest = -5;
                size_t count = kernels->between(kept, keys, n, low, high, &largest);
                note_path(kernels, n, f, 0);
                CHECK(is_between(kept, count, keys, n, low, high, largest));
                memcpy(kept, keys, n * sizeof *keys); /* in place */
                count = kernels->between(kept, kept, n, low, high, &largest);
                CHECK(is_between(kept, count, keys, n, low, high, largest));
                test_fence_close(&out);
            }
            free(keys);
        }
    }
}

static void places_by_level(void) {
    enum { B = MSAE__LATENT_BLOCK };
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        for (size_t count = 1; count <= B; count += 1 + count / 20) {
            for (size_t levels = 1; levels <= 9; levels += 2) {
                int32_t *keys = random_keys(count + levels, count), floors[9];
                test_fence out = test_fence_open(B * sizeof *keys, 4);
                int32_t *sorted = (int32_t *)out.memory;
                uint8_t index[B], level[B], ends[9];
                size_t at = 0, wrong = 0;
                for (size_t i = 0; i < levels; i++) {
                    floors[i] = INT32_MAX / (int32_t)((i + 1) * (i + 1));
                }
                if (count % 2) floors[levels - 1] = 1;
                if (count % 3 == 0) floors[levels - 1] = INT32_MIN + 1;
                memcpy(sorted, keys, count * sizeof *keys); /* in place */
                msae__full(kernels)->place(sorted, index, level, ends, sorted, count, floors,
                                           levels);
                for (size_t i = 0; i < levels; i++) {
                    for (size_t j = 0; j < count; j++) {
                        if (keys[j] < floors[i] || (i > 0 && keys[j] >= floors[i - 1])) continue;
                        wrong += sorted[at] != keys[j] || index[at] != j || level[at] != i;
                        at++;
                    }
                    wrong += ends[i] != at;
                }
                note_path(kernels, count, levels, at);
                CHECK(wrong == 0);
                free(keys);
                test_fence_close(&out);
            }
        }
    }
}

/* ---------------------------------------------------------------------------------------------
   Adam
   ------------------------------------------------------------------------------------------ */

static void check_adam(const msae_kernels *kernels, size_t n, size_t offset, float project,
                       float small) {
    const float b1 = 0.9f, b2 = 0.999f;
    const msae__adam step = {0.5f, b1, b2, 1 - b1, 1 - b2, 0.99f, 0.01f, 31.6f, 6.25e-10f};
    const double rescale = 1.25;
    float *gradients = test_random_floats(n + 1, 8 - offset + n, small),
          *g = gradients + 8 - offset;
    test_fence p = random_output(n, n, offset);
    test_fence m = random_output(n + 2, n, offset + 1), v = random_output(n + 3, n, 3);
    for (size_t i = 0; i < n; i++) {
        floats_of(&m)[i] *= small;
        floats_of(&v)[i] *= floats_of(&v)[i] * small * small;
    }
    float *p0 = copy_of(floats_of(&p), n), *m0 = copy_of(floats_of(&m), n);
    float *v0 = copy_of(floats_of(&v), n);
    msae__full(kernels)->adam(floats_of(&p), g, floats_of(&m), floats_of(&v), n, (float)rescale,
                              project, &step);
    note_path(kernels, n, offset, small < 1);
    for (size_t i = 0; i < n; i++) {
        double value = (double)p0[i] * rescale;
        double gradient = ((double)g[i] - (double)project * value) * (double)step.clip;
        double scale = fabs((double)g[i]) + fabs((double)project * value) + fabs((double)m0[i]);
        double m1 = (double)step.beta1 * (double)m0[i] + (1 - (double)step.beta1) * gradient;
        double v1 =
            (double)step.beta2 * (double)v0[i] + (1 - (double)step.beta2) * gradient * gradient;
        double move = (double)step.rate * m1 / (sqrt(v1) * (double)step.root + (double)step.eps);
        CHECK(fabs((double)floats_of(&m)[i] - m1) <= 1e-6 * scale + 1e-29);
        CHECK(fabs((double)floats_of(&v)[i] - v1) <= 1e-4 * v1 + 1e-34);
        CHECK(fabs((double)floats_of(&p)[i] - (value * (double)step.decay - move)) <= 1e-5);
        /* No denormals, ever: they slow every later step. */
        CHECK(fpclassify(floats_of(&m)[i]) != FP_SUBNORMAL);
        CHECK(fpclassify(floats_of(&v)[i]) != FP_SUBNORMAL);
    }
    free(p0);
    free(m0);
    free(v0);
    free(gradients);
    test_fence_close(&p);
    test_fence_close(&m);
    test_fence_close(&v);
}

static void adam_steps(void) {
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        for (size_t n = 0; n <= TAIL; n++) {
            for (size_t offset = 0; offset < 8; offset++) {
                check_adam(kernels, n, offset, 0, 1);
                check_adam(kernels, n, offset, 0.3f, 1);
                check_adam(kernels, n, offset, 0, 1e-19f); /* squares are denormal .. */
                check_adam(kernels, n, offset, 0, 1e-38f); /* .. and here the numbers are */
            }
        }
    }
}

int main(void) {
    RUN(dots);
    RUN(differences);
    RUN(halves);
    RUN(axpys);
    RUN(register_tiles);
    RUN(tiles_of_dots);
    RUN(packing);
    RUN(matrix_products);
    RUN(public_products);
    RUN(products_that_cannot_be);
    RUN(gathers);
    RUN(levels_of_a_row);
    RUN(keys_between);
    RUN(places_by_level);
    RUN(adam_steps);
    return test_finish();
}
