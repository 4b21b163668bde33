/* The tool's JSON reader: what it accepts is a tree of bounded depth with as many values as the text
   can hold, and keys are found under their names.
   Options: -max_len=512
   Dictionaries: json */
#include "fuzz.h"

#include "../../examples/tool/bytes.c"
#include "../../examples/tool/json.c"

/* Visits every value in it; `left` counts down from what there can be. */
static void check_value(const json_value *value, size_t depth, size_t *left) {
    CHECK(depth <= JSON_MAX_DEPTH && *left > 0);
    --*left;
    CHECK(value->kind <= JSON_OBJECT && (value->kind == JSON_TEXT) == (value->text != NULL));
    for (const json_value *v = value->first; v != NULL; v = v->next) {
        CHECK(value->kind == JSON_LIST || value->kind == JSON_OBJECT);
        CHECK((value->kind == JSON_OBJECT) == (v->key != NULL));
        if (v->key != NULL) CHECK(json_find(value, v->key) == v);
        check_value(v, depth + 1, left);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    const char *text = (const char *)fuzz_copy(input, size);
    size_t left = size / 2 + 1;
    json_file file;
    msae_error error;
    const msae_status status = json_parse(&file, text, size, &error);
    if (status == MSAE_OK) {
        check_value(file.root, 0, &left);
    } else {
        CHECK(error.code == MSAE_ERROR_FORMAT && error.message[0] && error.position <= size);
        CHECK(file.root == NULL);
    }
    json_free(&file);
    fuzz_release();
    return 0;
}
