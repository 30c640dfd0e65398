"""Which method suits which estimator of the package: one line each."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from probmetrics.uncertainty.methods import AbstractMethod, Influence, Subsampling, leave_out
from probmetrics.uncertainty.problem import Options, Problem, Traits, option

GROUPS = 8  # left out in turn to estimate a bias of order 1/n


def known_estimators() -> dict[Callable[..., Any], tuple[AbstractMethod, Traits]]:
    """The method that "auto" chooses for an estimator, and what has to be known about it."""
    from probmetrics.discrepancy import energy_distance, mmd
    from probmetrics.gaussian.frechet import frechet_distance
    from probmetrics.transport.cdf import cdf_distance, cramer_distance, kolmogorov_distance
    from probmetrics.transport.exact import wasserstein
    from probmetrics.transport.line import wasserstein_1d
    from probmetrics.transport.sliced import sliced_wasserstein

    directions = Traits(prepare=_fix_directions, variance=_direction_variance)
    return {
        mmd: (Influence(), Traits(prepare=_fix_kernel, bias=_diagonal_bias)),
        energy_distance: (Influence(), Traits(bias=_diagonal_bias)),
        wasserstein_1d: (Influence(), Traits(line=True)),
        cdf_distance: (Influence(), Traits(line=True)),
        cramer_distance: (Influence(), Traits(line=True)),
        kolmogorov_distance: (Subsampling(), Traits(line=True)),
        wasserstein: (Influence(), Traits()),
        sliced_wasserstein: (Influence(), directions),
        frechet_distance: (Influence(), Traits(bias=_group_bias)),
    }


def _fix_kernel(x: Tensor, y: Tensor, options: Options, generator: torch.Generator) -> Options:
    """The bandwidth that would be read off the data, as a constant."""
    from probmetrics.discrepancy import default_kernel

    if options.get("kernel") is not None:
        return options
    return {**options, "kernel": default_kernel(x, y)}


def _fix_directions(x: Tensor, y: Tensor, options: Options, generator: torch.Generator) -> Options:
    """The directions that would be drawn, drawn once."""
    from probmetrics.transport.directions import unit_directions
    from probmetrics.transport.sliced import sliced_wasserstein

    names = ("directions", "projections", "features")
    kind, projections, features = (option(sliced_wasserstein, options, name) for name in names)
    like = x if features is None else features(x)
    drawn = unit_directions(kind, projections, like, generator)
    rest = {k: v for k, v in options.items() if k not in ("directions", "projections")}
    return {**rest, "directions": drawn}


def _direction_variance(problem: Problem) -> Tensor | None:
    """Squared standard error over the draw of the directions; None where they were given."""
    from probmetrics.transport.sliced import sliced_wasserstein_estimate

    if isinstance(problem.given.get("directions"), Tensor):
        return None
    options = {**problem.options, "root": False, "a": problem.a, "b": problem.b}
    error: Tensor = sliced_wasserstein_estimate(problem.x, problem.y, **options).standard_error
    return error.double().square()


def _diagonal_bias(problem: Problem, value: Tensor) -> Tensor | None:
    """What the kernels of points with themselves add to a V-statistic."""
    if option(problem.estimator, problem.options, "unbiased"):
        return None
    options = {**problem.options, "unbiased": True, "a": problem.a, "b": problem.b}
    with torch.no_grad():
        unbiased: Tensor = problem.estimator(problem.x, problem.y, **options)
    return value - unbiased.double()


def _group_bias(problem: Problem, value: Tensor) -> Tensor | None:
    """The jackknife's bias, leaving out an eighth of both samples at a time."""
    groups = min(GROUPS, min(problem.sizes) // 2)
    if groups < 2:
        return None
    sides = [leave_out(size, groups, problem) for size in problem.sizes]
    left = torch.stack([problem.value(*rows) for rows in zip(*sides, strict=True)])
    return (groups - 1) * (left.mean(0) - value)
