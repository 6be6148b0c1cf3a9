"""PHV: how many channels of a ResNet-50 see the generated image otherwise than the real one."""

from __future__ import annotations

import torch
from torch import Tensor

from restain.metrics.base import METRICS, Direction, ImagePair, MetricInfo, WeightFiles
from restain.nn.backbones import imagenet_normalised
from restain.nn.measuring import measuring, ready, unit_images
from restain.nn.resnet import RESNET50_FILE, ResNet50

THRESHOLD = 0.01
"""Difference of a channel's means that counts (ASP)."""


@METRICS.add(
    "phv",
    MetricInfo(
        title="PHV",
        unit="",
        direction=Direction.LOWER,
        range=(0.0, 1.0),
        version=1,
        definition=(
            "Perceptual hash value of ASP: share of the channels of ResNet-50's layers 1 to 4 (ImageNet weights V1) "
            f"whose spatial means differ by more than {THRESHOLD}, mean of the four layers; images enter as ASP's "
            "released code feeds them, (x / 255 + 1) / 2 before ImageNet's mean and deviation, at their own size."
        ),
        decimals=4,
        weights=(RESNET50_FILE,),
    ),
)
class Phv:
    """Perceptual hash value (ASP, Li 2023): the mean of ``layers``, which are also of interest one by one."""

    def __init__(self, files: WeightFiles) -> None:
        network = ResNet50()
        network.load_imagenet(files[RESNET50_FILE])
        self._network = ready(network)

    def __call__(self, pair: ImagePair) -> float:
        """The mean of the four layers' values; 0 for identical images."""
        values = self.layers(pair)
        return sum(values) / len(values)

    def layers(self, pair: ImagePair, threshold: float = THRESHOLD) -> list[float]:
        """The value of each of ResNet-50's four layers, in order."""
        with measuring():
            return phv_of_layers(self._network, unit_images(pair.real, pair.fake), threshold)


def phv_of_layers(network: ResNet50, images: Tensor, threshold: float) -> list[float]:
    """Share of each layer's channels whose spatial means differ by more than ``threshold``.

    As ASP released it, images in [0, 1] are treated as if they were in [-1, 1]: the network sees them at half of their
    contrast, and published values are of that.

    Args:
        network: with ImageNet's weights, in evaluation mode.
        images: two RGB images [2, 3, H, W] in [0, 1].
        threshold: a difference above it counts.
    """
    real, fake = (_means(network, imagenet_normalised((image + 1) / 2)) for image in images[:, None])
    return [float(((x - y).abs() > threshold).double().mean()) for x, y in zip(real, fake, strict=True)]


def _means(network: ResNet50, image: Tensor) -> list[Tensor]:
    """Spatial mean [C] of each layer's features; of one image at a time, whose activations are large."""
    return [stage.mean((0, 2, 3), dtype=torch.float64) for stage in network.stages(image)]
