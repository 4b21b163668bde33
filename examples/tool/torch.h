/* Files of torch.save, read and written without executing anything.

   A torch.save file is a zip of stored records, of which data.pkl is a Python pickle: a program
   for a stack machine that may call whatever it names. torch.c runs a machine of its own that has
   the opcodes state dicts are made of and nothing to call: it makes dicts, lists, tuples, texts,
   numbers, tensors and numpy scalars, knows a fixed list of globals, and refuses every other by
   name. Every rule that a file can break has a message with the byte where it breaks it.

   It lies beside the tool and not in msae.h: a program loads safetensors that were converted once,
   and has no use for a parser of pickles. It needs msae.h, bytes.c and zip.c and can be taken
   into a program. */
#ifndef TORCH_H
#define TORCH_H

#include "../../msae.h"

#include "zip.h"

/* ---------------------------------------------------------------------------------------------
   Tensors
   ------------------------------------------------------------------------------------------ */

/* A strided view of numbers in a file: element [i, j, ..] is the one at offset + i * stride[0] +
   j * stride[1] + .. of `bytes` bytes at byte `at` of the file. Whatever made it has checked that
   all of its elements lie in there. */
typedef struct torch_tensor {
    msae_dtype dtype;
    size_t rank;
    uint64_t shape[MSAE_MAX_RANK], stride[MSAE_MAX_RANK]; /* strides in elements, never negative */
    uint64_t offset;                                      /* in elements */
    uint64_t elements;                                    /* the product of the shape */
    uint64_t at, bytes; /* of the storage, which several tensors may share */
    uint32_t crc;       /* of the storage .. */
    int has_crc;        /* .. where there is one */
} torch_tensor;

/* Reads the elements in the order of the shape, as float32 or float64 (`as`), into out [elements].
   Takes as much memory as the storage has bytes and gives it back. `allocator` NULL: the default
   one, here and below. */
msae_status torch_read(const msae_reader *reader, const torch_tensor *tensor, msae_dtype as,
                       void *out, const msae_allocator *allocator, msae_error *error);
/* The transpose of a matrix. */
torch_tensor torch_transposed(const torch_tensor *matrix);

/* ---------------------------------------------------------------------------------------------
   Values
   ------------------------------------------------------------------------------------------ */

typedef enum torch_kind {
    TORCH_NONE,
    TORCH_BOOL,
    TORCH_INT,
    TORCH_REAL,
    TORCH_TEXT,  /* UTF-8, with a zero behind it (it may have others inside) */
    TORCH_BYTES, /* likewise */
    TORCH_LIST,
    TORCH_TUPLE,  /* torch.Size too */
    TORCH_DICT,   /* OrderedDict too */
    TORCH_TENSOR, /* torch.nn.Parameter too */
    TORCH_DTYPE,  /* torch.float32 .. */
    TORCH_KINDS   /* what is above exists only while a pickle is read */
} torch_kind;

/* One value of the tree. numpy scalars are numbers with is_numpy 1. */
typedef struct torch_value torch_value;
struct torch_value {
    unsigned char kind; /* a torch_kind */
    unsigned char is_numpy;
    unsigned char height, state; /* private */
    uint32_t count;              /* bytes of a text, items of a list or tuple, pairs of a dict */
    uint32_t room, weight;       /* private */
    union {
        int64_t integer; /* TORCH_BOOL (0, 1), TORCH_INT */
        double real;
        const char *text;
        torch_value **items; /* [count]; of a dict [2 count]: key, value, key, value .. */
        const torch_tensor *tensor;
        msae_dtype dtype;
    } as;
};

/* Containers in containers, at most. */
#define TORCH_MAX_DEPTH 32

/* ---------------------------------------------------------------------------------------------
   Files
   ------------------------------------------------------------------------------------------ */

enum { TORCH_NO_CRC = 1 }; /* checksums are not looked at: for a fuzzer */

/* An open file. */
typedef struct torch_file {
    const torch_value *root;
    zip_file zip;
    unsigned flags;
    /* private */
    msae_allocator allocator;
    void *pool;
} torch_file;

/* Reads the zip's directory and data.pkl; tensors are read later, with torch_read and the same
   reader. Memory is 200 times data.pkl (which holds no weights) and 3 times the directory, at
   most. On failure nothing is held. Thread-safe. */
msae_status torch_open(torch_file *file, const msae_reader *reader, unsigned flags,
                       const msae_allocator *allocator, msae_error *error);
/* Fine on a zeroed struct. */
void torch_close(torch_file *file);

/* The value of a key of a dict, or NULL (also when `dict` is none). Keys are there once each. */
const torch_value *torch_find(const torch_value *dict, const char *key);

typedef struct torch_number {
    const char *name;
    double value;
} torch_number;

/* A state dict, which is an OrderedDict of tensors: the file itself, or what is under a key of it,
   and then other tensors and numbers stand beside it. */
typedef struct torch_content {
    const msae_tensor *tensors; /* [n_tensors]: names, types, shapes and little-endian data */
    size_t n_tensors;
    const char *key;             /* NULL: the file is the state dict */
    size_t n_inside;             /* tensors of the state dict, the first ones; with a key */
    const torch_number *numbers; /* [n_numbers], Python floats; with a key */
    size_t n_numbers;
} torch_content;

/* Writes it as torch.save does, for torch.load with weights_only too: stored records at multiples of
   64 bytes in a folder `name`, pickle protocol 2, zip64 where it is needed. */
msae_status torch_write(const msae_writer *writer, const char *name, const torch_content *content,
                        const msae_allocator *allocator, msae_error *error);

#endif /* TORCH_H */
