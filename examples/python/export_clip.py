"""CLIP embeddings of a folder of images, and of a list of words, for msae train and msae name.

    python3 export_clip.py images FOLDER -o images      -> images.npy, images.txt (the files' names)
    python3 export_clip.py words WORDS.txt -o words     -> words.npy

Needs open_clip_torch and Pillow. Embeddings go to the .npy as they are made, as float16, so that
neither images nor embeddings need fit into memory. Nothing is centred or scaled: that is the
model's business.
"""
import argparse
import pathlib

import numpy as np
import open_clip
import torch
from PIL import Image

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def embed(batches, rows, encode, path):
    """Unit vectors of `rows` items, batch by batch, into a .npy."""
    out, done = None, 0
    for batch in batches:
        with torch.no_grad():
            x = encode(batch).float()
        x = (x / x.norm(dim=-1, keepdim=True)).cpu().numpy()
        if out is None:
            out = np.lib.format.open_memmap(path, "w+", np.float16, (rows, x.shape[1]))
        out[done:done + len(x)] = x
        done += len(x)
        print(f"\r{done}/{rows}", end="", flush=True)
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["images", "words"])
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("-o", "--output", required=True, help="without an ending")
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--weights", default="openai")
    parser.add_argument("--prompt", default="a photo of a {}", help="what a word stands in")
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, _, preprocess = open_clip.create_model_and_transforms(
        options.model, pretrained=options.weights, device=device)
    model.eval()

    def parts(items):
        return (items[i:i + options.batch] for i in range(0, len(items), options.batch))

    if options.kind == "images":
        paths = sorted(p for p in options.source.rglob("*") if p.suffix.lower() in IMAGES)
        batches = (torch.stack([preprocess(Image.open(p).convert("RGB")) for p in part])
                   for part in parts(paths))
        embed(batches, len(paths), lambda b: model.encode_image(b.to(device)),
              options.output + ".npy")
        pathlib.Path(options.output + ".txt").write_text("\n".join(map(str, paths)) + "\n")
    else:
        words = options.source.read_text().splitlines()
        tokenizer = open_clip.get_tokenizer(options.model)
        batches = (tokenizer([options.prompt.format(word) for word in part])
                   for part in parts(words))
        embed(batches, len(words), lambda b: model.encode_text(b.to(device)),
              options.output + ".npy")


if __name__ == "__main__":
    main()
