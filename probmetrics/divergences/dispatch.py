"""From what the user has (vectors or Distributions) to the code that measures it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from probmetrics._arrays import Values
from probmetrics.divergences import bins, closed_form
from probmetrics.divergences.family import Alpha, named
from probmetrics.divergences.montecarlo import MonteCarloEstimate
from probmetrics.divergences.row import CriticRow, FDivergence, from_function

if TYPE_CHECKING:
    Probabilities = Any
    Answer = Any
else:
    Probabilities = Float[Tensor, "*#batch k"] | Distribution
    Answer = Values | MonteCarloEstimate

Seed = torch.Generator | int | None
DRAWS = 10_000


def evaluate(
    row: FDivergence, p: Any, q: Any, log: bool, normalize: bool, draws: Any, generator: Any
) -> Any:
    """The public value of one f-divergence between two vectors or two Distributions."""
    if are_distributions(p, q, log, normalize):
        return closed_form.divergence(row, p, q, draws=draws, generator=generator)
    shared, dtype = bins.pair(p, q, log=log, normalize=normalize)
    return bins.divergence(row, shared).to(dtype)


def evaluate_renyi(
    alpha: float, p: Any, q: Any, log: bool, normalize: bool, draws: Any, generator: Any
) -> Any:
    """Rényi's divergence of order α ∉ {0, 1, ∞} between two vectors or two Distributions."""
    if are_distributions(p, q, log, normalize):
        return closed_form.renyi(alpha, p, q, draws=draws, generator=generator)
    shared, dtype = bins.pair(p, q, log=log, normalize=normalize)
    return bins.renyi(shared, alpha, Alpha(alpha)).to(dtype)


def are_distributions(p: Any, q: Any, log: bool, normalize: bool) -> bool:
    """Whether both are Distributions; refuses mixtures of kinds and everything else."""
    kinds = [isinstance(side, Distribution) for side in (p, q)]
    for side, name, other in ((p, "p", kinds[1]), (q, "q", kinds[0])):
        if not isinstance(side, Tensor | Distribution) or isinstance(side, Distribution) != other:
            raise TypeError(
                f"{name} is {type(side).__name__}; pass two probability vectors or two "
                f"torch.distributions.Distribution, got {type(p).__name__} and {type(q).__name__}"
            )
    if all(kinds) and (log or normalize):
        raise ValueError("log= and normalize= are for probability vectors, not for Distributions")
    return all(kinds)


def row_of(f: FDivergence | CriticRow | str | Callable[[Tensor], Tensor]) -> FDivergence:
    """A row from a row, its name, or a bare convex function."""
    row = named(f) if isinstance(f, str) else f
    if isinstance(row, FDivergence):
        return row
    if callable(row):
        return from_function(row)
    raise TypeError(
        f"f must be an f-divergence of the family, its name or a convex function of p/q, got {f!r}"
    )


def root(value: Any) -> Any:
    """Square root of a squared distance, with gradient zero (not infinite) where it is zero."""
    if isinstance(value, MonteCarloEstimate):
        return _root_estimate(value)
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1.0).sqrt(), 0.0).to(value.dtype)


def _root_estimate(squared: MonteCarloEstimate) -> MonteCarloEstimate:
    value = root(squared.value)
    safe = torch.where(value > 0, value, 1.0)
    return MonteCarloEstimate(
        value,
        torch.where(value > 0, squared.standard_error / (2 * safe), squared.standard_error.sqrt()),
        root(squared.low),
        root(squared.high),
        squared.effective_sample_size,
        squared.draws,
    )
