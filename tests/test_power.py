"""Power and sample size: simulation, the asymptotic formula, and their agreement."""

import numpy as np
import pytest
import scipy.stats
import torch

from probmetrics.pairwise.kernels import Gaussian, Linear
from probmetrics.twosample import energy_test, fused_test, mmd_test, power, sample_size
from probmetrics.twosample.asymptotic import KernelPilot
from probmetrics.twosample.kernel_statistic import KernelStatistic
from probmetrics.twosample.labelings import Labelings


@pytest.fixture(autouse=True)
def one_thread():
    """Many tiny problems: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def standard(n, generator):
    return torch.randn(n, 2, generator=generator, dtype=torch.float64)


def shifted(n, generator):
    return standard(n, generator) + 0.4


def ttest(x, y):
    return scipy.stats.ttest_ind(x[:, 0], y[:, 0]).pvalue


def normal(n, generator):
    return torch.randn(n, 1, generator=generator, dtype=torch.float64).numpy()


def test_simulation_finds_the_power_of_the_t_test():
    shift, n = 0.8, 20
    ncp = shift * (n / 2) ** 0.5
    bound = scipy.stats.t.ppf(0.975, 2 * n - 2)
    truth = scipy.stats.nct.sf(bound, 2 * n - 2, ncp) + scipy.stats.nct.cdf(-bound, 2 * n - 2, ncp)
    found = power(
        normal,
        lambda n, g: normal(n, g) + shift,
        n,
        test=ttest,
        repetitions=800,
        generator=0,
        confidence=0.999,
    )
    assert found.low <= truth <= found.high
    assert found.power == found.rejections / 800 == float(found)
    size = sample_size(
        normal,
        lambda n, g: normal(n, g) + shift,
        test=ttest,
        repetitions=400,
        generator=0,
        power=float(truth),
    )
    assert 15 <= size.n <= 26
    assert size.power.power >= truth
    assert len(size.tried) >= 4


@pytest.mark.parametrize(
    ("test", "options", "n", "m"),
    [(mmd_test, {"kernel": Gaussian(1.5)}, 40, 40), (energy_test, {}, 80, 40)],
)
def test_simulation_and_formula_agree(test, options, n, m):
    simulated = power(
        standard, shifted, n, m, test=test, repetitions=120, permutations=99, generator=1, **options
    )
    formula = power(standard, shifted, n, m, test=test, method="asymptotic", generator=3, **options)
    assert abs(simulated.power - formula.power) <= 0.12
    assert formula.low < formula.power < formula.high
    assert 0.4 < formula.power < 0.8


def test_the_formula_has_the_moments_of_the_statistic():
    kernel, generator = Gaussian(1.0), torch.Generator().manual_seed(0)
    x, y = standard(400, generator), shifted(400, generator)
    pilot = KernelPilot(x, y, kernel, population=True)
    z = torch.cat([x, y])
    # Samples with replacement of the pilot have its V-statistic for their mean.
    values = []
    for _ in range(300):
        rows = [torch.randint(400, (60,), generator=generator) for _ in range(2)]
        w = torch.cat([x[rows[0]], y[rows[1]]])
        first = (torch.arange(120) >= 60).to(torch.uint8)[None]
        values.append(float(KernelStatistic(kernel).prepare(w, (60, 60)).evaluate(first)[0]))
    assert np.mean(values) == pytest.approx(pilot.squared, abs=4 * np.std(values) / 300**0.5)
    assert np.std(values) == pytest.approx(pilot.deviation(60, 60), rel=0.15)
    # Exchanging labels of the pooled points gives the null distribution's quantile.
    labels = (torch.arange(800) >= 400).to(torch.uint8)
    drawn = torch.cat(list(Labelings(labels).draw(generator, 1500)))
    null = KernelStatistic(kernel).prepare(z, (400, 400)).evaluate(drawn)
    assert pilot.quantile(400, 400, 0.05) == pytest.approx(float(null.quantile(0.95)), rel=0.12)


def test_no_difference_has_the_power_of_the_level():
    points = np.random.default_rng(0).normal(size=(60, 2))
    found = power(points, points, 15, repetitions=100, permutations=19, generator=0)
    assert found.low <= 0.05 <= found.high
    assert found.m == 15


def test_pilots_of_any_kind_and_seeds_repeat():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(80, 2)), rng.normal(size=(90, 2)) + 0.8
    runs = [
        power(a, b, 12, 10, test=fused_test, permutations=39, repetitions=4, generator=4)
        for a, b in ((x, y), (x, y), (torch.from_numpy(x), torch.from_numpy(y)))
    ]
    assert runs[0] == runs[1] == runs[2]
    sizes = [sample_size(x, y, method="asymptotic", ratio=ratio).n for ratio in (1.0, 3.0)]
    assert sizes[1] < sizes[0]
    line = power(x[:, 0], y[:, 0], 30, method="asymptotic")
    assert 0.3 < line.power < 1


def test_bad_input_is_refused():
    x, y = np.zeros((10, 2)), np.ones((10, 2))
    with pytest.raises(ValueError, match="at least 4"):
        power(x[:3], y, 10)
    with pytest.raises(ValueError, match="nan"):
        power(x * np.nan, y, 10)
    with pytest.raises(ValueError, match="y has 1"):
        power(x, y[:, :1], 10)
    with pytest.raises(TypeError, match="both be samples"):
        power(x, shifted, 10)
    with pytest.raises(ValueError, match="knows mmd_test and energy_test, not fused_test"):
        power(x, y, 10, test=fused_test, method="asymptotic")
    with pytest.raises(ValueError, match="n must be at least 2"):
        power(x, y, 1)
    with pytest.raises(ValueError, match="unknown method"):
        power(x, y, 10, method="exact")
    with pytest.raises(ValueError, match=r"p-value in \[0, 1\]"):
        power(x, y, 10, test=lambda x, y: 3.0)
    with pytest.raises(ValueError, match="raise maximum"):
        sample_size(x, x, method="asymptotic", kernel=Linear(), maximum=100)
    with pytest.raises(ValueError, match="above the level"):
        sample_size(x, y, power=0.01)
