"""Total weight, mean and scatter of a sample, as a state that merges exactly."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Array, SamplesX, WeightsX, array_function


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Moments:
    """First and second moments of a weighted sample; two states merge into that of the union.

    What is kept is the total weight W = Σ wᵢ, Σ wᵢ², the mean μ and the scatter Σ wᵢ (xᵢ−μ)(xᵢ−μ)ᵀ
    *about the mean*, in float64: O(d²) numbers for any number of rows, and no digits are lost to a
    large offset, as they would be with raw second moments. Without weights each row counts one.

    Attributes:
        weight: W, shape (*batch): the number of rows, if they had no weights.
        squares: Σ wᵢ², shape (*batch).
        mean: μ, shape (*batch, d).
        scatter: Shape (*batch, d, d).

    Example:
        >>> import numpy as np
        >>> rows = np.arange(12.0).reshape(6, 2) ** 2
        >>> state = Moments.of(rows[:4]).merge(Moments.of(rows[4:]))
        >>> bool(np.allclose(state.covariance(), np.cov(rows.T)))
        True

    Notes:
        ``of`` costs O(n d²) time and O(n d) memory, ``merge`` O(d²). All are differentiable.
        Merging is associative and commutative up to rounding, and ``Moments.zero`` is neutral.

    References:
        Chan, Golub, LeVeque (1983), Algorithms for computing the sample variance, eqs. 2.1;
        Welford (1962).
    """

    weight: Any
    squares: Any
    mean: Any
    scatter: Any

    @classmethod
    def of(cls, x: Any, a: Any = None) -> "Moments":
        """Moments of one batch of rows.

        Args:
            x: Sample, shape (*batch, n, d).
            a: Masses of the rows, shape (*batch, n), zero or more; None counts each row once.
                They need not sum to one: merged batches count in proportion to their masses.

        Raises:
            ValueError: NaN or infinite rows, negative masses, or none above zero.
        """
        return cls(*_moments(x, a))

    @classmethod
    def zero(
        cls,
        d: int,
        *,
        batch: tuple[int, ...] = (),
        device: torch.device | str | None = None,
    ) -> "Moments":
        """The state of no rows at all, for d coordinates."""
        return cls(
            *(
                torch.zeros((*batch, *shape), dtype=torch.float64, device=device)
                for shape in ((), (), (d,), (d, d))
            )
        )

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both samples together; batch shapes broadcast.

        Raises:
            ValueError: The two have different numbers of coordinates.
        """
        return Moments(
            *_merged(
                self.weight,
                self.squares,
                self.mean,
                self.scatter,
                other.weight,
                other.squares,
                other.mean,
                other.scatter,
            )
        )

    def covariance(self, ddof: float = 1) -> Any:
        """Covariance scatter / (W − ddof · Σw²/W), shape (*batch, d, d).

        Without weights the divisor is n − ddof. With weights and ddof=1 it makes the covariance
        unbiased for rows drawn independently of their weights (*reliability* weights): for
        weights that sum to one it is 1 − Σ aᵢ².

        Raises:
            ValueError: The divisor is not above zero, as with a single row.
        """
        return _covariance(self.weight, self.squares, self.scatter, ddof)

    @property
    def effective_size(self) -> Any:
        """Kish's effective number of rows W²/Σw²; n without weights, 0 when empty."""
        return _effective_size(self.weight, self.squares)

    def __repr__(self) -> str:
        shape = tuple(self.mean.shape)
        return f"Moments(d={shape[-1]}, batch={shape[:-1]}, weight={self.weight})"


def centred(x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean (*batch, 1, d) and centred rows, for weights that sum to one.

    The heaviest row is taken off before any sum, so that a constant coordinate is centred to
    exact zeros and an offset costs no digits.
    """
    mass = a.unsqueeze(-2)
    heaviest = mass.detach().argmax(-1, keepdim=True).mT
    batch = torch.broadcast_shapes(x.shape[:-2], a.shape[:-1])
    held = x.detach().expand(*batch, *x.shape[-2:])
    pivot = held.gather(-2, heaviest.expand(*batch, 1, x.shape[-1]))
    rows = x - pivot
    mean = mass @ rows
    return pivot + mean, rows - mean


@array_function
def _moments(x: SamplesX, a: WeightsX | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = checks.sample(x).double()
    masses = _masses(a, x)
    weight = masses.sum(-1)
    share = masses / weight.unsqueeze(-1)
    mean, rows = centred(x, share)
    scatter = (rows * masses.unsqueeze(-1)).mT @ rows
    batch = scatter.shape[:-2]
    squares = masses.square().sum(-1)
    return weight.expand(batch), squares.expand(batch), mean.squeeze(-2), scatter


def _masses(a: Tensor | None, x: Tensor) -> Tensor:
    if a is None:
        return torch.ones(x.shape[-2], dtype=x.dtype, device=x.device)
    if a.ndim < 1 or a.shape[-1] != x.shape[-2]:
        raise ValueError(
            f"a must hold one mass per row, shape (*batch, {x.shape[-2]}), got {tuple(a.shape)}; "
            "pass a=None to count each row once"
        )
    checks.broadcastable(x.shape[:-2], a.shape[:-1], ("x", "a"))
    a = checks.finite(a, "a").to(x)
    if not checks.readable(a):
        return a
    if bool((a.detach() < 0).any()):
        raise ValueError(f"a has negative masses (smallest {a.detach().min().item():.3g})")
    if not bool((a.detach().sum(-1) > 0).all()):
        raise ValueError("a is zero on every row; at least one mass must be above zero")
    return a


@array_function
def _merged(
    weight: Array | float,
    squares: Array | float,
    mean: Array,
    scatter: Array,
    weight_2: Array | float,
    squares_2: Array | float,
    mean_2: Array,
    scatter_2: Array,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if mean.shape[-1] != mean_2.shape[-1]:
        raise ValueError(
            f"cannot merge moments of d = {mean.shape[-1]} and d = {mean_2.shape[-1]} coordinates"
        )
    first, second = (torch.as_tensor(w, dtype=torch.float64).to(mean) for w in (weight, weight_2))
    both = first + second
    share = torch.where(both > 0, second / torch.where(both > 0, both, 1.0), 0.0)
    gap = mean_2 - mean
    between = (share * first)[..., None, None] * gap.unsqueeze(-1) * gap.unsqueeze(-2)
    shared = torch.as_tensor(squares).to(mean) + torch.as_tensor(squares_2).to(mean)
    # The mean moves away from the heavier side, so that merging commutes and a zero state is
    # neutral to the last bit.
    towards = torch.where(
        (share > 0.5).unsqueeze(-1),
        mean_2 - (1 - share).unsqueeze(-1) * gap,
        mean + share.unsqueeze(-1) * gap,
    )
    return both, shared.expand(both.shape), towards, scatter + scatter_2 + between


@array_function
def _covariance(
    weight: Array | float, squares: Array | float, scatter: Array, ddof: float | int
) -> Tensor:
    total = torch.as_tensor(weight).to(scatter)
    divisor = total - ddof * torch.as_tensor(squares).to(scatter) / total
    if checks.readable(divisor) and not bool((divisor > 1e-12 * total).all()):
        raise ValueError(
            f"a covariance with ddof={ddof:g} needs more than {ddof:g} "
            "rows of positive weight; add rows or pass ddof=0"
        )
    covariance: Tensor = scatter / divisor[..., None, None]
    return covariance


@array_function
def _effective_size(weight: Array | float, squares: Array | float) -> Tensor | float:
    if not isinstance(weight, Tensor) or not isinstance(squares, Tensor):
        return float(weight) ** 2 / float(squares) if squares > 0 else 0.0
    return torch.where(squares > 0, weight.square() / torch.where(squares > 0, squares, 1.0), 0.0)
