"""rank_models(): which of several samples is closest to the data, and which order is not chance."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from probmetrics import _checks as checks
from probmetrics._arrays import to_numpy
from probmetrics.report.copying import Copying
from probmetrics.report.encoding import choose_encoder
from probmetrics.report.entrants import cautions, copying_table, marked, read_entrants
from probmetrics.report.metrics import METRICS, choose_metrics
from probmetrics.report.tables import number, plain_text, range_text, share, table_of, text_of

DISTANCES = ("mmd", "energy", "kid")
ALONGSIDE = ("frechet",)


@dataclass(frozen=True)
class Place:
    """A model in a ranking.

    Attributes:
        name: What it is called.
        source: Where its samples are from.
        samples: How many were used.
        value: Its distance from the data, by which the models are ordered.
        low: Lower end of its interval.
        high: Upper end.
        tier: Number of its tier, from 1: neighbours that the test cannot tell apart share one.
        others: Further distances by name, each (value, low, high).
        copying: What the training set says about the model; None where none was given.
    """

    name: str
    source: str
    samples: int
    value: float
    low: float
    high: float
    tier: int
    others: dict[str, tuple[float, float | None, float | None]]
    copying: Copying | None = None


@dataclass(frozen=True)
class Step:
    """The relative test between two neighbours in rank.

    Attributes:
        closer: The one ranked before.
        farther: The one ranked after.
        pvalue: Of "both are equally far", two-sided.
        adjusted: Bonferroni-adjusted over all pairs of models, because the ranking chose this one.
        supported: Whether ``adjusted`` is at most the level: the order is not chance.
    """

    closer: str
    farther: str
    pvalue: float
    adjusted: float
    supported: bool


@dataclass(frozen=True, repr=False)
class Ranking:
    """Models in the order of their distance from the data, and what of that order is supported.

    Attributes:
        places: The models, the closest first.
        steps: The test between each and the next.
        metric: The distance they are ordered by.
        level: Significance level of the tests.
        sentence: What the data support, in words.
        notes: What the reader should know.
    """

    places: tuple[Place, ...]
    steps: tuple[Step, ...]
    metric: str
    level: float
    sentence: str
    notes: tuple[str, ...]

    @property
    def table(self) -> str:
        """The ranking as text."""
        return text_of(*self.parts())

    def parts(self) -> list[Any]:
        """The ranking as something rich prints."""
        title = METRICS[self.metric].title
        extra = list(self.places[0].others)
        columns = ["rank", "model", "samples", title, "interval", "against the next"]
        table = table_of("Ranking", *columns, *(METRICS[name].title for name in extra), left=2)
        for i, place in enumerate(self.places):
            name = marked(place.name, place.copying)
            cells = [_rank(self.places, place), name, f"{place.samples:,}"]
            cells += [number(place.value), range_text(place.low, place.high)]
            cells.append(_against(self.steps[i]) if i < len(self.steps) else "")
            table.add_row(
                *map(plain_text, cells), *(number(place.others[name][0]) for name in extra)
            )
        parts = [table, ""]
        copying = {place.name: place.copying for place in self.places if place.copying is not None}
        if copying:
            parts += [copying_table(copying), ""]
        parts.append(plain_text(self.sentence))
        return [*parts, *(plain_text(f"• {note}") for note in self.notes)]

    def to_dict(self) -> dict[str, Any]:
        """All numbers in JSON's types."""
        from probmetrics.report.serial import copying_as_dict, plain

        document = {"schema": "probmetrics.ranking/1", **asdict(self)}
        for place, shown in zip(self.places, document["places"], strict=True):
            shown["copying"] = None if place.copying is None else copying_as_dict(place.copying)
        answer: dict[str, Any] = plain(document)
        return answer

    def __repr__(self) -> str:
        return self.table


def rank_models(
    real: Any,
    models: Mapping[str, Any] | Sequence[Any],
    *,
    train: Any = None,
    metric: str = "mmd",
    also: Sequence[str] = ALONGSIDE,
    level: float = 0.95,
    permutations: int = 499,
    seed: int = 0,
    max_samples: int | None = 5000,
    scale: bool | None = None,
    progress: bool | None = None,
    encoder: Any = None,
    cache: Any = None,
    **options: Any,
) -> Ranking:
    """Order models by the distance of their samples from the data, and say what is no chance.

    All distances share one kernel; neighbours in rank are compared by the relative (three-sample)
    test with that kernel. Models between which it finds no difference share a tier: their order
    is not supported by the data.

    Args:
        real: Data: an array, path, embedded set; whatever ``probmetrics.data.read`` takes.
        models: Samples of the models by name, or a list of paths.
        train: What the models were trained on; ``real`` then is data they have not seen. Models
            that copy it, or come closer to it than unseen data do, are named, by tests that hold
            for all models together. A copy looks closest of all to the data.
        metric: ``"mmd"`` (Gaussian kernel, median distance of all samples pooled), ``"energy"``
            (the test is on the kernel −‖x − y‖) or ``"kid"`` (cubic kernel).
        also: Further distances to show, without a part in the order.
        level: Confidence level of the intervals; the tests use one less it.
        permutations: Labelings of each relative test.
        seed: Everything random follows from it.
        max_samples: Most rows of each sample; of the training set all are used.
        scale: Divide each column by its standard deviation over all samples pooled; None does so
            for tables, as in ``compare``.
        progress: Progress bar; None shows one on a terminal.
        encoder: As for ``compare``.
        cache: As for ``compare``.
        **options: ``columns``, ``image_size``, ``key``, ``on_corrupt`` as for ``compare``.

    Returns:
        A ``Ranking``; print it.

    Raises:
        ValueError: Fewer than two models, equal names, data that cannot be compared.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> real = rng.normal(size=(100, 2))
        >>> models = {"far": real[::-1] + 2, "near": rng.normal(size=(100, 2))}
        >>> ranking = rank_models(real, models, permutations=99, seed=0)
        >>> [place.name for place in ranking.places], ranking.steps[0].supported
        (['near', 'far'], True)

    References:
        Bounliphone et al. (2016), A test of relative similarity for model selection in generative
        models.
    """
    checks.choice(metric, "metric", DISTANCES)
    level = checks.between(level, "level", 0.0, 1.0)
    named = _named(models)
    chosen = choose_metrics([name for name in also if name != metric]) if also else []
    reading = {"encoder": choose_encoder(encoder), "cache": cache, "progress": progress, **options}
    entered = read_entrants(
        real,
        named,
        train,
        max_samples=max_samples,
        seed=seed,
        level=level,
        scale=scale,
        **reading,
    )
    data, samples = entered.data, entered.samples
    kernel = _kernel(metric, [data, *samples.values()])
    found = {
        name: _distance(metric, kernel, data, y, level=level, seed=seed)
        for name, y in samples.items()
    }
    order = sorted(samples, key=lambda name: float(found[name].value))
    alpha = round(1 - level, 12)
    pairs = len(order) * (len(order) - 1) // 2
    steps = tuple(
        _step(data, samples, (a, b), kernel, pairs, alpha, permutations, seed)
        for a, b in itertools.pairwise(order)
    )
    places, tier = [], 1
    for i, name in enumerate(order):
        tier += i > 0 and steps[i - 1].supported
        others = {m.name: _other(m, data, samples[name], level, seed) for m in chosen}
        interval = found[name]
        ends = float(interval.value), float(interval.low), float(interval.high)
        copying = entered.copying.get(name)
        row = name, _source(named[name]), len(samples[name]), *ends, tier, others, copying
        places.append(Place(*row))
    sentence = _sentence(places, steps, alpha)
    return Ranking(tuple(places), steps, metric, alpha, sentence, entered.notes)


def _named(models: Any) -> dict[str, Any]:
    if isinstance(models, Mapping):
        named = {str(name): source for name, source in models.items()}
    else:
        names = [
            str(m) if isinstance(m, str | Path) else f"model {i + 1}" for i, m in _numbered(models)
        ]
        if len(set(names)) < len(names):
            raise ValueError(f"a model is given twice: {names}; pass a dictionary of names")
        named = dict(zip(names, models, strict=True))
    if len(named) < 2:
        raise ValueError(f"ranking needs at least 2 models, got {len(named)}; see compare for one")
    return named


def _numbered(models: Any) -> Any:
    return enumerate(list(models))


def _kernel(metric: str, samples: list[torch.Tensor]) -> Any:
    from probmetrics.pairwise import median_bandwidth
    from probmetrics.pairwise.kernels import Distance, Gaussian, Polynomial

    if metric == "energy":
        return Distance()
    if metric == "kid":
        return Polynomial()
    pooled = torch.cat(samples[1:])
    return Gaussian(float(median_bandwidth(samples[0], pooled)))


def _distance(metric: str, kernel: Any, x: Any, y: Any, *, level: float, seed: int) -> Any:
    from probmetrics.discrepancy import energy_distance, mmd
    from probmetrics.uncertainty import estimate

    if metric == "energy":
        found = estimate(energy_distance, x, y, level=level, generator=seed, unbiased=True)
    else:
        found = estimate(mmd, x, y, level=level, generator=seed, kernel=kernel)
    return to_numpy(found)


def _other(
    metric: Any, x: Any, y: Any, level: float, seed: int
) -> tuple[float, float | None, float | None]:
    from probmetrics.uncertainty import estimate

    distance = metric.bind(x, y, seed)
    generator = torch.Generator().manual_seed(seed)
    limit = metric.limit or max(len(x), len(y))
    x, y = (z[torch.randperm(len(z), generator=generator)[:limit]] for z in (x, y))
    found = estimate(distance, x, y, level=level, generator=seed)
    return float(found.value), float(found.low), float(found.high)


def _step(
    data: Any,
    samples: dict[str, Any],
    pair: tuple[str, str],
    kernel: Any,
    pairs: int,
    alpha: float,
    permutations: int,
    seed: int,
) -> Step:
    from probmetrics.twosample import relative_test

    first, second = pair
    found = relative_test(
        data,
        samples[first],
        samples[second],
        kernel=kernel,
        permutations=permutations,
        generator=seed,
        level=alpha,
        progress=False,
    )
    adjusted = min(1.0, found.pvalue * pairs)
    return Step(first, second, found.pvalue, adjusted, adjusted <= alpha)


def _sentence(places: list[Place], steps: tuple[Step, ...], alpha: float) -> str:
    tiers: dict[int, list[str]] = {}
    for place in places:
        tiers.setdefault(place.tier, []).append(marked(place.name, place.copying))
    against = cautions({place.name: place.copying for place in places})
    at = f"at the {100 * alpha:.3g}% level, adjusted for all pairs"
    if len(tiers) == 1:
        return (
            f"The data do not support any order between neighbours ({at}): the models are listed "
            f"by their estimates, which differ no more than chance makes them. {against}"
        ).strip()
    shown = "; then ".join(" and ".join(names) for names in tiers.values())
    answer = f"Closest to the data: {shown} ({at})."
    if any(len(names) > 1 for names in tiers.values()):
        answer += " The order within a group is not supported by the data."
    return f"{answer} {against}".strip()


def _rank(places: tuple[Place, ...], place: Place) -> str:
    same = [i + 1 for i, other in enumerate(places) if other.tier == place.tier]
    return str(same[0]) if len(same) == 1 else f"{same[0]}–{same[-1]}"


def _against(step: Step) -> str:
    return f"{share(step.adjusted, 'p')}{'' if step.supported else ', not told apart'}"


def _source(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else type(source).__name__
