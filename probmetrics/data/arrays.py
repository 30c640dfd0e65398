"""Arrays and tensors in memory (or mapped into it) to rows of floating-point values."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probmetrics import _arrays
from probmetrics.data import dataset
from probmetrics.data.dataset import DataError, Dataset, shown

CHANNELS = (1, 3, 4)  # grey, RGB, RGB with alpha
Size = tuple[int, int]  # height, width
OBJECT_REASON = (
    "{source} holds pickled Python objects, which could run code when loaded; "
    "save numbers with np.save(path, array.astype(float))"
)


def from_array(
    array: Any,
    source: str,
    *,
    max_samples: int | None = None,
    seed: int = 0,
    image_size: Size | None = None,
    channels_first: bool = False,
) -> Dataset:
    """Dataset of the rows of an array; only the rows that are kept are copied or read.

    Args:
        array: Shape (n,), (n, d), or (n, …): images when ``uint8`` or declared by ``image_size``,
            flattened otherwise. Memory-mapped arrays are read row by row.
        source: What to call it.
        max_samples: Most rows to keep.
        seed: Seed of that draw.
        image_size: (height, width), declares the rows to be images of this size.
        channels_first: How to read (n, c, h, w') where both c and w' could count channels.
    """
    refuse_dtype(array.dtype, source)
    if array.ndim == 0:
        raise DataError(f"{source} holds a single number; wanted n rows of d numbers")
    if array.size == 0:
        raise DataError(f"{source} is empty: its shape is {tuple(array.shape)}")
    notes: list[str] = []
    n = array.shape[0]
    kept = dataset.subsample_rows(n, max_samples, seed)
    rows = n if kept is None else len(kept)
    width = array.dtype.itemsize if array.dtype.kind == "f" else 8
    dataset.refuse_beyond_memory(
        array.size / n * rows * width, source, "pass a smaller --max-samples"
    )
    if kept is not None:
        notes.append(dataset.subsample_note(n, rows, seed))
        array = array[kept]
    array, shape, note = _as_images(np.asarray(array), source, image_size, channels_first)
    notes += [note] if note else []
    values = _floating(array.reshape(rows, -1), images=shape is not None)
    return Dataset(
        values=values,
        columns=dataset.generated_columns(values.shape[1], shape),
        source=source,
        kind="array" if shape is None else "images",
        notes=tuple(notes),
        image_shape=shape,
    )


def from_structured(array: Any, source: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Plain columns and their names from an array with named fields."""
    names = tuple(array.dtype.names)
    for name in names:
        refuse_dtype(array.dtype[name], f"{source}, field {shown(name)}")
        if array.dtype[name].shape or array.ndim != 1:
            raise DataError(
                f"{source}: field {shown(name)} holds arrays; save plain columns of shape (n, d)"
            )
    return np.stack([np.asarray(array[name], dtype=np.float64) for name in names], axis=1), names


def tensor_to_numpy(tensor: Tensor, source: str) -> Any:
    """A tensor's values as a CPU array; memory is shared where possible."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise DataError(f"{source} holds a sparse, quantised or empty-storage tensor; pass a dense")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    return tensor.resolve_conj().resolve_neg().numpy()


def from_memory(source: Any, name: str, **options: Any) -> Dataset:
    """Dataset of an array, tensor, or list that is in memory; options as for `from_array`."""
    if isinstance(source, Tensor):
        return from_array(tensor_to_numpy(source, name), name, channels_first=True, **options)
    if not isinstance(source, np.ndarray):
        try:
            source = np.asarray(source) if isinstance(source, list | tuple) else source
        except ValueError as error:
            raise DataError(f"{name} is not a rectangular array: {error}") from error
    if not isinstance(source, np.ndarray):  # other array libraries come in by the common door
        source = _arrays.to_tensor(source, name, floating=False)
        return from_memory(source, name, **options)
    if source.dtype.names:
        source, columns = from_structured(source, name)
        plain = from_array(source, name, **options)
        return Dataset(plain.values, columns, source=name, kind="table", notes=plain.notes)
    return from_array(source, name, **options)


def _as_images(
    array: NDArray[Any], source: str, size: Size | None, channels_first: bool
) -> tuple[NDArray[Any], tuple[int, ...] | None, str | None]:
    """The array with channels last, the image shape if these are images, a note if flattened."""
    n, *rest = array.shape
    declared = size is not None
    if not declared and (array.ndim < 3 or array.dtype != np.uint8):
        note = (
            f"rows of shape {tuple(rest)} flattened to {array.size // n} columns "
            "(pass image_size if they are images)"
        )
        return array, None, note if array.ndim > 2 else None
    if size is not None and array.ndim == 2:  # flattened images
        channels = rest[0] / (size[0] * size[1])
        if channels in CHANNELS:
            shape = size if channels == 1 else (*size, int(channels))
            return array, shape, None
    if array.ndim == 4:
        last, first = rest[2] in CHANNELS, rest[0] in CHANNELS
        if first and (channels_first or not last):
            array = np.moveaxis(array, 1, 3)
            rest = list(array.shape[1:])
        elif not last:
            rest = []
        if rest and rest[2] == 1:
            rest = rest[:2]
    if array.ndim not in (3, 4) or not rest or (size is not None and tuple(rest[:2]) != size):
        wanted = f"images of size {size}" if size is not None else "images"
        raise DataError(
            f"{source} has shape {tuple(array.shape)}; wanted {wanted}: (n, h, w), (n, h, w, c) or "
            "(n, c, h, w) with 1, 3 or 4 channels" + ("" if declared else ", or floating point")
        )
    return array, tuple(rest), None


def _floating(values: NDArray[Any], *, images: bool) -> NDArray[np.floating[Any]]:
    """Native floating point: float32 and float64 as they are, halves and images in float32."""
    if values.dtype.kind == "f":
        wide = values.dtype.itemsize > 4
    else:
        wide = not (images and values.dtype == np.uint8)
    return np.array(values, dtype=np.float64 if wide else np.float32, order="C")


def refuse_dtype(dtype: np.dtype[Any], source: str) -> None:
    """Refuse what holds no real numbers; booleans and integers are numbers."""
    if dtype.kind in "fiub":
        return
    if dtype.hasobject:
        raise DataError(OBJECT_REASON.format(source=source))
    kinds = {"c": "complex numbers", "U": "text", "S": "text", "M": "dates", "m": "durations"}
    found = kinds.get(dtype.kind, f"values of type {dtype}")
    raise DataError(f"{source} holds {found}; wanted real numbers, so convert them first")
