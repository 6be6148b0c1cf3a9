"""Pearson correlation of the DAB maps: is the stain where it is in the real image."""

from __future__ import annotations

import numpy as np

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.correlation import correlation


@pair_metric(
    "dab_pearson",
    MetricInfo(
        title="DAB correlation",
        unit="",
        direction=Direction.HIGHER,
        range=(-1.0, 1.0),
        version=1,
        definition=(
            "Pearson's r of the DAB of the real and of the generated image over all pixels, DAB defined as for the DAB "
            "error; 1 where both maps are the same, 0 where only one of them varies or they are flat and differ."
        ),
        decimals=4,
    ),
)
def dab_pearson(pair: ImagePair) -> float:
    """Pearson's r of the two DAB maps (``dab_map``), pixel by pixel.

    Blind to the amount of stain (any linear change leaves it), and pixel by pixel as PSNR is: a shift lowers it.

    Returns:
        -1 to 1. A flat map correlates with nothing: 0, but 1 where the two maps are equal.
    """
    real, fake = pair.dab_real, pair.dab_fake
    if np.array_equal(real, fake):
        return 1.0
    if real.max() == real.min() or fake.max() == fake.min():
        return 0.0
    return correlation(real, fake)
