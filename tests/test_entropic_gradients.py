"""Gradients of entropic values by every way a solver may take: equal, and equal to the plan's."""

import pytest
import torch

from probmetrics.transport import storing, sweeps
from probmetrics.transport.sinkhorn import sinkhorn, sinkhorn_divergence


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def by_plan(x, y, **options):
    """2 Σ_j P_ij (x_i − y_j), and the same for y."""
    plan = sinkhorn(x, y, **options).plan().double()
    gap = 2 * (x.double().unsqueeze(-2) - y.double().unsqueeze(-3)) * plan.unsqueeze(-1)
    return gap.sum(-2), -gap.sum(-3)


def by_autograd(x, y, **options):
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    return torch.autograd.grad(sinkhorn(x, y, **options).value.sum(), (x, y))


@pytest.mark.parametrize("backend", ["dense", "tiled"])
@pytest.mark.parametrize("shape", [(70, 2), (70, 11), (3, 20, 2), (1, 5)])
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_the_gradient_is_the_plans(monkeypatch, backend, shape, offset):
    monkeypatch.setattr(sweeps, "BLOCK", 300)  # several blocks of rows
    monkeypatch.setattr(sweeps, "KEPT_BLOCK", 500)
    x, y = draw(*shape) + offset, 0.5 * draw(*shape[:-2], 40, shape[-1], seed=1) + 0.3 + offset
    a = torch.rand(shape[-2], generator=torch.Generator().manual_seed(0)).double() + 0.05
    if shape[-2] > 3:
        a[::3] = 0.0
    options = {"a": a / a.sum(), "epsilon": 0.7, "tolerance": 1e-10, "backend": backend}
    for found, wanted in zip(by_autograd(x, y, **options), by_plan(x, y, **options), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("epsilon", [1.0, 0.05, 0.005])
@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_relaxed_and_fine_problems(backend, epsilon):
    x, y = draw(40, 2).requires_grad_(), (draw(30, 2, seed=1) + 1).requires_grad_()
    for reach in (None, 0.8, (None, 2.0)):
        solved = sinkhorn(x, y, epsilon=epsilon, reach=reach, tolerance=1e-9, backend=backend)
        found = torch.autograd.grad(solved.value, (x, y))
        gap = 2 * (x.unsqueeze(-2) - y).detach() * solved.plan().unsqueeze(-1)
        for one, other in zip(found, (gap.sum(-2), -gap.sum(-3)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_low_precision(dtype):
    x, y = draw(50, 3, dtype=dtype), draw(40, 3, seed=1, dtype=dtype)
    exact = by_plan(x.double(), y.double(), epsilon=0.5, tolerance=1e-9)
    for backend in ("dense", "tiled"):
        found = by_autograd(x, y, epsilon=0.5, tolerance=1e-5, backend=backend)
        for one, other in zip(found, exact, strict=True):
            assert one.dtype == dtype
            torch.testing.assert_close(one.double(), other, rtol=2e-3, atol=2e-5)


def test_one_side_only_and_outliers_that_need_care():
    x, y = draw(30, 2), draw(25, 2, seed=1)
    far = y.clone()
    far[0] = 300.0
    options = {"epsilon": 0.5, "tolerance": 1e-9}
    wanted = by_plan(x, far, **options)
    for backend in ("dense", "tiled"):
        for side in (0, 1):
            ends = [x.clone(), far.clone()]
            ends[side].requires_grad_()
            value = sinkhorn(*ends, backend=backend, **options).value
            slope = torch.autograd.grad(value, ends[side])[0]
            torch.testing.assert_close(slope, wanted[side], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_divergence(backend):
    x, y = draw(40, 2), draw(30, 2, seed=1) + 0.5
    leaf = x.clone().requires_grad_()
    options = {"epsilon": 0.3, "tolerance": 1e-10}
    value = sinkhorn_divergence(leaf, y, backend=backend, **options)
    slope = torch.autograd.grad(value, leaf)[0]
    alone = by_plan(x, x, **options)
    wanted = by_plan(x, y, **options)[0] - 0.5 * (alone[0] + alone[1])
    torch.testing.assert_close(slope, wanted, rtol=1e-6, atol=1e-8)


def test_gradient_without_another_pass(monkeypatch):
    made = []
    before = sweeps.Sweeper.sweep

    def counted(self, *arguments):
        made.append(1)
        return before(self, *arguments)

    monkeypatch.setattr(sweeps.Sweeper, "sweep", counted)
    x, y = draw(60, 2).requires_grad_(), draw(50, 2, seed=1)
    solved = sinkhorn(x, y, epsilon=0.5, backend="tiled")
    assert len(made) == solved.steps
    torch.autograd.grad(solved.value, x)
    assert len(made) == solved.steps
    assert storing.CARRIED >= 2
    wide = draw(60, 20).requires_grad_()
    solved = sinkhorn(wide, draw(50, 20, seed=1), epsilon=5.0, backend="tiled")
    made.clear()
    torch.autograd.grad(solved.value, wide)
    assert len(made) == 1
