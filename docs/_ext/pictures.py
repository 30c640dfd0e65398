"""The pictures of the guides, drawn when the documentation is built.

python docs/_ext/pictures.py docs    # draws the README's picture, docs/same-samples.png
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import probmetrics as pm

BLUE, RED, INK, PALE = "#2b6cb0", "#c05621", "#2d3748", "#edf2f7"


def make(source):
    """All pictures, into docs/pictures."""
    folder = Path(source) / "pictures"
    folder.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        path = folder / f"{name}.png"
        if not path.exists() or path.stat().st_mtime < Path(__file__).stat().st_mtime:
            save(draw(), path)


def save(figure, path, dpi=110):
    figure.savefig(path, dpi=dpi, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def pairs():
    """Four ways in which a sample y may differ from x, on the line, by name."""
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal(400), rng.standard_normal(400)
    spread = np.where(rng.random(400) < 0.5, -0.95, 0.95) + 0.31 * z
    outliers = np.where(rng.random(400) < 0.02, 12.0, z)
    return x, {
        "shifted by ½": z + 0.5,
        "twice as wide": 2 * z,
        "two modes, same moments": spread,
        "2% far outliers": outliers,
    }


def distances():
    """The distances of the picture, by name."""
    return {
        "Fréchet (d)": lambda x, y: pm.frechet_distance(x, y, root=True),
        "Wasserstein-1": pm.wasserstein_1d,
        "Wasserstein-2": lambda x, y: pm.wasserstein_1d(x, y, p=2),
        "energy (root)": lambda x, y: pm.energy_distance(x, y, root=True),
        "MMD, Gaussian": lambda x, y: pm.mmd(x, y, unbiased=False, root=True),
        "Kolmogorov": pm.kolmogorov_distance,
        "KL, neighbours": pm.kl_neighbors,
    }


def same_samples():
    """What each distance makes of the same four differences, in units of its own noise."""
    x, others = pairs()
    rng = np.random.default_rng(1)
    null = [(rng.standard_normal(400), rng.standard_normal(400)) for _ in range(40)]
    figure, axes = plt.subplots(
        2, len(others), figsize=(11, 5.2), height_ratios=[1, 1.6], constrained_layout=True
    )
    bins = np.linspace(-4, 4, 41)
    measures = distances()
    noise = {k: np.quantile([f(u, v) for u, v in null], 0.95) for k, f in measures.items()}
    for (name, y), top, bottom in zip(others.items(), *axes, strict=True):
        top.hist(x, bins, color=BLUE, alpha=0.5, density=True)
        top.hist(np.clip(y, -4, 4), bins, color=RED, alpha=0.5, density=True)
        top.set(title=name, yticks=[])
        ratio = [float(f(x, y)) / noise[k] for k, f in measures.items()]
        bottom.barh(list(measures), ratio, color=[RED if r > 1 else "#a0aec0" for r in ratio])
        bottom.axvline(1, color=INK, lw=1, ls="--")
        bottom.invert_yaxis()
        bottom.set_xscale("symlog", linthresh=1)
        bottom.set_xlim(min(0.0, *ratio), 60)
        bottom.set_xticks([0, 1, 10], ["0", "1", "10"])
        bottom.set_xlabel("distance / its 95% noise")
        if bottom is not axes[1, 0]:
            bottom.set_yticks([])
    return figure


def chart(boxes, arrows, size):
    """A flow chart: boxes {key: (x, y, text, kind)}, arrows [(from, to, text)]."""
    figure, axes = plt.subplots(figsize=size)
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.axis("off")
    styles = {
        "ask": {"boxstyle": "round,pad=0.5", "fc": PALE, "ec": INK},
        "do": {"boxstyle": "square,pad=0.5", "fc": "#ebf8ff", "ec": BLUE},
    }
    for start, end, text in arrows:
        (x0, y0), (x1, y1) = boxes[start][:2], boxes[end][:2]
        axes.annotate(
            "",
            (x1, y1),
            (x0, y0),
            arrowprops={"arrowstyle": "->", "color": "#718096", "shrinkA": 18, "shrinkB": 24},
            zorder=1,
        )
        axes.text(
            x0 + 0.52 * (x1 - x0),
            y0 + 0.52 * (y1 - y0),
            text,
            fontsize=8.5,
            color="#4a5568",
            ha="center",
            va="center",
            bbox={"fc": "white", "ec": "none", "pad": 1.2},
            zorder=2,
        )
    for x, y, text, kind in boxes.values():
        family = "monospace" if kind == "do" else None
        axes.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            fontsize=9 if kind == "ask" else 8.2,
            family=family,
            bbox=styles[kind],
            zorder=3,
        )
    return figure


def which_test():
    """The way to a two-sample test."""
    boxes = {
        "start": (50, 94, "What are the points?", "ask"),
        "cat": (10, 72, "categorical_test", "do"),
        "line": (33, 72, "univariate_test", "do"),
        "many": (66, 72, "What do you expect to differ?", "ask"),
        "own": (93, 72, "permutation_test\nmmd_test_from_gram", "do"),
        "mean": (20, 44, "energy_test", "do"),
        "unknown": (44, 44, "mmd_aggregated_test\nmmd_fuse_test", "do"),
        "where": (66, 44, "mean_embedding_test\nclassifier_test", "do"),
        "size": (89, 44, "n above 20,000?", "ask"),
        "large": (89, 18, "random_feature_test\nincomplete_mmd_test", "do"),
        "groups": (30, 18, "disco_test   (k samples)", "do"),
        "adjust": (62, 18, "adjust_pvalues\n(several tests)", "do"),
    }
    arrows = [
        ("start", "cat", "categories"),
        ("start", "line", "one number"),
        ("start", "many", "vectors"),
        ("start", "own", "anything else"),
        ("many", "mean", "location, mostly"),
        ("many", "unknown", "unknown"),
        ("many", "where", "tell me where"),
        ("many", "size", "it is large"),
        ("size", "large", "yes"),
    ]
    return chart(boxes, arrows, (11, 5.2))


def which_distance():
    """The way to a distance."""
    boxes = {
        "start": (50, 94, "What do you have?", "ask"),
        "p": (12, 70, "f_divergence: kl, js, chi2 …\nearth_mover  (bins with places)", "do"),
        "samples": (50, 70, "two samples: which need?", "ask"),
        "gauss": (88, 70, "gaussian_kl, gaussian_frechet\nkl_divergence(P, Q)", "do"),
        "stat": (14, 40, "energy_distance, mmd", "do"),
        "geometry": (35, 40, "wasserstein\nwasserstein_1d", "do"),
        "loss": (65, 40, "sinkhorn_divergence\nsliced_wasserstein", "do"),
        "nats": (87, 40, "kl_neighbors\ndensity_ratio", "do"),
        "features": (
            50,
            14,
            "on features of an encoder: frechet_distance (FID), metrics.CMMD",
            "do",
        ),
    }
    arrows = [
        ("start", "p", "histograms"),
        ("start", "samples", "samples"),
        ("start", "gauss", "laws with densities"),
        ("samples", "stat", "few points,\nmany dimensions"),
        ("samples", "geometry", "a plan, units\nof length"),
        ("samples", "loss", "a loss"),
        ("samples", "nats", "nats, or p/q"),
        ("samples", "features", "images, text"),
    ]
    return chart(boxes, arrows, (11, 4.8))


def which_metric():
    """What a generative model may do wrong, and which metric sees it."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    order = rng.permutation(1797)
    digits, labels = load_digits().data[order] / 16, load_digits().target[order]
    train, fresh, reference = digits[:900], digits[900:1350], digits[1350:]
    models = {
        "fresh digits": fresh,
        "blends of two": 0.5 * train[:450] + 0.5 * train[450:],
        "drops modes": fresh[labels[900:1350] < 5],
        "copies": train[rng.integers(0, 900, 450)],
    }
    rows = {
        "Fréchet (FID-like)": lambda y: pm.frechet_distance(reference, y),
        "kernel distance": lambda y: 1000 * pm.metrics.kernel_distance(reference, y),
        "precision": lambda y: pm.metrics.precision_recall(reference, y).precision,
        "recall": lambda y: pm.metrics.precision_recall(reference, y).recall,
        "Vendi score": pm.metrics.vendi_score,
        "authenticity": lambda y: pm.metrics.authenticity(y, train),
    }
    values = np.array([[float(f(y)) for y in models.values()] for f in rows.values()])
    figure, axes = plt.subplots(figsize=(7.5, 2.9))
    low, high = values.min(1, keepdims=True), values.max(1, keepdims=True)
    axes.imshow((values - low) / (high - low + 1e-12), cmap="Blues", vmax=1.6, aspect="auto")
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            axes.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(models)), list(models))
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


PICTURES = {
    "same-samples": same_samples,
    "which-test": which_test,
    "which-distance": which_distance,
    "which-metric": which_metric,
}

if __name__ == "__main__":
    save(same_samples(), Path(sys.argv[1]) / "same-samples.png", dpi=80)
