#!/bin/sh
# Builds the page: msae.h as WebAssembly with and without SIMD128, the model, the names of its
# concepts, and what the page shows of them. Arguments: the tool and the folder to fill.
set -eu
msae=${1:?usage: build.sh TOOL FOLDER}
out=${2:?usage: build.sh TOOL FOLDER}
here=$(dirname "$0")
data=$here/../data
mkdir -p "$out/data"

# Emscripten where it is installed; else, or with WASM_CC=clang, plain clang with wasi-libc.
if [ "${WASM_CC:-emcc}" = emcc ] && command -v emcc >/dev/null; then
    compile="emcc --no-entry -s ALLOW_MEMORY_GROWTH=1 -s MALLOC=emmalloc -s FILESYSTEM=0"
elif echo 'int main(void) { return 0; }' |
    clang --target=wasm32-wasi -x c -o "$out/probe" - 2>/dev/null; then
    rm -f "$out/probe"
    compile="clang --target=wasm32-wasi -mexec-model=reactor -Wl,--strip-debug"
else
    echo "make web needs emscripten, or clang, lld, wasi-libc and libclang-rt-14-dev-wasm32"
    exit 1
fi
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow"
for build in scalar simd128; do
    option=
    [ $build = simd128 ] && option=-msimd128
    # shellcheck disable=SC2086 # lists of options
    $compile -std=c99 -O2 -DNDEBUG $warnings $option -I"$here/../.." "$here/msae_web.c" \
        -o "$out/msae-$build.wasm"
done

# The model of the demo; WEIGHTS is the type that the page gets it in: f32, f16, bf16 or int8.
trained=$out/trained.safetensors
model=$out/data/model.safetensors
glove=$data/glove_f16.npy
if [ -z "$(find "$trained" -newer "$msae" -newer "$0" 2>/dev/null)" ]; then
    "$msae" train "$glove" -o "$trained" --latents 1024 --nesting 8 \
        --weights 128,64,32,16,8,4,2,1 --epochs 20 --batch 256 --lr 5e-4
fi
"$msae" convert "$trained" -o "$model" --dtype "${WEIGHTS:-f32}" >/dev/null
# Named by decoder rows, which are what a push adds; every latent gets a name.
"$msae" name "$trained" --vocab "$glove" --words "$data/glove_words.txt" --k 64 --min-ratio 1 \
    --top 8 -o "$out/data/names.tsv"
"$msae" eval "$model" "$glove" --no-cknna --json >"$out/data/fvu.jsonl" \
    --k 1,2,3,4,6,8,12,16,24,32,48,64,96,128,192,256,384,512,768,1024
cp "$glove" "$out/data/vectors.npy"
cp "$data/glove_words.txt" "$out/data/words.txt"
cp "$here"/*.html "$here"/*.css "$here"/*.js "$out"
