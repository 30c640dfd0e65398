"""What a test answers: the statistic, its null distribution, the p-value and how sure it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probmetrics import _checks as checks


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TestResult:
    """Outcome of a two-sample (or k-sample) test.

    Attributes:
        statistic: The statistic between the samples as they came.
        pvalue: (1 + #{null ≥ observed}) / (1 + B) over B random labelings, or
            #{null ≥ observed} / #labelings when all of them were enumerated. Ties count.
        null_distribution: The statistic over the labelings, shape (B,), ``float64``. When
            enumerated it holds every labeling, the observed one included.
        method: Name of the test.
        n: Sample sizes, (n, m) for two samples.
        permutations: B, or the number of labelings when all were enumerated.
        exact: Whether all labelings were enumerated, so that the p-value has no Monte Carlo error.
        exceedances: #{null ≥ observed} within ``null_distribution``.
        kernel: The kernel, for kernel tests.
        bandwidth: Its bandwidth, where it has one.
        effect_size: How different the samples are, free of n in expectation; each test says how
            it measures this. ``None`` where the test has no such measure.
        columns: Names of the coordinates, where tables were compared.
        warnings: What the reader of the p-value should know.
        details: Further numbers of the particular test, by name.

    Example:
        >>> result = TestResult(
        ...     statistic=0.5, pvalue=0.01, null_distribution=np.zeros(99), method="energy",
        ...     n=(10, 12), permutations=99, exact=False, exceedances=0,
        ... )
        >>> result.reject(level=0.05)
        True
        >>> result
        TestResult(energy: statistic=0.5, pvalue=0.01, n=(10, 12), permutations=99)
    """

    __test__ = False  # a name pytest would otherwise collect

    statistic: float
    pvalue: float
    null_distribution: Any
    method: str
    n: tuple[int, ...]
    permutations: int
    exact: bool
    exceedances: int
    kernel: Any = None
    bandwidth: float | None = None
    effect_size: float | None = None
    columns: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def reject(self, level: float = 0.05) -> bool:
        """Whether the test rejects equality at ``level``: p ≤ level."""
        return self.pvalue <= checks.between(level, "level", 0.0, 1.0)

    def pvalue_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Clopper–Pearson interval for the p-value that all labelings would give.

        The number of exceedances among B random labelings is binomial; the interval says how far
        more labelings could still move the p-value. Enumerated tests answer (p, p). B is taken as
        fixed, also where it was grown adaptively.

        Args:
            level: Confidence level in (0, 1).

        References:
            Clopper, Pearson (1934), The use of confidence or fiducial limits.
        """
        level = checks.between(level, "level", 0.0, 1.0)
        if self.exact or self.permutations == 0:
            return self.pvalue, self.pvalue
        return clopper_pearson(self.exceedances, self.permutations, level)

    def plot(self, ax: Any = None, *, bins: int | str = "auto") -> Any:
        """Histogram of the null distribution with the observed statistic; returns the axes.

        Args:
            ax: Matplotlib axes to draw into; a new figure otherwise.
            bins: Passed to ``hist``.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.figure().add_subplot()
        null = self._null()
        null = null[np.isfinite(null)]
        if null.size and np.ptp(null) <= 1e-12 * np.abs(null).max():
            bins = 1  # a single value: automatic bins would divide by its spread
        ax.hist(null, bins=bins, color="0.75", label="same distribution")
        ax.axvline(self.statistic, color="C3", label=f"observed, p = {self.pvalue:.3g}")
        ax.set_xlabel(f"{self.method} statistic")
        ax.set_ylabel("labelings")
        ax.legend()
        return ax

    def to_dict(self, *, null_distribution: bool = True) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for ``json.dumps``; infinities become None.

        Args:
            null_distribution: Include the null distribution as a list.
        """
        answer = {
            "method": self.method,
            "statistic": self.statistic,
            "pvalue": self.pvalue,
            "pvalue_interval": list(self.pvalue_interval()),
            "n": list(self.n),
            "permutations": self.permutations,
            "exact": self.exact,
            "exceedances": self.exceedances,
            "kernel": None if self.kernel is None else repr(self.kernel),
            "bandwidth": self.bandwidth,
            "effect_size": self.effect_size,
            "columns": None if self.columns is None else list(self.columns),
            "warnings": list(self.warnings),
            "details": self.details,
        }
        if null_distribution:
            answer["null_distribution"] = self._null()
        numbers: dict[str, Any] = plain(answer)
        return numbers

    def _null(self) -> np.ndarray:
        null = self.null_distribution
        null = null.detach().cpu() if hasattr(null, "detach") else null
        return np.asarray(null, dtype=np.float64)

    def __repr__(self) -> str:
        parts = [f"statistic={self.statistic:.4g}", f"pvalue={self.pvalue:.4g}", f"n={self.n}"]
        parts.append(f"permutations={self.permutations}{' (all)' if self.exact else ''}")
        if self.kernel is not None:
            parts.append(f"kernel={self.kernel!r}")
        if self.effect_size is not None:
            parts.append(f"effect_size={self.effect_size:.3g}")
        if self.warnings:
            parts.append(f"warnings={list(self.warnings)}")
        return f"TestResult({self.method}: {', '.join(parts)})"


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial confidence interval for a share of ``successes`` in ``trials``.

    Example:
        >>> low, high = clopper_pearson(0, 100)
        >>> low, round(high, 4)
        (0.0, 0.0362)
    """
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    k, n = successes, trials
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return low, high


def plain(value: Any) -> Any:
    """The same value in JSON's types."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Sequence):
        return [plain(part) for part in value]
    return repr(value)
