"""L1 at the coarser scales of a Gaussian pyramid (Liu 2022, section 4.1, Eq. 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BLURS = 4
"""Gaussian blurs an octave: 5 layers with 4 blurrings between them."""


def gaussian_blur(x: Tensor) -> Tensor:
    """A 3x3 Gaussian with standard deviation 1 and reflected border.

    Args:
        x: [N, C, H, W], sides of at least 2.

    Returns:
        The same shape.
    """
    taps = torch.exp(-0.5 * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64) ** 2)
    taps = (taps / taps.sum()).to(x)
    channels = x.shape[1]
    x = F.pad(x, (1, 1, 1, 1), mode="reflect")
    x = F.conv2d(x, taps.view(1, 1, 1, 3).expand(channels, 1, 1, 3), groups=channels)
    return F.conv2d(x, taps.view(1, 1, 3, 1).expand(channels, 1, 3, 1), groups=channels)


def octave(x: Tensor) -> Tensor:
    """The first image of the next octave: four blurs, then every second pixel.

    Args:
        x: [N, C, H, W].

    Returns:
        [N, C, ceil(H / 2), ceil(W / 2)].
    """
    for _ in range(BLURS):
        x = gaussian_blur(x)
    return x[..., ::2, ::2]


def pyramid_l1(fake: Tensor, real: Tensor, weights: Sequence[float]) -> list[Tensor]:
    """The weighted L1 of each scale; their sum is lambda_1 L_1 + L_multi-scale (Eq. 5).

    Args:
        fake: [N, C, H, W] in [-1, 1].
        real: the same shape.
        weights: of full size, S1, S2, ...; as many scales as weights.

    Returns:
        One 0-d tensor a scale, already weighted.
    """
    losses = []
    for scale, weight in enumerate(weights):
        if scale:
            fake, real = octave(fake), octave(real)
        losses.append(weight * F.l1_loss(fake, real))
    return losses
