/* The tool's option parser, over a table with every kind of option. Each line of the input is an
   argument.
   Options: -max_len=512
   Dictionaries: options */
#include "fuzz.h"
#include "quiet.h"
#include "../../examples/tool/options.c"

enum { MAX_ARGUMENTS = 24 };

typedef struct values {
    tool_common common;
    int flag, choice;
    const char *text, *written, *operands[2];
    size_t count, kept;
    uint64_t number;
    float real, positive;
    tool_counts counts;
    tool_ks ks;
    tool_reals reals;
    tool_rest rest;
} values;

#define AT(member) offsetof(values, member)

static const tool_option options[] = {
    {"FIRST", NULL, TOOL_OPERAND, AT(operands[0]), ""},
    {"SECOND", NULL, TOOL_OPERAND, AT(operands[1]), ""},
    {"MORE", NULL, TOOL_REST, AT(rest), ""},
    {"--flag", NULL, TOOL_FLAG, AT(flag), "a flag"},
    {"-o", "FILE", TOOL_WRITES_MODEL, AT(written), "a name"},
    {"--text", "TEXT", TOOL_TEXT, AT(text), "a text"},
    {"--choice", "first|second|third", TOOL_CHOICE, AT(choice), "one of three words"},
    {"--count", "N", TOOL_COUNT, AT(count), "above zero"},
    {"--kept", "K|all", TOOL_KEPT, AT(kept), "above zero, or all"},
    {"--number", "N", TOOL_NUMBER, AT(number), "of 64 bits"},
    {"--real", "X", TOOL_REAL, AT(real), "zero or above"},
    {"--positive", "X", TOOL_POSITIVE, AT(positive), "above zero"},
    {"--counts", "A,B,..", TOOL_COUNTS, AT(counts), "a list"},
    {"--ks", "A,..,all,own", TOOL_KS, AT(ks), "a list of k"},
    {"--reals", "A,B,..", TOOL_REALS, AT(reals), "a list"},
};

/* One of each relation. */
static const tool_rule rules[] = {
    {NULL, TOOL_REQUIRED, "--text|-o|--count|--ks|--kept|--flag|MORE|SECOND"},
    {"--real", TOOL_NEEDS, "--positive|--number"},
    {"--kept", TOOL_EXCLUDES, "--ks|--text"},
    {"--number", TOOL_TOGETHER, "--positive"},
    {"--text", TOOL_READS, "FIRST|MORE"},
};

static const tool_command command = {
    .name = "command",
    .brief = "does nothing",
    .summary = "Does nothing.",
    .options = options,
    .n_options = COUNT(options),
    .rules = rules,
    .n_rules = COUNT(rules),
    .job_bytes = sizeof(values),
};

static int is_argument(const char *text, int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        if (text >= argv[i] && text <= argv[i] + strlen(argv[i])) return 1;
    }
    return 0;
}

/* What a command may rely on once its arguments were taken. */
static void check_values(const values *v, int argc, char **argv) {
    const char *const texts[] = {v->text, v->written};
    CHECK(v->flag == 0 || v->flag == 1);
    CHECK(v->choice >= 0 && v->choice <= 3);
    for (size_t i = 0; i < COUNT(texts); i++) {
        CHECK(!texts[i] || (*texts[i] && is_argument(texts[i], argc, argv)));
    }
    CHECK(isfinite(v->real) && v->real >= 0);
    CHECK(isfinite(v->positive) && v->positive >= 0);
    CHECK(v->counts.count <= MSAE_MAX_LEVELS && v->reals.count <= MSAE_MAX_LEVELS);
    for (size_t i = 0; i < v->counts.count; i++) CHECK(v->counts.values[i] > 0);
    CHECK(v->ks.count <= MSAE_MAX_LEVELS && (v->ks.own == 0 || v->ks.own == 1));
    for (size_t i = 0; i < v->ks.count; i++) CHECK(v->ks.values[i] > 0);
    for (size_t i = 0; i < v->reals.count; i++) {
        CHECK(isfinite(v->reals.values[i]) && v->reals.values[i] >= 0);
    }
    CHECK(v->rest.count <= (size_t)argc);
    for (size_t i = 0; i < v->rest.count; i++) {
        CHECK(is_argument(v->rest.values[i], argc, argv));
    }
    for (size_t i = 0; i < COUNT(v->operands); i++) {
        CHECK(v->operands[i] && is_argument(v->operands[i], argc, argv));
    }
    CHECK(v->kept == 0 || (v->ks.count == 0 && v->text == NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    char *argv[MAX_ARGUMENTS] = {NULL}, *given[MAX_ARGUMENTS]; /* the rest is moved about in argv */
    int argc = 0, status;
    values job;
    for (size_t at = 0; at < size && argc < MAX_ARGUMENTS; argc++) {
        const uint8_t *end = (const uint8_t *)memchr(input + at, '\n', size - at);
        const size_t next = end ? (size_t)(end - input) : size;
        argv[argc] = fuzz_string(input + at, next - at);
        at = next + 1;
    }
    memset(&job, 0, sizeof job);
    memcpy(given, argv, sizeof given);
    status = tool_parse(&command, &job, argc, argv);
    CHECK(status >= TOOL_GO && status <= TOOL_USAGE);
    if (status == TOOL_GO) check_values(&job, argc, given);
    fuzz_release();
    return 0;
}
