"""Optimal transport side by side with POT and SciPy: exact, batched, debiased, fine, multiscale.

    make bench BENCH=transport          # all rows but the large exact one
    make bench BENCH="transport exact"  # the rows whose name contains the text
    .venv-bench/bin/python benchmarks/transport.py --large   # n = 20,000 exact too: minutes

Writes benchmarks/results/transport.json and transport.md.
"""

import argparse
import math
import sys
import warnings

import torch
from measure import measure
from speed import cloud, gradient, squares
from table import HEAD, timed, write

import probmetrics as pm
from probmetrics.transport.multiscale import multiscale_transport

warnings.filterwarnings("ignore")
PACKAGES = ["probmetrics", "torch", "numpy", "POT", "scipy"]


def exact_rows():
    import ot
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    n = 4000
    for d in (32, 2):
        x, y = cloud(n, d)
        xn, yn = x.numpy(), y.numpy()

        def assigned(xn=xn, yn=yn):
            cost = cdist(xn, yn, "sqeuclidean")
            return cost[linear_sum_assignment(cost)].mean()

        def simplex(xn=xn, yn=yn):
            cost = cdist(xn, yn, "sqeuclidean")
            return ot.emd2([], [], cost, numItermax=10_000_000)

        yield (
            f"transport exact n={n} d={d} float64",
            lambda x=x, y=y: pm.wasserstein(x, y, root=False),
            {"SciPy": assigned, "POT": simplex},
            assigned,
        )


def batched_rows():
    import ot

    x64, y64 = cloud(64, 8, batch=(256,))
    x, y = x64.float(), y64.float()
    costs = squares(x64, y64)
    epsilon = 0.05 * float(costs.mean())
    weights = torch.full((256, 64), 1 / 64)

    def ours(x):
        return pm.sinkhorn(x, y, epsilon=epsilon, tolerance=1e-3).value

    def pot(method):
        cost = squares(x, y)
        solved = ot.solve_batch(
            cost, epsilon, a=weights, b=weights, method=method, tol=1e-3, max_iter=1000
        )
        return None if solved is None else torch.as_tensor(solved.value).sum() * math.nan

    exact = lambda: pm.sinkhorn(x64, y64, epsilon=epsilon, tolerance=1e-9).value  # noqa: E731
    name = "transport sinkhorn to 1e-3, 256 problems 64x64 d=8 float32"
    peers = {}
    if hasattr(ot, "solve_batch"):
        peers = {f"POT {m}": lambda m=m: pot(m) for m in ("sinkhorn", "log_sinkhorn")}
    yield name, lambda: ours(x), peers, exact
    yield f"{name} +gradient", gradient(ours, x), {}, exact


def divergence_rows():
    for n, d in ((1000, 2), (5000, 2), (5000, 64)):
        x, y = (z.float() for z in cloud(n, d))
        epsilon = 0.05 * float(squares(x[:1000], y[:1000]).mean())
        options = {"epsilon": epsilon, "tolerance": 1e-3}
        yield (
            f"transport divergence to 1e-3 n={n} d={d} float32 (wanted ratio: 0.5)",
            lambda x=x, y=y, o=options: pm.sinkhorn_divergence(x, y, **o),
            {"one solve": lambda x=x, y=y, o=options: pm.sinkhorn(x, y, **o).cost * math.nan},
            None,
        )


def multiscale_rows():
    for d in (2, 3):
        x, y = cloud(100_000, d)
        yield (
            f"transport multiscale n=100000 d={d} float64",
            lambda x=x, y=y: multiscale_transport(x, y).value,
            {},
            None,
        )


def notes():
    """What a time does not tell: passes at a fine ε, and the multiscale bound."""
    x, y = cloud(1000, 2)
    epsilon = 0.002 * float(squares(x, y).mean())
    solved = pm.sinkhorn(x, y, epsilon=epsilon, tolerance=1e-6)
    yield (
        f"n = 1000, float64, ε = 0.002 of the mean cost, to {float(solved.marginal_error):.1e}: "
        f"{solved.steps} passes"
    )
    for d in (2, 3):
        x, y = cloud(100_000, d)
        found = multiscale_transport(x, y, root=False)
        share = float(found.dual_gap) / float(found.value)
        yield f"multiscale n = 100,000, d = {d}: certified within {share:.2%} of the cost"


def large():
    """n = 20,000 points in 16 dimensions, exact and certified."""
    x, y = cloud(20_000, 16)
    found, solved = measure(lambda: pm.exact_transport(x, y, root=False))
    return (
        f"exact n = 20,000, d = 16, float64: {found['seconds']:.0f} s, {found['mib']:.0f} MiB, "
        f"value {float(solved.value):.9g}, primal − dual {float(solved.dual_gap):.1e}"
    )


def rows():
    yield from exact_rows()
    yield from batched_rows()
    yield from divergence_rows()
    yield from multiscale_rows()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="n = 20,000 exact too")
    options = parser.parse_args()
    torch.set_num_threads(2)
    print(HEAD)
    table = timed(rows(), options.only, options.repeats)
    if options.only not in ("", "transport"):
        return
    told = []
    for note in (*notes(), *([large()] if options.large else [])):
        told.append(note)
        print(f"- {note}", flush=True)
    title, command = "Optimal transport, side by side", "make bench BENCH=transport"
    write("transport", title, table, PACKAGES, command, told)


if __name__ == "__main__":
    sys.exit(main())
