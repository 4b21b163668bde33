#!/bin/sh
# How far the names of latents can be trusted, on the CLIP rows of a folder with train_f16.npy (48,195
# rows of 512), train_meta.tsv, vocab_f16.npy and vocab.tsv.
#     sh bench/names.sh build/msae FOLDER MODEL..        one line for each model
#     OPTIONS='--k 64' sh bench/names.sh ..              further options of msae name
# valid       latents with a valid name, and of these those on fewer than 20 rows
# resolved    names that --latent takes to a latent on fewer than 20 rows where another one of that
#             name is on 100 rows or more
# rare        latents that are among the strongest of fewer than 10 rows
# right       of the latents whose 20 strongest rows share a class that is a word: named so at first
# held out    the same where one half of the rows names, and is judged by the other half's strongest rows
set -eu
msae=$1 clip=$2
shift 2
rows=48195 half=24097
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

# part FIRST COUNT: these rows as a .npy.
part() {
    printf '\223NUMPY\001\000\166\000%-117s\n' \
        "{'descr': '<f2', 'fortran_order': False, 'shape': ($2, 512), }"
    tail -c "$((1024 * (rows - $1)))" "$clip/train_f16.npy" | head -c "$((1024 * $2))"
}
part 0 "$half" >"$folder/a.npy"
part "$half" "$((rows - half))" >"$folder/b.npy"
part 0 1 >"$folder/one.npy"
head -n "$((half + 1))" "$clip/train_meta.tsv" >"$folder/a.tsv"
{ head -n 1 "$clip/train_meta.tsv"; tail -n "$((rows - half))" "$clip/train_meta.tsv"; } >"$folder/b.tsv"

# name MODEL OUT ARGUMENT..
name() {
    model=$1 out=$2
    shift 2
    # shellcheck disable=SC2086
    "$msae" name "$model" --vocab "$clip/vocab_f16.npy" --words "$clip/vocab.tsv" \
        --column classname -o "$out" --json ${OPTIONS:-} "$@" >"$folder/json"
}
# count KEY: of the last check.
count() {
    sed -n "s/.*\"event\":\"check\".*\"$1\":\([0-9]*\).*/\1/p" "$folder/json" | tail -n 1
}

for model in "$@"; do
    name "$model" "$folder/names.tsv" --data "$clip/train_f16.npy" --labels "$clip/train_meta.tsv"
    right=$(count right_first) of=$(count class_is_a_word)
    # Each name once, with the latent that is taken for it.
    cut -f 2 "$folder/names.tsv" | sed 1d | sort -u | grep . >"$folder/asked"
    while read -r asked; do
        latent=$({ "$msae" top "$model" "$folder/one.npy" --latent "$asked" --json --threads 1 \
            --names "$folder/names.tsv" 2>&1 || true; } |
            sed -n -e 's/^{"latent":\([0-9]*\).*/\1/p' -e 's/.*latent: latent \([0-9]*\) is .*/\1/p')
        printf '%s\t%s\n' "$asked" "$latent"
    done <"$folder/asked" >"$folder/taken"
    counts=$(awk -F '\t' '
        NR == FNR { taken[$1] = $2; next }
        FNR == 1 { next }
        { support[$1] = $7; valid += $6; weak += $6 && $7 < 20; rare += $7 < 10 }
        $7 >= 100 { common[$2] = 1 }
        END {
            for (name in taken) names++
            for (name in taken) junk += support[taken[name]] < 20 && common[name]
            printf "%d valid, %d of them on fewer than 20 rows; %d names, %d resolved to junk; %d rare", \
                valid, weak, names, junk, rare
        }' "$folder/taken" "$folder/names.tsv")
    name "$model" "$folder/half.tsv" --data "$folder/a.npy" --test "$folder/b.npy" \
        --test-labels "$folder/b.tsv"
    held=$(count right_first) held_of=$(count class_is_a_word)
    name "$model" "$folder/half.tsv" --data "$folder/b.npy" --test "$folder/a.npy" \
        --test-labels "$folder/a.tsv"
    echo "$model: $counts; right $right of $of; held out $((held + $(count right_first))) of" \
        "$((held_of + $(count class_is_a_word)))"
done
