"""Mode collapse of the vanilla GAN trained by plain gradient descent, and its cures."""

import torch
from record import Study, seeded

from probmetrics.data.toys import ring_of_gaussians
from probmetrics.losses import MMDLoss
from probmetrics.models import GAN, GMMN, fit
from probmetrics.pairwise.kernels import gaussian_mixture

torch.set_num_threads(1)
SIZE = {"latent": 8, "hidden": (64, 64)}
STEPS = 1500


def sgd(rate):
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


def main():
    ring = ring_of_gaussians(sd=0.05)
    study = Study(
        "collapse",
        "Mode collapse of the vanilla GAN under gradient descent, and its cures",
        ["generator's loss", "optimiser", "critic", "seed", "modes of 8", "high quality"],
        notes=f"""
Ring of 8 modes, sd 0.05. 64-64 MLPs, 8 noise coordinates, {STEPS} steps on batches of 128. A mode
counts with 20 of 5,000 samples within 3 sd.
""",
    )
    mmd = MMDLoss(gaussian_mixture([0.05, 0.1, 0.25, 0.5, 1.0]))
    cases = [
        (
            "minimax",
            "SGD 0.05",
            "one point",
            sgd(0.05),
            lambda: GAN.build(2, saturating=True, **SIZE),
        ),
        ("non-saturating", "SGD 0.05", "one point", sgd(0.05), lambda: GAN.build(2, **SIZE)),
        ("non-saturating", "Adam 1e-3", "one point", None, lambda: GAN.build(2, **SIZE)),
        ("non-saturating", "Adam 1e-3", "packs of 4", None, lambda: GAN.build(2, packed=4, **SIZE)),
        (
            "Wasserstein",
            "Adam 1e-3",
            "penalty",
            None,
            lambda: GAN.build(2, objective="wgan", penalty=1.0, critic_steps=2, **SIZE),
        ),
        ("MMD", "Adam 1e-3", "none", None, lambda: GMMN.build(2, divergence=mmd, **SIZE)),
    ]
    for loss, name, critic, optimizer, build in cases:
        for seed in range(2):
            model = seeded(seed, build)
            fit(
                model,
                ring.sample,
                steps=STEPS,
                batch_size=128,
                optimizer=optimizer,
                ema=0.99,
                seed=seed,
                progress=False,
            )
            samples = model.sample(5000, generator=seed)
            near = torch.cdist(samples.double(), ring.means) <= 3 * 0.05
            modes = int((near.sum(0) >= 20).sum())
            share = ring.high_quality_share(samples).item()
            study.add(loss, name, critic, seed, modes, share)
    study.write()


if __name__ == "__main__":
    main()
