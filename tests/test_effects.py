"""Effect sizes: closed forms, agreement with SciPy, coverage, constant and separate samples."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
import torch

from probmetrics.discrepancy import energy_distance, mmd
from probmetrics.pairwise.kernels import Gaussian
from probmetrics.twosample import effect_sizes, energy_coefficient, mmd_coefficient


def draw(n, m, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) * 1.3 + 0.5


def test_values_are_the_textbook_ones():
    x, y = draw(12, 17)
    sizes = effect_sizes(x, y)
    n, m = len(x), len(y)
    pooled = np.sqrt(((n - 1) * x.var(0, ddof=1) + (m - 1) * y.var(0, ddof=1)) / (n + m - 2))
    cohen = (y.mean(0) - x.mean(0)) / pooled
    np.testing.assert_allclose(sizes.cohen_d.value, cohen)
    np.testing.assert_allclose(sizes.hedges_g.value, cohen * (1 - 3 / (4 * 27 - 1)), rtol=1e-3)
    auc = (y[:, None] > x).mean((0, 1))
    np.testing.assert_allclose(sizes.auc.value, auc)
    np.testing.assert_allclose(sizes.cliffs_delta.value, 2 * auc - 1)
    for j in range(3):
        column = x[:, [j]], y[:, [j]]
        across = np.abs(column[0] - column[1].T).mean()
        expected = energy_distance(*column, unbiased=True) / (2 * across)
        assert sizes.energy.value[j] == pytest.approx(expected)
        pvalue = scipy.stats.brunnermunzel(*(c[:, 0] for c in column)).pvalue
        assert sizes.pvalues[j] == pytest.approx(pvalue)
    assert sizes.energy_overall.value == pytest.approx(energy_coefficient(x, y))


def test_no_pvalue_is_below_that_of_samples_that_do_not_overlap():
    x = np.arange(30.0)[:, None]
    y = x + 29.0  # one tie, and every other pair in one order
    apart = effect_sizes(x, y + 1.0).pvalues[0]
    assert apart == pytest.approx(2 / scipy.special.comb(60, 30))
    assert scipy.stats.brunnermunzel(x[:, 0], y[:, 0]).pvalue < apart
    assert effect_sizes(x, y).pvalues[0] == apart


def test_coefficients_have_their_closed_forms():
    x, y = draw(9, 14)
    kernel = Gaussian(1.0)
    xx, yy, xy = (
        np.exp(-((a[:, None] - b) ** 2).sum(-1) / 2).mean() for a, b in ((x, x), (y, y), (x, y))
    )
    biased = mmd_coefficient(x, y, kernel=kernel, unbiased=False)
    assert biased == pytest.approx(1 - 2 * xy / (xx + yy))
    squared = mmd(x, y, kernel=kernel)
    assert mmd_coefficient(x, y, kernel=kernel) == pytest.approx(squared / (squared + 2 * xy))
    assert energy_coefficient(x * 7 + 3, y * 7 + 3) == pytest.approx(energy_coefficient(x, y))
    assert energy_coefficient(np.zeros((4, 2)), np.ones((3, 2))) == 1.0
    assert energy_coefficient(np.ones((4, 2)), np.ones((3, 2))) == 0.0


def test_coefficients_take_weights_and_gradients():
    x, y = (torch.from_numpy(v) for v in draw(5, 6, d=2))
    a = torch.tensor([0.5, 0.25, 0.25, 0.0, 0.0], dtype=torch.float64)
    repeated = x[[0, 0, 1, 2]]
    for function in (
        energy_coefficient,
        lambda *s, **o: mmd_coefficient(*s, kernel=Gaussian(1.0), **o),
    ):
        weighted = function(x, y, a=a, unbiased=False)
        torch.testing.assert_close(weighted, function(repeated, y, unbiased=False))
        assert torch.autograd.gradcheck(function, (x.clone().requires_grad_(), y))


@pytest.mark.parametrize(("n", "m", "shift", "scale"), [(15, 15, 0.5, 1.0), (10, 30, 2.0, 1.5)])
def test_intervals_cover(n, m, shift, scale):
    """Many features are many repetitions."""
    rng, reps = np.random.default_rng(4), 400
    x, y = rng.normal(size=(n, reps)), shift + scale * rng.normal(size=(m, reps))
    sizes = effect_sizes(x, y, simultaneous=False)
    truth = shift / np.sqrt((n + m * scale**2) / (n + m))
    auc = scipy.stats.norm.cdf(shift / np.sqrt(1 + scale**2))
    for interval, value in ((sizes.hedges_g, truth), (sizes.auc, auc)):
        covered = ((interval.low <= value) & (value <= interval.high)).mean()
        assert 0.9 <= covered <= 0.99
    jointly = effect_sizes(x, y)
    assert (jointly.auc.low < sizes.auc.low).all()
    assert (jointly.adjusted >= jointly.pvalues).all()


def test_separate_and_constant_samples():
    x, y = np.arange(6.0)[:, None], np.arange(5.0)[:, None] + 10
    apart = effect_sizes(x, y)
    assert apart.auc.value[0] == apart.auc.high[0] == 1.0
    assert 0.4 < apart.auc.low[0] < 0.95
    assert apart.pvalues[0] == pytest.approx(2 / 462)
    flat = effect_sizes(np.ones((5, 2)) * 0.1, np.ones((7, 2)) * 0.1)
    for name in ("cohen_d", "cliffs_delta", "energy"):
        interval = getattr(flat, name)
        assert (interval.value == 0).all()
        assert np.isfinite([interval.low, interval.high]).all()
    assert (flat.pvalues == 1).all()
    assert (flat.auc.value == 0.5).all()


def test_exchange_turns_signs_and_offsets_cost_little():
    x, y = draw(20, 30)
    one, other = effect_sizes(x, y), effect_sizes(y, x)
    np.testing.assert_allclose(one.cohen_d.low, -other.cohen_d.high)
    np.testing.assert_allclose(one.auc.low, 1 - other.auc.high, atol=1e-9)
    np.testing.assert_allclose(one.adjusted, other.adjusted, rtol=1e-9)
    moved = effect_sizes(x + 1e8, y + 1e8)
    np.testing.assert_allclose(moved.cohen_d.value, one.cohen_d.value, rtol=1e-5)
    np.testing.assert_allclose(moved.energy.value, one.energy.value, rtol=1e-4, atol=1e-6)
    tensors = effect_sizes(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(tensors.energy.high.numpy(), one.energy.high)


def test_names_reach_the_table_and_the_picture():
    x, y = (pd.DataFrame(v, columns=["age", "height", "dose"]) for v in draw(20, 30))
    y["dose"] += 2
    sizes = effect_sizes(x, y)
    assert sizes.columns[sizes.order()[0]] == "dose"
    assert "dose" in repr(sizes).splitlines()[3]
    assert json.loads(json.dumps(sizes.to_dict()))["columns"] == ["age", "height", "dose"]
    assert sizes.plot(measure="auc").get_yticklabels()[0].get_text() == "dose"


def test_bad_input_is_refused():
    x, y = draw(5, 5)
    with pytest.raises(ValueError, match="at least 3"):
        effect_sizes(x[:2], y)
    with pytest.raises(ValueError, match="nan"):
        effect_sizes(x * np.nan, y)
    with pytest.raises(ValueError, match="y has 2"):
        effect_sizes(x, y[:, :2])
    with pytest.raises(ValueError, match="3 names"):
        effect_sizes(x, y, columns=["a"])
    with pytest.raises(ValueError, match="level"):
        effect_sizes(x, y, level=1.0)
    with pytest.raises(ValueError, match="unknown measure"):
        effect_sizes(x, y).plot(measure="glass")
