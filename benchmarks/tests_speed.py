"""Time and memory of the two-sample tests, beside the peers that have the test.

python benchmarks/tests_speed.py                 # every row, about five minutes
python benchmarks/tests_speed.py --only aggregated,fuse
make bench BENCH=tests                           # all of them, and nothing else

Writes benchmarks/results/tests_speed.json and .md. "goal" is the bound each row is held to, on two
idle cores. A peer that is not there, or fails, stands in the table with its error: alibi-detect
0.13 asks for numpy < 2, and the authors' programs of MMDAgg and MMD-FUSE are on no package index.
hyppo takes minutes for a thousand labelings, so it is given twenty of them.
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
PACKAGES = ["probmetrics", "torch", "numpy", "scipy", "pted", "hyppo", "alibi-detect", "mmdagg"]
FEW = 20  # labelings for a peer that takes minutes for all


def quiet(test, x, y, **options):
    return partial(test, x, y, generator=0, progress=False, **options)


def pted(x, y, permutations):
    """The energy test of pted."""
    from pted import pted as test

    return test(x.numpy(), y.numpy(), permutations=permutations)


def hyppo(x, y, name):
    """A k-sample test of hyppo with a few permutations."""
    import hyppo.ksample as ksample

    test = getattr(ksample, name)()
    return test.test(x.numpy(), y.numpy(), reps=FEW, workers=1, auto=False)


def alibi(x, y, permutations):
    """The MMD drift detector of alibi-detect, on torch."""
    from alibi_detect.cd import MMDDrift

    detector = MMDDrift(x.numpy(), backend="pytorch", n_permutations=permutations)
    return detector.predict(y.numpy())


def mmdagg(x, y, **options):
    """MMDAgg as its authors wrote it, with the 4,000 labelings it draws."""
    from mmdagg.np import mmdagg as test

    return test(x.numpy(), y.numpy(), **options)


def mmdfuse(x, y):
    """MMD-FUSE as its authors wrote it, in JAX."""
    import jax
    from mmdfuse import mmdfuse as test

    return test(jax.numpy.asarray(x), jax.numpy.asarray(y), jax.random.PRNGKey(0))


def rows():
    """(name, our call, peers by name, goal in seconds, goal in MiB)."""
    x, y = cloud(1000, 10)
    few = f"hyppo, {FEW} of 1000 labelings"
    others = {few: partial(hyppo, x, y, "MMD"), "alibi-detect": partial(alibi, x, y, 1000)}
    call = quiet(ts.mmd_test, x, y, permutations=1000)
    yield "mmd n=m=1000 d=10 B=1000", call, others, 0.3, None
    others = {"pted": partial(pted, x, y, 1000), few: partial(hyppo, x, y, "Energy")}
    call = quiet(ts.energy_test, x, y, permutations=1000)
    yield "energy n=m=1000 d=10 B=1000", call, others, 0.3, None
    x, y = cloud(500, 10)
    call, others = (
        quiet(ts.mmd_aggregated_test, x, y, paired=True),
        {"mmdagg": partial(mmdagg, x, y)},
    )
    yield "aggregated, 20 kernels, wild, n=m=500 B=1999", call, others, 0.8, None
    call = quiet(ts.mmd_aggregated_test, x, y)
    others = {"mmdagg": partial(mmdagg, x, y, permutations_same_sample_size=True)}
    yield "aggregated, 20 kernels, permutation, n=m=500 B=1999", call, others, 2.0, None
    call, others = quiet(ts.mmd_fuse_test, x, y), {"mmdfuse": partial(mmdfuse, x, y)}
    yield "fuse, 20 kernels, n=m=500 B=1999", call, others, 1.5, None
    yield "fused, 21 kernels, n=m=500 B=1999", quiet(ts.fused_test, x, y), {}, None, None
    yield "sinkhorn n=m=500 d=10 B=999", quiet(ts.sinkhorn_test, x, y), {}, None, None
    yield "frechet n=m=500 d=10 B=999", quiet(ts.frechet_test, x, y), {}, None, None
    yield "selected kernel n=m=500 d=10 B=999", quiet(ts.selected_kernel_test, x, y), {}, None, None
    yield "deep kernel n=m=500 d=10 B=999", quiet(ts.deep_kernel_test, x, y), {}, None, None
    x, y = cloud(5000, 10)
    yield "mmd n=m=5000 d=10 B=999", quiet(ts.mmd_test, x, y), {}, 4.0, 1200.0
    others = {"pted": partial(pted, x, y, 999)}
    yield "energy n=m=5000 d=10 B=999", quiet(ts.energy_test, x, y), others, 4.0, 1200.0
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
            (x, y), rest = other.args[:2], other.args[2:]
            other.func(x[:20], y[:20], *rest, **other.keywords)  # compiles, where it compiles
            row["peers"][peer_name] = measure(other, budget=10.0)[0]
        except Exception as error:  # a peer's failure is a finding, not ours
            row["peers"][peer_name] = {"error": f"{type(error).__name__}: {error}"}
    return row


def line(row):
    ours, goal = row["ours"], row["goal"]
    others = "; ".join(
        f"{name}: {found['seconds']:.3g} s, {found['mib']:.0f} MiB"
        if "seconds" in found
        else f"{name}: failed, {found['error']}"
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
    listed = list(rows())
    for name, *rest in listed:
        if any(part in f"tests {name}" for part in options.only.split(",")):
            known[name] = report(name, *rest)
            print(line(known[name]), flush=True)
            found = [known[name] for name, *_ in listed if name in known]
            write(path, found, head, options.threads)


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
