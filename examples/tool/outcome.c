/* Whether a training run came to something: warnings where it did not. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SPREAD_ROWS = 64, /* that are read at once */
    FEW_STEPS = 200   /* fewer may be all that is wrong */
};

/* Losses as multiples of what the mean of the rows alone has. */
#define NO_BETTER 0.995 /* than the mean */
#define BAD 0.5         /* with fewer rows than latents, or where the last epoch had NO_BETTER */
#define DIVERGED 1.5

/* ---------------------------------------------------------------------------------------------
   Rows without spread
   ------------------------------------------------------------------------------------------ */

/* Whether all usable rows are one row, which is then first [d]. Ordinary rows differ soon. */
static int are_equal(const msae_source *source, float *block, float *first) {
    const size_t d = source->cols;
    int has_first = 0;
    msae_error error;
    for (uint64_t at = 0; at < source->rows; at += SPREAD_ROWS) {
        const uint64_t left = source->rows - at;
        const size_t rows = left < SPREAD_ROWS ? (size_t)left : SPREAD_ROWS;
        if (source->read(source->user, at, rows, block, &error) != MSAE_OK) return 0;
        for (size_t r = 0; r < rows; r++) {
            const float *x = block + r * d;
            if (tool_is_bad(x, d)) continue;
            if (!has_first) memcpy(first, x, d * sizeof *first);
            has_first = 1;
            for (size_t i = 0; i < d; i++) {
                if (x[i] != first[i]) return 0;
            }
        }
    }
    return has_first;
}

/* Whether the rows, whose mean and scale the model has, differ by rounding alone. */
static int is_rounding(const msae_model *model) {
    const double spread = sqrt(tool_variance(model));
    return spread > 0 && spread < TOOL_ROUNDING * tool_norm(model->mean, model->n_inputs);
}

int tool_is_flat(const msae_model *model, const msae_source *source) {
    float *block = tool_alloc(source->cols, (SPREAD_ROWS + 1) * sizeof *block);
    const int is_flat =
        is_rounding(model) ||
        (block != NULL && are_equal(source, block, block + SPREAD_ROWS * source->cols));
    free(block);
    return is_flat;
}

int tool_warn_of_spread(tool_outcome *outcome, const msae_model *model, const msae_source *source,
                        const char *path) {
    const size_t d = source->cols;
    const unsigned long long rows = source->rows;
    float *block = tool_alloc(d, (SPREAD_ROWS + 1) * sizeof *block);
    if (block == NULL) return tool_fail_memory();
    float *first = block + SPREAD_ROWS * d;
    if (are_equal(source, block, first)) {
        outcome->is_flat = 1;
        if (rows == 1) {
            tool_warn(path, "one row has no spread, so that there is nothing to learn: "
                            "training needs many rows");
        } else {
            tool_warn(path,
                      "all %llu rows are %s, so that there is nothing to learn: look at how "
                      "they were made",
                      rows, tool_norm(first, d) > 0 ? "the same" : "zero");
        }
    } else if (is_rounding(model)) {
        outcome->is_flat = 1;
        tool_warn(path,
                  "the %llu rows differ by %.1g of their norm, which is rounding, so that there is "
                  "nothing to learn: look at how they were made",
                  rows, sqrt(tool_variance(model)) / tool_norm(model->mean, d));
    }
    free(block);
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   A loss that is no better than that of the mean, and latents that are not used
   ------------------------------------------------------------------------------------------ */

void tool_add_step(tool_outcome *outcome, const msae_progress *progress) {
    const msae_step_stats *stats = progress->stats;
    const double all = (double)progress->epochs * (double)progress->steps;
    const double done = (double)progress->epoch * (double)progress->steps + (double)progress->step;
    const double rows = (double)stats->rows - (double)stats->rows_left_out;
    outcome->dead = stats->dead_latents;
    if (done + 1 < all && done < 0.9 * all) return;
    outcome->rows += rows;
    outcome->loss += rows * stats->recon_loss;
}

/* The loss of the mean of the rows, which is zero in the model's space; 0: not known. */
static double loss_of_mean(const msae_trainer *trainer, const msae_source *source) {
    const double scale = (double)trainer->model.scale, d = (double)source->cols;
    double loss = 0;
    if (trainer->desc.loss != MSAE_LOSS_MSE) return 1;
    if (tool_variance(&trainer->model) > 0) {
        return scale * scale * tool_variance(&trainer->model) / d;
    }
    float rms, *mean = tool_alloc(source->cols, sizeof *mean);
    msae_error error;
    if (mean != NULL && msae_source_statistics(source, MSAE_SCALING_RMS, trainer->desc.skip_bad,
                                               NULL, NULL, mean, &rms, &error) == MSAE_OK) {
        loss = 1 / ((double)rms * (double)rms);
    }
    free(mean);
    return loss;
}

/* What to change for a lower loss. More epochs do not undo a learning rate or a penalty. */
static const char *advice_on_loss(const msae_trainer *trainer, double loss, int has_few_rows) {
    const msae_recipe recipe = trainer->model.recipe;
    const int is_short = trainer->step < FEW_STEPS;
    if (recipe == MSAE_RECIPE_RELU || recipe == MSAE_RECIPE_JUMPRELU) {
        return has_few_rows ? "fewer --latents, a lower --lambda or a lower --lr"
               : is_short   ? "more steps (--epochs, a smaller --batch) or a lower --lambda"
                            : "a lower --lambda or a lower --lr";
    }
    if (has_few_rows) return "fewer --latents, more --epochs or a lower --lr";
    if (loss > DIVERGED && !is_short) return "a lower --lr";
    if (loss > DIVERGED) return "a lower --lr, or more --epochs";
    return is_short ? "more --epochs or a smaller --batch" : "more --epochs or a lower --lr";
}

static int warn_of_loss(const tool_outcome *outcome, const msae_trainer *trainer,
                        const msae_source *source) {
    const size_t latents = trainer->model.n_latents;
    const int has_few_rows = source->rows < latents;
    const double mean = outcome->rows > 0 ? loss_of_mean(trainer, source) : 0;
    if (mean == 0) return 0;
    const double loss = trainer->epoch.recon_loss, end = outcome->loss / outcome->rows;
    const int is_bad = has_few_rows || loss >= NO_BETTER * mean;
    if (end < (is_bad ? BAD : NO_BETTER) * mean) return 0;
    char rows[64] = "";
    if (has_few_rows) {
        snprintf(rows, sizeof rows,
                 "%llu row%s for %zu latents: ", (unsigned long long)source->rows,
                 tool_plural(source->rows), latents);
    }
    tool_warn(NULL, "%sloss %.3g, %.3g at the end, where the mean of the rows alone has %.3g: %s",
              rows, loss, end, mean, advice_on_loss(trainer, end / mean, has_few_rows));
    return 1;
}

static void warn_of_dead(const tool_outcome *outcome, const msae_trainer *trainer,
                         const msae_source *source) {
    const msae_recipe recipe = trainer->model.recipe;
    const size_t latents = trainer->model.n_latents;
    const int has_penalty = recipe == MSAE_RECIPE_RELU || recipe == MSAE_RECIPE_JUMPRELU;
    if (outcome->dead <= latents / 2) return;
    tool_warn(NULL, "%zu of %zu latents are dead, those that no row of the last steps uses: %s",
              outcome->dead, latents,
              has_penalty                   ? "a lower --lambda, or fewer --latents"
              : source->rows < latents      ? "fewer --latents, or more rows"
              : trainer->desc.revivals <= 0 ? "--revivals 6, fewer --latents or a lower --lr"
                                            : "fewer --latents, or a lower --lr");
}

void tool_warn_of_outcome(const tool_outcome *outcome, const msae_trainer *trainer,
                          const msae_source *source, const char *validation) {
    if (outcome->is_flat) return;
    const int is_bad = warn_of_loss(outcome, trainer, source);
    warn_of_dead(outcome, trainer, source);
    /* (what the mean has of mean squared errors depends on the rows) */
    if (is_bad || validation == NULL || trainer->desc.loss == MSAE_LOSS_MSE) return;
    if (outcome->validation < NO_BETTER) return;
    tool_warn(
        validation,
        "the loss of these rows ends at %.3g where the mean of the training rows alone has 1: "
        "the model is of no use to them; fewer --latents, or more rows",
        outcome->validation);
}
