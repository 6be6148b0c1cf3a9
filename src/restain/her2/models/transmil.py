"""TransMIL: two Nystrom layers with a positional convolution between them, over the tiles laid out in a square.

Paper: Shao et al., "TransMIL: Transformer based correlated multiple instance learning for whole slide image
classification", NeurIPS 2021.
Authors' code: GPL-3.0 and non-commercial (szc19990412/TransMIL); the attention package it uses MIT
(lucidrains/nystrom-attention). None of it is here.
Differs: the package's pinned version 0.0.9 pads in front and cuts at the end, so that the class token is read from a
padding row; here the tokens themselves are returned (``unpad: last``, as from 0.0.10 on), with the released behaviour
as ``unpad: first``.
The output depends on the order of the tiles: they are laid out in a square in the order they come, and landmarks are
means of consecutive ones. Bags are read as they come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restain.core.errors import RestainError
from restain.her2.attention import (
    Landmarks,
    PinvInit,
    join_heads,
    sequence_conv,
    split_heads,
    token_share,
)
from restain.her2.bag import Bag
from restain.her2.base import SlideConfig, SlideModel, SlideOutput, divides, register_model


class Unpad(StrEnum):
    """Which rows are returned of a sequence that was padded in front."""

    last = "last"  # those of the tokens
    first = "first"  # the padding rows first, as released (a bug)


@dataclass(frozen=True)
class Config(SlideConfig):
    """Settings of TransMIL.

    Attributes:
        width: of the tokens, 512 (Shao 2021, 4).
        heads: 8 (released).
        landmarks: 256, half the width (released).
        pinv_iterations: 6 (released).
        pinv_init: batch, the maxima over all heads of the bag (released); or head.
        conv_kernel: of the residual convolution along the values, 33 (released).
        dropout: 0.1 after the attention (released).
        unpad: last, or first as released.
    """

    width: int = 512
    heads: int = 8
    landmarks: int = 256
    pinv_iterations: int = 6
    pinv_init: PinvInit = PinvInit.batch
    conv_kernel: int = 33
    dropout: float = 0.1
    unpad: Unpad = Unpad.last

    def __post_init__(self) -> None:
        """Refuse an even kernel, besides."""
        super().__post_init__()
        if self.conv_kernel % 2 == 0:
            raise RestainError(f"conv_kernel is {self.conv_kernel}; it is an odd number.")


class PaddedAttention(nn.Module):
    """Nystrom self attention of a sequence padded with zero rows in front to a multiple of the landmarks.

    Args:
        width: of the tokens.
        heads: that share ``inner`` columns.
        inner: columns of q, k and v each; ``width`` where None.
        config: landmarks, iterations, kernel, dropout, which rows are returned.
    """

    def __init__(self, width: int, heads: int, config: Config, inner: int | None = None) -> None:
        super().__init__()
        self.heads, self.config = heads, config
        inner = inner or width
        self.to_qkv = nn.Linear(width, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width), nn.Dropout(config.dropout))
        self.res_conv: nn.Module | None = sequence_conv(heads, config.conv_kernel)

    def project(self, x: Tensor) -> tuple[Landmarks, Tensor]:
        """Tokens [batch, n, width] to the attention and the values, both of the padded sequence."""
        padded = F.pad(x, (0, 0, self._padding(x.shape[1]), 0))
        q, k, v = (split_heads(part, self.heads) for part in self.to_qkv(padded).chunk(3, -1))
        config = self.config
        scaled = q * q.shape[-1] ** -0.5
        return Landmarks(scaled, k, config.landmarks, config.pinv_iterations, config.pinv_init), v

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [batch, n, width] to the same shape."""
        attention, v = self.project(x)
        out = attention(v)
        if self.res_conv is not None:
            out = out + self.res_conv(v)
        n = x.shape[1]
        moved: Tensor = self.to_out(join_heads(out))
        return moved[:, -n:] if self.config.unpad is Unpad.last else moved[:, :n]

    def row(self, x: Tensor) -> Tensor:
        """How much what is returned as token 0 attends to each of the n tokens, mean over heads, [n]."""
        padding = self._padding(x.shape[1])
        attention, _ = self.project(x)
        return attention.row(padding if self.config.unpad is Unpad.last else 0)[padding:]

    def _padding(self, n: int) -> int:
        return -n % self.config.landmarks


class PPEG(nn.Module):
    """Pyramid position encoding: depth-wise convolutions of 7, 5 and 3 over the square of tiles (Shao 2021, 3.3).

    Args:
        width: of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.proj1 = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.proj2 = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Tokens [batch, 1 + height * width, width], class token first, to the same shape; the class token stays."""
        first, tiles = tokens[:, :1], tokens[:, 1:]
        square = tiles.transpose(1, 2).reshape(len(tiles), -1, height, width)
        moved = square + self.proj(square) + self.proj1(square) + self.proj2(square)
        return torch.cat([first, moved.flatten(2).transpose(1, 2)], 1)


class Layer(nn.Module):
    """Norm and attention beside an identity."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attn = PaddedAttention(config.width, config.heads, config)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [1, n, width] to the same shape."""
        moved: Tensor = x + self.attn(self.norm(x))
        return moved


@register_model("transmil", paper="Shao et al., NeurIPS 2021", code_licence="GPL-3.0, non-commercial")
class TransMIL(SlideModel):
    """Square of tiles and a class token: layer, PPEG, layer, norm, classifier of the class token."""

    ordered = True

    def __init__(self, config: Config, in_dim: int, classes: int) -> None:
        super().__init__(config, in_dim, classes)
        self.config: Config
        divides(config.width, config.heads)
        self.pos_layer = PPEG(config.width)
        self.embed = nn.Linear(in_dim, config.width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.width))
        self.layer1, self.layer2 = Layer(config), Layer(config)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, classes)

    def classify(self, bag: Bag) -> SlideOutput:
        """Logits of the class token; its attention in the second layer."""
        n = len(bag)
        side = math.isqrt(n - 1) + 1
        places = torch.arange(side * side, device=bag.features.device) % n  # the first tiles again fill the square
        tiles = torch.relu(self.embed(bag.features))[places]
        x = torch.cat([self.cls_token, tiles[None]], 1)
        x = self.pos_layer(self.layer1(x), side, side)
        attention = None
        if not self.training:
            with torch.no_grad():
                attention = token_share(self.layer2.attn.row(self.layer2.norm(x))[1:], n)
        x = self.layer2(x)
        return SlideOutput(self.head(self.norm(x[0, 0])), attention)

    def reference_keys(self) -> dict[str, str]:
        """Our keys to the released ones."""
        names = {"embed.": "_fc1.0.", "head.": "_fc2."}
        keys = {}
        for key in self.state_dict():
            found = next((part for part in names if key.startswith(part)), "")
            keys[key] = names.get(found, "") + key.removeprefix(found)
        return keys
