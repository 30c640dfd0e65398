"""Train with your own loop: a loss alone, and a model of the package without ``fit``.

python docs/examples/bare_loop.py
"""

import torch
from torch import nn

from probmetrics.data.toys import ring_of_gaussians
from probmetrics.losses import EnergyLoss
from probmetrics.models import GAN, Batch


def loss_alone(steps: int = 300) -> float:
    """Any network, any optimiser: a loss between samples is one line."""
    ring, source = ring_of_gaussians(), torch.Generator().manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
    loss = EnergyLoss()
    for _ in range(steps):
        x = ring.sample(256, generator=source)
        value = loss(x, generator(torch.randn(256, 4, generator=source)))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return value.item()


def model_without_fit(steps: int = 50) -> torch.Tensor:
    """A model says what to minimise and with which parameters; the loop is yours."""
    ring, source = ring_of_gaussians(), torch.Generator().manual_seed(0)
    model = GAN.build(2, objective="hinge", latent=4, hidden=(64,))
    objectives = model.objectives()
    optimizers = [torch.optim.Adam(list(o.parameters), 1e-3, betas=o.betas) for o in objectives]
    for step in range(steps):
        for objective, optimizer in zip(objectives, optimizers, strict=True):
            for _ in range(objective.steps):
                batch = Batch(ring.sample(256, generator=source), step=step)
                optimizer.zero_grad()
                value = objective.loss(batch, source)
                value.backward(inputs=list(objective.parameters))
                optimizer.step()
                if objective.after is not None:
                    objective.after(batch)
    return model.eval().sample(8, generator=0)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"energy distance after training: {loss_alone():.4f}")
    print(model_without_fit())
