"""What a critic or generator is shown besides a point: more points, or the point's label."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from probmetrics import _checks as checks


def pack(x: Tensor, count: int) -> Tensor:
    """Every ``count`` consecutive points as one, joined along their first axis.

    A critic that sees several points at once sees when they are too much alike.

    Args:
        x: Points, shape (n, d, …); n a multiple of ``count``.
        count: Points per pack.

    Returns:
        Shape (n / count, count · d, …).

    Raises:
        ValueError: n is no multiple of ``count``.

    Example:
        >>> pack(torch.arange(6.0).reshape(6, 1), 3).tolist()
        [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]

    References:
        Lin et al. (2018), "PacGAN: The power of two samples in generative adversarial networks".
    """
    count = checks.count(count, "count")
    if x.ndim < 2 or len(x) % count:
        raise ValueError(
            f"x must have shape (n, d, …) with n a multiple of {count}, got {tuple(x.shape)}; "
            "choose a batch size that is one"
        )
    return x.reshape(len(x) // count, count * x.shape[1], *x.shape[2:])


def with_labels(x: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Points with their label appended: one-hot columns, or constant channels for images.

    Args:
        x: Points, shape (n, d, …).
        labels: Class of each point, whole numbers from 0, shape (n,); or class probabilities
            (n, classes), through which gradients flow.
        classes: How many classes there are.

    Returns:
        Shape (n, d + classes, …).

    Raises:
        ValueError: Labels of another number or outside 0 … classes − 1.

    Example:
        >>> with_labels(torch.zeros(2, 1), torch.tensor([1, 0]), 2).tolist()
        [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]

    References:
        Mirza & Osindero (2014), "Conditional generative adversarial nets".
    """
    columns = label_columns(labels, classes, len(x)).to(x)
    shape = (len(x), columns.shape[1], *x.shape[2:])
    columns = columns.reshape(*columns.shape, *[1] * (x.ndim - 2)).expand(shape)
    return torch.cat([x, columns], dim=1)


def label_columns(labels: Tensor, classes: int, n: int | None = None) -> Tensor:
    """Labels as rows of class probabilities, one-hot where they are whole numbers."""
    classes = checks.count(classes, "classes")
    n = len(labels) if n is None else n
    if labels.is_floating_point():
        if labels.shape != (n, classes):
            raise ValueError(
                f"class probabilities must have shape {(n, classes)}, got {tuple(labels.shape)}"
            )
        return labels
    if labels.shape != (n,):
        raise ValueError(f"labels must have shape ({n},), one per point; got {tuple(labels.shape)}")
    if checks.readable(labels) and n and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels must lie in 0 … {classes - 1}, got {int(labels.min())} … {int(labels.max())}"
        )
    return one_hot(labels.long(), classes).to(torch.get_default_dtype())
