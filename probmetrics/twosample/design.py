"""How two samples become one pooled sample, and which exchanges of labels their design allows."""

import functools
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Pooled:
    """A pooled sample with the labelings that its design allows.

    Attributes:
        z: Pooled points along the first axis.
        labelings: With the observed labels: the number of the sample each point came from.
        flat: Whether all points are equal, where ``z`` does not hold the points themselves.
    """

    z: Any
    labelings: Labelings
    flat: bool | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Points of each sample."""
        return tuple(int(size) for size in self.labelings.counts.sum(0))

    @property
    def constant(self) -> bool:
        """Whether all pooled points are equal."""
        return self.flat if self.flat is not None else bool((self.z == self.z[:1]).all())


def pooled(*samples: Any, strata: Any = None, paired: bool = False) -> Pooled:
    """Samples in an order that does not depend on which comes first in the call.

    Smaller samples come first; of equally large ones, the one whose first differing entry is
    smaller. Labelings are drawn for positions of the pooled sample, so a seed then gives the same
    p-value when samples change places.

    Args:
        samples: Tensors or arrays of points along the first axis.
        strata: For each sample, labels of its points; labels are exchanged within equal ones only.
        paired: The i-th points of both samples are a pair, exchanged within pairs only.
    """

    def before(i: int, j: int) -> int:
        return -1 if goes_first(samples[i], samples[j]) else 1

    order = sorted(range(len(samples)), key=functools.cmp_to_key(before))
    parts = [samples[i] for i in order]
    z = torch.cat(parts) if isinstance(parts[0], Tensor) else np.concatenate(parts)
    observed = torch.repeat_interleave(
        torch.tensor(order, dtype=torch.uint8), torch.tensor([len(part) for part in parts])
    )
    return Pooled(z, labelings_of(observed, strata=strata, paired=paired))


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


def labelings_of(observed: Tensor, *, strata: Any = None, paired: bool = False) -> Labelings:
    """The labelings that a design allows.

    Args:
        observed: Sample number of each pooled point, one sample after the other.
        strata: As for ``pooled``.
        paired: As for ``pooled``.
    """
    sizes = observed.bincount().tolist()
    if paired:
        if strata is not None:
            raise ValueError("paired samples are exchanged within pairs already; drop strata")
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"paired samples need equally many points, got n={sizes[0]} and m={sizes[1]}"
            )
        return Labelings(observed, paired=True)
    if strata is None:
        return Labelings(observed)
    if not isinstance(strata, tuple | list) or len(strata) != len(sizes):
        raise TypeError(
            "strata must hold one vector of labels per sample: (strata of x's points, strata of "
            f"y's points), got {type(strata).__name__}"
        )
    each = [
        _stratum_labels(s, size, k) for k, (s, size) in enumerate(zip(strata, sizes, strict=True))
    ]
    order = observed.unique_consecutive().tolist()
    codes = np.unique(np.concatenate([each[k] for k in order]), return_inverse=True)[1]
    labelings = Labelings(observed, torch.from_numpy(codes.reshape(-1).astype(np.int64)))
    if labelings.total == 1:
        raise ValueError("no stratum holds points of both samples, so no labels can be exchanged")
    return labelings


def _stratum_labels(labels: Any, count: int, sample: int) -> np.ndarray:
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (count,):
        name = "xy"[sample] if sample < 2 else f"sample {sample}"
        raise ValueError(
            f"strata of {name} must hold one label per point, shape ({count},), got {array.shape}"
        )
    return array


def random_half(labelings: Labelings, source: torch.Generator) -> Tensor:
    """Which points to learn from: a random half of each sample, shape (N,), ``bool``.

    The others are left for the test, whose labels can be exchanged: nothing learned saw them.
    """
    labels = labelings.observed
    train = torch.zeros(labelings.points, dtype=torch.bool)
    for group in labels.unique_consecutive():  # in the pooled order, whatever the samples' names
        mine = (labels == group).nonzero()[:, 0]
        if len(mine) < 4:
            raise ValueError(
                "learning on one half of each sample and testing on the other needs at least 4 "
                f"points in each, got {len(mine)}"
            )
        order = torch.randperm(len(mine), generator=source, device=source.device).cpu()
        train[mine[order[: len(mine) // 2]]] = True
    return train


def no_weights(a: Any, b: Any) -> None:
    """Refuse weights: the labels of weighted points are not exchangeable."""
    if a is not None or b is not None:
        raise ValueError(
            "permutation tests take no weights: with weights of their own, points cannot "
            "exchange labels; resample the points by weight, or compare with estimate(...)"
        )
