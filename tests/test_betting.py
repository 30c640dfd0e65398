"""Sequential testing by betting: validity at any stopping time, power, refusals."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from probmetrics.pairwise.kernels import Gaussian, Linear
from probmetrics.twosample import SequentialTest
from probmetrics.twosample.betting import payoffs


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


NULLS = {
    "gaussian": lambda rng, n: rng.normal(size=(n, 2)),
    "heavy tails": lambda rng, n: rng.standard_cauchy(size=(n, 1)),
    "binary": lambda rng, n: rng.integers(0, 2, (n, 1)) * 1.0,
}


@pytest.mark.parametrize("null", NULLS)
def test_it_may_be_stopped_at_any_time(null):
    """Stop at the best moment of each stream: still at most a share of level crosses 1/level."""
    rng, streams, best, last = np.random.default_rng(7), 80, [], []
    for _ in range(streams):
        test = SequentialTest(kernels=[Gaussian(1.0)], memory=50)
        for _ in range(12):
            n, m = rng.integers(1, 6, size=2)  # batches of all sizes
            test.update(NULLS[null](rng, n), NULLS[null](rng, m))
        best.append(max(r.log_e_value for r in test.history))
        last.append(test.result.e_value)
        assert test.result.pvalue == pytest.approx(math.exp(-max(0.0, best[-1])))
    for level in (0.02, 0.1, 0.3):
        crossed = sum(log >= -math.log(level) for log in best)
        assert crossed <= scipy.stats.binom.ppf(0.999, streams, level)
    assert np.mean(last) <= 1 + 4 * np.std(last) / streams**0.5


def test_payoffs_have_mean_zero_given_the_past():
    rng = np.random.default_rng(0)
    past = tuple(torch.from_numpy(rng.normal(size=(20, 1)) + shift) for shift in (0.0, 1.0))
    x, y = (torch.from_numpy(rng.normal(size=(size, 1))) for size in (20_000, 50_000))
    gains = payoffs(x, y, past, Gaussian(1.0))
    assert gains.shape == (20_000,)
    assert float(gains.abs().max()) <= 1
    assert abs(float(gains.mean())) <= 4 * float(gains.std()) / 20_000**0.5
    # What the past has learned pays where the difference goes on.
    assert float(payoffs(x, y + 1, past, Gaussian(1.0)).mean()) > 0.2


def test_wealth_is_the_product_of_its_bets():
    rng = np.random.default_rng(1)
    batches = [(rng.normal(size=(3, 1)), rng.normal(size=(3, 1)) + 1) for _ in range(5)]
    test = SequentialTest(kernels=[Linear()], memory=None)
    for x, y in batches:
        test.update(x, y)
    stakes, wealth = np.arange(1, 21) / 21, np.ones(20)
    for k in range(1, 5):
        px, py = (np.concatenate([b[side] for b in batches[:k]]) for side in (0, 1))
        slope = px.mean() - py.mean()  # the witness of the linear kernel is slope · t
        middle = slope * (px.mean() + py.mean()) / 2
        scale = 2 * np.abs(slope * np.concatenate([px, py]) - middle).max()
        g = [np.clip((slope * v - middle) / scale, -0.5, 0.5) for v in batches[k]]
        for i in range(3):
            wealth *= 1 + stakes * (g[0][i, 0] - g[1][i, 0])
    assert test.result.e_value == pytest.approx(wealth.mean())


def test_differences_are_found_and_the_verdict_stays():
    rng = np.random.default_rng(2)
    test = SequentialTest(level=0.01)
    for _ in range(30):
        test.update(rng.normal(size=(10, 2)), 2 * rng.normal(size=(10, 2)))
    assert test.result.rejected
    assert test.result.pvalue <= 0.01
    found = test.result.rejected_at
    for _ in range(5):
        test.update(rng.normal(size=(10, 2)), rng.normal(size=(10, 2)))
    assert test.result.rejected
    assert test.result.rejected_at == found
    assert test.result.n == (350, 350)
    axes = test.plot(label="drift")
    test.plot(axes, label="again")
    assert axes.get_legend_handles_labels()[1] == ["drift", f"log 1/{test.level:g}", "again"]


def test_kinds_agree_and_repeat():
    rng = np.random.default_rng(3)
    batches = rng.normal(size=(6, 2, 8, 2)) + np.array([0.0, 0.7])[:, None, None]
    values = []
    for make in (np.asarray, torch.from_numpy, lambda v: pd.DataFrame(v, columns=["a", "b"])):
        test = SequentialTest()
        for x, y in batches:
            test.update(make(x), make(y))
        values.append(test.result.e_value)
    assert values[0] == values[1] == values[2] > 1


def test_bad_input_is_refused_and_changes_nothing():
    test = SequentialTest()
    assert test.result.e_value == 1.0
    x = np.zeros((3, 2)) + np.arange(3)[:, None]
    test.update(x, x + 1)
    test.update(x, x + 1)
    before = test.result
    with pytest.raises(ValueError, match="nan at row 0"):
        test.update(x * np.nan, x)
    with pytest.raises(ValueError, match="3 columns"):
        test.update(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="0 points"):
        test.update(x[:0], x)
    with pytest.raises(TypeError, match="torch tensors"):
        test.update(torch.from_numpy(x), x)
    with pytest.raises(ValueError, match="batch has shape"):
        test.update(x[None], x[None])
    assert test.result is before
    frame = pd.DataFrame(x, columns=["a", "b"])
    test.update(frame, frame)
    with pytest.raises(ValueError, match="those before had a, b"):
        test.update(frame.set_axis(["a", "c"], axis=1), frame.set_axis(["a", "c"], axis=1))
    with pytest.raises(ValueError, match="level"):
        SequentialTest(level=1.5)
    with pytest.raises(ValueError, match="kernels is empty"):
        SequentialTest(kernels=[])


def test_constant_data_wins_nothing():
    test = SequentialTest()
    for _ in range(4):
        test.update(np.ones((3, 1)), np.ones((2, 1)))
    assert test.result.e_value == pytest.approx(1.0)
    assert test.result.pvalue == 1.0
