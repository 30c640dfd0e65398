"""compare(): what it finds, how it takes its inputs, and that its numbers are the library's."""

import dataclasses
import functools
import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from probmetrics.data import read
from probmetrics.discrepancy import energy_distance, mmd, witness
from probmetrics.gaussian import frechet_distance
from probmetrics.report import Comparison, compare, verdict
from probmetrics.report.differences import holm
from probmetrics.report.floor import noise_floor
from probmetrics.report.metrics import METRICS, choose_metrics
from probmetrics.transport.exact import wasserstein
from probmetrics.transport.line import wasserstein_1d
from probmetrics.transport.sliced import sliced_wasserstein
from probmetrics.twosample import energy_test, mmd_test

quick = functools.partial(compare, permutations=99, progress=False)


def normal(n, d=3, *, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


@pytest.fixture(scope="module")
def shifted():
    return quick(normal(80), normal(70, seed=1, shift=[1.5, 0, 0]))


@pytest.fixture(scope="module")
def equal():
    return quick(normal(80), normal(70, seed=1))


class TestVerdict:
    def test_a_shift_is_found_and_located(self, shifted):
        assert shifted.verdict.different is True
        assert shifted.verdict.pvalue == pytest.approx(0.02)  # 2 × 1/100
        assert shifted.features[0].name == "column_0"
        assert shifted.features[0].shift > 1
        assert "column_0" in str(shifted.verdict)
        assert "A and B differ (p = 0.02, Holm-adjusted over 2 tests)" in str(shifted.verdict)
        assert "higher in B" in str(shifted.verdict)

    def test_equal_distributions_are_not_called_equal(self, equal):
        assert equal.verdict.different is False
        assert "No difference between A and B found at the 5% level" in str(equal.verdict)
        assert "can go unseen" in str(equal.verdict)

    def test_the_detectable_shift_is_about_what_the_test_detects(self):
        x, y = normal(60, 2), normal(60, 2, seed=1)
        quoted = quick(x, y, metrics="energy").verdict.detectable_shift
        found = []
        for seed in range(20):
            a, b = normal(60, 2, seed=100 + seed), normal(60, 2, seed=200 + seed)
            # Holm's first step asks for half the level.
            result = energy_test(a, b + quoted, permutations=199, generator=seed)
            found.append(result.pvalue <= 0.025)
        assert 0.5 <= np.mean(found) <= 1.0
        weaker = [
            energy_test(
                normal(60, 2, seed=300 + s),
                normal(60, 2, seed=400 + s) + quoted / 3,
                permutations=199,
                generator=s,
            ).pvalue
            <= 0.025
            for s in range(20)
        ]
        assert np.mean(weaker) < 0.5

    def test_more_data_detect_smaller_shifts(self):
        few = quick(normal(40), normal(40, seed=1), metrics="energy").verdict.detectable_shift
        many = quick(normal(640), normal(640, seed=1), metrics="energy").verdict.detectable_shift
        assert many == pytest.approx(few / 4, rel=0.6)

    def test_a_difference_in_dependence_alone_names_no_feature(self):
        rng = np.random.default_rng(0)
        cov = np.array([[1.0, 0.95], [0.95, 1.0]])
        x, y = normal(300, 2), rng.multivariate_normal([0, 0], cov, size=300)
        result = quick(x, y, metrics="energy")
        assert result.verdict.different is True
        assert "No single feature stands out" in str(result.verdict)

    def test_too_few_points_are_undecided(self):
        result = quick(normal(2), normal(2, seed=1), metrics="energy")
        assert result.verdict.different is None
        assert str(result.verdict).startswith("Undecided")

    def test_too_few_permutations_are_undecided(self):
        result = quick(normal(30), normal(30, shift=5.0), metrics="energy", permutations=19)
        assert result.verdict.different is None  # 2 × 1/20 > 0.05
        assert quick(normal(30), normal(30, shift=5.0), permutations=39, metrics="energy").verdict

    def test_level_moves_the_threshold(self):
        x, y = normal(30), normal(30, seed=1, shift=2.0)
        assert quick(x, y, metrics="energy", level=0.95).verdict.different is True
        assert quick(x, y, metrics="energy", level=0.99).verdict.different is None  # 0.02 > 0.01

    def test_the_verdict_keeps_its_level(self, monkeypatch):
        monkeypatch.setattr(verdict, "detectable_shift", lambda *arguments: None)  # for speed
        rejected = [
            quick(
                normal(25, 2, seed=s), normal(25, 2, seed=1000 + s), metrics="energy", seed=s
            ).verdict.different
            for s in range(12)
        ]
        assert sum(rejected) <= 3  # Bin(12, 0.05) exceeds 3 with probability 0.002


def test_holm_agrees_with_its_definition():
    rng = np.random.default_rng(0)
    for size in (1, 2, 7):
        p = rng.uniform(size=size) ** 2
        order = np.argsort(p)
        want = np.empty(size)
        for rank, i in enumerate(order):
            want[i] = max(min(1.0, (size - k) * p[j]) for k, j in enumerate(order) if k <= rank)
        np.testing.assert_allclose(holm(list(p)), want)


class TestNumbers:
    """The report computes nothing of its own: its numbers are those of the public functions."""

    def test_distances(self, shifted):
        x, y = normal(80), normal(70, seed=1, shift=[1.5, 0, 0])
        got = {m.metric.name: m.value for m in shifted.measurements}
        want = {
            "mmd": mmd(x, y),
            "energy": energy_distance(x, y),
            "sliced_wasserstein": sliced_wasserstein(x, y, generator=0),
            "wasserstein": wasserstein(x, y),
            "frechet": frechet_distance(x, y),
        }
        assert got == pytest.approx(want)

    def test_intervals_are_about_the_same_values(self, shifted):
        for m in shifted.measurements:
            assert m.interval.value == pytest.approx(m.value, rel=1e-9)
            assert m.interval.low <= m.value <= m.interval.high
            assert m.interval.level == 0.95

    def test_tests(self, shifted):
        x, y = normal(80), normal(70, seed=1, shift=[1.5, 0, 0])
        options = {"permutations": 99, "generator": 0}
        assert shifted.tests["mmd"].pvalue == mmd_test(x, y, **options).pvalue
        want = energy_test(x, y, **options)
        assert shifted.tests["energy"].statistic == pytest.approx(want.statistic)
        np.testing.assert_allclose(
            shifted.tests["energy"].null_distribution, want.null_distribution
        )

    def test_features(self, shifted):
        x, y = normal(80), normal(70, seed=1, shift=[1.5, 0, 0])
        for feature in shifted.features:
            a, b = x[:, feature.index], y[:, feature.index]
            sd = np.concatenate([a, b]).std(ddof=1)
            test = scipy.stats.ks_2samp(a, b)
            assert feature.kolmogorov == pytest.approx(test.statistic)
            assert feature.pvalue == pytest.approx(test.pvalue)
            assert feature.wasserstein == pytest.approx(scipy.stats.wasserstein_distance(a, b) / sd)
            assert feature.shift == pytest.approx((b.mean() - a.mean()) / sd)
            assert feature.means == pytest.approx((a.mean(), b.mean()))
            assert feature.deviations == pytest.approx((a.std(ddof=1), b.std(ddof=1)))
        adjusted = holm([f.pvalue for f in shifted.features])
        assert [f.adjusted_pvalue for f in shifted.features] == pytest.approx(adjusted)

    def test_witness_is_centred_and_its_means_lie_mmd_apart(self, shifted):
        x, y = normal(80), normal(70, seed=1, shift=[1.5, 0, 0])
        at_x, at_y = shifted.witness
        biased = mmd(x, y, unbiased=False)
        assert at_x.mean() == pytest.approx(biased / 2)
        assert at_y.mean() == pytest.approx(-biased / 2)
        np.testing.assert_allclose(np.diff(at_x), np.diff(witness(x, y, x)), atol=1e-12)

    def test_rows_are_the_extremes_of_the_witness(self, shifted):
        at_x, at_y = shifted.witness
        first = [row for row in shifted.rows if row.side == 0]
        second = [row for row in shifted.rows if row.side == 1]
        assert first[0].row == at_x.argmax()
        assert second[0].row == at_y.argmin()
        assert [r.witness for r in first] == sorted((r.witness for r in first), reverse=True)

    def test_one_column_uses_the_line(self):
        x, y = normal(50, 1), normal(40, 1, seed=1, shift=0.5)
        result = quick(x[:, 0], y[:, 0])
        got = {m.metric.name: m.value for m in result.measurements}
        assert set(got) == {"mmd", "energy", "wasserstein_1d", "frechet"}
        assert got["wasserstein_1d"] == pytest.approx(wasserstein_1d(x[:, 0], y[:, 0]))
        assert got["energy"] == pytest.approx(energy_distance(x, y))


class TestNoiseFloor:
    def test_equal_distributions_lie_on_the_floor(self):
        floors = [
            noise_floor(
                energy_distance,
                torch.from_numpy(normal(200, seed=s)),
                torch.from_numpy(normal(300, seed=100 + s)),
                minimum=1,
                limit=None,
                generator=torch.Generator().manual_seed(s),
                splits=5,
            )
            for s in range(20)
        ]
        assert floors[0].sizes == (100, 100)
        mean = np.mean([floor.mean for floor in floors])
        assert np.mean([floor.matched_mean for floor in floors]) == pytest.approx(mean, rel=0.15)
        assert 0.35 < np.mean([floor.share_above for floor in floors]) < 0.65

    def test_a_difference_stands_above_it_at_equal_size(self, shifted):
        for m in shifted.measurements:
            assert m.floor.matched_mean > m.floor.upper
            assert m.floor.share_above > 0.95

    def test_halves_are_disjoint_and_as_large_as_they_say(self):
        seen = []

        def record(a, b):
            seen.append((a[:, 0].tolist(), b[:, 0].tolist()))
            return torch.tensor(0.0)

        x = torch.arange(11.0).unsqueeze(-1)
        y = torch.arange(100.0, 104.0).unsqueeze(-1)
        floor = noise_floor(
            record,
            x,
            y,
            minimum=1,
            limit=None,
            generator=torch.Generator().manual_seed(0),
            splits=3,
        )
        assert floor.sizes == (5, 4)  # no more than B can match
        for (half, other), (again, of_y) in zip(seen[::2], seen[1::2], strict=True):
            assert len(half) == 5
            assert len(other) == len(of_y) == 4
            assert not set(half) & set(other)
            assert again == half
            assert set(of_y) <= set(y[:, 0].tolist())

    def test_none_where_halves_are_too_small(self):
        result = quick(normal(3), normal(9, seed=1), metrics="mmd,energy")
        assert result.measurements[0].floor is None
        assert any("too few points to be halved" in n for n in result.measurements[0].notes)
        assert result.measurements[1].floor is not None


class TestInputs:
    def test_any_kind_of_array_gives_the_same(self, shifted):
        x, y = normal(80), normal(70, seed=1, shift=[1.5, 0, 0])
        for kind in (torch.from_numpy, lambda v: v.tolist(), lambda v: read(v)):
            result = quick(kind(x), kind(y), metrics="energy")
            want = next(m for m in shifted.measurements if m.metric.name == "energy")
            assert result.measurements[0].value == pytest.approx(want.value)

    def test_integers_are_converted(self):
        result = quick(np.arange(20), np.arange(30), metrics="energy")
        assert np.isfinite(result.measurements[0].value)

    def test_float32_at_a_large_offset(self):
        x, y = normal(60), normal(60, seed=1, shift=1.0)
        near = quick(x, y, metrics="energy,mmd")
        far = quick(
            (x + 1e4).astype(np.float32), (y + 1e4).astype(np.float32), metrics="energy,mmd"
        )
        for a, b in zip(near.measurements, far.measurements, strict=True):
            assert b.value == pytest.approx(a.value, rel=2e-2)

    def test_tables_are_scaled_and_arrays_are_not(self):
        x, y = normal(50) * [1, 100, 1], normal(50, seed=1) * [1, 100, 1]
        table = quick(pd.DataFrame(x, columns=list("abc")), pd.DataFrame(y, columns=list("abc")))
        plain = quick(x, y, metrics="energy")
        assert table.pair.scaled
        assert not plain.pair.scaled
        sd = np.concatenate([x, y]).std(axis=0, ddof=1)
        want = energy_distance(x / sd, y / sd)
        assert quick(x, y, metrics="energy", scale=True).measurements[0].value == pytest.approx(
            want
        )
        assert table.measurements[1].value == pytest.approx(want)
        assert any("divided by their standard deviation" in note for note in table.notes)
        assert any("pass scale=True" in note for note in plain.notes)

    def test_scaling_ignores_constant_columns_even_at_an_offset(self):
        x, y = normal(30), normal(30, seed=1)
        x[:, 1] = y[:, 1] = 1e8 + 0.1
        result = quick(x, y, scale=True, metrics="energy")
        sd = np.concatenate([x, y])[:, [0, 2]].std(axis=0, ddof=1)
        want = energy_distance(x[:, [0, 2]] / sd, y[:, [0, 2]] / sd)
        assert result.measurements[0].value == pytest.approx(want)
        assert result.features[-1].wasserstein == 0

    def test_tables_are_aligned_by_name(self):
        x = pd.DataFrame(normal(40), columns=["a", "b", "c"])
        y = pd.DataFrame(normal(40, seed=1), columns=["a", "b", "c"])
        mixed = quick(x, y[["c", "a", "b"]], metrics="energy")
        straight = quick(x, y, metrics="energy")
        assert mixed.measurements[0].value == straight.measurements[0].value
        assert any("put in the order of A" in note for note in mixed.notes)

    def test_columns_are_chosen_on_both_sides(self):
        x = pd.DataFrame(normal(40), columns=["a", "b", "c"])
        result = quick(x, x + 1, columns="c,a", metrics="energy")
        assert result.pair.columns == ("c", "a")

    def test_different_columns_are_refused_by_name(self):
        x = pd.DataFrame(normal(10), columns=["a", "b", "c"])
        y = pd.DataFrame(normal(10), columns=["a", "b", "age"])
        with pytest.raises(ValueError, match=r"only in A .*'c'; only in B .*'age'"):
            quick(x, y)
        assert quick(x, y, columns=["a", "b"], metrics="energy").pair.columns == ("a", "b")

    def test_an_array_borrows_the_names_of_a_table(self):
        x = pd.DataFrame(normal(20), columns=["a", "b", "c"])
        assert quick(x, normal(20, seed=1), metrics="energy").pair.columns == ("a", "b", "c")
        assert quick(normal(20), x, metrics="energy").pair.columns == ("a", "b", "c")

    def test_subsampling_is_noted_and_rows_are_those_of_the_source(self, tmp_path):
        x = normal(300)
        x[217] += 50.0
        np.save(tmp_path / "x.npy", x)
        for source in (x, tmp_path / "x.npy"):
            for seed in range(40):
                result = quick(
                    source, normal(50, seed=1), max_samples=100, seed=seed, metrics="energy"
                )
                assert any("100 of 300 rows drawn" in note for note in result.notes)
                assert result.pair.first.total == 300
                kept = result.pair.first.rows
                np.testing.assert_array_equal(result.pair.first.data.values, x[kept])
                if 217 in kept:
                    break
            assert result.features  # reached a draw that holds the outlier

    def test_toys_are_drawn_independently(self):
        result = quick("data:ring:60", "data:ring:60", metrics="energy")
        assert result.measurements[0].value > 0

    def test_copies_are_noted(self):
        x = normal(30)
        result = quick(x, np.concatenate([x[:5], normal(25, seed=1)]), metrics="energy")
        assert any("5 of 30 rows of B occur in A too" in note for note in result.notes)

    def test_equal_samples(self):
        result = quick(normal(30), normal(30))
        assert result.verdict.different is False
        assert result.verdict.pvalue == 1.0

    def test_constant_samples(self):
        result = quick(np.ones((20, 2)), np.ones((30, 2)))
        assert result.verdict.different is False
        assert result.verdict.detectable_shift is None
        assert [m.value for m in result.measurements] == pytest.approx([0] * 5, abs=1e-12)

    def test_one_constant_sample_has_distances_but_no_intervals(self):
        result = quick(np.ones((20, 2)), normal(30, 2))
        assert result.verdict.different is True
        for m in result.measurements:
            assert m.value > 0
            assert m.interval is None
            assert "no interval" in m.notes[0]

    def test_more_columns_than_rows(self):
        result = quick(normal(8, 40), normal(9, 40, seed=1, shift=3.0))
        assert result.verdict.different is True
        assert len(result.figures) > 0

    def test_images_share_a_unit(self):
        images = np.zeros((20, 4, 4), dtype=np.uint8)
        images[:, 1:3, 1:3] = np.random.default_rng(0).integers(0, 255, size=(20, 2, 2))
        shares = images[::-1].astype(np.float32) / 255
        result = quick(images, shares, metrics="energy", image_size=4)
        assert result.pair.image_shape == (4, 4)
        assert not result.pair.scaled
        assert any("same unit?" in note for note in result.notes)

    @pytest.mark.parametrize(
        ("x", "y", "options", "message"),
        [
            (normal(1), normal(9), {}, r"A \(ndarray\) has 1 row; at least 2"),
            (normal(9), normal(9, 2), {}, "has 3 columns and B .* has 2"),
            ([[1.0, np.nan], [0.0, 1.0]], normal(9, 2), {}, "nan at row 0"),
            (normal(9), normal(9), {"metrics": "isc"}, "unknown metric 'isc'; known: mmd, energy"),
            (normal(9), normal(9), {"metrics": []}, "metrics is empty"),
            (normal(9), normal(9), {"metrics": "wasserstein_1d"}, "samples of one column"),
            (normal(9), normal(9), {"level": 1.0}, "level must lie strictly between"),
            (normal(9), normal(9), {"permutations": 0}, "permutations must be at least 1"),
            (normal(9), normal(9), {"max_samples": 1}, "max_samples must be at least 2"),
            (normal(9), normal(9), {"seed": -1}, "seed must be at least 0"),
            (normal(9), normal(9), {"names": ("A", "A")}, "different names"),
            (normal(9), normal(9), {"names": "AB"}, "two names"),
            (normal(9), normal(9) + 1e300, {}, "squares overflow float64"),
            (normal(9).astype("f4"), np.full((9, 3), 1e30, "f4"), {}, "overflow float32"),
            ("data:digits", np.zeros((5, 4, 4), np.uint8), {}, "images of 8 × 8 and B .* 4 × 4"),
        ],
    )
    def test_bad_input(self, x, y, options, message):
        with pytest.raises(ValueError, match=message) as error:
            quick(x, y, **options)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("train", [None, normal(9)], ids=["no training set", "training set"])
    def test_nothing_is_no_sample(self, train):
        for x, y in ((None, normal(9)), (normal(9), None)):
            with pytest.raises(TypeError, match="got NoneType; wanted a path"):
                quick(x, y, train=train)

    def test_metrics_are_names(self):
        unchecked = getattr(choose_metrics, "__wrapped__", choose_metrics)  # as users have it
        with pytest.raises(TypeError, match="metrics must be names"):
            unchecked(3)

    def test_what_cannot_fit_is_refused(self, monkeypatch):
        from probmetrics.data import dataset

        monkeypatch.setattr(dataset, "available_memory", lambda: 10_000)
        with pytest.raises(ValueError, match=r"GiB of memory .*--max-samples"):
            quick(normal(90), normal(90))


class TestLimits:
    def test_the_linear_programme_sees_a_subsample_and_says_so(self, monkeypatch):
        small = dataclasses.replace(METRICS["wasserstein"], limit=20)
        monkeypatch.setitem(METRICS, "wasserstein", small)
        result = quick(normal(50), normal(15, seed=1), metrics="wasserstein")
        measured = result.measurements[0]
        assert measured.sizes == (20, 15)
        assert measured.floor.sizes == (10, 10)
        assert measured.notes == ("on 20 of 50 points of A, at random",)

    def test_a_metric_names_the_minimum_it_needs(self, monkeypatch):
        picky = dataclasses.replace(METRICS["frechet"], minimum=9)
        monkeypatch.setitem(METRICS, "frechet", picky)
        with pytest.raises(ValueError, match="frechet needs at least 9 points and B has 8"):
            quick(normal(9), normal(8), metrics="frechet")

    def test_an_interval_that_cannot_be_had_is_explained(self, monkeypatch):
        def refuse(*arguments, **options):
            raise ValueError("too few points")

        monkeypatch.setattr("probmetrics.uncertainty.estimate", refuse)
        measured = quick(normal(9), normal(8, seed=1), metrics="energy").measurements[0]
        assert measured.interval is None
        assert "no interval: too few points" in measured.notes

    def test_metrics_by_name(self):
        assert [m.name for m in choose_metrics("energy, mmd,energy")] == ["energy", "mmd"]
        assert [m.name for m in choose_metrics(["frechet"])] == ["frechet"]


class TestRepeatability:
    def test_one_seed_one_answer(self, shifted):
        again = quick(normal(80), normal(70, seed=1, shift=[1.5, 0, 0]))
        first, second = shifted.to_dict(), again.to_dict()
        first["provenance"].pop("created")
        second["provenance"].pop("created")
        assert first == second

    def test_the_global_random_state_is_left_alone(self):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        quick(normal(20), normal(20, seed=1))
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


class TestJson:
    def test_the_documented_keys(self, shifted):
        document = json.loads(json.dumps(shifted.to_dict(), allow_nan=False))
        assert document["schema"] == "probmetrics.comparison/1"
        assert set(document) == {
            "schema", "verdict", "samples", "columns", "scaled", "metrics", "tests", "features",
            "rows", "memorisation", "classes", "covered", "whole", "notes", "provenance",
        }  # fmt: skip
        assert set(document["verdict"]) == {
            "different", "pvalue", "adjusted", "level", "detectable_shift", "sentence",
        }  # fmt: skip
        assert document["verdict"]["level"] == 0.05
        assert set(document["metrics"]["mmd"]) == {
            "value", "interval", "noise_floor", "extrapolation", "sizes", "notes",
        }  # fmt: skip
        assert set(document["metrics"]["mmd"]["interval"]) == {
            "value", "low", "high", "standard_error", "bias", "method", "level",
        }  # fmt: skip
        assert set(document["metrics"]["mmd"]["noise_floor"]) == {
            "mean", "upper", "lower", "matched_mean", "share_above", "sizes", "splits",
        }  # fmt: skip
        assert set(document["features"][0]) == {
            "name", "index", "wasserstein", "shift", "kolmogorov", "pvalue", "adjusted_pvalue",
            "means", "deviations",
        }  # fmt: skip
        assert set(document["rows"][0]) == {"side", "position", "row", "witness", "label"}
        assert document["rows"][0]["side"] == "A"
        assert document["tests"]["mmd"]["adjusted_pvalue"] == 0.02
        assert len(document["tests"]["mmd"]["null_distribution"]) == 99
        assert document["samples"][0]["rows"] == 80

    def test_every_documented_key_exists_and_the_reverse(self, shifted):
        from pathlib import Path

        text = (Path(__file__).parent.parent / "docs" / "json.md").read_text()
        document = shifted.to_dict()
        parts = [document, document["samples"][0], document["features"][0], document["rows"][0]]
        parts += [document[key] for key in ("verdict", "provenance")]
        parts += [document["tests"]["mmd"], document["metrics"]["mmd"]["interval"]]
        for key in {key for part in parts for key in part}:
            assert f"`{key}`" in text or f".{key}`" in text, key

    def test_written_file(self, shifted, tmp_path):
        shifted.to_json(tmp_path / "out.json")
        written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
        assert written == shifted.to_dict()
        assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_print_shows_the_answer(shifted):
    assert isinstance(shifted, Comparison)
    shown = repr(shifted)
    assert shown.startswith("A and B differ")
    for part in ("MMD²", "energy distance", "95% interval", "floor", "column_0", "p-value"):
        assert part in shown
    assert shifted.table in shown
    assert max(len(line) for line in shifted.table.splitlines()) <= 96
