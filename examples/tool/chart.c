/* Charts as inline SVG: drawn at the width of a phone, so that their text keeps its size there, and
   laid side by side by the page where there is more room. Colours are the page's. */
#include "report.h"

#include <math.h>

/* The drawing and, within it, the plot. */
#define WIDTH 380.0
#define HEIGHT 270.0
#define LEFT 52.0
#define RIGHT 370.0
#define TOP 10.0
#define BOTTOM 226.0

enum { MAX_TICKS = 16, MAX_MARKED = 64 /* points of a series that still get marks */ };

/* Where an axis lies in the drawing; values as they are or their logarithms. */
typedef struct ruler {
    const chart_axis *axis;
    int is_log;
    double low, high; /* of the values, or of their logarithms */
    double from, to;  /* in the drawing */
    double ticks[MAX_TICKS];
    size_t n_ticks;
} ruler;

static int has_place(const ruler *r, double value) {
    return isfinite(value) && (!r->is_log || value > 0);
}

static double place(const ruler *r, double value) {
    const double v = r->is_log ? log(value) : value;
    return r->from + (v - r->low) / (r->high - r->low) * (r->to - r->from);
}

/* ---------------------------------------------------------------------------------------------
   Axes
   ------------------------------------------------------------------------------------------ */

static void add_tick(ruler *r, double value) {
    const double v = r->is_log ? log(value) : value;
    const double slack = 1e-9 * (r->high - r->low);
    if (r->n_ticks < MAX_TICKS && v >= r->low - slack && v <= r->high + slack) {
        r->ticks[r->n_ticks++] = value;
    }
}

/* 1, 2 or 5 times a power of ten, at least `step`. */
static double nice_step(double step) {
    const double power = pow(10, floor(log10(step)));
    const double digit = step / power;
    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

/* Round values, with the axis reaching the ones around low and high; whole ones between whole
   limits, which are counts. */
static void linear_ticks(ruler *r, int fixed) {
    const int whole = !fixed && r->low == floor(r->low) && r->high == floor(r->high);
    const double range = (r->high - r->low) / 5;
    const double step = nice_step(whole && range < 1 ? 1 : range);
    const double first = floor(r->low / step + 1e-9), last = ceil(r->high / step - 1e-9);
    if (!fixed) {
        r->low = first * step;
        r->high = last * step;
    }
    for (double i = first; i <= last; i++) add_tick(r, i * step);
}

/* Powers of the base, so far apart that there are at most eight; between close ones of ten also
   their double and fivefold. */
static void log_ticks(ruler *r, double base) {
    const double unit = log(base);
    const double first = floor(r->low / unit), last = ceil(r->high / unit);
    const double stride = ceil((r->high - r->low) / unit / 8);
    for (double i = first; i <= last; i += stride > 1 ? stride : 1) {
        const double power = pow(base, i);
        add_tick(r, power);
        if (base < 10 || r->high - r->low > 2.5 * unit) continue;
        add_tick(r, 2 * power);
        add_tick(r, 5 * power);
    }
}

/* The range of finite values, above zero for a logarithm; 0 when there are none. */
static int find_range(const chart *c, int is_x, int positive, double *low, double *high) {
    int found = 0;
    for (size_t s = 0; s < c->n_series; s++) {
        const double *values = is_x ? c->series[s].x : c->series[s].y;
        for (size_t i = 0; i < c->series[s].count; i++) {
            const double v = values[i];
            if (!isfinite(v) || (positive && v <= 0)) continue;
            if (!found || v < *low) *low = v;
            if (!found || v > *high) *high = v;
            found = 1;
        }
    }
    return found;
}

static ruler make_ruler(const chart *c, int is_x) {
    const chart_axis *axis = is_x ? &c->x : &c->y;
    const int fixed = axis->low < axis->high;
    ruler r = {axis, axis->scale != CHART_LINEAR, axis->low, axis->high, LEFT, RIGHT, {0}, 0};
    if (!is_x) {
        r.from = BOTTOM;
        r.to = TOP;
    }
    if (!fixed && !find_range(c, is_x, r.is_log, &r.low, &r.high)) {
        r.low = 0; /* nothing to draw */
        r.high = 1;
        r.is_log = 0;
    }
    if (axis->scale == CHART_LOG10 && r.high < 4 * r.low) r.is_log = 0;
    if (r.is_log) {
        const double room = 0.04 * (log(r.high) - log(r.low)) + 0.02;
        r.low = log(r.low) - room;
        r.high = log(r.high) + room;
        log_ticks(&r, axis->scale == CHART_LOG2 ? 2 : 10);
    } else {
        /* One value alone still needs an axis with a length. */
        const double least = r.high != 0 ? 1e-3 * fabs(r.high) : 1;
        if (r.high - r.low < least) r.high = r.low + least;
        linear_ticks(&r, fixed);
    }
    return r;
}

static void put_number(FILE *page, const chart_axis *axis, double value, int digits) {
    if (axis->percent) {
        fprintf(page, "%.*g%%", digits, 100 * value);
    } else if (fabs(value) >= 1e4 && fabs(value) < 1e7) {
        fprintf(page, "%.0f", value);
    } else {
        fprintf(page, "%.*g", digits, value);
    }
}

static void put_tick(FILE *page, const ruler *x, double value) {
    fprintf(page, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>", place(x, value), TOP, BOTTOM);
    /* (100% in the middle of the last tick would be cut off) */
    const int is_last = x->axis->percent && place(x, value) > RIGHT - 4;
    fprintf(page, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">",
            is_last ? WIDTH - 1 : place(x, value), BOTTOM + 16, is_last ? "end" : "middle");
    put_number(page, x->axis, value, 4);
    fputs("</text>\n", page);
}

static const char log_axis[] = " (log axis)";

static void put_axes(FILE *page, const ruler *x, const ruler *y) {
    for (size_t i = 0; i < x->n_ticks; i++) put_tick(page, x, x->ticks[i]);
    for (size_t i = 0; i < y->n_ticks; i++) {
        const double at = place(y, y->ticks[i]);
        fprintf(page, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>", LEFT, at, RIGHT);
        fprintf(page, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 6, at + 4);
        put_number(page, y->axis, y->ticks[i], 4);
        fputs("</text>\n", page);
    }
    fprintf(page, "<path class=\"axis\" d=\"M%.1f %.1fV%.1fH%.1f\"/>\n", LEFT, TOP, BOTTOM, RIGHT);
    fprintf(page,
            "<text class=\"label\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s%s</text>\n",
            (LEFT + RIGHT) / 2, HEIGHT - 8, x->axis->label, x->is_log ? log_axis : "");
    fprintf(page,
            "<text class=\"label\" transform=\"translate(11 %.1f) rotate(-90)\" "
            "text-anchor=\"middle\">%s%s</text>\n",
            (TOP + BOTTOM) / 2, y->axis->label, y->is_log ? log_axis : "");
}

/* ---------------------------------------------------------------------------------------------
   Series
   ------------------------------------------------------------------------------------------ */

/* Circle, square, triangle, diamond: who does not see the colours sees the shapes. */
static void put_mark(FILE *page, size_t color, int hollow, double x, double y) {
    static const char *const shapes[] = {
        "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        "m-3.5 -3.5h7v7h-7z",
        "m0 -4.6l4.6 8h-9.2z",
        "m0 -5l5 5l-5 5l-5 -5z",
    };
    fprintf(page, "<path class=\"mark s%zu%s\" d=\"M%.1f %.1f%s\"/>", color,
            hollow ? " hollow" : "", x, y, shapes[color % 4]);
}

static void put_line(FILE *page, const chart_series *s, const ruler *x, const ruler *y) {
    int is_down = 0;
    fprintf(page, "<path class=\"line s%zu%s\" d=\"", s->color, s->dashed ? " dashed" : "");
    for (size_t i = 0; i < s->count; i++) {
        const int drawn = has_place(x, s->x[i]) && has_place(y, s->y[i]);
        if (drawn) {
            fprintf(page, "%c%.1f %.1f", is_down ? 'L' : 'M', place(x, s->x[i]), place(y, s->y[i]));
        }
        is_down = drawn;
    }
    fputs("\"/>\n", page);
}

/* A mark with what a pointer over it shows. */
static void put_point(FILE *page, const chart_series *s, size_t i, const ruler *x, const ruler *y) {
    fputs("<g class=\"point\"><title>", page);
    page_text(page, s->name);
    fprintf(page, "\n%s: ", x->axis->label);
    put_number(page, x->axis, s->x[i], 5);
    fprintf(page, "\n%s: ", y->axis->label);
    put_number(page, y->axis, s->y[i], 4);
    fputs("</title>", page);
    put_mark(page, s->color, s->hollow != NULL && s->hollow[i], place(x, s->x[i]),
             place(y, s->y[i]));
    fputs("</g>\n", page);
}

static void put_series(FILE *page, const chart_series *s, const ruler *x, const ruler *y) {
    put_line(page, s, x, y);
    if (s->count > MAX_MARKED) return;
    for (size_t i = 0; i < s->count; i++) {
        if (has_place(x, s->x[i]) && has_place(y, s->y[i])) put_point(page, s, i, x, y);
    }
}

static void begin_figure(FILE *page, const char *title, const char *description) {
    fprintf(page,
            "<figure class=\"chart\"><figcaption>%s</figcaption>\n"
            "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\"><desc>%s</desc>\n",
            title, WIDTH, HEIGHT, title, description);
}

static void end_figure(FILE *page) {
    fputs("</svg></figure>\n", page);
}

void chart_write(FILE *page, const chart *c) {
    const ruler x = make_ruler(c, 1), y = make_ruler(c, 0);
    begin_figure(page, c->title, c->description);
    put_axes(page, &x, &y);
    for (size_t i = 0; i < c->n_marks; i++) {
        const double at = place(&x, c->marks[i]);
        if (at < LEFT || at > RIGHT) continue;
        fprintf(page, "<path class=\"level\" d=\"M%.1f %.1fV%.1f\"/>\n", at, TOP, BOTTOM);
    }
    for (size_t s = c->n_series; s-- > 0;) put_series(page, &c->series[s], &x, &y);
    end_figure(page);
}

void chart_key(FILE *page, size_t color, int dashed) {
    fprintf(page,
            "<svg class=\"key\" viewBox=\"0 0 30 14\" aria-hidden=\"true\">"
            "<path class=\"line s%zu%s\" d=\"M1 7H29\"/>",
            color, dashed ? " dashed" : "");
    if (!dashed) put_mark(page, color, 0, 15, 7);
    fputs("</svg>", page);
}

/* ---------------------------------------------------------------------------------------------
   Histograms
   ------------------------------------------------------------------------------------------ */

static void put_bar(FILE *page, const char *color, double left, double right, const ruler *y,
                    size_t count) {
    const double top = place(y, (double)count);
    fprintf(page, "<path class=\"bar %s\" d=\"M%.1f %.1fV%.1fH%.1fV%.1fz\"/>", color, left, BOTTOM,
            top, right, BOTTOM);
}

void chart_frequencies(FILE *page, const char *title, const size_t *counts, size_t bins, double low,
                       size_t zero) {
    const double gap = 64; /* room of the bar at zero */
    size_t most = zero > 0 ? zero : 1;
    for (size_t b = 0; b < bins; b++) most = counts[b] > most ? counts[b] : most;
    const double limits[2] = {0, (double)most};
    const chart_series range = {"", 0, 0, limits, limits, NULL, 2};
    const chart c = {title,
                     "",
                     {"frequency (log axis)", CHART_LINEAR, low, 0, 0},
                     {"latents", CHART_LINEAR, 0, 0, 0},
                     &range,
                     1,
                     NULL,
                     0};
    ruler x = make_ruler(&c, 1);
    const ruler y = make_ruler(&c, 0);
    x.from += gap;
    x.n_ticks = 0;

    begin_figure(page, title, "Histogram: bars are latents by their frequency.");
    put_axes(page, &x, &y);
    for (double power = ceil(low); power <= 0; power++) {
        const double at = place(&x, power);
        fprintf(page, "<path class=\"axis\" d=\"M%.1f %.1fv4\"/>", at, BOTTOM);
        fprintf(page, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%g%%</text>\n", at,
                BOTTOM + 16, power == 0 ? "end" : "middle", 100 * pow(10, power));
    }
    fprintf(page, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">dead</text>\n",
            LEFT + gap / 2 - 10, BOTTOM + 16);
    fprintf(page, "<g class=\"point\"><title>dead: %zu latents</title>", zero);
    put_bar(page, "dead", LEFT + 6, LEFT + gap - 26, &y, zero);
    fprintf(page,
            "<text class=\"value\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%zu</text></g>\n",
            LEFT + gap / 2 - 10, place(&y, (double)zero) - 4, zero);
    for (size_t b = 0; b < bins; b++) {
        const double from = low * (1 - (double)b / (double)bins);
        const double to = low * (1 - (double)(b + 1) / (double)bins);
        if (counts[b] == 0) continue;
        fprintf(page, "<g class=\"point\"><title>frequency %.2g%% to %.2g%%: %zu latents</title>",
                100 * pow(10, from), 100 * pow(10, to), counts[b]);
        put_bar(page, "s0", place(&x, from) + 0.6, place(&x, to) - 0.6, &y, counts[b]);
        fputs("</g>\n", page);
    }
    end_figure(page);
}

void chart_spark(FILE *page, const size_t counts[SPARK_BINS], const char *description) {
    const double height = 30, width = 4;
    size_t most = 1;
    for (size_t b = 0; b < SPARK_BINS; b++) most = counts[b] > most ? counts[b] : most;
    fprintf(page,
            "<svg class=\"spark\" preserveAspectRatio=\"none\" viewBox=\"0 0 %.0f %.0f\" "
            "role=\"img\" aria-label=\"%s\">"
            "<path class=\"axis\" d=\"M0 %.1fH%.0f\"/><path class=\"bar s0\" d=\"",
            width * SPARK_BINS, height + 2, description, height + 1, width * SPARK_BINS);
    for (size_t b = 0; b < SPARK_BINS; b++) {
        if (counts[b] == 0) continue;
        fprintf(page, "M%.1f %.1fv-%.1fh%.1fv%.1fz", width * (double)b, height + 0.5,
                1 + (height - 1) * sqrt((double)counts[b] / (double)most), width - 0.8,
                1 + (height - 1) * sqrt((double)counts[b] / (double)most));
    }
    fputs("\"/></svg>", page);
}
