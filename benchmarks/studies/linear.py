"""Linear models reach their closed forms: VAE = pPCA, autoencoder = PCA, GLO = SVD."""

import torch
from record import Study
from torch import nn

from probmetrics.data import read
from probmetrics.models import GLO, VAE, Autoencoder, Batch, GaussianModel
from probmetrics.models.likelihoods import GaussianLikelihood

torch.set_num_threads(1)
LATENT = 5


def descend(model, loss):
    optimiser = torch.optim.LBFGS(
        model.parameters(),
        max_iter=400,
        history_size=100,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-13,
        tolerance_change=1e-16,
    )

    def closure():
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(10):
        optimiser.step(closure)
    return loss().item()


class Affine(nn.Module):
    """Mean affine in x, one log-variance for all points."""

    def __init__(self, d, k):
        super().__init__()
        self.mean, self.log_variance = nn.Linear(d, k), nn.Parameter(torch.zeros(k))

    def forward(self, x):
        mean = self.mean(x)
        return torch.cat([mean, self.log_variance.expand_as(mean)], -1)


def expected_bound(model, law, x):
    """The negative bound with E_q taken in closed form, which an affine decoder allows."""
    mean, log_variance, _ = model.posterior(x)
    spread = (model.decoder.weight.square() * log_variance.exp()[:1]).sum()
    explained = law.log_density(x, model.decoder(mean), 1).mean()
    kl = 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance).sum(-1).mean()
    return -explained + 0.5 * spread * torch.exp(-law.log_variance) + kl


def main():
    torch.manual_seed(0)
    x = torch.from_numpy(read("data:digits").values).double()
    x = x[:, x.std(0) > 0] / 16
    n, d = x.shape
    study = Study(
        "linear",
        "Linear models against their closed forms, on the digits",
        ["model", "quantity", "reached", "closed form", "difference"],
        notes=f"""
{n} digits, {d} pixels that vary, {LATENT} latent coordinates, float64, L-BFGS from random weights
(seed 0).
""",
    )
    law = GaussianLikelihood(0.3, learned="one")
    vae = VAE(Affine(d, LATENT), nn.Linear(LATENT, d), likelihood=law, shape=d, latent=LATENT)
    vae = vae.double()
    bound = -descend(vae, lambda: expected_bound(vae, law, x))
    exact = GaussianModel(d, components=LATENT).double()
    exact.solve(x)
    likelihood = exact.log_likelihood(x).mean().item()
    study.add("VAE", "nats per digit", bound, likelihood, f"{bound - likelihood:.2e}")
    noise, wanted = law.log_variance.exp().item(), exact.noise_sd.square().item()
    study.add("VAE", "noise variance", noise, wanted, f"{noise - wanted:.2e}")

    plain = Autoencoder(nn.Linear(d, LATENT), nn.Linear(LATENT, d), shape=d, latent=LATENT)
    plain = plain.double()
    reached = descend(plain, lambda: plain.loss(Batch(x)))
    tail = torch.linalg.svdvals(x - x.mean(0))[LATENT:].square().sum().item() / n
    study.add("autoencoder", "squared error", reached, tail, f"{reached - tail:.2e}")

    glo = GLO(
        nn.Linear(LATENT, d, bias=False), points=n, ball=False, shape=d, latent=LATENT
    ).double()
    everyone = Batch(x, index=torch.arange(n))
    reached = descend(glo, lambda: glo.loss(everyone))
    tail = torch.linalg.svdvals(x)[LATENT:].square().sum().item() / n
    study.add("GLO", "squared error", reached, tail, f"{reached - tail:.2e}")
    study.write()


if __name__ == "__main__":
    main()
