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

# The same, between 1 and 2: their mean lies far from that of the others.
far_halves() {
    # shellcheck disable=SC2059
    printf "$(awk -v count="$1" -v seed="$2" 'BEGIN {
        srand(seed)
        for (i = 0; i < count; i++) {
            printf "\\%03o\\%03o", int(rand() * 256), 60 + int(rand() * 4)
        }
    }')"
}

# matrix ROWS COLS SEED: a .npy of random float16.
matrix() {
    header '<f2' False "($1, $2)"
    halves $(($1 * $2)) "$3"
}

# tensors NAME=SHAPE:VALUES..: a safetensors file of float16 tensors; SHAPE is 40,8, and VALUES how many those are.
tensors() {
    said=
    count=0
    for tensor; do
        shape=${tensor#*=}
        said="$said,\"${tensor%%=*}\":{\"dtype\":\"F16\",\"shape\":[${shape%:*}],"
        said="$said\"data_offsets\":[$((2 * count)),$((2 * (count + ${shape#*:})))]}"
        count=$((count + ${shape#*:}))
    done
    said="{${said#,}}"
    # shellcheck disable=SC2059
    printf "\\$(printf %03o $((${#said} % 256)))\\$(printf %03o $((${#said} / 256)))\\0\\0\\0\\0\\0\\0"
    printf %s "$said"
    halves "$count" 1
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
far=$folder/far.npy
words=$folder/words.txt
model=$folder/model.safetensors
codes=$folder/codes.safetensors
matrix 40 8 1 >"$data"
matrix 25 8 2 >"$other"
matrix 40 7 3 >"$narrow"
{ header '<f2' False '(40, 8)' && far_halves 320 4; } >"$far"
awk 'BEGIN { for (i = 0; i < 25; i++) print "word" i }' >"$words"
plain="--latents 32 --epochs 2 --batch 16 --threads 2"
small="$plain --nesting 4"

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

# lines_of_errors COUNT: whether there are that many lines on standard error.
lines_of_errors() {
    [ "$(wc -l <"$folder/stderr")" -eq "$1" ]
}

# lines COUNT REGEX: whether that many lines of standard output match.
lines() {
    [ "$(grep -Ec -e "$2" "$folder/stdout")" -eq "$1" ]
}

# ------------------------------------------------------------------------------------------------
# What it does
# ------------------------------------------------------------------------------------------------

for command in '' train eval encode decode info name top tree search steer probe bias convert score; do
    # shellcheck disable=SC2086
    accept $command --help
    expect "help of '$command' has no text" test -s "$folder/stdout"
done
accept --version

# One word for one thing.
for command in train eval probe encode decode info name top tree search steer bias convert report \
    align score; do
    accept $command --help
    expect "help of $command: other words for active and dead" lines 0 \
        '(^|[ ("])(fires?|firing|alive|idle|never (on|used)|takes? part|are (on|off))([ ,.;:)]|$)'
done
for command in eval train name; do
    accept $command --help
    expect "help of $command: what active, dead and frequency mean" lines 4 \
        'active in a row where|Frequency is the share|active in no row of the set|last 1,000 steps'
done

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
expect "eval: the default sweep" lines 2 '^\{"k":[0-9]'
expect "eval: .. and as the model encodes" lines 1 '^\{"k":null,"own":true,"kept_by":"all",'
for key in fvu_row fvu_set cs sparsity l0 nmse nmae cknna ndn; do
    expect "eval: no $key" lines 3 "\"$key\":"
done
accept eval "$model" "$other" --json --k 1,5,32
expect "eval: chosen k" lines 3 '^\{"k":(1|5|32),'
accept eval "$model" "$other" --json --k 1,5,own --refine 1
expect "eval --refine: JSON" is_json
expect "eval --refine: as encoded and refined" lines 3 '"refine":1,'
expect "eval --refine: each misses less" awk -F'"fvu_set":' '
    { split($2, value, ",") }
    /"refine"/ && value[1] > before + 0 { worse = 1 }
    { before = value[1] }
    END { exit worse || NR != 6 }' "$folder/stdout"
accept eval "$model" "$other" --refine 0
expect "eval --refine: a line each in the table" lines 4 '^refined'
expect "eval --refine: what that means" lines 1 '^refined: values fitted, 0 exchanges$'
refuse 1 "^msae: --refine: '101' is not a whole number from 0 to 100$" \
    eval "$model" "$other" --refine 101
accept eval "$model" "$other" --refine 00 --no-cknna
refuse 2 'refine.*--data' name "$model" --vocab "$other" --words "$words" -o "$out/n" --refine 1
refuse 1 "^msae: --refine: '-1' is not a whole number from 0 to 100$" eval "$model" "$other" --refine -1
accept encode "$model" "$data" -o "$folder/refined" --k 5 --refine 1
expect "encode --refine: the file says so" grep -aq '"refine":"1"' "$folder/refined"
accept decode "$model" "$folder/refined" -o "$folder/refined.npy"
for command in steer report top name tree score probe search; do
    accept $command --help
    expect "$command has no --refine" lines 1 '^ *--refine R '
done
accept search "$model" "$data" --row 3 --refine 2 --save-index "$folder/refined.index"
mv "$folder/stdout" "$folder/first"
accept search "$model" "$data" --row 3 --index "$folder/refined.index"
expect "search --index: refined as the index is" cmp -s "$folder/stdout" "$folder/first"
refuse 1 '^msae: --refine: .*refined.index was made with --refine 2$' \
    search "$model" "$data" --row 3 --index "$folder/refined.index" --refine 1
accept eval "$model" "$other"
expect "eval: the row of the model as it encodes" lines 1 '^ *own '
expect "eval: .. and what that means" lines 1 '^own: as the model encodes by itself, all active'

# The model as it encodes by itself: its k among the others, or a threshold.
accept eval "$model" "$other" --json --k all,own
expect "eval: all" lines 1 '^\{"k":32,'
expect "eval: own after all" lines 1 '^\{"k":null,'
expect "eval: nothing beside them" lines 2 '^'
accept eval "$model" "$other" --json --k 32,all
expect "eval: all is no second line" lines 1 '^'
accept eval "$model" "$other" --json --k own
expect "eval: own alone" lines 1 '^\{"k":null,'
refuse 1 'all or own' eval "$model" "$other" --k 4,every
refuse 1 '4 does not follow 32' eval "$model" "$other" --k all,4
for recipe in batchtopk relu jumprelu topk; do
    keep=
    [ $recipe = topk ] || [ $recipe = batchtopk ] && keep='--k 5'
    # shellcheck disable=SC2086
    accept train "$data" -o "$folder/own" --recipe $recipe $keep --latents 32 --epochs 2 --batch 16
    accept eval "$folder/own" "$other" --json
    rule=all
    [ $recipe = topk ] && rule=k
    [ $recipe = batchtopk ] && rule=threshold
    expect "eval of $recipe: own" lines 1 "^\{\"k\":null,\"own\":true,\"kept_by\":\"$rule\","
    expect "eval of $recipe: no line for its k" lines 2 '^\{"k":[0-9]'
    if [ $recipe = topk ]; then
        grep '"own"' "$folder/stdout" | sed 's/.*"rows"//' >"$folder/own.line"
        accept eval "$folder/own" "$other" --json --k 5
        expect "eval of $recipe: own is at its k" test "$(sed 's/.*"rows"//' "$folder/stdout")" = \
            "$(cat "$folder/own.line")"
    fi
    [ $recipe = batchtopk ] || continue
    l0=$(sed -n 's/^{"k":null.*"l0":\([^,]*\),.*/\1/p' "$folder/stdout")
    accept encode "$folder/own" "$other" -o "$folder/own.codes" --json
    expect "eval of $recipe: as many latents as encode keeps" awk -v l0="$l0" -v entries="$(sed \
        's/.*"entries":\([0-9]*\).*/\1/' "$folder/stdout")" \
        'BEGIN { exit !(l0 > 0 && (l0 - entries / 25) ^ 2 < 1e-6) }'
done

accept encode "$model" "$data" -o "$codes" --k 5 --json
expect "encode: JSON" is_json
accept info "$codes" --json
expect "info of codes: JSON" is_json
expect "info of codes: content" lines 1 '"rows":40,"entries":200,'
accept decode "$model" "$codes" -o "$folder/decoded.npy" --json
expect "decode: JSON" is_json
accept info "$folder/decoded.npy" --json
expect "decode: shape" lines 1 '"rows":40,"cols":8,"dtype":"F32"'

# Codes are of the model that made them, and say so.
accept info "$model" --json
sum=$(sed 's/.*"model":"\([0-9a-f]*\)".*/\1/' "$folder/stdout")
accept info "$codes" --json
expect "info of codes: their model" lines 1 \
    '"entries":200,"model":"'"$sum"'","own_statistics":false,'
accept info "$codes"
expect "info of codes: their model in words" lines 1 "200 entries, of the model $sum\$"
accept decode "$model" "$codes" -o "$folder/decoded.npy" --json
expect "decode: nothing to warn of" lines 1 '"warnings":\[\]'
# shellcheck disable=SC2086
accept train "$data" -o "$folder/another" $small --seed 5
accept info "$folder/another" --json
another=$(sed 's/.*"model":"\([0-9a-f]*\)".*/\1/' "$folder/stdout")
refuse 1 "codes.safetensors: is of the model $sum, .*another is $another: encode again" \
    decode "$folder/another" "$codes" -o "$out/d.npy"
accept encode "$model" "$data" -o "$folder/own.codes" --own-statistics
accept info "$folder/own.codes"
expect "info of codes: statistics of their own" lines 1 \
    "of the model $sum, with statistics of their own\$"
accept decode "$model" "$folder/own.codes" -o "$folder/decoded.npy" --json
expect "decode: statistics that are not there" lines 1 'was made with --own-statistics'
sed 's/"model":"[0-9a-f]*"/"model":"0123456789abcdeg"/' "$codes" >"$folder/odd.codes"
refuse 1 "odd.codes: '0123456789abcdeg' is not a model's checksum" \
    decode "$model" "$folder/odd.codes" -o "$out/d.npy"
sed 's/"model":"/"maker":"/' "$codes" >"$folder/silent.codes"
accept decode "$model" "$folder/silent.codes" -o "$folder/decoded.npy" --json
expect "decode: codes that do not say their model" lines 1 'does not say which model made it'

accept name "$model" --vocab "$other" --words "$words" --json --top 3
expect "name: JSON" is_json
expect "name: every latent" lines 32 '"name":"word[0-9]*","score":'
accept name "$model" --vocab "$other" --words "$words" -o "$folder/names.tsv"
expect "name: a table" test "$(wc -l <"$folder/names.tsv")" -eq 33
expect "name: its header" test "$(head -n 1 "$folder/names.tsv")" = \
    "$(printf 'latent\tname\tscore\trunner_up\trunner_up_score\tvalid\tsupport\trows\t%s' \
        "$(printf 'agreement\tpurity\tapart\tmodel\tcodes')")"

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

# Names say how well they are borne out, and by which model.
accept name "$model" --vocab "$other" --words "$words" --data "$data" --min-support 5 --k 4 \
    -o "$folder/supported.tsv" --json
expect "name: support in JSON" lines 32 '"support":[0-9]+,"agreement":|"support":0,'
expect "name: none on fewer rows is valid" \
    awk -F '\t' 'NR > 1 && $6 && $7 < 5 { exit 1 }' "$folder/supported.tsv"
expect "name: support of all latents is k a row" \
    awk -F '\t' 'NR > 1 { sum += $7 } END { exit sum != 4 * 40 }' "$folder/supported.tsv"
accept info "$model" --json
sum=$(sed -n 2p "$folder/supported.tsv" | cut -f 12)
expect "name: the model's checksum" grep -q "\"model\":\"$sum\"" "$folder/stdout"
refuse 1 'min-support: 41 is more than the 40 rows of' \
    name "$model" --vocab "$other" --words "$words" --data "$data" --min-support 41
refuse 2 'min-support needs --data' \
    name "$model" --vocab "$other" --words "$words" --min-support 5
# shellcheck disable=SC2086
accept train "$data" -o "$folder/stranger" $small --seed 5
for command in "top --row 3" "search --row 3" "steer --set 1=3 -o $folder/y.npy" \
    "report -o $folder/y.html" "bias --labels $folder/sides.tsv --column side"; do
    awk 'BEGIN { print "side"; for (i = 0; i < 40; i++) print i % 2 }' >"$folder/sides.tsv"
    # shellcheck disable=SC2086
    set -- $command
    first=$1
    shift
    refuse 1 'supported.tsv: is of the model [0-9a-f]{16}, .*/stranger is [0-9a-f]{16}: name it again' \
        "$first" "$folder/stranger" "$data" "$@" --names "$folder/supported.tsv"
    accept "$first" "$model" "$data" "$@" --names "$folder/supported.tsv"
    expect "$first: names that say all" test ! -s "$folder/stderr"
    cut -f 1-6 "$folder/supported.tsv" >"$folder/unchecked.tsv"
    accept "$first" "$model" "$data" "$@" --names "$folder/unchecked.tsv"
    expect "$first: names that say neither model nor support" \
        grep -q 'unchecked.tsv: its names are unchecked: it says neither' "$folder/stderr"
done
awk -F '\t' -v OFS='\t' 'NR == 3 { $7 = 41 } { print }' "$folder/supported.tsv" >"$folder/many.tsv"
refuse 1 'many.tsv: line 3: a support of 41 in 40 rows' \
    top "$model" "$data" --row 3 --names "$folder/many.tsv"
awk -F '\t' -v OFS='\t' 'NR == 3 { $12 = "12ab" } { print }' "$folder/supported.tsv" >"$folder/odd.tsv"
refuse 1 "odd.tsv: line 3: '12ab' is not a model's checksum" \
    top "$model" "$data" --row 3 --names "$folder/odd.tsv"

printf 'latent\tname\tvalid\n1\tdog\tno\n' >"$folder/odd.tsv"
refuse 1 "odd.tsv: line 2: 'no' in the column valid is neither 0 nor 1" \
    top "$model" "$data" --row 3 --names "$folder/odd.tsv"

# A name that several latents have: the best supported, and what tells them apart.
{
    printf 'latent\tname\tscore\tvalid\tsupport\tapart\n'
    printf '4\tcat, felis\t0.9\t1\t3\ttiger\n5\tcat, felis\t0.3\t1\t30\tsiamese, siam\n'
    printf '6\tcat, felis\t0.4\t0\t300\ttabby\n7\tdog\t0.5\t1\t40\t\n8\ttabby\t0.5\t1\t40\t\n'
} | awk -v sum="$sum" '{ print $0 "\t" (NR == 1 ? "model" : sum) }' >"$folder/shared.tsv"
accept top "$model" "$data" --latent cat --names "$folder/shared.tsv" --json
expect "names: the best supported" lines 1 '^."latent":5,"name":"cat, felis","apart":"siamese, siam",'
expect "names: the others in JSON" \
    lines 1 '"choices":.."name":"cat","latent":5,"support":30,"others":.6,4'
expect "names: the others are said" grep -q \
    'note: --latent: cat: 3 latents, taking 5 (30 rows); others 6, 4$' "$folder/stderr"
accept top "$model" "$data" --latent dog --names "$folder/shared.tsv" --json
expect "names: nothing to choose" lines 0 'choices'
for asked in 'cat, siamese' 'cat (siam)' 'felis (siamese)' 'Cat, siamese, siam'; do
    accept top "$model" "$data" --latent "$asked" --names "$folder/shared.tsv"
    expect "names: $asked" lines 1 '^latent 5 cat .siamese, siam.: '
done
accept search "$model" "$data" --concepts "cat, siamese=2,dog" --names "$folder/shared.tsv"
expect "names: a second word in a list" lines 1 ': 2 latents, 5 .cat .siamese, siam..='
accept search "$model" "$data" --concepts "cat, tabby" --names "$folder/shared.tsv"
expect "names: two names in a list" lines 1 ': 2 latents, '
accept search "$model" "$data" --concepts "cat (tabby)" --names "$folder/shared.tsv"
expect "names: no list in brackets" lines 1 ': 1 latent, 6 '
refuse 1 "no concept is named 'cat .lion.' in .*shared.tsv" \
    top "$model" "$data" --latent "cat (lion)" --names "$folder/shared.tsv"
refuse 1 'o: .*words.txt is read too' name "$model" --vocab "$other" --words "$words" -o "$words"
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
for section in sweep training frequency scores concepts bias; do
    expect "report: section $section" grep -q "<section id=\"$section\">" "$page"
done
for chart in Density Monosemanticity Stability 'Nearest decoder row' 'Rows in common'; do
    expect "report: chart $chart, a line a model" test "$(sed -n "/<svg[^>]*aria-label=\"$chart\"/,/<\/svg>/p" \
        "$page" | grep -c '<path class="line s[01]"')" -eq 2
done
expect "report: the density's axis is logarithmic" grep -q '>frequency (log axis)<' "$page"
expect "report: nothing of a file is markup" test "$(grep -c '<script>' "$page")" -eq 1
expect "report: no image" test "$(grep -c '<img' "$page")" -eq 0
expect "report: nothing is loaded" test "$(grep -ciE 'https?:|<[a-z]+ [^>]*src=|url\(|@import|<link' "$page")" -eq 0
expect "report: a column of words has its head over them" test "$(grep -c '<th[^>]* class="text"' "$page")" -eq 3
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
# The overlap is of decoder rows as they are, which are unit but for the last step.
accept eval "$model" "$other" --k 16 --json --no-cknna
overlap=$(sed -n 's/.*"do":\([0-9.e-]*\).*/\1/p' "$folder/stdout")
accept eval "$model" "$other" --k 16 --json --no-cknna --do-cosines
expect "eval: do by cosines is another number, but near" awk -v a="$overlap" -v b="$(
    sed -n 's/.*"do":\([0-9.e-]*\).*/\1/p' "$folder/stdout")" \
    'BEGIN { exit !(a != b && a > 0 && b < 1.1 * a && b > 0.9 * a) }'
tool eval "$model" "$other" --k 16 --json
value=$(sed 's/.*"fvu_row":\([0-9.e-]*\).*/\1/' "$folder/stdout")
expect "report: eval's numbers" grep -q "data-key=\"$(printf '%.6s' "$value")[0-9]*\">" "$page"
for epoch in 1 2; do
    printf '{"event":"epoch","epoch":%d,"loss":0.5,"l0":8,"dead":0}\n' "$epoch"
done >"$folder/dead.jsonl"
accept report "$model" "$other" --log "$folder/dead.jsonl" -o "$folder/dead.html" --no-cknna
expect "report: a tick is no fraction of a latent" test "$(sed -n '/aria-label="Dead/,/<\/svg>/p' \
    "$folder/dead.html" | sed -n 's/.*text-anchor="end">\([^<]*\)<.*/\1/p' | tr '\n' ' ')" = '0 1 '
for start in '"recipe":"relu"|recipe is relu' '"n_inputs":9|n_inputs is 9, the model.s is 8' \
    '"n_latents":64|n_latents is 64, the model.s is 32'; do
    { printf '{"event":"start",%s}\n' "${start%%|*}"; cat "$folder/dead.jsonl"; } >"$folder/of_other.jsonl"
    refuse 1 "of_other.jsonl: line 1: is of another model: ${start##*|}" \
        report "$model" "$other" --log "$folder/of_other.jsonl" -o "$out/page.html"
done
accept report "$model" "$other" -o "$folder/plain.html" --no-cknna
expect "report: no purity without labels, no stability of one model" test "$(grep -c \
    -e 'aria-label="Purity"' -e 'aria-label="Stability"' "$folder/plain.html")" -eq 0
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
ln -s model.safetensors "$folder/to_model"
refuse 1 'o: .*to_model is read too' report "$model" "$other" -o "$folder/to_model"
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

# How good latents are: the table has a line for each, and no NaN.
scores=$folder/scores.tsv
awk 'BEGIN { for (i = 0; i < 40; i++) print (i % 3 ? "even" : "odd") }' >"$folder/sides.txt"
accept name "$model" --vocab "$other" --words "$words" --data "$data" --k 16 -o "$folder/scored.tsv"
accept score "$model" "$data" --k 16 --json -o "$scores" --by "$narrow" --labels "$folder/sides.txt" \
    --names "$folder/scored.tsv" --other "$model" "$model"
expect "score: JSON" is_json
for key in latents rows active common cosine_above_90 overlap_above_50 others set_cosine \
    monosemanticity purity agreement named_rows stability seconds model rows_skipped; do
    expect "score: no $key" lines 1 "^\{\"event\":\"done\",.*\"$key\":"
done
expect "score: a model is like itself" awk -F'\t' 'NR > 1 && $16 < 0.9999 { exit 1 }' "$scores"
# fields WANTED FILE: the number of fields in every line.
fields() {
    awk -F'\t' -v wanted="$1" 'NF != wanted { exit 1 } END { exit NR != 33 }' "$2"
}
expect "score: a line for each latent" fields 18 "$scores"
expect "score: agreement is the names' score" awk -F'\t' 'NR == FNR { score[$1] = $3; next }
    FNR > 1 && $2 > 0 && $14 != score[$1] { exit 1 }' "$folder/scored.tsv" "$scores"
expect "score: classes and their share" awk -F'\t' 'NR > 1 && $2 > 0 &&
    ($11 !~ /^(even|odd)$/ || $12 < 0.5 || $12 > 1) { exit 1 }' "$scores"
cp "$scores" "$folder/one.tsv"
accept score "$model" "$data" --k 16 -o "$scores" --by "$narrow" --labels "$folder/sides.txt" \
    --names "$folder/scored.tsv" --other "$model" "$model" --threads 3
expect "score: the same for any threads" cmp -s "$scores" "$folder/one.tsv"
expect "score: a table for people" lines 1 '^monosemanticity  .*[0-9] +-?0\.[0-9]+'
accept score "$model" "$data" --k 16 -o "$scores" --names "$folder/scored.tsv" --vocab "$other" --words "$words"
cut -f 1,2,12 "$folder/scored.tsv" >"$folder/bare.tsv"
accept score "$model" "$data" --k 16 -o "$folder/one.tsv" --names "$folder/bare.tsv"
expect "score: no agreement that nobody measured" awk -F'\t' 'NR > 1 && $14 != "" { exit 1 }' "$folder/one.tsv"
expect "score: agreement measured anew" awk -F'\t' 'NR == FNR { score[$1] = $3; next }
    FNR > 1 && $2 > 0 && $14 != score[$1] { exit 1 }' "$folder/scored.tsv" "$scores"
accept score "$model" "$data" --k 1 -o "$scores" --companions
expect "score: latents without rows have empty fields" awk -F'\t' '$2 == "0" { count++
    for (i = 4; i <= 16; i++) if ($i != "") exit 1 } END { exit count == 0 }' "$scores"
expect "score: what was not asked for is empty" awk -F'\t' 'NR > 1 {
    for (i = 11; i <= 16; i++) if ($i != "") exit 1 }' "$scores"
expect "score: no NaN" test "$(grep -ci 'nan\|inf' "$scores")" -eq 0
accept report "$model" "$data" --k all --labels "$folder/sides.txt" --no-cknna -o "$folder/page.html"
expect "report: purity with labels" grep -q '<svg[^>]*aria-label="Purity"' "$folder/page.html"
with_value 7 '\000\176' >"$folder/gap.npy"
refuse 1 'gap.npy: row 7 has a NaN' score "$model" "$folder/gap.npy" -o "$out/s"
refuse 1 'gap.npy: row 7 has a NaN' score "$model" "$data" --by "$folder/gap.npy" -o "$out/s"
accept score "$model" "$data" --by "$folder/gap.npy" -o "$scores" --skip-bad --json
expect "score: a row that the other side leaves out" lines 1 '"rows":39,.*"rows_skipped":1,'
refuse 1 'other.npy: has 25 rows, and .*data.npy has 40' score "$model" "$data" --by "$other" -o "$out/s"
refuse 1 'words.txt: .*25.*40' score "$model" "$data" --labels "$words" -o "$out/s"
accept train "$data" -o "$folder/second" --seed 7 --recipe topk --k 4 --latents 16 --epochs 1 --batch 16
refuse 1 'scored.tsv: ' score "$folder/second" "$data" --names "$folder/scored.tsv" -o "$out/s"
accept score "$model" "$data" --other "$folder/second" -o "$scores" --json
expect "score: half have no match" lines 1 '"p5":0,"p25":0,'
accept train "$narrow" -o "$folder/slim" --latents 16 --epochs 1 --batch 16
refuse 1 'slim: has 7 inputs' score "$model" "$data" --other "$folder/slim" -o "$out/s"
# Of many latents companions, whose memory is their square, are for who asks.
accept train "$data" -o "$folder/many" --latents 16400 --recipe topk --k 4 --epochs 1 --batch 40
accept score "$folder/many" "$data" -o "$scores"
expect "score: a note that companions are left out" grep -q 'note: .*many: the companions of 16400 latents' "$folder/stderr"
expect "score: no companions, but nearest" awk -F'\t' 'NR > 1 && $2 > 0 && $7 != "" { near++ }
    NR > 1 && $9 != "" { exit 1 } END { exit near == 0 }' "$scores"
refuse 1 'k.*33.*32' score "$model" "$data" --k 33 -o "$out/s"
refuse 2 'behind --other' score "$model" "$data" "$model" -o "$out/s"
refuse 2 'o SCORES.tsv is missing|-o' score "$model" "$data"
refuse 2 'vocab .*names' score "$model" "$data" --vocab "$other" --words "$words" -o "$out/s"
refuse 1 'o: .*to_model is read too' align "$model" "$model" -o "$folder/to_model"

# An evaluation set with its own mean and scale.
accept eval "$model" "$other" --own-statistics --json
expect "eval of another modality: JSON" is_json
accept eval "$model" "$other"
expect "eval: a table with deviations" lines 1 '^ *16 .*±'

for recipe in msae msae-width msae-uw msae-rw topk batchtopk relu jumprelu; do
    case $recipe in # what each can do with
    topk | batchtopk) shape="$plain --k 4" ;;
    relu | jumprelu) shape=$plain ;;
    msae-width) shape="$small --k 4" ;;
    *) shape=$small ;;
    esac
    for option in '' --tied --normalize; do
        # shellcheck disable=SC2086
        accept train "$data" -o "$folder/r" --recipe $recipe $option $shape --val "$other"
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
    accept train "$data" -o "$folder/b" --latents 32 --nesting 4 --epochs 2 --batch 16 --seed 3 \
        --threads 3
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
        # It goes on in its checkpoint, from which it can be stopped and resumed again.
        cp "$checkpoint" "$folder/first"
        "$msae" train "$data" -o "$folder/m" --resume "$checkpoint" --every 2 \
            >"$folder/stdout" 2>"$folder/stderr" &
        while cmp -s "$checkpoint" "$folder/first" && kill -0 $! 2>/dev/null; do sleep 0.01; done
        kill -s $signal $!
        wait $!
        expect "$signal: a resumed run says where its checkpoints are" \
            grep -q "^going on after step [0-9]*, with checkpoints in $checkpoint\$" "$folder/stderr"
        expect "$signal: a resumed run, a line" \
            grep -q -- "--resume $checkpoint goes on" "$folder/stderr"
        expect "$signal: a resumed run is kept" test -n "$(cmp "$checkpoint" "$folder/first" 2>&1)"
        accept train "$data" -o "$folder/m" $long --checkpoint "$checkpoint" --resume "$checkpoint"
        expect "$signal: the bytes of a whole run" cmp -s "$folder/whole" "$folder/m"
    done
    accept train "$data" -o "$folder/m" --checkpoint "$checkpoint" --every 2 --json $small
    expect "checkpoints: JSON" is_json
    expect "checkpoints: every two of six steps" lines 3 '^\{"event":"checkpoint","step":[246],'
    accept train "$data" -o "$folder/m" --checkpoint "$checkpoint" --json $small
    expect "checkpoints: every epoch" lines 2 '^\{"event":"checkpoint","step":[36],'
    cp "$checkpoint" "$folder/raised"
    accept train "$data" -o "$folder/m" --resume "$checkpoint" --checkpoint "$folder/elsewhere" \
        --epochs 3 --json
    expect "a raised number of epochs" lines 1 '"event":"done",.*"steps":9,'
    expect "a checkpoint elsewhere leaves the one resumed from" cmp -s "$checkpoint" "$folder/raised"
    accept train "$data" -o "$folder/m" --resume "$folder/raised" --every 2 --epochs 3 --json
    expect "resumed: the checkpoint in JSON" lines 1 '"event":"start",.*"checkpoint":".*/raised"'
    expect "resumed: checkpoints, by its --every" lines 1 '^\{"event":"checkpoint","step":8,'
    accept train "$data" -o "$folder/m" --resume "$folder/raised" --epochs 4 --json
    expect "resumed: checkpoints, every epoch" lines 2 '^\{"event":"checkpoint","step":(9|12),'
    accept info "$folder/raised"
    expect "resumed: the end is kept" lines 1 ' checkpoint, .* 12 steps'
    # One that cannot be written is to be kept elsewhere.
    mkdir "$folder/locked"
    cp "$checkpoint" "$folder/locked/run"
    chmod a-w "$folder/locked/run" "$folder/locked"
    if [ ! -w "$folder/locked/run" ]; then # not so for root
        refuse 1 'locked/run: Permission denied; --checkpoint FILE keeps the run elsewhere' \
            train "$data" -o "$out/m" --resume "$folder/locked/run"
        accept train "$data" -o "$folder/m" --resume "$folder/locked/run" \
            --checkpoint "$folder/elsewhere" --epochs 3
    else
        skipped=$((skipped + 1))
    fi
    chmod u+w "$folder/locked"
    if [ -e /dev/fd/0 ]; then
        refuse 1 '/dev/fd/0: .*; --checkpoint FILE keeps the run elsewhere' \
            train "$data" -o "$out/m" --resume /dev/fd/0 <"$checkpoint"
        accept train "$data" -o "$folder/m" --resume /dev/fd/0 --checkpoint "$folder/elsewhere" \
            --epochs 3 <"$checkpoint"
    fi
}
for differs in '--recipe topk' '--latents 31' '--expansion 2' '--nesting 5' '--nesting 4,8' \
    '--weights 1,2,3,4' '--weights 1' '--activation abs' --tied --normalize \
    '--softcap 1' '--batch 17' '--lr 0.1' '--schedule linear' '--loss mse' '--lambda 1' \
    '--bandwidth 1' '--beta1 0.8' '--beta2 0.98' '--eps 0' '--warmup 0.1' '--warmup 0' \
    '--decay 0.1' '--start random' '--revivals 7' '--scale none' --geometric-median \
    '--weight-decay 1' '--clip 0' '--seed 1' '--k 5' --skip-bad; do
    # shellcheck disable=SC2086
    refuse 1 "^msae: ${differs%% *}: the run in .* has another value" \
        train "$data" -o "$out/m" --resume "$checkpoint" $differs
done
refuse 1 "^msae: --revivals: the run in .* has another value" \
    train "$data" -o "$out/m" --resume "$checkpoint" --no-revivals
accept train "$data" -o "$folder/m" --resume "$checkpoint" --recipe msae --latents 32 \
    --nesting 4,8,16,32 --weights 2.25,1.75,1,3 --k 32 --activation relu --batch 16 --lr 0.0005 \
    --beta1 0.9 --beta2 0.99 --eps 6.25e-10 --schedule trapezoid --warmup 0.03 --decay 0.4 --start rows \
    --revivals 6 --loss nmse --clip 1 --scale rms --seed 0
accept train "$data" -o "$folder/m" --resume "$checkpoint" --expansion 4
# Options of the run with other values than the recipe's, zeros and none too.
# shellcheck disable=SC2086
for options in '--beta1 0 --warmup 0 --decay 0' '--warmup 0.5 --decay 0.5' '--revivals 1000' \
    '--no-revivals --start random --schedule constant' '--recipe topk --start rows --revivals 2'; do
    case $options in --recipe*) shape=$plain ;; *) shape=$small ;; esac
    accept train "$data" -o "$folder/m" --checkpoint "$folder/other" $shape $options
    accept train "$data" -o "$folder/again" --resume "$folder/other" $options
    expect "$options: resumed" cmp -s "$folder/m" "$folder/again"
done
accept train "$data" -o "$folder/m" --json $small
expect "revivals are counted in each epoch's line" lines 2 '^\{"event":"epoch",.*"revived":[0-9]'
# The published schedule goes above 1 where epochs are no multiple of five, and says so.
for options in '--recipe msae-uw --epochs 2' '--recipe topk --epochs 1' \
    '--schedule published --epochs 3' '--schedule capped --epochs 7'; do
    # shellcheck disable=SC2086
    accept train "$data" -o "$folder/m" --json --latents 32 --batch 16 $options
    expect "$options: warned of" grep -q 'warning: the .* multiplies the learning rate' "$folder/stderr"
    expect "$options: in JSON" lines 1 '"warnings":\["the .*--schedule linear never goes above 1"\]'
done
for options in '--recipe msae-uw --epochs 5' '--epochs 2' '--schedule linear --epochs 2'; do
    # shellcheck disable=SC2086
    accept train "$data" -o "$folder/m" --json --latents 32 --batch 16 $options
    expect "$options: no warning" lines 1 '"event":"done",.*"warnings":\[\]'
done
# Runs that came to nothing say so, and what to change: rows without spread, a loss that the mean of
# the rows has too, most latents dead. The model is written all the same.
# warns REGEX DATA OPTION..: the one warning of training on DATA, in JSON as well.
warns() {
    warned=$1
    from=$2
    shift 2
    accept train "$from" -o "$folder/m" --json --threads 2 "$@"
    expect "$from $*: not one warning" lines_of_errors 1
    expect "$from $*: no '$warned'" grep -Eq "^msae: warning: $warned" "$folder/stderr"
    expect "$from $*: in JSON" \
        lines 1 "\"event\":\"done\",.*\"warnings\":\[\"$warned[^\"]*\"\]\}"
}
for own in '' '--epochs 3' '--lr 0.01 --no-revivals'; do
    as="--epochs 1 --batch 128 --lr 0.003 --revivals 12"
    test "$own" = '--epochs 3' && as="--epochs 3 --batch 128 --lr 0.003 --revivals 12"
    test "$own" = '--lr 0.01 --no-revivals' && as="--epochs 1 --batch 128 $own"
    accept train "$data" -o "$folder/fast" --latents 32 --fast $own
    accept train "$data" -o "$folder/spelt" --latents 32 $as
    expect "--fast $own is $as" cmp -s "$folder/fast" "$folder/spelt"
done
refuse 2 '--fast does not apply to recipe topk' \
    train "$data" -o "$out/m" --latents 32 --fast --recipe topk
{ header '<f2' False '(1, 8)' && halves 8 1; } >"$folder/one.npy"
{ header '<f2' False '(70, 8)' && for _ in $(seq 70); do halves 8 1; done; } >"$folder/same.npy"
{ header '<f2' False '(70, 8)' && head -c 1120 /dev/zero; } >"$folder/zeros.npy"
warns '[^ ]*one.npy: one row has no spread' "$folder/one.npy" --latents 32
warns '[^ ]*same.npy: all 70 rows are the same' "$folder/same.npy" --latents 32
warns '[^ ]*same.npy: all 70 rows are the same' "$folder/same.npy" --latents 32 --window 1 \
    --scale none
warns '[^ ]*zeros.npy: all 70 rows are zero' "$folder/zeros.npy" --recipe jumprelu --latents 32 \
    --epochs 5
warns '40 rows for 4096 latents: loss .* alone has 1: fewer --latents' "$data" --latents 4096 \
    --epochs 1
warns 'loss .* alone has 1: a lower --lr' "$data" --latents 32 --lr 0.3 --batch 4 --epochs 3
warns 'loss .* alone has [0-9.]*: .*--lambda' "$data" --loss mse --scale none --recipe relu \
    --latents 32 --lambda 100 --lr 0.01 --batch 2 --epochs 20
expect "a penalty is not cured by more epochs" grep -vq -e '--epochs' "$folder/stderr"
warns '.* of 32 latents are dead.*--revivals' "$data" --recipe topk --k 1 --latents 32 --epochs 20 \
    --batch 4 --lr 0.05
refuse 1 'warmup and decay' train "$data" -o "$out/m" --latents 32 --warmup 0.7
refuse 1 'warmup' train "$data" -o "$out/m" --latents 32 --warmup nan
refuse 1 'start' train "$data" -o "$out/m" --latents 32 --start nowhere
refuse 1 'revivals' train "$data" -o "$out/m" --latents 32 --revivals -1
refuse 1 'revivals: .1001. is not a whole number from 1 to 1000' \
    train "$data" -o "$out/m" --latents 32 --revivals 1001
refuse 2 'no-revivals takes no value' train "$data" -o "$out/m" --latents 32 --no-revivals=1
refuse 1 'the last width' train "$data" -o "$out/m" --latents 32 --recipe msae-width --nesting 4,8
refuse 1 '^msae: --epochs: the run in .* has 2, which may only be raised' \
    train "$data" -o "$out/m" --resume "$checkpoint" --epochs 1
# shellcheck disable=SC2086
{
    accept train "$data" -o "$folder/m" $plain --recipe topk --k 7 --softcap 2 \
        --checkpoint "$folder/topk"
    refuse 1 '^msae: --k: ' train "$data" -o "$out/m" --resume "$folder/topk" --k 8
    refuse 1 '^msae: --softcap: ' train "$data" -o "$out/m" --resume "$folder/topk" --softcap 0

    # Outputs that would take the place of inputs, or of each other, also by another name.
    cp "$data" "$folder/precious.npy"
    ln -s precious.npy "$folder/alias"
    refuse 1 '^msae: -o: ' train "$folder/precious.npy" -o "$folder/alias" $small
    refuse 1 '^msae: -o: ' train "$data" --val "$folder/precious.npy" -o "$folder/alias" $small
    refuse 1 'checkpoint: .*m is the file of -o too' train "$data" -o "$out/m" --checkpoint "$out/m" $small
    refuse 1 '^msae: -o: ' train "$data" -o "$checkpoint" --resume "$checkpoint" $small
    refuse 1 '^msae: --resume: ' train "$data" -o "$out/m" --resume "$checkpoint" --val "$checkpoint"
    refuse 1 '^msae: --checkpoint: ' train "$folder/precious.npy" -o "$out/m" \
        --checkpoint "$folder/alias" $small
    refuse 1 '/precious.npy: a model is written as .safetensors \(its name says .npy\)$' \
        train "$data" -o "$folder/precious.npy" $small
    expect "the data is there still" cmp -s "$data" "$folder/precious.npy"
}
refuse 1 'other.npy: has 25 rows, the run in .* is over 40' \
    train "$other" -o "$out/m" --resume "$checkpoint"
refuse 1 'narrow.npy: has 7 columns where 8 are needed' \
    train "$narrow" -o "$out/m" --resume "$checkpoint"
refuse 1 'model.safetensors: is a model, not a checkpoint' train "$data" -o "$out/m" --resume "$model"
refuse 1 'missing: cannot be opened' train "$data" -o "$out/m" --resume "$folder/missing"
refuse 2 '--every needs --checkpoint' train "$data" -o "$out/m" --every 3

# A batch larger than the data is one batch; rows that are skipped are counted.
accept train "$data" -o "$folder/a" --latents 32 --epochs 1 --batch 100000 --json
expect "a batch larger than the data" lines 1 '"event":"done",.*"steps":1,'
with_value 17 '\000\176' >"$folder/nan.npy"
with_value 3 '\000\174' >"$folder/inf.npy"
# shellcheck disable=SC2086
accept train "$folder/nan.npy" -o "$folder/a" $small --skip-bad --json
expect "rows that are skipped" lines 1 '"event":"done",.*"rows_skipped":1,'
warned='nan.npy: 1 row has a NaN or Inf .first: row 17. and was left out'
expect "rows that are skipped: which" lines 1 "\"warnings\":\[\"[^\"]*$warned\"\]"
# Rows of far larger norm than the others are told of and can be left out: half a row of 60,000s.
{ head -c $((128 + 17 * 16)) "$data" && for _ in 1 2 3 4; do printf '\123\173'; done && \
    tail -c +$((128 + 17 * 16 + 9)) "$data"; } >"$folder/long_row.npy"
rows='long_row.npy: 1 row has a norm above 50 times the median .first: row 17.'
# shellcheck disable=SC2086
{
    accept train "$folder/long_row.npy" -o "$folder/m" $small --json
    expect "a far row" lines 1 "\"rows_skipped\":0,.*\"warnings\":\[\"[^\"]*$rows: --max-norm 50 "
    accept train "$folder/long_row.npy" -o "$folder/m" $small --json --max-norm 50 \
        --checkpoint "$folder/other"
    expect "a far row is left out" \
        lines 1 "\"rows_skipped\":1,.*\"warnings\":\[\"[^\"]*$rows and was left out\"\]"
    accept train "$folder/long_row.npy" -o "$folder/again" --resume "$folder/other" --epochs 3 --json
    expect "a far row is left out of a run that goes on" \
        lines 1 "\"rows_skipped\":1,.*\"warnings\":\[\"[^\"]*$rows and was left out\"\]"
    refuse 1 'max-norm: the run in .* has another value' \
        train "$folder/long_row.npy" -o "$out/m" --resume "$folder/other" --max-norm 40
    refuse 1 'max_norm is below 1' train "$data" -o "$out/m" $small --max-norm 0.5
    accept train "$data" -o "$folder/m" $small --json --max-norm 50
    expect "no row is far" lines 1 '"rows_skipped":0,.*"warnings":\[\]'
}

# ------------------------------------------------------------------------------------------------
# Bad rows that are left out: what comes of the others is what they give alone
# ------------------------------------------------------------------------------------------------

# rows of 8 halves: all but rows 3 and 17, which are bad in holes.npy
with_value 17 '\000\176' >"$folder/one_hole.npy"
{ head -c $((128 + 3 * 16)) "$folder/one_hole.npy"; printf '\000\174'
    tail -c +$((128 + 3 * 16 + 3)) "$folder/one_hole.npy"; } >"$folder/holes.npy"
{ header '<f2' False '(38, 8)'; tail -c +129 "$data" | head -c $((3 * 16))
    tail -c +$((129 + 4 * 16)) "$data" | head -c $((13 * 16))
    tail -c +$((129 + 18 * 16)) "$data"; } >"$folder/good.npy"
awk 'BEGIN { for (i = 0; i < 40; i++) print (i % 4 < 2 ? "dog" : "cat") }' >"$folder/holes.txt"
sed '18d; 4d' "$folder/holes.txt" >"$folder/good.txt"
{ echo kind; cat "$folder/holes.txt"; } >"$folder/holes.tsv"
{ echo kind; cat "$folder/good.txt"; } >"$folder/good.tsv"
holes=$folder/holes.npy
good=$folder/good.npy
said='^msae: warning: .*holes.npy: 2 rows have a NaN or Inf \(first: row 3\) and were left out$'

# without_figures: standard output without what may differ between both: times, files, warnings.
without_figures() {
    sed -E -e 's/"(seconds|eval_seconds|other_seconds)":[^,}]*//g' -e 's/"(file|data|output)":"[^"]*"//g' \
        -e 's/"rows_skipped":[0-9]*,"warnings":\[[^]]*\]//' "$folder/stdout"
}

# same_as_good COMMAND ARGUMENT..: with HOLES, and once more with GOOD in their places.
same_as_good() {
    refuse 1 'holes.npy: row 3 has a NaN or Inf \(--skip-bad leaves such rows out\)' \
        "$@" --json
    accept "$@" --skip-bad --json
    expect "$1 of bad rows: said once" [ "$(grep -Ec "$said" "$folder/stderr")" -eq 1 ]
    expect "$1 of bad rows: counted" grep -q '"rows_skipped":2,' "$folder/stdout"
    expect "$1 of bad rows: JSON" is_json
    without_figures >"$folder/with_holes"
    for argument in "$@"; do
        shift
        case $argument in
        "$folder"/holes*) argument=$folder/good${argument#"$folder"/holes} ;;
        "$out"/*) argument=$folder/${argument#"$out"/} ;;
        esac
        set -- "$@" "$argument"
    done
    rm -rf "${out:?}"/*
    accept "$@" --json
    without_figures >"$folder/without_holes"
    expect "$1 of bad rows: the others" cmp -s "$folder/with_holes" "$folder/without_holes"
}

same_as_good eval "$model" "$holes" --k 4,8
same_as_good eval "$model" "$holes" --own-statistics --k 8
same_as_good probe "$holes" --labels "$folder/holes.tsv" --column kind --probe-input raw
same_as_good bias "$model" "$holes" --labels "$folder/holes.tsv" --column kind
same_as_good convert "$model" --calibrate "$holes" -o "$out/calibrated"
same_as_good report "$model" "$holes" --no-cknna -o "$out/page"

# Rows keep their numbers and their labels.
accept top "$model" "$holes" --latent 2 --top 40 --labels "$folder/holes.txt" --skip-bad --json
expect "the strongest rows: all good ones" lines 1 '"rows":38,'
expect "the strongest rows: none that is bad" lines 0 '"row":(3|17),'
expect "the strongest rows: their labels" awk '{
    for (n = split($0, hit, "{\"row\":"); n > 1; n--) {
        row = hit[n] + 0
        if (hit[n] !~ (row % 4 < 2 ? "dog" : "cat")) exit 1
    }
}' "$folder/stdout"

# Doubles that float32 cannot hold: 1e300 in row 1 of 2 x 8.
{ header '<f8' False '(2, 8)'; head -c 64 /dev/zero
    printf '\234\165\000\210\074\344\067\176'; head -c 56 /dev/zero; } >"$folder/huge.npy"
refuse 1 'huge.npy: row 1 has a value beyond float32 .--skip-bad ' eval "$model" "$folder/huge.npy"
refuse 1 'huge.npy: row 1 has a NaN, an Inf or a value beyond float32 .--skip-bad ' \
    encode "$model" "$folder/huge.npy" -o "$out/c"
refuse 1 'huge.npy: row 1 has a NaN, an Inf or a value beyond float32 .--skip-bad ' \
    encode "$model" "$data" "$folder/huge.npy" -o "$out/c"
refuse 1 'huge.npy: row 1 has a NaN, an Inf or a value beyond float32 .--skip-bad ' \
    train "$data" "$folder/huge.npy" --latents 16 -o "$out/m"
accept eval "$model" "$folder/huge.npy" --k 4 --skip-bad
expect "doubles beyond float32 are left out" grep -q \
    'huge.npy: 1 row has a NaN, an Inf or a value beyond float32 (first: row 1) and was left out$' \
    "$folder/stderr"

refuse_row() {
    tool "$@" --skip-bad
    expect "a bad row that is asked for: $1" [ "$status" -eq 1 ]
    expect "a bad row that is asked for: $1, the reason" \
        grep -q '^msae: --row: row 3 of .*holes.npy has a NaN or Inf$' "$folder/stderr"
}
refuse_row top "$model" "$holes" --row 3
refuse_row search "$model" "$holes" --row 3
refuse_row steer "$model" "$holes" --row 3 --set 2=1 -o "$out/steered"
accept search "$model" "$holes" --row 4 --top 40 --skip-bad --json
expect "search: no row that is bad" lines 0 '\{"row":(3|17),'
accept search "$model" "$data" --query "$holes" --top 1 --skip-bad --json
expect "queries that are bad are left out" lines 38 '^\{"query":'
expect "the other queries keep their numbers" lines 1 '^\{"query":37,"row":39,'
accept search "$model" "$holes" --labels "$folder/holes.txt" --evaluate 40 --skip-bad --json
expect "search: rows that are drawn" lines 1 '"queries":38,"eligible":38,'
accept name "$model" --vocab "$holes" --words "$folder/holes.txt" --data "$holes" --skip-bad --json
expect "names of bad rows" lines 1 '"event":"done",.*"rows_skipped":4,'

# numbers FILE OFFSET COUNT TYPE: so many numbers of a file.
numbers() {
    od -A n -v -t "$4" -j "$2" -N $(($3 * 8)) "$1" | tr -s ' \n' '\n\n'
}
accept encode "$model" "$holes" --k 5 -o "$folder/holes.codes" --skip-bad --json
expect "encode: counts bad rows" lines 1 '"rows":40,.*"rows_skipped":2,'
accept encode "$model" "$good" --k 5 -o "$folder/good.codes" --json
numbers "$folder/holes.codes" 1024 41 d8 >"$folder/holes.starts"
numbers "$folder/good.codes" 1024 39 d8 >"$folder/good.starts"
expect "encode: bad rows have no entries, and their places" \
    awk 'NF { start[++n] = $1 } END { exit !(n == 41 && start[4] == start[5] &&
        start[18] == start[19] && start[3] < start[4] && start[5] < start[6]) }' \
    "$folder/holes.starts"
tail -c +$((1024 + 41 * 8 + 1)) "$folder/holes.codes" >"$folder/holes.entries"
tail -c +$((1024 + 39 * 8 + 1)) "$folder/good.codes" >"$folder/good.entries"
expect "encode: the codes of the others" cmp -s "$folder/holes.entries" "$folder/good.entries"
accept decode "$model" "$folder/holes.codes" -o "$folder/holes.decoded"

accept tree "$model" "$holes" --min-lift 0 -o "$folder/holes.tree" --skip-bad
accept tree "$model" "$good" --min-lift 0 -o "$folder/good.tree"
expect "tree: without the bad rows" cmp -s "$folder/holes.tree" "$folder/good.tree"
accept score "$model" "$holes" --k 8 -o "$folder/holes.scores" --skip-bad
accept score "$model" "$good" --k 8 -o "$folder/good.scores"
expect "score: without the bad rows" cmp -s "$folder/holes.scores" "$folder/good.scores"
accept steer "$model" "$holes" --set 2=1 -o "$folder/holes.steered" --skip-bad
accept steer "$model" "$good" --set 2=1 -o "$folder/good.steered"
tail -c +129 "$folder/holes.steered" >"$folder/holes.rows"
{ head -c $((3 * 32)) "$folder/holes.rows"
    tail -c +$((4 * 32 + 1)) "$folder/holes.rows" | head -c $((13 * 32))
    tail -c +$((18 * 32 + 1)) "$folder/holes.rows"; } >"$folder/holes.others"
tail -c +129 "$folder/good.steered" >"$folder/good.others"
expect "steer: the other rows" cmp -s "$folder/holes.others" "$folder/good.others"
expect "steer: a bad row as it was" [ "$(numbers "$folder/holes.rows" $((3 * 32)) 1 x8 |
    tr -d '\n' | tail -c 8)" = 7f800000 ]

# In a set of files the first one is named; nothing but bad rows is an error.
{ header '<f2' False '(1, 8)'; tail -c +$((129 + 3 * 16)) "$holes" | head -c 16; } \
    >"$folder/all_bad.npy"
for command in eval encode; do
    output=
    if [ "$command" = encode ]; then output="-o $out/c"; fi
    # shellcheck disable=SC2086
    refuse 1 'all_bad.npy: every row has a NaN or Inf$' \
        $command "$model" "$folder/all_bad.npy" $output --skip-bad
done
accept encode "$model" "$data" "$holes" -o "$folder/codes.of.two" --skip-bad
expect "a set of files: where the first bad row is" \
    grep -q 'data.npy and 1 other: 2 rows have a NaN or Inf (first: row 3 of .*/holes.npy) and were left out$' \
    "$folder/stderr"

# ------------------------------------------------------------------------------------------------
# Data in other orders and types
# ------------------------------------------------------------------------------------------------

# 40 rows of 8: the same numbers in C order, in Fortran order (the columns one after the other) and
# big-endian, and as sets with a file of one and of the other.
awk 'BEGIN { for (r = 0; r < 40; r++) for (c = 0; c < 8; c++) print (r * 7 + c * 13) % 29 + 96 }' >"$folder/bytes"
octal() { while read -r low; do printf '\\%03o\\%03o' "$low" 60; done; }
turned() { while read -r low; do printf '\\%03o\\%03o' 60 "$low"; done; }
by_columns() { awk '{ at[NR - 1] = $1 } END { for (c = 0; c < 8; c++) for (r = 0; r < 40; r++) print at[r * 8 + c] }'; }
# shellcheck disable=SC2059
{
    { header '<f2' False '(40, 8)' && printf "$(octal <"$folder/bytes")"; } >"$folder/plain.npy"
    { header '<f2' True '(40, 8)' && printf "$(by_columns <"$folder/bytes" | octal)"; } >"$folder/fortran.npy"
    { header '>f2' False '(40, 8)' && printf "$(turned <"$folder/bytes")"; } >"$folder/big.npy"
    { header '>f2' True '(40, 1, 8)' && printf "$(by_columns <"$folder/bytes" | turned)"; } >"$folder/both.npy"
}
accept encode "$model" "$folder/plain.npy" -o "$folder/plain.codes"
for order in fortran big both; do
    accept encode "$model" "$folder/$order.npy" -o "$folder/$order.codes"
    expect "$order: the same codes" cmp -s "$folder/plain.codes" "$folder/$order.codes"
    accept eval "$model" "$folder/$order.npy" --no-cknna
done
accept encode "$model" "$folder/plain.npy" "$folder/plain.npy" -o "$folder/plain.codes"
accept encode "$model" "$folder/fortran.npy" "$folder/big.npy" -o "$folder/both.codes"
expect "a set of two orders: the same codes" cmp -s "$folder/plain.codes" "$folder/both.codes"

# Text: the same numbers with commas, with tabs behind names and under a line of them, with blanks as
# word2vec writes them, with semicolons and the line ends of Windows.
table() { awk -v between="$1" -v name="$2" -v end="$3" '{
        r = int((NR - 1) / 8); c = (NR - 1) % 8
        printf "%s%s%s", c == 0 && name ? "row" r between : "", 1 + $1 / 1024, c < 7 ? between : end "\n"
    }' "$folder/bytes"; }
table , '' '' >"$folder/plain.csv"
{ printf 'name\ta\tb\tc\td\te\tf\tg\th\n' && table '\t' 1 ''; } >"$folder/plain.tsv"
{ echo "40 8" && table ' ' 1 ''; } >"$folder/plain.txt"
{ printf '\357\273\277' && table ';' '' '\r' && printf '\r\n'; } >"$folder/semicolons.csv"
table , '' '' | awk '{ for (i = 1; i <= NF; i++) print }' | tr , ' ' | head -n 40 >"$folder/blanks.txt"
accept encode "$model" "$folder/plain.csv" -o "$folder/plain.codes"
for text in plain.tsv plain.txt semicolons.csv blanks.txt; do
    accept encode "$model" "$folder/$text" -o "$folder/text.codes"
    expect "$text: the same codes" cmp -s "$folder/plain.codes" "$folder/text.codes"
done
accept info "$folder/plain.tsv"
expect "info: text with numbers is data" lines 1 'plain.tsv: data, 40 rows of 8, F32'
head -n 25 "$folder/plain.csv" >"$folder/few.csv"
accept name "$model" --vocab "$folder/few.csv" --words "$words" -o "$folder/text.names"
printf '1,2,3,4,5,6,7,8\n1,2,3,4,5,6,7\n' >"$folder/ragged.csv"
refuse 1 'ragged.csv: line 2 has 7 numbers where those before have 8' eval "$model" "$folder/ragged.csv"
printf '1,2,3,4,5,6,7,8\n1,2,x,4,5,6,7,8\n' >"$folder/word.csv"
refuse 1 "word.csv: line 2, column 3: 'x' is not a number" eval "$model" "$folder/word.csv"
printf '1,2,3,4,5,6,7,8\n1,2,nan,4,5,6,7,8\n' >"$folder/nan.csv"
refuse 1 'nan.csv: row 1 has a NaN' eval "$model" "$folder/nan.csv"
printf '\n\n' >"$folder/blank.csv"
refuse 1 'blank.csv: the text has no line of numbers' eval "$model" "$folder/blank.csv"
printf '1,2,0x10,4,5,6,7,8\n1,2,3,4,5,6,7,8\n1,2,0x10,4,5,6,7,8\n' >"$folder/hexadecimal.csv"
refuse 1 "hexadecimal.csv: line 1, column 3: '0x10' is not a number" eval "$model" "$folder/hexadecimal.csv"

# ------------------------------------------------------------------------------------------------
# What it refuses
# ------------------------------------------------------------------------------------------------

: >"$folder/empty.npy"
echo "no array at all" >"$folder/text.npy"
{ header '<i2' False '(40, 8)' && halves 320 1; } >"$folder/integers.npy"
{ header '<f2' False '(4, 10, 8)' && halves 320 1; } >"$folder/three.npy"
header '<f2' False '(0, 8)' >"$folder/rowless.npy"
head -c 700 "$data" >"$folder/cut.npy"
{ cat "$data" && echo; } >"$folder/long.npy"
mkdir "$folder/folder.npy"

for bad in missing folder empty text integers three rowless cut long; do
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
refuse 1 'k = 33 is more than' train "$data" -o "$out/m" --latents 32 --k 33
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

# An option with two values, or without effect in such a command, is no option to go by.
refuse 2 '^msae: --latents: given twice, 128 and 64$' \
    train "$data" -o "$out/m" --latents 128 --latents 64
refuse 2 'given twice, 3 and 4' top "$model" "$data" --row=3 --row 4
refuse 2 'given twice, 4,8,32 and 4,8' \
    train "$data" -o "$out/m" --latents 32 --nesting 4,8,32 --nesting=4,8
refuse 2 'given twice, a and b' eval "$model" "$data" --tensor a --tensor b
accept train "$data" -o "$folder/m" --latents 32 --latents=32 --lr 0.01 --lr 1e-2 --tied --tied \
    --epochs 1
refuse 2 'exclude each other' train "$data" -o "$out/m" --latents 32 --expansion 2
refuse 2 'exclude each other' train "$data" -o "$out/m" --revivals 2 --no-revivals
refuse 2 'exclude each other' train "$data" -o "$out/m" --shares 2 --no-shares
refuse 2 'no-shares is of msae-mpi' train "$data" -o "$out/m" --no-shares
for idle in 'topk --nesting 4' 'batchtopk --weights 1' 'relu --k 4' 'jumprelu --k 4' \
    'batchtopk --activation abs' 'topk --lambda 1' 'msae --lambda 0' 'relu --bandwidth 1' \
    'topk --bandwidth 0.001'; do
    option=${idle#* }
    # shellcheck disable=SC2086
    refuse 2 "train: ${option% *} does not apply to recipe ${idle%% *} " \
        train "$data" -o "$out/m" --latents 32 --recipe $idle
done
refuse 2 'lambda does not apply to recipe msae ' train "$data" -o "$out/m" --latents 32 --lambda 1
refuse 2 'warmup does not apply to schedule published' \
    train "$data" -o "$out/m" --latents 32 --recipe topk --warmup 0.1
refuse 2 'decay does not apply to schedule cosine' \
    train "$data" -o "$out/m" --latents 32 --schedule cosine --decay 0.1
refuse 2 'raw needs --concepts or --edit' search "$model" "$data" --row 3 --raw
refuse 2 'raw needs --set, --add or --clamp' steer "$model" "$data" -o "$out/y" --ablate 1 --raw
refuse 2 'keep-rest needs --edit or --without' search "$model" "$data" --row 3 --keep-rest
refuse 2 'seed needs --evaluate' search "$model" "$data" --row 3 --seed 3
refuse 2 'ablate needs --without or --evaluate' search "$model" "$data" --row 3 --ablate 3
refuse 2 'holdout and --test exclude' probe "$data" --labels "$words" --holdout 0.3 \
    --test "$other" --test-labels "$words"
refuse 2 'column needs --labels' name "$model" --vocab "$other" --words "$words" --column c
refuse 2 '--rows is of --by rows' name "$model" --vocab "$other" --words "$words" --rows 5
refuse 2 '--k needs' name "$model" --vocab "$other" --words "$words" --k 5
refuse 2 'positive needs' report "$model" "$data" -o "$out/p" --positive 1
refuse 2 'names and --vocab exclude' report "$model" "$data" -o "$out/p" --names "$words" \
    --vocab "$other" --words "$words"
refuse 2 'tensor needs --calibrate' convert "$model" -o "$out/m" --tensor x
refuse 2 'skip-bad needs --calibrate' convert "$model" -o "$out/m" --skip-bad
for command in 'train DATA -o OUT/m' 'eval MODEL DATA' 'encode MODEL DATA -o OUT/c' \
    'top MODEL DATA --row 3' 'search MODEL DATA --row 3' 'steer MODEL DATA -o OUT/y --set 1=3' \
    'probe DATA --labels LABELS' 'bias MODEL DATA --labels LABELS' \
    'convert MODEL -o OUT/m --calibrate DATA' 'report MODEL DATA -o OUT/p'; do
    # shellcheck disable=SC2046
    refuse 1 '^msae: --tensor: .*data.npy is a .npy' $(echo "$command" | sed "s|MODEL|$model|
        s|DATA|$data|; s|OUT|$out|; s|LABELS|$words|") --tensor x
done
refuse 1 '^msae: --normalize: does not apply: ' convert "$model" -o "$out/m" --normalize on
refuse 1 '^msae: --recipe: does not apply: ' convert "$model" -o "$out/m" --recipe topk
refuse 1 '^msae: --nesting: does not apply: ' convert "$model" -o "$out/m" --nesting 5
accept convert "$model" -o "$folder/m" --nesting 4 --tied off

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
expect "top of a row: content" lines 1 '^\{"row":3,"k":5,"kept_by":"k","active":5,"concepts":\[\{"latent":[0-9]+,"value":'
dog=$(sed 's/.*"concepts":.{"latent":\([0-9]*\).*/\1/' "$folder/stdout")
cat=$(sed 's/.*"latent":\([0-9]*\).*/\1/' "$folder/stdout")
printf 'latent\tname\tscore\trunner_up\trunner_up_score\tvalid\tsupport\tmodel\n' >"$names"
printf '%s\tdog\t0.5\tpuppy\t0.2\t1\t30\t%s\n' "$dog" "$sum" >>"$names"
printf '%s\tcat, tabby\t0.4\tkitten\t0.3\t0\t30\t%s\n' "$cat" "$sum" >>"$names"

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
refuse 2 '--row and --latent exclude each other' top "$model" "$data" --row 3 --latent 4
refuse 2 'column needs' top "$model" "$data" --row 3 --column class

# The concept tree: its table, and who shows it.
tree=$folder/tree.tsv
accept tree "$model" "$data" --min-p 0.2 --min-lift 0 --parents 2 --names "$names" -o "$tree" --threads 3
expect "tree: a line for people" lines 1 '^.*tree.tsv: 32 latents, [0-9]+ with a parent, [0-9]+ roots .*; all active'
cp "$tree" "$folder/threads"
accept tree "$model" "$data" --min-p 0.2 --min-lift 0 --parents 2 --names "$names" --threads 1 --k all
expect "tree: the same for any threads, k and place" cmp -s "$folder/stdout" "$folder/threads"
accept tree "$model" "$data" --min-p 0.2 --min-lift 0 --parents 2 --names "$names" --k 8 -o "$tree"
expect "tree: its columns" grep -q \
    "^latent	parent	p	lift	rows_latent	rows_parent	name_latent	name_parent	model	codes\$" "$tree"
expect "tree: every latent, in order" test "$(sed 1d "$tree" | cut -f 1 | uniq | tr '\n' ' ')" = \
    "$(seq -s ' ' 0 31) "
# Parents are on more rows, at most two for each latent; a root has nothing but its rows.
expect "tree: its lines" awk -F '\t' -v sum="$sum" '
    NR == 1 { next }
    $2 == -1 { bad += $3 $4 $6 $8 != "" || lines[$1]++ > 0; roots++ }
    $2 >= 0 { bad += $6 < 1.5 * $5 || $3 < 0.2 || $3 > 1 || $4 <= 0 || lines[$1]++ > 1; edges++ }
    { bad += $9 != sum || $5 > 40 }
    END { exit !(NR > 32 && !bad && roots > 0 && edges > 0) }' "$tree"
expect "tree: both names" awk -F '\t' -v dog="$dog" -v cat="$cat" '
    NR > 1 { bad += $7 != ($1 == dog ? "dog" : $1 == cat ? "cat" : "") }
    NR > 1 { bad += $8 != ($2 == dog ? "dog" : $2 == cat ? "cat" : "") }
    END { exit bad > 0 }' "$tree"
accept tree "$model" "$data" --min-p 0.2 --min-lift 0 --parents 2 --names "$names" --k 8 --json
expect "tree: JSON" is_json
expect "tree: JSON of a latent" lines 1 "^\\{\"latent\":$dog,\"name\":\"dog\",\"rows\":[0-9]+,\"parents\":\\["
expect "tree: as many edges" test "$(grep -o '"p":' "$folder/stdout" | wc -l)" -eq \
    "$(awk -F '\t' 'NR > 1 && $2 >= 0' "$tree" | wc -l)"
expect "tree: JSON of all" lines 1 \
    "^\\{\"event\":\"done\",\"latents\":32,.*\"rows\":40,\"k\":8,\"kept_by\":\"k\",\"model\":\"$sum\""
accept tree "$model" "$data" --min-p 1 --min-lift 1000
expect "tree: nothing but roots" lines 32 '^[0-9]+	-1	'
child=$(awk -F '\t' 'NR > 1 && $2 >= 0 { print $1; exit }' "$tree")
parent=$(awk -F '\t' 'NR > 1 && $2 >= 0 { print $2; exit }' "$tree")
root=$(awk -F '\t' 'NR > 1 && $2 < 0 && $5 > 0 { print $1; exit }' "$tree")
accept top "$model" "$data" --latent "$child" --tree "$tree"
expect "top of a latent: its parents" lines 1 "^parents: $parent \\(p [01]\.[0-9]{2}, lift [0-9.]+\\)"
accept top "$model" "$data" --latent "$child" --tree "$tree" --names "$names" --json
expect "top of a latent: its parents, JSON" is_json
expect "top of a latent: its parents, in JSON" lines 1 "\"parents\":\\[\\{\"latent\":$parent,\"name\":.*\"lift\":"
row=$(sed 's/.*"top":.{"row":\([0-9]*\).*/\1/' "$folder/stdout")
accept top "$model" "$data" --row "$row" --top 32 --tree "$tree"
expect "top of a row: parents" lines 1 "^ +$child .* < $parent\$"
accept top "$model" "$data" --row 3 --tree "$tree" --names "$names" --json
expect "top of a row: parents, JSON" is_json
expect "top of a row: parents, in JSON" lines 1 '"value":[0-9.]+,"parents":\['
accept top "$model" "$data" --latent "$root" --tree "$tree"
expect "top of a latent: a root" lines 1 '^parents: none, a root$'
accept name "$model" --vocab "$other" --words "$words" --data "$data" --tree "$tree" --top 1 -o "$folder/under.tsv"
expect "name: the parent of each latent" awk -F '\t' '
    NR == FNR { if (FNR > 1 && !($1 in best)) best[$1] = $2; next }
    FNR == 1 { bad += $14 != "parent" || $15 != "name_parent" || $16 != "top"; next }
    { name[$1] = $2; of[$1] = $14; called[$1] = $15; bad += $14 != best[$1] }
    END {
        for (j in of) bad += called[j] != (of[j] < 0 ? "" : name[of[j]])
        exit bad > 0
    }' "$tree" "$folder/under.tsv"
accept top "$model" "$data" --latent 3 --names "$folder/under.tsv"
accept name "$model" --vocab "$other" --words "$words" --data "$data" --tree "$tree" --json
expect "name: parents, JSON" is_json
expect "name: parents, in JSON" lines 1 "^\\{\"latent\":$child,.*\"parents\":\\[\\{\"latent\":$parent,\"name\":\"word[0-9]+\",\"p\":"
accept name "$model" --vocab "$other" --words "$words" --data "$data" --tree "$tree" --list 5 --min-score 0
expect "name: parents, for people" lines 1 '^latent  name < parent '
refuse 1 'k: 33 is more than the 32 latents' tree "$model" "$data" --k 33 -o "$out/t"
refuse 1 'parents: 33 is more than the 32 latents' tree "$model" "$data" --parents 33 -o "$out/t"
refuse 1 'min-p: 1.5 is more than 1' tree "$model" "$data" --min-p 1.5 -o "$out/t"
refuse 1 "min-lift: '-1' is not a number of zero" tree "$model" "$data" --min-lift -1 -o "$out/t"
refuse 1 'narrow.npy: has 7 columns' tree "$model" "$narrow" -o "$out/t"
refuse 1 'stranger is [0-9a-f]{16}: name it again' tree "$folder/stranger" "$data" --names "$names" -o "$out/t"
refuse 2 'is missing' tree "$model"
# spoilt REGEX AWK: the tree with the change is refused by the line of error.
spoilt() {
    awk -F '\t' -v OFS='\t' -v child="$child" "$2" "$tree" >"$folder/spoilt.tsv"
    refuse 1 "spoilt.tsv: $1" top "$model" "$data" --row 3 --tree "$folder/spoilt.tsv"
}
refuse 1 'tree.tsv: is of the model [0-9a-f]{16}, .*/stranger is [0-9a-f]{16}: make the tree again' \
    top "$folder/stranger" "$data" --row 3 --tree "$tree"
spoilt "has no column 'lift'" 'NR == 1 { $4 = "rise" } { print }'
spoilt "line 9: 'x' is not a model's checksum" 'NR == 9 { $9 = "x" } { print }'
spoilt "line 4: '32' is not one of the model's 32 latents" 'NR == 4 { $1 = 32 } { print }'
spoilt "line [0-9]+: '-2' is not one of the model's 32" '$1 == child { $2 = -2 } { print }'
spoilt "line [0-9]+: '1.5' is not a share" '$1 == child { $3 = 1.5 } { print }'
spoilt "line [0-9]+: '0' is not a lift" '$1 == child { $4 = 0 } { print }'
spoilt "line [0-9]+: 'few' is not a number of rows" '$1 == child { $5 = "few" } { print }'
spoilt "line [0-9]+: the parent is on 0 rows, no more than" '$1 == child { $6 = 0 } { print }'
spoilt "latent [0-9]+ is on 4000 rows as the parent of $child, on [0-9]+ by itself" \
    '$1 == child { $6 = 4000 } { print }'
spoilt "line [0-9]+: a root has no p" 'NR > 1 && $2 == -1 { $3 = 1 } { print }'
spoilt "line [0-9]+: latent $child has the parent" '{ print } $1 == child { print }'
spoilt "line [0-9]+: latent [0-9]+ is there already" '{ print } NR > 1 && $2 == -1 { print }'
spoilt "line [0-9]+: latent $child is on 0 rows here" '{ print } $1 == child { $5 = 0; $2 = 9999 % 31; print }'
spoilt "line 2: latent 0 is missing" '$1 != "0" { print }'
spoilt 'latent 31 is missing: the file was cut off' '$1 != "31" { print }'

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
expect "search: what the edits changed" lines 1 \
    "\"latent\":$dog,\"name\":\"dog\",\"before\":[0-9.e-]+,\"after\":0.,.*\"moved\":[0-9]"
accept search "$model" "$data" --row 3 --edit "dog=0" --names "$names"
expect "search: edited, in words" lines 1 '^dog [0-9.]+ -> 0, moved [0-9.]+ in cosine$'
# Setting a latent to 1 is setting it to its mean over the rows where it is active.
accept search "$model" "$data" --row 3 --edit "dog=1" --names "$names" --json
typical=$(sed 's/.*"edits":.*"after":\([0-9.e-]*\).*/\1/' "$folder/stdout")
accept search "$model" "$data" --row 3 --edit "dog=$typical" --raw --names "$names" --json
expect "search: raw values" lines 1 "\"after\":$typical"
accept steer "$model" "$data" --set "dog=1" --names "$names" -o "$folder/typical.npy"
expect "steer: edited, in words" lines 1 '^dog [0-9.]+ -> [0-9.]+, moved [0-9.e-]+ in cosine$'
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
accept search "$model" "$data" --concepts "dog=2, tabby" --raw --names "$names"
expect "search: concepts" \
    lines 1 "^the list of concepts: 2 latents, $dog \\(dog\\)=2 $cat \\(cat\\)=1"
accept search "$model" "$data" --concepts "cat, tabby,dog=2" --names "$names"
expect "search: a name with a comma" lines 1 "^the list of concepts: 2 latents, $cat "
accept search "$model" "$data" --concepts "dog,cat" --names "$names" --json
expect "search: concepts, typical values" lines 1 "\"name\":\"dog\",\"value\":0*[.1-9]"
accept search "$model" "$data" --row 3 --without c3 --ablate 2 --labels "$labels" --column class --json
expect "search: without a class" lines 1 '"label":"c3",.*"compared":"decoded"'
refuse 1 "without: no row has the label 'c4'" \
    search "$model" "$data" --row 3 --without c4 --labels "$labels" --column class
refuse 2 'without needs' search "$model" "$data" --row 3 --without c3
refuse 1 'ablate: 257 is more' search "$model" "$data" --evaluate 3 --labels "$words" \
    --ablate 257
accept search "$model" "$data" --evaluate 12 --labels "$labels" --column class --ablate 2
expect "search: evaluated" lines 2 '^by (concepts|embedding) '
accept search "$model" "$data" --evaluate 100 --labels "$labels" --column class --json
expect "search: evaluated, JSON" is_json
expect "search: evaluated, content" lines 1 '^\{"queries":40,"eligible":40,"top":10,.*"chance":0.2307'

cp "$index" "$folder/broken.index"
printf 'x' >>"$folder/broken.index"
refuse 1 'broken.index: something follows' search "$model" "$data" --row 3 --index "$folder/broken.index"
refuse 1 'model.safetensors: is a model, not an index' search "$model" "$data" --row 3 --index "$model"
refuse 1 'index.safetensors: was made from 40 other rows' \
    search "$model" "$other" --row 3 --index "$index"
matrix 40 8 9 >"$folder/third.npy"
refuse 1 'index.safetensors: was made from other rows' \
    search "$model" "$folder/third.npy" --row 3 --index "$index"
# shellcheck disable=SC2086
accept train "$data" -o "$folder/second" $small --seed 5
refuse 1 'index.safetensors: is of the model [0-9a-f]{16}, this one is [0-9a-f]{16}: make it again' \
    search "$folder/second" "$data" --row 3 --index "$index"
refuse 1 'k: .*index.safetensors was made with k 5' \
    search "$model" "$data" --row 3 --index "$index" --k 6
ln -s data.npy "$folder/to_data"
refuse 1 'save-index: .*to_data is read too, as .*data.npy' \
    search "$model" "$data" --row 3 --save-index "$folder/to_data"
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
refuse 2 '--concepts and --row exclude each other' search "$model" "$data" --row 3 --concepts 4
refuse 2 '--concepts and --query exclude each other' \
    search "$model" "$data" --query "$other" --concepts 4
refuse 2 '--evaluate and --query exclude each other' \
    search "$model" "$data" --query "$other" --evaluate 4 --labels "$words"
refuse 1 'latent 4: there is nothing to add to' search "$model" "$data" --concepts 4=+1
accept search "$model" "$data" --concepts 3,4=-1
refuse 2 'own-statistics needs' search "$model" "$data" --row 3 --own-statistics
refuse 2 'evaluate needs' search "$model" "$data" --evaluate 5
refuse 2 'exclude each other' search "$model" "$data" --row 3 --index a --save-index b

# A mean far from the model's: queries, and data, get statistics of their own.
accept search "$model" "$data" --query "$far" --row 7 --own-statistics --json
expect "search: own statistics, asked for: nothing to warn of" lines 1 '"warnings":\[\]\}$'
sed 's/"warnings".*//' "$folder/stdout" >"$folder/own"
accept search "$model" "$data" --query "$far" --row 7 --json
expect "search: far queries: JSON" is_json
expect "search: far queries have their own statistics" \
    lines 1 '"warnings":\["[^"]*far.npy: the mean of the rows lies far from .*--model-statistics'
expect "search: far queries, said once" lines_of_errors 1
sed 's/"warnings".*//' "$folder/stdout" | cmp -s - "$folder/own"
expect "search: far queries, as with --own-statistics" [ $? -eq 0 ]
accept search "$model" "$data" --query "$far" --row 7 --model-statistics --json
expect "search: far queries by the model's statistics" lines 1 '"warnings":\[\]\}$'
sed 's/"warnings".*//' "$folder/stdout" | cmp -s - "$folder/own"
expect "search: .. are others" [ $? -ne 0 ]
accept search "$model" "$data" --query "$other" --row 7 --json
expect "search: queries that are not far" lines 1 '"warnings":\[\]\}$'
{ header '<f2' False '(1, 8)' && far_halves 8 4; } >"$folder/far1.npy"
accept search "$model" "$data" --query "$folder/far1.npy" --json
expect "search: one far query has no mean of its own" lines 1 '"warnings":\["[^"]*far1.npy: the mean'
accept search "$model" "$far" --row 7 --k 5 --save-index "$folder/far.index" --json
expect "search: far data" lines 1 '"warnings":\["[^"]*far.npy: the mean'
accept search "$model" "$far" --row 7 --index "$folder/far.index"
accept search "$model" "$far" --query "$other" --index "$folder/far.index" --own-statistics
accept search "$model" "$data" --query "$far" --row 3 --index "$index" --own-statistics
accept search "$model" "$data" --query "$far" --row 3 --index "$index" --model-statistics
refuse 1 'far.index: was made without --model-statistics' \
    search "$model" "$far" --row 7 --index "$folder/far.index" --model-statistics
accept search "$model" "$far" --row 7 --k 5 --save-index "$folder/far.index" --model-statistics
tool search "$model" "$far" --row 7 --index "$folder/far.index"
expect "search: an index by the model's statistics" [ "$status" -eq 1 ]
expect "search: .. is not called another model's" grep -q \
    '^msae: .*far.index: was made with --model-statistics' "$folder/stderr"
refuse 2 'exclude each other' \
    search "$model" "$data" --query "$far" --own-statistics --model-statistics

# One k for all commands: the model's own, unless --k says otherwise; each output says which.
attribute=$folder/attribute.txt
awk 'BEGIN { for (i = 0; i < 40; i++) print i % 3 ? "no" : "yes" }' >"$attribute"
# shellcheck disable=SC2086
accept train "$data" -o "$folder/own_k" $small --k 6 --json
expect "train: k of a nested model" lines 1 '^."event":"start".*"k":6,"kept_by":"k"'
# shellcheck disable=SC2086
accept train "$data" -o "$folder/own_threshold" $plain --recipe batchtopk --k 6
# shellcheck disable=SC2086
accept train "$data" -o "$folder/own_all" $plain --recipe relu
for command in "encode MODEL $data -o $folder/c" "top MODEL $data --row 3" "info MODEL" \
    "top MODEL $data --latent 5" "search MODEL $data --row 3" "bias MODEL $data --labels $attribute" \
    "steer MODEL $data --set 1=3 -o $folder/steered" \
    "name MODEL --vocab $other --words $words --data $data -o $folder/names_k" \
    "report MODEL $data -o $folder/page_k.html --no-cknna"; do
    for try in 'own_k;6;k;k 6' 'own_threshold;6;threshold;k 6 on average, by the threshold' \
        'own_all;32;all;all active latents' 'own_k --k 4;4;k;k 4' 'own_threshold --k 4;4;k;k 4' \
        'own_all --k 4;4;k;k 4' 'own_k --k all;32;all;all active latents'; do
        of=${try%%;*} rest=${try#*;}
        k=${rest%%;*} rest=${rest#*;}
        by=${rest%%;*} text=${rest#*;}
        case $command$of in info*--k*) continue ;; esac
        which=${of%% *}
        given=${of#"$which"}
        # shellcheck disable=SC2086
        tool $(echo "$command" | sed "s#MODEL#$folder/$which#") $given --json
        case $(cat "$folder/stderr") in *'is active on no row'*) continue ;; esac
        expect "$command, $of: k $k in JSON" grep -q "\"k\":$k,\"kept_by\":\"$by\"" "$folder/stdout"
        # shellcheck disable=SC2086
        accept $(echo "$command" | sed "s#MODEL#$folder/$which#") $given
        expect "$command, $of: $text" grep -Eq "$text([^0-9]|$)" "$folder/stdout"
    done
done
tool encode "$folder/own_k" "$data" -o "$folder/c"
tool encode "$folder/own_k" "$data" -o "$folder/d" --k 6
expect "encode: the model's k is no other" cmp -s "$folder/c" "$folder/d"
for command in encode top tree search steer bias name report; do
    refuse 1 "k: 'most' is not a whole number above zero, or all" $command "$model" --k most
    refuse 1 "k: '0' is not a whole number above zero, or all" $command "$model" --k 0
done

# The other commands say it, and name the option that makes them centre by the rows' own.
warned='^msae: warning: .*far.npy: the mean of the rows lies far from .*: --own-statistics '
for command in "eval $model $far --k 4 --no-cknna" "encode $model $far -o $folder/far.codes" \
    "top $model $far --row 3" "steer $model $far --set 1=3 -o $folder/far.steered" \
    "tree $model $far" "score $model $far -o $folder/far.scores" \
    "probe $far --model $model --labels $attribute --k 4" "bias $model $far --labels $attribute" \
    "name $model --vocab $other --words $words --data $far" \
    "report $model $far -o $folder/far.html --no-cknna"; do
    # shellcheck disable=SC2086
    accept $command
    expect "$command: far data" [ "$(grep -Ec -e "$warned" "$folder/stderr")" -eq 1 ]
    # shellcheck disable=SC2086
    accept $command --own-statistics
    expect "$command: far data by its own statistics" [ ! -s "$folder/stderr" ]
    # shellcheck disable=SC2086
    accept $(echo "$command" | sed "s#$far#$data#")
    expect "$command: data that is not far" [ ! -s "$folder/stderr" ]
done
# shellcheck disable=SC2086
accept train "$data" -o "$folder/r" $small --val "$far"
expect "train: far validation" grep -q \
    '^msae: warning: .*far.npy: the mean of the rows lies far from .*: its loss tells nothing' \
    "$folder/stderr"
accept eval "$model" "$far" --k 4 --json
expect "eval: far data, in JSON" lines 1 '"warnings":\["[^"]*far.npy: the mean of the rows lies far'
accept eval "$model" "$data" --k 4 --json
expect "eval: no warnings, in JSON" lines 1 '"warnings":\[\]'
refuse 2 'own-statistics needs --data' \
    name "$model" --vocab "$far" --words "$attribute" --own-statistics
refuse 2 'own-statistics needs --model' probe "$far" --labels "$attribute" --own-statistics

# Rows of another scale, too, rows that are all alike, and those a few of which are far larger.
# shellcheck disable=SC2059
{ header '<f2' False '(40, 8)' && printf "$(awk 'BEGIN {
    srand(6)
    for (i = 0; i < 320; i++) {
        printf "\\%03o\\%03o", int(rand() * 256), int(rand() * 8) + (rand() < 0.5 ? 28 : 156)
    }
}')"; } >"$folder/short_rows.npy"
# shellcheck disable=SC2059
{ header '<f4' False '(40, 8)' && printf "$(awk 'BEGIN {
    srand(7)
    for (i = 0; i < 320; i++) {
        printf "\\000\\000\\%03o\\%03o", int(rand() * 128), rand() < 0.5 ? 113 : 241
    }
}')"; } >"$folder/huge_rows.npy"
alike() { # ROW OF FILE: 40 times that row of halves
    header '<f2' False '(40, 8)'
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        for _ in 1 2 3 4; do tail -c +$((129 + $1 * 16)) "$2" | head -c 16; done
    done
}
alike 3 "$data" >"$folder/alike.npy"
alike 0 "$folder/far1.npy" >"$folder/far_alike.npy"
for of in 'short_rows;the rows are 0\.0[0-9]* times as long as those of the model.s data: other' \
    'huge_rows;.* 1?[.0-9]*e[+]3?[0-9]* times as long.*: other'; do
    rows=$folder/${of%%;*}.npy
    accept eval "$model" "$rows" --k 4 --no-cknna
    expect "eval: $of" grep -Eq "${of%%;*}.npy: ${of#*;} units. --own-statistics " "$folder/stderr"
    expect "eval: $of, said once" lines_of_errors 1
    accept eval "$model" "$rows" --k 4 --no-cknna --own-statistics
    expect "eval: $of, by its own statistics" lines_of_errors 0
    accept search "$model" "$data" --query "$rows" --row 7 --k 4
    expect "search: $of" grep -Eq "${of#*;} units. centred and scaled by their own" "$folder/stderr"
    # shellcheck disable=SC2086
    accept train "$data" -o "$folder/r" $small --val "$rows"
    expect "train: $of" grep -Eq "${of#*;} units. its loss tells nothing" "$folder/stderr"
done
refuse 1 'own-statistics: .*alike.npy has rows without spread' \
    eval "$model" "$folder/alike.npy" --k 4 --own-statistics
refuse 1 'own-statistics: .*alike.npy has rows without spread' \
    search "$model" "$data" --query "$folder/alike.npy" --row 3 --own-statistics
accept search "$model" "$data" --query "$folder/far_alike.npy" --row 3
expect "search: far queries that are all alike" \
    grep -q 'far_alike.npy: the mean .*: their codes mean little: rows without spread' "$folder/stderr"
expect "search: .. said once" lines_of_errors 1
accept eval "$model" "$folder/far_alike.npy" --k 4 --no-cknna
expect "eval: far rows that are all alike" [ "$(grep -c 'without spread' "$folder/stderr")" -eq 1 ]
accept encode "$model" "$folder/far1.npy" -o "$folder/far.codes"
expect "encode: one far row" grep -q \
    'far1.npy: the mean .*: its codes mean little; several such rows' "$folder/stderr"
few='long_row.npy: 1 of 40 rows looked at has a norm above 50 times the median, which moves the mean$'
for command in "eval $model $folder/long_row.npy --k 4 --no-cknna" \
    "search $model $data --query $folder/long_row.npy --row 3"; do
    # shellcheck disable=SC2086
    accept $command
    expect "$command: one row is far larger" grep -q "$few" "$folder/stderr"
    expect "$command: .. said once" lines_of_errors 1
done
# shellcheck disable=SC2086
accept train "$data" -o "$folder/r" $small --val "$folder/long_row.npy"
expect "train: one row of the validation set is far larger" grep -q "$few" "$folder/stderr"
# shellcheck disable=SC2086
accept train "$folder/long_row.npy" -o "$folder/r" $small --val "$folder/long_row.npy" --max-norm 50
expect "train: .. and left out" [ "$(grep -c 'looked at\|tells nothing' "$folder/stderr")" -eq 0 ]

# The published code's models tell their data's variance as well, and how to scale other data.
pth=$(ls ../shared/models/msae_pth/*.pth 2>/dev/null)
if [ -n "$pth" ]; then
    accept convert "$pth" -o "$folder/pth.model"
    accept info "$folder/pth.model"
    expect "a published model is scaled as published" lines 1 '^  msae.train_scaling = paper$'
    { header '<f2' False '(40, 24)' && far_halves 960 5; } >"$folder/far24.npy"
    accept eval "$pth" "$folder/far24.npy" --k 8 --no-cknna --json
    expect "eval: data far from a published model's" \
        lines 1 '"warnings":\["[^"]*far24.npy: the mean of the rows lies far'
    accept eval "$pth" "$folder/far24.npy" --k 8 --no-cknna --own-statistics --json
    expect "eval: .. by its own statistics" lines 1 '"warnings":\[\]'
else
    skipped=$((skipped + 1))
fi

# Labels in tables: whole words and whole characters, and an ellipsis where something is left out.
left_out=$(printf '\342\200\246')
umlaut=$(printf '\303\266')
{
    echo 'word'
    echo 'coyote, prairie wolf, brush wolf'
    echo 'Donaudampfschifffahrtsgesellschaft'
    echo "abcdefghijklmnopqrst$umlaut$umlaut$umlaut"
    echo "exactly 22 ch${umlaut}racters."
    awk 'BEGIN { for (i = 4; i < 40; i++) print "word" i }'
} >"$folder/long.tsv"
accept search "$model" "$data" --row 39 --top 39 --labels "$folder/long.tsv" --column word
for label in "coyote, prairie wolf$left_out  " "Donaudampfschifffahrt$left_out" \
    "abcdefghijklmnopqrst$umlaut$left_out" "exactly 22 ch${umlaut}racters." 'word7                 '; do
    expect "the label $label" [ "$(cut -c 1-60 "$folder/stdout" | grep -cF "  $label")" -eq 1 ]
done

# Rows by label: of the queries, and of the data.
vocabulary=$folder/vocabulary.tsv
awk 'BEGIN { print "kind\tword"
             for (i = 0; i < 25; i++) print "k" i % 5 "\t" (i == 7 ? "guitar, axe" : i == 8 ? "1984" : i == 9 ? "=" : "word" i)
}' >"$vocabulary"
accept search "$model" "$data" --query "$other" --query-labels "$vocabulary" --row 7
cp "$folder/stdout" "$folder/by_number"
expect "search: the label of a query" lines 1 '^row 7 of .*other.npy \(guitar, axe\): '
for row in 'guitar, axe' guitar Axe =guitar; do
    accept search "$model" "$data" --query "$other" --query-labels "$vocabulary" --row "$row"
    expect "search: the query $row" cmp -s "$folder/stdout" "$folder/by_number"
done
accept search "$model" "$data" --query "$other" --query-labels "$vocabulary" --row 12 --json
expect "search: a number is a row" lines 1 '^\{"query":0,"row":12,"label":"word12",'
accept search "$model" "$data" --query "$other" --query-labels "$vocabulary" --row =1984 --json
expect "search: a label of digits" lines 1 '^\{"query":0,"row":8,"label":"1984",'
accept search "$model" "$data" --query "$other" --query-labels "$vocabulary" --row = --json
expect "search: a label that is =" lines 1 '^\{"query":0,"row":9,"label":"=",'
accept search "$model" "$data" --query "$other" --query-labels "$vocabulary" --json
expect "search: all queries with their labels" lines 25 '"label":"'
accept search "$model" "$data" --query "$other" --query-labels "$vocabulary" --query-column kind \
    --row k3 --json
expect "search: the first query of a label" lines 1 '^\{"query":0,"row":3,"label":"k3",'
expect "search: the first of several, said" grep -q \
    "^msae: warning: --row: 'k3' names 5 rows in .*: row 3 ('k3') is taken, the first" \
    "$folder/stderr"
accept search "$model" "$data" --query "$other" --query-labels "$words" --row word11 --json
expect "search: a list of labels" lines 1 '^\{"query":0,"row":11,"label":"word11",'
accept search "$model" "$data" --labels "$labels" --column class --row c2 --json
expect "search: a row of the data by its label" lines 1 '^\{"query":0,"row":2,"label":"c2",'
refuse 1 "row: no row has the label 'guittar' in .*vocabulary.tsv; did you mean 'guitar'\\?" \
    search "$model" "$data" --query "$other" --query-labels "$vocabulary" --row guittar
refuse 1 "row: no row has the label 'xylophone' in .*vocabulary.tsv\$" \
    search "$model" "$data" --query "$other" --query-labels "$vocabulary" --row xylophone
refuse 1 "row: 'guitar' is not the number of a row, and without --query-labels" \
    search "$model" "$data" --query "$other" --row guitar
refuse 1 "row: 'c2' is not the number of a row, and without --labels" \
    search "$model" "$data" --row c2
refuse 1 'row: 25 is beyond' \
    search "$model" "$data" --query "$other" --query-labels "$vocabulary" --row 25
refuse 1 'row: 18446744073709551616 is beyond' search "$model" "$data" --row 18446744073709551616
refuse 1 "vocabulary.tsv: has no column 'class', but kind, word" search "$model" "$data" \
    --query "$other" --query-labels "$vocabulary" --query-column class --row guitar
refuse 1 'labels.tsv: has .* entries for the 25 rows' \
    search "$model" "$data" --query "$other" --query-labels "$labels" --query-column class
ln -s vocabulary.tsv "$folder/to_vocabulary"
refuse 1 'save-index: .*to_vocabulary is read too' search "$model" "$data" --query "$other" \
    --query-labels "$vocabulary" --save-index "$folder/to_vocabulary"
refuse 2 'query-labels needs --query' search "$model" "$data" --row 3 --query-labels "$words"
refuse 2 'query-column needs --query-labels' \
    search "$model" "$data" --query "$other" --query-column kind
accept top "$model" "$data" --row c3 --labels "$labels" --column class --json
expect "top of a row by its label" lines 1 '^\{"row":3,"label":"c3",'
refuse 1 "row: no row has the label 'c9' in .*labels.tsv; did you mean 'c0'\\?" \
    top "$model" "$data" --row c9 --labels "$labels" --column class

awk 'BEGIN { for (i = 0; i < 40; i++) print "number" i }' >"$folder/rows.txt"
steered=$folder/steered.npy
accept steer "$model" "$data" --set "dog=3" --scale "cat=2" --names "$names" -o "$steered"
expect "steer: the edited and others" lines 1 "^set +$dog .* dog\$"
accept info "$steered" --json
expect "steer: shape" lines 1 '"rows":40,"cols":8,"dtype":"F32"'
accept steer "$model" "$data" --raw --set 1=3 --add 2=-1 --scale 3=2 --clamp 4=0:1 --ablate 5,6 \
    -o "$steered" --json --top 3
expect "steer: JSON" is_json
expect "steer: edits" lines 1 '"operation":"set","value":3,"latent":1,.*"latent":6,.*"others":'
expect "steer: a range" lines 1 '"operation":"clamp","value":0,"high":1,"latent":4,'
cp "$steered" "$folder/again.npy"
accept steer "$model" "$data" --raw --set 1=3 --add 2=-1 --scale 3=2 --clamp 4=0:1 --ablate 5,6 \
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
refuse 1 'latent 4: a value with a sign is what to add: --add' \
    steer "$model" "$data" --set 4=+1 -o "$out/y.npy"
refuse 1 'latent 4: a value with a sign' steer "$model" "$data" --set 4=-1 -o "$out/y.npy"
refuse 1 'latent 4: a factor has no plus sign' steer "$model" "$data" --scale 4=+2 -o "$out/y.npy"
accept steer "$model" "$data" --scale 4=-2 --clamp 5=-1:1 --raw -o "$folder/steered.npy"

# Edits that find nothing: a latent that is not active on the row, and does not become so.
accept top "$model" "$data" --row 3 --k 2 --json
idle=$(awk -F '"latent":' '{ for (i = 2; i <= NF; i++) seen[$i + 0] = 1 }
    END { for (j = 0; j < 32; j++) if (!(j in seen)) { print j; exit } }' "$folder/stdout")
for edits in "--ablate $idle" "--scale $idle=3" "--set $idle=0" "--clamp $idle=-1:1 --raw"; do
    # shellcheck disable=SC2086
    accept steer "$model" "$data" --row 3 --k 2 $edits -o "$folder/steered.npy" --json
    expect "steer $edits: a warning" \
        lines 1 '"warnings":."latent '"$idle"' is active in none of these rows: nothing to change".'
    expect "steer $edits: moves by nothing" lines 1 '"moved":0,'
done
accept steer "$model" "$data" --row 3 --k 2 --raw --set "$idle=2" --scale "$idle=2" --json \
    -o "$folder/steered.npy"
expect "steer: a latent that becomes active" lines 1 '"warnings":\[\]'
refuse 1 'set: latent 1 needs a value' steer "$model" "$data" --set 1 -o "$out/y.npy"
refuse 1 'set: latent 1 needs a value' steer "$model" "$data" --set 1=0:1 -o "$out/y.npy"
refuse 1 'clamp: latent 1 needs a range' steer "$model" "$data" --clamp 1=2 -o "$out/y.npy"
refuse 1 'ablate: latent 1 needs no value' steer "$model" "$data" --ablate 1=2 -o "$out/y.npy"
refuse 1 'scale: the value of latent 1 is too large' \
    steer "$model" "$data" --scale 1=1e300 -o "$out/y.npy"
# (all latents, as two may be orthogonal)
refuse 1 'data.npy: row 0 gives a NaN or Inf' steer "$model" "$data" \
    --raw --set "$(seq 0 31 | sed 's/$/=3e38/' | paste -s -d , -)" -o "$out/y.npy"
refuse 1 'o: .*data.npy is read too' steer "$model" "$data" --set 1=3 -o "$data"
refuse 1 'row: 40 is beyond' steer "$model" "$data" --set 1=3 --row 40 -o "$out/y.npy"
accept steer "$model" "$data" --set 1=3 --row 3 -o "$folder/again.npy"
accept steer "$model" "$data" --set 1=3 --row number3 -o "$steered" \
    --labels "$folder/rows.txt" --json
expect "steer: a row by its label" cmp -s "$steered" "$folder/again.npy"
refuse 1 "row: no row has the label 'nummber3' in .*rows.txt; did you mean 'number3'\\?" \
    steer "$model" "$data" --set 1=3 --row nummber3 --labels "$folder/rows.txt" -o "$out/y.npy"
ln -s rows.txt "$folder/to_rows"
refuse 1 'o: .*to_rows is read too, as .*rows.txt' steer "$model" "$data" --set 1=3 --row number3 \
    --labels "$folder/rows.txt" -o "$folder/to_rows"
refuse 2 'labels needs --row' \
    steer "$model" "$data" --set 1=3 --labels "$folder/rows.txt" -o "$out/y.npy"
refuse 2 'column needs' steer "$model" "$data" --set 1=3 --row 3 --column class -o "$out/y.npy"
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
until_it_fits tree "$model" "$data" -o "$out/file"
until_it_fits score "$model" "$data" -o "$out/file"

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
expect "probe: .. and as the model encodes" lines 1 \
    '^\{"event":"agreement","k":null,"own":true,"kept_by":"all","kl":'
accept probe "$data" --labels "$attributes" --column smile --model "$model" --k 1,5,32 --json
expect "probe: chosen k" lines 3 '^\{"event":"agreement","k":(1|5|32),'
sed 's/"seconds":[^,}]*//' "$folder/stdout" >"$folder/threads"
accept probe "$data" --labels "$attributes" --column smile --model "$model" --k 1,5,32 --json \
    --threads 3
expect "probe: the same for any threads" \
    test "$(sed 's/"seconds":[^,}]*//' "$folder/stdout")" = "$(cat "$folder/threads")"
accept probe "$data" --labels "$attributes" --column smile --model "$model"
expect "probe: a table" lines 1 '^test .*%'
accept probe "$data" --labels "$attributes" --column smile --json
cp "$folder/stdout" "$folder/published"
accept probe "$data" --labels "$attributes" --column smile --json --probe-input published
expect "probe: published input is the default" test "$(sed 's/"iterations.*//' "$folder/stdout")" = \
    "$(sed 's/"iterations.*//' "$folder/published")"
accept probe "$data" --labels "$attributes" --column smile --json --probe-input raw
expect "probe: raw input is another" test "$(sed 's/"iterations.*//' "$folder/stdout")" != \
    "$(sed 's/"iterations.*//' "$folder/published")"
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
refuse 1 'zero.npy: row 17 has no length' probe "$zero" --probe-input raw --labels "$attributes" --column class
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
    bias "$model" "$zero" --probe-input raw --labels "$attributes" --column smile -o "$out/table.tsv"
refuse 1 'nan.npy: row 17 ' bias "$model" "$folder/nan.npy" --labels "$attributes" --column smile
refuse 1 'narrow.npy: has 7 columns' \
    bias "$model" "$narrow" --labels "$attributes" --column smile
for input in "$model" "$data" "$attributes" "$names"; do
    ln -sf "$input" "$folder/link"
    refuse 1 "^msae: -o: .*link is read too, as $input" bias "$model" "$data" --labels "$attributes" \
        --column smile --names "$names" -o "$folder/link"
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
# Files of version 0.5.0
# ------------------------------------------------------------------------------------------------

old=tests/old
for name in msae jumprelu batchtopk topk width int8; do
    accept info "$old/$name.safetensors"
    accept encode "$old/$name.safetensors" "$old/x.npy" -o "$folder/codes.a" --k 8
    accept decode "$old/$name.safetensors" "$old/codes_$name.safetensors" -o "$folder/decoded.npy"
done
accept info "$old/checkpoint.safetensors"
# Names instead of places in enums, the shortest numbers, under keys with the prefix and without.
accept train "$old/x.npy" -o "$folder/of_now" --latents 8 --nesting 2 --epochs 1 --start random \
    --loss cosine --scale paper --schedule linear --lr 0.3 --weights 0.1,2,1e-6
for info in "$old/checkpoint.safetensors:nmse rms trapezoid rows 2.25,1.75,3 0.0003535534" \
    "$folder/of_now:cosine paper linear random 0.1,2,1e-06 0.3"; do
    # shellcheck disable=SC2086
    {
        accept info "${info%%:*}"
        cp "$folder/stdout" "$folder/info"
        accept info "${info%%:*}" --json
        set -- ${info#*:}
    }
    for field in train_loss="$1" train_scaling="$2" train_schedule="$3" train_start="$4" \
        level_weights="$5" train_lr="$6" train_beta1=0.9 train_beta2=0.99 train_seed=0; do
        key=${field%%=*}
        expect "info: $field" grep -Eqx "  (msae\.)?$key = ${field#*=}" "$folder/info"
        expect "info --json: $field" lines 1 "\"(msae\.)?$key\":\"${field#*=}\""
    done
done
accept info "$old/checkpoint.safetensors"
expect "a checkpoint of old" lines 1 'msae checkpoint, 6 inputs, 8 latents, all active latents, 12 steps'
accept train "$old/x.npy" -o "$folder/went_on" --resume "$old/checkpoint.safetensors" --epochs 6 \
    --checkpoint "$folder/elsewhere"
accept top "$old/msae.safetensors" "$old/x.npy" --names "$old/names.tsv" --latent one
expect "a name of old" lines 1 '^latent 4 one: active on '
accept search "$old/msae.safetensors" "$old/x.npy" --row 3 --k 4 --index "$old/index.safetensors"

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
expect "info of a torch.save file" lines 1 'topk model, .*k 5, in the layout of dictionary-learning'
accept encode "$theirs/ae.pt" "$data" -o "$folder/codes.a"
accept convert "$model" -o "$folder/ours" --k 5
expect "another k of ours" lines 1 ': msae, 8 inputs, 32 latents, k = 5$'
accept info "$folder/ours"
expect "a nested model keeps its levels" lines 1 ': msae model, .*, k 5, '
accept eval "$folder/ours" "$data" --k 4 --json
cp "$folder/stdout" "$folder/one"
accept eval "$model" "$data" --k 4 --json
expect "and is the same at any k" cmp -s "$folder/stdout" "$folder/one"
accept convert "$model" -o "$folder/dense" --to saelens --json
expect "a nested model as a ReLU: a hint" \
    grep -q '^msae: warning: .*is a dense ReLU.*; --k 32 makes a TopK' "$folder/stderr"
expect "a nested model as a ReLU: in JSON" lines 1 '"warnings":."[^"]*dense ReLU'
accept convert "$model" -o "$folder/sparse" --to saelens --k 5
expect "a nested model as a TopK: no hint" [ ! -s "$folder/stderr" ]

refuse 2 '-o FILE is missing' convert "$model"
refuse 1 'o: .*is read too' convert "$model" -o "$model"
refuse 1 'o: .*is read too' convert "$theirs" -o "$theirs" --to saelens
refuse 1 'k: 33 is more than the 32 latents' convert "$model" -o "$out/theirs" --to saelens --k 33
refuse 1 'nothing.pth: cannot be opened' convert "$folder/nothing.pth" -o "$out/ours"
refuse 1 'words.txt: ' convert "$words" -o "$out/ours"
refuse 1 'is a folder with neither cfg.json nor ae.pt' info "$out"
refuse 1 'holds ae.pt, a model in the layout of dictionary-learning: take another folder' \
    convert "$model" -o "$theirs" --to saelens
expect "nothing of the other layout" test ! -e "$theirs/cfg.json"
mkdir -p "$folder/models/deep/er"
for i in 2 10 1; do cp -r "$theirs" "$folder/models/trainer_$i"; done
refuse 1 'models: no model itself; .*models/trainer_1, .*/trainer_2 and .*/trainer_10 are models$' \
    info "$folder/models"
for i in 3 4 5; do cp -r "$theirs" "$folder/models/deep/er/layers.$i"; done
refuse 1 'no model itself; .*layers.3, .*layers.4, .*layers.5, .*trainer_1 and 2 more are models$' \
    eval "$folder/models" "$data"
rm -r "$folder/models/trainer_1" "$folder/models/trainer_2" "$folder/models/deep"
refuse 1 'models: no model itself; .*models/trainer_10 is one$' info "$folder/models"
# shellcheck disable=SC2086
accept train "$data" -o "$folder/capped" $small --softcap 2
refuse 1 'has a soft cap, which saelens has no place for' \
    convert "$folder/capped" -o "$out/theirs" --to saelens
# shellcheck disable=SC2086
accept train "$data" -o "$folder/jump" $plain --recipe jumprelu
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
    refuse 1 'narrow.npy: has 7 columns, the files before' train "$data" "$narrow" -o "$out/m" $run
    refuse 1 '/nothing.npy: ' train "$data" "$parts/nothing.npy" -o "$out/m" $run
    refuse 1 '/nothing.txt: ' train "@$parts/nothing.txt" -o "$out/m" $run
    printf '\n\n' >"$parts/empty.txt"
    refuse 1 '/empty.txt: names no files' train "@$parts/empty.txt" -o "$out/m" $run
    for part in a b c; do ln -s $part.npy "$parts/to_$part"; done
    refuse 1 'o: .*/to_b is read too, as .*/b.npy' train "$parts/a.npy" "$parts/b.npy" \
        -o "$parts/to_b" $run
    refuse 1 'checkpoint: .*/to_c is read too' train "$parts/?.npy" -o "$out/m" $run \
        --checkpoint "$parts/to_c"
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
refuse 1 'o: .*/to_a is read too' encode "$model" "$parts/?.npy" -o "$parts/to_a"
accept eval "$model" "$parts/?.npy" --json --k 5
tool eval "$model" "$data" --json --k 5 >/dev/null
cp "$folder/stdout" "$folder/eval.whole"
accept eval "$model" "$parts/?.npy" --json --k 5
expect "eval of a pattern: the same numbers" cmp "$folder/stdout" "$folder/eval.whole"

# ------------------------------------------------------------------------------------------------
# What is read is not written
# ------------------------------------------------------------------------------------------------

guarded=$folder/guarded
mkdir -p "$guarded/deep"
cp "$data" "$guarded/x.npy"
cp "$other" "$guarded/v.npy"
cp "$words" "$guarded/w.txt"
cp "$model" "$guarded/m"
awk 'BEGIN { print "kind"; for (i = 0; i < 40; i++) print (i % 3 ? "a" : "b") }' >"$guarded/l.tsv"
awk 'BEGIN { for (i = 0; i < 25; i++) print (i % 2 ? "a" : "b") }' >"$guarded/t.txt"
cp "$guarded/t.txt" "$guarded/t2.txt"
cp "$guarded/v.npy" "$guarded/v2.npy"
printf '%s\n' "$guarded/x.npy" >"$guarded/list"
# shellcheck disable=SC2086
{
    accept train "$guarded/x.npy" -o "$guarded/log.model" $small --checkpoint "$guarded/run" --json
    cp "$folder/stdout" "$guarded/log"
    accept encode "$guarded/m" "$guarded/x.npy" -o "$guarded/c"
    accept name "$guarded/m" --vocab "$guarded/v.npy" --words "$guarded/w.txt" \
        --data "$guarded/x.npy" -o "$guarded/n.tsv"
    accept convert "$guarded/m" -o "$guarded/theirs" --to saelens
}

# guard OPTION INPUTS ARGUMENT..: the command must refuse to write with OPTION to any of these inputs,
# however its place is spelled, and leave it as it was. (A name may be that of another format, too.)
guard() {
    option=$1
    inputs=$2
    shift 2
    for input in $inputs; do
        cp "$guarded/$input" "$folder/before"
        ln -s "$guarded/$input" "$guarded/soft"
        ln "$guarded/$input" "$guarded/hard"
        for place in "$guarded/$input" "$guarded/./$input" "$guarded/deep/../$input" "$guarded/soft" "$guarded/hard"; do
            refuse 1 "^msae: ($option: $place is read too|$place: .*its name says)" "$@" "$option" "$place"
            expect "msae $*: $input is as it was" cmp -s "$folder/before" "$guarded/$input"
        done
        rm "$guarded/soft" "$guarded/hard"
    done
}
# shellcheck disable=SC2086
{
    guard -o "x.npy v.npy" train "$guarded/x.npy" --val "$guarded/v.npy" --checkpoint "$guarded/run" $small
    guard --checkpoint "x.npy v.npy" train "$guarded/x.npy" --val "$guarded/v.npy" -o "$out/m" $small
    guard -o "x.npy list" train "@$guarded/list" $small
    guard -o "run" train "$guarded/x.npy" --resume "$guarded/run"
}
guard -o "m x.npy v.npy" encode "$guarded/m" "$guarded/x.npy" "$guarded/v.npy"
guard -o "m c" decode "$guarded/m" "$guarded/c"
guard -o "m v.npy w.txt x.npy l.tsv" name "$guarded/m" --vocab "$guarded/v.npy" --words "$guarded/w.txt" \
    --data "$guarded/x.npy" --labels "$guarded/l.tsv" --column kind
guard -o "v2.npy t2.txt" name "$guarded/m" --vocab "$guarded/v.npy" --words "$guarded/w.txt" \
    --data "$guarded/v.npy" --labels "$guarded/t.txt" --test "$guarded/v2.npy" --test-labels "$guarded/t2.txt"
guard -o "m x.npy n.tsv l.tsv" steer "$guarded/m" "$guarded/x.npy" --names "$guarded/n.tsv" --set 1=2 \
    --labels "$guarded/l.tsv" --column kind --row 1
guard --save-index "m x.npy v.npy w.txt n.tsv l.tsv" search "$guarded/m" "$guarded/x.npy" \
    --query "$guarded/v.npy" --query-labels "$guarded/w.txt" \
    --names "$guarded/n.tsv" --labels "$guarded/l.tsv" --column kind --row 1
guard -o "m x.npy l.tsv n.tsv" bias "$guarded/m" "$guarded/x.npy" --labels "$guarded/l.tsv" --column kind \
    --names "$guarded/n.tsv"
guard -o "m x.npy n.tsv" tree "$guarded/m" "$guarded/x.npy" --names "$guarded/n.tsv"
guard -o "m log.model" align "$guarded/m" "$guarded/log.model"
guard -o "m log.model x.npy v.npy w.txt l.tsv log" report "$guarded/m" "$guarded/x.npy" "$guarded/log.model" \
    --vocab "$guarded/v.npy" --words "$guarded/w.txt" --labels "$guarded/l.tsv" --column kind --log "$guarded/log"
guard -o "m log.model x.npy l.tsv" score "$guarded/m" "$guarded/x.npy" --by "$guarded/x.npy" \
    --labels "$guarded/l.tsv" --column kind --other "$guarded/log.model"
guard -o "n.tsv" score "$guarded/m" "$guarded/x.npy" --names "$guarded/n.tsv"
guard -o "n.tsv" report "$guarded/m" "$guarded/x.npy" --names "$guarded/n.tsv"
guard -o "m x.npy" convert "$guarded/m" --calibrate "$guarded/x.npy"
guard -o "theirs/cfg.json theirs/sae_weights.safetensors" convert "$guarded/theirs"
guard -o "theirs/cfg.json" encode "$guarded/theirs" "$guarded/x.npy"
for input in theirs theirs/sae_weights.safetensors; do
    refuse 1 '^msae: -o: .*theirs.* is read too' convert "$guarded/$input" -o "$guarded/deep/../theirs" \
        --to saelens
done
if [ -e /dev/fd/0 ]; then
    cp "$guarded/c" "$folder/before"
    refuse 1 'is read too, as /dev/fd/0' decode "$guarded/m" /dev/fd/0 -o "$guarded/c" <"$guarded/c"
    expect "decode from a descriptor: the codes are as they were" cmp -s "$folder/before" "$guarded/c"
fi

# A name is of the format that is written, or of none.
# misnamed PRODUCT ENDINGS ARGUMENT..: OPTION, the last argument, must not get a name with such endings.
misnamed() {
    product=$1
    wrong=$2
    shift 2
    for ending in $wrong; do
        refuse 1 "/m$ending: $product (is|are) written .*\\(its name says .*\\)\$" "$@" "$out/m$ending"
    done
}
# shellcheck disable=SC2086
{
    misnamed "a model" ".npy .NPY .pt .tsv .json" train "$data" $small -o
    misnamed "a checkpoint" ".npy .pth" train "$data" -o "$out/m" $small --checkpoint
    for name in m.safetensors m.SAFETENSORS m.ckpt m .npy npy m.npy.1; do
        accept train "$data" -o "$folder/$name" $small
    done
    accept train "$data" -o "$folder/m" $small --checkpoint "$folder/run.ckpt"
}
misnamed codes ".npy .npz .csv .html" encode "$model" "$data" -o
misnamed embeddings ".safetensors .tsv .txt .npz" decode "$model" "$codes" -o
misnamed embeddings ".safetensors" steer "$model" "$data" --set 1=3 -o
misnamed "a table" ".csv .npy .html" name "$model" --vocab "$other" --words "$words" -o
misnamed "a table" ".csv .npy" tree "$model" "$data" -o
misnamed "a table" ".csv" align "$model" "$model" -o
misnamed "a table" ".npy .json" score "$model" "$data" -o
misnamed "a table" ".json" bias "$model" "$data" --labels "$guarded/l.tsv" --column kind -o
misnamed "a page" ".txt .json" report "$model" "$data" -o
misnamed "an index" ".npy .json" search "$model" "$data" --row 3 --save-index
misnamed "a model" ".pt .json" convert "$model" -o
misnamed "a model in this layout" ".safetensors .pt" convert "$model" --to saelens -o
accept name "$model" --vocab "$other" --words "$words" -o "$folder/m.txt"
mkdir "$folder/folder.pt"
accept convert "$model" --to dictionary-learning -o "$folder/folder.pt"

# Two outputs are two files, also when neither is there yet.
for twin in new ./new deep/../new; do
    # shellcheck disable=SC2086
    refuse 1 'checkpoint: .*new is the file of -o too' train "$guarded/x.npy" -o "$guarded/new" \
        --checkpoint "$guarded/$twin" $small
done
# A run goes on in the checkpoint that it was resumed from.
accept train "$guarded/x.npy" -o "$guarded/again" --resume "$guarded/run" --checkpoint "$guarded/deep/../run" \
    --epochs 3

# What a file is comes before what is wrong with it.
strange=$folder/strange
mkdir "$strange"
printf '1.5,2\n3,4\n' >"$strange/a.dat"
gzip -c "$data" >"$strange/data.npy.gz"
printf '{"metadata": {"total_size": 3}, "weight_map": {"x": "y"}}' >"$strange/m.index.json"
printf 'PAR1....' >"$strange/a.parquet"
printf '\211PNG\r\n' >"$strange/a.png"
printf 'PK\003\004..........................x.npy' >"$strange/a.npz"
head -c 300 /dev/zero >"$strange/raw_20_8.npy"
for descr in '|O' '<c8' '|u1'; do
    { header "$descr" False '(2, 2)' && printf 12345678; } >"$strange/$(echo "$descr" | tr -d '|<').npy"
done
accept encode "$model" "$data" -o "$strange/codes"
for reader in "train @" "eval $model @" "info @"; do
    for case in "a.dat|is text, not a .npy" "data.npy.gz|is compressed by gzip" \
        "m.index.json|is an index" "a.parquet|is a parquet" "a.png|is a picture" \
        "O.npy|the values are Python objects" "c8.npy|the values are complex" "u1.npy|the values are uint8"; do
        # shellcheck disable=SC2086
        set -- $(echo "$reader" | sed "s|@|$strange/${case%|*}|")
        if [ "$1" = train ]; then set -- "$@" -o "$out/m"; fi
        refuse 1 "/${case%|*}: ${case#*|}" "$@"
    done
done
refuse 1 'its name says 20 x 8 floats, which are 640 bytes; it has 300' eval "$model" "$strange/raw_20_8.npy"
refuse 1 'data.npy: is data, not a model: MODEL and DATA swapped' eval "$data" "$model"
refuse 1 'is a model, not data: MODEL and DATA swapped' report "$model" "$model" "$data" -o "$out/p"
refuse 1 'codes: holds codes' eval "$model" "$strange/codes"
refuse 1 'data.npy: is data, not codes' decode "$model" "$data" -o "$out/y.npy"

# Every kind of file in the place of every other.
printf 'latent\tname\n0\tdog\n' >"$strange/names"
printf 'latent\tparent\n0\t-1\n' >"$strange/tree"
printf 'one\ntwo\n' >"$strange/text"
printf '{"a": [1, 2]}' >"$strange/json"
head -c 100 /dev/zero | tr '\0' '\1' >"$strange/bytes"
printf 'PK\003\004................data.pkl' >"$strange/torch"
cp "$model" "$strange/model"
cp "$data" "$strange/data"
tensors x=2,8:16 y=2,8:16 >"$strange/tensors"
# shellcheck disable=SC2086
accept train "$data" -o "$folder/whole.set" $small --checkpoint "$strange/checkpoint"
accept search "$model" "$data" --row 1 --save-index "$strange/index"
# in_place WANTED REGEX ARGUMENT..: what is said of each kind but the wanted one in the place of @.
in_place() {
    wanted_kind=$1
    not=$2
    shift 2
    for case in "model|is a model, $not" "checkpoint|is a checkpoint, $not" "codes|holds codes, $not" \
        "index|is an index of msae search, $not" "data|is data, $not" "names|holds names of latents, not" \
        "tree|holds a concept tree, not" \
        "text|is text, not" "json|is JSON, not" "bytes|neither a .npy nor a safetensors file" \
        "torch|is of torch.save" "tensors|is a safetensors file of other tensors \\(x, y\\), $not" \
        "missing|cannot be opened: there is no such file" \
        "nowhere/x|cannot be opened: there is no folder $strange/nowhere" \
        "text/x|cannot be opened: $strange/text is a file, not a folder"; do
        case "|$wanted_kind|" in *"|${case%%|*}|"*) continue ;; esac
        refuse 1 "$strange/${case%%|*}: ${case#*|}" "$@" "$strange/${case%%|*}"
    done
}
in_place "data|tensors|torch" 'not data' eval "$model"
refuse 1 "torch: byte 6: the zip's end record is not there: the file is cut short" eval "$model" "$strange/torch"
refuse 1 "a.npz: byte 13: the zip's end record is not there: the file is cut short" train "$strange/a.npz" -o "$out/m"
in_place "model|checkpoint|torch" 'not a model' convert -o "$out/m"
in_place codes 'not codes: msae encode makes them' decode "$model" -o "$out/y.npy"
in_place index 'not an index: msae search --save-index makes one' search "$model" "$data" --row 1 --index
in_place checkpoint 'not a checkpoint: msae train --checkpoint makes one' \
    train "$data" -o "$out/m" --epochs 3 --resume
in_place "names|tree|text|json|bytes|torch" 'not text' top "$model" "$data" --row 1 --names
in_place "names|tree|text|json|bytes|torch" 'not text' top "$model" "$data" --row 1 --tree

# A blank last line is no row, and commas do not separate columns.
awk 'BEGIN { for (i = 0; i < 40; i++) print i }' >"$folder/numbers.txt"
printf '\n' | cat "$folder/numbers.txt" - >"$folder/blank.txt"
printf '\n' | cat "$guarded/l.tsv" - >"$folder/blank_column.tsv"
{ echo "kind,path" && awk 'BEGIN { for (i = 0; i < 40; i++) print i ",p" }'; } >"$folder/commas.csv"
{ printf 'kind\tpath\n' && awk 'BEGIN { for (i = 0; i < 40; i++) print i "\tp" }' && echo; } \
    >"$folder/blank_table.tsv"
accept top "$model" "$data" --row 3 --labels "$folder/blank.txt"
accept top "$model" "$data" --row 3 --labels "$folder/blank_column.tsv" --column kind
accept top "$model" "$data" --row 3 --labels "$folder/blank_table.tsv" --column kind
refuse 1 "has no column 'kind', but kind,path: columns are separated by tabs" \
    top "$model" "$data" --row 3 --labels "$folder/commas.csv" --column kind

# The files of a pattern stand in the order of the numbers in their names, and a line says which.
numbered=$folder/numbered
mkdir "$numbered"
for part in "0 a0-9" "4 a1-10" "8 a2-2" "12 a2-09" "16 a2-10x" "20 a002-010y" "24 a10-1" "28 a10-2" \
    "32 a010-11" "36 b"; do
    slice "${part% *}" 4 >"$numbered/${part#* }.npy"
done
accept encode "$model" "$data" -o "$folder/codes.whole"
accept encode "$model" "$numbered/*.npy" -o "$folder/codes.set"
expect "a pattern: rows in the order of the numbers" cmp "$folder/codes.whole" "$folder/codes.set"
expect "a pattern: a line says what it found" test "$(cat "$folder/stderr")" = \
    "msae: note: $numbered/*.npy: 10 files, $numbered/a0-9.npy to $numbered/b.npy"
accept encode "$model" "$numbered/a2-*.npy" "$numbered/b.npy" "$numbered/a10-?.npy" \
    -o "$folder/codes.set"
expect "two patterns: a line for each" test "$(cat "$folder/stderr")" = \
    "msae: note: $numbered/a2-*.npy: 3 files, $numbered/a2-2.npy to $numbered/a2-10x.npy
msae: note: $numbered/a10-?.npy: 2 files, $numbered/a10-1.npy to $numbered/a10-2.npy"
# shellcheck disable=SC2086
refuse 2 "train: --val takes one FILE, and '.*/a10-2.npy' follows it: put the pattern .* in quotes, and DATA before --val" \
    train "$data" --val "$numbered"/a10-?.npy -o "$out/m" $small
# shellcheck disable=SC2086
accept train --val "$other" "$data" "$numbered/b.npy" -o "$folder/r" $small
refuse 1 'a10-2.npy: is data, and only models may follow DATA: put the pattern of several files in quotes' \
    report "$model" "$numbered"/a10-?.npy -o "$out/page.html"
for part in a0-9 a1-10 a2-2 a2-09 a2-10x a002-010y a10-1 a10-2 a010-11 b; do
    echo "$numbered/$part.npy"
done >"$numbered/list"

# Files without rows are left out, and one line says which; their columns count.
holes=$folder/holes
mkdir "$holes"
slice 0 15 >"$holes/part-0.npy"
slice 15 25 >"$holes/part-2.npy"
header '<f2' False '(0, 8)' >"$holes/part-1.npy"
accept encode "$model" "$holes/part-*.npy" -o "$folder/codes.set"
expect "a file without rows: the others' codes" cmp "$folder/codes.whole" "$folder/codes.set"
expect "a file without rows is named" test "$(grep -c warning: "$folder/stderr")$(
    grep -c "^msae: warning: $holes/part-1.npy: has no rows: left out$" "$folder/stderr"
)" = 11
accept eval "$model" "$holes/part-*.npy" --k 5 --json
expect "a file without rows is in the JSON" grep -q '"warnings":\["[^"]*/part-1.npy: has no rows: left out"\]' \
    "$folder/stdout"
header '<f8' False '(0,)' >"$holes/part-3.npy"
# shellcheck disable=SC2086
accept train "$holes/part-*.npy" -o "$folder/model.set" $small --json
expect "files without rows are counted" grep -q \
    '"warnings":\["[^"]*/part-\*.npy: 2 of 4 files have no rows (first: [^"]*/part-1.npy): left out"' \
    "$folder/stdout"
refuse 1 'part-3.npy: the array has no rows or no columns' eval "$model" "$holes/part-3.npy"
refuse 1 'part-1.npy: has no rows, nor has any file after it' eval "$model" "$holes/part-[13].npy"
header '<f2' False '(0, 9)' >"$holes/part-4.npy"
refuse 1 'part-4.npy: has 9 columns, the files before it have another number' \
    eval "$model" "$holes/part-*.npy"

# The only matrix of a safetensors file is taken; of several one has to be named.
tensors x=40,8:320 ids=40:40 scale=:1 none=0,8:0 >"$folder/one_matrix"
tensors image=40,8:320 ids=40:40 text=2,8:16 >"$folder/two_matrices"
tensors ids=40:40 scale=:1 >"$folder/no_matrix"
accept encode "$model" "$folder/one_matrix" -o "$folder/codes.set"
accept encode "$model" "$folder/two_matrices" -o "$folder/codes.set" --tensor image
refuse 1 "two_matrices: 2 of the file's 3 tensors are matrices \(image, text\): name the one to read \(--tensor NAME\)" \
    eval "$model" "$folder/two_matrices"
refuse 1 "none of the file's 2 tensors is a matrix of F32, F16, BF16 or F64" eval "$model" "$folder/no_matrix"
refuse 1 'no tensor has that name \(--tensor\), but image, ids, text' \
    eval "$model" "$folder/two_matrices" --tensor images

# with_data SET ARGUMENT..: runs the tool with the set in the place of the argument DATA, and leaves what it
# says, without times and names of files, in $folder/said.
with_data() {
    rows=$1
    shift
    for argument; do
        shift
        if [ "$argument" = DATA ]; then argument=$rows; fi
        set -- "$@" "$argument"
    done
    accept "$@"
    sed -E -e 's/"[a-z_]*seconds":[^,}]*//g' -e 's/"(rows_per_s|files)":[^,}]*//g' \
        -e "s|$folder/[^\" ]*||g" "$folder/stdout" >"$folder/said"
}

# sets ARGUMENT..: what the command says of DATA is the same for a file, a pattern and a list.
sets() {
    with_data "$data" "$@"
    cp "$folder/said" "$folder/said.file"
    for rows in "$numbered/*.npy" "@$numbered/list"; do
        with_data "$rows" "$@"
        expect "$1: $rows is one set" cmp -s "$folder/said.file" "$folder/said"
    done
}
sets eval "$model" DATA --k 5 --json
sets top "$model" DATA --row 21 --labels "$folder/numbers.txt" --json
sets search "$model" DATA --row 21 --labels "$folder/numbers.txt" --json
sets search "$model" "$data" --query DATA --row 21 --json
sets bias "$model" DATA --labels "$guarded/l.tsv" --column kind --json
sets steer "$model" DATA --set 1=2 -o "$folder/steered" --json
sets probe DATA --labels "$guarded/l.tsv" --column kind --json
sets report "$model" DATA -o "$folder/page" --json
sets convert "$model" -o "$folder/calibrated" --calibrate DATA --json
sets name "$model" --vocab "$other" --words "$words" --data DATA --json
# shellcheck disable=SC2086
sets train "$data" --val DATA -o "$folder/set" $small --json
refuse 2 "'.*/a10-1.npy' is one argument too many: put the pattern of several files in quotes" \
    eval "$model" "$numbered"/a1*.npy
refuse 1 "/numbered: is a folder: name its files by a pattern in quotes" eval "$model" "$numbered"

# Real embeddings in windows of 4 MiB: the order does not depend on where the rows lie, and a run
# that was stopped goes on.
if [ -f "$clip/train_f16.npy" ]; then
    run="--latents 64 --epochs 2 --batch 512 --window 4"
    # shellcheck disable=SC2086
    {
        accept train "$clip/train_f16.npy" -o "$folder/windows" $run \
            --checkpoint "$folder/run" --every 130
        accept train "$clip/train_f16.npy" -o "$folder/resumed" $run --resume "$folder/run" \
            --checkpoint "$folder/elsewhere"
        expect "train in windows: resumed to the same bytes" cmp "$folder/windows" "$folder/resumed"
        accept train "$clip/train_f16.npy" -o "$folder/resumed" --resume "$folder/run" --in-memory \
            --checkpoint "$folder/elsewhere"
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
