/* The tool's text tables: word lists, and columns by tabs under a header. The input's first byte
   chooses.
   Options: -max_len=256
   Dictionaries: words */
#include "fuzz.h"
#include "quiet.h"
#include "../../examples/tool/places.c"
#include "../../examples/tool/table.c"

/* No data is read here of which rows could be left out. */
int tool_is_skipped(const msae_data *data, size_t row) {
    (void)data;
    (void)row;
    return 0;
}

/* The lines as a reader that knows nothing but the rule would count them. A blank last line is none
   in a table of several columns. */
static size_t count_lines(const char *text, size_t size, int several_columns) {
    size_t lines = 0;
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        size -= 3;
    }
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n' || i == size - 1;
    if (!several_columns || lines < 2) return lines;
    if (text[size - 1] == '\n') size--;
    while (text[size - 1] == '\r') size--;
    return lines - (text[size - 1] == '\n');
}

static void check_table(const tool_table *table, size_t size) {
    for (size_t i = 0; i < table->rows * table->columns; i++) {
        const char *cell = table->cells[i];
        CHECK(cell >= table->text && cell + strlen(cell) <= table->text + size);
        CHECK(strpbrk(cell, "\t\n") == NULL);
    }
}

/* Every row has the class whose name its label is, and each class the rows it counts. */
static void check_labels(const tool_labels *labels) {
    size_t labelled = 0;
    for (size_t r = 0; r < labels->rows; r++) {
        const uint32_t class_of = labels->of_row[r];
        CHECK((class_of == TOOL_NO_LABEL) == (labels->label[r][0] == '\0'));
        if (class_of == TOOL_NO_LABEL) continue;
        CHECK(class_of < labels->n_classes && labels->first[class_of] <= r);
        CHECK(strcmp(labels->classes[class_of], labels->label[r]) == 0);
    }
    for (size_t c = 0; c < labels->n_classes; c++) {
        CHECK(labels->counts[c] > 0);
        CHECK(c == 0 || strcmp(labels->classes[c - 1], labels->classes[c]) < 0);
        labelled += labels->counts[c];
    }
    CHECK(labelled + labels->unlabelled == labels->rows);
}

static void check_columns(tool_table *table) {
    tool_labels labels;
    msae_data data;
    memset(&data, 0, sizeof data); /* no row of it is left out */
    for (size_t column = 0; column < table->columns; column++) {
        memset(&labels, 0, sizeof labels);
        labels.table = *table;
        if (take_labels(&labels, &data, column) == TOOL_OK) check_labels(&labels);
        memset(&labels.table, 0, sizeof labels.table);
        tool_free_labels(&labels);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    tool_words words;
    if (size == 0) return 0;
    const int has_header = input[0] & 1;
    const char *text = (const char *)fuzz_copy(input + 1, --size);
    memset(&words, 0, sizeof words);
    words.table.path = input[0] & 2 ? "words.tsv" : "words.txt";
    const int status =
        take_table(&words.table, quiet_text(input + 1, size), size, has_header, "word");
    if (size > 0 && memchr(text, 0, size)) CHECK(status == TOOL_FAILED);
    if (status == TOOL_OK) {
        const size_t header = words.table.header != NULL;
        CHECK(header == 1 || !has_header);
        CHECK(words.table.rows + header == count_lines(text, size, words.table.columns > 1));
        check_table(&words.table, size);
        check_columns(&words.table);
        if (!has_header) {
            const size_t column = header ? tool_find_column(&words.table, "word") : 0;
            CHECK(column < words.table.columns && point_at_words(&words, column) == TOOL_OK);
            CHECK(words.count == words.table.rows);
        }
    }
    tool_free_words(&words);
    fuzz_release();
    return 0;
}
