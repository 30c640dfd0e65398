"""Model files: round trips, what is refused and why, and training by name end to end."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from probmetrics.losses import EnergyLoss
from probmetrics.models import GMMN, AbstractGenerativeModel, Batch, fit
from probmetrics.models.catalog import INDEXED, LABELLED, MODELS, create
from probmetrics.models.io import load, save
from probmetrics.report.training import sample_model, train_model, write_grid

SMALL = {
    "flow": {"layers": 2, "hidden": [8]},
    "gaussian": {"components": 2},
    "mixture": {"components": 2},
    "infogan": {"noise": 3, "classes": 2, "hidden": [8]},
    "hvae": {"latent": 2, "lower": 3, "hidden": [8]},
}


def small(name, shape=3):
    options = dict(SMALL.get(name, {"latent": 2, "hidden": [8]}))
    if name in LABELLED:
        options["classes"] = 2
    if name in INDEXED:
        options["points"] = 40
    return create(name, shape, **options)


@pytest.mark.parametrize("name", MODELS)
def test_every_named_model_trains_saves_and_loads(name, tmp_path):
    torch.manual_seed(0)
    x = torch.rand(40, 3)
    model = small(name)
    fit(
        model,
        (x, torch.arange(40) % 2) if name in LABELLED else x,
        steps=2,
        batch_size=20,
        progress=False,
    )
    path = tmp_path / "model.pt"
    save(model, path, notes={"seed": 3})
    again = load(path)
    assert type(again) is type(model)
    assert again.notes == {"seed": 3}
    for key, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, again.state_dict()[key]), key
    if isinstance(model, AbstractGenerativeModel):
        assert torch.equal(model.sample(4, generator=1), again.sample(4, generator=1))
        assert model.sample(4, generator=1).shape == (4, 3)
    objectives = model.objectives()
    assert objectives or hasattr(model, "solve")
    if objectives:
        batch = Batch(x[:8], torch.arange(8) % 2, torch.arange(8))
        values = [
            m.objectives()[-1].loss(batch, torch.Generator().manual_seed(0)) for m in (model, again)
        ]
        torch.testing.assert_close(*values)


@pytest.mark.parametrize("name", MODELS)
def test_every_named_model_says_what_is_wrong_with_its_data(name):
    labels = torch.arange(40) % 2

    def train(model, x, **options):
        fit(model, (x, labels) if name in LABELLED else x, steps=1, progress=False, **options)

    with pytest.raises(
        ValueError, match=r"must have shape \(n, 3\) to fit this model, got \(40, 4"
    ):
        train(small(name), torch.rand(40, 4))
    with pytest.raises(ValueError, match=r"\(n, 1, 8, 8\) to fit this model, got \(40, 1, 8, 6"):
        train(small(name, (1, 8, 8)), torch.rand(40, 1, 8, 6))
    x = torch.rand(40, 3)
    x[7, 1] = torch.nan
    with pytest.raises(ValueError, match="holds nan at row 7, column 1"):
        train(small(name), x)


@pytest.mark.parametrize("name", MODELS)
def test_every_named_model_refuses_sizes_of_zero(name):
    own = {"infogan": "noise", "gaussian": "components", "mixture": "components", "flow": "layers"}
    more = {"classes": 2} if name in LABELLED else {"points": 9} if name in INDEXED else {}
    with pytest.raises(ValueError, match="must be at least 1"):
        create(name, 3, **{own.get(name, "latent"): 0}, **more)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_one_trains_or_is_refused(name):
    model, x = small(name), torch.rand(40, 3)
    data = (x, torch.arange(40) % 2) if name in LABELLED else x
    if name in ("ebgan", "gmmn", "mmdgan", "wae"):  # pairs of points, U-statistics
        with pytest.raises(ValueError, match="has 1 point and at least 2 are needed"):
            fit(model, data, steps=2, batch_size=1, progress=False)
        return
    fit(model, data, steps=2, batch_size=1, progress=False)
    tensors = [v for v in model.state_dict().values() if isinstance(v, torch.Tensor)]
    assert all(v.isfinite().all() for v in tensors)


def test_foreign_files_are_refused_with_a_reason(tmp_path):
    path = tmp_path / "model.pt"
    with pytest.raises(FileNotFoundError, match="no such file"):
        load(path)
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"is no model file of probmetrics \(unreadable\)"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ValueError, match="is no model file of probmetrics"):
        load(path)
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match="it holds objects, not weights"):
        load(path)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="it is of another kind"):
        load(path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(ValueError, match="it is of another kind"):
        load(path)
    fit(small("gmmn"), torch.rand(40, 3), steps=1, checkpoint=path, progress=False)
    with pytest.raises(ValueError, match="it is a training checkpoint"):
        load(path)


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('the trap went off')",))


def test_nothing_in_a_file_is_executed(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"format": "probmetrics model", "state": Trap()}, path)
    with pytest.raises(ValueError, match="no model file of probmetrics"):
        load(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="no model file of probmetrics"):
        load(path)


def test_other_versions_and_damage_are_named(tmp_path):
    path = tmp_path / "model.pt"
    save(small("gmmn"), path)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "revision": 99, "version": "9.0"}, path)
    with pytest.raises(ValueError, match=r"has revision 99 \(written by probmetrics 9.0\)"):
        load(path)
    torch.save({k: v for k, v in content.items() if k != "state"}, path)
    with pytest.raises(ValueError, match="is damaged: it lacks state"):
        load(path)
    torch.save({**content, "state": {}}, path)
    with pytest.raises(ValueError, match="does not fit this GMMN"):
        load(path)


def test_models_with_networks_of_their_own_are_filled(tmp_path):
    path = tmp_path / "model.pt"
    model = GMMN(nn.Linear(2, 3), EnergyLoss(), shape=3, latent=2)
    save(model, path)
    with pytest.raises(ValueError, match="pass it as into="):
        load(path)
    other = GMMN(nn.Linear(2, 3), EnergyLoss(), shape=3, latent=2)
    assert torch.equal(load(path, into=other).generator.weight, model.generator.weight)
    with pytest.raises(ValueError, match="holds a GMMN, not a GAN"):
        load(path, into=small("gan"))


def test_creating_by_name_says_what_is_wrong():
    with pytest.raises(ValueError, match="unknown model 'gann'; known: gan"):
        create("gann", 2)
    with pytest.raises(ValueError, match="unknown loss 'mmd'; known: kl"):
        create("gan", 2, loss="mmd")
    with pytest.raises(ValueError, match="unknown loss 'js'; known: mmd"):
        create("gmmn", 2, loss="js")
    with pytest.raises(TypeError, match="unexpected keyword argument 'lattent'"):
        create("gmmn", 2, lattent=3)
    with pytest.raises(TypeError, match=r"model cgan: missing .*'classes'"):
        create("cgan", 2)
    with pytest.raises(TypeError, match="loss must be a number, text"):
        create("gmmn", 2, loss=EnergyLoss())
    with pytest.raises(ValueError, match="has its own loss"):
        create("flow", 2, loss="mmd")
    assert create("gan", 2, loss="wgan").divergence.penalty is not None
    assert create("wae", 2, loss="hinge").objectives()[0].name == "critic"


def test_training_by_name_returns_to_the_unit_of_the_data(tmp_path):
    out = tmp_path / "model.pt"
    rows = np.random.default_rng(0).normal(size=(300, 2)) * [1.0, 50.0] + [1000.0, -3.0]
    history = train_model(
        "gmmn",
        rows,
        loss="energy",
        out=out,
        steps=150,
        hidden=[16],
        latent=2,
        batch_size=64,
        learning_rate=0.01,
        progress=False,
    )
    assert history.steps == 150
    assert out.with_suffix(".png").stat().st_size > 200
    assert not out.with_suffix(".training").exists()
    drawn = sample_model(out, 2000, seed=0, out=tmp_path / "fake.npy")
    assert np.array_equal(drawn, np.load(tmp_path / "fake.npy"))
    assert np.array_equal(drawn, sample_model(out, 2000, seed=0))
    assert (np.abs(drawn.mean(0) - rows.mean(0)) < 0.3 * rows.std(0)).all()
    np.testing.assert_allclose(drawn.std(0), rows.std(0), rtol=0.3)
    with pytest.raises(ValueError, match=r"must end in \.npy or \.png"):
        sample_model(out, 3, out=tmp_path / "fake.txt")
    with pytest.raises(ValueError, match="cannot be sampled with labels"):
        sample_model(out, 3, label=1)


def test_images_train_and_come_back_as_images(tmp_path):
    out = tmp_path / "model.pt"
    train_model("cgan", "data:digits", out=out, steps=3, width=4, latent=4, every=2, progress=False)
    drawn = sample_model(out, 5, label=3, seed=0, out=tmp_path / "grid.png")
    assert drawn.shape == (5, 8, 8)
    from PIL import Image

    assert Image.open(tmp_path / "grid.png").size[0] >= 256
    with pytest.raises(ValueError, match="a picture needs images or points in the plane"):
        train_model("gmmn", "data:wine", out=out, steps=1, grid=tmp_path / "a.png", progress=False)
    with pytest.raises(ValueError, match=r"cgan needs labels, and .* has none"):
        train_model("cgan", np.zeros((9, 2)), out=out, steps=1, progress=False)


def test_training_can_be_resumed_by_name(tmp_path):
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    options = {"hidden": [8], "latent": 2, "progress": False, "every": 5}
    train_model("gmmn", "data:ring", out=whole, steps=10, **options)
    state = tmp_path / "state"
    train_model("gmmn", "data:ring", out=parts, steps=5, checkpoint=state, **options)
    train_model("gmmn", "data:ring", out=parts, steps=10, checkpoint=state, resume=True, **options)
    assert np.array_equal(sample_model(whole, 9, seed=0), sample_model(parts, 9, seed=0))


def test_grids_of_colour_and_constant_points(tmp_path):
    write_grid(np.random.default_rng(0).random((5, 8, 6, 3)), tmp_path / "colour.png", top=1.0)
    write_grid(np.zeros((4, 2)), tmp_path / "points.png")
    assert (tmp_path / "points.png").exists()
