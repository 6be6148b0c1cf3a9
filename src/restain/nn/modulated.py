"""Convolutions whose kernels follow a style vector, and attention without parameters: what BCIStainer stains with."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def simam(x: Tensor, e_lambda: float = 1e-4) -> Tensor:
    """SimAM (Yang 2021, Eq. 5): each pixel weighted by how much it stands out from its channel.

    Args:
        x: features [N, C, H, W].
        e_lambda: lambda of the paper's energy function.

    Returns:
        x * sigmoid(d / (4 (v + lambda)) + 0.5), d the squared distance from the channel's mean and v its variance.
    """
    whole = x.float()  # in half precision small differences from the mean are lost
    distance = (whole - whole.mean((2, 3), keepdim=True)).square()
    variance = distance.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    return x * torch.sigmoid(distance / (4 * (variance + e_lambda)) + 0.5).to(x.dtype)


class ModulatedConv(nn.Module):
    """A convolution with weight modulation and demodulation (Karras 2020, Eq. 1 to 3), reflection-padded.

    Scaling the kernel by the style is scaling the input channels, and demodulating it is scaling the output channels:
    so one kernel serves the whole batch.

    Args:
        in_channels: of the input, and length of the style.
        out_channels: of the output.
        kernel: side of the kernel, odd.
        demodulate: bring each output channel's kernel to length 1.
        bias: add one number to each output channel.
        eps: added to the squared length.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        demodulate: bool = True,
        bias: bool = False,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.demodulate, self.eps = demodulate, eps

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Features [N, in, H, W] and styles [N, in] (0 changes nothing) to features [N, out, H, W]."""
        weight = self.weight / math.sqrt(self.weight[0].numel())  # equalised learning rate
        scale, reach = style + 1, self.weight.shape[2] // 2
        x = F.pad(x * scale[:, :, None, None], (reach, reach, reach, reach), mode="reflect")
        out = F.conv2d(x, weight)
        if self.demodulate:
            length = scale.square() @ weight.square().sum((2, 3)).T
            out = out * torch.rsqrt(length + self.eps)[:, :, None, None]
        return out if self.bias is None else out + self.bias[:, None, None]


class ModulatedBlock(nn.Module):
    """Two modulated convolutions, SimAM, and a residual connection (Zhu 2023, Fig. 7).

    Args:
        channels: of input, output and style.
        attention: with SimAM.
        style_linear: each convolution sees the style through a linear layer of its own, else as it is.
    """

    def __init__(self, channels: int, attention: bool = True, style_linear: bool = True) -> None:
        super().__init__()
        self.conv1, self.conv2 = ModulatedConv(channels, channels), ModulatedConv(channels, channels)
        self.style1 = nn.Linear(channels, channels) if style_linear else nn.Identity()
        self.style2 = nn.Linear(channels, channels) if style_linear else nn.Identity()
        self.attention = attention

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Features [N, C, H, W] and styles [N, C] to features of the same shape."""
        out = F.leaky_relu(self.conv1(x, self.style1(style)), 0.2)
        out = F.leaky_relu(self.conv2(out, self.style2(style)), 0.2)
        out = simam(out) if self.attention else out
        return (x + out) / math.sqrt(2)
