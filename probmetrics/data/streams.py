"""Samples from DataLoaders, generators and samplers, gathered batch by batch."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from probmetrics import _arrays
from probmetrics.data import dataset
from probmetrics.data.arrays import from_memory, tensor_to_numpy
from probmetrics.data.dataset import DataError, Dataset


def from_stream(
    batches: Iterable[Any], name: str, *, max_samples: int | None = None, **options: Any
) -> Dataset:
    """Dataset of the batches of a DataLoader or generator, stopped after ``max_samples`` rows.

    A batch is an array of rows, or a pair (rows, labels).
    """
    rows: list[NDArray[Any]] = []
    labels: list[NDArray[Any]] = []
    count = 0
    for batch in batches:
        values, classes = _batch(batch, name)
        if rows and values.shape[1:] != rows[0].shape[1:]:
            raise DataError(
                f"{name}: batch {len(rows)} has rows of shape {values.shape[1:]}, the first batch "
                f"of shape {rows[0].shape[1:]}; give every batch the same"
            )
        rows.append(values)
        labels += [] if classes is None else [classes]
        count += len(values)
        dataset.refuse_beyond_memory(2 * values.nbytes, name, "pass max_samples")
        if max_samples is not None and count >= max_samples:
            break
    if not rows:
        raise DataError(f"{name} is empty: it gave no batches")
    data = from_memory(np.concatenate(rows)[:max_samples], name, **options)
    whole = len(labels) == len(rows)
    return Dataset(
        data.values,
        data.columns,
        labels=np.concatenate(labels)[:max_samples] if whole else None,
        source=name,
        kind=data.kind,
        notes=(*data.notes, *([f"the first {max_samples} rows"] if count > len(data) else [])),
        image_shape=data.image_shape,
    )


def from_sampler(
    sampler: Callable[[int], Any], name: str, *, max_samples: int | None = None, **options: Any
) -> Dataset:
    """Dataset of ``sampler(max_samples)``, e.g. a model's ``sample``."""
    if max_samples is None:
        raise DataError(f"{name} draws as many samples as asked for; pass max_samples")
    drawn = sampler(max_samples)
    if not _arrays.is_array(drawn):
        raise DataError(
            f"{name}({max_samples}) gave {type(drawn).__name__}; wanted an array of n rows"
        )
    return from_memory(drawn, name, **options)


def _batch(batch: Any, name: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
    values, labels = batch, None
    if isinstance(batch, tuple | list) and batch and getattr(batch[0], "ndim", 0) >= 1:
        values, labels = batch[0], batch[1] if len(batch) > 1 else None
    values = tensor_to_numpy(values, name) if isinstance(values, Tensor) else np.asarray(values)
    if values.ndim == 0:
        raise DataError(f"{name} gave a single number as a batch; wanted arrays of rows")
    if isinstance(labels, Tensor):
        labels = tensor_to_numpy(labels, name)
    labels = None if labels is None else np.asarray(labels)
    return values, labels if labels is not None and labels.shape == values.shape[:1] else None
