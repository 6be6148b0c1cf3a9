"""Nystromformer: a transformer over the tiles, whose attention is approximated around landmarks.

Paper: Xiong et al., "Nystromformer: a Nystrom-based algorithm for approximating self-attention", AAAI 2021.
Authors' code: Apache-2.0 (mlpen/Nystromformer). None of it is here.
Differs: any number of tiles works (segments of the landmarks differ by one where it is no multiple; with no more tiles
than landmarks the attention is exact), and the pseudo-inverse starts from each head's own maxima (``pinv_init: batch``
is the released start). The slide classifier around the attention (class token, layers with pre-norm) is ours: the paper
that compares it on HER2 does not describe its own.
The output depends on the order of the tiles: landmarks are means of consecutive tiles, and a convolution runs along
them. Bags are read as they come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

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


@dataclass(frozen=True)
class Config(SlideConfig):
    """Settings of the Nystromformer.

    Attributes:
        width: of the tokens, 512 (as TransMIL, beside which it is compared).
        depth: layers, 2 (released long-range settings).
        heads: 8.
        landmarks: 64 (Xiong 2021, 5.1).
        pinv_iterations: 6 (Xiong 2021, 3.2).
        pinv_init: head, or batch as released.
        conv_kernel: of the residual convolution along the values, 35 (released long-range settings).
        mlp_times: hidden units of a layer's MLP over width, 2 (released long-range settings: 128 of 64).
        dropout: 0.1 (released long-range settings).
    """

    width: int = 512
    depth: int = 2
    heads: int = 8
    landmarks: int = 64
    pinv_iterations: int = 6
    pinv_init: PinvInit = PinvInit.head
    conv_kernel: int = 35
    mlp_times: float = 2.0
    dropout: float = 0.1


class NystromAttention(nn.Module):
    """The attention of Xiong 2021 (Eq. 13) on queries, keys and values that are there.

    Args:
        heads: of the values.
        landmarks: means of q and k; where there are no more rows than that, attention is exact.
        conv_kernel: of the convolution along the values that is added; 0 for none.
        iterations: of the pseudo-inverse.
        init: its start.
    """

    def __init__(self, heads: int, landmarks: int, conv_kernel: int, iterations: int, init: PinvInit) -> None:
        super().__init__()
        self.landmarks, self.iterations, self.init = landmarks, iterations, init
        self.conv = sequence_conv(heads, conv_kernel) if conv_kernel else None

    def prepare(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scaled q and k [batch, heads, n, d], rows of a mask [batch, n] (1 valid) at zero, and the bias of keys."""
        scale = q.shape[-1] ** -0.25
        q, k = q * scale, k * scale
        if mask is None:
            return q, k, None
        keep = mask.to(q.dtype)[:, None, :, None]
        return q * keep, k * keep, -1e9 * (1 - mask.to(q.dtype))[:, None, None, :]

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """q, k, v [batch, heads, n, d] and mask [batch, n] (1 valid) to [batch, heads, n, d]."""
        q, k, bias = self.prepare(q, k, mask)
        if q.shape[-2] <= self.landmarks:
            whole = None if bias is None else bias.expand(-1, 1, q.shape[-2], -1)
            out = F.scaled_dot_product_attention(q, k, v, whole, scale=1.0)
        else:
            out = Landmarks(q, k, self.landmarks, self.iterations, self.init, bias)(v)
        if self.conv is not None:
            out = out + self.conv(v if mask is None else v * mask.to(v.dtype)[:, None, :, None])
        return out

    def row(self, q: Tensor, k: Tensor, token: int) -> Tensor:
        """The attention of ``token`` in batch element 0, mean over heads, [n]."""
        q, k, _ = self.prepare(q, k)
        if q.shape[-2] <= self.landmarks:
            return torch.softmax(q[0, :, token, None] @ k[0].transpose(-1, -2), -1).mean(0)[0]
        return Landmarks(q, k, self.landmarks, self.iterations, self.init).row(token)


class Layer(nn.Module):
    """Norm, attention, norm, MLP; each pair beside an identity."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, hidden = config.width, int(config.mlp_times * config.width)
        self.heads = config.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention = NystromAttention(
            config.heads, config.landmarks, config.conv_kernel, config.pinv_iterations, config.pinv_init
        )
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(config.dropout))
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(hidden, width)
        )

    def project(self, x: Tensor) -> list[Tensor]:
        """Tokens [1, n, width] to q, k, v [1, heads, n, d]."""
        return [split_heads(part, self.heads) for part in self.qkv(self.norm1(x)).chunk(3, -1)]

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [1, n, width] to the same shape."""
        q, k, v = self.project(x)
        x = x + self.out(join_heads(self.attention(q, k, v)))
        moved: Tensor = x + self.mlp(self.norm2(x))
        return moved


@register_model("nystromformer", paper="Xiong et al., AAAI 2021", code_licence="Apache-2.0")
class Nystromformer(SlideModel):
    """Tiles and a class token through layers with Nystrom attention; the class token is classified."""

    ordered = True

    def __init__(self, config: Config, in_dim: int, classes: int) -> None:
        super().__init__(config, in_dim, classes)
        self.config: Config
        divides(config.width, config.heads)
        if config.conv_kernel % 2 == 0:
            raise RestainError(f"conv_kernel is {config.conv_kernel}; it is odd.")
        self.embed = nn.Linear(in_dim, config.width)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, config.width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, classes)

    def classify(self, bag: Bag) -> SlideOutput:
        """Logits of the class token; its attention in the last layer."""
        x = torch.cat([self.cls_token, self.embed(bag.features)[None]], 1)
        attention = None
        for number, layer in enumerate(cast("list[Layer]", self.layers)):
            if number == len(self.layers) - 1 and not self.training:
                with torch.no_grad():
                    q, k, _ = layer.project(x)
                    attention = token_share(layer.attention.row(q, k, 0)[1:], len(bag))
            x = layer(x)
        return SlideOutput(self.head(self.norm(x[0, 0])), attention)
