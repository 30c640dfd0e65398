"""Where samples differ: the decomposition of MMD², gradients, features, rows, clusters."""

import json

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from probmetrics.discrepancy import mmd, witness
from probmetrics.pairwise.kernels import Distance, Gaussian
from probmetrics.twosample import mmd_test, where_they_differ, witness_gradient

mpl.use("agg")


def draw(n, m, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d))


@pytest.mark.parametrize("kernel", [None, Gaussian(1.5), Distance()], ids=repr)
def test_points_add_up_to_the_mmd(kernel):
    x, y = draw(40, 60)
    y[:, 0] += 1
    found = where_they_differ(x, y, kernel=kernel)
    unit = np.concatenate([x, y]).std(0, ddof=1)
    np.testing.assert_allclose(found.scale, unit)
    expected = mmd(x / unit, y / unit, kernel=found.kernel, unbiased=False)
    assert found.mmd == pytest.approx(expected)
    parts = found.contributions()
    assert parts[0].sum() + parts[1].sum() == pytest.approx(expected)
    assert found.witness_x.mean() == pytest.approx(expected / 2)
    assert found.witness_y.mean() == pytest.approx(-expected / 2)


def test_gradients_are_those_of_the_witness():
    x, y = draw(12, 15)
    at = draw(6, 1, seed=3)[0]
    kernel = Gaussian(0.9)
    values, slopes = witness_gradient(x, y, at, kernel=kernel)
    np.testing.assert_allclose(values, witness(x, y, at, kernel=kernel))
    for j in range(3):
        step = np.zeros(3)
        step[j] = 1e-5
        up, down = (witness(x, y, at + s * step, kernel=kernel) for s in (1, -1))
        np.testing.assert_allclose(slopes[:, j], (up - down) / 2e-5, atol=1e-8)
    found = where_they_differ(x * [1, 10, 0.1], y * [1, 10, 0.1])
    plain = where_they_differ(x, y)
    np.testing.assert_allclose(found.gradient_x * [1, 10, 0.1], plain.gradient_x, atol=1e-10)


def test_batches_of_witnesses_are_those_of_a_loop():
    x, y = np.stack([draw(7, 9, seed=k)[0] for k in range(2)]), draw(7, 9)[1]
    kernel, at = Gaussian(0.9), draw(4, 1, seed=3)[0]
    values, slopes = witness_gradient(x, y, at, kernel=kernel)
    assert values.shape == (2, 4)
    assert slopes.shape == (2, 4, 3)
    np.testing.assert_allclose(witness(x, y, at, kernel=kernel), values)
    for k in range(2):
        one, slope = witness_gradient(x[k], y, at, kernel=kernel)
        np.testing.assert_allclose(values[k], one)
        np.testing.assert_allclose(slopes[k], slope)


def test_a_shift_is_found_in_its_feature_and_rows():
    x, y = draw(80, 90, d=5)
    y[:, 3] += 1.5
    y[7] = [0, 0, 0, 9, 0]
    found = where_they_differ(x, y, rows=4)
    assert found.importance.argmax() == 3
    assert found.importance.sum() == pytest.approx(1)
    assert found.features[0].index == 3
    assert found.features[0].adjusted_pvalue < 1e-6
    assert all(found.witness_x[list(found.rows_x)] > 0)
    assert all(x[list(found.rows_x), 3] < x[:, 3].mean())
    assert len(found.rows_y) == 4
    assert (np.diff(found.witness_y[list(found.rows_y)]) >= 0).all()


def test_importance_sees_what_no_feature_shows_alone():
    x, y = draw(250, 250, d=4, seed=1)
    y[:, 2] = 0.95 * y[:, 1] + 0.3 * y[:, 2]
    y[:, 2] /= y[:, 2].std()
    found = where_they_differ(x, y, kernel=Gaussian(1.0))
    assert set(np.argsort(-found.importance)[:2]) == {1, 2}
    assert found.importance[[1, 2]].sum() > 0.6


def test_clusters_count_modes():
    rng = np.random.default_rng(2)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]])
    x = np.concatenate([c + 0.1 * rng.normal(size=(30, 2)) for c in centres])
    y = np.concatenate([c + 0.1 * rng.normal(size=(40, 2)) for c in centres[:3]])
    found = where_they_differ(x, y, clusters=4)
    missing = found.modes[0]
    assert missing.counts == (30, 0)
    assert missing.shares == (0.25, 0.0)
    np.testing.assert_allclose(missing.centre, [10, 10], atol=0.1)
    assert missing.pvalue == pytest.approx(scipy.stats.fisher_exact([[30, 90], [0, 120]])[1])
    assert missing.adjusted_pvalue == pytest.approx(min(1, 4 * missing.pvalue))
    assert sorted(m.counts for m in found.modes[1:]) == [(30, 40)] * 3
    assert (found.cluster_x == 0).sum() == 30
    assert (found.cluster_y == 0).sum() == 0


def test_clusters_keep_their_level():
    rng, rejected = np.random.default_rng(3), 0
    for seed in range(40):
        x, y = rng.normal(size=(2, 30, 2))
        found = where_they_differ(x, y, generator=seed)
        rejected += min(m.adjusted_pvalue for m in found.modes) <= 0.1
    assert rejected <= scipy.stats.binom.ppf(0.999, 40, 0.1)


def test_names_tests_and_kinds():
    x, y = draw(30, 40)
    y[:, 1] += 2
    frames = [pd.DataFrame(v, columns=["age", "dose", "height"]) for v in (x, y)]
    found = where_they_differ(*frames)
    assert found.features[0].name == "dose"
    assert "dose: importance" in repr(found).splitlines()[1]
    assert json.loads(json.dumps(found.to_dict()))["columns"] == ["age", "dose", "height"]
    tensors = where_they_differ(torch.from_numpy(x), torch.from_numpy(y))
    assert isinstance(tensors.witness_x, torch.Tensor)
    np.testing.assert_allclose(tensors.witness_x.numpy(), found.witness_x)
    exchanged = where_they_differ(y, x)
    np.testing.assert_allclose(exchanged.witness_y, -found.witness_x, atol=1e-12)
    result = mmd_test(*frames, permutations=19, generator=0)
    told = where_they_differ(x, y, test=result)
    assert told.columns == ("age", "dose", "height")
    assert told.kernel == result.kernel
    assert told.mmd == pytest.approx(mmd(x, y, kernel=result.kernel, unbiased=False))
    moved = where_they_differ((x + 1e4).astype(np.float32), (y + 1e4).astype(np.float32))
    np.testing.assert_allclose(moved.witness_x, found.witness_x, atol=1e-3)


@pytest.mark.parametrize("d", [1, 4])
def test_pictures_are_drawn(d):
    x, y = draw(20, 30, d=d)
    axes = where_they_differ(x, y + 1).plot()
    assert len(axes) == 3
    assert axes[2].get_legend_handles_labels()[1] == ["x", "y"]


def test_odd_data():
    flat = where_they_differ(np.ones((4, 2)), np.ones((5, 2)))
    assert flat.mmd == pytest.approx(0, abs=1e-15)
    assert flat.importance.tolist() == [0.5, 0.5]
    assert [m.counts for m in flat.modes] == [(4, 5)]
    two = where_they_differ([[0.0], [1.0]], [[3.0], [4.0]], rows=0)
    assert two.rows_x == ()
    assert np.isfinite(two.witness_x).all()


def test_bad_input_is_refused():
    x, y = draw(6, 7)
    with pytest.raises(ValueError, match="at least 2"):
        where_they_differ(x[:1], y)
    with pytest.raises(ValueError, match="nan"):
        where_they_differ(x * np.nan, y)
    with pytest.raises(ValueError, match="y has 2"):
        where_they_differ(x, y[:, :2])
    with pytest.raises(ValueError, match="3 names"):
        where_they_differ(x, y, columns=["a"])
    frame = pd.DataFrame(x, columns=list("abc"))
    with pytest.raises(ValueError, match="different columns"):
        where_they_differ(frame, pd.DataFrame(y, columns=list("abd")))
    with pytest.raises(ValueError, match="clusters must be at least 1"):
        where_they_differ(x, y, clusters=0)
    with pytest.raises(ValueError, match="loop over the batch"):
        where_they_differ(x[None], y[None])
