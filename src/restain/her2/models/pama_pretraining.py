"""PAMA's pretraining without labels: a masked autoencoder over the tiles of a slide (Wu 2023, 2.3).

The encoder sees a quarter of the tiles and four fifths of the anchors; a small decoder of the same blocks reconstructs
the features of the others from where they lie. Its encoder can then be taken into ``pama`` and ``ipca``
(``load_pretrained``). Paper, licence and differences: see ``pama``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restain.her2.anchors import positions_of
from restain.her2.bag import Bag
from restain.her2.models import pama
from restain.her2.models.pama import PAMA, Block, start_values, token


@dataclass(frozen=True)
class Config(pama.Config):
    """Settings of the masked autoencoder; those of the encoder are PAMA's.

    Attributes:
        mask_ratio: share of the tiles that is hidden, 0.75 (Wu 2023, 3.2).
        anchor_drop: share of the anchors that is dropped, 0.2 (released).
        decoder_width: 512 (released).
        decoder_depth: blocks, 2 (released).
        decoder_heads: 8, as the encoder's.
    """

    mask_ratio: float = 0.75
    anchor_drop: float = 0.2
    decoder_width: int = 512
    decoder_depth: int = 2
    decoder_heads: int = 8


class Reconstruction(NamedTuple):
    """What the decoder made of the hidden tiles.

    Attributes:
        loss: mean squared error over the hidden tiles, 0-d; 0 where nothing was hidden (one tile).
        features: float32 [hidden, d].
        hidden: indices of the hidden tiles in the bag, int64.
    """

    loss: Tensor
    features: Tensor
    hidden: Tensor


class MaskedAutoencoder(nn.Module):
    """PAMA's encoder with a decoder of features.

    Args:
        config: its settings.
        in_dim: width of the features.
    """

    def __init__(self, config: Config, in_dim: int) -> None:
        super().__init__()
        self.config, self.in_dim = config, in_dim
        self.encoder = PAMA(config, in_dim, 2)
        self.encoder.head = nn.Identity()  # type: ignore[assignment]  # there is nothing to classify
        width = config.decoder_width
        self.decoder_embed = nn.Linear(config.width, width)
        self.mask_token = token(1, width)
        self.decoder_blocks = nn.ModuleList(
            Block(width, config.decoder_heads, config.mlp_times) for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, in_dim)
        for part in (self.decoder_embed, self.decoder_blocks, self.decoder_pred):
            start_values(part)

    def forward(self, bag: Bag) -> Reconstruction:
        """Hide tiles by chance (in training and evaluation alike) and reconstruct their features.

        Raises:
            RestainError: features of another width than the encoder's.
        """
        bag = replace(bag, label=None)  # not looked at
        self.encoder.check(bag)
        device, n = bag.features.device, len(bag)
        positions = positions_of(bag, self.config.tiles_per_anchor, self.config.max_anchors)
        if self.training:
            positions = positions.select(anchors=_some(len(positions), self.config.anchor_drop).to(device))
        seen = _some(n, self.config.mask_ratio).to(device)
        x, anchors, _ = self.encoder.tokens(bag.features[seen], positions.select(tokens=seen))
        x, anchors = (self.decoder_embed(self.encoder.norm(rows)) for rows in (x, anchors))
        whole = torch.cat([x[:1], self.mask_token.expand(n, -1).index_copy(0, seen, x[1:])])
        places = positions.with_class_token()
        for block in self.decoder_blocks:
            whole, anchors, _ = block(whole, anchors, places)
        covered = torch.ones(n, dtype=torch.bool, device=device)
        covered[seen] = False
        hidden = covered.nonzero()[:, 0]
        made = self.decoder_pred(self.decoder_norm(whole[1 + hidden]))
        loss = F.mse_loss(made, bag.features[hidden]) if len(hidden) else made.sum() * 0
        return Reconstruction(loss, made, hidden)

    def encoder_state(self) -> dict[str, Tensor]:
        """What ``load_pretrained`` of ``pama`` and ``ipca`` takes."""
        return self.encoder.state_dict()


def _some(count: int, dropped: float) -> Tensor:
    """Indices that stay of ``count`` after a share was dropped by chance, at least one; ascending."""
    stay = max(1, round(count * (1 - dropped)))
    return torch.randperm(count)[:stay].sort().values
