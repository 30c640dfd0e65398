"""What features are extracted from: files opened as they are, batches cut into even blocks."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import is_array, to_tensor
from probmetrics.data import ImageFiles, open_images
from probmetrics.data.binary import load_npy, load_npz, load_pt
from probmetrics.data.dataset import DataError, named_path


def opened(source: str | Path, key: str | None, **options: Any) -> Any:
    """The images of a folder or zip, or the array of a ``.npy``, ``.npz`` or ``.pt`` file."""
    path = Path(named_path(source)).expanduser()
    suffix = path.suffix.lower()
    if path.is_dir() or suffix not in (".npy", ".npz", ".pt"):
        return open_images(path, **options)
    if not path.is_file():
        raise DataError(f"no such file: {str(source)!r}")
    if suffix == ".npy":
        return load_npy(path, str(source))
    if suffix == ".npz":
        return load_npz(path, str(source), key)
    return load_pt(path, str(source), key)


def is_stream(source: Any) -> bool:
    """Whether a source gives its samples batch by batch, or draws them.

    A list of vectors is an array; a list of arrays with more axes is a list of batches.
    """
    if isinstance(source, list | tuple):
        return bool(source) and getattr(source[0], "ndim", 0) > 1
    if isinstance(source, ImageFiles | str | bytes | dict) or is_array(source):
        return False
    return callable(source) or isinstance(source, Iterable)


def chunks_of(source: Any, n: int | None, size: int) -> Iterator[Any]:
    """The samples of batches, or of a function, in tensors (or lists of texts) of ``size`` rows.

    Args:
        source: Batches, pairs whose first entry is one, or a function ``k -> samples``.
        n: How many samples; a function needs it.
        size: Rows of a block; the last may be shorter.
    """
    n = None if n is None else checks.count(n, "n")
    is_drawn = callable(source) and not isinstance(source, Iterable)
    if is_drawn and n is None:
        raise ValueError("a function draws as many samples as asked for; pass n")
    kept: list[Any] = []
    held = taken = 0
    for batch in _drawn(source, n, size) if is_drawn else source:
        rows = _rows(batch)
        rows = rows if n is None else rows[: n - taken]
        kept.append(rows)
        held, taken = held + len(rows), taken + len(rows)
        while held >= size:
            whole = _joined(kept)
            yield whole[:size]
            kept, held = [whole[size:]], held - size
        if n is not None and taken >= n:
            break
    if held:
        yield _joined(kept)


def _drawn(source: Callable[[int], Any], n: int | None, size: int) -> Iterator[Any]:
    left = n or 0
    while left > 0:
        batch = source(min(size, left))
        count = len(_rows(batch))
        if count != min(size, left):
            raise ValueError(f"asked for {min(size, left)} samples, the function gave {count}")
        yield batch
        left -= count


def _rows(batch: Any) -> Any:
    """The samples of a batch: of a pair (samples, labels) the first entry."""
    if isinstance(batch, list | tuple) and batch and not isinstance(batch[0], str):
        batch = batch[0] if is_array(batch[0]) and getattr(batch[0], "ndim", 0) > 0 else batch
    if isinstance(batch, list | tuple) and batch and isinstance(batch[0], str):
        return list(batch)
    if not is_array(batch):
        raise TypeError(f"a batch must be an array or texts, got {type(batch).__name__}")
    rows = to_tensor(batch, "batch", floating=False)
    if rows.ndim == 0:
        raise ValueError("a batch is a single number; wanted arrays of rows")
    return rows


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return [text for part in parts for text in part]
