"""Sketches keep their bounds, merge in any order, and follow their seed."""

import math
import pickle

import numpy as np
import pytest
import torch

from probmetrics import mmd, sliced_wasserstein, wasserstein_1d
from probmetrics.pairwise.kernels import Gaussian
from probmetrics.sketches import (
    FeatureSketch,
    MomentSketch,
    QuantileSketch,
    SampleSketch,
    SliceSketch,
)

MAKERS = {
    "moments": lambda **o: MomentSketch(2),
    "features": lambda **o: FeatureSketch(2, 1.0, 64),
    "quantiles": lambda **o: QuantileSketch(2, 64, **o),
    "slices": lambda **o: SliceSketch(2, 8, 64, **o),
    "sample": lambda **o: SampleSketch(2, 50, **o),
}


def rows(n=4000, seed=0, shift=0.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    x[:, 1] = (3 * x[:, 1]).round()  # a column with ties
    return (x + shift).to(dtype)


def answer(sketch):
    found = sketch.compute()
    if isinstance(sketch, MomentSketch):
        return torch.cat([found.mean, found.scatter.reshape(-1)])
    if isinstance(sketch, SliceSketch):
        return found.quantile([0.1, 0.5, 0.9])
    if isinstance(sketch, QuantileSketch):
        return sketch.quantile([0.1, 0.5, 0.9])
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_merging_is_associative_and_order_does_not_matter(name):
    parts = rows().split([100, 1, 1899, 2000])
    sketches = [MAKERS[name](stream=i).update(part) for i, part in enumerate(parts)]
    a, b, c, d = sketches
    trees = [
        a.merge(b).merge(c).merge(d),
        a.merge(b.merge(c.merge(d))),
        d.merge(c).merge(b.merge(a)),
    ]
    empty = MAKERS[name](stream=9)
    trees.append(empty.merge(trees[0]))
    trees.append(pickle.loads(pickle.dumps(trees[0])))
    for tree in trees:
        assert tree.n == 4000
    if name in ("quantiles", "slices"):  # coins differ: within the bound, for shares below t
        t = torch.tensor([-1.0, 0.0, 0.7])
        shares = [(s.compute() if name == "slices" else s).below(t) for s in trees]
        quantiles = trees[0].compute() if name == "slices" else trees[0]
        for share in shares[1:]:
            assert float((share - shares[0]).abs().max()) <= 2 * quantiles.error(1e-3)
        return
    for tree in trees[1:]:
        torch.testing.assert_close(answer(tree), answer(trees[0]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", MAKERS)
def test_the_seed_decides(name):
    x = rows()
    first, second = (MAKERS[name](seed=3).update(x[:10]).update(x[10:]) for _ in range(2))
    assert torch.equal(answer(first), answer(second))


def test_moments_are_exact_at_an_offset():
    x = rows(shift=1e6)
    state = MomentSketch(2).update(x[:7]).merge(MomentSketch(2).update(x[7:])).compute()
    np.testing.assert_allclose(state.covariance(), np.cov(x.T), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("k", [32, 256])
@pytest.mark.parametrize("order", ["random", "sorted", "reversed"])
def test_shares_stay_within_their_bounds(k, order):
    misses, squares, tries = 0, [], 60
    for seed in range(tries):
        x = rows(3000, seed)
        if order != "random":
            x = x.sort(0, descending=order == "reversed").values
        parts = [
            QuantileSketch(2, k, seed=seed, stream=i).update(p) for i, p in enumerate(x.split(700))
        ]
        sketch = parts[0]
        for part in parts[1:]:
            sketch = sketch.merge(part)
        t = torch.tensor([-0.5, 0.0, 1.0], dtype=torch.float64)
        truth = (x.T.unsqueeze(-1) <= t).double().mean(1)
        gap = sketch.below(t) - truth
        squares.append(float(gap.square().mean()) / sketch.typical_error**2)
        misses += int((gap.abs() > sketch.error(0.05)).sum())
        assert float(gap.abs().max()) <= sketch.error(1e-6)
        assert sum(level.shape[1] for level in sketch.levels) <= 3 * k + 8 * len(sketch.levels)
    assert misses <= 0.05 * 6 * tries
    assert 0.0 < np.mean(squares) <= 1.3  # the root mean square is of the size that is stated


def test_quantiles_of_few_rows_are_exact():
    x = torch.tensor([[3.0], [1.0], [2.0]])
    sketch = QuantileSketch(1).update(x)
    assert sketch.quantile([0.0, 0.5, 1.0]).tolist() == [[1.0, 2.0, 3.0]]
    assert sketch.below(2.0).tolist() == [pytest.approx(2 / 3)]
    assert sketch.error() == 0.0


def test_distances_between_sketches():
    x, y = rows(20_000, 1), rows(15_000, 2, shift=0.5)
    sx, sy = (QuantileSketch(2, 512).update(z) for z in (x, y))
    wanted = wasserstein_1d(x.T, y.T)
    reach = torch.maximum(sx.high, sy.high) - torch.minimum(sx.low, sy.low)
    bound = 3 * (sx.typical_error + sy.typical_error) * reach
    assert bool(((sx.wasserstein(sy) - wanted).abs() <= bound).all())
    grid = torch.cat([x, y]).T.contiguous()
    shares = [
        torch.searchsorted(z.T.contiguous().sort(-1).values, grid, right=True) / len(z)
        for z in (x, y)
    ]
    truth = (shares[0] - shares[1]).abs().amax(-1)
    slack = sx.error(everywhere=True) + sy.error(everywhere=True)
    assert bool(((sx.kolmogorov(sy) - truth).abs() <= slack).all())
    first, second = (SliceSketch(2, 128, 512, seed=5).update(z) for z in (x, y))
    usual = sliced_wasserstein(x[:3000], y[:3000], projections=500, generator=0)
    assert first.wasserstein(second) == pytest.approx(float(usual), rel=0.1)


def test_features_stay_within_their_bound():
    x, y = rows(400, 1), rows(300, 2, shift=0.4)
    wanted = float(mmd(x, y, kernel=Gaussian(1.5), unbiased=False))
    gaps, errors = [], []
    for seed in range(40):
        fx, fy = (FeatureSketch(2, 1.5, 256, seed=seed).update(z) for z in (x, y))
        gaps.append(fx.mmd(fy) - wanted)
        errors.append(fx.standard_error(fy))
        assert abs(gaps[-1]) <= fx.error(1e-3)
    assert abs(np.mean(gaps)) <= 4 * np.std(gaps) / math.sqrt(40)
    assert 0.7 <= np.std(gaps) / np.mean(errors) <= 1.4


def test_the_sample_is_uniform():
    counts = torch.zeros(40)
    for seed in range(300):
        x = torch.arange(40.0)
        sketch = SampleSketch(1, 8, seed=seed).update(x[:13])
        sketch = sketch.merge(SampleSketch(1, 8, seed=seed, stream=1).update(x[13:]))
        counts[sketch.compute().long().squeeze(-1)] += 1
    assert float(((counts - 60).square() / 60).sum()) < 75  # χ² with 39 degrees of freedom


def test_bad_input():
    with pytest.raises(ValueError, match=r"shape \(n, 2\), got \(3, 4\)"):
        MomentSketch(2).update(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="rows holds nan at row 0, column 1"):
        QuantileSketch(2).update([[0.0, float("nan")]])
    with pytest.raises(TypeError, match="merges with its like"):
        QuantileSketch(2).merge(SampleSketch(2))
    with pytest.raises(ValueError, match="different seed"):
        SampleSketch(2, seed=0).merge(SampleSketch(2, seed=1))
    with pytest.raises(ValueError, match="different bandwidth"):
        FeatureSketch(2, 1.0).mmd(FeatureSketch(2, 2.0))
    with pytest.raises(ValueError, match="no rows"):
        QuantileSketch(2).compute()
    with pytest.raises(ValueError, match="empty sketch"):
        FeatureSketch(2, 1.0).mmd(FeatureSketch(2, 1.0))
    with pytest.raises(ValueError, match="between 0 and 1"):
        QuantileSketch(1).update([1.0]).quantile(1.5)


@pytest.mark.parametrize("name", MAKERS)
def test_kinds_of_rows(name):
    integers = np.arange(8).reshape(4, 2)
    assert MAKERS[name]().update(integers).n == 4
    assert MAKERS[name]().update(rows(30, dtype=torch.float16)).update(rows(5)).n == 35
    assert MAKERS[name]().update(integers[:0]).n == 0
