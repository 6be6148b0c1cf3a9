"""Peak signal-to-noise ratio, as the ``bci`` protocol defines it."""

from __future__ import annotations

import math
from typing import Any

import cv2
from numpy.typing import NDArray

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric

DATA_RANGE = 255


@pair_metric(
    "psnr",
    MetricInfo(
        title="PSNR",
        unit="dB",
        direction=Direction.HIGHER,
        range=(0.0, math.inf),
        version=1,
        definition="10 log10(255² / MSE), the mean squared error taken over all pixels and channels of 8-bit images.",
        decimals=3,
        infinite_means="identical images",
    ),
)
def psnr(pair: ImagePair) -> float:
    """PSNR in dB: 10 log10(255^2 / MSE) over all pixels and channels.

    The same number as scikit-image's ``peak_signal_noise_ratio`` with ``data_range=255``, which the evaluation script
    released with BCI calls. White against black gives 0 dB.

    Returns:
        dB, at least 0; ``inf`` for identical images.
    """
    return max(0.0, peak_signal_to_noise(pair.real, pair.fake, DATA_RANGE))


def peak_signal_to_noise(real: NDArray[Any], fake: NDArray[Any], data_range: float) -> float:
    """PSNR in dB of two images of one size, uint8 or floating; ``inf`` if identical, below 0 beyond ``data_range``."""
    # Of uint8 OpenCV sums integers, but it may return the root, squared: exact to the last digits of a double.
    squared_error = cv2.norm(real, fake, cv2.NORM_L2SQR)
    if squared_error == 0:
        return math.inf
    return 10 * math.log10(data_range**2 * real.size / squared_error)
