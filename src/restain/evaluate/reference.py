"""The best constant-colour image: the bar that every stainer must pass on DAB error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.metrics.dab_map import dab_map

# Bins per HED unit. The constant lies on a bin edge, at most half a bin from the true median.
RESOLUTION = 4096


@dataclass(frozen=True)
class DabHistogram:
    """How the DAB of one image is distributed: enough to know its mean error against any constant on a bin edge.

    Attributes:
        counts: pixels in each bin of width 1 / RESOLUTION, from 0 up to the image's largest value, float64 [bins].
        sums: their DAB summed up, float64 [bins].
    """

    counts: NDArray[np.float64]
    sums: NDArray[np.float64]

    def error(self, constant: float) -> float:
        """Mean |DAB - constant| over the image's pixels, in HED units; exact if ``constant`` is on a bin edge."""
        edge = round(constant * RESOLUTION)
        below, sum_below = self.counts[:edge].sum(), self.sums[:edge].sum()
        above, sum_above = self.counts[edge:].sum(), self.sums[edge:].sum()
        return float((sum_above - sum_below + constant * (below - above)) / (below + above))


def dab_histogram(values: NDArray[np.float32]) -> DabHistogram:
    """The histogram of a DAB map [H, W] in HED units."""
    flat = values.ravel()
    bins = (flat * RESOLUTION).astype(np.int64)
    return DabHistogram(np.bincount(bins).astype(np.float64), np.bincount(bins, weights=flat).astype(np.float64))


@dataclass(frozen=True)
class BestConstant:
    """The constant-colour image with the smallest mean DAB error.

    Attributes:
        dab: its DAB, in HED units.
        errors: its DAB error against each image, in HED units, float64 [n].
    """

    dab: float
    errors: NDArray[np.float64]

    @property
    def mean_error(self) -> float:
        """Mean over images of its DAB error, in HED units."""
        return float(self.errors.mean())


def best_constant(images: Iterable[NDArray[np.uint8]]) -> BestConstant:
    """The best constant-colour image for ``images`` (uint8 RGB [H, W, 3]), which are seen once and one at a time.

    Raises:
        ItemError: there are no images.
    """
    return best_constant_of([dab_histogram(dab_map(image)) for image in images])


def best_constant_of(histograms: Sequence[DabHistogram]) -> BestConstant:
    """The best constant for images with these histograms.

    The mean over images of mean |DAB - c| is smallest where c is the median over all pixels, each image weighing the
    same whatever its size. No image of a single colour does better by more than half a bin, 1.2e-4.

    Raises:
        ItemError: there are no histograms.
    """
    if not histograms:
        raise ItemError("The best constant image needs at least one real image.")
    pooled = np.zeros(max(histogram.counts.size for histogram in histograms))
    for histogram in histograms:
        pooled[: histogram.counts.size] += histogram.counts / histogram.counts.sum()
    median_bin = int(np.searchsorted(np.cumsum(pooled), len(histograms) / 2))
    # The median is inside this bin: one of its two edges is the better one.
    edges = [edge / RESOLUTION for edge in (median_bin, median_bin + 1)]
    errors = [np.array([histogram.error(edge) for histogram in histograms]) for edge in edges]
    best = 0 if errors[0].mean() <= errors[1].mean() else 1
    return BestConstant(edges[best], errors[best])
