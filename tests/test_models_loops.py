"""Nobody needs our loop: a bare one, Lightning's, and DistributedDataParallel over two ranks."""

import importlib.util
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from probmetrics.losses import SlicedLoss

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_bare_loop_trains():
    module = example("bare_loop")
    torch.manual_seed(0)
    assert module.loss_alone(steps=150) < 0.1
    assert module.model_without_fit(steps=5).shape == (8, 2)


def test_lightning_trains():
    pytest.importorskip("lightning")
    module = example("lightning_module")
    torch.manual_seed(0)
    before = module.GAN.build(2, latent=4, hidden=(64,))
    torch.manual_seed(0)  # the same weights to begin with
    trained = module.train().model
    assert trained.sample(8, generator=0).isfinite().all()
    assert not torch.equal(before.sample(8, generator=0), trained.sample(8, generator=0))


def on_rank(rank, folder):
    """One rank: its own half of the data, the same directions, gradients averaged by DDP."""
    store, limit = f"file://{folder}/store", timedelta(seconds=60)
    dist.init_process_group("gloo", store, rank=rank, world_size=2, timeout=limit)
    torch.manual_seed(0)
    network = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
    loss = SlicedLoss(generator=0, projections=16)
    x, z = torch.randn(2, 8, 2), torch.randn(2, 8, 2)
    loss(x[rank], network(z[rank])).backward()
    torch.save(network.module.weight.grad, f"{folder}/grad{rank}.pt")
    del network  # torch may deadlock where the group goes first
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch built without distributed")
def test_losses_train_under_distributed_data_parallel(tmp_path):
    torch.multiprocessing.spawn(on_rank, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"grad{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Linear(2, 2)
        x, z = torch.randn(2, 8, 2), torch.randn(2, 8, 2)
    halves = [SlicedLoss(generator=0, projections=16)(x[r], network(z[r])) for r in range(2)]
    (sum(halves) / 2).backward()
    torch.testing.assert_close(network.weight.grad, first)
