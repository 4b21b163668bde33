/* The tool's word lists: one word for each line, taken from the line's first column.
   Options: -max_len=256
   Dictionaries: words */
#include "fuzz.h"
#include "quiet.h"
#include "../../examples/tool/files.c"

/* The lines as a reader that knows nothing but the rule would count them. */
static size_t count_lines(const char *text, size_t size) {
    size_t lines = 0, start = 0;
    while (start < size) {
        const char *end = (const char *)memchr(text + start, '\n', size - start);
        const size_t next = end ? (size_t)(end - text) + 1 : size;
        if (!(start == 0 && size >= 5 && memcmp(text, "word\t", 5) == 0)) lines++;
        start = next;
    }
    return lines;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    const char *text = (const char *)fuzz_copy(input, size);
    tool_words words = {NULL, NULL, 0};
    const int status = take_words(&words, text, size, "words.txt");
    if (size > 0 && memchr(text, 0, size)) {
        CHECK(status == TOOL_FAILED);
    } else {
        CHECK(status == TOOL_OK && words.count == count_lines(text, size));
    }
    for (size_t i = 0; i < words.count; i++) {
        const char *word = words.words[i];
        CHECK(word >= words.text && word + strlen(word) <= words.text + size);
        CHECK(strpbrk(word, "\t\r\n") == NULL);
    }
    tool_free_words(&words);
    fuzz_release();
    return 0;
}
