/* A model of ours as the published code saves one: a .pth whose name says the hyper-parameters. */
#include "tool.h"

#include "torch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 160 };

/* A float as Python's str has it. */
static void put_float(char *text, size_t room, float value) {
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, room, "%.*g", digits, (double)value);
        if ((float)strtod(text, NULL) == value) break;
    }
    if (strpbrk(text, ".e") == NULL) snprintf(text + strlen(text), room - strlen(text), ".0");
}

/* N_D_TopKReLU_64_UW_False_False_0.0, which what the data was may follow. */
static void put_name(const msae_model *model, const tool_target *target, char name[NAME_BYTES]) {
    const int nested = tool_is_nested(target->recipe);
    const char *activation = model->activation == MSAE_ACTIVATION_IDENTITY ? "TopK"
                             : model->activation == MSAE_ACTIVATION_ABS    ? "TopKabs"
                                                                           : "TopKReLU";
    char cap[32];
    put_float(cap, sizeof cap, model->soft_cap);
    snprintf(name, NAME_BYTES, "%lu_%lu_%s_%lu%s_%s_%s_%s", (unsigned long)model->n_latents,
             (unsigned long)model->n_inputs,
             target->recipe == MSAE_RECIPE_RELU ? "ReLU" : activation,
             target->recipe == MSAE_RECIPE_RELU ? 0
             : nested                           ? (unsigned long)model->nesting[0]
                                                : (unsigned long)target->k,
             !nested                                 ? ""
             : target->recipe == MSAE_RECIPE_MSAE_RW ? "_RW"
                                                     : "_UW",
             model->tied ? "True" : "False", model->normalize ? "True" : "False", cap);
}

int tool_plan_published(const msae_model *model, const char *path, size_t k, tool_target *target) {
    const msae_recipe recipe = model->recipe;
    if (recipe == MSAE_RECIPE_JUMPRELU) {
        return tool_fail(path, "is a jumprelu, which the published load_model cannot load");
    }
    if (k == 0 && (recipe == MSAE_RECIPE_BATCHTOPK || recipe == MSAE_RECIPE_MSAE_WIDTH)) {
        return tool_fail(path,
                         "is a %s, whose threshold msae-pth has no place for (--k makes it a "
                         "TopK)",
                         msae_enum_name(MSAE_ENUM_RECIPE, (int)recipe));
    }
    target->layout = TOOL_LAYOUT_PTH;
    target->recipe = k != 0 ? MSAE_RECIPE_TOPK : recipe;
    target->k = k != 0 ? k : model->k;
    return TOOL_OK;
}

/* Levels that are not those which the first one stands for: twice as many up to all. */
static int has_other_levels(const msae_model *model) {
    size_t k = model->nesting[0];
    for (size_t i = 0; i < model->n_levels; i++) {
        if (model->nesting[i] != (k < model->n_latents ? k : model->n_latents)) return 1;
        k *= 2;
    }
    return model->nesting[model->n_levels - 1] != model->n_latents;
}

/* The numbers as files have them. */
static void put_floats(unsigned char *out, const float *values, size_t count) {
    for (size_t i = 0; i < count; i++) bytes_put(out + 4 * i, 4, bytes_of_float(values[i]));
}

static msae_tensor tensor_of(const char *name, msae_dtype dtype, size_t rows, size_t cols,
                             const void *data) {
    msae_tensor tensor;
    memset(&tensor, 0, sizeof tensor);
    tensor.name = name;
    tensor.name_bytes = strlen(name);
    tensor.dtype = dtype;
    tensor.rank = cols > 0 ? 2 : 1;
    tensor.shape[0] = rows;
    tensor.shape[1] = cols;
    tensor.data = data;
    tensor.bytes = rows * (cols > 0 ? cols : 1) * msae_dtype_bytes(dtype);
    return tensor;
}

/* In the order of the published state dict, in one block of memory. */
static int write_model(const msae_model *model, const char *path) {
    const size_t n = model->n_latents, d = model->n_inputs, floats = 2 * n * d + 2 * d + n;
    unsigned char *memory = tool_alloc(floats * 4 + 8 * n, 1), *at = memory;
    float *turned = tool_alloc(n * d, sizeof *turned);
    msae_tensor items[6];
    const torch_number numbers[2] = {
        {"scaling_factor", (double)model->scale},
        {"target_norm", model->history.scaling == MSAE_SCALING_PAPER ? sqrt((double)d) : 0}};
    torch_content content = {items, 0, "model", 0, numbers, 2};
    int status = memory != NULL && turned != NULL ? TOOL_OK : tool_fail_memory();
    if (status == TOOL_OK) {
        for (size_t j = 0; j < n; j++) {
            for (size_t i = 0; i < d; i++) turned[i * n + j] = model->encoder[j * d + i];
        }
        const struct {
            const char *name;
            const float *values;
            size_t rows, cols;
        } parts[] = {{"pre_bias", model->pre_bias, d, 0},
                     {"encoder", turned, d, n},
                     {"latent_bias", model->latent_bias, n, 0},
                     {"decoder", model->decoder, n, d},
                     {"mean_center", model->mean, d, 0}};
        for (size_t p = 0; p < TOOL_COUNT_OF(parts); p++) {
            const size_t count = parts[p].rows * (parts[p].cols > 0 ? parts[p].cols : 1);
            if (p == 3 && model->tied) continue;
            if (p == 4) { /* behind the state dict, which ends with how often latents were active */
                items[content.n_tensors++] =
                    tensor_of("latents_activation_frequency", MSAE_I64, n, 0, memory + 4 * floats);
                content.n_inside = content.n_tensors;
            }
            put_floats(at, parts[p].values, count);
            items[content.n_tensors++] =
                tensor_of(parts[p].name, MSAE_F32, parts[p].rows, parts[p].cols, at);
            at += 4 * count;
        }
        status = tool_write_torch(path, "archive", &content);
    }
    free(memory);
    free(turned);
    return status;
}

int tool_write_published(const msae_model *model, const char *path, const tool_target *target) {
    const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    char name[NAME_BYTES];
    put_name(model, target, name);
    const size_t bytes = strlen(name);
    if (strncmp(base, name, bytes) != 0 || (base[bytes] != '_' && base[bytes] != '.')) {
        return tool_fail(
            path, "its name says the hyper-parameters to who loads it: call it %s_DATA.pth", name);
    }
    if (tool_is_nested(target->recipe) && has_other_levels(model)) {
        tool_note(path, "the levels are not kept: read again they are %lu, %lu ..",
                  (unsigned long)model->nesting[0], 2 * (unsigned long)model->nesting[0]);
    }
    return write_model(model, path);
}
