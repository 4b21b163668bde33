/* Models of other projects: what is there, what it says, and the same function as a model of ours.

   Each layout becomes a `source`: two matrices, biases, thresholds, and what is to be done with
   them. One function makes the model of it, so that folding is written once. */
#include "tool.h"

#include "json.h"
#include "torch.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const layout_names[] = {
    "",         "msae",   "saelens",    "sparsify",  "dictionary-learning",
    "msae-pth", "openai", "vit-prisma", "batchtopk", "llama-scope"};

const char *tool_layout_name(tool_layout layout) {
    return layout_names[layout];
}

/* exp of it is zero for every float: a threshold of zero. */
#define LOG_OF_ZERO (-1000.0f)

/* ---------------------------------------------------------------------------------------------
   Weights: tensors by name, in a safetensors or a torch.save file
   ------------------------------------------------------------------------------------------ */

typedef struct weights {
    char *path;
    msae_reader reader;
    int is_torch;
    msae_safetensors safetensors;
    torch_file torch;
    const torch_value *dict; /* the state dict .. */
    char prefix[64];         /* .. and what stands before each of its names */
} weights;

int tool_is_torch(const unsigned char *bytes, size_t size) {
    static const unsigned char zipped[] = {'P', 'K', 3, 4}, old[] = {0x80, 2, 0x8a, 0x0a};
    return size >= 4 && (memcmp(bytes, zipped, 4) == 0 || memcmp(bytes, old, 4) == 0);
}

static void close_weights(weights *w) {
    if (w->is_torch) {
        torch_close(&w->torch);
    } else {
        msae_safetensors_close(&w->safetensors);
    }
    tool_close_reader(&w->reader);
    free(w->path);
}

static const char *show_shape(const torch_tensor *tensor, char text[128]) {
    size_t used = 1;
    text[0] = '[';
    text[1] = '\0';
    for (size_t k = 0; k < tensor->rank && used < 100; k++) {
        used += (size_t)snprintf(text + used, 128 - used, "%s%llu", k > 0 ? ", " : "",
                                 (unsigned long long)tensor->shape[k]);
    }
    snprintf(text + used, 128 - used, "]");
    return text;
}

/* A value of the state dict. */
static const torch_value *find_value(const weights *w, const char *name) {
    char longer[sizeof w->prefix + 64];
    const torch_value *value = torch_find(w->dict, name);
    if (value != NULL || w->dict == NULL) return value;
    snprintf(longer, sizeof longer, "%s%s", w->prefix, name);
    return torch_find(w->dict, longer);
}

/* Whether a key is the name of a model's tensor behind a prefix that ends with a point, as that of
   a module in a module has (`module.`, `_orig_mod.`, `sae.`). *length is the prefix's. */
static int has_prefix(const torch_value *key, size_t *length) {
    static const char *const names[] = {"W_enc", "encoder.weight", "pre_bias"};
    for (size_t i = 0; key->kind == TORCH_TEXT && i < TOOL_COUNT_OF(names); i++) {
        const size_t bytes = strlen(names[i]);
        if (key->count < bytes) continue;
        *length = key->count - bytes;
        if (memcmp(key->as.text + *length, names[i], bytes) == 0 &&
            (*length == 0 || key->as.text[*length - 1] == '.')) {
            return 1;
        }
    }
    return 0;
}

/* The number of models in a dict, by the prefixes of their tensors; `prefix` is the first one's,
   or none where there is a model without. */
static size_t count_models(const torch_value *dict, char prefix[64]) {
    size_t models = 0;
    for (size_t i = 0; dict->kind == TORCH_DICT && i < dict->count; i++) {
        const torch_value *key = dict->as.items[2 * i];
        size_t length;
        if (dict->as.items[2 * i + 1]->kind != TORCH_TENSOR || !has_prefix(key, &length) ||
            length >= 64) {
            continue;
        }
        if (length == 0) {
            prefix[0] = '\0';
            return 1;
        }
        if (models > 0 && strlen(prefix) == length && memcmp(prefix, key->as.text, length) == 0) {
            continue;
        }
        if (models++ == 0) {
            memcpy(prefix, key->as.text, length);
            prefix[length] = '\0';
        }
    }
    return models;
}

int tool_holds_model(const char *path) {
    weights w;
    msae_error ignored;
    int holds = 0;
    memset(&w, 0, sizeof w);
    if (tool_open_reader(&w.reader, path, &ignored) != MSAE_OK) return 0;
    if (torch_open(&w.torch, &w.reader, 0, NULL, &ignored) == MSAE_OK) {
        const torch_value *root = w.torch.root;
        holds = count_models(root, w.prefix) > 0;
        for (size_t i = 0; root->kind == TORCH_DICT && i < root->count && !holds; i++) {
            holds = count_models(root->as.items[2 * i + 1], w.prefix) > 0;
        }
    }
    w.is_torch = 1;
    close_weights(&w);
    return holds;
}

/* What a dict holds, for people: its first keys, with the shapes of tensors. */
static const char *show_dict(const torch_value *dict, char text[160]) {
    size_t used = 0, shown = 0;
    text[0] = '\0';
    for (; shown < dict->count && used < 80; shown++) {
        const torch_value *key = dict->as.items[2 * shown], *value = dict->as.items[2 * shown + 1];
        char shape[128] = "";
        if (key->kind != TORCH_TEXT) continue;
        if (value->kind == TORCH_TENSOR) show_shape(value->as.tensor, shape);
        used += (size_t)snprintf(text + used, 160 - used, "%s%.30s%s%.20s", used > 0 ? ", " : "",
                                 key->as.text, shape[0] != '\0' ? " " : "", shape);
    }
    if (shown < dict->count) snprintf(text + used, 160 - used, " and more");
    return text;
}

/* The state dict of the one model in the file, which may be an entry of a dict (`state_dict`). */
static int find_model(weights *w) {
    const torch_value *root = w->torch.root;
    size_t models, inside = 0;
    char text[160], prefix[64];
    if (root->kind == TORCH_TENSOR) {
        return tool_fail(w->path, "holds a tensor %s: data, and no model's state dict",
                         show_shape(root->as.tensor, text));
    }
    if (root->kind != TORCH_DICT) return tool_fail(w->path, "holds no state dict");
    w->dict = root;
    models = count_models(root, w->prefix);
    for (size_t i = 0; models == 0 && i < root->count; i++) {
        const torch_value *entry = root->as.items[2 * i + 1];
        const size_t here = count_models(entry, prefix);
        if (here > 0 && inside == 0) {
            w->dict = entry;
            memcpy(w->prefix, prefix, sizeof prefix);
        }
        inside += here;
    }
    if (models + inside > 1) {
        return tool_fail(w->path, "holds %lu models (%s): save the state dict of one of them",
                         (unsigned long)(models + inside), show_dict(root, text));
    }
    if (models + inside == 1) return TOOL_OK;
    return tool_fail(w->path, "holds a dict of %s: none of them is a model's",
                     root->count > 0 ? show_dict(root, text) : "nothing");
}

static int open_weights(weights *w) {
    unsigned char start[4] = {0};
    msae_error error;
    msae_status status;
    if (tool_check_input(w->path) != TOOL_OK) return TOOL_FAILED;
    if (tool_open_reader(&w->reader, w->path, &error) != MSAE_OK) {
        return tool_fail_error(w->path, &error);
    }
    if (w->reader.size >= 4 && !w->reader.read(w->reader.user, 0, start, 4)) {
        return tool_fail(w->path, "could not be read");
    }
    w->is_torch = tool_is_torch(start, 4);
    if (w->is_torch) {
        status = torch_open(&w->torch, &w->reader, 0, NULL, &error);
    } else {
        status = msae_safetensors_open(&w->safetensors, w->reader, NULL, &error);
    }
    if (status != MSAE_OK) return tool_fail_content(w->path, TOOL_MODEL, &error);
    return w->is_torch ? find_model(w) : TOOL_OK;
}

/* 1 when there is a tensor of that name. */
static int find_tensor(const weights *w, const char *name, torch_tensor *out) {
    if (w->is_torch) {
        const torch_value *value = find_value(w, name);
        if (value == NULL || value->kind != TORCH_TENSOR) return 0;
        *out = *value->as.tensor;
        return 1;
    }
    const msae_tensor *tensor = msae_safetensors_find(&w->safetensors, name);
    uint64_t stride = 1;
    if (tensor == NULL) return 0;
    memset(out, 0, sizeof *out);
    out->dtype = tensor->dtype;
    out->rank = tensor->rank;
    for (size_t k = tensor->rank; k > 0; k--) {
        out->shape[k - 1] = tensor->shape[k - 1];
        out->stride[k - 1] = stride;
        stride *= tensor->shape[k - 1];
    }
    out->elements = stride;
    out->at = tensor->offset;
    out->bytes = tensor->bytes;
    return 1;
}

static int has_tensor(const weights *w, const char *name) {
    torch_tensor tensor;
    return find_tensor(w, name, &tensor);
}

static int is_float(msae_dtype dtype) {
    return dtype == MSAE_F32 || dtype == MSAE_F16 || dtype == MSAE_BF16 || dtype == MSAE_F64;
}

/* A tensor of floats of `rank` dimensions, none of them empty. */
static int need_floats(const weights *w, const char *name, size_t rank, torch_tensor *out) {
    char text[128];
    if (!find_tensor(w, name, out)) return tool_fail(w->path, "there is no tensor %s", name);
    if (!is_float(out->dtype)) {
        return tool_fail(w->path, "tensor %s is of type %s, not of floats", name,
                         msae_enum_name(MSAE_ENUM_DTYPE, (int)out->dtype));
    }
    if (out->rank != rank || out->elements == 0) {
        return tool_fail(w->path, "tensor %s is %s, where %lu dimensions are needed", name,
                         show_shape(out, text), (unsigned long)rank);
    }
    return TOOL_OK;
}

/* A matrix expanded from fewer numbers (strides of zero) claims memory that no file stands for. */
enum { MAX_EXPANDED = 1 << 22 };

static int need_matrix(const weights *w, const char *name, torch_tensor *out) {
    char text[128];
    int status = need_floats(w, name, 2, out);
    if (status != TOOL_OK) return status;
    if (out->elements > out->bytes / msae_dtype_bytes(out->dtype) && out->elements > MAX_EXPANDED) {
        return tool_fail(w->path, "tensor %s is %s, expanded from fewer numbers", name,
                         show_shape(out, text));
    }
    return TOOL_OK;
}

static int check_finite(const weights *w, const char *name, const float *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) return tool_fail(w->path, "tensor %s has a NaN or Inf", name);
    }
    return TOOL_OK;
}

/* The elements, as float32 into out. */
static int read_floats(const weights *w, const char *name, const torch_tensor *tensor, float *out) {
    msae_error error;
    if (torch_read(&w->reader, tensor, MSAE_F32, out, NULL, &error) != MSAE_OK) {
        return tool_fail_error(w->path, &error);
    }
    return check_finite(w, name, out, (size_t)tensor->elements);
}

/* A vector of `count` floats into *out, to be freed. One of a single row serves too. */
static int read_vector(const weights *w, const char *name, size_t count, float **out) {
    torch_tensor tensor;
    char text[128];
    if (find_tensor(w, name, &tensor) && tensor.rank == 2 && tensor.shape[0] == 1) {
        tensor.rank = 1;
        tensor.shape[0] = tensor.shape[1];
        tensor.stride[0] = tensor.stride[1];
        if (!is_float(tensor.dtype)) return need_floats(w, name, 1, &tensor);
    } else {
        int status = need_floats(w, name, 1, &tensor);
        if (status != TOOL_OK) return status;
    }
    if (tensor.shape[0] != count) {
        return tool_fail(w->path, "tensor %s is %s, where [%lu] is needed", name,
                         show_shape(&tensor, text), (unsigned long)count);
    }
    *out = tool_alloc(count, sizeof **out);
    if (*out == NULL) return tool_fail_memory();
    return read_floats(w, name, &tensor, *out);
}

/* One number: a value of the dict, or a tensor of one element. TOOL_GO when there is none. */
static int read_one(const weights *w, const char *name, double *number) {
    const torch_value *value = w->is_torch ? find_value(w, name) : NULL;
    torch_tensor tensor;
    msae_error error;
    if (value != NULL && value->kind != TORCH_TENSOR) {
        if (value->kind != TORCH_INT && value->kind != TORCH_REAL) {
            return tool_fail(w->path, "%s is no number", name);
        }
        *number = value->kind == TORCH_INT ? (double)value->as.integer : value->as.real;
    } else if (!find_tensor(w, name, &tensor)) {
        return TOOL_GO;
    } else if (tensor.elements != 1) {
        return tool_fail(w->path, "%s is no single number", name);
    } else if (torch_read(&w->reader, &tensor, MSAE_F64, number, NULL, &error) != MSAE_OK) {
        return tool_fail_error(w->path, &error);
    }
    if (!isfinite(*number)) return tool_fail(w->path, "%s is NaN or Inf", name);
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   Paths
   ------------------------------------------------------------------------------------------ */

static char *join(const char *folder, size_t folder_bytes, const char *name) {
    const size_t bytes = folder_bytes + strlen(name) + 2;
    char *path = malloc(bytes);
    if (path != NULL) {
        const int has_slash = folder_bytes == 0 || folder[folder_bytes - 1] == '/';
        snprintf(path, bytes, "%.*s%s%s", (int)folder_bytes, folder, has_slash ? "" : "/", name);
    }
    return path;
}

static int is_there(const char *path) {
    struct stat info;
    return path != NULL && stat(path, &info) == 0 && !S_ISDIR(info.st_mode);
}

/* path becomes folder/name when there is such a file. */
static int set_if_there(char **path, const char *folder, size_t folder_bytes, const char *name) {
    char *candidate = join(folder, folder_bytes, name);
    if (!is_there(candidate)) {
        free(candidate);
        return 0;
    }
    free(*path);
    *path = candidate;
    return 1;
}

/* ---------------------------------------------------------------------------------------------
   Configurations
   ------------------------------------------------------------------------------------------ */

typedef struct config {
    char *path;
    json_file json;
} config;

static int open_config(config *c) {
    char *text;
    size_t size;
    msae_error error;
    int status = tool_read_file(c->path, &text, &size);
    if (status != TOOL_OK) return status;
    const msae_status parsed = json_parse(&c->json, text, size, &error);
    free(text);
    if (parsed != MSAE_OK) return tool_fail_error(c->path, &error);
    if (c->json.root->kind != JSON_OBJECT) return tool_fail(c->path, "is no JSON object");
    return TOOL_OK;
}

static void close_config(config *c) {
    json_free(&c->json);
    free(c->path);
}

/* The value of a key, NULL when it is null or missing. */
static const json_value *get(const json_value *object, const char *key) {
    const json_value *value = json_find(object, key);
    return value != NULL && value->kind != JSON_NULL ? value : NULL;
}

/* A whole number from 0 to 2^32 - 1; 0 when it is not there. */
static int get_count(const config *c, const json_value *object, const char *key, size_t *count) {
    const json_value *value = get(object, key);
    *count = 0;
    if (value == NULL) return TOOL_OK;
    if (value->kind != JSON_NUMBER || !(value->number >= 0 && value->number < 4294967296.0) ||
        value->number != floor(value->number)) {
        return tool_fail(c->path, "%s is no whole number", key);
    }
    *count = (size_t)value->number;
    return TOOL_OK;
}

/* A finite number; TOOL_GO when it is not there. */
static int get_number(const config *c, const json_value *object, const char *key, double *number) {
    const json_value *value = get(object, key);
    if (value == NULL) return TOOL_GO;
    if (value->kind != JSON_NUMBER || !isfinite(value->number)) {
        return tool_fail(c->path, "%s is no number", key);
    }
    *number = value->number;
    return TOOL_OK;
}

/* A flag, `otherwise` when it is not there. */
static int get_flag(const config *c, const json_value *object, const char *key, int otherwise,
                    int *flag) {
    const json_value *value = get(object, key);
    *flag = otherwise;
    if (value == NULL) return TOOL_OK;
    if (value->kind != JSON_BOOL) return tool_fail(c->path, "%s is neither true nor false", key);
    *flag = value->number != 0;
    return TOOL_OK;
}

/* A text, `otherwise` when it is not there. */
static int get_text(const config *c, const json_value *object, const char *key,
                    const char *otherwise, const char **text) {
    const json_value *value = get(object, key);
    *text = otherwise;
    if (value == NULL) return TOOL_OK;
    if (value->kind != JSON_TEXT) return tool_fail(c->path, "%s is no text", key);
    *text = value->text;
    return TOOL_OK;
}

/* Fails when the key is true, with the reason. */
static int refuse_flag(const config *c, const char *key, const char *reason) {
    int flag;
    int status = get_flag(c, c->json.root, key, 0, &flag);
    if (status == TOOL_OK && flag) return tool_fail(c->path, "%s is true: %s", key, reason);
    return status;
}

/* A size that a configuration says must be that of the tensors. */
static int check_size(const config *c, const json_value *object, const char *key, size_t size) {
    size_t count;
    int status = get_count(c, object, key, &count);
    if (status == TOOL_OK && count != 0 && count != size) {
        return tool_fail(c->path, "%s is %lu, but the tensors have %lu", key, (unsigned long)count,
                         (unsigned long)size);
    }
    return status;
}

/* ---------------------------------------------------------------------------------------------
   Sources, and the models made of them
   ------------------------------------------------------------------------------------------ */

typedef struct source {
    weights w;
    config c;
    const tool_import *import;
    msae_model_desc desc;
    size_t nesting[MSAE_MAX_LEVELS];
    size_t n, d;
    const char *encoder_name, *decoder_name;
    torch_tensor encoder, decoder; /* [n, d] as views */
    float *b_dec, *b_enc;          /* [d], [n] */
    float *mean;                   /* [d], or NULL for zero */
    double scale;
    msae_scaling scaling; /* how the layout's own code found it, where that is known */
    float *theta;         /* [n], jumprelu */
    double threshold;
    float *gain;      /* [n] on latents before they are decoded, or NULL */
    int is_unshifted; /* the encoder sees x, not x - b_dec */
    int by_norms;     /* pre-activations are multiplied by their decoder row's norm before latents
                         are selected, latents divided by it before they are decoded */
} source;

static void close_source(source *s) {
    close_weights(&s->w);
    close_config(&s->c);
    free(s->b_dec);
    free(s->b_enc);
    free(s->mean);
    free(s->theta);
    free(s->gain);
}

/* The matrices: encoder [d, n] or, transposed, [n, d]; decoder likewise, NULL when tied. */
static int take_matrices(source *s, const char *encoder, int encoder_is_nd, const char *decoder,
                         int decoder_is_nd) {
    char text[128], other[128];
    int status = need_matrix(&s->w, encoder, &s->encoder);
    if (status != TOOL_OK) return status;
    s->encoder_name = encoder;
    s->decoder_name = decoder;
    if (!encoder_is_nd) s->encoder = torch_transposed(&s->encoder);
    if (s->encoder.shape[0] >= UINT32_MAX || s->encoder.shape[1] >= UINT32_MAX) {
        return tool_fail(s->w.path, "tensor %s is %s", encoder, show_shape(&s->encoder, text));
    }
    s->n = (size_t)s->encoder.shape[0];
    s->d = (size_t)s->encoder.shape[1];
    if (decoder == NULL) return TOOL_OK;
    status = need_matrix(&s->w, decoder, &s->decoder);
    if (status != TOOL_OK) return status;
    if (!decoder_is_nd) s->decoder = torch_transposed(&s->decoder);
    if (s->decoder.shape[0] != s->n || s->decoder.shape[1] != s->d) {
        return tool_fail(s->w.path, "%s has %lu latents of %lu inputs, %s %s", encoder,
                         (unsigned long)s->n, (unsigned long)s->d, decoder,
                         show_shape(&s->decoder, other));
    }
    return TOOL_OK;
}

static int take_biases(source *s, const char *b_dec, const char *b_enc) {
    int status = read_vector(&s->w, b_dec, s->d, &s->b_dec);
    if (status == TOOL_OK) status = read_vector(&s->w, b_enc, s->n, &s->b_enc);
    return status;
}

/* A k that the layout says; 0 is none. */
static int take_k(source *s, const char *path, size_t k) {
    if (k == 0) return tool_fail(path, "k is missing");
    if (k > s->n) {
        return tool_fail(path, "k is %lu, more than the %lu latents", (unsigned long)k,
                         (unsigned long)s->n);
    }
    s->desc.k = k;
    return TOOL_OK;
}

/* A k that only training used. */
static size_t usual_k(const source *s) {
    return s->n < 32 ? s->n : 32;
}

/* The threshold of a batch, under the name or as `threshold`. */
static int take_batch_threshold(source *s, const char *name) {
    int status = read_one(&s->w, name, &s->threshold);
    if (status == TOOL_GO) status = read_one(&s->w, "threshold", &s->threshold);
    return status == TOOL_GO ? tool_fail(s->w.path, "there is no tensor %s", name) : status;
}

/* One threshold for each latent; the first ones that SAELens wrote are logarithms. */
static int take_thresholds(source *s) {
    if (has_tensor(&s->w, "threshold") || !has_tensor(&s->w, "log_threshold")) {
        return read_vector(&s->w, "threshold", s->n, &s->theta);
    }
    int status = read_vector(&s->w, "log_threshold", s->n, &s->theta);
    for (size_t j = 0; status == TOOL_OK && j < s->n; j++) s->theta[j] = expf(s->theta[j]);
    if (status == TOOL_OK) status = check_finite(&s->w, "log_threshold", s->theta, s->n);
    return status;
}

/* The levels of a nested model: as --nesting says, or from `start` on. */
static void take_levels(source *s, size_t start) {
    const tool_counts *nesting = &s->import->nesting;
    s->desc.nesting_start = nesting->count == 1 ? nesting->values[0] : start;
    if (nesting->count > 1) {
        memcpy(s->nesting, nesting->values, sizeof s->nesting);
        s->desc.nesting = s->nesting;
        s->desc.n_levels = nesting->count;
    }
}

/* What selects latents, when --recipe says so, instead of what the layout says of it. */
static int take_recipe(source *s) {
    const msae_recipe recipe = (msae_recipe)s->import->recipe;
    const size_t k = s->import->k != 0 ? s->import->k : s->desc.k;
    int status = TOOL_OK;
    if (recipe == MSAE_RECIPE_DEFAULT || recipe == s->desc.recipe) return TOOL_OK;
    s->desc.recipe = recipe;
    s->desc.k = 0;
    if (recipe == MSAE_RECIPE_MSAE_WIDTH) {
        return tool_fail("--recipe", "no other project's file has nested widths");
    }
    if (recipe == MSAE_RECIPE_TOPK) {
        if (k == 0) return tool_fail(s->w.path, "k is missing: say it with --k");
        status = take_k(s, s->w.path, k);
    } else if (recipe == MSAE_RECIPE_BATCHTOPK) {
        status = take_batch_threshold(s, "threshold");
        if (status == TOOL_OK) status = take_k(s, s->w.path, k != 0 ? k : usual_k(s));
    } else if (tool_is_nested(recipe)) {
        take_levels(s, 0);
    }
    if (status == TOOL_OK && recipe == MSAE_RECIPE_JUMPRELU) return take_thresholds(s);
    free(s->theta);
    s->theta = NULL;
    return status;
}

/* The encoder sees x, which is (x - b_dec) + b_dec: the second part is a bias. */
static void fold_shift(source *s, const msae_model *model) {
    for (size_t j = 0; j < s->n; j++) {
        const float *row = model->encoder + j * s->d;
        double sum = (double)s->b_enc[j];
        for (size_t i = 0; i < s->d; i++) sum += (double)s->b_dec[i] * (double)row[i];
        s->b_enc[j] = (float)sum;
    }
}

static int fold_norms(source *s, const msae_model *model) {
    for (size_t j = 0; j < s->n; j++) {
        float *encoder = model->encoder + j * s->d, *decoder = model->decoder + j * s->d;
        const double norm = tool_norm(decoder, s->d);
        if (!(norm > 0)) {
            return tool_fail(s->w.path, "row %lu of %s is zero, and the layout divides by its norm",
                             (unsigned long)j, s->decoder_name);
        }
        for (size_t i = 0; i < s->d; i++) {
            encoder[i] = (float)((double)encoder[i] * norm);
            decoder[i] = (float)((double)decoder[i] / norm);
        }
        s->b_enc[j] = (float)((double)s->b_enc[j] * norm);
    }
    return TOOL_OK;
}

static void fold_gain(const source *s, const msae_model *model) {
    for (size_t j = 0; j < s->n; j++) {
        for (size_t i = 0; i < s->d; i++) model->decoder[j * s->d + i] *= s->gain[j];
    }
}

/* The log whose exp is nearest to a threshold; one below zero does what zero does, as latents are
   above zero. */
static float log_threshold_of(float theta) {
    float best;
    if (!(theta > 0)) return LOG_OF_ZERO;
    best = (float)log((double)theta);
    for (int side = -1; side <= 1; side += 2) {
        const float other = nextafterf(best, side < 0 ? -1e30f : 1e30f);
        if (fabsf(expf(other) - theta) < fabsf(expf(best) - theta)) best = other;
    }
    return best;
}

static int fill_model(source *s, msae_model *model) {
    int status = read_floats(&s->w, s->encoder_name, &s->encoder, model->encoder);
    if (status == TOOL_OK && s->decoder_name != NULL) {
        status = read_floats(&s->w, s->decoder_name, &s->decoder, model->decoder);
    }
    if (status != TOOL_OK) return status;
    if (s->is_unshifted) fold_shift(s, model);
    if (s->by_norms) status = fold_norms(s, model);
    if (status != TOOL_OK) return status;
    if (s->gain != NULL) fold_gain(s, model);
    memcpy(model->pre_bias, s->b_dec, s->d * sizeof *s->b_dec);
    memcpy(model->latent_bias, s->b_enc, s->n * sizeof *s->b_enc);
    for (size_t j = 0; s->theta != NULL && j < s->n; j++) {
        model->log_threshold[j] = log_threshold_of(s->theta[j]);
    }
    if (s->desc.recipe == MSAE_RECIPE_BATCHTOPK) model->threshold = (float)s->threshold;
    if (s->mean != NULL) memcpy(model->mean, s->mean, s->d * sizeof *s->mean);
    model->scale = (float)s->scale;
    model->history.scaling = (int)s->scaling;
    status = check_finite(&s->w, "encoder", model->encoder, s->n * s->d);
    if (status == TOOL_OK) status = check_finite(&s->w, "decoder", model->decoder, s->n * s->d);
    if (status == TOOL_OK) status = check_finite(&s->w, "latent_bias", model->latent_bias, s->n);
    return status;
}

static int make_model(source *s, const msae_load_desc *load, msae_model *model) {
    msae_error error;
    s->desc.n_inputs = s->d;
    s->desc.n_latents = s->n;
    s->desc.tied = s->decoder_name == NULL;
    if (load != NULL) s->desc.host = load->host;
    if (msae_model_init(model, &s->desc, &error) != MSAE_OK) {
        return tool_fail_error(s->w.path, &error);
    }
    return fill_model(s, model);
}

/* ---------------------------------------------------------------------------------------------
   SAELens
   ------------------------------------------------------------------------------------------ */

/* Pre-activations above the batch's threshold, which the folder keeps as a number or, once the
   model is one for inference, as one number for all latents. */
static int saelens_batch_threshold(source *s) {
    size_t k;
    const json_value *value = get(s->c.json.root, "k");
    int status = take_batch_threshold(s, "topk_threshold");
    if (status != TOOL_OK) return status;
    /* an average, which may be a fraction */
    k = value != NULL && value->kind == JSON_NUMBER && value->number >= 1 &&
                value->number < (double)s->n
            ? (size_t)(value->number + 0.5)
            : 0;
    s->desc.recipe = MSAE_RECIPE_BATCHTOPK;
    s->desc.k = k > 0 ? k : usual_k(s);
    return TOOL_OK;
}

static int saelens_thresholds(source *s) {
    s->desc.recipe = MSAE_RECIPE_JUMPRELU;
    return take_thresholds(s);
}

/* Whether version 6 or a later one wrote it, which has other keys and looks at no older ones. */
static int saelens_is_six(const source *s, int *is_six) {
    const json_value *root = s->c.json.root;
    const char *version;
    int status = get_text(&s->c, root, "sae_lens_version", NULL, &version);
    if (status == TOOL_OK && version == NULL) {
        status = get_text(&s->c, get(root, "metadata"), "sae_lens_version", "", &version);
    }
    *is_six = status == TOOL_OK && strtol(version, NULL, 10) >= 6;
    return status;
}

/* The k of a TopK: before version 6 that of activation_fn_kwargs. */
static int saelens_k(source *s, int is_six) {
    const json_value *root = s->c.json.root, *options = get(root, "activation_fn_kwargs");
    size_t k = 0;
    int status = TOOL_OK;
    if (!is_six) {
        if (get(options, "postact_fn") != NULL) {
            return tool_fail(s->c.path, "activation_fn_kwargs.postact_fn is not supported");
        }
        status = get_count(&s->c, options, "k", &k);
    }
    if (status == TOOL_OK && k == 0) status = get_count(&s->c, root, "k", &k);
    if (status != TOOL_OK) return status;
    s->desc.recipe = MSAE_RECIPE_TOPK;
    return take_k(s, s->c.path, k);
}

/* Before the tensors are looked for, which are others in other architectures. */
static int saelens_architecture(const source *s, const char **architecture) {
    static const char *const known[] = {"standard", "topk", "batchtopk", "matryoshka_batchtopk",
                                        "jumprelu"};
    int status = get_text(&s->c, s->c.json.root, "architecture", "standard", architecture);
    if (status != TOOL_OK) return status;
    for (size_t i = 0; i < TOOL_COUNT_OF(known); i++) {
        if (strcmp(*architecture, known[i]) == 0) return TOOL_OK;
    }
    return tool_fail(s->c.path,
                     "the architecture '%s' is not supported: standard, topk, batchtopk and "
                     "jumprelu are",
                     *architecture);
}

/* Before version 6 the activation is one of its own beside the architecture, NULL when there is
   none. Only some pairs mean something, and not in each of their versions the same. */
static int saelens_old_activation(const source *s, const char *architecture,
                                  const char **activation) {
    const int is_basic = strcmp(architecture, "standard") == 0;
    const int is_topk = strcmp(architecture, "topk") == 0;
    int status = get_text(&s->c, s->c.json.root, "activation_fn", NULL, activation);
    if (status == TOOL_OK && *activation == NULL) {
        status = get_text(&s->c, s->c.json.root, "activation_fn_str", NULL, activation);
    }
    if (status != TOOL_OK || *activation == NULL) return status;
    if (strcmp(*activation, "relu") != 0 && strcmp(*activation, "topk") != 0) {
        return tool_fail(s->c.path, "the activation '%s' is not supported: ReLU and TopK are",
                         *activation);
    }
    if (strcmp(*activation, "topk") == 0 ? !is_basic && !is_topk : is_topk) {
        return tool_fail(s->c.path,
                         "the architecture '%s' with the activation '%s' is not supported",
                         architecture, *activation);
    }
    return TOOL_OK;
}

static int saelens_activation(source *s, const char *architecture) {
    const char *activation = NULL;
    int is_six, is_topk, rescale = 0;
    int status = saelens_is_six(s, &is_six);
    if (status == TOOL_OK && !is_six) {
        status = saelens_old_activation(s, architecture, &activation);
    }
    if (status == TOOL_OK) {
        status = get_flag(&s->c, s->c.json.root, "rescale_acts_by_decoder_norm", 0, &rescale);
    }
    if (status != TOOL_OK) return status;
    is_topk = strcmp(architecture, "topk") == 0 ||
              (activation != NULL && strcmp(activation, "topk") == 0);
    if (is_topk) {
        status = saelens_k(s, is_six);
    } else if (strcmp(architecture, "standard") == 0) {
        s->desc.recipe = MSAE_RECIPE_RELU;
    } else if (strcmp(architecture, "jumprelu") == 0) {
        return saelens_thresholds(s);
    } else { /* the batchtopk ones */
        torch_tensor tensor;
        is_topk = 1;
        status = find_tensor(&s->w, "threshold", &tensor) && tensor.elements == s->n && s->n > 1
                     ? saelens_thresholds(s)
                     : saelens_batch_threshold(s);
    }
    if (is_topk && rescale) s->by_norms = 1;
    return status;
}

/* A checkpoint of a run keeps the factor that it scales inputs by in a file of its own, and divides
   reconstructions by it; finished models have it in their weights. TOOL_GO without such a file. */
static int saelens_scaler(source *s) {
    const char *slash = strrchr(s->w.path, '/');
    const size_t bytes = slash != NULL ? (size_t)(slash - s->w.path) + 1 : 0;
    config scaler;
    memset(&scaler, 0, sizeof scaler);
    if (!set_if_there(&scaler.path, s->w.path, bytes, "activation_scaler.json")) return TOOL_GO;
    int status = open_config(&scaler);
    if (status == TOOL_OK) {
        status = get_number(&scaler, scaler.json.root, "scaling_factor", &s->scale);
        if (status == TOOL_OK && !((float)s->scale > 0 && isfinite((float)s->scale))) {
            status = tool_fail(scaler.path, "scaling_factor is %g, not positive", s->scale);
        }
    }
    close_config(&scaler);
    return status;
}

static int saelens_normalization(source *s) {
    const json_value *value = get(s->c.json.root, "normalize_activations");
    const char *name;
    if (value == NULL || (value->kind == JSON_BOOL && value->number == 0)) return TOOL_OK;
    if (value->kind == JSON_BOOL) {
        name = "expected_average_only_in"; /* what true once meant */
    } else if (get_text(&s->c, s->c.json.root, "normalize_activations", "none", &name) != TOOL_OK) {
        return TOOL_FAILED;
    }
    if (strcmp(name, "layer_norm") == 0) {
        s->desc.normalize = 1; /* the same: unbiased deviation + 1e-5, restored without it */
        return TOOL_OK;
    }
    if (strcmp(name, "none") == 0) return TOOL_OK;
    if (strcmp(name, "expected_average_only_in") == 0) {
        const int status = saelens_scaler(s);
        if (status != TOOL_GO) return status;
    }
    return tool_fail(s->c.path, "normalize_activations '%s' is not supported: %s", name,
                     strcmp(name, "expected_average_only_in") == 0
                         ? "it scales inputs by a factor that the folder does not say"
                     : strcmp(name, "constant_norm_rescale") == 0
                         ? "it scales each row by its own norm"
                         : "none and layer_norm are");
}

/* Before version 6 latents could be scaled before they were decoded. */
static int saelens_gain(source *s) {
    const char *name =
        has_tensor(&s->w, "scaling_factor") ? "scaling_factor" : "finetuning_scaling_factor";
    int is_used = 0, status;
    if (!has_tensor(&s->w, name)) return TOOL_OK;
    status = read_vector(&s->w, name, s->n, &s->gain);
    if (status == TOOL_OK) {
        status = get_flag(&s->c, s->c.json.root, "finetuning_scaling_factor", 0, &is_used);
    }
    for (size_t j = 0; status == TOOL_OK && !is_used && j < s->n; j++) {
        if (fabsf(s->gain[j] - 1) > 1e-5f) {
            return tool_fail(s->w.path,
                             "tensor %s is not one, but finetuning_scaling_factor is "
                             "false",
                             name);
        }
    }
    return status;
}

static int read_saelens(source *s) {
    const json_value *root = s->c.json.root;
    const char *architecture, *reshape;
    int shifts, status = saelens_architecture(s, &architecture);
    if (status == TOOL_OK) status = take_matrices(s, "W_enc", 0, "W_dec", 1);
    if (status == TOOL_OK) status = take_biases(s, "b_dec", "b_enc");
    if (status == TOOL_OK) status = check_size(&s->c, root, "d_in", s->d);
    if (status == TOOL_OK) status = check_size(&s->c, root, "d_sae", s->n);
    if (status == TOOL_OK) status = saelens_activation(s, architecture);
    if (status == TOOL_OK) status = saelens_normalization(s);
    if (status == TOOL_OK) status = get_flag(&s->c, root, "apply_b_dec_to_input", 1, &shifts);
    if (status == TOOL_OK) status = saelens_gain(s);
    if (status == TOOL_OK) status = get_text(&s->c, root, "reshape_activations", "none", &reshape);
    if (status != TOOL_OK) return status;
    s->is_unshifted = !shifts;
    /* hook_z only flattens heads: rows of data are flat here */
    if (strcmp(reshape, "none") != 0 && strcmp(reshape, "hook_z") != 0) {
        return tool_fail(s->c.path, "reshape_activations '%s' is not supported", reshape);
    }
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   sparsify
   ------------------------------------------------------------------------------------------ */

static int read_sparsify(source *s) {
    const json_value *root = s->c.json.root;
    const char *activation;
    size_t latents = 0, expansion = 0, k = 0;
    int status = get_text(&s->c, root, "activation", "topk", &activation);
    if (status != TOOL_OK) return status;
    if (strcmp(activation, "topk") != 0) {
        return tool_fail(s->c.path, "the activation '%s' is not supported: topk is", activation);
    }
    status = refuse_flag(&s->c, "transcode", "it predicts other activations than it sees");
    if (status == TOOL_OK) {
        status = refuse_flag(&s->c, "skip_connection",
                             "its linear map from input to output has no place in a model");
    }
    if (status == TOOL_OK) {
        status = refuse_flag(&s->c, "embed_skip", "it needs the embedding layer's activations");
    }
    if (status == TOOL_OK) {
        status = refuse_flag(&s->c, "gram_lookup", "it needs a table of n-grams");
    }
    if (status == TOOL_OK) status = refuse_flag(&s->c, "signed", "latents may be negative");
    if (status == TOOL_OK) status = take_matrices(s, "encoder.weight", 1, "W_dec", 1);
    if (status == TOOL_OK) status = take_biases(s, "b_dec", "encoder.bias");
    if (status == TOOL_OK) status = check_size(&s->c, root, "d_in", s->d);
    if (status == TOOL_OK) status = get_count(&s->c, root, "num_latents", &latents);
    if (status == TOOL_OK) status = get_count(&s->c, root, "expansion_factor", &expansion);
    if (status == TOOL_OK) status = get_count(&s->c, root, "k", &k);
    if (status != TOOL_OK) return status;
    if (has_tensor(&s->w, "W_skip")) {
        return tool_fail(s->w.path, "tensor W_skip: a linear map from input to output has no place "
                                    "in a model");
    }
    if (latents == 0 && expansion > 0 && expansion * (uint64_t)s->d != s->n) {
        return tool_fail(s->c.path,
                         "expansion_factor is %lu, but the tensors have %lu latents of "
                         "%lu inputs",
                         (unsigned long)expansion, (unsigned long)s->n, (unsigned long)s->d);
    }
    if (latents != 0) status = check_size(&s->c, root, "num_latents", s->n);
    if (status != TOOL_OK) return status;
    if (root == NULL) {
        s->desc.recipe = MSAE_RECIPE_RELU; /* until --recipe is looked at */
        return TOOL_OK;
    }
    s->desc.recipe = MSAE_RECIPE_TOPK;
    /* its own default is 32 */
    return take_k(s, s->c.path, json_find(root, "k") == NULL ? 32 : k);
}

/* ---------------------------------------------------------------------------------------------
   dictionary_learning
   ------------------------------------------------------------------------------------------ */

typedef enum dictionary {
    DICTIONARY_UNKNOWN,
    DICTIONARY_STANDARD,
    DICTIONARY_NEW,
    DICTIONARY_TOPK,
    DICTIONARY_BATCHTOPK,
    DICTIONARY_MATRYOSHKA,
    DICTIONARY_JUMPRELU,
    DICTIONARY_LINEAR, /* the tensors' names, with nothing that says what selects latents: */
    DICTIONARY_PLAIN   /* encoder.weight and decoder.weight; W_enc and W_dec */
} dictionary;

static const struct {
    const char *dict_class, *trainer_class;
    dictionary is;
} dictionaries[] = {
    {"AutoEncoder", "StandardTrainer", DICTIONARY_STANDARD},
    {"AutoEncoder", "StandardTrainerAprilUpdate", DICTIONARY_STANDARD},
    {"AutoEncoder", "PAnnealTrainer", DICTIONARY_STANDARD},
    {"AutoEncoderNew", "StandardTrainerNew", DICTIONARY_NEW},
    {"AutoEncoderTopK", "TopKTrainer", DICTIONARY_TOPK},
    {"BatchTopKSAE", "BatchTopKTrainer", DICTIONARY_BATCHTOPK},
    {"MatryoshkaBatchTopKSAE", "MatryoshkaBatchTopKTrainer", DICTIONARY_MATRYOSHKA},
    {"MatroyshkaBatchTopKSAE", "MatroyshkaBatchTopKTrainer", DICTIONARY_MATRYOSHKA}, /* once */
    {"JumpReluAutoEncoder", "JumpReluTrainer", DICTIONARY_JUMPRELU},
};

/* By the configuration or, without one, by what only one class has. */
static int dictionary_class(const source *s, dictionary *is) {
    const json_value *trainer = get(s->c.json.root, "trainer");
    const char *dict_class = NULL, *trainer_class = NULL;
    torch_tensor threshold;
    int status = TOOL_OK;
    *is = DICTIONARY_UNKNOWN;
    if (s->c.json.root != NULL && (trainer == NULL || trainer->kind != JSON_OBJECT) &&
        s->import->recipe == 0) {
        return tool_fail(s->c.path, "trainer is missing");
    }
    if (trainer != NULL) status = get_text(&s->c, trainer, "dict_class", NULL, &dict_class);
    if (trainer != NULL && status == TOOL_OK) {
        status = get_text(&s->c, trainer, "trainer_class", NULL, &trainer_class);
    }
    if (status != TOOL_OK) return status;
    for (size_t i = 0; i < TOOL_COUNT_OF(dictionaries); i++) {
        const char *want =
            dict_class != NULL ? dictionaries[i].dict_class : dictionaries[i].trainer_class;
        const char *have = dict_class != NULL ? dict_class : trainer_class;
        if (have != NULL && strcmp(have, want) == 0) *is = dictionaries[i].is;
    }
    if (*is != DICTIONARY_UNKNOWN) return TOOL_OK;
    if (dict_class != NULL || trainer_class != NULL) {
        return tool_fail(s->c.path,
                         "the class '%s' is not supported: AutoEncoder, AutoEncoderNew, "
                         "AutoEncoderTopK, BatchTopKSAE, MatryoshkaBatchTopKSAE and "
                         "JumpReluAutoEncoder are",
                         dict_class != NULL ? dict_class : trainer_class);
    }
    if (has_tensor(&s->w, "bias")) {
        *is = DICTIONARY_STANDARD;
    } else if (has_tensor(&s->w, "decoder.bias")) {
        *is = DICTIONARY_NEW;
    } else if (has_tensor(&s->w, "group_sizes")) {
        *is = DICTIONARY_MATRYOSHKA;
    } else if (has_tensor(&s->w, "W_enc")) {
        *is = find_tensor(&s->w, "threshold", &threshold) && threshold.elements > 1
                  ? DICTIONARY_JUMPRELU
                  : DICTIONARY_PLAIN;
    } else if (s->import->recipe == MSAE_RECIPE_TOPK) {
        *is = DICTIONARY_TOPK;
    } else if (s->import->recipe == MSAE_RECIPE_BATCHTOPK) {
        *is = DICTIONARY_BATCHTOPK;
    } else {
        *is = DICTIONARY_LINEAR;
    }
    if (s->import->recipe != 0 || (*is != DICTIONARY_LINEAR && *is != DICTIONARY_PLAIN)) {
        return TOOL_OK;
    }
    return tool_fail(s->w.path,
                     "a TopK, a BatchTopK or a ReLU? There is no config.json beside it that says "
                     "so: convert it with --recipe topk, batchtopk or relu");
}

/* k is in the file, and in the configuration; older files lack it. */
static int dictionary_k(source *s) {
    const json_value *trainer = get(s->c.json.root, "trainer");
    double number = 0;
    size_t k = 0;
    int status = read_one(&s->w, "k", &number);
    if (status == TOOL_FAILED) return status;
    if (status == TOOL_OK && !(number >= 1 && number <= (double)s->n && number == floor(number))) {
        return tool_fail(s->w.path, "k is %g, where 1 to %lu is possible", number,
                         (unsigned long)s->n);
    }
    status = get_count(&s->c, trainer, "k", &k);
    if (status != TOOL_OK) return status;
    if (s->import->k != 0) return take_k(s, s->w.path, s->import->k);
    if (number > 0 && k > 0 && (double)k != number) {
        return tool_fail(s->c.path, "k is %lu, but %s says %g", (unsigned long)k, s->w.path,
                         number);
    }
    if (number > 0) k = (size_t)number;
    if (k == 0 && s->desc.recipe == MSAE_RECIPE_BATCHTOPK) k = usual_k(s);
    return take_k(s, s->w.path, k);
}

/* A file of a run that goes on keeps the factor that its rows are divided by; files of finished
   ones have biases and thresholds times it, as their scale_biases makes them. */
static int dictionary_factor(source *s) {
    const torch_value *root = s->w.torch.root, *dict = s->w.dict;
    const torch_value *value = torch_find(root, "norm_factor");
    double factor = 1;
    int status;
    if (root == dict || value == NULL || value->kind == TORCH_NONE) return TOOL_OK;
    s->w.dict = root;
    status = read_one(&s->w, "norm_factor", &factor);
    s->w.dict = dict;
    if (status == TOOL_FAILED) return status;
    if (!(factor > 0)) return tool_fail(s->w.path, "norm_factor is %g, not positive", factor);
    for (size_t i = 0; i < s->d; i++) s->b_dec[i] = (float)((double)s->b_dec[i] * factor);
    for (size_t j = 0; j < s->n; j++) {
        s->b_enc[j] = (float)((double)s->b_enc[j] * factor);
        if (s->theta != NULL) s->theta[j] = (float)((double)s->theta[j] * factor);
    }
    if (s->threshold > 0) s->threshold *= factor;
    return TOOL_OK;
}

/* Their loader makes the decoder rows of an AutoEncoder unit, unless all are so to float precision.
 */
static int are_rows_unit(const source *s, int *are_unit) {
    float *decoder = tool_alloc(s->n * s->d, sizeof *decoder);
    int status = decoder != NULL ? read_floats(&s->w, s->decoder_name, &s->decoder, decoder)
                                 : tool_fail_memory();
    *are_unit = 1;
    for (size_t j = 0; status == TOOL_OK && j < s->n && *are_unit; j++) {
        *are_unit = fabs(tool_norm(decoder + j * s->d, s->d) - 1) <= 1e-5 + 1e-8;
    }
    free(decoder);
    return status;
}

static int read_dictionary(source *s) {
    const json_value *trainer = get(s->c.json.root, "trainer");
    dictionary is;
    int has_k = 0, are_unit = 1, status;
    if (find_value(&s->w, "r_mag") != NULL) {
        return tool_fail(s->w.path, "is a GatedAutoEncoder: its gates have no place in a model");
    }
    status = dictionary_class(s, &is);
    if (status != TOOL_OK) return status;
    if (s->import->recipe == MSAE_RECIPE_BATCHTOPK && is == DICTIONARY_TOPK) {
        is = DICTIONARY_BATCHTOPK; /* they are laid out alike */
    } else if (s->import->recipe == MSAE_RECIPE_TOPK && is == DICTIONARY_BATCHTOPK) {
        is = DICTIONARY_TOPK;
    }
    switch (is) {
    case DICTIONARY_STANDARD:
        s->desc.recipe = MSAE_RECIPE_RELU;
        status = take_matrices(s, "encoder.weight", 1, "decoder.weight", 0);
        if (status == TOOL_OK) status = take_biases(s, "bias", "encoder.bias");
        if (status == TOOL_OK) status = are_rows_unit(s, &are_unit);
        s->by_norms = !are_unit;
        break;
    case DICTIONARY_NEW:
        s->desc.recipe = MSAE_RECIPE_RELU;
        s->is_unshifted = 1;
        status = take_matrices(s, "encoder.weight", 1, "decoder.weight", 0);
        if (status == TOOL_OK) status = take_biases(s, "decoder.bias", "encoder.bias");
        break;
    case DICTIONARY_MATRYOSHKA:
    case DICTIONARY_JUMPRELU:
    case DICTIONARY_PLAIN:
        status = take_matrices(s, "W_enc", 0, "W_dec", 1);
        if (status == TOOL_OK) status = take_biases(s, "b_dec", "b_enc");
        break;
    default:
        status = take_matrices(s, "encoder.weight", 1, "decoder.weight", 0);
        if (status == TOOL_OK) status = take_biases(s, "b_dec", "encoder.bias");
        break;
    }
    if (status != TOOL_OK) return status;
    if (is == DICTIONARY_JUMPRELU) {
        s->desc.recipe = MSAE_RECIPE_JUMPRELU;
        s->is_unshifted = 1;
        status = take_thresholds(s);
    } else if (is == DICTIONARY_TOPK) {
        s->desc.recipe = MSAE_RECIPE_TOPK;
        has_k = 1;
    } else if (is == DICTIONARY_BATCHTOPK || is == DICTIONARY_MATRYOSHKA) {
        s->desc.recipe = MSAE_RECIPE_BATCHTOPK;
        status = take_batch_threshold(s, "threshold");
        has_k = 1;
    } else if (is == DICTIONARY_LINEAR || is == DICTIONARY_PLAIN) {
        s->desc.recipe = MSAE_RECIPE_RELU; /* until --recipe is looked at */
    }
    if (status == TOOL_OK && has_k) status = dictionary_k(s);
    if (status == TOOL_OK) status = check_size(&s->c, trainer, "activation_dim", s->d);
    if (status == TOOL_OK) status = check_size(&s->c, trainer, "dict_size", s->n);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   ViT-Prisma: SAELens' tensors and keys, the weights of torch.save
   ------------------------------------------------------------------------------------------ */

static int read_prisma(source *s) {
    const int status =
        refuse_flag(&s->c, "is_transcoder", "it predicts other activations than it sees");
    return status == TOOL_OK ? read_saelens(s) : status;
}

/* ---------------------------------------------------------------------------------------------
   BatchTopK and matryoshka_sae (Bussmann)
   ------------------------------------------------------------------------------------------ */

/* Only two of the five kinds add b_enc, which all files have. */
static int read_batchtopk(source *s) {
    static const struct {
        const char *type;
        msae_recipe recipe;
        int has_b_enc;
    } types[] = {
        {"vanilla", MSAE_RECIPE_RELU, 1},
        {"topk", MSAE_RECIPE_TOPK, 0},
        {"batchtopk", MSAE_RECIPE_BATCHTOPK, 0},
        {"batch-topk", MSAE_RECIPE_BATCHTOPK, 0},
        {"global-matryoshka-topk", MSAE_RECIPE_BATCHTOPK, 0},
        {"jumprelu", MSAE_RECIPE_JUMPRELU, 1},
    };
    const json_value *root = s->c.json.root;
    const char *type;
    size_t at = 0, k = 0;
    int status = get_text(&s->c, root, "sae_type", "", &type);
    while (at < TOOL_COUNT_OF(types) && strcmp(types[at].type, type) != 0) at++;
    if (status == TOOL_OK && at == TOOL_COUNT_OF(types)) {
        status = tool_fail(s->c.path,
                           "the sae_type '%s' is not supported: vanilla, topk, "
                           "batchtopk, global-matryoshka-topk and jumprelu are",
                           type);
    }
    if (status == TOOL_OK) status = take_matrices(s, "W_enc", 0, "W_dec", 1);
    if (status == TOOL_OK) status = take_biases(s, "b_dec", "b_enc");
    if (status == TOOL_OK) status = check_size(&s->c, root, "act_size", s->d);
    if (status == TOOL_OK) {
        status = get_flag(&s->c, root, "input_unit_norm", 0, &s->desc.normalize);
    }
    if (status == TOOL_OK) status = get_count(&s->c, root, "top_k", &k);
    if (status != TOOL_OK) return status;
    if (!types[at].has_b_enc) memset(s->b_enc, 0, s->n * sizeof *s->b_enc);
    s->desc.recipe = types[at].recipe;
    if (s->desc.recipe == MSAE_RECIPE_TOPK) return take_k(s, s->c.path, k);
    if (s->desc.recipe == MSAE_RECIPE_JUMPRELU) {
        s->is_unshifted = 1;
        status = read_vector(&s->w, "jumprelu.log_threshold", s->n, &s->theta);
        for (size_t j = 0; status == TOOL_OK && j < s->n; j++) s->theta[j] = expf(s->theta[j]);
        return status == TOOL_OK ? check_finite(&s->w, "jumprelu.log_threshold", s->theta, s->n)
                                 : status;
    }
    if (s->desc.recipe != MSAE_RECIPE_BATCHTOPK) return TOOL_OK;
    if (!has_tensor(&s->w, "threshold")) {
        if (s->import->recipe != 0) return TOOL_OK;
        return tool_fail(s->w.path,
                         "there is no threshold: its latents depend on the other rows of "
                         "a batch; convert it with --recipe topk --k K");
    }
    status = take_batch_threshold(s, "threshold");
    return status == TOOL_OK ? take_k(s, s->c.path, k > 0 ? k : usual_k(s)) : status;
}

/* ---------------------------------------------------------------------------------------------
   Llama Scope (Language-Model-SAEs)
   ------------------------------------------------------------------------------------------ */

/* Inputs are scaled so that their mean norm is sqrt(d), reconstructions scaled back. */
static int llama_scale(source *s) {
    const json_value *root = s->c.json.root;
    const json_value *norms = get(root, "dataset_average_activation_norm");
    const char *kind;
    double in = 0, out = 0;
    int status = get_text(&s->c, root, "norm_activation", "dataset-wise", &kind);
    if (status != TOOL_OK) return status;
    if (strcmp(kind, "inference") == 0 || strcmp(kind, "none") == 0) return TOOL_OK;
    if (strcmp(kind, "dataset-wise") != 0) {
        return tool_fail(s->c.path, "norm_activation '%s' is not supported: dataset-wise is", kind);
    }
    status = get_number(&s->c, norms, "in", &in);
    if (status == TOOL_OK) status = get_number(&s->c, norms, "out", &out);
    if (status == TOOL_FAILED) return status;
    if (status == TOOL_GO) {
        return tool_fail(s->c.path, "dataset_average_activation_norm is missing");
    }
    if (in != out) {
        return tool_fail(s->c.path,
                         "dataset_average_activation_norm is %g in and %g out: it predicts "
                         "other activations than it sees",
                         in, out);
    }
    s->scale = sqrt((double)s->d) / in;
    if (!(in > 0) || !isfinite((float)s->scale)) {
        return tool_fail(s->c.path, "dataset_average_activation_norm is %g, not positive", in);
    }
    return TOOL_OK;
}

static int read_llama_scope(source *s) {
    const json_value *root = s->c.json.root;
    const char *activation, *in, *out;
    double theta = 0;
    int shifts = 0, by_norms = 0, has_bias = 1;
    int status = get_text(&s->c, root, "act_fn", "jumprelu", &activation);
    if (status == TOOL_OK) status = get_text(&s->c, root, "hook_point_in", "", &in);
    if (status == TOOL_OK) status = get_text(&s->c, root, "hook_point_out", in, &out);
    if (status == TOOL_OK && strcmp(activation, "jumprelu") != 0) {
        status = tool_fail(s->c.path, "act_fn '%s' is not supported: jumprelu is", activation);
    }
    if (status == TOOL_OK && strcmp(in, out) != 0) {
        status = tool_fail(s->c.path, "hook_point_out is not hook_point_in: it predicts other "
                                      "activations than it sees");
    }
    if (status == TOOL_OK) {
        status = refuse_flag(&s->c, "use_glu_encoder", "its gate has no place in a model");
    }
    if (status == TOOL_OK) {
        status = get_flag(&s->c, root, "apply_decoder_bias_to_pre_encoder", 0, &shifts);
    }
    if (status == TOOL_OK) {
        status = get_flag(&s->c, root, "sparsity_include_decoder_norm", 0, &by_norms);
    }
    if (status == TOOL_OK) status = get_flag(&s->c, root, "use_decoder_bias", 1, &has_bias);
    if (status == TOOL_OK) status = get_number(&s->c, root, "jump_relu_threshold", &theta);
    if (status == TOOL_FAILED) return status;
    if (status == TOOL_GO) return tool_fail(s->c.path, "jump_relu_threshold is missing");
    status = take_matrices(s, "encoder.weight", 1, "decoder.weight", 0);
    if (status == TOOL_OK) status = read_vector(&s->w, "encoder.bias", s->n, &s->b_enc);
    if (status == TOOL_OK && has_bias) status = read_vector(&s->w, "decoder.bias", s->d, &s->b_dec);
    if (status == TOOL_OK && !has_bias) {
        s->b_dec = tool_alloc(s->d, sizeof *s->b_dec);
        if (s->b_dec == NULL) status = tool_fail_memory();
    }
    if (status == TOOL_OK) status = check_size(&s->c, root, "d_model", s->d);
    if (status == TOOL_OK) status = check_size(&s->c, root, "d_sae", s->n);
    if (status == TOOL_OK) status = llama_scale(s);
    if (status != TOOL_OK) return status;
    s->is_unshifted = !shifts;
    s->by_norms = by_norms;
    s->desc.recipe = MSAE_RECIPE_JUMPRELU;
    s->theta = tool_alloc(s->n, sizeof *s->theta);
    if (s->theta == NULL) return tool_fail_memory();
    for (size_t j = 0; j < s->n; j++) s->theta[j] = (float)theta;
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   The published MSAE
   ------------------------------------------------------------------------------------------ */

/* What a file's name says: 96_24_TopKReLU_8_UW_False_False_0.0_cc3m_ViT-B~32_train_image_1000.pth:
   latents, inputs, activation (with its k, or the weight of its penalty), nesting, tied, normalize,
   soft cap. */
typedef struct pth_name {
    size_t n, d, parameter;
    char activation[24];
    char nesting; /* 'U', 'R' or 0 */
    int tied, normalize;
    double soft_cap;
} pth_name;

/* The next word between underscores, without it in *text. Its length, 0 at the end. */
static size_t next_word(const char **text, const char *end, const char **word) {
    size_t length = 0;
    *word = *text;
    while (*text < end && **text != '_') {
        ++*text;
        length++;
    }
    if (*text < end) ++*text;
    return length;
}

static int word_is(const char *word, size_t length, const char *text) {
    return strlen(text) == length && memcmp(word, text, length) == 0;
}

static int read_size(const char *word, size_t length, size_t *size) {
    uint64_t number;
    if (!tool_read_number(word, length, &number) || number > UINT32_MAX) return 0;
    *size = (size_t)number;
    return 1;
}

static int read_bool(const char *word, size_t length, int *value) {
    *value = word_is(word, length, "True");
    return *value || word_is(word, length, "False");
}

/* 0 when the name is none of theirs. */
static int read_pth_name(const char *path, pth_name *name) {
    const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path, *word, *stop_at;
    const char *end = strstr(base, ".pt");
    char number[32], *behind;
    size_t length;
    memset(name, 0, sizeof *name);
    if (end == NULL) return 0;
    length = next_word(&base, end, &word);
    if (!read_size(word, length, &name->n)) return 0;
    length = next_word(&base, end, &word);
    if (!read_size(word, length, &name->d)) return 0;
    length = next_word(&base, end, &word);
    if (length == 0 || length >= sizeof name->activation) return 0;
    memcpy(name->activation, word, length);
    stop_at = base;
    length = next_word(&base, end, &word);
    if (!read_size(word, length, &name->parameter)) base = stop_at;
    stop_at = base;
    length = next_word(&base, end, &word);
    if (word_is(word, length, "UW") || word_is(word, length, "RW")) {
        name->nesting = *word;
    } else {
        base = stop_at;
    }
    length = next_word(&base, end, &word);
    if (!read_bool(word, length, &name->tied)) return 0;
    length = next_word(&base, end, &word);
    if (!read_bool(word, length, &name->normalize)) return 0;
    length = next_word(&base, end, &word);
    if (length == 0 || length >= sizeof number) return 0;
    memcpy(number, word, length);
    number[length] = '\0';
    if (strspn(number, "0123456789.e-") != length) return 0;
    name->soft_cap = strtod(number, &behind);
    return *behind == '\0' && name->soft_cap >= 0 && isfinite(name->soft_cap);
}

/* Activation and recipe by the name's words. */
static int pth_activation(source *s, const pth_name *name) {
    const char *activation = name->activation;
    if (strcmp(activation, "ReLU") == 0) {
        s->desc.recipe = MSAE_RECIPE_RELU;
    } else if (strcmp(activation, "JumpReLU") == 0) {
        s->desc.recipe = MSAE_RECIPE_JUMPRELU;
    } else if (strcmp(activation, "BatchTopKReLU") == 0) {
        s->desc.recipe = MSAE_RECIPE_BATCHTOPK;
    } else if (strcmp(activation, "TopKReLU") == 0 || strcmp(activation, "TopK") == 0 ||
               strcmp(activation, "TopKabs") == 0 || strcmp(activation, "TopKabsReLU") == 0) {
        s->desc.recipe = name->nesting == 'U'   ? MSAE_RECIPE_MSAE_UW
                         : name->nesting == 'R' ? MSAE_RECIPE_MSAE_RW
                                                : MSAE_RECIPE_TOPK;
        s->desc.activation = strcmp(activation, "TopK") == 0          ? MSAE_ACTIVATION_IDENTITY
                             : strncmp(activation, "TopKabs", 7) == 0 ? MSAE_ACTIVATION_ABS
                                                                      : MSAE_ACTIVATION_RELU;
    } else {
        return tool_fail(s->w.path, "the activation '%s' in its name is not supported", activation);
    }
    return TOOL_OK;
}

int tool_is_nested(msae_recipe recipe) {
    return recipe == MSAE_RECIPE_MSAE || recipe == MSAE_RECIPE_MSAE_UW ||
           recipe == MSAE_RECIPE_MSAE_RW;
}

/* Where the file is of no help, the name; where options are given, those. */
static int pth_parameters(source *s, const pth_name *name, int is_named) {
    const tool_import *import = s->import;
    int status = TOOL_OK;
    if (import->recipe != 0) {
        s->desc.recipe = (msae_recipe)import->recipe;
    } else if (is_named) {
        status = pth_activation(s, name);
    } else {
        status = tool_fail(s->w.path, "its name does not say the hyper-parameters, as "
                                      "96_24_TopKReLU_8_UW_False_False_0.0_data.pth does: convert "
                                      "it with --recipe");
    }
    if (status != TOOL_OK) return status;
    if (tool_is_nested(s->desc.recipe)) {
        take_levels(s, is_named ? name->parameter : 0);
    } else if (s->desc.recipe == MSAE_RECIPE_MSAE_WIDTH) {
        status = tool_fail("--recipe", "no torch.save file has nested widths");
    } else if (s->desc.recipe == MSAE_RECIPE_TOPK || s->desc.recipe == MSAE_RECIPE_BATCHTOPK) {
        status = take_k(s, s->w.path, import->k != 0 ? import->k : is_named ? name->parameter : 0);
    }
    s->desc.normalize = import->normalize != 0 ? import->normalize == 1 : name->normalize;
    s->desc.soft_cap = import->has_soft_cap ? import->soft_cap : (float)name->soft_cap;
    s->threshold = -1; /* BatchTopK as published has none: every latent above zero */
    return status;
}

/* Mean and scale of the data, beside the state dict. */
static int pth_statistics(source *s, const torch_value *root) {
    const torch_value *mean = torch_find(root, "mean_center"), *dict = s->w.dict;
    int status = TOOL_OK;
    s->w.dict = root;
    if (mean != NULL && mean->kind == TORCH_TENSOR && mean->as.tensor->rank > 0) {
        status = read_vector(&s->w, "mean_center", s->d, &s->mean);
    } else if (mean != NULL && mean->kind != TORCH_NONE) {
        double number = 0;
        status = read_one(&s->w, "mean_center", &number);
        if (status == TOOL_OK && number != 0) {
            status = tool_fail(s->w.path, "mean_center is no vector");
        }
    }
    if (status == TOOL_OK && torch_find(root, "scaling_factor") != NULL &&
        torch_find(root, "scaling_factor")->kind != TORCH_NONE) {
        status = read_one(&s->w, "scaling_factor", &s->scale);
        if (status == TOOL_OK && !((float)s->scale > 0 && isfinite((float)s->scale))) {
            status = tool_fail(s->w.path, "scaling_factor is %g, not positive", s->scale);
        }
        s->scaling = s->scale != 1 ? MSAE_SCALING_PAPER : MSAE_SCALING_NONE;
    }
    s->w.dict = dict;
    return status;
}

static int read_pth(source *s) {
    pth_name name;
    const int is_named = read_pth_name(s->w.path, &name);
    int has_decoder, tied, status;
    has_decoder = has_tensor(&s->w, "decoder");
    tied = s->import->tied != 0 ? s->import->tied == 1 : is_named ? name.tied : !has_decoder;
    if (s->import->tied == 0 && is_named && has_decoder == name.tied) {
        return tool_fail(s->w.path, has_decoder ? "its name says tied, but there is a decoder"
                                                : "its name says not tied, but there is no "
                                                  "decoder");
    }
    status = take_matrices(s, "encoder", 0, tied ? NULL : "decoder", 1);
    if (status == TOOL_OK) status = take_biases(s, "pre_bias", "latent_bias");
    if (status == TOOL_OK && is_named && (name.n != s->n || name.d != s->d)) {
        status = tool_fail(s->w.path,
                           "its name says %lu latents of %lu inputs, the encoder has "
                           "%lu of %lu",
                           (unsigned long)name.n, (unsigned long)name.d, (unsigned long)s->n,
                           (unsigned long)s->d);
    }
    if (status == TOOL_OK) status = pth_parameters(s, &name, is_named);
    if (status == TOOL_OK) status = pth_statistics(s, s->w.torch.root);
    if (status == TOOL_OK && s->desc.recipe == MSAE_RECIPE_JUMPRELU) {
        status = read_vector(&s->w, "activation.log_threshold", s->n, &s->theta);
        for (size_t j = 0; status == TOOL_OK && j < s->n; j++) s->theta[j] = expf(s->theta[j]);
        if (status == TOOL_OK) {
            status = check_finite(&s->w, "activation.log_threshold", s->theta, s->n);
        }
    }
    return status;
}

/* ---------------------------------------------------------------------------------------------
   OpenAI's sparse_autoencoder
   ------------------------------------------------------------------------------------------ */

static const char *text_of(const torch_value *value, const char *otherwise) {
    return value == NULL ? otherwise : value->kind == TORCH_TEXT ? value->as.text : "";
}

static int openai_activation(source *s) {
    const char *name = text_of(find_value(&s->w, "activation"), "ReLU");
    const torch_value *state = find_value(&s->w, "activation_state_dict");
    const torch_value *dict = s->w.dict;
    double k = 0;
    int status;
    if (strcmp(name, "ReLU") == 0) {
        s->desc.recipe = MSAE_RECIPE_RELU;
        return TOOL_OK;
    }
    s->desc.recipe = MSAE_RECIPE_TOPK;
    if (strcmp(name, "Identity") == 0) {
        s->desc.activation = MSAE_ACTIVATION_IDENTITY;
        s->desc.k = s->n;
        return TOOL_OK;
    }
    if (strcmp(name, "TopK") != 0) {
        return tool_fail(s->w.path,
                         "the activation '%s' is not supported: ReLU, TopK and Identity "
                         "are",
                         name);
    }
    s->desc.normalize = 1; /* as their code has it: TopK comes with normalized rows */
    name = text_of(torch_find(state, "postact_fn"), "ReLU");
    if (strcmp(name, "Identity") == 0) {
        s->desc.activation = MSAE_ACTIVATION_IDENTITY;
    } else if (strcmp(name, "ReLU") != 0) {
        return tool_fail(s->w.path, "the activation '%s' after TopK is not supported", name);
    }
    s->w.dict = state;
    status = state != NULL ? read_one(&s->w, "k", &k) : TOOL_GO;
    s->w.dict = dict;
    if (status == TOOL_FAILED) return status;
    if (k != floor(k) || k < 0 || k > (double)s->n) {
        return tool_fail(s->w.path, "k is %g, where 1 to %lu is possible", k, (unsigned long)s->n);
    }
    return take_k(s, s->w.path, s->import->k != 0 ? s->import->k : (size_t)k);
}

static int read_openai(source *s) {
    const char *decoder = has_tensor(&s->w, "decoder.weight") ? "decoder.weight" : NULL;
    /* a tied decoder lists the encoder's matrix once more, under decoder.linear.weight */
    const int tied = s->import->tied != 0 ? s->import->tied == 1 : decoder == NULL;
    int status;
    if (!tied && decoder == NULL) return tool_fail(s->w.path, "there is no tensor decoder.weight");
    status = take_matrices(s, "encoder.weight", 1, tied ? NULL : decoder, 0);
    if (status == TOOL_OK) status = take_biases(s, "pre_bias", "latent_bias");
    if (status == TOOL_OK) status = openai_activation(s);
    if (status == TOOL_OK && s->import->normalize != 0) {
        s->desc.normalize = s->import->normalize == 1;
    }
    if (status == TOOL_OK && s->import->has_soft_cap) s->desc.soft_cap = s->import->soft_cap;
    return status;
}

/* ---------------------------------------------------------------------------------------------
   What is there
   ------------------------------------------------------------------------------------------ */

int tool_has_config(const char *path) {
    const char *slash = strrchr(path, '/');
    char *found = NULL;
    const int has =
        set_if_there(&found, path, slash != NULL ? (size_t)(slash - path) + 1 : 0, "cfg.json");
    free(found);
    return has;
}

/* Models in the folders of a folder, by their paths. */
typedef struct models {
    char *paths[64];
    size_t count; /* of all that there are; the first 64 are kept */
} models;

static int is_model(const char *folder) {
    static const char *const names[] = {"sae_weights.safetensors", "sae.safetensors", "ae.pt",
                                        "hyperparams.json"};
    char *found = NULL;
    for (size_t i = 0; i < TOOL_COUNT_OF(names) && found == NULL; i++) {
        set_if_there(&found, folder, strlen(folder), names[i]);
    }
    if (found == NULL && set_if_there(&found, folder, strlen(folder), "config.json")) {
        free(found); /* beside what else bears such a name */
        found = NULL;
        if (!set_if_there(&found, folder, strlen(folder), "weights.pt")) {
            set_if_there(&found, folder, strlen(folder), "sae.pt");
        }
    }
    free(found);
    return found != NULL;
}

static void look_for_models(models *m, const char *folder, int depth) {
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char *path = entry->d_name[0] != '.' ? join(folder, strlen(folder), entry->d_name) : NULL;
        if (path == NULL) continue;
        if (tool_is_folder(path)) {
            if (is_model(path)) {
                if (m->count < sizeof m->paths / sizeof m->paths[0]) {
                    m->paths[m->count++] = path;
                    continue; /* it is kept */
                }
                m->count++;
            } else if (depth > 1) {
                look_for_models(m, path, depth - 1);
            }
        }
        free(path);
    }
    if (directory != NULL) closedir(directory);
}

/* Fails with what there is instead of a model. */
static int fail_folder(const char *folder) {
    enum { SHOWN = 4 };
    models m;
    char text[400];
    size_t used = 0, kept, shown;
    m.count = 0;
    look_for_models(&m, folder, 3);
    if (m.count == 0) return tool_fail(folder, "is a folder with neither cfg.json nor ae.pt");
    kept = m.count < TOOL_COUNT_OF(m.paths) ? m.count : TOOL_COUNT_OF(m.paths);
    qsort(m.paths, kept, sizeof m.paths[0], tool_by_numbers);
    shown = m.count <= SHOWN + 1 ? m.count : SHOWN;
    for (size_t i = 0; i < shown && used < sizeof text; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s",
                                 i == 0             ? ""
                                 : i + 1 == m.count ? " and "
                                                    : ", ",
                                 m.paths[i]);
    }
    if (shown < m.count && used < sizeof text) {
        snprintf(text + used, sizeof text - used, " and %lu more",
                 (unsigned long)(m.count - shown));
    }
    for (size_t i = 0; i < kept; i++) free(m.paths[i]);
    return tool_fail(folder, "no model itself; %s %s", text, m.count > 1 ? "are models" : "is one");
}

/* The files of a folder. cfg.json stands beside either of two kinds of weights; with both there it
   is SAELens' when it says d_sae. */
static int find_in_folder(source *s, const char *folder) {
    const size_t bytes = strlen(folder);
    if (set_if_there(&s->c.path, folder, bytes, "cfg.json")) {
        if (set_if_there(&s->w.path, folder, bytes, "sae.safetensors")) {
            int status = open_config(&s->c);
            if (status != TOOL_OK) return status;
            if (json_find(s->c.json.root, "d_sae") == NULL) return TOOL_OK;
        }
        if (set_if_there(&s->w.path, folder, bytes, "sae_weights.safetensors")) return TOOL_OK;
        if (s->w.path != NULL) return TOOL_OK;
        return tool_fail(folder, "has a cfg.json, but neither sae_weights.safetensors nor "
                                 "sae.safetensors");
    }
    if (set_if_there(&s->w.path, folder, bytes, "ae.pt")) {
        set_if_there(&s->c.path, folder, bytes, "config.json");
        return TOOL_OK;
    }
    if (set_if_there(&s->c.path, folder, bytes, "hyperparams.json")) {
        if (set_if_there(&s->w.path, folder, bytes, "checkpoints/final.safetensors")) {
            return TOOL_OK;
        }
        return tool_fail(folder, "has a hyperparams.json, but no checkpoints/final.safetensors");
    }
    if (set_if_there(&s->c.path, folder, bytes, "config.json") &&
        (set_if_there(&s->w.path, folder, bytes, "weights.pt") ||
         set_if_there(&s->w.path, folder, bytes, "sae.pt"))) {
        return TOOL_OK;
    }
    return fail_folder(folder);
}

static int find_files(source *s, const char *path) {
    if (tool_is_folder(path)) {
        const int status = tool_check_input(path);
        return status == TOOL_OK ? find_in_folder(s, path) : status;
    }
    s->w.path = malloc(strlen(path) + 1);
    if (s->w.path == NULL) return tool_fail_memory();
    strcpy(s->w.path, path);
    return TOOL_OK;
}

/* Whether a file lies in a folder `checkpoints`, or, by a name without one, in the current one. */
static int in_checkpoints(const char *path) {
    static const char name[] = "checkpoints/";
    const char *slash = strrchr(path, '/');
    const size_t bytes = slash != NULL ? (size_t)(slash - path) + 1 : 0;
    const char *start = path + bytes - (sizeof name - 1);
    if (slash == NULL) return 1;
    return bytes >= sizeof name - 1 && memcmp(start, name, sizeof name - 1) == 0 &&
           (start == path || start[-1] == '/');
}

/* The configuration beside a file of weights, unless it is known. */
static int find_config(source *s, const char *name, int is_needed) {
    const char *slash = strrchr(s->w.path, '/');
    const size_t bytes = slash != NULL ? (size_t)(slash - s->w.path) + 1 : 0;
    char up[64];
    if (s->c.json.root != NULL) return TOOL_OK;
    snprintf(up, sizeof up, "../%s", name); /* checkpoints have a folder of their own */
    if (s->c.path == NULL && !set_if_there(&s->c.path, s->w.path, bytes, name) &&
        !(in_checkpoints(s->w.path) && set_if_there(&s->c.path, s->w.path, bytes, up))) {
        return is_needed ? tool_fail(s->w.path,
                                     "there is no %s beside it that says what selects latents: "
                                     "convert it with --recipe",
                                     name)
                         : TOOL_OK;
    }
    return open_config(&s->c);
}

static tool_layout layout_of(const weights *w) {
    if (!w->is_torch) {
        if (msae_safetensors_find(&w->safetensors, "W_enc") != NULL) return TOOL_LAYOUT_SAELENS;
        if (msae_safetensors_find(&w->safetensors, "decoder.weight") != NULL &&
            msae_safetensors_find(&w->safetensors, "encoder.weight") != NULL) {
            return TOOL_LAYOUT_LLAMA;
        }
        if (msae_safetensors_find(&w->safetensors, "encoder.weight") != NULL) {
            return TOOL_LAYOUT_SPARSIFY;
        }
        return TOOL_LAYOUT_MSAE;
    }
    if (find_value(w, "pre_bias") != NULL) {
        return find_value(w, "encoder") != NULL ? TOOL_LAYOUT_PTH : TOOL_LAYOUT_OPENAI;
    }
    return TOOL_LAYOUT_DICTIONARY;
}

/* A torch.save file with SAELens' names says in its configuration whose it is. */
static int settle_layout(source *s, tool_layout *layout) {
    if (*layout != TOOL_LAYOUT_DICTIONARY) return TOOL_OK;
    const int status = find_config(s, "config.json", 0);
    const json_value *root = s->c.json.root;
    if (status != TOOL_OK || root == NULL || !has_tensor(&s->w, "W_enc")) return status;
    if (get(root, "sae_type") != NULL && get(root, "act_size") != NULL) {
        *layout = TOOL_LAYOUT_BATCHTOPK;
    } else if (get(root, "trainer") == NULL &&
               (get(root, "architecture") != NULL || get(root, "activation_fn_str") != NULL)) {
        *layout = TOOL_LAYOUT_PRISMA;
    }
    return TOOL_OK;
}

static int read_source(source *s, tool_layout layout) {
    const int is_needed = s->import->recipe == 0; /* a configuration */
    int status;
    switch (layout) {
    case TOOL_LAYOUT_PRISMA:
        status = read_prisma(s);
        break;
    case TOOL_LAYOUT_BATCHTOPK:
        status = read_batchtopk(s);
        break;
    case TOOL_LAYOUT_LLAMA:
        status = find_config(s, "hyperparams.json", 1);
        if (status == TOOL_OK) status = read_llama_scope(s);
        break;
    case TOOL_LAYOUT_SAELENS:
        status = find_config(s, "cfg.json", is_needed);
        if (status == TOOL_OK) status = read_saelens(s);
        break;
    case TOOL_LAYOUT_SPARSIFY:
        status = find_config(s, "cfg.json", is_needed);
        if (status == TOOL_OK) status = read_sparsify(s);
        break;
    case TOOL_LAYOUT_PTH:
        return read_pth(s);
    case TOOL_LAYOUT_OPENAI:
        status = read_openai(s);
        break;
    default:
        status = find_config(s, "config.json", 0);
        if (status == TOOL_OK) status = read_dictionary(s);
        break;
    }
    if (status == TOOL_OK) status = take_recipe(s);
    if (status == TOOL_OK && layout == TOOL_LAYOUT_DICTIONARY) status = dictionary_factor(s);
    return status;
}

int tool_import_model(msae_model *model, const char *path, const msae_load_desc *desc,
                      const tool_import *import, tool_layout *layout) {
    static const tool_import as_it_says;
    source s;
    tool_layout is = TOOL_LAYOUT_MSAE;
    int status;
    memset(model, 0, sizeof *model);
    memset(&s, 0, sizeof s);
    s.import = import != NULL ? import : &as_it_says;
    s.scale = 1;
    status = find_files(&s, path);
    if (status == TOOL_OK) status = open_weights(&s.w);
    if (status == TOOL_OK) {
        is = layout_of(&s.w);
        if (is == TOOL_LAYOUT_MSAE) {
            msae_error error;
            if (msae_load(model, s.w.reader, desc, &error) != MSAE_OK) {
                status = tool_fail_content(s.w.path, TOOL_MODEL, &error);
            }
        } else {
            status = settle_layout(&s, &is);
            if (status == TOOL_OK) status = read_source(&s, is);
            if (status == TOOL_OK) status = make_model(&s, desc, model);
        }
    }
    close_source(&s);
    if (status != TOOL_OK) msae_model_free(model);
    if (layout != NULL) *layout = is;
    return status;
}

int tool_load_model(msae_model *model, const char *path, const msae_load_desc *desc) {
    return tool_import_model(model, path, desc, NULL, NULL);
}
