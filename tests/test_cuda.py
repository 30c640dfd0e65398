"""The library on a CUDA device: the answers of the CPU, and losses inside CUDA graphs.

Where there is no device only the CPU's half runs, which says that the calls are right.
"""

import pytest
import torch

import probmetrics as pm
from probmetrics import losses, metrics

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=gpu)]


def draw(n, d=3, *, shift=0.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, d, generator=generator, dtype=torch.float64) + shift).to(dtype)


ESTIMATES = {
    "mmd": pm.mmd,
    "energy": pm.energy_distance,
    "1-D": lambda x, y: pm.wasserstein_1d(x[:, 0], y[:, 0]),
    "circle": lambda x, y: pm.circular_wasserstein(x[:, 0] % 1.0, y[:, 0] % 1.0, period=1.0),
    "Cramér": lambda x, y: pm.cramer_distance(x[:, 0], y[:, 0]),
    "Kolmogorov": lambda x, y: pm.kolmogorov_distance(x[:, 0], y[:, 0]),
    "sliced": lambda x, y: pm.sliced_wasserstein(x, y, directions=torch.eye(3).to(x)),
    "exact": pm.wasserstein,
    "sinkhorn": lambda x, y: pm.sinkhorn(x, y, epsilon=0.3, tolerance=1e-9).value,
    "divergence": lambda x, y: pm.sinkhorn_divergence(x, y, epsilon=0.3, tolerance=1e-9),
    "Fréchet": pm.frechet_distance,
    "KL by neighbours": pm.kl_neighbors,
    "KL of Gaussians": lambda x, y: pm.gaussian_kl(
        *(pm.Gaussian(z.mean(0), z.T.cov()) for z in (x, y))
    ),
    "kernel distance": metrics.kernel_distance,
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ESTIMATES)
def test_values_and_gradients_are_those_of_the_cpu(name, device):
    found = []
    for place in (device, "cpu"):
        x = draw(120).to(place).requires_grad_()
        value = ESTIMATES[name](x, draw(130, shift=0.2, seed=1).to(place))
        if isinstance(value, torch.Tensor) and value.requires_grad:
            assert value.device.type == place
            value.backward()
        gradient = torch.zeros_like(x) if x.grad is None else x.grad
        found.append((torch.as_tensor(value).item(), gradient.cpu()))
    (value, gradient), (expected, slope) = found
    assert value == pytest.approx(expected, rel=1e-7)
    assert (gradient - slope).abs().max() <= 1e-6 * slope.abs().max().clamp_min(1e-12)


TESTS = {
    "MMD": pm.mmd_test,
    "energy": pm.energy_test,
    "fused": pm.fused_test,
    "neighbours": pm.nearest_neighbor_test,
    "sliced": pm.sliced_wasserstein_test,
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TESTS)
def test_pvalues_are_those_of_the_cpu(name, device):
    x, y = draw(60), draw(50, shift=0.3, seed=1)
    options = {"permutations": 99, "generator": 0, "progress": False}
    here = TESTS[name](x, y, **options)
    there = TESTS[name](x.to(device), y.to(device), **options)
    assert there.pvalue == here.pvalue
    assert there.statistic == pytest.approx(here.statistic, rel=1e-7)


@pytest.mark.parametrize("device", DEVICES)
def test_metrics_of_generated_samples_are_those_of_the_cpu(device):
    real, made = draw(200, 8), draw(180, 8, shift=0.1, seed=1)
    here = metrics.precision_recall(real, made)
    there = metrics.precision_recall(real.to(device), made.to(device))
    for name in ("precision", "recall", "density", "coverage"):
        assert float(getattr(there, name)) == pytest.approx(float(getattr(here, name)))


CAPTURED = {
    "mmd": losses.MMDLoss,
    "energy": losses.EnergyLoss,
    "sliced": lambda: losses.SlicedLoss(directions=draw(8, seed=3, dtype=torch.float32).cuda()),
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("n", [64, 1000])
@pytest.mark.parametrize("name", CAPTURED)
def test_losses_in_a_cuda_graph(name, n):
    loss = CAPTURED[name]()
    x, y = (draw(n, seed=k, dtype=torch.float32).cuda() for k in (0, 1))
    x.requires_grad_()

    def step():
        x.grad = None
        value = loss(x, y)
        value.backward()
        return value

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    x.grad = None
    with torch.cuda.graph(graph):
        captured = loss(x, y)
        captured.backward()
    with torch.no_grad():
        x.copy_(draw(n, seed=5, dtype=torch.float32).cuda())
    graph.replay()
    value, gradient = captured.clone(), x.grad.clone()
    assert torch.equal(value, step())
    assert torch.equal(gradient, x.grad)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("name", CAPTURED)
def test_compiled_losses(name):
    loss = CAPTURED[name]()
    x, y = (draw(300, seed=k, dtype=torch.float32).cuda().requires_grad_() for k in (0, 1))
    assert torch.allclose(torch.compile(loss)(x, y), loss(x, y), rtol=1e-6)
