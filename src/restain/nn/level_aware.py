"""BCIStainer's generator, which tells the HER2 level and stains by it, and its comparator (Zhu 2023, Fig. 7)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from restain.nn.modulated import ModulatedBlock
from restain.nn.norms import Norm
from restain.nn.stages import ConvStage


class Stained(NamedTuple):
    """What the generator gives.

    Attributes:
        full: IHC [N, 3, H, W] in (-1, 1).
        low: the low-resolution IHC [N, 3, h, w] in (-1, 1).
        level: logits [N, levels].
        style: what level and staining follow from, [N, channels].
    """

    full: Tensor
    low: Tensor
    level: Tensor
    style: Tensor


class LevelAwareGenerator(nn.Module):
    """Encoder, level classifier, modulated blocks under its style, low-resolution head, decoder.

    Args:
        levels: classes.
        width: channels of the first convolution; doubled at each of the first stride-2 ones.
        side: side of the images that it is made for, px, 8 times a power of 2: the style's encoder shrinks them to
            8 x 8. Others are taken too.
        downsamplings: stride-2 convolutions before the modulated blocks.
        blocks: modulated blocks.
        norm: of all normal convolutions.
        dropout: before the level's linear layer.
        attention: with SimAM in the modulated blocks.
        style_linear: each modulated convolution sees the style through a linear layer of its own.
    """

    def __init__(
        self,
        levels: int,
        width: int = 32,
        side: int = 1024,
        downsamplings: int = 3,
        blocks: int = 9,
        norm: Norm = Norm.batch,
        dropout: float = 0.2,
        attention: bool = True,
        style_linear: bool = True,
    ) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(downsamplings + 1)]
        widest, deeper = widths[-1], int(math.log2(side / 8)) - downsamplings
        self.inconv = ConvStage(3, width, 7, norm=norm)
        self.encoder1 = nn.Sequential(*(ConvStage(c, 2 * c, stride=2, norm=norm) for c in widths[:-1]))
        self.encoder2 = nn.Sequential(*(ConvStage(widest, widest, stride=2, norm=norm) for _ in range(deeper)))
        self.classify_head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widest, levels))
        self.decoder1 = nn.ModuleList(ModulatedBlock(widest, attention, style_linear) for _ in range(blocks))
        self.lowres_outconv = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(widest, 3, 3), nn.Tanh())
        self.decoder2 = nn.Sequential(*(UpStage(2 * c, c, norm) for c in reversed(widths[:-1])))
        self.highres_outconv = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())
        self.multiple = 2**downsamplings
        self.least = 2 * self.multiple * 2 ** max(deeper - 1, 0)  # reflection padding needs 2 px at every stage
        self.margin = None  # the style is that of the whole window

    def forward(self, x: Tensor) -> Stained:
        """H&E [N, 3, H, W] in [-1, 1], sides multiples of ``multiple``, to IHC and level."""
        encoded = self.encoder1(self.inconv(x))
        style = self.encoder2(encoded).mean((2, 3))
        stained = encoded
        for block in self.decoder1:
            stained = block(stained, style)
        full = self.highres_outconv(self.decoder2(stained))
        return Stained(full, self.lowres_outconv(stained), self.classify_head(style), style)

    @staticmethod
    def reference_key(key: str) -> str:
        """A state-dict key of ours as the released code has it: a modulated kernel lies two modules deeper."""
        return key.replace("conv1.weight", "conv1.0.weight.data").replace("conv2.weight", "conv2.0.weight.data")


class UpStage(nn.Module):
    """A transposed convolution that doubles the sides, a norm and LeakyReLU 0.2.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        norm: after the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 3, 2, 1, output_padding=1, bias=norm.conv_bias),
            norm.layer(out_channels),
            nn.LeakyReLU(0.2, inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, in, H, W] to features [N, out, 2 H, 2 W]."""
        out: Tensor = self.conv(x)
        return out


class Comparator(nn.Module):
    """A classifier of real IHC, whose features then compare virtual with real ones.

    Args:
        levels: classes.
        width: channels of the first convolution, doubled at each stride-2 one.
        side: side of the images that it is made for, px, 16 times a power of 2: shrunk to 8 x 8. Others are taken too.
        widest: most channels.
        norm: of all convolutions.
        dropout: before the linear layer.
    """

    def __init__(
        self,
        levels: int,
        width: int = 32,
        side: int = 1024,
        widest: int = 256,
        norm: Norm = Norm.batch,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        widths = [min(width * 2**i, widest) for i in range(int(math.log2(side / 16)) + 1)]
        stages = [ConvStage(3, widths[0], 7, 2, norm)]
        stages += [ConvStage(a, b, stride=2, norm=norm) for a, b in pairwise(widths)]
        self.encoder = nn.Sequential(*stages)
        self.classify_head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[-1], levels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """IHC [N, 3, H, W] in [-1, 1] to level logits [N, levels] and pooled features [N, channels]."""
        latent = self.encoder(x).mean((2, 3))
        return self.classify_head(latent), latent
