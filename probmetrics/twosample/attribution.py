"""Where two samples differ: features, points, regions, by the witness function of the MMD."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesAt, SamplesX, SamplesY, array_function
from probmetrics._autograd import outside_inference
from probmetrics.discrepancy import witness
from probmetrics.pairwise.ground import AbstractGround
from probmetrics.pairwise.kernels import Gaussian
from probmetrics.twosample.columns import column_names
from probmetrics.twosample.design import pair
from probmetrics.twosample.kernel import pooled_gaussian
from probmetrics.twosample.kernel_statistic import wide
from probmetrics.twosample.marginals import Feature, feature_differences, holm
from probmetrics.twosample.permutation import Generator
from probmetrics.twosample.result import TestResult, plain

SHOWN = 8


@dataclass(frozen=True, eq=False)
class Mode:
    """A cluster of the pooled points, and how many of each sample lie in it.

    Attributes:
        centre: Mean of its points, in the units of the data, shape (d,).
        counts: Points of x and of y.
        shares: The same as shares of the samples.
        pvalue: Of equal shares, by Fisher's exact test: the clusters do not know which sample a
            point came from.
        adjusted_pvalue: The same, Holm-adjusted over the clusters.
    """

    centre: Any
    counts: tuple[int, int]
    shares: tuple[float, float]
    pvalue: float
    adjusted_pvalue: float


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Differences:
    """Where two samples differ.

    Attributes:
        columns: Names of the features.
        features: Each feature alone, the most different first.
        importance: Share of each feature in the slope of the witness function, which sees how
            features go together, too; shape (d,), summing to one.
        witness_x: Witness at x's points, less the middle of its means over x and over y, shape
            (n,): positive where x has more mass, negative where y has.
        witness_y: The same at y's points, shape (m,).
        gradient_x: Gradient of the witness at x's points, shape (n, d), per unit of the features.
        gradient_y: The same at y's points.
        rows_x: Points of x least like y, the most telling first.
        rows_y: Points of y least like x.
        modes: Clusters of the pooled points, the most different first.
        cluster_x: Number of each point's cluster in ``modes``, shape (n,).
        cluster_y: Likewise, shape (m,).
        mmd: MMD² (V-statistic): mean of ``witness_x`` less mean of ``witness_y``, to which every
            point contributes its part.
        kernel: The kernel, of features in units of ``scale``.
        scale: Unit of each feature, shape (d,).
    """

    columns: tuple[str, ...]
    features: tuple[Feature, ...]
    importance: Any
    witness_x: Any
    witness_y: Any
    gradient_x: Any
    gradient_y: Any
    rows_x: tuple[int, ...]
    rows_y: tuple[int, ...]
    modes: tuple[Mode, ...]
    cluster_x: Any
    cluster_y: Any
    mmd: float
    kernel: AbstractGround
    scale: Any
    points: tuple[Any, Any]

    def contributions(self) -> tuple[Any, Any]:
        """What each point of x and of y adds to MMD²; all together sum to it."""
        return self.witness_x / len(self.witness_x), -self.witness_y / len(self.witness_y)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for ``json.dumps``."""
        names = ("columns", "importance", "witness_x", "witness_y", "rows_x", "rows_y", "mmd")
        answer = {name: getattr(self, name) for name in (*names, "cluster_x", "cluster_y", "scale")}
        answer["features"] = [vars(feature) for feature in self.features]
        answer["modes"] = [vars(mode) for mode in self.modes]
        made: dict[str, Any] = plain({**answer, "kernel": repr(self.kernel)})
        return made

    def plot(self, axes: Any = None) -> Any:
        """Importance of features, the witness over the two most important, counts by cluster.

        Args:
            axes: Three matplotlib axes; a new figure otherwise.

        Returns:
            The axes.
        """
        from probmetrics.twosample.attribution_plot import draw_differences

        return draw_differences(self, axes)

    def __repr__(self) -> str:
        order = np.argsort(-np.asarray(torch.as_tensor(self.importance)), kind="stable")[:SHOWN]
        alone = {feature.index: feature for feature in self.features}
        lines = [
            f"Differences of {len(self.columns)} features, n=({len(self.witness_x)}, "
            f"{len(self.witness_y)}), MMD²={self.mmd:.4g}"
        ]
        for j in order:
            f = alone[int(j)]
            lines.append(
                f"  {f.name}: importance {float(self.importance[j]):.0%}, W₁ "
                f"{f.wasserstein:.2g} sd, shift {f.shift:+.2g} sd, p {f.adjusted_pvalue:.2g}"
            )
        lines.append(f"  rows of x least like y: {', '.join(map(str, self.rows_x[:SHOWN]))}")
        lines.append(f"  rows of y least like x: {', '.join(map(str, self.rows_y[:SHOWN]))}")
        lines += [
            f"  cluster with {mode.shares[0]:.1%} of x and {mode.shares[1]:.1%} of y, "
            f"p {mode.adjusted_pvalue:.2g}"
            for mode in self.modes[:3]
        ]
        return "\n".join(lines)


def where_they_differ(
    x: Any,
    y: Any,
    *,
    columns: Sequence[str] | None = None,
    kernel: AbstractGround | None = None,
    test: TestResult | None = None,
    scale: bool = True,
    rows: int = 10,
    clusters: int | None = None,
    generator: Generator = 0,
) -> Differences:
    r"""Where two samples differ: in which features, at which points, in which regions.

    The witness of the MMD, w(t) = E k(X, t) − E k(Y, t), is positive where x has more mass and
    negative where y has. Its means over the samples give MMD² = E w(X) − E w(Y), so its values
    attribute MMD² to points, exactly. Its gradient ∇w points to where x gains on y; the share of
    feature j in Σ_i ‖∇w(z_i)‖², taken from two halves of the samples without its noise,
    attributes the difference to features, also where each alone looks the same in both samples.

    Args:
        x: Sample, shape (n, d), n ≥ 2; arrays, tensors, data frames.
        y: Sample, shape (m, d), m ≥ 2.
        columns: Names of the features; those of data frames are found.
        kernel: A kernel of ``probmetrics.pairwise.kernels``, differentiable; None is that of
            ``test``, or a Gaussian with half the median distance of the pooled sample: fine enough
            to see shapes, where the median itself sees little but means.
        test: Result of a kernel test of the same samples, whose kernel and column names to use.
        scale: Divide features by their pooled standard deviation first. With False, or with the
            kernel of a test, features are compared in the units they have.
        rows: How many points of each sample to list as least like the other.
        clusters: How many clusters of the pooled points to count; None is about √(N/20), at most
            12.
        generator: Generator or seed of the clustering and of halves (see ``importance``).

    Returns:
        A ``Differences``, whose ``.plot()`` shows it.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, a wrong number of names.

    Notes:
        Time O(N² d), memory linear. This describes the samples: whether they differ more than
        chance would have it is what a test says. Importances of equal samples are those of noise.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 200, 3, generator=g)
        >>> y[:, 1] += 1.5
        >>> found = where_they_differ(x, y, columns=["age", "dose", "height"])
        >>> found.features[0].name, bool(found.importance.argmax() == 1)
        ('dose', True)

    References:
        Gretton et al. (2012), A kernel two-sample test, Section 2.3; Lloyd, Ghahramani (2015),
        Statistical model criticism using kernel two sample tests; Fisher (1935).
    """
    found = column_names(x, y)
    rows = checks.count(rows, "rows", minimum=0)
    if test is not None and kernel is None:
        kernel = test.kernel if isinstance(test.kernel, AbstractGround) else None
        scale = scale and kernel is None
        found = found or test.columns
    if kernel is not None and not isinstance(kernel, AbstractGround):
        raise TypeError(
            "kernel must be a kernel of probmetrics.pairwise.kernels or None, "
            f"got {type(kernel).__name__}"
        )
    if clusters is not None:
        checks.count(clusters, "clusters")
    source = checks.generator(generator)
    names = found if columns is None else tuple(str(name) for name in columns)
    made: Differences = _differences(x, y, names, kernel, (bool(scale), rows, clusters), source)
    return made


@array_function
@outside_inference
def witness_gradient(
    x: SamplesX, y: SamplesY, at: SamplesAt, *, kernel: AbstractGround | None = None
) -> tuple[Any, Any]:
    """Witness function of the MMD at points t, and its gradient there.

    Args:
        x: Sample, shape (*batch, n, d).
        y: Sample, shape (*batch, m, d).
        at: Points, shape (*batch, l, d).
        kernel: As in ``witness``; differentiable.

    Returns:
        w(t), shape (*batch, l), and ∇w(t), shape (*batch, l, d): the direction in which x gains
        most on y.

    Raises:
        ValueError: As ``witness``.

    Notes:
        About three evaluations of the witness, in linear memory. At a kink of the kernel the
        gradient is the one PyTorch gives, zero for distances.

    Example:
        >>> from probmetrics.pairwise.kernels import Linear
        >>> witness_gradient([[1.0, 0.0]], [[0.0, 0.0]], [[2.0, 5.0]], kernel=Linear())
        (array([2.]), array([[1., 0.]]))

    References:
        Gretton et al. (2012), A kernel two-sample test, Section 2.3.
    """
    x, y = checks.samples(x, y)
    at, _ = checks.samples(at, x, names=("at", "x"))
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2], at.shape[:-2])
    with torch.enable_grad():
        points = at.detach().expand(*batch, *at.shape[-2:]).clone().requires_grad_()
        values = witness(x.detach(), y.detach(), points, kernel=kernel)
        (slope,) = torch.autograd.grad(values.sum(), points)
    return values.detach(), slope


@array_function
def _differences(
    x: SamplesX,
    y: SamplesY,
    names: tuple[str, ...] | None,
    kernel: AbstractGround | None,
    wanted: tuple[bool, int, int | None],
    source: torch.Generator,
) -> Differences:
    x, y = pair(x, y)
    x, y = wide(x), wide(y)
    scaled, rows, clusters = wanted
    d = x.shape[-1]
    names = tuple(f"x{j}" for j in range(d)) if names is None else names
    if len(names) != d:
        raise ValueError(f"columns must hold {d} names, one per feature, got {len(names)}")
    z = torch.cat([x, y])
    centre, deviation = z.mean(0), z.std(0)
    unit = torch.where(deviation > 0, deviation, 1.0) if scaled else torch.ones_like(deviation)
    first, second = (x - centre) / unit, (y - centre) / unit
    together = torch.cat([first, second])
    chosen = Gaussian(pooled_gaussian(together).bandwidth / 2) if kernel is None else kernel
    values, slopes = witness_gradient(first, second, together, kernel=chosen)
    at_x, at_y = centred_witness(values[: len(x)], values[len(x) :])
    number, modes = _modes(together, z, len(x), clusters, source)
    return Differences(
        columns=names,
        features=tuple(
            feature_differences(x.cpu().numpy(), y.cpu().numpy(), names, deviation.cpu().numpy())
        ),
        importance=_importance(first, second, chosen, slopes, source),
        witness_x=at_x,
        witness_y=at_y,
        gradient_x=slopes[: len(x)] / unit,
        gradient_y=slopes[len(x) :] / unit,
        rows_x=tuple(at_x.argsort(descending=True, stable=True)[:rows].tolist()),
        rows_y=tuple(at_y.argsort(stable=True)[:rows].tolist()),
        modes=modes,
        cluster_x=number[: len(x)],
        cluster_y=number[len(x) :],
        mmd=float(at_x.mean() - at_y.mean()),
        kernel=chosen,
        scale=unit,
        points=(x, y),
    )


def centred_witness(at_x: Tensor, at_y: Tensor) -> tuple[Tensor, Tensor]:
    """Witness at the points of both samples, less the middle of its two means.

    Only differences of the witness count: at a wide kernel all of it may lie on one side of zero.
    The means then are ± half the squared MMD (V-statistic).
    """
    middle = (at_x.mean() + at_y.mean()) / 2
    return at_x - middle, at_y - middle


def _importance(
    x: Tensor, y: Tensor, kernel: AbstractGround, slopes: Tensor, source: torch.Generator
) -> Tensor:
    """Share of each feature in the mean squared slope, per standard deviation of the feature.

    The square of a noisy slope is too large by its variance, which is alike in all features and
    would hide the few that matter. Slopes of the witnesses of two random halves of the samples
    have independent noise, so their product is free of it on average.
    """
    z = torch.cat([x, y])
    product = slopes.square()
    if min(len(x), len(y)) >= 4:
        halves: list[list[Tensor]] = [[], []]
        for points in (x, y):
            order = torch.randperm(len(points), generator=source, device=source.device).cpu()
            for half, rows in zip(halves, order.tensor_split(2), strict=True):
                half.append(points[rows.to(points.device)])
        first, second = (witness_gradient(a, b, z, kernel=kernel)[1] for a, b in halves)
        product = first * second
    parts = (product * z.var(0)).sum(0).clamp_min(0.0)
    total = parts.sum()
    return torch.where(total > 0, parts / torch.where(total > 0, total, 1.0), 1 / len(parts))


def _modes(
    z: Tensor, original: Tensor, n: int, clusters: int | None, source: torch.Generator
) -> tuple[Tensor, tuple[Mode, ...]]:
    """Clusters of the pooled points, found without regard to the samples, and their counts."""
    from sklearn.cluster import KMeans

    points = z.cpu().numpy()
    distinct = len(np.unique(points, axis=0))
    count = clusters or min(12, max(2, round((len(points) / 20) ** 0.5)))
    count = min(count, distinct)
    seed = int(torch.randint(2**31 - 1, (1,), generator=source, device=source.device))
    labels = KMeans(count, n_init=4, random_state=seed).fit(points).labels_
    first = np.bincount(labels[:n], minlength=count)
    second = np.bincount(labels[n:], minlength=count)
    found = []
    for k, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        shares = (a / n, b / (len(points) - n))
        centre = original[torch.from_numpy(labels == k).to(original.device)].mean(0)
        pvalue = fisher_pvalue(a, n - a, b, len(points) - n - b)
        found.append(Mode(centre, (a, b), shares, pvalue, 1.0))
    adjusted = holm([mode.pvalue for mode in found])
    order = sorted(
        range(count), key=lambda k: (found[k].pvalue, -abs(np.subtract(*found[k].shares)))
    )
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(count)
    modes = tuple(replace(found[k], adjusted_pvalue=adjusted[k]) for k in order)
    return torch.from_numpy(place[labels]), modes


def fisher_pvalue(a: int, b: int, c: int, d: int) -> float:
    """Two-sided p-value of Fisher's exact test of the table [[a, b], [c, d]]."""
    from scipy.stats import fisher_exact

    return min(1.0, float(fisher_exact([[a, b], [c, d]])[1]))
