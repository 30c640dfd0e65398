"""How two samples become one pooled sample, and which exchanges of labels their design allows."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy, to_tensor
from probmetrics.twosample.labelings import Labelings


def pair(x: Tensor, y: Tensor, *, minimum: int = 2) -> tuple[Tensor, Tensor]:
    """Two samples to test: one pair, shapes (n, d) and (m, d), finite, in one dtype."""
    x, y = checks.samples(x, y, minimum=minimum)
    for name, points in (("x", x), ("y", y)):
        if points.ndim != 2:
            raise ValueError(
                f"a test takes one pair of samples, shape (n, d); {name} has shape "
                f"{tuple(points.shape)}: loop over the batch (and correct for multiplicity)"
            )
    return x, y


def as_points(x: Any, y: Any) -> tuple[Any, Any]:
    """Two tensors or two NumPy arrays with points along the first axis, finite."""
    in_numpy = answers_in_numpy({"x": x, "y": y})
    x, y = ((v if not in_numpy else _to_array(v)) for v in (x, y))
    for name, points in (("x", x), ("y", y)):
        if points.ndim == 0 or len(points) == 0:
            raise ValueError(f"{name} holds no points: its shape is {tuple(points.shape)}")
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"points of x have shape {tuple(x.shape[1:])} and those of y {tuple(y.shape[1:])}; "
            "both need the same coordinates in the same order"
        )
    if in_numpy:
        common = np.result_type(x, y)
        x, y = x.astype(common, copy=False), y.astype(common, copy=False)
        for name, points in (("x", x), ("y", y)):
            if points.dtype.kind == "f":
                checks.finite(to_tensor(points), name)
        return x, y
    if x.device != y.device:
        raise ValueError(f"x is on {x.device} and y on {y.device}; move one with .to(...)")
    dtype = torch.promote_types(x.dtype, y.dtype)
    if dtype in (torch.float16, torch.bfloat16):
        dtype = torch.float32
    return checks.finite(x.to(dtype), "x"), checks.finite(y.to(dtype), "y")


def _to_array(value: Any) -> np.ndarray:
    frame = type(value).__name__ in ("DataFrame", "Series") and hasattr(value, "to_numpy")
    return np.asarray(value.to_numpy() if frame else value)


def pool(x: Any, y: Any) -> tuple[Any, Tensor]:
    """Both samples in an order that does not depend on which is called x.

    The smaller sample comes first; of two equally large ones, the one whose first differing
    entry is smaller. Labelings are drawn for positions of the pooled sample, so a seed then gives
    the same p-value when x and y change places.

    Returns:
        The pooled points, and the group number (0 for x, 1 for y) of each, ``uint8``.
    """
    swapped = goes_first(y, x)
    parts = (y, x) if swapped else (x, y)
    z = torch.cat(parts) if isinstance(x, Tensor) else np.concatenate(parts)
    observed = torch.full((len(x) + len(y),), int(not swapped), dtype=torch.uint8)
    observed[: len(parts[0])] = int(swapped)
    return z, observed


def goes_first(x: Any, y: Any) -> bool:
    """Whether x comes before y in the pooled order, equality included."""
    if len(x) != len(y):
        return len(x) < len(y)
    flat_x, flat_y = x.reshape(-1), y.reshape(-1)
    differs = flat_x != flat_y
    if not bool(differs.any()):
        return True
    at = int(differs.nonzero()[0][0])
    return bool(flat_x[at] < flat_y[at])


def labelings_of(
    observed: Tensor,
    *,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
) -> Labelings:
    """The labelings that a design allows.

    Args:
        observed: Group number of each pooled point, one group after the other.
        strata: Labels of x's and of y's points; labels are exchanged within equal ones only.
        paired: x_i and y_i are a pair; labels are exchanged within pairs only.
    """
    n, m = int((observed == 0).sum()), int((observed == 1).sum())
    if paired:
        if strata is not None:
            raise ValueError("paired samples are exchanged within pairs already; drop strata")
        if n != m:
            raise ValueError(f"paired samples need equally many points, got n={n} and m={m}")
        return Labelings(observed, paired=True)
    if strata is None:
        return Labelings(observed)
    if not isinstance(strata, tuple | list) or len(strata) != 2:
        raise TypeError(
            "strata must be a pair (strata of x's points, strata of y's points), "
            f"got {type(strata).__name__}"
        )
    first = _stratum_labels(strata[0], n, "x")
    second = _stratum_labels(strata[1], m, "y")
    ordered = (first, second) if int(observed[0]) == 0 else (second, first)
    codes = np.unique(np.concatenate(ordered), return_inverse=True)[1].reshape(-1)
    labelings = Labelings(observed, torch.from_numpy(codes.astype(np.int64)))
    if labelings.total == 1:
        raise ValueError("no stratum holds points of both samples, so no labels can be exchanged")
    return labelings


def _stratum_labels(labels: Any, count: int, name: str) -> np.ndarray:
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (count,):
        raise ValueError(
            f"strata of {name} must hold one label per point, shape ({count},), got {array.shape}"
        )
    return array


def no_weights(a: Any, b: Any) -> None:
    """Refuse weights: the labels of weighted points are not exchangeable."""
    if a is not None or b is not None:
        raise ValueError(
            "permutation tests take no weights: with weights of their own, points cannot "
            "exchange labels; resample the points by weight, or compare with estimate(...)"
        )


def constant(z: Any) -> bool:
    """Whether all pooled points are equal."""
    return bool((z == z[:1]).all())
