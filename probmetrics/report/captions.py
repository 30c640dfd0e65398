"""What each picture shows, in words: a title, a text for those who cannot see it, a caption."""

from typing import TYPE_CHECKING

import numpy as np

from probmetrics.report.figures import against_floor
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
        for m in against_floor(comparison)
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


def _samples(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    side = 0 if name.endswith("_a") else 1
    this = comparison.names[side]
    count = len(comparison.pair.sides[side].data)
    return (
        f"Images of {this}",
        f"Grid of images of {this}, evenly spaced among its {count:,} rows.",
        f"Not chosen by anything but their place: evenly spaced among the {count:,} rows compared.",
    )


def _covered(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    a, b = comparison.names
    which = name.partition("_")[2]
    rows = comparison.covered[0 if which == "worst" else 1]
    listed = ", ".join(str(row.row) for row in rows[:12])
    return (
        f"Images of {a} that {b} covers {which}",
        f"Pairs of images: rows {listed} of {a}, each above the nearest image of {b}.",
        f"Above: images of {a}; below: the nearest of {b}. The number is their distance over the "
        f"distance to the fifth neighbour in {a}: below one the image counts as covered.",
    )


def _suspects(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    b, copying = comparison.names[1], comparison.copying
    listed = ", ".join(str(s.row) for s in copying.suspects[:12]) if copying else ""
    return (
        f"Images of {b} and their nearest training images",
        f"Pairs of images, the most suspicious first: rows {listed} of {b}, each above the nearest "
        "training image.",
        f"Above: images of {b}; below: the nearest training image. The number is their distance "
        "over that training image's distance to its own nearest neighbour: zero is a copy, above "
        "one is authentic.",
    )


def _infinity(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    found = next(m for m in comparison.measurements if m.detail is not None)
    return (
        "Fréchet distance against 1/n",
        f"The distance at n = {', '.join(f'{size:,}' for size in found.detail.sizes)} on a line "
        f"that meets the axis at {number(found.value)}.",
        "Small samples look farther apart than they are, in proportion to 1/n. The line through "
        "whole, halves and quarters leads to the distance of infinitely many samples.",
    )


def _classes(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    a, b = comparison.names
    first = comparison.classes[0]
    return (
        "Class by class",
        f"Bars for the classes: shares in {a} and {b}, and the Fréchet distance of each; the "
        f"farthest is {first.label}, {number(first.value)}.",
        f"Left: how often a class occurs in {a} (blue) and {b} (orange). Right: the Fréchet "
        "distance between its rows, with the interval as a line; classes of different sizes have "
        "different bias.",
    )


def _copying(comparison: "Comparison", name: str) -> tuple[str, str, str]:
    a, b = comparison.names
    copying = comparison.copying
    medians = (
        [number(float(np.median(v))) if len(v) else "–" for v in copying.distances]
        if (copying)
        else ["–", "–"]
    )
    return (
        "Distances to the training set",
        f"Histograms of the distance to the nearest training point: median {medians[0]} for {b}, "
        f"{medians[1]} for {a}, which the model has not seen.",
        f"A model that has learned the law of the data is as far from its training set as unseen "
        f"data are ({a}); copies pile up at zero.",
    )


_CAPTIONS = {
    "samples": _samples,
    "covered": _covered,
    "suspects": _suspects,
    "infinity": _infinity,
    "classes": _classes,
    "copying": _copying,
    "distances": _distances,
    "projection": _projection,
    "line": _line,
    "witness": _witness,
    "null": _null,
    "feature": _feature,
    "images": _images,
    "means": _means,
}
