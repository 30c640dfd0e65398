"""Tests at few locations: mean embeddings and smooth characteristic functions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import Array, SamplesX, SamplesY
from probmetrics._autograd import outside_inference
from probmetrics.pairwise.bandwidth import median_bandwidth
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.design import Pooled, pair, pooled, random_half
from probmetrics.twosample.kernel_statistic import wide
from probmetrics.twosample.labelings import Labelings
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import BUDGET, AbstractPrepared, AbstractStatistic

Features = Callable[[Tensor, Tensor, Tensor], Tensor]  # points, locations, width -> (N, F)
RIDGE = 1e-5  # of the covariance, relative to its mean eigenvalue
TRIES = 10  # draws of the locations to start the ascent from
STEPS, RATE = 100, 0.05  # of the ascent, in units of the pooled standard deviation


@table_test
def mean_embedding_test(
    x: SamplesX,
    y: SamplesY,
    *,
    locations: int | Array = 5,
    learn: bool = True,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """ME test: differences of the mean embeddings at J locations, calibrated by permutation.

    The features of a point z are the kernel values exp(−‖z − v_j‖² / 2σ²), distances taken in
    units of the pooled standard deviations. The statistic is
    nm/N Δᵀ (Σ + ridge)⁻¹ Δ with Δ the difference of their means and Σ their pooled covariance:
    an increasing function of Hotelling's T².

    Args:
        x: Sample, shape (n, d), n ≥ 2 (8 to learn).
        y: Sample, shape (m, d), likewise.
        locations: How many, or the locations themselves, shape (J, d), chosen without looking at
            the samples' labels.
        learn: Choose locations and σ by gradient ascent of the statistic on a random half of each
            sample, and test on the other half. Otherwise locations are drawn from a normal fitted
            to the pooled sample, σ is the median distance, and all points are tested.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the halves and locations and then the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; ``details`` has the ``locations``, in the unit of the data, and the
        ``width`` σ, in units of the pooled standard deviations. Its ``effect_size`` is the share
        of the features' whitened variance that the labels explain, adjusted to mean zero under
        exchange.

    Raises:
        ValueError: Too few points, NaN, different d or columns, locations of another d.

    Notes:
        Time O(N J (d + J + B)) and as much per step of the ascent. The χ² limit, which is the
        published calibration, rejects twice to four times too often at n = 50.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 200, 3, generator=g)
        >>> mean_embedding_test(x, y + 0.7, generator=0).reject()
        True

    References:
        Chwialkowski, Ramdas, Sejdinovic, Gretton (2015), Fast two-sample testing with analytic
        representations of probability measures; Jitkrittum, Szabó, Chwialkowski, Gretton (2016),
        Interpretable distribution features with maximum testing power, eq. 2.
    """
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    return _location_test(x, y, locations, learn, embedding_features, options, "mean embedding")


@table_test
def characteristic_function_test(
    x: SamplesX,
    y: SamplesY,
    *,
    frequencies: int | Array = 5,
    learn: bool = True,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """SCF test: differences of smoothed characteristic functions, calibrated by permutation.

    The features of a point z, centred and in units of the pooled standard deviations, are
    w(z) cos⟨v_j, z⟩ and w(z) sin⟨v_j, z⟩ with the window w(z) = exp(−‖z‖² / 2σ²), which smooths
    the characteristic function; the statistic is that of ``mean_embedding_test``. It sees
    differences that are spread over space and few in frequency.

    Args:
        x: Sample, shape (n, d), n ≥ 2 (8 to learn).
        y: Sample, shape (m, d), likewise.
        frequencies: How many, or the frequencies themselves, shape (J, d), per unit of the pooled
            standard deviations.
        learn: Choose frequencies and σ by gradient ascent on a random half of each sample, and
            test on the other. Otherwise frequencies are standard normal, σ² = 2d, and all points
            are tested.
        permutations: As for ``mean_embedding_test``.
        generator: As for ``mean_embedding_test``.
        level: As for ``mean_embedding_test``.
        batch: As for ``mean_embedding_test``.
        progress: As for ``mean_embedding_test``.

    Returns:
        A ``TestResult``, as for ``mean_embedding_test``; ``details`` has ``locations``, here the
        frequencies.

    Raises:
        ValueError: As for ``mean_embedding_test``.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 200, 3, generator=g)
        >>> characteristic_function_test(x, 1.7 * y, generator=0).reject()
        True

    References:
        As for ``mean_embedding_test``.
    """
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    name = "smooth characteristic function"
    return _location_test(x, y, frequencies, learn, frequency_features, options, name)


def embedding_features(z: Tensor, locations: Tensor, width: Tensor) -> Tensor:
    """exp(−‖z − v‖² / 2σ²), shape (N, J)."""
    squares = (z[:, None, :] - locations).square().sum(-1)
    return torch.exp(-squares / (2 * width.square()))


def frequency_features(z: Tensor, locations: Tensor, width: Tensor) -> Tensor:
    """w(z) cos⟨v, z⟩ and w(z) sin⟨v, z⟩, shape (N, 2J)."""
    window = torch.exp(-z.square().sum(-1, keepdim=True) / (2 * width.square()))
    angles = z @ locations.mT
    return window * torch.cat([angles.cos(), angles.sin()], dim=-1)


def _location_test(
    x: Tensor,
    y: Tensor,
    locations: Any,
    learn: bool,
    features: Features,
    options: PermutationOptions,
    method: str,
) -> TestResult:
    x, y = pair(x, y)
    source = options.source()
    sample = pooled(x, y)
    labels, z = sample.labelings.observed, wide(sample.z)
    train = random_half(sample.labelings, source) if learn else torch.ones_like(labels).bool()
    held = train if not learn else ~train
    # Scale and start see the pooled points they may see: those that are not tested, or no labels.
    centre, scale = z[train].mean(0), z[train].std(0)
    scale = torch.where(scale > 0, scale, 1.0)
    points = (z - centre) / scale
    spots, width = _start(points[train], locations, features, (centre, scale), source)
    if learn and not sample.constant:
        first = (labels[train] == labels[0]).to(z.device)  # whatever the names of the samples
        tries = [(spots, width)]
        if not isinstance(locations, Tensor):
            for _ in range(TRIES):
                again = _start(points[train], locations, features, (centre, scale), source)[0]
                tries += [(again, width * factor) for factor in (0.25, 0.5, 1.0)]
        with torch.no_grad():
            scores = [float(_score(points[train], first, v, w, features)) for v, w in tries]
        spots, width = tries[scores.index(max(scores))]
        spots, width = _ascend(points[train], first, spots, width, features)
    with torch.no_grad():
        values = features(points[held], spots, width)
    tested = Pooled(values, Labelings(labels[held]), flat=sample.constant)
    result = run_test(
        WhitenedStatistic(), tested, replace(options, generator=source), method=method
    )
    if features is embedding_features:
        spots = spots * scale + centre
    details = {
        "locations": spots.cpu().numpy(),
        "width": float(width),
        "tested": tested.sizes,
    }
    return replace(result, n=sample.sizes, details={**result.details, **details})


def _start(
    points: Tensor,
    locations: Any,
    features: Features,
    frame: tuple[Tensor, Tensor],
    source: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """First locations, in the frame of the standardised points, and the width."""
    d = points.shape[-1]
    if isinstance(locations, Tensor):
        if locations.ndim != 2 or locations.shape[-1] != d or len(locations) == 0:
            raise ValueError(
                f"locations must have shape (J, {d}), like the points; got {tuple(locations.shape)}"
            )
        spots = wide(checks.finite(locations, "locations")).to(points.device)
        if features is embedding_features:
            spots = (spots - frame[0]) / frame[1]
    else:
        count = checks.count(locations, "locations")
        spots = torch.randn(
            count, d, generator=source, dtype=torch.float64, device=source.device
        ).to(points)
        if features is embedding_features:  # a normal with the covariance of the pooled points
            values, vectors = torch.linalg.eigh(points.mT @ points / len(points))
            # the symmetric root: eigenvectors alone have no sign of their own
            spots = spots @ vectors * values.clamp_min(0).sqrt() @ vectors.mT
    if features is embedding_features:
        return spots, torch.as_tensor(float(median_bandwidth(points))).to(points)
    return spots, torch.as_tensor((2.0 * d) ** 0.5).to(points)


@outside_inference
def _ascend(
    points: Tensor, first: Tensor, spots: Tensor, width: Tensor, features: Features
) -> tuple[Tensor, Tensor]:
    """Locations and width that separate the samples best on the points to learn from."""
    spots = spots.clone().requires_grad_()
    log_width = width.log().clone().requires_grad_()
    ascent = torch.optim.Adam([spots, log_width], lr=RATE)
    for _ in range(STEPS):
        with torch.enable_grad():
            score = _score(points, first, spots, log_width.exp(), features)
            ascent.zero_grad()
            (-score).backward()
        slopes = [p.grad for p in (spots, log_width) if p.grad is not None]
        if not all(bool(torch.isfinite(slope).all()) for slope in slopes):
            break
        ascent.step()
    return spots.detach(), log_width.detach().exp()


def _score(
    points: Tensor, first: Tensor, spots: Tensor, width: Tensor, features: Features
) -> Tensor:
    """Δᵀ (W + ridge)⁻¹ Δ with W the covariance within samples (Jitkrittum et al. 2016, eq. 2)."""
    values = features(points, spots, width)
    gap = values[first].mean(0) - values[~first].mean(0)
    centred = torch.cat([part - part.mean(0) for part in (values[first], values[~first])])
    covariance = centred.mT @ centred / len(values)
    ridge = RIDGE * covariance.diagonal().mean() + 1e-12
    eye = torch.eye(len(gap), dtype=gap.dtype, device=gap.device)
    score: Tensor = gap @ torch.linalg.solve(covariance + ridge * eye, gap)
    return score


@dataclass(frozen=True)
class WhitenedStatistic(AbstractStatistic):
    """nm/N Δᵀ (Σ + ridge)⁻¹ Δ, Σ the pooled covariance of the features."""

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedWhitened":
        """Whiten the features once: the pooled covariance does not see the labels."""
        centred = z - z.mean(0)
        values, vectors = torch.linalg.eigh(centred.mT @ centred / len(z))
        values = values.clamp_min(0)
        ridge = RIDGE * float(values.mean())
        scale = (values + ridge).rsqrt() if ridge > 0 else torch.zeros_like(values)
        return _PreparedWhitened((centred @ vectors) * scale, sizes)


class _PreparedWhitened(AbstractPrepared):
    tolerance = 1e-9

    def __init__(self, features: Tensor, sizes: tuple[int, ...]) -> None:
        self.features, self.sizes = features, sizes
        self.batch = max(1, BUDGET // (8 * len(features)))

    def evaluate(self, labels: Tensor) -> Tensor:
        n, m = self.sizes
        first = (labels.to(self.features.device) == 0).to(self.features)
        # The features have mean zero, so the mean of y's is −n/m times that of x's.
        mean_x = first @ self.features / n
        gap = mean_x * (1 + n / m)
        value: Tensor = n * m / (n + m) * gap.square().sum(-1)
        return value

    def effect(self, labels: Tensor) -> float | None:
        """Share of the whitened variance between the samples, adjusted for chance."""
        points = sum(self.sizes)
        total = float(self.features.square().sum())
        if total <= 0 or points <= 2:
            return None
        share = float(self.evaluate(labels[None])[0]) / total
        return 1 - (1 - share) * (points - 1) / (points - 2)
