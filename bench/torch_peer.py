#!/usr/bin/env python3
"""The training of bench_step in plain PyTorch, written the obvious way: for every level a TopK, a
scatter and a dense decode; autograd for the gradients; torch.optim.AdamW for the update. And
torch.topk beside bench_topk, and encoding one row beside bench_model. The two sides take turns, with
the same rows and the same number of threads; the ratios' medians are printed.

PyTorch runs in processes of its own, with the environment as it is but for OPENBLAS_CORETYPE: as the
processor is, and, where that has AVX-512, once more with both sides held to AVX2.

usage: torch_peer.py BENCH_FOLDER [--data FILE.npy] [--threads T] [--rounds R] [--json]
       [--recipe R --inputs D --latents N --batch B]     (one shape instead of the usual ones)
       --threads 1,2,4                                   (one shape at each number of threads)
"""
import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time

SHAPES = [  # recipe, inputs, latents, batch
    ("msae-uw", 512, 4096, 1024),
    ("msae-uw", 512, 2048, 256),
    ("msae-uw", 768, 6144, 1024),
    ("topk", 512, 4096, 1024),
]
K = 64
# What holds PyTorch's libraries to AVX2: OpenBLAS, MKL, its own kernels, oneDNN.
AVX2_ONLY = {"OPENBLAS_CORETYPE": "Haswell", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
             "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


# --- the process that has PyTorch -----------------------------------------------------------------


def nesting(n):
    ks = []
    k = min(K, n)
    while k <= n:
        ks.append(k)
        k *= 2
    return ks if ks[-1] == n else ks + [n]


def make_model(torch, d, n, ks):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            decoder = torch.nn.functional.normalize(torch.rand(n, d) * 2 - 1, dim=1) * 0.1
            self.decoder = torch.nn.Parameter(decoder)
            self.encoder = torch.nn.Parameter(decoder.t().clone())
            self.pre_bias = torch.nn.Parameter(torch.zeros(d))
            self.latent_bias = torch.nn.Parameter(torch.zeros(n))

        def forward(self, x):
            pre = (x - self.pre_bias) @ self.encoder + self.latent_bias
            for k in ks:
                values, index = torch.topk(pre, k, dim=1)
                z = torch.zeros_like(pre).scatter(1, index, torch.relu(values))
                yield z @ self.decoder + self.pre_bias

    return Model()


def step(torch, model, optimizer, x):
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


def read_rows(torch, path, inputs, batch):
    """Rows as bench_step makes them: from the file, gone on with the next row where too short."""
    if not path:
        return torch.randn(4 * batch, inputs) / (1 + 0.05 * torch.arange(inputs))
    import numpy as np
    rows = torch.from_numpy(np.load(path).astype(np.float32))
    parts = [rows.roll(-i, 0) for i in range(-(-inputs // rows.shape[1]))]
    rows = torch.cat(parts, 1)[:, :inputs]
    rows = rows - rows.mean(0)
    return rows * (inputs / rows.pow(2).sum(1).mean()).sqrt()


def set_threads(torch, threads):
    """Of PyTorch and of an OpenBLAS with threads of its own, which does not ask PyTorch."""
    torch.set_num_threads(threads)
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split()[-1] for line in maps if "openblas" in line}
    except OSError:
        paths = set()
    for path in paths:
        try:
            ctypes.CDLL(path).openblas_set_num_threads(threads)
        except (AttributeError, OSError):
            pass  # another library of that folder


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def library(torch):
    """The library that multiplies, as far as it can be told."""
    shown = torch.__config__.show()
    try:
        with open("/proc/self/maps") as maps:
            loaded = maps.read()
    except OSError:
        loaded = ""
    for name, sign in (("MKL", "libmkl"), ("BLIS", "libblis"), ("NVPL", "libnvpl_blas"),
                       ("OpenBLAS", "openblas")):
        if sign in loaded:
            return name
    return "MKL" if "BLAS_INFO=mkl" in shown or "USE_MKL=ON" in shown else "a BLAS without a name"


def work():
    """Answers one JSON line to each that comes in."""
    try:
        import torch
        import numpy  # noqa: F401 (rows come through it)
    except ImportError as missing:
        print(json.dumps({"missing": str(missing)}), flush=True)
        return
    torch.manual_seed(0)
    rows = model = optimizer = None
    for line in sys.stdin:
        asked = json.loads(line)
        set_threads(torch, asked["threads"])
        answer = {}
        if asked["do"] == "hello":
            a, b = torch.rand(512, 512), torch.rand(512, 512)
            best = min(timed(lambda: a @ b) for _ in range(10))
            answer = {"torch": torch.__version__, "blas": library(torch),
                      "gflops": 2 * 512.0**3 / best * 1e-9}
        elif asked["do"] == "model":
            inputs, latents, batch = asked["inputs"], asked["latents"], asked["batch"]
            rows = read_rows(torch, asked["data"], inputs, batch)
            ks = [K] if asked["recipe"] == "topk" else nesting(latents)
            model = make_model(torch, inputs, latents, ks)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, eps=6.25e-10,
                                          weight_decay=0.0)
            step(torch, model, optimizer, rows[:batch])
        elif asked["do"] == "steps":
            times = []
            for i in range(3):
                at = (asked["from"] + i + 1) * batch % (len(rows) - batch + 1)
                x = rows[at : at + batch]
                times.append(timed(lambda: step(torch, model, optimizer, x)) * 1e3)
            answer = {"ms": statistics.median(times)}
        elif asked["do"] == "topk":
            x = torch.rand(64, asked["latents"]) * 2 - 1
            x = x * x.abs() * (1 + x * x)
            times = [timed(lambda: torch.topk(x, K, dim=1)) for _ in range(20)]
            answer = {"us": statistics.median(times) * 1e6 / len(x)}
        elif asked["do"] == "encode":
            inputs, latents = asked["inputs"], asked["latents"]
            encoder = torch.rand(inputs, latents) - 0.5
            mean, pre_bias = torch.rand(inputs), torch.rand(inputs)
            latent_bias, x = torch.rand(latents), torch.rand(16, 1, inputs)

            def encode(i):
                pre = torch.addmm(latent_bias, (x[i % 16] - mean) * 2 - pre_bias, encoder)
                torch.topk(torch.relu(pre), 32, dim=1)

            with torch.no_grad():
                answer = {"us": statistics.median(timed(lambda: encode(i)) for i in range(200)) * 1e6}
        print(json.dumps(answer), flush=True)


# --- the process that compares --------------------------------------------------------------------


class Peer:
    """A PyTorch in a process of its own, and the instruction path that ours takes beside it."""

    def __init__(self, name, simd, settings):
        environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
        environment.update(settings)
        self.name, self.simd = name, simd
        self.process = subprocess.Popen([sys.executable, __file__, "--work"], env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, do, threads, **rest):
        try:
            self.process.stdin.write(json.dumps({"do": do, "threads": threads, **rest}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said before tells why
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"torch_peer: PyTorch ({self.name}) ended")
        answer = json.loads(line)
        if "missing" in answer:
            sys.exit(f"torch_peer: {answer['missing']}; Debian has it as python3-torch "
                     "(set PYTHON to another Python)")
        return answer


def ours(args, program, threads, simd, *options):
    """The objects that a benchmark of ours prints. PyTorch's threads spin for a while: they get time
    to fall asleep."""
    time.sleep(0.2)
    command = [f"{args.folder}/{program}", "--json", "--threads", str(threads), *map(str, options)]
    if simd:
        command += ["--simd", simd]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def has_avx512():
    try:
        with open("/proc/cpuinfo") as info:
            return " avx512f " in info.read()
    except OSError:
        return False


def start_peers(args):
    """The peers, and lines that say what they are; none over the reference BLAS."""
    peers = [Peer("native", None, {})]
    if has_avx512():
        peers.append(Peer("AVX2 only", "avx2", AVX2_ONLY))
    machine = ours(args, "bench_machine", 1, None)[0]
    said = []
    for peer in peers:
        hello = peer.ask("hello", 1)
        if hello["gflops"] < 0.1 * machine["peak_gflops"]:
            sys.exit(f"torch_peer: PyTorch multiplies at {hello['gflops']:.1f} GFLOP/s of the "
                     f"{machine['peak_gflops']:.0f} that a core can do, as over the reference BLAS: "
                     "ratios would mean nothing (Debian: install libopenblas0)")
        kernels = machine.get("openblas") if hello["blas"] == "OpenBLAS" else None
        if kernels and peer.simd:
            kernels = AVX2_ONLY["OPENBLAS_CORETYPE"]
        said.append({"peer": peer.name, "torch": hello["torch"], "blas": hello["blas"],
                     "kernels": kernels, "gflops": hello["gflops"]})
    return peers, machine, said


def compare_steps(args, peers, threads, recipe, inputs, latents, batch):
    """For each peer [milliseconds of PyTorch, of ours, ratio], medians of rounds in turns."""
    shape = ["--recipe", recipe, "--inputs", inputs, "--latents", latents, "--batch", batch]
    shape += ["--brief", "--rounds", 5] + (["--data", args.data] if args.data else [])
    for peer in peers:
        peer.ask("model", threads, recipe=recipe, inputs=inputs, latents=latents, batch=batch,
                 data=args.data)
    times = [[] for _ in peers]
    for i in range(args.rounds):
        for peer, seen in zip(peers, times):
            theirs = peer.ask("steps", threads, **{"from": 3 * i})["ms"]
            lines = ours(args, "bench_step", threads, peer.simd, *shape)
            seen.append((theirs, next(o for o in lines if o["bench"] == "step")["step_ms"]))
    medians = []
    for seen in times:
        medians.append([statistics.median(t for t, _ in seen),
                        statistics.median(m for _, m in seen),
                        statistics.median(t / m for t, m in seen)])
    return medians


def print_steps(args, peers, threads, shape, medians, first=None):
    """A line for a shape; with `first`, what one thread (or the fewest) took, also the scaling."""
    recipe, inputs, latents, batch = shape
    if args.json:
        for peer, (theirs, mine, ratio) in zip(peers, medians):
            print(json.dumps({"bench": "peer", "recipe": recipe, "inputs": inputs,
                              "latents": latents, "batch": batch, "threads": threads,
                              "simd": peer.name, "torch_ms": theirs, "msae_ms": mine,
                              "ratio": ratio}), flush=True)
        return
    columns = "".join(f" {theirs:9.1f} ms {mine:8.1f} ms {ratio:5.1f} x"
                      for theirs, mine, ratio in medians)
    if first:
        scaling = f" {first[0][0] / medians[0][0]:8.2f} x {first[0][1] / medians[0][1]:7.2f} x"
        print(f"{threads:7}{columns}{scaling}", flush=True)
    else:
        print(f"{recipe:8} {inputs:6} {latents:7} {batch:6}{columns}", flush=True)


def compare_topk(args, peer, latents):
    times = []
    for _ in range(args.rounds):
        theirs = peer.ask("topk", 1, latents=latents)["us"]
        line = ours(args, "bench_topk", 1, None, "--latents", latents)[0]
        times.append((theirs, line["us"], line["thresholds_us"]))
    theirs, mine, levels = (statistics.median(t[i] for t in times) for i in (0, 1, 2))
    ratio = statistics.median(t[0] / t[1] for t in times)
    if args.json:
        print(json.dumps({"bench": "peer", "recipe": "one TopK", "latents": latents, "k": K,
                          "threads": 1, "torch_us": theirs, "msae_us": mine,
                          "all_levels_us": levels, "ratio": ratio}), flush=True)
    else:
        print(f"\none TopK of a row, n {latents}, k {K}, one thread: PyTorch {theirs:.1f} us, msae.h "
              f"{mine:.1f} us, {ratio:.1f} x (thresholds of all levels: {levels:.1f} us)")


def compare_encode(args, peer, inputs, latents):
    """One row to its 32 largest latents, one thread."""
    times = []
    for _ in range(args.rounds):
        theirs = peer.ask("encode", 1, inputs=inputs, latents=latents)["us"]
        lines = ours(args, "bench_model", 1, None, "--inputs", inputs, "--latents", latents)
        mine = {o["weights"]: o["p50_us"] for o in lines if o["bench"] == "small"}
        times.append((theirs, mine["F32"], mine["I8"]))
    theirs, floats, small = (statistics.median(t[i] for t in times) for i in (0, 1, 2))
    ratio = statistics.median(t[0] / t[1] for t in times)
    if args.json:
        print(json.dumps({"bench": "peer", "recipe": "encode one row", "inputs": inputs,
                          "latents": latents, "threads": 1, "torch_us": theirs,
                          "msae_us": floats, "int8_us": small, "ratio": ratio}), flush=True)
    else:
        print(f"encoding one row, d {inputs}, n {latents}, k 32, one thread: PyTorch {theirs:.1f} us, "
              f"msae.h {floats:.1f} us, {ratio:.1f} x (int8 {small:.1f} us)")


def print_head(args, peers, machine, said, scaling):
    for line in said:
        if args.json:
            print(json.dumps({"bench": "torch", "processor": machine["processor"], **line}))
        else:
            kernels = f", kernels for {line['kernels']}" if line["kernels"] else ""
            print(f"{machine['processor']}, {line['peer']}: PyTorch {line['torch']} over "
                  f"{line['blas']}{kernels}, {line['gflops']:.0f} GFLOP/s on one core")
    if args.json:
        return
    if len(peers) == 1:
        print("(no AVX-512 here: native is AVX2 at most)")
    heads = "".join(f" {'PyTorch':>12} {'msae.h':>11} {'ratio':>7}" for _ in peers)
    if scaling:
        print(f"A training step, {args.recipe or SHAPES[0][0]}, in turns; the last two columns: PyTorch "
              f"and msae.h over the first line\n{'threads':7}{heads} {'PyTorch':>10} {'msae.h':>9}")
    else:
        print(f"A training step in plain PyTorch and in msae.h, in turns, {args.threads[0]} threads "
              f"each\n{'recipe':8} {'inputs':>6} {'latents':>7} {'rows':>6}{heads}")


def main():
    if sys.argv[1:] == ["--work"]:
        work()
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--data")
    parser.add_argument("--recipe", choices=["msae-uw", "topk"])
    parser.add_argument("--inputs", type=int, default=512)
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        args.threads = [int(t) for t in args.threads.split(",")]
    except ValueError:
        parser.error("--threads takes a number, or some with commas between them")
    scaling = len(args.threads) > 1
    peers, machine, said = start_peers(args)
    print_head(args, peers, machine, said, scaling)
    one = (args.recipe or SHAPES[0][0], args.inputs, args.latents, args.batch)
    first = None
    for threads in args.threads if scaling else []:
        medians = compare_steps(args, peers, threads, *one)
        first = first or medians
        print_steps(args, peers, threads, one, medians, first)
    for shape in [] if scaling else [one] if args.recipe else SHAPES:
        medians = compare_steps(args, peers, args.threads[0], *shape)
        print_steps(args, peers, args.threads[0], shape, medians)
    if not args.recipe and not scaling:
        compare_topk(args, peers[0], 6144)
        compare_encode(args, peers[0], 512, 4096)
    for peer in peers:
        peer.process.stdin.close()


if __name__ == "__main__":
    main()
