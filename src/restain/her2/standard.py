"""Features on one scale: mean 0, deviation 1 over the tiles of the training patients, kept with the weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from restain.her2.bag import Bag

CONSTANT = 1e-6
"""Columns whose deviation is below this share of their mean size (or of 1) say nothing and become 0."""


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean and scale of each column, of the H&E and of the IHC (whose stain moves every column).

    Attributes:
        mean: float32 [d].
        scale: float32 [d]; what a centred column is multiplied with: 1 / deviation, 0 for a constant column.
        ihc_mean: the same of the IHC; None without.
        ihc_scale: the same.
    """

    mean: Tensor
    scale: Tensor
    ihc_mean: Tensor | None = None
    ihc_scale: Tensor | None = None

    @classmethod
    def over(cls, bags: Iterable[Bag]) -> Standard:
        """The standard of all tiles of ``bags`` (those that train; no other patient may enter)."""
        he, ihc = _Sums(), _Sums()
        for bag in bags:
            he.add(bag.features)
            if bag.ihc is not None:
                ihc.add(bag.ihc)
        return cls(*he.result(), *(ihc.result() if ihc.count else (None, None)))

    def apply(self, bag: Bag) -> Bag:
        """The bag on this standard; nothing that was computed from it is kept."""
        ihc = bag.ihc
        if ihc is not None and self.ihc_mean is not None and self.ihc_scale is not None:
            ihc = (ihc - self.ihc_mean) * self.ihc_scale
        return replace(bag, features=(bag.features - self.mean) * self.scale, ihc=ihc, made={})

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


class _Sums:
    """Sums over tiles in float64, around the first bag's mean so that little is cancelled."""

    def __init__(self) -> None:
        self.count = 0
        self.around = self.sum = self.squares = torch.zeros(0, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        values = features.double()
        if not self.count:
            self.around = values.mean(0)
            self.sum, self.squares = torch.zeros_like(self.around), torch.zeros_like(self.around)
        centred = values - self.around
        self.count += len(values)
        self.sum = self.sum + centred.sum(0)
        self.squares = self.squares + (centred**2).sum(0)

    def result(self) -> tuple[Tensor, Tensor]:
        shift = self.sum / self.count
        deviation = (self.squares / self.count - shift**2).clamp_min(0).sqrt()
        mean = self.around + shift
        varies = deviation > CONSTANT * mean.abs().clamp_min(1e-3)
        scale = torch.where(varies, 1 / deviation.clamp_min(1e-30), torch.zeros_like(deviation))
        return mean.float(), scale.float()
