"""Diversity of samples: support size by the birthday paradox, modes of known mixtures."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, array_function, to_tensor
from probmetrics._interval import Interval
from probmetrics.data import high_quality_share, modes_covered
from probmetrics.metrics.balls import count_balls
from probmetrics.metrics.base import Encoder
from probmetrics.metrics.neighbours import nearest, single
from probmetrics.metrics.samples import AbstractSampleMetric, Values, intervals
from probmetrics.uncertainty.methods import Bootstrap, Subsampling


@dataclass(frozen=True)
class Birthday:
    """What collisions among samples say about the size of the support.

    Attributes:
        collisions: Share of the pairs of samples that are the same but for ``radius``.
        support: Effective number of different samples, 1/collisions; infinite without any.
        batch_size: Smallest batch that holds a collision with probability one half, about
            √(2 log 2 · support).
    """

    collisions: Any
    support: Any
    batch_size: Any


@array_function
def birthday_support(y: SamplesX, *, radius: float = 0.0) -> Birthday:
    """Effective support size of a model from near-duplicates among its samples.

    With k_i samples alike, the share of equal pairs estimates Σ p², without bias, and 1/Σ p² is
    the number of equally likely samples that would collide as often.

    Args:
        y: Samples of the model, shape (m, d), m ≥ 2.
        radius: Samples at most this far apart count as the same; 0 wants exact copies.

    Returns:
        ``Birthday``.

    Raises:
        ValueError: Fewer than two samples, NaN, a negative radius.

    Example:
        >>> birthday_support([[0.0], [0.0], [1.0], [1.0]]).support  # 2 pairs of 6 are equal
        3.0

    Notes:
        O(m² d) time, linear memory. Without collisions all that is known is that the support is
        of the order of m² or more.

    References:
        Arora, Zhang (2018), Do GANs learn the distribution? Some theory and empirics, section 3.
    """
    y = single(y, minimum=2, name="y")
    radius = checks.real(radius, "radius")
    if radius < 0:
        raise ValueError(f"radius must be zero or more, got {radius}")
    m = len(y)
    within = count_balls(y, y, y.new_full((m,), radius**2, dtype=torch.float64), closed=True)
    collisions = (within.sum() - m).double() / (m * (m - 1))
    support = 1 / collisions
    batch = (2 * torch.log(torch.tensor(2.0, dtype=torch.float64)) * support).sqrt()
    return Birthday(collisions, support, batch)


class BirthdayParadox(AbstractSampleMetric):
    """Effective support size of a model, see ``birthday_support``.

    Args:
        encoder: See ``AbstractMetric``.
        radius: Samples at most this far apart count as the same; None is a tenth of the median
            nearest-neighbour distance of the data, which ``real=`` then has to show.
        capacity: Most rows kept a side; None keeps all.
        seed: Of the rows kept.
        **options: For ``torchmetrics.Metric``.
    """

    higher_is_better = True
    minimum = 2
    method = Subsampling(replicates=100)
    options = ("radius", "capacity")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        radius: float | None = None,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.radius = None if radius is None else checks.real(radius, "radius")
        super().__init__(encoder=encoder, capacity=capacity, seed=seed, **options)

    def measured(self) -> Any:
        """The estimator, its sample and options."""
        radius = self.radius
        if radius is None:
            radius = 0.1 * float(nearest(self.rows("real"))[0].sqrt().median())
        return birthday_support, (self.rows("fake"),), {"radius": radius}

    def estimate(self, level: float, generator: torch.Generator | int) -> dict[str, Interval]:
        """The interval of the share of collisions; the support's is its inverse."""
        estimator, samples, options = self.measured()
        found = intervals(
            lambda y: estimator(y, **options).collisions,
            samples,
            {},
            method=self.method,
            level=level,
            generator=generator,
        )
        assert isinstance(found, Interval)
        return {"collisions": found}


class ModeCoverage(AbstractSampleMetric):
    """Modes of a known mixture that a model reaches, and its share of high-quality samples.

    Args:
        means: Centres of the modes, shape (k, d).
        sd: Standard deviation of each mode, or one for all.
        capacity: Most rows kept; None keeps all.
        seed: Of the rows kept.
        **options: For ``torchmetrics.Metric``.

    Example:
        >>> metric = ModeCoverage(means=[[0.0], [1.0]], sd=0.1)
        >>> metric.update(fake=[[0.05], [0.5]])
        >>> {name: float(value) for name, value in metric.compute().items()}
        {'modes': 1.0, 'high_quality': 0.5}
    """

    higher_is_better = True
    sides = ("fake",)
    method = Bootstrap(replicates=200)
    options = ("means", "sd", "capacity")

    def __init__(
        self,
        *,
        means: Any,
        sd: Any,
        capacity: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(capacity=capacity, seed=seed, **options)
        self.means = to_tensor(means, "means").double()
        self.sd = torch.as_tensor(sd, dtype=torch.float64)

    def update(self, *, fake: Any = None) -> None:  # type: ignore[override]
        """Take a batch of samples of the model."""
        self._take({"fake": fake})

    def measured(self) -> Any:
        """The numbers as a function of the samples."""
        return self._numbers, (self.rows("fake").double(),), {}

    def _numbers(self, y: Tensor) -> Values:
        known = self.means.to(y.device), self.sd.to(y.device)
        return {"modes": modes_covered(y, *known), "high_quality": high_quality_share(y, *known)}
