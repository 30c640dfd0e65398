"""Comparing files larger than memory: one pass over each, sketching as it goes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from probmetrics._checks import NotFiniteError
from probmetrics.data.chunks import Chunks, chunks_of
from probmetrics.data.dataset import DataError, Dataset
from probmetrics.report.whole import Whole, sample_of, whole_of
from probmetrics.sketches.plan import Sketches, SketchPlan

STREAM_BYTES = 2**30  # a file of this size in memory is streamed without being asked

Streamed = tuple[Dataset, Dataset, Whole]


def streamed(
    x: Any,
    y: Any,
    *,
    stream: bool | None,
    columns: Any,
    seed: int,
    max_samples: int | None,
    scale: bool | None,
    progress: bool | None,
) -> Streamed | None:
    """Samples of both sources and the distances of all their rows; None for data to be read whole.

    Args:
        x: A source of ``compare``.
        y: Likewise.
        stream: True streams .npy files and Parquet data sets, False never; None those that take
            a gigabyte of memory or more, and what Dask holds.
        columns: As in ``compare``.
        seed: As in ``compare``.
        max_samples: Rows of the samples.
        scale: As in ``compare``; it applies to slices and features too.
        progress: Show a bar.
    """
    if stream is False:
        return None
    options = {"seed": seed, "capacity": 5000 if max_samples is None else max_samples}
    if any(is_dask(side) for side in (x, y)):
        from probmetrics.report.dask_engine import compare_on_dask

        return compare_on_dask(x, y, columns=columns, scale=scale, options=options)
    try:
        first, second = (chunks_of(side, columns) for side in (x, y))
    except DataError:
        if stream:
            raise
        return None  # whoever reads it whole can do it, or says what is wrong with it
    if first is None or second is None:
        if stream:
            raise DataError(
                "only .npy files, .parquet files and folders of them, and Dask collections are "
                "streamed; pass stream=None to read the data whole"
            )
        return None
    if stream is None and max(first.nbytes, second.nbytes) < STREAM_BYTES:
        return None
    for side in (first, second):
        if side.total < 2:
            raise DataError(f"{side.source} has {side.total} rows; at least two are needed")
    second = aligned(first, second, y)
    kind = first.kind if first.kind == second.kind else "table"
    scaled = kind == "table" and len(first.columns) > 1 if scale is None else scale
    plan = SketchPlan.after(*(usable(s.look()) for s in (first, second)), scale=scaled, **options)
    from tqdm import tqdm

    disable = None if progress is None else not progress
    with (
        tqdm(
            total=first.total + second.total, desc="reading", unit="row", unit_scale=True,
            disable=disable, leave=False,
        ) as bar,
        ThreadPoolExecutor(2) as pool,
    ):  # fmt: skip
        work = [pool.submit(sketch_all, plan, s, i, bar) for i, s in enumerate((first, second))]
        a, b = (job.result() for job in work)
    names = first.columns
    samples = [sample_of(s, names, c.source, kind) for s, c in ((a, first), (b, second))]
    return samples[0], samples[1], whole_of(a, b, names)


def is_dask(value: Any) -> bool:
    """Whether a value is a Dask collection, told without importing Dask."""
    return type(value).__module__.split(".")[0] in ("dask", "dask_expr")


def aligned(first: Chunks, second: Chunks, given: Any) -> Chunks:
    """The second source with the columns of the first, in their order."""
    if first.columns == second.columns:
        return second
    if set(first.columns) == set(second.columns) and first.kind == second.kind == "table":
        found = chunks_of(given, first.columns)
        assert found is not None
        return found
    only = [sorted(set(a) - set(b))[:5] for a, b in ((first.columns, second.columns),) * 1]
    raise DataError(
        f"{first.source} and {second.source} have different columns: {len(first.columns)} and "
        f"{len(second.columns)} (only in the first: {only[0]}); choose common ones with columns="
    )


def sketch_all(plan: SketchPlan, source: Chunks, stream: int, bar: Any) -> Sketches:
    """Sketches of all rows of a file."""
    found, start = plan.start(stream), 0
    for rows in source:
        update_from(found, rows, source.source, start)
        start += len(rows)
        bar.update(len(rows))
    return found


def usable(rows: np.ndarray) -> np.ndarray:
    """The finite ones of the rows looked at; the pass itself refuses others, and says where."""
    return np.asarray(np.where(np.isfinite(rows).all(1, keepdims=True), rows, 0.0))


def update_from(sketches: Sketches, rows: np.ndarray, source: str, start: int = 0) -> None:
    """Take in rows; an error says which source and rows they came from."""
    try:
        sketches.update(rows)
    except NotFiniteError as error:
        raise DataError(
            f"{source}: {error} (among the {len(rows):,} rows from row {start:,} on)"
        ) from error
