"""Samples on 2 and 4 gloo processes: the checks run in `fixtures/sharded.py`, once per size."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from probmetrics import energy_distance, mmd, sinkhorn_hessian_product
from probmetrics.losses import MMDLoss
from probmetrics.pairwise import Sharded

SCRIPT = Path(__file__).parent / "fixtures" / "sharded.py"
needs_ranks = pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")


@needs_ranks
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_give_the_answer_of_one_process(size):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(size)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ranks agree" in done.stdout
    assert done.stdout.count("named the missing one") == size - 1


@needs_ranks
def test_a_group_is_needed_and_an_only_rank_is_enough(tmp_path):
    x, y = torch.randn(2, 9, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="init_process_group"):
        mmd(x, y, backend=Sharded())
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        for ranks in (Sharded(), Sharded(ring=True, timeout=5.0)):
            torch.testing.assert_close(mmd(x, y, backend=ranks), mmd(x, y))
            torch.testing.assert_close(
                energy_distance(x, x, backend=ranks), energy_distance(x, x), atol=1e-12, rtol=0
            )
            torch.testing.assert_close(MMDLoss(backend=ranks)(x, y), MMDLoss()(x, y))
        with pytest.raises(ValueError, match=r"float tensors \(\*batch, n, d\)"):
            Sharded().rows(torch.ones(3, 2, dtype=torch.int64))
    finally:
        dist.destroy_process_group()


def test_options_are_checked():
    with pytest.raises(ValueError, match="unknown local 'cloud'"):
        Sharded(local="cloud")
    with pytest.raises(ValueError, match="timeout must be above zero"):
        Sharded(timeout=0)
    x = torch.randn(5, 2)
    with pytest.raises(ValueError, match="unknown backend"):
        mmd(x, x + 1, backend="sharded")
    with pytest.raises(ValueError, match="unknown backend"):
        sinkhorn_hessian_product(x, x + 1, x, backend=Sharded())
