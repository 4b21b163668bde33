/* Alignment of two models: which concept of the one is which of the other.

   It lies beside the tool and not in msae.h, because a program that uses a model has no need of it.
   alignment.c needs audit.h, bytes.c and the public part of msae.h alone, and can be taken into a
   program. The implementation of msae.h has to be in the program once, without MSAE_RUN_ONLY. C99
   and C++11. */
#ifndef ALIGNMENT_H
#define ALIGNMENT_H

#include "../../msae.h"

/* What is matched: the rows of two matrices (decoders or encoders of two models), and where. */
typedef struct alignment_sides {
    const float *a; /* [rows_a, d] */
    const float *b; /* [rows_b, d] */
    size_t rows_a, rows_b, d;
    msae_host host;
} alignment_sides;

/* The column of a row without a match. */
#define ALIGNMENT_NO_MATCH SIZE_MAX

typedef struct alignment_result {
    size_t matched;                      /* pairs: the rows of the smaller side */
    double mean;                         /* of the pairs' cosines */
    double above_50, above_70, above_90; /* share of the pairs whose cosine is above 0.5, .. */
} alignment_result;

/* The one-to-one matching of the rows of a and b whose cosines have the largest sum. columns
   [rows_a] receives the row of b for each of a, or ALIGNMENT_NO_MATCH where a has more rows;
   cosines [rows_a] (may be NULL) the pairs' cosines, 0 without a pair. A row of zeros has the
   cosine 0 with all. The matching is exactly optimal for cosines computed in float32 and rounded to
   2^-30 (shortest augmenting paths: Jonker and Volgenant 1987); of several that are, it is always
   the same one on one instruction path, for any number of workers. A row with NaN or Inf is refused
   by its number, a side without rows as MSAE_ERROR_SHAPE. Temporarily takes 4 rows_a rows_b bytes
   and, for the rows of both sides together, 4 d bytes each, for those of the smaller 800 bytes
   each. Thread-safe where the hook of the host is re-entrant or unset. */
msae_status align_rows(const alignment_sides *sides, size_t *columns, float *cosines,
                       alignment_result *result, msae_error *error);

#endif
