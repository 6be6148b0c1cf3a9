"""Normalisations between instance and layer norm, a learned share of each (Kim 2020, Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mixed_norm(x: Tensor, rho: Tensor, eps: float) -> Tensor:
    """The share rho of the instance norm and the rest of the layer norm; variances unbiased, as released.

    Args:
        x: [N, C, H, W].
        rho: [1, C, 1, 1] in [0, 1].
        eps: added to the variances.
    """
    parts, x = [], x.float()  # in half precision small differences from the mean are lost
    for dims in ((2, 3), (1, 2, 3)):
        variance, mean = torch.var_mean(x, dim=dims, keepdim=True)
        parts.append((x - mean) * torch.rsqrt(variance + eps))
    return rho * parts[0] + (1 - rho) * parts[1]


class LayerInstanceNorm(nn.Module):
    """What AdaLIN and LIN share.

    Args:
        channels: of the features.
        rho: the first share of the instance norm, 0.9 in residual blocks and 0 in upsampling (released code).
        eps: added to the variances.
    """

    def __init__(self, channels: int, rho: float, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.rho = nn.Parameter(torch.full((1, channels, 1, 1), rho))

    @torch.no_grad()
    def clip(self) -> None:
        """Bring rho back into [0, 1] (section 2.1.1: after each update)."""
        self.rho.clamp_(0, 1)


class AdaLIN(LayerInstanceNorm):
    """Adaptive: scale and shift come from the image."""

    def __init__(self, channels: int, rho: float = 0.9, eps: float = 1e-5) -> None:
        super().__init__(channels, rho, eps)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """Features [N, C, H, W] under scale and shift [N, C]."""
        return mixed_norm(x, self.rho, self.eps) * gamma[:, :, None, None] + beta[:, :, None, None]


class LIN(LayerInstanceNorm):
    """Scale and shift are weights."""

    def __init__(self, channels: int, rho: float = 0.0, eps: float = 1e-5) -> None:
        super().__init__(channels, rho, eps)
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, C, H, W] to the same shape."""
        return mixed_norm(x, self.rho, self.eps) * self.gamma + self.beta


def clip_shares(network: nn.Module) -> None:
    """Bring every rho of ``network`` back into [0, 1]."""
    for layer in network.modules():
        if isinstance(layer, LayerInstanceNorm):
            layer.clip()
