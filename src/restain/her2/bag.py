"""A bag: the tiles of one patient's H&E as features and places, and in training the IHC's features beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from restain.core.errors import RestainError

T = TypeVar("T")

_TIES = 4
"""Columns of the features that order tiles of one and the same place."""


@dataclass(frozen=True, eq=False)
class Bag:
    """What a slide model reads. Nothing is padded: a batch is a list of bags.

    Attributes:
        features: float32 [n, d], one row a tile of the H&E.
        coords: float32 [n, 2], (x, y) of each tile's upper left corner in px.
        tile: side of a tile in the same px.
        ihc: float32 [m, d], features of the same patient's IHC; None at inference. Only training reads it.
        label: number of the patient's class; None where it is not known.
        kinds: int64 [n], the type of each tile from a classifier of nuclei, where there is one (for ``heat``).
        name: of the slide or patient, for messages.
        made: what was computed from the bag (graphs, anchors), so that a bag that is seen again needs it only once.
    """

    features: Tensor
    coords: Tensor
    tile: float
    ihc: Tensor | None = None
    label: int | None = None
    kinds: Tensor | None = None
    name: str = ""
    made: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse what no model can read, in words."""
        what = self.name or "bag"
        if self.features.ndim != 2 or not self.features.shape[0]:
            raise RestainError(f"{what}: has no tiles (features {list(self.features.shape)}). Is there tissue on it?")
        if self.coords.shape != (len(self), 2):
            raise RestainError(f"{what}: {len(self)} tiles but coordinates of shape {list(self.coords.shape)}.")
        if not self.tile > 0:
            raise RestainError(f"{what}: the side of a tile is {self.tile} px; it is above 0.")
        if self.kinds is not None and self.kinds.shape != (len(self),):
            raise RestainError(f"{what}: {len(self)} tiles but types of shape {list(self.kinds.shape)}.")
        for name in ("features", "coords", "ihc"):
            values = getattr(self, name)
            if values is not None and values.dtype is torch.float64:  # as NumPy makes them
                object.__setattr__(self, name, values.float())
        _finite(self.features, f"{what}: features of the H&E")
        _finite(self.coords, f"{what}: coordinates")
        if self.ihc is not None:
            if self.ihc.ndim != 2 or not self.ihc.shape[0]:
                raise RestainError(f"{what}: the IHC has no tiles (features {list(self.ihc.shape)}); leave it out.")
            _finite(self.ihc, f"{what}: features of the IHC")

    def __len__(self) -> int:
        """Tiles of the H&E."""
        return self.features.shape[0]

    def to(self, device: torch.device | str) -> Bag:
        """The same bag on ``device``; what was computed from it is kept."""
        moved = {
            name: value.to(device)
            for name in ("features", "coords", "ihc", "kinds")
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **moved)

    @property
    def grid(self) -> np.ndarray:
        """float64 [n, 2]: (x, y) of the tiles in sides of a tile."""
        return self.coords.detach().cpu().numpy().astype(np.float64) / self.tile

    def remember(self, key: str, compute: Callable[[], T]) -> T:
        """What ``compute`` gives, computed at the first call for ``key``."""
        if key not in self.made:
            self.made[key] = compute()
        value: T = self.made[key]
        return value

    def sorted(self) -> tuple[Bag, Tensor]:
        """The bag in the order of its coordinates (y, then x), and where each tile of this bag now is, int64 [n].

        With it a model's output cannot depend on the order in which tiles were read: not even by rounding.
        """
        order = self.remember("order", self._order)
        device = self.features.device
        places = torch.empty(len(self), dtype=torch.int64, device=device)
        index = torch.from_numpy(order).to(device)
        places[index] = torch.arange(len(self), device=device)
        kinds = None if self.kinds is None else self.kinds[index]
        own: dict[str, Any] = self.remember(
            "sorted", dict
        )  # what is computed from the sorted bag, apart from this one's
        ordered = replace(self, features=self.features[index], coords=self.coords[index], kinds=kinds, made=own)
        return ordered, places

    def _order(self) -> np.ndarray:
        coords = self.coords.detach().cpu().numpy()
        ties = self.features[:, :_TIES].detach().cpu().numpy()
        return np.lexsort((*ties.T[::-1], coords[:, 0], coords[:, 1]))


def _finite(values: Tensor, what: str) -> None:
    """Refuse NaN and infinity, with the first row that has them."""
    if not values.dtype.is_floating_point:
        raise RestainError(f"{what} are {values.dtype}; they are float32.")
    fine = values.isfinite().all(1)
    if not fine.all():
        wrong = (~fine).nonzero()[:, 0]
        raise RestainError(
            f"{what}: {len(wrong)} of {len(values)} tiles hold NaN or infinity (first: tile {int(wrong[0])}). Compute "
            "them again, or leave these tiles out."
        )
