"""How often 95% intervals hold the true value, over repetitions with known answers.

python benchmarks/intervals.py                 # 400 repetitions, writes benchmarks/results/
python benchmarks/intervals.py --repetitions 100 --only mmd,energy --no-write
"""

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy
import scipy
import torch

from probmetrics.discrepancy import energy_distance, mmd
from probmetrics.divergences.neighbors import kl_neighbors
from probmetrics.divergences.ratio import density_ratio, divergence_from_ratio
from probmetrics.pairwise.kernels import Gaussian
from probmetrics.transport.line import wasserstein_1d
from probmetrics.transport.sliced import sliced_wasserstein
from probmetrics.uncertainty import Interval, Subsampling, estimate

RESULTS = Path(__file__).parent / "results"
LEVEL = 0.95
BAND = 0.92, 0.975  # what is accepted of the coverage of unequal distributions


@dataclass(frozen=True)
class Case:
    """An interval whose true value is known."""

    name: str
    setting: str
    truth: float
    interval: Callable[[torch.Generator], Interval]
    unequal: bool = True
    required: bool = True  # to lie in the band


def normal(generator: torch.Generator, n: int, d: int = 1, mean: float = 0.0, sd: float = 1.0):
    """n points of N(mean·1, sd² I), (n, d)."""
    return mean + sd * torch.randn(n, d, generator=generator, dtype=torch.float64)


def gaussian_case(
    name: str,
    estimator: Callable[..., Any],
    truth: float,
    *,
    n: int = 200,
    m: int = 200,
    d: int = 1,
    mean: float = 1.0,
    sd: float = 1.0,
    line: bool = False,
    required: bool = True,
    **options: Any,
) -> Case:
    """P = N(0, I) with n points against Q = N(mean·1, sd² I) with m points."""

    def interval(generator: torch.Generator) -> Interval:
        x, y = normal(generator, n, d), normal(generator, m, d, mean, sd)
        if line:
            x, y = x.squeeze(-1), y.squeeze(-1)
        return estimate(estimator, x, y, level=LEVEL, generator=generator, **options)

    setting = f"N(0, I) and N({mean:g}, {sd * sd:g} I), d = {d}, n = {n}, m = {m}"
    unequal = (mean, sd) != (0.0, 1.0)
    return Case(name, setting, truth, interval, unequal, required and unequal)


def ratio_case(name: str, f: str, truth: float, *, n: int, m: int, d: int, mean: float) -> Case:
    """P = N(0, I) against Q = N(mean·1, I), by the classifier ratio, which fits Gaussians."""

    def interval(generator: torch.Generator) -> Interval:
        x, y = normal(generator, n, d), normal(generator, m, d, mean)
        ratio = density_ratio(x, y, generator=generator)
        return divergence_from_ratio(ratio, f=f, level=LEVEL)

    return Case(name, f"N(0, I) and N({mean:g}, I), d = {d}, n = {n}, m = {m}", truth, interval)


W1_SCALED = 1.16663094  # W1 between N(0, 1) and N(1, 4)
UNIT = Gaussian(1.0)

CASES = [
    gaussian_case("mmd", mmd, 0.17726763, kernel=UNIT),
    gaussian_case("mmd, scale, n ≠ m", mmd, 0.15947048, sd=2.0, m=350, kernel=UNIT),
    gaussian_case("mmd, V-statistic, root", mmd, math.sqrt(0.17726763), kernel=UNIT,
                  unbiased=False, root=True),
    gaussian_case("energy", energy_distance, 0.54180658),
    gaussian_case("energy, scale, n ≠ m", energy_distance, 0.53410532, sd=2.0, m=350),
    gaussian_case("energy, root", energy_distance, math.sqrt(0.54180658), root=True),
    gaussian_case("W1 on the line", wasserstein_1d, 1.0, line=True),
    gaussian_case("W1 on the line, scale, n ≠ m", wasserstein_1d, W1_SCALED, sd=2.0, m=350,
                  line=True),
    gaussian_case("W2 on the line", wasserstein_1d, math.sqrt(2.0), sd=2.0, line=True, p=2),
    # Along a direction the distance is N(0, 1) to N(μ·Σθ, σ²): on average μ² + (σ − 1)².
    gaussian_case("sliced W2", sliced_wasserstein, math.sqrt(0.34), d=3, mean=0.5, sd=1.3,
                  projections=50),
    gaussian_case("sliced W2, n ≠ m", sliced_wasserstein, math.sqrt(1.25), d=10, mean=1.0, sd=1.5,
                  m=350),
    ratio_case("KL by ratio (well-specified Gaussian)", "kl", 0.5, n=500, m=500, d=1, mean=1.0),
    ratio_case("KL by ratio (well-specified Gaussian), n ≠ m", "kl", 0.5, n=500, m=1000, d=4,
               mean=0.5),
    ratio_case("JS by ratio (well-specified Gaussian)", "js", 0.11142148, n=500, m=500, d=1,
               mean=1.0),
    # Subsampling tells the scatter of a neighbour estimate, not its bias, which grows with d.
    gaussian_case("KL by neighbours", kl_neighbors, 0.5, n=300, m=300, required=False,
                  method=Subsampling(replicates=100)),
    gaussian_case("KL by neighbours, n ≠ m", kl_neighbors, 0.44314718, n=300, m=500, sd=2.0,
                  required=False, method=Subsampling(replicates=100)),
    gaussian_case("mmd, P = Q", mmd, 0.0, mean=0.0, kernel=UNIT),
    gaussian_case("energy, P = Q", energy_distance, 0.0, mean=0.0),
    gaussian_case("W1 on the line, P = Q", wasserstein_1d, 0.0, mean=0.0, line=True),
    gaussian_case("sliced W2, P = Q", sliced_wasserstein, 0.0, d=3, mean=0.0, projections=50),
]  # fmt: skip


def study(case: Case, repetitions: int, seed: int) -> dict[str, Any]:
    """Coverage of one case, with the errors below and above."""
    generator = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    made = [case.interval(generator) for _ in range(repetitions)]
    values = torch.tensor([float(i.value) for i in made], dtype=torch.float64)
    missed_below = sum(float(i.low) > case.truth for i in made) / repetitions
    missed_above = sum(float(i.high) < case.truth for i in made) / repetitions
    coverage = 1 - missed_below - missed_above
    return {
        "name": case.name,
        "setting": case.setting,
        "truth": case.truth,
        "method": made[0].method,
        "coverage": round(coverage, 4),
        "low above truth": round(missed_below, 4),
        "high below truth": round(missed_above, 4),
        "mean value": values.mean().item(),
        "sd of values": values.std().item(),
        "mean standard error": sum(float(i.standard_error) for i in made) / repetitions,
        "in band": BAND[0] <= coverage <= BAND[1],
        "required": case.required,
        "unequal": case.unequal,
        "seconds": round(time.perf_counter() - start, 2),
    }


def machine() -> dict[str, str]:
    """Where the numbers come from."""
    return {
        "date": date.today().isoformat(),
        "command": "python benchmarks/" + " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "cpu": cpu_name(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }


def cpu_name() -> str:
    """The processor as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def markdown(report: dict[str, Any]) -> str:
    """The study as a page."""
    about = report["machine"]
    required = [row for row in report["cases"] if row["required"]]
    inside = sum(row["in band"] for row in required)
    informative = [row for row in report["cases"] if row["unequal"] and not row["required"]]
    equal = [row for row in report["cases"] if not row["unequal"]]
    lines = [
        "# Coverage of 95% intervals",
        "",
        f"{report['repetitions']} repetitions, seed {report['seed']}; required of unequal "
        f"distributions: {BAND[0]:.1%} to {BAND[1]:.1%}. {inside} of {len(required)} are inside.",
        "",
        *table(required),
    ]
    if informative:
        lines += [
            "",
            "## For information: estimates by neighbours",
            "",
            "Intervals by subsampling, which tells the scatter of an estimate and not its bias.",
            "",
            *table(informative),
        ]
    if equal:
        lines += [
            "",
            "## For information: equal distributions",
            "",
            "At P = Q the first-order theory of these intervals says nothing: the statistic is "
            "degenerate and its null distribution no normal one. An interval there neither holds "
            "its level nor is a test. Ask `mmd_test`, `energy_test` or `wasserstein_test` whether "
            "two samples differ at all: their p-values, by permutation, are exact.",
            "",
            *table(equal),
        ]
    lines += ["", f"`{about['command']}` on {about['date']}: {about['cpu']}, "
              f"{about['threads']} thread(s), Python {about['python']}, torch {about['torch']}, "
              f"NumPy {about['numpy']}, SciPy {about['scipy']}.", ""]  # fmt: skip
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table."""
    head = [
        "| estimate | setting | method | truth | mean value | coverage | misses low / high |",
        "|---|---|---|---|---|---|---|",
    ]
    return head + [
        f"| {row['name']} | {row['setting']} | {row['method']} | {row['truth']:.4f} | "
        f"{row['mean value']:.4f} | {row['coverage']:.1%}"
        f"{' (out)' if row['required'] and not row['in band'] else ''} | "
        f"{row['low above truth']:.1%} / {row['high below truth']:.1%} |"
        for row in rows
    ]


def main() -> int:
    """Run the study, print it, and write it down; 1 if a required coverage is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", help="parts of the names of cases, separated by commas")
    parser.add_argument("--no-write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    wanted = arguments.only.split(",") if arguments.only else [""]
    rows = []
    for case in CASES:
        if any(part in case.name for part in wanted):
            rows.append(study(case, arguments.repetitions, arguments.seed))
            print(f"{rows[-1]['coverage']:7.1%}  {case.name}: {case.setting}", flush=True)
    report = {"machine": machine(), "repetitions": arguments.repetitions, "level": LEVEL,
              "seed": arguments.seed, "cases": rows}  # fmt: skip
    if not arguments.no_write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "coverage.json").write_text(json.dumps(report, indent=1) + "\n")
        (RESULTS / "coverage.md").write_text(markdown(report))
    return int(any(row["required"] and not row["in band"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
