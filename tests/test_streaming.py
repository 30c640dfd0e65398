"""Data larger than memory: files in one pass, Dask collections over workers, one of them killed."""

import json
import os
import signal

import numpy as np
import pytest

from probmetrics import compare, frechet_distance, sliced_wasserstein, wasserstein_1d
from probmetrics.cli import run
from probmetrics.data import chunks, read
from probmetrics.data.dataset import DataError

OPTIONS = {"permutations": 99, "metrics": ["energy"], "progress": False, "max_samples": 300}


def samples(n=6000, m=5000, d=3):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    y[:, 1] += 0.5
    x[:, 2], y[:, 2] = 1e4 + 100 * x[:, 2], 1e4 + 100 * y[:, 2]
    return x, y


def save(path, values, groups=7):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(values, columns=list("abc")[: values.shape[1]])
    frame.to_parquet(path, row_group_size=max(1, len(values) // groups))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streamed")
    x, y = samples()
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    save(folder / "y.parquet", y)
    (folder / "x").mkdir()
    save(folder / "x" / "0.parquet", x[:2500])
    save(folder / "x" / "1.parquet", x[2500:])
    return folder


def check(result, x, y):
    """What the sketches of all rows say against the rows themselves."""
    whole = result.whole
    assert whole.rows == (len(x), len(y))
    assert whole.frechet == pytest.approx(float(frechet_distance(x, y)), rel=1e-6)
    unit = np.concatenate([x, y]).std(0)
    for column in whole.columns:
        j = "abc".find(column.name) if column.name in "abc" else int(column.name[-1])
        wanted = float(wasserstein_1d(x[:, j], y[:, j])) / unit[j]
        assert column.wasserstein == pytest.approx(wanted, abs=3 * column.wasserstein_error + 1e-9)
        gap = (y[:, j].mean() - x[:, j].mean()) / unit[j]
        assert column.mean_difference == pytest.approx(gap, abs=1e-6)
    assert len(result.pair.x) == 300
    assert result.pair.first.total == len(x)
    assert "All 6,000 + 5,000 rows" in str(result)


@pytest.mark.parametrize(("a", "b"), [("x.npy", "y.npy"), ("x", "y.parquet")])
def test_files_are_streamed_on_request(files, a, b):
    x, y = samples()
    result = compare(files / a, files / b, stream=True, **OPTIONS)
    check(result, x, y)
    assert result.whole.columns[0].name in ("column_1", "b")
    assert a == "x.npy" or result.verdict.different  # tables are scaled, arrays are not
    again = compare(files / a, files / b, stream=True, **OPTIONS)
    assert again.whole == result.whole
    assert again.tests["mmd"].pvalue == result.tests["mmd"].pvalue
    if a == "x.npy":
        usual = float(sliced_wasserstein(x, y, projections=300, generator=0))
        assert result.whole.sliced_wasserstein == pytest.approx(usual, rel=0.5)


def test_large_files_are_streamed_unasked_in_small_chunks(files, monkeypatch, capsys):
    monkeypatch.setattr("probmetrics.report.streaming.STREAM_BYTES", 1000)
    monkeypatch.setattr(chunks, "ROWS", 700)
    x, y = samples()
    check(compare(files / "x.npy", files / "y.npy", **OPTIONS), x, y)
    assert compare(files / "x.npy", files / "y.npy", stream=False, **OPTIONS).whole is None
    assert compare(x, y, **OPTIONS).whole is None
    words = ["compare", str(files / "x"), str(files / "y.parquet"), "--permutations", "19"]
    assert run([*words, "--metrics", "energy", "--max-samples", "200", "--json", "-", "-q"]) == 0
    printed = capsys.readouterr().out
    whole = json.loads(printed[printed.index("{") :])["whole"]
    assert whole["rows"] == [6000, 5000]


def test_columns_by_name_and_bad_files(files, tmp_path):
    pandas = pytest.importorskip("pandas")
    x, y = samples()
    result = compare(files / "x", files / "y.parquet", columns=["c", "b"], stream=True, **OPTIONS)
    assert sorted(c.name for c in result.whole.columns) == ["b", "c"]
    pandas.DataFrame(y[:, ::-1], columns=list("cba")).to_parquet(tmp_path / "turned.parquet")
    turned = compare(files / "x", tmp_path / "turned.parquet", stream=True, **OPTIONS)
    assert turned.whole.frechet == pytest.approx(float(frechet_distance(x, y)), rel=1e-6)
    chosen = compare(
        files / "x.npy", files / "y.npy", columns=[2, "column_1"], stream=True, **OPTIONS
    )
    assert sorted(c.name for c in chosen.whole.columns) == ["column_1", "column_2"]
    wanted = float(frechet_distance(x[:, 1:], y[:, 1:]))
    assert chosen.whole.frechet == pytest.approx(wanted, rel=1e-6)
    y[3000, 1] = np.nan
    save(tmp_path / "bad.parquet", y)
    with pytest.raises(
        DataError, match=r"bad.parquet: rows holds nan at row 144, column 1 .* from row 2,856 on"
    ):
        compare(files / "x", tmp_path / "bad.parquet", stream=True, **OPTIONS)
    pandas.DataFrame({"a": ["u", "v"]}).to_parquet(tmp_path / "text.parquet")
    with pytest.raises(DataError, match="column 'a' holds"):
        compare(files / "x", tmp_path / "text.parquet", stream=True, **OPTIONS)
    with pytest.raises(DataError, match="different columns"):
        compare(files / "x.npy", files / "y.parquet", stream=True, **OPTIONS)
    with pytest.raises(DataError, match="are streamed"):
        compare(x, y, stream=True, **OPTIONS)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="damaged"):
        compare(tmp_path / "broken.parquet", tmp_path / "broken.parquet", stream=True)


def test_files_of_a_folder_that_do_not_fit_together(files, tmp_path):
    pandas = pytest.importorskip("pandas")
    x, _ = samples(n=600)
    whole = pandas.DataFrame(x, columns=list("abc"))
    words = whole.assign(b="u")
    cases = {
        "lacks column 'c', unlike": whole[["a", "b"]],
        "also has column 'd', unlike": whole.assign(d=1.0),
        "column 'b' holds .*not numbers": words,
    }
    for place, (message, other) in enumerate(cases.items()):
        folder = tmp_path / str(place)
        folder.mkdir()
        whole.to_parquet(folder / "0.parquet")
        other.to_parquet(folder / "1.parquet")
        with pytest.raises(DataError, match=f"1.parquet:? {message}"):
            compare(folder, files / "y.parquet", stream=True, **OPTIONS)
    folder = tmp_path / "fine"
    folder.mkdir()
    whole[:0].to_parquet(folder / "0.parquet")  # empty, and in another order, are no errors
    whole[300:][["c", "a", "b"]].to_parquet(folder / "1.parquet")
    whole[:300].assign(a=(10 * x[:300, 0]).astype(int)).to_parquet(folder / "2.parquet")
    x[:300, 0] = (10 * x[:300, 0]).astype(int)
    result = compare(folder, files / "y.parquet", stream=True, **OPTIONS)
    assert result.whole.rows == (600, 5000)
    wanted = float(frechet_distance(x, samples()[1]))
    assert result.whole.frechet == pytest.approx(wanted, rel=1e-6)
    small = compare(folder, files / "y.parquet", **OPTIONS)  # read whole
    assert small.whole is None
    assert len(read(folder)) == 600
    assert read(folder, columns=["b"]).columns == ("b",)
    chosen = tmp_path / "0"
    result = compare(chosen, files / "y.parquet", columns=["a", "b"], stream=True, **OPTIONS)
    assert result.whole.rows == (1200, 5000)


def test_damage_within_a_file_and_nulls(files, tmp_path):
    pandas = pytest.importorskip("pandas")
    parquet = pytest.importorskip("pyarrow.parquet")
    whole = (files / "y.parquet").read_bytes()
    column = parquet.read_metadata(files / "y.parquet").row_group(6).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    bad = whole[:start] + b"\xff" * 40 + whole[start + 40 :]
    (tmp_path / "bad.parquet").write_bytes(bad)
    with pytest.raises(DataError, match=r"bad\.parquet is damaged"):
        compare(files / "x", tmp_path / "bad.parquet", stream=True, **OPTIONS)
    counts = pandas.DataFrame({"a": pandas.array([1, None, 3] * 50, dtype="Int64")})
    counts.to_parquet(tmp_path / "null.parquet")
    with pytest.raises(DataError, match=r"null\.parquet: rows holds nan at row 1, column 0"):
        compare(tmp_path / "null.parquet", tmp_path / "null.parquet", stream=True, **OPTIONS)
    counts[:1].to_parquet(tmp_path / "one.parquet")
    with pytest.raises(DataError, match=r"one\.parquet has 1 rows; at least two"):
        compare(tmp_path / "one.parquet", tmp_path / "one.parquet", stream=True, **OPTIONS)


def killer(block, folder):
    """Kill the worker once, in the middle of the run."""
    mark = os.path.join(folder, "killed")  # noqa: PTH118
    if block.shape[0] and block[0, 0] == 7.25 and not os.path.exists(mark):  # noqa: PTH110
        with open(mark, "w"):  # noqa: PTH123
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return block


def test_dask_survives_a_killed_worker(tmp_path):
    array = pytest.importorskip("dask.array")
    distributed = pytest.importorskip("distributed")
    x, y = samples()
    x[3000, 0] = 7.25
    dask_x, dask_y = (array.from_array(z, chunks=(500, 2)) for z in (x, y))
    plain = compare(dask_x, dask_y, **OPTIONS)
    check(plain, x, y)
    shaky = dask_x.rechunk((500, 3)).map_blocks(killer, str(tmp_path), dtype=x.dtype)
    cluster = distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=None, memory_limit=None
    )
    with cluster, distributed.Client(cluster):
        result = compare(shaky, dask_y.rechunk((500, 3)), **OPTIONS)
    assert (tmp_path / "killed").exists()
    assert result.whole == plain.whole
    assert np.array_equal(result.pair.x, plain.pair.x)


def test_dask_frames_and_bad_collections():
    pandas = pytest.importorskip("pandas")
    frames = pytest.importorskip("dask.dataframe")
    array = pytest.importorskip("dask.array")
    x, y = samples()
    x_frame, y_frame = (
        frames.from_pandas(pandas.DataFrame(z, columns=list("abc")), npartitions=5) for z in (x, y)
    )
    check(compare(x_frame, y_frame[["c", "a", "b"]], **OPTIONS), x, y)
    with pytest.raises(DataError, match="the other must be one too"):
        compare(x_frame, y, **OPTIONS)
    with pytest.raises(DataError, match="both need the same"):
        compare(x_frame, y_frame[["a", "b"]], **OPTIONS)
    with pytest.raises(DataError, match="rows of numbers"):
        compare(array.zeros((2, 2, 2)), array.zeros((2, 2, 2)), **OPTIONS)
    text = frames.from_pandas(pandas.DataFrame({"a": ["u", "v"]}), npartitions=1)
    with pytest.raises(DataError, match="not numbers"):
        compare(text, text, **OPTIONS)


HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "probmetrics":
            raise ModuleNotFoundError("No module named 'probmetrics'")

sys.meta_path.insert(0, Hidden())
"""


def test_a_worker_without_the_package_is_named(tmp_path, monkeypatch):
    array = pytest.importorskip("dask.array")
    distributed = pytest.importorskip("distributed")
    (tmp_path / "hide.py").write_text(HIDE)
    x = array.from_array(samples()[0], chunks=(3000, 3))
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, preload=str(tmp_path / "hide.py")
    )
    with cluster, distributed.Client(cluster):
        with pytest.raises(ValueError, match=r"worker tcp.* could not import.*install probmetrics"):
            compare(x, x, **OPTIONS)
        monkeypatch.setattr("probmetrics.__version__", "0.0.1")
        with pytest.raises(ValueError, match=r"install probmetrics 0\.0\.1 on all"):
            compare(x, x, **OPTIONS)


def test_dask_collections_without_rows_or_in_other_ways_wrong():
    array = pytest.importorskip("dask.array")
    x = array.from_array(samples()[0], chunks=(3000, 3))
    with pytest.raises(DataError, match="x has 0 rows in all its partitions"):
        compare(array.zeros((0, 3)), x, **OPTIONS)
    assert compare(x, x, stream=False, **OPTIONS).whole is None  # gathered, as was asked for
    uneven = x[x[:, 0] > 0.5]  # of unknown length, some of its chunks may be empty
    kept = samples()[0]
    assert compare(uneven, x, **OPTIONS).whole.rows == ((kept[:, 0] > 0.5).sum(), len(kept))


def test_an_import_that_fails_on_a_worker_is_told(monkeypatch):
    array = pytest.importorskip("dask.array")
    from probmetrics.report import dask_engine

    def missing(*_):
        raise ModuleNotFoundError("No module named 'probmetrics'")

    monkeypatch.setattr(dask_engine, "sketch_part", missing)
    x = array.from_array(samples()[0], chunks=(1000, 3))
    with pytest.raises(ValueError, match="install probmetrics"):
        compare(x, x, **OPTIONS)
