#!/bin/sh
# Two small worlds of words, and the concepts that a Matryoshka sparse autoencoder finds in them.
# Arguments: the tool and a folder for the models.
set -eu
msae=${1:?usage: demo.sh TOOL FOLDER}
out=${2:?usage: demo.sh TOOL FOLDER}
data=$(dirname "$0")/data

say() {
    printf '\n%s\n' "$*"
}

# The levels keep 8, 16, 32 .. latents. Weights that halve from level to level make the few strongest
# latents carry as much as they can, which makes them the clearest concepts. Names are meant to be
# read here, so a word that is close to its runner-up is fine: --min-ratio 1.

say "1. English: 20,000 GloVe vectors of 100 numbers become concepts out of 1024"
say "Training"
"$msae" train "$data/glove_f16.npy" -o "$out/demo_glove.safetensors" --latents 1024 --nesting 8 \
    --weights 128,64,32,16,8,4,2,1 --epochs 20 --batch 256 --lr 5e-4
say "How well the k strongest concepts of a word rebuild its vector (fvu: share of variance lost)"
"$msae" eval "$out/demo_glove.safetensors" "$data/glove_f16.npy" --no-cknna
say "Twenty concepts: the word that names each, and the words that have most of it"
"$msae" name "$out/demo_glove.safetensors" --vocab "$data/glove_f16.npy" --words "$data/glove_words.txt" \
    --k 8 --min-ratio 1 --list 20 --top 8

say "2. What CLIP, a model of images and text, makes of 2,278 things: 512 numbers for each"
say "Training"
"$msae" train "$data/clip_words_f16.npy" -o "$out/demo_clip.safetensors" --latents 512 --nesting 8 \
    --weights 64,32,16,8,4,2,1 --epochs 20 --batch 32 --lr 1e-3
say "How well the k strongest concepts rebuild the embedding"
"$msae" eval "$out/demo_clip.safetensors" "$data/clip_words_f16.npy"
say "Ten concepts, named the same way"
"$msae" name "$out/demo_clip.safetensors" --vocab "$data/clip_words_f16.npy" --words "$data/clip_words.tsv" \
    --k 8 --min-ratio 1 --list 10 --top 6

say "3. A page about the first model, to be opened in a browser"
"$msae" report "$out/demo_glove.safetensors" "$data/glove_f16.npy" --vocab "$data/glove_f16.npy" \
    --words "$data/glove_words.txt" --labels "$data/glove_words.txt" --k 8 --no-cknna -o "$out/demo.html"
