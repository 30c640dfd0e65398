"""What each picture shows, in words: a title, a text for those who cannot see it, a caption."""

from typing import TYPE_CHECKING

import numpy as np

from probmetrics.report.tables import METHOD, number, share

if TYPE_CHECKING:
    from probmetrics.report.comparison import Comparison


def caption(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    """Title, alternative text and caption of a picture."""
    kind = name.partition("_")[0]
    return _CAPTIONS[kind](comparison, name)


def _distances(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    a, b = comparison.names
    parts = [
        f"{m.metric.title}: {number(m.floor.matched_mean)} against a floor up to "
        f"{number(m.floor.upper)}"
        for m in comparison.measurements
        if m.floor is not None
    ]
    return (
        "Distances against the noise floor",
        f"Dot plot of {a} against {b} beside {a} against itself. " + "; ".join(parts) + ".",
        f"Each dot is one random split: dark between two halves of {a}, orange between half of {a} "
        f"and as many points of {b}. Where the clouds overlap, the distance does not tell {b} "
        f"from more of {a}.",
    )


def _projection(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    a, b = comparison.names
    axes = (
        "the two columns"
        if len(comparison.pair.columns) == 2
        else "the two leading principal axes of the pooled sample"
    )
    return (
        "Both samples in a plane",
        f"Scatter plot of {a} (blue dots) and {b} (orange triangles) on {axes}, over a background "
        "coloured by the witness function.",
        f"On {axes}. The background is the witness function in this plane: blue where {a} has more "
        f"mass, orange where {b} has. Differences outside the plane do not show here.",
    )


def _line(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    a, b = comparison.names
    column = comparison.pair.columns[0]
    return (
        "Both samples on the line",
        f"Histograms of {column} in {a} (blue) and {b} (orange), and below them the witness "
        "function along the line.",
        f"Below: the witness function, blue where {a} has more mass, orange where {b} has.",
    )


def _witness(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    a, b = comparison.names
    means = [float(np.mean(values)) for values in comparison.witness]
    return (
        "Witness function",
        f"Histograms of the witness function: mean {number(means[0])} at the rows of {a}, "
        f"{number(means[1])} at those of {b}.",
        f"The witness function at every row, in {_dimensions(comparison)}: the higher, the more "
        f"the mass around the row leans to {a}, the lower, to {b}. Zero is midway between the "
        "means of the two samples, which lie MMD² apart (V-statistic).",
    )


def _dimensions(comparison: "Comparison") -> str:
    d = len(comparison.pair.columns)
    return "one dimension" if d == 1 else f"all {d:,} dimensions"


def _null(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    key = name.partition("_")[2]
    test = comparison.tests[key]
    title = f"{METHOD.get(key, key)} under exchanged labels"
    return (
        title,
        f"Histogram of {test.permutations} values of the {METHOD.get(key, key)} after random "
        f"relabeling, with the observed {number(test.statistic)}; {share(test.pvalue, 'p')}.",
        f"Grey: the {METHOD.get(key, key)} after dealing the labels at random "
        f"{test.permutations:,} times. Line: the observed value. {share(test.pvalue, 'p')} is the "
        "share of values at least as large, the observed one counted.",
    )


def _feature(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    feature = comparison.features[int(name.partition("_")[2])]
    a, b = comparison.names
    return (
        feature.name,
        f"Histograms of {feature.name}: mean {number(feature.means[0])} in {a}, "
        f"{number(feature.means[1])} in {b}.",
        f"W₁ {number(feature.wasserstein)} sd, KS gap {number(feature.kolmogorov)}, "
        f"{share(feature.adjusted_pvalue, 'adjusted p')}.",
    )


def _images(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    side = 0 if name.endswith("_a") else 1
    this, other = comparison.names[side], comparison.names[1 - side]
    rows = [str(row.row) for row in comparison.rows if row.side == side]
    return (
        f"Images of {this} that {other} lacks most",
        f"Grid of images of {this} with the most telling witness values: rows {', '.join(rows)}.",
        f"The images of {this} with the most mass of {this} and the least of {other} around them, "
        "most telling first.",
    )


def _means(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    a, b = comparison.names
    return (
        "Mean images",
        f"The mean image of {a}, that of {b}, and their difference.",
        f"Difference: {b} less {a}. A generator that matches all means shows nothing here and may "
        "still differ.",
    )


_CAPTIONS = {
    "distances": _distances,
    "projection": _projection,
    "line": _line,
    "witness": _witness,
    "null": _null,
    "feature": _feature,
    "images": _images,
    "means": _means,
}
