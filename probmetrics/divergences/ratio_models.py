"""Ways to fit log p/q from two samples: classifiers, least squares (uLSIF, RuLSIF), KLIEP.

Each way first looks at all the data for its tuning (bandwidth, regularisation), then offers a
``Fit``: two samples in, a function giving the log-ratio at points out. Cross-fitting calls it once
per fold.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from probmetrics.pairwise import median_bandwidth
from probmetrics.pairwise.kernels import Gaussian

LogRatio = Callable[[Tensor], Tensor]  # points (k, d) → log p/q (k,)
Fit = Callable[[Tensor, Tensor], LogRatio]
Folds = list[tuple[Tensor, Tensor]]  # rows of x and of y held out together

SCALES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)  # bandwidths tried, times the median distance
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
EM_STEPS, EM_GAIN = 1000, 1e-4  # most steps, and the gain of ten steps that ends them


def classifier(x: Tensor, y: Tensor, estimator: Any, generator: torch.Generator) -> Fit:
    """log p/q = log-odds of x against y, less log n/m.

    Args:
        x: Sample of P.
        y: Sample of Q.
        estimator: scikit-learn classifier with ``predict_proba``; None is logistic regression.
        generator: Seeds an estimator whose ``random_state`` is None.
    """
    from sklearn.base import clone

    model = default_classifier(x.shape[-1], len(x) + len(y)) if estimator is None else estimator
    model = clone(model)
    open_states = [
        name
        for name, value in model.get_params().items()
        if name.split("__")[-1] == "random_state" and value is None
    ]
    seeds = torch.randint(2**31 - 1, (len(open_states),), generator=generator).tolist()
    model.set_params(**dict(zip(open_states, seeds, strict=True)))

    def fit(x: Tensor, y: Tensor) -> LogRatio:
        points = torch.cat([x, y]).numpy()
        labels = torch.cat([torch.ones(len(x)), torch.zeros(len(y))]).numpy()
        fitted = clone(model).fit(points, labels)
        return lambda at: _log_odds(fitted, at, len(points)) - math.log(len(x) / len(y))

    return fit


def default_classifier(d: int, points: int) -> Any:
    """Logistic regression on standardised columns, with their squares and products if few.

    The log-ratio of two Gaussians is a quadratic polynomial, so with these features it is fitted
    without bias. The d (d + 3)/2 coefficients need some twenty points each; below that the linear
    model, exact for equal covariances, has the smaller error.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    quadratic = 20 * d * (d + 3) // 2 <= points
    # A weak penalty: enough that separable samples have a solution.
    logistic = LogisticRegression(C=100.0, max_iter=1000)
    if not quadratic:
        return make_pipeline(StandardScaler(), logistic)
    features = PolynomialFeatures(2, include_bias=False)
    return make_pipeline(StandardScaler(), features, StandardScaler(), logistic)


def _log_odds(fitted: Any, at: Tensor, points: int) -> Tensor:
    """log P(x)/P(y); probabilities of exactly 0 or 1, as trees give, count as 1 in ``points``."""
    if hasattr(fitted, "decision_function") and _is_logistic(fitted):
        return torch.as_tensor(fitted.decision_function(at.numpy())).double()
    shares = torch.as_tensor(fitted.predict_proba(at.numpy())).double()
    least = math.log(1 / points)
    log_y, log_x = shares.log().clamp(min=least).unbind(-1)
    return log_x - log_y


def _is_logistic(fitted: Any) -> bool:
    """Whether the decision function is the log-odds, free of the rounding of probabilities."""
    from sklearn.linear_model import LogisticRegression

    last = fitted.steps[-1][1] if hasattr(fitted, "steps") else fitted
    return isinstance(last, LogisticRegression)


def least_squares(
    x: Tensor, y: Tensor, alpha: float, basis: int, folds: Folds, generator: torch.Generator
) -> Fit:
    """The relative ratio p/(αp + (1 − α)q) as a sum of Gaussians at points of x.

    Minimises α/2 E_P r² + (1 − α)/2 E_Q r² − E_P r + λ/2 ‖θ‖². Bandwidth and λ by leave-one-out
    in closed form for α = 0 (uLSIF), by cross-validation otherwise (RuLSIF).

    References:
        Kanamori, Hido & Sugiyama (2009), "A least-squares approach to direct importance
        estimation"; Yamada et al. (2011), "Relative density-ratio estimation for robust
        distribution comparison".
    """
    centres = _centres(x, basis, generator)
    trials = []
    for bandwidth in _bandwidths(x, y):
        of_x, of_y = (Gaussian(bandwidth)(z, centres) for z in (x, y))
        for ridge in RIDGES:
            score = (
                _leave_one_out(of_x, of_y, ridge)
                if alpha == 0
                else _validated(of_x, of_y, alpha, ridge, folds)
            )
            trials.append((score, bandwidth, ridge))
    _, bandwidth, ridge = min(trials)
    kernel = Gaussian(bandwidth)

    def fit(x: Tensor, y: Tensor) -> LogRatio:
        theta = _solve(kernel(x, centres), kernel(y, centres), alpha, ridge)
        least = 1 / (len(x) + len(y))

        def log_ratio(at: Tensor) -> Tensor:
            relative = (kernel(at, centres) @ theta).clamp(min=least)
            # p/q = (1 − α) r/(1 − α r); r stays below 1/α.
            relative = relative.clamp(max=(1 - least) / alpha) if alpha > 0 else relative
            return relative.log() + math.log1p(-alpha) - torch.log1p(-alpha * relative)

        return log_ratio

    return fit


def _solve(of_x: Tensor, of_y: Tensor, alpha: float, ridge: float) -> Tensor:
    """Coefficients θ = (H + λI)⁻¹h, negative ones set to zero."""
    matrix = (1 - alpha) * of_y.mT @ of_y / len(of_y)
    if alpha > 0:
        matrix = matrix + alpha * of_x.mT @ of_x / len(of_x)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    theta: Tensor = torch.linalg.solve(matrix + ridge * eye, of_x.mean(0))
    return theta.clamp(min=0.0)


def _validated(of_x: Tensor, of_y: Tensor, alpha: float, ridge: float, folds: Folds) -> float:
    """The objective on rows left out of the fit."""
    total = 0.0
    for out_x, out_y in folds:
        theta = _solve(without(of_x, out_x), without(of_y, out_y), alpha, ridge)
        r_x, r_y = of_x[out_x] @ theta, of_y[out_y] @ theta
        squares = alpha * r_x.square().mean() + (1 - alpha) * r_y.square().mean()
        total += float(squares / 2 - r_x.mean())
    return total


def _leave_one_out(of_x: Tensor, of_y: Tensor, ridge: float) -> float:
    """The objective of uLSIF over pairs (x_i, y_i) left out one at a time, in closed form.

    With B = H + λ(m − 1)/m I, leaving out y_i is a change of B of rank one, whose inverse
    Sherman and Morrison give (Kanamori et al. 2009, section 3.3).
    """
    n, m, pairs = len(of_x), len(of_y), min(len(of_x), len(of_y))
    eye = torch.eye(of_x.shape[-1], dtype=of_x.dtype)
    system = of_y.mT @ of_y / m + ridge * (m - 1) / m * eye
    first, second = of_x[:pairs], of_y[:pairs]  # (pairs, basis), left out row by row
    right = (of_x.sum(0) - first) / (n - 1)  # ĥ without x_i
    solved = torch.linalg.solve(system, torch.cat([right, second]).mT).mT
    of_right, of_second = solved[:pairs], solved[pairs:]
    share = m - (second * of_second).sum(-1, keepdim=True)
    theta = of_right + of_second * (second * of_right).sum(-1, keepdim=True) / share
    theta = (theta * (m - 1) / m).clamp(min=0.0)
    r_x, r_y = (first * theta).sum(-1), (second * theta).sum(-1)
    return float((r_y.square() / 2 - r_x).mean())


def kliep(x: Tensor, y: Tensor, basis: int, folds: Folds, generator: torch.Generator) -> Fit:
    """The ratio as a sum of Gaussians at points of x, of greatest mean logarithm over x.

    Normalised to mean one over y. The bandwidth maximises the same objective on points of x left
    out of the fit.

    References:
        Sugiyama et al. (2008), "Direct importance estimation for covariate shift adaptation".
    """
    centres = _centres(x, basis, generator)
    trials = []
    for bandwidth in _bandwidths(x, y):
        of_x, of_y = (Gaussian(bandwidth)(z, centres) for z in (x, y))
        least = 1 / (len(x) + len(y))
        score = 0.0
        for out, _ in folds:
            theta = _mixture(without(of_x, out), of_y)
            score += float((of_x[out] @ theta).clamp(min=least).log().mean())
        trials.append((score, bandwidth))
    kernel = Gaussian(max(trials)[1])

    def fit(x: Tensor, y: Tensor) -> LogRatio:
        theta = _mixture(kernel(x, centres), kernel(y, centres))
        least = 1 / (len(x) + len(y))
        return lambda at: (kernel(at, centres) @ theta).clamp(min=least).log()

    return fit


def _mixture(of_x: Tensor, of_y: Tensor) -> Tensor:
    """Coefficients of KLIEP by expectation maximisation.

    With β_l = θ_l mean φ_l(y), which sum to one, the ratio is a mixture of the components
    φ_l / mean φ_l(y) with proportions β: the classical update never lowers the objective.
    """
    mass = of_y.mean(0)
    used = mass > 1e-12  # a centre that no point of y sees would have any height
    parts = torch.where(used, of_x / torch.where(used, mass, 1.0), 0.0)
    beta = used.double() / used.double().sum().clamp(min=1.0)
    before = -math.inf
    for step in range(EM_STEPS):
        ratio = (parts @ beta).clamp(min=1e-300)
        beta = beta * (parts / ratio.unsqueeze(-1)).mean(0)
        beta = beta / beta.sum().clamp(min=1e-300)
        if step % 10 == 0:
            now = float(ratio.log().mean())
            if now - before < EM_GAIN:
                break
            before = now
    return torch.where(used, beta / torch.where(used, mass, 1.0), 0.0)


def without(rows: Tensor, out: Tensor) -> Tensor:
    """The other rows."""
    kept = torch.ones(len(rows), dtype=torch.bool)
    kept[out] = False
    return rows[kept]


def _centres(x: Tensor, basis: int, generator: torch.Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=generator)[:basis]]


def _bandwidths(x: Tensor, y: Tensor) -> list[float]:
    median = float(median_bandwidth(x, y))
    return [scale * median for scale in SCALES]
