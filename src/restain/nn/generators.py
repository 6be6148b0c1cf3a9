"""Image-to-image generators of the pix2pix lineage.

Both are plain sequences; the positions in them are those of the published networks, so that a published state dict
has the same keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restain.nn.norms import Norm


class ResnetBlock(nn.Module):
    """Two reflection-padded 3x3 convolutions beside an identity; no activation after the sum (Johnson 2016).

    Args:
        channels: of input and output.
        norm: after each convolution.
        dropout: probability 0.5 after the first activation.
    """

    def __init__(self, channels: int, norm: Norm, dropout: bool) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=norm.conv_bias),
            norm.layer(channels),
            nn.ReLU(inplace=True),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=norm.conv_bias),
            norm.layer(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, C, H, W] to the same shape."""
        out: Tensor = x + self.conv_block(x)
        return out


class ResnetGenerator(nn.Module):
    """7x7 convolution, stride-2 convolutions, residual blocks, transposed convolutions, 7x7 convolution, tanh.

    Args:
        in_channels: of the input image.
        out_channels: of the output image.
        width: channels after the first convolution ("ngf").
        blocks: residual blocks.
        downsamplings: stride-2 convolutions; sides of the input must be a multiple of 2 to this power.
        norm: of all layers but the last.
        dropout: 0.5 inside the residual blocks.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        blocks: int = 9,
        downsamplings: int = 2,
        norm: Norm = Norm.batch,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        bias = norm.conv_bias
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, width, 7, bias=bias),
            norm.layer(width),
            nn.ReLU(inplace=True),
        ]
        for i in range(downsamplings):
            c = width * 2**i
            layers += [nn.Conv2d(c, 2 * c, 3, 2, 1, bias=bias), norm.layer(2 * c), nn.ReLU(inplace=True)]
        layers += [ResnetBlock(width * 2**downsamplings, norm, dropout) for _ in range(blocks)]
        for i in reversed(range(downsamplings)):
            c = width * 2**i
            layers += [
                nn.ConvTranspose2d(2 * c, c, 3, 2, 1, output_padding=1, bias=bias),
                norm.layer(c),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.multiple = 2**downsamplings
        # Half of the receptive field in input px: 3 for each 7x7; each stride-2 step and its transposed partner reach
        # 1 px at their finer resolution; two 3x3 a block at the coarsest.
        self.margin = 6 + sum(2 * 2**i for i in range(downsamplings)) + 2 * blocks * self.multiple

    def forward(self, x: Tensor) -> Tensor:
        """Image [N, C, H, W] in [-1, 1] to an image of the same size in (-1, 1)."""
        out: Tensor = self.model(x)
        return out


class UnetBlock(nn.Module):
    """One level of the U-Net: down, the level below, up; input and result are concatenated (input first).

    Args:
        outer: channels that come in and go out.
        middle: channels after the way down.
        below: the next level, None at the innermost.
        norm: of the convolutions but the first and the innermost one.
        in_channels: set on the outermost level only, which has no skip, no norm and a tanh.
        dropout: 0.5 after the way up.
    """

    def __init__(
        self,
        outer: int,
        middle: int,
        below: UnetBlock | None,
        norm: Norm,
        in_channels: int | None = None,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self.outermost = in_channels is not None
        down: list[nn.Module] = [nn.Conv2d(in_channels or outer, middle, 4, 2, 1, bias=norm.conv_bias)]
        if not self.outermost:
            down.insert(0, nn.LeakyReLU(0.2))
            down += [norm.layer(middle)] if below is not None else []
        width = 2 * middle if below is not None else middle
        up: list[nn.Module] = [nn.ReLU()]
        if self.outermost:
            up += [nn.ConvTranspose2d(width, outer, 4, 2, 1), nn.Tanh()]
        else:
            up += [nn.ConvTranspose2d(width, outer, 4, 2, 1, bias=norm.conv_bias), norm.layer(outer)]
            up += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*down, *([below] if below is not None else []), *up)

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, outer, H, W] to [N, 2 outer, H, W]; the outermost level maps image to image."""
        out: Tensor = self.model(x)
        return out if self.outermost else torch.cat([x, out], 1)


class UnetGenerator(nn.Module):
    """U-Net with 4x4 stride-2 convolutions down to 1/2^downsamplings and skips at each level (Isola 2017, 6.1.1).

    Args:
        in_channels: of the input image.
        out_channels: of the output image.
        width: channels of the first level ("ngf"); x 2, 4, 8, 8, ... below.
        downsamplings: 8 for "unet_256"; sides must be a multiple of 2 to this power.
        norm: of the inner layers.
        dropout: 0.5 on the levels at full depth, the innermost excepted.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        downsamplings: int = 8,
        norm: Norm = Norm.batch,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        block = UnetBlock(8 * width, 8 * width, None, norm)
        for _ in range(downsamplings - 5):
            block = UnetBlock(8 * width, 8 * width, block, norm, dropout=dropout)
        for factor in (4, 2, 1):
            block = UnetBlock(factor * width, 2 * factor * width, block, norm)
        self.model = UnetBlock(out_channels, width, block, norm, in_channels=in_channels)
        self.multiple = 2**downsamplings
        self.margin = None  # the innermost level sees the whole tile

    def forward(self, x: Tensor) -> Tensor:
        """Image [N, C, H, W] in [-1, 1] to an image of the same size in (-1, 1)."""
        out: Tensor = self.model(x)
        return out
