#!/usr/bin/env python3
"""The published training in plain PyTorch, its LinearDecayLR included, against `msae train --recipe
msae-uw --schedule published`: fvu_row at every k of the sweep on rows that were not trained on, means
over the seeds. The two sides share data, sizes and settings; only their random numbers differ.

usage: torch_schedule.py MSAE DATA.npy [--rows N] [--unseen N] [--latents N] [--batch B]
       [--epochs 1,2,3,7] [--seeds S] [--scale rms|paper] [--schedule NAME] [--json]
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
except ImportError as missing:
    sys.exit(f"torch_schedule: {missing}; Debian has it as python3-torch (set PYTHON to another Python)")

from torch_peer import make_model, nesting, step

LR = 1e-4


def linear_decay(epochs):
    """The published factor of an epoch."""
    start = int(0.8 * epochs)
    return lambda e: 1.0 if e < start else (epochs - e) / (0.2 * epochs)


def sweep(n):
    ks = [16 << i for i in range(64) if 16 << i <= n]
    return ks if ks and ks[-1] == n else ks + [n]


def train(rows, mean, scale, args, epochs, seed):
    torch.manual_seed(seed)
    x = (rows - mean) * scale
    model = make_model(torch, x.shape[1], args.latents, nesting(args.latents))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, eps=6.25e-10, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, linear_decay(epochs))
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for first in range(0, len(x), args.batch):
            step(torch, model, optimizer, x[order[first : first + args.batch]])
        schedule.step()
    return model


def fvu(model, rows, mean, scale, ks):
    """fvu_row of raw rows, keeping the k largest of the ReLU codes."""
    with torch.no_grad():
        pre = torch.relu(((rows - mean) * scale - model.pre_bias) @ model.encoder + model.latent_bias)
        values = []
        for k in ks:
            top, index = torch.topk(pre, k, dim=1)
            z = torch.zeros_like(pre).scatter(1, index, top)
            r = (z @ model.decoder + model.pre_bias) / scale + mean
            values.append(((rows - r).var(1) / rows.var(1)).mean().item())
        return values


def ours(args, folder, epochs, seed, ks):
    model = os.path.join(folder, "model.safetensors")
    quiet = {"check": True, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    subprocess.run([args.msae, "train", f"{folder}/train.npy", "-o", model, "--recipe", "msae-uw",
                    "--schedule", args.schedule, "--scale", args.scale, "--latents",
                    str(args.latents), "--batch", str(args.batch), "--lr", str(LR), "--epochs",
                    str(epochs), "--seed", str(seed), "--threads", "1"], **quiet)
    out = subprocess.run([args.msae, "eval", model, f"{folder}/unseen.npy", "--k",
                          ",".join(map(str, ks)), "--no-cknna", "--json", "--threads", "1"],
                         **quiet).stdout
    lines = [json.loads(line) for line in out.splitlines()]
    of_k = {line["k"]: line["fvu_row"] for line in lines if "fvu_row" in line and "k" in line}
    return [of_k[k] for k in ks]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("msae")
    parser.add_argument("data")
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--unseen", type=int, default=2000)
    parser.add_argument("--latents", type=int, default=512)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", default="1,2,3,7")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", choices=["rms", "paper"], default="rms")
    parser.add_argument("--schedule", default="published")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = np.load(args.data).astype(np.float32)
    if len(data) < args.rows + args.unseen:
        sys.exit(f"torch_schedule: {args.data} has {len(data)} rows, {args.rows + args.unseen} needed")
    order = np.random.default_rng(0).permutation(len(data))
    rows, unseen = data[order[: args.rows]], data[order[args.rows : args.rows + args.unseen]]
    mean = torch.from_numpy(rows.mean(0, dtype=np.float64).astype(np.float32))
    spread = float(((rows.astype(np.float64) - rows.mean(0, dtype=np.float64)) ** 2).sum(1).mean())
    d = rows.shape[1]
    scale = (d / spread) ** 0.5 if args.scale == "rms" else d**0.5 / spread
    ks = sweep(args.latents)
    worst = 0.0
    if not args.json:
        print(f"{'epochs':>6} {'':8}" + "".join(f"{'k = ' + str(k):>10}" for k in ks))
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/train.npy", rows)
        np.save(f"{folder}/unseen.npy", unseen)
        rows, unseen = torch.from_numpy(rows), torch.from_numpy(unseen)
        for epochs in map(int, args.epochs.split(",")):
            theirs = np.mean([fvu(train(rows, mean, scale, args, epochs, seed), unseen, mean, scale, ks)
                              for seed in range(args.seeds)], axis=0)
            mine = np.mean([ours(args, folder, epochs, seed, ks) for seed in range(args.seeds)], axis=0)
            away = mine / theirs - 1
            worst = max(worst, float(np.abs(away).max()))
            if args.json:
                print(json.dumps({"bench": "schedule", "epochs": epochs, "k": ks,
                                  "torch": theirs.tolist(), "msae": mine.tolist()}), flush=True)
                continue
            for name, line, form in (("PyTorch", theirs, "{:10.4f}"), ("msae.h", mine, "{:10.4f}"),
                                     ("", 100 * away, "{:+8.2f} %")):
                print(f"{epochs if name == 'PyTorch' else '':>6} {name:8}"
                      + "".join(form.format(v) for v in line), flush=True)
    if not args.json:
        print(f"the largest difference: {100 * worst:.2f} %")


if __name__ == "__main__":
    main()
