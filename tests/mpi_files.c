/* What tests/mpi.sh needs done with files:
       mpi_files rows OUT.npy ROWS COLS SEED       correlated rows of several clusters, float32
       mpi_files spoil FILE.npy ROW                a NaN in a row of such a file
       mpi_files compare MODEL MODEL LIMIT         relative L2 distance of each tensor */
#define MSAE_IMPLEMENTATION
#include "msae.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 128, CLUSTERS = 40 };

static uint64_t state;

/* Uniform in [-1, 1). */
static double draw(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * (2.0 / 9007199254740992.0) - 1;
}

static int write_rows(const char *path, size_t rows, size_t cols, uint64_t seed) {
    char header[HEADER];
    FILE *file = fopen(path, "wb");
    float *centres = malloc(CLUSTERS * cols * sizeof *centres);
    float *row = malloc(cols * sizeof *row);
    if (file == NULL || centres == NULL || row == NULL) return 1;
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
    const int length =
        snprintf(header + 10, sizeof header - 10,
                 "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows, cols);
    header[10 + length] = ' ';
    header[HEADER - 1] = '\n';
    fwrite(header, 1, sizeof header, file);
    state = 1; /* the same clusters in every file */
    for (size_t i = 0; i < CLUSTERS * cols; i++) centres[i] = (float)draw();
    state = seed * 2 + 12345;
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < cols; i++) row[i] = (float)(0.3 * draw());
        for (int part = 0; part < 3; part++) {
            const float *centre = centres + (size_t)((draw() + 1) * (CLUSTERS / 2)) * cols;
            const float weight = (float)draw();
            for (size_t i = 0; i < cols; i++) row[i] += weight * centre[i];
        }
        fwrite(row, sizeof *row, cols, file);
    }
    free(centres);
    free(row);
    return fclose(file) != 0;
}

static int spoil(const char *path, size_t row) {
    const unsigned char nan[4] = {0, 0, 0xc0, 0x7f};
    unsigned long rows, cols;
    char header[HEADER + 1] = "";
    FILE *file = fopen(path, "r+b");
    if (file == NULL || fread(header, 1, HEADER, file) != HEADER) return 1;
    const char *shape = strchr(header + 10, '(');
    if (shape == NULL || sscanf(shape, "(%lu, %lu)", &rows, &cols) != 2) return 1;
    if (fseek(file, (long)(HEADER + row * cols * 4), SEEK_SET) != 0) return 1;
    fwrite(nan, 1, sizeof nan, file);
    return fclose(file) != 0;
}

/* ||a - b|| / ||a||, 0 where both are nothing. */
static double distance(const float *a, const float *b, size_t count) {
    double off = 0, all = 0;
    if (a == NULL || b == NULL) return a == b ? 0 : 1;
    for (size_t i = 0; i < count; i++) {
        off += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        all += (double)a[i] * (double)a[i];
    }
    return off == 0 ? 0 : sqrt(off / (all > 0 ? all : 1));
}

static int compare(const char *first, const char *second, double limit) {
    msae_model a, b;
    msae_error error;
    double worst = 0;
    if (msae_load_file(&a, first, NULL, &error) != MSAE_OK ||
        msae_load_file(&b, second, NULL, &error) != MSAE_OK) {
        return printf("%s or %s: %s\n", first, second, error.message), 1;
    }
    const size_t n = a.n_latents, d = a.n_inputs;
    if (n != b.n_latents || d != b.n_inputs) return puts("other shapes"), 1;
    const struct {
        const char *name;
        double distance;
    } tensors[] = {
        {"encoder", distance(a.encoder, b.encoder, n * d)},
        {"decoder", distance(a.decoder, b.decoder, n * d)},
        {"latent_bias", distance(a.latent_bias, b.latent_bias, n)},
        {"pre_bias", distance(a.pre_bias, b.pre_bias, d)},
        {"log_threshold", distance(a.log_threshold, b.log_threshold, n)},
        {"mean", distance(a.mean, b.mean, d)},
        {"scale", distance(&a.scale, &b.scale, 1)},
        {"threshold", distance(&a.threshold, &b.threshold, 1)},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        if (tensors[i].distance > 0) printf(" %s %.1e", tensors[i].name, tensors[i].distance);
        if (!(tensors[i].distance <= worst)) worst = tensors[i].distance;
    }
    puts(worst == 0 ? " the same bits" : "");
    msae_model_free(&a);
    msae_model_free(&b);
    return !(worst <= limit);
}

int main(int argc, char **argv) {
    if (argc == 6 && strcmp(argv[1], "rows") == 0) {
        return write_rows(argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10),
                          strtoul(argv[5], NULL, 10));
    }
    if (argc == 4 && strcmp(argv[1], "spoil") == 0) {
        return spoil(argv[2], strtoul(argv[3], NULL, 10));
    }
    if (argc == 5 && strcmp(argv[1], "compare") == 0) {
        return compare(argv[2], argv[3], strtod(argv[4], NULL));
    }
    return puts("usage: see the source"), 2;
}
