"""Entropic transport against POT, limits, gradients, marginals, and its own certificates."""

import dataclasses
import math
import warnings

import numpy as np
import ot
import pytest
import torch
from scipy import stats

from probmetrics.discrepancy import mmd
from probmetrics.gaussian import gaussian_sinkhorn
from probmetrics.pairwise.costs import Cosine, Euclidean, PNorm, SqEuclidean
from probmetrics.pairwise.kernels import Gaussian, Scaled
from probmetrics.transport import storing, sweeps
from probmetrics.transport.entropic_problem import EntropicProblem
from probmetrics.transport.exact import wasserstein
from probmetrics.transport.histogram import entropic_earth_mover
from probmetrics.transport.marginals import Marginal
from probmetrics.transport.sinkhorn import sinkhorn, sinkhorn_divergence
from probmetrics.transport.starting import gaussian_start, own_start
from probmetrics.transport.symmetric import solve_symmetric

COSTS = [SqEuclidean(), Euclidean(), Euclidean(1.5), PNorm(1.0), PNorm(3.0, 2.0), Cosine()]


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def masses(n, seed=0, total=1.0):
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
    return total * w / w.sum()


def kl(plan, a, b):
    outer = np.outer(a, b)
    return np.sum(plan * np.log(np.maximum(plan, 1e-300) / outer) - plan + outer)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_against_pot(cost, backend):
    x, y, a, b = draw(9, 2), draw(7, 2, seed=1) + 0.4, masses(9), masses(7, seed=1)
    matrix = cost(x, y).numpy()
    for epsilon in (1.0, 0.2):
        plan = ot.sinkhorn(
            a.numpy(), b.numpy(), matrix, epsilon, "sinkhorn_log", stopThr=1e-13, numItermax=50_000
        )
        solved = sinkhorn(
            x, y, a=a, b=b, cost=cost, epsilon=epsilon, tolerance=1e-11, backend=backend
        )
        assert solved.converged
        expected = (plan * matrix).sum() + epsilon * kl(plan, a.numpy(), b.numpy())
        assert solved.value.item() == pytest.approx(expected, abs=1e-9)
        assert solved.entropic_value.item() == pytest.approx(expected, abs=1e-9)
        assert solved.cost.item() == pytest.approx((plan * matrix).sum(), abs=1e-9)
        np.testing.assert_allclose(solved.plan().numpy(), plan, atol=1e-9)


@pytest.mark.parametrize("penalty", ["kl", "tv"])
@pytest.mark.parametrize("reach", [0.5, 3.0, (None, 0.5), (0.7, None)])
def test_relaxed_marginals_solve_their_problem(penalty, reach):
    x, y = draw(8, 2), draw(6, 2, seed=1) + 1
    sides = reach if isinstance(reach, tuple) else (reach, reach)
    a = masses(8, total=1.0 if sides[0] is None else 2.0)
    b = masses(6, seed=1, total=1.0 if sides[1] is None else 0.5)
    solved = sinkhorn(x, y, a=a, b=b, epsilon=0.3, reach=reach, penalty=penalty, tolerance=1e-10)
    assert solved.converged
    assert solved.dual_gap.item() == pytest.approx(0, abs=1e-8)
    plan, matrix = solved.plan().numpy(), SqEuclidean()(x, y).numpy()

    def pay(marginal, weights, strength):
        if strength is None:
            np.testing.assert_allclose(marginal, weights, atol=1e-8)
            return 0.0
        if penalty == "tv":
            return strength * np.abs(marginal - weights).sum()
        return strength * np.sum(marginal * np.log(marginal / weights) - marginal + weights)

    def objective(plan):
        value = (plan * matrix).sum() + 0.3 * kl(plan, a.numpy(), b.numpy())
        value += pay(plan.sum(1), a.numpy(), sides[0])
        return value + pay(plan.sum(0), b.numpy(), sides[1])

    assert solved.value.item() == pytest.approx(objective(plan), abs=1e-7)
    if sides[0] is not None and sides[1] is not None:  # no other plan is better
        rng = np.random.default_rng(0)
        for _ in range(20):
            other = plan * np.exp(0.05 * rng.normal(size=plan.shape))
            assert objective(other) >= objective(plan) - 1e-12


def test_relaxed_marginals_against_pot():
    x, y, a, b = draw(8, 2), draw(6, 2, seed=1), masses(8, total=2.0), masses(6, seed=1)
    matrix = SqEuclidean()(x, y).numpy()
    plan = ot.unbalanced.sinkhorn_unbalanced(
        a.numpy(), b.numpy(), matrix, 0.3, 1.0, stopThr=1e-13, numItermax=20_000
    )
    solved = sinkhorn(x, y, a=a, b=b, epsilon=0.3, reach=1.0, tolerance=1e-11)
    np.testing.assert_allclose(solved.plan().numpy(), plan, atol=1e-8)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_gradients(cost, backend):
    x, y = draw(5, 2).requires_grad_(), (draw(4, 2, seed=1) + 0.3).requires_grad_()
    a, b = masses(5).requires_grad_(), masses(4, seed=1).requires_grad_()

    def value(x, y, a, b):
        return sinkhorn(
            x, y, a=a / a.sum(), b=b / b.sum(), cost=cost, epsilon=0.4, tolerance=1e-12,
            backend=backend,
        ).value  # fmt: skip

    assert torch.autograd.gradcheck(value, (x, y, a, b))


@pytest.mark.parametrize("reach", [None, 0.8])
@pytest.mark.parametrize("penalty", ["kl", "tv"])
def test_gradients_of_the_divergence(reach, penalty):
    x, y = draw(5, 2).requires_grad_(), (draw(4, 2, seed=1) + 0.3).requires_grad_()
    a, b = masses(5).requires_grad_(), masses(4, seed=1).requires_grad_()

    def value(x, y, a, b):
        if reach is None:
            a, b = a / a.sum(), b / b.sum()
        return sinkhorn_divergence(
            x, y, a=a, b=b, epsilon=0.4, reach=reach, penalty=penalty, tolerance=1e-12
        )

    assert torch.autograd.gradcheck(value, (x, y, a, b))


def test_second_derivatives_are_refused_by_name():
    x, y = draw(5, 2).requires_grad_(), draw(4, 2, seed=1)
    value = sinkhorn_divergence(x, y, epsilon=0.5)
    (plain,) = torch.autograd.grad(value, x, retain_graph=True)
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    torch.testing.assert_close(first.detach(), plain)
    with pytest.raises(RuntimeError, match="sinkhorn_hessian_product"):
        torch.autograd.grad(first.sum(), x)


def test_streamed_equals_cached_in_blocks(monkeypatch):
    monkeypatch.setattr(sweeps, "BLOCK", 200)
    x, y = draw(2, 60, 3), draw(1, 45, 3, seed=1) + 0.3
    for cost in (SqEuclidean(), Euclidean()):
        found = [
            sinkhorn(x, y, cost=cost, epsilon=0.2, tolerance=1e-10, backend=backend)
            for backend in ("dense", "tiled")
        ]
        torch.testing.assert_close(found[0].value, found[1].value, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(found[0].plan(), found[1].plan(), rtol=1e-6, atol=1e-10)


def test_small_epsilon_tends_to_the_linear_programme():
    x, y = draw(40, 2), draw(40, 2, seed=1) + 0.5
    exact = wasserstein(x, y, root=False)
    gaps = []
    for epsilon in (0.3, 0.03, 0.003):
        solved = sinkhorn(x, y, epsilon=epsilon, tolerance=1e-6)
        assert solved.cost >= exact - 1e-6
        gaps.append((solved.cost - exact).item())
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-2


def test_large_epsilon_tends_to_an_mmd():
    x, y = draw(20, 2), draw(15, 2, seed=1) + 0.5
    limit = mmd(x, y, kernel=Scaled(SqEuclidean(), -0.5), unbiased=False)
    found = sinkhorn_divergence(x, y, epsilon=1e4, tolerance=1e-12)
    torch.testing.assert_close(found, limit, rtol=1e-3, atol=1e-6)


def test_gaussians_in_closed_form():
    grid = (np.arange(1500) + 0.5) / 1500
    x, y = stats.norm(0, 1).ppf(grid), stats.norm(1, 2).ppf(grid)
    expected = gaussian_sinkhorn([0.0], [[1.0]], [1.0], [[4.0]], epsilon=1.0)
    assert sinkhorn(x, y, epsilon=1.0, tolerance=1e-8).value == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [1e-2, 1e-3, 1e-4])
def test_tiny_epsilon_is_safe(dtype, share):
    x, y = draw(60, 2, dtype=dtype), draw(70, 2, seed=1, dtype=dtype) * 1.2 + 0.3
    scale = float(SqEuclidean()(x, y).mean())
    solved = sinkhorn(x, y, epsilon=share * scale, tolerance=1e-3, max_steps=4000)
    assert solved.converged
    assert solved.value.isfinite()
    exact = wasserstein(x.double(), y.double(), root=False)
    assert abs(solved.cost - exact) < (0.05 + 10 * share) * scale


def test_outliers_and_offsets_do_not_underflow():
    x, y = draw(30, 2), draw(25, 2, seed=1)
    far = y.clone()
    far[0] = 300.0
    solved = sinkhorn(x, far, epsilon=0.5, tolerance=1e-6)
    assert solved.converged
    np.testing.assert_allclose(solved.plan().sum(0).numpy(), 1 / 25, atol=1e-6)
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 2e-2)):
        near = sinkhorn(x.to(dtype), y.to(dtype), epsilon=0.2).value
        moved = sinkhorn((x + 1e4).to(dtype), (y + 1e4).to(dtype), epsilon=0.2).value
        torch.testing.assert_close(moved, near, rtol=tolerance, atol=tolerance)


def test_zero_weights_are_exact():
    x, y = draw(6, 2), draw(5, 2, seed=1)
    a = torch.tensor([0.0, 0.2, 0.3, 0.0, 0.4, 0.1]).double()
    full = sinkhorn(x, y, a=a, epsilon=0.3, tolerance=1e-11)
    cut = sinkhorn(x[a > 0], y, a=a[a > 0], epsilon=0.3, tolerance=1e-11)
    torch.testing.assert_close(full.value, cut.value)
    torch.testing.assert_close(full.plan()[a > 0], cut.plan())
    assert (full.plan()[a == 0] == 0).all()
    assert full.f.isfinite().all()


def test_the_plan_without_the_plan():
    x, y = draw(3, 8, 2), draw(3, 6, 2, seed=1)
    solved = sinkhorn(x, y, epsilon=0.3, tolerance=1e-10)
    plan = solved.plan()
    v, u = draw(3, 6, seed=2), draw(3, 8, 4, seed=3)
    torch.testing.assert_close(solved.apply(v), (plan @ v.unsqueeze(-1)).squeeze(-1))
    torch.testing.assert_close(solved.apply_transpose(u), plan.mT @ u)
    torch.testing.assert_close(solved.map(), (plan @ y) / plan.sum(-1, keepdim=True))
    torch.testing.assert_close(solved.map(x + 0.0), solved.map())
    new = draw(3, 5, 2, seed=4)
    weights = torch.softmax((solved.g.unsqueeze(-2) - SqEuclidean()(new, y)) / 0.3, -1)
    torch.testing.assert_close(solved.map(new), weights @ y)


def test_warm_start_saves_passes():
    x, y = draw(50, 2), draw(40, 2, seed=1)
    cold = sinkhorn(x, y, epsilon=0.1, tolerance=1e-8)
    warm = sinkhorn(x + 1e-4, y, epsilon=0.1, tolerance=1e-8, start=cold)
    again = sinkhorn(x, y, epsilon=0.1, tolerance=1e-7, start=cold)
    assert again.steps == 1
    assert warm.steps < cold.steps
    with pytest.raises(ValueError, match="as many points"):
        sinkhorn(x, y[:-1], start=cold)


def test_stopping_short_warns_once_and_says_so():
    x, y = draw(30, 2), draw(30, 2, seed=1) + 2
    with pytest.warns(RuntimeWarning, match="after 2 passes") as caught:
        solved = sinkhorn(x, y, epsilon=0.05, tolerance=1e-9, max_steps=2)
    assert len(caught) == 1
    assert not solved.converged
    assert solved.marginal_error > 1e-9
    error = (solved.plan().sum(0) - 1 / 30).abs().sum()
    torch.testing.assert_close(solved.marginal_error, error, rtol=1e-6, atol=1e-9)


def test_random_problems_converge():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(25):
            rng = np.random.default_rng(seed)
            n, m, d = rng.integers(1, 25), rng.integers(1, 25), rng.integers(1, 5)
            x, y = rng.normal(size=(n, d)) * 3, rng.normal(size=(m, d)) + 1
            for epsilon in (10.0, 0.5, 0.05):
                solved = sinkhorn(x, y, epsilon=epsilon, tolerance=1e-7, max_steps=3000)
                plan = solved.plan()
                np.testing.assert_allclose(plan.sum(1), 1 / n, atol=1e-6)
                np.testing.assert_allclose(plan.sum(0), 1 / m, atol=1e-6)


def test_the_divergence_is_definite_and_ranks():
    x = draw(40, 2)
    values = [sinkhorn_divergence(x, x + shift, tolerance=1e-8) for shift in (0.0, 0.1, 1.0)]
    assert abs(values[0]) < 1e-7
    assert values[0] < values[1] < values[2]
    torch.testing.assert_close(values[2], torch.tensor(2.0).double(), rtol=1e-4, atol=0)


def test_numpy_answers_in_numpy():
    x, y = draw(6, 2).numpy(), draw(5, 2, seed=1).numpy()
    solved = sinkhorn(x, y)
    assert isinstance(solved.value, float)
    assert isinstance(solved.f, np.ndarray)
    assert isinstance(solved.plan(), np.ndarray)
    assert isinstance(solved.cost, float)
    assert "converged       True" in repr(solved)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epsilon": 0.0}, ValueError, "epsilon must be above zero"),
        ({"epsilon": -1.0}, ValueError, "epsilon must be above zero"),
        ({"epsilon": 1e-30}, ValueError, "smallest safe value"),
        ({"epsilon": math.nan}, ValueError, "epsilon must be finite"),
        ({"a": torch.ones(6).double()}, ValueError, "sums to 6"),
        ({"b": torch.tensor([1.5, -0.5, 0, 0, 0]).double()}, ValueError, "negative"),
        ({"reach": 0.0}, ValueError, "reach must be above zero"),
        ({"reach": (1.0, 2.0, 3.0)}, ValueError, "pair"),
        ({"penalty": "l2"}, ValueError, "known: kl, tv"),
        ({"backend": "gpu"}, ValueError, "known: auto, dense, tiled"),
        ({"tolerance": 0.0}, ValueError, "tolerance"),
        ({"max_steps": 0}, ValueError, "max_steps"),
        ({"cost": PNorm(1.0) + Euclidean()}, ValueError, "one profile"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    functions = (sinkhorn,) if "pair" in message else (sinkhorn, sinkhorn_divergence)
    for function in functions:
        with pytest.raises(error, match=message):
            function(draw(6, 2), draw(5, 2, seed=1), **options)


def test_the_divergence_takes_one_reach():
    with pytest.raises(ValueError, match="pass one reach"):
        sinkhorn_divergence(draw(6, 2), draw(5, 2, seed=1), reach=(1.0, None))


def test_one_point_and_constant_data():
    one = sinkhorn([[0.0, 0.0]], [[3.0, 4.0]], epsilon=1.0)
    assert one.value == pytest.approx(25.0)
    assert sinkhorn_divergence(np.ones((4, 2)), np.ones((3, 2))) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("reach", "penalty"), [(None, "kl"), (2.0, "kl"), (2.0, "tv")])
def test_many_points_start_from_clusters(reach, penalty):
    """The start changes the number of passes, not the answer: offsets, weights, zeros."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2100, 2, generator=generator) + 100.0
    y = 1.3 * torch.randn(2200, 2, generator=generator) + 100.5
    a = torch.rand(2100, generator=generator, dtype=torch.float64)
    a[:300] = 0.0
    a = a / a.sum()
    options = {"epsilon": 0.3, "a": a, "reach": reach, "penalty": penalty, "tolerance": 1e-5}
    far = sinkhorn(x, y, **options)
    assert far.converged
    close = sinkhorn(x[300:].double(), y.double(), **{**options, "a": a[300:]}, backend="dense")
    assert close.converged
    assert float(far.value) == pytest.approx(float(close.value), rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_small_hard_problems_converge(seed):
    """Few unequal masses, ties, and costs far above ε, where passes crawl."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 2, generator=generator, dtype=torch.float64).round()
    y = 2.0 * torch.randn(15, 2, generator=generator, dtype=torch.float64).round()
    a = torch.rand(20, generator=generator, dtype=torch.float64) ** 4
    a[3] = 0.0
    reach = (None, 0.5, (0.3, None))[seed % 3]
    solved = sinkhorn(x, y, a=a / a.sum(), epsilon=2e-3, reach=reach, tolerance=1e-7)
    assert solved.converged
    assert abs(float(solved.dual_gap)) < 1e-5


@pytest.mark.parametrize("cost", [SqEuclidean(), Euclidean()], ids=repr)
@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_entries_that_need_more_passes_go_on_alone(cost, backend):
    """Most problems of the batch are done in a few passes, the last takes many."""
    x, y = draw(9, 40, 2), draw(9, 30, 2, seed=1)
    x[:8], y[:8] = 0.2 * x[:8], 0.2 * y[:8]
    x[8], y[8] = 3.0 * x[8], 3.0 * y[8] + 1.0
    options = {"epsilon": 0.5, "tolerance": 1e-9, "cost": cost, "backend": backend}
    together = sinkhorn(x.requires_grad_(), y, **options)
    slope = torch.autograd.grad(together.value.sum(), x)[0]
    alone = [sinkhorn(x[k], y[k], **options) for k in range(9)]
    assert min(one.steps for one in alone) < together.steps == alone[8].steps
    assert together.converged
    for k, one in enumerate(alone):
        torch.testing.assert_close(together.value[k], one.value, rtol=1e-10, atol=1e-12)
        f, own = (z - z.mean() for z in (together.f[k], one.f))
        torch.testing.assert_close(f, own, rtol=1e-6, atol=1e-7)
        assert together.marginal_error[k] <= 1e-9
        torch.testing.assert_close(
            slope[k], torch.autograd.grad(one.value, x)[0][k], rtol=1e-6, atol=1e-9
        )


def test_float32_holds_its_digits_where_one_point_has_nearly_all_mass():
    generator = torch.Generator().manual_seed(3)
    x = 5.0 * torch.randn(11, 5, generator=generator) + 374.0
    y, b = x[:3].clone(), torch.tensor([0.03, 0.97, 4e-9])
    b = b / b.sum()
    options = {"epsilon": 1000.0, "tolerance": 1e-4}
    exact = sinkhorn(x.double(), y.double(), b=b.double(), epsilon=1000.0, tolerance=1e-9)
    found = sinkhorn(x, y, b=b, **options)
    assert found.f.abs().max() < 2.0 * torch.cdist(x, y).square().max()
    assert float(found.value) == pytest.approx(float(exact.value), rel=1e-6)
    assert abs(found.dual_gap) < 1e-4 * found.value


@pytest.mark.parametrize("d", [2, 64])
def test_a_measure_with_itself_takes_few_passes_and_errs_to_second_order(d):
    x = draw(400, d)
    weights = torch.full((1, 400), 1 / 400, dtype=torch.float64)
    own = EntropicProblem(SqEuclidean(), x[None], x[None], weights, weights)
    epsilon, side = torch.tensor([0.1 * d], dtype=torch.float64), Marginal()
    options = {"max_steps": 500, "backend": "auto"}
    rough = solve_symmetric(own, epsilon, side, tolerance=1e-3, **options)
    exact = solve_symmetric(own, epsilon, side, tolerance=1e-12, **options)
    assert rough.converged
    assert rough.steps <= 5
    missed = (weights * (own.softmin(rough.f, epsilon) - rough.f)).abs().sum() / epsilon
    assert missed <= 1.1e-3
    assert abs(float(2 * (rough.f - exact.f).mean() / epsilon)) < 2e-5


@pytest.mark.parametrize(("n", "m"), [(500, 700), (900, 600)])
def test_fine_epsilon_takes_few_passes(n, m):
    """Where plain passes take thousands."""
    x, y = draw(n, 2), 1.3 * draw(m, 2, seed=1) + 0.4
    epsilon = 2e-3 * float(torch.cdist(x, y).square().mean())
    solved = sinkhorn(x, y, epsilon=epsilon, tolerance=1e-6)
    plan = solved.plan()
    assert solved.converged
    assert solved.steps <= 200
    missed = (plan.sum(0) - 1 / m).abs().sum() + (plan.sum(1) - 1 / n).abs().sum()
    assert float(missed) < 1.1e-6


@pytest.mark.parametrize("d", [1, 3, 50])
def test_a_measure_with_itself_starts_from_its_gaussian(d):
    x, a = draw(2, 60, d) + 5.0, torch.rand(2, 60, dtype=torch.float64)
    a = a / a.sum(-1, keepdim=True)
    own = EntropicProblem(SqEuclidean(), x, x, a, a)
    epsilon = torch.tensor([0.3, 2.0], dtype=torch.float64)
    f, g = gaussian_start(own, epsilon)
    torch.testing.assert_close(own_start(own, epsilon), 0.5 * (f + g), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "m"), [(100, 100), (300, 200), (1500, 1500), (2200, 2300)])
def test_the_divergence_is_that_of_three_problems(n, m):
    """Whether the measures' own problems are solved as a batch, one by one or side by side."""
    x, y = draw(n, 2), draw(m, 2, seed=1) + 0.5
    a = torch.rand(n, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    options = {"epsilon": 0.3, "tolerance": 1e-9}
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = float(sinkhorn_divergence(x, y, a=a / a.sum(), **options))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    own = float(sinkhorn(x, x.clone(), a=a / a.sum(), b=a / a.sum(), **options).value)
    own += float(sinkhorn(y, y.clone(), **options).value)
    cross = float(sinkhorn(x, y, a=a / a.sum(), **options).value)
    assert found == pytest.approx(cross - 0.5 * own, rel=1e-7)


def test_a_batch_of_divergences_is_a_loop_of_them():
    """Each measure's own problem rides in one batch with the other's, entry by entry."""
    x = torch.stack([draw(30, 2, seed=k) * (1.0 + k) for k in range(4)])
    y = torch.stack([draw(30, 2, seed=9 + k) + k for k in range(4)])
    options = {"epsilon": 0.3, "tolerance": 1e-9}
    found = sinkhorn_divergence(x, y, **options)
    looped = torch.stack([sinkhorn_divergence(u, v, **options) for u, v in zip(x, y, strict=True)])
    torch.testing.assert_close(found, looped, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("n", "d", "tolerance"), [(2100, 2, 1e-4), (2100, 2, 1e-5), (60, 2, 1e-4)])
def test_kernels_that_few_passes_would_read_are_not_kept(n, d, tolerance, monkeypatch):
    x = draw(n, d).float()
    weights = torch.full((1, n), 1 / n, dtype=torch.float64)
    problem = EntropicProblem(SqEuclidean(), x[None], x[None], weights, weights)
    large = problem.kernel_bytes > storing.CACHE_BYTES
    assert large == (n > 2048)
    wanted = "tiled" if large and tolerance >= 1e-4 else "auto"
    assert storing.streamed_if_few(problem, tolerance, "auto") == wanted
    assert storing.streamed_if_half(problem, tolerance, "auto") == ("tiled" if large else "auto")
    other = dataclasses.replace(problem, ground=Euclidean())
    assert storing.streamed_if_half(other, tolerance, "auto") == "auto"
    assert storing.streamed_if_half(problem, tolerance, "dense") == "dense"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cost", [None, Euclidean()])
@pytest.mark.parametrize("epsilon", [0.01, 0.03, 0.1])
def test_few_tied_points_do_not_lead_potentials_astray(epsilon, cost, dtype):
    """Passes drift evenly there, and what extrapolation fits to is rounding."""
    x = torch.tensor([[0.0], [1.0]], dtype=dtype)
    for p, q in ((0.05, 0.4), (0.5, 0.3), (0.05, 0.9), (0.2, 0.75), (0.95, 0.02)):
        a, b = (torch.tensor([w, 1.0 - w], dtype=dtype) for w in (p, q))
        solved = sinkhorn(x, x.clone(), a=a, b=b, cost=cost, epsilon=epsilon)
        assert solved.converged
        plan = solved.plan().double()
        np.testing.assert_allclose(plan.sum(1), a, atol=2e-4)
        np.testing.assert_allclose(plan.sum(0), b, atol=2e-4)
        assert solved.f.abs().max() + solved.g.abs().max() < 20.0


@pytest.mark.parametrize("seed", range(6))
def test_histograms_at_equal_distances_converge_to_their_marginals(seed):
    generator = np.random.default_rng(seed)
    for _ in range(10):
        p, q = generator.dirichlet(np.ones(4)), generator.dirichlet(np.ones(4))
        solved = entropic_earth_mover(p, q, 1.0 - np.eye(4), epsilon=0.015)
        assert solved.converged
        np.testing.assert_allclose(solved.plan().sum(1), p, atol=1e-4)
        np.testing.assert_allclose(solved.plan().sum(0), q, atol=1e-4)


@pytest.mark.parametrize("cost", [None, Euclidean(), PNorm(3.0, 2.0)])
@pytest.mark.parametrize("value", [
    lambda x, y, **options: sinkhorn(x, y, **options).value,
    sinkhorn_divergence,
])  # fmt: skip
def test_two_weightings_of_one_sample(value, cost):
    """The plan from a sample to itself is symmetric only where the weights are alike."""
    z = draw(7, 2)
    a = masses(7, seed=1)
    for weights in ({"a": a, "b": masses(7, seed=2)}, {"a": a}, {"a": a, "b": a.clone()}, {}):
        gradients = []
        for other in (lambda x: x, torch.clone):
            x = z.clone().requires_grad_()
            solved = value(x, other(x), cost=cost, epsilon=0.5, tolerance=1e-10, **weights)
            gradients.append(torch.autograd.grad(solved, x)[0])
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("d", [3, 24])
def test_few_distinct_points_in_many_dimensions(seed, d):
    """Their covariances are singular, and rounding makes them indefinite."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(2, d, generator=generator)
    x, y = (centres[torch.randint(2, (k,), generator=generator)] for k in (30, 40))
    share = [(z == centres[0]).all(1).double().mean() for z in (x, y)]
    apart = (centres[0] - centres[1]).double().square().sum()
    solved = sinkhorn(x, y, epsilon=0.01 * float(apart))
    assert solved.converged
    wanted = float(abs(share[0] - share[1]) * apart)
    assert float(solved.cost) == pytest.approx(wanted, abs=2e-4 * float(apart))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [1e4, 1e6, 1e9, 1e20, 1e300])
def test_the_limit_of_a_large_epsilon_keeps_its_digits(epsilon, dtype):
    x, y = draw(30, 2, dtype=dtype), draw(25, 2, seed=1, dtype=dtype) + 0.5
    mean = float(torch.cdist(x.double(), y.double()).square().mean())
    assert float(sinkhorn(x, y, epsilon=epsilon).value) == pytest.approx(mean, rel=5e-4)
    apart = float((x.double().mean(0) - y.double().mean(0)).square().sum())
    found = float(sinkhorn_divergence(x, y, epsilon=epsilon))
    assert found == pytest.approx(apart, rel=2e-3)


@pytest.mark.parametrize("cost", [SqEuclidean(), Euclidean(), PNorm(1.0)])
@pytest.mark.parametrize("share", [1e-3, 1e-4, 1e-5])
def test_the_plan_keeps_the_digits_of_its_marginals_in_float32(share, cost):
    x, y = draw(60, 2, dtype=torch.float32), draw(50, 2, seed=1, dtype=torch.float32)
    exact = cost(x.double(), y.double())
    options = {"cost": cost, "epsilon": share * float(exact.mean()), "max_steps": 5000}
    solved = sinkhorn(x, y, **options)
    assert solved.converged
    missed = (solved.apply(torch.ones(50, 1)).squeeze(-1) - 1 / 60).abs().sum()
    assert missed < 2e-4
    plan = solved.plan().double()
    assert (plan.sum(1) - 1 / 60).abs().sum() < 2e-4
    assert float(solved.cost) == pytest.approx(float((plan * exact).sum()), rel=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_maps_of_samples_far_from_zero(offset):
    x, y = ((draw(n, 2, seed=n) + offset).float() for n in (50, 40))
    solved = sinkhorn(x, y, epsilon=0.2, tolerance=1e-6)
    plan = solved.plan().double()
    wanted = plan @ (y.double() - offset) / plan.sum(1, keepdim=True)
    room = max(2e-6, torch.finfo(torch.float32).eps * offset)
    torch.testing.assert_close(solved.map().double() - offset, wanted, rtol=0, atol=room)


@pytest.mark.parametrize("cost", [Scaled(SqEuclidean(), -1.0), Gaussian(1.0)])
def test_costs_that_are_none_are_refused(cost):
    x, y = draw(8, 2), draw(9, 2, seed=1)
    with pytest.raises(ValueError, match="zero for staying"):
        sinkhorn_divergence(x, y, cost=cost, epsilon=1.0)
    if isinstance(cost, Scaled):
        with pytest.raises(ValueError, match="destroying mass"):
            sinkhorn(x, y, cost=cost, epsilon=1.0, reach=1.0, penalty="tv")


def test_answers_take_the_wider_dtype():
    x, y = draw(6, 2, dtype=torch.float32), draw(5, 2, seed=1)
    for pair in ((x, y), (y, x)):
        solved = sinkhorn(*pair, epsilon=0.5)
        assert {z.dtype for z in (solved.value, solved.f, solved.plan())} == {torch.float64}


def test_one_warning_for_three_problems():
    x, y = draw(20, 2), draw(20, 2, seed=1) + 3.0
    with pytest.warns(RuntimeWarning, match="Sinkhorn stopped") as told:
        sinkhorn_divergence(x, y, epsilon=0.01, tolerance=1e-12, max_steps=1)
    assert len(told) == 1


def test_points_and_starts_that_do_not_fit():
    x, y = draw(6, 2), draw(5, 2, seed=1)
    solved = sinkhorn(x, y, epsilon=0.5)
    for new in (draw(3, 4), draw(2, 3, 2)):
        with pytest.raises(ValueError, match="this plan maps points"):
            solved.map(new)
    with pytest.raises(TypeError, match="start must be"):
        sinkhorn(x, y, epsilon=0.5, start=solved.g)
