/* Small weights (halves, bfloats, int8): the kernels, the copies, their files, files used in place;
   and encoding that ends early, goes by thresholds or in slices. */
#include "test.h"

enum { D = 29, N = 150, ROWS = 70 };

static const msae_dtype types[] = {MSAE_F32, MSAE_F16, MSAE_BF16, MSAE_I8};

/* ---------------------------------------------------------------------------------------------
   Numbers of 16 bits
   ------------------------------------------------------------------------------------------ */

static float half_of(uint16_t bits) {
    return msae__half_to_float(bits);
}

static float bfloat_of(uint16_t bits) {
    return msae__bits_float((uint32_t)bits << 16);
}

/* Every finite number is itself; what lies between two is the nearer one, in the middle the even
   one. Doubles hold all of these exactly. */
static void check_rounding(uint16_t (*to)(float), float (*of)(uint16_t), uint16_t infinity) {
    for (uint16_t bits = 0; bits < infinity; bits++) {
        const double low = (double)of(bits);
        const double high = bits + 1 < infinity ? (double)of((uint16_t)(bits + 1)) : 2 * low;
        const float middle = (float)((low + high) / 2);
        if (!CHECK(to((float)low) == bits)) return;
        if (!CHECK(to((float)-low) == (bits | 0x8000u))) return;
        if (bits + 1 == infinity || (double)middle != (low + high) / 2) continue;
        if (!CHECK(to(middle) == bits + (bits & 1))) return;
        const float above = msae__bits_float(msae__float_bits(middle) + 1);
        const float below = msae__bits_float(msae__float_bits(middle) - 1);
        if (!CHECK(to(above) == bits + 1 && to(below) == bits)) return;
    }
}

static void rounding(void) {
    check_rounding(msae__to_half, half_of, 0x7c00u);
    check_rounding(msae__to_bfloat, bfloat_of, 0x7f80u);
    CHECK(msae__to_half(65519.0f) == 0x7bffu && msae__to_half(65520.0f) == 0x7c00u);
    CHECK(msae__to_half(1e30f) == 0x7c00u && msae__to_half(-1e30f) == 0xfc00u);
    CHECK(msae__to_half(1e-30f) == 0 && msae__to_half(-1e-30f) == 0x8000u);
}

/* ---------------------------------------------------------------------------------------------
   Kernels against the scalar ones
   ------------------------------------------------------------------------------------------ */

static void check_products(const msae_kernels *small, size_t rows, size_t cols, size_t depth) {
    const msae_kernels *plain = &msae__scalar_kernels.run;
    uint64_t state = 5 + rows + 100 * cols + 10000 * depth;
    const size_t stride = depth + 3;
    /* one byte off, so that nothing is aligned */
    test_fence fence = test_fence_open(2 * cols * depth + 1, 0);
    unsigned char *w = (unsigned char *)fence.memory + 1;
    float *x = test_random_floats(3, rows * stride, 1), *y = test_random_floats(4, depth, 1);
    float *got = test_floats(rows * (cols + 2)), *want = test_floats(rows * (cols + 2));
    float *sum = test_floats(depth);
    for (int bfloat = 0; bfloat < 2; bfloat++) {
        for (size_t i = 0; i < cols * depth; i++) {
            const float value = (float)((int)(test_random(&state) % 2001) - 1000) * 1e-3f;
            const uint16_t bits = bfloat ? msae__to_bfloat(value) : msae__to_half(value);
            w[2 * i] = (unsigned char)(bits & 255);
            w[2 * i + 1] = (unsigned char)(bits >> 8);
        }
        memset(got, 0, rows * (cols + 2) * sizeof *got);
        memset(want, 0, rows * (cols + 2) * sizeof *want);
        msae__few few = {got, cols + 2, x, stride, rows, w, 2 * depth, cols, depth};
        (bfloat ? small->dots_bfloat : small->dots_half)(&few);
        few.c = want;
        (bfloat ? plain->dots_bfloat : plain->dots_half)(&few);
        CHECK(test_error(got, want, rows * (cols + 2)) < 1e-5);
        memcpy(sum, y, depth * sizeof *sum);
        (bfloat ? small->axpy_bfloat : small->axpy_half)(sum, 0.7f, w, depth);
        (bfloat ? plain->axpy_bfloat : plain->axpy_half)(y, 0.7f, w, depth);
        CHECK(test_error(sum, y, depth) < 1e-6);
    }
    int16_t *q = (int16_t *)test_alloc(msae__quantized_stride(depth) * sizeof *q);
    int32_t *exact = (int32_t *)test_alloc(2 * cols * sizeof *exact);
    msae__quantize(x, depth, q);
    if (small->split_int8) small->split_int8(q, depth);
    for (size_t i = 0; i < cols * depth; i++) w[i] = (unsigned char)(test_random(&state) & 255);
    small->dots_int8(exact, q, w, cols, depth);
    for (size_t j = 0; j < cols; j++) {
        int64_t all = 0;
        for (size_t i = 0; i < depth; i++) {
            const int byte = w[j * depth + i];
            all += (int64_t)q[i] * (byte < 128 ? byte : byte - 256);
        }
        CHECK(exact[j] == all);
    }
    memcpy(sum, y, depth * sizeof *sum);
    small->axpy_int8(sum, 0.01f, w, depth);
    plain->axpy_int8(y, 0.01f, w, depth);
    CHECK(test_error(sum, y, depth) < 1e-6);
    test_fence_close(&fence);
    free(x);
    free(y);
    free(got);
    free(want);
    free(sum);
    free(q);
    free(exact);
}

static void products(void) {
    FOR_EACH_PATH(simd) {
        const msae_kernels *small = msae__kernels_for(simd);
        for (size_t rows = 1; rows <= 9; rows += rows == 1 ? 1 : 3) {
            for (size_t cols = 1; cols <= 9; cols++) {
                test_note("%s: %zu rows, %zu columns", msae_enum_name(MSAE_ENUM_SIMD, (int)simd),
                          rows, cols);
                check_products(small, rows, cols, 37);
            }
        }
        for (size_t depth = 1; depth < 2200; depth += depth < 150 ? 1 : 173) {
            test_note("%s: depth %zu", msae_enum_name(MSAE_ENUM_SIMD, (int)simd), depth);
            check_products(small, 1, 5, depth);
#ifdef MSAE__HAS_AVX2
            /* (a processor with better ones takes those) */
            if (simd == MSAE_SIMD_AVX512) check_products(&msae__avx512_kernels.run, 1, 5, depth);
#endif
        }
    }
}

/* The largest numbers in every place: no sum of 32 bits overflows, whatever the length. */
static void extremes(void) {
    static const size_t lengths[] = {1, 100, 512, 516, 517, 4096, 70000};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        const size_t n = lengths[i];
        float *x = test_floats(n);
        int16_t *q = (int16_t *)test_alloc(msae__quantized_stride(n) * sizeof *q);
        unsigned char *w = (unsigned char *)test_alloc(n);
        for (size_t c = 0; c < n; c++) x[c] = -3e37f;
        memset(w, 0x81, n); /* -127 */
        const double factor = (double)msae__quantize(x, n, q);
        FOR_EACH_PATH(simd) {
            int32_t sum;
            test_note("%s, %zu", msae_enum_name(MSAE_ENUM_SIMD, (int)simd), n);
            const msae_kernels *small = msae__kernels_for(simd);
            if (small->split_int8) small->split_int8(q, n);
            small->dots_int8(&sum, q, w, 1, n);
            CHECK(sum > 0 && fabs((double)sum * factor / (3e37 * 127 * (double)n) - 1) < 1e-6);
        }
        memset(x, 0, n * sizeof *x);
        CHECK(msae__quantize(x, n, q) == 0 && q[0] == 0);
        x[n - 1] = msae__bits_float(0x7f800000u);
        CHECK(test_is_nan((double)msae__quantize(x, n, q)) && q[n - 1] == 0);
        free(x);
        free(q);
        free(w);
    }
}

/* ---------------------------------------------------------------------------------------------
   Models
   ------------------------------------------------------------------------------------------ */

typedef struct subject {
    msae_model model; /* float32 */
    msae_model small; /* the same with `type` */
    msae_dtype type;
    float *x; /* [ROWS, D] */
    void *workspace;
} subject;

static int open_subject(subject *s, const test_recipe *recipe, msae_dtype type, msae_simd simd) {
    msae_train_desc desc = test_desc(recipe, D, N);
    msae_load_desc load = {0};
    test_note("%s, %s, %s", recipe->name, msae_enum_name(MSAE_ENUM_DTYPE, (int)type),
              msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
    desc.model.host.simd = load.host.simd = simd;
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(&s->model, &desc.model, NULL))) return 0;
    test_randomize(&s->model, 21);
    s->x = test_random_floats(22, ROWS * D, 2);
    for (size_t i = 0; i < ROWS * D; i++) s->x[i] += 3;
    const msae_data data = msae_data_view(s->x, ROWS, D);
    CHECK_STATUS(MSAE_OK, test_data_statistics(&data, MSAE_SCALING_RMS, 0, NULL, s->model.mean,
                                               &s->model.scale, NULL));
    if (test_is_batch_topk(recipe->recipe)) s->model.threshold = 0.3f;
    s->type = type;
    CHECK_STATUS(MSAE_OK, msae_compact(&s->model, type, &load, &s->small, NULL));
    s->workspace =
        test_alloc(msae_workspace_bytes(&s->small, ROWS) + msae_workspace_bytes(&s->model, ROWS));
    return 1;
}

static void close_subject(subject *s) {
    msae_model_free(&s->model);
    msae_model_free(&s->small);
    free(s->x);
    free(s->workspace);
}

static void for_every_model(void (*run)(subject *s)) {
    FOR_EACH_PATH(simd) {
        for (size_t t = 0; t < COUNT(types); t++) {
            FOR_EACH_RECIPE(recipe) {
                subject s;
                if (!open_subject(&s, recipe, types[t], simd)) continue;
                run(&s);
                close_subject(&s);
            }
        }
    }
}

static unsigned char *saved(const msae_model *model, size_t *bytes) {
    unsigned char *file;
    *bytes = 0;
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_save(model, &writer, NULL));
    *bytes = writer.bytes;
    file = (unsigned char *)test_alloc(*bytes);
    writer = msae_to_memory(file, *bytes);
    CHECK_STATUS(MSAE_OK, msae_save(model, &writer, NULL));
    return file;
}

/* A small model computes what the float32 model of its widened weights does: the weights are the
   same numbers, and int8 rounds a row to 16 bits more. */
static void check_as_widened(subject *s) {
    const double most = s->type == MSAE_I8 ? 2e-4 : 2e-6;
    float *z = test_floats(ROWS * N), *want = test_floats(ROWS * N);
    float *out = test_floats(D), *same = test_floats(D);
    msae_load_desc load = {0};
    msae_model wide;
    size_t bytes, differ = 0;
    unsigned char *file = saved(&s->small, &bytes);
    load.widen = 1;
    load.host.simd = s->small.simd;
    CHECK_STATUS(MSAE_OK, msae_load(&wide, msae_from_memory(file, bytes), &load, NULL));
    CHECK(wide.weights == MSAE_F32 && !wide.by_rows && wide.encoder && wide.decoder);
    CHECK_STATUS(MSAE_OK, msae_encode_dense(&s->small, s->workspace, s->x, ROWS, N, z, NULL));
    CHECK_STATUS(MSAE_OK, msae_encode_dense(&wide, s->workspace, s->x, ROWS, N, want, NULL));
    for (size_t i = 0; i < ROWS * N; i++) differ += (z[i] != 0) != (want[i] != 0);
    CHECK(differ <= (s->type == MSAE_I8 ? ROWS * N / 500 : 0));
    CHECK(test_error(z, want, ROWS * N) < most);
    for (size_t r = 0; r < 3; r++) {
        msae_code codes[N];
        const size_t count = test_encode(&s->small, s->workspace, s->x + r * D, 9, codes);
        float moments[2];
        msae_row_moments(&s->small, s->x + r * D, moments);
        msae_decode(&s->small, codes, count, moments, out);
        msae_decode(&wide, codes, count, moments, same);
        CHECK(test_error(out, same, D) < 1e-6);
    }
    msae_model_free(&wide);
    free(file);
    free(z);
    free(want);
    free(out);
    free(same);
}

static void as_widened(void) {
    for_every_model(check_as_widened);
}

/* Close to the model it was made of: int8 holds a row to a 254th of its largest weight. */
static void check_as_original(subject *s) {
    const double most = s->type == MSAE_F32   ? 1e-6
                        : s->type == MSAE_F16 ? 1e-3
                        : s->type == MSAE_I8  ? 1e-2
                                              : 1e-2;
    const size_t ks[] = {N};
    float *recon = test_floats(ROWS * D), *want = test_floats(ROWS * D);
    CHECK_STATUS(MSAE_OK, msae_forward(&s->small, s->workspace, s->x, ROWS, ks, 1, recon, NULL));
    CHECK_STATUS(MSAE_OK, msae_forward(&s->model, s->workspace, s->x, ROWS, ks, 1, want, NULL));
    CHECK(test_error(recon, want, ROWS * D) < most);
    free(recon);
    free(want);
}

static void as_original(void) {
    for_every_model(check_as_original);
}

/* A file comes back as it was, loaded or used in place, and gives the same codes to the bit. */
static void check_files(subject *s) {
    size_t bytes, again_bytes;
    unsigned char *file = saved(&s->small, &bytes);
    msae_load_desc load = {0};
    msae_code want[N], got[N];
    msae_model loaded, mapped;
    load.host.simd = s->small.simd;
    CHECK_STATUS(MSAE_OK, msae_load(&loaded, msae_from_memory(file, bytes), &load, NULL));
    unsigned char *again = saved(&loaded, &again_bytes);
    CHECK(again_bytes == bytes && memcmp(again, file, bytes) == 0);
    CHECK(loaded.weights == s->type && loaded.by_rows);
    memset(&mapped, 0, sizeof mapped);
    if (msae__little_endian()) {
        load.check = 1;
        CHECK_STATUS(MSAE_OK, msae_map(&mapped, file, bytes, &load, NULL));
        CHECK(!mapped.owns_memory && mapped.scale == s->model.scale);
    } else {
        CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, msae_map(&mapped, file, bytes, &load, NULL));
    }
    for (size_t r = 0; r < 5; r++) {
        const size_t count = test_encode_own(&s->small, s->workspace, s->x + r * D, want);
        memset(got, 0, sizeof got);
        CHECK(test_encode_own(&loaded, s->workspace, s->x + r * D, got) == count);
        CHECK(memcmp(got, want, count * sizeof *got) == 0);
        if (!mapped.latent_bias) continue;
        memset(got, 0, sizeof got);
        CHECK(test_encode_own(&mapped, s->workspace, s->x + r * D, got) == count);
        CHECK(memcmp(got, want, count * sizeof *got) == 0);
    }
    msae_model_free(&mapped);
    msae_model_free(&loaded);
    free(file);
    free(again);
}

static void files(void) {
    for_every_model(check_files);
}

/* What a file or the memory it lies in can have wrong. */
static void refusals(void) {
    subject s;
    msae_model model;
    msae_error error;
    size_t bytes;
    for (size_t t = 0; t < COUNT(types) && msae__little_endian(); t++) {
        if (!open_subject(&s, &test_recipes[0], types[t], MSAE_SIMD_AUTO)) return;
        unsigned char *file = saved(&s.small, &bytes);
        unsigned char *moved = (unsigned char *)test_alloc(bytes + 64);
        for (size_t off = 0; off < 8; off++) {
            memcpy(moved + off, file, bytes);
            CHECK_STATUS(off % 4 == 0 ? MSAE_OK : MSAE_ERROR_ARGUMENT,
                         msae_map(&model, moved + off, bytes, NULL, NULL));
        }
        for (size_t size = 0; size < bytes; size += size < 3000 ? 1 : 997) {
            CHECK(msae_map(&model, file, size, NULL, &error) != MSAE_OK && error.message[0]);
            CHECK(model.latent_bias == NULL);
        }
        free(moved);
        free(file);
        close_subject(&s);
    }
    if (!open_subject(&s, &test_recipes[0], MSAE_F16, MSAE_SIMD_AUTO)) return;
    /* a file by columns */
    unsigned char *file = saved(&s.model, &bytes);
    CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, msae_map(&model, file, bytes, NULL, NULL));
    free(file);
    /* weights that are no numbers: the mapped model is not looked at unless the descriptor says so,
       the loaded one is */
    ((unsigned char *)(uintptr_t)s.small.small_decoder)[2 * 7 + 1] = 0x7c;
    file = saved(&s.small, &bytes);
    if (msae__little_endian()) {
        msae_load_desc load = {0};
        CHECK_STATUS(MSAE_OK, msae_map(&model, file, bytes, &load, NULL));
        msae_model_free(&model);
        load.check = 1;
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_map(&model, file, bytes, &load, &error));
        CHECK(strcmp(error.message, "a weight is NaN or Inf") == 0 && model.encoder_scale == NULL);
    }
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                 msae_load(&model, msae_from_memory(file, bytes), NULL, &error));
    CHECK(strcmp(error.message, "tensor weights.decoder_rows has a NaN or Inf") == 0);
    free(file);
    /* a second time, a trainer, and what needs floats */
    CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, msae_compact(&s.small, MSAE_I8, NULL, &model, NULL));
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_compact(&s.model, MSAE_F64, NULL, &model, NULL));
    s.model.encoder[3] = 70000;
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_compact(&s.model, MSAE_F16, NULL, &model, NULL));
    CHECK(model.latent_bias == NULL);
    s.model.encoder[3] = 65519;
    CHECK_STATUS(MSAE_OK, msae_compact(&s.model, MSAE_F16, NULL, &model, NULL));
    msae_model_free(&model);
    double overlap;
    CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, msae_decoder_overlap(&s.small, 0, &overlap, NULL));
    msae_model_desc desc = {0};
    desc.n_inputs = D;
    desc.n_latents = N;
    desc.weights = MSAE_I8;
    CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, msae_model_init(&model, &desc, NULL));
    desc.weights = MSAE_U8;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_model_init_in(&model, &desc, NULL, &bytes, NULL));
    close_subject(&s);
}

/* ---------------------------------------------------------------------------------------------
   Encoding that ends early, goes by thresholds, or in slices
   ------------------------------------------------------------------------------------------ */

static void check_slices(subject *s) {
    static const size_t steps[] = {1, 4, 6, 130, N};
    msae_code want[N], got[N];
    for (size_t i = 0; i < COUNT(steps); i++) {
        for (size_t room = 0; room < 12; room += 5) {
            const float *x = s->x + (i + room) * D;
            msae_slices slices;
            size_t left = N, calls = 0, count, counted = 1;
            CHECK_STATUS(MSAE_OK, msae_encode(&s->small, s->workspace, x, room, want, &count));
            CHECK(count <= room);
            msae_encode_begin(&slices, &s->small, s->workspace, x);
            CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_encode_end(&slices, room, got, &counted));
            CHECK(counted == 0);
            while (left > 0 && calls++ < N) {
                const size_t now = msae_encode_some(&slices, steps[i]);
                CHECK(now < left && left - now <= (steps[i] + 3) / 4 * 4);
                left = now;
            }
            memset(got, 0, sizeof got);
            CHECK_STATUS(MSAE_OK, msae_encode_end(&slices, room, got, &counted));
            CHECK(counted == count);
            CHECK(memcmp(got, want, count * sizeof *got) == 0);
        }
    }
    float bad[D];
    memcpy(bad, s->x, sizeof bad);
    bad[5] = msae__bits_float(0x7fc00000u);
    msae_slices slices;
    size_t count = 1;
    msae_encode_begin(&slices, &s->small, s->workspace, bad);
    CHECK(msae_encode_some(&slices, SIZE_MAX) == 0);
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_encode_end(&slices, 5, got, &count));
    CHECK(count == 0);
}

static void in_slices(void) {
    for_every_model(check_slices);
}

/* ||x - r||^2 / ||x - mean||^2 in double. */
static double missed_share(const msae_model *model, const float *x, const msae_code *codes,
                           size_t count) {
    float moments[2], r[D];
    double off = 0, all = 0;
    msae_row_moments(model, x, moments);
    msae_decode(model, codes, count, moments, r);
    for (size_t i = 0; i < D; i++) {
        off += ((double)x[i] - r[i]) * ((double)x[i] - r[i]);
        all += ((double)x[i] - model->mean[i]) * ((double)x[i] - model->mean[i]);
    }
    return off / all;
}

/* The codes up to there, in a room that is just large enough. */
static size_t encode_until(const subject *s, const float *x, const msae_until *until,
                           msae_code *codes, double *missed) {
    size_t count = 0, again = 0;
    msae_code *room;
    CHECK_STATUS(MSAE_OK,
                 msae_encode_until(&s->small, s->workspace, x, until, N, codes, &count, missed));
    room = (msae_code *)test_alloc(count * sizeof *room);
    CHECK_STATUS(MSAE_OK,
                 msae_encode_until(&s->small, s->workspace, x, until, count, room, &again, NULL));
    CHECK(again == count && memcmp(room, codes, count * sizeof *room) == 0);
    free(room);
    return count;
}

static void check_until(subject *s) {
    msae_code all[N], got[N];
    for (size_t r = 0; r < 4; r++) {
        const float *x = s->x + r * D;
        const size_t count = test_encode(&s->small, s->workspace, x, N, all);
        msae_until until = {0, 0, 0};
        double missed = -1;
        CHECK(encode_until(s, x, &until, got, &missed) == count);
        CHECK(memcmp(got, all, count * sizeof *got) == 0 && missed == -1);
        if (count < 8) continue;
        until.k = 6;
        CHECK(encode_until(s, x, &until, got, NULL) == 6);
        until.k = 0;
        until.threshold = all[4].value; /* which is not above itself */
        if (until.threshold > 0 && all[3].value > all[4].value) {
            CHECK(encode_until(s, x, &until, got, NULL) == 4);
        }
        until.threshold = 0;
        /* what five codes miss is reached with five, unless fewer miss less still */
        size_t enough = 0;
        const double five = missed_share(&s->small, x, all, 5);
        until.target = (float)(five * 1.001);
        while (missed_share(&s->small, x, all, enough) > (double)until.target) enough++;
        CHECK(encode_until(s, x, &until, got, &missed) == enough);
        CHECK(fabs(missed - missed_share(&s->small, x, all, enough)) < 1e-4 * (1 + missed));
        until.k = 2;
        CHECK(encode_until(s, x, &until, got, &missed) == (enough < 2 ? enough : 2));
    }
}

static void until_enough(void) {
    for_every_model(check_until);
}

/* Less room: the strongest of them, still in the order of the latents. */
static void check_level_room(const subject *s, const float *x, size_t level, const msae_code *all,
                             size_t count) {
    for (size_t room = 0; room <= count && room < 8; room++) {
        msae_code *codes = (msae_code *)test_alloc(room * sizeof *codes);
        float weakest = INFINITY;
        size_t found, stronger = 0;
        CHECK_STATUS(MSAE_OK,
                     msae_encode_level(&s->small, s->workspace, x, level, room, codes, &found));
        CHECK(found == room);
        for (size_t e = 0; e < found; e++) {
            CHECK(e == 0 || codes[e].latent > codes[e - 1].latent);
            weakest = fminf(weakest, codes[e].value);
        }
        for (size_t e = 0; e < count && room > 0; e++) stronger += all[e].value > weakest;
        CHECK(stronger < room || room == 0);
        free(codes);
    }
}

static void check_levels(subject *s) {
    const msae_data data = msae_data_view(s->x, ROWS, D);
    msae_code codes[N];
    const int has_levels = s->small.recipe != MSAE_RECIPE_RELU &&
                           s->small.recipe != MSAE_RECIPE_JUMPRELU &&
                           s->small.recipe != MSAE_RECIPE_MSAE_WIDTH &&
                           s->small.activation != MSAE_ACTIVATION_IDENTITY;
    size_t count = 1;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_encode_level(&s->small, s->workspace, s->x, 0, N, codes, &count));
    CHECK(count == 0);
    if (!has_levels) {
        CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, msae_calibrate(&s->small, &data, NULL));
        return;
    }
    CHECK_STATUS(MSAE_OK, msae_calibrate(&s->small, &data, NULL));
    float *z = test_floats(ROWS * N);
    CHECK_STATUS(MSAE_OK, msae_encode_dense(&s->small, s->workspace, s->x, ROWS, N, z, NULL));
    size_t active = 0;
    for (size_t i = 0; i < ROWS * N; i++) active += z[i] != 0;
    for (size_t level = 0; level < s->small.n_levels; level++) {
        const size_t wanted = s->small.nesting[level] * ROWS;
        const float least = s->small.level_thresholds[level];
        size_t sum = 0;
        for (size_t r = 0; r < ROWS; r++) {
            const float *x = s->x + r * D;
            CHECK_STATUS(MSAE_OK,
                         msae_encode_level(&s->small, s->workspace, x, level, N, codes, &count));
            check_level_room(s, x, level, codes, count);
            for (size_t e = 0; e < count; e++) { /* in order, and those of all latents */
                CHECK(e == 0 || codes[e].latent > codes[e - 1].latent);
                CHECK(fabsf(codes[e].value - z[r * N + codes[e].latent]) <=
                      1e-5f * (1 + fabsf(codes[e].value)));
                CHECK(s->small.soft_cap > 0 || codes[e].value > least);
            }
            sum += count;
        }
        /* as many as asked for, to a few in the bin where the threshold lies */
        const size_t most = wanted < active ? wanted : active;
        CHECK(sum + 4 + most / 500 >= most && sum <= most + 4 + most / 500);
        CHECK(level == 0 || least <= s->small.level_thresholds[level - 1]);
    }
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_encode_level(&s->small, s->workspace, s->x,
                                                        s->small.n_levels, N, codes, &count));
    /* they are saved with the model */
    size_t bytes;
    unsigned char *file = saved(&s->small, &bytes);
    msae_model loaded;
    CHECK_STATUS(MSAE_OK, msae_load(&loaded, msae_from_memory(file, bytes), NULL, NULL));
    CHECK(loaded.has_level_thresholds &&
          test_same(loaded.level_thresholds, s->small.level_thresholds, loaded.n_levels));
    msae_model_free(&loaded);
    free(file);
    free(z);
    float bad[D] = {0};
    bad[3] = msae__bits_float(0x7f800000u);
    const msae_data worse = msae_data_view(bad, 1, D), narrow = msae_data_view(bad, 1, D - 1);
    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, msae_calibrate(&s->small, &worse, NULL));
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_calibrate(&s->small, &narrow, NULL));
}

static void by_thresholds(void) {
    for_every_model(check_levels);
}

int main(void) {
    RUN(rounding);
    RUN(products);
    RUN(extremes);
    RUN(as_widened);
    RUN(as_original);
    RUN(files);
    RUN(refusals);
    RUN(in_slices);
    RUN(until_enough);
    RUN(by_thresholds);
    return test_finish();
}
