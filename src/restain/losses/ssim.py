"""1 - SSIM as a loss (Wang 2004; Zhu 2023, Eq. 10), under a Gaussian window."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from restain.nn.filters import blur

WINDOW, SIGMA = 9, 2.375
"""Side and standard deviation of the window, px (released BCIStainer)."""
C1, C2 = 0.01**2, 0.03**2

_GAUSSIAN = [math.exp(-0.5 * ((place - WINDOW // 2) / SIGMA) ** 2) for place in range(WINDOW)]
_TAPS = tuple(tap / sum(_GAUSSIAN) for tap in _GAUSSIAN)


def ssim_loss(fake: Tensor, real: Tensor) -> Tensor:
    """1 - the mean SSIM over images, channels and windows that lie inside the image (0-d).

    Args:
        fake: [N, C, H, W] in [-1, 1], sides of at least ``WINDOW``; compared in [0, 1].
        real: the same shape.
    """
    with torch.autocast(fake.device.type, enabled=False):  # differences of squares need all of float32
        x, y = (fake.float() + 1) / 2, (real.float() + 1) / 2
        mean_x, mean_y = _windowed(x), _windowed(y)
        var_x = _windowed(x * x) - mean_x.square()
        var_y = _windowed(y * y) - mean_y.square()
        covariance = _windowed(x * y) - mean_x * mean_y
    contrast = (2 * covariance + C2) / (var_x + var_y + C2)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
    return 1 - (contrast * luminance).mean()


def _windowed(x: Tensor) -> Tensor:
    inside = WINDOW // 2
    return blur(x, _TAPS)[..., inside:-inside, inside:-inside]
