"""What enters a ranking: the data, the training set and every model's samples, each read once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from probmetrics.report.copying import Copying, judge_copying
from probmetrics.report.inputs import TRAINING, Pair, Units, read_pair, read_side
from probmetrics.report.tables import number, plain_text, share, table_of

SCORES = ("authenticity", "near_copies", "nearest_training_ratio")


@dataclass(frozen=True, eq=False)
class Entrants:
    """The samples of a ranking, as features of one kind and in one unit.

    Attributes:
        data: Shape (n, d), float64.
        samples: Of each model, shape (m, d), float64.
        copying: What the training set says about each model; empty without one.
        notes: What the reader should know.
    """

    data: Tensor
    samples: dict[str, Tensor]
    copying: dict[str, Copying]
    notes: tuple[str, ...]


def read_entrants(
    real: Any,
    models: Mapping[str, Any],
    train: Any,
    *,
    max_samples: int | None,
    seed: int,
    level: float,
    scale: bool | None,
    **reading: Any,
) -> Entrants:
    """Read and encode each source once, scale all alike, and look for copies.

    Args:
        real: The data.
        models: Samples of the models by name.
        train: What the models were trained on; None if unknown.
        max_samples: Most rows of each sample; of the training set all are kept.
        seed: Of subsamples and resamples.
        level: Confidence level; what is said of the models together holds at it.
        scale: Divide columns by the standard deviation of all samples pooled; None does so for
            tables.
        reading: Options of ``read_pair``.
    """
    reading = {"columns": None, **reading}
    first = read_side(real, "real", max_samples=max_samples, seed=seed, **reading)
    seen = None
    if train is not None:
        seen = read_side(train, TRAINING, max_samples=None, seed=seed + 2, **reading)
    pairs = {
        name: read_pair(
            first,
            source,
            names=("real", name),
            max_samples=max_samples,
            seed=seed,
            scale=False,
            train=seen,
            judge_units=False,
            **reading,
        )
        for name, source in models.items()
    }
    pairs, notes = _scaled(pairs, scale)
    copying = {}
    if seen is not None:
        copying = {
            name: judge_copying(pair, level=level, seed=seed, among=len(pairs), briefly=True)
            for name, pair in pairs.items()
        }
    data = next(iter(pairs.values())).x.double()
    samples = {name: pair.y.double() for name, pair in pairs.items()}
    return Entrants(data, samples, copying, _notes(pairs, copying) + notes)


def _scaled(pairs: dict[str, Pair], scale: bool | None) -> tuple[dict[str, Pair], tuple[str, ...]]:
    """The pairs with columns in units of their spread over all samples, if wanted."""
    first = next(iter(pairs.values()))
    values = [first.x.numpy(), *(pair.y.numpy() for pair in pairs.values())]
    sides = [first.first, *(pair.second for pair in pairs.values())]
    units = Units.of(values, sides, scale)
    if not units.scaled:
        own = first.encoder is None or first.encoder["name"] == "identity"
        return pairs, tuple(units.note) if own else ()

    def changed(z: Tensor) -> Tensor:
        return torch.from_numpy(units.change(z.numpy()))

    scaled = {
        name: replace(
            pair,
            x=changed(pair.x),
            y=changed(pair.y),
            train=None if pair.train is None else changed(pair.train),
            scaled=True,
        )
        for name, pair in pairs.items()
    }
    return scaled, ("columns were divided by their standard deviation over all samples",)


def _notes(pairs: dict[str, Pair], copying: dict[str, Copying]) -> tuple[str, ...]:
    """All notes, each once."""
    notes = []
    for name, pair in pairs.items():
        sides = [*pair.sides, *([] if pair.training is None else [pair.training])]
        notes += [f"{side.name}: {note}" for side in sides for note in side.data.notes]
        notes += pair.notes
        notes += copying[name].notes if name in copying else ()
    if not copying:
        notes.append(
            "no training set was given, so nobody looked for copies: a model that copies what it "
            "was trained on looks closest of all; pass train (--train)"
        )
    return tuple(dict.fromkeys(notes))


def marked(name: str, copying: Copying | None) -> str:
    """A model's name, with a word where it copies its training set."""
    if copying is None or not (copying.copies or copying.closer):
        return name
    return f"{name} ({'copies' if copying.copies else 'may copy'})"


def cautions(copying: Mapping[str, Copying | None]) -> str:
    """What the training set says against models, the closest first; empty for nothing."""
    found = {name: c for name, c in copying.items() if c is not None}
    suspects = [name for name, c in found.items() if c.copies or c.closer]
    said = " ".join(found[name].sentence for name in suspects)
    if not suspects:
        return said
    said += " A small distance is what copying looks like: it does not speak for such a model."
    rest = [name for name in found if name not in suspects]
    if rest:
        return f"{said} Of the models without a sign of copying, {rest[0]} stands first."
    return f"{said} No model is without a sign of copying."


def copying_table(copying: Mapping[str, Copying | None]) -> Any:
    """Of each model: authenticity, near copies, the ratio of distances, its test."""
    known = {name: c for name, c in copying.items() if c is not None}
    named = {s.name: s for c in known.values() for s in c.scores}
    shown = [name for name in SCORES if name in named]
    titles = [named[name].title for name in shown]
    table = table_of("Memorisation", "model", *titles, "p-value", "training set")
    for name, c in known.items():
        scores = {s.name: s for s in c.scores}
        cells = [number(scores[score].value if score in scores else None) for score in shown]
        cells.append("–" if c.pvalue is None else share(c.pvalue))
        table.add_row(plain_text(name), *cells, _in_a_word(c))
    floors = {s.name: s.unseen for s in next(iter(known.values())).scores}
    table.add_row("unseen data", *(number(floors.get(score)) for score in shown), "", "")
    table.caption = plain_text(
        "p-value: of being no closer to the training set than unseen data are; the last column "
        "holds for all models together."
    )
    return table


def _in_a_word(copying: Copying) -> str:
    if copying.copies:
        return "copied"
    if copying.closer:
        return "closer than unseen data"
    exact = {s.name: s.value for s in copying.scores}["exact_copies"]
    return "no sign of copying" if exact == 0 else "copies, perhaps by chance"
