"""How sharp a patch is, whatever it shows: blurred places lose fine detail before they lose structure."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

COARSEST_MPP = 1.5
"""Above this um/px a scanner's defocus of one or two um can hardly be seen."""

_FINE_UM = 0.5
_PER_PIXEL = 0.7
"""The finest scale that a pixel grid still carries, in pixels."""

_SHARP = 0.4
"""Sharpness that any scanner reaches in focus.

Measured on eleven H&E and HER2 slides of six laboratories: 0.67 to 1.7 in focus, 0.19 to 0.30 after a Gaussian blur of
1.9 um; the sharpest patches of the softest synthetic scanner have 0.42.
"""


def sharpness(rgb: NDArray[np.uint8], mpp: float) -> float:
    """Detail of 0.5 to 1 um relative to structure of 2 to 4 um: contrast, and how much there is to see, cancel out.

    Both are root mean squares of differences of Gaussians of grey optical density. Above 0.7 um/px all four scales are
    multiples of 0.7 px instead.

    Args:
        rgb: uint8 [H, W, 3].
        mpp: um/px.

    Returns:
        At least 0; about 0.4 to 1.7 in focus, depending on the scanner; 0 where there is nothing to see.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    density = -np.log10(np.maximum(grey, 1) / np.float32(255))
    sigma = max(_FINE_UM / mpp, _PER_PIXEL)
    layers = [cv2.GaussianBlur(density, (0, 0), sigma * factor) for factor in (1, 2, 4, 8)]
    fine, coarse = (float(np.sqrt(np.mean((layers[i] - layers[i + 1]) ** 2))) for i in (0, 2))
    return fine / coarse if coarse > 1e-4 else 0.0


def focus_reference(values: Sequence[float]) -> float:
    """The sharpness that patches of a slide are compared with, from that of some of its patches with tissue.

    It is their 90th percentile, for part of a slide may be out of focus; and not less than any scanner reaches, for
    all of it may be. A patch's *focus* is its sharpness relative to this.
    """
    return max(float(np.percentile(values, 90)), _SHARP) if len(values) else _SHARP
