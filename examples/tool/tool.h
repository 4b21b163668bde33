/* What the commands of the tool share, from the ground up:

       errors                              output.c
       texts and numbers                   output.c, numbers.c
       JSON                                output.c
       options and commands                options.c, command.c
       files by their paths                places.c, kinds.c
       rows of data                        rows.c, files.c
       models with data                    files.c
       what a row keeps: --k               files.c
       data and a model's statistics       statistics.c
       how training came out               outcome.c
       text tables                         table.c
       concepts, edits and rows by name    concepts.c, edits.c
       the concept tree                    parents.c
       sparse codes                        encode.c, decode.c
       an attribute of rows                bias.c
       models in other layouts             layouts.c, export.c
       two models' latents one to one      align.c
       the commands                        one file each

   A function that returns int returns an exit status where nothing else is said: TOOL_OK, or
   another one once it has printed why. What a function fills in is released by the function named
   for that, also after a failure. */
#ifndef MSAE_TOOL_H
#define MSAE_TOOL_H

#define _POSIX_C_SOURCE 200809L
#define MSAE_USE_PTHREADS
#include "../../msae.h"

#include "attributes.h"
#include "bytes.h"
#include "matrix.h"

#include <stddef.h>
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

/* Prints the one line "msae: SUBJECT: what" on standard error and returns TOOL_FAILED. The subject
   is a file or an option; NULL leaves it out. Control characters are printed as '?'. */
int tool_fail(const char *subject, const char *format, ...) BYTES_PRINTF(2, 3);
/* tool_fail with what an error of the library says. */
int tool_fail_error(const char *subject, const msae_error *error);
/* tool_fail with what the C library says of `code`, an errno. */
int tool_fail_errno(const char *subject, int code);
/* tool_fail for a file that could not be written, with what errno says, which was set to 0
   before. */
int tool_fail_writing(const char *path);
/* tool_fail where there is no memory. */
int tool_fail_memory(void);
/* Prints a line of error with a pointer to the command's --help (NULL: to that of all commands) and
   returns TOOL_USAGE. */
int tool_usage(const char *command, const char *format, ...) BYTES_PRINTF(2, 3);
/* 1 when a line of error was printed by now. */
int tool_has_failed(void);
/* Sends errors, warnings and notes to a file; NULL: to standard error. */
void tool_errors_to(FILE *file);

/* Prints a line "msae: warning: SUBJECT: ..", where the errors go: something is wrong, but the
   command goes on and its exit status stays 0. It says what is wrong and what to change. The first
   TOOL_MAX_WARNINGS are kept for tool_json_warnings. */
void tool_warn(const char *subject, const char *format, ...) BYTES_PRINTF(2, 3);
#define TOOL_MAX_WARNINGS 16
/* Prints a line "msae: note: SUBJECT: ..", where the errors go: nothing is wrong, but a choice was
   made. */
void tool_note(const char *subject, const char *format, ...) BYTES_PRINTF(2, 3);

/* ---------------------------------------------------------------------------------------------
   Texts and numbers (output.c, numbers.c)
   ------------------------------------------------------------------------------------------ */

/* Seconds since some fixed moment. */
double tool_seconds(void);
/* "s", or "" for one. */
const char *tool_plural(unsigned long long count);

/* Memory for `count` items of `size` bytes (at least one byte), zeroed; NULL when the product does
   not fit or there is none. Release with free. */
void *tool_alloc(size_t count, size_t size);

/* 1 when a path ends so (".npy"), in whatever case; a name that is nothing else does not. */
int tool_has_ending(const char *path, const char *ending);

/* The whole number that a text of `length` bytes is, digits alone; 0 when it is none or has more
   than 64 bits. */
int tool_read_number(const char *text, size_t length, uint64_t *value);
/* The finite number that a text of `length` bytes, 63 at most, is in decimal digits; 0 when it is
   none. */
int tool_read_real(const char *text, size_t length, double *value);
/* 1 when one of values [cols] is NaN or Inf. */
int tool_is_bad(const float *x, size_t cols);
/* The Euclidean norm of x [d], summed in double. */
double tool_norm(const float *x, size_t d);
/* The cosine of a [d] and b [d], summed in double; NaN where one of them is zero. */
double tool_cosine(const float *a, const float *b, size_t d);
/* The next of a stream of random numbers of 64 bits, which *state, any number, starts and goes on
   from. */
uint64_t tool_random(uint64_t *state);

/* How many of a label's bytes to show in `width` characters at most: all, or as many as leave room
   for an ellipsis; whole words where those fill half of the width, and no broken character. */
size_t tool_shorten(const char *label, size_t bytes, size_t width);
/* Prints a label on standard output as tool_shorten has it; returns how many characters that
   are. */
size_t tool_print_label(const char *label, size_t bytes, size_t width);
/* Prints a label so, and spaces up to that width. */
void tool_print_column(const char *label, size_t width);

/* ---------------------------------------------------------------------------------------------
   JSON, one object a line (output.c)
   ------------------------------------------------------------------------------------------ */

/* A line in the making. Keys are NULL inside lists. */
typedef struct tool_json {
    FILE *file;
    int fields; /* written so far in the innermost object or list */
    int depth;  /* objects and lists that are open */
} tool_json;

/* Opens an object on standard output; with an "event" unless that is NULL. */
tool_json tool_json_line(const char *event);
/* Opens an object or a list: bracket '{' or '['. */
void tool_json_begin(tool_json *json, const char *key, char bracket);
/* Closes the innermost one, bracket '}' or ']'; the line ends with the outermost. */
void tool_json_end(tool_json *json, char bracket);
/* A text; bytes that are no UTF-8 become U+FFFD. */
void tool_json_text(tool_json *json, const char *key, const char *text);
/* A key and a text that already stand escaped as JSON wants it. */
void tool_json_escaped(tool_json *json, const char *key, size_t key_bytes, const char *text,
                       size_t text_bytes);
/* A whole number. */
void tool_json_count(tool_json *json, const char *key, uint64_t value);
/* A number; null for NaN and Inf. */
void tool_json_real(tool_json *json, const char *key, double value);
/* true or false. */
void tool_json_bool(tool_json *json, const char *key, int value);
/* null. */
void tool_json_null(tool_json *json, const char *key);
/* A model's checksum, 16 hexadecimal digits, as names files have it. */
void tool_json_checksum(tool_json *json, const char *key, const msae_model *model);
/* A list of objects, one a hit: "row", the number under the name `value`, and "label", which is
   labels[row]; labels NULL: none. */
void tool_json_hits(tool_json *json, const char *key, const char *value, const msae_hit *hits,
                    size_t count, const char *const *labels);
/* A list of whole numbers. */
void tool_json_counts(tool_json *json, const char *key, const size_t *values, size_t count);
/* The field "warnings": the texts of all warnings so far, an empty list when there were none. */
void tool_json_warnings(tool_json *json);
/* The field "rows_skipped": rows that were left out so far, of all data of the command. */
void tool_json_skipped(tool_json *json);
/* The last fields of a command that reads rows, "rows_skipped" and "warnings", and the line's
   end. */
void tool_json_done(tool_json *json);

/* ---------------------------------------------------------------------------------------------
   Options and commands (options.c, command.c)
   ------------------------------------------------------------------------------------------ */

/* What an entry of a command's table is, and what its value becomes in the command's job. */
typedef enum tool_kind {
    TOOL_OPERAND,  /* const char *: an argument that must be there, by its place */
    TOOL_REST,     /* tool_rest: all arguments behind the operands, none of which must be there */
    TOOL_FLAG,     /* int, set to 1; takes no value */
    TOOL_TEXT,     /* const char * */
    TOOL_FILES,    /* const char *: a file, or several by a pattern or a list (see tool_rows) */
    TOOL_CHOICE,   /* int: place of the value among the words of `argument`, from 1 */
    TOOL_COUNT,    /* size_t, above zero */
    TOOL_KEPT,     /* size_t, above zero, or "all": TOOL_ALL */
    TOOL_NUMBER,   /* uint64_t, below TOOL_NO_NUMBER */
    TOOL_REAL,     /* float, zero or above */
    TOOL_POSITIVE, /* float, above zero */
    TOOL_SETTING,  /* float, above zero, or zero: MSAE_OFF */
    TOOL_TIMES,    /* int, above zero, at most MSAE_MAX_REVIVALS */
    TOOL_NEVER,    /* int, set to MSAE_OFF; takes no value */
    TOOL_REFINE,   /* int, 1 + a number from 0 to MSAE_MAX_EXCHANGES */
    TOOL_COUNTS,   /* tool_counts */
    TOOL_KS,       /* tool_ks */
    TOOL_REALS,    /* tool_reals */
    /* const char *: a file that the command writes, checked before it runs (tool_check_output) */
    TOOL_WRITES_MODEL,
    TOOL_WRITES_CHECKPOINT,
    TOOL_WRITES_CODES,
    TOOL_WRITES_INDEX,
    TOOL_WRITES_EMBEDDINGS,
    TOOL_WRITES_TABLE,
    TOOL_WRITES_PAGE,
    TOOL_WRITES_FOLDER,
    TOOL_WRITES_PTH
} tool_kind;

/* What a number may start with, to be told from all that can be given. */
#define TOOL_NO_NUMBER UINT64_MAX

/* Lists of numbers, "16,32,64". */
typedef struct tool_counts {
    size_t values[MSAE_MAX_LEVELS], count;
} tool_counts;
/* Numbers of latents to keep, "16,64,all,own"; see tool_settle_ks. */
typedef struct tool_ks {
    size_t values[MSAE_MAX_LEVELS + 1], count; /* TOOL_ALL for "all" */
    int own;           /* also as the model encodes by itself .. */
    size_t own_at;     /* .. and where its results stand; `count`: none of the values is it */
    int own_unlisted;  /* the value there was not asked for itself */
} tool_ks;
typedef struct tool_reals {
    float values[MSAE_MAX_LEVELS];
    size_t count;
} tool_reals;

/* The arguments behind the operands; they lie in argv. */
typedef struct tool_rest {
    char **values;
    size_t count;
} tool_rest;

/* One thing that a command line may have. */
typedef struct tool_option {
    const char *name;     /* "--latents", "-o"; "MODEL" of an operand, which the help prints */
    const char *argument; /* what the help calls the value; NULL for a flag and an operand */
    tool_kind kind;
    size_t at;        /* where the value goes: offsetof in the command's job */
    const char *help; /* "" for an operand */
} tool_option;

/* What a command line has to fulfil beyond its options one by one. */
typedef enum tool_relation {
    TOOL_NEEDS,    /* where `option` is given: one of the others at least, or it has no effect */
    TOOL_EXCLUDES, /* where `option` is given: none of the others */
    TOOL_TOGETHER, /* `option` and the one other are given, or neither is */
    TOOL_REQUIRED, /* one of the others is given; `option` is NULL */
    TOOL_READS     /* `option` names something within the others, files of which one must not be a
                      .npy */
} tool_relation;
typedef struct tool_rule {
    const char *option;
    tool_relation relation;
    const char *others; /* "--a|--b|DATA": options and operands */
} tool_rule;

/* A command: what it is called, what it takes, and what it does with that. Its job is a struct of
   its own that begins with a tool_common. */
typedef struct tool_command {
    const char *name;           /* "eval" */
    const char *brief;          /* its line in `msae --help` */
    const char *summary;        /* what `msae COMMAND --help` says of it, in lines */
    const tool_option *options; /* operands first, in their order */
    size_t n_options;           /* at most TOOL_MAX_OPTIONS */
    const tool_rule *rules;     /* in the order in which they are checked */
    size_t n_rules;
    size_t job_bytes;
    const void *defaults;    /* the job before the command line is read; NULL: zeros */
    int (*run)(void *job);   /* returns the exit status; errors are printed by then */
    void (*close)(void *job); /* frees what the job holds, however run ended; NULL: nothing */
} tool_command;
#define TOOL_MAX_OPTIONS 64
#define TOOL_COUNT_OF(table) (sizeof(table) / sizeof(table)[0])

/* Reads a command's arguments into its job, which has the defaults, and holds them to the rules.
   Returns TOOL_GO when the command is to run; otherwise the exit status (help was asked for, or an
   error printed). An option may be given twice only with one value. */
int tool_parse(const tool_command *command, void *job, int argc, char **argv);
/* All of a command: makes its job, reads the arguments behind the command's name, checks the files
   that it is to write, runs it, closes it. Returns the exit status. */
int tool_run(const tool_command *command, int argc, char **argv);
/* 1 for "--help" and "-h". */
int tool_is_help(const char *argument);

/* What most commands take: the first member of every job. */
typedef struct tool_common {
    size_t threads; /* 0: one for each core */
    int simd;       /* an msae_simd */
    int refine;     /* of models that are opened as inputs, msae_model.refine */
    int json, own_statistics, skip_bad;
    const char *tensor;
} tool_common;

#define TOOL_KS_ARGUMENT "K,..,all,own"
#define TOOL_KS_HELP                                                               \
    "numbers of latents to keep, ascending, or all; own: as the model encodes by\n" \
    "itself, with its own k or threshold (default: 16, 32, 64 .. all, own)"

#define TOOL_ALL SIZE_MAX

/* How many latents of a row are kept, in the job's size_t `k`. 0: as the model encodes; see
   tool_settle_k. */
#define TOOL_OPTION_K(job, k)                                                           \
    {                                                                                   \
        "--k", "K|all", TOOL_KEPT, offsetof(job, k),                                    \
            "latents kept of a row: the K strongest, or all (default: the model's own)" \
    }
/* What rows and latents are called: members of the job, const char *. */
#define TOOL_OPTION_LABELS(job, labels)                                   \
    {                                                                     \
        "--labels", "FILE", TOOL_TEXT, offsetof(job, labels),             \
            "what the rows are, a .tsv with a header or a list, one a line" \
    }
#define TOOL_OPTION_COLUMN(job, column) \
    { "--column", "NAME", TOOL_TEXT, offsetof(job, column), ".. the column of the .tsv" }
#define TOOL_OPTION_NAMES(job, names)                              \
    {                                                              \
        "--names", "NAMES.tsv", TOOL_TEXT, offsetof(job, names),   \
            "the latents' names, as msae name writes them"         \
    }
#define TOOL_OPTION_TREE(job, tree)                                \
    {                                                              \
        "--tree", "TREE.tsv", TOOL_TEXT, offsetof(job, tree),      \
            "also show parents: the concept tree, as msae tree writes it" \
    }
#define TOOL_OPTION_REFINE                                                                     \
    {                                                                                          \
        "--refine", "R", TOOL_REFINE, offsetof(tool_common, refine),                           \
            "refine codes: fit the values by least squares, then R times (0 to 100) replace\n" \
            "up to a quarter of the latents by better ones (1 brings most of the gain)"        \
    }
/* The largest k of a default sweep with refined codes: beyond half of the inputs they take long, and
   miss next to nothing. */
#define TOOL_REFINED_K(model) ((model)->n_inputs > 64 ? (model)->n_inputs / 2 : 32)
#define TOOL_OPTION_TENSOR                                                 \
    {                                                                      \
        "--tensor", "NAME", TOOL_TEXT, offsetof(tool_common, tensor),      \
            "which tensor or array, when the data file has several" \
    }
#define TOOL_OPTION_THREADS                                            \
    {                                                                  \
        "--threads", "N", TOOL_COUNT, offsetof(tool_common, threads),  \
            "threads (default: one for each core)"                     \
    }
#define TOOL_OPTION_SIMD                                                                    \
    {                                                                                       \
        "--simd", "scalar|avx2|avx512|neon|simd128", TOOL_CHOICE, offsetof(tool_common, simd), \
            "forces an instruction path (default: the fastest there is)"                    \
    }
#define TOOL_OPTION_OWN_STATISTICS                                                               \
    {                                                                                            \
        "--own-statistics", NULL, TOOL_FLAG, offsetof(tool_common, own_statistics),              \
            "centre and scale DATA by its own mean and spread: for another modality (text for\n" \
            "images)"                                                                            \
    }
#define TOOL_OPTION_SKIP_BAD                                                                  \
    {                                                                                         \
        "--skip-bad", NULL, TOOL_FLAG, offsetof(tool_common, skip_bad),                       \
            "leave out and count rows with a NaN, an Inf or a value beyond float32, instead\n" \
            "of failing; the others keep their numbers"                                       \
    }
#define TOOL_OPTION_JSON                                        \
    {                                                           \
        "--json", NULL, TOOL_FLAG, offsetof(tool_common, json), \
            "one JSON object a line on standard output"         \
    }

/* ---------------------------------------------------------------------------------------------
   Files by their paths (places.c), and what they hold (kinds.c)
   ------------------------------------------------------------------------------------------ */

/* Fails when the path ends in the name of another format than that of what is written,
   TOOL_WRITES_MODEL .. TOOL_WRITES_FOLDER. */
int tool_check_ending(const char *path, tool_kind product);
/* Fails when the path names another format, when no file could be written there (no such folder, a
   directory, not permitted) or another output is the same file. Leaves nothing behind. To be called
   before anything is read: from here on, reading that file is an error. */
int tool_check_output(const char *option, const char *path, tool_kind product);
/* Keeps in mind that the command writes there, without a look at the place: for a folder, or a file
   whose folder may not be there yet. At most TOOL_MAX_OUTPUTS. */
#define TOOL_MAX_OUTPUTS 4
int tool_add_output(const char *option, const char *path);
/* Fails when no file could be written there; the line of error ends with the advice. */
int tool_check_writable(const char *path, const char *advice);
/* Fails when the file, which is about to be read, is one that the command is to write, whatever
   links lead there. Every reader of files calls it. */
int tool_check_input(const char *path);
/* 1 when a path leads to a folder. */
int tool_is_folder(const char *path);
/* 1 when both paths lead to one file, or are spelled alike; NULL leads nowhere. */
int tool_same_file(const char *a, const char *b);

/* Text output to a file, by temporary name and rename, or to standard output when path is NULL. */
typedef struct tool_output {
    FILE *file;
    const char *path;
    char *temporary;
} tool_output;

/* Starts an output, which is closed or dropped unless this fails. */
int tool_output_open(tool_output *output, const char *path);
/* Ends an output; only then is there a file. */
int tool_output_close(tool_output *output);
/* Ends an output that has a path without leaving a file. */
void tool_output_drop(tool_output *output);

/* Reads a whole file, which must not be one that the command is to write: *size bytes, above zero,
   and a zero behind them. Returns TOOL_OK, or prints why not; *bytes is NULL then. Release *bytes
   with free. */
int tool_read_file(const char *path, char **bytes, size_t *size);

/* A reader over a file that stays open until tool_close_reader, for what reads it piece by piece.
   Returns MSAE_OK, or MSAE_ERROR_IO and why not; the reader is zeroed then. */
msae_status tool_open_reader(msae_reader *reader, const char *path, msae_error *error);
/* Closes the file of a reader and zeroes it; fine on a zeroed one. */
void tool_close_reader(msae_reader *reader);

/* What a file should have held. */
typedef enum tool_content {
    TOOL_DATA,
    TOOL_MODEL,
    TOOL_CODES,
    TOOL_INDEX,
    TOOL_CHECKPOINT,
    TOOL_TEXT_FILE
} tool_content;
/* Prints why a file could not be read, as tool_fail_error does, or, where it is something else
   altogether, what it is and what to do; returns TOOL_FAILED. */
int tool_fail_content(const char *path, tool_content wanted, const msae_error *error);
/* Prints that a file cannot be opened, and what of its path is missing; returns TOOL_FAILED. */
int tool_fail_open(const char *path);

/* ---------------------------------------------------------------------------------------------
   Rows of data (rows.c, files.c)
   ------------------------------------------------------------------------------------------ */

/* What becomes of bad rows, those with NaN or Inf as float32. */
enum {
    TOOL_BAD_REFUSED, /* the first of them is an error */
    TOOL_BAD_SKIPPED, /* they are left out (msae_data.skip_bad), with a warning that counts them */
    TOOL_BAD_KEPT     /* they are the command's own business */
};
/* Loads data of `cols` columns (0: any number); bad_rows says what becomes of bad ones. The path
   may be a pattern or a list, see tool_rows. Release with msae_data_free. */
int tool_load_data(msae_data *data, const char *path, const char *tensor, size_t cols,
                   int bad_rows);

/* Rows that were left out so far, of all data of the command. */
uint64_t tool_rows_skipped(void);
/* 1 when a row of the data is left out. */
int tool_is_skipped(const msae_data *data, size_t row);
/* How many rows of the data are not left out. */
size_t tool_used_rows(const msae_data *data);

/* What a pattern found: so many of a set's paths, from that one on. */
typedef struct tool_pattern {
    const char *text;
    size_t first, count;
} tool_pattern;

/* Files as one set of rows: names, patterns ("part-*.npy", where no file has just that
   name; part-2 stands before part-10) and lists ("@FILE": one name a line). Zero-initialise, add,
   open; close in any case. Operands must outlive the set. */
typedef struct tool_rows {
    const char *name; /* what the set is called: the operand, or the first "and 2 others" */
    char *joint_name; /* what `name` points to where there are several operands */
    const char *first_operand;
    size_t n_operands;
    char **paths;
    size_t count, room;
    tool_pattern *patterns;
    size_t n_patterns;
    msae_files files; /* after opening; its source must not be moved */
    const char *tensor;
    msae_reader file;   /* of a set with zips: the one that is open .. */
    matrix_file matrix; /* .. and what is read of it */
} tool_rows;

/* msae_data_load from a file that may be an .npz, one of torch.save or text. */
msae_status tool_load_matrix(msae_data *data, const char *path, const char *tensor,
                             msae_error *error);
/* Whether a file is one of these, by how it starts and, of text, ends in its name. */
int tool_is_converted(const char *path);

/* For qsort: names in the order of their bytes, but of the numbers in them by value, so that part-2
   stands before part-10. Names of the same numbers, part-1 and part-01, keep the order of bytes. */
int tool_by_numbers(const void *left, const void *right);
/* Adds the files of an operand to the set. */
int tool_add_rows(tool_rows *rows, const char *operand);
/* Opens the set, all files added: their headers must agree in their columns, of which there are
   `cols` (0: any number). */
int tool_open_rows(tool_rows *rows, const char *tensor, size_t cols);
/* Prints a note for each pattern: how many files it found, the first and the last. */
void tool_note_rows(const tool_rows *rows);
/* Adds `by` to the row that an error of the library names. */
void tool_shift_row(msae_error *error, uint64_t by);
/* Prints an error of the source with the file, and the row in it, and returns TOOL_FAILED. */
int tool_fail_rows(const tool_rows *rows, const msae_error *error);
/* Prints an error about a row of the file; of one that --skip-bad would leave out it says so. */
int tool_fail_row(const char *path, const msae_error *error);
/* Warns that `count` of n_rows rows, the first of them that one, were left out, and counts them;
   fails where those are all rows. `dtype` is that of a single file's data. */
int tool_skip_rows(const tool_rows *rows, msae_dtype dtype, uint64_t n_rows, uint64_t count,
                   uint64_t first);
/* Brings all rows into memory, as tool_load_data does; a single file's in its own type, several
   files' as float32. */
int tool_hold_rows(tool_rows *rows, const char *tensor, int bad_rows, msae_data *data);
/* Releases the set, whatever was done with it. */
void tool_close_rows(tool_rows *rows);

/* ---------------------------------------------------------------------------------------------
   Models with data (files.c)
   ------------------------------------------------------------------------------------------ */

/* A model and its data, with the threads that work on them. Zero-initialise. */
typedef struct tool_inputs {
    msae_pool *pool;
    msae_model model;
    msae_model stored; /* the same arrays, with the mean and scale that were loaded */
    msae_data data;
    float *mean;   /* [d] the data's own, with --own-statistics: the model's is this one then */
    int as_stored; /* set before opening: small weights stay small, for what can use them so */
    int any_mean;  /* set before opening: the data's mean is the command's own business */
} tool_inputs;

/* Starts the threads that the options ask for. Release with msae_pool_free. */
int tool_start_threads(const tool_common *common, msae_pool **pool);
/* What the options say of instruction path and threads. */
msae_host tool_host(const tool_common *common, msae_pool *pool);
/* How the options have models loaded, weights widened to float32. */
msae_load_desc tool_load_desc(const tool_common *common, msae_pool *pool);
/* Loads a model beside the first one; it must have as many inputs. Release with msae_model_free. */
int tool_load_more(msae_model *model, const char *path, const msae_load_desc *desc,
                   const msae_model *first, const char *first_path);
/* Starts the threads, loads a model and data that fits it, and centres the model on the data (see
   tool_centre). Either path may be NULL: then there is none. */
int tool_open_inputs(tool_inputs *inputs, const tool_common *common, const char *model_path,
                     const char *data_path);
/* Releases everything in it. */
void tool_close_inputs(tool_inputs *inputs);

/* ---------------------------------------------------------------------------------------------
   What a row keeps: --k (files.c)
   ------------------------------------------------------------------------------------------ */

/* Makes of a --k what the library's calls take: 0 is left (as the model encodes), TOOL_ALL becomes
   the number of latents, and more than that fails. */
int tool_settle_k(const msae_model *model, const char *model_path, size_t *k);
/* What msae_evaluate measures by default, 16, 32, 64 .. below n, then n, into ks [MSAE_MAX_LEVELS];
   returns their number. */
size_t tool_default_ks(size_t n, size_t *ks);
/* Makes of a list what the library's calls take: ascending numbers of at most n. An empty list
   becomes the default one. Where `own` is a k, that stands among the values, so that nothing is
   measured twice; a threshold takes a pass of its own, with the single k 0. */
int tool_settle_ks(const msae_model *model, const char *model_path, tool_ks *ks);
/* Measures at the settled ks: `measure` gets a list of them, and at which of the results theirs
   begin. A threshold of the model's own takes a second call, with the single k 0. */
typedef msae_status (*tool_ks_measure)(void *context, const size_t *ks, size_t count, size_t at,
                                       msae_error *error);
msae_status tool_measure_ks(const tool_ks *ks, tool_ks_measure measure, void *context,
                            msae_error *error);
/* Prints the results that were asked for, `own` last: as the model encodes by itself. */
typedef void (*tool_ks_print)(const void *context, size_t at, int own);
void tool_print_ks(const tool_ks *ks, tool_ks_print print, const void *context);
/* Below a table: what its line "own" stands for, where it has one. */
void tool_print_own(const tool_ks *ks, const msae_model *model);
/* What a row keeps under a k that is settled: "k 64", "k 32 on average, by the threshold" or "all
   active latents". */
#define TOOL_K_TEXT 96
const char *tool_k_text(const msae_model *model, size_t k, char text[TOOL_K_TEXT]);
/* Two fields of JSON for a k that is settled: "k", which is n for all, and "kept_by": "k",
   "threshold" or "all". */
void tool_json_k(tool_json *json, const msae_model *model, size_t k);
/* Three fields of JSON for results as the model encodes by itself: "k", which is null, "own" and
   "kept_by". */
void tool_json_own(tool_json *json, const msae_model *model);

/* ---------------------------------------------------------------------------------------------
   Data and a model's statistics (statistics.c)
   ------------------------------------------------------------------------------------------ */

/* E ||x - mean||^2 of the rows that the model was
   trained on, as its scale tells it; 0 where it does not. */
double tool_variance(const msae_model *model);
/* How rows, or a sample of many, differ from those that the model was trained on. */
typedef struct tool_shift {
    double distance;     /* of their mean from the model's, squared, over the model's variance */
    double length;       /* root mean square norm, over that of the model's data */
    int is_far;          /* by distance */
    int is_scaled;       /* by length */
    int is_flat;         /* the rows looked at are all alike */
    size_t rare, rows;   /* rare > 0: so many of the rows, of far larger norm, are all that is off */
    const char *without; /* why the rows can have no statistics of their own; NULL: they can */
} tool_shift;
/* Looks at a sample of the rows; *shift is zeros where the model does not tell the variance of its
   data. Rows of norm_limit and more do not count, unless most are so; 0: no limit. */
int tool_find_shift(const msae_model *model, const msae_source *source, float norm_limit,
                    tool_shift *shift);
/* Warns where there is a shift; the line ends with the advice. */
void tool_warn_of_shift(const tool_shift *shift, const char *path, const char *advice);
/* Looks for a shift and warns of it. */
int tool_warn_of_kind(const msae_model *model, const msae_source *source, const char *path,
                      const char *advice);
/* Makes the model centre and scale rows by the statistics of these, found in the way its own were;
   *mean, NULL before, is its mean from then on and to be freed after its last use. */
int tool_own_statistics(msae_model *model, const msae_source *source, int skip_bad,
                        const char *path, float **mean);
/* What a command does with its data: the model takes on its statistics where --own-statistics is
   given; otherwise a warning where they are far from the model's. *mean as in
   tool_own_statistics. */
int tool_centre(msae_model *model, const tool_common *common, const msae_source *source,
                const char *path, float **mean);

/* Rows that differ by less than this from their mean, relative to its norm, differ by what float32
   makes of them. */
#define TOOL_ROUNDING 1e-6
/* 1 when the usable rows, whose mean and scale the model has, are all alike. */
int tool_is_flat(const msae_model *model, const msae_source *source);

/* ---------------------------------------------------------------------------------------------
   How training came out (outcome.c)
   ------------------------------------------------------------------------------------------ */

/* Whether a training run came to something. Zero-initialise. */
typedef struct tool_outcome {
    int is_flat;       /* the rows are all alike */
    double rows, loss; /* sums over the last tenth of the steps: rows, and their losses */
    double validation; /* the last loss of the validation rows, without penalty */
    size_t dead;       /* latents, at the last step */
} tool_outcome;
/* Warns where the rows, whose mean and scale the model has, are all alike. */
int tool_warn_of_spread(tool_outcome *outcome, const msae_model *model, const msae_source *source,
                        const char *path);
/* Counts a step in. */
void tool_add_step(tool_outcome *outcome, const msae_progress *progress);
/* After the last step: warns of a loss that the mean of the rows has too, for latents most of
   which are dead, and for validation rows (NULL: none) that the model is of no use to. */
void tool_warn_of_outcome(const tool_outcome *outcome, const msae_trainer *trainer,
                          const msae_source *source, const char *validation);

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

/* Loads a table with a header; every line must have as many columns. */
int tool_load_table(tool_table *table, const char *path);
/* Releases a table, also one that is zeros. */
void tool_free_table(tool_table *table);
/* The place of a column, table->columns when there is none of that name. */
size_t tool_find_column(const tool_table *table, const char *name);
/* Sets *column to the place of a column; fails with a list of those there are when there is none of
   that name. name NULL: --column was not given. */
int tool_need_column(const tool_table *table, const char *name, size_t *column);

/* Words: the column `word` of a table, or the first of each line of a text file without one. */
typedef struct tool_words {
    tool_table table;
    const char **words;
    size_t count;
} tool_words;

/* Loads words that must be `rows` in number, to go with the rows of data_path: the column of that
   name, which the table must have; NULL: `word`, or the lines of a list. path NULL: no words. */
int tool_load_words(tool_words *words, const char *path, const char *column, size_t rows,
                    const char *data_path);
/* Releases words, also those that are zeros. */
void tool_free_words(tool_words *words);

#define TOOL_NO_LABEL UINT32_MAX

/* A class for each row; an empty label is none. */
typedef struct tool_labels {
    tool_table table;
    size_t rows, unlabelled; /* without those that are left out */
    const char **label;   /* [rows], as in the file */
    uint32_t *of_row;     /* [rows]: number of the class, or TOOL_NO_LABEL */
    size_t n_classes;     /* numbered in the order of their names' bytes */
    const char **classes; /* [n_classes] names */
    size_t *counts;       /* [n_classes] rows of each */
    size_t *first;        /* [n_classes] the first row of each */
} tool_labels;

/* Loads the labels of a column (NULL: a list, one a line, read as words are) for the rows of data,
   that of data_path. Rows that are left out have no class; at least one other row has one. path
   NULL: no labels. */
int tool_load_labels(tool_labels *labels, const char *path, const char *column,
                     const msae_data *data, const char *data_path);
/* Releases labels, also those that are zeros. */
void tool_free_labels(tool_labels *labels);
/* The share of some rows, at least one, that are of the class most of them are of, and which that
   is (NULL: not asked for); rows without a label are of none: 0 and TOOL_NO_LABEL where all are. */
double tool_purity(const tool_labels *labels, const msae_hit *hits, size_t rows,
                   uint32_t *class_of);

/* ---------------------------------------------------------------------------------------------
   Concepts, edits and rows by number or by name (concepts.c, edits.c)
   ------------------------------------------------------------------------------------------ */

/* A name is a claim. Fewer rows than these do not bear one out. */
#define TOOL_MIN_SUPPORT 20
#define TOOL_UNKNOWN UINT64_MAX

/* How well a name is borne out. */
typedef struct tool_claim {
    int valid;
    double score;
    uint64_t support; /* rows that the latent is active on, or TOOL_UNKNOWN */
} tool_claim;

/* Above zero when a is the better latent of two with one name, below when b is, 0 for neither:
   first one that enough rows bear out, then a valid one, then by the score, which counts the less
   the fewer rows there are. */
int tool_compare_claims(const tool_claim *a, const tool_claim *b);

/* A name that several latents have, and the latent that was taken for it. */
typedef struct tool_choice {
    char text[64]; /* as it was asked for, cut off if longer */
    size_t bytes;
    uint32_t latent;
} tool_choice;
#define TOOL_MAX_CHOICES 16

/* What `msae name` wrote: names by latent. */
typedef struct tool_names {
    tool_table table;
    size_t n_latents;
    const char *model_path;
    uint64_t model;     /* checksum of the model that the names are to be of */
    const char **name;  /* [n_latents], NULL for a latent without; NULL when there is no file */
    const char **apart; /* [n_latents]: a second word, "" for none */
    tool_claim *claims; /* [n_latents] */
    tool_choice choices[TOOL_MAX_CHOICES];
    size_t n_choices;
} tool_names;

/* Loads the columns latent and name, and score, valid, support, apart and model where they are
   there. Names of another model are refused; a file that does not say its model or the support of
   its names is read with a warning. path NULL: no names. */
int tool_load_names(tool_names *names, const char *path, const msae_model *model,
                    const char *model_path);
/* Fails when the text, in that line of a file, is not the checksum of the model; of another one the
   error ends with the advice. */
int tool_check_checksum(const char *path, size_t line, const char *text, uint64_t model,
                        const char *model_path, const char *advice);
/* Releases names, also those that are zeros. */
void tool_free_names(tool_names *names);
/* The name of a latent, or "" where there is none. */
const char *tool_name_of(const tool_names *names, size_t latent);
typedef struct tool_short_name {
    char text[64];
} tool_short_name;
/* A latent's name for where room is short: its first synonym and, in brackets, the second word that
   tells it from others of that name, "cat (siamese)"; "" where there is none. In `room`, cut off
   where it must be. */
const char *tool_short_name_of(const tool_names *names, size_t latent, tool_short_name *room);
/* Bytes of a name up to its first comma, where synonyms follow ("crane, Grus grus"); a name that is
   a comma counts. */
size_t tool_first_synonym(const char *name);
/* Fields of JSON for a latent: "name" and, where there is one, "apart". */
void tool_json_name(tool_json *json, const tool_names *names, size_t latent);
/* Fields of JSON for a latent: "latent" and, where there is a file of names, those of
   tool_json_name. */
void tool_json_concept(tool_json *json, const tool_names *names, size_t latent);
/* A list of objects, one a code: the fields of tool_json_concept, and "value". */
void tool_json_codes(tool_json *json, const char *key, const tool_names *names,
                     const msae_code *codes, size_t count);
/* Prints "dog 6.83 -> 0, ", or "latent 12 6.83 -> 0, " for one without a name. */
void tool_print_change(const tool_names *names, size_t latent, double before, double after);
/* The field "choices": each name so far that several latents have, the one that was taken for it,
   and the others, best first. Nothing when there were none. */
void tool_json_choices(tool_json *json, const tool_names *names);

/* What `msae tree` wrote: the parents of each latent. */
typedef struct tool_parents {
    tool_table table;
    size_t n_latents;
    const char *model_path;
    uint64_t model;   /* checksum of the model that the tree is to be of */
    msae_edge *edges; /* [count], by latent, the best parent first .. */
    size_t count;
    size_t *starts; /* [n_latents + 1]: .. where those of each begin; NULL when there is no file */
    uint32_t *rows; /* [n_latents] on which each is active */
} tool_parents;

/* Loads a concept tree, all of whose columns must be there but the names'. Refuses one of another
   model, or that is none: each latent once or with several parents, by ascending number, every
   parent on more rows. path NULL: no tree. */
int tool_load_parents(tool_parents *tree, const char *path, const msae_model *model,
                   const char *model_path);
/* Releases a tree, also one that is zeros. */
void tool_free_parents(tool_parents *tree);
/* The edges from a latent to its parents, the best first, *count of them; NULL where there are
   none. */
const msae_edge *tool_parents_of(const tool_parents *tree, size_t latent, size_t *count);
/* A list's object for a parent: the fields of tool_json_concept, "p", "lift" and "rows". */
void tool_json_edge(tool_json *json, const tool_names *names, const msae_edge *edge);
/* The field "parents": a list with a tool_json_edge for each. Nothing when there is no file. */
void tool_json_parents(tool_json *json, const tool_parents *tree, const tool_names *names,
                       size_t latent);
/* Prints "12 dog", or "12" for a latent without a name. */
void tool_print_latent(const tool_names *names, size_t latent);

/* 1 when text says `name`: both are alike, or a synonym of the one ("lynx, catamount") is the other
   or a synonym of it. The case of ASCII letters, '_', '-' and ' ' make no difference. */
int tool_is_named(const char *name, const char *text);
/* Groups words that share a synonym: groups [words->count], of which the lowest word is the number.
   At most UINT32_MAX words. */
int tool_group_synonyms(const tool_words *words, uint32_t *groups);

/* From where on a name by strongest rows is valid: measured on CLIP, see the README. */
#define TOOL_ROWS_SCORE 0.22f
#define TOOL_ROWS_RATIO 1.2f

/* The latent of that number or name (or synonym, see tool_is_named); a name with its second word,
   "cat (siamese)" or "cat, siamese", is found as well. Of several it takes the best, see
   tool_compare_claims, and says so in a line on standard error, once. Fails with the nearest name.
   `subject` is what the error starts with, an option. */
int tool_find_concept(const char *subject, tool_names *names, const char *text, uint32_t *latent);

/* Of names [count], some NULL, and their synonyms the one nearest to the text, with its length;
   NULL when none is near. */
const char *tool_nearest_name(const char **names, size_t count, const char *text, size_t bytes,
                              size_t *name_bytes);

/* One of a list "dog=2,cat=+0.5,12,grass=0:1". */
typedef struct tool_concept {
    uint32_t latent;
    int has_value, is_relative, has_range; /* "=2"; "=+2" and "=-2"; "=0:1" */
    double value, high;                    /* high with has_range, value <= high */
} tool_concept;

/* 1 when the concept's value was "=+2". */
int tool_has_plus(const tool_concept *concept);

#define TOOL_MAX_CONCEPTS 256
typedef struct tool_concepts {
    tool_concept items[TOOL_MAX_CONCEPTS];
    size_t count;
} tool_concepts;

/* Reads a list; a latent may be in it once. "cat, dog" is two where both are names. */
int tool_read_concepts(const char *subject, const char *text, tool_names *names,
                       tool_concepts *concepts);

/* Edits from lists of concepts, one after the other. Zero-initialise. */
typedef struct tool_edits {
    msae_edit items[6 * TOOL_MAX_CONCEPTS];
    size_t count;
} tool_edits;

/* Adds an edit for each of a list (text NULL: none). Set, add and scale want "dog=2" (add also
   "dog=+2" and "dog=-2", scale "dog=-2"), clamp "dog=0:1", ablate "dog". With MSAE_EDIT_COUNT the
   values say what is meant: "dog=2" sets, "dog=+2" and "dog=-2" add, "dog=0:1" clamps. */
int tool_add_edits(const char *option, const char *text, tool_names *names,
                   msae_operation operation, tool_edits *edits);
/* Brings what the edits set, add and clamp to from units of what each latent typically is,
   typical [n], into values. Fails for a latent whose typical value is 0, as it is dead in
   `path`; an edit to 0 needs none. */
int tool_scale_edits(tool_edits *edits, const double *typical, const char *path);
/* 1 when any edit needs typical values for tool_scale_edits. */
int tool_needs_typical(const tool_edits *edits);
/* "set", "add", "scale", "clamp", "ablate". */
const char *tool_operation_name(msae_operation operation);

/* What the rows of some data are called. */
typedef struct tool_row_labels {
    const char **label; /* [rows], with path */
    const char *path;   /* NULL: there are no labels .. */
    const char *option; /* .. without this option */
} tool_row_labels;

/* The row of that number or, where the text is no number, of that label or synonym (see
   tool_is_named); "=1984" is a label as well. Of several rows it is the first, with a warning.
   Fails when the data of that path has no such row, with the nearest label. */
int tool_find_row(const char *option, const char *text, const tool_row_labels *labels,
                  const msae_data *data, const char *path, size_t *row);

/* ---------------------------------------------------------------------------------------------
   Sparse codes, and compressed sparse rows of them in a file (encode.c, decode.c)
   ------------------------------------------------------------------------------------------ */

/* A block of encoded rows: row first + r has the raw embedding x + r * n_inputs and counts[r]
   codes, by descending value, from codes + r * stride on. One that is left out, bad[r] 1, has no
   codes and zeros for its embedding. */
typedef struct tool_encoded {
    uint64_t first;
    size_t rows, stride;
    const float *x;
    const uint8_t *bad;
    const msae_code *codes;
    const size_t *counts;
} tool_encoded;
typedef int (*tool_encoded_fn)(void *user, const tool_encoded *block);

/* Encodes all rows of data, k latents each (0: as the model does), and hands them on block by block
   until the callback returns something else than TOOL_OK, which is then returned. */
int tool_encode_data(const msae_model *model, const msae_data *data, const char *path, size_t k,
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
    char model[17];   /* msae_model_checksum in hexadecimal, "" when the file does not say it */
    int own_statistics;
} tool_codes;

/* Keys of its __metadata__: d, n, the k it was made with (0: all active latents), the checksum of
   the model that made it and, where --own-statistics did, "1". */
#define TOOL_CODES_INPUTS "n_inputs"
#define TOOL_CODES_LATENTS "n_latents"
#define TOOL_CODES_K "k"
#define TOOL_CODES_MODEL "model"
#define TOOL_CODES_OWN "own_statistics"
#define TOOL_CODES_REFINE "refine"

/* 1 when the file has the tensors of a codes file. */
int tool_is_codes(const msae_safetensors *file);
/* Reads where a codes file's arrays lie. Checks types, sizes, what it says of its model and that
   the rows' starts ascend from 0 to the number of entries. */
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
    int probe_input;      /* a linear_probe_input */

    tool_labels labels;
    uint32_t positive_class;
    const char *value[2]; /* what the groups are called */
    uint8_t *attribute;   /* [rows]: 0, 1, 2 for rows without a label */
    size_t rows_of[2];
    attribute_correlation *all; /* [n], strongest first */
    linear_probe probe;         /* of the groups, class 1 being group 1 .. */
    linear_probe_score score;   /* .. on the rows it was fitted on */
} tool_study;

/* Loads the labels, correlates every latent and fits the probe. Close it in any case. */
int tool_study_open(tool_study *study);
/* Releases everything in it. */
void tool_study_close(tool_study *study);
/* The probe's answers along a latent's range, points [steps >= 2], on *n_rows rows. */
int tool_study_sweep(const tool_study *study, uint32_t latent, attribute_point *points,
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
    TOOL_LAYOUT_OPENAI,     /* a torch.save of OpenAI's sparse_autoencoder */
    TOOL_LAYOUT_PRISMA,     /* ViT-Prisma's folder: weights.pt, config.json */
    TOOL_LAYOUT_BATCHTOPK,  /* a folder of BatchTopK or matryoshka_sae: sae.pt, config.json */
    TOOL_LAYOUT_LLAMA       /* Llama Scope's: hyperparams.json, checkpoints/final.safetensors */
} tool_layout;

/* "msae", "saelens", "sparsify", "dictionary-learning", "msae-pth", "openai", "vit-prisma",
   "batchtopk", "llama-scope". */
const char *tool_layout_name(tool_layout layout);
/* 1 for recipes whose levels are nested by k. */
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
/* Loads a model of any layout with something to override (NULL: nothing) and tells the layout
   (NULL: not asked). Release with msae_model_free, also after a failure. */
int tool_import_model(msae_model *model, const char *path, const msae_load_desc *desc,
                      const tool_import *import, tool_layout *layout);

/* 1 when a file of torch.save has a model's tensors in it. */
int tool_holds_model(const char *path);
/* 1 when a file that starts so is one of torch.save (also in its old format, which is refused). */
int tool_is_torch(const unsigned char *bytes, size_t size);
/* 1 when a cfg.json lies beside the file of that path. */
int tool_has_config(const char *path);

/* What model a layout can hold, and how: see tool_export_model. */
typedef struct tool_target {
    tool_layout layout;
    msae_recipe recipe; /* TOPK, RELU, JUMPRELU, BATCHTOPK */
    size_t k;           /* of TOPK and BATCHTOPK */
    int has_weights;    /* TOOL_LAYOUT_MSAE: a model by rows, with .. */
    msae_dtype weights; /* .. such weights */
} tool_target;

/* Says how a model goes into a layout: by its own rule or, with k > 0, as a TopK of k latents, but
   for a nested model in our own layout, which gets another k and keeps its levels. Fails
   with the reason when the layout cannot compute the same. */
int tool_plan_export(const msae_model *model, const char *path, tool_layout layout, size_t k,
                     tool_target *target);
/* Checks, as tool_check_output does, what tool_export_model is to write. */
int tool_check_export(const char *option, const char *path, tool_layout layout);
/* The same for a .pth as the published code saves them, of which published.c knows. */
int tool_plan_published(const msae_model *model, const char *path, size_t k, tool_target *target);
int tool_write_published(const msae_model *model, const char *path, const tool_target *target);
/* Writes a file of torch.save (torch.h) whose records are in that folder; under a temporary name
   first. */
struct torch_content;
int tool_write_torch(const char *path, const char *folder, const struct torch_content *content);
/* Writes a model as it was planned: a file for TOOL_LAYOUT_MSAE, else a folder, made if it is not
   there. Each file is written under a temporary name first, the configuration last. Mean and scale
   are folded into the biases, in double: latents and thresholds come out divided by the scale. */
int tool_export_model(const msae_model *model, const char *path, const tool_target *target);

/* ---------------------------------------------------------------------------------------------
   Two models' latents one to one (align.c)
   ------------------------------------------------------------------------------------------ */

/* The matching of decoder rows as align_rows has it: columns [n of a], and each pair's cosine, 0
   for a latent without a match; `path` is that of b. */
int tool_align_decoders(const msae_model *a, const msae_model *b, const msae_host *host,
                        const char *path, size_t *columns, float *cosines);
/* More latents than these are not compared in pairs, in memory of n^2 bytes and more, unless that
   is asked for. */
#define TOOL_MAX_PAIRED ((size_t)16384)

/* ---------------------------------------------------------------------------------------------
   The commands
   ------------------------------------------------------------------------------------------ */

extern const tool_command tool_train, tool_eval, tool_encode, tool_decode, tool_info, tool_name,
    tool_top, tool_search, tool_steer, tool_align, tool_probe, tool_bias, tool_report, tool_convert,
    tool_tree, tool_score;

/* Processes that train one model together, each with the same arguments (examples/mpi/). Rank 0 is
   the one that writes files and tells of progress. */
typedef struct tool_team {
    msae_collective collective;
    size_t threads; /* of this process, where --threads does not say */
    int lost;       /* 1 once a sum did not come about */
} tool_team;
/* The command train in one of them. When one fails, all do; those it did not happen to say
   nothing. */
int tool_train_over(const tool_team *team, int argc, char **argv);
/* The signal that asked a training run to end, 0 if there was none. */
int tool_stop_signal(void);
/* For the collective's sums, while they wait: makes the checkpoint of the last whole step, where
   there is to be one and it is not made yet. */
void tool_keep_steps(void);

#endif /* MSAE_TOOL_H */
