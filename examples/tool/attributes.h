/* Attributes of rows, for audits of bias (paper, section 5.3): the latents that go with an
   attribute, and what a linear probe makes of rows in which one latent is changed.

   It lies beside the tool and not in msae.h, because a program that uses a model has no need of it.
   attributes.c needs linear_probe.c, audit.h, bytes.c and the public part of msae.h alone, and can
   be taken into a program. The implementation of msae.h has to be in the program once, without
   MSAE_RUN_ONLY. C99 and C++11. */
#ifndef ATTRIBUTES_H
#define ATTRIBUTES_H

#include "linear_probe.h"

/* What is audited. The three functions below are thread-safe; threads and temporary memory are the
   model's. Rows that the data leaves out (skip_bad) do not count; any other row with NaN or Inf, or
   that gives one in the model, is refused by its number. */
typedef struct attribute_audit {
    const msae_model *model;
    const msae_data *data;
    size_t k;                  /* strongest latents of a row that count; 0: as the model encodes */
    const uint8_t *attribute;  /* [rows]: group 1 has it, group 0 lacks it, any other value belongs
                                 to neither; NULL for sweeps and ablations: no groups */
    const linear_probe *probe; /* of sweeps and ablations .. */
    size_t class_index;        /* .. and its class that they ask for */
} attribute_audit;

/* How a latent goes with the attribute. r .. q are NaN for a latent whose value is the same on all
   rows, and the interval where there are only three. */
typedef struct attribute_correlation {
    uint32_t latent;
    double r;         /* point-biserial: Pearson's of the latent's values with 0 and 1 */
    double low, high; /* confidence interval (Fisher's transformation) */
    double p;         /* two-sided, of r = 0 (Student's t); may be too small for a double: */
    double log10_p;
    double q;            /* p corrected for the number of latents that vary (Benjamini, Hochberg) */
    double mean[2];      /* the latent's mean value in either group */
    double frequency[2]; /* share of either group's rows on which it is active */
} attribute_correlation;

/* Correlates every latent with audit->attribute over the rows of both groups: results [n], by
   latent. `confidence` of the interval is within 0 and 1; 0: 0.95. The probe is not used. One pass
   over the data. Fails when a group has no row or both together have fewer than three. Takes 52
   bytes a latent and 4 n + 4 d a row of a tile beside the model's workspace. */
msae_status attributes_correlate(const attribute_audit *audit, double confidence,
                                 attribute_correlation *results, msae_error *error);

/* A step of a sweep: the mean probability of the class when the latent has that value in every
   row, over all rows and over those of either group (NaN for a group without rows). */
typedef struct attribute_point {
    float value;
    double probability, of_group[2];
} attribute_point;

/* Sets `latent` to each of values [steps] in the codes of every row, decodes, and asks the probe
   for audit->class_index: points [steps]. Needs a model with float32 weights, and a probe as wide
   as the data. Fails on a value that gives NaN or Inf, with its number. */
msae_status attributes_sweep(const attribute_audit *audit, uint32_t latent, const float *values,
                             size_t steps, attribute_point *points, msae_error *error);

/* What the probe decides about reconstructions without a latent. */
typedef struct attribute_ablation {
    uint32_t latent;
    size_t active;       /* rows on which it is: no other can change */
    size_t flips;        /* rows of which the most probable class changes .. */
    size_t gained, lost; /* .. to audit->class_index, and away from it */
} attribute_ablation;

/* Takes each of latents [n_latents] alone out of the codes of every row, decodes, and asks the
   probe: results [n_latents]. A latent may be listed several times. Needs a model with float32
   weights, and a probe as wide as the data. */
msae_status attributes_ablate(const attribute_audit *audit, const uint32_t *latents,
                              size_t n_latents, attribute_ablation *results, msae_error *error);

#endif
