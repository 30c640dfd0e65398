"""The pictures of a comparison, as Matplotlib figures that touch no global state."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from probmetrics.report.floor import NoiseFloor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probmetrics.report.comparison import Comparison
    from probmetrics.twosample.result import TestResult

FIRST, SECOND, INK, PALE = "#0072B2", "#D55E00", "#1b1f24", "#c9ced6"  # told apart by all eyes
FEATURES = 6  # marginals drawn
POINTS = 1500  # points per side in a scatter plot
GRID = 70  # witness values along each axis of the background


def draw_figures(comparison: "Comparison") -> dict[str, "Figure"]:
    """All pictures that suit the data, by name."""
    from probmetrics.report.evaluation_figures import draw_evaluation
    from probmetrics.report.images import draw_images

    figures = {"distances": draw_distances(comparison)}
    if comparison.pair.x.shape[-1] > 1:
        figures["projection"] = draw_projection(comparison)
    else:
        figures["line"] = draw_line(comparison)
    figures["witness"] = draw_witness(comparison)
    for name, test in comparison.tests.items():
        figures[f"null_{name}"] = draw_null(test)
    for i in range(min(FEATURES, len(comparison.features))):
        figures[f"feature_{i}"] = draw_feature(comparison, i)
    if comparison.pair.image_shape is not None:
        figures |= draw_images(comparison)
    return figures | draw_evaluation(comparison)


def blank(width: float = 5.2, height: float = 3.4) -> tuple["Figure", "Axes"]:
    """An empty figure with one pair of axes, small enough to stay legible on a phone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=INK)
    return figure, axes


def plain(text: object, width: int = 36) -> str:
    """Foreign text for a figure: printable, short, and not taken for mathematics."""
    text = "".join(c if c.isprintable() else " " for c in str(text)).replace("$", r"\$")
    return text if len(text) <= width else text[: width - 1] + "…"


def draw_distances(comparison: "Comparison") -> "Figure":
    """Each distance against its noise floor, at the floor's sample size."""
    measured = [(m, m.floor) for m in against_floor(comparison)]
    figure, axes = blank(5.2, 1.3 + 0.55 * max(len(measured), 1))
    first, second = (plain(name, 14) for name in comparison.names)
    for row, (_, floor) in enumerate(measured):
        unit = _unit(floor)
        for values, colour, offset in ((floor.floor, INK, -0.13), (floor.matched, SECOND, 0.13)):
            height = np.full(len(values), row + offset)
            axes.scatter(values / unit, height, s=22, alpha=0.45, color=colour, linewidths=0)
    axes.scatter([], [], color=INK, label=f"{first} against itself")
    axes.scatter([], [], color=SECOND, label=f"{first} against {second}")
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(measured)), [m.metric.title for m, _ in measured], fontsize=9)
    axes.set_ylim(len(measured) - 0.4, -0.6)
    axes.set_xlabel("distance, in units of the noise floor (its 95% quantile)", fontsize=9)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def against_floor(comparison: "Comparison") -> list[Any]:
    """The distances that have a noise floor; scores, of which more is better, are left out."""
    return [
        m for m in comparison.measurements if m.floor is not None and m.metric.better == "lower"
    ]


def _unit(floor: NoiseFloor) -> float:
    """What a floor is measured in: its upper end, or its largest value if that is negative."""
    return floor.upper if floor.upper > 0 else float(np.abs(floor.floor).max()) or 1.0


def draw_projection(comparison: "Comparison") -> "Figure":
    """Both samples on the two leading principal axes, the witness function behind them."""
    from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm

    from probmetrics.discrepancy import witness

    (a, b), labels = _plane(comparison)
    low, high = _box(np.concatenate([a, b]))
    across, up = (np.linspace(low[i], high[i], GRID) for i in (0, 1))
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    values = np.asarray(witness(a, b, grid)).reshape(GRID, GRID)
    figure, axes = blank(5.2, 4.3)
    top = max(float(np.abs(values).max()), 1e-12)
    colours = LinearSegmentedColormap.from_list("sides", [SECOND, "white", FIRST])
    axes.imshow(
        values,
        extent=(low[0], high[0], low[1], high[1]),
        origin="lower",
        aspect="auto",
        cmap=colours,
        norm=TwoSlopeNorm(0.0, -top, top),
        alpha=0.5,
        interpolation="bilinear",
    )
    for points, colour, marker, name in zip(
        (a, b), (FIRST, SECOND), "o^", comparison.names, strict=True
    ):
        kept = points[:: max(1, -(-len(points) // POINTS))]
        axes.scatter(
            kept[:, 0],
            kept[:, 1],
            s=12,
            alpha=0.6,
            color=colour,
            marker=marker,
            linewidths=0.2,
            edgecolors="white",
            label=plain(name, 18),
        )
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.set_xlabel(labels[0], fontsize=9)
    axes.set_ylabel(labels[1], fontsize=9)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False, markerscale=1.8)
    return figure


def draw_line(comparison: "Comparison") -> "Figure":
    """Samples of one column: their histograms, and the witness function along the line."""
    from probmetrics.discrepancy import witness

    figure, axes = blank(5.2, 4.3)
    figure.delaxes(axes)
    top, low = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for panel in (top, low):
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9, colors=INK)
    x, y = comparison.pair.x.double(), comparison.pair.y.double()
    edges = edges_of(torch.cat([x, y]).numpy().ravel())
    _two_histograms(top, (x.numpy().ravel(), y.numpy().ravel()), edges, comparison.names)
    along = np.linspace(edges[0], edges[-1], 300)
    values = np.asarray(witness(x, y, torch.from_numpy(along[:, None])))
    low.plot(along, values, color=INK, linewidth=1.2)
    low.fill_between(along, values, 0.0, where=(values > 0).tolist(), color=FIRST, alpha=0.35)
    low.fill_between(along, values, 0.0, where=(values < 0).tolist(), color=SECOND, alpha=0.35)
    low.axhline(0.0, color=INK, linewidth=0.6)
    low.set_ylabel("witness", fontsize=9)
    low.set_xlabel(plain(comparison.pair.columns[0]), fontsize=9)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def _plane(comparison: "Comparison") -> tuple[tuple[np.ndarray, np.ndarray], tuple[str, str]]:
    """Both samples in two dimensions: as they are, or on principal axes of the pooled sample."""
    x, y = comparison.pair.x.double(), comparison.pair.y.double()
    if x.shape[-1] == 2:
        first, second = (plain(name) for name in comparison.pair.columns)
        return (x.numpy(), y.numpy()), (first, second)
    pooled = torch.cat([x, y])
    centred = pooled - pooled.mean(0)
    if len(pooled) >= x.shape[-1]:
        spread, axes = torch.linalg.eigh(centred.mT @ centred)
        axes = axes[:, [-1, -2]]
        points = centred @ axes
    else:  # fewer points than columns: the same plane from the small Gram matrix
        spread, axes = torch.linalg.eigh(centred @ centred.mT)
        points = axes[:, [-1, -2]] * spread[[-1, -2]].clamp_min(0).sqrt()
    # The sign of an axis is arbitrary: fix it, so that one seed draws one picture.
    points = points * torch.where(points.sum(0) == 0, 1.0, points.pow(3).sum(0).sign())
    total = max(float(spread.clamp_min(0).sum()), 1e-300)
    labels = tuple(
        f"principal axis {i + 1} ({100 * max(float(spread[-1 - i]), 0.0) / total:.0f}% of variance)"
        for i in (0, 1)
    )
    flat = points.numpy()
    return (flat[: len(x)], flat[len(x) :]), (labels[0], labels[1])


def _box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a box around the points with a margin; never empty."""
    low, high = points.min(0), points.max(0)
    margin = np.where(high > low, 0.06 * (high - low), np.maximum(1.0, np.abs(low)))
    return low - margin, high + margin


def draw_witness(comparison: "Comparison") -> "Figure":
    """Where the witness function stands at the rows of A and of B."""
    figure, axes = blank()
    edges = edges_of(np.concatenate(comparison.witness))
    _two_histograms(axes, comparison.witness, edges, comparison.names)
    axes.axvline(0.0, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlabel(
        f"witness: leans to {plain(comparison.names[1], 12)} ← 0 → leans to "
        f"{plain(comparison.names[0], 12)}",
        fontsize=9,
    )
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def draw_null(test: "TestResult") -> "Figure":
    """A null distribution with the observed statistic."""
    figure, axes = blank(5.2, 3.0)
    test.plot(axes)
    axes.set_title("")
    axes.legend_ = None  # drawn above the axes instead
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def draw_feature(comparison: "Comparison", rank: int) -> "Figure":
    """Both marginals of the feature of that rank."""
    feature = comparison.features[rank]
    samples = tuple(
        side.data.values[:, feature.index].astype(np.float64) for side in comparison.pair.sides
    )
    figure, axes = blank(3.6, 2.5)
    edges = edges_of(np.concatenate(samples))
    _two_histograms(axes, samples, edges, comparison.names)
    axes.set_xlabel(plain(feature.name), fontsize=9)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return figure


def edges_of(values: np.ndarray) -> np.ndarray:
    """Histogram edges: one bin per whole number where there are few, else up to forty.

    Where a few stray values would squeeze the rest into one bin, the range stops short of them.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        margin = max(abs(low), 1.0) * 0.5
        return np.linspace(low - margin, high + margin, 8)
    whole = bool((values == np.round(values)).all())
    if whole and high - low <= 40:
        return np.arange(low - 0.5, high + 1.0)
    inner = np.quantile(values, [0.01, 0.99])
    width = float(inner[1] - inner[0])
    if width > 0 and high - low > 6 * width:
        low, high = max(low, inner[0] - 0.5 * width), min(high, inner[1] + 0.5 * width)
    return np.linspace(low, high, int(np.clip(2 * len(values) ** (1 / 3), 8, 40)) + 1)


def _two_histograms(axes: "Axes", samples: Any, edges: np.ndarray, names: tuple[str, str]) -> None:
    """Shares of both samples in common bins: one filled, one outlined, to be told apart."""
    for sample, colour, name, alpha in zip(
        samples, (FIRST, SECOND), names, (0.35, 0.12), strict=True
    ):
        shares = np.histogram(sample, edges)[0] / len(sample)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=alpha)
        axes.stairs(shares, edges, color=colour, linewidth=1.6, label=plain(name, 18))
    axes.set_ylabel("share of rows", fontsize=9)
