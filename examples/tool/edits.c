/* Edits of concepts, and what the commands that use them check. */
#include "tool.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *tool_operation_name(msae_operation operation) {
    static const char *const names[] = {"set", "add", "scale", "clamp", "ablate"};
    return names[operation];
}

int tool_has_plus(const tool_concept *concept) {
    return concept->is_relative && !signbit(concept->value);
}

/* What a concept's value stands for where no option has said it; MSAE_EDIT_COUNT for nothing. */
static msae_operation implied_operation(const tool_concept *concept) {
    if (!concept->has_value) return MSAE_EDIT_COUNT;
    if (concept->has_range) return MSAE_EDIT_CLAMP;
    return concept->is_relative ? MSAE_EDIT_ADD : MSAE_EDIT_SET;
}

/* Whether the concept has the kind of value that the operation takes. */
static int has_right_value(const tool_concept *concept, msae_operation operation) {
    if (operation == MSAE_EDIT_ABLATE) return !concept->has_value;
    return concept->has_value && concept->has_range == (operation == MSAE_EDIT_CLAMP);
}

static int add_edit(const char *option, const tool_concept *concept, msae_operation operation,
                    tool_edits *edits) {
    static const char *const wanted[] = {"a value (dog=2)", "a value (dog=2)", "a factor (dog=2)",
                                         "a range (dog=0:1)", "no value"};
    const int implied = operation == MSAE_EDIT_COUNT;
    msae_edit *edit = &edits->items[edits->count++];
    if (implied) operation = implied_operation(concept);
    if (implied && operation == MSAE_EDIT_COUNT) {
        return tool_fail(option,
                         "latent %lu needs a value to set (dog=0), to add (dog=+2, dog=-2) "
                         "or a range (dog=0:1)",
                         (unsigned long)concept->latent);
    }
    if (!has_right_value(concept, operation)) {
        return tool_fail(option, "latent %lu needs %s", (unsigned long)concept->latent,
                         wanted[operation]);
    }
    if (!implied && concept->is_relative && operation == MSAE_EDIT_SET) {
        return tool_fail(option,
                         "latent %lu: a value with a sign is what to add: --add adds it, %s takes "
                         "a value without (dog=2)",
                         (unsigned long)concept->latent, option);
    }
    if (!implied && operation == MSAE_EDIT_SCALE && tool_has_plus(concept)) {
        return tool_fail(option, "latent %lu: a factor has no plus sign (dog=2); --add adds",
                         (unsigned long)concept->latent);
    }
    edit->latent = concept->latent;
    edit->operation = operation;
    edit->value = (float)concept->value;
    edit->high = (float)concept->high;
    if (!isfinite(edit->value) || !isfinite(edit->high)) {
        return tool_fail(option, "the value of latent %lu is too large",
                         (unsigned long)concept->latent);
    }
    return TOOL_OK;
}

static int has_unit(const msae_edit *edit) {
    return edit->operation != MSAE_EDIT_SCALE && edit->operation != MSAE_EDIT_ABLATE &&
           (edit->value != 0 || edit->high != 0);
}

int tool_needs_typical(const tool_edits *edits) {
    for (size_t i = 0; i < edits->count; i++) {
        if (has_unit(&edits->items[i])) return 1;
    }
    return 0;
}

int tool_scale_edits(tool_edits *edits, const double *typical, const char *path) {
    for (size_t i = 0; i < edits->count; i++) {
        msae_edit *edit = &edits->items[i];
        if (!has_unit(edit)) continue;
        if (typical[edit->latent] == 0) {
            return tool_fail(path,
                             "latent %lu is active on no row, so that it has no typical value "
                             "(--raw takes values as they are)",
                             (unsigned long)edit->latent);
        }
        edit->value = (float)(edit->value * typical[edit->latent]);
        edit->high = (float)(edit->high * typical[edit->latent]);
        if (!isfinite(edit->value) || !isfinite(edit->high)) {
            return tool_fail(NULL, "the value of latent %lu is too large",
                             (unsigned long)edit->latent);
        }
    }
    return TOOL_OK;
}

int tool_add_edits(const char *option, const char *text, tool_names *names,
                   msae_operation operation, tool_edits *edits) {
    tool_concepts concepts;
    if (text == NULL) return TOOL_OK;
    int status = tool_read_concepts(option, text, names, &concepts);
    for (size_t i = 0; status == TOOL_OK && i < concepts.count; i++) {
        status = add_edit(option, &concepts.items[i], operation, edits);
    }
    return status;
}

/* The first of the rows whose label is the text or, where none is, that are named so; their number
   in *found. Rows that are left out are found only where there are no others. */
static size_t find_label(const tool_row_labels *labels, const msae_data *data, const char *text,
                         size_t *found) {
    const size_t rows = data->rows;
    size_t first = rows, skipped = rows;
    *found = 0;
    for (int by_synonym = 0; by_synonym < 2 && *found == 0; by_synonym++) {
        for (size_t r = 0; r < rows; r++) {
            const char *label = labels->label[r];
            if (*label == '\0') continue;
            if (!(by_synonym ? tool_is_named(label, text) : strcmp(label, text) == 0)) continue;
            if (tool_is_skipped(data, r)) {
                if (skipped == rows) skipped = r;
            } else if ((*found)++ == 0) {
                first = r;
            }
        }
    }
    if (*found > 0 || skipped == rows) return first;
    *found = 1;
    return skipped;
}

static int fail_no_label(const char *option, const char *text, const tool_row_labels *labels,
                         size_t rows) {
    size_t bytes = 0;
    const char *nearest = tool_nearest_name(labels->label, rows, text, strlen(text), &bytes);
    if (nearest == NULL) {
        return tool_fail(option, "no row has the label '%.200s' in %s", text, labels->path);
    }
    return tool_fail(option, "no row has the label '%.200s' in %s; did you mean '%.*s'?", text,
                     labels->path, (int)bytes, nearest);
}

/* A row that was asked for cannot be left out. */
static int check_row(const char *option, const msae_data *data, const char *path, size_t row) {
    if (!tool_is_skipped(data, row)) return TOOL_OK;
    return tool_fail(option, "row %zu of %s has a NaN or Inf", row, path);
}

int tool_find_row(const char *option, const char *text, const tool_row_labels *labels,
                  const msae_data *data, const char *path, size_t *row) {
    size_t found;
    if (text[strspn(text, "0123456789")] == '\0') {
        errno = 0;
        const unsigned long long number = strtoull(text, NULL, 10);
        *row = (size_t)number;
        if (errno == 0 && number < data->rows) return check_row(option, data, path, *row);
        return tool_fail(option, "%s is beyond the %zu row%s of %s, which count%s from 0", text,
                         data->rows, tool_plural(data->rows), path, data->rows == 1 ? "s" : "");
    }
    if (labels->path == NULL) {
        return tool_fail(option,
                         "'%.200s' is not the number of a row, and without %s there are no labels",
                         text, labels->option);
    }
    *row = find_label(labels, data, text, &found);
    if (found == 0 && text[0] == '=') *row = find_label(labels, data, ++text, &found);
    if (found == 0) return fail_no_label(option, text, labels, data->rows);
    if (found > 1) {
        tool_warn(option, "'%.200s' names %zu rows in %s: row %zu ('%.200s') is taken, the first",
                  text, found, labels->path, *row, labels->label[*row]);
    }
    return check_row(option, data, path, *row);
}
