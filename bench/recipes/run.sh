#!/bin/sh
# Runs grids of recipes, one after the other: sh bench/recipes/run.sh BUILD GRID.. with the results of
# each in BUILD/recipes/GRID (results.tsv, table.md, fvu.svg, the models). A grid that was cut goes on
# where it stood. CLIP names the image embeddings, META their table.
build=${1:?usage: bench/recipes/run.sh BUILD GRID..}
shift
here=bench/recipes
CLIP=${CLIP:-../shared/clip/train_f16.npy}
META=${META:-../shared/clip/train_meta.tsv}

# run GRID DATA FILE OPTION..
run() {
    folder=$build/recipes/$1
    data=$2
    grid=$3
    shift 3
    if [ ! -e "$data" ]; then
        echo "skipped: there is no $data"
        return 0
    fi
    mkdir -p "$folder"
    "$build/bench/recipes" "$data" "$here/$grid.txt" "$folder" "$@"
}

for name in "$@"; do
    echo "== $name"
    case $name in
    claims | rates | sizes | refined | again) run "$name" "$CLIP" "$name" --train 40000 ;;
    levers) run levers "$CLIP" levers --train 40000 --epochs 6 ;;
    revival) run revival "$CLIP" revival --train 40000 ;;
    stability) run stability "$CLIP" stability --train 40000 ;;
    glove) run glove examples/data/glove_f16.npy glove --train 16000 --shuffle ;;
    shift | again-shift) run "$name" "$CLIP" "$name" --groups "$META" --leave-out oxford_pets,dtd,eurosat ;;
    cost) run cost "$CLIP" claims --train 40000 --cost ;;
    *) echo "there is no grid $name" && false ;;
    esac || exit 1
done
