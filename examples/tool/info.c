/* msae info: what a file holds. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Opens a file's line of JSON. */
static tool_json json_of_kind(const char *path, const char *kind) {
    tool_json json = tool_json_line(NULL);
    tool_json_text(&json, "file", path);
    tool_json_text(&json, "kind", kind);
    return json;
}

/* ---------------------------------------------------------------------------------------------
   .npy
   ------------------------------------------------------------------------------------------ */

/* Mean of the rows' norms. */
static int mean_norm(const msae_data *data, double *result) {
    float *row = tool_alloc(data->cols, sizeof *row);
    double sum = 0;
    if (row == NULL) return tool_fail_memory();
    for (size_t r = 0; r < data->rows; r++) {
        msae_data_read(data, r, 1, row);
        sum += tool_norm(row, data->cols);
    }
    free(row);
    *result = sum / (double)data->rows;
    return TOOL_OK;
}

static int describe_data(const char *path, int as_json) {
    msae_data data;
    msae_error error;
    double norm = 0;
    int status = tool_load_data(&data, path, NULL, 0, TOOL_BAD_KEPT);
    if (status != TOOL_OK) return status;
    const int finite = msae_data_check(&data, &error) == MSAE_OK;
    status = mean_norm(&data, &norm);
    if (status == TOOL_OK && as_json) {
        tool_json json = json_of_kind(path, "data");
        tool_json_count(&json, "rows", data.rows);
        tool_json_count(&json, "cols", data.cols);
        tool_json_text(&json, "dtype", msae_enum_name(MSAE_ENUM_DTYPE, (int)data.dtype));
        tool_json_real(&json, "mean_norm", norm);
        tool_json_bool(&json, "finite", finite);
        tool_json_end(&json, '}');
    } else if (status == TOOL_OK) {
        printf("%s: data, %zu row%s of %zu, %s, mean norm %.5g, %s\n", path, data.rows,
               tool_plural(data.rows), data.cols, msae_enum_name(MSAE_ENUM_DTYPE, (int)data.dtype),
               norm, finite ? "all finite" : error.message);
    }
    msae_data_free(&data);
    return status;
}

/* ---------------------------------------------------------------------------------------------
   safetensors: what it is for, then what is in it
   ------------------------------------------------------------------------------------------ */

/* The notes of our files hold numbers with all digits of a float32, and those of version 0.5.0 places
   in enums: here they are said in the fewest digits that mean the same, and by name. */
enum { NOTE_ROOM = 2048, NUMBERS = -1, AS_IS = -2 };

#define NOTE(field, kind, range, ...) {"train_" #field, NOTE_##kind(range)},
#define NOTE_COUNT(range) AS_IS
#define NOTE_FLOAT(range) NUMBERS
#define NOTE_TIMES(range) AS_IS
#define NOTE_CHOICE(range) MSAE_ENUM_##range

static const struct {
    const char *key;
    int kind; /* msae_enum; NUMBERS: a number, or a list of them; AS_IS */
} notes[] = {
    MSAE_TRAIN_LIST(NOTE) /* train_epochs .. train_scaling */
    {"level_weights", NUMBERS},
    {"run_lr_factor", NUMBERS},
    {"soft_cap", NUMBERS},
};

/* Puts the shortest text that reads as this float32 at the end of the line. */
static void add_float(char text[NOTE_ROOM], double value) {
    const size_t at = strlen(text);
    int digits = 1;
    do {
        snprintf(text + at, NOTE_ROOM - at, "%.*g", digits, value);
    } while (digits++ < 9 && (float)strtod(text + at, NULL) != (float)value);
}

/* Rewrites a list of numbers; 0: it is none. */
static int shorten(char text[NOTE_ROOM], const char *list) {
    text[0] = '\0';
    for (;;) {
        char *end;
        const double value = strtod(list, &end);
        if (end == list || !isfinite(value) || strlen(text) > NOTE_ROOM - 32) return 0;
        add_float(text, value);
        if (*end == '\0') return 1;
        if (*end != ',') return 0;
        strcat(text, ",");
        list = end + 1;
    }
}

/* The value of a note for people, in `text` or where it lies; *bytes is its length. */
static const char *note_value(const msae_safetensors *file, const msae_metadata *entry,
                              char text[NOTE_ROOM], size_t *bytes) {
    static const char prefix[] = "msae."; /* (version 0.5.0 had none) */
    const size_t skipped = sizeof prefix - 1;
    const char *key = entry->key;
    char value[NOTE_ROOM];
    size_t length = entry->key_bytes, i = 0;
    *bytes = entry->value_bytes;
    if (length > skipped && memcmp(key, prefix, skipped) == 0) {
        key += skipped;
        length -= skipped;
    } else if (msae_safetensors_metadata(file, "msae_version") == NULL) {
        return entry->value;
    }
    while (i < TOOL_COUNT_OF(notes) &&
           (strlen(notes[i].key) != length || memcmp(notes[i].key, key, length) != 0)) {
        i++;
    }
    if (i == TOOL_COUNT_OF(notes) || notes[i].kind == AS_IS || *bytes >= sizeof value) {
        return entry->value;
    }
    memcpy(value, entry->value, *bytes);
    value[*bytes] = '\0';
    if (notes[i].kind != NUMBERS) {
        char *end;
        const long place = strtol(value, &end, 10);
        if (*end != '\0' || place < 1 || place > 99) return entry->value;
        snprintf(text, NOTE_ROOM, "%s", msae_enum_name((msae_enum)notes[i].kind, (int)place));
        if (strcmp(text, "unknown") == 0) return entry->value;
    } else if (!shorten(text, value)) {
        return entry->value;
    }
    *bytes = strlen(text);
    return text;
}

static void list_json(tool_json *json, const msae_safetensors *file) {
    char text[NOTE_ROOM];
    size_t bytes;
    tool_json_begin(json, "tensors", '[');
    for (size_t i = 0; i < file->n_tensors; i++) {
        const msae_tensor *tensor = &file->tensors[i];
        tool_json_begin(json, NULL, '{');
        tool_json_escaped(json, "name", 4, tensor->name, tensor->name_bytes);
        tool_json_text(json, "dtype", msae_enum_name(MSAE_ENUM_DTYPE, (int)tensor->dtype));
        tool_json_counts(json, "shape", tensor->shape, tensor->rank);
        tool_json_end(json, '}');
    }
    tool_json_end(json, ']');
    tool_json_begin(json, "metadata", '{');
    for (size_t i = 0; i < file->n_metadata; i++) {
        const msae_metadata *entry = &file->metadata[i];
        const char *value = note_value(file, entry, text, &bytes);
        tool_json_escaped(json, entry->key, entry->key_bytes, value, bytes);
    }
    tool_json_end(json, '}');
    tool_json_end(json, '}');
}

static void put_bytes(const char *text, size_t bytes) {
    fwrite(text, 1, bytes, stdout);
}

static void list_text(const msae_safetensors *file) {
    char text[NOTE_ROOM];
    size_t bytes;
    for (size_t i = 0; i < file->n_tensors; i++) {
        const msae_tensor *tensor = &file->tensors[i];
        printf("  tensor ");
        put_bytes(tensor->name, tensor->name_bytes);
        printf(" %s [", msae_enum_name(MSAE_ENUM_DTYPE, (int)tensor->dtype));
        for (size_t j = 0; j < tensor->rank; j++) {
            printf("%s%zu", j == 0 ? "" : ", ", tensor->shape[j]);
        }
        printf("]\n");
    }
    for (size_t i = 0; i < file->n_metadata; i++) {
        const msae_metadata *entry = &file->metadata[i];
        printf("  ");
        put_bytes(entry->key, entry->key_bytes);
        printf(" = ");
        const char *value = note_value(file, entry, text, &bytes);
        put_bytes(value, bytes);
        printf("\n");
    }
}

static void describe_json(tool_json *json, const msae_model *model, tool_layout layout) {
    tool_json_text(json, "recipe", msae_enum_name(MSAE_ENUM_RECIPE, (int)model->recipe));
    tool_json_count(json, "n_inputs", model->n_inputs);
    tool_json_count(json, "n_latents", model->n_latents);
    tool_json_counts(json, "nesting", model->nesting, model->n_levels);
    tool_json_k(json, model, 0);
    tool_json_bool(json, "tied", model->tied);
    tool_json_bool(json, "normalize", model->normalize);
    tool_json_real(json, "scale", (double)model->scale);
    tool_json_count(json, "steps", model->history.steps);
    tool_json_checksum(json, "model", model);
    tool_json_text(json, "layout", tool_layout_name(layout));
}

static void describe_text(const char *path, const msae_model *model, tool_layout layout,
                          const char *kind) {
    char text[TOOL_K_TEXT];
    printf("%s: %s %s, %zu inputs, %zu latents, %s%s%s", path,
           msae_enum_name(MSAE_ENUM_RECIPE, (int)model->recipe), kind, model->n_inputs,
           model->n_latents, tool_k_text(model, 0, text), model->tied ? ", tied" : "",
           model->normalize ? ", normalizing" : "");
    if (layout == TOOL_LAYOUT_MSAE) {
        printf(", %llu steps of training", (unsigned long long)model->history.steps);
    } else {
        printf(", in the layout of %s", tool_layout_name(layout));
    }
    printf(", model %016llx\n", (unsigned long long)msae_model_checksum(model));
}

static int describe_model(const char *path, const void *bytes, size_t size,
                          const msae_safetensors *file, int as_json) {
    const int is_checkpoint = msae_safetensors_find(file, "run.epoch") != NULL;
    msae_model model;
    msae_error error;
    if (msae_load(&model, msae_from_memory(bytes, size), NULL, &error) != MSAE_OK) {
        return tool_fail_error(path, &error);
    }
    if (as_json) {
        tool_json json = json_of_kind(path, is_checkpoint ? "checkpoint" : "model");
        describe_json(&json, &model, TOOL_LAYOUT_MSAE);
        list_json(&json, file);
    } else {
        describe_text(path, &model, TOOL_LAYOUT_MSAE, is_checkpoint ? "checkpoint" : "model");
        list_text(file);
    }
    msae_model_free(&model);
    return TOOL_OK;
}

static int describe_codes(const char *path, const void *bytes, size_t size,
                          const msae_safetensors *file, int as_json) {
    const msae_reader reader = msae_from_memory(bytes, size);
    tool_codes codes;
    int status = tool_open_codes(&codes, file, &reader, path);
    if (status != TOOL_OK) return status;
    if (as_json) {
        tool_json json = json_of_kind(path, "codes");
        tool_json_count(&json, "rows", codes.rows);
        tool_json_count(&json, "entries", codes.entries);
        if (codes.model[0] != '\0') {
            tool_json_text(&json, "model", codes.model);
        } else {
            tool_json_null(&json, "model");
        }
        tool_json_bool(&json, "own_statistics", codes.own_statistics);
        list_json(&json, file);
    } else {
        printf("%s: sparse codes, %llu row%s, %llu entr%s%s%s%s\n", path,
               (unsigned long long)codes.rows, tool_plural(codes.rows),
               (unsigned long long)codes.entries, codes.entries == 1 ? "y" : "ies",
               codes.model[0] != '\0' ? ", of the model " : "", codes.model,
               codes.own_statistics ? ", with statistics of their own" : "");
        list_text(file);
    }
    return TOOL_OK;
}

static void describe_tensors(const char *path, const msae_safetensors *file, int as_json) {
    if (as_json) {
        tool_json json = json_of_kind(path, "tensors");
        list_json(&json, file);
    } else {
        printf("%s: safetensors, %zu tensors\n", path, file->n_tensors);
        list_text(file);
    }
}

static int describe_safetensors(const char *path, const void *bytes, size_t size, int as_json) {
    msae_safetensors file;
    msae_error error;
    int status = TOOL_OK;
    if (msae_safetensors_open(&file, msae_from_memory(bytes, size), NULL, &error) != MSAE_OK) {
        return tool_fail_content(path, TOOL_DATA, &error);
    }
    if ((msae_safetensors_find(&file, "encoder") != NULL ||
         msae_safetensors_find(&file, "weights.encoder_rows") != NULL) &&
        msae_safetensors_find(&file, "latent_bias") != NULL) {
        status = describe_model(path, bytes, size, &file, as_json);
    } else if (tool_is_codes(&file)) {
        status = describe_codes(path, bytes, size, &file, as_json);
    } else {
        describe_tensors(path, &file, as_json);
    }
    msae_safetensors_close(&file);
    return status;
}

/* A model in another project's layout. */
static int describe_foreign(const char *path, int as_json) {
    msae_model model;
    tool_layout layout;
    int status = tool_import_model(&model, path, NULL, NULL, &layout);
    if (status != TOOL_OK) return status;
    if (as_json) {
        tool_json json = json_of_kind(path, "model");
        describe_json(&json, &model, layout);
        tool_json_end(&json, '}');
    } else {
        describe_text(path, &model, layout, "model");
    }
    msae_model_free(&model);
    return TOOL_OK;
}

/* Whether a path leads to another project's model: a folder, a zip or a pickle, or weights of
   SAELens or sparsify. */
static int is_foreign(const char *path, const unsigned char *bytes, size_t size) {
    msae_safetensors file;
    msae_error error;
    int foreign;
    if (tool_is_torch(bytes, size)) return 1;
    if (msae_safetensors_open(&file, msae_from_memory(bytes, size), NULL, &error) != MSAE_OK)
        return 0;
    foreign = msae_safetensors_find(&file, "W_dec") != NULL && tool_has_config(path);
    msae_safetensors_close(&file);
    return foreign;
}

typedef struct info_job {
    tool_common common;
    const char *path;
} info_job;

static int run(void *context) {
    const info_job *job = context;
    const char *path = job->path;
    const int as_json = job->common.json;
    char *bytes;
    size_t size;
    if (tool_is_folder(path)) return describe_foreign(path, as_json);
    if (tool_has_ending(path, ".npy") || tool_has_ending(path, ".npz")) {
        return describe_data(path, as_json);
    }
    if (tool_is_converted(path) && !tool_holds_model(path)) return describe_data(path, as_json);
    int status = tool_read_file(path, &bytes, &size);
    if (status != TOOL_OK) return status;
    const int foreign = is_foreign(path, (const unsigned char *)bytes, size);
    if (!foreign) status = describe_safetensors(path, bytes, size, as_json);
    free(bytes);
    if (foreign) status = describe_foreign(path, as_json);
    return status;
}

static const tool_option options[] = {
    {"FILE", NULL, TOOL_OPERAND, offsetof(info_job, path), ""},
    {"--json", NULL, TOOL_FLAG, offsetof(info_job, common.json),
     "one JSON object on standard output"},
};

const tool_command tool_info = {
    .name = "info",
    .brief = "says what a file holds",
    .summary = "Says what a model (in any layout that convert reads), a file of codes, any other\n"
               "safetensors file, a .npy, an .npz or embeddings of torch.save hold.",
    .options = options,
    .n_options = TOOL_COUNT_OF(options),
    .job_bytes = sizeof(info_job),
    .run = run,
};
