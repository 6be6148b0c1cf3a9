"""Residual networks (He 2016) under torchvision's names, so that its weight files load as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from restain.nn.weights import load_weights

RESNET18_FILE = "resnet18-f37072fd.pth"
"""The ImageNet weights that torchvision's users have in their cache."""
RESNET50_FILE = "resnet50-0676ba61.pth"
"""torchvision's first ImageNet weights (V1, 76.1 % top-1), which ASP's perceptual hash value was made with."""
RESNET50_BLOCKS = (3, 4, 6, 3)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside an identity, or beside a 1x1 convolution where the shape changes.

    Args:
        channels: of the input.
        width: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels, width, stride)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, channels, H, W] to [N, width, H / stride, W / stride]."""
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.downsample(_strided(x, self.stride)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with batch norm (He 2016, Fig. 5 right); the 3x3 has the stride, as in torchvision.

    Args:
        channels: of the input.
        width: channels of the inner convolutions; the output has four times as many.
        stride: of the 3x3 convolution.
    """

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        wide = width * self.expansion
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, wide, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample = _shortcut(channels, wide, stride)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, channels, H, W] to [N, 4 width, H / stride, W / stride]."""
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(_strided(x, self.stride)))


def _shortcut(channels: int, width: int, stride: int) -> nn.Module:
    """What a block's input passes on its way around the block; its stride is taken before, by ``_strided``."""
    if stride == 1 and channels == width:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))


def _strided(x: Tensor, stride: int) -> Tensor:
    """Every ``stride``-th row and column of features: the stride of a 1x1 convolution, taken before it.

    The values are the same. In channels-last memory the backward pass of torch 2.13 on CPUs writes beyond its buffers
    where a 1x1 convolution of few channels has a stride.
    """
    return x[:, :, ::stride, ::stride]


class ResNet18Stages(nn.Module):
    """The four stages of a ResNet-18 (He 2016, Table 1): eight blocks between its stem and its classifier.

    Args:
        width: channels of the first stage, doubled by each of the next; 64 in the paper.
        strides: of each stage's first block; 1, 2, 2, 2 in the paper. Weights fit whatever they are.
    """

    def __init__(self, width: int = 64, strides: Sequence[int] = (1, 2, 2, 2)) -> None:
        super().__init__()
        channels = width
        for number, stride in enumerate(strides, 1):
            wider = width * 2 ** (number - 1)
            stage = nn.Sequential(BasicBlock(channels, wider, stride), BasicBlock(wider, wider))
            self.add_module(f"layer{number}", stage)
            channels = wider
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, width, H, W] to [N, 8 width, h, w]."""
        for stage in self.children():
            x = stage(x)
        return x

    def load_imagenet(self, weights: Path) -> None:
        """Take the weights of a file of torchvision's ResNet-18; its stem and classifier are not used.

        Raises:
            ItemError: the file cannot be read or is none of a ResNet-18.
        """
        load_weights(self, weights, f"a ResNet-18 ({RESNET18_FILE} of torchvision is one)")


class ResNet50(nn.Module):
    """ResNet-50 (He 2016, Table 1): a stem, sixteen bottleneck blocks in four stages, a linear classifier.

    Args:
        classes: of the classifier; 1000 for ImageNet.
        width: channels inside the blocks of the first stage, doubled by each of the next; 64 in the paper.
    """

    def __init__(self, classes: int = 1000, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for number, count in enumerate(RESNET50_BLOCKS):
            inner = width * 2**number
            blocks = [Bottleneck(channels, inner, 1 if number == 0 else 2)]
            channels = inner * Bottleneck.expansion
            blocks += [Bottleneck(channels, inner) for _ in range(count - 1)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He 2015, as torchvision begins a training
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, x: Tensor) -> list[Tensor]:
        """Images [N, 3, H, W], normalised with ImageNet's mean and deviation, to the features of the four stages.

        The n-th is [N, 4 * 2^(n-1) width, H / 2^(n+1), W / 2^(n+1)], sides rounded up.
        """
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        found = []
        for number in range(1, len(RESNET50_BLOCKS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, 3, H, W], normalised with ImageNet's mean and deviation, to logits [N, classes]."""
        logits: Tensor = self.fc(self.stages(x)[-1].mean((2, 3)))
        return logits

    def load_imagenet(self, weights: Path) -> None:
        """Take the weights of a file of torchvision's ResNet-50; the classifier only where it is of 1000 classes.

        Raises:
            ItemError: the file cannot be read or is none of a ResNet-50; it names the key and both shapes.
        """
        skip = () if self.fc.out_features == 1000 else ("fc.",)
        load_weights(self, weights, f"a ResNet-50 ({RESNET50_FILE} of torchvision is one)", skip)
