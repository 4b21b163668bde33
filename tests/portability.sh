#!/usr/bin/env bash
# Builds the library and its tests with every compiler, standard and option there is, and runs them
# on every system that can be had here: natively, under emulators, sanitizers and valgrind.
#     tests/portability.sh [quick|full]     quick takes one of each kind
#     tests/portability.sh --packages       the Debian packages that all of it needs
# A line for each target: passed, FAILED (with the end of its output) or what it lacks; the last one
# counts them. From the repository's root; BUILD is the output folder, ONLY a part of the names of
# the targets to run.
# shellcheck disable=SC2086 # lists of options, of tests and of needs are split where they are used
set -uo pipefail

warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
optimised="-std=c99 -O2 $warnings"

# What a target can need, and the packages that bring it.
needs='
gcc gcc
g++ g++
clang clang
clang++ clang
gcc-32bit gcc-12-multilib g++-12-multilib
cblas libopenblas-dev
tcc tcc
qemu-x86_64 qemu-user
aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
qemu-aarch64 qemu-user
arm-linux-gnueabihf-gcc gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
qemu-arm qemu-user
riscv64-linux-gnu-gcc gcc-riscv64-linux-gnu libc6-dev-riscv64-cross
qemu-riscv64 qemu-user
s390x-linux-gnu-gcc gcc-s390x-linux-gnu libc6-dev-s390x-cross
qemu-s390x qemu-user
x86_64-w64-mingw32-gcc-posix gcc-mingw-w64-x86-64-posix
x86_64-w64-mingw32-g++-posix g++-mingw-w64-x86-64-posix
wine wine wine64
wasi-libc wasi-libc libclang-rt-14-dev-wasm32 lld-14
node nodejs
sanitizers libclang-rt-14-dev
valgrind valgrind
localedef libc-bin
german-locale locales
'

if [ "${1:-}" = --packages ]; then
    echo "$needs" | awk '{ for (i = 2; i <= NF; i++) print $i }' | sort -u
    exit 0
fi

level=${1:-full}
case $level in quick | full) ;; *)
    echo "usage: tests/portability.sh [quick|full|--packages]"
    exit 2
    ;;
esac

root=$PWD
work=${BUILD:-build}/portability
rm -rf "$work"
mkdir -p "$work"
work=$(cd "$work" && pwd)
golden=("$root/tests/golden")
[ "$level" = full ] && [ -d ../shared/golden ] && golden+=("$(cd ../shared/golden && pwd)")

started=0
lacking=0
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

is_full() { [ "$level" = full ]; }

# has NEED: whether what the table names is installed.
has() {
    case $1 in
    gcc-32bit) echo 'int main(void) { return 0; }' | gcc -m32 -x c -o "$work/probe" - ;;
    cblas) echo '#include <cblas.h>' | gcc -fsyntax-only -x c - ;;
    wasi-libc)
        echo 'int main(void) { return 0; }' |
            clang --target=wasm32-wasi -x c -o "$work/probe" -
        ;;
    sanitizers)
        echo 'int main(void) { return 0; }' | clang -fsanitize=memory -x c -o "$work/probe" -
        ;;
    german-locale) [ -e /usr/share/i18n/locales/de_DE ] ;;
    *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

# target NAME "NEED .." COMMAND ..: one line of the report. The command's output is shown when it
# fails; its files go to the folder $dir. As many targets run at once as there are cores.
target() {
    local name=$1 need
    [[ $name == *${ONLY:-}* ]] || return
    for need in $2; do
        if ! has "$need"; then
            printf '%-56s lacks %s (package %s)\n' "$name" "$need" \
                "$(echo "$needs" | sed -n "s/^$need //p")"
            lacking=$((lacking + 1))
            return
        fi
    done
    shift 2
    started=$((started + 1))
    while [ "$(jobs -rp | wc -l)" -ge "$cores" ]; do wait -n; done
    run_target "$name" "$work/target$started" "$@" &
}

run_target() {
    local name=$1 start=$SECONDS outcome=passed
    dir=$2
    shift 2
    mkdir -p "$dir"
    ("$@") >"$dir.log" 2>&1 || outcome=FAILED
    printf '%-56s %s %4d s\n' "$name" $outcome $((SECONDS - start)) >"$dir.report"
    [ $outcome = passed ] || tail -n 20 "$dir.log" | sed 's/^/    /' >>"$dir.report"
    cat "$dir.report" # at once, so that lines of two targets do not mix
    echo $outcome >"$dir.outcome"
    rm -rf "$dir"
}

# check "TEST .." "RUNNER .." COMPILER ..: builds the tests, two at once, and runs them one by one.
# What comes after -- is put behind the source, where libraries belong. (.exe is for Windows.)
check() {
    local tests=$1 runner=$2 test arguments
    local compile=() libraries=(-lm)
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        compile+=("$1")
        shift
    done
    [ $# -gt 0 ] && shift && libraries+=("$@")
    printf '%s\n' $tests | xargs -P 2 -I @ "${compile[@]}" -I. tests/test_@.c -o "$dir/@.exe" \
        "${libraries[@]}" || return 1
    for test in $tests; do
        arguments=()
        [ "$test" = golden ] && arguments=("${golden[@]}")
        echo "== $test"
        $runner "$dir/$test.exe" "${arguments[@]}" || return 1
    done
}

# Models that the built test_locale writes are the same to the byte as those written natively.
check_models() {
    mkdir -p "$dir/here" "$dir/there"
    gcc -std=c99 -O2 -I. tests/test_locale.c -o "$dir/native" -lm -lpthread || return 1
    "$dir/native" "$dir/here" || return 1
    $1 "$dir/locale.exe" "$dir/there" && diff -r "$dir/here" "$dir/there"
}

# check_foreign "TEST .." "RUNNER .." COMPILER ..: check, and the files it writes.
check_foreign() {
    check "$@" || return 1
    local tests=$1 runner=$2
    shift 2
    check "locale" "true" "$@" && check_models "$runner"
}

# Only the paths named may have run: scalar, avx2, avx512, simd128.
check_paths() {
    local expected=$1
    shift
    check "$@" >"$dir/paths" 2>&1
    local status=$?
    cat "$dir/paths"
    [ $status -eq 0 ] &&
        [ "$(sed -n 's/^\(scalar\|avx2\|avx512\|simd128\) .*/\1/p' "$dir/paths" | xargs)" = "$expected" ]
}

# check_configuration COMPILER .. : the header as a program of two files, one with the code.
check_configuration() {
    printf '#define MSAE_IMPLEMENTATION\n#include "msae.h"\n' >"$dir/code.c"
    printf '%s\n' '#include "msae.h"' \
        'int main(void) { return msae_status_text(MSAE_OK)[0] != 111; }' >"$dir/main.c"
    if [[ " $* " == *" -DMSAE_STATIC "* ]]; then
        printf '#define MSAE_IMPLEMENTATION\n' | cat - "$dir/main.c" >"$dir/own.c"
        mv "$dir/own.c" "$dir/main.c"
    fi
    "$@" $warnings -I. -c "$dir/code.c" -o "$dir/code.o" &&
        "$@" $warnings -I. -c "$dir/main.c" -o "$dir/main.o" || return 1
    local link=() word
    for word in "$@"; do # -x would take the objects for sources
        case $word in -x | c | c++) ;; *) link+=("$word") ;; esac
    done
    "${link[@]}" "$dir/code.o" "$dir/main.o" -o "$dir/program" -lm -lpthread && "$dir/program"
}

# Every set of the macros (quick: each alone, and all) in one language.
check_configurations() {
    local macros=(MSAE_RUN_ONLY MSAE_NO_STDIO MSAE_NO_TRAIN MSAE_NO_ANALYSIS MSAE_NO_SIMD
        MSAE_NO_REFINE MSAE_USE_PTHREADS MSAE_STATIC)
    local set i all=$(((1 << ${#macros[@]}) - 1)) options
    for ((set = 0; set <= all; set++)); do
        options=()
        for ((i = 0; i < ${#macros[@]}; i++)); do
            [ $((set >> i & 1)) -eq 1 ] && options+=("-D${macros[i]}")
        done
        is_full || [ ${#options[@]} -le 1 ] || [ "$set" -eq "$all" ] || continue
        echo "== ${options[*]}"
        check_configuration "$@" "${options[@]}" || return 1
    done
    for options in -DMSAE_FORCE_AVX2 "-include $work/own_memory.h"; do
        echo "== $options"
        check_configuration "$@" $options || return 1
    done
}

cat >"$work/own_memory.h" <<'END'
#include <stdlib.h>
#define MSAE_MALLOC(bytes) malloc((bytes) + 1)
#define MSAE_FREE(memory) free(memory)
#define MSAE_ASSERT(condition) ((condition) ? (void)0 : abort())
END

tests="golden kernels topk files checkpoints"
few="golden kernels"

# --- standards, levels, word size ---------------------------------------------------------------
standards="c99 c11 c17 c2x"
standards_cpp="c++11 c++14 c++17 c++20"
levels="-O0 -O1 -O2 -O3 -ffast-math"
if ! is_full; then
    standards="c2x"
    standards_cpp="c++11 c++20"
    levels="-O0 -O3 -ffast-math"
fi
for compiler in gcc clang; do
    cpp=g++
    [ $compiler = clang ] && cpp=clang++
    for standard in $standards; do
        target "$compiler -std=$standard" $compiler \
            check "$few" "" $compiler -std="$standard" -O2 $warnings -- -lpthread
    done
    for standard in $standards_cpp; do
        target "$cpp -std=$standard" $cpp \
            check "$few" "" $cpp -x c++ -std="$standard" -O2 $warnings -- -lpthread
    done
    for option in $levels; do
        options=$option
        some=$tests
        if [ "$option" = -ffast-math ]; then # NaN is found by its bits
            options="-O2 -ffast-math"
            some="$tests model training analysis"
        elif ! is_full; then
            some=$few
        fi
        target "$compiler $options" $compiler \
            check "$some" "" $compiler -std=c99 $options $warnings -- -lpthread
    done
    some=$few
    is_full && some=$tests
    target "$compiler -m32" "$compiler gcc-32bit" \
        check "$some" "" $compiler -m32 $optimised -- -lpthread
done

# --- configurations -----------------------------------------------------------------------------
for compiler in gcc clang; do
    target "$compiler, every configuration as C99" $compiler \
        check_configurations $compiler -std=c99 -O0
done
target "g++, every configuration as C++11" g++ check_configurations g++ -x c++ -std=c++11 -O0
target "clang++, every configuration as C++11" clang++ \
    check_configurations clang++ -x c++ -std=c++11 -O0
for compiler in gcc clang; do
    target "$compiler, MSAE_NO_SIMD" $compiler \
        check_paths scalar "$few" "" $compiler $optimised -DMSAE_NO_SIMD -- -lpthread
    target "$compiler, MSAE_USE_CBLAS" "$compiler cblas" \
        check "golden topk files" "env OPENBLAS_NUM_THREADS=1" $compiler $optimised \
        -DMSAE_USE_CBLAS -- -lopenblas -lpthread
    target "$compiler, own memory and assert" $compiler \
        check "golden files" "" $compiler $optimised -include "$work/own_memory.h" -- -lpthread
done
target "tcc" tcc check "$tests" "" tcc -std=c99 -Wall -Werror -DTEST_NO_THREADS

# --- other processors ---------------------------------------------------------------------------
target "x86-64 without AVX2 (qemu, Westmere)" "gcc qemu-x86_64" \
    check_paths scalar "$few" "qemu-x86_64 -cpu Westmere" gcc $optimised -- -lpthread
target "x86-64 with AVX2, without AVX-512 (qemu, max)" "gcc qemu-x86_64" \
    check_paths "scalar avx2" "$few" "qemu-x86_64 -cpu max" gcc $optimised -- -lpthread

# emulated NAME PREFIX EMULATOR OPTION ..: topk takes half a minute under an emulator.
emulated() {
    local some="golden kernels files checkpoints"
    is_full && some=$tests
    target "$1" "gcc $2-gcc $3" check_foreign "$some" "$3" "$2-gcc" -static $optimised \
        "${@:4}" -- -lpthread
}
emulated "aarch64, NEON" aarch64-linux-gnu qemu-aarch64
# (readdir of a 64-bit system needs wide offsets)
emulated "armv7" arm-linux-gnueabihf qemu-arm -D_FILE_OFFSET_BITS=64
emulated "riscv64" riscv64-linux-gnu qemu-riscv64
emulated "s390x, big-endian" s390x-linux-gnu qemu-s390x

# --- other systems ------------------------------------------------------------------------------
export WINEPREFIX=$work/wine WINEDEBUG=-all
mingw=x86_64-w64-mingw32-gcc-posix
mingw_cpp=x86_64-w64-mingw32-g++-posix
some="$tests model training"
is_full && some="$some gradients analysis faults"
target "Windows, MinGW-w64 (wine)" "gcc $mingw wine" \
    check_foreign "$some" wine $mingw -static $optimised -- -lpthread
target "MinGW-w64, MSAE_FORCE_AVX2 compiles" $mingw \
    check golden true $mingw -static $optimised -DMSAE_FORCE_AVX2 -- -lpthread
# Its headers make macros of many short names.
cat >"$work/windows_first.c" <<'END'
#include <windows.h>
#include <rpcndr.h>
#define small char /* as Microsoft's has it */
#define MSAE_USE_PTHREADS
#define MSAE_IMPLEMENTATION
#include "msae.h"
int main(void) {
    return msae__simd_available(MSAE_SIMD_SCALAR) ? 0 : 1;
}
END
windows_first() {
    "$@" -I. -Wall -Wextra -Werror "$work/windows_first.c" -o "$dir/a.exe" -lm -lpthread
}
target "MinGW-w64, windows.h first" $mingw windows_first $mingw
target "MinGW-w64, windows.h first, C++" $mingw_cpp windows_first $mingw_cpp -x c++
# Microsoft's own headers are not to be had: stand-ins declare what msae.h uses, fopen as unsafe.
as_clang_cl() {
    printf '#define MSAE_IMPLEMENTATION\n#include "msae.h"\n' >"$dir/code.c"
    local options
    for options in -std=c11 "-std=c11 -mavx2 -mfma -mf16c" "-std=c11 -march=icelake-server" \
        "-std=c11 -DMSAE_NO_SIMD" "-std=c11 -DMSAE_STATIC" "-std=c11 -DMSAE_RUN_ONLY" "-x c++ -std=c++14" \
        "--target=aarch64-pc-windows-msvc -std=c11"; do
        echo "== $options"
        clang --target=x86_64-pc-windows-msvc -fms-compatibility -fms-extensions -nostdinc -Itests/msvc \
            -isystem "$(clang -print-resource-dir)/include" -I. -Wall -Wextra -Werror -fsyntax-only \
            $options "$dir/code.c" || return 1
    done
}
target "clang-cl compiles" clang as_clang_cl
target "WebAssembly (node)" "gcc clang wasi-libc node" \
    check_foreign "$some" "node --no-warnings tests/wasi.mjs" clang --target=wasm32-wasi \
    -Wl,-z,stack-size=1048576 -DTEST_NO_THREADS $optimised
target "WebAssembly with SIMD128 (node)" "clang wasi-libc node" \
    check_paths "scalar simd128" "$tests model small" "node --no-warnings tests/wasi.mjs" clang \
    --target=wasm32-wasi -msimd128 -Wl,-z,stack-size=1048576 -DTEST_NO_THREADS $optimised

# --- sanitizers, valgrind, locale ---------------------------------------------------------------
some="$tests model"
is_full && some="$some training gradients analysis faults threads"
halt="-fno-sanitize-recover=all -g"
if is_full; then
    for compiler in clang gcc; do
        need=$compiler
        [ $compiler = clang ] && need="clang sanitizers"
        target "address and undefined behaviour ($compiler)" "$need" check "$some" "" $compiler \
            -std=c99 -O1 -fsanitize=address,undefined $halt -- -lpthread
    done
fi
# (of a masked vector this sanitizer takes the lanes masked out for used; valgrind sees AVX2)
target "uninitialised memory (clang)" "clang sanitizers" \
    check "$some" "" clang -std=c99 -O1 $warnings -DMSAE_NO_SIMD -fsanitize=memory $halt -- \
    -lpthread
if is_full; then # minutes
    target "data races (clang)" "clang sanitizers" \
        check threads "" clang -std=c99 -O1 $warnings -fsanitize=thread $halt -- -lpthread
fi
target "valgrind" "gcc valgrind" \
    check "golden files" "valgrind -q --error-exitcode=9 --leak-check=full" \
    gcc -std=c99 -O1 -g $warnings -- -lpthread

check_locale() {
    mkdir -p "$dir/locales"
    localedef -i de_DE -f UTF-8 "$dir/locales/de_DE.UTF-8" || return 1
    check locale "env LOCPATH=$dir/locales LC_ALL=de_DE.UTF-8" gcc $optimised -- -lpthread |
        tee "$dir/output"
    grep -q '^1 passed, 0 failed' "$dir/output"
}
target "locale with a decimal comma" "gcc localedef german-locale" check_locale

wait
passed=$(cat "$work"/target*.outcome 2>/dev/null | grep -c passed)
failed=$((started - passed)) # one that left no outcome has failed
echo "$passed passed, $failed failed, $lacking lacking"
[ "$failed" -eq 0 ]
