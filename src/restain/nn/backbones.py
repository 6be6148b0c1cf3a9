"""Image-classification backbones under the names of the usual weight files, so that these load as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from restain.core.errors import ItemError
from restain.nn.norms import COUNTER
from restain.nn.weights import read_state_dict

VGG19_FILE = "vgg19-dcbb9e9d.pth"
"""The ImageNet weights that torchvision's users have in their cache."""
_VGG19 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512)


class VggFeatures(nn.Module):
    """The convolutions of a VGG (Simonyan 2015) as far as its last activation that is asked for.

    Args:
        plan: channels of each 3x3 convolution; 0 is a 2x2 max pooling.
        taps: numbers of the modules (convolution, ReLU, pooling, counted from 0) whose output is wanted, ascending.
    """

    def __init__(self, plan: Sequence[int], taps: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for count in plan:
            if count:
                layers += [nn.Conv2d(channels, count, 3, padding=1), nn.ReLU()]
                channels = count
            else:
                layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers[: taps[-1] + 1])
        self.taps = tuple(taps)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images [N, 3, H, W] to the features [N, c, h, w] at each tap."""
        found = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                found.append(x)
        return found


def vgg19_features(weights: Path, taps: Sequence[int] = (1, 6, 11, 20, 29)) -> VggFeatures:
    """VGG19 up to relu5_1 with weights from a file, frozen; its taps are relu1_1, relu2_1, ..., relu5_1.

    Raises:
        ItemError: the file cannot be read or is none of a VGG19.
    """
    network = VggFeatures(_VGG19, taps)
    found = read_state_dict(weights)
    try:
        network.load_state_dict({key: found[key] for key in network.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise ItemError(f"{weights}: not the weights of a VGG19 ({VGG19_FILE} of torchvision is one).") from error
    return network.eval().requires_grad_(False)


RESNET18_FILE = "resnet18-f37072fd.pth"
"""The ImageNet weights that torchvision's users have in their cache."""


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
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, channels, H, W] to [N, width, H / stride, W / stride]."""
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        # The stride of the 1x1 convolution, taken before it: the same values. In channels-last memory the backward pass
        # of torch 2.13 on CPUs writes beyond its buffers where a 1x1 convolution of few channels has a stride.
        return F.relu(inner + self.downsample(x[:, :, :: self.stride, :: self.stride]))


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
        found = read_state_dict(weights)
        try:
            counters = {key: value for key, value in self.state_dict().items() if key.endswith(COUNTER)}
            self.load_state_dict({key: {**counters, **found}[key] for key in self.state_dict()})
        except (KeyError, RuntimeError) as error:
            raise ItemError(
                f"{weights}: not the weights of a ResNet-18 ({RESNET18_FILE} of torchvision is one)."
            ) from error
