/* Concepts by name or number: the names file, and lists like "dog=2,grass". */
#include "tool.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------
   The names file
   ------------------------------------------------------------------------------------------ */

/* The number that is the whole text; 0 when there is none. */
static int read_latent(const char *text, uint64_t *latent) {
    *latent = 0;
    if (*text == '\0') return 0;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || *latent > UINT32_MAX) return 0;
        *latent = 10 * *latent + (uint64_t)(*text - '0');
    }
    return 1;
}

static int read_double(const char *text, double *value) {
    char *end;
    /* Keeps out what strtod would take besides: spaces, "inf", "nan", hexadecimal. */
    if (*text == '\0' || strspn(text, "0123456789.eE+-") != strlen(text)) return 0;
    *value = strtod(text, &end); /* the locale is "C": nobody calls setlocale */
    return *end == '\0' && isfinite(*value);
}

/* One row of the table; columns beyond the last of the table are not there. */
static int take_name(tool_names *names, size_t row, const size_t columns[4]) {
    const tool_table *table = &names->table;
    const char *const *cells = table->cells + row * table->columns;
    uint64_t latent;
    double score = 0;
    if (!read_latent(cells[columns[0]], &latent) || latent >= names->n_latents) {
        return tool_fail(table->path, "line %zu: '%s' is not one of the model's %zu latents",
                         row + 2, cells[columns[0]], names->n_latents);
    }
    if (names->name[latent] != NULL) {
        return tool_fail(table->path, "line %zu: latent %llu has a name already", row + 2,
                         (unsigned long long)latent);
    }
    if (columns[2] < table->columns && cells[columns[2]][0] != '\0' &&
        !read_double(cells[columns[2]], &score)) {
        return tool_fail(table->path, "line %zu: '%s' is not a score", row + 2, cells[columns[2]]);
    }
    names->name[latent] = cells[columns[1]];
    names->score[latent] = score;
    names->valid[latent] = columns[3] >= table->columns || strcmp(cells[columns[3]], "0") != 0;
    return TOOL_OK;
}

/* Names from names->table. */
static int take_names(tool_names *names) {
    const tool_table *table = &names->table;
    const size_t n = names->n_latents;
    size_t columns[4];
    int status = tool_need_column(table, "latent", &columns[0]);
    if (status == TOOL_OK) status = tool_need_column(table, "name", &columns[1]);
    if (status != TOOL_OK) return status;
    columns[2] = tool_find_column(table, "score");
    columns[3] = tool_find_column(table, "valid");
    names->name = tool_alloc(n, sizeof *names->name);
    names->score = tool_alloc(n, sizeof *names->score);
    names->valid = tool_alloc(n, sizeof *names->valid);
    if (names->name == NULL || names->score == NULL || names->valid == NULL) {
        return tool_fail_memory();
    }
    for (size_t r = 0; r < table->rows && status == TOOL_OK; r++) {
        status = take_name(names, r, columns);
    }
    return status;
}

int tool_load_names(tool_names *names, const char *path, size_t n_latents) {
    memset(names, 0, sizeof *names);
    names->n_latents = n_latents;
    if (path == NULL) return TOOL_OK;
    int status = tool_load_table(&names->table, path);
    return status == TOOL_OK ? take_names(names) : status;
}

void tool_free_names(tool_names *names) {
    free(names->name);
    free(names->score);
    free(names->valid);
    tool_free_table(&names->table);
}

const char *tool_name_of(const tool_names *names, size_t latent) {
    const char *name = names->name != NULL ? names->name[latent] : NULL;
    return name != NULL ? name : "";
}

/* ---------------------------------------------------------------------------------------------
   Looking a concept up
   ------------------------------------------------------------------------------------------ */

/* Letters are compared without case, and "polar_bear" is a "Polar bear". */
static char lower(char c) {
    return c == '_' || c == '-' ? ' ' : (char)tolower((unsigned char)c);
}

/* 1 when both are equal letter by letter. */
static int same_letters(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    size_t i = 0;
    if (a_bytes != b_bytes) return 0;
    while (i < a_bytes && lower(a[i]) == lower(b[i])) i++;
    return i == a_bytes;
}

/* 1 when the text is the name or one of its synonyms ("lynx, catamount"). */
static int is_name(const char *name, const char *text, size_t bytes) {
    if (same_letters(name, strlen(name), text, bytes)) return 1;
    while (*name != '\0') {
        const size_t width = strcspn(name, ",");
        if (same_letters(name, width, text, bytes)) return 1;
        name += width;
        name += strspn(name, ", ");
    }
    return 0;
}

int tool_is_named(const char *name, const char *text) {
    if (same_letters(name, strlen(name), text, strlen(text))) return 1;
    while (*text != '\0') {
        const size_t width = strcspn(text, ",");
        if (is_name(name, text, width)) return 1;
        text += width;
        text += strspn(text, ", ");
    }
    return 0;
}

/* A synonym of a word. */
typedef struct synonym {
    const char *text;
    size_t bytes, word;
} synonym;

static int by_letters(const void *a, const void *b) {
    const synonym *x = a, *y = b;
    for (size_t i = 0; i < x->bytes && i < y->bytes; i++) {
        const int order = (unsigned char)lower(x->text[i]) - (unsigned char)lower(y->text[i]);
        if (order != 0) return order;
    }
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return x->word < y->word ? -1 : x->word > y->word;
}

/* The group's number, which is its lowest word; the way there is made shorter. */
static uint32_t group_of(uint32_t *groups, uint32_t word) {
    while (groups[word] != word) word = groups[word] = groups[groups[word]];
    return word;
}

int tool_group_synonyms(const tool_words *words, uint32_t *groups) {
    size_t count = 0;
    for (size_t w = 0; w < words->count; w++) {
        for (const char *c = words->words[w]; *c != '\0'; c++) count += *c == ',';
        count++;
    }
    synonym *synonyms = tool_alloc(count, sizeof *synonyms);
    if (synonyms == NULL) return tool_fail_memory();
    count = 0;
    for (size_t w = 0; w < words->count; w++) {
        const char *text = words->words[w];
        groups[w] = (uint32_t)w;
        while (*text != '\0') {
            const size_t width = strcspn(text, ",");
            synonyms[count].text = text;
            synonyms[count].bytes = width;
            synonyms[count].word = w;
            count += width > 0;
            text += width;
            text += strspn(text, ", ");
        }
    }
    qsort(synonyms, count, sizeof *synonyms, by_letters);
    for (size_t i = 1; i < count; i++) {
        const synonym *a = &synonyms[i - 1], *b = &synonyms[i];
        if (!same_letters(a->text, a->bytes, b->text, b->bytes)) continue;
        const uint32_t x = group_of(groups, (uint32_t)a->word);
        const uint32_t y = group_of(groups, (uint32_t)b->word);
        groups[x > y ? x : y] = x > y ? y : x;
    }
    for (size_t w = 0; w < words->count; w++) groups[w] = group_of(groups, (uint32_t)w);
    free(synonyms);
    return TOOL_OK;
}

/* The best latent of that name: valid ones first, then by score; n_latents when there is none. */
static size_t find_name(const tool_names *names, const char *text, size_t bytes) {
    size_t best = names->n_latents;
    if (bytes == 0) return best;
    for (size_t j = 0; j < names->n_latents && names->name != NULL; j++) {
        if (names->name[j] == NULL || !is_name(names->name[j], text, bytes)) continue;
        if (best == names->n_latents || names->valid[j] > names->valid[best] ||
            (names->valid[j] == names->valid[best] && names->score[j] > names->score[best])) {
            best = j;
        }
    }
    return best;
}

enum { LONGEST_COMPARED = 63 };

/* Letters to insert, delete, replace or swap with their neighbour to make b of a. */
static size_t edit_distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    size_t lines[3][LONGEST_COMPARED + 1];
    size_t *before = lines[0], *last = lines[1], *line = lines[2];
    for (size_t j = 0; j <= b_bytes; j++) last[j] = j;
    for (size_t i = 1; i <= a_bytes; i++) {
        line[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            const int differ = lower(a[i - 1]) != lower(b[j - 1]);
            size_t least = last[j - 1] + (size_t)differ;
            if (last[j] + 1 < least) least = last[j] + 1;
            if (line[j - 1] + 1 < least) least = line[j - 1] + 1;
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                lower(a[i - 2]) == lower(b[j - 1]) && before[j - 2] + 1 < least) {
                least = before[j - 2] + 1;
            }
            line[j] = least;
        }
        size_t *spare = before;
        before = last;
        last = line;
        line = spare;
    }
    return last[b_bytes];
}

/* The name or synonym nearest to the text, with its length; NULL when none is near. */
static const char *nearest_name(const tool_names *names, const char *text, size_t bytes,
                                size_t *name_bytes) {
    const char *nearest = NULL;
    size_t least = bytes / 3 + 2; /* beyond that it is another word */
    for (size_t j = 0; j < names->n_latents && bytes <= LONGEST_COMPARED; j++) {
        const char *name = names->name[j] != NULL ? names->name[j] : "";
        while (*name != '\0') {
            const size_t width = strcspn(name, ",");
            if (width <= LONGEST_COMPARED && width > 0) {
                const size_t distance = edit_distance(text, bytes, name, width);
                if (distance < least) {
                    least = distance;
                    nearest = name;
                    *name_bytes = width;
                }
            }
            name += width;
            name += strspn(name, ", ");
        }
    }
    return nearest;
}

static int fail_unknown(const char *subject, const tool_names *names, const char *text,
                        size_t bytes) {
    const int width = bytes < 200 ? (int)bytes : 200;
    size_t nearest_bytes = 0;
    if (bytes == 0) return tool_fail(subject, "a concept is missing");
    if (names->name == NULL) {
        return tool_fail(subject,
                         "'%.*s' is not a latent's number, and without --names there are "
                         "no names",
                         width, text);
    }
    const char *nearest = nearest_name(names, text, bytes, &nearest_bytes);
    if (nearest == NULL) {
        return tool_fail(subject, "no concept is named '%.*s' in %s", width, text,
                         names->table.path);
    }
    return tool_fail(subject, "no concept is named '%.*s' in %s; did you mean '%.*s'?", width, text,
                     names->table.path, (int)nearest_bytes, nearest);
}

/* The latent that the text is the number or name of, or n_latents with nothing said. */
static size_t look_up(const tool_names *names, const char *text, size_t bytes) {
    char digits[16];
    uint64_t latent;
    if (bytes < sizeof digits) {
        memcpy(digits, text, bytes);
        digits[bytes] = '\0';
        if (read_latent(digits, &latent)) {
            return latent < names->n_latents ? (size_t)latent : names->n_latents;
        }
    }
    return find_name(names, text, bytes);
}

static int find_concept(const char *subject, const tool_names *names, const char *text,
                        size_t bytes, uint32_t *latent) {
    const size_t found = look_up(names, text, bytes);
    if (found < names->n_latents) {
        *latent = (uint32_t)found;
        return TOOL_OK;
    }
    if (bytes > 0 && strspn(text, "0123456789") >= bytes) {
        return tool_fail(subject, "latent %.*s of a model with %zu", (int)(bytes < 32 ? bytes : 32),
                         text, names->n_latents);
    }
    return fail_unknown(subject, names, text, bytes);
}

int tool_find_concept(const char *subject, const tool_names *names, const char *text,
                      uint32_t *latent) {
    return find_concept(subject, names, text, strlen(text), latent);
}

/* ---------------------------------------------------------------------------------------------
   Lists of concepts
   ------------------------------------------------------------------------------------------ */

/* "2", "+2", "-0.5" or "0:1" behind the equals sign. */
static int read_concept_value(const char *subject, const char *text, size_t bytes,
                              tool_concept *concept) {
    char copy[64], *high;
    if (bytes < sizeof copy) {
        memcpy(copy, text, bytes);
        copy[bytes] = '\0';
        high = strchr(copy, ':');
        if (high != NULL) *high++ = '\0';
        concept->has_value = 1;
        concept->is_relative = copy[0] == '+' || copy[0] == '-';
        concept->has_range = high != NULL;
        if (read_double(copy, &concept->value) &&
            (high == NULL ||
             (read_double(high, &concept->high) && concept->value <= concept->high))) {
            return TOOL_OK;
        }
    }
    return tool_fail(subject, "'%.*s' is not a value (2, +2, -0.5) or a range (0:1)",
                     (int)(bytes < 64 ? bytes : 64), text);
}

/* The end of the item that starts at text: its first comma or, when what lies before a later one is a
   name too, the last of those ("lynx, catamount" is one concept, also where "lynx" names it). */
static size_t item_bytes(const tool_names *names, const char *text) {
    enum { MOST_COMMAS = 8 }; /* in a name */
    size_t item = strcspn(text, ","), end = item;
    for (int commas = 0; commas <= MOST_COMMAS; commas++) {
        const char *equals = memchr(text, '=', end);
        const size_t bytes = equals != NULL ? (size_t)(equals - text) : end;
        if (look_up(names, text, bytes) < names->n_latents) item = end;
        if (text[end] == '\0' || equals != NULL) break;
        end += 1 + strcspn(text + end + 1, ",");
    }
    return item;
}

static int read_concept(const char *subject, const tool_names *names, const char *text,
                        size_t bytes, tool_concept *concept) {
    const char *equals = memchr(text, '=', bytes);
    const size_t name_bytes = equals != NULL ? (size_t)(equals - text) : bytes;
    memset(concept, 0, sizeof *concept);
    int status = find_concept(subject, names, text, name_bytes, &concept->latent);
    if (status != TOOL_OK || equals == NULL) return status;
    return read_concept_value(subject, equals + 1, bytes - name_bytes - 1, concept);
}

int tool_read_concepts(const char *subject, const char *text, const tool_names *names,
                       tool_concepts *concepts) {
    concepts->count = 0;
    for (;;) {
        const size_t bytes = item_bytes(names, text);
        if (concepts->count == TOOL_MAX_CONCEPTS) {
            return tool_fail(subject, "more than %d concepts", TOOL_MAX_CONCEPTS);
        }
        tool_concept *concept = &concepts->items[concepts->count++];
        int status = read_concept(subject, names, text, bytes, concept);
        if (status != TOOL_OK) return status;
        for (size_t i = 0; i + 1 < concepts->count; i++) {
            if (concepts->items[i].latent != concept->latent) continue;
            return tool_fail(subject, "latent %lu is listed twice", (unsigned long)concept->latent);
        }
        if (text[bytes] == '\0') return TOOL_OK;
        text += bytes + 1;
        text += strspn(text, " ");
    }
}
