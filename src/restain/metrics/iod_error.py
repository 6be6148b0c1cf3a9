"""Error of the integrated optical density: is there as much DAB in all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.dab_map import LARGEST, UNIT


@pair_metric(
    "iod_error",
    MetricInfo(
        title="IOD error",
        unit=f"{UNIT}/px",
        direction=Direction.LOWER,
        range=(0.0, LARGEST),
        version=1,
        definition=(
            "|IOD generated - IOD real| / pixels; the integrated optical density IOD is the sum of an image's DAB over "
            "all pixels, DAB defined as for the DAB error. Divided by the pixels, so that sizes do not matter, and not "
            "by the real IOD, which is 0 for an unstained image."
        ),
        decimals=5,
    ),
)
def iod_error(pair: ImagePair) -> float:
    """Absolute difference of the integrated DAB optical density (sum over all pixels), over the number of pixels.

    Integrated optical density is what image cytometry calls the amount of stain in an image. Without a threshold: what
    counts as positive would be another constant to agree on. Times pixels and 6 it is decadic optical density.

    Returns:
        0 or more, in HED units a pixel; 0 where both images carry the same amount of DAB, wherever it lies.
    """
    return abs(_total(pair.dab_fake) - _total(pair.dab_real)) / pair.dab_real.size


def _total(dab: NDArray[np.float32]) -> float:
    return float(dab.sum(dtype=np.float64))
