/* What the commands of the tool share: exit statuses, errors, options, JSON, inputs and outputs. */
#ifndef MSAE_TOOL_H
#define MSAE_TOOL_H

#define _POSIX_C_SOURCE 200809L
#define MSAE_USE_PTHREADS
#include "../../msae.h"

#include <stdio.h>

/* ---------------------------------------------------------------------------------------------
   Exit statuses and errors (output.c)
   ------------------------------------------------------------------------------------------ */

enum {
    TOOL_GO = -1, /* not a status: nothing has ended the program yet */
    TOOL_OK = 0,
    TOOL_FAILED = 1, /* a file, a value or the disk is at fault */
    TOOL_USAGE = 2   /* the command line lacks something or has too much */
};

#if defined(__GNUC__)
#define TOOL_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define TOOL_PRINTF(text, first)
#endif

/* Prints the one line "msae: SUBJECT: what" on standard error and returns TOOL_FAILED. The subject
   is a file or an option; NULL leaves it out. Control characters are printed as '?'. */
int tool_fail(const char *subject, const char *format, ...) TOOL_PRINTF(2, 3);
/* The same for an error of the library. */
int tool_fail_error(const char *subject, const msae_error *error);
/* The same for an operation of the C library that failed with `code`, an errno. */
int tool_fail_errno(const char *subject, int code);
int tool_fail_memory(void);
/* Where these lines go; NULL: standard error. */
void tool_errors_to(FILE *file);
/* The same line with a pointer to the command's --help; returns TOOL_USAGE. */
int tool_usage(const char *command, const char *format, ...) TOOL_PRINTF(2, 3);

/* Seconds since some fixed moment. */
double tool_seconds(void);

/* Memory for `count` items of `size` bytes (at least one byte), zeroed; NULL when the product does
   not fit or there is none. Release with free. */
void *tool_alloc(size_t count, size_t size);

/* ---------------------------------------------------------------------------------------------
   JSON, one object a line (output.c)
   ------------------------------------------------------------------------------------------ */

/* Keys are NULL inside lists. */
typedef struct tool_json {
    FILE *file;
    int fields; /* written so far in the innermost object or list */
    int depth;  /* objects and lists that are open */
} tool_json;

/* Opens an object on standard output; with an "event" unless that is NULL. */
tool_json tool_json_line(const char *event);
void tool_json_begin(tool_json *json, const char *key, char bracket); /* '{' or '[' */
void tool_json_end(tool_json *json, char bracket); /* ends the line after the outermost one */
void tool_json_text(tool_json *json, const char *key, const char *text);
/* Key and text that already stand escaped as JSON wants it. */
void tool_json_escaped(tool_json *json, const char *key, size_t key_bytes, const char *text,
                       size_t text_bytes);
void tool_json_count(tool_json *json, const char *key, uint64_t value);
void tool_json_real(tool_json *json, const char *key, double value); /* NaN, Inf: null */
void tool_json_bool(tool_json *json, const char *key, int value);
/* Length of the UTF-8 character at text, 0 when there is no valid one. */
size_t tool_utf8_length(const unsigned char *text);
void tool_json_null(tool_json *json, const char *key);
void tool_json_counts(tool_json *json, const char *key, const size_t *values, size_t count);

/* ---------------------------------------------------------------------------------------------
   Options (options.c)
   ------------------------------------------------------------------------------------------ */

typedef enum tool_kind {
    TOOL_FLAG,     /* int, set to 1; takes no value */
    TOOL_TEXT,     /* const char * */
    TOOL_CHOICE,   /* int: place of the value among the words of `argument`, from 1 */
    TOOL_COUNT,    /* size_t, above zero */
    TOOL_NUMBER,   /* uint64_t */
    TOOL_REAL,     /* float, zero or above */
    TOOL_POSITIVE, /* float, above zero */
    TOOL_COUNTS,   /* tool_counts */
    TOOL_REALS,    /* tool_reals */
    TOOL_TEXTS     /* tool_texts: may be given several times */
} tool_kind;

/* Lists of numbers, "16,32,64". */
typedef struct tool_counts {
    size_t values[MSAE_MAX_LEVELS], count;
} tool_counts;
typedef struct tool_reals {
    float values[MSAE_MAX_LEVELS];
    size_t count;
} tool_reals;

/* Texts, one for each time an option was given. */
#define TOOL_MAX_TEXTS 16
typedef struct tool_texts {
    const char *values[TOOL_MAX_TEXTS];
    size_t count;
} tool_texts;

/* The operands beyond the named ones: they lie in argv. */
typedef struct tool_rest {
    char **values;
    size_t count;
} tool_rest;

typedef struct tool_option {
    const char *name;     /* "--latents", "-o" */
    const char *argument; /* what the help calls the value; NULL for a flag */
    tool_kind kind;
    void *target;
    const char *help;
} tool_option;

#define TOOL_MAX_OPERANDS 2

typedef struct tool_syntax {
    const char *command;
    struct {
        const char *name; /* "MODEL"; NULL beyond the last */
        const char **target;
    } operands[TOOL_MAX_OPERANDS];
    const char *summary;
    const tool_option *options;
    size_t n_options;
    const char *rest_name; /* what the help calls further operands, all optional; NULL: none */
    tool_rest *rest;
} tool_syntax;

/* Reads a command's arguments into the targets of options and operands. Returns TOOL_GO when the
   command is to run; otherwise the exit status (help was asked for, or an error printed). */
int tool_parse(const tool_syntax *syntax, int argc, char **argv);
int tool_is_help(const char *argument); /* "--help" or "-h" */

/* Options that most commands take. */
typedef struct tool_common {
    size_t threads; /* 0: one for each core */
    int simd;       /* an msae_simd */
    int json;
    const char *tensor;
} tool_common;

#define TOOL_OPTION_TENSOR(common)                                         \
    {                                                                      \
        "--tensor", "NAME", TOOL_TEXT, &(common).tensor,                   \
            "which tensor, when the data file is safetensors with several" \
    }
#define TOOL_OPTION_THREADS(common) \
    { "--threads", "N", TOOL_COUNT, &(common).threads, "threads (default: one for each core)" }
#define TOOL_OPTION_SIMD(common)                                                  \
    {                                                                             \
        "--simd", "scalar|avx2|avx512|neon|simd128", TOOL_CHOICE, &(common).simd, \
            "forces an instruction path (default: the fastest there is)"          \
    }
#define TOOL_OPTION_JSON(common) \
    { "--json", NULL, TOOL_FLAG, &(common).json, "one JSON object a line on standard output" }

/* ---------------------------------------------------------------------------------------------
   Inputs and outputs (files.c)
   ------------------------------------------------------------------------------------------ */

/* A model and its data, with the threads that work on them. Zero-initialise. */
typedef struct tool_inputs {
    msae_pool *pool;
    msae_model model;
    msae_data data;
    int as_stored; /* set before opening: small weights stay small, for what can use them so */
} tool_inputs;

/* Starts the threads that the options ask for. */
int tool_start_threads(const tool_common *common, msae_pool **pool);
/* Loads a model and, unless data_path is NULL, data that fits it. */
int tool_open_inputs(tool_inputs *inputs, const tool_common *common, const char *model_path,
                     const char *data_path);
void tool_close_inputs(tool_inputs *inputs);
/* Loads data of `cols` columns (0: any number); fails at a row with NaN or Inf unless bad_rows. The
   path may be a pattern or a list, see tool_rows. */
int tool_load_data(msae_data *data, const char *path, const char *tensor, size_t cols,
                   int bad_rows);

/* Files as one set of rows (rows.c): names, patterns ("part-*.npy", where no file has just that
   name) and lists ("@FILE": one name a line). Zero-initialise, add, open; close in any case. */
typedef struct tool_rows {
    const char *name; /* the first operand: what the set is called */
    char **paths;
    size_t count, room;
    msae_files files; /* after opening; its source must not be moved */
} tool_rows;

int tool_add_rows(tool_rows *rows, const char *operand);
/* Looks at the files' headers; rows of `cols` columns (0: any number). */
int tool_open_rows(tool_rows *rows, const char *tensor, size_t cols);
/* Adds `by` to the row that an error of the library names. */
void tool_shift_row(msae_error *error, uint64_t by);
/* Prints an error of the source with the file, and the row in it, and returns TOOL_FAILED. */
int tool_fail_rows(const tool_rows *rows, const msae_error *error);
/* Brings all rows into memory, as tool_load_data does; a single file's in its own type, several
   files' as float32. */
int tool_hold_rows(tool_rows *rows, const char *tensor, int bad_rows, msae_data *data);
/* 1 when path leads to one of the files. */
int tool_is_among(const tool_rows *rows, const char *path);
void tool_close_rows(tool_rows *rows);

/* Fails when a command got no -o (path NULL) or no file could be written there: no such folder, a
   directory, not permitted. Leaves nothing behind. To be called before long work starts. */
int tool_check_output(const char *command, const char *path);
/* 1 when both paths lead to one file, or are spelled alike; NULL leads nowhere. */
int tool_same_file(const char *a, const char *b);

/* Text output to a file, by temporary name and rename, or to standard output when path is NULL. */
typedef struct tool_output {
    FILE *file;
    const char *path;
    char *temporary;
} tool_output;

int tool_output_open(tool_output *output, const char *path);
/* Ends the output; only then is there a file. */
int tool_output_close(tool_output *output);
/* Ends it without a file. */
void tool_output_drop(tool_output *output);

/* Whole numbers of `count` bytes, little-endian on every machine. */
void tool_put_le(unsigned char *bytes, size_t count, uint64_t value);
uint64_t tool_get_le(const unsigned char *bytes, size_t count);

/* ---------------------------------------------------------------------------------------------
   Text tables: columns by tabs, a header, a row for each row of some data (table.c)
   ------------------------------------------------------------------------------------------ */

typedef struct tool_table {
    const char *path;
    char *text;          /* owns the characters */
    const char **header; /* [columns]; NULL for a plain list, one entry a line */
    const char **cells;  /* [rows, columns] */
    size_t rows, columns;
} tool_table;

/* Loads a table with a header; every line must have as many columns. Whether this fails or not,
   release with tool_free_table. So with the other tables below. */
int tool_load_table(tool_table *table, const char *path);
void tool_free_table(tool_table *table);
/* The place of a column, table->columns when there is none of that name .. */
size_t tool_find_column(const tool_table *table, const char *name);
/* .. which fails here, with a list of those there are; name NULL: --column was not given. */
int tool_need_column(const tool_table *table, const char *name, size_t *column);

/* Words: the column `word` of a table, or the first of each line of a text file without one. */
typedef struct tool_words {
    tool_table table;
    const char **words;
    size_t count;
} tool_words;

/* Loads words that must be `rows` in number, to go with the rows of data_path. */
int tool_load_words(tool_words *words, const char *path, size_t rows, const char *data_path);
void tool_free_words(tool_words *words);

#define TOOL_NO_LABEL UINT32_MAX

/* A class for each row; an empty label is none. */
typedef struct tool_labels {
    tool_table table;
    size_t rows, unlabelled;
    const char **label;   /* [rows], as in the file */
    uint32_t *of_row;     /* [rows]: number of the class, or TOOL_NO_LABEL */
    size_t n_classes;     /* numbered in the order of their names' bytes */
    const char **classes; /* [n_classes] names */
    size_t *counts;       /* [n_classes] rows of each */
    size_t *first;        /* [n_classes] the first row of each */
} tool_labels;

/* Loads the labels of a column (NULL: a list, one a line, read as words are) for the `rows` rows of
   data_path. At least one row has a label. */
int tool_load_labels(tool_labels *labels, const char *path, const char *column, size_t rows,
                     const char *data_path);
void tool_free_labels(tool_labels *labels);

/* ---------------------------------------------------------------------------------------------
   Concepts: latents by number or by name (concepts.c)
   ------------------------------------------------------------------------------------------ */

/* What `msae name` wrote: names by latent. */
typedef struct tool_names {
    tool_table table;
    size_t n_latents;
    const char **name; /* [n_latents], NULL for a latent without; NULL when there is no file */
    double *score;     /* [n_latents] */
    int *valid;        /* [n_latents] */
} tool_names;

/* Loads the columns latent, name, and score and valid where they are there. path NULL: no names. */
int tool_load_names(tool_names *names, const char *path, size_t n_latents);
void tool_free_names(tool_names *names);
/* The name, or "" where there is none. */
const char *tool_name_of(const tool_names *names, size_t latent);

/* 1 when text says `name`: both are alike, or a synonym of the one ("lynx, catamount") is the other
   or a synonym of it. The case of ASCII letters, '_', '-' and ' ' make no difference. */
int tool_is_named(const char *name, const char *text);
/* Groups words that share a synonym: groups [words->count], of which the lowest word is the number.
   At most UINT32_MAX words. */
int tool_group_synonyms(const tool_words *words, uint32_t *groups);

/* From where on a name by strongest rows is valid: measured on CLIP, see the README. */
#define TOOL_ROWS_SCORE 0.22f
#define TOOL_ROWS_RATIO 1.2f

/* The latent of that number or name (or synonym, see tool_is_named).
   Of several with one name it is a valid one before others, then that of the best score. Fails with
   the nearest name. `subject` is what the error starts with, an option. */
int tool_find_concept(const char *subject, const tool_names *names, const char *text,
                      uint32_t *latent);

/* One of a list "dog=2,cat=+0.5,12,grass=0:1". */
typedef struct tool_concept {
    uint32_t latent;
    int has_value, is_relative, has_range; /* "=2"; "=+2" and "=-2"; "=0:1" */
    double value, high;                    /* high with has_range, value <= high */
} tool_concept;

#define TOOL_MAX_CONCEPTS 256
typedef struct tool_concepts {
    tool_concept items[TOOL_MAX_CONCEPTS];
    size_t count;
} tool_concepts;

/* Reads a list; a latent may be in it once. */
int tool_read_concepts(const char *subject, const char *text, const tool_names *names,
                       tool_concepts *concepts);

/* Edits from lists of concepts, one after the other. Zero-initialise. */
typedef struct tool_edits {
    msae_edit items[6 * TOOL_MAX_CONCEPTS];
    size_t count;
} tool_edits;

/* Adds an edit for each of a list (text NULL: none). Set, add and scale want "dog=2", clamp
   "dog=0:1", ablate "dog". With MSAE_EDIT_COUNT the values say what is meant: "dog=2" sets, "dog=+2"
   and "dog=-2" add, "dog=0:1" clamps. */
int tool_add_edits(const char *option, const char *text, const tool_names *names,
                   msae_operation operation, tool_edits *edits);
/* "set", "add", "scale", "clamp", "ablate". */
const char *tool_operation_name(msae_operation operation);

#define TOOL_NO_ROW UINT64_MAX
/* Fails when there is no such row in the data of that path. */
int tool_check_row(const char *option, uint64_t row, const msae_data *data, const char *path);
/* Fails when the option's file, to be written, is one that is read (NULL: none). */
int tool_check_apart(const char *option, const char *output, const char *input);

/* ---------------------------------------------------------------------------------------------
   Sparse codes, and compressed sparse rows of them in a file (encode.c, decode.c)
   ------------------------------------------------------------------------------------------ */

/* A block of encoded rows: row first + r has the raw embedding x + r * n_inputs and counts[r]
   codes, by descending value, from codes + r * stride on. */
typedef struct tool_encoded {
    uint64_t first;
    size_t rows, stride;
    const float *x;
    const msae_code *codes;
    const size_t *counts;
} tool_encoded;
typedef int (*tool_encoded_fn)(void *user, const tool_encoded *block);

/* Encodes all rows of finite data, k latents each (0: as the recipe does), and hands them on block
   by block until the callback returns something else than TOOL_OK. */
int tool_encode_data(const msae_model *model, const msae_data *data, const char *path, size_t k,
                     tool_encoded_fn on_block, void *user);

/* The same of a set of files, of which a block of rows is in memory at a time. */
int tool_encode_rows(const msae_model *model, const tool_rows *rows, size_t k,
                     tool_encoded_fn on_block, void *user);

/* A codes file: row r has the entries indptr[r] .. indptr[r + 1] - 1 of indices and values. Where
   its arrays start, in bytes. */
typedef struct tool_codes {
    const msae_reader *reader;
    uint64_t rows, entries;
    uint64_t indptr;  /* I64 [rows + 1] */
    uint64_t indices; /* I32 [entries] */
    uint64_t values;  /* F32 [entries] */
    uint64_t moments; /* F32 [rows, 2], or 0 when there are none */
} tool_codes;

/* Keys of its __metadata__: d, n, and the k it was made with (0: as many as the recipe keeps). */
#define TOOL_CODES_INPUTS "n_inputs"
#define TOOL_CODES_LATENTS "n_latents"
#define TOOL_CODES_K "k"

/* 1 when the file has the tensors of a codes file. */
int tool_is_codes(const msae_safetensors *file);
/* Checks types, sizes and that the rows' starts ascend from 0 to the number of entries. */
int tool_open_codes(tool_codes *codes, const msae_safetensors *file, const msae_reader *reader,
                    const char *path);

/* ---------------------------------------------------------------------------------------------
   An attribute of rows, and what a model knows of it (bias.c)
   ------------------------------------------------------------------------------------------ */

/* Zero-initialise, then set the first group. */
typedef struct tool_study {
    const msae_model *model;
    const msae_data *data;
    const char *data_path, *labels_path, *column;
    const char *positive; /* the value of group 1; NULL: the second of two */
    size_t k;             /* latents of a row that count as active */

    tool_labels labels;
    uint32_t positive_class;
    const char *value[2]; /* what the groups are called */
    uint8_t *attribute;   /* [rows]: 0, 1, 2 for rows without a label */
    size_t rows_of[2];
    msae_correlation *all;  /* [n], strongest first */
    msae_probe probe;       /* of the groups, class 1 being group 1 .. */
    msae_probe_score score; /* .. on the rows it was fitted on */
} tool_study;

/* Loads the labels, correlates every latent and fits the probe. Close it in any case. */
int tool_study_open(tool_study *study);
void tool_study_close(tool_study *study);
/* The probe's answers along a latent's range, points [steps >= 2], on *n_rows rows. */
int tool_study_sweep(const tool_study *study, uint32_t latent, msae_sweep_point *points,
                     size_t steps, size_t *n_rows);

/* ---------------------------------------------------------------------------------------------
   Models in this and in other projects' layouts (layouts.c reads, export.c writes)
   ------------------------------------------------------------------------------------------ */

typedef enum tool_layout {
    TOOL_LAYOUT_MSAE = 1,   /* our own safetensors */
    TOOL_LAYOUT_SAELENS,    /* a folder: cfg.json, sae_weights.safetensors */
    TOOL_LAYOUT_SPARSIFY,   /* a folder: cfg.json, sae.safetensors */
    TOOL_LAYOUT_DICTIONARY, /* dictionary_learning's folder: ae.pt, config.json */
    TOOL_LAYOUT_PTH,        /* the published MSAE's torch.save, named by its hyper-parameters */
    TOOL_LAYOUT_OPENAI      /* a torch.save of OpenAI's sparse_autoencoder */
} tool_layout;

/* "msae", "saelens", "sparsify", "dictionary-learning", "msae-pth", "openai". */
const char *tool_layout_name(tool_layout layout);
/* Whether its levels are nested by k. */
int tool_is_nested(msae_recipe recipe);

/* What is to be used instead of what a torch.save file's name or content says. Zero: as it says. */
typedef struct tool_import {
    int recipe;          /* an msae_recipe */
    size_t k;            /* topk, batchtopk */
    tool_counts nesting; /* one: where it starts; several: the list */
    int tied, normalize; /* 1: on, 2: off */
    int has_soft_cap;
    float soft_cap;
} tool_import;

/* Loads a model of any layout: a file or a folder, whose content says which. Everything in it is
   checked before it is used; nothing in it is executed. What a layout keeps elsewhere (a bias that
   is not subtracted, rows scaled by norms) is folded into the weights, in double. Prints the error.
   Release with msae_model_free, also after a failure. */
int tool_load_model(msae_model *model, const char *path, const msae_load_desc *desc);
/* The same with something to override (NULL: nothing); tells the layout (NULL: not asked). */
int tool_import_model(msae_model *model, const char *path, const msae_load_desc *desc,
                      const tool_import *import, tool_layout *layout);

/* 1 when a file that starts so is one of torch.save (also in its old format, which is refused). */
int tool_is_torch(const unsigned char *bytes, size_t size);
/* 1 when a path leads to a folder; when a cfg.json lies beside it. */
int tool_is_folder(const char *path);
int tool_has_config(const char *path);

/* What model a layout can hold, and how: see tool_export. */
typedef struct tool_target {
    tool_layout layout;
    msae_recipe recipe; /* TOPK, RELU, JUMPRELU, BATCHTOPK */
    size_t k;           /* of TOPK and BATCHTOPK */
    int has_weights;    /* TOOL_LAYOUT_MSAE: a model by rows, with .. */
    msae_dtype weights; /* .. such weights */
} tool_target;

/* Says how a model goes into a layout: by its own rule or, with k > 0, as a TopK of k latents. Fails
   with the reason when the layout cannot compute the same. */
int tool_plan_export(const msae_model *model, const char *path, tool_layout layout, size_t k,
                     tool_target *target);
/* Writes it: a file for TOOL_LAYOUT_MSAE, else a folder, made if it is not there. Each file is
   written under a temporary name first, the configuration last. Mean and scale are folded into the
   biases, in double: latents and thresholds come out divided by the scale. */
int tool_export_model(const msae_model *model, const char *path, const tool_target *target);

/* ---------------------------------------------------------------------------------------------
   Commands: arguments after the command's name, returning the exit status
   ------------------------------------------------------------------------------------------ */

int tool_train(int argc, char **argv);

/* Processes that train one model together, each with the same arguments (examples/mpi/). Rank 0 is
   the one that writes files and tells of progress. */
typedef struct tool_team {
    msae_collective collective;
    size_t threads; /* of this process, where --threads does not say */
    int lost;       /* 1 once a sum did not come about */
} tool_team;
/* tool_train in one of them; NULL: alone. When one fails, all do; those it did not happen to say
   nothing. */
int tool_train_over(const tool_team *team, int argc, char **argv);
/* The signal that asked a training run to end, 0 if there was none. */
int tool_stop_signal(void);
/* For the collective's sums, while they wait: makes the checkpoint of the last whole step, where
   there is to be one and it is not made yet. */
void tool_keep_steps(void);

int tool_eval(int argc, char **argv);
int tool_encode(int argc, char **argv);
int tool_decode(int argc, char **argv);
int tool_info(int argc, char **argv);
int tool_name(int argc, char **argv);
int tool_top(int argc, char **argv);
int tool_search(int argc, char **argv);
int tool_steer(int argc, char **argv);
int tool_align(int argc, char **argv);
int tool_probe(int argc, char **argv);
int tool_bias(int argc, char **argv);
int tool_report(int argc, char **argv);
int tool_convert(int argc, char **argv);

#endif /* MSAE_TOOL_H */
