"""Tests on a graph of near points: do edges join points of the same sample too often?"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY
from probmetrics.pairwise.costs import Euclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.design import Pooled, pair, pooled
from probmetrics.twosample.edges import neighbor_edges, spanning_edges
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import AbstractPrepared, AbstractStatistic

FORMS = ("original", "generalized", "weighted", "max")
GRAPHS = ("mst", "knn")
LOOKUPS = 2**24  # labels of edge ends looked up at once


@table_test
def friedman_rafsky_test(
    x: SamplesX,
    y: SamplesY,
    *,
    cost: AbstractGround | None = None,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Friedman–Rafsky test: edges of the minimal spanning tree that join points of one sample.

    The tree of the pooled points has N − 1 edges. The statistic is how many of them join two
    points of the same sample: many when the samples live in different places.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        cost: Distance for the tree; ``None`` is Euclidean.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the tie-breaking order and then the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``. ``effect_size`` is the excess of the share of such edges over its mean
        under exchange, relative to the largest possible: 1 for separate samples, about 0 for
        equal ones. ``details`` has the counts within x, within y and between.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns.

    Notes:
        The tree takes O(N² d) time and linear memory, the labelings O(N B). Equal distances are
        resolved in a random order of the points, which knows nothing of the labels; resolving
        them in the order x, y would favour edges within a sample and reject too often.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 40, 2, generator=g)
        >>> friedman_rafsky_test(x, y + 5.0, generator=0).statistic
        78.0

    References:
        Friedman, Rafsky (1979), Multivariate generalizations of the Wald–Wolfowitz and Smirnov
        two-sample tests.
    """
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    sample = pooled(*pair(x, y), strata=strata, paired=paired)
    return _graph_test(sample, options, "mst", 1, "original", cost, "Friedman–Rafsky")


@table_test
def nearest_neighbor_test(
    x: SamplesX,
    y: SamplesY,
    *,
    k: int | None = None,
    cost: AbstractGround | None = None,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Nearest-neighbour test of Schilling and Henze: neighbours from the same sample.

    The statistic counts, over all points and their k nearest others in the pooled sample, the
    neighbours that belong to the same sample as the point.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        k: Neighbours of each point, at most N − 1; None is 5, or N − 1 where that is less.
        cost: What is near; ``None`` is the Euclidean distance.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the tie-breaking order and then the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; ``effect_size`` and ``details`` as for ``friedman_rafsky_test``, of the
        N·k directed edges.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, k too large.

    Notes:
        Neighbours take O(N² d) time and linear memory, the labelings O(N k B). Ties as for
        ``friedman_rafsky_test``.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 40, 2, generator=g)
        >>> nearest_neighbor_test(x, y + 1.0, generator=0).pvalue <= 0.01
        True

    References:
        Schilling (1986), Multivariate two-sample tests based on nearest neighbors; Henze (1988),
        A multivariate two-sample test based on the number of nearest neighbor type coincidences.
    """
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    sample = pooled(*pair(x, y), strata=strata, paired=paired)
    return _graph_test(sample, options, "knn", k, "original", cost, "{k} nearest neighbours")


@table_test
def edge_count_test(
    x: SamplesX,
    y: SamplesY,
    *,
    graph: str = "mst",
    k: int | None = None,
    form: str = "generalized",
    cost: AbstractGround | None = None,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Edge-count test on a graph of near points, sensitive to location and to scale.

    With R₁, R₂ edges within x and within y, means μ and covariance Σ over all labelings:

    - ``"original"``: R₁ + R₂. In high dimension, points of the sample with the larger spread find
      their neighbours in the other sample, and this form misses differences in scale.
    - ``"generalized"``: (R − μ)ᵀ Σ⁻¹ (R − μ), which sees both.
    - ``"weighted"``: the standardised (m − 1) R₁ + (n − 1) R₂, for location and unequal sizes.
    - ``"max"``: the larger of the weighted one and |R₁ − R₂| standardised.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        graph: ``"mst"``: the union of k successive minimal spanning trees that share no edge;
            ``"knn"``: each point joined to its k nearest.
        k: How many trees, at most (N − 1)/2, or neighbours, at most N − 1; None is 5, or the most
            where that is less.
        form: Which combination of the counts.
        cost: What is near; ``None`` is the Euclidean distance.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the tie-breaking order and then the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; ``effect_size`` and ``details`` as for ``friedman_rafsky_test``.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, k too large, an unknown
            graph or form.

    Notes:
        The graph takes O(k N² d) time and linear memory, the labelings O(N k B). The p-value
        comes from the labelings, not from the χ² limit; the moments only combine the counts.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 40, 10, generator=g)
        >>> edge_count_test(x, y * 1.5, generator=0).pvalue <= 0.01
        True

    References:
        Chen, Friedman (2017), A new graph-based two-sample test for multivariate and object data,
        eq. 1 and Lemma 3.1; Chen, Chen, Su (2018), A weighted edge-count two-sample test; Chu,
        Chen (2019), Asymptotic distribution-free change-point detection, eq. 3.
    """
    checks.choice(graph, "graph", GRAPHS)
    checks.choice(form, "form", FORMS)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    sample = pooled(*pair(x, y), strata=strata, paired=paired)
    return _graph_test(sample, options, graph, k, form, cost, f"{form} edge count ({{k}}-{graph})")


def _graph_test(
    sample: Pooled,
    options: PermutationOptions,
    graph: str,
    k: int | None,
    form: str,
    cost: AbstractGround | None,
    method: str,
) -> TestResult:
    points = len(sample.z)
    most = max(1, points - 1 if graph == "knn" else (points - 1) // 2)
    k = checks.count(min(5, most) if k is None else k, "k", maximum=most)
    source = options.source()
    order = torch.randperm(points, generator=source, device=source.device).to(sample.z.device)
    build = spanning_edges if graph == "mst" else neighbor_edges
    shuffled = build(sample.z[order], k, Euclidean() if cost is None else cost)
    statistic = EdgeStatistic(order[shuffled], form)
    permuted = replace(options, generator=source)
    return run_test(statistic, sample, permuted, method=method.format(k=k))


@dataclass(frozen=True)
class EdgeStatistic(AbstractStatistic):
    """Edges of a graph within groups 0 and 1, combined into one number.

    Attributes:
        edges: Pairs of positions in the pooled sample, shape (E, 2); repeated edges count twice.
        form: One of ``FORMS``.
    """

    edges: Tensor
    form: str = "original"

    def prepare(self, z: Any, sizes: tuple[int, ...]) -> "PreparedEdges":
        """Work out the moments of the counts over all labelings."""
        return PreparedEdges(self.edges, self.form, sizes)


class PreparedEdges(AbstractPrepared):
    """Edge counts with their moments over all labelings of these sizes."""

    tolerance = 1e-9

    def __init__(self, edges: Tensor, form: str, sizes: tuple[int, ...]) -> None:
        self.edges, self.form, self.sizes = edges, form, sizes
        self.batch = max(1, LOOKUPS // max(1, 2 * len(edges)))
        self.mean, self.covariance = edge_moments(edges, *sizes)

    def counts(self, labels: Tensor) -> Tensor:
        """(R₁, R₂): edges within groups 0 and 1, shape (B, 2), as ``float64``."""
        labels = labels.to(self.edges.device)
        first, second = labels[:, self.edges[:, 0]], labels[:, self.edges[:, 1]]
        same = first == second
        ones = (same & (first == 1)).sum(-1)
        return torch.stack([same.sum(-1) - ones, ones], dim=-1).double()

    def evaluate(self, labels: Tensor) -> Tensor:
        counts = self.counts(labels)
        if self.form == "original":
            return counts.sum(-1)
        gap = counts - self.mean
        if self.form == "generalized":
            # Σ is singular where R₁ − R₂ or R₁ + R₂ is the same for every labeling.
            inverse = torch.linalg.pinv(self.covariance, hermitian=True, rtol=1e-10)
            quadratic: Tensor = ((gap @ inverse) * gap).sum(-1)
            return quadratic
        n, m = self.sizes
        weighted = self._standardised(gap, torch.tensor([m - 1.0, n - 1.0]))
        if self.form == "weighted":
            return weighted
        return torch.maximum(weighted, self._standardised(gap, torch.tensor([1.0, -1.0])).abs())

    def effect(self, labels: Tensor) -> float | None:
        """Excess of the share of edges within samples, relative to the largest possible."""
        total = len(self.edges)
        expected = float(self.mean.sum()) / total
        share = float(self.counts(labels[None]).sum()) / total
        return (share - expected) / (1 - expected)

    def details(self, labels: Tensor) -> dict[str, Any]:
        """Counts of edges, and their means over all labelings."""
        within_x, within_y = self.counts(labels[None])[0].tolist()
        return {
            "within_x": within_x,
            "within_y": within_y,
            "between": len(self.edges) - within_x - within_y,
            "expected_within": self.mean.tolist(),
        }

    def _standardised(self, gap: Tensor, weights: Tensor) -> Tensor:
        weights = weights.to(gap)
        variance = float(weights @ self.covariance @ weights)
        value = gap @ weights
        scale = float(self.covariance.trace() * weights.square().sum())
        scaled: Tensor = value * (variance**-0.5 if variance > 1e-12 * scale else 0.0)
        return scaled


def edge_moments(edges: Tensor, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of (R₁, R₂) over all labelings with n and m points.

    Pairs of edges are the same, share one point, or none; each kind has its own chance that all
    its points get one label.

    Args:
        edges: Positions, shape (E, 2); an edge listed twice counts twice.
        n: Points of group 0.
        m: Points of group 1.
    """
    points, total = n + m, len(edges)
    ends = edges.sort(-1).values
    _, copies = torch.unique(ends[:, 0] * points + ends[:, 1], return_counts=True)
    same = float(copies.double().square().sum())  # ordered pairs of equal edges
    degree = torch.bincount(edges.reshape(-1), minlength=points).double()
    # Σ deg² counts an ordered pair once per shared point: equal edges share two.
    touching = float(degree.square().sum()) - 2 * same
    apart = total**2 - same - touching

    def chance(group: int, k: int) -> float:
        """That k given points all fall into a group of this size."""
        value = 1.0
        for i in range(k):
            value *= max(group - i, 0) / max(points - i, 1)
        return value

    mean = [total * chance(size, 2) for size in (n, m)]
    variance = [
        same * chance(size, 2)
        + touching * chance(size, 3)
        + apart * chance(size, 4)
        - (total * chance(size, 2)) ** 2
        for size in (n, m)
    ]
    both = n * (n - 1) * m * (m - 1) / max(points * (points - 1), 1)
    both /= max((points - 2) * (points - 3), 1)
    cross = apart * both - mean[0] * mean[1]
    covariance = [[variance[0], cross], [cross, variance[1]]]
    return (
        torch.tensor(mean, dtype=torch.float64, device=edges.device),
        torch.tensor(covariance, dtype=torch.float64, device=edges.device),
    )
