"""Pictures of image samples: the most telling images of each side, and the means."""

from typing import TYPE_CHECKING, Any

import numpy as np

from probmetrics.report.figures import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from probmetrics.report.comparison import Comparison

ACROSS, DOWN = 6, 4


def draw_images(comparison: "Comparison") -> dict[str, "Figure"]:
    """Grids of the most telling images of A and of B, and the mean images with their difference."""
    return {
        "images_a": draw_grid(comparison, 0),
        "images_b": draw_grid(comparison, 1),
        "means": draw_means(comparison),
    }


def draw_grid(comparison: "Comparison", side: int) -> "Figure":
    """The images of one side that the other lacks most."""
    from matplotlib.figure import Figure

    images = _images(comparison, side)
    rows = [row for row in comparison.rows if row.side == side][: ACROSS * DOWN]
    down = max(1, -(-len(rows) // ACROSS))
    figure = Figure(figsize=(4.8, 0.85 * down + 0.1), layout="constrained", facecolor="white")
    look = _look(comparison)
    for place, axes in enumerate(np.ravel(figure.subplots(down, ACROSS, squeeze=False))):
        axes.set_axis_off()
        if place < len(rows):
            axes.imshow(_shown(images[rows[place].position], look), **look)
    return figure


def draw_means(comparison: "Comparison") -> "Figure":
    """Mean of A, mean of B, and B less A (mean over channels)."""
    from matplotlib.figure import Figure

    means = [_images(comparison, side).astype(np.float64).mean(0) for side in (0, 1)]
    figure = Figure(figsize=(5.2, 2.2), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 3)
    look = _look(comparison)
    for axes, mean, name in zip(panels, means, comparison.names, strict=False):
        axes.imshow(_shown(mean, look), **look)
        axes.set_title(f"mean of {plain(name, 14)}", fontsize=9)
    gap = means[1] - means[0]
    gap = gap.mean(-1) if gap.ndim == 3 else gap
    top = float(np.abs(gap).max()) or 1.0
    drawn = panels[2].imshow(gap, cmap="PuOr_r", vmin=-top, vmax=top)
    panels[2].set_title("difference", fontsize=9)
    figure.colorbar(drawn, ax=panels[2], shrink=0.7).ax.tick_params(labelsize=8)
    for axes in panels:
        axes.set_axis_off()
    return figure


def _images(comparison: "Comparison", side: int) -> np.ndarray:
    shape = comparison.pair.image_shape
    assert shape is not None
    images: np.ndarray = comparison.pair.sides[side].data.values.reshape(-1, *shape)
    return images


def _look(comparison: "Comparison") -> dict[str, Any]:
    """How to draw an image: one range of values for both sides, grey where there is no colour."""
    values = [side.data.values for side in comparison.pair.sides]
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    small = max((comparison.pair.image_shape or (0,))[:2]) <= 64
    return {
        "vmin": low,
        "vmax": high if high > low else low + 1.0,
        "cmap": "gray_r" if small else "gray",
        "interpolation": "nearest" if small else "antialiased",
    }


def _shown(image: np.ndarray, look: dict[str, Any]) -> np.ndarray:
    """The image as Matplotlib draws it: colour channels as shares of the range."""
    if image.ndim == 2 or image.shape[-1] < 3:  # grey, perhaps with transparency
        return image if image.ndim == 2 else image[..., 0]
    shares = (image.astype(np.float64) - look["vmin"]) / (look["vmax"] - look["vmin"])
    colours: np.ndarray = np.clip(shares[..., :4], 0.0, 1.0)
    return colours
