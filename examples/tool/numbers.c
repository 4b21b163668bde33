/* Numbers that several commands need. */
#include "tool.h"

#include <math.h>

int tool_is_bad(const float *x, size_t cols) {
    size_t i = 0;
    while (i < cols && isfinite(x[i])) i++;
    return i < cols;
}

double tool_norm(const float *x, size_t d) {
    double squares = 0;
    for (size_t i = 0; i < d; i++) squares += (double)x[i] * (double)x[i];
    return sqrt(squares);
}

double tool_cosine(const float *a, const float *b, size_t d) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < d; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

uint64_t tool_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
