"""Optimal transport beside POT and SciPy: entropic, batched, debiased, exact, multiscale.

    make bench BENCH=transport          # all rows but the large ones, about ten minutes
    make bench BENCH="transport exact"  # the rows whose name contains the text, not written down
    .venv-bench/bin/python benchmarks/transport.py --large exact       # n = 20,000 alone: minutes
    .venv-bench/bin/python benchmarks/transport.py --large multiscale  # n = 100,000 in space

Writes benchmarks/results/transport.json and transport.md. What --large finds is kept in
results/transport_large.json and told by every later run.
"""

import argparse
import json
import math
import sys
import time
import warnings

import torch
from measure import measure, setting
from speed import cloud, gradient, squares
from table import HEAD, RESULTS, timed, write

import probmetrics as pm

warnings.filterwarnings("ignore")
PACKAGES = ["probmetrics", "torch", "numpy", "POT", "scipy"]
LARGE = RESULTS / "transport_large.json"
LARGE_PROBLEMS = {
    "exact": (pm.exact_transport, 20_000, 16),
    "multiscale": (pm.multiscale_transport, 100_000, 3),
}
GRADIENT = " +gradient"
FINE = 1e-7  # marginal error of the float64 references
answers = {}  # solutions that the notes tell of, by the name of their row


def entropic_rows():
    import ot

    for n, d in ((1000, 2), (5000, 2), (10_000, 2), (5000, 64), (10_000, 784)):
        x64, y64 = cloud(n, d)
        x, y = x64.float(), y64.float()
        epsilon = 0.05 * float(squares(x64[:1000], y64[:1000]).mean())
        weights = torch.full((n,), 1 / n)

        def pot(x=x, y=y, w=weights, e=epsilon, n=n):
            # POT stops on the Euclidean error; this one is an L1 error of about 1e-3
            cost = ot.dist(x, y)
            _, log = ot.sinkhorn(w, w, cost, e, stopThr=1e-3 / math.sqrt(n), log=True, warn=False)
            f, g = (e * log[k].double().log() for k in ("u", "v"))
            f, g = f + e * math.log(n), g + e * math.log(n)
            return f.mean() + g.mean()

        def exact(x=x64, y=y64, e=epsilon):
            return pm.sinkhorn(x, y, epsilon=e, tolerance=FINE).value

        def ours(x, y=y, e=epsilon):
            return pm.sinkhorn(x, y, epsilon=e, tolerance=1e-3).value

        name = f"transport sinkhorn to 1e-3 n={n} d={d} float32"
        yield name, lambda f=ours, x=x: f(x), {"POT": pot}, exact
        yield f"{name}{GRADIENT}", gradient(ours, x), {}, exact


def fine_rows():
    """ε at 0.002 of the mean cost, where POT takes minutes."""
    x, y = cloud(1000, 2)
    epsilon = 0.002 * float(squares(x, y).mean())
    name = "transport sinkhorn to 1e-6 n=1000 d=2 float64 fine ε"

    def ours():
        answers[name] = pm.sinkhorn(x, y, epsilon=epsilon, tolerance=1e-6)
        return answers[name].value

    exact = lambda: pm.sinkhorn(x, y, epsilon=epsilon, tolerance=1e-10, max_steps=20_000).value  # noqa: E731
    yield name, ours, {}, exact


def batched_rows():
    import ot

    x64, y64 = cloud(64, 8, batch=(256,))
    x, y = x64.float(), y64.float()
    epsilon = 0.05 * float(squares(x64, y64).mean())
    weights = torch.full((256, 64), 1 / 64)

    def ours(x):
        return pm.sinkhorn(x, y, epsilon=epsilon, tolerance=1e-3).value

    def pot(method):
        solved = ot.solve_batch(
            squares(x, y),
            epsilon,
            a=weights,
            b=weights,
            method=method,
            tol=1e-3,
            max_iter=1000,
            reg_type="kl",
            grad="detach",
        )
        missed = (solved.plan.sum(1) - weights).abs().sum(-1).max()
        missed = torch.maximum(missed, (solved.plan.sum(2) - weights).abs().sum(-1).max())
        answers[f"POT {method}"] = float(missed)
        return solved.value

    exact = lambda: pm.sinkhorn(x64, y64, epsilon=epsilon, tolerance=1e-9).value  # noqa: E731
    name = "transport sinkhorn to 1e-3, 256 problems 64x64 d=8 float32"
    peers = {}
    if hasattr(ot, "solve_batch"):
        peers = {f"POT {m}": lambda m=m: pot(m) for m in ("sinkhorn", "log_sinkhorn")}
    yield name, lambda: ours(x), peers, exact
    yield f"{name}{GRADIENT}", gradient(ours, x), {}, exact


def divergence_rows():
    """Beside one solve: three should cost less than two."""
    for n, d in ((1000, 2), (5000, 2), (5000, 64)):
        x64, y64 = cloud(n, d)
        x, y = x64.float(), y64.float()
        epsilon = 0.05 * float(squares(x[:1000], y[:1000]).mean())

        def divergence(x, y, tolerance, e=epsilon):
            return pm.sinkhorn_divergence(x, y, epsilon=e, tolerance=tolerance)

        def single(x=x, y=y, e=epsilon):
            pm.sinkhorn(x, y, epsilon=e, tolerance=1e-3)

        yield (
            f"transport divergence to 1e-3 n={n} d={d} float32",
            lambda f=divergence, x=x, y=y: f(x, y, 1e-3),
            {"one solve": single},
            lambda f=divergence, x=x64, y=y64: f(x, y, FINE),
        )


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


def multiscale_rows():
    """Without a reference: what is known of their error is the gap, see the notes."""
    for n, d in ((100_000, 1), (100_000, 2), (20_000, 3)):
        x, y = cloud(n, d)
        name = f"transport multiscale n={n} d={d} float64"

        def solved(x=x, y=y, name=name):
            answers[name] = pm.multiscale_transport(x, y, root=False)
            return answers[name].value

        yield name, solved, {}, None


def rows():
    yield from entropic_rows()
    yield from fine_rows()
    yield from batched_rows()
    yield from divergence_rows()
    yield from exact_rows()
    yield from multiscale_rows()


def notes(table):
    """What a time alone does not tell: passes, ratios, accuracies."""
    seconds = {row["name"]: row["ours"]["seconds"] for row in table}
    for row in table:
        name = row["name"]
        if name + GRADIENT in seconds:
            ratio = seconds[name + GRADIENT] / seconds[name]
            yield f"{name}: value and gradient take {ratio:.2f} times the value"
        if "one solve" in row["peers"]:
            yield f"{name}: {1 / row['ratio']:.2f} times one solve"
    for name, found in answers.items():
        if name.startswith("POT"):
            yield f"256 problems: {name} stops at a marginal error of {found:.1e} in L1"
        elif "multiscale" in name:
            share = float(found.dual_gap) / float(found.value)
            yield f"{name}: certified within {share:.2%} of W2² = {float(found.value):.6g}"
        else:
            error, steps = float(found.marginal_error), found.steps
            reached = f"{steps} passes to a marginal error of {error:.1e}"
            yield f"{name}, 0.002 of the mean cost: {reached}"
    for kept in large_found().values():
        yield f"{kept['told']}, by `{kept['command']}` on {kept['date']} at {kept['commit']}"


def large_found():
    """What ``--large`` found, by problem."""
    return json.loads(LARGE.read_text(encoding="utf-8")) if LARGE.exists() else {}


def large(name):
    """A problem that takes minutes, certified; kept for later runs to tell."""
    solver, n, d = LARGE_PROBLEMS[name]
    x, y = cloud(n, d)
    before = time.process_time()
    found, solved = measure(lambda: solver(x, y, root=False))
    found["processor_seconds"] = time.process_time() - before
    found["value"], found["gap"] = float(solved.value), float(solved.dual_gap)
    found["marginal_error"], found["steps"] = float(solved.marginal_error), solved.steps
    disturbed = " (shared with other work)" if found["disturbed"] else ""
    told = (
        f"{name} n = {n:,}, d = {d}, float64: {found['seconds']:.0f} s{disturbed}, "
        f"{found['processor_seconds']:.0f} s of processor time, {found['mib']:.0f} MiB, "
        f"W2² = {found['value']:.9g}, certified within {found['gap'] / found['value']:.1e} of it"
    )
    command = f"python benchmarks/transport.py --large {name}"
    kept = {**setting(PACKAGES), "command": command, "told": told, "row": found}
    text = json.dumps({**large_found(), name: kept}, indent=1)
    LARGE.write_text(text + "\n", encoding="utf-8")
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--large", choices=LARGE_PROBLEMS, help="this, and nothing else")
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.large:
        print(large(options.large))
        return
    print(HEAD)
    table = timed(rows(), options.only, options.repeats)
    told = list(notes(table))
    print(*(f"- {note}" for note in told), sep="\n", flush=True)
    if options.only in ("", "transport"):
        title, command = "Optimal transport, side by side", "make bench BENCH=transport"
        write("transport", title, table, PACKAGES, command, told)


if __name__ == "__main__":
    sys.exit(main())
