"""pix2pixHD's coarse-to-fine generator (Wang 2018, section 3.2)."""

from __future__ import annotations

import re

import torch.nn.functional as F
from torch import Tensor, nn

from restain.nn.generators import ResnetBlock, ResnetGenerator
from restain.nn.norms import Norm


class LocalEnhancer(nn.Module):
    """A residual generator on the smallest of several images, and on each larger one an enhancer that adds to it.

    Args:
        width: channels at full resolution ("ngf"); twice as many at each coarser one.
        enhancers: larger images above the smallest.
        downsamplings: stride-2 convolutions of the generator on the smallest image.
        blocks: its residual blocks.
        enhancer_blocks: residual blocks of each enhancer.
        norm: of all layers but the last.
        in_channels: of the input image.
        out_channels: of the output image.
    """

    def __init__(
        self,
        width: int = 32,
        enhancers: int = 1,
        downsamplings: int = 4,
        blocks: int = 9,
        enhancer_blocks: int = 3,
        norm: Norm = Norm.instance,
        in_channels: int = 3,
        out_channels: int = 3,
    ) -> None:
        super().__init__()
        coarsest = width * 2**enhancers
        whole = ResnetGenerator(in_channels, out_channels, coarsest, blocks, downsamplings, norm, bias=True)
        self.model = whole.model[:-3]  # without its last padding, convolution and tanh
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for number in range(1, enhancers + 1):
            c = width * 2 ** (enhancers - number)
            self.down.append(
                nn.Sequential(
                    nn.ReflectionPad2d(3),
                    nn.Conv2d(in_channels, c, 7),
                    norm.layer(c),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(c, 2 * c, 3, 2, 1),
                    norm.layer(2 * c),
                    nn.ReLU(inplace=True),
                )
            )
            last = [nn.ReflectionPad2d(3), nn.Conv2d(c, out_channels, 7), nn.Tanh()] if number == enhancers else []
            self.up.append(
                nn.Sequential(
                    *(ResnetBlock(2 * c, norm, bias=True) for _ in range(enhancer_blocks)),
                    nn.ConvTranspose2d(2 * c, c, 3, 2, 1, output_padding=1),
                    norm.layer(c),
                    nn.ReLU(inplace=True),
                    *last,
                )
            )
        self.multiple = 2 ** (downsamplings + enhancers)
        self.least = 2 * self.multiple
        # The longest way: poolings, the generator on the smallest image without its last 7x7, on each larger image the
        # blocks and the transposed convolution, at the end a 7x7.
        own = sum((2 + 4 * enhancer_blocks) * 2**i for i in range(enhancers)) + 3
        self.margin = None if whole.margin is None else (whole.margin - 3) * 2**enhancers + own

    def forward(self, x: Tensor) -> Tensor:
        """Image [N, C, H, W] in [-1, 1] to an image of the same size in (-1, 1)."""
        images = [x]
        for _ in self.down:
            images.append(F.avg_pool2d(images[-1], 3, 2, 1, count_include_pad=False))
        out: Tensor = self.model(images.pop())
        for down, up in zip(self.down, self.up, strict=True):
            out = up(down(images.pop()) + out)
        return out

    @staticmethod
    def reference_key(key: str) -> str:
        """A state-dict key of ours as the released code has it: ``model<n>_1`` goes down, ``model<n>_2`` up."""
        return re.sub(r"^(down|up)\.(\d+)\.", lambda m: f"model{int(m[2]) + 1}_{1 if m[1] == 'down' else 2}.", key)
