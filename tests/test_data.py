"""Reading samples: every kind of source comes out as stated, every bad one as one clear line."""

import csv
import pickle
import sys
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probmetrics import data as pmd
from probmetrics.data import DataError, Dataset, dataset, read

VALUES = np.arange(12.0).reshape(4, 3) ** 2


def refused(source, *parts, error=DataError, **options):
    """The reader refuses, in one line that has all the parts."""
    with pytest.raises(error) as caught:
        read(source, **options)
    message = str(caught.value)
    for part in parts:
        assert str(part) in message, message
    assert message.isprintable()
    assert len(message) < 1000
    return message


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
        refused(path, "2 arrays", "'a', 'b'", "key='a'")
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


class TestText:
    def write(self, tmp_path, text, name="x.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", newline="")
        return path

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
    def test_header_and_separators(self, tmp_path, end, separator):
        lines = [separator.join(row) for row in (["age", "höhe"], ["1", "2.5"], ["-3", "4e2"])]
        got = read(self.write(tmp_path, end.join(lines) + end))
        assert got.columns == ("age", "höhe")
        assert got.kind == "table"
        np.testing.assert_array_equal(got.values, [[1, 2.5], [-3, 400]])
        assert got.values.dtype == np.float64

    @pytest.mark.parametrize(
        ("text", "columns", "rows"),
        [
            ("1,2\n3,4\n", ("column_0", "column_1"), 2),  # no header
            ("5\n6\n", ("column_0",), 2),
            ("a\n6\n", ("a",), 1),
            ("x,2019,2020\n1,2,3\n", ("x", "2019", "2020"), 1),  # a number can be a name
            ("\ufeffa,b\n1,2\n", ("a", "b"), 1),
            ("a,b\n\n1,2\n\n\n3,4", ("a", "b"), 2),  # blank lines
            ('"a, b","c ""d"""\n1,2\n', ("a, b", 'c "d"'), 1),
            ("a,,c\n1,2,3\n", ("a", "column_1", "c"), 1),
            ("# a b,c\n1,2\n", ("a b", "c"), 1),
        ],
    )
    def test_layouts(self, tmp_path, text, columns, rows):
        got = read(self.write(tmp_path, text))
        assert got.columns == columns
        assert len(got) == rows

    def test_round_trip_is_exact(self, tmp_path, generator):
        values = torch.randn(10_000, 3, generator=generator, dtype=torch.float64).numpy()
        np.savetxt(tmp_path / "x.csv", values, delimiter=",", fmt="%.17g", header="a,b,c")
        got = read(tmp_path / "x.csv")
        np.testing.assert_array_equal(got.values, values)
        assert got.columns == ("a", "b", "c")
        assert read(tmp_path / "x.csv", max_samples=77).values.shape == (77, 3)

    def test_tsv_keeps_commas(self, tmp_path):
        assert read(self.write(tmp_path, "a,b\tc,d,e\n1\t2\n", "x.tsv")).columns == ("a,b", "c,d,e")

    def test_pandas_index_is_left_out(self, tmp_path):
        pd = pytest.importorskip("pandas")
        pd.DataFrame(VALUES, columns=list("abc")).to_csv(tmp_path / "x.csv")
        got = read(tmp_path / "x.csv")
        assert got.columns == ("a", "b", "c")
        assert "counts the rows" in got.notes[0]
        chosen = read(tmp_path / "x.csv", columns=[0, "b"])
        np.testing.assert_array_equal(chosen.values[:, 0], np.arange(4))
        pd.DataFrame(VALUES, columns=list("abc"), index=[3, 1, 2, 0]).to_csv(tmp_path / "x.csv")
        assert read(tmp_path / "x.csv").values.shape == (4, 4)

    def test_ragged_rows_name_the_line(self, tmp_path):
        path = self.write(tmp_path, "a,b\n1,2\n\n3,4,5\n")
        refused(path, f"{path}, line 4", "3 cells", "first line has 2")

    def test_text_columns_are_named(self, tmp_path):
        path = self.write(tmp_path, "name,age,city,size\nAnn,1,Rome,2\nBob,2,Bonn,3\n")
        refused(path, path, "2 columns not numeric: 'name', 'city'", "line 2", "'Ann'")
        refused(path, "--columns with numeric ones: 'age', 'size'")
        got = read(path, columns=["size", "age"])
        assert got.columns == ("size", "age")
        np.testing.assert_array_equal(got.values, [[2, 1], [3, 2]])
        np.testing.assert_array_equal(read(path, columns="size,1").values, got.values)
        refused(path, "'colour'", "'name', 'age', 'city', 'size'", columns=["colour"])
        refused(path, "no column '4'", columns="4")
        refused(path, "twice", columns="age,1")
        refused(path, "columns is empty", columns=[])
        refused(path, "columns", columns=3.5, error=TypeError)
        refused(path, "whole number", columns=[1.5], error=TypeError)
        refused(self.write(tmp_path, "a;b\n1,5;2\n"), "a decimal comma?")
        refused(self.write(tmp_path, "a,b\nx,y\nz,w\n"), "none is numeric")
        refused(self.write(tmp_path, "a,b\n1_0,2\n3,4\n"), "'1_0'")

    def test_text_far_down_is_found(self, tmp_path):
        lines = ["a,b"] + ["1,2"] * 20_000
        lines[15_000] = "1,oops"
        refused(self.write(tmp_path, "\n".join(lines)), "'b'", "line 15001", "'oops'")

    def test_repeated_names(self, tmp_path):
        path = self.write(tmp_path, "a,b,a\n1,2,3\n")
        assert read(path).columns == ("a", "b", "a")
        refused(path, "2 columns are called 'a'", "number", columns="a")
        np.testing.assert_array_equal(read(path, columns=[2]).values, [[3]])

    @pytest.mark.parametrize("empty", ["", " ", "NA", "n/a", "null", "?"])
    def test_missing_values_are_named(self, tmp_path, empty):
        path = self.write(tmp_path, f"a,b,c\n1,{empty},3\n4,5,6\n{empty},{empty},9\n")
        refused(path, path, "columns 'a', 'b'", "2 lines", "2, 4", "impute")
        np.testing.assert_array_equal(read(path, columns=["c"]).values, [[3], [6], [9]])

    @pytest.mark.parametrize("cell", ["nan", "inf", "-Infinity", "1e999"])
    def test_non_finite_cells_name_line_and_column(self, tmp_path, cell):
        path = self.write(tmp_path, f"a,b\n1,2\n\n3,{cell}\n")
        refused(path, "line 4", "column 'b'", "1 of 2 rows")

    def test_empty_and_foreign_files(self, tmp_path):
        refused(self.write(tmp_path, ""), "empty")
        refused(self.write(tmp_path, "\n  \n"), "empty")
        refused(self.write(tmp_path, "a,b\n"), "a header and no rows")
        path = tmp_path / "x.csv"
        path.write_bytes("a,b\n1,2\né,3\n".encode("latin-1"))
        refused(path, "UTF-8", "0xe9")
        path.write_bytes("a,b\n1,2\n".encode("utf-16"))
        refused(path, "UTF-8")
        path.write_text("a,b\n1," + "2" * (csv.field_size_limit() + 10))
        refused(path, "not a readable table")
        refused(self.write(tmp_path, "a,b\n1,\x1b[31mred\n"), "[31mred")


class TestFrames:
    def test_parquet_and_frames(self, tmp_path):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False], "d": ["x", "y"]})
        frame.to_parquet(tmp_path / "x.parquet")
        for source in (frame, tmp_path / "x.parquet"):
            refused(source, "1 column not numeric: 'd'", "'a', 'b', 'c'")
            got = read(source, columns=["c", "a"])
            refused(source, "numeric ones: 'a', 'b', 'c'", columns=["d", "a"])
            assert got.columns == ("c", "a")
            assert got.kind == "table"
            np.testing.assert_array_equal(got.values, [[1, 1], [0, 2]])
            assert read(source, columns=[1], max_samples=1).values.shape == (1, 1)
        (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing")
        refused(tmp_path / "x.parquet", "damaged or not a .parquet")

    def test_parquet_beyond_memory(self, tmp_path, monkeypatch):
        pd = pytest.importorskip("pandas")
        pd.DataFrame(VALUES, columns=list("abc")).to_parquet(tmp_path / "x.parquet")
        monkeypatch.setattr(dataset, "available_memory", lambda: 100)
        refused(tmp_path / "x.parquet", "GiB of memory")

    def test_missing_values_and_kinds(self):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": [1.0, 2.0, 3.0]})
        refused(frame, "nan at row 1, column 'a'")
        assert read(frame.dropna()).values.shape == (2, 2)
        refused(pd.DataFrame({"t": pd.to_datetime(["2020-01-01"])}), "'t'", "datetime")
        refused(pd.DataFrame({"t": pd.Categorical([1, 2])}), "'t'", "category")
        refused(pd.DataFrame({"z": np.ones(2, dtype=complex)}), "'z'")
        refused(pd.DataFrame({"a": []}, dtype=float), "empty")
        refused(pd.DataFrame(index=[1, 2]), "empty")
        assert read(pd.Series([1.0, 2.0], name="age")).columns == ("age",)
        assert read(pd.DataFrame(VALUES)).columns == ("0", "1", "2")
        arrow = pytest.importorskip("pyarrow").Table.from_pandas(frame.dropna())
        assert read(arrow).columns == ("a", "b")

    def test_frames_of_other_libraries(self):
        """What polars offers: columns, indexing by name, and Series with a dtype."""

        class Series:
            def __init__(self, values, dtype):
                self.values, self.dtype = values, dtype

            def to_numpy(self):
                return np.array(self.values)

        class Frame(dict):
            columns = property(lambda self: list(self))
            to_numpy = None

            def __len__(self):
                return 2

        frame = Frame(a=Series([1, 2], "Int64"), b=Series(["x", "y"], "String"))
        np.testing.assert_array_equal(read(frame, columns=["a"]).values, [[1], [2]])
        refused(frame, "'b'", "String", "numeric ones: 'a'")
        refused(Frame(a=Series([object()] * 2, "Decimal")), "'a'")

    def test_parquet_needs_its_extra(self, tmp_path, monkeypatch):
        (tmp_path / "x.parquet").write_bytes(b"PAR1")
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        refused(tmp_path / "x.parquet", "pip install 'probmetrics[tables]'")


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
        refused(np.zeros((1000, 3)), "GiB of memory", "--max-samples")
        assert len(read(np.zeros((1000, 3)), max_samples=10)) == 10
        monkeypatch.setattr(dataset, "available_memory", lambda: None)
        assert len(read(np.zeros((1000, 3)))) == 1000


def sound_or_refused(path):
    """Whatever is in the file: clean values, or a one-line error that names it; nothing else."""
    message, got = "", None
    try:
        got = read(path)
    except DataError as error:
        message = str(error)
    if got is None:
        assert str(path) in message
        assert message.isprintable()
    else:
        assert got.values.shape == (len(got), len(got.columns))
        assert np.isfinite(got.values).all()


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
