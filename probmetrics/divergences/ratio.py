"""Density ratios from two samples, with the divergences and importance weights they give."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import answers_in_numpy, to_numpy, to_tensor
from probmetrics._interval import Interval
from probmetrics.divergences import ratio_models as models
from probmetrics.divergences.family import KL
from probmetrics.divergences.row import FDivergence
from probmetrics.divergences.variational import divergence, interval_of_means

METHODS = ("classifier", "ulsif", "rulsif", "kliep")


def density_ratio(
    x: Any,
    y: Any,
    *,
    method: str = "classifier",
    classifier: Any = None,
    alpha: float = 0.1,
    basis: int = 100,
    folds: int = 5,
    generator: torch.Generator | int | None = None,
) -> "DensityRatio":
    """The ratio p/q of the densities of two samples, estimated without estimating either.

    Args:
        x: Sample of P, shape (n, d).
        y: Sample of Q, shape (m, d).
        method: How:

            - "classifier": log-odds of a classifier that tells x from y, less log n/m. Any
              scikit-learn classifier with ``predict_proba`` whose probabilities are calibrated
              (and whose ``class_weight`` is None). The default is logistic regression on the
              columns with their squares and products, exact for Gaussians, or on the columns
              alone where (n + m) < 10 d (d + 3).
            - "ulsif": sum of Gaussians fitted by least squares, tuned by leave-one-out in closed
              form.
            - "rulsif": the same for the relative ratio p/(αp + (1 − α)q), which is bounded by 1/α
              and hence easier; it is turned into p/q.
            - "kliep": sum of Gaussians of greatest likelihood.
        classifier: For "classifier"; None is the default.
        alpha: α of "rulsif", in (0, 1).
        basis: How many Gaussians at most, centred at points of x.
        folds: The ratio at each given point comes from a fit without the point's fold.
        generator: Source of folds, centres and the classifier's seed.

    Returns:
        A ``DensityRatio``.

    Raises:
        ValueError: Fewer points than folds, NaN, constant columns, an unknown method.
        TypeError: A classifier without ``predict_proba``.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(1, 1, size=(2000, 1)), rng.normal(size=(1500, 1))
        >>> found = density_ratio(x, y, generator=0)
        >>> bool(abs(found.log_ratio([[0.5]])[0]) < 0.1)  # log p/q = t − ½
        True

    Notes:
        Computed in float64 on the CPU, ``folds`` + 1 fits. Estimates by sums of Gaussians are
        floored at 1/(n + m): where a point of x gets no more, its ratio cannot be told from zero.

    References:
        Sugiyama, Suzuki & Kanamori (2012), "Density Ratio Estimation in Machine Learning";
        Bickel, Brückner & Scheffer (2007), "Discriminative learning for differing training and
        test distributions"; the methods in ``ratio_models``.
    """
    checks.choice(method, "method", METHODS)
    folds = checks.count(folds, "folds", minimum=2)
    basis = checks.count(basis, "basis")
    alpha = checks.between(alpha, "alpha", 0.0, 1.0)
    as_numpy = answers_in_numpy({"x": x, "y": y})
    given = to_tensor(x, "x")
    x, y = _admit(given, to_tensor(y, "y"), folds)
    source = checks.generator(generator)
    if classifier is not None and not hasattr(classifier, "predict_proba"):
        raise TypeError(
            f"classifier {type(classifier).__name__} has no predict_proba; pass one that has, "
            "e.g. CalibratedClassifierCV around it"
        )
    held = _folds(len(x), len(y), folds, source)
    if method == "classifier":
        fit = models.classifier(x, y, classifier, source)
    elif method == "kliep":
        fit = models.kliep(x, y, basis, held, source)
    else:
        fit = models.least_squares(x, y, alpha if method == "rulsif" else 0.0, basis, held, source)
    at_x, at_y = x.new_empty(len(x)), y.new_empty(len(y))
    for out_x, out_y in held:
        log_ratio = fit(models.without(x, out_x), models.without(y, out_y))
        at_x[out_x], at_y[out_y] = log_ratio(x[out_x]), log_ratio(y[out_y])
    whole = fit(x, y)
    # An own classifier may have learned its points by heart, which tells nothing about the gap.
    optimistic = (whole(x), whole(y)) if method == "classifier" and classifier is None else None
    return DensityRatio(
        at_x, at_y, whole, method, x.shape[-1], given.device, as_numpy, folds, optimistic
    )


@dataclass(frozen=True, repr=False)
class DensityRatio:
    """An estimated density ratio p/q.

    Attributes:
        at_x: log p/q at the points of x, each from a fit that had not seen it, (n,).
        at_y: The same at the points of y, (m,).
        method: How it was made.
    """

    at_x: Tensor
    at_y: Tensor
    _fitted: models.LogRatio
    method: str
    _columns: int
    _device: torch.device
    _as_numpy: bool
    _folds: int
    _optimistic: tuple[Tensor, Tensor] | None  # at_x, at_y of the fit on all the data

    def log_ratio(self, at: Any) -> Any:
        """log p/q at points, shape (k, d) → (k,), from the fit on all the data.

        For the points the fit was made from, ``at_x`` and ``at_y`` are the honest ones.
        """
        points = to_tensor(at, "at")
        points = checks.sample(points.unsqueeze(-1) if points.ndim == 1 else points, name="at")
        if points.ndim != 2 or points.shape[-1] != self._columns:
            raise ValueError(
                f"at must have shape (k, {self._columns}) like the samples, "
                f"got {tuple(points.shape)}"
            )
        return self._answer(self._fitted(points.detach().cpu().double()))

    def ratio(self, at: Any) -> Any:
        """p/q at points, shape (k, d) → (k,)."""
        found = self.log_ratio(at)
        return found.exp() if isinstance(found, Tensor) else to_numpy(torch.as_tensor(found).exp())

    def weights(self, *, relative: float = 0.0) -> Any:
        """Importance weights of y that make it stand for P, summing to one, shape (m,).

        Args:
            relative: α of the relative ratio p/(αp + (1 − α)q) to use instead of p/q: bounded by
                1/α, so that no single point dominates, at the price of a bias.
        """
        return self._answer(self._weights(relative))

    def effective_sample_size(self, *, relative: float = 0.0) -> float:
        """(Σw)²/Σw² of the weights: as many points of P as the weighted y are worth.

        References:
            Kong (1992), "A note on importance sampling using standardized weights".
        """
        return float(1 / self._weights(relative).square().sum())

    def _weights(self, relative: float) -> Tensor:
        share = checks.real(relative, "relative")
        if not 0 <= share < 1:
            raise ValueError(f"relative must lie in [0, 1), got {relative}")
        log_ratio = self.at_y
        if share > 0:
            mixed = torch.log1p(share * torch.expm1(log_ratio.clamp(max=700)))
            log_ratio = log_ratio - mixed
        return torch.softmax(log_ratio, -1)

    def _answer(self, found: Tensor) -> Any:
        return to_numpy(found) if self._as_numpy else found.to(self._device)

    def __repr__(self) -> str:
        size = self.effective_sample_size()
        return (
            f"DensityRatio by {self.method}, {len(self.at_x)} and {len(self.at_y)} points, "
            f"effective sample size of y as P: {size:.1f}"
        )


def divergence_from_ratio(
    ratio: DensityRatio, *, f: FDivergence | str = KL, level: float = 0.95
) -> Interval:
    r"""D_f(P‖Q) from an estimated ratio, with its interval.

    .. math:: \frac1n \sum_i \mathrm{reward}(\ell(x_i)) - \frac1m \sum_j \mathrm{penalty}(\ell(y_j))

    with the log-ratios ℓ of fits that had not seen the points.

    Args:
        ratio: From ``density_ratio``.
        f: A row of the family, or its name: "kl", "js", "pearson", "alpha(0.5)", ….
        level: Nominal coverage of the interval.

    Returns:
        The estimate and its interval, in nats, in the scale of the public functions (JS at most
        log 2, squared Hellinger 1 − BC).

    Raises:
        TypeError: f is no divergence, or ratio not from ``density_ratio``.
        ValueError: An unknown name.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(1, 1, size=(2000, 1)), rng.normal(size=(1500, 1))
        >>> found = divergence_from_ratio(density_ratio(x, y, generator=0))
        >>> found.low < 0.5 < found.high
        True

    Notes:
        Given the fit, the estimate is the variational bound at ℓ: on average below the
        divergence, by a term of second order in the error of ℓ. As the first-order term is zero,
        the error of the fit does not enter the variance, which is that of the two means. Where
        the ratio is misspecified the interval is about the bound.

        For the default classifier, a fit of greatest likelihood, that term is estimated and given
        as ``bias``; the interval allows for it. Values at the points of the fit are too high by
        as much as fresh ones are too low, E‖δ‖²/2 in the curvature of the objective, because a
        fit of greatest likelihood covaries with any other as with itself. Fits on a share
        (K − 1)/K of the points err by K/(K − 1) of it, so K/(2K − 1) of the difference is theirs.
        Other fits may have learned their points by heart, and no bias is estimated.

    References:
        Nguyen, Wainwright & Jordan (2010), "Estimating divergence functionals and the likelihood
        ratio by convex risk minimization"; Chernozhukov et al. (2018), "Double/debiased machine
        learning", for the cross-fitting.
    """
    if not isinstance(ratio, DensityRatio):
        raise TypeError(f"ratio must come from density_ratio, got {type(ratio).__name__}")
    row = divergence(f)
    rewards, penalties = row.reward(ratio.at_x), row.penalty(ratio.at_y)
    interval = interval_of_means(
        rewards, penalties, scale=row.scale, level=level, bias=_gap(ratio, row)
    )
    answer = to_numpy(interval) if ratio._as_numpy else interval
    assert isinstance(answer, Interval)
    return answer


def _gap(ratio: DensityRatio, row: FDivergence) -> Tensor | None:
    """How far the bound of the fits lies below the divergence, as a negative number."""
    if ratio._optimistic is None:
        return None
    fresh, seen = (
        row.scale * (row.reward(at_x).mean() - row.penalty(at_y).mean())
        for at_x, at_y in ((ratio.at_x, ratio.at_y), ratio._optimistic)
    )
    gap: Tensor = (fresh - seen).clamp(max=0.0) * (ratio._folds / (2 * ratio._folds - 1))
    return gap


def _admit(x: Tensor, y: Tensor, folds: int) -> tuple[Tensor, Tensor]:
    x, y = (z.unsqueeze(-1) if z.ndim == 1 else z for z in (x, y))
    x, y = checks.samples(x, y, minimum=2 * folds)
    for points, name in ((x, "x"), (y, "y")):
        if points.ndim != 2:
            raise ValueError(
                f"{name} must have shape (n, d), got {tuple(points.shape)}; "
                "fit one ratio per batch entry"
            )
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    pooled = torch.cat([x, y])
    constant = (pooled == pooled[:1]).all(0)
    if bool(constant.any()):
        raise ValueError(
            f"column {int(constant.nonzero()[0])} is constant in both samples and says nothing "
            "about their ratio; drop it"
        )
    return x, y


def _folds(n: int, m: int, folds: int, generator: torch.Generator) -> models.Folds:
    """Rows of x and of y that are left out together."""
    in_x, in_y = (torch.randperm(size, generator=generator) for size in (n, m))
    return [(in_x[k::folds], in_y[k::folds]) for k in range(folds)]
