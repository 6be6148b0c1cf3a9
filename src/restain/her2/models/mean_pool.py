"""The mean of all tiles, classified: what a model with attention must beat.

Paper: none; the instance-free baseline of multiple-instance learning (Ilse et al., ICML 2018, compare with it).
Authors' code: none. Order of tiles is of no account.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from restain.her2.bag import Bag
from restain.her2.base import SlideConfig, SlideModel, SlideOutput, register_model


@dataclass(frozen=True)
class Config(SlideConfig):
    """Settings of the mean pool.

    Attributes:
        width: of the tiles' hidden features, 512, as CLAM's.
        dropout: 0.25 of them, as CLAM's.
    """

    width: int = 512
    dropout: float = 0.25


@register_model("mean_pool", paper="a baseline", code_licence="none released")
class MeanPool(SlideModel):
    """Hidden features of the tiles, their mean, a linear classifier."""

    def __init__(self, config: Config, in_dim: int, classes: int) -> None:
        super().__init__(config, in_dim, classes)
        self.hidden = nn.Sequential(nn.Linear(in_dim, config.width), nn.ReLU(), nn.Dropout(config.dropout))
        self.head = nn.Linear(config.width, classes)

    def classify(self, bag: Bag) -> SlideOutput:
        """Logits of the mean; every tile weighs the same."""
        logits = self.head(self.hidden(bag.features).mean(0))
        return SlideOutput(logits, torch.full((len(bag),), 1 / len(bag), device=bag.features.device))
