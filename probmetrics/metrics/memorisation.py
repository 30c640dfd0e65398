"""Whether a model copies its training set: estimators on features."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesAt, SamplesX, SamplesY, Values, array_function
from probmetrics.gaussian import frechet_distance
from probmetrics.metrics.neighbours import nearest, plain, single
from probmetrics.pairwise import reduce_pairs
from probmetrics.pairwise.costs import Cosine
from probmetrics.pairwise.reductions import KSmallest


@dataclass(frozen=True)
class NearestTraining:
    """How close samples of a model lie to its training set, against data it has not seen.

    Attributes:
        ratio: Median distance of model samples to the training set over that of held-out data.
            One is what a model of the data has; far below one is copying.
        pvalue: One-sided Mann–Whitney p-value for "closer than held-out data".
        statistic: Its normal score; negative is closer. It is C_T with a single cell.
        distances: Of each model sample to its nearest training point, shape (m,).
        neighbours: Which training point that is, shape (m,).
    """

    ratio: Any
    pvalue: Any
    statistic: Any
    distances: Any
    neighbours: Any


@dataclass(frozen=True)
class NearestCopies:
    """The nearest training point of each model sample.

    Attributes:
        distances: To it, shape (m,).
        neighbours: Which one, shape (m,).
        ratios: The distance over that point's own nearest-neighbour distance, shape (m,): 0 for a
            copy, above one for what authenticity counts as authentic.
    """

    distances: Any
    neighbours: Any
    ratios: Any


@dataclass(frozen=True)
class Duplicates:
    """Copies among a model's samples.

    Attributes:
        exact: Share that equals a training point in every feature.
        near: Share closer to a training point than ``near`` times that point's own
            nearest-neighbour distance; exact copies included.
        within: Share that equals another model sample.
        indices: Model samples that are near or exact copies, shape (c,).
    """

    exact: Any
    near: Any
    within: Any
    indices: Any


@array_function
def authenticity(y: SamplesY, train: SamplesX) -> Values:
    """Share of a model's samples that are not closer to a training point than that point's own kin.

    With t the training point nearest to y_j, the sample is authentic if ‖y_j − t‖ exceeds the
    distance from t to its nearest other training point.

    Args:
        y: Samples of the model, shape (m, d).
        train: Training set, shape (n, d), n ≥ 2.

    Returns:
        Between 0 (all copies) and 1; about one half for fresh samples of the same distribution.

    Raises:
        ValueError: Fewer than two training points, NaN, shapes that differ.

    Example:
        >>> authenticity([[0.1], [5.0]], [[0.0], [1.0], [2.0]])
        0.5

    Notes:
        O(n (n + m) d) time, linear memory. A tie, such as an exact copy of a training point that
        occurs twice, is not authentic.

    References:
        Alaa et al. (2022), How faithful is your synthetic data?, eq. 10.
    """
    y, train = _against(y, train)
    own = nearest(train)[0][:, 0]
    squares, index = nearest(y, train)
    return (squares[:, 0] > own[index[:, 0]]).double().mean().to(y.dtype)


@array_function
def nearest_training(y: SamplesY, train: SamplesX, held_out: SamplesAt) -> NearestTraining:
    """Whether a model's samples lie closer to its training set than unseen data do.

    Args:
        y: Samples of the model, shape (m, d).
        train: Training set, shape (n, d).
        held_out: Data the model has not seen, shape (l, d).

    Returns:
        ``NearestTraining``.

    Raises:
        ValueError: Empty samples, NaN, shapes that differ.

    Example:
        >>> import numpy as np
        >>> train, held_out = np.random.default_rng(0).normal(size=(2, 200, 3))
        >>> copy = nearest_training(train[:50] + 1e-3, train, held_out)
        >>> copy.ratio < 0.05, copy.pvalue < 1e-6
        (True, True)

    Notes:
        Given the training set, distances of model samples and of held-out data are exchangeable
        if the model has the distribution of the data, so the p-value is valid (normal
        approximation with ties; 8 points a side are enough for it). O((m + l) n d) time.

    References:
        Meehan, Chaudhuri, Dasgupta (2020), A non-parametric test to detect data-copying.
    """
    y, train = _against(y, train)
    held_out, _ = plain(held_out, train, minimum=1, names=("held_out", "train"))
    squares, index = nearest(y, train)
    theirs = nearest(held_out, train)[0][:, 0].sqrt()
    mine = squares[:, 0].sqrt()
    score = mann_whitney(mine, theirs)
    middle = theirs.median()
    ratio = torch.where(middle > 0, mine.median() / torch.where(middle > 0, middle, 1.0), torch.nan)
    pvalue = torch.special.ndtr(score)
    return NearestTraining(ratio, pvalue, score, mine, index[:, 0])


@array_function
def copying_score(
    y: SamplesY,
    train: SamplesX,
    held_out: SamplesAt,
    *,
    cells: int = 1,
    share: float = 0.01,
    generator: torch.Generator | int | None = None,
) -> Values:
    """C_T: the data-copying statistic; far below zero is copying, far above is underfitting.

    Space is cut into cells (k-means on the training set). In each, Z is the Mann–Whitney normal
    score of the model samples' distances to the training set against the held-out data's;
    C_T = Σ P(cell) Z(cell) / Σ P(cell) over the cells that hold a share of the model's samples.

    Args:
        y: Samples of the model, shape (m, d).
        train: Training set, shape (n, d).
        held_out: Unseen data, shape (l, d).
        cells: How many cells; with one, C_T is standard normal where the model is the data's.
        share: Cells with a smaller share of the model's samples are left out.
        generator: Source of the k-means start.

    Returns:
        C_T.

    Raises:
        ValueError: No cell holds enough of both; NaN; shapes that differ.

    Example:
        >>> import numpy as np
        >>> train, held_out = np.random.default_rng(0).normal(size=(2, 200, 3))
        >>> copying_score(train[:50] + 1e-3, train, held_out) < -8
        True

    References:
        Meehan, Chaudhuri, Dasgupta (2020), A non-parametric test to detect data-copying,
        section 3 (τ is ``share``).
    """
    y, train = _against(y, train)
    held_out, _ = plain(held_out, train, minimum=1, names=("held_out", "train"))
    cells = checks.count(cells, "cells", maximum=len(train))
    placed = placed_in_cells(y, train, held_out, cells, generator)
    return score_of_placed(*placed, share).to(y.dtype)


def placed_in_cells(
    y: Tensor, train: Tensor, held_out: Tensor, cells: int, generator: Any
) -> tuple[Tensor, Tensor]:
    """Squared distance to the training set and cell of each row of both samples, shape (·, 2)."""
    where = _cells(train, (y, held_out), cells, generator)
    placed = [
        torch.stack([nearest(z, train)[0][:, 0], cell.double()], -1)
        for z, cell in zip((y, held_out), where, strict=True)
    ]
    return placed[0], placed[1]


def score_of_placed(mine: Tensor, theirs: Tensor, share: float = 0.01) -> Tensor:
    """C_T from distances and cells, see ``copying_score``."""
    total = weight = 0.0
    for cell in theirs[:, 1].unique():
        inside, outside = (z[z[:, 1] == cell, 0] for z in (mine, theirs))
        if len(inside) < max(1.0, share * len(mine)):
            continue
        part = len(outside) / len(theirs)
        total, weight = total + part * float(mann_whitney(inside, outside)), weight + part
    if weight == 0:
        raise ValueError("no cell holds enough of both samples; use fewer cells or more points")
    return mine.new_tensor(total / weight)


@array_function
def nearest_copies(y: SamplesY, train: SamplesX) -> NearestCopies:
    """The nearest training point of each model sample, and how suspiciously near it is.

    Args:
        y: Samples of the model, shape (m, d).
        train: Training set, shape (n, d), n ≥ 2.

    Returns:
        ``NearestCopies``; ``authenticity`` is the share of its ratios above one.

    Raises:
        ValueError: Fewer than two training points, NaN, shapes that differ.

    Example:
        >>> nearest_copies([[0.1], [5.0]], [[0.0], [1.0], [2.0]]).ratios.tolist()
        [0.1, 3.0]

    Notes:
        Next to a training point that occurs twice the ratio is 0 for a copy and infinite otherwise.
        O(n (n + m) d) time, linear memory.
    """
    y, train = _against(y, train)
    own = nearest(train)[0][:, 0]
    squares, index = nearest(y, train)
    closest, spacing = squares[:, 0], own[index[:, 0]]
    beside = torch.where(closest > 0, torch.inf, 0.0).to(closest)
    safe = torch.where(spacing > 0, spacing, 1.0)
    ratios = torch.where(spacing > 0, (closest / safe).sqrt(), beside)
    return NearestCopies(closest.sqrt(), index[:, 0], ratios)


@array_function
def duplicates(y: SamplesY, train: SamplesX, *, near: float = 0.1) -> Duplicates:
    """Exact and near copies of training points among a model's samples.

    Args:
        y: Samples of the model, shape (m, d).
        train: Training set, shape (n, d), n ≥ 2.
        near: A near copy is closer to a training point than this share of that point's own
            nearest-neighbour distance.

    Returns:
        ``Duplicates``.

    Raises:
        ValueError: Fewer than two training points, NaN, shapes that differ.

    Example:
        >>> duplicates([[1.0], [2.001], [0.4]], [[0.0], [1.0], [2.0]]).near
        0.6666666666666666

    Notes:
        A training point that occurs twice has neighbour distance zero, so that only exact copies
        of it count. O(n (n + m) d + m² d) time, linear memory.
    """
    y, train = _against(y, train)
    near = checks.positive(near, "near")
    own = nearest(train)[0][:, 0]
    squares, index = nearest(y, train)
    closest = squares[:, 0]
    exact = closest == 0
    close = exact | (closest < near**2 * own[index[:, 0]])
    again = nearest(y)[0][:, 0] == 0 if len(y) > 1 else torch.zeros_like(exact)
    return Duplicates(
        exact.double().mean(),
        close.double().mean(),
        again.double().mean(),
        close.nonzero().squeeze(-1),
    )


@array_function
def mifid(x: SamplesX, y: SamplesY, *, threshold: float = 0.1, convention: str = "paper") -> Values:
    """Memorisation-informed Fréchet distance: d² divided by the mean cosine distance to the data.

    m = mean_j min_i (1 − |cos(x_i, y_j)|); MIFID = d²/m where m < threshold, else d².

    Args:
        x: Features of the training data, shape (n, d).
        y: Features of the model's samples, shape (m, d).
        threshold: Distances at or above it carry no penalty.
        convention: "paper": m averages over the model's samples. "torchmetrics": over the data,
            the nearest model sample of each, which a model that copies few data points escapes.

    Returns:
        Zero or more up to rounding; zero where d² is below 1e-8.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(50, 3)) + 5
        >>> mifid(x, x[::-1])
        0.0

    References:
        Bai et al. (2021), On training sample memorization: lessons from benchmarking generative
        modeling, eq. 3.
    """
    x, y = plain(x, y, minimum=2, names=("x", "y"))
    threshold = checks.positive(threshold, "threshold")
    square = frechet_distance(x.double(), y.double())
    checks.choice(convention, "convention", ("paper", "torchmetrics"))
    gaps = cosine_gaps(x, y) if convention == "paper" else cosine_gaps(y, x)
    return penalised(square, gaps.mean(), threshold).to(x.dtype)


def penalised(square: Tensor, gap: Tensor, threshold: float = 0.1) -> Tensor:
    """A squared distance over a mean cosine distance below the threshold, see ``mifid``."""
    divisor = torch.where(gap < threshold, gap, torch.ones_like(gap))
    return torch.where(square > 1e-8, square / (divisor + 1e-14), 0.0)


def cosine_gaps(x: Tensor, y: Tensor) -> Tensor:
    """min_i (1 − |cos(x_i, y_j)|) for each j, shape (m,), float64."""
    x, y = x.double(), y.double()
    gaps = [
        reduce_pairs(Cosine(), KSmallest(1), y, sign * x)[0].squeeze(-1) for sign in (1.0, -1.0)
    ]
    return torch.minimum(*gaps)


def mann_whitney(first: Tensor, second: Tensor) -> Tensor:
    """Normal score of U = #{first > second} + ½ #{equal}, tie-corrected; 0 if all are equal."""
    n, m = len(first), len(second)
    _, rank, sizes = torch.cat([first, second]).unique(return_inverse=True, return_counts=True)
    sizes = sizes.double()
    middle = sizes.cumsum(0) - (sizes - 1) / 2  # mean rank of each group of ties
    u = middle[rank[:n]].sum() - n * (n + 1) / 2
    total = n + m
    ties = (sizes**3 - sizes).sum() / (total * (total - 1))
    variance = n * m / 12 * (total + 1 - ties)
    safe = torch.where(variance > 0, variance, 1.0)
    return torch.where(variance > 0, (u - n * m / 2) / safe.sqrt(), 0.0)


def _against(y: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    y = single(y, minimum=1, name="y")
    train = single(train, minimum=2, name="train")
    return plain(y, train, minimum=1, names=("y", "train"))


def _cells(train: Tensor, samples: tuple[Tensor, ...], cells: int, source: Any) -> list[Tensor]:
    if cells == 1:
        return [torch.zeros(len(s), dtype=torch.int64, device=s.device) for s in samples]
    from sklearn.cluster import KMeans

    seed = int(torch.randint(2**31, (1,), generator=checks.generator(source)))
    fitted = KMeans(cells, n_init=3, random_state=seed).fit(train.double().cpu().numpy())
    return [
        torch.from_numpy(fitted.predict(s.double().cpu().numpy())).long().to(s.device)
        for s in samples
    ]
