"""The classic FID Inception network: TensorFlow's 2015 Inception v3, layer by layer.

Parameter names are those of pytorch-fid and torch-fidelity, so their checkpoints load as they are.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

Shape = tuple[int, int, int | tuple[int, int]]  # channels in, channels out, kernel


class Convolution(nn.Module):
    """Convolution without bias, batch normalisation (ε = 0.001), ReLU."""

    def __init__(
        self, shape: Shape, *, stride: int = 1, padding: int | tuple[int, int] = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*shape, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(shape[1], eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


def same(cin: int, cout: int, kernel: int | tuple[int, int]) -> Convolution:
    """A convolution that keeps height and width."""
    pair = (kernel, kernel) if isinstance(kernel, int) else kernel
    return Convolution((cin, cout, kernel), padding=(pair[0] // 2, pair[1] // 2))


def average(x: Tensor) -> Tensor:
    """3×3 average that leaves the padding out of the count, as TensorFlow does."""
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """Mixed 5b, 5c, 5d."""

    def __init__(self, cin: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = same(cin, 64, 1)
        self.branch5x5_1 = same(cin, 48, 1)
        self.branch5x5_2 = same(48, 64, 5)
        self.branch3x3dbl_1 = same(cin, 64, 1)
        self.branch3x3dbl_2 = same(64, 96, 3)
        self.branch3x3dbl_3 = same(96, 96, 3)
        self.branch_pool = same(cin, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(average(x))], 1)


class BlockB(nn.Module):
    """Mixed 6a."""

    def __init__(self, cin: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution((cin, 384, 3), stride=2)
        self.branch3x3dbl_1 = same(cin, 64, 1)
        self.branch3x3dbl_2 = same(64, 96, 3)
        self.branch3x3dbl_3 = Convolution((96, 96, 3), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, functional.max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """Mixed 6b to 6e."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.branch1x1 = same(768, 192, 1)
        self.branch7x7_1 = same(768, c, 1)
        self.branch7x7_2 = same(c, c, (1, 7))
        self.branch7x7_3 = same(c, 192, (7, 1))
        self.branch7x7dbl_1 = same(768, c, 1)
        self.branch7x7dbl_2 = same(c, c, (7, 1))
        self.branch7x7dbl_3 = same(c, c, (1, 7))
        self.branch7x7dbl_4 = same(c, c, (7, 1))
        self.branch7x7dbl_5 = same(c, 192, (1, 7))
        self.branch_pool = same(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(average(x))], 1)


class BlockD(nn.Module):
    """Mixed 7a."""

    def __init__(self, cin: int) -> None:
        super().__init__()
        self.branch3x3_1 = same(cin, 192, 1)
        self.branch3x3_2 = Convolution((192, 320, 3), stride=2)
        self.branch7x7x3_1 = same(cin, 192, 1)
        self.branch7x7x3_2 = same(192, 192, (1, 7))
        self.branch7x7x3_3 = same(192, 192, (7, 1))
        self.branch7x7x3_4 = Convolution((192, 192, 3), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        pooled = functional.max_pool2d(x, 3, stride=2)
        return torch.cat([three, self.branch7x7x3_4(seven), pooled], 1)


class BlockE(nn.Module):
    """Mixed 7b, which averages, and 7c, which takes the maximum: a slip of the original, kept."""

    def __init__(self, cin: int, *, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.branch1x1 = same(cin, 320, 1)
        self.branch3x3_1 = same(cin, 384, 1)
        self.branch3x3_2a = same(384, 384, (1, 3))
        self.branch3x3_2b = same(384, 384, (3, 1))
        self.branch3x3dbl_1 = same(cin, 448, 1)
        self.branch3x3dbl_2 = same(448, 384, 3)
        self.branch3x3dbl_3a = same(384, 384, (1, 3))
        self.branch3x3dbl_3b = same(384, 384, (3, 1))
        self.branch_pool = same(cin, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = functional.max_pool2d(x, 3, stride=1, padding=1) if self.maximum else average(x)
        parts = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        ]
        return torch.cat(parts, 1)


class FIDInception(nn.Module):
    """Images (n, 3, 299, 299), scaled by (x − 128)/128, to features by layer.

    Args:
        layer: 64, 192, 768 or 2048 (the pool layers), or "logits" (1008, without their bias, which
            is what Inception scores use).
    """

    def __init__(self, layer: int | str = 2048) -> None:
        super().__init__()
        self.layer = layer
        self.Conv2d_1a_3x3 = Convolution((3, 32, 3), stride=2)
        self.Conv2d_2a_3x3 = Convolution((32, 32, 3))
        self.Conv2d_2b_3x3 = Convolution((32, 64, 3), padding=1)
        self.Conv2d_3b_1x1 = Convolution((64, 80, 1))
        self.Conv2d_4a_3x3 = Convolution((80, 192, 3))
        self.Mixed_5b, self.Mixed_5c = BlockA(192, 32), BlockA(256, 64)
        self.Mixed_5d, self.Mixed_6a = BlockA(288, 64), BlockB(288)
        self.Mixed_6b, self.Mixed_6c = BlockC(128), BlockC(160)
        self.Mixed_6d, self.Mixed_6e = BlockC(160), BlockC(192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, maximum=False)
        self.Mixed_7c = BlockE(2048, maximum=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = functional.max_pool2d(x, 3, stride=2)
        if self.layer == 64:
            return x.mean((-2, -1))
        x = functional.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, stride=2)
        if self.layer == 192:
            return x.mean((-2, -1))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        if self.layer == 768:
            return x.mean((-2, -1))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((-2, -1))
        return x if self.layer == 2048 else x @ self.fc.weight.T
