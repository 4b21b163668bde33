#!/bin/sh
# Runs the tests built in a folder, those of the tool, and the fuzz targets on their seeds; prints
# what fails, then the sum of all cases in the line "N passed, N failed". From the repository's
# root: sh tests/run.sh BUILD_DIR
build=${1:?usage: tests/run.sh BUILD_DIR}
passed=0
failed=0
skipped=0

# run NAME COMMAND..: adds the counts of the test's last line. One that ends without them, or with a
# bad status and no failed case, is a failure.
run() {
    name=$1
    shift
    output=$("$@" 2>&1)
    status=$?
    last=$(printf '%s\n' "$output" | tail -n 1)
    [ "$status" -eq 0 ] || printf '%s\n' "$output"
    printf '%-16s %s\n' "$name" "$last"
    # shellcheck disable=SC2046
    set -- $(echo "$last" | awk '/^[0-9]+ passed, [0-9]+ failed/ { print $1, $3, $5 + 0 }')
    passed=$((passed + ${1:-0}))
    skipped=$((skipped + ${3:-0}))
    if [ "$status" -ne 0 ] && [ "${2:-0}" -eq 0 ]; then
        echo "$name: ended with status $status"
        failed=$((failed + 1))
    else
        failed=$((failed + ${2:-1}))
    fi
}

for source in tests/test_*.c; do
    name=$(basename "$source" .c)
    run "$name" "$build/tests/$name"
done
run tool sh tests/tool.sh "$build/msae"
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    run "$name" "$build/fuzz/replay/${name#fuzz_}" "$build/fuzz/seeds/${name#fuzz_}"
done

echo
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
