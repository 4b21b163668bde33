#!/usr/bin/env python3
"""What refined codes do to meaning, on the CLIP rows of a folder with train_f16.npy (48,195 rows of 512),
train_meta.tsv (classname and more), vocab_f16.npy and vocab.tsv: codes as encoded, with refitted values
(refine 0) and with one exchange (refine 1), each by the tool's own commands. For each model and k:
    purity    of a latent's 20 strongest rows, the share of the commonest class: the mean over latents
              that have 20 rows as encoded; pure: those of them with 12 of 20
    mono      monosemanticity (`msae score`), the mean over the same latents
    names     of the latents whose 20 strongest rows share a class that is a word of the vocabulary, those
              named so at first (`msae name`, all rows)
    search    share of the 10 nearest rows by concepts that are of the query's class (`msae search
              --evaluate`); by embedding alone in brackets
    probe     a linear probe's answers on reconstructions against those on the embeddings (`msae probe`,
              classes of 20 rows and more): KL divergence, and the share of the same answers
Everything but the names is measured on rows from --train on (40,000), which the models were not trained
on: `msae` of bench/recipes trains them so (make recipes GRIDS=claims).

usage: meaning.py MSAE FOLDER MODEL.. [--k K,..] [--train ROWS] [--threads T]
"""
import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
except ImportError as missing:
    sys.exit(f"meaning.py: {missing}; Debian has it as python3-numpy")

LEVELS = [("encoded", []), ("refine 0", ["--refine", "0"]), ("refine 1", ["--refine", "1"])]


def events(command):
    """The JSON objects that a command of the tool prints."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def scores(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def mean(rows, key, latents):
    values = [float(rows[j][key]) for j in latents if rows[j][key]]
    return sum(values) / len(values)


def measure(args, model, k, options, folder):
    clip = args.folder
    held, labels, table = folder / "held.npy", folder / "held.tsv", folder / "scores.tsv"
    common = ["--k", k, "--json"] + options + (["--threads", args.threads] if args.threads else [])
    of_class = ["--column", "classname", "--labels"]
    events([args.msae, "score", model, held, "-o", table, *of_class, labels, *common])
    check = [e for e in events([
        args.msae, "name", model, "--vocab", clip / "vocab_f16.npy", "--words", clip / "vocab.tsv", "--data",
        clip / "train_f16.npy", "-o", folder / "names.tsv", *of_class, clip / "train_meta.tsv", *common])
        if e.get("event") == "check"][-1]
    found = events([args.msae, "search", model, held, "--evaluate", 1500, *of_class, labels, *common])[0]
    agreed = events([args.msae, "probe", held, "--model", model, "--min-rows", 20, *of_class, labels,
                     *common])[-1]
    return scores(table), check, found, agreed


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("msae")
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--k", default="32,64")
    parser.add_argument("--train", type=int, default=40000)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    print("| model | k | codes | purity | pure | mono | names | search | probe: KL, same |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "held.npy", np.load(args.folder / "train_f16.npy")[args.train:])
        lines = (args.folder / "train_meta.tsv").read_text(encoding="utf-8").split("\n")
        (folder / "held.tsv").write_text("\n".join([lines[0]] + lines[args.train + 1:]), encoding="utf-8")
        for model in args.models:
            for k in args.k.split(","):
                latents = None
                for codes, options in LEVELS:
                    rows, check, found, agreed = measure(args, model, k, options, folder)
                    if latents is None:
                        latents = [j for j, row in enumerate(rows) if int(row["rows"]) >= 20]
                    pure = sum(float(rows[j]["purity"] or 0) >= 0.6 for j in latents)
                    print(f"| {Path(model).stem} | {k} | {codes} | {mean(rows, 'purity', latents):.3f} | "
                          f"{pure} of {len(latents)} | {mean(rows, 'monosemanticity', latents):.3f} | "
                          f"{check['right_first']} of {check['class_is_a_word']} | "
                          f"{found['concepts']['precision']['mean']:.3f} "
                          f"({found['embedding']['precision']['mean']:.3f}) | "
                          f"{agreed['kl']:.4f}, {agreed['agreement']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
