/* Writes the fuzz targets' seeds: seeds FOLDER makes FOLDER/TARGET/NAME for all in the table. Each
   is there because it takes a way through the code of its own. */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct seed {
    const char *target, *name, *bytes;
    size_t size;
} seed;

#define SEED(target, name, bytes) \
    { target, name, bytes, sizeof(bytes) - 1 }

/* A file spelled out (see fuzz_file_of in fuzz.h): the header's text, the size of the data as two
   bytes, the pattern that the data repeats. */
#define DATA(size_bytes, pattern) "\0" size_bytes pattern

#define NPY(descr, shape) "{'descr': '" descr "', 'fortran_order': False, 'shape': " shape ", }"

#define TENSOR(name, dtype, shape, begin, end)                                                     \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end \
    "]}"

#define METADATA(entries) "{\"__metadata__\":{" entries "}"

/* Two inputs and three latents; `notes` and `tensors` are what the recipe adds. */
#define MODEL(recipe, activation, nesting, weights, notes)                                     \
    METADATA("\"format\":\"msae\",\"n_inputs\":\"2\",\"n_latents\":\"3\",\"recipe\":\"" recipe \
             "\",\"activation\":\"" activation "\",\"tied\":\"0\",\"normalize\":\"0\","        \
             "\"soft_cap\":\"0\",\"nesting\":\"" nesting "\",\"level_weights\":\"" weights     \
             "\"" notes)                                                                       \
    "," TENSOR("decoder", "F32", "[3,2]", 0, 24) "," TENSOR(                                   \
        "encoder", "F32", "[2,3]", 24,                                                         \
        48) "," TENSOR("latent_bias", "F32", "[3]", 48,                                        \
                       60) "," TENSOR("mean", "F32", "[2]", 60,                                \
                                      68) "," TENSOR("pre_bias", "F32", "[2]", 68,             \
                                                     76) "," TENSOR("scale", "F32", "[1]", 76, 80)

#define ONE "\0\0\x80\x3f" /* 1.0f */

#define CODES(values)                     \
    TENSOR("indptr", "I64", "[2]", 0, 16) \
    "," TENSOR("indices", "I32", "[1]", 16, 20) "," TENSOR("values", values, "[1]", 20, 24)

#define INDPTR_0_1 "\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"

/* For the model made of an input: no changes, with a checksum, 3 inputs, 7 latents, the recipe, the
   activation, three levels, no weights, k, tied, normalize, no soft cap. Weights: as they are, or by
   rows as float32 (2), halves (4), bfloats (6) or int8 (8). */
#define MADE(recipe, activation, tied, normalize) MADE_OF("\0", recipe, activation, tied, normalize)
#define MADE_OF(weights, recipe, activation, tied, normalize) \
    "M\0" weights "\x02\x06" recipe activation "\x03\0\x01\x02\0\x02" tied normalize "\0"

/* For the run made of an input: no changes, with a checksum, 3 inputs, 7 latents, the recipe, tied,
   normalize, the seed, batches of 2, the loss, the capped schedule, the cut, tame numbers. */
#define RUN(recipe, tied, normalize, loss, cut) \
    "\0\0\x02\x06" recipe tied normalize "\x07\x01" loss "\x01" cut "\x01"

/* A run in windows, of whose run_blocks, which are "1,3" without a checksum, one digit is another.
   (Where it is not in that place any more, it is another byte of the file.) */
#define RUN_BLOCKS(place, digit) \
    "\x01\x01" place "\0" digit "\x02\x06\x01\x02\0\x07\x01\x01\x01\x02\x01"

/* Two latents over two rows, of which the first has the first latent and both have the second. */
#define INDEX(k, counts)                                                                           \
    METADATA("\"format\":\"msae-index\",\"k\":\"" k "\",\"model\":\"1\",\"data\":\"2\"")           \
    "," TENSOR("starts", "U64", "[3]", 0, 24) "," TENSOR("rows", "U32", "[3]", 24, 36) "," TENSOR( \
        "values", "F32", "[3]", 36, 48) "," TENSOR("counts", "U32", "[" counts "]", 48, 56) "}"

#define STARTS_0_1_3 "\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0"
#define U32_0 "\0\0\0\0"
#define U32_1 "\x01\0\0\0"
#define U32_2 "\x02\0\0\0"

/* For the reader of torch.save files: a pickle of protocol 2 and, spelled as one, what state dicts
   are made of. The zip around it has data/0 with 64 bytes, data/1 with 8 and data/2 with none. */
#define TORCH_ODICT "ccollections\nOrderedDict\n)R"
#define TORCH_TEXT(bytes, text) "X" bytes "\0\0\0" text
#define TORCH_STORAGE(type, key, elements)                                                \
    "(" TORCH_TEXT("\x07", "storage") "ctorch\n" type "Storage\n" TORCH_TEXT("\x01", key) \
        TORCH_TEXT("\x03", "cpu") elements "tQ"
#define TORCH_TENSOR(storage, offset, size, stride) \
    "ctorch._utils\n_rebuild_tensor_v2\n(" storage offset size stride "\x89" TORCH_ODICT "tR"
#define TORCH_HALF                                                \
    "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" TORCH_TEXT( \
        "\x02",                                                   \
        "f8") "\x89\x88\x87R(K\x03" TORCH_TEXT("\x01",            \
                                               "<") "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"

static const seed seeds[] = {
    SEED("torch", "dict", "2\x80\x02}q\0(X\x01\0\0\0aK\x01X\x01\0\0\0bG\x3f\xe0\0\0\0\0\0\0u."),
    SEED("torch", "list",
         "2\x80\x02]q\0(NK\x05M\x01\x01J\xff\xff\xff\xff\x8a\x02\0\x80\x88\x89"
         "e."),
    SEED("torch", "tensor",
         "2\x80\x02" TORCH_ODICT "(" TORCH_TEXT("\x01", "w")
             TORCH_TENSOR(TORCH_STORAGE("Float", "0", "K\x10"), "K\x01", "K\x02K\x03\x86",
                          "K\x01K\x02\x86") "u."),
    SEED("torch", "state",
         "2\x80\x02" TORCH_ODICT "(" TORCH_TEXT("\x01", "w")
             TORCH_TENSOR(TORCH_STORAGE("Long", "1", "K\x01"), "K\0", ")",
                          ")") "u}" TORCH_TEXT("\x09", "_metadata") TORCH_ODICT "sb."),
    SEED("torch", "half",
         "2\x80\x02" TORCH_TENSOR(TORCH_STORAGE("Half", "0", "K\x20"), "K\0", "K\x05\x85",
                                  "K\0\x85") "."),
    SEED("torch", "empty",
         "2\x80\x02" TORCH_TENSOR(TORCH_STORAGE("Bool", "2", "K\0"), "K\0", "K\0K\x07\x86",
                                  "K\x07K\x01\x86") "."),
    SEED("torch", "parameter",
         "2\x80\x02"
         "ctorch._utils\n_rebuild_parameter\n" TORCH_TENSOR(
             TORCH_STORAGE("BFloat16", "1", "K\x04"), "K\0", "K\x04\x85",
             "K\x01\x85") "\x88" TORCH_ODICT "\x87R."),
    SEED("torch", "numpy",
         "2\x80\x02" TORCH_HALF "c_codecs\nencode\n" TORCH_TEXT("\x09", "\0\0\0\0\0\0\xc3\xa0?")
             TORCH_TEXT("\x06", "latin1") "\x86R\x86R."),
    SEED("torch", "numpy_bytes", "2\x80\x03" TORCH_HALF "C\x08\0\0\0\0\0\0\xe0\x3f\x86R."),
    SEED("torch", "protocol_4",
         "2\x80\x04\x95\x20\0\0\0\0\0\0\0\x8c\x0b"
         "collections\x94\x8c\x0b"
         "OrderedDict\x94\x93\x94)R\x94."),
    SEED("torch", "size_and_dtype",
         "2\x80\x02]q\x01(ctorch\nSize\nK\x02K\x03\x86\x85Rctorch\nfloat32\n"
         "e."),
    SEED("torch", "other_global",
         "2\x80\x02"
         "cos\nsystem\nX\x02\0\0\0ls\x85R."),
    SEED("torch", "zip_of_torch",
         "PK\3\4\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a\0\x18\0t/data.pklFB\x14\0"
         "ZZZZZZZZZZZZZZZZZZZZ\x80\2]."
         "PK\7\x08\0\0\0\0\4\0\0\0\4\0\0\0"
         "PK\1\2\0\0\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\4\0\0\0\4\0\0\0\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0"
         "\0\0\0\0t/data.pkl"
         "PK\6\6\x2c\0\0\0\0\0\0\0\x1e\3\x2d\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"
         "\x38\0\0\0\0\0\0\0\x54\0\0\0\0\0\0\0"
         "PK\6\7\0\0\0\0\x8c\0\0\0\0\0\0\0\1\0\0\0"
         "PK\5\6\0\0\0\0\1\0\1\0\x38\0\0\0\x54\0\0\0\0\0"),
    SEED("torch", "zip_of_two",
         "PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\4\0\0\0\4\0\0\0\x0a\0\0\0t/data.pkl\x80\2N."
         "PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\6\0\0\0\6\0\0\0\x0b\0\0\0t/byteorderlittle"
         "PK\1\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\4\0\0\0\4\0\0\0\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0"
         "\0\0\0\0t/data.pkl"
         "PK\1\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\6\0\0\0\6\0\0\0\x0b\0\0\0\0\0\0\0\0\0\0\0\0\0"
         "\x2c\0\0\0t/byteorder"
         "PK\5\6\0\0\0\0\2\0\2\0\x71\0\0\0\x5b\0\0\0\0\0"),

    SEED("zip", "stored",
         "\120\113\003\004\024\000\000\000\000\000\000\000\041\000\032\123\033\137\230\000\000\000"
         "\230\000\000\000\005\000\000\000\170\056\156\160\171\223\116\125\115\120\131\001\000\166"
         "\000\173\047\144\145\163\143\162\047\072\040\047\074\146\064\047\054\040\047\146\157\162"
         "\164\162\141\156\137\157\162\144\145\162\047\072\040\106\141\154\163\145\054\040\047\163"
         "\150\141\160\145\047\072\040\050\062\054\040\063\051\054\040\175\040\040\040\040\040\040"
         "\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040"
         "\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040\040"
         "\040\040\040\040\040\040\040\040\012\000\000\200\077\000\000\000\300\000\000\000\077\000"
         "\000\100\100\000\000\300\102\000\000\000\276\120\113\001\002\024\003\024\000\000\000\000"
         "\000\000\000\041\000\032\123\033\137\230\000\000\000\230\000\000\000\005\000\000\000\000"
         "\000\000\000\000\000\000\000\200\001\000\000\000\000\170\056\156\160\171\120\113\005\006"
         "\000\000\000\000\001\000\001\000\063\000\000\000\273\000\000\000\000\000"),
    SEED("zip", "packed",
         "\120\113\003\004\024\000\000\000\010\000\000\000\041\000\032\123\033\137\131\000\000\000"
         "\230\000\000\000\005\000\000\000\170\056\156\160\171\233\354\027\352\033\020\311\310\120"
         "\306\120\255\236\222\132\234\134\244\156\245\240\156\223\146\242\256\243\240\236\226\137"
         "\124\122\224\230\027\237\137\224\222\012\022\167\113\314\051\116\005\212\027\147\044\026"
         "\244\002\371\032\106\072\012\306\232\072\012\265\012\144\003\056\006\206\006\173\006\006"
         "\206\003\100\014\244\035\034\200\114\047\040\173\037\000\120\113\003\004\024\000\000\000"
         "\010\000\000\000\041\000\176\152\373\311\111\000\000\000\220\000\000\000\007\000\000\000"
         "\151\144\163\056\156\160\171\233\354\027\352\033\020\311\310\120\306\120\255\236\222\132"
         "\234\134\244\156\245\240\156\223\151\241\256\243\240\236\226\137\124\122\224\230\027\237"
         "\137\224\222\012\022\167\113\314\051\116\005\212\027\147\044\026\244\002\371\032\106\072"
         "\232\072\012\265\012\024\000\056\006\050\140\204\322\000\120\113\001\002\024\003\024\000"
         "\000\000\010\000\000\000\041\000\032\123\033\137\131\000\000\000\230\000\000\000\005\000"
         "\000\000\000\000\000\000\000\000\000\000\200\001\000\000\000\000\170\056\156\160\171\120"
         "\113\001\002\024\003\024\000\000\000\010\000\000\000\041\000\176\152\373\311\111\000\000"
         "\000\220\000\000\000\007\000\000\000\000\000\000\000\000\000\000\000\200\001\174\000\000"
         "\000\151\144\163\056\156\160\171\120\113\005\006\000\000\000\000\002\000\002\000\150\000"
         "\000\000\352\000\000\000\000\000"),

    SEED("zip", "commas", "1.5,-2e3\n3,nan\n"),
    SEED("zip", "names", "id\ta\tb\tc\nx\t1\t2\t3\r\ny\t4\t5\t6\r\n\r\n"),
    SEED("zip", "sizes", "2 3\nx 1 2 3\ny 4 5 6\n"),
    SEED("zip", "pandas", ",0,1,2\n0,.5,1,2\n1,3,4,5\n"),

    SEED("npy", "f4", NPY("<f4", "(2, 3)") DATA("\x18\0", "\0\0\x80\x3f\0\0\0\xbf")),
    SEED("npy", "f2", NPY("<f2", "(3, 5)") DATA("\x1e\0", "\0\x3c\x01\0\0\xfc")),
    SEED("npy", "f8", NPY("<f8", "(1, 2)") DATA("\x10\0", "\0\0\0\0\0\0\xf0\x3f")),
    SEED("npy", "one_row", NPY("<f4", "(4,)") DATA("\x10\0", ONE)),
    SEED("npy", "keys_turned_round",
         "{\"shape\":(1,1),\"fortran_order\":False,\"descr\":\"<f4\"}"
         "  \n" DATA("\x04\0", ONE)),
    SEED("npy", "fortran_order",
         "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }" DATA("\x18\0", ONE)),
    SEED("npy", "big_endian", NPY(">f4", "(2, 3)") DATA("\x18\0", ONE)),
    SEED("npy", "bfloat16", NPY("<V2", "(2, 3)") DATA("\x0c\0", "\x80\x3f")),
    SEED("npy", "int8", NPY("|i1", "(3, 2)") DATA("\x06\0", "\1\xff")),
    SEED("npy", "three_dimensions", NPY("<f2", "(2, 1, 3)") DATA("\x0c\0", "\0\x3c")),
    SEED("npy", "one_byte_more", NPY("<f4", "(2, 3)") DATA("\x19\0", ONE)),
    SEED("npy", "overflow", NPY("<f4", "(4294967296, 4294967296)") DATA("\x04\0", ONE)),
    SEED("npy", "version_2",
         "\x93NUMPY\x02\0\x3a\0\0\0{'descr': '<f2', 'fortran_order': False, 'shape': (1, 1), }\n"
         "\0\x3c"),
    SEED("npy", "version_3_cut", "\x93NUMPY\x03\0\xff\xff\xff\xff{'descr'"),

    SEED("json", "config",
         "{\"architecture\": \"topk\", \"d_in\": 24, \"k\": 8, \"metadata\": {\"x\": null}}"),
    SEED("json", "every_kind", "[1, -2.5e1, true, false, null, \"x\", {}, []]"),
    SEED("json", "escapes", "{\"\\u00e9\":\"\\ud83d\\ude00\\n\\/\"}"),
    SEED("json", "twice", "{\"a\":1,\"a\":2}"),
    SEED("json", "deep", "[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]"),

    SEED("safetensors", "empty", "{}"),
    SEED("safetensors", "one", "{" TENSOR("a", "F32", "[2,2]", 0, 16) "}" DATA("\x10\0", ONE)),
    SEED("safetensors", "padded", "{" TENSOR("a", "U8", "[]", 0, 1) "}   " DATA("\x01\0", "x")),
    SEED("safetensors", "out_of_order",
         "{" TENSOR("b", "I16", "[2]", 4, 8) "," TENSOR("a", "BF16", "[2]", 0, 4) "," TENSOR(
             "empty", "BOOL", "[0,9]", 4, 4) "}" DATA("\x08\0", "\x80\x3f")),
    SEED("safetensors", "metadata",
         METADATA("\"key\":\"value\",\"\xc3\xa9\":\"\xf0\x9f\x98\x80\"") "," TENSOR(
             "a", "F64", "[1,1,1,1,1,1,1,1]", 0, 8) "}" DATA("\x08\0", "")),
    SEED("safetensors", "escapes", METADATA("\"a\\n\\u00e9\":\"\\\"\\\\\\/\"") "}"),
    SEED("safetensors", "same_names",
         "{" TENSOR("a", "I8", "[1]", 0, 1) "," TENSOR("a", "I8", "[1]", 1, 2) "}" DATA("\x02\0",
                                                                                        "x")),
    SEED("safetensors", "overlap",
         "{" TENSOR("a", "I32", "[2]", 0, 8) "," TENSOR("b", "U32", "[1]", 4, 8) "}" DATA("\x08\0",
                                                                                          "x")),
    SEED("safetensors", "hole",
         "{" TENSOR("a", "I64", "[1]", 0, 8) "," TENSOR("b", "U64", "[1]", 9, 17) "}" DATA("\x11\0",
                                                                                           "x")),
    SEED("safetensors", "overflow",
         "{" TENSOR("a", "F16", "[9223372036854775808,2]", 0, 0) "}" DATA("\0\0", "")),
    SEED("safetensors", "longer_than_it_is", "\xff\0\0\0\0\0\0\0{}"),
    SEED("safetensors", "as_it_is", "\x02\0\0\0\0\0\0\0{}"),

    SEED("data", "npy", "a.npy\n" NPY("<f4", "(2, 3)") DATA("\x18\0", ONE)),
    SEED("data", "headerless",
         "data_2_3.npy\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80\x3f"),
    SEED("data", "only_tensor", "\n{" TENSOR("a", "BF16", "[2,2]", 0, 8) "}" DATA("\x08\0", ONE)),
    SEED("data", "by_name",
         "b\n{" TENSOR("a", "F32", "[1]", 0, 4) "," TENSOR("b", "F64", "[2,1]", 4,
                                                           20) "}" DATA("\x14\0", ONE)),
    SEED("data", "no_such_name", "c\n{" TENSOR("a", "F32", "[1,1]", 0, 4) "}" DATA("\x04\0", ONE)),
    SEED("data", "no_matrix", "\n{" TENSOR("a", "I32", "[1,1]", 0, 4) "}" DATA("\x04\0", ONE)),

    SEED("model", "spelled_out",
         MODEL("msae-uw", "relu", "1,3", "1,2.5", "") "}" DATA("\x50\0", ONE)),
    SEED("model", "batchtopk",
         MODEL("batchtopk", "relu", "2", "1", "") "," TENSOR("threshold", "F32", "[1]", 80,
                                                             84) "}" DATA("\x54\0", ONE)),
    SEED("model", "msae_width",
         MODEL("msae-width", "relu", "1,3", "1,1", ",\"k\":\"2\"") "," TENSOR(
             "threshold", "F32", "[1]", 80, 84) "}" DATA("\x54\0", ONE)),
    SEED("model", "jumprelu",
         MODEL("jumprelu", "relu", "3", "1", "") "," TENSOR("log_threshold", "F32", "[3]", 80,
                                                            92) "}" DATA("\x5c\0", ONE)),
    SEED("model", "bad_scale", MODEL("topk", "abs", "2", "1", "") "}" DATA("\x50\0", "\0\0\0\0")),
    SEED("model", "not_finite",
         MODEL("topk", "identity", "2", "1", "") "}" DATA("\x50\0", "\0\0\xc0\x7f")),
    SEED("model", "more_levels_than_there_can_be",
         MODEL("msae-uw", "relu",
               "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
               "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
               "1", "") "}" DATA("\x50\0", ONE)),
    SEED("model", "bad_checksum",
         MODEL("msae-rw", "relu", "1,2,3", "3,2,1",
               ",\"checksum\":\"0123456789abcdef\"") "}" DATA("\x50\0", ONE)),
    SEED("model", "made_msae_uw", MADE("\x01", "\x01", "\0", "\0")),
    SEED("model", "made_msae_rw", MADE("\x02", "\x03", "\0", "\x01")),
    SEED("model", "made_topk", MADE("\x03", "\x02", "\x01", "\0")),
    SEED("model", "made_batchtopk", MADE("\x04", "\0", "\0", "\0")),
    SEED("model", "made_relu", MADE("\x05", "\0", "\x01", "\x01")),
    SEED("model", "made_jumprelu", MADE("\x06", "\0", "\0", "\0")),
    SEED("model", "made_msae", MADE("\x07", "\x01", "\0", "\0")),
    SEED("model", "made_msae_width", "M\0\0\x02\x05\x08\0\x03\0\x01\x02\0\x02\x01\0\0"),
    SEED("model", "made_by_rows", MADE_OF("\x02", "\x01", "\x01", "\0", "\0")),
    SEED("model", "made_of_halves", MADE_OF("\x04", "\x03", "\x01", "\0", "\x01")),
    SEED("model", "made_of_bfloats", MADE_OF("\x06", "\x06", "\0", "\x01", "\0")),
    SEED("model", "made_of_int8", MADE_OF("\x08", "\x04", "\0", "\0", "\0")),
    SEED("model", "made_with_largest_lr", MADE("\x01", "\x01", "\0", "\0") "\0\0\0\0\0\0\0\0\x06"),
    SEED("model", "made_and_changed",
         "M\x02\x01\x40\x01x\xf0\x05\x3f\x02\x06\x01\x01\x03\0\x01\x02\0\x02\0\0\0"),

    SEED("codes", "one_row", "0{" CODES("F32") "}" DATA("\x18\0", INDPTR_0_1 "\0\0\0\0" ONE)),
    SEED("codes", "no_such_latent",
         "0{" CODES("F32") "}" DATA("\x18\0", INDPTR_0_1 "\x05\0\0\0" ONE)),
    SEED("codes", "not_finite",
         "0{" CODES("F32") "}" DATA("\x18\0", INDPTR_0_1 "\0\0\0\0\0\0\x80\x7f")),
    SEED("codes", "descends",
         "0{" CODES("F32") "}" DATA("\x18\0", "\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" ONE)),
    SEED("codes", "other_types", "0{" CODES("I32") "}" DATA("\x18\0", INDPTR_0_1)),
    SEED("codes", "normalized",
         "1{" CODES("F32") "," TENSOR("moments", "F32", "[1,2]", 24,
                                      32) "}" DATA("\x20\0", INDPTR_0_1 "\x04\0\0\0" ONE ONE ONE)),
    SEED("codes", "moments_of_two_rows",
         "1{" CODES("F32") "," TENSOR("moments", "F32", "[2,2]", 24, 40) "}" DATA("\x28\0", ONE)),
    SEED("codes", "more_values_than_indices",
         "0{" TENSOR("indptr", "I64", "[2]", 0, 16) "," TENSOR(
             "indices", "I32", "[1]", 16,
             20) "," TENSOR("values", "F32", "[2]", 20,
                            28) "}" DATA("\x1c\0", INDPTR_0_1 "\0\0\0\0" ONE ONE)),
    SEED("checkpoint", "msae_uw", RUN("\x01", "\0", "\0", "\x01", "\x03")),
    SEED("checkpoint", "msae_rw_tied", RUN("\x02", "\x01", "\0", "\x02", "\x04")),
    SEED("checkpoint", "topk_normalize", RUN("\x03", "\0", "\x01", "\x03", "\x01")),
    SEED("checkpoint", "batchtopk", RUN("\x04", "\0", "\0", "\x01", "\x05")),
    SEED("checkpoint", "relu", RUN("\x05", "\0", "\0", "\x01", "\x02")),
    SEED("checkpoint", "jumprelu", RUN("\x06", "\0", "\0", "\x01", "\x02")),
    SEED("checkpoint", "msae", RUN("\x07", "\0", "\0", "\x01", "\x03")),
    SEED("checkpoint", "msae_width", RUN("\x08", "\0", "\0", "\x01", "\x04")),
    SEED("checkpoint", "before_the_first_step", RUN("\x01", "\0", "\0", "\x01", "\0")),
    SEED("checkpoint", "in_windows", RUN("\x01", "\x02", "\0", "\x01", "\x01")),
    SEED("checkpoint", "in_windows_tied", RUN("\x04", "\x03", "\0", "\x01", "\x02")),
    SEED("checkpoint", "blocks_of_none", RUN_BLOCKS("\xd2", "0")),
    SEED("checkpoint", "blocks_of_all", RUN_BLOCKS("\xd2", "4")),
    SEED("checkpoint", "windows_of_none", RUN_BLOCKS("\xd4", "0")),
    SEED("checkpoint", "windows_too_small", RUN_BLOCKS("\xd4", "1")),
    SEED("checkpoint", "windows_of_more_than_all", RUN_BLOCKS("\xd4", "9")),
    SEED("checkpoint", "blocks_of_no_digits", RUN_BLOCKS("\xd3", "x")),
    SEED("checkpoint", "rows_that_overflow", RUN("\x01", "\0", "\0", "\x01", "\x03") "\0\x06\x07"),

    SEED("codes", "of_this_model",
         "0" METADATA("\"n_inputs\":\"3\",\"n_latents\":\"5\"") "," CODES("F32") "}" DATA(
             "\x18\0", INDPTR_0_1 "\x04\0\0\0" ONE)),
    SEED("codes", "of_another_checksum",
         "0" METADATA("\"model\":\"0123456789abcdef\"") "," CODES("F32") "}" DATA(
             "\x18\0", INDPTR_0_1 "\0\0\0\0" ONE)),
    SEED("codes", "own_statistics",
         "0" METADATA("\"own_statistics\":\"1\"") "," CODES("F32") "}" DATA("\x18\0", INDPTR_0_1
                                                                            "\0\0\0\0" ONE)),
    SEED("codes", "of_another_model",
         "0" METADATA("\"n_latents\":\"6\"") "," CODES("F32") "}" DATA("\x18\0",
                                                                       INDPTR_0_1 "\0\0\0\0" ONE)),

    SEED("index", "spelled_out",
         INDEX("2", "2") DATA("\x38\0", STARTS_0_1_3 U32_0 U32_0 U32_1 ONE ONE ONE U32_2 U32_1)),
    SEED("index", "rows_descend",
         INDEX("2", "2") DATA("\x38\0", STARTS_0_1_3 U32_0 U32_1 U32_0 ONE ONE ONE U32_2 U32_1)),
    SEED("index", "no_such_row",
         INDEX("2", "2") DATA("\x38\0", STARTS_0_1_3 U32_0 U32_0 U32_2 ONE ONE ONE U32_2 U32_1)),
    SEED("index", "wrong_count",
         INDEX("2", "2") DATA("\x38\0", STARTS_0_1_3 U32_0 U32_0 U32_1 ONE ONE ONE U32_1 U32_1)),
    SEED("index", "entry_of_zero",
         INDEX("2", "2") DATA("\x38\0", STARTS_0_1_3 U32_0 U32_0 U32_1 ONE U32_0 ONE U32_2 U32_1)),
    SEED("index", "k_too_large", INDEX("3", "2") DATA("\x38\0", STARTS_0_1_3)),
    SEED("index", "bytes_for_other_rows", INDEX("2", "3") DATA("\x38\0", STARTS_0_1_3)),
    SEED("index", "made", "I\0\x05\0\x02\x06\x01\x03"),
    SEED("index", "made_identity", "I\0\x08\0\x01\x08\x02\0"),
    SEED("index", "made_and_changed", "I\x01\x05\x01\x90\x02\x01\x02\x06\x01\x03"),

    SEED("words", "plain", "\0cat\ndog\n"),
    SEED("words", "column_of_words", "\0count\tword\n12\tcat\r\n7\tdog"),
    SEED("words", "tsv_header_alone", "\2word\n"),
    SEED("words", "tsv_of_one_column", "\2word\ncat\n"),
    SEED("words", "byte_order_mark",
         "\0\xef\xbb\xbf"
         "cat\n"),
    SEED("words", "empty_lines", "\0\n\r\n\t\n"),
    SEED("words", "zero_byte", "\0cat\0dog"),
    SEED("words", "table", "\1class\tspecies\ntabby\tcat\nrose\t\npug\tdog\n"),
    SEED("words", "table_without_rows", "\1class\tspecies"),
    SEED("words", "table_row_too_short", "\1class\tspecies\ntabby\n"),
    SEED("concepts", "list",
         "latent\tname\tscore\tvalid\n0\tcat\t0.5\t1\n3\tlynx, catamount\t.3\t0\n\f"
         "cat=2,lynx=-0.5, lynx,2=0:1"),
    SEED("concepts", "joined",
         "latent\tname\n1\tlynx, catamount\n\f"
         "lynx, catamount=+2,0"),
    SEED("concepts", "nearest", "latent\tname\n1\tdog\n\fdgo"),
    SEED("concepts", "twice", "latent\tname\n1\tdog\n1\tdog\n\f1"),
    SEED("concepts", "number_too_high", "latent\tname\n9\tdog\n\f9"),
    SEED("concepts", "no_names", "\f1=1,2=2"),

    SEED("options", "every_kind",
         "--flag\n-o\nfile\n--choice=second\n--count\n12\n--number=18446744073709551615\n"
         "--real\n0\n--positive=1.5e-3\n--counts\n16,32,64\n--reals=0,.5,1e9\none\ntwo"),
    SEED("options", "help", "one\n--help"),
    SEED("options", "unknown", "--nothing"),
    SEED("options", "no_value", "one\ntwo\n--count"),
    SEED("options", "flag_with_value", "--flag=1"),
    SEED("options", "one_too_many", "one\ntwo\nthree"),
    SEED("options", "bad_count", "--count\n0"),
    SEED("options", "bad_number", "--number\n18446744073709551616"),
    SEED("options", "bad_real", "--real\ninf"),
    SEED("options", "bad_choice", "--choice=fourth"),
    SEED("options", "same_twice", "one\ntwo\n--ks=1,16,all,own\n--ks=01,16,all,own"),
    SEED("options", "other_twice", "one\ntwo\n--ks=1\n--ks=2"),
    SEED("options", "needs", "one\ntwo\n--flag\n--real=1"),
    SEED("options", "excludes", "one\ntwo\n--kept=all\n--ks=own"),
    SEED("options", "together", "one\ntwo\n--positive=1"),
    SEED("options", "reads", "one.npy\ntwo\nthree.NPY\n--text=name"),
    SEED("options", "list_too_long",
         "--counts\n1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
         "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"),

    SEED("kernels", "adam_nan_gradient", "\x0d\x01\0\0\x7a\0\x0a"),

    SEED("numbers", "largest", "\x7f\x7f\xff\xff"),
    SEED("numbers", "negative_zero", "\x80\0\0\0"),
    SEED("numbers", "smallest", "\0\0\0\x01"),
    SEED("numbers", "decimal", "-12.50e-3,"),
    SEED("numbers", "large_exponent", "0e999"),
    SEED("numbers", "beyond_double", "12.0e9995"),
    SEED("numbers", "forty_digits", "1234567890123456789012345678901234567890"),
    SEED("numbers", "no_digits", ".e1"),
};

/* The targets whose inputs are numbers start from noise: for each of so many kinds, which the first
   byte tells, a wild one, and a tame one (see fuzz_kernels.c) whose second byte, mostly a length,
   is large. */
typedef struct noise {
    const char *target;
    unsigned kinds;
} noise;

enum { NOISE_BYTES = 64, LONG = 77 };

static const noise noises[] = {{"kernels", 14}, {"topk", 3}};

static void write_seed(const char *folder, const char *target, const char *name, const void *bytes,
                       size_t size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, target);
    mkdir(path, 0777); /* most of the time it is there */
    snprintf(path, sizeof path, "%s/%s/%s", folder, target, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

int main(int argc, char **argv) {
    unsigned long state = 1;
    if (argc != 2) {
        fputs("usage: seeds FOLDER\n", stderr);
        return 2;
    }
    mkdir(argv[1], 0777);
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        write_seed(argv[1], seeds[i].target, seeds[i].name, seeds[i].bytes, seeds[i].size);
    }
    for (size_t i = 0; i < sizeof noises / sizeof noises[0]; i++) {
        for (unsigned kind = 0; kind < noises[i].kinds; kind++) {
            unsigned char bytes[NOISE_BYTES];
            char name[32];
            bytes[0] = (unsigned char)kind;
            for (size_t b = 1; b < NOISE_BYTES; b++) {
                state = (state * 1103515245 + 12345) & 0x7fffffff;
                bytes[b] = (unsigned char)(state >> 16 & 255);
            }
            snprintf(name, sizeof name, "wild_%u", kind);
            write_seed(argv[1], noises[i].target, name, bytes, NOISE_BYTES);
            snprintf(name, sizeof name, "tame_%u", kind);
            bytes[0] = (unsigned char)(kind + noises[i].kinds * (256 / noises[i].kinds - 1));
            bytes[1] = LONG;
            write_seed(argv[1], noises[i].target, name, bytes, NOISE_BYTES);
        }
    }
    return 0;
}
