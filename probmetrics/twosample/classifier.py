"""Classifier tests: can anything tell the samples apart on points it was not trained on?"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics._arrays import SamplesX, SamplesY
from probmetrics.pairwise.kernels import Linear
from probmetrics.twosample.columns import table_test
from probmetrics.twosample.design import Pooled, pair, pooled, random_half
from probmetrics.twosample.kernel import pooled_gaussian
from probmetrics.twosample.kernel_statistic import wide
from probmetrics.twosample.labelings import Labelings
from probmetrics.twosample.permutation import (
    Generator,
    PermutationOptions,
    Permutations,
    run_test,
)
from probmetrics.twosample.result import TestResult
from probmetrics.twosample.statistics import BUDGET, AbstractPrepared, AbstractStatistic

STATISTICS = ("logit", "auc", "accuracy")
BUILT_IN = ("kernel", "linear")


@table_test
def classifier_test(
    x: SamplesX,
    y: SamplesY,
    *,
    classifier: Any = "kernel",
    statistic: str = "logit",
    folds: int | None = None,
    refit: bool = True,
    ridge: float = 0.01,
    permutations: Permutations = 999,
    generator: Generator = None,
    level: float = 0.05,
    strata: tuple[Any, Any] | None = None,
    paired: bool = False,
    batch: int | None = None,
    progress: bool | None = None,
) -> TestResult:
    """Permutation test with a classifier's success on points it was not trained on (C2ST).

    Every point gets a score from a classifier trained on the other folds. The labelings go
    through the same procedure, training included, so the p-value is honest at any sample size,
    with any classifier, and without a normal approximation of cross-validated accuracy.

    For the built-in classifiers, least squares on the labels with a ridge, the scores of held-out
    points are a fixed matrix times the labels: all labelings, refitted, cost one matrix product.

    Args:
        x: Sample, shape (n, d), n ≥ 2.
        y: Sample, shape (m, d), m ≥ 2.
        classifier: ``"kernel"`` (ridge in the space of a Gaussian kernel with the median
            bandwidth), ``"linear"`` (ridge on standardised coordinates), or a scikit-learn
            classifier, which is cloned and trained for each labeling and fold.
        statistic: ``"logit"``: mean score of x's points less that of y's; ``"auc"``: the chance
            that a point of x scores above one of y; ``"accuracy"``: share of points assigned to
            their own sample.
        folds: Folds of the cross-fitting, at most N; None is 5, or N where that is less. Drawn
            without regard to the labels.
        refit: Train for every labeling. With ``False`` a scikit-learn classifier is trained once,
            on half of each sample, and only labels of the other half are exchanged: exact too,
            and quick, with the power of half the data.
        ridge: Penalty of the built-in classifiers, relative to the kernel's mean diagonal.
        permutations: B random labelings (all are enumerated where there are at most B), or
            ``"auto"`` to draw until the p-value is clear of ``level``.
        generator: Generator or seed of the folds and then the labelings.
        level: Level to compare with, for warnings and for ``"auto"``.
        strata: (labels of x's points, labels of y's points); exchange within equal labels only.
        paired: x_i and y_i are a pair; exchange within pairs only.
        batch: Labelings per batch; changes memory, not the answer.
        progress: Progress bar; ``None`` shows one on a terminal when the work is long.

    Returns:
        A ``TestResult``; ``effect_size`` is 2 AUC − 1 on held-out points: 1 where the samples can
        be told apart, about 0 where not. ``details`` has ``auc`` and ``accuracy``.

    Raises:
        ValueError: Fewer than two points, NaN, different d or columns, unknown names.
        TypeError: A classifier without ``fit`` and without scores.

    Notes:
        Built in: O(N² d + N³) once and 2 N² B flops, memory 8 N² bytes. Otherwise folds · (B + 1)
        trainings.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 60, 2, generator=g)
        >>> result = classifier_test(x, 2 * y, generator=0)
        >>> result.pvalue <= 0.01, 0.5 < result.details["auc"] < 1
        (True, True)

    References:
        Lopez-Paz, Oquab (2017), Revisiting classifier two-sample tests; Kim, Ramdas, Singh,
        Wasserman (2021), Classification accuracy as a proxy for two-sample testing (permutation
        calibration); Cheng, Cloninger (2022), Classification logit two-sample testing.
    """
    checks.choice(statistic, "statistic", STATISTICS)
    x, y = pair(x, y)
    options = PermutationOptions(
        permutations=permutations, generator=generator, level=level, batch=batch, progress=progress
    )
    options = replace(options, generator=options.source())
    sample = pooled(x, y, strata=strata, paired=paired)
    sample = replace(sample, z=wide(sample.z))
    name, shown = f"classifier ({statistic})", classifier
    if isinstance(classifier, str):
        checks.choice(classifier, "classifier", BUILT_IN)
        fold = _folds(len(sample.z), folds, options.source())
        made = RidgeScores(fold, classifier, checks.positive(ridge, "ridge"), statistic)
        result = run_test(made, sample, options, method=name)
    elif refit:
        fold = _folds(len(sample.z), folds, options.source())
        refitted = RefitScores(_trained_anew(classifier, options.source()), fold, statistic)
        result = run_test(refitted, sample, options, method=name)
    else:
        result = _split_test(classifier, statistic, sample, options, name)
    return replace(result, details={**result.details, "classifier": repr(shown)})


def _folds(points: int, folds: int | None, source: torch.Generator) -> Tensor:
    """The fold of each point, shape (N,): equally large, in random order."""
    wanted = min(5, points) if folds is None else folds
    folds = checks.count(wanted, "folds", minimum=2, maximum=points)
    order = torch.randperm(points, generator=source, device=source.device).cpu()
    return (torch.arange(points) % folds)[order]


class _PreparedScores(AbstractPrepared):
    """Scores of held-out points for each labeling, and how well they tell the groups apart."""

    tolerance = 1e-9
    statistic: str

    def scores(self, labels: Tensor) -> Tensor:
        """Score of each held-out point for group 0, above zero if assigned to it, shape (B, N)."""
        raise NotImplementedError

    def evaluate(self, labels: Tensor) -> Tensor:
        return separation(self.scores(labels), labels, self.statistic)

    def effect(self, labels: Tensor) -> float | None:
        """2 AUC − 1."""
        return 2 * float(separation(self.scores(labels[None]), labels[None], "auc")[0]) - 1

    def details(self, labels: Tensor) -> dict[str, Any]:
        """The area under the curve, and the accuracy, on held-out points."""
        scores = self.scores(labels[None])
        return {
            name: float(separation(scores, labels[None], name)[0]) for name in ("auc", "accuracy")
        }


def separation(scores: Tensor, labels: Tensor, statistic: str) -> Tensor:
    """How far scores separate group 0 (high) from group 1, shape (B,).

    Args:
        scores: Shape (B, N), above zero where group 0 is likelier.
        labels: Group numbers, shape (B, N).
        statistic: One of ``STATISTICS``.
    """
    first = labels.to(scores.device) == 0
    n, m = first.sum(-1), (~first).sum(-1)
    if statistic == "accuracy":
        return ((scores > 0) == first).double().mean(-1)
    if statistic == "auc":
        ranks = _midranks(scores)
        return ((ranks * first).sum(-1) - n * (n + 1) / 2) / (n * m)
    return (scores * first).sum(-1) / n - (scores * ~first).sum(-1) / m


def _midranks(scores: Tensor) -> Tensor:
    """Ranks 1, 2, … along the last axis, ties sharing their mean."""
    ordered = scores.sort(-1).values.contiguous()
    below = torch.searchsorted(ordered, scores.contiguous())
    upto = torch.searchsorted(ordered, scores.contiguous(), right=True)
    return (below + upto + 1).double() / 2


@dataclass(frozen=True)
class RidgeScores(AbstractStatistic):
    """Cross-fitted ridge regression of ±1 labels: held-out scores are linear in the labels.

    Attributes:
        fold: Fold of each pooled point, shape (N,).
        features: ``"kernel"`` or ``"linear"``.
        ridge: Penalty relative to the mean diagonal of the centred kernel matrix.
        statistic: One of ``STATISTICS``.
    """

    fold: Tensor
    features: str
    ridge: float
    statistic: str

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedRidge":
        """Solve for the map from labels to held-out scores, once."""
        if self.features == "linear":
            spread = z.std(0)
            gram = Linear()((z - z.mean(0)) / torch.where(spread > 0, spread, 1.0))
        else:
            gram = pooled_gaussian(z)(z)
        return _PreparedRidge(held_out_map(gram, self.fold, self.ridge), self.statistic)


class _PreparedRidge(_PreparedScores):
    def __init__(self, smoother: Tensor, statistic: str) -> None:
        self.smoother, self.statistic = smoother, statistic
        self.batch = max(1, BUDGET // (32 * len(smoother)))

    def scores(self, labels: Tensor) -> Tensor:
        signs = 1.0 - 2.0 * labels.to(self.smoother.device, torch.float64)
        return signs @ self.smoother.mT


def held_out_map(gram: Tensor, fold: Tensor, ridge: float) -> Tensor:
    """H with H·labels = predictions of kernel ridge regression for points of held-out folds.

    For the points S of a fold and the others T: mean of the labels of T, plus
    K_ST (K_TT + ridge · t · |T| · I)⁻¹ of their deviations from it, with K centred at T and t the
    mean diagonal of K_TT.
    """
    answer = torch.zeros_like(gram)
    for number in range(int(fold.max()) + 1):
        held = (fold == number).nonzero()[:, 0].to(gram.device)
        rest = (fold != number).nonzero()[:, 0].to(gram.device)
        inner, outer = gram[rest][:, rest], gram[held][:, rest]
        column = inner.mean(0)
        outer = outer - outer.mean(1, keepdim=True) - column + column.mean()
        inner = inner - column - column[:, None] + column.mean()
        penalty = ridge * float(inner.diagonal().mean()) * len(rest)
        inner.diagonal().add_(penalty if penalty > 0 else 1.0)
        weights = torch.cholesky_solve(outer.mT, torch.linalg.cholesky(inner)).mT
        weights = weights - weights.mean(1, keepdim=True) + 1 / len(rest)
        answer[held[:, None], rest] = weights
    return answer


@dataclass(frozen=True)
class RefitScores(AbstractStatistic):
    """Any scikit-learn classifier, cross-fitted anew for every labeling.

    Attributes:
        classifier: Has ``fit`` and ``decision_function`` or ``predict_proba``.
        fold: Fold of each pooled point, shape (N,).
        statistic: One of ``STATISTICS``.
    """

    classifier: Any
    fold: Tensor
    statistic: str

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedRefit":
        """Bind to the pooled points."""
        return _PreparedRefit(self, z.cpu().numpy())


class _PreparedRefit(_PreparedScores):
    batch = 16

    def __init__(self, made: RefitScores, z: np.ndarray) -> None:
        self.made, self.z, self.statistic = made, z, made.statistic

    def scores(self, labels: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([self._one(row) for row in labels.cpu().numpy()]))

    def _one(self, labels: np.ndarray) -> np.ndarray:
        fold, scores = self.made.fold.numpy(), np.empty(len(labels))
        for number in range(fold.max() + 1):
            rest, held = fold != number, fold == number
            scores[held] = _fit_and_score(
                self.made.classifier, self.z[rest], labels[rest] == 0, self.z[held]
            )
        return scores


def _trained_anew(classifier: Any, source: torch.Generator) -> Any:
    """A clone whose own randomness comes from our generator, not from NumPy's global one."""
    from sklearn.base import clone

    if not hasattr(classifier, "fit") or not (
        hasattr(classifier, "decision_function") or hasattr(classifier, "predict_proba")
    ):
        raise TypeError(
            "classifier must be 'kernel', 'linear' or a scikit-learn classifier with "
            f"decision_function or predict_proba, got {type(classifier).__name__}"
        )
    made = clone(classifier)
    free = [
        name
        for name, value in made.get_params().items()
        if (name == "random_state" or name.endswith("__random_state")) and value is None
    ]
    device = source.device
    seed = int(torch.randint(2**31 - 1, (1,), generator=source, device=device))
    return made.set_params(**dict.fromkeys(free, seed))


def _fit_and_score(
    classifier: Any, train: np.ndarray, first: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Scores of test points for the first group: decision values or log-odds."""
    from sklearn.base import clone

    if first.all() or not first.any():  # nothing to learn from one class
        return np.full(len(test), 1.0 if first.all() else -1.0)
    fitted = clone(classifier).fit(train, first)
    if hasattr(fitted, "decision_function"):
        return np.asarray(fitted.decision_function(test), dtype=np.float64)
    chance = np.clip(np.asarray(fitted.predict_proba(test), dtype=np.float64), 1e-6, 1 - 1e-6)
    odds: np.ndarray = np.log(chance[:, 1]) - np.log(chance[:, 0])
    return odds


def _split_test(
    classifier: Any, statistic: str, sample: Pooled, options: PermutationOptions, method: str
) -> TestResult:
    """Train once on half of each sample; exchange the labels of the other half."""
    source = options.source()
    labelings = sample.labelings
    if labelings.paired or labelings.strata is not None:
        raise ValueError("refit=False splits the samples at random; use refit=True with a design")
    made = _trained_anew(classifier, source)
    labels, train = labelings.observed, random_half(labelings, source)
    z = sample.z.cpu().numpy()
    first = labels.numpy() == 0
    scores = _fit_and_score(made, z[train.numpy()], first[train.numpy()], z[~train.numpy()])
    held = Pooled(torch.from_numpy(scores)[:, None], Labelings(labels[~train]))
    result = run_test(_GivenScores(statistic), held, options, method=f"{method}, split")
    return replace(result, n=sample.sizes)


@dataclass(frozen=True)
class _GivenScores(AbstractStatistic):
    """Scores that do not depend on the labels: those of points kept from training."""

    statistic: str

    def prepare(self, z: Tensor, sizes: tuple[int, ...]) -> "_PreparedGiven":
        return _PreparedGiven(z[:, 0], self.statistic)


class _PreparedGiven(_PreparedScores):
    def __init__(self, given: Tensor, statistic: str) -> None:
        self.given, self.statistic = given, statistic
        self.batch = max(1, BUDGET // (32 * len(given)))

    def scores(self, labels: Tensor) -> Tensor:
        return self.given.expand(len(labels), -1)
