#!/bin/sh
# Training over MPI: the same model as one process, failures that end all ranks, and ranks that are
# killed. Under two minutes on two cores.
#
#     sh tests/mpi.sh BUILD [KILLS]       (make mpi-test)
#
# Gradients are summed in shares (--shares, which msae-mpi does by itself), so that the number of ranks
# does not show in a single bit of the model. Without shares it shows in the last ones, and a TopK or
# Adam makes more of that in the end; how much is printed.
build=${1:?usage: tests/mpi.sh BUILD [KILLS]}
kills=${2:-6}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
msae=$build/msae
files=$build/tests/mpi_files
clip=${CLIP:-../shared/clip/train_f16.npy}
failed=0
passed=0

command -v mpirun >/dev/null || { echo "mpi-test needs mpirun (Debian: openmpi-bin)"; exit 1; }

# Open MPI wants to be asked twice before it starts as root.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# Each rank leaves its process's number behind.
# shellcheck disable=SC2016
over() {
    ranks=$1
    shift
    rm -f "$folder"/pid.*
    mpirun --quiet --oversubscribe --bind-to none -np "$ranks" \
        sh -c 'echo $$ >"$0/pid.${OMPI_COMM_WORLD_RANK:-0}"; exec "$@"' "$folder" \
        "$build/msae-mpi" "$@"
}

pass() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    echo "FAILED: $*"
    head -n 5 "$folder/stderr"
}
expect() {
    what=$1
    shift
    if "$@"; then pass; else fail "$what"; fi
}

for part in 1 2 3; do
    "$files" rows "$folder/part-$part.npy" $((5000 + 1111 * part)) 64 $part || exit 1
done
shards="$folder/part-*.npy"

# ------------------------------------------------------------------------------------------------
# 200 steps over two and three processes, and over one
# ------------------------------------------------------------------------------------------------

# agree NAME RANKS DATA OPTION..: the bytes of one process
agree() {
    name=$1
    ranks=$2
    data=$3
    shift 3
    for seed in 0 1; do
        [ -e "$folder/one.$name.$seed" ] ||
            "$msae" train "$data" -o "$folder/one.$name.$seed" --seed $seed --threads 1 \
                --shares 12 "$@" >/dev/null 2>"$folder/stderr"
        over "$ranks" train "$data" -o "$folder/many" --seed $seed --threads 1 "$@" \
            >/dev/null 2>"$folder/stderr"
        expect "$name over $ranks ranks, seed $seed: other bytes than one process's" \
            cmp "$folder/one.$name.$seed" "$folder/many"
    done
}

for recipe in msae msae-width msae-uw topk batchtopk jumprelu; do
    options="--recipe $recipe --latents 128"
    case $recipe in topk | batchtopk | msae-width) options="$options --k 16" ;; esac
    case $recipe in msae*) options="$options --nesting 16" ;; esac
    for ranks in 2 3; do
        # windows of a third and a fifth of the rows; batches that neither 2 nor 3 divides
        # shellcheck disable=SC2086
        agree "$recipe, shards" $ranks "$shards" $options --window 1 --batch 217 --epochs 2
        # shellcheck disable=SC2086
        [ -e "$clip" ] &&
            agree "$recipe, clip" $ranks "$clip" $options --window 20 --batch 241 --epochs 1
    done
done
[ -e "$clip" ] || echo "no $clip: not compared on it"
options="--recipe topk --latents 128 --k 16 --window 1 --batch 217 --epochs 2 --threads 1"
# shellcheck disable=SC2086
for ranks in 1 2; do
    "$msae" train "$shards" -o "$folder/plain" $options >/dev/null 2>"$folder/stderr"
    over $ranks train "$shards" -o "$folder/many" $options --no-shares >/dev/null 2>"$folder/stderr"
    echo "topk, $ranks ranks, without shares:$("$files" compare "$folder/plain" "$folder/many" 1e-5)"
    if [ $ranks -eq 1 ]; then
        expect "one rank without shares: the bytes of msae train" cmp "$folder/plain" "$folder/many"
    else
        expect "two ranks without shares: about the same" \
            "$files" compare "$folder/plain" "$folder/many" 1e-2 >/dev/null
    fi
done
expect "a share for each rank" [ "$(over 3 train "$shards" -o "$folder/many" $options --shares 2 \
    2>&1 | grep -c 'fewer shares than')" -eq 1 ]

# From one process to two, and back to one.
options="--recipe jumprelu --latents 64 --batch 217 --window 1 --threads 1 --schedule constant"
# shellcheck disable=SC2086
{
    "$msae" train "$shards" -o "$folder/whole" $options --epochs 3 --shares 12
    "$msae" train "$shards" -o "$folder/m" $options --epochs 1 --checkpoint "$folder/run" \
        --shares 12
    over 2 train "$shards" -o "$folder/m" $options --epochs 2 --checkpoint "$folder/run" \
        --resume "$folder/run"
    "$msae" train "$shards" -o "$folder/m" $options --epochs 3 --resume "$folder/run" --shares 12
} >/dev/null 2>"$folder/stderr"
expect "from one process to two and back: the same bytes" cmp "$folder/whole" "$folder/m"
rm -f "$folder/run"

# ------------------------------------------------------------------------------------------------
# What is said, by whom
# ------------------------------------------------------------------------------------------------

# How many lines of error a file holds: what a pattern took is a note beside them.
errors_in() {
    grep '^msae: ' "$1" | grep -vc '^msae: note: '
}

# refuse STATUS REGEX RANKS ARGUMENT..: one line that matches
refuse() {
    wanted=$1
    regex=$2
    shift 2
    over "$@" >"$folder/stdout" 2>"$folder/stderr"
    status=$?
    expect "$*: status $status, not $wanted" [ $status -eq "$wanted" ]
    expect "$*: not one line" [ "$(errors_in "$folder/stderr")" -eq 1 ]
    expect "$*: no '$regex'" grep -Eq -e "$regex" "$folder/stderr"
}

refuse 2 'has the commands train and sums' 2
refuse 2 'DATA is missing' 3 train
refuse 1 'missing.npy: cannot be opened' 3 train "$folder/missing.npy" -o "$folder/m"
refuse 1 "$folder/no/m: " 3 train "$shards" -o "$folder/no/m"
expect "help is said once" [ "$(over 3 train --help | grep -c -e --latents)" -eq 1 ]
over 2 train "$shards" -o "$folder/m" --latents 64 --epochs 2 --val "$folder/part-1.npy" --json \
    >"$folder/stdout" 2>"$folder/stderr"
expect "JSON is said once" [ "$(grep -c '"event":"epoch".*"val_loss"' "$folder/stdout")" -eq 2 ]
expect "JSON: which files, once, and nothing else" [ "$(grep -c . "$folder/stderr")" -eq 1 ]
expect "JSON: which files" grep -q ' 3 files, ' "$folder/stderr"
if grep -q avx2 /proc/cpuinfo 2>/dev/null; then
    mpirun --quiet --oversubscribe -np 2 "$build/msae-mpi" train "$shards" -o "$folder/m" \
        --simd avx2 : -np 1 "$build/msae-mpi" train "$shards" -o "$folder/m" --simd scalar \
        >"$folder/stdout" 2>"$folder/stderr"
    expect "other instruction path" grep -q 'rank 2 has another instruction path' "$folder/stderr"
fi

# What fails in the middle of a run: a row that has gone bad, a file that is gone, a checkpoint that
# cannot be written. One line, and the steps up to there are kept.
# (a recipe whose line does not begin as messages do)
long="--recipe msae-uw --latents 64 --batch 217 --epochs 1000 --window 1 --threads 1"
mkdir "$folder/keep"

# spoiled REGEX COMMAND..: runs, does that after the second epoch
spoiled() {
    regex=$1
    shift
    cp "$folder/part-3.npy" "$folder/part-4.npy"
    : >"$folder/stderr"
    # shellcheck disable=SC2086
    over 3 train "$shards" -o "$folder/m" $long --checkpoint "$folder/keep/run" --every 130 \
        >"$folder/stdout" 2>"$folder/stderr" &
    until grep -q '^epoch 2' "$folder/stderr" || ! kill -0 $! 2>/dev/null; do sleep 0.02; done
    "$@"
    wait $!
    status=$?
    grep -v '^epoch ' "$folder/stderr" >"$folder/said"
    expect "$regex: status $status" [ $status -eq 1 ]
    expect "$regex: not one line" [ "$(errors_in "$folder/said")" -eq 1 ]
    expect "no '$regex'" grep -q "$regex" "$folder/said"
}

spoiled 'part-4.npy: row 8000 has a NaN' "$files" spoil "$folder/part-4.npy" 8000
expect "a whole checkpoint" "$msae" info "$folder/keep/run" >"$folder/info"
expect "of the last step" [ "$(sed -n 's/.* \([0-9]*\) steps of training.*/\1/p' \
    "$folder/info")" -gt 270 ]
spoiled 'part-4.npy: ' rm "$folder/part-4.npy"
expect "a whole checkpoint" "$msae" info "$folder/keep/run" >"$folder/info"
spoiled 'keep/run' mv "$folder/keep" "$folder/kept"
expect "a whole checkpoint" "$msae" info "$folder/kept/run" >"$folder/info"
rm -f "$folder/part-4.npy"
mkdir "$folder/keep"

# A signal to one rank stops all.
: >"$folder/stderr"
# shellcheck disable=SC2086
over 3 train "$shards" -o "$folder/m" $long --checkpoint "$folder/keep/run" \
    >"$folder/stdout" 2>"$folder/stderr" &
until grep -q '^epoch 2' "$folder/stderr" || ! kill -0 $! 2>/dev/null; do sleep 0.02; done
kill "$(cat "$folder/pid.1")"
wait $!
expect "status of a signal" [ $? -eq 143 ]
expect "stopped" [ "$(grep -c -e "--resume $folder/keep/run goes on" "$folder/stderr")" -eq 1 ]

# ------------------------------------------------------------------------------------------------
# kill -9 of any rank at random moments; resumed over another number of ranks
# ------------------------------------------------------------------------------------------------

run="--recipe jumprelu --latents 64 --batch 1001 --epochs 20 --window 1 --threads 1"
checkpoint=$folder/run
# shellcheck disable=SC2086
"$msae" train "$shards" -o "$folder/whole" $run --shares 12 >/dev/null 2>&1 || exit 1
awk -v count=$((20 * kills)) 'BEGIN {
    srand()
    for (i = 0; i < count; i++) printf "%d %d %.3f\n", 1 + 3 * rand(), 3 * rand(), 1.2 * rand()
}' >"$folder/moments"

done_kills=0
finished=0
tries=0
said=0
at=0 # steps that are safe
while { [ $done_kills -lt "$kills" ] || [ -e "$checkpoint" ]; } && [ $tries -lt $((20 * kills)) ]; do
    tries=$((tries + 1))
    # shellcheck disable=SC2046
    set -- $(sed -n "${tries}p" "$folder/moments")
    ranks=$1
    victim=$(($2 % $1))
    resume=""
    [ -e "$checkpoint" ] && resume="--resume $checkpoint"
    rm -f "$folder"/pid.*
    : >"$folder/stderr"
    # shellcheck disable=SC2086
    over "$ranks" train "$shards" -o "$folder/model" $run --checkpoint "$checkpoint" --every 10 \
        $resume >"$folder/stdout" 2>"$folder/stderr" &
    until [ -s "$folder/pid.$victim" ]; do sleep 0.01; done
    if [ $done_kills -lt "$kills" ]; then
        # one in three anywhere, the others while it trains
        [ $((tries % 3)) -eq 0 ] ||
            until grep -q inputs "$folder/stderr" || ! kill -0 $! 2>/dev/null; do sleep 0.02; done
        sleep "$3"
        kill -9 "$(cat "$folder/pid.$victim")" 2>/dev/null && done_kills=$((done_kills + 1))
    fi
    if wait $!; then
        finished=$((finished + 1))
        expect "after $done_kills kills: the bytes of an uncut run" \
            cmp "$folder/whole" "$folder/model"
        rm -f "$checkpoint" "$folder/model"
        at=0
        continue
    fi
    said=$((said + $(grep -c -e "--resume $checkpoint goes on" "$folder/stderr")))
    rm -f "$checkpoint".*.tmp
    [ -e "$checkpoint" ] || {
        expect "a checkpoint is still there" [ "$at" -eq 0 ]
        continue
    }
    "$msae" info "$checkpoint" >"$folder/info"
    now=$(sed -n 's/.* \([0-9]*\) steps of training.*/\1/p' "$folder/info")
    expect "the checkpoint is whole, and no older than it was ($at, ${now:-none})" \
        [ "${now:-0}" -ge "$at" ]
    at=${now:-0}
done
echo "$done_kills kills, of which $said ended with how to go on; $finished runs came to their end"
expect "some run came to its end" [ $finished -gt 0 ]

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
