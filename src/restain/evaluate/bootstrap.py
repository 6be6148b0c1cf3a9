"""Means with bootstrap intervals, over images or over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restain.evaluate.protocol import Interval

INTERVAL = Interval(confidence=0.95, resamples=2000, seed=0)
"""Of analyses that no protocol rules."""

# Random indices drawn at a time: 32 MiB of them, however many images there are.
CHUNK = 1 << 22


@dataclass(frozen=True)
class Estimate:
    """A mean over images.

    Attributes:
        mean: over the images with a finite value; None if there is none.
        low: lower end of the interval; None where a single image or patient allows none.
        high: upper end.
        n: number of images in the mean.
        infinite: images left out of the mean because their value is infinite (PSNR of identical images).
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    infinite: int = 0


def estimate(values: NDArray[np.float64], units: Sequence[str], interval: Interval) -> Estimate:
    """The mean of ``values`` with its percentile bootstrap interval.

    Whole units are drawn with replacement, each with all of its images, and the mean is over the images drawn. Images
    of one patient resemble each other: resampled as if they were independent, their intervals would be too narrow.

    Args:
        values: one per image [n]; infinite ones are counted and left out.
        units: what is resampled, one name per image (its patient, or the image itself).
        interval: confidence, number of samples, seed; the same seed gives the same interval wherever it is called.
    """
    finite = np.isfinite(values)
    kept = values[finite]
    if not kept.size:
        return Estimate(None, None, None, 0, int((~finite).sum()))
    _, unit = np.unique(np.asarray(units, dtype=str)[finite], return_inverse=True)
    sums: NDArray[np.float64] = np.bincount(unit, weights=kept).astype(np.float64)
    counts = np.bincount(unit).astype(np.float64)
    low, high = _interval(sums, counts, interval) if sums.size > 1 else (None, None)
    return Estimate(float(kept.mean()), low, high, int(kept.size), int((~finite).sum()))


def _interval(sums: NDArray[np.float64], counts: NDArray[np.float64], interval: Interval) -> tuple[float, float]:
    """Percentile interval of sum / count over resampled units, whose ``sums`` and ``counts`` are [units]."""
    random = np.random.default_rng(interval.seed)
    units = sums.size
    rows = max(1, CHUNK // units)
    means = []
    for start in range(0, interval.resamples, rows):
        drawn = random.integers(0, units, (min(rows, interval.resamples - start), units))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    tail = (1 - interval.confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)
