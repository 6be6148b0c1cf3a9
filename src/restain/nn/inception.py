"""Inception-v3 (Szegedy 2016) under torchvision's names: as ImageNet's weights want it, and as FID's do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restain.nn.weights import load_weights

INCEPTION_FID_FILE = "pt_inception-2015-12-05-6726825d.pth"
"""TensorFlow's weights of 2015 that FID is defined with, as pytorch-fid carries them to torch."""
INCEPTION_IMAGENET_FILE = "inception_v3_google-0cc3c7bd.pth"
"""torchvision's ImageNet weights, whose features ASP's KID is of."""
SIDE = 299
"""Side of the images that the network was trained with, px."""

DIMENSIONS = (64, 192, 768, 2048)
"""Channels after the first and second max pooling, before the last stage, and at the end."""

Pool = Callable[[Tensor], Tensor]


class ConvNorm(nn.Module):
    """A convolution without bias, batch norm, ReLU."""

    def __init__(
        self,
        channels: int,
        width: int,
        size: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, channels, H, W] to [N, width, h, w]."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _row(channels: int, width: int, length: int) -> ConvNorm:
    """A convolution 1 px high and ``length`` px wide that keeps the size."""
    return ConvNorm(channels, width, (1, length), padding=(0, length // 2))


def _column(channels: int, width: int, length: int) -> ConvNorm:
    """A convolution ``length`` px high and 1 px wide that keeps the size."""
    return ConvNorm(channels, width, (length, 1), padding=(length // 2, 0))


class BlockA(nn.Module):
    """Szegedy 2016, Fig. 5, with one 5x5 convolution: 64 + 64 + 96 + ``pooled`` channels at the same size."""

    def __init__(self, channels: int, pooled: int, pool: Pool) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(channels, 64, 1)
        self.branch5x5_1 = ConvNorm(channels, 48, 1)
        self.branch5x5_2 = ConvNorm(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvNorm(channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, padding=1)
        self.branch_pool = ConvNorm(channels, pooled, 1)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, channels, H, W] to [N, 224 + pooled, H, W]."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(self.pool(x))], 1)


class BlockB(nn.Module):
    """Halves the size (Szegedy 2016, Fig. 10): 384 + 96 channels beside the pooled ones."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(channels, 384, 3, 2)
        self.branch3x3dbl_1 = ConvNorm(channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, channels, H, W] to [N, 480 + channels, h, w]."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class BlockC(nn.Module):
    """7x7 convolutions as rows and columns (Szegedy 2016, Fig. 6): 4 x 192 channels at the same size."""

    def __init__(self, channels: int, inner: int, pool: Pool) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(channels, 192, 1)
        self.branch7x7_1 = ConvNorm(channels, inner, 1)
        self.branch7x7_2 = _row(inner, inner, 7)
        self.branch7x7_3 = _column(inner, 192, 7)
        self.branch7x7dbl_1 = ConvNorm(channels, inner, 1)
        self.branch7x7dbl_2 = _column(inner, inner, 7)
        self.branch7x7dbl_3 = _row(inner, inner, 7)
        self.branch7x7dbl_4 = _column(inner, inner, 7)
        self.branch7x7dbl_5 = _row(inner, 192, 7)
        self.branch_pool = ConvNorm(channels, 192, 1)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, channels, H, W] to [N, 768, H, W]."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(self.pool(x))], 1)


class BlockD(nn.Module):
    """Halves the size: 320 + 192 channels beside the pooled ones."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNorm(channels, 192, 1)
        self.branch3x3_2 = ConvNorm(192, 320, 3, 2)
        self.branch7x7x3_1 = ConvNorm(channels, 192, 1)
        self.branch7x7x3_2 = _row(192, 192, 7)
        self.branch7x7x3_3 = _column(192, 192, 7)
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, channels, H, W] to [N, 512 + channels, h, w]."""
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)], 1)


class BlockE(nn.Module):
    """Rows and columns side by side (Szegedy 2016, Fig. 7): 320 + 2 x 768 + 192 channels at the same size."""

    def __init__(self, channels: int, pool: Pool) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(channels, 320, 1)
        self.branch3x3_1 = ConvNorm(channels, 384, 1)
        self.branch3x3_2a = _row(384, 384, 3)
        self.branch3x3_2b = _column(384, 384, 3)
        self.branch3x3dbl_1 = ConvNorm(channels, 448, 1)
        self.branch3x3dbl_2 = ConvNorm(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _row(384, 384, 3)
        self.branch3x3dbl_3b = _column(384, 384, 3)
        self.branch_pool = ConvNorm(channels, 192, 1)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, channels, H, W] to [N, 2048, H, W]."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(self.pool(x))]
        return torch.cat(parts, 1)


class InceptionFeatures(nn.Module):
    """Inception-v3 without its classifiers.

    Args:
        fid: the network that FID is defined with. It differs from torchvision's in its poolings: averages of blocks A,
            C and the first E leave the padding out, and the last E takes the 3x3 maximum.
    """

    def __init__(self, *, fid: bool) -> None:
        super().__init__()
        average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=not fid)
        last = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1) if fid else average
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32, average)
        self.Mixed_5c = BlockA(256, 64, average)
        self.Mixed_5d = BlockA(288, 64, average)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128, average)
        self.Mixed_6c = BlockC(768, 160, average)
        self.Mixed_6d = BlockC(768, 160, average)
        self.Mixed_6e = BlockC(768, 192, average)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, average)
        self.Mixed_7c = BlockE(2048, last)

    def forward(self, x: Tensor, dimensions: int = 2048) -> Tensor:
        """Images [N, 3, 299, 299] in [-1, 1] to features [N, dimensions]: the spatial mean at one of ``DIMENSIONS``."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, 2)
        if dimensions == 64:
            return x.mean((2, 3))
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        if dimensions == 192:
            return x.mean((2, 3))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        if dimensions == 768:
            return x.mean((2, 3))
        if dimensions == 2048:
            x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
            return x.mean((2, 3))
        raise ValueError(f"Inception has features of {DIMENSIONS} dimensions, not {dimensions}")


def inception_input(images: Tensor) -> Tensor:
    """RGB images [N, 3, H, W] in [0, 1] to [N, 3, 299, 299] in [-1, 1]: bilinear, without a filter against aliasing."""
    return 2 * F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False) - 1


def inception_features(weights: Path, *, fid: bool) -> InceptionFeatures:
    """Inception-v3 with weights from a file, frozen.

    Args:
        weights: ``INCEPTION_FID_FILE`` for FID's, ``INCEPTION_IMAGENET_FILE`` for torchvision's.
        fid: which of the two it is; the names and shapes are the same but for the classifier, which tells them apart.

    Raises:
        ItemError: the file cannot be read or is none of this network; it names the key and both shapes.
    """
    network = InceptionFeatures(fid=fid)
    classes, file = (1008, INCEPTION_FID_FILE) if fid else (1000, INCEPTION_IMAGENET_FILE)
    network.fc = nn.Linear(2048, classes)
    load_weights(network, weights, f"{'FID' if fid else 'torchvision'}'s Inception-v3 ({file} is one)")
    del network.fc
    return network.eval().requires_grad_(False)
