"""The metrics' estimators: closed forms, brute force, ties, copies, batches, bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probmetrics import metrics
from probmetrics.metrics import balls, cubic, mutual, neighbours, screen
from probmetrics.metrics.memorisation import mann_whitney
from probmetrics.pairwise.kernels import Gaussian


def normal(n, d=3, *, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) + shift


def brute(x, y, skip):
    squares = (x.double().unsqueeze(1) - y.double()).square().sum(-1)
    if skip:
        squares.fill_diagonal_(torch.inf)
    return squares.sort(dim=-1, stable=True)


def clusters(n, seed):
    """A few clusters, each too narrow for single precision to look into."""
    middles = 1e4 * torch.arange(1.0, 5, dtype=torch.float64)
    return normal(n, seed=seed) * 1e-3 + middles[torch.arange(n) % 4].unsqueeze(-1)


CASES = {
    "plain": lambda n, seed: normal(n, seed=seed),
    "ties": lambda n, seed: normal(n, 2, seed=seed).round() % 3,
    "lattice": lambda n, seed: normal(n, 6, seed=seed).round(),
    "offset": lambda n, seed: normal(n, seed=seed) + 1e7,
    "constant": lambda n, seed: torch.ones(n, 2, dtype=torch.float64),
    "float32": lambda n, seed: normal(n, seed=seed).float(),
    "far apart": lambda n, seed: torch.cat([normal(n - 1, seed=seed), normal(1) * 1e5]),
    "clusters": clusters,
    "collapsed": lambda n, seed: normal(4, seed=seed)[torch.arange(n) * 3 % 4],
    "heavy tails": lambda n, seed: normal(n, seed=seed) / normal(n, 1, seed=seed + 9) ** 5,
    "tiny": lambda n, seed: normal(n, seed=seed) * 1e-60,
    "huge": lambda n, seed: normal(n, seed=seed) * 1e60,
    "many coordinates": lambda n, seed: normal(n, 200, seed=seed),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("rows", "columns", "large"), [(128, 2**14, 2**16), (32, 64, 1)])
def test_neighbours_are_those_of_all_pairs(monkeypatch, case, rows, columns, large):
    for name, value in {"ROWS": rows, "COLUMNS": columns, "LARGE": large}.items():
        monkeypatch.setattr(screen, name, value)
    for module in (balls, mutual):  # whose tiles are larger
        monkeypatch.setattr(module, "ROWS", min(rows, 64))
        monkeypatch.setattr(module, "COLUMNS", 64)
    monkeypatch.setattr(mutual, "FOLD", 2)
    for n, m, k in [(30, 45, 3), (90, 300, 5), (5, 6, 4), (301, 90, 1), (200, 70, 60)]:
        x, y = CASES[case](n, 1), CASES[case](m, 2)
        for other in (None, y):
            squares, indices = neighbours.nearest(x, other, k)
            expected = brute(x, x if other is None else other, other is None)
            torch.testing.assert_close(squares, expected.values[:, :k], rtol=1e-12, atol=0)
            if case != "float32":
                assert torch.equal(indices, expected.indices[:, :k])
        radii_x, radii = (neighbours.nearest(z, k=min(k, len(z) - 1))[0][:, -1] for z in (x, y))
        pairs = (x.double().unsqueeze(1) - y.double()).square().sum(-1)
        assert torch.equal(balls.count_balls(x, y, radii), (pairs < radii).sum(-1))
        near = pairs <= radii * (1 + 1e-13)
        assert torch.equal(balls.count_balls(x, y, radii, closed=True), near.sum(-1))
        of_x, of_y = balls.within(x, y, of_rows=radii_x, of_columns=100 * radii)
        wide = pairs < 100 * radii
        assert torch.equal(of_y.rows, wide.sum(1))
        assert torch.equal(of_y.columns, wide.sum(0))
        narrow = pairs < radii_x.unsqueeze(-1) * (1 - 1e-13)
        assert torch.equal(of_x.rows, narrow.sum(1))
        assert torch.equal(of_x.columns, narrow.sum(0))


@pytest.mark.parametrize(
    "case", ["plain", "clusters", "lattice", "heavy tails", "many coordinates"]
)
def test_neighbours_within_a_sample_are_those_of_another_like_it(case):
    x = CASES[case](4500, 1).unique(dim=0)
    for k in (1, 8):
        assert mutual.serves(x, k) == (len(x) >= 4096)
        squares, indices = neighbours.nearest(x, None, k)
        others = neighbours.nearest(x[:300], x, k + 1)  # each row finds itself first
        assert torch.equal(others[0][:, 1:], squares[:300])
        assert torch.equal(others[1][:, 1:], indices[:300])


def test_candidates_are_thinned_out_on_the_way(monkeypatch):
    x = normal(900, 5)
    expected = neighbours.nearest(x, None, 4)
    for name, value in {"ROWS": 32, "COLUMNS": 64, "FOLD": 2, "HELD": 1}.items():
        monkeypatch.setattr(mutual, name, value)
    assert mutual.serves(x, 4)
    found = neighbours.nearest(x, None, 4)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_products_of_less_than_single_precision_do_not_screen():
    x = normal(300, 8)
    expected = metrics.precision_recall(x, x + 0.1)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert screen.Screen(x, x, 1).bounds.dtype == torch.float64
        assert metrics.precision_recall(x, x + 0.1) == expected
    finally:
        torch.set_float32_matmul_precision(before)
    assert screen.Screen(x, x, 1).bounds.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 5, 700])
def test_bounds_hold(dtype, d):
    x, y = normal(150, d) + 3.0, normal(90, d, seed=1) * 10.0 + 3.0
    bounds = screen.Bounds(x, y, dtype, 32)
    everything = slice(0, 160), slice(0, 96)
    low = bounds.tile(*everything, bounds.buffer(160, 96))[:150, :90].double()
    exact = bounds.scaled((x.unsqueeze(1) - y).square().sum(-1))
    room = bounds.slack * (bounds.norms_x.unsqueeze(1) + bounds.norms_y)
    assert (low <= exact).all()
    assert (exact <= low + room).all()
    assert (exact - low > 0.2 * room).all()  # and are no looser than they must be


def test_a_copy_of_the_data_has_ties_on_every_sphere():
    x = normal(400, 8)
    copy = metrics.precision_recall(x, x.flip(0), k=5)
    # The copy of a point lies within the ball of that point and of the neighbours that have it
    # among their k − 1 nearest: k balls on average, the sphere itself not counted.
    assert copy == metrics.PrecisionRecall(*(torch.tensor(1.0).double() for _ in range(4)))
    closed = metrics.precision_recall(x, x.flip(0), k=5, convention="torch-fidelity")
    assert closed.density.item() == pytest.approx(6 / 5)


def test_precision_recall_in_hand():
    x, y = np.array([0.0, 1, 2, 10]), np.array([0.5, 1.5, 30, 31])
    found = metrics.precision_recall(x, y, k=1)
    # data radii 1, 1, 1, 8; model radii 1, 1, 1, 1
    assert (found.precision, found.recall) == (0.5, 0.75)
    assert found.density == (2 + 2) / 4
    assert found.coverage == 0.75


@given(seed=st.integers(0, 10**6), offset=st.sampled_from([0.0, 1e4]))
def test_precision_recall_is_unchanged_by_motion_and_order(seed, offset):
    x, y = normal(12, 2, seed=seed), normal(9, 2, seed=seed + 1)
    expected = metrics.precision_recall(x, y, k=2)
    assert metrics.precision_recall(x.flip(0) * 4 + offset, y.flip(0) * 4 + offset, k=2) == expected


def test_mann_whitney_is_scipys():
    from scipy.stats import mannwhitneyu

    x, y = (
        normal(30, 1).squeeze().round(decimals=1),
        normal(40, 1, seed=1).squeeze().round(decimals=1),
    )
    expected = mannwhitneyu(x, y, alternative="less", use_continuity=False, method="asymptotic")
    score = mann_whitney(x, y)
    assert torch.special.ndtr(score).item() == pytest.approx(expected.pvalue, rel=1e-10)
    assert mann_whitney(torch.ones(3), torch.ones(4)) == 0


def test_fresh_samples_are_not_copies_and_copies_are():
    train, held_out, fresh = (normal(300, 4, seed=s) for s in range(3))
    copy = train[:200] + 1e-4
    for sample, is_copy in ((fresh, False), (copy, True)):
        close = metrics.nearest_training(sample, train, held_out)
        score = metrics.copying_score(sample, train, held_out, cells=3, generator=0)
        assert (close.pvalue < 1e-6) is is_copy or bool(close.pvalue < 1e-6) == is_copy
        assert bool(score < -5) == is_copy
        assert bool(metrics.authenticity(sample, train) < 0.05) == is_copy
        assert bool(metrics.duplicates(sample, train).near > 0.9) == is_copy
    assert metrics.duplicates(train[:9].repeat(2, 1), train).exact == 1
    assert metrics.duplicates(train[:9].repeat(2, 1), train).within == 1
    assert metrics.mifid(train, copy) > 5 * metrics.frechet_infinity(train, copy, generator=0).value
    assert abs(metrics.authenticity(fresh, train) - 0.5) < 0.12


def test_the_nearest_training_test_is_calibrated():
    small = 0
    for seed in range(80):
        train, held_out, fresh = (normal(60, 3, seed=3 * seed + s) for s in range(3))
        small += bool(metrics.nearest_training(fresh, train, held_out).pvalue < 0.1)
    assert 2 <= small <= 16


def test_scores_in_closed_form():
    sure, unsure = torch.eye(4).double(), torch.full((8, 4), 0.25).double()
    assert metrics.inception_score(sure, splits=1).mean == pytest.approx(4.0)
    assert metrics.inception_score(unsure, splits=2).mean == pytest.approx(1.0)
    assert metrics.modified_inception_score(sure) == math.inf
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]).double()
    pairs = (p.unsqueeze(1) * (p.unsqueeze(1) / p).log()).sum(-1)
    assert metrics.modified_inception_score(p) == pytest.approx(pairs.mean().exp().item())
    data, mean = torch.tensor([0.3, 0.7]).double(), p.mean(0)
    kl = (p * (p / mean).log()).sum(-1).mean()
    expected = (kl - (mean * (mean / data).log()).sum()).exp()
    assert metrics.mode_score(p, data) == pytest.approx(expected.item())
    entropy = -(p * p.log()).sum(-1).mean()
    expected = (data * (data / mean).log()).sum() + entropy
    assert metrics.am_score(p, data) == pytest.approx(expected.item())
    assert metrics.am_score(p.log() + 3, data, logits=True) == pytest.approx(expected.item())
    assert metrics.mode_score(sure, torch.tensor([1.0, 0, 0, 0]).double()) == 0


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e7])
@pytest.mark.parametrize("unbiased", [True, False])
def test_the_cubic_kernel_distance_far_from_the_origin(offset, unbiased):
    from fractions import Fraction

    x, y = normal(14, 3) + offset, normal(11, 3, seed=1, shift=0.1)
    y[:, 0] += offset

    def mean(x, y, skip):
        rows = [[[Fraction(v) for v in row] for row in z.tolist()] for z in (x, y)]
        cubes = [
            (sum(map(Fraction.__mul__, p, q)) / 3 + 1) ** 3
            for i, p in enumerate(rows[0])
            for j, q in enumerate(rows[1])
            if not (skip and i == j)
        ]
        return sum(cubes) / len(cubes)

    for near in (y, x[:9] + 0.25):
        expected = mean(x, x, unbiased) + mean(near, near, unbiased) - 2 * mean(x, near, False)
        found = metrics.kernel_distance(x, near, unbiased=unbiased)
        assert found.item() == pytest.approx(float(expected), rel=1e-11)
        if unbiased:
            metric = metrics.KernelDistance()
            metric.update(real=x, fake=near)
            assert metric.compute() == found
    batch = metrics.kernel_distance(torch.stack([x, x + 1]), torch.stack([near, near + 1]))
    if offset:
        assert batch[0].item() == pytest.approx(metrics.kernel_distance(x, near).item(), rel=1e-9)
        interval = metric.interval() if unbiased else None
        assert interval is None or interval.low <= interval.value <= interval.high


def test_the_gradient_of_the_cubic_kernel_distance_far_from_the_origin():
    x = (normal(5, 2) + 1e3).requires_grad_()
    y = (normal(4, 2, seed=1) + 1e3).requires_grad_()
    assert cubic.is_far(x, y)
    scaled = lambda x, y: metrics.kernel_distance(x, y) / 1e12  # noqa: E731
    assert torch.autograd.gradcheck(scaled, (x, y), eps=1e-3, atol=1e-6, rtol=1e-4)


def test_vendi_of_other_kernels_and_orders():
    x = normal(20)
    assert metrics.vendi_score(x, kernel=Gaussian(1e-3)) == pytest.approx(20)
    assert metrics.vendi_score(x, kernel=Gaussian(1e6)) == pytest.approx(1)
    assert metrics.vendi_score(torch.eye(5), order=math.inf) == pytest.approx(5)
    wide = torch.cat([x.T, x.T]).repeat(3, 1)
    assert metrics.vendi_score(wide) == pytest.approx(metrics.vendi_score(x.T).item())
    batch = metrics.vendi_score(torch.stack([x, 2 * x + 1]))
    assert batch[1] == pytest.approx(metrics.vendi_score(2 * x + 1).item())


def test_the_frontier_of_disjoint_histograms_is_a_beta_function():
    expected = 5 * math.gamma(6) * math.gamma(5) / math.gamma(11)
    assert metrics.frontier_area([1.0, 0.0], [0.0, 1.0]) == pytest.approx(expected, rel=0.03)
    p, q = np.array([0.2, 0.8]), np.array([0.5, 0.5])
    assert metrics.frontier_area(p, q) == pytest.approx(metrics.frontier_area(q, p))
    assert metrics.frontier_area(p, q) < metrics.frontier_area(p, p) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="scaling must be above zero"):
        metrics.frontier_area(p, q, scaling=0.0)


def test_different_bins():
    x, same, other = normal(600, 2), normal(600, 2, seed=1), normal(600, 2, seed=2, shift=1.0)
    assert metrics.different_bins(x, same, bins=20, generator=0).share <= 0.2
    assert metrics.different_bins(x, other, bins=20, generator=0).share >= 0.6
    far = metrics.different_bins(x, x[:300] + 100, bins=20, generator=0)
    assert 0 < far.divergence <= math.log(2)


def test_the_birthday_paradox_finds_the_support():
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(50, (2000, 1), generator=generator).double()
    found = metrics.birthday_support(y)
    assert found.support == pytest.approx(50, rel=0.05)
    assert metrics.birthday_support(normal(20)).support == math.inf
    shaken = y + 1e-3 * normal(2000, 1)
    assert metrics.birthday_support(shaken, radius=0.1).support == pytest.approx(
        found.support.item()
    )


def test_parzen_is_a_mixture_of_gaussians():
    x, y = normal(7, 2), normal(9, 2, seed=1)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(9)),
        torch.distributions.Independent(torch.distributions.Normal(y, 0.4), 1),
    )
    expected = mixture.log_prob(x).mean()
    torch.testing.assert_close(metrics.parzen_log_likelihood(x, y, bandwidth=0.4), expected)
    x.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: metrics.parzen_log_likelihood(x, y, bandwidth=0.4), (x,)
    )
    stacked = metrics.parzen_log_likelihood(torch.stack([x, x + 1]), y)
    torch.testing.assert_close(stacked[1], metrics.parzen_log_likelihood(x + 1, y))
    with pytest.raises(ValueError, match="pass bandwidth="):
        metrics.parzen_log_likelihood(x, torch.ones(4, 2))


@pytest.mark.parametrize("classifier", ["1-nn", "logistic"])
def test_accuracy(classifier):
    x, same, other = normal(200), normal(200, seed=1), normal(200, seed=2, shift=3.0)
    options = {"classifier": classifier, "generator": 0}
    assert abs(metrics.two_sample_accuracy(x, same, **options).accuracy - 0.5) < 0.08
    assert metrics.two_sample_accuracy(x, other, **options).accuracy > 0.97
    if classifier == "1-nn":
        assert metrics.two_sample_accuracy(x, x, **options).accuracy == 0


def test_kernel_distances():
    x, y = normal(30), normal(20, seed=1)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: metrics.kernel_distance(x, y), (x,))
    assert torch.autograd.gradcheck(lambda x: metrics.cmmd(x, y), (x,))
    normed = [z / z.norm(dim=-1, keepdim=True) for z in (x, y)]
    k = [
        (-(a.unsqueeze(1) - b).square().sum(-1) / 200).exp().mean()
        for a, b in ((normed[0], normed[0]), (normed[1], normed[1]), (normed[0], normed[1]))
    ]
    torch.testing.assert_close(metrics.cmmd(x, y), 1000 * (k[0] + k[1] - 2 * k[2]))
    with pytest.raises(ValueError, match="more than the smaller sample has, 20"):
        metrics.kernel_distance_subsets(x, y)
    clean = metrics.kernel_distance_subsets(x, y, subsets=3, convention="clean-fid")
    assert clean.mean.isfinite()


PAIRS = {
    "precision_recall": lambda x, y: metrics.precision_recall(x, y, k=1),
    "authenticity": metrics.authenticity,
    "duplicates": metrics.duplicates,
    "mifid": metrics.mifid,
    "mauve": metrics.mauve,
    "different_bins": metrics.different_bins,
    "two_sample_accuracy": metrics.two_sample_accuracy,
    "frechet_infinity": metrics.frechet_infinity,
    "kernel_distance": metrics.kernel_distance,
    "cmmd": metrics.cmmd,
    "parzen": metrics.parzen_log_likelihood,
}


@pytest.mark.parametrize("name", PAIRS)
def test_bad_samples_are_refused(name):
    x, y = normal(20, 2), normal(20, 2, seed=1)
    spoiled = x.clone()
    spoiled[4, 1] = torch.nan
    with pytest.raises(ValueError, match="holds nan at row 4, column 1"):
        PAIRS[name](spoiled, y)
    with pytest.raises(ValueError, match="column"):
        PAIRS[name](x, y[:, :1])
    with pytest.raises(TypeError, match="together with"):
        PAIRS[name](x, y.numpy())
    with pytest.raises(ValueError, match="has 0 points"):
        PAIRS[name](x, y[:0])


@pytest.mark.parametrize(
    "name", [n for n in PAIRS if n not in ("kernel_distance", "cmmd", "parzen")]
)
def test_one_problem_at_a_time(name):
    with pytest.raises(ValueError, match="one problem at a time"):
        PAIRS[name](normal(40, 2).reshape(2, 20, 2), normal(20, 2))


def test_numpy_gives_what_torch_gives():
    x, y = normal(40), normal(30, seed=1)
    found = metrics.precision_recall(x.numpy(), y.numpy())
    assert isinstance(found.precision, float)
    assert found == metrics.PrecisionRecall(
        *(v.item() for v in vars(metrics.precision_recall(x, y)).values())
    )
    assert metrics.authenticity(x.numpy(), y.numpy()) == metrics.authenticity(x, y).item()
