"""ABMIL: a weighted mean of the tiles, whose weights are learned.

Paper: Ilse, Tomczak, Welling, "Attention-based deep multiple instance learning", ICML 2018.
Authors' code: MIT (AMLab-Amsterdam/AttentionDeepMIL). None of it is here.
Differs: hidden features come from one layer as in CLAM, not from the paper's network for each data set. Order of tiles
is of no account.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from restain.her2.attention import GatedAttention
from restain.her2.bag import Bag
from restain.her2.base import SlideConfig, SlideModel, SlideOutput, register_model


@dataclass(frozen=True)
class Config(SlideConfig):
    """Settings of ABMIL.

    Attributes:
        width: of the tiles' hidden features, 512, as CLAM's.
        attention_width: 128 (Ilse 2018, 4.2 and 4.3).
        gated: Eq. 9; else Eq. 8.
        dropout: 0.25 of the hidden features, as CLAM's.
    """

    width: int = 512
    attention_width: int = 128
    gated: bool = True
    dropout: float = 0.25


@register_model("abmil", paper="Ilse et al., ICML 2018", code_licence="MIT")
class ABMIL(SlideModel):
    """Hidden features of the tiles, their mean weighted by attention, a linear classifier."""

    def __init__(self, config: Config, in_dim: int, classes: int) -> None:
        super().__init__(config, in_dim, classes)
        self.hidden = nn.Sequential(nn.Linear(in_dim, config.width), nn.ReLU(), nn.Dropout(config.dropout))
        self.attention = GatedAttention(config.width, config.attention_width, gated=config.gated)
        self.head = nn.Linear(config.width, classes)

    def classify(self, bag: Bag) -> SlideOutput:
        """Logits of the weighted mean (Ilse 2018, Eq. 7)."""
        hidden = self.hidden(bag.features)
        share = torch.softmax(self.attention(hidden)[0], 0)
        return SlideOutput(self.head(share @ hidden), share.detach())
