/* Options: one table for each command serves the parser and the help. */
#include "tool.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* The next of the items between separators: its length, with *text moved behind it and that. */
static const char *next_item(const char **text, char separator, size_t *length) {
    const char *item = *text, *end = strchr(item, separator);
    *length = end != NULL ? (size_t)(end - item) : strlen(item);
    *text = end != NULL ? end + 1 : NULL;
    return item;
}

static int read_list(const char *text, tool_counts *counts, tool_reals *reals) {
    size_t count = 0;
    while (text != NULL) {
        size_t length;
        const char *item = next_item(&text, ',', &length);
        if (count == MSAE_MAX_LEVELS) return 0;
        if (counts != NULL && !read_count(item, length, &counts->values[count])) return 0;
        if (reals != NULL && !read_real(item, length, &reals->values[count])) return 0;
        count++;
    }
    if (counts != NULL) counts->count = count;
    if (reals != NULL) reals->count = count;
    return 1;
}

static int read_ks(const char *text, tool_ks *ks) {
    ks->count = 0;
    ks->own = 0;
    while (text != NULL) {
        size_t length;
        const char *item = next_item(&text, ',', &length);
        if (length == 3 && memcmp(item, "own", 3) == 0) {
            ks->own = 1;
            continue;
        }
        if (ks->count == MSAE_MAX_LEVELS) return 0;
        if (length == 3 && memcmp(item, "all", 3) == 0) {
            ks->values[ks->count] = TOOL_ALL;
        } else if (!read_count(item, length, &ks->values[ks->count])) {
            return 0;
        }
        ks->count++;
    }
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
    case TOOL_FILES:
        *(const char **)option->target = text;
        return length > 0 ? NULL : "a name";
    case TOOL_CHOICE:
        return read_choice(option->argument, text, option->target) ? NULL : option->argument;
    case TOOL_COUNT:
        return read_count(text, length, option->target) ? NULL : "a whole number above zero";
    case TOOL_KEPT:
        if (strcmp(text, "all") == 0) {
            *(size_t *)option->target = TOOL_ALL;
            return NULL;
        }
        return read_count(text, length, option->target) ? NULL
                                                        : "a whole number above zero, or all";
    case TOOL_NUMBER:
        return read_number(text, length, option->target) &&
                       *(uint64_t *)option->target < TOOL_NO_NUMBER
                   ? NULL
                   : "a whole number below 2^64 - 1";
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
    case TOOL_KS:
        return read_ks(text, option->target)
                   ? NULL
                   : "a list of at most 64 whole numbers above zero, all or own";
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

/* Every command that reads rows has this option. */
static int takes_data(const tool_syntax *syntax) {
    size_t i = 0;
    while (i < syntax->n_options && strcmp(syntax->options[i].name, "--tensor") != 0) i++;
    return i < syntax->n_options;
}

/* Whether a help text speaks of latents that are active or dead, or of their frequency. */
static int speaks_of_activity(const char *text) {
    static const char *const words[] = {"active", "dead", "frequency"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strstr(text, words[i]) != NULL) return 1;
    }
    return 0;
}

static int needs_words(const tool_syntax *syntax) {
    size_t i = 0;
    while (i < syntax->n_options && !speaks_of_activity(syntax->options[i].help)) i++;
    return i < syntax->n_options || speaks_of_activity(syntax->summary);
}

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
    if (needs_words(syntax)) {
        puts("\nA latent is active in a row where its value in the row's codes, at the k in use,\n"
             "is not zero. Frequency is the share of rows in which it is active. Dead are latents\n"
             "that are active in no row of the set; while training, in less than 10^-5.5 of the\n"
             "rows of the last 1,000 steps.");
    }
    if (takes_data(syntax)) {
        puts("\nData is a .npy or a safetensors, or several as one set: a pattern in quotes\n"
             "('part-*.npy'; part-2 comes before part-10) or a list (@FILE, one name a line).");
    }
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

/* A place for any option's value. */
typedef union option_value {
    int choice;
    size_t count;
    uint64_t number;
    float real;
    tool_counts counts;
    tool_reals reals;
} option_value;

/* Whether both texts mean the same value to the option. */
static int is_same(const tool_option *option, const char *a, const char *b) {
    if (strcmp(a, b) == 0) return 1;
    if (option->kind == TOOL_TEXT || option->kind == TOOL_FILES || option->kind == TOOL_TEXTS) {
        return 0;
    }
    option_value values[2];
    tool_option other = *option;
    memset(values, 0, sizeof values);
    other.target = &values[0];
    if (read_value(&other, a) != NULL) return 0;
    other.target = &values[1];
    if (read_value(&other, b) != NULL) return 0;
    return memcmp(&values[0], &values[1], sizeof values[0]) == 0;
}

/* Reads the option at argv[0], whose text goes to given[] at the option's place; *used is set to the
   number of arguments it takes up. */
static int read_option(const tool_syntax *syntax, int argc, char **argv, const char **given,
                       int *used) {
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
    const char **earlier = &given[option - syntax->options];
    if (*earlier != NULL && option->kind != TOOL_TEXTS && !is_same(option, *earlier, value)) {
        tool_fail(option->name, "given twice, %s and %s", *earlier, value);
        return TOOL_USAGE;
    }
    *earlier = value;
    const char *expected = read_value(option, value);
    if (expected == NULL) return TOOL_GO;
    return tool_fail(option->name, "'%s' is not %s%s", value,
                     option->kind == TOOL_CHOICE ? "one of " : "", expected);
}

/* ---------------------------------------------------------------------------------------------
   What options have to do with each other
   ------------------------------------------------------------------------------------------ */

static int is_called(const char *name, const char *word, size_t length) {
    return name != NULL && strlen(name) == length && memcmp(name, word, length) == 0;
}

/* What was given for the option or operand that is called so; NULL: nothing. */
static const char *text_of(const tool_syntax *syntax, const char *const *given, const char *word,
                           size_t length) {
    for (size_t i = 0; i < syntax->n_options; i++) {
        if (is_called(syntax->options[i].name, word, length)) return given[i];
    }
    for (size_t i = 0; i < TOOL_MAX_OPERANDS; i++) {
        if (is_called(syntax->operands[i].name, word, length)) return *syntax->operands[i].target;
    }
    return NULL;
}

static void count_file(const char *path, size_t *arrays, size_t *others, const char **array) {
    const size_t length = strlen(path);
    if (length >= 4 && strcmp(path + length - 4, ".npy") == 0) {
        *array = path;
        ++*arrays;
    } else {
        ++*others;
    }
}

/* A tensor's name is of use where one of the files can hold names. */
static int check_reads(const tool_syntax *syntax, const char *const *given, const tool_rule *rule) {
    const char *array = NULL;
    size_t arrays = 0, others = 0, length;
    for (const char *words = rule->others; words != NULL;) {
        const char *word = next_item(&words, '|', &length);
        const char *path = text_of(syntax, given, word, length);
        if (path != NULL) count_file(path, &arrays, &others, &array);
        if (!is_called(syntax->rest_name, word, length)) continue;
        for (size_t i = 0; i < syntax->rest->count; i++) {
            count_file(syntax->rest->values[i], &arrays, &others, &array);
        }
    }
    if (arrays == 0 || others > 0) return TOOL_GO;
    return tool_fail(rule->option, "%s is a .npy, which holds one array without a name", array);
}

/* The option of a rule was given: are the others as the rule wants them? */
static int check_rule(const tool_syntax *syntax, const char *const *given, const tool_rule *rule) {
    char list[128] = "";
    size_t at = 0, length;
    if (rule->relation == TOOL_READS) return check_reads(syntax, given, rule);
    for (const char *words = rule->others; words != NULL;) {
        const char *word = next_item(&words, '|', &length);
        const int is_given = text_of(syntax, given, word, length) != NULL;
        if (is_given && rule->relation == TOOL_NEEDS) return TOOL_GO;
        if (is_given) {
            return tool_usage(syntax->command, "%s and %.*s exclude each other", rule->option,
                              (int)length, word);
        }
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%.*s",
                               at == 0         ? ""
                               : words != NULL ? ", "
                                               : " or ",
                               (int)length, word);
    }
    if (rule->relation == TOOL_EXCLUDES) return TOOL_GO;
    return tool_usage(syntax->command, "%s needs %s", rule->option, list);
}

int tool_is_help(const char *argument) {
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

int tool_parse(const tool_syntax *syntax, int argc, char **argv) {
    return tool_parse_by(syntax, NULL, 0, argc, argv);
}

int tool_parse_by(const tool_syntax *syntax, const tool_rule *rules, size_t n_rules, int argc,
                  char **argv) {
    const char *given[TOOL_MAX_OPTIONS] = {NULL}; /* the text of each option, "" of a flag */
    const char *files = NULL; /* the option for files whose value is the argument before */
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
            int status = read_option(syntax, argc - i, argv + i, given, &used);
            if (status != TOOL_GO) return status;
            const char *value;
            const tool_option *option = find_option(syntax, argv[i], &value);
            files = option->kind == TOOL_FILES && used == 2 ? option->name : NULL;
            continue;
        }
        if (n_operands < wanted) {
            *syntax->operands[n_operands++].target = argv[i];
        } else if (files != NULL && syntax->rest_name != NULL) {
            return tool_usage(syntax->command,
                              "%s takes one FILE, and '%s' follows it: put the pattern of several "
                              "files in quotes, and %s before %s",
                              files, argv[i], syntax->rest_name, files);
        } else if (syntax->rest_name != NULL) {
            argv[syntax->rest->count++] = argv[i]; /* moved to the front, over what was read */
        } else {
            const int is_file = takes_data(syntax) && access(argv[i], F_OK) == 0;
            return tool_usage(syntax->command, "'%s' is one argument too many%s", argv[i],
                              is_file ? ": put the pattern of several files in quotes" : "");
        }
        files = NULL;
    }
    if (n_operands < wanted) {
        return tool_usage(syntax->command, "%s is missing", syntax->operands[n_operands].name);
    }
    for (size_t i = 0; i < n_rules; i++) {
        const char *option = rules[i].option, *value;
        assert(find_option(syntax, option, &value) != NULL);
        if (text_of(syntax, given, option, strlen(option)) == NULL) continue;
        int status = check_rule(syntax, given, &rules[i]);
        if (status != TOOL_GO) return status;
    }
    return TOOL_GO;
}
