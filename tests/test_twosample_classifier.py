"""Classifier tests: held-out scores, exactness, calibration."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.kernel_ridge import KernelRidge
from sklearn.naive_bayes import GaussianNB

from probmetrics.pairwise.kernels import Gaussian
from probmetrics.twosample import classifier_test
from probmetrics.twosample.classifier import held_out_map, separation


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(n, m, d=2, shift=0.0, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), scale * rng.normal(size=(m, d)) + shift


def test_held_out_scores_agree_with_scikit_learn():
    # An unpenalised intercept is kernel ridge on centred features and labels.
    rng = np.random.default_rng(0)
    z, fold = rng.normal(size=(20, 2)), torch.arange(20) % 4
    signs = np.sign(rng.normal(size=20))
    gram = Gaussian(1.3)(torch.tensor(z)).numpy()
    found = held_out_map(torch.tensor(gram), fold, 0.05).numpy() @ signs
    for number in range(4):
        rest, held = fold.numpy() != number, fold.numpy() == number
        inner, outer = gram[np.ix_(rest, rest)], gram[np.ix_(held, rest)]
        centre = inner.mean(0)
        outer = outer - outer.mean(1, keepdims=True) - centre + centre.mean()
        inner = inner - centre - centre[:, None] + centre.mean()
        alpha = 0.05 * inner.diagonal().mean() * rest.sum()
        model = KernelRidge(alpha=alpha, kernel="precomputed")
        model.fit(inner, signs[rest] - signs[rest].mean())
        np.testing.assert_allclose(found[held], model.predict(outer) + signs[rest].mean())


def test_statistics_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(-3, 4, (5, 30)) * 1.0, rng.integers(0, 2, (5, 30))
    ours = {
        name: separation(torch.tensor(scores), torch.tensor(labels), name).numpy()
        for name in ("auc", "accuracy", "logit")
    }
    for row in range(5):
        first = labels[row] == 0
        auc = sklearn.metrics.roc_auc_score(first, scores[row])
        assert ours["auc"][row] == pytest.approx(auc)
        assert ours["accuracy"][row] == pytest.approx(((scores[row] > 0) == first).mean())
        gap = scores[row][first].mean() - scores[row][~first].mean()
        assert ours["logit"][row] == pytest.approx(gap)


@pytest.mark.parametrize(
    "classifier", ["kernel", "linear", LinearDiscriminantAnalysis(), GaussianNB()]
)
@pytest.mark.parametrize("statistic", ["logit", "auc", "accuracy"])
def test_shifts_are_found(classifier, statistic):
    x, y = draw(25, 35, shift=2.0)
    result = classifier_test(
        x, y, classifier=classifier, statistic=statistic, permutations=19, generator=0
    )
    assert result.pvalue == 0.05
    assert result.details["auc"] > 0.9
    assert result.effect_size == pytest.approx(2 * result.details["auc"] - 1)


def test_kernel_classifier_sees_scale_and_linear_does_not():
    x, y = draw(80, 80, scale=2.0)
    assert classifier_test(x, y, generator=0).pvalue <= 0.01
    assert classifier_test(x, y, classifier="linear", generator=0).pvalue > 0.05


@pytest.mark.parametrize("options", [{}, {"classifier": "linear", "statistic": "auc"}])
def test_same_pvalue_everywhere(options):
    x, y = draw(20, 20, shift=0.3)
    reference = classifier_test(x, y, generator=2, permutations=99, **options)
    others = [
        classifier_test(y, x, generator=2, permutations=99, **options),
        classifier_test(x, y, generator=2, permutations=99, batch=7, **options),
        classifier_test(torch.tensor(x), torch.tensor(y), generator=2, permutations=99, **options),
        classifier_test(x + 1e4, y + 1e4, generator=2, permutations=99, **options),
    ]
    assert [r.pvalue for r in others] == [reference.pvalue] * 4


def test_random_classifiers_leave_the_global_state_alone():
    x, y = draw(15, 15, shift=1.5)
    forest = RandomForestClassifier(n_estimators=5)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    results = [
        classifier_test(x, y, classifier=forest, permutations=9, generator=1, level=0.2)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert results[0].pvalue == results[1].pvalue
    assert forest.random_state is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"classifier": "linear", "statistic": "auc"},
        {"statistic": "accuracy"},
        {"classifier": GaussianNB(), "refit": False},
    ],
)
@pytest.mark.parametrize("kind", ["gaussian", "binary"])
def test_size_is_kept(options, kind):
    rng = np.random.default_rng(17)
    reps, pvalues = 120, []
    for rep in range(reps):
        z = rng.normal(size=(30, 2)) if kind == "gaussian" else rng.integers(0, 2, (30, 2)) * 1.0
        result = classifier_test(z[:10], z[10:], permutations=39, generator=rep, **options)
        pvalues.append(result.pvalue)
    for level in (0.05, 0.25):
        rejected = (np.array(pvalues) <= level).sum()
        assert rejected <= scipy.stats.binom.ppf(0.999, reps, level)


def test_split_trains_once():
    x, y = draw(40, 60, shift=1.5)
    result = classifier_test(x, y, classifier=GaussianNB(), refit=False, generator=0)
    assert result.pvalue == 0.001
    assert result.n == (40, 60)
    assert "split" in result.method
    with pytest.raises(ValueError, match="refit=True"):
        classifier_test(x, x + 1, classifier=GaussianNB(), refit=False, paired=True)


def test_bad_input_is_refused():
    x, y = draw(6, 6)
    with pytest.raises(ValueError, match="kernel, linear"):
        classifier_test(x, y, classifier="forest")
    with pytest.raises(ValueError, match="logit, auc, accuracy"):
        classifier_test(x, y, statistic="f1")
    with pytest.raises(TypeError, match="decision_function"):
        classifier_test(x, y, classifier=3)
    with pytest.raises(ValueError, match="folds"):
        classifier_test(x, y, folds=13)
    with pytest.raises(ValueError, match="ridge"):
        classifier_test(x, y, ridge=0.0)
    flat = np.ones((6, 2))
    assert classifier_test(flat, flat).pvalue == 1.0
    assert classifier_test(flat, flat, classifier="linear").pvalue == 1.0


def test_default_folds_fit_few_points():
    x, y = np.array([[0.0], [0.1]]), np.array([[5.0], [5.2]])
    assert classifier_test(x, y, generator=0, level=0.9).exact
    with pytest.raises(ValueError, match="folds must be at most 4"):
        classifier_test(x, y, folds=5)
