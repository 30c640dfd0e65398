"""Mode collapse of the vanilla GAN trained by plain gradient descent, and its cures."""

import torch
from record import RESULTS, Study, seeded

from probmetrics.data.toys import ring_of_gaussians
from probmetrics.losses import MMDLoss
from probmetrics.models import GAN, GMMN, fit
from probmetrics.pairwise.kernels import gaussian_mixture

torch.set_num_threads(1)
SIZE = {"latent": 8, "hidden": (64, 64)}
STEPS, EVERY, SD = 2000, 250, 0.05


def descent(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def main():
    ring = ring_of_gaussians(sd=SD)
    times = list(range(EVERY, STEPS + 1, EVERY))
    study = Study(
        "collapse",
        "Mode collapse of the vanilla GAN under gradient descent, and its cures",
        ["model", "optimiser", "seed", *(f"modes at {t}" for t in times), "high quality"],
        notes=f"""
Ring of 8 modes, sd {SD}. 64-64 MLPs, 8 noise coordinates, batches of 128, weights as they are (no
average). A mode counts with 20 of 5,000 samples within 3 sd; high quality is the share of the last
samples within 3 sd of a mode. The vanilla GAN finds modes, gives them up for a few, and is left
with one or none between which it jumps; a penalty on the slope of its critic, with the same
optimiser, cures it, though not under Adam; a Wasserstein critic holds all modes, and so does the
GMMN, which is no game. Packs delay the collapse. Columns of the picture: steps 500 to 2000.
""",
    )
    mmd = MMDLoss(gaussian_mixture([0.05, 0.1, 0.25, 0.5, 1.0]))
    game, wasserstein = {**SIZE}, {"objective": "wgan", "critic_steps": 2, **SIZE}
    cases = [
        ("GAN, minimax", descent, lambda: GAN.build(2, saturating=True, **game)),
        ("GAN, non-saturating", descent, lambda: GAN.build(2, **game)),
        ("GAN, packs of 4", descent, lambda: GAN.build(2, packed=4, **game)),
        ("GAN, penalty", descent, lambda: GAN.build(2, penalty=1.0, **game)),
        ("GAN, penalty", None, lambda: GAN.build(2, penalty=1.0, **game)),
        ("WGAN, penalty", None, lambda: GAN.build(2, penalty=1.0, **wasserstein)),
        ("GMMN", None, lambda: GMMN.build(2, divergence=mmd, **game)),
    ]
    clouds = {}
    for name, optimizer, build in cases:
        for seed in range(3):
            trace, shots = [], []

            def watch(step, model, trace=trace, shots=shots, seed=seed):
                samples = model.sample(5000, generator=seed)
                near = torch.cdist(samples.double(), ring.means) <= 3 * SD
                trace.append(int((near.sum(0) >= 20).sum()))
                shots.append(samples)

            fit(
                seeded(seed, build),
                ring.sample,
                steps=STEPS,
                batch_size=128,
                optimizer=optimizer,
                seed=seed,
                every=EVERY,
                callback=watch,
                progress=False,
            )
            share = ring.high_quality_share(shots[-1]).item()
            rule = "Adam 1e-3" if optimizer is None else "SGD 0.1"
            study.add(name, rule, seed, *trace, share)
            if seed == 1:
                clouds[f"{name}\n{rule}"] = [shot[:1000] for shot in shots[1::2]]
    study.write(picture(ring, clouds, times[1::2]))


def picture(ring, clouds, times):
    """Samples over training, a row per model."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = (1.7 * len(times), 1.7 * len(clouds))
    figure, axes = plt.subplots(len(clouds), len(times), figsize=size, constrained_layout=True)
    for row, (name, shots) in zip(axes, clouds.items(), strict=True):
        for axis, time, shot in zip(row, times, shots, strict=True):
            axis.plot(*shot.T, ".", ms=1, color="#2b6cb0")
            axis.plot(*ring.means.T, "+", ms=5, color="#c53030")
            axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), xticks=[], yticks=[], aspect="equal")
            if name == next(iter(clouds)):
                axis.set_title(f"step {time}", fontsize=8)
        row[0].set_ylabel(name, fontsize=7)
    figure.savefig(RESULTS / "collapse.png", dpi=100)
    return RESULTS / "collapse.png"


if __name__ == "__main__":
    main()
