"""f-GANs fit one Gaussian to a mixture: do they find the optimum that quadrature finds?"""

import torch
from record import Study, seeded
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


class Gaussian(nn.Module):
    """μ + σ z."""

    def __init__(self):
        super().__init__()
        self.mean, self.log_sd = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, z):
        return self.mean + self.log_sd.exp() * z


def main():
    study = Study(
        "fgan_toy",
        "f-GAN: one Gaussian fitted to a mixture of two",
        ["row", "seed", "bound", "divergence", "optimum", "μ", "μ*", "σ", "σ*", "within 0.06"],
        notes=f"""
Data 0.33 N(−1, 0.255²) + 0.67 N(2, 1.415²), endless; model N(μ, σ²); critic 64-64 tanh;
saturating game, {STEPS} steps of Adam on batches of 1024, weights averaged (0.998). The bound of
the averaged critic, and the divergence at the μ, σ found, are integrated numerically; "js" is 2 JS.
""",
    )
    mixture = fgan_mixture()
    for row, (value, mean, sd) in OPTIMA.items():
        for seed in (0, 1):
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
            near = max(abs(found[0] - mean), abs(found[1] - sd)) <= 0.06
            study.add(row.name, seed, bound, reached, value, found[0], mean, found[1], sd, near)
    study.write()


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
    main()
