"""f-GANs fit one Gaussian to a mixture: do they find the optimum that quadrature finds?

python benchmarks/studies/fgan_toy.py        # one seed, two minutes of CPU; more seeds: 0 1 2
"""

import sys

import torch
from record import RESULTS, Study, seeded
from torch import nn

from probmetrics.data.toys import fgan_mixture
from probmetrics.divergences.family import JS, KL, Jeffrey, PearsonChi2, ReverseKL
from probmetrics.models import GAN, fit
from probmetrics.models.nets import MLP

torch.set_num_threads(1)
# Divergence from the mixture to the best Gaussian, by quadrature; its mean and deviation.
OPTIMA = {
    KL: (0.28297, 1.0100, 1.8311),
    ReverseKL: (0.24811, 1.5779, 1.6318),
    JS: (0.12804, 1.3068, 1.7545),
    Jeffrey: (0.57057, 1.3215, 1.7035),
    PearsonChi2: (0.64565, 0.5736, 1.9277),
}
STEPS = 4000
CLOSE, SLACK = 0.06, 0.005  # of the parameters, and of the bound above the optimum


class Gaussian(nn.Module):
    """μ + σ z."""

    def __init__(self):
        super().__init__()
        self.mean, self.log_sd = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, z):
        return self.mean + self.log_sd.exp() * z


def main(seeds):
    study = Study(
        "fgan_toy",
        "f-GAN: one Gaussian fitted to a mixture of two",
        ["row", "seed", "bound", "divergence", "optimum", "μ", "μ*", "σ", "σ*", "accepted"],
        notes=f"""
Data 0.33 N(−1, 0.255²) + 0.67 N(2, 1.415²), endless; model N(μ, σ²); critic 64-64 tanh;
saturating game, {STEPS} steps of Adam on batches of 1024, weights averaged (0.998). The bound of
the averaged critic, and the divergence at the μ, σ found, are integrated numerically; "js" is 2 JS.
Accepted: μ and σ within {CLOSE} of the optimum, the bound at most {SLACK} above it.
""",
    )
    mixture, fits, missed = fgan_mixture(), {}, 0
    for row, (value, mean, sd) in OPTIMA.items():
        for seed in seeds:
            model = seeded(seed, lambda row=row: build(row))
            fit(
                model,
                mixture.sample,
                steps=STEPS,
                batch_size=1024,
                learning_rate=2e-3,
                ema=0.998,
                clip=1.0,
                seed=seed,
                progress=False,
            )
            found = model.generator.mean.item(), model.generator.log_sd.exp().item()
            bound, reached = integrated(model, mixture, *found)
            near = max(abs(found[0] - mean), abs(found[1] - sd)) < CLOSE
            good = near and bound <= value + SLACK
            study.add(row.name, seed, bound, reached, value, found[0], mean, found[1], sd, good)
            fits.setdefault(row, []).append(found)
            missed += not good
    study.write(picture(mixture, fits))
    return missed


def picture(mixture, fits):
    """The fits over the data, and their parameters beside the optima."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    t = torch.linspace(-5, 8, 1001, dtype=torch.float64)
    left.fill_between(t, mixture.log_density(t[:, None]).exp(), color="0.85", label="data")
    for row, found in fits.items():
        (line,) = left.plot(t, torch.distributions.Normal(*found[0]).log_prob(t).exp(), lw=1.5)
        label = "2 JS" if row is JS else row.name
        right.scatter(*zip(*found, strict=True), marker="x", color=line.get_color(), label=label)
        box = plt.Rectangle(
            [v - CLOSE for v in OPTIMA[row][1:]], 2 * CLOSE, 2 * CLOSE, fill=False,
            edgecolor=line.get_color(),
        )  # fmt: skip
        right.add_patch(box)
    left.set(title="One normal for two, by five divergences", xlabel="t", ylabel="density")
    right.set(title=f"Found (×); within {CLOSE} of the optimum (□)", xlabel="μ", ylabel="σ")
    left.legend()
    right.legend()
    figure.savefig(RESULTS / "fgan_toy.png", dpi=110)
    return RESULTS / "fgan_toy.png"


@torch.no_grad()
def integrated(model, mixture, mean, sd):
    """The critic's bound, and the divergence at this mean and deviation, by quadrature."""
    t = torch.linspace(-12, 14, 100_001, dtype=torch.float64)
    step = float(t[1] - t[0])
    p = mixture.log_density(t[:, None]).exp()
    q = torch.distributions.Normal(mean, sd).log_prob(t).exp()
    row, score = model.divergence.objective.row, model.divergence.critic(t[:, None].float())[:, 0]
    bound = (p * row.activation(score) - q * row.composite(score)).sum() * step
    shown = (q > 1e-300) & (p > 1e-300)
    return bound.item(), (q[shown] * row.f(p[shown] / q[shown])).sum().item() * step


def build(row):
    critic = MLP(1, 1, hidden=(64, 64), activation="tanh")
    return GAN(
        Gaussian(), critic, objective=row, saturating=True, shape=1, latent=1, critic_steps=1
    )


if __name__ == "__main__":
    sys.exit(main([int(seed) for seed in sys.argv[1:]] or [0]))
