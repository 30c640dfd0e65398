"""The linear programme: agreement with POT, certificates, axioms, gradients, bad input."""

import math
import warnings

import numpy as np
import ot
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance, wasserstein_distance_nd

from probmetrics.pairwise.costs import Cosine, Euclidean, PNorm, SqEuclidean
from probmetrics.transport import programme, solving
from probmetrics.transport.exact import (
    earth_mover,
    exact_transport,
    histogram_transport,
    wasserstein,
)
from probmetrics.transport.line import wasserstein_1d

close = torch.testing.assert_close


def draw(n, d, *, seed=0, batch=(), dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, n, d, generator=generator, dtype=torch.float64).to(dtype)


def simplex(n, *, seed=0, batch=(), zeros=0):
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand(*batch, n, generator=generator, dtype=torch.float64) + 0.05
    w[..., :zeros] = 0.0
    return w / w.sum(-1, keepdim=True)


def pot(cost, a, b):
    return ot.emd2(a.numpy(), b.numpy(), cost.numpy(), numItermax=10**8)


# ------------------------------------------------------------------------------ the right number


@pytest.mark.parametrize(
    ("n", "m", "d"), [(1, 1, 2), (1, 5, 3), (7, 7, 1), (30, 41, 2), (60, 60, 20)]
)
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_agrees_with_pot(n, m, d, p):
    x, y, a, b = draw(n, d), draw(m, d, seed=1) + 0.3, simplex(n), simplex(m, seed=1)
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** p
    expected = pot(cost, a, b)
    close(wasserstein(x, y, p=p, a=a, b=b, root=False).item(), expected, rtol=1e-9, atol=1e-12)
    close(wasserstein(x, y, p=p, a=a, b=b).item(), expected ** (1 / p), rtol=1e-9, atol=1e-12)
    close(earth_mover(a, b, cost).item(), expected, rtol=1e-9, atol=1e-12)


def test_agrees_with_linprog_and_scipy():
    x, y, a, b = draw(6, 2), draw(5, 2, seed=1), simplex(6), simplex(5, seed=1)
    cost = torch.cdist(x, y)
    rows = np.kron(np.eye(6), np.ones(5))
    columns = np.kron(np.ones(6), np.eye(5))
    lp = linprog(
        cost.reshape(-1).numpy(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b])
    )
    close(wasserstein(x, y, p=1.0, a=a, b=b).item(), lp.fun, rtol=1e-9, atol=1e-12)
    expected = wasserstein_distance_nd(x.numpy(), y.numpy(), a.numpy(), b.numpy())
    close(wasserstein(x, y, p=1.0, a=a, b=b).item(), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(5, 2), (150, 2), (250, 2), (250, 10)])
def test_the_assignment_solver_and_the_simplex_agree(n, d):
    x, y = draw(n, d), draw(n, d, seed=1)
    uniform = torch.full((n,), 1 / n, dtype=torch.float64)
    close(wasserstein(x, y), wasserstein(x, y, a=uniform), rtol=1e-12, atol=0)
    close(wasserstein(x, y), exact_transport(x, y).value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("p", [1.0, 1.7, 2.0, 4.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "m"), [(12, 12), (12, 18), (1, 7)])
def test_programme_is_sort_on_the_line(p, weighted, n, m):
    x, y = draw(n, 1), draw(m, 1, seed=1)
    a, b = (simplex(n, zeros=n // 4), simplex(m, seed=3)) if weighted else (None, None)
    sorting = wasserstein_1d(x.squeeze(-1), y.squeeze(-1), p=p, a=a, b=b)
    flat = torch.cat([x, torch.zeros_like(x)], 1), torch.cat([y, torch.zeros_like(y)], 1)
    close(wasserstein(x, y, p=p, a=a, b=b), sorting)
    close(exact_transport(x, y, p=p, a=a, b=b).value, sorting)
    close(wasserstein(*flat, p=p, a=a, b=b), sorting, rtol=1e-10, atol=1e-12)


def test_a_squared_cost_on_the_line_is_not_rooted():
    x, y = draw(9, 1), draw(9, 1, seed=1)
    squares = (x.sort(0).values - y.sort(0).values).square().mean()
    close(wasserstein(x, y, cost=SqEuclidean(), p=1.0), squares)
    close(exact_transport(x, y, cost=SqEuclidean(), p=1.0).value, squares)
    close(wasserstein(x, y, cost=SqEuclidean()), squares.sqrt())


def test_costs_of_very_different_size_keep_their_digits():
    x = torch.cat([draw(60, 2), torch.tensor([[3e4, -2e4], [-1e5, 5e3]]).double()])
    y = torch.cat([draw(70, 2, seed=1), torch.tensor([[-2e4, 1e4]]).double()])
    a, b = simplex(62), simplex(71, seed=1)
    a[-2:], b[-1] = 1e-12, 1e-12
    solved = exact_transport(x, y, p=4.0, a=a / a.sum(), b=b / b.sum())
    assert solved.converged
    assert solved.dual_gap <= 1e-9 * solved.cost


def test_infinite_order_on_the_line_only():
    x, y = draw(9, 1), draw(9, 1, seed=1)
    expected = (x.sort(0).values - y.sort(0).values).abs().max()
    close(wasserstein(x, y, p=math.inf), expected)
    with pytest.raises(ValueError, match="one dimension only"):
        wasserstein(draw(9, 2), draw(9, 2), p=math.inf)
    with pytest.raises(ValueError, match="no potentials"):
        exact_transport(x, y, p=math.inf)


def test_scipy_on_the_line():
    x, y = draw(40, 1), draw(30, 1, seed=1)
    expected = wasserstein_distance(x.squeeze(-1).numpy(), y.squeeze(-1).numpy())
    close(wasserstein(x, y, p=1.0).item(), expected)


def test_gaussian_quantiles_approach_the_known_distance():
    t = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    x = torch.special.ndtri(t).unsqueeze(-1)
    close(wasserstein(x, 2 * x, p=1.0).item(), 0.79788456, rtol=1e-3, atol=0)


# ------------------------------------------------------------------------------------- the ground

unit = torch.nn.functional.normalize

GROUNDS = [
    (Euclidean(), 2.0, lambda x, y: torch.cdist(x, y) ** 2),
    (SqEuclidean(), 2.0, lambda x, y: torch.cdist(x, y) ** 2),
    (SqEuclidean(), 1.0, lambda x, y: torch.cdist(x, y) ** 2),
    (PNorm(1.0), 2.0, lambda x, y: torch.cdist(x, y, p=1) ** 2),
    (PNorm(3.0, power=2.0), 2.0, lambda x, y: torch.cdist(x, y, p=3) ** 2),
    (PNorm(math.inf), 1.0, lambda x, y: torch.cdist(x, y, p=math.inf)),
    (Cosine(), 1.0, lambda x, y: 1 - unit(x) @ unit(y).T),
    (Cosine(), 2.0, lambda x, y: (1 - unit(x) @ unit(y).T) ** 2),
    (Euclidean() + PNorm(1.0), 2.0, lambda x, y: (torch.cdist(x, y) + torch.cdist(x, y, p=1)) ** 2),
    (Euclidean().on(torch.sin), 2.0, lambda x, y: torch.cdist(x.sin(), y.sin()) ** 2),
    (lambda x, y: torch.cdist(x, y, p=1), 3.0, lambda x, y: torch.cdist(x, y, p=1) ** 3),
    (lambda x, y: -x @ y.T, 1.0, lambda x, y: -x @ y.T),
]  # fmt: skip


@pytest.mark.parametrize(("cost", "p", "matrix"), GROUNDS)
def test_any_ground(cost, p, matrix):
    x, y, a = draw(12, 3), draw(15, 3, seed=1), simplex(12)
    b = torch.full((15,), 1 / 15, dtype=torch.float64)
    expected = pot(matrix(x, y), a, b)
    close(
        wasserstein(x, y, cost=cost, p=p, a=a, root=False).item(), expected, rtol=1e-9, atol=1e-12
    )
    solved = exact_transport(x, y, cost=cost, p=p, a=a)
    rounding = 1e-13 * matrix(x, y).abs().max()
    assert abs(solved.dual_gap) < rounding
    assert (solved.f[:, None] + solved.g - matrix(x, y)).max() < rounding
    x.requires_grad_(True)
    y.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda x, y: wasserstein(x, y, cost=cost, p=p, a=a, root=False), (x, y)
    )


def test_a_cost_with_parameters_learns():
    x, y = draw(10, 2), draw(10, 2, seed=1)
    scale = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)

    def distance(scale):
        return wasserstein(x, y, cost=lambda x, y: torch.cdist(x * scale, y * scale))

    assert torch.autograd.gradcheck(distance, (scale,))
    features = torch.nn.Linear(2, 3)  # runs in the dtype of the sample, float32
    value = wasserstein(x.float(), y.float(), cost=Euclidean().on(features))
    value.backward()
    assert value.dtype == torch.float32
    assert features.weight.grad.abs().sum() > 0


def test_one_dimensional_features_are_sorted():
    x, y = draw(10, 3), draw(10, 3, seed=1)
    first = Euclidean().on(lambda x: x[..., :1])
    close(wasserstein(x, y, cost=first, p=1.0), wasserstein_1d(x[:, 0], y[:, 0]))
    solved = exact_transport(x, y, cost=first)
    assert solved.plan().shape == (10, 10)
    assert solved.map().shape == (10, 3)


# ------------------------------------------------------------------------------------ the answer


@pytest.mark.parametrize("d", [1, 2, 6])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_plan_and_potentials_certify(d, p):
    n, m = 25, 31
    x, y, a, b = draw(n, d), draw(m, d, seed=1), simplex(n, zeros=4), simplex(m, seed=1, zeros=3)
    solved = exact_transport(x, y, p=p, a=a, b=b)
    plan, cost = solved.plan(), torch.cdist(x, y) ** p
    close(plan.sum(1), a, rtol=0, atol=1e-14)
    close(plan.sum(0), b, rtol=0, atol=1e-14)
    assert (plan >= 0).all()
    assert solved.marginal_error < 1e-13
    close((plan * cost).sum(), solved.cost)
    close(solved.value, solved.cost ** (1 / p))
    assert (solved.f[:, None] + solved.g - cost).max() < 1e-12
    close(a @ solved.f + b @ solved.g, solved.cost)
    close(a @ solved.f, b @ solved.g)
    assert abs(solved.dual_gap) < 1e-12
    assert solved.converged
    assert solved.steps == 1


def test_apply_is_the_plan_times_vectors():
    x, y = draw(8, 2, batch=(3,)), draw(9, 2, seed=1, batch=(3,))
    solved = exact_transport(x, y)
    plan = solved.plan()
    v, many = draw(3, 9), draw(9, 4, batch=(3,))
    close(solved.apply(v), (plan @ v.unsqueeze(-1)).squeeze(-1))
    close(solved.apply(v[0]), plan @ v[0])
    close(solved.apply(many), plan @ many)
    close(solved.apply_transpose(plan.sum(-1)), (plan.mT @ plan.sum(-1).unsqueeze(-1)).squeeze(-1))
    close(solved.plan(sparse=True).to_dense(), plan)
    with pytest.raises(ValueError, match="v must have shape"):
        solved.apply(draw(1, 7)[0])
    with pytest.raises(TypeError, match="same kind"):
        solved.apply(v.numpy())


def test_sparse_plan_for_numpy():
    x, y = draw(8, 2).numpy(), draw(9, 2, seed=1).numpy()
    solved = exact_transport(x, y)
    plan = solved.plan(sparse=True)
    assert isinstance(plan, scipy.sparse.coo_array)
    np.testing.assert_allclose(plan.toarray(), solved.plan())
    assert plan.nnz <= 16
    with pytest.raises(ValueError, match="one problem at a time"):
        exact_transport(x[None], y[None]).plan(sparse=True)


def test_map_is_the_barycentric_projection():
    x, y = draw(8, 2), draw(8, 2, seed=1)
    a = simplex(8, zeros=2)
    solved = exact_transport(x, y, a=a)
    plan = solved.plan()
    projected = plan[2:] @ y / plan[2:].sum(1, keepdim=True)
    close(solved.map()[2:], projected)
    close(solved.map(x), solved.map())
    # Points without weight, and new ones, go to the target their potential prefers.
    prefers = (torch.cdist(x, y) ** 2 - solved.g).argmin(1)
    close(solved.map()[:2], y[prefers[:2]])
    new = draw(5, 2, seed=7)
    close(solved.map(new), y[(torch.cdist(new, y) ** 2 - solved.g).argmin(1)])
    assert exact_transport(x.numpy(), y.numpy()).map(new.numpy()).shape == (5, 2)
    with pytest.raises(ValueError, match="x has 3 columns"):
        solved.map(draw(5, 3))


def test_map_of_a_shift_is_the_shift():
    x = draw(20, 3)
    close(exact_transport(x, x + 5.0).map(), x + 5.0)


def test_the_answer_prints_well():
    text = repr(exact_transport(draw(5, 2), draw(6, 2, seed=1)))
    assert "Transport of 5 points onto 6" in text
    assert "dual gap" in text
    assert "converged       True (1 step)" in text
    batched = repr(exact_transport(draw(5, 2, batch=(3,)), draw(6, 2)))
    assert "batch (3,)" in batched
    assert " to " in batched


def test_histograms_have_no_map():
    solved = histogram_transport(simplex(3), simplex(4, seed=1), draw(3, 4).abs())
    assert abs(solved.dual_gap) < 1e-12
    with pytest.raises(ValueError, match="no coordinates"):
        solved.map()


# --------------------------------------------------------------------------------- laws


@given(seed=st.integers(0, 10**6), p=st.sampled_from([1.0, 2.0, 3.0]), d=st.sampled_from([1, 2, 4]))
def test_metric_axioms(seed, p, d):
    x, y, z = draw(6, d, seed=seed), draw(7, d, seed=seed + 1), draw(5, d, seed=seed + 2)
    xy, yz, xz = (wasserstein(*pair, p=p) for pair in ((x, y), (y, z), (x, z)))
    close(xy, wasserstein(y, x, p=p))
    assert xz <= xy + yz + 1e-12
    assert xy > 0
    assert wasserstein(x, x[torch.randperm(6)], p=p) == 0


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_translation_and_scaling(p):
    x, shift = draw(15, 3), torch.tensor([3.0, 4.0, 12.0], dtype=torch.float64)
    close(wasserstein(x, x + shift, p=p).item(), 13.0)
    y = draw(12, 3, seed=1)
    value = wasserstein(x, y, p=p)
    close(wasserstein(x + 1e4, y + 1e4, p=p), value, rtol=1e-9, atol=0)
    close(wasserstein(3 * x, 3 * y, p=p), 3 * value)
    for tiny in (1e-12, 1e12):  # POT on its own returns an arbitrary plan at cost 1e-20
        close(wasserstein(tiny * x, tiny * y, p=p) / tiny, value)


def test_a_constant_in_the_cost_is_paid_once():
    p, q, cost = simplex(9), simplex(9, seed=1), draw(9, 9)
    close(earth_mover(p, q, cost + 100.0), earth_mover(p, q, cost) + 100.0, rtol=1e-12, atol=0)
    close(earth_mover(p, q, cost - 100.0), earth_mover(p, q, cost) - 100.0, rtol=1e-12, atol=0)


def test_weights_are_repetition_and_zeros_are_absence():
    x, y = draw(5, 2), draw(6, 2, seed=1)
    counts = torch.tensor([1, 3, 2, 1, 1])
    repeated = x.repeat_interleave(counts, 0)
    weighted = wasserstein(x, y, a=counts / counts.sum().double())
    close(weighted, wasserstein(repeated, y))
    a = torch.tensor([0.5, 0.0, 0.25, 0.25, 0.0], dtype=torch.float64)
    kept = a > 0
    close(wasserstein(x, y, a=a), wasserstein(x[kept], y, a=a[kept]), rtol=1e-14, atol=0)
    plan = exact_transport(x, y, a=a).plan()
    assert (plan[~kept] == 0).all()


def test_potentials_of_empty_points_predict_what_a_little_mass_would_cost():
    x, y, a = draw(6, 2), draw(7, 2, seed=1), simplex(6, zeros=2)
    solved = exact_transport(x, y, a=a, root=False)
    step = 1e-7
    moved = a.clone()
    moved[0], moved[3] = step, a[3] - step
    slope = (wasserstein(x, y, a=moved, root=False) - solved.value) / step
    close(slope, solved.f[0] - solved.f[3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("d", [1, 3])
def test_batched_is_looped(d):
    x, y = draw(6, d, batch=(2, 1)), draw(7, d, seed=1, batch=(3,))
    a = simplex(6, batch=(2, 3))
    values = wasserstein(x, y, a=a)
    solved = exact_transport(x, y, a=a)
    assert values.shape == solved.dual_gap.shape == (2, 3)
    assert solved.plan().shape == (2, 3, 6, 7)
    assert solved.f.shape == (2, 3, 6)
    for i in range(2):
        for j in range(3):
            one = exact_transport(x[i, 0], y[j], a=a[i, j])
            close(values[i, j], one.value)
            close(solved.plan()[i, j], one.plan())
            close(solved.map()[i, j], one.map())
    cost = torch.cdist(x, y)
    close(
        earth_mover(a, simplex(7), cost)[1, 2],
        earth_mover(a[1, 2], simplex(7), cost[1, 2]),
    )
    looped = wasserstein(x, y, cost=lambda x, y: torch.cdist(x, y))  # sees one problem at a time
    close(looped, wasserstein(x, y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_lower_precision_is_solved_in_float64(dtype):
    x, y = draw(20, 3, dtype=dtype), draw(25, 3, seed=1, dtype=dtype)
    value = wasserstein(x, y)
    expected = wasserstein(x.double(), y.double())
    assert value.dtype == dtype
    close(value, expected.to(dtype), rtol=0, atol=0)
    solved = exact_transport(x, y)
    assert solved.f.dtype == solved.plan().dtype == solved.map().dtype == dtype
    assert solved.marginal_error < 1e-14
    x.requires_grad_(True)
    wasserstein(x, y).backward()
    assert x.grad.dtype == dtype
    offset = draw(20, 3, dtype=torch.float32) + 1e4
    close(wasserstein(offset, offset + 0.5).item(), 0.75**0.5, rtol=1e-5, atol=0)


def test_numpy_is_torch():
    x, y, a = draw(9, 2), draw(7, 2, seed=1), simplex(9)
    value = wasserstein(x.numpy(), y.numpy(), a=a.numpy())
    assert isinstance(value, float)
    close(value, wasserstein(x, y, a=a).item())
    solved = exact_transport(x.numpy(), y.numpy(), a=a.numpy())
    assert isinstance(solved.f, np.ndarray)
    assert isinstance(solved.cost, float)
    assert isinstance(solved.apply(y.numpy()), np.ndarray)
    np.testing.assert_allclose(solved.plan(), exact_transport(x, y, a=a).plan())
    assert wasserstein([0.0, 1.0], [2.0, 3.0]) == 2.0  # (n,) is n points on the line


# ------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("root", [True, False])
def test_gradients(d, p, root):
    x, y = draw(5, d).requires_grad_(True), draw(6, d, seed=1).requires_grad_(True)
    a, b = simplex(5).requires_grad_(True), simplex(6, seed=1).requires_grad_(True)

    def value(x, y, a, b):
        return exact_transport(x, y, p=p, a=a / a.sum(), b=torch.softmax(b, -1), root=root).value

    assert torch.autograd.gradcheck(value, (x, y, a, b))
    fast = torch.autograd.grad(wasserstein(x, y, p=p, a=a, b=b, root=root), (x, y, a, b))
    slow = torch.autograd.grad(exact_transport(x, y, p=p, a=a, b=b, root=root).value, (x, y, a, b))
    for one, other in zip(fast, slow, strict=True):
        close(one, other)
    close((fast[2] * a).sum().item(), 0.0, rtol=0, atol=1e-12)


def test_gradient_of_a_histogram_is_plan_and_potentials():
    p, q = simplex(4).requires_grad_(True), simplex(5, seed=1).requires_grad_(True)
    cost = draw(4, 5).abs().requires_grad_(True)
    solved = histogram_transport(p, q, cost)
    dp, dc = torch.autograd.grad(solved.value, (p, cost))
    close(dc, solved.plan())
    close(dp, solved.f - p.detach() @ solved.f)
    assert torch.autograd.gradcheck(
        lambda p, q, c: earth_mover(p, q, c, normalize=True), (3 * p, q, cost)
    )


def test_gradients_at_zero_and_at_ties_are_zero_not_nan():
    x = draw(6, 2).requires_grad_(True)
    for p in (1.0, 1.5, 2.0):
        (gradient,) = torch.autograd.grad(wasserstein(x, x.detach(), p=p), x)
        assert (gradient == 0).all()
    same = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(wasserstein(same, torch.ones(4, 2).double()), same)
    assert (gradient == 0).all()
    (gradient,) = torch.autograd.grad(wasserstein(same, torch.zeros(4, 2).double(), p=1.0), same)
    close(gradient, torch.full((4, 2), 0.25 / 2**0.5, dtype=torch.float64))


def test_second_derivatives_in_points_and_none_in_weights():
    x, y = draw(4, 2).requires_grad_(True), draw(4, 2, seed=1)
    assert torch.autograd.gradgradcheck(lambda x: wasserstein(x, y), (x,))
    a = simplex(4).requires_grad_(True)
    (first,) = torch.autograd.grad(wasserstein(x, y, a=a), a, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        first.square().sum().backward()


def test_float32_gradient_descent_moves_onto_the_target():
    x, y = draw(12, 2, dtype=torch.float32), draw(12, 2, seed=1, dtype=torch.float32)
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(wasserstein(x, y, root=False), x)
    moved = x.detach() - gradient * 12 / 2  # the exact step of W_2^2 onto its barycentric map
    close(moved, exact_transport(x, y).map().detach(), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------- bad input


def test_bad_input_says_what_to_do():
    x, y = draw(5, 2), draw(6, 2, seed=1)
    bad = x.clone()
    bad[2, 1] = math.nan
    with pytest.raises(ValueError, match="x holds nan at row 2"):
        wasserstein(bad, y)
    with pytest.raises(ValueError, match="same coordinates"):
        wasserstein(x, draw(6, 3))
    with pytest.raises(ValueError, match=r"a sums to 2, not to 1; pass a / a\.sum"):
        wasserstein(x, y, a=torch.full((5,), 0.4).double())
    with pytest.raises(ValueError, match="negative weights"):
        wasserstein(x, y, a=torch.tensor([1.5, -0.5, 0, 0, 0]).double())
    with pytest.raises(ValueError, match="one weight per point"):
        wasserstein(x, y, b=simplex(5))
    with pytest.raises(ValueError, match="p must be at least 1"):
        wasserstein(x, y, p=0.5)
    with pytest.raises(ValueError, match="do not broadcast"):
        wasserstein(draw(5, 2, batch=(2,)), draw(5, 2, batch=(3,)))
    with pytest.raises(ValueError, match="batch is empty"):
        wasserstein(draw(5, 2, batch=(0,)), y)
    with pytest.raises(TypeError, match="other arrays"):
        wasserstein(x, y.numpy())


def test_bad_costs_say_what_to_do():
    x, y = draw(5, 2), draw(6, 2, seed=1)
    with pytest.raises(TypeError, match="use earth_mover"):
        wasserstein(x, y, cost=torch.cdist(x, y))
    with pytest.raises(ValueError, match=r"shape \(5, 6\)"):
        wasserstein(x, y, cost=lambda x, y: torch.cdist(y, x))
    with pytest.raises(ValueError, match="pass p=1"):
        wasserstein(x, y, cost=lambda x, y: x @ y.T)
    with pytest.raises(ValueError, match=r"cost\(x, y\) holds nan"):
        wasserstein(x, y, cost=lambda x, y: torch.cdist(x, y) * math.nan)
    with pytest.raises(ValueError, match="p=2 for the distance it belongs to"):
        wasserstein(x, y, cost=SqEuclidean(), p=3.0)


def test_bad_histograms_say_what_to_do():
    p, q, cost = simplex(3), simplex(4, seed=1), draw(3, 4).abs()
    with pytest.raises(ValueError, match="p sums to 2, not to 1; pass normalize=True"):
        earth_mover(2 * p, q, cost)
    close(earth_mover(2 * p, q, cost, normalize=True), earth_mover(p, q, cost))
    with pytest.raises(ValueError, match="cost must have shape"):
        earth_mover(p, q, cost.T)
    with pytest.raises(ValueError, match="cost holds inf"):
        earth_mover(p, q, cost / 0)
    with pytest.raises(ValueError, match="q has negative entries"):
        earth_mover(p, q - 0.5, cost)


def test_an_unfinished_programme_is_never_silent(monkeypatch):
    monkeypatch.setattr(programme, "MAX_STEPS", 3)
    x, y = draw(40, 2), draw(50, 2, seed=1)
    with pytest.warns(RuntimeWarning, match="ended before its optimum"):
        solved = exact_transport(x, y)
    assert not solved.converged
    with pytest.warns(RuntimeWarning, match="ended before its optimum"):
        wasserstein(x, y)


def test_one_thousand_equal_points():
    x = torch.ones(300, 2, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wasserstein(x, x) == 0
        solved = exact_transport(x, x, a=simplex(300))
    assert solved.value == 0
    assert solved.converged
    assert solving.RESTRICTED_PAIRS > 0


@pytest.mark.parametrize(("scale", "p"), [(1e-3, 200), (1e11, 100), (1e-200, 2)])
def test_powers_beyond_float64_are_an_error_that_says_so(scale, p):
    x = scale * torch.tensor([[0.0, 0.0], [0.5, 0.3]], dtype=torch.float64)
    with pytest.raises(ValueError, match="beyond what float64 can hold"):
        wasserstein(x, x + scale, p=p)
    assert wasserstein(x[:1], x[:1], p=p) == 0


def test_a_gap_below_zero_is_no_certificate():
    x, a = np.array([0.0, 1.0, 1e10]), np.array([0.5, 0.5 - 1e-12, 1e-12])
    cost = (x[:, None] - x[:2]) ** 2
    b = np.array([0.25, 0.75])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = histogram_transport(a, b, cost)
    assert found.converged == (abs(found.dual_gap) <= 1e-8 * found.value)
