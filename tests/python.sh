#!/bin/sh
# The Python examples against the tool: its codes and numpy's own from the same model, and an export
# with stand-ins for CLIP and the images.
#
#     sh tests/python.sh build/msae [PYTHON]
msae=${1:?usage: tests/python.sh MSAE [PYTHON]}
python=${2:-python3}
data=examples/data/glove_f16.npy
if ! "$python" -c 'import numpy' 2>/dev/null; then
    echo "make python-test lacks numpy for $python (Debian: python3-numpy)"
    exit 1
fi
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
passed=0
failed=0

# expect WHAT COMMAND..
expect() {
    what=$1
    shift
    if "$@" >"$folder/now" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "python: $what"
        tail -n 5 "$folder/now"
    fi
    mv "$folder/now" "$folder/said" # which the next one may look at
}

# Codes of the tool and of numpy, at most 1e-5 apart.
for recipe in msae msae-width "topk --tied" batchtopk jumprelu; do
    # shellcheck disable=SC2086
    expect "train $recipe" "$msae" train "$data" -o "$folder/model" --recipe $recipe \
        --latents 192 --epochs 2 --batch 256
    expect "encode with $recipe" "$msae" encode "$folder/model" "$data" -o "$folder/codes" --k 12
    expect "msae_numpy.py on $recipe" "$python" examples/python/msae_numpy.py "$folder/model" \
        "$folder/codes" "$data"
    expect "msae_numpy.py on $recipe: $(tail -n 1 "$folder/said")" awk \
        '/apart/ { good = $(NF - 1) < 1e-5 } END { exit !good }' "$folder/said"
done
expect "write_embeddings" "$python" -c "
import sys
sys.path.insert(0, 'examples/python')
import msae_numpy, numpy
msae_numpy.write_embeddings('$folder/x.npy', numpy.arange(12.0).reshape(3, 4).T)"
expect "what it wrote is read" "$msae" info "$folder/x.npy"
expect "its shape" grep -q ' 4 rows of 3' "$folder/said"

# The real CLIP needs its weights. Here a module of its name embeds an image as its first pixels.
if "$python" -c 'import torch, PIL' 2>/dev/null; then
    mkdir "$folder/modules" "$folder/images"
    cat >"$folder/modules/open_clip.py" <<'EOF'
import torch


class Model:
    def eval(self):
        pass

    def encode_image(self, x):
        return x.reshape(len(x), -1)[:, :16]

    def encode_text(self, x):
        return x


def create_model_and_transforms(name, pretrained, device):
    return Model(), None, lambda image: torch.tensor(list(image.tobytes()[:16]))


def get_tokenizer(name):
    return lambda texts: torch.tensor([[len(text), 1.0] for text in texts])
EOF
    expect "images" "$python" -c "
from PIL import Image
for i in range(150): Image.new('RGB', (8, 8), (i, 1, 2)).save('$folder/images/%03d.png' % i)"
    expect "export_clip.py images" env PYTHONPATH="$folder/modules" "$python" \
        examples/python/export_clip.py images "$folder/images" -o "$folder/clip"
    expect "export_clip.py images: read" "$msae" info "$folder/clip.npy"
    expect "export_clip.py images: 150 unit rows" \
        grep -q ' 150 rows of 16, F16, mean norm \(1\|1.000[0-9]*\|0.999[0-9]*\),' "$folder/said"
    expect "export_clip.py images: a name for each" \
        test "$(grep -c '\.png$' "$folder/clip.txt")" -eq 150
    printf 'cat\nhorse\n' >"$folder/words.txt"
    expect "export_clip.py words" env PYTHONPATH="$folder/modules" "$python" \
        examples/python/export_clip.py words "$folder/words.txt" -o "$folder/words"
    expect "export_clip.py words: read" "$msae" info "$folder/words.npy"
    expect "export_clip.py words: two rows" grep -q ' 2 rows of 2, F16' "$folder/said"
    echo "$passed passed, $failed failed"
else
    echo "$passed passed, $failed failed, 1 skipped (the export needs torch and PIL)"
fi
[ "$failed" -eq 0 ]
