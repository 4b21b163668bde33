#!/usr/bin/env bash
# What the library takes in a program that only runs models: bytes of the object, stack of each call,
# time to compile, what it needs from other libraries, and that no hot call reaches the allocator. Fails
# where it is more than what the manual states. Says what it lacks. From the repository's root:
#     bash tests/footprint.sh BUILD_DIR
# shellcheck disable=SC2086 # lists of options are split where they are used
set -uo pipefail
build=${1:?usage: tests/footprint.sh BUILD_DIR}
out=$build/footprint
mkdir -p "$out"
alone="-DMSAE_NO_STDIO -DMSAE_NO_REFINE -I$build" # with msae_run.h, the header that make pocket makes
no_tables="-fno-asynchronous-unwind-tables -fno-unwind-tables"
most=24576 most_aarch64=26624 # bytes of code and data, gcc -Os
failed=0
printf '#define MSAE_IMPLEMENTATION\n#include "msae.h"\n' >"$out/whole.c"
printf '#define MSAE_IMPLEMENTATION\n#include "msae_run.h"\n' >"$out/alone.c"

fail() {
    echo "FAILED: $*"
    failed=1
}

# Stand-ins for what a freestanding compiler has not: declarations alone.
mkdir -p "$out/headers"
sh examples/mobile/build.sh "$out/mobile" >/dev/null 2>&1
cp "$out"/mobile/stand-in/*.h "$out/headers/" 2>/dev/null

# measure NAME "TOOL" OPTION ..: code and data of the object for inference alone, without unwind tables,
# and of the whole library.
measure() {
    local name=$1 tool=$2 level kind options row
    shift 2
    if ! command -v $tool >/dev/null; then
        echo "$name lacks $tool"
        return
    fi
    for level in -Os -O2; do
        row=$(printf '%-28s %-4s' "$name" $level)
        for kind in alone whole; do
            options=$no_tables
            if [ $kind = alone ]; then options="$options $alone"; fi
            if ! $tool "$@" -std=c99 $level $options -I. -c "$out/$kind.c" -o "$out/$kind.o" 2>"$out/log"; then
                # (the whole library needs a libc that stand-ins cannot be)
                row="$row $(printf '%8s' -)"
                continue
            fi
            bytes=$({ llvm-size "$out/$kind.o" || llvm-size-14 "$out/$kind.o" || size "$out/$kind.o"; } \
                2>/dev/null | awk 'NR == 2 { print $1 + $2 + $3 }')
            row="$row $(printf '%8s' "${bytes:--}")"
            [ "$name$level$kind" = "x86-64, gcc-Osalone" ] && small=$bytes
            [ "$name$level$kind" = "aarch64, gcc-Osalone" ] && small_aarch64=$bytes
        done
        echo "$row"
    done
}

echo "bytes of code and data, without unwind tables        inference alone, whole"
small=0 small_aarch64=0
measure "x86-64, gcc" gcc
measure "x86-64, clang" clang
if command -v aarch64-linux-gnu-gcc >/dev/null; then
    measure "aarch64, gcc" aarch64-linux-gnu-gcc
else
    measure "aarch64, clang" clang --target=aarch64-linux-gnu -ffreestanding -isystem "$out/headers"
fi
measure "wasm32, clang" clang --target=wasm32 -ffreestanding -isystem "$out/headers"
measure "wasm32 SIMD128, clang" clang --target=wasm32 -msimd128 -ffreestanding -isystem "$out/headers"
if [ "$small" -gt 0 ] && [ "$(uname -m)" = x86_64 ]; then
    gcc -std=c99 -Os $alone -c "$out/alone.c" -o "$out/full.o" && strip --strip-unneeded "$out/full.o"
    echo "the first with unwind tables: $(size "$out/full.o" | awk 'NR == 2 { print $4 }')," \
        "as a stripped file: $(wc -c <"$out/full.o")"
    [ "$small" -le $most ] || fail "$small bytes, more than $most"
fi
[ "$small_aarch64" -le $most_aarch64 ] || fail "aarch64: $small_aarch64 bytes, more than $most_aarch64"

echo
echo "what it needs of other libraries: $(gcc -std=c99 -Os $alone -DNDEBUG -c "$out/alone.c" \
    -o "$out/needs.o" && nm -u "$out/needs.o" | awk '{ print $2 }' | xargs)"
cat >"$out/use.c" <<'END'
#define MSAE_IMPLEMENTATION
#include "msae_run.h"
int main(int argc, char **argv) {
    msae_model model;
    msae_code codes[8];
    size_t count;
    float x[64] = {0};
    static char workspace[1 << 20];
    (void)argc;
    if (msae_map(&model, argv[0], 8, 0, 0) != MSAE_OK) return 0;
    if (msae_encode(&model, workspace, x, 8, codes, &count) != MSAE_OK) return 0;
    msae_decode(&model, codes, count, NULL, x);
    return 0;
}
END
for compiler in gcc clang; do
    command -v $compiler >/dev/null || continue
    for level in -O0 -Os -O2; do
        if $compiler -std=c99 $level $alone "$out/use.c" -o "$out/use" && "$out/use"; then
            echo "links without -lm: $compiler $level"
        else
            fail "$compiler $level needs -lm"
        fi
    done
done

echo
echo "stack of the deepest functions of inference alone, -O2, bytes"
if gcc -std=c99 -O2 $alone -fstack-usage -c "$out/alone.c" -o "$out/stack.o"; then
    sort -k 2 -n -r -t "$(printf '\t')" "$out/stack.su" | head -n 5 | sed 's/^[^:]*:[0-9]*:[0-9]*:/    /'
fi
if [ -x "${out%/footprint}/tests/test_stack" ]; then
    "${out%/footprint}/tests/test_stack" | tail -n 1 | sed 's/^/stack of each call within the manual (test_stack): /'
fi

echo
for kind in alone whole; do
    start=$(date +%s%N)
    options=
    if [ $kind = alone ]; then options=$alone; fi
    gcc -std=c99 -O2 $options -I. -c "$out/$kind.c" -o "$out/time.o"
    echo "compiles in $((($(date +%s%N) - start) / 1000000)) ms: gcc -O2, $kind"
done

echo
if "${out%/footprint}/tests/test_inference"; then
    echo "no call of a frame reached the allocator, and mapped memory was only read (test_inference)"
else
    fail "test_inference"
fi
exit $failed
