"""Every line of the translation tables in docs/conventions.md: both columns are evaluated."""

import importlib
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import probmetrics as pm
from probmetrics.pairwise import kernels

PAGE = Path(__file__).parents[1] / "docs" / "conventions.md"
MODULES = [
    "scipy.stats",
    "scipy.special",
    "scipy.spatial.distance",
    "ot",
    "ot.partial",
    "ot.gaussian",
    "sklearn.metrics.pairwise",
    "torchmetrics.functional",
    "torchmetrics.image.fid",
    "torchmetrics.image.kid",
    "geomloss",
]
COARSE = {'SamplesLoss("sinkhorn"': 1e-2, "geomloss": 1e-4, "fidelity": 1e-6}


def lines():
    text = PAGE.read_text(encoding="utf-8").split("## Translations")[1]
    return [
        (here, there)
        for here, there in re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", text, flags=re.MULTILINE)
    ]


def names():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((25, 3)), rng.standard_normal((20, 3)) * 1.3 + 0.4
    a, b = (w / w.sum() for w in (rng.random(25) + 0.1, rng.random(20) + 0.1))
    p, q = (w / w.sum() for w in (rng.random(8) + 0.1, rng.random(8) + 0.1))
    directions = rng.standard_normal((30, 3))
    logits = torch.from_numpy(rng.standard_normal((40, 6)))
    moments = {"mx": x.mean(0), "my": y.mean(0), "cx": np.cov(x.T), "cy": np.cov(y.T)}
    known = dict(x=x, y=y, u=x[:, 0], v=y[:, 0], a=a, b=b, p=p, q=q, **moments)
    known |= {f"t{name}": torch.from_numpy(value) for name, value in known.items()}
    known |= {"D": directions / np.linalg.norm(directions, axis=1, keepdims=True), "L": logits}
    known |= {"a1": np.full(25, 1 / 25), "b1": np.full(20, 1 / 20), "e": 0.4, "s": 0.8}
    for module in MODULES:
        try:
            importlib.import_module(module)
            known[module.split(".")[0]] = importlib.import_module(module.split(".")[0])
        except ImportError:
            continue
    known |= {"pm": pm, "np": np, "torch": torch, "rbf": rbf}
    known |= {"torchmetrics_inception": torchmetrics_inception, "fidelity_fid": fidelity_fid}
    return known | {name: getattr(kernels, name) for name in kernels.__all__}


def rbf(x, y):
    from sklearn.metrics.pairwise import rbf_kernel

    return rbf_kernel(x, y, gamma=1 / (2 * 0.8**2))


def torchmetrics_inception(logits):
    from torchmetrics.image.inception import InceptionScore

    metric = InceptionScore(feature=torch.nn.Identity(), splits=1).double()
    metric.inception = torch.nn.Identity()
    metric.update(logits)
    return metric.compute()[0]


def fidelity_fid(x, y):
    module = pytest.importorskip("torch_fidelity.metric_fid")
    statistics = [module.fid_features_to_statistics(z.float()) for z in (x, y)]
    return module.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


def test_the_page_has_its_lines():
    assert len(lines()) >= 30


@pytest.mark.parametrize(("here", "there"), lines())
def test_translation(here, there):
    known = names()
    peer = there.lstrip("2 *").split(".")[0]
    if peer in ("geomloss",) and peer not in known:
        pytest.skip(f"{peer} is not among the test dependencies")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = eval(here, known), eval(there, known)
    tolerance = next((value for key, value in COARSE.items() if key in there), 1e-7)
    ours, theirs = (
        np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
        for value in (ours, theirs)
    )
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * 1e-2)
