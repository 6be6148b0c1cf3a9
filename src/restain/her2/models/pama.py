"""PAMA: tiles and a few anchors exchange what they know, aware of distance and direction between them.

Paper: Wu et al., "Position-aware masked autoencoder for histopathology WSI representation learning", MICCAI 2023.
Authors' code: MIT (WkEEn/PAMA). None of it is here.
Differs: bags are not padded (as released, padded tiles vote in the orientation and enter the class token's bins);
anchors start k-means from the sorted places of the tiles, not at random; large bags are read in chunks. Order of tiles
is of no account. The queries of the paper's Eq. 1 are the anchors; the biases of Eq. 2 are added after q k was divided
by the root of the heads' width (as released), not before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restain.her2.anchors import DISTANCE_BINS, POLAR_BINS, Positions, positions_of
from restain.her2.bag import Bag
from restain.her2.base import SlideConfig, SlideModel, SlideOutput, divides, register_model

CHUNK = 4096
"""Tokens that are read at a time: memory grows with anchors x heads x this, not with the slide."""


@dataclass(frozen=True)
class Config(SlideConfig):
    """Settings of PAMA.

    Attributes:
        width: of the tokens, 1024 (Wu 2023, 3.2; METHODS: dim).
        depth: blocks, 4.
        heads: 8.
        mlp_times: hidden units of a block's MLP over width, 4.
        tiles_per_anchor: anchors are tiles / this + 1, 18 (released; up to 400).
        max_anchors: 128.
    """

    width: int = 1024
    depth: int = 4
    heads: int = 8
    mlp_times: float = 4.0
    tiles_per_anchor: int = 18
    max_anchors: int = 128


class Heads(NamedTuple):
    """Queries (scaled), keys and values, each [heads, n, d]."""

    q: Tensor
    k: Tensor
    v: Tensor


class MLP(nn.Module):
    """Two layers with GELU."""

    def __init__(self, width: int, times: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, int(times * width))
        self.fc2 = nn.Linear(int(times * width), width)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width] to the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


def project(tokens: Tensor, qkv: nn.Linear, heads: int) -> Heads:
    """Tokens [n, width] through one projection to queries (scaled), keys and values."""
    q, k, v = qkv(tokens).unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3)
    return Heads(q * q.shape[-1] ** -0.5, k, v)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention of [heads, n, d] as [n, heads * d], without a bias."""
    return F.scaled_dot_product_attention(q[None], k[None], v[None], scale=1.0)[0].transpose(0, 1).flatten(1)


class PositionAttention(nn.Module):
    """Cross attention between anchors and tiles with biases of distance and direction (Wu 2023, Eq. 1 to 3).

    The direction is counted from each head's and anchor's main orientation: the bin in which the tiles have most
    attention (sum of |q k|).

    Args:
        width: of the tokens.
        heads: that share it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        divides(width, heads)
        self.heads = heads
        self.polar_emb = nn.Embedding(POLAR_BINS, 1)
        self.dis_embed = nn.Embedding(DISTANCE_BINS + 2, heads)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def orientation(self, votes: Tensor) -> Tensor:
        """Sums of |q k| by bin [heads, K, bins] to the polar bias of each bin, seen from the main one, same shape."""
        main = votes.argmax(-1, keepdim=True)
        rotated = (torch.arange(POLAR_BINS, device=votes.device) - main) % POLAR_BINS
        return self.polar_emb.weight[rotated, 0]

    def bias(self, table: Tensor, positions: Positions) -> Tensor:
        """Eq. 2: biases of distance and direction, [heads, K, n]; ``table`` is what ``orientation`` gives."""
        distance = self.dis_embed.weight.T[:, positions.distance.long()]
        polar = positions.polar.long().expand(self.heads, -1, -1)
        return distance + table.gather(2, polar)


def votes(scores: Tensor, positions: Positions) -> Tensor:
    """|q k| [heads, K, n] summed by polar bin, [heads, K, bins]."""
    bins = positions.polar.long().expand(len(scores), -1, -1)
    return scores.new_zeros(*scores.shape[:2], POLAR_BINS).scatter_add(2, bins, scores.detach().abs())


class Collected:
    """Softmax attention over keys that come in chunks: running sums that are rescaled as larger scores come."""

    def __init__(self) -> None:
        self.out: Tensor | None = None
        self.total: Tensor | None = None

    def add(self, scores: Tensor, v: Tensor) -> None:
        """Scores [heads, K, c] of c more keys, and their values [heads, c, d]."""
        total = scores.logsumexp(-1, keepdim=True)
        out = torch.exp(scores - total) @ v
        if self.out is None or self.total is None:
            self.out, self.total = out, total
            return
        both = torch.logaddexp(self.total, total)
        self.out = self.out * torch.exp(self.total - both) + out * torch.exp(total - both)
        self.total = both

    def result(self) -> tuple[Tensor, Tensor]:
        """Attention times values [heads, K, d], and the logarithm of the softmax's sum [heads, K, 1]."""
        assert self.out is not None
        assert self.total is not None
        return self.out, self.total


class Block(nn.Module):
    """Anchors <- tiles and tiles <- anchors, each with an MLP; identities carry the normalised tokens (as released).

    Args:
        width: of the tokens.
        heads: of the attention.
        times: hidden units of the MLP over width.
    """

    def __init__(self, width: int, heads: int, times: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = self.attention_of(width, heads)
        self.mlp = MLP(width, times)

    def forward(
        self, x: Tensor, anchors: Tensor, positions: Positions, share: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Exchange once.

        Args:
            x: tokens [n, width].
            anchors: [K, width].
            positions: [K, n].
            share: also say how token 0 (the class token) sees the others through the anchors, mean over heads.

        Returns:
            Tokens and anchors of the same shapes; the share of each other token [n - 1], which sums to 1, or None.
        """
        own = self.norm1(anchors)
        seen = project(own, self.attn.qkv, self.attn.heads)
        chunks = Chunks(self, x, positions)
        table = self.attn.orientation(self._votes(seen, chunks))
        collected, moved = Collected(), Moved(x)
        first = seen.q
        for number, (part, tokens, places) in enumerate(chunks):
            bias = self.attn.bias(table, places)
            collected.add(seen.q @ tokens.k.transpose(1, 2) + bias, tokens.v)
            shares = torch.softmax(tokens.q @ seen.k.transpose(1, 2) + bias.transpose(1, 2), -1)
            first = shares[:, 0] if number == 0 else first
            back = (shares @ seen.v).transpose(0, 1).flatten(1)
            moved.add(self.finish(part + self.attn.proj(back) + self.prompted(tokens.q)))
        out, total = collected.result()
        gathered = self.finish(own + self.attn.proj(out.transpose(0, 1).flatten(1)))
        return moved.result(), gathered, self._share(seen, chunks, table, first, total) if share else None

    def attention_of(self, width: int, heads: int) -> PositionAttention:
        """The block's attention."""
        return PositionAttention(width, heads)

    def prompted(self, q: Tensor) -> Tensor:
        """What tiles with queries [heads, n, d] get from elsewhere, [n, width]: nothing here."""
        return q.new_zeros(())

    def finish(self, x: Tensor) -> Tensor:
        """Beside an identity the MLP of the normalised tokens."""
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    @torch.no_grad()
    def _votes(self, seen: Heads, chunks: Chunks) -> Tensor:
        """|q k| by polar bin, summed over all tokens, [heads, K, bins]."""
        return torch.stack([votes(seen.q @ k.transpose(1, 2), places) for k, places in chunks.only_keys()]).sum(0)

    @torch.no_grad()
    def _share(self, seen: Heads, chunks: Chunks, table: Tensor, first: Tensor, total: Tensor) -> Tensor:
        """What token 0 sees of the anchors [heads, K] times what they see of the others."""
        shares = []
        for k, places in chunks.only_keys():
            weights = torch.exp(seen.q @ k.transpose(1, 2) + self.attn.bias(table, places) - total)
            shares.append(torch.einsum("hk,hkn->n", first, weights))
        share = torch.cat(shares)[1:]
        return share / share.sum()


class Chunks:
    """The tokens of a slide, normalised and projected chunk by chunk, again each time they are asked for.

    A bag of one chunk is projected once.
    """

    def __init__(self, block: Block, x: Tensor, positions: Positions) -> None:
        self.block, self.positions = block, positions
        self.parts = torch.split(x, CHUNK)
        self.whole = self._project(0) if len(self.parts) == 1 else None

    def __iter__(self) -> Iterator[tuple[Tensor, Heads, Positions]]:
        """Normalised tokens [c, width], their projections, and their positions [K, c]."""
        for number in range(len(self.parts)):
            yield self.whole if self.whole is not None else self._project(number)

    def only_keys(self) -> Iterator[tuple[Tensor, Positions]]:
        """The keys alone [heads, c, d], and their positions."""
        qkv, heads = self.block.attn.qkv, self.block.attn.heads
        width = qkv.in_features
        for number in range(len(self.parts)):
            if self.whole is not None:
                yield self.whole[1].k, self.whole[2]
            else:
                k = F.linear(
                    self.block.norm1(self.parts[number]), qkv.weight[width : 2 * width], qkv.bias[width : 2 * width]
                )
                yield k.view(len(k), heads, -1).transpose(0, 1), self._places(number)

    def _project(self, number: int) -> tuple[Tensor, Heads, Positions]:
        part = self.block.norm1(self.parts[number])
        return part, project(part, self.block.attn.qkv, self.block.attn.heads), self._places(number)

    def _places(self, number: int) -> Positions:
        span = slice(number * CHUNK, number * CHUNK + len(self.parts[number]))
        return Positions(self.positions.distance[:, span], self.positions.polar[:, span])


class Moved:
    """The new tokens of a slide, chunk by chunk; without gradients they are written where they will lie."""

    def __init__(self, x: Tensor) -> None:
        self.parts: list[Tensor] = []
        self.place = None if torch.is_grad_enabled() else torch.empty_like(x)
        self.count = 0

    def add(self, part: Tensor) -> None:
        """The next ones, [c, width]."""
        if self.place is None:
            self.parts.append(part)
        else:
            self.place[self.count : self.count + len(part)] = part
            self.count += len(part)

    def result(self) -> Tensor:
        """All of them, [n, width]."""
        return torch.cat(self.parts) if self.place is None else self.place


def start_values(module: nn.Module) -> None:
    """Initial values of linear layers: Glorot's uniform ones, biases 0 (as masked autoencoders have them).

    Embeddings keep their normal ones of 1: heads and anchors then look at other distances from the first step on, and
    learn; with small ones all anchors gather the same mean of the slide.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)


def token(*shape: int) -> nn.Parameter:
    """Learnable tokens, normal of 0.02."""
    return nn.Parameter(0.02 * torch.randn(shape))


@register_model("pama", paper="Wu et al., MICCAI 2023", code_licence="MIT")
class PAMA(SlideModel):
    """Tiles, a class token and anchors through blocks; the class token is classified."""

    starts_from_encoder = True

    def __init__(self, config: Config, in_dim: int, classes: int) -> None:
        super().__init__(config, in_dim, classes)
        self.config: Config
        self.cls_token = token(1, 1, config.width)
        self.kernel_token = token(1, 1, config.width)
        self.patch_embed = nn.Linear(in_dim, config.width)
        self.blocks = nn.ModuleList(self.block() for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, classes)
        start_values(self)

    def block(self) -> Block:
        """One block."""
        return Block(self.config.width, self.config.heads, self.config.mlp_times)

    def tokens(
        self, features: Tensor, positions: Positions, share: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Tiles [n, d] and where they lie as seen from K anchors, through all blocks.

        Args:
            features: one row a tile.
            positions: [K, n].
            share: also compute the class token's attention in the last block.

        Returns:
            Class token and tiles [1 + n, width], anchors [K, width] (neither normalised), attention [n] or None.
        """
        x = torch.cat([self.cls_token[0], self.patch_embed(features)])
        anchors = self.kernel_token[0].expand(len(positions), -1)
        places = positions.with_class_token()
        attention = None
        for number, block in enumerate(cast("list[Block]", self.blocks)):
            x, anchors, attention = block(x, anchors, places, share and number == len(self.blocks) - 1)
        return x, anchors, attention

    def encode(
        self, features: Tensor, positions: Positions, share: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """As ``tokens``: the normalised class token [width], normalised anchors [K, width], attention [n] or None."""
        x, anchors, attention = self.tokens(features, positions, share)
        return self.norm(x[0]), self.norm(anchors), attention

    def classify(self, bag: Bag) -> SlideOutput:
        """Logits of the class token."""
        positions = positions_of(bag, self.config.tiles_per_anchor, self.config.max_anchors)
        slide, _, attention = self.encode(bag.features, positions, share=not self.training)
        return SlideOutput(self.head(slide), attention)
