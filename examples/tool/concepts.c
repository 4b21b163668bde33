/* Concepts by name or number: the names file, and lists like "dog=2,grass". */
#include "tool.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------
   The names file
   ------------------------------------------------------------------------------------------ */

/* The number of 16 hexadecimal digits. */
static int read_checksum(const char *text, uint64_t *checksum) {
    static const char digits[] = "0123456789abcdef";
    *checksum = 0;
    if (strlen(text) != 16 || strspn(text, digits) != 16) return 0;
    for (; *text != '\0'; text++) {
        *checksum = *checksum << 4 | (uint64_t)(strchr(digits, *text) - digits);
    }
    return 1;
}

enum { LATENT, NAME, SCORE, VALID, SUPPORT, ROWS, APART, MODEL, COLUMNS };

/* The cell of a column, "" when there is no such column. */
static const char *cell_of(const tool_table *table, size_t row, size_t column) {
    return column < table->columns ? table->cells[row * table->columns + column] : "";
}

int tool_check_checksum(const char *path, size_t line, const char *text, uint64_t model,
                        const char *model_path, const char *advice) {
    uint64_t checksum;
    if (!read_checksum(text, &checksum)) {
        return tool_fail(path, "line %zu: '%s' is not a model's checksum", line, text);
    }
    if (checksum == model) return TOOL_OK;
    return tool_fail(path, "is of the model %s, %s is %016llx: %s", text, model_path,
                     (unsigned long long)model, advice);
}

/* Names are only of the model that they were made for. */
static int check_model(const tool_names *names, size_t row, const char *text) {
    if (*text == '\0') return TOOL_OK;
    return tool_check_checksum(names->table.path, row + 2, text, names->model, names->model_path,
                               "name it again");
}

static int read_support(const tool_names *names, size_t row, const char *text, const char *rows,
                        uint64_t *support) {
    uint64_t of;
    *support = TOOL_UNKNOWN;
    if (*text == '\0') return TOOL_OK;
    if (!tool_read_number(text, strlen(text), support) || *support == TOOL_UNKNOWN) {
        return tool_fail(names->table.path, "line %zu: '%s' is not a number of rows", row + 2,
                         text);
    }
    if (*rows != '\0' && (!tool_read_number(rows, strlen(rows), &of) || *support > of)) {
        return tool_fail(names->table.path, "line %zu: a support of %s in %s rows", row + 2, text,
                         rows);
    }
    return TOOL_OK;
}

/* One row of the table. */
static int take_name(tool_names *names, size_t row, const size_t columns[COLUMNS]) {
    const tool_table *table = &names->table;
    const char *cells[COLUMNS];
    uint64_t latent;
    tool_claim claim;
    for (int i = 0; i < COLUMNS; i++) cells[i] = cell_of(table, row, columns[i]);
    claim.score = 0;
    int status = check_model(names, row, cells[MODEL]);
    if (status != TOOL_OK) return status;
    if (!tool_read_number(cells[LATENT], strlen(cells[LATENT]), &latent) ||
        latent >= names->n_latents) {
        return tool_fail(table->path, "line %zu: '%s' is not one of the model's %zu latents",
                         row + 2, cells[LATENT], names->n_latents);
    }
    if (names->name[latent] != NULL) {
        return tool_fail(table->path, "line %zu: latent %llu has a name already", row + 2,
                         (unsigned long long)latent);
    }
    if (cells[SCORE][0] != '\0' &&
        !tool_read_real(cells[SCORE], strlen(cells[SCORE]), &claim.score)) {
        return tool_fail(table->path, "line %zu: '%s' is not a score", row + 2, cells[SCORE]);
    }
    claim.valid = strcmp(cells[VALID], "0") != 0; /* (also where the table does not say it) */
    if (claim.valid && cells[VALID][0] != '\0' && strcmp(cells[VALID], "1") != 0) {
        return tool_fail(table->path, "line %zu: '%s' in the column valid is neither 0 nor 1",
                         row + 2, cells[VALID]);
    }
    status = read_support(names, row, cells[SUPPORT], cells[ROWS], &claim.support);
    names->name[latent] = cells[NAME];
    names->apart[latent] = cells[APART];
    names->claims[latent] = claim;
    return status;
}

/* Says what the file leaves open. */
static void warn_of_unchecked(const tool_names *names, const size_t columns[COLUMNS]) {
    const tool_table *table = &names->table;
    int no_model = 0, no_support = 0;
    for (size_t r = 0; r < table->rows; r++) {
        if (cell_of(table, r, columns[NAME])[0] == '\0') continue;
        no_model |= cell_of(table, r, columns[MODEL])[0] == '\0';
        no_support |= cell_of(table, r, columns[SUPPORT])[0] == '\0';
    }
    if (no_model && no_support) {
        tool_warn(table->path,
                  "its names are unchecked: it says neither which model they are of nor "
                  "how many rows they rest on (msae name .. --data writes both)");
    } else if (no_model) {
        tool_warn(table->path, "its names are unchecked: it does not say which model they are of "
                               "(msae name writes it)");
    } else if (no_support) {
        tool_warn(table->path,
                  "its names are unchecked: it does not say how many rows they rest on "
                  "(msae name .. --data writes it)");
    }
}

/* Names from names->table. */
static int take_names(tool_names *names) {
    static const char *const titles[] = {"latent",  "name", "score", "valid",
                                         "support", "rows", "apart", "model"};
    const tool_table *table = &names->table;
    const size_t n = names->n_latents;
    size_t columns[COLUMNS];
    int status = TOOL_OK;
    for (int i = 0; i < COLUMNS && status == TOOL_OK; i++) {
        columns[i] = tool_find_column(table, titles[i]);
        if (i == LATENT || i == NAME) status = tool_need_column(table, titles[i], &columns[i]);
    }
    if (status != TOOL_OK) return status;
    names->name = tool_alloc(n, sizeof *names->name);
    names->apart = tool_alloc(n, sizeof *names->apart);
    names->claims = tool_alloc(n, sizeof *names->claims);
    if (names->name == NULL || names->apart == NULL || names->claims == NULL) {
        return tool_fail_memory();
    }
    for (size_t r = 0; r < table->rows && status == TOOL_OK; r++) {
        status = take_name(names, r, columns);
    }
    if (status == TOOL_OK) warn_of_unchecked(names, columns);
    return status;
}

int tool_load_names(tool_names *names, const char *path, const msae_model *model,
                    const char *model_path) {
    memset(names, 0, sizeof *names);
    names->n_latents = model->n_latents;
    names->model_path = model_path;
    if (path == NULL) return TOOL_OK;
    names->model = msae_model_checksum(model);
    int status = tool_load_table(&names->table, path);
    return status == TOOL_OK ? take_names(names) : status;
}

void tool_free_names(tool_names *names) {
    free(names->name);
    free(names->apart);
    free(names->claims);
    tool_free_table(&names->table);
}

const char *tool_name_of(const tool_names *names, size_t latent) {
    const char *name = names->name != NULL ? names->name[latent] : NULL;
    return name != NULL ? name : "";
}

/* The second word, or "" where there is none. */
static const char *apart_of(const tool_names *names, size_t latent) {
    const char *apart = names->name != NULL ? names->apart[latent] : NULL;
    return apart != NULL ? apart : "";
}

size_t tool_first_synonym(const char *name) {
    return name[0] == '\0' ? 0 : 1 + strcspn(name + 1, ",");
}

const char *tool_short_name_of(const tool_names *names, size_t latent, tool_short_name *room) {
    const char *name = tool_name_of(names, latent), *apart = apart_of(names, latent);
    snprintf(room->text, sizeof room->text, "%.*s%s%s%s", (int)tool_first_synonym(name), name,
             *apart != '\0' ? " (" : "", apart, *apart != '\0' ? ")" : "");
    return room->text;
}

void tool_json_name(tool_json *json, const tool_names *names, size_t latent) {
    tool_json_text(json, "name", tool_name_of(names, latent));
    if (*apart_of(names, latent) != '\0') tool_json_text(json, "apart", apart_of(names, latent));
}

void tool_json_concept(tool_json *json, const tool_names *names, size_t latent) {
    tool_json_count(json, "latent", latent);
    if (names->name != NULL) tool_json_name(json, names, latent);
}

void tool_json_codes(tool_json *json, const char *key, const tool_names *names,
                     const msae_code *codes, size_t count) {
    tool_json_begin(json, key, '[');
    for (size_t i = 0; i < count; i++) {
        tool_json_begin(json, NULL, '{');
        tool_json_concept(json, names, codes[i].latent);
        tool_json_real(json, "value", (double)codes[i].value);
        tool_json_end(json, '}');
    }
    tool_json_end(json, ']');
}

void tool_print_change(const tool_names *names, size_t latent, double before, double after) {
    tool_short_name room;
    const char *name = tool_short_name_of(names, latent, &room);
    if (*name != '\0') {
        printf("%s", name);
    } else {
        printf("latent %zu", latent);
    }
    printf(" %.3g -> %.3g, ", before, after);
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

/* Half of the score counts at so many rows. */
#define HALF_SUPPORT 100

static double shrunk_score(const tool_claim *claim) {
    const double score = claim->score > 0 ? claim->score : 0;
    if (claim->support == TOOL_UNKNOWN) return score;
    return score * (double)claim->support / ((double)claim->support + HALF_SUPPORT);
}

int tool_compare_claims(const tool_claim *a, const tool_claim *b) {
    const int a_stands = a->support >= TOOL_MIN_SUPPORT, b_stands = b->support >= TOOL_MIN_SUPPORT;
    const double a_score = shrunk_score(a), b_score = shrunk_score(b);
    if (a_stands != b_stands) return a_stands - b_stands;
    if (a->valid != b->valid) return a->valid - b->valid;
    if (a_score != b_score) return a_score > b_score ? 1 : -1;
    return (a->support > b->support) - (a->support < b->support);
}

/* 1 when the text is the name (or a synonym) and the second word: "cat (siamese)", "cat,
   siamese". */
static int is_name_apart(const char *name, const char *apart, const char *text, size_t bytes) {
    if (*apart == '\0') return 0;
    for (size_t at = 1; at + 1 < bytes; at++) {
        if (text[at] == ',' && is_name(name, text, at)) {
            size_t next = at + 1;
            while (next < bytes && text[next] == ' ') next++;
            if (is_name(apart, text + next, bytes - next)) return 1;
        }
        if (text[at] == ' ' && text[at + 1] == '(' && text[bytes - 1] == ')' &&
            is_name(name, text, at) && is_name(apart, text + at + 2, bytes - at - 3)) {
            return 1;
        }
    }
    return 0;
}

/* What a text is to a latent. */
enum { BY_NAME = 1, APART_TOO = 2 };

static int is_called(const tool_names *names, size_t latent, const char *text, size_t bytes,
                     int how) {
    const char *name = names->name[latent];
    if (name == NULL || bytes == 0) return 0;
    return is_name(name, text, bytes) ||
           (how == APART_TOO && is_name_apart(name, names->apart[latent], text, bytes));
}

/* 1 when latent a stands before b among those of one name. */
static int stands_before(const tool_names *names, size_t a, size_t b) {
    const int order = tool_compare_claims(&names->claims[a], &names->claims[b]);
    return order > 0 || (order == 0 && a < b);
}

/* The best latent of that name that stands behind `after` (n_latents: the first of all); n_latents
   when there is none. */
static size_t find_name(const tool_names *names, const char *text, size_t bytes, int how,
                        size_t after) {
    const size_t n = names->n_latents;
    size_t best = n;
    for (size_t j = 0; j < n && names->name != NULL; j++) {
        if (!is_called(names, j, text, bytes, how)) continue;
        if (after < n && !stands_before(names, after, j)) continue;
        if (best == n || stands_before(names, j, best)) best = j;
    }
    return best;
}

/* "cat: 9 latents, taking 1277 (834 rows); others 62, 337, 1316, .." */
static void say_choice(const tool_names *names, const char *subject, const tool_choice *choice,
                       size_t count) {
    enum { LISTED = 5 };
    char others[LISTED * 24] = "", rows[40] = "";
    const uint64_t support = names->claims[choice->latent].support;
    size_t other = choice->latent, at = 0;
    for (size_t i = 1; i < count && i <= LISTED; i++) {
        other = find_name(names, choice->text, choice->bytes, APART_TOO, other);
        at += (size_t)snprintf(others + at, sizeof others - at, "%s%zu", i > 1 ? ", " : "", other);
    }
    if (support != TOOL_UNKNOWN) {
        snprintf(rows, sizeof rows, " (%llu row%s)", (unsigned long long)support,
                 tool_plural(support));
    }
    tool_note(subject, "%.*s: %zu latents, taking %lu%s; others %s%s", (int)choice->bytes,
              choice->text, count, (unsigned long)choice->latent, rows, others,
              count > LISTED + 1 ? ", .." : "");
}

/* Keeps, and says, which of several latents of a name was taken. */
static void keep_choice(tool_names *names, const char *subject, const char *text, size_t bytes,
                        size_t latent) {
    tool_choice choice;
    size_t count = 0;
    memset(&choice, 0, sizeof choice);
    for (size_t j = 0; j < names->n_latents; j++) {
        count += (size_t)is_called(names, j, text, bytes, APART_TOO);
    }
    if (count < 2 || bytes >= sizeof choice.text) return;
    memcpy(choice.text, text, bytes);
    choice.bytes = bytes;
    choice.latent = (uint32_t)latent;
    for (size_t i = 0; i < names->n_choices; i++) {
        if (strcmp(names->choices[i].text, choice.text) == 0) return;
    }
    if (names->n_choices == TOOL_MAX_CHOICES) return;
    names->choices[names->n_choices++] = choice;
    say_choice(names, subject, &choice, count);
}

void tool_json_choices(tool_json *json, const tool_names *names) {
    if (names->n_choices == 0) return;
    tool_json_begin(json, "choices", '[');
    for (size_t i = 0; i < names->n_choices; i++) {
        const tool_choice *choice = &names->choices[i];
        const uint64_t support = names->claims[choice->latent].support;
        size_t other = choice->latent;
        tool_json_begin(json, NULL, '{');
        tool_json_text(json, "name", choice->text);
        tool_json_count(json, "latent", choice->latent);
        if (support != TOOL_UNKNOWN) tool_json_count(json, "support", support);
        tool_json_begin(json, "others", '[');
        while ((other = find_name(names, choice->text, choice->bytes, APART_TOO, other)) <
               names->n_latents) {
            tool_json_count(json, NULL, other);
        }
        tool_json_end(json, ']');
        tool_json_end(json, '}');
    }
    tool_json_end(json, ']');
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

const char *tool_nearest_name(const char **names, size_t count, const char *text, size_t bytes,
                              size_t *name_bytes) {
    const char *nearest = NULL;
    size_t least = bytes / 3 + 2; /* beyond that it is another word */
    for (size_t j = 0; j < count && bytes <= LONGEST_COMPARED; j++) {
        const char *name = names[j] != NULL ? names[j] : "";
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
    const char *nearest =
        tool_nearest_name(names->name, names->n_latents, text, bytes, &nearest_bytes);
    if (nearest == NULL) {
        return tool_fail(subject, "no concept is named '%.*s' in %s", width, text,
                         names->table.path);
    }
    return tool_fail(subject, "no concept is named '%.*s' in %s; did you mean '%.*s'?", width, text,
                     names->table.path, (int)nearest_bytes, nearest);
}

/* The latent that the text is the number or name of, or n_latents with nothing said. */
static size_t look_up(const tool_names *names, const char *text, size_t bytes, int how) {
    uint64_t latent;
    if (bytes < 16 && tool_read_number(text, bytes, &latent)) {
        return latent < names->n_latents ? (size_t)latent : names->n_latents;
    }
    return find_name(names, text, bytes, how, names->n_latents);
}

static int find_concept(const char *subject, tool_names *names, const char *text, size_t bytes,
                        uint32_t *latent) {
    const size_t found = look_up(names, text, bytes, APART_TOO);
    if (found < names->n_latents) {
        *latent = (uint32_t)found;
        if (names->name != NULL) keep_choice(names, subject, text, bytes, found);
        return TOOL_OK;
    }
    if (bytes > 0 && strspn(text, "0123456789") >= bytes) {
        return tool_fail(subject, "latent %.*s of a model with %zu", (int)(bytes < 32 ? bytes : 32),
                         text, names->n_latents);
    }
    return fail_unknown(subject, names, text, bytes);
}

int tool_find_concept(const char *subject, tool_names *names, const char *text, uint32_t *latent) {
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
        if (tool_read_real(copy, strlen(copy), &concept->value) &&
            (high == NULL || (tool_read_real(high, strlen(high), &concept->high) &&
                              concept->value <= concept->high))) {
            return TOOL_OK;
        }
    }
    return tool_fail(subject, "'%.*s' is not a value (2, +2, -0.5) or a range (0:1)",
                     (int)(bytes < 64 ? bytes : 64), text);
}

/* 1 when a list's item may be the text: it is a name or, with a second word that is no name itself,
   more than one. */
static int is_item(const tool_names *names, const char *text, size_t bytes, size_t last) {
    const size_t n = names->n_latents;
    if (look_up(names, text, bytes, BY_NAME) < n) return 1;
    last += strspn(text + last, " ");
    return look_up(names, text, bytes, APART_TOO) < n &&
           (last >= bytes || look_up(names, text + last, bytes - last, BY_NAME) == n);
}

/* The end of the item that starts at text: its first comma or, when what lies before a later one
   is a name too, the last of those ("lynx, catamount" is one concept, also where "lynx" names
   it). */
static size_t item_bytes(const tool_names *names, const char *text) {
    enum { MOST_COMMAS = 8 }; /* in a name */
    size_t item = strcspn(text, ","), end = item, last = 0;
    for (int commas = 0; commas <= MOST_COMMAS; commas++) {
        const char *equals = memchr(text, '=', end);
        const size_t bytes = equals != NULL ? (size_t)(equals - text) : end;
        if (is_item(names, text, bytes, last)) item = end;
        if (text[end] == '\0' || equals != NULL) break;
        last = end + 1;
        end += 1 + strcspn(text + end + 1, ",");
    }
    return item;
}

static int read_concept(const char *subject, tool_names *names, const char *text, size_t bytes,
                        tool_concept *concept) {
    const char *equals = memchr(text, '=', bytes);
    const size_t name_bytes = equals != NULL ? (size_t)(equals - text) : bytes;
    memset(concept, 0, sizeof *concept);
    int status = find_concept(subject, names, text, name_bytes, &concept->latent);
    if (status != TOOL_OK || equals == NULL) return status;
    return read_concept_value(subject, equals + 1, bytes - name_bytes - 1, concept);
}

int tool_read_concepts(const char *subject, const char *text, tool_names *names,
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
