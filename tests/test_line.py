"""Distances on the line and the circle against closed forms, SciPy, POT and their own laws."""

import itertools
import math

import numpy as np
import ot
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from probmetrics.transport import quantiles, sorting
from probmetrics.transport.cdf import cdf_distance, cramer_distance, kolmogorov_distance
from probmetrics.transport.circle import circular_wasserstein
from probmetrics.transport.line import wasserstein_1d, wasserstein_1d_barycenter

F64 = torch.float64
DISTANCES = {
    "wasserstein_1d": wasserstein_1d,
    "wasserstein_1d p=1.5": lambda x, y, **o: wasserstein_1d(x, y, p=1.5, **o),
    "wasserstein_1d p=2": lambda x, y, **o: wasserstein_1d(x, y, p=2, **o),
    "wasserstein_1d p=3": lambda x, y, **o: wasserstein_1d(x, y, p=3, root=False, **o),
    "wasserstein_1d p=inf": lambda x, y, **o: wasserstein_1d(x, y, p=math.inf, **o),
    "cdf_distance p=1": cdf_distance,
    "cdf_distance p=3": lambda x, y, **o: cdf_distance(x, y, p=3, **o),
    "cramer_distance": cramer_distance,
    "kolmogorov_distance": kolmogorov_distance,
    "circular_wasserstein": circular_wasserstein,
    "circular_wasserstein p=2": lambda x, y, **o: circular_wasserstein(x, y, p=2, **o),
    "circular_wasserstein p=3": lambda x, y, **o: circular_wasserstein(
        x, y, p=3, period=2.5, root=False, **o
    ),
}
SMOOTH = [name for name in DISTANCES if "inf" not in name and "kolmogorov" not in name]
every = pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)


def simplex(w):
    return w / w.sum(-1, keepdim=True)


def problem(n=7, m=5, *batch, seed=0, dtype=F64):
    source = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, dtype=F64, generator=source)  # noqa: E731
    x, y = draw(*batch, n), 0.3 + 1.4 * draw(*batch, m)
    a, b = (simplex(draw(*batch, k).square() + 0.1) for k in (n, m))
    return tuple(z.to(dtype) for z in (x, y, a, b))


def circular_cost(x, y, p):
    gap = (x[:, None] - y).abs()
    return torch.minimum(gap, 1 - gap).numpy() ** p


# Closed forms ------------------------------------------------------------------------------


def test_normals_of_different_scale():
    n = 200_000
    middle = (torch.arange(n, dtype=F64) + 0.5) / n
    x = torch.special.ndtri(middle)
    assert wasserstein_1d(x, 2 * x).item() == pytest.approx(0.79788456, abs=2e-5)
    assert wasserstein_1d(x, 1 + 2 * x).item() == pytest.approx(1.16663094, abs=3e-5)
    assert wasserstein_1d(x, 1 + 2 * x, p=2, root=False).item() == pytest.approx(2, abs=1e-3)
    assert 2 * cramer_distance(x, 1 + 2 * x).item() == pytest.approx(0.53410532, abs=1e-5)


@pytest.mark.parametrize("p", [1, 1.7, 2, 5, math.inf])
def test_a_shift_moves_by_its_length(p):
    x, *_ = problem()
    assert wasserstein_1d(x, x + 3, p=p).item() == pytest.approx(3, rel=1e-12)


def test_one_point_on_each_side():
    assert wasserstein_1d([2.0], [5.0], p=3, root=False) == 27.0
    assert wasserstein_1d([0.0], [1.0, 3.0], p=2, root=False) == 5.0
    assert wasserstein_1d([0.0], [1.0, 3.0], p=math.inf) == 3.0
    assert kolmogorov_distance([0.0], [1.0]) == 1.0
    assert cramer_distance([0.0], [4.0]) == 4.0
    assert circular_wasserstein([0.125], [0.875]) == 0.25
    assert circular_wasserstein([0.125], [0.875], p=2, root=False) == 0.0625
    assert circular_wasserstein([0.25, 0.75], [0.0, 0.5]) == 0.25


def test_extreme_scales_keep_their_root():
    for scale in (1e-150, 1e150):
        x = torch.tensor([0.0, scale], dtype=F64)
        for p in (2, 2.5, 4):
            assert wasserstein_1d(x, x + scale, p=p).item() == pytest.approx(scale, rel=1e-12)


# Other libraries ---------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 6), (8, 8), (9, 4), (40, 61)])
@pytest.mark.parametrize("weighted", [True, False])
def test_agrees_with_pot(n, m, weighted):
    x, y, a, b = (z.numpy() for z in problem(n, m, seed=n))
    if weighted:
        a[: n // 2] = 0
        a /= a.sum()
    else:
        a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    options = {"a": a, "b": b} if weighted else {}
    for p in (1, 2, 3, 1.5):
        theirs = ot.emd2_1d(x, y, a, b, metric="minkowski", p=p)
        ours = wasserstein_1d(x, y, p=p, root=False, **options)
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
        assert wasserstein_1d(x, y, p=p, **options) == pytest.approx(theirs ** (1 / p), rel=1e-9)


def test_agrees_with_scipy():
    x, y, a, b = (z.numpy() for z in problem(30, 41))
    y[:10] = x[:10]  # ties
    w1 = scipy.stats.wasserstein_distance(x, y, a, b)
    assert wasserstein_1d(x, y, a=a, b=b) == pytest.approx(w1, rel=1e-12)
    assert cdf_distance(x, y, a=a, b=b) == pytest.approx(w1, rel=1e-12)
    energy = scipy.stats.energy_distance(x, y, a, b)
    assert 2 * cramer_distance(x, y, a=a, b=b) == pytest.approx(energy**2, rel=1e-12)
    assert math.sqrt(2) * cdf_distance(x, y, p=2, a=a, b=b) == pytest.approx(energy, rel=1e-12)
    assert kolmogorov_distance(x, y) == pytest.approx(scipy.stats.ks_2samp(x, y).statistic)


@pytest.mark.parametrize("p", [2, 20, 200, 3000])
def test_large_orders_of_cdf_distances_do_not_vanish(p):
    x = torch.zeros(100, dtype=F64)
    y = x.clone()
    y[-1] = 1.0
    assert cdf_distance(x, y, p=p).item() == pytest.approx(0.01, rel=1e-12)
    far = torch.stack([y, 1e-200 * y, torch.ones_like(y)])  # each with its own factor
    values = cdf_distance(x, far, p=p).tolist()
    assert values == pytest.approx([0.01, 0.01 * 1e-200 ** (1 / p), 1.0], rel=1e-12)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(cdf_distance(x, y, p=p), x)
    assert slope.isfinite().all()
    few = torch.full((100,), 1e-4, dtype=F64)
    few[0] = 1 - 99e-4
    assert cdf_distance(x, y, p=p, a=few, b=few).item() == pytest.approx(1e-4, rel=1e-9)


@pytest.mark.parametrize("p", [1.5, 2, 6, 60])
def test_gradients_of_cdf_distances_of_any_order(p):
    source = torch.Generator().manual_seed(2)
    x, y, a, b = (torch.randn(2, k, dtype=F64, generator=source) for k in (5, 4, 5, 4))
    x, a, b = 1e-3 * x, a.square() + 0.1, b.square() + 0.1

    def value(x, y, a, b):
        a, b = (w / w.sum(-1, keepdim=True) for w in (a, b))
        return cdf_distance(x, y, p=p, a=a, b=b)

    inputs = [z.requires_grad_() for z in (x, y, a, b)]
    assert torch.autograd.gradcheck(value, inputs, eps=1e-8, atol=1e-4)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize(("n", "m"), [(1, 4), (6, 6), (30, 21)])
def test_circle_agrees_with_linear_programme_and_pot(p, n, m):
    x, y, a, b = problem(n, m)
    x, y = torch.remainder(x, 1), torch.remainder(0.3 * y, 1)
    cost = circular_cost(x, y, p)
    uniform = ot.emd2(ot.unif(n), ot.unif(m), cost)
    assert circular_wasserstein(x, y, p=p, root=False).item() == pytest.approx(uniform, abs=1e-11)
    weighted = ot.emd2(a.numpy(), b.numpy(), cost)
    ours = circular_wasserstein(x, y, p=p, a=a, b=b, root=False).item()
    assert ours == pytest.approx(weighted, abs=1e-11)
    theirs = ot.wasserstein_circle(x.numpy(), y.numpy(), a.numpy(), b.numpy(), p=p)
    assert ours == pytest.approx(float(theirs[0]), abs=1e-9)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_circle_of_points_with_little_or_no_mass(p, seed):
    """Points without mass may sit where the circle is cut, and the best cut a whole turn away."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 9, size=2)
    x, y = rng.uniform(size=n), rng.uniform(size=m) ** 4
    a, b = (rng.dirichlet(np.full(size, 0.02)) for size in (n, m))
    a[a < a.max() / 100] *= rng.integers(0, 2)
    x[rng.integers(n)], y[rng.integers(m)] = 0.0, 0.0
    gap = np.abs(x[:, None] - y)
    exact = ot.emd2(a / a.sum(), b / b.sum(), np.minimum(gap, 1 - gap) ** p)
    found = circular_wasserstein(x, y, p=p, a=a / a.sum(), b=b / b.sum(), root=False)
    assert found == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_infinite_order_is_the_limit_and_the_bottleneck():
    x, y, a, b = problem(6, 4)
    bottleneck = wasserstein_1d(x, y, a=a, b=b, p=math.inf)
    assert wasserstein_1d(x, y, a=a, b=b, p=400).item() == pytest.approx(
        bottleneck.item(), rel=0.02
    )
    x = torch.tensor([0.0, 0.1, 5.0])
    y = torch.tensor([0.0, 0.2, 100.0])
    weights = torch.tensor([0.5, 0.5, 0.0])  # the far points carry nothing
    assert wasserstein_1d(x, y, p=math.inf, a=weights, b=weights).item() == pytest.approx(0.1)
    source = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, F64):  # rounded steps must not open a sliver of mass
        mass = simplex(torch.rand(50, generator=source, dtype=dtype))
        points = torch.randn(50, generator=source, dtype=dtype)
        split = (mass / 7).repeat_interleave(7)
        repeated = points.repeat_interleave(7)
        assert wasserstein_1d(points, repeated, p=math.inf, a=mass, b=split).item() == 0.0


# Invariances -------------------------------------------------------------------------------


@every
def test_zero_between_a_sample_and_itself_in_any_order(distance):
    x, _, a, _ = problem(9)
    x[3] = x[5]
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    assert distance(x, x).item() == 0
    assert distance(x, x[order]).item() == 0
    assert distance(x, x, a=a, b=a).item() == 0
    assert distance(x, x[order], a=a, b=a[order]).item() == pytest.approx(0, abs=1e-7)


@every
def test_zero_weights_are_exact(distance):
    x, y, a, b = problem()
    extra = torch.tensor([-50.3, 0.2, 80.9], dtype=F64)
    padded = torch.cat([x, extra]), y, torch.cat([a, torch.zeros(3, dtype=F64)]), b
    with_zeros = distance(*padded[:2], a=padded[2], b=padded[3]).item()
    assert with_zeros == pytest.approx(distance(x, y, a=a, b=b).item(), rel=1e-12)


@every
def test_weights_are_repetition(distance):
    x, y, *_ = problem(4, 3)
    times = torch.tensor([1, 3, 2, 1]), torch.tensor([2, 1, 4])
    a, b = (t.double() / t.sum() for t in times)
    repeated = distance(x.repeat_interleave(times[0]), y.repeat_interleave(times[1]))
    assert distance(x, y, a=a, b=b).item() == pytest.approx(repeated.item(), rel=1e-12)


@every
def test_batched_is_looped(distance):
    x, y, a, b = problem(6, 4, 3)
    together = distance(x.unsqueeze(1), y, a=a.unsqueeze(1), b=b)
    assert together.shape == (3, 3)
    for i in range(3):
        for j in range(3):
            alone = distance(x[i], y[j], a=a[i], b=b[j])
            assert together[i, j].item() == pytest.approx(alone.item(), rel=1e-12)
    plain = distance(x, y[0])
    assert plain.shape == (3,)
    assert plain[2].item() == pytest.approx(distance(x[2], y[0]).item(), rel=1e-12)
    shared = distance(x[0], y[0], a=a)  # weights alone may carry the batch
    assert shared[1].item() == pytest.approx(distance(x[0], y[0], a=a[1]).item(), rel=1e-12)


@every
def test_symmetric_and_numpy_alike(distance):
    x, y, a, b = problem()
    value = distance(x, y, a=a, b=b)
    assert distance(y, x, a=b, b=a).item() == pytest.approx(value.item(), rel=1e-11)
    from_numpy = distance(x.numpy(), y.numpy(), a=a.numpy(), b=b.numpy())
    assert isinstance(from_numpy, float)
    assert from_numpy == value.item()


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_precisions(distance, dtype):
    x, y, *_ = problem(6, 4, dtype=dtype)
    value = distance(x, y)
    assert value.dtype == dtype
    reference = distance(x.double(), y.double()).item()
    assert value.item() == pytest.approx(reference, rel=4 * torch.finfo(dtype).eps)


@every
def test_far_from_zero(distance):
    x, y, a, b = problem()
    x, y = (torch.round(z * 2**20) / 2**20 for z in (x, y))  # the offset loses no digit of them
    near = distance(x, y, a=a, b=b).item()
    assert distance(x + 1e7, y + 1e7, a=a, b=b).item() == pytest.approx(near, rel=1e-8)


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=6),
    st.lists(st.integers(-5, 5), min_size=1, max_size=6),
)
def test_p_norms_of_ties_grow_with_p(x, y):
    """Integers tie often; on them W_1 is the area between the CDFs, and W_p grows with p."""
    x, y = np.array(x, float), np.array(y, float)
    values = [wasserstein_1d(x, y, p=p) for p in (1, 1.5, 2, 3, math.inf)]
    assert values[0] == pytest.approx(cdf_distance(x, y), abs=1e-12)
    assert all(low <= high + 1e-12 for low, high in itertools.pairwise(values))


def test_circle_forgets_whole_turns_and_rotations():
    x, y, a, b = problem(8, 8)
    for p in (1, 2):
        value = circular_wasserstein(x, y, p=p, a=a, b=b).item()
        turned = circular_wasserstein(x + 0.37, y + 0.37, p=p, a=a, b=b).item()
        whole = circular_wasserstein(x + torch.arange(8), y - 3, p=p, a=a, b=b).item()
        assert (turned, whole) == pytest.approx((value, value), rel=1e-9)
        hours = circular_wasserstein(24 * x, 24 * y, period=24, p=p, a=a, b=b).item()
        assert hours == pytest.approx(24 * value, rel=1e-12)


# Gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients(name):
    inputs = [z.requires_grad_() for z in problem(5, 4)]

    def value(x, y, a, b):
        return DISTANCES[name](x, y, a=simplex(a), b=simplex(b))

    assert torch.autograd.gradcheck(value, inputs)
    assert torch.autograd.gradcheck(lambda x, y, *_: DISTANCES[name](x, y), inputs)
    equal = [z.requires_grad_() for z in problem(5, 5, seed=1)[:2]]
    assert torch.autograd.gradcheck(lambda x, y: DISTANCES[name](x, y), equal)
    if "circular" not in name:
        assert torch.autograd.gradgradcheck(value, inputs)


@every
def test_the_value_does_not_depend_on_who_wants_a_gradient(distance):
    x, y, a, b = problem(6, 4)
    for options in ({}, {"a": a, "b": b}):
        plain = distance(x, y, **options)
        for inputs in ((x.clone().requires_grad_(), y), (x, y.clone().requires_grad_())):
            torch.testing.assert_close(distance(*inputs, **options).detach(), plain)


def test_gradients_of_the_largest_gap():
    x, y, a, b = problem(5, 4)
    inputs = [x.requires_grad_(), y.requires_grad_()]
    options = {"p": math.inf, "a": a, "b": b}
    assert torch.autograd.gradcheck(lambda x, y: wasserstein_1d(x, y, **options), inputs)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_is_zero_between_a_sample_and_itself(name):
    x, _, a, _ = problem(6)
    x[1] = x[4]
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    for options in ({}, {"a": a, "b": a}):
        slopes = torch.autograd.grad(DISTANCES[name](*inputs, **options), inputs)
        for slope in slopes:
            assert torch.equal(slope, torch.zeros_like(slope))


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_is_finite_at_ties(name):
    x = torch.tensor([0.0, 0.0, 1.0, 2.0], dtype=F64, requires_grad=True)
    y = torch.tensor([0.0, 1.0, 1.0], dtype=F64, requires_grad=True)
    a = torch.tensor([0.25, 0.25, 0.5, 0.0], dtype=F64, requires_grad=True)
    slopes = torch.autograd.grad(DISTANCES[name](x, y, a=a), [x, y, a])
    assert all(bool(slope.isfinite().all()) for slope in slopes)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_weight_gradient_is_a_dual_potential(p):
    """Potentials are feasible for all pairs and reach the value, also at ties and zero weights."""
    x = torch.tensor([0.0, 0.5, 0.5, 2.0, 3.0], dtype=F64)
    y = torch.tensor([0.2, 0.5, 1.0, 4.0, 0.5], dtype=F64)
    a = torch.tensor([0.2, 0.2, 0.2, 0.4, 0.0], dtype=F64, requires_grad=True)
    b = torch.tensor([0.2, 0.4, 0.2, 0.0, 0.2], dtype=F64, requires_grad=True)
    value = wasserstein_1d(x, y, p=p, a=a, b=b, root=False)
    f, g = torch.autograd.grad(value, [a, b])
    assert float(f @ a.detach()) == pytest.approx(0, abs=1e-12)
    slack = (x[:, None] - y).abs() ** p - (f[:, None] + g + value.detach())
    assert slack.min().item() > -1e-12


@pytest.mark.parametrize("p", [1, 2])
def test_circular_weight_gradient_is_a_dual_potential(p):
    x, y, *_ = problem(6, 6)
    x, y = torch.remainder(x, 1), torch.remainder(y, 1)
    a = torch.full((6,), 1 / 6, dtype=F64, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    value = circular_wasserstein(x, y, p=p, a=a, b=b, root=False)
    f, g = torch.autograd.grad(value, [a, b])
    slack = torch.from_numpy(circular_cost(x, y, p)) - (f[:, None] + g + value.detach())
    assert slack.min().item() > -1e-12


# Fast paths --------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [True, False])
def test_pieces_make_the_whole(monkeypatch, weighted):
    x, y, a, b = problem(50, 33)
    b[5:30] = 0  # one piece of x spans many points of y and the reverse
    b = simplex(b)
    options = {"a": a, "b": b} if weighted else {}
    for p in (1, 2, 3, math.inf):
        for root in (True, False):
            whole = wasserstein_1d(x, y, p=p, root=root, **options)
            monkeypatch.setattr(quantiles, "PIECE", 8)
            pieces = wasserstein_1d(x, y, p=p, root=root, **options)
            monkeypatch.undo()
            assert pieces.item() == pytest.approx(whole.item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_numpy_sorts_what_torch_sorts(monkeypatch, dtype):
    source = torch.Generator().manual_seed(0)
    rows = torch.randn(7, 6000, generator=source, dtype=dtype)
    rows[:, :2000] = rows[:, :2000].round()
    rows[:, 2000] = -0.0
    other = torch.randn(40_000, generator=source, dtype=dtype)
    threaded = sorting.sort_rows(rows, other), sorting.rank_rows(rows, other)
    monkeypatch.setattr(sorting, "_share", lambda tensor: None)
    plain = sorting.sort_rows(rows, other)
    for k, tensor in enumerate((rows, other)):
        assert torch.equal(threaded[0][k], plain[k])
        assert torch.equal(tensor.gather(-1, threaded[1][k]), plain[k])
        assert torch.equal(
            threaded[1][k].sort(-1).values[..., -1], plain[k][..., 0] * 0 + tensor.shape[-1] - 1
        )
    if dtype == torch.float32:
        stable = rows.sort(dim=-1, stable=True).indices[:, 3000:]
        assert torch.equal(rows.gather(-1, stable), plain[0][:, 3000:])


def test_sorting_leaves_the_sample_alone():
    x, y, *_ = problem(50_000, 40_000)
    kept = x.clone(), y.clone()
    wasserstein_1d(x, y)
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])


def test_forward_mode_keeps_its_tangent():
    x, y, *_ = problem(5, 5)
    direction = torch.randn(5, dtype=F64)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, direction)
        tangent = torch.autograd.forward_ad.unpack_dual(wasserstein_1d(dual, y, p=2)).tangent
    leaf = x.requires_grad_()
    (slope,) = torch.autograd.grad(wasserstein_1d(leaf, y, p=2), leaf)
    assert tangent.item() == pytest.approx(float(slope @ direction))


def test_functional_gradient():
    x, y, *_ = problem(5, 5)
    slope = torch.func.grad(lambda z: wasserstein_1d(z, y, p=2))(x)
    leaf = x.requires_grad_()
    assert torch.allclose(slope, torch.autograd.grad(wasserstein_1d(leaf, y, p=2), leaf)[0])


def test_float32_is_accurate_at_a_million_points():
    """Cumulative weights in float32 drift by 1e-3 here; see the sum of a million of them."""
    source = torch.Generator().manual_seed(0)
    n = 1_000_000
    x, y = (torch.randn(n, generator=source) * scale for scale in (1.0, 1.3))
    a, b = (simplex(torch.rand(n, generator=source).double() + 0.1) for _ in range(2))
    exact = wasserstein_1d(x.double(), y.double()).item()
    assert wasserstein_1d(x, y).item() == pytest.approx(exact, rel=1e-6)
    weighted = wasserstein_1d(x.double(), y.double(), a=a, b=b).item()
    assert wasserstein_1d(x, y, a=a.float(), b=b.float()).item() == pytest.approx(
        weighted, rel=1e-5
    )
    uneven = wasserstein_1d(x[: n - 1].double(), y.double()).item()
    assert wasserstein_1d(x[: n - 1], y).item() == pytest.approx(uneven, rel=1e-6)


# Barycentre --------------------------------------------------------------------------------


def test_barycenter_between_two_samples():
    x, y, a, b = problem(6, 4)
    for t in (0.25, 0.5):
        middle = wasserstein_1d_barycenter([x, y], weights=torch.tensor([1 - t, t]), masses=[a, b])
        whole = wasserstein_1d(x, y, p=2, a=a, b=b).item()
        there = wasserstein_1d(x, middle.points, p=2, a=a, b=middle.masses).item()
        back = wasserstein_1d(middle.points, y, p=2, a=middle.masses, b=b).item()
        assert (there, back) == pytest.approx((t * whole, (1 - t) * whole), rel=1e-6)


def test_barycenter_of_equal_sizes_is_the_sorted_mean():
    x, y, *_ = problem(5, 5)
    middle = wasserstein_1d_barycenter([x, y, x])
    expected = (2 * x.sort().values + y.sort().values) / 3
    torch.testing.assert_close(middle.points, expected)
    assert middle.masses.tolist() == pytest.approx([0.2] * 5)
    assert middle.points.dtype == F64


@pytest.mark.parametrize("batch", [(), (2,)])
def test_barycenter_of_samples_that_have_no_masses(batch):
    source = torch.Generator().manual_seed(0)
    x, y = torch.rand(*batch, 4, generator=source), torch.rand(4, generator=source)
    said = wasserstein_1d_barycenter([x, y], masses=[None, None])
    left_out = wasserstein_1d_barycenter([x, y])
    assert torch.equal(said.points, left_out.points)
    assert torch.equal(said.masses, torch.full((*batch, 4), 0.25))


def test_barycenter_batches_and_gradients():
    x, y, a, b = problem(4, 3, 2)
    weights = torch.tensor([0.3, 0.7], dtype=F64)
    both = wasserstein_1d_barycenter([x, y[0]], weights=weights, masses=[a, None])
    one = wasserstein_1d_barycenter([x[1], y[0]], weights=weights, masses=[a[1], None])
    torch.testing.assert_close(both.points[1], one.points)
    torch.testing.assert_close(both.masses[1], one.masses)

    def flat(x, y, a, weights):
        answer = wasserstein_1d_barycenter([x, y], weights=simplex(weights), masses=[simplex(a), b])
        return answer.points, answer.masses

    assert torch.autograd.gradcheck(flat, [z.requires_grad_() for z in (x, y, a, weights)])


def test_barycenter_answers_in_kind():
    answer = wasserstein_1d_barycenter([np.array([0.0, 2.0]), np.array([4.0])])
    assert isinstance(answer.points, np.ndarray)
    assert answer.points.tolist() == [2.0, 3.0]
    with pytest.raises(TypeError, match="torch tensors"):
        wasserstein_1d_barycenter([np.zeros(2), torch.zeros(2)])
    with pytest.raises(ValueError, match="at least one sample"):
        wasserstein_1d_barycenter([])
    with pytest.raises(ValueError, match="1 masses for 2 samples"):
        wasserstein_1d_barycenter([[0.0], [1.0]], masses=[None])
    with pytest.raises(ValueError, match="weights sums to 2"):
        wasserstein_1d_barycenter([[0.0], [1.0]], weights=[1.0, 1.0])
    with pytest.raises(ValueError, match=r"samples\[1\] holds nan"):
        wasserstein_1d_barycenter([[0.0], [math.nan]])
    with pytest.raises(ValueError, match=r"masses\[0\] must hold one weight per point"):
        wasserstein_1d_barycenter([[0.0], [1.0]], masses=[[0.5, 0.5], None])


# Bad input ---------------------------------------------------------------------------------


@every
def test_refuses_what_it_cannot_compare(distance):
    x = torch.zeros(3)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match=f"y holds {bad} at position 1"):
            distance(x, torch.tensor([0.0, bad]))
    with pytest.raises(ValueError, match="n >= 1"):
        distance(torch.zeros(0), x)
    with pytest.raises(ValueError, match="do not broadcast"):
        distance(torch.zeros(2, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="a must hold one weight per point"):
        distance(x, x, a=torch.ones(2) / 2)
    with pytest.raises(ValueError, match="b has negative weights"):
        distance(x, x, b=torch.tensor([1.5, -0.5, 0.0]))
    with pytest.raises(ValueError, match="a sums to 3"):
        distance(x, x, a=torch.ones(3))
    with pytest.raises(ValueError, match="do not broadcast"):
        distance(torch.zeros(2, 3), x, a=torch.full((4, 3), 1 / 3))
    with pytest.raises(TypeError, match="torch tensors"):
        distance(x, np.zeros(3))


def test_refuses_orders_below_one():
    for function in (wasserstein_1d, cdf_distance, circular_wasserstein):
        with pytest.raises(ValueError, match="p must be at least 1"):
            function([0.0], [1.0], p=0.5)
        with pytest.raises(TypeError, match="p must be a number"):
            function([0.0], [1.0], p="two")
    with pytest.raises(ValueError, match="finite on the circle"):
        circular_wasserstein([0.0], [1.0], p=math.inf)
    with pytest.raises(ValueError, match="period must be above zero"):
        circular_wasserstein([0.0], [1.0], period=0)
