"""The VGG19 perceptual loss of pix2pixHD (Wang 2018, section 3.2; Johnson 2016)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from restain.nn.backbones import vgg19_features

LAYER_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


class PerceptualLoss:
    """The weighted L1 between VGG19's activations relu1_1 to relu5_1 of fake and real.

    As released, images enter in [-1, 1], without ImageNet's mean and deviation.

    Args:
        weights: the file of VGG19's weights.
    """

    def __init__(self, weights: Path) -> None:
        self._vgg = vgg19_features(weights)

    def __call__(self, fake: Tensor, real: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [-1, 1] to the loss (0-d); ``real`` gets no gradient."""
        self._vgg.to(fake.device)
        with torch.no_grad():
            targets = self._vgg(real)
        terms = zip(LAYER_WEIGHTS, self._vgg(fake), targets, strict=True)
        return sum((weight * F.l1_loss(ours, theirs) for weight, ours, theirs in terms), fake.new_zeros(()))
