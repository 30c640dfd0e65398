"""Planning: how likely is a test to see a difference, and how many points does that take?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy, is_array, to_numpy, to_tensor
from probmetrics.twosample.asymptotic import KernelPilot, kernel_of
from probmetrics.twosample.kernel import mmd_test
from probmetrics.twosample.permutation import Generator
from probmetrics.twosample.result import clopper_pearson
from probmetrics.twosample.statistics import as_number

METHODS = ("simulation", "asymptotic")
PILOT = 1000  # points drawn of each distribution for the asymptotic formula


@dataclass(frozen=True)
class Power:
    """Chance that a test rejects.

    Attributes:
        power: The estimate.
        low: Lower end of its interval.
        high: Upper end.
        n: Points of x.
        m: Points of y.
        level: Level of the test.
        method: How it was found.
        repetitions: Simulated tests; 0 for the asymptotic formula.
        rejections: How many of them rejected.
    """

    power: float
    low: float
    high: float
    n: int
    m: int
    level: float
    method: str
    repetitions: int = 0
    rejections: int = 0

    def __float__(self) -> float:
        return self.power


@dataclass(frozen=True)
class SampleSize:
    """The sample sizes that give a test a wanted power.

    Attributes:
        n: Points of x.
        m: Points of y.
        power: The power there.
        wanted: The power asked for.
        tried: Everything that was evaluated on the way, by n.
    """

    n: int
    m: int
    power: Power
    wanted: float
    tried: tuple[Power, ...]


def power(
    x: Any,
    y: Any,
    n: int,
    m: int | None = None,
    *,
    test: Callable[..., Any] = mmd_test,
    method: str = "simulation",
    level: float = 0.05,
    repetitions: int = 200,
    confidence: float = 0.95,
    generator: Generator = None,
    **options: Any,
) -> Power:
    r"""Power of a two-sample test: the chance to reject with n and m points at a level.

    - ``"simulation"``: draws samples and runs the test; any test, an exact binomial interval.
    - ``"asymptotic"``: of ``mmd_test`` and ``energy_test``, from a pilot. With T the unbiased
      MMD², power ≈ Φ((T − q) / s), where s² is the variance of a U-statistic under the
      alternative, both its terms (Hoeffding), and q the quantile of its null distribution, a
      weighted sum of χ² variables matched in its first three moments.

    Args:
        x: First distribution: ``draw(n, generator) -> sample``, or pilot points, shape (N, d),
            from which samples are drawn with replacement, as if they were the population.
        y: Second distribution likewise.
        n: Points of x that the test would have.
        m: Points of y; None is n.
        test: A test of the package, or a function of (x, y) that returns a p-value or something
            with ``.pvalue``. It gets ``generator=`` if it takes one.
        method: One of the above.
        level: Level of the test.
        repetitions: Simulated tests.
        confidence: Of the interval. The interval of the asymptotic formula reflects that T is
            known from the pilot only; for points drawn by functions, from ``PILOT`` each.
        generator: Generator or seed.
        **options: For the test, e.g. ``kernel=``, ``permutations=199``.

    Returns:
        A ``Power``.

    Raises:
        ValueError: Too few points, unknown method, a test the asymptotic formula does not know.
        TypeError: x and y of different kinds.

    Notes:
        A pilot smaller than n repeats points, and a test that notices copies (nearest
        neighbours) will be judged wrongly: use the asymptotic formula, or a function.
        Asymptotic: O((N + M)²) once and no more for any n.

    Example:
        >>> def x(n, generator): return torch.randn(n, 2, generator=generator)
        >>> def y(n, generator): return torch.randn(n, 2, generator=generator) + 0.7
        >>> 0.6 < power(x, y, 40, method="asymptotic", generator=0).power < 1
        True

    References:
        Gretton et al. (2012), A kernel two-sample test, Theorems 8 and 12, Corollary 16; Hall
        (1983), Buckley, Eagleson (1988) (three moments); Clopper, Pearson (1934).
    """
    n = checks.count(n, "n", minimum=2)
    m = n if m is None else checks.count(m, "m", minimum=2)
    plan = _Plan(x, y, test, method, level, repetitions, confidence, generator, options)
    return plan(n, m)


def sample_size(
    x: Any,
    y: Any,
    *,
    power: float = 0.8,
    ratio: float = 1.0,
    test: Callable[..., Any] = mmd_test,
    method: str = "simulation",
    level: float = 0.05,
    repetitions: int = 200,
    confidence: float = 0.95,
    maximum: int = 10_000,
    generator: Generator = None,
    **options: Any,
) -> SampleSize:
    """The smallest sample size with which a test has a wanted power.

    The size is doubled until the power suffices, and then bisected. Simulated powers are noisy,
    and so is the size: see the interval of ``power`` in the result.

    Args:
        x: First distribution, as for ``probmetrics.power``.
        y: Second distribution.
        power: Wanted power, in (0, 1).
        ratio: m / n.
        test: As for ``probmetrics.power``.
        method: ``"simulation"`` or ``"asymptotic"``.
        level: Level of the test.
        repetitions: Simulated tests per size.
        confidence: Of the interval of the power.
        maximum: Largest n to try.
        generator: Generator or seed.
        **options: For the test.

    Returns:
        A ``SampleSize``.

    Raises:
        ValueError: The power is not reached with ``maximum`` points; unfit options.

    Notes:
        About 2 log2(n) evaluations of the power.

    Example:
        >>> def x(n, generator): return torch.randn(n, 2, generator=generator)
        >>> def y(n, generator): return torch.randn(n, 2, generator=generator) + 0.7
        >>> 20 < sample_size(x, y, method="asymptotic", generator=0).n < 60
        True

    References:
        As ``probmetrics.power``.
    """
    wanted = checks.between(power, "power", 0.0, 1.0)
    ratio = checks.positive(ratio, "ratio")
    maximum = checks.count(maximum, "maximum", minimum=4)
    plan = _Plan(x, y, test, method, level, repetitions, confidence, generator, options)
    if wanted <= plan.level:
        raise ValueError(f"power must be above the level {plan.level}, got {wanted}")
    tried: dict[int, Power] = {}

    def enough(n: int) -> bool:
        tried[n] = plan(n, max(2, round(n * ratio)))
        return tried[n].power >= wanted

    high = min(8, maximum)
    while not enough(high):
        if high == maximum:
            raise ValueError(
                f"with maximum={maximum} points the power is {tried[high].power:.3g}, below "
                f"{wanted:g}; raise maximum, or look for a larger difference or another test"
            )
        high = min(2 * high, maximum)
    low = max([size for size in tried if size < high], default=2)
    while high - low > max(1, high // 50 if method == "simulation" else 1):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    found = tried[high]
    return SampleSize(found.n, found.m, found, wanted, tuple(tried[k] for k in sorted(tried)))


class _Plan:
    """Both distributions, the test and its options, ready for any sample sizes."""

    def __init__(
        self,
        x: Any,
        y: Any,
        test: Callable[..., Any],
        method: str,
        level: float,
        repetitions: int,
        confidence: float,
        generator: Generator,
        options: dict[str, Any],
    ) -> None:
        self.level = checks.between(level, "level", 0.0, 1.0)
        self.confidence = checks.between(confidence, "confidence", 0.0, 1.0)
        self.repetitions = checks.count(repetitions, "repetitions")
        self.method = checks.choice(method, "method", METHODS)
        if not callable(test):
            raise TypeError(f"test must be a function of two samples, got {type(test).__name__}")
        self.test, self.options = test, options
        self.source = checks.generator(generator)
        self.as_numpy = False
        pilots = [is_array(v) for v in (x, y)]
        if pilots[0] != pilots[1] or not (all(pilots) or (callable(x) and callable(y))):
            raise TypeError(
                "x and y must both be samples, or both functions draw(n, generator) -> sample; "
                f"got {type(x).__name__} and {type(y).__name__}"
            )
        if all(pilots):
            self.as_numpy = answers_in_numpy({"x": x, "y": y})
            self.pilots = self._checked(x, y)
        self.draw = (self._resample(0), self._resample(1)) if all(pilots) else (x, y)
        if method == "asymptotic":
            kernel = kernel_of(test, options)
            if not all(pilots):
                self.pilots = self._checked(*(draw(PILOT, self.source) for draw in self.draw))
            self.pilot = KernelPilot(*self.pilots, kernel, all(pilots))

    def __call__(self, n: int, m: int) -> Power:
        if self.method == "asymptotic":
            value, low, high = self.pilot.power(n, m, self.level, self.confidence)
            return Power(value, low, high, n, m, self.level, self.method)
        rejections = sum(self._rejects(n, m) for _ in range(self.repetitions))
        low, high = clopper_pearson(rejections, self.repetitions, self.confidence)
        share = rejections / self.repetitions
        return Power(share, low, high, n, m, self.level, self.method, self.repetitions, rejections)

    def _rejects(self, n: int, m: int) -> bool:
        first, second = (
            draw(size, self.source) for draw, size in zip(self.draw, (n, m), strict=True)
        )
        options = dict(self.options)
        if "generator" not in options and _takes_generator(self.test):
            drawn = torch.randint(2**31, (), generator=self.source, device=self.source.device)
            options["generator"] = int(drawn)
        answer = self.test(first, second, **options)
        pvalue = as_number(getattr(answer, "pvalue", answer))
        if not 0 <= pvalue <= 1:
            raise ValueError(f"the test must return a p-value in [0, 1], got {pvalue:g}")
        return pvalue <= self.level

    def _checked(self, x: Any, y: Any) -> tuple[Tensor, Tensor]:
        first, second = to_tensor(x, "x"), to_tensor(y, "y")
        first, second = (v.unsqueeze(-1) if v.ndim == 1 else v for v in (first, second))
        return checks.samples(first, second, minimum=4)

    def _resample(self, side: int) -> Callable[[int, torch.Generator], Any]:
        def draw(size: int, source: torch.Generator) -> Any:
            points = self.pilots[side]
            rows = torch.randint(len(points), (size,), generator=source, device=source.device)
            chosen = points[rows.to(points.device)]
            return to_numpy(chosen) if self.as_numpy else chosen

        return draw


def _takes_generator(test: Callable[..., Any]) -> bool:
    import inspect

    try:
        return "generator" in inspect.signature(test).parameters
    except (TypeError, ValueError):
        return False
