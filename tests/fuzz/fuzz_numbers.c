/* The floats of a model's header: every finite one is written so that it is read back to the bit,
   and any text that is read is a number that the C library takes for the same.
   Options: -max_len=64
   Dictionaries: numbers */
#include "fuzz.h"

static void check_written(float value) {
    char buffer[32];
    msae__text text = msae__text_in(buffer, sizeof buffer);
    const char *at = buffer;
    int ok = 1;
    float back;
    msae__put_float(&text, value);
    back = (float)msae__read_float(&at, text.at, &ok);
    CHECK(ok && at == text.at && text.at < text.end);
    CHECK(msae__is_finite(value) ? msae__float_bits(back) == msae__float_bits(value) : back == 0);
}

static void check_read(const char *text, size_t bytes) {
    const char *at = text;
    int ok = 1;
    const double value = msae__read_float(&at, text + bytes, &ok);
    CHECK(at >= text && at <= text + bytes);
    if (ok) {
        char *end, *copy = fuzz_string(text, (size_t)(at - text));
        const double want = strtod(copy, &end);
        CHECK(at > text && *end == 0);
        /* as floats, give or take the last bit */
        CHECK((float)value == (float)want || fabs(value - want) <= 1e-13 * fabs(want));
    } else {
        CHECK(at == text && value == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    fuzz_input in = fuzz_input_of(input, size);
    check_written(msae__bits_float(fuzz_bits(&in)));
    check_read((const char *)fuzz_copy(input, size), size);
    fuzz_release();
    return 0;
}
