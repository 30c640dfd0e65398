"""The metrics against the answers of other libraries on committed samples."""

from pathlib import Path

import numpy as np
import pytest
import torch

from probmetrics import metrics
from probmetrics.gaussian import frechet_distance

HELD = np.load(Path(__file__).parent / "fixtures" / "metrics.npz")
X, Y, LOGITS = HELD["x"], HELD["y"], HELD["logits"]


@pytest.mark.parametrize("peer", ["torch_fidelity", "torchmetrics", "pytorch_fid"])
def test_frechet_distance(peer):
    expected = pytest.approx(float(HELD[f"fid_{peer}"]), rel=1e-9)
    assert frechet_distance(X, Y) == expected
    metric = metrics.FrechetDistance(convention=peer.replace("_", "-").replace("h-m", "hm"))
    for start in range(0, 240, 37):
        metric.update(real=X[start : start + 37])
        if start < 200:
            metric.update(fake=Y[start : start + 37])
    assert float(metric.compute()) == expected


def test_kernel_distance_in_full():
    assert metrics.kernel_distance(X[:200], Y) == pytest.approx(
        float(HELD["kid_torch_fidelity_full"]), rel=1e-10
    )


def test_kernel_distance_over_subsets_draws_what_torch_fidelity_draws():
    found = metrics.kernel_distance_subsets(X, Y, subsets=10, subset_size=50)
    assert (found.mean, found.std) == pytest.approx(tuple(HELD["kid_torch_fidelity"]), rel=1e-10)
    metric = metrics.KernelDistance(subsets=10, subset_size=50)
    metric.update(real=X, fake=Y)
    assert float(metric.compute()["mean"]) == pytest.approx(found.mean, rel=1e-12)


def test_kernel_distance_over_subsets_draws_what_torchmetrics_draws():
    generator = torch.Generator().manual_seed(7)
    found = metrics.kernel_distance_subsets(
        X, Y, subsets=10, subset_size=50, convention="torchmetrics", generator=generator
    )
    assert (found.mean, found.std) == pytest.approx(tuple(HELD["kid_torchmetrics"]), rel=1e-10)


@pytest.mark.parametrize("convention", ["torch-fidelity", "torchmetrics"])
def test_inception_score(convention):
    found = metrics.inception_score(LOGITS, logits=True, convention=convention)
    expected = HELD[f"isc_{convention.replace('-', '_')}"]
    assert (found.mean, found.std) == pytest.approx(tuple(expected), rel=1e-10)


def test_precision_recall_density_coverage_of_prdc():
    found = metrics.precision_recall(X, Y)
    assert tuple(vars(found).values()) == pytest.approx(tuple(HELD["prdc"]), abs=1e-15)
    again = metrics.precision_recall(X.astype(np.float32), Y.astype(np.float32))
    assert again.precision == found.precision


def test_precision_and_recall_of_torch_fidelity():
    found = metrics.precision_recall(X, Y, convention="torch-fidelity")
    assert (found.precision, found.recall) == pytest.approx(
        tuple(HELD["prc_torch_fidelity"]), abs=1e-7
    )


def test_vendi_score():
    assert metrics.vendi_score(Y) == pytest.approx(HELD["vendi"][0], rel=1e-9)
    assert metrics.vendi_score(Y, order=2) == pytest.approx(HELD["vendi"][2], rel=1e-9)


def test_mifid():
    assert metrics.mifid(X, Y, convention="torchmetrics") == pytest.approx(
        float(HELD["mifid_torchmetrics"]), rel=1e-8
    )
