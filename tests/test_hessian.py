"""Hessian products of entropic values against finite differences and unrolled iterations."""

import numpy as np
import pytest
import torch

from probmetrics.pairwise.costs import Cosine, Euclidean, PNorm, SqEuclidean
from probmetrics.transport import hessian
from probmetrics.transport.conjugate import conjugate_gradients
from probmetrics.transport.hessian import sinkhorn_hessian_product
from probmetrics.transport.sinkhorn import sinkhorn, sinkhorn_divergence

COSTS = [SqEuclidean(), Euclidean(), Euclidean(3.0), PNorm(3.0, 2.0), Cosine()]


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def masses(n, seed=0, total=1.0):
    w = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    return total * w / w.sum()


def slope(function, x, y, **options):
    x = x.detach().requires_grad_()
    found = function(x, y, **options)
    value = found if isinstance(found, torch.Tensor) else found.value
    return torch.autograd.grad(value.sum(), x)[0]


def difference(function, x, y, v, **options):
    """Central difference of the gradient along v."""
    h = 1e-4
    options = {"tolerance": 1e-13, "max_steps": 20_000, **options}
    up, down = (slope(function, x + s * h * v, y, **options) for s in (1, -1))
    return (up - down) / (2 * h)


@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("debiased", [False, True])
def test_against_differences_of_the_gradient(cost, debiased):
    x, y, v = draw(7, 2), draw(5, 2, seed=1) + 0.4, draw(7, 2, seed=2)
    options = {"a": masses(7), "b": masses(5, seed=1), "cost": cost, "epsilon": 0.5}
    function = sinkhorn_divergence if debiased else sinkhorn
    wanted = difference(function, x, y, v, **options)
    found = sinkhorn_hessian_product(x, y, v, debiased=debiased, tolerance=1e-11, **options)
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("reach", [0.7, (None, 0.7), (0.7, None)])
def test_relaxed_marginals_against_differences(reach):
    x, y, v = draw(7, 2), draw(5, 2, seed=1) + 0.4, draw(7, 2, seed=2)
    options = {"a": masses(7), "b": masses(5, seed=1), "reach": reach, "epsilon": 0.5}
    wanted = difference(sinkhorn, x, y, v, **options)
    found = sinkhorn_hessian_product(x, y, v, tolerance=1e-11, **options)
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-6)
    if not isinstance(reach, tuple):
        wanted = difference(sinkhorn_divergence, x, y, v, **options)
        found = sinkhorn_hessian_product(x, y, v, tolerance=1e-11, debiased=True, **options)
        torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-6)


def test_against_double_backward_through_iterations():
    x, y, v = draw(6, 2).requires_grad_(), draw(8, 2, seed=1), draw(6, 2, seed=2)
    a, b, epsilon = masses(6), masses(8, seed=1), 0.6
    costs = SqEuclidean()(x, y)
    g = torch.zeros(8, dtype=torch.float64)
    for _ in range(400):
        f = -epsilon * torch.logsumexp(b.log() + (g - costs) / epsilon, -1)
        g = -epsilon * torch.logsumexp(a.log()[:, None] + (f[:, None] - costs) / epsilon, 0)
    value = (a * f).sum() + (b * g).sum()
    first = torch.autograd.grad(value, x, create_graph=True)[0]
    wanted = torch.autograd.grad((first * v).sum(), x)[0]
    found = sinkhorn_hessian_product(x.detach(), y, v, a=a, b=b, epsilon=epsilon, tolerance=1e-11)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)


def test_symmetric_and_known_along_translations():
    x, y = draw(20, 3), draw(15, 3, seed=1)
    u, v = draw(20, 3, seed=2), draw(20, 3, seed=3)
    options = {"epsilon": 0.3, "tolerance": 1e-9}
    hu, hv = (sinkhorn_hessian_product(x, y, z, **options) for z in (u, v))
    torch.testing.assert_close((hu * v).sum(), (hv * u).sum(), rtol=1e-7, atol=1e-9)
    # Moving all points together adds ‖shift‖² + 2⟨shift, E x − E y⟩ to OT: H 1 = 2a.
    shift = torch.ones_like(x)
    moved = sinkhorn_hessian_product(x, y, shift, **options)
    torch.testing.assert_close(moved, shift * 2 / 20, rtol=1e-6, atol=1e-9)
    moved = sinkhorn_hessian_product(x, y, shift, debiased=True, **options)
    torch.testing.assert_close(moved, shift * 2 / 20, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_tiles_agree_with_products(monkeypatch, offset):
    x, y, v = draw(2, 30, 2) + offset, draw(40, 2, seed=1) + offset, draw(2, 30, 2, seed=2)
    options = {"epsilon": 0.5, "tolerance": 1e-11}
    fast = sinkhorn_hessian_product(x, y, v, debiased=True, **options)
    monkeypatch.setattr(hessian, "TILE", 500)
    slow = sinkhorn_hessian_product(x, y, v, debiased=True, cost=Euclidean(2.0), **options)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-8)
    for k in range(2):
        one = sinkhorn_hessian_product(x[k], y, v[k], debiased=True, **options)
        torch.testing.assert_close(fast[k], one, rtol=1e-6, atol=1e-9)


def test_points_without_mass_and_single_points():
    x, y, v = draw(5, 2), draw(4, 2, seed=1), draw(5, 2, seed=2)
    a = torch.tensor([0.0, 0.2, 0.3, 0.5, 0.0]).double()
    full = sinkhorn_hessian_product(x, y, v, a=a, epsilon=0.5)
    kept = a > 0
    cut = sinkhorn_hessian_product(x[kept], y, v[kept], a=a[kept], epsilon=0.5)
    torch.testing.assert_close(full[kept], cut, rtol=1e-6, atol=1e-9)
    assert (full[~kept] == 0).all()
    one = sinkhorn_hessian_product([[0.0, 1.0]], [[3.0, 4.0]], [[1.0, -2.0]], epsilon=1.0)
    np.testing.assert_allclose(one, [[2.0, -4.0]], atol=1e-9)


def test_kinds_dtypes_and_refusals():
    x, y, v = draw(6, 2), draw(5, 2, seed=1), draw(6, 2, seed=2)
    wanted = sinkhorn_hessian_product(x, y, v, epsilon=0.5)
    array = sinkhorn_hessian_product(x.numpy(), y.numpy(), v.numpy(), epsilon=0.5)
    np.testing.assert_allclose(array, wanted.numpy())
    single = sinkhorn_hessian_product(x.float(), y.float(), v.float(), epsilon=0.5)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="v must have the shape of x"):
        sinkhorn_hessian_product(x, y, v[:-1])
    with pytest.raises(ValueError, match="v has batch shape"):
        sinkhorn_hessian_product(x, y, v.expand(3, 6, 2))
    with pytest.raises(ValueError, match="v holds nan"):
        sinkhorn_hessian_product(x, y, v * float("nan"))
    with pytest.raises(ValueError, match="both sides alike"):
        sinkhorn_hessian_product(x, y, v, reach=(None, 1.0), debiased=True)


def test_a_system_that_is_not_solved_warns():
    matrix = torch.diag(torch.arange(1.0, 9.0, dtype=torch.float64))
    right, one = torch.ones(1, 8).double(), torch.ones(1, 8).double()
    solved = conjugate_gradients(lambda g: g @ matrix, right, one, 1e-12, 20)
    torch.testing.assert_close(solved @ matrix, right)
    with pytest.warns(RuntimeWarning, match="conjugate gradients stopped"):
        conjugate_gradients(lambda g: g @ matrix, right, one, 1e-12, 2)
