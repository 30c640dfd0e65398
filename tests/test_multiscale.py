"""Transport within bounds: both hold, against the linear programme and known maps."""

import numpy as np
import pytest
import torch

from probmetrics.pairwise.costs import SqEuclidean
from probmetrics.transport import finishing, multiscale
from probmetrics.transport.cells import c_transform, near_pairs, spatial_order
from probmetrics.transport.coincident import deal
from probmetrics.transport.exact import exact_transport
from probmetrics.transport.multiscale import multiscale_transport


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 7, 130, 500])
def test_near_pairs_are_all_of_them(n, d):
    x, y = draw(n, d), draw(n + 5, d, seed=1)
    x, y = x[spatial_order(x)], y[spatial_order(y)]
    g = 0.3 * y.sin().sum(1)
    cost = SqEuclidean()(x, y)
    f = c_transform(x, y, cost[:, 0] - g[0], g)
    torch.testing.assert_close(f, (cost - g).amin(1))
    for cut in (0.0, 0.05, 1.0):
        i, j, paid = near_pairs(x, y, f, g, cut + 1e-12)
        wanted = (cost - f.unsqueeze(1) - g <= cut + 1e-12).nonzero()
        assert len(i) == len(wanted)
        torch.testing.assert_close(paid, cost[i, j])


@pytest.mark.parametrize(("n", "m", "d"), [(60, 50, 2), (1300, 900, 2), (1300, 1300, 3)])
def test_bounds_enclose_the_linear_programme(n, m, d):
    x, y = draw(n, d), 1.3 * draw(m, d, seed=1) + 1e3 * torch.eye(d)[0].double()
    solved = multiscale_transport(x - 1e3, y - 2e3 * torch.eye(d)[0], root=False, tolerance=0.05)
    exact = exact_transport(x - 1e3, y - 2e3 * torch.eye(d)[0], root=False).cost
    slack = 1e-9 * exact
    assert solved.cost - solved.dual_gap <= exact + slack
    assert exact <= solved.cost + slack
    assert solved.marginal_error < 1e-10
    assert solved.converged


@pytest.mark.filterwarnings("ignore:the bounds of the transport cost differ")
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("kind", ["lattice", "clusters", "scaled", "weighted"])
def test_bounds_hold_on_hard_samples(kind, d):
    x, y = draw(700, d), 1.2 * draw(600, d, seed=1) + 0.3
    a = None
    if kind == "lattice":
        x, y = (2 * x).round(), (2 * y).round()
    elif kind == "clusters":
        x, y = (0.05 * z + 2 * (3 * z).round() for z in (x, y))
    elif kind == "scaled":
        x, y = (1e-3 * z * torch.arange(1.0, d + 1) + 1e2 for z in (x, y))
    else:
        a = draw(700, seed=2).square() * (draw(700, seed=3) > 0)
        a = a / a.sum()
    solved = multiscale_transport(x, y, a=a, root=False)
    exact = exact_transport(x, y, a=a, root=False).cost
    slack = 1e-8 * exact
    assert solved.cost - solved.dual_gap - slack <= exact <= solved.cost + slack
    assert solved.marginal_error < 1e-9
    assert solved.dual_gap <= 0.5 * solved.cost + slack


def test_levels(monkeypatch):
    monkeypatch.setattr(multiscale, "COARSE", 64)
    x, y = draw(1500, 2), draw(1400, 2, seed=1) * torch.tensor([1.5, 0.6]).double()
    solved = multiscale_transport(x, y, root=False, tolerance=0.05)
    exact = exact_transport(x, y, root=False).cost
    assert solved.converged
    assert solved.cost - solved.dual_gap <= exact <= solved.cost
    cost = SqEuclidean()(x, y)
    assert (solved.f.unsqueeze(1) + solved.g - cost).max() < 1e-9
    value = (solved.f.mean() + solved.g.mean()).item()
    assert value == pytest.approx((solved.cost - solved.dual_gap).item())
    plan = solved.plan(sparse=True).to_dense()
    torch.testing.assert_close((plan * cost).sum(), solved.cost)


def test_weights_zeros_and_gradients():
    x, y = draw(80, 2).requires_grad_(), draw(70, 2, seed=1)
    a = torch.rand(80, generator=torch.Generator().manual_seed(0)).double()
    a[::5] = 0.0
    a = a / a.sum()
    solved = multiscale_transport(x, y, a=a, root=False, tolerance=0.1)
    cut = multiscale_transport(x[a > 0], y, a=a[a > 0], root=False, tolerance=0.1)
    torch.testing.assert_close(solved.value, cut.value)
    assert (solved.f.unsqueeze(1) + solved.g - SqEuclidean()(x.detach(), y)).max() < 1e-9
    slope = torch.autograd.grad(solved.value, x)[0]
    plan = solved.plan()
    torch.testing.assert_close(slope, 2 * (a.unsqueeze(1) * x - plan @ y).detach())


def test_batches_kinds_and_refusals(monkeypatch):
    x, y = draw(2, 60, 2), draw(50, 2, seed=1)
    both = multiscale_transport(x, y, tolerance=0.1)
    one = multiscale_transport(x[1], y, tolerance=0.1)
    assert both.plan().shape == (2, 60, 50)
    torch.testing.assert_close(both.value[1], one.value)
    array = multiscale_transport(x[1].numpy(), y.numpy(), tolerance=0.1)
    assert array.value == pytest.approx(one.value.item())
    single = multiscale_transport(x[1].float(), y.float(), tolerance=0.1)
    assert single.value.dtype == torch.float32
    same = multiscale_transport(np.ones((9, 2)), np.ones((4, 2)))
    assert same.value == pytest.approx(0.0, abs=1e-12)
    line = multiscale_transport([[0.0], [1.0]], [[3.0], [4.0]])
    assert line.value == pytest.approx(3.0)
    with pytest.raises(ValueError, match="d = 4"):
        multiscale_transport(draw(5, 4), draw(5, 4))
    monkeypatch.setattr(finishing, "ROUNDS", 1)
    monkeypatch.setattr(finishing, "PRICE", 1e-3)
    with pytest.warns(RuntimeWarning, match="bounds of the transport cost differ"):
        multiscale_transport(x[0], y, tolerance=1e-9)


@pytest.mark.parametrize("d", [2, 3])
def test_bounds_are_tight_where_tails_differ(d):
    x, y = draw(3000, d), 1.2 * draw(3000, d, seed=1) + 0.3
    solved = multiscale_transport(x, y, root=False)
    assert solved.converged
    assert solved.dual_gap <= 0.02 * solved.cost
    assert solved.marginal_error < 1e-10


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["one point", "few", "some", "signed zeros"])
@pytest.mark.parametrize("d", [2, 3])
def test_points_that_coincide_are_one(kind, d, weighted):
    x, y = draw(400, d), 1.2 * draw(300, d, seed=1) + 0.3
    if kind == "one point":
        x = torch.zeros_like(x)
    elif kind == "few":
        x, y = x.sign(), y.sign()
    elif kind == "some":
        x[::3], y[:200:2] = 0.5, 0.25
    else:
        x[::2], y[::2] = 0.0, -0.0
    a = b = None
    if weighted:
        a, b = (draw(n, seed=k).abs() for n, k in ((400, 2), (300, 3)))
        a[::4], b[1::5] = 0.0, 0.0
        a, b = a / a.sum(), b / b.sum()
    x.requires_grad_()
    solved = multiscale_transport(x, y, a=a, b=b, root=False, tolerance=0.5)
    exact = exact_transport(x.detach(), y, a=a, b=b, root=False).cost
    assert solved.cost - solved.dual_gap - 1e-9 <= exact <= solved.cost + 1e-9
    assert solved.marginal_error < 1e-10
    assert (solved.f.unsqueeze(1) + solved.g - SqEuclidean()(x.detach(), y)).max() < 1e-9
    plan = solved.plan()
    if weighted:
        assert (plan[::4] == 0).all()
        assert (plan[:, 1::5] == 0).all()
    slope = torch.autograd.grad(solved.value, x)[0]
    mass = plan.sum(1, keepdim=True)
    torch.testing.assert_close(slope, 2 * (mass * x - plan @ y).detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_maps_send_new_points_and_those_without_mass(dtype):
    x, y = draw(2, 60, 2).to(dtype), draw(50, 2, seed=1).to(dtype)
    a = torch.rand(2, 60, generator=torch.Generator().manual_seed(0)).to(dtype)
    a[0, ::4], a[1, ::5] = 0.0, 0.0
    a = a / a.sum(-1, keepdim=True)
    solved = multiscale_transport(x, y, a=a, tolerance=0.1)
    cells = SqEuclidean()(x.double(), y.double()) - solved.g.double().unsqueeze(-2)
    plan = solved.plan().double()
    mean = plan @ y.double() / plan.sum(-1, keepdim=True)
    wanted = torch.where(a.unsqueeze(-1) > 0, mean, y.double()[cells.argmin(-1)]).to(dtype)
    torch.testing.assert_close(solved.map(), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(solved.map(x), solved.map())
    new = draw(7, 2, seed=3).to(dtype)
    chosen = (SqEuclidean()(new.double(), y.double()) - solved.g.double().unsqueeze(-2)).argmin(-1)
    torch.testing.assert_close(solved.map(new), y[chosen])
    array = multiscale_transport(x[0].numpy(), y.numpy(), a=a[0].numpy(), tolerance=0.1)
    assert np.allclose(array.map(new.numpy()), y[chosen[0]].numpy())
    line = multiscale_transport([[0.0], [1.0]], [[3.0], [4.0]])
    assert line.map([[0.4]]).tolist() == [[3.0]]


@pytest.mark.parametrize("unit", [2.0**-900, 1e-160, 1e-30, 2.0**40, 1e150])
@pytest.mark.parametrize("d", [2, 3])
def test_the_unit_of_the_points_does_not_matter(unit, d):
    x, y = draw(2, 90, d), 1.3 * draw(80, d, seed=1) + 0.5
    scale = torch.tensor([1.0, unit], dtype=torch.float64).reshape(
        2, 1, 1
    )  # each problem has its own
    x, y = x.requires_grad_(), torch.stack([y, y])
    plain = multiscale_transport(x, y, tolerance=0.1)
    solved = multiscale_transport(scale * x, scale * y, tolerance=0.1)
    assert solved.converged
    torch.testing.assert_close(solved.value / scale.flatten(), plain.value)
    torch.testing.assert_close(solved.plan(), plain.plan())
    slopes = (torch.autograd.grad(z.value.sum(), x)[0] for z in (solved, plain))
    torch.testing.assert_close(next(slopes) / scale, next(slopes))
    bound = scale.flatten() ** 2 * plain.cost
    assert ((solved.cost - bound).abs() <= 1e-9 * bound).all() or unit < 1e-100
    assert (solved.cost - solved.dual_gap <= 1.000001 * bound + 5e-324).all()


def test_points_close_together_and_far_from_the_others():
    x, y = draw(90, 2), draw(80, 2, seed=1)
    tiny = multiscale_transport(1e-160 * x, y, root=False).cost.item()
    assert tiny == pytest.approx(y.square().sum(1).mean().item())
    one = multiscale_transport(1e-160 * x, 1e-160 * y + 1.0, root=False)
    assert one.cost.item() == pytest.approx(2.0)
    assert abs(one.dual_gap.item()) < 1e-12


def test_refuses_squares_that_overflow():
    x = draw(9, 2)
    with pytest.raises(ValueError, match=r"squared distances.*divide x and y"):
        multiscale_transport(1e160 * x, 1e160 * x)


def test_many_copies_cost_no_more_than_their_number():
    copies = torch.zeros(20_000, 2, dtype=torch.float64)
    solved = multiscale_transport(copies, copies)
    assert solved.value == 0
    assert solved.plan(sparse=True).indices().shape[1] < 40_000
    x, y = draw(8000, 2), draw(8000, 2, seed=1)
    x[:4000], y[:4000] = 0.0, 1.0
    a = torch.arange(8000, dtype=torch.float64)
    solved = multiscale_transport(x, y, a=a / a.sum(), root=False, tolerance=0.1)
    assert solved.converged
    assert solved.marginal_error < 1e-10
    assert solved.plan(sparse=True).indices().shape[1] < 40_000


def test_pieces_of_atoms_are_those_of_their_points():
    owner = torch.tensor([1, 0, 1, 1, 2])
    weights = torch.tensor([0.1, 0.2, 0.0, 0.3, 0.4], dtype=torch.float64)
    atoms = torch.tensor([2, 1, 0, 1])
    mass = torch.tensor([0.4, 0.25, 0.2, 0.15], dtype=torch.float64)
    given = (z.numpy() for z in (atoms, mass, owner, weights))
    entry, point, piece = (torch.from_numpy(z) for z in deal(*given))
    assert torch.equal(owner[point], atoms[entry])
    assert len(entry) == 5
    assert (piece > 0).all()
    back = torch.zeros(4, dtype=torch.float64).index_add(0, entry, piece)
    torch.testing.assert_close(back, mass)
    back = torch.zeros(5, dtype=torch.float64).index_add(0, point, piece)
    torch.testing.assert_close(back, weights)
