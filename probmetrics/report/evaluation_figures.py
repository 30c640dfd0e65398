"""The pictures about a model: extrapolation, classes, distances to the training set."""

from typing import TYPE_CHECKING, Any

import numpy as np

from probmetrics.report.figures import FIRST, INK, PALE, SECOND, blank, edges_of, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from probmetrics.report.comparison import Comparison

CLASSES = 20  # drawn


def draw_evaluation(comparison: "Comparison") -> dict[str, "Figure"]:
    """Those that suit the comparison, by name."""
    figures = {}
    if any(m.detail is not None for m in comparison.measurements):
        figures["infinity"] = draw_infinity(comparison)
    if comparison.classes:
        figures["classes"] = draw_classes(comparison)
    if comparison.copying is not None:
        figures["copying"] = draw_copying(comparison)
    return figures


def draw_infinity(comparison: "Comparison") -> "Figure":
    """The Fréchet distance of parts of the samples against 1/n, and the line to infinite n."""
    found = next(m for m in comparison.measurements if m.detail is not None)
    fit = found.detail
    at = 1.0 / np.array(fit.sizes, dtype=float)
    values = np.asarray(fit.values, dtype=float)
    figure, axes = blank()
    along = np.array([0.0, at.max()])
    axes.plot(along, float(fit.value) + float(fit.slope) * along, color=PALE, linewidth=2)
    axes.plot(at, values, "o", color=SECOND, label="parts of the samples")
    low, high = float(found.interval.low), float(found.interval.high)
    axes.errorbar(
        [0.0],
        [found.value],
        yerr=[[found.value - low], [high - found.value]],
        fmt="s",
        color=FIRST,
        capsize=4,
        label="extrapolated, with interval",
    )
    for x, y, size in zip(at, values, fit.sizes, strict=True):
        axes.annotate(
            f"n = {size:,}", (x, y), (0, 7), textcoords="offset points", ha="right", fontsize=8
        )
    axes.axhline(0.0, color=INK, linewidth=0.8, linestyle=":")
    axes.margins(0.08, 0.18)
    axes.set_xlabel("1/n", fontsize=9)
    axes.set_ylabel("Fréchet d²", fontsize=9)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def draw_classes(comparison: "Comparison") -> "Figure":
    """Shares of the classes on either side, and the Fréchet distance of each with its interval."""
    from matplotlib.figure import Figure

    shown = comparison.classes[:CLASSES]
    figure = Figure((5.2, 1.4 + 0.32 * len(shown)), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(shown))
    for side, colour, shift in ((0, FIRST, -0.2), (1, SECOND, 0.2)):
        shares = [c.shares[side] for c in shown]
        name = plain(comparison.names[side], 18)
        left.barh(places + shift, shares, 0.38, color=colour, label=name)
    known = [(i, c) for i, c in enumerate(shown) if c.value is not None]
    right.barh([i for i, _ in known], [_number(c.value) for _, c in known], 0.6, color=PALE)
    for i, c in known:
        right.plot([_number(c.low), _number(c.high)], [i, i], color=INK, linewidth=1.4)
    left.set_yticks(places, [plain(c.label, 14) for c in shown], fontsize=9)
    left.invert_yaxis()
    left.set_xlabel("share of rows", fontsize=9)
    right.set_xlabel("Fréchet d², with interval", fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, colors=INK)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def draw_copying(comparison: "Comparison") -> "Figure":
    """Distances to the nearest training point: of the model's samples and of unseen data."""
    copying = comparison.copying
    assert copying is not None
    figure, axes = blank()
    drawn = [
        (values, colour, name, alpha)
        for values, colour, name, alpha in zip(
            copying.distances[::-1], (FIRST, SECOND), comparison.names, (0.35, 0.12), strict=True
        )
        if len(values)
    ]
    edges = edges_of(np.concatenate([values for values, *_ in drawn]))
    for values, colour, name, alpha in drawn:
        shares = np.histogram(values, edges)[0] / len(values)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=alpha)
        axes.stairs(shares, edges, color=colour, linewidth=1.6, label=plain(name, 18))
    axes.set_xlabel("distance to the nearest training point", fontsize=9)
    axes.set_ylabel("share of rows", fontsize=9)
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
