"""Whether the model behind B copies its training set: scores, a test, the suspects, a sentence."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from probmetrics._arrays import to_numpy

if TYPE_CHECKING:
    from probmetrics.report.inputs import Pair

Names = tuple[str, str, str]  # name, title, meaning
SUSPECTS = 24
NEAR = 0.1  # of a training point's own spacing: closer is a near copy
LEAST = 8  # unseen rows that the test needs
CELLS = 8  # of C_T, where there are rows enough for them


@dataclass(frozen=True)
class CopyScore:
    """One number about copying.

    Attributes:
        name: What it is called in JSON.
        title: Its heading.
        meaning: What it says, in a sentence.
        value: For B.
        low: Lower end of its interval, given the training set; None where it has none.
        high: Upper end.
        unseen: The same number for A's rows, which the model has not seen: the noise floor.
    """

    name: str
    title: str
    meaning: str
    value: float
    low: float | None
    high: float | None
    unseen: float | None


@dataclass(frozen=True)
class Suspect:
    """A sample of the model that lies next to a training point.

    Attributes:
        position: Among the compared rows of B.
        row: In B's source, counted from 0.
        train_row: The nearest training point, its row in the training set.
        distance: To it.
        ratio: The distance over that point's own nearest-neighbour distance: 0 for a copy.
    """

    position: int
    row: int
    train_row: int
    distance: float
    ratio: float


@dataclass(frozen=True, eq=False)
class Copying:
    """What the training set says about the model.

    Attributes:
        scores: Authenticity, copies, the ratio of distances, C_T.
        pvalue: One-sided p-value for "closer to the training set than unseen data"; None where
            there are too few unseen rows.
        copies: Whether near copies are more frequent than among unseen data (Fisher's test).
        closer: Whether the test rejects at the level of the comparison.
        suspects: The most suspicious samples of B, the most suspicious first.
        distances: Of B's and of A's rows to the training set.
        sentence: All this in words.
        notes: What the reader should know.
    """

    scores: tuple[CopyScore, ...]
    pvalue: float | None
    copies: bool
    closer: bool
    suspects: tuple[Suspect, ...]
    distances: tuple[np.ndarray, np.ndarray]
    sentence: str
    notes: tuple[str, ...]


def judge_copying(
    pair: "Pair", *, level: float, seed: int, among: int = 1, briefly: bool = False
) -> Copying:
    """Whether B copies the training set, held against A, which the model has not seen.

    Args:
        pair: With the training set.
        level: Confidence level.
        seed: Of resamples and cells.
        among: Of how many models this is one: what is said of all of them holds at the level.
        briefly: Leave MIFID and C_T out.
    """
    from probmetrics.metrics.memorisation import duplicates, nearest_copies

    train = pair.train
    assert train is not None
    unseen, notes = _unseen(pair.x, train, pair.first.name)
    near = nearest_copies(pair.y, train)
    of_y = duplicates(pair.y, train, near=NEAR)
    of_x = duplicates(unseen, train, near=NEAR) if len(unseen) else None
    scores = [
        _share(_AUTHENTIC, near.ratios > 1, _ratios(unseen, train), level),
        _copies(_EXACT, of_y.exact, None if of_x is None else of_x.exact, len(pair.y), level),
        _copies(_NEAR, of_y.near, None if of_x is None else of_x.near, len(pair.y), level),
        _copies(_REPEATS, of_y.within, None if of_x is None else of_x.within, len(pair.y), level),
    ]
    scores += [] if briefly else _mifid(pair.y, unseen, train, level, seed)
    pvalue, distances = None, torch.zeros(0)
    if len(unseen) >= LEAST:
        pvalue, distances, more = _against_unseen(pair.y, train, unseen, level, seed)
        scores += more
        scores += [] if briefly else [_cells_score(pair.y, train, unseen, level, seed)]
    else:
        notes.append(f"fewer than {LEAST} unseen rows: no test of the distances")
    decided = 1 - (1 - level) / among
    copies = _more_copies(of_y, of_x, (len(pair.y), len(unseen)), train, decided)
    closer = pvalue is not None and pvalue <= (1 - level) / among
    sentence = _sentence(pair, tuple(scores), pvalue, copies, closer)
    both = (near.distances.numpy(), distances.numpy())
    return Copying(
        tuple(scores), pvalue, copies, closer, _suspects(pair, near), both, sentence, tuple(notes)
    )


_AUTHENTIC = (
    "authenticity",
    "authenticity",
    "Share of samples that are farther from their nearest training point than that point is from "
    "its own nearest neighbour: about one half for fresh data, zero for copies.",
)
_EXACT = ("exact_copies", "exact copies", "Share of samples equal to a training point.")
_NEAR = (
    "near_copies",
    "near copies",
    "Share of samples closer to a training point than a tenth of that point's own "
    "nearest-neighbour distance, exact copies included.",
)
_REPEATS = ("repeats", "repeats", "Share of samples equal to another sample of the model.")
_MIFID = (
    "mifid",
    "MIFID",
    "Fréchet distance to the training set, divided by the mean cosine distance to the nearest "
    "training point where that is below 0.1: near copies raise it. Smaller is better; larger for "
    "fewer samples; zero, misleadingly, for a copy of the whole training set.",
)
_RATIO = (
    "nearest_training_ratio",
    "distance ratio",
    "Median distance to the nearest training point, over the same for unseen data: one for fresh "
    "data, near zero for copies, above one where the model misses the data.",
)
_SCORE = (
    "copying_score",
    "C_T",
    "Data-copying statistic: about standard normal for fresh data, far below zero for copying, far "
    "above for underfitting; pooled over cells of space where there are rows enough.",
)


def _unseen(x: Tensor, train: Tensor, name: str) -> tuple[Tensor, list[str]]:
    """A's rows without those that stand in the training set too, which are not unseen.

    Unless they stand there by chance: where data repeat, rows of the training set equal each other
    about as often.
    """
    from probmetrics.metrics.memorisation import duplicates
    from probmetrics.twosample.result import clopper_pearson

    found = duplicates(x, train, near=1e-12)
    count = len(found.indices)
    if count == 0:
        return x, []
    stands = f"{count:,} of {len(x):,} rows of {name} stand in the training set"
    if clopper_pearson(count, len(x), 0.999)[0] <= _repeated(train):
        note = f"{stands}, whose own rows repeat as often; they were taken as unseen"
        return x, [note]
    kept = torch.ones(len(x), dtype=torch.bool)
    kept[found.indices] = False
    note = f"{stands}; they are not unseen and were left out of the comparison with it"
    return x[kept], [note]


def _repeated(train: Tensor) -> float:
    """The share of rows that equal another: what a fresh row has, which then is no copy."""
    from probmetrics.metrics.memorisation import duplicates

    return float(duplicates(train, train[:2]).within)


def _ratios(unseen: Tensor, train: Tensor) -> Tensor | None:
    from probmetrics.metrics.memorisation import nearest_copies

    return nearest_copies(unseen, train).ratios > 1 if len(unseen) else None


def _share(names: Names, hits: Tensor, unseen: Tensor | None, level: float) -> CopyScore:
    from probmetrics.twosample.result import clopper_pearson

    low, high = clopper_pearson(int(hits.sum()), len(hits), level)
    theirs = None if unseen is None else float(unseen.double().mean())
    return CopyScore(*names, float(hits.double().mean()), low, high, theirs)


def _copies(names: Names, share: Any, unseen: Any, m: int, level: float) -> CopyScore:
    from probmetrics.twosample.result import clopper_pearson

    low, high = clopper_pearson(round(float(share) * m), m, level)
    return CopyScore(*names, float(share), low, high, None if unseen is None else float(unseen))


def _mifid(y: Tensor, unseen: Tensor, train: Tensor, level: float, seed: int) -> list[CopyScore]:
    """The memorisation-informed Fréchet distance; none of one row or column.

    Its bias is that of the Fréchet distance, divided by the same penalty.
    """
    from probmetrics._interval import normal_interval
    from probmetrics.gaussian import frechet_distance
    from probmetrics.uncertainty import estimate

    if min(*y.shape, len(train)) < 2:
        return []
    train = train.double()
    options: dict[str, Any] = {"level": level, "method": "influence", "generator": seed}
    found = estimate(_penalised, train, _beside(y, train), **options)
    plain = estimate(frechet_distance, train, y.double(), **options)
    bias = plain.bias * (found.value / plain.value.clamp_min(torch.finfo(torch.float64).tiny))
    found = normal_interval(
        found.value, found.standard_error, method="influence", level=level, bias=bias
    )
    theirs = float(_penalised(train, _beside(unseen, train))) if len(unseen) > 1 else None
    value, low, high = (float(part) for part in (found.value, found.low, found.high))
    return [CopyScore(*_MIFID, value, low, high, theirs)]


def _beside(z: Tensor, train: Tensor) -> Tensor:
    """Samples with their cosine distance to the training set as one more column."""
    from probmetrics.metrics.memorisation import cosine_gaps

    return torch.cat([z.double(), cosine_gaps(train, z).unsqueeze(-1)], 1)


def _penalised(
    train: Tensor, beside: Tensor, *, a: Tensor | None = None, b: Tensor | None = None
) -> Tensor:
    """MIFID as a function of weights, the cosine distances given."""
    from probmetrics.gaussian import frechet_distance
    from probmetrics.metrics.memorisation import penalised

    square = frechet_distance(train, beside[:, :-1], a=a, b=b)
    gaps = beside[:, -1]
    return penalised(square, gaps.mean() if b is None else (b * gaps).sum())


def _more_copies(of_y: Any, of_x: Any, sizes: tuple[int, int], train: Tensor, level: float) -> bool:
    """Whether near copies are more frequent than among unseen data: Fisher's exact test.

    Without unseen data, whether exact copies certainly are more frequent than repeats within the
    training set, or near ones than they can be by chance on a line, where they are most frequent.
    """
    from scipy.stats import hypergeom

    from probmetrics.twosample.result import clopper_pearson

    m, n = sizes
    mine = round(float(of_y.near) * m)
    if of_x is None:
        exact = clopper_pearson(round(float(of_y.exact) * m), m, level)[0]
        return exact > _repeated(train) or clopper_pearson(mine, m, level)[0] > NEAR
    both = mine + round(float(of_x.near) * n)
    return bool(hypergeom.sf(mine - 1, m + n, both, m) <= 1 - level) if both else False


def _against_unseen(
    y: Tensor, train: Tensor, unseen: Tensor, level: float, seed: int
) -> tuple[float, Tensor, list[CopyScore]]:
    """The test of nearest-training distances, the unseen rows' distances, and their ratio."""
    from probmetrics.metrics.memorisation import nearest_training
    from probmetrics.uncertainty import estimate

    found = nearest_training(y, train, unseen)
    theirs = nearest_training(unseen, train, y).distances
    scores = []
    if float(theirs.median()) > 0:
        low: float | None
        high: float | None
        try:
            again = estimate(_of_medians, found.distances, theirs, level=level, generator=seed)
            low, high = float(again.low), float(again.high)
        except ValueError:  # data that repeat: half of a resample is at no distance at all
            low = high = None
        scores.append(CopyScore(*_RATIO, float(found.ratio), low, high, 1.0))
    return float(found.pvalue), theirs, scores


def _cells_score(y: Tensor, train: Tensor, unseen: Tensor, level: float, seed: int) -> CopyScore:
    """C_T, over cells of space where there are rows enough for them."""
    cells = CELLS if min(len(y), len(unseen)) >= 50 * CELLS and len(train) >= 50 * CELLS else 1
    try:
        interval = _score(y, train, unseen, cells, level, seed)
    except ValueError:  # no cell holds enough of both, or of a resample of both
        interval = _score(y, train, unseen, 1, level, seed)
    ends = float(interval.low), float(interval.high)
    return CopyScore(*_SCORE, float(interval.value), *ends, 0.0)


def _score(y: Tensor, train: Tensor, unseen: Tensor, cells: int, level: float, seed: int) -> Any:
    """C_T with its interval, given the training set."""
    from probmetrics.metrics.memorisation import placed_in_cells, score_of_placed
    from probmetrics.uncertainty import estimate
    from probmetrics.uncertainty.methods import Bootstrap

    placed = placed_in_cells(y, train, unseen, cells, seed)
    again = Bootstrap(replicates=200)
    return to_numpy(estimate(score_of_placed, *placed, level=level, method=again, generator=seed))


def _of_medians(first: Tensor, second: Tensor) -> Tensor:
    return first.median() / second.median()


def _suspects(pair: "Pair", near: Any) -> tuple[Suspect, ...]:
    training = pair.training
    assert training is not None
    order = np.lexsort((near.distances.numpy(), near.ratios.numpy()))[:SUSPECTS]
    return tuple(
        Suspect(
            position=int(i),
            row=int(pair.second.rows[i]),
            train_row=int(training.rows[int(near.neighbours[i])]),
            distance=float(near.distances[i]),
            ratio=float(near.ratios[i]),
        )
        for i in order
    )


def _sentence(
    pair: "Pair", scores: tuple[CopyScore, ...], pvalue: float | None, copies: bool, closer: bool
) -> str:
    from probmetrics.report.tables import number, share

    name = pair.second.name
    known = {score.name: score for score in scores}
    exact, near = known["exact_copies"].value, known["near_copies"].value
    ratio = known.get("nearest_training_ratio")
    median = "" if ratio is None else f"median distance ratio {number(ratio.value)}, "
    tested = "" if pvalue is None else f" ({median}{share(pvalue, 'p')})"
    if copies:
        return (
            f"{name} copies its training set: {100 * near:.3g}% of its samples are exact or near "
            f"copies of training points ({100 * exact:.3g}% exact), more than among unseen data"
            f"{tested}."
        )
    if closer:
        return (
            f"{name} lies closer to its training set than unseen data do{tested}, without more "
            "near copies than they have: it may memorise, or spread too little."
        )
    found = f"no sign that {name} copies its training set{tested}"
    if exact > 0:
        floor = known["exact_copies"].unseen
        beside = "" if floor is None else f", against {100 * floor:.3g}% of unseen data"
        found += f", though {100 * exact:.3g}% of its samples are exact copies{beside}"
    return f"There is {found}."
