"""Comparing Dask arrays and data frames: sketches per partition, merged in a tree."""

import sys
from typing import Any

import numpy as np

import probmetrics
from probmetrics.data.dataset import DataError, Dataset, column_indices
from probmetrics.report.streaming import update_from, usable
from probmetrics.report.whole import Whole, sample_of, whole_of
from probmetrics.sketches.plan import Sketches, SketchPlan

BRANCHES = 8  # sketches merged at once
LOOKS = 4  # partitions looked at
LOOK = 1000  # rows of each
VERSION = "__import__('probmetrics').__version__"


def compare_on_dask(
    x: Any, y: Any, *, columns: Any, scale: bool | None, options: dict[str, Any]
) -> tuple[Dataset, Dataset, Whole]:
    """Samples of both collections and the distances of all their rows.

    A partition's sketch depends on its rows, its place and the seed alone, so that one that is
    computed again, after a worker died, is the same.
    """
    dask = engine()
    check_workers()
    sides = [_partitions(side, name, columns) for side, name in ((x, "x"), (y, "y"))]
    (parts, names, kind), (others, other_names, _) = sides
    if names != other_names:
        if kind != "table" or set(names) != set(other_names):
            raise DataError(
                f"x has columns {list(names)[:5]} and y {list(other_names)[:5]}; both need the same"
            )
        others, _, _ = _partitions(y, "y", names)
    scaled = kind == "table" and len(names) > 1 if scale is None else scale
    looks = [_look(side) for side in (parts, others)]
    try:
        heads = dask.compute(*looks)
        seen = [usable(np.concatenate(h)) for h in heads]
        plan = SketchPlan.after(*seen, scale=scaled, **options)
        a, b = dask.compute(*(_tree(plan, side, 2) for side in ((parts, 0), (others, 1))))
    except ImportError as error:
        raise ValueError(
            f"a Dask worker could not import what it needs ({error}); install probmetrics, in this "
            "version, on every worker"
        ) from error
    for found, name in ((a, "x"), (b, "y")):
        if found.n < 2:
            raise DataError(f"{name} has {found.n} rows in all its partitions; two are needed")
    samples = [sample_of(s, names, f"dask {n}", kind) for s, n in ((a, "x"), (b, "y"))]
    return samples[0], samples[1], whole_of(a, b, names)


def check_workers() -> None:
    """Whether the workers of the current cluster, and its scheduler, have this package.

    One that lacks it could not read its tasks, nor say so: the run would wait for ever. What is
    sent to find out is of Python's own.
    """
    distributed = sys.modules.get("distributed")
    try:
        client = None if distributed is None else distributed.default_client()
    except ValueError:
        return  # there is no cluster
    if client is None or client.asynchronous:
        return
    own = probmetrics.__version__
    found = client.run(eval, VERSION, on_error="return")
    found = {f"worker {name}": version for name, version in found.items()}
    try:
        found["the scheduler"] = client.run_on_scheduler(eval, VERSION)
    except ImportError as error:
        found["the scheduler"] = error
    for name, version in found.items():
        if isinstance(version, ImportError):
            told = "could not import probmetrics"
        elif version != own:
            told = f"has probmetrics {version} and this process {own}"
        else:
            continue
        raise ValueError(
            f"{name} of the Dask cluster {told} ({len(found) - 1} workers were asked); install "
            f"probmetrics {own} on all of them"
        )


def _partitions(side: Any, name: str, columns: Any) -> tuple[list[Any], tuple[str, ...], str]:
    """Delayed partitions, the columns' names, and "array" or "table"."""
    if hasattr(side, "to_delayed") and hasattr(side, "dtypes") and hasattr(side, "columns"):
        known = [str(c) for c in side.columns]
        at = range(len(known)) if columns is None else column_indices(columns, known, name)
        chosen = [side.columns[i] for i in at]
        text = [c for c in chosen if side.dtypes[c].kind not in "fiub"]
        if text:
            raise DataError(f"{name}: column {text[0]!r} holds {side.dtypes[text[0]]}, not numbers")
        return list(side[chosen].to_delayed()), tuple(str(c) for c in chosen), "table"
    if not hasattr(side, "to_delayed") or not hasattr(side, "rechunk"):
        raise DataError(
            f"{name} is {type(side).__name__}; where one side is a Dask array or data frame, the "
            "other must be one too (dask.array.from_array, dask.dataframe.from_pandas)"
        )
    if columns is not None:
        raise DataError("columns= is for data frames; slice a Dask array instead, x[:, [0, 2]]")
    if side.ndim == 1:
        side = side[:, None]
    if side.ndim != 2 or side.dtype.kind not in "fiub":
        raise DataError(f"{name} must be rows of numbers (n, d), got {side.ndim} dimensions")
    whole = side.rechunk({1: -1})
    return (
        list(whole.to_delayed()[:, 0]),
        tuple(f"column_{j}" for j in range(side.shape[1])),
        "array",
    )


def _look(parts: list[Any]) -> list[Any]:
    """The first rows of partitions from all over the collection."""
    dask = engine()
    step = max(1, len(parts) // LOOKS)
    return [dask.delayed(head)(part) for part in parts[::step][:LOOKS]]


def _tree(plan: SketchPlan, side: tuple[list[Any], int], sides: int) -> Any:
    """The sketches of one collection, as a delayed value."""
    dask = engine()
    parts, place = side
    level = [
        dask.delayed(sketch_part)(plan, part, sides * i + place) for i, part in enumerate(parts)
    ]
    while len(level) > 1:
        groups = [level[i : i + BRANCHES] for i in range(0, len(level), BRANCHES)]
        level = [dask.delayed(merge_all)(group) for group in groups]
    return level[0]


def engine() -> Any:
    """Dask, which whoever passes its collections has."""
    import dask

    return dask


def head(part: Any) -> np.ndarray:
    """Some rows of a partition."""
    return as_rows(part)[:LOOK]


def sketch_part(plan: SketchPlan, part: Any, stream: int) -> Sketches:
    """The sketches of one partition."""
    found, rows = plan.start(stream), as_rows(part)
    update_from(found, rows, f"partition {stream // 2}")
    return found


def merge_all(sketches: list[Sketches]) -> Sketches:
    """One for several, in the order given."""
    joined = sketches[0]
    for sketch in sketches[1:]:
        joined = joined.merge(sketch)
    return joined


def as_rows(part: Any) -> np.ndarray:
    """The numbers of a partition, shape (n, d)."""
    if hasattr(part, "to_numpy"):
        return np.asarray(part.to_numpy(dtype=np.float64, na_value=np.nan))
    values = np.asarray(part)
    return values if values.dtype.kind == "f" else values.astype(np.float64)
