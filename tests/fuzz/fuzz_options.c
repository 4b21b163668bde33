/* The tool's option parser, over a table with every kind of option. Each line of the input is an
   argument.
   Options: -max_len=512
   Dictionaries: options */
#include "fuzz.h"
#include "quiet.h"
#include "../../examples/tool/options.c"

enum { MAX_ARGUMENTS = 24 };

static struct {
    int flag, choice;
    const char *text, *operands[TOOL_MAX_OPERANDS];
    size_t count, kept;
    uint64_t number;
    float real, positive;
    tool_counts counts;
    tool_ks ks;
    tool_reals reals;
    tool_texts texts;
    tool_rest rest;
} values;

static const tool_option options[] = {
    {"--flag", NULL, TOOL_FLAG, &values.flag, "a flag"},
    {"-o", "FILE", TOOL_TEXT, &values.text, "a name"},
    {"--choice", "first|second|third", TOOL_CHOICE, &values.choice, "one of three words"},
    {"--count", "N", TOOL_COUNT, &values.count, "above zero"},
    {"--kept", "K|all", TOOL_KEPT, &values.kept, "above zero, or all"},
    {"--number", "N", TOOL_NUMBER, &values.number, "of 64 bits"},
    {"--real", "X", TOOL_REAL, &values.real, "zero or above"},
    {"--positive", "X", TOOL_POSITIVE, &values.positive, "above zero"},
    {"--counts", "A,B,..", TOOL_COUNTS, &values.counts, "a list"},
    {"--ks", "A,..,all,own", TOOL_KS, &values.ks, "a list of k"},
    {"--reals", "A,B,..", TOOL_REALS, &values.reals, "a list"},
    {"--text", "FILE", TOOL_TEXTS, &values.texts, "several names"},
};

static const tool_syntax syntax = {
    "command",       {{"FIRST", &values.operands[0]}, {"SECOND", &values.operands[1]}},
    "Does nothing.", options,
    COUNT(options),  "MORE",
    &values.rest,
};

static int is_argument(const char *text, int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        if (text >= argv[i] && text <= argv[i] + strlen(argv[i])) return 1;
    }
    return 0;
}

/* What a command may rely on once its arguments were taken. */
static void check_values(int argc, char **argv) {
    CHECK(values.flag == 0 || values.flag == 1);
    CHECK(values.choice >= 0 && values.choice <= 3);
    CHECK(!values.text || (*values.text && is_argument(values.text, argc, argv)));
    CHECK(isfinite(values.real) && values.real >= 0);
    CHECK(isfinite(values.positive) && values.positive >= 0);
    CHECK(values.counts.count <= MSAE_MAX_LEVELS && values.reals.count <= MSAE_MAX_LEVELS);
    for (size_t i = 0; i < values.counts.count; i++) CHECK(values.counts.values[i] > 0);
    CHECK(values.ks.count <= MSAE_MAX_LEVELS && (values.ks.own == 0 || values.ks.own == 1));
    for (size_t i = 0; i < values.ks.count; i++) CHECK(values.ks.values[i] > 0);
    for (size_t i = 0; i < values.reals.count; i++) {
        CHECK(isfinite(values.reals.values[i]) && values.reals.values[i] >= 0);
    }
    CHECK(values.texts.count <= TOOL_MAX_TEXTS && values.rest.count <= (size_t)argc);
    for (size_t i = 0; i < values.texts.count; i++) {
        CHECK(*values.texts.values[i] && is_argument(values.texts.values[i], argc, argv));
    }
    for (size_t i = 0; i < values.rest.count; i++) {
        CHECK(is_argument(values.rest.values[i], argc, argv));
    }
    for (size_t i = 0; i < TOOL_MAX_OPERANDS; i++) {
        CHECK(values.operands[i] && is_argument(values.operands[i], argc, argv));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    char *argv[MAX_ARGUMENTS] = {NULL}, *given[MAX_ARGUMENTS]; /* the rest is moved about in argv */
    int argc = 0, status;
    for (size_t at = 0; at < size && argc < MAX_ARGUMENTS; argc++) {
        const uint8_t *end = (const uint8_t *)memchr(input + at, '\n', size - at);
        const size_t next = end ? (size_t)(end - input) : size;
        argv[argc] = fuzz_string(input + at, next - at);
        at = next + 1;
    }
    memset(&values, 0, sizeof values);
    memcpy(given, argv, sizeof given);
    status = tool_parse(&syntax, argc, argv);
    CHECK(status >= TOOL_GO && status <= TOOL_USAGE);
    if (status == TOOL_GO) check_values(argc, given);
    fuzz_release();
    return 0;
}
