#!/bin/sh
# Two small worlds and the concepts that a Matryoshka sparse autoencoder finds in them.
# Arguments: the tool and a folder for the models.
set -eu
msae=$1
out=$2
data=$(dirname "$0")/data

say() {
    printf '\n%s\n\n' "$*"
}

say "1. Words of English: 20,000 GloVe vectors of 100 numbers, rewritten as concepts out of 1024"
"$msae" train "$data/glove_f16.npy" -o "$out/demo_glove.safetensors" \
    --latents 1024 --nesting 8 --epochs 12 --batch 256 --lr 5e-4

say "How well the k strongest concepts of a word rebuild its vector (fvu: share of variance lost)"
"$msae" eval "$out/demo_glove.safetensors" "$data/glove_f16.npy" --no-cknna

say "Twenty of the concepts, with the word closest to each and the words that have most of it"
"$msae" name "$out/demo_glove.safetensors" "$data/glove_f16.npy" \
    --words "$data/glove_words.txt" --k 16 --list 20 --top 8

say "2. Words as CLIP, a model of images and text, sees them: 2,278 embeddings of 512 numbers"
"$msae" train "$data/clip_words_f16.npy" -o "$out/demo_clip.safetensors" \
    --latents 1024 --nesting 8 --epochs 40 --batch 128 --lr 5e-4
"$msae" eval "$out/demo_clip.safetensors" "$data/clip_words_f16.npy" --no-cknna
"$msae" name "$out/demo_clip.safetensors" "$data/clip_words_f16.npy" \
    --words "$data/clip_words.tsv" --k 8 --list 10 --top 6
