"""Divergence of the DAB histograms: is there as much of each intensity, wherever it lies."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.dab_map import LARGEST

BINS = 100
TOP = 0.65
"""Upper end of the last bin, HED units: above ``LARGEST``."""
assert TOP > LARGEST


@pair_metric(
    "dab_kl",
    MetricInfo(
        title="DAB divergence",
        unit="nats",
        direction=Direction.LOWER,
        range=(0.0, math.inf),
        version=1,
        definition=(
            f"Kullback-Leibler divergence of the DAB histogram of the generated image from that of the real one, "
            f"KL(real || generated): {BINS} equal bins from 0 to {TOP} HED units, one pixel added to each bin of both; "
            "DAB defined as for the DAB error."
        ),
        decimals=4,
    ),
)
def dab_kl(pair: ImagePair) -> float:
    """KL(real || generated) of the histograms of the two DAB maps (``dab_map``), in nats.

    sum p ln(p / q), p and q the shares of the pixels in each of ``BINS`` bins after one pixel is added to each bin, so
    that it is finite where the generated image has none of an intensity. It does not see where the stain is.

    Returns:
        0 or more; 0 for equal histograms.
    """
    p, q = _shares(pair.dab_real), _shares(pair.dab_fake)
    return max(0.0, float((p * np.log(p / q)).sum()))


def _shares(dab: NDArray[np.float32]) -> NDArray[np.float64]:
    counts = np.asarray(cv2.calcHist([dab], [0], None, [BINS], [0, TOP]), np.float64).ravel() + 1
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
