/* Inference as a game or a phone has it: nothing is allocated by the calls of a frame, a mapped
   file is only read, wherever it lies, and a copy of the library for inference alone agrees with
   this one. */
#define _POSIX_C_SOURCE 200809L
#include <stddef.h>
#include <stdlib.h>

/* Whatever this file's copy of the library takes from the heap comes through here. */
static size_t heap_calls;

#define MSAE_MALLOC(bytes) (heap_calls++, malloc(bytes))
#define MSAE_FREE(memory) (heap_calls++, free(memory))

#include "test.h"

#include "inference.h"

#if defined(__unix__) || defined(__APPLE__)
#define HAS_PROTECTION
#include <fcntl.h>
#include <sys/mman.h>
#endif

enum { D = 37, N = 210, ROWS = 70, K = 9, ALL_KS = 3 };

static const msae_dtype kinds[] = {MSAE_F32, MSAE_F16, MSAE_BF16, MSAE_I8};

/* A model with random weights as a file by rows of that type (by columns where kind is COUNT). */
static unsigned char *make_file(const test_recipe *recipe, msae_dtype kind, size_t *size) {
    const msae_train_desc desc = test_desc(recipe, D, N);
    msae_model model, compact;
    unsigned char *bytes = NULL;
    if (!CHECK_STATUS(MSAE_OK, msae_model_init(&model, &desc.model, NULL))) return NULL;
    test_randomize(&model, 11);
    model.scale = 1.25f;
    if (test_is_batch_topk(recipe->recipe)) model.threshold = 0.2f;
    model.has_level_thresholds = 1;
    for (size_t i = 0; i < model.n_levels; i++) model.level_thresholds[i] = 0.5f / (float)(i + 1);
    if (kind == MSAE_DTYPE_COUNT) {
        compact = model;
    } else if (!CHECK_STATUS(MSAE_OK, msae_compact(&model, kind, NULL, &compact, NULL))) {
        return NULL;
    }
    msae_writer writer = msae_to_memory(NULL, 0);
    if (CHECK_STATUS(MSAE_OK, msae_save(&compact, &writer, NULL))) {
        *size = writer.bytes;
        bytes = (unsigned char *)test_alloc(*size);
        writer = msae_to_memory(bytes, *size);
        CHECK_STATUS(MSAE_OK, msae_save(&compact, &writer, NULL));
    }
    if (kind != MSAE_DTYPE_COUNT) msae_model_free(&compact);
    msae_model_free(&model);
    return bytes;
}

/* Two workers that take turns: what a job system does, without its threads. */
static void in_turns(void *user, size_t tasks, msae_task task, void *context) {
    (void)user;
    for (size_t i = 0; i < tasks; i++) task(context, i, i % 2);
}

/* What all calls of a frame gave. */
typedef struct results {
    msae_code codes[N], until[N], level[N], sliced[N], rows[ROWS * N];
    size_t count, untils, levels, slices, counts[ROWS];
    float decoded[D], dense[ROWS * N], recon[ALL_KS * ROWS * D];
    double missed;
} results;

static void call_everything(const msae_model *model, void *workspace, const float *x,
                            results *out) {
    const size_t ks[ALL_KS] = {1, K, N};
    msae_until until;
    msae_slices slices;
    float moments[2];
    memset(out, 0, sizeof *out);
    memset(&until, 0, sizeof until);
    until.k = 2 * K;
    until.target = 0.5f;
    CHECK_STATUS(MSAE_OK, msae_encode(model, workspace, x, K, out->codes, &out->count));
    msae_row_moments(model, x, moments);
    msae_decode(model, out->codes, out->count, moments, out->decoded);
    msae_decode(model, out->codes, out->count, NULL, out->decoded);
    CHECK_STATUS(MSAE_OK, msae_encode_until(model, workspace, x, &until, N, out->until,
                                            &out->untils, &out->missed));
    CHECK_STATUS(model->has_level_thresholds ? MSAE_OK : MSAE_ERROR_ARGUMENT,
                 msae_encode_level(model, workspace, x, 0, N, out->level, &out->levels));
    msae_encode_begin(&slices, model, workspace, x);
    while (msae_encode_some(&slices, 50) > 0) continue;
    CHECK_STATUS(MSAE_OK, msae_encode_end(&slices, K, out->sliced, &out->slices));
    CHECK_STATUS(MSAE_OK, msae_encode_rows(model, workspace, x, ROWS, 0,
                                           &(msae_rows){out->rows, out->counts, N}, NULL));
    CHECK_STATUS(MSAE_OK, msae_encode_dense(model, workspace, x, ROWS, K, out->dense, NULL));
    CHECK_STATUS(MSAE_OK, msae_forward(model, workspace, x, ROWS, ks, ALL_KS, out->recon, NULL));
}

static void nothing_is_allocated(void) {
    float *x = test_random_floats(3, ROWS * D, 1);
    results *loaded = (results *)test_alloc(sizeof *loaded);
    results *mapped = (results *)test_alloc(sizeof *mapped);
    FOR_EACH_RECIPE(recipe) {
        for (size_t i = 0; i < COUNT(kinds); i++) {
            size_t size = 0;
            unsigned char *bytes = make_file(recipe, kinds[i], &size);
            FOR_EACH_PATH(simd) {
                msae_load_desc desc;
                msae_model model;
                test_heap heap;
                memset(&desc, 0, sizeof desc);
                memset(&heap, 0, sizeof heap);
                desc.host.simd = simd;
                desc.host.allocator = test_heap_allocator(&heap);
                desc.host.parallel.parallel_for = in_turns;
                desc.host.parallel.workers = 2;
                desc.check = 1;
                for (int map = 0; map < (msae__little_endian() ? 2 : 1); map++) {
                    test_note("%s, %s, %s, %s", recipe->name,
                              msae_enum_name(MSAE_ENUM_DTYPE, (int)kinds[i]),
                              msae_enum_name(MSAE_ENUM_SIMD, (int)simd), map ? "mapped" : "loaded");
                    const msae_status status =
                        map ? msae_map(&model, bytes, size, &desc, NULL)
                            : msae_load(&model, msae_from_memory(bytes, size), &desc, NULL);
                    if (!CHECK_STATUS(MSAE_OK, status)) continue;
                    void *workspace = test_alloc(msae_workspace_bytes(&model, ROWS));
                    const size_t before = heap_calls, hooked = heap.allocations;
                    call_everything(&model, workspace, x, map ? mapped : loaded);
                    CHECK(heap_calls == before);
                    CHECK(heap.allocations == hooked);
                    msae_model_free(&model);
                    free(workspace);
                    CHECK(heap.bytes == 0);
                    if (map) CHECK(memcmp(mapped, loaded, sizeof *loaded) == 0);
                }
                CHECK(loaded->count > 0 && loaded->slices == loaded->count);
                CHECK(memcmp(loaded->codes, loaded->sliced,
                             loaded->count * sizeof *loaded->codes) == 0);
            }
            free(bytes);
        }
    }
    free(x);
    free(loaded);
    free(mapped);
}

/* A file in memory that cannot be written, `offset` bytes behind a page's beginning. */
typedef struct mapping {
    unsigned char *page, *bytes, *copy;
    size_t size, all;
} mapping;

static mapping open_mapping(const unsigned char *bytes, size_t size, size_t offset) {
    mapping m;
    m.size = size;
    m.all = size + offset;
    m.copy = (unsigned char *)test_alloc(size);
    memcpy(m.copy, bytes, size);
#ifdef HAS_PROTECTION
    const int zero = open("/dev/zero", O_RDWR);
    m.page = (unsigned char *)mmap(NULL, m.all, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    close(zero);
    if (m.page == (unsigned char *)MAP_FAILED) {
        printf("no memory to map\n");
        exit(1);
    }
#else
    m.page = (unsigned char *)test_alloc(m.all);
#endif
    m.bytes = m.page + offset;
    memcpy(m.bytes, bytes, size);
#ifdef HAS_PROTECTION
    CHECK(mprotect(m.page, m.all, PROT_READ) == 0);
#endif
    return m;
}

static void close_mapping(mapping *m) {
    CHECK(memcmp(m->bytes, m->copy, m->size) == 0);
#ifdef HAS_PROTECTION
    munmap(m->page, m->all);
#else
    free(m->page);
#endif
    free(m->copy);
}

/* Any write would end this program. */
static void mapped_memory_is_only_read(void) {
    float *x = test_random_floats(4, ROWS * D, 1);
    results *mapped = (results *)test_alloc(sizeof *mapped);
    results *loaded = (results *)test_alloc(sizeof *loaded);
    if (!msae__little_endian()) return;
    FOR_EACH_RECIPE(recipe) {
        for (size_t i = 0; i < COUNT(kinds); i++) {
            size_t size = 0;
            unsigned char *bytes = make_file(recipe, kinds[i], &size);
            for (size_t offset = 0; offset < 64; offset += 20) {
                mapping m = open_mapping(bytes, size, offset);
                msae_load_desc looked_at;
                msae_model model, other;
                memset(&looked_at, 0, sizeof looked_at);
                looked_at.check = 1;
                test_note("%s, %s, offset %zu", recipe->name,
                          msae_enum_name(MSAE_ENUM_DTYPE, (int)kinds[i]), offset);
                CHECK_STATUS(MSAE_OK, msae_load(&other, msae_from_memory(bytes, size), NULL, NULL));
                if (CHECK_STATUS(MSAE_OK, msae_map(&model, m.bytes, size, NULL, NULL))) {
                    void *workspace = test_alloc(msae_workspace_bytes(&model, ROWS));
                    call_everything(&model, workspace, x, mapped);
                    call_everything(&other, workspace, x, loaded);
                    CHECK(memcmp(mapped, loaded, sizeof *loaded) == 0);
                    free(workspace);
                }
                msae_model_free(&model);
                CHECK_STATUS(MSAE_OK, msae_map(&model, m.bytes, size, &looked_at, NULL));
                msae_model_free(&model);
                msae_model_free(&other);
                close_mapping(&m);
            }
            free(bytes);
        }
    }
    free(x);
    free(mapped);
    free(loaded);
}

static void map_refuses(void) {
    size_t size = 0, columns = 0;
    unsigned char *bytes = make_file(&test_recipes[0], MSAE_F16, &size);
    unsigned char *by_columns = make_file(&test_recipes[0], MSAE_DTYPE_COUNT, &columns);
    msae_model model;
    msae_error error;
    if (!msae__little_endian()) {
        CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, msae_map(&model, bytes, size, NULL, NULL));
    } else {
        for (size_t offset = 1; offset < 8; offset++) {
            mapping m = open_mapping(bytes, size, offset);
            test_note("offset %zu", offset);
            CHECK_STATUS(offset == 4 ? MSAE_OK : MSAE_ERROR_ARGUMENT,
                         msae_map(&model, m.bytes, size, NULL, &error));
            CHECK_STATUS(offset == 4 ? MSAE_OK : MSAE_ERROR_ARGUMENT,
                         pocket.map(&model, m.bytes, size, NULL, &error));
            close_mapping(&m);
        }
        CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, msae_map(&model, by_columns, columns, NULL, &error));
        CHECK_STATUS(MSAE_ERROR_UNSUPPORTED, pocket.map(&model, by_columns, columns, NULL, &error));
    }
    free(bytes);
    free(by_columns);
}

static int close_to(const float *a, const float *b, size_t count) {
    return test_error(a, b, count) <= 2e-6;
}

/* One row gives the same codes to the bit, but where the two have functions of their own. */
static void pocket_agrees(void) {
    float *x = test_random_floats(5, ROWS * D, 1);
    float *ours = test_floats(ALL_KS * ROWS * D), *theirs = test_floats(ALL_KS * ROWS * D);
    const size_t ks[ALL_KS] = {1, K, N};
    FOR_EACH_RECIPE(recipe) {
        for (size_t i = 0; i <= COUNT(kinds); i++) {
            const msae_dtype kind = i < COUNT(kinds) ? kinds[i] : MSAE_DTYPE_COUNT;
            size_t size = 0;
            unsigned char *bytes = make_file(recipe, kind, &size);
            FOR_EACH_PATH(simd) {
                msae_load_desc desc;
                msae_model model, small, checked;
                msae_code by_us[N], by_them[N];
                memset(&desc, 0, sizeof desc);
                desc.host.simd = simd;
                test_note("%s, %s, %s", recipe->name, msae_enum_name(MSAE_ENUM_DTYPE, (int)kind),
                          msae_enum_name(MSAE_ENUM_SIMD, (int)simd));
                if (!pocket.available(simd)) {
                    CHECK(simd == MSAE_SIMD_AVX512);
                    CHECK_STATUS(MSAE_ERROR_UNSUPPORTED,
                                 pocket.load(&small, msae_from_memory(bytes, size), &desc, NULL));
                    continue;
                }
                CHECK_STATUS(MSAE_OK,
                             msae_load(&model, msae_from_memory(bytes, size), &desc, NULL));
                if (!CHECK_STATUS(MSAE_OK,
                                  pocket.load(&small, msae_from_memory(bytes, size), &desc, NULL)))
                    continue;
                desc.check = 1;
                CHECK_STATUS(kind == MSAE_DTYPE_COUNT || !msae__little_endian()
                                 ? MSAE_ERROR_UNSUPPORTED
                                 : MSAE_OK,
                             pocket.map(&checked, bytes, size, &desc, NULL));
                pocket.release(&checked);
                void *workspace = test_alloc(msae_workspace_bytes(&model, ROWS));
                CHECK(pocket.workspace(&small, ROWS) <= msae_workspace_bytes(&model, ROWS));
                const int exact = recipe->soft_cap == 0 && !recipe->normalize;
                for (size_t r = 0; r < ROWS; r++) {
                    const float *row = x + r * D;
                    size_t count = 0, counted = 0;
                    for (size_t room = 0; room <= 64; room += 8) {
                        size_t same = 0;
                        CHECK_STATUS(MSAE_OK,
                                     msae_encode(&model, workspace, row, room, by_us, &count));
                        CHECK_STATUS(MSAE_OK, pocket.encode(&small, workspace, row, room, by_them,
                                                            &counted));
                        CHECK(counted == count);
                        for (size_t e = 0; e < count; e++) {
                            same += by_us[e].latent == by_them[e].latent &&
                                    close_to(&by_them[e].value, &by_us[e].value, 1);
                        }
                        CHECK(same == count);
                        if (exact) CHECK(memcmp(by_us, by_them, count * sizeof *by_us) == 0);
                    }
                    msae_slices slices;
                    CHECK_STATUS(MSAE_OK, pocket.encode(&small, workspace, row, K, by_us, &count));
                    pocket.begin(&slices, &small, workspace, row);
                    while (pocket.some(&slices, 12) > 0) continue;
                    CHECK_STATUS(MSAE_OK, pocket.end(&slices, K, by_them, &counted));
                    CHECK(counted == count);
                    CHECK(memcmp(by_us, by_them, count * sizeof *by_us) == 0);
                    float moments[2], few[2];
                    msae_row_moments(&model, row, moments);
                    pocket.moments(&small, row, few);
                    CHECK(close_to(few, moments, 2));
                    msae_decode(&model, by_us, count, moments, ours);
                    pocket.decode(&small, by_us, count, moments, theirs);
                    CHECK(simd > MSAE_SIMD_AVX2 ? close_to(theirs, ours, D)
                                                : test_same(theirs, ours, D));
                    CHECK(msae_encode_level(&model, workspace, row, 0, N, by_us, &count) ==
                          pocket.level(&small, workspace, row, 0, N, by_them, &counted));
                    CHECK(count == counted);
                }
                CHECK_STATUS(MSAE_OK,
                             msae_forward(&model, workspace, x, ROWS, ks, ALL_KS, ours, NULL));
                CHECK_STATUS(MSAE_OK,
                             pocket.forward(&small, workspace, x, ROWS, ks, ALL_KS, theirs, NULL));
                CHECK(close_to(theirs, ours, ALL_KS * ROWS * D));
                msae_model_free(&model);
                pocket.release(&small);
                free(workspace);
            }
            free(bytes);
        }
    }
    free(x);
    free(ours);
    free(theirs);
}

/* The same bytes are refused, with the same code at the same place. */
static void pocket_refuses_the_same(void) {
    size_t size = 0;
    unsigned char *bytes = make_file(&test_recipes[9], MSAE_I8, &size);
    const size_t header = 8 + (size_t)msae__load_le(bytes, 8);
    msae_model model, small;
    msae_error ours, theirs;
    msae_load_desc desc;
    for (size_t at = 0; at < header + 64 && at < size; at++) {
        const unsigned char was = bytes[at];
        for (int change = 0; change < 3; change++) {
            const size_t cut = change == 2 ? at : size;
            bytes[at] = (unsigned char)(change == 0 ? was ^ 1 : change == 1 ? '"' : was);
            ours.code = theirs.code = MSAE_OK;
            ours.position = theirs.position = 0;
            test_note("byte %zu, change %d", at, change);
            CHECK(msae_load(&model, msae_from_memory(bytes, cut), NULL, &ours) ==
                  pocket.load(&small, msae_from_memory(bytes, cut), NULL, &theirs));
            CHECK(ours.code == theirs.code && ours.position == theirs.position);
            if (theirs.code) {
                CHECK(strcmp(theirs.message, msae_status_text(theirs.code)) == 0);
            }
            msae_model_free(&model);
            pocket.release(&small);
        }
        bytes[at] = was;
    }
    memset(&desc, 0, sizeof desc);
    desc.widen = 1;
    CHECK_STATUS(MSAE_ERROR_UNSUPPORTED,
                 pocket.load(&model, msae_from_memory(bytes, size), &desc, NULL));
    free(bytes);
}

/* Puts one letter into each place where `text` is. */
static void respell(unsigned char *bytes, size_t size, const char *text, size_t place,
                    char letter) {
    const size_t length = strlen(text);
    for (size_t at = 0; at + length <= size; at++) {
        if (memcmp(bytes + at, text, length) == 0) bytes[at + place] = (unsigned char)letter;
    }
}

/* Files of nested models that do not say k, as version 0.5.0 wrote them. */
static void pocket_knows_the_k_of_old_files(void) {
    FOR_EACH_RECIPE(recipe) {
        size_t size = 0;
        unsigned char *bytes = make_file(recipe, MSAE_F32, &size);
        msae_model model, small;
        if (!msae__is_nested(recipe->recipe)) {
            free(bytes);
            continue;
        }
        test_note("%s", recipe->name);
        for (int old = 0; old < 2; old++) {
            if (old) {
                respell(bytes, size, "\"msae.k\":\"5\"", 6, 'K');
                respell(bytes, size, "\"msae.checksum\"", 6, 'C');
                respell(bytes, size, "\"msae.version\"", 6, 'V');
            }
            CHECK_STATUS(MSAE_OK, msae_load(&model, msae_from_memory(bytes, size), NULL, NULL));
            CHECK_STATUS(MSAE_OK, pocket.load(&small, msae_from_memory(bytes, size), NULL, NULL));
            CHECK(model.k == (old ? 64 : 5) && small.k == model.k);
            msae_model_free(&model);
            pocket.release(&small);
        }
        free(bytes);
    }
}

/* Its own functions against the library's. */
static void pocket_computes(void) {
    const float big = msae__bits_float(0x7f800000u), nan = msae__bits_float(0x7fc00000u);
    double worst[3] = {0, 0, 0};
    for (int i = -110000; i <= 90000; i++) {
        const float v = (float)i / 1000 + 1e-5f;
        const double e = exp((double)v), t = tanh((double)v / 5);
        if (e > 1e-37 && e < 3e38) {
            worst[0] = fmax(worst[0], fabs((double)pocket.exp(v) - e) / e);
        }
        worst[1] = fmax(worst[1], fabs((double)pocket.tanh(v / 5) - t) / fabs(t));
    }
    for (double v = 1e-80; v < 1e80; v *= 1.0371) {
        worst[2] = fmax(worst[2], fabs(pocket.root(v) - sqrt(v)) / sqrt(v));
    }
    test_note("exp %.3g, tanh %.3g, sqrt %.3g", worst[0], worst[1], worst[2]);
    CHECK(worst[0] < 1e-7 && worst[1] < 2e-7 && worst[2] < 1e-15);
    CHECK(pocket.root(0) == 0 && pocket.exp(0) == 1 && pocket.tanh(0) == 0);
    CHECK(pocket.exp(-1000) == 0 && !msae__is_finite(pocket.exp(89)));
    CHECK(!msae__is_finite(pocket.exp(big)) && pocket.exp(-big) == 0);
    CHECK(!msae__is_finite(pocket.exp(nan)));
    CHECK(pocket.tanh(1e30f) == 1 && pocket.tanh(-50) == -1 && pocket.tanh(1e-20f) == 1e-20f);
}

int main(void) {
    RUN(nothing_is_allocated);
    RUN(mapped_memory_is_only_read);
    RUN(map_refuses);
    RUN(pocket_agrees);
    RUN(pocket_refuses_the_same);
    RUN(pocket_knows_the_k_of_old_files);
    RUN(pocket_computes);
    return test_finish();
}
