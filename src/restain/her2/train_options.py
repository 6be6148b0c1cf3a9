"""How slide models are trained: settings that are the same for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from restain.core.errors import RestainError
from restain.nn.devices import Accelerator


class Optimiser(StrEnum):
    """What updates the weights; ``radam_lookahead`` is TransMIL's (Shao 2021)."""

    adam = "adam"
    adamw = "adamw"
    radam_lookahead = "radam_lookahead"


class Schedule(StrEnum):
    """How the learning rate goes down.

    ``cosine``: half a cosine from the rate to 0 over all epochs (it never rises again). ``plateau``: halved after
    ``plateau_patience`` epochs without a smaller validation loss. ``constant``: not at all.
    """

    cosine = "cosine"
    plateau = "plateau"
    constant = "constant"


@dataclass(frozen=True)
class Updates:
    """How weights are updated: pretraining has these settings alone.

    Attributes:
        epochs: most epochs; one draws as many bags as there are patients to train on.
        batch: bags whose gradients are averaged for one update.
        optimizer: adam, adamw or radam_lookahead.
        rate: learning rate.
        weight_decay: of the optimiser.
        schedule: cosine, plateau or constant.
        plateau_patience: epochs that plateau waits.
        tiles: tiles drawn at random from a bag, anew in each epoch; all of them if not given. Never the first ones.
        clip: largest norm of the gradient; not clipped if not given.
        seed: of initial weights, order, dropout and tiles.
        accelerator: auto takes the best there is.
        checkpoint_every: epochs between states that a stopped training goes on from.
    """

    epochs: int = 100
    batch: int = 16
    optimizer: Optimiser = Optimiser.adam
    rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: Schedule = Schedule.cosine
    plateau_patience: int = 5
    tiles: int | None = None
    clip: float | None = None
    seed: int = 0
    accelerator: Accelerator = Accelerator.auto
    checkpoint_every: int = 5

    def __post_init__(self) -> None:
        """Refuse numbers that make no training.

        Raises:
            RestainError: which one, and what it may be.
        """
        least = {"epochs": 1, "batch": 1, "plateau_patience": 1, "seed": 0, "checkpoint_every": 1}
        self._require(least | ({} if self.tiles is None else {"tiles": 1}))
        if not 0 < self.rate < math.inf or (self.clip is not None and not self.clip > 0):
            raise RestainError(f"training: rate {self.rate:g}, clip {self.clip}: give numbers above 0.")
        if not 0 <= self.weight_decay < math.inf:
            raise RestainError(f"training: weight_decay {self.weight_decay:g}: give 0 or more.")

    def _require(self, least: Mapping[str, int]) -> None:
        for name, low in least.items():
            if getattr(self, name) < low:
                raise RestainError(f"training: {name} {getattr(self, name)}: give {low} or more.")


@dataclass(frozen=True)
class StatusTraining(Updates):
    """Length, optimiser and sampling of a slide model's training; see ``Updates`` for the other settings.

    Attributes:
        weighted: draw every class equally often.
        patience: stop after this many epochs without a better validation AUC; the best epoch's weights are kept.
        min_epochs: do not stop before this epoch.
        standardise: features to mean 0 and deviation 1 over the tiles of the training patients.
        average: keep the mean of the weights after each epoch of the last share of the training, instead of one
            epoch's; only without validation patients (the classic sets). 0: the last epoch's.
    """

    weighted: bool = True
    patience: int = 20
    min_epochs: int = 20
    standardise: bool = True
    average: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that make no training.

        Raises:
            RestainError: which one, and what it may be.
        """
        super().__post_init__()
        self._require({"patience": 1, "min_epochs": 0})
        if not 0 <= self.average < 1:
            raise RestainError(f"training: average {self.average:g}: give a share below 1, from 0 on.")
