"""Learning-rate schedules: a multiplier at each moment of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Convention(StrEnum):
    """How the rate changes over "a + b epochs"; the released codes step their linear decay at different times.

    ``start``: at the start of each epoch, counted from 1 (pix2pix, BCI, TDKstain): the decay begins in epoch a and
    the last epoch runs at 0. ``end``: after each epoch (CUT, ASP): the decay begins after epoch a and the last epoch
    runs at 1 / (b + 1). ``subtract``: 1 / b is taken off after each epoch from a + 1 on (pix2pixHD). ``cosine``: at
    each step, linear from 0 to the full rate over a epochs, then half a cosine down over b (BCIStainer).
    """

    start = "start"
    end = "end"
    subtract = "subtract"
    cosine = "cosine"


@dataclass(frozen=True)
class RateSchedule:
    """a epochs of constant rate or warm-up, b epochs of decay.

    Attributes:
        constant: a, epochs at the full rate (of ``cosine``: of warm-up).
        decay: b, epochs of decay. With 0 the rule of ``start`` still puts the last epoch at 0.
        convention: how the rate changes.
        floor: what ``cosine`` ends at, as a share of the full rate.
    """

    constant: int
    decay: int
    convention: Convention = Convention.start
    floor: float = 0.0

    @property
    def epochs(self) -> int:
        """All epochs, a + b."""
        return self.constant + self.decay

    def multiplier(self, epoch: int, within: float = 0.0) -> float:
        """The factor on the learning rate.

        Args:
            epoch: counted from 1.
            within: share of the epoch that is done, in [0, 1); of no effect on the linear conventions.
        """
        if self.convention is Convention.cosine:
            return self._cosine(epoch - 1 + within)
        if self.convention is Convention.subtract:
            return 1.0 - max(0, epoch - 1 - self.constant) / max(self.decay, 1)
        e = epoch if self.convention is Convention.start else epoch - 1
        return 1.0 - max(0, e + 1 - self.constant) / (self.decay + 1)

    def _cosine(self, time: float) -> float:
        if time < self.constant:
            return time / self.constant
        share = (time - self.constant) / max(self.decay, 1)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * share))
