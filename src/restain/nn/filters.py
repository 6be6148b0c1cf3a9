"""Fixed smoothing filters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BINOMIAL_3 = (0.25, 0.5, 0.25)
BINOMIAL_5 = (0.0625, 0.25, 0.375, 0.25, 0.0625)


def blur(x: Tensor, taps: Sequence[float], stride: int = 1) -> Tensor:
    """Each channel under a separable filter with reflected border.

    Args:
        x: [N, C, H, W], sides above half of the filter's length.
        taps: the filter along one axis, of odd length.
        stride: keep every so many-th pixel, beginning with the first.

    Returns:
        [N, C, ceil(H / stride), ceil(W / stride)].
    """
    channels, reach = x.shape[1], len(taps) // 2
    kernel = torch.tensor(taps, dtype=x.dtype, device=x.device)
    x = F.pad(x, (reach, reach, reach, reach), mode="reflect")
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), stride=(1, stride), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), stride=(stride, 1), groups=channels)


class BlurDownsample(nn.Module):
    """Half the size without aliasing: a 3x3 binomial filter, then every second pixel (Zhang 2019, as CUT has it)."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, ceil(H / 2), ceil(W / 2)]."""
        return blur(x, BINOMIAL_3, stride=2)


def antialiased_upsample() -> nn.Module:
    """Twice the size without aliasing: CUT's 4x4 filter [1, 3, 3, 1] is bilinear interpolation."""
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
