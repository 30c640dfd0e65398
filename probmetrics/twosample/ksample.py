"""Several samples at once: distance components (DISCO), an analysis of variance of laws."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy, to_numpy, to_tensor
from probmetrics.pairwise.costs import Euclidean
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.kernels import Distance, Scaled
from probmetrics.twosample.columns import column_names
from probmetrics.twosample.design import no_weights, pooled
from probmetrics.twosample.kernel_statistic import KernelStatistic, PreparedKernel
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import BUDGET, AbstractPrepared, AbstractStatistic


def disco_test(
    *samples: Any,
    power: float = 1.0,
    kernel: AbstractGround | None = None,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, ...] | None = None,
    a: Any = None,
    b: Any = None,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Permutation test that k samples share one distribution, by distance components (DISCO).

    With d = ‖x − y‖^power the dispersion of the pooled sample, T = Σ_ij d(z_i, z_j) / (2N), is the
    sum of the within-sample one, W = Σ_g Σ_{i,j∈g} d / (2 n_g), and the between-sample one, S. The
    statistic is the share S/T in [0, 1], of which DISCO's ratio F = (S/(k−1)) / (W/(N−k)) is an
    increasing function. At power 2 these are the sums of squares of an analysis of variance; below
    it any difference between distributions shows, not only between means.

    Args:
        samples: Two or more samples, shapes (n_g, d), n_g ≥ 2.
        power: Exponent of the distance, in (0, 2].
        kernel: A kernel to use instead of minus the distance: an analysis of variance in its
            feature space.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: For each sample, labels of its points; exchanged within equal ones only.
        a: Weights are refused: weighted points cannot exchange labels.
        b: As ``a``.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``. ``effect_size`` is S/T adjusted to mean zero under exchange (as ω² and
        ε² are); ``details`` holds F, S, W and the energy distances between all pairs of samples.

    Raises:
        ValueError: Fewer than two samples or two points, NaN, different d or columns, weights.
        TypeError: Tensors and arrays mixed.

    Notes:
        Time (N²/2)(d + k B) flops; memory as for ``energy_test``. The answer does not depend on
        the order of the samples.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> a, b, c = torch.randn(3, 30, 2, generator=g)
        >>> disco_test(a, b, c + 1.0, generator=0).pvalue
        0.001

    References:
        Rizzo, Székely (2010), DISCO analysis: a nonparametric extension of analysis of variance,
        eqs. 2.3–2.6 and 3.3.
    """
    no_weights(a, b)
    power = checks.real(power, "power")
    if not 0 < power <= 2:
        raise ValueError(f"power must lie in (0, 2], got {power}")
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    names = [column_names(samples[0], other) for other in samples[1:]]
    in_numpy, points = _admit(samples)
    chosen = Scaled(Euclidean(power), -1.0) if kernel is None else kernel
    shown = kernel if kernel is not None or power == 2 else Distance(power)
    result = run_test(
        VarianceShare(chosen, half=kernel is None),
        pooled(*points, strata=strata),
        options,
        method="DISCO",
        kernel=shown,
        columns=names[0] if names and all(name == names[0] for name in names) else None,
    )
    if not in_numpy:
        return result
    plain: TestResult = to_numpy(result)
    return plain


def _admit(samples: tuple[Any, ...]) -> tuple[bool, list[Tensor]]:
    """Whether the answer goes back as NumPy, and the samples as tensors of one dtype."""
    if len(samples) < 2 or len(samples) > 255:
        raise ValueError(
            f"disco_test compares 2 to 255 samples, got {len(samples)}; pass each as an argument"
        )
    names = [f"sample {k}" for k in range(len(samples))]
    in_numpy = answers_in_numpy(dict(zip(names, samples, strict=True)))
    points = [to_tensor(s, name) for s, name in zip(samples, names, strict=True)]
    points = [p.unsqueeze(-1) if p.ndim == 1 else p for p in points]
    for p, name in zip(points, names, strict=True):
        checks.sample(p, minimum=2, name=name)
        if p.ndim != 2:
            raise ValueError(f"{name} must have shape (n, d), got {tuple(p.shape)}")
        checks.samples(points[0], p, names=(names[0], name))
    dtype = points[0].dtype
    for p in points[1:]:
        dtype = torch.promote_types(dtype, p.dtype)
    return in_numpy, [p.to(dtype) for p in points]


@dataclass(frozen=True)
class VarianceShare(AbstractStatistic):
    """Share of the variance in a kernel's feature space that the labels of k groups explain.

    Attributes:
        kernel: The kernel.
        half: Halve the sums of squares, as for minus a distance, whose dispersion is ½ Σ d.
    """

    kernel: AbstractGround
    half: bool = False

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedShare":
        """Bind to the pooled points."""
        prepared = KernelStatistic(self.kernel).prepare(z, sizes)
        return _PreparedShare(prepared, sizes, 0.5 if self.half else 1.0)


class _PreparedShare(AbstractPrepared):
    tolerance = 1e-9

    def __init__(self, kernel: PreparedKernel, sizes: tuple[int, ...], factor: float) -> None:
        self.kernel, self.sizes, self.factor = kernel, sizes, factor
        self.batch = max(1, BUDGET // (8 * sum(sizes) * len(sizes)))

    def evaluate(self, labels: Tensor) -> Tensor:
        between, total = self._between(labels)
        return between / total if total > 0 else torch.zeros_like(between)

    def effect(self, labels: Tensor) -> float | None:
        points, groups = sum(self.sizes), len(self.sizes)
        between, total = self._between(labels[None])
        if total <= 0 or points <= groups:
            return None
        return 1 - (1 - float(between[0]) / total) * (points - 1) / (points - groups)

    def details(self, labels: Tensor) -> dict[str, Any]:
        """The two components, DISCO's ratio, and the distance between each pair of samples."""
        points, groups = sum(self.sizes), len(self.sizes)
        between, total = self._between(labels[None])
        s, w = self.factor * float(between[0]), self.factor * (total - float(between[0]))
        degrees = (groups - 1, points - groups)
        ratio = s / degrees[0] / (w / degrees[1]) if w > 0 else math.inf
        return {"F": ratio, "between": s, "within": w, "pairs": self._pairs(labels)}

    def _between(self, labels: Tensor) -> tuple[Tensor, float]:
        """Between-sample sum of squares of each labeling, and the total one."""
        u = torch.cat([self.kernel.indicator(labels, g) for g in range(len(self.sizes))])
        quadratic, rows, diagonal = self.kernel.sums(u)
        sizes = torch.tensor(self.sizes, dtype=u.dtype, device=u.device)
        mean = float(rows.sum()) / sum(self.sizes)
        within = (quadratic.reshape(len(self.sizes), -1) / sizes[:, None]).sum(0)
        return within - mean, float(diagonal.sum()) - mean

    def _pairs(self, labels: Tensor) -> np.ndarray:
        """Squared MMD (energy distance for minus a distance), biased, between all samples."""
        groups = len(self.sizes)
        u = torch.stack([self.kernel.indicator(labels, g) / n for g, n in enumerate(self.sizes)])
        i, j = torch.triu_indices(groups, groups, 1)
        squares = self.kernel.sums(u[i] - u[j])[0]
        answer = np.zeros((groups, groups))
        answer[i.numpy(), j.numpy()] = answer[j.numpy(), i.numpy()] = squares.cpu().numpy()
        return answer
