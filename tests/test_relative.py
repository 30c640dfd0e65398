"""The relative test: its distances and covariance, sign, calibration where models are equal."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from probmetrics.discrepancy import energy_distance, mmd
from probmetrics.pairwise.kernels import Distance, Gaussian, Polynomial
from probmetrics.twosample import relative_test
from probmetrics.twosample.design import pooled
from probmetrics.twosample.relative_statistic import PreparedRelative


def draw(n, m, k, d=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, y, z = (torch.randn(size, d, generator=g, dtype=torch.float64) for size in (n, m, k))
    return x, y + 0.3, z + 0.9


@pytest.fixture
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def bound(reps, level, risk=1e-3):
    return scipy.stats.binom.ppf(1 - risk, reps, level)


@pytest.mark.parametrize("kernel", [Gaussian(1.3), Distance(1.2), Polynomial(2)], ids=repr)
@pytest.mark.parametrize("sizes", [(40, 30, 30), (9, 25, 300)])
def test_distances_are_those_of_the_estimator(kernel, sizes):
    x, y, z = draw(*sizes)
    result = relative_test(x, y, z, kernel=kernel, generator=0, permutations=19)
    expected = [float(mmd(x, other, kernel=kernel)) for other in (y, z)]
    assert result.distances == pytest.approx(expected, rel=1e-9)
    assert float(result.difference.value) == pytest.approx(expected[0] - expected[1], rel=1e-9)
    assert result.closer == "y"
    spread = result.covariance
    var = float(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1])
    assert var == pytest.approx(float(result.difference.standard_error) ** 2, rel=1e-9)
    assert result.statistic == pytest.approx(float(result.difference.value) / var**0.5)


def test_energy_distances_come_with_the_distance_kernel():
    x, y, z = draw(30, 20, 25)
    result = relative_test(x, y, z, kernel=Distance(), permutations=19, generator=0)
    gap = energy_distance(x, y, unbiased=True) - energy_distance(x, z, unbiased=True)
    assert float(result.difference.value) == pytest.approx(float(gap) / 2, rel=1e-9)


def test_the_covariance_is_that_of_repeated_samples():
    kernel, rng = Gaussian(1.0), np.random.default_rng(5)
    values, claimed = [], []
    for _ in range(200):
        x, y, z = rng.normal(size=(3, 40, 1)) + np.array([0.0, 1.0, 1.5])[:, None, None]
        result = relative_test(x, y, z, kernel=kernel, calibration="normal")
        values.append(result.distances)
        claimed.append(result.covariance)
    observed, mean = np.cov(np.array(values).T), np.mean(claimed, axis=0)
    np.testing.assert_allclose(mean, observed, rtol=0.3)
    assert observed[0, 1] > 0.3 * observed[0, 0]  # x is common: independence would be wrong


def test_many_labelings_at_once_equal_one_each(monkeypatch):
    from probmetrics.twosample import relative_statistic

    monkeypatch.setattr(relative_statistic, "ROWS", 7)
    x, y, z = draw(16, 12, 15)
    models = pooled(y, z)
    prepared = PreparedRelative(x, models, Gaussian(1.0), "z")
    labels = torch.cat(list(models.labelings.draw(torch.Generator().manual_seed(0), 12)))
    together = prepared.evaluate(labels)
    for row, value in zip(labels, together, strict=True):
        alone = relative_test(
            x, models.z[row == 0], models.z[row == 1], kernel=Gaussian(1.0), calibration="normal"
        )
        assert alone.statistic == pytest.approx(float(value), rel=1e-6)


def test_exchanging_the_models_turns_the_sign():
    x, y, z = draw(30, 20, 20)
    one = relative_test(x, y, z, generator=3, permutations=99)
    other = relative_test(x, z, y, generator=3, permutations=99)
    assert one.pvalue == other.pvalue
    assert one.statistic == pytest.approx(-other.statistic)
    assert (one.closer, other.closer) == ("y", "z")
    claims = {a: relative_test(x, y, z, alternative=a, generator=3).pvalue for a in ("y", "z")}
    assert claims["y"] < 0.05 < 0.9 < claims["z"]


@pytest.mark.usefixtures("one_thread")
def test_size_is_kept_where_models_are_equally_far():
    """Equal models; the same as the data; and different ones on either side of it."""
    rng, reps = np.random.default_rng(1), 60
    counts = {}
    shifts = {"equal": (1.0, 1.0), "all equal": (0.0, 0.0), "either side": (0.8, -0.8)}
    for name, (right, left) in shifts.items():
        pvalues = []
        for rep in range(reps):
            x, y, z = rng.normal(size=(3, 25, 2))
            y[:, 0] += right
            z[:, 0] += left
            kernel = Distance() if rep % 2 else None
            result = relative_test(x, y, z, kernel=kernel, permutations=39, generator=rep)
            pvalues.append(result.pvalue)
        for level in (0.05, 0.1, 0.3):
            counts[name, level] = sum(p <= level for p in pvalues)
            assert counts[name, level] <= bound(reps, level), (name, level)
    assert counts["either side", 0.3] >= reps - bound(reps, 0.7)  # and not a test that never speaks


@pytest.mark.filterwarnings("ignore:all 20")
def test_permutation_is_exact_for_equal_models_of_three_points():
    rng = np.random.default_rng(2)
    pvalues = []
    for _ in range(200):
        x, z = rng.normal(size=(2, 3, 2))
        y = rng.normal(size=(3, 2))
        result = relative_test(x + 2, y, z, calibration="permutation")
        assert result.exact
        assert result.permutations == 20
        pvalues.append(result.pvalue)
    count = sum(p <= 0.1 + 1e-12 for p in pvalues)
    assert 200 - bound(200, 0.9) <= count <= bound(200, 0.1)


def test_the_interval_covers_the_difference():
    # MMD² of N(0,1) and N(1, σ²) with a Gaussian kernel of bandwidth 1 (table of the methods).
    truth, rng, hits = 0.17726763 - 0.15947048, np.random.default_rng(3), 0
    for _ in range(100):
        x, y, z = rng.normal(size=(3, 60, 1))
        result = relative_test(x, y + 1, 2 * z + 1, kernel=Gaussian(1.0), calibration="normal")
        hits += result.difference.low <= truth <= result.difference.high
    assert hits >= 88


def test_offsets_kinds_and_tables_agree():
    x, y, z = draw(30, 20, 25)
    reference = relative_test(x, y, z, kernel=Gaussian(1.0), generator=0)
    moved = [v.float() + 1e4 for v in (x, y, z)]
    assert relative_test(*moved, kernel=Gaussian(1.0), generator=0).statistic == pytest.approx(
        reference.statistic, rel=2e-2
    )
    frames = [pd.DataFrame(v.numpy(), columns=["a", "b"]) for v in (x, y, z)]
    named = relative_test(*frames, kernel=Gaussian(1.0), generator=0, batch=7)
    assert named.columns == ("a", "b")
    assert named.pvalue == reference.pvalue
    assert isinstance(named.covariance, np.ndarray)
    assert "closer='y'" in repr(named)
    assert json.loads(json.dumps(named.to_dict()))["columns"] == ["a", "b"]
    assert named.plot() is not None
    with pytest.raises(ValueError, match="different orders"):
        relative_test(frames[0], frames[1], frames[2][["b", "a"]])


def test_bad_input_is_refused():
    x, y, z = draw(10, 10, 10)
    with pytest.raises(ValueError, match="z has 1 point"):
        relative_test(x, y, z[:1])
    with pytest.raises(ValueError, match="z has 3"):
        relative_test(x, y, torch.zeros(5, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="nan at row 2"):
        relative_test(x, y.index_fill(0, torch.tensor([2]), torch.nan), z)
    with pytest.raises(ValueError, match="two-sided, y, z"):
        relative_test(x, y, z, alternative="less")
    with pytest.raises(ValueError, match="unknown calibration"):
        relative_test(x, y, z, calibration="bootstrap")
    with pytest.raises(TypeError, match="kernel must be"):
        relative_test(x, y, z, kernel="energy")
    with pytest.raises(ValueError, match="one sample each"):
        relative_test(x[None], y[None], z[None])
    with pytest.warns(UserWarning, match="impossible"):
        relative_test(x, y, z, permutations=9, generator=0)
    same = relative_test(np.ones((4, 2)), np.ones((4, 2)), np.ones((5, 2)))
    assert (same.pvalue, same.closer, same.statistic) == (1.0, None, 0.0)


def test_equal_models_are_equally_close():
    x, y, _ = draw(20, 25, 2)
    result = relative_test(x, y, y.clone(), generator=0, permutations=99)
    assert result.closer is None
    assert result.pvalue == 1.0
