"""Where the tissue is: H&E and pale IHC, on any glass colour, without pen marks and dark borders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from restain.slides.slide import Slide

MASK_MPP = 8.0
"""um/px at which tissue is looked for on slides."""

_WORK_SIDE = 640
"""Pictures of unknown um/px are reduced to this: what is smaller than a few such pixels is detail, not tissue."""

_SMOOTH = 1.5
"""Gaussian smoothing of absorbance before thresholds, in pixels."""

_ABSORBS, _TEXTURED = 0.085, 0.017
"""What is tissue by itself: smoothed absorbance (decadic, strongest channel), and local deviation relative to white.

Either counts in part. Measured on H&E and HER2 slides of six laboratories: glass, grey or not, has a texture of .001
to .008 and, with stain that bled from the section, an absorbance up to .05; the palest IHC has .015 and .014.
"""

_SMALLEST = 150
"""Specks of fewer pixels are dust, holes of fewer pixels are part of the tissue."""


@dataclass(frozen=True)
class CoarseMask:
    """Places of a slide on a coarse grid.

    Attributes:
        mask: bool [h, w]; pixel (i, j) covers the level-0 square from (j, i) * downsample.
        downsample: level-0 pixels per mask pixel.
        size: (width, height) of level 0.
    """

    mask: NDArray[np.bool_]
    downsample: float
    size: tuple[int, int]

    @property
    def share(self) -> float:
        """The share of the slide that is in the mask, 0 to 1."""
        return float(self.fraction(0, 0, *self.size))

    def fraction(self, x: ArrayLike, y: ArrayLike, width: ArrayLike, height: ArrayLike) -> NDArray[np.float64]:
        """The share of boxes that is in the mask, exact for the mask; outside the slide there is nothing.

        Args:
            x: left edges in level-0 pixels (scalars and arrays broadcast).
            y: top edges.
            width: in level-0 pixels.
            height: in level-0 pixels.

        Returns:
            float64 of the broadcast shape, 0 to 1.
        """
        x, y, width, height = (np.asarray(value, np.float64) for value in (x, y, width, height))
        total = self._below(x + width, y + height) - self._below(x, y + height) - self._below(x + width, y)
        total = total + self._below(x, y)
        return np.clip(total * self.downsample**2 / (width * height), 0.0, 1.0)

    @cached_property
    def _integral(self) -> NDArray[np.float64]:
        table = np.zeros((self.mask.shape[0] + 1, self.mask.shape[1] + 1))
        table[1:, 1:] = self.mask.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
        return table

    def _below(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mask pixels above and left of (x, y): bilinear in the integral image, which is exact."""
        table = self._integral
        column = np.clip(np.minimum(x, self.size[0]) / self.downsample, 0, table.shape[1] - 1)
        row = np.clip(np.minimum(y, self.size[1]) / self.downsample, 0, table.shape[0] - 1)
        j = np.minimum(column.astype(np.int64), table.shape[1] - 2)
        i = np.minimum(row.astype(np.int64), table.shape[0] - 2)
        fj, fi = column - j, row - i
        upper = table[i, j] * (1 - fj) + table[i, j + 1] * fj
        lower = table[i + 1, j] * (1 - fj) + table[i + 1, j + 1] * fj
        return np.asarray(upper * (1 - fi) + lower * fi)


@dataclass(frozen=True)
class TissueMask(CoarseMask):
    """Tissue of a slide on a coarse grid.

    Attributes:
        white: the glass's estimated colour, uint8 [3].
        mpp: um/px of level 0; None where unknown.
    """

    white: NDArray[np.uint8]
    mpp: float | None

    @property
    def area_um2(self) -> float | None:
        """The tissue's area; None without a resolution."""
        return None if self.mpp is None else self.share * self.size[0] * self.size[1] * self.mpp**2


def tissue_mask(slide: Slide, mpp: float = MASK_MPP) -> TissueMask:
    """The tissue of a slide, on the grid of ``coarse_downsample``.

    Args:
        slide: an open slide.
        mpp: um/px of the mask.

    Raises:
        UnreadableImageError: the slide is damaged.
    """
    return tissue_and_ink(slide, mpp)[0]


def tissue_and_ink(slide: Slide, mpp: float = MASK_MPP) -> tuple[TissueMask, CoarseMask]:
    """The tissue of a slide, and its pen marks and black borders with a margin of 6 mask pixels.

    Args:
        slide: an open slide.
        mpp: um/px of the masks.

    Raises:
        UnreadableImageError: the slide is damaged.
    """
    downsample = coarse_downsample(slide, mpp)
    rgb = slide.overview(downsample)
    white = glass_colour(rgb)
    tissue, ink = _search(rgb, white)
    return (
        TissueMask(tissue.astype(np.bool_), downsample, slide.size, white, slide.mpp),
        CoarseMask(ink, downsample, slide.size),
    )


def coarse_downsample(slide: Slide, mpp: float = MASK_MPP) -> float:
    """Level-0 pixels per pixel of a mask at ``mpp`` um/px.

    Finer on small slides, so that the longer side has 512 pixels; on slides without a resolution the longer side has
    2048 pixels. Never finer than level 0.
    """
    longest = max(slide.size)
    wanted = mpp / slide.mpp if slide.mpp is not None else longest / 2048
    return max(1.0, min(wanted, longest / 512))


def find_tissue(rgb: NDArray[np.uint8], white: NDArray[np.uint8] | None = None) -> NDArray[np.bool_]:
    """Tissue in a picture, H&E or IHC however pale; pen marks, black borders and glass are none.

    Tissue absorbs, or is at least textured, against the glass's own colour. Pens are told by the order of their
    absorbances, which no mixture of haematoxylin, eosin and DAB has: green and blue ink absorbs red most, or red and
    green alike but hardly blue; red ink hardly absorbs red and absorbs green and blue alike, black absorbs all alike.

    Args:
        rgb: uint8 [H, W, 3]; a thumbnail, or a field of a slide.
        white: the glass's colour uint8 [3]; None: estimated from the picture.

    Returns:
        bool [H, W].
    """
    height, width = rgb.shape[:2]
    small = _reduced(rgb)
    mask, _ = _search(small, glass_colour(small) if white is None else white)
    if small.shape[:2] != (height, width):
        mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    return mask.astype(np.bool_)


def _search(rgb: NDArray[np.uint8], white: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Tissue as 0 and 1, and ink, at the resolution of the picture."""
    absorbance = -np.log10(np.maximum(rgb, 1).astype(np.float32) / np.maximum(white, 1).astype(np.float32))
    smooth = np.asarray(cv2.GaussianBlur(absorbance, (0, 0), _SMOOTH), np.float32)
    ink = _ink(smooth)
    grey = np.minimum(rgb.astype(np.float32).mean(axis=2) / np.float32(max(white.mean(), 1)), 1)
    grey[ink] = 1  # or its border would be texture on the glass around it
    texture = cv2.GaussianBlur(_local_deviation(grey, 7), (0, 0), 2 * _SMOOTH)
    found = np.maximum(smooth.max(axis=2), 0) / _ABSORBS + texture / _TEXTURED > 1
    # closed over small gaps, and drawn in again by what the texture's window reaches beyond an edge
    mask = _without_specks(cv2.erode(cv2.dilate((found & ~ink).astype(np.uint8), _disk(5)), _disk(5 + 4)))
    return 1 - _without_specks(1 - mask), ink


def glass_colour(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colour of empty glass: that of the brightest smooth, nearly grey places.

    Areas that a scanner never looked at are pure white; they count only where there is hardly anything else, because
    the glass itself may be grey. Without any smooth place (tissue everywhere) it is the brightest percent.

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        uint8 [3], at least 1, also of a black picture: absorbance is relative to it.
    """
    small = _reduced(rgb)
    grey = small.astype(np.float32).mean(axis=2)
    chroma = cv2.blur(small.max(axis=2).astype(np.float32) - small.min(axis=2), (5, 5))
    plain = (_local_deviation(grey, 5) < 3) & (chroma < 32) & (grey > 110)
    unseen = small.min(axis=2) == 255
    scanned = plain & ~unseen
    if scanned.sum() >= 0.2 * (plain & unseen).sum():
        plain = scanned
    if plain.mean() < 0.002:
        return np.asarray(np.maximum(np.percentile(small.reshape(-1, 3), 99, axis=0).round(), 1), np.uint8)
    light = grey[plain]
    brightest = light > np.percentile(light, 97) - 6
    return np.asarray(np.median(small[plain][brightest], axis=0).round(), np.uint8)


def ink_coloured(absorbance: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where smoothed absorbances [h, w, 3] have the colour of ink or of a black border, by the rule of ``find_tissue``.

    Blue ink that absorbs red and green alike is told from haematoxylin by how little blue it absorbs: relative to red
    0.1 to 0.22 on glass and up to 0.35 on H&E. Of the tissue that we have none reaches below 0.39, where it absorbs
    red this much. Navy ink (0.4 to 0.5) is not told: dense nuclei are like it.

    Args:
        absorbance: decadic, against the glass's colour, so smooth that nuclei do not show.

    Returns:
        bool [h, w].
    """
    red, green, blue = np.moveaxis(absorbance, 2, 0)
    strongest, weakest = absorbance.max(axis=2), absorbance.min(axis=2)
    cold = (red > 0.2) & (red > 1.3 * green)
    blue_ink = (red > 0.4) & (red > 0.8 * green) & (blue < 0.36 * red)
    warm = (green > 0.4) & (green > 4 * red) & (blue > 0.85 * green)
    black = (weakest > 0.6) & (strongest < 1.25 * weakest)
    return np.asarray(cold | blue_ink | warm | black, np.bool_)


def _ink(absorbance: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pen marks and black borders, from smoothed absorbances [h, w, 3]."""
    core = cv2.morphologyEx(ink_coloured(absorbance).astype(np.uint8), cv2.MORPH_OPEN, _disk(1))
    core = cv2.morphologyEx(core, cv2.MORPH_CLOSE, _disk(4))
    return np.asarray(cv2.dilate(_without_specks(core), _disk(6)), np.bool_)


def _local_deviation(grey: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Standard deviation in a square window."""
    mean = cv2.blur(grey, (side, side))
    return np.sqrt(np.maximum(cv2.blur(grey * grey, (side, side)) - mean * mean, 0))


def _without_specks(mask: cv2.typing.MatLike) -> NDArray[np.uint8]:
    """The mask without connected parts below ``_SMALLEST`` pixels."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = statistics[:, cv2.CC_STAT_AREA] >= _SMALLEST
    keep[0] = False
    return np.asarray(keep[labels], np.uint8)


def _disk(radius: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def _reduced(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    factor = max(height, width) / _WORK_SIDE
    if factor <= 1:
        return rgb
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
