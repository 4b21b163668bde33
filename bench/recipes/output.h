/* Results as lines of a file, as a table and as a plot. */

/* ---------------------------------------------------------------------------------------------
   results.tsv: name, seed, options, numbers
   ------------------------------------------------------------------------------------------ */

static void write_result(FILE *file, const grid_line *line, size_t seed, const result *r) {
    fprintf(file, "%s\t%zu\t%s\t%.6f\t%.0f\t%.0f\t%.2f\t%zu", line->name, seed, line->options,
            r->dead, r->revived, r->smallest, r->seconds, r->n_ks);
    for (size_t i = 0; i < r->n_ks; i++) {
        fprintf(file, "\t%zu\t%.6f\t%.6f\t%.6f", r->ks[i], r->fvu[i], r->cosine[i], r->other[i]);
        for (size_t f = 0; f < REFINEMENTS; f++) {
            fprintf(file, "\t%.6f\t%.6f", r->refined[i][f], r->other_refined[i][f]);
        }
    }
    fprintf(file, "\t%.0f\t%.6f\n", r->frequent, r->monosemanticity);
    fflush(file);
}

/* Takes those results whose line is still the same. Lines of before latents were measured end
   without these two numbers. */
static void read_results(job *j, const char *path) {
    char text[8192];
    FILE *file = fopen(path, "r");
    if (!file) return;
    while (fgets(text, sizeof text, file)) {
        char *name = text, *number = strchr(text, '\t'), *options, *at;
        result r;
        size_t seed;
        memset(&r, 0, sizeof r);
        if (!number) continue;
        *number++ = '\0';
        seed = strtoul(number, &options, 10);
        at = *options == '\t' ? strchr(++options, '\t') : NULL;
        if (!at || seed >= MAX_SEEDS) continue;
        *at++ = '\0';
        r.dead = strtod(at, &at);
        r.revived = strtod(at, &at);
        r.smallest = strtod(at, &at);
        r.seconds = strtod(at, &at);
        r.n_ks = strtoul(at, &at, 10);
        for (size_t i = 0; i < r.n_ks && i < MAX_KS; i++) {
            r.ks[i] = strtoul(at, &at, 10);
            r.fvu[i] = strtod(at, &at);
            r.cosine[i] = strtod(at, &at);
            r.other[i] = strtod(at, &at);
            for (size_t f = 0; f < REFINEMENTS; f++) {
                r.refined[i][f] = strtod(at, &at);
                r.other_refined[i][f] = strtod(at, &at);
            }
        }
        r.frequent = r.monosemanticity = NAN;
        if (*at == '\t') {
            r.frequent = strtod(at, &at);
            r.monosemanticity = strtod(at, &at);
        }
        r.is_there = r.n_ks > 0 && r.n_ks <= MAX_KS && *at == '\n'; /* not cut within a line */
        for (size_t i = 0; i < j->n_lines && r.is_there; i++) {
            if (strcmp(j->lines[i].name, name) == 0 && strcmp(j->lines[i].options, options) == 0) {
                j->results[i][seed] = r;
            }
        }
    }
    fclose(file);
}

/* ---------------------------------------------------------------------------------------------
   Means over seeds
   ------------------------------------------------------------------------------------------ */

typedef struct summary {
    size_t n_ks, ks[MAX_KS];
    double fvu[MAX_KS], spread[MAX_KS], cosine[MAX_KS], other[MAX_KS];
    double refined[MAX_KS][REFINEMENTS], other_refined[MAX_KS][REFINEMENTS];
    double dead, dead_most, frequent, monosemanticity, smallest, seconds;
} summary;

static summary summarize(const job *j, size_t line) {
    const result *results = j->results[line];
    const double share = 1.0 / (double)j->lines[line].seeds;
    summary s;
    memset(&s, 0, sizeof s);
    s.n_ks = results[0].n_ks;
    memcpy(s.ks, results[0].ks, sizeof s.ks);
    for (size_t seed = 0; seed < j->lines[line].seeds; seed++) {
        const result *r = &results[seed];
        s.dead += share * r->dead;
        if (r->dead > s.dead_most) s.dead_most = r->dead;
        s.frequent += share * r->frequent;
        s.monosemanticity += share * r->monosemanticity;
        if (r->smallest > s.smallest) s.smallest = r->smallest; /* what every seed holds */
        s.seconds += share * r->seconds;
        for (size_t i = 0; i < s.n_ks; i++) {
            s.fvu[i] += share * r->fvu[i];
            s.cosine[i] += share * r->cosine[i];
            s.other[i] += share * r->other[i];
            for (size_t f = 0; f < REFINEMENTS; f++) {
                s.refined[i][f] += share * r->refined[i][f];
                s.other_refined[i][f] += share * r->other_refined[i][f];
            }
        }
    }
    for (size_t i = 0; i < s.n_ks; i++) { /* largest distance from the mean */
        for (size_t seed = 0; seed < j->lines[line].seeds; seed++) {
            const double off = fabs(results[seed].fvu[i] - s.fvu[i]);
            if (off > s.spread[i]) s.spread[i] = off;
        }
    }
    return s;
}

/* ---------------------------------------------------------------------------------------------
   Stability: what share of a seed's decoder rows another seed finds again, above a cosine of 0.7
   ------------------------------------------------------------------------------------------ */

static void align_seeds(const job *j, size_t line, double *share, double *mean) {
    const grid_line *l = &j->lines[line];
    msae_model models[2];
    msae_error error;
    size_t pairs = 0;
    *share = *mean = 0;
    for (size_t a = 0; a < l->seeds; a++) {
        for (size_t b = a + 1; b < l->seeds; b++) {
            const size_t seeds[2] = {a, b};
            alignment_sides sides;
            alignment_result found;
            size_t *columns;
            for (size_t i = 0; i < 2; i++) {
                char path[1024];
                snprintf(path, sizeof path, "%s/%s-%zu.safetensors", j->folder, l->name, seeds[i]);
                check(msae_load_file(&models[i], path, NULL, &error), path, &error);
            }
            memset(&found, 0, sizeof found);
            memset(&sides, 0, sizeof sides);
            sides.a = models[0].decoder;
            sides.rows_a = models[0].n_latents;
            sides.b = models[1].decoder;
            sides.rows_b = models[1].n_latents;
            sides.d = models[0].n_inputs;
            columns = (size_t *)bench_alloc(models[0].n_latents * sizeof *columns);
            check(align_rows(&sides, columns, NULL, &found, &error), l->name, &error);
            free(columns);
            *share += found.above_70;
            *mean += found.mean;
            pairs++;
            for (size_t i = 0; i < 2; i++) msae_model_free(&models[i]);
        }
    }
    if (pairs > 0) {
        *share /= (double)pairs;
        *mean /= (double)pairs;
    }
}

/* ---------------------------------------------------------------------------------------------
   Table
   ------------------------------------------------------------------------------------------ */

static void write_row(FILE *file, const job *j, size_t line, const summary *s, int other) {
    fprintf(file, "| %s |", j->lines[line].name);
    for (size_t i = 0; i < s->n_ks; i++) {
        fprintf(file, " %.4f |", other ? s->other[i] : s->fvu[i]);
    }
    if (other) {
        fputc('\n', file);
        return;
    }
    fprintf(file, " %.2f (%.2f) | ", 100 * s->dead, 100 * s->dead_most);
    if (isnan(s->frequent)) { /* results of before that was measured */
        fputs("- | - | ", file);
    } else {
        fprintf(file, "%.0f | %.4f | ", s->frequent, s->monosemanticity);
    }
    if (s->smallest > 0) {
        fprintf(file, "%.0f |", s->smallest);
    } else {
        fputs("- |", file);
    }
    fprintf(file, " %zu |\n", j->lines[line].seeds);
}

static void write_heads(FILE *file, const summary *s, int other) {
    fputs("| recipe |", file);
    for (size_t i = 0; i < s->n_ks; i++) fprintf(file, " k = %zu |", s->ks[i]);
    fputs(other ? "\n|---|"
                : " dead at 64, % (worst seed) | on .1 % of rows | monosemanticity | "
                  "cosine .99 from k | seeds |\n|---|",
          file);
    for (size_t i = 0; i < s->n_ks + (other ? 0 : 5); i++) fputs("---|", file);
    fputc('\n', file);
}

/* The share of the encoded error that refined codes leave, of the lines that have them. */
static void write_refined(const job *j, FILE *file, int other) {
    for (size_t i = 0; i < j->n_lines; i++) {
        const summary s = summarize(j, i);
        if (key_number(&j->lines[i], "refine", 0) == 0) continue;
        for (size_t f = 0; f < REFINEMENTS; f++) {
            fprintf(file, "- %s, exchanges %zu:", j->lines[i].name, refinements[f]);
            for (size_t k = 0; k < s.n_ks && s.ks[k] <= MOST_REFINED; k++) {
                const double encoded = other ? s.other[k] : s.fvu[k];
                const double refined = other ? s.other_refined[k][f] : s.refined[k][f];
                fprintf(file, " k %zu %.4f (%.3f)", s.ks[k], refined, refined / encoded);
            }
            fputc('\n', file);
        }
    }
    fputc('\n', file);
}

static void write_table(const job *j, FILE *file) {
    for (int other = 0; other <= (j->other.rows > 0); other++) {
        fprintf(file, "%s\n\n",
                other ? "On the sets left out:" : "fvu_row on held-out rows, means over seeds:");
        for (size_t i = 0, latents = 0; i < j->n_lines; i++) {
            const summary s = summarize(j, i);
            if (s.ks[s.n_ks - 1] != latents) { /* another sweep */
                if (i > 0) fputc('\n', file);
                write_heads(file, &s, other);
            }
            latents = s.ks[s.n_ks - 1];
            write_row(file, j, i, &s, other);
        }
        fputc('\n', file);
        write_refined(j, file, other);
    }
    fputs("Largest distance of a seed from the mean, over all k:", file);
    for (size_t i = 0; i < j->n_lines; i++) {
        const summary s = summarize(j, i);
        double most = 0;
        for (size_t k = 0; k < s.n_ks; k++) {
            if (s.spread[k] / s.fvu[k] > most) most = s.spread[k] / s.fvu[k];
        }
        if (j->lines[i].seeds > 1) fprintf(file, " %s %.1f %%;", j->lines[i].name, 100 * most);
    }
    fputs("\n\n", file);
    for (size_t i = 0; i < j->n_lines; i++) {
        double share, mean;
        if (key_number(&j->lines[i], "align", 0) == 0) continue;
        align_seeds(j, i, &share, &mean);
        fprintf(file, "Found again by another seed (cosine above 0.7), %s: %.1f %%, mean %.3f\n",
                j->lines[i].name, 100 * share, mean);
    }
}

/* ---------------------------------------------------------------------------------------------
   Plot: FVU against k, both by factors
   ------------------------------------------------------------------------------------------ */

enum { LEFT = 64, TOP = 24, WIDTH = 640, HEIGHT = 360, FULL_WIDTH = 920, FULL_HEIGHT = 440 };

typedef struct plot {
    double low_k, high_k, low, high; /* logarithms */
} plot;

static double plot_x(const plot *p, double k) {
    return LEFT + WIDTH * (log(k) - p->low_k) / (p->high_k - p->low_k);
}

static double plot_y(const plot *p, double fvu) {
    return TOP + HEIGHT * (p->high - log(fvu)) / (p->high - p->low);
}

static void put_axes(FILE *file, const plot *p) {
    static const double steps[] = {1, 2, 5};
    for (double k = 16; log(k) <= p->high_k + 1e-9; k *= 2) {
        fprintf(file,
                "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n",
                plot_x(p, k), plot_x(p, k), TOP, TOP + HEIGHT, plot_x(p, k), TOP + HEIGHT + 18, k);
    }
    for (double decade = 1e-4; decade < 10; decade *= 10) {
        for (size_t i = 0; i < 3; i++) {
            const double fvu = decade * steps[i];
            if (log(fvu) < p->low || log(fvu) > p->high) continue;
            fprintf(file,
                    "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                    "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                    LEFT, LEFT + WIDTH, plot_y(p, fvu), plot_y(p, fvu), LEFT - 6,
                    plot_y(p, fvu) + 4, fvu);
        }
    }
    fprintf(file,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">k, latents kept a row</text>\n"
            "<text transform=\"translate(16 %d) rotate(-90)\" text-anchor=\"middle\">"
            "FVU on rows never trained on</text>\n",
            LEFT + WIDTH / 2, TOP + HEIGHT + 40, TOP + HEIGHT / 2);
}

static void put_series(FILE *file, const plot *p, const job *j, size_t line, size_t *color,
                       size_t *points) {
    const summary s = summarize(j, line);
    const double kind = key_number(&j->lines[line], "plot", 0),
                 k = key_number(&j->lines[line], "k", 0);
    if (kind == 2) { /* a model for one k, at that k */
        for (size_t i = 0; i < s.n_ks; i++) {
            if ((double)s.ks[i] != k) continue;
            fprintf(file, "<circle class=\"point\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>\n",
                    plot_x(p, k), plot_y(p, s.fvu[i]));
            ++*points;
        }
        return;
    }
    if (kind != 1) return;
    fprintf(file, "<path class=\"line c%zu\" d=\"", *color);
    for (size_t i = 0; i < s.n_ks; i++) {
        fprintf(file, "%c%.1f %.1f", i ? 'L' : 'M', plot_x(p, (double)s.ks[i]),
                plot_y(p, s.fvu[i]));
    }
    fprintf(file,
            "\"/>\n<line class=\"line c%zu\" x1=\"%d\" x2=\"%d\" y1=\"%zu\" y2=\"%zu\"/>"
            "<text x=\"%d\" y=\"%zu\">%s</text>\n",
            *color, LEFT + WIDTH + 16, LEFT + WIDTH + 44, TOP + 14 + 24 * *color,
            TOP + 14 + 24 * *color, LEFT + WIDTH + 52, TOP + 18 + 24 * *color, j->lines[line].name);
    ++*color;
}

static void write_plot(const job *j, FILE *file) {
    plot p = {log(16), 0, HUGE_VAL, -HUGE_VAL};
    size_t color = 0, points = 0;
    for (size_t i = 0; i < j->n_lines; i++) {
        const summary s = summarize(j, i);
        if (key_number(&j->lines[i], "plot", 0) != 1) continue;
        for (size_t k = 0; k < s.n_ks; k++) {
            if (log(s.fvu[k]) < p.low) p.low = log(s.fvu[k]);
            if (log(s.fvu[k]) > p.high) p.high = log(s.fvu[k]);
        }
        if (log((double)s.ks[s.n_ks - 1]) > p.high_k) p.high_k = log((double)s.ks[s.n_ks - 1]);
    }
    p.low -= 0.1;
    p.high += 0.1;
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" "
            "font-family=\"sans-serif\" font-size=\"13\">\n<title>FVU against k</title>\n"
            "<style>text{fill:#333}.grid{stroke:#ddd}.line{fill:none;stroke-width:2.5}"
            ".point{fill:none;stroke:#666;stroke-width:2}.back{fill:#fff}"
            ".c0{stroke:#0a66c2}.c1{stroke:#d1495b}.c2{stroke:#e59500}.c3{stroke:#3a7d44}"
            ".c4{stroke:#7b4fa3}.c5{stroke:#5c6b73}\n"
            "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#3a3f45}"
            ".back{fill:#15181c}.point{stroke:#aaa}.c0{stroke:#6cb2ff}.c3{stroke:#7fc98a}"
            ".c4{stroke:#b98ce0}.c5{stroke:#a9b4bb}}</style>\n"
            "<rect class=\"back\" width=\"%d\" height=\"%d\"/>\n",
            FULL_WIDTH, FULL_HEIGHT, FULL_WIDTH, FULL_HEIGHT);
    put_axes(file, &p);
    for (size_t i = 0; i < j->n_lines; i++) put_series(file, &p, j, i, &color, &points);
    if (points > 0) {
        fprintf(
            file,
            "<circle class=\"point\" cx=\"%d\" cy=\"%zu\" r=\"5\"/><text x=\"%d\" y=\"%zu\">topk "
            "for that k</text>\n",
            LEFT + WIDTH + 30, TOP + 14 + 24 * color, LEFT + WIDTH + 52, TOP + 18 + 24 * color);
    }
    fputs("</svg>\n", file);
}

static void write_outputs(const job *j) {
    char path[1024];
    for (int plots = 0; plots < 2; plots++) {
        FILE *file;
        snprintf(path, sizeof path, "%s/%s", j->folder, plots ? "fvu.svg" : "table.md");
        file = fopen(path, "w");
        if (!file) fail(path, "cannot be written");
        if (plots) {
            write_plot(j, file);
        } else {
            write_table(j, file);
            write_table(j, stdout);
        }
        if (fclose(file) != 0) fail(path, "cannot be written");
    }
}
