"""Any source of a sample to a Dataset: files, folders, embedded sets, memory and streams."""

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from probmetrics import _arrays
from probmetrics import _checks as checks
from probmetrics.data import arrays, binary, dataset, embedded, images, streams, tables
from probmetrics.data.chunks import Chunks, chunks_of
from probmetrics.data.dataset import DataError, Dataset, listed, shown

ARRAYS = (".npy", ".npz", ".pt")
TABLES = (".csv", ".tsv", ".parquet")
SUFFIXES = (*ARRAYS, *TABLES, ".zip")


def read(
    source: Any,
    *,
    columns: Any = None,
    max_samples: int | None = None,
    seed: int = 0,
    key: str | None = None,
    on_corrupt: str = "error",
    image_size: Any = None,
    progress: bool | None = None,
) -> Dataset:
    """A sample as rows of finite floating-point values, whatever it comes from.

    Nothing in a file is executed: pickled objects are refused, ``.pt`` files are loaded with
    ``weights_only=True`` and archives are not unpacked to disk.

    Args:
        source: One of

            * ``.npy``; ``.npz`` or ``.pt`` with one array, or with ``key``;
            * ``.csv``, ``.tsv``, or ``.parquet`` (needs pandas and pyarrow);
            * a folder of Parquet files with the same columns, which make one table;
            * a folder or ``.zip`` of PNG, JPEG, WebP or BMP images (subfolders become labels);
            * an embedded set, ``"data:digits@1/2"`` (see `probmetrics.data.read_embedded`);
            * an array, tensor, list or data frame; one dimension is n points on the line;
            * a DataLoader or generator of batches, read until ``max_samples`` rows have come;
            * a function ``n -> sample``, called with ``max_samples``.
        columns: For an array in memory without column names, a list of as many names as it has
            columns names them. Otherwise: names, or numbers from 0, of the columns to keep: a
            list, or a string separated by commas. The other columns of a table may hold anything.
        max_samples: Most rows to keep, drawn without replacement and kept in order. Of ``.npy``
            and image sources only these are read.
        seed: Seed of that draw and of toy samples; the draw depends on nothing else.
        key: Name of the array in a ``.npz`` or ``.pt`` file.
        on_corrupt: ``"error"``: an image that cannot be decoded is fatal; ``"skip"``: it is left
            out and counted in the notes.
        image_size: (height, width), or one number. Resizes the images of a folder or archive
            (which must otherwise agree); declares the rows of an array to be images of this size.
            Without it only ``uint8`` arrays of three or four dimensions are images.
        progress: Show a progress bar while images are decoded; None shows it on a terminal.

    Returns:
        The values, shape (n, d), with column names, labels where there are some, and notes.
        ``float32`` stays, half precision and 8-bit images become ``float32``, the rest
        ``float64``. Images are flattened in the order (height, width, channels).

    Raises:
        DataError: The data cannot be used. The message is one line that names the source, the
            place and the remedy; it is a ValueError.
        TypeError: An option, or the source itself, is of the wrong type.

    Example:
        >>> import numpy as np
        >>> read(np.ones((3, 2)))
        Dataset(3 × 2 array from ndarray, 2 constant columns)
        >>> read("data:wine", columns=["ash", "hue"], max_samples=100).values.shape
        (100, 2)

    Notes:
        Memory is the values kept and, for text, one block of rows. What cannot fit is refused
        before it is allocated, where the system says how much is free.
    """
    checks.choice(on_corrupt, "on_corrupt", ["error", "skip"])
    seed = checks.count(seed, "seed", minimum=0, maximum=2**63 - 1)
    limit = None if max_samples is None else checks.count(max_samples, "max_samples")
    wanted, size = dataset.column_names(columns), images.sized(image_size)
    options = {"max_samples": limit, "seed": seed, "image_size": size}
    if isinstance(source, str) and source.startswith(embedded.PREFIX):
        data = _narrowed(embedded.read_embedded(source, seed=seed), wanted)
    elif isinstance(source, str | os.PathLike):
        path = _existing(os.fspath(source))
        folder = chunks_of(path, wanted) if path.is_dir() else None
        if folder is not None:
            data = _gathered(folder, str(source))
        elif path.is_dir() or path.suffix.lower() == ".zip":
            files = images.open_images(
                path, image_size=size, on_corrupt=on_corrupt, max_samples=limit, seed=seed
            )
            data = _narrowed(images.read_images(files, str(source), progress=progress), wanted)
        else:
            data = _read_file(path, str(source), wanted, key, options)
    else:
        data = _read_object(source, wanted, options)
    kept = dataset.subsample_rows(len(data), limit, seed)
    if kept is not None:
        data = data.rows(kept, dataset.subsample_note(len(data), len(kept), seed))
    return dataset.finished(data)


def _gathered(table: Chunks, source: str) -> Dataset:
    """All rows of a folder of Parquet files."""
    dataset.refuse_beyond_memory(2.0 * table.nbytes, source, "pass stream=True to compare")
    return Dataset(np.concatenate(list(table)), table.columns, source=source, kind="table")


def _named(data: Dataset, wanted: list[str | int] | None) -> Dataset:
    """The columns asked for; as many new names as an array without names has columns name them."""
    unnamed = data.columns == dataset.generated_columns(data.values.shape[1])
    names = [name for name in wanted or () if isinstance(name, str) and not name.isdigit()]
    fresh = not set(names) & set(data.columns)
    if unnamed and fresh and len(names) == len(wanted or ()) == data.values.shape[1]:
        if len(set(names)) < len(names):
            raise DataError(f"{data.source}: columns names one column twice: {names}")
        return replace(data, columns=tuple(names))
    return _narrowed(data, wanted)


def _narrowed(data: Dataset, wanted: list[str | int] | None) -> Dataset:
    return data if wanted is None else data.select(wanted)


def _read_file(
    path: Path, source: str, wanted: list[str | int] | None, key: str | None, options: Any
) -> Dataset:
    if not path.is_file():
        raise DataError(f"{source} is not a regular file; save the data to one first")
    if path.stat().st_size == 0:
        raise DataError(f"{source} is empty: it has 0 bytes")
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            delimiter = "\t" if suffix == ".tsv" else None
            return tables.read_text(path, source, wanted, delimiter=delimiter)
        if suffix == ".parquet":
            return tables.read_parquet(path, source, wanted)
        if suffix in ARRAYS:
            return _narrowed(_read_array(path, source, suffix, key, options), wanted)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}") from error
    hint = ""
    if suffix in images.SUFFIXES:
        hint = "; for a sample of images pass their folder or a zip of them"
    raise DataError(
        f"{source} has an unknown ending {shown(suffix or path.name)}; known: "
        f"{', '.join(SUFFIXES)}, folders of images, and {embedded.PREFIX}NAME{hint}"
    )


def _read_array(path: Path, source: str, suffix: str, key: str | None, options: Any) -> Dataset:
    if suffix == ".pt":
        array = binary.load_pt(path, source, key)
        return arrays.from_memory(array, source, channels_first=True, **options)
    load_npz = suffix == ".npz"
    array = binary.load_npz(path, source, key) if load_npz else binary.load_npy(path, source)
    return arrays.from_memory(array, source, **options)


def _existing(text: str) -> Path:
    path = Path(dataset.named_path(text)).expanduser()
    try:
        if path.exists():
            return path
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    except (OSError, ValueError) as error:  # names too long, with NUL, in closed folders
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{shown(text, 120)} cannot be read: {reason}") from error
    similar = difflib.get_close_matches(path.name, others, n=1)
    hint = f"; did you mean {shown(str(path.parent / similar[0]), 120)}?" if similar else ""
    if "://" in text:
        hint = "; nothing is downloaded, so fetch it first"
    if not hint and not path.parent.is_dir():
        hint = f"; its folder {shown(str(path.parent), 120)} does not exist either"
    raise DataError(f"no such file or folder: {shown(text, 120)}{hint}")


def _read_object(source: Any, wanted: list[str | int] | None, options: Any) -> Dataset:
    name = getattr(source, "__name__", None) or type(source).__name__
    if hasattr(source, "to_pandas") and not hasattr(source, "to_numpy"):  # pyarrow tables
        source = source.to_pandas()
    if hasattr(source, "columns") and hasattr(source, "to_numpy"):
        return tables.from_frame(source, name, wanted)
    if isinstance(source, Dataset):
        return _narrowed(source, wanted)
    if isinstance(source, Mapping):
        raise TypeError(f"got a {name} with {listed(list(source))}; pass one of its arrays")
    if _arrays.is_array(source):
        data = arrays.from_memory(source, name, **options)
        column = getattr(source, "name", None)  # a pandas or polars Series
        if isinstance(column, str) and column and data.values.shape[1] == 1:
            data = replace(data, columns=(column,), kind="table")
    elif isinstance(source, Iterable) and not isinstance(source, bytes):
        data = streams.from_stream(source, name, **options)
    elif callable(source):
        data = streams.from_sampler(source, name, **options)
    else:
        raise TypeError(
            f"got {name}; wanted a path, 'data:NAME', an array, a data frame, batches or a sampler"
        )
    return _named(data, wanted)
