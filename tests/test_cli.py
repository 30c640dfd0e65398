"""The command line: what it prints, writes and answers, and how it fails."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from probmetrics import cli


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with samples, as the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("a.npy", rng.normal(size=(60, 2)))
    np.save("b.npy", rng.normal(size=(50, 2)))
    np.save("far.npy", rng.normal(size=(50, 2)) + 3)
    return tmp_path


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command, in this process."""
    capsys.readouterr()
    code = cli.run(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def compare(capsys, *arguments):
    return run(capsys, "compare", "--permutations", "99", "--metrics", "energy", *arguments)


def refused(capsys, *arguments):
    """The one line that bad input gives."""
    code, out, error = compare(capsys, *arguments)
    assert code == 2, error
    assert out == ""
    assert error.startswith("probmetrics: ")
    assert error.count("\n") == 1
    assert error.endswith("\n")
    return error


class TestAnswers:
    def test_a_difference(self, capsys, files):
        code, out, error = compare(capsys, "a.npy", "far.npy")
        assert (code, error) == (0, "")
        assert out.startswith("A and B differ (p = 0.02, Holm-adjusted over 2 tests).")
        for part in (
            "Samples",
            "Distances",
            "energy distance",
            "95% interval",
            "floor",
            "column_0",
        ):
            assert part in out

    def test_no_difference_is_also_exit_code_0(self, capsys, files):
        code, out, _ = compare(capsys, "a.npy", "b.npy")
        assert code == 0
        assert out.startswith("No difference between A and B found")

    def test_quiet_prints_the_verdict_alone(self, capsys, files):
        code, out, error = compare(capsys, "a.npy", "far.npy", "--quiet")
        assert (code, error) == (0, "")
        assert out.count("\n") == 1

    def test_embedded_sets(self, capsys, files):
        code, out, _ = compare(capsys, "data:wine@1/2", "data:wine@2/2", "-q")
        assert code == 0
        assert out.startswith("No difference")

    def test_options_reach_the_comparison(self, capsys, files):
        code, _, _ = compare(
            capsys, "a.npy", "far.npy", "--columns", "1", "--max-samples", "40", "--level", "0.9",
            "--seed", "7", "--scale", "--json", "o.json", "-q",
        )  # fmt: skip
        assert code == 0
        document = json.loads((files / "o.json").read_text())
        assert document["columns"] == ["column_1"]
        assert document["samples"][0]["rows_compared"] == 40
        assert document["scaled"] is True
        assert document["provenance"]["seed"] == 7
        assert document["provenance"]["level"] == 0.9
        assert document["verdict"]["level"] == 0.1
        assert document["tests"]["mmd"]["permutations"] == 99
        assert document["provenance"]["command"].startswith("probmetrics")

    def test_json_on_standard_output_is_nothing_but_json(self, capsys, files):
        code, out, _ = compare(capsys, "a.npy", "b.npy", "--json", "-")
        assert code == 0
        assert json.loads(out)["schema"] == "probmetrics.comparison/1"

    def test_html(self, capsys, files):
        code, out, _ = compare(capsys, "a.npy", "b.npy", "--html", "r.html")
        assert code == 0
        assert "written: r.html" in out
        assert (files / "r.html").read_text().startswith("<!DOCTYPE html>")
        assert sorted(p.name for p in files.iterdir()) == ["a.npy", "b.npy", "far.npy", "r.html"]

    def test_names_from_a_file_are_no_markup(self, capsys, files):
        rows = np.random.default_rng(0).normal(size=(20, 2))
        for name in ("x.csv", "y.csv"):
            body = "\n".join(",".join(map(str, row)) for row in rows + (name == "y.csv") * 5)
            (files / name).write_text(f"[red]heat[/red],\x1b[31mesc\n{body}\n")
        code, out, _ = compare(capsys, "x.csv", "y.csv")
        assert code == 0
        assert "[red]heat[/red]" in out
        assert "\x1b" not in out

    def test_version(self, capsys):
        code, out, _ = run(capsys, "--version")
        assert code == 0
        assert re.fullmatch(r"probmetrics \d+\.\d+\.\d+\S*\n", out)

    def test_help(self, capsys):
        assert run(capsys)[0] == 0
        code, out, _ = run(capsys, "compare", "--help")
        assert code == 0
        for option in ("--columns", "--max-samples", "--metrics", "--permutations", "--level",
                       "--seed", "--html", "--json", "--quiet", "--scale"):  # fmt: skip
            assert option in out


class TestBadInput:
    def test_missing_file(self, capsys, files):
        assert "no such file" in refused(capsys, "a.npz", "b.npy")

    def test_unknown_metric(self, capsys, files):
        code, _, error = run(capsys, "compare", "a.npy", "b.npy", "--metrics", "isc")
        assert code == 2
        assert "unknown metric 'isc'; known: mmd, energy, sliced_wasserstein" in error

    def test_one_row(self, capsys, files):
        np.save("one.npy", np.zeros((1, 2)))
        assert "has 1 row" in refused(capsys, "one.npy", "b.npy")

    def test_nan_names_its_row(self, capsys, files):
        values = np.zeros((9, 2))
        values[4, 1] = np.nan
        np.save("nan.npy", values)
        assert "nan at row 4" in refused(capsys, "nan.npy", "b.npy")

    def test_other_columns(self, capsys, files):
        np.save("three.npy", np.zeros((9, 3)))
        assert "has 3 columns and B" in refused(capsys, "three.npy", "b.npy")

    def test_text_in_a_column_is_named(self, capsys, files):
        (files / "t.csv").write_text("age,city\n1,Rome\n2,Oslo\n")
        error = refused(capsys, "t.csv", "t.csv")
        assert "city" in error
        assert "Rome" in error

    def test_pickles_are_refused_unopened(self, capsys, files):
        np.save("p.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
        assert "p.npy" in refused(capsys, "p.npy", "b.npy")

    @pytest.mark.parametrize(
        ("content", "name"),
        [(b"", "x.csv"), (b"\x93NUMPY junk", "x.npy"), (b"1,2\n3\n", "x.csv"), (b"PK", "x.npz")],
    )
    def test_damaged_files(self, capsys, files, content, name):
        (files / name).write_bytes(content)
        assert name in refused(capsys, name, "b.npy")

    def test_line_breaks_in_names_stay_out_of_the_message(self, capsys, files):
        (files / "two\nlines.csv").write_text("a,b\n1,x\n")
        refused(capsys, "two\nlines.csv", "b.npy")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["a.npy"],
            ["a.npy", "b.npy", "--frobnicate"],
            ["a.npy", "b.npy", "--level", "high"],
            ["a.npy", "b.npy", "--level", "95"],
            ["a.npy", "b.npy", "--permutations", "0"],
            ["a.npy", "b.npy", "--max-samples", "1"],
            ["a.npy", "b.npy", "--columns", "age"],
            ["a.npy", "b.npy", "--columns", ""],
            ["a.npy", "b.npy", "--html", "no/such/folder.html"],
            ["a.npy", "b.npy", "--json", "."],
        ],
    )
    def test_options(self, capsys, files, arguments):
        refused(capsys, *arguments)

    def test_an_unknown_command(self, capsys):
        code, _, error = run(capsys, "confuse")
        assert code == 2
        assert error.count("\n") == 1

    def test_an_output_that_cannot_be_written_fails_before_the_work(
        self, capsys, files, monkeypatch
    ):
        monkeypatch.setattr("probmetrics.report.compare", lambda *a, **k: pytest.fail("worked"))
        refused(capsys, "a.npy", "b.npy", "--html", "no/x.html")

    def test_memory_that_runs_out(self, capsys, files, monkeypatch):
        def full(*arguments, **options):
            raise MemoryError("Unable to allocate 10 GiB")

        monkeypatch.setattr("probmetrics.report.compare", full)
        assert "Unable to allocate" in refused(capsys, "a.npy", "b.npy")

    def test_a_bug_of_ours_is_not_hidden(self, files, monkeypatch):
        def broken(*arguments, **options):
            raise ZeroDivisionError

        monkeypatch.setattr("probmetrics.report.compare", broken)
        with pytest.raises(ZeroDivisionError):
            cli.run(["compare", "a.npy", "b.npy"])


# The signal comes while the page is drawn: all is computed and nothing written yet.
INTERRUPT = """
import os, signal, sys
from probmetrics import cli
from probmetrics.report import page
page._picture = lambda *a, **k: os.kill(os.getpid(), signal.SIGINT)
cli.main(["compare", "a.npy", "b.npy", "--metrics", "energy", "--permutations", "99",
          "--html", "r.html", "--json", "o.json"])
"""


class TestProcess:
    """What only a process of its own can show."""

    def python(self, *arguments, **options):
        environment = {**os.environ, "OMP_NUM_THREADS": "2"}
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
            check=False,
            **options,
        )

    def test_ctrl_c(self, files):
        done = self.python("-c", INTERRUPT)
        assert done.returncode == 130
        assert "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("probmetrics: interrupted")
        assert sorted(p.name for p in files.iterdir()) == ["a.npy", "b.npy", "far.npy"]

    def test_exit_codes_and_streams(self, files):
        done = self.python("-m", "probmetrics", "compare", "a.npy", "nowhere.npy")
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("probmetrics: no such file")

    def test_the_module_itself_imports_nothing_heavy(self):
        code = (
            "import sys; before = set(sys.modules); import probmetrics; base = set(sys.modules); "
            "import probmetrics.cli; new = set(sys.modules) - base; "
            "heavy = {'matplotlib', 'pandas', 'sklearn', 'jinja2', 'probmetrics.report', 'ot'}; "
            "print(sorted(heavy & new))"
        )
        assert self.python("-c", code).stdout.strip() == "[]"


def test_demo(capsys, files, monkeypatch):
    from probmetrics.report import demo

    real = demo.compare
    monkeypatch.setattr(demo, "compare", lambda *a, **k: real(*a, **k, metrics="mmd"))
    code, out, _ = run(capsys, "demo", "--out", "pages/new", "-q")
    assert code == 0
    first, second = out.split("2. Real digits")
    assert "No difference between real and other real found" in first
    assert "real and generator differ" in second
    for name in ("real-against-real.html", "real-against-generator.html"):
        page = files / "pages" / "new" / name
        assert str(page.relative_to(files)) in out
        assert page.read_text().count("<img") >= 12
