"""The demonstration: real digits against real ones, and against a generator's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from probmetrics.data import Dataset, gaussian_sampler, read
from probmetrics.report.comparison import Comparison, compare
from probmetrics.report.writing import refuse_unwritable

COMPONENTS = 20  # of 64 principal components that the generator keeps
TRAINING, HELD_OUT = "data:digits@1/2", "data:digits@2/2"


def demonstrate(
    out: Path, *, seed: int = 0, progress: bool | None = None
) -> Iterator[tuple[str, Path, Comparison]]:
    """Two comparisons, each with its page, as they are done.

    Args:
        out: Folder for the pages; made if need be.
        seed: Of everything random.
        progress: Show progress bars; None shows them on a terminal.

    Yields:
        What is compared, the page, and the comparison.
    """
    out.mkdir(parents=True, exist_ok=True)
    pages = [out / "real-against-real.html", out / "real-against-generator.html"]
    for page in pages:
        refuse_unwritable(page)
    training, held_out = read(TRAINING), read(HELD_OUT)
    jobs = [
        ("1. Real digits against other real digits", training, ("real", "other real")),
        (
            "2. Real digits against a Gaussian generator fitted to other real digits",
            _generated(training, len(held_out), seed),
            ("real", "generator"),
        ),
    ]
    for (title, other, names), page in zip(jobs, pages, strict=True):
        result = compare(
            held_out, other, seed=seed, names=names, progress=progress, command="probmetrics demo"
        )
        result.to_html(page)
        yield title, page, result


def _generated(training: Dataset, n: int, seed: int) -> Dataset:
    """Digits from the Gaussian on the first principal components, as pixels: 0, 1, … 16."""
    values = gaussian_sampler(training.values, n, components=COMPONENTS, generator=seed)
    return replace(
        training,
        values=values.round().clip(training.values.min(), training.values.max()),
        labels=None,
        source=f"gaussian_sampler({TRAINING}, components={COMPONENTS})",
        notes=(),
    )
