/* Edits of concepts, and what the commands that use them check. */
#include "tool.h"

#include <math.h>

const char *tool_operation_name(msae_operation operation) {
    static const char *const names[] = {"set", "add", "scale", "clamp", "ablate"};
    return names[operation];
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

int tool_add_edits(const char *option, const char *text, const tool_names *names,
                   msae_operation operation, tool_edits *edits) {
    tool_concepts concepts;
    if (text == NULL) return TOOL_OK;
    int status = tool_read_concepts(option, text, names, &concepts);
    for (size_t i = 0; status == TOOL_OK && i < concepts.count; i++) {
        status = add_edit(option, &concepts.items[i], operation, edits);
    }
    return status;
}

int tool_check_row(const char *option, uint64_t row, const msae_data *data, const char *path) {
    if (row < data->rows) return TOOL_OK;
    return tool_fail(option, "%llu is beyond the %zu rows of %s, which count from 0",
                     (unsigned long long)row, data->rows, path);
}

int tool_check_apart(const char *option, const char *output, const char *input) {
    if (!tool_same_file(output, input)) return TOOL_OK;
    return tool_fail(option, "%s is read too", output);
}
