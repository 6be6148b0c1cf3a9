"""Learning-rate schedules: one multiplier an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Convention(StrEnum):
    """When the released codes step their "a + b epochs" schedule (they differ by one epoch).

    ``start``: at the start of each epoch, counted from 1 (pix2pix, BCI, TDKstain): the decay begins in epoch a and
    the last epoch runs at 0. ``end``: after each epoch (CUT, ASP): the decay begins after epoch a and the last epoch
    runs at 1 / (b + 1). ``subtract``: 1 / b is taken off after each epoch from a + 1 on (pix2pixHD).
    """

    start = "start"
    end = "end"
    subtract = "subtract"


@dataclass(frozen=True)
class LinearSchedule:
    """Constant, then linear to zero.

    Attributes:
        constant: a, epochs at the full rate.
        decay: b, epochs of decay. With 0 the rule of ``start`` still puts the last epoch at 0.
        convention: when the rate is stepped.
    """

    constant: int
    decay: int
    convention: Convention = Convention.start

    @property
    def epochs(self) -> int:
        """All epochs, a + b."""
        return self.constant + self.decay

    def multiplier(self, epoch: int) -> float:
        """The factor on the learning rate in ``epoch`` (counted from 1)."""
        if self.convention is Convention.subtract:
            return 1.0 - max(0, epoch - 1 - self.constant) / max(self.decay, 1)
        e = epoch if self.convention is Convention.start else epoch - 1
        return 1.0 - max(0, e + 1 - self.constant) / (self.decay + 1)
