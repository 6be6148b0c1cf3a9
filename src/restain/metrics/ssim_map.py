"""Local SSIM of images of any type and range, under either of the usual windows: what its variants share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

K1, K2 = 0.01, 0.03
ROWS = 64
"""Rows of the map that are made at a time: float64 images of 1024 px would take 25 MB each."""


class Window(Enum):
    """The weights under which local statistics are taken."""

    UNIFORM = "7x7 uniform, sample covariance (divisor 48)"
    GAUSSIAN = "11x11 Gaussian of sigma 1.5 px, population covariance"

    @property
    def side(self) -> int:
        """Side of the window, px."""
        return 7 if self is Window.UNIFORM else 11

    @property
    def covariance_factor(self) -> float:
        """What a weighted mean of products of deviations is multiplied by."""
        return 49 / 48 if self is Window.UNIFORM else 1.0

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted means over the windows that lie inside values [h, w, C]: [h - side + 1, w - side + 1, C]."""
        uniform = self is Window.UNIFORM
        found = cv2.blur(values, (7, 7)) if uniform else cv2.GaussianBlur(values, (11, 11), 1.5)
        edge = self.side // 2
        return np.atleast_3d(np.asarray(found, np.float64))[edge:-edge, edge:-edge]


@dataclass(frozen=True)
class Local:
    """Means over the whole image, float64 [C].

    Attributes:
        ssim: of the local SSIM (Wang 2004, Eq. 13).
        contrast: of its factor for contrast and structure alone (Wang 2003, Eq. 2 and 3 as one).
    """

    ssim: NDArray[np.float64]
    contrast: NDArray[np.float64]


def local_ssim(
    real: NDArray[Any], fake: NDArray[Any], window: Window, data_range: float = 255, *, border: bool = False
) -> Local:
    """Mean local SSIM of each channel, in float64.

    Args:
        real: [H, W, C] of any type, H and W at least the window's side.
        fake: the same.
        window: of the local statistics.
        data_range: span of the values: 255, or 1 for images in [0, 1].
        border: windows around every pixel, the image mirrored at its edge (the edge itself repeated), instead of those
            that lie inside it.
    """
    edge = window.side // 2
    if border:
        real, fake = (np.pad(image, ((edge, edge), (edge, edge), (0, 0)), mode="symmetric") for image in (real, fake))
    height, width, channels = real.shape
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    windows = height - 2 * edge
    sums = np.zeros((2, channels))
    for top in range(0, windows, ROWS):
        rows = slice(top, min(top + ROWS, windows) + 2 * edge)
        x, y = real[rows].astype(np.float64), fake[rows].astype(np.float64)
        mean_x, mean_y = window.means(x), window.means(y)
        product = mean_x * mean_y
        squares = mean_x**2 + mean_y**2
        covariance = window.covariance_factor * (window.means(x * y) - product)
        variances = window.covariance_factor * (window.means(x * x + y * y) - squares)
        contrast = (2 * covariance + c2) / (variances + c2)
        ssim = (2 * product + c1) / (squares + c1) * contrast
        sums += ssim.sum((0, 1)), contrast.sum((0, 1))
    ssim_mean, contrast_mean = sums / (windows * (width - 2 * edge))
    return Local(ssim_mean, contrast_mean)
