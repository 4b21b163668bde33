/* The tool's reports, written to nowhere: what the command line's parsers print is put together as
   ever, and costs little. Stands between fuzz.h and the tool's own sources. */
#ifndef FUZZ_QUIET_H
#define FUZZ_QUIET_H

static inline FILE *quiet_file(void) {
    static FILE *file;
    if (!file) file = fopen("/dev/null", "w");
    CHECK(file != NULL);
    return file;
}

#undef stderr
#undef putchar
#define stderr quiet_file()
#define printf(...) fprintf(quiet_file(), __VA_ARGS__)
#define putchar(character) fputc(character, quiet_file())

#include "../../examples/tool/bytes.c"
#include "../../examples/tool/numbers.c"
#include "../../examples/tool/output.c"
#include "../../examples/tool/kinds.c"

/* The text of a file as tool_read_file gives it, for a table that frees it. */
static inline char *quiet_text(const uint8_t *bytes, size_t size) {
    char *text = (char *)malloc(size + 1);
    CHECK(text != NULL);
    if (size > 0) memcpy(text, bytes, size);
    text[size] = '\0';
    return text;
}

/* Files of torch.save have a target of their own. */
int tool_is_torch(const unsigned char *bytes, size_t size) {
    (void)bytes;
    (void)size;
    return 0;
}

#endif
