"""What a device needs, told without one: losses read no values, and memory that runs out once."""

import contextlib

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from probmetrics import _checks as checks
from probmetrics import energy_distance, losses, mmd
from probmetrics.losses import adversarial
from probmetrics.pairwise import (
    CountWithin,
    KSmallest,
    LogSumExp,
    WeightedSum,
    products,
    reduce,
    reduce_pairs,
    tiles,
)
from probmetrics.pairwise.costs import Cosine, Euclidean, PNorm, SqEuclidean
from probmetrics.pairwise.ground import safe_sqrt
from probmetrics.pairwise.kernels import (
    Distance,
    Gaussian,
    InverseMultiquadric,
    Laplacian,
    Matern,
    RationalQuadratic,
    gaussian_mixture,
)

DIRECTIONS = torch.empty(16, 3, device="meta")
SAMPLE_LOSSES = {
    "mmd": losses.MMDLoss,
    "mmd distance": lambda: losses.MMDLoss(Distance(1.2, origin=0.5)),
    "mmd sum": lambda: losses.MMDLoss(Gaussian(1.0) + Matern(1.5, 2.0)),
    "sliced": losses.SlicedLoss,
    "sliced root": lambda: losses.SlicedLoss(1.0, root=True),
    "sliced given": lambda: losses.SlicedLoss(directions=DIRECTIONS),
    "mmd root": lambda: losses.MMDLoss(RationalQuadratic(1.0, 1.0), unbiased=False, root=True),
    "mmd mixture": lambda: losses.MMDLoss(gaussian_mixture([0.5, 1.0])),
    "energy": losses.EnergyLoss,
    "energy root": lambda: losses.EnergyLoss(1.5, root=True),
    "wasserstein_1d": losses.Wasserstein1dLoss,
}


@pytest.fixture
def no_autocast(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


class NoCopies(TorchDispatchMode):
    """Refuses to copy between devices, which waits for them."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = str(function), kwargs or {}
        if name.startswith(("aten._to_copy", "aten.copy_", "aten.index")):
            flat = [*args, *(args[1] if name.startswith("aten.index.") else ())]
            places = {v.device.type for v in flat if isinstance(v, torch.Tensor)}
            if kwargs.get("device") is not None:
                places.add(torch.device(kwargs["device"]).type)
            assert places in ({"meta"}, {"cpu"}), f"{name} between {places}"
        return function(*args, **kwargs)


@pytest.fixture
def alone(no_autocast, monkeypatch):
    """Numbers are not written to the device by a copy either; the meta device has no generator."""

    def numbers(usual):
        def made(value, *args, device=None, **kwargs):
            held = isinstance(value, torch.Tensor)
            assert held or device is None or torch.device(device).type == "cpu", "a number copied"
            return usual(value, *args, device=device, **kwargs)

        return made

    def drawn(usual):
        return lambda *a, generator=None, device=None, **k: usual(*a, device=device, **k)

    for name in ("tensor", "as_tensor"):
        monkeypatch.setattr(torch, name, numbers(getattr(torch, name)))
    for name in ("randn", "rand"):
        monkeypatch.setattr(torch, name, drawn(getattr(torch, name)))
    monkeypatch.setattr(checks, "generator", lambda source, device="cpu": _OnDevice())
    with NoCopies():
        yield


class _OnDevice:
    device = torch.device("meta")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [8, 300])
@pytest.mark.parametrize("name", SAMPLE_LOSSES)
def test_losses_read_no_value_of_the_device(name, n, weighted, alone):
    """The meta device has shapes and no values: whatever would wait for a device fails on it."""
    d = 1 if name == "wasserstein_1d" else 3
    x = torch.empty(n, d, device="meta", requires_grad=True)
    y = torch.empty(n + 1, d, device="meta", requires_grad=True)
    weights = {k: torch.empty(len(z), device="meta") for k, z in (("a", x), ("b", y))}
    value = SAMPLE_LOSSES[name]()(x, y, **(weights if weighted else {}))
    value.backward()
    assert value.shape == ()
    assert value.device.type == x.grad.device.type == "meta"
    assert x.grad.shape == x.shape
    assert y.grad.shape == y.shape


@pytest.mark.parametrize("row", adversarial.ROWS)
def test_adversarial_losses_read_no_value_of_the_device(row, alone):
    x, y = (torch.empty(k, device="meta", requires_grad=True) for k in (5, 6))
    loss = losses.AdversarialLoss(row)
    (loss.critic(x, y) + loss.generator(y)).backward()
    assert x.grad.device.type == y.grad.device.type == "meta"
    points = [torch.empty(5, 3, device="meta") for _ in range(2)]
    whole = losses.Adversarial(
        nn.Linear(3, 1, device="meta"), row, penalty=losses.GradientPenalty()
    )
    (whole(*points) + whole.critic_loss(*points)).backward()


def test_terms_on_codes_read_no_value_of_the_device(alone):
    mean, spread = (torch.empty(5, 3, device="meta", requires_grad=True) for _ in range(2))
    value = losses.gaussian_kl_terms(mean, spread, prior_log_variance=0.5).sum()
    value = value + losses.gaussian_log_density(mean, spread, log_variance=0.3).sum()
    value.backward()
    x = torch.empty(5, 3, device="meta")
    assert reduce_pairs(Distance(origin=2.0), WeightedSum(), x).shape == (5,)
    assert reduce_pairs(Euclidean(), CountWithin(0.5), x, backend="dense").shape == (5,)


def test_neighbours_and_sums_read_no_value_of_the_device():
    x = torch.empty(400, 3, device="meta")
    values, indices = reduce_pairs(Euclidean(), KSmallest(5, skip_self=True), x)
    assert values.shape == indices.shape == (400, 5)
    assert reduce_pairs(Euclidean(), WeightedSum(), x, x[:90]).shape == (400,)


@pytest.mark.parametrize("name", ["sinkhorn", "frechet", "wasserstein"])
def test_solvers_that_decide_by_values_are_known(name, no_autocast):
    """They look at their error between steps, or solve on the CPU; docs/scaling.md lists them."""
    x = torch.empty(8, 3, device="meta", requires_grad=True)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        losses.named_loss(name)(x, torch.empty(8, 3, device="meta"))


@pytest.mark.parametrize("failures", [1, 2])
def test_memory_that_runs_out_is_asked_for_less_once(failures, monkeypatch):
    x, y = torch.randn(2, 200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = energy_distance(x, y, backend="tiled")
    asked = []
    usual = tiles.Pairs.row_blocks

    def scarce(pairs):
        asked.append(tiles.tile_entries.get())
        if len(asked) <= failures:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return usual(pairs)

    monkeypatch.setattr(tiles.Pairs, "row_blocks", scarce)
    if failures == 1:
        torch.testing.assert_close(energy_distance(x, y, backend="tiled"), wanted)
        assert asked[:2] == [tiles.CUDA_TILE, tiles.SMALLER]
        assert tiles.tile_entries.get() == tiles.CUDA_TILE
    else:
        with pytest.raises(torch.OutOfMemoryError, match="use fewer points per call"):
            energy_distance(x, y, backend="tiled")


def test_tiles_of_a_device_cover_the_matrix_at_any_size():
    for entries in (tiles.CUDA_TILE, tiles.SMALLER, 2**8):
        token = tiles.tile_entries.set(entries)
        try:
            pairs = tiles.Pairs(Euclidean(), *torch.empty(2, 3, 100, 2, device="meta"))
            e, rows, columns = pairs.tile_shape
            assert e * rows * columns <= max(entries, 100)
        finally:
            tiles.tile_entries.reset(token)


def test_different_devices_are_refused():
    with pytest.raises(ValueError, match="x is on cpu and y on meta"):
        mmd(torch.zeros(3, 2), torch.zeros(3, 2, device="meta"))


NORMS = [
    SqEuclidean(),
    Euclidean(),
    Euclidean(1.5),
    PNorm(1.0),
    PNorm(3.0),
    Cosine(),
    Gaussian(1.0),
    Laplacian(1.0),
    Laplacian(1.0, norm=1),
    Matern(0.5),
    Matern(1.5),
    Matern(2.5),
    RationalQuadratic(1.0, 1.0),
    InverseMultiquadric(1.0),
    Distance(1.0),
]


@pytest.mark.parametrize("ground", NORMS, ids=repr)
@pytest.mark.parametrize("backend", ["dense", "tiled"])
@pytest.mark.parametrize("m", [9, 700])
def test_nan_stays_nan(ground, backend, m):
    """Nobody looks for one on a device; a root that took it for zero would hide it."""
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    y = torch.randn(m, 3, generator=torch.Generator().manual_seed(1))
    y[4, 1] = torch.nan
    assert reduce_pairs(ground, WeightedSum(), x, y, backend=backend).isnan().all()
    places = reduce_pairs(ground, KSmallest(3), x, y, backend=backend)[1]
    assert (places != 4).all()


def test_a_penalty_of_nan_is_nan():
    assert safe_sqrt(torch.tensor([torch.nan, 4.0, -1.0])).isnan().tolist() == [True, False, False]
    x = torch.randn(4, 2)
    value = losses.GradientPenalty()(lambda at: (at * torch.nan).sum(-1), x, x + 1)
    assert value.isnan()


@pytest.mark.parametrize("newer", [False, True])
def test_tiles_multiply_exactly_whatever_networks_do(newer, monkeypatch):
    """TF32 would cost a squared distance a thousandth of ‖x‖²."""
    switch = torch.backends.cuda.matmul
    usual, seen = torch.mm, []

    def spy(*args, **kwargs):
        seen.append(products.asked())
        return usual(*args, **kwargs)

    x, y = torch.randn(2, 90, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
    try:
        if newer:
            switch.fp32_precision = "tf32"
        else:
            torch.set_float32_matmul_precision("high")
        monkeypatch.setattr(torch, "mm", spy)
        loss = losses.SinkhornLoss()(x, y) + losses.MMDLoss(Gaussian(3.0), backend="tiled")(x, y)
        loss.backward()
        with products.exact(), products.exact():
            assert products.asked() == "ieee"
        assert products.asked() == "tf32"
    finally:
        if newer:
            switch.fp32_precision = "ieee"
        torch.set_float32_matmul_precision("highest")
    assert len(seen) > 3
    assert set(seen) == {"ieee"}


@pytest.mark.parametrize("failures", [1, 2])
@pytest.mark.parametrize("reduction", [WeightedSum(), LogSumExp()])
def test_a_gradient_asks_for_less_memory_once(reduction, failures, monkeypatch):
    x = torch.randn(90, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = reduce_pairs(Gaussian(1.0), reduction, x, x.detach() + 1, backend="tiled").sum()
    (wanted,) = torch.autograd.grad(value, x, retain_graph=True)
    usual, asked = tiles.Pairs.row_blocks, []

    def scarce(pairs):
        asked.append(pairs.most)
        if len(asked) <= failures:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return usual(pairs)

    monkeypatch.setattr(tiles.Pairs, "row_blocks", scarce)
    if failures == 1:
        torch.testing.assert_close(torch.autograd.grad(value, x)[0], wanted)
        assert asked == [tiles.CUDA_TILE, tiles.SMALLER]
    else:
        with pytest.raises(torch.OutOfMemoryError, match="use fewer points per call"):
            torch.autograd.grad(value, x)


def test_fused_kernels_without_memory_say_what_to_do(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(reduce, "reduce_fused", full)
    monkeypatch.setattr(reduce, "choose_backend", lambda *_: "fused")
    x = torch.ones(5, 2)
    with pytest.raises(torch.OutOfMemoryError, match=r"copies of them.*use fewer points per call"):
        reduce_pairs(Euclidean(), WeightedSum(), x)
