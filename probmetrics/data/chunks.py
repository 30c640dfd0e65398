"""Files larger than memory as rows in chunks: memory-mapped .npy arrays and Parquet data sets."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probmetrics.data.binary import load_npy
from probmetrics.data.dataset import DataError, column_indices, shown
from probmetrics.data.images import holds_images

ROWS = 2**16  # rows of a chunk
NUMBERS = 2**22  # and most numbers in it
BUFFER = 2**18  # bytes of a column read at once
LOOK = 2000  # rows looked at first


@dataclass(frozen=True)
class Chunks:
    """A file whose rows come in chunks.

    Attributes:
        source: The path.
        columns: Names of the columns.
        total: Rows.
        kind: "array" or "table".
        files: The .npy file, or the Parquet files.
        chosen: Positions of the columns in an array; None: all. (A table knows them by name.)
    """

    source: str
    columns: tuple[str, ...]
    total: int
    kind: str
    files: tuple[Path, ...]
    chosen: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Size in memory, in double precision."""
        return 8 * self.total * len(self.columns)

    @property
    def size(self) -> int:
        """Rows of a chunk."""
        return max(1, min(ROWS, NUMBERS // max(1, len(self.columns))))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Arrays of shape (≤ size, d), in the order of the file."""
        if self.kind == "array":
            yield from self._mapped()
            return
        parquet = _parquet(self.source)
        for path in self.files:
            # One row group at a time, in pieces: a reader holds on to what it has read.
            for group in range(parquet.read_metadata(path).num_row_groups):
                yield from self._group(path, group, self.size)

    def look(self, rows: int = LOOK) -> np.ndarray:
        """Some rows from all over the file, few enough to be read at once."""
        if self.kind == "array":
            step = max(1, self.total // rows)
            return self._points(load_npy(self.files[0], self.source)[::step][:rows])
        places = self._places()
        chosen = places[:: math.ceil(len(places) / 16)]
        few = rows // len(chosen) + 1
        return np.concatenate([next(self._group(path, group, few)) for path, group in chosen])

    def _group(self, path: Path, group: int, size: int) -> Iterator[np.ndarray]:
        """The rows of a row group of a Parquet file."""
        names = list(self.columns)
        try:
            with _parquet(self.source).ParquetFile(path, buffer_size=BUFFER) as file:
                for batch in file.iter_batches(
                    size, row_groups=[group], columns=names, use_threads=False
                ):
                    yield self._numbers(batch)
        except Exception as error:  # pyarrow raises its own errors, OSError, ValueError, …
            raise _damaged(path, error) from error

    def _places(self) -> list[tuple[Path, int]]:
        """All row groups that hold rows."""
        parquet = _parquet(self.source)
        found = []
        for path in self.files:
            about = parquet.read_metadata(path)
            found += [(path, g) for g in range(about.num_row_groups) if about.row_group(g).num_rows]
        return found

    def _mapped(self) -> Iterator[np.ndarray]:
        for start in range(0, self.total, self.size):
            # mapped anew each time, so that pages read before do not stay
            values = load_npy(self.files[0], self.source)
            yield self._points(values[start : start + self.size])

    def _points(self, values: Any) -> np.ndarray:
        values = np.asarray(values)
        values = values if values.dtype.kind == "f" else values.astype(np.float64)
        values = values.reshape(len(values), -1)
        return np.ascontiguousarray(values if self.chosen is None else values[:, self.chosen])

    def _numbers(self, batch: Any) -> np.ndarray:
        columns = [c.to_numpy(zero_copy_only=False) for c in batch.columns]
        kind = np.result_type(*columns)
        values = np.empty((batch.num_rows, len(columns)), kind if kind.kind == "f" else np.float64)
        for j, column in enumerate(columns):
            values[:, j] = column
        return values


def chunks_of(source: Any, columns: Sequence[str | int] | None = None) -> Chunks | None:
    """The file as chunks, or None for sources that are not a .npy file or Parquet data set."""
    if not isinstance(source, str | Path) or str(source).startswith("data:"):
        return None
    path = Path(source).expanduser()
    if path.suffix == ".npy" and path.is_file():
        return _array(path, str(source), columns)
    if path.suffix == ".parquet" and path.is_file():
        return _table((path,), str(source), columns)
    if path.is_dir() and (files := sorted(path.rglob("*.parquet"))) and not holds_images(path):
        return _table(tuple(files), str(source), columns)
    return None


def _array(path: Path, source: str, columns: Sequence[str | int] | None) -> Chunks:
    values = load_npy(path, source)
    if values.ndim == 0 or values.dtype.kind not in "fiub":
        raise DataError(
            f"{source} holds {values.dtype} of shape {values.shape}, not rows of numbers"
        )
    d = math.prod(values.shape[1:])
    names = [f"column_{j}" for j in range(d)]
    chosen = None if columns is None else tuple(column_indices(columns, names, source))
    names = names if chosen is None else [names[j] for j in chosen]
    return Chunks(source, tuple(names), len(values), "array", (path,), chosen)


def _table(files: tuple[Path, ...], source: str, columns: Sequence[str | int] | None) -> Chunks:
    schemas, total = _schemas(files, source)
    schema = schemas[0]
    known = [str(name) for name in schema.names]
    numeric = [n for n in known if _numeric(str(schema.field(n).type))]
    wanted = (
        numeric if columns is None else [known[i] for i in column_indices(columns, known, source)]
    )
    text = [name for name in (known if columns is None else wanted) if name not in numeric]
    if text or not wanted or not total:
        raise DataError(
            f"{source}: column {text[0]!r} holds {schema.field(text[0]).type}; choose numeric "
            f"ones with columns={numeric[:5]!r}"
            if text
            else f"{source} is empty: {total} rows and {len(wanted)} columns"
        )
    for path, other in zip(files, schemas, strict=True):
        _same(path, other, wanted, numeric if columns is None else None, files[0])
    return Chunks(source, tuple(wanted), total, "table", files)


def _schemas(files: tuple[Path, ...], source: str) -> tuple[list[Any], int]:
    """The columns that each Parquet file says it has, and how many rows all have."""
    parquet, schemas, total = _parquet(source), [], 0
    for path in files:
        try:
            about = parquet.read_metadata(path)
            schemas.append(about.schema.to_arrow_schema())
        except Exception as error:  # pyarrow raises its own errors, OSError, ValueError, …
            raise _damaged(path, error) from error
        total += about.num_rows
    return schemas, total


def _same(
    path: Path, schema: Any, wanted: Sequence[str], every: Sequence[str] | None, first: Path
) -> None:
    """Whether a file of a data set has the columns wanted, and with ``every`` no others."""
    kinds = {str(name): str(schema.field(i).type) for i, name in enumerate(schema.names)}
    missing = [name for name in wanted if name not in kinds]
    text = [name for name in wanted if name in kinds and not _numeric(kinds[name])]
    more = [] if every is None else [n for n, k in kinds.items() if _numeric(k) and n not in every]
    if missing or more:
        raise DataError(
            f"{path} {'lacks' if missing else 'also has'} column {(missing or more)[0]!r}, unlike "
            f"{first}; choose columns that all files have with columns="
        )
    if text:
        raise DataError(f"{path}: column {text[0]!r} holds {kinds[text[0]]}, not numbers")


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).split("\n")[0] or type(error).__name__
    return DataError(f"{path} is damaged or not Parquet ({shown(reason, 120)})")


def _numeric(kind: str) -> bool:
    return kind.startswith(("int", "uint", "float", "double", "half", "bool", "decimal"))


def _parquet(source: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"{source}: reading Parquet needs pyarrow; pip install 'probmetrics[tables]'"
        ) from error
    return pyarrow.parquet
