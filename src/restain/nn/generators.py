"""Image-to-image generators of the pix2pix lineage.

Both are plain sequences; the positions in them are those of the published networks, so that a published state dict
has the same keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from restain.nn.filters import BlurDownsample, antialiased_upsample
from restain.nn.norms import Norm


class ResnetBlock(nn.Module):
    """Two reflection-padded 3x3 convolutions beside an identity; no activation after the sum (Johnson 2016).

    Args:
        channels: of input and output.
        norm: after each convolution.
        dropout: probability 0.5 after the first activation.
        bias: of the convolutions; None where the norm does not make it superfluous.
    """

    def __init__(self, channels: int, norm: Norm, dropout: bool = False, bias: bool | None = None) -> None:
        super().__init__()
        bias = norm.conv_bias if bias is None else bias
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            norm.layer(channels),
            nn.ReLU(inplace=True),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
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
        antialias_down: plain convolutions and a binomial filter in place of stride-2 ones (CUT).
        antialias_up: bilinear interpolation and plain convolutions in place of transposed ones (CUT).
        bias: of the convolutions; None where the norm does not make it superfluous (pix2pixHD has it always).
    """

    forward_methods = ("encode",)

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        blocks: int = 9,
        downsamplings: int = 2,
        norm: Norm = Norm.batch,
        dropout: bool = False,
        antialias_down: bool = False,
        antialias_up: bool = False,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        bias = norm.conv_bias if bias is None else bias
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, width, 7, bias=bias),
            norm.layer(width),
            nn.ReLU(inplace=True),
        ]
        for i in range(downsamplings):
            c = width * 2**i
            stride = 1 if antialias_down else 2
            layers += [nn.Conv2d(c, 2 * c, 3, stride, 1, bias=bias), norm.layer(2 * c), nn.ReLU(inplace=True)]
            layers += [BlurDownsample()] if antialias_down else []
        layers += [ResnetBlock(width * 2**downsamplings, norm, dropout, bias) for _ in range(blocks)]
        for i in reversed(range(downsamplings)):
            c = width * 2**i
            if antialias_up:
                layers += [antialiased_upsample(), nn.Conv2d(2 * c, c, 3, 1, 1, bias=bias)]
            else:
                layers += [nn.ConvTranspose2d(2 * c, c, 3, 2, 1, output_padding=1, bias=bias)]
            layers += [norm.layer(c), nn.ReLU(inplace=True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.multiple = 2**downsamplings
        self.least = 2 * self.multiple  # reflection padding at the coarsest size needs 2 px
        # Half of the receptive field in input px: 3 for each 7x7; each stride-2 step and its transposed partner reach
        # 1 px at their finer resolution (antialiased: 2 px down, 3 px up); two 3x3 a block at the coarsest.
        reach = (2 if antialias_down else 1) + (3 if antialias_up else 1)
        field = 6 + sum(reach * 2**i for i in range(downsamplings)) + 2 * blocks * self.multiple
        # Instance norm brings the whole tile into every pixel.
        self.margin = None if norm is Norm.instance else field

    def forward(self, x: Tensor) -> Tensor:
        """Image [N, C, H, W] in [-1, 1] to an image of the same size in (-1, 1)."""
        out: Tensor = self.model(x)
        return out

    def encode(self, x: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """What leaves the modules of these numbers; nothing is computed beyond the last.

        An activation that works in place overwrites what was taken just before it, as in the released codes.

        Args:
            x: image [N, C, H, W] in [-1, 1].
            layers: numbers in ``model``, ascending.

        Returns:
            One tensor a number, [N, c, h, w].
        """
        features = []
        for number in range(layers[-1] + 1):
            x = self.model[number](x)
            if number in layers:
                features.append(x)
        return features

    def channels(self, layers: Sequence[int]) -> list[int]:
        """The number of channels that ``encode`` gives at each of these modules."""
        first = self.model[1]
        assert isinstance(first, nn.Conv2d)
        found, channels = [], first.in_channels
        for number in range(layers[-1] + 1):
            module = self.model[number]
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                channels = module.out_channels
            if number in layers:
                found.append(channels)
        return found


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
        self.multiple = self.least = 2**downsamplings
        self.margin = None  # the innermost level sees the whole tile

    def forward(self, x: Tensor) -> Tensor:
        """Image [N, C, H, W] in [-1, 1] to an image of the same size in (-1, 1)."""
        out: Tensor = self.model(x)
        return out
