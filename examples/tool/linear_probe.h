/* A linear probe: multinomial logistic regression on embeddings, and what it makes of a model's
   reconstructions.

   It lies beside the tool and not in msae.h, because a program that uses a model has no need of it.
   linear_probe.c needs audit.h, bytes.c and the public part of msae.h alone, and can be taken into a
   program. The implementation of msae.h has to be in the program once, without MSAE_RUN_ONLY. C99
   and C++11. */
#ifndef LINEAR_PROBE_H
#define LINEAR_PROBE_H

#include "../../msae.h"

/* The label of a row that belongs to no class and is left out. */
#define LINEAR_PROBE_NO_CLASS UINT32_MAX

/* What a probe is fed, always at unit length. */
typedef enum linear_probe_input {
    LINEAR_PROBE_INPUT_DEFAULT = 0, /* LINEAR_PROBE_INPUT_PUBLISHED */
    LINEAR_PROBE_INPUT_PUBLISHED,   /* rows less the mean of those that it is fitted on */
    LINEAR_PROBE_INPUT_RAW,         /* rows as they are */
    LINEAR_PROBE_INPUT_COUNT
} linear_probe_input;

/* A fitted probe. The probabilities of a row x are softmax(weights u + bias) with
   u = (x - mean) / ||x - mean||. Const functions may run on several threads at once where the hook
   of `host` is re-entrant or unset. The struct may be moved. */
typedef struct linear_probe {
    size_t n_inputs, n_classes;
    float *weights; /* [n_classes, n_inputs] */
    float *bias;    /* [n_classes] */
    float *mean;    /* [n_inputs]; NULL for raw rows: zeros */
    size_t iterations;
    double loss;    /* of the rows it was fitted on, with the penalty */
    msae_host host; /* from the descriptor */
    void *memory;   /* the block behind the arrays */
    size_t memory_bytes;
} linear_probe;

/* How a probe is fitted. Zero means default. */
typedef struct linear_probe_desc {
    float l2;              /* penalty l2 / 2 ||weights||^2 beside the mean loss; 0: 1e-6;
                              MSAE_OFF: none */
    float tolerance;       /* ends when the gradient is this share of the first; 0: 1e-5 */
    size_t max_iterations; /* 0: 5000 */
    linear_probe_input input;
    msae_host host;
} linear_probe_desc;

/* Fits a probe to the rows of `data` whose label in labels [rows] is below n_classes; rows with
   LINEAR_PROBE_NO_CLASS and those that the data leaves out (skip_bad) do not count. L-BFGS over all
   rows at once, with the same bits for any number of workers. desc NULL: all defaults. Allocates
   the probe and, temporarily, 8 bytes for each input of each row and 130 for each weight. Fails
   with the row's number on a label that is no class, on NaN or Inf and, with raw input, on a row of
   zeros; with published input a row that equals the mean counts as one of zeros. On failure the
   probe is zeroed. Release with linear_probe_free. */
msae_status linear_probe_fit(linear_probe *probe, const msae_data *data, const uint32_t *labels,
                             size_t n_classes, const linear_probe_desc *desc, msae_error *error);

/* Frees what the probe owns and zeroes the struct; a zeroed one is fine. */
void linear_probe_free(linear_probe *probe);

/* Bytes of workspace that linear_probe_predict takes for up to `rows` rows at once. It stops
   growing after a tile of rows, so SIZE_MAX is a fine argument. SIZE_MAX where the instruction path
   of the probe is not available here. Thread-safe. */
size_t linear_probe_workspace_bytes(const linear_probe *probe, size_t rows);

/* Probabilities p [rows, n_classes] of raw rows x [rows, n_inputs]. A row without length gets those
   of the bias; one with NaN or Inf gets NaN. `workspace` [linear_probe_workspace_bytes(probe,
   rows)], of any alignment. Allocates nothing. The last bits of a row's probabilities may depend on
   how many rows are asked about at once. Fails only for an instruction path that is not available
   here. Thread-safe with a workspace for each thread. */
msae_status linear_probe_predict(const linear_probe *probe, void *workspace, const float *x,
                                 size_t rows, float *p, msae_error *error);

/* How well a probe does on labelled rows. */
typedef struct linear_probe_score {
    size_t rows; /* with a label */
    double accuracy;
    double macro_f1; /* mean over the classes that occur, among labels or answers */
    double log_loss; /* mean of -ln p of the label in nats, p at least 1e-38 */
} linear_probe_score;

/* Scores a probe on the rows of `data` with the classes labels [rows]; rows with
   LINEAR_PROBE_NO_CLASS and those that the data leaves out (skip_bad) do not count. Fails on data
   of another width, where no row counts, and with the row's number on a label that is no class and
   on NaN or Inf. Memory comes temporarily from the probe's allocator: 8 d + 4 n_classes bytes a row
   of a tile. Thread-safe. */
msae_status linear_probe_measure(const linear_probe *probe, const msae_data *data,
                                 const uint32_t *labels, linear_probe_score *score,
                                 msae_error *error);

/* What a probe makes of reconstructions r_k against the embeddings x (paper, section 4). */
typedef struct linear_probe_agreement {
    size_t k;
    double kl, kl_std; /* mean over rows of KL(probe(x) || probe(r_k)) in nats, and its deviation
                          (divided by their number) */
    double agreement;  /* share of rows of which both have the same most probable class */
} linear_probe_agreement;

/* Compares the probe's answers on the rows of `data` and on the model's reconstructions of them, at
   every k of ks [n_ks] (ascending, each 1 .. n, or the single 0: as the model encodes by itself):
   results [n_ks]. Rows that the data leaves out (skip_bad) do not count; any other row with NaN or
   Inf, or that gives one in the model, is refused by its number. Threads and temporary memory are
   the model's: 4 d (n_ks + 2) bytes a row of a tile beside its workspace. Thread-safe. */
msae_status linear_probe_compare(const linear_probe *probe, const msae_model *model,
                                 const msae_data *data, const size_t *ks, size_t n_ks,
                                 linear_probe_agreement *results, msae_error *error);

#endif
