"""L1 on a Gaussian pyramid whose coarsest level weighs most (Li 2023, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from restain.nn.filters import BINOMIAL_5, blur

LEVEL_WEIGHTS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


def gaussian_pyramid(x: Tensor, reductions: int) -> list[Tensor]:
    """The image blurred, its half blurred, ..., and the last half as it is.

    As released, every level but the last is taken after the blur, so that even the first is not the image itself.

    Args:
        x: [N, C, H, W], sides of at least 3 * 2^(reductions - 1).
        reductions: halvings.

    Returns:
        ``reductions + 1`` levels, finest first.
    """
    levels = []
    for _ in range(reductions):
        x = blur(x, BINOMIAL_5)
        levels.append(x)
        x = x[..., ::2, ::2]
    return [*levels, x]


def gaussian_pyramid_l1(fake: Tensor, real: Tensor, weights: Sequence[float] = LEVEL_WEIGHTS) -> Tensor:
    """The mean over levels of the weighted L1 of each (0-d).

    Args:
        fake: [N, C, H, W] in [-1, 1].
        real: the same shape.
        weights: of each level, finest first.
    """
    pairs = zip(*(gaussian_pyramid(image, len(weights) - 1) for image in (fake, real)), strict=True)
    terms = [weight * F.l1_loss(a, b) for weight, (a, b) in zip(weights, pairs, strict=True)]
    return sum(terms, fake.new_zeros(())) / len(terms)
