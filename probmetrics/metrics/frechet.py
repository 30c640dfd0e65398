"""Fréchet distance between features, streamed: FID on Inception features, FD∞ beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import to_tensor
from probmetrics._autograd import outside_inference
from probmetrics._interval import Interval, normal_interval
from probmetrics.data import read_statistics
from probmetrics.gaussian import Moments, gaussian_frechet
from probmetrics.metrics.accumulators import (
    AbstractAccumulator,
    GroupedMoments,
    Reservoir,
    rows_of,
    union,
)
from probmetrics.metrics.base import AbstractMetric, Encoder
from probmetrics.metrics.extrapolation import Extrapolation, frechet_from_groups

GROUPS = 4
CONVENTIONS = ("torch-fidelity", "torchmetrics", "pytorch-fid", "clean-fid")


class FrechetDistance(AbstractMetric):
    """Squared Fréchet distance ‖μ_r − μ_f‖² + tr(S_r + S_f − 2 (S_r S_f)^½) between features.

    On Inception features this is the FID. Only moments are kept, in float64 and about the mean,
    dealt to four groups, with a few rows for the interval: constant memory for any number of
    samples, and a feature offset costs no digits.

    Args:
        encoder: See ``AbstractMetric``; None takes features.
        reference: Statistics of the real side computed beforehand, in place of ``real=`` batches:
            the path of a ``.npz`` with ``mu`` and ``sigma``, or the pair (mean, covariance).
        convention: "torch-fidelity", "torchmetrics", "pytorch-fid" or "clean-fid"; on the same
            features all four are this number, they differ in the preprocessing of images, which
            belongs to the encoder. It is recorded in the provenance.
        keep: Rows of each side kept for the interval.
        seed: Of the choice of these rows.
        **options: For ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = FrechetDistance()
        >>> metric.update(real=torch.tensor([[0.0], [2.0]]), fake=torch.tensor([[3.0], [7.0]]))
        >>> round(float(metric.compute()), 6)  # (5 − 1)² + (√8 − √2)²
        18.0

    Notes:
        Memory 8·4·d² bytes a side (134 MB at d = 2048); computing costs O(d³). Biased upwards by
        O(1/n): compare at equal n, or use ``extrapolated``. For a distance that is differentiable
        in features use ``probmetrics.frechet_distance``.

    References:
        Heusel et al. (2017), GANs trained by a two time-scale update rule, eq. 6.
    """

    higher_is_better = False
    minimum = 2
    options = ("convention", "keep", "reference_statistics")

    def __init__(
        self,
        *,
        encoder: Encoder | None = None,
        reference: str | Path | Sequence[Any] | None = None,
        convention: str = "torch-fidelity",
        keep: int = 1000,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.convention = checks.choice(convention, "convention", CONVENTIONS)
        self.keep = checks.count(keep, "keep", minimum=2)
        self._row_seed = seed
        super().__init__(encoder=encoder, seed=seed, **options)
        self.reference_statistics = _statistics(reference)

    def accumulators(self) -> dict[str, AbstractAccumulator]:
        return {
            "moments": GroupedMoments(GROUPS),
            "rows": Reservoir(self.keep, self._row_seed),
        }

    def update(self, *, real: Any = None, fake: Any = None) -> None:
        """Take a batch of either side or both; with reference statistics only ``fake=``."""
        if self.reference_statistics is not None and real is not None:
            raise ValueError("real= came together with reference statistics; pass one of the two")
        self._take({"real": real, "fake": fake})

    def compute(self) -> Tensor:
        """The squared distance, float64."""
        return _between(self._side("real"), self._side("fake"))

    def extrapolated(self) -> Extrapolation:
        """FD∞: the distance extrapolated to infinitely many samples, with its standard error.

        Notes:
            Distances of halves and quarters of the rows, dealt in turn, lie on a line in 1/n; its
            intercept is the answer. See ``frechet_infinity`` for the same from features.
        """
        groups_f = self._groups("fake")
        real = self.reference_statistics or self._groups("real")
        sampling = _sampling_variance(self) if self._has_rows() else torch.zeros(())
        return frechet_from_groups(real, groups_f, sampling)

    def estimate(self, level: float, generator: torch.Generator | int) -> Interval:
        """Delta method from the rows kept, and the bias that leaving out quarters shows."""
        value = self.compute()
        fit = self.extrapolated()
        error = _sampling_variance(self).sqrt()
        bias = value - fit.value
        return normal_interval(value, error, method="influence", level=level, bias=bias)

    def _groups(self, side: str) -> list[Moments]:
        keeper = self._kept["moments"]
        self.enough(side, self.seen(side))
        assert isinstance(keeper, GroupedMoments)
        return keeper.groups_of(self.state(side, "moments"))

    def _side(self, side: str) -> tuple[Tensor, Tensor]:
        if side == "real" and self.reference_statistics is not None:
            mean, covariance = self.reference_statistics
            return mean.to(self.device), covariance.to(self.device)
        moments = union(self._groups(side))
        return moments.mean, moments.covariance()

    def _has_rows(self) -> bool:
        return rows_of(self.state("fake", "rows")) is not None

    def _known_features(self) -> int | None:
        if getattr(self, "reference_statistics", None) is not None:
            return len(self.reference_statistics[0])  # type: ignore[index]
        return super()._known_features()


def _between(real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor]) -> Tensor:
    if real[0].shape != fake[0].shape:
        raise ValueError(
            f"the reference has {len(real[0])} features and the samples {len(fake[0])}"
        )
    answer: Tensor = gaussian_frechet(*real, *fake)
    return answer


@outside_inference
def _sampling_variance(metric: FrechetDistance) -> Tensor:
    """Variance of the distance by the delta method, influences taken on the rows kept.

    A row x moves the distance by g·(x − μ) + (x − μ)ᵀG(x − μ), with g and G its derivatives in the
    mean and the covariance.
    """
    sides = ("real", "fake")
    statistics = [tuple(part.clone().requires_grad_() for part in metric._side(s)) for s in sides]
    with torch.enable_grad():
        value = _between(*statistics)  # type: ignore[arg-type]
        found = torch.autograd.grad(value, [part for pair in statistics for part in pair])
    total = torch.zeros((), dtype=torch.float64, device=value.device)
    for i, side in enumerate(sides):
        count = metric.seen(side)
        rows = rows_of(metric._kept["rows"].compact(metric.state(side, "rows")))
        if rows is None:  # reference statistics count as exact
            continue
        gap = rows.double() - statistics[i][0].detach()
        influence = gap @ found[2 * i] + ((gap @ found[2 * i + 1]) * gap).sum(-1)
        total = total + influence.var() / count
    return total


def _statistics(reference: Any) -> tuple[Tensor, Tensor] | None:
    if reference is None:
        return None
    if isinstance(reference, str | Path):
        reference = read_statistics(reference)
    if isinstance(reference, Moments):
        reference = (reference.mean, reference.covariance())
    if len(reference) != 2:
        raise ValueError("reference must be a path or the pair (mean, covariance)")
    mean, covariance = (to_tensor(part, "reference").double() for part in reference)
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"reference has a mean of shape {tuple(mean.shape)} and a covariance of shape "
            f"{tuple(covariance.shape)}; wanted (d,) and (d, d)"
        )
    return checks.finite(mean, "mean"), checks.finite(covariance, "covariance")
