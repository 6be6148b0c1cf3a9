"""What both stains show alike, for alignment: how much tissue there is, whatever its colour.

Alignment is done in um: pixel i of a picture of ``mpp`` um/px lies at (i + 1/2) ``mpp`` from the slide's corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, NoTissueError, RestainError
from restain.registration.channels import Plane, darkness
from restain.slides import Slide, TissueMask, tissue_mask
from restain.stains import haematoxylin, optical_density

_HALF = 0.1
"""Mean optical density at which a pixel is, by ``tanh``, mostly tissue. Compressed so, pale IHC and strong eosin,
brown and pink, are alike, and what is left are outlines, gaps and the texture of nuclei."""

_HALF_HAEMATOXYLIN = 0.5
_MPP = (0.01, 1000.0)
_LEAST_SIDE = 64
_ENOUGH = 5.0
"""px: a Gaussian this wide is as smooth as need be, whatever the resolution."""
_LEAST_TISSUE = 2e-3
"""Share of a slide; below, there is nothing to align."""


@dataclass(frozen=True)
class Side:
    """One slide of a pair with what is known of it: glass colour and tissue."""

    slide: Slide
    tissue: TissueMask
    mpp: float

    @property
    def extent(self) -> tuple[float, float]:
        """(width, height) in um."""
        return self.slide.size[0] * self.mpp, self.slide.size[1] * self.mpp

    @property
    def white(self) -> NDArray[np.uint8]:
        """The glass's colour, uint8 [3]."""
        return self.tissue.white


@dataclass(frozen=True)
class Picture:
    """A whole slide as alignment sees it.

    Attributes:
        tissue: float32 [h, w], 0 on glass to 1.
        haematoxylin: float32 [h, w], 0 to 1.
        mpp: um/px.
    """

    tissue: Plane
    haematoxylin: Plane
    mpp: float

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in px."""
        return self.tissue.shape[0], self.tissue.shape[1]


def look(slide: Slide) -> Side:
    """Find glass and tissue of a slide.

    Raises:
        MissingResolutionError: it has no um/px.
        NoTissueError: it is empty.
        ItemError: it is too small.
        RestainError: its um/px cannot be true.
    """
    mpp = slide.require_mpp()
    if not _MPP[0] <= mpp <= _MPP[1]:
        raise RestainError(f"{slide.path}: {mpp:g} um/px cannot be; it must lie between {_MPP[0]:g} and {_MPP[1]:g}.")
    if min(slide.size) < _LEAST_SIDE:
        width, height = slide.size
        raise ItemError(f"{slide.path}: {width} x {height} px are too few to align; {_LEAST_SIDE} are needed each way.")
    tissue = tissue_mask(slide)
    if tissue.share < _LEAST_TISSUE:
        raise NoTissueError(
            f"{slide.path}: no tissue was found ({tissue.share:.2%} of the slide), so there is nothing to align. "
            "Look at it; is it the right slide?"
        )
    return Side(slide, tissue, mpp)


def stain_angle(one: Side, other: Side) -> float:
    """How much the stains of two slides differ: degrees between the mean optical densities of their tissue.

    Measured: 1.5 between two H&E slides of one laboratory, up to 11 of different ones; 10 to 21 between H&E and IHC
    (5 real and 12 synthetic pairs).
    """
    first, second = (_colour(side) for side in (one, other))
    return float(np.rad2deg(np.arccos(np.clip(first @ second, -1, 1))))


def _colour(side: Side) -> NDArray[np.float64]:
    """The direction of the tissue's mean optical density, [3], of length 1."""
    downsample = max(side.tissue.downsample, max(side.slide.size) / 1024)
    rgb = side.slide.overview(downsample)
    inside = tissue_at(side, (0, 0), (rgb.shape[1], rgb.shape[0]), downsample * side.mpp) > 0.5
    mean = (
        optical_density(rgb, side.white)[inside if inside.any() else ...].reshape(-1, 3).mean(axis=0, dtype=np.float64)
    )
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float64)


def amount(rgb: NDArray[np.uint8], white: NDArray[Any]) -> Plane:
    """How much tissue a pixel shows, whatever its stain: float32 [H, W], 0 on glass to 1 where it is dense."""
    dark = darkness(rgb, white)
    return np.asarray(np.tanh(dark / np.float32(_HALF)), np.float32)


def picture(side: Side, mpp: float) -> Picture:
    """The whole slide at ``mpp`` um/px; what is no tissue (pen marks, dust, glass) is 0."""
    rgb = side.slide.overview(mpp / side.mpp)
    height, width = rgb.shape[:2]
    inside = tissue_at(side, (0, 0), (width, height), mpp)
    purple = np.tanh(haematoxylin(rgb, side.white) / np.float32(_HALF_HAEMATOXYLIN))
    return Picture(
        np.asarray(amount(rgb, side.white) * inside, np.float32), np.asarray(purple * inside, np.float32), mpp
    )


def tissue_at(side: Side, corner: tuple[float, float], size: tuple[int, int], mpp: float) -> Plane:
    """The tissue mask in a region, float32 [height, width], 0 to 1, smooth at its border.

    Args:
        side: the slide.
        corner: left and top edge in um.
        size: (width, height) in px of ``mpp``.
        mpp: um/px.
    """
    pixel = side.mpp * side.tissue.downsample
    step = mpp / pixel
    left, top = (edge / pixel + (step - 1) / 2 for edge in corner)
    to_mask = np.array([[step, 0, left], [0, step, top]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    mask = side.tissue.mask.astype(np.float32)
    return np.asarray(cv2.warpAffine(mask, to_mask, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32)


def band(plane: Plane, fine: float, wide: float) -> Plane:
    """Structure between two sizes: the difference of Gaussians of ``fine`` and ``wide`` pixels."""
    kept = plane if fine < 0.25 else blurred(plane, fine)
    return np.asarray(kept - blurred(plane, wide), np.float32)


def blurred(plane: Plane, sigma: float) -> Plane:
    """The plane under a Gaussian of ``sigma`` px; a wide one is applied to a reduced plane."""
    reduce = int(sigma / _ENOUGH)
    if reduce < 2:
        return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)
    height, width = plane.shape
    size = max(1, width // reduce), max(1, height // reduce)
    small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma * size[0] / width, sigmaY=sigma * size[1] / height)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
