#!/usr/bin/env python3
"""The training of bench_step in plain PyTorch, written the obvious way: for every level a TopK, a
scatter and a dense decode; autograd for the gradients; torch.optim.AdamW for the update. And
torch.topk beside bench_topk, and encoding one row beside bench_model. The two sides take turns, with the same rows and the same number of
threads; the ratios' medians are printed.

usage: torch_peer.py BENCH_FOLDER [--data FILE.npy] [--threads T] [--rounds R] [--json]
       [--recipe R --inputs D --latents N --batch B]     (one shape instead of the usual ones)
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

try:
    import numpy as np
    import torch
except ImportError as missing:
    sys.exit(f"torch_peer: {missing}; Debian has it as python3-torch (set PYTHON to another Python)")

SHAPES = [  # recipe, inputs, latents, batch
    ("msae-uw", 512, 4096, 1024),
    ("msae-uw", 512, 2048, 256),
    ("msae-uw", 768, 6144, 1024),
    ("topk", 512, 4096, 1024),
]
K = 64


def nesting(n):
    ks = []
    k = min(K, n)
    while k <= n:
        ks.append(k)
        k *= 2
    return ks if ks[-1] == n else ks + [n]


class Model(torch.nn.Module):
    def __init__(self, d, n, ks):
        super().__init__()
        decoder = torch.nn.functional.normalize(torch.rand(n, d) * 2 - 1, dim=1) * 0.1
        self.decoder = torch.nn.Parameter(decoder)
        self.encoder = torch.nn.Parameter(decoder.t().clone())
        self.pre_bias = torch.nn.Parameter(torch.zeros(d))
        self.latent_bias = torch.nn.Parameter(torch.zeros(n))
        self.ks = ks

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


def read_rows(path, inputs, batch):
    """Rows as bench_step makes them: from the file, gone on with the next row where too short."""
    if not path:
        return torch.randn(4 * batch, inputs) / (1 + 0.05 * torch.arange(inputs))
    rows = torch.from_numpy(np.load(path).astype(np.float32))
    parts = [rows.roll(-i, 0) for i in range(-(-inputs // rows.shape[1]))]
    rows = torch.cat(parts, 1)[:, :inputs]
    rows = rows - rows.mean(0)
    return rows * (inputs / rows.pow(2).sum(1).mean()).sqrt()


def ours(command):
    """The objects that a benchmark prints. PyTorch's threads spin for a while: they get time to
    fall asleep."""
    time.sleep(0.2)
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def compare_steps(args, recipe, inputs, latents, batch):
    rows = read_rows(args.data, inputs, batch)
    model = Model(inputs, latents, [K] if recipe == "topk" else nesting(latents))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, eps=6.25e-10, weight_decay=0.0)
    command = [f"{args.folder}/bench_step", "--json", "--brief", "--recipe", recipe, "--inputs",
               str(inputs), "--latents", str(latents), "--batch", str(batch), "--threads",
               str(args.threads), "--rounds", "5"] + (["--data", args.data] if args.data else [])
    step(model, optimizer, rows[:batch])
    times = []
    for i in range(args.rounds):
        theirs = []
        for k in range(3):
            at = (3 * i + k + 1) * batch % (len(rows) - batch + 1)
            start = time.perf_counter()
            step(model, optimizer, rows[at : at + batch])
            theirs.append((time.perf_counter() - start) * 1e3)
        line = next(o for o in ours(command) if o["bench"] == "step")
        times.append((statistics.median(theirs), line["step_ms"]))
    theirs, mine = (statistics.median(t[i] for t in times) for i in (0, 1))
    ratio = statistics.median(t / m for t, m in times)
    if args.json:
        print(json.dumps({"bench": "peer", "recipe": recipe, "inputs": inputs, "latents": latents,
                          "batch": batch, "threads": args.threads, "torch_ms": theirs,
                          "msae_ms": mine, "ratio": ratio}), flush=True)
    else:
        print(f"{recipe:8} {inputs:6} {latents:7} {batch:6} {theirs:10.1f} ms {mine:8.1f} ms "
              f"{ratio:6.1f} x", flush=True)


def compare_topk(args, latents):
    torch.set_num_threads(1)
    x = torch.rand(64, latents) * 2 - 1
    x = x * x.abs() * (1 + x * x)
    times = []
    for _ in range(args.rounds):
        theirs = []
        for _ in range(20):
            start = time.perf_counter()
            torch.topk(x, K, dim=1)
            theirs.append((time.perf_counter() - start) * 1e6 / len(x))
        line = ours([f"{args.folder}/bench_topk", "--json", "--latents", str(latents)])[0]
        times.append((statistics.median(theirs), line["us"], line["thresholds_us"]))
    torch.set_num_threads(args.threads)
    theirs, mine, levels = (statistics.median(t[i] for t in times) for i in (0, 1, 2))
    ratio = statistics.median(t[0] / t[1] for t in times)
    if args.json:
        print(json.dumps({"bench": "peer", "recipe": "one TopK", "latents": latents, "k": K,
                          "threads": 1, "torch_us": theirs, "msae_us": mine,
                          "all_levels_us": levels, "ratio": ratio}), flush=True)
    else:
        print(f"\none TopK of a row, n {latents}, k {K}, one thread: PyTorch {theirs:.1f} us, msae.h "
              f"{mine:.1f} us, {ratio:.1f} x (thresholds of all levels: {levels:.1f} us)")


def compare_encode(args, inputs, latents):
    """One row to its 32 largest latents, one thread."""
    torch.set_num_threads(1)
    encoder = torch.rand(inputs, latents) - 0.5
    mean, pre_bias, latent_bias = torch.rand(inputs), torch.rand(inputs), torch.rand(latents)
    rows = torch.rand(16, 1, inputs)
    times = []
    for _ in range(args.rounds):
        theirs = []
        with torch.no_grad():
            for i in range(200):
                start = time.perf_counter()
                pre = torch.addmm(latent_bias, (rows[i % 16] - mean) * 2 - pre_bias, encoder)
                torch.topk(torch.relu(pre), 32, dim=1)
                theirs.append((time.perf_counter() - start) * 1e6)
        lines = ours([f"{args.folder}/bench_model", "--json", "--threads", "1", "--inputs",
                      str(inputs), "--latents", str(latents)])
        mine = {o["weights"]: o["p50_us"] for o in lines if o["bench"] == "small"}
        times.append((statistics.median(theirs), mine["F32"], mine["I8"]))
    torch.set_num_threads(args.threads)
    theirs, floats, small = (statistics.median(t[i] for t in times) for i in (0, 1, 2))
    ratio = statistics.median(t[0] / t[1] for t in times)
    if args.json:
        print(json.dumps({"bench": "peer", "recipe": "encode one row", "inputs": inputs,
                          "latents": latents, "threads": 1, "torch_us": theirs,
                          "msae_us": floats, "int8_us": small, "ratio": ratio}), flush=True)
    else:
        print(f"encoding one row, d {inputs}, n {latents}, k 32, one thread: PyTorch {theirs:.1f} us, "
              f"msae.h {floats:.1f} us, {ratio:.1f} x (int8 {small:.1f} us)")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--data")
    parser.add_argument("--recipe", choices=["msae-uw", "topk"])
    parser.add_argument("--inputs", type=int, default=512)
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    shapes = [(args.recipe, args.inputs, args.latents, args.batch)] if args.recipe else SHAPES
    if not args.json:
        print(f"A training step in plain PyTorch {torch.__version__} and in msae.h, in turns, "
              f"{args.threads} threads each\n{'recipe':8} {'inputs':>6} {'latents':>7} {'rows':>6} "
              f"{'PyTorch':>13} {'msae.h':>11} {'ratio':>8}")
    for shape in shapes:
        compare_steps(args, *shape)
    if not args.recipe:
        compare_topk(args, 6144)
        compare_encode(args, 512, 4096)


if __name__ == "__main__":
    main()
