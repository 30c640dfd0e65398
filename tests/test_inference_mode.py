"""What takes gradients inside answers in ``torch.inference_mode``, too, and the same."""

import pytest
import torch

import probmetrics as pm

BRIEF = pm.CriticTraining(steps=5)
FUNCTIONS = {
    "max_sliced_wasserstein": lambda x, y: pm.max_sliced_wasserstein(x, y, generator=0),
    "weighted": lambda x, y: pm.max_sliced_wasserstein(x, y, a=_weights(x), p=3, generator=0),
    "max_sliced_direction": lambda x, y: pm.max_sliced_direction(x, y, generator=0),
    "kantorovich_rubinstein": lambda x, y: (
        pm.kantorovich_rubinstein(x, y, training=BRIEF, generator=0).value
    ),
    "penalty": lambda x, y: (
        pm.kantorovich_rubinstein(x, y, constraint="penalty", training=BRIEF, generator=0).value
    ),
    "critic": lambda x, y: (
        pm.kantorovich_rubinstein(
            x, y, critic=torch.nn.Sequential(_linear(3, 1)), training=BRIEF, generator=0
        ).value
    ),
    "fit_critic": lambda x, y: pm.fit_critic(x, y, training=BRIEF, generator=0).value,
    "mutual_information": lambda x, y: (
        pm.mutual_information(x, y[: len(x)], training=BRIEF, generator=0).value
    ),
    "deep_kernel_test": lambda x, y: (
        pm.deep_kernel_test(x, y, permutations=19, generator=0).statistic
    ),
    "mean_embedding_test": lambda x, y: pm.mean_embedding_test(x, y, generator=0).statistic,
    "characteristic_function_test": lambda x, y: (
        pm.characteristic_function_test(x, y, generator=0).statistic
    ),
    "witness_gradient": lambda x, y: pm.witness_gradient(x, y, x)[1],
    "estimate": lambda x, y: pm.estimate(pm.energy_distance, x, y, method="influence").high,
}


def _weights(x):
    weights = torch.arange(1.0, len(x) + 1, dtype=x.dtype)
    return weights / weights.sum()


def _linear(inputs, outputs):
    layer = torch.nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.bias.zero_()
    return layer


def samples(dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(48, 3, generator=generator, dtype=torch.float64) + 0.5
    return x.to(dtype), y.to(dtype)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inference_mode_changes_nothing(name, dtype):
    function, (x, y) = FUNCTIONS[name], samples(dtype)
    plain = function(x, y)
    with torch.inference_mode():
        assert torch.equal(torch.as_tensor(function(x, y)), torch.as_tensor(plain))
        x, y = x.clone(), y.clone()
        assert torch.equal(torch.as_tensor(function(x, y)), torch.as_tensor(plain))
    assert torch.equal(torch.as_tensor(function(x, y)), torch.as_tensor(plain))  # made there
    with torch.no_grad():
        assert torch.equal(torch.as_tensor(function(x, y)), torch.as_tensor(plain))


@pytest.mark.parametrize("distance", [pm.max_sliced_wasserstein, pm.max_sliced_direction])
def test_no_graph_is_left_behind(distance):
    x, y = samples(torch.float64)
    with torch.inference_mode():
        assert not distance(x, y, generator=0).requires_grad
