"""compare(): two samples of any kind to numbers, tests, a verdict and pictures."""

import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from probmetrics import _checks as checks
from probmetrics.report.classes import ClassScore, by_class
from probmetrics.report.copying import Copying, judge_copying
from probmetrics.report.covered import Covered, covered_rows
from probmetrics.report.differences import Feature, Row, different_features, different_rows
from probmetrics.report.encoding import choose_encoder
from probmetrics.report.inputs import Pair, read_pair
from probmetrics.report.measures import Measurement, measure
from probmetrics.report.metrics import choose_metrics
from probmetrics.report.streaming import streamed
from probmetrics.report.verdict import Verdict, judge
from probmetrics.report.whole import Whole
from probmetrics.twosample.result import TestResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SAMPLES = 5000  # rows per side unless the caller says otherwise
ROWS = 24  # most telling rows kept per side


@dataclass(frozen=True)
class Provenance:
    """How a comparison came about: enough to repeat it."""

    created: str
    command: str | None
    versions: dict[str, str]
    seed: int
    level: float
    permutations: int
    max_samples: int | None
    encoder: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Two samples compared: distances, tests, a verdict, and where the samples differ.

    ``print(comparison)`` shows the verdict and the table; ``to_html`` writes one page with
    pictures, ``to_json`` the numbers.

    Attributes:
        verdict: The answer; ``str(verdict)`` is the sentence, ``verdict.different`` the finding.
        measurements: The distances, each with its interval and noise floor.
        tests: The permutation tests "mmd" and "energy".
        features: All columns, the most different first.
        rows: The rows of A that B lacks most, then the rows of B that A lacks most.
        witness: Values of the witness function at the rows of A and of B.
        pair: The samples as they were compared.
        notes: What the reader should know: subsampling, scaling, constant columns.
        provenance: Seed, versions, date, command.
        copying: What the training set says about B; None where none was given.
        classes: The classes of labelled samples, the farthest apart first.
        covered: For models and images: the rows of A that B covers worst, and best.
        whole: Of data that was streamed: distances between all rows. The rest then is about
            random samples of them.
    """

    verdict: Verdict
    measurements: tuple[Measurement, ...]
    tests: dict[str, TestResult]
    features: tuple[Feature, ...]
    rows: tuple[Row, ...]
    witness: tuple[np.ndarray, np.ndarray]
    pair: Pair
    notes: tuple[str, ...]
    provenance: Provenance
    copying: Copying | None = None
    classes: tuple[ClassScore, ...] = ()
    covered: tuple[tuple[Covered, ...], tuple[Covered, ...]] = ((), ())
    whole: Whole | None = None

    @property
    def names(self) -> tuple[str, str]:
        """What the samples are called."""
        return self.pair.first.name, self.pair.second.name

    @property
    def table(self) -> str:
        """The distances, tests, features and rows as text."""
        from probmetrics.report.tables import as_text

        return as_text(self)

    @cached_property
    def figures(self) -> dict[str, "Figure"]:
        """The pictures by name, drawn at the first look: Matplotlib figures, free of pyplot."""
        from probmetrics.report.figures import draw_figures

        return draw_figures(self)

    def to_dict(self) -> dict[str, Any]:
        """All numbers in JSON's types; docs/json.md documents the keys."""
        from probmetrics.report.serial import as_dict

        return as_dict(self)

    def to_json(self, path: "str | PathLike[str]") -> None:
        """Write the numbers as JSON; the file appears whole or not at all."""
        from probmetrics.report.serial import as_json
        from probmetrics.report.writing import write_whole

        write_whole(path, as_json(self))

    def to_html(self, path: "str | PathLike[str]") -> None:
        """Write one self-contained page; the file appears whole or not at all."""
        from probmetrics.report.page import as_html
        from probmetrics.report.writing import write_whole

        write_whole(path, as_html(self))

    def __repr__(self) -> str:
        copied = "" if self.copying is None else f"\n{self.copying.sentence}"
        whole = "" if self.whole is None else f"\n\n{self.whole}"
        return f"{self.verdict}{copied}\n\n{self.table}{whole}"


def compare(
    x: Any,
    y: Any,
    *,
    columns: Any = None,
    metrics: str | Sequence[str] | None = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
    max_samples: int | None = MAX_SAMPLES,
    scale: bool | None = None,
    names: Sequence[str] = ("A", "B"),
    progress: bool | None = None,
    image_size: Any = None,
    key: str | None = None,
    on_corrupt: str = "error",
    train: Any = None,
    encoder: Any = None,
    cache: "str | PathLike[str] | None" = None,
    stream: bool | None = None,
    command: str | None = None,
) -> Comparison:
    """Compare two samples: are they from the same distribution, and if not, where do they differ?

    Distances come with confidence intervals and a noise floor (the same distance between random
    halves of A, beside A against B at that size). MMD and energy distance are tested by
    permutation; the verdict adjusts for testing twice (Holm). The features and rows that differ
    most are named.

    Args:
        x: Sample A: an array, tensor or data frame of shape (n, d) or (n,), a ``Dataset``, a path,
            or an embedded set such as ``"data:wine"``; whatever ``probmetrics.data.read`` takes.
        y: Sample B. Tables are aligned by column name.
        columns: Columns to compare, by name or number; None compares all. For arrays without
            column names, as many names as there are columns name them.
        metrics: Names among ``mmd``, ``energy``, ``sliced_wasserstein``, ``wasserstein``,
            ``wasserstein_1d`` (one column), ``frechet``, and for models ``frechet_infinity``,
            ``kid``, ``cmmd``, ``precision``, ``recall``, ``density``, ``coverage``, ``vendi``,
            ``sinkhorn``, ``mauve``, ``bins``, ``one_nn``, ``logistic``, ``parzen``,
            ``mifid``; None takes those that suit the data, and those for models with ``train``
            or ``encoder``.
        permutations: Random labelings per test.
        level: Confidence level of the intervals; the tests use the significance level 1 − level.
        seed: Everything random follows from it: same seed, same answer.
        max_samples: Most rows per side; of more, so many are drawn at random, and the notes say
            so. None keeps all: time and memory of the tests grow with the square.
        scale: Divide each column by its standard deviation in the pooled sample. None does so for
            tables (their units differ) and leaves arrays, images and single columns in their own
            unit. The pooled sample does not know the labels, so the tests stay valid.
        names: What to call the samples.
        progress: Show a progress bar; None shows it on a terminal.
        image_size: Resize images to (height, width).
        key: Name of the array in ``.npz`` and ``.pt`` files.
        on_corrupt: ``"error"`` or ``"skip"`` for images that cannot be decoded.
        train: What the model behind y was trained on; x then is data it has not seen. Adds
            authenticity, copies, the nearest-training-neighbour test and C_T. All of it is used:
            a copy of a row that is left out goes unseen.
        encoder: Compare features instead of the rows: an encoder of ``probmetrics.encoders``, any
            module or function, or a name: ``"inception"``, ``"inception:FILE"``,
            ``"inception-clean"``, ``"efficientnet"``. One pass feeds everything.
        cache: Folder where features are kept under a hash of content and encoder: a second run
            reads them, an interrupted one goes on.
        stream: Read .npy files and Parquet data sets (files, or folders of them) in one pass and
            constant memory; None does so from a gigabyte on. Dask arrays and data frames always
            are. All rows then enter the sketches of ``whole``; tests, intervals and pictures are
            of ``max_samples`` rows drawn from all.
        command: The command line to record, if there is one.

    Returns:
        A ``Comparison``; print it, or write it with ``to_html`` and ``to_json``.

    Raises:
        ValueError: Data that cannot be compared (fewer than two rows, other columns, NaN, text,
            images of other sizes), an unknown metric or option; the message is one line.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(100, 2)), rng.normal(size=(80, 2)) + [1.0, 0.0]
        >>> result = compare(x, y, metrics=["energy"], permutations=199)
        >>> result.verdict.different, result.features[0].name
        (True, 'column_0')

    Notes:
        With n + m = N: O(N² (d + permutations)) time; the kernel matrix is kept while it is
        small and recomputed in tiles otherwise. The exact Wasserstein distance is taken on at
        most 1,000 points per side.
    """
    level = checks.between(level, "level", 0.0, 1.0)
    significance = round(1 - level, 12)  # 0.05, not 0.050000000000000044
    seed = checks.count(seed, "seed", minimum=0, maximum=2**62)
    permutations = checks.count(permutations, "permutations")
    choose_metrics(metrics)  # an unknown name fails before anything is read
    names = _two_names(names)
    encoder = choose_encoder(encoder)
    whole: Whole | None = None
    if train is None and encoder is None:
        passed = streamed(
            x,
            y,
            stream=stream,
            columns=columns,
            seed=seed,
            max_samples=max_samples,
            scale=scale,
            progress=progress,
        )
        if passed is not None:
            x, y, whole = passed
            columns = None
    pair = read_pair(
        x,
        y,
        names=names,
        columns=columns,
        max_samples=None
        if max_samples is None
        else checks.count(max_samples, "max_samples", minimum=2),
        seed=seed,
        scale=scale,
        progress=progress,
        image_size=image_size,
        key=key,
        on_corrupt=on_corrupt,
        train=train,
        encoder=encoder,
        cache=cache,
    )
    of_model = train is not None or encoder is not None
    chosen = choose_metrics(metrics, len(pair.columns), of_models=of_model)
    least = min(len(pair.x), len(pair.y))
    if metrics is None:  # of the usual ones, those that so few rows admit
        chosen = [metric for metric in chosen if metric.minimum <= least]
    with _Bar(len(chosen) + 6, progress) as bar:
        measurements = tuple(
            bar.after(measure(m, pair, level=level, seed=seed), m.title) for m in chosen
        )
        tests = _tests(pair, permutations, significance, seed, bar)
        features = bar.after(different_features(pair), "features")
        rows, at_x, at_y = bar.after(different_rows(pair, ROWS), "rows")
        verdict = judge(
            tests,
            features,
            pair.x,
            pair.y,
            level=significance,
            names=names,
            what=pair.what,
            generator=torch.Generator().manual_seed(seed),
        )
        bar.after(None, "verdict")
        copying = None if train is None else judge_copying(pair, level=level, seed=seed)
        classes = by_class(pair, level=level, seed=seed)
        shown = of_model or pair.image_shape is not None
        covered = covered_rows(pair, ROWS) if shown else ((), ())
        bar.after(None, "model")
    return Comparison(
        verdict=verdict,
        measurements=measurements,
        tests=tests,
        features=tuple(features),
        rows=tuple(rows),
        witness=(at_x, at_y),
        pair=pair,
        notes=_notes(pair, tests, copying),
        provenance=Provenance(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            command=command,
            versions=_versions(),
            seed=seed,
            level=level,
            permutations=permutations,
            max_samples=max_samples,
            encoder=pair.encoder,
        ),
        copying=copying,
        classes=classes,
        covered=covered,
        whole=whole,
    )


def _two_names(names: Any) -> tuple[str, str]:
    if isinstance(names, str) or len(tuple(names)) != 2:
        raise ValueError(f"names must be two names, got {names!r}")
    first, second = (str(name) for name in names)
    if first == second:
        raise ValueError(f"the samples need different names, got {first!r} twice")
    return first, second


def _tests(
    pair: Pair, permutations: int, level: float, seed: int, bar: "_Bar"
) -> dict[str, TestResult]:
    import warnings

    from probmetrics.twosample import energy_test, mmd_test

    options: dict[str, Any] = {"permutations": permutations, "generator": seed, "level": level}
    with warnings.catch_warnings():  # the results repeat them, and the notes show those
        warnings.simplefilter("ignore", UserWarning)
        return {
            "mmd": bar.after(mmd_test(pair.x, pair.y, **options, progress=False), "MMD test"),
            "energy": bar.after(
                energy_test(pair.x, pair.y, **options, progress=False), "energy test"
            ),
        }


def _notes(pair: Pair, tests: dict[str, TestResult], copying: Copying | None) -> tuple[str, ...]:
    """All notes, each once: of the readers, of the alignment, of the tests."""
    sides = [*pair.sides, *([] if pair.training is None else [pair.training])]
    notes = [f"{side.name}: {note}" for side in sides for note in side.data.notes]
    if pair.scaled:
        notes.append("columns were divided by their standard deviation in the pooled sample")
    notes += pair.notes
    notes += [warning for test in tests.values() for warning in test.warnings]
    notes += [] if copying is None else copying.notes
    return tuple(dict.fromkeys(notes))


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": sys.version.split()[0]}
    for package in ("probmetrics", "torch", "numpy", "scipy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that is not installed
            versions[package] = "unknown"
    return versions


class _Bar:
    """A progress bar that counts finished steps."""

    def __init__(self, steps: int, progress: bool | None) -> None:
        from tqdm import tqdm

        disable = None if progress is None else not progress
        self.bar = tqdm(total=steps, desc="comparing", disable=disable, leave=False, unit="step")

    def after(self, result: Any, step: str) -> Any:
        self.bar.set_postfix_str(step)
        self.bar.update()
        return result

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
