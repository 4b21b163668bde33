#!/usr/bin/env python3
"""What the concept tree is worth, on the CLIP rows of a folder with train_f16.npy (48,195 rows of 512)
and train_meta.tsv (dataset, label, classname, averaged_views, species).

A latent is pure when 12 of its 20 strongest rows are of one class of a set. That class has a natural
parent: a breed has its species, a kind of flower the flowers. The tree is right about the latent when
one of its ancestors has 70 rows of that parent among its 100 strongest. For each set:
    pure      such latents
    right     those with such an ancestor; best: whose first parent is one
    chance    those expected right if each ancestor were any latent on as many rows (1.5 times its own)
    kin       latents of all with 70 such rows among their 100 strongest
and for the whole tree:
    wrong     edges from a latent of one set (70 % of its 20 strongest rows) to one of another (70 of 100)
    same      edges found in both random halves of the rows, over those found in either
    holds     edges found in one half whose p is at least half of the least one in the other

Without a MODEL it trains one for each seed on the first half of the rows and measures on the second,
rows never trained on; a MODEL is measured on all rows. The edges come from `msae tree`, and are held
against the same rule in NumPy, which also tries others (--rules).

usage: tree.py MSAE FOLDER [MODEL..] [--k K] [--seeds S,..] [--threads T] [--rules]
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
    sys.exit(f"tree.py: {missing}; Debian has it as python3-numpy")

RULE = dict(share=0.5, strong=5, ratio=1.5, p=0.4, lift=3.0, parents=3)
RULES = [dict(RULE, **{name: value}) for name, values in (
    ("p", (0.4, 0.3, 0.5, 0.6)), ("lift", (2.0, 5.0)), ("parents", (1, 2, 5)), ("ratio", (2.0, 3.0)),
    ("strong", (1, 3, 10)), ("share", (0.25, 1.0))) for value in values]

CALTECH_ANIMALS = """ant|beaver|body of a cougar cat|butterfly|crab|crayfish|crocodile|dalmatian|dolphin
dragonfly|elephant|emu|face of a cougar cat|flamingo|gerenuk|hawksbill|head of a  crocodile
head of a flamingo|hedgehog|ibis|kangaroo|leopard|llama|lobster|mayfly|nautilus|octopus|okapi|panda
pigeon|platypus|rhino|rooster|scorpion|sea horse|starfish|tick|wild cat""".replace("\n", "|").split("|")
CALTECH_MUSIC = ["accordion", "bass", "electric guitar", "euphonium", "grand piano", "gramophone",
                 "mandolin", "saxophone"]
# The numbers of ImageNet's classes.
ANIMAL_GROUPS = {
    "fish": "0-6 389-397", "songbird": "10-20", "bird of prey": "21-24", "game bird": "80-86",
    "parrot": "87-90", "water bird": "97-100 127-146", "amphibian": "25-32", "turtle": "33-37",
    "lizard": "38-48", "crocodile": "49-50", "snake": "52-68", "spider": "70-77", "marsupial": "104-106",
    "mollusc": "112-117", "crustacean": "118-126", "whale": "147-150", "wild dog": "269-276",
    "fox": "277-280", "big cat": "286-293", "bear": "294-297", "beetle": "300-307", "insect": "308-320",
    "butterfly": "321-326", "rabbit": "330-332", "rodent": "333-338", "hoofed": "339-355",
    "weasel": "356-362", "ape": "365-369", "monkey": "370-382", "elephant": "385-386"}
IMAGENET_MUSIC = """401-402 420 432 486 513 541-542 546 558 566 577 579 593-594 641-642 683-684 687 699
776 822 875 881 889"""


def numbers(spans):
    out = []
    for span in spans.split():
        first, _, last = span.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


def load_sets(path, rows):
    """Of each set the class and the natural parent of every row, '' for none; and what sets rows are of."""
    with open(path, encoding="utf-8") as file:
        meta = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[rows]
    dataset, name, species = (np.array([row[key] for row in meta])
                              for key in ("dataset", "classname", "species"))
    label = np.array([int(row["label"]) for row in meta])

    def of(which, names=None, spans=None):
        mask = dataset == which
        if names is not None:
            mask &= np.isin(name, names)
        return mask & np.isin(label, numbers(spans)) if spans else mask

    def called(mask, values):
        return np.where(mask, values, "")

    pets = of("oxford_pets")
    animal = pets | of("imagenet", spans="0-397") | of("caltech101", CALTECH_ANIMALS)
    playing = of("ucf101") & (np.char.startswith(name, "Playing") | (name == "Drumming"))
    music = playing | of("caltech101", CALTECH_MUSIC) | of("imagenet", spans=IMAGENET_MUSIC)
    aircraft = (of("fgvc") | of("caltech101", ["airplane", "helicopter"]) |
                of("imagenet", spans="404-405 895"))
    flower = (of("oxford_flowers") | of("caltech101", ["sunflower", "lotus", "water lilly"]) |
              of("imagenet", spans="984-986"))
    group = np.full(len(meta), "", dtype="U16")
    for title, spans in ANIMAL_GROUPS.items():
        group[of("imagenet", spans=spans)] = title
    sets = {
        "pets: breed < cat, dog": (called(pets, name), called(pets, species)),
        "flowers: kind < flower": (called(of("oxford_flowers"), name), called(flower, "flower")),
        "fgvc: variant < aircraft": (called(of("fgvc"), name), called(aircraft, "aircraft")),
        "ucf101: instrument < music": (called(playing, name), called(music, "music")),
        "caltech101: animal < animals": (called(of("caltech101", CALTECH_ANIMALS), name),
                                         called(animal, "animal")),
        "imagenet: group < animals": (group, called(animal, "animal")),
    }
    apart = called(np.isin(dataset, ["oxford_flowers", "fgvc", "ucf101", "dtd", "sun397"]), dataset)
    return sets, np.where(pets, species, apart)


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"tree.py: {' '.join(map(str, command))}: {done.stderr.strip()}")


class Codes:
    """Rows by latents, from a file of msae encode."""

    def __init__(self, latents, values, n):
        self.latents, self.values, self.n = latents, values, n  # [rows, k]; n where there is none
        active = latents.ravel() < n
        row, latent = np.nonzero(active)[0] // latents.shape[1], latents.ravel()[active]
        order = np.lexsort((row, -values.ravel()[active], latent))
        self.strongest = np.split(row[order], np.cumsum(np.bincount(latent, minlength=n))[:-1])
        self.support = np.bincount(latent, minlength=n)

    @classmethod
    def load(cls, path, n):
        data = Path(path).read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + size])
        arrays = [np.frombuffer(data, dtype, offset=8 + size + header[key]["data_offsets"][0],
                                count=header[key]["shape"][0])
                  for key, dtype in (("indptr", "<i8"), ("indices", "<i4"), ("values", "<f4"))]
        counts = np.diff(arrays[0])
        there = np.arange(counts.max())[None, :] < counts[:, None]
        latents, values = np.full(there.shape, n), np.zeros(there.shape, np.float32)
        latents[there], values[there] = arrays[1], arrays[2]
        return cls(latents, values, n)

    def part(self, rows):
        return Codes(self.latents[rows], self.values[rows], self.n)

    def shares(self, share):
        """[n, n]: the share of a latent's strong rows on which each is active; and how many those are."""
        strong = np.ceil(self.support * share).astype(int)
        p = np.zeros((self.n, self.n), np.float32)
        for j in np.nonzero(strong)[0]:
            latents = self.latents[self.strongest[j][:strong[j]]]
            p[j] = np.bincount(latents.ravel(), minlength=self.n + 1)[:-1] / strong[j]
        return p, strong

    def most(self, classes, top):
        """The class that most of a latent's `top` strongest rows are of, and how many those are."""
        best = []
        for rows in self.strongest:
            titles, counts = np.unique(classes[rows[:top]], return_counts=True)
            counts = np.where(titles == "", 0, counts)
            at = counts.argmax() if len(counts) else 0
            best.append((titles[at], counts[at]) if len(counts) and counts[at] else ("", 0))
        return best


def find_parents(codes, rule, shares=None):
    """The rule of the library: each latent's parents, the best first."""
    p, strong = shares or codes.shares(rule["share"])
    rows = (codes.latents < codes.n).any(axis=1).sum()
    support = codes.support
    lift = p * rows / np.maximum(support, 1)
    good = ((support[None, :] >= rule["ratio"] * support[:, None]) & (p >= np.float32(rule["p"])) &
            (lift >= rule["lift"]) & (strong >= rule["strong"])[:, None])
    parents = []
    for j in range(codes.n):
        found = np.nonzero(good[j])[0]
        parents.append(found[np.lexsort((found, support[found], -p[j, found]))][:rule["parents"]])
    return parents


def ancestors_of(parents, support):
    ancestors = [set() for _ in parents]
    for j in np.argsort(-support, kind="stable"):
        for parent in parents[j]:
            ancestors[j] |= {parent} | ancestors[parent]
    return ancestors


class Measure:
    """What trees of one model's codes are held against."""

    def __init__(self, codes, sets, apart, rows_apart):
        self.codes, self.halves = codes, rows_apart
        self.sets = {}
        for title, (classes, above) in sets.items():
            parent = dict(zip(classes[classes != ""], above[classes != ""]))
            kin = [title if count >= 70 else "" for title, count in codes.most(above, 100)]
            pure = {j: parent[title] for j, (title, count) in enumerate(codes.most(classes, 20))
                    if count >= 12}
            self.sets[title] = (pure, np.array(kin))
        few = np.minimum(codes.support, 20)
        self.of = [title if count >= max(7, 0.7 * few[j]) else ""
                   for j, (title, count) in enumerate(codes.most(apart, 20))]
        self.kin_of = [title if count >= 70 else "" for title, count in codes.most(apart, 100)]

    def sets_of(self, parents):
        ancestors = ancestors_of(parents, self.codes.support)
        for title, (pure, kin) in self.sets.items():
            right = sum(any(kin[a] == want for a in ancestors[j]) for j, want in pure.items())
            best = sum(len(parents[j]) > 0 and kin[parents[j][0]] == want for j, want in pure.items())
            chance = 0.0
            for j, want in pure.items():
                others = self.codes.support >= 1.5 * self.codes.support[j]
                chance += 1 - (1 - (kin[others] == want).mean()) ** len(ancestors[j])
            yield title, len(pure), right, best, chance, (kin != "").sum()

    def edges_of(self, parents):
        pairs = [(self.of[j], self.kin_of[p]) for j, some in enumerate(parents) for p in some]
        pairs = [pair for pair in pairs if pair[0] and pair[1]]
        return sum(a != b for a, b in pairs), len(pairs)

    def halves_of(self, rule):
        (first, p1), (second, p2) = ((half, half.shares(rule["share"])) for half in self.halves)
        found = [{(j, p) for j, some in enumerate(find_parents(half, rule, shares)) for p in some}
                 for half, shares in ((first, p1), (second, p2))]
        there = [p2[0][j, p] >= rule["p"] / 2 for j, p in found[0] if second.support[j] > 0]
        return len(found[0] & found[1]) / len(found[0] | found[1]), np.mean(there)


def depth_of(parents, support):
    depth = np.zeros(len(parents), int)
    for j in np.argsort(-support, kind="stable"):
        if len(parents[j]):
            depth[j] = 1 + max(depth[p] for p in parents[j])
    return depth.max()


def read_tree(path, n):
    parents = [[] for _ in range(n)]
    with open(path, encoding="utf-8") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            if line["parent"] != "-1":
                parents[int(line["latent"])].append(int(line["parent"]))
    return parents


def print_model(title, parents, measure, rule):
    codes = measure.codes
    wrong, pairs = measure.edges_of(parents)
    same, holds = measure.halves_of(rule)
    print(f"{title}: {len(codes.latents)} rows, {sum(len(p) == 0 for p in parents)} roots of {codes.n} "
          f"({(codes.support == 0).sum()} on no row), {sum(map(len, parents))} edges, depth "
          f"{depth_of(parents, codes.support)}; wrong {wrong} of {pairs}, same {same:.2f}, holds {holds:.3f}")
    print(f"  {'':30s} {'pure':>5} {'right':>6} {'best':>5} {'chance':>7} {'kin':>5}")
    for name, pure, right, best, chance, kin in measure.sets_of(parents):
        print(f"  {name:30s} {pure:5d} {right:6d} {best:5d} {chance:7.1f} {kin:5d}", flush=True)


def print_rules(measure):
    titles = [title.split(":")[0] for title in measure.sets]
    print("  share strong ratio   p  lift parents | " + " ".join(f"{title:>14}" for title in titles) +
          " |  edges  wrong same holds     (right/pure, best)")
    shares = {}
    for rule in RULES:
        if rule["share"] not in shares:
            shares[rule["share"]] = measure.codes.shares(rule["share"])
        parents = find_parents(measure.codes, rule, shares[rule["share"]])
        cells = [f"{right}/{pure}, {best}" for _, pure, right, best, _, _ in measure.sets_of(parents)]
        wrong, pairs = measure.edges_of(parents)
        same, holds = measure.halves_of(rule)
        print(f"  {rule['share']:5.2f} {rule['strong']:6d} {rule['ratio']:5.1f} {rule['p']:4.1f} "
              f"{rule['lift']:4.1f} {rule['parents']:7d} | " + " ".join(f"{c:>14}" for c in cells) +
              f" | {sum(map(len, parents)):6d} {100 * wrong / pairs:5.1f}% {same:.2f} {holds:.3f}",
              flush=True)


def measure_model(options, folder, model, rows_path, rows, title):
    run([options.msae, "encode", model, rows_path, "--k", options.k, "-o", folder / "codes",
         "--threads", options.threads])
    run([options.msae, "tree", model, rows_path, "--k", options.k, "-o", folder / "tree.tsv",
         "--threads", options.threads])
    with open(folder / "tree.tsv", encoding="utf-8") as file:
        n = 1 + max(int(line.split("\t")[0]) for line in list(file)[1:])
    parents = read_tree(folder / "tree.tsv", n)
    codes = Codes.load(folder / "codes", n)
    ours = find_parents(codes, RULE)
    if any(list(a) != b for a, b in zip(ours, parents)):
        sys.exit("tree.py: msae tree finds other edges than the same rule in NumPy")
    sets, apart = load_sets(options.folder / "train_meta.tsv", rows)
    mixed = np.random.default_rng(0).permutation(len(codes.latents))
    middle = len(mixed) // 2
    measure = Measure(codes, sets, apart, (codes.part(mixed[:middle]), codes.part(mixed[middle:])))
    print_model(title, parents, measure, RULE)
    if options.rules:
        print_rules(measure)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
    parser.add_argument("msae")
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--latents", type=int, default=2048)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rules", action="store_true")
    options = parser.parse_args()
    data = options.folder / "train_f16.npy"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for model in options.models:
            measure_model(options, folder, model, data, slice(None), model)
        if options.models:
            return
        rows = np.load(data, mmap_mode="r")
        middle = len(rows) // 2
        np.save(folder / "first.npy", rows[:middle])
        np.save(folder / "second.npy", rows[middle:])
        for seed in options.seeds.split(","):
            run([options.msae, "train", folder / "first.npy", "-o", folder / "model", "--latents",
                 options.latents, "--epochs", options.epochs, "--batch", 256, "--seed", seed,
                 "--threads", options.threads])
            measure_model(options, folder, folder / "model", folder / "second.npy",
                          slice(middle, None), f"seed {seed}, other half")


if __name__ == "__main__":
    main()
