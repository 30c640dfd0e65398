"""What this machine can do at most: products, exponentials, roots, sorts, memory.

    python benchmarks/ceilings.py

Writes benchmarks/results/ceilings.json and ceilings.md. The best of many short samples counts: a
ceiling is what the machine reaches when nothing disturbs it.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from measure import CORES, QUIET, _busy, setting

RESULTS = Path(__file__).parent / "results"
TILE = (512, 512)
THREADS = 2


def best(call, *, seconds=1.5):
    """Fewest seconds of one call, and the share of the machine that others used meanwhile."""
    call()
    samples, begin = [], time.perf_counter()
    busy, own = _busy(), time.process_time()
    while time.perf_counter() - begin < seconds or len(samples) < 5:
        start = time.perf_counter()
        call()
        samples.append(time.perf_counter() - start)
    others = _busy() - busy - (time.process_time() - own)
    return min(samples), max(0.0, others) / ((time.perf_counter() - begin) * CORES)


def product(dtype, size=2048):
    a, b = torch.rand(2, size, size, dtype=dtype)
    out = torch.empty_like(a)
    return 2 * size**3, lambda: torch.mm(a, b, out=out)


def pairs(dtype, d=64, n=4096):
    """Squared distances by one product of augmented points, in pairs."""
    a, b = torch.rand(n, d + 2, dtype=dtype), torch.rand(n, d + 2, dtype=dtype)
    out = torch.empty(n, n, dtype=dtype)
    return n * n, lambda: torch.mm(a, b.T, out=out)


def elementwise(function, dtype, repeats=64):
    """In cache: every core works on a tile of its own, again and again."""
    from concurrent.futures import ThreadPoolExecutor

    tiles = [torch.rand(TILE, dtype=dtype) for _ in range(THREADS)]
    outs = [torch.empty_like(tile) for tile in tiles]
    pool = ThreadPoolExecutor(THREADS)

    def work(i):
        for _ in range(repeats):
            function(tiles[i], out=outs[i])

    def call():
        torch.set_num_threads(1)
        list(pool.map(work, range(THREADS)))
        torch.set_num_threads(THREADS)

    return THREADS * repeats * TILE[0] * TILE[1], call


def sorts(shape, dtype):
    """Rows in threads, each core its own."""
    from concurrent.futures import ThreadPoolExecutor

    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    buffer = values.copy()
    parts = np.array_split(np.arange(len(values)), min(THREADS, len(values)))
    pool = ThreadPoolExecutor(THREADS)

    def work(rows):
        part = slice(rows[0], rows[-1] + 1)
        buffer[part] = values[part]
        buffer[part].sort(axis=-1)

    return values.size, lambda: list(pool.map(work, parts))


def copy(mib=256):
    a = torch.rand(mib * 2**18)
    b = torch.empty_like(a)
    return 2 * a.numel() * 4, lambda: b.copy_(a)


def fresh(mib=256):
    """Memory the system has to find first."""
    return mib * 2**20, lambda: torch.empty(mib * 2**18).fill_(1.0)


def rows():
    """(key, what, unit, scale, (work, call))."""
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        yield f"product {name}", "matrix product, 2048³", "GFLOP/s", 1e9, product(dtype)
        yield f"pairs {name}", "squared distances, d = 64", "Gpair/s", 1e9, pairs(dtype)
        for function in (torch.exp, torch.exp2, torch.sqrt):
            label = f"{function.__name__} in cache"
            work = elementwise(function, dtype)
            yield f"{function.__name__} {name}", label, "G/s", 1e9, work
        yield f"sort {name}", "np.sort, two rows of 10⁶", "M/s", 1e6, sorts((2, 10**6), name)
        work = sorts((1000, 1000), name)
        yield f"sort rows {name}", "np.sort, rows of 1000", "M/s", 1e6, work
    yield "copy", "copy, bytes read and written", "GB/s", 1e9, copy()
    yield "fresh", "first touch of fresh memory", "GB/s", 1e9, fresh()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.5, help="spent on each row")
    parser.add_argument("--only", default="", help='"ceilings", or nothing is measured')
    parser.add_argument("--force", action="store_true", help="write disturbed measurements too")
    options = parser.parse_args()
    if options.only not in "ceilings":
        return 0
    torch.set_num_threads(THREADS)
    table, disturbed = {}, []
    for key, what, unit, scale, (work, call) in rows():
        least, others = best(call, seconds=options.seconds)
        rate = work / least
        table[key] = {"what": what, "unit": unit, "rate": rate, "shown": rate / scale}
        mark = f"   others used {others:.0%} of the machine" if others > QUIET else ""
        disturbed += [key] if mark else []
        print(f"{key:20} {rate / scale:8.3g} {unit}{mark}", flush=True)
    if disturbed and not options.force:
        print("Nothing written: the machine was not idle. Run again, or with --force.")
        return 1
    facts = setting(["torch", "numpy"])
    report = {
        **facts,
        "command": "python benchmarks/ceilings.py",
        "threads": THREADS,
        "rows": table,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ceilings.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "ceilings.md").write_text(page(report))
    return 0


def page(report):
    """The table in Markdown."""
    keys = list(dict.fromkeys(key.removesuffix(" float32") for key in report["rows"]))
    lines = ["| | unit | float32 | float64 |", "|---|---|---|---|"]
    for key in keys:
        if key.endswith("float64"):
            continue
        single = report["rows"].get(f"{key} float32", report["rows"].get(key))
        double = report["rows"].get(f"{key} float64")
        shown = "–" if double is None else f"{double['shown']:.3g}"
        lines.append(f"| {single['what']} | {single['unit']} | {single['shown']:.3g} | {shown} |")
    versions = ", ".join(f"{k} {v}" for k, v in report["versions"].items())
    facts = (
        f"Measured {report['date']} on {report['machine']}, {report['threads']} threads, by "
        f"`{report['command']}`; {versions}, Python {report['python']}.\n"
    )
    return "\n".join(["# Ceilings of the machine", "", facts, *lines, ""])


if __name__ == "__main__":
    sys.exit(main())
