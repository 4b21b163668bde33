/* Reads what msae train --json wrote. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where the value of a key starts in a line of JSON that has no objects within, or NULL. */
static const char *value_of(const char *line, const char *key) {
    const size_t length = strlen(key);
    const char *at = line;
    while ((at = strchr(at, '"')) != NULL) {
        const char *end = strchr(at + 1, '"');
        if (end == NULL) return NULL;
        const int is_key = (size_t)(end - at - 1) == length && memcmp(at + 1, key, length) == 0;
        at = end + 1 + strspn(end + 1, " \t");
        if (!is_key || *at != ':') continue;
        return at + 1 + strspn(at + 1, " \t");
    }
    return NULL;
}

/* The number of a key, or NaN. */
static double number_of(const char *line, const char *key) {
    const char *at = value_of(line, key);
    if (at == NULL || *at == '\0' || strchr("-0123456789", *at) == NULL) return NAN;
    const double value = strtod(at, NULL);
    return isfinite(value) ? value : NAN;
}

/* The text of a key, without escapes, or NULL. */
static const char *text_of(const char *line, const char *key, size_t *bytes) {
    const char *at = value_of(line, key);
    if (at == NULL || *at != '"') return NULL;
    *bytes = strcspn(at + 1, "\"");
    return at + 1;
}

static int is_event(const char *line, const char *name) {
    size_t bytes = 0;
    const char *event = text_of(line, "event", &bytes);
    return event != NULL && bytes == strlen(name) && memcmp(event, name, bytes) == 0;
}

static int check_size(const char *line, const char *key, size_t expected, size_t number,
                      const char *path) {
    const double value = number_of(line, key);
    if (isnan(value) || value == (double)expected) return TOOL_OK;
    return tool_fail(path, "line %zu: is of another model: %s is %.0f, the model's is %zu", number,
                     key, value, expected);
}

/* Where a run says what it trains. */
static int check_start(const msae_model *model, const char *line, size_t number, const char *path) {
    size_t bytes = 0;
    const char *own = msae_enum_name(MSAE_ENUM_RECIPE, (int)model->recipe),
               *recipe = text_of(line, "recipe", &bytes);
    if (recipe != NULL && (bytes != strlen(own) || memcmp(recipe, own, bytes) != 0)) {
        return tool_fail(path, "line %zu: is of another model: recipe is %.*s, the model's is %s",
                         number, (int)(bytes < 32 ? bytes : 32), recipe, own);
    }
    int status = check_size(line, "n_inputs", model->n_inputs, number, path);
    if (status != TOOL_OK) return status;
    return check_size(line, "n_latents", model->n_latents, number, path);
}

static int take_line(train_log *log, const msae_model *model, const char *line, size_t number,
                     const char *path) {
    const size_t length = strlen(line);
    if (line[0] != '{' || length < 2 || line[length - 1] != '}') {
        return tool_fail(path, "line %zu: not a JSON object as msae train --json writes them",
                         number);
    }
    if (is_event(line, "start")) return check_start(model, line, number, path);
    if (!is_event(line, "epoch")) return TOOL_OK;
    const log_epoch epoch = {number_of(line, "epoch"),    number_of(line, "loss"),
                             number_of(line, "val_loss"), number_of(line, "l0"),
                             number_of(line, "dead"),     number_of(line, "lr"),
                             number_of(line, "seconds")};
    if (!isfinite(epoch.epoch) || !isfinite(epoch.loss)) {
        return tool_fail(path, "line %zu: an epoch without number or loss", number);
    }
    while (log->count > 0 && log->epochs[log->count - 1].epoch >= epoch.epoch) log->count--;
    log->epochs[log->count++] = epoch;
    return TOOL_OK;
}

int load_train_log(train_log *log, const msae_model *model, const char *path) {
    char *text;
    size_t size, lines = 1;
    memset(log, 0, sizeof *log);
    int status = tool_read_file(path, &text, &size);
    if (status != TOOL_OK) return status;
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    log->epochs = tool_alloc(lines, sizeof *log->epochs);
    if (log->epochs == NULL) status = tool_fail_memory();
    if (strlen(text) != size) status = tool_fail(path, "is not a text file");
    char *line = text;
    for (size_t number = 1; line < text + size && status == TOOL_OK; number++) {
        char *end = line + strcspn(line, "\n"), *next = end + 1;
        if (end > line && end[-1] == '\r') end--;
        *end = '\0';
        if (*line != '\0') status = take_line(log, model, line, number, path);
        line = next;
    }
    if (status == TOOL_OK && log->count == 0) status = tool_fail(path, "has no epoch");
    free(text);
    return status;
}

void free_train_log(train_log *log) {
    free(log->epochs);
}
