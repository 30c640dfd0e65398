"""What reading gives: the values with their column names, and the one error bad data raises."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHOWN = 8  # names listed in a message before "and k more"


class DataError(ValueError):
    """Data that cannot be used; the message is one line naming source, place and remedy."""

    def __init__(self, message: str) -> None:
        # File names and cells are foreign text: no line breaks or control characters get through.
        super().__init__("".join(c if c.isprintable() else " " for c in message))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A sample read from a file, a folder, an embedded set or memory.

    Attributes:
        values: Shape (n, d), floating point and finite. Images are flattened rows in the order
            (height, width, channels), with pixel values as stored (0 to 255 in 8-bit files).
        columns: One name per column; ``column_0``, … or ``pixel_row_column`` when there are none.
        labels: One label per row, or None.
        source: Where the values came from, as given by the user.
        kind: ``"table"`` (named columns), ``"images"`` or ``"array"``.
        notes: What the reader did that its caller should know, one sentence each.
        image_shape: (height, width) or (height, width, channels), for images.

    Example:
        >>> import probmetrics as pm
        >>> pm.data.read("data:iris")
        Dataset(150 × 4 table from data:iris, labels)
    """

    values: NDArray[np.floating[Any]]
    columns: tuple[str, ...]
    labels: NDArray[Any] | None = None
    source: str = "memory"
    kind: str = "array"
    notes: tuple[str, ...] = field(default=())
    image_shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        n, d = self.values.shape
        size = f"{n} × {d} {self.kind}" if self.image_shape is None else self._image_size()
        parts = [f"{size} from {self.source}", *(["labels"] if self.labels is not None else [])]
        return f"Dataset({', '.join([*parts, *self.notes])})"

    @property
    def images(self) -> NDArray[np.floating[Any]]:
        """The images, shape (n, height, width) or (n, height, width, channels)."""
        if self.image_shape is None:
            raise DataError(f"{self.source} holds no images but {self.kind} values; see .values")
        return self.values.reshape(-1, *self.image_shape)

    def rows(self, chosen: NDArray[np.integer[Any]] | slice, *notes: str) -> "Dataset":
        """The same data with only the chosen rows."""
        labels = None if self.labels is None else self.labels[chosen]
        return replace(self, values=self.values[chosen], labels=labels, notes=(*self.notes, *notes))

    def select(self, columns: Sequence[str | int]) -> "Dataset":
        """The same rows with only the named (or counted from 0) columns."""
        indices = column_indices(columns, self.columns, self.source)
        return replace(
            self,
            values=self.values[:, indices],
            columns=tuple(self.columns[i] for i in indices),
            kind="array" if self.kind == "images" else self.kind,
            image_shape=None,
        )

    def _image_size(self) -> str:
        assert self.image_shape is not None
        return f"{len(self)} images of {' × '.join(map(str, self.image_shape))}"


def finished(data: Dataset) -> Dataset:
    """The dataset after the last checks: it has rows and columns, all finite; constants noted."""
    n, d = data.values.shape
    if n == 0:
        raise DataError(f"{data.source} is empty: it holds no rows")
    if d == 0:
        raise DataError(f"{data.source} has no columns: each of its {n} rows is empty")
    refuse_non_finite(data.values, data.columns, data.source)
    note = _constant_note(data)
    return replace(data, notes=(*data.notes, note)) if note else data


def refuse_non_finite(
    values: NDArray[np.floating[Any]],
    columns: Sequence[str],
    source: str,
    lines: NDArray[np.integer[Any]] | None = None,
) -> None:
    """Refuse NaN and infinity, naming the first place and how many rows are affected.

    Args:
        values: Shape (n, d).
        columns: The column names.
        source: Where the values came from.
        lines: The line of the file each row stands on, where rows have lines.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum(dtype=np.float64)):
            return
    finite = np.isfinite(values)
    if finite.all():  # the sum overflowed, the values did not
        return
    rows, places = np.nonzero(~finite)
    row, column = int(rows[0]), int(places[0])
    found = len(np.unique(rows))
    where = f"row {row}" if lines is None else f"line {int(lines[row])}"
    raise DataError(
        f"{source}: {values[row, column]} at {where}, column {columns[column]!r} "
        f"({found} of {len(values)} rows affected); drop or impute these rows first"
    )


def subsample_rows(n: int, max_samples: int | None, seed: int) -> NDArray[np.int64] | None:
    """Which of n rows to keep: drawn without replacement, in file order; None keeps all.

    The draw depends on n, ``max_samples`` and ``seed`` alone.
    """
    if max_samples is None or n <= max_samples:
        return None
    chosen = np.random.default_rng(seed).choice(n, size=max_samples, replace=False)
    return np.sort(chosen).astype(np.int64)


def subsample_note(n: int, kept: int, seed: int, what: str = "rows") -> str:
    """The sentence that says rows were drawn."""
    return f"{kept:,} of {n:,} {what} drawn (seed {seed})"


def column_indices(wanted: Sequence[str | int], known: Sequence[str], source: str) -> list[int]:
    """Positions of the wanted columns, each a name or a number counted from 0 (names first)."""
    if not wanted:
        raise DataError(f"{source}: columns is empty; name at least one of {listed(known)}")
    indices = [_column_index(name, known, source) for name in wanted]
    repeated = next((known[i] for i in indices if indices.count(i) > 1), None)
    if repeated is not None:
        raise DataError(f"{source}: column {repeated!r} is asked for twice; name it once")
    return indices


def _column_index(name: str | int, known: Sequence[str], source: str) -> int:
    if isinstance(name, str):
        found = [i for i, other in enumerate(known) if other == name]
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            raise DataError(
                f"{source}: {len(found)} columns are called {name!r}; choose one by its number, "
                f"{found[0]} for the first"
            )
    try:
        number = int(name)
    except ValueError:
        number = -1
    if not 0 <= number < len(known):
        raise DataError(
            f"{source} has no column {shown(name)}; its {len(known)} columns are {listed(known)}"
        )
    return number


def column_names(columns: object) -> list[str | int] | None:
    """The ``columns`` option as a list: a comma-separated string, one number, or a sequence."""
    if columns is None:
        return None
    if isinstance(columns, str):
        return [name.strip() for name in columns.split(",") if name.strip()]
    names: list[Any] = list(columns) if isinstance(columns, Sequence | np.ndarray) else [columns]
    for name in names:
        if isinstance(name, bool) or not (isinstance(name, str) or hasattr(name, "__index__")):
            raise TypeError(
                f"columns must be names or whole numbers of columns, got {shown(name)}; "
                'pass e.g. columns=["age", 2]'
            )
    return [name if isinstance(name, str) else int(name) for name in names]


def generated_columns(d: int, image_shape: tuple[int, ...] | None = None) -> tuple[str, ...]:
    """Names for columns that have none: ``column_j``, or ``pixel_row_column[_channel]``."""
    if image_shape is None:
        return tuple(f"column_{j}" for j in range(d))
    places = np.ndindex(*image_shape)
    return tuple("pixel_" + "_".join(map(str, place)) for place in places)


def listed(names: Sequence[object]) -> str:
    """The names, quoted and shortened: ``'a', 'b', … and 5 more``."""
    text = ", ".join(shown(name) for name in list(names)[:SHOWN])
    more = len(names) - SHOWN
    return f"{text} and {more} more" if more > 0 else text


def shown(value: object, width: int = 40) -> str:
    """A value quoted for a message, cut at ``width`` characters."""
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= width else text[: width - 1] + "…")


def named_path(path: Any) -> Any:
    """The path, unless it is empty: Python would take "" for the current folder."""
    if str(path).strip() == "":
        raise DataError("the path is empty; name a file or a folder ('.' is the current one)")
    return path


def refuse_beyond_memory(size: float | int, source: str, remedy: str) -> None:
    """Refuse what cannot fit into the memory that is left, before it is asked for."""
    free = available_memory()
    if free is not None and size > 0.8 * free:
        raise DataError(
            f"{source} needs {size / 2**30:.1f} GiB of memory and may take "
            f"{0.8 * free / 2**30:.1f} GiB, four fifths of what is free; {remedy}"
        )


def available_memory() -> int | None:
    """Bytes that can still be allocated (Linux), or None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        entry = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(entry.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _constant_note(data: Dataset) -> str | None:
    if len(data) < 2:
        return None
    constant = np.nonzero(data.values.max(axis=0) == data.values.min(axis=0))[0]
    if not len(constant):
        return None
    what = "pixel" if data.kind == "images" else "column"
    names = f" ({listed([data.columns[i] for i in constant])})" if data.kind == "table" else ""
    return f"{len(constant)} constant {what}{'s' * (len(constant) != 1)}{names}"
