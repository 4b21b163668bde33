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

for command in '' train eval encode decode info name top search steer probe bias convert; do
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
expect "info of a model: content" lines 1 '"recipe":"msae","n_inputs":8,"n_latents":32'
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
sed 's/$/\r/' "$folder/column.tsv" >"$folder/returns.tsv"
accept name "$model" --vocab "$other" --words "$folder/returns.tsv" -o "$folder/names2.tsv"
expect "lines that end as Windows writes them too" cmp -s "$folder/names.tsv" "$folder/names2.tsv"
{ printf 'kind\tword\rx\n'; sed 1d "$folder/column.tsv"; } >"$folder/within.tsv"
refuse 1 "within.tsv: has $((words_of_other + 1)) entries for the" name "$model" --vocab "$other" \
    --words "$folder/within.tsv"

# The page: every section, numbers as eval prints them, what files hold as text and not as markup.
printf 'row\tkind\tside\n' >"$folder/hostile.tsv"
awk -v rows="$words_of_other" 'BEGIN {
    for (r = 0; r < rows; r++) print r "\t<script>alert(1)</script>&\"\t" (r % 2 ? "left<b>" : "right")
}' >>"$folder/hostile.tsv"
printf 'latent\tname\tvalid\n0\t<img src=x>\t1\n' >"$folder/hostile_names.tsv"
# shellcheck disable=SC2086
accept train "$data" -o "$folder/logged" $small --json
cp "$folder/stdout" "$folder/log.jsonl"
accept report "$model" "$other" "$folder/logged" --labels "$folder/hostile.tsv" --column kind \
    --attribute side --names "$folder/hostile_names.tsv" --log "$folder/log.jsonl" \
    -o "$folder/page.html" --k 8 --json
expect "report: JSON" is_json
page=$folder/page.html
for section in sweep training frequency concepts bias; do
    expect "report: section $section" grep -q "<section id=\"$section\">" "$page"
done
expect "report: nothing of a file is markup" test "$(grep -c '<script>' "$page")" -eq 1
expect "report: no image" test "$(grep -c '<img' "$page")" -eq 0
expect "report: nothing is loaded" test "$(grep -ciE 'https?:|<[a-z]+ [^>]*src=|url\(|@import|<link' "$page")" -eq 0
expect "report: a column of words has its head over them" test "$(grep -c '<th[^>]* class="text"' "$page")" -eq 2
expect "report: logarithmic axes say so" grep -q '>k, latents kept a row (log axis)<' "$page"
expect "report: labels are there" grep -q '&#60;script&#62;alert(1)&#60;/script&#62;&#38;&#34;' "$page"
balanced() {
    tr '\n' ' ' <"$1" | sed 's/<style>.*<\/style>//; s/<script>.*<\/script>//; s/<!DOCTYPE[^>]*>//
        s/<meta[^>]*>//g; s/<[^>]*\/>//g' | grep -o '<[^>]*>' |
        awk '{
            sub(/^</, ""); sub(/[ >].*/, "")
            if (substr($0, 1, 1) != "/") { open[++depth] = $0; next }
            if (open[depth--] != substr($0, 2)) { exit 1 }
        } END { if (depth != 0) exit 1 }'
}
expect "report: every tag is closed" balanced "$page"
tool eval "$model" "$other" --k 16 --json
value=$(sed 's/.*"fvu_row":\([0-9.e-]*\).*/\1/' "$folder/stdout")
expect "report: eval's numbers" grep -q "data-key=\"$(printf '%.6s' "$value")[0-9]*\">" "$page"
for epoch in 1 2; do
    printf '{"event":"epoch","epoch":%d,"loss":0.5,"l0":8,"dead":0}\n' "$epoch"
done >"$folder/alive.jsonl"
accept report "$model" "$other" --log "$folder/alive.jsonl" -o "$folder/alive.html" --no-cknna
expect "report: a tick is no fraction of a latent" test "$(sed -n '/aria-label="Dead/,/<\/svg>/p' \
    "$folder/alive.html" | sed -n 's/.*text-anchor="end">\([^<]*\)<.*/\1/p' | tr '\n' ' ')" = '0 1 '
accept report "$model" "$other" -o "$folder/plain.html" --no-cknna
expect "report: says what brings the rest" test "$(grep -c -e '--log LOG' -e '--attribute COLUMN' \
    -e '--vocab V.npy' -e '--labels L.tsv --column' "$folder/plain.html")" -eq 4
printf '{"event":"epoch","epoch":1,"loss":0.5}\nnonsense\n' >"$folder/bad.jsonl"
refuse 1 'bad.jsonl: line 2: not a JSON object' report "$model" "$other" --log "$folder/bad.jsonl" \
    -o "$out/page.html"
printf '{"event":"epoch","epoch":1,"loss":null}\n' >"$folder/bad.jsonl"
refuse 1 'bad.jsonl: line 1: an epoch without' report "$model" "$other" --log "$folder/bad.jsonl" \
    -o "$out/page.html"
refuse 2 'o FILE is missing' report "$model" "$other"
refuse 2 '--vocab and --words go together' report "$model" "$other" --vocab "$other" -o "$out/p"
refuse 1 'is read and would be replaced' report "$model" "$other" -o "$model"
refuse 1 "column: is missing: one of .*'s row, kind, side" report "$model" "$other" \
    --labels "$folder/hostile.tsv" -o "$out/page.html"

# Two models' latents one to one.
accept align "$model" "$model" --json -o "$folder/pairs.tsv"
expect "align: JSON" is_json
expect "align: a model is like itself" lines 1 '"matched":32,"mean":1,"above_50":1,'
expect "align: pairs" test "$(wc -l <"$folder/pairs.tsv")" -eq 33
accept align "$model" "$model" "$model" --encoder
expect "align: all pairs and their mean" lines 1 '^3 models, 3 pairs: mean cosine 1.0000'
refuse 2 'B is missing' align "$model"
refuse 2 'pairs of two models' align "$model" "$model" "$model" -o "$out/pairs.tsv"
refuse 1 'is read and would be replaced' align "$model" "$model" -o "$model"

# An evaluation set with its own mean and scale.
accept eval "$model" "$other" --own-statistics --json
expect "eval of another modality: JSON" is_json
accept eval "$model" "$other"
expect "eval: a table with deviations" lines 1 '^ *16 .*±'

for recipe in msae msae-width msae-uw msae-rw topk batchtopk relu jumprelu; do
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
    '--bandwidth 1' '--beta1 0.8' '--beta2 0.98' '--warmup 0.1' '--warmup 0' '--decay 0.1' \
    '--start random' '--revivals 7' '--scale none' --geometric-median \
    '--weight-decay 1' '--clip 0' '--seed 1' --skip-bad; do
    # shellcheck disable=SC2086
    refuse 1 "^msae: ${differs%% *}: the run in .* has another value" \
        train "$data" -o "$out/m" --resume "$checkpoint" $differs
done
refuse 1 "^msae: --revivals: the run in .* has another value" \
    train "$data" -o "$out/m" --resume "$checkpoint" --no-revivals
accept train "$data" -o "$folder/m" --resume "$checkpoint" --recipe msae --latents 32 \
    --nesting 4,8,16,32 --weights 2.25,1.75,1,3 --k 4 --activation relu --batch 16 --lr 0.0005 \
    --beta1 0.9 --beta2 0.99 --schedule trapezoid --warmup 0.03 --decay 0.4 --start rows \
    --revivals 6 --loss nmse --clip 1 --scale rms --seed 0
accept train "$data" -o "$folder/m" --resume "$checkpoint" --expansion 4 --k 5
# Options of the run with other values than the recipe's, zeros and none too.
# shellcheck disable=SC2086
for options in '--beta1 0 --warmup 0 --decay 0' '--warmup 0.5 --decay 0.5' '--revivals 1000' \
    '--no-revivals --start random --schedule constant' '--recipe topk --start rows --revivals 2'; do
    accept train "$data" -o "$folder/m" --checkpoint "$folder/other" $small $options
    accept train "$data" -o "$folder/again" --resume "$folder/other" $options
    expect "$options: resumed" cmp -s "$folder/m" "$folder/again"
done
accept train "$data" -o "$folder/m" --json $small
expect "revivals are counted in each epoch's line" lines 2 '^\{"event":"epoch",.*"revived":[0-9]'
refuse 1 'warmup and decay' train "$data" -o "$out/m" --latents 32 --warmup 0.7
refuse 1 'warmup' train "$data" -o "$out/m" --latents 32 --warmup nan
refuse 1 'start' train "$data" -o "$out/m" --latents 32 --start nowhere
refuse 1 'revivals' train "$data" -o "$out/m" --latents 32 --revivals -1
refuse 1 'the last width' train "$data" -o "$out/m" --latents 32 --recipe msae-width --nesting 4,8
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
    refuse 1 "$place: " report "$model" "$other" -o "$place"
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
until_it_fits report "$model" "$other" --no-cknna -o "$out/file"
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

# ------------------------------------------------------------------------------------------------
# Concepts: top, search, steer
# ------------------------------------------------------------------------------------------------

labels=$folder/labels.tsv
names=$folder/concepts.tsv
awk 'BEGIN { print "class\tnumber"; for (i = 0; i < 40; i++) print "c" i % 4 "\t" i }' >"$labels"

# The two strongest latents of row 3, which are called dog and cat from here on.
accept top "$model" "$data" --row 3 --top 2 --k 5 --json
expect "top of a row: JSON" is_json
expect "top of a row: content" lines 1 '^\{"row":3,"active":5,"concepts":\[\{"latent":[0-9]+,"value":'
dog=$(sed 's/.*"concepts":.{"latent":\([0-9]*\).*/\1/' "$folder/stdout")
cat=$(sed 's/.*"latent":\([0-9]*\).*/\1/' "$folder/stdout")
printf 'latent\tname\tscore\trunner_up\trunner_up_score\tvalid\n' >"$names"
printf '%s\tdog\t0.5\tpuppy\t0.2\t1\n%s\tcat, tabby\t0.4\tkitten\t0.3\t0\n' "$dog" "$cat" >>"$names"

accept top "$model" "$data" --row 3 --labels "$labels" --column class --names "$names"
expect "top of a row: label" lines 1 '^row 3 c3: '
expect "top of a row: name" lines 1 ' dog$'
accept top "$model" "$data" --latent dog --labels "$labels" --column class --names "$names" --json
expect "top of a latent: JSON" is_json
expect "top of a latent: content" lines 1 "^\\{\"latent\":$dog,\"name\":\"dog\",\"rows\":40,"
expect "top of a latent: labels" lines 1 '"row":3,"value":[0-9.]+,"label":"c3"'
accept top "$model" "$data" --latent "$dog" --top 100 --threads 3 --json
cp "$folder/stdout" "$folder/threads"
accept top "$model" "$data" --latent "$dog" --top 100 --threads 1 --json
expect "top of a latent: the same for any threads" cmp -s "$folder/stdout" "$folder/threads"
refuse 1 "latent: no concept is named 'dig' in .*; did you mean 'dog'" \
    top "$model" "$data" --latent dig --names "$names"
refuse 1 'without --names' top "$model" "$data" --latent dog
refuse 1 'latent 32 of a model with 32' top "$model" "$data" --latent 32
refuse 1 'row: 40 is beyond the 40 rows' top "$model" "$data" --row 40
refuse 1 'k: 33 is more than the 32 latents' top "$model" "$data" --row 3 --k 33
refuse 1 'words.txt: has 25 entries for the 40 rows' \
    top "$model" "$data" --row 3 --labels "$words"
refuse 1 "labels.tsv: has no column 'kind'" \
    top "$model" "$data" --row 3 --labels "$labels" --column kind
refuse 2 'one of --latent and --row' top "$model" "$data"
refuse 2 'one of --latent and --row' top "$model" "$data" --row 3 --latent 4
refuse 2 'column needs' top "$model" "$data" --row 3 --column class

index=$folder/index.safetensors
accept search "$model" "$data" --row 3 --labels "$labels" --column class --k 5 --save-index "$index"
cp "$folder/stdout" "$folder/built"
expect "search: precision" lines 1 '^of the same class: '
accept search "$model" "$data" --row 3 --labels "$labels" --column class --index "$index"
expect "search: the same from a saved index" cmp -s "$folder/stdout" "$folder/built"
accept info "$index"
accept search "$model" "$data" --row 3 --top 100 --json
expect "search: JSON" is_json
expect "search: the row itself is no hit" lines 0 '"row":3,"cosine"'
expect "search: every other row by embedding" \
    test "$(grep -o '"by_embedding".*' "$folder/stdout" | grep -o '"row"' | wc -l)" -eq 39
accept search "$model" "$data" --row 3 --edit "dog=0,cat=+2" --names "$names" --json
expect "search: edited" lines 1 '"compared":"decoded"'
accept search "$model" "$data" --row 3 --edit "$dog=0" --keep-rest --json
expect "search: edited, with the rest" lines 1 '"compared":"edited"'
accept search "$model" "$data" --query "$other" --json
expect "search: every row of a file" lines 25 '^\{"query":[0-9]+,"row":'
accept search "$model" "$data" --query "$other" --row 7 --own-statistics --json
expect "search: one row of a file" lines 1 '^\{"query":0,"row":7,'
accept search "$model" "$data" --query "$data" --row 3 --top 1 --json
expect "search: a row finds itself by its concepts" \
    lines 1 '"by_concepts":\[\{"row":3,"cosine":1\}\]'
expect "search: a row finds itself by its embedding" \
    lines 1 '"by_embedding":\[\{"row":3,"cosine":(1|0\.999999[0-9]*)\}\]'
accept search "$model" "$data" --concepts "dog=2, tabby" --names "$names"
expect "search: concepts" \
    lines 1 "^the list of concepts: 2 latents, $dog \\(dog\\)=2 $cat \\(cat, tabby\\)=1"
accept search "$model" "$data" --concepts "cat, tabby,dog=2" --names "$names"
expect "search: a name with a comma" lines 1 "^the list of concepts: 2 latents, $cat "
accept search "$model" "$data" --concepts "dog,cat" --typical --names "$names" --json
expect "search: concepts, typical values" lines 1 "\"name\":\"dog\",\"value\":0*[.1-9]"
accept search "$model" "$data" --row 3 --without c3 --ablate 2 --labels "$labels" --column class --json
expect "search: without a class" lines 1 '"label":"c3",.*"compared":"decoded"'
refuse 1 "without: no row has the label 'c4'" \
    search "$model" "$data" --row 3 --without c4 --labels "$labels" --column class
refuse 2 'without needs' search "$model" "$data" --row 3 --without c3
refuse 1 'ablate: 257 is more' search "$model" "$data" --row 3 --ablate 257
accept search "$model" "$data" --evaluate 12 --labels "$labels" --column class --ablate 2
expect "search: evaluated" lines 2 '^by (concepts|embedding) '
accept search "$model" "$data" --evaluate 100 --labels "$labels" --column class --json
expect "search: evaluated, JSON" is_json
expect "search: evaluated, content" lines 1 '^\{"queries":40,"eligible":40,"top":10,.*"chance":0.2307'

cp "$index" "$folder/broken.index"
printf 'x' >>"$folder/broken.index"
refuse 1 'broken.index: something follows' search "$model" "$data" --row 3 --index "$folder/broken.index"
refuse 1 'model.safetensors: is not an index' search "$model" "$data" --row 3 --index "$model"
refuse 1 'index.safetensors: was made from 40 other rows' \
    search "$model" "$other" --row 3 --index "$index"
matrix 40 8 9 >"$folder/third.npy"
refuse 1 'index.safetensors: was made from other rows' \
    search "$model" "$folder/third.npy" --row 3 --index "$index"
# shellcheck disable=SC2086
accept train "$data" -o "$folder/second" $small --seed 5
refuse 1 'index.safetensors: was made with another model' \
    search "$folder/second" "$data" --row 3 --index "$index"
refuse 1 'k: .*index.safetensors was made with 5' \
    search "$model" "$data" --row 3 --index "$index" --k 6
refuse 1 'save-index: .*data.npy is read too' \
    search "$model" "$data" --row 3 --save-index "$data"
refuse 1 'row: 40 is beyond' search "$model" "$data" --row 40
refuse 1 'row: 25 is beyond' search "$model" "$data" --query "$other" --row 25
refuse 1 'k: 33 is more than' search "$model" "$data" --row 3 --k 33
refuse 1 'narrow.npy: has 7 columns' search "$model" "$data" --query "$narrow"
matrix 1 8 4 >"$folder/one.npy"
refuse 1 'own-statistics: .*one.npy has one row' \
    search "$model" "$data" --query "$folder/one.npy" --own-statistics
refuse 1 "concepts: no concept is named 'dgo' in .*; did you mean 'dog'" \
    search "$model" "$data" --concepts dgo=2 --names "$names"
refuse 1 'concepts: latent .* needs a value' search "$model" "$data" --concepts 3=0:1
refuse 1 'edit: latent 3 needs a value' search "$model" "$data" --row 3 --edit 3
refuse 1 'edit: latent 99 of a model with 32' search "$model" "$data" --row 3 --edit 99=0
refuse 1 'the list of concepts has no active latent' search "$model" "$data" --concepts "$dog=0"
refuse 1 'row 3 of .* has no active latent after the edits' \
    search "$model" "$data" --row 3 --k 1 --edit "$dog=0"
awk 'BEGIN { for (i = 0; i < 40; i++) print "word" i }' >"$folder/forty.txt"
refuse 1 'forty.txt: no two rows have the same label' \
    search "$model" "$data" --evaluate 5 --labels "$folder/forty.txt"
refuse 1 'words.txt: has 25 entries' search "$model" "$data" --row 3 --labels "$words"
refuse 1 'column' search "$model" "$data" --row 3 --labels "$labels" --column kind
refuse 2 'one of --row' search "$model" "$data"
refuse 2 'one of --row' search "$model" "$data" --row 3 --concepts 4
refuse 2 'own-statistics needs' search "$model" "$data" --row 3 --own-statistics
refuse 2 'evaluate needs' search "$model" "$data" --evaluate 5
refuse 2 'exclude each other' search "$model" "$data" --row 3 --index a --save-index b

steered=$folder/steered.npy
accept steer "$model" "$data" --set "dog=3" --scale "cat=2" --names "$names" -o "$steered"
expect "steer: the edited and others" lines 1 "^set +$dog .* dog\$"
accept info "$steered" --json
expect "steer: shape" lines 1 '"rows":40,"cols":8,"dtype":"F32"'
accept steer "$model" "$data" --set 1=3 --add 2=-1 --scale 3=2 --clamp 4=0:1 --ablate 5,6 \
    -o "$steered" --json --top 3
expect "steer: JSON" is_json
expect "steer: edits" lines 1 '"operation":"set","value":3,"latent":1,.*"latent":6,.*"others":'
expect "steer: a range" lines 1 '"operation":"clamp","value":0,"high":1,"latent":4,'
cp "$steered" "$folder/again.npy"
accept steer "$model" "$data" --set 1=3 --add 2=-1 --scale 3=2 --clamp 4=0:1 --ablate 5,6 \
    -o "$steered" --threads 3
expect "steer: the same for any threads" cmp -s "$steered" "$folder/again.npy"
accept steer "$model" "$data" --scale "$dog=1" --keep-rest --row 3 -o "$steered" --json
expect "steer: an edit that changes nothing" lines 1 '"rows":1,.*"distance":0,.*"others":\[\]'
accept steer "$model" "$data" --scale "$dog=1" -o "$steered" --k 5
accept encode "$model" "$data" -o "$folder/c" --k 5
accept decode "$model" "$folder/c" -o "$folder/again.npy"
expect "steer: without a change it is encode and decode" cmp -s "$steered" "$folder/again.npy"
refuse 2 'is missing' steer "$model" "$data" --set 1=3
refuse 2 'one of --set' steer "$model" "$data" -o "$out/y.npy"
refuse 1 'set: latent 1 needs a value' steer "$model" "$data" --set 1 -o "$out/y.npy"
refuse 1 'set: latent 1 needs a value' steer "$model" "$data" --set 1=0:1 -o "$out/y.npy"
refuse 1 'clamp: latent 1 needs a range' steer "$model" "$data" --clamp 1=2 -o "$out/y.npy"
refuse 1 'ablate: latent 1 needs no value' steer "$model" "$data" --ablate 1=2 -o "$out/y.npy"
refuse 1 'scale: the value of latent 1 is too large' \
    steer "$model" "$data" --scale 1=1e300 -o "$out/y.npy"
# (all latents, as two may be orthogonal)
refuse 1 'data.npy: row 0 gives a NaN or Inf' steer "$model" "$data" \
    --set "$(seq 0 31 | sed 's/$/=3e38/' | paste -s -d , -)" -o "$out/y.npy"
refuse 1 'o: .*data.npy is read too' steer "$model" "$data" --set 1=3 -o "$data"
refuse 1 'row: 40 is beyond' steer "$model" "$data" --set 1=3 --row 40 -o "$out/y.npy"
refuse 1 "set: no concept is named 'dgo'" \
    steer "$model" "$data" --set dgo=3 --names "$names" -o "$out/y.npy"
# Real embeddings: concepts find rows of the same class a hundred times as often as chance does, and
# no longer where the class's own are taken out, which others in their place do not do.
clip=../shared/clip
if [ -f "$clip/train_f16.npy" ] && [ -f "$clip/train_meta.tsv" ]; then
    accept train "$clip/train_f16.npy" -o "$folder/clip" --recipe msae-rw --latents 512 \
        --epochs 1 --batch 1024 --lr 0.001 --scale paper
    accept search "$folder/clip" "$clip/train_f16.npy" --labels "$clip/train_meta.tsv" \
        --column classname --evaluate 200 --k 64 --json
    # chance; mean, error, own_class, changed by concepts, each plain, ablated and in the control
    sed -e 's/.*"chance":\([0-9.e-]*\).*"concepts":{/\1 /' -e 's/"embedding".*//' \
        -e 's/"[a-z_]*"://g' -e 's/[{},]/ /g' \
        "$folder/stdout" >"$folder/figures"
    expect "search on CLIP: precision, chance, changed without the class, and in the control" \
        awk '{ exit !(NF == 13 && $2 > 0.25 && $2 > 100 * $1 && $9 > 20 && $9 > 4 * $13) }' \
        "$folder/figures"
else
    skipped=$((skipped + 1))
fi

until_it_fits steer "$model" "$data" --set 1=3 -o "$out/file"
until_it_fits search "$model" "$data" --row 3 --save-index "$out/file"

# ------------------------------------------------------------------------------------------------
# Attributes: probe, bias
# ------------------------------------------------------------------------------------------------

# For 40 rows: four classes of ten; yes and no, with nothing in every tenth row; one value; a class
# of one row; and for the 25 rows of `other`, the same with a class that is new in row 13.
attributes=$folder/attributes.tsv
new=$folder/new.tsv
awk 'BEGIN {
    print "class\tsmile\tone\tlonely"
    for (i = 0; i < 40; i++) {
        print "c" i % 4 "\t" (i % 10 == 9 ? "" : i % 3 == 0 ? "yes" : "no") "\tsame\t" \
            (i == 17 ? "alone" : i % 2 ? "odd" : "even")
    }
}' >"$attributes"
awk 'BEGIN {
    print "class\tsmile"
    for (i = 0; i < 25; i++) print (i == 13 ? "c9" : "c" i % 3) "\t" (i % 2 ? "yes" : "no")
}' >"$new"
head -n 40 "$attributes" >"$folder/short.tsv"
gaps=$folder/gaps.tsv
awk -F '\t' 'NR == 3 { $2 = "" } { print $1 "\t" $2 }' "$new" >"$gaps"

# Row 17 is zero; row 13 is of float32 near their end, too large for the model.
zero=$folder/zero.npy
huge=$folder/huge.npy
{
    head -c $((128 + 17 * 16)) "$data"
    head -c 16 /dev/zero
    tail -c +$((128 + 18 * 16 + 1)) "$data"
} >"$zero"
{
    header '<f4' False '(25, 8)'
    # shellcheck disable=SC2059
    printf "$(awk 'BEGIN {
        for (i = 0; i < 200; i++) {
            large = i >= 104 && i < 112
            printf "\\000\\000\\%03o\\%03o", large ? 127 : i * 37 % 128,
                (large ? 127 : 63) + i % 3 % 2 * 128
        }
    }')"
} >"$huge"

accept probe "$data" --labels "$attributes" --column class --json
expect "probe: JSON" is_json
expect "probe: what is held out" \
    lines 1 '^\{"event":"probe","classes":4,.*"train":\{"rows":32,.*"test":\{"rows":8,'
cp "$folder/stdout" "$folder/whole_line"
accept probe "$data" --labels "$attributes" --column class --json --seed 1
expect "probe: another seed holds out other rows" \
    test "$(cut -d, -f5-13 "$folder/stdout")" != "$(cut -d, -f5-13 "$folder/whole_line")"
accept probe "$data" --labels "$attributes" --column smile --model "$model" --json
expect "probe with a model: JSON" is_json
expect "probe: rows without a label" lines 1 '^\{"event":"probe","classes":2,"without_label":4,'
expect "probe: every default k" lines 2 '^\{"event":"agreement","k":(16|32),"kl":'
accept probe "$data" --labels "$attributes" --column smile --model "$model" --k 1,5,32 --json
expect "probe: chosen k" lines 3 '^\{"event":"agreement","k":(1|5|32),'
sed 's/"seconds":[^,}]*//' "$folder/stdout" >"$folder/threads"
accept probe "$data" --labels "$attributes" --column smile --model "$model" --k 1,5,32 --json \
    --threads 3
expect "probe: the same for any threads" \
    test "$(sed 's/"seconds":[^,}]*//' "$folder/stdout")" = "$(cat "$folder/threads")"
accept probe "$data" --labels "$attributes" --column smile --model "$model"
expect "probe: a table" lines 1 '^test .*%'
accept probe "$data" --labels "$attributes" --column smile --test "$other" --test-labels "$new" --json
expect "probe: rows of another file" lines 1 '"train":\{"rows":36,.*"test":\{"rows":25,'
accept probe "$data" --labels "$attributes" --column lonely --min-rows 2 --json
expect "probe: small classes left out" lines 1 '"of_small_classes":1,.*"train":\{"rows":31,'
refuse 1 'short.tsv: has 39 entries for the 40 rows of .*data.npy' \
    probe "$data" --labels "$folder/short.tsv" --column class
refuse 1 "attributes.tsv: class 'alone' has one row \\(row 17\\)" \
    probe "$data" --labels "$attributes" --column lonely
refuse 1 "attributes.tsv: every label is 'same'" probe "$data" --labels "$attributes" --column one
refuse 1 'attributes.tsv: no class has 11 rows' \
    probe "$data" --labels "$attributes" --column class --min-rows 11
refuse 1 "attributes.tsv: has no column 'kind'" \
    probe "$data" --labels "$attributes" --column kind
refuse 1 "new.tsv: row 13: no training row is 'c9'" probe "$data" --labels "$attributes" \
    --column class --test "$other" --test-labels "$new"
refuse 1 'new.tsv: has 25 entries for the 40 rows of .*data.npy' probe "$data" \
    --labels "$attributes" --column class --test "$data" --test-labels "$new"
refuse 1 'narrow.npy: has 7 columns' probe "$data" --labels "$attributes" --column class \
    --test "$narrow" --test-labels "$new"
refuse 1 'narrow.npy: has 7 columns' \
    probe "$narrow" --labels "$attributes" --column class --model "$model"
refuse 1 'nan.npy: row 17 ' probe "$folder/nan.npy" --labels "$attributes" --column class
refuse 1 'zero.npy: row 17 has no length' probe "$zero" --labels "$attributes" --column class
refuse 1 'huge.npy: row 13 gives a NaN or Inf in the model' probe "$data" --model "$model" \
    --labels "$attributes" --column smile --test "$huge" --test-labels "$gaps"
accept probe "$data" --labels "$attributes" --column smile --test "$huge" --test-labels "$gaps"
refuse 1 'holdout: 1 is not below 1' \
    probe "$data" --labels "$attributes" --column class --holdout 1
for k in 33 5,5 7,3; do
    refuse 1 '^msae: --k: ' probe "$data" --labels "$attributes" --column class --model "$model" \
        --k $k
done
refuse 2 'labels FILE is missing' probe "$data"
refuse 2 'k needs --model' probe "$data" --labels "$attributes" --column class --k 5
refuse 2 'go together' probe "$data" --labels "$attributes" --column class --test "$other"

table=$folder/bias.tsv
accept bias "$model" "$data" --labels "$attributes" --column smile --names "$names" --json \
    --top 3 --steps 4 -o "$table"
expect "bias: JSON" is_json
expect "bias: the strongest" lines 3 '^\{"event":"correlation","latent":[0-9]+,"name":'
expect "bias: a sweep" lines 1 '^\{"event":"sweep",.*"class":"yes","rows":36,"points":\[\{"value":0,'
expect "bias: steps" test "$(grep -o '"of_positive"' "$folder/stdout" | wc -l)" -eq 4
expect "bias: ablations" lines 3 '^\{"event":"ablation",.*"rows":36,"active":'
expect "bias: the end" lines 1 \
    '^\{"event":"done","positive":"yes","negative":"no","rows_positive":12,"rows_negative":24,"without_label":4,'
expect "bias: a table of all latents" test "$(wc -l <"$table")" -eq 33
expect "bias: strongest first" awk -F '\t' '
    NR > 1 && NF != 12 { exit 1 }
    NR > 2 && $3 != "" && $3 * $3 > last * last { exit 1 }
    NR > 1 { last = $3 }' "$table"
cp "$folder/stdout" "$folder/threads"
accept bias "$model" "$data" --labels "$attributes" --column smile --names "$names" --json \
    --top 3 --steps 4 --threads 3
expect "bias: the same for any threads" cmp -s "$folder/stdout" "$folder/threads"
accept bias "$model" "$data" --labels "$attributes" --column smile --positive no --json --top 3
expect "bias: the other value" lines 1 '"positive":"no","negative":"yes","rows_positive":24,'
accept bias "$model" "$data" --labels "$attributes" --column class --positive c2 --sweep dog \
    --names "$names"
expect "bias: one value against the rest" lines 1 "^class: 10 rows are 'c2', 30 are 'others'"
expect "bias: a sweep by name" lines 1 "^latent $dog dog over its range"
# A latent that is the strongest of no row.
accept bias "$model" "$data" --labels "$attributes" --column smile --k 1 -o "$table" --json
idle=$(awk -F '\t' 'NR > 1 && $3 == "" { print $1; exit }' "$table")
refuse 1 'short.tsv: has 39 entries for the 40 rows of .*data.npy' \
    bias "$model" "$data" --labels "$folder/short.tsv" --column class
refuse 1 "attributes.tsv: the attribute is constant: every label is 'same'" \
    bias "$model" "$data" --labels "$attributes" --column one
refuse 1 'attributes.tsv: has 4 values \(c0, c1, c2, c3\); --positive' \
    bias "$model" "$data" --labels "$attributes" --column class
refuse 1 "positive: no label is 'c4', but c0, c1, c2, c3" \
    bias "$model" "$data" --labels "$attributes" --column class --positive c4
refuse 1 "attributes.tsv: only one row is 'alone' \\(row 17\\)" \
    bias "$model" "$data" --labels "$attributes" --column lonely --positive alone
refuse 1 "sweep: no concept is named 'dgo' in .*; did you mean 'dog'" bias "$model" "$data" \
    --labels "$attributes" --column smile --names "$names" --sweep dgo
refuse 1 'sweep: latent 32 of a model with 32' \
    bias "$model" "$data" --labels "$attributes" --column smile --sweep 32
refuse 1 'k: 33 is more than the 32 latents' \
    bias "$model" "$data" --labels "$attributes" --column smile --k 33
refuse 1 'steps: a sweep has at least 2' \
    bias "$model" "$data" --labels "$attributes" --column smile --steps 1
refuse 1 "sweep: latent $idle is active on no labelled row" bias "$model" "$data" \
    --labels "$attributes" --column smile --k 1 --sweep "$idle" -o "$out/table.tsv"
refuse 1 'zero.npy: row 17 has no length' \
    bias "$model" "$zero" --labels "$attributes" --column smile -o "$out/table.tsv"
refuse 1 'nan.npy: row 17 ' bias "$model" "$folder/nan.npy" --labels "$attributes" --column smile
refuse 1 'narrow.npy: has 7 columns' \
    bias "$model" "$narrow" --labels "$attributes" --column smile
for input in "$model" "$data" "$attributes" "$names"; do
    refuse 1 "^msae: -o: $input is read too" bias "$model" "$data" --labels "$attributes" \
        --column smile --names "$names" -o "$input"
done
refuse 2 'labels FILE is missing' bias "$model" "$data"

# Real embeddings: cats and dogs are told apart on rows held out, and latents know them too.
if [ -f "$clip/train_f16.npy" ] && [ -f "$clip/train_meta.tsv" ]; then
    accept probe "$clip/train_f16.npy" --labels "$clip/train_meta.tsv" --column species --json
    # accuracy on the rows held out, seconds
    sed 's/.*"test":{[^}]*"accuracy":\([0-9.]*\).*"seconds":\([0-9.]*\).*/\1 \2/' \
        "$folder/stdout" >"$folder/figures"
    expect "probe of species: held out, and in time" \
        awk '{ exit !(NF == 2 && $1 > 0.99 && $2 < 30) }' "$folder/figures"
    accept bias "$folder/clip" "$clip/train_f16.npy" --labels "$clip/train_meta.tsv" \
        --column species --json --top 1
    expect "bias of species: a latent of cats or dogs" \
        lines 1 '^\{"event":"correlation",.*"r":-?(1|0\.[6-9])'
else
    skipped=$((skipped + 1))
fi

until_it_fits bias "$model" "$data" --labels "$attributes" --column smile -o "$out/file"

# ------------------------------------------------------------------------------------------------
# Other projects' layouts
# ------------------------------------------------------------------------------------------------

# One file of codes is another, whatever model's fingerprint or name it may carry.
same_codes() {
    "$msae" info "$1" >"$folder/one" && "$msae" info "$2" >"$folder/two" && cmp -s "$1" "$2"
}

theirs=$folder/theirs
for layout in saelens sparsify dictionary-learning; do
    rm -rf "$theirs"
    accept convert "$model" -o "$theirs" --to $layout --json
    expect "convert to $layout: JSON" is_json
    expect "convert to $layout: what it says" lines 1 \
        "\"from\":\"msae\",\"output\":\".*\",\"to\":\"$layout\",\"recipe\":\"relu\",\"n_inputs\":8,\"n_latents\":32"
    accept info "$theirs" --json
    expect "info of $layout: JSON" is_json
    expect "info of $layout: the layout" lines 1 '"kind":"model".*"n_latents":32.*"layout":"'$layout'"'
    # every command takes it as a model, and the model made of it computes the same to the bit
    accept encode "$theirs" "$data" -o "$folder/codes.a"
    accept convert "$theirs" -o "$folder/ours"
    accept encode "$folder/ours" "$data" -o "$folder/codes.b"
    expect "codes of $layout" same_codes "$folder/codes.a" "$folder/codes.b"
    accept decode "$theirs" "$folder/codes.a" -o "$folder/decoded.npy"
    accept eval "$theirs" "$data" --k 4 --json
    cp "$folder/stdout" "$folder/one"
    accept eval "$folder/ours" "$data" --k 4 --json
    expect "eval of $layout" cmp -s "$folder/stdout" "$folder/one"
    accept align "$theirs" "$model" --json
    expect "align with $layout" lines 1 '"mean":(1|0\.99999)'
    accept top "$theirs" "$data" --latent 3 --json
    accept convert "$model" -o "$theirs" --to $layout --k 5
    expect "convert to $layout: a TopK" lines 1 ': topk, 8 inputs, 32 latents, k = 5$'
done
accept report "$theirs" "$other" "$model" --no-cknna -o "$folder/page.html"
accept info "$theirs/ae.pt"
expect "info of a torch.save file" lines 1 'topk model, .*k = 5, in the layout of dictionary-learning'
accept encode "$theirs/ae.pt" "$data" -o "$folder/codes.a"
accept convert "$model" -o "$folder/ours" --k 5
expect "a TopK of ours" test -s "$folder/ours"

refuse 2 '-o is missing' convert "$model"
refuse 1 'is read and would be replaced' convert "$model" -o "$model"
refuse 1 "is read and would be replaced" convert "$theirs" -o "$theirs" --to saelens
refuse 1 'k: 33 is more than the 32 latents' convert "$model" -o "$out/theirs" --to saelens --k 33
refuse 1 'nothing.pth: cannot be opened' convert "$folder/nothing.pth" -o "$out/ours"
refuse 1 'words.txt: ' convert "$words" -o "$out/ours"
refuse 1 'is a folder with neither cfg.json nor ae.pt' info "$out"
# shellcheck disable=SC2086
accept train "$data" -o "$folder/capped" $small --softcap 2
refuse 1 'has a soft cap, which saelens has no place for' \
    convert "$folder/capped" -o "$out/theirs" --to saelens
# shellcheck disable=SC2086
accept train "$data" -o "$folder/jump" $small --recipe jumprelu
refuse 1 'thresholds sparsify has no place for' \
    convert "$folder/jump" -o "$out/theirs" --to sparsify

# Programs in pickles: named, not run.
printf 'PK\003\004' >"$folder/short.pt"
refuse 1 "short.pt: is too short for a zip: 4 bytes" info "$folder/short.pt"
printf '\200\002\212\012l\374\234F\371 j\250P\031.' >"$folder/old.pt"
refuse 1 "old.pt: is in torch.save's old format" encode "$folder/old.pt" "$data" -o "$out/codes"

# A file that does not fit leaves no folder behind.
blocks=0
while [ $blocks -lt 100 ]; do
    error=$(trap '' XFSZ && ulimit -f $blocks && exec env GCOV_PREFIX="$folder/counts" \
        GCOV_ERROR_FILE=/dev/null "$msae" convert "$model" -o "$out/theirs" \
        --to dictionary-learning 2>&1 >/dev/null) && break
    expect "convert with room for $blocks blocks: $(ls "$out")" test -z "$(ls "$out")"
    printf '%s\n' "$error" >"$folder/stderr"
    expect "convert with room for $blocks blocks: a line" \
        grep -Eq "^msae: $out/theirs/(ae.pt|config.json): " "$folder/stderr"
    blocks=$((blocks + 1))
done
expect "convert: fits, and not from the start" test $blocks -gt 0 -a $blocks -lt 100
rm -rf "$out/theirs"
until_it_fits convert "$theirs" -o "$out/file"

# ------------------------------------------------------------------------------------------------
# Sets of files: several names, patterns, lists
# ------------------------------------------------------------------------------------------------

# slice FIRST ROWS: those rows of the data, as a .npy.
slice() {
    header '<f2' False "($2, 8)"
    tail -c +$((129 + $1 * 16)) "$data" | head -c $(($2 * 16))
}
parts=$folder/parts
mkdir "$parts"
slice 0 1 >"$parts/a.npy"
slice 1 25 >"$parts/b.npy"
slice 26 14 >"$parts/c.npy"
printf '%s\n\n%s\r\n%s' "$parts/a.npy" "$parts/b.npy" "$parts/c.npy" >"$parts/list.txt"
run="--latents 32 --nesting 4 --epochs 3 --batch 7"
# shellcheck disable=SC2086
{
    accept train "$data" -o "$folder/whole" $run
    accept train "$parts/a.npy" "$parts/b.npy" "$parts/c.npy" -o "$folder/set" $run --json
    expect "train on three files: JSON" is_json
    expect "train on three files: the start" lines 1 '"rows":40,"files":3,"in_memory":true,'
    expect "train on three files: the same model" cmp "$folder/whole" "$folder/set"
    accept train "$parts/?.npy" -o "$folder/set" $run
    expect "train on a pattern: the same model" cmp "$folder/whole" "$folder/set"
    accept train "@$parts/list.txt" -o "$folder/set" $run
    expect "train on a list: the same model" cmp "$folder/whole" "$folder/set"
    accept train "$parts/a.npy" "$parts/[bc].npy" -o "$folder/set" $run --window 1 --json
    expect "train, read as needed: the start" lines 1 '"in_memory":false,'
    expect "train, read as needed: one window is one order" cmp "$folder/whole" "$folder/set"
    accept train "$data" -o "$folder/set" $run --in-memory
    expect "train --in-memory: the same model" cmp "$folder/whole" "$folder/set"
    refuse 2 'exclude each other' train "$data" -o "$out/m" $run --in-memory --window 1
    refuse 1 '/z\*: no file has such a name' train "$parts/z*" -o "$out/m" $run
    refuse 1 'narrow.npy: has 7 columns, the file before' train "$data" "$narrow" -o "$out/m" $run
    refuse 1 '/nothing.npy: ' train "$data" "$parts/nothing.npy" -o "$out/m" $run
    refuse 1 '/nothing.txt: ' train "@$parts/nothing.txt" -o "$out/m" $run
    printf '\n\n' >"$parts/empty.txt"
    refuse 1 '/empty.txt: names no files' train "@$parts/empty.txt" -o "$out/m" $run
    refuse 1 '/b.npy is the file of DATA too' train "$parts/a.npy" "$parts/b.npy" \
        -o "$parts/b.npy" $run
    refuse 1 'checkpoint: .*/c.npy is the file of DATA too' train "$parts/?.npy" -o "$out/m" $run \
        --checkpoint "$parts/c.npy"
    # a NaN in the second file's row 3
    { head -c $((128 + 3 * 16)) "$parts/b.npy" && printf '\000\176' &&
        tail -c +$((128 + 3 * 16 + 3)) "$parts/b.npy"; } >"$parts/nan.npy"
    refuse 1 '/nan.npy: row 3 has a NaN' train "$parts/a.npy" "$parts/nan.npy" -o "$out/m" $run
    refuse 1 '/nan.npy: row 3 has a NaN' train "$parts/a.npy" "$parts/nan.npy" -o "$out/m" $run \
        --window 1
    accept train "$parts/a.npy" "$parts/nan.npy" -o "$folder/set" $run --window 1 --skip-bad
}
for k in "" "--k 5"; do
    # shellcheck disable=SC2086
    {
        accept encode "$model" "$data" -o "$folder/codes.whole" $k
        accept encode "$model" "$parts/a.npy" "$parts/b.npy" "$parts/c.npy" \
            -o "$folder/codes.set" $k
    }
    expect "encode three files: the same codes" cmp "$folder/codes.whole" "$folder/codes.set"
done
refuse 1 '/nan.npy: row 3 has a NaN' encode "$model" "$parts/a.npy" "$parts/nan.npy" -o "$out/c"
refuse 1 '/a.npy is the file of DATA too' encode "$model" "$parts/?.npy" -o "$parts/a.npy"
accept eval "$model" "$parts/?.npy" --json --k 5
tool eval "$model" "$data" --json --k 5 >/dev/null
cp "$folder/stdout" "$folder/eval.whole"
accept eval "$model" "$parts/?.npy" --json --k 5
expect "eval of a pattern: the same numbers" cmp "$folder/stdout" "$folder/eval.whole"

# Real embeddings in windows of 4 MiB: the order does not depend on where the rows lie, and a run
# that was stopped goes on.
if [ -f "$clip/train_f16.npy" ]; then
    run="--latents 64 --epochs 2 --batch 512 --window 4"
    # shellcheck disable=SC2086
    {
        accept train "$clip/train_f16.npy" -o "$folder/windows" $run \
            --checkpoint "$folder/run" --every 130
        accept train "$clip/train_f16.npy" -o "$folder/resumed" $run --resume "$folder/run"
        expect "train in windows: resumed to the same bytes" cmp "$folder/windows" "$folder/resumed"
        accept train "$clip/train_f16.npy" -o "$folder/resumed" --resume "$folder/run" --in-memory
        expect "train in windows: held in memory, the same bytes" \
            cmp "$folder/windows" "$folder/resumed"
        refuse 1 '^msae: --window: the run in' train "$clip/train_f16.npy" -o "$out/m" \
            --resume "$folder/run" --window 5
    }
else
    skipped=$((skipped + 1))
fi

if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
