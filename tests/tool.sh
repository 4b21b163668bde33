#!/bin/sh
# The command-line tool: what it makes, what it says, and what it refuses. A refusal is one line on
# standard error, status 1 (2 for a command line that makes no sense), and nothing written.
#
#     sh tests/tool.sh build/msae
msae=${1:?usage: tests/tool.sh MSAE}
folder=$(mktemp -d) || exit 1
trap 'umount "$folder/out" 2>/dev/null; rm -rf "$folder"' EXIT
out=$folder/out # where outputs would go; empty unless a case is about them
mkdir "$out"
passed=0
failed=0
skipped=0

# ------------------------------------------------------------------------------------------------
# Cases
# ------------------------------------------------------------------------------------------------

pass() {
    passed=$((passed + 1))
}

fail() {
    failed=$((failed + 1))
    echo "tool: $*"
    head -n 3 "$folder/stdout" "$folder/stderr"
}

# expect WHAT COMMAND..: the command must succeed.
expect() {
    what=$1
    shift
    if "$@"; then pass; else fail "$what"; fi
}

# tool ARGUMENT..: runs the tool; leaves $folder/stdout, $folder/stderr and $status.
tool() {
    "$msae" "$@" >"$folder/stdout" 2>"$folder/stderr"
    status=$?
    return $status
}

# accept ARGUMENT..: the tool must do it.
accept() {
    if tool "$@"; then pass; else fail "msae $*: status $status"; fi
}

# refuse STATUS REGEX ARGUMENT..: the tool must not do it, and say why in a line that matches.
refuse() {
    wanted=$1
    regex=$2
    shift 2
    tool "$@"
    if [ "$status" -ne "$wanted" ]; then
        fail "msae $*: status $status, not $wanted"
    elif [ "$(wc -l <"$folder/stderr")" -ne 1 ] || ! grep -q '^msae: ' "$folder/stderr"; then
        fail "msae $*: not one line of error"
    elif ! grep -Eq -e "$regex" "$folder/stderr"; then
        fail "msae $*: no '$regex' in the error"
    elif [ -s "$folder/stdout" ]; then
        fail "msae $*: text on standard output"
    elif [ -n "$(ls -A "$out")" ]; then
        fail "msae $*: left $(ls -A "$out")"
        rm -rf "$out"
        mkdir "$out"
    else
        pass
    fi
}

# ------------------------------------------------------------------------------------------------
# Data
# ------------------------------------------------------------------------------------------------

# header DESCR FORTRAN SHAPE: the first 128 bytes of a .npy.
header() {
    printf '\223NUMPY\001\000\166\000%-117s\n' \
        "{'descr': '$1', 'fortran_order': $2, 'shape': $3, }"
}

# halves COUNT SEED: that many random float16, between 1/4 and 1 and of either sign.
halves() {
    # shellcheck disable=SC2059
    printf "$(awk -v count="$1" -v seed="$2" 'BEGIN {
        srand(seed)
        for (i = 0; i < count; i++) {
            printf "\\%03o\\%03o", int(rand() * 256), int(rand() * 8) + (rand() < 0.5 ? 52 : 180)
        }
    }')"
}

# matrix ROWS COLS SEED: a .npy of random float16.
matrix() {
    header '<f2' False "($1, $2)"
    halves $(($1 * $2)) "$3"
}

# Puts the two bytes $3 (octal escapes) in place of the number at row $1, column 0 of 40 x 8 data.
with_value() {
    head -c $((128 + $1 * 16)) "$folder/data.npy"
    # shellcheck disable=SC2059
    printf "$2"
    tail -c +$((128 + $1 * 16 + 3)) "$folder/data.npy"
}

data=$folder/data.npy
other=$folder/other.npy
narrow=$folder/narrow.npy
words=$folder/words.txt
model=$folder/model.safetensors
codes=$folder/codes.safetensors
matrix 40 8 1 >"$data"
matrix 25 8 2 >"$other"
matrix 40 7 3 >"$narrow"
awk 'BEGIN { for (i = 0; i < 25; i++) print "word" i }' >"$words"
small="--latents 32 --nesting 4 --epochs 2 --batch 16 --threads 2"

# ------------------------------------------------------------------------------------------------
# JSON
# ------------------------------------------------------------------------------------------------

# Whether every line of standard output, at least one, is a JSON object: strings become S, other
# values V, and lists and objects of those V again.
is_json() {
    [ -s "$folder/stdout" ] && ! sed -E \
        -e 's/"([^"\\]|\\["\\\/bfnrt]|\\u[0-9a-f]{4})*"/S/g' \
        -e 's/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?|true|false|null/V/g' \
        -e ':again' \
        -e 's/\[([SV](,[SV])*)?\]/V/g' \
        -e 's/\{(S:[SV](,S:[SV])*)?\}/V/g' \
        -e 't again' "$folder/stdout" | grep -qvx V
}

# lines COUNT REGEX: whether that many lines of standard output match.
lines() {
    [ "$(grep -Ec -e "$2" "$folder/stdout")" -eq "$1" ]
}

# ------------------------------------------------------------------------------------------------
# What it does
# ------------------------------------------------------------------------------------------------

for command in '' train eval encode decode info name; do
    # shellcheck disable=SC2086
    accept $command --help
    expect "help of '$command' has no text" test -s "$folder/stdout"
done
accept --version

# shellcheck disable=SC2086
accept train "$data" -o "$model" $small --json
expect "train: JSON" is_json
expect "train: one line an epoch" lines 2 '^\{"event":"epoch"'
expect "train: one line at the end" lines 1 '^\{"event":"done",.*"rows":80,'
for key in seconds rows_per_s loss threads simd; do
    expect "train: no $key in the last line" lines 1 "^\{\"event\":\"done\",.*\"$key\":"
done
expect "train: text beside the JSON" test ! -s "$folder/stderr"

accept info "$model" --json
expect "info of a model: JSON" is_json
expect "info of a model: content" lines 1 '"recipe":"msae-uw","n_inputs":8,"n_latents":32'
accept info "$model"
accept info "$data" --json
expect "info of data: JSON" is_json
expect "info of data: content" lines 1 '"rows":40,"cols":8,"dtype":"F16"'
accept info "$data"

accept eval "$model" "$other" --json
expect "eval: JSON" is_json
expect "eval: the default sweep" lines 2 '^\{"k":'
for key in fvu_row fvu_set cs sparsity l0 nmse nmae cknna ndn; do
    expect "eval: no $key" lines 2 "\"$key\":"
done
accept eval "$model" "$other" --json --k 1,5,32
expect "eval: chosen k" lines 3 '^\{"k":(1|5|32),'
accept eval "$model" "$other"

accept encode "$model" "$data" -o "$codes" --k 5 --json
expect "encode: JSON" is_json
accept info "$codes" --json
expect "info of codes: JSON" is_json
expect "info of codes: content" lines 1 '"rows":40,"entries":200,'
accept decode "$model" "$codes" -o "$folder/decoded.npy" --json
expect "decode: JSON" is_json
accept info "$folder/decoded.npy" --json
expect "decode: shape" lines 1 '"rows":40,"cols":8,"dtype":"F32"'

accept name "$model" --vocab "$other" --words "$words" --json --top 3
expect "name: JSON" is_json
expect "name: every latent" lines 32 '"name":"word[0-9]*","score":'
accept name "$model" --vocab "$other" --words "$words" -o "$folder/names.tsv"
expect "name: a table" test "$(wc -l <"$folder/names.tsv")" -eq 33
expect "name: its header" test "$(head -n 1 "$folder/names.tsv")" = \
    "$(printf 'latent\tname\tscore\trunner_up\trunner_up_score\tvalid')"

# Names by the strongest rows, and how often they are right.
words_of_other=$(wc -l <"$words" | tr -d ' ')
accept name "$model" --vocab "$other" --words "$words" --data "$data" --json
expect "name by rows: JSON" is_json
expect "name by rows: every latent" lines 32 '^."latent":'
expect "name by rows: ten words" lines 1 '^."latent":0,.*"words":."[^]]*".'
expect "name by rows: the count" lines 1 '"event":"done","latents":32,'
awk -v rows="$words_of_other" 'BEGIN {
    print "row\tkind"
    for (r = 0; r < rows; r++) print r "\t" (r % 3 ? "word1" : "other")
}' >"$folder/kinds.tsv"
accept name "$model" --vocab "$other" --words "$words" --data "$other" --labels "$folder/kinds.tsv" \
    --column kind --test "$other" --test-labels "$folder/kinds.tsv" --json
expect "name: two checks" lines 2 '"event":"check",.*"right_within_ten":'
refuse 1 "no column 'kid', but row, kind" name "$model" --vocab "$other" --words "$words" \
    --data "$other" --labels "$folder/kinds.tsv" --column kid
head -n 7 "$folder/kinds.tsv" >"$folder/few.tsv"
refuse 1 'few.tsv: has 6 entries for the' name "$model" --vocab "$other" --words "$words" \
    --data "$other" --labels "$folder/few.tsv" --column kind
sed '5s/$/\tx/' "$folder/kinds.tsv" >"$folder/wide.tsv"
refuse 1 'wide.tsv: line 5: 3 columns where the header has 2' name "$model" --vocab "$other" \
    --words "$words" --data "$other" --labels "$folder/wide.tsv" --column kind
sed 's/\t[a-z].*/\t/' "$folder/kinds.tsv" | sed '1s/.*/row\tkind/' >"$folder/blank.tsv"
refuse 1 'no row has a label' name "$model" --vocab "$other" --words "$words" --data "$other" \
    --labels "$folder/blank.tsv" --column kind
refuse 2 'needs --data' name "$model" --vocab "$other" --words "$words" --by rows
refuse 1 'is read and would be replaced' name "$model" --vocab "$other" --words "$words" -o "$words"
{ printf 'kind\tword\n'; sed 's/^/x\t/' "$words"; } >"$folder/column.tsv"
accept name "$model" --vocab "$other" --words "$folder/column.tsv" -o "$folder/names2.tsv"
expect "words of a column are the same" cmp -s "$folder/names.tsv" "$folder/names2.tsv"

# An evaluation set with its own mean and scale.
accept eval "$model" "$other" --own-statistics --json
expect "eval of another modality: JSON" is_json
accept eval "$model" "$other"
expect "eval: a table with deviations" lines 1 '^ *16 .*±'

for recipe in msae-uw msae-rw topk batchtopk relu jumprelu; do
    for option in '' --tied --normalize; do
        # shellcheck disable=SC2086
        accept train "$data" -o "$folder/r" --recipe $recipe $option --k 4 $small --val "$other"
        accept eval "$folder/r" "$other"
        accept encode "$folder/r" "$other" -o "$folder/c"
        accept decode "$folder/r" "$folder/c" -o "$folder/d.npy"
    done
done

# The same seed gives the same file, with any number of threads; another seed another one.
# shellcheck disable=SC2086
{
    accept train "$data" -o "$folder/a" $small --seed 3
    accept train "$data" -o "$folder/b" $small --seed 3
    expect "the same seed, the same bytes" cmp -s "$folder/a" "$folder/b"
    accept train "$data" -o "$folder/b" $small --seed 3 --threads 3
    expect "more threads, the same bytes" cmp -s "$folder/a" "$folder/b"
    accept train "$data" -o "$folder/b" $small --seed 4
    expect "another seed, other bytes" test -n "$(cmp "$folder/a" "$folder/b" 2>&1)"
}

# A run that is stopped, at once or later, and resumed ends with the bytes of one that is not; the
# command that began it can be repeated, and what contradicts the checkpoint is refused.
checkpoint=$folder/run
long="--latents 64 --nesting 4 --epochs 200 --batch 8 --threads 2 --lr 0.001"
# shellcheck disable=SC2086
{
    accept train "$data" -o "$folder/whole" $long
    for signal in INT TERM; do
        rm -f "$checkpoint" "$folder/m"
        "$msae" train "$data" -o "$folder/m" $long --checkpoint "$checkpoint" --every 3 \
            >"$folder/stdout" 2>"$folder/stderr" &
        until [ -s "$checkpoint" ] || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
        kill -s $signal $!
        wait $!
        expect "$signal: the status of a program that it ends" \
            test $? -eq "$(case $signal in INT) echo 130 ;; TERM) echo 143 ;; esac)"
        expect "$signal: a line" grep -q -- "--resume $checkpoint" "$folder/stderr"
        expect "$signal: no model" test ! -e "$folder/m"
        accept info "$checkpoint" --json
        expect "$signal: info of a checkpoint" lines 1 '"kind":"checkpoint"'
        accept eval "$checkpoint" "$other"
        accept train "$data" -o "$folder/m" $long --checkpoint "$checkpoint" --resume "$checkpoint"
        expect "$signal: the bytes of a whole run" cmp -s "$folder/whole" "$folder/m"
    done
    accept train "$data" -o "$folder/m" --checkpoint "$checkpoint" --every 2 --json $small
    expect "checkpoints: JSON" is_json
    expect "checkpoints: every two of six steps" lines 3 '^\{"event":"checkpoint","step":[246],'
    accept train "$data" -o "$folder/m" --checkpoint "$checkpoint" --json $small
    expect "checkpoints: every epoch" lines 2 '^\{"event":"checkpoint","step":[36],'
    accept train "$data" -o "$folder/m" --resume "$checkpoint" --epochs 3 --json
    expect "a raised number of epochs" lines 1 '"event":"done",.*"steps":9,'
}
for differs in '--recipe topk' '--latents 31' '--expansion 2' '--nesting 5' '--nesting 4,8' \
    '--weights 1,2,3,4' '--weights 1' '--activation abs' --tied --normalize \
    '--softcap 1' '--batch 17' '--lr 0.1' '--schedule linear' '--loss mse' '--lambda 1' \
    '--bandwidth 1' '--scale none' --geometric-median '--weight-decay 1' '--clip 0' '--seed 1' \
    --skip-bad; do
    # shellcheck disable=SC2086
    refuse 1 "^msae: ${differs%% *}: the run in .* has another value" \
        train "$data" -o "$out/m" --resume "$checkpoint" $differs
done
accept train "$data" -o "$folder/m" --resume "$checkpoint" --recipe msae-uw --latents 32 \
    --nesting 4,8,16,32 --weights 1,1,1,1 --k 4 --activation relu --batch 16 --lr 1e-4 \
    --schedule published --loss nmse --clip 1 --scale rms --seed 0
accept train "$data" -o "$folder/m" --resume "$checkpoint" --expansion 4 --k 5
refuse 1 '^msae: --epochs: the run in .* has 2, which may only be raised' \
    train "$data" -o "$out/m" --resume "$checkpoint" --epochs 1
# shellcheck disable=SC2086
{
    accept train "$data" -o "$folder/m" $small --recipe topk --k 7 --softcap 2 \
        --checkpoint "$folder/topk"
    refuse 1 '^msae: --k: ' train "$data" -o "$out/m" --resume "$folder/topk" --k 8
    refuse 1 '^msae: --softcap: ' train "$data" -o "$out/m" --resume "$folder/topk" --softcap 0

    # Outputs that would take the place of inputs, or of each other, also by another name.
    cp "$data" "$folder/precious.npy"
    ln -s precious.npy "$folder/alias.npy"
    refuse 1 '^msae: -o: ' train "$folder/precious.npy" -o "$folder/alias.npy" $small
    refuse 1 '^msae: -o: ' train "$data" --val "$folder/precious.npy" -o "$folder/precious.npy" \
        $small
    refuse 1 '^msae: -o: ' train "$data" -o "$out/m" --checkpoint "$out/m" $small
    refuse 1 '^msae: -o: ' train "$data" -o "$checkpoint" --resume "$checkpoint" $small
    refuse 1 '^msae: --checkpoint: ' train "$folder/precious.npy" -o "$out/m" \
        --checkpoint "$folder/precious.npy" $small
    expect "the data is there still" cmp -s "$data" "$folder/precious.npy"
}
refuse 1 'other.npy: has 25 rows, the run in .* is over 40' \
    train "$other" -o "$out/m" --resume "$checkpoint"
refuse 1 'narrow.npy: has 7 columns where 8 are needed' \
    train "$narrow" -o "$out/m" --resume "$checkpoint"
refuse 1 'model.safetensors: is a model without' train "$data" -o "$out/m" --resume "$model"
refuse 1 'missing: cannot be opened' train "$data" -o "$out/m" --resume "$folder/missing"
refuse 2 '--every needs --checkpoint' train "$data" -o "$out/m" --every 3

# A batch larger than the data is one batch; rows that are skipped are counted.
accept train "$data" -o "$folder/a" --latents 32 --epochs 1 --batch 100000 --json
expect "a batch larger than the data" lines 1 '"event":"done",.*"steps":1,'
with_value 17 '\000\176' >"$folder/nan.npy"
with_value 3 '\000\174' >"$folder/inf.npy"
# shellcheck disable=SC2086
accept train "$folder/nan.npy" -o "$folder/a" $small --skip-bad --json
expect "rows that are skipped" lines 1 '"event":"done",.*"rows_skipped":2,'

# ------------------------------------------------------------------------------------------------
# What it refuses
# ------------------------------------------------------------------------------------------------

: >"$folder/empty.npy"
echo "no array at all" >"$folder/text.npy"
{ header '<f2' True '(40, 8)' && halves 320 1; } >"$folder/fortran.npy"
{ header '>f2' False '(40, 8)' && halves 320 1; } >"$folder/big.npy"
{ header '<i2' False '(40, 8)' && halves 320 1; } >"$folder/integers.npy"
{ header '<f2' False '(4, 10, 8)' && halves 320 1; } >"$folder/three.npy"
header '<f2' False '(0, 8)' >"$folder/rowless.npy"
head -c 700 "$data" >"$folder/cut.npy"
{ cat "$data" && echo; } >"$folder/long.npy"
mkdir "$folder/folder.npy"

for bad in missing folder empty text fortran big integers three rowless cut long; do
    file=$folder/$bad.npy
    # shellcheck disable=SC2086
    {
        refuse 1 "$bad.npy: " train "$file" -o "$out/m" $small
        refuse 1 "$bad.npy: " train "$data" --val "$file" -o "$out/m" $small
    }
    refuse 1 "$bad.npy: " eval "$model" "$file"
    refuse 1 "$bad.npy: " encode "$model" "$file" -o "$out/c"
    refuse 1 "$bad.npy: " name "$model" --vocab "$file" --words "$words"
    refuse 1 "$bad.npy: " info "$file"
    # No model and no codes either.
    refuse 1 "$bad.npy: " eval "$file" "$data"
    refuse 1 "$bad.npy: " decode "$model" "$file" -o "$out/d.npy"
done

# Another number of columns.
# shellcheck disable=SC2086
{
    refuse 1 'narrow.npy: ' train "$data" --val "$narrow" -o "$out/m" $small
    accept train "$narrow" -o "$folder/narrow" $small
}
refuse 1 'narrow.npy: ' eval "$model" "$narrow"
refuse 1 'narrow.npy: ' encode "$model" "$narrow" -o "$out/c"
refuse 1 'narrow.npy: ' name "$model" --vocab "$narrow" --words "$words"
refuse 1 'codes.safetensors: ' decode "$folder/narrow" "$codes" -o "$out/d.npy"

# NaN and infinity, and where.
for bad in 'nan row 17' 'inf row 3'; do
    file=$folder/${bad%% *}.npy
    row="${bad%% *}.npy: ${bad#* }([^0-9]|\$)"
    # shellcheck disable=SC2086
    {
        refuse 1 "$row" train "$file" -o "$out/m" $small
        refuse 1 "$row" train "$data" --val "$file" -o "$out/m" $small
    }
    refuse 1 "$row" eval "$model" "$file"
    refuse 1 "$row" encode "$model" "$file" -o "$out/c"
    refuse 1 "$row" name "$model" --vocab "$file" --words "$words"
done

# Numbers that make no model.
refuse 1 . train "$data" -o "$out/m" --latents 0
refuse 1 . train "$data" -o "$out/m" --latents x
refuse 1 . train "$data" -o "$out/m" --latents 99999999999999999999
refuse 1 . train "$data" -o "$out/m" --latents 32 --nesting 33
refuse 1 . train "$data" -o "$out/m" --latents 32 --nesting 4,33
refuse 1 . train "$data" -o "$out/m" --latents 32 --nesting 8,4
refuse 1 . train "$data" -o "$out/m" --latents 32 --nesting 0
refuse 1 . train "$data" -o "$out/m" --latents 32 --nesting 4,,8
refuse 1 . train "$data" -o "$out/m" --latents 32 --nesting 4,8 --weights 1
refuse 1 . train "$data" -o "$out/m" --latents 32 --nesting 4,8 --weights 1,2,3
refuse 1 . train "$data" -o "$out/m" --latents 32 --nesting 4,8 --weights 1,-1
refuse 1 . train "$data" -o "$out/m" --latents 32 --nesting 4,8 --weights 0,0
refuse 1 . train "$data" -o "$out/m" --latents 32 --nesting 4,8 --weights 1,nan
refuse 1 . train "$data" -o "$out/m" --latents 32 --recipe topk --k 33
refuse 1 . train "$data" -o "$out/m" --latents 32 --recipe batchtopk --k 33
refuse 1 . train "$data" -o "$out/m" --latents 32 --recipe topk --k 0
refuse 1 . train "$data" -o "$out/m" --latents 32 --epochs 0
refuse 1 . train "$data" -o "$out/m" --latents 32 --batch 0
refuse 1 . train "$data" -o "$out/m" --latents 32 --lr -1
refuse 1 . train "$data" -o "$out/m" --latents 32 --lr nan
refuse 1 . train "$data" -o "$out/m" --latents 32 --threads 100000
refuse 1 "nonsense" train "$data" -o "$out/m" --latents 32 --recipe nonsense
refuse 1 "nonsense" train "$data" -o "$out/m" --latents 32 --loss nonsense
refuse 1 . eval "$model" "$data" --k 33
refuse 1 . eval "$model" "$data" --k 0
refuse 1 . encode "$model" "$data" --k 33 -o "$out/c"
refuse 1 'nonsense' train "$data" -o "$out/m" --nonsense
refuse 1 'nonsense' eval "$model" "$data" --nonsense 3

# Command lines that lack something or have too much.
refuse 2 .
refuse 2 'nonsense' nonsense
refuse 2 'one argument too many' eval "$model" "$data" "$data"
refuse 2 'is missing' eval "$model"
refuse 2 'is missing' train "$data" --latents 32
refuse 2 'needs a value' train "$data" -o "$out/m" --latents
refuse 2 '--words .* is missing' name "$model" --vocab "$other"
refuse 2 '--vocab .* is missing' name "$model" --words "$words"

# Places that cannot be written.
for place in "$folder/nowhere/file" /dev/full "$folder/folder.npy" "$out/"; do
    # shellcheck disable=SC2086
    refuse 1 "$place: " train "$data" -o "$place" $small
    refuse 1 "$place: " train "$data" -o "$out/m" $small --checkpoint "$place"
    refuse 1 "$place: " encode "$model" "$data" -o "$place"
    refuse 1 "$place: " decode "$model" "$codes" -o "$place"
    refuse 1 "$place: " name "$model" --vocab "$other" --words "$words" -o "$place"
done
if [ -c /dev/full ]; then
    for command in "eval $model $data" "info $model" "eval --help" "eval $model $data --json"; do
        # shellcheck disable=SC2086
        "$msae" $command >/dev/full 2>"$folder/stderr"
        expect "msae $command to a full disk: status" test $? -eq 1
        expect "msae $command to a full disk: line" test "$(wc -l <"$folder/stderr")" -eq 1
    done
else
    skipped=$((skipped + 1))
fi

# A disk that is full after so many blocks of 512 bytes, from none until there is room: a line that
# names the file, status 1, the old file in its place and no other one. (A limit on the size of
# files stands for the disk: writes fail with it as they do without space.)
until_it_fits() {
    blocks=0
    while [ $blocks -lt 1000 ]; do
        echo old >"$out/file"
        # (under make coverage the counts do not fit either: elsewhere, and without a word)
        error=$(trap '' XFSZ && ulimit -f $blocks && exec env GCOV_PREFIX="$folder/counts" \
            GCOV_ERROR_FILE=/dev/null "$msae" "$@" 2>&1 >/dev/null)
        status=$?
        printf '%s\n' "$error" >"$folder/stderr"
        [ "$(cat "$out/file" 2>/dev/null)" = old ] || break
        if [ $status -eq 1 ] && [ "$(ls "$out")" = file ] &&
            [ "$(wc -l <"$folder/stderr")" -eq 1 ] &&
            grep -q "^msae: $out/file: " "$folder/stderr"; then
            pass
        else
            fail "msae $* with room for $blocks blocks: $(ls "$out")"
        fi
        blocks=$((blocks + 1))
    done
    expect "msae $* with room: $(ls "$out")" test "$(ls "$out")" = file
    expect "msae $*: fits, and not from the start" test $blocks -gt 0 -a $blocks -lt 1000
    rm -f "$out/file"
}
# shellcheck disable=SC2086
{
    until_it_fits train "$data" -o "$out/file" $small --json
    until_it_fits train "$data" -o "$folder/m" $small --json --checkpoint "$out/file"
}
until_it_fits encode "$model" "$data" -o "$out/file"
until_it_fits decode "$model" "$codes" -o "$out/file"
until_it_fits name "$model" --vocab "$other" --words "$words" -o "$out/file"

# A disk that is really full: a file system of so many pages, where one may be mounted.
if mount -t tmpfs -o size=4k tmpfs "$out" 2>/dev/null; then
    pages=1
    while [ $pages -lt 100 ]; do
        mount -o remount,size=$((4 * pages))k "$out"
        echo old >"$out/file"
        # shellcheck disable=SC2086
        tool train "$data" -o "$folder/m" $small --json --checkpoint "$out/file"
        [ $status -ne 0 ] || break
        expect "a disk of $pages pages: status $status, $(ls "$out")" \
            test $status -eq 1 -a "$(ls "$out")" = file
        expect "a disk of $pages pages: a line" grep -q "^msae: $out/file: " "$folder/stderr"
        # the old file, or the last checkpoint that there was room for
        [ "$(head -c 3 "$out/file")" = old ] || accept info "$out/file"
        pages=$((pages + 1))
    done
    expect "a disk of $pages pages is enough, one is not" test $status -eq 0 -a $pages -gt 1
    umount "$out"
else
    skipped=$((skipped + 1))
fi

# What was there stays there when a run fails.
cp "$model" "$folder/kept"
# shellcheck disable=SC2086
refuse 1 'row 17' train "$folder/nan.npy" -o "$folder/kept" $small
expect "a failed run leaves the old file" cmp -s "$model" "$folder/kept"

# Words that do not go with the vocabulary.
head -n 24 "$words" >"$folder/few.txt"
printf 'a\000b\n' >"$folder/binary.txt"
refuse 1 'few.txt: ' name "$model" --vocab "$other" --words "$folder/few.txt"
refuse 1 'binary.txt: ' name "$model" --vocab "$other" --words "$folder/binary.txt"
refuse 1 'missing.txt: ' name "$model" --vocab "$other" --words "$folder/missing.txt"

# A model file cut, or with a byte of its header changed; every byte is tried in test_files.
size=$(wc -c <"$model")
at=0
while [ "$at" -lt "$size" ]; do
    head -c "$at" "$model" >"$folder/cut.safetensors"
    refuse 1 'cut.safetensors: ' eval "$folder/cut.safetensors" "$data"
    at=$((at + size / 23 + 1))
done
at=0
while [ "$at" -lt 900 ]; do
    { head -c "$at" "$model" && printf '\001' && tail -c +$((at + 2)) "$model"; } \
        >"$folder/changed.safetensors"
    refuse 1 'changed.safetensors: ' encode "$folder/changed.safetensors" "$data" -o "$out/c"
    refuse 1 'changed.safetensors: ' info "$folder/changed.safetensors"
    at=$((at + 41))
done

# Codes that were tampered with: an index beyond the model, rows that do not ascend.
size=$(wc -c <"$codes")
for at in 8 100 $((size - 1)); do
    head -c "$at" "$codes" >"$folder/cut.safetensors"
    refuse 1 'cut.safetensors: ' decode "$model" "$folder/cut.safetensors" -o "$out/d.npy"
done

if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
