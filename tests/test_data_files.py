"""Array files and paths: read as data only, memory-mapped where possible, errors that name them."""

import pickle
import sys
import zipfile

import numpy as np
import pytest
import torch
from data_checks import VALUES, refused

from probmetrics import data as pmd
from probmetrics.data import DataError, read


class TestArrayFiles:
    @pytest.mark.parametrize("dtype", ["f8", "f4", ">f8", ">f4", "f2", "i8", ">i4", "u1", "?"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_npy_of_every_number_type(self, tmp_path, dtype, order):
        path = tmp_path / "x.npy"
        array = np.array(VALUES, dtype=dtype, order=order)
        np.save(path, array)
        got = read(path)
        np.testing.assert_array_equal(got.values, array.astype(np.float64))
        expected = np.float32 if dtype in ("f4", ">f4", "f2") else np.float64
        assert got.values.dtype == expected
        assert got.values.flags.c_contiguous
        assert got.values.flags.writeable
        assert got.columns == ("column_0", "column_1", "column_2")
        assert got.source == str(path)
        assert got.kind == "array"
        assert got.labels is None

    def test_one_dimension_is_points_on_the_line(self, tmp_path):
        np.save(tmp_path / "x.npy", np.arange(5.0))
        assert read(tmp_path / "x.npy").values.shape == (5, 1)

    def test_subsample_is_seeded_ordered_and_without_replacement(self, tmp_path):
        path = tmp_path / "x.npy"
        np.save(path, np.arange(2000.0).reshape(1000, 2))
        got = read(path, max_samples=100, seed=3)
        assert got.values.shape == (100, 2)
        assert (np.diff(got.values[:, 0]) > 0).all()
        np.testing.assert_array_equal(got.values, read(path, max_samples=100, seed=3).values)
        assert not np.array_equal(got.values, read(path, max_samples=100, seed=4).values)
        assert got.notes == ("100 of 1,000 rows drawn (seed 3)",)
        assert read(path, max_samples=1000).notes == ()

    def test_subsample_reads_only_its_rows(self, tmp_path):
        """A sparse file far beyond the memory is no obstacle when few rows are asked for."""
        path = tmp_path / "big.npy"
        n = 2**31
        shape = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, 64), }}"
        header = shape.encode().ljust(117) + b"\n"
        with path.open("wb") as file:
            file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
            file.truncate(10 + len(header) + n * 64 * 4)
        assert read(path, max_samples=50).values.shape == (50, 64)
        refused(path, "GiB of memory", "--max-samples")

    def test_damaged_npy(self, tmp_path):
        path = tmp_path / "x.npy"
        np.save(path, VALUES)
        whole = path.read_bytes()
        path.write_bytes(whole[:-8])
        refused(path, path, "damaged")
        path.write_bytes(b"hello")
        refused(path, path, "damaged or not a .npy file")
        path.write_bytes(b"")
        refused(path, path, "0 bytes")
        np.save(path, np.empty((0, 3)))
        refused(path, path, "empty")

    def test_objects_are_never_unpickled(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (sys.exit, ("executed",))

        np.save(tmp_path / "x.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
        refused(tmp_path / "x.npy", "pickled Python objects", "np.save")
        np.savez(tmp_path / "x.npz", x=np.array([Bomb()], dtype=object))
        refused(tmp_path / "x.npz", "pickled Python objects")
        torch.save({"x": Bomb()}, tmp_path / "x.pt")
        refused(tmp_path / "x.pt", "could run code")
        (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb()))
        refused(tmp_path / "raw.pt", "raw.pt")
        (tmp_path / "raw.npy").write_bytes(pickle.dumps(Bomb()))
        refused(tmp_path / "raw.npy", "raw.npy")

    @pytest.mark.parametrize(
        ("array", "word"),
        [
            (np.array(["a", "b"]), "text"),
            (np.ones(3, dtype=complex), "complex"),
            (np.array(["2020-01-01"], dtype="M8[D]"), "dates"),
        ],
    )
    def test_other_types_are_refused(self, tmp_path, array, word):
        np.save(tmp_path / "x.npy", array)
        refused(tmp_path / "x.npy", "x.npy", word)

    def test_structured_arrays_have_column_names(self, tmp_path):
        array = np.array([(1, 2.5), (3, 4.5)], dtype=[("age", "i4"), ("height", "f8")])
        np.save(tmp_path / "x.npy", array)
        got = read(tmp_path / "x.npy")
        assert got.columns == ("age", "height")
        np.testing.assert_array_equal(got.values, [[1, 2.5], [3, 4.5]])
        assert read(tmp_path / "x.npy", columns="height").values.shape == (2, 1)

    def test_npz(self, tmp_path):
        path = tmp_path / "x.npz"
        np.savez_compressed(path, VALUES)
        np.testing.assert_array_equal(read(path).values, VALUES)
        np.savez(path, a=VALUES, b=VALUES + 1)
        refused(path, "2 arrays", "'a', 'b'", "key='a' (--key")
        refused(path, "no array called 'c'", "'a', 'b'", key="c")
        np.testing.assert_array_equal(read(path, key="b").values, VALUES + 1)
        path.write_bytes(path.read_bytes()[:100])
        refused(path, "damaged or not a .npz")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
        refused(path, "holds no arrays")

    def test_statistics_archives(self, tmp_path):
        path = tmp_path / "ref.npz"
        np.savez(path, mu=np.zeros(2), sigma=np.eye(2))
        refused(path, "read_statistics")
        mean, covariance = pmd.read_statistics(path)
        np.testing.assert_array_equal(mean, np.zeros(2))
        np.testing.assert_array_equal(covariance, np.eye(2))
        for bad, word in [
            ({"mu": np.zeros(3), "sigma": np.eye(2)}, "(d,) and (d, d)"),
            ({"mu": np.zeros(2), "sigma": -np.eye(2)}, "no covariance"),
            ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2.0], [0.0, 1.0]])}, "not symmetric"),
            ({"mu": np.array([np.nan, 0]), "sigma": np.eye(2)}, "NaN"),
            ({"mu": np.zeros(2)}, "no array called 'sigma'"),
        ]:
            np.savez(path, **bad)
            with pytest.raises(DataError, match=r"ref\.npz") as caught:
                pmd.read_statistics(path)
            assert word in str(caught.value)
        with pytest.raises(DataError, match="no such file"):
            pmd.read_statistics(tmp_path / "nowhere.npz")

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_pt(self, tmp_path, dtype, zipped):
        tensor = torch.as_tensor(VALUES).to(dtype)
        torch.save(tensor, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        got = read(tmp_path / "x.pt", max_samples=3)
        assert got.values.shape == (3, 3)
        np.testing.assert_array_equal(read(tmp_path / "x.pt").values, tensor.double().numpy())

    def test_pt_dictionaries(self, tmp_path):
        path = tmp_path / "x.pt"
        torch.save({"x": torch.ones(3, 2, requires_grad=True), "epoch": 3}, path)
        assert read(path).values.shape == (3, 2)
        torch.save((torch.zeros(5, 2), torch.arange(5)), path)
        refused(path, "2 arrays", "'0', '1'")
        assert read(path, key="1").values.shape == (5, 1)
        for nothing in ({"epoch": 3}, "text", [1, 2]):
            torch.save(nothing, path)
            refused(path, path, "tensor")
        torch.save(torch.eye(3).to_sparse(), path)
        refused(path, "sparse")
        path.write_bytes(path.read_bytes()[:300])
        refused(path, path)

    def test_non_finite_values_are_named(self, tmp_path):
        values = VALUES.copy()
        values[2, 1] = np.nan
        np.save(tmp_path / "x.npy", values)
        refused(tmp_path / "x.npy", "nan at row 2, column 'column_1'", "1 of 4 rows", "impute")
        values[0, 2] = -np.inf
        refused(values, "-inf at row 0, column 'column_2'", "2 of 4 rows")
        huge = np.full((3, 2), 1e308)
        np.testing.assert_array_equal(read(huge).values, huge)

    def test_constant_columns_are_noted(self):
        values = VALUES.copy()
        values[:, 1] = 7
        assert read(values).notes == ("1 constant column",)


class TestPaths:
    def test_missing_file(self, tmp_path):
        np.save(tmp_path / "fake.npy", VALUES)
        refused(tmp_path / "fak.npy", "no such file", "did you mean", "fake.npy")
        refused(str(tmp_path / "a" / "b.npy"), "no such file", "folder", "does not exist either")
        refused("https://example.org/x.npy", "nothing is downloaded")
        refused("x\0y.npy", "no such file")
        refused("x\ny.npy", "no such file")
        refused("x" * 5000 + ".npy", "cannot be read")

    def test_unknown_ending(self, tmp_path):
        path = tmp_path / "x.xlsx"
        path.write_bytes(b"abc")
        refused(path, "'.xlsx'", ".npy, .npz, .pt, .csv, .tsv, .parquet, .zip")
        (tmp_path / "x.png").write_bytes(b"abc")
        refused(tmp_path / "x.png", "folder")
        (tmp_path / "noending").write_bytes(b"abc")
        refused(tmp_path / "noending", "noending")
        refused("/dev/null", "not a regular file")

    def test_files_that_cannot_be_opened(self, tmp_path, monkeypatch):
        np.save(tmp_path / "x.npy", VALUES)
        (tmp_path / "x.csv").write_text("a\n1\n")

        def closed(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.open", closed)
        refused(tmp_path / "x.csv", "x.csv cannot be read: Permission denied")

    def test_upper_case_endings_and_home(self, tmp_path, monkeypatch):
        np.save(tmp_path / "x.npy", VALUES)
        (tmp_path / "x.npy").rename(tmp_path / "X.NPY")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert len(read("~/X.NPY")) == 4
