/* torch.save files: tensors, the pickle, and a writer. See torch.h. */
#include "torch.h"

#include "bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PICKLE = 64 << 20 }; /* bytes of data.pkl, which is read whole and holds no weights */

/* ---------------------------------------------------------------------------------------------
   Tensors
   ------------------------------------------------------------------------------------------ */

static double half_value(uint32_t half) {
    const uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
    const double sign = half >> 15 ? -1 : 1;
    double power = 1;
    if (exponent == 31) {
        const uint64_t bits = (fraction ? 0x7ff8000000000000u : 0x7ff0000000000000u);
        double value;
        memcpy(&value, &bits, sizeof value);
        return sign * value;
    }
    if (exponent == 0) return sign * fraction / 16777216.0; /* 2^24 */
    for (uint32_t e = 15; e < exponent; e++) power *= 2;
    for (uint32_t e = exponent; e < 15; e++) power /= 2;
    return sign * (1 + fraction / 1024.0) * power;
}

static double double_of_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double element(msae_dtype dtype, const unsigned char *at) {
    switch (dtype) {
    case MSAE_F32:
        return (double)bytes_float((uint32_t)bytes_get(at, 4));
    case MSAE_F16:
        return half_value((uint32_t)bytes_get(at, 2));
    case MSAE_BF16:
        return (double)bytes_float((uint32_t)bytes_get(at, 2) << 16);
    case MSAE_F64:
        return double_of_bits(bytes_get(at, 8));
    case MSAE_I8:
        return (double)(int8_t)at[0];
    case MSAE_I16:
        return (double)(int16_t)bytes_get(at, 2);
    case MSAE_I32:
        return (double)(int32_t)bytes_get(at, 4);
    case MSAE_I64:
        return (double)(int64_t)bytes_get(at, 8);
    case MSAE_U16:
        return (double)bytes_get(at, 2);
    case MSAE_U32:
        return (double)bytes_get(at, 4);
    case MSAE_U64:
        return (double)bytes_get(at, 8);
    case MSAE_BOOL:
        return at[0] != 0;
    default:
        return (double)at[0]; /* MSAE_U8 */
    }
}

/* A line of elements; float32 to float32, what most weights are, without a detour. */
static void read_line(const torch_tensor *tensor, const unsigned char *storage, uint64_t first,
                      uint64_t stride, size_t count, msae_dtype as, void *out) {
    const size_t size = msae_dtype_bytes(tensor->dtype);
    const unsigned char *at = storage + first * size;
    for (size_t i = 0; i < count; i++, at += stride * size) {
        if (as == MSAE_F64) {
            ((double *)out)[i] = element(tensor->dtype, at);
        } else if (tensor->dtype == MSAE_F32) {
            ((float *)out)[i] = bytes_float((uint32_t)bytes_get(at, 4));
        } else {
            ((float *)out)[i] = (float)element(tensor->dtype, at);
        }
    }
}

static void read_elements(const torch_tensor *tensor, const unsigned char *storage, msae_dtype as,
                          void *out) {
    const size_t outer = tensor->rank > 0 ? tensor->rank - 1 : 0;
    const size_t line = tensor->rank > 0 ? (size_t)tensor->shape[outer] : 1;
    const uint64_t stride = tensor->rank > 0 ? tensor->stride[outer] : 0;
    uint64_t index[MSAE_MAX_RANK] = {0}, at = tensor->offset;
    unsigned char *to = out;
    for (uint64_t done = 0; done < tensor->elements; done += line) {
        read_line(tensor, storage, at, stride, line, as, to);
        to += line * msae_dtype_bytes(as);
        for (size_t k = outer; k > 0; k--) { /* the next line, as an odometer turns */
            at += tensor->stride[k - 1];
            if (++index[k - 1] < tensor->shape[k - 1]) break;
            at -= tensor->stride[k - 1] * index[k - 1];
            index[k - 1] = 0;
        }
    }
}

msae_status torch_read(const msae_reader *reader, const torch_tensor *tensor, msae_dtype as,
                       void *out, const msae_allocator *allocator, msae_error *error) {
    msae_status status;
    unsigned char *storage;
    if (tensor->elements == 0) return MSAE_OK;
    storage = bytes_read_block(reader, tensor->at, tensor->bytes, allocator, &status, error);
    if (storage == NULL) return status;
    if (tensor->has_crc && bytes_crc(storage, (size_t)tensor->bytes) != tensor->crc) {
        status = bytes_fail(error, MSAE_ERROR_FORMAT, tensor->at,
                            "the record at byte %llu does not match its checksum",
                            (unsigned long long)tensor->at);
    } else {
        read_elements(tensor, storage, as, out);
    }
    bytes_give(allocator, storage, (size_t)tensor->bytes);
    return status;
}

torch_tensor torch_transposed(const torch_tensor *matrix) {
    torch_tensor t = *matrix;
    t.shape[0] = matrix->shape[1];
    t.shape[1] = matrix->shape[0];
    t.stride[0] = matrix->stride[1];
    t.stride[1] = matrix->stride[0];
    return t;
}

/* ---------------------------------------------------------------------------------------------
   The pickle's machine
   ------------------------------------------------------------------------------------------ */

enum { KIND_GLOBAL = TORCH_KINDS, KIND_STORAGE, KIND_NUMPY_DTYPE };

enum {
    PLACED = 1,   /* inside another value: changes no more */
    ORDERED = 2,  /* an OrderedDict */
    INTERNAL = 4, /* a tuple with something inside that is no value */
    HAS_STATE = 8 /* an OrderedDict or a dtype that was built */
};

typedef enum role {
    ROLE_ORDERED_DICT,
    ROLE_TENSOR,
    ROLE_PARAMETER,
    ROLE_SIZE,
    ROLE_STORAGE,
    ROLE_DTYPE,
    ROLE_NUMPY_SCALAR,
    ROLE_NUMPY_DTYPE,
    ROLE_ENCODE
} role;

/* All that a pickle may name. What has a dtype says which. */
static const struct global {
    const char *module, *name;
    role role;
    msae_dtype dtype;
} globals[] = {
    {"collections", "OrderedDict", ROLE_ORDERED_DICT, MSAE_F32},
    {"torch._utils", "_rebuild_tensor_v2", ROLE_TENSOR, MSAE_F32},
    {"torch._utils", "_rebuild_parameter", ROLE_PARAMETER, MSAE_F32},
    {"torch", "Size", ROLE_SIZE, MSAE_F32},
    {"torch", "FloatStorage", ROLE_STORAGE, MSAE_F32},
    {"torch", "DoubleStorage", ROLE_STORAGE, MSAE_F64},
    {"torch", "HalfStorage", ROLE_STORAGE, MSAE_F16},
    {"torch", "BFloat16Storage", ROLE_STORAGE, MSAE_BF16},
    {"torch", "LongStorage", ROLE_STORAGE, MSAE_I64},
    {"torch", "IntStorage", ROLE_STORAGE, MSAE_I32},
    {"torch", "ShortStorage", ROLE_STORAGE, MSAE_I16},
    {"torch", "CharStorage", ROLE_STORAGE, MSAE_I8},
    {"torch", "ByteStorage", ROLE_STORAGE, MSAE_U8},
    {"torch", "BoolStorage", ROLE_STORAGE, MSAE_BOOL},
    {"torch.storage", "UntypedStorage", ROLE_STORAGE, MSAE_U8},
    {"torch", "float32", ROLE_DTYPE, MSAE_F32},
    {"torch", "float64", ROLE_DTYPE, MSAE_F64},
    {"torch", "float16", ROLE_DTYPE, MSAE_F16},
    {"torch", "bfloat16", ROLE_DTYPE, MSAE_BF16},
    {"torch", "int64", ROLE_DTYPE, MSAE_I64},
    {"torch", "int32", ROLE_DTYPE, MSAE_I32},
    {"torch", "int16", ROLE_DTYPE, MSAE_I16},
    {"torch", "int8", ROLE_DTYPE, MSAE_I8},
    {"torch", "uint8", ROLE_DTYPE, MSAE_U8},
    {"torch", "bool", ROLE_DTYPE, MSAE_BOOL},
    {"numpy.core.multiarray", "scalar", ROLE_NUMPY_SCALAR, MSAE_F64},
    {"numpy._core.multiarray", "scalar", ROLE_NUMPY_SCALAR, MSAE_F64},
    {"numpy", "dtype", ROLE_NUMPY_DTYPE, MSAE_F64},
    {"_codecs", "encode", ROLE_ENCODE, MSAE_F64},
};
enum { N_GLOBALS = sizeof globals / sizeof globals[0] };

/* A block that values are cut from; all are given back at once. */
typedef struct chunk {
    struct chunk *next;
    size_t bytes, used;
} chunk;

/* An array that grows. */
typedef struct list {
    void *items;
    size_t count, room;
} list;

typedef struct machine {
    torch_file *file;
    const char *folder; /* of the archive, with its slash */
    size_t folder_bytes;
    const unsigned char *bytes;
    size_t size, at;
    size_t opcode;     /* where the running one stands */
    uint64_t position; /* of the pickle in the file */
    list stack;        /* of torch_value * */
    list marks;        /* of size_t: the stack's heights */
    list memo;         /* of torch_value *, NULL where nothing was put */
    size_t memoized;   /* how many were */
    msae_error *error;
    msae_status status;
} machine;

/* The first failure stays. Always 0. */
static int stop(machine *m, const char *format, ...) BYTES_PRINTF(2, 3);

static int stop(machine *m, const char *format, ...) {
    char what[200];
    va_list arguments;
    if (m->status != MSAE_OK) return 0;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    m->status = bytes_fail(m->error, MSAE_ERROR_FORMAT, m->position + m->opcode,
                           "data.pkl: byte %llu: %s", (unsigned long long)m->opcode, what);
    return 0;
}

static int stop_memory(machine *m) {
    if (m->status == MSAE_OK) m->status = bytes_fail_memory(m->error);
    return 0;
}

static void *pool_take(machine *m, size_t bytes) {
    const size_t head = (sizeof(chunk) + 15) / 16 * 16;
    chunk *top = m->file->pool;
    bytes = (bytes + 7) / 8 * 8;
    if (top == NULL || bytes > top->bytes - top->used) {
        size_t room = top == NULL ? 2048 : top->bytes < (1u << 19) ? 2 * top->bytes : top->bytes;
        if (room < head + bytes) room = head + bytes;
        chunk *fresh = bytes_take(&m->file->allocator, room);
        if (fresh == NULL) {
            stop_memory(m);
            return NULL;
        }
        fresh->next = top;
        fresh->bytes = room;
        fresh->used = head;
        m->file->pool = top = fresh;
    }
    top->used += bytes;
    return (char *)top + top->used - bytes;
}

/* Room for `count` items of `size` bytes. */
static int make_room(machine *m, list *l, size_t count, size_t size) {
    void *items = bytes_grow(&m->file->allocator, l->items, &l->room, count, size);
    if (items == NULL) return stop_memory(m);
    l->items = items;
    return 1;
}

static torch_value *new_value(machine *m, int kind) {
    torch_value *value = pool_take(m, sizeof *value);
    if (value == NULL) return NULL;
    memset(value, 0, sizeof *value);
    value->kind = (unsigned char)kind;
    value->weight = 1;
    return value;
}

static int push(machine *m, torch_value *value) {
    if (value == NULL || !make_room(m, &m->stack, m->stack.count + 1, sizeof value)) return 0;
    ((torch_value **)m->stack.items)[m->stack.count++] = value;
    return 1;
}

/* The values above the last mark, or above the bottom: how many. */
static size_t above_mark(const machine *m) {
    const size_t *marks = m->marks.items;
    return m->stack.count - (m->marks.count > 0 ? marks[m->marks.count - 1] : 0);
}

/* Value i from the top, which is there: need() has said so. */
static torch_value *top(const machine *m, size_t i) {
    return ((torch_value **)m->stack.items)[m->stack.count - 1 - i];
}

static int need(machine *m, size_t count) {
    if (above_mark(m) >= count) return 1;
    return stop(m, "the stack has too few values");
}

/* The number of values above the last mark, which is taken away. */
static int pop_mark(machine *m, size_t *count) {
    if (m->marks.count == 0) return stop(m, "there is no mark");
    *count = above_mark(m);
    m->marks.count--;
    return 1;
}

/* ---- containers ---- */

static int is_container(const torch_value *value) {
    return value->kind == TORCH_LIST || value->kind == TORCH_TUPLE || value->kind == TORCH_DICT;
}

static int compare_keys(const void *a, const void *b) {
    const torch_value *x = *(torch_value *const *)a, *y = *(torch_value *const *)b;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    if (x->kind == TORCH_INT) {
        return (x->as.integer > y->as.integer) - (x->as.integer < y->as.integer);
    }
    if (x->count != y->count) return x->count < y->count ? -1 : 1;
    return memcmp(x->as.text, y->as.text, x->count);
}

static int keys_differ(machine *m, const torch_value *dict) {
    const size_t bytes = dict->count * sizeof(torch_value *);
    torch_value **keys;
    int ok = 1;
    if (dict->count < 2) return 1;
    keys = bytes_take(&m->file->allocator, bytes);
    if (keys == NULL) return stop_memory(m);
    for (size_t i = 0; i < dict->count; i++) keys[i] = dict->as.items[2 * i];
    qsort(keys, dict->count, sizeof *keys, compare_keys);
    for (size_t i = 1; i < dict->count && ok; i++) {
        if (compare_keys(&keys[i - 1], &keys[i]) != 0) continue;
        ok = keys[i]->kind == TORCH_INT
                 ? stop(m, "the key %lld is twice in a dict", (long long)keys[i]->as.integer)
                 : stop(m, "the key '%.40s' is twice in a dict", keys[i]->as.text);
    }
    bytes_give(&m->file->allocator, keys, bytes);
    return ok;
}

/* A value is finished: it goes into another one, or is the result. */
static int finish(machine *m, torch_value *value) {
    if (value->state & PLACED) return 1;
    value->state |= PLACED;
    return value->kind != TORCH_DICT || keys_differ(m, value);
}

/* Counts an item in, so that what refers to itself, nests too deeply or unfolds to more than the
   file holds never comes into being. */
static int take_in(machine *m, torch_value *into, torch_value *item) {
    if (!finish(m, item)) return 0;
    if (into->state & PLACED) {
        return stop(m, "a value changes after it was put into another (or into itself)");
    }
    if (is_container(item)) {
        if (item->height + 1 >= TORCH_MAX_DEPTH) {
            return stop(m, "more than %d values inside each other", TORCH_MAX_DEPTH);
        }
        if (into->height < item->height + 1) into->height = (unsigned char)(item->height + 1);
    }
    if (item->weight > m->size || into->weight > m->size - item->weight) {
        return stop(m, "values that unfold to more than the pickle's %llu bytes",
                    (unsigned long long)m->size);
    }
    into->weight += item->weight;
    if (item->kind >= TORCH_KINDS || item->state & INTERNAL) {
        if (into->kind != TORCH_TUPLE) return stop(m, "a global where a value should be");
        into->state |= INTERNAL;
    }
    return 1;
}

/* Moves the `count` topmost values into a container. */
static int append(machine *m, torch_value *into, size_t count) {
    const size_t have = into->kind == TORCH_DICT ? 2 * (size_t)into->count : into->count;
    torch_value **from;
    if (count == 0) return 1;
    from = (torch_value **)m->stack.items + (m->stack.count - count);
    if (have + count > into->room) {
        const size_t room = have == 0 ? count : have + count > 2 * have ? have + count : 2 * have;
        torch_value **items = pool_take(m, room * sizeof *items);
        if (items == NULL) return 0;
        if (have > 0) memcpy(items, into->as.items, have * sizeof *items);
        into->as.items = items;
        into->room = (uint32_t)room;
    }
    for (size_t i = 0; i < count; i++) {
        if (into->kind == TORCH_DICT && i % 2 == 0 && from[i]->kind != TORCH_TEXT &&
            from[i]->kind != TORCH_INT) {
            return stop(m, "a key that is no text and no whole number");
        }
        if (!take_in(m, into, from[i])) return 0;
        into->as.items[have + i] = from[i];
    }
    into->count += (uint32_t)(into->kind == TORCH_DICT ? count / 2 : count);
    m->stack.count -= count;
    return 1;
}

static int make_tuple(machine *m, size_t count) {
    torch_value *tuple = new_value(m, TORCH_TUPLE);
    return tuple != NULL && append(m, tuple, count) && push(m, tuple);
}

/* The `count` topmost values go into the container below them. */
static int add_items(machine *m, int kind, size_t count) {
    torch_value *into;
    if (!need(m, count + 1)) return 0;
    into = top(m, count);
    if (into->kind != kind) {
        return stop(m,
                    kind == TORCH_LIST ? "items for what is no list" : "keys for what is no dict");
    }
    if (kind == TORCH_DICT && count % 2 != 0) return stop(m, "a key without a value");
    if (into->state & HAS_STATE) return stop(m, "an OrderedDict that grows after its state");
    return append(m, into, count);
}

/* ---- texts ---- */

static torch_value *new_text(machine *m, int kind, const unsigned char *bytes, size_t size) {
    torch_value *value = new_value(m, kind);
    char *text = value != NULL ? pool_take(m, size + 1) : NULL;
    if (text == NULL) return NULL;
    memcpy(text, bytes, size);
    text[size] = '\0';
    value->as.text = text;
    value->count = (uint32_t)size;
    return value;
}

/* A text or bytes whose length stands before it in `width` bytes. */
static int read_text(machine *m, int kind, size_t width) {
    uint64_t size;
    const unsigned char *bytes;
    if (m->size - m->at < width) return stop(m, "the pickle ends inside an opcode");
    size = bytes_get(m->bytes + m->at, width);
    m->at += width;
    if (size > m->size - m->at) {
        return stop(m, "a text of %llu bytes where %llu are left", (unsigned long long)size,
                    (unsigned long long)(m->size - m->at));
    }
    bytes = m->bytes + m->at;
    m->at += (size_t)size;
    for (size_t i = 0; kind == TORCH_TEXT && i < size;) {
        const size_t length = bytes_utf8(bytes + i, (size_t)size - i);
        if (length == 0) return stop(m, "a text that is no UTF-8");
        i += length;
    }
    return push(m, new_text(m, kind, bytes, (size_t)size));
}

static int is_text(const torch_value *value, const char *text) {
    return value->kind == TORCH_TEXT && value->count == strlen(text) &&
           memcmp(value->as.text, text, value->count) == 0;
}

/* ---- globals, and what becomes of those that are called ---- */

static void make_printable(char *out, size_t room, const unsigned char *text, size_t size) {
    size_t i = 0;
    for (; i < size && i + 1 < room; i++) {
        out[i] = (char)(text[i] < 32 || text[i] > 126 ? '?' : text[i]);
    }
    out[i] = '\0';
}

static int push_global(machine *m, const unsigned char *module, size_t module_bytes,
                       const unsigned char *name, size_t name_bytes) {
    char module_text[64], name_text[48];
    for (size_t i = 0; i < N_GLOBALS; i++) {
        if (strlen(globals[i].module) == module_bytes && strlen(globals[i].name) == name_bytes &&
            memcmp(globals[i].module, module, module_bytes) == 0 &&
            memcmp(globals[i].name, name, name_bytes) == 0) {
            const int is_dtype = globals[i].role == ROLE_DTYPE;
            torch_value *value = new_value(m, is_dtype ? TORCH_DTYPE : KIND_GLOBAL);
            if (value == NULL) return 0;
            if (is_dtype) {
                value->as.dtype = globals[i].dtype;
            } else {
                value->as.integer = (int64_t)i;
            }
            return push(m, value);
        }
    }
    make_printable(module_text, sizeof module_text, module, module_bytes);
    make_printable(name_text, sizeof name_text, name, name_bytes);
    return stop(m, "the global %s.%s is not allowed (of a whole model save model.state_dict())",
                module_text, name_text);
}

/* Two lines, of a module and a name. */
static int read_global(machine *m) {
    const unsigned char *line[2];
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        const unsigned char *end;
        line[i] = m->bytes + m->at;
        end = memchr(line[i], '\n', m->size - m->at);
        if (end == NULL) return stop(m, "the pickle ends inside an opcode");
        bytes[i] = (size_t)(end - line[i]);
        m->at += bytes[i] + 1;
    }
    return push_global(m, line[0], bytes[0], line[1], bytes[1]);
}

static int stack_global(machine *m) {
    torch_value *module, *name;
    if (!need(m, 2)) return 0;
    module = top(m, 1);
    name = top(m, 0);
    if (module->kind != TORCH_TEXT || name->kind != TORCH_TEXT) {
        return stop(m, "a global whose name is no text");
    }
    m->stack.count -= 2;
    return push_global(m, (const unsigned char *)module->as.text, module->count,
                       (const unsigned char *)name->as.text, name->count);
}

static const struct global *global_of(const torch_value *value) {
    return value->kind == KIND_GLOBAL ? &globals[value->as.integer] : NULL;
}

/* A storage: ('storage', type, key, location, elements). */
static int persistent_id(machine *m) {
    torch_value **items, *id, *value;
    const struct global *type;
    const zip_member *record;
    torch_tensor *storage;
    char name[64], shown_key[48];
    size_t size;
    if (!need(m, 1)) return 0;
    id = top(m, 0);
    items = id->as.items;
    if (id->kind != TORCH_TUPLE || id->count != 5 || !is_text(items[0], "storage")) {
        return stop(m, "a persistent id that is no storage");
    }
    type = global_of(items[1]);
    if (type == NULL || type->role != ROLE_STORAGE) return stop(m, "a storage of no known type");
    if (items[2]->kind != TORCH_TEXT || items[3]->kind != TORCH_TEXT ||
        items[4]->kind != TORCH_INT || items[4]->as.integer < 0) {
        return stop(m, "a storage whose key, location or size is malformed");
    }
    make_printable(shown_key, sizeof shown_key, (const unsigned char *)items[2]->as.text,
                   items[2]->count);
    size = items[2]->count + 5;
    if (size > sizeof name) return stop(m, "there is no record data/%s", shown_key);
    memcpy(name, "data/", 5);
    memcpy(name + 5, items[2]->as.text, items[2]->count);
    record = zip_find(&m->file->zip, m->folder, m->folder_bytes, name, size);
    if (record == NULL) return stop(m, "there is no record data/%s", shown_key);
    size = msae_dtype_bytes(type->dtype);
    if ((uint64_t)items[4]->as.integer > UINT64_MAX / size ||
        (uint64_t)items[4]->as.integer * size != record->bytes) {
        return stop(m, "a storage of %lld elements of %llu bytes; the record data/%s has %llu",
                    (long long)items[4]->as.integer, (unsigned long long)size, shown_key,
                    (unsigned long long)record->bytes);
    }
    storage = pool_take(m, sizeof *storage);
    value = storage != NULL ? new_value(m, KIND_STORAGE) : NULL;
    if (value == NULL) return 0;
    memset(storage, 0, sizeof *storage);
    storage->dtype = type->dtype;
    storage->elements = (uint64_t)items[4]->as.integer;
    storage->at = record->at;
    storage->bytes = record->bytes;
    storage->crc = record->crc;
    storage->has_crc = !(m->file->flags & TORCH_NO_CRC);
    value->as.tensor = storage;
    m->stack.count--;
    return push(m, value);
}

static int is_ordered_dict(const torch_value *value) {
    return value->kind == TORCH_DICT && value->state & ORDERED;
}

static int read_dimension(const torch_value *value, uint64_t *number) {
    if (value->kind != TORCH_INT || value->as.integer < 0) return 0;
    *number = (uint64_t)value->as.integer;
    return 1;
}

/* A tensor's offset, sizes and strides, and its number of elements. */
static int read_shape(machine *m, torch_value *const *arguments, torch_tensor *tensor) {
    if (!read_dimension(arguments[1], &tensor->offset)) {
        return stop(m, "a tensor whose offset is negative or no number");
    }
    tensor->rank = arguments[2]->count;
    tensor->elements = 1;
    for (size_t k = 0; k < tensor->rank; k++) {
        if (!read_dimension(arguments[2]->as.items[k], &tensor->shape[k])) {
            return stop(m, "a tensor with a size that is negative or no number");
        }
        if (!read_dimension(arguments[3]->as.items[k], &tensor->stride[k])) {
            return stop(m, "a tensor with a stride that is negative or no number");
        }
        if (tensor->shape[k] == 0) tensor->elements = 0;
    }
    for (size_t k = 0; k < tensor->rank && tensor->elements > 0; k++) {
        if (tensor->elements > UINT64_MAX / 16 / tensor->shape[k]) {
            return stop(m, "a tensor with more elements than can be counted");
        }
        tensor->elements *= tensor->shape[k];
    }
    return 1;
}

/* Whether a tensor lies within a storage of so many elements. */
static int is_within(const torch_tensor *tensor, uint64_t elements) {
    uint64_t last = tensor->offset; /* the furthest element */
    if (tensor->elements == 0) return tensor->offset <= elements;
    for (size_t k = 0; k < tensor->rank; k++) {
        const uint64_t steps = tensor->shape[k] - 1, stride = tensor->stride[k];
        if (stride > 0 && steps > (UINT64_MAX - last) / stride) return 0;
        last += steps * stride;
    }
    return last < elements;
}

/* (storage, offset, size, stride, requires_grad, hooks) and, since PyTorch 1.11, metadata. */
static torch_value *rebuild_tensor(machine *m, const torch_value *arguments) {
    torch_value **items = arguments->as.items, *value;
    torch_tensor *tensor;
    if (arguments->count < 6 || arguments->count > 7 || items[0]->kind != KIND_STORAGE ||
        items[2]->kind != TORCH_TUPLE || items[3]->kind != TORCH_TUPLE ||
        items[4]->kind != TORCH_BOOL || !is_ordered_dict(items[5]) || items[5]->count != 0 ||
        (arguments->count == 7 && items[6]->kind != TORCH_NONE && items[6]->kind != TORCH_DICT)) {
        stop(m, "a tensor with arguments that are not understood");
        return NULL;
    }
    if (items[2]->count != items[3]->count || items[2]->count > MSAE_MAX_RANK) {
        stop(m, "a tensor of %lu dimensions with %lu strides", (unsigned long)items[2]->count,
             (unsigned long)items[3]->count);
        return NULL;
    }
    tensor = pool_take(m, sizeof *tensor);
    value = tensor != NULL ? new_value(m, TORCH_TENSOR) : NULL;
    if (value == NULL) return NULL;
    *tensor = *items[0]->as.tensor;
    if (!read_shape(m, items, tensor)) return NULL;
    if (!is_within(tensor, items[0]->as.tensor->elements)) {
        stop(m, "a tensor that reaches beyond its storage of %llu elements",
             (unsigned long long)items[0]->as.tensor->elements);
        return NULL;
    }
    value->as.tensor = tensor;
    return value;
}

/* (text, 'latin1'): how protocol 2 spells bytes. */
static torch_value *encode_latin1(machine *m, const torch_value *arguments) {
    torch_value **items = arguments->as.items, *value;
    const unsigned char *text;
    char *out;
    if (arguments->count != 2 || items[0]->kind != TORCH_TEXT || !is_text(items[1], "latin1")) {
        stop(m, "_codecs.encode of something else than a text as latin1");
        return NULL;
    }
    value = new_value(m, TORCH_BYTES);
    out = value != NULL ? pool_take(m, (size_t)items[0]->count + 1) : NULL;
    if (out == NULL) return NULL;
    text = (const unsigned char *)items[0]->as.text;
    for (size_t i = 0; i < items[0]->count; value->count++) {
        if (text[i] > 0xc3) {
            stop(m, "a character that latin1 does not have");
            return NULL;
        }
        if (text[i] < 0x80) {
            out[value->count] = (char)text[i];
            i++;
        } else {
            out[value->count] = (char)((text[i] & 3) << 6 | (text[i + 1] & 63));
            i += 2;
        }
    }
    out[value->count] = '\0';
    value->as.text = out;
    return value;
}

/* ('f8', False, True) */
static torch_value *numpy_dtype(machine *m, const torch_value *arguments) {
    static const struct {
        const char *name;
        msae_dtype dtype;
    } names[] = {{"f8", MSAE_F64}, {"f4", MSAE_F32}, {"f2", MSAE_F16}, {"i8", MSAE_I64},
                 {"i4", MSAE_I32}, {"i2", MSAE_I16}, {"i1", MSAE_I8},  {"u8", MSAE_U64},
                 {"u4", MSAE_U32}, {"u2", MSAE_U16}, {"u1", MSAE_U8},  {"b1", MSAE_BOOL}};
    char shown_name[24];
    if (arguments->count < 1 || arguments->count > 3 ||
        arguments->as.items[0]->kind != TORCH_TEXT) {
        stop(m, "a numpy.dtype without a name");
        return NULL;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!is_text(arguments->as.items[0], names[i].name)) continue;
        torch_value *value = new_value(m, KIND_NUMPY_DTYPE);
        if (value != NULL) value->as.dtype = names[i].dtype;
        return value;
    }
    make_printable(shown_name, sizeof shown_name,
                   (const unsigned char *)arguments->as.items[0]->as.text,
                   arguments->as.items[0]->count);
    stop(m, "the numpy.dtype '%s' is not allowed", shown_name);
    return NULL;
}

/* (dtype, bytes) */
static torch_value *numpy_scalar(machine *m, const torch_value *arguments) {
    torch_value **items = arguments->as.items, *value;
    msae_dtype dtype;
    const unsigned char *bytes;
    int is_real;
    if (arguments->count != 2 || items[0]->kind != KIND_NUMPY_DTYPE ||
        items[1]->kind != TORCH_BYTES || items[1]->count != msae_dtype_bytes(items[0]->as.dtype)) {
        stop(m, "a numpy scalar whose bytes do not fit its dtype");
        return NULL;
    }
    dtype = items[0]->as.dtype;
    bytes = (const unsigned char *)items[1]->as.text;
    is_real = dtype == MSAE_F64 || dtype == MSAE_F32 || dtype == MSAE_F16;
    if (dtype == MSAE_U64 && bytes_get(bytes, 8) > INT64_MAX) {
        stop(m, "a number of more than 64 bits");
        return NULL;
    }
    value = new_value(m, is_real ? TORCH_REAL : dtype == MSAE_BOOL ? TORCH_BOOL : TORCH_INT);
    if (value == NULL) return NULL;
    value->is_numpy = 1;
    if (is_real) {
        value->as.real = element(dtype, bytes);
    } else if (dtype == MSAE_I64 || dtype == MSAE_U64) {
        value->as.integer = (int64_t)bytes_get(bytes, 8);
    } else {
        value->as.integer = (int64_t)element(dtype, bytes);
    }
    return value;
}

static int reduce(machine *m) {
    const struct global *called;
    torch_value *arguments, *value = NULL;
    if (!need(m, 2)) return 0;
    called = global_of(top(m, 1));
    arguments = top(m, 0);
    if (called == NULL) return stop(m, "a call of what is no global");
    if (arguments->kind != TORCH_TUPLE) return stop(m, "a call without a tuple of arguments");
    switch (called->role) {
    case ROLE_ORDERED_DICT:
        if (arguments->count != 0) return stop(m, "an OrderedDict with arguments");
        value = new_value(m, TORCH_DICT);
        if (value != NULL) value->state |= ORDERED;
        break;
    case ROLE_TENSOR:
        value = rebuild_tensor(m, arguments);
        break;
    case ROLE_PARAMETER:
        if (arguments->count != 3 || arguments->as.items[0]->kind != TORCH_TENSOR ||
            arguments->as.items[1]->kind != TORCH_BOOL ||
            !is_ordered_dict(arguments->as.items[2]) || arguments->as.items[2]->count != 0) {
            return stop(m, "a parameter with arguments that are not understood");
        }
        value = arguments->as.items[0];
        break;
    case ROLE_SIZE:
        if (arguments->count != 1 || arguments->as.items[0]->kind != TORCH_TUPLE) {
            return stop(m, "a torch.Size of what is no tuple");
        }
        value = arguments->as.items[0];
        break;
    case ROLE_NUMPY_SCALAR:
        value = numpy_scalar(m, arguments);
        break;
    case ROLE_NUMPY_DTYPE:
        value = numpy_dtype(m, arguments);
        break;
    case ROLE_ENCODE:
        value = encode_latin1(m, arguments);
        break;
    default:
        return stop(m, "a call of %s.%s", called->module, called->name);
    }
    if (value == NULL) return 0;
    m->stack.count -= 2;
    return push(m, value);
}

/* State for what was made by a call: a state dict's _metadata, which says nothing here, or a
   dtype's byte order. */
static int build(machine *m) {
    torch_value *value, *state;
    if (!need(m, 2)) return 0;
    value = top(m, 1);
    state = top(m, 0);
    if (is_ordered_dict(value)) {
        if (state->kind != TORCH_DICT) return stop(m, "an OrderedDict whose state is no dict");
    } else if (value->kind == KIND_NUMPY_DTYPE) {
        if (state->kind != TORCH_TUPLE || state->count < 2 ||
            state->as.items[1]->kind != TORCH_TEXT) {
            return stop(m, "a numpy.dtype whose state is malformed");
        }
        if (!is_text(state->as.items[1], "<") && !is_text(state->as.items[1], "|")) {
            return stop(m, "a numpy.dtype that is not little-endian");
        }
    } else {
        return stop(m, "state for what is no OrderedDict");
    }
    if (value->state & (PLACED | HAS_STATE)) return stop(m, "state for what has it already");
    if (!finish(m, state)) return 0;
    value->state |= HAS_STATE;
    m->stack.count--;
    return 1;
}

/* ---- the memo ---- */

static int memoize(machine *m, uint64_t index) {
    torch_value **slots;
    if (!need(m, 1)) return 0;
    if (index >= m->size)
        return stop(m, "memo %llu of so short a pickle", (unsigned long long)index);
    if (!make_room(m, &m->memo, (size_t)index + 1, sizeof *slots)) return 0;
    slots = m->memo.items;
    if (slots[index] == NULL) m->memoized++;
    slots[index] = top(m, 0);
    return 1;
}

static int remember(machine *m, uint64_t index) {
    torch_value **slots = m->memo.items;
    if (index >= m->memo.room || slots[index] == NULL) {
        return stop(m, "memo %llu was never put", (unsigned long long)index);
    }
    return push(m, slots[index]);
}

/* ---- numbers ---- */

static int push_integer(machine *m, int kind, int64_t number) {
    torch_value *value = new_value(m, kind);
    if (value != NULL) value->as.integer = number;
    return push(m, value);
}

static int push_real(machine *m) {
    torch_value *value = new_value(m, TORCH_REAL);
    uint64_t bits = 0;
    for (size_t i = 0; i < 8; i++) bits = bits << 8 | m->bytes[m->at - 8 + i];
    if (value != NULL) value->as.real = double_of_bits(bits);
    return push(m, value);
}

/* A whole number of n bytes, n before it in one. */
static int read_long(machine *m) {
    const size_t bytes = m->bytes[m->at - 1];
    uint64_t value;
    if (bytes > m->size - m->at) return stop(m, "the pickle ends inside an opcode");
    if (bytes > 8) return stop(m, "a number of more than 64 bits");
    value = bytes_get(m->bytes + m->at, bytes);
    if (bytes > 0 && bytes < 8 && m->bytes[m->at + bytes - 1] & 0x80) {
        value |= UINT64_MAX << (8 * bytes);
    }
    m->at += bytes;
    return push_integer(m, TORCH_INT, (int64_t)value);
}

/* ---- the machine ---- */

/* The argument of `width` bytes behind the opcode. */
static int argument(machine *m, size_t width, uint64_t *value) {
    if (m->size - m->at < width) return stop(m, "the pickle ends inside an opcode");
    *value = bytes_get(m->bytes + m->at, width);
    m->at += width;
    return 1;
}

/* Opcodes that push a number or a text. */
static int push_literal(machine *m, unsigned opcode) {
    uint64_t value = 0;
    switch (opcode) {
    case 'N':
        return push(m, new_value(m, TORCH_NONE));
    case 0x88:
        return push_integer(m, TORCH_BOOL, 1);
    case 0x89:
        return push_integer(m, TORCH_BOOL, 0);
    case 'J':
        return argument(m, 4, &value) && push_integer(m, TORCH_INT, (int32_t)value);
    case 'K':
        return argument(m, 1, &value) && push_integer(m, TORCH_INT, (int64_t)value);
    case 'M':
        return argument(m, 2, &value) && push_integer(m, TORCH_INT, (int64_t)value);
    case 0x8a:
        return argument(m, 1, &value) && read_long(m); /* LONG1 */
    case 'G':
        return argument(m, 8, &value) && push_real(m);
    case 'X':
        return read_text(m, TORCH_TEXT, 4);
    case 0x8c:
        return read_text(m, TORCH_TEXT, 1);
    case 0x8d:
        return read_text(m, TORCH_TEXT, 8);
    case 'B':
        return read_text(m, TORCH_BYTES, 4);
    case 'C':
        return read_text(m, TORCH_BYTES, 1);
    case 0x8e:
        return read_text(m, TORCH_BYTES, 8);
    default:
        return stop(m, "the opcode 0x%02x is not allowed", opcode);
    }
}

/* Opcodes that make containers and fill them; all others push a number or a text. */
static int step_container(machine *m, unsigned opcode) {
    size_t count = 0;
    switch (opcode) {
    case '(':
        if (!make_room(m, &m->marks, m->marks.count + 1, sizeof(size_t))) return 0;
        ((size_t *)m->marks.items)[m->marks.count++] = m->stack.count;
        return 1;
    case ')':
        return push(m, new_value(m, TORCH_TUPLE));
    case '}':
        return push(m, new_value(m, TORCH_DICT));
    case ']':
        return push(m, new_value(m, TORCH_LIST));
    case 't':
        return pop_mark(m, &count) && make_tuple(m, count);
    case 0x85:
        return need(m, 1) && make_tuple(m, 1);
    case 0x86:
        return need(m, 2) && make_tuple(m, 2);
    case 0x87:
        return need(m, 3) && make_tuple(m, 3);
    case 'a':
        return add_items(m, TORCH_LIST, 1);
    case 'e':
        return pop_mark(m, &count) && add_items(m, TORCH_LIST, count);
    case 's':
        return add_items(m, TORCH_DICT, 2);
    case 'u':
        return pop_mark(m, &count) && add_items(m, TORCH_DICT, count);
    default:
        return push_literal(m, opcode);
    }
}

/* One opcode: those of the protocol, of the memo and of what is called; all others make values. */
static int step(machine *m, unsigned opcode) {
    uint64_t value = 0;
    switch (opcode) {
    case 0x80: /* PROTO */
        if (!argument(m, 1, &value)) return 0;
        if (value < 2 || value > 5) {
            return stop(m, "pickle protocol %llu; 2 to 5 are known", (unsigned long long)value);
        }
        return 1;
    case 0x95: /* FRAME */
        if (!argument(m, 8, &value)) return 0;
        return value <= m->size - m->at || stop(m, "a frame that is longer than the pickle");
    case 'q':
        return argument(m, 1, &value) && memoize(m, value);
    case 'r':
        return argument(m, 4, &value) && memoize(m, value);
    case 0x94:
        return memoize(m, m->memoized); /* MEMOIZE */
    case 'h':
        return argument(m, 1, &value) && remember(m, value);
    case 'j':
        return argument(m, 4, &value) && remember(m, value);
    case 'c':
        return read_global(m);
    case 0x93:
        return stack_global(m);
    case 'R':
        return reduce(m);
    case 'b':
        return build(m);
    case 'Q':
        return persistent_id(m);
    default:
        return step_container(m, opcode);
    }
}

/* From PROTO to STOP, which is the last byte. */
static const torch_value *run(machine *m) {
    const torch_value *result;
    if (m->size < 2 || m->bytes[0] != 0x80) {
        stop(m, "no pickle of protocol 2 to 5");
        return NULL;
    }
    for (;;) {
        unsigned opcode;
        m->opcode = m->at;
        if (m->at == m->size) {
            stop(m, "the pickle ends without a STOP");
            return NULL;
        }
        opcode = m->bytes[m->at++];
        if (opcode == '.') break;
        if (!step(m, opcode)) return NULL;
    }
    if (m->stack.count != 1 || m->marks.count != 0) {
        stop(m, "STOP with %llu values on the stack", (unsigned long long)m->stack.count);
        return NULL;
    }
    if (m->at != m->size) {
        stop(m, "%llu bytes behind STOP", (unsigned long long)(m->size - m->at));
        return NULL;
    }
    result = top(m, 0);
    if (result->kind >= TORCH_KINDS || result->state & INTERNAL) {
        stop(m, "a global where a value should be");
        return NULL;
    }
    return finish(m, top(m, 0)) ? result : NULL;
}

/* ---------------------------------------------------------------------------------------------
   Files
   ------------------------------------------------------------------------------------------ */

/* Of a folder, at the top of the zip. */
static int ends_in(const zip_member *record, const char *end) {
    return record->name_bytes > strlen(end) && zip_ends_in(record, end) &&
           memchr(record->name, '/', record->name_bytes - strlen(end)) == NULL;
}

/* A whole record, its checksum checked. */
static unsigned char *read_record(const torch_file *file, const msae_reader *reader,
                                  const zip_member *record, msae_status *status,
                                  msae_error *error) {
    unsigned char *bytes =
        bytes_read_block(reader, record->at, record->bytes, &file->allocator, status, error);
    if (bytes != NULL && !(file->flags & TORCH_NO_CRC) &&
        bytes_crc(bytes, (size_t)record->bytes) != record->crc) {
        *status = zip_fail_member(error, record, "does not match its checksum");
        bytes_give(&file->allocator, bytes, (size_t)record->bytes);
        bytes = NULL;
    }
    return bytes;
}

static msae_status check_byteorder(const torch_file *file, const msae_reader *reader,
                                   const zip_member *record, msae_error *error) {
    msae_status status = MSAE_OK;
    unsigned char *text;
    if (record->bytes > 16) return zip_fail_member(error, record, "is longer than a byte order");
    text = read_record(file, reader, record, &status, error);
    if (text == NULL) return status;
    if (record->bytes == 3 && memcmp(text, "big", 3) == 0) {
        status = zip_fail_member(error, record, "says big: only little-endian files are read");
    } else if (record->bytes != 6 || memcmp(text, "little", 6) != 0) {
        status = zip_fail_member(error, record, "does not say little");
    }
    bytes_give(&file->allocator, text, (size_t)record->bytes);
    return status;
}

static msae_status read_pickle(torch_file *file, const msae_reader *reader,
                               const zip_member *record, msae_error *error) {
    machine m;
    msae_status status = MSAE_OK;
    unsigned char *bytes;
    if (record->bytes > MAX_PICKLE) {
        return zip_fail_member(error, record, "has more than 64 MB: weights lie beside it");
    }
    bytes = read_record(file, reader, record, &status, error);
    if (bytes == NULL) return status;
    memset(&m, 0, sizeof m);
    m.file = file;
    m.folder = record->name;
    m.folder_bytes = record->name_bytes - strlen("data.pkl");
    m.bytes = bytes;
    m.size = (size_t)record->bytes;
    m.position = record->at;
    m.error = error;
    file->root = run(&m);
    bytes_give(&file->allocator, m.stack.items, m.stack.room * sizeof(torch_value *));
    bytes_give(&file->allocator, m.marks.items, m.marks.room * sizeof(size_t));
    bytes_give(&file->allocator, m.memo.items, m.memo.room * sizeof(torch_value *));
    bytes_give(&file->allocator, bytes, (size_t)record->bytes);
    return m.status;
}

static msae_status open_file(torch_file *file, const msae_reader *reader, msae_error *error) {
    static const unsigned char legacy[] = {0x80, 2, 0x8a, 0x0a};
    unsigned char start[4] = {0};
    const zip_member *pickle = NULL, *order;
    size_t folder;
    msae_status status =
        bytes_read(reader, 0, start, reader->size < 4 ? (size_t)reader->size : 4, error);
    if (status != MSAE_OK) return status;
    if (memcmp(start, legacy, 4) == 0) {
        return bytes_fail(
            error, MSAE_ERROR_UNSUPPORTED, 0,
            "is in torch.save's old format (no zip): load it with PyTorch 1.6 or newer and "
            "save it again");
    }
    if (bytes_get(start, 4) != ZIP_LOCAL) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, 0,
                          "byte 0: is no zip, as torch.save writes them");
    }
    status = zip_open(&file->zip, reader, &file->allocator, error);
    if (status != MSAE_OK) return status;
    for (size_t i = 0; i < file->zip.n_members; i++) {
        const zip_member *record = &file->zip.members[i];
        if (record->is_deflated) {
            return zip_fail_member(error, record, "is compressed; torch.save stores");
        }
        if (ends_in(record, "/constants.pkl")) {
            return zip_fail_member(error, record,
                                   "makes it TorchScript: a program, not a state dict");
        }
        if (!ends_in(record, "/data.pkl")) continue;
        if (pickle != NULL) return zip_fail_member(error, record, "is a second pickle");
        pickle = record;
    }
    if (pickle == NULL) {
        return bytes_fail(error, MSAE_ERROR_FORMAT, 0,
                          "is a zip without a data.pkl: not of torch.save");
    }
    folder = pickle->name_bytes - strlen("data.pkl");
    order = zip_find(&file->zip, pickle->name, folder, "byteorder", 9);
    if (order != NULL) status = check_byteorder(file, reader, order, error);
    if (status == MSAE_OK) status = read_pickle(file, reader, pickle, error);
    return status;
}

msae_status torch_open(torch_file *file, const msae_reader *reader, unsigned flags,
                       const msae_allocator *allocator, msae_error *error) {
    msae_status status;
    memset(file, 0, sizeof *file);
    file->flags = flags;
    if (allocator != NULL) file->allocator = *allocator;
    status = open_file(file, reader, error);
    if (status != MSAE_OK) torch_close(file);
    return status;
}

void torch_close(torch_file *file) {
    chunk *next = file->pool;
    while (next != NULL) {
        chunk *this = next;
        next = this->next;
        bytes_give(&file->allocator, this, this->bytes);
    }
    zip_close(&file->zip);
    memset(file, 0, sizeof *file);
}

const torch_value *torch_find(const torch_value *dict, const char *key) {
    if (dict == NULL || dict->kind != TORCH_DICT) return NULL;
    for (size_t i = 0; i < dict->count; i++) {
        if (is_text(dict->as.items[2 * i], key)) return dict->as.items[2 * i + 1];
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------
   Writing
   ------------------------------------------------------------------------------------------ */

/* Bytes that are put together in memory; the first failure stays. */
typedef struct buffer {
    const msae_allocator *allocator;
    unsigned char *bytes;
    size_t size, room;
    int failed;
} buffer;

static void add(buffer *b, const void *bytes, size_t size) {
    if (b->failed || size == 0) return;
    unsigned char *more = bytes_grow(b->allocator, b->bytes, &b->room, b->size + size, 1);
    if (more == NULL) {
        b->failed = 1;
        return;
    }
    b->bytes = more;
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

static void add_number(buffer *b, size_t width, uint64_t value) {
    unsigned char bytes[8];
    bytes_put(bytes, width, value);
    add(b, bytes, width);
}

static void add_words(buffer *b, const char *text) {
    add(b, text, strlen(text));
}

static void add_unicode(buffer *b, const char *text) {
    add_words(b, "X");
    add_number(b, 4, strlen(text));
    add_words(b, text);
}

static void add_integer(buffer *b, uint64_t value) {
    if (value < 256) {
        add_words(b, "K");
        add_number(b, 1, value);
    } else if (value < 0x80000000u) {
        add_words(b, "J");
        add_number(b, 4, value);
    } else {
        add(b, "\x8a\x08", 2);
        add_number(b, 8, value);
    }
}

static void add_shape(buffer *b, const size_t *shape, size_t rank) {
    add_words(b, "(");
    for (size_t k = 0; k < rank; k++) add_integer(b, shape[k]);
    add_words(b, "t");
}

static const char *storage_name(msae_dtype dtype) {
    for (size_t i = 0; i < N_GLOBALS; i++) {
        if (globals[i].role == ROLE_STORAGE && globals[i].dtype == dtype) return globals[i].name;
    }
    return NULL;
}

static void add_tensor(buffer *b, const msae_tensor *tensor, size_t number) {
    size_t strides[MSAE_MAX_RANK], elements = 1;
    char key[24];
    for (size_t k = tensor->rank; k > 0; k--) {
        strides[k - 1] = elements;
        elements *= tensor->shape[k - 1];
    }
    snprintf(key, sizeof key, "%llu", (unsigned long long)number);
    add_unicode(b, tensor->name);
    add_words(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    add_unicode(b, "storage");
    add_words(b, "ctorch\n");
    add_words(b, storage_name(tensor->dtype));
    add_words(b, "\n");
    add_unicode(b, key);
    add_unicode(b, "cpu");
    add_integer(b, elements);
    add(b, "tQK\0", 4);
    add_shape(b, tensor->shape, tensor->rank);
    add_shape(b, strides, tensor->rank);
    add_words(b, "\x89"
                 "ccollections\nOrderedDict\n)RtR");
}

/* A zip in the making. */
typedef struct zip_writer {
    const msae_writer *writer;
    buffer directory;
    uint64_t at, entries;
    const char *folder;
    int failed; /* the writer has refused something */
} zip_writer;

static void zip_put(zip_writer *z, const void *bytes, size_t size) {
    if (!z->failed && size > 0 && !z->writer->write(z->writer->user, bytes, size)) z->failed = 1;
    z->at += size;
}

enum { ALIGNMENT = 64 };

/* What the two headers of a record say. */
typedef struct zip_item {
    const char *name; /* in the zip's folder */
    uint64_t start;   /* of the local header */
    size_t size;
    uint32_t crc;
    int is_large, is_far; /* the size, the start takes 64 bits */
} zip_item;

static void add_item_name(buffer *b, const zip_writer *z, const zip_item *item) {
    add_words(b, z->folder);
    add_words(b, "/");
    add_words(b, item->name);
}

static size_t name_bytes(const zip_writer *z, const zip_item *item) {
    return strlen(z->folder) + 1 + strlen(item->name);
}

/* Checksum and sizes, as both headers have them. */
static void add_sizes(buffer *b, const zip_item *item) {
    const uint64_t shown_size = item->is_large ? 0xffffffffu : item->size;
    add_number(b, 6, 0); /* stored; no time */
    add_number(b, 4, item->crc);
    add_number(b, 4, shown_size);
    add_number(b, 4, shown_size);
}

/* The local header. Behind it data starts at a multiple of 64 bytes: an extra field "FB" pads, as
   torch.save has it. */
static void add_local(buffer *b, const zip_writer *z, const zip_item *item) {
    const size_t zip64 = item->is_large ? 20 : 0;
    const uint64_t behind = item->start + ZIP_LOCAL_BYTES + name_bytes(z, item) + zip64 + 4;
    const size_t padding = (size_t)((ALIGNMENT - behind % ALIGNMENT) % ALIGNMENT);
    add_number(b, 4, ZIP_LOCAL);
    add_number(b, 2, item->is_large ? 45 : 0);
    add_number(b, 2, ZIP_FLAG_UTF8);
    add_sizes(b, item);
    add_number(b, 2, name_bytes(z, item));
    add_number(b, 2, zip64 + 4 + padding);
    add_item_name(b, z, item);
    if (item->is_large) {
        add_number(b, 2, 1);
        add_number(b, 2, 16);
        add_number(b, 8, item->size);
        add_number(b, 8, item->size);
    }
    add_words(b, "FB");
    add_number(b, 2, padding);
    for (size_t i = 0; i < padding; i++) add_words(b, "Z");
}

/* The entry of the directory. */
static void add_entry(buffer *b, const zip_writer *z, const zip_item *item) {
    const size_t fields = (item->is_large ? 16u : 0u) + (item->is_far ? 8u : 0u);
    add_number(b, 4, ZIP_ENTRY);
    add_number(b, 2, 0);
    add_number(b, 2, item->is_large || item->is_far ? 45 : 0);
    add_number(b, 2, ZIP_FLAG_UTF8);
    add_sizes(b, item);
    add_number(b, 2, name_bytes(z, item));
    add_number(b, 2, fields > 0 ? fields + 4 : 0);
    add_number(b, 8, 0); /* no comment, volume 0, no attributes .. */
    add_number(b, 2, 0); /* .. of any kind */
    add_number(b, 4, item->is_far ? 0xffffffffu : item->start);
    add_item_name(b, z, item);
    if (fields == 0) return;
    add_number(b, 2, 1);
    add_number(b, 2, fields);
    if (item->is_large) add_number(b, 8, item->size);
    if (item->is_large) add_number(b, 8, item->size);
    if (item->is_far) add_number(b, 8, item->start);
}

/* Writes a record of the folder. */
static void zip_record(zip_writer *z, const char *name, const void *bytes, size_t size) {
    const zip_item item = {
        name, z->at, size, bytes_crc(bytes, size), size >= 0xffffffffu, z->at >= 0xffffffffu};
    buffer b = {z->directory.allocator, NULL, 0, 0, 0};
    add_local(&b, z, &item);
    if (b.failed) z->directory.failed = 1;
    zip_put(z, b.bytes, b.failed ? 0 : b.size);
    zip_put(z, bytes, size);
    bytes_give(b.allocator, b.bytes, b.room);
    add_entry(&z->directory, z, &item);
    z->entries++;
}

static void zip_finish(zip_writer *z) {
    buffer *d = &z->directory;
    const uint64_t start = z->at, bytes = d->size;
    add_number(d, 4, ZIP_END64);
    add_number(d, 8, ZIP_END64_BYTES - 12);
    add_number(d, 2, 0x031e);
    add_number(d, 2, 45);
    add_number(d, 8, 0);
    add_number(d, 8, z->entries);
    add_number(d, 8, z->entries);
    add_number(d, 8, bytes);
    add_number(d, 8, start);
    add_number(d, 4, ZIP_LOCATOR);
    add_number(d, 4, 0);
    add_number(d, 8, start + bytes);
    add_number(d, 4, 1);
    add_number(d, 4, ZIP_END);
    add_number(d, 4, 0);
    add_number(d, 2, z->entries);
    add_number(d, 2, z->entries);
    add_number(d, 4, bytes);
    add_number(d, 4, start < 0xffffffffu ? start : 0xffffffffu);
    add_number(d, 2, 0);
    zip_put(z, d->bytes, d->failed ? 0 : d->size);
}

static void add_state_dict(buffer *b, const msae_tensor *tensors, size_t count) {
    add_words(b, "ccollections\nOrderedDict\n)R(");
    for (size_t i = 0; i < count; i++) add_tensor(b, &tensors[i], i);
    add_words(b, "u");
}

static void add_real(buffer *b, double value) {
    unsigned char bytes[8];
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    for (size_t i = 0; i < 8; i++) bytes[i] = (unsigned char)(bits >> (56 - 8 * i));
    add_words(b, "G");
    add(b, bytes, sizeof bytes);
}

/* The zip of a pickle and of what its tensors hold. */
static msae_status write_zip(const msae_writer *writer, const char *name, buffer *pickle,
                             const msae_tensor *tensors, size_t n_tensors, msae_error *error) {
    const msae_allocator *allocator = pickle->allocator;
    zip_writer z;
    memset(&z, 0, sizeof z);
    z.writer = writer;
    z.folder = name;
    z.directory.allocator = allocator;
    if (!pickle->failed) zip_record(&z, "data.pkl", pickle->bytes, pickle->size);
    zip_record(&z, "byteorder", "little", 6);
    for (size_t i = 0; i < n_tensors; i++) {
        char record[32];
        snprintf(record, sizeof record, "data/%llu", (unsigned long long)i);
        zip_record(&z, record, tensors[i].data, tensors[i].bytes);
    }
    zip_record(&z, "version", "3\n", 2);
    zip_finish(&z);
    const int failed = pickle->failed || z.directory.failed;
    bytes_give(allocator, pickle->bytes, pickle->room);
    bytes_give(allocator, z.directory.bytes, z.directory.room);
    if (failed) return bytes_fail_memory(error);
    if (z.failed) return bytes_fail(error, MSAE_ERROR_IO, z.at, "could not be written");
    return MSAE_OK;
}

enum { MOST_TENSORS = 1000 };

msae_status torch_write(const msae_writer *writer, const char *name, const torch_content *content,
                        const msae_allocator *allocator, msae_error *error) {
    const size_t n_inside = content->key != NULL ? content->n_inside : content->n_tensors;
    buffer pickle = {allocator, NULL, 0, 0, 0};
    if (content->n_tensors > MOST_TENSORS) {
        return bytes_fail(error, MSAE_ERROR_ARGUMENT, MSAE_NO_POSITION, "more than %d tensors",
                          (int)MOST_TENSORS);
    }
    add_words(&pickle, "\x80\x02");
    if (content->key != NULL) {
        add_words(&pickle, "}(");
        add_unicode(&pickle, content->key);
    }
    add_state_dict(&pickle, content->tensors, n_inside);
    for (size_t i = n_inside; i < content->n_tensors; i++) {
        add_tensor(&pickle, &content->tensors[i], i);
    }
    for (size_t i = 0; i < content->n_numbers; i++) {
        add_unicode(&pickle, content->numbers[i].name);
        add_real(&pickle, content->numbers[i].value);
    }
    add_words(&pickle, content->key != NULL ? "u." : ".");
    return write_zip(writer, name, &pickle, content->tensors, content->n_tensors, error);
}
