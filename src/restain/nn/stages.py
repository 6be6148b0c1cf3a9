"""A stage of an encoder: convolution, normalisation, activation."""

from __future__ import annotations

from torch import Tensor, nn

from restain.nn.norms import Norm


class ConvStage(nn.Module):
    """A reflection-padded convolution, a norm and LeakyReLU 0.2.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel: side of the kernel, odd.
        stride: of the convolution.
        norm: after the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, norm: Norm = Norm.batch):
        super().__init__()
        self.conv = nn.Sequential(
            nn.ReflectionPad2d(kernel // 2),
            nn.Conv2d(in_channels, out_channels, kernel, stride, bias=norm.conv_bias),
            norm.layer(out_channels),
            nn.LeakyReLU(0.2, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, in, H, W] to features [N, out, ceil(H / stride), ceil(W / stride)]."""
        out: Tensor = self.conv(x)
        return out
