/* Rows from anywhere: streams give every row once in an order that does not depend on how they are
   read, runs over sources end with the bits of runs over memory, files are one set of rows, and
   several processes end with one model. */
#include "test.h"

#ifdef MSAE_USE_PTHREADS
#include <pthread.h>
#endif

/* ---------------------------------------------------------------------------------------------
   Sources
   ------------------------------------------------------------------------------------------ */

/* Rows in memory behind a callback that checks what it is asked for. */
typedef struct shelf {
    const float *x;
    uint64_t rows;
    size_t cols;
    size_t reads, most; /* calls so far; rows of the largest */
    uint64_t rows_read;
    size_t fail_at, fail_for; /* this call, from 1 (0: none), and so many in all */
    int inside;
} shelf;

static msae_status read_shelf(void *user, uint64_t first, size_t rows, float *out,
                              msae_error *error) {
    shelf *s = (shelf *)user;
    CHECK(error != NULL && !s->inside && rows > 0);
    CHECK(first < s->rows && rows <= s->rows - first);
    s->inside = 1;
    s->reads++;
    s->rows_read += rows;
    if (rows > s->most) s->most = rows;
    if (s->fail_at && s->reads >= s->fail_at && s->reads < s->fail_at + s->fail_for) {
        s->inside = 0;
        memset(out, 0xff, rows * s->cols * sizeof *out); /* what nobody may use */
        return msae__fail(error, MSAE_ERROR_IO, "the shelf is out of reach");
    }
    memcpy(out, s->x + (size_t)first * s->cols, rows * s->cols * sizeof *out);
    s->inside = 0;
    return MSAE_OK;
}

static shelf make_shelf(const float *x, size_t rows, size_t cols) {
    shelf s;
    memset(&s, 0, sizeof s);
    s.x = x;
    s.rows = rows;
    s.cols = cols;
    return s;
}

static msae_source shelf_source(shelf *s) {
    msae_source source = {s->rows, s->cols, read_shelf, s, NULL};
    return source;
}

/* Rows that say which they are. */
static float *numbered_rows(size_t rows, size_t cols) {
    float *x = test_floats(rows * cols);
    for (size_t i = 0; i < rows * cols; i++) x[i] = (float)(i / cols);
    return x;
}

/* Ways to read ahead: between the steps, by a thread, by one that is never to be had, at once, and
   only when it is waited for. */
typedef struct lazy {
    msae_task task;
    void *context;
} lazy;

static int start_never(void *user, msae_task task, void *context) {
    (void)user;
    (void)task;
    (void)context;
    return 0;
}

static int start_at_once(void *user, msae_task task, void *context) {
    (void)user;
    task(context, 0, 0);
    return 1;
}

static void wait_not(void *user) {
    (void)user;
}

static int start_lazily(void *user, msae_task task, void *context) {
    lazy *l = (lazy *)user;
    CHECK(l->task == NULL);
    l->task = task;
    l->context = context;
    return 1;
}

static void wait_lazily(void *user) {
    lazy *l = (lazy *)user;
    if (CHECK(l->task != NULL)) l->task(l->context, 0, 0);
    l->task = NULL;
}

enum { READ_NOT, READ_NEVER, READ_AT_ONCE, READ_LAZILY, READ_BY_THREAD, READ_WAYS };

static lazy lazy_thread;
static msae_background thread_background;

static msae_background way_to_read(int way) {
    msae_background b;
    memset(&b, 0, sizeof b);
    b.start = way == READ_NEVER ? start_never : way == READ_AT_ONCE ? start_at_once : start_lazily;
    b.wait = way == READ_LAZILY ? wait_lazily : wait_not;
    b.user = &lazy_thread;
    if (way == READ_NOT) memset(&b, 0, sizeof b);
    return way == READ_BY_THREAD ? thread_background : b;
}

/* ---------------------------------------------------------------------------------------------
   Order
   ------------------------------------------------------------------------------------------ */

/* What a stream gave out: the rows of all batches, and the position behind each of them. */
typedef struct walk {
    size_t rows, batches;
    uint64_t row[4096];
    size_t ends[8192]; /* rows so far, at the end of each batch */
    size_t all[8192];
    msae_position at[8192];
} walk;

/* Appends the next batch; 0 where there is none to be had. */
static int take_batch(msae_stream *stream, walk *w) {
    msae_batch batch;
    msae_error error;
    if (!CHECK_STATUS(MSAE_OK, msae_stream_next(stream, &batch, &error))) return 0;
    if (!CHECK(w->rows + batch.rows <= COUNT(w->row) && w->batches < COUNT(w->all))) return 0;
    if (!CHECK(batch.rows <= batch.all_rows)) return 0;
    for (size_t i = 0; i < batch.rows; i++) {
        float first;
        const float *x = (const float *)batch.data->values + batch.index[i] * batch.data->cols;
        CHECK(batch.index[i] < batch.data->rows && batch.data->native);
        memcpy(&first, x, sizeof first);
        w->row[w->rows] = msae_stream_row(stream, batch.index[i]);
        CHECK(first == (float)w->row[w->rows]); /* no stale row, and none that was overwritten */
        w->rows++;
    }
    w->all[w->batches] = batch.all_rows;
    w->at[w->batches] = stream->at;
    w->ends[w->batches++] = w->rows;
    return 1;
}

/* Goes on to the end of an epoch. */
static int take_epoch(msae_stream *stream, walk *w) {
    do {
        if (!take_batch(stream, w)) return 0;
    } while (w->all[w->batches - 1] > 0);
    return 1;
}

static void take_epochs(const msae_source *source, const msae_stream_desc *desc,
                        const msae_position *at, size_t epochs, walk *w) {
    msae_stream stream;
    w->rows = w->batches = 0;
    if (!CHECK_STATUS(MSAE_OK, msae_stream_init(&stream, source, desc, at, NULL))) return;
    while (epochs-- > 0 && take_epoch(&stream, w)) continue;
    msae_stream_free(&stream);
}

static int same_walk(const walk *a, const walk *b) {
    return a->rows == b->rows && a->batches == b->batches &&
           memcmp(a->row, b->row, a->rows * sizeof *a->row) == 0 &&
           memcmp(a->all, b->all, a->batches * sizeof *a->all) == 0 &&
           memcmp(a->ends, b->ends, a->batches * sizeof *a->ends) == 0;
}

/* Each epoch has each row once and batches of the right sizes. */
static void check_epochs(const walk *w, size_t rows, size_t batch, size_t epochs) {
    const size_t steps = (rows - 1) / batch + 1;
    unsigned char seen[512];
    if (!CHECK(w->rows == rows * epochs && w->batches == (steps + 1) * epochs)) return;
    for (size_t e = 0; e < epochs; e++) {
        memset(seen, 0, sizeof seen);
        for (size_t i = 0; i < rows; i++) {
            const uint64_t row = w->row[e * rows + i];
            if (CHECK(row < rows)) CHECK(seen[row]++ == 0);
        }
        for (size_t s = 0; s <= steps; s++) {
            const size_t left = rows - msae__min(rows, s * batch);
            CHECK(w->all[e * (steps + 1) + s] == msae__min(left, batch));
        }
    }
}

/* Rows of one block lie within a window. */
static void check_blocks(const walk *w, const msae_position *at) {
    const size_t rows = (size_t)at->rows;
    for (size_t i = 0; i < w->rows && at->window_rows > 0; i++) {
        for (size_t j = i + 1; j < w->rows && i / rows == j / rows; j++) {
            if (w->row[i] / at->block_rows == w->row[j] / at->block_rows) {
                CHECK(j - i < at->window_rows);
            }
        }
    }
}

/* The memory that the header promises: the rows of two windows (or of all), twelve bytes a row and
   block for the order they come in, and something small. */
static void check_memory(const msae_stream *stream, const msae_source *source, size_t parts) {
    const msae_position *at = &stream->at;
    const double rows = (double)at->rows, block = (double)stream->state->block_rows;
    const double window = at->window_rows > 0 ? 2 * (double)at->window_rows : rows + block;
    const double part = window / (double)parts + 2 * block;
    const double values = source->data ? 0 : 4 * part * (double)source->cols;
    const double orders = 8 * (2 * window + rows / block + 1 + (double)at->batch);
    CHECK((double)stream->memory_bytes <= values + orders + 2048);
}

static const size_t many_rows[] = {1, 2, 7, 36, 97, 130};
static const size_t many_batches[] = {1, 3, 8, 41, 200};
static const size_t many_blocks[] = {0, 1, 3, 7, 32, 97, 1000};
static const size_t many_windows[] = {0, 1, 20, 49, 96, 1000};

/* A test's shapes of streams, as many as all of the above together. */
#define SHAPES (COUNT(many_rows) * COUNT(many_batches) * COUNT(many_blocks) * COUNT(many_windows))

static size_t shape(size_t i, msae_stream_desc *desc) {
    memset(desc, 0, sizeof *desc);
    desc->seed = 1000 + i;
    desc->window_rows = many_windows[i % COUNT(many_windows)];
    i /= COUNT(many_windows);
    desc->block_rows = many_blocks[i % COUNT(many_blocks)];
    i /= COUNT(many_blocks);
    desc->batch = many_batches[i % COUNT(many_batches)];
    i /= COUNT(many_batches);
    test_note("%zu rows, batch %zu, blocks of %zu, windows of %zu", many_rows[i], desc->batch,
              desc->block_rows, desc->window_rows);
    return many_rows[i];
}

static walk first_walk, second_walk;

static void every_row_once(void) {
    float *x = numbered_rows(130, 3);
    size_t windowed = 0;
    for (size_t i = 0; i < SHAPES; i++) {
        msae_stream_desc desc;
        const size_t rows = shape(i, &desc);
        const msae_data data = msae_data_view(x, rows, 3);
        const msae_source direct = msae_source_data(&data);
        msae_stream stream;
        take_epochs(&direct, &desc, NULL, 3, &first_walk);
        check_epochs(&first_walk, rows, desc.batch, 3);
        if (test_failures) break;
        const msae_position at = first_walk.at[0];
        CHECK(at.window_rows == 0 || at.window_rows < rows);
        CHECK(at.window_rows == 0 || at.window_rows >= desc.batch + at.block_rows);
        CHECK(at.window_rows == 0 || at.window_rows >= desc.window_rows);
        windowed += at.window_rows > 0;
        check_blocks(&first_walk, &at);
        if (rows > 7) CHECK(memcmp(first_walk.row, first_walk.row + rows, rows * 8) != 0);
        for (int way = 0; way < READ_WAYS; way++) {
            shelf s = make_shelf(x, rows, 3);
            const msae_source source = shelf_source(&s);
            desc.background = way_to_read(way);
            take_epochs(&source, &desc, NULL, 3, &second_walk);
            CHECK(same_walk(&second_walk, &first_walk));
            CHECK(s.rows_read == (at.window_rows > 0 ? 3 : 1) * rows); /* none twice */
            CHECK(at.window_rows == 0 || s.most <= at.block_rows);
            CHECK_STATUS(MSAE_OK, msae_stream_init(&stream, &source, &desc, NULL, NULL));
            check_memory(&stream, &source, 1);
            msae_stream_free(&stream);
        }
    }
    CHECK(windowed > SHAPES / 10);
    free(x);
}

/* A source that fits into one window: msae_sampler's order. */
static void as_the_sampler(void) {
    float *x = numbered_rows(130, 3);
    for (size_t i = 0; i < SHAPES; i++) {
        msae_stream_desc desc;
        msae_sampler sampler;
        const size_t rows = shape(i, &desc);
        shelf s = make_shelf(x, rows, 3);
        const msae_source source = shelf_source(&s);
        if (desc.window_rows != 0 && desc.window_rows < rows) continue;
        take_epochs(&source, &desc, NULL, 2, &first_walk);
        CHECK_STATUS(MSAE_OK, msae_sampler_init(&sampler, rows, desc.batch, desc.seed, NULL, NULL));
        for (size_t b = 0, at = 0; b < first_walk.batches; b++) {
            const size_t *index;
            const size_t count = msae_sampler_next(&sampler, &index);
            CHECK(count == first_walk.all[b]);
            for (size_t r = 0; r < count; r++) CHECK(index[r] == first_walk.row[at++]);
            CHECK(memcmp(&sampler.at, &first_walk.at[b], sizeof sampler.at) == 0);
        }
        msae_sampler_free(&sampler);
    }
    free(x);
}

/* N parts together give what one gives, each its own blocks. */
static void parts_of_a_batch(void) {
    static const size_t many_parts[] = {2, 3, 5};
    float *x = numbered_rows(130, 3);
    size_t without_rows = 0;
    for (size_t i = 0; i < SHAPES * COUNT(many_parts); i++) {
        static walk walks[5];
        size_t at[5] = {0};
        msae_stream_desc desc;
        const size_t rows = shape(i / COUNT(many_parts), &desc);
        const size_t parts = many_parts[i % COUNT(many_parts)];
        const msae_data data = msae_data_view(x, rows, 3);
        const msae_source direct = msae_source_data(&data);
        uint64_t rows_read = 0;
        if (i % 2) continue; /* as many as there is time for */
        take_epochs(&direct, &desc, NULL, 2, &first_walk);
        for (size_t p = 0; p < parts; p++) {
            shelf s = make_shelf(x, rows, 3);
            const msae_source source = shelf_source(&s);
            msae_stream stream;
            desc.part = p;
            desc.parts = parts;
            desc.background = way_to_read((int)(p % READ_BY_THREAD));
            take_epochs(i % 4 ? &source : &direct, &desc, NULL, 2, &walks[p]);
            CHECK_STATUS(MSAE_OK, msae_stream_init(&stream, &source, &desc, NULL, NULL));
            check_memory(&stream, &source, parts);
            msae_stream_free(&stream);
            CHECK(walks[p].batches == first_walk.batches);
            without_rows += walks[p].rows == 0;
            rows_read += s.rows_read;
        }
        if (test_failures) break;
        CHECK(i % 4 == 0 || rows_read == (first_walk.at[0].window_rows > 0 ? 2 : 1) * rows);
        for (size_t b = 0; b < first_walk.batches; b++) {
            const size_t first = b > 0 ? first_walk.ends[b - 1] : 0;
            for (size_t r = first; r < first_walk.ends[b]; r++) {
                size_t owners = 0;
                for (size_t p = 0; p < parts; p++) {
                    if (at[p] < walks[p].ends[b] && walks[p].row[at[p]] == first_walk.row[r]) {
                        at[p]++;
                        owners++;
                    }
                }
                CHECK(owners == 1);
            }
            for (size_t p = 0; p < parts; p++) {
                CHECK(at[p] == walks[p].ends[b] && walks[p].all[b] == first_walk.all[b]);
                CHECK(memcmp(&walks[p].at[b], &first_walk.at[b], sizeof first_walk.at[b]) == 0);
            }
        }
    }
    CHECK(without_rows > 0);
    free(x);
}

/* Over many epochs each row stands at each place alike (chi-square, 29 degrees of freedom: mean 29,
   deviation 7.6), and rows come in either order alike, in one block and in two. */
static void alike_everywhere(void) {
    enum { ROWS = 30, EPOCHS = 20000 };
    static unsigned counts[ROWS][ROWS], before[ROWS][ROWS];
    float *x = numbered_rows(ROWS, 1);
    const msae_data data = msae_data_view(x, ROWS, 1);
    const msae_source source = msae_source_data(&data);
    msae_stream_desc desc;
    msae_stream stream;
    double sum = 0, most = 0, skew = 0;
    memset(&desc, 0, sizeof desc);
    memset(counts, 0, sizeof counts);
    memset(before, 0, sizeof before);
    desc.batch = 5;
    desc.block_rows = 5;
    desc.window_rows = 10;
    desc.seed = 1;
    CHECK_STATUS(MSAE_OK, msae_stream_init(&stream, &source, &desc, NULL, NULL));
    CHECK(stream.at.window_rows == 10 && stream.at.block_rows == 5);
    for (size_t e = 0; e < EPOCHS; e++) {
        first_walk.rows = first_walk.batches = 0;
        if (!take_epoch(&stream, &first_walk)) break;
        for (size_t i = 0; i < ROWS; i++) {
            counts[first_walk.row[i]][i]++;
            for (size_t j = i + 1; j < ROWS; j++) before[first_walk.row[i]][first_walk.row[j]]++;
        }
    }
    msae_stream_free(&stream);
    for (size_t r = 0; r < ROWS; r++) {
        const double expected = (double)EPOCHS / ROWS;
        double square = 0;
        for (size_t i = 0; i < ROWS; i++) {
            const double off = counts[r][i] - expected;
            square += off * off / expected;
        }
        sum += square / ROWS;
        if (square > most) most = square;
        for (size_t i = 0; i < r; i++) {
            const double off = fabs(before[r][i] - EPOCHS / 2.0) / sqrt(EPOCHS / 4.0);
            if (off > skew) skew = off;
        }
    }
    test_note("chi-square mean %g, most %g; order off by %g deviations", sum, most, skew);
    CHECK(sum > 24 && sum < 34 && most < 60 && skew < 4.5);
    free(x);
}

/* The bound on a batch's mean that the header states: reached on sorted data, far off on shuffled. */
static void variance_of_batches(void) {
    enum { ROWS = 4096, BATCH = 64, BLOCK = 32, WINDOW = 512, EPOCHS = 150 };
    for (int sorted = 0; sorted < 2; sorted++) {
        float *x = numbered_rows(ROWS, 1);
        uint64_t seed = 5;
        double spread = 0, sum = 0;
        const msae_data data = msae_data_view(x, ROWS, 1);
        const msae_source source = msae_source_data(&data);
        const double mean = (ROWS - 1) / 2.0;
        msae_stream_desc desc;
        msae_stream stream;
        msae_batch batch;
        size_t batches = 0;
        for (size_t i = ROWS; !sorted && i-- > 1;) {
            const size_t other = (size_t)(test_random(&seed) % (i + 1));
            const float value = x[i];
            x[i] = x[other];
            x[other] = value;
        }
        for (size_t i = 0; i < ROWS; i++) spread += (x[i] - mean) * (x[i] - mean) / ROWS;
        memset(&desc, 0, sizeof desc);
        desc.batch = BATCH;
        desc.block_rows = BLOCK;
        desc.window_rows = WINDOW;
        CHECK_STATUS(MSAE_OK, msae_stream_init(&stream, &source, &desc, NULL, NULL));
        while (stream.at.epoch < EPOCHS) {
            double off = 0;
            if (!CHECK_STATUS(MSAE_OK, msae_stream_next(&stream, &batch, NULL))) break;
            if (batch.all_rows == 0) continue;
            for (size_t i = 0; i < batch.rows; i++) off += (x[batch.index[i]] - mean) / BATCH;
            sum += off * off;
            batches++;
        }
        msae_stream_free(&stream);
        const double all = spread / BATCH, most = spread * (1.0 / BATCH + 1.0 * BLOCK / WINDOW);
        test_note("sorted %d: %g of the bound, %g of shuffling all", sorted,
                  sum / (double)batches / most, sum / (double)batches / all);
        CHECK(sum / (double)batches <= most * 1.03);
        CHECK(sorted ? sum / (double)batches > 0.7 * most : sum / (double)batches < 1.2 * all);
        free(x);
    }
}

/* ---------------------------------------------------------------------------------------------
   Positions
   ------------------------------------------------------------------------------------------ */

/* From the position behind every batch, and from every row in between, a stream gives what the
   first one gave. */
static void goes_on_from_everywhere(void) {
    float *x = numbered_rows(130, 2);
    for (size_t i = 0; i < SHAPES; i += 7) {
        msae_stream_desc desc, other;
        const size_t rows = shape(i, &desc);
        shelf s = make_shelf(x, rows, 2);
        const msae_source source = shelf_source(&s);
        take_epochs(&source, &desc, NULL, 3, &first_walk);
        if (test_failures) break;
        for (size_t b = 0; b < first_walk.batches; b++) {
            const msae_position at = first_walk.at[b];
            const size_t left = 3 - (size_t)at.epoch;
            /* all but the background is the position's */
            memset(&other, 0, sizeof other);
            other.batch = desc.batch + 1;
            other.window_rows = 9 + desc.window_rows / 2;
            other.block_rows = 2;
            other.background = way_to_read((int)(b % READ_WAYS));
            if (b > 12 && b + 12 < first_walk.batches && b % 5) continue;
            take_epochs(&source, &other, &at, left, &second_walk);
            CHECK(second_walk.batches == first_walk.batches - b - 1);
            CHECK(second_walk.rows == first_walk.rows - first_walk.ends[b]);
            CHECK(memcmp(second_walk.row, first_walk.row + first_walk.ends[b],
                         second_walk.rows * sizeof *second_walk.row) == 0);
            CHECK(memcmp(second_walk.at, first_walk.at + b + 1,
                         second_walk.batches * sizeof *second_walk.at) == 0);
        }
        /* in the middle of a batch */
        for (size_t r = 0; r <= rows && first_walk.batches > 0; r++) {
            msae_position at = first_walk.at[0];
            at.row = r;
            take_epochs(&source, &desc, &at, 1, &second_walk);
            CHECK(second_walk.rows == rows - r);
            CHECK(memcmp(second_walk.row, first_walk.row + r,
                         second_walk.rows * sizeof *second_walk.row) == 0);
        }
    }
    free(x);
}

/* The position may be the one in the stream itself. */
static void from_its_own_position(void) {
    float *x = numbered_rows(97, 2);
    shelf s = make_shelf(x, 97, 2);
    const msae_source source = shelf_source(&s);
    msae_stream_desc desc;
    msae_stream stream;
    memset(&desc, 0, sizeof desc);
    desc.batch = 10;
    desc.block_rows = 4;
    desc.window_rows = 20;
    take_epochs(&source, &desc, NULL, 1, &first_walk);
    CHECK_STATUS(MSAE_OK, msae_stream_init(&stream, &source, &desc, NULL, NULL));
    second_walk.rows = second_walk.batches = 0;
    for (size_t b = 0; b < first_walk.batches; b++) {
        const msae_stream before = stream;
        CHECK(take_batch(&stream, &second_walk));
        msae_stream old = stream;
        CHECK_STATUS(MSAE_OK, msae_stream_init(&stream, &source, &desc, &stream.at, NULL));
        msae_stream_free(&old);
        CHECK(before.at.rows == stream.at.rows);
    }
    CHECK(same_walk(&first_walk, &second_walk));
    msae_stream_free(&stream);
    free(x);
}

static void hostile_positions(void) {
    static const uint64_t blocks[][2] = {
        /* blocks, windows: of 97 rows in batches of 10, so that 4, 20 and 5, 15 are well */
        {0, 20},
        {0, 1},
        {4, 0},
        {4, 19},
        {4, 21},
        {4, 12},
        {4, 100},
        {4, 96 + 4},
        {97, 97},
        {98, 196},
        {1, 97},
        {1, 10},
        {4, UINT64_MAX},
        {4, UINT64_MAX - 3},
        {UINT64_MAX, UINT64_MAX},
        {UINT64_MAX, 20},
        {(uint64_t)1 << 63, 0},
        {(uint64_t)1 << 63, 20},
        {(uint64_t)1 << 62, (uint64_t)1 << 63},
        {20, 4},
    };
    float *x = numbered_rows(97, 2);
    shelf s = make_shelf(x, 97, 2);
    const msae_source source = shelf_source(&s);
    test_heap heap;
    msae_stream_desc desc;
    msae_stream stream;
    msae_error error;
    memset(&desc, 0, sizeof desc);
    memset(&heap, 0, sizeof heap);
    desc.batch = 10;
    desc.block_rows = 4;
    desc.window_rows = 20;
    take_epochs(&source, &desc, NULL, 1, &first_walk);
    desc.allocator = test_heap_allocator(&heap);
    const msae_position good = first_walk.at[3];
    CHECK(good.block_rows == 4 && good.window_rows == 20);
    for (size_t i = 0; i < COUNT(blocks); i++) {
        msae_position at = good;
        test_note("blocks of %llu, windows of %llu", (unsigned long long)blocks[i][0],
                  (unsigned long long)blocks[i][1]);
        at.block_rows = blocks[i][0];
        at.window_rows = blocks[i][1];
        memset(&error, 0, sizeof error);
        CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_stream_init(&stream, &source, &desc, &at, &error));
        CHECK(error.message[0] && heap.bytes == 0);
        msae_stream_free(&stream);
    }
    for (int i = 0; i < 7; i++) {
        msae_position at = good;
        msae_status want = MSAE_ERROR_ARGUMENT;
        test_note("position %d", i);
        switch (i) {
        case 0:
            memset(at.rng, 0, sizeof at.rng);
            break;
        case 1:
            at.batch = 0;
            break;
        case 2:
            at.batch = UINT64_MAX;
            break;
        case 3:
            at.row = 98;
            break;
        case 4:
            at.row = UINT64_MAX;
            break;
        case 5:
            at.rows = 96;
            want = MSAE_ERROR_SHAPE;
            break;
        default:
            at.rows = 0;
            want = MSAE_ERROR_SHAPE;
        }
        CHECK_STATUS(want, msae_stream_init(&stream, &source, &desc, &at, &error));
        CHECK(error.message[0] && heap.bytes == 0);
    }
    CHECK(heap.most == 0);
    /* any count of epochs is one */
    msae_position late = good;
    late.epoch = UINT64_MAX;
    CHECK_STATUS(MSAE_OK, msae_stream_init(&stream, &source, &desc, &late, &error));
    first_walk.rows = first_walk.batches = 0;
    CHECK(take_epoch(&stream, &first_walk) && take_epoch(&stream, &first_walk));
    msae_stream_free(&stream);
    /* a sampler knows no windows */
    msae_sampler sampler;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_sampler_init_at(&sampler, &good, NULL, &error));
    CHECK(heap.bytes == 0);
    free(x);
}

/* Descriptors and sources that are none, and those that ask for too much. */
static void hostile_descriptors(void) {
    float x[8] = {0};
    shelf s = make_shelf(x, 4, 2);
    msae_source source = shelf_source(&s);
    msae_stream_desc desc;
    msae_stream stream;
    msae_error error;
    memset(&desc, 0, sizeof desc);
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_stream_init(&stream, &source, &desc, NULL, &error));
    desc.batch = 2;
    desc.part = 1;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_stream_init(&stream, &source, &desc, NULL, &error));
    desc.parts = 1;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_stream_init(&stream, &source, &desc, NULL, &error));
    desc.part = desc.parts = 7;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_stream_init(&stream, &source, &desc, NULL, &error));
    desc.part = desc.parts = 0;
    desc.batch = SIZE_MAX;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_stream_init(&stream, &source, &desc, NULL, &error));
    desc.batch = 2;
    source.rows = 0;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_stream_init(&stream, &source, &desc, NULL, &error));
    source.rows = 4;
    source.cols = 0;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_stream_init(&stream, &source, &desc, NULL, &error));
    msae_stream_free(&stream);

    /* products that do not fit */
    static const uint64_t rows[] = {UINT64_MAX, UINT64_MAX - 1, (uint64_t)1 << 63};
    static const size_t sizes[] = {0, 1, (size_t)1 << 20, SIZE_MAX / 2 + 1, SIZE_MAX};
    for (size_t r = 0; r < COUNT(rows); r++) {
        for (size_t i = 0; i < COUNT(sizes) * COUNT(sizes) * COUNT(sizes); i++) {
            source.rows = rows[r];
            source.cols = i % 2 ? SIZE_MAX : 2;
            desc.block_rows = sizes[i % COUNT(sizes)];
            desc.window_rows = sizes[i / COUNT(sizes) % COUNT(sizes)];
            desc.batch = sizes[i / COUNT(sizes) / COUNT(sizes)];
            if (desc.batch == 0 || desc.batch > SIZE_MAX / 2) desc.batch = SIZE_MAX / 2;
            test_note("%llu rows, %zu blocks, %zu windows, batch %zu", (unsigned long long)rows[r],
                      desc.block_rows, desc.window_rows, desc.batch);
            test_heap heap;
            memset(&heap, 0, sizeof heap);
            heap.fail_at = 1; /* it may ask, not get */
            desc.allocator = test_heap_allocator(&heap);
            CHECK_STATUS(MSAE_ERROR_MEMORY,
                         msae_stream_init(&stream, &source, &desc, NULL, &error));
        }
    }
}

/* A source that fails for a while: the stream says so, stays where it is, and goes on with the same
   rows when it is called again. */
static void fails_and_goes_on(void) {
    float *x = numbered_rows(97, 2);
    for (int way = 0; way < READ_WAYS; way++) {
        for (int windows = 0; windows < 2; windows++) {
            msae_stream_desc desc;
            memset(&desc, 0, sizeof desc);
            desc.batch = 10;
            desc.block_rows = 4;
            desc.window_rows = windows ? 24 : 1000;
            desc.background = way_to_read(way);
            shelf s = make_shelf(x, 97, 2);
            const msae_source source = shelf_source(&s);
            take_epochs(&source, &desc, NULL, 2, &first_walk);
            const size_t reads = s.reads;
            for (size_t at = 1; at <= reads; at++) {
                msae_stream stream;
                msae_batch batch;
                msae_error error;
                size_t failures = 0;
                test_note("way %d, windows %d, read %zu", way, windows, at);
                s = make_shelf(x, 97, 2);
                s.fail_at = at;
                s.fail_for = 2;
                second_walk.rows = second_walk.batches = 0;
                CHECK_STATUS(MSAE_OK, msae_stream_init(&stream, &source, &desc, NULL, NULL));
                while (stream.at.epoch < 2 && failures < 9 && test_failures == 0) {
                    const msae_position before = stream.at;
                    const msae_status status = msae_stream_next(&stream, &batch, &error);
                    if (status != MSAE_OK) {
                        CHECK_STATUS(MSAE_ERROR_IO, status);
                        CHECK(strstr(error.message, "shelf") != NULL);
                        CHECK(memcmp(&before, &stream.at, sizeof before) == 0);
                        failures++;
                        continue;
                    }
                    for (size_t i = 0; i < batch.rows; i++) {
                        const uint64_t row = msae_stream_row(&stream, batch.index[i]);
                        const float *values = (const float *)batch.data->values;
                        CHECK(values[2 * batch.index[i]] == (float)row);
                        if (CHECK(second_walk.rows < first_walk.rows)) {
                            CHECK(first_walk.row[second_walk.rows++] == row);
                        }
                    }
                }
                CHECK(failures >= 1 && failures <= 2 && second_walk.rows == first_walk.rows);
                msae_stream_free(&stream);
            }
        }
    }
    free(x);
}

int main(void) {
#ifdef MSAE_USE_PTHREADS
    CHECK_STATUS(MSAE_OK, msae_background_create(&thread_background, NULL));
#endif
    RUN(every_row_once);
    RUN(as_the_sampler);
    RUN(parts_of_a_batch);
    RUN(alike_everywhere);
    RUN(variance_of_batches);
    RUN(goes_on_from_everywhere);
    RUN(from_its_own_position);
    RUN(hostile_positions);
    RUN(hostile_descriptors);
    RUN(fails_and_goes_on);
#ifdef MSAE_USE_PTHREADS
    msae_background_free(&thread_background);
#endif
    return test_finish();
}
