/* The tool's names of latents and lists of concepts: a names file, a form feed, a list.
   Options: -max_len=256
   Dictionaries: concepts words */
#include "fuzz.h"
#include "quiet.h"
#include "../../examples/tool/places.c"
#include "../../examples/tool/table.c"
#include "../../examples/tool/concepts.c"

/* No data is read here of which rows could be left out. */
int tool_is_skipped(const msae_data *data, size_t row) {
    (void)data;
    (void)row;
    return 0;
}

enum { LATENTS = 8 };

static void check_concepts(const tool_concepts *concepts) {
    CHECK(concepts->count > 0 && concepts->count <= TOOL_MAX_CONCEPTS);
    for (size_t i = 0; i < concepts->count; i++) {
        const tool_concept *concept = &concepts->items[i];
        CHECK(concept->latent < LATENTS);
        CHECK(isfinite(concept->value) && isfinite(concept->high));
        CHECK(!concept->has_range || concept->value <= concept->high);
        for (size_t j = 0; j < i; j++) CHECK(concepts->items[j].latent != concept->latent);
    }
}

/* A latent found by its own name has that name, and one found by its number is that one. */
static void check_names(tool_names *names) {
    uint32_t latent;
    for (size_t j = 0; j < LATENTS; j++) {
        char number[16];
        snprintf(number, sizeof number, "%zu", j);
        CHECK(tool_find_concept("list", names, number, &latent) == TOOL_OK && latent == j);
        const char *name = tool_name_of(names, j);
        if (strspn(name, "0123456789") == strlen(name)) continue;
        CHECK(tool_find_concept("list", names, name, &latent) == TOOL_OK);
        CHECK(is_called(names, latent, name, strlen(name), APART_TOO));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    static tool_concepts concepts;
    tool_names names;
    const uint8_t *feed = size > 0 ? (const uint8_t *)memchr(input, '\f', size) : NULL;
    const size_t table_bytes = feed ? (size_t)(feed - input) : 0;
    if (!feed) return 0;
    memset(&names, 0, sizeof names);
    names.n_latents = LATENTS;
    names.table.path = "names.tsv";
    int status = TOOL_OK;
    if (table_bytes > 0) {
        status = take_table(&names.table, quiet_text(input, table_bytes), table_bytes, 1, NULL);
        if (status == TOOL_OK) status = take_names(&names);
    }
    if (status == TOOL_OK) {
        const char *list = fuzz_string(feed + 1, size - table_bytes - 1);
        check_names(&names);
        if (tool_read_concepts("list", list, &names, &concepts) == TOOL_OK) {
            check_concepts(&concepts);
        }
    }
    tool_free_names(&names);
    fuzz_release();
    return 0;
}
