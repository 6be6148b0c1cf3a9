"""L1 at the coarser scales of a Gaussian pyramid (Liu 2022, section 4.1, Eq. 1 and 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from restain.nn.filters import blur

BLURS = 4
"""Gaussian blurs an octave: 5 layers with 4 blurrings between them."""


_GAUSSIAN = [math.exp(-0.5 * place**2) for place in (-1, 0, 1)]
GAUSSIAN_3 = tuple(tap / sum(_GAUSSIAN) for tap in _GAUSSIAN)
"""A Gaussian of standard deviation 1 on three pixels: .274, .452, .274."""


def octave(x: Tensor) -> Tensor:
    """The first image of the next octave: four blurs, then every second pixel.

    Args:
        x: [N, C, H, W].

    Returns:
        [N, C, ceil(H / 2), ceil(W / 2)].
    """
    for _ in range(BLURS):
        x = blur(x, GAUSSIAN_3)
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
