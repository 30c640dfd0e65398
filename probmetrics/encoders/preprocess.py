"""From images of any size to what a network expects; the convention is part of the number."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import to_tensor

CONVENTIONS = ("tf1", "clean")


def pixels(batch: Any, value_range: tuple[float, float] | None = None) -> Tensor:
    """Images as RGB values from 0 to 255, shape (n, 3, height, width), float32.

    Args:
        batch: Whole numbers 0 to 255, or floating-point values with ``value_range``; shape
            (n, height, width), (n, height, width, c) or (n, c, height, width) with c = 1 or 3.
        value_range: What black and white are in floating-point images, e.g. (0, 1) or (−1, 1).

    Raises:
        ValueError: Another shape; values outside the range; floats whose range is not said.
    """
    images = to_tensor(batch, "images", floating=False)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    if images.ndim != 4:
        raise ValueError(
            f"images must have shape (n, height, width, c), got {tuple(images.shape)}; where "
            "arrays are read, they hold images if they are uint8 or image_size (--image-size) is "
            "given"
        )
    if images.shape[1] not in (1, 3) and images.shape[-1] in (1, 3):
        images = images.permute(0, 3, 1, 2)
    if images.shape[1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels, got shape {tuple(images.shape)}")
    if 0 in images.shape:
        raise ValueError(f"images are empty: shape {tuple(images.shape)}")
    low, high = value_range or (0.0, 255.0)
    if images.is_floating_point() and value_range is None:
        raise ValueError(
            "images are floating point and could be in any range; pass value_range=(0, 1) (or what "
            "black and white are), or whole numbers from 0 to 255"
        )
    images = images.float()
    checks.finite(images.reshape(len(images), -1), "images")
    least, most = float(images.min()), float(images.max())
    slack = 1e-3 * (high - low)
    if least < low - slack or most > high + slack:
        raise ValueError(
            f"images hold values from {least:g} to {most:g}, outside {low:g} to {high:g}; "
            "pass value_range= or scale them"
        )
    images = (images - low) * (255.0 / (high - low))
    return images.expand(-1, 3, -1, -1)


def resized(images: Tensor, size: int, convention: str) -> Tensor:
    """Images (n, 3, size, size), 0 to 255: "tf1" or "clean"."""
    checks.choice(convention, "preprocessing", CONVENTIONS)
    if convention == "tf1":
        return bilinear_tf1(images, size)
    return bicubic_pil(images, size)


def bilinear_tf1(images: Tensor, size: int) -> Tensor:
    """Bilinear resizing as TensorFlow 1 does: no antialias, corners not aligned, no half pixels.

    Output pixel i looks at input position i·(in/out). What the classic FID network was fed with.
    """
    for axis in (-2, -1):
        images = _bilinear(images, size, axis)
    return images


def bicubic_pil(images: Tensor, size: int) -> Tensor:
    """Bicubic resizing with antialias by Pillow, channel by channel in floating point, clipped.

    References:
        Parmar, Zhang, Zhu (2022), On aliased resizing and surprising subtleties in GAN evaluation.
    """
    planes = images.detach().cpu().reshape(-1, *images.shape[-2:]).numpy()
    done = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(plane)).resize(
                (size, size), Image.Resampling.BICUBIC
            )
        )
        for plane in planes
    ]
    stacked = torch.from_numpy(np.stack(done)).clamp(0.0, 255.0)
    return stacked.reshape(*images.shape[:-2], size, size).to(images.device)


def _bilinear(images: Tensor, size: int, axis: int) -> Tensor:
    length = images.shape[axis]
    scale = torch.tensor(length / size, dtype=torch.float32)
    at = torch.arange(size, dtype=torch.float32) * scale
    low = at.long().clamp(max=length - 1)
    high = (low + 1).clamp(max=length - 1)
    share = (at - low).to(images)
    low, high = low.to(images.device), high.to(images.device)
    if axis == -2:
        share = share.unsqueeze(-1)
    first, second = images.index_select(axis, low), images.index_select(axis, high)
    return first + (second - first) * share
