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

/* A source that fits into one window: all its rows are shuffled at once, by Fisher and Yates from
   their own order, with what the seed draws. */
static void in_one_window(void) {
    float *x = numbered_rows(130, 3);
    for (size_t i = 0; i < SHAPES; i++) {
        msae_stream_desc desc;
        msae_position at;
        uint64_t rng[4], order[130];
        const size_t rows = shape(i, &desc);
        shelf s = make_shelf(x, rows, 3);
        const msae_source source = shelf_source(&s);
        if (desc.window_rows != 0 && desc.window_rows < rows) continue;
        take_epochs(&source, &desc, NULL, 2, &first_walk);
        memset(&at, 0, sizeof at);
        at.rows = rows;
        at.batch = desc.batch;
        msae__seed(rng, desc.seed);
        memcpy(at.rng, rng, sizeof rng);
        for (size_t b = 0, next = 0; b < first_walk.batches; b++) {
            const size_t left = rows - (size_t)at.row;
            const size_t count = desc.batch < left ? desc.batch : left;
            for (size_t r = 0; at.row == 0 && r < rows; r++) order[r] = r;
            for (size_t r = rows; at.row == 0 && r-- > 1;) {
                const size_t other = (size_t)msae__random_below(rng, r + 1);
                const uint64_t row = order[r];
                order[r] = order[other];
                order[other] = row;
            }
            CHECK(count == first_walk.all[b]);
            for (size_t r = 0; r < count; r++) CHECK(order[at.row + r] == first_walk.row[next++]);
            at.row += count;
            if (count == 0) { /* the end of an epoch */
                at.row = 0;
                at.epoch++;
                memcpy(at.rng, rng, sizeof rng);
            }
            CHECK(memcmp(&at, &first_walk.at[b], sizeof at) == 0);
        }
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

/* ---------------------------------------------------------------------------------------------
   Runs
   ------------------------------------------------------------------------------------------ */

typedef struct bytes {
    unsigned char *data;
    size_t size;
} bytes;

static int same(const bytes *a, const bytes *b) {
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

static bytes checkpoint(const msae_trainer *trainer) {
    bytes file = {NULL, 0};
    msae_writer writer = msae_to_memory(NULL, 0);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(trainer, &writer, NULL));
    file.size = writer.bytes;
    file.data = (unsigned char *)test_alloc(file.size);
    writer = msae_to_memory(file.data, file.size);
    CHECK_STATUS(MSAE_OK, msae_trainer_save(trainer, &writer, NULL));
    return file;
}

enum { RUN_D = 5, RUN_N = 12, RUN_ROWS = 83, RUN_BATCH = 8, RUN_EPOCHS = 3, RUN_STEPS = 3 * 11 };

static msae_train_desc run_desc(const test_recipe *recipe) {
    msae_train_desc desc = test_desc(recipe, RUN_D, RUN_N);
    desc.batch = RUN_BATCH;
    desc.epochs = RUN_EPOCHS;
    desc.schedule = MSAE_SCHEDULE_COSINE;
    return desc;
}

static msae_stream_desc run_stream(int windows) {
    msae_stream_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.block_rows = 3;
    desc.window_rows = windows ? 20 : 0;
    return desc;
}

static int stop_at(const msae_progress *progress, void *user) {
    return progress->epoch * progress->steps + progress->step + 1 == *(const size_t *)user;
}

/* The end of a run over a source; `data`: over that instead. */
static bytes run_over(const msae_train_desc *desc, const msae_source *source,
                      const msae_stream_desc *stream, const msae_data *data) {
    msae_trainer trainer;
    msae_error error;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, desc, NULL));
    CHECK_STATUS(MSAE_OK, data ? test_fit(&trainer, data, NULL, NULL, &error)
                               : msae_trainer_fit(&trainer, source, stream, NULL, NULL, &error));
    bytes end = checkpoint(&trainer);
    msae_trainer_free(&trainer);
    return end;
}

/* The same bits from memory and from a callback, in one window also those of rows in memory; whatever
   reads ahead, with one worker and three. */
static void same_bits_from_anywhere(void) {
    float *x = test_random_floats(3, RUN_ROWS * RUN_D, 2);
    const msae_data data = msae_data_view(x, RUN_ROWS, RUN_D);
    const msae_source direct = msae_source_data(&data);
#ifdef MSAE_USE_PTHREADS
    msae_pool *pool = NULL;
    CHECK_STATUS(MSAE_OK, msae_pool_create(&pool, 3, NULL));
#endif
    FOR_EACH_RECIPE(recipe) {
        msae_train_desc desc = run_desc(recipe);
        desc.geometric_median = recipe->tied;
        for (int windows = 0; windows < 2; windows++) {
            msae_stream_desc stream = run_stream(windows);
            bytes want = run_over(&desc, &direct, &stream, NULL);
            if (!windows) {
                bytes fit = run_over(&desc, NULL, NULL, &data);
                CHECK(same(&fit, &want));
                free(fit.data);
            }
            for (int way = 0; way < READ_WAYS + 2; way++) { /* the last ones with a pool */
                shelf s = make_shelf(x, RUN_ROWS, RUN_D);
                const msae_source source = shelf_source(&s);
                test_note("%s, windows %d, way %d", recipe->name, windows, way);
                memset(&desc.model.host.parallel, 0, sizeof desc.model.host.parallel);
#ifdef MSAE_USE_PTHREADS
                if (way >= READ_WAYS) desc.model.host.parallel = msae_pool_parallel(pool);
#endif
                stream.background = way_to_read(way < READ_WAYS ? way : READ_BY_THREAD);
                bytes end = run_over(&desc, way > READ_WAYS ? &direct : &source, &stream, NULL);
                CHECK(same(&end, &want));
                free(end.data);
            }
            memset(&desc.model.host.parallel, 0, sizeof desc.model.host.parallel);
            free(want.data);
        }
    }
#ifdef MSAE_USE_PTHREADS
    msae_pool_free(pool);
#endif
    free(x);
}

/* A background that has begun but does nothing until it is waited for, and a source that is read
   only by whoever may: not by the run while the background has it. */
typedef struct late {
    shelf s;
    msae_task task;
    void *context;
    int is_begun;
    size_t begun, reads, single, early; /* reads of one row, and those while it had begun */
} late;

static int late_start(void *user, msae_task task, void *context) {
    late *l = (late *)user;
    CHECK(!l->is_begun);
    l->task = task;
    l->context = context;
    l->is_begun = 1;
    l->begun++;
    return 1;
}

static void late_wait(void *user) {
    late *l = (late *)user;
    CHECK(l->is_begun);
    l->is_begun = 0;
    l->task(l->context, 0, 0);
}

static msae_status read_late(void *user, uint64_t first, size_t rows, float *out,
                             msae_error *error) {
    late *l = (late *)user;
    l->reads++;
    l->single += rows == 1;
    l->early += l->is_begun != 0;
    return read_shelf(&l->s, first, rows, out, error);
}

static void one_reader_at_a_time(void) {
    enum { EPOCHS = 6, SEEN = 60 };
    float *x = test_random_floats(3, RUN_ROWS * RUN_D, 2);
    const msae_data data = msae_data_view(x, RUN_ROWS, RUN_D);
    const msae_source direct = msae_source_data(&data);
    msae_train_desc desc = run_desc(&test_recipes[5]);
    msae_stream_desc stream = run_stream(1);
    late l;
    const msae_source source = {RUN_ROWS, RUN_D, read_late, &l, NULL};
    memset(&l, 0, sizeof l);
    l.s = make_shelf(x, RUN_ROWS, RUN_D);
    desc.model.n_latents = SEEN;
    desc.model.k = 1;
    desc.epochs = EPOCHS;
    desc.revivals = 40; /* in most of the steps, whatever the windows */
    bytes want = run_over(&desc, &direct, &stream, NULL);
    stream.background.start = late_start;
    stream.background.wait = late_wait;
    stream.background.user = &l;
    bytes end = run_over(&desc, &source, &stream, NULL);
    CHECK(same(&end, &want));
    CHECK(l.begun >= EPOCHS && l.single >= 100 && l.early == 0);
    free(end.data);
    free(want.data);
    free(x);
}

/* A run in windows that is cut after any step comes back from its checkpoint, and may go on through
   msae_trainer_fit over data; one in a single window goes on through msae_trainer_fit, whatever the windows asked. */
static void runs_come_back(void) {
    float *x = test_random_floats(3, RUN_ROWS * RUN_D, 2);
    const msae_data data = msae_data_view(x, RUN_ROWS, RUN_D);
    shelf s = make_shelf(x, RUN_ROWS, RUN_D);
    const msae_source source = shelf_source(&s);
    const msae_train_desc desc = run_desc(&test_recipes[7]);
    for (int windows = 0; windows < 2; windows++) {
        msae_stream_desc stream = run_stream(windows), other = run_stream(!windows);
        bytes want = run_over(&desc, &source, &stream, NULL);
        for (size_t cut = 1; cut <= RUN_STEPS; cut++) {
            msae_trainer trainer, again;
            test_note("windows %d, cut after %zu", windows, cut);
            CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
            CHECK_STATUS(MSAE_ERROR_STOPPED,
                         msae_trainer_fit(&trainer, &source, &stream, stop_at, &cut, NULL));
            CHECK((trainer.position.window_rows > 0) == windows);
            bytes file = checkpoint(&trainer);
            CHECK_STATUS(MSAE_OK, msae_trainer_load(&again, msae_from_memory(file.data, file.size),
                                                    NULL, NULL));
            CHECK(memcmp(&again.position, &trainer.position, sizeof again.position) == 0);
            CHECK_STATUS(MSAE_OK, cut % 3
                                      ? msae_trainer_fit(&again, &source, &other, NULL, NULL, NULL)
                                      : test_fit(&again, &data, NULL, NULL, NULL));
            CHECK_STATUS(MSAE_OK, msae_trainer_fit(&trainer, &source, NULL, NULL, NULL, NULL));
            bytes end = checkpoint(&again), own = checkpoint(&trainer);
            CHECK(same(&end, &want) && same(&own, &want));
            free(own.data);
            free(end.data);
            free(file.data);
            msae_trainer_free(&again);
            msae_trainer_free(&trainer);
        }
        free(want.data);
    }
    free(x);
}

/* A checkpoint with blocks that are none is no run, or one that cannot go on. */
static void hostile_checkpoints(void) {
    static const struct {
        const char *blocks;
        int resumes;
    } cases[] = {
        {"03,20", 0}, {"3 20", 0}, {"3,20,", 0}, {"3,-1", 0}, {"3,99999999999999999999", 0},
        {"3,2x", 0},  {",,,,", 0}, {"0,20", -1}, {"3,0", -1}, {"0,00", 0},
        {"0,0", -1},  {"3,22", 1}, {"9,16", 1},  {"3,99", 1}, {"1,00", 0},
        {"3,19", 1},
    };
    float *x = test_random_floats(3, RUN_ROWS * RUN_D, 2);
    shelf s = make_shelf(x, RUN_ROWS, RUN_D);
    const msae_source source = shelf_source(&s);
    const msae_train_desc desc = run_desc(&test_recipes[0]);
    const msae_stream_desc stream = run_stream(1);
    msae_trainer trainer;
    size_t until = 5;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    CHECK_STATUS(MSAE_ERROR_STOPPED,
                 msae_trainer_fit(&trainer, &source, &stream, stop_at, &until, NULL));
    for (size_t i = 0; i < COUNT(cases); i++) {
        msae_trainer again;
        msae_error error;
        bytes file = checkpoint(&trainer);
        static const char key[] = "\"msae.run_blocks\":\"";
        size_t at = 0;
        test_note("%s", cases[i].blocks);
        while (at + 64 < file.size && memcmp(file.data + at, key, sizeof key - 1) != 0) at++;
        if (!CHECK(at + 64 < file.size)) break;
        /* where a note is longer or shorter, the header's padding gives and takes */
        const size_t value = at + sizeof key - 1, length = strlen(cases[i].blocks);
        const size_t header = 8 + (size_t)msae__load_le(file.data, 8);
        CHECK(memcmp(file.data + value, "3,21\"", 5) == 0);
        unsigned char *changed = (unsigned char *)test_alloc(file.size + length);
        const size_t size = file.size - 4 + length;
        memcpy(changed, file.data, value);
        memcpy(changed + value, cases[i].blocks, length);
        memcpy(changed + value + length, file.data + value + 4, file.size - value - 4);
        for (size_t b = 0; b < 8; b++) {
            changed[b] = (unsigned char)((header - 8 - 4 + length) >> (8 * b));
        }
        for (size_t b = 8; b + 16 < header; b++) { /* as files of old had none */
            if (memcmp(changed + b, "\"msae.checksum\"", 15) == 0) changed[b + 1] = 'x';
            if (memcmp(changed + b, "\"msae.version\"", 14) == 0) changed[b + 1] = 'x';
        }
        const msae_status status =
            msae_trainer_load(&again, msae_from_memory(changed, size), NULL, &error);
        if (cases[i].resumes == 0) {
            CHECK_STATUS(MSAE_ERROR_FORMAT, status);
        } else if (status == MSAE_OK) {
            const msae_status went = msae_trainer_fit(&again, &source, NULL, NULL, NULL, &error);
            if (cases[i].resumes > 0) CHECK_STATUS(MSAE_ERROR_ARGUMENT, went);
            CHECK(again.step == 5 || went == MSAE_OK);
        } else {
            CHECK(cases[i].resumes < 0);
        }
        msae_trainer_free(&again);
        free(changed);
        free(file.data);
    }
    msae_trainer_free(&trainer);
    free(x);
}

/* NaN and Inf rows: left out, or told by their number in the source. */
static void bad_rows(void) {
    float *x = test_random_floats(3, RUN_ROWS * RUN_D, 2);
    const msae_data data = msae_data_view(x, RUN_ROWS, RUN_D);
    const msae_source direct = msae_source_data(&data);
    msae_train_desc desc = run_desc(&test_recipes[0]);
    msae_error error;
    for (int windows = 0; windows < 2; windows++) {
        const msae_stream_desc stream = run_stream(windows);
        for (size_t bad = 0; bad < RUN_ROWS; bad += 9) {
            const float kept = x[bad * RUN_D + 2];
            const uint32_t nan = 0x7fc00000u;
            shelf s = make_shelf(x, RUN_ROWS, RUN_D);
            const msae_source source = shelf_source(&s);
            msae_trainer trainer;
            test_note("windows %d, row %zu", windows, bad);
            for (int known = 0; known < 2; known++) { /* statistics, in which it was well */
                CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
                if (known) {
                    CHECK_STATUS(MSAE_OK, msae_trainer_statistics(&trainer, &source, NULL));
                }
                memcpy(&x[bad * RUN_D + 2], &nan, sizeof nan);
                CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                             msae_trainer_fit(&trainer, &source, &stream, NULL, NULL, &error));
                CHECK(error.position == bad);
                CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                             msae_trainer_fit(&trainer, &source, &stream, NULL, NULL, NULL));
                x[bad * RUN_D + 2] = kept;
                /* and where it is mended, the run goes on */
                CHECK_STATUS(MSAE_OK, msae_trainer_fit(&trainer, &source, NULL, NULL, NULL, NULL));
                CHECK(trainer.step == RUN_STEPS);
                msae_trainer_free(&trainer);
            }
            memcpy(&x[bad * RUN_D + 2], &nan, sizeof nan);
            desc.skip_bad = 1;
            bytes a = run_over(&desc, &direct, &stream, NULL);
            bytes b = run_over(&desc, &source, &stream, NULL);
            CHECK(same(&a, &b));
            CHECK_STATUS(MSAE_OK,
                         msae_trainer_load(&trainer, msae_from_memory(a.data, a.size), NULL, NULL));
            CHECK(trainer.rows_skipped == RUN_EPOCHS);
            CHECK(trainer.rows == RUN_EPOCHS * (RUN_ROWS - 1));
            msae_trainer_free(&trainer);
            free(a.data);
            free(b.data);
            desc.skip_bad = 0;
            x[bad * RUN_D + 2] = kept;
        }
    }
    free(x);
}

static void runs_that_cannot_be(void) {
    float *x = test_random_floats(3, RUN_ROWS * RUN_D, 2);
    shelf s = make_shelf(x, RUN_ROWS, RUN_D);
    msae_source source = shelf_source(&s);
    const msae_train_desc desc = run_desc(&test_recipes[0]);
    msae_stream_desc stream = run_stream(1);
    msae_trainer trainer;
    msae_error error;
    CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
    stream.parts = 2;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT,
                 msae_trainer_fit(&trainer, &source, &stream, NULL, NULL, &error));
    stream = run_stream(1);
    source.cols = RUN_D - 1;
    trainer.has_statistics = 0;
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 msae_trainer_fit(&trainer, &source, &stream, NULL, NULL, &error));
    source = shelf_source(&s);
    source.rows = 0;
    CHECK_STATUS(MSAE_ERROR_SHAPE,
                 msae_trainer_fit(&trainer, &source, &stream, NULL, NULL, &error));
    source.rows = RUN_ROWS;
    for (size_t at = 1; at < 60; at++) { /* each read fails: the run stops, and goes on */
        s = make_shelf(x, RUN_ROWS, RUN_D);
        s.fail_at = at;
        s.fail_for = 1;
        const msae_status status = msae_trainer_fit(&trainer, &source, &stream, NULL, NULL, &error);
        if (status == MSAE_OK) break;
        CHECK_STATUS(MSAE_ERROR_IO, status);
        CHECK(strcmp(error.message, "the shelf is out of reach") == 0);
    }
    bytes end = checkpoint(&trainer);
    s.fail_at = 0;
    bytes want = run_over(&desc, &source, &stream, NULL);
    CHECK(same(&end, &want) && trainer.step == RUN_STEPS);
    free(want.data);
    free(end.data);
    msae_trainer_free(&trainer);
    free(x);
}

#ifdef MSAE_USE_PTHREADS
/* ---------------------------------------------------------------------------------------------
   Several processes, each a thread here
   ------------------------------------------------------------------------------------------ */

enum { MAX_RANKS = 4 };

/* Where the processes meet: the last one to come adds up what all of them brought. */
typedef struct hall {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t ranks, arrived, left, round;
    void *values[MAX_RANKS];
    size_t counts[MAX_RANKS], sizes[MAX_RANKS];
    size_t calls, fail_at; /* this sum fails, and all after it; 0: none */
    int failed;
    int hangs; /* somebody waited for one that had left */
    int differs;
} hall;

/* What one process is made of. */
typedef struct member {
    hall *hall;
    size_t rank;
    pthread_t thread;
    msae_train_desc desc;
    msae_stream_desc stream;
    msae_source source;
    msae_trainer trainer;
    int is_made; /* the trainer, by the caller */
    msae_status status;
    msae_error error;
    test_heap heap;
    size_t stop_at; /* step, from 1; 0: none */
    size_t steps;   /* seen by the callback */
    msae_step_stats stats[256];
    float thresholds[256];
    float *encoder; /* after the last step that was seen, or before all */
} member;

static void add_up(hall *h) {
    for (size_t r = 1; r < h->ranks; r++) {
        h->differs |= h->counts[r] != h->counts[0] || h->sizes[r] != h->sizes[0];
    }
    if (h->differs) return;
    for (size_t i = 0; i < h->counts[0]; i++) {
        if (h->sizes[0] == sizeof(double)) {
            double sum = 0;
            for (size_t r = 0; r < h->ranks; r++) sum += ((double *)h->values[r])[i];
            for (size_t r = 0; r < h->ranks; r++) ((double *)h->values[r])[i] = sum;
        } else {
            float sum = 0;
            for (size_t r = 0; r < h->ranks; r++) sum += ((float *)h->values[r])[i];
            for (size_t r = 0; r < h->ranks; r++) ((float *)h->values[r])[i] = sum;
        }
    }
}

static int meet(member *m, void *values, size_t count, size_t size) {
    hall *h = m->hall;
    int done;
    pthread_mutex_lock(&h->lock);
    const size_t round = h->round;
    h->values[m->rank] = values;
    h->counts[m->rank] = count;
    h->sizes[m->rank] = size;
    if (++h->arrived == h->ranks) {
        h->calls++;
        if (h->fail_at && h->calls >= h->fail_at) h->failed = 1;
        if (!h->failed) add_up(h);
        h->arrived = 0;
        h->round++;
        pthread_cond_broadcast(&h->changed);
    }
    while (h->round == round && h->left == 0) pthread_cond_wait(&h->changed, &h->lock);
    if (h->round == round) h->hangs = h->failed = 1;
    done = !h->failed && !h->differs;
    pthread_mutex_unlock(&h->lock);
    return done;
}

static void leave(hall *h) {
    pthread_mutex_lock(&h->lock);
    h->left++;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

static int sum_floats(void *user, float *values, size_t count) {
    return meet((member *)user, values, count, sizeof *values);
}

static int sum_doubles(void *user, double *values, size_t count) {
    return meet((member *)user, values, count, sizeof *values);
}

static int watch(const msae_progress *progress, void *user) {
    member *m = (member *)user;
    if (m->steps < COUNT(m->stats)) {
        m->stats[m->steps] = *progress->stats;
        m->thresholds[m->steps] = m->trainer.model.threshold;
    }
    memcpy(m->encoder, m->trainer.model.encoder,
           m->desc.model.n_latents * m->desc.model.n_inputs * sizeof *m->encoder);
    return ++m->steps == m->stop_at;
}

static void *run_member(void *argument) {
    member *m = (member *)argument;
    m->status = MSAE_OK;
    if (!m->is_made) m->status = msae_trainer_init(&m->trainer, &m->desc, &m->error);
    if (!m->encoder) {
        m->encoder = (float *)test_alloc(m->desc.model.n_latents * m->desc.model.n_inputs * 4);
        memcpy(m->encoder, m->trainer.model.encoder,
               m->desc.model.n_latents * m->desc.model.n_inputs * sizeof *m->encoder);
    }
    m->is_made = 1;
    if (m->status == MSAE_OK) {
        m->status = msae_trainer_fit(&m->trainer, &m->source, &m->stream, watch, m, &m->error);
    }
    leave(m->hall);
    return NULL;
}

/* Members of one run over the source, not yet started; msae_trainer_fit decides what is read. */
static void make_members(member *members, hall *h, size_t ranks, const msae_train_desc *desc,
                         const msae_stream_desc *stream, const msae_source *source) {
    memset(h, 0, sizeof *h);
    h->ranks = ranks;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    for (size_t r = 0; r < ranks; r++) {
        member *m = &members[r];
        memset(m, 0, sizeof *m);
        m->hall = h;
        m->rank = r;
        m->desc = *desc;
        m->desc.collective.sum_floats = sum_floats;
        m->desc.collective.sum_doubles = sum_doubles;
        m->desc.collective.user = m;
        m->desc.collective.rank = r;
        m->desc.collective.ranks = ranks;
        m->stream = *stream;
        m->source = *source;
    }
}

static void run_members(member *members, size_t ranks) {
    hall *h = members[0].hall;
    h->left = h->arrived = 0;
    for (size_t r = 0; r < ranks; r++) {
        if (pthread_create(&members[r].thread, NULL, run_member, &members[r]) != 0) exit(1);
    }
    for (size_t r = 0; r < ranks; r++) pthread_join(members[r].thread, NULL);
    CHECK(!h->hangs && !h->differs);
    /* all have seen the same, and are at the same step with the same bits, which no step that
       failed has changed */
    bytes first = checkpoint(&members[0].trainer);
    for (size_t r = 0; r < ranks; r++) {
        member *m = &members[r];
        const size_t steps = msae__min(m->steps, COUNT(m->stats));
        bytes own = checkpoint(&m->trainer);
        CHECK(same(&own, &first) && m->steps == members[0].steps);
        CHECK(memcmp(m->stats, members[0].stats, steps * sizeof *m->stats) == 0);
        CHECK(test_same(m->encoder, m->trainer.model.encoder,
                        m->desc.model.n_latents * m->desc.model.n_inputs));
        free(own.data);
    }
    free(first.data);
}

static void free_members(member *members, size_t ranks) {
    for (size_t r = 0; r < ranks; r++) {
        msae_trainer_free(&members[r].trainer);
        free(members[r].encoder);
    }
    pthread_cond_destroy(&members[0].hall->changed);
    pthread_mutex_destroy(&members[0].hall->lock);
}

static double relative(double a, double b) {
    return fabs(a - b) / (fabs(b) > 1e-6 ? fabs(b) : 1e-6);
}

static member members[MAX_RANKS], alone;

/* Two hundred steps of every recipe: the same bits in all processes, and within rounding what one
   process does. */
static void processes_train_one_model(void) {
    enum { D = 6, N = 24, ROWS = 157, FAR_ROW = 99 };
    static const size_t blocks[] = {3, 157, 50};
    float *x = test_random_floats(3, ROWS * D, 2);
    const uint32_t nan = 0x7fc00000u;
    double worst = 0, worst_loss = 0;
    memcpy(&x[77 * D + 1], &nan, sizeof nan);
    for (size_t i = 0; i < D; i++) { /* rows whose norm is far above that of the others */
        x[FAR_ROW * D + i] *= 3000;
        x[(FAR_ROW + 50) * D + i] *= 3000;
    }
    memset(&x[40 * D], 0, D * sizeof *x); /* a row of zeros, which cosine leaves out */
    FOR_EACH_RECIPE(recipe) {
        for (size_t kind = 0; kind < COUNT(blocks); kind++) {
            if (kind == 1 && recipe->tied == recipe->normalize && recipe->loss != MSAE_LOSS_NMSE) {
                continue; /* as many as there is time for */
            }
            shelf shelves[MAX_RANKS], own = make_shelf(x, ROWS, D);
            const msae_source source = shelf_source(&own);
            msae_train_desc desc = test_desc(recipe, D, N);
            msae_stream_desc stream;
            hall h, nobody;
            memset(&stream, 0, sizeof stream);
            stream.block_rows = blocks[kind];
            stream.window_rows = kind == 2 ? 70 : 0;
            desc.batch = 16;
            desc.epochs = 20;
            desc.lr = 0.001f;
            desc.model.seed = 8; /* with 7, one TopK in rounding's reach falls the other way */
            desc.skip_bad = 1;
            desc.geometric_median = recipe->tied;
            desc.max_norm = 100;
            make_members(&alone, &nobody, 1, &desc, &stream, &source);
            memset(&alone.desc.collective, 0, sizeof alone.desc.collective);
            run_members(&alone, 1);
            CHECK_STATUS(MSAE_OK, alone.status);
            for (size_t ranks = kind == 0 ? 1 : 3; ranks <= (kind ? 3 : MAX_RANKS); ranks++) {
                test_note("%s, %zu processes, blocks of %zu", recipe->name, ranks, blocks[kind]);
                make_members(members, &h, ranks, &desc, &stream, &source);
                for (size_t r = 0; r < ranks; r++) {
                    shelves[r] = make_shelf(x, ROWS, D);
                    members[r].source = shelf_source(&shelves[r]);
                }
                run_members(members, ranks);
                CHECK_STATUS(MSAE_OK, members[0].status);
                CHECK(members[0].steps == 200 && alone.steps == 200);
                CHECK(members[0].trainer.rows == alone.trainer.rows);
                CHECK(members[0].trainer.rows_skipped == alone.trainer.rows_skipped);
                CHECK(memcmp(&members[0].trainer.rare, &alone.trainer.rare,
                             sizeof alone.trainer.rare) == 0);
                CHECK(alone.trainer.rare.beyond == 2 && alone.trainer.rare.first_beyond == FAR_ROW);
                const msae_parameters a = test_weights(&members[0].trainer.model);
                const msae_parameters b = test_weights(&alone.trainer.model);
                test_parameter list[TEST_MAX_PARAMETERS], want[TEST_MAX_PARAMETERS];
                const size_t count = test_list(&alone.trainer.model, &a, list);
                test_list(&alone.trainer.model, &b, want);
                for (size_t i = 0; i < count; i++) {
                    const double error =
                        test_error(list[i].values, want[i].values, list[i].rows * list[i].cols);
                    CHECK(ranks > 1 ? error < 1e-5 : error == 0);
                    if (error > worst) worst = error;
                }
                for (size_t s = 0; s < 200; s++) {
                    const msae_step_stats *now = &members[0].stats[s], *one = &alone.stats[s];
                    CHECK(relative(now->loss, one->loss) < 1e-5);
                    if (relative(now->loss, one->loss) > worst_loss) {
                        worst_loss = relative(now->loss, one->loss);
                    }
                    CHECK(relative(now->recon_loss, one->recon_loss) < 1e-5);
                    CHECK(relative(now->sparse_loss, one->sparse_loss) < 1e-5);
                    CHECK(relative(now->grad_norm, one->grad_norm) < 1e-4);
                    CHECK(relative(now->l0, one->l0) < 1e-9);
                    CHECK(now->rows == one->rows && now->rows_skipped == one->rows_skipped);
                    CHECK(now->rows_left_out == one->rows_left_out);
                    CHECK(now->dead_latents == one->dead_latents && now->lr == one->lr);
                    CHECK(relative(members[0].thresholds[s], alone.thresholds[s]) < 1e-5);
                }
                free_members(members, ranks);
            }
            free_members(&alone, 1);
        }
    }
    if (getenv("MSAE_TEST_NUMBERS")) printf("worst %g, loss %g\n", worst, worst_loss);
    free(x);
}

/* In shares the number of processes does not show in a bit, whatever they do with the rows. */
static void shares_hide_processes(void) {
    enum { D = 6, N = 24, ROWS = 157 };
    float *x = test_random_floats(3, ROWS * D, 2);
    FOR_EACH_RECIPE(recipe) {
        for (size_t window = 0; window <= 70; window += 70) {
            shelf shelves[MAX_RANKS], own = make_shelf(x, ROWS, D);
            const msae_source source = shelf_source(&own);
            msae_train_desc desc = test_desc(recipe, D, N);
            msae_stream_desc stream;
            hall h, nobody;
            memset(&stream, 0, sizeof stream);
            stream.block_rows = 3;
            stream.window_rows = window;
            stream.shares = 12;
            desc.batch = 37;
            desc.epochs = 10;
            desc.lr = 0.001f;
            make_members(&alone, &nobody, 1, &desc, &stream, &source);
            memset(&alone.desc.collective, 0, sizeof alone.desc.collective);
            run_members(&alone, 1);
            CHECK_STATUS(MSAE_OK, alone.status);
            for (size_t ranks = 2; ranks <= MAX_RANKS; ranks++) {
                test_note("%s, %zu processes, windows of %zu", recipe->name, ranks, window);
                make_members(members, &h, ranks, &desc, &stream, &source);
                for (size_t r = 0; r < ranks; r++) {
                    shelves[r] = make_shelf(x, ROWS, D);
                    members[r].source = shelf_source(&shelves[r]);
                }
                run_members(members, ranks);
                CHECK_STATUS(MSAE_OK, members[0].status);
                const msae_parameters a = test_weights(&members[0].trainer.model);
                const msae_parameters b = test_weights(&alone.trainer.model);
                test_parameter list[TEST_MAX_PARAMETERS], want[TEST_MAX_PARAMETERS];
                const size_t count = test_list(&alone.trainer.model, &a, list);
                test_list(&alone.trainer.model, &b, want);
                for (size_t i = 0; i < count; i++) {
                    CHECK(test_same(list[i].values, want[i].values, list[i].rows * list[i].cols));
                }
                CHECK(members[0].trainer.model.threshold == alone.trainer.model.threshold);
                free_members(members, ranks);
            }
            free_members(&alone, 1);
        }
    }
    free(x);
}

/* Revivals too: few latents a row of many, so that there are always some to revive. */
static void shares_hide_processes_from_revivals(void) {
    enum { D = 6, N = 160, ROWS = 157 };
    static const size_t levels[] = {1, 3, N};
    float *x = test_random_floats(3, ROWS * D, 2);
    FOR_EACH_RECIPE(recipe) {
        const int nested = recipe->recipe == MSAE_RECIPE_MSAE;
        if (!nested && recipe->recipe != MSAE_RECIPE_TOPK && !test_is_batch_topk(recipe->recipe)) {
            continue;
        }
        for (size_t shares = 0; shares <= 12; shares += 12) {
            shelf shelves[MAX_RANKS], own = make_shelf(x, ROWS, D);
            const msae_source source = shelf_source(&own);
            msae_train_desc desc = test_desc(recipe, D, N);
            msae_stream_desc stream;
            hall h, nobody;
            memset(&stream, 0, sizeof stream);
            stream.block_rows = 3;
            stream.window_rows = 70;
            stream.shares = shares;
            if (desc.model.k > 0) desc.model.k = 1;
            desc.model.nesting = nested ? levels : NULL;
            desc.model.nesting_start = 0;
            desc.model.n_levels = nested ? COUNT(levels) : 0;
            desc.batch = 37;
            desc.epochs = 10;
            desc.lr = 0.001f;
            desc.revivals = 4;
            make_members(&alone, &nobody, 1, &desc, &stream, &source);
            memset(&alone.desc.collective, 0, sizeof alone.desc.collective);
            run_members(&alone, 1);
            CHECK_STATUS(MSAE_OK, alone.status);
            CHECK(alone.trainer.revived > N / 32);
            for (size_t ranks = 2; ranks <= MAX_RANKS; ranks++) {
                test_note("%s, %zu processes, %zu shares", recipe->name, ranks, shares);
                make_members(members, &h, ranks, &desc, &stream, &source);
                for (size_t r = 0; r < ranks; r++) {
                    shelves[r] = make_shelf(x, ROWS, D);
                    members[r].source = shelf_source(&shelves[r]);
                }
                run_members(members, ranks);
                for (size_t r = 0; r < ranks; r++) {
                    const member *to = shares ? &alone : &members[0];
                    const msae_parameters a = test_weights(&members[r].trainer.model);
                    const msae_parameters b = test_weights(&to->trainer.model);
                    test_parameter list[TEST_MAX_PARAMETERS], want[TEST_MAX_PARAMETERS];
                    const size_t count = test_list(&to->trainer.model, &a, list);
                    test_list(&to->trainer.model, &b, want);
                    CHECK_STATUS(MSAE_OK, members[r].status);
                    CHECK(members[r].trainer.revived == to->trainer.revived);
                    CHECK(members[r].trainer.revived > N / 32);
                    for (size_t i = 0; i < count; i++) {
                        CHECK(
                            test_same(list[i].values, want[i].values, list[i].rows * list[i].cols));
                    }
                }
                free_members(members, ranks);
            }
            free_members(&alone, 1);
        }
    }
    free(x);
}

/* One that fails ends all, wherever it was; none waits, and no model is changed by the step. */
static void one_fails_for_all(void) {
    enum { D = 5, N = 12, ROWS = 61, RANKS = 3 };
    float *x = test_random_floats(3, ROWS * D, 2), *bad = test_random_floats(3, ROWS * D, 2);
    const uint32_t nan = 0x7fc00000u;
    shelf shelves[RANKS];
    hall h;
    for (int recipe = 0; recipe < 2; recipe++) {
        msae_train_desc desc = test_desc(&test_recipes[recipe ? 7 : 1], D, N);
        msae_stream_desc stream;
        memset(&stream, 0, sizeof stream);
        stream.block_rows = 3;
        stream.window_rows = 20;
        desc.batch = 8;
        desc.epochs = 2;
        desc.geometric_median = 1;

        /* a source */
        for (size_t at = 1;; at++) {
            shelf s = make_shelf(x, ROWS, D);
            const msae_source source = shelf_source(&s);
            test_note("recipe %d, read %zu", recipe, at);
            make_members(members, &h, RANKS, &desc, &stream, &source);
            for (size_t r = 0; r < RANKS; r++) {
                shelves[r] = make_shelf(x, ROWS, D);
                members[r].source = shelf_source(&shelves[r]);
            }
            shelves[at % 2].fail_at = at;
            shelves[at % 2].fail_for = 1;
            run_members(members, RANKS);
            const int met = shelves[at % 2].reads >= at;
            for (size_t r = 0; r < RANKS && met; r++) {
                CHECK_STATUS(r == at % 2 ? MSAE_ERROR_IO : MSAE_ERROR_STOPPED, members[r].status);
            }
            if (met) { /* once more, from where they are */
                run_members(members, RANKS);
            }
            CHECK_STATUS(MSAE_OK, members[0].status);
            CHECK(members[0].steps == 16);
            free_members(members, RANKS);
            if (!met) {
                CHECK(at > 12);
                break;
            }
        }

        /* a sum */
        for (size_t at = 1;; at++) {
            const msae_data data = msae_data_view(x, ROWS, D);
            const msae_source source = msae_source_data(&data);
            test_note("recipe %d, sum %zu", recipe, at);
            make_members(members, &h, RANKS, &desc, &stream, &source);
            h.fail_at = at;
            run_members(members, RANKS);
            const int met = h.calls >= at;
            for (size_t r = 0; r < RANKS; r++) {
                CHECK_STATUS(met ? MSAE_ERROR_IO : MSAE_OK, members[r].status);
            }
            free_members(members, RANKS);
            if (!met) break;
            if (at > 60) at += 40;
        }

        /* memory, once the trainer is there */
        for (size_t at = 1;; at++) {
            shelf s = make_shelf(x, ROWS, D);
            const msae_source source = shelf_source(&s);
            test_note("recipe %d, allocation %zu", recipe, at);
            make_members(members, &h, RANKS, &desc, &stream, &source);
            for (size_t r = 0; r < RANKS; r++) {
                member *m = &members[r];
                shelves[r] = make_shelf(x, ROWS, D);
                m->source = shelf_source(&shelves[r]);
                m->desc.model.host.allocator = test_heap_allocator(&m->heap);
                CHECK_STATUS(MSAE_OK, msae_trainer_init(&m->trainer, &m->desc, NULL));
                m->is_made = 1;
            }
            const size_t before = members[2].heap.allocations;
            members[2].heap.fail_at = before + at;
            run_members(members, RANKS);
            const int met = members[2].heap.allocations >= before + at;
            for (size_t r = 0; r < RANKS; r++) {
                CHECK_STATUS(!met     ? MSAE_OK
                             : r == 2 ? MSAE_ERROR_MEMORY
                                      : MSAE_ERROR_STOPPED,
                             members[r].status);
            }
            free_members(members, RANKS);
            for (size_t r = 0; r < RANKS; r++) CHECK(members[r].heap.bytes == 0);
            if (!met) {
                CHECK(at > 2);
                break;
            }
        }

        /* a row, found in the statistics, or by the step that takes it; and a source of another
           width */
        for (int kind = 0; kind < 4; kind++) {
            const msae_data data = msae_data_view(x, ROWS, D), worse = msae_data_view(bad, ROWS, D);
            const msae_data narrow = msae_data_view(x, ROWS, D - 1);
            const msae_source source = msae_source_data(&data), with = msae_source_data(&worse);
            size_t bad_row = 0;
            test_note("recipe %d, bad row, kind %d", recipe, kind);
            make_members(members, &h, RANKS, &desc, &stream, &source);
            memcpy(&bad[29 * D], &nan, sizeof nan);
            for (size_t r = 0; r < RANKS; r++) {
                member *m = &members[r];
                CHECK_STATUS(MSAE_OK, msae_trainer_init(&m->trainer, &m->desc, NULL));
                m->is_made = 1;
                if (kind % 2) {
                    m->trainer.has_statistics = 1;
                    m->trainer.model.scale = 1;
                }
                if (kind < 2) m->source = with;
            }
            if (kind >= 2) members[1].source = msae_source_data(&narrow);
            run_members(members, RANKS);
            size_t errors = 0;
            for (size_t r = 0; r < RANKS; r++) {
                const msae_status want = kind < 2 ? MSAE_ERROR_NOT_FINITE : MSAE_ERROR_SHAPE;
                if (members[r].status == want) {
                    errors++;
                    bad_row = (size_t)members[r].error.position;
                } else {
                    CHECK_STATUS(MSAE_ERROR_STOPPED, members[r].status);
                }
            }
            CHECK(errors == 1 && (kind >= 2 || bad_row == 29));
            free_members(members, RANKS);
        }

        /* a callback that stops, and the run that goes on */
        const msae_data data = msae_data_view(x, ROWS, D);
        const msae_source source = msae_source_data(&data);
        bytes whole = {NULL, 0};
        for (size_t stop = 0; stop < 16; stop++) {
            test_note("recipe %d, stop at %zu", recipe, stop);
            make_members(members, &h, RANKS, &desc, &stream, &source);
            members[stop % RANKS].stop_at = stop;
            run_members(members, RANKS);
            for (size_t r = 0; r < RANKS && stop > 0; r++) {
                CHECK_STATUS(MSAE_ERROR_STOPPED, members[r].status);
                CHECK(members[r].steps == stop && members[r].trainer.step == stop);
            }
            if (stop > 0) run_members(members, RANKS);
            CHECK_STATUS(MSAE_OK, members[0].status);
            bytes end = checkpoint(&members[0].trainer);
            if (stop == 0) whole = end;
            CHECK(same(&end, &whole));
            if (stop > 0) free(end.data);
            free_members(members, RANKS);
        }
        free(whole.data);
    }
    free(bad);
    free(x);
}

/* One step of batches that the caller divides. */
typedef struct part_step {
    member *member;
    const float *x;
    size_t rows;
    msae_step_stats stats;
} part_step;

static void *step_member(void *argument) {
    part_step *part = (part_step *)argument;
    member *m = part->member;
    m->status = msae_trainer_step(&m->trainer, part->x, part->rows, &part->stats, &m->error);
    leave(m->hall);
    return NULL;
}

/* batchtopk keeps exactly k a row of all, however they are divided and whatever is equal: here all
   rows are. More rows than a batch, or a part that is none, end all. */
static void the_largest_of_all(void) {
    enum { D = 5, N = 12, BATCH = 24, RANKS = 3 };
    static const size_t parts[][RANKS] = {{8, 8, 8}, {24, 0, 0},  {0, 0, 1},  {1, 0, 23}, {5, 0, 2},
                                          {0, 0, 0}, {20, 20, 0}, {25, 0, 0}, {9, 8, 8}};
    for (size_t i = 0; i < COUNT(parts); i++) {
        for (int ties = 0; ties < 3; ties++) {
            msae_train_desc desc = test_desc(&test_recipes[7], D, N);
            float *x = test_random_floats(8, (BATCH + 16) * D, 1);
            const msae_stream_desc stream = run_stream(0);
            const msae_source nothing = {0, 0, NULL, NULL, NULL};
            part_step steps[RANKS];
            msae_step_stats one;
            msae_trainer trainer;
            hall h;
            size_t rows = 0, given = 0;
            test_note("parts %zu, ties %d", i, ties);
            if (ties) {
                for (size_t r = D; r < (BATCH + 16) * D; r++) x[r] = x[r % ((size_t)ties * D)];
            }
            desc.batch = BATCH;
            desc.model.k = 2;
            make_members(members, &h, RANKS, &desc, &stream, &nothing);
            for (size_t r = 0; r < RANKS; r++) {
                steps[r].member = &members[r];
                steps[r].x = x + given * D;
                steps[r].rows = parts[i][r];
                given += parts[i][r];
                CHECK_STATUS(MSAE_OK,
                             msae_trainer_init(&members[r].trainer, &members[r].desc, NULL));
                test_randomize(&members[r].trainer.model, 4);
            }
            for (size_t r = 0; r < RANKS; r++) {
                if (pthread_create(&members[r].thread, NULL, step_member, &steps[r]) != 0) exit(1);
            }
            for (size_t r = 0; r < RANKS; r++) pthread_join(members[r].thread, NULL);
            for (size_t r = 0; r < RANKS; r++) rows += parts[i][r];
            CHECK(!h.hangs && !h.differs);
            CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
            test_randomize(&trainer.model, 4);
            if (rows > BATCH) {
                size_t told = 0;
                for (size_t r = 0; r < RANKS; r++) {
                    told += members[r].status == MSAE_ERROR_ARGUMENT;
                    CHECK(members[r].status != MSAE_OK && members[r].trainer.step == 0);
                }
                CHECK(told > 0);
            } else if (rows > 0) {
                CHECK_STATUS(MSAE_OK, members[0].status);
                CHECK_STATUS(MSAE_OK, msae_trainer_step(&trainer, x, rows, &one, NULL));
                CHECK(relative(steps[0].stats.l0, one.l0) < 1e-12);
                CHECK(relative(steps[0].stats.loss, one.loss) < 1e-5 || ties);
                CHECK(relative(members[0].trainer.workspace->lowest, trainer.workspace->lowest) <
                      1e-5);
                for (size_t r = 0; r < RANKS; r++) {
                    CHECK(steps[r].stats.rows == rows);
                    CHECK(test_same(members[r].trainer.model.encoder,
                                    members[0].trainer.model.encoder, N * D));
                }
            }
            msae_trainer_free(&trainer);
            free_members(members, RANKS);
            free(x);
        }
    }
}

/* Collectives that are none. */
static void hostile_collectives(void) {
    msae_train_desc desc = run_desc(&test_recipes[0]);
    msae_trainer trainer;
    msae_error error;
    for (int i = 0; i < 5; i++) {
        msae_collective c = {sum_floats, sum_doubles, NULL, 0, 2};
        test_note("collective %d", i);
        if (i == 0) c.sum_floats = NULL;
        if (i == 1) c.sum_doubles = NULL;
        if (i == 2) c.rank = 2;
        if (i == 3) c.ranks = MSAE_MAX_RANKS + 1;
        if (i == 4) c.rank = SIZE_MAX;
        desc.collective = c;
        CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_trainer_init(&trainer, &desc, &error));
        /* put in later, as after a checkpoint */
        float x[4 * RUN_D] = {1, 2, 3};
        const msae_data data = msae_data_view(x, 4, RUN_D);
        memset(&desc.collective, 0, sizeof desc.collective);
        CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, &error));
        trainer.desc.collective = c;
        CHECK_STATUS(MSAE_ERROR_ARGUMENT, test_fit(&trainer, &data, NULL, NULL, &error));
        CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_trainer_step(&trainer, x, 4, NULL, &error));
        CHECK_STATUS(MSAE_ERROR_ARGUMENT, test_statistics(&trainer, &data, &error));
        msae_trainer_free(&trainer);
    }
}
#endif

/* ---------------------------------------------------------------------------------------------
   Statistics
   ------------------------------------------------------------------------------------------ */

#ifdef MSAE_USE_PTHREADS
typedef struct statistics {
    member *member;
    float mean[8], scale, median[8];
} statistics;

static void *measure_member(void *argument) {
    statistics *s = (statistics *)argument;
    member *m = s->member;
    const msae_collective *c = &m->desc.collective;
    m->status = msae_source_statistics(&m->source, m->desc.scaling, 1, c, NULL, s->mean, &s->scale,
                                       &m->error);
    if (m->status == MSAE_OK) {
        m->status = test_median(&m->source, s->mean, s->scale, 1, c, NULL, s->median, &m->error);
    }
    leave(m->hall);
    return NULL;
}
#endif

/* Off by one step of a float at most. */
static int next_to(float a, float b) {
    return fabs((double)a - (double)b) <= 1.2e-7 * fabs((double)b);
}

/* One pass agrees with two in double, on data that makes a careless one fail; and so do several
   processes, which agree with each other to the bit. */
static void statistics_in_one_pass(void) {
    enum { D = 7, ROWS = 2500 };
    float *x = test_floats(ROWS * D);
    for (int kind = 0; kind < 7; kind++) {
        for (size_t rows = kind == 6 ? 1 : ROWS; rows >= 1; rows = rows > 65 ? 65 : rows / 2) {
            double mean[D] = {0}, squares = 0, used = 0;
            float got[D], scale;
            uint64_t seed = 9;
            msae_error error;
            shelf s = make_shelf(x, rows, D);
            const msae_source source = shelf_source(&s);
            test_note("kind %d, %zu rows", kind, rows);
            test_fill(&seed, x, ROWS * D, 1);
            for (size_t i = 0; i < ROWS * D; i++) {
                const uint32_t nan = 0x7fc00000u;
                if (kind == 1) x[i] = 1e4f + 1e-2f * x[i];
                if (kind == 2) x[i] *= 1e19f;
                if (kind == 3) x[i] = 0.1f;
                if (kind == 4) x[i] = (float)(i / D) + x[i] * 1e-3f; /* sorted */
                if (kind == 5 && i / D % 3 == 1 && i / D < 300) memcpy(&x[i], &nan, sizeof nan);
                if (kind == 6) x[i] = 3e37f;
            }
            for (size_t r = 0; r < rows; r++) {
                if (!msae__row_is_finite(x + r * D, D)) continue;
                used++;
                for (size_t i = 0; i < D; i++) mean[i] += (double)x[r * D + i];
            }
            for (size_t i = 0; i < D; i++) mean[i] /= used;
            for (size_t i = 0; i < rows * D; i++) {
                const double off = (double)x[i] - mean[i % D];
                if (msae__row_is_finite(x + i / D * D, D)) squares += off * off;
            }
            for (int scaling = 1; scaling < MSAE_SCALING_COUNT; scaling++) {
                double want = 1;
                if (scaling == MSAE_SCALING_RMS && squares / used > 1e-24) {
                    want = sqrt(D / (squares / used));
                }
                if (scaling == MSAE_SCALING_PAPER && squares / used > 1e-24) {
                    want = sqrt((double)D) / (squares / used);
                }
                const msae_status status = msae_source_statistics(&source, (msae_scaling)scaling, 1,
                                                                  NULL, NULL, got, &scale, &error);
                if (want < 1.17549435e-38) {
                    CHECK_STATUS(MSAE_ERROR_NOT_FINITE, status);
                    continue;
                }
                if (!CHECK_STATUS(MSAE_OK, status)) continue;
                CHECK(next_to(scale, (float)want));
                for (size_t i = 0; i < D; i++) {
                    CHECK(next_to(got[i], (float)mean[i]) || fabs(mean[i]) < 1e-6);
                }
#ifdef MSAE_USE_PTHREADS
                for (size_t ranks = 2; ranks <= 3; ranks++) {
                    statistics all[3];
                    msae_stream_desc stream = run_stream(0);
                    msae_train_desc desc = run_desc(&test_recipes[0]);
                    hall h;
                    desc.scaling = (msae_scaling)scaling;
                    make_members(members, &h, ranks, &desc, &stream, &source);
                    const msae_data data = msae_data_view(x, rows, D);
                    for (size_t r = 0; r < ranks; r++) {
                        memset(&all[r], 0, sizeof all[r]);
                        all[r].member = &members[r];
                        members[r].source = msae_source_data(&data);
                        if (pthread_create(&members[r].thread, NULL, measure_member, &all[r])) {
                            exit(1);
                        }
                    }
                    for (size_t r = 0; r < ranks; r++) pthread_join(members[r].thread, NULL);
                    CHECK(!h.hangs && !h.differs);
                    float median[D];
                    CHECK_STATUS(MSAE_OK,
                                 test_geometric_median(&data, got, scale, 1, NULL, median, &error));
                    for (size_t r = 0; r < ranks; r++) {
                        CHECK_STATUS(MSAE_OK, members[r].status);
                        CHECK(next_to(all[r].scale, (float)want));
                        for (size_t i = 0; i < D; i++) {
                            CHECK(next_to(all[r].mean[i], (float)mean[i]) || fabs(mean[i]) < 1e-6);
                            CHECK(fabs((double)all[r].median[i] - (double)median[i]) <=
                                  1e-4 * (1 + fabs((double)median[i])));
                        }
                        CHECK(memcmp(all[r].mean, all[0].mean, sizeof all[r].mean) == 0);
                        CHECK(memcmp(all[r].median, all[0].median, sizeof all[r].median) == 0);
                        CHECK(all[r].scale == all[0].scale);
                    }
                    free_members(members, ranks);
                }
#endif
            }
        }
    }
    free(x);
}

/* ---------------------------------------------------------------------------------------------
   Files
   ------------------------------------------------------------------------------------------ */

static char folder_path[128];

enum { F_NPY2, F_NPY4, F_NPY8, F_BARE, F_T16, F_TB16, F_T32, F_T64, FILE_KINDS };

/* A value that every type of the kinds holds. */
static float small_number(uint64_t *seed) {
    return (float)((int)(test_random(seed) % 255) - 127) / 4;
}

static void put_value(FILE *file, float value, int kind) {
    unsigned char out[8];
    uint64_t bits = 0;
    size_t width = 4;
    const double wide = (double)value;
    uint32_t single;
    memcpy(&single, &value, sizeof single);
    bits = single;
    if (kind == F_NPY8 || kind == F_T64) {
        memcpy(&bits, &wide, sizeof bits);
        width = 8;
    } else if (kind == F_TB16) {
        bits = single >> 16;
        width = 2;
    } else if (kind == F_NPY2 || kind == F_T16) {
        const uint32_t exponent = single >> 23 & 255;
        bits = exponent ? (single >> 31 << 15) | ((exponent - 112) << 10) | (single >> 13 & 1023)
                        : single >> 31 << 15;
        width = 2;
    }
    for (size_t i = 0; i < width; i++) out[i] = (unsigned char)(bits >> (8 * i));
    CHECK(fwrite(out, 1, width, file) == width);
}

/* Writes rows of x in a file of that kind; its path is put into `path`. */
static void write_shard(char *path, size_t number, int kind, const float *x, size_t rows,
                        size_t cols) {
    static const char *const types[] = {"<f2", "<f4", "<f8", "", "F16", "BF16", "F32", "F64"};
    static const size_t widths[] = {2, 4, 8, 4, 2, 2, 4, 8};
    char header[512];
    if (kind == F_BARE) {
        snprintf(path, 256, "%s/shard%zu_%zu_%zu.npy", folder_path, number, rows, cols);
    } else {
        snprintf(path, 256, "%s/shard%zu", folder_path, number);
    }
    FILE *file = fopen(path, "wb");
    if (!CHECK(file != NULL)) exit(1);
    const size_t end = rows * cols * widths[kind];
    if (kind < F_BARE) {
        const int length =
            snprintf(header, sizeof header,
                     "{'descr': '%s', 'fortran_order': False, 'shape': (%zu, %zu), }\n",
                     types[kind], rows, cols);
        fwrite("\x93NUMPY\x01\0", 1, 8, file);
        fputc(length & 255, file);
        fputc(length >> 8, file);
        fputs(header, file);
    } else if (kind > F_BARE) {
        const int length =
            snprintf(header, sizeof header,
                     "{\"x\":{\"dtype\":\"%s\",\"shape\":[%zu,%zu],\"data_offsets\":[0,%zu]},"
                     "\"y\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[%zu,%zu]}}",
                     types[kind], rows, cols, end, end, end + 4);
        for (int i = 0; i < 8; i++) fputc(i < 2 ? length >> (8 * i) & 255 : 0, file);
        fputs(header, file);
    }
    for (size_t i = 0; i < rows * cols; i++) put_value(file, x[i], kind);
    if (kind > F_BARE) put_value(file, 1, F_T32);
    CHECK(fclose(file) == 0);
}

enum { SHARDS = 2 * FILE_KINDS, FILE_D = 5 };

static char shard_paths[SHARDS][256];
static const char *shard_names[SHARDS];

/* Files of every kind, of 1 to 11 rows, that hold rows of x. */
static size_t write_shards(float *x, size_t most) {
    uint64_t seed = 2;
    size_t rows = 0;
    for (size_t i = 0; i < most * FILE_D; i++) x[i] = small_number(&seed);
    for (size_t i = 0; i < SHARDS; i++) {
        const size_t count = 1 + i * 7 % 11;
        if (!CHECK(rows + count <= most)) exit(1);
        write_shard(shard_paths[i], i, (int)(i * 3 % FILE_KINDS), x + rows * FILE_D, count, FILE_D);
        shard_names[i] = shard_paths[i];
        rows += count;
    }
    return rows;
}

static void remove_shards(void) {
    for (size_t i = 0; i < SHARDS; i++) remove(shard_paths[i]);
}

static void files_are_one_set(void) {
    enum { MOST = 128 };
    float x[MOST * FILE_D], out[MOST * FILE_D];
    const size_t rows = write_shards(x, MOST);
    test_heap heap;
    msae_files files;
    msae_error error;
    memset(&heap, 0, sizeof heap);
    const msae_allocator allocator = test_heap_allocator(&heap);
    CHECK_STATUS(MSAE_OK, msae_files_open(&files, shard_names, SHARDS, "x", &allocator, &error));
    CHECK(files.n_shards == SHARDS && files.source.rows == rows && files.source.cols == FILE_D);
    for (size_t first = 0; first < rows; first++) {
        for (size_t count = 1; count <= rows - first; count += 1 + count / 2) {
            memset(out, 0, sizeof out);
            CHECK_STATUS(MSAE_OK, files.source.read(files.source.user, first, count, out, &error));
            CHECK(test_same(out, x + first * FILE_D, count * FILE_D));
        }
        const msae_shard *shard = msae_files_find(&files, first);
        CHECK(shard->first_row <= first && first - shard->first_row < shard->rows);
        CHECK(shard->path == shard_names[shard - files.shards]);
    }
    /* a run over them is one over memory, in a window and in many */
    const msae_data data = msae_data_view(x, rows, FILE_D);
    const msae_source direct = msae_source_data(&data);
    for (int windows = 0; windows < 2; windows++) {
        for (int way = 0; way < READ_WAYS; way++) {
            msae_stream_desc stream = run_stream(windows);
            stream.background = way_to_read(way);
            const msae_train_desc desc = run_desc(&test_recipes[7]);
            bytes want = run_over(&desc, &direct, &stream, NULL);
            bytes end = run_over(&desc, &files.source, &stream, NULL);
            CHECK(same(&end, &want));
            free(want.data);
            free(end.data);
        }
    }
    msae_files_close(&files);
    msae_files_close(&files);
    CHECK(heap.bytes == 0);
    remove_shards();
}

/* A .npy of that shape and no rows. */
static void write_empty(const char *path, const char *shape) {
    char header[256];
    const int length = snprintf(header, sizeof header,
                                "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }\n", shape);
    FILE *file = fopen(path, "wb");
    if (!CHECK(file != NULL)) exit(1);
    fwrite("\x93NUMPY\x01\0", 1, 8, file);
    fputc(length, file);
    fputc(0, file);
    fputs(header, file);
    CHECK(fclose(file) == 0);
}

/* Files without rows, before, between and behind the others, are shards without rows. */
static void files_without_rows(void) {
    enum { MOST = 128 };
    float x[MOST * FILE_D], out[MOST * FILE_D];
    const size_t rows = write_shards(x, MOST);
    static const int kinds[] = {F_NPY2, F_NPY4, F_NPY8, F_T16, F_T32};
    char paths[COUNT(kinds) + 2][256], wide[256], tall[256];
    const char *names[SHARDS + 2 * COUNT(paths) + 1];
    msae_files files;
    msae_error error;
    size_t n = 0;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        write_shard(paths[i], 50 + i, kinds[i], x, 0, FILE_D);
    }
    for (size_t i = COUNT(kinds); i < COUNT(paths); i++) {
        snprintf(paths[i], sizeof paths[i], "%s/empty%zu", folder_path, i);
        write_empty(paths[i], i == COUNT(kinds) ? "(0,)" : "(0, 5)");
    }
    for (size_t i = 0; i < COUNT(paths); i++) names[n++] = paths[i];
    for (size_t i = 0; i < SHARDS; i++) {
        names[n++] = shard_names[i];
        if (i < COUNT(paths)) names[n++] = paths[i];
    }
    for (int last = 0; last < 2; last++) { /* with one behind them all, and without */
        test_note("%d", last);
        if (last) names[n++] = paths[0];
        CHECK_STATUS(MSAE_OK, msae_files_open(&files, names, n, "x", NULL, &error));
        CHECK(files.n_shards == n && files.source.rows == rows && files.source.cols == FILE_D);
        for (size_t row = 0; row < rows; row++) {
            const msae_shard *shard = msae_files_find(&files, row);
            CHECK(shard->first_row <= row && row - shard->first_row < shard->rows);
        }
        CHECK(msae_files_find(&files, rows) == NULL);
        CHECK_STATUS(MSAE_OK, files.source.read(files.source.user, 0, rows, out, &error));
        CHECK(test_same(out, x, rows * FILE_D));
        msae_files_close(&files);
    }
    /* their columns count */
    snprintf(wide, sizeof wide, "%s/wide", folder_path);
    write_empty(wide, "(0, 6)");
    names[n - 1] = wide;
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_files_open(&files, names, n, "x", NULL, &error));
    CHECK(files.at_fault == n - 1);
    CHECK(strcmp(error.message, "has 6 columns, the files before it have another number") == 0);
    snprintf(tall, sizeof tall, "%s/tall", folder_path);
    write_empty(tall, "(6, 0)");
    names[n - 1] = tall;
    CHECK_STATUS(MSAE_ERROR_FORMAT, msae_files_open(&files, names, n, "x", NULL, &error));
    CHECK(files.at_fault == n - 1);
    /* there must be rows somewhere */
    CHECK_STATUS(MSAE_ERROR_SHAPE, msae_files_open(&files, names, COUNT(paths), "x", NULL, &error));
    CHECK(files.at_fault == 0 && files.shards == NULL);
    CHECK(strcmp(error.message, "has no rows, nor has any file after it") == 0);
    for (size_t i = 0; i < COUNT(paths); i++) {
        CHECK(msae_files_open(&files, names + i, 1, "x", NULL, &error) != MSAE_OK);
        remove(paths[i]);
    }
    remove(wide);
    remove(tall);
    remove_shards();
}

/* Every file in its turn is missing, empty, of another width, cut off, something else, or without
   the tensor; and shrinks, grows or goes after it was opened. */
static void bad_files(void) {
    enum { MOST = 128 };
    float x[MOST * FILE_D], out[MOST * FILE_D];
    const size_t rows = write_shards(x, MOST);
    for (size_t i = 0; i < SHARDS; i++) {
        for (int fault = 0; fault < 10; fault++) {
            char other[256];
            const char *const old = shard_names[i];
            msae_files files;
            msae_error error;
            test_heap heap;
            memset(&heap, 0, sizeof heap);
            const msae_allocator allocator = test_heap_allocator(&heap);
            test_note("file %zu, fault %d", i, fault);
            FILE *file = fopen(old, "rb");
            static unsigned char content[4096];
            const size_t size = fread(content, 1, sizeof content, file);
            fclose(file);
            const char *dot = strrchr(old, '/');
            snprintf(other, sizeof other, "%s/other_%s", folder_path, dot + 1);
            shard_names[i] = other;
            if (fault == 1 || fault == 4) { /* empty; another width */
                if (fault == 1) fclose(fopen(other, "wb"));
                if (fault == 4) write_shard(other, 99, F_NPY4, x, 2, FILE_D + 1);
            } else if (fault > 0) {
                file = fopen(other, "wb");
                if (fault == 3) content[0] ^= 0x55; /* something else */
                fwrite(content, 1, fault == 2 ? size - 3 : size, file);
                fclose(file);
            }
            const char *const tensor = fault == 5 ? "z" : "x";
            const int opens = fault >= 6 || (fault == 5 && i * 3 % FILE_KINDS <= F_BARE) ||
                              (fault == 3 && i * 3 % FILE_KINDS == F_BARE);
            const msae_status status = msae_files_open(
                &files, shard_names, fault == 5 ? i + 1 : SHARDS, tensor, &allocator, &error);
            if (fault == 5) { /* the first one that has tensors */
                size_t first = 0;
                while (first <= i && first * 3 % FILE_KINDS <= F_BARE) first++;
                if (first <= i) {
                    CHECK_STATUS(MSAE_ERROR_ARGUMENT, status);
                    CHECK(files.at_fault == first);
                }
            } else if (opens) {
                CHECK_STATUS(MSAE_OK, status);
            } else {
                CHECK_STATUS(fault == 0   ? MSAE_ERROR_IO
                             : fault == 4 ? MSAE_ERROR_SHAPE
                                          : MSAE_ERROR_FORMAT,
                             status);
                /* where the first one is wider, the second one differs from it */
                CHECK(files.at_fault == (fault == 4 && i == 0 ? 1 : i));
                CHECK(error.message[0] && heap.bytes == 0 && files.shards == NULL);
            }
            if (status == MSAE_OK && fault >= 6) {
                const msae_shard *shard = &files.shards[i];
                const size_t first = (size_t)shard->first_row;
                float *row = out;
                if (fault == 6) remove(other); /* gone */
                if (fault == 7 || fault == 8) {
                    file = fopen(other, "wb"); /* shorter; longer */
                    fwrite(content, 1, fault == 7 ? size - 1 : size, file);
                    if (fault == 8) fputc(0, file);
                    fclose(file);
                }
                if (fault == 9) { /* cut off while it is open */
                    CHECK_STATUS(MSAE_OK,
                                 files.source.read(files.source.user, first, 1, row, &error));
                    fclose(fopen(other, "wb"));
                }
                if (fault == 9 && i == 0) { /* (of which stdio holds all) */
                    msae_files_close(&files);
                    remove(other);
                    shard_names[i] = old;
                    continue;
                }
                files.at_fault = 77;
                CHECK_STATUS(MSAE_ERROR_IO,
                             files.source.read(files.source.user, 0, rows, out, &error));
                CHECK(files.at_fault == i && error.message[0]);
                /* the others are there as before */
                const size_t elsewhere = i == 0 ? rows - 1 : 0;
                CHECK_STATUS(MSAE_OK,
                             files.source.read(files.source.user, elsewhere, 1, out, &error));
                CHECK(test_same(out, x + elsewhere * FILE_D, FILE_D));
            }
            msae_files_close(&files);
            CHECK(heap.bytes == 0);
            remove(other);
            shard_names[i] = old;
        }
    }
    msae_files files;
    CHECK_STATUS(MSAE_ERROR_ARGUMENT, msae_files_open(&files, shard_names, 0, NULL, NULL, NULL));
    CHECK_STATUS(MSAE_ERROR_MEMORY,
                 msae_files_open(&files, shard_names, SIZE_MAX / 8, NULL, NULL, NULL));
    msae_files_close(&files);
    remove_shards();
}

/* A row with a NaN in the middle of a set: its number in the set, and the file it is in. */
static void bad_rows_of_files(void) {
    enum { MOST = 128 };
    float x[MOST * FILE_D];
    const size_t rows = write_shards(x, MOST);
    const msae_train_desc desc = run_desc(&test_recipes[0]);
    for (size_t bad = 0; bad < rows; bad += 9) {
        msae_files files;
        msae_trainer trainer;
        msae_error error;
        const msae_stream_desc stream = run_stream(1);
        test_note("row %zu", bad);
        CHECK_STATUS(MSAE_OK, msae_files_open(&files, shard_names, SHARDS, "x", NULL, NULL));
        CHECK_STATUS(MSAE_OK, msae_trainer_init(&trainer, &desc, NULL));
        CHECK_STATUS(MSAE_OK, msae_trainer_statistics(&trainer, &files.source, NULL));
        const msae_shard *shard = msae_files_find(&files, bad);
        const size_t width = msae_dtype_bytes(shard->dtype);
        unsigned char old[8], nan[8];
        memset(nan, 0xff, sizeof nan); /* a NaN in all types */
        FILE *file = fopen(shard->path, "r+b");
        const long at = (long)(shard->offset + (bad - shard->first_row) * FILE_D * width);
        fseek(file, at, SEEK_SET);
        CHECK(fread(old, 1, width, file) == width);
        fseek(file, at, SEEK_SET);
        fwrite(nan, 1, width, file);
        fflush(file);
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_trainer_fit(&trainer, &files.source, &stream, NULL, NULL, &error));
        CHECK(error.position == bad);
        CHECK_STATUS(MSAE_ERROR_NOT_FINITE,
                     msae_trainer_statistics(&trainer, &files.source, &error));
        CHECK(error.position == bad);
        fseek(file, at, SEEK_SET);
        fwrite(old, 1, width, file);
        fclose(file);
        msae_trainer_free(&trainer);
        msae_files_close(&files);
    }
    remove_shards();
}

/* More files than a process may hold open, and rows behind the first four gigabytes of one, where
   the file system stores holes. */
static void many_files_and_large_ones(void) {
    enum { MANY = 1200 };
    static const char *names[MANY];
    static char paths[MANY][256];
    float out[2 * 2 * MANY];
    msae_files files;
    msae_error error;
    for (size_t i = 0; i < MANY; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/s%zu_2_2.npy", folder_path, i);
        names[i] = paths[i];
        FILE *file = fopen(paths[i], "wb");
        if (!CHECK(file != NULL)) exit(1);
        for (int v = 0; v < 4; v++) put_value(file, (float)(4 * i) + (float)v, F_T32);
        fclose(file);
    }
    CHECK_STATUS(MSAE_OK, msae_files_open(&files, names, MANY, NULL, NULL, &error));
    CHECK(files.source.rows == 2 * MANY);
    CHECK_STATUS(MSAE_OK, files.source.read(files.source.user, 0, 2 * MANY, out, &error));
    for (size_t i = 0; i < COUNT(out); i++) CHECK(out[i] == (float)i);
    msae_files_close(&files);
    for (size_t i = 0; i < MANY; i++) remove(paths[i]);

    /* one that is cut off while it is open, beyond what stdio holds of it */
    snprintf(paths[0], sizeof paths[0], "%s/s_20000_2.npy", folder_path);
    FILE *file = fopen(paths[0], "wb");
    if (!CHECK(file != NULL)) exit(1);
    for (int v = 0; v < 40000; v++) put_value(file, (float)v, F_T32);
    fclose(file);
    CHECK_STATUS(MSAE_OK, msae_files_open(&files, names, 1, NULL, NULL, &error));
    CHECK_STATUS(MSAE_OK, files.source.read(files.source.user, 0, 1, out, &error));
    file = fopen(paths[0], "wb");
    fclose(file);
    files.at_fault = 77;
    CHECK_STATUS(MSAE_ERROR_IO, files.source.read(files.source.user, 19999, 1, out, &error));
    CHECK(files.at_fault == 0 && error.message[0]);
    msae_files_close(&files);
    remove(paths[0]);

#if !defined(_WIN32) && LONG_MAX > 0x7fffffff
    const size_t rows = ((size_t)5 << 30) / 8;
    snprintf(paths[0], sizeof paths[0], "%s/large_%zu_2.npy", folder_path, rows);
    file = fopen(paths[0], "wb");
    if (!CHECK(file != NULL)) exit(1);
    if (ftruncate(fileno(file), (off_t)(8 * rows)) == 0 &&
        fseek(file, (long)(8 * (rows - 1)), SEEK_SET) == 0) {
        put_value(file, x[0], F_T32);
        put_value(file, x[1], F_T32);
        fclose(file);
        snprintf(paths[1], sizeof paths[1], "%s/s_1_2.npy", folder_path);
        file = fopen(paths[1], "wb");
        put_value(file, 3, F_T32);
        put_value(file, 4, F_T32);
        fclose(file);
        CHECK_STATUS(MSAE_OK, msae_files_open(&files, names, 2, NULL, NULL, &error));
        CHECK(files.source.rows == rows + 1);
        CHECK_STATUS(MSAE_OK, files.source.read(files.source.user, rows - 2, 3, out, &error));
        CHECK(out[0] == 0 && out[1] == 0 && out[2] == 1 && out[3] == 2 && out[4] == 3);
        CHECK(msae_files_find(&files, rows)->path == paths[1]);
        CHECK(msae_files_find(&files, rows - 1)->path == paths[0]);
        /* a stream over it looks at a window */
        test_heap heap;
        msae_stream_desc desc;
        msae_stream stream;
        msae_batch batch;
        memset(&desc, 0, sizeof desc);
        memset(&heap, 0, sizeof heap);
        desc.batch = 256;
        desc.block_rows = 32768;
        desc.window_rows = 65536;
        desc.allocator = test_heap_allocator(&heap);
        CHECK_STATUS(MSAE_OK, msae_stream_init(&stream, &files.source, &desc, NULL, &error));
        CHECK_STATUS(MSAE_OK, msae_stream_next(&stream, &batch, &error));
        CHECK(batch.rows == 256 && heap.most < (size_t)4 << 20);
        msae_stream_free(&stream);
        msae_files_close(&files);
        remove(paths[1]);

        /* a header that claims most of a file that is not there is not read */
        memset(&heap, 0, sizeof heap);
        const msae_allocator allocator = test_heap_allocator(&heap);
        file = fopen(paths[0], "r+b");
        fwrite("\x93NUMPY\x02\0\xf0\xff\xff\xff", 1, 12, file);
        fclose(file);
        CHECK_STATUS(MSAE_ERROR_FORMAT,
                     msae_files_open(&files, names, 1, NULL, &allocator, &error));
        CHECK(heap.most < (size_t)200 << 20);
    } else {
        fclose(file);
    }
    remove(paths[0]);
#endif
}

int main(void) {
    snprintf(folder_path, sizeof folder_path, "%s", test_folder());
#ifdef MSAE_USE_PTHREADS
    CHECK_STATUS(MSAE_OK, msae_background_create(&thread_background, NULL));
#endif
    RUN(every_row_once);
    RUN(in_one_window);
    RUN(parts_of_a_batch);
    RUN(alike_everywhere);
    RUN(variance_of_batches);
    RUN(goes_on_from_everywhere);
    RUN(from_its_own_position);
    RUN(hostile_positions);
    RUN(hostile_descriptors);
    RUN(fails_and_goes_on);
    RUN(same_bits_from_anywhere);
    RUN(one_reader_at_a_time);
    RUN(runs_come_back);
    RUN(hostile_checkpoints);
    RUN(bad_rows);
    RUN(runs_that_cannot_be);
#ifdef MSAE_USE_PTHREADS
    RUN(processes_train_one_model);
    RUN(shares_hide_processes);
    RUN(shares_hide_processes_from_revivals);
    RUN(one_fails_for_all);
    RUN(the_largest_of_all);
    RUN(hostile_collectives);
#endif
    RUN(statistics_in_one_pass);
    RUN(files_are_one_set);
    RUN(files_without_rows);
    RUN(bad_files);
    RUN(bad_rows_of_files);
    RUN(many_files_and_large_ones);
#ifdef MSAE_USE_PTHREADS
    msae_background_free(&thread_background);
#endif
    TEST_RMDIR(folder_path);
    return test_finish();
}
