/* What an app sees of the library: a model in an asset that the system has mapped, concepts of an
   embedding, and an embedding of concepts. From Swift by a bridging header, from Kotlin by JNI or
   JNA. No call allocates but concepts_open, and none throws. */
#ifndef CONCEPTS_H
#define CONCEPTS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct concepts concepts;

/* Opens a model over `bytes` (a model by rows, as `msae convert --dtype` or msae_compact make it),
   which stay mapped until concepts_close and are never written: on Android AAsset_getBuffer of an
   asset stored without compression (noCompress), on iOS Data(contentsOf:options:.alwaysMapped).
   NULL on failure; *why (may be NULL) then says what is wrong. */
concepts *concepts_open(const void *bytes, size_t size, const char **why);
void concepts_close(concepts *c); /* NULL is fine */

size_t concepts_inputs(const concepts *c);
size_t concepts_count(const concepts *c);

/* The k strongest concepts of embedding [inputs]: their numbers and values [k], strongest first.
   Returns how many there are, 0 for a NaN or Inf. One call at a time for each `concepts`. */
size_t concepts_encode(concepts *c, const float *embedding, size_t k, uint32_t *numbers,
                       float *values);

#define CONCEPTS_MOST 256

/* The embedding [inputs] that concepts make, the first CONCEPTS_MOST of them. Thread-safe. */
void concepts_decode(const concepts *c, const uint32_t *numbers, const float *values, size_t count,
                     float *embedding);

#ifdef __cplusplus
}
#endif

#endif
