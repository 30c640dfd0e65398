"""Lightning logs the metrics as it logs torchmetrics': computed and reset at an epoch's end."""

import importlib

import pytest
import torch
import torchmetrics

from probmetrics import metrics


@pytest.fixture(scope="module")
def lightning():
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    pytest.skip("lightning is not installed")


def test_lightning_logs_metrics(lightning):
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 60, 3, generator=generator)
    fake = fake + 0.5

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.distance = metrics.FrechetDistance()
            self.scores = torchmetrics.MetricCollection(
                {"prdc": metrics.PrecisionRecallDensityCoverage(k=3)}
            )

        def validation_step(self, batch, _):
            self.distance.update(real=batch[0], fake=batch[1])
            self.scores.update(real=batch[0], fake=batch[1])
            self.log("distance", self.distance, on_epoch=True, on_step=False)

        def on_validation_epoch_end(self):
            self.log_dict(self.scores.compute())
            self.scores.reset()

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(real, fake), 16)
    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    alone = metrics.FrechetDistance()
    alone.update(real=real, fake=fake)
    want = vars(metrics.precision_recall(real, fake, k=3))
    for _ in range(2):  # the second epoch starts over
        logged = trainer.validate(module, loader, verbose=False)[0]
        assert logged["distance"] == pytest.approx(float(alone.compute()), rel=1e-5)
        found = {key.removeprefix("prdc_"): value for key, value in logged.items()}
        for name, value in want.items():
            assert found[name] == pytest.approx(float(value), rel=1e-6)
