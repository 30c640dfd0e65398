"""The fused backend against the dense one: by Triton's interpreter, and on a GPU if there is one.

Triton reads TRITON_INTERPRET when it is first imported. The tests of the kernels therefore run in
a process of their own, which ``test_by_the_interpreter`` starts on this same file.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from probmetrics import energy_distance, mmd, sinkhorn, sinkhorn_divergence
from probmetrics.pairwise import (
    CountWithin,
    KSmallest,
    LogSumExp,
    Total,
    WeightedSum,
    choose_backend,
    fused,
    fused_launch,
    fused_table,
    reduce_pairs,
)
from probmetrics.pairwise.costs import Cosine, Euclidean, PNorm, SqEuclidean
from probmetrics.pairwise.kernels import (
    Distance,
    Gaussian,
    InverseMultiquadric,
    Laplacian,
    Matern,
    Polynomial,
    RationalQuadratic,
    deep,
    gaussian_mixture,
)

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the kernels need Triton"
)

GROUNDS = [
    SqEuclidean(),
    Euclidean(),
    Euclidean(1.5),
    PNorm(1.0),
    PNorm(1.0, power=0.5),
    Gaussian(0.8),
    Laplacian(0.9),
    Laplacian(0.9, norm=1),
    Matern(0.5, 1.1),
    Matern(1.5, 1.1),
    Matern(2.5, 1.1),
    RationalQuadratic(0.7, 1.3),
    RationalQuadratic(2.0, 1.3),
    InverseMultiquadric(1.4),
    InverseMultiquadric(1.4, beta=1.0),
    Distance(),
    Distance(1.4, origin=2.0),
    Distance(0.7, norm=1),
    2.5 * Matern(1.5),
]
FEW = [Gaussian(0.8), Laplacian(0.9, norm=1), Distance(), -2.0 * InverseMultiquadric(1.4)]
KERNELS = ["fused_tiles", "fused_kernels", "fused_mirrored"]
GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
    ],
)


@pytest.fixture(scope="module")
def kernels():
    """The kernels without the shape checks of the tests, whose wrappers Triton cannot read."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in KERNELS:
            full = f"probmetrics.pairwise.{name}"
            file = Path(fused.__file__).with_name(f"{name}.py")
            spec = importlib.util.spec_from_file_location(full, file)
            module = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, full, module)
            spec.loader.exec_module(module)
            found |= vars(module)
    return found


@pytest.fixture(params=["cpu"] if INTERPRETING else [GPU])
def device(request, kernels, monkeypatch):
    """Where to run: small blocks under the interpreter, so that few points span several."""
    monkeypatch.setattr(fused_launch, "kernel", lambda name: kernels[f"{name}_kernel"])
    if INTERPRETING:
        small = fused_table.Blocks(16, 32, 16, 4, 1)
        monkeypatch.setattr(fused_launch, "blocks_for", lambda *a, **k: small)
    return request.param


@pytest.mark.skipif(INTERPRETING, reason="this is that process")
def test_by_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", __file__, "-q", "-k", "cpu", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]


def draw(*shape, dtype=torch.float64, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) + shift).to(dtype)


def problem(n=21, m=37, d=3, dtype=torch.float64, batch=()):
    x, y = draw(*batch, n, d, dtype=dtype), 0.3 + draw(m, d, dtype=dtype, seed=1)
    if d > 8:
        x, y = x * (3 / d) ** 0.5, y * (3 / d) ** 0.5
    return x, y, draw(m, dtype=dtype, seed=2).abs() + 0.1


def answers(ground, make, tensors, backend, device="cpu", same=False):
    """Values, then gradients in all tensors, of a reduction made from (x, y, ...)."""
    leaves = [t.detach().to(device).requires_grad_() for t in tensors]
    x, y = leaves[:2]
    found = reduce_pairs(ground, make(*leaves[2:]), x, None if same else y, backend=backend)
    parts = found if isinstance(found, tuple) else (found,)
    value = parts[0]
    if value.is_floating_point() and value.requires_grad:
        direction = draw(value.numel(), seed=5).reshape(value.shape).to(value)
        used = leaves[:1] + leaves[2:] if same else leaves
        parts += torch.autograd.grad((value * direction).sum(), used, allow_unused=True)
    return [None if part is None else part.detach().cpu() for part in parts]


def agree(ground, make, tensors, device, *, same=False, wide=False, **tolerance):
    found = answers(ground, make, tensors, "fused", device, same)
    given = [t.double() for t in tensors] if wide else tensors
    expected = answers(ground, make, given, "dense", same=same)
    for left, right in zip(found, expected, strict=True):
        if left is None or right is None:
            assert left is right
        elif tolerance and left.is_floating_point():
            scale = max(1e-30, float(right.abs().max()))
            assert float((left - right).abs().max()) <= tolerance["atol"] * scale
        else:
            torch.testing.assert_close(left.to(right.dtype), right)


@pytest.mark.parametrize("ground", GROUNDS, ids=repr)
def test_weighted_sums(ground, device):
    x, y, w = problem(n=18)
    agree(ground, lambda w: WeightedSum(w), (x, y, w), device)


@pytest.mark.parametrize("ground", FEW, ids=repr)
def test_other_reductions(ground, device):
    x, y, w = problem()
    agree(ground, lambda o: LogSumExp(o, -0.7), (x, y, w), device)
    agree(ground, lambda b: Total(draw(21, seed=4).to(b), b), (x, y, w), device)
    agree(ground, lambda: KSmallest(3), (x, y), device)
    radius = float(ground(x, y).median())
    agree(ground, lambda: CountWithin(radius), (x, y), device)


@pytest.mark.parametrize("ground", [SqEuclidean(), Euclidean(), Matern(2.5, 1.1)], ids=repr)
def test_products_in_chunks_of_the_dimension(ground, device):
    x, y, w = problem(d=37, dtype=torch.float32)
    agree(ground, lambda w: WeightedSum(w), (x, y, w), device, wide=True, atol=3e-6)
    agree(ground, lambda o: LogSumExp(o, -0.7), (x, y, w), device, wide=True, atol=3e-6)
    agree(ground, lambda: KSmallest(4), (x, y), device, wide=True, atol=3e-6)


@pytest.mark.parametrize(("dtype", "d"), [(torch.float64, 3), (torch.float32, 17)])
def test_several_columns_of_weights(dtype, d, device):
    x, y, _ = problem(d=d, dtype=dtype)
    w = draw(37, 18, dtype=dtype, seed=3)
    agree(Gaussian(1.0), lambda w: WeightedSum(w, columns=True), (x, y, w), device, atol=3e-6)


def test_batches_with_options_of_their_own(device):
    x, y, _ = problem(n=7, m=17, batch=(2, 1))
    x = torch.cat([x, x + 0.1], dim=1)
    w, radius = draw(2, 2, 17, seed=3).abs(), draw(2, 7, seed=4).abs()
    scale = torch.tensor([-1.0, -2.0]).double().to(device)
    agree(Euclidean(), lambda w: WeightedSum(w), (x, y, w), device)
    found = reduce_pairs(
        Euclidean(), LogSumExp(w.to(device), scale), x.to(device), y.to(device), backend="fused"
    )
    expected = reduce_pairs(Euclidean(), LogSumExp(w, scale.cpu()), x, y, backend="dense")
    torch.testing.assert_close(found.cpu(), expected)
    agree(Euclidean(), lambda: CountWithin(radius.to(device)), (x, y), device)
    agree(Euclidean(), lambda: CountWithin(column_radius=w.to(device)), (x, y), device)


def test_large_samples_with_themselves_keep_to_their_memory(device, monkeypatch):
    monkeypatch.setattr(fused_launch, "processors", lambda device: 64)
    x = draw(90, 2)
    samples = fused_launch.Samples(fused.fused_forms(Gaussian(1.0), 2)[0], x[None], x[None])
    samples.same = True
    stripes = []
    for slots in (2**20, 2 * 8 * 90, 8 * 90, 8):
        monkeypatch.setattr(fused_launch, "SLOTS", slots)
        mirrored = fused_launch.Mirrored(samples, "mirrored_weighted_sum", slot=8)
        stripes.append((mirrored.bounds.tolist(), mirrored.fits))
        agree(Gaussian(1.0), lambda w: WeightedSum(w), (x, x, draw(90)), device, same=True)
    if device == "cpu":
        assert stripes[:2] == [([0, 32, 64, 90], True), ([0, 32, 90], True)]
        assert stripes[2:] == [([0, 90], False)] * 2
    monkeypatch.setattr(fused_launch, "SLOTS", 2**20)
    monkeypatch.setattr(fused_launch.Mirrored, "slots", lambda self, *a, **k: None)  # no room
    agree(Gaussian(1.0), lambda w: WeightedSum(w), (x, x, draw(90)), device, same=True)
    agree(Gaussian(1.0), lambda: CountWithin(0.4), (x, x), device, same=True)


@pytest.mark.parametrize(("rows", "columns"), [(16, 64), (64, 16), (32, 32)])
@pytest.mark.parametrize("n", [1, 64, 101])
def test_a_sample_with_itself_in_blocks_of_any_shape(n, rows, columns, device, monkeypatch):
    monkeypatch.setattr(fused_launch, "processors", lambda device: 3)
    shape = fused_table.Blocks(rows, columns, 16, 4, 1)
    monkeypatch.setattr(fused_launch, "blocks_for", lambda *a, **k: shape)
    x, w = draw(n, 11, dtype=torch.float32), draw(n, dtype=torch.float32, seed=3)
    options = {"same": True, "wide": True, "atol": 2e-5}
    agree(Gaussian(2.0), lambda w: WeightedSum(w), (x, x, w), device, **options)
    agree(SqEuclidean(), lambda o: LogSumExp(o, -0.3), (x, x, w), device, **options)
    agree(Euclidean(), lambda: CountWithin(4.0), (x, x), device, **options)
    some = draw(n, 2, dtype=torch.float32, seed=6)
    agree(Gaussian(2.0), lambda w: WeightedSum(w, columns=True), (x, x, some), device, **options)


@pytest.mark.parametrize("d", [2, 12])
def test_odd_values_in_a_sample_with_itself(d, device):
    x, w = draw(75, d, dtype=torch.float32), draw(75, dtype=torch.float32, seed=3).abs()
    w[20] = torch.inf
    found = reduce_pairs(Gaussian(2.0), WeightedSum(w.to(device)), x.to(device), backend="fused")
    assert found.tolist() == [torch.inf] * 75
    none = x.new_zeros(75, 0).to(device)
    found = reduce_pairs(
        Gaussian(2.0), WeightedSum(none, columns=True), x.to(device), backend="fused"
    )
    assert found.shape == (75, 0)
    x[7] = torch.nan
    counts = reduce_pairs(Euclidean(), CountWithin(9.0), x.to(device), backend="fused")
    assert counts[7] == 0
    assert counts[8] == 74


@pytest.mark.parametrize(
    ("dtype", "processors"), [(torch.float64, 1), (torch.float64, 3), (torch.float32, 64)]
)
def test_a_sample_with_itself_and_its_ties(dtype, processors, device, monkeypatch):
    monkeypatch.setattr(fused_launch, "processors", lambda device: processors)
    x = problem(n=75, d=2 if dtype == torch.float64 else 12, dtype=dtype)[0]
    x[20], x[74] = x[3], x[3]
    w = draw(75, dtype=dtype, seed=3).abs()
    v = draw(75, dtype=dtype, seed=4).abs()
    options = {"same": True, "wide": True, "atol": 2e-5}
    for ground in (Euclidean(), Gaussian(0.8)):
        agree(ground, lambda w: WeightedSum(w), (x, x, w), device, **options)
        agree(ground, lambda o: LogSumExp(o, -1.3), (x, x, w), device, **options)
        agree(ground, lambda a, b: Total(a, b), (x, x, w, v), device, **options)
        # one tensor as rows and columns is the symmetric case
        agree(ground, lambda a: Total(a, a), (x, x, w), device, **options)
    agree(Distance(), lambda o: LogSumExp(o, 0.4), (x, x, w), device, **options)
    columns = draw(75, 3, dtype=dtype, seed=6)
    agree(Gaussian(0.8), lambda w: WeightedSum(w, columns=True), (x, x, columns), device, **options)
    w[:40] = -torch.inf  # a stripe without mass
    agree(SqEuclidean(), lambda: LogSumExp(w.to(device), -1.3), (x, x), device, **options)
    counts = [
        (CountWithin(1.1), CountWithin(1.1)),
        (CountWithin(v.to(device)), CountWithin(v)),
        (CountWithin(column_radius=v.to(device)), CountWithin(column_radius=v)),
    ]
    for there, here in counts:
        found = reduce_pairs(Euclidean(), there, x.to(device), backend="fused")
        assert found.tolist() == reduce_pairs(Euclidean(), here, x, backend="dense").tolist()
    values, indices = reduce_pairs(
        Euclidean(), KSmallest(2, skip_self=True), x.to(device), backend="fused"
    )
    assert (indices.cpu() != torch.arange(75).unsqueeze(-1)).all()
    assert set(indices[3].tolist()) == {20, 74}
    assert values[3].tolist() == [0.0, 0.0]


def test_ties_have_finite_gradients(device):
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    for ground in (
        Euclidean(),
        Laplacian(1.0),
        Matern(1.5),
        Laplacian(1.0, norm=1),
        Euclidean(0.5),
    ):
        agree(ground, lambda: WeightedSum(), (points, points.clone()), device, atol=1e-6)


@pytest.mark.parametrize("d", [3, 24])
def test_an_offset_of_ten_thousand_costs_nothing(d, device):
    x, y, w = problem(d=d, dtype=torch.float32)
    x, y = x + 1e4, y + 1e4
    for ground in (Gaussian(0.8), Euclidean()):
        agree(ground, lambda w: WeightedSum(w), (x, y, w), device, wide=True, atol=1e-5)


def test_splits_of_the_columns_merge(device, monkeypatch):
    monkeypatch.setattr(fused_launch, "processors", lambda device: 64)
    if device == "cpu":
        few = fused_table.Blocks(16, 16, 16, 4, 1)
        monkeypatch.setattr(fused_launch, "blocks_for", lambda *a, **k: few)
    x, y, w = problem(n=5, m=117, d=1)
    launch = fused_launch.Launch(
        fused_launch.Samples(fused.fused_forms(Gaussian(1.0), 1)[0], x[None], y[None]), "pull", 1
    )
    assert launch.splits > 1 or device == "cuda"
    agree(Gaussian(1.0), lambda w: WeightedSum(w), (x, y, w), device)
    agree(Gaussian(1.0), lambda o: LogSumExp(o), (x, y, w), device)
    agree(Gaussian(1.0), lambda: KSmallest(17), (x, y), device)
    agree(Euclidean(), lambda: CountWithin(1.2), (x, y), device)
    agree(Gaussian(1.0), lambda b: Total(b[:5], b), (x, y, w), device)


@pytest.mark.parametrize(("asked", "error"), [("high", 2e-3), ("medium", 2e-2)])
def test_coarser_products_when_asked(asked, error, device):
    x, y, w = problem(d=20, dtype=torch.float32)
    y[:3] = x[:3]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(asked)
    try:
        agree(Gaussian(0.8), lambda w: WeightedSum(w), (x, y, w), device, wide=True, atol=error)
        found = reduce_pairs(Euclidean(), KSmallest(), x.to(device), y.to(device), backend="fused")
        assert (found[0][:3] == 0).all()
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_newer_switches_for_products_are_understood(device):
    """Torch raises an error for whoever asks the older ones then."""
    x, y, w = problem(d=20, dtype=torch.float32)
    switch = torch.backends.cuda.matmul
    (form,) = fused.fused_forms(Gaussian(0.8), 20)
    try:
        for value, wanted in (("ieee", "ieee"), ("tf32", "tf32")):
            switch.fp32_precision = value
            samples = fused_launch.Samples(form, x[None].to(device), y[None].to(device))
            assert samples.precision == wanted
            agree(Gaussian(0.8), lambda w: WeightedSum(w), (x, y, w), device, wide=True, atol=2e-3)
    finally:
        switch.fp32_precision = "ieee"
        torch.set_float32_matmul_precision("highest")


def test_columns_left_out(device):
    x, y, _ = problem()
    offset = torch.zeros(37).double()
    offset[5:] = -torch.inf
    agree(SqEuclidean(), lambda: LogSumExp(offset.to(device), -1.0), (x, y), device)
    nothing = torch.full((37,), -torch.inf).double().to(device)
    leaf = x.to(device).requires_grad_()
    value = reduce_pairs(SqEuclidean(), LogSumExp(nothing), leaf, y.to(device), backend="fused")
    assert (value == -torch.inf).all()
    assert (torch.autograd.grad(value.sum(), leaf)[0] == 0).all()


def test_lone_points_and_nan(device):
    one, other = torch.zeros(1, 1, device=device), torch.full((1, 1), 2.0, device=device)
    for reduction in (WeightedSum(), KSmallest(), LogSumExp()):
        found = reduce_pairs(Euclidean(), reduction, one, other, backend="fused")
        value = found[0] if isinstance(found, tuple) else found
        torch.testing.assert_close(value.reshape(()).cpu(), torch.tensor(2.0))
    assert reduce_pairs(Euclidean(), WeightedSum(), one, other[:0], backend="fused").item() == 0.0
    for d in (1, 12):
        bad = torch.zeros(3, d, device=device)
        bad[1] = torch.nan
        sums = reduce_pairs(Euclidean(), WeightedSum(), bad, torch.ones(4, d).to(device),
                            backend="fused")  # fmt: skip
        assert sums[1].isnan()


@pytest.mark.parametrize("d", [3, 12])
def test_a_column_that_is_no_number_is_nobodys_neighbour(d, device):
    x, y, _ = problem(n=9, m=40, d=d, dtype=torch.float32)
    y[[0, 7, 35], 2] = torch.nan
    found, places = reduce_pairs(Euclidean(), KSmallest(6), x.to(device), y.to(device),
                                 backend="fused")  # fmt: skip
    values, wanted = reduce_pairs(Euclidean(), KSmallest(6), x, y, backend="dense")
    torch.testing.assert_close(found.cpu(), values, equal_nan=True)
    assert torch.equal(places.cpu(), wanted)


def test_half_precision_stays_in_its_dtype(device):
    x, y, _ = problem(dtype=torch.float16)
    for dtype in (torch.float16, torch.bfloat16):
        left, right = x.to(device, dtype), y.to(device, dtype)
        found = reduce_pairs(Gaussian(1.0), WeightedSum(), left, right, backend="fused")
        assert found.dtype == dtype
        expected = reduce_pairs(Gaussian(1.0), WeightedSum(), left, right, backend="dense")
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kernel", [Gaussian(0.8), gaussian_mixture([0.5, 1.0])], ids=repr)
def test_the_discrepancies(kernel, device):
    x, y, w = problem(n=18, m=17, d=2)
    w = w / w.sum()
    for function in (
        lambda x, y, backend: mmd(x, y, kernel=kernel, backend=backend),
        lambda x, y, backend: energy_distance(x, y, b=w.to(x), backend=backend),
    ):
        values = []
        for place, backend in ((device, "fused"), ("cpu", "dense"), (device, "fused")):
            leaves = [v.to(place).requires_grad_() for v in (x, y)]
            value = function(*leaves, backend)
            gradients = torch.autograd.grad(value, leaves)
            values.append([v.detach().cpu() for v in (value, *gradients)])
        torch.testing.assert_close(values[0], values[1])
        assert all(torch.equal(a, b) for a, b in zip(values[0], values[2], strict=True))


@pytest.mark.parametrize(
    ("cost", "d", "dtype", "more"),
    [
        (None, 12, torch.float32, {}),
        (Euclidean(), 2, torch.float64, {}),
        (None, 2, torch.float64, {"reach": 0.8}),
        (None, 2, torch.float64, {"batch": (2,)}),
    ],
)
def test_entropic_transport(cost, d, dtype, more, device):
    x, y, w = problem(n=18, m=17, d=d, dtype=dtype, batch=more.get("batch", ()))
    w[4] = 0.0
    w = w / w.sum()
    options = {"epsilon": 0.7, "cost": cost, "tolerance": 1e-7, "reach": more.get("reach")}
    if dtype == torch.float32:
        options["tolerance"] = 1e-5
    plain = cost is not None or options["reach"] is not None
    function = (lambda x, y, **o: sinkhorn(x, y, **o).value) if plain else sinkhorn_divergence
    values = []
    for place, backend in ((device, "fused"), ("cpu", "dense")):
        leaves = [v.to(place).requires_grad_() for v in (x, y)]
        value = function(*leaves, b=w.to(leaves[0]), backend=backend, **options)
        gradients = torch.autograd.grad(value.sum(), leaves)
        values.append([v.detach().cpu() for v in (value, *gradients)])
    close = {"rtol": 2e-3, "atol": 2e-4} if dtype == torch.float32 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(*values, **close)


def test_learned_lengths_and_features(device):
    x, y, _ = problem(n=9, m=9)
    values = []
    for place, backend in ((device, "fused"), ("cpu", "dense")):
        length = torch.tensor(0.7, dtype=torch.float64, device=place, requires_grad=True)
        layer = torch.eye(3, dtype=torch.float64, device=place).requires_grad_()
        ground = deep(lambda z, layer=layer: z @ layer, Gaussian(length))
        value = reduce_pairs(ground, WeightedSum(), x.to(place), y.to(place), backend=backend)
        gradients = torch.autograd.grad(value.sum(), (length, layer))
        values.append([v.detach().cpu() for v in (value, *gradients)])
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("name", ["sum", "logsumexp", "total"])
def test_second_derivatives_are_refused_by_name(name, device):
    ones = torch.ones(5, device=device)
    reduction = {"sum": WeightedSum(), "logsumexp": LogSumExp(), "total": Total(ones, ones)}[name]
    x = draw(5, 2, dtype=torch.float32).to(device).requires_grad_()
    value = reduce_pairs(Gaussian(1.0), reduction, x, x.detach() + 1, backend="fused").sum()
    (gradient,) = torch.autograd.grad(value, x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative; use backend='dense'"):
        gradient.square().sum().backward()


@pytest.mark.parametrize(
    "ground", [Cosine(), Polynomial(), PNorm(3.0), Gaussian(1.0) * Laplacian(1.0)], ids=repr
)
def test_grounds_without_a_fused_form(ground, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    x = draw(5, 2)
    with pytest.raises(ValueError, match=r"has no fused form.*use backend='tiled'"):
        reduce_pairs(ground, WeightedSum(), x, backend="fused")


def test_what_cannot_be_fused_says_why(monkeypatch):
    x = draw(70, 2)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=r"needs a CUDA device.*on cpu; use backend='tiled'"):
        reduce_pairs(Gaussian(1.0), WeightedSum(), x, backend="fused")
    assert choose_backend("auto", 2**20, x, Gaussian(1.0), WeightedSum()) == "tiled"
    with pytest.raises(ValueError, match=r"needs a CUDA device.*on cpu; use backend='tiled'"):
        sinkhorn(x, x + 1, backend="fused")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(ValueError, match=r"Cosine.* has no fused form.*use backend='tiled'"):
        sinkhorn_divergence(x, x + 1, cost=Cosine(), backend="fused")
    with pytest.raises(ValueError, match=r"more than 64 neighbours.*k=65"):
        reduce_pairs(Euclidean(), KSmallest(65), x, backend="fused")
    with pytest.raises(ValueError, match="sum of grounds has no fused form under LogSumExp"):
        reduce_pairs(gaussian_mixture([1.0, 2.0]), LogSumExp(), x, backend="fused")
    monkeypatch.setattr(fused, "_installed", lambda: False)
    with pytest.raises(ValueError, match=r"needs Triton \(pip install 'probmetrics\[gpu\]'\)"):
        reduce_pairs(Gaussian(1.0), WeightedSum(), x, backend="fused")


def test_measured_blocks_are_kept_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBMETRICS_CACHE", str(tmp_path))
    fused_table.load.cache_clear()
    assert fused_table.load() == {}
    key = fused_table.entry("pull", 64, "A device", product=True)
    assert key == fused_table.entry("pull", 17, "A device", product=True)
    found = fused_table.save({key: fused_table.Blocks(32, 32, 16, 2, 1)})
    assert fused_table.load() == {key: fused_table.Blocks(32, 32, 16, 2, 1)}
    assert [path.name for path in tmp_path.iterdir()] == ["blocks.json"]  # nothing half written
    for wrong in ({"rows": 48}, {"depth": 8}, {"columns": 0}):
        fused_table.save({"odd": fused_table.Blocks(**wrong)})
        assert list(fused_table.load()) == [key]
    found.write_text("not JSON")
    fused_table.load.cache_clear()
    assert fused_table.load() == {}
    fused_table.load.cache_clear()


COMPILE = """
import re

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from probmetrics.pairwise import fused_kernels, fused_mirrored, fused_table

sizes = {"batch", "n", "m", "d", "c", "k", "span", "pairs"}
wide = {"weighted_sum", "log_sum_exp", "mirrored_weighted_sum"}
whole = {"count_within", "mirrored_count_within"}
done = set()
own = {"weighted_sum": dict(PLAN=True, HALF=True, WIDTH=16),
       "pull": dict(PLAN=True, BOTH=True, WIDTH=64),
       "k_smallest": dict(SKIP=True, WIDTH=8), "log_sum_exp": {}, "count_within": {},
       "mirrored_weighted_sum": {}, "mirrored_log_sum_exp": {}, "mirrored_count_within": {}}
odd = ("mirrored_weighted_sum", {"ROWS": 128})
for name, choices in [*own.items(), ("pull", own["pull"]), odd]:
    module = fused_mirrored if name.startswith("mirrored") else fused_kernels
    kernel = getattr(module, name + "_kernel")
    blocks = fused_table.TABLE.get((name, True), fused_table.Blocks())
    choices = dict(KIND=4, POWER=2.5, SAME=True, L1=False, PRODUCT=True, PRECISION="ieee",
                   ROWS=blocks.rows, COLUMNS=blocks.columns, DEPTH=32, CHUNKS=2) | choices
    types = {}
    for argument in kernel.arg_names:
        kind = "*fp64" if name in wide else "*i64" if name in whole else "*fp32"
        kind = kind if argument == "out" else "*fp64" if argument == "masses" else "*fp32"
        kind = "*i64" if argument in ("indices", "firsts", "seconds", "bounds") else kind
        kind = "i32" if argument in sizes else kind
        if name == "pull" in done and argument in ("x", "y"):
            kind = "*bf16"  # which the interpreter cannot multiply
        types[argument] = "constexpr" if argument in choices else kind
    fixed = {(kernel.arg_names.index(key),): value for key, value in choices.items()}
    source = ASTSource(fn=kernel, signature=types, constexprs=fixed)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32),
                          options=dict(num_warps=blocks.warps, num_stages=blocks.stages))
    assert made.asm["cubin"], name
    assert made.metadata.shared <= 48 * 1024, "every device has as much"
    done.add(name)
    atomics = re.search(r"^\\s*(@\\S+\\s+)?(atom|red)[.]", made.asm["ptx"], re.MULTILINE)
    assert atomics is None, atomics
    print(name)
"""


def test_the_kernels_compile_for_a_gpu_that_is_not_here():
    plain = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, env=plain, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.split()) == 10
