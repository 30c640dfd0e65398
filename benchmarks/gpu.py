"""Fused kernels on a CUDA device beside the peers that are installed; the table of block shapes.

    python benchmarks/gpu.py            # time, memory and share of the device's ceilings
    python benchmarks/gpu.py --tune     # first measure which block shapes are best here
    TRITON_INTERPRET=1 python benchmarks/gpu.py --tiny    # does the script run? on a CPU

Writes benchmarks/results/gpu.json and gpu.md; ``--tiny`` writes nothing. Errors are relative to
float64 on the same device. Sinkhorn rows are 100 passes, ε half the mean cost, no stopping.
"""

import argparse
import json
import math
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from unittest import mock

import torch
from measure import setting
from speed import cdist_energy, cloud, gradient
from speed import geomloss as made_by_geomloss
from table import HEAD, RESULTS, line, relative
from torch.utils.benchmark import Timer

import probmetrics as pm
from probmetrics.pairwise import LogSumExp, reduce_pairs
from probmetrics.pairwise import fused_table as blocks
from probmetrics.pairwise.costs import Euclidean
from probmetrics.pairwise.fused_forms import fused_forms
from probmetrics.pairwise.fused_launch import Samples
from probmetrics.pairwise.kernels import Gaussian

PACKAGES = ["probmetrics", "torch", "triton", "geomloss", "pykeops", "POT", "flash-sinkhorn"]
PASSES = 100


@dataclass(frozen=True)
class Place:
    """Where to run, and what share of the full sizes."""

    device: torch.device
    tiny: bool

    def cloud(self, n, d, batch=()):
        """Two float64 samples on the device."""
        return (z.to(self.device) for z in cloud(self.size(n), d, batch=batch))

    def size(self, n):
        return max(8, n // 2000) if self.tiny else n

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def measure(self, call):
        """Median seconds and peak MiB beyond what is held, and the answer."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        answer = call()
        self.wait()
        mib = (torch.cuda.max_memory_allocated() - before) / 2**20 if cuda else 0.0
        timer = Timer("call(); wait()", globals={"call": call, "wait": self.wait})
        seconds = timer.timeit(1).median if self.tiny else timer.blocked_autorange().median
        return {"seconds": seconds, "mib": mib}, answer


def geomloss(loss, backend, **options):
    """Imported when it is called, so that its absence fails one cell of the table."""
    return lambda x, y: made_by_geomloss(loss, backend, **options)(x, y)


def rows(place):
    """(name, ours, peers by name, exact value or None, work per call: flops, exponentials)."""
    fused = {"backend": "fused"}
    for n, d in ((50_000, 64), (1_000_000, 16)):
        x64, y64 = place.cloud(n, d)
        x, y, kernel = x64.float(), y64.float(), Gaussian(math.sqrt(d))
        ours = partial(pm.mmd, kernel=kernel, unbiased=False, **fused)
        peer = geomloss("gaussian", "online", blur=math.sqrt(d))
        pairs = 2 * len(x) ** 2
        exact = partial(pm.mmd, x64, y64, kernel=kernel, unbiased=False) if n < 10**6 else None
        name = f"mmd n={len(x)} d={d} float32"
        work = {"flops": 2 * (d + 2) * pairs, "exps": pairs}
        yield name, partial(ours, x, y), {"GeomLoss+KeOps": partial(peer, x, y)}, exact, work
        if n == 10**6:
            continue
        call, theirs = (gradient(lambda u, f=f, y=y: f(u, y), x) for f in (ours, peer))
        work = {"flops": work["flops"] + 4 * (d + 1) * len(x) ** 2, "exps": 1.5 * pairs}
        yield f"{name} +gradient", call, {"GeomLoss+KeOps": theirs}, exact, work
        ours = partial(pm.energy_distance, **fused)
        peers = {"GeomLoss+KeOps": geomloss("energy", "online"), "torch.cdist": cdist_energy}
        call = gradient(lambda u, f=ours, y=y: f(u, y), x)
        theirs = {
            k: gradient(lambda u, f=f, y=y: f(u, y), x)
            for k, f in peers.items()
            if k != "torch.cdist" or n <= 50_000
        }
        exact = partial(pm.energy_distance, x64, y64)
        name = f"energy n={len(x)} d={d} float32 +gradient"
        yield name, call, theirs, exact, {"flops": work["flops"]}
    yield from softmin_rows(place)
    yield from batched_rows(place)


def softmin_rows(place):
    """Plain log-domain Sinkhorn: two fused log-sum-exps per pass."""
    for n, d in ((10_000, 64), (50_000, 64)):
        x, y = (z.float() for z in place.cloud(n, d))
        n = len(x)
        cost = Euclidean(power=2.0) * 0.5
        epsilon = 0.5 * float((x[:1000, None] - y[None, :1000]).square().sum(-1).mean() / 2)
        passes = 2 if place.tiny else PASSES

        def sinkhorn(x=x, y=y, cost=cost, epsilon=epsilon, passes=passes, n=n):
            f, g = x.new_zeros(n), y.new_zeros(n)
            for _ in range(passes):
                reading = LogSumExp(f / epsilon - math.log(n), scale=-1 / epsilon)
                g = -epsilon * reduce_pairs(cost, reading, y, x, backend="fused").to(x)
                reading = LogSumExp(g / epsilon - math.log(n), scale=-1 / epsilon)
                f = -epsilon * reduce_pairs(cost, reading, x, y, backend="fused").to(x)
            return f.mean() + g.mean()

        peers = {f"probmetrics sinkhorn ({backend})": partial(
            pm.sinkhorn, x, y, cost=cost, epsilon=epsilon, max_steps=passes, tolerance=1e-12,
            backend=backend,
        ) for backend in ("fused", "tiled")}  # fmt: skip
        work = {"flops": 4 * passes * (d + 2) * n * n, "exps": 2 * passes * n * n}
        name = f"softmin {passes} passes n={n} d={d}"
        flash = partial(flash_sinkhorn, x, y, epsilon, passes)
        peers["flash-sinkhorn"] = partial(flash, tf32=False)
        yield f"{name} float32", sinkhorn, peers, None, work
        peers = {"flash-sinkhorn": partial(flash, tf32=True)}
        yield f"{name} TF32", partial(in_tf32, sinkhorn), peers, None, {"exps": work["exps"]}


def flash_sinkhorn(x, y, epsilon, passes, *, tf32):
    """As many alternating passes at one ε of the same cost."""
    from flash_sinkhorn import SamplesLoss

    loss = SamplesLoss(
        "sinkhorn", backend="alternating", use_epsilon_scaling=False, eps=epsilon, n_iters=passes,
        half_cost=True, allow_tf32=tf32,
    )  # fmt: skip
    return loss(x, y)


def in_tf32(call):
    """A call with products in TF32 allowed."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        return call()
    finally:
        torch.set_float32_matmul_precision(before)


def batched_rows(place):
    k = place.size(100_000)
    x, y = (z.float() for z in cloud(64, 8, batch=(k,)))
    x, y = x.to(place.device), y.to(place.device)
    kernel = Gaussian(math.sqrt(8))
    few = slice(0, min(k, 1000))
    peer = geomloss("gaussian", "tensorized", blur=math.sqrt(8))
    work = {"flops": k * 40 * 64 * 64, "exps": k * 2 * 64 * 64}
    call = partial(pm.mmd, x, y, kernel=kernel, unbiased=False)
    exact = partial(pm.mmd, x.double(), y.double(), kernel=kernel, unbiased=False)
    yield (
        f"mmd {k} problems 64x64 d=8 float32",
        call,
        {"GeomLoss": partial(peer, x, y)},
        exact,
        work,
    )
    costs = torch.cdist(x[few], y[few]).square()
    call = partial(pm.sinkhorn, x[few], y[few], epsilon=0.05 * float(costs.mean()), tolerance=1e-3)
    name = f"sinkhorn {len(costs)} problems 64x64 d=8 to 1e-3 float32"
    yield name, lambda: call().value, {"POT batch": partial(pot_batch, costs)}, None, {}


def pot_batch(costs):
    import ot

    solved = ot.solve_batch(costs, reg=0.05 * float(costs.mean()), tol=1e-3)
    return solved.value_linear


def ceilings(place):
    """Products and exponentials of this device, per second."""
    size = 64 if place.tiny else 8192
    a, b = torch.rand(2, size, size, device=place.device)
    product, _ = place.measure(lambda: torch.mm(a, b))
    values = torch.rand(1024 if place.tiny else 2**28, device=place.device)
    exps, _ = place.measure(lambda: torch.exp2(values, out=values))
    return {"flops": 2 * size**3 / product["seconds"], "exps": values.numel() / exps["seconds"]}


def compare(place, pattern):
    """The rows whose name contains the pattern, printed and returned."""
    rates, table = ceilings(place), []
    print(HEAD)
    for name, ours, peers, exact, work in rows(place):
        if pattern not in name:
            continue
        reference = None if exact is None else flat(exact())
        row = {"name": name, "peers": {}}
        row["ours"], answer = place.measure(ours)
        row["ours"]["error"] = relative(flat(answer), reference)
        floor = max((work[k] / rates[k] for k in work), default=0.0)
        row["share"] = floor / row["ours"]["seconds"]
        for peer, call in peers.items():
            try:
                found, answer = place.measure(call)
                answer = flat(answer) if isinstance(answer, torch.Tensor) else None
                row["peers"][peer] = {**found, "error": relative(answer, reference)}
            except Exception as error:  # a peer that fails is reported as failed
                row["peers"][peer] = {"failed": f"{type(error).__name__}: {error}"[:120]}
        run = {k: v for k, v in row["peers"].items() if "seconds" in v}
        if run:
            row["best_peer"] = min(run, key=lambda k: run[k]["seconds"])
            row["ratio"] = run[row["best_peer"]]["seconds"] / row["ours"]["seconds"]
        table.append(row)
        print(f"{line(row)} {row['share']:.0%} |", flush=True)
    return rates, table


def flat(answer):
    return answer.detach().double().cpu().numpy().reshape(-1)


def kernel_calls(place):
    """(kernel, by product, d, call) for every entry of the table of blocks."""
    for d in (4, 16, 64, 256):
        x, y = (z.float() for z in place.cloud(16_000, d))
        (form,) = fused_forms(Gaussian(math.sqrt(d)), d)
        samples, own = Samples(form, x[None], y[None]), Samples(form, x[None], x[None])
        ones = x.new_ones(1, len(x), 1)
        zero, one = x.new_zeros(1, len(x)), x.new_ones(1)
        calls = {
            "weighted_sum": partial(samples.weighted_sum, ones),
            "pull": partial(samples.pull, ones, ones),
            "log_sum_exp": partial(samples.log_sum_exp, zero, one),
            "k_smallest": partial(samples.k_smallest, 5, zero, one, skip=False),
            "count_within": partial(samples.count_within, zero, zero, one),
            "mirrored_weighted_sum": partial(own.weighted_sum, ones),
            "mirrored_log_sum_exp": partial(own.log_sum_exp, zero, one),
            "mirrored_count_within": partial(own.count_within, zero, zero, one),
        }
        for name, call in calls.items():
            yield name, samples.product, d, call


def tune(place):
    """The fastest candidate per kernel and dimension; kept in the file of measured entries."""
    cuda = place.device.type == "cuda"
    device = torch.cuda.get_device_name(place.device) if cuda else "cpu"
    best = {}
    for name, product, d, call in kernel_calls(place):
        times = {}
        for candidate in blocks.CANDIDATES[: 2 if place.tiny else None]:
            chosen = {(name, product): candidate}
            with (
                mock.patch.dict(blocks.TABLE, chosen),
                mock.patch.object(blocks, "load", return_value={}),
            ):
                try:
                    times[candidate] = place.measure(call)[0]["seconds"]
                except Exception as error:  # too much shared memory for this device
                    print(f"{name} d={d} {candidate}: {type(error).__name__}")
        if times:
            fastest = min(times, key=times.get)
            best[blocks.entry(name, d, device, product=product)] = fastest
            print(f"{name} d={d}: {fastest}, {times[fastest]:.3g} s", flush=True)
    print(f"kept in {blocks.save(best)}")


def write(place, rates, table):
    facts = setting(PACKAGES)
    device = torch.cuda.get_device_name(place.device)
    report = {**facts, "device": device, "rates": rates, "rows": table}
    (RESULTS / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    head, rule = HEAD.split("\n")
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    failed = [
        f"- {r['name']}: {p}: {e['failed']}"
        for r in table
        for p, e in r["peers"].items()
        if "failed" in e
    ]
    lines = [
        "# Fused kernels on a GPU", "",
        f"Measured {facts['date']} at commit {facts['commit']} on {device} by "
        f"`python benchmarks/gpu.py`; float32 products {rates['flops'] / 1e12:.3g} TFLOP/s, "
        f"exponentials {rates['exps'] / 1e12:.3g}·10¹²/s. Share: the larger of the two floors over "
        "our time.", "",
        f"{head} share |", f"{rule}---|",
        *(f"{line(row)} {row['share']:.0%} |" for row in table), "",
        *(["Peers that failed:", "", *failed, ""] if failed else []),
        f"Versions: {versions}; Python {facts['python']}.", "",
    ]  # fmt: skip
    (RESULTS / "gpu.md").write_text("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--tune", action="store_true", help="measure block shapes first")
    parser.add_argument("--tiny", action="store_true", help="a few points, on any machine")
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    if not cuda and not options.tiny:
        print("No CUDA device here, so nothing was measured (--tiny tries the script on a CPU).")
        return 1
    place = Place(torch.device("cuda" if cuda else "cpu"), options.tiny)
    with tempfile.TemporaryDirectory() as folder:
        spare = {"PROBMETRICS_CACHE": folder} if options.tiny else {}
        with mock.patch.dict("os.environ", spare):
            if options.tune:
                tune(place)
            rates, table = compare(place, options.only)
    if not options.tiny and not options.only:
        write(place, rates, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
