"""Sample losses: the estimator's number, with gradients, weights, features, state and dtypes."""

import copy
import io

import pytest
import torch
from torch import nn

from probmetrics import losses
from probmetrics.discrepancy import energy_distance, mmd
from probmetrics.divergences.neighbors import kl_neighbors, renyi_neighbors
from probmetrics.gaussian import frechet_distance
from probmetrics.losses.sample_loss import SampleLoss
from probmetrics.losses.samples import (
    LOSSES,
    EnergyLoss,
    FrechetLoss,
    MaxSlicedLoss,
    MMDLoss,
    SlicedLoss,
    Wasserstein1dLoss,
    WassersteinLoss,
    named_loss,
)
from probmetrics.pairwise.costs import Euclidean
from probmetrics.pairwise.kernels import Gaussian, Linear, gaussian_mixture
from probmetrics.transport.exact import wasserstein
from probmetrics.transport.line import wasserstein_1d
from probmetrics.transport.max_sliced import max_sliced_wasserstein
from probmetrics.transport.sliced import sliced_wasserstein

OPTIONS = {
    "sliced": {"generator": 3},
    "max_sliced": {"generator": 3, "restarts": 2, "steps": 20},
    "mmd": {"unbiased": False},
}
NAMES = list(LOSSES)


def make(name, **options):
    return named_loss(name, **{**OPTIONS.get(name, {}), **options})


def samples(d=3, n=12, m=9, dtype=torch.float64, seed=0):
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=source, dtype=dtype)
    y = 1.5 * torch.randn(m, d, generator=source, dtype=dtype) + 0.5
    return x, y.requires_grad_()


def width(name):
    return 1 if name == "wasserstein_1d" else 3


def test_each_loss_is_its_estimator():
    x, y = samples()
    line, other = x[:, 0], y[:, 0]
    pairs = [
        (MMDLoss(Gaussian(0.7)), mmd(x, y, kernel=Gaussian(0.7))),
        (MMDLoss(unbiased=False, root=True), mmd(x, y, unbiased=False, root=True)),
        (EnergyLoss(1.5), energy_distance(x, y, power=1.5)),
        (FrechetLoss(), frechet_distance(x, y)),
        (WassersteinLoss(1, cost=Euclidean()), wasserstein(x, y, p=1, root=False)),
        (SlicedLoss(generator=5), sliced_wasserstein(x, y, root=False, generator=5)),
        (
            MaxSlicedLoss(steps=5, generator=5),
            max_sliced_wasserstein(x, y, steps=5, root=False, generator=5),
        ),
        (SampleLoss(energy_distance, unbiased=True), energy_distance(x, y, unbiased=True)),
    ]
    for loss, value in pairs:
        assert torch.equal(loss(x, y), value), loss
    assert torch.equal(
        Wasserstein1dLoss(p=3)(line.unsqueeze(-1), other.unsqueeze(-1)),
        wasserstein_1d(line, other, p=3, root=False),
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_finite_non_zero_and_right(name):
    x, y = samples(width(name), n=5, m=4)
    loss = make(name, **({"generator": 7} if "sliced" in name else {}))
    stream = {"generator": 7} if "sliced" in name else {}
    loss(x, y, **stream).backward()
    assert y.grad.isfinite().all()
    assert y.grad.abs().max() > 1e-4
    options = {"kernel": Gaussian(1.0)} if name == "mmd" else {}
    if name == "sinkhorn":
        options = {"epsilon": 0.5, "tolerance": 1e-10}
    if name == "max_sliced":
        return  # its search stops at a tolerance that finite differences see
    fixed = make(name, **options)
    assert torch.autograd.gradcheck(lambda y: fixed(x, y, **stream), y, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_weights_reach_the_estimator(name):
    x, y = samples(width(name), n=6, m=5)
    a = torch.tensor([2.0, 1.0, 0.0, 1.0, 3.0, 1.0], dtype=torch.float64) / 8
    options = {"kernel": Gaussian(1.0)} if name == "mmd" else {}
    loss = make(name, **options)
    stream = {"generator": 1} if "sliced" in name else {}
    weighted = loss(x, y, a=a, **stream)
    if name == "frechet":
        expected = frechet_distance(x, y, a=a)
    else:
        repeated = x[torch.tensor([0, 0, 1, 3, 4, 4, 4, 5])]
        expected = loss(repeated, y, **stream)
    torch.testing.assert_close(weighted, expected, rtol=1e-3, atol=1e-5)
    assert not torch.equal(weighted, loss(x, y, **stream))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_compared_in_float32_under_autocast(name):
    x, y = samples(width(name), dtype=torch.float32)
    half_x, half_y = x.bfloat16(), y.detach().bfloat16().requires_grad_()
    loss = make(name)
    stream = {"generator": 1} if "sliced" in name else {}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(half_x, half_y, **stream)
        full = loss(half_x.float(), half_y.float(), **stream)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(half_x.float(), half_y.float(), **stream))
    torch.testing.assert_close(value, full)
    value.backward()
    assert half_y.grad.dtype == torch.bfloat16
    assert half_y.grad.isfinite().all()


def test_features_take_part_in_autocast_but_the_distance_does_not():
    torch.manual_seed(0)
    network = nn.Linear(3, 4)
    seen = []
    loss = SampleLoss(lambda x, y: seen.append(x.dtype) or energy_distance(x, y), features=network)
    x, y = samples(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(x).dtype == torch.bfloat16
        loss(x, y)
    assert seen == [torch.float32]


@pytest.mark.parametrize("name", ["mmd", "energy", "sliced"])
def test_compiled_gives_the_same_value(name):
    x, y = samples(dtype=torch.float32)
    loss, network = make(name), nn.Linear(3, 3)

    def step(x, y):
        return 2 * loss(network(x), y, generator=3 if name == "sliced" else None)

    compiled = torch.compile(step, backend="aot_eager")
    torch.testing.assert_close(compiled(x, y), step(x, y))
    compiled(x, y).backward()
    assert network.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_compiled_losses_have_one_break_and_eager_values(name):
    """Their kernels are written by hand: a graph before them, one after them, none through them."""
    x, y = samples(d=width(name), dtype=torch.float32)
    y = y.detach()
    found = []
    for change in (lambda loss: loss, lambda loss: torch.compile(loss, backend="aot_eager")):
        torch.compiler.reset()
        loss, leaf = change(make(name)), y.clone().requires_grad_()
        value = loss(x, leaf)
        found.append((value.detach(), *torch.autograd.grad(value, leaf)))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    torch.compiler.reset()
    whole = torch.compile(make(name), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        whole(x, y)


@pytest.mark.parametrize("row", ["gan", "kl", "wgan", "hinge"])
def test_adversarial_losses_compile_whole(row):
    x, y = torch.randn(2, 7, generator=torch.Generator().manual_seed(0))
    loss = losses.AdversarialLoss(row)

    def both(x, y):
        return loss.critic(x, y) + loss.generator(y)

    torch.compiler.reset()
    found = torch.compile(both, backend="aot_eager", fullgraph=True)(x, y)
    torch.testing.assert_close(found, both(x, y))


def test_features_are_compared_and_learned():
    x, y = samples(dtype=torch.float32)
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh())
    loss = EnergyLoss(features=network)
    torch.testing.assert_close(loss(x, y), energy_distance(network(x), network(y)))
    loss(x, y).backward()
    assert network[0].weight.grad.abs().sum() > 0
    assert {name for name, _ in loss.named_parameters()} == {
        "features.0.weight",
        "features.0.bias",
    }


def test_networks_and_scales_inside_kernels_belong_to_the_loss():
    network, scale = nn.Linear(3, 2), nn.Parameter(torch.tensor(1.3))
    loss = MMDLoss(0.5 * Gaussian(scale).on(network) + Linear(), unbiased=False)
    assert {id(p) for p in loss.parameters()} == {id(scale), *map(id, network.parameters())}
    x, y = samples(dtype=torch.float32)
    loss(x, y).backward()
    assert scale.grad.abs() > 0
    other = MMDLoss(0.5 * Gaussian(nn.Parameter(torch.tensor(9.0))).on(nn.Linear(3, 2)) + Linear())
    other.load_state_dict(loss.state_dict())
    other.options["unbiased"] = False
    torch.testing.assert_close(other(x, y), loss(x, y))


def test_a_seed_makes_a_stream_that_the_state_dict_continues():
    x, y = samples()
    first, second = SlicedLoss(generator=0), SlicedLoss(generator=0)
    values = [first(x, y).item() for _ in range(4)]
    assert [second(x, y).item() for _ in range(2)] == values[:2]
    assert len(set(values)) == 4
    buffer = io.BytesIO()
    torch.save(second.state_dict(), buffer)
    buffer.seek(0)
    resumed = SlicedLoss(generator=0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    assert [resumed(x, y).item() for _ in range(2)] == values[2:]
    copied = copy.deepcopy(second)
    assert [copied(x, y).item() for _ in range(2)] == values[2:]


def test_loading_before_use_survives_another_save():
    x, y = samples()
    first = SlicedLoss(generator=0)
    first(x, y)
    second, third = SlicedLoss(generator=0), SlicedLoss(generator=0)
    second.load_state_dict(first.state_dict())
    third.load_state_dict(second.state_dict())
    assert third(x, y).item() == first(x, y).item()


def test_a_state_saved_before_the_first_draw_brings_the_stream_back_to_its_seed():
    x, y = samples()
    loss = SlicedLoss(generator=5)
    start = loss.state_dict()
    values = [loss(x, y).item() for _ in range(3)]
    loss.load_state_dict(start)
    assert [loss(x, y).item() for _ in range(3)] == values
    other = SlicedLoss(generator=9)
    other.load_state_dict(start)
    assert other(x, y).item() == values[0]


def test_draws_of_another_kind_of_device_are_refused():
    x, y = samples()
    loss = SlicedLoss(generator=0)
    state = loss.state_dict()
    state["_extra_state"]["generator"] = torch.zeros(16, dtype=torch.uint8)  # as CUDA has it
    loss.load_state_dict(state)
    with pytest.raises(ValueError, match="another kind of device, not of cpu"):
        loss(x, y)


def test_global_random_state_is_left_alone():
    x, y = samples()
    before = torch.get_rng_state()
    SlicedLoss()(x, y)
    MaxSlicedLoss(steps=2, generator=1)(x, y)
    assert torch.equal(before, torch.get_rng_state())


def test_reduction_over_the_batch():
    x, y = samples(n=24, m=18)
    x, y = x.reshape(4, 6, 3), y.detach().reshape(2, 1, 9, 3)
    values = EnergyLoss(reduction="none")(x, y)
    assert values.shape == (2, 4)
    torch.testing.assert_close(EnergyLoss()(x, y), values.mean())
    torch.testing.assert_close(EnergyLoss(reduction="sum")(x, y), values.sum())


def test_images_and_numbers_are_points():
    source = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 1, 4, 4, generator=source), torch.randn(5, 1, 4, 4, generator=source)
    torch.testing.assert_close(
        EnergyLoss(event_ndim=3)(x, y), energy_distance(x.flatten(1), y.flatten(1))
    )
    line, other = x.flatten(1).T, y.flatten(1).T  # 16 problems on the line
    torch.testing.assert_close(
        Wasserstein1dLoss(event_ndim=0, reduction="none")(line, other),
        wasserstein_1d(line, other, p=2, root=False),
    )
    torch.testing.assert_close(
        EnergyLoss()(line[0], other[0]), energy_distance(line[0][:, None], other[0][:, None])
    )


def test_offset_and_ties():
    x, y = samples(dtype=torch.float32)
    loss = EnergyLoss()
    near = loss(x, y.detach())
    torch.testing.assert_close(loss(x + 1e4, y.detach() + 1e4), near, rtol=1e-2, atol=1e-3)
    z = x.clone().requires_grad_()
    loss(x, z).backward()
    assert z.grad.isfinite().all()


def test_minimising_moves_one_sample_onto_the_other():
    x, y = samples(n=40, m=40, dtype=torch.float32)
    y = y.detach().requires_grad_()
    loss = MMDLoss(gaussian_mixture([0.5, 1.0, 2.0, 4.0]), unbiased=False)
    start = loss(x, y).item()
    optimiser = torch.optim.Adam([y], lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        loss(x, y).backward()
        optimiser.step()
    assert loss(x, y).item() < 0.05 * start


def test_witness_is_that_of_the_loss():
    x, y = samples()
    loss = MMDLoss(Gaussian(1.0), unbiased=False)
    gap = loss.witness(x, y, x).mean() - loss.witness(x, y, y).mean()
    torch.testing.assert_close(gap, loss(x, y))


def neighbours(x, y, k=3):
    return (torch.cdist(x.detach(), y.detach()).topk(k, largest=False).values).log().mean()


def test_refuses_what_has_no_gradient():
    x, y = samples()
    loss = SampleLoss(neighbours, k=2)
    with pytest.raises(ValueError, match=r"neighbours has no useful gradient.*MMDLoss"):
        loss(x, y)
    assert loss(x, y.detach()).isfinite()  # as a number it is fine
    with torch.no_grad():
        assert loss(x, y).isfinite()
    for estimator in (kl_neighbors, renyi_neighbors):
        with pytest.raises(ValueError, match="_neighbors has no useful gradient"):
            SampleLoss(estimator)


def test_bad_input_is_named():
    x, y = samples()
    with pytest.raises(TypeError, match=r"mmd has no option sigma; it takes .*kernel"):
        SampleLoss(mmd, sigma=1.0)
    with pytest.raises(ValueError, match="unknown loss 'mdm'; known: mmd"):
        named_loss("mdm")
    with pytest.raises(ValueError, match="unknown reduction 'max'"):
        EnergyLoss(reduction="max")
    with pytest.raises(ValueError, match="x has 1 point and at least 2 are needed"):
        MMDLoss()(x[:1], y)
    bad = x.clone()
    bad[4, 1] = float("nan")
    with pytest.raises(ValueError, match="x holds nan at row 4, column 1"):
        EnergyLoss()(bad, y)
    with pytest.raises(ValueError, match=r"x has 3 coordinates, wanted points on the line"):
        Wasserstein1dLoss()(x, y)
    with pytest.raises(ValueError, match=r"wanted \(\*batch, n, …\) with 3 dimensions per point"):
        EnergyLoss(event_ndim=3)(x, y)
    with pytest.raises(TypeError, match="answers with tuple"):
        SampleLoss(lambda x, y: (x, y))(x, y)


def test_names_are_exported():
    for loss in LOSSES.values():
        assert getattr(losses, loss.__name__) is loss
