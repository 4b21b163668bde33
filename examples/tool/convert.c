/* msae convert: a model from one layout into another. */
#include "tool.h"

#include <string.h>

typedef struct convert_job {
    tool_common common;
    const char *input, *output;
    int to; /* place among the choices, which are in the order of tool_layout */
    size_t k;
    tool_import import;
    int weights; /* place among the choices */
    const char *calibration;
} convert_job;

static void print_result(const convert_job *job, const msae_model *model, tool_layout from,
                         const tool_target *target) {
    const int has_k = target->recipe != MSAE_RECIPE_RELU && target->recipe != MSAE_RECIPE_JUMPRELU;
    if (job->common.json) {
        tool_json json = tool_json_line("done");
        tool_json_text(&json, "input", job->input);
        tool_json_text(&json, "from", tool_layout_name(from));
        tool_json_text(&json, "output", job->output);
        tool_json_text(&json, "to", tool_layout_name(target->layout));
        tool_json_text(&json, "recipe", msae_enum_name(MSAE_ENUM_RECIPE, (int)target->recipe));
        tool_json_count(&json, "n_inputs", model->n_inputs);
        tool_json_count(&json, "n_latents", model->n_latents);
        if (has_k) tool_json_count(&json, "k", target->k);
        if (target->has_weights) {
            tool_json_text(&json, "weights", msae_enum_name(MSAE_ENUM_DTYPE, (int)target->weights));
        }
        if (job->calibration != NULL) tool_json_skipped(&json);
        tool_json_warnings(&json);
        tool_json_end(&json, '}');
        return;
    }
    printf("%s (%s) -> %s (%s): %s, %zu inputs, %zu latents", job->input, tool_layout_name(from),
           job->output, tool_layout_name(target->layout),
           msae_enum_name(MSAE_ENUM_RECIPE, (int)target->recipe), model->n_inputs,
           model->n_latents);
    if (has_k) printf(", k = %zu", target->k);
    if (target->has_weights) printf(", %s", msae_enum_name(MSAE_ENUM_DTYPE, (int)target->weights));
    putchar('\n');
}

/* Levels are not known in other layouts. */
static void hint_at_k(const convert_job *job, const msae_model *model, const tool_target *target) {
    if (target->layout == TOOL_LAYOUT_MSAE || target->layout == TOOL_LAYOUT_PTH ||
        !tool_is_nested(model->recipe) || job->k > 0) {
        return;
    }
    if (target->recipe == MSAE_RECIPE_RELU) {
        tool_warn(job->output,
                  "is a dense ReLU, which keeps all active latents of a row, often hundreds; "
                  "--k %zu makes a TopK that keeps what the model does",
                  model->k);
    } else if (target->k != model->k) {
        tool_warn(
            job->output,
            "is a TopK of the largest level, %zu; --k %zu makes one that keeps what the model "
            "does",
            target->k, model->k);
    }
}

/* Thresholds of the levels, from data. */
static int calibrate(const convert_job *job, msae_model *model) {
    msae_data data;
    msae_error error;
    int status;
    if (job->calibration == NULL) return TOOL_OK;
    status = tool_load_data(&data, job->calibration, job->common.tensor, model->n_inputs,
                            job->common.skip_bad);
    if (status != TOOL_OK) return status;
    const msae_source source = msae_source_data(&data);
    status = tool_warn_of_kind(model, &source, job->calibration,
                               "thresholds from them are wrong for other rows");
    if (status == TOOL_OK && msae_calibrate(model, &data, &error) != MSAE_OK) {
        status = tool_fail_error(job->calibration, &error);
    }
    msae_data_free(&data);
    return status;
}

/* An option that overrides what IN says, where IN cannot be read any other way, would be
   ignored. */
static int check_taken(const convert_job *job, const msae_model *model) {
    const tool_import *o = &job->import;
    const size_t given = o->nesting.count, levels = model->n_levels;
    const int has_other_levels =
        given > 1 && (given != levels || memcmp(o->nesting.values, model->nesting,
                                                given * sizeof *model->nesting) != 0);
    const struct {
        const char *name;
        int is_ignored;
    } options[] = {
        {"--recipe", o->recipe != 0 && o->recipe != (int)model->recipe},
        {"--nesting",
         has_other_levels || (given == 1 && o->nesting.values[0] != model->nesting[0])},
        {"--tied", o->tied != 0 && (o->tied == 1) != model->tied},
        {"--normalize", o->normalize != 0 && (o->normalize == 1) != model->normalize},
        {"--softcap", o->has_soft_cap && o->soft_cap != model->soft_cap},
    };
    for (size_t i = 0; i < TOOL_COUNT_OF(options); i++) {
        if (!options[i].is_ignored) continue;
        return tool_fail(options[i].name, "does not apply: %s says another value itself",
                         job->input);
    }
    return TOOL_OK;
}

static int run(void *context) {
    convert_job *job = context;
    static const msae_dtype types[] = {MSAE_F32, MSAE_F32, MSAE_F16, MSAE_BF16, MSAE_I8};
    msae_load_desc load = {0};
    msae_model model;
    tool_layout from = TOOL_LAYOUT_MSAE;
    tool_target target = {0};
    const tool_layout to = job->to != 0 ? (tool_layout)job->to : TOOL_LAYOUT_MSAE;
    int status;
    if (to != TOOL_LAYOUT_MSAE && (job->weights != 0 || job->calibration != NULL)) {
        return tool_usage("convert", "--dtype and --calibrate are for --to msae");
    }
    status = tool_check_export("-o", job->output, to);
    if (status != TOOL_OK) return status;
    job->import.k = job->k;
    job->import.has_soft_cap = job->import.soft_cap >= 0;
    load.widen = 1;
    status = tool_import_model(&model, job->input, &load, &job->import, &from);
    if (status != TOOL_OK) return status;
    status = check_taken(job, &model);
    if (status == TOOL_OK) status = calibrate(job, &model);
    if (status == TOOL_OK) status = tool_plan_export(&model, job->input, to, job->k, &target);
    target.has_weights = job->weights != 0;
    target.weights = types[job->weights];
    if (status == TOOL_OK) status = tool_export_model(&model, job->output, &target);
    if (status == TOOL_OK) hint_at_k(job, &model, &target);
    if (status == TOOL_OK) print_result(job, &model, from, &target);
    msae_model_free(&model);
    return status;
}

static const convert_job defaults = {.import = {.soft_cap = -1}};

#define AT(member) offsetof(convert_job, member)

static const tool_option options[] = {
    {"IN", NULL, TOOL_OPERAND, AT(input), ""},
    {"-o", "OUT", TOOL_TEXT, AT(output), "a file for msae and msae-pth, a folder for the others"},
    {"--to", "msae|saelens|sparsify|dictionary-learning|msae-pth", TOOL_CHOICE, AT(to),
     "layout to write (default: msae)"},
    {"--k", "K", TOOL_COUNT, AT(k),
     "the model's k: a nested model keeps its levels in our layout and\n"
     "is a TopK of K latents in others (default: its largest level there)"},
    {"--dtype", "f32|f16|bf16|int8", TOOL_CHOICE, AT(weights),
     "for inference: such weights, in a file that is used where it\n"
     "lies in memory (msae_map)"},
    {"--calibrate", "DATA", TOOL_TEXT, AT(calibration),
     "keep a threshold for each level, so that it needs no ranking"},
    {"--tensor", "NAME", TOOL_TEXT, AT(common.tensor), "which tensor of DATA"},
    {"--recipe", "msae-uw|msae-rw|topk|batchtopk|relu|jumprelu", TOOL_CHOICE, AT(import.recipe),
     "what selects latents in another project's model that does not\n"
     "say it, or instead of what it says"},
    {"--nesting", "K | K,K,..", TOOL_COUNTS, AT(import.nesting),
     "where a nested model starts, or its levels (default: by its name)"},
    {"--tied", "on|off", TOOL_CHOICE, AT(import.tied), "default: by the name or the tensors"},
    {"--normalize", "on|off", TOOL_CHOICE, AT(import.normalize), "default: by the name"},
    {"--softcap", "C", TOOL_REAL, AT(import.soft_cap), "default: by the name"},
    {"--skip-bad", NULL, TOOL_FLAG, AT(common.skip_bad),
     "leave out rows of DATA with a NaN, an Inf or a value beyond float32"},
    {"--json", NULL, TOOL_FLAG, AT(common.json), "one JSON object on standard output"},
};

static const tool_rule rules[] = {
    {NULL, TOOL_REQUIRED, "-o"},
    {"--tensor", TOOL_NEEDS, "--calibrate"},
    {"--tensor", TOOL_READS, "--calibrate"},
    {"--skip-bad", TOOL_NEEDS, "--calibrate"},
};

const tool_command tool_convert = {
    .name = "convert",
    .brief = "reads and writes other projects' models",
    .summary =
        "Converts a model. IN is a file of ours, the published MSAE's .pth (hyper-parameters by "
        "its\n"
        "name), a folder of SAELens (standard, topk, batchtopk, jumprelu), sparsify,\n"
        "dictionary_learning (or its ae.pt), ViT-Prisma, BatchTopK, matryoshka_sae or Llama\n"
        "Scope, or OpenAI's autoencoder. All other commands take these as a MODEL too. Mean\n"
        "and scale of the data are folded into the biases where the layout has no place for\n"
        "them: its latents are those of the model divided by the scale.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .rules = rules,
    .n_rules = TOOL_COUNT_OF(rules),
    .job_bytes = sizeof(convert_job),
    .defaults = &defaults,
    .run = run,
};
