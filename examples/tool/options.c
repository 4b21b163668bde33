/* Options: one table for each command serves the parser and the help. */
#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------
   Values, read strictly: the whole text, no sign or space or hexadecimal, no overflow
   ------------------------------------------------------------------------------------------ */

static int read_number(const char *text, size_t length, uint64_t *value) {
    *value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return 0;
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (*value > (UINT64_MAX - digit) / 10) return 0;
        *value = *value * 10 + digit;
    }
    return length > 0;
}

static int read_count(const char *text, size_t length, size_t *value) {
    uint64_t number;
    if (!read_number(text, length, &number) || number == 0 || number > SIZE_MAX) return 0;
    *value = (size_t)number;
    return 1;
}

static int read_real(const char *text, size_t length, float *value) {
    char copy[64], *end;
    if (length == 0 || length >= sizeof copy) return 0;
    memcpy(copy, text, length);
    copy[length] = '\0';
    /* Keeps out what strtod would take besides: spaces, "inf", "nan", hexadecimal, a minus sign. */
    if (strspn(copy, "0123456789.eE+-") != length || copy[0] == '-') return 0;
    *value = (float)strtod(copy, &end); /* the locale is "C": nobody calls setlocale */
    return end == copy + length && isfinite(*value);
}

static int read_choice(const char *words, const char *text, int *value) {
    size_t length = strlen(text);
    for (int place = 1; words != NULL; place++) {
        const char *end = strchr(words, '|');
        size_t bytes = end != NULL ? (size_t)(end - words) : strlen(words);
        if (bytes == length && memcmp(words, text, length) == 0) {
            *value = place;
            return 1;
        }
        words = end != NULL ? end + 1 : NULL;
    }
    return 0;
}

/* The next of the numbers between commas: its length, with *text moved behind it and its comma. */
static const char *next_item(const char **text, size_t *length) {
    const char *item = *text, *end = strchr(item, ',');
    *length = end != NULL ? (size_t)(end - item) : strlen(item);
    *text = end != NULL ? end + 1 : NULL;
    return item;
}

static int read_list(const char *text, tool_counts *counts, tool_reals *reals) {
    size_t count = 0;
    while (text != NULL) {
        size_t length;
        const char *item = next_item(&text, &length);
        if (count == MSAE_MAX_LEVELS) return 0;
        if (counts != NULL && !read_count(item, length, &counts->values[count])) return 0;
        if (reals != NULL && !read_real(item, length, &reals->values[count])) return 0;
        count++;
    }
    if (counts != NULL) counts->count = count;
    if (reals != NULL) reals->count = count;
    return 1;
}

static int add_text(tool_texts *texts, const char *text) {
    if (texts->count == TOOL_MAX_TEXTS) return 0;
    texts->values[texts->count++] = text;
    return 1;
}

/* Reads the value of an option; NULL when it was fine, otherwise what would have been. */
static const char *read_value(const tool_option *option, const char *text) {
    size_t length = strlen(text);
    switch (option->kind) {
    case TOOL_FLAG:
        *(int *)option->target = 1;
        return NULL;
    case TOOL_TEXT:
        *(const char **)option->target = text;
        return length > 0 ? NULL : "a name";
    case TOOL_CHOICE:
        return read_choice(option->argument, text, option->target) ? NULL : option->argument;
    case TOOL_COUNT:
        return read_count(text, length, option->target) ? NULL : "a whole number above zero";
    case TOOL_NUMBER:
        return read_number(text, length, option->target) ? NULL : "a whole number below 2^64";
    case TOOL_REAL:
        return read_real(text, length, option->target) ? NULL : "a number of zero or above";
    case TOOL_POSITIVE:
        return read_real(text, length, option->target) && *(float *)option->target > 0
                   ? NULL
                   : "a number above zero";
    case TOOL_COUNTS:
        return read_list(text, option->target, NULL)
                   ? NULL
                   : "a list of at most 64 whole numbers above zero";
    case TOOL_REALS:
        return read_list(text, NULL, option->target)
                   ? NULL
                   : "a list of at most 64 numbers of zero or above";
    case TOOL_TEXTS:
        if (length == 0) return "a name";
        return add_text(option->target, text) ? NULL : "needed: 16 are the most";
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------
   The command line
   ------------------------------------------------------------------------------------------ */

static void print_help(const tool_syntax *syntax) {
    const int column = 28;
    printf("msae %s", syntax->command);
    for (size_t i = 0; i < TOOL_MAX_OPERANDS && syntax->operands[i].name != NULL; i++) {
        printf(" %s", syntax->operands[i].name);
    }
    if (syntax->rest_name != NULL) printf(" [%s ..]", syntax->rest_name);
    printf(" [OPTION ..]\n\n%s\n\n", syntax->summary);
    for (size_t i = 0; i < syntax->n_options; i++) {
        const tool_option *option = &syntax->options[i];
        int width = printf("  %s%s%s", option->name, option->argument != NULL ? " " : "",
                           option->argument != NULL ? option->argument : "");
        if (width >= column) {
            putchar('\n');
            width = 0;
        }
        printf("%*s", column - width, "");
        for (const char *at = option->help; *at != '\0'; at++) { /* lines under each other */
            putchar(*at);
            if (*at == '\n') printf("%*s", column, "");
        }
        putchar('\n');
    }
    printf("  %-*s%s\n", column - 2, "--help", "this text");
}

/* The option that `argument` names, as "--name" or "--name=value"; *value is the latter's, or
   NULL. */
static const tool_option *find_option(const tool_syntax *syntax, const char *argument,
                                      const char **value) {
    const char *equals = strncmp(argument, "--", 2) == 0 ? strchr(argument, '=') : NULL;
    size_t length = equals != NULL ? (size_t)(equals - argument) : strlen(argument);
    *value = equals != NULL ? equals + 1 : NULL;
    for (size_t i = 0; i < syntax->n_options; i++) {
        const char *name = syntax->options[i].name;
        if (strlen(name) == length && memcmp(name, argument, length) == 0) {
            return &syntax->options[i];
        }
    }
    return NULL;
}

/* Reads the option at argv[0]; *used is set to the number of arguments it takes up. */
static int read_option(const tool_syntax *syntax, int argc, char **argv, int *used) {
    const char *value;
    const tool_option *option = find_option(syntax, argv[0], &value);
    *used = 1;
    if (option == NULL) {
        return tool_fail(argv[0], "unknown option (see msae %s --help)", syntax->command);
    }
    if (option->kind == TOOL_FLAG) {
        if (value != NULL) return tool_usage(syntax->command, "%s takes no value", option->name);
        value = "";
    } else if (value == NULL) {
        if (argc < 2) return tool_usage(syntax->command, "%s needs a value", option->name);
        value = argv[1];
        *used = 2;
    }
    const char *expected = read_value(option, value);
    if (expected == NULL) return TOOL_GO;
    return tool_fail(option->name, "'%s' is not %s%s", value,
                     option->kind == TOOL_CHOICE ? "one of " : "", expected);
}

int tool_is_help(const char *argument) {
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

int tool_parse(const tool_syntax *syntax, int argc, char **argv) {
    size_t n_operands = 0, wanted = 0;
    while (wanted < TOOL_MAX_OPERANDS && syntax->operands[wanted].name != NULL) wanted++;
    if (syntax->rest != NULL) *syntax->rest = (tool_rest){argv, 0};

    for (int i = 0, used; i < argc; i += used) {
        used = 1;
        if (tool_is_help(argv[i])) {
            print_help(syntax);
            return TOOL_OK;
        }
        if (argv[i][0] == '-') {
            int status = read_option(syntax, argc - i, argv + i, &used);
            if (status != TOOL_GO) return status;
        } else if (n_operands < wanted) {
            *syntax->operands[n_operands++].target = argv[i];
        } else if (syntax->rest_name != NULL) {
            argv[syntax->rest->count++] = argv[i]; /* moved to the front, over what was read */
        } else {
            return tool_usage(syntax->command, "'%s' is one argument too many", argv[i]);
        }
    }
    if (n_operands == wanted) return TOOL_GO;
    return tool_usage(syntax->command, "%s is missing", syntax->operands[n_operands].name);
}
