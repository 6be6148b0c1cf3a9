"""Pearson correlation of two maps."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Pearson's r over all pixels of two maps [H, W] that vary, -1 to 1, in float64."""
    x, y = (values.astype(np.float64).ravel() for values in (first, second))
    x -= x.mean()
    y -= y.mean()
    return float(np.clip(x @ y / math.sqrt(x @ x) / math.sqrt(y @ y), -1, 1))
