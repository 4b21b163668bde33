/* The kernels of every path. Sums may be taken in any order: each is compared with the sum in
   double, within what rounding once for each term can make of it. NaN and Inf must not get lost,
   and must not come from lanes or rows that are not part of the work. What is no sum is compared
   with the scalar kernel to the bit.
   Options: -max_len=512 */
#include "fuzz.h"

enum { MAX_LENGTH = 80, MAX_OFFSET = 8 };

/* ---------------------------------------------------------------------------------------------
   Sums
   ------------------------------------------------------------------------------------------ */

/* A sum in double, the sum of its terms' magnitudes, their number. */
typedef struct exact {
    double sum, magnitude;
    size_t terms;
} exact;

static void add(exact *e, double term) {
    e->sum += term;
    e->magnitude += fabs(term);
    e->terms++;
}

static exact dot_of(const float *a, size_t a_step, const float *b, size_t b_step, size_t n,
                    float start) {
    exact e = {0, 0, 0};
    add(&e, (double)start);
    for (size_t i = 0; i < n; i++) add(&e, (double)a[i * a_step] * (double)b[i * b_step]);
    return e;
}

/* A sum that is finite, but so large that the order of terms decides whether it overflows. */
static int may_overflow(double magnitude) {
    return isfinite(magnitude) && magnitude > 1e38;
}

/* Each of the terms + 2 roundings is off by 2^-24 of the magnitude at most, or half a denormal. */
static int is_near(float got, exact want) {
    const double roundings = (double)want.terms + 2;
    if (!isfinite(want.magnitude)) return !isfinite(got);
    if (may_overflow(want.magnitude)) return 1;
    return fabs((double)got - want.sum) <= roundings * (want.magnitude * 0x1p-24 + 0x1p-149);
}

/* ---------------------------------------------------------------------------------------------
   Arrays: off a vector's boundary by a few floats, ending with their block
   ------------------------------------------------------------------------------------------ */

static float *floats(fuzz_input *in, size_t count) {
    const size_t offset = fuzz_below(in, MAX_OFFSET);
    float *values = (float *)fuzz_take((offset + count) * sizeof *values) + offset;
    for (size_t i = 0; i < count; i++) values[i] = fuzz_float(in);
    return values;
}

static float *copy_of(const float *values, size_t count) {
    float *copy = (float *)fuzz_take((count + 1) * sizeof *copy) + 1;
    memcpy(copy, values, count * sizeof *copy);
    return copy;
}

static size_t length(fuzz_input *in) {
    return fuzz_below(in, MAX_LENGTH + 1);
}

/* ---------------------------------------------------------------------------------------------
   One function for each kernel: arrays first, then every path on copies of them
   ------------------------------------------------------------------------------------------ */

static void check_dot(fuzz_input *in) {
    const size_t n = length(in);
    const float *a = floats(in, n), *b = floats(in, n);
    const exact want = dot_of(a, 1, b, 1, n, 0);
    FOR_EACH_PATH(simd) CHECK(is_near(msae__kernels_for(simd)->dot(a, b, n), want));
}

static void check_center(fuzz_input *in) {
    const size_t n = length(in);
    const float scale = fuzz_float(in), *x = floats(in, n), *mean = floats(in, n);
    float *want = (float *)fuzz_take(n * sizeof *want);
    msae__scalar_kernels.run.center(want, x, mean, scale, n);
    FOR_EACH_PATH(simd) {
        float *out = floats(in, n);
        msae__kernels_for(simd)->center(out, x, mean, scale, n);
        CHECK(fuzz_same_numbers(out, want, n));
        memcpy(out, x, n * sizeof *out);
        msae__kernels_for(simd)->center(out, out, mean, scale, n);
        CHECK(fuzz_same_numbers(out, want, n));
    }
}

static void check_from_half(fuzz_input *in) {
    const size_t n = length(in), offset = fuzz_below(in, MAX_OFFSET);
    unsigned char *half = (unsigned char *)fuzz_take(offset + 2 * n) + offset;
    float *want = (float *)fuzz_take(n * sizeof *want);
    for (size_t i = 0; i < 2 * n; i++) half[i] = (unsigned char)fuzz_byte(in);
    msae__scalar_kernels.from_half(want, half, n);
    FOR_EACH_PATH(simd) {
        float *out = floats(in, n);
        msae__full(msae__kernels_for(simd))->from_half(out, half, n);
        CHECK(fuzz_same_numbers(out, want, n));
    }
}

static void check_axpy(fuzz_input *in) {
    const size_t n = length(in);
    const float factor = fuzz_float(in), *x = floats(in, n), *before = floats(in, n);
    FOR_EACH_PATH(simd) {
        float *y = copy_of(before, n);
        msae__kernels_for(simd)->axpy(y, factor, x, n);
        for (size_t i = 0; i < n; i++) {
            CHECK(is_near(y[i], dot_of(&factor, 1, x + i, 1, 1, before[i])));
        }
    }
}

static void check_dots(fuzz_input *in) {
    const size_t rows = 1 + fuzz_below(in, 14), cols = 1 + fuzz_below(in, 4);
    const size_t depth = 1 + fuzz_below(in, 40), ldc = cols + fuzz_below(in, 3);
    const size_t a_stride = depth + fuzz_below(in, 4), b_stride = depth + fuzz_below(in, 4);
    const size_t count = (rows - 1) * ldc + cols;
    const float *a = floats(in, (rows - 1) * a_stride + depth);
    const float *b = floats(in, (cols - 1) * b_stride + depth), *before = floats(in, count);
    FOR_EACH_PATH(simd) {
        float *c = copy_of(before, count);
        msae__few few = {c, ldc, a, a_stride, rows, NULL, b_stride * sizeof *b, cols, depth};
        few.w = (const unsigned char *)b;
        msae__kernels_for(simd)->dots(&few);
        for (size_t at = 0; at < count; at++) {
            const size_t i = at / ldc, j = at % ldc;
            CHECK(j < cols
                      ? is_near(c[at], dot_of(a + i * a_stride, 1, b + j * b_stride, 1, depth, 0))
                      : fuzz_same_floats(&c[at], &before[at], 1));
        }
    }
}

static void check_pack(fuzz_input *in) {
    const size_t width = 1 + fuzz_below(in, 40), rows = 1 + fuzz_below(in, width);
    const size_t depth = 1 + fuzz_below(in, 24), stride = depth + fuzz_below(in, 4);
    const float *x = floats(in, (rows - 1) * stride + depth);
    float *want = floats(in, width * depth);
    msae__scalar_kernels.pack(want, width, x, stride, rows, depth);
    FOR_EACH_PATH(simd) {
        float *out = floats(in, width * depth);
        msae__full(msae__kernels_for(simd))->pack(out, width, x, stride, rows, depth);
        CHECK(fuzz_same_floats(out, want, width * depth));
    }
}

/* Lanes of the panels beyond rows and cols hold whatever the input says, NaN too. */
static void check_gemm(fuzz_input *in) {
    const size_t rows = 1 + fuzz_below(in, 16), cols = 1 + fuzz_below(in, 64);
    const size_t depth = 1 + fuzz_below(in, 24), ldc = cols + fuzz_below(in, 3);
    const int accumulate = fuzz_byte(in) & 1;
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        const size_t mr = msae__full(kernels)->mr, nr = msae__full(kernels)->nr;
        const size_t m = msae__min(rows, mr), n = msae__min(cols, nr), count = (m - 1) * ldc + n;
        const float *a = floats(in, depth * mr), *b = floats(in, depth * nr);
        const float *before = floats(in, count);
        float *c = copy_of(before, count);
        msae__full(kernels)->gemm(a, b, depth, c, ldc, m, n, accumulate);
        for (size_t at = 0; at < count; at++) {
            const size_t i = at / ldc, j = at % ldc;
            CHECK(j < n ? is_near(c[at],
                                  dot_of(a + i, mr, b + j, nr, depth, accumulate ? before[at] : 0))
                        : fuzz_same_floats(&c[at], &before[at], 1));
        }
    }
}

static void check_gather(fuzz_input *in) {
    const size_t width = 1 + length(in), count = fuzz_below(in, 20), base_rows = 6;
    const size_t stride = width + fuzz_below(in, 4);
    const float *base = floats(in, (base_rows - 1) * stride + width), *a = floats(in, width);
    const float *weight = floats(in, count), *y_before = floats(in, width);
    const float *dots_before = floats(in, count);
    uint32_t *index = (uint32_t *)fuzz_take(count * sizeof *index);
    for (size_t e = 0; e < count; e++) index[e] = (uint32_t)fuzz_below(in, base_rows);
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        float *y = copy_of(y_before, width), *both = copy_of(y_before, width);
        float *dots = copy_of(dots_before, count);
        const msae__gather rows = {base, stride, index, weight, count};
        msae__full(kernels)->gather_axpy(y, &rows, width);
        msae__full(kernels)->gather_dot_axpy(both, dots, a, &rows, width);
        for (size_t i = 0; i < width; i++) {
            exact want = {(double)y_before[i], fabs((double)y_before[i]), 1};
            for (size_t e = 0; e < count; e++) {
                add(&want, (double)weight[e] * (double)base[index[e] * stride + i]);
            }
            CHECK(is_near(y[i], want) && is_near(both[i], want));
        }
        for (size_t e = 0; e < count; e++) {
            CHECK(
                is_near(dots[e], dot_of(a, 1, base + index[e] * stride, 1, width, dots_before[e])));
        }
    }
}

/* ---------------------------------------------------------------------------------------------
   Panels of a row's levels
   ------------------------------------------------------------------------------------------ */

/* A decoder panel whose latents take turns with a few rows. */
static float *decoder_panel(const float *rows, size_t n_rows) {
    enum { P = MSAE__PANEL, B = MSAE__LATENT_BLOCK };
    float *panel = (float *)fuzz_take((size_t)B * P * sizeof *panel);
    for (size_t l = 0; l < B; l++) memcpy(panel + l * P, rows + l % n_rows * P, P * sizeof *panel);
    return panel;
}

static void check_decode(fuzz_input *in) {
    enum { P = MSAE__PANEL, B = MSAE__LATENT_BLOCK, ROWS = 3 };
    const size_t levels = 1 + fuzz_below(in, 4), count = fuzz_below(in, 12);
    uint8_t *index = (uint8_t *)fuzz_take(count), *ends = (uint8_t *)fuzz_take(levels);
    for (size_t e = 0; e < count; e++) index[e] = (uint8_t)fuzz_byte(in);
    for (size_t i = 0, end = 0; i < levels; i++) {
        end += fuzz_below(in, count - end + 1);
        ends[i] = (uint8_t)end;
    }
    const float *value = floats(in, count), *before = floats(in, levels * P);
    const float *decoder = decoder_panel(floats(in, ROWS * P), ROWS);
    FOR_EACH_PATH(simd) {
        float *sums = copy_of(before, levels * P);
        msae__full(msae__kernels_for(simd))->decode(sums, decoder, index, value, ends, levels);
        for (size_t i = 0, first = 0; i < levels; first = ends[i++]) {
            for (size_t c = 0; c < P; c++) {
                exact want = {(double)before[i * P + c], fabs((double)before[i * P + c]), 1};
                for (size_t e = first; e < ends[i]; e++) {
                    add(&want,
                        (double)value[e] * (double)decoder[(index[e] & MSAE__LATENT) * P + c]);
                }
                CHECK(is_near(sums[i * P + c], want));
            }
        }
    }
}

static void check_reconstruct(fuzz_input *in) {
    enum { P = MSAE__PANEL };
    const size_t levels = 1 + fuzz_below(in, 6);
    const float deviation = fuzz_float(in), mean = fuzz_float(in);
    const float *start = floats(in, P), *target = floats(in, P), *before = floats(in, levels * P);
    FOR_EACH_PATH(simd) {
        float *rows = copy_of(before, levels * P), *errors = floats(in, levels);
        exact error[6] = {{0, 0, 0}};
        msae__full(msae__kernels_for(simd))
            ->reconstruct(rows, levels, start, target, deviation, mean, errors);
        for (size_t c = 0; c < P; c++) {
            exact sum = {0, 0, 0};
            add(&sum, (double)start[c]);
            for (size_t i = 0; i < levels; i++) {
                const double off = (double)rows[i * P + c] - (double)target[c];
                exact want = {(double)mean, fabs((double)mean), levels + 4};
                add(&sum, (double)before[i * P + c]);
                add(&want, sum.sum * (double)deviation);
                /* of the magnitude that was rounded, denormals too, before it was multiplied */
                want.magnitude += (sum.magnitude + 0x1p-125) * fabs((double)deviation);
                CHECK(may_overflow(sum.magnitude) || is_near(rows[i * P + c], want));
                add(&error[i], off * off);
            }
        }
        for (size_t i = 0; i < levels; i++) {
            error[i].terms += 3; /* for the difference and its square */
            CHECK(is_near(errors[i], error[i]));
        }
    }
}

static void check_residuals(fuzz_input *in) {
    enum { P = MSAE__PANEL };
    const size_t levels = 1 + fuzz_below(in, 6);
    const float *target = floats(in, P), *factors = floats(in, levels);
    const float *before = floats(in, levels * P);
    FOR_EACH_PATH(simd) {
        float *rows = copy_of(before, levels * P);
        msae__full(msae__kernels_for(simd))->residuals(rows, levels, target, factors);
        for (size_t c = 0; c < P; c++) {
            exact want = {0, 0, 2};
            int overflow = 0;
            for (size_t i = levels; i-- > 0;) {
                const double row = (double)before[i * P + c], factor = (double)factors[i];
                add(&want, factor * row);
                add(&want, -factor * (double)target[c]);
                overflow |= may_overflow(fabs(row) + fabs((double)target[c]));
                CHECK(overflow || is_near(rows[i * P + c], want));
            }
        }
    }
}

/* ---------------------------------------------------------------------------------------------
   Selection
   ------------------------------------------------------------------------------------------ */

static int32_t key(fuzz_input *in) {
    return msae__key(fuzz_float(in), MSAE_ACTIVATION_IDENTITY);
}

static int32_t *keys_of(fuzz_input *in, size_t count, size_t room) {
    int32_t *keys = (int32_t *)fuzz_take(room * sizeof *keys);
    for (size_t i = 0; i < count; i++) keys[i] = key(in);
    return keys;
}

static void check_between(fuzz_input *in) {
    const size_t n = length(in);
    const int32_t low = key(in), high = key(in), start = key(in);
    const int32_t *keys = keys_of(in, n, n);
    int32_t *want = (int32_t *)fuzz_take((n + 16) * sizeof *want), most = start;
    const size_t count = msae__scalar_kernels.run.between(want, keys, n, low, high, &most);
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        int32_t *out = (int32_t *)fuzz_take((n + 16) * sizeof *out), largest = start;
        CHECK(kernels->between(out, keys, n, low, high, &largest) == count && largest == most);
        CHECK(memcmp(out, want, count * sizeof *out) == 0);
        largest = start;
        memcpy(out, keys, n * sizeof *out);
        CHECK(kernels->between(out, out, n, low, high, &largest) == count && largest == most);
        CHECK(memcmp(out, want, count * sizeof *out) == 0);
    }
}

static int descending(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x < y) - (x > y);
}

/* What one path placed; only what belongs to a level counts. */
typedef struct placed {
    int32_t *keys;
    uint8_t index[MSAE__LATENT_BLOCK], level[MSAE__LATENT_BLOCK], ends[MSAE_MAX_LEVELS];
} placed;

static void place(placed *p, const msae_kernels *kernels, const int32_t *keys, size_t count,
                  const int32_t *floors, size_t levels) {
    p->keys = (int32_t *)fuzz_take(MSAE__LATENT_BLOCK * sizeof *p->keys);
    msae__full(kernels)->place(p->keys, p->index, p->level, p->ends, keys, count, floors, levels);
}

static int same_places(const placed *a, const placed *b, size_t levels) {
    const size_t kept = a->ends[levels - 1];
    return memcmp(a->ends, b->ends, levels) == 0 && memcmp(a->index, b->index, kept) == 0 &&
           memcmp(a->level, b->level, kept) == 0 && memcmp(a->keys, b->keys, 4 * kept) == 0;
}

static void check_place(fuzz_input *in) {
    const size_t count = 1 + fuzz_below(in, MSAE__LATENT_BLOCK);
    const size_t levels = 1 + fuzz_below(in, 9);
    int32_t *floors = keys_of(in, levels, levels);
    const int32_t *keys = keys_of(in, count, count);
    placed want, got;
    qsort(floors, levels, sizeof *floors, descending);
    place(&want, &msae__scalar_kernels.run, keys, count, floors, levels);
    FOR_EACH_PATH(simd) {
        const msae_kernels *kernels = msae__kernels_for(simd);
        place(&got, kernels, keys, count, floors, levels);
        CHECK(same_places(&got, &want, levels));
        memcpy(got.keys, keys, count * sizeof *keys); /* in place */
        msae__full(kernels)->place(got.keys, got.index, got.level, got.ends, got.keys, count,
                                   floors, levels);
        CHECK(same_places(&got, &want, levels));
    }
}

/* ---------------------------------------------------------------------------------------------
   Adam
   ------------------------------------------------------------------------------------------ */

/* One parameter after a step, in double, and how far rounding can take each number. */
typedef struct moved {
    double m, v, p, m_off, v_off, p_off;
} moved;

static moved move(double p, double g, double m, double v, double rescale, double project,
                  const msae__adam *adam) {
    const double round = 0x1p-21, beta1 = (double)adam->beta1, beta2 = (double)adam->beta2;
    const double clip = (double)adam->clip, value = p * rescale;
    const double gradient = (g - project * value) * clip;
    const double size = (fabs(g) + fabs(project * value)) * fabs(clip);
    double root, root_off, step;
    moved want;
    want.m = beta1 * m + (1 - beta1) * gradient;
    want.v = beta2 * v + (1 - beta2) * gradient * gradient;
    want.m_off = round * (fabs(beta1 * m) + (1 - beta1) * size) + 2 * (double)MSAE__TINY_M;
    want.v_off = round * (beta2 * v + (1 - beta2) * size * size) + 2 * (double)MSAE__TINY_V;
    root = sqrt(want.v) * (double)adam->root + (double)adam->eps;
    root_off =
        (sqrt(want.v + want.v_off) - sqrt(fmax(want.v - want.v_off, 0))) * (double)adam->root +
        round * root;
    step = (double)adam->rate / fmax(root - root_off, (double)adam->eps);
    want.p = value * (double)adam->decay - (double)adam->rate * want.m / root;
    want.p_off = round * fabs(value) + step * want.m_off +
                 step * fabs(want.m) * fmin(root_off / root, 1) + 1e-37;
    return want;
}

static void check_adam(fuzz_input *in) {
    const msae__adam adam = {0.5f,  0.9f,  0.999f, 1 - 0.9f, 1 - 0.999f,
                             0.99f, 0.01f, 31.6f,  6.25e-10f};
    const size_t n = length(in);
    const float project = fuzz_byte(in) & 1 ? 0.3f : 0, rescale = 1.25f;
    float *p0 = floats(in, n), *g = floats(in, n), *m0 = floats(in, n), *v0 = floats(in, n);
    for (size_t i = 0; i < n; i++) v0[i] = fabsf(v0[i]);
    FOR_EACH_PATH(simd) {
        float *p = copy_of(p0, n), *m = copy_of(m0, n), *v = copy_of(v0, n);
        msae__full(msae__kernels_for(simd))->adam(p, g, m, v, n, rescale, project, &adam);
        for (size_t i = 0; i < n; i++) {
            const moved want = move((double)p0[i], (double)g[i], (double)m0[i], (double)v0[i],
                                    (double)rescale, (double)project, &adam);
            /* no denormals, ever: they slow every later step */
            CHECK(fpclassify(m[i]) != FP_SUBNORMAL && fpclassify(v[i]) != FP_SUBNORMAL);
            if (!isfinite(want.m)) CHECK(!isfinite(p[i]));
            if (!(fabs(want.p) + want.p_off < 1e38 && fabs(want.m) + want.v + want.v_off < 1e38)) {
                continue;
            }
            CHECK(fabs((double)m[i] - want.m) <= want.m_off);
            CHECK(fabs((double)v[i] - want.v) <= want.v_off);
            CHECK(fabs((double)p[i] - want.p) <= want.p_off);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    static void (*const checks[])(fuzz_input *) = {
        check_dot,       check_center,  check_from_half, check_axpy,   check_dots,
        check_pack,      check_gemm,    check_gather,    check_decode, check_reconstruct,
        check_residuals, check_between, check_place,     check_adam,
    };
    fuzz_input in = fuzz_input_of(input, size);
    const size_t first = fuzz_below(&in, 256);
    in.tame = first >= 128; /* beside a huge number a small one that is left out would not show */
    checks[first % COUNT(checks)](&in);
    fuzz_release();
    return 0;
}
