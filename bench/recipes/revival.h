/* Revivals of latents as the library does not do them: others count as dead, or start elsewhere. */

typedef struct revival {
    msae_trainer *trainer;
    const msae_data *data;
    const revival_keys *keys;
    uint64_t *active; /* [n] rows since the last revival */
    uint64_t rows, rng[4];
    size_t level, missed, made; /* the level that counts, whose residual does; revivals so far */
} revival;

/* The largest level up to k. */
static size_t level_up_to(const msae_model *model, size_t k) {
    size_t level = 0;
    while (level + 1 < model->n_levels && model->nesting[level + 1] <= k) level++;
    return level;
}

static void revival_begin(revival *r, msae_trainer *trainer, const msae_data *data,
                          const revival_keys *keys) {
    const msae_model *model = &trainer->model;
    memset(r, 0, sizeof *r);
    r->trainer = trainer;
    r->data = data;
    r->keys = keys;
    if (keys->revivals == 0) return;
    r->level = level_up_to(model, keys->level ? keys->level : 64);
    r->missed = keys->missed ? level_up_to(model, keys->missed) : r->level;
    trainer->workspace->fired_level = r->level;
    r->active = (uint64_t *)calloc(model->n_latents, sizeof *r->active);
    if (!r->active) fail("memory", "there is not enough");
    msae__seed(r->rng, trainer->desc.model.seed + 0x72657669u);
}

/* Bad rows, the worst first, and the direction that each would give. */
typedef struct bad_rows {
    size_t count;
    double *errors;    /* [count], negative once a row was used */
    float *directions; /* [count, d], at unit length */
} bad_rows;

static void unit(float *row, size_t d) {
    double squares = 0;
    for (size_t i = 0; i < d; i++) squares += (double)row[i] * (double)row[i];
    for (size_t i = 0; i < d && squares > 0; i++) row[i] = (float)((double)row[i] / sqrt(squares));
}

/* Looks at random rows, 64 at a time. */
static void look_at_rows(revival *r, bad_rows *bad) {
    const msae_model *model = &r->trainer->model;
    const size_t d = model->n_inputs, piece = 64;
    float *x = (float *)bench_alloc(piece * d * sizeof *x);
    float *recon = (float *)bench_alloc(model->n_levels * piece * d * sizeof *recon);
    msae_error error;
    for (size_t at = 0; at < bad->count; at += piece) {
        const size_t count = bad->count - at < piece ? bad->count - at : piece;
        const msae_data rows = msae_data_view(x, count, d);
        for (size_t i = 0; i < count; i++) {
            const uint64_t row = msae__random_below(r->rng, r->data->rows);
            msae_data_read(r->data, (size_t)row, 1, x + i * d);
        }
        check(msae_trainer_forward(r->trainer, &rows, NULL, count, recon, NULL, NULL, &error),
              "revive", &error);
        for (size_t i = 0; i < count; i++) {
            float *direction = bad->directions + (at + i) * d;
            const float *reconstructed = recon + (r->missed * count + i) * d;
            double left = 0, all = 0;
            for (size_t c = 0; c < d; c++) {
                const double target =
                    ((double)x[i * d + c] - (double)model->mean[c]) * model->scale;
                const double off = target - (double)reconstructed[c];
                left += off * off;
                all += target * target;
                direction[c] = (float)(r->keys->whole ? target - (double)model->pre_bias[c] : off);
            }
            bad->errors[at + i] = r->keys->random ? 1 : all > 0 ? left / all : 0;
            unit(direction, d);
        }
    }
    free(x);
    free(recon);
}

/* The mean direction of the worst row that is left and of those most like it, which are then used
   up. Rows better than the `most`-th worst have an error of 0 and are not looked at. */
static void next_direction(const revival *r, bad_rows *bad, float *direction) {
    const size_t d = r->trainer->model.n_inputs;
    const msae_kernels *kernels = r->trainer->model.kernels;
    double *like = (double *)bench_alloc(bad->count * sizeof *like);
    size_t worst = 0;
    for (size_t i = 0; i < bad->count; i++) {
        if (bad->errors[i] > bad->errors[worst]) worst = i;
    }
    memset(direction, 0, d * sizeof *direction);
    for (size_t i = 0; i < bad->count; i++) {
        like[i] = bad->errors[i] > 0 ? (double)kernels->dot(bad->directions + worst * d,
                                                            bad->directions + i * d, d)
                                     : -2;
    }
    for (size_t t = 0; t < r->keys->together; t++) {
        size_t nearest = worst;
        for (size_t i = 0; i < bad->count && t > 0; i++) {
            if (like[i] > like[nearest]) nearest = i;
        }
        if (like[nearest] < -1.5) break;
        kernels->axpy(direction, 1, bad->directions + nearest * d, d);
        like[nearest] = -2;
        bad->errors[nearest] = -1;
    }
    unit(direction, d);
    free(like);
}

/* Of the bad rows only as many count as are used up at most. */
static void keep_worst(bad_rows *bad, size_t most) {
    double *sorted;
    if (most >= bad->count) return;
    sorted = (double *)bench_alloc(bad->count * sizeof *sorted);
    memcpy(sorted, bad->errors, bad->count * sizeof *sorted);
    qsort(sorted, bad->count, sizeof *sorted, bench_ascending);
    for (size_t i = 0; i < bad->count; i++) {
        if (bad->errors[i] < sorted[bad->count - most]) bad->errors[i] = 0;
    }
    free(sorted);
}

static void revive_now(revival *r) {
    const msae_model *model = &r->trainer->model;
    const size_t n = model->n_latents, d = model->n_inputs;
    const double least = r->keys->below * (double)r->rows;
    size_t idle = 0, revived = 0;
    msae__typical others = {0, 0};
    bad_rows bad;
    float *direction = (float *)bench_alloc(d * sizeof *direction);
    for (size_t j = 0; j < n; j++) {
        const int is_idle = r->active[j] == 0 || (double)r->active[j] < least;
        idle += (size_t)is_idle;
        if (!is_idle)
            others.length += sqrt(msae__squares(model->kernels, model->encoder + j * d, d));
    }
    if (idle < n)
        others.length *= 2 * r->keys->length / (double)(n - idle); /* it is halved there */
    if (idle > n / r->keys->most) idle = n / r->keys->most;
    bad.count = idle * r->keys->rows;
    bad.errors = (double *)bench_alloc((bad.count + 1) * sizeof *bad.errors);
    bad.directions = (float *)bench_alloc((bad.count + 1) * d * sizeof *bad.directions);
    look_at_rows(r, &bad);
    keep_worst(&bad, idle * 2 * r->keys->together);
    for (uint64_t limit = 0; revived < idle; limit++) { /* those with the fewest rows first */
        for (size_t j = 0; j < n && revived < idle; j++) {
            if (r->active[j] != limit) continue;
            next_direction(r, &bad, direction);
            msae__revive_latent(r->trainer, j, direction, &others);
            revived++;
        }
    }
    r->trainer->revived += revived;
    memset(r->active, 0, n * sizeof *r->active);
    r->rows = 0;
    free(bad.errors);
    free(bad.directions);
    free(direction);
}

/* After each step of all. */
static void revival_step(revival *r, const msae_progress *progress) {
    const struct msae_train_workspace *ws = r->trainer->workspace;
    const double all = (double)progress->epochs * (double)progress->steps;
    const double done =
        (double)progress->epoch * (double)progress->steps + (double)progress->step + 1;
    if (r->keys->revivals == 0) return;
    for (size_t j = 0; j < r->trainer->model.n_latents; j++) r->active[j] += ws->fired_now[j];
    r->rows += progress->stats->rows;
    if (r->made == r->keys->revivals) return;
    if (done < (double)(r->made + 1) * r->keys->until * all / (double)r->keys->revivals) return;
    revive_now(r);
    r->made++;
}

/* Turns each decoder row, as it starts, towards the mean direction of the `together` rows nearest to
   it, of some 8,000: a group of rows in place of a single one. */
static void start_at_groups(msae_trainer *trainer, const msae_data *data, size_t together) {
    msae_model *model = &trainer->model;
    const size_t n = model->n_latents, d = model->n_inputs;
    const size_t step = data->rows / 8000 + 1, count = (data->rows - 1) / step + 1;
    float *rows = (float *)bench_alloc((count + 2) * d * sizeof *rows);
    float *mean = rows + count * d, *start = mean + d;
    double *like = (double *)bench_alloc(count * sizeof *like);
    for (size_t i = 0; i < count; i++) {
        float *row = rows + i * d;
        msae_data_read(data, i * step, 1, row);
        for (size_t c = 0; c < d; c++) row[c] = (row[c] - model->mean[c]) * model->scale;
        unit(row, d);
    }
    for (size_t j = 0; j < n; j++) {
        memcpy(start, model->decoder + j * d, d * sizeof *start);
        unit(start, d);
        memset(mean, 0, d * sizeof *mean);
        for (size_t i = 0; i < count; i++) {
            like[i] = (double)model->kernels->dot(start, rows + i * d, d);
        }
        for (size_t t = 0; t < together && t < count; t++) {
            size_t nearest = 0;
            for (size_t i = 0; i < count; i++) nearest = like[i] > like[nearest] ? i : nearest;
            like[nearest] = -2;
            model->kernels->axpy(mean, 1, rows + nearest * d, d);
        }
        unit(mean, d);
        for (size_t i = 0; i < d; i++) start[i] = 0.7f * mean[i] + 0.3f * start[i];
        unit(start, d);
        for (size_t i = 0; i < d; i++) { /* as long as the library's */
            model->decoder[j * d + i] = model->encoder[j * d + i] = 0.1f * start[i];
        }
    }
    free(rows);
    free(like);
}
