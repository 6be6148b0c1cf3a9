"""One number of a study's results, and how shares and kappas become such numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restain.evaluate.bootstrap import INTERVAL, estimate
from restain.study.agreement import interval

ALL = "all"


@dataclass(frozen=True)
class Measure:
    """One number.

    Attributes:
        measure: what it is, as docs/reading-room.md defines it.
        readers: whose: a reader, two readers (``a | b``), or ``all``.
        images: of which: ``pairs``, ``real``, ``generated``, or ``all``.
        level: of the slide, or ``all``.
        value: None where it is not computed.
        low: lower end of its interval; None where there is none.
        high: upper end.
        n: how many entries it is made of.
        p: of its test against chance; None where none was made.
        why: the reason where it is not computed.
    """

    measure: str
    readers: str
    images: str = ALL
    level: str = ALL
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    p: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Of:
    """What a measure is of: readers, images and level, as in ``Measure``."""

    readers: str
    images: str = ALL
    level: str = ALL


def share(
    measure: str,
    of: Of,
    hits: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    units: Sequence[str],
    p: float | None = None,
    why: str = "no answers yet",
) -> Measure:
    """The share of ``hits`` among what is ``counted``, with its bootstrap interval.

    Args:
        measure: its name.
        of: what it is of.
        hits: of each entry, any shape.
        counted: which entries count, of the same shape.
        units: what is resampled, a name for each entry in their flat order.
        p: of a test against chance.
        why: what to say where nothing counts.
    """
    kept = counted.ravel()
    found = estimate(hits.ravel()[kept].astype(np.float64), np.asarray(units)[kept].tolist(), INTERVAL)
    if found.mean is None:
        return Measure(measure, of.readers, of.images, of.level, why=why)
    return Measure(measure, of.readers, of.images, of.level, found.mean, found.low, found.high, found.n, p)


def of_parts(
    measure: str,
    of: Of,
    parts: NDArray[np.float64],
    units: Sequence[str],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    nothing: str,
) -> Measure:
    """A number that is made of sums over entries, with its bootstrap interval.

    Args:
        measure: its name.
        of: what it is of.
        parts: of each entry [n, ...]; an entry that is not counted is all zero.
        units: what is resampled, a name for each entry.
        statistic: from sums [samples, ...] to numbers [samples], NaN where not defined.
        nothing: what to say where no entry counts.
    """
    counted = int(parts.reshape(len(parts), -1).any(1).sum()) if len(parts) else 0
    if not counted:
        return Measure(measure, of.readers, of.images, of.level, why=nothing)
    value = float(statistic(parts.sum(0, keepdims=True))[0])
    if not math.isfinite(value):
        why = "not defined: all grades are one and the same"
        return Measure(measure, of.readers, of.images, of.level, n=counted, why=why)
    low, high = interval(parts, units, statistic) or (None, None)
    return Measure(measure, of.readers, of.images, of.level, value, low, high, counted)
