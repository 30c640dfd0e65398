"""Large exact problems: candidate pairs give what all pairs give, and prove it."""

import math

import pytest
import torch

from probmetrics.pairwise.costs import Cosine, Euclidean, PNorm
from probmetrics.transport import candidates, restricted, solving
from probmetrics.transport.candidates import CostTiles
from probmetrics.transport.coincident import deal
from probmetrics.transport.exact import earth_mover, exact_transport, wasserstein
from probmetrics.transport.ground_cost import ground_cost

close = torch.testing.assert_close
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture
def always(monkeypatch):
    """Restrict problems of every size."""
    monkeypatch.setattr(solving, "RESTRICTED_PAIRS", 0)
    monkeypatch.setattr(solving, "RESTRICTED_POINTS", 1)
    monkeypatch.setattr(solving, "FALLBACK_PAIRS", 0)


def draw(n, d, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64).to(dtype)


def simplex(n, *, seed=0, zeros=0):
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand(n, generator=generator, dtype=torch.float64) ** 4
    w[:zeros] = 0.0
    return w / w.sum()


def dense(monkeypatch, *args, **options):
    with monkeypatch.context() as patch:
        patch.setattr(solving, "RESTRICTED_PAIRS", math.inf)
        return exact_transport(*args, **options)


COSTS = [
    (None, 2.0),
    (None, 1.0),
    (None, 3.0),
    (Euclidean(power=1.5), 1.5),
    (PNorm(1), 1.0),
    (Cosine(), 1.0),
    (Euclidean() + PNorm(1), 2.0),
    (Euclidean().on(torch.sin), 2.0),
]


@pytest.mark.parametrize(("cost", "p"), COSTS)
@pytest.mark.parametrize("d", [2, 7])
def test_restricted_is_dense(always, monkeypatch, cost, p, d):
    x, y, a, b = draw(90, d), draw(110, d, seed=1) + 0.4, simplex(90, zeros=6), simplex(110, seed=1)
    b[:5] = 0.0
    b = b / b.sum()
    found = exact_transport(x, y, cost=cost, p=p, a=a, b=b)
    known = dense(monkeypatch, x, y, cost=cost, p=p, a=a, b=b)
    close(found.cost, known.cost, rtol=1e-11, atol=1e-14)
    assert found.converged
    assert abs(found.dual_gap) <= 1e-11 * found.cost
    assert found.marginal_error < 1e-13
    matrix = (
        ground_cost(cost, p).matrix(x, y)
        if cost is None
        else cost(x, y) ** (1 if getattr(cost, "power", 1) == p else p)
    )
    assert (found.f[:, None] + found.g - matrix).max() < 1e-11 * matrix.max()
    close(found.plan().sum(1), a, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 9), (5, 2), (40, 40)])
def test_small_and_thin_problems(always, monkeypatch, n, m):
    x, y = draw(n, 3), draw(m, 3, seed=1)
    found, known = exact_transport(x, y), dense(monkeypatch, x, y)
    close(found.cost, known.cost, rtol=1e-12, atol=0)
    close(found.value, wasserstein(x, y))


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_far_apart_scaled_and_equal(always, monkeypatch, p):
    x, y = draw(70, 5), draw(70, 5, seed=1)
    known = dense(monkeypatch, x, y, p=p).cost
    for shift in (1e3, 1e6):
        moved = exact_transport(x + shift, y + shift, p=p)
        close(moved.cost, known, rtol=1e-6 if shift > 1e5 else 1e-9, atol=0)
    for factor in (1e-20, 1e20):
        close(exact_transport(x * factor, y * factor, p=p).cost / factor**p, known)
    far = exact_transport(x, y + 1e4, p=p)
    close(far.cost, dense(monkeypatch, x, y + 1e4, p=p).cost, rtol=1e-12, atol=0)
    assert far.converged
    assert exact_transport(x, x, p=p).value == 0
    same = torch.ones_like(x)
    assert exact_transport(same, same, p=p).value == 0
    close(exact_transport(same, same + 2, p=p).value.item(), 2 * 5**0.5)
    onto = exact_transport(same, y, p=p)  # every plan is optimal
    close(onto.cost, ((same[0] - y).norm(dim=1) ** p).mean())


def test_grids_with_many_ties(always, monkeypatch):
    x = draw(120, 2).round()
    y = draw(120, 2, seed=1).round()
    for p in (1.0, 2.0):
        found = exact_transport(x, y, p=p)
        close(found.cost, dense(monkeypatch, x, y, p=p).cost, rtol=1e-11, atol=0)
        assert found.converged


def test_two_clusters_and_an_outlier(always, monkeypatch):
    x = torch.cat(
        [draw(60, 4), draw(40, 4, seed=2) + 50.0, torch.full((1, 4), 1e4, dtype=torch.float64)]
    )
    y = torch.cat([draw(30, 4, seed=3), draw(71, 4, seed=4) + 50.0])
    found, known = exact_transport(x, y), dense(monkeypatch, x, y)
    close(found.cost, known.cost, rtol=1e-11, atol=0)
    assert found.converged


def test_gradients_are_those_of_the_dense_solver(always, monkeypatch):
    x, y = draw(60, 3).requires_grad_(True), draw(75, 3, seed=1).requires_grad_(True)
    a, b = simplex(60).requires_grad_(True), simplex(75, seed=1).requires_grad_(True)
    found = torch.autograd.grad(exact_transport(x, y, a=a, b=b).value, (x, y, a, b))
    known = torch.autograd.grad(dense(monkeypatch, x, y, a=a, b=b).value, (x, y, a, b))
    for one, other in zip(found, known, strict=True):
        close(one, other, rtol=1e-9, atol=1e-10)


def test_float32_in_float32_out(always):
    x, y = draw(80, 3, dtype=torch.float32), draw(80, 3, seed=1, dtype=torch.float32)
    value = exact_transport(x, y).value
    assert value.dtype == torch.float32
    close(value, exact_transport(x.double(), y.double()).value.float(), rtol=0, atol=0)


def test_few_candidates_grow_until_the_certificate_closes(always, monkeypatch):
    monkeypatch.setattr(restricted, "NEIGHBOURS", 1)
    monkeypatch.setattr(restricted, "PRICE", 1e-3)
    monkeypatch.setattr(candidates, "PASSES", 1)
    x, y = draw(100, 2), draw(100, 2, seed=1) + 3.0
    found = exact_transport(x, y)
    assert found.steps > 3
    assert found.converged
    close(found.cost, dense(monkeypatch, x, y).cost, rtol=1e-11, atol=0)


def test_too_few_rounds_are_told(always, monkeypatch):
    monkeypatch.setattr(solving, "ROUNDS", 1)
    monkeypatch.setattr(restricted, "NEIGHBOURS", 1)
    x, y = draw(100, 2), draw(100, 2, seed=1) + 3.0
    with pytest.warns(RuntimeWarning, match="ended before its optimum"):
        found = exact_transport(x, y)
    assert not found.converged
    known = dense(monkeypatch, x, y)
    plan_free_bound = (found.f.mean() + found.g.mean()).item()
    assert plan_free_bound <= known.cost + 1e-12  # the dual value bounds from below all the same


def test_tiles_are_the_costs():
    x, y = draw(300, 6) * 3 + 100, draw(400, 6, seed=1) - 50
    for p in (1.0, 2.0, 3.0):
        tiles = CostTiles(ground_cost(None, p), x, y)
        u, v = tiles.offsets()
        expected = torch.cdist(x, y) ** p
        for source in (tiles.exact(), tiles.quick(torch.float64)):
            matrix = torch.cat([tile.clone() for _, tile in source])
            close(tiles.unit * (matrix + u[:, None] + v), expected, rtol=1e-9, atol=1e-9)
        i, j = torch.tensor([3, 299]), torch.tensor([399, 0])
        paid = tiles.unit * (tiles.pairs(i, j) + u[i] + v[j])
        close(paid, expected[i, j])
        back = torch.cat([tile.clone() for _, tile in tiles.flipped.quick(torch.float64)])
        close(tiles.unit * (back.mT + u[:, None] + v), expected, rtol=1e-9, atol=1e-9)


def test_large_problems_take_the_restricted_road(monkeypatch):
    n = 1450
    x, y = draw(n, 3), draw(n, 3, seed=1) + 0.3
    found = exact_transport(x, y)
    assert found.converged
    assert found.plan(sparse=True).indices().shape[1] <= 2 * n - 1
    assert abs(found.dual_gap) < 1e-11
    assert not torch.equal(found.f, dense(monkeypatch, x, y).f)
    close(found.cost, dense(monkeypatch, x, y).cost, rtol=1e-11, atol=0)


@pytest.mark.parametrize("p", [1.0, 4.0])
@pytest.mark.parametrize("seed", range(4))
def test_heavy_tails_and_near_coincidence(always, monkeypatch, p, seed):
    size = 1e4 if seed % 2 else 1.0
    x = draw(150, 4, seed=seed) / draw(150, 1, seed=seed + 10).abs() * size
    near = x[torch.arange(120) % 40] + 1e-3 * draw(120, 4, seed=seed + 20)
    far = draw(120, 4, seed=seed + 30) / draw(120, 1, seed=seed + 40).abs() * size
    a = simplex(150, seed=seed)
    for y in (near, far):
        found = exact_transport(x, y, p=p, a=a)
        known = dense(monkeypatch, x, y, p=p, a=a)
        close(found.cost, known.cost, rtol=1e-9, atol=0)
        assert found.steps < 30
        for solved in (found, known):
            assert solved.converged
            assert solved.dual_gap <= 1e-8 * solved.cost


def hard(kind, n, m):
    """Samples whose costs tie, or differ by less than what rounding leaves of the largest."""
    x, y = draw(n, 2), draw(m, 2, seed=1)
    if kind in ("zero-inflated", "nearly zero-inflated"):
        x[: n // 2], y[: m // 2 - 50] = 0.0, 0.0
    if kind == "nearly zero-inflated":
        x, y = x + 1e-9 * draw(n, 2, seed=2), y + 1e-9 * draw(m, 2, seed=3)
    if kind == "counts":
        x, y = (3.0 + 2.0 * x).round().clamp_min(0.0), (4.0 + 2.0 * y).round().clamp_min(0.0)
    if kind == "equal":
        x = torch.zeros_like(x)
    if kind == "two clusters":
        x, y = 1e-4 * x, 1e-4 * y
        x[: n // 2] += 100.0
        y[: m // 3] += 100.0
    if kind == "collinear":
        x[:, 1], y[:, 1] = x[:, 0], y[:, 0]
    return x, y


HARD = ["zero-inflated", "nearly zero-inflated", "counts", "equal", "two clusters", "collinear"]


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_ties_at_the_size_of_the_restricted_road(kind, p):
    x, y = hard(kind, 1450, 1400)
    found = exact_transport(x, y, p=p, root=False)
    matrix = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** p
    known = earth_mover(torch.full((1450,), 1 / 1450), torch.full((1400,), 1 / 1400), matrix)
    close(found.value, known, rtol=1e-9, atol=1e-12)
    assert found.converged
    assert found.steps < solving.PATIENCE
    assert abs(found.dual_gap) <= 1e-8 * found.value + 1e-14
    assert found.marginal_error < 1e-13
    assert (found.f[:, None] + found.g - matrix).max() <= 1e-13 * matrix.max()


@pytest.mark.parametrize("kind", HARD)
def test_ties_close_without_all_pairs(always, monkeypatch, kind):
    x, y = hard(kind, 190, 240)
    a, b = simplex(190, zeros=30), simplex(240, seed=1)
    found = exact_transport(x, y, a=a, b=b)
    close(found.cost, dense(monkeypatch, x, y, a=a, b=b).cost, rtol=1e-8, atol=1e-13)
    assert found.marginal_error < 1e-13
    assert (found.plan().sum(1)[a == 0] == 0).all()
    assert found.plan(sparse=True).indices().shape[1] <= 190 + 240 - 1
    assert found.converged
    assert found.steps < 60


def test_weights_too_small_for_float32(always, monkeypatch):
    x, y, b = draw(90, 3), draw(110, 3, seed=1), 10.0 ** -torch.linspace(0, 60, 110).double()
    b = b / b.sum()
    found = exact_transport(x, y, b=b)
    assert found.converged
    assert found.g.isfinite().all()
    close(found.cost, dense(monkeypatch, x, y, b=b).cost, rtol=1e-11, atol=0)


def test_all_pairs_take_over_where_candidates_fail(always, monkeypatch):
    monkeypatch.setattr(solving, "FALLBACK_PAIRS", math.inf)
    monkeypatch.setattr(solving, "PATIENCE", 1)
    monkeypatch.setattr(restricted, "NEIGHBOURS", 1)
    x, y = draw(100, 2), draw(100, 2, seed=1) + 3.0
    found = exact_transport(x, y)
    assert found.converged
    close(found.cost, dense(monkeypatch, x, y).cost, rtol=1e-12, atol=0)


@pytest.mark.parametrize("p", [10.0, 30.0])
def test_powers_that_span_more_than_the_digits_there_are(p):
    x, y = draw(300, 3), draw(280, 3, seed=1) + 0.3
    found = exact_transport(x, y, p=p, root=False)
    assert found.converged
    assert abs(found.dual_gap) <= 1e-8 * found.value


def test_deal_keeps_every_marginal():
    member, groups = torch.arange(60) % 7, torch.arange(40) % 7
    wanted = 10.0 ** -torch.linspace(0, 40, 60).double()
    wanted[::9] = 0.0
    held = torch.zeros(7).double().index_add(0, member, wanted)
    amounts = held[groups] * simplex(40, zeros=3)
    amounts = amounts / torch.zeros(7).double().index_add(0, groups, amounts)[groups]
    amounts = amounts * held[groups]
    index, takers, parts = deal(groups.numpy(), amounts.numpy(), member.numpy(), wanted.numpy())
    index, takers, parts = (torch.from_numpy(z) for z in (index, takers, parts))
    assert (member[takers] == groups[index]).all()
    close(torch.zeros(60).double().index_add(0, takers, parts), wanted, rtol=1e-13, atol=0)
    close(torch.zeros(40).double().index_add(0, index, parts), amounts, rtol=0, atol=1e-15)
    assert len(parts) <= 60 + 40 - 7
