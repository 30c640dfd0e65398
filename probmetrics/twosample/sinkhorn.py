"""The Sinkhorn divergence as a test: all labelings scale one kernel matrix together."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY, WeightsX, WeightsY
from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.transport.sinkhorn import sinkhorn_divergence
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.design import no_weights, pair, pooled
from probmetrics.twosample.groups import above_null, split_rows
from probmetrics.twosample.kernel_statistic import wide
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import BUDGET, AbstractPrepared, AbstractStatistic

SHARE = 0.05  # ε for None: this share of the mean cost between pooled points …
DEEPEST = 300.0  # … but no less than the largest cost over this, so that exp(−C/ε) stays positive
STEPS = 500  # most passes


@table_test
def sinkhorn_test(
    x: SamplesX,
    y: SamplesY,
    *,
    epsilon: float | None = None,
    cost: AbstractGround | None = None,
    tolerance: float = 1e-3,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    a: WeightsX | None = None,
    b: WeightsY | None = None,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Permutation test with the Sinkhorn divergence, entropic transport without its bias.

    The statistic is S_ε = OT_ε(x, y) − ½ OT_ε(x, x) − ½ OT_ε(y, y), as ``sinkhorn_divergence``
    returns it. Small ε compares like the Wasserstein distance, large ε like an MMD.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        epsilon: ε, in units of the cost. ``None`` reads it off the pooled sample, which sees no
            labels: 0.05 of the mean cost, but at least 1/300 of the largest.
        cost: A cost of ``probmetrics.pairwise.costs``; None is ‖x − y‖².
        tolerance: Largest L1 error of the marginals of every labeling's plans; the value errs by
            its square.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only.
        a: Weights are refused: weighted points cannot exchange labels.
        b: As ``a``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; ``details`` has ``epsilon``. ``effect_size`` is the divergence less its
        mean over the labelings, in units of half the mean pooled cost (the total variance, for
        the squared distance).

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, weights, ε not above zero.

    Warns:
        RuntimeWarning: Some labelings missed the tolerance. The p-value stays valid, as all of
            them are treated alike.

    Notes:
        One N×N matrix K serves all labelings: it is first scaled by the pooled sample's own
        potentials, to row means of one, so that every labeling starts near its solution; a pass
        over all of them is one matrix product, 2 N² B flops, and labelings that have converged
        leave it. Memory 8 N² bytes and as much for a batch. For an ε so small that exp(−C/ε)
        vanishes, labelings are solved one by one in the log domain, which is slow.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 40, 2, generator=g)
        >>> sinkhorn_test(x, y + 0.8, generator=0).pvalue <= 0.01
        True

    References:
        Genevay, Peyré, Cuturi (2018), Learning generative models with Sinkhorn divergences; Feydy
        et al. (2019), Interpolating between optimal transport and MMD using Sinkhorn divergences.
    """
    no_weights(a, b)
    x, y = pair(x, y)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    epsilon = None if epsilon is None else checks.positive(epsilon, "epsilon")
    tolerance = checks.positive(tolerance, "tolerance")
    sample = pooled(x, y, strata=strata, paired=paired)
    chosen = SqEuclidean() if cost is None else cost
    result = run_test(
        SinkhornStatistic(chosen, epsilon, tolerance), sample, options, method="Sinkhorn divergence"
    )
    missed, mean_cost = result.details.pop("missed"), result.details.pop("mean_cost")
    found = result.warnings
    if missed:
        message = (
            f"{missed} labelings missed the tolerance {tolerance:g} after {STEPS} passes; "
            "use a larger epsilon"
        )
        import warnings

        warnings.warn(message, RuntimeWarning, stacklevel=2)
        found = (*found, message)
    return replace(result, warnings=found, effect_size=above_null(result, mean_cost / 2))


@dataclass(frozen=True)
class SinkhornStatistic(AbstractStatistic):
    """Sinkhorn divergence between the groups of every labeling.

    Attributes:
        cost: The cost.
        epsilon: ε; None reads it off the pooled sample.
        tolerance: Largest L1 error of the marginals.
    """

    cost: AbstractGround
    epsilon: float | None = None
    tolerance: float = 1e-3

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedSinkhorn":
        """Compute the costs once, and scale their kernel matrix."""
        points = wide(z)
        with torch.no_grad():
            costs = self.cost(points, points)
        return _PreparedSinkhorn(self, points, costs, sizes)


class _PreparedSinkhorn(AbstractPrepared):
    """Scalings of K̃ = diag(t) exp(−C/ε) diag(t), whose rows average one.

    With p = ε log t the potentials of a labeling are p + ε log s. The shift by p is common to all
    three problems of the divergence and cancels: S_ε = ε (⟨a, log s − log s_a⟩ + ⟨b, …⟩).
    """

    tolerance = 1e-6

    def __init__(
        self, made: SinkhornStatistic, points: Tensor, costs: Tensor, sizes: tuple[int, ...]
    ) -> None:
        self.made, self.points, self.sizes = made, points, sizes
        self.mean_cost, most = float(costs.mean()), float(costs.abs().max())
        default = max(SHARE * self.mean_cost, most / DEEPEST)
        self.epsilon = (default if default > 0 else 1.0) if made.epsilon is None else made.epsilon
        self.floor = 1e-3 * made.tolerance * self.epsilon
        self.batch = max(1, BUDGET // (64 * len(points)))
        self.missed = 0
        self.deep = most > 2 * DEEPEST * self.epsilon
        self.kernel = None if self.deep else self._scaled(torch.exp(costs / -self.epsilon))

    def _scaled(self, kernel: Tensor) -> Tensor:
        """K̃, by symmetric scaling with the pooled sample's own potentials."""
        everyone = torch.full_like(kernel[:1], 1 / len(kernel))
        scale = self._own(everyone, kernel)[0][0]
        scaled: Tensor = scale[:, None] * kernel * scale
        return scaled

    def details(self, labels: Tensor) -> dict[str, Any]:
        """The regularisation, and how many labelings missed the tolerance."""
        return {"epsilon": self.epsilon, "mean_cost": self.mean_cost, "missed": self.missed}

    def evaluate(self, labels: Tensor) -> Tensor:
        first = labels.to(self.points.device) == 0
        # Which sample is updated first must not depend on which is called x.
        n, m = self.sizes
        turn = first[:, 0] if n == m else torch.full_like(first[:, 0], n < m)
        first = torch.where(turn[:, None], first, ~first)
        if self.kernel is None:
            return torch.stack([self._deep(row) for row in first])
        a = first.to(self.kernel) / first.sum(-1, keepdim=True)
        b = (~first).to(self.kernel) / (~first).sum(-1, keepdim=True)
        s, t = self._cross(a, b, self.kernel)
        (own_a, mass_a), (own_b, mass_b) = (self._own(w, self.kernel) for w in (a, b))
        logs = (a * (s / own_a).log()).sum(-1) + (b * (t / own_b).log()).sum(-1)
        return self.epsilon * (logs + (mass_a - 1) / 2 + (mass_b - 1) / 2)

    def _own(self, a: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """s with s · K(a s) = 1 where a > 0, and the mass a·s K a·s (one if converged).

        Geometric means of the old and the new scaling converge where plain steps may oscillate.
        """
        scale, mass = torch.ones_like(a), torch.ones_like(a[:, 0])
        left = torch.arange(len(a), device=a.device)
        for _ in range(STEPS):
            here, weight = scale[left], a[left]
            rows = (weight * here) @ kernel
            balance = here * rows
            mass[left] = (weight * balance).sum(-1)
            going = (weight * (balance - 1).abs()).sum(-1) > self.made.tolerance
            left = left[going]
            if len(left) == 0:
                break
            scale[left] = (here / rows)[going].sqrt()
        self.missed += len(left)
        return scale, mass

    def _cross(self, a: Tensor, b: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """s, t with s · K(b t) = 1 where a > 0, and t · K(a s) = 1 where b > 0."""
        s, t = torch.ones_like(a), torch.ones_like(b)
        left = torch.arange(len(a), device=a.device)
        for _ in range(STEPS):
            weight, here = b[left], t[left]
            s[left] = 1 / ((weight * here) @ kernel)
            columns = (a[left] * s[left]) @ kernel
            going = (weight * (here * columns - 1).abs()).sum(-1) > self.made.tolerance
            left = left[going]
            if len(left) == 0:
                break
            t[left] = 1 / columns[going]
        self.missed += len(left)
        return s, t

    def _deep(self, first: Tensor) -> Tensor:
        """The divergence of one labeling in the log domain."""
        x, y = split_rows(self.points, first[None])
        with torch.no_grad():
            value: Tensor = sinkhorn_divergence(
                x[0],
                y[0],
                epsilon=self.epsilon,
                cost=self.made.cost,
                tolerance=self.made.tolerance,
            )
        return value.double()
