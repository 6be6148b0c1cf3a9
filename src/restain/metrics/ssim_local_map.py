"""SSIM as the mean of a map that has a value at every pixel."""

from __future__ import annotations

import numpy as np

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.sizes import check_side
from restain.metrics.ssim import WINDOW, uniform_ssim


@pair_metric(
    "ssim_local_map",
    MetricInfo(
        title="SSIM, whole map",
        unit="",
        direction=Direction.HIGHER,
        range=(-1.0, 1.0),
        version=1,
        definition=(
            "Mean structural similarity as for SSIM (7x7 uniform window), but over the windows around every pixel, the "
            "images mirrored at their border: the mean of the local map, which the challenge review recommends."
        ),
        decimals=4,
    ),
)
def ssim_local_map(pair: ImagePair) -> float:
    """Mean of the whole local SSIM map, border included (see ``ssim``, which leaves 3 px out).

    The same number as the mean of the map that scikit-image's ``structural_similarity(..., full=True)`` returns.

    Returns:
        -1 to 1; 1 for identical images.

    Raises:
        ItemError: a side is shorter than the window.
    """
    check_side(pair, WINDOW, "SSIM")
    edges = [(WINDOW // 2, WINDOW // 2)] * 2 + [(0, 0)]
    real, fake = (np.pad(image, edges, mode="symmetric") for image in (pair.real, pair.fake))
    return uniform_ssim(real, fake)
