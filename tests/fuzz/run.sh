#!/bin/sh
# Runs fuzz targets that `make fuzz` has built, one after the other, and ends with a table. Findings
# and logs stay in BUILD/fuzz; a corpus grows from run to run. sh tests/fuzz/run.sh BUILD RUNS NAME..
build=${1:?usage: tests/fuzz/run.sh BUILD RUNS NAME..}/fuzz
runs=${2:?usage: tests/fuzz/run.sh BUILD RUNS NAME..}
shift 2

# field NAME LABEL: what stands behind "LABEL:" in the comment at the top of a target.
field() {
    sed -n "s/^ *$2: \([^*]*[^* ]\).*/\1/p" "tests/fuzz/fuzz_$1.c"
}

# Short stacks and a small quarantine: most of the time goes into allocations otherwise.
ASAN_OPTIONS=malloc_context_size=4:quarantine_size_mb=16:detect_stack_use_after_return=0
export ASAN_OPTIONS

table=$build/table.txt
findings=0
mkdir -p "$build/log"
printf '%-12s %12s %8s %7s %8s %9s\n' target executions exec/s edges 'last new' findings >"$table"
for name in "$@"; do
    log=$build/log/$name.log
    found=$build/findings/$name
    corpus=$build/corpus/$name
    mkdir -p "$found" "$corpus"
    dictionary=$build/$name.dict
    echo "# those of fuzz_$name.c" >"$dictionary"
    for part in $(field "$name" Dictionaries); do cat "tests/fuzz/$part.dict" >>"$dictionary"; done
    echo "$name: $runs executions, log in $log"
    # shellcheck disable=SC2046 # a list of options
    "$build/bin/$name" -runs="$runs" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=64 \
        -reload=0 -print_final_stats=1 -dict="$dictionary" -artifact_prefix="$found/" \
        $(field "$name" Options) "$corpus" "$build/seeds/$name" >"$log" 2>&1
    status=$?
    if [ "$status" -ne 0 ]; then
        findings=$((findings + 1))
        tail -n 40 "$log"
    fi
    # "#12345 NEW cov: 678 ft: .." and "Done 100000 runs in 5 second(s)"
    awk -v name="$name" -v failed="$status" '
        /^#[0-9]+/ {
            run = substr($1, 2) + 0
            for (i = 2; i < NF; i++) {
                if ($i == "cov:" && $(i + 1) + 0 > edges) { edges = $(i + 1) + 0; last = run }
            }
            if (run > total) total = run
        }
        /^Done [0-9]+ runs in/ { total = $2; seconds = $5 }
        END {
            if (seconds == 0) seconds = 1
            printf "%-12s %12d %8d %7d %7.1f%% %9d\n", name, total, total / seconds, edges,
                100 * (total - last) / (total + !total), (failed != 0)
        }' "$log" >>"$table"
done
echo
cat "$table"
echo "last new: the share of the executions since the last new edge was found"
[ "$findings" -eq 0 ] || echo "inputs that failed are in $build/findings"
[ "$findings" -eq 0 ]
