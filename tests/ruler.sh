#!/bin/sh
# Counts the instructions in the loops of bench/ruler.h, as the compilers here make them: as many
# multiply-adds (peak, loads), loads (loads, read) and sums (read) as the loop is said to have, or what
# the benchmarks call the most that a processor can do is fiction. Then makes a ruler whose chains
# start alike, which a compiler may merge, to see that merged chains are found. From the repository's
# root: sh tests/ruler.sh. Needs objdump, on x86-64 or aarch64.
passed=0
failed=0
skipped=0

end() {
    if [ "$skipped" -gt 0 ]; then
        echo "$passed passed, $failed failed, $skipped skipped"
    else
        echo "$passed passed, $failed failed"
    fi
    [ "$failed" -eq 0 ]
    exit
}
skip() {
    echo "skipped: $1"
    skipped=$((skipped + 1))
    end
}

case $(uname -m) in x86_64 | aarch64) ;; *) skip "not x86-64 or aarch64" ;; esac
command -v objdump >/dev/null || skip "no objdump here"
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

# Prints for each loop its path, its kind, and how many multiply-adds, sums and loads are in it. The
# loop is what lies between the function's last jump backwards and where it leads to.
cat >"$folder/count.awk" <<'END'
function number(hex, i, value) {
    value = 0
    hex = tolower(hex)
    for (i = 1; i <= length(hex); i++) {
        value = 16 * value + index("0123456789abcdef", substr(hex, i, 1)) - 1
    }
    return value
}
function report(i, from, to, fused, products, sums, loads) {
    for (i = 1; i <= lines; i++) if (target[i] && target[i] < at[i]) { from = target[i]; to = at[i] }
    for (i = 1; i <= lines; i++) {
        if (at[i] < from || at[i] > to) continue
        if (word[i] ~ /^(vfmadd|fmla|fmadd)/) fused++
        if (word[i] ~ /^(mulss|vmulss|fmul)/) products++
        if (word[i] ~ /^(v?addps|v?addss|fadd)/) sums++
        if (rest[i] ~ /\(%r|\[x/) {
            if (word[i] ~ /^ldp/) loads += 2
            else if (word[i] !~ /^(v?mov|st).*%[xyz]mm[0-9]+,-?(0x[0-9a-f]+)?\(/) loads++
        }
    }
    if (products) { fused = products; sums -= products } # a product and a sum make one
    if (to) print path, kind, fused + 0, sums + 0, loads + 0
}
/^[0-9a-f]+ <.*>:$/ {
    if (name) report()
    name = $2
    gsub(/[<>:]/, "", name)
    n = split(name, part, "_")
    path = part[2]
    kind = part[3]
    if (part[1] != "ruler" || kind !~ /^(peak|loads|read)$/ || n != 3) name = ""
    lines = 0
    next
}
name && /^ *[0-9a-f]+:/ {
    lines++
    at[lines] = $1
    sub(/:/, "", at[lines])
    at[lines] = number(at[lines])
    word[lines] = $2
    rest[lines] = $0
    target[lines] = ($2 ~ /^(j|b\.|cbn?z|tbn?z)/ && match($0, /[0-9a-f]+ <ruler/)) ? \
        number(substr($0, RSTART, RLENGTH - 7)) : 0
}
END { if (name) report() }
END

# counts COMPILER HEADER
counts() {
    printf '#include "%s"\nconst ruler *find(const char *path) { return ruler_for(path); }\n' "$2" \
        >"$folder/ruler.c"
    "$1" -std=gnu99 -O2 -Wall -I. -c "$folder/ruler.c" -o "$folder/ruler.o" &&
        objdump -d --no-show-raw-insn "$folder/ruler.o" | awk -f "$folder/count.awk"
}

# Says whether a loop has what it is said to have: RULER_ROW(path, lanes, chains, streams). An unrolled one has
# several times as much.
check() {
    sed -n 's/^ *RULER_ROW(\([a-z0-9]*\), *[0-9]*, *\([0-9]*\), *\([0-9]*\)),*$/\1 \2 \3/p' bench/ruler.h |
        awk -v compiler="$1" '
        NR == FNR { chains[$1, "peak"] = $2; chains[$1, "loads"] = chains[$1, "read"] = $3; next }
        {
            all = chains[$1, $2]
            turns = ($2 == "read" ? $4 : $3) / all
            good = turns >= 1 && turns == int(turns)
            good = good && ($2 == "read" ? $3 : $4) == 0
            good = good && $5 == ($2 == "peak" ? 0 : turns * all)
            printf "%s %s, %s, %s: %d multiply-adds, %d sums, %d loads; %d chains\n", \
                good ? "ok  " : "BAD ", compiler, $1, $2, $3, $4, $5, all
        }' - "$2"
}

for compiler in gcc clang; do
    if ! command -v $compiler >/dev/null; then
        skipped=$((skipped + 1))
        echo "skipped: no $compiler here"
        continue
    fi
    counts $compiler bench/ruler.h >"$folder/counts" || failed=$((failed + 1))
    check $compiler "$folder/counts" >"$folder/report"
    cat "$folder/report"
    passed=$((passed + $(grep -c '^ok' "$folder/report")))
    failed=$((failed + $(grep -c '^BAD' "$folder/report")))
    [ "$(wc -l <"$folder/report")" -ge 6 ] || failed=$((failed + 1)) # two paths, three loops each

    # The same with chains that start alike and are not kept apart.
    sed -e 's/__asm__ volatile("" : "+[xvwm]"(v))/(void)0/' \
        -e 's/start + (k + 2) \* (lanes)/start + 2 * (lanes)/' bench/ruler.h >"$folder/bad.h"
    if counts $compiler "$folder/bad.h" >"$folder/counts" &&
        check $compiler "$folder/counts" | grep -q '^BAD.*peak'; then
        passed=$((passed + 1))
    else
        echo "BAD  $compiler: merged chains are not found"
        failed=$((failed + 1))
    fi
done
end
