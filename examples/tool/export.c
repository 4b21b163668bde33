/* Models of ours in other projects' layouts: what can be said there, folding, and the files. */
#include "tool.h"

#include "torch.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------------------
   What can be said
   ------------------------------------------------------------------------------------------ */

/* Folding multiplies latents by a number, and a TopK of other layouts has a ReLU behind it. */
static int check_exact(const msae_model *model, const char *path, const char *layout) {
    if (model->soft_cap > 0) {
        return tool_fail(path, "has a soft cap, which %s has no place for (latents pass a tanh)",
                         layout);
    }
    if (model->normalize) {
        return tool_fail(path, "normalizes each row after the mean is off it, which %s cannot say",
                         layout);
    }
    if (model->activation == MSAE_ACTIVATION_ABS) {
        return tool_fail(path, "selects latents by their magnitude (abs), which %s cannot say",
                         layout);
    }
    if (model->activation == MSAE_ACTIVATION_IDENTITY) {
        return tool_fail(path, "has negative latents (identity), which %s cuts off", layout);
    }
    return TOOL_OK;
}

int tool_plan_export(const msae_model *model, const char *path, tool_layout layout, size_t k,
                     tool_target *target) {
    if (layout == TOOL_LAYOUT_PTH) return tool_plan_published(model, path, k, target);
    const char *name = tool_layout_name(layout);
    const int nested = tool_is_nested(model->recipe);
    const size_t largest = nested || model->k == 0 ? model->nesting[model->n_levels - 1] : model->k;
    int status = layout != TOOL_LAYOUT_MSAE ? check_exact(model, path, name) : TOOL_OK;
    if (status != TOOL_OK) return status;
    target->layout = layout;
    target->recipe = model->recipe;
    if (layout != TOOL_LAYOUT_MSAE && model->recipe == MSAE_RECIPE_MSAE_WIDTH) {
        target->recipe =
            MSAE_RECIPE_BATCHTOPK; /* widths are of training: they are not known there */
    }
    target->k = k != 0 ? k : layout == TOOL_LAYOUT_MSAE ? model->k : largest;
    if (k > model->n_latents) {
        return tool_fail("--k", "%lu is more than the %lu latents", (unsigned long)k,
                         (unsigned long)model->n_latents);
    }
    if (k != 0 && model->recipe == MSAE_RECIPE_JUMPRELU) {
        return tool_fail("--k", "%s has a threshold for each latent, which a TopK cannot keep",
                         path);
    }
    if (layout == TOOL_LAYOUT_MSAE && nested) return TOOL_OK; /* keeps its levels */
    if (k != 0) {
        target->recipe = MSAE_RECIPE_TOPK;
    } else if (layout != TOOL_LAYOUT_MSAE && target->recipe != MSAE_RECIPE_JUMPRELU &&
               target->recipe != MSAE_RECIPE_BATCHTOPK) {
        /* nested levels are not known there: the largest, which with all latents is a ReLU */
        target->recipe = model->recipe != MSAE_RECIPE_TOPK && largest == model->n_latents
                             ? MSAE_RECIPE_RELU
                             : MSAE_RECIPE_TOPK;
    }
    if (layout == TOOL_LAYOUT_SPARSIFY &&
        (target->recipe == MSAE_RECIPE_JUMPRELU || target->recipe == MSAE_RECIPE_BATCHTOPK)) {
        return tool_fail(path, "is a %s, whose %s sparsify has no place for%s",
                         msae_enum_name(MSAE_ENUM_RECIPE, (int)model->recipe),
                         model->recipe == MSAE_RECIPE_JUMPRELU ? "thresholds" : "threshold",
                         target->recipe == MSAE_RECIPE_BATCHTOPK ? " (--k makes it a TopK)" : "");
    }
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   Folding
   ------------------------------------------------------------------------------------------ */

/* A model's arrays as the layout wants them. */
typedef struct folded {
    const msae_model *model;
    const tool_target *target;
    const char *folder;
    float *b_dec, *b_enc, *theta; /* [d], [n], [n] or NULL */
    float threshold;
    float *unit[2];   /* encoder and decoder with unit rows of the decoder, or NULL */
    float *turned;    /* the matrix that is kept the other way round: [d, n] */
    float *copies[2]; /* where this machine's numbers are not little-endian */
} folded;

static void release(folded *f) {
    free(f->b_dec);
    free(f->b_enc);
    free(f->theta);
    for (int m = 0; m < 2; m++) free(f->unit[m]);
    free(f->turned);
    free(f->copies[0]);
    free(f->copies[1]);
}

/* The values as files have them, in place. */
static void to_file_order(float *values, size_t count) {
    for (size_t i = 0; values != NULL && i < count; i++) {
        unsigned char bytes[4];
        bytes_put(bytes, 4, bytes_of_float(values[i]));
        memcpy(&values[i], bytes, 4);
    }
}

static int is_file_order(void) {
    float one = 1;
    to_file_order(&one, 1);
    return one == 1;
}

static int check_range(const folded *f, const float *values, size_t count) {
    for (size_t i = 0; values != NULL && i < count; i++) {
        if (!isfinite(values[i])) {
            return tool_fail(f->folder,
                             "a folded weight, bias or threshold is too large for float32");
        }
    }
    return TOOL_OK;
}

/* b_dec = mean + pre_bias / s, b_enc = latent_bias / s; thresholds / s. */
static int fold(folded *f) {
    const msae_model *model = f->model;
    const size_t n = model->n_latents, d = model->n_inputs;
    const double scale = (double)model->scale;
    const int has_theta =
        f->target->recipe == MSAE_RECIPE_JUMPRELU ||
        (f->target->recipe == MSAE_RECIPE_BATCHTOPK && f->target->layout == TOOL_LAYOUT_SAELENS);
    const int is_unshifted = f->target->layout == TOOL_LAYOUT_DICTIONARY && has_theta;
    int status;
    f->b_dec = tool_alloc(d, sizeof *f->b_dec);
    f->b_enc = tool_alloc(n, sizeof *f->b_enc);
    if (has_theta) f->theta = tool_alloc(n, sizeof *f->theta);
    if (f->b_dec == NULL || f->b_enc == NULL || (has_theta && f->theta == NULL)) {
        return tool_fail_memory();
    }
    for (size_t i = 0; i < d; i++) {
        f->b_dec[i] = (float)((double)model->mean[i] + (double)model->pre_bias[i] / scale);
    }
    for (size_t j = 0; j < n; j++) {
        double bias = (double)model->latent_bias[j] / scale;
        /* an encoder that sees x instead of x - b_dec */
        for (size_t i = 0; is_unshifted && i < d; i++) {
            bias -= (double)f->b_dec[i] * (double)model->encoder[j * d + i];
        }
        f->b_enc[j] = (float)bias;
        if (!has_theta) continue;
        f->theta[j] = (float)((f->target->recipe == MSAE_RECIPE_JUMPRELU
                                   ? exp((double)model->log_threshold[j])
                                   : fmax((double)model->threshold, 0)) /
                              scale);
    }
    /* below zero it is one that was never trained, and stays so */
    f->threshold =
        model->threshold > 0 ? (float)((double)model->threshold / scale) : model->threshold;
    status = check_range(f, f->b_dec, d);
    if (status == TOOL_OK) status = check_range(f, f->b_enc, n);
    if (status == TOOL_OK) status = check_range(f, f->theta, has_theta ? n : 0);
    if (status == TOOL_OK) status = check_range(f, &f->threshold, 1);
    return status;
}

/* Decoder rows of unit norm to float precision, which dictionary_learning's loader of an
   AutoEncoder insists on, with their norms in the encoder and its biases: latents come out times
   the norm. */
static int make_unit(folded *f) {
    const size_t n = f->model->n_latents, d = f->model->n_inputs;
    for (int m = 0; m < 2; m++) {
        f->unit[m] = tool_alloc(n * d, sizeof(float));
        if (f->unit[m] == NULL) return tool_fail_memory();
    }
    for (size_t j = 0; j < n; j++) {
        const float *encoder = f->model->encoder + j * d, *decoder = f->model->decoder + j * d;
        const double norm = tool_norm(decoder, d);
        if (!(norm > 0)) {
            return tool_fail(f->folder,
                             "row %lu of the decoder is zero, and %s divides by its norm",
                             (unsigned long)j, tool_layout_name(f->target->layout));
        }
        for (size_t i = 0; i < d; i++) {
            f->unit[0][j * d + i] = (float)((double)encoder[i] * norm);
            f->unit[1][j * d + i] = (float)((double)decoder[i] / norm);
        }
        f->b_enc[j] = (float)((double)f->b_enc[j] * norm);
    }
    if (check_range(f, f->unit[0], n * d) != TOOL_OK) return TOOL_FAILED;
    return check_range(f, f->b_enc, n);
}

/* The matrices [n, d] as numbers of this machine. */
static const float *matrix_of(const folded *f, int is_decoder) {
    if (f->unit[is_decoder] != NULL) return f->unit[is_decoder];
    return is_decoder ? f->model->decoder : f->model->encoder;
}

/* The numbers as files have them. */
static int to_little(folded *f) {
    const size_t n = f->model->n_latents, d = f->model->n_inputs;
    if (is_file_order()) return TOOL_OK;
    to_file_order(f->b_dec, d);
    to_file_order(f->b_enc, n);
    to_file_order(f->theta, n);
    to_file_order(f->turned, n * d);
    to_file_order(&f->threshold, 1);
    for (int m = 0; m < 2; m++) {
        f->copies[m] = tool_alloc(n * d, sizeof(float));
        if (f->copies[m] == NULL) return tool_fail_memory();
        memcpy(f->copies[m], matrix_of(f, m), n * d * sizeof(float));
        to_file_order(f->copies[m], n * d);
    }
    return TOOL_OK;
}

static int turn(folded *f, const float *matrix) {
    const size_t n = f->model->n_latents, d = f->model->n_inputs;
    f->turned = tool_alloc(n * d, sizeof *f->turned);
    if (f->turned == NULL) return tool_fail_memory();
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < d; i++) f->turned[i * n + j] = matrix[j * d + i];
    }
    return TOOL_OK;
}

/* ---------------------------------------------------------------------------------------------
   Tensors
   ------------------------------------------------------------------------------------------ */

enum { MAX_TENSORS = 8 };

typedef struct tensors {
    msae_tensor items[MAX_TENSORS];
    size_t count;
    unsigned char k[4];
} tensors;

static msae_tensor *put_tensor(tensors *t, const char *name, size_t rank, size_t rows, size_t cols,
                               const void *data) {
    msae_tensor *tensor = &t->items[t->count++];
    memset(tensor, 0, sizeof *tensor);
    tensor->name = name;
    tensor->name_bytes = strlen(name);
    tensor->dtype = MSAE_F32;
    tensor->rank = rank;
    tensor->shape[0] = rows;
    tensor->shape[1] = cols;
    tensor->data = data;
    tensor->bytes = (rank > 0 ? rows : 1) * (rank > 1 ? cols : 1) * sizeof(float);
    return tensor;
}

/* The matrices [n, d], where f has nothing turned. */
static const float *encoder_of(const folded *f) {
    return f->copies[0] != NULL ? f->copies[0] : matrix_of(f, 0);
}

static const float *decoder_of(const folded *f) {
    return f->copies[1] != NULL ? f->copies[1] : matrix_of(f, 1);
}

static void saelens_tensors(const folded *f, tensors *t) {
    const size_t n = f->model->n_latents, d = f->model->n_inputs;
    put_tensor(t, "W_enc", 2, d, n, f->turned);
    put_tensor(t, "W_dec", 2, n, d, decoder_of(f));
    put_tensor(t, "b_dec", 1, d, 0, f->b_dec);
    put_tensor(t, "b_enc", 1, n, 0, f->b_enc);
    if (f->theta != NULL) put_tensor(t, "threshold", 1, n, 0, f->theta);
}

static void sparsify_tensors(const folded *f, tensors *t) {
    const size_t n = f->model->n_latents, d = f->model->n_inputs;
    put_tensor(t, "W_dec", 2, n, d, decoder_of(f));
    put_tensor(t, "b_dec", 1, d, 0, f->b_dec);
    put_tensor(t, "encoder.bias", 1, n, 0, f->b_enc);
    put_tensor(t, "encoder.weight", 2, n, d, encoder_of(f));
}

static void dictionary_tensors(const folded *f, tensors *t) {
    static const unsigned char never[4] = {0, 0, 0x80, 0xbf}; /* -1 */
    const size_t n = f->model->n_latents, d = f->model->n_inputs;
    if (f->target->recipe == MSAE_RECIPE_JUMPRELU) {
        put_tensor(t, "W_enc", 2, d, n, f->turned);
        put_tensor(t, "b_enc", 1, n, 0, f->b_enc);
        put_tensor(t, "W_dec", 2, n, d, decoder_of(f));
        put_tensor(t, "b_dec", 1, d, 0, f->b_dec);
        put_tensor(t, "threshold", 1, n, 0, f->theta);
        return;
    }
    if (f->target->recipe == MSAE_RECIPE_RELU) {
        put_tensor(t, "bias", 1, d, 0, f->b_dec);
    } else {
        bytes_put(t->k, sizeof t->k, f->target->k);
        put_tensor(t, "b_dec", 1, d, 0, f->b_dec);
        put_tensor(t, "k", 0, 0, 0, t->k)->dtype = MSAE_I32;
        put_tensor(t, "threshold", 0, 0, 0,
                   f->target->recipe == MSAE_RECIPE_BATCHTOPK ? (const void *)&f->threshold
                                                              : never);
    }
    put_tensor(t, "encoder.weight", 2, n, d, encoder_of(f));
    put_tensor(t, "encoder.bias", 1, n, 0, f->b_enc);
    put_tensor(t, "decoder.weight", 2, d, n, f->turned);
}

/* ---------------------------------------------------------------------------------------------
   Configurations
   ------------------------------------------------------------------------------------------ */

static void saelens_config(const folded *f, tool_json *json) {
    const int is_topk = f->target->recipe == MSAE_RECIPE_TOPK;
    tool_json_text(json, "architecture",
                   is_topk                                 ? "topk"
                   : f->target->recipe == MSAE_RECIPE_RELU ? "standard"
                                                           : "jumprelu");
    tool_json_count(json, "d_in", f->model->n_inputs);
    tool_json_count(json, "d_sae", f->model->n_latents);
    tool_json_text(json, "dtype", "float32");
    tool_json_text(json, "device", "cpu");
    tool_json_bool(json, "apply_b_dec_to_input", 1);
    tool_json_text(json, "normalize_activations", "none");
    tool_json_text(json, "reshape_activations", "none");
    if (is_topk) tool_json_count(json, "k", f->target->k);
    if (is_topk) tool_json_bool(json, "rescale_acts_by_decoder_norm", 0);
    tool_json_begin(json, "metadata", '{');
    tool_json_text(json, "sae_lens_version", "6.0.0"); /* the layout's: older is read otherwise */
    tool_json_text(json, "converted_by", "msae " MSAE_VERSION);
    tool_json_end(json, '}');
}

static void sparsify_config(const folded *f, tool_json *json) {
    const size_t n = f->model->n_latents, d = f->model->n_inputs;
    const size_t k = f->target->recipe == MSAE_RECIPE_RELU ? n : f->target->k;
    tool_json_text(json, "activation", "topk");
    tool_json_count(json, "expansion_factor", n >= d ? n / d : 1);
    tool_json_bool(json, "normalize_decoder", 1);
    tool_json_count(json, "num_latents", n);
    tool_json_count(json, "k", k); /* all of them: a ReLU */
    tool_json_bool(json, "multi_topk", 0);
    tool_json_bool(json, "skip_connection", 0);
    tool_json_bool(json, "transcode", 0);
    tool_json_count(json, "d_in", d);
}

static void dictionary_config(const folded *f, tool_json *json) {
    static const struct {
        msae_recipe recipe;
        const char *trainer_class, *dict_class;
    } classes[] = {{MSAE_RECIPE_RELU, "StandardTrainer", "AutoEncoder"},
                   {MSAE_RECIPE_TOPK, "TopKTrainer", "AutoEncoderTopK"},
                   {MSAE_RECIPE_BATCHTOPK, "BatchTopKTrainer", "BatchTopKSAE"},
                   {MSAE_RECIPE_JUMPRELU, "JumpReluTrainer", "JumpReluAutoEncoder"}};
    tool_json_begin(json, "trainer", '{');
    for (size_t i = 0; i < TOOL_COUNT_OF(classes); i++) {
        if (classes[i].recipe != f->target->recipe) continue;
        tool_json_text(json, "trainer_class", classes[i].trainer_class);
        tool_json_text(json, "dict_class", classes[i].dict_class);
    }
    tool_json_count(json, "activation_dim", f->model->n_inputs);
    tool_json_count(json, "dict_size", f->model->n_latents);
    if (f->target->recipe == MSAE_RECIPE_TOPK || f->target->recipe == MSAE_RECIPE_BATCHTOPK) {
        tool_json_count(json, "k", f->target->k);
    }
    tool_json_end(json, '}');
    tool_json_null(json, "buffer");
}

/* ---------------------------------------------------------------------------------------------
   Files
   ------------------------------------------------------------------------------------------ */

static char *path_in(const char *folder, const char *name) {
    const size_t bytes = strlen(folder) + strlen(name) + 2;
    char *path = malloc(bytes);
    if (path != NULL) snprintf(path, bytes, "%s/%s", folder, name);
    return path;
}

static int write_file(void *user, const void *bytes, size_t size) {
    return fwrite(bytes, 1, size, user) == size;
}

int tool_write_torch(const char *path, const char *folder, const torch_content *content) {
    tool_output output;
    msae_writer writer;
    msae_error error;
    int status = tool_output_open(&output, path);
    if (status != TOOL_OK) return status;
    memset(&writer, 0, sizeof writer);
    writer.write = write_file;
    writer.user = output.file;
    errno = 0;
    if (torch_write(&writer, folder, content, NULL, &error) != MSAE_OK) {
        status = errno != 0 ? tool_fail_errno(path, errno) : tool_fail_error(path, &error);
        tool_output_drop(&output);
        return status;
    }
    return tool_output_close(&output);
}

static int write_torch(const char *path, const tensors *t) {
    const torch_content content = {t->items, t->count, NULL, 0, NULL, 0};
    return tool_write_torch(path, "ae", &content);
}

static int write_safetensors(const char *path, const tensors *t) {
    static const msae_metadata format = {"format", "pt", 6, 2};
    msae_error error;
    msae_writer writer = msae_to_file(path);
    if (msae_safetensors_write(&writer, t->items, t->count, &format, 1, &error) != MSAE_OK) {
        return tool_fail_error(path, &error);
    }
    return TOOL_OK;
}

/* The configuration is written under its temporary name first and put in place last: what can fail
   does so before the weights are there. */
static int write_files(const folded *f, const char *weights_path, const char *config_path) {
    const tool_layout layout = f->target->layout;
    tool_output output;
    tool_json json = {NULL, 0, 0};
    tensors t;
    int status = tool_output_open(&output, config_path);
    if (status != TOOL_OK) return status;
    json.file = output.file;
    t.count = 0;
    tool_json_begin(&json, NULL, '{');
    if (layout == TOOL_LAYOUT_SAELENS) {
        saelens_config(f, &json);
        saelens_tensors(f, &t);
    } else if (layout == TOOL_LAYOUT_SPARSIFY) {
        sparsify_config(f, &json);
        sparsify_tensors(f, &t);
    } else {
        dictionary_config(f, &json);
        dictionary_tensors(f, &t);
    }
    tool_json_end(&json, '}');
    if (ferror(output.file)) {
        status = tool_fail(config_path, "writing failed");
    } else {
        status = layout == TOOL_LAYOUT_DICTIONARY ? write_torch(weights_path, &t)
                                                  : write_safetensors(weights_path, &t);
    }
    if (status == TOOL_OK) return tool_output_close(&output);
    tool_output_drop(&output);
    return status;
}

/* Weights and configuration. */
static const char *const names[][2] = {
    [TOOL_LAYOUT_SAELENS] = {"sae_weights.safetensors", "cfg.json"},
    [TOOL_LAYOUT_SPARSIFY] = {"sae.safetensors", "cfg.json"},
    [TOOL_LAYOUT_DICTIONARY] = {"ae.pt", "config.json"},
};

int tool_check_export(const char *option, const char *path, tool_layout layout) {
    if (layout == TOOL_LAYOUT_MSAE) return tool_check_output(option, path, TOOL_WRITES_MODEL);
    if (layout == TOOL_LAYOUT_PTH) return tool_check_output(option, path, TOOL_WRITES_PTH);
    int status = tool_is_folder(path) ? TOOL_OK : tool_check_ending(path, TOOL_WRITES_FOLDER);
    if (status == TOOL_OK) status = tool_add_output(option, path);
    for (size_t i = 0; i < 2 && status == TOOL_OK; i++) {
        char *file = path_in(path, names[layout][i]);
        status = file != NULL ? tool_add_output(option, file) : tool_fail_memory();
        free(file);
    }
    return status;
}

/* A folder with files of two layouts is no model, or another one than was written. */
static int check_other_layouts(const folded *f) {
    for (int layout = TOOL_LAYOUT_SAELENS; layout <= TOOL_LAYOUT_DICTIONARY; layout++) {
        struct stat info;
        char *path = path_in(f->folder, names[layout][0]);
        const int is_there = path != NULL && stat(path, &info) == 0;
        if (path == NULL) return tool_fail_memory();
        free(path);
        if (layout == (int)f->target->layout || !is_there) continue;
        return tool_fail(f->folder, "holds %s, a model in the layout of %s: take another folder",
                         names[layout][0], tool_layout_name((tool_layout)layout));
    }
    return TOOL_OK;
}

static int write_folder(const folded *f) {
    char *weights_path = path_in(f->folder, names[f->target->layout][0]);
    char *config_path = path_in(f->folder, names[f->target->layout][1]);
    const int is_new = mkdir(f->folder, 0777) == 0;
    int status = TOOL_OK;
    struct stat info;
    if (weights_path == NULL || config_path == NULL) {
        status = tool_fail_memory();
    } else if (!is_new && stat(f->folder, &info) != 0) {
        status = tool_fail_errno(f->folder, errno);
    } else if (!is_new && !S_ISDIR(info.st_mode)) {
        status =
            tool_fail(f->folder, "is a file; %s is a folder", tool_layout_name(f->target->layout));
    } else if ((status = check_other_layouts(f)) == TOOL_OK) {
        status = write_files(f, weights_path, config_path);
        if (status != TOOL_OK && is_new) remove(weights_path);
    }
    if (status != TOOL_OK && is_new) rmdir(f->folder);
    free(weights_path);
    free(config_path);
    return status;
}

/* As the target's weights say. */
static msae_status save(const msae_model *model, const char *path, const tool_target *target,
                        msae_error *error) {
    msae_model compact;
    msae_status status;
    if (!target->has_weights) return msae_save_file(model, path, error);
    status = msae_compact(model, target->weights, NULL, &compact, error);
    if (status != MSAE_OK) return status;
    status = msae_save_file(&compact, path, error);
    msae_model_free(&compact);
    return status;
}

/* A model of ours, as it is or as a TopK. */
static int write_msae(const msae_model *model, const char *path, const tool_target *target) {
    const size_t n = model->n_latents, d = model->n_inputs;
    msae_model_desc desc = {0};
    msae_model copy;
    msae_error error;
    msae_status status;
    if (target->recipe == model->recipe &&
        (target->recipe != MSAE_RECIPE_TOPK || target->k == model->k)) {
        msae_model kept = *model; /* shares the arrays */
        kept.k = target->k;
        status = save(&kept, path, target, &error);
        return status == MSAE_OK ? TOOL_OK : tool_fail_error(path, &error);
    }
    desc.n_inputs = d;
    desc.n_latents = n;
    desc.recipe = target->recipe;
    desc.k = target->k;
    desc.activation = model->activation;
    desc.tied = model->tied;
    desc.normalize = model->normalize;
    desc.soft_cap = model->soft_cap;
    status = msae_model_init(&copy, &desc, &error);
    if (status == MSAE_OK) {
        memcpy(copy.encoder, model->encoder, n * d * sizeof(float));
        if (!model->tied) memcpy(copy.decoder, model->decoder, n * d * sizeof(float));
        memcpy(copy.pre_bias, model->pre_bias, d * sizeof(float));
        memcpy(copy.latent_bias, model->latent_bias, n * sizeof(float));
        memcpy(copy.mean, model->mean, d * sizeof(float));
        copy.scale = model->scale;
        copy.history = model->history;
        status = save(&copy, path, target, &error);
    }
    msae_model_free(&copy);
    return status == MSAE_OK ? TOOL_OK : tool_fail_error(path, &error);
}

int tool_export_model(const msae_model *model, const char *path, const tool_target *target) {
    folded f;
    int status;
    if (target->layout == TOOL_LAYOUT_MSAE) return write_msae(model, path, target);
    if (target->layout == TOOL_LAYOUT_PTH) return tool_write_published(model, path, target);
    memset(&f, 0, sizeof f);
    f.model = model;
    f.target = target;
    f.folder = path;
    status = fold(&f);
    if (status == TOOL_OK && target->layout == TOOL_LAYOUT_DICTIONARY &&
        target->recipe == MSAE_RECIPE_RELU) {
        status = make_unit(&f);
    }
    if (status == TOOL_OK && target->layout != TOOL_LAYOUT_SPARSIFY) {
        const int is_encoder =
            target->layout == TOOL_LAYOUT_SAELENS || target->recipe == MSAE_RECIPE_JUMPRELU;
        status = turn(&f, matrix_of(&f, !is_encoder));
    }
    if (status == TOOL_OK) status = to_little(&f);
    if (status == TOOL_OK) status = write_folder(&f);
    release(&f);
    return status;
}
