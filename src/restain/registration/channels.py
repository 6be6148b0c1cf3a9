"""What H&E and IHC show alike beside haematoxylin: where nuclei are dense, gaps in the tissue."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from restain.stains import optical_density

Plane = NDArray[np.float32]

NUCLEI_MPP = 1.5
"""Coarser than this (um/px), single nuclei cannot be told apart."""

_NUCLEUS = 2.5
"""Standard deviation, in um, of the blob that a nucleus of 3 to 4 um radius is (radius / sqrt(2))."""

_DENSITY = 25.0
"""Standard deviation, in um, of the Gaussian that nuclei are counted in."""


def smooth(plane: NDArray[np.float32], sigma_um: float, mpp: float) -> Plane:
    """The plane under a Gaussian of ``sigma_um``; as it is where that is below a quarter of a pixel."""
    sigma = sigma_um / mpp
    return plane if sigma < 0.25 else np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)


def darkness(rgb: NDArray[np.uint8], white: ArrayLike) -> Plane:
    """Mean optical density of the three channels, float32 [H, W]."""
    return cast(Plane, optical_density(rgb, white).mean(axis=2, dtype=np.float32))


def nuclei_density(amount: NDArray[np.float32], mask: NDArray[np.bool_], mpp: float) -> Plane:
    """How dense nuclei lie: the share of the area that is nucleus, in a Gaussian of 25 um, inside of the mask alone.

    A nucleus is a place where a difference of Gaussians of its size stands out among those of the picture. On synthetic
    neighbouring sections of 1 mm the densities correlate with .81 where aligned, .79, .68 and .43 where displaced by
    10, 30 and 60 um (medians of eight).

    Args:
        amount: haematoxylin [H, W].
        mask: where to look, [H, W].
        mpp: um/px, at most ``NUCLEI_MPP``.

    Returns:
        float32 [H, W], 0 to 1; 0 far from the mask.
    """
    near, wide = smooth(amount, _NUCLEUS, mpp), smooth(amount, 1.6 * _NUCLEUS, mpp)
    blobs = near - wide
    spread = float(blobs[mask].std()) if mask.any() else 0.0
    nuclei = ((blobs > spread) & mask & (spread > 0)).astype(np.float32)
    weight = smooth(mask.astype(np.float32), _DENSITY, mpp)
    return cast(Plane, smooth(nuclei, _DENSITY, mpp) / np.maximum(weight, np.float32(1e-3)))
