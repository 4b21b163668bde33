/* Text tables: word lists, and tab-separated columns with a header. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------
   Lines and fields, split in place
   ------------------------------------------------------------------------------------------ */

/* Ends the text at its first of the characters `ends`; what follows, or NULL at the text's end. */
static char *cut(char *text, const char *ends) {
    char *end = text + strcspn(text, ends);
    if (*end == '\0') return NULL;
    *end = '\0';
    return end + 1;
}

/* The line behind this one, which becomes a string without its line feed and carriage return; NULL
   when there is none, also behind a last line feed. */
static char *cut_line(char *line) {
    char *next = cut(line, "\n");
    const size_t length = strlen(line);
    if (length > 0 && line[length - 1] == '\r') line[length - 1] = '\0';
    return next != NULL && *next != '\0' ? next : NULL;
}

static size_t count_char(const char *text, char c) {
    size_t count = 0;
    for (; *text != '\0'; text++) count += *text == c;
    return count;
}

static void cut_fields(char *line, const char **fields, size_t count) {
    for (size_t i = 0; i < count; i++) {
        fields[i] = line;
        line = cut(line, "\t");
    }
}

/* Everything from `line` on as rows of `columns` fields; a plain list takes each line's first. */
static int split_rows(tool_table *table, char *line, size_t line_number) {
    table->cells = tool_alloc(line != NULL ? count_char(line, '\n') + 1 : 0,
                              table->columns * sizeof *table->cells);
    if (table->cells == NULL) return tool_fail_memory();
    for (; line != NULL; line_number++) {
        char *next = cut_line(line);
        const size_t fields = count_char(line, '\t') + 1;
        if (table->columns > 1 && line[strspn(line, "\r\n")] == '\0' && next == NULL) break;
        if (table->header != NULL && fields != table->columns) {
            return tool_fail(table->path, "line %zu: %zu columns where the header has %zu",
                             line_number, fields, table->columns);
        }
        cut_fields(line, table->cells + table->rows++ * table->columns, table->columns);
        line = next;
    }
    return TOOL_OK;
}

/* A first line of that name among several columns, or alone in a .tsv, is a header. */
static int is_header(const char *line, const char *column, const char *path) {
    const size_t length = strlen(column);
    size_t end = strcspn(line, "\n"), fields = 1;
    int found = 0;
    if (end > 0 && line[end - 1] == '\r') end--;
    for (size_t i = 0, width; i <= end; i += width + 1, fields++) {
        const char *tab = memchr(line + i, '\t', end - i);
        width = tab != NULL ? (size_t)(tab - line) - i : end - i;
        found |= width == length && memcmp(line + i, column, length) == 0;
    }
    return found && (fields > 2 || tool_has_ending(path, ".tsv"));
}

/* Splits table->text. With a header always, or only where the first line names `column`, or for a
   column NULL where it has several. */
static int split_table(tool_table *table, int has_header, const char *column) {
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    char *line = table->text;
    if (strncmp(line, byte_order_mark, 3) == 0) line += 3;
    if (*line == '\0') line = NULL;
    table->columns = 1;
    if (!has_header && line != NULL) {
        has_header = column != NULL ? is_header(line, column, table->path)
                                    : line[strcspn(line, "\t\n")] == '\t';
    }
    if (!has_header) return split_rows(table, line, 1);
    if (line == NULL) return tool_fail(table->path, "is empty, where a header is needed");
    char *next = cut_line(line);
    table->columns = count_char(line, '\t') + 1;
    table->header = tool_alloc(table->columns, sizeof *table->header);
    if (table->header == NULL) return tool_fail_memory();
    cut_fields(line, table->header, table->columns);
    return split_rows(table, next, 2);
}

/* A table from a file's text of `size` bytes, which it owns from then on. */
static int take_table(tool_table *table, char *text, size_t size, int has_header,
                      const char *column) {
    table->text = text;
    if (strlen(text) != size) {
        const msae_error error = {MSAE_ERROR_FORMAT, MSAE_NO_POSITION, "is not a text file"};
        return tool_fail_content(table->path, TOOL_TEXT_FILE, &error);
    }
    return split_table(table, has_header, column);
}

static int load_table(tool_table *table, const char *path, int has_header, const char *column) {
    char *text;
    size_t size;
    memset(table, 0, sizeof *table);
    table->path = path;
    int status = tool_read_file(path, &text, &size);
    return status == TOOL_OK ? take_table(table, text, size, has_header, column) : status;
}

/* ---------------------------------------------------------------------------------------------
   Tables and word lists
   ------------------------------------------------------------------------------------------ */

int tool_load_table(tool_table *table, const char *path) {
    return load_table(table, path, 1, NULL);
}

void tool_free_table(tool_table *table) {
    free(table->text);
    free(table->header);
    free(table->cells);
}

size_t tool_find_column(const tool_table *table, const char *name) {
    size_t column = 0;
    while (column < table->columns && strcmp(table->header[column], name) != 0) column++;
    return column;
}

int tool_need_column(const tool_table *table, const char *name, size_t *column) {
    char list[256] = "";
    *column = name != NULL ? tool_find_column(table, name) : table->columns;
    if (*column < table->columns) return TOOL_OK;
    for (size_t i = 0, at = 0; i < table->columns && at < sizeof list; i++) {
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i == 0 ? "" : ", ",
                               table->header[i]);
    }
    if (name == NULL) return tool_fail("--column", "is missing: one of %s's %s", table->path, list);
    return tool_fail(table->path, "has no column '%s', but %s%s", name, list,
                     table->columns == 1 && strpbrk(table->header[0], ",;") != NULL
                         ? ": columns are separated by tabs"
                         : "");
}

/* Fails unless the table goes with the rows of data_path. */
static int check_rows(tool_table *table, size_t rows, const char *data_path) {
    /* a blank last line is a label that is missing only where a row is there for it */
    if (table->rows == rows + 1 && table->columns == 1 && table->cells[rows][0] == '\0') {
        table->rows--;
    }
    if (table->rows == rows) return TOOL_OK;
    return tool_fail(table->path, "has %zu entr%s for the %zu row%s of %s", table->rows,
                     table->rows == 1 ? "y" : "ies", rows, tool_plural(rows), data_path);
}

static int point_at_words(tool_words *words, size_t column) {
    const tool_table *table = &words->table;
    words->count = table->rows;
    words->words = tool_alloc(table->rows, sizeof *words->words);
    if (words->words == NULL) return tool_fail_memory();
    for (size_t r = 0; r < table->rows; r++) {
        words->words[r] = table->cells[r * table->columns + column];
    }
    return TOOL_OK;
}

int tool_load_words(tool_words *words, const char *path, const char *column, size_t rows,
                    const char *data_path) {
    size_t place = 0; /* (where there is no header, the lines are the words) */
    memset(words, 0, sizeof *words);
    if (path == NULL) return TOOL_OK;
    int status = load_table(&words->table, path, column != NULL, "word");
    if (status == TOOL_OK && words->table.header != NULL) {
        status = tool_need_column(&words->table, column != NULL ? column : "word", &place);
    }
    if (status == TOOL_OK) status = check_rows(&words->table, rows, data_path);
    return status == TOOL_OK ? point_at_words(words, place) : status;
}

void tool_free_words(tool_words *words) {
    tool_free_table(&words->table);
    free(words->words);
}

/* ---------------------------------------------------------------------------------------------
   Labels
   ------------------------------------------------------------------------------------------ */

/* For qsort: a row and its label. */
typedef struct labelled_row {
    const char *label;
    size_t row;
} labelled_row;

static int by_label(const void *a, const void *b) {
    const labelled_row *x = a, *y = b;
    const int order = strcmp(x->label, y->label);
    if (order != 0) return order;
    return x->row < y->row ? -1 : 1;
}

/* Numbers the classes in the order of their names. */
static int number_classes(tool_labels *labels, const msae_data *data, labelled_row *rows) {
    size_t count = 0;
    for (size_t r = 0; r < labels->rows; r++) {
        const char *label = labels->label[r];
        labels->of_row[r] = TOOL_NO_LABEL;
        if (tool_is_skipped(data, r)) continue;
        if (label[0] == '\0') {
            labels->unlabelled++;
            continue;
        }
        rows[count].label = label;
        rows[count++].row = r;
    }
    qsort(rows, count, sizeof *rows, by_label);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(rows[i].label, rows[i - 1].label) != 0) {
            labels->first[labels->n_classes] = rows[i].row;
            labels->classes[labels->n_classes++] = rows[i].label;
        }
        labels->of_row[rows[i].row] = (uint32_t)(labels->n_classes - 1);
        labels->counts[labels->n_classes - 1]++;
    }
    if (count == 0) return tool_fail(labels->table.path, "no row has a label");
    return TOOL_OK;
}

static int take_labels(tool_labels *labels, const msae_data *data, size_t column) {
    const tool_table *table = &labels->table;
    labels->rows = table->rows;
    labels->of_row = tool_alloc(table->rows, sizeof *labels->of_row);
    labels->label = tool_alloc(table->rows, sizeof *labels->label);
    labels->classes = tool_alloc(table->rows, sizeof *labels->classes);
    labels->counts = tool_alloc(table->rows, sizeof *labels->counts);
    labels->first = tool_alloc(table->rows, sizeof *labels->first);
    labelled_row *rows = tool_alloc(table->rows, sizeof *rows);
    if (labels->of_row == NULL || labels->label == NULL || labels->classes == NULL ||
        labels->counts == NULL || labels->first == NULL || rows == NULL) {
        free(rows);
        return tool_fail_memory();
    }
    for (size_t r = 0; r < table->rows; r++) {
        labels->label[r] = table->cells[r * table->columns + column];
    }
    int status = number_classes(labels, data, rows);
    free(rows);
    return status;
}

int tool_load_labels(tool_labels *labels, const char *path, const char *column,
                     const msae_data *data, const char *data_path) {
    size_t place = 0;
    memset(labels, 0, sizeof *labels);
    if (path == NULL) return TOOL_OK;
    int status = load_table(&labels->table, path, column != NULL, NULL);
    if (status == TOOL_OK && labels->table.header != NULL) {
        status = tool_need_column(&labels->table, column, &place);
    }
    if (status == TOOL_OK) status = check_rows(&labels->table, data->rows, data_path);
    return status == TOOL_OK ? take_labels(labels, data, place) : status;
}

void tool_free_labels(tool_labels *labels) {
    free(labels->of_row);
    free(labels->label);
    free(labels->classes);
    free(labels->counts);
    free(labels->first);
    tool_free_table(&labels->table);
}

double tool_purity(const tool_labels *labels, const msae_hit *hits, size_t rows,
                   uint32_t *class_of) {
    size_t most = 0;
    if (class_of != NULL) *class_of = TOOL_NO_LABEL;
    for (size_t i = 0; i < rows; i++) {
        const uint32_t label = labels->of_row[hits[i].row];
        size_t count = 0;
        for (size_t j = 0; j < rows && label != TOOL_NO_LABEL; j++) {
            count += labels->of_row[hits[j].row] == label;
        }
        if (count <= most) continue;
        most = count;
        if (class_of != NULL) *class_of = label;
    }
    return (double)most / (double)rows;
}
