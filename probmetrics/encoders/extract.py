"""Features of a whole source in one pass, kept in a cache that resumes and checks itself."""

import dataclasses
import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import is_array, to_tensor
from probmetrics.data import DataError, ImageFiles
from probmetrics.encoders.base import AbstractEncoder, FunctionEncoder, Identity, hash_of_array
from probmetrics.encoders.sources import chunks_of, is_stream, opened

FORMAT = "1"  # of the cache; older entries are made again
CHUNK = 512  # rows in one file of the cache, the most an interrupted run loses


@dataclass(frozen=True)
class Features:
    """Features of a source and where they come from.

    Attributes:
        values: Shape (n, d).
        provenance: Encoder (name, preprocessing, hash), n, d, dtype, source and its hash, versions.
        corrupt: Names of images left out.
    """

    values: Tensor
    provenance: dict[str, Any]
    corrupt: tuple[str, ...] = ()

    def save_statistics(self, path: str | Path) -> None:
        """Write mean and covariance as a ``.npz`` with ``mu``, ``sigma`` (pytorch-fid's names)."""
        rows = self.values.double()
        if len(rows) < 2:
            raise ValueError(f"statistics need at least 2 samples, got {len(rows)}")
        with _replacing(Path(path)) as file:
            np.savez(
                file,
                mu=rows.mean(0).numpy(),
                sigma=np.atleast_2d(np.cov(rows.numpy(), rowvar=False)),
                provenance=json.dumps(self.provenance),
            )


def extract(
    source: Any,
    encoder: Any = None,
    *,
    n: int | None = None,
    key: str | None = None,
    cache: str | Path | None = None,
    batch_size: int = 64,
    image_size: Any = None,
    on_corrupt: str = "error",
    progress: bool | None = None,
) -> Features:
    """Features of every item of a source, in one pass and in order.

    Args:
        source: A folder or zip of images, opened ``ImageFiles``, an array or tensor (n, …), a
            ``.npy``, ``.npz`` or ``.pt`` file of one, a list of texts, a DataLoader, list
            or generator of batches (or of pairs, of which the first counts), or a function
            ``k -> samples``.
        encoder: An encoder of this package, a module or a function; None is the identity.
        n: Samples to take from batches (None: all) or to draw from a function (which needs it).
        key: Name of the array in a ``.npz`` or ``.pt`` file.
        cache: Folder of the cache; None keeps nothing. Entries are named by a hash of content,
            encoder and preprocessing, so what changed is computed again and what did not is read.
        batch_size: Items given to the encoder at a time.
        image_size: Resize the images of a folder, which must otherwise agree in size.
        on_corrupt: ``"error"``: an image that cannot be decoded is fatal; ``"skip"``: it is left
            out and named.
        progress: Show a progress bar; None shows it on a terminal.

    Returns:
        ``Features``.

    Raises:
        DataError: Images that cannot be used.
        ValueError: A function without a hash together with a cache; no items.

    Example:
        >>> import numpy as np, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = extract(np.arange(6.0).reshape(3, 2), cache=folder)
        ...     again = extract(np.arange(6.0).reshape(3, 2), cache=folder)
        >>> bool((first.values == again.values).all()), first.provenance["samples"]
        (True, 3)

    Notes:
        The cache is written in files of 512 rows, each with its checksum: an interrupted run goes
        on where it stopped, and a damaged file is named in a warning and made again.
    """
    encoder = _as_encoder(encoder)
    checks.count(batch_size, "batch_size")
    if isinstance(source, str | Path):
        source = opened(source, key, image_size=image_size, on_corrupt=on_corrupt)
    if is_stream(source):
        blocks = _bar(chunks_of(source, n, CHUNK), progress, encoder.name)
        return _of_stream(source, blocks, encoder, batch_size, cache)
    if n is not None:
        raise ValueError("n counts samples of batches and functions; cut the source itself")
    items = _Items.of(source)
    entry = None if cache is None else _entry(cache, encoder, items.content_hash)
    parts, corrupt = [], []
    for start in _bar(range(0, items.count, CHUNK), progress, encoder.name):
        path = None if entry is None else entry / f"{start:09d}.npz"
        rows, lost = _chunk(items, encoder, start, batch_size, path)
        parts.append(rows)
        corrupt += lost
    kept = [rows for rows in parts if len(rows)]
    if not kept:
        raise DataError(f"{items.name}: all {items.count} images are corrupt, first {corrupt[0]!r}")
    values = torch.cat(kept)
    content = items.content_hash if cache is not None else None
    made = _provenance(values, encoder, items.name, content, corrupt)
    found = Features(values, made, tuple(corrupt))
    if entry is not None:
        with _replacing(entry / "provenance.json") as file:
            file.write(json.dumps(found.provenance, indent=1).encode())
    return found


def _of_stream(
    source: Any, blocks: Iterable[Any], encoder: AbstractEncoder, size: int, cache: Any
) -> Features:
    """Features of batches as they come; the cache knows each block of rows by its content."""
    entry = None if cache is None else _entry(cache, encoder, "batches")
    name = getattr(source, "__name__", None) or type(source).__name__
    parts, digest, count = [], hashlib.sha256(), 0
    for block in blocks:
        items = _Items.of(block)
        path = None
        if entry is not None:
            content = items.content_hash
            digest.update(content.encode())
            path = entry / f"{content[:32]}.npz"
        parts.append(_chunk(items, encoder, 0, size, path)[0])
        count += items.count
    if not parts:
        raise ValueError(f"{name} gave no samples; a generator that was read before is empty")
    values = torch.cat(parts)
    known = None if entry is None else digest.hexdigest()
    return Features(values, _provenance(values, encoder, name, known, []))


def _entry(cache: Any, encoder: AbstractEncoder, content: str) -> Path:
    """The folder of the cache for a content and an encoder."""
    identity = {"format": FORMAT, "encoder": encoder.content_hash, "source": content}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    entry = Path(cache).expanduser() / key
    entry.mkdir(parents=True, exist_ok=True)
    return entry


@dataclass(frozen=True, eq=False)
class _Items:
    """A source of known length that can be read from any place."""

    source: Any
    name: str
    count: int

    @classmethod
    def of(cls, source: Any) -> "_Items":
        if isinstance(source, ImageFiles):
            return cls(source, str(source.path), len(source))
        if isinstance(source, list | tuple) and source and all(isinstance(s, str) for s in source):
            return cls(list(source), "texts", len(source))
        if is_array(source):
            tensor = to_tensor(source, "source", floating=False)
            if not tensor.ndim or not len(tensor):
                raise ValueError(f"source has no samples: its shape is {tuple(tensor.shape)}")
            return cls(tensor, type(source).__name__, len(tensor))
        raise TypeError(
            f"got {type(source).__name__}; wanted a folder or zip of images, an array, its file, "
            "texts, batches, or a function that draws samples"
        )

    @property
    def content_hash(self) -> str:
        if isinstance(self.source, ImageFiles):
            return _hash_of_images(self.source)
        if isinstance(self.source, list):
            return hashlib.sha256(json.dumps(self.source).encode()).hexdigest()
        return hash_of_array(self.source)

    def batches(self, start: int, size: int, lost: list[str]) -> Iterator[Any]:
        """The items of one chunk in batches; names of corrupt images go to ``lost``."""
        stop = min(start + CHUNK, self.count)
        if isinstance(self.source, ImageFiles):
            part = dataclasses.replace(
                self.source, names=self.source.names[start:stop], corrupt=lost
            )
            for _, images in part.batches(size):
                yield images
            return
        for low in range(start, stop, size):
            yield self.source[low : min(low + size, stop)]


def _chunk(
    items: _Items, encoder: AbstractEncoder, start: int, size: int, path: Path | None
) -> tuple[Tensor, list[str]]:
    """Rows of one chunk, from the cache or the encoder."""
    if path is not None and path.exists():
        held = _read(path)
        if held is not None:
            return held
        warnings.warn(f"the cache entry {path} is damaged and is made again", stacklevel=3)
    lost: list[str] = []
    parts = [encoder(batch).detach().cpu() for batch in items.batches(start, size, lost)]
    rows = torch.cat(parts) if parts else torch.zeros(0, 0)
    if len(rows):
        checks.finite(rows, f"features {start} to {start + len(rows)} of {items.name}")
    if path is not None:
        array = rows.float().numpy() if rows.dtype == torch.bfloat16 else rows.numpy()
        with _replacing(path) as file:
            np.savez(file, rows=array, lost=np.array(lost, dtype=np.str_), check=_sum(array, lost))
    return rows, lost


def _read(path: Path) -> tuple[Tensor, list[str]] | None:
    """What a cache file holds, or None if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as held:
            rows, lost = held["rows"], [str(name) for name in held["lost"]]
            if str(held["check"]) != _sum(rows, lost):
                return None
    except Exception:  # a damaged archive raises almost anything
        return None
    return torch.from_numpy(rows), lost


def _sum(rows: NDArray[Any], lost: list[str]) -> str:
    return hashlib.sha256((hash_of_array(rows) + json.dumps(lost)).encode()).hexdigest()


def _as_encoder(encoder: Any) -> AbstractEncoder:
    if encoder is None:
        return Identity()
    return encoder if isinstance(encoder, AbstractEncoder) else FunctionEncoder(encoder)


def _hash_of_images(files: ImageFiles) -> str:
    """Hash of names and bytes of all images, and of how they are resized."""
    import zipfile

    digest = hashlib.sha256(repr((files.image_size, files.on_corrupt)).encode())
    folder = files.path.is_dir()
    archive = None if folder else zipfile.ZipFile(files.path)
    try:
        for name in files.names:
            content = (files.path / name).read_bytes() if folder else archive.read(name)  # type: ignore[union-attr]
            digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    finally:
        if archive is not None:
            archive.close()
    return digest.hexdigest()


def _provenance(
    values: Tensor, encoder: AbstractEncoder, name: str, content: str | None, corrupt: list[str]
) -> dict[str, Any]:
    from probmetrics import __version__

    return {
        "encoder": encoder.provenance,
        "source": name,
        "source_hash": content,
        "samples": len(values),
        "features": values.shape[-1],
        "dtype": str(values.dtype).removeprefix("torch."),
        "corrupt": len(corrupt),
        "versions": {"probmetrics": __version__, "torch": torch.__version__},
    }


def _bar(chunks: Any, progress: bool | None, name: str) -> Any:
    from tqdm import tqdm

    return tqdm(chunks, desc=name, disable=None if progress is None else not progress)


class _replacing:  # noqa: N801
    """A file that appears under its name only when it has been written whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.buffer = io.BytesIO()

    def __enter__(self) -> io.BytesIO:
        return self.buffer

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
            partial.write_bytes(self.buffer.getvalue())
            partial.replace(self.path)
