/* Numbers that several commands need. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int tool_read_number(const char *text, size_t length, uint64_t *value) {
    *value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return 0;
        const uint64_t digit = (uint64_t)(text[i] - '0');
        if (*value > (UINT64_MAX - digit) / 10) return 0;
        *value = *value * 10 + digit;
    }
    return length > 0;
}

int tool_read_real(const char *text, size_t length, double *value) {
    char copy[64], *end;
    if (length == 0 || length >= sizeof copy) return 0;
    memcpy(copy, text, length);
    copy[length] = '\0';
    /* Keeps out what strtod would take besides: spaces, "inf", "nan", hexadecimal. */
    if (strspn(copy, "0123456789.eE+-") != length) return 0;
    *value = strtod(copy, &end); /* the locale is "C": nobody calls setlocale */
    return end == copy + length && isfinite(*value);
}

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
