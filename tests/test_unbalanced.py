"""Partial and unbalanced transport: agreement with POT and linprog, limits, gradients."""

import math
import warnings

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linprog

from probmetrics.transport.exact import wasserstein
from probmetrics.transport.unbalanced import (
    partial_transport,
    partial_wasserstein,
    unbalanced_transport,
    unbalanced_wasserstein,
)

close = torch.testing.assert_close


def draw(n, d, *, seed=0, batch=()):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, n, d, generator=generator, dtype=torch.float64)


def masses(n, *, seed=0, total=1.0, zeros=0):
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand(n, generator=generator, dtype=torch.float64) + 0.05
    w[:zeros] = 0.0
    return total * w / w.sum()


def marginal_matrices(n, m):
    return np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))


# ---------------------------------------------------------------------------------- partial


@pytest.mark.parametrize("mass", [0.1, 0.5, 0.8])
def test_partial_agrees_with_linprog_and_pot(mass):
    n, m = 12, 9
    x, y, a, b = draw(n, 2), draw(m, 2, seed=1), masses(n), masses(m, seed=1, total=0.8)
    cost = torch.cdist(x, y) ** 2
    value = partial_wasserstein(x, y, mass=mass, a=a, b=b, root=False).item()
    rows, columns = marginal_matrices(n, m)
    lp = linprog(
        cost.reshape(-1).numpy(),
        A_ub=np.vstack([rows, columns]),
        b_ub=np.concatenate([a, b]),
        A_eq=np.ones((1, n * m)),
        b_eq=[mass],
    )
    close(value, lp.fun, rtol=1e-9, atol=1e-12)
    plan = ot.partial.partial_wasserstein(a.numpy(), b.numpy(), cost.numpy(), m=mass)
    close(value, float((plan * cost.numpy()).sum()), rtol=1e-9, atol=1e-12)


def test_partial_plan_and_potentials_certify():
    x, y, a, b = draw(14, 3), draw(11, 3, seed=1), masses(14, zeros=2), masses(11, seed=1, total=2)
    solved = partial_transport(x, y, mass=0.6, a=a, b=b)
    plan, cost = solved.plan(), torch.cdist(x, y) ** 2
    close(plan.sum().item(), 0.6)
    assert (plan.sum(1) <= a + 1e-15).all()
    assert (plan.sum(0) <= b + 1e-15).all()
    close((plan * cost).sum(), solved.cost)
    close(solved.value, solved.cost.sqrt())
    assert (solved.f <= 0).all()
    assert (solved.g <= 0).all()
    assert abs(solved.dual_gap) < 1e-12
    assert solved.marginal_error < 1e-14
    assert solved.converged


def test_moving_everything_is_wasserstein():
    x, y, a = draw(8, 2), draw(9, 2, seed=1), masses(8)
    for p in (1.0, 2.0):
        close(partial_wasserstein(x, y, mass=1.0, a=a, p=p), wasserstein(x, y, a=a, p=p))


def test_partial_ignores_outliers():
    x = draw(10, 2)
    y = x.clone()
    y[0] += 1e3
    assert partial_wasserstein(x, y, mass=0.85) == 0
    plan = partial_transport(x, y, mass=0.85).plan()
    assert plan[0].sum() == plan[:, 0].sum() == 0


@pytest.mark.parametrize("root", [True, False])
def test_partial_gradients(root):
    x, y = draw(5, 2).requires_grad_(True), draw(6, 2, seed=1).requires_grad_(True)
    a, b = masses(5).requires_grad_(True), masses(6, seed=1, total=0.9).requires_grad_(True)

    def value(x, y, a, b):
        return partial_wasserstein(x, y, mass=0.5, a=a, b=b, root=root)

    assert torch.autograd.gradcheck(value, (x, y, a, b))


def test_partial_bad_input():
    x, y = draw(5, 2), draw(6, 2, seed=1)
    with pytest.raises(ValueError, match="holds only 1; pass less"):
        partial_wasserstein(x, y, mass=1.5)
    with pytest.raises(ValueError, match="mass must be above zero"):
        partial_wasserstein(x, y, mass=0.0)
    with pytest.raises(ValueError, match="a sums to zero"):
        partial_wasserstein(x, y, mass=0.5, a=torch.zeros(5).double())
    with pytest.raises(ValueError, match="pass a finite p"):
        partial_wasserstein(x[:, :1], y[:, :1], mass=0.5, p=math.inf)


# ------------------------------------------------------------------------------- unbalanced


@pytest.mark.parametrize("penalty", [0.05, 0.5, 5.0])
def test_variation_agrees_with_linprog(penalty):
    n, m = 10, 8
    x, y, a, b = draw(n, 2), draw(m, 2, seed=1), masses(n), masses(m, seed=1, total=1.4)
    cost = torch.cdist(x, y) ** 2
    rows, columns = marginal_matrices(n, m)
    # Variables: the plan, then the excess and the lack of both marginals.
    signs = np.zeros((n + m, 2 * (n + m)))
    signs[:, : n + m], signs[:, n + m :] = np.eye(n + m), -np.eye(n + m)
    lp = linprog(
        np.concatenate([cost.reshape(-1), np.full(2 * (n + m), penalty)]),
        A_eq=np.hstack([np.vstack([rows, columns]), signs]),
        b_eq=np.concatenate([a, b]),
    )
    solved = unbalanced_transport(x, y, penalty=penalty, divergence="tv", a=a, b=b)
    close(solved.value.item(), lp.fun, rtol=1e-9, atol=1e-12)
    assert abs(solved.dual_gap) < 1e-12
    assert solved.marginal_error < 1e-14
    assert (solved.f.abs() <= penalty).all()
    assert (solved.f[:, None] + solved.g - cost).max() < 1e-12
    plan = solved.plan()
    assert (cost[plan > 0] <= 2 * penalty).all()
    idle = (plan.sum(1) - a).abs().sum() + (plan.sum(0) - b).abs().sum()
    close(solved.value, solved.cost + penalty * idle)


@pytest.mark.parametrize("penalty", [0.01, 0.3, 1.0, 20.0, 1e4])
def test_kullback_is_certified_and_no_plan_beats_it(penalty):
    n, m = 15, 12
    x, y, a, b = draw(n, 2), draw(m, 2, seed=1), masses(n, zeros=2), masses(m, seed=1, total=0.7)
    cost = torch.cdist(x, y) ** 2
    solved = unbalanced_transport(x, y, penalty=penalty, a=a, b=b)
    plan = solved.plan()

    def kullback(u, a):
        return (torch.special.xlogy(u, u / a.clamp_min(1e-300)) - u + a).sum()

    objective = (plan * cost).sum() + penalty * (
        kullback(plan.sum(1), a) + kullback(plan.sum(0), b)
    )
    close(solved.value, objective, rtol=1e-10, atol=1e-13)
    assert -1e-13 * penalty <= solved.dual_gap <= 1e-9 * solved.value
    assert solved.converged
    assert (solved.f[:, None] + solved.g - cost).max() < 1e-12 * max(1.0, penalty)
    close(plan.sum(1), a * torch.exp(-solved.f / penalty), rtol=1e-9, atol=1e-10)
    theirs = ot.unbalanced.mm_unbalanced2(
        a[2:].numpy(), b.numpy(), cost[2:].numpy(), penalty, numItermax=20_000, stopThr=0,
        returnCost="total",
    )  # fmt: skip
    assert solved.value <= theirs + 1e-12
    close(solved.value.item(), float(theirs), rtol=2e-3, atol=0)


@pytest.mark.parametrize("divergence", ["kl", "tv"])
def test_a_high_penalty_is_wasserstein(divergence):
    x, y, a = draw(8, 2), draw(9, 2, seed=1), masses(8)
    value = unbalanced_wasserstein(x, y, penalty=1e6, divergence=divergence, a=a)
    close(value, wasserstein(x, y, a=a, root=False), rtol=1e-5, atol=0)
    rooted = unbalanced_wasserstein(x, y, penalty=1e6, divergence=divergence, a=a, root=True)
    close(rooted, value.sqrt())


def test_one_point_each_in_closed_form():
    # min_u u c + λ (u log(u/a) − u + a) + λ (u log(u/b) − u + b): u = √(ab) e^{−c/2λ}.
    x, y = torch.tensor([[0.0]]).double(), torch.tensor([[1.5]]).double()
    a, b, price = masses(1, total=0.6), masses(1, total=1.7), 0.8
    u = math.sqrt(0.6 * 1.7) * math.exp(-(1.5**2) / (2 * price))
    solved = unbalanced_transport(x, y, penalty=price, a=a, b=b)
    close(solved.plan().item(), u, rtol=1e-9, atol=0)
    close(solved.value.item(), price * (0.6 + 1.7 - 2 * u), rtol=1e-10, atol=0)
    tv = unbalanced_wasserstein(x, y, penalty=price, divergence="tv", a=a, b=b)
    close(tv.item(), price * 2.3, rtol=1e-12, atol=0)  # 1.5² > 2λ: nothing moves


@pytest.mark.parametrize("divergence", ["kl", "tv"])
def test_laws(divergence):
    options = {"penalty": 0.7, "divergence": divergence}
    x, y, a, b = draw(7, 2), draw(6, 2, seed=1), masses(7), masses(6, seed=1, total=1.5)
    value = unbalanced_wasserstein(x, y, a=a, b=b, **options)
    close(value, unbalanced_wasserstein(y, x, a=b, b=a, **options), rtol=1e-9, atol=1e-12)
    close(value, unbalanced_wasserstein(x + 50, y + 50, a=a, b=b, **options), rtol=1e-9, atol=1e-12)
    close(3 * value, unbalanced_wasserstein(x, y, a=3 * a, b=3 * b, **options), rtol=1e-9, atol=0)
    scaled = unbalanced_wasserstein(10 * x, 10 * y, a=a, b=b, penalty=70.0, divergence=divergence)
    close(100 * value, scaled, rtol=1e-9, atol=0)
    assert abs(unbalanced_wasserstein(x, x, a=a, b=a, **options)) < 1e-10
    split = unbalanced_wasserstein(
        x.repeat_interleave(2, 0), y, a=a.repeat_interleave(2) / 2, b=b, **options
    )
    close(value, split, rtol=1e-9, atol=1e-12)
    batched = unbalanced_wasserstein(torch.stack([x, 2 * x]), y, a=a, b=b, **options)
    close(batched[0], value, rtol=1e-12, atol=0)
    close(batched[1], unbalanced_wasserstein(2 * x, y, a=a, b=b, **options), rtol=1e-12, atol=0)
    single = unbalanced_wasserstein(x.float(), y.float(), a=a.float(), b=b.float(), **options)
    assert single.dtype == torch.float32
    close(single.double(), value, rtol=1e-6, atol=0)
    assert isinstance(unbalanced_wasserstein(x.numpy(), y.numpy(), **options), float)


@pytest.mark.parametrize("divergence", ["kl", "tv"])
@pytest.mark.parametrize("root", [True, False])
def test_gradients(divergence, root):
    x, y = draw(5, 2).requires_grad_(True), draw(6, 2, seed=1).requires_grad_(True)
    a, b = masses(5).requires_grad_(True), masses(6, seed=1, total=0.9).requires_grad_(True)

    def value(x, y, a, b):
        return unbalanced_wasserstein(x, y, penalty=1.3, divergence=divergence, a=a, b=b, root=root)

    assert torch.autograd.gradcheck(value, (x, y, a, b), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("divergence", ["kl", "tv"])
def test_an_empty_point_knows_the_price_of_its_first_unit(divergence):
    x, y, a, b = draw(6, 2), draw(5, 2, seed=1), masses(6, zeros=1), masses(5, seed=1)
    a.requires_grad_(True)
    options = {"penalty": 0.9, "divergence": divergence, "b": b}
    value = unbalanced_wasserstein(x, y, a=a, **options)
    (slope,) = torch.autograd.grad(value, a)
    more = a.detach().clone()
    more[0] = 1e-7
    secant = (unbalanced_wasserstein(x, y, a=more, **options) - value) / 1e-7
    close(slope[0], secant.detach(), rtol=1e-4, atol=1e-5)


def test_far_points_are_dropped_and_made():
    x, y = draw(6, 2), draw(6, 2, seed=1) + 1e4
    for divergence in ("kl", "tv"):
        value = unbalanced_wasserstein(x, y, penalty=0.5, divergence=divergence)
        close(value.item(), 1.0, rtol=1e-12, atol=0)


def test_unbalanced_bad_input():
    x, y = draw(5, 2), draw(6, 2, seed=1)
    with pytest.raises(ValueError, match="unknown divergence 'l2'; known: kl, tv"):
        unbalanced_wasserstein(x, y, penalty=1.0, divergence="l2")
    with pytest.raises(ValueError, match="penalty must be above zero"):
        unbalanced_wasserstein(x, y, penalty=0.0)
    with pytest.raises(ValueError, match="make mass only to move it"):
        unbalanced_wasserstein(x, y, penalty=1.0, p=1.0, cost=lambda x, y: -torch.cdist(x, y))
    with pytest.raises(ValueError, match="negative weights"):
        unbalanced_wasserstein(x, y, penalty=1.0, a=torch.tensor([1, 1, 1, 1, -1.0]).double())


@pytest.mark.parametrize("seed", range(12))
def test_kl_potentials_and_plan_agree_to_eight_digits_for_uneven_masses(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((9, 1)), 2.0 * rng.standard_normal((14, 1)) + 1.0
    a, b = rng.dirichlet(np.full(9, 0.1)), 3.0 * rng.dirichlet(np.full(14, 0.1))
    cost = np.abs(x - y.T) ** 3
    price = 0.1 * float(cost.mean())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solved = unbalanced_transport(x, y, penalty=price, p=3, a=a, b=b)
    f, g = solved.f, solved.g
    f = np.minimum(f, (cost - g).min(1))
    bound = -price * (a @ np.expm1(-f / price) + b @ np.expm1(-g / price))
    assert solved.value == pytest.approx(bound, rel=3e-9)


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e-8])
@pytest.mark.parametrize("divergence", ["tv", "kl"])
def test_costs_far_below_the_penalty(scale, divergence):
    x = scale * torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    y = scale * torch.tensor([[0.0, 1.0], [1.0, 1.0], [3.0, 1.0]], dtype=torch.float64)
    for penalty in (1.0, 1e6):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            solved = unbalanced_transport(x, y, penalty=penalty, divergence=divergence)
        # W2² = 2.5; what is worth dropping is of second order.
        close(solved.value.item(), 2.5 * scale**2, rtol=2 * scale**2 / penalty + 1e-9, atol=0)
        assert solved.converged == (abs(solved.dual_gap) <= 1e-6 * solved.value)
        assert solved.converged == (not told)
        assert solved.converged or divergence == "kl"
    same = unbalanced_transport(x, x, penalty=1.0, divergence=divergence)
    assert same.converged
    assert same.value < 1e-20


@pytest.mark.parametrize("mass", [0.1, 1e-6, 1e-10, 1e-14])
def test_little_mass_moves_at_the_least_cost(mass):
    x = 1e-3 * torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    y = 1e-3 * torch.tensor([[0.0, 1.0], [1.0, 1.0], [3.0, 1.0]], dtype=torch.float64)
    solved = partial_transport(x, y, mass=mass, root=False)
    close(solved.value.item() / mass, 1e-6, rtol=1e-9, atol=0)
    assert solved.converged
    close(solved.plan().sum().item(), mass, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1e-6, 1e-8, 1e-12])
def test_masses_that_differ_at_next_to_no_cost(scale):
    """Then masses a and b meet at √(ab), at a price of λ(√a − √b)²."""
    generator = np.random.default_rng(0)
    x, y = (scale * generator.normal(size=(n, 2)) for n in (8, 7))
    a, b = np.full(8, 1 / 8), np.full(7, 0.01 / 7)
    solved = unbalanced_transport(x, y, penalty=1.0, divergence="kl", a=a, b=b)
    assert solved.value == pytest.approx(0.81, abs=1e-9)
    assert abs(solved.dual_gap) < 1e-9
    assert solved.converged
