/* msae.h - v0.6.0 - Matryoshka sparse autoencoders in a single file - public domain or MIT

   Trains and runs Matryoshka sparse autoencoders (MSAE). A model rewrites an embedding (CLIP,
   SigLIP, a word vector, any vector) as a few active concepts out of thousands, and turns edited
   concepts back into an embedding. Its TopK levels are nested, which makes one model good at every
   sparsity (Zaigrajew, Baniecki and Biecek, "Interpreting CLIP with Hierarchical Sparse
   Autoencoders", ICML 2025, arXiv 2502.20578). C99 or C++11; needs libc and libm, nothing else.

       #define MSAE_IMPLEMENTATION                                // in exactly one C or C++ file
       #include "msae.h"
       msae_load_file(&model, "clip.safetensors", NULL, &error);             // USE a model:
       workspace = malloc(msae_workspace_bytes(&model, 1));
       msae_encode(&model, workspace, x, 32, codes, &count);                 // { latent, value }
       if (count > 0) codes[0].value *= 2;                                   // the strongest one
       msae_decode(&model, codes, count, NULL, edited);                      // float edited[d]

       msae_train_desc desc = {0};                                           // TRAIN a model:
       desc.model.n_inputs = 512, desc.model.n_latents = 4096;               // zero means default
       msae_data_load(&data, msae_from_file("clip.npy"), NULL, NULL, &error);
       msae_source rows = msae_source_data(&data);
       msae_trainer_init(&trainer, &desc, &error);
       msae_trainer_fit(&trainer, &rows, NULL, NULL, NULL, &error);
       msae_save_file(&trainer.model, "clip.safetensors", &error);

   Contents: search for a tag
   --------------------------
       API        >>status >>hooks >>model >>encode >>refine >>bytes >>data >>multiply >>train
                  >>evaluate >>top >>names >>scores >>search >>tree >>edits >>files
       run part   MSAE_RUN_ONLY: >>glossary >>platform >>base >>scalar >>processor >>pre_activations
                  >>ranking >>models >>encoding >>refining >>many_rows >>reading >>loading >>small
       general    >>errors >>random >>heap >>batch_scalar >>quantise >>product
                  >>levels >>defaults >>rows >>npy >>shards >>saving
       training   >>descriptor >>memory >>statistics >>step >>targets >>selection >>loss
                  >>gradients >>update >>batchtopk >>processes >>schedule >>revival >>streams
                  >>run >>checkpoints
       concepts   >>passes >>metrics >>strongest >>naming >>scoring >>index >>parents >>steering
       others     >>threads, a pool; the kernels of all instruction sets: >>paths, and a new one
                  starts at >>vectors

   Quick start
   -----------
   Copy this file into your project. Link with -lm, and with -lpthread if you define
   MSAE_USE_PTHREADS. Plain -O2 is enough: kernels for each instruction set are compiled in and
   chosen at run time (WebAssembly cannot choose; build with -msimd128). A program checks what the
   calls above return: see examples/hello.c, one of several, and a command-line tool.
   Left out: GPUs; images and text (bring embeddings); printing, exit and errno; global state,
   except a cached CPUID result; networking (for training on several machines you supply an
   all-reduce); the formats of other projects (the tool's `convert` reads them).

   The model
   ---------
   B rows in a batch, d inputs, n latents, L nesting levels. Arrays are row-major float32. In memory
   encoder and decoder have one contiguous row per latent, [n, d]; files hold the encoder as [d, n].
   Embeddings go in raw and come out raw: the mean and the scale of the data belong to the model.
       pre = (x' - pre_bias) encoder^T + latent_bias,   x' = (x - mean) * scale
       z_i = softcap(act(TopK_k_i(pre))),   r_i = z_i decoder + pre_bias,   i = 1 .. L
   The loss is the weighted mean of the levels' losses (paper, section 3). One ranking and one
   sparse decode serve all levels, so seven levels cost about 20 % more than one. Decoder rows have
   norm 1.
       active       a latent whose value in a row's codes, at the k in use, is not zero
       frequency    the share of rows in which a latent is active
       dead         active in no row of a set; in training: on fewer than 1 in 316,000 rows over the
                    last 1000 steps (msae_step_stats.dead_latents)
   Recipes choose the activation and the defaults; each setting can also be changed by itself.
       msae         the default: levels 16, 32 .. n; weights 2.25, 1.75, 1 .. 1, 3; start from data
                    rows; learning rate 20 times the paper's; trapezoid schedule; beta2 0.99; six
                    revivals of dead latents. Better at every k than the published recipes:
       msae-uw, msae-rw, topk, batchtopk, relu, jumprelu
       msae-width   nests the dictionary: the first n/32, n/16, .. n latents must each reconstruct
                    alone. Best at the k it was trained for; msae is good at every k

   Switches
   --------
   Define these before the include, the same in every file. They remove functions; they never change
   the layout of a struct.
       MSAE_IMPLEMENTATION      in exactly one file: compiles the code
       MSAE_STATIC              all functions are static: a private copy for this file
       MSAE_RUN_ONLY            load and run models, nothing else
       MSAE_NO_TRAIN            no training; MSAE_NO_REFINE: no refined codes
       MSAE_NO_ANALYSIS         no evaluation, names, search and edits
       MSAE_NO_STDIO            nothing that takes a path; memory and callbacks remain
       MSAE_NO_SIMD             scalar kernels only, several times slower
       MSAE_USE_PTHREADS        adds msae_pool, msae_background: threads for the hooks (gcc, clang)
       MSAE_USE_CBLAS           multiplies with cblas_sgemm (a single-threaded one is best)
       MSAE_FORCE_AVX2          AVX2 with MinGW GCC too, whose stack is not aligned for it
       MSAE_HEADER              the name of this file, if you rename it: it includes itself
       MSAE_ASSERT              instead of assert, which guards against misuse by the program
       MSAE_MALLOC, MSAE_FREE   instead of malloc and free: define both or none
   With MSAE_NO_STDIO and MSAE_NO_REFINE MSAE_RUN_ONLY is 24 KB (x86-64, gcc -Os) without libm,
   and refined codes are 3 more: loading, msae_map, encoding and decoding, msae_forward, the
   hooks. `make pocket` writes it as a header of its own. Calls that a switch leaves out are
   compile errors that name it (gcc, clang). It does not widen quantised weights, history and
   level_weights are zero, errors have a status's text, AVX2 is the fastest path on x86, batches
   encode at 0.6 to 0.9 of the speed.

   Memory and cost
   ---------------
   Each object takes one block from its descriptor's allocator (default: MSAE_MALLOC) or, with
   _init_in, uses yours. Structs may be copied or returned by value; only the copy may then be used
   and freed (an msae_files may not be moved). Encoding, decoding and steps allocate nothing.
       object                  bytes                                              allocated
       model                   8 n d, tied 4 n d                                  init, load
       loading from a file     64 n                                               temporarily
       workspace of one row    32 n + 92 d                                        by you
       workspace of rows       284 n + 584 d, per further worker 28 n + 64 d      by you
       trainer                 4 models, 5 to 25 MB (batchtopk 33), up to 5 MB    init
                               per further worker, batchtopk 20 k per batch row
       run over the data       two windows of 64 MB; in memory 8 for each row     fit, stream
       revival                 n d / 8 + 256 (L + 1) d                            temporarily
       evaluation with CKNNA   10 n for each of up to 10,000 rows                 temporarily
   A training step on B rows that keep l0 latents each (n/2 in the first epoch of a nested model, k
   with topk), measured on two cores with AVX-512 for d = 512, n = 4096, B = 1024, l0 = 1,900:
       phase             operations                share of peak reached     time (of 68 ms)
       encoder product   2 B n d                   0.7                       11
       ranking           B n                       (3 ns each)                6
       decoding          2 B l0 d                  0.25, AVX2 0.4            16
       gradients         6 B l0 d                  0.4, AVX2 0.5             30
       update            (68 n d bytes)            (speed of memory)          4
   Encoding a row reads the encoder once, 4 n d bytes, at the speed of memory; eight rows or more
   cost 2 n d operations each, at 0.7 of peak. bench/README.md has each phase beside its lower
   bound.

   Threads, large data, several machines
   -------------------------------------
   The library starts no threads by itself. Set a descriptor's parallel hook to yours, or to
   msae_pool_parallel(pool). Functions on a const model may run at the same time, each with its own
   workspace, if the model's parallel hook is re-entrant, or not set. The same seed, data and
   instruction path give the same bits for any number of workers. Between paths (scalar, AVX2,
   AVX-512, NEON, SIMD128) sums are taken in another order; a step differs by at most 2e-6 (relative
   L2).
   msae_trainer_fit takes any msae_source: data in memory, a callback that copies rows, or
   msae_files, a set of files of any length. Rows that are not in memory are read in windows, with
   an msae_background ahead of time, and shuffled in two levels (msae_stream_desc). Several
   processes train one model through msae_collective: each reads its share of the rows, and
   gradients are summed. All processes apply the same update. It differs from a single process's
   only by rounding. examples/mpi/ is such a program.

   Errors and numbers
   ------------------
   Whatever can fail returns an msae_status and fills an optional msae_error with one line of text
   and a position (byte of a file, row of data). Nothing is half done: a failed init leaves a zeroed
   struct, a failed step the model as it was, a failed save the old file. A row with NaN or Inf is
   an error, or is left out with skip_bad (the others keep their numbers). A step that would produce
   NaN or Inf (in activations, loss, gradient or its square) is rejected and leaves the trainer
   unchanged, bit for bit. Encoding, msae_forward and evaluation reject a row that overflows;
   msae_decode returns Inf. Row norms may be anywhere in 1e-37 .. 1e37; outside of that
   msae_trainer_statistics returns an error. Denormals never slow a step. -ffast-math does no harm.

   Files, security, limits
   -----------------------
   A model is a safetensors file: encoder [d, n], decoder [n, d] (not when tied), pre_bias,
   latent_bias, mean, scale, log_threshold (jumprelu), threshold (batchtopk, msae-width), and all
   hyper-parameters as strings msae.* in __metadata__, with a checksum of the header. Other keys are
   ignored, and dropped by a save. A checkpoint adds moment1.*, moment2.* and run.*, and is three
   times as long: a run resumed from it ends with the same bytes as one that was not cut, on the
   same instruction path. Data: .npy (f2, f4, f8, i1, bfloat16 as V2, of any order), a tensor of a
   safetensors file, or plain float32 named .._ROWS_COLS.npy. All that is written is little-endian.
   Promised, for any bytes in a file, in memory or behind a reader:
   - Nothing outside of them is read, nor believed before it is checked: header length within the
     file and 100 MB, JSON of the one shape the format allows, UTF-8, unique names (as spelled),
     known dtypes, sizes that match the shapes, no overlap, hole or trailing bytes. Each rule has a
     message.
   - Memory is at most 8 times the file, whatever sizes it claims. Resuming allocates a trainer only
     after all tensors were found with their sizes; the BatchTopK buffer is capped at 64 MB + 16 x
     the file. A reader that lies about its size can cause 100 MB.
   - Time is linear in the file, n log n in the number of names. Nothing recurses or is executed.
   - NaN, Inf, negative second moments and scales are refused. A model that loads is safe to use.
   - Any failure (allocation, read, write, flush, rename) is a status; nothing leaks, and no
     half-written file is left under its name. Files are written as path.PID.tmp, flushed to the
     disk and renamed: a power cut leaves the old file or the new one. (Devices are written to.)
   Not promised: that a model means anything (its checksum detects accidents, not intent); safety
   from data races (writing while another thread reads; two threads saving to one path) or wrong
   arguments, of which MSAE_ASSERT catches some.
   Limits: n and d below 2^32 - 1 with 64 n d bytes of address space (on 32 bits below 2^18), 64
   levels, 256 workers, 256 processes, 2^32 rows in a batch, 8 dimensions of a tensor, files within
   the address space (msae_data) or 2^63 bytes (all else; on 32 bits 2^31, or 2^63 with
   -D_FILE_OFFSET_BITS=64 and -D_LARGEFILE_SOURCE). Stack on x86-64 with -O2: 12 KB to encode and
   decode, 20 to train, 20 for analysis, 24 for files, twice that with -O0.
*/

#ifndef MSAE_H
#define MSAE_H

#include <stddef.h>
#include <stdint.h>

#define MSAE_VERSION_MAJOR 0
#define MSAE_VERSION_MINOR 6
#define MSAE_VERSION_PATCH 0
#define MSAE_VERSION "0.6.0"

#ifndef MSAE_API
#if defined(MSAE_STATIC) && (defined(__GNUC__) || defined(__clang__))
#define MSAE_API static __attribute__((unused))
#elif defined(MSAE_STATIC)
#define MSAE_API static
#else
#define MSAE_API extern
#endif
#endif

/* Functions that a switch leaves out stay declared: a call of one is an error that names it. */
#if defined(__clang__)
#define MSAE__LEFT_OUT(switch_name) extern __attribute__((unavailable("left out by " switch_name)))
#elif defined(__GNUC__)
#define MSAE__LEFT_OUT(switch_name) extern __attribute__((error("left out by " switch_name)))
#else
#define MSAE__LEFT_OUT(switch_name) extern
#endif
#ifdef MSAE_RUN_ONLY
#define MSAE__MAKE_API MSAE__LEFT_OUT("MSAE_RUN_ONLY")
#else
#define MSAE__MAKE_API MSAE_API
#endif
#ifdef MSAE_NO_REFINE
#define MSAE__REFINE_API MSAE__LEFT_OUT("MSAE_NO_REFINE")
#else
#define MSAE__REFINE_API MSAE_API
#endif
#ifdef MSAE_NO_TRAIN
#define MSAE__TRAIN_API MSAE__LEFT_OUT("MSAE_NO_TRAIN")
#else
#define MSAE__TRAIN_API MSAE__MAKE_API
#endif
#ifdef MSAE_NO_ANALYSIS
#define MSAE__CONCEPTS_API MSAE__LEFT_OUT("MSAE_NO_ANALYSIS")
#else
#define MSAE__CONCEPTS_API MSAE__MAKE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- >>status Status and errors ------------------------------------------------------------- */

/* Every status with its text, once. */
#define MSAE_STATUS_LIST(X)                       \
    X(MSAE_OK, "ok")                              \
    X(MSAE_ERROR_ARGUMENT, "invalid argument")    \
    X(MSAE_ERROR_MEMORY, "out of memory")         \
    X(MSAE_ERROR_SHAPE, "shapes do not match")    \
    X(MSAE_ERROR_NOT_FINITE, "NaN or Inf")        \
    X(MSAE_ERROR_IO, "reading or writing failed") \
    X(MSAE_ERROR_FORMAT, "malformed file")        \
    X(MSAE_ERROR_UNSUPPORTED, "not supported")    \
    X(MSAE_ERROR_STOPPED, "stopped by the caller")
#define MSAE_STATUS_ENUM(code, text) code,
typedef enum msae_status { MSAE_STATUS_LIST(MSAE_STATUS_ENUM) MSAE_STATUS_COUNT } msae_status;
#undef MSAE_STATUS_ENUM

/* What went wrong. Functions that can fail take it last, may be given NULL, write it on failure. */
typedef struct msae_error {
    msae_status code;
    uint64_t position; /* byte in a file or row of the data at fault, or MSAE_NO_POSITION */
    char message[256]; /* one line, no newline, without the file's name: "cannot be opened" */
} msae_error;
#define MSAE_NO_POSITION UINT64_MAX

/* The text of a status ("out of memory"); never NULL. Thread-safe. */
MSAE_API const char *msae_status_text(msae_status status);

/* ---- >>hooks Hooks: memory, threads, processes ---------------------------------------------- */

/* Memory. All zero: MSAE_MALLOC and MSAE_FREE (malloc and free unless defined). `alloc` returns
   memory aligned for any type, or NULL; `free` gets the size that was asked for. */
typedef struct msae_allocator {
    void *(*alloc)(size_t bytes, void *user);
    void (*free)(void *memory, size_t bytes, void *user);
    void *user;
} msae_allocator;

/* One task of a parallel loop. worker: index of the calling thread, below msae_parallel.workers.
   Two tasks running at the same time must have different ones: each has a part of the workspace. */
typedef void (*msae_task)(void *context, size_t task, size_t worker);

/* Threads. All zero: everything runs on the calling thread. Otherwise parallel_for runs
   task(context, i, worker) for every i < tasks, in any order, on up to `workers` threads, and
   returns when all are done. Results are the same, bit for bit, for any number of workers. */
typedef struct msae_parallel {
    void (*parallel_for)(void *user, size_t tasks, msae_task task, void *context);
    void *user;
    size_t workers; /* 0 counts as 1; at most MSAE_MAX_WORKERS */
} msae_parallel;
#define MSAE_MAX_WORKERS 256

/* A background thread for prefetching. All zero: no prefetching. start: run task(context, 0, 0) on
   the thread and return 1 at once, or return 0 if no thread is available (the task then runs where
   it is waited for). wait: return when the task that was started last has ended. */
typedef struct msae_background {
    int (*start)(void *user, msae_task task, void *context);
    void (*wait)(void *user);
    void *user;
} msae_background;

#ifdef MSAE_USE_PTHREADS
/* A small thread pool that implements msae_parallel. Opaque; owns its threads. */
typedef struct msae_pool msae_pool;
/* Starts workers - 1 threads; the caller is the last worker. 0: one for each online core. */
MSAE_API msae_status msae_pool_create(msae_pool **pool, size_t workers, msae_error *error);
/* Ends the threads and frees the pool; NULL is fine. */
MSAE_API void msae_pool_free(msae_pool *pool);
/* The hook for a descriptor. Not re-entrant: one parallel_for at a time for each pool. */
MSAE_API msae_parallel msae_pool_parallel(msae_pool *pool);
/* Starts a thread that implements msae_background, for one stream at a time. */
MSAE_API msae_status msae_background_create(msae_background *background, msae_error *error);
/* Ends the thread; fine on a zeroed struct. */
MSAE_API void msae_background_free(msae_background *background);
#endif

/* An all-reduce over the processes that train one model. All zero: there is one process. Otherwise
   each of `ranks` processes makes the same calls in the same order, and sum_floats and sum_doubles
   replace values [count] by their sum over the processes, the same bits in all of them. They return
   1, or 0 if the others cannot be reached: the call that asked for the sum then fails with
   MSAE_ERROR_IO. examples/mpi/ has one over MPI. */
typedef struct msae_collective {
    int (*sum_floats)(void *user, float *values, size_t count);
    int (*sum_doubles)(void *user, double *values, size_t count);
    void *user;
    size_t rank, ranks; /* this process and how many, at most MSAE_MAX_RANKS */
} msae_collective;
#define MSAE_MAX_RANKS 256

/* Instruction paths. */
typedef enum msae_simd {
    MSAE_SIMD_AUTO = 0, /* the fastest that this processor has */
    MSAE_SIMD_SCALAR,
    MSAE_SIMD_AVX2,    /* with FMA and F16C */
    MSAE_SIMD_AVX512,  /* F, BW and VL, with all of the above */
    MSAE_SIMD_NEON,    /* aarch64 */
    MSAE_SIMD_WASM128, /* WebAssembly, built with -msimd128 */
    MSAE_SIMD_COUNT
} msae_simd;

/* What an object computes on and where its memory comes from. All zero: the fastest instruction
   path, the default allocator, the calling thread. */
typedef struct msae_host {
    msae_simd simd; /* AUTO, or the path to use */
    msae_allocator allocator;
    msae_parallel parallel;
} msae_host;

/* clang-format off */
/* Types of elements. */
typedef enum msae_dtype {
    MSAE_F32 = 0, MSAE_F16, MSAE_BF16, MSAE_F64,
    MSAE_I8, MSAE_I16, MSAE_I32, MSAE_I64,
    MSAE_U8, MSAE_U16, MSAE_U32, MSAE_U64, MSAE_BOOL,
    MSAE_F8_E5M2, MSAE_F8_E4M3, MSAE_F8_E8M0, MSAE_F8_E5M2FNUZ, MSAE_F8_E4M3FNUZ, MSAE_C64,
    MSAE_F6_E2M3, MSAE_F6_E3M2, MSAE_F4,
    MSAE_DTYPE_COUNT
} msae_dtype;
/* clang-format on */

/* Bytes of one element; 0 for no type, and for F6 and F4, of which several share a byte.
   Thread-safe. */
MSAE_API size_t msae_dtype_bytes(msae_dtype dtype);

/* Enums whose values have names, in files, options and messages; 0 is "default" or as said. */
typedef enum msae_enum {
    MSAE_ENUM_RECIPE = 0, /* "msae", "msae-uw", "batchtopk" .. */
    MSAE_ENUM_ACTIVATION, /* "relu", "identity", "abs" */
    MSAE_ENUM_DTYPE,      /* "F32" (0), "F16", "BF16" .. as in safetensors files */
    MSAE_ENUM_SIMD,       /* "auto" (0), "scalar", "avx2", "avx512", "neon", "simd128" */
    MSAE_ENUM_LOSS,       /* "nmse", "mse", "cosine" */
    MSAE_ENUM_SCHEDULE,   /* "capped", "linear", "cosine", "constant", "trapezoid", "published" */
    MSAE_ENUM_START,      /* "random", "rows" */
    MSAE_ENUM_SCALING,    /* "rms", "paper", "none" */
    MSAE_ENUM_COUNT
} msae_enum;
/* The name of a value; "unknown" for a value or an enum that is not there. Thread-safe. */
MSAE_API const char *msae_enum_name(msae_enum kind, int value);
/* The value that has the name; -1 where none has, or the enum is not there. Thread-safe. */
MSAE_API int msae_enum_value(msae_enum kind, const char *name);

/* ---- >>model The model ---------------------------------------------------------------------- */

#define MSAE_MAX_LEVELS 64
#define MSAE_MAX_REVIVALS 1000 /* of a run, see msae_train_desc */
#define MSAE_OFF (-1)          /* for an actual zero in a descriptor, where 0 means "default" */

/* What is trained: fixes the activation and the defaults of all settings that are 0. */
typedef enum msae_recipe {
    MSAE_RECIPE_DEFAULT = 0, /* MSAE_RECIPE_MSAE */
    MSAE_RECIPE_MSAE_UW,     /* nested TopK, uniform level weights */
    MSAE_RECIPE_MSAE_RW,     /* nested TopK, reverse weights L, L-1, .., 1: small k weighs most */
    MSAE_RECIPE_TOPK,        /* one TopK level */
    MSAE_RECIPE_BATCHTOPK,   /* the k * rows largest of the batch; a threshold at inference */
    MSAE_RECIPE_RELU,        /* ReLU with an L1 penalty */
    MSAE_RECIPE_JUMPRELU,    /* a learned threshold for each latent, with an L0 penalty */
    MSAE_RECIPE_MSAE,        /* nested TopK from k = 16 on, the best that was measured */
    MSAE_RECIPE_MSAE_WIDTH,  /* BatchTopK, nested widths (Bussmann et al. 2025, arXiv 2503.17547) */
    MSAE_RECIPE_COUNT
} msae_recipe;

typedef enum msae_activation {
    MSAE_ACTIVATION_DEFAULT = 0, /* MSAE_ACTIVATION_RELU */
    MSAE_ACTIVATION_RELU,        /* those of the selected pre-activations that are above zero */
    MSAE_ACTIVATION_IDENTITY,    /* all selected pre-activations, also negative ones (TopK only) */
    MSAE_ACTIVATION_ABS          /* TopK of |pre-activation|, which is also the latent's value */
} msae_activation;

/* A model's shape. Zero-initialise, then set what differs from the default. */
typedef struct msae_model_desc {
    size_t n_inputs;  /* d, required */
    size_t n_latents; /* n, required */
    msae_recipe recipe;
    msae_activation activation; /* msae and topk recipes only */
    const size_t *nesting; /* k of each level, ascending, <= n; msae-width: of each, how many first
                              latents, the last n; copied */
    size_t n_levels;       /* at most MSAE_MAX_LEVELS; 0: start, 2 start, 4 start .. <= n, then n */
    size_t nesting_start;  /* start. 0: 64, msae 16, msae-width n / 32 */
    const float *level_weights; /* >= 0, not all zero; copied. NULL: msae 2.25, 1.75, 1 .. 1, 3,
                                   msae-rw L .. 1, all others 1 */
    size_t n_level_weights;     /* the number of levels */
    /* See msae_model.k. 0: 64, batchtopk, msae-width 32, at most n. Must be 0 for relu, jumprelu */
    size_t k;
    int tied;           /* 1: decoder = encoder^T, one parameter */
    int normalize;      /* 1: rows are brought to mean 0 and deviation 1, and restored at the end */
    float soft_cap;     /* c > 0: latents pass through c * tanh(v / c); 0: off */
    float threshold;    /* jumprelu: initial threshold, 0 means 0.001 */
    msae_dtype weights; /* F16, BF16, I8: quantised, made by msae_compact; to train: F32 */
    int by_rows;        /* see msae_model; to train: 0 */
    uint64_t seed;      /* of the initial weights */
    msae_host host;
} msae_model_desc;

/* The hyper-parameters of training. Fields of msae_train_desc and msae_history, defaults, checks,
   notes in files ("msae.train_" and the field), what a resumed run has again and the options of
   `msae train` all come from this table. Columns:
   field, kind   COUNT; FLOAT; TIMES: up to MSAE_MAX_REVIVALS or MSAE_OFF; CHOICE: enum msae_<field>
   range         FLOAT: ABOVE_0; OR_OFF, above 0 or MSAE_OFF; FROM_0 and BELOW_1, from 0 on, which
                 MSAE_OFF says. CHOICE: its kind of enum
   ours, others  default with msae and msae-width; with other recipes. 0: as the help says
   before        what a file means that lacks the note; MSAE__NEEDED: it is malformed
   use           ALL, or who alone may set it: JUMPRELU; PENALTY (and relu); TRAPEZOID
   option, argument, help   of the tool; "msae" there stands for msae-width too */
#define MSAE_TRAIN_LIST(X)                                                                        \
    X(epochs, COUNT, 0, 30, 30, MSAE__NEEDED, ALL, "epochs", "E",                                 \
      "times through the data (default: 30)")                                                     \
    X(batch, COUNT, 0, 512, 4096, MSAE__NEEDED, ALL, "batch", "B",                                \
      "rows of a step (default: msae 512, others 4096)")                                          \
    X(lr, FLOAT, ABOVE_0, 0, 0, MSAE__NEEDED, ALL, "lr", "LR",                                    \
      "learning rate (default: msae 2e-3 sqrt(min(batch, 1024) / 256), msae-uw, -rw\n1e-4, "      \
      "topk, batchtopk 5e-4, relu, jumprelu 5e-5)")                                               \
    X(beta1, FLOAT, BELOW_1, 0.9f, 0.9f, MSAE__NEEDED, ALL, "beta1", "B",                         \
      "of AdamW's first moment (default: 0.9)")                                                   \
    X(beta2, FLOAT, BELOW_1, 0.99f, 0.999f, MSAE__NEEDED, ALL, "beta2", "B",                      \
      "of its second (default: msae 0.99, others 0.999)")                                         \
    X(eps, FLOAT, FROM_0, 6.25e-10f, 6.25e-10f, MSAE__NEEDED, ALL, "eps", "E",                    \
      "added to the root of the second (default: 6.25e-10)")                                      \
    X(weight_decay, FLOAT, FROM_0, 0, 0, MSAE__NEEDED, ALL, "weight-decay", "W",                  \
      "of AdamW (default: 0)")                                                                    \
    X(clip, FLOAT, OR_OFF, 1, 1, MSAE__NEEDED, ALL, "clip", "C",                                  \
      "norm that all gradients together are clipped to; 0: not at all (default: 1)")              \
    X(schedule, CHOICE, SCHEDULE, MSAE_SCHEDULE_TRAPEZOID, MSAE_SCHEDULE_PUBLISHED, MSAE__NEEDED, \
      ALL, "schedule", "capped|linear|cosine|constant|trapezoid|published",                       \
      "of the learning rate (default: msae trapezoid, others published, which is above 1\n"       \
      "where epochs are no multiple of five; capped: at most 1.25, linear: at most 1)")           \
    X(warmup, FLOAT, FROM_0, 0.03f, 0.03f, 0, TRAPEZOID, "warmup", "S",                           \
      "trapezoid: share of the steps up (default: 0.03)")                                         \
    X(decay, FLOAT, FROM_0, 0.4f, 0.4f, 0, TRAPEZOID, "decay", "S",                               \
      ".. and down to 0 at the end (default: 0.4)")                                               \
    X(start, CHOICE, START, MSAE_START_ROWS, MSAE_START_RANDOM, MSAE_START_RANDOM, ALL, "start",  \
      "random|rows", "where decoder rows start (default: msae rows of the data, others random)")  \
    X(revivals, TIMES, 0, 6, MSAE_OFF, 0, ALL, "revivals", "N",                                   \
      "times that latents which were active in no row since the last time are started\n"          \
      "anew (default: msae 6, others never)")                                                     \
    X(loss, CHOICE, LOSS, MSAE_LOSS_NMSE, MSAE_LOSS_NMSE, MSAE__NEEDED, ALL, "loss",              \
      "nmse|mse|cosine", "default: nmse")                                                         \
    X(sparse_weight, FLOAT, FROM_0, 0, 0, MSAE__NEEDED, PENALTY, "lambda", "L",                   \
      "weight of the sparsity term (default: relu 0.003, jumprelu 0.001)")                        \
    X(bandwidth, FLOAT, ABOVE_0, 0.001f, 0.001f, MSAE__NEEDED, JUMPRELU, "bandwidth", "W",        \
      "of jumprelu's straight-through gradient (default: 0.001)")                                 \
    X(scaling, CHOICE, SCALING, MSAE_SCALING_RMS, MSAE_SCALING_RMS, MSAE__NEEDED, ALL, "scale",   \
      "rms|paper|none", "of the data: to RMS norm sqrt(d), as published, not (default: rms)")

/* A row as a field of msae_train_desc and of msae_history. */
#define MSAE__DESC(field, kind, ...) MSAE__TYPE_##kind(size_t, msae_##field) field;
#define MSAE__HISTORY(field, kind, ...) MSAE__TYPE_##kind(uint64_t, int) field;
#define MSAE__TYPE_COUNT(count, choice) count
#define MSAE__TYPE_FLOAT(count, choice) float
#define MSAE__TYPE_TIMES(count, choice) int
#define MSAE__TYPE_CHOICE(count, choice) choice

/* How a model was trained, for the record: saved with it, no effect on inference. All zero for a
   model that was not trained here. Enums as int, 255: unknown to this version; revivals 0: none. */
typedef struct msae_history {
    uint64_t steps, rows, seed; /* updates made, rows seen, as in msae_model_desc */
    MSAE_TRAIN_LIST(MSAE__HISTORY)
} msae_history;

typedef struct msae_kernels msae_kernels; /* the table of an instruction path; private */

/* A model. All fields may be read; the arrays, k and refine may be written between calls, the rest
   only by the functions below. Functions on a const model may run at the same time, each with its
   own workspace, if the model's parallel hook is re-entrant, or not set. */
typedef struct msae_model {
    size_t n_inputs, n_latents; /* d, n */
    msae_recipe recipe;
    msae_activation activation;
    size_t n_levels;
    size_t nesting[MSAE_MAX_LEVELS]; /* of each level, ascending: k, msae-width: width */
    /* Latents of a row that the model keeps where a call does not say (k = 0). msae, msae-uw,
       msae-rw: may be set at any time to 1 .. n, without effect on training; topk: that of
       training, as batchtopk, msae-width, whose threshold keeps it on average; relu, jumprelu: 0,
       all that are active. */
    size_t k;
    /* 1 + exchanges: msae_encode_rows, _dense, msae_forward and all of the analysis refine codes
       (see >>refine); 0: they do not. May be set before the bytes of a workspace are asked for,
       which it raises to 800 n + 600 d; not kept in files. */
    int refine;
    float level_weights[MSAE_MAX_LEVELS]; /* a_i of the loss, as given, not normalised */
    int tied, normalize;
    float soft_cap;
    float *encoder;       /* [n, d]: one row per latent (in files [d, n]) */
    float *decoder;       /* [n, d]; the same memory as encoder when tied */
    float *pre_bias;      /* [d] */
    float *latent_bias;   /* [n] */
    float *log_threshold; /* [n], jumprelu; NULL otherwise */
    float threshold;      /* batchtopk, msae-width: active is what is above; -1: untrained */
    float *mean;          /* [d]: the model sees (x - mean) * scale .. */
    float scale;          /* .. and returns r / scale + mean */
    /* Quantised weights, for inference: with F16, BF16 or I8 small_encoder and small_decoder [n,
       d], little-endian, replace encoder and decoder, which are NULL. I8 times its row's scale. */
    msae_dtype weights;
    int by_rows; /* 1: files hold the encoder as [n, d] too, as msae_map needs it */
    const void *small_encoder, *small_decoder;
    const float *encoder_scale, *decoder_scale; /* [n] each, MSAE_I8; NULL otherwise */
    float level_thresholds[MSAE_MAX_LEVELS];    /* of msae_encode_level, found by msae_calibrate */
    int has_level_thresholds;                   /* 0: none */
    msae_history history;
    msae_simd simd; /* the path in use, never AUTO */
    const msae_kernels *kernels;
    msae_allocator allocator;
    msae_parallel parallel;
    void *memory; /* the one block that holds all arrays */
    size_t memory_bytes;
    int owns_memory;
} msae_model;
/* A new model with initial weights: decoder rows uniform with norm 0.1, encoder its transpose,
   biases 0, mean 0, scale 1. On failure nothing is held and msae_model_free is allowed. */
MSAE__MAKE_API msae_status msae_model_init(msae_model *model, const msae_model_desc *desc,
                                           msae_error *error);
/* A new model, as by msae_model_init, in the caller's memory [*bytes], which must outlive it.
   memory NULL: *bytes receives what it takes, and the model is zeroed. */
MSAE__MAKE_API msae_status msae_model_init_in(msae_model *model, const msae_model_desc *desc,
                                              void *memory, size_t *bytes, msae_error *error);
/* Frees what the model owns and zeroes it; fine on a zeroed model. */
MSAE_API void msae_model_free(msae_model *model);

/* How a model is loaded. Zero (or NULL) means default. */
typedef struct msae_load_desc {
    msae_host host;
    int widen; /* 1: quantised weights become float32, which names need */
    int check; /* 1: msae_map looks at all weights, as msae_load always does */
} msae_load_desc;
/* A copy of a float32 model for inference with weights MSAE_F32, MSAE_F16, MSAE_BF16, or MSAE_I8
   with a scale for each row (symmetric; the README has what each costs). Its files hold the encoder
   by rows, so that msae_map can use them in place. MSAE_ERROR_NOT_FINITE for a weight beyond the
   range of float16. desc->host as for loading; NULL: the model's path, the default memory. */
MSAE__MAKE_API msae_status msae_compact(const msae_model *model, msae_dtype weights,
                                        const msae_load_desc *desc, msae_model *compact,
                                        msae_error *error);
/* A checksum of all weights, biases, jumprelu's thresholds, mean and scale, the same on every
   machine, to keep with whatever refers to latents by number (names, an index). Quantised weights
   have another one, also once widened. Takes 5 ms for 2^21 weights. Thread-safe. */
MSAE__MAKE_API uint64_t msae_model_checksum(const msae_model *model);

/* ---- >>encode Inference: raw embeddings in, raw reconstructions out, no allocation ---------- */

/* One active latent of a row. */
typedef struct msae_code {
    uint32_t latent;
    float value;
} msae_code;
/* Bytes of workspace, of any alignment, for calls on up to `rows` rows. It does not grow beyond 64
   rows: SIZE_MAX is a fine argument. Thread-safe. */
MSAE_API size_t msae_workspace_bytes(const msae_model *model, size_t rows);

/* Encodes one row x [d] as the model does by itself: of the latents above zero (jumprelu: above the
   latent's threshold) the model.k strongest (msae, msae-uw, msae-rw, topk), those above the model's
   threshold (batchtopk, msae-width), or all (relu, jumprelu). At most `room` are written to codes
   [room], strongest first (ties: the lower latent), *count of them. In calls that take a k, 0 means
   this; else the k strongest are kept, whatever the model keeps. MSAE_ERROR_NOT_FINITE, with *count
   0, if the row or the result has NaN or Inf. Thread-safe with a workspace for each thread. */
MSAE_API msae_status msae_encode(const msae_model *model, void *workspace, const float *x,
                                 size_t room, msae_code *codes, size_t *count);

/* What ends an encoding, whichever comes first. 0: this does not. */
typedef struct msae_until {
    size_t k;        /* the number of codes */
    float threshold; /* a value that is not above this */
    float target;    /* a reconstruction that misses at most this share of the row: its squared
                        distance from the row over that of the row from the data's mean */
} msae_until;
/* The active latents of one row x [d], strongest first, until one of `until` is met or `room` codes
   are written; the k and threshold of training do not matter. *count receives their number and,
   with a target, *missed (may be NULL) the share of the row that they miss, for a decoder row each.
   Fails as msae_encode does. Thread-safe with a workspace for each thread. */
MSAE_API msae_status msae_encode_until(const msae_model *model, void *workspace, const float *x,
                                       const msae_until *until, size_t room, msae_code *codes,
                                       size_t *count, double *missed);
/* The latents of one row x [d] above the threshold of a nesting level (see msae_calibrate), by
   latent, into codes [room], *count of them: the level's k on average, more for richer rows. Ranks
   only if they exceed `room`: the strongest are kept. Fails as msae_encode does; without thresholds
   or such a level MSAE_ERROR_ARGUMENT. Thread-safe with a workspace for each thread. */
MSAE_API msae_status msae_encode_level(const msae_model *model, void *workspace, const float *x,
                                       size_t level, size_t room, msae_code *codes, size_t *count);

/* The encoding of one row in slices, for a loop with a time limit for each frame: _begin, _some
   until no latent is left, _end. Its workspace, of msae_workspace_bytes(model, 1), serves nothing
   else until then. */
typedef struct msae_slices {
    const msae_model *model;
    void *workspace;
    size_t next; /* latents done so far */
    int failed;  /* 1: NaN or Inf; there will be no codes */
} msae_slices;
/* Starts the encoding of one row x [d], which is not needed afterwards. */
MSAE_API void msae_encode_begin(msae_slices *slices, const msae_model *model, void *workspace,
                                const float *x);
/* Does up to `latents` more (rounded up to a multiple of 4); returns how many are left. */
MSAE_API size_t msae_encode_some(msae_slices *slices, size_t latents);
/* Ends it, with the codes, bit for bit, and failures of msae_encode. MSAE_ERROR_ARGUMENT and no
   codes while latents are left. */
MSAE_API msae_status msae_encode_end(msae_slices *slices, size_t room, msae_code *codes,
                                     size_t *count);

/* Where the codes of several rows go: row r has counts[r] at codes + r * room. */
typedef struct msae_rows {
    msae_code *codes; /* [rows, room] */
    size_t *counts;   /* [rows] */
    size_t room;      /* for each row */
} msae_rows;
/* Encodes x [rows, d] over the model's parallel hook, k latents of a row (0: as msae_encode), into
   *out: of each row the strongest, as many as there is room for. `workspace` has
   msae_workspace_bytes(model, rows). MSAE_ERROR_NOT_FINITE, with the row, on NaN or Inf.
   Thread-safe with a workspace for each thread. */
MSAE_API msae_status msae_encode_rows(const msae_model *model, void *workspace, const float *x,
                                      size_t rows, size_t k, const msae_rows *out,
                                      msae_error *error);
/* Encodes x [rows, d] as msae_encode_rows does, into dense codes z [rows, n]: 0 for no code. */
MSAE_API msae_status msae_encode_dense(const msae_model *model, void *workspace, const float *x,
                                       size_t rows, size_t k, float *z, msae_error *error);
/* Mean and deviation of one raw row x [d] in the model's space; {0, 1} unless the model
   normalizes. Thread-safe. */
MSAE_API void msae_row_moments(const msae_model *model, const float *x, float moments[2]);
/* The raw reconstruction out [d] of `count` codes in any order; latents >= n are ignored. `moments`
   are the row's own, which a model with `normalize` restores; NULL: {0, 1}. Thread-safe. */
MSAE_API void msae_decode(const msae_model *model, const msae_code *codes, size_t count,
                          const float *moments, float *out);
/* Reconstructions recon [n_ks, rows, d] of x [rows, d] with ks [n_ks] latents of a row (ascending,
   each 1 .. n, or a single 0: as msae_encode), at the cost of the largest k (with model.refine each
   k is encoded by itself). Workspace, failures and threads as for msae_encode_rows. */
MSAE_API msae_status msae_forward(const msae_model *model, void *workspace, const float *x,
                                  size_t rows, const size_t *ks, size_t n_ks, float *recon,
                                  msae_error *error);

/* ---- >>refine Refined codes: the dictionary's best, where an encoder guesses ---------------- */

#define MSAE_MAX_EXCHANGES 100
/* Bytes of workspace, of any alignment, for msae_refine_rows on up to `rows` rows: that of
   msae_workspace_bytes without model.refine, 4 n more and 8 d for each worker. Thread-safe. */
MSAE__REFINE_API size_t msae_refine_bytes(const msae_model *model, size_t rows);
/* Refines the codes of x [rows, d], as msae_encode_rows or msae_encode gives them, over the
   model's parallel hook (one row: rows 1, { codes, &count, room }); with model.refine rows are
   encoded so from the start. First the values: those that reconstruct the row best with the same
   latents, from 0 on (identity: of any sign), within the soft cap. Measured on codes as encoded,
   up to k = d / 2, the squared error is within 1e-3 of the least; at most 100 passes are made,
   which beyond may not reach that. Then `exchanges` times (0: values alone) better latents: a
   quarter of the row's number enters, those that what is missed asks for most, all values are
   fitted, and those that add least drop out. A row whose error a step does not lower keeps its
   codes. No row has more codes than before, and values of 0 are left out; strongest first. One
   exchange gains most of what there is. Rows whose squared norm is beyond float32 keep theirs too.
   MSAE_ERROR_ARGUMENT for more than MSAE_MAX_EXCHANGES, more codes than room or a latent that the
   model has not, MSAE_ERROR_NOT_FINITE for NaN or Inf in a row or its codes, with the row; then
   nothing has changed. Thread-safe with a workspace for each thread. */
MSAE__REFINE_API msae_status msae_refine_rows(const msae_model *model, void *workspace,
                                              const float *x, size_t rows, size_t exchanges,
                                              const msae_rows *codes, msae_error *error);

/* ---- >>bytes Bytes in and out: a file, memory, or whatever the caller has ------------------- */

/* Where a file's bytes come from: made by msae_from_file or msae_from_memory, or filled by you,
   zeroed first, with `read`, `user` and `size` (an archive, a pack file, a database). Nothing is to
   be closed: files are opened and closed within the call that takes the reader. Nothing beyond
   `size` is asked for; one that lies is an MSAE_ERROR_IO. Reads ascend, but for the first 8 bytes,
   which come twice. */
typedef struct msae_reader {
    /* Copies `bytes` bytes from byte `offset` on into buffer. 1: all are there; 0: failed. */
    int (*read)(void *user, uint64_t offset, void *buffer, size_t bytes);
    void *user;
    uint64_t size;      /* of the whole file, in bytes; 0 by msae_from_file */
    const char *path;   /* by msae_from_file, else NULL */
    const void *memory; /* by msae_from_memory, else NULL */
} msae_reader;

/* Where a file's bytes go: made by msae_to_file or msae_to_memory, or filled by you, zeroed first,
   with `write`, which gets the bytes piece by piece from first to last, and `user` (and then puts a
   finished file in the old one's place itself). Nothing is to be closed, and a writer may be used
   again: each call starts anew. */
typedef struct msae_writer {
    /* 1: taken; 0: failed, which ends the writing with MSAE_ERROR_IO. */
    int (*write)(void *user, const void *bytes, size_t size);
    void *user;
    const char *path; /* by msae_to_file, else NULL */
    void *buffer;     /* by msae_to_memory, else NULL */
    size_t room;      /* of the buffer, in bytes */
    size_t bytes;     /* what the last call wrote, or counted */
} msae_writer;
/* A reader of `size` bytes in memory, which stay the caller's and have to be there for as long as
   what was made of them points into them (msae_safetensors, a view of data). Thread-safe. */
MSAE_API msae_reader msae_from_memory(const void *bytes, size_t size);
/* A writer into buffer [room]; what does not fit is an MSAE_ERROR_MEMORY. With NULL nothing is
   written but counted: `bytes` is then the room that a second call needs. Thread-safe. */
MSAE__MAKE_API msae_writer msae_to_memory(void *buffer, size_t room);
#ifndef MSAE_NO_STDIO
/* A reader of the file of that name, which on Windows is UTF-8, as all paths are, or else of the
   system's code page. The text is not copied. Thread-safe. */
MSAE_API msae_reader msae_from_file(const char *path);
/* A writer of the file of that name, which is written as path.PID.tmp, flushed to the disk and
   renamed: whatever fails at whatever moment, `path` is the old file or the new one. A device is
   written to directly. The text is not copied. Thread-safe. */
MSAE__MAKE_API msae_writer msae_to_file(const char *path);
#endif

/* ---- >>data Data: matrices of embeddings, kept in the type they came in --------------------- */

/* A matrix of rows: a view of the caller's memory or, where it was read from a file, the owner of
   its bytes. Values are little-endian (unless native) and need no alignment. Reading is
   thread-safe. */
typedef struct msae_data {
    size_t rows, cols;
    msae_dtype dtype; /* F32, F16, BF16, F64 or I8 */
    const void *values;
    int native; /* 1: floats in this machine's byte order, as from msae_data_view */
    /* 1 (set by you): calls leave out rows with NaN or Inf as float32 instead of failing, and fail
       only where all rows have one. Training does so too if msae_train_desc.skip_bad is set. */
    int skip_bad;
    void *owned; /* NULL for a view */
    size_t owned_bytes;
    msae_allocator allocator;
} msae_data;
/* A view of x [rows, cols], which must outlive it. Thread-safe. */
MSAE__MAKE_API msae_data msae_data_view(const float *x, size_t rows, size_t cols);
/* The matrix in a .npy, in a safetensors file, or in a file of plain float32 named
   .._ROWS_COLS.npy, as the published code writes it. A .npy has f2, f4 or f8 of any byte order, i1
   (the numbers as they stand) or V2 (bfloat16), in C or Fortran order, with the shape [rows, cols],
   [cols], [rows, 1, cols] or [1, rows, cols]. `tensor`: the name of a tensor of a safetensors file,
   [rows, cols] or [rows, 1, cols] of F32, F16, BF16 or F64; NULL: the only tensor, or the only such
   matrix (MSAE_ERROR_ARGUMENT if there are several, or the file is a model). A view if the reader
   is from memory and the values are little-endian in C order, else they are read into memory of
   `allocator` (NULL: the default). On failure nothing is held and `data` is zeroed. Thread-safe. */
MSAE__MAKE_API msae_status msae_data_load(msae_data *data, msae_reader reader, const char *tensor,
                                          const msae_allocator *allocator, msae_error *error);
/* Frees what `data` owns and zeroes it; fine on a view and on a zeroed struct. */
MSAE__MAKE_API void msae_data_free(msae_data *data);
/* Rows first .. first + rows - 1 as float32 into out [rows, cols]. MSAE_ERROR_ARGUMENT, and nothing
   is written, when one of them is beyond the data. Thread-safe. */
MSAE__MAKE_API msae_status msae_data_read(const msae_data *data, size_t first, size_t rows,
                                          float *out);
/* MSAE_ERROR_NOT_FINITE, with the row, when a value is NaN or Inf as a float32, whatever skip_bad
   says. The message tells doubles beyond float32 from NaN and Inf. Thread-safe. */
MSAE__MAKE_API msae_status msae_data_check(const msae_data *data, msae_error *error);

/* Rows from anywhere: files larger than memory, a database, a game. */
typedef struct msae_source {
    uint64_t rows;
    size_t cols;
    /* Copies rows first .. first + rows - 1, all within the source, as float32 into out [rows,
       cols]. Returns MSAE_OK, or another status with *error (never NULL) filled. Called by one
       thread at a time. */
    msae_status (*read)(void *user, uint64_t first, size_t rows, float *out, msae_error *error);
    void *user;
    const msae_data *data; /* the same rows where they lie in memory, or NULL */
} msae_source;
/* The rows of a matrix in memory, which must outlive the source. Thread-safe. */
MSAE__MAKE_API msae_source msae_source_data(const msae_data *data);

#ifndef MSAE_NO_STDIO
/* One file of a set: its rows are first_row .. first_row + rows - 1 of the set. */
typedef struct msae_shard {
    const char *path;
    uint64_t first_row, rows;
    uint64_t offset, bytes; /* where its values begin, and the length of the file */
    msae_dtype dtype;
    int is_swapped, is_by_columns; /* 1: big-endian; in Fortran order */
} msae_shard;

/* Files as one set of rows, read on demand, one open at a time. Must not be moved while open. */
typedef struct msae_files {
    msae_source source; /* of all rows, in the order of the files */
    msae_shard *shards; /* [n_shards] */
    size_t n_shards;
    size_t at_fault;                /* after a failure: the index of the file at fault */
    struct msae_files_state *state; /* private */
    msae_allocator allocator;
    size_t memory_bytes;
} msae_files;
/* Opens files as msae_data_load knows them (`tensor` names the tensor of safetensors files), of any
   length and number and each with a type of its own, but of one width. Some of several may be
   without rows (shape [0, d], or [0] of a .npy), but not all: their shards have rows = 0. Looks at
   their headers only. `paths` [n_paths] must outlive the set. On failure at_fault says which file,
   and nothing is held. `allocator` NULL: the default. */
MSAE__MAKE_API msae_status msae_files_open(msae_files *files, const char *const *paths,
                                           size_t n_paths, const char *tensor,
                                           const msae_allocator *allocator, msae_error *error);
/* How files are opened that hold their matrix in a way of their own: an archive's member, a format
   that is converted. `open` gives for a path what msae_data_load can read, as often as it is asked:
   again whenever another file was read in between; on failure it fills *error, which is never NULL.
   `close`, which may be NULL, is called once for each reader that was opened, before the next. */
typedef struct msae_opener {
    msae_status (*open)(void *user, const char *path, msae_reader *reader, msae_error *error);
    void (*close)(void *user, msae_reader *reader);
    void *user;
} msae_opener;
/* msae_files_open by an opener, which is copied; NULL: files as they are. */
MSAE__MAKE_API msae_status msae_files_open_by(msae_files *files, const char *const *paths,
                                              size_t n_paths, const char *tensor,
                                              const msae_opener *opener,
                                              const msae_allocator *allocator, msae_error *error);
/* Closes and frees what the set holds and zeroes it; fine on a zeroed struct. */
MSAE__MAKE_API void msae_files_close(msae_files *files);
/* The file that holds a row of the set; NULL for a row beyond it. Thread-safe. */
MSAE__MAKE_API const msae_shard *msae_files_find(const msae_files *files, uint64_t row);
#endif

/* The scale of embeddings, after the mean is subtracted; s is the mean of ||x - mean||^2. */
typedef enum msae_scaling {
    MSAE_SCALING_DEFAULT = 0, /* MSAE_SCALING_RMS */
    MSAE_SCALING_RMS,         /* sqrt(d / s): rows get RMS norm sqrt(d) */
    MSAE_SCALING_PAPER,       /* sqrt(d) / s: what the published code does */
    MSAE_SCALING_NONE,        /* 1 */
    MSAE_SCALING_COUNT
} msae_scaling;
/* Mean [d] and scale (1 without spread) in one pass over the rows, accumulated in double. Rows with
   NaN or Inf are an error, or left out when skip_bad (or that of the data) is 1; so is a scale that
   is no normal float32. With a collective (NULL: none) each process reads a share of the rows.
   Allocates 272 d bytes temporarily. */
MSAE__MAKE_API msae_status msae_source_statistics(const msae_source *source, msae_scaling scaling,
                                                  int skip_bad, const msae_collective *collective,
                                                  const msae_allocator *allocator, float *mean,
                                                  float *scale, msae_error *error);

/* ---- >>multiply Products of matrices -------------------------------------------------------- */

/* C = A B^T of row-major float32 matrices. C must not overlap A or B. */
typedef struct msae_product {
    const float *a; /* [rows, depth] */
    const float *b; /* [cols, depth] */
    float *c;       /* [rows, cols] */
    size_t rows, cols, depth;
    size_t a_stride, b_stride, c_stride; /* floats from row to row; 0: depth, depth, cols */
} msae_product;
/* Multiplies on the path and threads of `host` (NULL: all zero), in `workspace` of *bytes bytes, of
   any alignment. workspace NULL: only sets *bytes to what is needed, about 4 depth bytes a row and
   128 KB a worker. C has the same bits for any number of workers; with few rows (below 24 to 112,
   by path) sums are taken in another order. MSAE_ERROR_SHAPE: a size of 0 or a stride below its
   row; _UNSUPPORTED: an unavailable path, or a size or stride from 2^31 on; _ARGUMENT: too small a
   workspace; _MEMORY: one beyond the address space. Thread-safe with a workspace for each thread if
   the hook of `host` is re-entrant, or not set. */
MSAE__MAKE_API msae_status msae_multiply(const msae_product *product, const msae_host *host,
                                         void *workspace, size_t *bytes, msae_error *error);

/* ---- >>train Training ---------------------------------------------------------------------- */

typedef enum msae_loss {
    MSAE_LOSS_DEFAULT = 0, /* MSAE_LOSS_NMSE */
    MSAE_LOSS_NMSE,        /* squared error over the row's squared distance from the mean */
    MSAE_LOSS_MSE,
    MSAE_LOSS_COSINE, /* (1 - cosine)^2 */
    MSAE_LOSS_COUNT
} msae_loss;

typedef enum msae_schedule {
    MSAE_SCHEDULE_DEFAULT = 0, /* msae, msae-width TRAPEZOID, else PUBLISHED */
    MSAE_SCHEDULE_CAPPED,      /* PUBLISHED, but never above 1.25, as up to version 0.5 */
    MSAE_SCHEDULE_LINEAR,      /* PUBLISHED, but never above 1 */
    MSAE_SCHEDULE_COSINE,      /* 0.1 to 1 over the first epoch, then a cosine down to 0.1 */
    MSAE_SCHEDULE_CONSTANT,
    MSAE_SCHEDULE_TRAPEZOID, /* step by step: 0 to 1 over the share `warmup` of the run, then 1,
                                then to 0 over the share `decay` at its end */
    MSAE_SCHEDULE_PUBLISHED, /* epoch e of E: 1 while e < floor(0.8 E), then (E - e) / (0.2 E): more
                                than 1 where 5 does not divide E (5 for E = 1, 2.5 for E = 2) */
    MSAE_SCHEDULE_COUNT
} msae_schedule;

/* Where the rows of decoder and encoder start. */
typedef enum msae_start {
    MSAE_START_DEFAULT = 0, /* msae, msae-width ROWS, else RANDOM */
    MSAE_START_RANDOM,      /* uniform directions */
    MSAE_START_ROWS,        /* 0.7 of a random row of the data (centred, at unit length) and 0.3 of
                               a uniform direction; msae_trainer_statistics finds the rows */
    MSAE_START_COUNT
} msae_start;

/* A training run. 0 means default, MSAE_OFF zero. The defaults of msae and msae-width are measured
   (bench/README.md), those of the other recipes are the published ones. */
typedef struct msae_train_desc {
    msae_model_desc model; /* host and seed serve training too */
    /* epochs, batch, lr .. scaling, by MSAE_TRAIN_LIST. With batchtopk and msae-width no step may
       have more than `batch` rows. Revivals are spread evenly over the first 60 % of the run; they
       cost 4 n bytes and, each, a forward pass over n / 2 rows at most (msae_trainer_revive). */
    MSAE_TRAIN_LIST(MSAE__DESC)
    int geometric_median; /* 1: pre_bias starts at the data's geometric median instead of 0 */
    int skip_bad;         /* 1: rows with NaN or Inf are left out and counted, no error */
    /* >= 1: rows of more than max_norm times the median norm, of which a few would dominate mean,
       scale and gradients, are left out and counted; costs one more pass over the data. 0: off. */
    float max_norm;
    /* Processes that train this model together. Gradients, losses and counts are summed over them
       at the end of msae_trainer_gradients, so that all make the same update; a process may have no
       rows of a batch. What fails in one fails in all, in the others with MSAE_ERROR_STOPPED. A
       resumed trainer has none: put it into trainer.desc. */
    msae_collective collective;
} msae_train_desc;

/* Arrays shaped as in msae_model. log_threshold: NULL unless jumprelu; decoder: encoder if tied. */
typedef struct msae_parameters {
    float *encoder, *decoder, *pre_bias, *latent_bias, *log_threshold;
} msae_parameters;

/* What a step did. Losses are means over the rows of the batch. */
typedef struct msae_step_stats {
    double loss;                        /* recon_loss + sparse_weight * sparse_loss */
    double recon_loss;                  /* weighted mean of level_loss */
    double sparse_loss;                 /* L1 or L0 term */
    double level_loss[MSAE_MAX_LEVELS]; /* of each level */
    double l0;                          /* active latents a row, largest level */
    double grad_norm;                   /* of all gradients after projection, before clipping */
    double lr;                          /* learning rate used */
    size_t rows, rows_skipped; /* that entered; with NaN or Inf (skip_bad) or beyond max_norm */
    size_t rows_left_out;      /* without a loss: equal to the mean (nmse), zero (cosine) */
    size_t dead_latents; /* active on fewer than 1 in 316,000 rows over the last 1000 steps; msae:
                             active means among the top 64 (its largest level up to 64) */
} msae_step_stats;

/* Means over the rows of the running epoch so far, as in msae_step_stats. */
typedef struct msae_epoch_stats {
    double loss, recon_loss, sparse_loss, l0;
    uint64_t rows;
} msae_epoch_stats;

/* A place in a run through shuffled data, from which all later batches follow. */
typedef struct msae_position {
    uint64_t rows, batch;             /* of the data, of a step */
    uint64_t epoch, row;              /* epochs finished; rows of this one already given out */
    uint64_t rng[4];                  /* the generator before this epoch's shuffle */
    uint64_t block_rows, window_rows; /* of a stream in windows; 0: all rows are one window */
} msae_position;

/* Unusual rows, as msae_trainer_statistics found them: with NaN or Inf, or beyond max_norm (if 0,
   MSAE_RARE_NORM) times the median norm. Ordinary ones stay far below: at most 1.001 in CLIP, 2.3
   in GloVe. In training, 2 % of rows at 10 times the median did no harm, 0.5 % at 100 times did. */
#define MSAE_RARE_NORM 50
typedef struct msae_rare_rows {
    uint64_t bad, first_bad;       /* number of rows with NaN or Inf, and the first of them */
    uint64_t beyond, first_beyond; /* number of rows beyond, to within 2 %, and the first of them */
    float median_norm;             /* of the rows that are not zero, to within 1 %; 0: none */
    float norm_limit;              /* rows of this norm or more are left out; 0: no limit */
} msae_rare_rows;

/* A model in training. Fields may be read; grad may be written between the two halves of a step.
   Not thread-safe: one call at a time for each trainer. */
typedef struct msae_trainer {
    msae_model model;
    msae_train_desc desc;                   /* resolved */
    msae_parameters grad, moment1, moment2; /* Adam's m and v */
    float *loss_mean; /* [d]: m of nmse in the model's space; zero, right for centred data */
    uint64_t step, rows, revived; /* updates made, rows seen, latents re-initialised */
    uint64_t rows_skipped;  /* with NaN or Inf (skip_bad) or beyond max_norm, each time they came */
    msae_rare_rows rare;    /* set with mean and scale */
    float lr_factor;        /* the schedule's factor on lr; msae_trainer_schedule sets it */
    int has_statistics;     /* 1 once mean and scale were set from data */
    msae_position position; /* of the run; a loop of your own puts stream.at here before it saves */
    msae_epoch_stats epoch; /* kept by msae_trainer_fit */
    struct msae_train_workspace *workspace; /* private */
    void *memory;
    size_t memory_bytes;
    int owns_memory;
} msae_trainer;

/* Writes desc to *resolved, with defaults for zeros. MSAE_ERROR_ARGUMENT, naming the field, if one
   is out of range or of no use to the recipe. Thread-safe. */
MSAE__TRAIN_API msae_status msae_train_desc_resolve(const msae_train_desc *desc,
                                                    msae_train_desc *resolved, msae_error *error);
/* A new trainer with initial weights, in memory from the descriptor's allocator: 4 x parameters and
   a workspace that does not grow with the batch (but for k * batch latents with batchtopk and
   msae-width). Steps allocate nothing. trainer->model is a full model, to encode with and save,
   and lives as long as the trainer; desc need not. On failure the trainer is zeroed. */
MSAE__TRAIN_API msae_status msae_trainer_init(msae_trainer *trainer, const msae_train_desc *desc,
                                              msae_error *error);
/* A new trainer, as by msae_trainer_init, in your memory of *bytes bytes, which must outlive it; if
   too few MSAE_ERROR_MEMORY. memory NULL: *bytes receives what is needed, the trainer is zeroed. */
MSAE__TRAIN_API msae_status msae_trainer_init_in(msae_trainer *trainer, const msae_train_desc *desc,
                                                 void *memory, size_t *bytes, msae_error *error);
/* Frees what the trainer owns, its model included, and zeroes it; fine on a zeroed trainer. */
MSAE__TRAIN_API void msae_trainer_free(msae_trainer *trainer);

/* Puts mean and scale of the source's rows into the model, what is unusual into trainer->rare and,
   if the descriptor asks for it, the geometric median into pre_bias and, before the first step,
   rows into decoder and encoder. msae_trainer_fit calls it if need be. One pass over the rows, one
   more with max_norm, up to 1000 for the median. MSAE_ERROR_NOT_FINITE, with the row, on NaN or Inf
   without skip_bad and on norms outside of 1e-37 .. 1e37. Allocates 272 d bytes + 260 KB for it. */
MSAE__TRAIN_API msae_status msae_trainer_statistics(msae_trainer *trainer,
                                                    const msae_source *source, msae_error *error);
/* A step: msae_trainer_gradients and msae_trainer_update on raw rows x [rows, d]. If either fails,
   weights, moments and counters are unchanged, bit for bit. stats may be NULL. */
MSAE__TRAIN_API msae_status msae_trainer_step(msae_trainer *trainer, const float *x, size_t rows,
                                              msae_step_stats *stats, msae_error *error);
/* The first half of a step: gradients of the loss on raw rows index[0 .. rows - 1] of data (index
   NULL: its first ones) into trainer->grad, losses and counts into *stats (may be NULL). batchtopk
   and msae-width: at most desc.batch rows. MSAE_ERROR_NOT_FINITE, with the row, on NaN or Inf (see
   skip_bad), also if they arise. Weights and moments stay. */
MSAE__TRAIN_API msae_status msae_trainer_gradients(msae_trainer *trainer, const msae_data *data,
                                                   const size_t *index, size_t rows,
                                                   msae_step_stats *stats, msae_error *error);
/* The second half: decoder rows to unit norm, projection, clipping, AdamW, in the published order.
   *stats (may be NULL) receives grad_norm, lr, dead_latents. MSAE_ERROR_ARGUMENT without new
   gradients; MSAE_ERROR_NOT_FINITE, the trainer unchanged, if one or its square is NaN or Inf. */
MSAE__TRAIN_API msae_status msae_trainer_update(msae_trainer *trainer, msae_step_stats *stats,
                                                msae_error *error);
/* The training forward pass alone, for validation and tests, on rows as in msae_trainer_gradients:
   losses into *stats and, where not NULL, reconstructions recon [L, rows, d] (in the model's space)
   and latents [L, rows, n] at each level. The gradients are lost, nothing else changes. */
MSAE__TRAIN_API msae_status msae_trainer_forward(msae_trainer *trainer, const msae_data *data,
                                                 const size_t *index, size_t rows, float *recon,
                                                 float *latents, msae_step_stats *stats,
                                                 msae_error *error);
/* Re-initialises up to n / 32 latents that were never active (as for msae_step_stats.dead_latents)
   since the last call: decoder row = residual of one of the worst-reconstructed of the given rows
   (as in msae_trainer_gradients, some 16 a latent; those not finite are left out), encoder row =
   that at half the mean length, bias and moments 0, jumprelu's threshold the mean of the others.
   *revived (may be NULL) receives their number, 0 if nothing was trained since the last call.
   msae_trainer_fit does this; a loop of your own calls it a few times in the first half of the run.
   MSAE_ERROR_ARGUMENT without revivals. Allocates 256 (L + 1) d + n d / 8 bytes temporarily. */
MSAE__TRAIN_API msae_status msae_trainer_revive(msae_trainer *trainer, const msae_data *data,
                                                const size_t *index, size_t rows, size_t *revived,
                                                msae_error *error);
/* Sets trainer->lr_factor for step `step` of the `steps` in epoch `epoch` (both from 0). */
MSAE__TRAIN_API void msae_trainer_schedule(msae_trainer *trainer, size_t epoch, size_t step,
                                           size_t steps);

/* Shuffled batches of a source's rows: every epoch brings all rows once, in a new order. Rows in
   memory, or in a source that fits into one window, are shuffled at once; otherwise blocks of
   `block_rows` consecutive rows are read in random order until `window_rows` rows are in memory,
   and these are shuffled. A row is then still equally likely anywhere in an epoch (but for a
   shorter last block), but a batch of B rows is drawn from w = window_rows / block_rows random
   blocks: the mean of a quantity over it has a variance of at most s2 (1 / B + 1 / w), with s2 its
   variance over the source, where shuffling at once has s2 / B. The second term is reached if all
   rows of a block are alike (sorted data), and vanishes in shuffled files. */
typedef struct msae_stream_desc {
    size_t batch;      /* rows of a step, required (msae_trainer_fit takes the trainer's) */
    uint64_t seed;     /* of the order (msae_trainer_fit takes one from the trainer's) */
    size_t block_rows; /* 0: 256 KiB of float32, or a 256th of the rows where that is less */
    /* At least batch + block_rows; 0: all rows if they are in memory, else 64 MiB of float32. A
       stream allocates two windows (one if it holds all rows, none if they are in memory), and a
       size_t for each row of a window and of a batch and for each block of the source. */
    size_t window_rows;
    /* Several processes: batches are those of a single process, but of each window only the blocks
       part, part + parts, .. are read and given out. 0 counts as 1 part. */
    size_t part, parts;
    /* Reproducible sums: split each batch into this many fixed parts, summed in double, so that
       1 .. shares processes give the same bits. Costs 16 n d bytes and twice the traffic. 0: off;
       sums then differ in the last bits, which TopK and Adam may amplify. */
    size_t shares;
    msae_background background; /* reads the next window while this one is used */
    msae_allocator allocator;
} msae_stream_desc;

/* Rows index[0 .. rows - 1] of data, valid until the next call. */
typedef struct msae_batch {
    const msae_data *data;
    const size_t *index;
    size_t rows, all_rows;    /* of this part, of the whole batch; 0 at the end of an epoch */
    const size_t *share_ends; /* [shares] where in index each share ends; NULL without shares */
} msae_batch;

typedef struct msae_stream {         /* one call at a time for each */
    msae_position at;                /* behind the batch that was given out last */
    struct msae_stream_state *state; /* private */
    msae_allocator allocator;
    void *memory;
    size_t memory_bytes;
} msae_stream;

/* A stream over a source, which must outlive it, for a loop of your own. `at` (NULL: the start) is
   the position of another stream over the same rows, whose batch, block_rows and window_rows then
   apply. MSAE_ERROR_SHAPE if the source has another number of rows, MSAE_ERROR_ARGUMENT for an
   invalid position or descriptor. On failure nothing is held. */
MSAE__TRAIN_API msae_status msae_stream_init(msae_stream *stream, const msae_source *source,
                                             const msae_stream_desc *desc, const msae_position *at,
                                             msae_error *error);
/* The next batch into *batch. The last one of an epoch may be smaller; a batch with all_rows 0 ends
   each epoch. Fails if the source fails, and may then be called again for the same batch.
   stream->at is the position after the batch: keep it to go on from there. */
MSAE__TRAIN_API msae_status msae_stream_next(msae_stream *stream, msae_batch *batch,
                                             msae_error *error);
/* The row of the source that an index of the last batch stands for. */
MSAE__TRAIN_API uint64_t msae_stream_row(const msae_stream *stream, size_t index);
/* Waits for the background thread, frees the stream's memory, zeroes it; fine on a zeroed one. */
MSAE__TRAIN_API void msae_stream_free(msae_stream *stream);

/* Progress of msae_trainer_fit, after every step. The callback returns 0 to go on, anything else to
   stop. It may save the trainer's model or a checkpoint. */
typedef struct msae_progress {
    size_t epoch, epochs, step, steps; /* epoch of the run, step of the epoch, both from 0 */
    uint64_t rows;                     /* seen so far */
    const msae_step_stats *stats;
    const msae_epoch_stats *epoch_stats;
} msae_progress;
typedef int (*msae_progress_fn)(const msae_progress *progress, void *user);

/* The whole run, or the rest of it: statistics unless they are set, then every epoch from
   trainer->position on, with schedule and revivals. `desc` (NULL: default) says how rows that are
   not in memory are read; batch and seed are the trainer's, part and parts the collective's
   (without one, parts must be 0 or 1). A stopped or resumed run goes on to the bits of one that
   never stopped, in the order and windows it began with; one that has ended does nothing (raise
   trainer->desc.epochs to train on, zero trainer->position to start anew). MSAE_ERROR_STOPPED if
   progress(.., user) (NULL: none) ended it. Errors name the source's row. Allocates a stream. */
MSAE__TRAIN_API msae_status msae_trainer_fit(msae_trainer *trainer, const msae_source *source,
                                             const msae_stream_desc *desc,
                                             msae_progress_fn progress, void *user,
                                             msae_error *error);
/* Saves a checkpoint: the model's file, which any reader of models takes, and in it what training
   needs to go on to the same bits: moments (moment1.*, moment2.*, shaped as their parameters),
   steps, position, counters. MSAE_ERROR_ARGUMENT, with nothing written, for an invalid model.k. */
MSAE__TRAIN_API msae_status msae_trainer_save(const msae_trainer *trainer, msae_writer *writer,
                                              msae_error *error);
/* A trainer as it was when the checkpoint was saved; msae_trainer_fit on the same data goes on from
   there. `desc` (NULL: default) gives allocator, threads and instruction path: AUTO takes that of
   the run where this machine has it; on another one the bits differ from there on. Allocates only
   once all tensors were found with their sizes. On failure nothing is held, the trainer zeroed. */
MSAE__TRAIN_API msae_status msae_trainer_load(msae_trainer *trainer, msae_reader reader,
                                              const msae_load_desc *desc, msae_error *error);

/* ---- >>evaluate Metrics: on raw embeddings, the published definitions (paper, section 4) ---- */

/* One line of a sweep: means over rows, *_std their deviation (numpy.std, as published). NaN: no
   value (fvu_row for d = 1; cknna under 12 rows, or if it was not asked for). */
typedef struct msae_metrics {
    size_t k;                    /* 0: as the model encodes by itself */
    size_t rows;                 /* without those that the data leaves out */
    double fvu_row, fvu_row_std; /* var(x - r) / var(x), rows with variance */
    double fvu_set;              /* sum ||x - r||^2 / sum ||x - mean of the set||^2 */
    double nmse, nmse_std;       /* mean (r - x)^2 / mean x^2 */
    double nmae, nmae_std;       /* mean |r - x| / mean |x| */
    double cs, cs_std;           /* cosine(x, r) */
    double sparsity, l0, l0_std; /* share of latents that are exactly 0; number that are not */
    double cknna;                /* alignment of neighbourhoods, embeddings against codes */
    size_t ndn;                  /* dead latents, under their published name */
    double l2_ratio;   /* ||r|| / ||x||, 1 for ||x|| below 1e-4 (l2_ratio of SAELens' evals.py) */
    double recon_bias; /* mean ||r||^2 / mean <x, r> (relative_reconstruction_bias there) */
} msae_metrics;

typedef struct msae_eval_desc {
    const size_t *ks;  /* [n_ks] ascending, each 1 .. n; or a single 0: as the model encodes */
    size_t n_ks;       /* ks NULL: 16, 32, 64 .. below n, then n */
    int cknna;         /* 1: compute it too (over 10,000 rows at once) */
    const float *mean; /* mean [d] and scale of a set of another modality; NULL: the model's */
    float scale;
} msae_eval_desc;
/* Every metric at every k, on codes of the k largest latents, in order into results [room], *count
   (may be NULL) of them. MSAE_ERROR_ARGUMENT, with nothing written, if there are more ks than room
   (MSAE_MAX_LEVELS suffices if ks is NULL). Fails on rows with NaN or Inf that the data does not
   leave out, with the row. With model.refine a pass for each k. Allocates temporarily.
   Thread-safe. */
MSAE__CONCEPTS_API msae_status msae_evaluate(const msae_model *model, const msae_data *data,
                                             const msae_eval_desc *desc, size_t room,
                                             msae_metrics *results, size_t *count,
                                             msae_error *error);
/* Decoder overlap "do": the sum of the squared products of all pairs of different decoder rows over
   n^2. cosines 0: of the rows as they are, as published; 1: of their cosines, for decoders whose
   rows do not have unit norm. Allocates temporarily. Thread-safe. */
MSAE__CONCEPTS_API msae_status msae_decoder_overlap(const msae_model *model, int cosines,
                                                    double *overlap, msae_error *error);
/* Sets model->level_thresholds, which msae_encode_level uses and files keep: for each level the
   pre-activation above which, over the rows of the data, k latents of a row lie on average (0 for a
   level of all latents). Nested TopK, TopK and BatchTopK only. Fails on rows with NaN or Inf that
   the data does not leave out, with the row. Allocates 8 MB temporarily. */
MSAE__CONCEPTS_API msae_status msae_calibrate(msae_model *model, const msae_data *data,
                                              msae_error *error);

/* ---- >>top Interpretation: strongest rows --------------------------------------------------- */

/* A row of a set, and the value by which it is ranked: a latent's value, or a similarity. */
typedef struct msae_hit {
    size_t row;
    float value;
} msae_hit;

/* Which latents, and how many rows of each. Zero means default, but for top. */
typedef struct msae_top_desc {
    const uint32_t *latents; /* [n_latents], or NULL: the model's first n_latents */
    size_t n_latents;        /* 0, with NULL: all of the model's */
    size_t top;              /* rows of each latent, at least 1 */
    size_t k;                /* latents of a row that count as active; 0: as the model encodes */
} msae_top_desc;
/* The rows of `data` that activate latents most, in one pass: of latent i of the list at hits + i *
   top, by descending value (ties: the lower row). counts[i]: the rows on which it is active; hits
   from there on are {0, 0}. MSAE_ERROR_ARGUMENT for an unknown latent; fails on rows with NaN or
   Inf that the data does not leave out, with the row. Allocates 256 n bytes temporarily, with
   model.refine 800 n.
   Thread-safe. */
MSAE__CONCEPTS_API msae_status msae_top_rows(const msae_model *model, const msae_data *data,
                                             const msae_top_desc *desc, msae_hit *hits,
                                             size_t *counts, msae_error *error);

/* ---- >>names Interpretation: names ---------------------------------------------------------- */

/* The best word of a latent and the best that says something else. */
typedef struct msae_name {
    size_t word, runner_up; /* rows of the vocabulary, or MSAE_NO_WORD */
    float score, runner_up_score;
    size_t rows; /* strongest rows that the name is taken from; 0 for a name by the decoder */
    /* Evidence, 0 for a name by the decoder: on how many rows the latent is active, and the mean
       cosine of two of its strongest rows, centred by the data's mean and weighted as the rows are
       (0 for a single row). */
    size_t support;
    float agreement;
} msae_name;
#define MSAE_NO_WORD SIZE_MAX

/* How latents are named. Zero means default. */
typedef struct msae_name_desc {
    /* Embeddings [rows, d] in which each latent's strongest rows are looked up. A word's score is
       its mean cosine with the 60 % of those nearest to their mean, weighted by the squares of the
       latent's values. NULL: the published way, the cosine with the decoder row (paper, section
       5.1), wrong far more often where texts and images lie apart, as in CLIP. */
    const msae_data *data;
    size_t rows; /* strongest rows that are looked at; 0: 20 */
    size_t k;    /* latents of a row that count as active; 0: as the model encodes */
    /* Penalty for generic words: for the ranking, subtract hubs x the word's mean similarity to its
       nearest 5 % of latents (CSLS: Conneau et al. 2018, here one-sided). 0: 0.6 with data, none
       without; MSAE_OFF: none. */
    float hubs;
    /* The runner-up must say something else: its cosine to the best word is below this (0: 0.8;
       MSAE_OFF: any word), and it has another number in synonyms [words] (NULL: none). */
    float synonym;
    const uint32_t *synonyms;
    int keep_means; /* without data: 1 compares decoder / scale + mean with the words as they are, 0
                       both without their means, the data's and the words' */
    size_t top;     /* length of the list `words`; 0: no list */
    msae_hit *words; /* [n, top]: the best words of each latent, best first, with their scores;
                        `row` is the word, MSAE_NO_WORD after the last */
} msae_name_desc;
/* Names every latent with a word of a vocabulary [words, d], embeddings from the same source as the
   model's data (texts of the same CLIP): names [n], or NULL for desc->words alone. A latent that no
   row of the data activates, or whose decoder row is zero, has no word and score 0; a missing
   runner-up has score -1. Needs float32 weights. Fails on rows with NaN or Inf that vocabulary or
   data do not leave out, with the row. Allocates 4 (n + words) d bytes temporarily. Thread-safe. */
MSAE__CONCEPTS_API msae_status msae_name_latents(const msae_model *model,
                                                 const msae_data *vocabulary,
                                                 const msae_name_desc *desc, msae_name *names,
                                                 msae_error *error);

/* ---- >>scores Interpretation: how good a latent is ------------------------------------------ */

/* A latent as the rows of a set show it. One that is active on none has zeros, NaN and
   MSAE_NO_LATENT. */
typedef struct msae_score {
    uint64_t rows;           /* on which it is active */
    double frequency;        /* their share of all rows */
    double typical, largest; /* mean and largest value there, without its sign */
    /* Whether its rows are of one kind: the mean cosine of two of them, weighted by its values
       (Pach et al. 2025), less that of two rows of the set. 0: they are as unlike as any two rows;
       NaN: no two of them have a direction. */
    double monosemanticity;
    uint32_t nearest;   /* of the others that are active, the one with the nearest decoder row .. */
    uint32_t companion; /* .. and the one with which it shares most rows; MSAE_NO_LATENT: none */
    double cosine;      /* of its decoder row and that of `nearest` */
    double overlap;     /* of the rows where it or `companion` is active, those where both are */
} msae_score;
#define MSAE_NO_LATENT UINT32_MAX

/* How latents are scored. Zero means default. */
typedef struct msae_score_desc {
    size_t k; /* latents of a row that count as active; 0: as the model encodes */
    /* Rows that tell what is alike, of the same things as the data and as many, of any width: those
       of another encoder are independent of what the model was trained on. NULL: the data's own. */
    const msae_source *by;
    int skip_bad;      /* 1: rows with NaN or Inf on either side are left out instead of failing */
    int no_companions; /* 1: `companion` is not looked for, which takes most of the memory */
} msae_score_desc;
/* Scores every latent in one pass over a source of at most 2^32 - 2 rows: scores [n] and, unless it
   is NULL, *set_cosine, the mean cosine of two rows of the set (NaN: no two have a direction).
   Needs float32 weights. MSAE_ERROR_SHAPE: widths or numbers of rows do not fit. Fails on rows with
   NaN or Inf, with the row, unless skip_bad (or that of the data behind a source) is 1. Allocates
   8 n w + 4 n d + 2 n^2 bytes, w being the width of `by`, temporarily (2 n^2 less without
   companions), 1 KB for each latent, for each of up to 1024 rows 4 (d + w) bytes, and up to 6 MB or
   1.5 KB n for codes. Runs on the model's threads: the same bits for any number. Thread-safe. */
MSAE__CONCEPTS_API msae_status msae_score_latents(const msae_model *model,
                                                  const msae_source *source,
                                                  const msae_score_desc *desc, msae_score *scores,
                                                  double *set_cosine, msae_error *error);

/* ---- >>search Interpretation: search, by concepts and by embeddings ------------------------- */

/* An inverted index: for each latent the rows on which it is active, with its values. Made by
   msae_index_build or msae_index_load, read-only after that: queries may run at the same time, each
   with its own workspace, if the parallel hook is re-entrant, or not set. */
typedef struct msae_index {
    size_t rows, n_latents;
    size_t k;             /* of a row, see msae_index_build; 0: as the model encodes */
    size_t refine;        /* msae_model.refine when it was built */
    uint64_t model, data; /* checksums of what it was made from, see msae_index_check */
    size_t entries;
    uint64_t *starts;    /* [n_latents + 1]: latent j has entries starts[j] .. starts[j + 1] - 1 */
    uint32_t *entry_row; /* [entries], ascending for each latent */
    float *entry_value;  /* [entries] */
    uint32_t *counts;    /* [rows]: active latents of each row */
    double *norms;       /* [rows]: length of each row's codes */
    msae_allocator allocator;
    msae_parallel parallel;
    void *memory;
    size_t memory_bytes;
} msae_index;
/* An index over the k strongest latents of each row (0: as the model encodes), of at most 2^32 - 1
   rows; those that the data leaves out have no entries. Codes are refined as model.refine says, and
   those of queries should be too. Uses the model's allocator and threads; the model is not needed
   afterwards. Allocates 8 bytes for each code and 12 for each row, and as much again temporarily.
   On failure the index is zeroed. */
MSAE__CONCEPTS_API msae_status msae_index_build(msae_index *index, const msae_model *model,
                                                const msae_data *data, size_t k, msae_error *error);
/* An index as a safetensors file: starts [n + 1], rows and values [entries], counts [rows], and the
   sizes and checksums in __metadata__. */
MSAE__CONCEPTS_API msae_status msae_index_save(const msae_index *index, msae_writer *writer,
                                               msae_error *error);
/* An index from such a file: whatever the file holds, what is loaded can be queried. `desc` gives
   allocator and threads, NULL the default. On failure nothing is held and the index is zeroed. */
MSAE__CONCEPTS_API msae_status msae_index_load(msae_index *index, msae_reader reader,
                                               const msae_load_desc *desc, msae_error *error);
/* Frees what the index owns and zeroes it; fine on a zeroed index. */
MSAE__CONCEPTS_API void msae_index_free(msae_index *index);
/* MSAE_ERROR_ARGUMENT if the index was made with another model (another msae_model_checksum; the
   message has both) or from other rows (data NULL: not compared). Reads all weights and rows.
   Thread-safe. */
MSAE__CONCEPTS_API msae_status msae_index_check(const msae_index *index, const msae_model *model,
                                                const msae_data *data, msae_error *error);
/* Bytes of workspace, of any alignment, for queries of up to `top` hits. Thread-safe. */
MSAE__CONCEPTS_API size_t msae_index_workspace_bytes(const msae_index *index, size_t top);
/* The `top` rows whose codes have the highest cosine with a query's codes (in any order, each
   latent once, of any sign), exactly, in double: hits [top] by descending cosine (ties: the lower
   row), *n_hits of them. Rows that share no latent with the query are no hits. Thread-safe with a
   workspace for each thread. */
MSAE__CONCEPTS_API msae_status msae_index_query(const msae_index *index, void *workspace,
                                                const msae_code *codes, size_t count, size_t top,
                                                msae_hit *hits, size_t *n_hits, msae_error *error);
/* The `top` rows of `data` with the highest cosine with each of queries [n_queries, data->cols], by
   comparing all: those of query q at hits + q * top, by descending cosine (ties: the lower row),
   counts[q] of them. Rows of zeros are no hits; a query of zeros has none. Products are float32:
   cosines within some 1e-6 of each other may change places. Kernels, threads and allocator are the
   model's; allocates some 4 MB (d = 512) temporarily. Thread-safe. */
MSAE__CONCEPTS_API msae_status msae_nearest_rows(const msae_model *model, const msae_data *data,
                                                 const float *queries, size_t n_queries, size_t top,
                                                 msae_hit *hits, size_t *counts, msae_error *error);

/* ---- >>tree Interpretation: the concept tree ------------------------------------------------ */

/* A latent and one of its parents: a latent that means something more general. */
typedef struct msae_edge {
    uint32_t latent, parent;
    uint32_t rows_latent, rows_parent; /* on which each is active */
    float p;    /* share of the latent's strong rows on which the parent is active */
    float lift; /* p over the share of all rows on which the parent is active */
} msae_edge;

/* Which latents are parents. Zero means default; the defaults are measured, see bench/README.md.
   A latent's strong rows are the half of its rows on which its value is highest. */
typedef struct msae_tree_desc {
    size_t parents;     /* of a latent, at most; 0: 3 */
    size_t strong_rows; /* a latent with fewer strong rows has no parent; 0: 5 */
    float p, lift;      /* of an edge, at least; 0: 0.4 and 3; MSAE_OFF: any */
    float ratio;        /* rows_parent is at least ratio * rows_latent, ratio > 1; 0: 1.5 */
} msae_tree_desc;
/* The concept tree of an index: for each latent the latents that are active on a good part of its
   strong rows (p), and on more rows than itself. Into edges [n_latents * parents], *count of
   them, by ascending latent, then the highest p first (ties: the parent on fewer rows, then the
   lower number). A latent without an edge is a root, which one that is active on no row is too.
   There are no cycles, as every parent is active on more rows. Rows without codes do not count.
   MSAE_ERROR_ARGUMENT for a p above 1, a negative number or a ratio of 1 or less. desc may be
   NULL. Allocates 8 (rows + n) + 4 entries bytes temporarily and for each worker 8 n and at most
   8 for each row. Thread-safe, if the index's parallel hook is re-entrant, or not set. */
MSAE__CONCEPTS_API msae_status msae_concept_tree(const msae_index *index,
                                                 const msae_tree_desc *desc, msae_edge *edges,
                                                 size_t *count, msae_error *error);

/* ---- >>edits Interpretation: edits and steering --------------------------------------------- */

typedef enum msae_operation {
    MSAE_EDIT_SET = 0, /* to value */
    MSAE_EDIT_ADD,     /* plus value */
    MSAE_EDIT_SCALE,   /* times value */
    MSAE_EDIT_CLAMP,   /* to value .. high */
    MSAE_EDIT_ABLATE,  /* to 0 */
    MSAE_EDIT_COUNT
} msae_operation;

/* A change of one latent of a row's codes. A latent that is not active has the value 0. The result
   may be negative, also for a model whose own codes never are. */
typedef struct msae_edit {
    uint32_t latent;
    msae_operation operation;
    float value, high; /* high: clamp only, value <= high */
} msae_edit;
/* Applies edits in order to the first *count of codes [*count + n_edits] and updates *count: a
   latent that becomes 0 is removed, a new one appended. Edits with unknown latents or operations,
   NaN or Inf are refused, with their index, before anything is done; codes that overflow are
   MSAE_ERROR_NOT_FINITE, and are then edited in part. Thread-safe. */
MSAE__CONCEPTS_API msae_status msae_edit_codes(const msae_model *model, const msae_edit *edits,
                                               size_t n_edits, msae_code *codes, size_t *count,
                                               msae_error *error);

typedef struct msae_steer_desc {
    const msae_edit *edits; /* [n_edits] */
    size_t n_edits;
    size_t k;      /* latents of a row, 0: as the model encodes */
    int keep_rest; /* 0: rows become decode(edited); 1: x + decode(edited) - decode(codes), with
                      what the codes miss of them */
} msae_steer_desc;

/* How far a row moved. NaN for the cosine of a row of zeros. */
typedef struct msae_steered {
    double cosine, distance;             /* of x and the steered row */
    double recon_cosine, recon_distance; /* of decode(codes) and decode(edited) */
} msae_steered;

/* How a latent changed by the edits, means over all rows, encoded anew without and with them. */
typedef struct msae_change {
    double before, after; /* its value */
    double change;        /* |after - before| */
} msae_change;
/* Encodes each row, applies the edits and decodes into out [rows, d], raw. With `normalize` a row
   gets its own mean and deviation again. Rows that the data leaves out are copied, and their
   `steered` is NaN. steered [rows] and changes [n] may be NULL; changes costs two more encodings.
   Allocates a workspace temporarily. Thread-safe. */
MSAE__CONCEPTS_API msae_status msae_steer(const msae_model *model, const msae_data *data,
                                          const msae_steer_desc *desc, float *out,
                                          msae_steered *steered, msae_change *changes,
                                          msae_error *error);

/* ---- >>files Files -------------------------------------------------------------------------- */

/* A model from a safetensors file. The reader's bytes are not needed afterwards. Every rule of the
   format and every size is checked first, and every weight has to be finite. `desc` NULL: the
   default. On failure nothing is held and the model is zeroed. Temporarily takes some 64 n bytes
   beside the model, and a copy of the header if the reader is not from memory. Thread-safe. */
MSAE_API msae_status msae_load(msae_model *model, msae_reader reader, const msae_load_desc *desc,
                               msae_error *error);
/* A model over a file that lies in memory, mapped or linked in, for as long as the model does. Only
   the header is read: nothing is copied, and the time does not depend on the file's size. `bytes`
   is aligned to 4 bytes, and the file one of by_rows (`msae convert --dtype ..` and msae_compact
   make them). The memory is never written, and neither may the model's arrays be. NaN or Inf among
   the weights makes encoding fail and decoding NaN; desc->check, for files from elsewhere, looks
   for them first: MSAE_ERROR_NOT_FINITE. On failure the model is zeroed. Thread-safe. */
MSAE_API msae_status msae_map(msae_model *model, const void *bytes, size_t size,
                              const msae_load_desc *desc, msae_error *error);
/* The file that a model makes. MSAE_ERROR_ARGUMENT, before anything is written, for a model.k that
   the model cannot have. */
MSAE__MAKE_API msae_status msae_save(const msae_model *model, msae_writer *writer,
                                     msae_error *error);
#ifndef MSAE_NO_STDIO
/* msae_load from the file of that name. */
MSAE_API msae_status msae_load_file(msae_model *model, const char *path, const msae_load_desc *desc,
                                    msae_error *error);
/* msae_save to the file of that name: `path` is the old file or the new one, whatever fails. */
MSAE__MAKE_API msae_status msae_save_file(const msae_model *model, const char *path,
                                          msae_error *error);
#endif

#define MSAE_MAX_RANK 8 /* dimensions of a tensor */

/* One tensor of a safetensors file. */
typedef struct msae_tensor {
    const char *name; /* read from a file: not terminated, name_bytes long, escapes not decoded */
    size_t name_bytes;
    msae_dtype dtype;
    size_t rank, shape[MSAE_MAX_RANK];
    const void *data; /* little-endian, possibly unaligned; NULL when not read from memory */
    size_t bytes;
    uint64_t offset; /* of the data in the file it was read from */
} msae_tensor;

/* A key and a value of __metadata__. When read they lie in the file's bytes: not terminated,
   escapes not decoded. */
typedef struct msae_metadata {
    const char *key, *value;
    size_t key_bytes, value_bytes;
} msae_metadata;

/* A parsed header. It points into the bytes it was opened on, or into its own copy of them. */
typedef struct msae_safetensors {
    msae_tensor *tensors; /* by offset in the file */
    size_t n_tensors;
    msae_metadata *metadata;
    size_t n_metadata;
    msae_allocator allocator;
    size_t memory_bytes;
    void *header; /* NULL over memory */
    size_t header_bytes;
} msae_safetensors;
/* Reads and checks a header; keeps strictly to the format (see Files, security, limits in the
   manual). A dtype beyond the list above is MSAE_ERROR_FORMAT.
   Tensors are not read: a reader from memory gives each its `data`, and its bytes have to outlive
   `file`; with any other they lie at [tensor.offset, tensor.offset + tensor.bytes) of the file.
   `allocator` NULL: the default. On failure nothing is held and `file` is zeroed. Thread-safe. */
MSAE_API msae_status msae_safetensors_open(msae_safetensors *file, msae_reader reader,
                                           const msae_allocator *allocator, msae_error *error);
/* Frees what `file` holds and zeroes it; fine on a zeroed struct. */
MSAE_API void msae_safetensors_close(msae_safetensors *file);
/* The tensor of that name, as spelled in the file, or NULL; it lives as long as `file`.
   Thread-safe. */
MSAE_API const msae_tensor *msae_safetensors_find(const msae_safetensors *file, const char *name);
/* The metadata of that key, or NULL; it lives as long as `file`. Thread-safe. */
MSAE_API const msae_metadata *msae_safetensors_metadata(const msae_safetensors *file,
                                                        const char *key);
/* The file that tensors and metadata make, in the order given. Names, keys and values are UTF-8
   without control characters, quotes and backslashes, else MSAE_ERROR_ARGUMENT. */
MSAE__MAKE_API msae_status msae_safetensors_write(msae_writer *writer, const msae_tensor *tensors,
                                                  size_t n_tensors, const msae_metadata *metadata,
                                                  size_t n_metadata, msae_error *error);
/* x [rows, cols] as a .npy of float32. */
MSAE__MAKE_API msae_status msae_npy_write(msae_writer *writer, const float *x, size_t rows,
                                          size_t cols, msae_error *error);

#ifdef __cplusplus
}
#endif

#endif /* MSAE_H */

/* ==============================================================================================
   Stop here if you only want the API. Below is the implementation, from the ground up: each section
   uses only those above it. First comes what runs models, all that MSAE_RUN_ONLY leaves, then what
   the other two parts share, training (without MSAE_NO_TRAIN), and concepts (without
   MSAE_NO_ANALYSIS).
   ============================================================================================ */
#ifdef MSAE_IMPLEMENTATION
#ifndef MSAE_IMPLEMENTED
#define MSAE_IMPLEMENTED
#ifndef MSAE_RUN_ONLY
#define MSAE__WITH_AVX512 /* one row is encoded at the speed of the memory, with AVX2 too */
#endif

/* Microsoft calls _wfopen unsafe, and counts the unused functions of MSAE_STATIC. */
#ifdef _MSC_VER
#pragma warning(push)
#pragma warning(disable : 4505 4996)
#endif
#if defined(_MSC_VER) && defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
#endif

#include <math.h>
#include <string.h>

#if defined(MSAE_MALLOC) != defined(MSAE_FREE)
#error "define both MSAE_MALLOC and MSAE_FREE, or none"
#endif
#ifndef MSAE_MALLOC
#include <stdlib.h>
#define MSAE_MALLOC(bytes) malloc(bytes)
#define MSAE_FREE(memory) free(memory)
#endif
#ifndef MSAE_ASSERT
#include <assert.h>
#define MSAE_ASSERT(condition) assert(condition)
#endif

/* ---------------------------------------------------------------------------------------------
   >>glossary Glossary: what words mean in this file
   ------------------------------------------------------------------------------------------ */
/* row          one embedding, [d]; centred: as the model sees it, (x - mean) * scale
   latent       one of the n features, a row of encoder and of decoder
   code         an active latent of a row with its value, msae_code
   active       of a latent: its value in a row's codes is not zero; dead: it is so in no row
   level        one of the L nested sparsities; a latent enters at the first level that keeps it
   key          a pre-activation as an integer of the same order, to rank a row by: msae__key
   cut          the key of the k-th largest, and how many equal ones go in: msae__cut
   kept         selected by TopK, whether its value is zero or not
   kernel       an inner loop that each instruction path has; its table is msae_kernels
   path         an instruction set: scalar, AVX2, AVX-512, NEON, SIMD128
   stage        what a path's kernels are needed for: running models, batches and training
   panel        MSAE__PANEL columns, which a kernel holds in registers
   tile         rows that pass through the encoder together; of gemm: rows by columns of a product
   latent block MSAE__LATENT_BLOCK latents, one task of a product and of a ranking
   pack         to lay out a matrix in the order in which gemm reads it
   stride       floats from one row of a matrix to the next
   task         one call of a parallel loop; worker: the index of the thread that makes it
   arena        one block for several arrays, counted first, then placed: msae__arena
   room         what the caller's array can hold, in elements
   part         of a model: one of its arrays, as files name it, msae__part; of a source: the blocks
                that one process reads
   note         an entry of a file's metadata
   source       rows that are read on demand; shard: one file of a set
   block        of a source: consecutive rows that are read at once
   window       blocks that are in memory together, whose rows are shuffled
   batch        the rows of a step; share: a fixed part of it, summed apart
   skipped      of a row: NaN or Inf, or too large a norm; left out: without a loss
   residual     what a reconstruction misses of a row; miss: the residual of a bad one
   moments      of a row: its mean and deviation; first and second: Adam's m and v
   update       what a step does to the parameters, msae__update
   revival      a dead latent is initialised again, from a miss
   spread       sum of squared distances from the mean
   pass         once over all rows of a set
   hit          a row and the value by which it is ranked, msae_hit
*/

/* ---------------------------------------------------------------------------------------------
   >>platform Platform
   ------------------------------------------------------------------------------------------ */

/* SHARED: before functions that not all configurations use. INLINE: those that are as good as an
   instruction. EACH: loops over arrays of vectors are unrolled, so that the vectors are registers.
   FETCH: what will be read soon comes into the cache meanwhile. PAUSE: while a thread spins.
   LARGE_PAGES: asks for large pages. */
#if defined(__GNUC__) || defined(__clang__)
#define MSAE__SHARED static __attribute__((unused))
#define MSAE__INLINE static inline __attribute__((always_inline, unused))
#define MSAE__EACH(k, n) _Pragma("GCC unroll 16") for (size_t k = 0; k < (n); k++)
#define MSAE__FETCH(at) __builtin_prefetch(at)
#else
#define MSAE__SHARED static
#define MSAE__INLINE static
#define MSAE__EACH(k, n) for (size_t k = 0; k < (n); k++)
#define MSAE__FETCH(at) (void)(at)
#endif
#define MSAE__PAUSE() (void)0
#define MSAE__LARGE_PAGES(memory, bytes) (void)(memory), (void)(bytes)

/* The instruction paths that the compiler can make. GCC for Windows aligns the stack to 16 bytes
   only, which breaks spilled 32-byte vectors. */
#if defined(MSAE_NO_SIMD) || defined(__TINYC__)
/* none */
#elif (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__) && \
    (!defined(__MINGW32__) || defined(__clang__) || defined(MSAE_FORCE_AVX2))
#include <cpuid.h>
#include <immintrin.h>
#define MSAE__HAS_AVX2
#define MSAE__AVX2 __attribute__((target("avx2,fma,f16c")))
#define MSAE__AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx2,fma,f16c,popcnt")))
#define MSAE__AVX512_VNNI \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c,popcnt")))
#undef MSAE__PAUSE
#define MSAE__PAUSE() __builtin_ia32_pause()
#define MSAE__CPUID(leaf, r) (void)__get_cpuid_count(leaf, 0, &(r)[0], &(r)[1], &(r)[2], &(r)[3])
#define MSAE__XCR0(low) __asm__ volatile("xgetbv" : "=a"(low) : "c"(0) : "edx")
#define MSAE__ONCE int
#define MSAE__GET_ONCE(known) __atomic_load_n(&known, __ATOMIC_RELAXED)
#define MSAE__SET_ONCE(known, value) __atomic_store_n(&known, value, __ATOMIC_RELAXED)
#elif defined(_MSC_VER) && defined(_M_X64)
#include <immintrin.h>
#include <intrin.h>
#define MSAE__HAS_AVX2
#ifdef __clang__ /* clang-cl, whose immintrin.h leaves out what the command line does not ask for */
/* clang-format off: each needs those before it */
#include <smmintrin.h>
#include <avxintrin.h>
#include <avx2intrin.h>
#include <f16cintrin.h>
#include <fmaintrin.h>
#include <avx512fintrin.h>
#include <avx512vlintrin.h>
#include <avx512bwintrin.h>
#include <avx512vlbwintrin.h>
#include <avx512vnniintrin.h>
/* clang-format on */
#define MSAE__AVX2 __attribute__((target("avx2,fma,f16c")))
#define MSAE__AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx2,fma,f16c,popcnt")))
#define MSAE__AVX512_VNNI \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c,popcnt")))
#else
#define MSAE__AVX2
#define MSAE__AVX512
#define MSAE__AVX512_VNNI
#endif
#undef MSAE__FETCH
#define MSAE__FETCH(at) _mm_prefetch((const char *)(at), _MM_HINT_T0)
#define MSAE__CPUID(leaf, r) __cpuidex((int *)(r), leaf, 0)
#define MSAE__XCR0(low) ((low) = (unsigned)_xgetbv(0))
#define MSAE__ONCE volatile long
#define MSAE__GET_ONCE(known) (known)
#define MSAE__SET_ONCE(known, value) ((known) = (value))
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__AARCH64EB__)
#include <arm_neon.h>
#define MSAE__HAS_NEON
#define MSAE__PATHS(X) X(neon, NEON, 1)
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#define MSAE__HAS_WASM128
#define MSAE__PATHS(X) X(wasm, WASM128, 1)
#endif

/* The paths beside the scalar one, best first, and what they ask of the processor. */
#if defined(MSAE__HAS_AVX2) && defined(MSAE__WITH_AVX512)
#define MSAE__HAS_AVX512
#define MSAE__PATHS(X)                                 \
    X(vnni, AVX512, msae__x86() >= MSAE__X86_VNNI)     \
    X(avx512, AVX512, msae__x86() >= MSAE__X86_AVX512) \
    X(avx2, AVX2, msae__x86() >= MSAE__X86_AVX2)
#elif defined(MSAE__HAS_AVX2)
#define MSAE__PATHS(X) X(avx2, AVX2, msae__x86() >= MSAE__X86_AVX2)
#elif !defined(MSAE__PATHS)
#define MSAE__PATHS(X)
#endif
#if defined(MSAE__HAS_AVX512) && (defined(__clang__) || !defined(__GNUC__) || __GNUC__ >= 8)
#define MSAE__HAS_VNNI /* AVX-512's sums of products of bytes */
#endif

#ifdef MSAE_USE_CBLAS
#include <cblas.h>
#define MSAE__USES_CBLAS 1
#else
#define MSAE__USES_CBLAS 0
#endif

#ifndef MSAE_NO_STDIO
/* Files, for each system: what tells what stands at a path, and for writing, opening a file that
   must not be there yet, the number of the process, and whether bytes are with the disk and a file
   is in another's place. */
#include <stdio.h>
#if defined(__unix__) || defined(__APPLE__) || defined(__wasi__)
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/mman.h>
#undef MSAE__LARGE_PAGES
#define MSAE__LARGE_PAGES(memory, bytes) (void)madvise(memory, bytes, 14 /* MADV_HUGEPAGE */)
#endif
#ifndef __cplusplus
/* Strict C99 hides these three (C++ on these systems does not). */
int(fileno)(FILE *);
int(fsync)(int);
int(madvise)(void *, size_t, int);
#endif
#define MSAE__STAT(path, info) stat(path, info)
#define MSAE__STAT_STRUCT stat
#define MSAE__IS_FILE(mode) S_ISREG(mode)
#define MSAE__IS_FOLDER(mode) S_ISDIR(mode)
#define MSAE__EXCLUSIVE "wbx"
#define MSAE__FLUSHED(file) (fsync((fileno)(file)) == 0)
#define MSAE__REPLACED(from, to) (rename(from, to) == 0)

/* After a power cut a new name is only there when its folder was flushed too. Not every file system
   can do that, and the file is whole either way, so failures are passed over. */
static inline void msae__flush_folder(char *path) {
    char *slash = strrchr(path, '/');
    int folder;
    if (slash) slash[slash == path] = 0;
    folder = open(slash ? path : ".", O_RDONLY);
    if (folder >= 0) {
        (void)fsync(folder);
        close(folder);
    }
}
#ifdef __wasi__
#define MSAE__PROCESS 0 /* there is only this one */
#else
#define MSAE__PROCESS getpid()
#endif
/* A long holds every offset where it has 64 bits; where it has not, the system must be told that
   its own offsets are to have them. */
#if defined(_FILE_OFFSET_BITS) && _FILE_OFFSET_BITS == 64 && defined(_LARGEFILE_SOURCE)
#define MSAE__OFFSET off_t
#define MSAE__SEEK fseeko
#define MSAE__TELL ftello
#endif

#elif defined(_WIN32)
#include <io.h>
#include <process.h>
#include <sys/stat.h>
#ifdef __cplusplus
extern "C" {
#endif
/* (as windows.h declares them, which is too large a guest for a header) */
__declspec(dllimport) int __stdcall MoveFileExW(const wchar_t *, const wchar_t *, unsigned long);
__declspec(dllimport) int __stdcall MultiByteToWideChar(unsigned, unsigned long, const char *, int,
                                                        wchar_t *, int);
#ifdef __cplusplus
}
#endif
/* Paths are UTF-8, or what is no UTF-8 is of the system's code page. */
typedef struct msae__wide {
    wchar_t path[1024];
} msae__wide;

static const wchar_t *msae__widen_path(const char *path, msae__wide *wide) {
    const int room = (int)(sizeof wide->path / sizeof *wide->path);
    if (!MultiByteToWideChar(65001, 8, path, -1, wide->path, room) &&
        !MultiByteToWideChar(0, 0, path, -1, wide->path, room)) {
        wide->path[0] = 0; /* too long: there is no such file */
    }
    return wide->path;
}

static inline FILE *msae__open_wide(const char *path, const char *mode) {
    msae__wide wide, wide_mode;
    return _wfopen(msae__widen_path(path, &wide), msae__widen_path(mode, &wide_mode));
}

static inline int msae__stat_wide(const char *path, struct _stat64 *info) {
    msae__wide wide;
    return _wstat64(msae__widen_path(path, &wide), info);
}

static inline int msae__remove_wide(const char *path) {
    msae__wide wide;
    return _wremove(msae__widen_path(path, &wide));
}

/* Written through, in place of what is there. */
static inline int msae__replace_wide(const char *from, const char *to) {
    msae__wide wide_from, wide_to;
    return MoveFileExW(msae__widen_path(from, &wide_from), msae__widen_path(to, &wide_to), 1 | 8);
}
#define MSAE__OPEN(path, mode) msae__open_wide(path, mode)
#define MSAE__REMOVE(path) msae__remove_wide(path)
#define MSAE__STAT(path, info) msae__stat_wide(path, info)
#define MSAE__STAT_STRUCT _stat64
#define MSAE__IS_FILE(mode) (((mode)&_S_IFREG) != 0)
#define MSAE__IS_FOLDER(mode) (((mode)&_S_IFDIR) != 0)
#define MSAE__EXCLUSIVE "wb" /* (its older libraries do not know x) */
#define MSAE__FLUSHED(file) (_commit(_fileno(file)) == 0)
#define MSAE__REPLACED(from, to) (msae__replace_wide(from, to) != 0)
#define msae__flush_folder(path) (void)(path)
#define MSAE__PROCESS _getpid()
#define MSAE__OFFSET __int64
#define MSAE__SEEK _fseeki64
#define MSAE__TELL _ftelli64

#else /* no such question can be asked */
#define MSAE__EXCLUSIVE "wbx"
#define MSAE__FLUSHED(file) 1
#define MSAE__REPLACED(from, to) (rename(from, to) == 0)
#define msae__flush_folder(path) (void)(path)
#define MSAE__PROCESS 0
#endif

#ifndef MSAE__OPEN
#define MSAE__OPEN(path, mode) fopen(path, mode)
#define MSAE__REMOVE(path) remove(path)
#endif
#ifndef MSAE__SEEK
#define MSAE__OFFSET long
#define MSAE__SEEK fseek
#define MSAE__TELL ftell
#endif
#endif

/* Everything is laid out on cache lines. */
#define MSAE__ALIGN 64

/* ---------------------------------------------------------------------------------------------
   >>base Base: checked sizes, bits, text, errors, memory, loops over workers
   ------------------------------------------------------------------------------------------ */

/* a * b and a + b into *out; 0 when the result does not fit. */
static int msae__mul(size_t a, size_t b, size_t *out) {
    if (b != 0 && a > SIZE_MAX / b) return 0;
    *out = a * b;
    return 1;
}

static int msae__add(size_t a, size_t b, size_t *out) {
    if (a > SIZE_MAX - b) return 0;
    *out = a + b;
    return 1;
}

static size_t msae__min(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t msae__max(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t msae__ceil_div(size_t a, size_t b) {
    return a / b + (a % b != 0);
}

static size_t msae__round_up(size_t a, size_t multiple) {
    return msae__ceil_div(a, multiple) * multiple;
}

static uint32_t msae__float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float msae__bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* On the bit pattern, because -ffast-math lets the compiler assume that x == x. */
static int msae__is_finite(float value) {
    return (msae__float_bits(value) & 0x7f800000u) != 0x7f800000u;
}

static int msae__is_finite_double(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits >> 52 & 0x7ff) != 0x7ff;
}

static uint64_t msae__load_le(const unsigned char *bytes, size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++) value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

static int msae__little_endian(void) {
    const uint32_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 1;
}

/* A line of text put together without stdio and without the locale. */
typedef struct msae__text {
    char *at, *end; /* end: room for the final zero */
} msae__text;

static msae__text msae__text_in(char *buffer, size_t bytes) {
    const msae__text text = {buffer, buffer + bytes - 1};
    *buffer = 0;
    return text;
}

static void msae__put_bytes(msae__text *text, const char *bytes, size_t count) {
    for (size_t i = 0; i < count && text->at < text->end; i++) *text->at++ = bytes[i];
    *text->at = 0;
}

/* 16 digits. */
static void msae__put_hex(msae__text *text, uint64_t number) {
    for (int shift = 60; shift >= 0; shift -= 4) {
        msae__put_bytes(text, &"0123456789abcdef"[number >> shift & 15], 1);
    }
}

static void msae__put_number(msae__text *text, uint64_t number) {
    char digits[20];
    size_t count = 0;
    do digits[19 - count++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    msae__put_bytes(text, digits + 20 - count, count);
}

/* What a program that only runs models has in a smaller form, at the end of the run part (>>small).
   The larger forms stand behind it. */
static msae_status msae__fail_at(msae_error *error, msae_status code, uint64_t position,
                                 const char *what, uint64_t number, const char *after);
static msae_status msae__fail_text(msae_error *error, msae_status code, uint64_t position,
                                   const char *what, const char *name, const char *after);
static msae_status msae__fail_byte(msae_error *error, uint64_t position, const char *what);
static double msae__sqrt(double value);
static float msae__expf(float value);
static float msae__tanhf(float value);
static double msae__power_of_ten(int n);
static const msae_kernels *msae__kernels_for(msae_simd simd);
static size_t msae__select(const msae_kernels *kernels, const unsigned char *keys, size_t n,
                           size_t k, int32_t lowest, msae_code *codes, int32_t *scratch);
static void msae__sort_codes(msae_code *codes, size_t count, msae_code *spare);
static msae_status msae__resolve_model(const msae_model_desc *desc, msae_model_desc *resolved,
                                       size_t *levels, float *weights, msae_error *error);
static size_t msae__encode_room(const msae_model *model, size_t rows, size_t *panels);
static int msae__add_gathered(const msae_model *model, const msae_code *codes, size_t count,
                              float *sum);
static msae_status msae__widen(msae_model *model, msae_error *error);

static msae_status msae__fail(msae_error *error, msae_status code, const char *what) {
    return msae__fail_at(error, code, MSAE_NO_POSITION, what, 0, NULL);
}

static msae_status msae__fail_memory(msae_error *error) {
    return msae__fail(error, MSAE_ERROR_MEMORY, "out of memory");
}

static msae_status msae__fail_row(msae_error *error, uint64_t row) {
    return msae__fail_at(error, MSAE_ERROR_NOT_FINITE, row, "row", row, " has a NaN or Inf");
}

/* A row of numbers that are finite, and what the model makes of them is not. */
static msae_status msae__fail_overflow(msae_error *error, size_t row) {
    return msae__fail_at(error, MSAE_ERROR_NOT_FINITE, row, "row", row,
                         " gives a NaN or Inf in the model");
}

MSAE_API const char *msae_status_text(msae_status status) {
#define MSAE_STATUS_TEXT(code, text) text,
    static const char *const texts[] = {MSAE_STATUS_LIST(MSAE_STATUS_TEXT)};
#undef MSAE_STATUS_TEXT
    return (unsigned)status < MSAE_STATUS_COUNT ? texts[status] : "unknown status";
}

/* Where the system has pages of 2 MB, a block of two or more asks for them: rows that lie far apart
   are found faster. Only whole pages within the block, so that it takes no more memory. */
#define MSAE__LARGE_PAGE ((size_t)1 << 21)

static void *msae__alloc(const msae_allocator *allocator, size_t bytes) {
    void *memory;
    if (allocator && allocator->alloc) return allocator->alloc(bytes, allocator->user);
    memory = MSAE_MALLOC(bytes);
    if (memory && bytes >= 2 * MSAE__LARGE_PAGE) {
        const size_t before = (0 - (uintptr_t)memory) % MSAE__LARGE_PAGE;
        MSAE__LARGE_PAGES((unsigned char *)memory + before,
                          (bytes - before) / MSAE__LARGE_PAGE * MSAE__LARGE_PAGE);
    }
    return memory;
}

static void msae__free(const msae_allocator *allocator, void *memory, size_t bytes) {
    if (!memory) return;
    if (allocator && allocator->alloc) {
        if (allocator->free) allocator->free(memory, bytes, allocator->user);
        return;
    }
    MSAE_FREE(memory);
}

/* Arrays laid out one after the other in one block. The same code runs twice: first with base NULL
   to add up the bytes, then over real memory. `ok` turns 0 when a size overflows. */
typedef struct msae__arena {
    unsigned char *base;
    size_t used;
    int ok;
} msae__arena;

static void *msae__take(msae__arena *arena, size_t count, size_t element_bytes) {
    size_t bytes, used, start = arena->used;
    if (!msae__mul(count, element_bytes, &bytes) || !msae__add(bytes, MSAE__ALIGN - 1, &bytes) ||
        !msae__add(start, bytes / MSAE__ALIGN * MSAE__ALIGN, &used)) {
        arena->ok = 0;
        return NULL;
    }
    arena->used = used;
    return arena->base ? arena->base + start : NULL;
}

#define MSAE__TAKE(arena, type, count) ((type *)msae__take(arena, count, sizeof(type)))

static msae__arena msae__arena_over(void *memory) {
    msae__arena arena = {(unsigned char *)memory, 0, 1};
    const size_t past = (uintptr_t)memory % MSAE__ALIGN;
    if (memory) arena.base += (MSAE__ALIGN - past) % MSAE__ALIGN;
    return arena;
}

/* Bytes to ask for so that msae__arena_over has room whatever the alignment. */
static int msae__arena_bytes(const msae__arena *arena, size_t *bytes) {
    return arena->ok && msae__add(arena->used, MSAE__ALIGN - 1, bytes);
}

static size_t msae__workers(const msae_parallel *parallel) {
    if (!parallel->parallel_for || parallel->workers == 0) return 1;
    return msae__min(parallel->workers, MSAE_MAX_WORKERS);
}

static void msae__parallel_for(const msae_parallel *parallel, size_t tasks, msae_task task,
                               void *context) {
    if (parallel->parallel_for && parallel->workers > 1 && tasks > 1) {
        parallel->parallel_for(parallel->user, tasks, task, context);
        return;
    }
    for (size_t i = 0; i < tasks; i++) task(context, i, 0);
}

/* ---------------------------------------------------------------------------------------------
   >>scalar Kernels: the scalar reference. Each reads like its formula; the paths compute the same
   with other orders of summation.
   ------------------------------------------------------------------------------------------ */

/* Latents go in blocks, of which a product's tile of rows stays in the first-level cache. */
#define MSAE__LATENT_BLOCK 128

/* Rows that stay in the first-level cache while rows of weights are read where they lie. */
#define MSAE__DOT_ROWS 12

/* c[r][j] = <x_r, w_j>, a product without packing: rows x [rows][x_stride] with rows of weights
   w [cols], of which each begins w_stride bytes after the one before; c's rows lie ldc apart. */
typedef struct msae__few {
    float *c;
    size_t ldc;
    const float *x;
    size_t x_stride, rows;
    const unsigned char *w;
    size_t w_stride, cols, depth;
} msae__few;

/* The kernels of a path. Those that run a model: */
#define MSAE__RUN_KERNELS(X) \
    X(dot)                   \
    X(center)                \
    X(axpy)                  \
    X(dots) X(dots_half) X(dots_bfloat) X(axpy_half) X(axpy_bfloat) X(axpy_int8) X(dots_int8)

struct msae_kernels {
    msae_simd simd;

    /* sum a_i b_i */
    float (*dot)(const float *a, const float *b, size_t n);
    /* out = (x - mean) scale; out may be x */
    void (*center)(float *out, const float *x, const float *mean, float scale, size_t n);
    /* y += a x */
    void (*axpy)(float *y, float a, const float *x, size_t n);
    /* msae__few of floats, or of float16 or bfloat16, little-endian and without alignment */
    void (*dots)(const msae__few *p);
    void (*dots_half)(const msae__few *p);
    void (*dots_bfloat)(const msae__few *p);
    /* y += a w for one row of weights */
    void (*axpy_half)(float *y, float a, const unsigned char *w, size_t n);
    void (*axpy_bfloat)(float *y, float a, const unsigned char *w, size_t n);
    void (*axpy_int8)(float *y, float a, const unsigned char *w, size_t n);
    /* c[j] = <x, w_j> over integers, x a row that msae__quantize made: their sum fits 32 bits, so
       that it is exact, and the same on every path */
    void (*dots_int8)(int32_t *c, const int16_t *x, const unsigned char *w, size_t cols,
                      size_t depth);
    /* Keys are the bits of floats, or integers in the same order. Those with low < key <= high go
       to out [n + 16], which may be keys, in their order; returns their number and raises *largest
       to the largest of them. */
    size_t (*between)(int32_t *out, const void *keys, size_t n, int32_t low, int32_t high,
                      int32_t *largest);
    /* Adds to such a row what dots_int8 wants of it besides; or NULL */
    void (*split_int8)(int16_t *x, size_t depth);
};

static float msae__scalar_dot(const float *a, const float *b, size_t n) {
    float sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void msae__scalar_center(float *out, const float *x, const float *mean, float scale,
                                size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = (x[i] - mean[i]) * scale;
}

/* Denormal halves are normal floats; they come from an integer, because -ffast-math may have set
   the processor to take denormal floats for zero. */
static float msae__half_to_float(uint32_t half) {
    const uint32_t sign = (half & 0x8000u) << 16, rest = half & 0x7fffu;
    if (rest < 0x400u) {
        return msae__bits_float(msae__float_bits((float)rest * 5.9604644775390625e-8f) | sign);
    }
    if (rest >= 0x7c00u) return msae__bits_float(0x7f800000u | rest << 13 | sign);
    return msae__bits_float(((rest << 13) + (112u << 23)) | sign);
}

static void msae__scalar_axpy(float *y, float a, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

static void msae__scalar_dots(const msae__few *p) {
    for (size_t r = 0; r < p->rows; r++) {
        for (size_t j = 0; j < p->cols; j++) {
            const float *w = (const float *)(const void *)(p->w + j * p->w_stride);
            p->c[r * p->ldc + j] = msae__scalar_dot(p->x + r * p->x_stride, w, p->depth);
        }
    }
}

/* Keys lie in memory that may be floats, so they are copied rather than read through a pointer. */
static int32_t msae__load_key(const void *keys, size_t i) {
    int32_t key;
    memcpy(&key, (const unsigned char *)keys + 4 * i, 4);
    return key;
}

static size_t msae__scalar_between(int32_t *out, const void *keys, size_t n, int32_t low,
                                   int32_t high, int32_t *largest) {
    int32_t most = *largest;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) { /* whether a key is kept is a coin toss: no branch on it */
        const int32_t key = msae__load_key(keys, i);
        const int kept = key > low && key <= high;
        out[count] = key;
        count += (size_t)kept;
        most = kept && key > most ? key : most;
    }
    *largest = most;
    return count;
}

static float msae__load_half(const unsigned char *w) {
    return msae__half_to_float(w[0] | (uint32_t)w[1] << 8);
}

static float msae__load_bfloat(const unsigned char *w) {
    return msae__bits_float((uint32_t)w[0] << 16 | (uint32_t)w[1] << 24);
}

static int32_t msae__load_int8(const unsigned char *w) {
    return (int32_t)(*w ^ 0x80u) - 128;
}

static void msae__scalar_dots_half(const msae__few *p) {
    for (size_t j = 0; j < p->cols; j++) {
        const unsigned char *w = p->w + j * p->w_stride;
        for (size_t r = 0; r < p->rows; r++) {
            const float *x = p->x + r * p->x_stride;
            float sum = 0;
            for (size_t i = 0; i < p->depth; i++) sum += x[i] * msae__load_half(w + 2 * i);
            p->c[r * p->ldc + j] = sum;
        }
    }
}

static void msae__scalar_dots_bfloat(const msae__few *p) {
    for (size_t j = 0; j < p->cols; j++) {
        const unsigned char *w = p->w + j * p->w_stride;
        for (size_t r = 0; r < p->rows; r++) {
            const float *x = p->x + r * p->x_stride;
            float sum = 0;
            for (size_t i = 0; i < p->depth; i++) sum += x[i] * msae__load_bfloat(w + 2 * i);
            p->c[r * p->ldc + j] = sum;
        }
    }
}

static void msae__scalar_dots_int8(int32_t *c, const int16_t *x, const unsigned char *w,
                                   size_t cols, size_t depth) {
    for (size_t j = 0; j < cols; j++, w += depth) {
        int32_t sum = 0;
        for (size_t i = 0; i < depth; i++) sum += x[i] * msae__load_int8(w + i);
        c[j] = sum;
    }
}

static void msae__scalar_axpy_half(float *y, float a, const unsigned char *w, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += a * msae__load_half(w + 2 * i);
}

static void msae__scalar_axpy_bfloat(float *y, float a, const unsigned char *w, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += a * msae__load_bfloat(w + 2 * i);
}

static void msae__scalar_axpy_int8(float *y, float a, const unsigned char *w, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += a * (float)msae__load_int8(w + i);
}

/* ---------------------------------------------------------------------------------------------
   >>processor Kernels: what the processor has. The paths' kernels are written once, at the end of
   this file (>>paths), which includes itself.
   ------------------------------------------------------------------------------------------ */

#ifndef MSAE_HEADER
#define MSAE_HEADER "msae.h" /* the name of this file, if it is another */
#endif
#define MSAE__SMALL_STAGE 1
#define MSAE__BATCH_STAGE 2

#ifdef MSAE__HAS_AVX2
enum { MSAE__X86_PLAIN = 1, MSAE__X86_AVX2, MSAE__X86_AVX512, MSAE__X86_VNNI };

/* The best path that the processor has (cpuid) and whose registers the system saves (XCR0). */
static int msae__detect_x86(void) {
    const unsigned leaf1 = 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29; /* FMA, XSAVE, AVX, F16C */
    const unsigned avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 30 | 1u << 31; /* F, BW, VL */
    const unsigned vnni = 1u << 11;
    unsigned found[4] = {0, 0, 0, 0}, saved = 0;
    MSAE__CPUID(0, found);
    if (found[0] < 7) return MSAE__X86_PLAIN;
    MSAE__CPUID(1, found);
    if ((found[2] & leaf1) != leaf1) return MSAE__X86_PLAIN;
    MSAE__XCR0(saved);
    MSAE__CPUID(7, found);
    if (!(found[1] & avx2) || (saved & 6) != 6) return MSAE__X86_PLAIN;
    if ((found[1] & avx512) != avx512 || (saved & 0xe6) != 0xe6) return MSAE__X86_AVX2;
    return found[2] & vnni ? MSAE__X86_VNNI : MSAE__X86_AVX512;
}

/* cpuid costs tens of microseconds on a virtual machine, so its answer is kept: every thread that
   asks finds the same. */
static int msae__x86(void) {
    static MSAE__ONCE known;
    int found = (int)MSAE__GET_ONCE(known);
    if (found == 0) {
        found = msae__detect_x86();
        MSAE__SET_ONCE(known, found);
    }
    return found;
}
#endif

/* 1 when the path is compiled in and this processor and system can run it. */
static int msae__simd_available(msae_simd simd) {
    return msae__kernels_for(simd) != NULL;
}

/* ---------------------------------------------------------------------------------------------
   >>pre_activations Pre-activations: products of rows with the encoder, and its quantised weights
   ------------------------------------------------------------------------------------------ */

static int msae__row_is_finite(const float *x, size_t d) {
    uint32_t worst = 0; /* one maximum over exponents keeps the loop free of branches */
    for (size_t i = 0; i < d; i++) {
        uint32_t exponent = msae__float_bits(x[i]) & 0x7f800000u;
        if (exponent > worst) worst = exponent;
    }
    return worst != 0x7f800000u;
}

/* Room for a row of integers, with what a path adds to it. */
static size_t msae__quantized_stride(size_t n) {
    return 2 * msae__round_up(n, 64) + 32;
}

/* x [n] as integers q [quantized_stride] and what they are to be multiplied by. Their products
   with n int8 add up to less than 2^31: up to n = 520 that leaves 16 bits, at 4096 thirteen. NaN or
   Inf gives NaN. */
static float msae__quantize(const float *x, size_t n, int16_t *q) {
    const size_t most = msae__min(32512, (size_t)(2147483647u / 127u) / n); /* 127 * 256 */
    float largest = 0, factor;
    for (size_t i = 0; i < n; i++) {
        const float magnitude = msae__bits_float(msae__float_bits(x[i]) & 0x7fffffffu);
        largest = magnitude > largest ? magnitude : largest;
    }
    if (!msae__row_is_finite(x, n) || largest < 1e-30f || most == 0) {
        memset(q, 0, n * sizeof *q); /* too small for a reciprocal, or too many inputs */
        return msae__row_is_finite(x, n) && most > 0 ? 0 : msae__bits_float(0x7fc00000u);
    }
    factor = (float)most / largest;
    for (size_t i = 0; i < n; i++) {
        const float value = x[i] * factor;
        q[i] = (int16_t)(value < 0 ? value - 0.5f : value + 0.5f);
    }
    return largest / (float)most;
}

/* Rows of a tile are this far apart: an odd number of cache lines, so that equal columns of many
   rows do not meet in the same cache set. */
static size_t msae__stride(size_t d) {
    return (msae__ceil_div(d, 16) | 1) * 16;
}

/* Adds a bias [count] to each row; 0, or NaN when a sum is NaN or Inf. */
static float msae__add_bias(const msae_kernels *kernels, float *c, size_t ldc, size_t rows,
                            const float *bias, size_t count) {
    const float zeros[MSAE__LATENT_BLOCK] = {0}; /* static ones would be bytes of the program */
    float probe = 0;
    for (size_t r = 0; r < rows; r++) {
        kernels->axpy(c + r * ldc, 1, bias, count);
        probe += kernels->dot(c + r * ldc, zeros, count); /* Inf and NaN times zero are NaN */
    }
    return probe;
}

/* Some latents' pre-activations of all rows, from quantised weights or without packing. With int8
   the rows come as integers: `packed` holds them, and before them what each row is to be
   multiplied by. */
typedef struct msae__small_product {
    const msae_model *model;
    const float *centred;
    size_t stride, rows, of_rows; /* of_rows: of the batch that these are of */
    const float *factors;         /* [rows], int8 */
    const int16_t *quantized;     /* [rows][q_stride], int8 */
    size_t q_stride;
    float *c, *probe;
    size_t ldc, c_block;
    int of_decoder; /* 1: with decoder rows, and without a bias */
} msae__small_product;

/* Rows of integers in floats' places, and as many floats to begin with. */
static size_t msae__quantized_floats(size_t rows, size_t d) {
    return msae__round_up(rows, 16) + rows * (msae__quantized_stride(d) / 2);
}

static void msae__small_block(const msae__small_product *p, size_t first, size_t count, float *c) {
    const msae_model *model = p->model;
    const msae_kernels *kernels = model->kernels;
    const size_t d = model->n_inputs;
    const size_t w_stride = d * msae_dtype_bytes(model->weights);
    const void *quantised = p->of_decoder ? model->small_decoder : model->small_encoder;
    const float *scale = p->of_decoder ? model->decoder_scale : model->encoder_scale;
    const void *weights = p->of_decoder ? model->decoder : model->encoder;
    const unsigned char *w =
        (const unsigned char *)(quantised ? quantised : weights) + first * w_stride;
    const msae__few few = {c, p->ldc, p->centred, p->stride, p->rows, w, w_stride, count, d};
    if (model->weights == MSAE_F32) {
        kernels->dots(&few);
    } else if (model->weights == MSAE_F16) {
        kernels->dots_half(&few);
    } else if (model->weights == MSAE_BF16) {
        kernels->dots_bfloat(&few);
    } else {
        for (size_t r = 0; r < p->rows; r++) {
            int32_t sums[MSAE__LATENT_BLOCK];
            kernels->dots_int8(sums, p->quantized + r * p->q_stride, w, count, d);
            for (size_t j = 0; j < count; j++) {
                c[r * p->ldc + j] = (float)sums[j] * (p->factors[r] * scale[first + j]);
            }
        }
    }
}

static void msae__small_task(void *context, size_t task, size_t worker) {
    const msae__small_product *p = (const msae__small_product *)context;
    const msae_model *model = p->model;
    const size_t first = task * MSAE__LATENT_BLOCK;
    const size_t count = msae__min(MSAE__LATENT_BLOCK, model->n_latents - first);
    float *c = p->c + task * p->c_block;
    (void)worker;
    msae__small_block(p, first, count, c);
    if (p->of_decoder) return;
    p->probe[task] =
        msae__add_bias(model->kernels, c, p->ldc, p->rows, model->latent_bias + first, count);
}

/* Rows as integers, int8's own, into `packed`. */
static void msae__quantize_rows(const msae_model *model, const float *centred, size_t stride,
                                size_t rows, float *packed) {
    const size_t d = model->n_inputs;
    const msae_kernels *kernels = model->kernels;
    int16_t *q = (int16_t *)(void *)(packed + msae__round_up(rows, 16));
    for (size_t r = 0; r < rows; r++, q += msae__quantized_stride(d)) {
        packed[r] = msae__quantize(centred + r * stride, d, q);
        if (kernels->split_int8) kernels->split_int8(q, d);
    }
}

/* Rows whose pre-activations [rows, n] have no place yet. */
static msae__small_product msae__small_over(const msae_model *model, const float *centred,
                                            size_t stride, size_t rows, float *packed) {
    msae__small_product p;
    memset(&p, 0, sizeof p);
    p.model = model;
    p.centred = centred;
    p.stride = stride;
    p.rows = p.of_rows = rows;
    p.ldc = model->n_latents;
    p.c_block = MSAE__LATENT_BLOCK;
    p.factors = packed;
    p.quantized = (const int16_t *)(const void *)(packed + msae__round_up(rows, 16));
    p.q_stride = msae__quantized_stride(model->n_inputs);
    return p;
}

/* 1: done as a product of packed rows, where that pays. */
static int msae__encode_packed(const msae__small_product *p, float *packed, float *panels);

/* Products of rows with all rows of the encoder, or of the decoder. */
static void msae__multiply_rows(const msae__small_product *p, float *packed, float *panels) {
    const msae_model *model = p->model;
    if (msae__encode_packed(p, packed, panels)) return;
    if (model->weights == MSAE_I8) {
        msae__quantize_rows(model, p->centred, p->stride, p->rows, packed);
    }
    msae__parallel_for(&model->parallel, msae__ceil_div(model->n_latents, MSAE__LATENT_BLOCK),
                       msae__small_task, (void *)(uintptr_t)p);
}

/* Pre-activations pre = (xin - pre_bias) encoder^T + latent_bias of centred rows; 0 when one is NaN
   or Inf. The sign of such a NaN says nothing, so that ReLU must not be asked about it. p->probe: a
   float for each block of latents. */
static int msae__encode_rows_to(const msae__small_product *p, float *packed, float *panels) {
    const size_t blocks = msae__ceil_div(p->model->n_latents, MSAE__LATENT_BLOCK);
    int finite = 1;
    msae__multiply_rows(p, packed, panels);
    for (size_t b = 0; b < blocks; b++) finite &= msae__is_finite(p->probe[b]);
    return finite;
}

/* ---------------------------------------------------------------------------------------------
   >>ranking Selection: the k largest of a row
   ------------------------------------------------------------------------------------------ */

/* Keys in the order of the pre-activations or, under abs, of their magnitudes; those above
   msae__lowest can be active. Under ReLU a float's own bits will do. */
static int32_t msae__key(float pre, msae_activation activation) {
    const uint32_t bits = msae__float_bits(pre), magnitude = bits & 0x7fffffffu;
    if (activation == MSAE_ACTIVATION_ABS) return (int32_t)magnitude;
    return bits >> 31 ? -(int32_t)magnitude : (int32_t)magnitude; /* -0 and +0 tie */
}

static int32_t msae__lowest(msae_activation activation) {
    return activation == MSAE_ACTIVATION_IDENTITY ? INT32_MIN : 0;
}

/* `count` pre-activations as keys: themselves, or others that are written to room. */
static const void *msae__keys(const float *pre, size_t count, msae_activation activation,
                              int32_t *room) {
    if (activation != MSAE_ACTIVATION_IDENTITY && activation != MSAE_ACTIVATION_ABS) return pre;
    for (size_t j = 0; j < count; j++) room[j] = msae__key(pre[j], activation);
    return room;
}

/* The k largest keys are those above `key` and, of those equal to it, the first `ties`. */
typedef struct msae__cut {
    int32_t key;
    size_t ties;
    int partial; /* 1: more keys are equal than go in, so that their order decides */
} msae__cut;

/* The rank-th largest (from 1) of many keys, byte by byte from the top; keys are overwritten. */
static msae__cut msae__cut_many(int32_t *keys, size_t count, size_t rank) {
    for (int shift = 24; shift >= 0; shift -= 8) {
        uint32_t histogram[256] = {0}, byte = 255;
        size_t kept = 0;
        for (size_t i = 0; i < count; i++) {
            histogram[((uint32_t)keys[i] ^ 0x80000000u) >> shift & 255]++;
        }
        while (rank > histogram[byte]) rank -= histogram[byte--];
        for (size_t i = 0; i < count; i++) {
            const int32_t key = keys[i];
            keys[kept] = key;
            kept += (((uint32_t)key ^ 0x80000000u) >> shift & 255) == byte;
        }
        count = kept;
    }
    const msae__cut cut = {keys[0], rank, rank < count};
    return cut;
}

/* What msae__cuts works in, for n keys. */
static size_t msae__cut_room(size_t n) {
    return n + 16;
}

/* Latents whose keys are above the cut, or as large as it while ties are left, k of n at most, as
   codes in the order of the latents. Returns their number. */
static size_t msae__codes_above(const unsigned char *keys, size_t n, size_t k, msae__cut cut,
                                msae_code *codes) {
    size_t count = 0;
    for (size_t j = 0; j < n && count < k; j++) {
        const int32_t key = msae__load_key(keys, j);
        if (key > cut.key || (key == cut.key && cut.ties > 0)) {
            cut.ties -= key == cut.key;
            codes[count++].latent = (uint32_t)j;
        }
    }
    return count;
}

/* Of a row of pre-activations, the k largest active ones as codes, in the order of the latents.
   room [n], scratch [2 cut_room(n)]. Returns their number. */
static size_t msae__top_codes(const msae_kernels *kernels, const float *pre, size_t n, size_t k,
                              msae_activation activation, msae_code *codes, int32_t *room,
                              int32_t *scratch) {
    const unsigned char *keys = (const unsigned char *)msae__keys(pre, n, activation, room);
    const size_t count =
        msae__select(kernels, keys, n, k, msae__lowest(activation), codes, scratch);
    for (size_t e = 0; e < count; e++) {
        const float value = pre[codes[e].latent];
        codes[e].value = activation == MSAE_ACTIVATION_ABS ? fabsf(value) : value;
    }
    return count;
}

static float msae__soft_cap(float value, float cap) {
    return cap > 0 ? cap * msae__tanhf(value / cap) : value;
}

/* ---------------------------------------------------------------------------------------------
   >>models Model
   ------------------------------------------------------------------------------------------ */

static int msae__is_nested(msae_recipe recipe) {
    return recipe == MSAE_RECIPE_MSAE || recipe == MSAE_RECIPE_MSAE_UW ||
           recipe == MSAE_RECIPE_MSAE_RW;
}

/* Whether latents are chosen over the whole batch and, at inference, by a threshold. */
static int msae__is_batch_topk(msae_recipe recipe) {
    return recipe == MSAE_RECIPE_BATCHTOPK || recipe == MSAE_RECIPE_MSAE_WIDTH;
}

/* Whether a row keeps a number of latents, and not just all that are active. */
static int msae__has_k(msae_recipe recipe) {
    return recipe != MSAE_RECIPE_RELU && recipe != MSAE_RECIPE_JUMPRELU;
}

static size_t msae__default_k(msae_recipe recipe, size_t n) {
    return msae__min(msae__is_batch_topk(recipe) ? 32 : 64, n);
}

/* A list of numbers from 1 to n, each larger than the one before it. */
static msae_status msae__check_ascending(const size_t *list, size_t count, size_t n,
                                         const char *what, const char *unsorted,
                                         msae_error *error) {
    for (size_t i = 0; i < count; i++) {
        if (list[i] == 0 || list[i] > n) {
            return msae__fail_at(error, MSAE_ERROR_ARGUMENT, i, what, list[i],
                                 " is not between 1 and the number of latents");
        }
        if (i > 0 && list[i] <= list[i - 1])
            return msae__fail(error, MSAE_ERROR_ARGUMENT, unsorted);
    }
    return MSAE_OK;
}

/* A nesting list as it is given into levels; the last width is that of all latents. */
static msae_status msae__check_levels(const msae_model_desc *desc, size_t *levels,
                                      msae_error *error) {
    const size_t count = desc->n_levels;
    msae_status status;
    if (count > MSAE_MAX_LEVELS) {
        return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "more than",
                             MSAE_MAX_LEVELS, " nesting levels");
    }
    status = msae__check_ascending(desc->nesting, count, desc->n_latents, "nesting level",
                                   "the nesting list does not ascend", error);
    if (status != MSAE_OK) return status;
    memcpy(levels, desc->nesting, count * sizeof *levels);
    if (desc->recipe == MSAE_RECIPE_MSAE_WIDTH && levels[count - 1] != desc->n_latents) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the last width is not that of all latents");
    }
    return MSAE_OK;
}

/* Sizes within which no product of them can overflow later. (The limit of 16384 is for 32 bits: no
   array of a tile or of all workers can overflow.) */
static msae_status msae__check_sizes(const msae_model_desc *desc, msae_error *error) {
    const size_t d = desc->n_inputs, n = desc->n_latents;
    size_t values;
    const char *wrong = NULL;
    if (d == 0 || d > UINT32_MAX) {
        wrong = "the number of inputs is out of range";
    } else if (n == 0 || n >= UINT32_MAX) {
        wrong = "the number of latents is out of range";
    } else if (!msae__mul(d, n, &values) || values > SIZE_MAX / 16 / sizeof(float) ||
               d > SIZE_MAX / 16384 || n > SIZE_MAX / 16384) {
        wrong = "inputs times latents is too large";
    } else if ((unsigned)desc->recipe >= MSAE_RECIPE_COUNT) {
        wrong = "unknown recipe";
    } else if ((unsigned)desc->activation > MSAE_ACTIVATION_ABS) {
        wrong = "unknown activation";
    }
    return wrong ? msae__fail(error, MSAE_ERROR_ARGUMENT, wrong) : MSAE_OK;
}

/* What else a descriptor whose defaults are in says of a model. */
static msae_status msae__check_values(const msae_model_desc *desc, msae_error *error) {
    const msae_dtype weights = desc->weights;
    const char *wrong = NULL;
    if (desc->activation > MSAE_ACTIVATION_RELU && !msae__is_nested(desc->recipe) &&
        desc->recipe != MSAE_RECIPE_TOPK) {
        wrong = "this recipe's activation is fixed";
    } else if (desc->k > 0 && !msae__has_k(desc->recipe)) {
        wrong = "relu and jumprelu have no k: all active latents count";
    } else if (!msae__is_finite(desc->soft_cap) || !msae__is_finite(desc->threshold)) {
        wrong = "the soft cap or threshold is NaN or Inf"; /* -ffast-math: before a comparison */
    } else if (!(desc->soft_cap >= 0)) {
        wrong = "the soft cap is negative";
    } else if ((unsigned)weights > MSAE_BF16 && weights != MSAE_I8) {
        wrong = "weights are F32, F16, BF16 or I8";
    }
    if (wrong) return msae__fail(error, MSAE_ERROR_ARGUMENT, wrong);
    if (desc->k > desc->n_latents) {
        return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "k =", desc->k,
                             " is more than the number of latents");
    }
    if (desc->host.parallel.workers > MSAE_MAX_WORKERS) {
        return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "more than",
                             MSAE_MAX_WORKERS, " workers");
    }
    if (msae__simd_available(desc->host.simd)) return MSAE_OK;
    return msae__fail(error, MSAE_ERROR_UNSUPPORTED, "this instruction path is not available here");
}

static const unsigned char msae__dtype_bits[] = {32, 16, 16, 64, 8, 16, 32, 64, 8, 16, 32,
                                                 64, 8,  8,  8,  8, 8,  8,  64, 6, 6,  4};

/* What a model consists of, in the order of its memory: the name in files, the field, the shape in
   files, and what a model must be to have it. Memory, files, mapping and checks use this list. */
enum {
    MSAE__BY_COLUMNS = 1,
    MSAE__BY_ROWS = 2, /* as floats */
    MSAE__SMALL = 4,   /* by rows too */
    MSAE__UNTIED = 8,
    MSAE__INT8 = 16,
    MSAE__JUMPS = 32,
    MSAE__BATCH_THRESHOLD = 64,
    MSAE__LEVEL_THRESHOLDS = 128
};
/* Up to _LEVELS the values are in the struct itself; encoders by columns are _TURNED in files. */
enum { MSAE__ONE, MSAE__LEVELS, MSAE__INPUTS, MSAE__LATENTS, MSAE__ROWS, MSAE__TURNED };

typedef struct msae__part {
    char name[22];
    uint8_t when, shape;
    uint16_t field;
} msae__part;

#define MSAE__PART(name, field, shape, when) \
    { name, when, shape, (uint16_t)offsetof(msae_model, field) }
static const msae__part msae__parts[] = {
    MSAE__PART("encoder", encoder, MSAE__TURNED, MSAE__BY_COLUMNS),
    MSAE__PART("decoder", decoder, MSAE__ROWS, MSAE__BY_COLUMNS | MSAE__UNTIED),
    MSAE__PART("weights.encoder_rows", encoder, MSAE__ROWS, MSAE__BY_ROWS),
    MSAE__PART("weights.decoder_rows", decoder, MSAE__ROWS, MSAE__BY_ROWS | MSAE__UNTIED),
    MSAE__PART("weights.encoder_rows", small_encoder, MSAE__ROWS, MSAE__SMALL),
    MSAE__PART("weights.decoder_rows", small_decoder, MSAE__ROWS, MSAE__SMALL | MSAE__UNTIED),
    MSAE__PART("encoder_scale", encoder_scale, MSAE__LATENTS, MSAE__INT8),
    MSAE__PART("decoder_scale", decoder_scale, MSAE__LATENTS, MSAE__INT8 | MSAE__UNTIED),
    MSAE__PART("pre_bias", pre_bias, MSAE__INPUTS, 0),
    MSAE__PART("latent_bias", latent_bias, MSAE__LATENTS, 0),
    MSAE__PART("log_threshold", log_threshold, MSAE__LATENTS, MSAE__JUMPS),
    MSAE__PART("mean", mean, MSAE__INPUTS, 0),
    MSAE__PART("level_thresholds", level_thresholds, MSAE__LEVELS, MSAE__LEVEL_THRESHOLDS),
    MSAE__PART("scale", scale, MSAE__ONE, 0),
    MSAE__PART("threshold", threshold, MSAE__ONE, MSAE__BATCH_THRESHOLD),
};
#undef MSAE__PART

MSAE_API size_t msae_dtype_bytes(msae_dtype dtype) {
    return (unsigned)dtype < MSAE_DTYPE_COUNT ? msae__dtype_bits[dtype] / 8 : 0;
}

/* The next part that a model has, as a tensor without data; NULL after the last. *at is 0 first. */
static const msae__part *msae__next_part(const msae_model *model, size_t *at, msae_tensor *tensor) {
    unsigned has = !model->by_rows              ? MSAE__BY_COLUMNS
                   : model->weights == MSAE_F32 ? MSAE__BY_ROWS
                                                : MSAE__SMALL;
    size_t extents[MSAE__ROWS];
    extents[MSAE__ONE] = 1;
    extents[MSAE__LEVELS] = model->n_levels;
    extents[MSAE__INPUTS] = model->n_inputs;
    extents[MSAE__LATENTS] = model->n_latents;
    if (!model->tied) has |= MSAE__UNTIED;
    if (model->weights == MSAE_I8) has |= MSAE__INT8;
    if (model->recipe == MSAE_RECIPE_JUMPRELU) has |= MSAE__JUMPS;
    if (msae__is_batch_topk(model->recipe)) has |= MSAE__BATCH_THRESHOLD;
    if (model->has_level_thresholds) has |= MSAE__LEVEL_THRESHOLDS;
    while (*at < sizeof msae__parts / sizeof *msae__parts) {
        const msae__part *part = &msae__parts[(*at)++];
        if (part->when & ~has) continue;
        memset(tensor, 0, sizeof *tensor);
        tensor->name = part->name;
        tensor->name_bytes = strlen(part->name);
        tensor->rank = 1;
        if (part->shape < MSAE__ROWS) {
            tensor->shape[0] = extents[part->shape];
            tensor->bytes = tensor->shape[0] * sizeof(float);
            return part;
        }
        tensor->rank = 2;
        tensor->dtype = model->weights;
        tensor->shape[part->shape == MSAE__TURNED] = model->n_latents;
        tensor->shape[part->shape == MSAE__ROWS] = model->n_inputs;
        tensor->bytes = model->n_latents * model->n_inputs * msae_dtype_bytes(model->weights);
        return part;
    }
    return NULL;
}

/* Where a part's values are. */
static void *msae__part_values(const msae_model *model, const msae__part *part) {
    unsigned char *field = (unsigned char *)(uintptr_t)model + part->field;
    void *values;
    if (part->shape <= MSAE__LEVELS) return field;
    memcpy(&values, field, sizeof values);
    return values;
}

/* Gives a part that is an array its place. */
static void msae__set_part(msae_model *model, const msae__part *part, const void *values) {
    memcpy((unsigned char *)model + part->field, &values, sizeof values);
}

/* To be called once all parts have theirs. */
static void msae__tie(msae_model *model) {
    if (!model->tied) return;
    model->decoder = model->encoder;
    model->small_decoder = model->small_encoder;
    model->decoder_scale = model->encoder_scale;
}

/* The arrays of a model whose sizes are set. */
static void msae__model_layout(msae_model *model, msae__arena *arena) {
    const msae__part *part;
    msae_tensor tensor;
    size_t at = 0;
    while ((part = msae__next_part(model, &at, &tensor)) != NULL) {
        if (part->shape > MSAE__LEVELS) {
            msae__set_part(model, part, msae__take(arena, tensor.bytes, 1));
        }
    }
    msae__tie(model);
}

/* Everything but the arrays. */
static msae_status msae__model_shape(msae_model *model, const msae_model_desc *desc,
                                     msae_model_desc *resolved, msae_error *error) {
    msae_status status;
    memset(model, 0, sizeof *model);
    *resolved = *desc;
    status = msae__resolve_model(desc, resolved, model->nesting, model->level_weights, error);
    if (status != MSAE_OK) {
        memset(model, 0, sizeof *model);
        return status;
    }
    model->n_inputs = resolved->n_inputs;
    model->n_latents = resolved->n_latents;
    model->recipe = resolved->recipe;
    model->activation = resolved->activation;
    model->n_levels = resolved->n_levels;
    model->k = resolved->k;
    model->tied = resolved->tied != 0;
    model->normalize = resolved->normalize != 0;
    model->soft_cap = resolved->soft_cap;
    model->weights = resolved->weights;
    model->by_rows = resolved->by_rows != 0;
    model->threshold = -1;
    model->scale = 1;
    model->kernels = msae__kernels_for(resolved->host.simd);
    model->simd = model->kernels->simd;
    model->allocator = resolved->host.allocator;
    model->parallel = resolved->host.parallel;
    return MSAE_OK;
}

/* Bytes of the arrays of a model that has its shape. */
static msae_status msae__shaped_bytes(const msae_model *shaped, size_t *bytes, msae_error *error) {
    msae_model model = *shaped;
    msae__arena arena = msae__arena_over(NULL);
    msae__model_layout(&model, &arena);
    return msae__arena_bytes(&arena, bytes) ? MSAE_OK : msae__fail_memory(error);
}

/* Places for the arrays of a model that has its shape, without values yet; memory NULL: taken from
   its allocator. */
static msae_status msae__model_arrays(msae_model *model, void *memory, size_t bytes,
                                      msae_error *error) {
    msae__arena arena;
    if (!memory) {
        msae_status status = msae__shaped_bytes(model, &bytes, error);
        if (status == MSAE_OK) memory = msae__alloc(&model->allocator, bytes);
        if (!memory) {
            memset(model, 0, sizeof *model);
            return status != MSAE_OK ? status : msae__fail_memory(error);
        }
        model->owns_memory = 1;
    }
    arena = msae__arena_over(memory);
    msae__model_layout(model, &arena);
    model->memory = memory;
    model->memory_bytes = bytes;
    return MSAE_OK;
}

MSAE_API void msae_model_free(msae_model *model) {
    if (model->owns_memory) msae__free(&model->allocator, model->memory, model->memory_bytes);
    memset(model, 0, sizeof *model);
}

/* ---------------------------------------------------------------------------------------------
   >>encoding Encode and decode: raw embeddings in, raw reconstructions out
   ------------------------------------------------------------------------------------------ */

/* Mean and unbiased deviation of a row (0 for d = 1), in double. */
static void msae__moments(const float *x, size_t d, double *mean, double *deviation) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < d; i++) sum += x[i];
    *mean = sum / (double)d;
    for (size_t i = 0; i < d; i++) squares += (x[i] - *mean) * (x[i] - *mean);
    *deviation = d > 1 ? msae__sqrt(squares / (double)(d - 1)) : 0;
}

/* A raw row into the model's space: out = (x - mean) * scale. */
static void msae__to_model_space(const msae_model *model, const float *x, float *out) {
    model->kernels->center(out, x, model->mean, model->scale, model->n_inputs);
}

/* A row of the model's space to what the encoder sees, in place: x = xin - pre_bias. `moments`
   receives what restores the row's own mean and deviation. */
static void msae__to_encoder_input(const msae_model *model, float *x, float moments[2]) {
    const size_t d = model->n_inputs;
    moments[0] = 0;
    moments[1] = 1;
    if (model->normalize) {
        double mean, deviation;
        msae__moments(x, d, &mean, &deviation);
        for (size_t i = 0; i < d; i++) x[i] = (float)((x[i] - mean) / (deviation + 1e-5));
        moments[0] = (float)mean;
        moments[1] = (float)deviation;
    }
    model->kernels->center(x, x, model->pre_bias, 1, d);
}

#define MSAE__INFERENCE_ROWS 64 /* rows of a tile */

/* What every call must have been given. */
static void msae__assert_call(const msae_model *model, const void *workspace, const void *x) {
    (void)model, (void)workspace, (void)x;
    MSAE_ASSERT(model->latent_bias && workspace && x);
}

/* What a worker needs to rank one row. */
typedef struct msae__ranking {
    int32_t *keys, *scratch;  /* [n], [2 cut_room(n)] */
    msae_code *codes, *spare; /* [n] each */
} msae__ranking;

/* A tile of rows on its way through the encoder. */
typedef struct msae__tile {
    const msae_model *model;
    size_t stride;
    float *centred;            /* [rows][stride] */
    float *moments;            /* [rows][2] */
    float *packed;             /* packed rows for the product */
    float *pre;                /* [rows][n] */
    float *panels;             /* for each worker a panel of the product */
    float *probe;              /* for each block of latents */
    msae__ranking rankings[1]; /* of worker 0; those of the others follow at ranking_stride */
    size_t ranking_stride;     /* bytes from one worker's arrays to the next's */
} msae__tile;

/* The arrays of a tile of so many rows and, once for each worker, what it ranks a row in. */
static void msae__tile_layout(msae__tile *tile, const msae_model *model, size_t rows,
                              msae__arena *arena) {
    const size_t n = model->n_latents, workers = msae__workers(&model->parallel);
    size_t start, packed, panel;
    rows = msae__max(1, msae__min(rows, MSAE__INFERENCE_ROWS));
    tile->model = model;
    tile->stride = msae__stride(model->n_inputs);
    tile->centred = MSAE__TAKE(arena, float, rows * tile->stride);
    tile->moments = MSAE__TAKE(arena, float, rows * 2);
    packed = msae__encode_room(model, rows, &panel);
    if (model->weights == MSAE_I8) packed = msae__quantized_floats(rows, model->n_inputs);
    tile->packed = MSAE__TAKE(arena, float, packed);
    tile->pre = MSAE__TAKE(arena, float, rows *n);
    tile->panels = MSAE__TAKE(arena, float, workers *panel);
    tile->probe = MSAE__TAKE(arena, float, msae__ceil_div(n, MSAE__LATENT_BLOCK));
    start = arena->used;
    tile->rankings[0].keys = MSAE__TAKE(arena, int32_t, n);
    tile->rankings[0].scratch = MSAE__TAKE(arena, int32_t, 2 * msae__cut_room(n));
    tile->rankings[0].codes = MSAE__TAKE(arena, msae_code, n);
    tile->rankings[0].spare = MSAE__TAKE(arena, msae_code, n);
    tile->ranking_stride = arena->used - start;
    msae__take(arena, workers - 1, tile->ranking_stride); /* whole lines, as each piece is */
}

static msae__ranking msae__worker_ranking(const msae__tile *tile, size_t worker) {
    msae__ranking ranking = tile->rankings[0];
    const size_t offset = worker * tile->ranking_stride;
    ranking.keys += offset / sizeof *ranking.keys;
    ranking.scratch += offset / sizeof *ranking.scratch;
    ranking.codes += offset / sizeof *ranking.codes;
    ranking.spare += offset / sizeof *ranking.spare;
    return ranking;
}

/* Rows that are already in tile->centred, in the model's space, to pre-activations; 0 when one of
   those is NaN or Inf. */
static int msae__tile_encode(const msae__tile *tile, size_t rows) {
    msae__small_product p =
        msae__small_over(tile->model, tile->centred, tile->stride, rows, tile->packed);
    p.probe = tile->probe;
    p.c = tile->pre;
    for (size_t r = 0; r < rows; r++) {
        msae__to_encoder_input(tile->model, tile->centred + r * tile->stride,
                               tile->moments + 2 * r);
    }
    return msae__encode_rows_to(&p, tile->packed, tile->panels);
}

/* The `room` strongest codes of one row of pre-activations (which are overwritten), by descending
   value, at ranking->codes. They are of the k strongest; k = 0 for the model's own. */
static size_t msae__rank_row(const msae_model *model, float *pre, size_t k, size_t room,
                             const msae__ranking *ranking) {
    const size_t n = model->n_latents;
    size_t count;
    if (room == 0) return 0;
    if (model->recipe == MSAE_RECIPE_JUMPRELU) {
        for (size_t j = 0; j < n; j++) {
            if (!(pre[j] > msae__expf(model->log_threshold[j]))) pre[j] = 0;
        }
    }
    if (k == 0) {
        k = model->k > 0 ? model->k : n;
        if (msae__is_batch_topk(model->recipe)) {
            k = n;
            for (size_t j = 0; j < n; j++) {
                if (!(pre[j] > model->threshold)) pre[j] = 0;
            }
        }
    }
    count = msae__top_codes(model->kernels, pre, n, msae__min(msae__min(k, room), n),
                            model->activation, ranking->codes, ranking->keys, ranking->scratch);
    msae__sort_codes(ranking->codes, count, ranking->spare);
    for (size_t e = 0; e < count && model->soft_cap > 0; e++) {
        ranking->codes[e].value = msae__soft_cap(ranking->codes[e].value, model->soft_cap);
    }
    return count;
}

/* Latents first .. of the row in the tile to pre-activations, `count` of them; 0 when one is NaN or
   Inf. What int8 needs of the row is in tile->packed. */
static int msae__encode_slice(const msae__tile *tile, size_t first, size_t count) {
    const msae_model *model = tile->model;
    float *c = tile->pre + first;
    const msae__small_product p =
        msae__small_over(model, tile->centred, tile->stride, 1, tile->packed);
    msae__small_block(&p, first, count, c);
    return msae__is_finite(
        msae__add_bias(model->kernels, c, model->n_latents, 1, model->latent_bias + first, count));
}

static msae__tile msae__slice_tile(const msae_slices *slices) {
    msae__tile tile;
    msae__arena arena = msae__arena_over(slices->workspace);
    msae__tile_layout(&tile, slices->model, 1, &arena);
    return tile;
}

/* A row in slices: centred once, then some pre-activations a call, then ranked. Between the calls
   all lies in the workspace, whose layout is the same each time. */
MSAE_API void msae_encode_begin(msae_slices *slices, const msae_model *model, void *workspace,
                                const float *x) {
    msae__tile tile;
    msae__assert_call(model, workspace, x);
    slices->model = model;
    slices->workspace = workspace;
    slices->next = 0;
    slices->failed = !msae__row_is_finite(x, model->n_inputs);
    tile = msae__slice_tile(slices);
    if (slices->failed) return;
    msae__to_model_space(model, x, tile.centred);
    msae__to_encoder_input(model, tile.centred, tile.moments);
    if (model->weights == MSAE_I8) {
        msae__quantize_rows(model, tile.centred, tile.stride, 1, tile.packed);
    }
}

/* Up to a multiple of four latents, which a kernel reads side by side. */
MSAE_API size_t msae_encode_some(msae_slices *slices, size_t latents) {
    const size_t n = slices->model->n_latents;
    const msae__tile tile = msae__slice_tile(slices);
    size_t left = n - slices->next;
    if (latents < left) left = msae__min(msae__round_up(latents, 4), left);
    while (left > 0) {
        const size_t count = msae__min(left, MSAE__LATENT_BLOCK);
        if (!slices->failed && !msae__encode_slice(&tile, slices->next, count)) slices->failed = 1;
        slices->next += count;
        left -= count;
    }
    return n - slices->next;
}

/* The codes of a tile's first ranking into the caller's room. */
static void msae__give_codes(const msae__tile *tile, size_t count, msae_code *codes) {
    if (count > 0) memcpy(codes, tile->rankings->codes, count * sizeof *codes);
}

MSAE_API msae_status msae_encode_end(msae_slices *slices, size_t room, msae_code *codes,
                                     size_t *count) {
    const msae__tile tile = msae__slice_tile(slices);
    *count = 0;
    if (slices->next < slices->model->n_latents) return MSAE_ERROR_ARGUMENT;
    if (slices->failed) return MSAE_ERROR_NOT_FINITE;
    *count = msae__rank_row(slices->model, tile.pre, 0, room, tile.rankings);
    msae__give_codes(&tile, *count, codes);
    return MSAE_OK;
}

/* Pre-activations of one row into the tile of a workspace; 0 when there are none. */
static int msae__encode_one(const msae_model *model, void *workspace, const float *x,
                            msae__tile *tile) {
    msae__arena arena = msae__arena_over(workspace);
    msae__assert_call(model, workspace, x);
    if (!msae__row_is_finite(x, model->n_inputs)) return 0;
    msae__tile_layout(tile, model, 1, &arena);
    msae__to_model_space(model, x, tile->centred);
    return msae__tile_encode(tile, 1);
}

/* z = softcap(act(TopK((xin - pre_bias) encoder^T + latent_bias))), with xin = (x - mean) scale,
   less its own mean and by its own deviation where the model normalizes. */
MSAE_API msae_status msae_encode(const msae_model *model, void *workspace, const float *x,
                                 size_t room, msae_code *codes, size_t *count) {
    msae__tile tile;
    *count = 0;
    if (!msae__encode_one(model, workspace, x, &tile)) return MSAE_ERROR_NOT_FINITE;
    *count = msae__rank_row(model, tile.pre, 0, room, tile.rankings);
    msae__give_codes(&tile, *count, codes);
    return MSAE_OK;
}

/* The pre-activation of latent j if it is above `least` (and its own threshold), else 0. */
static float msae__above_level(const msae_model *model, const float *pre, size_t j, float least) {
    const float value = model->activation == MSAE_ACTIVATION_ABS ? fabsf(pre[j]) : pre[j];
    if (!(value > least)) return 0;
    if (model->log_threshold && !(value > msae__expf(model->log_threshold[j]))) return 0;
    return value;
}

/* One pass takes those above the threshold in the latents' order; only where these have no room are
   they ranked. */
MSAE_API msae_status msae_encode_level(const msae_model *model, void *workspace, const float *x,
                                       size_t level, size_t room, msae_code *codes, size_t *count) {
    const size_t n = model->n_latents;
    msae__tile tile;
    size_t above = 0;
    float least;
    *count = 0;
    if (!model->has_level_thresholds || level >= model->n_levels) return MSAE_ERROR_ARGUMENT;
    least = model->level_thresholds[level];
    if (!msae__encode_one(model, workspace, x, &tile)) return MSAE_ERROR_NOT_FINITE;
    for (size_t j = 0; j < n; j++) {
        const float value = msae__above_level(model, tile.pre, j, least);
        if (value == 0) continue;
        if (above < room) {
            codes[above].latent = (uint32_t)j;
            codes[above].value = value;
        }
        above++;
    }
    if (above > room && room > 0) { /* the strongest of them */
        for (size_t j = 0; j < n; j++) tile.pre[j] = msae__above_level(model, tile.pre, j, least);
        above = msae__top_codes(model->kernels, tile.pre, n, room, model->activation,
                                tile.rankings->codes, tile.rankings->keys, tile.rankings->scratch);
        msae__give_codes(&tile, above, codes);
    }
    *count = msae__min(above, room);
    for (size_t e = 0; e < *count && model->soft_cap > 0; e++) {
        codes[e].value = msae__soft_cap(codes[e].value, model->soft_cap);
    }
    return MSAE_OK;
}

/* sum [d] += the decoder rows of `codes`, weighted. */
static void msae__add_small(const msae_model *model, const msae_code *code, float *sum) {
    const msae_kernels *kernels = model->kernels;
    const size_t d = model->n_inputs;
    const unsigned char *row = (const unsigned char *)model->small_decoder;
    if (row) row += code->latent * d * msae_dtype_bytes(model->weights);
    if (model->weights == MSAE_F32) {
        model->kernels->axpy(sum, code->value, model->decoder + code->latent * d, d);
    } else if (model->weights == MSAE_F16) {
        kernels->axpy_half(sum, code->value, row, d);
    } else if (model->weights == MSAE_BF16) {
        kernels->axpy_bfloat(sum, code->value, row, d);
    } else {
        kernels->axpy_int8(sum, code->value * model->decoder_scale[code->latent], row, d);
    }
}

/* sum += the decoder rows of codes times their values; latents that the model has not are ignored.
   */
static void msae__add_codes(const msae_model *model, const msae_code *codes, size_t count,
                            float *sum) {
    if (msae__add_gathered(model, codes, count, sum)) return;
    for (size_t e = 0; e < count; e++) {
        if (codes[e].latent < model->n_latents) msae__add_small(model, &codes[e], sum);
    }
}

/* Sum of decoder rows to a raw row: out = ((sum + pre_bias) * deviation + row mean) / scale +
   mean. */
static void msae__to_raw(const msae_model *model, const float *sum, const float moments[2],
                         float *out) {
    for (size_t i = 0; i < model->n_inputs; i++) {
        float r = (sum[i] + model->pre_bias[i]) * moments[1] + moments[0];
        out[i] = r / model->scale + model->mean[i];
    }
}

MSAE_API void msae_decode(const msae_model *model, const msae_code *codes, size_t count,
                          const float *moments, float *out) {
    const float plain[2] = {0, 1};
    memset(out, 0, model->n_inputs * sizeof *out);
    msae__add_codes(model, codes, count, out);
    msae__to_raw(model, out, moments ? moments : plain, out);
}

MSAE_API void msae_row_moments(const msae_model *model, const float *x, float moments[2]) {
    moments[0] = 0;
    moments[1] = 1;
    if (model->normalize) { /* of (x - mean) * scale, without room for the row itself */
        const size_t d = model->n_inputs;
        double sum = 0, squares = 0, mean;
        for (size_t i = 0; i < d; i++) sum += (x[i] - model->mean[i]) * model->scale;
        mean = sum / (double)d;
        for (size_t i = 0; i < d; i++) {
            double off = (x[i] - model->mean[i]) * model->scale - mean;
            squares += off * off;
        }
        moments[0] = (float)mean;
        moments[1] = d > 1 ? (float)msae__sqrt(squares / (double)(d - 1)) : 0;
    }
}

static double msae__sum_squares(const float *x, size_t d) {
    double sum = 0;
    for (size_t i = 0; i < d; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* Of the codes by descending value those above the threshold, and of these as many as it takes
   until |x - decoded|^2 / |x|^2 is no more than the target, x in the model's space. */
MSAE_API msae_status msae_encode_until(const msae_model *model, void *workspace, const float *x,
                                       const msae_until *until, size_t room, msae_code *codes,
                                       size_t *count, double *missed) {
    const size_t d = model->n_inputs, n = model->n_latents;
    msae__tile tile;
    const msae_code *ranked;
    size_t found, used = 0;
    *count = 0;
    if (!msae__encode_one(model, workspace, x, &tile)) return MSAE_ERROR_NOT_FINITE;
    found = msae__rank_row(model, tile.pre, until->k > 0 ? until->k : n, room, tile.rankings);
    ranked = tile.rankings->codes;
    while (until->threshold > 0 && found > 0 && !(ranked[found - 1].value > until->threshold)) {
        found--;
    }
    if (until->target > 0) {
        /* what is left of the row in the model's space, whose place in the tile is free now */
        float *left = tile.centred;
        double all, share;
        msae__to_model_space(model, x, left);
        all = msae__sum_squares(left, d);
        for (size_t i = 0; i < d; i++) {
            left[i] -= model->pre_bias[i] * tile.moments[1] + tile.moments[0];
        }
        share = all > 0 ? msae__sum_squares(left, d) / all : 0;
        while (used < found && share > (double)until->target) {
            msae_code code = ranked[used++];
            code.value *= -tile.moments[1];
            msae__add_codes(model, &code, 1, left);
            share = msae__sum_squares(left, d) / all;
        }
        if (missed) *missed = share;
        found = used;
    }
    msae__give_codes(&tile, found, codes);
    *count = found;
    return MSAE_OK;
}

/* ---------------------------------------------------------------------------------------------
   >>refining Refined codes: the values that miss least of a row, then better latents
   ------------------------------------------------------------------------------------------ */

#ifndef MSAE_NO_REFINE
/* min |x - pre_bias - sum_j z_j d_j|^2 by coordinate descent: each z_j in turn takes its best value
   while the others stay, z_j += <left, d_j> / |d_j|^2, and what is left of the row goes along. A
   pass over k latents takes 4 k d operations. The Gram matrix of their decoder rows would make
   passes of 2 k^2, but takes k^2 d itself, as much as k / 4 passes: more than are made up to k =
   d / 2, where decoder rows of a row's latents are far from parallel. Beyond, convergence is slow
   and the error next to nothing. */
typedef struct msae__refinement {
    const msae_model *model;
    msae__tile tile; /* centred: what is left of each row; pre: its products with the decoder */
    float *squares;  /* [n]: |d_j|^2 */
    float *spare;    /* [workers][2][stride] */
    size_t first;    /* row of the tile's first */
    int adds;        /* 1: latents enter and drop out */
    size_t passes;   /* of the values that stay */
    const msae_rows *rows;
    msae_rows own;                  /* of a tile, for codes that are refined as they are made */
    size_t k[MSAE__INFERENCE_ROWS]; /* codes that each row came with */
} msae__refinement;

enum {
    MSAE__MAX_PASSES = 100,
    MSAE__FEW_PASSES = 4, /* enough to see what is missed, and which latents add least */
    MSAE__ENTERING = 4    /* of k latents one in so many, at least one */
};

/* Decoder row j as floats, where it lies or in `room`. */
static const float *msae__decoder_row(const msae_model *model, size_t j, float *room) {
    const msae_code one = {(uint32_t)j, 1};
    if (model->weights == MSAE_F32) return model->decoder + j * model->n_inputs;
    memset(room, 0, model->n_inputs * sizeof *room);
    msae__add_small(model, &one, room);
    return room;
}

static float *msae__refine_spare(const msae__refinement *refinement, size_t worker) {
    return refinement->spare + worker * 2 * refinement->tile.stride;
}

/* Takes what codes add off what is left of a row. */
static void msae__take_off(const msae_model *model, const msae_code *codes, size_t count,
                           float *left) {
    for (size_t e = 0; e < count; e++) {
        const msae_code code = {codes[e].latent, -codes[e].value};
        msae__add_small(model, &code, left);
    }
}

static void msae__squares_task(void *context, size_t task, size_t worker) {
    const msae__refinement *refinement = (const msae__refinement *)context;
    const msae_model *model = refinement->model;
    const size_t first = task * MSAE__LATENT_BLOCK;
    const size_t end = msae__min(first + MSAE__LATENT_BLOCK, model->n_latents);
    for (size_t j = first; j < end; j++) {
        const float *row = msae__decoder_row(model, j, msae__refine_spare(refinement, worker));
        refinement->squares[j] = model->kernels->dot(row, row, model->n_inputs);
    }
}

/* One value to its best; returns by how much the squared error falls. */
static float msae__descend_one(const msae__refinement *refinement, msae_code *code, float *left,
                               float *room) {
    const msae_model *model = refinement->model;
    const float square = refinement->squares[code->latent];
    const float most = model->soft_cap > 0 ? model->soft_cap : 3.4e38f;
    const float least = model->activation == MSAE_ACTIVATION_IDENTITY ? -most : 0;
    const float *row = msae__decoder_row(model, code->latent, room);
    float slope, value, change;
    if (!(square > 0)) return 0;
    slope = model->kernels->dot(left, row, model->n_inputs);
    value = code->value + slope / square;
    value = value < least ? least : value > most ? most : value;
    change = value - code->value;
    if (change == 0) return 0;
    model->kernels->axpy(left, -change, row, model->n_inputs);
    code->value = value;
    return change * (2 * slope - change * square);
}

/* Passes until what they would still gain is a small share of the error, by how fast the gain of a
   pass falls, or of the row. */
static void msae__descend(const msae__refinement *refinement, size_t passes, msae_code *codes,
                          size_t count, float *left, float *room) {
    const msae_kernels *kernels = refinement->model->kernels;
    const size_t d = refinement->model->n_inputs;
    const float start = kernels->dot(left, left, d);
    float before = 0;
    for (size_t pass = 0; pass < passes; pass++) {
        float gain = 0, error, rate;
        for (size_t e = 0; e < count; e++) {
            gain += msae__descend_one(refinement, codes + e, left, room);
        }
        error = kernels->dot(left, left, d);
        rate = pass == 0 || gain > before ? 0.99f : gain < 0.5f * before ? 0.5f : gain / before;
        if (gain * rate <= (1 - rate) * (1e-4f * error + 1e-5f * start)) return;
        before = gain;
    }
}

/* To the codes those of other latents that lower the error most, by what is left of the row and its
   products with the decoder. Returns the number of codes with them. */
static size_t msae__enter(const msae__refinement *refinement, float *products, size_t k,
                          msae_code *codes, size_t count, const msae__ranking *ranking) {
    const msae_model *model = refinement->model;
    const size_t n = model->n_latents, wanted = msae__max(k / MSAE__ENTERING, 1);
    const msae_activation of =
        model->activation == MSAE_ACTIVATION_IDENTITY ? MSAE_ACTIVATION_ABS : MSAE_ACTIVATION_RELU;
    size_t found;
    for (size_t j = 0; j < n; j++) {
        const float square = refinement->squares[j], product = products[j];
        products[j] = square > 0 ? product * (product < 0 ? -product : product) / square : 0;
    }
    for (size_t e = 0; e < count; e++) products[codes[e].latent] = 0;
    if (count == n) return count;
    found = msae__top_codes(model->kernels, products, n, msae__min(wanted, n - count), of,
                            codes + count, ranking->keys, ranking->scratch);
    for (size_t e = 0; e < found; e++) codes[count + e].value = 0;
    return count + found;
}

/* Keeps the k codes that add most; what the others added comes back to what is left. */
static size_t msae__drop(const msae__refinement *refinement, float *weights, size_t k,
                         msae_code *codes, size_t count, float *left,
                         const msae__ranking *ranking) {
    const msae_model *model = refinement->model;
    size_t kept, next = 0;
    for (size_t e = 0; e < count; e++) {
        const float value = codes[e].value;
        weights[e] = value * value * refinement->squares[codes[e].latent];
    }
    kept = msae__top_codes(model->kernels, weights, count, k, MSAE_ACTIVATION_RELU, ranking->spare,
                           ranking->keys, ranking->scratch);
    for (size_t e = 0; e < count; e++) {
        if (next < kept && ranking->spare[next].latent == e) {
            codes[next++] = codes[e];
        } else {
            msae__add_small(model, codes + e, left);
        }
    }
    return kept;
}

/* A row's codes to where they came from, but for values of 0, strongest first. */
static void msae__store_refined(const msae__refinement *refinement, size_t row, msae_code *codes,
                                size_t count, msae_code *spare) {
    size_t kept = 0;
    for (size_t e = 0; e < count; e++) {
        codes[kept] = codes[e];
        kept += codes[e].value != 0;
    }
    msae__sort_codes(codes, kept, spare);
    memcpy(refinement->rows->codes + row * refinement->rows->room, codes, kept * sizeof *codes);
    refinement->rows->counts[row] = kept;
}

/* A row's codes are fitted, or exchanged and fitted, and stored if that lowers the error: 1. */
static int msae__refine_row(const msae__refinement *refinement, size_t task, int adds,
                            const msae__ranking *ranking, float *room) {
    const msae_model *model = refinement->model;
    const size_t d = model->n_inputs, row = refinement->first + task, k = refinement->k[task];
    float *left = refinement->tile.centred + task * refinement->tile.stride;
    float *products = refinement->tile.pre + task * model->n_latents;
    float *saved = room + refinement->tile.stride;
    const float before = model->kernels->dot(left, left, d);
    msae_code *codes = ranking->codes;
    size_t count = refinement->rows->counts[row];
    memcpy(codes, refinement->rows->codes + row * refinement->rows->room, count * sizeof *codes);
    memcpy(saved, left, d * sizeof *saved);
    if (adds) {
        count = msae__enter(refinement, products, k, codes, count, ranking);
        msae__descend(refinement, MSAE__FEW_PASSES, codes, count, left, room);
        count = msae__drop(refinement, products, k, codes, count, left, ranking);
    }
    msae__descend(refinement, refinement->passes, codes, count, left, room);
    if (model->kernels->dot(left, left, d) < before) {
        msae__store_refined(refinement, row, codes, count, ranking->spare);
        return 1;
    }
    memcpy(left, saved, d * sizeof *saved);
    return 0;
}

static void msae__refine_task(void *context, size_t task, size_t worker) {
    const msae__refinement *refinement = (const msae__refinement *)context;
    const msae__ranking ranking = msae__worker_ranking(&refinement->tile, worker);
    const msae_rows *rows = refinement->rows;
    const size_t row = refinement->first + task;
    float *room = msae__refine_spare(refinement, worker);
    if (refinement->k[task] == 0) return;
    if (!refinement->adds) {
        msae__take_off(refinement->model, rows->codes + row * rows->room, rows->counts[row],
                       refinement->tile.centred + task * refinement->tile.stride);
    }
    if (!msae__refine_row(refinement, task, refinement->adds, &ranking, room) && refinement->adds) {
        msae__refine_row(refinement, task, 0, &ranking, room);
    }
}

static msae_status msae__check_exchanges(size_t exchanges, msae_error *error) {
    if (exchanges <= MSAE_MAX_EXCHANGES) return MSAE_OK;
    return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "more than",
                         MSAE_MAX_EXCHANGES, " exchanges");
}

/* What a call is given, looked at before anything is changed. */
static msae_status msae__check_refine(const msae_model *model, const float *x, size_t rows,
                                      size_t exchanges, const msae_rows *of, msae_error *error) {
    const msae_status status = msae__check_exchanges(exchanges, error);
    if (status != MSAE_OK) return status;
    for (size_t r = 0; r < rows; r++) {
        if (!msae__row_is_finite(x + r * model->n_inputs, model->n_inputs)) {
            return msae__fail_row(error, r);
        }
        for (size_t e = 0; e < of->counts[r]; e++) {
            const msae_code *code = of->codes + r * of->room + e;
            if (code->latent >= model->n_latents || of->counts[r] > model->n_latents ||
                of->counts[r] > of->room) {
                return msae__fail_at(error, MSAE_ERROR_ARGUMENT, r, "the codes of row", r,
                                     " are not of this model");
            }
            if (!msae__is_finite(code->value)) return msae__fail_row(error, r);
        }
    }
    return MSAE_OK;
}

static void msae__refine_arrays(msae__refinement *refinement, msae__arena *arena) {
    const size_t workers = msae__workers(&refinement->model->parallel);
    refinement->squares = MSAE__TAKE(arena, float, refinement->model->n_latents);
    refinement->spare = MSAE__TAKE(arena, float, workers * 2 * refinement->tile.stride);
}

/* What encodes many rows works in, and with `refines` what refines a tile's codes on their way. */
static void msae__refine_layout(msae__refinement *refinement, const msae_model *model, size_t rows,
                                int refines, msae__arena *arena) {
    const size_t n = model->n_latents, held = msae__max(1, msae__min(rows, MSAE__INFERENCE_ROWS));
    msae__tile_layout(&refinement->tile, model, rows, arena);
    refinement->model = model;
    refinement->rows = &refinement->own;
    refinement->first = 0;
    if (!refines) return;
    msae__refine_arrays(refinement, arena);
    refinement->own.room = n;
    refinement->own.codes = MSAE__TAKE(arena, msae_code, held * n);
    refinement->own.counts = MSAE__TAKE(arena, size_t, held);
}

MSAE__REFINE_API size_t msae_refine_bytes(const msae_model *model, size_t rows) {
    msae__refinement refinement;
    msae__arena arena = msae__arena_over(NULL);
    size_t bytes;
    msae__refine_layout(&refinement, model, rows, 0, &arena);
    msae__refine_arrays(&refinement, &arena);
    return msae__arena_bytes(&arena, &bytes) ? bytes : SIZE_MAX;
}

/* What serves all tiles. */
static void msae__refine_begin(msae__refinement *refinement) {
    const msae_model *model = refinement->model;
    msae__parallel_for(&model->parallel, msae__ceil_div(model->n_latents, MSAE__LATENT_BLOCK),
                       msae__squares_task, refinement);
}

/* The `count` rows in the tile, as the encoder sees them: values, then as many exchanges. */
static void msae__refine_tile(msae__refinement *refinement, size_t count, size_t exchanges) {
    const msae_model *model = refinement->model;
    const msae__tile *tile = &refinement->tile;
    msae__small_product p =
        msae__small_over(model, tile->centred, tile->stride, count, tile->packed);
    p.of_decoder = 1;
    p.c = tile->pre;
    for (size_t r = 0; r < count; r++) {
        refinement->k[r] = refinement->rows->counts[refinement->first + r];
    }
    refinement->adds = 0;
    refinement->passes = exchanges > 0 ? MSAE__FEW_PASSES : MSAE__MAX_PASSES;
    msae__parallel_for(&model->parallel, count, msae__refine_task, refinement);
    for (refinement->adds = 1; exchanges > 0; exchanges--) {
        if (exchanges == 1) refinement->passes = MSAE__MAX_PASSES;
        msae__multiply_rows(&p, tile->packed, tile->panels);
        msae__parallel_for(&model->parallel, count, msae__refine_task, refinement);
    }
}

MSAE__REFINE_API msae_status msae_refine_rows(const msae_model *model, void *workspace,
                                              const float *x, size_t rows, size_t exchanges,
                                              const msae_rows *codes, msae_error *error) {
    msae__refinement refinement;
    msae__arena arena = msae__arena_over(workspace);
    const msae_status status = msae__check_refine(model, x, rows, exchanges, codes, error);
    if (status != MSAE_OK) return status;
    msae__assert_call(model, workspace, rows > 0 ? (const void *)x : workspace);
    msae__refine_layout(&refinement, model, rows, 0, &arena);
    msae__refine_arrays(&refinement, &arena);
    refinement.rows = codes;
    msae__refine_begin(&refinement);
    for (size_t first = 0; first < rows; first += MSAE__INFERENCE_ROWS) {
        const size_t count = msae__min(MSAE__INFERENCE_ROWS, rows - first);
        for (size_t r = 0; r < count; r++) {
            float *row = refinement.tile.centred + r * refinement.tile.stride;
            msae__to_model_space(model, x + (first + r) * model->n_inputs, row);
            msae__to_encoder_input(model, row, refinement.tile.moments + 2 * r);
        }
        refinement.first = first;
        msae__refine_tile(&refinement, count, exchanges);
    }
    return MSAE_OK;
}
#else /* MSAE_NO_REFINE: who asks for them is told */
typedef struct msae__refinement {
    msae__tile tile;
    const msae_rows *rows;
} msae__refinement;

static void msae__refine_layout(msae__refinement *refinement, const msae_model *model, size_t rows,
                                int refines, msae__arena *arena) {
    (void)refines;
    refinement->rows = NULL;
    msae__tile_layout(&refinement->tile, model, rows, arena);
}

static msae_status msae__check_exchanges(size_t exchanges, msae_error *error) {
    (void)exchanges;
    return msae__fail(error, MSAE_ERROR_UNSUPPORTED, "MSAE_NO_REFINE leaves out refined codes");
}

static void msae__refine_begin(msae__refinement *refinement) {
    (void)refinement;
}

static void msae__refine_tile(msae__refinement *refinement, size_t count, size_t exchanges) {
    (void)refinement, (void)count, (void)exchanges;
}
#endif

/* ---------------------------------------------------------------------------------------------
   >>many_rows Inference on many rows: tile by tile, over the workers
   ------------------------------------------------------------------------------------------ */

MSAE_API size_t msae_workspace_bytes(const msae_model *model, size_t rows) {
    msae__refinement refinement;
    msae__arena arena = msae__arena_over(NULL);
    size_t bytes;
    msae__refine_layout(&refinement, model, rows, model->refine > 0, &arena);
    return msae__arena_bytes(&arena, &bytes) ? bytes : SIZE_MAX;
}

/* What becomes of the codes of each row of a set that is encoded tile by tile. */
typedef struct msae__encode_job msae__encode_job;
typedef void (*msae__row_sink)(const msae__encode_job *job, size_t row, size_t tile_row,
                               const msae_code *codes, size_t count, size_t worker);

struct msae__encode_job {
    const msae_model *model;
    const msae__tile *tile;
    const msae_rows *refined; /* a tile's codes on their way; NULL: as encoded */
    size_t first, k;
    size_t room;         /* codes of a row, at most */
    const size_t *names; /* what an error calls the rows of x; NULL: by their place */
    msae__row_sink sink;
    /* for the sinks of the public functions */
    msae_code *codes;
    size_t *counts;
    float *dense;
    const size_t *ks;
    size_t n_ks, rows;
    void *user;
};

static void msae__encode_task(void *context, size_t task, size_t worker) {
    const msae__encode_job *job = (const msae__encode_job *)context;
    const msae_rows *refined = job->refined;
    msae__ranking ranking = msae__worker_ranking(job->tile, worker);
    size_t count = msae__rank_row(job->model, job->tile->pre + task * job->model->n_latents, job->k,
                                  job->room, &ranking);
    if (refined) {
        memcpy(refined->codes + task * refined->room, ranking.codes, count * sizeof(msae_code));
        refined->counts[task] = count;
    } else {
        job->sink(job, job->first + task, task, ranking.codes, count, worker);
    }
}

static void msae__refined_task(void *context, size_t task, size_t worker) {
    const msae__encode_job *job = (const msae__encode_job *)context;
    const msae_rows *refined = job->refined;
    job->sink(job, job->first + task, task, refined->codes + task * refined->room,
              refined->counts[task], worker);
}

static size_t msae__row_name(const size_t *names, size_t row) {
    return names ? names[row] : row;
}

/* Of the tile's rows the first with a pre-activation that is NaN or Inf; there is one. */
static size_t msae__first_overflow(const msae__tile *tile) {
    const size_t n = tile->model->n_latents;
    size_t r = 0;
    while (msae__row_is_finite(tile->pre + r * n, n)) r++;
    return r;
}

/* Encodes x [rows, d] and hands each row's codes to job->sink, over the workers. */
static msae_status msae__encode_all(const msae_model *model, void *workspace, const float *x,
                                    size_t rows, msae__encode_job *job, msae_error *error) {
    const size_t d = model->n_inputs;
    msae__refinement refinement;
    const msae__tile *tile = &refinement.tile;
    msae__arena arena = msae__arena_over(workspace);
    msae__assert_call(model, workspace, rows > 0 ? (const void *)x : workspace);
    if (model->refine > 0) {
        const msae_status status = msae__check_exchanges((size_t)model->refine - 1, error);
        if (status != MSAE_OK) return status;
    }
    msae__refine_layout(&refinement, model, rows, model->refine > 0, &arena);
    job->model = model;
    job->tile = tile;
    job->rows = rows;
    job->refined = model->refine > 0 && job->room > 0 ? refinement.rows : NULL;
    for (size_t r = 0; r < rows; r++) {
        if (!msae__row_is_finite(x + r * d, d)) {
            return msae__fail_row(error, msae__row_name(job->names, r));
        }
    }
    if (job->refined) msae__refine_begin(&refinement);
    for (size_t first = 0; first < rows; first += MSAE__INFERENCE_ROWS) {
        size_t count = msae__min(MSAE__INFERENCE_ROWS, rows - first);
        for (size_t r = 0; r < count; r++) {
            msae__to_model_space(model, x + (first + r) * d, tile->centred + r * tile->stride);
        }
        if (!msae__tile_encode(tile, count)) {
            return msae__fail_overflow(
                error, msae__row_name(job->names, first + msae__first_overflow(tile)));
        }
        job->first = first;
        msae__parallel_for(&model->parallel, count, msae__encode_task, job);
        if (!job->refined) continue;
        msae__refine_tile(&refinement, count, (size_t)model->refine - 1);
        msae__parallel_for(&model->parallel, count, msae__refined_task, job);
    }
    return MSAE_OK;
}

/* A row's codes to its place among the caller's, `room` apart. */
static void msae__sink_codes(const msae__encode_job *job, size_t row, size_t tile_row,
                             const msae_code *codes, size_t count, size_t worker) {
    (void)tile_row, (void)worker;
    if (count > 0) memcpy(job->codes + row * job->room, codes, count * sizeof *codes);
    job->counts[row] = count;
}

MSAE_API msae_status msae_encode_rows(const msae_model *model, void *workspace, const float *x,
                                      size_t rows, size_t k, const msae_rows *out,
                                      msae_error *error) {
    msae__encode_job job;
    memset(&job, 0, sizeof job);
    job.k = k;
    job.room = out->room;
    job.sink = msae__sink_codes;
    job.codes = out->codes;
    job.counts = out->counts;
    return msae__encode_all(model, workspace, x, rows, &job, error);
}

/* A row of n numbers that are zero but for its codes. */
static void msae__sink_dense(const msae__encode_job *job, size_t row, size_t tile_row,
                             const msae_code *codes, size_t count, size_t worker) {
    float *z = job->dense + row * job->model->n_latents;
    (void)tile_row, (void)worker;
    memset(z, 0, job->model->n_latents * sizeof *z);
    for (size_t e = 0; e < count; e++) z[codes[e].latent] = codes[e].value;
}

MSAE_API msae_status msae_encode_dense(const msae_model *model, void *workspace, const float *x,
                                       size_t rows, size_t k, float *z, msae_error *error) {
    msae__encode_job job;
    memset(&job, 0, sizeof job);
    job.k = k;
    job.room = SIZE_MAX;
    job.sink = msae__sink_dense;
    job.dense = z;
    return msae__encode_all(model, workspace, x, rows, &job, error);
}

/* The sum of decoder rows grows from one k to the next: all together cost what the largest does. */
static void msae__sink_forward(const msae__encode_job *job, size_t row, size_t tile_row,
                               const msae_code *codes, size_t count, size_t worker) {
    const msae_model *model = job->model;
    const size_t d = model->n_inputs;
    /* the row's place in the tile is free once its pre-activations are there */
    float *sum = job->tile->centred + tile_row * job->tile->stride;
    size_t done = 0;
    (void)worker;
    memset(sum, 0, d * sizeof *sum);
    for (size_t i = 0; i < job->n_ks; i++) {
        size_t until = msae__min(job->ks[i], count);
        msae__add_codes(model, codes + done, until - done, sum);
        done = until;
        msae__to_raw(model, sum, job->tile->moments + 2 * tile_row,
                     job->dense + (i * job->rows + row) * d);
    }
}

/* ks ascending and within 1 .. n, or the single 0: as the model encodes. */
static msae_status msae__check_ks(const msae_model *model, const size_t *ks, size_t n_ks,
                                  msae_error *error) {
    if (n_ks == 0) return msae__fail(error, MSAE_ERROR_ARGUMENT, "no k is given");
    if (n_ks == 1 && ks[0] == 0) return MSAE_OK;
    return msae__check_ascending(ks, n_ks, model->n_latents, "k =", "the list of k does not ascend",
                                 error);
}

MSAE_API msae_status msae_forward(const msae_model *model, void *workspace, const float *x,
                                  size_t rows, const size_t *ks, size_t n_ks, float *recon,
                                  msae_error *error) {
    msae__encode_job job;
    msae_status status = msae__check_ks(model, ks, n_ks, error);
    if (status == MSAE_OK && model->refine > 0 && n_ks > 1) { /* each k is refined by itself */
        for (size_t i = 0; i < n_ks && status == MSAE_OK; i++) {
            status = msae_forward(model, workspace, x, rows, ks + i, 1,
                                  recon + i * rows * model->n_inputs, error);
        }
        return status;
    }
    if (status != MSAE_OK) return status;
    memset(&job, 0, sizeof job);
    job.k = ks[n_ks - 1];
    job.room = SIZE_MAX;
    job.sink = msae__sink_forward;
    job.dense = recon;
    job.ks = job.k > 0 ? ks : &model->n_latents; /* all that the model keeps */
    job.n_ks = n_ks;
    status = msae__encode_all(model, workspace, x, rows, &job, error);
    for (size_t i = 0; i < n_ks * rows && status == MSAE_OK; i++) {
        const float *row = recon + i * model->n_inputs;
        if (!msae__row_is_finite(row, model->n_inputs)) {
            status = msae__fail_overflow(error, i % rows);
        }
    }
    return status;
}

/* ---------------------------------------------------------------------------------------------
   >>reading Reading: where bytes come from, a strict little parser, safetensors
   ------------------------------------------------------------------------------------------ */

/* Bytes offset .. offset + bytes, which lie within the reader's size. */
static msae_status msae__read_bytes(const msae_reader *reader, uint64_t offset, void *buffer,
                                    size_t bytes, msae_error *error) {
    if (bytes == 0 || reader->read(reader->user, offset, buffer, bytes)) return MSAE_OK;
    return msae__fail_at(error, MSAE_ERROR_IO, offset, "cannot be read at byte", offset, "");
}

static int msae__read_memory(void *user, uint64_t offset, void *buffer, size_t bytes) {
    memcpy(buffer, (const unsigned char *)user + offset, bytes);
    return 1;
}

MSAE_API msae_reader msae_from_memory(const void *bytes, size_t size) {
    void *user = (void *)(uintptr_t)bytes; /* only read */
    const msae_reader reader = {msae__read_memory, user, size, NULL, bytes};
    return reader;
}

/* From open to close a reader can be read; one that was not opened may be closed. */
#ifdef MSAE_NO_STDIO
static msae_status msae__open_reader(msae_reader *reader, msae_error *error) {
    (void)reader, (void)error;
    return MSAE_OK;
}

static void msae__close_reader(msae_reader *reader) {
    memset(reader, 0, sizeof *reader);
}
#else
typedef enum msae__place { MSAE__NOTHING, MSAE__FILE, MSAE__FOLDER, MSAE__DEVICE } msae__place;

/* What is there; nothing where no such question can be asked. */
static msae__place msae__place_at(const char *path) {
#ifdef MSAE__STAT
    struct MSAE__STAT_STRUCT info;
    if (MSAE__STAT(path, &info) == 0) {
        return MSAE__IS_FILE(info.st_mode)     ? MSAE__FILE
               : MSAE__IS_FOLDER(info.st_mode) ? MSAE__FOLDER
                                               : MSAE__DEVICE;
    }
#endif
    (void)path;
    return MSAE__NOTHING;
}

static int msae__seek(FILE *file, uint64_t offset, int from) {
    const MSAE__OFFSET at = (MSAE__OFFSET)offset;
    return at >= 0 && (uint64_t)at == offset && MSAE__SEEK(file, at, from) == 0;
}

static int msae__read_stdio(void *user, uint64_t offset, void *buffer, size_t bytes) {
    FILE *file = (FILE *)user;
    return msae__seek(file, offset, SEEK_SET) && fread(buffer, 1, bytes, file) == bytes;
}

static msae_status msae__open_reader(msae_reader *reader, msae_error *error) {
    FILE *file;
    int64_t size = -1;
    if (!reader->path) return MSAE_OK;
    if (msae__place_at(reader->path) == MSAE__FOLDER) {
        return msae__fail(error, MSAE_ERROR_IO, "is a directory");
    }
    file = MSAE__OPEN(reader->path, "rb");
    if (!file) return msae__fail(error, MSAE_ERROR_IO, "cannot be opened");
    if (msae__seek(file, 0, SEEK_END)) size = MSAE__TELL(file);
    if (size < 0) {
        fclose(file);
        return msae__fail(error, MSAE_ERROR_IO, "its length cannot be told");
    }
    reader->read = msae__read_stdio;
    reader->user = file;
    reader->size = (uint64_t)size;
    return MSAE_OK;
}

static void msae__close_reader(msae_reader *reader) {
    if (reader->path && reader->user) fclose((FILE *)reader->user);
    memset(reader, 0, sizeof *reader);
}

MSAE_API msae_reader msae_from_file(const char *path) {
    const msae_reader reader = {NULL, NULL, 0, path, NULL};
    return reader;
}

MSAE_API msae_status msae_load_file(msae_model *model, const char *path, const msae_load_desc *desc,
                                    msae_error *error) {
    return msae_load(model, msae_from_file(path), desc, error);
}
#endif

/* A cursor over bytes that nobody vouches for. The first failure sticks. */
typedef struct msae__parser {
    const unsigned char *bytes;
    size_t at, end;
    msae_status status;
    msae_error *error;
} msae__parser;

static msae__parser msae__parser_over(const void *bytes, size_t size, msae_error *error) {
    const msae__parser p = {(const unsigned char *)bytes, 0, size, MSAE_OK, error};
    return p;
}

static int msae__parse_fail_at(msae__parser *p, uint64_t position, const char *what) {
    if (p->status == MSAE_OK) p->status = msae__fail_byte(p->error, position, what);
    return 0;
}

static int msae__parse_fail(msae__parser *p, const char *what) {
    return msae__parse_fail_at(p, p->at, what);
}

/* At a text that was read before. */
static int msae__parse_fail_text(msae__parser *p, const char *text, const char *what) {
    return msae__parse_fail_at(p, (uint64_t)((const unsigned char *)text - p->bytes), what);
}

static void msae__parse_space(msae__parser *p) {
    while (p->at < p->end && (p->bytes[p->at] == ' ' || p->bytes[p->at] == '\t' ||
                              p->bytes[p->at] == '\n' || p->bytes[p->at] == '\r')) {
        p->at++;
    }
}

/* Steps over c (after blanks) if it is there. */
static int msae__parse_accept(msae__parser *p, char c) {
    msae__parse_space(p);
    if (p->status != MSAE_OK || p->at >= p->end || p->bytes[p->at] != (unsigned char)c) return 0;
    p->at++;
    return 1;
}

static int msae__parse_expect(msae__parser *p, char c, const char *what) {
    return msae__parse_accept(p, c) || msae__parse_fail(p, what);
}

/* A whole number without sign, leading zeros or overflow. */
static int msae__parse_number(msae__parser *p, uint64_t *number) {
    size_t start;
    msae__parse_space(p);
    start = p->at;
    *number = 0;
    while (p->at < p->end && p->bytes[p->at] >= '0' && p->bytes[p->at] <= '9') {
        uint64_t digit = (uint64_t)(p->bytes[p->at] - '0');
        if (*number > (UINT64_MAX - digit) / 10) {
            return msae__parse_fail_at(p, start, "a number is too large");
        }
        *number = *number * 10 + digit;
        p->at++;
    }
    if (p->at == start) {
        return msae__parse_fail(p, p->at < p->end && p->bytes[p->at] == '-'
                                       ? "a number is negative"
                                       : "a number is missing");
    }
    if (p->at < p->end && p->bytes[p->at] && strchr(".eE", p->bytes[p->at])) {
        return msae__parse_fail_at(p, start, "a number is not whole");
    }
    if (p->bytes[start] == '0' && p->at > start + 1) {
        return msae__parse_fail_at(p, start, "a number starts with zero");
    }
    return 1;
}

/* The length of the UTF-8 sequence at bytes, 0 when it is none. */
static size_t msae__utf8_length(const unsigned char *bytes, size_t left) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = bytes[0] < 0x80             ? 1
                    : (bytes[0] & 0xe0) == 0xc0 ? 2
                    : (bytes[0] & 0xf0) == 0xe0 ? 3
                    : (bytes[0] & 0xf8) == 0xf0 ? 4
                                                : 0;
    uint32_t point;
    if (length == 0 || length > left) return 0;
    if (length == 1) return 1;
    point = bytes[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80) return 0;
        point = point << 6 | (bytes[i] & 0x3fu);
    }
    if (point < least[length] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return 0;
    return length;
}

/* The number in an escape of four hexadecimal digits; above 0xffff when it is none. */
static uint32_t msae__hexadecimal(const unsigned char *at, size_t left) {
    uint32_t number = 0;
    if (left < 6 || at[0] != '\\' || at[1] != 'u') return UINT32_MAX;
    for (size_t i = 2; i < 6; i++) {
        const uint32_t digit = at[i] - (uint32_t)'0', letter = (at[i] | 32u) - (uint32_t)'a';
        if (digit > 9 && letter > 5) return UINT32_MAX;
        number = number << 4 | (digit > 9 ? letter + 10 : digit);
    }
    return number;
}

/* The length of the escape at `at`: a backslash and one of "\\/bfnrt, or u and four hexadecimal
   digits, or two of these, a surrogate pair; 0 when it is none. */
static size_t msae__escape_length(const unsigned char *at, size_t left) {
    uint32_t half;
    if (left > 1 && at[1] && strchr("\"\\/bfnrt", at[1])) return 2;
    half = msae__hexadecimal(at, left) >> 10;
    if (half > 0x3f) return 0;
    if (half >> 1 != 0xd800 >> 11) return 6;
    return half == 0xd800 >> 10 && msae__hexadecimal(at + 6, left - 6) >> 10 == 0xdc00 >> 10 ? 12
                                                                                             : 0;
}

/* A JSON string, or the failure `missing`; the bytes between the quotes, escapes as they
   stand. */
static int msae__parse_string(msae__parser *p, const char *missing, const char **text,
                              size_t *length) {
    size_t start;
    if (!msae__parse_expect(p, '"', missing)) return 0;
    start = p->at;
    while (p->at < p->end && p->bytes[p->at] != '"') {
        const unsigned char c = p->bytes[p->at];
        size_t step = msae__utf8_length(p->bytes + p->at, p->end - p->at);
        if (step == 0) return msae__parse_fail(p, "a string is not UTF-8");
        if (c < 0x20) return msae__parse_fail(p, "a string has a control character");
        if (c == '\\') {
            if (p->at + 1 >= p->end) break;
            step = msae__escape_length(p->bytes + p->at, p->end - p->at);
            if (step == 0) return msae__parse_fail(p, "a string has a bad escape");
        }
        p->at += step;
    }
    *text = (const char *)p->bytes + start;
    *length = p->at - start;
    return msae__parse_expect(p, '"', "a string does not end");
}

static int msae__equals(const char *text, size_t length, const char *word) {
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

/* The names of each enum's values from 0 on. Every name ends with a zero byte, and a list with an
   empty name: that takes less room than a pointer for each. */
static const char *const msae__enum_names[MSAE_ENUM_COUNT] = {
    "default\0msae-uw\0msae-rw\0topk\0batchtopk\0relu\0jumprelu\0msae\0msae-width\0",
    "default\0relu\0identity\0abs\0",
    ("F32\0F16\0BF16\0F64\0I8\0I16\0I32\0I64\0U8\0U16\0U32\0U64\0BOOL\0"
     "F8_E5M2\0F8_E4M3\0F8_E8M0\0F8_E5M2FNUZ\0F8_E4M3FNUZ\0C64\0F6_E2M3\0F6_E3M2\0F4\0"),
    "auto\0scalar\0avx2\0avx512\0neon\0simd128\0",
    "default\0nmse\0mse\0cosine\0",
    "default\0capped\0linear\0cosine\0constant\0trapezoid\0published\0",
    "default\0random\0rows\0",
    "default\0rms\0paper\0none\0",
};

MSAE_API const char *msae_enum_name(msae_enum kind, int value) {
    const char *name = (unsigned)kind < MSAE_ENUM_COUNT ? msae__enum_names[kind] : "";
    for (; value > 0 && *name; value--) name += strlen(name) + 1;
    return value == 0 && *name ? name : "unknown";
}

/* The value whose name is the text of that length, or -1. */
static int msae__enum_value(msae_enum kind, const char *text, size_t length) {
    const char *name = msae__enum_names[kind];
    for (int value = 0; *name; value++) {
        if (msae__equals(text, length, name)) return value;
        name += strlen(name) + 1;
    }
    return -1;
}

MSAE_API int msae_enum_value(msae_enum kind, const char *name) {
    return (unsigned)kind < MSAE_ENUM_COUNT ? msae__enum_value(kind, name, strlen(name)) : -1;
}

#define MSAE__MAX_HEADER 100000000u /* the limit of safetensors, held to for .npy too */

/* {"key":"value",..}, which may be empty, but there once. */
static int msae__parse_metadata(msae__parser *p, msae_safetensors *file) {
    if (!msae__parse_expect(p, '{', "__metadata__ is not an object")) return 0;
    if (msae__parse_accept(p, '}')) return 1;
    do {
        msae_metadata m;
        if (!msae__parse_string(p, "a key of __metadata__ is not a string", &m.key, &m.key_bytes) ||
            !msae__parse_expect(p, ':', "a colon is missing in __metadata__") ||
            !msae__parse_string(p, "a value of __metadata__ is not a string", &m.value,
                                &m.value_bytes)) {
            return 0;
        }
        if (file->metadata) file->metadata[file->n_metadata] = m;
        file->n_metadata++;
    } while (msae__parse_accept(p, ','));
    return msae__parse_expect(p, '}', "__metadata__ does not end");
}

/* "F32" and the other names of msae_dtype. */
static int msae__parse_dtype(msae__parser *p, msae_dtype *dtype) {
    const char *name;
    size_t length, start = p->at;
    int value;
    if (!msae__parse_string(p, "a tensor's dtype is not a string", &name, &length)) return 0;
    value = msae__enum_value(MSAE_ENUM_DTYPE, name, length);
    if (value < 0) return msae__parse_fail_at(p, start, "a tensor's dtype is unknown");
    *dtype = (msae_dtype)value;
    return 1;
}

/* [2,3]: MSAE_MAX_RANK extents at most, each of which fits a size_t; [] is a single value. */
static int msae__parse_shape(msae__parser *p, msae_tensor *tensor) {
    tensor->rank = 0;
    if (!msae__parse_expect(p, '[', "a tensor's shape is not a list")) return 0;
    if (msae__parse_accept(p, ']')) return 1;
    do {
        uint64_t extent;
        size_t start;
        if (tensor->rank == MSAE_MAX_RANK) {
            return msae__parse_fail(p, "a tensor has more than 8 dimensions");
        }
        msae__parse_space(p);
        start = p->at;
        if (!msae__parse_number(p, &extent)) return 0;
        if (extent > SIZE_MAX) return msae__parse_fail_at(p, start, "a dimension is too large");
        tensor->shape[tensor->rank++] = (size_t)extent;
    } while (msae__parse_accept(p, ','));
    return msae__parse_expect(p, ']', "a tensor's shape does not end");
}

/* What a tensor's shape takes; *bytes fits no file if it ends within a byte. 0: it is too large. */
static int msae__shape_bytes(const msae_tensor *tensor, uint64_t *bytes) {
    uint64_t bits = msae__dtype_bits[tensor->dtype];
    for (size_t i = 0; i < tensor->rank; i++) {
        const uint64_t extent = tensor->shape[i];
        if (extent != 0 && bits > UINT64_MAX / extent) return 0;
        bits *= extent;
    }
    *bytes = bits % 8 == 0 ? bits / 8 : UINT64_MAX;
    return 1;
}

/* {"dtype":..,"shape":..,"data_offsets":[begin,end]}, in any order, and nothing else. */
static int msae__parse_tensor(msae__parser *p, uint64_t data_bytes, msae_tensor *tensor) {
    unsigned seen = 0;
    uint64_t begin = 0, end = 0;
    uint64_t bytes;
    size_t start = p->at;
    if (!msae__parse_expect(p, '{', "a tensor is not an object")) return 0;
    do {
        const char *key;
        size_t length;
        unsigned bit;
        if (!msae__parse_string(p, "a key of a tensor is not a string", &key, &length)) return 0;
        if (!msae__parse_expect(p, ':', "a colon is missing in a tensor")) return 0;
        if (msae__equals(key, length, "dtype")) {
            bit = 1;
            if (!msae__parse_dtype(p, &tensor->dtype)) return 0;
        } else if (msae__equals(key, length, "shape")) {
            bit = 2;
            if (!msae__parse_shape(p, tensor)) return 0;
        } else if (msae__equals(key, length, "data_offsets")) {
            bit = 4;
            if (!msae__parse_expect(p, '[', "data_offsets is not a list") ||
                !msae__parse_number(p, &begin) ||
                !msae__parse_expect(p, ',', "data_offsets needs two numbers") ||
                !msae__parse_number(p, &end) ||
                !msae__parse_expect(p, ']', "data_offsets needs two numbers")) {
                return 0;
            }
        } else {
            return msae__parse_fail_text(p, key, "a tensor has an unknown key");
        }
        if (seen & bit) return msae__parse_fail_text(p, key, "a tensor has a key twice");
        seen |= bit;
    } while (msae__parse_accept(p, ','));
    if (!msae__parse_expect(p, '}', "a tensor does not end")) return 0;
    if (!(seen & 1)) return msae__parse_fail_at(p, start, "a tensor lacks its dtype");
    if (!(seen & 2)) return msae__parse_fail_at(p, start, "a tensor lacks its shape");
    if (!(seen & 4)) return msae__parse_fail_at(p, start, "a tensor lacks its data_offsets");
    if (begin > end) return msae__parse_fail_at(p, start, "a tensor ends before it begins");
    if (end > data_bytes) return msae__parse_fail_at(p, start, "a tensor lies outside the file");
    if (!msae__shape_bytes(tensor, &bytes)) {
        return msae__parse_fail_at(p, start, "a tensor is too large");
    }
    if (bytes != end - begin || bytes > SIZE_MAX) {
        return msae__parse_fail_at(p, start, "a tensor's shape does not match its bytes");
    }
    tensor->bytes = (size_t)bytes;
    tensor->offset = p->end + begin;
    return 1;
}

/* {"name":tensor,..}, one of them "__metadata__" if there is any, and blanks to the end. Run twice:
   to count and check, with lists that are NULL, then to fill these. */
static int msae__parse_header(msae__parser *p, uint64_t data_bytes, msae_safetensors *file) {
    int has_metadata = 0;
    file->n_tensors = file->n_metadata = 0;
    if (p->at == p->end) return msae__parse_fail(p, "the header is empty");
    if (!msae__parse_expect(p, '{', "the header does not start with {")) return 0;
    if (!msae__parse_accept(p, '}')) {
        do {
            msae_tensor tensor;
            memset(&tensor, 0, sizeof tensor);
            if (!msae__parse_string(p, "a tensor's name is not a string", &tensor.name,
                                    &tensor.name_bytes) ||
                !msae__parse_expect(p, ':', "a colon is missing in the header")) {
                return 0;
            }
            if (msae__equals(tensor.name, tensor.name_bytes, "__metadata__")) {
                if (has_metadata++) return msae__parse_fail(p, "__metadata__ is there twice");
                if (!msae__parse_metadata(p, file)) return 0;
            } else {
                if (!msae__parse_tensor(p, data_bytes, &tensor)) return 0;
                if (file->tensors) file->tensors[file->n_tensors] = tensor;
                file->n_tensors++;
            }
        } while (msae__parse_accept(p, ','));
        if (!msae__parse_expect(p, '}', "the header does not end")) return 0;
    }
    msae__parse_space(p);
    return p->at == p->end || msae__parse_fail(p, "something follows the header's object");
}

/* Order of two byte strings. */
static int msae__compare_text(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    int order = memcmp(a, b, msae__min(a_bytes, b_bytes));
    if (order != 0) return order;
    return (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

/* Tensors by their names, tensors by their places, notes by their keys. */
static int msae__compare_names(const void *a, const void *b) {
    const msae_tensor *x = (const msae_tensor *)a, *y = (const msae_tensor *)b;
    return msae__compare_text(x->name, x->name_bytes, y->name, y->name_bytes);
}

static int msae__compare_offsets(const void *a, const void *b) {
    const msae_tensor *x = (const msae_tensor *)a, *y = (const msae_tensor *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

static int msae__compare_keys(const void *a, const void *b) {
    const msae_metadata *x = (const msae_metadata *)a, *y = (const msae_metadata *)b;
    return msae__compare_text(x->key, x->key_bytes, y->key, y->key_bytes);
}

static void msae__swap_bytes(unsigned char *a, unsigned char *b, size_t size) {
    unsigned char kept[32];
    while (size > 0) {
        const size_t piece = msae__min(size, sizeof kept);
        memcpy(kept, a, piece);
        memcpy(a, b, piece);
        memcpy(b, kept, piece);
        a += piece;
        b += piece;
        size -= piece;
    }
}

/* Heap sort: no recursion, no memory, no bad case for a hostile file to aim at. */
static void msae__sort(void *items, size_t count, size_t size,
                       int (*compare)(const void *, const void *)) {
    unsigned char *base = (unsigned char *)items;
    size_t start = count / 2, end = count;
    while (end > 1) {
        size_t root, child;
        if (start > 0)
            start--;
        else
            msae__swap_bytes(base, base + --end * size, size);
        for (root = start; (child = 2 * root + 1) < end; root = child) {
            if (child + 1 < end && compare(base + child * size, base + (child + 1) * size) < 0) {
                child++;
            }
            if (compare(base + root * size, base + child * size) >= 0) break;
            msae__swap_bytes(base + root * size, base + child * size, size);
        }
    }
}

/* Names once each, bytes without holes or overlaps up to the end of the file. */
static int msae__check_header(msae__parser *p, msae_safetensors *file, uint64_t size) {
    uint64_t next = p->end;
    msae__sort(file->metadata, file->n_metadata, sizeof *file->metadata, msae__compare_keys);
    for (size_t i = 1; i < file->n_metadata; i++) {
        if (msae__compare_keys(&file->metadata[i - 1], &file->metadata[i]) == 0) {
            return msae__parse_fail_text(p, file->metadata[i].key,
                                         "a key of __metadata__ is there twice");
        }
    }
    msae__sort(file->tensors, file->n_tensors, sizeof *file->tensors, msae__compare_names);
    for (size_t i = 1; i < file->n_tensors; i++) {
        if (msae__compare_names(&file->tensors[i - 1], &file->tensors[i]) == 0) {
            return msae__parse_fail_text(p, file->tensors[i].name,
                                         "a tensor's name is there twice");
        }
    }
    msae__sort(file->tensors, file->n_tensors, sizeof *file->tensors, msae__compare_offsets);
    for (size_t i = 0; i < file->n_tensors; i++) {
        const uint64_t begin = file->tensors[i].offset;
        if (begin != next) {
            return msae__parse_fail_text(p, file->tensors[i].name,
                                         begin < next ? "two tensors overlap"
                                                      : "there is a hole before a tensor");
        }
        next = begin + file->tensors[i].bytes;
    }
    return next == size || msae__parse_fail_at(p, next, "something follows the tensors");
}

/* A safetensors file is the length of its header (8 bytes, little-endian), the header, which is at
   most 100 MB of JSON, and the tensors' bytes. Here: that length, of a file of `size` bytes. */
static int msae__header_length(msae__parser *p, uint64_t size) {
    uint64_t length;
    if (size == 0) return msae__parse_fail(p, "the file is empty");
    if (size < 8) return msae__parse_fail(p, "the header's length is cut off");
    length = msae__load_le(p->bytes, 8);
    if (length > size - 8) return msae__parse_fail(p, "the header is cut off");
    if (length > MSAE__MAX_HEADER) return msae__parse_fail(p, "the header is longer than 100 MB");
    p->at = 8;
    p->end = 8 + (size_t)length;
    return 1;
}

/* The header at p, from byte 8 to its end, of a file of `size` bytes. */
static int msae__open_header(msae__parser *p, msae_safetensors *file, uint64_t size) {
    size_t tensor_bytes;
    if (!msae__parse_header(p, size - p->end, file)) return 0;
    /* the lists are at most a few times as long as the header, which is really there */
    tensor_bytes = msae__round_up(file->n_tensors * sizeof *file->tensors, 16);
    file->memory_bytes = tensor_bytes + file->n_metadata * sizeof *file->metadata + 1;
    file->tensors = (msae_tensor *)msae__alloc(&file->allocator, file->memory_bytes);
    if (!file->tensors) {
        p->status = msae__fail_memory(p->error);
        return 0;
    }
    file->metadata = (msae_metadata *)(void *)((unsigned char *)file->tensors + tensor_bytes);
    p->at = 8;
    return msae__parse_header(p, size - p->end, file) && msae__check_header(p, file, size);
}

/* The header of what an open reader reads: where it lies in memory, else in a copy. */
static msae_status msae__open_tensors(msae_safetensors *file, const msae_reader *reader,
                                      const msae_allocator *allocator, msae_error *error) {
    const unsigned char *memory = (const unsigned char *)reader->memory;
    unsigned char start[8] = {0};
    msae__parser p = msae__parser_over(memory ? memory : start, 0, error);
    memset(file, 0, sizeof *file);
    if (allocator) file->allocator = *allocator;
    if (!memory && reader->size >= sizeof start) {
        p.status = msae__read_bytes(reader, 0, start, sizeof start, error);
    }
    if (p.status != MSAE_OK || !msae__header_length(&p, reader->size)) return p.status;
    if (!memory) {
        file->header_bytes = p.end;
        file->header = msae__alloc(&file->allocator, p.end);
        if (!file->header) return msae__fail_memory(error);
        p.bytes = (const unsigned char *)file->header;
        p.status = msae__read_bytes(reader, 0, file->header, p.end, error);
    }
    if (p.status != MSAE_OK || !msae__open_header(&p, file, reader->size)) {
        msae_safetensors_close(file);
        return p.status;
    }
    for (size_t i = 0; memory && i < file->n_tensors; i++) {
        file->tensors[i].data = memory + file->tensors[i].offset;
    }
    return MSAE_OK;
}

/* Opens the reader and its header, or neither. */
static msae_status msae__begin_reading(msae_reader *reader, msae_safetensors *file,
                                       const msae_allocator *allocator, msae_error *error) {
    msae_status status = msae__open_reader(reader, error);
    if (status == MSAE_OK) status = msae__open_tensors(file, reader, allocator, error);
    if (status != MSAE_OK) msae__close_reader(reader);
    return status;
}

MSAE_API msae_status msae_safetensors_open(msae_safetensors *file, msae_reader reader,
                                           const msae_allocator *allocator, msae_error *error) {
    msae_status status;
    memset(file, 0, sizeof *file);
    status = msae__begin_reading(&reader, file, allocator, error);
    if (status == MSAE_OK) msae__close_reader(&reader);
    return status;
}

MSAE_API void msae_safetensors_close(msae_safetensors *file) {
    msae__free(&file->allocator, file->tensors, file->memory_bytes);
    msae__free(&file->allocator, file->header, file->header_bytes);
    memset(file, 0, sizeof *file);
}

MSAE_API const msae_tensor *msae_safetensors_find(const msae_safetensors *file, const char *name) {
    for (size_t i = 0; i < file->n_tensors; i++) {
        const msae_tensor *tensor = &file->tensors[i];
        if (msae__equals(tensor->name, tensor->name_bytes, name)) return tensor;
    }
    return NULL;
}

MSAE_API const msae_metadata *msae_safetensors_metadata(const msae_safetensors *file,
                                                        const char *key) {
    for (size_t i = 0; i < file->n_metadata; i++) {
        const msae_metadata *m = &file->metadata[i];
        if (msae__equals(m->key, m->key_bytes, key)) return m;
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------
   >>loading Load and map: what a model's file says, and its tensors to their places
   ------------------------------------------------------------------------------------------ */

/* The number at *at, moved past it; 0 with *ok = 0 when there is none. Plain decimal with an
   optional fraction and exponent. */
static double msae__read_float(const char **at, const char *end, int *ok) {
    const char *s = *at;
    double mantissa = 0;
    int exponent = 0, digits = 0, negative = s < end && *s == '-';
    s += negative;
    for (; s < end && *s >= '0' && *s <= '9'; s++, digits++) mantissa = mantissa * 10 + (*s - '0');
    if (s < end && *s == '.') {
        for (s++; s < end && *s >= '0' && *s <= '9'; s++, digits++, exponent--) {
            mantissa = mantissa * 10 + (*s - '0');
        }
    }
    if (digits > 0 && digits < 40 && s < end && *s == 'e') {
        int power = 0, down = 0, power_digits = 0;
        s++;
        if (s < end && (*s == '-' || *s == '+')) down = *s++ == '-';
        for (; s < end && *s >= '0' && *s <= '9' && power < 1000; s++, power_digits++) {
            power = power * 10 + (*s - '0');
        }
        exponent += down ? -power : power;
        if (power_digits == 0) digits = 0;
    }
    if (mantissa > 0) { /* 0 times an infinite power would be NaN */
        mantissa = exponent < 0 ? mantissa / msae__power_of_ten(-exponent)
                                : mantissa * msae__power_of_ten(exponent);
    }
    if (digits == 0 || digits >= 40 || !msae__is_finite_double(mantissa)) {
        *ok = 0;
        return 0;
    }
    *at = s;
    return negative ? -mantissa : mantissa;
}

/* FNV-1a over what the header says (not how it is laid out), so that a changed byte is noticed. */
static uint64_t msae__hash(uint64_t hash, const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    return (hash ^ 0xff) * 0x100000001b3u; /* ends each text */
}

/* Keys of ours in __metadata__ begin so; other programs add keys of their own to a file. Versions
   before 0.6 wrote the same keys without the prefix. */
#define MSAE__PREFIX "msae."
#define MSAE__PREFIX_BYTES (sizeof MSAE__PREFIX - 1)

/* Over metadata sorted by key and tensors sorted by name. Of the metadata it covers our keys (in
   files without prefixes: all) but for the checksum itself. */
static void msae__checksum(const msae_tensor *tensors, size_t n_tensors,
                           const msae_metadata *metadata, size_t n_metadata, int prefixed,
                           char out[17]) {
    const char *own = prefixed ? "msae.checksum" : "checksum";
    uint64_t hash = 0xcbf29ce484222325u;
    msae__text checksum;
    for (size_t i = 0; i < n_metadata; i++) {
        const char *key = metadata[i].key;
        const size_t bytes = metadata[i].key_bytes;
        const int ours =
            bytes >= MSAE__PREFIX_BYTES && !memcmp(key, MSAE__PREFIX, MSAE__PREFIX_BYTES);
        if ((prefixed && !ours) || msae__equals(key, bytes, own)) continue;
        hash = msae__hash(hash, key, bytes);
        hash = msae__hash(hash, metadata[i].value, metadata[i].value_bytes);
    }
    for (size_t i = 0; i < n_tensors; i++) {
        const char *dtype = msae_enum_name(MSAE_ENUM_DTYPE, (int)tensors[i].dtype);
        hash = msae__hash(hash, tensors[i].name, tensors[i].name_bytes);
        hash = msae__hash(hash, dtype, strlen(dtype));
        for (size_t k = 0; k < tensors[i].rank; k++) {
            char buffer[24];
            msae__text text = msae__text_in(buffer, sizeof buffer);
            msae__put_number(&text, tensors[i].shape[k]);
            hash = msae__hash(hash, buffer, strlen(buffer));
        }
    }
    checksum = msae__text_in(out, 17);
    msae__put_hex(&checksum, hash);
}

#define MSAE__MAX_TENSORS 24

/* The tensors of a model or a checkpoint, in the order of their names. Their data is where they are
   in memory: what is saved, and where a file is loaded to. */
typedef struct msae__list {
    msae_tensor tensors[MSAE__MAX_TENSORS];
    size_t n_tensors;
} msae__list;

/* Encoders, and moments of them, are [n, d] in memory and [d, n] in files. */
static int msae__is_transposed(const msae_tensor *tensor) {
    static const char name[] = "encoder";
    const size_t length = sizeof name - 1;
    return tensor->name_bytes >= length &&
           memcmp(tensor->name + tensor->name_bytes - length, name, length) == 0;
}

/* Quantised matrices keep the file's byte order. */
static int msae__is_small(const msae_tensor *tensor) {
    return tensor->dtype == MSAE_F16 || tensor->dtype == MSAE_BF16 || tensor->dtype == MSAE_I8;
}

/* The tensors of a model's file, which lie where the model's arrays are. */
static void msae__list_tensors(const msae_model *model, msae__list *list) {
    const msae__part *part;
    size_t at = 0;
    list->n_tensors = 0;
    while ((part = msae__next_part(model, &at, &list->tensors[list->n_tensors])) != NULL) {
        list->tensors[list->n_tensors++].data = msae__part_values(model, part);
    }
}

static int msae__is_prefixed(const msae_safetensors *file) {
    return msae_safetensors_metadata(file, "msae.format") != NULL;
}

/* The note of a key of ours, given with its prefix, or NULL. */
static const msae_metadata *msae__find_key(const msae_safetensors *file, const char *key) {
    if (!msae__is_prefixed(file)) key += MSAE__PREFIX_BYTES;
    return msae_safetensors_metadata(file, key);
}

/* Reading a model's notes: each helper leaves *ok = 0 when a value is missing or malformed. */
static const msae_metadata *msae__find_note(const msae_safetensors *file, const char *key,
                                            int *ok) {
    const msae_metadata *note = msae__find_key(file, key);
    if (!note) *ok = 0;
    return note;
}

/* A whole number, with nothing before or after it. */
static uint64_t msae__read_number(const msae_safetensors *file, const char *key, int *ok) {
    const msae_metadata *note = msae__find_note(file, key, ok);
    msae__parser p;
    uint64_t number = 0;
    if (!note) return 0;
    p = msae__parser_over(note->value, note->value_bytes, NULL);
    if (!msae__parse_number(&p, &number) || p.at != p.end) *ok = 0;
    return number;
}

static size_t msae__read_size(const msae_safetensors *file, const char *key, int *ok) {
    uint64_t number = msae__read_number(file, key, ok);
    if (number > SIZE_MAX) *ok = 0;
    return (size_t)number;
}

/* Numbers separated by commas; returns how many. */
static size_t msae__read_list(const msae_safetensors *file, const char *key, double *out,
                              size_t room, int *ok) {
    const msae_metadata *note = msae__find_note(file, key, ok);
    const char *at, *end;
    size_t count = 0;
    if (!note) return 0;
    at = note->value;
    end = at + note->value_bytes;
    while (*ok) {
        if (count == room) {
            *ok = 0;
            break;
        }
        out[count++] = msae__read_float(&at, end, ok);
        if (at == end) break;
        if (*at++ != ',') *ok = 0;
    }
    return count;
}

/* A single number, finite as a float. */
static float msae__read_one_float(const msae_safetensors *file, const char *key, int *ok) {
    double value = 0;
    if (msae__read_list(file, key, &value, 1, ok) != 1) *ok = 0;
    if (!msae__is_finite((float)value)) *ok = 0;
    return *ok ? (float)value : 0;
}

/* A value of an enum by its name, from `first` on; no file holds a name that means the default. */
static int msae__read_enum(const msae_safetensors *file, const char *key, msae_enum kind, int first,
                           int *ok) {
    const msae_metadata *note = msae__find_note(file, key, ok);
    const int value = note ? msae__enum_value(kind, note->value, note->value_bytes) : -1;
    if (value >= first) return value;
    *ok = 0;
    return 0;
}

/* 0 or 1. */
static int msae__read_flag(const msae_safetensors *file, const char *key, int *ok) {
    uint64_t value = msae__read_number(file, key, ok);
    if (value > 1) *ok = 0;
    return value == 1;
}

/* `count` numbers of the dtype from byte `offset` on, in the machine's byte order; floats must be
   finite, else *finite = 0. Read in pieces, so that they are checked while in the cache. */
static msae_status msae__read_numbers(const msae_reader *reader, uint64_t offset, size_t count,
                                      msae_dtype dtype, void *out, int *finite, msae_error *error) {
    const size_t size = msae_dtype_bytes(dtype), piece = (size_t)1 << 15;
    unsigned char *at = (unsigned char *)out;
    while (count > 0) {
        const size_t now = msae__min(count, piece);
        msae_status status = msae__read_bytes(reader, offset, at, now * size, error);
        if (status != MSAE_OK) return status;
        for (size_t i = 0; i < now * size && !msae__little_endian(); i += size) {
            const uint64_t bits = msae__load_le(at + i, size);
            for (size_t b = 0; b < size; b++) {
                at[i + b] = (unsigned char)(bits >> 8 * (size - 1 - b));
            }
        }
        if (dtype == MSAE_F32) *finite &= msae__row_is_finite((const float *)(void *)at, now);
        for (size_t i = 0; i < now && dtype == MSAE_F64; i++) {
            double value;
            memcpy(&value, at + i * size, sizeof value);
            *finite &= msae__is_finite_double(value);
        }
        at += now * size;
        offset += now * size;
        count -= now;
    }
    return MSAE_OK;
}

/* Columns of a transposed tensor that are read at once: a row's part of them is a cache line. */
#define MSAE__TRANSPOSED_COLUMNS 16

/* [d, n] from a file to [n, d]. */
static msae_status msae__read_transposed(const msae_reader *reader, const msae_tensor *tensor,
                                         const msae_allocator *allocator, float *out, int *finite,
                                         msae_error *error) {
    const size_t d = tensor->shape[0], n = tensor->shape[1];
    const size_t room = msae__min(d, MSAE__TRANSPOSED_COLUMNS) * n;
    float *columns = (float *)msae__alloc(allocator, room * sizeof *columns);
    msae_status status = MSAE_OK;
    if (!columns) return msae__fail_memory(error);
    for (size_t first = 0; first < d && status == MSAE_OK; first += MSAE__TRANSPOSED_COLUMNS) {
        const size_t width = msae__min(MSAE__TRANSPOSED_COLUMNS, d - first);
        status = msae__read_numbers(reader, tensor->offset + first * n * sizeof *columns, width * n,
                                    MSAE_F32, columns, finite, error);
        for (size_t r = 0; r < n && status == MSAE_OK; r++) {
            for (size_t c = 0; c < width; c++) out[r * d + first + c] = columns[c * n + r];
        }
    }
    msae__free(allocator, columns, room * sizeof *columns);
    return status;
}

/* 0 when a value of a tensor is NaN or Inf. */
static int msae__tensor_is_finite(const msae_tensor *tensor, const void *values) {
    const unsigned char *at = (const unsigned char *)values;
    const unsigned exponent = tensor->dtype == MSAE_F16 ? 0x7c00u : 0x7f80u;
    int finite = 1;
    if (tensor->dtype == MSAE_I8) return 1;
    if (tensor->dtype == MSAE_F32) {
        return msae__row_is_finite((const float *)values, tensor->bytes / sizeof(float));
    }
    for (size_t i = 0; i + 1 < tensor->bytes; i += 2) {
        finite &= ((at[i] | (unsigned)at[i + 1] << 8) & exponent) != exponent;
    }
    return finite;
}

/* The tensors of `wanted` to where they belong in memory, in the order of the file; others that it
   has are passed over. Leaves the file's tensors in that order. */
static msae_status msae__read_tensors(const msae_reader *reader, msae_safetensors *file,
                                      const msae__list *wanted, const msae_allocator *allocator,
                                      msae_error *error) {
    msae__sort(file->tensors, file->n_tensors, sizeof *file->tensors, msae__compare_offsets);
    for (size_t i = 0; i < file->n_tensors; i++) {
        const msae_tensor *tensor = &file->tensors[i];
        const char *name = NULL;
        void *out = NULL;
        int finite = 1;
        msae_status status;
        for (size_t w = 0; w < wanted->n_tensors && !name; w++) {
            if (msae__compare_names(&wanted->tensors[w], tensor) != 0) continue;
            name = wanted->tensors[w].name;
            out = (void *)(uintptr_t)wanted->tensors[w].data; /* an array of the model's own */
        }
        if (!name) continue;
        if (msae__is_small(tensor)) {
            status = msae__read_bytes(reader, tensor->offset, out, tensor->bytes, error);
            if (status == MSAE_OK) finite = msae__tensor_is_finite(tensor, out);
        } else if (msae__is_transposed(tensor)) {
            status = msae__read_transposed(reader, tensor, allocator, (float *)out, &finite, error);
        } else {
            status = msae__read_numbers(reader, tensor->offset,
                                        tensor->bytes / msae_dtype_bytes(tensor->dtype),
                                        tensor->dtype, out, &finite, error);
        }
        if (status != MSAE_OK) return status;
        if (!finite) {
            return msae__fail_text(error, MSAE_ERROR_NOT_FINITE, tensor->offset, "tensor ", name,
                                   " has a NaN or Inf");
        }
    }
    return MSAE_OK;
}

/* Whether a file is of the kind that its notes must name, with tensors and notes of ours that
   nobody has changed: one that msae.h wrote says its version and has a checksum; others may leave
   out both. Leaves the file's tensors in the order of their names. */
static msae_status msae__check_kind(msae_safetensors *file, const char *kind, const char *wrong,
                                    msae_error *error) {
    char checksum[17];
    const int prefixed = msae__is_prefixed(file);
    const msae_metadata *format = msae__find_key(file, "msae.format");
    const msae_metadata *sum = msae__find_key(file, "msae.checksum");
    if (!format || !msae__equals(format->value, format->value_bytes, kind)) {
        return msae__fail(error, MSAE_ERROR_FORMAT, wrong);
    }
    if (sum) {
        msae__sort(file->tensors, file->n_tensors, sizeof *file->tensors, msae__compare_names);
        msae__checksum(file->tensors, file->n_tensors, file->metadata, file->n_metadata, prefixed,
                       checksum);
        if (!msae__equals(sum->value, sum->value_bytes, checksum)) {
            return msae__fail(error, MSAE_ERROR_FORMAT, "the header does not match its checksum");
        }
    } else if (msae_safetensors_metadata(file, prefixed ? "msae.version" : "msae_version")) {
        return msae__fail(error, MSAE_ERROR_FORMAT, "the header's checksum is missing");
    }
    return MSAE_OK;
}

/* What a file says of the training of a model: the weights of its levels and its history. */
static void msae__read_training(const msae_safetensors *file, msae_model_desc *desc, float *weights,
                                msae_history *history, int *ok);

/* What a model's header says. Leaves the file's tensors in the order of their names. */
static msae_status msae__read_shape(msae_safetensors *file, msae_model_desc *desc, size_t *nesting,
                                    float *weights, msae_history *history, msae_error *error) {
    double values[MSAE_MAX_LEVELS];
    int ok = 1;
    msae_status status = msae__check_kind(file, "msae", "is not a model of msae.h", error);
    if (status != MSAE_OK) return status;
    memset(desc, 0, sizeof *desc);
    desc->n_inputs = msae__read_size(file, "msae.n_inputs", &ok);
    desc->n_latents = msae__read_size(file, "msae.n_latents", &ok);
    desc->recipe = (msae_recipe)msae__read_enum(file, "msae.recipe", MSAE_ENUM_RECIPE, 1, &ok);
    desc->activation =
        (msae_activation)msae__read_enum(file, "msae.activation", MSAE_ENUM_ACTIVATION, 1, &ok);
    desc->tied = msae__read_flag(file, "msae.tied", &ok);
    desc->normalize = msae__read_flag(file, "msae.normalize", &ok);
    desc->soft_cap = msae__read_one_float(file, "msae.soft_cap", &ok);
    desc->n_levels = msae__read_list(file, "msae.nesting", values, MSAE_MAX_LEVELS, &ok);
    for (size_t i = 0; ok && i < desc->n_levels; i++) {
        if (!(values[i] >= 1 && values[i] <= (double)desc->n_latents) ||
            values[i] != (double)(size_t)values[i])
            ok = 0;
        else
            nesting[i] = (size_t)values[i];
    }
    if (msae__find_key(file, "msae.weights")) {
        const int type = msae__read_enum(file, "msae.weights", MSAE_ENUM_DTYPE, 0, &ok);
        if (type > MSAE_BF16 && type != MSAE_I8) ok = 0;
        desc->weights = (msae_dtype)type;
        desc->by_rows = 1;
    }
    memset(history, 0, sizeof *history);
    msae__read_training(file, desc, weights, history, &ok);
    if (desc->recipe == MSAE_RECIPE_MSAE_WIDTH ||
        (msae__has_k(desc->recipe) && msae__find_key(file, "msae.k"))) {
        desc->k = msae__read_size(file, "msae.k", &ok);
        if (desc->k == 0) ok = 0;
    }
    if (!ok) {
        return msae__fail(error, MSAE_ERROR_FORMAT, "a hyper-parameter is missing or malformed");
    }
    desc->nesting = nesting;
    if (desc->k == 0 && msae__has_k(desc->recipe)) { /* a file that does not say it */
        desc->k = msae__is_nested(desc->recipe) ? msae__default_k(desc->recipe, desc->n_latents)
                                                : nesting[0];
    }
    return MSAE_OK;
}

/* Every tensor that is wanted is in the file with its type and shape. */
static msae_status msae__check_tensors(const msae_safetensors *file, const msae__list *wanted,
                                       msae_error *error) {
    for (size_t i = 0; i < wanted->n_tensors; i++) {
        const msae_tensor *want = &wanted->tensors[i];
        const msae_tensor *have = msae_safetensors_find(file, want->name);
        int same = have && have->dtype == want->dtype && have->rank == want->rank;
        for (size_t k = 0; same && k < want->rank; k++) same = have->shape[k] == want->shape[k];
        if (!same) {
            return msae__fail_text(error, MSAE_ERROR_FORMAT, have ? have->offset : MSAE_NO_POSITION,
                                   "tensor ", want->name,
                                   have ? " has another type or shape than the header says"
                                        : " is missing");
        }
    }
    return MSAE_OK;
}

static msae_status msae__check_scale(const msae_model *model, msae_error *error) {
    if (model->scale > 0) return MSAE_OK;
    return msae__fail(error, MSAE_ERROR_FORMAT, "the scale is not positive");
}

/* A model without arrays whose shape a file has told, and which holds all that it must. */
static msae_status msae__open_model(msae_model *model, msae_safetensors *file,
                                    const msae_load_desc *load, msae__list *wanted,
                                    msae_error *error) {
    size_t nesting[MSAE_MAX_LEVELS] = {0};
    float weights[MSAE_MAX_LEVELS] = {0};
    msae_model_desc desc, resolved;
    msae_history history;
    msae_status status = msae__read_shape(file, &desc, nesting, weights, &history, error);
    if (status != MSAE_OK) return status;
    if (load) desc.host = load->host;
    status = msae__model_shape(model, &desc, &resolved, error);
    if (status != MSAE_OK) return status;
    model->history = history;
    model->has_level_thresholds = msae_safetensors_find(file, "level_thresholds") != NULL;
    msae__list_tensors(model, wanted);
    return msae__check_tensors(file, wanted, error);
}

/* Tensors are used where they lie, so that they must be by rows, little-endian and floats aligned;
   what the struct itself holds is copied. */
static msae_status msae__map_model(msae_model *model, msae_safetensors *file,
                                   const msae_load_desc *load, msae_error *error) {
    const msae__part *part;
    msae_tensor tensor;
    msae__list wanted;
    size_t at = 0;
    msae_status status = msae__open_model(model, file, load, &wanted, error);
    if (status != MSAE_OK) return status;
    if (!model->by_rows || !msae__little_endian()) {
        return msae__fail(error, MSAE_ERROR_UNSUPPORTED,
                          "a model by columns, or one on a big-endian machine, has to be loaded");
    }
    while ((part = msae__next_part(model, &at, &tensor)) != NULL) {
        const void *values = msae_safetensors_find(file, part->name)->data;
        if (tensor.dtype == MSAE_F32 && (uintptr_t)values % sizeof(float) != 0) {
            return msae__fail(error, MSAE_ERROR_ARGUMENT, "the memory is not aligned to 4 bytes");
        }
        if (load && load->check && !msae__tensor_is_finite(&tensor, values)) {
            return msae__fail(error, MSAE_ERROR_NOT_FINITE, "a weight is NaN or Inf");
        }
        if (part->shape > MSAE__LEVELS) {
            msae__set_part(model, part, values); /* never written */
        } else {
            memcpy(msae__part_values(model, part), values, tensor.bytes);
        }
    }
    msae__tie(model);
    if (!msae__is_finite(model->scale)) {
        return msae__fail(error, MSAE_ERROR_NOT_FINITE, "the scale is NaN or Inf");
    }
    return msae__check_scale(model, error);
}

MSAE_API msae_status msae_map(msae_model *model, const void *bytes, size_t size,
                              const msae_load_desc *desc, msae_error *error) {
    msae_safetensors file;
    msae_status status;
    memset(model, 0, sizeof *model);
    status = msae_safetensors_open(&file, msae_from_memory(bytes, size),
                                   desc ? &desc->host.allocator : NULL, error);
    if (status != MSAE_OK) return status;
    status = msae__map_model(model, &file, desc, error);
    msae_safetensors_close(&file);
    if (status != MSAE_OK) memset(model, 0, sizeof *model);
    return status;
}

/* Shape, memory, values, then floats by columns where these are wished for. */
static msae_status msae__load_model(msae_model *model, msae_safetensors *file,
                                    const msae_reader *reader, const msae_load_desc *load,
                                    msae_error *error) {
    msae__list wanted;
    msae_status status;
    /* first without arrays: nothing is allocated before the file has shown what fills it */
    status = msae__open_model(model, file, load, &wanted, error);
    if (status == MSAE_OK) status = msae__model_arrays(model, NULL, 0, error);
    if (status == MSAE_OK) {
        msae__list_tensors(model, &wanted);
        status = msae__read_tensors(reader, file, &wanted, &model->allocator, error);
    }
    if (status == MSAE_OK) status = msae__check_scale(model, error);
    if (status == MSAE_OK && load && load->widen && model->by_rows) {
        status = msae__widen(model, error);
    }
    return status;
}

MSAE_API msae_status msae_load(msae_model *model, msae_reader reader, const msae_load_desc *desc,
                               msae_error *error) {
    msae_safetensors file;
    msae_status status;
    memset(model, 0, sizeof *model);
    status = msae__begin_reading(&reader, &file, desc ? &desc->host.allocator : NULL, error);
    if (status != MSAE_OK) return status;
    status = msae__load_model(model, &file, &reader, desc, error);
    msae_safetensors_close(&file);
    msae__close_reader(&reader);
    if (status != MSAE_OK) msae_model_free(model);
    return status;
}

/* ==============================================================================================
   End of the run part, but for what it has in a smaller form of its own
   ============================================================================================ */
#ifdef MSAE_RUN_ONLY

/* ---------------------------------------------------------------------------------------------
   >>small The small forms of a program that only runs models: no texts of errors, nothing of the
   library of mathematics, one row at a time
   ------------------------------------------------------------------------------------------ */

/* The texts of failures would be a tenth of the object: the code and the position have to do. */
static msae_status msae__fail_at(msae_error *error, msae_status code, uint64_t position,
                                 const char *what, uint64_t number, const char *after) {
    (void)what, (void)number, (void)after;
    if (error) {
        const char *text = msae_status_text(code);
        error->code = code;
        error->position = position;
        memcpy(error->message, text, strlen(text) + 1);
    }
    return code;
}

static msae_status msae__fail_text(msae_error *error, msae_status code, uint64_t position,
                                   const char *what, const char *name, const char *after) {
    (void)name;
    return msae__fail_at(error, code, position, what, 0, after);
}

static msae_status msae__fail_byte(msae_error *error, uint64_t position, const char *what) {
    return msae__fail_at(error, MSAE_ERROR_FORMAT, position, what, 0, NULL);
}

/* Newton's iteration, from half the exponent. */
static double msae__sqrt(double value) {
    uint64_t bits;
    double root;
    if (!(value > 0)) return 0;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits >> 1) + ((uint64_t)0x1ff8 << 48);
    memcpy(&root, &bits, sizeof root);
    for (int i = 0; i < 5; i++) root = 0.5 * (root + value / root);
    return root;
}

/* 2^n times the series of e^r, |r| <= ln 2 / 2, for |value| < 600; to about 1e-12. */
static double msae__exp(double value) {
    const double turns = value * 1.4426950408889634;
    const int n = (int)(turns < 0 ? turns - 0.5 : turns + 0.5);
    const uint64_t bits = (uint64_t)(n + 1023) << 52;
    double sum = 1, power;
    value -= n * 0.6931471805599453;
    for (int i = 11; i > 0; i--) sum = 1 + sum * value / i;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

static float msae__expf(float value) {
    if ((msae__float_bits(value) & 0x7fffffffu) > 0x7f800000u) return value; /* NaN stays one */
    if (value > 88.72283f) return msae__bits_float(0x7f800000u);
    return value < -104 ? 0 : (float)msae__exp((double)value);
}

static float msae__tanhf(float value) {
    const double v = (double)value;
    if (fabs(v) < 1e-3) return (float)(v - v * v * v / 3);
    if (fabs(v) > 20) return v < 0 ? -1.0f : 1.0f;
    return (float)(1 - 2 / (msae__exp(2 * v) + 1));
}

static double msae__power_of_ten(int n) {
    double power = 1;
    for (int i = 0; i < n; i++) power *= 10;
    return power;
}

#define MSAE__ENTRY(name) MSAE__K(name),
#define MSAE__K(name) msae__scalar_##name
static const msae_kernels msae__scalar_kernels = {
    MSAE_SIMD_SCALAR, MSAE__RUN_KERNELS(MSAE__ENTRY) msae__scalar_between, NULL};
#undef MSAE__K

#define MSAE__STAGE MSAE__SMALL_STAGE
#include MSAE_HEADER

static size_t msae__select(const msae_kernels *kernels, const unsigned char *keys, size_t n,
                           size_t k, int32_t lowest, msae_code *codes, int32_t *scratch) {
    int32_t largest = lowest;
    msae__cut cut = {0, 0, 0};
    const size_t count = kernels->between(scratch, keys, n, lowest, INT32_MAX, &largest);
    cut.key = lowest;
    if (k < count) cut = msae__cut_many(scratch, count, k);
    return msae__codes_above(keys, n, k, cut, codes);
}

/* Codes by descending value, equal ones by latent: insertion with gaps (Shell, by Knuth's). */
static void msae__sort_codes(msae_code *codes, size_t count, msae_code *spare) {
    (void)spare;
    for (size_t gap = 797161; gap > 0; gap /= 3) { /* (3^13 - 1) / 2, and so are those below it */
        for (size_t i = gap; i < count; i++) {
            const msae_code code = codes[i];
            size_t at = i;
            for (; at >= gap; at -= gap) {
                const msae_code *before = &codes[at - gap];
                if (before->value > code.value ||
                    (before->value == code.value && before->latent < code.latent)) {
                    break;
                }
                codes[at] = *before;
            }
            codes[at] = code;
        }
    }
}

/* Of what a file says: there are no defaults. */
static msae_status msae__resolve_model(const msae_model_desc *desc, msae_model_desc *resolved,
                                       size_t *levels, float *weights, msae_error *error) {
    msae_status status = msae__check_sizes(desc, error);
    if (status == MSAE_OK) status = msae__check_values(desc, error);
    if (status != MSAE_OK) return status;
    memset(weights, 0, MSAE_MAX_LEVELS * sizeof *weights);
    *resolved = *desc;
    if (msae__is_nested(desc->recipe) || desc->recipe == MSAE_RECIPE_MSAE_WIDTH) {
        return msae__check_levels(desc, levels, error);
    }
    resolved->n_levels = 1;
    levels[0] = msae__has_k(desc->recipe) ? desc->k : desc->n_latents;
    return MSAE_OK;
}

static size_t msae__encode_room(const msae_model *model, size_t rows, size_t *panels) {
    (void)model, (void)rows;
    return *panels = 0;
}

static int msae__encode_packed(const msae__small_product *p, float *packed, float *panels) {
    (void)p, (void)packed, (void)panels;
    return 0;
}

static int msae__add_gathered(const msae_model *model, const msae_code *codes, size_t count,
                              float *sum) {
    (void)model, (void)codes, (void)count, (void)sum;
    return 0;
}

static msae_status msae__widen(msae_model *model, msae_error *error) {
    (void)model;
    return msae__fail(error, MSAE_ERROR_UNSUPPORTED, "this build does not widen weights");
}

static void msae__read_training(const msae_safetensors *file, msae_model_desc *desc, float *weights,
                                msae_history *history, int *ok) {
    (void)file, (void)desc, (void)weights, (void)history, (void)ok;
}

#else /* with MSAE_RUN_ONLY that was all */
/* ==============================================================================================
   What trains, and what looks into a model, with what both need
   ============================================================================================ */

/* ---------------------------------------------------------------------------------------------
   >>errors Base of all that is not run: errors with a text, the library of mathematics
   ------------------------------------------------------------------------------------------ */

/* The lowest `count` bytes of a number, the lowest first. */
static void msae__store_le(unsigned char *bytes, size_t count, uint64_t value) {
    for (size_t i = 0; i < count; i++) bytes[i] = (unsigned char)(value >> (8 * i));
}

static void msae__put(msae__text *text, const char *string) {
    msae__put_bytes(text, string, strlen(string));
}

/* Fills *error but for its text, which is begun; 0 when nobody asks for it. */
static int msae__begin_error(msae_error *error, msae_status code, uint64_t position,
                             msae__text *text) {
    if (!error) return 0;
    error->code = code;
    error->position = position;
    *text = msae__text_in(error->message, sizeof error->message);
    return 1;
}

/* "what", or "what number after" when `after` is given. */
static msae_status msae__fail_at(msae_error *error, msae_status code, uint64_t position,
                                 const char *what, uint64_t number, const char *after) {
    msae__text text;
    if (!msae__begin_error(error, code, position, &text)) return code;
    msae__put(&text, what);
    if (after) {
        msae__put(&text, " ");
        msae__put_number(&text, number);
        msae__put(&text, after);
    }
    return code;
}

/* "what name after". */
static msae_status msae__fail_text(msae_error *error, msae_status code, uint64_t position,
                                   const char *what, const char *name, const char *after) {
    msae__text text;
    if (!msae__begin_error(error, code, position, &text)) return code;
    msae__put(&text, what);
    msae__put(&text, name);
    msae__put(&text, after);
    return code;
}

/* "what (byte position)". */
static msae_status msae__fail_byte(msae_error *error, uint64_t position, const char *what) {
    msae__text text;
    if (!msae__begin_error(error, MSAE_ERROR_FORMAT, position, &text)) return MSAE_ERROR_FORMAT;
    msae__put(&text, what);
    msae__put(&text, " (byte ");
    msae__put_number(&text, position);
    msae__put(&text, ")");
    return MSAE_ERROR_FORMAT;
}

/* The library of mathematics, where the run part has forms of its own. */
static double msae__sqrt(double value) {
    return sqrt(value);
}

static float msae__expf(float value) {
    return expf(value);
}

static float msae__tanhf(float value) {
    return tanhf(value);
}

static double msae__power_of_ten(int n) {
    return pow(10, n);
}

/* Several processes, each of which must come here. */
static int msae__is_collective(const msae_collective *collective) {
    return collective && collective->ranks > 1;
}

/* Several processes need both sums, and this one a number among them. */
static msae_status msae__check_collective(const msae_collective *collective, msae_error *error) {
    if (msae__is_collective(collective) &&
        (collective->ranks > MSAE_MAX_RANKS || collective->rank >= collective->ranks ||
         !collective->sum_floats || !collective->sum_doubles)) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT,
                          "the collective lacks a sum, or its rank is out of range");
    }
    return MSAE_OK;
}

static msae_status msae__fail_collective(msae_error *error) {
    return msae__fail(error, MSAE_ERROR_IO, "the other processes cannot be reached");
}

/* Sums values [count] over the processes and tells each whether one of them has failed, so that
   none waits for it; there is room for one more value. Alone it returns the status it got. */
static msae_status msae__agree(const msae_collective *collective, msae_status status,
                               double *values, size_t count, msae_error *error) {
    if (!msae__is_collective(collective)) return status;
    values[count] = status != MSAE_OK;
    if (!collective->sum_doubles(collective->user, values, count + 1)) {
        return status != MSAE_OK ? status : msae__fail_collective(error);
    }
    if (status == MSAE_OK && values[count] > 0) {
        return msae__fail(error, MSAE_ERROR_STOPPED, "another process failed");
    }
    return status;
}

/* The same with nothing to sum: whether all are well. */
static msae_status msae__agree_on(const msae_collective *collective, msae_status status,
                                  msae_error *error) {
    double failed[1];
    return msae__agree(collective, status, failed, 0, error);
}

/* ---------------------------------------------------------------------------------------------
   >>random Random numbers: xoshiro256** (Blackman and Vigna 2018), seeded by splitmix64

   Whole numbers alone, so that a seed gives the same sequence on every machine. Its four words of
   state are stored in checkpoints.
   ------------------------------------------------------------------------------------------ */

/* The bits that leave at the top come in at the bottom. */
static uint64_t msae__rotl(uint64_t value, int bits) {
    return value << bits | value >> (64 - bits);
}

/* Splitmix64: four steps from the seed, each well mixed, so that seeds that differ in one bit give
   states that differ in half of theirs, and none gives the state of zeros, which would stay one. */
static void msae__seed(uint64_t state[4], uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        uint64_t mixed = seed += 0x9e3779b97f4a7c15u;
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
        state[i] = mixed ^ mixed >> 31;
    }
}

/* The next 64 bits, and the state one step on. */
static uint64_t msae__random(uint64_t state[4]) {
    uint64_t result = msae__rotl(state[1] * 5, 7) * 9, shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = msae__rotl(state[3], 45);
    return result;
}

/* Uniform in [-1, 1): the upper 24 bits, which a float holds exactly, in steps of 2^-23. */
static float msae__random_symmetric(uint64_t state[4]) {
    return (float)(msae__random(state) >> 40) * (1.0f / 8388608.0f) - 1.0f;
}

/* ---------------------------------------------------------------------------------------------
   >>heap The strongest of many: rows of a latent, words of a name, neighbours, missed rows

   A binary heap, with the weakest of what is kept first: what is at i comes behind what is at
   2 i + 1 and 2 i + 2. One comparison turns away what is weaker than all of it, log2(top) of them
   take in what is not.
   ------------------------------------------------------------------------------------------ */

/* 1 when a comes before b: the higher value, of equal ones the lower row. */
static int msae__hit_before(msae_hit a, msae_hit b) {
    return a.value > b.value || (a.value == b.value && a.row < b.row);
}

/* Moves the hit at `at` to where it belongs in a heap [count] whose first is the last of all. */
static void msae__sift_hit(msae_hit *heap, size_t count, size_t at) {
    const msae_hit hit = heap[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && msae__hit_before(heap[child], heap[child + 1])) child++;
        if (msae__hit_before(heap[child], hit)) break;
        heap[at] = heap[child];
    }
    heap[at] = hit;
}

/* Keeps the `top` first of all hits that are offered in heap [*count], *count <= top; 1 when this
   one is kept. Only a full heap is in order: until then hits stand as they came. */
MSAE__SHARED int msae__offer_hit(msae_hit *heap, size_t *count, size_t top, size_t row,
                                 float value) {
    msae_hit hit;
    hit.row = row;
    hit.value = value;
    if (*count == top) {
        if (!msae__hit_before(hit, heap[0])) return 0;
        heap[0] = hit;
        msae__sift_hit(heap, top, 0);
        return 1;
    }
    heap[(*count)++] = hit;
    for (size_t at = *count < top ? 0 : top / 2; at-- > 0;) msae__sift_hit(heap, top, at);
    return 1;
}

/* ---------------------------------------------------------------------------------------------
   >>batch_scalar Kernels of batches and of training: the scalar reference
   ------------------------------------------------------------------------------------------ */

/* What AdamW and the published decoder constraint do to one row of parameters in one pass:
       p = p * rescale;  g = (g - project * p) * clip;
       m = beta1 m + rest1 g;  v = beta2 v + rest2 g^2;
       p = p * decay - rate * m / (sqrt(v) * root + eps)
   with rest = 1 - beta, rate = lr / (1 - beta1^t) and root = 1 / sqrt(1 - beta2^t). The rests come
   from memory, because -ffast-math turns beta v + (1 - beta) g into g + beta (v - g), which
   cancels. Moments too small to matter are set to zero: denormal numbers would slow every later
   step down. */
typedef struct msae__adam {
    float clip, beta1, beta2, rest1, rest2, decay, rate, root, eps;
} msae__adam;

#define MSAE__TINY_M 1e-30f
#define MSAE__TINY_V 1e-35f

/* Training cuts its matrices into blocks of MSAE__LATENT_BLOCK latents and panels of columns, so
   that what a kernel reads again and again stays in the first-level cache: a panel of a block is
   32 KB. */
#define MSAE__PANEL 64

/* A row's kept latents in a block are bytes: the latent within the block, and whether the
   activation abs has turned its sign. */
#define MSAE__LATENT 0x7fu
#define MSAE__NEGATIVE 0x80u

/* The kernels of batches and of training. A path's whole table begins with those that run a model.
   */
#define MSAE__BATCH_KERNELS(X) \
    X(from_half)               \
    X(pack)                    \
    X(gemm) X(gather_axpy) X(place) X(gather_dot_axpy) X(decode) X(reconstruct) X(residuals) X(adam)

/* Rows base + index[e] * stride, e < count, each with its weight. */
typedef struct msae__gather {
    const float *base;
    size_t stride;
    const uint32_t *index;
    const float *weight;
    size_t count;
} msae__gather;

typedef struct msae__batch_kernels {
    msae_kernels run;
    size_t mr, nr; /* the register tile of gemm: rows of A, rows of B */
    size_t few;    /* below this many rows of A, packing B for gemm costs more than `dots` does */

    /* IEEE halves, little-endian, to floats */
    void (*from_half)(float *out, const unsigned char *half, size_t n);
    /* x [rows][stride] to out [depth][width], rows <= width; columns beyond `rows` become zero */
    void (*pack)(float *out, size_t width, const float *x, size_t stride, size_t rows,
                 size_t depth);
    /* c[i][j] (+)= sum_k a[k][i] b[k][j] for i < rows <= mr and j < cols <= nr, over packed panels
       a [k][mr] and b [k][nr]; adds to c when accumulate is 1 */
    void (*gemm)(const float *a, const float *b, size_t k, float *c, size_t ldc, size_t rows,
                 size_t cols, int accumulate);
    /* y[0 .. width) += sum_e weight[e] row_e */
    void (*gather_axpy)(float *y, const msae__gather *rows, size_t width);
    /* Sorts the latents of a block by the level at which they enter, key >= floors[level] first,
       floors descending; in the order of the latents within a level. Writes for each its key (to
       sorted [LATENT_BLOCK], which may be keys), its place in the block and its level, and where
       each level ends. */
    void (*place)(void *sorted, uint8_t *index, uint8_t *level, uint8_t *ends, const void *keys,
                  size_t count, const int32_t *floors, size_t levels);
    /* gather_axpy, and dots[e] += <a, row_e>: one read of each row serves both */
    void (*gather_dot_axpy)(float *y, float *dots, const float *a, const msae__gather *rows,
                            size_t width);
    /* sums[i][c] += sum_e value[e] decoder[index[e]][c] for the entries e of each level i, which
       lie from ends[i - 1] to ends[i]; sums [levels][MSAE__PANEL], decoder a panel of a block */
    void (*decode)(float *sums, const float *decoder, const uint8_t *index, const float *value,
                   const uint8_t *ends, size_t levels);
    /* The sums of a row's levels to its reconstructions, in place: those up to level i and `start`,
       times deviation, plus mean; errors[i] = the squared distance from target over the panel */
    void (*reconstruct)(float *levels, size_t count, const float *start, const float *target,
                        float deviation, float mean, float *errors);
    /* Reconstructions to G_i = sum_{l >= i} factor_l (r_l - target), in place */
    void (*residuals)(float *levels, size_t count, const float *target, const float *factors);
    /* see msae__adam */
    void (*adam)(float *p, const float *g, float *m, float *v, size_t n, float rescale,
                 float project, const msae__adam *adam);
} msae__batch_kernels;

/* The whole of a table, of which a model knows the beginning. */
static const msae__batch_kernels *msae__full(const msae_kernels *kernels) {
    return (const msae__batch_kernels *)(const void *)kernels;
}

static void msae__scalar_from_half(float *out, const unsigned char *half, size_t n) {
    for (size_t i = 0; i < n; i++) {
        out[i] = msae__half_to_float(half[2 * i] | (uint32_t)half[2 * i + 1] << 8);
    }
}

#define MSAE__SCALAR_TILE 4

static void msae__scalar_pack(float *out, size_t width, const float *x, size_t stride, size_t rows,
                              size_t depth) {
    for (size_t i = 0; i < width; i++) {
        const float *row = i < rows ? x + i * stride : x;
        for (size_t s = 0; s < depth; s++) out[s * width + i] = i < rows ? row[s] : 0;
    }
}

static void msae__scalar_gemm(const float *a, const float *b, size_t k, float *c, size_t ldc,
                              size_t rows, size_t cols, int accumulate) {
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < cols; j++) {
            float sum = accumulate ? c[i * ldc + j] : 0;
            for (size_t s = 0; s < k; s++) {
                sum += a[s * MSAE__SCALAR_TILE + i] * b[s * MSAE__SCALAR_TILE + j];
            }
            c[i * ldc + j] = sum;
        }
    }
}

static void msae__scalar_gather_axpy(float *y, const msae__gather *rows, size_t width) {
    for (size_t e = 0; e < rows->count; e++) {
        msae__scalar_axpy(y, rows->weight[e], rows->base + rows->index[e] * rows->stride, width);
    }
}

/* Keys of a block with their places in it and the levels that they were found to enter at. */
typedef struct msae__found {
    int32_t key[MSAE__LATENT_BLOCK + 8], place[MSAE__LATENT_BLOCK + 8];
    int32_t level[MSAE__LATENT_BLOCK + 8];
    size_t count;
} msae__found;

/* The last step of all `place` kernels: a counting sort of keys whose levels are known. */
static void msae__place_found(void *sorted, uint8_t *index, uint8_t *level, uint8_t *ends,
                              const msae__found *found, size_t levels) {
    const size_t count = found->count;
    size_t next[MSAE_MAX_LEVELS + 1] = {0}, start = 0;
    for (size_t e = 0; e < count; e++) next[found->level[e]]++;
    for (size_t i = 0; i <= levels; i++) { /* counts to places; those of no level come last */
        const size_t here = next[i];
        next[i] = start;
        start += here;
        if (i < levels) ends[i] = (uint8_t)start;
    }
    for (size_t e = 0; e < count; e++) {
        const size_t at = next[found->level[e]]++;
        memcpy((unsigned char *)sorted + 4 * at, &found->key[e], 4);
        index[at] = (uint8_t)found->place[e];
        level[at] = (uint8_t)found->level[e];
    }
}

static void msae__scalar_place(void *sorted, uint8_t *index, uint8_t *level, uint8_t *ends,
                               const void *keys, size_t count, const int32_t *floors,
                               size_t levels) {
    msae__found found;
    for (size_t j = 0; j < count; j++) {
        found.key[j] = msae__load_key(keys, j);
        found.place[j] = (int32_t)j;
        found.level[j] = 0;
        for (size_t i = 0; i < levels; i++) found.level[j] += found.key[j] < floors[i];
    }
    found.count = count;
    msae__place_found(sorted, index, level, ends, &found, levels);
}

static void msae__scalar_gather_dot_axpy(float *y, float *dots, const float *a,
                                         const msae__gather *rows, size_t width) {
    for (size_t e = 0; e < rows->count; e++) {
        const float *row = rows->base + rows->index[e] * rows->stride;
        dots[e] += msae__scalar_dot(a, row, width);
        msae__scalar_axpy(y, rows->weight[e], row, width);
    }
}

static void msae__scalar_decode(float *sums, const float *decoder, const uint8_t *index,
                                const float *value, const uint8_t *ends, size_t levels) {
    size_t e = 0;
    for (size_t i = 0; i < levels; i++, sums += MSAE__PANEL) {
        for (; e < ends[i]; e++) {
            msae__scalar_axpy(sums, value[e], decoder + (index[e] & MSAE__LATENT) * MSAE__PANEL,
                              MSAE__PANEL);
        }
    }
}

static void msae__scalar_reconstruct(float *levels, size_t count, const float *start,
                                     const float *target, float deviation, float mean,
                                     float *errors) {
    float sum[MSAE__PANEL];
    memcpy(sum, start, sizeof sum);
    for (size_t i = 0; i < count; i++, levels += MSAE__PANEL) {
        errors[i] = 0;
        for (size_t c = 0; c < MSAE__PANEL; c++) {
            float off;
            sum[c] += levels[c];
            levels[c] = sum[c] * deviation + mean;
            off = levels[c] - target[c];
            errors[i] += off * off;
        }
    }
}

static void msae__scalar_residuals(float *levels, size_t count, const float *target,
                                   const float *factors) {
    float sum[MSAE__PANEL] = {0};
    for (size_t i = count; i-- > 0;) {
        float *row = levels + i * MSAE__PANEL;
        for (size_t c = 0; c < MSAE__PANEL; c++) {
            row[c] = sum[c] += factors[i] * (row[c] - target[c]);
        }
    }
}

static void msae__scalar_adam(float *p, const float *g, float *m, float *v, size_t n, float rescale,
                              float project, const msae__adam *adam) {
    for (size_t i = 0; i < n; i++) {
        float value = p[i] * rescale;
        float gradient = (g[i] - project * value) * adam->clip;
        float m1 = adam->beta1 * m[i] + adam->rest1 * gradient;
        float v1 = adam->beta2 * v[i] + adam->rest2 * gradient * gradient;
        m[i] = fabsf(m1) < MSAE__TINY_M ? 0 : m1;
        v[i] = v1 < MSAE__TINY_V ? 0 : v1;
        p[i] = value * adam->decay - adam->rate * m[i] / (sqrtf(v[i]) * adam->root + adam->eps);
    }
}

#define MSAE__ENTRY(name) MSAE__K(name),
#define MSAE__K(name) msae__scalar_##name
static const msae__batch_kernels msae__scalar_kernels = {
    {MSAE_SIMD_SCALAR, MSAE__RUN_KERNELS(MSAE__ENTRY) msae__scalar_between, NULL},
    MSAE__SCALAR_TILE,
    MSAE__SCALAR_TILE,
    4,
    MSAE__BATCH_KERNELS(MSAE__ENTRY)};
#undef MSAE__K

#define MSAE__STAGE MSAE__BATCH_STAGE
#include MSAE_HEADER

/* ---------------------------------------------------------------------------------------------
   >>quantise Quantised weights: float16 and bfloat16 from floats
   ------------------------------------------------------------------------------------------ */

/* The nearest half; of two equally near, the even one. Beyond the range it is Inf. The exponent is
   rebased from 127 to 15; 13 bits of the fraction go, rounded by adding half of the last place that
   stays, less one unless that place is odd. A carry runs on into the exponent, as it should. */
static uint16_t msae__to_half(float value) {
    const uint32_t bits = msae__float_bits(value), sign = bits >> 16 & 0x8000u;
    const uint32_t rest = bits & 0x7fffffffu;
    uint32_t half;
    if (rest >= 0x47800000u) return (uint16_t)(sign | 0x7c00u); /* 65536 and above */
    if (rest < 0x38800000u) { /* a denormal half: the float's own sum rounds it */
        const float shifted = msae__bits_float(rest) + 0.5f;
        return (uint16_t)(sign | (msae__float_bits(shifted) - 0x3f000000u));
    }
    half = rest - 0x38000000u;
    half += 0xfffu + (half >> 13 & 1);
    return (uint16_t)(sign | half >> 13);
}

/* The nearest bfloat, which is the upper half of a float: rounded in the same way by 16 bits. */
static uint16_t msae__to_bfloat(float value) {
    const uint32_t bits = msae__float_bits(value);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* ---------------------------------------------------------------------------------------------
   >>product Matrix product: C = A B^T for row-major A [rows, k] and B [cols, k]
   ------------------------------------------------------------------------------------------ */

/* The product's blocks. KC: depth of a panel of B that stays in the first-level cache; KC_PANELS of
   them are packed at a time, so that a block of MC rows of C is finished while in the cache. */
#define MSAE__KC 256
#define MSAE__KC_PANELS 4
#define MSAE__MC 96

/* Floats that a worker packs panels of B into. */
static size_t msae__panel_floats(const msae_kernels *kernels, size_t k) {
    return msae__full(kernels)->nr * msae__min(k, MSAE__KC * MSAE__KC_PANELS);
}

/* Floats that A takes when packed. */
static size_t msae__packed_floats(const msae_kernels *kernels, size_t rows, size_t k) {
    return msae__round_up(rows, msae__full(kernels)->mr) * k;
}

/* C = A B^T + bias over the workers. A task computes MSAE__LATENT_BLOCK columns; its first one lies
   at c + task * c_block. Row-major C has that as MSAE__LATENT_BLOCK and ldc as its columns;
   training has each block's rows side by side instead. */
typedef struct msae__matmul {
    const msae_kernels *kernels;
    const float *a, *b, *bias; /* bias [cols] or NULL */
    size_t a_stride, b_stride;
    size_t rows, cols, depth;
    size_t of_rows; /* in a batch of so many: how they are multiplied depends on it alone */
    float *c;
    size_t ldc, c_block;
    float *packed; /* msae__packed_floats */
    float *panels; /* for each worker msae__panel_floats */
    float *probe;  /* for each task 0, or NaN when one of its C + bias is not finite; or NULL */
} msae__matmul;

#ifndef MSAE_USE_CBLAS
/* c [rows, width] += A B^T from depth k0 to k1, A and `width` rows of B packed: MC rows of C, which
   stay in the cache until they are summed up; panels of depth KC; tiles of mr rows, which the
   kernel holds in registers. */
static void msae__product_columns(const msae__matmul *p, const float *panels, size_t k0, size_t k1,
                                  float *c, size_t width) {
    const msae__batch_kernels *kernels = msae__full(p->kernels);
    const size_t mr = kernels->mr, rows = p->rows, padded = msae__round_up(rows, mr);
    for (size_t first = 0; first < rows; first += MSAE__MC) {
        const size_t last = msae__min(first + MSAE__MC, rows);
        for (size_t s = k0; s < k1; s += MSAE__KC) {
            const size_t depth = msae__min(MSAE__KC, p->depth - s);
            for (size_t i = first; i < last; i += mr) {
                const float *tile = p->packed + padded * s + i * depth;
                kernels->gemm(tile, panels + (s - k0) * kernels->nr, depth, c + i * p->ldc, p->ldc,
                              msae__min(mr, last - i), width, s > 0);
            }
        }
    }
}

/* c [rows, ldc] = A B^T for packed A and `cols` rows of B from b on. From the outside in: a depth
   of KC_PANELS panels; nr columns, whose rows of B are packed once for all of A. Each element is
   summed in the same order whatever rows and cols are. */
static void msae__product(const msae__matmul *p, const float *b, size_t cols, float *c,
                          float *panels) {
    const msae__batch_kernels *kernels = msae__full(p->kernels);
    const size_t nr = kernels->nr, most = MSAE__KC * MSAE__KC_PANELS;
    for (size_t k0 = 0; k0 < p->depth; k0 += most) {
        const size_t k1 = msae__min(k0 + most, p->depth);
        for (size_t j = 0; j < cols; j += nr) {
            const size_t width = msae__min(nr, cols - j);
            kernels->pack(panels, nr, b + j * p->b_stride + k0, p->b_stride, width, k1 - k0);
            msae__product_columns(p, panels, k0, k1, c + j, width);
        }
    }
}
#endif

/* MSAE__LATENT_BLOCK columns of C: a few rows by dots, which read B where it lies, more of them by
   packed tiles; then the bias, whose pass looks for NaN and Inf too. */
static void msae__matmul_task(void *context, size_t task, size_t worker) {
    const msae__matmul *p = (const msae__matmul *)context;
    const size_t first = task * MSAE__LATENT_BLOCK;
    const size_t count = msae__min(MSAE__LATENT_BLOCK, p->cols - first);
    const float *b = p->b + first * p->b_stride;
    float *c = p->c + task * p->c_block;
    if (p->of_rows < msae__full(p->kernels)->few) {
        msae__few few = {c, p->ldc, p->a, p->a_stride, p->rows, NULL, 0, count, p->depth};
        few.w = (const unsigned char *)(const void *)b;
        few.w_stride = p->b_stride * sizeof *b;
        p->kernels->dots(&few);
    } else {
#ifdef MSAE_USE_CBLAS
        (void)worker;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)p->rows, (int)count,
                    (int)p->depth, 1, p->a, (int)p->a_stride, b, (int)p->b_stride, 0, c,
                    (int)p->ldc);
#else
        msae__product(p, b, count, c,
                      p->panels + worker * msae__panel_floats(p->kernels, p->depth));
#endif
    }
    if (p->bias) {
        const float probe = msae__add_bias(p->kernels, c, p->ldc, p->rows, p->bias + first, count);
        if (p->probe) p->probe[task] = probe;
    }
}

/* A panel of A: depth block after depth block, in each one panel of mr rows after the other. */
static void msae__pack_task(void *context, size_t task, size_t worker) {
    const msae__matmul *p = (const msae__matmul *)context;
    const size_t mr = msae__full(p->kernels)->mr, i = task * mr,
                 padded = msae__round_up(p->rows, mr);
    (void)worker;
    for (size_t s = 0; s < p->depth; s += MSAE__KC) {
        const size_t depth = msae__min(MSAE__KC, p->depth - s);
        msae__full(p->kernels)
            ->pack(p->packed + padded * s + i * depth, mr, p->a + i * p->a_stride + s, p->a_stride,
                   msae__min(mr, p->rows - i), depth);
    }
}

/* A is packed once, before all tasks read it. */
static void msae__run_matmul(const msae__matmul *p, const msae_parallel *parallel) {
    void *context = (void *)(uintptr_t)p;
    if (!MSAE__USES_CBLAS && p->of_rows >= msae__full(p->kernels)->few) {
        const size_t panels = msae__ceil_div(p->rows, msae__full(p->kernels)->mr);
        msae__parallel_for(parallel, panels, msae__pack_task, context);
    }
    msae__parallel_for(parallel, msae__ceil_div(p->cols, MSAE__LATENT_BLOCK), msae__matmul_task,
                       context);
}

/* What a product is made of, but for its workspace; what is wrong with it. */
static msae_status msae__plan_product(const msae_product *product, const msae_host *host,
                                      msae__matmul *p, msae_error *error) {
    const uint64_t most = INT32_MAX; /* what cblas_sgemm takes */
    memset(p, 0, sizeof *p);
    p->kernels = msae__kernels_for(host->simd);
    p->a = product->a;
    p->b = product->b;
    p->c = product->c;
    p->rows = p->of_rows = product->rows;
    p->cols = product->cols;
    p->depth = product->depth;
    p->a_stride = product->a_stride ? product->a_stride : p->depth;
    p->b_stride = product->b_stride ? product->b_stride : p->depth;
    p->ldc = product->c_stride ? product->c_stride : p->cols;
    p->c_block = MSAE__LATENT_BLOCK;
    if (!p->kernels) {
        return msae__fail(error, MSAE_ERROR_UNSUPPORTED,
                          "this instruction path is not available here");
    }
    if (p->rows == 0 || p->cols == 0 || p->depth == 0) {
        return msae__fail(error, MSAE_ERROR_SHAPE, "a matrix of the product is empty");
    }
    if (p->a_stride < p->depth || p->b_stride < p->depth || p->ldc < p->cols) {
        return msae__fail(error, MSAE_ERROR_SHAPE, "a stride of the product is below its row");
    }
    if (p->rows > most || p->a_stride > most || p->b_stride > most || p->ldc > most) {
        return msae__fail(error, MSAE_ERROR_UNSUPPORTED, "a matrix of the product is too large");
    }
    return MSAE_OK;
}

/* The arena counts the workspace and places it in one go: over NULL only the bytes come out. */
MSAE__MAKE_API msae_status msae_multiply(const msae_product *product, const msae_host *host,
                                         void *workspace, size_t *bytes, msae_error *error) {
    msae__matmul p;
    msae__arena arena = msae__arena_over(workspace);
    msae_host plain;
    msae_status status;
    size_t needed, floats;
    memset(&plain, 0, sizeof plain);
    if (!host) host = &plain;
    status = msae__plan_product(product, host, &p, error);
    if (status != MSAE_OK) return status;
    if (!msae__mul(msae__round_up(p.rows, msae__full(p.kernels)->mr), p.depth, &floats)) {
        return msae__fail_memory(error);
    }
    if (p.rows < msae__full(p.kernels)->few) floats = 0; /* B is read where it lies */
    p.packed = MSAE__TAKE(&arena, float, floats);
    if (floats > 0) floats = msae__panel_floats(p.kernels, p.depth);
    p.panels = MSAE__TAKE(&arena, float, msae__workers(&host->parallel) * floats);
    if (!msae__arena_bytes(&arena, &needed)) return msae__fail_memory(error);
    if (workspace && *bytes >= needed) {
        msae__run_matmul(&p, &host->parallel);
    } else if (workspace) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the workspace of the product is too small");
    } else {
        *bytes = needed;
    }
    return MSAE_OK;
}

/* Floats of packed rows and, for each worker, of a panel of latents. */
static size_t msae__encode_room(const msae_model *model, size_t rows, size_t *panels) {
    *panels = msae__panel_floats(model->kernels, model->n_inputs);
    return msae__packed_floats(model->kernels, rows, model->n_inputs);
}

/* Such products of a tile of rows as one product of matrices; 0 where the weights are
   quantised, which have kernels of their own that read them as they are. */
static int msae__encode_packed(const msae__small_product *p, float *packed, float *panels) {
    const msae_model *model = p->model;
    msae__matmul m;
    if (model->weights != MSAE_F32) return 0;
    m.kernels = model->kernels;
    m.a = p->centred;
    m.a_stride = p->stride;
    m.rows = p->rows;
    m.of_rows = p->of_rows;
    m.b = p->of_decoder ? model->decoder : model->encoder;
    m.b_stride = m.depth = model->n_inputs;
    m.cols = model->n_latents;
    m.bias = p->of_decoder ? NULL : model->latent_bias;
    m.c = p->c;
    m.ldc = p->ldc;
    m.c_block = p->c_block;
    m.packed = packed;
    m.panels = panels;
    m.probe = p->probe;
    msae__run_matmul(&m, &model->parallel);
    return 1;
}

/* ---------------------------------------------------------------------------------------------
   >>levels Selection: the thresholds of all nesting levels of a row from one ranking. Keys fall
   into bins by their distance from the largest; counting from the top says in which bin each
   level's k-th largest lies, and only that bin's keys are ranked
   ------------------------------------------------------------------------------------------ */

/* The rank-th largest (from 1) of a few keys: the one that has as many above it. */
static msae__cut msae__cut_few(const int32_t *keys, size_t count, size_t rank) {
    msae__cut cut = {0, 0, 0};
    for (size_t i = 0; i < count; i++) {
        size_t above = 0, equal = 0;
        for (size_t j = 0; j < count; j++) {
            above += keys[j] > keys[i];
            equal += keys[j] == keys[i];
        }
        if (above < rank && rank <= above + equal) {
            cut.key = keys[i];
            cut.ties = rank - above;
            cut.partial = cut.ties < equal;
            break;
        }
    }
    return cut;
}

/* Bins of the histogram over the distance from the largest key. On the bits of a float that is 64
   bins for each octave and 16 octaves; the last bin takes all that is smaller. */
#define MSAE__BINS 1024
#define MSAE__BIN_SHIFT 17
#define MSAE__FEW_KEYS 32

/* Keys to rank: all lie above `lowest`, none above `largest`. */
typedef struct msae__key_list {
    const int32_t *keys;
    size_t count;
    int32_t largest, lowest;
} msae__key_list;

/* Keys of a list that lie in a bin, into `found`. */
static void msae__keys_in_bin(const msae_kernels *kernels, const msae__key_list *list, size_t bin,
                              int32_t *found) {
    const int64_t high = (int64_t)list->largest - (int64_t)(bin << MSAE__BIN_SHIFT);
    const int64_t low = high - (1 << MSAE__BIN_SHIFT);
    const int is_last = low < list->lowest || bin + 1 == MSAE__BINS;
    int32_t unused = list->lowest;
    kernels->between(found, list->keys, list->count, is_last ? list->lowest : (int32_t)low,
                     (int32_t)high, &unused);
}

/* cuts[i] for the k = ks[i] largest keys of the list; ks ascending. One histogram finds the bins of
   all cuts; then only the keys in a cut's own bin are looked into. Where all are kept, the cut is
   `lowest`. scratch [cut_room(count)]. */
static void msae__cuts(const msae_kernels *kernels, const msae__key_list *list, const size_t *ks,
                       size_t levels, msae__cut *cuts, int32_t *scratch) {
    uint32_t counts[MSAE__BINS] = {0};
    size_t before = 0, bin = 0, gathered = MSAE__BINS; /* keys above the bin; the bin in scratch */
    if (ks[0] < list->count) {
        for (size_t e = 0; e < list->count; e++) {
            const uint32_t off =
                ((uint32_t)list->largest - (uint32_t)list->keys[e]) >> MSAE__BIN_SHIFT;
            counts[off < MSAE__BINS ? off : MSAE__BINS - 1]++;
        }
    }
    for (size_t i = 0; i < levels; i++) {
        if (ks[i] >= list->count) {
            cuts[i].key = list->lowest;
            cuts[i].ties = 0;
            cuts[i].partial = 0;
            continue;
        }
        while (before + counts[bin] < ks[i]) before += counts[bin++];
        /* msae__cut_many leaves its keys in another order, and fewer of them */
        if (gathered != bin || counts[bin] > MSAE__FEW_KEYS) {
            msae__keys_in_bin(kernels, list, bin, scratch);
            gathered = bin;
        }
        cuts[i] = counts[bin] <= MSAE__FEW_KEYS
                      ? msae__cut_few(scratch, counts[bin], ks[i] - before)
                      : msae__cut_many(scratch, counts[bin], ks[i] - before);
    }
}

/* The floors that the kernel `place` takes, one for each cut; 0 when ties are cut apart. */
static int msae__floors(const msae__cut *cuts, size_t levels, int32_t lowest, int32_t *floors) {
    int whole = 1;
    for (size_t i = 0; i < levels; i++) {
        whole &= !cuts[i].partial;
        floors[i] = cuts[i].key > lowest ? cuts[i].key : lowest + 1;
    }
    return whole;
}

/* Latents whose keys are not below `floor`, as codes in the order of the latents. */
static size_t msae__codes_from(const msae_kernels *kernels, const unsigned char *keys, size_t n,
                               int32_t floor, msae_code *codes) {
    size_t count = 0;
    for (size_t first = 0; first < n; first += MSAE__LATENT_BLOCK) {
        uint8_t index[MSAE__LATENT_BLOCK], level[MSAE__LATENT_BLOCK], found;
        int32_t sorted[MSAE__LATENT_BLOCK];
        msae__full(kernels)->place(sorted, index, level, &found, keys + 4 * first,
                                   msae__min(MSAE__LATENT_BLOCK, n - first), &floor, 1);
        for (size_t e = 0; e < found; e++) codes[count++].latent = (uint32_t)first + index[e];
    }
    return count;
}

/* The k largest keys of n, all above `lowest`: the active ones are gathered, their cut found, then
   taken in the order of the latents, by the kernel `place` unless equal keys are cut apart. */
static size_t msae__select(const msae_kernels *kernels, const unsigned char *keys, size_t n,
                           size_t k, int32_t lowest, msae_code *codes, int32_t *scratch) {
    msae__key_list list = {scratch, 0, lowest, lowest};
    msae__cut cut = {0, 0, 0};
    int32_t floor;
    list.count = kernels->between(scratch, keys, n, lowest, INT32_MAX, &list.largest);
    msae__cuts(kernels, &list, &k, 1, &cut, scratch + msae__cut_room(n));
    if (msae__floors(&cut, 1, lowest, &floor)) {
        return msae__codes_from(kernels, keys, n, floor, codes);
    }
    return msae__codes_above(keys, n, k, cut, codes);
}

/* Unsigned bits in the order of the values. */
static uint32_t msae__rank_bits(float value) {
    return (uint32_t)msae__key(value, MSAE_ACTIVATION_IDENTITY) ^ 0x80000000u;
}

/* Codes by descending value, equal ones in the order they came (ascending latents): insertion for a
   few, a stable radix sort by bytes otherwise. spare [count]. */
static void msae__sort_codes(msae_code *codes, size_t count, msae_code *spare) {
    if (count <= 32) {
        for (size_t i = 1; i < count; i++) {
            msae_code code = codes[i];
            size_t at = i;
            for (; at > 0 && codes[at - 1].value < code.value; at--) codes[at] = codes[at - 1];
            codes[at] = code;
        }
        return;
    }
    for (int shift = 0; shift < 32; shift += 8) { /* an even number of passes ends in codes */
        size_t starts[257] = {0};
        msae_code *swap = codes;
        for (size_t i = 0; i < count; i++) {
            starts[256 - (msae__rank_bits(codes[i].value) >> shift & 255)]++;
        }
        for (size_t b = 1; b < 257; b++) starts[b] += starts[b - 1];
        for (size_t i = 0; i < count; i++) {
            size_t b = msae__rank_bits(codes[i].value) >> shift & 255;
            spare[starts[255 - b]++] = codes[i];
        }
        codes = spare;
        spare = swap;
    }
}

/* What msae__add_codes does, for float32 weights with fewer passes over the sum. */
static int msae__add_gathered(const msae_model *model, const msae_code *codes, size_t count,
                              float *sum) {
    enum { CHUNK = 256 };
    uint32_t index[CHUNK];
    float weight[CHUNK];
    msae__gather rows = {model->decoder, model->n_inputs, index, weight, 0};
    if (model->weights != MSAE_F32) return 0;
    for (size_t first = 0; first < count; first += CHUNK) {
        size_t filled = 0;
        for (size_t e = first; e < count && e < first + CHUNK; e++) {
            if (codes[e].latent >= model->n_latents) continue;
            index[filled] = codes[e].latent;
            weight[filled++] = codes[e].value;
        }
        rows.count = filled;
        msae__full(model->kernels)->gather_axpy(sum, &rows, model->n_inputs);
    }
    return 1;
}

/* ---------------------------------------------------------------------------------------------
   >>defaults Model: defaults, initial weights, checksum
   ------------------------------------------------------------------------------------------ */

/* first, 2 first, 4 first .. below n, then n; first <= n. Returns how many. */
static size_t msae__default_levels(size_t first, size_t n, size_t *levels) {
    size_t count = 0;
    levels[count++] = first;
    while (levels[count - 1] <= n / 2) {
        levels[count] = 2 * levels[count - 1];
        count++;
    }
    if (levels[count - 1] != n) levels[count++] = n;
    return count;
}

/* The levels of a resolved descriptor: a nesting given or the recipe's, else one: k or all. */
static msae_status msae__resolve_levels(const msae_model_desc *desc, size_t *levels, size_t *count,
                                        msae_error *error) {
    if (msae__is_nested(desc->recipe) || desc->recipe == MSAE_RECIPE_MSAE_WIDTH) {
        const int given = desc->nesting && desc->n_levels > 0;
        *count = given ? desc->n_levels
                       : msae__default_levels(desc->nesting_start, desc->n_latents, levels);
        return given ? msae__check_levels(desc, levels, error) : MSAE_OK;
    }
    *count = 1;
    levels[0] = msae__has_k(desc->recipe) ? desc->k : desc->n_latents;
    return MSAE_OK;
}

/* Of level i (measured on CLIP embeddings by bench/recipes): small k gain from more than their
   share, since later levels pull their latents towards what serves many; the last level, all
   latents, needs more than its share or it leaves most of them off. */
static float msae__balanced_weight(size_t i, size_t levels) {
    if (i + 1 == levels) return 3;
    return i == 0 ? 2.25f : i == 1 ? 1.75f : 1;
}

/* The weights of `count` levels, given or the recipe's. */
static msae_status msae__resolve_weights(const msae_model_desc *desc, size_t count, float *weights,
                                         msae_error *error) {
    float sum = 0;
    if (desc->level_weights && desc->n_level_weights != count) {
        return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION,
                             "the number of level weights does not match the", count,
                             " nesting levels");
    }
    for (size_t i = 0; i < count; i++) {
        weights[i] = desc->level_weights                   ? desc->level_weights[i]
                     : desc->recipe == MSAE_RECIPE_MSAE_RW ? (float)(count - i)
                     : desc->recipe == MSAE_RECIPE_MSAE    ? msae__balanced_weight(i, count)
                                                           : 1;
        if (!(weights[i] >= 0) || !msae__is_finite(weights[i])) {
            return msae__fail(error, MSAE_ERROR_ARGUMENT, "a level weight is negative");
        }
        sum += weights[i];
    }
    if (!(sum > 0) || !msae__is_finite(sum)) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the level weights have no positive sum");
    }
    return MSAE_OK;
}

/* Where the nesting starts, and k and the threshold, where the descriptor does not say. */
static msae_status msae__resolve_defaults(msae_model_desc *r, msae_error *error) {
    if (r->recipe == MSAE_RECIPE_DEFAULT) r->recipe = MSAE_RECIPE_MSAE;
    if (r->activation == MSAE_ACTIVATION_DEFAULT) r->activation = MSAE_ACTIVATION_RELU;
    if (r->nesting_start == 0) {
        const size_t first = r->recipe == MSAE_RECIPE_MSAE         ? 16
                             : r->recipe == MSAE_RECIPE_MSAE_WIDTH ? msae__max(r->n_latents / 32, 1)
                                                                   : 64;
        r->nesting_start = msae__min(first, r->n_latents);
    }
    if (r->nesting_start > r->n_latents) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the nesting starts beyond the latents");
    }
    if (r->k == 0 && msae__has_k(r->recipe)) r->k = msae__default_k(r->recipe, r->n_latents);
    if (msae__is_finite(r->threshold) && r->threshold == 0) r->threshold = 0.001f;
    return MSAE_OK;
}

/* A descriptor with all defaults in, checked before and after. levels and weights get as many as
   there are levels; nothing is written when it is refused. */
static msae_status msae__resolve_model(const msae_model_desc *desc, msae_model_desc *resolved,
                                       size_t *levels, float *weights, msae_error *error) {
    msae_model_desc r = *desc;
    size_t list[MSAE_MAX_LEVELS], count;
    float list_weights[MSAE_MAX_LEVELS];
    msae_status status = msae__check_sizes(&r, error);
    if (status == MSAE_OK) status = msae__resolve_defaults(&r, error);
    if (status == MSAE_OK) status = msae__check_values(&r, error);
    if (status != MSAE_OK) return status;
    if (!(r.threshold > 0)) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the initial threshold is not positive");
    }
    if (r.weights != MSAE_F32) r.by_rows = 1;
    status = msae__resolve_levels(&r, list, &count, error);
    if (status == MSAE_OK) status = msae__resolve_weights(&r, count, list_weights, error);
    if (status != MSAE_OK) return status;
    if (levels) memcpy(levels, list, count * sizeof *levels);
    if (weights) memcpy(weights, list_weights, count * sizeof *weights);
    r.n_levels = count;
    *resolved = r;
    return MSAE_OK;
}

/* Weights that are drawn and trained are float32 by columns. */
static msae_status msae__check_new(const msae_model_desc *desc, msae_error *error) {
    if (desc->weights == MSAE_F32 && !desc->by_rows) return MSAE_OK;
    return msae__fail(error, MSAE_ERROR_UNSUPPORTED,
                      "a new model is float32 by columns (msae_compact makes others)");
}

/* A uniform direction, 0.1 long. */
static void msae__random_row(uint64_t state[4], float *row, size_t d) {
    double squares;
    float scale;
    for (size_t i = 0; i < d; i++) row[i] = msae__random_symmetric(state);
    squares = msae__sum_squares(row, d);
    scale = squares > 0 ? (float)(0.1 / sqrt(squares)) : 0;
    for (size_t i = 0; i < d; i++) row[i] *= scale;
}

/* The first weights: decoder rows in random directions, 0.1 long; the encoder's rows are the same
   (Gao et al. 2024: an encoder that starts as the decoder's transpose leaves few latents dead), the
   biases 0, the thresholds of jumprelu as they are given. */
static void msae__model_weights(msae_model *model, float threshold, uint64_t seed) {
    const size_t n = model->n_latents, d = model->n_inputs;
    uint64_t state[4];
    msae__seed(state, seed);
    for (size_t j = 0; j < n; j++) msae__random_row(state, model->decoder + j * d, d);
    if (!model->tied) memcpy(model->encoder, model->decoder, n * d * sizeof(float));
    memset(model->pre_bias, 0, d * sizeof(float));
    memset(model->latent_bias, 0, n * sizeof(float));
    memset(model->mean, 0, d * sizeof(float));
    for (size_t j = 0; model->log_threshold && j < n; j++)
        model->log_threshold[j] = logf(threshold);
}

/* A model's shape and the places of its arrays, without values. */
static msae_status msae__model_place(msae_model *model, const msae_model_desc *desc,
                                     msae_model_desc *resolved, void *memory, size_t bytes,
                                     msae_error *error) {
    msae_status status = msae__model_shape(model, desc, resolved, error);
    return status == MSAE_OK ? msae__model_arrays(model, memory, bytes, error) : status;
}

/* A model with its first weights; memory NULL: taken from its allocator. */
static msae_status msae__new_model(msae_model *model, const msae_model_desc *desc, void *memory,
                                   size_t bytes, msae_error *error) {
    msae_model_desc resolved;
    msae_status status = msae__check_new(desc, error);
    memset(model, 0, sizeof *model);
    if (status == MSAE_OK) status = msae__model_place(model, desc, &resolved, memory, bytes, error);
    if (status == MSAE_OK) msae__model_weights(model, resolved.threshold, resolved.seed);
    return status;
}

MSAE_API msae_status msae_model_init_in(msae_model *model, const msae_model_desc *desc,
                                        void *memory, size_t *bytes, msae_error *error) {
    msae_model_desc resolved;
    size_t needed = 0;
    msae_status status = msae__model_shape(model, desc, &resolved, error);
    if (status == MSAE_OK) status = msae__shaped_bytes(model, &needed, error);
    memset(model, 0, sizeof *model);
    if (status == MSAE_OK) status = msae__check_new(desc, error);
    if (!memory) *bytes = needed;
    if (status != MSAE_OK || !memory) return status;
    if (*bytes >= needed) return msae__new_model(model, desc, memory, *bytes, error);
    return msae__fail(error, MSAE_ERROR_MEMORY, "the memory given for the model is too small");
}

MSAE_API msae_status msae_model_init(msae_model *model, const msae_model_desc *desc,
                                     msae_error *error) {
    return msae__new_model(model, desc, NULL, 0, error);
}

/* Part of a row of quantised weights as the floats that they stand for; scale: of MSAE_I8. */
static void msae__widen_weights(msae_dtype weights, const unsigned char *row, float scale,
                                size_t first, size_t count, float *out) {
    for (size_t i = 0; i < count; i++) {
        const unsigned char *at = row + (first + i) * msae_dtype_bytes(weights);
        out[i] = weights == MSAE_F16    ? msae__load_half(at)
                 : weights == MSAE_BF16 ? msae__load_bfloat(at)
                                        : (float)msae__load_int8(at) * scale;
    }
}

/* A hash over the bits of floats, the same on every machine. */
static uint64_t msae__hash_floats(uint64_t hash, const float *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ msae__float_bits(values[i])) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    return hash;
}

/* The same over a matrix [n, d], of floats or quantised weights. */
static uint64_t msae__hash_matrix(uint64_t hash, const msae_model *model, const float *floats,
                                  const void *small_weights, const float *scales) {
    const size_t n = model->n_latents, d = model->n_inputs;
    float piece[64];
    if (model->weights == MSAE_F32) return msae__hash_floats(hash, floats, n * d);
    for (size_t j = 0; j < n; j++) {
        const unsigned char *row =
            (const unsigned char *)small_weights + j * d * msae_dtype_bytes(model->weights);
        for (size_t i = 0, count; i < d; i += count) {
            count = msae__min(d - i, sizeof piece / sizeof *piece);
            msae__widen_weights(model->weights, row, scales ? scales[j] : 1, i, count, piece);
            hash = msae__hash_floats(hash, piece, count);
        }
    }
    return hash;
}

/* Over all that decides what a model gives, in this order; what it is stored as decides nothing but
   for the rounding of its weights. */
MSAE_API uint64_t msae_model_checksum(const msae_model *model) {
    const size_t n = model->n_latents, d = model->n_inputs;
    uint64_t hash = msae__hash_floats(2, model->mean, d);
    hash = msae__hash_floats(hash, &model->scale, 1);
    hash = msae__hash_floats(hash, model->pre_bias, d);
    hash = msae__hash_floats(hash, model->latent_bias, n);
    if (model->log_threshold) hash = msae__hash_floats(hash, model->log_threshold, n);
    hash =
        msae__hash_matrix(hash, model, model->encoder, model->small_encoder, model->encoder_scale);
    return msae__hash_matrix(hash, model, model->decoder, model->small_decoder,
                             model->decoder_scale);
}

/* ---------------------------------------------------------------------------------------------
   >>rows Data
   ------------------------------------------------------------------------------------------ */

/* F32, F16, BF16 and F64 come first in the enum. */
static int msae__dtype_is_float(msae_dtype dtype) {
    return (unsigned)dtype <= MSAE_F64;
}

/* Values as they stand in files, little-endian, as floats: exact, but that F64 are rounded. */
static void msae__convert(msae_dtype dtype, const unsigned char *bytes, size_t count, float *out) {
    switch (dtype) {
    case MSAE_F32:
        if (msae__little_endian()) {
            memcpy(out, bytes, count * sizeof *out);
            break;
        }
        for (size_t i = 0; i < count; i++) {
            out[i] = msae__bits_float((uint32_t)msae__load_le(bytes + 4 * i, 4));
        }
        break;
    case MSAE_F16:
        msae__full(msae__kernels_for(MSAE_SIMD_AUTO))->from_half(out, bytes, count);
        break;
    case MSAE_BF16:
        for (size_t i = 0; i < count; i++) out[i] = msae__load_bfloat(bytes + 2 * i);
        break;
    case MSAE_I8:
        for (size_t i = 0; i < count; i++) out[i] = (float)(signed char)bytes[i];
        break;
    default: /* F64; beyond the range of float this gives Inf, which the checks then find */
        for (size_t i = 0; i < count; i++) {
            uint64_t bits = msae__load_le(bytes + 8 * i, 8);
            double value;
            memcpy(&value, &bits, sizeof value);
            out[i] = fabs(value) > 3.4028235677973366e38 && msae__is_finite_double(value)
                         ? msae__bits_float(0x7f800000u)
                         : (float)value;
        }
    }
}

MSAE_API msae_data msae_data_view(const float *x, size_t rows, size_t cols) {
    msae_data data;
    memset(&data, 0, sizeof data);
    data.rows = rows;
    data.cols = cols;
    data.dtype = MSAE_F32;
    data.values = x;
    data.native = 1;
    return data;
}

MSAE_API void msae_data_free(msae_data *data) {
    msae__free(&data->allocator, data->owned, data->owned_bytes);
    memset(data, 0, sizeof *data);
}

/* `count` values from the `first` on, row after row. */
static void msae__data_values(const msae_data *data, size_t first, size_t count, float *out) {
    const unsigned char *bytes =
        (const unsigned char *)data->values + first * msae_dtype_bytes(data->dtype);
    if (data->native && data->dtype == MSAE_F32) {
        memcpy(out, bytes, count * sizeof *out);
    } else {
        msae__convert(data->dtype, bytes, count, out);
    }
}

MSAE_API msae_status msae_data_read(const msae_data *data, size_t first, size_t rows, float *out) {
    if (first > data->rows || rows > data->rows - first) return MSAE_ERROR_ARGUMENT;
    if (rows > 0) msae__data_values(data, first * data->cols, rows * data->cols, out);
    return MSAE_OK;
}

MSAE__SHARED msae_status msae__check_index(const msae_data *data, const size_t *index, size_t rows,
                                           msae_error *error) {
    for (size_t r = 0; r < rows; r++) {
        if (index[r] >= data->rows) {
            return msae__fail_at(error, MSAE_ERROR_ARGUMENT, index[r], "the data has no row",
                                 index[r], "");
        }
    }
    return MSAE_OK;
}

/* Rows that lie within a set of so many. */
static msae_status msae__check_range(uint64_t set, uint64_t first, uint64_t rows,
                                     msae_error *error) {
    if (first <= set && rows <= set - first) return MSAE_OK;
    return msae__fail_at(error, MSAE_ERROR_ARGUMENT, first > set ? first : set,
                         "the data has no row", first > set ? first : set, "");
}

/* Rows of `what` ("data") that are not as wide as the model takes them. */
MSAE__SHARED msae_status msae__check_width(const char *what, size_t cols, size_t wanted,
                                           msae_error *error) {
    msae__text text;
    if (cols == wanted) return MSAE_OK;
    if (msae__begin_error(error, MSAE_ERROR_SHAPE, MSAE_NO_POSITION, &text)) {
        msae__put(&text, "the ");
        msae__put(&text, what);
        msae__put(&text, " has ");
        msae__put_number(&text, cols);
        msae__put(&text, " columns where the model takes ");
        msae__put_number(&text, wanted);
    }
    return MSAE_ERROR_SHAPE;
}

/* Values that are read at once where a set is passed over. */
#define MSAE__CHUNK 1024

/* A row with NaN or Inf as float32, which doubles can have without being either. */
static msae_status msae__fail_data_row(msae_error *error, const msae_data *data, size_t row) {
    const unsigned char *bytes = (const unsigned char *)data->values + row * data->cols * 8;
    size_t finite = 0;
    for (; data->dtype == MSAE_F64 && finite < data->cols; finite++) {
        const uint64_t bits = msae__load_le(bytes + 8 * finite, 8);
        if ((bits >> 52 & 0x7ff) == 0x7ff) break;
    }
    if (data->dtype != MSAE_F64 || finite < data->cols) return msae__fail_row(error, row);
    return msae__fail_at(error, MSAE_ERROR_NOT_FINITE, row, "row", row,
                         " has a value beyond float32");
}

/* Row by row, in pieces that are converted on the stack. */
MSAE_API msae_status msae_data_check(const msae_data *data, msae_error *error) {
    float chunk[MSAE__CHUNK];
    for (size_t r = 0; r < data->rows; r++) {
        for (size_t c = 0; c < data->cols; c += MSAE__CHUNK) {
            size_t count = msae__min(MSAE__CHUNK, data->cols - c);
            msae__data_values(data, r * data->cols + c, count, chunk);
            if (!msae__row_is_finite(chunk, count)) return msae__fail_data_row(error, data, r);
        }
    }
    return MSAE_OK;
}

/* Data as a source: any rows of it, in any order, from any thread. */
static msae_status msae__read_data(void *user, uint64_t first, size_t rows, float *out,
                                   msae_error *error) {
    const msae_data *data = (const msae_data *)user;
    const msae_status status = msae__check_range(data->rows, first, rows, error);
    return status == MSAE_OK ? msae_data_read(data, (size_t)first, rows, out) : status;
}

MSAE_API msae_source msae_source_data(const msae_data *data) {
    void *user = (void *)(uintptr_t)data; /* only read */
    const msae_source source = {data->rows, data->cols, msae__read_data, user, data};
    return source;
}

/* Reads rows of a source, whose error is never NULL. */
static msae_status msae__read_source(const msae_source *source, uint64_t first, size_t rows,
                                     float *out, msae_error *error) {
    msae_error unheard;
    return source->read(source->user, first, rows, out, error ? error : &unheard);
}

/* Rows that a pass over a source reads at once, and how many such pieces follow each other in one
   process's share. */
#define MSAE__PASS_ROWS 64
#define MSAE__PASS_PIECES 16

/* Norms are counted by the upper bits of a float, its exponent and six bits of its fraction: exact
   counts, which add up over processes. A last bin is for rows with NaN or Inf. */
#define MSAE__NORM_SHIFT 17
#define MSAE__NORM_BINS ((size_t)(0x7f800000u >> MSAE__NORM_SHIFT))

typedef struct msae__norms {
    double *counts; /* [MSAE__NORM_BINS + 1] and room for one more */
    uint64_t
        *first; /* [MSAE__NORM_BINS + 1] this process's first row in the bin; UINT64_MAX: none */
} msae__norms;

/* One way to take memory for several arrays: `layout` takes these from an arena, once to count and
   once to place them. */
typedef void (*msae__layout)(void *arrays, msae__arena *arena);

typedef struct msae__memory {
    void *memory;
    size_t bytes;
} msae__memory;

static msae_status msae__take_memory(msae__memory *memory, const msae_allocator *allocator,
                                     msae__layout layout, void *arrays, msae_error *error) {
    msae__arena arena = msae__arena_over(NULL);
    memset(memory, 0, sizeof *memory);
    layout(arrays, &arena);
    if (!msae__arena_bytes(&arena, &memory->bytes)) return msae__fail_memory(error);
    memory->memory = msae__alloc(allocator, memory->bytes);
    if (!memory->memory) return msae__fail_memory(error);
    arena = msae__arena_over(memory->memory);
    layout(arrays, &arena);
    return MSAE_OK;
}

static void msae__free_memory(msae__memory *memory, const msae_allocator *allocator) {
    msae__free(allocator, memory->memory, memory->bytes);
    memset(memory, 0, sizeof *memory);
}

/* The same in every process or in none. */
static msae_status msae__take_memory_of_all(msae__memory *memory, const msae_allocator *allocator,
                                            msae__layout layout, void *arrays,
                                            const msae_collective *collective, msae_error *error) {
    msae_status status = msae__take_memory(memory, allocator, layout, arrays, error);
    status = msae__agree_on(collective, status, error);
    if (status != MSAE_OK) msae__free_memory(memory, allocator);
    return status;
}

typedef struct msae__source_pass {
    const msae_source *source;
    const msae_collective *collective;
    int skip_bad;
    float norm_limit;   /* rows of this norm and more are left out; 0: none */
    msae__norms *norms; /* NULL: they are not counted */
    uint64_t row;
    float *x; /* [MSAE__PASS_ROWS, d] */
} msae__source_pass;

/* The same on every instruction path. */
static double msae__exact_norm(const float *x, size_t d) {
    return sqrt(msae__sum_squares(x, d));
}

/* Whether a finite row is beyond the limit, if there is one. */
static int msae__is_far(const float *x, size_t d, float limit) {
    return limit > 0 && msae__exact_norm(x, d) >= (double)limit;
}

/* The bin of a norm, which may be more than a float holds. */
static size_t msae__norm_bin(double norm) {
    if (norm >= 3.4e38) return MSAE__NORM_BINS - 1;
    return msae__float_bits((float)norm) >> MSAE__NORM_SHIFT;
}

/* The least norm in a bin. */
MSAE__SHARED float msae__bin_start(size_t bin) {
    return msae__bits_float((uint32_t)bin << MSAE__NORM_SHIFT);
}

static void msae__count_row(msae__norms *norms, size_t bin, uint64_t row) {
    if (!norms) return;
    if (norms->first[bin] == UINT64_MAX) norms->first[bin] = row;
    norms->counts[bin]++;
}

/* The next rows of this process's share into x, without those that are left out; 0 at the end, and
   where the pass has failed, with *status set. */
static size_t msae__next_rows(msae__source_pass *pass, msae_status *status, msae_error *error) {
    const msae_source *source = pass->source;
    const size_t d = source->cols;
    while (pass->row < source->rows) {
        const uint64_t first = pass->row, left = source->rows - first;
        const size_t rows = left < MSAE__PASS_ROWS ? (size_t)left : MSAE__PASS_ROWS;
        size_t used = 0;
        pass->row += rows;
        if (msae__is_collective(pass->collective) &&
            first / (MSAE__PASS_ROWS * MSAE__PASS_PIECES) % pass->collective->ranks !=
                pass->collective->rank) {
            continue;
        }
        *status = msae__read_source(source, first, rows, pass->x, error);
        for (size_t r = 0; r < rows && *status == MSAE_OK; r++) {
            if (!msae__row_is_finite(pass->x + r * d, d)) {
                if (!pass->skip_bad) *status = msae__fail_row(error, first + r);
                msae__count_row(pass->norms, MSAE__NORM_BINS, first + r);
                continue;
            }
            if (pass->norms) {
                const double norm = msae__exact_norm(pass->x + r * d, d);
                msae__count_row(pass->norms, msae__norm_bin(norm), first + r);
            }
            if (msae__is_far(pass->x + r * d, d, pass->norm_limit)) continue;
            if (used < r) memcpy(pass->x + used * d, pass->x + r * d, d * sizeof *pass->x);
            used++;
        }
        if (*status != MSAE_OK) return 0;
        if (used > 0) return used;
    }
    return 0;
}

/* Mean and squared distances from it of the rows seen so far. */
typedef struct msae__scatter {
    double rows, squares;
    double *mean; /* [d] */
} msae__scatter;

/* Takes in rows x, whose own mean [d] comes first: sums of squares about two means add up with what
   lies between these (Chan, Golub and LeVeque 1983), which loses no digits where a sum over all
   rows would. */
static void msae__add_spread(msae__scatter *spread, const float *x, size_t rows, size_t d,
                             double *mean) {
    const double before = spread->rows, after = before + (double)rows;
    double between = 0;
    memset(mean, 0, d * sizeof *mean);
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < d; i++) mean[i] += (double)x[r * d + i];
    }
    for (size_t i = 0; i < d; i++) mean[i] /= (double)rows;
    for (size_t r = 0; r < rows; r++) {
        double squares = 0;
        for (size_t i = 0; i < d; i++) {
            const double off = (double)x[r * d + i] - mean[i];
            squares += off * off;
        }
        spread->squares += squares;
    }
    for (size_t i = 0; i < d; i++) {
        const double off = mean[i] - spread->mean[i];
        between += off * off;
        spread->mean[i] += off * ((double)rows / after);
    }
    spread->squares += between * (before * (double)rows / after);
    spread->rows = after;
}

/* From each process's share to the whole; sums has room for d + 2 values. */
static msae_status msae__share_spread(const msae_collective *collective, msae_status status,
                                      msae__scatter *spread, size_t d, double *sums,
                                      msae_error *error) {
    const double rows = spread->rows;
    double between = 0;
    if (!msae__is_collective(collective)) return status;
    for (size_t i = 0; i < d; i++) sums[i] = rows * spread->mean[i];
    sums[d] = rows;
    status = msae__agree(collective, status, sums, d + 1, error);
    if (status != MSAE_OK) return status;
    spread->rows = sums[d];
    for (size_t i = 0; i < d; i++) {
        const double mean = sums[i] / (spread->rows > 0 ? spread->rows : 1);
        between += (spread->mean[i] - mean) * (spread->mean[i] - mean);
        spread->mean[i] = mean;
    }
    sums[0] = spread->squares + rows * between;
    status = msae__agree(collective, MSAE_OK, sums, 1, error);
    spread->squares = sums[0];
    return status;
}

/* The factor that a scaling gives rows of that spread: with S the mean of |x - mean|^2 over the
   rows, sqrt(d / S), so that a value's mean square is 1, or as the paper has it sqrt(d) / S; 1 when
   all rows are the same. One that is no normal float is refused. */
static msae_status msae__scale_of(const msae__scatter *spread, size_t d, msae_scaling scaling,
                                  float *scale, msae_error *error) {
    double squares, factor = 1;
    if (spread->rows == 0) return msae__fail(error, MSAE_ERROR_SHAPE, "the data has no usable row");
    squares = spread->squares / spread->rows;
    if (squares > 0 && scaling == MSAE_SCALING_PAPER) {
        factor = sqrt((double)d) / squares;
    } else if (squares > 0 && scaling != MSAE_SCALING_NONE) {
        factor = sqrt((double)d / squares);
    }
    if (factor < 1.17549435e-38 || factor > 3.4028234e38) {
        return msae__fail(error, MSAE_ERROR_NOT_FINITE,
                          "the data's spread is too small or too large to scale");
    }
    *scale = (float)factor;
    return MSAE_OK;
}

/* What a pass works in: d sums and two more, the point they are about, and rows. */
typedef struct msae__statistics_room {
    size_t d;
    double *point; /* [d] */
    double *sums;  /* [d + 2] */
    float *x;      /* [MSAE__PASS_ROWS, d] */
} msae__statistics_room;

static void msae__statistics_layout(void *context, msae__arena *arena) {
    msae__statistics_room *room = (msae__statistics_room *)context;
    room->point = MSAE__TAKE(arena, double, room->d);
    room->sums = MSAE__TAKE(arena, double, room->d + 2);
    room->x = (float *)msae__take(arena, room->d, MSAE__PASS_ROWS * sizeof(float));
}

/* Takes the memory of a pass, with the point at 0. */
static msae_status msae__begin_pass(msae__source_pass *pass, msae__statistics_room *room,
                                    msae__memory *memory, const msae_allocator *allocator,
                                    msae_error *error) {
    msae_status status = msae__check_collective(pass->collective, error);
    if (status != MSAE_OK) return status;
    memset(room, 0, sizeof *room);
    room->d = pass->source->cols;
    if (room->d == 0) return msae__fail(error, MSAE_ERROR_SHAPE, "the data has no columns");
    status = msae__take_memory_of_all(memory, allocator, msae__statistics_layout, room,
                                      pass->collective, error);
    if (status != MSAE_OK) return status;
    memset(room->point, 0, room->d * sizeof *room->point);
    pass->x = room->x;
    return MSAE_OK;
}

/* Mean and scale of the rows of a pass, which brings all but its memory: first every process's own
   rows, then all of them together. */
static msae_status msae__pass_statistics(msae__source_pass *pass, msae_scaling scaling,
                                         const msae_allocator *allocator, float *mean, float *scale,
                                         msae_error *error) {
    const size_t d = pass->source->cols;
    msae__statistics_room room;
    msae__memory memory;
    msae__scatter spread;
    size_t rows;
    msae_status status = msae__begin_pass(pass, &room, &memory, allocator, error);
    if (status != MSAE_OK) return status;
    memset(&spread, 0, sizeof spread);
    spread.mean = room.point;
    while ((rows = msae__next_rows(pass, &status, error)) > 0) {
        msae__add_spread(&spread, pass->x, rows, d, room.sums);
    }
    status = msae__share_spread(pass->collective, status, &spread, d, room.sums, error);
    if (status == MSAE_OK) status = msae__scale_of(&spread, d, scaling, scale, error);
    for (size_t i = 0; status == MSAE_OK && i < d; i++) mean[i] = (float)spread.mean[i];
    msae__free_memory(&memory, allocator);
    return status;
}

MSAE_API msae_status msae_source_statistics(const msae_source *source, msae_scaling scaling,
                                            int skip_bad, const msae_collective *collective,
                                            const msae_allocator *allocator, float *mean,
                                            float *scale, msae_error *error) {
    msae__source_pass pass;
    memset(&pass, 0, sizeof pass);
    pass.source = source;
    pass.collective = collective;
    pass.skip_bad = skip_bad || (source->data && source->data->skip_bad);
    return msae__pass_statistics(&pass, scaling, allocator, mean, scale, error);
}

/* Weiszfeld's sums of a pass: with x = (raw - mean) scale (mean NULL: zero) and w = 1 / |x - at| (1
   when `at` is NULL), sums_i = sum w x_i and, in sums[d], sum w. A row at the point has none. */
static msae_status msae__weigh_rows(msae__source_pass *pass, const float *mean, double scale,
                                    const double *at, double *sums, msae_error *error) {
    const size_t d = pass->source->cols;
    msae_status status = MSAE_OK;
    size_t rows;
    memset(sums, 0, (d + 1) * sizeof *sums);
    pass->row = 0;
    while ((rows = msae__next_rows(pass, &status, error)) > 0) {
        for (size_t r = 0; r < rows; r++) {
            const float *x = pass->x + r * d;
            double squares = 0, weight = 1;
            for (size_t i = 0; at && i < d; i++) {
                double value = ((double)x[i] - (mean ? mean[i] : 0)) * scale;
                squares += (value - at[i]) * (value - at[i]);
            }
            if (at) {
                if (squares == 0) continue;
                weight = 1 / sqrt(squares);
            }
            sums[d] += weight;
            for (size_t i = 0; i < d; i++) {
                sums[i] += weight * (((double)x[i] - (mean ? mean[i] : 0)) * scale);
            }
        }
    }
    return msae__agree(pass->collective, status, sums, d + 1, error);
}

/* The geometric median [d] of the rows of a pass: from their mean on at = sum w x / sum w, until a
   step is shorter than 1e-5, at most 1000 times. Allocates about 272 d bytes. */
MSAE__SHARED msae_status msae__pass_median(msae__source_pass *pass, const float *mean, float scale,
                                           const msae_allocator *allocator, float *median,
                                           msae_error *error) {
    const size_t d = pass->source->cols;
    msae__statistics_room room;
    msae__memory memory;
    double *at, *sums;
    msae_status status = msae__begin_pass(pass, &room, &memory, allocator, error);
    if (status != MSAE_OK) return status;
    at = room.point;
    sums = room.sums;
    /* round 0 gives the mean */
    for (int round = 0; round <= 1000 && status == MSAE_OK; round++) {
        double moved = 0;
        status = msae__weigh_rows(pass, mean, (double)scale, round > 0 ? at : NULL, sums, error);
        if (round == 0 && sums[d] == 0 && status == MSAE_OK) {
            status = msae__fail(error, MSAE_ERROR_SHAPE, "the data has no usable row");
        }
        if (status != MSAE_OK || sums[d] == 0) break; /* every row stands at the point */
        for (size_t i = 0; i < d; i++) {
            double next = sums[i] / sums[d];
            moved += (next - at[i]) * (next - at[i]);
            at[i] = next;
        }
        if (round > 0 && sqrt(moved) < 1e-5) break;
    }
    for (size_t i = 0; status == MSAE_OK && i < d; i++) median[i] = (float)at[i];
    msae__free_memory(&memory, allocator);
    return status;
}

/* The whole of a file into memory, which the caller frees. One without bytes is refused. */
static msae_status msae__read_all(const msae_reader *reader, const msae_allocator *allocator,
                                  void **bytes, size_t *size, msae_error *error) {
    msae_status status;
    *bytes = NULL;
    *size = 0;
    if (reader->size == 0) return msae__fail(error, MSAE_ERROR_FORMAT, "the file is empty");
    if (reader->size > SIZE_MAX) return msae__fail_memory(error);
    *bytes = msae__alloc(allocator, (size_t)reader->size);
    if (!*bytes) return msae__fail_memory(error);
    *size = (size_t)reader->size;
    status = msae__read_bytes(reader, 0, *bytes, *size, error);
    if (status != MSAE_OK) {
        msae__free(allocator, *bytes, *size);
        *bytes = NULL;
        *size = 0;
    }
    return status;
}

/* ---- >>npy .npy ---- */

/* A .npy is "\x93NUMPY", two bytes of version, the length of a Python dictionary, that dictionary
   and the values. Accepted are versions 1 to 3, C order, one dimension (a single row) or two, and
   <f2, <f4 and <f8. All else is refused with what it is and at which byte: a file that is read
   wrongly trains a model of nothing. */

/* Steps over a word (after blanks) if it is there. */
static int msae__npy_word(msae__parser *p, const char *word) {
    const size_t length = strlen(word);
    msae__parse_space(p);
    if (p->end - p->at < length || memcmp(p->bytes + p->at, word, length) != 0) return 0;
    p->at += length;
    return 1;
}

/* 'text' or "text", without escapes. */
static int msae__npy_string(msae__parser *p, const char **text, size_t *length) {
    unsigned char quote;
    msae__parse_space(p);
    quote = p->at < p->end ? p->bytes[p->at] : 0;
    if (quote != '\'' && quote != '"')
        return msae__parse_fail(p, "a string in the header is missing");
    *text = (const char *)p->bytes + ++p->at;
    *length = 0;
    while (p->at < p->end && p->bytes[p->at] != quote) p->at++, ++*length;
    if (p->at == p->end) return msae__parse_fail(p, "a string in the header does not end");
    p->at++;
    return 1;
}

/* Where a matrix lies in a file, whose values need not have been read. One without rows, where that
   is allowed, may be without columns too: numpy.array([]). */
typedef struct msae__matrix {
    uint64_t rows, offset;
    size_t cols;
    msae_dtype dtype;
    int is_swapped;    /* big-endian */
    int is_by_columns; /* one column after the other: Fortran order */
} msae__matrix;

/* Types of .npy that can be read, without the byte order that stands first. */
static const struct msae__npy_type {
    char code[3], orders[4]; /* the byte orders that it may have */
    unsigned char dtype;
} msae__npy_types[] = {
    {"f4", "<>", MSAE_F32}, {"f2", "<>", MSAE_F16},  {"f8", "<>", MSAE_F64},
    {"i1", "|<>", MSAE_I8}, {"V2", "<|", MSAE_BF16}, /* as ml_dtypes saves bfloat16 */
};

/* What is said of those that cannot, by the letter and digit after the byte order. */
static const char *msae__npy_refusal(const char *type, size_t length) {
    switch (length > 1 ? type[1] : ' ') {
    case 'O':
        return "the values are Python objects, expected floats";
    case 'c':
        return "the values are complex numbers, expected floats";
    case 'b':
        return "the values are booleans, expected floats";
    case 'u':
        if (length == 3 && type[2] == '1') {
            return "the values are uint8 and may be packed or scaled, expected floats";
        } /* fall through */
    case 'i':
        return "the values are whole numbers, expected floats";
    case 'U':
    case 'S':
        return "the values are text, expected floats";
    case 'V':
        return "the values are records, expected floats";
    case 'f':
        return "the values are floats of more than 64 bits";
    default:
        return "the values are of an unknown type, expected floats";
    }
}

/* '<f4' and the like. */
static int msae__npy_descr(msae__parser *p, msae__matrix *matrix) {
    const char *text;
    size_t length, start;
    msae__parse_space(p);
    start = p->at;
    if (p->at < p->end && p->bytes[p->at] == '[') {
        return msae__parse_fail(p, "the values are records, expected floats");
    }
    if (!msae__npy_string(p, &text, &length)) return 0;
    for (size_t i = 0; i < sizeof msae__npy_types / sizeof *msae__npy_types && length == 3; i++) {
        const struct msae__npy_type *type = &msae__npy_types[i];
        if (memcmp(text + 1, type->code, 2) != 0 || !text[0] || !strchr(type->orders, text[0])) {
            continue;
        }
        matrix->dtype = (msae_dtype)type->dtype;
        matrix->is_swapped = text[0] == '>' && type->dtype != MSAE_I8;
        return 1;
    }
    return msae__parse_fail_at(p, start, msae__npy_refusal(text, length));
}

/* (rows, cols) or, as Python writes a tuple of one, (cols,), which is a single row or, of none,
   nothing. Of three extents one of the first two is 1, and left out. A matrix without columns is
   refused, and one without rows where it may not be empty. */
static int msae__npy_shape(msae__parser *p, int may_be_empty, uint64_t shape[2]) {
    uint64_t extents[3] = {1, 1, 1};
    size_t start, rank = 0;
    int comma = 0;
    msae__parse_space(p);
    start = p->at;
    if (!msae__parse_expect(p, '(', "the shape is missing")) return 0;
    while (!msae__parse_accept(p, ')')) {
        if (rank == 3) return msae__parse_fail(p, "the array has more than two dimensions");
        if (!msae__parse_number(p, &extents[rank++])) return 0;
        comma = msae__parse_accept(p, ',');
        if (!comma) {
            if (!msae__parse_expect(p, ')', "the shape does not end")) return 0;
            break;
        }
    }
    if (rank == 3 && extents[1] == 1) {
        extents[1] = extents[2];
        rank = 2;
    } else if (rank == 3 && extents[0] == 1) {
        extents[0] = extents[1];
        extents[1] = extents[2];
        rank = 2;
    }
    if (rank == 3) return msae__parse_fail(p, "the array has more than two dimensions");
    if (rank == 0) return msae__parse_fail_at(p, start, "the array has no dimensions");
    if (rank == 1 && !comma) return msae__parse_fail_at(p, start, "the shape is not a tuple");
    if (rank == 1) { /* a single row, or nothing */
        extents[1] = extents[0];
        extents[0] = extents[1] > 0;
    }
    if ((extents[0] == 0 && !may_be_empty) || (extents[1] == 0 && (rank == 2 || !may_be_empty))) {
        return msae__parse_fail_at(p, start, "the array has no rows or no columns");
    }
    shape[0] = extents[0];
    shape[1] = extents[1];
    return 1;
}

/* The dictionary { 'descr': .., 'fortran_order': .., 'shape': .. }: these three keys once each, in
   any order, and no other. */
static int msae__npy_dictionary(msae__parser *p, int may_be_empty, msae__matrix *matrix,
                                uint64_t shape[2]) {
    unsigned seen = 0;
    if (!msae__parse_expect(p, '{', "the header is not a dictionary")) return 0;
    while (!msae__parse_accept(p, '}')) {
        const char *key;
        size_t length, start = p->at;
        unsigned bit;
        if (!msae__npy_string(p, &key, &length)) return 0;
        if (!msae__parse_expect(p, ':', "a colon is missing in the header")) return 0;
        if (msae__equals(key, length, "descr")) {
            bit = 1;
            if (!msae__npy_descr(p, matrix)) return 0;
        } else if (msae__equals(key, length, "fortran_order")) {
            bit = 2;
            matrix->is_by_columns = msae__npy_word(p, "True");
            if (!matrix->is_by_columns && !msae__npy_word(p, "False")) {
                return msae__parse_fail(p, "fortran_order is neither True nor False");
            }
        } else if (msae__equals(key, length, "shape")) {
            bit = 4;
            if (!msae__npy_shape(p, may_be_empty, shape)) return 0;
        } else {
            return msae__parse_fail_at(p, start, "the header has an unknown key");
        }
        if (seen & bit) return msae__parse_fail_at(p, start, "the header has a key twice");
        seen |= bit;
        if (!msae__parse_accept(p, ',')) {
            if (!msae__parse_expect(p, '}', "the header does not end")) return 0;
            break;
        }
    }
    if (!(seen & 1)) return msae__parse_fail(p, "the header lacks descr");
    if (!(seen & 2)) return msae__parse_fail(p, "the header lacks fortran_order");
    return (seen & 4) || msae__parse_fail(p, "the header lacks shape");
}

static int msae__is_npy(const unsigned char *bytes, size_t size) {
    return size >= 6 && memcmp(bytes, "\x93NUMPY", 6) == 0;
}

/* a * b; 0 when the product does not fit. */
static int msae__mul64(uint64_t a, uint64_t b, uint64_t *out) {
    if (b != 0 && a > UINT64_MAX / b) return 0;
    *out = a * b;
    return 1;
}

/* Bytes of a .npy file up to its values, from its first `size` bytes, 12 if there are so many. What
   is malformed gives all there are: reading them says why. */
static uint64_t msae__npy_header_bytes(const unsigned char *bytes, uint64_t size) {
    const size_t length_bytes = size > 6 && bytes[6] == 1 ? 2 : 4;
    uint64_t start;
    if (size < 8 + length_bytes) return size;
    start = 8 + length_bytes + msae__load_le(bytes + 8, length_bytes);
    if (start > MSAE__MAX_HEADER) start = 8 + length_bytes;
    return start < size ? start : size;
}

/* The header of a .npy file of `size` bytes, of which those that msae__npy_header_bytes tells are
   there: magic, version 1.0 to 3.0, length of the dictionary (2 bytes, or 4 from 2.0 on), which
   ends with a newline; then values, neither fewer nor more than the shape says. */
static int msae__npy_header(msae__parser *p, uint64_t size, int may_be_empty,
                            msae__matrix *matrix) {
    const unsigned char *bytes = p->bytes;
    const size_t length_bytes = size > 6 && bytes[6] == 1 ? 2 : 4;
    uint64_t shape[2] = {1, 1}, values, needed;
    size_t start;
    p->at = 6;
    if (size < 10 || (bytes[6] >= 2 && size < 12)) {
        return msae__parse_fail(p, "the .npy header's length is cut off");
    }
    if (bytes[6] < 1 || bytes[6] > 3 || bytes[7] != 0) {
        return msae__parse_fail(p, "this version of .npy is unknown");
    }
    p->at = 8 + length_bytes;
    start = (size_t)msae__load_le(bytes + 8, length_bytes);
    if (start > size - p->at) return msae__parse_fail_at(p, 8, "the .npy header is cut off");
    start += p->at;
    if (start > MSAE__MAX_HEADER) {
        return msae__parse_fail_at(p, 8, "the .npy header is longer than 100 MB");
    }
    p->end = start;
    if (!msae__npy_dictionary(p, may_be_empty, matrix, shape)) return 0;
    msae__parse_space(p);
    if (p->at != p->end) return msae__parse_fail(p, "something follows the header's dictionary");
    if (bytes[start - 1] != '\n') {
        return msae__parse_fail_at(p, start - 1, "the header does not end with a newline");
    }
    if (shape[1] > SIZE_MAX || !msae__mul64(shape[0], shape[1], &values) ||
        !msae__mul64(values, msae_dtype_bytes(matrix->dtype), &needed)) {
        return msae__parse_fail(p, "the shape is too large");
    }
    if (needed > size - start) return msae__parse_fail_at(p, size, "the data is cut off");
    if (needed < size - start) {
        return msae__parse_fail_at(p, start + needed, "something follows the data");
    }
    matrix->rows = shape[0];
    matrix->cols = (size_t)shape[1];
    matrix->offset = start;
    return 1;
}

/* Whether a file of `size` bytes, the first nine of which are there, is meant as one, so that an
   error can say which rule was broken. */
static int msae__is_safetensors(const unsigned char *bytes, uint64_t size) {
    return size > 8 && (bytes[8] == '{' || msae__load_le(bytes, 8) <= size - 8);
}

/* Whether a tensor is a matrix of floats with rows, or, where it may be empty, with columns; also
   one of [rows, 1, cols]. */
static int msae__is_matrix(const msae_tensor *tensor, int may_be_empty) {
    const size_t rank = tensor->rank;
    if (rank < 2 || rank > 3 || (rank == 3 && tensor->shape[1] != 1)) return 0;
    return msae__dtype_is_float(tensor->dtype) && tensor->shape[rank - 1] > 0 &&
           (tensor->shape[0] > 0 || may_be_empty);
}

/* "2 of the file's 5 tensors are matrices (a, b): name the one to read", as many as have room. */
static msae_status msae__fail_ambiguous(const msae_safetensors *file, size_t matrices,
                                        msae_error *error) {
    static const char end[] = ", ..): name the one to read";
    msae__text text;
    if (msae__begin_error(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, &text)) {
        size_t shown = 0, left;
        msae__put_number(&text, matrices);
        msae__put(&text, " of the file's ");
        msae__put_number(&text, file->n_tensors);
        msae__put(&text, " tensors are matrices (");
        left = sizeof error->message - sizeof end - strlen(error->message);
        for (size_t i = 0; i < file->n_tensors; i++) {
            const msae_tensor *tensor = &file->tensors[i];
            if (!msae__is_matrix(tensor, 0)) continue;
            if (tensor->name_bytes + 2 > left) break;
            if (shown++ > 0) msae__put(&text, ", ");
            msae__put_bytes(&text, tensor->name, tensor->name_bytes);
            left -= tensor->name_bytes + 2;
        }
        msae__put(&text, shown == matrices ? end + 4 : shown > 0 ? end : end + 2);
    }
    return MSAE_ERROR_ARGUMENT;
}

/* The tensor of that name, if it is a matrix of floats; without a name the only tensor or the only
   such matrix, but none of a model's. */
static msae_status msae__find_matrix(const msae_safetensors *file, const char *tensor,
                                     int may_be_empty, msae__matrix *matrix, msae_error *error) {
    const msae_tensor *found = file->tensors;
    if (tensor) {
        found = msae_safetensors_find(file, tensor);
        if (!found) return msae__fail(error, MSAE_ERROR_ARGUMENT, "no tensor has that name");
    } else if (file->n_tensors != 1) {
        size_t matrices = 0, empty = 0;
        if (msae_safetensors_find(file, "latent_bias")) {
            return msae__fail(error, MSAE_ERROR_ARGUMENT,
                              "the file holds a model: name the tensor to read");
        }
        for (size_t i = file->n_tensors; i > 0; i--) {
            if (msae__is_matrix(&file->tensors[i - 1], 0)) {
                found = &file->tensors[i - 1];
                matrices++;
            } else if (msae__is_matrix(&file->tensors[i - 1], may_be_empty)) {
                if (matrices == 0) found = &file->tensors[i - 1];
                empty++;
            }
        }
        if (matrices > 1) return msae__fail_ambiguous(file, matrices, error);
        if (matrices + empty == 0 || (matrices == 0 && empty > 1)) {
            return msae__fail_at(error, MSAE_ERROR_SHAPE, MSAE_NO_POSITION, "none of the file's",
                                 file->n_tensors, " tensors is a matrix of F32, F16, BF16 or F64");
        }
    }
    if (!msae__dtype_is_float(found->dtype)) {
        return msae__fail_text(error, MSAE_ERROR_SHAPE, MSAE_NO_POSITION, "the tensor is ",
                               msae_enum_name(MSAE_ENUM_DTYPE, (int)found->dtype),
                               ", not F32, F16, BF16 or F64");
    }
    if (!msae__is_matrix(found, may_be_empty)) {
        return msae__fail(error, MSAE_ERROR_SHAPE,
                          "the tensor is not a matrix with rows and columns");
    }
    matrix->rows = found->shape[0];
    matrix->cols = found->shape[found->rank - 1];
    matrix->dtype = found->dtype;
    matrix->offset = found->offset;
    return MSAE_OK;
}

/* The digits that end at *end, which is moved before them and the underscore in front; 0 without
   either, and when the number does not fit. */
static int msae__number_before(const char *start, const char **end, uint64_t *number) {
    const char *at = *end;
    uint64_t place = 1;
    *number = 0;
    while (at > start && at[-1] >= '0' && at[-1] <= '9') {
        uint64_t digit = (uint64_t)(*--at - '0'), value;
        if (!msae__mul64(digit, place, &value) || value > UINT64_MAX - *number) return 0;
        *number += value;
        if (!msae__mul64(place, 10, &place)) return 0;
    }
    if (at == *end || at == start || at[-1] != '_') return 0;
    *end = at - 1;
    return 1;
}

/* The published code's own data format: plain float32 in a file named .._ROWS_COLS.npy, without the
   header of a .npy. The name must account for every byte. */
static int msae__is_headerless(const msae_reader *reader, msae__matrix *matrix) {
    const char *path = reader->path, *end;
    unsigned char start[6];
    uint64_t rows, cols, needed;
    if (!path || strlen(path) < 4) return 0;
    end = path + strlen(path) - 4;
    if (strcmp(end, ".npy") != 0) return 0;
    if (!msae__number_before(path, &end, &cols) || !msae__number_before(path, &end, &rows)) {
        return 0;
    }
    if (!msae__mul64(rows, cols, &needed) || !msae__mul64(needed, 4, &needed)) return 0;
    if (needed != reader->size || needed == 0 || cols > SIZE_MAX) return 0;
    if (needed >= sizeof start && reader->read(reader->user, 0, start, sizeof start) &&
        msae__is_npy(start, sizeof start)) {
        return 0;
    }
    matrix->rows = rows;
    matrix->cols = (size_t)cols;
    matrix->dtype = MSAE_F32;
    matrix->offset = 0;
    return 1;
}

/* The matrix of a .npy file that an open reader reads, from its header alone. */
static msae_status msae__locate_npy(const msae_reader *reader, const unsigned char start[12],
                                    int may_be_empty, const msae_allocator *allocator,
                                    msae__matrix *matrix, msae_error *error) {
    const uint64_t bytes = msae__npy_header_bytes(start, reader->size);
    void *copy = reader->memory || bytes > SIZE_MAX ? NULL : msae__alloc(allocator, (size_t)bytes);
    msae__parser p = msae__parser_over(copy ? copy : reader->memory, (size_t)bytes, error);
    if (!p.bytes) return msae__fail_memory(error);
    if (copy) p.status = msae__read_bytes(reader, 0, copy, p.end, error);
    if (p.status == MSAE_OK) msae__npy_header(&p, reader->size, may_be_empty, matrix);
    msae__free(allocator, copy, (size_t)bytes);
    return p.status;
}

/* The matrix of a file that an open reader reads, from its header alone. A .npy is known by its
   magic, the published format by its name and length; all else must be safetensors. */
static msae_status msae__locate_matrix(const msae_reader *reader, const char *tensor,
                                       int may_be_empty, const msae_allocator *allocator,
                                       msae__matrix *matrix, msae_error *error) {
    unsigned char start[12] = {0};
    const size_t known = reader->size < sizeof start ? (size_t)reader->size : sizeof start;
    msae_safetensors file;
    msae_status status;
    memset(matrix, 0, sizeof *matrix);
    if (msae__is_headerless(reader, matrix)) return MSAE_OK;
    if (known == 0) return msae__fail(error, MSAE_ERROR_FORMAT, "the file is empty");
    status = msae__read_bytes(reader, 0, start, known, error);
    if (status != MSAE_OK) return status;
    if (msae__is_npy(start, known)) {
        return msae__locate_npy(reader, start, may_be_empty, allocator, matrix, error);
    }
    if (!msae__is_safetensors(start, reader->size)) {
        return msae__fail_at(error, MSAE_ERROR_FORMAT, 0, "neither a .npy nor a safetensors file",
                             0, NULL);
    }
    status = msae__open_tensors(&file, reader, allocator, error);
    if (status != MSAE_OK) return status;
    status = msae__find_matrix(&file, tensor, may_be_empty, matrix, error);
    msae_safetensors_close(&file);
    return status;
}

/* The values row after row and little-endian, where they are not: into memory of their own. */
static void msae__arrange(const msae__matrix *matrix, const unsigned char *values,
                          unsigned char *out) {
    const size_t rows = (size_t)matrix->rows, cols = matrix->cols, piece = 64;
    const size_t width = msae_dtype_bytes(matrix->dtype);
    const size_t row_step = matrix->is_by_columns ? width : cols * width;
    const size_t col_step = matrix->is_by_columns ? rows * width : width;
    for (size_t first = 0; first < rows; first += piece) { /* few cache lines at a time */
        const size_t last = msae__min(first + piece, rows);
        for (size_t c = 0; c < cols; c++) {
            for (size_t r = first; r < last; r++) {
                const unsigned char *from = values + r * row_step + c * col_step;
                unsigned char *to = out + (r * cols + c) * width;
                for (size_t i = 0; i < width; i++) {
                    to[i] = from[matrix->is_swapped ? width - 1 - i : i];
                }
            }
        }
    }
}

/* Memory is looked into where it is, if its values stand as they are used; all else is read as a
   whole and freed with the data. */
MSAE_API msae_status msae_data_load(msae_data *data, msae_reader reader, const char *tensor,
                                    const msae_allocator *allocator, msae_error *error) {
    const char *path = reader.path;
    void *owned = NULL;
    size_t owned_bytes = 0;
    msae__matrix matrix;
    msae_status status;
    memset(data, 0, sizeof *data);
    if (!reader.memory) { /* the whole file comes into memory, where its values stay */
        status = msae__open_reader(&reader, error);
        if (status != MSAE_OK) return status;
        status = msae__read_all(&reader, allocator, &owned, &owned_bytes, error);
        msae__close_reader(&reader);
        if (status != MSAE_OK) return status;
        reader = msae_from_memory(owned, owned_bytes);
        reader.path = path; /* by which it may be known */
    }
    status = msae__locate_matrix(&reader, tensor, 0, allocator, &matrix, error);
    if (status != MSAE_OK) {
        msae__free(allocator, owned, owned_bytes);
        return status;
    }
    data->rows = (size_t)matrix.rows; /* which fits where the bytes do */
    data->cols = matrix.cols;
    data->dtype = matrix.dtype;
    data->values = (const unsigned char *)reader.memory + matrix.offset;
    if (matrix.is_swapped || matrix.is_by_columns) {
        const size_t bytes = data->rows * data->cols * msae_dtype_bytes(data->dtype);
        unsigned char *arranged = (unsigned char *)msae__alloc(allocator, bytes);
        if (arranged) msae__arrange(&matrix, (const unsigned char *)data->values, arranged);
        msae__free(allocator, owned, owned_bytes);
        if (!arranged) {
            memset(data, 0, sizeof *data);
            return msae__fail_memory(error);
        }
        data->values = owned = arranged;
        owned_bytes = bytes;
    }
    data->owned = owned;
    data->owned_bytes = owned_bytes;
    if (owned && allocator) data->allocator = *allocator;
    return MSAE_OK;
}

#ifndef MSAE_NO_STDIO
/* ---- >>shards files as one source of rows ---- */

/* Rows of the first file, then those of the second and so on. All must have as many columns; a file
   without rows is passed over, but not all of them may be so. Opening reads the headers alone and
   remembers each file's length: one that has another when its rows are read has changed since, and
   is refused. One file is open at a time, so that any number of them can be named. */

/* Bytes that are read at once where values are converted. */
#define MSAE__PIECE ((size_t)64 << 10)

struct msae_files_state {
    msae_opener opener; /* without `open`: files as they are */
    msae_reader reader; /* of one shard */
    size_t open;        /* its number; n_shards: none is open */
    unsigned char piece[MSAE__PIECE];
    float values[MSAE__PIECE / 8]; /* of a piece, where they go to places apart */
};

static msae_status msae__open_by(const msae_opener *opener, const char *path, msae_reader *reader,
                                 msae_error *error) {
    msae_error unheard;
    memset(reader, 0, sizeof *reader);
    /* (in brackets, as open and close may be macros) */
    if (opener->open) return (opener->open)(opener->user, path, reader, error ? error : &unheard);
    *reader = msae_from_file(path);
    return msae__open_reader(reader, error);
}

static void msae__close_by(const msae_opener *opener, msae_reader *reader) {
    if (!opener->open)
        msae__close_reader(reader);
    else if (opener->close)
        (opener->close)(opener->user, reader);
}

/* Has one shard open, and closes the one before it. */
static msae_status msae__open_shard(msae_files *files, size_t number, msae_error *error) {
    struct msae_files_state *state = files->state;
    const msae_shard *shard = &files->shards[number];
    msae_status status;
    if (state->open == number) return MSAE_OK;
    if (state->open < files->n_shards) msae__close_by(&state->opener, &state->reader);
    state->open = files->n_shards;
    status = msae__open_by(&state->opener, shard->path, &state->reader, error);
    if (status != MSAE_OK) return status;
    if (state->reader.size != shard->bytes) {
        msae__close_by(&state->opener, &state->reader);
        return msae__fail(error, MSAE_ERROR_IO, "has another length than when it was opened");
    }
    state->open = number;
    return MSAE_OK;
}

/* `count` values that lie together, as floats at out, `stride` apart; in pieces where they are not
   what is wanted. */
static msae_status msae__read_values(struct msae_files_state *state, const msae_shard *shard,
                                     uint64_t first, size_t count, size_t stride, float *out,
                                     msae_error *error) {
    const size_t width = msae_dtype_bytes(shard->dtype);
    uint64_t at = shard->offset + first * width;
    if (shard->dtype == MSAE_F32 && msae__little_endian() && !shard->is_swapped && stride == 1) {
        return msae__read_bytes(&state->reader, at, out, count * width, error);
    }
    while (count > 0) {
        const size_t values = msae__min(count, MSAE__PIECE / 8);
        msae_status status =
            msae__read_bytes(&state->reader, at, state->piece, values * width, error);
        if (status != MSAE_OK) return status;
        for (size_t i = 0; i < values * width && shard->is_swapped; i += width) {
            for (size_t low = 0; low < width / 2; low++) {
                const unsigned char kept = state->piece[i + low];
                state->piece[i + low] = state->piece[i + width - 1 - low];
                state->piece[i + width - 1 - low] = kept;
            }
        }
        msae__convert(shard->dtype, state->piece, values, stride == 1 ? out : state->values);
        for (size_t i = 0; i < values && stride > 1; i++) out[i * stride] = state->values[i];
        at += values * width;
        out += values * stride;
        count -= values;
    }
    return MSAE_OK;
}

/* Rows of one shard: its values lie together, or in Fortran order those of each column. */
static msae_status msae__read_shard(struct msae_files_state *state, const msae_shard *shard,
                                    uint64_t first, size_t rows, size_t cols, float *out,
                                    msae_error *error) {
    msae_status status = MSAE_OK;
    if (!shard->is_by_columns) {
        return msae__read_values(state, shard, first * cols, rows * cols, 1, out, error);
    }
    for (size_t c = 0; c < cols && status == MSAE_OK; c++) {
        status =
            msae__read_values(state, shard, c * shard->rows + first, rows, cols, out + c, error);
    }
    return status;
}

MSAE_API const msae_shard *msae_files_find(const msae_files *files, uint64_t row) {
    size_t low = 0, high = files->n_shards;
    if (row >= files->source.rows) return NULL;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (files->shards[middle].first_row <= row)
            low = middle;
        else
            high = middle;
    }
    return &files->shards[low];
}

/* Rows of a set of files; *at_fault says which file failed. */
static msae_status msae__read_files(void *user, uint64_t first, size_t rows, float *out,
                                    msae_error *error) {
    msae_files *files = (msae_files *)user;
    const size_t cols = files->source.cols;
    const msae_status within = msae__check_range(files->source.rows, first, rows, error);
    if (within != MSAE_OK) return within;
    while (rows > 0) {
        const msae_shard *shard = msae_files_find(files, first);
        const uint64_t row = first - shard->first_row, left = shard->rows - row;
        const size_t count = left < rows ? (size_t)left : rows;
        const size_t number = (size_t)(shard - files->shards);
        msae_status status = msae__open_shard(files, number, error);
        if (status == MSAE_OK) {
            status = msae__read_shard(files->state, shard, row, count, cols, out, error);
        }
        if (status != MSAE_OK) {
            files->at_fault = number;
            return status;
        }
        first += count;
        out += count * cols;
        rows -= count;
    }
    return MSAE_OK;
}

MSAE_API void msae_files_close(msae_files *files) {
    struct msae_files_state *state = files->state;
    if (state && state->open < files->n_shards) msae__close_by(&state->opener, &state->reader);
    msae__free(&files->allocator, files->shards, files->memory_bytes);
    memset(files, 0, sizeof *files);
}

/* The next file of a set: where its matrix lies, and whether it goes with those before it. */
static msae_status msae__add_shard(msae_files *files, const char *path, const char *tensor,
                                   int may_be_empty, msae_error *error) {
    const msae_opener *opener = &files->state->opener;
    msae_shard *shard = &files->shards[files->n_shards];
    msae_reader reader;
    msae__matrix matrix;
    msae_status status = msae__open_by(opener, path, &reader, error);
    if (status != MSAE_OK) return status;
    status = msae__locate_matrix(&reader, tensor, may_be_empty, &files->allocator, &matrix, error);
    if (matrix.cols == 0) matrix.cols = files->source.cols;
    if (status == MSAE_OK && files->source.cols > 0 && matrix.cols != files->source.cols) {
        status = msae__fail_at(error, MSAE_ERROR_SHAPE, MSAE_NO_POSITION, "has", matrix.cols,
                               " columns, the files before it have another number");
    }
    if (status == MSAE_OK && matrix.rows > UINT64_MAX - files->source.rows) {
        status = msae__fail(error, MSAE_ERROR_SHAPE, "has too many rows");
    }
    if (status == MSAE_OK) {
        shard->path = path;
        shard->first_row = files->source.rows;
        shard->rows = matrix.rows;
        shard->offset = matrix.offset;
        shard->bytes = reader.size;
        shard->dtype = matrix.dtype;
        shard->is_swapped = matrix.is_swapped;
        shard->is_by_columns = matrix.is_by_columns && matrix.cols > 1;
        files->source.cols = matrix.cols;
        files->source.rows += matrix.rows;
        files->n_shards++;
    }
    msae__close_by(opener, &reader);
    return status;
}

/* One block holds the shards and the state, 96 KB of which are for values that are converted. */
MSAE_API msae_status msae_files_open_by(msae_files *files, const char *const *paths, size_t n_paths,
                                        const char *tensor, const msae_opener *opener,
                                        const msae_allocator *allocator, msae_error *error) {
    size_t bytes, shard_bytes;
    msae_status status = MSAE_OK;
    memset(files, 0, sizeof *files);
    if (allocator) files->allocator = *allocator;
    if (n_paths == 0) return msae__fail(error, MSAE_ERROR_ARGUMENT, "no files are named");
    if (!msae__mul(n_paths, sizeof *files->shards, &shard_bytes) ||
        !msae__add(msae__round_up(shard_bytes, 16), sizeof *files->state, &bytes)) {
        return msae__fail_memory(error);
    }
    files->shards = (msae_shard *)msae__alloc(&files->allocator, bytes);
    if (!files->shards) return msae__fail_memory(error);
    memset(files->shards, 0, bytes);
    files->memory_bytes = bytes;
    files->state = (struct msae_files_state *)(void *)((unsigned char *)files->shards +
                                                       msae__round_up(shard_bytes, 16));
    files->state->open = n_paths;
    if (opener) files->state->opener = *opener;
    files->source.read = msae__read_files;
    files->source.user = files;
    for (size_t i = 0; i < n_paths && status == MSAE_OK; i++) {
        files->at_fault = i;
        status = msae__add_shard(files, paths[i], tensor, n_paths > 1, error);
    }
    if (status == MSAE_OK && files->source.rows == 0) {
        files->at_fault = 0;
        status = msae__fail(error, MSAE_ERROR_SHAPE, "has no rows, nor has any file after it");
    }
    if (status != MSAE_OK) {
        const size_t at_fault = files->at_fault;
        msae_files_close(files);
        files->at_fault = at_fault;
    }
    return status;
}

MSAE_API msae_status msae_files_open(msae_files *files, const char *const *paths, size_t n_paths,
                                     const char *tensor, const msae_allocator *allocator,
                                     msae_error *error) {
    return msae_files_open_by(files, paths, n_paths, tensor, NULL, allocator, error);
}
#endif /* MSAE_NO_STDIO */

/* ---------------------------------------------------------------------------------------------
   >>saving Saving: writers, models, quantised copies
   ------------------------------------------------------------------------------------------ */

MSAE_API msae_writer msae_to_memory(void *buffer, size_t room) {
    const msae_writer writer = {NULL, NULL, NULL, buffer, room, 0};
    return writer;
}

/* To the caller, or into the buffer, or nowhere. */
static int msae__write(msae_writer *to, const void *bytes, size_t size) {
    size_t after;
    if (!msae__add(to->bytes, size, &after)) return 0;
    if (to->write) {
        if (!to->write(to->user, bytes, size)) return 0;
    } else if (to->buffer) {
        if (after > to->room) return 0;
        memcpy((unsigned char *)to->buffer + to->bytes, bytes, size);
    }
    to->bytes = after;
    return 1;
}

/* A JSON header goes out piece by piece; run once to learn its length. */
static int msae__write_text(msae_writer *to, const char *text) {
    return msae__write(to, text, strlen(text));
}

static int msae__write_number(msae_writer *to, uint64_t number) {
    char buffer[24];
    msae__text text = msae__text_in(buffer, sizeof buffer);
    msae__put_number(&text, number);
    return msae__write_text(to, buffer);
}

/* In quotes; msae__check_writable has made sure that nothing needs an escape. */
static int msae__write_string(msae_writer *to, const char *text, size_t bytes) {
    return msae__write_text(to, "\"") && msae__write(to, text, bytes) && msae__write_text(to, "\"");
}

/* {"__metadata__":{"key":"value",..},"name":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},..}:
   metadata first if there is any, tensors one after the other without holes. */
static int msae__write_header_text(msae_writer *to, const msae_tensor *tensors, size_t n_tensors,
                                   const msae_metadata *metadata, size_t n_metadata) {
    size_t offset = 0;
    int ok = msae__write_text(to, "{");
    if (n_metadata > 0) {
        ok = ok && msae__write_text(to, "\"__metadata__\":{");
        for (size_t i = 0; i < n_metadata; i++) {
            ok = ok && (i == 0 || msae__write_text(to, ",")) &&
                 msae__write_string(to, metadata[i].key, metadata[i].key_bytes) &&
                 msae__write_text(to, ":") &&
                 msae__write_string(to, metadata[i].value, metadata[i].value_bytes);
        }
        ok = ok && msae__write_text(to, "}");
    }
    for (size_t i = 0; i < n_tensors; i++) {
        const msae_tensor *t = &tensors[i];
        ok = ok && (i + n_metadata == 0 || msae__write_text(to, ",")) &&
             msae__write_string(to, t->name, t->name_bytes) &&
             msae__write_text(to, ":{\"dtype\":\"") &&
             msae__write_text(to, msae_enum_name(MSAE_ENUM_DTYPE, (int)t->dtype)) &&
             msae__write_text(to, "\",\"shape\":[");
        for (size_t k = 0; k < t->rank; k++) {
            ok = ok && (k == 0 || msae__write_text(to, ",")) && msae__write_number(to, t->shape[k]);
        }
        ok = ok && msae__write_text(to, "],\"data_offsets\":[") && msae__write_number(to, offset) &&
             msae__write_text(to, ",") && msae__add(offset, t->bytes, &offset) &&
             msae__write_number(to, offset) && msae__write_text(to, "]}");
    }
    return ok && msae__write_text(to, "}");
}

/* Length, header, and spaces so that the tensors start on a multiple of 8. */
static int msae__write_header(msae_writer *to, const msae_tensor *tensors, size_t n_tensors,
                              const msae_metadata *metadata, size_t n_metadata) {
    size_t padded;
    unsigned char bytes[8];
    msae_writer counter = msae_to_memory(NULL, 0);
    if (!msae__write_header_text(&counter, tensors, n_tensors, metadata, n_metadata)) return 0;
    padded = msae__round_up(counter.bytes, 8);
    msae__store_le(bytes, 8, padded);
    return msae__write(to, bytes, 8) &&
           msae__write_header_text(to, tensors, n_tensors, metadata, n_metadata) &&
           msae__write(to, "       ", padded - counter.bytes);
}

/* Text that needs no escape in JSON. */
static int msae__is_plain_text(const char *text, size_t bytes) {
    const unsigned char *at = (const unsigned char *)text;
    while (bytes > 0) {
        size_t step = msae__utf8_length(at, bytes);
        if (step == 0 || *at < 0x20 || *at == '"' || *at == '\\') return 0;
        at += step;
        bytes -= step;
    }
    return 1;
}

/* What is written can be read again: names and texts are plain, shapes match their bytes. */
static msae_status msae__check_writable(const msae_tensor *tensors, size_t n_tensors,
                                        const msae_metadata *metadata, size_t n_metadata,
                                        msae_error *error) {
    for (size_t i = 0; i < n_tensors; i++) {
        uint64_t bytes;
        if ((unsigned)tensors[i].dtype >= MSAE_DTYPE_COUNT || tensors[i].rank > MSAE_MAX_RANK ||
            !msae__is_plain_text(tensors[i].name, tensors[i].name_bytes)) {
            return msae__fail_at(error, MSAE_ERROR_ARGUMENT, i, "tensor", i,
                                 " has a bad name, dtype or rank");
        }
        if (!msae__shape_bytes(&tensors[i], &bytes) || bytes != tensors[i].bytes) {
            return msae__fail_at(error, MSAE_ERROR_SHAPE, i, "tensor", i,
                                 "'s shape does not match its bytes");
        }
    }
    for (size_t i = 0; i < n_metadata; i++) {
        if (!msae__is_plain_text(metadata[i].key, metadata[i].key_bytes) ||
            !msae__is_plain_text(metadata[i].value, metadata[i].value_bytes)) {
            return msae__fail_at(error, MSAE_ERROR_ARGUMENT, i, "metadata", i,
                                 " has a character that would need an escape");
        }
    }
    return MSAE_OK;
}

/* The caller's tensors, byte for byte as they are in memory. */
static int msae__write_tensors(msae_writer *to, const void *user) {
    const msae_safetensors *file = (const msae_safetensors *)user;
    int ok =
        msae__write_header(to, file->tensors, file->n_tensors, file->metadata, file->n_metadata);
    for (size_t i = 0; ok && i < file->n_tensors; i++) {
        ok = msae__write(to, file->tensors[i].data, file->tensors[i].bytes);
    }
    return ok;
}

/* Something that writes itself. */
typedef int (*msae__content)(msae_writer *to, const void *user);

#ifndef MSAE_NO_STDIO
static int msae__write_stdio(void *user, const void *bytes, size_t size) {
    return fwrite(bytes, 1, size, (FILE *)user) == size;
}

/* path.PID.tmp, in memory of its own; NULL when there is none. Other processes have other names. */
static char *msae__temporary_name(const char *path) {
    const size_t bytes = strlen(path) + 32;
    char *name = (char *)MSAE_MALLOC(bytes);
    msae__text text;
    if (!name) return NULL;
    text = msae__text_in(name, bytes);
    msae__put(&text, path);
    msae__put(&text, ".");
    msae__put_number(&text, (uint64_t)MSAE__PROCESS);
    msae__put(&text, ".tmp");
    return name;
}

/* A file that was not there before: neither another program's nor a link is written through. One of
   that name was left by a process of the same number that was killed. */
static FILE *msae__create_file(const char *path) {
    FILE *file = MSAE__OPEN(path, MSAE__EXCLUSIVE);
    if (file) return file;
    if (msae__place_at(path) == MSAE__FOLDER || MSAE__REMOVE(path) != 0) return NULL;
    return MSAE__OPEN(path, MSAE__EXCLUSIVE);
}

/* Writes a temporary file, flushes it to the disk and renames it: whatever fails at whatever
   moment, path is the old file or the new one, and a failure leaves nothing else behind. Devices
   and the like are written to and never replaced. */
static msae_status msae__write_file(msae__content content, const void *user, msae_writer *to,
                                    msae_error *error) {
    const char *path = to->path;
    const msae__place place = msae__place_at(path);
    const int is_device = place == MSAE__DEVICE;
    msae_writer out;
    FILE *file;
    char *temporary;
    int ok;
    if (place == MSAE__FOLDER) return msae__fail(error, MSAE_ERROR_IO, "is a directory");
    temporary = msae__temporary_name(path);
    if (!temporary) return msae__fail_memory(error);
    file = is_device ? MSAE__OPEN(path, "wb") : msae__create_file(temporary);
    if (!file) {
        MSAE_FREE(temporary);
        return msae__fail(error, MSAE_ERROR_IO, "cannot be opened for writing");
    }
    out = msae_to_memory(NULL, 0);
    out.write = msae__write_stdio;
    out.user = file;
    ok = content(&out, user);
    to->bytes = out.bytes;
    /* 1: all of it is with the disk; a device has none */
    ok = fflush(file) == 0 && (is_device || MSAE__FLUSHED(file)) && ok;
    ok = fclose(file) == 0 && ok;
    if (!is_device) {
        ok = ok && MSAE__REPLACED(temporary, path); /* at no moment is there neither */
        if (ok) {
            msae__flush_folder(temporary);
        } else {
            MSAE__REMOVE(temporary);
        }
    }
    MSAE_FREE(temporary);
    return ok ? MSAE_OK : msae__fail(error, MSAE_ERROR_IO, "could not be written (disk full?)");
}

MSAE_API msae_writer msae_to_file(const char *path) {
    msae_writer writer = msae_to_memory(NULL, 0);
    writer.path = path;
    return writer;
}

MSAE_API msae_status msae_save_file(const msae_model *model, const char *path, msae_error *error) {
    msae_writer writer = msae_to_file(path);
    return msae_save(model, &writer, error);
}
#endif

/* Counts, fills memory, writes to the caller or writes a file, as the writer says. */
static msae_status msae__write_all(msae__content content, const void *user, msae_writer *to,
                                   msae_error *error) {
    to->bytes = 0;
#ifndef MSAE_NO_STDIO
    if (to->path) return msae__write_file(content, user, to, error);
#endif
    if (content(to, user)) return MSAE_OK;
    if (to->write) return msae__fail(error, MSAE_ERROR_IO, "could not be written");
    if (to->buffer) return msae__fail(error, MSAE_ERROR_MEMORY, "the buffer is too small");
    return msae__fail_memory(error);
}

MSAE_API msae_status msae_safetensors_write(msae_writer *writer, const msae_tensor *tensors,
                                            size_t n_tensors, const msae_metadata *metadata,
                                            size_t n_metadata, msae_error *error) {
    msae_safetensors file;
    msae_status status = msae__check_writable(tensors, n_tensors, metadata, n_metadata, error);
    writer->bytes = 0;
    if (status != MSAE_OK) return status;
    memset(&file, 0, sizeof file);
    file.tensors = (msae_tensor *)(uintptr_t)tensors; /* only read */
    file.n_tensors = n_tensors;
    file.metadata = (msae_metadata *)(uintptr_t)metadata;
    file.n_metadata = n_metadata;
    return msae__write_all(msae__write_tensors, &file, writer, error);
}

/* `count` numbers of `size` bytes each, `step` of them apart in memory, little-endian. */
static int msae__write_numbers(msae_writer *to, const void *values, size_t count, size_t size,
                               size_t step) {
    const unsigned char *from = (const unsigned char *)values;
    const int swap = !msae__little_endian();
    unsigned char chunk[1024];
    if (step == 1 && !swap) return msae__write(to, values, count * size);
    while (count > 0) {
        const size_t now = msae__min(count, sizeof chunk / size);
        for (size_t i = 0; i < now; i++, from += step * size) {
            unsigned char *out = chunk + i * size;
            memcpy(out, from, size);
            for (size_t b = 0; swap && b < size / 2; b++) {
                unsigned char byte = out[b];
                out[b] = out[size - 1 - b];
                out[size - 1 - b] = byte;
            }
        }
        if (!msae__write(to, chunk, now * size)) return 0;
        count -= now;
    }
    return 1;
}

/* A .npy of version 1.0: ten bytes, then a dictionary that spaces and a newline fill up to byte
   128, so that the values are aligned. */
static int msae__write_npy_data(msae_writer *to, const void *user) {
    const msae_data *data = (const msae_data *)user;
    char header[128];
    msae__text text = msae__text_in(header, sizeof header);
    msae__put(&text, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    msae__put_number(&text, data->rows);
    msae__put(&text, ", ");
    msae__put_number(&text, data->cols);
    msae__put(&text, "), }");
    while (text.at < header + 117) msae__put(&text, " ");
    msae__put(&text, "\n");
    return msae__write(to, "\x93NUMPY\x01\x00\x76\x00", 10) && msae__write(to, header, 118) &&
           msae__write_numbers(to, data->values, data->rows * data->cols, sizeof(float), 1);
}

MSAE_API msae_status msae_npy_write(msae_writer *writer, const float *x, size_t rows, size_t cols,
                                    msae_error *error) {
    const msae_data data = msae_data_view(x, rows, cols);
    return msae__write_all(msae__write_npy_data, &data, writer, error);
}

/* A float in decimal, exactly recoverable, without stdio and locale: nine digits less zeros at
   their end, with an exponent from 1e9 on and below 1e-5. NaN and Inf, which JSON lacks, are 0. */
static void msae__put_float(msae__text *text, float value) {
    double v = value, scaled;
    int exponent, digits = 9, point;
    uint64_t number;
    char out[24];
    if (msae__float_bits(value) >> 31) { /* -0 has one too */
        msae__put(text, "-");
        v = -v;
    }
    if (v == 0 || !msae__is_finite(value)) {
        msae__put(text, "0");
        return;
    }
    exponent = (int)floor(log10(v));
    scaled = v / pow(10, exponent - 8);
    if (scaled < 1e8) scaled = v / pow(10, --exponent - 8);
    number = (uint64_t)(scaled + 0.5);
    if (number >= 1000000000) {
        number /= 10;
        exponent++;
    }
    while (digits > 1 && number % 10 == 0) {
        number /= 10;
        digits--;
    }
    for (int i = digits; i-- > 0; number /= 10) out[i] = (char)('0' + number % 10);
    point = exponent + 1; /* digits before the point */
    if (point > 9 || point < -4) {
        msae__put_bytes(text, out, 1);
        if (digits > 1) {
            msae__put(text, ".");
            msae__put_bytes(text, out + 1, (size_t)digits - 1);
        }
        msae__put(text, exponent < 0 ? "e-" : "e");
        msae__put_number(text, (uint64_t)(exponent < 0 ? -exponent : exponent));
        return;
    }
    if (point <= 0) msae__put(text, "0.");
    for (int i = point; i < 0; i++) msae__put(text, "0");
    for (int i = 0; i < digits || i < point; i++) {
        if (i == point && i > 0) msae__put(text, ".");
        msae__put_bytes(text, i < digits ? out + i : "0", 1);
    }
}

/* Metadata under construction: texts stand one after the other in `text`, which has room for three
   lists of all levels (3 KB) and all else. */
#define MSAE__MAX_METADATA 64
typedef struct msae__notes {
    char text[4096];
    msae__text at;
    msae_metadata items[MSAE__MAX_METADATA];
    size_t count;
} msae__notes;

/* A note is begun, its text is put into notes->at, and it is ended. */
static void msae__note_begin(msae__notes *notes, const char *key) {
    msae_metadata *item = &notes->items[notes->count];
    MSAE_ASSERT(notes->count < MSAE__MAX_METADATA);
    item->key = key;
    item->key_bytes = strlen(key);
    item->value = notes->at.at;
}

static void msae__note_end(msae__notes *notes) {
    msae_metadata *item = &notes->items[notes->count++];
    MSAE_ASSERT(notes->at.at < notes->at.end);
    item->value_bytes = (size_t)(notes->at.at - item->value);
}

/* Notes of one text, one number, one float. */
static void msae__note(msae__notes *notes, const char *key, const char *value) {
    msae__note_begin(notes, key);
    msae__put(&notes->at, value);
    msae__note_end(notes);
}

static void msae__note_number(msae__notes *notes, const char *key, uint64_t value) {
    msae__note_begin(notes, key);
    msae__put_number(&notes->at, value);
    msae__note_end(notes);
}

static void msae__note_float(msae__notes *notes, const char *key, float value) {
    msae__note_begin(notes, key);
    msae__put_float(&notes->at, value);
    msae__note_end(notes);
}

/* What is written: tensors and notes. */
typedef struct msae__file {
    msae__list list;
    msae__notes notes;
    char checksum[17];
} msae__file;

/* Appends a tensor [rows] or, of rank 2, [rows, cols], whose values stay where they are. */
MSAE__SHARED void msae__add_tensor(msae__file *file, const char *name, msae_dtype dtype,
                                   const void *values, size_t rank, size_t rows, size_t cols) {
    msae_tensor *tensor = &file->list.tensors[file->list.n_tensors++];
    MSAE_ASSERT(file->list.n_tensors <= MSAE__MAX_TENSORS);
    memset(tensor, 0, sizeof *tensor);
    tensor->name = name;
    tensor->name_bytes = strlen(name);
    tensor->dtype = dtype;
    tensor->rank = rank;
    tensor->shape[0] = rows;
    tensor->shape[1] = cols;
    tensor->data = values;
    tensor->bytes = rows * (rank == 2 ? cols : 1) * msae_dtype_bytes(dtype);
}

/* Writing and reading of MSAE_TRAIN_LIST. */
#define MSAE__NEEDED 254         /* no field means this by default */
#define MSAE__UNKNOWN_CHOICE 255 /* by a name that this version does not know */

#define MSAE__WRITE(field, kind, range, ours, others, before, ...) \
    MSAE__WRITE_##kind("msae.train_" #field, h->field, range)
#define MSAE__WRITE_COUNT(key, value, range) msae__note_number(notes, key, value);
#define MSAE__WRITE_FLOAT(key, value, range) msae__note_float(notes, key, value);
#define MSAE__WRITE_TIMES(key, value, range) msae__note_number(notes, key, (uint64_t)(value));
#define MSAE__WRITE_CHOICE(key, value, range) \
    msae__note(notes, key, msae_enum_name(MSAE_ENUM_##range, value));

#define MSAE__READ(field, kind, range, ours, others, before, ...)                \
    if (before != MSAE__NEEDED && !msae__find_key(file, "msae.train_" #field)) { \
        h->field = before;                                                       \
    } else {                                                                     \
        h->field = MSAE__READ_##kind("msae.train_" #field, range);               \
    }
#define MSAE__READ_COUNT(key, range) msae__read_number(file, key, ok)
#define MSAE__READ_FLOAT(key, range) msae__read_one_float(file, key, ok)
#define MSAE__READ_TIMES(key, range) msae__read_times(file, key, ok)
#define MSAE__READ_CHOICE(key, range) msae__read_choice(file, key, MSAE_ENUM_##range, ok)

/* What a model's file says: notes with all that shapes a model and, as its history, how it was
   trained, and the model's tensors. Adding to both is allowed until msae__finish_description. */
static void msae__describe_model(const msae_model *model, msae__file *file) {
    const size_t n = model->n_latents, d = model->n_inputs;
    const msae_history *h = &model->history;
    msae__notes *notes = &file->notes;
    memset(file, 0, sizeof *file);
    notes->at = msae__text_in(notes->text, sizeof notes->text);
    msae__note(notes, "msae.activation",
               msae_enum_name(MSAE_ENUM_ACTIVATION, (int)model->activation));
    msae__note(notes, "msae.format", "msae");
    if (model->k > 0) msae__note_number(notes, "msae.k", model->k);
    msae__note_begin(notes, "msae.level_weights");
    for (size_t i = 0; i < model->n_levels; i++) {
        if (i > 0) msae__put(&notes->at, ",");
        msae__put_float(&notes->at, model->level_weights[i]);
    }
    msae__note_end(notes);
    msae__note(notes, "msae.version", MSAE_VERSION);
    msae__note_number(notes, "msae.n_inputs", d);
    msae__note_number(notes, "msae.n_latents", n);
    msae__note_begin(notes, "msae.nesting");
    for (size_t i = 0; i < model->n_levels; i++) {
        if (i > 0) msae__put(&notes->at, ",");
        msae__put_number(&notes->at, model->nesting[i]);
    }
    msae__note_end(notes);
    msae__note(notes, "msae.normalize", model->normalize ? "1" : "0");
    msae__note(notes, "msae.recipe", msae_enum_name(MSAE_ENUM_RECIPE, (int)model->recipe));
    msae__note_float(notes, "msae.soft_cap", model->soft_cap);
    msae__note(notes, "msae.tied", model->tied ? "1" : "0");
    msae__note_number(notes, "msae.train_rows", h->rows);
    msae__note_number(notes, "msae.train_seed", h->seed);
    msae__note_number(notes, "msae.train_steps", h->steps);
    MSAE_TRAIN_LIST(MSAE__WRITE)
    if (model->by_rows)
        msae__note(notes, "msae.weights", msae_enum_name(MSAE_ENUM_DTYPE, (int)model->weights));
    msae__list_tensors(model, &file->list);
}

/* Once all tensors and notes are there: in the order of their names, with a checksum over both. */
static void msae__finish_description(msae__file *file) {
    msae__notes *notes = &file->notes;
    msae__sort(notes->items, notes->count, sizeof notes->items[0], msae__compare_keys);
    msae__sort(file->list.tensors, file->list.n_tensors, sizeof file->list.tensors[0],
               msae__compare_names);
    msae__checksum(file->list.tensors, file->list.n_tensors, notes->items, notes->count, 1,
                   file->checksum);
    msae__note(notes, "msae.checksum", file->checksum);
}

/* The k that a program may have set is one that the model's file can be read with. */
static msae_status msae__check_own_k(const msae_model *model, msae_error *error) {
    if (!msae__has_k(model->recipe)) {
        if (model->k == 0) return MSAE_OK;
        return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "model.k =", model->k,
                             ": relu and jumprelu have no k");
    }
    if (model->k >= 1 && model->k <= model->n_latents) return MSAE_OK;
    return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "model.k =", model->k,
                         " is not between 1 and the number of latents");
}

/* Header and tensors in the file's order: encoders by columns, numbers little-endian. */
static int msae__write_content(msae_writer *to, const void *user) {
    const msae__file *file = (const msae__file *)user;
    int ok = msae__write_header(to, file->list.tensors, file->list.n_tensors, file->notes.items,
                                file->notes.count);
    for (size_t i = 0; ok && i < file->list.n_tensors; i++) {
        const msae_tensor *tensor = &file->list.tensors[i];
        const size_t size = msae_dtype_bytes(tensor->dtype);
        if (msae__is_small(tensor)) { /* little-endian in memory too */
            ok = msae__write(to, tensor->data, tensor->bytes);
        } else if (msae__is_transposed(tensor)) {
            const float *values = (const float *)tensor->data;
            for (size_t c = 0; ok && c < tensor->shape[0]; c++) {
                ok = msae__write_numbers(to, values + c, tensor->shape[1], size, tensor->shape[0]);
            }
        } else {
            ok = msae__write_numbers(to, tensor->data, tensor->bytes / size, size, 1);
        }
    }
    return ok;
}

MSAE_API msae_status msae_save(const msae_model *model, msae_writer *writer, msae_error *error) {
    msae__file file;
    msae_status status = msae__check_own_k(model, error);
    writer->bytes = 0;
    if (status != MSAE_OK) return status;
    msae__describe_model(model, &file);
    msae__finish_description(&file);
    return msae__write_all(msae__write_content, &file, writer, error);
}

/* A choice by its name, or by its number in the enum, as versions before 0.6 wrote it. A later
   version may know more of them: its models can be used, but its runs cannot go on. */
static int msae__read_choice(const msae_safetensors *file, const char *key, msae_enum kind,
                             int *ok) {
    const msae_metadata *note = msae__find_note(file, key, ok);
    int value;
    if (!note) return 0;
    value = msae__enum_value(kind, note->value, note->value_bytes);
    if (value >= 0) return value;
    if (note->value_bytes > 0 && note->value[0] >= '0' && note->value[0] <= '9') {
        const uint64_t number = msae__read_number(file, key, ok);
        if (number > MSAE__UNKNOWN_CHOICE) *ok = 0;
        return (int)(number & MSAE__UNKNOWN_CHOICE);
    }
    return MSAE__UNKNOWN_CHOICE;
}

/* How often something is done in a run. */
static int msae__read_times(const msae_safetensors *file, const char *key, int *ok) {
    const uint64_t number = msae__read_number(file, key, ok);
    if (number > MSAE_MAX_REVIVALS) *ok = 0;
    return (int)(number & 0xffff);
}

/* Each hyper-parameter by its name; what a file means that lacks one is in the last column. */
static void msae__read_history(const msae_safetensors *file, msae_history *h, int *ok) {
    h->rows = msae__read_number(file, "msae.train_rows", ok);
    h->seed = msae__read_number(file, "msae.train_seed", ok);
    h->steps = msae__read_number(file, "msae.train_steps", ok);
    MSAE_TRAIN_LIST(MSAE__READ)
    if (!(h->warmup >= 0) || !(h->decay >= 0)) *ok = 0;
}

/* What a file says of the training of a model: the weights of its levels and its history. */
static void msae__read_training(const msae_safetensors *file, msae_model_desc *desc, float *weights,
                                msae_history *history, int *ok) {
    double values[MSAE_MAX_LEVELS];
    desc->n_level_weights =
        msae__read_list(file, "msae.level_weights", values, MSAE_MAX_LEVELS, ok);
    for (size_t i = 0; *ok && i < desc->n_level_weights; i++) weights[i] = (float)values[i];
    desc->level_weights = weights;
    if (msae__find_key(file, "msae.train_steps")) msae__read_history(file, history, ok);
}

/* The descriptor of a model like this one. */
static msae_model_desc msae__desc_of(const msae_model *model) {
    msae_model_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.n_inputs = model->n_inputs;
    desc.n_latents = model->n_latents;
    desc.recipe = model->recipe;
    desc.activation = model->activation;
    desc.nesting = model->nesting;
    desc.n_levels = model->n_levels;
    desc.level_weights = model->level_weights;
    desc.n_level_weights = model->n_levels;
    desc.k = model->k;
    desc.tied = model->tied;
    desc.normalize = model->normalize;
    desc.soft_cap = model->soft_cap;
    desc.host.simd = model->simd;
    desc.host.allocator = model->allocator;
    desc.host.parallel = model->parallel;
    return desc;
}

/* Everything but the matrices and their scales, between models of one shape. */
static void msae__copy_rest(msae_model *to, const msae_model *from) {
    const msae__part *part;
    msae_tensor tensor;
    size_t at = 0;
    to->history = from->history;
    to->has_level_thresholds = from->has_level_thresholds;
    while ((part = msae__next_part(to, &at, &tensor)) != NULL) {
        if (part->shape >= MSAE__ROWS || part->when & MSAE__INT8) continue;
        memcpy(msae__part_values(to, part), msae__part_values(from, part), tensor.bytes);
    }
}

/* Rows of a matrix of any kind as floats. */
static void msae__widen_rows(const msae_model *model, const void *rows, const float *scales,
                             float *out) {
    const size_t d = model->n_inputs, bytes = d * msae_dtype_bytes(model->weights);
    for (size_t j = 0; j < model->n_latents; j++, out += d) {
        const unsigned char *row = (const unsigned char *)rows + j * bytes;
        if (model->weights == MSAE_F32) {
            memcpy(out, row, bytes);
            continue;
        }
        msae__widen_weights(model->weights, row, scales ? scales[j] : 1, 0, d, out);
    }
}

/* A model by rows becomes a float32 one by columns. */
static msae_status msae__widen(msae_model *model, msae_error *error) {
    msae_model_desc desc = msae__desc_of(model), resolved;
    msae_model wide;
    const int floats = model->weights == MSAE_F32;
    msae_status status = msae__model_place(&wide, &desc, &resolved, NULL, 0, error);
    if (status != MSAE_OK) return status;
    msae__widen_rows(model, floats ? (const void *)model->encoder : model->small_encoder,
                     model->encoder_scale, wide.encoder);
    if (!model->tied) {
        msae__widen_rows(model, floats ? (const void *)model->decoder : model->small_decoder,
                         model->decoder_scale, wide.decoder);
    }
    msae__copy_rest(&wide, model);
    msae_model_free(model);
    *model = wide;
    return MSAE_OK;
}

/* Quantises a matrix of floats; 0 when one is beyond the range of float16. */
static int msae__narrow_rows(const msae_model *to, const float *rows, void *out, float *scales) {
    const size_t d = to->n_inputs;
    unsigned char *at = (unsigned char *)out;
    int fits = 1;
    for (size_t j = 0; j < to->n_latents; j++, rows += d) {
        float largest = 0, factor;
        for (size_t i = 0; i < d; i++)
            largest = fabsf(rows[i]) > largest ? fabsf(rows[i]) : largest;
        factor = largest > 1e-30f ? 127 / largest : 0;
        if (to->weights == MSAE_I8) scales[j] = factor > 0 ? largest / 127 : 0;
        for (size_t i = 0; i < d; i++) {
            if (to->weights == MSAE_I8) {
                const float value = rows[i] * factor;
                *at++ = (unsigned char)(int)(value < 0 ? value - 0.5f : value + 0.5f);
            } else {
                const uint16_t bits =
                    to->weights == MSAE_F16 ? msae__to_half(rows[i]) : msae__to_bfloat(rows[i]);
                fits &= (bits & 0x7fffu) < (to->weights == MSAE_F16 ? 0x7c00u : 0x7f80u);
                *at++ = (unsigned char)(bits & 255);
                *at++ = (unsigned char)(bits >> 8);
            }
        }
    }
    return fits;
}

/* Rows as they are, or rounded to float16 or bfloat16 (to nearest, ties to even), or to integers of
   largest / 127 a row. What float16 cannot hold is refused. */
MSAE_API msae_status msae_compact(const msae_model *model, msae_dtype weights,
                                  const msae_load_desc *desc, msae_model *compact,
                                  msae_error *error) {
    msae_model_desc wanted = msae__desc_of(model), resolved;
    const size_t matrix = model->n_latents * model->n_inputs * sizeof(float);
    msae_status status;
    int fits = 1;
    memset(compact, 0, sizeof *compact);
    if (model->weights != MSAE_F32) {
        return msae__fail(error, MSAE_ERROR_UNSUPPORTED, "the weights are small already");
    }
    wanted.weights = weights;
    wanted.by_rows = 1;
    memset(&wanted.host, 0, sizeof wanted.host);
    wanted.host.simd = model->simd;
    if (desc) wanted.host = desc->host;
    status = msae__model_place(compact, &wanted, &resolved, NULL, 0, error);
    if (status != MSAE_OK) return status;
    if (weights == MSAE_F32) {
        memcpy(compact->encoder, model->encoder, matrix);
        if (!model->tied) memcpy(compact->decoder, model->decoder, matrix);
    } else {
        fits = msae__narrow_rows(compact, model->encoder, (void *)(uintptr_t)compact->small_encoder,
                                 (float *)(uintptr_t)compact->encoder_scale);
        if (!model->tied) {
            fits &= msae__narrow_rows(compact, model->decoder,
                                      (void *)(uintptr_t)compact->small_decoder,
                                      (float *)(uintptr_t)compact->decoder_scale);
        }
    }
    msae__copy_rest(compact, model);
    if (fits) return MSAE_OK;
    msae_model_free(compact);
    return msae__fail(error, MSAE_ERROR_NOT_FINITE, "a weight is beyond the range of 16 bits");
}

#ifndef MSAE_NO_TRAIN
/* ---------------------------------------------------------------------------------------------
   >>descriptor Training: the descriptor
   ------------------------------------------------------------------------------------------ */

/* 0 means `value`, MSAE_OFF means 0. */
static float msae__default_float(float given, float value) {
    return given == 0 ? value : given == MSAE_OFF ? 0 : given;
}

/* Ours go with the root of the batch, as Adam's steps do when the noise goes down with it; beyond
   four times 256 rows that was not found to help. */
static float msae__default_lr(msae_recipe recipe, size_t batch) {
    switch (recipe) {
    case MSAE_RECIPE_MSAE:
    case MSAE_RECIPE_MSAE_WIDTH:
        return (float)(2e-3 * msae__sqrt((double)msae__min(batch, 1024) / 256));
    case MSAE_RECIPE_TOPK:
    case MSAE_RECIPE_BATCHTOPK:
        return 5e-4f;
    case MSAE_RECIPE_RELU:
    case MSAE_RECIPE_JUMPRELU:
        return 5e-5f;
    default:
        return 1e-4f;
    }
}

static float msae__default_sparse_weight(msae_recipe recipe) {
    return recipe == MSAE_RECIPE_RELU ? 0.003f : recipe == MSAE_RECIPE_JUMPRELU ? 0.001f : 0;
}

static int msae__has_levels(msae_recipe recipe) {
    return msae__is_nested(recipe) || recipe == MSAE_RECIPE_MSAE_WIDTH;
}

/* Whether a penalty, and no count, keeps latents off. */
static int msae__has_penalty(msae_recipe recipe) {
    return recipe == MSAE_RECIPE_RELU || recipe == MSAE_RECIPE_JUMPRELU;
}

/* The recipes whose defaults are measured. */
static int msae__is_ours(msae_recipe recipe) {
    return recipe == MSAE_RECIPE_MSAE || recipe == MSAE_RECIPE_MSAE_WIDTH;
}

/* Zero, "off" and the default say nothing, so that a resolved descriptor can be used again. */
static int msae__says(double given, double usual) {
    return given != 0 && given != MSAE_OFF && given != usual;
}

/* Whether `recipe` and `schedule` use a field of MSAE_TRAIN_LIST, and which of them decides. */
#define MSAE__USED_ALL 1
#define MSAE__USED_PENALTY msae__has_penalty(recipe)
#define MSAE__USED_JUMPRELU (recipe == MSAE_RECIPE_JUMPRELU)
#define MSAE__USED_TRAPEZOID (schedule == MSAE_SCHEDULE_TRAPEZOID)
#define MSAE__DECIDES_ALL MSAE_ENUM_RECIPE
#define MSAE__DECIDES_PENALTY MSAE_ENUM_RECIPE
#define MSAE__DECIDES_JUMPRELU MSAE_ENUM_RECIPE
#define MSAE__DECIDES_TRAPEZOID MSAE_ENUM_SCHEDULE

#define MSAE__IDLE(field, kind, range, nested, others, before, use, ...)                \
    if (!MSAE__USED_##use && msae__says((double)desc->field, ours ? nested : others)) { \
        idle = " has no " #field;                                                       \
        decides = MSAE__DECIDES_##use;                                                  \
    }

/* Fields that would have no effect on the recipe are mistakes. `levels` are the resolved ones. */
static msae_status msae__check_fields(const msae_train_desc *desc, msae_recipe recipe,
                                      msae_schedule schedule, const size_t *levels,
                                      msae_error *error) {
    const msae_model_desc *m = &desc->model;
    const int has_levels = msae__has_levels(recipe), ours = msae__is_ours(recipe);
    const int has_list = m->nesting && m->n_levels > 0;
    msae_enum decides = MSAE_ENUM_RECIPE;
    const char *idle = NULL;
    MSAE_TRAIN_LIST(MSAE__IDLE)
    if (idle && decides == MSAE_ENUM_SCHEDULE) {
        return msae__fail_text(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "schedule ",
                               msae_enum_name(MSAE_ENUM_SCHEDULE, (int)schedule), idle);
    }
    if (!has_levels && m->nesting_start != 0) idle = " has no model.nesting_start";
    if (!has_levels && has_list && (m->n_levels != 1 || m->nesting[0] != levels[0])) {
        idle = " has no model.nesting";
    }
    if (!has_levels && m->level_weights && m->level_weights[0] != 1) {
        idle = " has one level, whose weight is 1 (model.level_weights)";
    }
    if (recipe != MSAE_RECIPE_JUMPRELU && msae__says(m->threshold, 0.001f)) {
        idle = " has no model.threshold";
    }
    if (idle) {
        return msae__fail_text(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "recipe ",
                               msae_enum_name(MSAE_ENUM_RECIPE, (int)recipe), idle);
    }
    if (has_list && m->nesting_start != 0 && m->nesting_start != m->nesting[0]) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT,
                          "model.nesting_start and model.nesting disagree");
    }
    return MSAE_OK;
}

/* What msae_train_desc_resolve makes of MSAE_TRAIN_LIST: defaults, then checks. */
#define MSAE__DEFAULT(field, kind, range, nested, others, ...) \
    MSAE__DEFAULT_##kind(r.field, ours ? nested : others)
#define MSAE__DEFAULT_COUNT(value, usual) value = value != 0 ? value : (usual);
#define MSAE__DEFAULT_TIMES(value, usual) value = value != 0 ? value : (usual);
#define MSAE__DEFAULT_CHOICE(value, usual) value = value != 0 ? value : (usual);
#define MSAE__DEFAULT_FLOAT(value, usual) \
    finite &= msae__is_finite(value);     \
    value = msae__default_float(value, usual);
#define MSAE__CHECK(field, kind, range, ...)                                                    \
    if (!(MSAE__CHECK_##kind(r.field, range))) {                                                \
        return msae__fail_text(error, wrong, MSAE_NO_POSITION, "", #field, " is out of range"); \
    }
#define MSAE__CHECK_COUNT(value, range) value > 0 && value <= SIZE_MAX
#define MSAE__CHECK_FLOAT(value, range) MSAE__CHECK_##range(value)
#define MSAE__CHECK_ABOVE_0(value) value > 0
#define MSAE__CHECK_FROM_0(value) value >= 0
#define MSAE__CHECK_BELOW_1(value) value >= 0 && value < 1
#define MSAE__CHECK_OR_OFF(value) value > 0 || value == MSAE_OFF
#define MSAE__CHECK_TIMES(value, range) (value >= MSAE_OFF) && (value <= MSAE_MAX_REVIVALS)
#define MSAE__CHECK_CHOICE(value, range) (unsigned)value < MSAE_##range##_COUNT

MSAE_API msae_status msae_train_desc_resolve(const msae_train_desc *desc, msae_train_desc *resolved,
                                             msae_error *error) {
    const msae_status wrong = MSAE_ERROR_ARGUMENT;
    msae_train_desc r = *desc;
    size_t levels[MSAE_MAX_LEVELS];
    int ours;
    int finite = msae__is_finite(r.max_norm);
    size_t entries;
    msae_status status = msae__resolve_model(&desc->model, &r.model, levels, NULL, error);
    if (status != MSAE_OK) return status;
    ours = msae__is_ours(r.model.recipe);
    MSAE_TRAIN_LIST(MSAE__DEFAULT)
    if (!finite) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "a number to train with is NaN or Inf");
    }
    if (desc->lr == 0) r.lr = msae__default_lr(r.model.recipe, r.batch);
    if (desc->clip == MSAE_OFF) r.clip = MSAE_OFF;
    if (desc->sparse_weight == 0) r.sparse_weight = msae__default_sparse_weight(r.model.recipe);
    MSAE_TRAIN_LIST(MSAE__CHECK)
    if (!(r.warmup + r.decay <= 1)) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "warmup and decay are not shares of one run");
    }
    if (r.max_norm != 0 && !(r.max_norm >= 1)) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "max_norm is below 1, the median norm");
    }
    status = msae__check_fields(desc, r.model.recipe, r.schedule, levels, error);
    if (status != MSAE_OK) return status;
    if (!msae__has_levels(r.model.recipe) || desc->model.nesting) {
        r.model.nesting_start = desc->model.nesting_start;
    }
    if (msae__check_collective(&r.collective, error) != MSAE_OK) return MSAE_ERROR_ARGUMENT;
    if ((msae__is_batch_topk(r.model.recipe) &&
         (!msae__mul(r.batch, r.model.k, &entries) || entries > SIZE_MAX / 64)) ||
        r.batch > UINT32_MAX) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the batch is too large");
    }
    *resolved = r;
    return MSAE_OK;
}

/* ---------------------------------------------------------------------------------------------
   >>memory Training: memory. All that steps work in lies in one block with weights, gradients and
   moments. A batch runs through in tiles of rows, so that the block does not grow with it
   ------------------------------------------------------------------------------------------ */

enum { MSAE__ROW_BAD = 1, MSAE__ROW_FAR }; /* with NaN or Inf; beyond the limit of norms */

/* What is known of one row of the tile. */
typedef struct msae__row {
    float moments[2]; /* its mean and deviation under normalize, else 0 and 1 */
    int bad;          /* left out: MSAE__ROW_BAD, MSAE__ROW_FAR; 0: it does */
    double norm;      /* ||x|| */
    double spread;    /* ||x - m||^2, what nmse divides by */
    double squared_error[MSAE_MAX_LEVELS]; /* of each level; cosine: the loss itself */
    uint64_t zero_levels; /* cosine: a bit for each level whose reconstruction is zero */
    double sparse;        /* the row's sparsity term */
    size_t l0;            /* active latents */
} msae__row;

/* A kept latent of a batch (batchtopk). */
typedef struct msae__kept {
    uint32_t row, latent;
    float value;
} msae__kept;

/* Floats of a tile's pre-activations: they stay in the cache between the phases, while the
   gradients, which every chunk of it reads and writes, are passed over as seldom as possible. */
#define MSAE__TILE_FLOATS ((size_t)1 << 20)
#define MSAE__TILE_ROWS 512 /* at most; half of them but for topk */
/* The same once more for so many workers, up to so many times: what every worker fetches of the
   decoder and of the encoder for a tile serves more rows then, and there are tasks for all. */
#define MSAE__TILE_WORKERS 4
#define MSAE__TILE_TIMES 4
/* Rows of a tile that are listed by latents at a time, at most: the lists stay in the second-level
   cache beside G. With topk, whose lists are short, all that TILE_ROWS allows. Sums go from chunk
   to chunk, so that they do not depend on the tile. */
#define MSAE__CHUNK_ROWS 128
/* Blocks of latents that share what a worker fetches of G, at most. */
#define MSAE__GRADIENT_BLOCKS 2
/* Rows that a gradient gathers from before it goes on to the next latent: their panel of inputs
   stays in the first-level cache, that of G in the second. Latents with fewer entries than this
   among them take all rows of the chunk at once: the call would cost more than the cache saves. */
#define MSAE__GATHER_ROWS 64
#define MSAE__GATHER_ENTRIES 16
/* The gradients of the latent that is so many behind are fetched meanwhile. */
#define MSAE__GATHER_AHEAD 2

/* With recipe msae, a latent counts as active at the largest level up to this. */
#define MSAE__STRONGEST 64

/* All that a step works in. The batch runs through in tiles of tile_rows rows. Arrays by panel hold
   MSAE__PANEL columns of every row side by side, arrays by block MSAE__LATENT_BLOCK latents, so
   that a task reads and writes one piece of memory. Columns beyond d are zero. */
struct msae_train_workspace {
    /* What the trainer's descriptor points to: the caller's lists need not outlive the call that
       makes a trainer, and the trainer may be moved. */
    size_t nesting[MSAE_MAX_LEVELS];
    float level_weights[MSAE_MAX_LEVELS];

    size_t tile_rows, chunk_rows, stride;

    msae__row *rows; /* [tile_rows] */
    float *target;   /* x in the model's space [panels][tile_rows][PANEL] */
    float *inputs;   /* xin - pre_bias, the same shape */
    float *centred;  /* xin - pre_bias once more, by rows [tile_rows][stride] */
    float *packed;   /* .. and packed for the product */
    /* Pre-activations by block [blocks][tile_rows][LATENT_BLOCK]; selection puts each row's kept
       latents to the front of its place, level after level: */
    float *latents;    /* their values, */
    uint8_t *index;    /* the latents within the block, MSAE__NEGATIVE where abs turned the sign, */
    uint8_t *level;    /* the level at which each enters, */
    uint8_t *ends;     /* and [blocks][tile_rows][L + 1] where each level ends, and the list */
    float *relu;       /* jumprelu: relu(pre) of the listed; its list goes on behind the active */
                       /* latents with those in whose band the threshold lies */
    float *levels;     /* sums, then reconstructions r_i, then gradients G_i of each row */
                       /* [panels][tile_rows][L][PANEL] */
    float *start;      /* pre_bias by panels, where every reconstruction starts */
    double *partial;   /* sums of a panel of columns [panels][tile_rows][L][3] */
    float *theta;      /* exp(log_threshold) [n], jumprelu */
    float *norms;      /* ||decoder_j|| + eps [n] */
    float *projection; /* <graddec_j, decoder_j> [n] */
    float *probe;      /* of the pre-activations of a block of latents [blocks] */
    double *squares;   /* of the gradients of a block of latents [blocks] */

    uint32_t *fired;                    /* how often each latent was active in this period [n] .. */
    uint32_t *fired_now;                /* .. and in the batch whose gradients these are [n] .. */
    uint32_t *fired_since;              /* .. and since the last revival [n], NULL without these */
    uint64_t rows_since;                /* rows of that time */
    size_t fired_level;                 /* the level at which that counts */
    uint64_t period_steps, period_rows; /* since `fired` began */
    size_t dead;                        /* dead latents of the last full period */
    int had_period;

    /* batchtopk: candidates for the batch's largest */
    msae__kept *kept;
    int32_t *kept_keys, *kept_scratch;
    size_t kept_count, kept_room;
    size_t *row_counts; /* [tile_rows] */
    float lowest;       /* smallest value kept in this batch, 0: none */

    /* for each worker */
    float *panels;                     /* msae__panel_floats */
    float *decoder_panel;              /* of a block [LATENT_BLOCK][PANEL] */
    float *row;                        /* [d] */
    int32_t *keys, *scratch;           /* [n], [2 cut_room(n)] */
    uint32_t *list_rows, *list_levels; /* [list_blocks][LATENT_BLOCK][list_room] */
    float *list_values, *list_dots;
    size_t list_blocks, list_room;

    int has_gradients; /* msae_trainer_gradients succeeded since the last update */
    size_t gradient_rows, gradient_skipped;

    /* msae_trainer_fit with shares: where each ends in the batch, and the sums of all gradients */
    const size_t *share_ends;
    size_t shares;
    double *share_sums; /* [msae__share_count]; NULL without shares */
};

/* Into how many blocks of latents and panels of columns a model falls; the last of each may be
   shorter. */
static size_t msae__blocks(const msae_model *model) {
    return msae__ceil_div(model->n_latents, MSAE__LATENT_BLOCK);
}

static size_t msae__column_panels(const msae_model *model) {
    return msae__ceil_div(model->n_inputs, MSAE__PANEL);
}

/* Columns of a panel, and latents of a block. */
static size_t msae__panel_width(const msae_model *model, size_t panel) {
    return msae__min(MSAE__PANEL, model->n_inputs - panel * MSAE__PANEL);
}

static size_t msae__block_size(const msae_model *model, size_t block) {
    return msae__min(MSAE__LATENT_BLOCK, model->n_latents - block * MSAE__LATENT_BLOCK);
}

/* Arrays shaped like the model's own, for its gradients and moments. */
static msae_parameters msae__parameters_layout(const msae_model *model, msae__arena *arena) {
    const size_t n = model->n_latents, d = model->n_inputs;
    msae_parameters p;
    p.encoder = MSAE__TAKE(arena, float, n *d);
    p.decoder = model->tied ? p.encoder : MSAE__TAKE(arena, float, n *d);
    p.pre_bias = MSAE__TAKE(arena, float, d);
    p.latent_bias = MSAE__TAKE(arena, float, n);
    p.log_threshold = model->recipe == MSAE_RECIPE_JUMPRELU ? MSAE__TAKE(arena, float, n) : NULL;
    return p;
}

/* One of the arrays of msae_parameters. */
typedef struct msae__array {
    float *values;
    size_t count; /* 0: the model has no such array, or it is that of another name */
    size_t width; /* of them for each latent; 0: pre_bias, which is of no latent */
} msae__array;

/* All of them, in the order of msae_parameters. */
enum {
    MSAE__ENCODER,
    MSAE__DECODER,
    MSAE__PRE_BIAS,
    MSAE__LATENT_BIAS,
    MSAE__LOG_THRESHOLD,
    MSAE__ARRAYS
};

/* What is done alike to all parameters takes them from this list: zeroing, norms, sums over
   processes and shares, checks of a file. */
static void msae__arrays_of(const msae_model *model, const msae_parameters *p,
                            msae__array arrays[MSAE__ARRAYS]) {
    const size_t n = model->n_latents, d = model->n_inputs;
    const size_t widths[MSAE__ARRAYS] = {d, model->tied ? 0 : d, 0, 1, p->log_threshold ? 1u : 0};
    float *const values[MSAE__ARRAYS] = {p->encoder, p->decoder, p->pre_bias, p->latent_bias,
                                         p->log_threshold ? p->log_threshold : p->latent_bias};
    for (size_t a = 0; a < MSAE__ARRAYS; a++) {
        arrays[a].values = values[a];
        arrays[a].width = widths[a];
        arrays[a].count = a == MSAE__PRE_BIAS ? d : n * widths[a];
    }
}

/* The part of an array that belongs to a block of latents; pre_bias belongs to the block behind the
   last one. */
static msae__array msae__array_block(const msae_model *model, const msae__array *array,
                                     size_t block) {
    const size_t first = block * MSAE__LATENT_BLOCK, n = model->n_latents;
    const size_t latents = first < n ? msae__min(MSAE__LATENT_BLOCK, n - first) : 0;
    msae__array part = *array;
    part.values += msae__min(first, n) * array->width;
    if (array->width > 0 || latents > 0) part.count = latents * array->width;
    return part;
}

/* Sets the arrays of a block to zero. */
static void msae__zero_block(const msae_model *model, const msae_parameters *p, size_t block) {
    msae__array arrays[MSAE__ARRAYS];
    msae__arrays_of(model, p, arrays);
    for (size_t a = 0; a < MSAE__ARRAYS; a++) {
        const msae__array part = msae__array_block(model, &arrays[a], block);
        memset(part.values, 0, part.count * sizeof *part.values);
    }
}

/* Rows of a tile and of its chunks. Where few latents are kept, passing over the gradients is what
   costs. With batchtopk tiles do not grow: candidates of a whole tile are kept. */
static void msae__set_rows(const msae_trainer *trainer, struct msae_train_workspace *ws) {
    const msae_model *model = &trainer->model;
    const int few = model->recipe == MSAE_RECIPE_TOPK;
    const int whole_batch = msae__is_batch_topk(model->recipe);
    const size_t floats = few           ? 2 * MSAE__TILE_FLOATS
                          : whole_batch ? MSAE__TILE_FLOATS / 2
                                        : MSAE__TILE_FLOATS;
    const size_t most = few ? MSAE__TILE_ROWS : MSAE__TILE_ROWS / 2;
    const size_t fit = msae__min(floats / model->n_latents,
                                 2 * floats / (model->n_levels * msae__stride(model->n_inputs)));
    const size_t rows = msae__min(msae__max(fit, 16), most);
    const size_t chunks = few ? 1 : msae__ceil_div(rows, MSAE__CHUNK_ROWS);
    const size_t workers = whole_batch ? 1 : msae__workers(&model->parallel);
    const size_t times = msae__min(msae__max(workers / MSAE__TILE_WORKERS, 1), MSAE__TILE_TIMES);
    const size_t chunk_rows = msae__ceil_div(rows, chunks);
    ws->chunk_rows = msae__min(chunk_rows, trainer->desc.batch);
    ws->tile_rows = msae__min(chunk_rows * chunks * times, trainer->desc.batch);
}

/* The level at which a latent counts as active. */
static size_t msae__fired_level(const msae_model *model) {
    size_t level = model->n_levels - 1;
    if (model->recipe != MSAE_RECIPE_MSAE) return level;
    while (level > 0 && model->nesting[level] > MSAE__STRONGEST) level--;
    return level;
}

/* What a tile of rows takes. */
static void msae__rows_layout(struct msae_train_workspace *ws, const msae_model *model,
                              msae__arena *arena) {
    const size_t d = model->n_inputs, levels = model->n_levels, rows = ws->tile_rows;
    const size_t panels = msae__column_panels(model);
    const size_t block_floats = msae__blocks(model) * rows * MSAE__LATENT_BLOCK;
    ws->rows = MSAE__TAKE(arena, msae__row, rows);
    ws->target = MSAE__TAKE(arena, float, panels *rows *MSAE__PANEL);
    ws->inputs = MSAE__TAKE(arena, float, panels *rows *MSAE__PANEL);
    ws->centred = MSAE__TAKE(arena, float, rows * ws->stride);
    ws->packed = MSAE__TAKE(arena, float, msae__packed_floats(model->kernels, rows, d));
    ws->latents = MSAE__TAKE(arena, float, block_floats);
    ws->index = MSAE__TAKE(arena, uint8_t, block_floats);
    ws->level = MSAE__TAKE(arena, uint8_t, block_floats);
    ws->ends = MSAE__TAKE(arena, uint8_t, msae__blocks(model) * rows * (levels + 1));
    if (model->recipe == MSAE_RECIPE_JUMPRELU) ws->relu = MSAE__TAKE(arena, float, block_floats);
    ws->levels = MSAE__TAKE(arena, float, panels *rows *levels *MSAE__PANEL);
    ws->start = MSAE__TAKE(arena, float, panels *MSAE__PANEL);
    ws->partial = MSAE__TAKE(arena, double, panels *rows *levels * 3);
}

/* What there is of each latent. */
static void msae__latents_layout(struct msae_train_workspace *ws, const msae_trainer *trainer,
                                 msae__arena *arena) {
    const msae_model *model = &trainer->model;
    const size_t n = model->n_latents;
    if (model->recipe == MSAE_RECIPE_JUMPRELU) ws->theta = MSAE__TAKE(arena, float, n);
    ws->norms = MSAE__TAKE(arena, float, n);
    ws->projection = MSAE__TAKE(arena, float, n);
    ws->probe = MSAE__TAKE(arena, float, msae__blocks(model));
    ws->squares = MSAE__TAKE(arena, double, msae__blocks(model));
    ws->fired = MSAE__TAKE(arena, uint32_t, n);
    ws->fired_now = MSAE__TAKE(arena, uint32_t, n);
    if (trainer->desc.revivals > 0) ws->fired_since = MSAE__TAKE(arena, uint32_t, n);
}

/* The candidates of a batch: what it keeps, and a tile more. */
static void msae__kept_layout(struct msae_train_workspace *ws, const msae_trainer *trainer,
                              msae__arena *arena) {
    ws->kept_room =
        ws->tile_rows * trainer->model.n_latents + trainer->desc.batch * trainer->desc.model.k;
    ws->kept = MSAE__TAKE(arena, msae__kept, ws->kept_room);
    ws->kept_keys = MSAE__TAKE(arena, int32_t, ws->kept_room);
    ws->kept_scratch = MSAE__TAKE(arena, int32_t, msae__cut_room(ws->kept_room));
    ws->row_counts = MSAE__TAKE(arena, size_t, ws->tile_rows);
}

/* What each worker has for itself: lists of a block's entries, keys of a row, packed panels. */
static void msae__workers_layout(struct msae_train_workspace *ws, const msae_model *model,
                                 msae__arena *arena) {
    const size_t n = model->n_latents, workers = msae__workers(&model->parallel);
    size_t list;
    ws->panels =
        MSAE__TAKE(arena, float, workers *msae__panel_floats(model->kernels, model->n_inputs));
    ws->decoder_panel = MSAE__TAKE(arena, float, workers *MSAE__LATENT_BLOCK *MSAE__PANEL);
    ws->row = MSAE__TAKE(arena, float, workers * ws->stride);
    ws->keys = MSAE__TAKE(arena, int32_t, workers * n);
    ws->scratch = MSAE__TAKE(arena, int32_t, workers * 2 * msae__cut_room(n));
    ws->list_room = msae__stride(ws->chunk_rows);
    /* several blocks at a time, unless there are workers for all of them */
    ws->list_blocks = msae__min(msae__max(msae__blocks(model) / workers, 1), MSAE__GRADIENT_BLOCKS);
    list = workers * ws->list_blocks * MSAE__LATENT_BLOCK * ws->list_room;
    ws->list_rows = MSAE__TAKE(arena, uint32_t, list);
    ws->list_levels = MSAE__TAKE(arena, uint32_t, list);
    ws->list_values = MSAE__TAKE(arena, float, list);
    ws->list_dots = MSAE__TAKE(arena, float, list);
}

/* Takes all of a trainer's memory; the workspace's own fields are set once it has a place. */
static void msae__train_layout(msae_trainer *trainer, msae__arena *arena) {
    msae_model *model = &trainer->model;
    struct msae_train_workspace *ws = MSAE__TAKE(arena, struct msae_train_workspace, 1), unplaced;
    trainer->workspace = ws;
    if (!ws) ws = &unplaced;
    memset(ws, 0, sizeof *ws);
    msae__model_layout(model, arena);
    trainer->grad = msae__parameters_layout(model, arena);
    trainer->moment1 = msae__parameters_layout(model, arena);
    trainer->moment2 = msae__parameters_layout(model, arena);
    trainer->loss_mean = MSAE__TAKE(arena, float, model->n_inputs);
    msae__set_rows(trainer, ws);
    ws->stride = msae__stride(model->n_inputs);
    ws->fired_level = msae__fired_level(model);
    msae__rows_layout(ws, model, arena);
    msae__latents_layout(ws, trainer, arena);
    if (msae__is_batch_topk(model->recipe)) msae__kept_layout(ws, trainer, arena);
    msae__workers_layout(ws, model, arena);
}

/* A trainer without its memory. */
static msae_status msae__train_shape(msae_trainer *trainer, const msae_train_desc *desc,
                                     msae_model_desc *model_desc, msae_error *error) {
    msae_status status;
    memset(trainer, 0, sizeof *trainer);
    status = msae_train_desc_resolve(desc, &trainer->desc, error);
    if (status == MSAE_OK) status = msae__check_new(&desc->model, error);
    if (status == MSAE_OK) {
        status = msae__model_shape(&trainer->model, &desc->model, model_desc, error);
    }
    if (status != MSAE_OK) memset(trainer, 0, sizeof *trainer);
    return status;
}

/* The trainer's own copies of the lists that the descriptor points to. */
static void msae__keep_lists(msae_trainer *trainer) {
    struct msae_train_workspace *ws = trainer->workspace;
    const msae_model *model = &trainer->model;
    memcpy(ws->nesting, model->nesting, sizeof ws->nesting);
    memcpy(ws->level_weights, model->level_weights, sizeof ws->level_weights);
    trainer->desc.model.nesting = ws->nesting;
    trainer->desc.model.level_weights = ws->level_weights;
    trainer->desc.model.n_level_weights = model->n_levels;
}

#define MSAE__RECORD(field, kind, ...) history->field = MSAE__RECORD_##kind(trainer->desc.field);
#define MSAE__RECORD_COUNT(value) value
#define MSAE__RECORD_FLOAT(value) value
#define MSAE__RECORD_TIMES(value) value > 0 ? value : 0
#define MSAE__RECORD_CHOICE(value) (int)value

/* The layout runs twice, over no memory to count it and over the caller's to place it. */
MSAE_API msae_status msae_trainer_init_in(msae_trainer *trainer, const msae_train_desc *desc,
                                          void *memory, size_t *bytes, msae_error *error) {
    msae_model_desc model_desc;
    msae_history *history = &trainer->model.history;
    msae__arena counted = msae__arena_over(NULL), arena = msae__arena_over(memory);
    size_t needed = 0;
    msae_status status = msae__train_shape(trainer, desc, &model_desc, error);
    if (status == MSAE_OK) {
        msae__train_layout(trainer, &counted);
        if (!msae__arena_bytes(&counted, &needed)) status = msae__fail_memory(error);
    }
    if (!memory) *bytes = needed;
    if (status == MSAE_OK && *bytes < needed) {
        status = msae__fail(error, MSAE_ERROR_MEMORY, "the memory given for training is too small");
    }
    if (status != MSAE_OK || !memory) {
        memset(trainer, 0, sizeof *trainer);
        return status;
    }
    memset(memory, 0, needed); /* moments and counts start at zero */
    msae__train_layout(trainer, &arena);
    msae__keep_lists(trainer);
    msae__model_weights(&trainer->model, model_desc.threshold, model_desc.seed);
    trainer->lr_factor = 1;
    trainer->memory = memory;
    trainer->memory_bytes = *bytes;
    history->seed = trainer->desc.model.seed;
    MSAE_TRAIN_LIST(MSAE__RECORD)
    return MSAE_OK;
}

MSAE_API msae_status msae_trainer_init(msae_trainer *trainer, const msae_train_desc *desc,
                                       msae_error *error) {
    size_t bytes;
    void *memory;
    msae_status status = msae_trainer_init_in(trainer, desc, NULL, &bytes, error);
    if (status != MSAE_OK) return status;
    memory = msae__alloc(&desc->model.host.allocator, bytes);
    if (!memory) return msae__fail_memory(error);
    status = msae_trainer_init_in(trainer, desc, memory, &bytes, error);
    if (status != MSAE_OK) {
        msae__free(&desc->model.host.allocator, memory, bytes);
        return status;
    }
    trainer->owns_memory = 1;
    return MSAE_OK;
}

MSAE_API void msae_trainer_free(msae_trainer *trainer) {
    if (trainer->owns_memory) {
        msae__free(&trainer->desc.model.host.allocator, trainer->memory, trainer->memory_bytes);
    }
    memset(trainer, 0, sizeof *trainer);
}

/* ---------------------------------------------------------------------------------------------
   >>statistics Training: mean, scale and what the norms tell, before the first step
       x = (raw - mean) scale,  scale = sqrt(d / mean |raw - mean|^2)   (rms; others: msae_scaling)
       pre_bias = the geometric median of x, if wanted
       encoder_j = decoder_j = 0.1 unit(0.7 unit(a row of x) + 0.3 unit(uniform)), if wanted
   Rows far from the median norm are counted, and left out where a limit is given
   ------------------------------------------------------------------------------------------ */

/* Uniform in 0 .. limit - 1: numbers above the last multiple of the limit are drawn again, for a
   remainder of them would favour the low ones. */
static uint64_t msae__random_below(uint64_t state[4], uint64_t limit) {
    uint64_t reject = (UINT64_MAX - limit + 1) % limit, value;
    do value = msae__random(state);
    while (value < reject);
    return value % limit;
}

/* sum x_i^2 in double; short pieces in float by the kernel, which is faster, where that neither
   overflows nor vanishes. */
static double msae__squares(const msae_kernels *kernels, const float *x, size_t n) {
    double sum = 0;
    for (size_t c = 0; c < n; c += MSAE__PANEL) {
        const size_t width = msae__min(MSAE__PANEL, n - c);
        const float piece = kernels->dot(x + c, x + c, width);
        if (piece > 1e-30f && piece < 1e30f) {
            sum += (double)piece;
        } else {
            for (size_t i = c; i < c + width; i++) sum += (double)x[i] * (double)x[i];
        }
    }
    return sum;
}

/* Decoder rows that lie towards rows of the data already serve some of them, so that fewer latents
   are never needed. Every process draws and reads the same rows. The uniform directions are those
   of the new model, drawn again: done a second time, or after it failed, it gives the same. */
static msae_status msae__start_at_rows(msae_trainer *trainer, const msae_source *source,
                                       msae_error *error) {
    msae_model *model = &trainer->model;
    struct msae_train_workspace *ws = trainer->workspace;
    const size_t d = model->n_inputs;
    float *x = ws->row;
    uint64_t rng[4], weights[4];
    msae__seed(weights, trainer->desc.model.seed);
    msae__seed(rng, trainer->desc.model.seed + 0x726f7773u); /* not those of weights and shuffles */
    for (size_t j = 0; j < model->n_latents; j++) {
        float *row = model->decoder + j * d, moments[2];
        const uint64_t at = msae__random_below(rng, source->rows);
        double length = 0, mixed;
        int is_far;
        msae_status status = msae__read_source(source, at, 1, x, error);
        if (status != MSAE_OK) return status;
        /* drawn for every latent, also one that stays uniform: the others do not depend on it */
        msae__random_row(weights, row, d);
        is_far = msae__is_far(x, d, trainer->rare.norm_limit);
        msae__to_model_space(model, x, x);
        if (!is_far && msae__row_is_finite(x, d)) {
            msae__to_encoder_input(model, x, moments);
            length = sqrt(msae__squares(model->kernels, x, d));
        }
        if (!(length > 0) || !msae__is_finite_double(1 / length)) length = 0;
        for (size_t i = 0; i < d && length > 0; i++) { /* others keep their direction */
            /* a row has norm 0.1 here, and keeps it */
            row[i] = (float)(0.07 * (double)x[i] / length + 0.3 * (double)row[i]);
        }
        mixed = length > 0 ? msae__exact_norm(row, d) : 0;
        for (size_t i = 0; i < d && mixed > 0; i++) row[i] = (float)(0.1 / mixed * (double)row[i]);
        if (!model->tied) memcpy(model->encoder + j * d, row, d * sizeof *row);
    }
    return MSAE_OK;
}

/* The median of norms that are not zero, as the bin that holds it; 0: there are none. */
static size_t msae__median_bin(const double *counts) {
    double all = 0, below = 0;
    size_t bin = 0;
    for (size_t b = 1; b < MSAE__NORM_BINS; b++) all += counts[b];
    while (2 * below < all) below += counts[++bin];
    return bin;
}

/* One value of each process, in the order of their ranks: values [ranks + 1]. */
static msae_status msae__agree_each(const msae_collective *collective, double own, double *values,
                                    msae_error *error) {
    memset(values, 0, collective->ranks * sizeof *values);
    values[collective->rank] = own;
    return msae__agree(collective, MSAE_OK, values, collective->ranks, error);
}

/* The lowest of the processes' rows, of which each may have one; UINT64_MAX: none has. */
static msae_status msae__agree_lowest(const msae_collective *collective, uint64_t *row,
                                      msae_error *error) {
    double values[MSAE_MAX_RANKS + 1];
    msae_status status;
    if (!msae__is_collective(collective)) return MSAE_OK;
    status = msae__agree_each(collective, *row == UINT64_MAX ? 0 : (double)*row + 1, values, error);
    for (size_t r = 0; r < collective->ranks && status == MSAE_OK; r++) {
        if (values[r] > 0 && values[r] - 1 < (double)*row) *row = (uint64_t)values[r] - 1;
    }
    return status;
}

/* From the counts of each process's share to what is rare in the whole: the median norm, and the
   rows beyond `factor` times it. The limit is the start of a bin, the same in every process. */
static msae_status msae__find_rare(const msae_train_desc *desc, msae__norms *norms,
                                   msae_rare_rows *rare, msae_error *error) {
    const double factor = desc->max_norm > 0 ? (double)desc->max_norm : MSAE_RARE_NORM;
    const size_t all = MSAE__NORM_BINS;
    size_t bin, beyond = all;
    uint64_t first_beyond = UINT64_MAX, first_bad = norms->first[all];
    msae_status status = msae__agree(&desc->collective, MSAE_OK, norms->counts, all + 1, error);
    if (status != MSAE_OK) return status;
    memset(rare, 0, sizeof *rare);
    bin = msae__median_bin(norms->counts);
    if (bin > 0) {
        /* the middle of the bin; its end may be infinite */
        rare->median_norm = msae__bin_start(bin) * (1 + 1.0f / 128);
        beyond = msae__norm_bin(factor * (double)rare->median_norm) + 1;
    }
    if (desc->max_norm > 0 && beyond < all) rare->norm_limit = msae__bin_start(beyond);
    for (size_t b = beyond; b < all; b++) {
        rare->beyond += (uint64_t)norms->counts[b];
        if (norms->first[b] < first_beyond) first_beyond = norms->first[b];
    }
    rare->bad = (uint64_t)norms->counts[all];
    status = msae__agree_lowest(&desc->collective, &first_beyond, error);
    if (status == MSAE_OK) status = msae__agree_lowest(&desc->collective, &first_bad, error);
    rare->first_beyond = rare->beyond > 0 ? first_beyond : 0;
    rare->first_bad = rare->bad > 0 ? first_bad : 0;
    return status;
}

/* Room for the norms of rows and for the rows of a pass. */
typedef struct msae__norms_room {
    msae__norms norms;
    size_t d;
    float *x; /* [MSAE__PASS_ROWS, d] */
} msae__norms_room;

/* A count for each bin and for bad rows, and room for the flag of msae__agree behind them. */
static void msae__norms_layout(void *context, msae__arena *arena) {
    msae__norms_room *room = (msae__norms_room *)context;
    const size_t bins = MSAE__NORM_BINS + 1;
    room->norms.counts = MSAE__TAKE(arena, double, bins + 1);
    room->norms.first = MSAE__TAKE(arena, uint64_t, bins);
    room->x = (float *)msae__take(arena, room->d, MSAE__PASS_ROWS * sizeof(float));
}

/* A pass that finds the limit of norms, which the next one needs. */
static msae_status msae__measure_limit(msae_trainer *trainer, msae__source_pass *pass,
                                       msae_error *error) {
    msae_status status = MSAE_OK;
    while (msae__next_rows(pass, &status, error) > 0) continue;
    status = msae__agree_on(pass->collective, status, error);
    if (status == MSAE_OK) {
        status = msae__find_rare(&trainer->desc, pass->norms, &trainer->rare, error);
    }
    pass->norms = NULL;
    pass->norm_limit = trainer->rare.norm_limit;
    pass->row = 0;
    return status;
}

/* Mean, scale and what is rare. A limit of norms, where one is wanted, takes a pass of its own. */
static msae_status msae__measure_rows(msae_trainer *trainer, msae__source_pass *pass,
                                      msae_error *error) {
    const msae_train_desc *desc = &trainer->desc;
    const msae_allocator *allocator = &trainer->model.allocator;
    const size_t bins = MSAE__NORM_BINS + 1;
    msae__norms_room room;
    msae__memory memory;
    msae_status status;
    memset(&room, 0, sizeof room);
    room.d = pass->source->cols;
    status = msae__take_memory_of_all(&memory, allocator, msae__norms_layout, &room,
                                      pass->collective, error);
    if (status != MSAE_OK) return status;
    memset(room.norms.counts, 0, (bins + 1) * sizeof *room.norms.counts);
    memset(room.norms.first, 0xff, bins * sizeof *room.norms.first);
    pass->x = room.x;
    pass->norms = &room.norms;
    pass->norm_limit = 0;
    if (desc->max_norm > 0) status = msae__measure_limit(trainer, pass, error);
    if (status == MSAE_OK) {
        status = msae__pass_statistics(pass, desc->scaling, allocator, trainer->model.mean,
                                       &trainer->model.scale, error);
    }
    if (status == MSAE_OK && desc->max_norm == 0) {
        status = msae__find_rare(desc, &room.norms, &trainer->rare, error);
    }
    pass->norms = NULL;
    msae__free_memory(&memory, allocator);
    return status;
}

/* Mean and scale first, as the median and the start are of rows that these have centred. */
MSAE_API msae_status msae_trainer_statistics(msae_trainer *trainer, const msae_source *source,
                                             msae_error *error) {
    const msae_train_desc *desc = &trainer->desc;
    msae_model *model = &trainer->model;
    msae__source_pass pass;
    msae_status status;
    status = msae__check_collective(&desc->collective, error);
    if (status != MSAE_OK) return status;
    status = msae__check_width("data", source->cols, model->n_inputs, error);
    status = msae__agree_on(&desc->collective, status, error);
    if (status != MSAE_OK) return status;
    memset(&pass, 0, sizeof pass);
    pass.source = source;
    pass.collective = &desc->collective;
    pass.skip_bad = desc->skip_bad || (source->data && source->data->skip_bad);
    status = msae__measure_rows(trainer, &pass, error);
    if (status == MSAE_OK && desc->geometric_median) {
        status = msae__pass_median(&pass, model->mean, model->scale, &model->allocator,
                                   model->pre_bias, error);
    }
    if (status == MSAE_OK && desc->start == MSAE_START_ROWS && trainer->step == 0) {
        status =
            msae__agree_on(&desc->collective, msae__start_at_rows(trainer, source, error), error);
    }
    if (status == MSAE_OK) trainer->has_statistics = 1;
    return status;
}

/* ---------------------------------------------------------------------------------------------
   >>step The step, in nine lines: a batch of B raw rows, levels i = 1 .. L of k_i latents (paper,
   section 3; recipe msae-uw is the published one)

       1  x = (raw - mean) scale                                                 rows and targets
       2  pre = encoder (x - pre_bias) + latent_bias
       3  z_i = act(TopK_k_i(pre))                                               selection
       4  r_i = decoder^T z_i + pre_bias                                         decode and loss
       5  loss = sum_i a_i mean(|r_i - x|^2 / |m - x|^2) / sum_i a_i + lambda sparse(z)
       6  G_l = sum over i >= l of dloss / dr_i                                  gradients
          dz_j = <decoder_j, G_l>   for a latent j that enters at level l
          ddecoder_j += z_j G_l,  dencoder_j += (x - pre_bias) dz_j,  dlatent_bias_j += dz_j
          dpre_bias += G_1 - sum_j encoder_j dz_j
       7  c_j = |decoder_j|:  decoder_j /= c_j,  encoder_j and latent_bias_j *= c_j    the update
          ddecoder_j -= <ddecoder_j, decoder_j> decoder_j
       8  all gradients *= min(1, clip / |all gradients|)
       9  AdamW on every parameter

   The levels are nested, so that one ranking and one sparse decode serve them all: r_i is a running
   sum over the levels, G_l one from the last level back. Lines 1 to 6 take tiles of rows, which
   stay in the cache. Each is a parallel loop over rows, over columns or over latents, and nothing
   depends on how its tasks fall on the workers. Two things need the whole batch and stand apart:
   what batchtopk keeps of it, and what several processes or shares of a batch add up. The same step
   in plain loops: examples/by_hand.c.
   ------------------------------------------------------------------------------------------ */

/* A batch on its way through lines 1 to 6. */
typedef struct msae__batch {
    msae_trainer *trainer;
    const msae_model *model; /* the trainer's */
    struct msae_train_workspace *ws;
    const msae_collective *collective; /* NULL in a forward pass, which each process makes alone */
    const msae_data *data;
    const size_t *index;
    size_t total; /* rows of this process */
    int backward;
    int in_shares;
    float *recon, *latents; /* where msae_trainer_forward wants these, or NULL */

    size_t first, rows;     /* of the tile, in the batch */
    size_t of_rows;         /* rows of the batch, or of the share, that the tile is of */
    int first_tile;         /* of the batch, or of its share: gradients start at zero */
    int last_tile;          /* likewise */
    float lowest_key_value; /* batchtopk: candidates must exceed it */

    /* sums over this process's rows, then over all processes' */
    msae_step_stats stats;
    size_t with_sparse;                /* rows that have a sparsity term */
    size_t zero_rows[MSAE_MAX_LEVELS]; /* cosine: rows whose reconstruction is zero */
    double sparse;                     /* of the sparsity terms */

    size_t with_loss;                    /* rows that have a loss, but for zero_rows */
    double weights;                      /* sum of a_i */
    double coefficient[MSAE_MAX_LEVELS]; /* a_i / sum(a) / rows that have a loss */
    double sparse_coefficient;           /* lambda over the rows that have a sparsity term */
} msae__batch;

/* The phases, in their order: */
static msae_status msae__check_batch(const msae__batch *batch, msae_error *error);
static int msae__next_tile(msae__batch *batch);
static msae_status msae__load_tile(msae__batch *batch, msae_error *error);
static msae_status msae__encode_tile(msae__batch *batch, msae_error *error);
static void msae__select_tile(msae__batch *batch);
static void msae__decode_tile(msae__batch *batch);
static void msae__lose_tile(msae__batch *batch);
static void msae__differentiate_tile(msae__batch *batch);
static void msae__finish_pre_bias(msae__batch *batch);
/* what batchtopk keeps of the whole batch: */
static void msae__select_kept(const msae__batch *batch, size_t r);
static void msae__add_candidates(msae__batch *batch);
static msae_status msae__keep_of_batch(msae__batch *batch, msae_error *error);
/* and what several processes or shares add up: */
static msae_status msae__agree_survey(msae__batch *batch, msae_status status, msae_error *error);
static msae_status msae__agree_losses(msae__batch *batch, msae_status status, msae_error *error);
static void msae__begin_shares(const msae__batch *batch);
static void msae__move_share(const msae__batch *batch, int back);
static msae_status msae__sum_shares(msae__batch *batch, msae_error *error);
static msae_status msae__sum_gradients(msae__batch *batch, msae_error *error);

/* Lines 1 to 6, which leave the model as it is, then lines 7 to 9: what fails changes nothing. */
MSAE_API msae_status msae_trainer_step(msae_trainer *trainer, const float *x, size_t rows,
                                       msae_step_stats *stats, msae_error *error) {
    const msae_data data = msae_data_view(x, rows, trainer->model.n_inputs);
    msae_status status = msae_trainer_gradients(trainer, &data, NULL, rows, stats, error);
    return status == MSAE_OK ? msae_trainer_update(trainer, stats, error) : status;
}

/* A row whose loss would divide by zero has none: one equal to the mean under nmse, a row of zeros
   under cosine. The mean is over the others. */
static int msae__row_has_loss(const msae__batch *batch, const msae__row *row) {
    if (row->bad) return 0;
    switch (batch->trainer->desc.loss) {
    case MSAE_LOSS_NMSE:
        return row->spread > 0;
    case MSAE_LOSS_COSINE:
        return row->norm > 0;
    default:
        return 1;
    }
}

/* The first look at a batch: refuses bad rows, counts those that enter and, for batchtopk, gathers
   what can be among the batch's largest pre-activations. */
static msae_status msae__survey(msae__batch *batch, msae_error *error) {
    struct msae_train_workspace *ws = batch->ws;
    ws->kept_count = 0;
    batch->first = batch->rows = 0;
    while (msae__next_tile(batch)) {
        msae_status status = msae__load_tile(batch, error);
        if (status != MSAE_OK) return status;
        for (size_t r = 0; r < batch->rows; r++) {
            const msae__row *row = ws->rows + r;
            batch->stats.rows += !row->bad;
            batch->stats.rows_skipped += row->bad != 0;
            batch->stats.rows_left_out += !row->bad && !msae__row_has_loss(batch, row);
            batch->with_sparse +=
                !row->bad && (batch->model->recipe == MSAE_RECIPE_JUMPRELU || row->norm > 0);
        }
        if (msae__is_batch_topk(batch->model->recipe)) {
            status = msae__encode_tile(batch, error);
            if (status != MSAE_OK) return status;
            msae__add_candidates(batch);
        }
    }
    return MSAE_OK;
}

/* The rows that have a loss at level i. */
static size_t msae__rows_with_loss(const msae__batch *batch, size_t i) {
    return batch->with_loss - batch->zero_rows[i];
}

/* What each row's losses are multiplied with: a_i / sum(a) over the rows that have a loss at level
   i, and lambda over those that have a sparsity term. */
static void msae__set_coefficients(msae__batch *batch) {
    const msae_trainer *trainer = batch->trainer;
    const msae_model *model = &trainer->model;
    batch->weights = 0;
    for (size_t i = 0; i < model->n_levels; i++) batch->weights += model->level_weights[i];
    for (size_t i = 0; i < model->n_levels; i++) {
        const size_t rows = msae__rows_with_loss(batch, i);
        batch->coefficient[i] = rows ? model->level_weights[i] / batch->weights / (double)rows : 0;
    }
    if (batch->with_sparse > 0) {
        batch->sparse_coefficient = trainer->desc.sparse_weight / (double)batch->with_sparse;
    }
}

/* Lines 1 to 6 for the tile that is set, which may be loaded already. */
static msae_status msae__run_tile(msae__batch *batch, int is_loaded, msae_error *error) {
    msae_status status = is_loaded ? MSAE_OK : msae__load_tile(batch, error);
    if (status == MSAE_OK && !msae__is_batch_topk(batch->model->recipe)) {
        status = msae__encode_tile(batch, error);
    }
    if (status != MSAE_OK) return status;
    msae__select_tile(batch);
    msae__decode_tile(batch);
    msae__lose_tile(batch);
    if (batch->backward) msae__differentiate_tile(batch);
    return MSAE_OK;
}

/* All tiles, share by share where there are shares. */
static msae_status msae__run_tiles(msae__batch *batch, msae_error *error) {
    /* a single tile is still there from the survey */
    const int is_loaded = batch->total <= batch->ws->tile_rows && !batch->in_shares;
    memset(batch->zero_rows, 0, sizeof batch->zero_rows);
    memset(batch->stats.level_loss, 0, sizeof batch->stats.level_loss);
    batch->stats.l0 = batch->sparse = 0;
    if (batch->in_shares) msae__begin_shares(batch);
    batch->first = batch->rows = 0;
    while (msae__next_tile(batch)) {
        msae_status status = msae__run_tile(batch, is_loaded, error);
        if (status != MSAE_OK) return status;
        if (batch->in_shares && batch->last_tile) msae__move_share(batch, 0);
    }
    return MSAE_OK;
}

/* A second round only where reconstructions were zero under the cosine loss: which rows are left
   is known only then. */
static msae_status msae__run_rounds(msae__batch *batch, msae_error *error) {
    for (int round = 0; round < 2; round++) {
        size_t zeros = 0;
        msae_status status;
        msae__set_coefficients(batch);
        status = msae__run_tiles(batch, error);
        status = msae__agree_losses(batch, status, error);
        if (status != MSAE_OK) return status;
        for (size_t i = 0; i < batch->model->n_levels; i++) zeros += batch->zero_rows[i];
        if (zeros == 0 || !batch->backward) break;
    }
    return MSAE_OK;
}

/* From sums over the rows to means; loss = sum_i a_i level_loss_i / sum_i a_i + lambda sparse. */
static void msae__finish_losses(msae__batch *batch) {
    const msae_trainer *trainer = batch->trainer;
    const msae_model *model = &trainer->model;
    msae_step_stats *stats = &batch->stats;
    for (size_t i = 0; i < model->n_levels; i++) {
        const size_t rows = msae__rows_with_loss(batch, i);
        stats->level_loss[i] /= (double)msae__max(rows, 1);
        stats->recon_loss += model->level_weights[i] / batch->weights * stats->level_loss[i];
        stats->rows_left_out = msae__max(stats->rows_left_out, stats->rows - rows);
    }
    if (msae__has_penalty(model->recipe) && batch->with_sparse > 0) {
        stats->sparse_loss = batch->sparse / (double)batch->with_sparse;
    }
    stats->loss = stats->recon_loss + trainer->desc.sparse_weight * stats->sparse_loss;
    stats->l0 /= (double)msae__max(stats->rows, 1);
}

/* What is the same for all tiles. */
static void msae__begin_batch(const msae__batch *batch) {
    const struct msae_train_workspace *ws = batch->ws;
    const msae_model *model = batch->model;
    for (size_t j = 0; ws->theta && j < model->n_latents; j++) {
        ws->theta[j] = expf(model->log_threshold[j]);
    }
    memset(ws->start, 0, msae__column_panels(model) * MSAE__PANEL * sizeof *ws->start);
    memcpy(ws->start, model->pre_bias, model->n_inputs * sizeof *ws->start);
    if (batch->backward && batch->total == 0) { /* of this process */
        for (size_t b = 0; b <= msae__blocks(model); b++) {
            msae__zero_block(model, &batch->trainer->grad, b);
        }
        memset(ws->fired_now, 0, model->n_latents * sizeof *ws->fired_now);
    }
}

/* Lines 1 to 6: the losses of a batch and, with backward, its gradients. */
static msae_status msae__run_batch(msae__batch *batch, msae_step_stats *stats, msae_error *error) {
    struct msae_train_workspace *ws = batch->ws;
    msae_status status = msae__check_collective(batch->collective, error);
    if (status != MSAE_OK) return status;
    status = msae__check_batch(batch, error);
    if (status == MSAE_OK) {
        msae__begin_batch(batch);
        status = msae__survey(batch, error);
    }
    status = msae__agree_survey(batch, status, error);
    if (status == MSAE_OK && msae__is_batch_topk(batch->model->recipe)) {
        status = msae__keep_of_batch(batch, error);
    }
    if (status == MSAE_OK) status = msae__run_rounds(batch, error);
    if (status != MSAE_OK) return status;
    msae__finish_losses(batch);
    if (stats) *stats = batch->stats;
    if (!msae__is_finite_double(batch->stats.loss)) {
        return msae__fail(error, MSAE_ERROR_NOT_FINITE, "the loss is NaN or Inf");
    }
    ws->gradient_rows = batch->stats.rows;
    ws->gradient_skipped = batch->stats.rows_skipped;
    if (!batch->backward) return MSAE_OK;
    if (batch->in_shares) status = msae__sum_shares(batch, error);
    if (status == MSAE_OK) msae__finish_pre_bias(batch); /* it is linear in the other gradients */
    if (status == MSAE_OK && !batch->in_shares) status = msae__sum_gradients(batch, error);
    return status;
}

/* A batch of the rows `index` of data, or of its first ones. */
static msae__batch msae__batch_of(msae_trainer *trainer, const msae_data *data, const size_t *index,
                                  size_t rows) {
    msae__batch batch;
    memset(&batch, 0, sizeof batch);
    batch.trainer = trainer;
    batch.model = &trainer->model;
    batch.ws = trainer->workspace;
    batch.data = data;
    batch.index = index;
    batch.total = rows;
    return batch;
}

/* Lines 1 to 6. An update takes the gradients only where this succeeded. */
MSAE_API msae_status msae_trainer_gradients(msae_trainer *trainer, const msae_data *data,
                                            const size_t *index, size_t rows,
                                            msae_step_stats *stats, msae_error *error) {
    msae__batch batch;
    msae_status status;
    MSAE_ASSERT(trainer->memory && data);
    batch = msae__batch_of(trainer, data, index, rows);
    batch.collective = &trainer->desc.collective;
    batch.backward = 1;
    batch.in_shares = trainer->workspace->share_sums != NULL;
    trainer->workspace->has_gradients = 0;
    status = msae__run_batch(&batch, stats, error);
    trainer->workspace->has_gradients = status == MSAE_OK;
    return status;
}

/* Lines 1 to 5. No update may follow: what was counted beside the gradients is overwritten. */
MSAE_API msae_status msae_trainer_forward(msae_trainer *trainer, const msae_data *data,
                                          const size_t *index, size_t rows, float *recon,
                                          float *latents, msae_step_stats *stats,
                                          msae_error *error) {
    msae__batch batch = msae__batch_of(trainer, data, index, rows);
    batch.recon = recon;
    batch.latents = latents;
    trainer->workspace->has_gradients = 0;
    return msae__run_batch(&batch, stats, error);
}

/* ---------------------------------------------------------------------------------------------
   >>targets Rows and targets: x = (raw - mean) scale, what the losses need to know of it, and the
   encoder's product over a tile
   ------------------------------------------------------------------------------------------ */

static msae_status msae__fail_batch(msae_error *error) {
    return msae__fail(error, MSAE_ERROR_ARGUMENT, "a batch is larger than the descriptor's");
}

/* What can be told of this process's rows of a batch before they are looked at. */
static msae_status msae__check_batch(const msae__batch *batch, msae_error *error) {
    const msae_model *model = batch->model;
    const msae_data *data = batch->data;
    const size_t rows = batch->total;
    msae_status status = msae__check_width("data", data->cols, model->n_inputs, error);
    if (status != MSAE_OK) return status;
    if ((rows == 0 && !msae__is_collective(batch->collective)) ||
        (!batch->index && rows > data->rows)) {
        return msae__fail(error, MSAE_ERROR_SHAPE, "a batch has no rows or more than the data");
    }
    if (msae__is_batch_topk(model->recipe) && rows > batch->trainer->desc.batch) {
        return msae__fail_batch(error);
    }
    if (model->log_threshold && !msae__row_is_finite(model->log_threshold, model->n_latents)) {
        return msae__fail(error, MSAE_ERROR_NOT_FINITE, "a threshold is NaN or Inf");
    }
    return batch->index ? msae__check_index(data, batch->index, rows, error) : MSAE_OK;
}

/* Sets the tile behind the last one, which ends where its share does if there are shares; 0 at the
   end. */
static int msae__next_tile(msae__batch *batch) {
    const struct msae_train_workspace *ws = batch->ws;
    const size_t first = batch->first + batch->rows;
    size_t start = 0, end = batch->total;
    if (first >= batch->total) return 0;
    for (size_t s = 0; batch->in_shares && s < ws->shares; s++) {
        start = s > 0 ? ws->share_ends[s - 1] : 0;
        end = ws->share_ends[s];
        if (first < end) break;
    }
    batch->first = first;
    batch->rows = msae__min(ws->tile_rows, end - first);
    batch->of_rows = end - start;
    batch->first_tile = first == start;
    batch->last_tile = first + batch->rows == end;
    return 1;
}

/* The row of the data that a row of the tile is. */
static size_t msae__batch_row(const msae__batch *batch, size_t tile_row) {
    const size_t row = batch->first + tile_row;
    return batch->index ? batch->index[row] : row;
}

/* Spreads x [d] over the panels of row r; `beyond` fills the last one up. */
static void msae__to_panels(const struct msae_train_workspace *ws, float *panels, size_t r,
                            const float *x, size_t d, float beyond) {
    for (size_t c = 0; c < d; c += MSAE__PANEL) {
        float *out = panels + (c * ws->tile_rows + r * MSAE__PANEL);
        const size_t width = msae__min(MSAE__PANEL, d - c);
        memcpy(out, x + c, width * sizeof *out);
        for (size_t i = width; i < MSAE__PANEL; i++) out[i] = beyond;
    }
}

/* Loads a row: target in the model's space and what the loss needs to know of it. */
static void msae__load_row_task(void *context, size_t r, size_t worker) {
    const msae__batch *batch = (const msae__batch *)context;
    const struct msae_train_workspace *ws = batch->ws;
    const msae_model *model = batch->model;
    const float *m = batch->trainer->loss_mean;
    const size_t d = model->n_inputs;
    const float limit = batch->trainer->rare.norm_limit;
    float *target = ws->row + worker * ws->stride, *centred = ws->centred + r * ws->stride;
    msae__row *row = ws->rows + r;
    memset(row, 0, sizeof *row);
    msae_data_read(batch->data, msae__batch_row(batch, r), 1, centred);
    msae__to_model_space(model, centred, target);
    /* here it shows NaN, Inf and what overflows */
    if (!msae__row_is_finite(target, d)) row->bad = MSAE__ROW_BAD;
    if (msae__row_is_finite(centred, d) && msae__is_far(centred, d, limit)) {
        row->bad = MSAE__ROW_FAR;
    }
    if (row->bad) memset(target, 0, d * sizeof *target);
    row->norm = sqrt(msae__squares(model->kernels, target, d));
    model->kernels->center(centred, target, m, 1, d);
    row->spread = msae__squares(model->kernels, centred, d);
    memcpy(centred, target, d * sizeof *centred);
    msae__to_encoder_input(model, centred, row->moments);
    msae__to_panels(ws, ws->inputs, r, centred, d, 0);
    /* reconstructions are the row's mean there, and so are no errors */
    msae__to_panels(ws, ws->target, r, target, d, row->moments[0]);
}

/* Loads a tile; fails on a row that is not finite unless such rows are left out. */
static msae_status msae__load_tile(msae__batch *batch, msae_error *error) {
    msae__parallel_for(&batch->model->parallel, batch->rows, msae__load_row_task, batch);
    if (batch->trainer->desc.skip_bad || batch->data->skip_bad) return MSAE_OK;
    for (size_t r = 0; r < batch->rows; r++) {
        if (batch->ws->rows[r].bad == MSAE__ROW_BAD) {
            return msae__fail_row(error, msae__batch_row(batch, r));
        }
    }
    return MSAE_OK;
}

/* pre = encoder (x - pre_bias) + latent_bias, by blocks of latents. */
static msae_status msae__encode_tile(msae__batch *batch, msae_error *error) {
    const struct msae_train_workspace *ws = batch->ws;
    msae__small_product p =
        msae__small_over(batch->model, ws->centred, ws->stride, batch->rows, ws->packed);
    p.of_rows = batch->of_rows;
    p.probe = ws->probe;
    p.c = ws->latents;
    p.ldc = MSAE__LATENT_BLOCK;
    p.c_block = ws->tile_rows * MSAE__LATENT_BLOCK;
    if (msae__encode_rows_to(&p, ws->packed, ws->panels)) return MSAE_OK;
    return msae__fail(error, MSAE_ERROR_NOT_FINITE, "a pre-activation is NaN or Inf");
}

/* ---------------------------------------------------------------------------------------------
   >>selection Selection: z_i = softcap(act(TopK_k_i(pre))), i = 1 .. L, each row by itself (Gao et
   al. 2024, arXiv 2406.04093). A row is ranked once: cuts of its keys say at which level each
   latent enters. relu is the level that keeps all. jumprelu: z = v where v = relu(pre) > theta
   (Rajamanoharan et al. 2024, arXiv 2407.14435)
   ------------------------------------------------------------------------------------------ */

/* rect of the straight-through estimator: 1 within half a bandwidth of the threshold. */
static int msae__in_band(float distance, float bandwidth) {
    return distance > -0.5f * bandwidth && distance < 0.5f * bandwidth;
}

/* A row's place in the arrays by block, and in ws->ends. */
static size_t msae__slot(const struct msae_train_workspace *ws, size_t block, size_t r) {
    return (block * ws->tile_rows + r) * MSAE__LATENT_BLOCK;
}

static uint8_t *msae__ends(const msae__batch *batch, size_t block, size_t r) {
    const struct msae_train_workspace *ws = batch->ws;
    return ws->ends + (block * ws->tile_rows + r) * (batch->model->n_levels + 1);
}

/* The level (from 0) at which a key enters, `levels` when none takes it. Of equal keys at a cut the
   first ones go in, so `seen` counts those that passed by. */
static size_t msae__level_of(int32_t key, const msae__cut *cuts, size_t levels, size_t *seen) {
    size_t i = 0, found = levels;
    while (i < levels && key < cuts[i].key) i++;
    for (; i < levels && key == cuts[i].key; i++) {
        if (seen[i]++ < cuts[i].ties && found == levels) found = i;
    }
    return found < i ? found : i;
}

/* The cuts of a row where some of them part equal keys, whose order decides then. */
typedef struct msae__ties {
    const msae__cut *cuts;
    size_t levels;
    int32_t lowest;               /* keys must exceed it */
    size_t seen[MSAE_MAX_LEVELS]; /* equal keys of each cut that have passed by */
} msae__ties;

/* What the kernel `place` does, for such a row. */
static void msae__place_ties(void *sorted, uint8_t *index, uint8_t *level, uint8_t *ends,
                             const void *keys, size_t count, msae__ties *ties) {
    msae__found found;
    const size_t levels = ties->levels;
    for (size_t j = 0; j < count; j++) {
        found.key[j] = msae__load_key(keys, j);
        found.place[j] = (int32_t)j;
        found.level[j] =
            (int32_t)(found.key[j] > ties->lowest
                          ? msae__level_of(found.key[j], ties->cuts, levels, ties->seen)
                          : levels);
    }
    found.count = count;
    msae__place_found(sorted, index, level, ends, &found, levels);
}

/* From the sorted keys of a block to the values of the latents. raw: its pre-activations. */
static void msae__finish_values(const msae_model *model, float *value, uint8_t *index, size_t count,
                                const float *raw) {
    for (size_t e = 0; e < count; e++) {
        float v = raw[index[e]];
        if (model->activation == MSAE_ACTIVATION_ABS && v < 0) {
            index[e] = (uint8_t)(index[e] | MSAE__NEGATIVE);
            v = -v;
        }
        value[e] = msae__soft_cap(v, model->soft_cap);
    }
}

/* Ranks a row: the keys of its pre-activations into `keys` [n] and where each level cuts them. */
static void msae__cut_row(const msae__batch *batch, size_t r, size_t worker, int32_t *keys,
                          msae__cut *cuts) {
    const struct msae_train_workspace *ws = batch->ws;
    const msae_model *model = batch->model;
    const msae_kernels *kernels = model->kernels;
    const size_t n = model->n_latents;
    const int32_t lowest = msae__lowest(model->activation);
    int32_t *active = ws->scratch + worker * 2 * msae__cut_room(n);
    msae__key_list list = {active, 0, lowest, lowest};
    for (size_t b = 0; b < msae__blocks(model); b++) {
        const size_t count = msae__block_size(model, b);
        const void *from = msae__keys(ws->latents + msae__slot(ws, b, r), count, model->activation,
                                      keys + b * MSAE__LATENT_BLOCK);
        list.count +=
            kernels->between(active + list.count, from, count, lowest, INT32_MAX, &list.largest);
    }
    msae__cuts(kernels, &list, model->nesting, model->n_levels, cuts, active + msae__cut_room(n));
}

/* TopK at every level, and ReLU as the level that keeps all. */
static void msae__select_levels(const msae__batch *batch, size_t r, size_t worker) {
    const struct msae_train_workspace *ws = batch->ws;
    const msae_model *model = batch->model;
    const size_t levels = model->n_levels, blocks = msae__blocks(model);
    const msae_activation activation = model->activation;
    /* the positive bits of a float are its key and its value */
    const int plain = activation == MSAE_ACTIVATION_RELU && model->soft_cap == 0;
    int32_t *keys = ws->keys + worker * model->n_latents, floors[MSAE_MAX_LEVELS];
    msae__cut cuts[MSAE_MAX_LEVELS];
    msae__ties ties = {NULL, 0, 0, {0}};
    size_t l0 = 0;
    double l1 = 0;
    int whole;
    ties.cuts = cuts;
    ties.levels = levels;
    ties.lowest = msae__lowest(activation);
    msae__cut_row(batch, r, worker, keys, cuts);
    whole = msae__floors(cuts, levels, ties.lowest, floors);
    /* block by block the kept latents move to the front, sorted by the level at which they enter */
    for (size_t b = 0; b < blocks; b++) {
        const size_t slot = msae__slot(ws, b, r), count = msae__block_size(model, b);
        float *value = ws->latents + slot, raw[MSAE__LATENT_BLOCK];
        const void *from =
            activation == MSAE_ACTIVATION_RELU ? (void *)value : keys + b * MSAE__LATENT_BLOCK;
        uint8_t *index = ws->index + slot, *level = ws->level + slot;
        uint8_t *ends = msae__ends(batch, b, r);
        if (!plain) memcpy(raw, value, count * sizeof *raw);
        if (whole)
            msae__full(model->kernels)
                ->place(value, index, level, ends, from, count, floors, levels);
        else
            msae__place_ties(value, index, level, ends, from, count, &ties);
        ends[levels] = ends[levels - 1];
        if (!plain) msae__finish_values(model, value, index, ends[levels], raw);
        if (plain && model->recipe != MSAE_RECIPE_RELU) {
            l0 += ends[levels];
            continue;
        }
        for (size_t e = 0; e < ends[levels]; e++) {
            l1 += fabsf(value[e]);
            l0 += value[e] != 0;
        }
    }
    ws->rows[r].l0 = l0;
    if (ws->rows[r].norm > 0) ws->rows[r].sparse = l1 / ws->rows[r].norm;
}

/* JumpReLU: latents above their threshold are active; behind them stand those that are not but lie
   in the band around it, where the threshold has a gradient. */
static void msae__select_jumprelu(const msae__batch *batch, size_t r) {
    const struct msae_train_workspace *ws = batch->ws;
    const float bandwidth = batch->trainer->desc.bandwidth;
    size_t l0 = 0;
    for (size_t b = 0; b < msae__blocks(batch->model); b++) {
        const size_t slot = msae__slot(ws, b, r), count = msae__block_size(batch->model, b);
        const float *theta = ws->theta + b * MSAE__LATENT_BLOCK;
        uint8_t band[MSAE__LATENT_BLOCK], *ends = msae__ends(batch, b, r);
        float values[MSAE__LATENT_BLOCK];
        size_t active = 0, around = 0;
        for (size_t j = 0; j < count; j++) {
            const float pre = ws->latents[slot + j], value = pre > 0 ? pre : 0;
            values[j] = value;
            if (value > theta[j]) {
                ws->index[slot + active] = (uint8_t)j;
                ws->level[slot + active] = 0;
                ws->relu[slot + active++] = value;
            } else if (msae__in_band(value - theta[j], bandwidth)) {
                band[around++] = (uint8_t)j; /* (so it is if the latent's 0 lies in the band) */
            }
        }
        ends[0] = (uint8_t)active;
        ends[1] = (uint8_t)(active + around);
        /* the active ones are the only level; ends[1] is where the list as a whole ends */
        for (size_t e = 0; e < active; e++) {
            ws->latents[slot + e] = msae__soft_cap(ws->relu[slot + e], batch->model->soft_cap);
            l0 += ws->latents[slot + e] > 0;
        }
        for (size_t e = 0; e < around; e++) {
            ws->index[slot + active + e] = band[e];
            ws->level[slot + active + e] = 0;
            ws->relu[slot + active + e] = values[band[e]];
            ws->latents[slot + active + e] = 0;
        }
    }
    ws->rows[r].l0 = l0;
    ws->rows[r].sparse = (double)l0;
}

/* A row that is left out keeps nothing, and so adds nothing to the gradients. */
static void msae__select_row(const msae__batch *batch, size_t r, size_t worker) {
    const struct msae_train_workspace *ws = batch->ws;
    const msae_model *model = batch->model;
    ws->rows[r].l0 = 0;
    ws->rows[r].zero_levels = 0;
    if (ws->rows[r].bad) {
        for (size_t b = 0; b < msae__blocks(model); b++) {
            memset(msae__ends(batch, b, r), 0, model->n_levels + 1);
        }
    } else if (model->recipe == MSAE_RECIPE_JUMPRELU) {
        msae__select_jumprelu(batch, r);
    } else if (msae__is_batch_topk(model->recipe)) {
        msae__select_kept(batch, r);
    } else {
        msae__select_levels(batch, r, worker);
    }
}

/* A task selects for as many rows as fill a cache line of ws->ends, the smallest thing that a row
   writes: workers on neighbouring rows would take the line from each other. */
static size_t msae__select_rows(const msae__batch *batch) {
    return msae__ceil_div(MSAE__ALIGN, batch->model->n_levels + 1);
}

static void msae__select_task(void *context, size_t task, size_t worker) {
    const msae__batch *batch = (const msae__batch *)context;
    const size_t group = msae__select_rows(batch), first = task * group;
    const size_t last = msae__min(first + group, batch->rows);
    for (size_t r = first; r < last; r++) msae__select_row(batch, r, worker);
}

static void msae__select_tile(msae__batch *batch) {
    const size_t tasks = msae__ceil_div(batch->rows, msae__select_rows(batch));
    msae__parallel_for(&batch->model->parallel, tasks, msae__select_task, batch);
}

/* ---------------------------------------------------------------------------------------------
   >>loss Decode and loss: r_i = decoder^T z_i + pre_bias (with normalize: times the row's
   deviation, plus its mean);  loss = sum_i a_i recon(r_i, x) / sum_i a_i + lambda sparse(z)
       recon, a mean over the rows:  nmse |r - x|^2 / |m - x|^2;  mse |r - x|^2 / d;
                                     cosine (1 - cos(r, x))^2
       sparse, likewise:             relu |z|_1 / |x|;  jumprelu the number of latents above theta
   ------------------------------------------------------------------------------------------ */

/* Rows of the tile that a decoding task takes through its panel of the decoder: all of them, unless
   there are more workers than panels. */
static size_t msae__decode_rows(const msae__batch *batch) {
    const size_t groups = msae__ceil_div(2 * msae__workers(&batch->model->parallel),
                                         msae__column_panels(batch->model));
    return msae__ceil_div(batch->rows, groups);
}

/* A row's panel of ws->levels. */
static float *msae__level_panel(const msae__batch *batch, size_t panel, size_t r) {
    const struct msae_train_workspace *ws = batch->ws;
    return ws->levels + (panel * ws->tile_rows + r) * batch->model->n_levels * MSAE__PANEL;
}

/* What the residuals of level i are multiplied with for their gradient. Distances are doubles, so
   nmse has a loss where its gradient is beyond float: Inf then has the step refused, which would
   otherwise learn nothing from such a row and not say so. */
static float msae__residual_factor(const msae__batch *batch, const msae__row *row, size_t i) {
    const double deviation = row->moments[1];
    if (!msae__row_has_loss(batch, row)) return 0;
    if (batch->trainer->desc.loss != MSAE_LOSS_NMSE) {
        return (float)(2 * batch->coefficient[i] * deviation / (double)batch->model->n_inputs);
    }
    if (deviation > row->spread * 1e38 || deviation < row->spread * 1e-33) {
        return deviation > 0 ? msae__bits_float(0x7f800000u) : 0;
    }
    return (float)(2 * batch->coefficient[i] * deviation / row->spread);
}

/* From the sums of a row's levels in a panel to reconstructions, what the losses need to know of
   them and, for the squared losses, G_i with g_i = 2 a_i (r_i - x) / .. */
static void msae__finish_panel(const msae__batch *batch, size_t panel, size_t r) {
    const struct msae_train_workspace *ws = batch->ws;
    const msae_model *model = batch->model;
    const msae__row *row = ws->rows + r;
    const msae_loss loss = batch->trainer->desc.loss;
    const size_t levels = model->n_levels;
    const size_t width = msae__panel_width(model, panel);
    const float *target = ws->target + (panel * ws->tile_rows + r) * MSAE__PANEL;
    float *here = msae__level_panel(batch, panel, r);
    float errors[MSAE_MAX_LEVELS], factors[MSAE_MAX_LEVELS];
    double *sums = ws->partial + (panel * ws->tile_rows + r) * levels * 3;
    msae__full(model->kernels)
        ->reconstruct(here, levels, ws->start + panel * MSAE__PANEL, target, row->moments[1],
                      row->moments[0], errors);
    /* sums of (r - x)^2, r x and r^2 over the panel; the last two are of the cosine loss alone */
    for (size_t i = 0; i < levels; i++) {
        double *sum = sums + 3 * i;
        sum[0] = (double)errors[i];
        sum[1] = sum[2] = 0;
        if (loss == MSAE_LOSS_COSINE) {
            for (size_t c = 0; c < width; c++) {
                sum[1] += (double)here[i * MSAE__PANEL + c] * target[c];
                sum[2] += (double)here[i * MSAE__PANEL + c] * here[i * MSAE__PANEL + c];
            }
        } else if (!(errors[i] > 1e-30f && errors[i] < 1e30f)) { /* float cannot hold the squares */
            sum[0] = 0;
            for (size_t c = 0; c < width; c++) {
                const double off = (double)here[i * MSAE__PANEL + c] - target[c];
                sum[0] += off * off;
            }
        }
    }
    /* the gradient of the cosine needs sums over all panels: see msae__cosine_loss */
    if (loss == MSAE_LOSS_COSINE || !batch->backward) return;
    for (size_t i = 0; i < levels; i++) factors[i] = msae__residual_factor(batch, row, i);
    msae__full(model->kernels)->residuals(here, levels, target, factors);
}

/* u_i = sum over the kept latents of z_j decoder_j, for a panel of columns and some rows: level by
   level, block after block of latents, then all that a row's columns of one panel allow. A block's
   panel of the decoder is copied together, so that it stays in the first-level cache while the rows
   pass by. */
static void msae__decode_task(void *context, size_t task, size_t worker) {
    const msae__batch *batch = (const msae__batch *)context;
    const struct msae_train_workspace *ws = batch->ws;
    const msae_model *model = batch->model;
    const size_t d = model->n_inputs, levels = model->n_levels;
    const size_t panels = msae__column_panels(model), panel = task % panels;
    const size_t column = panel * MSAE__PANEL, width = msae__panel_width(model, panel);
    const size_t group = msae__decode_rows(batch), from = task / panels * group;
    const size_t until = msae__min(from + group, batch->rows);
    float *decoder = ws->decoder_panel + worker * MSAE__LATENT_BLOCK * MSAE__PANEL;
    memset(decoder, 0, MSAE__LATENT_BLOCK * MSAE__PANEL * sizeof *decoder);
    memset(msae__level_panel(batch, panel, from), 0,
           (until - from) * levels * MSAE__PANEL * sizeof(float));
    for (size_t b = 0; b < msae__blocks(model); b++) {
        const float *rows = model->decoder + b * MSAE__LATENT_BLOCK * d + column;
        for (size_t j = 0; j < msae__block_size(model, b); j++) {
            if (width == MSAE__PANEL) /* a length that the compiler knows is copied in place */
                memcpy(decoder + j * MSAE__PANEL, rows + j * d, MSAE__PANEL * sizeof *decoder);
            else
                memcpy(decoder + j * MSAE__PANEL, rows + j * d, width * sizeof *decoder);
        }
        for (size_t r = from; r < until; r++) {
            const size_t slot = msae__slot(ws, b, r);
            msae__full(model->kernels)
                ->decode(msae__level_panel(batch, panel, r), decoder, ws->index + slot,
                         ws->latents + slot, msae__ends(batch, b, r), levels);
        }
    }
    for (size_t r = from; r < until; r++) msae__finish_panel(batch, panel, r);
}

/* Copies a row's reconstructions and latents at level i for msae_trainer_forward. */
static void msae__export_row(const msae__batch *batch, size_t r, size_t i, float *recon,
                             float *latents) {
    const struct msae_train_workspace *ws = batch->ws;
    const msae_model *model = batch->model;
    for (size_t p = 0; p < msae__column_panels(model) && recon; p++) {
        memcpy(recon + p * MSAE__PANEL, msae__level_panel(batch, p, r) + i * MSAE__PANEL,
               msae__panel_width(model, p) * sizeof *recon);
    }
    if (!latents) return;
    memset(latents, 0, model->n_latents * sizeof *latents);
    for (size_t b = 0; b < msae__blocks(model); b++) {
        const size_t slot = msae__slot(ws, b, r), count = msae__ends(batch, b, r)[i];
        for (size_t e = slot; e < slot + count; e++) {
            latents[b * MSAE__LATENT_BLOCK + (ws->index[e] & MSAE__LATENT)] = ws->latents[e];
        }
    }
}

/* Levels outermost, as msae_trainer_forward hands them out: [L, rows, d] and [L, rows, n]. */
static void msae__export_tile(const msae__batch *batch) {
    for (size_t i = 0; i < batch->model->n_levels; i++) {
        for (size_t r = 0; r < batch->rows; r++) {
            const size_t row = i * batch->total + batch->first + r;
            msae__export_row(
                batch, r, i, batch->recon ? batch->recon + row * batch->model->n_inputs : NULL,
                batch->latents ? batch->latents + row * batch->model->n_latents : NULL);
        }
    }
}

/* r_i of all rows and levels, with the sums that their losses are made of. */
static void msae__decode_tile(msae__batch *batch) {
    const size_t groups = msae__ceil_div(batch->rows, msae__decode_rows(batch));
    msae__parallel_for(&batch->model->parallel, msae__column_panels(batch->model) * groups,
                       msae__decode_task, batch);
    if (batch->recon || batch->latents) msae__export_tile(batch);
}

/* The cosine loss of a row at level i and, with w = 1 - cos, its gradient d(w^2)/dr
   = 2 w (cos r / |r|^2 - x / (|r| |x|)), to which that of the levels behind it is added. */
static void msae__cosine_loss(const msae__batch *batch, size_t r, size_t i, const double sums[3]) {
    const struct msae_train_workspace *ws = batch->ws;
    msae__row *row = ws->rows + r;
    const double norms = sqrt(sums[2]) * row->norm;
    double to_r = 0, to_x = 0;
    row->squared_error[i] = 0;
    if (!row->bad && norms == 0) row->zero_levels |= (uint64_t)1 << i;
    if (!row->bad && norms != 0) {
        const double cosine = sums[1] / norms, off = 1 - cosine;
        row->squared_error[i] = off * off;
        to_x = -2 * off * batch->coefficient[i] * row->moments[1] / norms;
        to_r = 2 * off * batch->coefficient[i] * row->moments[1] * cosine / sums[2];
    }
    if (!batch->backward) return;
    for (size_t k = 0; k < batch->model->n_inputs; k++) {
        const size_t panel = k / MSAE__PANEL, c = k % MSAE__PANEL;
        float *here = msae__level_panel(batch, panel, r) + i * MSAE__PANEL + c;
        const float x = ws->target[(panel * ws->tile_rows + r) * MSAE__PANEL + c];
        const double g = to_r * *here + to_x * x;
        *here = (float)(i + 1 == batch->model->n_levels ? g : g + here[MSAE__PANEL]);
    }
}

/* The losses of a row, from the last level to the first. */
static void msae__loss_task(void *context, size_t r, size_t worker) {
    const msae__batch *batch = (const msae__batch *)context;
    const msae_model *model = batch->model;
    const msae_loss loss = batch->trainer->desc.loss;
    const struct msae_train_workspace *ws = batch->ws;
    msae__row *row = ws->rows + r;
    (void)worker;
    for (size_t i = model->n_levels; i-- > 0;) {
        double sums[3] = {0, 0, 0};
        for (size_t p = 0; p < msae__column_panels(model); p++) {
            const size_t panel = (p * ws->tile_rows + r) * model->n_levels + i;
            for (size_t s = 0; s < 3; s++) sums[s] += ws->partial[3 * panel + s];
        }
        if (loss == MSAE_LOSS_COSINE) {
            msae__cosine_loss(batch, r, i, sums);
        } else if (!msae__row_has_loss(batch, row)) {
            row->squared_error[i] = 0;
        } else if (loss == MSAE_LOSS_NMSE) {
            row->squared_error[i] = sums[0] / row->spread;
        } else {
            row->squared_error[i] = sums[0] / (double)model->n_inputs;
        }
    }
}

/* The losses of the tile, summed in the order of the rows. */
static void msae__lose_tile(msae__batch *batch) {
    msae__parallel_for(&batch->model->parallel, batch->rows, msae__loss_task, batch);
    for (size_t r = 0; r < batch->rows; r++) {
        const msae__row *row = batch->ws->rows + r;
        for (size_t i = 0; i < batch->model->n_levels; i++) {
            batch->stats.level_loss[i] += row->squared_error[i];
            if (msae__row_has_loss(batch, row)) batch->zero_rows[i] += row->zero_levels >> i & 1;
        }
        batch->sparse += row->sparse;
        batch->stats.l0 += (double)row->l0;
    }
}

/* ---------------------------------------------------------------------------------------------
   >>gradients Gradients. With g_i = a_i / sum(a) dloss_i / dr_i and G_l = sum over i >= l of g_i,
   for a kept latent j of a row that enters at level l:
       dz_j = <decoder_j, G_l> (+ lambda sign(z_j) / (B |x|) for relu),  ddecoder_j += z_j G_l
       dpre_j = dz_j softcap' act',  softcap' = 1 - (z / c)^2,  act' = sign(pre) for abs, else 1
       dencoder_j += (x - pre_bias) dpre_j,  dlatent_bias_j += dpre_j
       dpre_bias = sum over the rows of G_1 - sum_j encoder_j dlatent_bias_j
   jumprelu, with rect(u) = [-1/2 < u < 1/2] and bandwidth w, for latents within it too:
       dlog_threshold_j -= theta/w rect((v - theta)/w) dz_j + lambda/(B w) rect((z - theta)/w)
   ------------------------------------------------------------------------------------------ */

/* A chunk's entries of a block of latents, listed latent by latent, rows ascending. */
typedef struct msae__latent_lists {
    size_t block, first, count; /* the block, and which rows of the tile */
    size_t room, entries;
    uint32_t *rows, *levels; /* row of the tile; row of a panel of ws->levels */
    float *values, *dots;    /* latent (weight of the decoder gradient), dz */
    /* ends[g][j]: where the rows of group g of MSAE__GATHER_ROWS end in latent j's list */
    uint32_t ends[MSAE__TILE_ROWS / MSAE__GATHER_ROWS][MSAE__LATENT_BLOCK];
    size_t groups, group_rows;
} msae__latent_lists;

/* Turns a block's entries, which stand row by row, into lists of each latent: gradients are sums
   over the rows of one latent. Rows ascend in a list, so that sums have one order. */
static void msae__list_latents(const msae__batch *batch, msae__latent_lists *lists, size_t place) {
    const struct msae_train_workspace *ws = batch->ws;
    const size_t levels = batch->model->n_levels, room = ws->list_room;
    const size_t offset = place * MSAE__LATENT_BLOCK * room, last = lists->first + lists->count;
    uint32_t counts[MSAE__LATENT_BLOCK] = {0};
    lists->room = room;
    lists->rows = ws->list_rows + offset;
    lists->levels = ws->list_levels + offset;
    lists->values = ws->list_values + offset;
    lists->dots = ws->list_dots + offset;
    lists->entries = lists->groups = 0;
    lists->group_rows = MSAE__GATHER_ROWS;
    for (size_t r = lists->first; r < last; r++) {
        const size_t slot = msae__slot(ws, lists->block, r);
        const size_t count = msae__ends(batch, lists->block, r)[levels];
        for (size_t e = slot; e < slot + count; e++) {
            const size_t j = ws->index[e] & MSAE__LATENT, at = j * room + counts[j]++;
            lists->rows[at] = (uint32_t)r;
            lists->levels[at] = (uint32_t)(r * levels + ws->level[e]);
            lists->values[at] = ws->latents[e];
            lists->dots[at] = 0;
        }
        if ((r + 1 - lists->first) % MSAE__GATHER_ROWS == 0 || r + 1 == last) {
            memcpy(lists->ends[lists->groups++], counts, sizeof counts);
        }
        lists->entries += count;
    }
    /* few entries: all rows as one group */
    if (lists->entries < MSAE__GATHER_ENTRIES * MSAE__LATENT_BLOCK * lists->groups) {
        memcpy(lists->ends[0], counts, sizeof counts);
        lists->groups = 1;
        lists->group_rows = lists->count;
    }
}

/* d loss / d pre-activation of one listed latent, given dz, the part of d loss / d latent that
   comes through the decoder. z is the latent, relu jumprelu's relu(pre). */
static float msae__activation_gradient(const msae__batch *batch, size_t r, size_t latent, float z,
                                       float relu, float dz, double *threshold_gradient) {
    const struct msae_train_workspace *ws = batch->ws;
    const float cap = batch->model->soft_cap;
    if (batch->model->recipe == MSAE_RECIPE_JUMPRELU) {
        const float theta = ws->theta[latent], bandwidth = batch->trainer->desc.bandwidth;
        if (cap > 0) dz *= 1 - (z / cap) * (z / cap);
        if (msae__in_band(relu - theta, bandwidth)) {
            *threshold_gradient -= (double)theta / bandwidth * dz;
        }
        if (msae__in_band(z - theta, bandwidth)) {
            *threshold_gradient -= batch->sparse_coefficient / bandwidth;
        }
        return relu > theta ? dz : 0;
    }
    if (batch->sparse_coefficient > 0 && ws->rows[r].norm > 0) {
        dz += (float)(batch->sparse_coefficient / ws->rows[r].norm) * (float)((z > 0) - (z < 0));
    }
    return cap > 0 ? dz * (1 - (z / cap) * (z / cap)) : dz;
}

/* Whether dz is not yet the gradient of the pre-activation. */
static int msae__has_activation_gradient(const msae__batch *batch) {
    return batch->model->recipe == MSAE_RECIPE_JUMPRELU || batch->model->soft_cap > 0 ||
           batch->sparse_coefficient > 0 || batch->model->activation == MSAE_ACTIVATION_ABS;
}

/* From dz to the gradient of the pre-activations where that is not the same, row by row because
   only the arrays by block know relu(pre) and turned signs. */
static void msae__through_activation(const msae__batch *batch, const msae__latent_lists *lists,
                                     double *thresholds) {
    const struct msae_train_workspace *ws = batch->ws;
    const size_t levels = batch->model->n_levels, block = lists->block;
    uint32_t counts[MSAE__LATENT_BLOCK] = {0};
    for (size_t r = lists->first; r < lists->first + lists->count; r++) {
        const size_t slot = msae__slot(ws, block, r), count = msae__ends(batch, block, r)[levels];
        for (size_t e = slot; e < slot + count; e++) {
            const size_t j = ws->index[e] & MSAE__LATENT, at = j * lists->room + counts[j]++;
            const float dz = msae__activation_gradient(batch, r, block * MSAE__LATENT_BLOCK + j,
                                                       ws->latents[e], ws->relu ? ws->relu[e] : 0,
                                                       lists->dots[at], &thresholds[j]);
            lists->dots[at] = ws->index[e] & MSAE__NEGATIVE ? -dz : dz;
        }
    }
}

/* dlatent_bias_j += sum of dpre_j over a latent's rows, and the latent's count of activity. Four
   sums, because one would wait for each addition. */
static void msae__bias_gradient(const msae__batch *batch, size_t latent, const float *dots,
                                const float *values, size_t count) {
    float sums[4] = {0, 0, 0, 0};
    uint32_t fired = 0;
    size_t e = 0;
    for (; e + 4 <= count; e += 4) {
        for (size_t i = 0; i < 4; i++) {
            sums[i] += dots[e + i];
            fired += values[e + i] != 0;
        }
    }
    for (; e < count; e++) {
        sums[0] += dots[e];
        fired += values[e] != 0;
    }
    batch->trainer->grad.latent_bias[latent] += (sums[0] + sums[1]) + (sums[2] + sums[3]);
    if (batch->ws->fired_level + 1 == batch->model->n_levels) {
        batch->ws->fired_now[latent] += fired;
    }
}

/* Counts how often the latents of a block were active where not the largest level counts. */
static void msae__count_strongest(const msae__batch *batch, size_t block) {
    const struct msae_train_workspace *ws = batch->ws;
    uint32_t *fired = ws->fired_now + block * MSAE__LATENT_BLOCK;
    for (size_t r = 0; r < batch->rows; r++) {
        const uint8_t *index = ws->index + msae__slot(ws, block, r);
        const size_t count = msae__ends(batch, block, r)[ws->fired_level];
        for (size_t e = 0; e < count; e++) fired[index[e] & MSAE__LATENT]++;
    }
}

/* Asks for one of so many parts of some floats that will be read soon. */
static void msae__fetch(const float *floats, size_t count, size_t part, size_t parts) {
    const size_t line = MSAE__ALIGN / sizeof *floats, lines = count / line;
    const size_t last = (part + 1) * lines / parts;
    for (size_t i = part * lines / parts; i < last; i++) MSAE__FETCH(floats + i * line);
}

/* Gathers a panel of gradients from a group of listed rows, a call to the kernels for each latent.
   Of the decoder: ddecoder_j += z_j G_l, and <decoder_j, G_l> to the dots, as both read the same
   rows of G. Of the encoder, once the dots have become dpre_j: dencoder_j += (x - pre_bias) dpre_j.
   Where most rows are listed more than once, the next group's come into the cache meanwhile. */
static void msae__gather_group(const msae__batch *batch, const msae__latent_lists *lists,
                               size_t panel, size_t group, int of_decoder) {
    const struct msae_train_workspace *ws = batch->ws;
    const msae_model *model = batch->model;
    const msae__batch_kernels *kernels = msae__full(model->kernels);
    const size_t d = model->n_inputs, width = msae__panel_width(model, panel);
    const size_t count = msae__block_size(model, lists->block), ahead = MSAE__GATHER_AHEAD * d;
    const size_t vectors = of_decoder ? model->n_levels : 1; /* of each row */
    const size_t row_floats = vectors * MSAE__PANEL;
    const float *from = of_decoder ? ws->levels : ws->inputs;
    const float *base = from + panel * ws->tile_rows * row_floats;
    const size_t next = (group + 1) % lists->groups, next_panel = panel + (next == 0);
    const size_t next_row = lists->first + next * lists->group_rows;
    const float *soon = from;
    size_t soon_rows = msae__min(lists->group_rows, lists->first + lists->count - next_row);
    const msae_parameters *grad = &batch->trainer->grad;
    const size_t at = lists->block * MSAE__LATENT_BLOCK * d + panel * MSAE__PANEL;
    float *sums = (of_decoder ? grad->decoder : grad->encoder) + at;
    const float *decoder = model->decoder + at;
    if (next_panel == msae__column_panels(model) || lists->entries < lists->count * vectors) {
        soon_rows = 0;
    } else {
        soon += (next_panel * ws->tile_rows + next_row) * row_floats;
    }
    for (size_t j = 0; j < count; j++, sums += d, decoder += d) {
        const size_t begin = group ? lists->ends[group - 1][j] : 0;
        const size_t list = j * lists->room + begin;
        msae__gather rows = {base, MSAE__PANEL, lists->levels + list, lists->values + list,
                             lists->ends[group][j] - begin};
        msae__fetch(soon, soon_rows * row_floats, j, count);
        if (group == 0 && j + MSAE__GATHER_AHEAD < count) {
            msae__fetch(sums + ahead, width, 0, 1);
            if (of_decoder) msae__fetch(decoder + ahead, width, 0, 1);
        }
        if (of_decoder) {
            kernels->gather_dot_axpy(sums, lists->dots + list, decoder, &rows, width);
        } else {
            rows.index = lists->rows + list;
            rows.weight = lists->dots + list;
            kernels->gather_axpy(sums, &rows, width);
        }
    }
}

/* .. for some blocks of latents, one after the other while the rows are in the cache. */
static void msae__gather_gradients(const msae__batch *batch, const msae__latent_lists *lists,
                                   size_t blocks, int of_decoder) {
    for (size_t p = 0; p < msae__column_panels(batch->model); p++) {
        for (size_t g = 0; g < MSAE__TILE_ROWS / MSAE__GATHER_ROWS; g++) {
            for (size_t b = 0; b < blocks; b++) {
                if (g < lists[b].groups) msae__gather_group(batch, &lists[b], p, g, of_decoder);
            }
        }
    }
}

/* What the dots of a block's latents make known: the gradients of their biases and thresholds. */
static void msae__dots_gradients(const msae__batch *batch, const msae__latent_lists *lists) {
    msae_parameters *grad = &batch->trainer->grad;
    const size_t first = lists->block * MSAE__LATENT_BLOCK;
    double thresholds[MSAE__LATENT_BLOCK] = {0};
    if (msae__has_activation_gradient(batch)) msae__through_activation(batch, lists, thresholds);
    for (size_t j = 0; j < msae__block_size(batch->model, lists->block); j++) {
        msae__bias_gradient(batch, first + j, lists->dots + j * lists->room,
                            lists->values + j * lists->room, lists->ends[lists->groups - 1][j]);
        if (batch->ws->relu) grad->log_threshold[first + j] += (float)thresholds[j];
    }
}

/* Gradients of some blocks of latents, over all rows of the tile, chunk by chunk: lists have the
   same ends whatever the tile is. dz and the decoder's gradient read the same rows of G, once; then
   the encoder's gradient gathers rows of the input. */
static void msae__latent_gradients(const msae__batch *batch, size_t first, size_t blocks,
                                   size_t worker) {
    const struct msae_train_workspace *ws = batch->ws;
    msae__latent_lists lists[MSAE__GRADIENT_BLOCKS];
    for (size_t r = 0; r < batch->rows; r += ws->chunk_rows) {
        for (size_t b = 0; b < blocks; b++) {
            lists[b].block = first + b;
            lists[b].first = r;
            lists[b].count = msae__min(ws->chunk_rows, batch->rows - r);
            msae__list_latents(batch, &lists[b], worker * ws->list_blocks + b);
        }
        msae__gather_gradients(batch, lists, blocks, 1);
        for (size_t b = 0; b < blocks; b++) msae__dots_gradients(batch, &lists[b]);
        msae__gather_gradients(batch, lists, blocks, 0);
    }
}

/* Blocks of latents, whose gradients begin at zero with the batch. */
static void msae__block_gradients(const msae__batch *batch, size_t task, size_t worker) {
    const struct msae_train_workspace *ws = batch->ws;
    const msae_model *model = batch->model;
    const size_t first = task * ws->list_blocks;
    const size_t last = msae__min(first + ws->list_blocks, msae__blocks(model));
    for (size_t b = first; b < last && batch->first_tile; b++) {
        msae__zero_block(model, &batch->trainer->grad, b);
        memset(ws->fired_now + b * MSAE__LATENT_BLOCK, 0,
               msae__block_size(model, b) * sizeof *ws->fired_now);
    }
    msae__latent_gradients(batch, first, last - first, worker);
    for (size_t b = first; b < last && ws->fired_level + 1 < model->n_levels; b++) {
        msae__count_strongest(batch, b);
    }
}

/* Tasks of the gradient that are blocks of latents. */
static size_t msae__gradient_tasks(const msae__batch *batch) {
    return msae__ceil_div(msae__blocks(batch->model), batch->ws->list_blocks);
}

/* Blocks of latents first, then panels of the pre_bias gradient: the sum of G_1 over the rows. */
static void msae__gradient_task(void *context, size_t task, size_t worker) {
    const msae__batch *batch = (const msae__batch *)context;
    const size_t tasks = msae__gradient_tasks(batch);
    if (task < tasks) {
        msae__block_gradients(batch, task, worker);
    } else {
        const size_t panel = task - tasks, width = msae__panel_width(batch->model, panel);
        float *bias = batch->trainer->grad.pre_bias + panel * MSAE__PANEL;
        if (batch->first_tile) memset(bias, 0, width * sizeof *bias);
        for (size_t r = 0; r < batch->rows; r++) {
            batch->model->kernels->axpy(bias, 1, msae__level_panel(batch, panel, r), width);
        }
    }
}

/* The last term of the pre_bias gradient, minus the sum over rows of encoder dpre, is minus the
   encoder times the latent_bias gradient. */
static void msae__encoder_bias_task(void *context, size_t task, size_t worker) {
    const msae__batch *batch = (const msae__batch *)context;
    const msae_model *model = batch->model;
    const msae_parameters *grad = &batch->trainer->grad;
    const size_t column = task * MSAE__PANEL, width = msae__panel_width(model, task);
    (void)worker;
    for (size_t j = 0; j < model->n_latents; j++) {
        if (grad->latent_bias[j] == 0) continue;
        model->kernels->axpy(grad->pre_bias + column, -grad->latent_bias[j],
                             model->encoder + j * model->n_inputs + column, width);
    }
}

/* Line 6 but for what is linear in the whole batch's gradients (msae__finish_pre_bias). */
static void msae__differentiate_tile(msae__batch *batch) {
    msae__parallel_for(&batch->model->parallel,
                       msae__gradient_tasks(batch) + msae__column_panels(batch->model),
                       msae__gradient_task, batch);
}

/* Once for a batch instead of for each row: n d operations. */
static void msae__finish_pre_bias(msae__batch *batch) {
    msae__parallel_for(&batch->model->parallel, msae__column_panels(batch->model),
                       msae__encoder_bias_task, batch);
}

/* ---------------------------------------------------------------------------------------------
   >>update The update:
       c_j = |decoder_j| + 1.2e-7;  decoder_j /= c_j,  encoder_j and latent_bias_j *= c_j,
       log_threshold_j += ln c_j;  tied: decoder_j, latent_bias_j /= c_j, log_threshold_j -= ln c_j
       ddecoder_j -= <ddecoder_j, decoder_j> decoder_j
       all gradients *= min(1, clip / (|all gradients| + 1e-6))
       p *= 1 - lr wd;  m, v = Adam's means of g, g^2;  p -= lr m^ / (sqrt(v^) + eps)
   Two passes over the parameters: the first measures decoder norms, the gradients' parts along the
   decoder rows and the norm of all gradients. The second does the rest while a row is in registers
   ------------------------------------------------------------------------------------------ */

typedef struct msae__update {
    msae_trainer *trainer;
    msae__adam adam;
    msae__array grad[MSAE__ARRAYS], moment1[MSAE__ARRAYS], moment2[MSAE__ARRAYS];
} msae__update;

/* The first pass over a block: c_j, <ddecoder_j, decoder_j / c_j> and the squares of the gradients
   that will be left. The latter follow from three dots, before anything is projected. */
static void msae__measure_task(void *context, size_t task, size_t worker) {
    msae_trainer *trainer = ((msae__update *)context)->trainer;
    struct msae_train_workspace *ws = trainer->workspace;
    const msae_model *model = &trainer->model;
    const msae_kernels *kernels = model->kernels;
    const size_t d = model->n_inputs, first = task * MSAE__LATENT_BLOCK;
    const size_t last = msae__min(first + MSAE__LATENT_BLOCK, model->n_latents);
    double squares = 0;
    (void)worker;
    for (size_t j = first; j < last; j++) {
        const float *row = model->decoder + j * d, *grad = trainer->grad.decoder + j * d;
        const double length = sqrt((double)kernels->dot(row, row, d));
        const double norm = length + 1.1920929e-7, unit = length / norm;
        const double along = (double)kernels->dot(grad, row, d) / norm;
        const double all = kernels->dot(grad, grad, d);
        /* ||g - s u||^2 = ||g||^2 - 2 s <g, u> + s^2 ||u||^2 with s = <g, u> */
        const double left = all - 2 * along * along + along * along * unit * unit;
        ws->norms[j] = (float)norm;
        ws->projection[j] = (float)along;
        /* (left is 0 rather than a rounding error below it; NaN must pass, whatever the flags) */
        squares += msae__is_finite_double(left) && left < 0 ? 0 : left;
        if (!model->tied) {
            const float *encoder = trainer->grad.encoder + j * d;
            squares += kernels->dot(encoder, encoder, d);
        }
    }
    ws->squares[task] = squares;
}

/* Steps `count` values of the model from `at` on, with the gradients and moments of the array they
   are in. rescale and project: line 7 of the step, in one pass with Adam. */
static void msae__adam_values(const msae__update *update, size_t array, float *values, size_t at,
                              size_t count, float rescale, float project) {
    msae__full(update->trainer->model.kernels)
        ->adam(values + at, update->grad[array].values + at, update->moment1[array].values + at,
               update->moment2[array].values + at, count, rescale, project, &update->adam);
}

/* The second pass: rescales, projects, clips and steps each row of the block. */
static void msae__adam_task(void *context, size_t task, size_t worker) {
    const msae__update *update = (const msae__update *)context;
    const struct msae_train_workspace *ws = update->trainer->workspace;
    msae_model *model = &update->trainer->model;
    const size_t d = model->n_inputs, first = task * MSAE__LATENT_BLOCK;
    const size_t count = msae__block_size(model, task);
    (void)worker;
    for (size_t j = first; j < first + count; j++) {
        const float norm = ws->norms[j], inverse = 1 / norm;
        msae__adam_values(update, MSAE__DECODER, model->decoder, j * d, d, inverse,
                          ws->projection[j]);
        if (!model->tied) {
            msae__adam_values(update, MSAE__ENCODER, model->encoder, j * d, d, norm, 0);
        }
        model->latent_bias[j] *= model->tied ? inverse : norm;
        if (model->log_threshold) {
            model->log_threshold[j] += model->tied ? -logf(norm) : logf(norm);
        }
    }
    msae__adam_values(update, MSAE__LATENT_BIAS, model->latent_bias, first, count, 1, 0);
    if (model->log_threshold) {
        msae__adam_values(update, MSAE__LOG_THRESHOLD, model->log_threshold, first, count, 1, 0);
    }
}

#define MSAE__PERIOD_STEPS 1000
#define MSAE__DEAD_FREQUENCY 3.1622776601683795e-6 /* 10^-5.5 */

/* Counts latents that were active in less than 10^-5.5 of the period's rows. */
static size_t msae__count_dead(const struct msae_train_workspace *ws, size_t n) {
    const double least = MSAE__DEAD_FREQUENCY * (double)ws->period_rows;
    size_t dead = 0;
    for (size_t j = 0; j < n; j++) dead += ws->fired[j] < least;
    return dead;
}

/* Counts what the step's batch did. Dead latents are those of the last full period; before one is
   full, of what there is of it. */
static void msae__advance_period(msae_trainer *trainer) {
    struct msae_train_workspace *ws = trainer->workspace;
    const size_t n = trainer->model.n_latents;
    ws->period_steps++;
    ws->period_rows += ws->gradient_rows;
    for (size_t j = 0; j < n; j++) ws->fired[j] += ws->fired_now[j];
    for (size_t j = 0; ws->fired_since && j < n; j++) {
        ws->fired_since[j] = (ws->fired_since[j] | ws->fired_now[j]) != 0; /* whether it did */
    }
    ws->rows_since += ws->gradient_rows;
    if (!ws->had_period) ws->dead = msae__count_dead(ws, n);
    if (ws->period_steps == MSAE__PERIOD_STEPS) {
        ws->dead = msae__count_dead(ws, n);
        ws->had_period = 1;
        ws->period_steps = 0;
        ws->period_rows = 0;
        memset(ws->fired, 0, n * sizeof *ws->fired);
    }
}

/* threshold = 0.99 threshold + 0.01 the smallest value kept. The first step rescales the decoder by
   ten, so it begins at the second. */
static void msae__track_threshold(msae_trainer *trainer) {
    const float lowest = trainer->workspace->lowest;
    float *threshold = &trainer->model.threshold;
    if (trainer->step == 0 || !(lowest > 0)) return;
    *threshold = *threshold < 0 ? lowest : (float)(0.99 * *threshold + 0.01 * lowest);
}

/* Of all gradients, after projection; those of the matrices were measured block by block. */
static double msae__gradient_norm(const msae_trainer *trainer) {
    const msae_model *model = &trainer->model;
    msae__array arrays[MSAE__ARRAYS];
    double squares = 0;
    msae__arrays_of(model, &trainer->grad, arrays);
    for (size_t b = 0; b < msae__blocks(model); b++) squares += trainer->workspace->squares[b];
    for (size_t a = MSAE__PRE_BIAS; a < MSAE__ARRAYS; a++) {
        const float *values = arrays[a].values;
        for (size_t i = 0; i < arrays[a].count; i++) squares += (double)values[i] * values[i];
    }
    return sqrt(squares);
}

/* What the kernel adam needs to know; MSAE_ERROR_NOT_FINITE where the step would be none. */
static msae_status msae__adam_of(const msae_trainer *trainer, double norm, msae__adam *adam,
                                 msae_error *error) {
    const msae_train_desc *desc = &trainer->desc;
    const double t = (double)trainer->step + 1, lr = (double)desc->lr * trainer->lr_factor;
    adam->clip = 1;
    if (desc->clip != MSAE_OFF && desc->clip / (norm + 1e-6) < 1) {
        adam->clip = (float)(desc->clip / (norm + 1e-6));
    }
    if (!msae__is_finite_double(norm) || norm * adam->clip > 1e19) {
        return msae__fail(error, MSAE_ERROR_NOT_FINITE,
                          "the gradient is NaN, Inf or too large to be squared");
    }
    adam->beta1 = desc->beta1;
    adam->beta2 = desc->beta2;
    adam->rest1 = 1 - desc->beta1;
    adam->rest2 = 1 - desc->beta2;
    adam->decay = (float)(1 - lr * desc->weight_decay);
    adam->rate = (float)(lr / (1 - pow(desc->beta1, t)));
    adam->root = (float)(1 / sqrt(1 - pow(desc->beta2, t)));
    adam->eps = desc->eps;
    if (!msae__is_finite(adam->rate)) {
        return msae__fail(error, MSAE_ERROR_NOT_FINITE, "the learning rate is too large to step");
    }
    return MSAE_OK;
}

/* Lines 7 to 9. Until the norm is known to be finite nothing is written but what was measured. */
MSAE_API msae_status msae_trainer_update(msae_trainer *trainer, msae_step_stats *stats,
                                         msae_error *error) {
    struct msae_train_workspace *ws = trainer->workspace;
    msae_model *model = &trainer->model;
    msae__update update;
    msae_status status;
    double norm;
    if (!ws->has_gradients) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "there are no gradients to step along");
    }
    update.trainer = trainer;
    msae__parallel_for(&model->parallel, msae__blocks(model), msae__measure_task, &update);
    norm = msae__gradient_norm(trainer);
    status = msae__adam_of(trainer, norm, &update.adam, error);
    if (status != MSAE_OK) return status;
    msae__arrays_of(model, &trainer->grad, update.grad);
    msae__arrays_of(model, &trainer->moment1, update.moment1);
    msae__arrays_of(model, &trainer->moment2, update.moment2);
    msae__parallel_for(&model->parallel, msae__blocks(model), msae__adam_task, &update);
    msae__adam_values(&update, MSAE__PRE_BIAS, model->pre_bias, 0, model->n_inputs, 1, 0);

    if (msae__is_batch_topk(model->recipe)) msae__track_threshold(trainer);
    msae__advance_period(trainer);
    ws->has_gradients = 0;
    trainer->step++;
    trainer->rows += ws->gradient_rows;
    trainer->rows_skipped += ws->gradient_skipped;
    model->history.steps = trainer->step;
    model->history.rows = trainer->rows;
    if (stats) {
        stats->grad_norm = norm;
        stats->lr = (double)trainer->desc.lr * trainer->lr_factor;
        stats->dead_latents = ws->dead;
    }
    return MSAE_OK;
}

/* ---------------------------------------------------------------------------------------------
   >>batchtopk BatchTopK: of a batch of B rows the k B largest pre-activations, the lower row and
   latent among equals (Bussmann et al. 2024, arXiv 2412.06410). Tiles pass by once to find them:
   those above the lowest that can still be kept are candidates, of which the largest stay. At
   inference a threshold serves: the mean, decaying by 0.99 a step, of the smallest value that was
   kept
   ------------------------------------------------------------------------------------------ */

/* Candidates of a row: how many, then where they go. */
static void msae__count_candidates_task(void *context, size_t r, size_t worker) {
    const msae__batch *batch = (const msae__batch *)context;
    size_t count = 0;
    (void)worker;
    for (size_t b = 0; b < msae__blocks(batch->model) && !batch->ws->rows[r].bad; b++) {
        const float *pre = batch->ws->latents + msae__slot(batch->ws, b, r);
        for (size_t j = 0; j < msae__block_size(batch->model, b); j++) {
            count += pre[j] > batch->lowest_key_value;
        }
    }
    batch->ws->row_counts[r] = count;
}

/* Each row's go where the counts of the rows before it end, in the order of its latents. */
static void msae__write_candidates_task(void *context, size_t r, size_t worker) {
    const msae__batch *batch = (const msae__batch *)context;
    msae__kept *out = batch->ws->kept + batch->ws->row_counts[r];
    (void)worker;
    for (size_t b = 0; b < msae__blocks(batch->model) && !batch->ws->rows[r].bad; b++) {
        const float *pre = batch->ws->latents + msae__slot(batch->ws, b, r);
        for (size_t j = 0; j < msae__block_size(batch->model, b); j++) {
            if (!(pre[j] > batch->lowest_key_value)) continue;
            out->row = (uint32_t)(batch->first + r);
            out->latent = (uint32_t)(b * MSAE__LATENT_BLOCK + j);
            out++->value = pre[j];
        }
    }
}

/* Keeps the `limit` largest candidates, among equal ones the first, in the order they are in. Later
   ones must exceed the smallest of them. */
static void msae__keep_largest(msae__batch *batch, size_t limit) {
    struct msae_train_workspace *ws = batch->ws;
    const size_t count = ws->kept_count;
    msae__key_list list = {ws->kept_keys, count, 0, 0};
    msae__cut cut;
    if (count <= limit) return;
    for (size_t e = 0; e < count; e++) { /* all are positive */
        ws->kept_keys[e] = (int32_t)msae__float_bits(ws->kept[e].value);
        if (ws->kept_keys[e] > list.largest) list.largest = ws->kept_keys[e];
    }
    msae__cuts(batch->model->kernels, &list, &limit, 1, &cut, ws->kept_scratch);
    ws->kept_count = 0;
    for (size_t e = 0; e < count; e++) {
        const int tie = ws->kept_keys[e] == cut.key;
        if (ws->kept_keys[e] < cut.key || (tie && cut.ties == 0)) continue;
        cut.ties -= (size_t)tie;
        ws->kept[ws->kept_count++] = ws->kept[e];
    }
    batch->lowest_key_value = msae__bits_float((uint32_t)cut.key);
}

/* Adds the tile's pre-activations to the candidates, in the order of rows and latents. A later
   tile's value that only equals the lowest of a full set comes too late to be kept, hence > in the
   tasks. */
static void msae__add_candidates(msae__batch *batch) {
    struct msae_train_workspace *ws = batch->ws;
    const msae_parallel *parallel = &batch->model->parallel;
    /* what the batch can keep at most, as far as this process knows */
    const int is_part = msae__is_collective(batch->collective);
    const size_t most = batch->model->k * (is_part ? batch->trainer->desc.batch : batch->total);
    msae__parallel_for(parallel, batch->rows, msae__count_candidates_task, batch);
    for (size_t r = 0; r < batch->rows; r++) {
        size_t start = ws->kept_count;
        ws->kept_count += ws->row_counts[r];
        ws->row_counts[r] = start;
    }
    MSAE_ASSERT(ws->kept_count <= ws->kept_room);
    msae__parallel_for(parallel, batch->rows, msae__write_candidates_task, batch);
    msae__keep_largest(batch, most);
}

/* The smallest of the kept values, 0 when there is none. */
static float msae__lowest_kept(const struct msae_train_workspace *ws) {
    float lowest = 0;
    for (size_t e = 0; e < ws->kept_count; e++) {
        if (lowest == 0 || ws->kept[e].value < lowest) lowest = ws->kept[e].value;
    }
    return lowest;
}

/* Candidates from a value on. */
static size_t msae__count_kept(const struct msae_train_workspace *ws, float least) {
    size_t count = 0;
    for (size_t e = 0; e < ws->kept_count; e++) count += ws->kept[e].value >= least;
    return count;
}

/* The limit-th largest candidate over all processes, as the bits of a float: found by halving the
   range of these, which as integers have the same order. *above receives how many are larger. */
static msae_status msae__find_limit(const msae__batch *batch, double limit, uint32_t *bits,
                                    double *above, msae_error *error) {
    uint32_t low = 1, high = 0x7f800000u; /* at low there are limit and more, or it is the least */
    *above = 0;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        double count[2];
        msae_status status;
        count[0] = (double)msae__count_kept(batch->ws, msae__bits_float(middle));
        status = msae__agree(batch->collective, MSAE_OK, count, 1, error);
        if (status != MSAE_OK) return status;
        if (count[0] >= limit) {
            low = middle;
        } else {
            high = middle;
            *above = count[0];
        }
    }
    *bits = low;
    return MSAE_OK;
}

/* The lowest value that any process keeps. */
static msae_status msae__agree_lowest_kept(const msae__batch *batch, msae_error *error) {
    struct msae_train_workspace *ws = batch->ws;
    double values[MSAE_MAX_RANKS + 1];
    const msae_status status =
        msae__agree_each(batch->collective, (double)msae__lowest_kept(ws), values, error);
    ws->lowest = 0;
    for (size_t r = 0; r < batch->collective->ranks; r++) {
        const float lowest = (float)values[r];
        if (lowest > 0 && (ws->lowest == 0 || lowest < ws->lowest)) ws->lowest = lowest;
    }
    return status;
}

/* The batch's `limit` largest candidates over all processes: those above the value of the last one,
   and of those that equal it the first ones of the lowest ranks. */
static msae_status msae__keep_largest_of_all(msae__batch *batch, double limit, msae_error *error) {
    struct msae_train_workspace *ws = batch->ws;
    const msae_collective *collective = batch->collective;
    double values[MSAE_MAX_RANKS + 1], above, left;
    uint32_t low;
    size_t ties, kept = 0;
    msae_status status = msae__find_limit(batch, limit, &low, &above, error);
    if (status != MSAE_OK) return status;
    ties = msae__count_kept(ws, msae__bits_float(low)) -
           msae__count_kept(ws, msae__bits_float(low + 1));
    status = msae__agree_each(collective, (double)ties, values, error);
    if (status != MSAE_OK) return status;
    left = limit - above;
    for (size_t r = 0; r < collective->rank; r++) left -= values[r];
    if (left < (double)ties) ties = left > 0 ? (size_t)left : 0;
    for (size_t e = 0; e < ws->kept_count; e++) {
        const uint32_t bits = msae__float_bits(ws->kept[e].value);
        if (bits < low || (bits == low && ties == 0)) continue;
        ties -= bits == low;
        ws->kept[kept++] = ws->kept[e];
    }
    ws->kept_count = kept;
    return msae__agree_lowest_kept(batch, error);
}

/* The end of the survey: what the batch keeps, over all processes. */
static msae_status msae__keep_of_batch(msae__batch *batch, msae_error *error) {
    const msae_trainer *trainer = batch->trainer;
    const msae_step_stats *stats = &batch->stats;
    const size_t limit = msae__max(trainer->model.k * stats->rows, 1);
    if (stats->rows + stats->rows_skipped > trainer->desc.batch) return msae__fail_batch(error);
    if (msae__is_collective(batch->collective)) {
        return msae__keep_largest_of_all(batch, (double)limit, error);
    }
    msae__keep_largest(batch, limit);
    batch->ws->lowest = msae__lowest_kept(batch->ws);
    return MSAE_OK;
}

/* BatchTopK: the row's share of what the batch keeps. With nested widths a latent enters at the
   first one that reaches it; both go up together. */
static void msae__select_kept(const msae__batch *batch, size_t r) {
    const struct msae_train_workspace *ws = batch->ws;
    const msae_model *model = batch->model;
    const size_t wanted = batch->first + r, levels = model->n_levels;
    size_t low = 0, high = ws->kept_count, level = 0;
    while (low < high) { /* first candidate of this row */
        size_t middle = low + (high - low) / 2;
        if (ws->kept[middle].row < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t b = 0; b < msae__blocks(model); b++) {
        const size_t slot = msae__slot(ws, b, r), until = (b + 1) * MSAE__LATENT_BLOCK;
        uint8_t *ends = msae__ends(batch, b, r);
        size_t count = 0;
        memset(ends, 0, level); /* the widths that end before this block */
        for (; low < ws->kept_count && ws->kept[low].row == wanted; low++, count++) {
            const msae__kept *kept = ws->kept + low;
            if (kept->latent >= until) break;
            while (level + 1 < levels && kept->latent >= model->nesting[level]) {
                ends[level++] = (uint8_t)count;
            }
            ws->latents[slot + count] = msae__soft_cap(kept->value, model->soft_cap);
            ws->index[slot + count] = (uint8_t)(kept->latent % MSAE__LATENT_BLOCK);
            ws->level[slot + count] = (uint8_t)level;
        }
        for (size_t i = level; i <= levels; i++) ends[i] = (uint8_t)count;
        ws->rows[r].l0 += count;
    }
}

/* ---------------------------------------------------------------------------------------------
   >>processes Several processes, and shares of a batch. Each process has its rows of every batch;
   counts and losses are summed over all of them, then gradients, each of which is already divided
   by the rows of all. Without shares they are summed in float. With shares a batch falls into fixed
   parts, whose gradients are summed apart and then in double, where the order makes no difference
   ------------------------------------------------------------------------------------------ */

/* What a batch's losses are divided by. */
static msae_status msae__agree_survey(msae__batch *batch, msae_status status, msae_error *error) {
    msae_step_stats *stats = &batch->stats;
    size_t *const counts[] = {&stats->rows, &stats->rows_skipped, &stats->rows_left_out,
                              &batch->with_sparse};
    double values[5];
    for (size_t i = 0; i < 4; i++) values[i] = (double)*counts[i];
    status = msae__agree(batch->collective, status, values, 4, error);
    if (status != MSAE_OK) return status;
    for (size_t i = 0; i < 4; i++) *counts[i] = (size_t)values[i];
    batch->with_loss = stats->rows - stats->rows_left_out;
    return MSAE_OK;
}

/* The sums of a batch's losses over all processes, in one message. */
static msae_status msae__agree_losses(msae__batch *batch, msae_status status, msae_error *error) {
    const size_t levels = batch->model->n_levels;
    msae_step_stats *stats = &batch->stats;
    double values[2 * MSAE_MAX_LEVELS + 3];
    memcpy(values, stats->level_loss, levels * sizeof *values);
    for (size_t i = 0; i < levels; i++) values[levels + i] = (double)batch->zero_rows[i];
    values[2 * levels] = batch->sparse;
    values[2 * levels + 1] = stats->l0;
    status = msae__agree(batch->collective, status, values, 2 * levels + 2, error);
    if (status != MSAE_OK) return status;
    memcpy(stats->level_loss, values, levels * sizeof *values);
    for (size_t i = 0; i < levels; i++) batch->zero_rows[i] = (size_t)values[levels + i];
    batch->sparse = values[2 * levels];
    stats->l0 = values[2 * levels + 1];
    return MSAE_OK;
}

/* The gradients of all processes, and how often each latent was active (which a float holds to
   2^24). */
static msae_status msae__sum_gradients(msae__batch *batch, msae_error *error) {
    const msae_collective *collective = batch->collective;
    struct msae_train_workspace *ws = batch->ws;
    const size_t n = batch->model->n_latents;
    msae__array arrays[MSAE__ARRAYS + 1];
    if (!msae__is_collective(collective)) return MSAE_OK;
    msae__arrays_of(batch->model, &batch->trainer->grad, arrays);
    arrays[MSAE__ARRAYS].values = ws->norms;
    arrays[MSAE__ARRAYS].count = n;
    for (size_t j = 0; j < n; j++) ws->norms[j] = (float)ws->fired_now[j];
    for (size_t a = 0; a <= MSAE__ARRAYS; a++) {
        if (arrays[a].count > 0 &&
            !collective->sum_floats(collective->user, arrays[a].values, arrays[a].count)) {
            return msae__fail_collective(error);
        }
    }
    for (size_t j = 0; j < n; j++) ws->fired_now[j] = (uint32_t)ws->norms[j];
    return MSAE_OK;
}

/* Numbers in the sums of all gradients: the arrays of msae_parameters, one after the other, and how
   often each latent was active. */
static size_t msae__share_count(const msae_trainer *trainer) {
    msae__array arrays[MSAE__ARRAYS];
    size_t count = trainer->model.n_latents;
    msae__arrays_of(&trainer->model, &trainer->grad, arrays);
    for (size_t a = 0; a < MSAE__ARRAYS; a++) count += arrays[a].count;
    return count;
}

/* Gradients of a block of latents into the sums, or back; the last task takes pre_bias. */
typedef struct msae__share_task {
    const msae_trainer *trainer;
    int back;
} msae__share_task;

/* Doubles, into which each share's float gradients are added one share after the other. */
static void msae__share_block(void *context, size_t task, size_t worker) {
    const msae__share_task *job = (const msae__share_task *)context;
    const msae_model *model = &job->trainer->model;
    const size_t first = task * MSAE__LATENT_BLOCK, n = model->n_latents;
    uint32_t *fired = job->trainer->workspace->fired_now;
    double *sums = job->trainer->workspace->share_sums;
    msae__array arrays[MSAE__ARRAYS];
    (void)worker;
    msae__arrays_of(model, &job->trainer->grad, arrays);
    for (size_t a = 0; a < MSAE__ARRAYS; a++) {
        const msae__array part = msae__array_block(model, &arrays[a], task);
        double *sum = sums + (part.values - arrays[a].values);
        for (size_t i = 0; i < part.count; i++) {
            if (job->back)
                part.values[i] = (float)sum[i];
            else
                sum[i] += (double)part.values[i];
        }
        sums += arrays[a].count;
    }
    for (size_t j = first; j < n && j < first + MSAE__LATENT_BLOCK; j++) {
        if (job->back)
            fired[j] = (uint32_t)sums[j];
        else
            sums[j] += fired[j];
    }
}

/* The sums start at zero. */
static void msae__begin_shares(const msae__batch *batch) {
    double *sums = batch->ws->share_sums;
    memset(sums, 0, msae__share_count(batch->trainer) * sizeof *sums);
}

/* Adds the gradients of a share, which is done, to the sums; or the sums back to the gradients. */
static void msae__move_share(const msae__batch *batch, int back) {
    msae__share_task job;
    job.trainer = batch->trainer;
    job.back = back;
    msae__parallel_for(&batch->model->parallel, msae__blocks(batch->model) + 1, msae__share_block,
                       &job);
}

/* All shares of all processes to the gradients. Sums of some floats are exact in double unless they
   are 2^25 apart, so that their order does not matter. */
static msae_status msae__sum_shares(msae__batch *batch, msae_error *error) {
    const msae_collective *collective = batch->collective;
    if (msae__is_collective(collective) &&
        !collective->sum_doubles(collective->user, batch->ws->share_sums,
                                 msae__share_count(batch->trainer))) {
        return msae__fail_collective(error);
    }
    msae__move_share(batch, 1);
    return MSAE_OK;
}

/* ---------------------------------------------------------------------------------------------
   >>schedule Schedule: the factor on the learning rate, for epoch e of E and the part t of the run
       published  1 while e < floor(0.8 E), then (E - e) / (0.2 E), which may be above 1; capped: at
                  most 1.25; linear: at most 1
       cosine     from 0.1 to 1 over the first epoch, then 0.55 + 0.45 cos down to 0.1
       trapezoid  t / warmup, then 1, then (1 - t) / decay
   ------------------------------------------------------------------------------------------ */

MSAE_API void msae_trainer_schedule(msae_trainer *trainer, size_t epoch, size_t step,
                                    size_t steps) {
    const double epochs = (double)trainer->desc.epochs, e = (double)epoch;
    const double in_epoch = (double)msae__max(steps, 1), part = (double)step / in_epoch;
    const msae_schedule schedule = trainer->desc.schedule;
    double factor = 1;
    if (schedule == MSAE_SCHEDULE_PUBLISHED || schedule == MSAE_SCHEDULE_CAPPED ||
        schedule == MSAE_SCHEDULE_LINEAR) {
        if (e >= floor(0.8 * epochs)) factor = e < epochs ? (epochs - e) / (0.2 * epochs) : 0;
        if (schedule == MSAE_SCHEDULE_CAPPED && factor > 1.25) factor = 1.25;
        if (schedule == MSAE_SCHEDULE_LINEAR && factor > 1) factor = 1;
    } else if (schedule == MSAE_SCHEDULE_COSINE) {
        if (epoch == 0) {
            factor = 0.1 + 0.9 * (double)step / in_epoch;
        } else {
            const double done = (e - 1 + part) / (epochs > 1 ? epochs - 1 : 1);
            factor = 0.1 + 0.45 * (1 + cos(3.14159265358979323846 * (done > 1 ? 1 : done)));
        }
    } else if (schedule == MSAE_SCHEDULE_TRAPEZOID) {
        /* at the middle of the step, so that neither the first nor the last has a factor of 0 */
        const double done = (e * in_epoch + (double)step + 0.5) / (epochs * in_epoch);
        const double warmup = (double)trainer->desc.warmup, decay = (double)trainer->desc.decay;
        if (done < warmup) factor = done / warmup;
        if (1 - done < decay) factor = done < 1 ? (1 - done) / decay : 0;
    }
    trainer->lr_factor = (float)factor;
}

/* ---------------------------------------------------------------------------------------------
   >>revival Revival of latents that were never active since the last one. Of some rows those are
   looked for that the model reconstructs worst, by |x - r|^2 / |x|^2. Each gives a dead latent its
   residual: decoder_j = unit(x - r), encoder_j = half the mean length of the others' times that,
   latent_bias_j and the moments = 0. At most n / 32 of them at a time
   ------------------------------------------------------------------------------------------ */

#define MSAE__REVIVAL_ROWS 64 /* looked at together */

/* The rows that are reconstructed worst so far. */
typedef struct msae__misses {
    size_t count, room;
    msae_hit *worst; /* [room], a heap: a row's squared error over its own square, .. */
    float *left;     /* [room, d] .. and its place in these, what is missed of the rows */
} msae__misses;

/* Keeps what is missed of a row, target - recon, if it is among the worst by
   ||target - recon||^2 / ||target||^2. It takes the place of the row that it turns out. */
static void msae__add_miss(msae__misses *misses, const float *target, const float *recon,
                           size_t d) {
    const size_t place = misses->count < misses->room ? misses->count : misses->worst[0].row;
    double left = 0, all = 0;
    for (size_t i = 0; i < d; i++) {
        const double off = (double)target[i] - (double)recon[i];
        left += off * off;
        all += (double)target[i] * (double)target[i];
    }
    if (!(all > 0) || !(left > 0) || !msae__is_finite_double(left / all)) return;
    if (!msae__offer_hit(misses->worst, &misses->count, misses->room, place, (float)(left / all))) {
        return;
    }
    for (size_t i = 0; i < d; i++) misses->left[place * d + i] = target[i] - recon[i];
}

/* Of latents that were active since the last revival, on average. */
typedef struct msae__typical {
    double length; /* of encoder rows */
    float log_threshold;
} msae__typical;

/* Gives latent j the direction `left`. */
static void msae__revive_latent(msae_trainer *trainer, size_t j, const float *left,
                                const msae__typical *others) {
    msae_model *model = &trainer->model;
    const msae_parameters *const moments[] = {&trainer->moment1, &trainer->moment2};
    const size_t d = model->n_inputs, at = j * d;
    const double norm = sqrt(msae__squares(model->kernels, left, d));
    for (size_t i = 0; i < d; i++) {
        model->encoder[at + i] = (float)((double)left[i] / norm * 0.5 * others->length);
        model->decoder[at + i] = (float)((double)left[i] / norm); /* tied: the same memory */
    }
    model->latent_bias[j] = 0;
    if (model->log_threshold) model->log_threshold[j] = others->log_threshold;
    for (size_t m = 0; m < 2; m++) {
        msae__array arrays[MSAE__ARRAYS];
        msae__arrays_of(model, moments[m], arrays);
        for (size_t a = 0; a < MSAE__ARRAYS; a++) {
            memset(arrays[a].values + j * arrays[a].width, 0, arrays[a].width * sizeof(float));
        }
    }
}

/* The rows to look at: those of an index, random ones, or the first. */
typedef struct msae__revival_rows {
    const msae_source *source;
    const size_t *index;
    uint64_t *rng;
    size_t count;
} msae__revival_rows;

/* What a revival works in. */
typedef struct msae__revival {
    const msae_model *model;
    float *x, *recon; /* [MSAE__REVIVAL_ROWS, d], [L, MSAE__REVIVAL_ROWS, d] */
    msae__misses misses;
} msae__revival;

static void msae__revival_layout(void *context, msae__arena *arena) {
    msae__revival *revival = (msae__revival *)context;
    const msae_model *model = revival->model;
    const size_t d = model->n_inputs, room = revival->misses.room;
    revival->x = MSAE__TAKE(arena, float, MSAE__REVIVAL_ROWS *d);
    revival->recon = MSAE__TAKE(arena, float, MSAE__REVIVAL_ROWS * model->n_levels * d);
    revival->misses.left = MSAE__TAKE(arena, float, room *d);
    revival->misses.worst = MSAE__TAKE(arena, msae_hit, room);
}

/* Looks for the rows that are missed most, piece by piece. */
static msae_status msae__find_misses(msae_trainer *trainer, const msae__revival_rows *rows,
                                     msae__revival *revival, msae_error *error) {
    const msae_model *model = &trainer->model;
    const size_t d = model->n_inputs, level = trainer->workspace->fired_level;
    const size_t together = msae__min(MSAE__REVIVAL_ROWS, trainer->desc.batch);
    float *x = revival->x, *recon = revival->recon;
    msae_status status = MSAE_OK;
    for (size_t next = 0; next < rows->count && status == MSAE_OK;) {
        size_t count = 0;
        msae_data piece;
        for (; next < rows->count && count < together && status == MSAE_OK; next++) {
            float *row = x + count * d;
            const uint64_t at = rows->rng     ? msae__random_below(rows->rng, rows->source->rows)
                                : rows->index ? rows->index[next]
                                              : next;
            status = msae__read_source(rows->source, at, 1, row, error);
            count += (size_t)(status == MSAE_OK && msae__row_is_finite(row, d) &&
                              !msae__is_far(row, d, trainer->rare.norm_limit));
        }
        if (status != MSAE_OK || count == 0) break;
        piece = msae_data_view(x, count, d);
        status = msae_trainer_forward(trainer, &piece, NULL, count, recon, NULL, NULL, error);
        if (status != MSAE_OK) break;
        for (size_t r = 0; r < count; r++) {
            msae__to_model_space(model, x + r * d, x + r * d);
            msae__add_miss(&revival->misses, x + r * d, recon + (level * count + r) * d, d);
        }
    }
    return status;
}

/* Counts the latents that were never active, and says what the others are like on average. */
static size_t msae__count_idle(const msae_trainer *trainer, msae__typical *others) {
    const struct msae_train_workspace *ws = trainer->workspace;
    const msae_model *model = &trainer->model;
    const size_t n = model->n_latents, d = model->n_inputs;
    double length = 0, threshold = 0, count;
    size_t idle = 0;
    for (size_t j = 0; j < n; j++) {
        idle += !ws->fired_since[j];
        if (!ws->fired_since[j]) continue;
        length += sqrt(msae__squares(model->kernels, model->encoder + j * d, d));
        if (model->log_threshold) threshold += (double)model->log_threshold[j];
    }
    count = (double)(n - idle);
    others->length = idle < n ? length / count : 1;
    others->log_threshold = idle < n ? (float)(threshold / count) : 0;
    return idle;
}

/* The worst rows found, then one for each idle latent, in the order of the latents. */
static msae_status msae__revive(msae_trainer *trainer, const msae__revival_rows *rows, size_t most,
                                const msae__typical *others, size_t *revived, msae_error *error) {
    struct msae_train_workspace *ws = trainer->workspace;
    const msae_model *model = &trainer->model;
    msae__revival revival;
    msae__memory memory;
    msae_status status;
    memset(&revival, 0, sizeof revival);
    revival.model = model;
    revival.misses.room = most;
    status = msae__take_memory(&memory, &model->allocator, msae__revival_layout, &revival, error);
    if (status != MSAE_OK) return status;
    status = msae__find_misses(trainer, rows, &revival, error);
    for (size_t j = 0; status == MSAE_OK && *revived < revival.misses.count; j++) {
        const size_t place = revival.misses.worst[*revived].row;
        if (ws->fired_since[j]) continue;
        msae__revive_latent(trainer, j, revival.misses.left + place * model->n_inputs, others);
        ++*revived;
    }
    msae__free_memory(&memory, &model->allocator);
    return status;
}

/* `each` rows of the source for each latent to revive, at random; or those of `given`. */
static msae_status msae__revive_from(msae_trainer *trainer, const msae__revival_rows *given,
                                     size_t each, size_t *revived, msae_error *error) {
    struct msae_train_workspace *ws = trainer->workspace;
    msae__revival_rows rows = *given;
    msae_status status = MSAE_OK;
    msae__typical others;
    size_t idle;
    *revived = 0;
    if (ws->rows_since == 0) return MSAE_OK;
    /* more at once would disturb those that do their part */
    idle =
        msae__min(msae__count_idle(trainer, &others), msae__max(trainer->model.n_latents / 32, 1));
    if (each > 0) rows.count = each * idle;
    if (idle > 0) status = msae__revive(trainer, &rows, idle, &others, revived, error);
    if (status != MSAE_OK) return status;
    trainer->revived += *revived;
    ws->rows_since = 0;
    memset(ws->fired_since, 0, trainer->model.n_latents * sizeof *ws->fired_since);
    return MSAE_OK;
}

/* The rows are checked before any is looked at. */
MSAE_API msae_status msae_trainer_revive(msae_trainer *trainer, const msae_data *data,
                                         const size_t *index, size_t rows, size_t *revived,
                                         msae_error *error) {
    const msae_source source = msae_source_data(data);
    msae__revival_rows given;
    msae_status status;
    size_t unheard;
    MSAE_ASSERT(trainer->memory && data);
    if (!trainer->workspace->fired_since) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the descriptor has no revivals");
    }
    status = msae__check_width("data", data->cols, trainer->model.n_inputs, error);
    if (status == MSAE_OK) {
        status = index ? msae__check_index(data, index, rows, error)
                       : msae__check_range(data->rows, 0, rows, error);
    }
    if (status != MSAE_OK) return status;
    memset(&given, 0, sizeof given);
    given.source = &source;
    given.index = index;
    given.count = rows;
    return msae__revive_from(trainer, &given, 0, revived ? revived : &unheard, error);
}

/* ---------------------------------------------------------------------------------------------
   >>streams Streams: shuffled batches of a source's rows. Blocks of rows in a new order every
   epoch, windows of blocks in memory, the rows of a window in a new order (see msae_stream_desc).
   While one window's rows are given out, the next one is read into the place of the one before. All
   orders follow from the generator's state at the start of an epoch, so a position is enough to go
   on from any row. Every process draws the orders of all rows and reads only its own blocks
   ------------------------------------------------------------------------------------------ */

/* A new order of `count` items: Fisher and Yates from the items' own order, so that the generator's
   state before it is all that has to be kept of an epoch. */
static void msae__shuffle(size_t *order, size_t count, uint64_t rng[4]) {
    for (size_t i = 0; i < count; i++) order[i] = i;
    for (size_t i = count; i-- > 1;) {
        size_t other = (size_t)msae__random_below(rng, i + 1), item = order[i];
        order[i] = order[other];
        order[other] = item;
    }
}

#define MSAE__BLOCK_BYTES ((size_t)256 << 10)
#define MSAE__WINDOW_BYTES ((size_t)64 << 20)
#define MSAE__LEAST_BLOCKS 256 /* of a small source */
#define MSAE__NOT_OURS SIZE_MAX

/* Blocks that lie in memory together, and the order in which their rows are given out. Rows of a
   window are counted over all parts; slots are where the rows of this part lie. */
typedef struct msae__window {
    struct msae_stream_state *state;
    size_t first, blocks; /* of the epoch's order of blocks */
    size_t rows;
    size_t shorter; /* the window's block that is the source's last one; `blocks`: none is */
    size_t *order;  /* [rows] */
    size_t *slots;  /* [blocks] of a block's first row; MSAE__NOT_OURS */
    size_t base;    /* of the window's slots */
    size_t read;    /* blocks that are there; written by whoever reads */
    msae_status status;
    msae_error error;
} msae__window;

struct msae_stream_state {
    msae_source source;
    msae_background background;
    size_t part, parts, shares;
    size_t block_rows, last_rows; /* of a block, of the source's last one */
    size_t n_blocks, window_blocks, n_windows;
    uint64_t rng[4];      /* behind this epoch's draws */
    uint64_t window_seed; /* of this epoch's windows */
    size_t *blocks;       /* [n_blocks] in the epoch's order */
    msae__window windows[2];
    size_t current, number; /* the window in use, and its number in the epoch */
    size_t offset;          /* rows of it that were given out */
    int in_epoch;
    int behind;     /* the other window's rows have been given out */
    int is_reading; /* in the background */
    float *values;  /* [slots, cols]; NULL where the source's rows lie in memory */
    msae_data view; /* of them */
    size_t *index;  /* [batch] */
    /* with shares: the same before it is sorted by share, each row's share, where each ends */
    size_t *unsorted, *share_of, *share_ends;
};

/* Rows of the epoch's block number `turn`. */
static size_t msae__block_rows(const struct msae_stream_state *state, size_t turn) {
    return state->blocks[turn] + 1 == state->n_blocks ? state->last_rows : state->block_rows;
}

/* The source's row at which it begins. */
static uint64_t msae__block_start(const struct msae_stream_state *state, size_t turn) {
    return (uint64_t)state->blocks[turn] * state->block_rows;
}

/* Blocks of an epoch's window: its last one may have fewer. */
static size_t msae__window_size(const struct msae_stream_state *state, size_t number) {
    return msae__min(state->window_blocks, state->n_blocks - number * state->window_blocks);
}

/* Sets a window up; its rows are still to be read. */
static void msae__open_window(struct msae_stream_state *state, msae__window *window,
                              size_t number) {
    uint64_t rng[4];
    size_t slot = window->base;
    window->first = number * state->window_blocks;
    window->blocks = window->shorter = msae__window_size(state, number);
    window->rows = 0;
    window->status = MSAE_OK;
    /* blocks go to the parts in turn; with shares to these, and a share to one part */
    for (size_t b = 0; b < window->blocks; b++) {
        const size_t rows = msae__block_rows(state, window->first + b);
        const size_t share = state->shares > 0 ? b % state->shares : b;
        const int ours = share % state->parts == state->part;
        if (rows != state->block_rows) window->shorter = b;
        window->rows += rows;
        window->slots[b] = ours ? slot : MSAE__NOT_OURS;
        if (ours) slot += rows;
    }
    if (state->n_windows == 1) {
        msae__shuffle(window->order, window->rows, state->rng);
    } else { /* a stream of its own, so that a run can go on in the middle of an epoch */
        window->read = 0;
        msae__seed(rng, state->window_seed + number);
        msae__shuffle(window->order, window->rows, rng);
    }
}

/* Reads blocks until `until` of them are there or one fails. */
static void msae__read_window(msae__window *window, size_t until) {
    const struct msae_stream_state *state = window->state;
    while (window->read < until && window->status == MSAE_OK) {
        const size_t b = window->read, turn = window->first + b;
        if (window->slots[b] != MSAE__NOT_OURS && state->values) {
            window->status = msae__read_source(
                &state->source, msae__block_start(state, turn), msae__block_rows(state, turn),
                state->values + window->slots[b] * state->source.cols, &window->error);
        }
        if (window->status == MSAE_OK) window->read++;
    }
}

static void msae__read_window_task(void *context, size_t task, size_t worker) {
    msae__window *window = (msae__window *)context;
    (void)task;
    (void)worker;
    msae__read_window(window, window->blocks);
}

/* Before anything that the background thread may be writing is touched. */
static void msae__wait_for_reading(struct msae_stream_state *state) {
    if (state->is_reading) state->background.wait(state->background.user);
    state->is_reading = 0;
}

/* Brings all of a window's rows in. */
static msae_status msae__finish_window(struct msae_stream_state *state, msae__window *window,
                                       msae_error *error) {
    msae__wait_for_reading(state);
    msae__read_window(window, window->blocks);
    if (window->status != MSAE_OK && error) *error = window->error;
    return window->status;
}

/* All that an epoch takes from the generator: the order of its blocks and the seed of its windows,
   or the order of the only window's rows. */
static void msae__draw_epoch(struct msae_stream_state *state) {
    if (state->n_windows == 1) {
        for (size_t b = 0; b < state->n_blocks; b++) state->blocks[b] = b;
        msae__open_window(state, &state->windows[0], 0);
    } else {
        msae__shuffle(state->blocks, state->n_blocks, state->rng);
        state->window_seed = msae__random(state->rng);
    }
    state->in_epoch = 1;
}

/* A new epoch, or the rest of one of which `row` rows have been given out. */
static msae_status msae__begin_epoch(struct msae_stream_state *state, uint64_t row,
                                     msae_error *error) {
    msae__draw_epoch(state);
    state->current = state->number = 0;
    for (;; state->number++) {
        uint64_t rows = 0;
        for (size_t b = 0; b < msae__window_size(state, state->number); b++) {
            rows += msae__block_rows(state, state->number * state->window_blocks + b);
        }
        if (row <= rows) break;
        row -= rows;
    }
    /* a window's order does not depend on those before it, which need not be opened */
    if (state->n_windows > 1) msae__open_window(state, &state->windows[0], state->number);
    state->offset = (size_t)row;
    state->behind = 1;
    return msae__finish_window(state, &state->windows[0], error);
}

/* Starts on the window after the current one, in the place of the one before. */
static void msae__read_ahead(struct msae_stream_state *state) {
    const msae_background *background = &state->background;
    msae__window *next = &state->windows[1 - state->current];
    state->behind = 0;
    if (state->number + 1 == state->n_windows) return;
    msae__open_window(state, next, state->number + 1);
    if (state->values && background->start) {
        state->is_reading = background->start(background->user, msae__read_window_task, next);
    }
}

/* The block that holds row number *row of a window, which becomes the number within that block. */
static size_t msae__block_at(const msae__window *window, size_t *row) {
    const struct msae_stream_state *state = window->state;
    const size_t start = window->shorter * state->block_rows;
    size_t block;
    if (window->shorter < window->blocks && *row >= start) {
        if (*row < start + state->last_rows) {
            *row -= start;
            return window->shorter;
        }
        *row += state->block_rows - state->last_rows;
    }
    block = *row / state->block_rows;
    *row %= state->block_rows;
    return block;
}

/* Adds this part's rows among the next `count` of a window to the index. */
static size_t msae__give_out(struct msae_stream_state *state, const msae__window *window,
                             size_t count, size_t rows) {
    for (size_t i = 0; i < count; i++) {
        size_t row = window->order[state->offset + i];
        const size_t block = msae__block_at(window, &row);
        if (window->slots[block] == MSAE__NOT_OURS) continue;
        if (state->shares > 0) state->share_of[rows] = block % state->shares;
        state->index[rows++] = state->values
                                   ? window->slots[block] + row
                                   : (size_t)msae__block_start(state, window->first + block) + row;
    }
    return rows;
}

/* Sorts a batch by share, each in the order of the batch. */
static void msae__sort_by_share(struct msae_stream_state *state, size_t rows) {
    size_t start = 0;
    memcpy(state->unsorted, state->index, rows * sizeof *state->index);
    memset(state->share_ends, 0, state->shares * sizeof *state->share_ends);
    for (size_t r = 0; r < rows; r++) state->share_ends[state->share_of[r]]++;
    for (size_t s = 0; s < state->shares; s++) { /* counts to starts, which become ends */
        const size_t count = state->share_ends[s];
        state->share_ends[s] = start;
        start += count;
    }
    for (size_t r = 0; r < rows; r++) {
        state->index[state->share_ends[state->share_of[r]]++] = state->unsorted[r];
    }
}

/* Rows that were read are found by the block whose slots hold them, in either window. */
MSAE_API uint64_t msae_stream_row(const msae_stream *stream, size_t index) {
    const struct msae_stream_state *state = stream->state;
    if (!state->values) return index;
    for (size_t w = 0; w < 2; w++) {
        const msae__window *window = &state->windows[w];
        for (size_t b = 0; window->order && b < window->blocks; b++) {
            const size_t rows = msae__block_rows(state, window->first + b);
            if (window->slots[b] <= index && index - window->slots[b] < rows) {
                return msae__block_start(state, window->first + b) + (index - window->slots[b]);
            }
        }
    }
    return 0;
}

/* A batch that failed leaves the stream as if it had just been made at its position. */
static msae_status msae__back_to_position(msae_stream *stream, msae_status status) {
    struct msae_stream_state *state = stream->state;
    msae__wait_for_reading(state);
    memcpy(state->rng, stream->at.rng, sizeof state->rng);
    state->in_epoch = 0;
    return status;
}

/* Behind an epoch's last row: the next one goes on with the generator as it is now. */
static void msae__end_epoch(msae_stream *stream) {
    struct msae_stream_state *state = stream->state;
    if (!state->in_epoch) msae__draw_epoch(state); /* a run that goes on just here */
    stream->at.row = 0;
    stream->at.epoch++;
    memcpy(stream->at.rng, state->rng, sizeof stream->at.rng);
    state->in_epoch = 0;
}

/* The next `wanted` rows, from as many windows as they lie in. */
static msae_status msae__fill_batch(struct msae_stream_state *state, msae_batch *batch,
                                    size_t wanted, msae_error *error) {
    while (wanted > 0) {
        const msae__window *window = &state->windows[state->current];
        const size_t count = msae__min(wanted, window->rows - state->offset);
        if (count == 0) {
            const msae_status status =
                msae__finish_window(state, &state->windows[1 - state->current], error);
            if (status != MSAE_OK) return status;
            state->current = 1 - state->current;
            state->number++;
            state->offset = 0;
            state->behind = 1;
            continue;
        }
        batch->rows = msae__give_out(state, window, count, batch->rows);
        state->offset += count;
        wanted -= count;
    }
    return MSAE_OK;
}

/* Without another thread: reads as much of the next window as is used up of this one, so that no
   single batch waits for a whole window. */
static void msae__keep_pace(struct msae_stream_state *state) {
    msae__window *next = &state->windows[1 - state->current];
    const size_t rows = state->windows[state->current].rows;
    const double used = (double)state->offset / (double)msae__max(rows, 1);
    if (state->is_reading || state->behind || state->number + 1 == state->n_windows) return;
    msae__read_window(next, (size_t)(used * (double)next->blocks));
}

/* A batch may end a window and begin the next; an empty one ends the epoch. */
MSAE_API msae_status msae_stream_next(msae_stream *stream, msae_batch *batch, msae_error *error) {
    struct msae_stream_state *state = stream->state;
    const uint64_t left = stream->at.rows - stream->at.row;
    const size_t wanted = (size_t)(stream->at.batch < left ? stream->at.batch : left);
    msae_status status = MSAE_OK;
    memset(batch, 0, sizeof *batch);
    batch->data = state->values ? &state->view : state->source.data;
    batch->index = state->index;
    if (wanted == 0) {
        msae__end_epoch(stream);
        return MSAE_OK;
    }
    if (!state->in_epoch) status = msae__begin_epoch(state, stream->at.row, error);
    if (status == MSAE_OK) {
        /* not sooner: the other window's place held rows of the batch before */
        if (state->behind) msae__read_ahead(state);
        status = msae__fill_batch(state, batch, wanted, error);
    }
    if (status != MSAE_OK) {
        memset(batch, 0, sizeof *batch);
        return msae__back_to_position(stream, status);
    }
    batch->all_rows = wanted;
    stream->at.row += wanted;
    if (state->shares > 0) {
        msae__sort_by_share(state, batch->rows);
        batch->share_ends = state->share_ends;
    }
    msae__keep_pace(state);
    return MSAE_OK;
}

/* Sizes of blocks and windows: the position's where it has them, else the descriptor's. */
static msae_status msae__stream_shape(struct msae_stream_state *state, msae_position *at,
                                      const msae_stream_desc *desc, int goes_on,
                                      msae_error *error) {
    const uint64_t rows = at->rows;
    const size_t row_bytes = state->source.cols < SIZE_MAX / 4 ? 4 * state->source.cols : SIZE_MAX;
    uint64_t block = desc->block_rows, window = desc->window_rows, n_blocks;
    /* a block is what a disk reads at once, unless a small source would have few to shuffle */
    if (block == 0) {
        const uint64_t share = rows / MSAE__LEAST_BLOCKS;
        block = MSAE__BLOCK_BYTES / row_bytes;
        block = block < share ? block : share;
    }
    if (window == 0) window = state->source.data ? rows : MSAE__WINDOW_BYTES / row_bytes;
    if (goes_on) window = at->window_rows > 0 ? at->window_rows : rows;
    if (at->window_rows > 0) block = at->block_rows;
    /* a window holds a batch and a block more, so that a batch lies in two windows at most */
    block = block > rows ? rows : block > 0 ? block : 1;
    if (window < rows && window < at->batch + block) window = at->batch + block;
    n_blocks = (rows - 1) / block + 1;
    if (window < rows) window = (window - 1) / block + 1; /* in blocks */
    if (window > n_blocks) window = n_blocks;
    /* the position's sizes must be those that come out for them again */
    if (at->window_rows > 0 && (window == n_blocks || window * block != at->window_rows)) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the position is not one of a stream");
    }
    if (n_blocks > SIZE_MAX || block > SIZE_MAX || window > SIZE_MAX / block) {
        return msae__fail_memory(error);
    }
    state->block_rows = (size_t)block;
    state->last_rows = (size_t)(rows - (n_blocks - 1) * block);
    state->n_blocks = (size_t)n_blocks;
    state->window_blocks = (size_t)window;
    state->n_windows = (size_t)((n_blocks - 1) / window + 1);
    at->block_rows = state->n_windows > 1 ? block : 0;
    at->window_rows = state->n_windows > 1 ? window * block : 0;
    return MSAE_OK;
}

/* A stream's state on its way to its memory. */
typedef struct msae__stream_room {
    struct msae_stream_state state, *placed;
    size_t batch;
} msae__stream_room;

/* Two windows in turn, unless one holds everything. Rows of data in memory stay where they are. */
static void msae__stream_layout(void *context, msae__arena *arena) {
    msae__stream_room *room = (msae__stream_room *)context;
    struct msae_stream_state *state = &room->state;
    const size_t windows = state->n_windows > 1 ? 2 : 1;
    /* blocks of a window that can be this part's */
    const size_t ours = state->shares > 0 ? msae__ceil_div(state->window_blocks, state->shares) *
                                                msae__ceil_div(state->shares, state->parts)
                                          : msae__ceil_div(state->window_blocks, state->parts);
    const size_t slots = msae__min(ours, state->window_blocks) * state->block_rows;
    room->placed = MSAE__TAKE(arena, struct msae_stream_state, 1);
    state->blocks = MSAE__TAKE(arena, size_t, state->n_blocks);
    for (size_t w = 0; w < windows; w++) {
        state->windows[w].order =
            MSAE__TAKE(arena, size_t, state->window_blocks * state->block_rows);
        state->windows[w].slots = MSAE__TAKE(arena, size_t, state->window_blocks);
        state->windows[w].base = w * slots;
    }
    state->index = MSAE__TAKE(arena, size_t, room->batch);
    if (state->shares > 0) {
        state->unsorted = MSAE__TAKE(arena, size_t, room->batch);
        state->share_of = MSAE__TAKE(arena, size_t, room->batch);
        state->share_ends = MSAE__TAKE(arena, size_t, state->shares);
    }
    if (!state->source.data) {
        size_t count = 0;
        if (!msae__mul(windows * slots, state->source.cols, &count)) arena->ok = 0;
        state->values = MSAE__TAKE(arena, float, count);
        state->view = msae_data_view(state->values, windows * slots, state->source.cols);
    }
}

/* A position may come from a file: nothing of it is believed. */
static msae_status msae__check_stream(const msae_position *at, const msae_source *source,
                                      const msae_stream_desc *desc, msae_error *error) {
    if (source->rows == 0 || source->cols == 0 || at->batch == 0) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "no rows to sample from");
    }
    if (at->rows != source->rows) {
        return msae__fail_at(error, MSAE_ERROR_SHAPE, MSAE_NO_POSITION, "the run was over",
                             at->rows, " rows of data");
    }
    if (desc->shares > MSAE_MAX_RANKS || (desc->shares > 0 && desc->parts > desc->shares)) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT,
                          "there are fewer shares than parts, or too many");
    }
    if (desc->parts > 1 ? desc->part >= desc->parts : desc->part > 0) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the part is beyond the number of parts");
    }
    if (at->row > source->rows || at->batch > SIZE_MAX / 2 ||
        (at->block_rows > 0) != (at->window_rows > 0) ||
        (at->rng[0] | at->rng[1] | at->rng[2] | at->rng[3]) == 0) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the position is not one of a stream");
    }
    return MSAE_OK;
}

/* At a position, or at the start of a run. No row is read before the first batch. */
MSAE_API msae_status msae_stream_init(msae_stream *stream, const msae_source *source,
                                      const msae_stream_desc *desc, const msae_position *at,
                                      msae_error *error) {
    msae_position start; /* `at` may be the stream's own */
    msae__stream_room room;
    msae__memory memory;
    msae_status status;
    memset(&start, 0, sizeof start);
    memset(&room, 0, sizeof room);
    if (at) {
        start = *at;
    } else {
        start.rows = source->rows;
        start.batch = desc->batch;
        msae__seed(start.rng, desc->seed);
    }
    memset(stream, 0, sizeof *stream);
    status = msae__check_stream(&start, source, desc, error);
    if (status != MSAE_OK) return status;
    room.state.source = *source;
    room.state.background = desc->background;
    room.state.part = desc->part;
    room.state.parts = desc->parts > 1 ? desc->parts : 1;
    room.state.shares = desc->shares;
    memcpy(room.state.rng, start.rng, sizeof start.rng);
    room.batch = (size_t)(start.batch < start.rows ? start.batch : start.rows);
    status = msae__stream_shape(&room.state, &start, desc, at != NULL, error);
    if (status == MSAE_OK) {
        status = msae__take_memory(&memory, &desc->allocator, msae__stream_layout, &room, error);
    }
    if (status != MSAE_OK) return status;
    room.state.windows[0].state = room.state.windows[1].state = room.placed;
    *room.placed = room.state;
    stream->at = start;
    stream->state = room.placed;
    stream->allocator = desc->allocator;
    stream->memory = memory.memory;
    stream->memory_bytes = memory.bytes;
    return MSAE_OK;
}

/* A thread may still be reading into the memory. */
MSAE_API void msae_stream_free(msae_stream *stream) {
    if (stream->state) msae__wait_for_reading(stream->state);
    msae__free(&stream->allocator, stream->memory, stream->memory_bytes);
    memset(stream, 0, sizeof *stream);
}

/* ---------------------------------------------------------------------------------------------
   >>run The run: statistics, then every epoch's batches; before each step the schedule and the
   revival that is due, behind it the position and the caller's callback. What one process meets,
   all do
   ------------------------------------------------------------------------------------------ */

/* Means over the epoch's rows so far: mean += (new - mean) share. */
static void msae__add_to_epoch(msae_epoch_stats *epoch, const msae_step_stats *stats) {
    double share;
    if (stats->rows == 0) return;
    epoch->rows += stats->rows;
    share = (double)stats->rows / (double)epoch->rows;
    epoch->loss += (stats->loss - epoch->loss) * share;
    epoch->recon_loss += (stats->recon_loss - epoch->recon_loss) * share;
    epoch->sparse_loss += (stats->sparse_loss - epoch->sparse_loss) * share;
    epoch->l0 += (stats->l0 - epoch->l0) * share;
}

/* A run, or what is left of it. */
typedef struct msae__fitting {
    msae_trainer *trainer;
    const msae_source *source;
    msae_stream stream;
    msae_batch batch;
    msae_step_stats stats;
    msae_progress now;
    msae_progress_fn progress;
    void *user;
} msae__fitting;

/* The sums of shares, where a run has these. */
static msae_status msae__fit_shares(msae_trainer *trainer, size_t shares, msae_error *error) {
    struct msae_train_workspace *ws = trainer->workspace;
    const size_t count = msae__share_count(trainer);
    if (shares == 0) return MSAE_OK;
    ws->shares = shares;
    if (count <= SIZE_MAX / sizeof *ws->share_sums) {
        ws->share_sums = (double *)msae__alloc(&trainer->model.allocator, count * sizeof(double));
    }
    return ws->share_sums ? MSAE_OK : msae__fail_memory(error);
}

/* Also after a begin that failed half way. */
static void msae__fit_end(msae__fitting *fit) {
    msae_trainer *trainer = fit->trainer;
    struct msae_train_workspace *ws = trainer->workspace;
    msae__free(&trainer->model.allocator, ws->share_sums,
               msae__share_count(trainer) * sizeof(double));
    ws->share_sums = NULL;
    ws->share_ends = NULL;
    ws->shares = 0;
    msae_stream_free(&fit->stream);
}

/* The stream of a run from where it begins, or where an earlier call or a checkpoint left it. */
static msae_status msae__fit_begin(msae__fitting *fit, const msae_stream_desc *given,
                                   msae_error *error) {
    msae_trainer *trainer = fit->trainer;
    const msae_collective *collective = &trainer->desc.collective;
    const msae_position *at = &trainer->position;
    msae_stream_desc desc;
    msae_status status;
    memset(&desc, 0, sizeof desc);
    if (given) desc = *given;
    desc.batch = trainer->desc.batch;
    desc.seed = ~trainer->desc.model.seed; /* not the stream that drew the weights */
    if (!desc.allocator.alloc) desc.allocator = trainer->desc.model.host.allocator;
    if (msae__is_collective(collective)) {
        desc.part = collective->rank;
        desc.parts = collective->ranks;
    } else if (desc.parts > 1) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "a part of the rows without a collective");
    }
    status = msae_stream_init(&fit->stream, fit->source, &desc, at->rows > 0 ? at : NULL, error);
    if (status == MSAE_OK) status = msae__fit_shares(trainer, desc.shares, error);
    return status;
}

/* One step on the batch. A process whose step fails says so to the others, who would wait for it:
   msae_trainer_gradients does where it was reached. */
static msae_status msae__fit_step(msae__fitting *fit, msae_error *error) {
    msae_trainer *trainer = fit->trainer;
    const msae_batch *batch = &fit->batch;
    msae_status status;
    trainer->workspace->share_ends = batch->share_ends;
    status =
        msae_trainer_gradients(trainer, batch->data, batch->index, batch->rows, &fit->stats, error);
    if (status == MSAE_ERROR_NOT_FINITE && error && error->position != MSAE_NO_POSITION) {
        return msae__fail_row(error, msae_stream_row(&fit->stream, (size_t)error->position));
    }
    return status == MSAE_OK ? msae_trainer_update(trainer, &fit->stats, error) : status;
}

/* How many of a run's revivals lie before step `done` of `all`: the last one after 60 % of them, so
   that what was revived has time to learn. */
static uint64_t msae__revivals_before(uint64_t revivals, uint64_t done, uint64_t all) {
    const double part = (double)done / (0.6 * (double)all);
    return part >= 1 ? revivals : (uint64_t)((double)revivals * part);
}

#define MSAE__ROWS_FOR_EACH 16

/* Before a step: the revival that is due, if one is. All processes look at the same rows, and so do
   the same. One that fails leaves all to do; one that was done before a step that failed is not
   done again, as no row was seen since. */
static msae_status msae__fit_revive(msae__fitting *fit, msae_error *error) {
    msae_trainer *trainer = fit->trainer;
    const msae_progress *now = &fit->now;
    const uint64_t revivals = (uint64_t)(trainer->desc.revivals > 0 ? trainer->desc.revivals : 0);
    const uint64_t all = (uint64_t)now->epochs * now->steps;
    const uint64_t done = (uint64_t)now->epoch * now->steps + now->step;
    msae__revival_rows rows;
    uint64_t rng[4];
    size_t revived;
    msae_status status = MSAE_OK;
    if (done == 0 || msae__revivals_before(revivals, done, all) ==
                         msae__revivals_before(revivals, done - 1, all)) {
        return MSAE_OK;
    }
    msae__wait_for_reading(fit->stream.state); /* a source is read by one thread at a time */
    memset(&rows, 0, sizeof rows);
    msae__seed(rng, trainer->desc.model.seed + 0x72657669u + done);
    rows.source = fit->source;
    rows.rng = rng;
    status = msae__revive_from(trainer, &rows, MSAE__ROWS_FOR_EACH, &revived, error);
    return msae__agree_on(&trainer->desc.collective, status, error);
}

/* Whether the run is to stop here: what one process wants, all do. */
static msae_status msae__fit_progress(msae__fitting *fit, msae_error *error) {
    double stops[2];
    msae_status status;
    fit->now.rows = fit->trainer->rows;
    stops[0] = fit->progress && fit->progress(&fit->now, fit->user) ? 1 : 0;
    status = msae__agree(&fit->trainer->desc.collective, MSAE_OK, stops, 1, error);
    if (status == MSAE_OK && stops[0] > 0) {
        status = msae__fail(error, MSAE_ERROR_STOPPED, "stopped by the caller");
    }
    return status;
}

/* What goes with the stream's batch, which begins at row `first` of its epoch. */
static msae_status msae__fit_batch(msae__fitting *fit, uint64_t first, msae_error *error) {
    msae_trainer *trainer = fit->trainer;
    msae_progress *now = &fit->now;
    msae_status status;
    now->epoch = (size_t)fit->stream.at.epoch;
    now->step = (size_t)(first / fit->stream.at.batch);
    if (first == 0) memset(&trainer->epoch, 0, sizeof trainer->epoch);
    msae_trainer_schedule(trainer, now->epoch, now->step, now->steps);
    status = msae__fit_revive(fit, error);
    if (status == MSAE_OK) status = msae__fit_step(fit, error);
    if (status != MSAE_OK) return status;
    trainer->position = fit->stream.at;
    msae__add_to_epoch(&trainer->epoch, &fit->stats);
    return msae__fit_progress(fit, error);
}

/* Every batch is a step; an empty one ends an epoch. What fails leaves the position in front of the
   batch, from where a later call goes on. */
static msae_status msae__fit_epochs(msae__fitting *fit, msae_error *error) {
    msae_trainer *trainer = fit->trainer;
    msae_progress *now = &fit->now;
    msae_status status = MSAE_OK;
    trainer->model.history.epochs = trainer->desc.epochs; /* may have been raised */
    now->epochs = trainer->desc.epochs;
    now->steps = (size_t)((fit->source->rows - 1) / fit->stream.at.batch + 1);
    now->stats = &fit->stats;
    now->epoch_stats = &trainer->epoch;
    while (fit->stream.at.epoch < trainer->desc.epochs && status == MSAE_OK) {
        const uint64_t first = fit->stream.at.row;
        status = msae_stream_next(&fit->stream, &fit->batch, error);
        status = msae__agree_on(&trainer->desc.collective, status, error);
        if (status != MSAE_OK) break;
        if (fit->batch.all_rows > 0) {
            status = msae__fit_batch(fit, first, error);
        } else {
            trainer->position = fit->stream.at;
        }
    }
    return status;
}

/* Statistics only where there are none, so that a run that goes on keeps its own. */
MSAE_API msae_status msae_trainer_fit(msae_trainer *trainer, const msae_source *source,
                                      const msae_stream_desc *desc, msae_progress_fn progress,
                                      void *user, msae_error *error) {
    const msae_collective *collective = &trainer->desc.collective;
    msae__fitting fit;
    msae_status status = msae__check_collective(collective, error);
    if (status != MSAE_OK) return status;
    if (!trainer->has_statistics) status = msae_trainer_statistics(trainer, source, error);
    if (status != MSAE_OK) return status;
    memset(&fit, 0, sizeof fit);
    fit.trainer = trainer;
    fit.source = source;
    fit.progress = progress;
    fit.user = user;
    status = msae__agree_on(collective, msae__fit_begin(&fit, desc, error), error);
    if (status == MSAE_OK) status = msae__fit_epochs(&fit, error);
    msae__fit_end(&fit);
    return status;
}

/* ---- >>checkpoints checkpoints: a model's file, with the state of its training beside it ----
   Tensors moment1.*, moment2.*, run.loss_mean, run.fired and run.epoch, and notes msae.run_*: all
   that a step reads, so that a run that goes on ends with the same bytes. Reading checks every note
   and every tensor's shape before it takes memory for a trainer
*/

static const char *const msae__moment_names[2][MSAE__ARRAYS] = {
    {"moment1.encoder", "moment1.decoder", "moment1.pre_bias", "moment1.latent_bias",
     "moment1.log_threshold"},
    {"moment2.encoder", "moment2.decoder", "moment2.pre_bias", "moment2.latent_bias",
     "moment2.log_threshold"},
};

/* Numbers with commas between them. */
static void msae__note_numbers(msae__notes *notes, const char *key, const uint64_t *values,
                               size_t count) {
    msae__note_begin(notes, key);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) msae__put(&notes->at, ",");
        msae__put_number(&notes->at, values[i]);
    }
    msae__note_end(notes);
}

/* Tensors of what is shaped like the parameters, as a model's file has these. */
static void msae__add_moments(msae__file *file, const msae_trainer *trainer,
                              const char *const names[MSAE__ARRAYS], const msae_parameters *p) {
    const msae_model *model = &trainer->model;
    const size_t n = model->n_latents, d = model->n_inputs;
    msae__add_tensor(file, names[0], MSAE_F32, p->encoder, 2, d, n);
    if (!model->tied) msae__add_tensor(file, names[1], MSAE_F32, p->decoder, 2, n, d);
    msae__add_tensor(file, names[2], MSAE_F32, p->pre_bias, 1, d, 0);
    msae__add_tensor(file, names[3], MSAE_F32, p->latent_bias, 1, n, 0);
    if (model->recipe == MSAE_RECIPE_JUMPRELU) {
        msae__add_tensor(file, names[4], MSAE_F32, p->log_threshold, 1, n, 0);
    }
}

/* A model's tensors and notes, so that every reader of models reads checkpoints, and those of the
   run. The workspace may be missing: then only shapes are told. */
static void msae__describe_run(const msae_trainer *trainer, msae__file *file) {
    const struct msae_train_workspace *ws = trainer->workspace;
    const msae_model *model = &trainer->model;
    const msae_position *at = &trainer->position;
    msae__notes *notes = &file->notes;
    msae__describe_model(model, file);
    msae__add_moments(file, trainer, msae__moment_names[0], &trainer->moment1);
    msae__add_moments(file, trainer, msae__moment_names[1], &trainer->moment2);
    msae__add_tensor(file, "run.loss_mean", MSAE_F32, trainer->loss_mean, 1, model->n_inputs, 0);
    /* loss, recon_loss, sparse_loss and l0: what the struct begins with */
    msae__add_tensor(file, "run.epoch", MSAE_F64, &trainer->epoch, 1, 4, 0);
    msae__add_tensor(file, "run.fired", MSAE_U32, ws ? ws->fired : NULL, 1, model->n_latents, 0);
    if (trainer->desc.revivals > 0) {
        msae__add_tensor(file, "run.fired_since", MSAE_U32, ws ? ws->fired_since : NULL, 1,
                         model->n_latents, 0);
    }
    if (ws) {
        const uint64_t position[4] = {at->rows, at->batch, at->epoch, at->row};
        const uint64_t period[4] = {ws->period_steps, ws->period_rows, ws->dead,
                                    (uint64_t)ws->had_period};
        const uint64_t flags[3] = {(uint64_t)trainer->has_statistics,
                                   (uint64_t)trainer->desc.geometric_median,
                                   (uint64_t)trainer->desc.skip_bad};
        if (at->window_rows > 0) {
            const uint64_t blocks[2] = {at->block_rows, at->window_rows};
            msae__note_numbers(notes, "msae.run_blocks", blocks, 2);
        }
        msae__note_number(notes, "msae.run_epoch_rows", trainer->epoch.rows);
        msae__note_numbers(notes, "msae.run_flags", flags, 3);
        msae__note_float(notes, "msae.run_lr_factor", trainer->lr_factor);
        msae__note_numbers(notes, "msae.run_position", position, 4);
        msae__note_numbers(notes, "msae.run_rng", at->rng, 4);
        msae__note_number(notes, "msae.run_rows_skipped", trainer->rows_skipped);
        if (trainer->desc.revivals > 0) {
            const uint64_t revivals[2] = {trainer->revived, ws->rows_since};
            msae__note_numbers(notes, "msae.run_revived", revivals, 2);
        }
        if (trainer->has_statistics) {
            const msae_rare_rows *rare = &trainer->rare;
            const uint64_t counts[4] = {rare->bad, rare->first_bad, rare->beyond,
                                        rare->first_beyond};
            msae__note_numbers(notes, "msae.run_rare", counts, 4);
            msae__note_float(notes, "msae.run_median_norm", rare->median_norm);
        }
        if (trainer->desc.max_norm > 0) {
            msae__note_float(notes, "msae.run_max_norm", trainer->desc.max_norm);
            msae__note_float(notes, "msae.run_norm_limit", trainer->rare.norm_limit);
        }
        msae__note(notes, "msae.run_simd", msae_enum_name(MSAE_ENUM_SIMD, (int)model->simd));
        msae__note_numbers(notes, "msae.run_window", period, 4);
    }
}

MSAE_API msae_status msae_trainer_save(const msae_trainer *trainer, msae_writer *writer,
                                       msae_error *error) {
    msae__file file;
    msae_status status = msae__check_own_k(&trainer->model, error);
    writer->bytes = 0;
    if (status != MSAE_OK) return status;
    msae__describe_run(trainer, &file);
    msae__finish_description(&file);
    return msae__write_all(msae__write_content, &file, writer, error);
}

/* The numbers of a note, each to where it belongs. */
static void msae__read_note_numbers(const msae_safetensors *file, const char *key,
                                    uint64_t *const *out, size_t count, int *ok) {
    const msae_metadata *note = msae__find_note(file, key, ok);
    msae__parser p;
    if (!note) return;
    p = msae__parser_over(note->value, note->value_bytes, NULL);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && !msae__parse_accept(&p, ',')) *ok = 0;
        if (!msae__parse_number(&p, out[i])) *ok = 0;
    }
    if (p.at != p.end) *ok = 0;
}

/* The part of a run's state that is in no tensor. */
typedef struct msae__run_notes {
    msae_position at;
    uint64_t has_statistics, geometric_median, skip_bad; /* 0 or 1 */
    uint64_t period_steps, period_rows, dead, had_period;
    uint64_t revived, rows_since;
    uint64_t rows_skipped, epoch_rows;
    float lr_factor, max_norm;
    msae_rare_rows rare;
    msae_simd simd;
} msae__run_notes;

/* What the statistics said of rare rows. */
static void msae__read_rare(const msae_safetensors *file, msae__run_notes *run, int *ok) {
    msae_rare_rows *rare = &run->rare;
    uint64_t *const counts[] = {&rare->bad, &rare->first_bad, &rare->beyond, &rare->first_beyond};
    if (msae__find_key(file, "msae.run_rare")) { /* older files have none */
        msae__read_note_numbers(file, "msae.run_rare", counts, 4, ok);
        rare->median_norm = msae__read_one_float(file, "msae.run_median_norm", ok);
    }
    if (msae__find_key(file, "msae.run_max_norm")) {
        run->max_norm = msae__read_one_float(file, "msae.run_max_norm", ok);
        rare->norm_limit = msae__read_one_float(file, "msae.run_norm_limit", ok);
        if (!(run->max_norm >= 1)) *ok = 0;
    }
    if (!(rare->median_norm >= 0) || !(rare->norm_limit >= 0)) *ok = 0;
}

/* A run that had not begun has a position of zeros. */
static void msae__read_position(const msae_safetensors *file, msae_position *at, int *ok) {
    uint64_t *const position[] = {&at->rows, &at->batch, &at->epoch, &at->row};
    uint64_t *const blocks[] = {&at->block_rows, &at->window_rows};
    uint64_t *const rng[] = {&at->rng[0], &at->rng[1], &at->rng[2], &at->rng[3]};
    msae__read_note_numbers(file, "msae.run_position", position, 4, ok);
    if (msae__find_key(file, "msae.run_blocks")) {
        msae__read_note_numbers(file, "msae.run_blocks", blocks, 2, ok);
    }
    msae__read_note_numbers(file, "msae.run_rng", rng, 4, ok);
    if (at->rows > 0 && (at->batch == 0 || at->batch > SIZE_MAX || at->row > at->rows ||
                         (at->rng[0] | at->rng[1] | at->rng[2] | at->rng[3]) == 0)) {
        *ok = 0;
    }
}

/* All notes of a run; *ok turns 0 when one is missing, malformed or out of its range. */
static void msae__read_run(const msae_safetensors *file, msae__run_notes *run, int *ok) {
    const msae_metadata *simd = msae__find_note(file, "msae.run_simd", ok);
    uint64_t *const flags[] = {&run->has_statistics, &run->geometric_median, &run->skip_bad};
    uint64_t *const period[] = {&run->period_steps, &run->period_rows, &run->dead,
                                &run->had_period};
    uint64_t *const revived[] = {&run->revived, &run->rows_since};
    uint64_t *const rows_skipped = &run->rows_skipped, *const epoch_rows = &run->epoch_rows;
    int path = 0;
    memset(run, 0, sizeof *run);
    msae__read_position(file, &run->at, ok);
    msae__read_note_numbers(file, "msae.run_window", period, 4, ok);
    msae__read_note_numbers(file, "msae.run_flags", flags, 3, ok);
    msae__read_note_numbers(file, "msae.run_rows_skipped", &rows_skipped, 1, ok);
    msae__read_note_numbers(file, "msae.run_epoch_rows", &epoch_rows, 1, ok);
    if (msae__find_key(file, "msae.run_revived")) {
        msae__read_note_numbers(file, "msae.run_revived", revived, 2, ok);
    }
    run->lr_factor = msae__read_one_float(file, "msae.run_lr_factor", ok);
    msae__read_rare(file, run, ok);
    if (simd) path = msae__enum_value(MSAE_ENUM_SIMD, simd->value, simd->value_bytes);
    if (path > 0) run->simd = (msae_simd)path; /* a path of a later version: whatever there is */
    if (!(run->lr_factor >= 0) || run->period_steps >= MSAE__PERIOD_STEPS || run->had_period > 1 ||
        run->has_statistics > 1 || run->geometric_median > 1 || run->skip_bad > 1) {
        *ok = 0;
    }
}

/* In a descriptor 0 means the default. */
static float msae__off_if_zero(float value) {
    return value == 0 ? MSAE_OFF : value;
}

#define MSAE__RESUME(field, kind, range, ours, others, before, use, ...) \
    if (MSAE__USED_##use) desc.field = MSAE__RESUME_##kind(field, h->field);
#define MSAE__RESUME_COUNT(field, value) (size_t)(value)
#define MSAE__RESUME_FLOAT(field, value) msae__off_if_zero(value)
#define MSAE__RESUME_TIMES(field, value) ((value) > 0 ? (value) : MSAE_OFF)
#define MSAE__RESUME_CHOICE(field, value) (msae_##field)(value)

/* The descriptor that makes such a trainer again. */
static msae_train_desc msae__run_desc(const msae_model_desc *model, const msae_history *h,
                                      const msae__run_notes *run) {
    const msae_recipe recipe = model->recipe;
    const int schedule = h->schedule;
    msae_train_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.model = *model;
    if (!msae__has_levels(model->recipe)) desc.model.level_weights = NULL;
    desc.model.seed = h->seed;
    MSAE_TRAIN_LIST(MSAE__RESUME)
    desc.geometric_median = (int)run->geometric_median;
    desc.skip_bad = (int)run->skip_bad;
    desc.max_norm = run->max_norm;
    return desc;
}

/* The numbers of a run to where training keeps them. */
static void msae__take_up_run(msae_trainer *trainer, const msae_history *history,
                              const msae__run_notes *run) {
    struct msae_train_workspace *ws = trainer->workspace;
    trainer->model.history = *history;
    trainer->step = history->steps;
    trainer->rows = history->rows;
    trainer->rows_skipped = run->rows_skipped;
    trainer->rare = run->rare;
    trainer->revived = run->revived;
    trainer->lr_factor = run->lr_factor;
    trainer->has_statistics = (int)run->has_statistics;
    trainer->position = run->at;
    trainer->epoch.rows = run->epoch_rows;
    ws->rows_since = run->rows_since;
    ws->period_steps = run->period_steps;
    ws->period_rows = run->period_rows;
    ws->dead = (size_t)run->dead;
    ws->had_period = (int)run->had_period;
}

/* What an update takes the square root of. */
static int msae__moments_are_squares(const msae_trainer *trainer) {
    msae__array arrays[MSAE__ARRAYS];
    float least = 0;
    msae__arrays_of(&trainer->model, &trainer->moment2, arrays);
    for (size_t a = 0; a < MSAE__ARRAYS; a++) {
        const float *values = arrays[a].values;
        for (size_t i = 0; i < arrays[a].count; i++) least = values[i] < least ? values[i] : least;
    }
    return least >= 0;
}

/* The one array that no tensor vouches for: batchtopk's kept latents, of whatever batch the file
   claims. */
static msae_status msae__check_kept(const msae_trainer *trainer, uint64_t file_bytes,
                                    msae_error *error) {
    const double bytes = 20.0 * (double)trainer->desc.batch * (double)trainer->desc.model.k;
    if (!msae__is_batch_topk(trainer->desc.model.recipe)) return MSAE_OK;
    if (bytes <= 16.0 * (double)file_bytes + 67108864.0) return MSAE_OK;
    return msae__fail(error, MSAE_ERROR_UNSUPPORTED,
                      "the batch needs far more memory than the file");
}

static msae_status msae__check_history(const msae_history *history, msae_error *error) {
    const msae_status wrong = MSAE_ERROR_FORMAT;
    const msae_history r = *history;
    MSAE_TRAIN_LIST(MSAE__CHECK)
    return MSAE_OK;
}

/* From a file to a trainer: shape and notes, the descriptor that made it, then the tensors. */
static msae_status msae__resume(msae_trainer *trainer, msae_safetensors *file,
                                const msae_reader *reader, const msae_load_desc *load,
                                msae_error *error) {
    size_t nesting[MSAE_MAX_LEVELS] = {0};
    float weights[MSAE_MAX_LEVELS] = {0};
    msae_model_desc model_desc;
    msae_train_desc desc;
    msae_history history;
    msae__run_notes run;
    msae__file wanted;
    msae_status status;
    int ok = 1;
    status = msae__read_shape(file, &model_desc, nesting, weights, &history, error);
    if (status != MSAE_OK) return status;
    if (!msae__find_key(file, "msae.run_position")) {
        return msae__fail(error, MSAE_ERROR_FORMAT, "is a model without the state of its training");
    }
    msae__read_run(file, &run, &ok);
    if (!ok) {
        return msae__fail(error, MSAE_ERROR_FORMAT, "the state of the training is malformed");
    }
    status = msae__check_history(&history, error);
    if (status != MSAE_OK) return status;
    desc = msae__run_desc(&model_desc, &history, &run);
    if (load) desc.model.host = load->host;
    /* another path would sum in another order: the run's own, where there is one */
    if (desc.model.host.simd == MSAE_SIMD_AUTO && msae__simd_available(run.simd)) {
        desc.model.host.simd = run.simd;
    }
    /* as with a model: first its shape, and memory once the file has shown what fills it */
    status = msae__train_shape(trainer, &desc, &model_desc, error);
    if (status != MSAE_OK) return status;
    msae__describe_run(trainer, &wanted);
    status = msae__check_tensors(file, &wanted.list, error);
    if (status == MSAE_OK) status = msae__check_kept(trainer, reader->size, error);
    if (status == MSAE_OK) status = msae_trainer_init(trainer, &desc, error);
    if (status == MSAE_OK) {
        msae__describe_run(trainer, &wanted);
        status = msae__read_tensors(reader, file, &wanted.list, &trainer->model.allocator, error);
    }
    if (status == MSAE_OK) status = msae__check_scale(&trainer->model, error);
    /* (NaN and Inf were refused with the tensors) */
    if (status == MSAE_OK && !msae__moments_are_squares(trainer)) {
        status = msae__fail(error, MSAE_ERROR_FORMAT, "a second moment is negative");
    }
    if (status == MSAE_OK) msae__take_up_run(trainer, &history, &run);
    return status;
}

/* A trainer that was begun is freed where a later part of the file fails. */
MSAE_API msae_status msae_trainer_load(msae_trainer *trainer, msae_reader reader,
                                       const msae_load_desc *desc, msae_error *error) {
    msae_safetensors file;
    msae_status status;
    memset(trainer, 0, sizeof *trainer);
    status = msae__begin_reading(&reader, &file, desc ? &desc->host.allocator : NULL, error);
    if (status != MSAE_OK) return status;
    status = msae__resume(trainer, &file, &reader, desc, error);
    msae_safetensors_close(&file);
    msae__close_reader(&reader);
    if (status != MSAE_OK) msae_trainer_free(trainer);
    return status;
}
#endif /* MSAE_NO_TRAIN */

#ifndef MSAE_NO_ANALYSIS
/* ---------------------------------------------------------------------------------------------
   >>passes Concepts: passes over a set, and products of its rows

   Every question about a set is one pass: tiles of rows are read, encoded on all threads, and what
   they say is taken in by the calling thread, in the order of the rows. Where threads take in, each
   has latents or rows of its own. So results have the same bits for any number of threads.
   ------------------------------------------------------------------------------------------ */

/* A matrix [rows][cols] of the arena, whose size is checked. */
static void *msae__take_rows(msae__arena *arena, size_t rows, size_t cols, size_t element_bytes) {
    size_t count = 0;
    if (!msae__mul(rows, cols, &count)) arena->ok = 0;
    return msae__take(arena, count, element_bytes);
}

#define MSAE__TAKE_ROWS(arena, type, rows, cols) \
    ((type *)msae__take_rows(arena, rows, cols, sizeof(type)))

/* 0 for a row that is left out. */
static int msae__row_is_used(const msae_data *data, size_t row) {
    float chunk[MSAE__CHUNK];
    for (size_t c = 0; data->skip_bad && c < data->cols; c += MSAE__CHUNK) {
        const size_t count = msae__min(MSAE__CHUNK, data->cols - c);
        msae__data_values(data, row * data->cols + c, count, chunk);
        if (!msae__row_is_finite(chunk, count)) return 0;
    }
    return 1;
}

/* Reads rows first .. first + rows - 1, within the data, into x [rows, cols] without those that are
   left out. *used of them are there, which have the numbers row [rows] in the data. */
static msae_status msae__read_used(const msae_data *data, size_t first, size_t rows, float *x,
                                   size_t *row, size_t *used, msae_error *error) {
    const size_t d = data->cols;
    *used = 0;
    msae_data_read(data, first, rows, x);
    for (size_t r = 0; r < rows; r++) {
        if (!msae__row_is_finite(x + r * d, d)) {
            if (!data->skip_bad) return msae__fail_data_row(error, data, first + r);
            continue;
        }
        if (*used < r) memcpy(x + *used * d, x + r * d, d * sizeof *x);
        row[(*used)++] = first + r;
    }
    return MSAE_OK;
}

/* Rows that are not left out, counted up to `enough`. */
static size_t msae__used_rows(const msae_data *data, size_t enough) {
    size_t used = 0;
    if (!data->skip_bad) return msae__min(data->rows, enough);
    for (size_t r = 0; r < data->rows && used < enough; r++) {
        used += (size_t)msae__row_is_used(data, r);
    }
    return used;
}

/* What every pass asks of its arguments. */
static msae_status msae__check_pass(const msae_model *model, const msae_data *data, size_t k,
                                    msae_error *error) {
    const msae_status status = msae__check_width("data", data->cols, model->n_inputs, error);
    if (status != MSAE_OK) return status;
    if (data->rows == 0) return msae__fail(error, MSAE_ERROR_SHAPE, "the data has no rows");
    if (msae__used_rows(data, 1) == 0) {
        return msae__fail(error, MSAE_ERROR_SHAPE, "the data has no usable row");
    }
    if (k > model->n_latents) {
        return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "k =", k,
                             " is more than the number of latents");
    }
    return MSAE_OK;
}

/* For what works on the matrices themselves. */
static msae_status msae__check_floats(const msae_model *model, msae_error *error) {
    if (model->weights == MSAE_F32) return MSAE_OK;
    return msae__fail(error, MSAE_ERROR_UNSUPPORTED,
                      "this needs float32 weights (load the model with widen)");
}

/* A pass over a set, tile by tile: the tile's rows without those that are left out go through the
   encoder to job.sink, which counts them from 0. */
typedef struct msae__pass {
    const msae_model *model;
    const msae_data *data;
    msae__encode_job job; /* k, room and sink, and what the sink needs, from whoever passes */
    size_t first, next;   /* the tile has rows first .. next - 1 of the data .. */
    size_t rows;          /* .. of which so many are in x .. */
    size_t row[MSAE__INFERENCE_ROWS]; /* .. with these numbers */
    float *x;                         /* [MSAE__INFERENCE_ROWS][d] raw */
    void *workspace;
} msae__pass;

/* Before the first tile. The sink gets all codes of a row: the k strongest (0: as the model
   encodes). */
static void msae__pass_begin(msae__pass *pass, const msae_model *model, const msae_data *data,
                             size_t k, msae__row_sink sink) {
    memset(pass, 0, sizeof *pass);
    pass->model = model;
    pass->data = data;
    pass->job.k = k;
    pass->job.room = SIZE_MAX;
    pass->job.sink = sink;
    pass->job.names = pass->row;
}

static void msae__pass_layout(msae__pass *pass, msae__arena *arena) {
    pass->x = MSAE__TAKE_ROWS(arena, float, MSAE__INFERENCE_ROWS, pass->model->n_inputs);
    pass->workspace = msae__take(arena, msae_workspace_bytes(pass->model, SIZE_MAX), 1);
}

/* The next tile, of at most `most` rows of the data; 0 when there is none or *status says why
   not. */
static int msae__pass_next(msae__pass *pass, size_t most, msae_status *status, msae_error *error) {
    const size_t left = pass->data->rows - pass->next;
    const size_t rows = msae__min(msae__min(most, MSAE__INFERENCE_ROWS), left);
    if (*status != MSAE_OK || rows == 0) return 0;
    pass->first = pass->next;
    pass->next += rows;
    *status =
        msae__read_used(pass->data, pass->first, rows, pass->x, pass->row, &pass->rows, error);
    if (*status == MSAE_OK) {
        *status =
            msae__encode_all(pass->model, pass->workspace, pass->x, pass->rows, &pass->job, error);
    }
    return *status == MSAE_OK;
}

/* What a heap kept, in order: its last one goes behind all others, again and again. */
static void msae__sort_hits(msae_hit *heap, size_t count) {
    for (size_t at = count / 2; at-- > 0;) msae__sift_hit(heap, count, at);
    for (size_t end = count; end-- > 1;) {
        const msae_hit last = heap[0];
        heap[0] = heap[end];
        heap[end] = last;
        msae__sift_hit(heap, end, 0);
    }
}

/* Rows to unit length; rows of zeros stay. */
static void msae__normalize_rows(float *x, size_t rows, size_t d) {
    for (size_t r = 0; r < rows; r++) {
        const double squares = msae__sum_squares(x + r * d, d);
        const double inverse = squares > 0 ? 1 / sqrt(squares) : 0;
        for (size_t i = 0; i < d; i++) x[r * d + i] = (float)(x[r * d + i] * inverse);
    }
}

/* Rows of a matrix of similarities that are held at once, by names, overlap and search. */
#define MSAE__SIMILARITY_ROWS 96

/* What products of up to `held` rows with up to `cols` others take, and all of them that stays the
   same: both sides have rows of `depth` values, one after the other. */
static void msae__similarity_layout(const msae_model *model, size_t held, size_t cols, size_t depth,
                                    msae__arena *arena, msae__matmul *p) {
    memset(p, 0, sizeof *p);
    p->kernels = model->kernels;
    p->a_stride = p->b_stride = p->depth = depth;
    p->c_block = MSAE__LATENT_BLOCK;
    p->packed = MSAE__TAKE(arena, float, msae__packed_floats(model->kernels, held, depth));
    p->panels = MSAE__TAKE_ROWS(arena, float, msae__workers(&model->parallel),
                                msae__panel_floats(model->kernels, depth));
    p->c = MSAE__TAKE_ROWS(arena, float, held, cols);
}

/* p->c [rows][cols] = a b^T. */
static void msae__similarities(msae__matmul *p, const msae_parallel *parallel, const float *a,
                               size_t rows, const float *b, size_t cols) {
    p->a = a;
    p->rows = rows;
    p->b = b;
    p->cols = p->ldc = cols;
    msae__run_matmul(p, parallel);
}

/* ---------------------------------------------------------------------------------------------
   >>metrics Metrics (paper, section 4), of raw rows x and their reconstructions r, in double

   fvu_row  var(x - r) / var(x)                    cs        <x, r> / (||x|| ||r||)
   nmse     ||x - r||^2 / ||x||^2                  l0        latents of a row that are not 0
   nmae     sum |x_i - r_i| / sum |x_i|            sparsity  1 - l0 / n
   fvu_set  sum ||x - r||^2 / sum ||x - mean||^2   ndn       latents that are 0 on all rows

   fvu_set and ndn are of the whole set, the rest are means over its rows with their deviation.
   ------------------------------------------------------------------------------------------ */

/* A quiet NaN by its bits, which no compiler option for fast mathematics takes away. */
static double msae__nan(void) {
    uint64_t bits = (uint64_t)0x7ff8 << 48;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Takes in the count-th of some numbers: their mean and the sum of squared distances from it
   (Welford 1962), which loses no digits where a sum of squares would. */
static void msae__welford(double *mean, double *squares, double value, double count) {
    const double off = value - *mean;
    *mean += off / count;
    *squares += off * (value - *mean);
}

typedef struct msae__tally {
    double mean, squares;
    size_t count;
} msae__tally;

/* A metric without a value for a row leaves that out. */
static void msae__tally_add(msae__tally *tally, double value) {
    if (!msae__is_finite_double(value)) return;
    msae__welford(&tally->mean, &tally->squares, value, (double)++tally->count);
}

/* The mean, and the deviation sqrt(sum (value - mean)^2 / count): over the number of rows and not
   one less, as numpy.std has it and as it was published. */
static void msae__tally_finish(const msae__tally *tally, double *mean, double *deviation) {
    *mean = tally->count ? tally->mean : msae__nan();
    *deviation = tally->count ? sqrt(tally->squares / (double)tally->count) : msae__nan();
}

/* Two rows side by side: ||x||^2, ||y||^2, <x, y> and ||x - y||^2. */
typedef struct msae__pair {
    double xx, yy, xy, off;
} msae__pair;

/* In one loop, as its four sums do not wait for each other. */
static msae__pair msae__compare_rows(const float *x, const float *y, size_t d) {
    msae__pair pair = {0, 0, 0, 0};
    for (size_t i = 0; i < d; i++) {
        const double a = x[i], b = y[i];
        pair.xx += a * a;
        pair.yy += b * b;
        pair.xy += a * b;
        pair.off += (a - b) * (a - b);
    }
    return pair;
}

/* <x, y> / sqrt(||x||^2 ||y||^2): under one root, rows that are equal give 1 to the bit. */
static double msae__pair_cosine(const msae__pair *pair) {
    return pair->xx > 0 && pair->yy > 0 ? pair->xy / sqrt(pair->xx * pair->yy) : msae__nan();
}

/* Metrics whose means and deviations over the rows are taken. */
enum { MSAE__FVU, MSAE__NMSE, MSAE__NMAE, MSAE__CS, MSAE__L0, MSAE__L2_RATIO, MSAE__ROW_METRICS };

/* What one row says at one sparsity; NaN where it says nothing. */
typedef struct msae__row_metrics {
    double of[MSAE__ROW_METRICS], error; /* ||x - r||^2 */
    double squares, product;             /* ||r||^2, <x, r> */
} msae__row_metrics;

/* The metrics of a row. Variances take a second pass, from the mean: the difference of two sums of
   squares would lose the digits of what is small of them. */
static msae__row_metrics msae__measure_row(const float *x, const float *r, size_t d, size_t l0) {
    const msae__pair pair = msae__compare_rows(x, r, d);
    msae__row_metrics m;
    double absolute_error = 0, absolute = 0, x_mean = 0, off_mean = 0, x_var = 0, off_var = 0;
    for (size_t i = 0; i < d; i++) {
        const double a = x[i], off = a - r[i];
        absolute_error += fabs(off);
        absolute += fabs(a);
        x_mean += a;
        off_mean += off;
    }
    x_mean /= (double)d;
    off_mean /= (double)d;
    for (size_t i = 0; i < d; i++) {
        const double a = x[i] - x_mean, off = (double)x[i] - r[i] - off_mean;
        x_var += a * a;
        off_var += off * off;
    }
    m.of[MSAE__FVU] = d > 1 && x_var > 0 ? off_var / x_var : msae__nan();
    m.of[MSAE__NMSE] = pair.xx > 0 ? pair.off / pair.xx : msae__nan();
    m.of[MSAE__NMAE] = absolute > 0 ? absolute_error / absolute : msae__nan();
    m.of[MSAE__CS] = msae__pair_cosine(&pair);
    m.of[MSAE__L0] = (double)l0;
    m.of[MSAE__L2_RATIO] = pair.xx < 1e-8 ? sqrt(pair.yy) : sqrt(pair.yy / pair.xx);
    m.error = pair.off;
    m.squares = pair.yy;
    m.product = pair.xy;
    return m;
}

/* The rows' figures added up, in the order of the rows. */
typedef struct msae__sweep_line {
    msae__tally of[MSAE__ROW_METRICS];
    double error, squares, product;
} msae__sweep_line;

static void msae__sweep_add(msae__sweep_line *line, const msae__row_metrics *m) {
    for (size_t i = 0; i < MSAE__ROW_METRICS; i++) msae__tally_add(&line->of[i], m->of[i]);
    line->error += m->error;
    line->squares += m->squares;
    line->product += m->product;
}

/* A line of results from its sums; `spread` is sum ||x - mean||^2 over the set. */
static void msae__sweep_finish(const msae__sweep_line *line, size_t n, double spread,
                               msae_metrics *out) {
    double ratio_std;
    out->rows = line->of[MSAE__L0].count;
    out->fvu_set = spread > 0 ? line->error / spread : msae__nan();
    msae__tally_finish(&line->of[MSAE__FVU], &out->fvu_row, &out->fvu_row_std);
    msae__tally_finish(&line->of[MSAE__NMSE], &out->nmse, &out->nmse_std);
    msae__tally_finish(&line->of[MSAE__NMAE], &out->nmae, &out->nmae_std);
    msae__tally_finish(&line->of[MSAE__CS], &out->cs, &out->cs_std);
    msae__tally_finish(&line->of[MSAE__L0], &out->l0, &out->l0_std);
    msae__tally_finish(&line->of[MSAE__L2_RATIO], &out->l2_ratio, &ratio_std);
    out->recon_bias = line->product != 0 ? line->squares / line->product : msae__nan();
    out->sparsity = 1 - out->l0 / (double)n;
    out->cknna = msae__nan();
}

/* sum ||x - mean||^2 over rows, input by input with the mean of the rows so far, so that no second
   pass over the set is needed. */
typedef struct msae__spread {
    double *mean; /* [d] */
    double total;
    size_t rows;
} msae__spread;

static void msae__spread_add(msae__spread *spread, const float *x, size_t d) {
    const double count = (double)++spread->rows;
    for (size_t i = 0; i < d; i++) msae__welford(&spread->mean[i], &spread->total, x[i], count);
}

/* CKNNA (Huh et al. 2024): whether the neighbours of a row among the codes B are those that it has
   among the embeddings A. K = A A^T and P = B B^T are similarities, the masks MK and MP keep the
   ten nearest of each row by K and by P, and
   cknna = h(MK o MP o K, MK o MP o P) / sqrt(h(MK o K, MK o K) h(MP o P, MP o P)).
   Masked matrices have ten entries a row, so nothing of size rows x rows is held: each is a list
   of neighbours with their similarities. */
#define MSAE__NEIGHBOURS 10

/* Rows of similarities at once: enough for the product to read its other side seldom. */
#define MSAE__NEIGHBOUR_ROWS 384
/* Columns of such a block that a task offers to their own lists. */
#define MSAE__NEIGHBOUR_COLUMNS 256

typedef struct msae__neighbours {
    msae_hit *hits; /* [rows][10], most similar first; ties: the lower row */
    float *least;   /* [rows]: the last one's value, by itself: most offers see nothing else */
} msae__neighbours;

/* Codes as a list of latents for each row, and for each latent a list of rows. */
typedef struct msae__sparse_codes {
    float *z;         /* [rows][stride] dense values */
    size_t stride, n; /* n latents */
    uint32_t *ranked; /* [rows][n]: active latents, strongest first .. */
    uint32_t *active; /* [rows]: .. and their number */
    size_t *starts;   /* [n + 1] of a latent's rows in: */
    uint32_t *row;    /* [capacity], ascending */
    float *value;
    size_t capacity;
} msae__sparse_codes;

/* A block of similarities: rows first .. first + count - 1 with the rows first .. rows - 1. What
   lies before was offered by earlier blocks, for a similarity is that of both rows. */
typedef struct msae__neighbour_search {
    size_t first, count, rows;
    float *similarities; /* [count][rows - first] */
    const msae__neighbours *out;
    const msae__sparse_codes *codes;
} msae__neighbour_search;

/* Takes a row that is nearer than the last of another's ten into that list, which is kept in order:
   for so few that takes less time than a heap. Rows come in ascending order: one that is as near as
   the last is behind it. */
static void msae__take_neighbour(const msae__neighbours *out, size_t row, size_t other,
                                 float value) {
    msae_hit *hits = out->hits + row * MSAE__NEIGHBOURS;
    size_t at = MSAE__NEIGHBOURS - 1;
    for (; at > 0 && value > hits[at - 1].value; at--) hits[at] = hits[at - 1];
    hits[at].row = other;
    hits[at].value = value;
    out->least[row] = hits[MSAE__NEIGHBOURS - 1].value;
}

/* A row of the block takes its neighbours among the columns. */
static void msae__neighbour_row_task(void *context, size_t task, size_t worker) {
    const msae__neighbour_search *search = (const msae__neighbour_search *)context;
    const size_t first = search->first, columns = search->rows - first;
    const float *similar = search->similarities + task * columns;
    const float *least = search->out->least + first;
    (void)worker;
    for (size_t j = 0; j < columns; j++) {
        if (!(similar[j] > least[task]) || j == task) continue;
        msae__take_neighbour(search->out, first + task, first + j, similar[j]);
    }
}

/* Columns behind the block take theirs among its rows. */
static void msae__neighbour_column_task(void *context, size_t task, size_t worker) {
    const msae__neighbour_search *search = (const msae__neighbour_search *)context;
    const size_t first = search->first, columns = search->rows - first;
    const size_t begin = search->count + task * MSAE__NEIGHBOUR_COLUMNS;
    const size_t end = msae__min(begin + MSAE__NEIGHBOUR_COLUMNS, columns);
    const float *least = search->out->least + first;
    (void)worker;
    for (size_t i = 0; i < search->count; i++) {
        const float *similar = search->similarities + i * columns;
        for (size_t j = begin; j < end; j++) {
            if (!(similar[j] > least[j])) continue;
            msae__take_neighbour(search->out, first + j, first + i, similar[j]);
        }
    }
}

/* Similarities of a row of the block through the latents that it shares with others. */
static void msae__sparse_similarity_task(void *context, size_t task, size_t worker) {
    const msae__neighbour_search *search = (const msae__neighbour_search *)context;
    const msae__sparse_codes *codes = search->codes;
    const size_t row = search->first + task, columns = search->rows - search->first;
    const uint32_t *ranked = codes->ranked + row * codes->n;
    float *similar = search->similarities + task * columns;
    (void)worker;
    memset(similar, 0, columns * sizeof *similar);
    for (size_t e = 0; e < codes->active[row]; e++) {
        const float value = codes->z[row * codes->stride + ranked[e]];
        const size_t start = codes->starts[ranked[e]];
        for (size_t p = codes->starts[ranked[e] + 1]; p-- > start;) {
            if (codes->row[p] < search->first) break;
            similar[codes->row[p] - search->first] += value * codes->value[p];
        }
    }
}

/* The ten nearest of each row of a [rows][stride] by inner product; by `codes`, when not NULL,
   which are the same values with their lists made. */
static void msae__find_neighbours(const msae_model *model, const float *a, size_t stride,
                                  size_t rows, size_t d, const msae__sparse_codes *codes,
                                  msae__matmul *p, const msae__neighbours *out) {
    msae__neighbour_search search;
    p->a_stride = p->b_stride = stride;
    p->depth = d;
    for (size_t e = 0; e < rows * MSAE__NEIGHBOURS; e++) { /* behind all that is offered */
        out->hits[e].row = e / MSAE__NEIGHBOURS;
        out->hits[e].value = out->least[e / MSAE__NEIGHBOURS] = -HUGE_VALF;
    }
    search.similarities = p->c;
    search.rows = rows;
    search.out = out;
    search.codes = codes;
    for (size_t first = 0; first < rows; first += search.count) {
        search.first = first;
        search.count = msae__min(MSAE__NEIGHBOUR_ROWS, rows - first);
        if (codes) {
            msae__parallel_for(&model->parallel, search.count, msae__sparse_similarity_task,
                               &search);
        } else {
            msae__similarities(p, &model->parallel, a + first * stride, search.count,
                               a + first * stride, rows - first);
        }
        msae__parallel_for(&model->parallel, search.count, msae__neighbour_row_task, &search);
        msae__parallel_for(&model->parallel,
                           msae__ceil_div(rows - first - search.count, MSAE__NEIGHBOUR_COLUMNS),
                           msae__neighbour_column_task, &search);
    }
}

#define MSAE__NO_ROW SIZE_MAX

/* Where column j of row i is in the lists, or MSAE__NO_ROW. */
static size_t msae__neighbour_place(const msae__neighbours *lists, size_t i, size_t j) {
    for (size_t e = i * MSAE__NEIGHBOURS; e < (i + 1) * MSAE__NEIGHBOURS; e++) {
        if (lists->hits[e].row == j) return e;
    }
    return MSAE__NO_ROW;
}

/* Everything CKNNA of up to `rows` rows needs; `depth` is the wider of the two spaces. */
typedef struct msae__cknna_memory {
    msae__matmul similarity;
    msae__neighbours k, p; /* of the embeddings, K = A A^T, and of the codes, P = B B^T */
    float *s, *t;          /* [rows][10] over the lists of one of them */
    double *columns, *sums;
} msae__cknna_memory;

/* Lists and scratch of `rows` rows; the products are the large part. */
static void msae__cknna_layout(const msae_model *model, size_t rows, size_t depth,
                               msae__arena *arena, msae__cknna_memory *memory) {
    msae__neighbours *const lists[] = {&memory->k, &memory->p};
    msae__similarity_layout(model, MSAE__NEIGHBOUR_ROWS, rows, depth, arena, &memory->similarity);
    for (int i = 0; i < 2; i++) {
        lists[i]->hits = MSAE__TAKE_ROWS(arena, msae_hit, rows, MSAE__NEIGHBOURS);
        lists[i]->least = MSAE__TAKE(arena, float, rows);
    }
    memory->s = MSAE__TAKE_ROWS(arena, float, rows, MSAE__NEIGHBOURS);
    memory->t = MSAE__TAKE_ROWS(arena, float, rows, MSAE__NEIGHBOURS);
    memory->columns = MSAE__TAKE(arena, double, rows);
    memory->sums = MSAE__TAKE(arena, double, rows);
}

/* h(S, T) of S = MA o MB o A and T = MA o MB o B, with m rows and their diagonals zero:
   [ sum S o T^T + sum S sum T / ((m - 1) (m - 2)) - 2 sum (S T) / (m - 2) ] / (m (m - 3)).
   The entries of both stand at those of MA; sum (S T) is that of column sums by row sums. */
static double msae__hsic(const msae__cknna_memory *memory, const msae__neighbours *a,
                         const msae__neighbours *b, size_t rows) {
    const double m = (double)rows;
    float *s = memory->s, *t = memory->t;
    double trace = 0, sum_s = 0, sum_t = 0, product = 0;
    memset(memory->columns, 0, rows * sizeof *memory->columns);
    memset(memory->sums, 0, rows * sizeof *memory->sums);
    for (size_t e = 0; e < rows * MSAE__NEIGHBOURS; e++) {
        const size_t place = msae__neighbour_place(b, e / MSAE__NEIGHBOURS, a->hits[e].row);
        s[e] = place != MSAE__NO_ROW ? a->hits[e].value : 0;
        t[e] = place != MSAE__NO_ROW ? b->hits[place].value : 0;
    }
    for (size_t e = 0; e < rows * MSAE__NEIGHBOURS; e++) {
        const size_t row = e / MSAE__NEIGHBOURS, column = a->hits[e].row;
        const size_t back = msae__neighbour_place(a, column, row);
        if (back != MSAE__NO_ROW) trace += (double)s[e] * t[back];
        sum_s += s[e];
        sum_t += t[e];
        memory->columns[column] += s[e];
        memory->sums[row] += t[e];
    }
    for (size_t i = 0; i < rows; i++) product += memory->columns[i] * memory->sums[i];
    return (trace + sum_s * sum_t / ((m - 1) * (m - 2)) - 2 * product / (m - 2)) / (m * (m - 3));
}

/* h(MK o MP o K, MK o MP o P) / (sqrt(h(MK o K, MK o K) h(MP o P, MP o P)) + 1e-6). */
static double msae__cknna_value(const msae__cknna_memory *memory, size_t rows) {
    const msae__neighbours *k = &memory->k, *p = &memory->p;
    const double both = msae__hsic(memory, k, p, rows);
    const double own = msae__hsic(memory, k, k, rows) * msae__hsic(memory, p, p, rows);
    return own >= 0 ? both / (sqrt(own) + 1e-6) : msae__nan();
}

#define MSAE__CKNNA_LEAST (MSAE__NEIGHBOURS + 2)

/* Values above zero, counted by the upper bits of their floats, which are in their order: a bin is
   a 4096th of its value wide, so that thresholds are as exact, whatever the scale. */
#define MSAE__VALUE_BINS ((size_t)1 << 20)
#define MSAE__VALUE_SHIFT 11

static size_t msae__value_bin(float value) {
    return (size_t)(msae__float_bits(value) >> MSAE__VALUE_SHIFT) & (MSAE__VALUE_BINS - 1);
}

/* Nothing is ranked: where the tile's pre-activations are is all that is wanted. */
static void msae__sink_values(const msae__encode_job *job, size_t row, size_t tile_row,
                              const msae_code *codes, size_t count, size_t worker) {
    (void)row;
    (void)codes;
    (void)count;
    (void)worker;
    if (tile_row == 0) *(const float **)job->user = job->tile->pre;
}

/* Counts the values of a tile [rows][n] that are above zero. */
static void msae__count_values(const msae_model *model, const float *pre, size_t rows,
                               uint64_t *bins) {
    for (size_t i = 0; i < rows * model->n_latents; i++) {
        const float value = model->activation == MSAE_ACTIVATION_ABS ? fabsf(pre[i]) : pre[i];
        if (value > 0) bins[msae__value_bin(value)]++;
    }
}

/* Level i gets the value t_i above which k_i of a row's lie on average, #{pre > t_i} = k_i rows:
   down from the last bin until that number is reached, within its bin in proportion. */
static void msae__level_thresholds(msae_model *model, const uint64_t *bins, size_t rows) {
    size_t bin = MSAE__VALUE_BINS;
    uint64_t above = 0;
    for (size_t i = 0; i < model->n_levels; i++) {
        const double wanted = (double)model->nesting[i] * (double)rows;
        while (bin > 0 && (double)above + (double)bins[bin - 1] <= wanted) above += bins[--bin];
        model->level_thresholds[i] = 0;
        if (bin > 0) {
            const float low = msae__bits_float((uint32_t)(bin - 1) << MSAE__VALUE_SHIFT);
            const float high = msae__bits_float((uint32_t)bin << MSAE__VALUE_SHIFT);
            const double share = (wanted - (double)above) / (double)bins[bin - 1];
            model->level_thresholds[i] = high - (float)share * (high - low);
        }
    }
}

typedef struct msae__calibration {
    msae__pass pass;
    uint64_t *bins; /* [MSAE__VALUE_BINS] */
} msae__calibration;

static void msae__calibration_layout(void *context, msae__arena *arena) {
    msae__calibration *job = (msae__calibration *)context;
    msae__pass_layout(&job->pass, arena);
    job->bins = MSAE__TAKE(arena, uint64_t, MSAE__VALUE_BINS);
}

/* One pass, which ranks nothing: it counts the pre-activations where they lie. */
MSAE_API msae_status msae_calibrate(msae_model *model, const msae_data *data, msae_error *error) {
    msae__memory memory;
    msae__calibration job;
    const float *pre = NULL;
    size_t rows = 0;
    msae_status status = msae__check_pass(model, data, 0, error);
    if (status != MSAE_OK) return status;
    if (model->recipe == MSAE_RECIPE_RELU || model->recipe == MSAE_RECIPE_JUMPRELU ||
        model->recipe == MSAE_RECIPE_MSAE_WIDTH || model->activation == MSAE_ACTIVATION_IDENTITY) {
        return msae__fail(error, MSAE_ERROR_UNSUPPORTED,
                          "thresholds are for levels of the largest latents above zero");
    }
    msae__pass_begin(&job.pass, model, data, 0, msae__sink_values);
    job.pass.job.room = 0;
    job.pass.job.user = &pre;
    status = msae__take_memory(&memory, &model->allocator, msae__calibration_layout, &job, error);
    if (status != MSAE_OK) return status;
    memset(job.bins, 0, MSAE__VALUE_BINS * sizeof *job.bins);
    while (msae__pass_next(&job.pass, SIZE_MAX, &status, error)) {
        msae__count_values(model, pre, job.pass.rows, job.bins);
        rows += job.pass.rows;
    }
    if (status == MSAE_OK) msae__level_thresholds(model, job.bins, rows);
    model->has_level_thresholds = status == MSAE_OK;
    msae__free_memory(&memory, &model->allocator);
    return status;
}

/* do = sum over i != j of <D_i, D_j>^2 / n^2 of the decoder's rows, with cosines that of
   <D_i, D_j>^2 / (||D_i||^2 ||D_j||^2). This is a row's share of the sum: products [n] are its with
   all rows, squares [n] the rows' own. Products that float32 may not hold are made again in
   double. */
static double msae__row_overlap(const msae_model *model, const float *products,
                                const double *squares, size_t row, int cosines) {
    const size_t d = model->n_inputs;
    double sum = 0;
    for (size_t j = 0; j < model->n_latents; j++) {
        const float *a = model->decoder + row * d, *b = model->decoder + j * d;
        const double norms = squares[row] * squares[j];
        double value = products[j];
        if (norms < 1e-60 || norms > 1e60) {
            value = 0;
            for (size_t i = 0; i < d; i++) value += (double)a[i] * b[i];
        }
        if (j != row && norms != 0) sum += value * value / (cosines ? norms : 1);
    }
    return sum;
}

typedef struct msae__overlap {
    const msae_model *model;
    msae__matmul similarity;
    double *squares; /* [n] of the rows */
} msae__overlap;

/* Products of some rows with all, never all with all: n^2 floats may be many. */
static void msae__overlap_layout(void *context, msae__arena *arena) {
    msae__overlap *job = (msae__overlap *)context;
    const size_t n = job->model->n_latents, d = job->model->n_inputs;
    msae__similarity_layout(job->model, MSAE__SIMILARITY_ROWS, n, d, arena, &job->similarity);
    job->squares = MSAE__TAKE(arena, double, n);
}

/* Block by block of rows; their shares are added up in order. */
MSAE_API msae_status msae_decoder_overlap(const msae_model *model, int cosines, double *overlap,
                                          msae_error *error) {
    const size_t n = model->n_latents, d = model->n_inputs;
    msae__memory memory;
    msae__overlap job;
    double sum = 0;
    msae_status status = msae__check_floats(model, error);
    if (status != MSAE_OK) return status;
    job.model = model;
    status = msae__take_memory(&memory, &model->allocator, msae__overlap_layout, &job, error);
    if (status != MSAE_OK) return status;
    for (size_t j = 0; j < n; j++) job.squares[j] = msae__sum_squares(model->decoder + j * d, d);
    for (size_t first = 0; first < n; first += MSAE__SIMILARITY_ROWS) {
        msae__similarities(&job.similarity, &model->parallel, model->decoder + first * d,
                           msae__min(MSAE__SIMILARITY_ROWS, n - first), model->decoder, n);
        for (size_t r = 0; r < job.similarity.rows; r++) {
            sum +=
                msae__row_overlap(model, job.similarity.c + r * n, job.squares, first + r, cosines);
        }
    }
    *overlap = sum / ((double)n * (double)n);
    msae__free_memory(&memory, &model->allocator);
    return MSAE_OK;
}

/* Rows of a set that CKNNA takes at once. */
#define MSAE__CKNNA_ROWS 10000

/* Adding a product of two codes to a similarity costs as much as so many multiplications of the
   dense product. Measured: 1.1 ns against 1 / 60 (AVX-512) and 1 / 35 (AVX2). */
#define MSAE__SPARSE_COST 40
/* Lists of more than a fifth of all codes never pay at that price. */
#define MSAE__SPARSE_SHARE 5

/* A sweep over a set: every row at every k, in one pass. */
typedef struct msae__sweep {
    msae__pass pass;
    const size_t *ks;
    size_t n_ks;
    msae__row_metrics *out;  /* [MSAE__INFERENCE_ROWS][n_ks] of a tile */
    msae__sweep_line *lines; /* [n_ks] */
    uint32_t *best;          /* for each worker [n]: best rank that a latent had in any row */
    float *recon;            /* for each worker [2][d]: the running sum and the raw row */
    msae__spread spread;

    size_t batch;             /* rows that CKNNA takes at once; 0: not asked for */
    size_t batch_row;         /* place among them of the tile's first row, or MSAE__NO_ROW */
    float *x;                 /* [batch][d] */
    msae__sparse_codes codes; /* of the batch */
    double *sums;             /* [n_ks] over the batches */
    msae__cknna_memory cknna;
} msae__sweep;

/* Keeps a row's codes for CKNNA. */
static void msae__keep_codes(const msae__sparse_codes *keep, size_t row, const msae_code *codes,
                             size_t count) {
    float *z = keep->z + row * keep->stride;
    uint32_t *ranked = keep->ranked + row * keep->n;
    memset(z, 0, keep->n * sizeof *z);
    for (size_t e = 0; e < count; e++) {
        z[codes[e].latent] = codes[e].value;
        ranked[e] = codes[e].latent;
    }
    keep->active[row] = (uint32_t)count;
}

/* A row at every k. Codes come strongest first, so that r_k is a running sum: what is decoded at
   one k is the start of the next, and all of them cost what the largest does. */
static void msae__sink_sweep(const msae__encode_job *job, size_t row, size_t tile_row,
                             const msae_code *codes, size_t count, size_t worker) {
    const msae__sweep *sweep = (const msae__sweep *)job->user;
    const msae_model *model = job->model;
    const size_t d = model->n_inputs;
    uint32_t *best = sweep->best + worker * model->n_latents;
    float *sum = sweep->recon + 2 * worker * d, *recon = sum + d;
    size_t done = 0, l0 = 0;
    memset(sum, 0, d * sizeof *sum);
    for (size_t i = 0; i < job->n_ks; i++) {
        const size_t until = msae__min(job->ks[i], count);
        msae__add_codes(model, codes + done, until - done, sum);
        for (; done < until; done++) {
            if (codes[done].value == 0) continue;
            l0++;
            if (done < best[codes[done].latent]) best[codes[done].latent] = (uint32_t)done;
        }
        msae__to_raw(model, sum, job->tile->moments + 2 * tile_row, recon);
        sweep->out[row * job->n_ks + i] = msae__measure_row(sweep->pass.x + row * d, recon, d, l0);
    }
    if (sweep->batch_row != MSAE__NO_ROW) {
        msae__keep_codes(&sweep->codes, sweep->batch_row + row, codes, count);
    }
}

/* What a sweep works in. The batches of CKNNA, where it is asked for, are most of it. */
static void msae__sweep_layout(void *context, msae__arena *arena) {
    msae__sweep *sweep = (msae__sweep *)context;
    const msae_model *model = sweep->pass.model;
    const size_t n = model->n_latents, d = model->n_inputs;
    const size_t workers = msae__workers(&model->parallel);
    msae__sparse_codes *codes = &sweep->codes;
    msae__pass_layout(&sweep->pass, arena);
    sweep->out = MSAE__TAKE_ROWS(arena, msae__row_metrics, MSAE__INFERENCE_ROWS, sweep->n_ks);
    sweep->lines = MSAE__TAKE(arena, msae__sweep_line, sweep->n_ks);
    sweep->best = MSAE__TAKE_ROWS(arena, uint32_t, workers, n);
    sweep->recon = MSAE__TAKE_ROWS(arena, float, workers * 2, d);
    sweep->spread.mean = MSAE__TAKE(arena, double, d);
    if (!sweep->batch) return;
    codes->n = n;
    codes->stride = msae__stride(n);
    codes->z = MSAE__TAKE_ROWS(arena, float, sweep->batch, codes->stride);
    codes->ranked = MSAE__TAKE_ROWS(arena, uint32_t, sweep->batch, n);
    codes->capacity = sweep->batch * n / MSAE__SPARSE_SHARE;
    codes->active = MSAE__TAKE(arena, uint32_t, sweep->batch);
    codes->starts = MSAE__TAKE(arena, size_t, n + 1);
    codes->row = MSAE__TAKE(arena, uint32_t, codes->capacity);
    codes->value = MSAE__TAKE(arena, float, codes->capacity);
    sweep->x = MSAE__TAKE_ROWS(arena, float, sweep->batch, d);
    sweep->sums = MSAE__TAKE(arena, double, sweep->n_ks);
    msae__cknna_layout(model, sweep->batch, msae__max(n, d), arena, &sweep->cknna);
}

/* Makes each latent's list of rows by a counting sort; 0 when the dense product is cheaper. By
   lists P_ij = sum of B_il B_jl over the latents l that rows i and j share, which takes a step for
   each pair of entries of a list. */
static int msae__list_rows(msae__sparse_codes *codes, size_t rows) {
    double pairs = 0;
    size_t total = 0, *starts = codes->starts;
    memset(starts, 0, (codes->n + 1) * sizeof *starts);
    for (size_t r = 0; r < rows; r++) {
        const uint32_t *ranked = codes->ranked + r * codes->n;
        for (size_t e = 0; e < codes->active[r]; e++) starts[ranked[e]]++;
        total += codes->active[r];
    }
    for (size_t j = 0; j < codes->n; j++) pairs += (double)starts[j] * (double)starts[j];
    if (total > codes->capacity ||
        pairs * MSAE__SPARSE_COST > (double)rows * (double)rows * (double)codes->n) {
        return 0;
    }
    /* Each latent's end, from which it is filled towards its start. */
    for (size_t j = 1; j <= codes->n; j++) starts[j] += starts[j - 1];
    for (size_t r = rows; r-- > 0;) {
        const uint32_t *ranked = codes->ranked + r * codes->n;
        for (size_t e = 0; e < codes->active[r]; e++) {
            const size_t at = --starts[ranked[e]];
            codes->row[at] = (uint32_t)r;
            codes->value[at] = codes->z[r * codes->stride + ranked[e]];
        }
    }
    return 1;
}

/* Drops what a row has beyond its k strongest codes; 1 when a row had more. */
static int msae__cut_codes(const msae__sparse_codes *codes, size_t rows, size_t k) {
    int cut = 0;
    for (size_t r = 0; r < rows; r++) {
        const uint32_t *ranked = codes->ranked + r * codes->n;
        for (; codes->active[r] > k; cut = 1) {
            codes->z[r * codes->stride + ranked[--codes->active[r]]] = 0;
        }
    }
    return cut;
}

/* CKNNA of a batch at every k, from the largest down: the codes at a k are those at the next larger
   one less some, and where no row loses any, so is the value. */
static void msae__sweep_cknna(msae__sweep *sweep) {
    const msae_model *model = sweep->pass.model;
    const size_t rows = sweep->batch, n = model->n_latents, d = model->n_inputs;
    msae__sparse_codes *codes = &sweep->codes;
    msae__cknna_memory *cknna = &sweep->cknna;
    double value = 0;
    msae__find_neighbours(model, sweep->x, d, rows, d, NULL, &cknna->similarity, &cknna->k);
    for (size_t i = sweep->n_ks; i-- > 0;) {
        const int cut = sweep->ks[i] > 0 && msae__cut_codes(codes, rows, sweep->ks[i]);
        if (cut || i == sweep->n_ks - 1) {
            const msae__sparse_codes *lists = msae__list_rows(codes, rows) ? codes : NULL;
            msae__find_neighbours(model, codes->z, codes->stride, rows, n, lists,
                                  &cknna->similarity, &cknna->p);
            value = msae__cknna_value(cknna, rows);
        }
        sweep->sums[i] += value;
    }
}

/* Adds up what a tile's rows say, in their order. */
static msae_status msae__sweep_tile(msae__sweep *sweep, msae_error *error) {
    const msae__pass *pass = &sweep->pass;
    const size_t d = pass->model->n_inputs;
    for (size_t r = 0; r < pass->rows; r++) {
        msae__spread_add(&sweep->spread, pass->x + r * d, d);
        for (size_t i = 0; i < sweep->n_ks; i++) {
            const msae__row_metrics *m = &sweep->out[r * sweep->n_ks + i];
            if (!msae__is_finite_double(m->error)) return msae__fail_overflow(error, pass->row[r]);
            msae__sweep_add(&sweep->lines[i], m);
        }
    }
    if (sweep->batch_row != MSAE__NO_ROW) {
        memcpy(sweep->x + sweep->batch_row * d, pass->x, pass->rows * d * sizeof *pass->x);
    }
    return MSAE_OK;
}

/* All tiles; the first `in_batches` rows are CKNNA's, of which a tile ends with its batch. */
static msae_status msae__run_sweep(msae__sweep *sweep, size_t in_batches, msae_error *error) {
    const msae_model *model = sweep->pass.model;
    msae_status status = MSAE_OK;
    size_t done = 0, most;
    memset(sweep->lines, 0, sweep->n_ks * sizeof *sweep->lines);
    memset(sweep->spread.mean, 0, model->n_inputs * sizeof(double));
    memset(sweep->best, 0xff,
           msae__workers(&model->parallel) * model->n_latents * sizeof *sweep->best);
    if (sweep->batch) memset(sweep->sums, 0, sweep->n_ks * sizeof *sweep->sums);
    for (;;) {
        sweep->batch_row = done < in_batches ? done % sweep->batch : MSAE__NO_ROW;
        most = done < in_batches ? sweep->batch - sweep->batch_row : SIZE_MAX;
        if (!msae__pass_next(&sweep->pass, most, &status, error)) return status;
        status = msae__sweep_tile(sweep, error);
        if (status != MSAE_OK) return status;
        done += sweep->pass.rows;
        if (sweep->pass.rows == most) msae__sweep_cknna(sweep);
    }
}

/* From sums to results. A latent whose best rank over all rows is b is alive at every k > b, so one
   number a latent says where it is dead. */
static void msae__sweep_results(const msae__sweep *sweep, size_t batches, msae_metrics *results) {
    const msae_model *model = sweep->pass.model;
    const size_t n = model->n_latents, n_ks = sweep->n_ks;
    for (size_t i = 0; i < n_ks; i++) {
        memset(&results[i], 0, sizeof results[i]);
        results[i].k = sweep->ks[i];
        msae__sweep_finish(&sweep->lines[i], n, sweep->spread.total, &results[i]);
        if (batches) results[i].cknna = sweep->sums[i] / (double)batches;
    }
    for (size_t j = 0; j < n; j++) {
        uint32_t best = UINT32_MAX;
        for (size_t w = 0; w < msae__workers(&model->parallel); w++) {
            if (sweep->best[w * n + j] < best) best = sweep->best[w * n + j];
        }
        for (size_t i = 0; i < n_ks; i++) {
            results[i].ndn += best >= (sweep->ks[i] > 0 ? sweep->ks[i] : n);
        }
    }
}

/* What may be wrong with the model, the data or the list of k. */
static msae_status msae__check_sweep(const msae__sweep *sweep, const msae_model *model,
                                     const msae_data *data, size_t room, msae_error *error) {
    msae_status status = msae__check_pass(model, data, 0, error);
    if (status != MSAE_OK) return status;
    if (!(model->scale > 0) || !msae__is_finite(model->scale)) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the scale is not positive");
    }
    status = msae__check_ks(model, sweep->ks, sweep->n_ks, error);
    if (status != MSAE_OK || sweep->n_ks <= room) return status;
    return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "there is no room for",
                         sweep->n_ks, " lines of results");
}

/* Refined codes of one k do not begin with those of a smaller one: a pass for each k. */
static msae_status msae__evaluate_each(const msae_model *model, const msae_data *data,
                                       const msae_eval_desc *desc, const msae__sweep *sweep,
                                       msae_metrics *results, size_t *count, msae_error *error) {
    msae_status status = MSAE_OK;
    for (size_t i = 0; i < sweep->n_ks && status == MSAE_OK; i++) {
        msae_eval_desc of_one = *desc;
        of_one.ks = &sweep->ks[i];
        of_one.n_ks = 1;
        status = msae_evaluate(model, data, &of_one, 1, &results[i], NULL, error);
    }
    if (count && status == MSAE_OK) *count = sweep->n_ks;
    return status;
}

/* Checks, memory, the pass, the results. CKNNA is a mean over full batches, so that rows beyond the
   last one have no part in it. */
MSAE_API msae_status msae_evaluate(const msae_model *model, const msae_data *data,
                                   const msae_eval_desc *desc, size_t room, msae_metrics *results,
                                   size_t *count, msae_error *error) {
    const msae_eval_desc plain = {NULL, 0, 0, NULL, 0};
    msae__memory memory;
    msae_model local = *model; /* shares the arrays; may look at them with another mean */
    msae__sweep sweep;
    msae_status status;
    size_t default_ks[MSAE_MAX_LEVELS], n = model->n_latents, used, batches;
    if (count) *count = 0;
    if (!desc) desc = &plain;
    if (desc->mean) {
        local.mean = (float *)(uintptr_t)desc->mean; /* only read */
        local.scale = desc->scale;
    }
    memset(&sweep, 0, sizeof sweep);
    sweep.ks = desc->ks ? desc->ks : default_ks;
    sweep.n_ks = desc->ks ? desc->n_ks : msae__default_levels(msae__min(16, n), n, default_ks);
    status = msae__check_sweep(&sweep, &local, data, room, error);
    if (status == MSAE_OK && sweep.n_ks > 1 && model->refine > 0) {
        return msae__evaluate_each(model, data, desc, &sweep, results, count, error);
    }
    if (status != MSAE_OK) return status;
    msae__pass_begin(&sweep.pass, &local, data, sweep.ks[sweep.n_ks - 1], msae__sink_sweep);
    sweep.pass.job.ks = sweep.ks[0] > 0 ? sweep.ks : &model->n_latents; /* all that it keeps */
    sweep.pass.job.n_ks = sweep.n_ks;
    sweep.pass.job.user = &sweep;
    used = msae__used_rows(data, SIZE_MAX);
    if (desc->cknna && used >= MSAE__CKNNA_LEAST) sweep.batch = msae__min(used, MSAE__CKNNA_ROWS);
    status = msae__take_memory(&memory, &model->allocator, msae__sweep_layout, &sweep, error);
    if (status != MSAE_OK) return status;
    batches = sweep.batch ? used / sweep.batch : 0;
    status = msae__run_sweep(&sweep, batches * sweep.batch, error);
    if (status == MSAE_OK) msae__sweep_results(&sweep, batches, results);
    if (count && status == MSAE_OK) *count = sweep.n_ks;
    msae__free_memory(&memory, &model->allocator);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   >>strongest Strongest rows: for each latent j the `top` rows r with the highest z_rj

   A tile's codes are dense here, [rows][n], and tasks are blocks of latents, each with a heap: no
   two tasks write to the same, and every heap is offered the rows in their order.
   ------------------------------------------------------------------------------------------ */

typedef struct msae__top {
    msae__pass pass;
    const msae_top_desc *desc;
    size_t n_latents;
    msae_hit *hits;
    size_t *counts;
} msae__top;

/* A block of the list of latents over all rows of a tile. */
static void msae__top_task(void *context, size_t task, size_t worker) {
    const msae__top *job = (const msae__top *)context;
    const uint32_t *latents = job->desc->latents;
    const size_t top = job->desc->top;
    const size_t begin = task * MSAE__LATENT_BLOCK;
    const size_t end = msae__min(begin + MSAE__LATENT_BLOCK, job->n_latents);
    (void)worker;
    for (size_t r = 0; r < job->pass.rows; r++) {
        const float *z = job->pass.job.dense + r * job->pass.model->n_latents;
        for (size_t i = begin; i < end; i++) {
            const float value = z[latents ? latents[i] : i];
            size_t kept;
            if (value == 0) continue;
            kept = msae__min(job->counts[i]++, top);
            msae__offer_hit(job->hits + i * top, &kept, top, job->pass.row[r], value);
        }
    }
}

static void msae__top_layout(void *context, msae__arena *arena) {
    msae__pass *pass = &((msae__top *)context)->pass;
    msae__pass_layout(pass, arena);
    pass->job.dense = MSAE__TAKE_ROWS(arena, float, MSAE__INFERENCE_ROWS, pass->model->n_latents);
}

static msae_status msae__check_top(const msae_model *model, const msae_top_desc *desc,
                                   msae_error *error) {
    if (desc->top == 0) return msae__fail(error, MSAE_ERROR_ARGUMENT, "top is 0");
    if (desc->latents && desc->n_latents == 0) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "no latent is asked for");
    }
    for (size_t i = 0; i < desc->n_latents; i++) {
        const size_t latent = desc->latents ? desc->latents[i] : i;
        if (latent < model->n_latents) continue;
        return msae__fail_at(error, MSAE_ERROR_ARGUMENT, i, "the model has no latent", latent, "");
    }
    return MSAE_OK;
}

/* One pass; heaps are put in order when all rows have been offered. */
MSAE_API msae_status msae_top_rows(const msae_model *model, const msae_data *data,
                                   const msae_top_desc *desc, msae_hit *hits, size_t *counts,
                                   msae_error *error) {
    const size_t n_latents = desc->n_latents ? desc->n_latents : model->n_latents;
    msae__memory memory;
    msae__top job;
    msae_status status = msae__check_pass(model, data, desc->k, error);
    if (status == MSAE_OK) status = msae__check_top(model, desc, error);
    if (status != MSAE_OK) return status;
    msae__pass_begin(&job.pass, model, data, desc->k, msae__sink_dense);
    status = msae__take_memory(&memory, &model->allocator, msae__top_layout, &job, error);
    if (status != MSAE_OK) return status;
    job.desc = desc;
    job.n_latents = n_latents;
    job.hits = hits;
    job.counts = counts;
    memset(hits, 0, n_latents * desc->top * sizeof *hits);
    memset(counts, 0, n_latents * sizeof *counts);
    while (msae__pass_next(&job.pass, SIZE_MAX, &status, error)) {
        msae__parallel_for(&model->parallel, msae__ceil_div(n_latents, MSAE__LATENT_BLOCK),
                           msae__top_task, &job);
    }
    for (size_t i = 0; i < n_latents; i++) {
        msae__sort_hits(hits + i * desc->top, msae__min(counts[i], desc->top));
    }
    msae__free_memory(&memory, &model->allocator);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   >>naming Names: the word v whose direction is nearest to that of a latent j (paper, section 5.1)

   by the decoder   cos(v - mean of the words, D_j), or as published, with the means on both sides:
                    cos(v, D_j / scale + mean)
   by the rows      cos(v - mean of the words, a_j), a_j = sum z_rj^2 u_r over j's strongest rows r,
                    u_r = (x_r - mean) / ||x_r - mean||

   Ranked is that cosine less `hubs` times the word's own mean cosine with the latents that it is
   nearest to: some words are near all of them. The score is the cosine, times ||a_j|| / sum z_rj^2
   by the rows, which is 1 where all of them point the same way.
   ------------------------------------------------------------------------------------------ */

/* Hubs and the rows that are kept are weighed on CLIP: names of three seeds of the default recipe
   against the classes of their rows, of those that named and of others. Rows that are kept: 5 to 7
   of ten do equally well, all of them worse. Hubs: 0.75 or 1 is right more often on many classes,
   and far less often on rows of few classes, whose words are then near all latents; hubs over rows
   of the data have the same fault. */
#define MSAE__NAME_ROWS 20
#define MSAE__NAME_KEPT 6 /* of ten strongest rows: those that agree most */
#define MSAE__NAME_HUBS 0.6f
#define MSAE__NAME_SYNONYM 0.8f
#define MSAE__HUB_SHARE 20 /* a word's nearness is taken over one in so many latents */

/* What naming works in. */
typedef struct msae__namer {
    const msae_model *model;
    const msae_data *data;
    size_t words, rows, hub_latents;
    float hubs, synonym;
    const uint32_t *synonyms;

    float *word;       /* [words][d] unit rows */
    float *direction;  /* [n][d] unit rows, zero for a latent without */
    float *coherence;  /* [n]: score = coherence * <direction, word> */
    float *agreement;  /* [n], with data */
    uint8_t *absent;   /* [words]: 1 for a word that is left out */
    float *hub;        /* [words]: what is taken off a word's cosine in ranking */
    msae_hit *top;     /* [n][rows] strongest rows, with data */
    size_t *counts;    /* [n] */
    float *mean;       /* [d] of the data */
    float *x;          /* for each worker [d] */
    double *sum;       /* for each worker [d] */
    msae_hit *nearest; /* for each worker [max(hub_latents, rows)] */
    msae__matmul similarity;

    /* of a block of the matrix products */
    size_t first;
    size_t n_best;   /* words to list for a latent .. */
    msae_hit *best;  /* [n][n_best], or NULL .. */
    msae_name *name; /* .. for names [n] */
} msae__namer;

/* One block for all that naming works in; the products are a few rows by all words. */
static void msae__name_layout(void *context, msae__arena *arena) {
    msae__namer *m = (msae__namer *)context;
    const size_t d = m->model->n_inputs, n = m->model->n_latents;
    const size_t workers = msae__workers(&m->model->parallel);
    m->word = MSAE__TAKE_ROWS(arena, float, m->words, d);
    m->direction = MSAE__TAKE_ROWS(arena, float, n, d);
    m->coherence = MSAE__TAKE(arena, float, n);
    m->absent = MSAE__TAKE(arena, uint8_t, m->words);
    m->hub = MSAE__TAKE(arena, float, m->words);
    m->sum = MSAE__TAKE_ROWS(arena, double, workers, d);
    m->nearest = MSAE__TAKE_ROWS(arena, msae_hit, workers, msae__max(m->hub_latents, m->rows));
    if (m->data) {
        m->top = MSAE__TAKE_ROWS(arena, msae_hit, n, m->rows);
        m->counts = MSAE__TAKE(arena, size_t, n);
        m->agreement = MSAE__TAKE(arena, float, n);
        m->mean = MSAE__TAKE(arena, float, d);
        m->x = MSAE__TAKE_ROWS(arena, float, workers, d);
    }
    msae__similarity_layout(m->model, MSAE__SIMILARITY_ROWS, msae__max(m->words, n), d, arena,
                            &m->similarity);
}

/* u = (x - mean) / ||x - mean||; half of the difference, which float always holds. */
static void msae__read_direction(const msae__namer *m, size_t row, float *x) {
    const size_t d = m->model->n_inputs;
    msae_data_read(m->data, row, 1, x);
    for (size_t c = 0; c < d; c++) x[c] = (float)(((double)x[c] - m->mean[c]) * 0.5);
    msae__normalize_rows(x, 1, d);
}

/* Adds a strongest row to the sum, weighted by the square of the latent's value there, which is
   returned. */
static double msae__add_direction(const msae__namer *m, const msae_hit *hit, float *x,
                                  double *sum) {
    const double weight = (double)hit->value * hit->value;
    msae__read_direction(m, hit->row, x);
    for (size_t c = 0; c < m->model->n_inputs; c++) sum[c] += weight * x[c];
    return weight;
}

/* ||sum||^2 of a sum in double. */
static double msae__length_squared(const double *sum, size_t d) {
    double squares = 0;
    for (size_t c = 0; c < d; c++) squares += sum[c] * sum[c];
    return squares;
}

/* The mean direction of a latent's strongest rows, of those that are nearest to the mean of all of
   them: a latent has rows of other things too, and their mean with the rest is near words for
   neither. The mean's own length is how far the rows agree. With w_r = z_rj^2, the agreement is the
   mean cosine of two different rows: (||sum w u||^2 - sum w^2) / ((sum w)^2 - sum w^2). */
static void msae__rows_direction_task(void *context, size_t latent, size_t worker) {
    const msae__namer *m = (const msae__namer *)context;
    const size_t d = m->model->n_inputs, count = msae__min(m->counts[latent], m->rows);
    const size_t top = msae__ceil_div(count * MSAE__NAME_KEPT, 10);
    const msae_hit *hits = m->top + latent * m->rows;
    msae_hit *kept = m->nearest + worker * msae__max(m->hub_latents, m->rows);
    float *x = m->x + worker * d, *direction = m->direction + latent * d;
    double *sum = m->sum + worker * d, weights = 0, squares, own = 0;
    size_t n_kept = 0;
    memset(sum, 0, d * sizeof *sum);
    for (size_t i = 0; i < count; i++) {
        const double weight = msae__add_direction(m, &hits[i], x, sum);
        weights += weight;
        own += weight * weight; /* of each row with itself */
    }
    squares = msae__length_squared(sum, d);
    m->agreement[latent] = 0;
    if (count > 1 && weights * weights > own) {
        m->agreement[latent] = (float)((squares - own) / (weights * weights - own));
    }
    for (size_t i = 0; i < count; i++) {
        double cosine = 0;
        msae__read_direction(m, hits[i].row, x);
        for (size_t c = 0; c < d; c++) cosine += sum[c] * x[c];
        if (squares > 0) cosine /= sqrt(squares);
        msae__offer_hit(kept, &n_kept, top, i, (float)cosine);
    }
    memset(sum, 0, d * sizeof *sum);
    weights = 0;
    for (size_t i = 0; i < n_kept; i++) {
        weights += msae__add_direction(m, &hits[kept[i].row], x, sum);
    }
    squares = msae__length_squared(sum, d);
    m->coherence[latent] = weights > 0 ? (float)(sqrt(squares) / weights) : 0;
    for (size_t c = 0; c < d; c++) {
        direction[c] = squares > 0 ? (float)(sum[c] / sqrt(squares)) : 0;
    }
}

/* The data's mean, the latents' strongest rows, and what directions these have. */
static msae_status msae__rows_directions(msae__namer *m, size_t k, msae_error *error) {
    const msae_source source = msae_source_data(m->data);
    msae_top_desc desc;
    float scale;
    msae_status status = msae_source_statistics(&source, MSAE_SCALING_NONE, 0, NULL,
                                                &m->model->allocator, m->mean, &scale, error);
    if (status != MSAE_OK) return status;
    memset(&desc, 0, sizeof desc);
    desc.top = m->rows;
    desc.k = k;
    status = msae_top_rows(m->model, m->data, &desc, m->top, m->counts, error);
    if (status != MSAE_OK) return status;
    msae__parallel_for(&m->model->parallel, m->model->n_latents, msae__rows_direction_task, m);
    return MSAE_OK;
}

/* D_j / ||D_j||, or with the means the direction of D_j / scale + mean. A row of zeros has none. */
static void msae__decoder_directions(msae__namer *m, int keep_means) {
    const msae_model *model = m->model;
    const size_t d = model->n_inputs, n = model->n_latents;
    memcpy(m->direction, model->decoder, n * d * sizeof(float));
    for (size_t i = 0; i < n * d && keep_means; i++) {
        m->direction[i] += model->mean[i % d] * model->scale; /* the same direction */
    }
    msae__normalize_rows(m->direction, n, d);
    for (size_t j = 0; j < n; j++) {
        m->coherence[j] = msae__sum_squares(m->direction + j * d, d) > 0;
    }
}

/* The words' rows at zero mean and unit length; zeros for those that are left out. */
static void msae__read_words(const msae__namer *m, const msae_data *vocabulary, int keep_means) {
    const size_t d = m->model->n_inputs;
    double used = 0;
    msae_data_read(vocabulary, 0, m->words, m->word);
    for (size_t w = 0; w < m->words; w++) {
        m->absent[w] = (uint8_t)!msae__row_is_used(vocabulary, w);
        if (m->absent[w]) memset(m->word + w * d, 0, d * sizeof *m->word);
        used += !m->absent[w];
    }
    for (size_t i = 0; i < d && !keep_means; i++) {
        double mean = 0;
        for (size_t w = 0; w < m->words; w++) mean += m->word[w * d + i];
        mean /= used;
        for (size_t w = 0; w < m->words; w++) { /* half of it, which float always holds */
            float *word = m->word + w * d + i;
            if (!m->absent[w]) *word = (float)((*word - mean) * 0.5);
        }
    }
    msae__normalize_rows(m->word, m->words, d);
}

/* Runs task(i) for all rows of a [rows][d], in blocks of their products with b [cols][d]. */
static void msae__name_product(msae__namer *m, const float *a, size_t rows, const float *b,
                               size_t cols, msae_task task) {
    const msae_parallel *parallel = &m->model->parallel;
    for (m->first = 0; m->first < rows; m->first += MSAE__SIMILARITY_ROWS) {
        const size_t count = msae__min(MSAE__SIMILARITY_ROWS, rows - m->first);
        msae__similarities(&m->similarity, parallel, a + m->first * m->model->n_inputs, count, b,
                           cols);
        msae__parallel_for(parallel, count, task, m);
    }
}

/* hub = hubs times the mean of the word's highest cosines, over a twentieth of the latents (CSLS;
   Lample et al. 2018). */
static void msae__hub_task(void *context, size_t task, size_t worker) {
    const msae__namer *m = (const msae__namer *)context;
    const float *cosine = m->similarity.c + task * m->model->n_latents;
    msae_hit *nearest = m->nearest + worker * msae__max(m->hub_latents, m->rows);
    size_t count = 0;
    double sum = 0;
    for (size_t j = 0; j < m->model->n_latents; j++) {
        if (m->coherence[j] == 0) continue;
        msae__offer_hit(nearest, &count, m->hub_latents, j, cosine[j]);
    }
    for (size_t i = 0; i < count; i++) sum += nearest[i].value;
    m->hub[m->first + task] = count ? (float)(m->hubs * sum / (double)count) : 0;
}

/* Words of one group, or whose cosine is at least m->synonym. */
static int msae__are_synonyms(const msae__namer *m, size_t a, size_t b) {
    const size_t d = m->model->n_inputs;
    double cosine = 0;
    if (m->synonyms && m->synonyms[a] == m->synonyms[b]) return 1;
    for (size_t i = 0; i < d; i++) cosine += (double)m->word[a * d + i] * m->word[b * d + i];
    return cosine >= m->synonym;
}

/* The word that ranks next behind `after` (MSAE_NO_WORD: the first of all; ties: the lower word
   first), or MSAE_NO_WORD. */
static size_t msae__next_word(const msae__namer *m, const float *cosine, size_t after) {
    size_t best = MSAE_NO_WORD;
    float best_rank = 0, limit = 0;
    if (after != MSAE_NO_WORD) limit = cosine[after] - m->hub[after];
    for (size_t w = 0; w < m->words; w++) {
        const float rank = cosine[w] - m->hub[w];
        if (m->absent[w]) continue;
        if (after != MSAE_NO_WORD && (rank > limit || (rank == limit && w <= after))) continue;
        if (best != MSAE_NO_WORD && rank <= best_rank) continue;
        best = w;
        best_rank = rank;
    }
    return best;
}

/* The m->n_best words of a latent, best first. */
static void msae__best_words(const msae__namer *m, size_t latent, const float *cosine) {
    const float coherence = m->coherence[latent];
    msae_hit *best = m->best + latent * m->n_best;
    size_t count = 0;
    for (size_t w = 0; w < m->words && coherence > 0 && m->n_best > 0; w++) {
        if (!m->absent[w]) {
            msae__offer_hit(best, &count, m->n_best, w, cosine[w] - m->hub[w]);
        }
    }
    msae__sort_hits(best, count);
    for (size_t i = 0; i < m->n_best; i++) {
        best[i].value = i < count ? coherence * cosine[best[i].row] : 0;
        if (i >= count) best[i].row = MSAE_NO_WORD;
    }
}

/* A latent's best word and the runner-up, which is the next that is no synonym of it: two words for
   one thing say nothing against each other. */
static void msae__name_task(void *context, size_t task, size_t worker) {
    const msae__namer *m = (const msae__namer *)context;
    const size_t latent = m->first + task;
    const float *cosine = m->similarity.c + task * m->words;
    const float coherence = m->coherence[latent];
    size_t word = coherence > 0 ? msae__next_word(m, cosine, MSAE_NO_WORD) : MSAE_NO_WORD;
    (void)worker;
    if (m->name) {
        msae_name *name = &m->name[latent];
        size_t other = word;
        while (other != MSAE_NO_WORD) {
            other = msae__next_word(m, cosine, other);
            if (other == MSAE_NO_WORD || !msae__are_synonyms(m, word, other)) break;
        }
        name->word = word;
        name->score = word != MSAE_NO_WORD ? coherence * cosine[word] : 0;
        name->runner_up = other;
        name->runner_up_score = other != MSAE_NO_WORD ? coherence * cosine[other] : -1;
        name->rows = m->data ? msae__min(m->counts[latent], m->rows) : 0;
        name->support = m->data ? m->counts[latent] : 0;
        name->agreement = m->data ? m->agreement[latent] : 0;
    }
    if (m->best) msae__best_words(m, latent, cosine);
}

/* Directions of words and latents, the words' hubs, and then every latent with every word. */
static msae_status msae__run_names(msae__namer *m, const msae_data *vocabulary, size_t k,
                                   int keep_means, msae_error *error) {
    const size_t n = m->model->n_latents;
    msae__read_words(m, vocabulary, keep_means);
    if (m->data) {
        msae_status status = msae__rows_directions(m, k, error);
        if (status != MSAE_OK) return status;
    } else {
        msae__decoder_directions(m, keep_means);
    }
    memset(m->hub, 0, m->words * sizeof *m->hub);
    if (m->hubs > 0) msae__name_product(m, m->word, m->words, m->direction, n, msae__hub_task);
    msae__name_product(m, m->direction, n, m->word, m->words, msae__name_task);
    return MSAE_OK;
}

/* What may be wrong with the vocabulary, the options or the data. */
static msae_status msae__check_names(const msae_model *model, const msae_data *vocabulary,
                                     const msae_name_desc *desc, msae_error *error) {
    msae_status status = msae__check_width("vocabulary", vocabulary->cols, model->n_inputs, error);
    if (status != MSAE_OK) return status;
    if (vocabulary->rows == 0) {
        return msae__fail(error, MSAE_ERROR_SHAPE, "the vocabulary is empty");
    }
    if (desc->data && desc->keep_means) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "keep_means is of names without data");
    }
    status = msae__check_floats(model, error);
    if (status == MSAE_OK && !vocabulary->skip_bad) status = msae_data_check(vocabulary, error);
    if (status != MSAE_OK) return status;
    if (msae__used_rows(vocabulary, 1) == 0) {
        return msae__fail(error, MSAE_ERROR_SHAPE, "the vocabulary has no usable row");
    }
    return desc->data ? msae__check_pass(model, desc->data, desc->k, error) : MSAE_OK;
}

MSAE_API msae_status msae_name_latents(const msae_model *model, const msae_data *vocabulary,
                                       const msae_name_desc *desc, msae_name *names,
                                       msae_error *error) {
    msae__memory memory;
    msae_name_desc plain;
    msae__namer m;
    msae_status status;
    memset(&plain, 0, sizeof plain);
    if (!desc) desc = &plain;
    status = msae__check_names(model, vocabulary, desc, error);
    if (status != MSAE_OK) return status;
    memset(&m, 0, sizeof m);
    m.model = model;
    m.data = desc->data;
    m.words = vocabulary->rows;
    m.rows = desc->rows ? desc->rows : MSAE__NAME_ROWS;
    m.rows = m.data ? msae__min(m.rows, m.data->rows) : 0;
    m.hub_latents = msae__ceil_div(model->n_latents, MSAE__HUB_SHARE);
    m.hubs = desc->hubs != 0 ? desc->hubs : desc->data ? MSAE__NAME_HUBS : 0;
    m.synonym = desc->synonym != 0 ? desc->synonym : MSAE__NAME_SYNONYM;
    if (m.synonym < 0) m.synonym = 2; /* a cosine that no pair has */
    m.synonyms = desc->synonyms;
    m.n_best = desc->top;
    m.best = desc->words;
    m.name = names;
    status = msae__take_memory(&memory, &model->allocator, msae__name_layout, &m, error);
    if (status != MSAE_OK) return status;
    status = msae__run_names(&m, vocabulary, desc->k, desc->keep_means, error);
    msae__free_memory(&memory, &model->allocator);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   >>scoring Scores: whether a latent's rows are of one kind, and which others do the same work

   monosemanticity  mean cosine of two of the rows r on which the latent is active, weighted by its
                    values w_r = |z_rj| (Pach et al. 2025, "Sparse Autoencoders Learn Monosemantic
                    Features in Vision-Language Models", arXiv 2504.02821, whose division by the
                    largest value cancels), less that of two rows of the set, which they leave on.
                    With unit rows u_r, sums over pairs r != s are those of single rows:
                    sum w_r w_s <u_r, u_s> / sum w_r w_s
                    = (||sum w u||^2 - sum w^2) / ((sum w)^2 - sum w^2)
   cosine           <D_j, D_p> / (||D_j|| ||D_p||) of decoder rows, highest over the others p
   overlap          |R_j and R_p| / |R_j or R_p| of the sets of rows on which they are active

   So the work is rows * k * d, as each row is added to the sums of its active latents alone. Sums
   are in double, each in the order of the rows, whose products are exact there: neither how rows
   fall into blocks nor how latents fall into tasks shows in the bits.
   ------------------------------------------------------------------------------------------ */

#define MSAE__SCORE_ROWS 1024               /* rows of a block .. */
#define MSAE__SCORE_CODES ((size_t)1 << 18) /* .. and their codes, at most, or those of 64 rows */
#define MSAE__SCORE_LATENTS 16              /* latents of a task */

/* What is summed over a latent's rows. */
typedef struct msae__score_sums {
    uint64_t rows, directed; /* rows where it is active; those of them that have a direction */
    double values, largest;  /* sum and largest w, over the first .. */
    double weights, squares; /* .. and the sums of w and w^2 over the second .. */
    double own;              /* .. with w^2 ||u||^2, where ||u|| is 1 but for its rounding */
} msae__score_sums;

typedef struct msae__scorer {
    const msae_model *model;
    const msae_source *source, *by; /* by: NULL without */
    msae_score *scores;
    int skip_bad, with_pairs;
    size_t width, most;   /* of the rows that tell what is alike; rows of a block, at most */
    msae__encode_job job; /* has a block's codes [most][room], and how many of a row are active */
    void *workspace;

    /* of a block */
    size_t rows;
    size_t *name;        /* [most]: their numbers in the source */
    float *x, *u;        /* [most][d] raw, [most][width] unit rows or zeros */
    double *own;         /* [most]: ||u||^2 */
    size_t *starts;      /* [n + 1]: latent j has the entries starts[j] .. starts[j + 1] - 1 of: */
    uint32_t *entry_row; /* [most * room], ascending .. */
    uint32_t *entry_place; /* .. where in `active` it stands in that row .. */
    float *entry_value;    /* .. and its value */
    uint32_t *active;      /* [most][room]: latents of each row, ascending */

    /* of all rows */
    msae__score_sums *sums, all; /* [n]; all: of the set, with weights 1 */
    double *sum;                 /* [n + 1][width]: sum w u; the last is the set's */
    uint32_t *pairs;             /* [n (n - 1) / 2]: rows that latents j < p share: msae__pair_of */

    msae__matmul similarity;
    float *direction; /* [n][d]: unit decoder rows */
    size_t first;     /* latent of the block of similarities */
} msae__scorer;

/* Counts of latent j with j + 1, j + 2 .. n - 1 follow each other. */
static size_t msae__pair_of(size_t n, size_t j, size_t p) {
    return j * (2 * n - j - 1) / 2 + (p - j - 1);
}

/* n (n - 1) / 2, the even one halved first; SIZE_MAX where that does not fit. */
static size_t msae__n_pairs(size_t n) {
    size_t count = 0;
    return msae__mul(n % 2 ? n : n / 2, n % 2 ? n / 2 : n - 1, &count) ? count : SIZE_MAX;
}

static void msae__score_layout(void *context, msae__arena *arena) {
    msae__scorer *s = (msae__scorer *)context;
    const size_t n = s->model->n_latents, d = s->model->n_inputs, room = s->job.room;
    s->name = MSAE__TAKE(arena, size_t, s->most);
    s->x = MSAE__TAKE_ROWS(arena, float, s->most, d);
    s->u = MSAE__TAKE_ROWS(arena, float, s->most, s->width);
    s->own = MSAE__TAKE(arena, double, s->most);
    s->job.codes = MSAE__TAKE_ROWS(arena, msae_code, s->most, room);
    s->job.counts = MSAE__TAKE(arena, size_t, s->most);
    s->workspace = msae__take(arena, msae_workspace_bytes(s->model, s->most), 1);
    s->starts = MSAE__TAKE(arena, size_t, n + 1);
    s->entry_row = MSAE__TAKE_ROWS(arena, uint32_t, s->most, room);
    s->entry_place = MSAE__TAKE_ROWS(arena, uint32_t, s->most, room);
    s->entry_value = MSAE__TAKE_ROWS(arena, float, s->most, room);
    s->active = MSAE__TAKE_ROWS(arena, uint32_t, s->most, room);
    s->sums = MSAE__TAKE(arena, msae__score_sums, n);
    s->sum = MSAE__TAKE_ROWS(arena, double, n + 1, s->width);
    s->pairs = s->with_pairs ? MSAE__TAKE(arena, uint32_t, msae__n_pairs(n)) : NULL;
    s->direction = MSAE__TAKE_ROWS(arena, float, n, d);
    msae__similarity_layout(s->model, MSAE__SIMILARITY_ROWS, n, d, arena, &s->similarity);
}

/* A row that is not to be left out has NaN or Inf, in the data or beside it. */
static msae_status msae__fail_scored_row(const msae__scorer *s, size_t row, int beside,
                                         msae_error *error) {
    if (beside) {
        return msae__fail_at(error, MSAE_ERROR_NOT_FINITE, row, "row", row,
                             " of the other embeddings has a NaN or Inf");
    }
    if (s->source->data) return msae__fail_data_row(error, s->source->data, row);
    return msae__fail_row(error, row);
}

/* Reads a block, without rows that are left out, and makes unit rows of what tells likeness. */
static msae_status msae__score_read(msae__scorer *s, uint64_t first, size_t rows,
                                    msae_error *error) {
    const size_t d = s->source->cols, w = s->width;
    msae_status status = msae__read_source(s->source, first, rows, s->x, error);
    if (status == MSAE_OK && s->by) status = msae__read_source(s->by, first, rows, s->u, error);
    if (status != MSAE_OK) return status;
    s->rows = 0;
    for (size_t r = 0; r < rows; r++) {
        const float *x = s->x + r * d, *u = s->by ? s->u + r * w : x;
        const int is_bad = !msae__row_is_finite(x, d);
        if (is_bad || !msae__row_is_finite(u, w)) {
            if (s->skip_bad) continue;
            return msae__fail_scored_row(s, (size_t)first + r, !is_bad, error);
        }
        memmove(s->u + s->rows * w, u, w * sizeof *u);
        memmove(s->x + s->rows * d, x, d * sizeof *x);
        s->name[s->rows++] = (size_t)first + r;
    }
    msae__normalize_rows(s->u, s->rows, w);
    for (size_t r = 0; r < s->rows; r++) s->own[r] = msae__sum_squares(s->u + r * w, w);
    return MSAE_OK;
}

/* Codes of row after row to latent after latent, by a counting sort, and from there to each row's
   latents in their order. */
static void msae__score_lists(msae__scorer *s) {
    const size_t n = s->model->n_latents, room = s->job.room;
    memset(s->starts, 0, (n + 1) * sizeof *s->starts);
    for (size_t r = 0; r < s->rows; r++) {
        const msae_code *codes = s->job.codes + r * room;
        for (size_t e = 0; e < s->job.counts[r]; e++) {
            s->starts[codes[e].latent] += codes[e].value != 0;
        }
    }
    /* Each latent's end, from which it is filled towards its start. */
    for (size_t j = 1; j <= n; j++) s->starts[j] += s->starts[j - 1];
    for (size_t r = s->rows; r-- > 0;) {
        const msae_code *codes = s->job.codes + r * room;
        for (size_t e = 0; e < s->job.counts[r]; e++) {
            size_t at;
            if (codes[e].value == 0) continue;
            at = --s->starts[codes[e].latent];
            s->entry_row[at] = (uint32_t)r;
            s->entry_value[at] = codes[e].value;
        }
        s->job.counts[r] = 0;
    }
    for (size_t j = 0; j < n; j++) {
        for (size_t e = s->starts[j]; e < s->starts[j + 1]; e++) {
            const size_t r = s->entry_row[e];
            s->active[r * room + s->job.counts[r]] = (uint32_t)j;
            s->entry_place[e] = (uint32_t)s->job.counts[r]++;
        }
    }
}

/* sum += w_i u_i, one after the other, with the sum read and written once for four rows. */
static void msae__add_weighted(double *sum, const double w[4], const float *const u[4], size_t d) {
    const float *a = u[0], *b = u[1], *c = u[2], *e = u[3];
    const double wa = w[0], wb = w[1], wc = w[2], we = w[3];
    for (size_t i = 0; i < d; i++) {
        sum[i] = (((sum[i] + wa * (double)a[i]) + wb * (double)b[i]) + wc * (double)c[i]) +
                 we * (double)e[i];
    }
}

/* Takes in a latent's rows of a block. */
static void msae__score_add(const msae__scorer *s, size_t latent) {
    const size_t end = s->starts[latent + 1], width = s->width;
    msae__score_sums *sums = &s->sums[latent];
    for (size_t e = s->starts[latent]; e < end; e += 4) {
        double w[4] = {0, 0, 0, 0};
        const float *u[4] = {s->u, s->u, s->u, s->u}; /* of weight 0 behind the last */
        for (size_t i = 0; i < msae__min(4, end - e); i++) {
            const size_t r = s->entry_row[e + i];
            w[i] = fabs((double)s->entry_value[e + i]);
            u[i] = s->u + r * width;
            sums->rows++;
            sums->values += w[i];
            if (w[i] > sums->largest) sums->largest = w[i];
            if (s->own[r] == 0) continue;
            sums->directed++;
            sums->weights += w[i];
            sums->squares += w[i] * w[i];
            sums->own += w[i] * w[i] * s->own[r];
        }
        msae__add_weighted(s->sum + latent * width, w, u, width);
    }
}

/* Counts the rows of a block that a latent shares with those behind it. */
static void msae__score_pairs(const msae__scorer *s, size_t latent) {
    const size_t n = s->model->n_latents, room = s->job.room;
    uint32_t *pairs = s->pairs + msae__pair_of(n, latent, latent + 1);
    for (size_t e = s->starts[latent]; e < s->starts[latent + 1]; e++) {
        const size_t r = s->entry_row[e];
        const uint32_t *active = s->active + r * room;
        for (size_t i = s->entry_place[e] + 1; i < s->job.counts[r]; i++) {
            pairs[active[i] - latent - 1]++;
        }
    }
}

/* A task has latents of its own, to whose sums no other adds. */
static void msae__score_task(void *context, size_t task, size_t worker) {
    const msae__scorer *s = (const msae__scorer *)context;
    const size_t begin = task * MSAE__SCORE_LATENTS;
    const size_t end = msae__min(begin + MSAE__SCORE_LATENTS, s->model->n_latents);
    (void)worker;
    for (size_t j = begin; j < end; j++) {
        msae__score_add(s, j);
        if (s->pairs) msae__score_pairs(s, j);
    }
}

/* The set as a latent that is active on all rows with the value 1. */
static void msae__score_set(msae__scorer *s) {
    double *sum = s->sum + s->model->n_latents * s->width;
    for (size_t r = 0; r < s->rows; r++) {
        const float *u = s->u + r * s->width;
        s->all.rows++;
        if (s->own[r] == 0) continue;
        s->all.directed++;
        s->all.weights++;
        s->all.squares++;
        s->all.own += s->own[r];
        for (size_t i = 0; i < s->width; i++) sum[i] += (double)u[i];
    }
}

/* The weighted mean cosine of two different rows, from sums over rows. */
static double msae__mean_cosine(const msae__score_sums *sums, const double *sum, size_t width) {
    const double pairs = sums->weights * sums->weights - sums->squares;
    if (sums->directed < 2 || !(pairs > 0)) return msae__nan();
    return (msae__length_squared(sum, width) - sums->own) / pairs;
}

/* The other latent with which one shares most of the rows of both; ties: the lower one. */
static void msae__find_companion(const msae__scorer *s, size_t latent, msae_score *score) {
    const size_t n = s->model->n_latents;
    score->companion = MSAE_NO_LATENT;
    score->overlap = msae__nan();
    for (size_t p = 0; p < n && s->pairs; p++) {
        double both, overlap;
        if (p == latent) continue;
        both = s->pairs[p < latent ? msae__pair_of(n, p, latent) : msae__pair_of(n, latent, p)];
        if (both == 0) continue;
        overlap = both / ((double)score->rows + (double)s->sums[p].rows - both);
        if (score->companion != MSAE_NO_LATENT && !(overlap > score->overlap)) continue;
        score->companion = (uint32_t)p;
        score->overlap = overlap;
    }
}

/* The nearest decoder row, from a row of similarities; ties: the lower one. */
static void msae__nearest_task(void *context, size_t task, size_t worker) {
    const msae__scorer *s = (const msae__scorer *)context;
    const size_t n = s->model->n_latents, latent = s->first + task;
    const float *cosine = s->similarity.c + task * n;
    msae_score *score = &s->scores[latent];
    (void)worker;
    for (size_t p = 0; p < n && score->rows > 0; p++) {
        if (p == latent || s->sums[p].rows == 0) continue;
        if (score->nearest != MSAE_NO_LATENT && !((double)cosine[p] > score->cosine)) continue;
        score->nearest = (uint32_t)p;
        score->cosine = (double)cosine[p];
    }
}

/* From sums to a latent's score, but for the decoder's part. */
static void msae__finish_task(void *context, size_t latent, size_t worker) {
    const msae__scorer *s = (const msae__scorer *)context;
    const msae__score_sums *sums = &s->sums[latent];
    msae_score *score = &s->scores[latent];
    const double *sum = s->sum + latent * s->width, *set = s->sum + s->model->n_latents * s->width;
    (void)worker;
    score->rows = sums->rows;
    score->frequency = (double)sums->rows / (double)s->all.rows;
    score->typical = sums->rows ? sums->values / (double)sums->rows : msae__nan();
    score->largest = sums->rows ? sums->largest : msae__nan();
    score->monosemanticity =
        msae__mean_cosine(sums, sum, s->width) - msae__mean_cosine(&s->all, set, s->width);
    score->nearest = MSAE_NO_LATENT;
    score->cosine = msae__nan();
    msae__find_companion(s, latent, score);
}

static void msae__finish_scores(msae__scorer *s) {
    const msae_model *model = s->model;
    const size_t n = model->n_latents, d = model->n_inputs;
    msae__parallel_for(&model->parallel, n, msae__finish_task, s);
    memcpy(s->direction, model->decoder, n * d * sizeof *s->direction);
    msae__normalize_rows(s->direction, n, d);
    for (s->first = 0; s->first < n; s->first += MSAE__SIMILARITY_ROWS) {
        const size_t count = msae__min(MSAE__SIMILARITY_ROWS, n - s->first);
        msae__similarities(&s->similarity, &model->parallel, s->direction + s->first * d, count,
                           s->direction, n);
        msae__parallel_for(&model->parallel, count, msae__nearest_task, s);
    }
}

/* The pass, block by block. */
static msae_status msae__run_scores(msae__scorer *s, msae_error *error) {
    const msae_model *model = s->model;
    const size_t n = model->n_latents, all = (size_t)s->source->rows;
    memset(s->sums, 0, n * sizeof *s->sums);
    memset(&s->all, 0, sizeof s->all);
    memset(s->sum, 0, (n + 1) * s->width * sizeof *s->sum);
    if (s->pairs) memset(s->pairs, 0, msae__n_pairs(n) * sizeof *s->pairs);
    for (size_t first = 0; first < all; first += s->most) {
        msae_status status = msae__score_read(s, first, msae__min(s->most, all - first), error);
        if (status != MSAE_OK) return status;
        status = msae__encode_all(model, s->workspace, s->x, s->rows, &s->job, error);
        if (status != MSAE_OK) return status;
        msae__score_lists(s);
        msae__parallel_for(&model->parallel, msae__ceil_div(n, MSAE__SCORE_LATENTS),
                           msae__score_task, s);
        msae__score_set(s);
    }
    if (s->all.rows > 0) return MSAE_OK;
    return msae__fail(error, MSAE_ERROR_SHAPE, "the data has no usable row");
}

static msae_status msae__check_scores(const msae__scorer *s, size_t k, msae_error *error) {
    const uint64_t rows = s->source->rows;
    msae_status status = msae__check_width("data", s->source->cols, s->model->n_inputs, error);
    if (status == MSAE_OK) status = msae__check_floats(s->model, error);
    if (status != MSAE_OK) return status;
    if (rows == 0) return msae__fail(error, MSAE_ERROR_SHAPE, "the data has no rows");
    if (rows >= UINT32_MAX) {
        return msae__fail(error, MSAE_ERROR_SHAPE, "the data has more rows than can be counted");
    }
    if (s->by && (s->by->rows != rows || s->by->cols == 0)) {
        return msae__fail_at(error, MSAE_ERROR_SHAPE, MSAE_NO_POSITION, "the other embeddings have",
                             s->by->rows, " rows, not as many as the data");
    }
    if (k > s->model->n_latents) {
        return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "k =", k,
                             " is more than the number of latents");
    }
    return MSAE_OK;
}

static int msae__skips_bad(const msae_source *source) {
    return source && source->data && source->data->skip_bad;
}

MSAE_API msae_status msae_score_latents(const msae_model *model, const msae_source *source,
                                        const msae_score_desc *desc, msae_score *scores,
                                        double *set_cosine, msae_error *error) {
    msae_score_desc plain;
    msae__memory memory;
    msae__scorer s;
    msae_status status;
    memset(&plain, 0, sizeof plain);
    memset(&s, 0, sizeof s);
    if (!desc) desc = &plain;
    s.model = model;
    s.source = source;
    s.by = desc->by;
    status = msae__check_scores(&s, desc->k, error);
    if (status != MSAE_OK) return status;
    s.scores = scores;
    s.skip_bad = desc->skip_bad || msae__skips_bad(source) || msae__skips_bad(desc->by);
    s.with_pairs = !desc->no_companions;
    s.width = s.by ? s.by->cols : source->cols;
    s.job.k = desc->k;
    s.job.room = desc->k;
    if (s.job.room == 0 && !msae__is_batch_topk(model->recipe)) s.job.room = model->k;
    if (s.job.room == 0) s.job.room = model->n_latents;
    s.job.sink = msae__sink_codes;
    s.most = msae__min(MSAE__SCORE_ROWS, MSAE__SCORE_CODES / s.job.room);
    s.most = msae__min(msae__max(s.most, MSAE__INFERENCE_ROWS), (size_t)source->rows);
    status = msae__take_memory(&memory, &model->allocator, msae__score_layout, &s, error);
    if (status != MSAE_OK) return status;
    s.job.names = s.name;
    status = msae__run_scores(&s, error);
    if (status == MSAE_OK) msae__finish_scores(&s);
    if (status == MSAE_OK && set_cosine) {
        *set_cosine = msae__mean_cosine(&s.all, s.sum + model->n_latents * s.width, s.width);
    }
    msae__free_memory(&memory, &model->allocator);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   >>index Search: the cosine of sparse codes through an inverted index, or of the rows themselves

   cos(q, z_r) = sum of q_l z_rl over the query's latents l / (||q|| ||z_r||). Each latent lists the
   rows on which it is active, ascending: a query reads the lists of its own latents and no others.
   Sums are taken in the order of the query.
   ------------------------------------------------------------------------------------------ */

/* What indices of before 0.6.0 have of their model, by which they are still known. */
static uint64_t msae__old_fingerprint(const msae_model *model) {
    const size_t n = model->n_latents, d = model->n_inputs;
    const float shape[] = {(float)d,
                           (float)n,
                           (float)model->recipe,
                           (float)model->activation,
                           (float)model->nesting[model->n_levels - 1],
                           (float)model->normalize,
                           model->soft_cap,
                           model->threshold,
                           model->scale};
    uint64_t hash = msae__hash_floats(1, shape, sizeof shape / sizeof *shape);
    hash = msae__hash_floats(hash, model->mean, d);
    hash = msae__hash_floats(hash, model->pre_bias, d);
    hash = msae__hash_floats(hash, model->latent_bias, n);
    if (model->log_threshold) hash = msae__hash_floats(hash, model->log_threshold, n);
    if (model->weights == MSAE_F32) return msae__hash_floats(hash, model->encoder, n * d);
    if (model->encoder_scale) hash = msae__hash_floats(hash, model->encoder_scale, n);
    for (size_t left = n * d * msae_dtype_bytes(model->weights), bytes; left > 0; left -= bytes) {
        float piece[64] = {0};
        bytes = msae__min(left, sizeof piece);
        memcpy(piece, (const unsigned char *)model->small_encoder + (left - bytes), bytes);
        hash = msae__hash_floats(hash, piece, sizeof piece / sizeof *piece);
    }
    return hash;
}

/* The same over rows, whatever type they have in memory. */
static uint64_t msae__data_fingerprint(const msae_data *data) {
    float chunk[MSAE__CHUNK];
    uint64_t hash = 1;
    for (size_t r = 0; r < data->rows; r++) {
        for (size_t c = 0; c < data->cols; c += MSAE__CHUNK) {
            const size_t count = msae__min(MSAE__CHUNK, data->cols - c);
            msae__data_values(data, r * data->cols + c, count, chunk);
            hash = msae__hash_floats(hash, chunk, count);
        }
    }
    return hash;
}

/* By checksums of the model and of the data, which a file has too. */
MSAE_API msae_status msae_index_check(const msae_index *index, const msae_model *model,
                                      const msae_data *data, msae_error *error) {
    uint64_t checksum;
    if (index->n_latents != model->n_latents) {
        return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION,
                             "was made with another model, of", index->n_latents, " latents");
    }
    checksum = msae_model_checksum(model);
    if (index->model != checksum && index->model != msae__old_fingerprint(model)) {
        if (error) {
            msae__text text = msae__text_in(error->message, sizeof error->message);
            error->code = MSAE_ERROR_ARGUMENT;
            error->position = MSAE_NO_POSITION;
            msae__put(&text, "is of the model ");
            msae__put_hex(&text, index->model);
            msae__put(&text, ", this one is ");
            msae__put_hex(&text, checksum);
            msae__put(&text, ": make it again");
        }
        return MSAE_ERROR_ARGUMENT;
    }
    if (data && index->rows != data->rows) {
        return msae__fail_at(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "was made from",
                             index->rows, " other rows");
    }
    if (data && index->data != msae__data_fingerprint(data)) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "was made from other rows");
    }
    return MSAE_OK;
}

/* The arrays of an index whose sizes are set. */
static void msae__index_layout(void *context, msae__arena *arena) {
    msae_index *index = (msae_index *)context;
    index->starts = MSAE__TAKE(arena, uint64_t, index->n_latents + 1);
    index->entry_row = MSAE__TAKE(arena, uint32_t, index->entries);
    index->entry_value = MSAE__TAKE(arena, float, index->entries);
    index->counts = MSAE__TAKE(arena, uint32_t, index->rows);
    index->norms = MSAE__TAKE(arena, double, index->rows);
}

static msae_status msae__index_place(msae_index *index, msae_error *error) {
    msae__memory memory;
    const msae_status status =
        msae__take_memory(&memory, &index->allocator, msae__index_layout, index, error);
    index->memory = memory.memory;
    index->memory_bytes = memory.bytes;
    return status;
}

/* Always in the order of the latents, so that a loaded index has the bits of the one saved. */
static void msae__index_norms(msae_index *index) {
    memset(index->norms, 0, index->rows * sizeof *index->norms);
    for (size_t e = 0; e < index->entries; e++) {
        const double value = index->entry_value[e];
        index->norms[index->entry_row[e]] += value * value;
    }
    for (size_t r = 0; r < index->rows; r++) index->norms[r] = sqrt(index->norms[r]);
}

MSAE_API void msae_index_free(msae_index *index) {
    msae__free(&index->allocator, index->memory, index->memory_bytes);
    memset(index, 0, sizeof *index);
}

/* Codes of row after row while their number is not known. */
#define MSAE__BLOCK_CODES 8192

typedef struct msae__code_block msae__code_block;
struct msae__code_block {
    msae__code_block *next;
    size_t used;
    msae_code codes[MSAE__BLOCK_CODES];
};

typedef struct msae__index_builder {
    msae__pass pass;  /* whose job has a tile's codes [MSAE__INFERENCE_ROWS][room] and counts */
    uint32_t *counts; /* [rows] */
    size_t entries;
    msae__code_block *first, *last;
} msae__index_builder;

/* A tile's codes, and how many each row of the data has. */
static void msae__builder_layout(void *context, msae__arena *arena) {
    msae__index_builder *builder = (msae__index_builder *)context;
    msae__encode_job *job = &builder->pass.job;
    msae__pass_layout(&builder->pass, arena);
    job->codes = MSAE__TAKE_ROWS(arena, msae_code, MSAE__INFERENCE_ROWS, job->room);
    job->counts = MSAE__TAKE(arena, size_t, MSAE__INFERENCE_ROWS);
    builder->counts = MSAE__TAKE(arena, uint32_t, builder->pass.data->rows);
}

/* Adds the codes of a row that are not 0; 0 when there is no memory. */
static int msae__builder_add(msae__index_builder *builder, const msae_allocator *allocator,
                             const msae_code *codes, size_t count, size_t row) {
    for (size_t e = 0; e < count; e++) {
        msae__code_block *block = builder->last;
        if (codes[e].value == 0) continue;
        if (!block || block->used == MSAE__BLOCK_CODES) {
            block = (msae__code_block *)msae__alloc(allocator, sizeof *block);
            if (!block) return 0;
            block->next = NULL;
            block->used = 0;
            *(builder->last ? &builder->last->next : &builder->first) = block;
            builder->last = block;
        }
        block->codes[block->used++] = codes[e];
        builder->counts[row]++;
        builder->entries++;
    }
    return 1;
}

/* Row after row to latent after latent: a counting sort, which keeps the rows' order. */
static void msae__index_fill(msae_index *index, const msae__index_builder *builder) {
    size_t row = 0, left = builder->counts[0];
    memset(index->starts, 0, (index->n_latents + 1) * sizeof *index->starts);
    for (const msae__code_block *block = builder->first; block; block = block->next) {
        for (size_t e = 0; e < block->used; e++) index->starts[block->codes[e].latent + 1]++;
    }
    for (size_t j = 0; j < index->n_latents; j++) index->starts[j + 1] += index->starts[j];
    for (const msae__code_block *block = builder->first; block; block = block->next) {
        for (size_t e = 0; e < block->used; e++) {
            const size_t at = (size_t)index->starts[block->codes[e].latent]++;
            while (left == 0) left = builder->counts[++row];
            left--;
            index->entry_row[at] = (uint32_t)row;
            index->entry_value[at] = block->codes[e].value;
        }
    }
    for (size_t j = index->n_latents; j > 0; j--) index->starts[j] = index->starts[j - 1];
    index->starts[0] = 0;
    memcpy(index->counts, builder->counts, index->rows * sizeof *index->counts);
    msae__index_norms(index);
}

/* Passes over the data and collects its codes, row after row. */
static msae_status msae__index_encode(msae__index_builder *builder, msae_error *error) {
    const msae__pass *pass = &builder->pass;
    msae_status status = MSAE_OK;
    while (msae__pass_next(&builder->pass, SIZE_MAX, &status, error)) {
        for (size_t r = 0; r < pass->rows; r++) {
            if (!msae__builder_add(builder, &pass->model->allocator,
                                   pass->job.codes + r * pass->job.room, pass->job.counts[r],
                                   pass->row[r])) {
                return msae__fail_memory(error);
            }
        }
    }
    return status;
}

/* The number of codes is known: takes memory for the index and fills it. */
static msae_status msae__index_finish(msae_index *index, const msae__index_builder *builder,
                                      msae_error *error) {
    const msae__pass *pass = &builder->pass;
    msae_status status;
    index->rows = pass->data->rows;
    index->n_latents = pass->model->n_latents;
    index->k = pass->job.k;
    index->refine = pass->job.refined ? (size_t)pass->model->refine : 0;
    index->entries = builder->entries;
    index->allocator = pass->model->allocator;
    index->parallel = pass->model->parallel;
    status = msae__index_place(index, error);
    if (status != MSAE_OK) return status;
    index->model = msae_model_checksum(pass->model);
    index->data = msae__data_fingerprint(pass->data);
    msae__index_fill(index, builder);
    return MSAE_OK;
}

/* Two steps: codes in the order of the rows, then in that of the latents. */
MSAE_API msae_status msae_index_build(msae_index *index, const msae_model *model,
                                      const msae_data *data, size_t k, msae_error *error) {
    msae__memory memory;
    msae__index_builder builder;
    msae_status status = msae__check_pass(model, data, k, error);
    memset(index, 0, sizeof *index);
    if (status != MSAE_OK) return status;
    if (k == 0 && !msae__is_batch_topk(model->recipe)) k = model->k; /* as it is now */
    if (data->rows >= UINT32_MAX) {
        return msae__fail(error, MSAE_ERROR_SHAPE,
                          "the data has more rows than an index can number");
    }
    memset(&builder, 0, sizeof builder);
    msae__pass_begin(&builder.pass, model, data, k, msae__sink_codes);
    builder.pass.job.room = k ? k : model->n_latents;
    status = msae__take_memory(&memory, &model->allocator, msae__builder_layout, &builder, error);
    if (status != MSAE_OK) return status;
    memset(builder.counts, 0, data->rows * sizeof *builder.counts);
    status = msae__index_encode(&builder, error);
    if (status == MSAE_OK) status = msae__index_finish(index, &builder, error);
    if (status != MSAE_OK) memset(index, 0, sizeof *index);
    while (builder.first) {
        msae__code_block *next = builder.first->next;
        msae__free(&model->allocator, builder.first, sizeof *builder.first);
        builder.first = next;
    }
    msae__free_memory(&memory, &model->allocator);
    return status;
}

/* Rows whose sums are in the cache at once; also what a worker takes of a query. */
#define MSAE__QUERY_ROWS 8192

typedef struct msae__query {
    const msae_index *index;
    const msae_code *codes;
    size_t count, top;
    double norm;
    uint8_t *seen;  /* a bit for each latent */
    double *sums;   /* for each worker [MSAE__QUERY_ROWS] */
    msae_hit *hits; /* for each block of rows [room] */
    size_t room, *found;
} msae__query;

/* Blocks of rows each have hits of their own, which are merged in the end. */
static void msae__query_layout(const msae_index *index, size_t top, msae__arena *arena,
                               msae__query *query) {
    const size_t blocks = msae__ceil_div(index->rows, MSAE__QUERY_ROWS);
    const size_t rows = msae__min(index->rows, MSAE__QUERY_ROWS);
    query->room = msae__min(top, rows);
    query->seen = MSAE__TAKE(arena, uint8_t, index->n_latents / 8 + 1);
    query->sums = MSAE__TAKE_ROWS(arena, double, msae__workers(&index->parallel), rows);
    query->hits = MSAE__TAKE_ROWS(arena, msae_hit, blocks, query->room);
    query->found = MSAE__TAKE(arena, size_t, blocks);
}

MSAE_API size_t msae_index_workspace_bytes(const msae_index *index, size_t top) {
    msae__query query;
    msae__arena arena = msae__arena_over(NULL);
    size_t bytes;
    msae__query_layout(index, top, &arena, &query);
    return msae__arena_bytes(&arena, &bytes) ? bytes : SIZE_MAX;
}

/* The first entry of a latent at or beyond a row. */
static size_t msae__first_entry(const msae_index *index, size_t latent, size_t row) {
    size_t low = (size_t)index->starts[latent], high = (size_t)index->starts[latent + 1];
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (index->entry_row[middle] < row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* A block of rows: sums of q_l z_rl in double, then the cosines. Rows that share no latent with the
   query have the sum 0 and are no hits. */
static void msae__query_task(void *context, size_t task, size_t worker) {
    const msae__query *query = (const msae__query *)context;
    const msae_index *index = query->index;
    const size_t first = task * MSAE__QUERY_ROWS;
    const size_t rows = msae__min(MSAE__QUERY_ROWS, index->rows - first);
    double *sums = query->sums + worker * msae__min(index->rows, MSAE__QUERY_ROWS);
    msae_hit *hits = query->hits + task * query->room;
    size_t found = 0;
    memset(sums, 0, rows * sizeof *sums);
    for (size_t i = 0; i < query->count; i++) {
        const size_t latent = query->codes[i].latent, end = (size_t)index->starts[latent + 1];
        const double value = query->codes[i].value;
        for (size_t e = msae__first_entry(index, latent, first); e < end; e++) {
            const size_t row = index->entry_row[e] - first;
            if (row >= rows) break;
            sums[row] += value * index->entry_value[e];
        }
    }
    for (size_t r = 0; r < rows; r++) {
        float value;
        if (sums[r] == 0) continue;
        value = (float)(sums[r] / (query->norm * index->norms[first + r]));
        if (value != 0) msae__offer_hit(hits, &found, query->room, first + r, value);
    }
    query->found[task] = found;
}

/* Latents that exist, once each, with finite values; their length. */
static msae_status msae__query_check(msae__query *query, msae_error *error) {
    const size_t n = query->index->n_latents;
    double squares = 0;
    memset(query->seen, 0, n / 8 + 1);
    for (size_t i = 0; i < query->count; i++) {
        const uint32_t latent = query->codes[i].latent;
        const double value = query->codes[i].value;
        if (latent >= n) {
            return msae__fail_at(error, MSAE_ERROR_ARGUMENT, i, "the index has no latent", latent,
                                 "");
        }
        if (query->seen[latent / 8] >> latent % 8 & 1) {
            return msae__fail_at(error, MSAE_ERROR_ARGUMENT, i, "latent", latent,
                                 " is twice in the query");
        }
        query->seen[latent / 8] = (uint8_t)(query->seen[latent / 8] | 1u << latent % 8);
        if (!msae__is_finite(query->codes[i].value)) {
            return msae__fail_at(error, MSAE_ERROR_NOT_FINITE, i, "latent", latent,
                                 " is NaN or Inf in the query");
        }
        squares += value * value;
    }
    query->norm = sqrt(squares);
    return MSAE_OK;
}

/* All blocks, then the best of their best. */
MSAE_API msae_status msae_index_query(const msae_index *index, void *workspace,
                                      const msae_code *codes, size_t count, size_t top,
                                      msae_hit *hits, size_t *n_hits, msae_error *error) {
    const size_t blocks = msae__ceil_div(index->rows, MSAE__QUERY_ROWS);
    msae__query query;
    msae__arena arena = msae__arena_over(workspace);
    msae_status status;
    MSAE_ASSERT(index->starts && workspace && hits && n_hits);
    *n_hits = 0;
    if (top == 0) return msae__fail(error, MSAE_ERROR_ARGUMENT, "top is 0");
    query.index = index;
    query.codes = codes;
    query.count = count;
    msae__query_layout(index, top, &arena, &query);
    status = msae__query_check(&query, error);
    if (status != MSAE_OK || query.norm == 0) return status;
    msae__parallel_for(&index->parallel, blocks, msae__query_task, &query);
    for (size_t b = 0; b < blocks; b++) {
        for (size_t e = 0; e < query.found[b]; e++) {
            const msae_hit hit = query.hits[b * query.room + e];
            msae__offer_hit(hits, n_hits, top, hit.row, hit.value);
        }
    }
    msae__sort_hits(hits, *n_hits);
    return MSAE_OK;
}

/* Rows of a set that are compared at once, and those of them that a worker takes to make them
   ready. */
#define MSAE__NEAREST_ROWS 1024
#define MSAE__NEAREST_CHUNK 64

typedef struct msae__nearest {
    const msae_model *model;
    const msae_data *data;
    size_t first, rows;
    float *x;       /* [MSAE__NEAREST_ROWS][d] unit rows */
    uint8_t *state; /* [MSAE__NEAREST_ROWS]: 1 has a cosine, 0 is zero, 2 is not finite */
    float *queries; /* [MSAE__SIMILARITY_ROWS][d] unit rows */
    msae__matmul similarity;
    msae_hit *hits; /* of the first query of the group */
    size_t *counts, top;
} msae__nearest;

/* Some rows of the data, some queries, and the products of both. */
static void msae__nearest_layout(void *context, msae__arena *arena) {
    msae__nearest *nearest = (msae__nearest *)context;
    const size_t d = nearest->data->cols;
    nearest->x = MSAE__TAKE_ROWS(arena, float, MSAE__NEAREST_ROWS, d);
    nearest->state = MSAE__TAKE(arena, uint8_t, MSAE__NEAREST_ROWS);
    nearest->queries = MSAE__TAKE_ROWS(arena, float, MSAE__SIMILARITY_ROWS, d);
    msae__similarity_layout(nearest->model, MSAE__SIMILARITY_ROWS, MSAE__NEAREST_ROWS, d, arena,
                            &nearest->similarity);
}

/* A row to unit length in place; what it was: 1 has a cosine, 0 is zero, 2 is not finite. Where
   float32 holds the square of its length, it is at hand faster, and says that all is finite. */
static uint8_t msae__nearest_unit(const msae_kernels *kernels, float *x, size_t d) {
    const float squares = kernels->dot(x, x, d);
    uint32_t bits = 0;
    if (msae__is_finite(squares) && squares > 1e-20f && squares < 1e30f) {
        const float inverse = (float)(1 / sqrt((double)squares));
        for (size_t i = 0; i < d; i++) x[i] *= inverse;
        return 1;
    }
    for (size_t i = 0; i < d; i++) bits |= msae__float_bits(x[i]) & 0x7fffffffu;
    if (!msae__row_is_finite(x, d)) return 2;
    msae__normalize_rows(x, 1, d);
    return bits != 0;
}

/* A chunk of rows read, checked and brought to unit length. */
static void msae__nearest_read_task(void *context, size_t task, size_t worker) {
    const msae__nearest *nearest = (const msae__nearest *)context;
    const size_t d = nearest->data->cols, begin = task * MSAE__NEAREST_CHUNK;
    const size_t end = msae__min(begin + MSAE__NEAREST_CHUNK, nearest->rows);
    (void)worker;
    msae_data_read(nearest->data, nearest->first + begin, end - begin, nearest->x + begin * d);
    for (size_t r = begin; r < end; r++) {
        nearest->state[r] = msae__nearest_unit(nearest->model->kernels, nearest->x + r * d, d);
    }
}

/* A query takes its hits among the rows that were read. */
static void msae__nearest_select_task(void *context, size_t task, size_t worker) {
    const msae__nearest *nearest = (const msae__nearest *)context;
    const float *similar = nearest->similarity.c + task * nearest->rows;
    msae_hit *hits = nearest->hits + task * nearest->top;
    (void)worker;
    for (size_t r = 0; r < nearest->rows; r++) {
        if (!nearest->state[r]) continue;
        msae__offer_hit(hits, &nearest->counts[task], nearest->top, nearest->first + r, similar[r]);
    }
}

/* Reads the next rows; those with NaN or Inf, where the data leaves them out, become zeros without
   a cosine, as a product would spread a NaN. */
static msae_status msae__nearest_read(msae__nearest *nearest, msae_error *error) {
    const size_t d = nearest->data->cols;
    nearest->rows = msae__min(MSAE__NEAREST_ROWS, nearest->data->rows - nearest->first);
    msae__parallel_for(&nearest->model->parallel,
                       msae__ceil_div(nearest->rows, MSAE__NEAREST_CHUNK), msae__nearest_read_task,
                       nearest);
    for (size_t r = 0; r < nearest->rows; r++) {
        if (nearest->state[r] != 2) continue;
        if (!nearest->data->skip_bad) {
            return msae__fail_data_row(error, nearest->data, nearest->first + r);
        }
        nearest->state[r] = 0;
        memset(nearest->x + r * d, 0, d * sizeof(float));
    }
    return MSAE_OK;
}

/* A group of at most MSAE__SIMILARITY_ROWS queries over all rows. */
static msae_status msae__nearest_group(msae__nearest *nearest, size_t queries, msae_error *error) {
    const msae_parallel *parallel = &nearest->model->parallel;
    for (nearest->first = 0; nearest->first < nearest->data->rows;
         nearest->first += MSAE__NEAREST_ROWS) {
        const msae_status status = msae__nearest_read(nearest, error);
        if (status != MSAE_OK) return status;
        msae__similarities(&nearest->similarity, parallel, nearest->queries, queries, nearest->x,
                           nearest->rows);
        msae__parallel_for(parallel, queries, msae__nearest_select_task, nearest);
    }
    return MSAE_OK;
}

static msae_status msae__check_nearest(const msae_data *data, const float *queries,
                                       size_t n_queries, size_t top, msae_error *error) {
    if (top == 0) return msae__fail(error, MSAE_ERROR_ARGUMENT, "top is 0");
    if (data->rows == 0 || data->cols == 0) {
        return msae__fail(error, MSAE_ERROR_SHAPE, "the data has no rows");
    }
    for (size_t q = 0; q < n_queries; q++) {
        if (!msae__row_is_finite(queries + q * data->cols, data->cols)) {
            return msae__fail_at(error, MSAE_ERROR_NOT_FINITE, q, "query", q, " has a NaN or Inf");
        }
    }
    return MSAE_OK;
}

/* cos(q, x_r) = <q / ||q||, x_r / ||x_r||> for groups of queries by blocks of rows: a product of
   matrices, for which the data is read once for each group. */
MSAE_API msae_status msae_nearest_rows(const msae_model *model, const msae_data *data,
                                       const float *queries, size_t n_queries, size_t top,
                                       msae_hit *hits, size_t *counts, msae_error *error) {
    const size_t d = data->cols;
    msae__memory memory;
    msae__nearest nearest;
    msae_status status = msae__check_nearest(data, queries, n_queries, top, error);
    if (status != MSAE_OK) return status;
    memset(&nearest, 0, sizeof nearest);
    nearest.model = model;
    nearest.data = data;
    nearest.top = top;
    status = msae__take_memory(&memory, &model->allocator, msae__nearest_layout, &nearest, error);
    if (status != MSAE_OK) return status;
    memset(counts, 0, n_queries * sizeof *counts);
    for (size_t q = 0; q < n_queries && status == MSAE_OK; q += MSAE__SIMILARITY_ROWS) {
        const size_t group = msae__min(MSAE__SIMILARITY_ROWS, n_queries - q);
        memcpy(nearest.queries, queries + q * d, group * d * sizeof *queries);
        msae__normalize_rows(nearest.queries, group, d);
        nearest.hits = hits + q * top;
        nearest.counts = counts + q;
        status = msae__nearest_group(&nearest, group, error);
    }
    for (size_t q = 0; q < n_queries && status == MSAE_OK; q++) {
        if (msae__sum_squares(queries + q * d, d) == 0) counts[q] = 0;
        msae__sort_hits(hits + q * top, counts[q]);
    }
    msae__free_memory(&memory, &model->allocator);
    return status;
}

static void msae__add_index_tensors(msae__file *file, const msae_index *index) {
    msae__add_tensor(file, "starts", MSAE_U64, index->starts, 1, index->n_latents + 1, 0);
    msae__add_tensor(file, "rows", MSAE_U32, index->entry_row, 1, index->entries, 0);
    msae__add_tensor(file, "values", MSAE_F32, index->entry_value, 1, index->entries, 0);
    msae__add_tensor(file, "counts", MSAE_U32, index->counts, 1, index->rows, 0);
}

static void msae__describe_index(const msae_index *index, msae__file *file) {
    msae__notes *notes = &file->notes;
    memset(file, 0, sizeof *file);
    notes->at = msae__text_in(notes->text, sizeof notes->text);
    msae__note_number(notes, "msae.data", index->data);
    msae__note(notes, "msae.format", "msae-index");
    msae__note_number(notes, "msae.k", index->k);
    msae__note_number(notes, "msae.model", index->model);
    if (index->refine > 0) msae__note_number(notes, "msae.refine", index->refine);
    msae__note(notes, "msae.version", MSAE_VERSION);
    msae__add_index_tensors(file, index);
    msae__finish_description(file);
}

MSAE_API msae_status msae_index_save(const msae_index *index, msae_writer *writer,
                                     msae_error *error) {
    msae__file file;
    msae__describe_index(index, &file);
    return msae__write_all(msae__write_content, &file, writer, error);
}

/* The length of a list, or 0 with an error in *status. */
static size_t msae__index_extent(const msae_safetensors *file, const char *name,
                                 msae_status *status, msae_error *error) {
    const msae_tensor *tensor = msae_safetensors_find(file, name);
    if (tensor && tensor->rank == 1) return tensor->shape[0];
    *status = msae__fail_text(error, MSAE_ERROR_FORMAT, tensor ? tensor->offset : MSAE_NO_POSITION,
                              "tensor ", name, tensor ? " is not a list" : " is missing");
    return 0;
}

/* What the header says; the sizes are those of tensors that are really there. */
static msae_status msae__index_header(msae_index *index, msae_safetensors *file,
                                      msae_error *error) {
    msae_status status = msae__check_kind(file, "msae-index", "is not an index of msae.h", error);
    msae__file wanted;
    size_t starts;
    int ok = 1;
    if (status != MSAE_OK) return status;
    index->k = msae__read_size(file, "msae.k", &ok);
    index->model = msae__read_number(file, "msae.model", &ok);
    index->data = msae__read_number(file, "msae.data", &ok);
    if (msae__find_key(file, "msae.refine")) {
        index->refine = msae__read_size(file, "msae.refine", &ok);
        ok &= index->refine >= 1 && index->refine <= MSAE_MAX_EXCHANGES + 1;
    }
    if (!ok) {
        return msae__fail(error, MSAE_ERROR_FORMAT,
                          "a number in __metadata__ is missing or malformed");
    }
    starts = msae__index_extent(file, "starts", &status, error);
    if (status == MSAE_OK) index->entries = msae__index_extent(file, "rows", &status, error);
    if (status == MSAE_OK) index->rows = msae__index_extent(file, "counts", &status, error);
    if (status != MSAE_OK) return status;
    if (starts < 2 || starts - 1 >= UINT32_MAX || index->rows == 0 || index->rows >= UINT32_MAX) {
        return msae__fail(error, MSAE_ERROR_FORMAT,
                          "the number of latents or rows is out of range");
    }
    index->n_latents = starts - 1;
    if (index->k > index->n_latents) {
        return msae__fail(error, MSAE_ERROR_FORMAT, "k is more than the number of latents");
    }
    memset(&wanted, 0, sizeof wanted);
    msae__add_index_tensors(&wanted, index);
    return msae__check_tensors(file, &wanted.list, error);
}

/* Whether what was read is an index: `left` [rows] starts as the rows' counts and must come out 0.
   Uses index->norms for that, which are not there yet. */
static msae_status msae__index_verify(const msae_index *index, uint32_t *left, msae_error *error) {
    if (index->starts[0] != 0) {
        return msae__fail(error, MSAE_ERROR_FORMAT, "the lists do not start at 0");
    }
    for (size_t j = 0; j < index->n_latents; j++) {
        if (index->starts[j + 1] < index->starts[j] || index->starts[j + 1] > index->entries) {
            return msae__fail_at(error, MSAE_ERROR_FORMAT, MSAE_NO_POSITION, "the list of latent",
                                 j, " ends before it starts or behind all entries");
        }
        for (size_t e = (size_t)index->starts[j]; e < index->starts[j + 1]; e++) {
            const uint32_t row = index->entry_row[e];
            if (row >= index->rows || (e > index->starts[j] && row <= index->entry_row[e - 1])) {
                return msae__fail_at(error, MSAE_ERROR_FORMAT, MSAE_NO_POSITION,
                                     "the rows of latent", j, " do not ascend within the index");
            }
            if (index->entry_value[e] == 0) {
                return msae__fail_at(error, MSAE_ERROR_FORMAT, MSAE_NO_POSITION, "latent", j,
                                     " has an entry of 0");
            }
            left[row]--;
        }
    }
    if (index->starts[index->n_latents] != index->entries) {
        return msae__fail(error, MSAE_ERROR_FORMAT, "the lists do not end with the entries");
    }
    for (size_t r = 0; r < index->rows; r++) {
        if (left[r] != 0) {
            return msae__fail_at(error, MSAE_ERROR_FORMAT, r, "row", r,
                                 " has another number of entries than its count says");
        }
    }
    return MSAE_OK;
}

static msae_status msae__load_index(msae_index *index, msae_safetensors *file,
                                    const msae_reader *reader, msae_error *error) {
    msae__file wanted;
    msae_status status = msae__index_header(index, file, error);
    if (status == MSAE_OK) status = msae__index_place(index, error);
    if (status != MSAE_OK) return status;
    memset(&wanted, 0, sizeof wanted);
    msae__add_index_tensors(&wanted, index);
    status = msae__read_tensors(reader, file, &wanted.list, &index->allocator, error);
    if (status == MSAE_OK) {
        uint32_t *left = (uint32_t *)(void *)index->norms;
        memcpy(left, index->counts, index->rows * sizeof *left);
        status = msae__index_verify(index, left, error);
    }
    if (status == MSAE_OK) msae__index_norms(index);
    return status;
}

MSAE_API msae_status msae_index_load(msae_index *index, msae_reader reader,
                                     const msae_load_desc *desc, msae_error *error) {
    msae_safetensors file;
    msae_status status;
    memset(index, 0, sizeof *index);
    status = msae__begin_reading(&reader, &file, desc ? &desc->host.allocator : NULL, error);
    if (status != MSAE_OK) return status;
    if (desc) {
        index->allocator = desc->host.allocator;
        index->parallel = desc->host.parallel;
    }
    status = msae__load_index(index, &file, &reader, error);
    msae_safetensors_close(&file);
    msae__close_reader(&reader);
    if (status != MSAE_OK) msae_index_free(index);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   >>parents The concept tree: p of latents j and i is the share of j's strong rows on which i is
   active, lift p over the share of all rows

   The index lists the rows of each latent; here each row's latents are listed too. The latents of
   all strong rows of a latent are then counted, in whole numbers, and only those that were counted
   are looked at. Tasks are blocks of latents, each with edges of its own.
   ------------------------------------------------------------------------------------------ */

typedef struct msae__tree {
    const msae_index *index;
    msae_tree_desc desc;   /* with its defaults */
    size_t rows;           /* with codes */
    size_t most_strong;    /* rows of any latent */
    size_t *row_starts;    /* [index->rows + 1]: row r has the latents row_starts[r] .. */
    uint32_t *row_latents; /* [entries] */
    size_t *found;         /* [n]: edges of each latent, of which latent j has .. */
    msae_edge *edges;      /* [n][parents] .. these */
    uint32_t *together;    /* for each worker [n]: strong rows on which each latent is active .. */
    uint32_t *counted;     /* for each worker [n]: .. the latents where that is not 0 */
    msae_hit *strong;      /* for each worker [most_strong] */
} msae__tree;

static uint32_t msae__index_support(const msae_index *index, size_t latent) {
    return (uint32_t)(index->starts[latent + 1] - index->starts[latent]);
}

static size_t msae__strong_rows(const msae_index *index, size_t latent) {
    return ((size_t)msae__index_support(index, latent) + 1) / 2;
}

static void msae__tree_layout(void *context, msae__arena *arena) {
    msae__tree *tree = (msae__tree *)context;
    const msae_index *index = tree->index;
    const size_t workers = msae__workers(&index->parallel);
    tree->row_starts = MSAE__TAKE(arena, size_t, index->rows + 1);
    tree->row_latents = MSAE__TAKE(arena, uint32_t, index->entries);
    tree->found = MSAE__TAKE(arena, size_t, index->n_latents);
    tree->together = MSAE__TAKE_ROWS(arena, uint32_t, workers, index->n_latents);
    tree->counted = MSAE__TAKE_ROWS(arena, uint32_t, workers, index->n_latents);
    tree->strong = MSAE__TAKE_ROWS(arena, msae_hit, workers, tree->most_strong);
}

/* Latent after latent to row after row: a counting sort. */
static void msae__list_row_latents(const msae__tree *tree) {
    const msae_index *index = tree->index;
    size_t *starts = tree->row_starts;
    starts[0] = 0;
    for (size_t r = 0; r < index->rows; r++) starts[r + 1] = starts[r] + index->counts[r];
    for (size_t j = 0; j < index->n_latents; j++) {
        for (size_t e = (size_t)index->starts[j]; e < index->starts[j + 1]; e++) {
            tree->row_latents[starts[index->entry_row[e]]++] = (uint32_t)j;
        }
    }
    for (size_t r = index->rows; r > 0; r--) starts[r] = starts[r - 1];
    starts[0] = 0;
}

/* 1 when a is a better parent than b. */
static int msae__edge_before(const msae_edge *a, const msae_edge *b) {
    if (a->p != b->p) return a->p > b->p;
    if (a->rows_parent != b->rows_parent) return a->rows_parent < b->rows_parent;
    return a->parent < b->parent;
}

/* Keeps the best of a latent's edges, in order. */
static void msae__offer_edge(const msae__tree *tree, const msae_edge *edge) {
    const size_t room = tree->desc.parents;
    msae_edge *edges = tree->edges + edge->latent * room;
    size_t *found = &tree->found[edge->latent], at = *found;
    if (at < room) {
        ++*found;
    } else if (!msae__edge_before(edge, &edges[--at])) {
        return;
    }
    for (; at > 0 && msae__edge_before(edge, &edges[at - 1]); at--) edges[at] = edges[at - 1];
    edges[at] = *edge;
}

/* Offers latent j every latent that is active on its strong rows, of which there are `strong`. */
static void msae__offer_edges(const msae__tree *tree, size_t j, size_t strong,
                              const uint32_t *together, const uint32_t *counted, size_t count) {
    const msae_tree_desc *desc = &tree->desc;
    const double rows_needed = (double)desc->ratio * msae__index_support(tree->index, j);
    for (size_t i = 0; i < count; i++) {
        const double p = (double)together[counted[i]] / (double)strong;
        msae_edge edge;
        edge.latent = (uint32_t)j;
        edge.parent = counted[i];
        edge.rows_latent = msae__index_support(tree->index, j);
        edge.rows_parent = msae__index_support(tree->index, edge.parent);
        edge.p = (float)p;
        edge.lift = (float)(p * (double)tree->rows / edge.rows_parent);
        if (edge.rows_parent >= rows_needed && edge.p >= desc->p && edge.lift >= desc->lift) {
            msae__offer_edge(tree, &edge);
        }
    }
}

static void msae__find_edges(const msae__tree *tree, size_t j, size_t worker) {
    const msae_index *index = tree->index;
    const size_t strong = msae__strong_rows(index, j);
    msae_hit *hits = tree->strong + worker * tree->most_strong;
    uint32_t *together = tree->together + worker * index->n_latents;
    uint32_t *counted = tree->counted + worker * index->n_latents;
    size_t kept = 0, count = 0;
    if (strong < tree->desc.strong_rows) return;
    for (size_t e = (size_t)index->starts[j]; e < index->starts[j + 1]; e++) {
        msae__offer_hit(hits, &kept, strong, index->entry_row[e], index->entry_value[e]);
    }
    for (size_t i = 0; i < kept; i++) {
        const size_t row = hits[i].row;
        for (size_t e = tree->row_starts[row]; e < tree->row_starts[row + 1]; e++) {
            const uint32_t latent = tree->row_latents[e];
            if (together[latent]++ == 0) counted[count++] = latent;
        }
    }
    msae__offer_edges(tree, j, strong, together, counted, count);
    for (size_t i = 0; i < count; i++) together[counted[i]] = 0;
}

static void msae__tree_task(void *context, size_t task, size_t worker) {
    const msae__tree *tree = (const msae__tree *)context;
    const size_t begin = task * MSAE__LATENT_BLOCK;
    const size_t end = msae__min(begin + MSAE__LATENT_BLOCK, tree->index->n_latents);
    for (size_t j = begin; j < end; j++) msae__find_edges(tree, j, worker);
}

/* The defaults, and what is wrong with the rest. */
static msae_status msae__resolve_tree(const msae_tree_desc *desc, msae_tree_desc *resolved,
                                      msae_error *error) {
    memset(resolved, 0, sizeof *resolved);
    if (desc) *resolved = *desc;
    if (resolved->parents == 0) resolved->parents = 3;
    if (resolved->strong_rows == 0) resolved->strong_rows = 5;
    if (resolved->p == 0) resolved->p = 0.4f;
    if (resolved->lift == 0) resolved->lift = 3;
    if (resolved->ratio == 0) resolved->ratio = 1.5f;
    if (resolved->p == MSAE_OFF) resolved->p = 0;
    if (resolved->lift == MSAE_OFF) resolved->lift = 0;
    if (!msae__is_finite(resolved->p) || resolved->p < 0 || resolved->p > 1) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "p of an edge is not within 0 .. 1");
    }
    if (!msae__is_finite(resolved->lift) || resolved->lift < 0) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "lift of an edge is not 0 or more");
    }
    if (!msae__is_finite(resolved->ratio) || resolved->ratio <= 1) {
        return msae__fail(error, MSAE_ERROR_ARGUMENT, "the ratio of rows is not above 1");
    }
    return MSAE_OK;
}

MSAE_API msae_status msae_concept_tree(const msae_index *index, const msae_tree_desc *desc,
                                       msae_edge *edges, size_t *count, msae_error *error) {
    msae__memory memory;
    msae__tree tree;
    const size_t n = index->n_latents;
    size_t packed = 0;
    msae_status status;
    memset(&tree, 0, sizeof tree);
    tree.index = index;
    tree.edges = edges;
    status = msae__resolve_tree(desc, &tree.desc, error);
    if (status != MSAE_OK) return status;
    for (size_t r = 0; r < index->rows; r++) tree.rows += index->counts[r] > 0;
    for (size_t j = 0; j < n; j++) {
        tree.most_strong = msae__max(tree.most_strong, msae__strong_rows(index, j));
    }
    status = msae__take_memory(&memory, &index->allocator, msae__tree_layout, &tree, error);
    if (status != MSAE_OK) return status;
    msae__list_row_latents(&tree);
    memset(tree.found, 0, n * sizeof *tree.found);
    memset(tree.together, 0, msae__workers(&index->parallel) * n * sizeof *tree.together);
    msae__parallel_for(&index->parallel, msae__ceil_div(n, MSAE__LATENT_BLOCK), msae__tree_task,
                       &tree);
    for (size_t j = 0; j < n; j++) {
        memmove(edges + packed, edges + j * tree.desc.parents, tree.found[j] * sizeof *edges);
        packed += tree.found[j];
    }
    *count = packed;
    msae__free_memory(&memory, &index->allocator);
    return MSAE_OK;
}

/* ---------------------------------------------------------------------------------------------
   >>steering Edits of codes, and steering: decode(edited), or x + decode(edited) - decode(codes)

   The second keeps what the codes miss of a row. What an edit does beside what it was meant to do
   is seen by encoding twice more: the written row, and the row that there would be without the
   edits, decode(codes) or x.
   ------------------------------------------------------------------------------------------ */

static msae_status msae__check_edits(const msae_model *model, const msae_edit *edits,
                                     size_t n_edits, msae_error *error) {
    for (size_t i = 0; i < n_edits; i++) {
        const msae_edit *edit = &edits[i];
        const int is_clamp = edit->operation == MSAE_EDIT_CLAMP;
        if (edit->latent >= model->n_latents) {
            return msae__fail_at(error, MSAE_ERROR_ARGUMENT, i, "the model has no latent",
                                 edit->latent, "");
        }
        if ((unsigned)edit->operation >= MSAE_EDIT_COUNT) {
            return msae__fail_at(error, MSAE_ERROR_ARGUMENT, i, "edit", i, " is of no known kind");
        }
        if ((edit->operation != MSAE_EDIT_ABLATE && !msae__is_finite(edit->value)) ||
            (is_clamp && !msae__is_finite(edit->high))) {
            return msae__fail_at(error, MSAE_ERROR_NOT_FINITE, i, "edit", i, " has a NaN or Inf");
        }
        if (is_clamp && edit->value > edit->high) {
            return msae__fail_at(error, MSAE_ERROR_ARGUMENT, i, "edit", i,
                                 " clamps to an empty range");
        }
    }
    return MSAE_OK;
}

/* A latent's value after an edit; 0 for one that is taken out (MSAE_EDIT_ABLATE). */
static float msae__edited(const msae_edit *edit, float value) {
    switch (edit->operation) {
    case MSAE_EDIT_SET:
        return edit->value;
    case MSAE_EDIT_ADD:
        return value + edit->value;
    case MSAE_EDIT_SCALE:
        return value * edit->value;
    case MSAE_EDIT_CLAMP:
        return value < edit->value ? edit->value : value > edit->high ? edit->high : value;
    default:
        return 0;
    }
}

/* Edits that were checked; returns the new number of codes. */
static size_t msae__apply_edits(const msae_edit *edits, size_t n_edits, msae_code *codes,
                                size_t count) {
    for (size_t i = 0; i < n_edits; i++) {
        size_t at = 0;
        float value;
        while (at < count && codes[at].latent != edits[i].latent) at++;
        value = msae__edited(&edits[i], at < count ? codes[at].value : 0);
        if (value != 0 || !msae__is_finite(value)) { /* (NaN compares as anything) */
            codes[at].latent = edits[i].latent;
            codes[at].value = value;
            count += at == count;
        } else if (at < count) {
            count--;
            memmove(codes + at, codes + at + 1, (count - at) * sizeof *codes);
        }
    }
    return count;
}

/* In the order of the edits, each on what those before it left. */
MSAE_API msae_status msae_edit_codes(const msae_model *model, const msae_edit *edits,
                                     size_t n_edits, msae_code *codes, size_t *count,
                                     msae_error *error) {
    msae_status status = msae__check_edits(model, edits, n_edits, error);
    if (status != MSAE_OK) return status;
    *count = msae__apply_edits(edits, n_edits, codes, *count);
    for (size_t e = 0; e < *count; e++) {
        if (!msae__is_finite(codes[e].value)) {
            return msae__fail_at(error, MSAE_ERROR_NOT_FINITE, e, "latent", codes[e].latent,
                                 " becomes NaN or Inf");
        }
    }
    return MSAE_OK;
}

typedef struct msae__steering {
    msae__pass pass;
    const msae_steer_desc *desc;
    float *base;           /* [MSAE__INFERENCE_ROWS][d]: decode(codes) */
    float *edited;         /* the same: decode(edited) */
    msae_code *codes;      /* for each worker [n + n_edits] */
    float *before, *after; /* [MSAE__INFERENCE_ROWS][n] */
    float *out;            /* of the tile's first row */
    msae_steered *steered; /* the same, or NULL */
    msae_change *changes;  /* sums until the end, or NULL */
} msae__steering;

/* Codes gain at most one for each edit. */
static void msae__steer_layout(void *context, msae__arena *arena) {
    msae__steering *steering = (msae__steering *)context;
    const msae_model *model = steering->pass.model;
    const size_t n = model->n_latents, d = model->n_inputs;
    size_t room = 0;
    if (!msae__add(n, steering->desc->n_edits, &room)) arena->ok = 0;
    msae__pass_layout(&steering->pass, arena);
    steering->base = MSAE__TAKE_ROWS(arena, float, MSAE__INFERENCE_ROWS, d);
    steering->edited = MSAE__TAKE_ROWS(arena, float, MSAE__INFERENCE_ROWS, d);
    steering->codes = MSAE__TAKE_ROWS(arena, msae_code, msae__workers(&model->parallel), room);
    if (!steering->changes) return;
    steering->before = MSAE__TAKE_ROWS(arena, float, MSAE__INFERENCE_ROWS, n);
    steering->after = MSAE__TAKE_ROWS(arena, float, MSAE__INFERENCE_ROWS, n);
}

/* A row's codes are decoded, edited and decoded again, with the same moments. */
static void msae__sink_steer(const msae__encode_job *job, size_t row, size_t tile_row,
                             const msae_code *codes, size_t count, size_t worker) {
    const msae__steering *steering = (const msae__steering *)job->user;
    const msae_steer_desc *desc = steering->desc;
    const msae_model *model = job->model;
    const size_t d = model->n_inputs;
    const float *moments = job->tile->moments + 2 * tile_row, *x = steering->pass.x + row * d;
    float *base = steering->base + row * d, *edited = steering->edited + row * d;
    float *out = steering->out + row * d;
    msae_code *room = steering->codes + worker * (model->n_latents + desc->n_edits);
    memcpy(room, codes, count * sizeof *codes);
    msae_decode(model, room, count, moments, base);
    count = msae__apply_edits(desc->edits, desc->n_edits, room, count);
    msae_decode(model, room, count, moments, edited);
    for (size_t i = 0; i < d; i++) {
        out[i] = desc->keep_rest ? x[i] + (edited[i] - base[i]) : edited[i];
    }
    if (steering->steered) {
        const msae__pair raw = msae__compare_rows(x, out, d);
        const msae__pair recon = msae__compare_rows(base, edited, d);
        msae_steered *steered = steering->steered + row;
        steered->cosine = msae__pair_cosine(&raw);
        steered->distance = sqrt(raw.off);
        steered->recon_cosine = msae__pair_cosine(&recon);
        steered->recon_distance = sqrt(recon.off);
    }
}

/* A block of latents over the rows of a tile, in their order. */
static void msae__change_task(void *context, size_t task, size_t worker) {
    const msae__steering *steering = (const msae__steering *)context;
    const size_t begin = task * MSAE__LATENT_BLOCK, n = steering->pass.model->n_latents;
    const size_t end = msae__min(begin + MSAE__LATENT_BLOCK, n);
    (void)worker;
    for (size_t r = 0; r < steering->pass.rows; r++) {
        const float *before = steering->before + r * n;
        const float *after = steering->after + r * n;
        for (size_t j = begin; j < end; j++) {
            msae_change *change = &steering->changes[j];
            change->before += before[j];
            change->after += after[j];
            change->change += fabs((double)after[j] - before[j]);
        }
    }
}

/* Encodes what would be there without the edits, and what is there with them. */
static msae_status msae__steer_changes(msae__steering *steering, msae_error *error) {
    const msae__pass *pass = &steering->pass;
    const msae_model *model = pass->model;
    msae__encode_job job = pass->job;
    msae_status status;
    job.sink = msae__sink_dense;
    job.dense = steering->before;
    status = msae__encode_all(model, pass->workspace,
                              steering->desc->keep_rest ? pass->x : steering->base, pass->rows,
                              &job, error);
    job.dense = steering->after;
    if (status == MSAE_OK) {
        status = msae__encode_all(model, pass->workspace, steering->out, pass->rows, &job, error);
    }
    if (status != MSAE_OK) return status;
    msae__parallel_for(&model->parallel, msae__ceil_div(model->n_latents, MSAE__LATENT_BLOCK),
                       msae__change_task, steering);
    return MSAE_OK;
}

/* Steered rows of a tile stand together: moves them to their places, from the last on. Rows that
   were left out stay as they are. */
static void msae__steer_spread(const msae__steering *steering) {
    const msae_data *data = steering->pass.data;
    const size_t d = data->cols, first = steering->pass.first;
    size_t used = steering->pass.rows;
    msae_steered *steered = steering->steered, unknown;
    unknown.cosine = unknown.distance = msae__nan();
    unknown.recon_cosine = unknown.recon_distance = msae__nan();
    for (size_t r = steering->pass.next - first; r-- > used;) {
        float *out = steering->out + r * d;
        if (used > 0 && steering->pass.row[used - 1] == first + r) {
            used--;
            memcpy(out, steering->out + used * d, d * sizeof *out);
            if (steered) steered[r] = steered[used];
        } else {
            msae_data_read(data, first + r, 1, out);
            if (steered) steered[r] = unknown;
        }
    }
}

/* Refuses what is not finite, adds up the changes, and moves rows to their places. */
static msae_status msae__steer_tile(msae__steering *steering, msae_error *error) {
    const msae__pass *pass = &steering->pass;
    const size_t d = pass->model->n_inputs;
    for (size_t r = 0; r < pass->rows; r++) {
        if (!msae__row_is_finite(steering->base + r * d, d) ||
            !msae__row_is_finite(steering->edited + r * d, d) ||
            !msae__row_is_finite(steering->out + r * d, d)) {
            return msae__fail_overflow(error, pass->row[r]);
        }
    }
    if (steering->changes) {
        const msae_status status = msae__steer_changes(steering, error);
        if (status != MSAE_OK) return status;
    }
    msae__steer_spread(steering);
    return MSAE_OK;
}

/* One pass; changes are means over the rows that were steered. */
MSAE_API msae_status msae_steer(const msae_model *model, const msae_data *data,
                                const msae_steer_desc *desc, float *out, msae_steered *steered,
                                msae_change *changes, msae_error *error) {
    const size_t d = model->n_inputs, n = model->n_latents;
    msae__memory memory;
    msae__steering steering;
    msae_status status = msae__check_pass(model, data, desc->k, error);
    size_t rows = 0;
    if (status == MSAE_OK) status = msae__check_edits(model, desc->edits, desc->n_edits, error);
    if (status != MSAE_OK) return status;
    memset(&steering, 0, sizeof steering);
    msae__pass_begin(&steering.pass, model, data, desc->k, msae__sink_steer);
    steering.pass.job.user = &steering;
    steering.desc = desc;
    steering.changes = changes;
    status = msae__take_memory(&memory, &model->allocator, msae__steer_layout, &steering, error);
    if (status != MSAE_OK) return status;
    if (changes) memset(changes, 0, n * sizeof *changes);
    while (status == MSAE_OK) {
        steering.out = out + steering.pass.next * d;
        steering.steered = steered ? steered + steering.pass.next : NULL;
        if (!msae__pass_next(&steering.pass, SIZE_MAX, &status, error)) break;
        status = msae__steer_tile(&steering, error);
        rows += steering.pass.rows;
    }
    for (size_t j = 0; changes && status == MSAE_OK && j < n; j++) {
        changes[j].before /= (double)rows;
        changes[j].after /= (double)rows;
        changes[j].change /= (double)rows;
    }
    msae__free_memory(&memory, &model->allocator);
    return status;
}
#endif /* MSAE_NO_ANALYSIS */
#endif /* MSAE_RUN_ONLY */

/* ==============================================================================================
   Beside the parts: threads
   ============================================================================================ */

/* ---------------------------------------------------------------------------------------------
   >>threads Threads: a pool and a background thread
   ------------------------------------------------------------------------------------------ */

#ifdef MSAE_USE_PTHREADS
#include <pthread.h>
#ifdef _WIN32
#define MSAE__ONLINE_CORES pthread_num_processors_np()
#else
#include <unistd.h>
#define MSAE__ONLINE_CORES sysconf(_SC_NPROCESSORS_ONLN)
#endif

/* A loop is published by a new generation number; every thread takes part in every loop, takes
   task numbers from one counter, and the last one out wakes the caller. Threads spin a little
   before they sleep, because the loops of a training step follow each other within microseconds. */
#define MSAE__POOL_SPINS 4000

struct msae__pool_thread {
    pthread_t thread;
    msae_pool *pool;
    size_t worker;
};

struct msae_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    msae_task task;
    void *context;
    size_t tasks;
    size_t n_threads;
    int spins; /* before a thread sleeps */
    int quit;
    char pad0[MSAE__ALIGN]; /* each counter has a cache line for itself */
    size_t generation;
    char pad1[MSAE__ALIGN];
    size_t next;
    char pad2[MSAE__ALIGN];
    size_t running;
    char pad3[MSAE__ALIGN];
    struct msae__pool_thread threads[1];
};

/* A thread's part of a loop: as many tasks as it gets. */
static void msae__pool_work(msae_pool *pool, size_t worker) {
    size_t i;
    while ((i = __atomic_fetch_add(&pool->next, 1, __ATOMIC_RELAXED)) < pool->tasks) {
        pool->task(pool->context, i, worker);
    }
}

/* Waits until *counter differs from (`until_equal` 0) or equals (1) `value`: spins, then sleeps. */
static void msae__pool_wait(msae_pool *pool, size_t *counter, size_t value, int until_equal,
                            pthread_cond_t *condition) {
    for (int i = 0; i < pool->spins; i++) {
        if ((__atomic_load_n(counter, __ATOMIC_ACQUIRE) == value) == until_equal) return;
        MSAE__PAUSE();
    }
    pthread_mutex_lock(&pool->lock);
    while ((__atomic_load_n(counter, __ATOMIC_ACQUIRE) == value) != until_equal) {
        pthread_cond_wait(condition, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}

/* A thread sleeps until there is a loop that it has not seen, takes part and counts itself out; the
   last one wakes the caller. */
static void *msae__pool_main(void *argument) {
    struct msae__pool_thread *self = (struct msae__pool_thread *)argument;
    msae_pool *pool = self->pool;
    size_t generation = 0;
    for (;;) {
        msae__pool_wait(pool, &pool->generation, generation, 0, &pool->wake);
        generation++;
        if (pool->quit) return NULL;
        msae__pool_work(pool, self->worker);
        if (__atomic_sub_fetch(&pool->running, 1, __ATOMIC_ACQ_REL) == 0) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

/* A loop begins: all threads wake. */
static void msae__pool_publish(msae_pool *pool, size_t tasks, msae_task task, void *context) {
    pool->task = task;
    pool->context = context;
    pool->tasks = tasks;
    __atomic_store_n(&pool->next, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->running, pool->n_threads, __ATOMIC_RELAXED);
    pthread_mutex_lock(&pool->lock);
    __atomic_add_fetch(&pool->generation, 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

/* msae_parallel's hook: the caller works too, as the last worker, and returns when all are out. */
static void msae__pool_for(void *user, size_t tasks, msae_task task, void *context) {
    msae_pool *pool = (msae_pool *)user;
    msae__pool_publish(pool, tasks, task, context);
    msae__pool_work(pool, pool->n_threads);
    msae__pool_wait(pool, &pool->running, 0, 1, &pool->done);
}

/* A loop without tasks lets every thread see that the pool ends. */
MSAE_API void msae_pool_free(msae_pool *pool) {
    if (!pool) return;
    pool->quit = 1;
    msae__pool_publish(pool, 0, NULL, NULL);
    for (size_t i = 0; i < pool->n_threads; i++) pthread_join(pool->threads[i].thread, NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->lock);
    MSAE_FREE(pool);
}

/* A pool of so many threads beside the caller; `spins`: looks at a counter before one sleeps. */
static msae_status msae__pool_start(msae_pool **out, size_t threads, int spins, msae_error *error) {
    const size_t bytes = sizeof(msae_pool) + threads * sizeof(struct msae__pool_thread);
    msae_pool *pool = (msae_pool *)MSAE_MALLOC(bytes);
    *out = NULL;
    if (!pool) return msae__fail_memory(error);
    memset(pool, 0, sizeof *pool);
    pool->spins = spins;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    while (pool->n_threads < threads) {
        struct msae__pool_thread *thread = &pool->threads[pool->n_threads];
        thread->pool = pool;
        thread->worker = pool->n_threads;
        if (pthread_create(&thread->thread, NULL, msae__pool_main, thread) != 0) {
            msae_pool_free(pool);
            return msae__fail(error, MSAE_ERROR_MEMORY, "cannot start a thread");
        }
        pool->n_threads++;
    }
    *out = pool;
    return MSAE_OK;
}

MSAE_API msae_status msae_pool_create(msae_pool **out, size_t workers, msae_error *error) {
    if (workers == 0) {
        const long online = MSAE__ONLINE_CORES;
        workers = online > 0 ? (size_t)online : 1;
    }
    workers = msae__min(workers, MSAE_MAX_WORKERS); /* one of them is whoever calls */
    return msae__pool_start(out, workers - 1, MSAE__POOL_SPINS, error);
}

MSAE_API msae_parallel msae_pool_parallel(msae_pool *pool) {
    msae_parallel parallel;
    parallel.parallel_for = msae__pool_for;
    parallel.user = pool;
    parallel.workers = pool->n_threads + 1;
    return parallel;
}

/* The background thread is a pool's only one: a loop of one task, which the caller does not wait
   for and takes no part in. */
static int msae__background_start(void *user, msae_task task, void *context) {
    msae__pool_publish((msae_pool *)user, 1, task, context);
    return 1;
}

/* Returns at once where nothing was started. */
static void msae__background_wait(void *user) {
    msae_pool *pool = (msae_pool *)user;
    msae__pool_wait(pool, &pool->running, 0, 1, &pool->done);
}

/* It does not spin: it waits for files, and what trains has the cores. */
MSAE_API msae_status msae_background_create(msae_background *background, msae_error *error) {
    msae_pool *pool;
    const msae_status status = msae__pool_start(&pool, 1, 0, error);
    memset(background, 0, sizeof *background);
    if (status != MSAE_OK) return status;
    background->start = msae__background_start;
    background->wait = msae__background_wait;
    background->user = pool;
    return MSAE_OK;
}

MSAE_API void msae_background_free(msae_background *background) {
    if (background->user) msae__background_wait(background->user);
    msae_pool_free((msae_pool *)background->user);
    memset(background, 0, sizeof *background);
}
#endif /* MSAE_USE_PTHREADS */

#if defined(_MSC_VER) && defined(__clang__)
#pragma clang diagnostic pop
#endif
#ifdef _MSC_VER
#pragma warning(pop)
#endif
#endif /* MSAE_IMPLEMENTED */
#endif /* MSAE_IMPLEMENTATION */

/* ==============================================================================================
   >>paths Kernels, once for every instruction path. This part is included once from above, behind
   the scalar kernels, which say what each computes, and includes itself for each path: >>vectors
   are a path's vocabulary, behind them come the kernels made of it.
   ============================================================================================ */
#ifdef MSAE__STAGE
#ifndef MSAE__PATH

/* For each set of four lanes, the byte shuffle that moves them to the front. */
MSAE__SHARED const uint8_t msae__front[16][16] = {
#define MSAE__LANE(i) 4 * (i), 4 * (i) + 1, 4 * (i) + 2, 4 * (i) + 3
#define MSAE__LANES(a, b, c, d) \
    { MSAE__LANE(a), MSAE__LANE(b), MSAE__LANE(c), MSAE__LANE(d) }
    MSAE__LANES(0, 0, 0, 0), MSAE__LANES(0, 0, 0, 0), MSAE__LANES(1, 0, 0, 0),
    MSAE__LANES(0, 1, 0, 0), MSAE__LANES(2, 0, 0, 0), MSAE__LANES(0, 2, 0, 0),
    MSAE__LANES(1, 2, 0, 0), MSAE__LANES(0, 1, 2, 0), MSAE__LANES(3, 0, 0, 0),
    MSAE__LANES(0, 3, 0, 0), MSAE__LANES(1, 3, 0, 0), MSAE__LANES(0, 1, 3, 0),
    MSAE__LANES(2, 3, 0, 0), MSAE__LANES(0, 2, 3, 0), MSAE__LANES(1, 2, 3, 0),
    MSAE__LANES(0, 1, 2, 3)};
MSAE__SHARED const uint8_t msae__popcount4[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};

#if defined(MSAE__HAS_AVX2) || defined(MSAE__HAS_NEON) || defined(MSAE__HAS_WASM128)
#define MSAE__PATH 1
#include MSAE_HEADER
#endif
#ifdef MSAE__HAS_AVX512
#if defined(__GNUC__) && !defined(__clang__) /* GCC 12 warns about its own avx512fintrin.h */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#define MSAE__PATH 2
#include MSAE_HEADER
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

/* The table of a path, or NULL when this build or processor lacks it. */
static const msae_kernels *msae__kernels_for(msae_simd simd) {
#define MSAE__TRY(path, SIMD, is_here)                                       \
    if ((simd == MSAE_SIMD_AUTO || simd == MSAE_SIMD_##SIMD) && (is_here)) { \
        return (const msae_kernels *)(const void *)&msae__##path##_kernels;  \
    }
    MSAE__PATHS(MSAE__TRY)
    MSAE__TRY(scalar, SCALAR, 1)
    return NULL;
}
#undef MSAE__STAGE

#else /* of one path */

/* ---------------------------------------------------------------------------------------------
   >>vectors The vectors of each path. A new path is these macros and functions, by which it is
   correct; `dots_int8`, `between`, `pack` and `place` may be the scalar ones.

   MSAE__V is a vector of w floats, MSAE__I one of w integers; OP and IOP name their instructions.
   mr: rows of the tile of gemm, of two vectors each. sums: vectors of a sum that stay in registers,
   half of what a path has at most. dots: rows of the tile of dots, which takes 5 dots + 1
   registers. few: see msae__batch_kernels.
   LOADN and STOREN take the first n floats of a vector, n > 0, and all of it where n is larger.
   FMA(a, b, c) is a b + c, FNMA c - a b. FLUSH(v, size, least) is v, and 0 where size < least.
   ANDNOT(a, b) is b without a, BITS a bit for each lane of a comparison. LOW and HIGH take turns in
   the lanes of the lower and of the upper half of (each half of) a and b. sum4 gives the sums of
   four vectors; store4 puts the first n of these to memory, add4 adds all four. halves, bfloats and
   int8s make floats of weights; products adds those of 2 w integers; front writes the lanes of a
   vector that are set in `kept` one after the other; load4 loads four columns of w rows, turn4
   transposes four by four.
   ------------------------------------------------------------------------------------------ */
#define MSAE__ADD MSAE__OP(add)
#define MSAE__SUB MSAE__OP(sub)
#define MSAE__MUL MSAE__OP(mul)
#define MSAE__DIV MSAE__OP(div)
#define MSAE__SQRT MSAE__OP(sqrt)
#define MSAE__IADD MSAE__IOP(add)
#define MSAE__ISUB MSAE__IOP(sub)
#define MSAE__W MSAE__K(w)
#define MSAE__MR MSAE__K(mr)
#define MSAE__SUMS MSAE__K(sums)
#define MSAE__DOTS MSAE__K(dots_rows)
#undef MSAE__SINGLE_ROW
#define MSAE__SINGLE_ROW MSAE__K(dots_row) /* of dots, unless the path has its own */

#ifdef MSAE__HAS_AVX2 /* and of AVX-512 */
#define MSAE__ZERO MSAE__OP(setzero)()
#define MSAE__SET1 MSAE__OP(set1)
#define MSAE__LOAD MSAE__OP(loadu)
#define MSAE__STORE MSAE__OP(storeu)
#define MSAE__LOADN(p, n) MSAE__K(loadn)(p, n)
#define MSAE__STOREN(p, v, n) MSAE__K(storen)(p, v, n)
#define MSAE__FMA MSAE__OP(fmadd)
#define MSAE__FNMA MSAE__OP(fnmadd)
#define MSAE__LOW MSAE__OP(unpacklo)
#define MSAE__HIGH MSAE__OP(unpackhi)
#define MSAE__ISET1 MSAE__IOP(set1)
#define MSAE__LOAD16(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define MSAE__LOAD32(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#else
#define MSAE__TARGET
#define MSAE__LOADN(p, n) ((n) >= 4 ? MSAE__LOAD(p) : MSAE__K(load_part)(p, n))
#define MSAE__STOREN(p, v, n) ((n) >= 4 ? MSAE__STORE(p, v) : MSAE__K(store_part)(p, v, n))
#endif

#ifdef MSAE__HAS_NEON
#define MSAE__SIMD MSAE_SIMD_NEON
#define MSAE__K(name) msae__neon_##name
#define MSAE__V float32x4_t
#define MSAE__I int32x4_t
#define MSAE__OP(name) v##name##q_f32
#define MSAE__IOP(name) v##name##q_s32
enum { msae__neon_w = 4, msae__neon_sums = 16, msae__neon_dots_rows = 4 };
enum { msae__neon_mr = 8, msae__neon_few = 48 };
#define MSAE__ZERO vdupq_n_f32(0)
#define MSAE__SET1 vdupq_n_f32
#define MSAE__LOAD vld1q_f32
#define MSAE__STORE vst1q_f32
#define MSAE__FMA(a, b, c) vfmaq_f32(c, a, b)
#define MSAE__FNMA(a, b, c) vfmsq_f32(c, a, b)
#define MSAE__ABS vabsq_f32
#define MSAE__FLUSH(v, size, least) \
    vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vcltq_f32(size, least)))
#define MSAE__LOW vzip1q_f32
#define MSAE__HIGH vzip2q_f32
#define MSAE__ISET1 vdupq_n_s32
#define MSAE__ILOAD(p) vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)(const void *)(p)))
#define MSAE__ISTORE(p, v) vst1q_s32(p, v)
#define MSAE__IMAX vmaxq_s32
#define MSAE__GT(a, b) vreinterpretq_s32_u32(vcgtq_s32(a, b))
#define MSAE__ANDNOT(a, b) vbicq_s32(b, a)
#define MSAE__BLEND(a, b, in) vbslq_s32(vreinterpretq_u32_s32(in), b, a)
#define msae__neon_sum vaddvq_f32
#define msae__neon_isum vaddvq_s32
#define msae__neon_load4(p, stride) vld1q_f32(p)
#define msae__neon_turn4 msae__neon_turn

MSAE__INLINE float32x4_t msae__neon_sum4(float32x4_t a, float32x4_t b, float32x4_t c,
                                         float32x4_t d) {
    return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
}

MSAE__INLINE float32x4_t msae__neon_halves(const unsigned char *w) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(w)));
}

MSAE__INLINE float32x4_t msae__neon_bfloats(const unsigned char *w) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(w)), 16));
}

MSAE__INLINE float32x4_t msae__neon_int8s(const unsigned char *w) {
    uint32_t four;
    memcpy(&four, w, 4);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four)))));
}

MSAE__INLINE int32x4_t msae__neon_products(int32x4_t sum, const int16_t *x,
                                           const unsigned char *w) {
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_u8(vld1_u8(w))), eight = vld1q_s16(x);
    sum = vmlal_s16(sum, vget_low_s16(wide), vget_low_s16(eight));
    return vmlal_s16(sum, vget_high_s16(wide), vget_high_s16(eight));
}

MSAE__INLINE unsigned msae__neon_bits(int32x4_t in) {
    const uint32x4_t bit = vcombine_u32(vcreate_u32(0x200000001u), vcreate_u32(0x800000004u));
    return vaddvq_u32(vandq_u32(vreinterpretq_u32_s32(in), bit));
}

MSAE__INLINE size_t msae__neon_front(int32_t *out, int32x4_t four, unsigned kept) {
    const uint8x16_t bytes = vreinterpretq_u8_s32(four);
    vst1q_s32(out, vreinterpretq_s32_u8(vqtbl1q_u8(bytes, vld1q_u8(msae__front[kept]))));
    return msae__popcount4[kept];
}
#elif defined(MSAE__HAS_WASM128)
#define MSAE__SIMD MSAE_SIMD_WASM128
#define MSAE__K(name) msae__wasm_##name
#define MSAE__V v128_t
#define MSAE__I v128_t
#define MSAE__OP(name) wasm_f32x4_##name
#define MSAE__IOP(name) wasm_i32x4_##name
enum { msae__wasm_w = 4, msae__wasm_sums = 8, msae__wasm_dots_rows = 2 };
enum { msae__wasm_mr = 4, msae__wasm_few = 24 };
#define MSAE__ZERO wasm_f32x4_splat(0)
#define MSAE__SET1 wasm_f32x4_splat
#define MSAE__LOAD wasm_v128_load
#define MSAE__STORE wasm_v128_store
#define MSAE__FMA(a, b, c) wasm_f32x4_add(c, wasm_f32x4_mul(a, b))
#define MSAE__FNMA(a, b, c) wasm_f32x4_sub(c, wasm_f32x4_mul(a, b))
#define MSAE__ABS wasm_f32x4_abs
#define MSAE__FLUSH(v, size, least) wasm_v128_andnot(v, wasm_f32x4_lt(size, least))
#define MSAE__LOW(a, b) wasm_i32x4_shuffle(a, b, 0, 4, 1, 5)
#define MSAE__HIGH(a, b) wasm_i32x4_shuffle(a, b, 2, 6, 3, 7)
#define MSAE__ISET1 wasm_i32x4_splat
#define MSAE__ILOAD wasm_v128_load
#define MSAE__ISTORE wasm_v128_store
#define MSAE__IMAX wasm_i32x4_max
#define MSAE__GT wasm_i32x4_gt
#define MSAE__ANDNOT(a, b) wasm_v128_andnot(b, a)
#define MSAE__BLEND(a, b, in) wasm_v128_bitselect(b, a, in)
#define msae__wasm_bits(in) (unsigned)wasm_i32x4_bitmask(in)
#define msae__wasm_load4(p, stride) wasm_v128_load(p)
#define msae__wasm_turn4 msae__wasm_turn

MSAE__INLINE float msae__wasm_sum(v128_t v) {
    const v128_t two = wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(wasm_f32x4_add(two, wasm_i32x4_shuffle(two, two, 1, 0, 3, 2)),
                                   0);
}

MSAE__INLINE int32_t msae__wasm_isum(v128_t v) {
    const v128_t two = wasm_i32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_i32x4_extract_lane(two, 0) + wasm_i32x4_extract_lane(two, 1);
}

MSAE__INLINE v128_t msae__wasm_sum4(v128_t a, v128_t b, v128_t c, v128_t d) {
    const v128_t ab =
        wasm_f32x4_add(wasm_i32x4_shuffle(a, b, 0, 1, 4, 5), wasm_i32x4_shuffle(a, b, 2, 3, 6, 7));
    const v128_t cd =
        wasm_f32x4_add(wasm_i32x4_shuffle(c, d, 0, 1, 4, 5), wasm_i32x4_shuffle(c, d, 2, 3, 6, 7));
    return wasm_f32x4_add(wasm_i32x4_shuffle(ab, cd, 0, 2, 4, 6),
                          wasm_i32x4_shuffle(ab, cd, 1, 3, 5, 7));
}

/* Halves' bits, moved to those of a float, are the number times 2^-112, denormal ones too; of Inf
   and NaN the exponent is missing. */
MSAE__INLINE v128_t msae__wasm_halves(const unsigned char *w) {
    const v128_t moved = wasm_i32x4_shr(wasm_i32x4_shl(wasm_u32x4_load16x4(w), 16), 3);
    const v128_t bits = wasm_v128_and(moved, wasm_i32x4_splat((int32_t)0x8fffffff));
    const v128_t number = wasm_f32x4_mul(bits, wasm_f32x4_splat(5.192296858534828e33f));
    const v128_t special = wasm_f32x4_ge(wasm_f32x4_abs(number), wasm_f32x4_splat(65536));
    return wasm_v128_or(number, wasm_v128_and(special, wasm_i32x4_splat(0x7f800000)));
}

MSAE__INLINE v128_t msae__wasm_bfloats(const unsigned char *w) {
    return wasm_i32x4_shl(wasm_u32x4_load16x4(w), 16);
}

MSAE__INLINE v128_t msae__wasm_int8s(const unsigned char *w) {
    const v128_t eight = wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(w));
    return wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(eight));
}

MSAE__INLINE v128_t msae__wasm_products(v128_t sum, const int16_t *x, const unsigned char *w) {
    return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(wasm_i16x8_load8x8(w), wasm_v128_load(x)));
}

MSAE__INLINE size_t msae__wasm_front(int32_t *out, v128_t four, unsigned kept) {
    wasm_v128_store(out, wasm_i8x16_swizzle(four, wasm_v128_load(msae__front[kept])));
    return msae__popcount4[kept];
}
#elif MSAE__PATH == 1 /* AVX2 */
#define MSAE__SIMD MSAE_SIMD_AVX2
#define MSAE__TARGET MSAE__AVX2
#define MSAE__K(name) msae__avx2_##name
#define MSAE__V __m256
#define MSAE__I __m256i
#define MSAE__OP(name) _mm256_##name##_ps
#define MSAE__IOP(name) _mm256_##name##_epi32
enum { msae__avx2_w = 8, msae__avx2_sums = 8, msae__avx2_dots_rows = 3 };
enum { msae__avx2_mr = 6, msae__avx2_few = 80 };
#define MSAE__ABS(v) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v)
#define MSAE__FLUSH(v, size, least) _mm256_and_ps(v, _mm256_cmp_ps(size, least, _CMP_NLT_UQ))
#define MSAE__ILOAD MSAE__LOAD32
#define MSAE__ISTORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define MSAE__IMAX _mm256_max_epi32
#define MSAE__GT _mm256_cmpgt_epi32
#define MSAE__ANDNOT _mm256_andnot_si256
#define MSAE__BLEND _mm256_blendv_epi8
#define msae__avx2_loadn(p, n) _mm256_maskload_ps(p, msae__avx2_mask(n))
#define msae__avx2_storen(p, v, n) _mm256_maskstore_ps(p, msae__avx2_mask(n), v)
#define msae__avx2_bits(in) (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(in))

MSAE__INLINE MSAE__AVX2 __m256i msae__avx2_mask(size_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)msae__min(count, 8)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

MSAE__INLINE MSAE__AVX2 float msae__avx2_sum(__m256 v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

MSAE__INLINE MSAE__AVX2 int32_t msae__avx2_isum(__m256i v) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

MSAE__INLINE MSAE__AVX2 __m128 msae__avx2_sum4(__m256 a, __m256 b, __m256 c, __m256 d) {
    const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

MSAE__INLINE MSAE__AVX2 void msae__avx2_store4(float *c, __m128 four, size_t count) {
    float out[4];
    _mm_storeu_ps(out, four);
    for (size_t j = 0; j < count && j < 4; j++) c[j] = out[j];
}

MSAE__INLINE MSAE__AVX2 void msae__avx2_add4(float *c, __m128 four) {
    _mm_storeu_ps(c, _mm_add_ps(_mm_loadu_ps(c), four));
}

MSAE__INLINE MSAE__AVX2 __m256 msae__avx2_halves(const unsigned char *w) {
    return _mm256_cvtph_ps(MSAE__LOAD16(w));
}

MSAE__INLINE MSAE__AVX2 __m256 msae__avx2_bfloats(const unsigned char *w) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(MSAE__LOAD16(w)), 16));
}

MSAE__INLINE MSAE__AVX2 __m256 msae__avx2_int8s(const unsigned char *w) {
    const __m128i eight = _mm_loadl_epi64((const __m128i *)(const void *)w);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
}

MSAE__INLINE MSAE__AVX2 __m256i msae__avx2_products(__m256i sum, const int16_t *x,
                                                    const unsigned char *w) {
    const __m256i wide = _mm256_cvtepi8_epi16(MSAE__LOAD16(w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(MSAE__LOAD32(x), wide));
}

MSAE__INLINE MSAE__AVX2 size_t msae__avx2_front(int32_t *out, __m256i eight, unsigned kept) {
    const unsigned low = kept & 15, high = kept >> 4;
    int32_t *then = out + msae__popcount4[low];
    const __m128i first =
        _mm_shuffle_epi8(_mm256_castsi256_si128(eight), MSAE__LOAD16(msae__front[low]));
    const __m128i second =
        _mm_shuffle_epi8(_mm256_extracti128_si256(eight, 1), MSAE__LOAD16(msae__front[high]));
    _mm_storeu_si128((__m128i *)(void *)out, first);
    _mm_storeu_si128((__m128i *)(void *)then, second);
    return (size_t)msae__popcount4[low] + msae__popcount4[high];
}

MSAE__INLINE MSAE__AVX2 __m256 msae__avx2_load4(const float *p, size_t stride) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)),
                                _mm_loadu_ps(p + 4 * stride), 1);
}

MSAE__INLINE MSAE__AVX2 void msae__avx2_turn4(float *q, size_t width, const float *p,
                                              size_t stride) {
    __m128 r0 = _mm_loadu_ps(p), r1 = _mm_loadu_ps(p + stride);
    __m128 r2 = _mm_loadu_ps(p + 2 * stride), r3 = _mm_loadu_ps(p + 3 * stride);
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    _mm_storeu_ps(q, r0), _mm_storeu_ps(q + width, r1);
    _mm_storeu_ps(q + 2 * width, r2), _mm_storeu_ps(q + 3 * width, r3);
}
#else /* AVX-512, for batches alone */
#undef MSAE__SIMD
#undef MSAE__TARGET
#undef MSAE__K
#undef MSAE__V
#undef MSAE__I
#undef MSAE__OP
#undef MSAE__IOP
#undef MSAE__ABS
#undef MSAE__FLUSH
#undef MSAE__SINGLE_ROW
#define MSAE__SIMD MSAE_SIMD_AVX512
#define MSAE__TARGET MSAE__AVX512
#define MSAE__K(name) msae__avx512_##name
#define MSAE__V __m512
#define MSAE__I __m512i
#define MSAE__OP(name) _mm512_##name##_ps
#define MSAE__IOP(name) _mm512_##name##_epi32
enum { msae__avx512_w = 16, msae__avx512_sums = 4, msae__avx512_dots_rows = 4 };
enum { msae__avx512_mr = 12, msae__avx512_few = 112 };
#define MSAE__ABS _mm512_abs_ps
#define MSAE__FLUSH(v, size, least) \
    _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(size, least, _CMP_NLT_UQ), v)
#define msae__avx512_loadn(p, n) _mm512_maskz_loadu_ps(msae__avx512_mask(n), p)
#define msae__avx512_storen(p, v, n) _mm512_mask_storeu_ps(p, msae__avx512_mask(n), v)
#define msae__avx512_sum _mm512_reduce_add_ps
#define msae__avx512_isum _mm512_reduce_add_epi32
#define msae__avx512_store4 msae__avx2_store4
#define msae__avx512_add4 msae__avx2_add4
#define msae__avx512_pack msae__avx2_pack
#define MSAE__SINGLE_ROW msae__avx512_dots_by_four

MSAE__INLINE MSAE__AVX512 __mmask16 msae__avx512_mask(size_t count) {
    const unsigned mask = count >= 16 ? 0xffffu : (1u << count) - 1;
    return (__mmask16)mask;
}

MSAE__INLINE MSAE__AVX512 __m128 msae__avx512_sum4(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), /* a b c d in each lane */
                                     _mm512_shuffle_ps(ab, cd, 0xee));
    const __m512d wide = _mm512_castps_pd(all);
    const __m256d low = _mm512_extractf64x4_pd(wide, 0);
    const __m256d high = _mm512_extractf64x4_pd(wide, 1);
    const __m256 half = _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

MSAE__INLINE MSAE__AVX512 __m512 msae__avx512_halves(const unsigned char *w) {
    return _mm512_cvtph_ps(MSAE__LOAD32(w));
}

MSAE__INLINE MSAE__AVX512 __m512 msae__avx512_bfloats(const unsigned char *w) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(MSAE__LOAD32(w)), 16));
}

MSAE__INLINE MSAE__AVX512 __m512 msae__avx512_int8s(const unsigned char *w) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(MSAE__LOAD16(w)));
}

MSAE__INLINE MSAE__AVX512 __m512i msae__avx512_products(__m512i sum, const int16_t *x,
                                                        const unsigned char *w) {
    const __m512i wide = _mm512_cvtepi8_epi16(MSAE__LOAD32(w));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_loadu_si512((const void *)x), wide));
}

/* A row of dots: four rows of weights stream by side by side, each into two sums. */
static MSAE__AVX512 void msae__avx512_dots_by_four(const msae__few *p, size_t r) {
    const float *a = p->x + r * p->x_stride, *b[4];
    for (size_t first = 0; first < p->cols; first += 4) {
        const size_t cols = msae__min(p->cols - first, 4), depth = p->depth;
        __m512 sum[4][2];
        size_t s = 0;
        MSAE__EACH(j, 4) {
            const unsigned char *w = p->w + (first + (j < cols ? j : 0)) * p->w_stride;
            b[j] = (const float *)(const void *)w;
            sum[j][0] = sum[j][1] = _mm512_setzero_ps();
        }
        for (; s + 32 <= depth; s += 32) {
            const __m512 low = _mm512_loadu_ps(a + s), high = _mm512_loadu_ps(a + s + 16);
            MSAE__EACH(j, 4) {
                sum[j][0] = _mm512_fmadd_ps(low, _mm512_loadu_ps(b[j] + s), sum[j][0]);
                sum[j][1] = _mm512_fmadd_ps(high, _mm512_loadu_ps(b[j] + s + 16), sum[j][1]);
            }
        }
        for (; s < depth; s += 16) {
            const __m512 rest = MSAE__LOADN(a + s, depth - s);
            MSAE__EACH(j, 4) {
                sum[j][0] = _mm512_fmadd_ps(rest, MSAE__LOADN(b[j] + s, depth - s), sum[j][0]);
            }
        }
        MSAE__EACH(j, 4) sum[j][0] = _mm512_add_ps(sum[j][0], sum[j][1]);
        msae__avx2_store4(p->c + r * p->ldc + first,
                          msae__avx512_sum4(sum[0][0], sum[1][0], sum[2][0], sum[3][0]), cols);
    }
}

static MSAE__AVX512 size_t msae__avx512_between(int32_t *out, const void *keys, size_t n,
                                                int32_t low, int32_t high, int32_t *largest) {
    const unsigned char *from = (const unsigned char *)keys;
    const __m512i above = _mm512_set1_epi32(low), below = _mm512_set1_epi32(high);
    __m512i most = _mm512_set1_epi32(*largest);
    int32_t lanes[16];
    size_t count = 0;
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 there = msae__avx512_mask(n - i);
        const __m512i key = _mm512_maskz_loadu_epi32(there, from + 4 * i);
        const __mmask16 kept = _mm512_mask_cmple_epi32_mask(
            _mm512_mask_cmpgt_epi32_mask(there, key, above), key, below);
        if (kept == 0) continue; /* the rule where few are wanted */
        _mm512_storeu_si512(out + count, _mm512_maskz_compress_epi32(kept, key));
        count += (size_t)_mm_popcnt_u32(kept);
        most = _mm512_mask_max_epi32(most, kept, most, key);
    }
    _mm512_storeu_si512(lanes, most);
    for (size_t i = 0; i < 16; i++) *largest = lanes[i] > *largest ? lanes[i] : *largest;
    return count;
}

/* Keys below the last floor are dropped; of the rest each level takes what its floor lets in. */
static MSAE__AVX512 void msae__avx512_place(void *sorted, uint8_t *index, uint8_t *level,
                                            uint8_t *ends, const void *keys, size_t count,
                                            const int32_t *floors, size_t levels) {
    enum { VECTORS = MSAE__LATENT_BLOCK / 16 };
    const unsigned char *from = (const unsigned char *)keys;
    const __m512i order = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i last = _mm512_set1_epi32(floors[levels - 1]);
    int32_t key[MSAE__LATENT_BLOCK + 16], place[MSAE__LATENT_BLOCK + 16];
    unsigned char *to = (unsigned char *)sorted;
    __mmask16 left[VECTORS];
    size_t kept = 0, at = 0, vectors;
    for (size_t j = 0; j < count; j += 16) {
        const __mmask16 there = msae__avx512_mask(count - j);
        const __m512i all = _mm512_maskz_loadu_epi32(there, from + 4 * j);
        const __mmask16 in = _mm512_mask_cmpge_epi32_mask(there, all, last);
        const __m512i places = _mm512_add_epi32(order, _mm512_set1_epi32((int)j));
        if (in == 0) continue;
        _mm512_storeu_si512(key + kept, _mm512_maskz_compress_epi32(in, all));
        _mm512_storeu_si512(place + kept, _mm512_maskz_compress_epi32(in, places));
        kept += (size_t)_mm_popcnt_u32(in);
    }
    vectors = msae__ceil_div(kept, 16);
    for (size_t v = 0; v < vectors; v++) left[v] = msae__avx512_mask(kept - 16 * v);
    for (size_t i = 0; i < levels; i++) {
        const __m512i floor = _mm512_set1_epi32(floors[i]);
        for (size_t v = 0; v < vectors; v++) {
            const __m512i here = _mm512_loadu_si512(key + 16 * v);
            const __mmask16 in = _mm512_mask_cmpge_epi32_mask(left[v], here, floor);
            const __m512i places = _mm512_loadu_si512(place + 16 * v);
            const unsigned found = (unsigned)_mm_popcnt_u32(in);
            const __mmask16 room = (__mmask16)((1u << found) - 1);
            _mm512_mask_storeu_epi32(to + 4 * at, room, _mm512_maskz_compress_epi32(in, here));
            _mm_mask_storeu_epi8(index + at, room,
                                 _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(in, places)));
            _mm_mask_storeu_epi8(level + at, room, _mm_set1_epi8((char)i));
            left[v] = (__mmask16)(left[v] & ~in);
            at += found;
        }
        ends[i] = (uint8_t)at;
    }
}

#ifdef MSAE__HAS_VNNI
/* Products of bytes, of which the one is unsigned: so w + 128 times x, and what that is too much
   taken off. x is 256 high + low, both signed, which lie behind it, and behind them its sum.
   Everything is modulo 2^32: only the result fits. */
static void msae__vnni_split_int8(int16_t *x, size_t depth) {
    const size_t padded = msae__round_up(depth, 64);
    signed char *high = (signed char *)(x + padded), *low = high + padded;
    uint32_t sum = 0;
    for (size_t i = 0; i < depth; i++) {
        const int value = x[i], part = (value + 128) & 255;
        low[i] = (signed char)(part - 128);
        high[i] = (signed char)((value - (part - 128)) / 256);
        sum += (uint32_t)value;
    }
    memset(low + depth, 0, padded - depth);
    memset(high + depth, 0, padded - depth);
    memcpy(low + padded, &sum, sizeof sum);
}

static MSAE__AVX512_VNNI void msae__vnni_dots_int8(int32_t *c, const int16_t *x,
                                                   const unsigned char *w, size_t cols,
                                                   size_t depth) {
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    const size_t padded = msae__round_up(depth, 64), rest = depth % 64;
    const __mmask64 mask = ((__mmask64)1 << rest) - 1;
    const signed char *high = (const signed char *)(x + padded), *low = high + padded;
    uint32_t sum;
    memcpy(&sum, low + padded, sizeof sum);
#define MSAE__STEP(q, at, bytes)                                                              \
    do {                                                                                      \
        const __m512i a = _mm512_xor_si512(bytes, flip);                                      \
        h[q] = _mm512_dpbusd_epi32(h[q], a, _mm512_loadu_si512((const void *)(high + (at)))); \
        l[q] = _mm512_dpbusd_epi32(l[q], a, _mm512_loadu_si512((const void *)(low + (at))));  \
    } while (0)
#define MSAE__BYTES(at) _mm512_loadu_si512((const void *)(w + (at)))
    for (size_t j = 0; j < cols; j++, w += depth) {
        __m512i h[2], l[2];
        size_t i = 0;
        h[0] = h[1] = l[0] = l[1] = _mm512_setzero_si512();
        for (; i + 128 <= depth; i += 128) {
            MSAE__STEP(0, i, MSAE__BYTES(i));
            MSAE__STEP(1, i + 64, MSAE__BYTES(i + 64));
        }
        if (i + 64 <= depth) {
            MSAE__STEP(0, i, MSAE__BYTES(i));
            i += 64;
        }
        /* beyond the end x is zero, and w is not read */
        if (rest > 0) MSAE__STEP(1, i, _mm512_maskz_loadu_epi8(mask, w + i));
        h[0] = _mm512_slli_epi32(_mm512_add_epi32(h[0], h[1]), 8);
        l[0] = _mm512_add_epi32(_mm512_add_epi32(l[0], l[1]), h[0]);
        c[j] = (int32_t)((uint32_t)_mm512_reduce_add_epi32(l[0]) - 128 * sum);
    }
}
#endif
#endif /* of the paths */

/* ---------------------------------------------------------------------------------------------
   What runs a model
   ------------------------------------------------------------------------------------------ */
#ifndef MSAE__HAS_AVX2
/* The first n of four floats. */
MSAE__SHARED MSAE__V MSAE__K(load_part)(const float *p, size_t n) {
    float four[4] = {0};
    memcpy(four, p, n * sizeof *four);
    return MSAE__LOAD(four);
}

MSAE__SHARED void MSAE__K(store_part)(float *p, MSAE__V v, size_t n) {
    float four[4];
    MSAE__STORE(four, v);
    memcpy(p, four, n * sizeof *four);
}
#endif

static MSAE__TARGET void MSAE__K(center)(float *out, const float *x, const float *mean, float scale,
                                         size_t n) {
    const MSAE__V factor = MSAE__SET1(scale);
    size_t i = 0;
    for (; i + MSAE__W <= n; i += MSAE__W) {
        MSAE__STORE(out + i, MSAE__MUL(MSAE__SUB(MSAE__LOAD(x + i), MSAE__LOAD(mean + i)), factor));
    }
    msae__scalar_center(out + i, x + i, mean + i, scale, n - i);
}

/* The first n of a vector of weights of BYTES bytes, beside zeros. */
#define MSAE__PART(name, BYTES)                                                                \
    MSAE__SHARED MSAE__TARGET MSAE__V MSAE__K(name##_part)(const unsigned char *w, size_t n) { \
        unsigned char part[(BYTES)*MSAE__W] = {0};                                             \
        memcpy(part, w, (BYTES)*n);                                                            \
        return MSAE__K(name)(part);                                                            \
    }

/* sum a_i b_i over weights b, of which each is STEP of TYPE; LOAD makes a vector of floats of them,
   ONE a float of one. Four chains hide the latency of FMA. */
#define MSAE__DOT(name, TYPE, STEP, LOAD, ONE)                                               \
    static MSAE__TARGET float MSAE__K(name)(const float *a, const TYPE *b, size_t n) {       \
        MSAE__V sum[4];                                                                      \
        size_t i = 0;                                                                        \
        float dot;                                                                           \
        MSAE__EACH(q, 4) sum[q] = MSAE__ZERO;                                                \
        for (; i + 4 * MSAE__W <= n; i += 4 * MSAE__W) {                                     \
            MSAE__EACH(q, 4) {                                                               \
                const size_t at = i + q * MSAE__W;                                           \
                sum[q] = MSAE__FMA(MSAE__LOAD(a + at), LOAD(b + (STEP)*at), sum[q]);         \
            }                                                                                \
        }                                                                                    \
        for (; i + MSAE__W <= n; i += MSAE__W) {                                             \
            sum[0] = MSAE__FMA(MSAE__LOAD(a + i), LOAD(b + (STEP)*i), sum[0]);               \
        }                                                                                    \
        if (sizeof(TYPE) == sizeof(float) && i < n) {                                        \
            const MSAE__V rest = MSAE__LOADN((const float *)(const void *)(b + i), n - i);   \
            sum[1] = MSAE__FMA(MSAE__LOADN(a + i, n - i), rest, sum[1]);                     \
            i = n;                                                                           \
        }                                                                                    \
        dot = MSAE__K(sum)(MSAE__ADD(MSAE__ADD(sum[0], sum[1]), MSAE__ADD(sum[2], sum[3]))); \
        for (; i < n; i++) dot += a[i] * (float)ONE(b + (STEP)*i);                           \
        return dot;                                                                          \
    }

/* y += a x for such weights x */
#define MSAE__AXPY(name, TYPE, STEP, LOAD, ONE)                                             \
    static MSAE__TARGET void MSAE__K(name)(float *y, float a, const TYPE *x, size_t n) {    \
        const MSAE__V factor = MSAE__SET1(a);                                               \
        size_t i = 0;                                                                       \
        for (; i + MSAE__W <= n; i += MSAE__W) {                                            \
            MSAE__STORE(y + i, MSAE__FMA(factor, LOAD(x + (STEP)*i), MSAE__LOAD(y + i)));   \
        }                                                                                   \
        if (sizeof(TYPE) == sizeof(float) && i < n) {                                       \
            const MSAE__V rest = MSAE__LOADN((const float *)(const void *)(x + i), n - i);  \
            MSAE__STOREN(y + i, MSAE__FMA(factor, rest, MSAE__LOADN(y + i, n - i)), n - i); \
            return;                                                                         \
        }                                                                                   \
        for (; i < n; i++) y[i] += a * (float)ONE(x + (STEP)*i);                            \
    }

/* Row r of a product: weights one after the other, because memory that is read from front to back
   is what its speed is made of. */
#define MSAE__ROW(name, DOT, TYPE)                                               \
    MSAE__SHARED MSAE__TARGET void MSAE__K(name)(const msae__few *p, size_t r) { \
        const float *x = p->x + r * p->x_stride;                                 \
        const unsigned char *w = p->w;                                           \
        float *c = p->c + r * p->ldc;                                            \
        const size_t stride = p->w_stride, cols = p->cols, depth = p->depth;     \
        for (size_t j = 0; j < cols; j++, w += stride) {                         \
            c[j] = MSAE__K(DOT)(x, (const TYPE *)(const void *)w, depth);        \
        }                                                                        \
    }

MSAE__PART(halves, 2)
MSAE__PART(bfloats, 2)
MSAE__DOT(dot, float, 1, MSAE__LOAD, *)
MSAE__DOT(dot_half, unsigned char, 2, MSAE__K(halves), msae__load_half)
MSAE__DOT(dot_bfloat, unsigned char, 2, MSAE__K(bfloats), msae__load_bfloat)
MSAE__ROW(dots_row, dot, float)
MSAE__ROW(dots_half_row, dot_half, unsigned char)
MSAE__ROW(dots_bfloat_row, dot_bfloat, unsigned char)
MSAE__AXPY(axpy, float, 1, MSAE__LOAD, *)
MSAE__AXPY(axpy_half, unsigned char, 2, MSAE__K(halves), msae__load_half)
MSAE__AXPY(axpy_bfloat, unsigned char, 2, MSAE__K(bfloats), msae__load_bfloat)
MSAE__AXPY(axpy_int8, unsigned char, 1, MSAE__K(int8s), msae__load_int8)

/* c[j] = <x, w_j>: 2 w products at a time, in two chains. */
static MSAE__TARGET void MSAE__K(dots_int8)(int32_t *c, const int16_t *x, const unsigned char *w,
                                            size_t cols, size_t depth) {
    enum { MANY = 2 * MSAE__W };
    for (size_t j = 0; j < cols; j++, w += depth) {
        MSAE__I s0 = MSAE__ISET1(0), s1 = s0;
        size_t i = 0;
        for (; i + 2 * MANY <= depth; i += 2 * MANY) {
            s0 = MSAE__K(products)(s0, x + i, w + i);
            s1 = MSAE__K(products)(s1, x + i + MANY, w + i + MANY);
        }
        if (i + MANY <= depth) {
            s0 = MSAE__K(products)(s0, x + i, w + i);
            i += MANY;
        }
        c[j] = MSAE__K(isum)(MSAE__IADD(s0, s1));
        for (; i < depth; i++) c[j] += x[i] * msae__load_int8(w + i);
    }
}

#if MSAE__STAGE == MSAE__SMALL_STAGE
/* ---------------------------------------------------------------------------------------------
   What a program that only runs models has for batches: one row after the other
   ------------------------------------------------------------------------------------------ */
#define MSAE__ROW_BY_ROW(name)                                          \
    static void MSAE__K(name)(const msae__few *p) {                     \
        for (size_t r = 0; r < p->rows; r++) MSAE__K(name##_row)(p, r); \
    }
MSAE__ROW_BY_ROW(dots)
MSAE__ROW_BY_ROW(dots_half)
MSAE__ROW_BY_ROW(dots_bfloat)

static const msae_kernels MSAE__K(kernels) = {
    MSAE__SIMD, MSAE__RUN_KERNELS(MSAE__ENTRY) msae__scalar_between, NULL};
#else /* MSAE__BATCH_STAGE */
/* ---------------------------------------------------------------------------------------------
   What works on batches, and trains
   ------------------------------------------------------------------------------------------ */

/* AVX-512 has its own of these. */
#if MSAE__PATH == 1
#ifndef MSAE__HAS_AVX2
static void MSAE__K(store4)(float *c, MSAE__V four, size_t count) {
    MSAE__STOREN(c, four, count);
}

static void MSAE__K(add4)(float *c, MSAE__V four) {
    MSAE__STORE(c, MSAE__ADD(MSAE__LOAD(c), four));
}
#endif

static MSAE__TARGET size_t MSAE__K(between)(int32_t *out, const void *keys, size_t n, int32_t low,
                                            int32_t high, int32_t *largest) {
    const unsigned char *from = (const unsigned char *)keys;
    const MSAE__I above = MSAE__ISET1(low), below = MSAE__ISET1(high);
    MSAE__I most = MSAE__ISET1(*largest);
    int32_t lanes[MSAE__W];
    size_t count = 0, i = 0;
    for (; i + MSAE__W <= n; i += MSAE__W) {
        const MSAE__I key = MSAE__ILOAD(from + 4 * i);
        const MSAE__I in = MSAE__ANDNOT(MSAE__GT(key, below), MSAE__GT(key, above));
        const unsigned kept = MSAE__K(bits)(in);
        if (kept == 0) continue; /* the rule where few are wanted */
        count += MSAE__K(front)(out + count, key, kept);
        most = MSAE__IMAX(most, MSAE__BLEND(most, key, in));
    }
    MSAE__ISTORE(lanes, most);
    for (size_t k = 0; k < MSAE__W; k++) *largest = lanes[k] > *largest ? lanes[k] : *largest;
    return count + msae__scalar_between(out + count, from + 4 * i, n - i, low, high, largest);
}

/* Keys below the last floor are dropped; the levels of the others are the floors that they miss. */
static MSAE__TARGET void MSAE__K(place)(void *sorted, uint8_t *index, uint8_t *level, uint8_t *ends,
                                        const void *keys, size_t count, const int32_t *floors,
                                        size_t levels) {
    static const int32_t order[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const unsigned char *from = (const unsigned char *)keys;
    const MSAE__I last = MSAE__ISET1(floors[levels - 1]), lanes = MSAE__ILOAD(order);
    msae__found found;
    size_t kept = 0, j = 0;
    for (; j + MSAE__W <= count; j += MSAE__W) {
        const MSAE__I here = MSAE__ILOAD(from + 4 * j);
        const unsigned in = MSAE__K(bits)(MSAE__GT(last, here)) ^ ((1u << MSAE__W) - 1);
        if (in == 0) continue;
        MSAE__K(front)(found.key + kept, here, in);
        kept += MSAE__K(front)(found.place + kept, MSAE__IADD(MSAE__ISET1((int)j), lanes), in);
    }
    for (; j < count; j++) {
        found.key[kept] = msae__load_key(keys, j);
        found.place[kept] = (int32_t)j;
        kept += found.key[kept] >= floors[levels - 1];
    }
    for (j = 0; j < kept; j += MSAE__W) {
        const MSAE__I here = MSAE__ILOAD(found.key + j);
        MSAE__I missed = MSAE__ISET1(0);
        for (size_t i = 0; i < levels; i++) {
            missed = MSAE__ISUB(missed, MSAE__GT(MSAE__ISET1(floors[i]), here));
        }
        MSAE__ISTORE(found.level + j, missed);
    }
    found.count = kept;
    msae__place_found(sorted, index, level, ends, &found, levels);
}

/* Four columns of w rows are turned around: out[s][i] = x[i][s]. */
static MSAE__TARGET void MSAE__K(turn)(float *out, size_t width, const float *x, size_t stride) {
    const MSAE__V r0 = MSAE__K(load4)(x, stride), r1 = MSAE__K(load4)(x + stride, stride);
    const MSAE__V r2 = MSAE__K(load4)(x + 2 * stride, stride);
    const MSAE__V r3 = MSAE__K(load4)(x + 3 * stride, stride);
    const MSAE__V low02 = MSAE__LOW(r0, r2), low13 = MSAE__LOW(r1, r3);
    const MSAE__V high02 = MSAE__HIGH(r0, r2), high13 = MSAE__HIGH(r1, r3);
    MSAE__STORE(out, MSAE__LOW(low02, low13));
    MSAE__STORE(out + width, MSAE__HIGH(low02, low13));
    MSAE__STORE(out + 2 * width, MSAE__LOW(high02, high13));
    MSAE__STORE(out + 3 * width, MSAE__HIGH(high02, high13));
}

/* What is left of pieces of w and of 4 rows goes through the scalar loop. */
static MSAE__TARGET void MSAE__K(pack)(float *out, size_t width, const float *x, size_t stride,
                                       size_t rows, size_t depth) {
    const size_t whole = depth / 4 * 4;
    size_t i = 0;
    for (; i + MSAE__W <= rows; i += MSAE__W) {
        for (size_t s = 0; s < whole; s += 4) {
            MSAE__K(turn)(out + s * width + i, width, x + i * stride + s, stride);
        }
    }
    for (; i + 4 <= rows; i += 4) {
        for (size_t s = 0; s < whole; s += 4) {
            MSAE__K(turn4)(out + s * width + i, width, x + i * stride + s, stride);
        }
    }
    for (size_t left = i, k = 0; k < width; k++) {
        const float *row = k < rows ? x + k * stride : x;
        for (size_t s = k < left ? whole : 0; s < depth; s++) {
            out[s * width + k] = k < rows ? row[s] : 0;
        }
    }
}
#endif

/* A tile of MSAE__DOTS x 4 sums, a vector of each row of x and one of weights at a time. Rows that
   are not there are replaced by the first one, and their dots dropped. */
#define MSAE__TILES(name, ROW, TYPE, STEP, LOAD, LOADN)                                           \
    static MSAE__TARGET void MSAE__K(name##_tile)(const msae__few *p, size_t from, size_t col) {  \
        const size_t rows = msae__min(p->rows - from, MSAE__DOT_ROWS), depth = p->depth;          \
        const size_t cols = msae__min(p->cols - col, 4);                                          \
        const float *a = p->x + from * p->x_stride;                                               \
        const TYPE *y[4];                                                                         \
        float *c = p->c + from * p->ldc + col;                                                    \
        MSAE__EACH(j, 4) {                                                                        \
            y[j] = (const TYPE *)(const void *)(p->w + (col + (j < cols ? j : 0)) * p->w_stride); \
        }                                                                                         \
        for (size_t first = 0; first < rows; first += MSAE__DOTS) {                               \
            const float *x[MSAE__DOTS];                                                           \
            MSAE__V sum[MSAE__DOTS][4], va[MSAE__DOTS];                                           \
            size_t s = 0;                                                                         \
            MSAE__EACH(i, MSAE__DOTS) {                                                           \
                x[i] = a + (first + i < rows ? first + i : first) * p->x_stride;                  \
                MSAE__EACH(j, 4) sum[i][j] = MSAE__ZERO;                                          \
            }                                                                                     \
            for (; s + MSAE__W <= depth; s += MSAE__W) {                                          \
                MSAE__EACH(i, MSAE__DOTS) va[i] = MSAE__LOAD(x[i] + s);                           \
                MSAE__EACH(j, 4) {                                                                \
                    const MSAE__V vb = LOAD(y[j] + (STEP)*s);                                     \
                    MSAE__EACH(i, MSAE__DOTS) sum[i][j] = MSAE__FMA(va[i], vb, sum[i][j]);        \
                }                                                                                 \
            }                                                                                     \
            if (s < depth) {                                                                      \
                MSAE__EACH(i, MSAE__DOTS) va[i] = MSAE__LOADN(x[i] + s, depth - s);               \
                MSAE__EACH(j, 4) {                                                                \
                    const MSAE__V vb = LOADN(y[j] + (STEP)*s, depth - s);                         \
                    MSAE__EACH(i, MSAE__DOTS) sum[i][j] = MSAE__FMA(va[i], vb, sum[i][j]);        \
                }                                                                                 \
            }                                                                                     \
            MSAE__EACH(i, MSAE__DOTS) {                                                           \
                const MSAE__V *of = sum[i];                                                       \
                if (first + i < rows) {                                                           \
                    float *to = c + (first + i) * p->ldc;                                         \
                    MSAE__K(store4)(to, MSAE__K(sum4)(of[0], of[1], of[2], of[3]), cols);         \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
    }                                                                                             \
    static void MSAE__K(name)(const msae__few *p) {                                               \
        for (size_t i = 0; i < p->rows; i += MSAE__DOT_ROWS) {                                    \
            if (p->rows - i == 1) {                                                               \
                ROW(p, i);                                                                        \
                continue;                                                                         \
            }                                                                                     \
            for (size_t j = 0; j < p->cols; j += 4) MSAE__K(name##_tile)(p, i, j);                \
        }                                                                                         \
    }
MSAE__TILES(dots, MSAE__SINGLE_ROW, float, 1, MSAE__LOAD, MSAE__LOADN)
MSAE__TILES(dots_half, MSAE__K(dots_half_row), unsigned char, 2, MSAE__K(halves),
            MSAE__K(halves_part))
MSAE__TILES(dots_bfloat, MSAE__K(dots_bfloat_row), unsigned char, 2, MSAE__K(bfloats),
            MSAE__K(bfloats_part))

static MSAE__TARGET void MSAE__K(from_half)(float *out, const unsigned char *half, size_t n) {
    size_t i = 0;
    for (; i + MSAE__W <= n; i += MSAE__W) MSAE__STORE(out + i, MSAE__K(halves)(half + 2 * i));
    msae__scalar_from_half(out + i, half + 2 * i, n - i);
}

/* A tile of MSAE__MR x 2 vectors: 2 MR sums, two vectors of b, one of a. */
static MSAE__TARGET void MSAE__K(gemm)(const float *a, const float *b, size_t k, float *c,
                                       size_t ldc, size_t rows, size_t cols, int accumulate) {
    const size_t rest = cols > MSAE__W ? cols - MSAE__W : 0;
    MSAE__V sum[MSAE__MR][2];
    MSAE__EACH(i, MSAE__MR) sum[i][0] = sum[i][1] = MSAE__ZERO;
    for (size_t s = 0; s < k; s++, a += MSAE__MR, b += 2 * MSAE__W) {
        const MSAE__V b0 = MSAE__LOAD(b), b1 = MSAE__LOAD(b + MSAE__W);
        MSAE__EACH(i, MSAE__MR) {
            const MSAE__V ai = MSAE__SET1(a[i]);
            sum[i][0] = MSAE__FMA(ai, b0, sum[i][0]);
            sum[i][1] = MSAE__FMA(ai, b1, sum[i][1]);
        }
    }
    MSAE__EACH(i, MSAE__MR) {
        if (i < rows) {
            float *to = c + i * ldc;
            if (accumulate) {
                sum[i][0] = MSAE__ADD(sum[i][0], MSAE__LOADN(to, cols));
                if (rest) sum[i][1] = MSAE__ADD(sum[i][1], MSAE__LOADN(to + MSAE__W, rest));
            }
            MSAE__STOREN(to, sum[i][0], cols);
            if (rest) MSAE__STOREN(to + MSAE__W, sum[i][1], rest);
        }
    }
}

/* What is summed stays in MSAE__SUMS registers while all rows pass by; a panel is a whole number of
   such pieces. */
enum { MSAE__K(piece) = MSAE__SUMS * MSAE__W };

static MSAE__TARGET void MSAE__K(gather_axpy)(float *y, const msae__gather *rows, size_t width) {
    const uint32_t *index = rows->index;
    const float *base = rows->base, *weight = rows->weight;
    const size_t stride = rows->stride, count = rows->count;
    size_t c = 0;
    if (count == 0) return;
    for (; c + MSAE__K(piece) <= width; c += MSAE__K(piece)) {
        MSAE__V sum[MSAE__SUMS];
        MSAE__EACH(k, MSAE__SUMS) sum[k] = MSAE__LOAD(y + c + k * MSAE__W);
        for (size_t e = 0; e < count; e++) {
            const float *row = base + index[e] * stride + c;
            const MSAE__V w = MSAE__SET1(weight[e]);
            MSAE__EACH(k, MSAE__SUMS) {
                sum[k] = MSAE__FMA(w, MSAE__LOAD(row + k * MSAE__W), sum[k]);
            }
        }
        MSAE__EACH(k, MSAE__SUMS) MSAE__STORE(y + c + k * MSAE__W, sum[k]);
    }
    for (; c < width; c += MSAE__W) {
        MSAE__V sum = MSAE__LOADN(y + c, width - c);
        for (size_t e = 0; e < count; e++) {
            const float *row = base + index[e] * stride + c;
            sum = MSAE__FMA(MSAE__SET1(weight[e]), MSAE__LOADN(row, width - c), sum);
        }
        MSAE__STOREN(y + c, sum, width - c);
    }
}

/* Every vector that is loaded serves the sum and the dot. Four vectors at a time: sums and vectors
   of a are held, and the dots of four rows are added up together. (Starting the dots by a product,
   not from zero, saves a tenth of the gradients.) */
static MSAE__TARGET void MSAE__K(gather_dot_axpy)(float *y, float *dots, const float *a,
                                                  const msae__gather *rows, size_t width) {
    const uint32_t *index = rows->index;
    const float *base = rows->base, *weight = rows->weight;
    const size_t stride = rows->stride, count = rows->count;
    size_t c = 0;
    if (count == 0) return;
    for (; c + 4 * MSAE__W <= width; c += 4 * MSAE__W) {
        MSAE__V sum[4], va[4];
        size_t e = 0;
        MSAE__EACH(k, 4) {
            sum[k] = MSAE__LOAD(y + c + k * MSAE__W);
            va[k] = MSAE__LOAD(a + c + k * MSAE__W);
        }
        for (; e + 4 <= count; e += 4) {
            MSAE__V dot[4];
            MSAE__EACH(q, 4) {
                const float *row = base + index[e + q] * stride + c;
                const MSAE__V w = MSAE__SET1(weight[e + q]);
                MSAE__V x = MSAE__LOAD(row);
                sum[0] = MSAE__FMA(w, x, sum[0]);
                dot[q] = MSAE__MUL(va[0], x);
                MSAE__EACH(k, 3) {
                    x = MSAE__LOAD(row + (k + 1) * MSAE__W);
                    sum[k + 1] = MSAE__FMA(w, x, sum[k + 1]);
                    dot[q] = MSAE__FMA(va[k + 1], x, dot[q]);
                }
            }
            MSAE__K(add4)(dots + e, MSAE__K(sum4)(dot[0], dot[1], dot[2], dot[3]));
        }
        for (; e < count; e++) {
            const float *row = base + index[e] * stride + c;
            const MSAE__V w = MSAE__SET1(weight[e]);
            MSAE__V dot = MSAE__ZERO;
            MSAE__EACH(k, 4) {
                const MSAE__V x = MSAE__LOAD(row + k * MSAE__W);
                sum[k] = MSAE__FMA(w, x, sum[k]);
                dot = MSAE__FMA(va[k], x, dot);
            }
            dots[e] += MSAE__K(sum)(dot);
        }
        MSAE__EACH(k, 4) MSAE__STORE(y + c + k * MSAE__W, sum[k]);
    }
    for (; c < width; c += MSAE__W) {
        const MSAE__V va = MSAE__LOADN(a + c, width - c);
        MSAE__V sum = MSAE__LOADN(y + c, width - c);
        for (size_t e = 0; e < count; e++) {
            const MSAE__V row = MSAE__LOADN(base + index[e] * stride + c, width - c);
            sum = MSAE__FMA(MSAE__SET1(weight[e]), row, sum);
            dots[e] += MSAE__K(sum)(MSAE__MUL(va, row));
        }
        MSAE__STOREN(y + c, sum, width - c);
    }
}

static MSAE__TARGET void MSAE__K(decode)(float *sums, const float *decoder, const uint8_t *index,
                                         const float *value, const uint8_t *ends, size_t levels) {
    for (size_t c = 0; c < MSAE__PANEL; c += MSAE__K(piece)) {
        float *to = sums + c;
        size_t e = 0;
        for (size_t i = 0; i < levels; i++, to += MSAE__PANEL) {
            const size_t end = ends[i];
            MSAE__V sum[MSAE__SUMS];
            if (e == end) continue;
            MSAE__EACH(k, MSAE__SUMS) sum[k] = MSAE__LOAD(to + k * MSAE__W);
            for (; e < end; e++) {
                const float *row = decoder + (index[e] & MSAE__LATENT) * MSAE__PANEL + c;
                const MSAE__V w = MSAE__SET1(value[e]);
                MSAE__EACH(k, MSAE__SUMS) {
                    sum[k] = MSAE__FMA(w, MSAE__LOAD(row + k * MSAE__W), sum[k]);
                }
            }
            MSAE__EACH(k, MSAE__SUMS) MSAE__STORE(to + k * MSAE__W, sum[k]);
        }
    }
}

/* Half a piece at a time: its running sums stay while the levels pass by. */
static MSAE__TARGET void MSAE__K(reconstruct)(float *levels, size_t count, const float *start,
                                              const float *target, float deviation, float mean,
                                              float *errors) {
    enum { HALF = MSAE__SUMS / 2 };
    const MSAE__V scale = MSAE__SET1(deviation), shift = MSAE__SET1(mean);
    for (size_t c = 0; c < MSAE__PANEL; c += HALF * (size_t)MSAE__W) {
        MSAE__V sum[HALF];
        MSAE__EACH(k, HALF) sum[k] = MSAE__LOAD(start + c + k * MSAE__W);
        for (size_t i = 0; i < count; i++) {
            float *row = levels + i * MSAE__PANEL + c;
            MSAE__V squares = MSAE__ZERO;
            MSAE__EACH(k, HALF) {
                MSAE__V out, off;
                sum[k] = MSAE__ADD(sum[k], MSAE__LOAD(row + k * MSAE__W));
                out = MSAE__FMA(sum[k], scale, shift);
                off = MSAE__SUB(out, MSAE__LOAD(target + c + k * MSAE__W));
                squares = MSAE__FMA(off, off, squares);
                MSAE__STORE(row + k * MSAE__W, out);
            }
            errors[i] = (c > 0 ? errors[i] : 0) + MSAE__K(sum)(squares);
        }
    }
}

static MSAE__TARGET void MSAE__K(residuals)(float *levels, size_t count, const float *target,
                                            const float *factors) {
    enum { HALF = MSAE__SUMS / 2 };
    for (size_t c = 0; c < MSAE__PANEL; c += HALF * (size_t)MSAE__W) {
        MSAE__V sum[HALF];
        MSAE__EACH(k, HALF) sum[k] = MSAE__ZERO;
        for (size_t i = count; i-- > 0;) {
            float *row = levels + i * MSAE__PANEL + c;
            const MSAE__V factor = MSAE__SET1(factors[i]);
            MSAE__EACH(k, HALF) {
                const MSAE__V x = MSAE__LOAD(target + c + k * MSAE__W);
                const MSAE__V off = MSAE__SUB(MSAE__LOAD(row + k * MSAE__W), x);
                sum[k] = MSAE__FMA(factor, off, sum[k]);
                MSAE__STORE(row + k * MSAE__W, sum[k]);
            }
        }
    }
}

static MSAE__TARGET void MSAE__K(adam)(float *p, const float *g, float *m, float *v, size_t n,
                                       float rescale, float project, const msae__adam *adam) {
    const MSAE__V tiny_m = MSAE__SET1(MSAE__TINY_M), tiny_v = MSAE__SET1(MSAE__TINY_V);
    size_t i = 0;
    for (; i + MSAE__W <= n; i += MSAE__W) {
        const MSAE__V value = MSAE__MUL(MSAE__LOAD(p + i), MSAE__SET1(rescale));
        const MSAE__V gradient = MSAE__MUL(
            MSAE__FNMA(MSAE__SET1(project), value, MSAE__LOAD(g + i)), MSAE__SET1(adam->clip));
        MSAE__V m1 = MSAE__MUL(MSAE__SET1(adam->rest1), gradient);
        MSAE__V v1 = MSAE__MUL(MSAE__MUL(MSAE__SET1(adam->rest2), gradient), gradient);
        m1 = MSAE__FMA(MSAE__SET1(adam->beta1), MSAE__LOAD(m + i), m1);
        v1 = MSAE__FMA(MSAE__SET1(adam->beta2), MSAE__LOAD(v + i), v1);
        m1 = MSAE__FLUSH(m1, MSAE__ABS(m1), tiny_m);
        v1 = MSAE__FLUSH(v1, v1, tiny_v);
        MSAE__STORE(m + i, m1);
        MSAE__STORE(v + i, v1);
        MSAE__STORE(p + i, MSAE__SUB(MSAE__MUL(value, MSAE__SET1(adam->decay)),
                                     MSAE__DIV(MSAE__MUL(MSAE__SET1(adam->rate), m1),
                                               MSAE__FMA(MSAE__SQRT(v1), MSAE__SET1(adam->root),
                                                         MSAE__SET1(adam->eps)))));
    }
    if (i < n) { /* the last few, beside zeros */
        float rest[4][MSAE__W] = {{0}};
        const size_t bytes = (n - i) * sizeof(float);
        memcpy(rest[0], p + i, bytes), memcpy(rest[1], g + i, bytes);
        memcpy(rest[2], m + i, bytes), memcpy(rest[3], v + i, bytes);
        MSAE__K(adam)(rest[0], rest[1], rest[2], rest[3], MSAE__W, rescale, project, adam);
        memcpy(p + i, rest[0], bytes), memcpy(m + i, rest[2], bytes);
        memcpy(v + i, rest[3], bytes);
    }
}

static const msae__batch_kernels MSAE__K(kernels) = {
    {MSAE__SIMD, MSAE__RUN_KERNELS(MSAE__ENTRY) MSAE__K(between), NULL},
    MSAE__MR,
    2 * MSAE__W,
    MSAE__K(few),
    MSAE__BATCH_KERNELS(MSAE__ENTRY)};

#if MSAE__PATH == 2
#ifdef MSAE__HAS_VNNI
#define msae__avx512_dots_int8 msae__vnni_dots_int8
static const msae__batch_kernels msae__vnni_kernels = {
    {MSAE__SIMD, MSAE__RUN_KERNELS(MSAE__ENTRY) MSAE__K(between), msae__vnni_split_int8},
    MSAE__MR,
    2 * MSAE__W,
    MSAE__K(few),
    MSAE__BATCH_KERNELS(MSAE__ENTRY)};
#else
#define msae__vnni_kernels msae__avx512_kernels
#endif
#endif
#endif /* MSAE__BATCH_STAGE */
#undef MSAE__PATH
#endif /* MSAE__PATH */
#endif /* MSAE__STAGE */

/*
   Changelog
       0.6.0  one API: encoding returns a status and takes the room for codes; msae_trainer_*, one
              function each for data and source; msae_reader and msae_writer for all that is loaded
              and saved; msae_host for path, memory and threads in all descriptors. MSAE_RUN_ONLY
              is what MSAE_NO_TRAIN and MSAE_NO_ANALYSIS were together; hyper-parameters
              in one table (MSAE_TRAIN_LIST); skip_bad, max_norm, model.k, msae_model_checksum;
              audits (probes, attributes, alignment) are beside the tool; keys msae.* in files
              (those of 0.5.0 are read); msae_refine_rows, msae_concept_tree, msae_score_latents;
              .npy of either byte and dimension order, bfloat16, int8; msae_files_open_by;
              clang-cl, and UTF-8 paths on Windows
       0.5.0  recipe msae, now the default, and msae-width; trapezoid schedule, starts from rows,
              revival of dead latents
       0.4.0  sources, sets of files, streams in windows; training in several processes
       0.3.0  names by strongest rows; search, steering, alignment, probes, attributes
       0.2.0  checkpoints; readers and writers; files reach the disk before they are renamed
*/

/*
   This software is available under two licences - choose whichever you prefer.
   ------------------------------------------------------------------------------
   ALTERNATIVE A - MIT License
   Copyright (c) 2026 the msae.h maintainers
   Permission is hereby granted, free of charge, to any person obtaining a copy of this software
   and associated documentation files (the "Software"), to deal in the Software without
   restriction, including without limitation the rights to use, copy, modify, merge, publish,
   distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
   Software is furnished to do so, subject to the following conditions:
   The above copyright notice and this permission notice shall be included in all copies or
   substantial portions of the Software.
   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING
   BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
   NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
   DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
   OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
   ------------------------------------------------------------------------------
   ALTERNATIVE B - Public Domain (www.unlicense.org)
   This is free and unencumbered software released into the public domain.
   Anyone is free to copy, modify, publish, use, compile, sell, or distribute this software,
   either in source code form or as a compiled binary, for any purpose, commercial or
   non-commercial, and by any means.
   In jurisdictions that recognize copyright laws, the author or authors of this software
   dedicate any and all copyright interest in the software to the public domain. We make this
   dedication for the benefit of the public at large and to the detriment of our heirs and
   successors. We intend this dedication to be an overt act of relinquishment in perpetuity of
   all present and future rights to this software under copyright law.
   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING
   BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
   NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
   LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
   CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
*/
