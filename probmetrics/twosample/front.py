"""One front door: two samples of any kind in, the test that suits them, a result out."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy, to_tensor
from probmetrics.twosample.aggregated import mmd_aggregated_test, mmd_fuse_test
from probmetrics.twosample.blocks import block_mmd_test, linear_mmd_test
from probmetrics.twosample.categorical import categorical_test
from probmetrics.twosample.classifier import classifier_test
from probmetrics.twosample.columns import column_names
from probmetrics.twosample.deep import deep_kernel_test
from probmetrics.twosample.design import no_weights
from probmetrics.twosample.frechet import frechet_test
from probmetrics.twosample.fused import fused_test
from probmetrics.twosample.graph import (
    edge_count_test,
    friedman_rafsky_test,
    nearest_neighbor_test,
)
from probmetrics.twosample.kernel import energy_test, mmd_test
from probmetrics.twosample.ksample import disco_test
from probmetrics.twosample.large import incomplete_mmd_test, random_feature_test
from probmetrics.twosample.locations import characteristic_function_test, mean_embedding_test
from probmetrics.twosample.mixed import has_times, is_categorical, mixed_test, table_columns
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.selected import selected_kernel_test
from probmetrics.twosample.sinkhorn import sinkhorn_test
from probmetrics.twosample.univariate import univariate_test
from probmetrics.twosample.wasserstein import sliced_wasserstein_test, wasserstein_test

FUSED = 2000  # pooled points up to which all kernels of the fused test are affordable
DENSE = 20_000  # and up to which one kernel matrix is

METHODS: dict[str, Callable[..., TestResult]] = {
    "ad": partial(univariate_test, statistic="ad"),
    "aggregated": mmd_aggregated_test,
    "block": block_mmd_test,
    "characteristic-function": characteristic_function_test,
    "chi2": partial(categorical_test, statistic="chi2"),
    "classifier": classifier_test,
    "cvm": partial(univariate_test, statistic="cvm"),
    "deep": deep_kernel_test,
    "disco": disco_test,
    "edge-count": edge_count_test,
    "energy": energy_test,
    "es": partial(univariate_test, statistic="es"),
    "fisher": partial(categorical_test, statistic="fisher"),
    "frechet": frechet_test,
    "friedman-rafsky": friedman_rafsky_test,
    "fuse": mmd_fuse_test,
    "fused": fused_test,
    "g": partial(categorical_test, statistic="g"),
    "incomplete": incomplete_mmd_test,
    "ks": partial(univariate_test, statistic="ks"),
    "linear": linear_mmd_test,
    "mean-embedding": mean_embedding_test,
    "mixed": mixed_test,
    "mmd": mmd_test,
    "neighbors": nearest_neighbor_test,
    "random-features": random_feature_test,
    "selected": selected_kernel_test,
    "sinkhorn": sinkhorn_test,
    "sliced": sliced_wasserstein_test,
    "wasserstein": wasserstein_test,
}
TAKE_TEXT = ("chi2", "fisher", "g", "mixed")


def two_sample_test(
    x: Any,
    y: Any,
    *,
    method: str = "auto",
    scale: bool | None = None,
    generator: torch.Generator | int | None = None,
    level: float = 0.05,
    a: Any = None,
    b: Any = None,
    **options: Any,
) -> TestResult:
    """Do two samples come from the same distribution? The front door of the two-sample tests.

    ``method="auto"`` chooses by what the data are, never by how the samples differ, so the choice
    costs no level:

    - one column of categories (text, booleans, categories): ``"chi2"``, the χ² statistic
      calibrated by permutation, which for such data leaves nothing to gain;
    - tables with columns of categories or of times among others: ``"mixed"``, a product kernel,
      which also sees differences in the dependence between columns of either kind;
    - numbers, up to 2,000 points in all: ``"fused"``, kernels of many scales and the energy
      distance together. No single kernel is best against all alternatives; this test stays close
      to the best one, at about twenty times the cost of one of them;
    - up to 20,000 points: ``"energy"``. With so many points power is seldom short, one kernel
      matrix still fits, and the energy distance has no bandwidth to choose and sees every
      difference;
    - beyond: ``"random-features"``, whose time is linear in the number of points.

    Ties, few points and d ≫ n change nothing: all of these enumerate or draw labelings, count
    ties, and keep their level in every dimension.

    Args:
        x: Sample: n points of d coordinates as an array, tensor, data frame, nested list or sparse
            matrix, shape (n, d), or (n,) for one coordinate.
        y: Sample of m points, likewise, with the same columns.
        method: ``"auto"``, or the name of a test:
            of kernels ``"mmd"``, ``"energy"``, ``"fused"``, ``"aggregated"``, ``"fuse"``,
            ``"selected"``, ``"deep"``, ``"mean-embedding"``, ``"characteristic-function"``;
            for many points ``"random-features"``, ``"incomplete"``, ``"block"``, ``"linear"``;
            of transport ``"wasserstein"``, ``"sliced"``, ``"sinkhorn"``, ``"frechet"``;
            on graphs ``"friedman-rafsky"``, ``"neighbors"``, ``"edge-count"``;
            ``"classifier"``; ``"disco"``; of one feature at a time ``"ks"``, ``"cvm"``, ``"ad"``,
            ``"es"``; of categories ``"chi2"``, ``"g"``, ``"fisher"``, ``"mixed"``.
        scale: Divide columns by their standard deviations in the pooled sample, which sees no
            labels. ``None`` does so for tables with named columns, whose units have nothing to do
            with each other, and leaves the coordinates of arrays as they are. Categories are
            never scaled.
        generator: Generator or seed of all that the test draws.
        level: Level to compare with, for warnings.
        a: Weights are refused: weighted points cannot exchange labels.
        b: As ``a``.
        options: Further options of the chosen test, e.g. ``permutations=9999``, ``kernel=...``.

    Returns:
        The ``TestResult`` of that test; ``method`` names it and ``details["chosen"]`` says by
        which name it was called.

    Raises:
        ValueError: An unknown method (the known ones are listed), weights, NaN, samples that do
            not match in columns or d, too few points.
        TypeError: Text for a test of numbers; an option the chosen test does not have.

    Notes:
        Import a test itself to see its options, statistic and cost.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 60, 3, generator=g)
        >>> result = two_sample_test(x, y + 0.7, generator=0)
        >>> result.method, result.reject()
        ('fused', True)
        >>> two_sample_test(["a", "b", "a", "a"] * 5, ["b"] * 20, generator=0).reject()
        True

    References:
        Schrab, Kim, Albert, Laurent, Guedj, Gretton (2023), MMD aggregated two-sample test;
        Székely, Rizzo (2013), Energy statistics; Zhao, Meng (2015), FastMMD.
    """
    no_weights(a, b)
    checks.choice(method, "method", ("auto", *sorted(METHODS)))
    names = column_names(x, y)
    x, y = _dense(x), _dense(y)
    chosen = choose(x, y) if method == "auto" else method
    test = METHODS[chosen]
    _known_options(test, chosen, options)
    scaled = scale if scale is not None else names is not None
    if chosen not in TAKE_TEXT and scaled:
        x, y = _rescaled(x, y)
    result = test(x, y, generator=generator, level=level, **options)
    details = {**result.details, "chosen": chosen}
    return replace(
        result, columns=names if result.columns is None else result.columns, details=details
    )


def choose(x: Any, y: Any) -> str:
    """The method ``"auto"`` stands for; it sees types and sizes only, not the labels."""
    if not isinstance(x, Tensor):
        first, second = table_columns(x, "x"), table_columns(y, "y")
        categories = [
            is_categorical(u) or is_categorical(v) for u, v in zip(first, second, strict=False)
        ]
        if any(categories):
            return "chi2" if len(categories) == 1 else "mixed"
        if has_times(x) or has_times(y):
            return "mixed"
    points = len(x) + len(y)
    if points <= FUSED:
        return "fused"
    return "energy" if points <= DENSE else "random-features"


def _dense(table: Any) -> Any:
    """SciPy's sparse matrices as arrays; whatever has a shape of its own as it comes."""
    if hasattr(table, "toarray"):
        return table.toarray()
    if hasattr(table, "columns") or hasattr(table, "shape"):
        return table
    if hasattr(table, "__array__") or isinstance(table, list | tuple):
        return _rectangular(table)
    return table


def _rectangular(table: Any) -> np.ndarray:
    try:
        array = np.asarray(table)
    except ValueError as error:
        raise ValueError(f"a sample is not a rectangular table: {error}") from error
    if array.dtype.kind == "U" and not all(
        isinstance(v, str)
        for row in table
        for v in (row if isinstance(row, list | tuple) else [row])
    ):
        return np.asarray(table, dtype=object)  # rows of text and numbers: keep the numbers
    return array


def _known_options(test: Callable[..., TestResult], name: str, options: dict[str, Any]) -> None:
    known = inspect.signature(test).parameters
    unknown = [option for option in options if option not in known]
    if unknown:
        offered = ", ".join(k for k in known if k not in ("x", "y", "a", "b", "samples"))
        raise TypeError(
            f"method {name!r} has no option {', '.join(unknown)}; its options are {offered}"
        )


def _rescaled(x: Any, y: Any) -> tuple[Any, Any]:
    """Both samples with columns in units of their pooled standard deviations."""
    in_numpy = answers_in_numpy({"x": x, "y": y})
    first, second = (
        checks.sample(t[:, None] if t.ndim == 1 else t, name=name)
        for t, name in ((to_tensor(x, "x"), "x"), (to_tensor(y, "y"), "y"))
    )
    if first.ndim != 2 or second.ndim != 2 or first.shape[-1] != second.shape[-1]:
        return x, y  # the test itself says what is wrong
    dtype = torch.promote_types(first.dtype, second.dtype)
    origin = first[:1].double()
    parts = [part.double() - origin for part in (first, second)]
    spread = torch.cat(parts).std(0)
    spread = torch.where(spread > 0, spread, 1.0)
    answers = [(part / spread).to(dtype) for part in parts]
    return tuple(part.numpy() if in_numpy else part for part in answers)  # type: ignore[return-value]
