"""What sketches of all rows say about two samples, beside the tests on a sample of them."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from probmetrics.data.dataset import Dataset
from probmetrics.gaussian import gaussian_frechet
from probmetrics.sketches.plan import Sketches


@dataclass(frozen=True)
class WholeColumn:
    """One column of both samples, all rows.

    Attributes:
        name: Of the column.
        wasserstein: W₁, in standard deviations of the pooled rows.
        wasserstein_error: Bound of its mean error, in the same unit.
        kolmogorov: Kolmogorov–Smirnov distance.
        mean_difference: Mean of B less mean of A, in the same unit; exact.
    """

    name: str
    wasserstein: float
    wasserstein_error: float
    kolmogorov: float
    mean_difference: float


@dataclass(frozen=True)
class Whole:
    """Distances between all rows of both samples, from one pass over each.

    Attributes:
        rows: Of A and of B.
        frechet: Squared Fréchet distance in the columns' own units, exact up to rounding.
        mmd: Squared MMD (V-statistic), Gaussian kernel, on scaled columns.
        mmd_error: Its standard error from the draw of the random features.
        sliced_wasserstein: W₂ along random directions, on scaled columns.
        kolmogorov_error: Bound, with probability 95 %, of the error of each ``kolmogorov``.
        columns: The columns, the most different first.
    """

    rows: tuple[int, int]
    frechet: float
    mmd: float
    mmd_error: float
    sliced_wasserstein: float
    kolmogorov_error: float
    columns: tuple[WholeColumn, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON's types."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"All {self.rows[0]:,} + {self.rows[1]:,} rows, by sketches",
            f"  Fréchet distance²     {self.frechet:.4g}",
            f"  MMD²                  {self.mmd:.4g} ± {self.mmd_error:.2g} (random features)",
            f"  sliced Wasserstein    {self.sliced_wasserstein:.4g}",
            f"  Columns, in pooled standard deviations (KS within {self.kolmogorov_error:.2g})",
        ]
        lines += [
            f"    {c.name}: W₁ {c.wasserstein:.4g} ± {c.wasserstein_error:.2g}, "
            f"KS {c.kolmogorov:.4g}, means differ by {c.mean_difference:+.4g}"
            for c in self.columns[:10]
        ]
        return "\n".join(lines)


def whole_of(x: Sketches, y: Sketches, names: tuple[str, ...]) -> Whole:
    """The distances between what two sets of sketches have seen."""
    first, second = x.moments.compute(), y.moments.compute()
    pooled = first.merge(second)
    unit = pooled.covariance(ddof=0).diagonal().sqrt()
    unit = torch.where(unit > 0, unit, 1.0)
    low = torch.minimum(x.quantiles.low, y.quantiles.low)
    reach = torch.maximum(x.quantiles.high, y.quantiles.high) - low
    typical = x.quantiles.typical_error + y.quantiles.typical_error
    found = zip(
        names,
        (x.quantiles.wasserstein(y.quantiles) / unit).tolist(),
        (typical * reach / unit).tolist(),
        x.quantiles.kolmogorov(y.quantiles).tolist(),
        ((second.mean - first.mean) / unit).tolist(),
        strict=True,
    )
    columns = [WholeColumn(*numbers) for numbers in found]
    errors = [s.quantiles.error(everywhere=True) for s in (x, y)]
    return Whole(
        rows=(x.n, y.n),
        frechet=float(
            gaussian_frechet(first.mean, first.covariance(), second.mean, second.covariance())
        ),
        mmd=x.features.mmd(y.features),
        mmd_error=x.features.standard_error(y.features),
        sliced_wasserstein=x.slices.wasserstein(y.slices),
        kolmogorov_error=sum(errors),
        columns=tuple(sorted(columns, key=lambda c: -c.wasserstein)),
    )


def sample_of(sketches: Sketches, names: tuple[str, ...], source: str, kind: str) -> Dataset:
    """The sample of a sketched source, as a data set that knows how many rows there were."""
    rows = sketches.compute()
    notes: tuple[str, ...] = ()
    if len(rows) < sketches.n:
        notes = (f"{len(rows):,} of {sketches.n:,} rows drawn (seed {sketches.plan.seed})",)
    return Dataset(rows, names, source=source, kind=kind, notes=notes)
