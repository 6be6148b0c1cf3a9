"""What tests of slide models share: small settings, bags with a known answer."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch

from restain.her2.bag import Bag
from restain.her2.base import MODELS, SlideModel, build_model

DIM, CLASSES = 12, 4
SMALL = {
    "width": 16, "attention_width": 8, "heads": 4, "depth": 2, "landmarks": 8, "conv_kernel": 5, "max_anchors": 6,
    "prompts": 5, "decoder_width": 16, "decoder_heads": 4, "decoder_depth": 1,
}  # fmt: skip


def small_config(kind: type, **changed: Any) -> Any:
    """The settings ``kind`` with small sizes."""
    names = {one.name for one in fields(kind)}
    return kind(**{name: value for name, value in (SMALL | changed).items() if name in names})


def small_model(name: str, classes: int = CLASSES, dim: int = DIM, **changed: Any) -> SlideModel:
    torch.manual_seed(0)
    return build_model(name, dim, classes, small_config(MODELS[name].info.config, **changed))


def make_bag(
    tiles: int, seed: int = 0, label: int | None = None, ihc: int = 0, shift: float = 0.0, dim: int = DIM
) -> Bag:
    """A bag on a piece of a grid; ``shift`` moves the features of every third tile."""
    chance = torch.Generator().manual_seed(seed)
    side = int(tiles**0.5) + 1
    places = torch.randperm(side * (side + 1), generator=chance)[:tiles]
    coords = torch.stack([places % side, places // side], 1).float() * 256
    features = torch.randn(tiles, dim, generator=chance)
    features[::3, :3] += shift
    shown = torch.randn(ihc, dim, generator=chance) + shift if ihc else None
    return Bag(features, coords, 256.0, shown, label)


def shuffled(bag: Bag, seed: int = 1) -> tuple[Bag, torch.Tensor]:
    """The same tiles in another order, and that order."""
    order = torch.randperm(len(bag), generator=torch.Generator().manual_seed(seed))
    return Bag(bag.features[order], bag.coords[order], bag.tile, bag.ihc, bag.label), order
