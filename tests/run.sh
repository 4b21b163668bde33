#!/bin/sh
# Runs the tests built in a folder, those of the tool, of the header's text and of the benchmarks'
# ruler, and the fuzz targets on their seeds, as many at a time as there are cores; prints what fails,
# then the sum of all cases in the line "N passed, N failed". From the repository's root:
#     sh tests/run.sh BUILD_DIR
build=${1:?usage: tests/run.sh BUILD_DIR}
results=$(mktemp -d) || exit 1
trap 'rm -rf "$results"' EXIT
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
passed=0
failed=0
skipped=0

# NAME COMMAND.. a line. The longest come first, so that nobody waits for one in the end.
list() {
    echo "test_threads $build/tests/test_threads"
    echo "tool sh tests/tool.sh $build/msae"
    echo "text sh tests/text.sh"
    echo "ruler sh tests/ruler.sh"
    echo "left_out sh tests/left_out.sh"
    for source in tests/test_*.c; do
        name=$(basename "$source" .c)
        [ "$name" = test_threads ] || echo "$name $build/tests/$name"
    done
    for source in tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        [ -d "$build/fuzz/replay" ] || continue # make was told to leave all of them out
        echo "$name $build/fuzz/replay/${name#fuzz_} $build/fuzz/seeds/${name#fuzz_}"
    done
}

# Adds the counts of a test's last line. One that ended without them, or with a bad status and no
# failed case, is a failure.
count() {
    name=$1
    status=$(cat "$results/$name.status" 2>/dev/null || echo none)
    last=$(tail -n 1 "$results/$name.out")
    [ "$status" = 0 ] || cat "$results/$name.out"
    printf '%-16s %s\n' "$name" "$last"
    # shellcheck disable=SC2046
    set -- $(echo "$last" | awk '/^[0-9]+ passed, [0-9]+ failed/ { print $1, $3, $5 + 0 }')
    passed=$((passed + ${1:-0}))
    skipped=$((skipped + ${3:-0}))
    if [ "$status" != 0 ] && [ "${2:-0}" -eq 0 ]; then
        echo "$name: ended with status $status"
        failed=$((failed + 1))
    else
        failed=$((failed + ${2:-1}))
    fi
}

# The results' folder is the first word that the inner shell gets, then come a line's words.
list | sed "s|^|$results |" | xargs -P "$cores" -L 1 sh -c '
    results=$0 name=$1
    shift
    "$@" >"$results/$name.out" 2>&1
    echo $? >"$results/$name.status"'
for name in $(list | cut -d " " -f 1); do count "$name"; done

echo
[ -d "$build/fuzz/replay" ] || echo "(without the fuzz targets on their seeds)"
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
