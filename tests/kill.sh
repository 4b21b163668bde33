#!/bin/sh
# A training run with a checkpoint after every step is killed (kill -9) at random moments and
# resumed, again and again. After every kill the checkpoint is there, whole, and loads; every run that
# gets to its end leaves the bytes of a run that was never cut. (That the bytes are with the disk when
# a file is renamed shows only when the power fails; test_io looks that it is asked for.)
#
#     sh tests/kill.sh MSAE [KILLS]
msae=${1:?usage: tests/kill.sh MSAE [KILLS]}
kills=${2:-500}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
data=examples/data/glove_f16.npy
run="--latents 512 --nesting 16 --batch 2000 --epochs 4 --threads 2"
checkpoint=$folder/run

# shellcheck disable=SC2086
"$msae" train $data -o "$folder/whole" $run >/dev/null 2>&1 || exit 1

# Random moments, from before the first step to the end of a run.
awk -v count="$kills" 'BEGIN {
    srand()
    for (i = 0; i < count; i++) printf "%.4f\n", rand() * 0.5
}' >"$folder/moments"

done_kills=0  # that met a living run
in_writing=0  # of those, while a checkpoint was being written
lost=0        # checkpoints that were there and are not any more, or are torn
finished=0    # runs that got to their end
different=0   # of those, with other bytes
failed=0      # runs that did not want to go on
existed=no
runs=0

while [ "$done_kills" -lt "$kills" ]; do
    runs=$((runs + 1))
    moment=$(sed -n "$((runs % kills + 1))p" "$folder/moments")
    resume=""
    [ -e "$checkpoint" ] && resume="--resume $checkpoint"
    # shellcheck disable=SC2086
    "$msae" train $data -o "$folder/model" $run --checkpoint "$checkpoint" --every 1 $resume \
        >"$folder/output" 2>&1 &
    sleep "$moment"
    if kill -9 $! 2>/dev/null; then
        wait $! 2>/dev/null
        done_kills=$((done_kills + 1))
        if ls "$checkpoint".*.tmp >/dev/null 2>&1; then
            in_writing=$((in_writing + 1))
            rm -f "$checkpoint".*.tmp
        fi
    elif wait $!; then
        finished=$((finished + 1))
        cmp -s "$folder/whole" "$folder/model" || different=$((different + 1))
        rm -f "$checkpoint" "$folder/model"
        existed=no
        continue
    else
        failed=$((failed + 1))
        cat "$folder/output"
        rm -f "$checkpoint"
    fi
    if [ -e "$checkpoint" ]; then
        existed=yes
        "$msae" info "$checkpoint" >/dev/null 2>&1 || lost=$((lost + 1))
    elif [ $existed = yes ]; then
        lost=$((lost + 1))
        existed=no
    fi
done 2>/dev/null

echo "$done_kills kills, $in_writing while a checkpoint was written: $lost lost or torn files;"
echo "$finished runs came to their end, $different with other bytes; $failed failed to go on"
[ "$lost" -eq 0 ] && [ "$different" -eq 0 ] && [ "$failed" -eq 0 ] && [ "$finished" -gt 0 ]
