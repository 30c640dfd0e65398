"""Pictures of image samples: grids of each side, of telling and covered images, of copies."""

from typing import TYPE_CHECKING, Any

import numpy as np

from probmetrics.report.figures import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from probmetrics.report.comparison import Comparison

ACROSS, DOWN = 6, 4
PAIRS = 12
FEW_LEVELS = 32  # whole numbers up to this are counts of ink, not pixels of eight bits


def draw_images(comparison: "Comparison") -> dict[str, "Figure"]:
    """Grids of images at random, the most telling, the worst and best covered; means; copies."""
    figures = {
        "samples_a": draw_sample(comparison, 0),
        "samples_b": draw_sample(comparison, 1),
        "images_a": draw_grid(comparison, 0),
        "images_b": draw_grid(comparison, 1),
        "means": draw_means(comparison),
    }
    for name, rows in zip(("worst", "best"), comparison.covered, strict=True):
        pairs = [((0, row.position), (1, row.nearest), row.ratio) for row in rows]
        if pairs:
            figures[f"covered_{name}"] = draw_pairs(comparison, pairs[:PAIRS])
    copying, training = comparison.copying, comparison.pair.training
    if copying is not None and training is not None and _same_shape(comparison):
        pairs = [((1, s.position), (2, s.train_row), s.ratio) for s in copying.suspects]
        figures["suspects"] = draw_pairs(comparison, pairs[:PAIRS])
    return figures


def _same_shape(comparison: "Comparison") -> bool:
    """Whether the training set holds images like the others."""
    training = comparison.pair.training
    return training is not None and training.pictures.image_shape == comparison.pair.image_shape


def draw_sample(comparison: "Comparison", side: int) -> "Figure":
    """Images of one side at random: evenly spaced rows of what was compared."""
    images = _images(comparison, side)
    count = min(ACROSS * DOWN, len(images))
    chosen = np.linspace(0, len(images) - 1, count).astype(int)
    return _grid(comparison, [(images[i], "") for i in chosen])


def draw_pairs(
    comparison: "Comparison", pairs: list[tuple[tuple[int, int], tuple[int, int], float]]
) -> "Figure":
    """Images over their nearest ones of another side, with the ratio of distances between them."""
    shown: list[tuple[np.ndarray, str]] = []
    for start in range(0, len(pairs), ACROSS):
        block = pairs[start : start + ACROSS]
        above = [(_images(comparison, side)[i], f"{ratio:.2g}") for (side, i), _, ratio in block]
        below = [(_images(comparison, side)[i], "") for _, (side, i), _ in block]
        nothing = [(np.zeros(0), "")] * (ACROSS - len(block))
        shown += [*above, *nothing, *below, *nothing]
    return _grid(comparison, shown)


def _grid(comparison: "Comparison", shown: list[tuple[np.ndarray, str]]) -> "Figure":
    """A grid of images with titles; empty places for empty images."""
    from matplotlib.figure import Figure

    down = max(1, -(-len(shown) // ACROSS))
    titled = any(title for _, title in shown)
    height = (1.0 if titled else 0.85) * down + 0.1
    figure = Figure(figsize=(4.8, height), layout="constrained", facecolor="white")
    look = _look(comparison)
    for place, axes in enumerate(np.ravel(figure.subplots(down, ACROSS, squeeze=False))):
        axes.set_axis_off()
        if place < len(shown) and shown[place][0].size:
            axes.imshow(_shown(shown[place][0], look), **look)
            if shown[place][1]:
                axes.set_title(shown[place][1], fontsize=9, pad=2)
    return figure


def draw_grid(comparison: "Comparison", side: int) -> "Figure":
    """The images of one side that the other lacks most."""
    images = _images(comparison, side)
    rows = [row for row in comparison.rows if row.side == side][: ACROSS * DOWN]
    return _grid(comparison, [(images[row.position], "") for row in rows])


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
    sides = (*comparison.pair.sides, comparison.pair.training)
    chosen = sides[side]
    assert chosen is not None
    images: np.ndarray = chosen.pictures.values.reshape(-1, *shape)
    return images


def _look(comparison: "Comparison") -> dict[str, Any]:
    """How to draw an image: one range of values for both sides, grey where there is no colour.

    Pixels of eight bits look as they do in any viewer. Small images of other values are drawn as
    ink on paper.
    """
    values = [side.pictures.values for side in comparison.pair.sides]
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    small = max((comparison.pair.image_shape or (0,))[:2]) <= 64
    eight_bits = low >= 0 and FEW_LEVELS < high <= 255 and all(_whole(v) for v in values)
    if eight_bits:
        low, high = 0.0, 255.0
    return {
        "vmin": low,
        "vmax": high if high > low else low + 1.0,
        "cmap": "gray_r" if small and not eight_bits else "gray",
        "interpolation": "nearest" if small else "antialiased",
    }


def _whole(values: np.ndarray) -> bool:
    some = values[:200]
    return bool((some == np.rint(some)).all())


def _shown(image: np.ndarray, look: dict[str, Any]) -> np.ndarray:
    """The image as Matplotlib draws it: colour channels as shares of the range."""
    if image.ndim == 2 or image.shape[-1] < 3:  # grey, perhaps with transparency
        return image if image.ndim == 2 else image[..., 0]
    shares = (image.astype(np.float64) - look["vmin"]) / (look["vmax"] - look["vmin"])
    colours: np.ndarray = np.clip(shares[..., :4], 0.0, 1.0)
    return colours
