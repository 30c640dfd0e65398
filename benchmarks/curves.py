"""Time and memory against the number of points, up to 100,000, beside code that keeps the matrix.

    make bench BENCH=curves

Writes benchmarks/results/curves.json, .md and .png. A curve ends before the size whose time, by the
growth so far, would pass the bound.
"""

import argparse
import json
import math
import sys
import warnings

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch
from measure import measure, setting
from speed import cdist_energy, cloud, dense_mmd
from table import RESULTS

import probmetrics as pm
from probmetrics.pairwise.kernels import Gaussian

warnings.filterwarnings("ignore")
D = 16
SIZES = (1000, 3000, 10_000, 30_000, 100_000)
BOUND = 40.0  # seconds for a point of a curve
MATRIX = 2**33  # bytes at which the dense peers stop
CURVES = {
    "mmd": lambda x, y: pm.mmd(x, y, kernel=Gaussian(4.0)),
    "energy_distance": pm.energy_distance,
    "linear_mmd": lambda x, y: pm.linear_mmd(x, y, kernel=Gaussian(4.0)),
    "kl_neighbors": lambda x, y: pm.kl_neighbors(x, y, k=5),
    "sinkhorn": lambda x, y: pm.sinkhorn(x, y, epsilon=1.6, tolerance=1e-3).value,
    "sliced_wasserstein": lambda x, y: pm.sliced_wasserstein(x, y, projections=100, generator=0),
    "wasserstein_1d": lambda x, y: pm.wasserstein_1d(x[:, 0], y[:, 0]),
    "frechet_distance": pm.frechet_distance,
    "torch, dense: mmd": lambda x, y: dense_mmd(x, y, 4.0),
    "torch, dense: energy": cdist_energy,
}


def curve(name, call):
    """Seconds and MiB at each size, as far as the bounds allow."""
    points = []
    for n in SIZES:
        if "dense" in name and 4 * n * n > MATRIX / 2:
            break
        if len(points) > 1:
            (a, s), (b, t) = ((p["n"], p["seconds"]) for p in points[-2:])
            growth = max(1.0, math.log(t / s) / math.log(b / a))
            if t * (n / b) ** growth > BOUND:
                break
        x, y = (z.float() for z in cloud(n, D))
        found, _ = measure(lambda x=x, y=y: call(x, y), repeats=3, budget=6.0)
        points.append({"n": n, **found})
        print(f"{name:24} n={n:<7} {found['seconds']:9.4f} s {found['mib']:7.0f} MiB", flush=True)
    return points


def slope(points):
    """Growth between the last two sizes, as an exponent of n."""
    (a, s), (b, t) = ((p["n"], p["seconds"]) for p in points[-2:])
    return math.log(t / s) / math.log(b / a)


def picture(curves):
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), constrained_layout=True)
    for name, points in curves.items():
        style = {"ls": "--", "color": "#888888" if "mmd" in name else "#bbbbbb"}
        style = style if "dense" in name else {}
        for axis, key in zip(axes, ("seconds", "mib"), strict=True):
            values = [max(p[key], 1e-4 if key == "seconds" else 0.5) for p in points]
            axis.loglog([p["n"] for p in points], values, ".-", label=name, **style)
    for axis, label in zip(axes, ("seconds", "MiB beyond the samples"), strict=True):
        axis.set(xlabel="n = m", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.savefig(RESULTS / "curves.png", dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help='"curves", or nothing is measured')
    options = parser.parse_args()
    if options.only not in "curves":
        return
    torch.set_num_threads(2)
    curves = {name: curve(name, call) for name, call in CURVES.items()}
    report = {**setting(["probmetrics", "torch", "numpy"]), "command": "make bench BENCH=curves"}
    (RESULTS / "curves.json").write_text(json.dumps({**report, "curves": curves}, indent=1) + "\n")
    picture(curves)
    lines = ["| | " + " | ".join(f"n = {n:,}" for n in SIZES) + " | growth |"]
    lines.append("|---" * (len(SIZES) + 2) + "|")
    for name, points in curves.items():
        cells = [f"{p['seconds']:.3g} s{'*' * p['disturbed']}, {p['mib']:.0f} MiB" for p in points]
        cells += ["–"] * (len(SIZES) - len(cells))
        lines.append(f"| {name} | " + " | ".join(cells) + f" | n^{slope(points):.1f} |")
    facts = (
        f"Measured {report['date']} at commit {report['commit']} on {report['machine']}, two "
        f"threads, float32, d = {D}, by `{report['command']}`. Memory is what is resident beyond "
        f"the samples at the peak. Growth is that of the time between the last two sizes. A dash: "
        f"the time would pass {BOUND:.0f} s, or the matrix {MATRIX / 2**31:.0f} GiB. A star marks "
        "a time that others disturbed."
    )
    versions = ", ".join(f"{k} {v}" for k, v in report["versions"].items())
    text = [
        *("# Time and memory against n", "", facts, "", *lines, "", "![curves](curves.png)", ""),
        f"Versions: {versions}; Python {report['python']}.",
    ]
    (RESULTS / "curves.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    sys.exit(main())
