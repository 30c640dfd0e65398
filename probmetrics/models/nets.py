"""Small networks: fully connected ones for vectors, DCGAN's for images."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from probmetrics import _checks as checks
from probmetrics.models.base import Shape, as_shape

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


class MLP(nn.Module):
    """Fully connected network between points of any two shapes.

    Args:
        inputs: Shape of an input point, or its number of coordinates.
        outputs: Shape of an output point.
        hidden: Width of each hidden layer; none gives an affine map.
        activation: relu, leaky_relu, tanh, silu or softplus.
        final: Applied to the output, e.g. ``nn.Sigmoid()``.

    Example:
        >>> import torch
        >>> MLP((1, 8, 8), 2, hidden=(16,))(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        inputs: Shape,
        outputs: Shape,
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        final: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs = as_shape(inputs), as_shape(outputs)
        bend = ACTIVATIONS[checks.choice(activation, "activation", ACTIVATIONS)]
        sizes = [math.prod(self.inputs), *(checks.count(w, "hidden") for w in hidden)]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), bend()]
        layers.append(nn.Linear(sizes[-1], math.prod(self.outputs)))
        self.layers = nn.Sequential(*layers, *([] if final is None else [final]))

    def forward(self, x: Tensor) -> Tensor:
        """Output points, shape (n, *outputs), for inputs (n, *inputs)."""
        flat: Tensor = self.layers(x.flatten(1))
        return flat.reshape(len(x), *self.outputs)


class ConvDecoder(nn.Module):
    """DCGAN generator: codes to images, doubling the side twice, with batch normalisation.

    Args:
        latent: Coordinates of a code.
        shape: (channels, height, width), height and width multiples of four.
        width: Channels of the last hidden layer; the one before has twice as many.
        normalise: Use batch normalisation.
        final: Applied to the output, e.g. ``nn.Sigmoid()`` or ``nn.Tanh()``.

    Example:
        >>> import torch
        >>> ConvDecoder(4, (1, 28, 28), width=8)(torch.zeros(2, 4)).shape
        torch.Size([2, 1, 28, 28])

    References:
        Radford, Metz & Chintala (2016), "Unsupervised representation learning with DCGANs".
    """

    def __init__(
        self,
        latent: int,
        shape: tuple[int, int, int],
        *,
        width: int = 32,
        normalise: bool = True,
        final: nn.Module | None = None,
    ) -> None:
        super().__init__()
        channels, low, wide = _quartered(shape)
        width = checks.count(width, "width")

        def norm(count: int) -> nn.Module:
            return nn.BatchNorm2d(count) if normalise else nn.Identity()

        self.layers = nn.Sequential(
            nn.Linear(checks.count(latent, "latent"), 2 * width * low * wide),
            nn.Unflatten(1, (2 * width, low, wide)),
            norm(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            norm(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
            *([] if final is None else [final]),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images, shape (n, channels, height, width), for codes (n, latent)."""
        image: Tensor = self.layers(z)
        return image


class ConvEncoder(nn.Module):
    """DCGAN critic: images to vectors, halving the side twice.

    Args:
        shape: (channels, height, width), height and width multiples of four.
        outputs: Coordinates of the answer.
        width: Channels of the first hidden layer; the next has twice as many.
        normalise: Use batch normalisation; off by default, as gradient penalties need.

    Example:
        >>> import torch
        >>> ConvEncoder((1, 8, 8), 3, width=8)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        width: int = 32,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        channels, low, wide = _quartered(shape)
        width = checks.count(width, "width")
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.BatchNorm2d(2 * width) if normalise else nn.Identity(),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * low * wide, checks.count(outputs, "outputs")),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Vectors, shape (n, outputs), for images (n, channels, height, width)."""
        vector: Tensor = self.layers(x)
        return vector


def decoder(
    latent: int,
    shape: Shape,
    *,
    hidden: Sequence[int] = (128, 128),
    width: int | None = None,
    final: nn.Module | None = None,
) -> nn.Module:
    """Codes to points: an MLP, or a DCGAN generator of that ``width``."""
    latent = checks.count(latent, "latent")
    if width is None:
        return MLP(latent, shape, hidden=hidden, final=final)
    return ConvDecoder(latent, _image(shape), width=width, final=final)


def encoder(
    shape: Shape,
    outputs: int,
    *,
    hidden: Sequence[int] = (128, 128),
    width: int | None = None,
    activation: str = "relu",
) -> nn.Module:
    """Points to vectors: an MLP, or a DCGAN critic of that ``width``."""
    if width is None:
        return MLP(shape, outputs, hidden=hidden, activation=activation)
    return ConvEncoder(_image(shape), outputs, width=width)


def _image(shape: Shape) -> tuple[int, int, int]:
    sizes = as_shape(shape)
    if len(sizes) != 3:
        raise ValueError(
            f"convolutional nets need a shape (channels, height, width), got {sizes}; "
            "leave width out for fully connected ones"
        )
    return sizes[0], sizes[1], sizes[2]


def _quartered(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    channels, height, wide = _image(shape)
    if height % 4 or wide % 4:
        raise ValueError(
            f"height and width must be multiples of four, got {height} × {wide}; pad or resize"
        )
    return channels, height // 4, wide // 4
