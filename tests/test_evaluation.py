"""Evaluating a model from end to end: inputs, memorisation, ranking, statistics, bad input."""

import functools
import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_report import Page

from probmetrics import cli, energy_distance, frechet_distance, metrics
from probmetrics.data import DataError, open_images, read, read_statistics
from probmetrics.encoders import FunctionEncoder, SentenceEncoder, extract
from probmetrics.encoders.preprocess import pixels
from probmetrics.metrics import authenticity
from probmetrics.report import compare, rank_models
from probmetrics.report.page import as_html
from probmetrics.uncertainty import estimate

quick = functools.partial(compare, permutations=49, progress=False)


@pytest.mark.parametrize("reader", [read, open_images, read_statistics, extract])
@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_not_the_current_folder(reader, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.ones((3, 2)))
    with pytest.raises(DataError, match="the path is empty"):
        reader(path)


def normal(n, seed, shift=0.0, d=4):
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


class TestMemorisation:
    def test_copies_are_caught_and_fresh_samples_are_not(self):
        train, real, fresh = normal(300, 0), normal(200, 1), normal(150, 2)
        copied = quick(real, train[:150] + 1e-4, train=train, metrics="frechet").copying
        assert copied.copies and copied.closer and copied.pvalue < 1e-6  # noqa: PT018
        assert "copies its training set: 100%" in copied.sentence
        assert [s.train_row for s in copied.suspects] == [s.row for s in copied.suspects]
        assert all(a.ratio <= b.ratio for a, b in pairwise(copied.suspects))
        honest = quick(real, fresh, train=train, metrics="frechet").copying
        assert not honest.copies and not honest.closer  # noqa: PT018
        assert honest.sentence.startswith("There is no sign")
        scores = {s.name: s for s in honest.scores}
        assert scores["authenticity"].value == authenticity(fresh, train)
        assert scores["authenticity"].unseen == authenticity(real, train)
        assert scores["authenticity"].low < scores["authenticity"].value
        assert {"exact_copies", "near_copies", "repeats", "nearest_training_ratio"} < set(scores)
        assert abs(scores["copying_score"].value) < 4

    def test_tables_are_scaled_alike_and_columns_found_by_name(self):
        units = np.array([1.0, 1e4, 1e-3, 1.0])
        names = list("abcd")
        train, real = normal(200, 0) * units, normal(100, 1) * units
        copies = pd.DataFrame(train[:80], columns=names)[names[::-1]]
        frames = pd.DataFrame(real, columns=names), copies, pd.DataFrame(train, columns=names)
        result = quick(*frames[:2], train=frames[2], metrics="frechet")
        assert result.copying.copies
        assert result.pair.scaled
        assert result.copying.suspects[0].distance < 1e-9

    def test_rows_that_were_trained_on_are_not_unseen(self):
        train = normal(100, 0)
        half = quick(np.r_[train[:50], normal(50, 1)], train[50:], train=train, metrics="frechet")
        assert any("50 of 100 rows of A stand in the training set" in note for note in half.notes)
        assert half.copying.copies
        none = quick(train, normal(60, 2), train=train, metrics="frechet")
        assert none.copying.pvalue is None
        assert not none.copying.copies
        assert "copying" in none.figures


class TestHonestModelsAreNotAccused:
    def test_of_data_that_repeat(self):
        def lattice(n, seed):
            return np.random.default_rng(seed).integers(0, 3, size=(n, 6)) * 1.0

        train, real = lattice(500, 0), lattice(300, 1)
        honest = quick(real, lattice(300, 2), train=train, metrics="frechet").copying
        assert not honest.copies
        assert not honest.closer
        assert "as often" in " ".join(honest.notes)
        assert "of unseen data" in honest.sentence
        copied = quick(real, train[:300], train=train, metrics="frechet").copying
        assert copied.copies

    @pytest.mark.parametrize("d", [1, 3])
    def test_where_no_data_are_unseen(self, d):
        train = normal(300, 0, d=d)
        options = {"train": train, "metrics": "energy"}
        assert not quick(train, normal(200, 1, d=d), **options).copying.copies
        few = np.r_[train[:20], normal(180, 1, d=d)]
        assert quick(train, few, **options).copying.copies

    def test_few_exact_copies_are_told_of(self):
        train, real = normal(500, 0), normal(60, 1)
        few = quick(real, np.r_[train[:3], normal(57, 2)], train=train, metrics="energy").copying
        assert not few.copies
        assert "5% of its samples are exact copies, against 0% of unseen data" in few.sentence
        more = quick(real, np.r_[train[:6], normal(54, 2)], train=train, metrics="energy").copying
        assert more.copies


def test_encoded_images_keep_their_pictures(tmp_path):
    rng = np.random.default_rng(0)
    folders = {}
    for name in ("real", "fake"):
        for label in ("cat", "dog"):
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for i in range(12):
                pixels = rng.integers(0, 255, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
        folders[name] = tmp_path / name
    seen = []

    def means(batch):
        assert batch.dtype == torch.uint8
        seen.append(len(batch))
        return batch.double().mean((1, 2))

    encoder = FunctionEncoder(means, content_hash="means")
    options = {"encoder": encoder, "cache": tmp_path / "cache", "train": folders["fake"]}
    options["metrics"] = "frechet_infinity"
    result = quick(folders["real"], folders["fake"], **options)
    assert sum(seen) == 48  # the training set is the second sample: read from the cache
    assert result.pair.x.shape == (24, 3)
    assert result.pair.image_shape == (8, 8, 3)
    assert [score.label for score in sorted(result.classes, key=lambda c: c.label)] == [
        "cat",
        "dog",
    ]
    assert result.provenance.encoder["hash"] == "means"
    assert result.copying.copies
    wanted = {"samples_a", "samples_b", "suspects", "covered_worst", "covered_best", "classes"}
    assert wanted | {"copying", "infinity"} <= set(result.figures)
    text = as_html(result)
    page = Page(text)
    assert page.open == []
    assert all(after - before <= 1 for before, after in pairwise(page.headings))
    assert len({image["alt"] for image in page.all("img")}) == len(page.all("img"))
    document = json.loads(json.dumps(result.to_dict()))
    assert document["memorisation"]["copies"] is True
    assert document["metrics"]["frechet_infinity"]["extrapolation"]["sizes"] == [24, 12, 6]
    again = quick(folders["real"], folders["fake"], **options)
    assert sum(seen) == 48
    assert torch.equal(again.pair.x, result.pair.x)


def test_texts_by_their_encoder():
    class Lengths:
        def encode(self, texts):
            return np.array([[float(len(text)), text.count("a")] for text in texts])

    texts = ["a" * (i % 7) + "b" * (i % 3) for i in range(40)]
    encoder = SentenceEncoder(Lengths(), name="lengths")
    result = quick(texts, texts[::-1], encoder=encoder, metrics="frechet,coverage")
    assert abs(result.measurements[0].value) < 1e-9
    assert result.measurements[1].value == 1


def test_features_are_not_told_to_be_scaled():
    x, y = normal(60, 0), normal(50, 1)
    spread = FunctionEncoder(lambda z: z * 10.0 ** torch.arange(z.shape[1]), name="spread")
    notes = quick(x, y, metrics="energy", encoder=spread).notes
    assert not any("factor" in note for note in notes)
    wide = x * 10.0 ** np.arange(x.shape[1])
    assert any("factor" in note for note in quick(wide, wide[::-1] + 1, metrics="energy").notes)


def test_names_people_know():
    found = quick(normal(40, 0), normal(40, 1), metrics="fid,prdc,recall").measurements
    names = ["frechet", "precision", "recall", "density", "coverage"]
    assert [m.metric.name for m in found] == names


def test_scores_are_the_metrics():
    x, y = normal(60, 0), normal(50, 1, 0.3)
    result = quick(x, y, metrics="precision,recall,density,coverage,vendi,kid,cmmd")
    found = {m.metric.name: m for m in result.measurements}
    for name, value in vars(metrics.precision_recall(x, y)).items():
        assert found[name].value == value
    assert found["kid"].value == pytest.approx(metrics.kernel_distance(x, y))
    assert found["cmmd"].value == pytest.approx(metrics.cmmd(x, y))
    assert found["vendi"].value == pytest.approx(metrics.vendi_score(y))
    for m in found.values():
        assert m.interval.low <= m.value <= m.interval.high
        assert m.floor is not None
    assert "distances" in result.figures  # scores of which more is better stay out of it


def test_intervals_keep_their_digits_in_json():
    result = quick(normal(60, 0), normal(50, 1), metrics="frechet")
    interval, shown = (
        result.measurements[0].interval,
        result.to_dict()["metrics"]["frechet"]["interval"],
    )
    for name in ("value", "low", "high", "standard_error", "bias"):
        assert shown[name] == getattr(interval, name)


def test_further_scores_by_name():
    names = "sinkhorn,mauve,bins,one_nn,parzen"
    near = quick(normal(80, 0), normal(70, 1), metrics=f"{names},logistic").measurements
    far = quick(normal(80, 0), normal(70, 1, 3.0), metrics=names).measurements
    assert near[-1].interval.low <= near[-1].value <= near[-1].interval.high
    for close, apart in zip(near[:-1], far, strict=True):
        assert close.interval.low <= close.value <= close.interval.high
        assert np.isfinite(close.floor.floor).all()
        assert close.floor.mean <= close.floor.upper
        sign = 1 if close.metric.better == "lower" else -1
        assert sign * apart.value > sign * close.value
    found = {m.metric.name: m.value for m in far}
    expected = metrics.two_sample_accuracy(normal(80, 0), normal(70, 1, 3.0)).accuracy
    assert found["one_nn"] == expected
    assert found["mauve"] < 0.1 < near[1].value


def test_mifid_of_both_samples_and_of_the_training_set():
    train, real, fake = normal(150, 0) + 4, normal(90, 1) + 4, normal(80, 2, 0.3) + 4
    result = quick(real, fake, train=train, metrics="mifid")
    assert result.measurements[0].value == pytest.approx(metrics.mifid(real, fake))
    floor = result.measurements[0].floor
    assert 0 < floor.mean < result.measurements[0].value
    score = next(s for s in result.copying.scores if s.name == "mifid")
    assert score.value == pytest.approx(metrics.mifid(train, fake))
    assert score.unseen == pytest.approx(metrics.mifid(train, real))
    assert score.low < score.value < score.high
    copied = quick(real, train[:80] * 1.0001, train=train, metrics="frechet").copying
    assert next(s for s in copied.scores if s.name == "mifid").value > 100 * score.value


def test_mifid_without_a_penalty_has_the_interval_of_the_distance():
    """Its bias too: fewer rows than columns."""
    rng = np.random.default_rng(0)
    train, real, fake = rng.normal(size=(3, 15, 20))
    result = quick(real, fake + 0.5, train=train, metrics="mifid")
    score = next(s for s in result.copying.scores if s.name == "mifid")
    plain = estimate(frechet_distance, train, fake + 0.5, generator=0)
    assert plain.bias > 0
    found = (score.value, score.low, score.high)
    assert found == pytest.approx((plain.value, plain.low, plain.high), rel=1e-6)


def test_one_column_has_no_angles_and_no_mifid():
    line = quick(normal(60, 0)[:, 0], normal(50, 1)[:, 0], train=normal(70, 2)[:, 0])
    assert "mifid" not in {score.name for score in line.copying.scores}


def test_the_extrapolated_distance_has_a_floor():
    same = quick(normal(200, 0), normal(180, 1), metrics="frechet_infinity").measurements[0]
    far = quick(normal(200, 0), normal(180, 1, 1.0), metrics="frechet_infinity").measurements[0]
    assert same.floor.mean == far.floor.mean
    assert abs(same.floor.mean) < 0.1  # unbiased, unlike that of the plain distance
    assert same.floor.sizes == (100, 100)
    assert same.floor.lower <= same.floor.matched_mean <= 3 * same.floor.upper
    assert far.floor.share_above == 1
    few = quick(normal(15, 0), normal(15, 1), metrics="frechet_infinity").measurements[0]
    assert few.floor is None
    assert "no noise floor" in few.notes[-1]


def test_copying_has_intervals_even_where_no_cell_holds_both():
    train, real = normal(800, 0), normal(500, 1)
    collapsed = 1e-3 * normal(500, 2) + 60.0
    for fake in (normal(500, 3), collapsed):
        copying = quick(real, fake, train=train, metrics="frechet").copying
        score = copying.scores[-1]
        assert score.name == "copying_score"
        assert score.low <= score.value <= score.high
    assert score.value > 10


def test_the_worst_covered_rows_lead():
    x = np.r_[normal(40, 0), normal(7, 1, 50.0)]
    worst, best = quick(x, normal(40, 2), train=normal(40, 3), metrics="coverage").covered
    assert {row.row for row in worst[:7]} == set(range(40, 47))
    ratios = [row.ratio for row in (*best, *worst[::-1])]
    assert ratios[0] < 1 < ratios[-1]


class TestRanking:
    def test_supported_and_unsupported_orders(self):
        real = normal(150, 0)
        models = {"far": normal(150, 1, 1.5), "a": normal(150, 2), "b": normal(150, 3)}
        ranking = rank_models(real, models, permutations=99, seed=0)
        assert [p.name for p in ranking.places][-1] == "far"
        assert [p.tier for p in ranking.places] == [1, 1, 2]
        assert not ranking.steps[0].supported
        assert ranking.steps[1].supported
        assert ranking.steps[1].adjusted == pytest.approx(3 * ranking.steps[1].pvalue)
        assert "The order within a group is not supported" in ranking.sentence
        assert "1–2" in ranking.table
        equal = rank_models(real, {"a": models["a"], "b": models["b"]}, permutations=99)
        assert "do not support any order" in equal.sentence

    @pytest.mark.parametrize("metric", ["mmd", "energy", "kid"])
    def test_values_are_ascending_and_inside_their_intervals(self, metric):
        models = {str(i): normal(60, i, 0.2 * i) for i in range(1, 5)}
        ranking = rank_models(normal(60, 0), models, metric=metric, permutations=49)
        values = [p.value for p in ranking.places]
        assert values == sorted(values)
        assert all(p.low <= p.value <= p.high for p in ranking.places)
        if metric == "energy":
            want = energy_distance(normal(60, 0), models["4"], unbiased=True)
            assert next(p for p in ranking.places if p.name == "4").value == pytest.approx(want)

    def test_refusals(self):
        with pytest.raises(ValueError, match="at least 2 models"):
            rank_models(normal(9, 0), [normal(9, 1)])
        with pytest.raises(ValueError, match="both need the same ones"):
            rank_models(normal(9, 0), [normal(9, 1), normal(9, 1, d=3)])
        with pytest.raises(ValueError, match="wasserstein"):
            rank_models(normal(9, 0), [normal(9, 1), normal(9, 2)], metric="wasserstein")


class TestRankingAgainstATrainingSet:
    def test_a_copier_at_the_top_is_named(self):
        train, real = normal(300, 0), normal(150, 1)
        models = {"honest": normal(150, 2, 0.5), "copier": train[:150] + 1e-5}
        ranking = rank_models(real, models, train=train, permutations=49)
        first, second = ranking.places
        assert first.name == "copier"
        assert first.copying.copies
        assert not second.copying.copies
        assert "copier (copies)" in ranking.table
        assert "copier copies its training set: 100%" in ranking.sentence
        assert "does not speak for such a model" in ranking.sentence
        assert ranking.sentence.endswith("without a sign of copying, honest stands first.")
        scores = {s.name: s.value for s in second.copying.scores}
        assert scores["authenticity"] == authenticity(models["honest"], train)
        assert "authenticity" in ranking.table
        assert "unseen data" in ranking.table
        document = json.loads(json.dumps(ranking.to_dict(), allow_nan=False))
        assert document["places"][0]["copying"]["copies"] is True
        assert document["places"][0]["copying"]["scores"]["near_copies"]["value"] == 1

    def test_honest_models_are_not_accused(self):
        models = {str(i): normal(100, i) for i in range(2, 12)}
        ranking = rank_models(normal(100, 0), models, train=normal(200, 1), permutations=19)
        assert not any(p.copying.copies or p.copying.closer for p in ranking.places)
        assert "cop" not in ranking.sentence

    def test_what_is_said_holds_for_all_models_together(self):
        train, real = normal(200, 0, d=2), normal(100, 1, d=2)
        models = {"a": 0.8 * normal(100, 2, d=2), "b": normal(100, 3, d=2)}
        rank = functools.partial(rank_models, train=train, permutations=19, also=())
        pvalue = {p.name: p.copying.pvalue for p in rank(real, models).places}["a"]
        for share, closer in ((1.5, False), (2.5, True)):  # of the level, between two models
            places = rank(real, models, level=1 - share * pvalue).places
            assert next(p for p in places if p.name == "a").copying.closer is closer

    def test_without_one_the_reader_is_told(self):
        models = {"a": normal(50, 1), "b": normal(50, 2)}
        ranking = rank_models(normal(50, 0), models, permutations=19)
        assert any("pass train (--train)" in note for note in ranking.notes)
        assert ranking.places[0].copying is None
        assert "Memorisation" not in ranking.table

    def test_every_source_is_encoded_once(self):
        seen = []

        def encoder(rows):
            seen.append(len(rows))
            return rows * 1.0

        models = {str(i): normal(20 + i, i) for i in range(1, 4)}
        rank_models(
            normal(30, 9), models, train=normal(50, 8), encoder=encoder, permutations=9, also=()
        )
        assert sorted(seen) == [21, 22, 23, 30, 50]


def test_tables_are_ranked_in_common_units():
    units = np.array([1.0, 1e5])
    frames = [
        pd.DataFrame(normal(80, i, shift, d=2) * units, columns=["a", "b"])
        for i, shift in enumerate((0.0, np.array([3.0, 0.0]), np.array([0.0, 0.1])))
    ]
    models = {"first column off": frames[1], "fine": frames[2]}
    ranking = rank_models(frames[0], models, permutations=49, train=frames[0])
    assert [p.name for p in ranking.places] == ["fine", "first column off"]
    assert ranking.steps[0].supported
    assert any("over all samples" in note for note in ranking.notes)
    plain = rank_models(frames[0], models, permutations=49, scale=False)
    assert sum("--scale" in note for note in plain.notes) == 1


class TestCommands:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        for i, name in enumerate(("real", "near", "far")):
            np.save(f"{name}.npy", normal(80, i, 2.0 * (name == "far")))
        self.capsys = capsys

    def run(self, *arguments):
        self.capsys.readouterr()
        code = cli.run(list(arguments))
        return code, *self.capsys.readouterr()

    def test_rank(self):
        code, out, _ = self.run(
            "rank", "real.npy", "far.npy", "near.npy", "--permutations", "99", "--json", "r.json"
        )
        assert code == 0
        assert out.index("near.npy") < out.index("far.npy")
        found = json.loads(open("r.json").read())  # noqa: PTH123, SIM115
        assert [place["name"] for place in found["places"]] == ["near.npy", "far.npy"]
        code, out, _ = self.run(
            "rank", "real.npy", "far.npy", "near.npy", "--train", "near.npy", "--permutations", "19"
        )
        assert code == 0
        assert "near.npy (copies)" in out
        assert "near.npy copies its training set" in " ".join(out.split())
        code, _, error = self.run("rank", "real.npy", "near.npy")
        assert code == 2
        assert "at least 2 models" in error

    def test_statistics_stand_in_for_the_data(self):
        code, out, _ = self.run("stats", "real.npy", "-o", "ref.npz", "-q")
        assert code == 0
        assert "80 rows" in out
        mean, covariance = read_statistics("ref.npz")
        np.testing.assert_allclose(mean, normal(80, 0).mean(0))
        np.testing.assert_allclose(covariance, np.cov(normal(80, 0).T))
        code, out, _ = self.run("compare", "ref.npz", "far.npy", "--json", "-")
        assert code == 0
        found = json.loads(out)["frechet"]
        want = float(frechet_distance(normal(80, 0), normal(80, 2, 2.0)))
        assert found["value"] == pytest.approx(want, rel=1e-9)
        code, _, error = self.run("compare", "ref.npz", "far.npy", "--html", "x.html")
        assert code == 2
        assert "no samples, so --html cannot be had" in error
        code, _, error = self.run("stats", "real.npy", "-o", "ref.txt")
        assert code == 2
        assert "written as .npz" in error

    def test_compare_with_training_set(self):
        code, out, _ = self.run(
            "compare", "real.npy", "near.npy", "--train", "near.npy", "--metrics", "kid,precision",
            "--permutations", "49", "--html", "r.html",
        )  # fmt: skip
        assert code == 0
        assert "copies its training set" in out
        assert "precision" in out
        assert "Does it copy its training set?" in open("r.html").read()  # noqa: PTH123, SIM115

    def test_encoders_by_name(self):
        code, _, error = self.run("compare", "real.npy", "near.npy", "--encoder", "resnet")
        assert code == 2
        assert "unknown encoder 'resnet'; known: identity, inception" in error
        code, _, error = self.run("compare", "real.npy", "near.npy", "--encoder", "inception:no.pt")
        assert code == 2
        assert "nothing is downloaded" in error


class TestBadInput:
    def test_each_is_refused_by_name(self, tmp_path):
        with pytest.raises(ValueError, match=r"4 columns and B .* has 3"):
            quick(normal(20, 0), normal(20, 1, d=3))
        with pytest.raises(ValueError, match="precision needs at least 12 points and B has 8"):
            quick(normal(20, 0), normal(8, 1), metrics="precision")
        few = metrics.PrecisionRecallDensityCoverage()
        few.update(real=normal(5, 0), fake=normal(9, 1))
        with pytest.raises(ValueError, match="at least 6 real samples and has seen 5"):
            few.compute()
        with pytest.raises(ValueError, match="could be in any range"):
            pixels(np.random.default_rng(0).random((2, 4, 4, 3)))
        with pytest.raises(ValueError, match=r"got \(12, 192\).*uint8 or image_size"):
            pixels(np.zeros((12, 192), dtype=np.uint8))
        with pytest.raises(ValueError, match="outside 0 to 255"):
            pixels(np.full((2, 4, 4, 3), 300))
        spoiled = normal(20, 0)
        spoiled[7, 2] = np.nan
        with pytest.raises(ValueError, match="nan at row 7, column 2"):
            metrics.FrechetDistance().update(real=spoiled)
        with pytest.raises(ValueError, match="nan at row 7"):
            quick(normal(20, 0), normal(20, 1), encoder=lambda rows: torch.from_numpy(spoiled))
        with pytest.raises(ValueError, match=r"sums to 1\.5, not to 1"):
            metrics.inception_score(np.full((4, 3), 0.5), splits=1)
        with pytest.raises(DataError, match="holds no images"):
            extract(tmp_path)
        with pytest.raises(ValueError, match=r"the encoder .* made 1 features of 20 rows"):
            quick(normal(20, 0), normal(20, 1), encoder=lambda rows: rows[:1] * 1.0)
