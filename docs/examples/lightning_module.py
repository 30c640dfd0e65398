"""Train any model of the package under Lightning, which then owns the loop, devices and logging.

pip install lightning
python docs/examples/lightning_module.py
"""

from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

from probmetrics.data.toys import ring_of_gaussians
from probmetrics.models import GAN, AbstractModel, Batch


class LightningModel(lightning.LightningModule):
    """One optimiser per objective, stepped by hand as games need it."""

    def __init__(self, model: AbstractModel, *, learning_rate: float = 1e-3, seed: int = 0) -> None:
        super().__init__()
        self.model = model
        self.objectives = model.objectives()
        self.learning_rate, self.seed = learning_rate, seed
        self.automatic_optimization = False
        self.source: torch.Generator | None = None

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(list(o.parameters), self.learning_rate * o.rate, betas=o.betas)
            for o in self.objectives
        ]

    def training_step(self, batch: Any, index: int) -> None:
        if self.source is None:  # noise on this rank's device, different on each rank
            self.source = torch.Generator(self.device).manual_seed(self.seed + self.global_rank)
        data = Batch(batch[0], step=index)
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for objective, optimizer in zip(self.objectives, optimizers, strict=True):
            for _ in range(objective.steps):
                loss = objective.loss(data, self.source)
                optimizer.zero_grad()
                self.manual_backward(loss, inputs=list(objective.parameters))
                optimizer.step()
                if objective.after is not None:
                    objective.after(data)
            self.log(objective.name, loss)


def train(epochs: int = 1) -> LightningModel:
    """A GAN on the ring."""
    points = ring_of_gaussians().sample(2048, generator=0)
    module = LightningModel(GAN.build(2, latent=4, hidden=(64,)))
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(TensorDataset(points), batch_size=256, shuffle=True))
    return module


if __name__ == "__main__":
    print(train().model.eval().sample(8, generator=0))
