"""Nuclei as a density map, which a network can learn (TDKstain, Peng 2024, Sec. 2)."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SIGMA = 11.0
"""px (the authors' code)."""

COUNT_FULL = 8.0
"""Nuclei on one spot whose density is full scale under ``DensityScale.count``.

Nuclei of 3 um radius side by side at 0.5 um/px come to 5.3; a single one peaks at 1/8 of full scale, 32 of 255.
"""


class DensityScale(Enum):
    """How a density becomes 8 bits.

    ``image`` stretches each image's own range to 0 to 255 (the authors' code): the number of nuclei is lost, and one
    nucleus alone looks as dense as the middle of a nest. ``count`` has the same scale everywhere, so that numbers of
    nuclei can be read back.
    """

    image = "image"
    count = "count"


def density_map(
    centroids: NDArray[np.float64],
    size: tuple[int, int],
    sigma: float = SIGMA,
    scale: DensityScale = DensityScale.image,
) -> NDArray[np.uint8]:
    """Nuclei, each one a point of weight 1, under a Gaussian.

    At the edges, ``image`` repeats the outermost pixels as the authors' code does, so that a nucleus on the very edge
    weighs more; ``count`` mirrors, so that no nucleus weighs more or less than 1.

    Args:
        centroids: (x, y) in px [n, 2], pixel i covering i to i + 1; those on one pixel add up.
        size: (width, height) of the image in px.
        sigma: of the Gaussian in px, cut off at 4 sigma.
        scale: of the result.

    Returns:
        uint8 [height, width]; all 0 where there is no nucleus.

    Raises:
        ValueError: a centroid outside of the image, or ``sigma`` not above 0.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0 px, not {sigma}")
    width, height = size
    column, row = np.floor(np.asarray(centroids, np.float64).reshape(-1, 2)).astype(np.int64).T
    if ((column < 0) | (column >= width) | (row < 0) | (row >= height)).any():
        raise ValueError(f"a centroid lies outside of the image of {width} x {height} px")
    points = np.bincount(row * width + column, minlength=width * height).reshape(height, width).astype(np.float64)
    if scale is DensityScale.count:
        density = gaussian_filter(points, sigma, mode="reflect", truncate=4)
        full = density * (2 * np.pi * sigma**2 / COUNT_FULL)
        return np.asarray(np.rint(255 * np.minimum(full, 1)), np.uint8)
    density = gaussian_filter(points, sigma, mode="nearest", truncate=4)
    low, high = density.min(), density.max()
    if not high > low:
        return np.zeros((height, width), np.uint8)
    return np.asarray(255 * ((density - low) / (high - low)), np.uint8)


def count(density: NDArray[np.uint8], sigma: float = SIGMA) -> float:
    """The number of nuclei in a map of ``DensityScale.count``.

    Args:
        density: uint8 [H, W].
        sigma: of the map's Gaussian in px.
    """
    return float(density.sum(dtype=np.float64)) / 255 * COUNT_FULL / (2 * np.pi * sigma**2)
