"""A Gaussian law as an argument: its mean, and its covariance in one of three forms."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy, is_array, to_numpy, to_tensor
from probmetrics.gaussian.covariance import AbstractCovariance, Diagonal, Full, LowRank
from probmetrics.gaussian.frechet import checked_covariance
from probmetrics.gaussian.roots import symmetric

P = ParamSpec("P")
R = TypeVar("R")

_FIELDS = ("mean", "covariance", "diagonal", "factor")
_AXES = {"mean": 1, "covariance": 2, "diagonal": 1, "factor": 2}  # behind the batch


@dataclass(frozen=True, eq=False, repr=False)
class Gaussian:
    """The normal law N(mean, Σ), with Σ full, diagonal, or diagonal plus low-rank.

    The form is named rather than guessed from shapes: a batch of d vectors of variances and one
    d×d matrix have the same shape. So a divergence takes two laws, ``gaussian_kl(p, q)``, and
    no signature has to tell three kinds of covariance apart; functions that need only means and
    covariance matrices, as ``gaussian_frechet``, take those.

    Args:
        mean: Shape (*batch, d).
        covariance: Σ, shape (*batch, d, d).
        diagonal: Variances, shape (*batch, d): Σ = diag(diagonal), plus
        factor: W, shape (*batch, d, r), if given: Σ = diag(diagonal) + WWᵀ.

    All may be NumPy arrays (or lists), and then answers are floats or NumPy arrays, or all
    tensors, and then answers are differentiable tensors. Batch dimensions broadcast.

    Raises:
        ValueError: Both or neither of covariance and diagonal; shapes that do not match; NaN;
            a covariance that is not symmetric; negative variances.
        TypeError: NumPy arrays and tensors mixed.

    Example:
        >>> Gaussian([0.0, 1.0], diagonal=[1.0, 4.0])
        Gaussian(d=2, batch=(), diagonal)
    """

    mean: Any
    covariance: Any = None
    diagonal: Any = None
    factor: Any = None

    def __post_init__(self) -> None:
        answers_in_numpy(self.arrays())
        tensors = {name: to_tensor(value, name) for name, value in self.arrays().items()}
        if (self.covariance is None) == (self.diagonal is None):
            raise ValueError(
                "a Gaussian needs either covariance= (full) or diagonal= (variances), "
                f"got {'neither' if self.covariance is None else 'both'}"
            )
        if self.factor is not None and self.diagonal is None:
            raise ValueError("factor= goes with diagonal=: the covariance is diag(diagonal) + WWᵀ")
        mean = tensors["mean"]
        if mean.ndim < 1 or mean.shape[-1] == 0:
            raise ValueError(f"mean must have shape (*batch, d), got {tuple(mean.shape)}")
        wanted = {"covariance": "(*batch, d, d)", "diagonal": "(*batch, d)"}
        for name, tensor in tensors.items():
            checks.finite(tensor, name)
            axis = -2 if name == "factor" else -1
            if tensor.ndim < -axis or tensor.shape[axis] != mean.shape[-1]:
                raise ValueError(
                    f"{name} must have shape {wanted.get(name, '(*batch, d, r)')} with "
                    f"d = {mean.shape[-1]} as in mean, got {tuple(tensor.shape)}"
                )
            checks.broadcastable(
                mean.shape[:-1],
                tensor.shape[: -1 if name in ("mean", "diagonal") else -2],
                ("mean", name),
            )
        if "covariance" in tensors:
            checked_covariance(tensors["covariance"], "covariance")
        elif checks.readable(mean) and bool((tensors["diagonal"].detach() < 0).any()):
            raise ValueError(
                f"diagonal has negative variances (smallest "
                f"{tensors['diagonal'].detach().min().item():.3g})"
            )

    @classmethod
    def of(cls, distribution: torch.distributions.Distribution) -> "Gaussian":
        """The law of a torch distribution.

        Args:
            distribution: ``MultivariateNormal``, ``LowRankMultivariateNormal``, ``Normal`` (read
                as one coordinate, d = 1) or ``Independent(Normal(...), 1)`` (d coordinates).

        Raises:
            TypeError: Any other distribution.
        """
        kinds = torch.distributions
        if isinstance(distribution, kinds.MultivariateNormal):
            return cls(distribution.loc, covariance=distribution.covariance_matrix)
        if isinstance(distribution, kinds.LowRankMultivariateNormal):
            return cls(
                distribution.loc, diagonal=distribution.cov_diag, factor=distribution.cov_factor
            )
        if isinstance(distribution, kinds.Normal):
            return cls(distribution.mean[..., None], diagonal=distribution.variance[..., None])
        if (
            isinstance(distribution, kinds.Independent)
            and isinstance(distribution.base_dist, kinds.Normal)
            and distribution.reinterpreted_batch_ndims == 1
        ):
            return cls(distribution.mean, diagonal=distribution.variance)
        raise TypeError(
            f"{type(distribution).__name__} is not a Gaussian this function knows; pass Normal, "
            "Independent(Normal, 1), MultivariateNormal or LowRankMultivariateNormal"
        )

    def arrays(self) -> dict[str, Any]:
        """The arrays it is made of, by name."""
        return {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}

    def spread(self) -> AbstractCovariance:
        """The covariance as an object that solves for itself; for laws made of tensors."""
        if self.covariance is not None:
            return Full(symmetric(self.covariance))
        if self.factor is not None:
            return LowRank(self.diagonal, self.factor)
        return Diagonal(self.diagonal)

    @property
    def batch(self) -> torch.Size:
        """The batch shape that its arrays broadcast to."""
        return checks.common_batch(
            *(value.shape[: value.ndim - _AXES[name]] for name, value in self.arrays().items())
        )

    def in_units(self, length: Tensor) -> "Gaussian":
        """The law of X / length for components along the last batch dimension.

        Args:
            length: A length for each mixture, shape (*batch): the batch without its last dimension.
        """
        units = {name: length[(..., None) + (None,) * axes] for name, axes in _AXES.items()}
        return Gaussian(
            **{
                name: value / units[name] / (1 if name in ("mean", "factor") else units[name])
                for name, value in self.arrays().items()
            }
        )

    def with_axis(self, before_last: bool) -> "Gaussian":
        """A law with one more batch axis, after the last one or before it.

        Laws of batch (*batch, k) and (*batch, l) become (*batch, k, 1) and (*batch, 1, l), which
        broadcast to all pairs.
        """
        batch = self.batch
        return Gaussian(
            **{
                name: value.expand(*batch, *value.shape[value.ndim - _AXES[name] :]).unsqueeze(
                    -_AXES[name] - (2 if before_last else 1)
                )
                for name, value in self.arrays().items()
            }
        )

    def __repr__(self) -> str:
        shape = tuple(to_tensor(self.mean).shape)
        form = "covariance" if self.diagonal is None else "diagonal"
        rank = "" if self.factor is None else f" + rank {to_tensor(self.factor).shape[-1]}"
        return f"Gaussian(d={shape[-1]}, batch={shape[:-1]}, {form}{rank})"


def gaussian_function(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function of Gaussians in float64 tensors take laws made of any arrays.

    Laws are converted to float64, arrays beside them to tensors; the answer comes back in the
    kind and dtype they had.

    Raises:
        TypeError: A parameter annotated as ``Gaussian`` that is none; arrays of mixed kinds.
        ValueError: Laws of different dimensions, or on different devices.
    """
    signature = inspect.signature(function)
    laws = [name for name, par in signature.parameters.items() if par.annotation is Gaussian]

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        arrays: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if name in laws:
                if not isinstance(value, Gaussian):
                    raise TypeError(
                        f"{name} must be a Gaussian, got {type(value).__name__}; write "
                        "Gaussian(mean, covariance=...) or Gaussian(mean, diagonal=...)"
                    )
                arrays |= {f"{name}.{part}": array for part, array in value.arrays().items()}
            elif is_array(value):
                arrays[name] = value
        as_numpy = answers_in_numpy(arrays)
        tensors = {name: to_tensor(value, name) for name, value in arrays.items()}
        dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors.values()))
        _agree({name: bound.arguments[name] for name in laws}, tensors)
        for name, value in bound.arguments.items():
            if name in laws:
                bound.arguments[name] = Gaussian(
                    **{part: tensors[f"{name}.{part}"].double() for part in value.arrays()}
                )
            elif name in tensors:
                bound.arguments[name] = tensors[name]
        result: Any = function(*bound.args, **bound.kwargs)
        result = result.to(dtype)
        answer: R = to_numpy(result) if as_numpy else result
        return answer

    return wrapper


def compared(p: Gaussian, q: Gaussian) -> tuple[Tensor, AbstractCovariance, AbstractCovariance]:
    """Difference of the means and both covariances, of laws that have densities.

    Raises:
        ValueError: A covariance that is not positive definite.
    """
    spreads = []
    for name, law in (("p", p), ("q", q)):
        spread = law.spread()
        if not torch.compiler.is_compiling() and not bool(spread.is_definite().all()):
            raise ValueError(
                f"the covariance of {name} is not positive definite, so {name} has no density; "
                "drop coordinates that depend on others, or add a small ridge to the diagonal"
            )
        spreads.append(spread)
    return p.mean - q.mean, spreads[0], spreads[1]


def _agree(laws: dict[str, Gaussian], tensors: dict[str, Tensor]) -> None:
    if len({tensor.device for tensor in tensors.values()}) > 1:
        places = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        raise ValueError(f"all arrays must be on one device, got {places}")
    sizes = {name: tensors[f"{name}.mean"].shape[-1] for name in laws}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} has d = {size}" for name, size in sizes.items())
        raise ValueError(f"laws must have the same number of coordinates: {found}")
