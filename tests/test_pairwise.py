"""The pairwise engine: every ground under every reduction, tiled against dense, against NumPy."""

import math
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from catalog import COSTS, KERNELS
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise as sk

from probmetrics.pairwise import (
    CountWithin,
    KSmallest,
    LogSumExp,
    Total,
    WeightedSum,
    median_bandwidth,
    quantile_bandwidth,
    reduce_pairs,
    tiles,
)
from probmetrics.pairwise.costs import Cosine, Euclidean, PNorm, SqEuclidean
from probmetrics.pairwise.kernels import (
    Distance,
    Gaussian,
    InverseMultiquadric,
    Laplacian,
    Linear,
    Matern,
    Polynomial,
    RationalQuadratic,
    deep,
    gaussian_mixture,
)
from probmetrics.pairwise.threads import cores, on_all_threads, on_one_thread, run_tasks

GROUNDS = KERNELS + COSTS
TIES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [3.0, -1.0]]).double()


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles so small that a hundred points span several, with ragged edges."""
    monkeypatch.setattr(tiles, "ROWS", 32)
    monkeypatch.setattr(tiles, "COLUMNS", 32)


def problem(n=70, m=45, d=3, batch=(2,), dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return draw(*batch, n, d).requires_grad_(), draw(m, d).requires_grad_(), draw


def reductions(draw, n, m):
    weights = (draw(m).abs() + 0.1).requires_grad_()
    rows = (draw(n).abs() + 0.1).requires_grad_()
    uniform = torch.full((1,), 1 / m, dtype=torch.float64).expand(m)
    return {
        "sum": WeightedSum(),
        "weighted": WeightedSum(weights),
        "columns": WeightedSum(draw(m, 3).requires_grad_(), columns=True),
        "logsumexp": LogSumExp(weights, -0.7),
        "total": Total(rows, weights),
        "uniform total": Total(rows, uniform),
        "smallest": KSmallest(4),
        "within": CountWithin(1.0),
        "within columns": CountWithin(column_radius=weights.detach()),
    }


def leaves(reduction):
    values = [getattr(reduction, name, None) for name in ("weights", "offset", "rows", "columns")]
    return [v for v in values if isinstance(v, torch.Tensor) and v.requires_grad]


@pytest.mark.parametrize("ground", GROUNDS, ids=repr)
def test_tiled_equals_dense_with_gradients(ground, small_tiles):
    x, y, draw = problem()
    for name, reduction in reductions(draw, 70, 45).items():
        dense = reduce_pairs(ground, reduction, x, y, backend="dense")
        tiled = reduce_pairs(ground, reduction, x, y, backend="tiled")
        if name == "smallest":
            dense, tiled = dense[0], tiled[0]
        torch.testing.assert_close(tiled, dense, msg=lambda m, name=name: f"{name}: {m}")
        if not dense.requires_grad:
            continue
        inputs = [x, y, *leaves(reduction)]
        up = draw(*dense.shape)
        expected = torch.autograd.grad(dense, inputs, up)
        found = torch.autograd.grad(tiled, inputs, up)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("ground", GROUNDS, ids=repr)
def test_a_sample_with_itself(ground, small_tiles):
    x, _, draw = problem()
    weights = (draw(70).abs() + 0.1).requires_grad_()
    for reduction, inputs in [
        (Total(weights, weights), [x, weights]),
        (KSmallest(3, skip_self=True), [x]),
        (WeightedSum(weights), [x, weights]),
    ]:
        dense = reduce_pairs(ground, reduction, x, backend="dense")
        tiled = reduce_pairs(ground, reduction, x, backend="tiled")
        if isinstance(reduction, KSmallest):
            dense, tiled = dense[0], tiled[0]
        torch.testing.assert_close(tiled, dense)
        up = draw(*dense.shape)
        expected = torch.autograd.grad(dense, inputs, up)
        found = torch.autograd.grad(tiled, inputs, up)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
@pytest.mark.parametrize("ground", GROUNDS, ids=repr)
def test_gradients_against_finite_differences(ground, backend, small_tiles):
    x, y, draw = problem(n=5, m=4, d=2, batch=())
    weights = (draw(4).abs() + 0.1).requires_grad_()

    def total(x, y, w):
        rows = torch.full((5,), 0.2, dtype=torch.float64)
        return reduce_pairs(ground, Total(rows, w), x, y, backend=backend)

    def softmin(x, y, w):
        return reduce_pairs(ground, LogSumExp(w, -1.3), x, y, backend=backend)

    assert torch.autograd.gradcheck(total, (x, y, weights))
    assert torch.autograd.gradcheck(softmin, (x, y, weights))


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_second_derivatives(backend, small_tiles):
    x, y, _ = problem(n=4, m=3, d=2, batch=())
    for ground in (Gaussian(1.3), Laplacian(1.0), Polynomial(), PNorm(3.0), Matern(2.5)):

        def value(x, y, ground=ground):
            rows = torch.full((4,), 0.25, dtype=torch.float64)
            columns = torch.full((3,), 1 / 3, dtype=torch.float64)
            return reduce_pairs(ground, Total(rows, columns), x, y, backend=backend)

        assert torch.autograd.gradgradcheck(value, (x, y))


@pytest.mark.parametrize("ground", GROUNDS, ids=repr)
def test_gradient_is_finite_at_ties(ground):
    for backend in ("dense", "tiled"):
        x = TIES.clone().requires_grad_()
        y = TIES.clone().requires_grad_()
        weights = torch.full((5,), 0.2, dtype=torch.float64)
        reduce_pairs(ground, Total(weights, weights), x, y, backend=backend).backward()
        assert x.grad.isfinite().all()
        assert y.grad.isfinite().all()


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_kernels_are_positive_definite_and_symmetric(kernel):
    x, _, _ = problem(n=12, batch=())
    matrix = kernel(x.detach())
    torch.testing.assert_close(matrix, matrix.mT)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-9
    torch.testing.assert_close(matrix.diagonal(), kernel.diagonal(x.detach()))


def test_values_against_scipy_and_scikit_learn():
    x, y, _ = problem(batch=())
    x, y = x.detach(), y.detach()
    a, b = x.numpy(), y.numpy()
    r = cdist(a, b)
    expected = {
        SqEuclidean(): r**2,
        Euclidean(): r,
        Euclidean(1.5): r**1.5,
        PNorm(1): cdist(a, b, "cityblock"),
        PNorm(3, 2.0): cdist(a, b, "minkowski", p=3) ** 2,
        PNorm(math.inf): cdist(a, b, "chebyshev"),
        Cosine(): cdist(a, b, "cosine"),
        Gaussian(0.8): sk.rbf_kernel(a, b, gamma=1 / (2 * 0.8**2)),
        Laplacian(0.8, norm=1): sk.laplacian_kernel(a, b, gamma=1 / 0.8),
        Laplacian(0.8): np.exp(-r / 0.8),
        Polynomial(): sk.polynomial_kernel(a, b, degree=3, gamma=1 / 3, coef0=1),
        Linear(): sk.linear_kernel(a, b),
        RationalQuadratic(0.7, 2.0): (1 + r**2 / (2 * 0.7 * 4)) ** -0.7,
        InverseMultiquadric(2.0): (1 + r**2 / 4) ** -0.5,
        Matern(0.5, 2.0): np.exp(-r / 2),
        Matern(1.5, 2.0): (1 + 3**0.5 * r / 2) * np.exp(-(3**0.5) * r / 2),
        Matern(2.5, 2.0): (1 + 5**0.5 * r / 2 + 5 * r**2 / 12) * np.exp(-(5**0.5) * r / 2),
        Distance(1.2, origin=1.0): 0.5
        * (cdist(a, np.ones((1, 3))) ** 1.2 + (cdist(b, np.ones((1, 3))) ** 1.2).T - r**1.2),
        gaussian_mixture([1.0, 2.0]): 0.5 * (np.exp(-(r**2) / 2) + np.exp(-(r**2) / 8)),
    }
    for ground, matrix in expected.items():
        np.testing.assert_allclose(ground(x, y).numpy(), matrix, rtol=1e-10, atol=1e-12)
        row_sums = reduce_pairs(ground, WeightedSum(), x, y, backend="tiled").numpy()
        np.testing.assert_allclose(row_sums, matrix.sum(1), rtol=1e-10, atol=1e-12)


def test_neighbours_against_numpy(small_tiles):
    x, y, _ = problem(batch=())
    x, y = x.detach(), y.detach()
    matrix = cdist(x.numpy(), y.numpy())
    values, indices = reduce_pairs(Euclidean(), KSmallest(5), x, y)
    np.testing.assert_allclose(values.numpy(), np.sort(matrix, 1)[:, :5])
    np.testing.assert_array_equal(indices.numpy(), np.argsort(matrix, 1)[:, :5])
    own = cdist(x.numpy(), x.numpy())
    np.fill_diagonal(own, np.inf)
    values, _ = reduce_pairs(Euclidean(), KSmallest(5, skip_self=True), x)
    np.testing.assert_allclose(values.numpy(), np.sort(own, 1)[:, :5])
    counts = reduce_pairs(Euclidean(), CountWithin(1.0), x, y)
    np.testing.assert_array_equal(counts.numpy(), (matrix < 1.0).sum(1))


def test_duplicates_are_neighbours_at_distance_exactly_zero():
    x = torch.cat([TIES, TIES]).float() + 1e4
    values, _ = reduce_pairs(Euclidean(), KSmallest(1, skip_self=True), x, backend="tiled")
    assert (values == 0).all()


def test_offset_data_in_float32_is_centred_first():
    x, y, _ = problem(n=80, m=90, d=5, batch=())
    x, y = x.detach(), y.detach()
    shifted = [(z + 1e4).float() for z in (x, y)]
    expected = cdist(shifted[0].double().numpy(), shifted[1].double().numpy()).sum(1)
    for backend in ("dense", "tiled"):
        found = reduce_pairs(Euclidean(), WeightedSum(), *shifted, backend=backend)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_narrow_clusters_far_apart_keep_their_digits():
    x, y, _ = problem(n=200, m=200, d=4, batch=())
    ends = torch.tensor([-1e4, 1e4]).repeat(100).unsqueeze(-1)
    x, y = ((z.detach() + ends).float() for z in (x, y))
    expected = np.exp(-0.5 * cdist(x.double().numpy(), y.double().numpy()) ** 2).sum(1)
    found = reduce_pairs(Gaussian(1.0), WeightedSum(), x, y, backend="tiled")
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_one_outlier_does_not_spoil_the_other_pairs():
    x, y, _ = problem(n=300, m=200, d=2, batch=())
    x, y = x.detach().float(), y.detach().float()
    x[0] = 1e7
    expected = cdist(x[1:].double().numpy(), y.double().numpy()).sum(1)
    found = reduce_pairs(Euclidean(), WeightedSum(), x, y, backend="tiled")[1:]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_accumulated_wider(dtype, small_tiles):
    x, y, _ = problem(n=200, m=3000, batch=(), dtype=dtype)
    x, y = x.detach(), y.detach()
    exact = reduce_pairs(Gaussian(1.0), WeightedSum(), x.double(), y.double())
    found = reduce_pairs(Gaussian(1.0), WeightedSum(), x, y)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=0)


def test_batches_equal_loops_also_in_bandwidths():
    x, y, _ = problem(batch=(2,))
    bandwidths = torch.tensor([0.5, 2.0], dtype=torch.float64)
    for backend in ("dense", "tiled"):
        together = reduce_pairs(Gaussian(bandwidths), WeightedSum(), x, y, backend=backend)
        for i, bandwidth in enumerate(bandwidths.tolist()):
            alone = reduce_pairs(Gaussian(bandwidth), WeightedSum(), x[i], y, backend=backend)
            torch.testing.assert_close(together[i], alone)


def test_a_bandwidth_can_learn(small_tiles):
    x, y, _ = problem(batch=())
    weights = torch.full((70,), 1 / 70, dtype=torch.float64)
    other = torch.full((45,), 1 / 45, dtype=torch.float64)
    bandwidth = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    for kernel in (Gaussian(bandwidth), Gaussian(bandwidth) + Laplacian(bandwidth)):
        found = [
            torch.autograd.grad(
                reduce_pairs(kernel, Total(weights, other), x, y, backend=backend), bandwidth
            )[0]
            for backend in ("dense", "tiled")
        ]
        torch.testing.assert_close(found[0], found[1])
        assert found[0] != 0


def test_deep_kernels_reach_their_network(small_tiles):
    torch_generator = torch.Generator().manual_seed(0)
    net = torch.nn.Linear(3, 2).double()
    with torch.no_grad():
        net.weight.copy_(torch.randn(2, 3, generator=torch_generator, dtype=torch.float64))
    x, _, _ = problem(batch=())
    kernel = deep(net, Gaussian(1.0))
    weights = torch.full((70,), 1 / 70, dtype=torch.float64)
    grads = []
    for backend in ("dense", "tiled"):
        value = reduce_pairs(kernel, Total(weights, weights), x, backend=backend)
        grads.append(torch.autograd.grad(value, net.weight)[0])
    torch.testing.assert_close(grads[0], grads[1])
    assert grads[0].abs().max() > 0


def test_a_dense_matrix_that_cannot_fit_is_refused():
    big = torch.zeros(1, 1).expand(60_000, 1)
    with pytest.raises(ValueError, match="13.4 GiB; use backend='tiled'".replace(".", r"\.")):
        reduce_pairs(Gaussian(1.0), WeightedSum(), big, big, backend="dense")


def test_threads_do_not_change_the_answer():
    x, y, _ = problem(n=1500, m=1500, d=3, batch=(), dtype=torch.float32)
    uniform = torch.full((1,), 1 / 1500).expand(1500)
    before = torch.get_num_threads()
    answers = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        answers.append(reduce_pairs(Gaussian(1.0), Total(uniform, uniform), x, y).detach())
    torch.set_num_threads(before)
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-12, atol=0)
    assert torch.get_num_threads() == before


def test_one_thread_between_passes_leaves_cores_to_passes_and_threads_as_they_were():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen = []

    def work(share):
        seen.append((len(list(share)), torch.get_num_threads()))

    try:
        with on_one_thread(True, tasks=True):
            assert torch.get_num_threads() == 1
            run_tasks(work, [0, 1], 2**20)
            with on_one_thread(True, tasks=True):
                assert cores() == 2
            with on_all_threads():
                assert torch.get_num_threads() == 2
            with on_one_thread(True):
                assert cores() == 1
            assert (cores(), torch.get_num_threads()) == (2, 1)
        with pytest.raises(KeyError), on_one_thread(True, tasks=True), on_all_threads():
            raise KeyError
        assert (cores(), torch.get_num_threads()) == (2, 2)
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, 1), (1, 1)]


def test_bandwidth_rules():
    x, y, _ = problem(n=40, m=30, batch=())
    x, y = x.detach(), y.detach()
    pooled = torch.cat([x, y]).numpy()
    distances = cdist(pooled, pooled)[np.triu_indices(70, 1)]
    assert median_bandwidth(x.numpy(), y.numpy()) == pytest.approx(np.median(distances))
    assert quantile_bandwidth(x.numpy(), y.numpy(), quantile=0.1) == pytest.approx(
        np.quantile(distances, 0.1)
    )
    assert median_bandwidth(np.ones((5, 2))) == 1.0  # constant data
    assert median_bandwidth([[0.0], [0.0], [0.0], [4.0]]) == 2.0  # mostly ties: the mean
    batched = median_bandwidth(torch.stack([x, 2 * x]))
    torch.testing.assert_close(batched[1], 2 * batched[0])


def test_the_bandwidth_does_not_see_the_labels():
    generator = torch.Generator().manual_seed(1)
    pooled = torch.randn(3000, 2, generator=generator)
    shuffled = pooled[torch.randperm(3000, generator=generator)]
    first = median_bandwidth(pooled[:1000], pooled[1000:])
    second = median_bandwidth(shuffled[:1000], shuffled[1000:])
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(0.0), "above zero"),
        (lambda: Gaussian(float("nan")), "above zero"),
        (lambda: Laplacian(1.0, norm=3), "norm must be 1 or 2"),
        (lambda: Matern(1.0), "0.5, 1.5 or 2.5"),
        (lambda: Distance(2.0), "between 0 and 2"),
        (lambda: Polynomial(0), "degree"),
        (lambda: Polynomial(2, constant=-1.0), "zero or more"),
        (lambda: Euclidean(-1.0), "above zero"),
        (lambda: PNorm(0.5), "at least 1"),
        (lambda: gaussian_mixture([]), "at least one"),
        (lambda: gaussian_mixture([1.0], [0.5]), "summing to one"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_calls_are_refused():
    x = torch.randn(4, 2)
    with pytest.raises(ValueError, match="d = 2"):
        reduce_pairs(Gaussian(1.0), WeightedSum(), x, torch.randn(4, 3))
    with pytest.raises(ValueError, match="known: auto, dense, tiled"):
        reduce_pairs(Gaussian(1.0), WeightedSum(), x, backend="gpu")
    with pytest.raises(ValueError, match="k=4"):
        reduce_pairs(Euclidean(), KSmallest(4, skip_self=True), x)
    with pytest.raises(ValueError, match=r"weights must have shape"):
        reduce_pairs(Gaussian(1.0), WeightedSum(torch.ones(3)), x)
    with pytest.raises(ValueError, match="column_radius"):
        reduce_pairs(Euclidean(), CountWithin(), x)


def test_threads_stop_together_and_leave_no_trace():
    done, begun = [], threading.Event()

    def work(share):
        for task in share:
            begun.wait(5.0)
            if task == 0:
                begun.set()
                raise ValueError("task 0 cannot be done")
            if task == 1:
                begun.set()
            time.sleep(0.01)
            done.append(task)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        threading.Timer(0.0, begun.set).start()
        with pytest.raises(ValueError, match="task 0"):
            run_tasks(work, list(range(2000)), 2**20)
        assert len(done) < 1000  # the other share did not go on to its end
        done.clear()
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            run_tasks(work, list(range(1, 4001)), 2**20)
        count = len(done)
        time.sleep(0.05)
        assert len(done) == count < 3000  # nothing works on behind the caller's back
        counts = []
        newcomer = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
        newcomer.start()
        newcomer.join()
        assert counts == [2]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("offset", [1e4, 1e7, 1e9])
def test_bandwidth_does_not_move_with_the_data(offset):
    x = torch.randn(300, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(median_bandwidth(x + offset), median_bandwidth(x), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bandwidth_of_mostly_tied_points_is_their_mean_distance(dtype):
    # The rounding of an expanded distance between copies must not pass for the median.
    generator = torch.Generator().manual_seed(0)
    places = 5 * torch.randn(2, 64, generator=generator, dtype=dtype) + 3
    which = (torch.arange(900) % 8 == 0).long()
    x = places[which]
    few = int(which.sum())
    share = few * (900 - few) / (900 * 899 / 2)
    expected = share * (places[0] - places[1]).norm()
    torch.testing.assert_close(median_bandwidth(x), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("ground", [PNorm(2.0), Euclidean()], ids=repr)
@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_distances_far_from_the_origin(ground, backend):
    generator = torch.Generator().manual_seed(4)
    x, y = (torch.randn(600, 2, dtype=torch.float64, generator=generator) + 1e8 for _ in "xy")
    expected = (x.unsqueeze(1) - y).norm(dim=-1).sum(-1)
    found = reduce_pairs(ground, WeightedSum(), x, y, backend=backend)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_ties_between_samples_are_at_distance_zero(dtype, backend):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(600, 3, dtype=dtype, generator=generator)
    y = x.flip(0).clone()
    nearest, _ = reduce_pairs(Euclidean(0.4), KSmallest(1), x, y, backend=backend)
    assert bool((nearest == 0).all())
