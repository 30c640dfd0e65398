"""How often each two-sample test rejects samples of one distribution.

python benchmarks/calibration.py                  # missing cells only; rewrites the table
python benchmarks/calibration.py --only energy    # tests whose name contains a word
python benchmarks/calibration.py --redo energy    # the same, forgetting what is known of them

One thread; about twenty minutes for all cells. Stop and start it at will: each finished cell is
kept in benchmarks/results/calibration.json.
"""

import argparse
import json
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import setting
from scipy.stats import binom

import probmetrics as pm
from probmetrics import twosample
from probmetrics.pairwise.kernels import Laplacian
from probmetrics.twosample import locations

RESULTS = Path(__file__).parent / "results"
REPETITIONS = 1000
CONFIRM = 10_000  # fresh repetitions of a cell that was too high or too low
LEVELS = (0.05, 0.1)
RISK = 1e-3  # one-sided, per cell and level
locations.STEPS = 5  # a short ascent of the learned locations: fast, and calibration is the same

Samples = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Condition:
    """A null hypothesis that holds: how both samples are drawn, and with how many labelings."""

    name: str
    draw: Callable[[np.random.Generator], Samples]
    permutations: int = 99
    continuous: bool = True


def split(z: np.ndarray, n: int) -> Samples:
    """The first n points, and the others."""
    return z[:n], z[n:]


CONDITIONS = [
    Condition("Gaussian", lambda g: split(g.normal(size=(40, 2)), 20)),
    Condition("heavy-tailed", lambda g: split(g.standard_cauchy((40, 2)), 20)),
    Condition("binary", lambda g: split(g.integers(0, 2, (40, 2)) * 1.0, 20), continuous=False),
    Condition("n = 3", lambda g: split(g.normal(size=(6, 2)), 3)),
    Condition("5:1", lambda g: split(g.normal(size=(60, 2)), 50)),
    Condition("B = 19", lambda g: split(g.normal(size=(40, 2)), 20), permutations=19),
    Condition("d = 50", lambda g: split(g.normal(size=(20, 50)), 10)),
]


@dataclass(frozen=True)
class Case:
    """A test as it is run: p-value of two samples with B labelings and a seed.

    Attributes:
        name: Row of the table.
        pvalue: (x, y, permutations, seed) -> p-value.
        discrete: The statistic takes few values, so that sizes below the level are no defect.
        conservative: Valid but not exact by design (bounds that hold at any time or any n).
        least: Fewest points per sample.
    """

    name: str
    pvalue: Callable[[np.ndarray, np.ndarray, int, int], float]
    discrete: bool = False
    conservative: bool = False
    least: int = 2


def of(function: Callable[..., Any], name: str, **options: Any) -> Case:
    """A permutation test of the package with its options."""
    traits = {k: options.pop(k) for k in ("discrete", "conservative", "least") if k in options}

    def pvalue(x: np.ndarray, y: np.ndarray, permutations: int, seed: int) -> float:
        given = {"permutations": permutations, **options}
        return float(function(x, y, generator=seed, level=0.05, **given).pvalue)

    return Case(name, pvalue, **traits)


def _strata(x: np.ndarray, y: np.ndarray, permutations: int, seed: int) -> float:
    sites = (np.arange(len(x)) % 2, np.arange(len(y)) % 2)
    return float(
        pm.energy_test(x, y, strata=sites, permutations=permutations, generator=seed).pvalue
    )


def _paired(x: np.ndarray, y: np.ndarray, permutations: int, seed: int) -> float:
    n = min(len(x), len(y))
    return float(
        pm.energy_test(x[:n], y[:n], paired=True, permutations=permutations, generator=seed).pvalue
    )


def _three_samples(x: np.ndarray, y: np.ndarray, permutations: int, seed: int) -> float:
    half = max(2, len(y) // 2)
    parts = (x, y[:half], y[half:]) if len(y) - half >= 2 else (x, y)
    return float(pm.disco_test(*parts, permutations=permutations, generator=seed).pvalue)


def _categories(x: np.ndarray, y: np.ndarray, permutations: int, seed: int, kind: str) -> float:
    codes = [np.digitize(v[:, :2], [-0.5, 0.6]) for v in (x, y)]
    return float(
        pm.categorical_test(
            *codes, statistic=kind, permutations=permutations, generator=seed
        ).pvalue
    )


def _any_function(x: np.ndarray, y: np.ndarray, permutations: int, seed: int) -> float:
    def gap(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.abs(x.mean(0) - y.mean(0)).sum())

    return float(pm.permutation_test(x, y, gap, permutations=permutations, generator=seed).pvalue)


def _scikit(x: np.ndarray, y: np.ndarray, permutations: int, seed: int) -> float:
    from sklearn.neighbors import NearestCentroid

    class Centroids(NearestCentroid):  # no scores of its own in older versions
        def decision_function(self, z: np.ndarray) -> np.ndarray:
            gaps = ((z[:, None] - self.centroids_) ** 2).sum(-1)
            scores: np.ndarray = gaps[:, 0] - gaps[:, 1]
            return scores

    return float(
        pm.classifier_test(
            x, y, classifier=Centroids(), refit=False, permutations=permutations, generator=seed
        ).pvalue
    )


def _mixed(x: np.ndarray, y: np.ndarray, permutations: int, seed: int) -> float:
    tables = [np.column_stack([v[:, 0], np.digitize(v[:, 1], [-0.5, 0.6])]) for v in (x, y)]
    return float(
        twosample.mixed_test(
            *tables, categorical=[1], permutations=permutations, generator=seed
        ).pvalue
    )


def _relative(x: np.ndarray, y: np.ndarray, permutations: int, seed: int) -> float:
    data = np.random.default_rng(seed).normal(size=(20, x.shape[1])) + 0.5
    return float(
        twosample.relative_test(data, x, y, permutations=permutations, generator=seed).pvalue
    )


def _betting(x: np.ndarray, y: np.ndarray, permutations: int, seed: int) -> float:
    test, parts = twosample.SequentialTest(), min(4, len(x), len(y))
    for first, second in zip(np.array_split(x, parts), np.array_split(y, parts), strict=True):
        test.update(first, second)
    return test.result.pvalue  # 1 / the largest e-value: the best moment to stop


CASES = [
    of(pm.mmd_test, "MMD"),
    of(pm.mmd_test, "MMD, V-statistic, Laplacian", kernel=Laplacian(1.0), unbiased=False),
    of(pm.energy_test, "energy"),
    of(pm.energy_test, "energy, adaptive B", permutations="auto", conservative=True),
    Case("energy, strata", _strata, discrete=True),
    Case("energy, paired", _paired, discrete=True),
    of(pm.disco_test, "DISCO"),
    Case("DISCO, three samples", _three_samples, discrete=True),
    of(pm.wasserstein_test, "Wasserstein by feature", discrete=True),
    of(pm.sliced_wasserstein_test, "sliced Wasserstein"),
    of(pm.friedman_rafsky_test, "Friedman–Rafsky", discrete=True),
    of(pm.nearest_neighbor_test, "nearest neighbours", discrete=True),
    of(pm.edge_count_test, "edge counts, generalised, 2-MST", k=2, discrete=True),
    of(
        pm.edge_count_test,
        "edge counts, max-type, 2-NN",
        graph="knn",
        k=2,
        form="max",
        discrete=True,
    ),
    of(pm.classifier_test, "classifier, logit"),
    of(pm.classifier_test, "classifier, AUC", statistic="auc", discrete=True),
    of(
        pm.classifier_test,
        "classifier, accuracy, linear",
        statistic="accuracy",
        classifier="linear",
        discrete=True,
    ),
    Case("classifier, scikit-learn, split", _scikit, discrete=True, least=4),
    of(pm.mmd_aggregated_test, "MMDAgg", discrete=True),
    of(pm.mmd_fuse_test, "MMD-FUSE"),
    of(pm.fused_test, "fused", discrete=True),
    of(pm.mean_embedding_test, "mean embedding, random", learn=False),
    of(pm.characteristic_function_test, "characteristic function, random", learn=False),
    of(pm.incomplete_mmd_test, "incomplete MMD", discrete=True),
    of(pm.random_feature_test, "random features", features=50),
    *[
        of(
            pm.univariate_test,
            f"{name} by feature",
            statistic=name,
            discrete=True,
            least=5 if name == "es" else 2,
        )
        for name in ("ks", "cvm", "ad", "es")
    ],
    *[
        Case(
            f"{kind}, categories",
            lambda x, y, b, s, kind=kind: _categories(x, y, b, s, kind),
            discrete=True,
        )
        for kind in ("chi2", "g", "fisher")
    ],
    Case("any function (gap of means)", _any_function),
    of(twosample.block_mmd_test, "block MMD", discrete=True),
    of(twosample.linear_mmd_test, "linear MMD", discrete=True),
    of(twosample.frechet_test, "Fréchet distance"),
    Case("mixed table", _mixed, discrete=True),
    of(twosample.two_sample_test, "front door, automatic", discrete=True),
    Case("relative MMD, models equal", _relative, conservative=True),
    Case("betting, stopped at its best", _betting, conservative=True),
    of(twosample.selected_kernel_test, "selected kernel", least=4, bandwidths=4),
    of(twosample.sinkhorn_test, "Sinkhorn divergence", tolerance=1e-2),
    of(pm.mean_embedding_test, "mean embedding, learned", least=4),
    of(pm.characteristic_function_test, "characteristic function, learned", least=4),
    of(twosample.deep_kernel_test, "deep kernel", least=4, steps=2, hidden=4),
]


def run(case: Case, condition: Condition, repetitions: int, *, seed: int = 0) -> list[float]:
    """p-values of a test under a condition."""
    key = zlib.crc32(case.name.encode())
    source = np.random.default_rng([seed, key, CONDITIONS.index(condition)])
    answers = []
    with warnings.catch_warnings():  # that 20 labelings cannot reject at every level
        warnings.simplefilter("ignore")
        for repetition in range(repetitions):
            x, y = condition.draw(source)
            answers.append(case.pvalue(x, y, condition.permutations, repetition))
    return answers


def applies(case: Case, condition: Condition) -> bool:
    """Whether the samples of a condition are large enough for a test."""
    x, y = condition.draw(np.random.default_rng(0))
    return min(len(x), len(y)) >= case.least


def attainable(condition: Condition, level: float) -> float:
    """The largest size of at most ``level`` that ranks of continuous statistics can have.

    With n = m = 3 all 20 labelings are enumerated, and each has the value of its mirror image.
    """
    x, y = condition.draw(np.random.default_rng(0))
    ranks = 10 if len(x) == len(y) == 3 else condition.permutations + 1
    return float(np.floor(level * ranks + 1e-9) / ranks)


def judge(case: Case, condition: Condition, counts: dict[str, int], repetitions: int) -> list[str]:
    """What is wrong with a cell: rejections beyond the exact binomial bounds."""
    wrong = []
    for level in LEVELS:
        count = counts[str(level)]
        if count > binom.ppf(1 - RISK, repetitions, level):
            wrong.append(f"above {level:g}")
        exact = condition.continuous and not case.discrete and not case.conservative
        least = attainable(condition, level)
        if exact and least > 0 and count < binom.ppf(RISK, repetitions, least):
            wrong.append(f"below {least:g}")
    return wrong


def cell(case: Case, condition: Condition, repetitions: int) -> dict[str, Any]:
    """Rejections of one cell; where they look wrong, those of many fresh repetitions decide."""
    start, seed = time.perf_counter(), 0
    first = None
    while True:
        pvalues = np.array(run(case, condition, repetitions, seed=seed))
        counts = {str(level): int((pvalues <= level + 1e-12).sum()) for level in LEVELS}
        wrong = judge(case, condition, counts, repetitions)
        if not wrong or seed:
            break
        first, seed, repetitions = {"repetitions": repetitions, "rejections": counts}, 1, CONFIRM
    answer = {
        "test": case.name,
        "condition": condition.name,
        "permutations": condition.permutations,
        "repetitions": repetitions,
        "rejections": counts,
        "wrong": wrong,
        "seconds": round(time.perf_counter() - start, 1),
    }
    return answer if first is None else {**answer, "first_look": first}


def markdown(report: dict[str, Any]) -> str:
    """The table of rejection rates at both levels."""
    cells = {(c["test"], c["condition"]): c for c in report["cells"]}
    bounds = {
        level: 100 * binom.ppf(1 - RISK, REPETITIONS, level) / REPETITIONS for level in LEVELS
    }
    lines = [
        "# Calibration of the two-sample tests",
        "",
        "Share of rejections, in percent, at the levels 5% / 10% when both samples come from one",
        f"distribution; {REPETITIONS} repetitions a cell, data drawn anew for each test. A rate",
        f"above the exact binomial 99.9% bound ({bounds[0.05]:.1f}% / {bounds[0.1]:.1f}%) would be",
        "marked **bold**; so would one below the 0.1% bound for an exact test of continuous data.",
        f"A cell that crosses a bound at first is judged by {CONFIRM} fresh repetitions, marked †.",
        "Statistics of few values (counts, ranks) reject less than the level by discreteness;",
        "with n = 3 a p-value is a multiple of 1/10, so nothing rejects at 5%.",
        "",
        "| test | " + " | ".join(c.name for c in CONDITIONS) + " |",
        "|---|" + "---|" * len(CONDITIONS),
    ]
    for name in dict.fromkeys(c["test"] for c in report["cells"]):
        shown = [_shown(cells.get((name, condition.name))) for condition in CONDITIONS]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    flagged = [c for c in report["cells"] if c["wrong"]]
    lines += ["", f"{len(report['cells'])} cells, {len(flagged)} outside their bounds."]
    lines += [f"- {c['test']}, {c['condition']}: {', '.join(c['wrong'])}" for c in flagged]
    made = report["setting"]
    lines += [
        "",
        "Samples: n = m = 20, d = 2, B = 99 labelings unless the column says otherwise; "
        "heavy-tailed is Cauchy; 5:1 has n = 50, m = 10; d = 50 has n = m = 10.",
        "",
        f"`python benchmarks/calibration.py` on {made['date']}: {made['machine']}, one thread, "
        f"{sum(c['seconds'] for c in report['cells']) / 60:.0f} minutes, Python {made['python']}, "
        + ", ".join(f"{k} {v}" for k, v in made["versions"].items())
        + f", commit {made['commit']}.",
        "",
    ]
    return "\n".join(lines)


def _shown(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    rates = (100 * found["rejections"][str(level)] / found["repetitions"] for level in LEVELS)
    text = " / ".join(f"{rate:.1f}" for rate in rates) + ("†" if "first_look" in found else "")
    return f"**{text}**" if found["wrong"] else text


def main() -> int:
    """Fill in what is missing, write the table; 1 if a cell is outside its bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="tests whose name contains this")
    parser.add_argument("--redo", default=None, help="the same, forgetting their cells")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "calibration.json"
    known = json.loads(path.read_text())["cells"] if path.exists() else []
    if arguments.redo is not None:
        known = [c for c in known if arguments.redo not in c["test"]]
    done = {(c["test"], c["condition"]): c for c in known}
    word = arguments.only or arguments.redo or ""
    for case in CASES:
        for condition in CONDITIONS:
            key = case.name, condition.name
            if word not in case.name or key in done or not applies(case, condition):
                continue
            done[key] = cell(case, condition, arguments.repetitions)
            print(*key, _shown(done[key]), f"{done[key]['seconds']} s", flush=True)
            write(done, path)
    write(done, path)
    return int(any(c["wrong"] for c in done.values()))


def write(done: dict[tuple[str, str], dict[str, Any]], path: Path) -> None:
    """Both files, in the order of the tests; cells of tests no longer listed are dropped."""
    keys = [(case.name, condition.name) for case in CASES for condition in CONDITIONS]
    report = {
        "setting": setting(["torch", "numpy", "scipy"]),
        "cells": [done[key] for key in keys if key in done],
    }
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text(markdown(report))


if __name__ == "__main__":
    sys.exit(main())
