"""Pictures of where two samples differ."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from probmetrics.twosample.attribution import Differences

BARS = 12


def draw_differences(found: "Differences", axes: Any = None) -> Any:
    """Importance of features, the witness over the two most important, counts by cluster."""
    if axes is None:
        import matplotlib.pyplot as plt

        axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")[1]
    importance = _array(found.importance)
    order = np.argsort(-importance, kind="stable")
    _bars(axes[0], found.columns, importance, order[:BARS])
    _scatter(axes[1], found, order)
    shares = np.array([mode.shares for mode in found.modes])
    places = np.arange(len(shares))
    for side, name in enumerate(("x", "y")):
        axes[2].bar(places + 0.4 * side - 0.2, shares[:, side], 0.4, label=name, color=f"C{side}")
    for place, mode in enumerate(found.modes):
        if mode.adjusted_pvalue <= 0.05:
            axes[2].annotate("*", (place, max(mode.shares)), ha="center")
    axes[2].set_xticks(places)
    axes[2].set_xlabel("cluster (*: shares differ, p ≤ .05)")
    axes[2].set_ylabel("share of the sample")
    axes[2].legend()
    return axes


def _bars(ax: Any, columns: tuple[str, ...], importance: np.ndarray, order: np.ndarray) -> None:
    places = np.arange(len(order))[::-1]
    ax.barh(places, importance[order], color="0.5")
    ax.set_yticks(places, [columns[j] for j in order])
    ax.set_xlabel("share in the slope of the witness")


def _scatter(ax: Any, found: "Differences", order: np.ndarray) -> None:
    """The witness as colour over the two most important features, or along the only one."""
    sides = [_array(part) for part in found.points]
    values = [_array(part) for part in (found.witness_x, found.witness_y)]
    largest = max(float(np.abs(v).max()) for v in values) or 1.0
    j = int(order[0])
    for points, value, marker, name in zip(sides, values, "ox", "xy", strict=True):
        heights = points[:, int(order[1])] if len(order) > 1 else value
        colour = "0.3" if marker == "o" else None
        drawn = ax.scatter(
            points[:, j],
            heights,
            c=value,
            cmap="coolwarm",
            vmin=-largest,
            vmax=largest,
            marker=marker,
            s=16,
            linewidths=0.3 if marker == "o" else 0.9,
            edgecolors=colour,
            label=name,
        )
    ax.figure.colorbar(drawn, ax=ax, label="witness: more x (+), more y (−)")
    ax.set_xlabel(found.columns[j])
    ax.set_ylabel(found.columns[int(order[1])] if len(order) > 1 else "witness")
    ax.legend()


def _array(value: Any) -> np.ndarray:
    return np.asarray(torch.as_tensor(value).cpu())
