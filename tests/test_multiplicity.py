"""Adjusted and combined p-values against SciPy, definitions and simulation."""

import numpy as np
import pytest
import scipy.stats
import torch

from probmetrics.twosample import adjust_pvalues, combine_pvalues
from probmetrics.twosample.multiplicity import METHODS


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape) ** 2


def by_definition(p, method):
    k, order = len(p), np.argsort(p)
    s, answer = p[order], np.empty(len(p))
    for i in range(k):
        if method == "holm":
            value = max((k - j) * s[j] for j in range(i + 1))
        elif method == "hochberg":
            value = min((k - j) * s[j] for j in range(i, k))
        else:
            value = k * s[i]
        answer[order[i]] = min(value, 1)
    return answer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 2, 9])
def test_adjusted_pvalues(method, k):
    p = draw(k)
    if k == 9:
        p[3] = p[5]
        p[0], p[1] = 0.0, 1.0
    if method in ("bh", "by"):
        expected = scipy.stats.false_discovery_control(p, method=method)
    else:
        expected = by_definition(p, method)
    np.testing.assert_allclose(adjust_pvalues(p, method=method), expected)
    assert np.all(adjust_pvalues(p, method=method) >= p)


@pytest.mark.parametrize("method", METHODS)
def test_batches_and_tensors(method):
    p = draw(4, 3, 6)
    batched = adjust_pvalues(p, method=method)
    looped = [[adjust_pvalues(row, method=method) for row in rows] for rows in p]
    np.testing.assert_array_equal(batched, looped)
    tensor = adjust_pvalues(torch.tensor(p), method=method)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor, batched)


def test_combinations_agree_with_scipy():
    p = draw(5, 7)
    fisher = [scipy.stats.combine_pvalues(row, method="fisher").pvalue for row in p]
    np.testing.assert_allclose(combine_pvalues(p, method="fisher"), fisher)
    w = draw(7, seed=1)
    w = w / w.sum()
    t = (w * np.tan(np.pi * (0.5 - p))).sum(-1)
    np.testing.assert_allclose(combine_pvalues(p, weights=w), scipy.stats.cauchy.sf(t))
    np.testing.assert_allclose(
        combine_pvalues(p, method="bonferroni", weights=w), np.minimum((p / w).min(-1), 1)
    )


def test_cauchy_keeps_small_pvalues():
    # one p-value of 1e-200 among k counts as k times as much
    assert combine_pvalues([1e-200, 0.5, 0.5, 0.5]) == pytest.approx(4e-200)
    assert combine_pvalues([0.0, 0.5]) == 0.0
    assert combine_pvalues([1.0, 1.0]) == pytest.approx(1.0)
    assert combine_pvalues([1.0, 1e-300]) < 1e-3
    assert combine_pvalues([0.3]) == pytest.approx(0.3)
    assert combine_pvalues([0.0], method="fisher") == 0.0


def test_combinations_keep_their_level():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(4000, 1))
    dependent = scipy.stats.norm.sf(0.8 * common + 0.6 * rng.normal(size=(4000, 5)))
    for method, p in (
        ("cauchy", dependent),
        ("bonferroni", dependent),
        ("fisher", rng.uniform(size=(4000, 5))),
    ):
        rejected = (combine_pvalues(p, method=method) <= 0.01).sum()
        assert rejected <= scipy.stats.binom.ppf(
            0.999, 4000, 0.0115 if method == "cauchy" else 0.01
        )


def test_false_discoveries_are_few():
    rng = np.random.default_rng(0)
    p = scipy.stats.norm.sf(rng.normal(size=(500, 20)) + 3 * (np.arange(20) < 5))
    found = adjust_pvalues(p, method="bh") <= 0.1
    share = found[:, 5:].sum(1) / np.maximum(found.sum(1), 1)
    assert share.mean() <= 0.1 * 15 / 20 + 4 * share.std() / np.sqrt(500)
    assert (adjust_pvalues(p, method="holm") <= 0.1)[:, 5:].any(1).mean() <= 0.1 + 0.04


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adjust_pvalues([0.5, 1.2]), r"\[0, 1\]"),
        (lambda: adjust_pvalues([0.5, np.nan]), "nan"),
        (lambda: adjust_pvalues(np.empty(0)), "k >= 1"),
        (lambda: adjust_pvalues([0.5], method="sidak"), "bonferroni, holm"),
        (lambda: combine_pvalues([0.5, 0.2], weights=[0.5, 0.6]), "weights"),
        (lambda: combine_pvalues([0.5, 0.2], weights=[1.0]), "weights"),
        (lambda: combine_pvalues([0.5], weights=[1.0], method="fisher"), "no weights"),
        (lambda: combine_pvalues([0.5], method="stouffer"), "cauchy, fisher"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
