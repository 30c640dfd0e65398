"""Tables from CSV, TSV and Parquet files and from data frames, with errors that name the place."""

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probmetrics.data import dataset
from probmetrics.data.dataset import DataError, Dataset, listed, shown

BLOCK = 8192  # rows parsed at a time, so that text never fills the memory
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "<na>"})


@dataclass
class Layout:
    """What the first lines of a text table tell: the separator, the names, where data begins."""

    delimiter: str
    names: list[str]
    header_lines: int
    notes: list[str] = field(default_factory=list)
    index_column: bool = False


def read_text(
    path: Path, source: str, columns: Sequence[str | int] | None, *, delimiter: str | None = None
) -> Dataset:
    """Dataset of a CSV or TSV file; columns not asked for may hold anything.

    The first row is the header if one of its cells is text above a number, or none is a number.
    A first column without a name that counts the rows is an index and left out.

    Args:
        path: UTF-8 text. Comma, semicolon or tab separated; the first line decides.
        source: What to call it.
        columns: Names or numbers of the columns to keep; None keeps all.
        delimiter: The separator, if it is known.
    """
    try:
        layout = _layout(path, source, delimiter)
        if columns is None:
            indices = list(range(int(layout.index_column), len(layout.names)))
        else:
            indices = dataset.column_indices(columns, layout.names, source)
        names = [layout.names[i] for i in indices]
        values, lines = _parse(path, source, layout, indices)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source} is not UTF-8 text (byte {error.object[error.start]:#04x}); "
            "save it as UTF-8 CSV"
        ) from error
    except csv.Error as error:
        raise DataError(f"{source} is not a readable table ({error}); save it again") from error
    dataset.refuse_non_finite(values, names, source, lines)
    if layout.index_column and columns is None:
        layout.notes.append("the first column has no name and counts the rows: left out")
    return Dataset(values, tuple(names), source=source, kind="table", notes=tuple(layout.notes))


def read_parquet(path: Path, source: str, columns: Sequence[str | int] | None) -> Dataset:
    """Dataset of a Parquet file; needs pandas and pyarrow."""
    try:
        import pandas
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"{source}: reading Parquet needs pandas and pyarrow; "
            "install them with pip install 'probmetrics[tables]', or save the table as CSV"
        ) from error
    try:
        shape = pyarrow.parquet.read_metadata(path)
        dataset.refuse_beyond_memory(
            16.0 * shape.num_rows * shape.num_columns, source, "save the columns you need"
        )
        frame = pandas.read_parquet(path, engine="pyarrow")
    except DataError:
        raise
    except Exception as error:  # pyarrow raises its own errors, OSError, ValueError, …
        reason = str(error).split("\n")[0] or type(error).__name__
        raise DataError(
            f"{source} is damaged or not a .parquet file ({shown(reason, 120)}); save it again"
        ) from error
    return from_frame(frame, source, columns)


def from_frame(frame: Any, source: str, columns: Sequence[str | int] | None = None) -> Dataset:
    """Dataset of a pandas or polars data frame (or anything alike); columns must be numeric."""
    known = [str(name) for name in frame.columns]
    wanted = (
        range(len(known)) if columns is None else dataset.column_indices(columns, known, source)
    )
    if not known or len(frame) == 0:
        raise DataError(f"{source} is empty: {len(frame)} rows and {len(known)} columns")
    numbers = {i: _numeric_column(_series(frame, i)) for i in wanted}
    text = [i for i, values in numbers.items() if values is None]
    if text:
        others = [
            known[i] for i in range(len(known)) if _numeric_column(_series(frame, i)) is not None
        ]
        where = f"{known[text[0]]!r} holds {_series(frame, text[0]).dtype}"
        _refuse_text(source, [known[i] for i in text], others, where)
    return Dataset(
        values=np.stack([values for values in numbers.values() if values is not None], axis=1),
        columns=tuple(known[i] for i in wanted),
        source=source,
        kind="table",
    )


def _series(frame: Any, i: int) -> Any:
    return frame.iloc[:, i] if hasattr(frame, "iloc") else frame[frame.columns[i]]


def _numeric_column(series: Any) -> NDArray[np.float64] | None:
    """The values of a column, missing ones as NaN; None if it holds text, dates or categories."""
    kind = str(series.dtype).lower()
    if not kind.startswith(("int", "uint", "float", "bool", "double", "decimal")):
        return None
    try:
        if hasattr(series, "iloc"):
            return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
        return np.asarray(series.to_numpy(), dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _layout(path: Path, source: str, delimiter: str | None) -> Layout:
    """Separator, header and names, read from the first lines."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = next((line for line in file if line.strip()), "")
    delimiter = delimiter or max(",;\t", key=first.count)
    top = list(itertools.islice(_rows(path, delimiter), 2))
    if not top:
        raise DataError(f"{source} is empty: it holds no lines of data")
    head = [cell.strip() for cell in top[0][1]]
    head[0] = head[0].lstrip("# ")  # numpy.savetxt writes its header as a comment
    below = top[1][1] if len(top) > 1 else None
    if not _is_header(head, below):
        return Layout(delimiter, list(dataset.generated_columns(len(head))), 0)
    if below is None:
        raise DataError(f"{source} is empty: it has a header and no rows")
    blank = not head[0] and len(head) > 1 and _counts_rows(path, delimiter)
    names = [name or f"column_{j}" for j, name in enumerate(head)]
    return Layout(delimiter, names, 1, index_column=blank)


def _is_header(head: Sequence[str], below: Sequence[str] | None) -> bool:
    """Whether the first row names the columns: text above a number, or not one number in it."""
    numbers = [_is_number(cell) for cell in head]
    if all(numbers) or all(cell.lower() in MISSING for cell in head):
        return False
    if not any(numbers):
        return True
    return below is not None and any(
        not number and cell.lower() not in MISSING and _is_number(other)
        for number, cell, other in zip(numbers, head, below, strict=False)
    )


def _counts_rows(path: Path, delimiter: str) -> bool:
    """Whether the first column is 0, 1, 2, … or 1, 2, 3, … below the header."""
    cells = (row[0].strip() for _, row in itertools.islice(_rows(path, delimiter), 1, None))
    first = next(cells)
    if first not in ("0", "1"):
        return False
    return all(cell == str(number) for number, cell in enumerate(cells, int(first) + 1))


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its last line (from 1)."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                yield reader.line_num, row


def _parse(
    path: Path, source: str, layout: Layout, indices: list[int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The wanted columns as numbers, shape (n, len(indices)), and the line of each row."""
    rows = itertools.islice(_rows(path, layout.delimiter), layout.header_lines, None)
    blocks: list[NDArray[np.float64]] = []
    lines: list[int] = []
    width = len(layout.names)
    whole = indices == list(range(width))
    while block := list(itertools.islice(rows, BLOCK)):
        for line, row in block:
            if len(row) != width:
                raise DataError(
                    f"{source}, line {line}: {len(row)} cells, but the first line has {width}; "
                    "make every line equally long (quote cells that hold the separator)"
                )
        cells = [row if whole else [row[i] for i in indices] for _, row in block]
        try:
            if any("_" in "".join(row) for row in cells):
                raise ValueError("1_000 is a number to Python and a name to everyone else")
            blocks.append(np.array(cells, dtype=np.float64))
        except ValueError:
            _refuse_cells(path, source, layout, indices)
        lines += [line for line, _ in block]
        dataset.refuse_beyond_memory(blocks[0].nbytes * len(blocks), source, "pass --columns")
    return np.concatenate(blocks), np.array(lines)


def _refuse_cells(path: Path, source: str, layout: Layout, indices: list[int]) -> None:
    """Say which cells are no numbers: text columns first, else the missing values."""
    text: dict[int, tuple[int, str]] = {}
    missing: dict[int, int] = {}
    missing_lines: list[int] = []
    numeric = set(range(len(layout.names)))
    rows = itertools.islice(_rows(path, layout.delimiter), layout.header_lines, None)
    for line, row in rows:
        for i, cell in enumerate(row[: len(layout.names)]):
            if _is_number(cell):
                continue
            if cell.strip().lower() in MISSING:
                if i in indices:
                    missing[i] = missing.get(i, 0) + 1
                    missing_lines += [line] if line not in missing_lines[-1:] else []
            else:
                numeric.discard(i)
                text.setdefault(i, (line, cell))
    named = layout.names
    if bad := [i for i in indices if i in text]:
        line, cell = text[bad[0]]
        where = f"line {line}, column {named[bad[0]]!r}: {shown(cell)}"
        if cell.count(",") == 1 and _is_number(cell.replace(",", ".")):
            where += ", a decimal comma?"
        _refuse_text(source, [named[i] for i in bad], [named[i] for i in sorted(numeric)], where)
    raise DataError(
        f"{source}: missing values in {'columns' if len(missing) > 1 else 'column'} "
        f"{listed([named[i] for i in sorted(missing)])} on {len(missing_lines)} lines (first: "
        f"{', '.join(map(str, missing_lines[:5]))}); drop or impute them, or leave the columns out "
        "with --columns"
    )


def _refuse_text(source: str, bad: list[str], others: list[str], where: str) -> None:
    numeric = [name for name in others if name not in bad]
    remedy = (
        f"pass --columns with numeric ones: {listed(numeric)}" if numeric else "none is numeric"
    )
    raise DataError(
        f"{source}: {len(bad)} column{'s' * (len(bad) != 1)} not numeric: {listed(bad)} ({where}); "
        f"{remedy}"
    )


def _is_number(cell: str) -> bool:
    """Whether the cell is a finite number as NumPy would read it."""
    try:
        return "_" not in cell and np.isfinite(float(cell)).item()
    except ValueError:
        return False
