/* Options: one table for each command serves the parser and the help. */
#include "tool.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------------------
   Values, read strictly: the whole text, no minus sign or space or hexadecimal, no overflow
   ------------------------------------------------------------------------------------------ */

static int read_count(const char *text, size_t length, size_t *value) {
    uint64_t number;
    if (!tool_read_number(text, length, &number) || number == 0 || number > SIZE_MAX) return 0;
    *value = (size_t)number;
    return 1;
}

static int read_times(const char *text, size_t length, int *value) {
    size_t count;
    if (!read_count(text, length, &count) || count > MSAE_MAX_REVIVALS) return 0;
    *value = (int)count;
    return 1;
}

static int read_refine(const char *text, size_t length, int *value) {
    size_t count = 0;
    const int is_zero = length > 0 && strspn(text, "0") == length;
    if (!is_zero && (!read_count(text, length, &count) || count > MSAE_MAX_EXCHANGES)) return 0;
    *value = (int)count + 1;
    return 1;
}

static int read_real(const char *text, size_t length, float *value) {
    double number;
    if (text[0] == '-' || !tool_read_real(text, length, &number)) return 0;
    *value = (float)number;
    return isfinite(*value);
}

/* A number as the library's descriptors have it, where 0 means default. */
static int read_setting(const char *text, size_t length, float *value) {
    if (!read_real(text, length, value)) return 0;
    if (*value == 0) *value = MSAE_OFF;
    return 1;
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

/* Whether the value is a text that is taken as it is. */
static int is_text(tool_kind kind) {
    return kind == TOOL_TEXT || kind == TOOL_FILES || kind >= TOOL_WRITES_MODEL;
}

static int takes_value(tool_kind kind) {
    return kind != TOOL_FLAG && kind != TOOL_NEVER;
}

#define WORD_OF(number) #number
#define TEXT_OF(number) WORD_OF(number)

/* Reads the value of an option into its target; NULL when it was fine, otherwise what would have
   been. */
static const char *read_value(const tool_option *option, const char *text, void *target) {
    size_t length = strlen(text);
    switch (option->kind) {
    case TOOL_FLAG:
        *(int *)target = 1;
        return NULL;
    case TOOL_NEVER:
        *(int *)target = MSAE_OFF;
        return NULL;
    case TOOL_CHOICE:
        return read_choice(option->argument, text, target) ? NULL : option->argument;
    case TOOL_COUNT:
        return read_count(text, length, target) ? NULL : "a whole number above zero";
    case TOOL_KEPT:
        if (strcmp(text, "all") == 0) {
            *(size_t *)target = TOOL_ALL;
            return NULL;
        }
        return read_count(text, length, target) ? NULL : "a whole number above zero, or all";
    case TOOL_NUMBER:
        return tool_read_number(text, length, target) && *(uint64_t *)target < TOOL_NO_NUMBER
                   ? NULL
                   : "a whole number below 2^64 - 1";
    case TOOL_REAL:
        return read_real(text, length, target) ? NULL : "a number of zero or above";
    case TOOL_POSITIVE:
        return read_real(text, length, target) && *(float *)target > 0 ? NULL
                                                                       : "a number above zero";
    case TOOL_SETTING:
        return read_setting(text, length, target) ? NULL : "a number of zero or above";
    case TOOL_TIMES:
        return read_times(text, length, target)
                   ? NULL
                   : "a whole number from 1 to " TEXT_OF(MSAE_MAX_REVIVALS);
    case TOOL_REFINE:
        return read_refine(text, length, target)
                   ? NULL
                   : "a whole number from 0 to " TEXT_OF(MSAE_MAX_EXCHANGES);
    case TOOL_COUNTS:
        return read_list(text, target, NULL) ? NULL
                                             : "a list of at most 64 whole numbers above zero";
    case TOOL_KS:
        return read_ks(text, target) ? NULL
                                     : "a list of at most 64 whole numbers above zero, all or own";
    case TOOL_REALS:
        return read_list(text, NULL, target) ? NULL
                                             : "a list of at most 64 numbers of zero or above";
    default: /* TOOL_TEXT, TOOL_FILES, and what is written */
        *(const char **)target = text;
        return length > 0 ? NULL : "a name";
    }
}

static int is_called(const char *name, const char *word, size_t length) {
    return strlen(name) == length && memcmp(name, word, length) == 0;
}

/* ---------------------------------------------------------------------------------------------
   The help of a command
   ------------------------------------------------------------------------------------------ */

/* The place of the first entry of that kind, n_options where there is none. */
static size_t find_kind(const tool_command *command, tool_kind kind) {
    size_t i = 0;
    while (i < command->n_options && command->options[i].kind != kind) i++;
    return i;
}

/* Every command that reads rows has this option. */
static int takes_data(const tool_command *command) {
    size_t i = 0;
    while (i < command->n_options && strcmp(command->options[i].name, "--tensor") != 0) i++;
    return i < command->n_options;
}

/* Whether a help text speaks of latents that are active or dead, or of their frequency. */
static int speaks_of_activity(const char *text) {
    static const char *const words[] = {"active", "dead", "frequency"};
    for (size_t i = 0; i < TOOL_COUNT_OF(words); i++) {
        if (strstr(text, words[i]) != NULL) return 1;
    }
    return 0;
}

static int needs_words(const tool_command *command) {
    size_t i = 0;
    while (i < command->n_options && !speaks_of_activity(command->options[i].help)) i++;
    return i < command->n_options || speaks_of_activity(command->summary);
}

static int is_operand(const tool_option *option) {
    return option->kind == TOOL_OPERAND || option->kind == TOOL_REST;
}

enum { HELP_COLUMN = 28 }; /* where an option's help starts */

static void print_option(const tool_option *option) {
    int width = printf("  %s%s%s", option->name, option->argument != NULL ? " " : "",
                       option->argument != NULL ? option->argument : "");
    if (width >= HELP_COLUMN) {
        putchar('\n');
        width = 0;
    }
    printf("%*s", HELP_COLUMN - width, "");
    for (const char *at = option->help; *at != '\0'; at++) { /* lines under each other */
        putchar(*at);
        if (*at == '\n') printf("%*s", HELP_COLUMN, "");
    }
    putchar('\n');
}

static void print_help(const tool_command *command) {
    printf("msae %s", command->name);
    for (size_t i = 0; i < command->n_options; i++) {
        const tool_option *option = &command->options[i];
        if (!is_operand(option)) continue;
        printf(option->kind == TOOL_REST ? " [%s ..]" : " %s", option->name);
    }
    printf(" [OPTION ..]\n\n%s\n\n", command->summary);
    for (size_t i = 0; i < command->n_options; i++) {
        if (!is_operand(&command->options[i])) print_option(&command->options[i]);
    }
    printf("  %-*s%s\n", HELP_COLUMN - 2, "--help", "this text");
    if (needs_words(command)) {
        puts("\nA latent is active in a row where its value in the row's codes, at the k in use,\n"
             "is not zero. Frequency is the share of rows in which it is active. Dead are latents\n"
             "that are active in no row of the set; while training, in less than 10^-5.5 of the\n"
             "rows of the last 1,000 steps.");
    }
    if (takes_data(command)) {
        puts("\nData is a .npy, an .npz, a safetensors, a file of torch.save or a text of numbers "
             "(.csv,\n"
             ".tsv, .txt), or several as one set: a pattern in quotes ('part-*.npy'; part-2 comes\n"
             "before part-10) or a list (@FILE, one name a line).");
    }
}

int tool_is_help(const char *argument) {
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

/* ---------------------------------------------------------------------------------------------
   The command line
   ------------------------------------------------------------------------------------------ */

/* A command line that is being read. */
typedef struct command_line {
    const tool_command *command;
    char *job;
    const char *given[TOOL_MAX_OPTIONS]; /* the text of each option and operand, "" of a flag */
    size_t n_operands;                   /* met so far */
    const char *files; /* the option for files whose value is the argument before, or NULL */
} command_line;

/* Where the value of an option goes. */
static void *target_of(const command_line *line, const tool_option *option) {
    return line->job + option->at;
}

/* The option that `argument` names, as "--name" or "--name=value"; *value is the latter's, or
   NULL. */
static const tool_option *find_option(const tool_command *command, const char *argument,
                                      const char **value) {
    const char *equals = strncmp(argument, "--", 2) == 0 ? strchr(argument, '=') : NULL;
    size_t length = equals != NULL ? (size_t)(equals - argument) : strlen(argument);
    *value = equals != NULL ? equals + 1 : NULL;
    for (size_t i = 0; i < command->n_options; i++) {
        if (is_called(command->options[i].name, argument, length)) return &command->options[i];
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
    tool_ks ks;
    tool_reals reals;
} option_value;

/* Whether both texts mean the same value to the option. */
static int is_same(const tool_option *option, const char *a, const char *b) {
    if (strcmp(a, b) == 0) return 1;
    if (is_text(option->kind)) return 0;
    option_value values[2];
    memset(values, 0, sizeof values);
    if (read_value(option, a, &values[0]) != NULL) return 0;
    if (read_value(option, b, &values[1]) != NULL) return 0;
    return memcmp(&values[0], &values[1], sizeof values[0]) == 0;
}

/* Reads the option at argv[0]; *used is set to the number of arguments it takes up. */
static int read_option(command_line *line, int argc, char **argv, int *used) {
    const char *command = line->command->name, *value;
    const tool_option *option = find_option(line->command, argv[0], &value);
    *used = 1;
    if (option == NULL) {
        return tool_fail(argv[0], "unknown option (see msae %s --help)", command);
    }
    if (!takes_value(option->kind)) {
        if (value != NULL) return tool_usage(command, "%s takes no value", option->name);
        value = "";
    } else if (value == NULL) {
        if (argc < 2) return tool_usage(command, "%s needs a value", option->name);
        value = argv[1];
        *used = 2;
    }
    line->files = option->kind == TOOL_FILES && *used == 2 ? option->name : NULL;
    const char **earlier = &line->given[option - line->command->options];
    if (*earlier != NULL && !is_same(option, *earlier, value)) {
        tool_fail(option->name, "given twice, %s and %s", *earlier, value);
        return TOOL_USAGE;
    }
    *earlier = value;
    const char *expected = read_value(option, value, target_of(line, option));
    if (expected == NULL) return TOOL_GO;
    return tool_fail(option->name, "'%s' is not %s%s", value,
                     option->kind == TOOL_CHOICE ? "one of " : "", expected);
}

/* The next operand that is needed, or NULL. */
static const tool_option *next_operand(const command_line *line) {
    const tool_command *command = line->command;
    size_t left = line->n_operands;
    for (size_t i = 0; i < command->n_options; i++) {
        if (command->options[i].kind == TOOL_OPERAND && left-- == 0) return &command->options[i];
    }
    return NULL;
}

/* Takes an argument that is no option: one of the operands, or of what may follow them. */
static int read_operand(command_line *line, char *argument) {
    const tool_command *command = line->command;
    const tool_option *operand = next_operand(line);
    const size_t rest = find_kind(command, TOOL_REST);
    const char *files = line->files;
    line->files = NULL;
    if (operand != NULL) {
        line->n_operands++;
        line->given[operand - command->options] = argument;
        *(const char **)target_of(line, operand) = argument;
        return TOOL_GO;
    }
    if (rest == command->n_options) {
        const int is_file = takes_data(command) && access(argument, F_OK) == 0;
        return tool_usage(command->name, "'%s' is one argument too many%s", argument,
                          is_file ? ": put the pattern of several files in quotes" : "");
    }
    if (files != NULL) {
        return tool_usage(command->name,
                          "%s takes one FILE, and '%s' follows it: put the pattern of several "
                          "files in quotes, and %s before %s",
                          files, argument, command->options[rest].name, files);
    }
    tool_rest *others = target_of(line, &command->options[rest]);
    others->values[others->count++] = argument; /* moved to the front, over what was read */
    return TOOL_GO;
}

/* ---------------------------------------------------------------------------------------------
   What options have to do with each other
   ------------------------------------------------------------------------------------------ */

/* What was given for the option or operand that is called so; NULL: nothing. */
static const char *text_of(const command_line *line, const char *word, size_t length) {
    for (size_t i = 0; i < line->command->n_options; i++) {
        if (is_called(line->command->options[i].name, word, length)) return line->given[i];
    }
    return NULL;
}

static void count_file(const char *path, size_t *arrays, size_t *others, const char **array) {
    if (tool_has_ending(path, ".npy")) {
        *array = path;
        ++*arrays;
    } else {
        ++*others;
    }
}

/* A tensor's name is of use where one of the files can hold names. */
static int check_reads(const command_line *line, const tool_rule *rule) {
    const char *array = NULL;
    size_t arrays = 0, others = 0, length;
    for (const char *words = rule->others; words != NULL;) {
        const char *word = next_item(&words, '|', &length);
        for (size_t i = 0; i < line->command->n_options; i++) {
            const tool_option *option = &line->command->options[i];
            if (!is_called(option->name, word, length)) continue;
            if (line->given[i] != NULL) count_file(line->given[i], &arrays, &others, &array);
            if (option->kind != TOOL_REST) continue;
            const tool_rest *rest = target_of(line, option);
            for (size_t r = 0; r < rest->count; r++) {
                count_file(rest->values[r], &arrays, &others, &array);
            }
        }
    }
    if (arrays == 0 || others > 0) return TOOL_GO;
    return tool_fail(rule->option, "%s is a .npy, which holds one array without a name", array);
}

/* "A", "A or B", "A, B or C" of the words of a list. */
static void list_words(const char *words, const char *last, char *text, size_t bytes) {
    size_t length;
    text[0] = '\0';
    for (size_t at = 0; words != NULL && at < bytes;) {
        const char *word = next_item(&words, '|', &length);
        at += (size_t)snprintf(text + at, bytes - at, "%s%.*s",
                               at == 0         ? ""
                               : words != NULL ? ", "
                                               : last,
                               (int)length, word);
    }
}

/* The option of the rule was given, or the rule has none: are the others as it wants them? */
static int check_rule(const command_line *line, const tool_rule *rule) {
    const char *command = line->command->name;
    const int excludes = rule->relation == TOOL_EXCLUDES;
    const int is_one = strchr(rule->others, '|') == NULL;
    char list[128];
    size_t length;
    if (rule->relation == TOOL_READS) return check_reads(line, rule);
    for (const char *words = rule->others; words != NULL;) {
        const char *word = next_item(&words, '|', &length);
        if (text_of(line, word, length) == NULL) continue;
        if (!excludes) return TOOL_GO;
        return tool_usage(command, "%s and %.*s exclude each other", rule->option, (int)length,
                          word);
    }
    if (excludes) return TOOL_GO;
    list_words(rule->others, rule->relation == TOOL_NEEDS ? " or " : " and ", list, sizeof list);
    if (rule->relation == TOOL_NEEDS) return tool_usage(command, "%s needs %s", rule->option, list);
    return is_one ? tool_usage(command, "%s FILE is missing", list)
                  : tool_usage(command, "one of %s is needed", list);
}

/* Two options of which one alone is of no use. */
static int check_pair(const command_line *line, const tool_rule *rule) {
    const int has_one = text_of(line, rule->option, strlen(rule->option)) != NULL;
    const int has_other = text_of(line, rule->others, strlen(rule->others)) != NULL;
    if (has_one == has_other) return TOOL_GO;
    return tool_usage(line->command->name, "%s and %s go together", rule->option, rule->others);
}

static int check_rules(const command_line *line) {
    int status = TOOL_GO;
    for (size_t i = 0; i < line->command->n_rules && status == TOOL_GO; i++) {
        const tool_rule *rule = &line->command->rules[i];
        const char *value;
        assert(rule->option == NULL || find_option(line->command, rule->option, &value) != NULL);
        if (rule->relation == TOOL_TOGETHER) {
            status = check_pair(line, rule);
        } else if (rule->option == NULL ||
                   text_of(line, rule->option, strlen(rule->option)) != NULL) {
            status = check_rule(line, rule);
        }
    }
    return status;
}

int tool_parse(const tool_command *command, void *job, int argc, char **argv) {
    command_line line = {command, job, {NULL}, 0, NULL};
    const size_t rest = find_kind(command, TOOL_REST);
    assert(command->n_options <= TOOL_MAX_OPTIONS);
    if (rest < command->n_options) {
        *(tool_rest *)target_of(&line, &command->options[rest]) = (tool_rest){argv, 0};
    }
    for (int i = 0, used; i < argc; i += used) {
        int status;
        used = 1;
        if (tool_is_help(argv[i])) {
            print_help(command);
            return TOOL_OK;
        }
        status = argv[i][0] == '-' ? read_option(&line, argc - i, argv + i, &used)
                                   : read_operand(&line, argv[i]);
        if (status != TOOL_GO) return status;
    }
    const tool_option *missing = next_operand(&line);
    if (missing != NULL) return tool_usage(command->name, "%s is missing", missing->name);
    return check_rules(&line);
}
