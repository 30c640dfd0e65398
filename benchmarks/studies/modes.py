"""Do generators find all modes of the ring of 8 and the grid of 25?"""

import argparse
import time

import torch
from record import RESULTS, Study, seeded

from probmetrics.data.toys import grid_of_gaussians, ring_of_gaussians
from probmetrics.losses import MMDLoss, SinkhornLoss
from probmetrics.models import GAN, GMMN, MMDGAN, SinkhornGenerator, fit
from probmetrics.pairwise.kernels import gaussian_mixture

torch.set_num_threads(1)
DATA = {"ring": ring_of_gaussians, "grid": grid_of_gaussians}
SCALE = {"ring": 1.0, "grid": 4.0}  # bandwidths in units of the radius or of the grid
SIZE = {"latent": 8, "hidden": (128, 128)}


def kernel(scale):
    return gaussian_mixture([scale * s for s in (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)])


def methods(scale):
    """Name: (build, steps, batch size)."""
    mmd, transport = MMDLoss(kernel(scale)), {"epsilon": 0.005 * scale**2, "tolerance": 1e-2}
    penalised = {"penalty": 1.0, **SIZE}
    return {
        "GAN": (lambda: GAN.build(2, **SIZE), 2000, 256),
        "PacGAN 4": (lambda: GAN.build(2, packed=4, **SIZE), 2000, 512),
        "WGAN-GP": (lambda: GAN.build(2, objective="wgan", critic_steps=3, **penalised), 700, 256),
        "MMD-GAN": (lambda: MMDGAN.build(2, features=8, **penalised), 500, 96),
        "GMMN": (lambda: GMMN.build(2, divergence=mmd, **SIZE), 1000, 256),
        "Sinkhorn": (
            lambda: SinkhornGenerator.build(2, divergence=SinkhornLoss(**transport), **SIZE),
            600,
            160,
        ),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--methods", default=None)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    toy, scale = DATA[options.data](), SCALE[options.data]
    total = len(toy.means)
    chosen = methods(scale)
    if options.methods:
        chosen = {name: chosen[name] for name in options.methods.split(",")}
    study = Study(
        f"modes_{options.data}",
        f"Modes covered on the {options.data} of {total}",
        ["method", "seed", "modes", "of", "high quality", "steps", "batch", "seconds"],
        notes="""
Generator and critic are 128-128 MLPs, 8 noise coordinates, Adam 1e-3, weights averaged (0.99). Of
10,000 samples, a mode counts with a sample within 3 sd; high quality is the share within 3 sd of a
mode (98.9% for the data themselves).
""",
    )
    pictures = {}
    for name, (build, steps, batch) in chosen.items():
        for seed in range(options.seeds):
            model = seeded(seed, build)
            began = time.process_time()
            fit(
                model,
                toy.sample,
                steps=steps,
                batch_size=batch,
                learning_rate=1e-3,
                ema=0.99,
                seed=seed,
                progress=False,
            )
            samples = model.sample(10_000, generator=seed)
            pictures.setdefault(name, samples[:2000])
            study.add(
                name,
                seed,
                int(toy.modes_covered(samples)),
                total,
                toy.high_quality_share(samples).item(),
                steps,
                batch,
                time.process_time() - began,
            )
    study.write(draw(options.data, toy, pictures))


def draw(name, toy, pictures):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    RESULTS.mkdir(exist_ok=True)
    pictures = {"data": toy.sample(2000, generator=0), **pictures}
    figure, axes = plt.subplots(1, len(pictures), figsize=(2.2 * len(pictures), 2.5))
    limit = 1.15 * float(toy.means.abs().max())
    for axis, (title, points) in zip(axes, pictures.items(), strict=True):
        axis.plot(*points.T, ".", markersize=1)
        axis.set(title=title, xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[])
        axis.set_aspect("equal")
    figure.tight_layout()
    path = RESULTS / f"modes_{name}.png"
    figure.savefig(path, dpi=110)
    return path


if __name__ == "__main__":
    main()
