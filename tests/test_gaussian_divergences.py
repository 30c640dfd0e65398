"""Closed forms between Gaussian laws, full, diagonal and low-rank, and between mixtures."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.autograd import gradcheck

from probmetrics import gaussian
from probmetrics.gaussian import Gaussian
from probmetrics.transport.mixtures import mixture_wasserstein

DENSITY = {
    "kl": gaussian.gaussian_kl,
    "renyi_half": lambda p, q: gaussian.gaussian_renyi(p, q, alpha=0.5),
    "renyi_1.2": lambda p, q: gaussian.gaussian_renyi(p, q, alpha=1.2),
    "bhattacharyya": gaussian.gaussian_bhattacharyya,
    "hellinger": gaussian.gaussian_hellinger,
    "chi2": gaussian.gaussian_chi2,
    "neyman": lambda p, q: gaussian.gaussian_chi2(p, q, kind="neyman"),
}
ANY = {
    **DENSITY,
    "mmd": lambda p, q: gaussian.gaussian_mmd(p, q, bandwidth=0.7),
    "wasserstein": gaussian.gaussian_wasserstein,
}
LINE = {"energy": gaussian.gaussian_energy_distance, "variation": gaussian.gaussian_total_variation}
MIXTURE = {
    "variational": gaussian.mixture_kl_variational,
    "product": gaussian.mixture_kl_product,
    "upper": gaussian.mixture_kl_upper,
    "wasserstein": mixture_wasserstein,
}


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def near(d, seed, batch=()):
    """Diagonal and rank-2 parts of a covariance near the identity, so that every χ² exists."""
    diagonal = 1 + 0.2 * normal(*batch, d, seed=seed).tanh()
    return diagonal, 0.2 * normal(*batch, d, 2, seed=seed + 50)


def dense(diagonal, factor):
    return torch.diag_embed(diagonal) + factor @ factor.mT


def forms(seed, d=5, batch=()):
    """The same law, held in full and as diagonal plus low rank; and a diagonal one."""
    mean = 0.3 * normal(*batch, d, seed=seed + 90)
    diagonal, factor = near(d, seed, batch)
    return {
        "full": Gaussian(mean, covariance=dense(diagonal, factor)),
        "low_rank": Gaussian(mean, diagonal=diagonal, factor=factor),
        "diagonal": Gaussian(mean, diagonal=diagonal),
    }


def as_full(law):
    if law.covariance is not None:
        return law
    factor = law.factor if law.factor is not None else torch.zeros(*law.mean.shape, 1).double()
    return Gaussian(law.mean, covariance=dense(law.diagonal, factor))


# N(0, 1) against N(1, σ²).
TABLE = {
    "kl": (gaussian.gaussian_kl, 0.5, 0.44314718),
    "reverse": (lambda p, q: gaussian.gaussian_kl(q, p), 0.5, 1.30685282),
    "tv": (gaussian.gaussian_total_variation, 0.38292492, 0.39006566),
    "pearson": (gaussian.gaussian_chi2, 1.71828183, 0.74402634),
    "hellinger": (gaussian.gaussian_hellinger, 0.11750310, 0.14919454),
    "renyi_half": (lambda p, q: gaussian.gaussian_renyi(p, q, alpha=0.5), 0.25, 0.32314355),
    "renyi_2": (lambda p, q: gaussian.gaussian_renyi(p, q, alpha=2), 1.0, 0.55619643),
    "w2": (lambda p, q: gaussian.gaussian_wasserstein(p, q, root=False), 1.0, 2.0),
    "energy": (gaussian.gaussian_energy_distance, 0.54180658, 0.53410532),
    "mmd": (lambda p, q: gaussian.gaussian_mmd(p, q, bandwidth=1.0), 0.17726763, 0.15947048),
}


@pytest.mark.parametrize("form", ["covariance", "diagonal"])
@pytest.mark.parametrize("name", TABLE)
def test_published_values(name, form):
    function, *expected = TABLE[name]
    wrap = (lambda v: [[v]]) if form == "covariance" else (lambda v: [v])
    for sd, value in zip((1.0, 2.0), expected, strict=True):
        p, q = Gaussian([0.0], **{form: wrap(1.0)}), Gaussian([1.0], **{form: wrap(sd**2)})
        assert function(p, q) == pytest.approx(value, abs=6e-9)


class TestAgainstQuadratureAndTorch:
    @pytest.mark.parametrize(("mean", "sd"), [(0.3, 1.3), (-2.0, 0.4), (1.5, 1.0)])
    def test_densities_on_the_line(self, mean, sd):
        p, q = stats.norm(0.5, 0.8), stats.norm(mean, sd)
        laws = Gaussian([0.5], diagonal=[0.64]), Gaussian([mean], diagonal=[sd**2])

        def integral(f):
            return integrate.quad(f, -12, 12, limit=500, points=[0, mean])[0]

        assert gaussian.gaussian_kl(*laws) == pytest.approx(
            integral(lambda t: p.pdf(t) * (p.logpdf(t) - q.logpdf(t))), rel=1e-7
        )
        assert gaussian.gaussian_renyi(*laws, alpha=0.3) == pytest.approx(
            math.log(integral(lambda t: p.pdf(t) ** 0.3 * q.pdf(t) ** 0.7)) / (0.3 - 1), rel=1e-7
        )
        assert gaussian.gaussian_total_variation(*laws) == pytest.approx(
            integral(lambda t: abs(p.pdf(t) - q.pdf(t))) / 2, rel=1e-6
        )
        assert gaussian.gaussian_hellinger(*laws) == pytest.approx(
            integral(lambda t: (p.pdf(t) ** 0.5 - q.pdf(t) ** 0.5) ** 2) / 2, rel=1e-7
        )
        assert gaussian.gaussian_energy_distance(*laws) == pytest.approx(
            2 * integral(lambda t: (p.cdf(t) - q.cdf(t)) ** 2), rel=1e-6
        )

    def test_kl_agrees_with_torch(self):
        p, q = (forms(seed)["full"] for seed in (1, 2))
        kind = torch.distributions.MultivariateNormal
        expected = torch.distributions.kl_divergence(
            kind(p.mean, p.covariance), kind(q.mean, q.covariance)
        )
        torch.testing.assert_close(gaussian.gaussian_kl(p, q), expected)

    def test_chi2_and_mmd_by_sampling_exactly_known_integrals(self):
        # ∫p²/q and E k(X, Y) in two dimensions on a grid.
        p, q = (as_full(forms(seed, d=2)["full"]) for seed in (1, 2))
        axis = torch.linspace(-9, 9, 361, dtype=torch.float64)
        points = torch.cartesian_prod(axis, axis)
        cell = (axis[1] - axis[0]) ** 2
        kind = torch.distributions.MultivariateNormal
        log_p = kind(p.mean, p.covariance).log_prob(points)
        log_q = kind(q.mean, q.covariance).log_prob(points)
        expected = (2 * log_p - log_q).exp().sum() * cell - 1
        torch.testing.assert_close(gaussian.gaussian_chi2(p, q), expected)
        coarse = points.reshape(361, 361, 2)[::9, ::9].reshape(-1, 2)
        mass = (log_p.exp() - log_q.exp()).reshape(361, 361)[::9, ::9].reshape(-1) * cell * 81
        kernel = (-torch.cdist(coarse, coarse).square() / (2 * 0.7**2)).exp()
        torch.testing.assert_close(
            gaussian.gaussian_mmd(p, q, bandwidth=0.7), mass @ kernel @ mass, rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("name", ANY)
class TestEveryForm:
    @pytest.mark.parametrize("form_p", ["full", "low_rank", "diagonal"])
    @pytest.mark.parametrize("form_q", ["full", "low_rank", "diagonal"])
    def test_forms_agree_with_full(self, name, form_p, form_q):
        p, q = forms(1)[form_p], forms(2)[form_q]
        torch.testing.assert_close(ANY[name](p, q), ANY[name](as_full(p), as_full(q)))

    @pytest.mark.parametrize("form", ["full", "low_rank", "diagonal"])
    def test_gradcheck(self, name, form):
        def divergence(mean_p, d_p, w_p, mean_q, d_q, w_q):
            laws = []
            for mean, d, w in ((mean_p, d_p, w_p), (mean_q, d_q, w_q)):
                if form == "full":
                    laws.append(Gaussian(mean, covariance=dense(d, w)))
                else:
                    laws.append(
                        Gaussian(mean, diagonal=d, factor=w if form == "low_rank" else None)
                    )
            return ANY[name](*laws)

        inputs = [0.3 * normal(3, seed=9), *near(3, 1), 0.3 * normal(3, seed=8), *near(3, 2)]
        for tensor in inputs:
            tensor.requires_grad_()
        if form == "diagonal":
            inputs[2].requires_grad_(False)
            inputs[5].requires_grad_(False)
        assert gradcheck(divergence, inputs)

    @pytest.mark.parametrize("form", ["full", "low_rank", "diagonal"])
    def test_zero_at_equality_with_finite_gradient(self, name, form):
        p = forms(3)[form]
        arrays = {key: value.clone().requires_grad_() for key, value in p.arrays().items()}
        value = ANY[name](Gaussian(**arrays), p)
        assert abs(value.item()) < (1e-6 if name == "wasserstein" else 1e-13)
        for gradient in torch.autograd.grad(value, tuple(arrays.values())):
            assert gradient.isfinite().all()
            if name != "wasserstein":
                assert gradient.abs().max() < 1e-11

    def test_batched_is_looped(self, name):
        for form in ("full", "low_rank", "diagonal"):
            p, q = forms(1, batch=(2, 1))[form], forms(2, batch=(3,))[form]
            values = ANY[name](p, q)
            assert values.shape == (2, 3)
            for i in range(2):
                for j in range(3):
                    one_p = Gaussian(**{k: v[i, 0] for k, v in p.arrays().items()})
                    one_q = Gaussian(**{k: v[j] for k, v in q.arrays().items()})
                    torch.testing.assert_close(values[i, j], ANY[name](one_p, one_q))

    def test_numpy_is_torch_and_float32_stays(self, name):
        p, q = forms(1)["low_rank"], forms(2)["full"]
        expected = ANY[name](p, q)
        as_numpy = [Gaussian(**{k: v.numpy() for k, v in law.arrays().items()}) for law in (p, q)]
        value = ANY[name](*as_numpy)
        assert isinstance(value, float)
        assert value == pytest.approx(expected.item())
        single = [Gaussian(**{k: v.float() for k, v in law.arrays().items()}) for law in (p, q)]
        value = ANY[name](*single)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)

    def test_translation_and_rotation(self, name):
        p, q = forms(1)["full"], forms(2)["full"]
        rotation = torch.linalg.qr(normal(5, 5))[0]

        def moved(law):
            return Gaussian(
                rotation @ law.mean + 1e4, covariance=rotation @ law.covariance @ rotation.T
            )

        torch.testing.assert_close(
            ANY[name](moved(p), moved(q)), ANY[name](p, q), rtol=1e-7, atol=1e-9
        )


class TestDomainsAndEdges:
    def test_infinite_outside_the_domain(self):
        narrow = Gaussian(torch.zeros(2, 1), diagonal=torch.tensor([[1.0], [2.5]]))
        wide = Gaussian(torch.zeros(1), diagonal=torch.ones(1, requires_grad=True))
        values = gaussian.gaussian_chi2(narrow, wide)
        assert values[0] == 0
        assert values[1] == math.inf
        (gradient,) = torch.autograd.grad(values.sum(), wide.diagonal)
        assert gradient.isfinite().all()
        full = Gaussian(torch.zeros(2), covariance=torch.diag(torch.tensor([1.0, 3.0])))
        eye = Gaussian(torch.zeros(2), covariance=torch.eye(2))
        assert gaussian.gaussian_chi2(full, eye) == math.inf
        assert gaussian.gaussian_chi2(full, eye, kind="neyman") < math.inf
        assert gaussian.gaussian_renyi(full, eye, alpha=1.4) < math.inf
        assert gaussian.gaussian_renyi(full, eye, alpha=1.6) == math.inf

    def test_relations(self):
        p, q = forms(1)["low_rank"], forms(2)["low_rank"]
        close = torch.testing.assert_close
        close(gaussian.gaussian_renyi(p, q, alpha=1), gaussian.gaussian_kl(p, q))
        close(
            gaussian.gaussian_renyi(p, q, alpha=1 - 1e-7),
            gaussian.gaussian_kl(p, q),
            rtol=1e-5,
            atol=0,
        )
        close(gaussian.gaussian_renyi(p, q, alpha=0.5), 2 * gaussian.gaussian_bhattacharyya(p, q))
        close(gaussian.gaussian_hellinger(p, q, root=True) ** 2, gaussian.gaussian_hellinger(p, q))
        close(gaussian.gaussian_chi2(p, q, kind="neyman"), gaussian.gaussian_chi2(q, p))
        close(
            gaussian.gaussian_mmd(p, q, bandwidth=1, root=True) ** 2,
            gaussian.gaussian_mmd(p, q, bandwidth=1),
        )
        close(
            gaussian.gaussian_wasserstein(p, q) ** 2,
            gaussian.gaussian_wasserstein(p, q, root=False),
        )

    def test_kl_between_laws_that_nearly_agree(self):
        # KL ≈ ¼ ‖δ‖² for covariances I and I + δ: far below the rounding of its terms.
        delta = 1e-9 * normal(6, 6)
        delta = delta + delta.T
        mean, eye = torch.zeros(6).double(), torch.eye(6).double()
        value = gaussian.gaussian_kl(
            Gaussian(mean, covariance=eye + delta), Gaussian(mean, covariance=eye)
        )
        off = delta.tril(-1).square().sum() / 2
        assert 0 <= value <= 1.01 * (off + 1e-15)

    def test_512_dimensions(self):
        d = 512
        diagonal = torch.logspace(-6, 0, d, dtype=torch.float64)
        factor = normal(d, 4)
        low = [Gaussian(normal(d, seed=s), diagonal=diagonal * s, factor=factor) for s in (1, 2)]
        full = [as_full(law) for law in low]
        for name in ("kl", "bhattacharyya", "chi2"):
            torch.testing.assert_close(
                DENSITY[name](*low), DENSITY[name](*full), rtol=1e-7, atol=1e-7
            )

    def test_strong_low_rank_part_keeps_its_digits(self):
        diagonal, factor = torch.full((3,), 1e-3).double(), 1e4 * torch.eye(3, 1).double()
        gap = torch.tensor([1e4, 0.0, 0.0]).double()
        p = Gaussian(gap, diagonal=diagonal, factor=factor)
        q = Gaussian(torch.zeros(3).double(), diagonal=diagonal, factor=factor)
        assert gaussian.gaussian_kl(p, q).item() == pytest.approx(0.5, rel=1e-7)

    @pytest.mark.parametrize("name", LINE)
    def test_line_gradcheck(self, name):
        inputs = [
            torch.tensor(column, dtype=torch.float64)[:, None].requires_grad_()
            for column in ([0.3, 0, 0, 1], [1.0, 2, 1, 1], [1.0, 0.5, 0, -1], [1.7, 2, 3, 0.2])
        ]

        def distance(mean_p, var_p, mean_q, var_q):
            return LINE[name](
                Gaussian(mean_p, diagonal=var_p), Gaussian(mean_q, covariance=var_q[..., None])
            )

        assert gradcheck(distance, inputs)

    @pytest.mark.parametrize("name", LINE)
    def test_line_symmetry_equality_and_nearly_equal_variances(self, name):
        p, q = Gaussian([0.2], diagonal=[1.0]), Gaussian([0.9], diagonal=[2.0])
        assert LINE[name](p, q) == pytest.approx(LINE[name](q, p), rel=1e-13)
        mean, var = torch.zeros(1, requires_grad=True), torch.ones(1, requires_grad=True)
        value = LINE[name](
            Gaussian(mean, diagonal=var), Gaussian(torch.zeros(1), diagonal=torch.ones(1))
        )
        assert abs(value.item()) < 1e-15
        assert all(g.abs().max() < 1e-7 for g in torch.autograd.grad(value, (mean, var)))
        exact = LINE[name](Gaussian([0.0], diagonal=[1.0]), Gaussian([1.0], diagonal=[1.0]))
        for change in (1e-15, 1e-12, -1e-9):
            other = Gaussian([1.0], diagonal=[1.0 + change])
            assert LINE[name](Gaussian([0.0], diagonal=[1.0]), other) == pytest.approx(
                exact, abs=2 * abs(change) + 1e-15
            )

    def test_energy_with_no_variance(self):
        p, q = Gaussian([0.0], diagonal=[0.0]), Gaussian([3.0], diagonal=[0.0])
        assert gaussian.gaussian_energy_distance(p, q) == 6
        assert gaussian.gaussian_energy_distance(p, q, root=True) == pytest.approx(6**0.5)

    def test_singular_laws_where_no_density_is_needed(self):
        p = Gaussian([0.0, 0.0], diagonal=[1.0, 0.0])
        q = Gaussian([0.0, 1.0], covariance=[[1.0, 0.0], [0.0, 0.0]])
        assert gaussian.gaussian_wasserstein(p, q) == pytest.approx(1)
        expected = 2 * (1 - math.exp(-0.5)) / 3**0.5
        assert gaussian.gaussian_mmd(p, q, bandwidth=1.0) == pytest.approx(expected)
        for function in DENSITY.values():
            with pytest.raises(ValueError, match=r"covariance of . is not positive definite"):
                function(p, q)

    def test_laws_from_distributions(self):
        kinds = torch.distributions
        mean, scale = normal(2, 3), normal(2, 3, seed=1).exp()
        independent = Gaussian.of(kinds.Independent(kinds.Normal(mean, scale), 1))
        one_by_one = Gaussian.of(kinds.Normal(mean, scale))
        full = Gaussian.of(kinds.MultivariateNormal(mean, torch.diag_embed(scale**2)))
        low = Gaussian.of(
            kinds.LowRankMultivariateNormal(mean, torch.zeros(2, 3, 1).double(), scale**2)
        )
        q = Gaussian(torch.zeros(3).double(), diagonal=torch.ones(3).double())
        expected = gaussian.gaussian_kl(full, q)
        torch.testing.assert_close(gaussian.gaussian_kl(independent, q), expected)
        torch.testing.assert_close(gaussian.gaussian_kl(low, q), expected)
        line = Gaussian(torch.zeros(1).double(), diagonal=torch.ones(1).double())
        torch.testing.assert_close(gaussian.gaussian_kl(one_by_one, line).sum(-1), expected)
        with pytest.raises(TypeError, match="Laplace is not a Gaussian"):
            Gaussian.of(kinds.Laplace(0.0, 1.0))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"mean": [0.0]}, "neither"),
            ({"mean": [0.0], "covariance": [[1.0]], "diagonal": [1.0]}, "both"),
            ({"mean": [0.0], "covariance": [[1.0]], "factor": [[1.0]]}, "factor= goes with"),
            ({"mean": 0.0 * np.ones(()), "diagonal": [1.0]}, "mean must have shape"),
            ({"mean": [0.0], "diagonal": [1.0, 2.0]}, "diagonal must have shape"),
            ({"mean": [0.0, 0.0], "diagonal": [1.0, 1.0], "factor": [[1.0]]}, "factor must have"),
            ({"mean": [0.0], "diagonal": [-1.0]}, "negative variances"),
            ({"mean": [float("nan")], "diagonal": [1.0]}, "mean holds nan"),
            ({"mean": [0.0, 0.0], "covariance": [[1.0, 1.0], [0.0, 1.0]]}, "not symmetric"),
            ({"mean": np.zeros((2, 1)), "diagonal": np.ones((3, 1))}, "do not broadcast"),
        ],
    )
    def test_bad_laws(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            Gaussian(**arguments)

    def test_bad_arguments(self):
        p, q = Gaussian([0.0], diagonal=[1.0]), Gaussian([0.0, 0.0], diagonal=[1.0, 1.0])
        with pytest.raises(TypeError, match="p must be a Gaussian, got list"):
            gaussian.gaussian_kl([0.0], p)
        with pytest.raises(ValueError, match="same number of coordinates"):
            gaussian.gaussian_kl(p, q)
        with pytest.raises(TypeError, match="one kind"):
            gaussian.gaussian_kl(p, Gaussian(torch.zeros(1), diagonal=torch.ones(1)))
        with pytest.raises(TypeError, match="one kind"):
            Gaussian(torch.zeros(1), diagonal=[1.0])
        with pytest.raises(ValueError, match="unknown kind"):
            gaussian.gaussian_chi2(p, p, kind="other")
        with pytest.raises(ValueError, match="alpha must be above zero"):
            gaussian.gaussian_renyi(p, p, alpha=-1)
        with pytest.raises(ValueError, match="bandwidth must be above zero"):
            gaussian.gaussian_mmd(p, p, bandwidth=0)
        with pytest.raises(ValueError, match="holds on the line"):
            gaussian.gaussian_energy_distance(q, q)
        assert repr(q) == "Gaussian(d=2, batch=(), diagonal)"


def mixture(seed, k, d=2, batch=()):
    diagonal, factor = near(d, seed, (*batch, k))
    return Gaussian(2 * normal(*batch, k, d, seed=seed), covariance=dense(diagonal, factor))


def density(law, weights):
    kinds = torch.distributions
    parts = kinds.MultivariateNormal(law.mean, law.covariance)
    return kinds.MixtureSameFamily(kinds.Categorical(weights), parts)


class TestMixtures:
    def setup_method(self):
        self.p, self.q = mixture(1, 3), mixture(2, 4)
        self.a, self.b = normal(3).softmax(-1), normal(4, seed=1).softmax(-1)

    def truth(self, p, q, a, b):
        axis = torch.linspace(-11, 11, 441, dtype=torch.float64)
        points = torch.cartesian_prod(axis, axis)
        log_p, log_q = density(p, a).log_prob(points), density(q, b).log_prob(points)
        return ((log_p - log_q) * log_p.exp()).sum() * (axis[1] - axis[0]) ** 2

    def test_upper_bound(self):
        for seed in range(3):
            p, q = mixture(seed, 3), mixture(seed + 20, 4)
            truth = self.truth(p, q, self.a, self.b)
            upper = gaussian.mixture_kl_upper(p, q, a=self.a, b=self.b)
            table = gaussian.gaussian_kl(p.with_axis(False), q.with_axis(True))
            convexity = self.a @ table @ self.b
            assert truth <= upper <= convexity + 1e-9
            loose = gaussian.mixture_kl_upper(p, q, a=self.a, b=self.b, max_steps=1)
            assert upper <= loose + 1e-9

    def test_upper_bound_is_no_more_than_any_matching(self):
        p, q = mixture(1, 3), mixture(5, 3)
        table = gaussian.gaussian_kl(p.with_axis(False), q.with_axis(True))
        b = self.a.flip(0)
        upper = gaussian.mixture_kl_upper(p, q, a=self.a, b=b)
        for order in ([0, 1, 2], [1, 2, 0], [2, 1, 0]):
            matched = (self.a * (self.a.log() - b[order].log() + table[range(3), order])).sum()
            assert upper <= matched + 1e-9

    def test_formulas_of_the_approximations(self):
        kind = torch.distributions.MultivariateNormal
        variational, product = 0.0, 0.0
        for i in range(3):

            def kl(q, j, i=i):
                return torch.distributions.kl_divergence(
                    kind(self.p.mean[i], self.p.covariance[i]), kind(q.mean[j], q.covariance[j])
                )

            def overlap(q, j, i=i):
                both = kind(q.mean[j], self.p.covariance[i] + q.covariance[j])
                return both.log_prob(self.p.mean[i]).exp()

            top = sum(self.a[j] * (-kl(self.p, j)).exp() for j in range(3))
            bottom = sum(self.b[j] * (-kl(self.q, j)).exp() for j in range(4))
            variational = variational + self.a[i] * (top / bottom).log()
            top = sum(self.a[j] * overlap(self.p, j) for j in range(3))
            bottom = sum(self.b[j] * overlap(self.q, j) for j in range(4))
            product = product + self.a[i] * (top / bottom).log()
        weights = {"a": self.a, "b": self.b}
        close = torch.testing.assert_close
        close(gaussian.mixture_kl_variational(self.p, self.q, **weights), variational)
        close(gaussian.mixture_kl_product(self.p, self.q, **weights), product)

    def test_single_components(self):
        p, q = mixture(1, 1), mixture(2, 1)
        one_p, one_q = (Gaussian(law.mean[0], covariance=law.covariance[0]) for law in (p, q))
        close = torch.testing.assert_close
        close(gaussian.mixture_kl_variational(p, q), gaussian.gaussian_kl(one_p, one_q))
        close(gaussian.mixture_kl_upper(p, q), gaussian.gaussian_kl(one_p, one_q))
        close(mixture_wasserstein(p, q), gaussian.gaussian_wasserstein(one_p, one_q))

    def test_wasserstein_is_the_linear_programme(self):
        import ot

        table = gaussian.gaussian_wasserstein(
            self.p.with_axis(False), self.q.with_axis(True), root=False
        )
        expected = ot.emd2(self.a.numpy(), self.b.numpy(), table.numpy())
        value = mixture_wasserstein(self.p, self.q, a=self.a, b=self.b, root=False)
        assert value.item() == pytest.approx(expected)
        assert mixture_wasserstein(self.p, self.q, a=self.a, b=self.b) == value.sqrt()

    @pytest.mark.parametrize("name", MIXTURE)
    def test_zero_at_equality(self, name):
        order = [2, 0, 1]
        same = Gaussian(self.p.mean[order], covariance=self.p.covariance[order])
        value = MIXTURE[name](self.p, same, a=self.a, b=self.a[order])
        assert abs(value.item()) < 1e-6

    @pytest.mark.parametrize("name", MIXTURE)
    def test_gradcheck(self, name):
        def distance(mean_p, factor_p, a, mean_q, factor_q, b):
            eye = torch.eye(2).double()
            p = Gaussian(mean_p, covariance=eye + factor_p @ factor_p.mT)
            q = Gaussian(mean_q, covariance=eye + factor_q @ factor_q.mT)
            options = {"tolerance": 1e-14} if name == "upper" else {}
            return MIXTURE[name](p, q, a=a.softmax(-1), b=b.softmax(-1), **options)

        inputs = [normal(2, 2), 0.3 * normal(2, 2, 2), normal(2)]
        inputs += [normal(3, 2, seed=1), 0.3 * normal(3, 2, 2, seed=1), normal(3, seed=1)]
        assert gradcheck(distance, [t.requires_grad_() for t in inputs])

    @pytest.mark.parametrize("name", MIXTURE)
    def test_batches_zero_weights_numpy_and_far_components(self, name):
        p, q = mixture(1, 3, batch=(2, 1)), mixture(2, 2, batch=(3,))
        b = torch.tensor([0.25, 0.75])
        values = MIXTURE[name](p, q, b=b.double())
        assert values.shape == (2, 3)
        for i in range(2):
            for j in range(3):
                one_p = Gaussian(p.mean[i, 0], covariance=p.covariance[i, 0])
                one_q = Gaussian(q.mean[j], covariance=q.covariance[j])
                one = MIXTURE[name](one_p, one_q, b=b)
                torch.testing.assert_close(values[i, j], one)
        as_numpy = [
            Gaussian(law.mean.numpy(), covariance=law.covariance.numpy()) for law in (one_p, one_q)
        ]
        assert MIXTURE[name](*as_numpy, b=[0.25, 0.75]) == pytest.approx(one.item())
        # A component without weight counts for nothing, also with its gradient.
        weights = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64, requires_grad=True)
        value = MIXTURE[name](one_p, one_q, a=weights)
        kept = Gaussian(one_p.mean[[0, 2]], covariance=one_p.covariance[[0, 2]])
        torch.testing.assert_close(value, MIXTURE[name](kept, one_q), rtol=1e-6, atol=1e-8)
        assert torch.autograd.grad(value, weights)[0].isfinite().all()
        far = Gaussian(one_q.mean + 1e3, covariance=one_q.covariance)
        assert torch.isfinite(MIXTURE[name](one_p, far))
        # All weight on components whose exponentials underflow beside one without weight.
        both = Gaussian(
            *(
                torch.cat([near, there])
                for near, there in zip(
                    (one_q.mean, one_q.covariance), (far.mean, far.covariance), strict=True
                )
            )
        )
        weights = torch.tensor([0.0, 0.0, 0.25, 0.75], dtype=torch.float64)
        value = MIXTURE[name](one_p, both, b=weights)
        torch.testing.assert_close(value, MIXTURE[name](one_p, far, b=weights[2:]))

    def test_bad_input(self):
        with pytest.raises(ValueError, match="components of a mixture"):
            gaussian.mixture_kl_upper(
                Gaussian([0.0], diagonal=[1.0]), Gaussian([0.0], diagonal=[1.0])
            )
        with pytest.raises(ValueError, match="sums to"):
            mixture_wasserstein(self.p, self.q, a=torch.ones(3))
        with pytest.raises(ValueError, match="one weight per point"):
            gaussian.mixture_kl_product(self.p, self.q, b=self.a)
        with pytest.raises(TypeError, match="one kind"):
            gaussian.mixture_kl_variational(self.p, self.q, a=self.a.numpy())
