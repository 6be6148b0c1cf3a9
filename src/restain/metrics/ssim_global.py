"""SSIM as the challenge review prints it: of the whole image at once."""

from __future__ import annotations

import cv2
import numpy as np

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.ssim import C1, C2


@pair_metric(
    "ssim_global",
    MetricInfo(
        title="SSIM, global (review, Eq. 3)",
        unit="",
        direction=Direction.HIGHER,
        range=(0.0, 1.0),
        version=1,
        definition=(
            "(2 m_x m_y + C1)(2 s_x s_y + C2) / ((m_x² + m_y² + C1)(s_x² + s_y² + C2)) of the mean m and the standard "
            "deviation s of each whole colour channel, mean over channels: Eq. 3 of the challenge review as printed. "
            "No covariance enters, so it does not see where anything is."
        ),
        decimals=4,
    ),
)
def ssim_global(pair: ImagePair) -> float:
    """The challenge review's Eq. 3 as printed, of each whole colour channel; mean over channels.

    It holds means and standard deviations alone, no covariance (Wang 2004, Eq. 13 has one, and is local). The review
    says what follows: images whose overall distributions are alike score high whatever the local differences, and the
    mean of a local SSIM is the better measure (section VI-D). K1 0.01, K2 0.03, range 255, population deviations.

    Returns:
        0 to 1; 1 for images of the same means and deviations, identical or not.
    """
    (mean_x, deviation_x), (mean_y, deviation_y) = (
        (np.ravel(values) for values in cv2.meanStdDev(image)) for image in (pair.real, pair.fake)
    )
    brightness = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    contrast = (2 * deviation_x * deviation_y + C2) / (deviation_x**2 + deviation_y**2 + C2)
    return float((brightness * contrast).mean())
