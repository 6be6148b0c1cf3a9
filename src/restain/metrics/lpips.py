"""LPIPS: how far apart two images are to an AlexNet, weighted as people judged."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from restain.metrics.base import METRICS, Direction, ImagePair, MetricInfo, WeightFiles
from restain.metrics.sizes import check_side
from restain.nn.backbones import ALEXNET_FILE, AlexNetFeatures, alexnet_features
from restain.nn.measuring import measuring, ready, unit_images
from restain.nn.weights import load_weights

LPIPS_FILE = "alex.pth"
"""The learned linear layers for AlexNet, as the package ``lpips`` carries them (weights/v0.1)."""
CHANNELS = (64, 192, 384, 256, 256)
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""What is taken from images in [-1, 1], and what they are divided by: ImageNet's mean and deviation in that range."""
LEAST = 31
"""Smallest side whose features survive AlexNet's two poolings, px."""


class LinearLayers(nn.Module):
    """One weight for each channel of each stage, under the names of the authors' file."""

    def __init__(self) -> None:
        super().__init__()
        for number, channels in enumerate(CHANNELS):
            layer = nn.Module()
            layer.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))
            self.add_module(f"lin{number}", layer)

    def weights(self) -> list[Tensor]:
        """The weights of each stage, [C]."""
        return [value.flatten() for value in self.state_dict().values()]


@METRICS.add(
    "lpips",
    MetricInfo(
        title="LPIPS",
        unit="",
        direction=Direction.LOWER,
        range=(0.0, math.inf),
        version=1,
        definition=(
            "Sum over AlexNet's five ReLUs of the spatial mean of the weighted squared difference of features whose "
            "channels are scaled to unit length, with the learned weights 0.1 (Zhang 2018); at the images' own size."
        ),
        decimals=4,
        weights=(ALEXNET_FILE, LPIPS_FILE),
    ),
)
class Lpips:
    """LPIPS 0.1 with AlexNet (Zhang 2018, Eq. 1) at the images' own size."""

    def __init__(self, files: WeightFiles) -> None:
        self._network = ready(alexnet_features(files[ALEXNET_FILE]))
        self._weights = ready(linear_layers(files[LPIPS_FILE])).weights()

    def __call__(self, pair: ImagePair) -> float:
        """The value of a pair; 0 for identical images.

        Raises:
            ItemError: the images are smaller than AlexNet's poolings need.
        """
        check_side(pair, LEAST, "LPIPS")
        with measuring():
            return lpips_score(self._network, self._weights, unit_images(pair.real, pair.fake))


def lpips_score(network: AlexNetFeatures, weights: list[Tensor], images: Tensor) -> float:
    """LPIPS of two images, RGB [2, 3, H, W] in [0, 1], with the weights [C] of each stage."""
    shift, scale = (images.new_tensor(values)[:, None, None] for values in (SHIFT, SCALE))
    total = 0.0
    for stage, weight in zip(network.walk((2 * images - 1 - shift) / scale), weights, strict=True):
        length = stage.square().sum(1, keepdim=True).sqrt()
        real, fake = stage / (length + 1e-10)
        per_channel = (real - fake).square().mean((1, 2), dtype=torch.float64)
        total += float(per_channel @ weight.double())
    return total


def linear_layers(file: Path) -> LinearLayers:
    """The learned layers of a file.

    Raises:
        ItemError: the file cannot be read or holds other layers; it names the key and both shapes.
    """
    layers = LinearLayers()
    load_weights(layers, file, f"LPIPS's linear layers for AlexNet ({LPIPS_FILE} of lpips 0.1 is one)")
    return layers
