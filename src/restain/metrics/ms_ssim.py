"""MS-SSIM: SSIM at five scales."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.sizes import check_side
from restain.metrics.ssim_map import Window, local_ssim

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first (Wang 2003, section 3.2)."""
LEAST = Window.GAUSSIAN.side * 2 ** (len(WEIGHTS) - 1)
"""Smallest side that still holds a window at the coarsest scale, px."""


@pair_metric(
    "ms_ssim",
    MetricInfo(
        title="MS-SSIM",
        unit="",
        direction=Direction.HIGHER,
        range=(0.0, 1.0),
        version=1,
        definition=(
            "Multi-scale structural similarity (Wang 2003): five scales with the published exponents, 11x11 Gaussian "
            "window of sigma 1.5 px, windows that lie inside the image, 2x2 means between scales, each colour channel "
            "by itself, negative factors counted as 0, mean over channels."
        ),
        decimals=4,
    ),
)
def ms_ssim(pair: ImagePair) -> float:
    """MS-SSIM (Wang 2003, Eq. 7), of each colour channel; mean over channels.

    The product over scales of the mean contrast-structure factor to the power of ``WEIGHTS``, at the coarsest scale of
    the mean SSIM (its brightness factor included). Each scale halves the one before by 2x2 means; an odd last row or
    column is left out. A negative mean counts as 0, for it has no real power.

    Returns:
        0 to 1; 1 for identical images.

    Raises:
        ItemError: a side is shorter than ``LEAST`` px.
    """
    check_side(pair, LEAST, "MS-SSIM")
    real: NDArray[Any] = pair.real
    fake: NDArray[Any] = pair.fake
    product = np.ones(3)
    for number, weight in enumerate(WEIGHTS, 1):
        local = local_ssim(real, fake, Window.GAUSSIAN)
        factor = local.ssim if number == len(WEIGHTS) else local.contrast
        product *= np.maximum(factor, 0) ** weight
        real, fake = _halved(real), _halved(fake)
    return float(product.mean())


def _halved(image: NDArray[Any]) -> NDArray[np.float32]:
    """2x2 means of [H, W, 3]. Of 8-bit images four halvings are exact in float32."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    even = image[: 2 * height, : 2 * width].astype(np.float32)
    return np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.float32)
