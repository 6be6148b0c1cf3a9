"""Stained membranes as TDKstain sees them (Peng 2024): where the picture of the DAB alone is saturated.

Its two uses: a soft mask that tells the stainer where membranes are (Sec. 2, "Domain Knowledge in HER2 Scoring"), and
the share of the image above rising thresholds, which compares a generated IHC with the real one (Sec. 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.stains.deconvolution import FLOOR, RGB_FROM_HED, dab_exact

THRESHOLDS = tuple(round(0.10 + 0.02 * step, 2) for step in range(21))
"""0.10, 0.12, ... 0.50 (TDKstain Sec. 3, "Task-specific Domain Knowledge Analysis")."""

_EXPONENT = np.log(FLOOR) * RGB_FROM_HED[2]
"""Natural logarithm of red, green and blue per unit of DAB."""


def dab_only(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The picture with its DAB alone, not yet rounded: ``skimage.color.hed2rgb`` of the amounts (0, 0, DAB).

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        float64 [H, W, 3] in (0, 1], brown on white.
    """
    return np.asarray(np.exp(dab_exact(rgb)[..., None] * _EXPONENT))


def dab_saturation(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """HSV saturation, 1 - min / max, of the picture with its DAB alone.

    DAB absorbs blue most and red least, so that min and max are the blue and the red of ``dab_only``; their ratio is
    one exponential of the amount, and the picture itself is not needed.

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        float64 [H, W], 0 (no DAB) to below 1.
    """
    return np.asarray(-np.expm1(dab_exact(rgb) * (_EXPONENT[2] - _EXPONENT[0])))


def membrane_mask(rgb: NDArray[np.uint8], threshold: float = 0.15, blur: bool = True) -> NDArray[np.uint8]:
    """Where membranes are stained, by a threshold on ``dab_saturation``.

    Args:
        rgb: real IHC, uint8 [H, W, 3].
        threshold: saturation above which (strictly) a pixel is membrane; 0.15 in the authors' code.
        blur: soften the mask with a Gaussian of 9x9 px and sigma 3 px (the authors' code).

    Returns:
        uint8 [H, W], 0 or 255, in between where softened.
    """
    mask = np.where(dab_saturation(rgb) > threshold, np.uint8(255), np.uint8(0))
    return np.asarray(cv2.GaussianBlur(mask, (9, 9), 3) if blur else mask, np.uint8)


def membrane_ratio(rgb: NDArray[np.uint8], thresholds: Sequence[float] = THRESHOLDS) -> NDArray[np.float32]:
    """The share of all pixels whose ``dab_saturation`` is above each threshold (strictly).

    Args:
        rgb: uint8 [H, W, 3].
        thresholds: [n], in any order.

    Returns:
        float32 [n] in [0, 1].

    Raises:
        ValueError: an image without pixels.
    """
    if not rgb.size:
        raise ValueError(f"an image without pixels has no membrane ratio: {rgb.shape}")
    values = np.sort(dab_saturation(rgb), axis=None)
    below = np.searchsorted(values, np.asarray(thresholds, np.float64), side="right")
    return np.asarray(1 - below / values.size, np.float32)
