"""Importance-weighted bounds grow with k on MNIST digits, and training on them helps."""

import torch
from record import Study, seeded

from probmetrics.data import read
from probmetrics.models import IWAE, VAE, fit

torch.set_num_threads(1)
TRAIN, TEST, STEPS, EPOCH_BATCH = 4000, 500, 1200, 100
SIZES = (1, 5, 50, 500)


def digits():
    """The 5,000 MNIST digits in an order drawn once, as grey levels in [0, 1]."""
    x = torch.from_numpy(read("data:mnist").values).float() / 255
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order[:TRAIN]], x[order[TRAIN : TRAIN + TEST]]


def main():
    train, test = digits()
    # The test set is binarised once; training draws new binary digits for every batch.
    test = torch.bernoulli(test, generator=torch.Generator().manual_seed(1))

    def sampler(n, *, generator):
        rows = torch.randint(len(train), (n,), generator=generator)
        return torch.bernoulli(train[rows], generator=generator)

    study = Study(
        "iwae",
        "Importance-weighted bounds on MNIST digits",
        ["trained on", "seed", *(f"L{k}" for k in SIZES), "increasing"],
        notes=f"""
{TRAIN} training digits, binarised afresh in each batch of {EPOCH_BATCH}; {STEPS} steps of Adam
1e-3; encoder and decoder with one hidden layer of 200, 20 codes, Bernoulli. L_k is the mean over
{TEST} held-out digits, in nats, of the bound with k samples: a lower bound of log p(x) for every k.
""",
    )
    builds = {
        "L1 (VAE)": lambda: VAE.build(784, latent=20, hidden=(200,), likelihood="bernoulli"),
        "L5 (IWAE)": lambda: IWAE.build(
            784, latent=20, hidden=(200,), likelihood="bernoulli", samples=5
        ),
        "L20 (IWAE)": lambda: IWAE.build(
            784, latent=20, hidden=(200,), likelihood="bernoulli", samples=20
        ),
    }
    for name, build in builds.items():
        for seed in (0, 1):
            model = seeded(seed, build)
            fit(model, sampler, steps=STEPS, batch_size=EPOCH_BATCH, seed=seed, progress=False)
            bounds = [
                model.log_likelihood(test, samples=k, generator=2).mean().item() for k in SIZES
            ]
            study.add(name, seed, *(f"{b:.2f}" for b in bounds), bounds == sorted(bounds))
    study.write()


if __name__ == "__main__":
    main()
