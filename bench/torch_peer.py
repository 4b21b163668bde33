#!/usr/bin/env python3
"""The training step of bench_step in plain PyTorch, written the obvious way: a TopK, a scatter and a
dense decode for every level, autograd for the gradients, torch.optim.AdamW for the update. It
alternates with bench_step, both with the same number of threads, and prints the ratio's median.

usage: torch_peer.py BENCH_STEP [--data FILE.npy] [--latents N] [--batch B] [--threads T] [--rounds R]
"""
import argparse
import json
import statistics
import subprocess
import time

import numpy as np
import torch


def nesting(start, n):
    ks = []
    while start <= n:
        ks.append(start)
        start *= 2
    return ks if ks[-1] == n else ks + [n]


class Model(torch.nn.Module):
    def __init__(self, d, n):
        super().__init__()
        decoder = torch.nn.functional.normalize(torch.rand(n, d) * 2 - 1, dim=1) * 0.1
        self.decoder = torch.nn.Parameter(decoder)
        self.encoder = torch.nn.Parameter(decoder.t().clone())
        self.pre_bias = torch.nn.Parameter(torch.zeros(d))
        self.latent_bias = torch.nn.Parameter(torch.zeros(n))
        self.ks = nesting(64, n)

    def forward(self, x):
        pre = (x - self.pre_bias) @ self.encoder + self.latent_bias
        for k in self.ks:
            values, index = torch.topk(pre, k, dim=1)
            z = torch.zeros_like(pre).scatter(1, index, torch.relu(values))
            yield z @ self.decoder + self.pre_bias


def step(model, optimizer, x):
    optimizer.zero_grad()
    spread = x.pow(2).mean(1)
    losses = [((r - x).pow(2).mean(1) / spread).mean() for r in model(x)]
    (sum(losses) / len(losses)).backward()
    with torch.no_grad():
        norm = model.decoder.norm(dim=1, keepdim=True) + torch.finfo(torch.float32).eps
        model.decoder /= norm
        model.encoder *= norm.t()
        model.latent_bias *= norm.squeeze(1)
        along = (model.decoder.grad * model.decoder).sum(1, keepdim=True)
        model.decoder.grad -= along * model.decoder
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench_step")
    parser.add_argument("--data")
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.data:
        rows = torch.from_numpy(np.load(args.data).astype(np.float32))
    else:
        rows = torch.randn(4 * args.batch, 512) / (1 + 0.05 * torch.arange(512))
    rows = rows - rows.mean(0)
    rows *= (rows.shape[1] / rows.pow(2).sum(1).mean()).sqrt()
    model = Model(rows.shape[1], args.latents)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, eps=6.25e-10, weight_decay=0.0)
    ours = [args.bench_step, "--json", "--recipe", "msae-uw", "--rounds", "3",
            "--latents", str(args.latents), "--batch", str(args.batch),
            "--threads", str(args.threads)] + (["--data", args.data] if args.data else [])
    step(model, optimizer, rows[: args.batch])
    results = []
    for i in range(args.rounds):
        at = (i + 1) * args.batch % (len(rows) - args.batch + 1)
        start = time.perf_counter()
        step(model, optimizer, rows[at : at + args.batch])
        torch_ms = (time.perf_counter() - start) * 1e3
        line = json.loads(subprocess.run(ours, check=True, capture_output=True, text=True).stdout)
        results.append((torch_ms, line["gradients_ms"] + line["update_ms"]))
    torch_ms, our_ms = (statistics.median(r[i] for r in results) for i in (0, 1))
    ratio = statistics.median(t / o for t, o in results)
    if args.json:
        print(json.dumps({"latents": args.latents, "batch": args.batch, "threads": args.threads,
                          "torch_ms": torch_ms, "msae_ms": our_ms, "ratio": ratio}))
    else:
        print(f"d {rows.shape[1]}, n {args.latents}, {args.batch} rows, {args.threads} threads: "
              f"PyTorch {torch_ms:.0f} ms, msae.h {our_ms:.0f} ms, {ratio:.1f} times as fast")


if __name__ == "__main__":
    main()
