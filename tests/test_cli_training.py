"""``probmetrics train`` and ``probmetrics sample``: files, pictures, failures, Ctrl-C."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from probmetrics import cli
from probmetrics.cli_training import settings, widths

SMALL = ["--hidden", "8", "--latent", "2", "--every", "2"]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command, in this process."""
    capsys.readouterr()
    code = cli.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *arguments, code=2):
    """The one line on standard error."""
    found, out, error = run(capsys, *arguments)
    assert (found, out) == (code, "")
    line = error.splitlines()[-1]
    assert line.startswith("probmetrics: ")
    assert "Traceback" not in error
    return line


def test_train_then_sample(capsys, tmp_path):
    code, out, _ = run(
        capsys, "train", "wae", "data:digits", "--loss", "mmd", "--out", "wae.pt", "--steps", 5,
        "--max-samples", 200, "--set", "weight=2.5", "--ema", 0.9, "--clip", 1, *SMALL,
    )  # fmt: skip
    assert code == 0
    assert out.startswith("wae on data:digits: 5 steps, ")
    assert out.endswith("→ wae.pt\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wae.png", "wae.pt"]
    assert torch.load("wae.pt", weights_only=True)["recipe"]["options"]["weight"] == 2.5
    code, out, _ = run(capsys, "sample", "wae.pt", "-n", 20, "--out", "fake.npy", "--seed", 3)
    assert (code, out) == (0, "20 × 8 × 8 samples of wae.pt → fake.npy\n")
    first = np.load("fake.npy")
    options = ["--seed", 3, "--truncation", 9, "--temperature", 0.5, "-q"]
    assert run(capsys, "sample", "wae.pt", "-n", 20, "--out", "fake.npy", *options)[1] == ""
    assert not np.array_equal(first, np.load("fake.npy"))
    assert run(capsys, "sample", "wae.pt", "-n", 9, "--out", "fake.png", "-q")[0] == 0


@pytest.mark.parametrize("data", ["ring", "data:grid", "data:moons", "rows.npy"])
def test_points_in_the_plane(capsys, tmp_path, data):
    np.save("rows.npy", np.random.default_rng(0).normal(size=(50, 2)))
    arguments = ["train", "gan", data, "--out", "g.pt", "--steps", 2, "-q", "--grid", "now.png"]
    code, out, error = run(capsys, *arguments, "--loss", "wgan", *SMALL)
    assert (code, out, error) == (0, "", "")
    assert (tmp_path / "now.png").exists()


def test_a_folder_of_images_and_a_class_by_name(capsys, tmp_path):
    from PIL import Image

    for name, grey in (("cats", 30), ("dogs", 220)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(4):
            pixels = np.full((10, 12, 3), grey + k, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{k}.png")
    options = ["--image-size", 8, "--width", 4, "--steps", 2, "--latent", 2, "-q"]
    assert run(capsys, "train", "cgan", "photos", "--out", "c.pt", *options)[0] == 0
    arguments = ["sample", "c.pt", "-n", 3, "--out", "x.npy", "-q", "--label"]
    assert run(capsys, *arguments, "dogs")[0] == 0
    assert np.load("x.npy").shape == (3, 8, 8, 3)
    assert "unknown label 'cows'; known: cats, dogs" in refused(capsys, *arguments, "cows")


def test_solved_models_have_a_picture_too(capsys, tmp_path):
    assert run(capsys, "train", "mixture", "data:ring:200", "--out", "m.pt", "--resume")[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.png", "m.pt"]


def test_bernoulli_data_keep_their_unit(capsys):
    np.save("bits.npy", (np.random.default_rng(0).random((60, 5)) < 0.3).astype(float))
    options = ["--loss", "bernoulli", "--out", "v.pt", "--steps", 2, "-q", *SMALL]
    assert run(capsys, "train", "vae", "bits.npy", *options) == (0, "", "")
    run(capsys, "sample", "v.pt", "-n", 9, "--out", "x.npy")
    drawn = np.load("x.npy")
    assert 0 <= drawn.min() < drawn.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["train", "wea", "data:ring", "--out", "m.pt"], "unknown model 'wea'; known: gan"),
        (["train", "wae", "data:rong", "--out", "m.pt"], "unknown embedded set"),
        (["train", "wae", "none.npy", "--out", "m.pt"], "no such file"),
        (["train", "wae", "data:ring"], "Missing option '--out'"),
        (["train", "wae", "data:ring", "--out", "no/m.pt"], "the folder no does not exist"),
        (["train", "wae", "data:ring", "--out", "m.png"], "out is the model file"),
        (["train", "wae", "data:ring", "--out", "m.pt", "--latent", "0"], "latent must be at l"),
        (["train", "wae", "data:ring", "--out", "m.pt", "--loss", "kid"], "unknown loss 'kid'"),
        (["train", "vae", "data:ring", "--out", "m.pt", "--loss", "bernoulli"], "outside the [0"),
        (["train", "gan", "data:ring", "--out", "m.pt", "--hidden", "a"], "takes whole numbers"),
        (["train", "gan", "data:ring", "--out", "m.pt", "--set", "a"], "takes NAME=VALUE"),
        (["train", "gan", "data:ring", "--out", "m.pt", "--set", "a=1"], "argument 'a'"),
        (["train", "gan", "data:ring", "--out", "m.pt", "--device", "tpu9"], "device 'tpu9' can"),
        (["train", "gan", "data:ring", "--out", "m.pt", "--steps", "0"], "steps must be at least"),
        (["train", "gan", "data:wine", "--out", "m.pt", "--width", "4"], "convolutional nets need"),
        (["train", "gan", "data:wine", "--out", "m.pt", "--grid", "g.png"], "a picture needs"),
        (["train", "cgan", "data:ring", "--out", "m.pt"], "cgan needs labels"),
        (["sample", "rows.npy", "-n", "3", "--out", "x.npy"], "is no model file of probmetrics"),
        (["sample", "none.pt", "-n", "3", "--out", "x.npy"], "no such file: none.pt"),
        (["sample", "g.pt", "-n", "0", "--out", "x.npy"], "n must be at least 1"),
        (["sample", "g.pt", "-n", "3", "--out", "x.txt"], "must end in .npy or .png"),
        (["sample", "g.pt", "-n", "3", "--out", "x.npy", "--label", "1"], "cannot be sampled with"),
        (["sample", "a.pt", "-n", "3", "--out", "x.npy"], "nothing to sample from"),
        (["sample", "g.pt", "-n", "3", "--out", "x.png"], "a picture needs images or points"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(capsys, tmp_path, arguments, reason):
    from probmetrics.models import create, save

    np.save("rows.npy", np.zeros((5, 2)))
    save(create("gmmn", 3, latent=2), "g.pt")
    save(create("autoencoder", 3, latent=2), "a.pt")
    assert reason in refused(capsys, *arguments)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "g.pt", "rows.npy"]


def test_training_that_diverges_is_one_line_with_a_code_of_its_own(capsys, tmp_path):
    arguments = ["train", "gan", "data:ring", "--out", "g.pt", "--learning-rate", "1e30", *SMALL]
    line = refused(capsys, *arguments, "--steps", 9, "-q", code=3)
    assert "variance one; the last good checkpoint is g.tr" in line
    assert not (tmp_path / "g.pt").exists()


# The signal comes with the picture after four steps, as a user's would: in the middle of a step.
INTERRUPT = """
import os, signal
from probmetrics import cli
from probmetrics.report import training
real = training.write_grid
def picture(values, path, **options):
    real(values, path, **options)
    if len(seen := globals().setdefault("seen", [])) == 1:
        os.kill(os.getpid(), signal.SIGINT)
    seen.append(1)
training.write_grid = picture
cli.main(["train", "gmmn", "data:ring", "--loss", "energy", "--out", "g.pt", "--steps", "6",
          "--hidden", "8", "--latent", "2", "--every", "2"])
"""


def test_ctrl_c_leaves_the_last_checkpoint_to_resume_from(capsys, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last == "probmetrics: interrupted; g.training is kept: continue with --resume"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.png", "g.training"]
    assert torch.load("g.training", weights_only=True)["history"]["steps"] == 2
    options = ["--loss", "energy", "--steps", 6, "-q", *SMALL]
    assert run(capsys, "train", "gmmn", "data:ring", "--out", "g.pt", "--resume", *options)[0] == 0
    run(capsys, "train", "gmmn", "data:ring", "--out", "whole.pt", *options)
    resumed, whole = (torch.load(name, weights_only=True)["state"] for name in ("g.pt", "whole.pt"))
    for name, value in whole.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, resumed[name]), name


def test_help_names_the_options(capsys):
    _, out, _ = run(capsys, "train", "--help")
    names = (
        "out loss latent hidden width steps batch-size learning-rate ema clip precision seed "
        "image-size max-samples every grid checkpoint resume device quiet"
    )
    for name in names.split():
        assert f"--{name}" in out
    assert "--temperature" in run(capsys, "sample", "--help")[1]


def test_plain_values():
    assert settings(["a-b=1", "c=0.5", "d=true", "e=none", "f=x=y"]) == {
        "a_b": 1, "c": 0.5, "d": True, "e": None, "f": "x=y",
    }  # fmt: skip
    assert widths("128, 64") == [128, 64]
    assert widths("") == []
