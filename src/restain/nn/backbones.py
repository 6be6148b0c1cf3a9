"""Image-classification backbones under the names of the usual weight files, so that these load as they are.

ResNets are in ``nn.resnet``, Inception-v3 is in ``nn.inception``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from restain.nn.weights import load_weights

VGG16_FILE = "vgg16-397923af.pth"
VGG19_FILE = "vgg19-dcbb9e9d.pth"
ALEXNET_FILE = "alexnet-owt-7be5be79.pth"
"""The ImageNet weights that torchvision's users have in their cache."""

VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)
_VGG19 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def imagenet_normalised(images: Tensor) -> Tensor:
    """RGB images [N, 3, H, W] in [0, 1] minus ImageNet's mean, over its deviation: what its classifiers were fed."""
    mean, deviation = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (images - mean) / deviation


class _Taps(nn.Module):
    """Layers in a row, some of whose outputs are wanted.

    Args:
        layers: in order.
        taps: numbers of the layers, from 0, whose output is wanted, ascending; layers after the last are left out.
    """

    def __init__(self, layers: Sequence[nn.Module], taps: Sequence[int]) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers[: taps[-1] + 1])
        self.taps = tuple(taps)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images [N, 3, H, W] to the features [N, c, h, w] at each tap."""
        return list(self.walk(x))

    def walk(self, x: Tensor) -> Iterator[Tensor]:
        """``forward``'s features one after the other, so that those no longer wanted need not be held."""
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                yield x


class VggFeatures(_Taps):
    """The convolutions of a VGG (Simonyan 2015) as far as its last activation that is asked for.

    Args:
        plan: channels of each 3x3 convolution; 0 is a 2x2 pooling.
        taps: numbers of the modules (convolution, ReLU, pooling, counted from 0) whose output is wanted, ascending.
        l2_pooling: DISTS's pooling (``L2Pooling``) instead of the maximum.
    """

    def __init__(self, plan: Sequence[int], taps: Sequence[int], *, l2_pooling: bool = False) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for count in plan:
            if count:
                layers += [nn.Conv2d(channels, count, 3, padding=1), nn.ReLU()]
                channels = count
            else:
                layers.append(L2Pooling(channels) if l2_pooling else nn.MaxPool2d(2, 2))
        super().__init__(layers, taps)


class L2Pooling(nn.Module):
    """Root of the squares' mean under a 3x3 Hann window, stride 2 (Ding 2020, Eq. 4; Henaff 2016): no aliasing.

    Args:
        channels: of its input.
    """

    window: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.hann_window(5, periodic=False)[1:-1]
        window = torch.outer(line, line)
        self.register_buffer("window", (window / window.sum()).expand(channels, 1, 3, 3).clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, C, H, W] to [N, C, H / 2, W / 2], sides rounded up."""
        squares = nn.functional.conv2d(x**2, self.window, stride=2, padding=1, groups=len(self.window))
        return (squares + 1e-12).sqrt()


class AlexNetFeatures(_Taps):
    """The five convolutions of AlexNet as torchvision has it (Krizhevsky 2014, one column).

    Args:
        taps: numbers of the modules (convolution, ReLU, pooling, from 0) whose output is wanted, ascending; 1, 4, 7, 9,
            11 are the five ReLUs.
    """

    def __init__(self, taps: Sequence[int] = (1, 4, 7, 9, 11)) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64, 11, 4, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        ]
        super().__init__(layers, taps)


def vgg19_features(weights: Path, taps: Sequence[int] = (1, 6, 11, 20, 29)) -> VggFeatures:
    """VGG19 up to relu5_1 with weights from a file, frozen; its taps are relu1_1, relu2_1, ..., relu5_1.

    Raises:
        ItemError: the file cannot be read or is none of a VGG19; it names the key and both shapes.
    """
    network = VggFeatures(_VGG19, taps)
    load_weights(network, weights, f"a VGG19 ({VGG19_FILE} of torchvision is one)")
    return network.eval().requires_grad_(False)


def vgg16_features(weights: Path, taps: Sequence[int] = (3, 8, 15, 22, 29), *, l2_pooling: bool = False) -> VggFeatures:
    """VGG16 with weights from a file, frozen; its taps are relu1_2, relu2_2, relu3_3, relu4_3, relu5_3.

    Raises:
        ItemError: the file cannot be read or is none of a VGG16; it names the key and both shapes.
    """
    network = VggFeatures(VGG16, taps, l2_pooling=l2_pooling)
    load_weights(network, weights, f"a VGG16 ({VGG16_FILE} of torchvision is one)")
    return network.eval().requires_grad_(False)


def alexnet_features(weights: Path) -> AlexNetFeatures:
    """AlexNet's five ReLUs with weights from a file, frozen.

    Raises:
        ItemError: the file cannot be read or is none of an AlexNet; it names the key and both shapes.
    """
    network = AlexNetFeatures()
    load_weights(network, weights, f"an AlexNet ({ALEXNET_FILE} of torchvision is one)")
    return network.eval().requires_grad_(False)
