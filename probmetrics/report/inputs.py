"""The two sides of a comparison: read, aligned by column name, subsampled and scaled alike."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics.data.dataset import (
    DataError,
    Dataset,
    column_names,
    listed,
    refuse_beyond_memory,
    shown,
    subsample_rows,
)
from probmetrics.data.readers import read
from probmetrics.encoders import AbstractEncoder, extract
from probmetrics.report.encoding import encoded, is_texts

TRAINING = "training set"
SPREAD = 10.0  # ratio of column standard deviations from which a note is due
COPIES = 6  # of both samples in float64, held at the same time
DRAWN = re.compile(r"[\d,]+ of ([\d,]+) \w+ drawn \(seed \d+\)")


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two samples.

    Attributes:
        name: What the report calls it.
        data: The rows that were compared.
        rows: Their positions in the source, counted from 0.
        total: How many rows the source has.
        pixels: Where an encoder turned images into ``data``: these images.
    """

    name: str
    data: Dataset
    rows: np.ndarray
    total: int
    pixels: Dataset | None = None

    @property
    def pictures(self) -> Dataset:
        """What the rows look like: the images if an encoder was used, else the rows themselves."""
        return self.data if self.pixels is None else self.pixels


@dataclass(frozen=True, eq=False)
class Pair:
    """Both samples as they are compared, and as they were read.

    Attributes:
        first: Side A.
        second: Side B.
        x: A's values, shape (n, d), scaled if ``scaled``.
        y: B's values, shape (m, d).
        columns: The d names.
        deviation: Pooled standard deviation of each column as read, shape (d,).
        scaled: Whether columns were divided by it.
        notes: What the reader of the report should know.
        training: What the model behind B was trained on; None if unknown.
        train: Its values, scaled as those of A and B.
        encoder: What is known of the encoder; None if the columns are the data's own.
    """

    first: Side
    second: Side
    x: Tensor
    y: Tensor
    columns: tuple[str, ...]
    deviation: np.ndarray
    scaled: bool
    notes: tuple[str, ...]
    training: Side | None = None
    train: Tensor | None = None
    encoder: dict[str, Any] | None = None

    @property
    def sides(self) -> tuple[Side, Side]:
        """A and B."""
        return self.first, self.second

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The common shape of both sides' images; None if they are not images."""
        shape = self.first.pictures.image_shape
        return shape if shape == self.second.pictures.image_shape else None

    @property
    def what(self) -> str:
        """What a column is called."""
        own = self.encoder is None and self.image_shape is not None
        return "pixel" if own else "feature"


def read_pair(
    x: Any,
    y: Any,
    *,
    names: tuple[str, str],
    columns: Any,
    max_samples: int | None,
    seed: int,
    scale: bool | None,
    train: Any = None,
    encoder: AbstractEncoder | None = None,
    cache: Any = None,
    judge_units: bool = True,
    **options: Any,
) -> Pair:
    """Both samples, ready to compare.

    Args:
        x: Whatever ``probmetrics.data.read`` takes, or a ``Side`` that was read before.
        y: Likewise. Toys and subsamples of A draw with ``seed``, those of B with ``seed + 1``.
        names: What to call them.
        columns: Columns to keep, on both sides.
        max_samples: Most rows to keep of each side.
        seed: Seed of the subsamples.
        scale: Divide each column by its pooled standard deviation; None does so for tables of
            several columns, whose units differ, and leaves arrays and images as they are.
        train: What the model behind y was trained on, all of it; None if unknown.
        encoder: Turns the rows of all sides into features.
        cache: Folder where features are kept.
        judge_units: Note columns left in units of their own.
        options: Passed to ``probmetrics.data.read``.
    """
    wanted = [(x, names[0], max_samples), (y, names[1], max_samples)]
    if train is not None:
        wanted.append((train, TRAINING, None))
    sides = [
        source
        if isinstance(source, Side)
        else read_side(
            source,
            name,
            columns=columns,
            max_samples=most,
            seed=seed + i,
            encoder=encoder,
            cache=cache,
            **options,
        )
        for i, (source, name, most) in enumerate(wanted)
    ]
    first, second, notes = _aligned(*sides[:2])
    training = _aligned(first, sides[2])[1] if len(sides) == 3 else None
    values = [side.data.values for side in (first, second)]
    refuse_beyond_memory(
        COPIES * 8 * sum(v.size for v in values),
        f"comparing {first.data.source} and {second.data.source}",
        "keep fewer rows (max_samples, --max-samples) or columns (columns, --columns)",
    )
    _refuse_overflow(values, (first, second))
    units = Units.of(values, (first, second), scale)
    if judge_units and (encoder is None or encoder.name == "identity"):  # features have no units
        notes += units.note
    notes += _range_note(first, second) + _copies_note(first, second)
    if training is not None:
        values.append(training.data.values)
    values = [units.change(v) for v in values]
    dtype = np.result_type(*values)
    x, y, *seen = (torch.from_numpy(np.array(v, dtype=dtype)) for v in values)
    return Pair(
        first=first,
        second=second,
        x=x,
        y=y,
        columns=first.data.columns,
        deviation=units.deviation,
        scaled=units.scaled,
        notes=tuple(notes),
        training=training,
        train=seen[0] if seen else None,
        encoder=None if encoder is None else encoder.provenance,
    )


def _refuse_overflow(values: list[np.ndarray], sides: tuple[Side, Side]) -> None:
    """Refuse values whose squared distances would overflow."""
    room = np.sqrt(np.finfo(np.result_type(*values)).max / values[0].shape[1]) / 100
    for side, v in zip(sides, values, strict=True):
        if np.abs(v).max() > room:
            raise DataError(
                f"{side.name} ({side.data.source}) holds values up to {np.abs(v).max():.3g}, whose "
                f"squares overflow {np.result_type(*values)}; divide them by a constant first"
            )


def _location_and_spread(
    values: list[np.ndarray], *, images: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the pooled columns; zero where they vary by rounding alone."""
    pooled = np.concatenate(values)
    origin = pooled[0].astype(np.float64)  # so that columns at large offsets keep their digits
    moved = pooled - origin
    deviation = moved.std(axis=0, ddof=1)
    size = np.abs(pooled).max(axis=0).astype(np.float64)
    if images:  # pixels share a unit, so the widest of them sets it
        size = np.full_like(size, size.max())
    precision = 1e-6 if pooled.dtype == np.float32 else 1e-13
    deviation[deviation <= precision * size] = 0.0
    return origin + moved.mean(axis=0), deviation


@dataclass(frozen=True, eq=False)
class Units:
    """The unit of each column, and whether columns are divided by it.

    Attributes:
        centre: Means of the columns, shape (d,).
        deviation: Their standard deviations, shape (d,).
        scaled: Whether columns are divided by them.
        note: What to say where they are not and differ widely.
    """

    centre: np.ndarray
    deviation: np.ndarray
    scaled: bool
    note: list[str]

    @classmethod
    def of(cls, values: list[np.ndarray], sides: Sequence[Side], scale: bool | None) -> "Units":
        """Those of all samples pooled; ``scale`` None divides tables of several columns."""
        first = sides[0].data
        centre, deviation = _location_and_spread(values, images=first.kind == "images")
        if scale is None:
            kinds = {side.data.kind for side in sides}
            scale = "table" in kinds and first.image_shape is None and len(deviation) > 1
        note = [] if scale else _spread_note(deviation, sides[0])
        return cls(centre, deviation, bool(scale), note)

    def change(self, values: np.ndarray) -> np.ndarray:
        """Columns in their unit, if that is wanted; those without one are only centred."""
        if not self.scaled:
            return values
        scaled = (values - self.centre) / np.where(self.deviation > 0, self.deviation, 1.0)
        standard: np.ndarray = scaled.astype(values.dtype)
        return standard


def read_side(
    source: Any,
    name: str,
    *,
    columns: Any,
    max_samples: int | None,
    seed: int,
    encoder: AbstractEncoder | None = None,
    cache: Any = None,
    **options: Any,
) -> Side:
    """One sample, read and encoded; arguments as for ``read_pair``."""
    if encoder is not None and is_texts(source):
        return _texts(source, name, max_samples, seed, (encoder, cache), options)
    columns = column_names(columns)
    data = read(source, columns=columns, max_samples=max_samples, seed=seed, **options)
    if len(data) < 2:
        raise DataError(
            f"{name} ({data.source}) has 1 row; at least 2 are needed to tell a difference from "
            "chance"
        )
    total = _total(data)
    kept = subsample_rows(total, max_samples, seed)
    rows = kept if kept is not None and len(kept) == len(data) else np.arange(len(data))
    if encoder is None:
        return Side(name, data, rows, total)
    features = encoded(data, encoder, cache=cache, progress=options.get("progress"))
    return Side(name, features, rows, total, data)


def _texts(
    texts: Any,
    name: str,
    max_samples: int | None,
    seed: int,
    encoding: tuple[AbstractEncoder | None, Any],
    options: dict[str, Any],
) -> Side:
    """A list of texts as their features."""
    rows = subsample_rows(len(texts), max_samples, seed)
    rows = np.arange(len(texts)) if rows is None else rows
    kept = [texts[i] for i in rows]
    found = extract(kept, encoding[0], cache=encoding[1], progress=options.get("progress"))
    values = found.values.numpy()
    columns = tuple(f"feature_{j}" for j in range(values.shape[1]))
    labels = np.array([shown(text, 60) for text in kept])
    return Side(name, Dataset(values, columns, source="texts", labels=labels), rows, len(texts))


def _total(data: Dataset) -> int:
    """How many rows the source had: a reader that drew some of them says so in a note."""
    found = [DRAWN.search(note) for note in data.notes]
    return max((int(m[1].replace(",", "")) for m in found if m), default=len(data))


def _aligned(first: Side, second: Side) -> tuple[Side, Side, list[str]]:
    """Both sides with the same columns in the same order."""
    a, b = first.data, second.data
    if a.image_shape != b.image_shape and None not in (a.image_shape, b.image_shape):
        raise DataError(
            f"{first.name} ({a.source}) holds images of {_size(a)} and {second.name} "
            f"({b.source}) of {_size(b)}; resize one side (image_size=, --image-size)"
        )
    if a.kind == b.kind == "table" and a.columns != b.columns:
        return _by_name(first, second)
    if len(a.columns) != len(b.columns):
        raise DataError(
            f"{first.name} ({a.source}) has {len(a.columns)} columns and {second.name} "
            f"({b.source}) has {len(b.columns)}; both need the same ones (columns=, --columns)"
        )
    if b.kind == "table" or b.image_shape is not None:  # the side that has names lends them
        first = replace(first, data=replace(a, columns=b.columns, image_shape=b.image_shape))
    else:
        second = replace(second, data=replace(b, columns=a.columns, image_shape=a.image_shape))
    return first, second, []


def _by_name(first: Side, second: Side) -> tuple[Side, Side, list[str]]:
    a, b = first.data, second.data
    if sorted(a.columns) == sorted(b.columns) and len(set(a.columns)) == len(a.columns):
        order = [b.columns.index(name) for name in a.columns]
        reordered = replace(b, values=b.values[:, order], columns=a.columns)
        note = f"the columns of {second.name} were put in the order of {first.name}"
        return first, replace(second, data=reordered), [note]
    missing = [
        f"only in {side.name} ({side.data.source}): {listed(only)}"
        for side, other in ((first, b), (second, a))
        if (only := [name for name in side.data.columns if name not in other.columns])
    ]
    what = "; ".join(missing) or "some names occur more than once"
    raise DataError(f"the columns differ; {what}; choose common ones (columns=, --columns)")


def _size(data: Dataset) -> str:
    return " × ".join(map(str, data.image_shape or ()))


def _spread_note(deviation: np.ndarray, first: Side) -> list[str]:
    spread = deviation[deviation > 0]
    if first.data.image_shape is not None or len(spread) < 2:
        return []
    ratio = spread.max() / spread.min()
    if ratio < SPREAD:
        return []
    return [
        f"standard deviations of the columns differ by a factor of {ratio:.3g} and the widest "
        "dominate the distances; pass scale=True (--scale) to give all columns the same weight"
    ]


def _range_note(first: Side, second: Side) -> list[str]:
    """Images in 0 to 1 against images in 0 to 255 are a slip, not a finding."""
    if first.data.image_shape is None:
        return []
    tops = [float(np.abs(side.data.values).max()) for side in (first, second)]
    if min(tops) == 0 or max(tops) / min(tops) < SPREAD:
        return []
    return [
        f"pixel values reach {tops[0]:.4g} in {first.name} and {tops[1]:.4g} in {second.name}; "
        "are both in the same unit?"
    ]


def _copies_note(first: Side, second: Side) -> list[str]:
    """Rows of A that stand in B too: such samples are not independent."""
    known = {row.tobytes() for row in _plain(first)}
    copies = sum(row.tobytes() in known for row in _plain(second))
    if not copies:
        return []
    return [
        f"{copies:,} of {len(second.data):,} rows of {second.name} occur in {first.name} too; "
        "if they are copies, the samples are not independent and look closer than they are"
    ]


def _plain(side: Side) -> np.ndarray:
    return np.ascontiguousarray(side.data.values, dtype=np.float64) + 0.0  # -0.0 becomes 0.0
