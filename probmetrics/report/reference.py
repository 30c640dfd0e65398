"""Samples against statistics computed beforehand: the Fréchet distance is what they allow."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probmetrics import _checks as checks
from probmetrics._arrays import to_numpy
from probmetrics.data.dataset import DataError, named_path
from probmetrics.data.readers import read
from probmetrics.report.encoding import choose_encoder, encoded
from probmetrics.report.tables import number, range_text, table_of, text_of


@dataclass(frozen=True, repr=False)
class ReferenceComparison:
    """The Fréchet distance of a sample from statistics of the data.

    Attributes:
        value: Squared distance.
        interval: Its interval; the statistics count as exact.
        extrapolated: FD∞, the distance extrapolated to infinitely many samples.
        standard_error: Of ``extrapolated``.
        samples: Rows of the sample.
        provenance: Of the metric, with the encoder.
        names: Paths of the statistics and of the sample.
    """

    value: float
    interval: Any
    extrapolated: float
    standard_error: float
    samples: int
    provenance: dict[str, Any]
    names: tuple[str, str]

    @property
    def table(self) -> str:
        """The distance as text."""
        table = table_of("Fréchet distance from statistics", "", "value", "interval", "samples")
        ends = range_text(float(self.interval.low), float(self.interval.high))
        table.add_row("Fréchet d²", number(self.value), ends, f"{self.samples:,}")
        table.add_row("Fréchet d²∞", number(self.extrapolated), f"± {number(self.standard_error)}")
        note = (
            "Statistics hold a mean and a covariance and no samples: for tests, other scores and "
            "pictures pass the samples themselves."
        )
        return text_of(table, "", note)

    def to_dict(self) -> dict[str, Any]:
        """All numbers in JSON's types."""
        return {
            "schema": "probmetrics.reference/1",
            "frechet": {"value": self.value, "interval": self.interval.to_dict()},
            "frechet_infinity": {
                "value": self.extrapolated,
                "standard_error": self.standard_error,
            },
            "samples": self.samples,
            "reference": self.names[0],
            "source": self.names[1],
            "provenance": self.provenance,
        }

    def __repr__(self) -> str:
        return self.table


def is_reference(source: Any) -> bool:
    """Whether a path names a ``.npz`` with ``mu`` and ``sigma``."""
    if not isinstance(source, str | Path) or Path(source).suffix.lower() != ".npz":
        return False
    if not zipfile.is_zipfile(source):
        return False
    with zipfile.ZipFile(source) as archive:
        return {"mu.npy", "sigma.npy"} <= set(archive.namelist())


def compare_with_reference(
    reference: str | Path,
    fake: Any,
    *,
    level: float = 0.95,
    encoder: Any = None,
    cache: Any = None,
    max_samples: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
    **options: Any,
) -> ReferenceComparison:
    """The Fréchet distance of a sample from the mean and covariance of the data.

    Args:
        reference: A ``.npz`` with ``mu`` and ``sigma``, as ``probmetrics stats`` or pytorch-fid
            writes it.
        fake: Samples of the model; whatever ``probmetrics.data.read`` takes.
        level: Of the interval.
        encoder: As for ``compare``; must be the one behind the statistics.
        cache: As for ``compare``.
        max_samples: Most rows of ``fake``; None takes all.
        seed: Of subsamples.
        progress: Progress bar.
        **options: For ``probmetrics.data.read``.

    Raises:
        ValueError: Another number of features, damaged statistics, fewer than 8 samples.

    Example:
        >>> import numpy as np, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "ref.npz"
        >>> np.savez(path, mu=np.zeros(2), sigma=np.eye(2))
        >>> fake = np.random.default_rng(0).normal(size=(500, 2))
        >>> compare_with_reference(path, fake).value < 0.05
        True
    """
    from probmetrics.metrics import FrechetDistance

    checks.between(level, "level", 0.0, 1.0)
    found = choose_encoder(encoder)
    data = read(fake, max_samples=max_samples, seed=seed, progress=progress, **options)
    if found is not None:
        data = encoded(data, found, cache=cache, progress=progress)
    if len(data) < 8:
        raise DataError(f"{data.source} has {len(data)} rows; at least 8 are needed")
    metric = FrechetDistance(reference=named_path(reference), seed=seed)
    metric.update(fake=data.values)
    fit = metric.extrapolated()
    described = metric.provenance
    return ReferenceComparison(
        value=float(metric.compute()),
        interval=to_numpy(metric.interval(level=level)),
        extrapolated=float(fit.value),
        standard_error=float(fit.standard_error),
        samples=len(data),
        provenance={
            "encoder": None if found is None else found.provenance,
            "versions": described.versions,
        },
        names=(str(reference), data.source),
    )


def write_statistics(
    source: Any,
    out: str | Path,
    *,
    encoder: Any = None,
    cache: Any = None,
    progress: bool | None = None,
    **options: Any,
) -> int:
    """Write mean and covariance of a sample's features as pytorch-fid does; returns its size.

    Args:
        source: Whatever ``probmetrics.data.read`` takes.
        out: The ``.npz`` to write: ``mu``, ``sigma`` and the provenance as JSON.
        encoder: As for ``compare``.
        cache: As for ``compare``.
        progress: Progress bar.
        **options: For ``probmetrics.data.read``.
    """
    from probmetrics.encoders import Identity, extract
    from probmetrics.report.encoding import as_seen

    if Path(out).suffix.lower() != ".npz":
        raise ValueError(f"statistics are written as .npz, got {out}")
    data = read(source, progress=progress, **options)
    found = choose_encoder(encoder) or Identity()
    features = extract(as_seen(data), found, cache=cache, progress=progress)
    features.provenance["source"] = data.source
    features.save_statistics(out)
    return len(features.values)
