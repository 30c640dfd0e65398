"""Text tables and data frames: headers found, columns chosen, bad cells named by their place."""

import csv
import sys

import numpy as np
import pytest
import torch
from data_checks import VALUES, refused

from probmetrics.data import dataset, read


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
