#!/usr/bin/env python3
"""Time to published quality: the seconds until fvu_row on unseen rows is at most that of the published
recipes msae-rw and msae-uw after their epochs (the better one at each k), with `msae train` as it is by
default and with plain PyTorch that trains the published recipe on the same threads.

The published quality comes from the tool's own msae-rw and msae-uw, which reach what PyTorch reaches
(torch_schedule.py). A run of the default recipe is one with so many epochs from the start, because its
learning rate falls to zero at the end, and one is with --fast; its seconds are those of the whole
process, reading and writing included. PyTorch's are the median time of a step, measured in turns with
our runs, times the steps of its epochs: its rows are in memory, and nothing but steps is counted.

usage: torch_quality.py BUILD DATA.npy [--unseen N] [--latents N] [--batch B] [--threads T]
       [--epochs E] [--tries 1,2,3,4] [--seeds S] [--json]
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
except ImportError as missing:
    sys.exit(f"torch_quality: {missing}; Debian has it as python3-numpy")

from torch_peer import start_peers


def run(command):
    """The objects that the tool prints, and the seconds it took."""
    start = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"torch_quality: {' '.join(map(str, command))}: {done.stderr.strip()}")
    seconds = time.perf_counter() - start
    return [json.loads(line) for line in done.stdout.splitlines()], seconds


class Tool:
    def __init__(self, args, folder):
        self.args, self.folder, self.msae = args, folder, f"{args.build}/msae"

    def train(self, recipe, epochs, seed):
        """Seconds, and fvu_row on the unseen rows by k; epochs "fast": as --fast has it."""
        args, model = self.args, f"{self.folder}/model.safetensors"
        how = ["--fast"] if epochs == "fast" else ["--batch", args.batch, "--epochs", epochs]
        _, seconds = run([self.msae, "train", f"{self.folder}/train.npy", "-o", model, "--recipe",
                          recipe, "--latents", args.latents, "--seed", seed, "--threads",
                          args.threads, "--json", *how])
        lines, _ = run([self.msae, "eval", model, f"{self.folder}/unseen.npy", "--no-cknna",
                        "--json", "--threads", args.threads])
        return seconds, {o["k"]: o["fvu_row"] for o in lines if "fvu_row" in o and o.get("k")}

    def mean(self, recipe, epochs, between=None):
        """Means over the seeds; `between` is called after each run."""
        seconds, quality = [], []
        for seed in range(self.args.seeds):
            took, of_k = self.train(recipe, epochs, seed)
            seconds.append(took)
            quality.append(of_k)
            if between:
                between()
        return (statistics.median(seconds),
                {k: statistics.mean(of_k[k] for of_k in quality) for k in quality[0]})


def split(args, folder):
    """Writes the rows to train on and the unseen ones; returns their numbers."""
    data = np.load(args.data)
    if len(data) < 2 * args.unseen:
        sys.exit(f"torch_quality: {args.data} has {len(data)} rows, too few to leave {args.unseen} out")
    order = np.random.default_rng(0).permutation(len(data))
    np.save(f"{folder}/unseen.npy", data[np.sort(order[: args.unseen])])
    np.save(f"{folder}/train.npy", data[np.sort(order[args.unseen :])])
    return len(data) - args.unseen, data.shape[1]


def first_try(tries, target, ks):
    """Epochs and seconds of the first run that is as good at all ks, or None."""
    for epochs, seconds, quality in tries:
        if all(quality[k] <= target[k] for k in ks):
            return epochs, seconds
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("data")
    parser.add_argument("--unseen", type=int, default=2000)
    parser.add_argument("--latents", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--tries", default="1,2,3,4,6")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.folder = f"{args.build}/bench"  # where start_peers finds the benchmarks
    peers, machine, said = start_peers(args)
    with tempfile.TemporaryDirectory() as folder:
        rows, inputs = split(args, folder)
        tool = Tool(args, folder)
        peers[0].ask("model", args.threads, recipe="msae-uw", inputs=inputs, latents=args.latents,
                     batch=args.batch, data=f"{folder}/train.npy")
        steps = []

        def pytorch():
            time.sleep(0.2)
            steps.append(peers[0].ask("steps", args.threads, **{"from": 3 * len(steps)})["ms"])
            time.sleep(0.2)

        if not args.json:
            print(f"{machine['processor']}, {args.threads} threads; PyTorch {said[0]['torch']} over "
                  f"{said[0]['blas']} {said[0]['kernels'] or ''}\n{rows} rows of {inputs}, "
                  f"{args.unseen} unseen; n {args.latents}, batch {args.batch}; fvu_row, means of "
                  f"{args.seeds} seeds\n")
        published = [tool.mean(recipe, args.epochs)[1] for recipe in ("msae-rw", "msae-uw")]
        target = {k: min(of_k[k] for of_k in published) for k in published[0]}
        fast = [("fast", *tool.mean("msae", "fast", pytorch))]
        tries = []
        for epochs in map(int, args.tries.split(",")):
            tries.append((epochs, *tool.mean("msae", epochs, pytorch)))
            if all(tries[-1][2][k] <= target[k] for k in target if k <= 256):
                break
    theirs = statistics.median(steps) * 1e-3 * args.epochs * -(-rows // args.batch)
    up_to = [k for k in target if k <= 256]
    reached = {}
    for name, of in ("--fast", fast), ("by default", tries):
        reached[f"{name}, every k up to 256"] = first_try(of, target, up_to)
        if 64 in target:
            reached[f"{name}, k = 64"] = first_try(of, target, [64])
    if args.json:
        print(json.dumps({"bench": "quality", "processor": machine["processor"], "threads":
                          args.threads, "target": target, "torch_s": theirs, "step_ms":
                          statistics.median(steps), "tries": fast + tries, "reached": reached}))
        return
    print(f"{'':26}{'seconds':>9}" + "".join(f"{k:>8}" for k in target))
    print(f"{'published, %d epochs' % args.epochs:26}{theirs:9.1f}"
          + "".join(f"{v:8.4f}" for v in target.values()))
    for epochs, seconds, quality in fast + tries:
        name = "msae --fast" if epochs == "fast" else f"msae, epochs {epochs}"
        print(f"{name:26}{seconds:9.1f}" + "".join(f"{quality[k]:8.4f}" for k in target))
    for what, first in reached.items():
        if first:
            print(f"as good: {what}: {first[1]:.1f} s, PyTorch {theirs:.0f} s ({args.epochs} "
                  f"epochs): {theirs / first[1]:.0f} x")
        else:
            print(f"as good: {what}: not reached")
    peers[0].process.stdin.close()


if __name__ == "__main__":
    main()
