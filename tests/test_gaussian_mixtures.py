"""Mixtures of Gaussians: shapes that broadcast."""

import pytest
import torch

import probmetrics as pm
from probmetrics.gaussian import Gaussian

NAMES = [
    "mixture_kl_variational",
    "mixture_kl_product",
    "mixture_kl_upper",
]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def diagonal(k, seed, d=2, batch=()):
    mean = normal(*batch, k, d, seed=seed)
    return Gaussian(mean, diagonal=normal(*batch, k, d, seed=seed + 9).square() + 0.1)


@pytest.mark.parametrize("name", NAMES)
class TestShapes:
    def test_an_empty_batch_has_an_empty_answer(self, name):
        p, q = diagonal(4, 0, batch=(0,)), diagonal(5, 1, batch=(0,))
        assert getattr(pm, name)(p, q).shape == (0,)
        weights = torch.full((3, 0, 4), 0.25).double()
        assert getattr(pm, name)(p, q, a=weights).shape == (3, 0)

    def test_weights_bring_a_batch_of_their_own(self, name):
        p, q = diagonal(4, 0), diagonal(5, 1)
        a, b = normal(3, 4).softmax(-1), normal(2, 1, 5).softmax(-1)
        values = getattr(pm, name)(p, q, a=a, b=b)
        assert values.shape == (2, 3)
        for i in range(2):
            for j in range(3):
                one = getattr(pm, name)(p, q, a=a[j], b=b[i, 0])
                torch.testing.assert_close(values[i, j], one)
        with pytest.raises(ValueError, match="do not broadcast"):
            getattr(pm, name)(diagonal(4, 0, batch=(2,)), q, a=a)

    @pytest.mark.parametrize("rows", [None, slice(0, 1)])
    def test_components_may_share_a_mean_or_a_covariance(self, name, rows):
        p, q = diagonal(4, 0), diagonal(5, 1)
        mean = p.mean[0] if rows is None else p.mean[rows]
        variances = q.diagonal[0] if rows is None else q.diagonal[rows]
        for a in (None, normal(4).softmax(-1)):
            value = getattr(pm, name)(
                Gaussian(mean, diagonal=p.diagonal), Gaussian(q.mean, diagonal=variances), a=a
            )
            expected = getattr(pm, name)(
                Gaussian(mean.expand(4, 2), diagonal=p.diagonal),
                Gaussian(q.mean, diagonal=variances.expand(5, 2)),
                a=a,
            )
            torch.testing.assert_close(value, expected)

    def test_a_mixture_of_nothing(self, name):
        with pytest.raises(ValueError, match="q has no components"):
            getattr(pm, name)(diagonal(4, 0), diagonal(0, 1))
