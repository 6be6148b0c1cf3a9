"""Colour deconvolution into haematoxylin, eosin and DAB (Ruifrok and Johnston 2001), as scikit-image does it.

scikit-image's ``rgb2hed`` differs from the paper's optical densities in three ways, kept here because datasets and
published results rest on them:

- The logarithm is to the base 1e-6: absorbance = log(max(rgb, 1e-6)) / log(1e-6) with rgb in 0 to 1, which lies in
  0 (white) to 1 (black, clipped at 1e-6). One such unit is 6 decadic optical densities.
- White is 255 in every channel, whatever the glass looks like.
- The stain vectors below are not normalised to length 1, and negative amounts are set to 0.

Amounts = absorbance @ inv(``RGB_FROM_HED``). An 8-bit channel has 256 values, so the logarithm is looked up.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Absorbance of red, green and blue per unit of haematoxylin, eosin and DAB (rows)."""

HED_FROM_RGB = np.linalg.inv(RGB_FROM_HED)
"""Amounts of haematoxylin, eosin and DAB (columns) per unit of absorbance in red, green and blue."""

FLOOR = 1e-6
"""What rgb2hed takes 0 as, and the base of its logarithm."""

_ABSORBANCE = np.log(np.maximum(np.arange(256) / 255, FLOOR)) / np.log(FLOOR)

_UNIT_VECTORS = RGB_FROM_HED / np.linalg.norm(RGB_FROM_HED, axis=1, keepdims=True)
UNIT_HED_FROM_RGB = np.linalg.inv(_UNIT_VECTORS)
"""As ``HED_FROM_RGB`` with stain vectors of length 1 (Ruifrok and Johnston): decadic optical density in and out."""


def hed(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Amounts of haematoxylin, eosin and DAB: ``skimage.color.rgb2hed`` to 1e-6.

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        float32 [H, W, 3], each at least 0; strong stain is about 0.1 to 0.3.
    """
    return _unmixed(rgb, HED_FROM_RGB)


def dab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The amount of DAB alone, channel 2 of ``hed``.

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        float32 [H, W], at least 0.
    """
    return _unmixed(rgb, HED_FROM_RGB[:, 2:])


def dab_exact(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """``dab`` in double precision, for what compares it with a threshold: float64 [H, W], at least 0."""
    return _unmixed(rgb, HED_FROM_RGB[:, 2:], np.float64)


def dab_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with its DAB alone: ``skimage.color.hed2rgb`` of the amounts (0, 0, DAB).

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        uint8 [H, W, 3], brown on white.
    """
    exponent = dab(rgb)[..., None] * (RGB_FROM_HED[2] * np.log(FLOOR)).astype(np.float32)
    return np.asarray(np.rint(np.exp(exponent, out=exponent) * 255), np.uint8)


def optical_density(rgb: NDArray[np.uint8], white: ArrayLike = 255) -> NDArray[np.float32]:
    """Decadic optical density, -log10(I / I0), of each channel.

    Args:
        rgb: uint8 [H, W, 3]; 0 is taken as 1, the darkest light that 8 bits can tell from none.
        white: the light I0 where there is no stain: one value or [3], 1 to 255. ``slides.glass_colour`` estimates it.

    Returns:
        float32 [H, W, 3], at least 0 (brighter than white is white), at most log10(I0).

    Raises:
        ValueError: not uint8 RGB, or ``white`` below 1.
    """
    _check(rgb)
    light = np.broadcast_to(np.asarray(white, np.float64), (3,))
    if light.min() < 1:
        raise ValueError(f"white must be at least 1 in every channel, not {light.tolist()}")
    table = np.log10(light) - np.log10(np.maximum(np.arange(256), 1))[:, None]
    table = np.maximum(table, 0).astype(np.float32)[:, None, :]
    return np.asarray(cv2.LUT(np.ascontiguousarray(rgb), table), np.float32)


def haematoxylin(rgb: NDArray[np.uint8], white: ArrayLike = 255) -> NDArray[np.float32]:
    """The amount of haematoxylin, told from eosin and DAB by Ruifrok and Johnston's vectors of length 1.

    Args:
        rgb: uint8 [H, W, 3], H&E or IHC.
        white: the glass's colour, one value or [3], 1 to 255.

    Returns:
        float32 [H, W], decadic optical density, at least 0.
    """
    amount = cv2.transform(optical_density(rgb, white), UNIT_HED_FROM_RGB.T[:1].astype(np.float32))
    return np.asarray(np.maximum(amount, 0, dtype=np.float32))


def _unmixed(
    rgb: NDArray[np.uint8], matrix: NDArray[np.float64], dtype: type[np.floating[Any]] = np.float32
) -> NDArray[Any]:
    """max(absorbance @ matrix, 0), ``dtype`` [H, W] for a single column, else [H, W, columns]."""
    _check(rgb)
    absorbance = cv2.LUT(np.ascontiguousarray(rgb), _ABSORBANCE.astype(dtype))
    amounts = cv2.transform(absorbance, matrix.T.astype(dtype))
    return np.asarray(np.maximum(amounts, 0, out=amounts), dtype)


def _check(rgb: NDArray[np.uint8]) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected uint8 [H, W, 3], got {rgb.dtype} {rgb.shape}")
