"""The DAB map that all DAB metrics look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restain.stains import dab

UNIT = "HED"
"""One HED unit is six decades of absorption: multiply by 6 for decadic optical density."""

LARGEST = 0.6313
"""The largest DAB of an 8-bit colour once 0 is taken as 1: that of saturated yellow, (255, 255, 0)."""


def dab_map(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """DAB of every pixel: ``restain.stains.dab`` with channel values of 0 taken as 1.

    scikit-image's logarithm stops at 1e-6, so a step from 1 to 0 in an 8-bit channel would count as much as the step
    from white to 1 does, and a few clipped pixels in a strong membrane would outweigh the rest of the image.

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        float32 [H, W] in HED units, 0 to ``LARGEST``; 0 for white, 0.354 for black.
    """
    return dab(np.maximum(rgb, 1))
