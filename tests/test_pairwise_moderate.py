"""Small and moderate samples: blocks prepared once, tiles that threads share, neighbour trees."""

import math

import pytest
import torch

from probmetrics import energy_distance, mmd, witness
from probmetrics.pairwise import (
    KSmallest,
    Total,
    WeightedSum,
    reduce_pairs,
    tiled,
    tiles,
    tree,
)
from probmetrics.pairwise.blocks import TiledBlocks, reduce_blocks
from probmetrics.pairwise.costs import Cosine, Euclidean, PNorm, SqEuclidean
from probmetrics.pairwise.kernels import Distance, Gaussian, Laplacian, Polynomial, Scaled, deep

GROUNDS = [
    Gaussian(0.8),
    Scaled(Gaussian(1.3), 2.0),
    Laplacian(1.1),
    Polynomial(),
    Cosine(),
    Euclidean(),
    Euclidean(1.5),
    Scaled(Euclidean(0.5), -1.0),
]


@pytest.fixture(params=[1, 2])
def shared(request, monkeypatch):
    """Every sweep in shared tiles so small that samples span several, with ragged edges."""
    monkeypatch.setattr(tiles, "SPLIT", range(1, 2**30))
    monkeypatch.setattr(tiles, "SHARED", 16)
    monkeypatch.setattr(tiles, "SMALL", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def draws(*shapes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


def masses(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(shape, generator=generator, dtype=torch.float64)
    weights[..., ::5] = 0.0
    return weights / weights.sum(-1, keepdim=True)


def one_by_one(ground, x, y, a, b):
    """The three totals through dense matrices."""
    terms = ((x, x, a, a), (y, y, b, b), (x, y, a, b))
    return [
        reduce_pairs(ground, Total(left, right), u, v, backend="dense")
        for u, v, left, right in terms
    ]


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("ground", GROUNDS, ids=repr)
def test_blocks_equal_three_dense_totals(ground, batch, uniform, shared):
    x, y = draws((*batch, 51, 3), (*batch, 38, 3))
    y[..., :4, :] = x[..., :4, :]  # ties between the samples, and within
    x[..., 20, :] = x[..., 21, :]
    a, b = (torch.full((1,), 1 / n, dtype=x.dtype).expand(n) for n in (51, 38))
    if not uniform:
        a, b = masses(*batch, 51), masses(*batch, 38, seed=2)
    inputs = [z.requires_grad_() for z in (x, y)]
    if not uniform:
        inputs += [z.requires_grad_() for z in (a, b)]
    found = reduce_blocks(ground, x, y, a, b, backend="tiled")
    expected = one_by_one(ground, x, y, a, b)
    ups = draws(*[batch] * 3, seed=4)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    sums = [sum((t * u).sum() for t, u in zip(ts, ups, strict=True)) for ts in (found, expected)]
    for one, other in zip(*(torch.autograd.grad(s, inputs) for s in sums), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("wanted", ["x", "y", "a", "b"])
def test_blocks_give_each_gradient_alone(wanted, shared):
    x, y = draws((33, 2), (40, 2))
    given = {"x": x, "y": y, "a": masses(33), "b": masses(40)}
    given[wanted].requires_grad_()
    for ground in (Gaussian(1.0), Euclidean()):
        sums = [
            sum(c * t for c, t in zip((1.0, 0.5, -2.0), totals, strict=True))
            for totals in (
                reduce_blocks(ground, **given, backend="tiled"),
                one_by_one(ground, **given),
            )
        ]
        one, other = (torch.autograd.grad(s, given[wanted])[0] for s in sums)
        torch.testing.assert_close(one, other)


def test_blocks_have_second_derivatives(shared):
    x, y = (z.requires_grad_() for z in draws((1, 4, 2), (1, 3, 2)))
    a, b = (w.requires_grad_() for w in (masses(1, 4), masses(1, 3)))
    for ground in (Gaussian(1.2), Euclidean(1.5)):

        def totals(x, y, a, b, ground=ground):
            return TiledBlocks.apply(ground, x, y, a, b)

        assert torch.autograd.gradcheck(totals, (x, y, a, b))
        assert torch.autograd.gradgradcheck(totals, (x, y, a, b))


def test_blocks_embed_each_sample_once():
    seen = []

    def features(z):
        seen.append(len(z))
        return z.square()

    x, y = draws((90, 2), (70, 2))
    mmd(x, y, kernel=deep(features, Gaussian(1.0)), unbiased=False, backend="tiled")
    assert sorted(seen) == [70, 90]


def test_batches_broadcast_and_one_point_is_enough(shared):
    x, y = draws((4, 1, 2), (30, 2))
    found = energy_distance(x, y, backend="tiled")
    expected = torch.stack([energy_distance(part, y, backend="dense") for part in x])
    torch.testing.assert_close(found, expected)
    weights = masses(4, 30)
    found = mmd(x, y, b=weights, kernel=Gaussian(1.0), unbiased=False, backend="tiled")
    for i in range(4):
        one = mmd(x[i], y, b=weights[i], kernel=Gaussian(1.0), unbiased=False, backend="dense")
        torch.testing.assert_close(found[i], one)


def test_many_small_problems_equal_a_loop_in_any_chunks(monkeypatch):
    x, y = draws((37, 12, 3), (37, 9, 3))
    x.requires_grad_()
    answers = []
    for chunk in (2**17, 2**9):
        monkeypatch.setattr(tiles, "TOGETHER", chunk)
        value = mmd(x, y, kernel=Gaussian(1.0), backend="tiled")
        answers.append((value, *torch.autograd.grad(value.square().sum(), x)))
    looped = torch.stack(
        [mmd(u, v, kernel=Gaussian(1.0), backend="dense") for u, v in zip(x, y, strict=True)]
    )
    expected = (looped, *torch.autograd.grad(looped.square().sum(), x))
    for answer in answers:
        for one, other in zip(answer, expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
@pytest.mark.parametrize("sizes", [(300, 300), (400, 90)])
def test_single_precision_keeps_five_digits(sizes, offset):
    x, y = draws((sizes[0], 3), (sizes[1], 3))
    x, y = (x + offset).float(), (1.3 * y + offset + 0.4).float()
    for function in (
        lambda u, v: mmd(u, v, kernel=Gaussian(1.5), unbiased=False),
        lambda u, v: mmd(u, v, kernel=Gaussian(1.5)),
        energy_distance,
        lambda u, v: energy_distance(u, v, power=0.5),
    ):
        exact = function(x.double(), y.double())
        torch.testing.assert_close(function(x, y).double(), exact, rtol=1e-5, atol=1e-8)


def test_a_narrow_sample_beside_a_wide_one_keeps_its_digits():
    """Few points of a cluster far from the others' middle need a centre of their own."""
    near, wide = draws((40, 2), (600, 2))
    for dtype, width, far in ((torch.float32, 1e-2, 1e3), (torch.float64, 1e-6, 1e4)):
        x, y = (width * near + far).to(dtype), (0.1 * far * wide).to(dtype)
        weights = [torch.full((1,), 1 / n, dtype=dtype).expand(n) for n in (40, 600)]
        found = reduce_blocks(Euclidean(), x, y, *weights)
        exact = [z.double() for z in (x, y, *weights)]
        expected = one_by_one(Euclidean(), *exact)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=0)


def test_equal_samples_are_at_distance_zero():
    x = draws((300, 4), dtype=torch.float32)[0]
    value = energy_distance(x, x.clone())
    assert value == 0
    assert not math.copysign(1.0, value) < 0


@pytest.mark.parametrize("ground", [*GROUNDS, Distance(1.2)], ids=repr)
def test_sums_in_shared_tiles_equal_dense_ones(ground, shared):
    x, y = (z.requires_grad_() for z in draws((2, 37, 3), (2, 50, 3)))
    uniform = torch.full((1,), 0.02, dtype=torch.float64).expand(50)
    for weights in (None, uniform, masses(2, 50).requires_grad_()):
        inputs = [x, y] if weights is None or not weights.requires_grad else [x, y, weights]
        found, expected = (
            reduce_pairs(ground, WeightedSum(weights), x, y, backend=backend)
            for backend in ("tiled", "dense")
        )
        torch.testing.assert_close(found, expected)
        for up in (torch.ones_like(found), draws(found.shape, seed=5)[0]):
            for one, other in zip(
                torch.autograd.grad(found, inputs, up, retain_graph=True),
                torch.autograd.grad(expected, inputs, up, retain_graph=True),
                strict=True,
            ):
                torch.testing.assert_close(one, other)
    columns = torch.full((1,), 0.5, dtype=torch.float64).expand(50, 3)
    found, expected = (
        reduce_pairs(ground, WeightedSum(columns, columns=True), x, y, backend=backend)
        for backend in ("tiled", "dense")
    )
    matrix = ground(x, y)
    torch.testing.assert_close(expected, 0.5 * matrix.sum(-1, keepdim=True).expand(-1, -1, 3))
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(z.sum(), x)[0] for z in (found, expected))
    torch.testing.assert_close(*gradients)


def test_the_witness_is_one_sum_or_two(monkeypatch):
    x, y, at = (z.requires_grad_() for z in draws((120, 3), (90, 3), (60, 3)))
    a, b = masses(120), masses(90)
    answers = []
    for moderate in (2**20, 0):
        monkeypatch.setattr("probmetrics.discrepancy.kernel.MODERATE", moderate)
        for kernel in (Gaussian(1.0), Distance(), Polynomial()):
            value = witness(x, y, at, kernel=kernel, a=a, b=b, backend="tiled")
            answers.append((value, *torch.autograd.grad(value.square().sum(), (x, y, at))))
    half = len(answers) // 2
    for first, second in zip(answers[:half], answers[half:], strict=True):
        for one, other in zip(first, second, strict=True):
            torch.testing.assert_close(one, other)


def test_kept_memory_outlives_inference_mode():
    """A tile allocated in inference mode may not be written to outside it."""
    x, y = draws((300, 3), (300, 3), dtype=torch.float32)
    tiles._kept.__dict__.clear()
    with torch.inference_mode():
        first = mmd(x, y, kernel=Gaussian(1.0))
    second = mmd(x.clone().requires_grad_(), y, kernel=Gaussian(1.0))
    second.backward()
    assert first == second
    assert max(t.numel() for t in tiles._kept.held.values()) <= tiles.KEPT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["plain", "grid", "few copies", "clusters", "far"])
@pytest.mark.parametrize(
    "cost", [Euclidean(), SqEuclidean(), PNorm(1.0), PNorm(math.inf)], ids=repr
)
def test_trees_find_the_sorted_matrix(cost, kind, dtype):
    x, y = draws((320, 2), (300, 2))
    if kind == "grid":
        x, y = (20 * x).round() / 20, (20 * y).round() / 20
    elif kind == "few copies":
        x[::60], y[::50] = x[0].clone(), x[0].clone()
    elif kind == "clusters":
        x[::2] += 1e3
        y[::2] += 1e3
    elif kind == "far":
        x, y = x + 1e6, y + 1e6
    x, y = x.to(dtype), y.to(dtype)
    for other, skip in ((y, False), (x, True)):
        values, indices = reduce_pairs(cost, KSmallest(5, skip_self=skip), x, other)
        order = getattr(cost, "p", 2.0)
        matrix = tiled.dense_matrix(PNorm(order), x.double(), other.double())
        if skip:
            matrix.fill_diagonal_(math.inf)
        wanted, places = (part[:, :5] for part in matrix.sort(dim=-1, stable=True))
        wanted = wanted.square() if isinstance(cost, SqEuclidean) else wanted
        assert values.dtype == dtype
        torch.testing.assert_close(values.double(), wanted, rtol=3e-6, atol=1e-12)
        if kind != "grid" and dtype == torch.float64:
            torch.testing.assert_close(indices, places)


def test_neighbours_through_a_tree_have_gradients():
    x, y = (z.requires_grad_() for z in draws((300, 3), (280, 3)))
    gaps, columns = tree.tree_neighbors(Euclidean(), x[None], y[None], KSmallest(4))
    nearest = torch.cdist(x, y).topk(4, largest=False)
    torch.testing.assert_close(columns[0].sort().values, nearest.indices.sort().values)
    torch.testing.assert_close(gaps[0].sort().values, nearest.values)
    gradients = []
    for backend in ("tiled", "dense"):
        values, _ = reduce_pairs(Euclidean(), KSmallest(4), x, y, backend=backend)
        own, _ = reduce_pairs(Euclidean(), KSmallest(2, skip_self=True), x, backend=backend)
        gradients.append(torch.autograd.grad(values.sum() + own.log().sum(), (x, y)))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("x", "cost"),
    [
        (torch.ones(400, 2).double(), Euclidean()),  # copies only
        (torch.arange(800.0).reshape(400, 2).double() * 1e200, Euclidean()),  # squares overflow
        (draws((400, 30))[0], Euclidean()),  # many coordinates
        (draws((400, 2))[0], Cosine()),
        (draws((400, 2))[0], Scaled(Euclidean(), -1.0)),  # the farthest
        (draws((100, 2))[0], Euclidean()),  # few points
        (torch.full((400, 2), math.nan), Euclidean()),
        (draws((400, 2))[0].to("meta"), Euclidean()),
    ],
)
def test_what_a_tree_cannot_do_is_left_to_tiles(x, cost):
    assert tree.tree_neighbors(cost, x[None], x[None], KSmallest(3, skip_self=True)) is None


def test_the_first_of_tied_neighbours_are_taken():
    x = torch.stack(torch.meshgrid(*[torch.arange(20.0)] * 2, indexing="ij"), -1).reshape(-1, 2)
    some = torch.arange(400) % 40 == 0
    y = x + 1e-3 * draws((400, 2), dtype=torch.float32)[0]
    y[some] = x[some] + torch.tensor([0.5, 0.0])
    y[-8:] = x[0] + torch.tensor([50.0, 0.0])
    gaps = torch.cdist(x.double(), y.double())
    expected = gaps.sort(dim=-1, stable=True).indices[:, :6]
    _, indices = reduce_pairs(Euclidean(), KSmallest(6), x.double(), y.double())
    torch.testing.assert_close(indices, expected)
    queries = torch.full((300, 2), 50.0).double() + draws((300, 2))[0] * 1e-3
    queries[0] = torch.tensor([50.0, 0.0])
    _, indices = reduce_pairs(Euclidean(), KSmallest(6), queries[:1].expand(300, 2), y.double())
    assert indices.tolist() == [list(range(392, 398))] * 300
