/* Matrices that others keep in a zip, an .npz of numpy or embeddings saved by torch.save, and in
   text.

   What is found is presented as a .npy, for msae_data_load and msae_files_open_by. Members that are
   stored, and contiguous tensors, are read where they lie; compressed members and tensors in another
   order come into memory. Needs msae.h, bytes.c, zip.c, inflate.c and torch.c; executes
   nothing. */
#ifndef MATRIX_H
#define MATRIX_H

#include "../../msae.h"

/* A matrix in a file. The reader of the file has to outlive it. */
typedef struct matrix_file {
    msae_reader reader; /* of a .npy; its user is this struct, which may not be moved */
    /* private */
    msae_reader file;
    unsigned char header[192]; /* made up, where the file has none */
    size_t header_bytes;
    uint64_t at; /* in the file, of what follows the header */
    unsigned char *memory;
    size_t memory_bytes;
    msae_allocator allocator;
} matrix_file;

/* Whether a file that starts so is a zip, which matrix_open may know. */
int matrix_is_zip(const unsigned char *start, size_t size);
/* The matrix in a zip. `name`: the array of an .npz (x or x.npy) or the key of a dict; NULL: the only
   one of two dimensions. MSAE_ERROR_ARGUMENT, with their names, when there are several, or none of
   that name. MSAE_ERROR_FORMAT and _UNSUPPORTED say what is wrong and where. `allocator` NULL: the
   default. On failure nothing is held. Thread-safe. */
msae_status matrix_open(matrix_file *matrix, const msae_reader *file, const char *name,
                        const msae_allocator *allocator, msae_error *error);
/* The matrix in a text: a row a line, numbers between commas, tabs, semicolons or blanks; nan and inf
   are numbers. A first line of names is passed over, and so is a first column of them, and the line
   of two sizes that word2vec begins with. All lines have as many numbers, or the error says which
   has not. Text and numbers are in memory while it opens, then the numbers alone, as float32. */
msae_status matrix_open_text(matrix_file *matrix, const msae_reader *file,
                             const msae_allocator *allocator, msae_error *error);
/* Fine on a zeroed struct. */
void matrix_close(matrix_file *matrix);

#endif /* MATRIX_H */
