"""SSIM of grey images."""

from __future__ import annotations

import cv2
import numpy as np

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.sizes import check_side
from restain.metrics.ssim import WINDOW, uniform_ssim


@pair_metric(
    "ssim_grey",
    MetricInfo(
        title="SSIM, grey",
        unit="",
        direction=Direction.HIGHER,
        range=(-1.0, 1.0),
        version=1,
        definition=(
            "Mean structural similarity as for SSIM (7x7 uniform window), but of grey images: 0.299 R + 0.587 G + "
            "0.114 B, rounded to 8 bits."
        ),
        decimals=4,
    ),
)
def ssim_grey(pair: ImagePair) -> float:
    """Mean SSIM with a 7x7 uniform window (see ``ssim``) of the grey images that OpenCV's ``RGB2GRAY`` makes.

    Returns:
        -1 to 1; 1 for images of the same grey.

    Raises:
        ItemError: a side is shorter than the window.
    """
    check_side(pair, WINDOW, "SSIM")
    real, fake = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (pair.real, pair.fake))
    return uniform_ssim(np.asarray(real, np.uint8)[..., None], np.asarray(fake, np.uint8)[..., None])
