"""The encoder of a report, by name or as an object, and the features it makes of a sample."""

from dataclasses import replace
from typing import Any

import numpy as np

from probmetrics.data.dataset import DataError, Dataset
from probmetrics.encoders import AbstractEncoder, FunctionEncoder, Identity, extract

NAMES = ("identity", "inception", "inception-clean", "efficientnet")


def choose_encoder(wanted: Any) -> AbstractEncoder | None:
    """The encoder asked for.

    Args:
        wanted: None; an encoder, module or function; or a name: ``"identity"``, ``"inception"``
            (weights of the installed package), ``"inception:FILE"``, ``"inception-clean"`` (with
            clean-fid's resizing, also with ``:FILE``), ``"efficientnet"``.

    Raises:
        ValueError: An unknown name, or a file that is no checkpoint of the network.
        OSError: Weights that are not on this machine; the message says how to install them.
    """
    if wanted is None or isinstance(wanted, AbstractEncoder):
        return wanted
    if not isinstance(wanted, str):
        return FunctionEncoder(wanted)
    name, _, path = wanted.partition(":")
    if name.startswith("inception") and name in NAMES:
        from probmetrics.encoders import InceptionEncoder

        convention = "clean" if name == "inception-clean" else "tf1"
        return InceptionEncoder(path or None, preprocessing=convention)
    if path or name not in NAMES:
        raise ValueError(
            f"unknown encoder {wanted!r}; known: {', '.join(NAMES)}, inception:FILE, or from "
            "Python any module or function"
        )
    if name == "identity":
        return Identity()
    from probmetrics.encoders import EfficientNetLite

    return EfficientNetLite()


def is_texts(source: Any) -> bool:
    """Whether a source is a list of texts."""
    return isinstance(source, list | tuple) and bool(source) and isinstance(source[0], str)


def encoded(
    data: Dataset, encoder: AbstractEncoder, *, cache: Any = None, progress: bool | None = None
) -> Dataset:
    """The features of a sample as a sample; labels, source and notes stay.

    Args:
        data: Rows or images. Images in whole numbers from 0 to 255 reach the encoder as such.
        encoder: What turns them into features, in one pass.
        cache: Folder of the cache, see ``extract``.
        progress: Show a progress bar.
    """
    found = extract(as_seen(data), encoder, cache=cache, progress=progress)
    values = found.values.numpy()
    if len(values) != len(data):
        raise DataError(
            f"{data.source}: the encoder {encoder.name} made {len(values)} features of "
            f"{len(data)} rows; wanted one each"
        )
    names = tuple(f"feature_{j}" for j in range(values.shape[1]))
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    notes = tuple(note for note in data.notes if "constant" not in note)
    return replace(data, values=values, columns=names, kind="array", image_shape=None, notes=notes)


def as_seen(data: Dataset) -> np.ndarray:
    """Rows, or images as they were stored."""
    if data.image_shape is None:
        return data.values
    images: np.ndarray = data.values.reshape(-1, *data.image_shape)
    whole = bool((images == np.round(images)).all())
    if whole and images.min() >= 0 and images.max() <= 255:
        return images.astype(np.uint8)
    return images
