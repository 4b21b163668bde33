/* Training with what the library leaves out because it did not pay, so that this can be repeated. */

typedef struct lever_state {
    msae_trainer *trainer;
    const levers *l;
    size_t nesting[MSAE_MAX_LEVELS]; /* as described; the trainer's changes from step to step */
    float weights[MSAE_MAX_LEVELS];
    double losses[MSAE_MAX_LEVELS]; /* running means */
    float *average;                 /* of encoder, decoder, latent_bias, pre_bias */
    size_t steps;
    uint64_t rng[4];
    revival revival;
} lever_state;

static size_t average_size(const msae_model *model) {
    return (2 * model->n_latents + 1) * model->n_inputs + model->n_latents;
}

/* average += (values - average) * share; the arrays stand one after the other. A share of 1 copies.
   back: the other way round. */
static void blend(msae_model *model, float *average, double share, int back) {
    const size_t n = model->n_latents, d = model->n_inputs;
    float *const arrays[] = {model->encoder, model->decoder, model->latent_bias, model->pre_bias};
    const size_t sizes[] = {n * d, n * d, n, d};
    for (size_t a = 0; a < 4; average += sizes[a++]) {
        for (size_t i = 0; i < sizes[a]; i++) {
            if (back) {
                arrays[a][i] = average[i];
            } else {
                average[i] += (float)share * (arrays[a][i] - average[i]);
            }
        }
    }
}

static void make_exact(msae_model *model) {
    const size_t n = model->n_latents, d = model->n_inputs;
    for (size_t j = 0; j < n; j++) {
        double squares = 0, norm;
        for (size_t i = j * d; i < (j + 1) * d; i++) {
            squares += (double)model->decoder[i] * (double)model->decoder[i];
        }
        norm = sqrt(squares);
        for (size_t i = j * d; i < (j + 1) * d; i++) {
            model->decoder[i] = (float)((double)model->decoder[i] / norm);
            model->encoder[i] = (float)((double)model->encoder[i] * norm);
        }
        model->latent_bias[j] = (float)((double)model->latent_bias[j] * norm);
    }
}

/* Weights and levels of the step that comes. */
static void set_levels(lever_state *s, const msae_step_stats *stats) {
    msae_model *model = &s->trainer->model;
    const size_t levels = model->n_levels, n = model->n_latents;
    for (size_t i = 0; i < levels; i++) {
        double weight = (double)s->weights[i];
        if (s->l->power != NOT_SET) weight = pow((double)s->nesting[i], -s->l->power);
        if (s->l->balance && stats) {
            const double loss = stats->level_loss[i];
            s->losses[i] = s->steps == 1 ? loss : 0.98 * s->losses[i] + 0.02 * loss;
            weight /= s->losses[i];
        }
        model->level_weights[i] = (float)weight;
        if (s->l->random && i + 1 < levels) {
            const double octaves = (double)(msae__random(s->rng) >> 11) * 0x1p-53 - 0.5;
            const size_t k = (size_t)((double)s->nesting[i] * pow(2, octaves) + 0.5);
            model->nesting[i] = k < n ? k : n;
        }
    }
}

/* msae_trainer_fit's callback: after each step. */
static int pull_levers(const msae_progress *progress, void *user) {
    lever_state *s = (lever_state *)user;
    s->steps++;
    if (s->l->exact) make_exact(&s->trainer->model);
    if (s->average) { /* early averages would be of the beginning otherwise */
        const double early = (double)s->steps / ((double)s->steps + 9);
        const double decay = s->l->ema < early ? s->l->ema : early;
        blend(&s->trainer->model, s->average, s->steps == 1 ? 1 : 1 - decay, 0);
    }
    revival_step(&s->revival, progress);
    set_levels(s, progress->stats);
    return 0;
}

/* The gradients of alpha |e - e'|^2 / |e|^2, with e what the last level leaves of a row and e' the
   `auxk` largest of the dead latents' pre-activations, decoded: Gao et al. 2024, section 2.3. Plain
   loops: few latents are dead. */
static void add_auxk(msae_trainer *trainer, const float *x, const float *recon, size_t rows,
                     const uint32_t *last_fired, uint32_t now, size_t auxk) {
    msae_model *model = &trainer->model;
    const size_t n = model->n_latents, d = model->n_inputs;
    const size_t levels = model->n_levels;
    const double alpha = 1.0 / 32;
    uint32_t *dead = (uint32_t *)bench_alloc((n + 1) * sizeof *dead);
    float *pre = (float *)bench_alloc((n + 1) * sizeof *pre), *left;
    float *target = (float *)bench_alloc(3 * d * sizeof *target), *error = target + d;
    size_t count = 0;
    left = error + d;
    for (size_t j = 0; j < n; j++) {
        if (now - last_fired[j] >= 100) dead[count++] = (uint32_t)j; /* steps */
    }
    for (size_t r = 0; r < rows && count > 0; r++) {
        const float *last = recon + ((levels - 1) * rows + r) * d;
        double squares = 0;
        for (size_t i = 0; i < d; i++) {
            target[i] = (x[r * d + i] - model->mean[i]) * model->scale;
            left[i] = target[i] - last[i];
            squares += (double)left[i] * (double)left[i];
            error[i] = -left[i];
            target[i] -= model->pre_bias[i];
        }
        if (!(squares > 0)) continue;
        for (size_t e = 0; e < count; e++) {
            pre[e] = model->kernels->dot(target, model->encoder + dead[e] * d, d) +
                     model->latent_bias[dead[e]];
        }
        for (size_t picked = 0; picked < auxk && picked < count; picked++) {
            size_t best = picked; /* the picked ones stand in front */
            float value = pre[picked];
            uint32_t latent = dead[picked];
            for (size_t e = picked; e < count; e++) best = pre[e] > pre[best] ? e : best;
            pre[picked] = pre[best];
            dead[picked] = dead[best];
            pre[best] = value;
            dead[best] = latent;
            model->kernels->axpy(error, pre[picked], model->decoder + dead[picked] * d, d);
        }
        for (size_t i = 0; i < d; i++) {
            error[i] *= (float)(2 * alpha / (squares * (double)rows)); /* d loss / d e' */
        }
        for (size_t e = 0; e < auxk && e < count; e++) {
            const size_t at = dead[e] * d;
            const float through = model->kernels->dot(error, model->decoder + at, d);
            model->kernels->axpy(trainer->grad.decoder + at, pre[e], error, d);
            model->kernels->axpy(trainer->grad.encoder + at, through, target, d);
            trainer->grad.latent_bias[dead[e]] += through;
        }
    }
    free(dead);
    free(pre);
    free(target);
}

/* AuxK needs the gradients before they are used: msae_trainer_fit's loop, with that between the halves. */
static void fit_with_auxk(msae_trainer *trainer, const msae_data *data, size_t auxk) {
    const size_t batch = trainer->desc.batch, d = trainer->model.n_inputs;
    const size_t n = trainer->model.n_latents, levels = trainer->model.n_levels;
    const size_t steps = (data->rows - 1) / batch + 1;
    float *x = (float *)bench_alloc(batch * d * sizeof *x);
    float *recon = (float *)bench_alloc(levels * batch * d * sizeof *recon);
    uint32_t *last_fired = (uint32_t *)calloc(n, sizeof *last_fired), now = 0;
    const msae_source source = msae_source_data(data);
    msae_stream_desc desc;
    msae_stream stream;
    msae_error error;
    memset(&desc, 0, sizeof desc);
    desc.batch = batch;
    desc.seed = ~trainer->desc.model.seed;
    check(msae_trainer_statistics(trainer, &source, &error), "train", &error);
    check(msae_stream_init(&stream, &source, &desc, NULL, &error), "train", &error);
    for (size_t epoch = 0; epoch < trainer->desc.epochs; epoch++) {
        for (size_t step = 0;; step++) {
            const struct msae_train_workspace *ws = trainer->workspace;
            msae_batch next;
            check(msae_stream_next(&stream, &next, &error), "train", &error);
            if (next.rows == 0) break; /* the end of the epoch */
            for (size_t r = 0; r < next.rows; r++) {
                msae_data_read(next.data, next.index[r], 1, x + r * next.data->cols);
            }
            msae_trainer_schedule(trainer, epoch, step, steps);
            check(msae_trainer_forward(trainer, next.data, next.index, next.rows, recon, NULL, NULL,
                                       &error),
                  "train", &error);
            check(msae_trainer_gradients(trainer, next.data, next.index, next.rows, NULL, &error),
                  "train", &error);
            now++;
            for (size_t j = 0; j < n; j++) {
                if (ws->fired_now[j] > 0) last_fired[j] = now;
            }
            add_auxk(trainer, x, recon, next.rows, last_fired, now, auxk);
            check(msae_trainer_update(trainer, NULL, &error), "train", &error);
        }
    }
    msae_stream_free(&stream);
    free(x);
    free(recon);
    free(last_fired);
}

static void train_with(msae_trainer *trainer, const msae_data *data, const levers *l) {
    const msae_source source = msae_source_data(data);
    lever_state s;
    msae_error error;
    if (l->auxk > 0) {
        fit_with_auxk(trainer, data, l->auxk);
        return;
    }
    memset(&s, 0, sizeof s);
    s.trainer = trainer;
    s.l = l;
    msae__seed(s.rng, trainer->desc.model.seed);
    memcpy(s.nesting, trainer->model.nesting, sizeof s.nesting);
    memcpy(s.weights, trainer->model.level_weights, sizeof s.weights);
    if (l->ema > 0) {
        s.average = (float *)calloc(average_size(&trainer->model), sizeof *s.average);
        if (!s.average) fail("memory", "there is not enough");
    }
    if (l->start_near > 0) {
        check(msae_trainer_statistics(trainer, &source, &error), "train", &error);
        start_at_groups(trainer, data, l->start_near);
    }
    revival_begin(&s.revival, trainer, data, &l->revival);
    set_levels(&s, NULL);
    check(msae_trainer_fit(trainer, &source, NULL, pull_levers, &s, &error), "train", &error);
    if (s.average) blend(&trainer->model, s.average, 0, 1);
    free(s.average);
    free(s.revival.active);
    memcpy(trainer->model.nesting, s.nesting, sizeof s.nesting);
}
