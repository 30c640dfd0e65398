"""Samples in memory and in streams, and whatever random or damaged files hold."""

import numpy as np
import pytest
import torch
from data_checks import VALUES, refused, sound_or_refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probmetrics.data import DataError, Dataset, dataset, read


class TestMemory:
    def test_arrays_tensors_and_lists(self):
        for source in (VALUES, torch.as_tensor(VALUES), VALUES.tolist(), VALUES[::-1][::-1]):
            np.testing.assert_array_equal(read(source).values, VALUES)
        tensor = torch.ones(3, 2, requires_grad=True)
        assert read(tensor, max_samples=2).values.shape == (2, 2)
        assert read(torch.ones(3, 2, dtype=torch.float16)).values.dtype == np.float32

    def test_values_are_a_copy(self):
        source = VALUES.copy()
        got = read(source)
        source[:] = 0
        np.testing.assert_array_equal(got.values, VALUES)

    def test_bad_objects(self):
        refused([[1, 2], [3]], "rectangular")
        refused([["a"]], "text")
        refused(np.array([[1, None]]), "Python objects")
        refused(np.float64(3.0), "single number")
        refused(np.empty((3, 0)), "empty")
        refused({"a": VALUES}, "dict", error=TypeError)
        refused(3, "int", error=TypeError)
        refused(b"bytes", "bytes", error=TypeError)
        refused(None, "NoneType", error=TypeError)
        refused(VALUES, "max_samples", error=ValueError, max_samples=0)
        refused(VALUES, "columns", error=TypeError, columns=[True])
        refused(VALUES, "seed", error=ValueError, seed=-1)
        refused(VALUES, "on_corrupt", error=ValueError, on_corrupt="ignore")
        refused(VALUES, "image_size", error=ValueError, image_size=(1, 2, 3))

    def test_images_in_arrays(self):
        pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
        got = read(pixels)
        assert got.kind == "images"
        assert got.image_shape == (4, 6, 3)
        assert got.values.dtype == np.float32
        np.testing.assert_array_equal(got.images, pixels)
        assert got.columns[:4] == ("pixel_0_0_0", "pixel_0_0_1", "pixel_0_0_2", "pixel_0_1_0")
        first = read(torch.as_tensor(pixels).permute(0, 3, 1, 2))
        np.testing.assert_array_equal(first.values, got.values)
        np.testing.assert_array_equal(read(np.moveaxis(pixels, 3, 1)).values, got.values)
        assert read(pixels[..., 0]).image_shape == (4, 6)
        assert read(pixels[..., :1]).image_shape == (4, 6)
        assert read(pixels[:, None, :, :, 0]).image_shape == (4, 6)
        refused(np.zeros((2, 5, 6, 7), np.uint8), "(2, 5, 6, 7)", "channels")
        refused(pixels, "(4, 4)", image_size=4)

    def test_floats_are_images_only_when_declared(self):
        values = np.random.default_rng(0).random((5, 4, 6))
        flat = read(values)
        assert flat.values.shape == (5, 24)
        assert flat.kind == "array"
        assert "flattened" in flat.notes[0]
        declared = read(values, image_size=(4, 6))
        assert declared.kind == "images"
        assert declared.image_shape == (4, 6)
        assert declared.values.dtype == np.float64
        assert read(values.reshape(5, 24), image_size=(4, 6)).image_shape == (4, 6)
        assert read(np.zeros((5, 72)), image_size=(4, 6)).image_shape == (4, 6, 3)
        refused(np.zeros((5, 71)), "(5, 71)", image_size=(4, 6))
        with pytest.raises(DataError, match="no images"):
            _ = flat.images

    def test_selecting_pixels_gives_columns(self):
        got = read("data:digits", columns=["pixel_3_4", 0])
        assert got.columns == ("pixel_3_4", "pixel_0_0")
        assert got.kind == "array"
        assert got.image_shape is None

    def test_streams(self):
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(torch.as_tensor(VALUES), torch.arange(4)), batch_size=3
        )
        got = read(loader)
        np.testing.assert_array_equal(got.values, VALUES)
        np.testing.assert_array_equal(got.labels, np.arange(4))
        endless = (np.full((2, 3), i) for i in iter(lambda: 1, 0))
        got = read(endless, max_samples=5)
        assert got.values.shape == (5, 3)
        assert "the first 5 rows" in got.notes
        refused(iter([]), "no batches")
        refused(iter([np.ones((2, 3)), np.ones((2, 4))]), "batch 1")
        refused(iter([1.0]), "single number")

    def test_samplers(self):
        def sampler(n):
            return torch.linspace(0, 1, n)[:, None]

        assert read(sampler, max_samples=7).values.shape == (7, 1)
        refused(sampler, "pass max_samples")
        refused(lambda n: "text", "str", max_samples=3)

    def test_a_dataset_is_read_again(self):
        got = read(read("data:iris"), columns=["petal width (cm)"], max_samples=10)
        assert got.values.shape == (10, 1)
        assert got.labels.shape == (10,)

    def test_repr(self):
        assert repr(read(VALUES)) == "Dataset(4 × 3 array from ndarray)"
        assert repr(read("data:digits@1/2")).startswith("Dataset(899 images of 8 × 8 from data:dig")
        assert len(Dataset(VALUES, ("a", "b", "c"))) == 4

    def test_more_than_the_memory_is_refused(self, monkeypatch):
        monkeypatch.setattr(dataset, "available_memory", lambda: 2**10)
        refused(np.zeros((1000, 3)), "GiB of memory and may take", "--max-samples")
        assert len(read(np.zeros((1000, 3)), max_samples=10)) == 10
        monkeypatch.setattr(dataset, "available_memory", lambda: None)
        assert len(read(np.zeros((1000, 3)))) == 1000


FUZZ = settings(max_examples=60, suppress_health_check=list(HealthCheck))
HEADS = {
    ".npy": [
        b"",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3,",
    ],
    ".npz": [b"", b"PK\x03\x04"],
    ".csv": [b"", b"a,b\n1,2\n", b'"'],
    ".tsv": [b""],
    ".pt": [b"", b"PK\x03\x04", b"\x80\x02"],
    ".parquet": [b"", b"PAR1"],
    ".zip": [b"", b"PK\x05\x06" + b"\0" * 18],
}


@pytest.mark.parametrize("suffix", HEADS)
@FUZZ
@given(content=st.data())
def test_random_bytes_are_data_or_one_line_of_error(tmp_path, suffix, content):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content.draw(st.sampled_from(HEADS[suffix])) + content.draw(st.binary()))
    sound_or_refused(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".csv"])
@FUZZ
@given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_files_are_data_or_one_line_of_error(tmp_path, suffix, position, byte, cut):
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, VALUES)
    elif suffix == ".npz":
        np.savez_compressed(path, x=VALUES)
    elif suffix == ".pt":
        torch.save(torch.as_tensor(VALUES), path)
    else:
        np.savetxt(path, VALUES, delimiter=",")
    content = bytearray(path.read_bytes())
    place = int(position * len(content))
    content[place] = byte
    path.write_bytes(content[: place + 1] if cut else content)
    sound_or_refused(path)


@FUZZ
@given(text=st.text(alphabet='0123456789.,;-e"\n\t #aN', max_size=60))
def test_any_text_is_a_table_or_one_line_of_error(tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_text(text, newline="")
    sound_or_refused(path)


def test_names_for_an_array_without_names():
    values = np.arange(6.0).reshape(3, 2)
    assert read(values, columns=["price", "age"]).columns == ("price", "age")
    assert read(values, columns=["column_1"]).columns == ("column_1",)
    with pytest.raises(DataError, match="no column 'age'"):
        read(values, columns=["age"])
    with pytest.raises(DataError, match="twice"):
        read(values, columns=["age", "age"])
