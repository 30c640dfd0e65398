"""Which method suits which estimator of the package: one line each."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from probmetrics.discrepancy import (
    block_mmd,
    default_kernel,
    energy_distance,
    linear_mmd,
    mmd,
    random_feature_mmd,
)
from probmetrics.divergences.neighbors import (
    bhattacharyya_neighbors,
    hellinger_neighbors,
    jeffrey_neighbors,
    kl_neighbors,
    renyi_neighbors,
    tsallis_neighbors,
)
from probmetrics.gaussian.frechet import frechet_distance
from probmetrics.pairwise.costs import Euclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.transport.cdf import cdf_distance, cramer_distance, kolmogorov_distance
from probmetrics.transport.directions import unit_directions
from probmetrics.transport.exact import wasserstein
from probmetrics.transport.line import wasserstein_1d
from probmetrics.transport.sliced import sliced_wasserstein, sliced_wasserstein_estimate
from probmetrics.uncertainty.methods import AbstractMethod, Influence, Subsampling, leave_out
from probmetrics.uncertainty.problem import Options, Problem, Traits, option

GROUPS = 4  # left out in turn to estimate a bias of order 1/n
PAIRED = 500  # points of a sample whose pairs tell a second-order variance


def known_estimators() -> dict[Callable[..., Any], tuple[AbstractMethod, Traits]]:
    """The method that "auto" chooses for an estimator, and what has to be known about it."""
    kernel = Traits(prepare=_fix_kernel, bias=_diagonal_bias, least=_kernel_least)
    features = Traits(prepare=_fix_frequencies, bias=_diagonal_bias)
    sliced = Traits(prepare=_fix_directions, variance=_direction_variance, bias=_group_bias)
    return {
        mmd: (Influence(), kernel),
        block_mmd: (Subsampling(), Traits(prepare=_fix_kernel)),
        linear_mmd: (Subsampling(), Traits(prepare=_fix_kernel)),
        random_feature_mmd: (Influence(), features),
        energy_distance: (Influence(), Traits(bias=_diagonal_bias, least=_energy_least)),
        wasserstein_1d: (Influence(), Traits(line=True, bias=_group_bias)),
        cdf_distance: (Influence(), Traits(line=True, bias=_group_bias)),
        cramer_distance: (Influence(), Traits(line=True, bias=_group_bias)),
        kolmogorov_distance: (Subsampling(), Traits(line=True)),
        wasserstein: (Influence(), Traits(bias=_group_bias)),
        sliced_wasserstein: (Influence(), sliced),
        kl_neighbors: (Subsampling(), Traits()),
        jeffrey_neighbors: (Subsampling(), Traits()),
        renyi_neighbors: (Subsampling(), Traits()),
        tsallis_neighbors: (Subsampling(), Traits()),
        hellinger_neighbors: (Subsampling(), Traits()),
        bhattacharyya_neighbors: (Subsampling(), Traits()),
        frechet_distance: (Influence(), Traits(bias=_group_bias)),
    }


def _fix_kernel(x: Tensor, y: Tensor, options: Options, generator: torch.Generator) -> Options:
    """The bandwidth that would be read off the data, as a constant."""
    if options.get("kernel") is not None:
        return options
    return {**options, "kernel": default_kernel(x, y)}


def _fix_frequencies(x: Tensor, y: Tensor, options: Options, generator: torch.Generator) -> Options:
    """Bandwidth and random frequencies, the same in every evaluation."""
    drawn = torch.randint(2**31, (), generator=generator, device=generator.device)
    return {**_fix_kernel(x, y, options, generator), "generator": int(drawn)}


def _fix_directions(x: Tensor, y: Tensor, options: Options, generator: torch.Generator) -> Options:
    """The directions that would be drawn, drawn once."""
    names = ("directions", "projections", "features")
    kind, projections, features = (option(sliced_wasserstein, options, name) for name in names)
    like = x if features is None else features(x)
    drawn = unit_directions(kind, projections, like, generator)
    rest = {k: v for k, v in options.items() if k not in ("directions", "projections")}
    return {**rest, "directions": drawn}


def _direction_variance(problem: Problem) -> Tensor | None:
    """Squared standard error over the draw of the directions; None where they were given."""
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
    """The jackknife's bias, leaving out a quarter of both samples at a time."""
    groups = min(GROUPS, min(problem.sizes) // 2)
    if groups < 2:
        return None
    sides = [leave_out(size, groups, problem) for size in problem.sizes]
    left = torch.stack([problem.value(*rows) for rows in zip(*sides, strict=True)])
    return (groups - 1) * (left.mean(0) - value)


def _kernel_least(problem: Problem) -> Tensor:
    return _second_order(problem, problem.options["kernel"].core)


def _energy_least(problem: Problem) -> Tensor:
    return _second_order(problem, Euclidean(option(energy_distance, problem.options, "power")))


def _second_order(problem: Problem, kernel: AbstractGround) -> Tensor:
    """Variance of the degenerate part of a U-statistic, 2ζ_x/n² + 2ζ_y/m² + 4ζ_xy/(nm).

    ζ is the mean square of the doubly centred kernel between points of one or both samples, from
    at most ``PAIRED`` of each; under weights, 1/n stands for Σ a².

    References:
        Hoeffding (1948), eq. (5.13); Lee (1990), "U-Statistics", section 1.6.
    """
    sides, shares = [], []
    with torch.no_grad():
        for points, weights, size in zip(
            (problem.x, problem.y), (problem.a, problem.b), problem.sizes, strict=True
        ):
            source = problem.generator
            chosen = torch.randperm(size, generator=source, device=source.device)[:PAIRED]
            sides.append(points.index_select(-2, chosen).double())
            share = torch.tensor(1.0 / size) if weights is None else weights.square().sum(-1)
            shares.append(share.to(points.device).double())
        (x, y), (in_x, in_y) = sides, shares
        within = 2 * in_x**2 * _scatter(kernel, x, x) + 2 * in_y**2 * _scatter(kernel, y, y)
        return within + 4 * in_x * in_y * _scatter(kernel, x, y)


def _scatter(kernel: AbstractGround, x: Tensor, y: Tensor) -> Tensor:
    """Mean square of the kernel between two samples, both its means taken off."""
    matrix = kernel(x, y)
    matrix = matrix - matrix.mean(-1, keepdim=True)
    squares = (matrix - matrix.mean(-2, keepdim=True)).square()
    if x is not y:
        return squares.mean((-2, -1))
    n = x.shape[-2]
    diagonal = squares.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (squares.sum((-2, -1)) - diagonal) / (n * (n - 1))
