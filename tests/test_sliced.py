"""Sliced, max-sliced and projected distances against closed forms, POT and their own laws."""

import math

import numpy as np
import ot
import pytest
import torch

from probmetrics.transport import slices
from probmetrics.transport.directions import orthonormal_frames, unit_directions
from probmetrics.transport.exact import wasserstein
from probmetrics.transport.line import wasserstein_1d
from probmetrics.transport.max_sliced import max_sliced_direction, max_sliced_wasserstein
from probmetrics.transport.sliced import sliced_wasserstein, sliced_wasserstein_estimate
from probmetrics.transport.subspaces import projected_wasserstein

F64 = torch.float64
DISTANCES = {
    "sliced": sliced_wasserstein,
    "max_sliced": lambda x, y, **o: max_sliced_wasserstein(x, y, restarts=1, **o),
    "projected": lambda x, y, **o: projected_wasserstein(x, y, k=2, projections=3, **o),
}
every = pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)


def simplex(w):
    return w / w.sum(-1, keepdim=True)


def problem(n=7, m=5, d=3, *batch, seed=0, dtype=F64):
    source = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, dtype=F64, generator=source)  # noqa: E731
    x, y = draw(*batch, n, d), 0.3 + 1.4 * draw(*batch, m, d)
    a, b = (simplex(draw(*batch, k).square() + 0.1) for k in (n, m))
    return tuple(z.to(dtype) for z in (x, y, a, b))


# Closed forms and other libraries ------------------------------------------------------------


@pytest.mark.parametrize("directions", ["random", "orthogonal", "qmc"])
@pytest.mark.parametrize("d", [2, 5])
def test_a_shift_has_its_mean_square_cosine(directions, d):
    """W_2² of a shift v along θ is (θ·v)², with mean |v|²/d over the sphere."""
    x, *_ = problem(d=d)
    shift = torch.arange(1.0, d + 1, dtype=F64)
    answer = sliced_wasserstein_estimate(
        x, x + shift, projections=2000, directions=directions, root=False, generator=0
    )
    truth = float(shift.square().sum()) / d
    assert abs(float(answer.value) - truth) < 3 * float(answer.standard_error)
    if directions != "random":  # they cover the sphere more evenly than the error supposes
        assert abs(float(answer.value) - truth) < 0.3 * float(answer.standard_error)


def test_orthogonal_directions_are_exact_for_a_shift():
    x, *_ = problem(d=4)
    shift = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=F64)
    options = {"projections": 4, "directions": "orthogonal", "root": False, "generator": 1}
    assert sliced_wasserstein(x, x + shift, **options).item() == pytest.approx(7.5, rel=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("weighted", [True, False])
def test_agrees_with_pot(p, weighted):
    x, y, a, b = (z.numpy() for z in problem(40, 31, 6))
    theta = np.random.default_rng(0).standard_normal((6, 20))
    theta /= np.linalg.norm(theta, axis=0)
    a, b = (a, b) if weighted else (None, None)
    theirs = ot.sliced_wasserstein_distance(x, y, a, b, projections=theta, p=p)
    ours = sliced_wasserstein(x, y, a=a, b=b, directions=theta.T, p=p)
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_one_dimension_is_the_line():
    x, y, a, b = problem(d=1)
    line = wasserstein_1d(x[:, 0], y[:, 0], p=2, a=a, b=b).item()
    for function in (sliced_wasserstein, max_sliced_wasserstein):
        assert function(x, y, a=a, b=b).item() == pytest.approx(line, rel=1e-12)
    assert projected_wasserstein(x, y, k=1, a=a, b=b).item() == pytest.approx(line, rel=1e-12)
    assert sliced_wasserstein(x[:, 0], y[:, 0], a=a, b=b).item() == pytest.approx(line, rel=1e-12)
    answer = sliced_wasserstein_estimate(x, y, a=a, b=b)
    assert float(answer.standard_error) == 0
    assert answer.projections == 1


def test_max_sliced_finds_where_normals_differ():
    source = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 5, dtype=F64, generator=source)
    y = torch.randn(2000, 5, dtype=F64, generator=source)
    y[:, 3] *= 3  # the means agree: only the spread along one axis differs
    value = max_sliced_wasserstein(x, y, generator=0).item()
    assert value == pytest.approx(2, rel=0.1)  # W_2(N(0, 1), N(0, 9))
    direction = max_sliced_direction(x, y, generator=0)
    assert abs(direction[3].item()) > 0.99
    along = sliced_wasserstein(x, y, directions=direction.unsqueeze(0)).item()
    assert along == pytest.approx(value, rel=1e-12)


def test_max_sliced_is_between_every_direction_and_the_distance():
    x, y, a, b = problem(12, 9, 2)
    angles = torch.linspace(0, math.pi, 721, dtype=F64)
    theta = torch.stack([angles.cos(), angles.sin()], -1)
    for p in (1, 2):
        best = slices.costs_by_block(x, y, a, b, theta, p, root=True).max().item()
        value = max_sliced_wasserstein(x, y, a=a, b=b, p=p, generator=0).item()
        assert value >= best * (1 - 1e-6)
        assert value <= wasserstein(x, y, a=a, b=b, p=p).item() * (1 + 1e-12)
    largest = max_sliced_wasserstein(x, y, p=math.inf, generator=0)
    assert largest.item() >= max_sliced_wasserstein(x, y, p=2, generator=0).item()


def test_projections_on_subspaces():
    x, y, a, b = problem(8, 6, 4)
    whole = wasserstein(x, y, a=a, b=b)
    full = projected_wasserstein(x, y, k=4, a=a, b=b)
    torch.testing.assert_close(full, whole)
    frame = torch.eye(4, dtype=F64)[None, 1:3]
    options = {"a": a, "b": b, "p": 1}
    there = projected_wasserstein(x, y, directions=3 * frame, **options)  # made orthonormal
    torch.testing.assert_close(there, wasserstein(x[:, 1:3], y[:, 1:3], **options))
    values = [
        projected_wasserstein(x, y, k=k, directions=kind, a=a, b=b, generator=0).item()
        for kind in ("random", "orthogonal")
        for k in (1, 2, 3)
    ]
    assert all(value < whole.item() for value in values)
    theta = unit_directions("orthogonal", 16, x, 5)
    assert projected_wasserstein(
        x, y, k=1, directions="orthogonal", generator=5
    ).item() == pytest.approx(sliced_wasserstein(x, y, directions=theta).item(), rel=1e-12)


# Directions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "orthogonal", "qmc"])
@pytest.mark.parametrize("d", [2, 3, 7])
def test_directions_are_units_spread_over_the_sphere(kind, d):
    like = torch.zeros(1, d)
    theta = unit_directions(kind, 3000, like, 0)
    assert theta.shape == (3000, d)
    assert theta.dtype == like.dtype
    torch.testing.assert_close(theta.norm(dim=-1), torch.ones(3000))
    second = theta.mT @ theta / 3000
    assert (second - torch.eye(d) / d).abs().max().item() < 0.03
    assert torch.equal(theta, unit_directions(kind, 3000, like, 0))
    assert not torch.equal(theta, unit_directions(kind, 3000, like, 1))


def test_orthogonal_groups_and_frames():
    theta = unit_directions("orthogonal", 10, torch.zeros(1, 4, dtype=F64), 0)
    torch.testing.assert_close(theta[:4] @ theta[:4].mT, torch.eye(4, dtype=F64))
    torch.testing.assert_close(theta[8:] @ theta[8:].mT, torch.eye(2, dtype=F64))
    frames = orthonormal_frames(5, 2, 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(frames @ frames.mT, torch.eye(2, dtype=F64).expand(5, 2, 2))


@every
def test_seeds_and_the_global_state(distance):
    x, y, *_ = problem(d=6)
    state = torch.random.get_rng_state()
    first = distance(x, y, generator=3).item()
    assert distance(x, y, generator=torch.Generator().manual_seed(3)).item() == first
    assert distance(x.float(), y.float(), generator=3).item() == pytest.approx(first, rel=1e-5)
    distance(x, y)
    assert torch.equal(state, torch.random.get_rng_state())


def test_standard_error_is_that_of_many_draws():
    x, y, *_ = problem(30, 30, 4)
    draws = [
        sliced_wasserstein_estimate(x, y, projections=25, generator=seed) for seed in range(300)
    ]
    spread = torch.stack([draw.value for draw in draws]).std().item()
    reported = torch.stack([draw.standard_error for draw in draws]).mean().item()
    assert reported == pytest.approx(spread, rel=0.15)
    same = sliced_wasserstein(x, y, projections=25, generator=7).item()
    assert draws[7].value.item() == same
    none = sliced_wasserstein_estimate(x, x, generator=0)
    assert (none.value.item(), none.standard_error.item()) == (0, 0)
    numbers = sliced_wasserstein_estimate(x.numpy(), y.numpy(), generator=0)
    assert isinstance(numbers.value, float)
    assert isinstance(numbers.standard_error, float)


# Invariances ---------------------------------------------------------------------------------


@every
def test_zero_between_a_sample_and_itself(distance):
    x, _, a, _ = problem(6, 6)
    assert distance(x, x, generator=0).item() == 0
    assert distance(x, x, a=a, b=a, generator=0).item() == 0


@every
def test_weights_are_repetition_and_may_be_zero(distance):
    x, y, *_ = problem(4, 3)
    times = torch.tensor([1, 3, 0, 1]), torch.tensor([2, 1, 4])
    a, b = (t.double() / t.sum() for t in times)
    repeated = distance(
        x.repeat_interleave(times[0], 0), y.repeat_interleave(times[1], 0), generator=0
    )
    weighted = distance(x, y, a=a, b=b, generator=0)
    assert weighted.item() == pytest.approx(repeated.item(), rel=1e-5)


@every
def test_batched_is_looped(distance):
    x, y, a, b = problem(6, 4, 3, 2)
    together = distance(x.unsqueeze(1), y, a=a.unsqueeze(1), generator=0)
    assert together.shape == (2, 2)
    for i in range(2):
        for j in range(2):
            alone = distance(x[i], y[j], a=a[i], generator=0).item()
            assert together[i, j].item() == pytest.approx(alone, rel=1e-5)
    plain = distance(x, y[0], b=b, generator=0)
    assert plain[1].item() == pytest.approx(distance(x[1], y[0], b=b[1], generator=0).item(), 1e-5)


@pytest.mark.parametrize("batch", [(0,), (0, 3), (2, 0)])
@pytest.mark.parametrize("root", [True, False])
def test_an_empty_batch_has_an_empty_answer(batch, root):
    x, y, a, b = problem(5, 6, 4, *batch)
    line = lambda x, y, **o: projected_wasserstein(x, y, k=1, **o)  # noqa: E731
    for distance in (sliced_wasserstein, line, max_sliced_wasserstein):
        for options in ({}, {"a": a}, {"a": a, "b": b, "p": 3}):
            x.requires_grad_()
            value = distance(x, y, root=root, generator=0, **options)
            assert value.shape == batch
            assert torch.autograd.grad(value.sum(), x)[0].shape == x.shape
    answer = sliced_wasserstein_estimate(x, torch.ones(6, 4, dtype=F64), root=root, generator=0)
    assert answer.value.shape == answer.standard_error.shape == batch
    with pytest.raises(ValueError, match="batch is empty"):
        projected_wasserstein(x, torch.ones(6, 4, dtype=F64), k=2)


@every
def test_far_from_zero_and_other_precisions(distance):
    x, y, *_ = problem(6, 4)
    x, y = (torch.round(z * 1024) / 1024 for z in (x, y))
    value = distance(x, y, generator=0).item()
    assert distance(x + 1e7, y + 1e7, generator=0).item() == pytest.approx(value, rel=1e-6)
    single = distance((x + 8192).float(), (y + 8192).float(), generator=0)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(value, rel=1e-5)
    half = distance(x.half(), y.half(), generator=0)
    assert half.dtype == torch.float16
    assert half.item() == pytest.approx(value, rel=2e-3)


@pytest.mark.parametrize("name", ["sliced", "projected"])
@pytest.mark.parametrize("p", [1.5, 2, 20, 200])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_large_orders_neither_vanish_nor_overflow(name, p, dtype):
    """W_p is homogeneous, so its gradient does not depend on the scale."""
    distance = DISTANCES[name]
    x, y, a, b = problem(6, 4, 3, 2, dtype=dtype)
    scales = torch.tensor([2.0**37, 2.0**-40], dtype=dtype)[:, None, None]  # one problem each
    answers = []
    for unit in (torch.ones_like(scales), scales):
        inputs = [(unit * z).requires_grad_() for z in (x, y)]
        value = distance(*inputs, p=p, a=a, b=b, generator=0)
        answers.append((value / unit.flatten(), *torch.autograd.grad(value.sum(), inputs)))
    assert (answers[0][0] > 0.05).all()
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3 if dtype != F64 else 1e-8, atol=1e-5)
    value = distance(scales * x, scales * y, p=p, a=a, b=b, generator=0)
    torch.testing.assert_close(value / scales.flatten(), answers[0][0].detach())


@pytest.mark.parametrize("p", [3, 20, 200])
def test_the_limit_of_large_orders_is_the_largest_gap(p):
    x, y, *_ = problem(40, 40, 3)
    theta = torch.randn(50, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    theta = theta / theta.norm(dim=-1, keepdim=True)
    gaps = (theta @ x.mT).sort(-1).values - (theta @ y.mT).sort(-1).values
    norm = gaps.abs().max() * (gaps / gaps.abs().max()).abs().pow(p).mean() ** (1 / p)
    for unit in (1e-3, 1.0, 1e11, 1e200):
        options = {"p": p, "directions": theta}
        value = sliced_wasserstein(unit * x, unit * y, **options).item()
        assert value == pytest.approx(unit * norm.item(), rel=1e-9)
        answer = sliced_wasserstein_estimate(unit * x, unit * y, **options)
        same = sliced_wasserstein_estimate(x, y, **options)
        assert answer.value.item() == value
        error = answer.standard_error.item() / unit
        assert error == pytest.approx(same.standard_error.item(), rel=1e-9)
        assert 0 < error < value / unit


@pytest.mark.parametrize("root", [True, False])
def test_a_square_is_curved_where_a_direction_sees_nothing(root):
    x, *_ = problem(4, 4, 2)
    y = x + torch.tensor([3.0, 0.0], dtype=F64)
    theta = torch.eye(2, dtype=F64)

    def value(x):
        return sliced_wasserstein(x, y, p=2, directions=theta, root=root)

    assert torch.autograd.gradcheck(value, x.requires_grad_())
    assert torch.autograd.gradgradcheck(value, x)
    (slope,) = torch.autograd.grad(value(x), x, create_graph=True)
    (across,) = torch.autograd.grad(slope[0, 1], x)
    assert across[0, 1].item() == pytest.approx(1 / 4 if not root else 1 / 8 / 4.5**0.5)


@every
def test_numpy_and_features(distance):
    x, y, a, b = problem()
    value = distance(x, y, a=a, b=b, generator=0)
    numbers = distance(*(z.numpy() for z in (x, y)), a=a.numpy(), b=b.numpy(), generator=0)
    assert isinstance(numbers, float)
    assert numbers == value.item()
    lift = torch.nn.Linear(3, 8).double()
    there = distance(x, y, features=lift, generator=0)
    assert there.item() == pytest.approx(distance(lift(x), lift(y), generator=0).item(), rel=1e-9)


# Gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 1.5, 2, 7])
@pytest.mark.parametrize("block", [None, 24])
def test_gradients(monkeypatch, p, block):
    if block is not None:  # two directions at a time
        monkeypatch.setattr(slices, "BLOCK", block)
    x, y, a, b = problem(4, 3, 2)
    theta = torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(0))

    def value(x, y, a, b, theta):
        return sliced_wasserstein(x, y, p=p, a=simplex(a), b=simplex(b), directions=theta)

    inputs = [z.requires_grad_() for z in (x, y, a, b, theta)]
    assert torch.autograd.gradcheck(value, inputs)
    assert torch.autograd.gradgradcheck(value, inputs)


@every
@pytest.mark.parametrize("weighted", [True, False])
def test_the_value_does_not_depend_on_who_wants_a_gradient(distance, weighted):
    x, y, a, b = problem(6, 4, 3, 2)
    options = {"a": a, "b": b} if weighted else {}
    plain = distance(x, y, generator=0, **options)
    for inputs in ((x.clone().requires_grad_(), y), (x, y.clone().requires_grad_())):
        torch.testing.assert_close(distance(*inputs, generator=0, **options).detach(), plain)


def test_gradients_of_batches_that_broadcast():
    x, y, a, _ = problem(3, 3, 2, 2)
    inputs = [x.unsqueeze(1), y, a[0], torch.eye(2, dtype=F64)]

    def value(x, y, a, theta):
        return sliced_wasserstein(x, y, a=simplex(a), directions=theta, root=False)

    assert torch.autograd.gradcheck(value, [z.detach().requires_grad_() for z in inputs])


@pytest.mark.parametrize("name", ["max_sliced", "projected"])
def test_gradients_of_the_others(name):
    x, y, a, b = problem(4, 3, 3)
    y = y + torch.tensor([4.0, 0.0, -2.0], dtype=F64)  # the best direction is not at a kink

    def value(x, y, a, b):
        return DISTANCES[name](x, y, a=simplex(a), b=simplex(b), generator=0)

    inputs = [z.requires_grad_() for z in (x, y, a, b)]
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)


@every
@pytest.mark.parametrize("p", [1, 2, 3])
def test_gradient_is_zero_between_a_sample_and_itself(distance, p):
    x, *_ = problem(5)
    x[1] = x[3]
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    for slope in torch.autograd.grad(distance(*inputs, p=p, generator=0), inputs):
        assert torch.equal(slope, torch.zeros_like(slope))


def test_gradient_needs_no_more_memory_than_a_block(monkeypatch):
    """The graph of one block is freed before the next is made: the blocks do not add up."""
    alive, most = 0, 0
    plain = slices.line_cost

    class Held(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return z.clone()

        @staticmethod
        def backward(ctx, grad):
            nonlocal alive
            alive -= 1
            return grad

    def counted(*args, **options):
        return Held.apply(plain(*args, **options))

    monkeypatch.setattr(slices, "line_cost", counted)
    monkeypatch.setattr(slices, "BLOCK", 24)
    x, y, *_ = problem(4, 4)
    sliced_wasserstein(x.requires_grad_(), y, projections=30).backward()
    assert most == 1


# Bad input -----------------------------------------------------------------------------------


@every
def test_refuses_what_it_cannot_compare(distance):
    x = torch.zeros(4, 3)
    with pytest.raises(ValueError, match="columns"):
        distance(x, torch.zeros(4, 2))
    with pytest.raises(ValueError, match="y holds nan at row 1, column 0"):
        distance(x, torch.tensor([[0.0, 0, 0], [math.nan, 0, 0]]))
    with pytest.raises(ValueError, match="at least 1 is needed"):
        distance(x[:0], x)
    with pytest.raises(ValueError, match="a must hold one weight per point"):
        distance(x, x, a=torch.ones(3) / 3)
    with pytest.raises(ValueError, match="b sums to 4"):
        distance(x, x, b=torch.ones(4))
    with pytest.raises(ValueError, match="p must be at least 1"):
        distance(x, x, p=0.9)
    with pytest.raises(TypeError, match="generator"):
        distance(x, x, generator="seed")
    with pytest.raises(ValueError, match="one row of features per point"):
        distance(x, x, features=lambda z: z.mean(-2))


def test_refuses_directions_that_are_none():
    x = torch.zeros(4, 3)
    with pytest.raises(ValueError, match="known: random, orthogonal, qmc"):
        sliced_wasserstein(x, x, directions="best")
    with pytest.raises(ValueError, match=r"shape \(L, 3\)"):
        sliced_wasserstein(x, x, directions=torch.ones(5, 2))
    with pytest.raises(ValueError, match="direction 1 is zero"):
        sliced_wasserstein(x, x, directions=torch.tensor([[1.0, 0, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match="projections must be at least 1"):
        sliced_wasserstein(x, x, projections=0)
    with pytest.raises(ValueError, match="max_sliced_wasserstein"):
        sliced_wasserstein(x, x, p=math.inf)
    with pytest.raises(ValueError, match="at least 2 projections"):
        sliced_wasserstein_estimate(x, x, projections=1)
    with pytest.raises(ValueError, match="k must be at most 3"):
        projected_wasserstein(x, x, k=4)
    with pytest.raises(ValueError, match="known: random, orthogonal"):
        projected_wasserstein(x, x, directions="qmc")
    with pytest.raises(ValueError, match=r"shape \(L, k, 3\)"):
        projected_wasserstein(x, x, directions=torch.ones(2, 3))
    with pytest.raises(ValueError, match="frame 0 are linearly dependent"):
        projected_wasserstein(x, x, directions=torch.ones(1, 2, 3))
    with pytest.raises(ValueError, match="restarts must be at least 0"):
        max_sliced_wasserstein(x, x, restarts=-1)
