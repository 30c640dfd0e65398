"""Time and memory of the two-sample tests, beside pted where it has the test.

python benchmarks/tests_speed.py                 # every row
python benchmarks/tests_speed.py --only aggregated,fuse
make bench BENCH=tests                           # all of them, and nothing else

Writes benchmarks/results/tests_speed.json and .md. "goal" is the bound each row is held to, on two
idle cores.
"""

import argparse
import json
import warnings
from functools import partial
from pathlib import Path

import torch
from measure import measure, setting
from speed import cloud

import probmetrics.twosample as ts

warnings.filterwarnings("ignore")
RESULTS = Path(__file__).parent / "results"
PACKAGES = ["probmetrics", "torch", "numpy", "scipy", "pted"]


def quiet(test, x, y, **options):
    return partial(test, x, y, generator=0, progress=False, **options)


def peer(x, y, permutations):
    try:
        import pted
    except ImportError:
        return {}
    return {"pted": lambda: pted.pted(x.numpy(), y.numpy(), permutations=permutations)}


def rows():
    """(name, our call, peers by name, goal in seconds, goal in MiB)."""
    x, y = cloud(1000, 10)
    for name, test in (("mmd", ts.mmd_test), ("energy", ts.energy_test)):
        call = quiet(test, x, y, permutations=1000)
        yield f"{name} n=m=1000 d=10 B=1000", call, peer(x, y, 1000), 0.3, None
    x, y = cloud(500, 10)
    call = quiet(ts.mmd_aggregated_test, x, y, paired=True)
    yield "aggregated, 20 kernels, wild, n=m=500 B=1999", call, {}, 0.8, None
    call = quiet(ts.mmd_aggregated_test, x, y)
    yield "aggregated, 20 kernels, permutation, n=m=500 B=1999", call, {}, 2.0, None
    yield "fuse, 20 kernels, n=m=500 B=1999", quiet(ts.mmd_fuse_test, x, y), {}, 1.5, None
    yield "fused, 23 kernels, n=m=500 B=1999", quiet(ts.fused_test, x, y), {}, None, None
    yield "sinkhorn n=m=500 d=10 B=999", quiet(ts.sinkhorn_test, x, y), {}, None, None
    yield "frechet n=m=500 d=10 B=999", quiet(ts.frechet_test, x, y), {}, None, None
    yield "selected kernel n=m=500 d=10 B=999", quiet(ts.selected_kernel_test, x, y), {}, None, None
    yield "deep kernel n=m=500 d=10 B=999", quiet(ts.deep_kernel_test, x, y), {}, None, None
    x, y = cloud(5000, 10)
    for name, test in (("mmd", ts.mmd_test), ("energy", ts.energy_test)):
        call = quiet(test, x, y, permutations=999)
        yield f"{name} n=m=5000 d=10 B=999", call, peer(x, y, 999), 4.0, 1200.0
    x, y = (z.float() for z in cloud(1_000_000, 10))
    large = {
        "random features": ts.random_feature_test,
        "incomplete": ts.incomplete_mmd_test,
        "block": partial(ts.block_mmd_test, block=10),
        "linear": ts.linear_mmd_test,
    }
    for name, test in large.items():
        yield f"{name} n=m=1000000 d=10 B=999", quiet(test, x, y), {}, 60.0, None


def report(name, call, peers, seconds, mib):
    """One row: our figures, the peers', and whether the goal is met."""
    ours, answer = measure(call, budget=10.0)
    row = {"name": name, "ours": ours, "pvalue": float(answer.pvalue), "peers": {}}
    row["goal"] = {"seconds": seconds, "mib": mib}
    met = [ours["seconds"] <= seconds] if seconds else []
    met += [ours["mib"] <= mib] if mib else []
    row["met"] = all(met) if met else None
    for peer_name, other in peers.items():
        try:
            row["peers"][peer_name] = measure(other, budget=10.0)[0]
        except Exception as error:  # a peer's failure is a finding, not ours
            row["peers"][peer_name] = {"error": f"{type(error).__name__}: {error}"}
    return row


def line(row):
    ours, goal = row["ours"], row["goal"]
    others = ", ".join(
        f"{name} {found['seconds']:.3g} s" if "seconds" in found else f"{name}: {found['error']}"
        for name, found in row["peers"].items()
    )
    bound = " ".join(f"{v:g} {u}" for v, u in ((goal["seconds"], "s"), (goal["mib"], "MiB")) if v)
    verdict = {True: "met", False: "missed", None: ""}[row["met"]]
    mark = " (disturbed)" if ours["disturbed"] else ""
    cells = (row["name"], f"{ours['seconds']:.3g}{mark}", f"{ours['mib']:.0f}", others, bound)
    return f"| {' | '.join(cells)} | {verdict} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name contains one of these")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = RESULTS / "tests_speed.json"
    held = json.loads(path.read_text())["rows"] if path.exists() else []
    known = {row["name"]: row for row in held}
    head = "| test | seconds | MiB | peers | goal | |\n| --- | --- | --- | --- | --- | --- |"
    print(head)
    for name, *rest in rows():
        if any(part in f"tests {name}" for part in options.only.split(",")):
            known[name] = report(name, *rest)
            print(line(known[name]), flush=True)
            write(path, list(known.values()), head, options.threads)


def write(path, found, head, threads):
    """The rows measured so far, as JSON and as a table."""
    made = {"setting": setting(PACKAGES), "threads": threads, "rows": found}
    path.write_text(json.dumps(made, indent=1) + "\n")
    versions = ", ".join(f"{k} {v}" for k, v in made["setting"]["versions"].items() if v)
    where = f"{made['setting']['machine']}, {threads} threads; {versions}; "
    where += f"{made['setting']['date']}; `python benchmarks/tests_speed.py`"
    text = ["# Speed of the two-sample tests", "", head, *map(line, found), "", where, ""]
    path.with_suffix(".md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
