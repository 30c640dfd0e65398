"""Column names of tables: both samples must name the same columns in the same order."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

from probmetrics._arrays import array_function
from probmetrics.twosample.design import no_weights
from probmetrics.twosample.result import TestResult

P = ParamSpec("P")


def table_test(function: Callable[P, TestResult]) -> Callable[P, TestResult]:
    """The door of the tests: arrays, or tables with the same columns, named in the result.

    Weights ``a`` and ``b`` are refused here by tests that do not list them.
    """
    inner = array_function(function)
    listed = inspect.signature(function).parameters

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> TestResult:
        if "a" not in listed:
            no_weights(kwargs.pop("a", None), kwargs.pop("b", None))
        given = dict(zip(("x", "y"), args, strict=False)) | kwargs
        names = column_names(given.get("x"), given.get("y"))
        result = inner(*args, **kwargs)
        return result if names is None else dataclasses.replace(result, columns=names)

    return wrapper


def column_names(x: Any, y: Any) -> tuple[str, ...] | None:
    """The common column names of two tables; ``None`` unless both have names.

    Raises:
        ValueError: The names differ, or are the same in another order.
    """
    first, second = _names(x), _names(y)
    if first is None or second is None or first == second:
        return first if second is not None else None
    if sorted(first) == sorted(second):
        raise ValueError(
            f"x and y have the same columns in different orders ({_some(first)} and "
            f"{_some(second)}); reorder one, e.g. y[x.columns]"
        )
    only_x = [name for name in first if name not in second]
    only_y = [name for name in second if name not in first]
    raise ValueError(
        f"x and y have different columns: only in x: {_some(only_x)}; only in y: {_some(only_y)}"
    )


def _names(table: Any) -> tuple[str, ...] | None:
    columns = getattr(table, "columns", None)
    return None if columns is None else tuple(str(name) for name in columns)


def _some(names: Any) -> str:
    names = list(names)
    shown = ", ".join(names[:5]) if names else "none"
    return shown + (", …" if len(names) > 5 else "")
