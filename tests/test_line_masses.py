"""Masses on the line, down to weights that a running sum near one would swallow."""

import itertools
from fractions import Fraction

import pytest
import torch

from probmetrics.transport.exact import exact_transport
from probmetrics.transport.line import wasserstein_1d
from probmetrics.transport.quantiles import accumulate, sort_weighted, staircase


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_light_points_far_out_count_in_full(side):
    a = [1 - 1e-12, 1e-12]
    found = wasserstein_1d([0.0, side * 1e6], [0.0], a=a, p=2, root=False)
    assert found == pytest.approx(1.0, rel=1e-12)
    x, light = side * torch.tensor([-1e6, 0.0, 3e6], dtype=torch.float64), 2.0**-44
    b = torch.tensor([0.5 - light / 2, light, 0.5 - light / 2], dtype=torch.float64)
    found = wasserstein_1d(x, x[::2], a=b, p=2, root=False)
    assert found.item() == pytest.approx(light / 2 * (1e12 + 9e12), rel=1e-9)
    points = torch.tensor([[0.0], [side * 1e6]], dtype=torch.float64)
    solved = exact_transport(points, points[:1], a=torch.tensor(a, dtype=torch.float64), root=False)
    assert solved.converged
    assert abs(solved.dual_gap) <= 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_masses_are_right_to_their_own_digits(seed):
    generator = torch.Generator().manual_seed(seed)
    w = 10.0 ** (-14 * torch.rand(300, generator=generator, dtype=torch.float64))
    x = torch.randn(300, generator=generator, dtype=torch.float64)
    y = torch.randn(7, generator=generator, dtype=torch.float64).sort().values
    total, order = sum(Fraction(v.item()) for v in w), x.argsort()
    share, rest = accumulate(w[order])
    exact = list(itertools.accumulate(Fraction(v.item()) / total for v in w[order]))
    for k in range(300):
        assert (
            abs(Fraction(share[k].item()) + Fraction(rest[k].item()) - exact[k]) < 3e-16 * exact[k]
        )
    left, right = sort_weighted(x, y, w / w.sum(), None)
    i, _, mass = staircase(left, right)
    kept = torch.zeros(300).double().index_add(0, i, mass)
    torch.testing.assert_close(kept, w[order] / w.sum(), rtol=1e-13, atol=0)
