"""Streaming metrics: batches, merging, reset, synchronisation, intervals, provenance, errors."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics

from probmetrics import Interval, metrics
from probmetrics.metrics.accumulators import GroupedMoments, Reservoir, rows_of, union

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")


def normal(n, d=3, *, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) + shift


REAL, FAKE, TRAIN = normal(90), normal(80, seed=1, shift=0.4), normal(70, seed=2)
ONE_SIDED = (metrics.VendiScore, metrics.ModeCoverage, metrics.InceptionScore)
MEANS = torch.tensor([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
FACTORIES = {
    "frechet": metrics.FrechetDistance,
    "kernel": metrics.KernelDistance,
    "kernel subsets": lambda **o: metrics.KernelDistance(subsets=5, subset_size=20, **o),
    "cmmd": metrics.CMMD,
    "energy": metrics.EnergyDistance,
    "sliced": metrics.SlicedWasserstein,
    "sinkhorn": metrics.SinkhornDivergence,
    "prdc": metrics.PrecisionRecallDensityCoverage,
    "memorisation": metrics.Memorisation,
    "mifid": metrics.MIFID,
    "vendi": metrics.VendiScore,
    "mauve": metrics.Mauve,
    "bins": lambda **o: metrics.DifferentBinsMetric(bins=5, **o),
    "birthday": metrics.BirthdayParadox,
    "parzen": metrics.ParzenLogLikelihood,
    "1-nn": metrics.ClassifierAccuracy,
    "logistic": lambda **o: metrics.ClassifierAccuracy(classifier="logistic", **o),
    "modes": lambda **o: metrics.ModeCoverage(means=MEANS, sd=1.0, **o),
    "inception": lambda **o: metrics.InceptionScore(
        logits=True, splits=4, labels=[0.2, 0.3, 0.5], **o
    ),
}
everyone = pytest.mark.parametrize("name", FACTORIES)
SAMPLES = {"real": REAL, "fake": FAKE, "train": TRAIN}


def feed(metric, samples=SAMPLES, batch=None):
    for side in metric.sides:
        for part in samples[side].split(batch or len(samples[side])):
            metric.update(**{side: part})
    return metric


def close(found, expected, tolerance=1e-9):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            close(found[key], value, tolerance)
        return
    torch.testing.assert_close(
        torch.as_tensor(found).double(),
        torch.as_tensor(expected).double(),
        rtol=tolerance,
        atol=tolerance,
        equal_nan=True,
    )


@everyone
def test_batches_give_what_one_batch_gives(name):
    close(feed(FACTORIES[name](), batch=17).compute(), feed(FACTORIES[name]()).compute())


@everyone
def test_merged_streams_give_what_one_stream_gives(name):
    halves = [FACTORIES[name](), FACTORIES[name]()]
    for i, half in enumerate(halves):
        feed(half, {side: rows[40 * i : 40 * (i + 1)] for side, rows in SAMPLES.items()})
    together = feed(FACTORIES[name](), {side: rows[:80] for side, rows in SAMPLES.items()})
    close(halves[0].merge(halves[1]).compute(), together.compute())
    assert halves[0].provenance.samples == together.provenance.samples


@everyone
def test_reset_starts_over(name):
    metric = feed(FACTORIES[name]())
    first = metric.compute()
    metric.reset()
    with pytest.raises(ValueError, match="needs at least"):
        metric.compute()
    metric.reset()
    close(feed(metric).compute(), first)


@everyone
def test_copies_and_pickles(name):
    metric = feed(FACTORIES[name]())
    value = metric.compute()
    close(copy.deepcopy(metric).compute(), value)
    close(pickle.loads(pickle.dumps(metric)).compute(), value)


@everyone
def test_float32_features(name):
    single = {side: rows.float() for side, rows in SAMPLES.items()}
    double = {side: rows.float().double() for side, rows in SAMPLES.items()}
    close(
        feed(FACTORIES[name](), single).compute(), feed(FACTORIES[name](), double).compute(), 2e-3
    )


QUICK = ["frechet", "kernel", "cmmd", "energy", "sliced", "prdc", "memorisation", "vendi", "modes"]


@pytest.mark.parametrize("name", [*QUICK, "inception", "parzen", "birthday"])
def test_intervals_hold_their_value(name):
    metric = feed(FACTORIES[name]())
    value, found = metric.compute(), metric.interval()
    found = found if isinstance(found, dict) else {"value": found}
    value = value if isinstance(value, dict) else {"value": value}
    for key, interval in found.items():
        assert isinstance(interval, Interval)
        close(interval.value, value[key], 1e-6)
        assert interval.low <= interval.value <= interval.high


def test_the_interval_of_the_frechet_distance_covers_the_truth():
    truth, held, exact = 3 * 0.25, 0, 0
    for seed in range(30):
        metric = metrics.FrechetDistance()
        metric.update(
            real=normal(300, seed=2 * seed), fake=normal(300, seed=2 * seed + 1, shift=0.5)
        )
        interval = metric.interval()
        held += bool(interval.low <= truth <= interval.high)
        exact += bool(abs(metric.extrapolated().value - truth) < 0.3)
    assert held >= 26
    assert exact >= 27


def test_extrapolation_takes_the_bias_off():
    found, plain = [], []
    for seed in range(20):
        x, y = normal(128, 16, seed=2 * seed), normal(128, 16, seed=2 * seed + 1)
        fit = metrics.frechet_infinity(x, y, generator=seed)
        found.append(float(fit.value))
        plain.append(float(fit.values[0]))
        assert fit.sizes == (128, 64, 32)
    assert abs(np.mean(found)) < 0.25 * np.mean(plain)  # truth is zero


def test_the_error_of_an_extrapolation_knows_that_the_line_bends():
    for seed in range(4):  # quarters have fewer rows than coordinates; the truth is zero
        x, y = normal(160, 60, seed=2 * seed), normal(160, 60, seed=2 * seed + 1)
        metric = metrics.FrechetDistance()
        metric.update(real=x, fake=y)
        for fit in (metrics.frechet_infinity(x, y, generator=seed), metric.extrapolated()):
            assert abs(fit.value) < 3 * fit.standard_error < 0.5 * fit.values[0]


def test_reference_statistics_stand_for_the_real_side(tmp_path):
    np.savez(tmp_path / "ref.npz", mu=REAL.mean(0).numpy(), sigma=np.cov(REAL.numpy().T))
    metric = metrics.FrechetDistance(reference=tmp_path / "ref.npz")
    metric.update(fake=FAKE)
    close(metric.compute(), feed(metrics.FrechetDistance()).compute())
    assert metric.interval().standard_error > 0
    with pytest.raises(ValueError, match="one of the two"):
        metric.update(real=REAL)
    with pytest.raises(ValueError, match="4 features and earlier batches had 3"):
        metric.update(fake=normal(5, 4))


def test_an_offset_of_ten_million_costs_no_digits():
    offset = 1e7
    metric = feed(metrics.FrechetDistance(), {k: v + offset for k, v in SAMPLES.items()}, batch=7)
    close(metric.compute(), feed(metrics.FrechetDistance()).compute(), 1e-6)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda z: z[:5].repeat(1, 4),  # fewer points than features, singular
        lambda z: torch.cat([z, torch.ones(len(z), 1)], 1),  # a constant feature
        lambda z: z[:, :1].repeat(1, 3),  # a singular covariance
    ],
)
def test_degenerate_features_give_numbers(spoil):
    x, y = spoil(REAL), spoil(FAKE)
    metric = metrics.FrechetDistance()
    metric.update(real=x, fake=y)
    mean = (x.mean(0) - y.mean(0)).square().sum()
    assert mean - 1e-9 <= metric.compute() < mean + x.var(0).sum() + y.var(0).sum()
    metric.reset()
    metric.update(real=x, fake=x)
    assert abs(float(metric.compute())) < 1e-6


def test_per_class():
    labels = torch.arange(90) % 3
    metric = metrics.PerClassFrechet()
    metric.update(
        real=REAL, real_labels=labels, fake=REAL + labels.unsqueeze(-1), fake_labels=labels
    )
    close(metric.compute(), {"0": 0.0, "1": 3.0, "2": 12.0, "mean": 5.0}, 1e-8)
    assert set(metric.interval()) == {"0", "1", "2"}
    with pytest.raises(ValueError, match="come together"):
        metric.update(real=REAL)
    metric.update(fake=FAKE[:2], fake_labels=[7, 7])
    with pytest.raises(ValueError, match=r"fake has classes the real side has not: \[7\]"):
        metric.compute()


def test_collections_and_forward():
    collection = torchmetrics.MetricCollection(
        {"fd": metrics.FrechetDistance(), "prdc": metrics.PrecisionRecallDensityCoverage()}
    )
    for x, y in zip(REAL[:80].split(20), FAKE.split(20), strict=True):
        collection.update(real=x, fake=y)
    found = collection.compute()
    assert {"fd", "precision", "recall", "density", "coverage"} <= {
        key.removeprefix("prdc_") for key in found
    }
    alone = metrics.FrechetDistance()
    batch_value = alone(real=REAL[:40], fake=FAKE[:40])
    close(batch_value, found["fd"] * 0 + batch_value)
    alone(real=REAL[40:80], fake=FAKE[40:])
    close(alone.compute(), found["fd"])


def test_collections_keep_what_each_metric_keeps():
    made = {
        "a": metrics.EnergyDistance(capacity=20),
        "b": metrics.KernelDistance(capacity=60),
        "c": metrics.CMMD(capacity=60, seed=1),
        "d": metrics.EnergyDistance(encoder=lambda rows: rows.clamp(max=9.0)),
        "e": metrics.EnergyDistance(),
        "f": metrics.SlicedWasserstein(),
    }
    collection = torchmetrics.MetricCollection(copy.deepcopy(made))
    parts = [z[:80].split(8) for z in (REAL + torch.arange(90.0).unsqueeze(-1), FAKE)]
    for x, y in zip(*parts, strict=True):
        for metric in (collection, *made.values()):
            metric.update(real=x, fake=y)
    assert sorted(map(len, collection.compute_groups.values())) == [1, 1, 1, 1, 2]
    for name, value in collection.compute().items():
        close(value, made[name].compute())


def test_two_processes_agree_with_one(tmp_path):
    script = Path(__file__).parent / "fixtures" / "synchronise.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "store")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ranks agree" in done.stdout


def test_provenance_says_where_a_number_comes_from():
    def halves(batch):
        return batch[:, :2]

    metric = feed(metrics.EnergyDistance(encoder=halves, seed=3))
    found = metric.provenance
    assert found.metric == "EnergyDistance"
    assert found.encoder == {"name": "halves"}
    assert found.samples == {"real": 90, "fake": 80}
    assert (found.features, found.dtype) == (2, "float64")
    assert found.options == {"power": 1.0, "unbiased": False, "capacity": None, "seed": 3}
    assert set(found.versions) == {"probmetrics", "torch"}


def test_a_reservoir_is_a_uniform_sample_that_merges():
    keeper = Reservoir(10, seed=1)
    counts = torch.zeros(40)
    for seed in range(400):
        keeper = Reservoir(10, seed=seed)
        state = {"rows": [], "keys": []}
        for start in range(0, 40, 8):
            rows = torch.arange(start, start + 8.0).unsqueeze(-1)
            state = keeper.add(state, rows, start, 0)
        kept = rows_of(keeper.compact(state)).squeeze(-1).long()
        assert len(kept.unique()) == 10
        counts[kept] += 1
    assert (counts - 100).abs().max() < 4.5 * (100 * 0.75) ** 0.5


def test_a_reservoir_keeps_constant_memory():
    metric = metrics.EnergyDistance(capacity=50)
    for seed in range(30):
        metric.update(real=normal(40, seed=seed), fake=normal(40, seed=100 + seed))
        assert sum(len(part) for part in metric.real_rows_rows) <= 100
    assert metric.provenance.samples == {"real": 1200, "fake": 1200}
    assert abs(float(metric.compute())) < 0.5


def test_streams_hold_no_more_than_their_states():
    metric = FACTORIES["frechet"]()
    held = []
    for n in (5000, 20_000):
        metric.reset()
        for start in range(0, n, 5000):
            metric.update(real=normal(5000, 4, seed=start), fake=normal(5000, 4, seed=start + 1))
        states = [getattr(metric, name) for name in metric._defaults]
        tensors = [part for state in states if isinstance(state, list) for part in state]
        held.append(sum(part.untyped_storage().nbytes() for part in tensors))
    assert held[1] <= held[0] < 2 * 5000 * 4 * 8


def test_groups_of_moments_are_dealt_in_turn():
    keeper, state, seen = GroupedMoments(4), {"moments": [], "pending": []}, 0
    rows = normal(3000, 2)
    for part in rows.split(700):
        state = keeper.add(state, part, seen, 0)
        seen += len(part)
    groups = keeper.groups_of(state)
    assert [float(g.weight) for g in groups] == [750.0] * 4
    close(groups[1].mean, rows[1::4].mean(0))
    close(union(groups).covariance(), rows.T.cov())


BAD = [
    (
        lambda: feed(metrics.FrechetDistance(), {"real": REAL, "fake": FAKE * torch.nan}),
        "nan at row 0",
    ),
    (lambda: feed(metrics.EnergyDistance(), {"real": REAL, "fake": FAKE[:, :2]}), "2 features"),
    (lambda: metrics.EnergyDistance().update(), "got no batch"),
    (lambda: metrics.CMMD().update(real=torch.zeros(4, 0)), "no columns"),
    (lambda: feed(metrics.CMMD(), {"real": REAL[:1], "fake": FAKE}).compute(), "at least 2 real"),
    (lambda: metrics.FrechetDistance(convention="fid"), "unknown convention"),
    (lambda: metrics.EnergyDistance(capacity=0), "capacity must be at least 1"),
    (lambda: metrics.PrecisionRecallDensityCoverage(capacity=3), "capacity must be at least 6"),
    (lambda: feed(metrics.CMMD()).merge(feed(metrics.EnergyDistance())), "cannot merge"),
    (
        lambda: feed(metrics.EnergyDistance()).merge(feed(metrics.EnergyDistance(power=0.5))),
        "power is 1.0 here and 0.5 there",
    ),
    (lambda: metrics.InceptionScore().update(fake=[[0.5, 0.6]]), "sum"),
    (lambda: metrics.InceptionScore(labels=[0.5, 0.6]), "sum"),
    (lambda: metrics.VendiScore().update(fake=["a"]), "dtype"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_errors_say_what_to_do(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_minimum_is_named():
    with pytest.raises(ValueError, match="needs at least 6 real samples and has seen 0"):
        metrics.PrecisionRecallDensityCoverage().compute()
