"""How the error of an estimate is found: influence, jackknife, bootstrap, subsampling."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._interval import Interval, normal_interval
from probmetrics.uncertainty.problem import Problem, Traits


@dataclass(frozen=True)
class AbstractMethod(abc.ABC):
    """A way to an interval."""

    @abc.abstractmethod
    def interval(self, problem: Problem, level: float) -> Interval:
        """The interval of a problem at a nominal coverage."""


@dataclass(frozen=True)
class Influence(AbstractMethod):
    """The variance of the influence function, the gradient of the estimate in the weights.

    References:
        Jaeckel (1972), "The infinitesimal jackknife"; Efron (1982), "The Jackknife, the
        Bootstrap and Other Resampling Plans", eq. (6.9).
    """

    def interval(self, problem: Problem, level: float) -> Interval:
        value, weights, gradients = problem.gradients()
        traits = problem.traits or Traits()
        variance = weighted_variance(weights[0], gradients[0])
        variance = variance + weighted_variance(weights[1], gradients[1])
        if traits.least:
            variance = torch.maximum(variance, traits.least(problem))
        error = (variance + extra(problem)).sqrt()
        bias = traits.bias(problem, value) if traits.bias else None
        return normal_interval(value, error, method="influence", level=level, bias=bias)


@dataclass(frozen=True)
class Jackknife(AbstractMethod):
    """Leave out groups of points, one group of one sample at a time.

    Args:
        groups: How many groups each sample is divided into; samples with fewer points leave out
            single points.

    References:
        Shao & Tu (1995), "The Jackknife and Bootstrap", eqs. (1.5), (1.8) and (2.26).
    """

    groups: int = 50

    def interval(self, problem: Problem, level: float) -> Interval:
        groups = checks.count(self.groups, "groups", minimum=2)
        value = problem.value()
        variance, bias = extra(problem) + torch.zeros_like(value), torch.zeros_like(value)
        for side, size in enumerate(problem.sizes):
            kept = leave_out(size, min(groups, size), problem)
            left = torch.stack(
                [problem.value(*((rows, None) if side == 0 else (None, rows))) for rows in kept]
            )
            centre, count = left.mean(0), len(left)
            variance += (count - 1) / count * (left - centre).square().sum(0)
            bias += (count - 1) * (centre - value)
        return normal_interval(value, variance.sqrt(), method="jackknife", level=level, bias=bias)


@dataclass(frozen=True)
class Bootstrap(AbstractMethod):
    """Draw both samples anew from themselves, with replacement: value ± z · standard deviation.

    Args:
        replicates: How many pairs of samples to draw.

    References:
        Efron & Tibshirani (1993), "An Introduction to the Bootstrap", algorithm 6.1.
    """

    replicates: int = 400

    def interval(self, problem: Problem, level: float) -> Interval:
        replicates = checks.count(self.replicates, "replicates", minimum=2)
        source, value = problem.generator, problem.value()
        drawn = [
            problem.value(
                *(
                    torch.randint(size, (size,), generator=source, device=source.device)
                    for size in problem.sizes
                )
            )
            for _ in range(replicates)
        ]
        error = (torch.stack(drawn).var(0) + extra(problem)).sqrt()
        return normal_interval(value, error, method="bootstrap", level=level)


@dataclass(frozen=True)
class Subsampling(AbstractMethod):
    r"""Recompute on smaller samples without replacement, and shrink what they scatter.

    With a share s of both samples, the quantiles of s^rate (θ* − mean θ*)/√(1 − s) stand for those
    of the estimator's error; 1 − s is the correction for drawing from finitely many points.

    Args:
        replicates: How many pairs of subsamples to draw.
        share: Of each sample to draw. None is min(n, m)^(−¼), but half the sample up to a
            thousand points.
        rate: ρ, if the estimator's error shrinks like n^(−ρ).

    References:
        Politis, Romano & Wolf (1999), "Subsampling", section 2.2 and eq. (10.2).
    """

    replicates: int = 400
    share: float | None = None
    rate: float = 0.5

    def interval(self, problem: Problem, level: float) -> Interval:
        replicates = checks.count(self.replicates, "replicates", minimum=2)
        rate = checks.positive(self.rate, "rate")
        value, share = problem.value(), self._share(min(problem.sizes))
        drawn = torch.stack(
            [
                problem.value(*(_some(size, share, problem) for size in problem.sizes))
                for _ in range(replicates)
            ]
        )
        deviation = (drawn - drawn.mean(0)) * (share**rate / (1 - share) ** 0.5)
        tails = torch.tensor([(1 - level) / 2, (1 + level) / 2]).to(deviation)
        lowest, highest = deviation.quantile(tails, dim=0)
        error = deviation.std(0)
        return Interval(
            value,
            torch.minimum(value - highest, value),
            torch.maximum(value - lowest, value),
            error,
            "subsampling",
            level,
            torch.zeros_like(value),
        )

    def _share(self, n: int) -> float:
        if self.share is not None:
            return checks.between(self.share, "share", 0.0, 1.0)
        return max(float(n**-0.25), min(0.5, 1000 / n))


METHODS: dict[str, AbstractMethod] = {
    "influence": Influence(),
    "jackknife": Jackknife(),
    "bootstrap": Bootstrap(),
    "subsampling": Subsampling(),
}


def weighted_variance(a: Tensor, h: Tensor) -> Tensor:
    """Variance of Σ a_i h_i, Σ a_i² (h_i − h̄)² / (1 − Σ a_i²); var(h)/n for uniform weights."""
    gap = h - (a * h).sum(-1, keepdim=True)
    return (a * gap).square().sum(-1) / (1 - a.square().sum(-1))


def extra(problem: Problem) -> Tensor:
    """Variance from other sources than the samples."""
    found = problem.traits.variance(problem) if problem.traits and problem.traits.variance else None
    return torch.zeros((), dtype=torch.float64, device=problem.x.device) if found is None else found


def leave_out(size: int, groups: int, problem: Problem) -> list[Tensor]:
    """What is left of a sample without each of several random groups."""
    source = problem.generator
    order = torch.randperm(size, generator=source, device=source.device)
    return [torch.cat(_others(order, group, groups)) for group in range(groups)]


def _others(order: Tensor, group: int, groups: int) -> list[Tensor]:
    return [order[start::groups] for start in range(groups) if start != group]


def _some(size: int, share: float, problem: Problem) -> Tensor:
    """A random share of the points of a sample, at least one, without replacement."""
    source = problem.generator
    order = torch.randperm(size, generator=source, device=source.device)
    return order[: max(1, round(share * size))]
