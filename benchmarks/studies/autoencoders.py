"""WAE-MMD and WAE-GAN against the VAE on digits: samples, reconstructions, matched codes."""

import numpy as np
import torch
from record import RESULTS, Study, seeded

from probmetrics.data import read
from probmetrics.discrepancy import mmd
from probmetrics.gaussian import frechet_distance
from probmetrics.losses import imq_kernel
from probmetrics.models import VAE, WAE, GaussianModel, fit
from probmetrics.models.likelihoods import GaussianLikelihood
from probmetrics.report.training import write_grid

torch.set_num_threads(1)
LATENT, STEPS = 8, 2000
SIZE = {"latent": LATENT, "hidden": (256, 256)}


def main():
    x = torch.from_numpy(read("data:digits").values).float() / 16
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = x[order[:1400]], x[order[1400:]]
    study = Study(
        "autoencoders",
        "VAE, WAE-MMD and WAE-GAN on the 8 × 8 digits",
        ["model", "seed", "Fréchet distance", "held-out error", "MMD² of codes"],
        notes=f"""
1,400 digits to train on, 397 held out; {LATENT} codes, 256-256 MLPs, {STEPS} steps of Adam 1e-3 on
batches of 128, weights averaged (0.999). Fréchet distance between 1,400 samples and the training
digits, on raw pixels in [0, 1]; error is ‖x − x̂‖² per held-out digit; MMD² is unbiased, between the
codes of the held-out digits (drawn, for the VAE) and as many draws of the prior, with the IMQ
kernel of one scale. The penalty of WAE-GAN weighs the squared slope of its critic.
""",
    )
    builds = {
        "VAE, σ learned": lambda: VAE.build(64, likelihood="gaussian one", **SIZE),
        "VAE, σ = 0.3": lambda: VAE.build(64, likelihood=GaussianLikelihood(0.3), **SIZE),
        "WAE-MMD, λ = 10": lambda: WAE.build(64, weight=10.0, **SIZE),
        "WAE-GAN, λ = 1, no penalty": lambda: WAE.adversarial(64, penalty=None, **SIZE),
        "WAE-GAN, λ = 1, penalty 1": lambda: WAE.adversarial(64, penalty=1.0, **SIZE),
        "WAE-GAN, λ = 1, penalty 0.1": lambda: WAE.adversarial(64, penalty=0.1, **SIZE),
    }
    sheets = {"digits": train[:32]}
    for name, build in builds.items():
        for seed in range(2):
            model = seeded(seed, build)
            fit(model, train, steps=STEPS, ema=0.999, seed=seed, progress=False)
            drawn = model.sample(1400, generator=seed)
            sheets.setdefault(name, drawn[:32])
            study.add(name, seed, *measured(model, drawn, train, test))
    whole = GaussianModel(64, components=40)
    whole.solve(train)
    drawn = whole.sample(1400, generator=0)
    error = (whole.reconstruct(test) - test).square().sum(-1).mean().item()
    study.add("Gaussian, 40 axes", 0, frechet_distance(train, drawn).item(), error, "–")
    rows = [sheet.reshape(2, 16, 8, 8).movedim(2, 1).reshape(16, 128) for sheet in sheets.values()]
    picture = np.concatenate([np.pad(row.numpy(), ((0, 2), (0, 0))) for row in rows])
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "autoencoders.png"
    write_grid(picture[None], path, top=1.0)
    study.notes += f"\nRows of the picture, two each: {', '.join(sheets)}.\n"
    study.write(path)


@torch.no_grad()
def measured(model, drawn, train, test):
    """Fréchet distance, reconstruction error, aggregated-posterior MMD²."""
    codes = model.encode(test)
    if isinstance(model, VAE):
        mean, log_variance, _ = model.posterior(test)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(3))
        codes = mean + torch.exp(0.5 * log_variance) * noise
    prior = torch.randn(codes.shape, generator=torch.Generator().manual_seed(4))
    error = (model.reconstruct(test) - test).square().sum(-1).mean()
    gap = mmd(prior, codes, kernel=imq_kernel(LATENT, scales=[1.0]))
    return frechet_distance(train, drawn).item(), error.item(), gap.item()


if __name__ == "__main__":
    main()
