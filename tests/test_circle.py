"""The best cut of a circle, where shifts are small against the period."""

import pytest
import torch

from probmetrics.transport.circle import circular_wasserstein
from probmetrics.transport.line import wasserstein_1d

close = torch.testing.assert_close


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("p", [1.5, 2, 3, 5, 8, 40])
@pytest.mark.parametrize("shift", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("period", [1.0, 1e-5, 360.0])
def test_small_shifts_of_one_point(p, shift, period):
    x, y = torch.zeros(1).double(), torch.full((1,), shift, dtype=torch.float64) * period
    for one, other in ((x, y), (y, x), (x, period - y)):
        found = circular_wasserstein(one, other, p=p, period=period)
        close(found.item(), shift * period, rtol=1e-6, atol=0)
    weighted = circular_wasserstein(x, y, p=p, period=period, a=torch.ones(1).double())
    close(weighted.item(), shift * period, rtol=1e-12, atol=0)


@pytest.mark.parametrize("p", [1.5, 2, 4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_small_shifts_of_many_are_those_of_the_line(p, seed):
    x = 0.1 + 0.8 * draw(4, 50, seed=seed)
    y = x + 1e-6 * (draw(4, 50, seed=seed + 10) - 0.5)
    close(circular_wasserstein(x, y, p=p), wasserstein_1d(x, y, p=p), rtol=1e-11, atol=0)
    even = torch.full((50,), 0.02, dtype=torch.float64)
    close(circular_wasserstein(x, y, p=p, a=even), wasserstein_1d(x, y, p=p), rtol=1e-11, atol=0)
    w = draw(50, seed=seed + 20) ** 4
    w = w / w.sum()
    paid = (w * (x - y).abs() ** p).sum(-1)
    found = circular_wasserstein(x, y, p=p, a=w, b=w, root=False)
    close(found, paid, rtol=1e-11, atol=0)
    turned = circular_wasserstein(x + 0.5, y + 0.5, p=p, a=w, b=w, root=False)
    close(turned, paid, rtol=1e-8, atol=0)
    doubled = circular_wasserstein(x, torch.cat([y, y], -1), p=p)
    close(doubled, wasserstein_1d(x, y, p=p), rtol=1e-11, atol=0)


@pytest.mark.parametrize("p", [2, 3, 5])
@pytest.mark.parametrize("size", [1e-2, 1e-5])
def test_gradients_of_small_shifts(p, size):
    x, y = (
        torch.zeros(3, 1).double(),
        size * torch.tensor([[1.0], [2.0], [0.5]], dtype=torch.float64),
    )
    x, y = x.requires_grad_(True), y.requires_grad_(True)
    first, second = torch.autograd.grad(circular_wasserstein(x, y, p=p).sum(), (x, y))
    close(first, -torch.ones_like(first), rtol=1e-12, atol=0)
    close(second, torch.ones_like(second), rtol=1e-12, atol=0)
    x = (0.1 + 0.8 * draw(20)).requires_grad_(True)
    y = (x.detach() + size * 1e-2 * draw(20, seed=1)).requires_grad_(True)
    w = torch.softmax(draw(20, seed=2), -1)
    ours = torch.autograd.grad(circular_wasserstein(x, y, p=p, a=w, b=w), (x, y))
    known = torch.autograd.grad((w * (x - y).abs() ** p).sum() ** (1 / p), (x, y))
    close(ours, known, rtol=1e-9, atol=1e-12)


def test_light_points_far_away_count_in_full():
    a = torch.tensor([1 - 1e-12, 1e-12], dtype=torch.float64)
    for far in (1e6, 9e6):
        x, y = torch.tensor([0.0, far], dtype=torch.float64), torch.zeros(1).double()
        found = circular_wasserstein(x, y, a=a, p=2, period=1e7, root=False)
        close(found.item(), 1.0, rtol=1e-9, atol=0)
