#!/bin/sh
# A call of what a switch leaves out is an error of the compiler that names the switch, and the header
# without it compiles. From the repository's root: sh tests/left_out.sh. Uses CC, or cc.
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
passed=0
failed=0

# check SWITCHES NAME CALL: NAME is what the error must say, or nothing where the call must compile
check() {
    printf '#define MSAE_IMPLEMENTATION\n#include "msae.h"\nint main(void) { %s return 0; }\n' "$3" >"$out/a.c"
    # shellcheck disable=SC2086
    if ${CC:-cc} -std=c99 -O1 $1 -I. -c "$out/a.c" -o "$out/a.o" 2>"$out/log"; then
        said=
    else
        said=$(sed -n 's/.*left out by \(MSAE_[A-Z_]*\).*/\1/p' "$out/log" | head -n 1)
        said=${said:-another error}
    fi
    if [ "$said" = "$2" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$1: $3 said '$said', not '$2'"
    fi
}

if ! printf 'extern __attribute__((error("x"))) int f(void);\nint main(void) { return f(); }\n' >"$out/a.c" ||
    ${CC:-cc} -c "$out/a.c" -o "$out/a.o" 2>/dev/null; then
    echo "skipped: this compiler has no such attribute"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
check -DMSAE_RUN_ONLY MSAE_RUN_ONLY 'msae_model m; msae_model_desc d = {0}; msae_model_init(&m, &d, 0);'
check -DMSAE_RUN_ONLY MSAE_RUN_ONLY 'msae_model m = {0}; msae_save_file(&m, "m", 0);'
check -DMSAE_RUN_ONLY MSAE_RUN_ONLY 'msae_trainer_free(0);'
check -DMSAE_RUN_ONLY MSAE_RUN_ONLY 'msae_index_free(0);'
check -DMSAE_NO_REFINE MSAE_NO_REFINE 'msae_model m = {0}; msae_refine_bytes(&m, 1);'
check -DMSAE_RUN_ONLY '' 'msae_model m; msae_load_file(&m, "m", 0, 0); msae_model_free(&m);'
check -DMSAE_NO_TRAIN MSAE_NO_TRAIN 'msae_trainer_free(0);'
check -DMSAE_NO_TRAIN '' 'msae_index_free(0);'
check -DMSAE_NO_ANALYSIS MSAE_NO_ANALYSIS 'msae_index_free(0);'
check -DMSAE_NO_ANALYSIS '' 'msae_trainer_free(0);'
check "-DMSAE_NO_TRAIN -DMSAE_NO_ANALYSIS" '' \
    'msae_model m, c; msae_load_file(&m, "m", 0, 0); msae_compact(&m, MSAE_I8, 0, &c, 0); msae_save_file(&c, "c", 0);'
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
