"""DISTS: how alike the texture and the structure of two images are to a VGG16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from restain.core.errors import ItemError
from restain.metrics.base import METRICS, Direction, ImagePair, MetricInfo, WeightFiles
from restain.nn.backbones import VGG16_FILE, VggFeatures, imagenet_normalised, vgg16_features
from restain.nn.measuring import measuring, ready, unit_images
from restain.nn.weights import read_state_dict

DISTS_FILE = "weights.pt"
"""The learned weights alpha and beta, as the package ``DISTS_pytorch`` carries them."""
CHANNELS = (3, 64, 128, 256, 512, 512)
"""Channels of the stages: the image itself, then relu1_2 to relu5_3."""
SHORT_SIDE = 256
"""Short side that the authors' script can take both images to, px."""
C1 = C2 = 1e-6
AT_A_TIME = 8
"""Channels whose statistics are taken at a time."""


def _info(title: str, size: str) -> MetricInfo:
    return MetricInfo(
        title=title,
        unit="",
        direction=Direction.LOWER,
        range=(0.0, 2.0),
        version=1,
        definition=(
            "1 minus the weighted similarity of mean (texture) and covariance (structure) of each channel of the image "
            f"and of five VGG16 stages with L2 pooling, with the authors' learned weights (Ding 2020); {size}."
        ),
        decimals=4,
        weights=(VGG16_FILE, DISTS_FILE),
    )


class _Dists:
    """DISTS of a pair.

    Args:
        files: ``VGG16_FILE`` of torchvision and ``DISTS_FILE`` of the authors.
        short_side: size that images are taken to first, px; None leaves them as they are.
    """

    def __init__(self, files: WeightFiles, short_side: int | None) -> None:
        self._vgg = ready(vgg16_features(files[VGG16_FILE], l2_pooling=True))
        self._alpha, self._beta = learned_weights(files[DISTS_FILE])
        self._short_side = short_side

    def __call__(self, pair: ImagePair) -> float:
        """The value of a pair; 0 for identical images."""
        images = [pair.real, pair.fake]
        if self._short_side is not None:
            images = [resized(image, self._short_side) for image in images]
        with measuring():
            real, fake = unit_images(*images)[:, None]
            return dists_score(self._vgg, real, fake, self._alpha, self._beta)


@METRICS.add("dists", _info("DISTS", f"short side to {SHORT_SIDE} px first, smaller images enlarged"))
class Dists(_Dists):
    """DISTS after both images are taken to a short side of 256 px, larger ones shrunk and smaller ones enlarged.

    The authors' script has this as an option. ``dists_full`` is another number: never compare the two.
    """

    def __init__(self, files: WeightFiles) -> None:
        super().__init__(files, SHORT_SIDE)


@METRICS.add("dists_full", _info("DISTS, full size", "at the images' own size"))
class DistsFull(_Dists):
    """DISTS at the images' own size, as a library call without a resize gives it."""

    def __init__(self, files: WeightFiles) -> None:
        super().__init__(files, None)


def dists_score(vgg: VggFeatures, real: Tensor, fake: Tensor, alpha: Tensor, beta: Tensor) -> float:
    """DISTS of two images (Ding 2020, Eq. 5 to 7).

    Args:
        vgg: VGG16 with L2 pooling and taps relu1_2 to relu5_3; it sees ImageNet-normalised images.
        real: RGB [1, 3, H, W] in [0, 1].
        fake: the same.
        alpha: weights of the texture terms [1475], in the order of ``CHANNELS``.
        beta: weights of the structure terms [1475].

    Returns:
        sum of alpha (1 - l) + beta (1 - s), alpha and beta divided by their joint sum; l = (2 m_x m_y + c1) / (m_x^2 +
        m_y^2 + c1), s = (2 v_xy + c2) / (v_xx + v_yy + c2) of each channel, m and v its mean and (co)variance over the
        image. The same as 1 - sum of alpha l + beta s, and exactly 0 for identical images. s may be as low as -1, so
        that what is the other way round everywhere may come near 2.
    """
    terms = [_similarities(real, fake)]
    stages = zip(vgg.walk(imagenet_normalised(real)), vgg.walk(imagenet_normalised(fake)), strict=True)
    terms += [_similarities(x, y) for x, y in stages]
    texture, structure = (torch.cat(parts).cpu() for parts in zip(*terms, strict=True))
    lost = alpha.double() * (1 - texture) + beta.double() * (1 - structure)
    return float(lost.sum() / (alpha.double().sum() + beta.double().sum()))


def _similarities(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Terms l and s, float64 [C] each, of features [1, C, h, w]."""
    parts = zip(torch.split(x[0].flatten(1), AT_A_TIME), torch.split(y[0].flatten(1), AT_A_TIME), strict=True)
    texture, structure = zip(*(_of_channels(*part) for part in parts), strict=True)
    return torch.cat(texture), torch.cat(structure)


def _of_channels(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """``_similarities`` of a few channels [c, pixels], so that their copies stay small."""
    mean_x, mean_y = (z.mean(1, keepdim=True, dtype=torch.float64) for z in (x, y))
    x, y = x - mean_x.float(), y - mean_y.float()
    variances = (x * x).mean(1, dtype=torch.float64) + (y * y).mean(1, dtype=torch.float64)
    covariance = (x * y).mean(1, dtype=torch.float64)
    mean_x, mean_y = mean_x[:, 0], mean_y[:, 0]
    texture = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return texture, (2 * covariance + C2) / (variances + C2)


def learned_weights(file: Path) -> tuple[Tensor, Tensor]:
    """Alpha and beta, [1475] each, of the authors' file.

    Raises:
        ItemError: the file cannot be read, or lacks one, or has it in another shape.
    """
    found = read_state_dict(file)
    for key in ("alpha", "beta"):
        shape = list(found[key].shape) if key in found else "absent"
        if key not in found or found[key].numel() != sum(CHANNELS):
            raise ItemError(
                f"{file}: not the learned weights of DISTS ({DISTS_FILE} of DISTS_pytorch is one): {key} is {shape}, "
                f"not [1, {sum(CHANNELS)}, 1, 1]."
            )
    return found["alpha"].flatten(), found["beta"].flatten()


def resized(image: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """An image [H, W, 3] at a short side of ``short_side`` px, bilinear (Pillow's, with its filter against aliasing).

    A smaller image is enlarged; the long side is rounded down.
    """
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    size = (
        short_side if width <= height else int(width * scale),
        short_side if height <= width else int(height * scale),
    )
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
