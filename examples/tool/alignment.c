/* Alignment of two matrices' rows. See alignment.h.

   An assignment problem: rows i of the smaller side, columns j of the larger, costs c_ij = -cosine
   as integers of 2^-30, so that all sums are exact and the order of a minimum is never in doubt.
   v_j <= 0 are the columns' prices; c_ij - v_j is what column j costs row i. Prices only fall, and
   what a row pays for others only rises: so each row keeps a list of the columns that were cheapest
   for it at some time and the `bound` that all others have cost since, and hardly ever looks at its
   whole row of the matrix. Columns without a row keep the price 0, which makes the matching optimal
   where there are more columns than rows too. */
#include "alignment.h"

#include "audit.h"

#define ALIGNER_ROWS ((size_t)96) /* whose cosines are computed at once */
#define ALIGNER_LIST 64           /* entries of a row's list */
#define ALIGNER_STEPS 64          /* steps of bidding for each row, before paths are searched */
#define ALIGNER_FAR INT64_MAX
#define ALIGNER_FREE UINT32_MAX

/* What a column costs a row: an entry of the row's list. */
typedef struct aligner_offer {
    int64_t price; /* only while the list is made */
    int32_t cost;
    uint32_t column;
} aligner_offer;

typedef struct aligner {
    const msae_host *host;
    size_t rows, cols, d, list; /* rows <= cols; entries of a list */
    float *a, *b;               /* [rows][d], [cols][d] unit rows */
    int32_t *cost;              /* [rows][cols] */
    aligner_offer *offers;      /* [rows][list] */
    int64_t *bound;             /* [rows]: c_ij - v_j of all columns outside the list, or more */
    int64_t *v;                 /* [cols] */
    uint32_t *col_of, *row_of;  /* [rows], [cols]: the matching, or ALIGNER_FREE */
    uint32_t *queue;            /* [rows]: without a column */

    /* A search for a path. Its items are the columns and, from `cols` on, the rows: when a row's
       turn comes, columns outside its list may be the next. */
    int64_t *key;    /* [cols + rows]: distance, ALIGNER_FAR when not reached */
    uint32_t *heap;  /* [cols + rows]: items, the nearest first */
    uint32_t *place; /* [cols + rows]: in the heap */
    size_t items;
    int64_t *offset; /* [rows]: a row's distances are c_ij - v_j - offset */
    uint32_t *from;  /* [cols]: the row that reached it */
    uint32_t *done;  /* [cols]: columns in the order they were reached */
    int64_t nearest; /* distance of the nearest column that is free .. */
    uint32_t target; /* .. and which it is */

    float *block;             /* [ALIGNER_ROWS][cols]: cosines of the rows from `first` on */
    unsigned char *workspace; /* of their products */
    size_t first, workspace_bytes;
} aligner;

static void aligner_layout(void *context, audit_block *block) {
    aligner *m = (aligner *)context;
    const size_t rows = m->rows, cols = m->cols, d = m->d;
    m->a = AUDIT_PLACE(block, float, audit_times(rows, d));
    m->b = AUDIT_PLACE(block, float, audit_times(cols, d));
    m->cost = AUDIT_PLACE(block, int32_t, audit_times(rows, cols));
    m->offers = AUDIT_PLACE(block, aligner_offer, audit_times(rows, m->list));
    m->bound = AUDIT_PLACE(block, int64_t, rows);
    m->v = AUDIT_PLACE(block, int64_t, cols);
    m->col_of = AUDIT_PLACE(block, uint32_t, rows);
    m->row_of = AUDIT_PLACE(block, uint32_t, cols);
    m->queue = AUDIT_PLACE(block, uint32_t, rows);
    m->key = AUDIT_PLACE(block, int64_t, cols + rows);
    m->heap = AUDIT_PLACE(block, uint32_t, cols + rows);
    m->place = AUDIT_PLACE(block, uint32_t, cols + rows);
    m->offset = AUDIT_PLACE(block, int64_t, rows);
    m->from = AUDIT_PLACE(block, uint32_t, cols);
    m->done = AUDIT_PLACE(block, uint32_t, cols);
    m->block = AUDIT_PLACE(block, float, audit_times(audit_min(ALIGNER_ROWS, rows), cols));
    m->workspace = AUDIT_PLACE(block, unsigned char, m->workspace_bytes);
}

/* ---------------------------------------------------------------------------------------------
   Costs and lists
   ------------------------------------------------------------------------------------------ */

/* 1 when a comes behind b: the higher price, of equal ones the higher column. */
static int aligner_behind(const aligner_offer *a, const aligner_offer *b) {
    return a->price > b->price || (a->price == b->price && a->column > b->column);
}

/* Puts an offer into a heap of `count` places whose first is the last of all, from place `at`
   down. */
static void aligner_sift_offer(aligner_offer *heap, size_t count, size_t at, aligner_offer offer) {
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && aligner_behind(&heap[child + 1], &heap[child])) child++;
        if (!aligner_behind(&heap[child], &offer)) break;
        heap[at] = heap[child];
    }
    heap[at] = offer;
}

/* Makes a row's list anew: the columns that cost it least at the prices of now. */
static void aligner_list_offers(aligner *m, size_t row) {
    const int32_t *cost = m->cost + row * m->cols;
    const int64_t *v = m->v;
    aligner_offer *offers = m->offers + row * m->list, offer;
    for (size_t j = 0; j < m->list; j++) {
        offers[j].price = cost[j] - v[j];
        offers[j].cost = cost[j];
        offers[j].column = (uint32_t)j;
    }
    for (size_t at = m->list / 2; at-- > 0;) {
        offer = offers[at];
        aligner_sift_offer(offers, m->list, at, offer);
    }
    for (size_t j = m->list; j < m->cols; j++) {
        offer.price = cost[j] - v[j];
        if (offer.price >= offers[0].price) continue;
        offer.cost = cost[j];
        offer.column = (uint32_t)j;
        aligner_sift_offer(offers, m->list, 0, offer);
    }
    m->bound[row] = m->list < m->cols ? offers[0].price : ALIGNER_FAR;
}

/* Products to costs, and the row's first list: all prices are 0. */
static void aligner_cost_task(void *context, size_t task, size_t worker) {
    aligner *m = (aligner *)context;
    const float *cosine = m->block + task * m->cols;
    int32_t *cost = m->cost + (m->first + task) * m->cols;
    (void)worker;
    for (size_t j = 0; j < m->cols; j++) cost[j] = (int32_t)(cosine[j] * -1073741824.0f);
    aligner_list_offers(m, m->first + task);
}

/* The cosines of a block of rows with all columns. */
static msae_product aligner_product(const aligner *m) {
    msae_product product;
    memset(&product, 0, sizeof product);
    product.a = m->a ? m->a + m->first * m->d : NULL;
    product.b = m->b;
    product.c = m->block;
    product.rows = audit_min(ALIGNER_ROWS, m->rows - m->first);
    product.cols = m->cols;
    product.depth = m->d;
    return product;
}

static void aligner_fill_costs(aligner *m) {
    for (m->first = 0; m->first < m->rows; m->first += ALIGNER_ROWS) {
        const msae_product product = aligner_product(m);
        /* (which cannot fail: its workspace was made for it) */
        msae_multiply(&product, m->host, m->workspace, &m->workspace_bytes, NULL);
        audit_for(&m->host->parallel, product.rows, aligner_cost_task, m);
    }
}

/* ---------------------------------------------------------------------------------------------
   Bidding, then shortest augmenting paths (Jonker and Volgenant 1987)
   ------------------------------------------------------------------------------------------ */

/* The two cheapest columns of a row's list. */
static void aligner_two_cheapest(const aligner *m, size_t row, uint32_t column[2],
                                 int64_t price[2]) {
    const aligner_offer *offers = m->offers + row * m->list;
    column[0] = column[1] = ALIGNER_FREE;
    price[0] = price[1] = ALIGNER_FAR;
    for (size_t i = 0; i < m->list; i++) {
        const int64_t at = offers[i].cost - m->v[offers[i].column];
        const int second = at >= price[0];
        if (at >= price[1]) continue;
        if (!second) {
            price[1] = price[0];
            column[1] = column[0];
        }
        price[second] = at;
        column[second] = offers[i].column;
    }
}

/* Augmenting row reduction: each row without a column takes the cheapest, from whoever has it, and
   lowers that column's price by what it would lose with the second. Returns how many rows are left
   over, in m->queue. */
static size_t aligner_bid(aligner *m) {
    size_t waiting = m->rows, left = 0;
    uint64_t steps = (uint64_t)m->rows * ALIGNER_STEPS;
    for (size_t i = 0; i < m->rows; i++) m->queue[m->rows - 1 - i] = (uint32_t)i;
    while (waiting > 0) {
        const uint32_t row = m->queue[waiting - 1];
        uint32_t column[2], other;
        int64_t price[2];
        if (steps-- == 0) break;
        waiting--;
        aligner_two_cheapest(m, row, column, price);
        if (price[1] > m->bound[row]) {
            aligner_list_offers(m, row);
            aligner_two_cheapest(m, row, column, price);
        }
        other = m->row_of[column[0]];
        if (column[1] != ALIGNER_FREE && price[0] < price[1]) {
            m->v[column[0]] -= price[1] - price[0];
        } else if (other != ALIGNER_FREE && column[1] != ALIGNER_FREE) {
            if (m->row_of[column[1]] != ALIGNER_FREE) { /* nothing to win: a path will tell */
                m->queue[m->rows - 1 - left++] = row;
                continue;
            }
            column[0] = column[1];
            other = ALIGNER_FREE;
        }
        m->row_of[column[0]] = row;
        m->col_of[row] = column[0];
        if (other == ALIGNER_FREE) continue;
        m->col_of[other] = ALIGNER_FREE;
        m->queue[waiting++] = other;
    }
    /* those that waited in vain, then those that were put aside */
    memmove(m->queue + waiting, m->queue + m->rows - left, left * sizeof *m->queue);
    return waiting + left;
}

/* Moves an item to where its key belongs, from place `at` up or down. */
static void aligner_sift_item(aligner *m, size_t at) {
    const uint32_t item = m->heap[at];
    const int64_t key = m->key[item];
    for (size_t parent; at > 0 && key < m->key[m->heap[parent = (at - 1) / 2]]; at = parent) {
        m->heap[at] = m->heap[parent];
        m->place[m->heap[at]] = (uint32_t)at;
    }
    for (size_t child; (child = 2 * at + 1) < m->items; at = child) {
        if (child + 1 < m->items && m->key[m->heap[child + 1]] < m->key[m->heap[child]]) child++;
        if (key <= m->key[m->heap[child]]) break;
        m->heap[at] = m->heap[child];
        m->place[m->heap[at]] = (uint32_t)at;
    }
    m->heap[at] = item;
    m->place[item] = (uint32_t)at;
}

/* An item is `key` away, or nearer. */
static void aligner_reach(aligner *m, uint32_t item, int64_t key) {
    if (key >= m->nearest) return; /* no path that counts leads there */
    if (m->key[item] == ALIGNER_FAR) {
        m->heap[m->items] = item;
        m->place[item] = (uint32_t)m->items++;
    }
    m->key[item] = key;
    aligner_sift_item(m, m->place[item]);
}

static uint32_t aligner_take_nearest(aligner *m) {
    const uint32_t item = m->heap[0];
    if (--m->items > 0) {
        m->heap[0] = m->heap[m->items];
        aligner_sift_item(m, 0);
    }
    return item;
}

/* What a row that was reached reaches by one of its columns. */
static void aligner_relax(aligner *m, uint32_t row, uint32_t column, int32_t cost) {
    const int64_t key = cost - m->v[column] - m->offset[row];
    if (key >= m->nearest || key >= m->key[column]) return;
    m->from[column] = row;
    if (m->row_of[column] != ALIGNER_FREE) {
        aligner_reach(m, column, key);
    } else {
        m->nearest = key;
        m->target = column;
    }
}

/* .. by those of its list; all others come when the row's turn does. */
static void aligner_relax_list(aligner *m, uint32_t row) {
    const aligner_offer *offers = m->offers + row * m->list;
    for (size_t i = 0; i < m->list; i++) {
        aligner_relax(m, row, offers[i].column, offers[i].cost);
    }
    if (m->bound[row] == ALIGNER_FAR) return;
    aligner_reach(m, (uint32_t)m->cols + row, m->bound[row] - m->offset[row]);
}

/* .. by all. */
static void aligner_relax_row(aligner *m, uint32_t row) {
    const int32_t *cost = m->cost + row * m->cols;
    for (size_t j = 0; j < m->cols; j++) {
        if (cost[j] - m->v[j] < m->nearest + m->offset[row]) {
            aligner_relax(m, row, (uint32_t)j, cost[j]);
        }
    }
}

/* Gives `row` a column along the shortest path to a free one (Dijkstra), and lowers the prices of
   the columns on the way so that every row still has its cheapest. */
static void aligner_augment(aligner *m, uint32_t row) {
    const uint32_t cols = (uint32_t)m->cols;
    size_t done = 0;
    uint32_t column, reached;
    for (size_t i = 0; i < m->cols + m->rows; i++) m->key[i] = ALIGNER_FAR;
    m->items = 0;
    m->nearest = ALIGNER_FAR / 2;
    m->offset[row] = 0;
    aligner_relax_list(m, row);
    while (m->items > 0 && m->key[m->heap[0]] < m->nearest) {
        const uint32_t item = aligner_take_nearest(m);
        if (item < cols) {
            m->done[done++] = item;
            reached = m->row_of[item];
            m->offset[reached] = m->cost[reached * m->cols + item] - m->v[item] - m->key[item];
            aligner_relax_list(m, reached);
        } else {
            const int64_t bound = m->bound[item - cols];
            m->key[item] = ALIGNER_FAR;
            aligner_list_offers(m, item - cols);
            if (m->bound[item - cols] > bound) {
                aligner_relax_list(m, item - cols);
            } else {
                aligner_relax_row(m, item - cols);
            }
        }
    }
    for (size_t i = 0; i < done; i++) m->v[m->done[i]] += m->key[m->done[i]] - m->nearest;
    for (column = m->target; column != ALIGNER_FREE;) {
        uint32_t next;
        reached = m->from[column];
        next = m->col_of[reached];
        m->row_of[column] = reached;
        m->col_of[reached] = column;
        column = next;
    }
}

/* ---------------------------------------------------------------------------------------------
   The matching
   ------------------------------------------------------------------------------------------ */

static double aligner_cosine(const float *a, const float *b, size_t d) {
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < d; i++) {
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
        ab += (double)a[i] * b[i];
    }
    return aa > 0 && bb > 0 ? ab / (sqrt(aa) * sqrt(bb)) : 0;
}

/* Rows to unit length; rows of zeros stay. */
static void aligner_normalise(float *x, size_t rows, size_t d) {
    for (size_t r = 0; r < rows; r++) {
        double squares = 0, inverse;
        for (size_t i = 0; i < d; i++) squares += (double)x[r * d + i] * x[r * d + i];
        inverse = squares > 0 ? 1 / sqrt(squares) : 0;
        for (size_t i = 0; i < d; i++) x[r * d + i] = (float)(x[r * d + i] * inverse);
    }
}

static msae_status aligner_check(const float *x, size_t rows, size_t d, const char *side,
                                 msae_error *error) {
    for (size_t r = 0; r < rows; r++) {
        if (audit_row_is_finite(x + r * d, d)) continue;
        return bytes_fail(error, MSAE_ERROR_NOT_FINITE, r,
                          "row %zu of the %s side has a NaN or Inf", r, side);
    }
    return MSAE_OK;
}

static void aligner_run(aligner *m, const float *rows, const float *cols) {
    size_t left;
    memcpy(m->a, rows, m->rows * m->d * sizeof *m->a);
    memcpy(m->b, cols, m->cols * m->d * sizeof *m->b);
    aligner_normalise(m->a, m->rows, m->d);
    aligner_normalise(m->b, m->cols, m->d);
    for (size_t j = 0; j < m->cols; j++) {
        m->v[j] = 0;
        m->row_of[j] = ALIGNER_FREE;
    }
    for (size_t i = 0; i < m->rows; i++) m->col_of[i] = ALIGNER_FREE;
    aligner_fill_costs(m);
    left = aligner_bid(m);
    for (size_t i = 0; i < left; i++) aligner_augment(m, m->queue[i]);
}

/* The matching as the caller has the sides, and what it comes to. col_of: for each row of a. */
static void aligner_sum_up(const alignment_sides *sides, const uint32_t *col_of, size_t *columns,
                           float *cosines, alignment_result *result) {
    const size_t d = sides->d;
    memset(result, 0, sizeof *result);
    for (size_t i = 0; i < sides->rows_a; i++) {
        const uint32_t column = col_of[i];
        float cosine = 0;
        columns[i] = ALIGNMENT_NO_MATCH;
        if (column != ALIGNER_FREE) {
            const double exact = aligner_cosine(sides->a + i * d, sides->b + column * d, d);
            columns[i] = column;
            cosine = (float)exact;
            result->matched++;
            result->mean += exact;
            result->above_50 += cosine > 0.5f;
            result->above_70 += cosine > 0.7f;
            result->above_90 += cosine > 0.9f;
        }
        if (cosines) cosines[i] = cosine;
    }
    result->mean /= (double)result->matched;
    result->above_50 /= (double)result->matched;
    result->above_70 /= (double)result->matched;
    result->above_90 /= (double)result->matched;
}

/* Whether the sides can be matched, and with which workspace. */
static msae_status aligner_plan(aligner *m, const alignment_sides *sides, msae_error *error) {
    const int swapped = sides->rows_a > sides->rows_b;
    msae_product product;
    msae_status status;
    memset(m, 0, sizeof *m);
    if (sides->rows_a == 0 || sides->rows_b == 0 || sides->d == 0) {
        return bytes_fail(error, MSAE_ERROR_SHAPE, MSAE_NO_POSITION,
                          "a side of the alignment is empty");
    }
    m->host = &sides->host;
    m->rows = swapped ? sides->rows_b : sides->rows_a;
    m->cols = swapped ? sides->rows_a : sides->rows_b;
    m->d = sides->d;
    m->list = audit_min(ALIGNER_LIST, m->cols);
    product = aligner_product(m);
    status = msae_multiply(&product, m->host, NULL, &m->workspace_bytes, error);
    if (status != MSAE_OK) return status;
    if (m->cols >= ALIGNER_FREE - m->rows) return bytes_fail_memory(error);
    status = aligner_check(sides->a, sides->rows_a, m->d, "first", error);
    if (status != MSAE_OK) return status;
    return aligner_check(sides->b, sides->rows_b, m->d, "second", error);
}

msae_status align_rows(const alignment_sides *sides, size_t *columns, float *cosines,
                       alignment_result *result, msae_error *error) {
    const int swapped = sides->rows_a > sides->rows_b;
    audit_memory memory;
    aligner m;
    msae_status status = aligner_plan(&m, sides, error);
    if (status != MSAE_OK) return status;
    status = audit_take(&memory, &m.host->allocator, aligner_layout, &m, error);
    if (status != MSAE_OK) return status;
    aligner_run(&m, swapped ? sides->b : sides->a, swapped ? sides->a : sides->b);
    aligner_sum_up(sides, swapped ? m.row_of : m.col_of, columns, cosines, result);
    audit_give(&memory, &m.host->allocator);
    return MSAE_OK;
}
