"""What a slide's colours mean: amounts of its two stains that can be compared between laboratories.

Light is Beer-Lambert against the glass's own colour. In H&E the directions of both stains are the slide's own, found as
Macenko 2009 (ISBI) finds them: the plane of the two largest variances of optical density, and in it the 1st and 99th
percentile of the angle. Amounts are divided by their 99th percentile over the slide's tissue. What comes out is the
share of the slide's own strong stain, so neither a laboratory's hue nor its strength shows; that a slide as a whole has
more haematoxylin than another is given up for it.

In IHC the amount of DAB is the finding: it stays in decadic optical density along Ruifrok and Johnston's vector, and
only haematoxylin is divided by its 99th percentile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.slides import Slide, TissueMask, ink_coloured
from restain.stains.deconvolution import UNIT_HED_FROM_RGB, optical_density

Plane = NDArray[np.float32]


class Stain(StrEnum):
    """What a slide is stained with."""

    he = "he"
    ihc = "ihc"


_REFERENCE = np.array([[0.563, 0.720, 0.406], [0.216, 0.801, 0.558]])
"""Haematoxylin and eosin where a slide does not tell: what Macenko's method is commonly referred to, length 1."""

_STAINED = 0.15
"""Decadic optical density, sum of channels / 3 times 3, from which a pixel tells its stain (Macenko 2009, beta)."""
_ANGLES = (1.0, 99.0)
_FULL = 99.0
_LEAST_APART, _MOST_OFF = math.cos(math.radians(8)), math.cos(math.radians(25))
"""Vectors nearer to each other, or farther from the reference, than this are no stains but noise or an artefact."""
_LEAST_FULL = 0.1
"""Optical density: amounts are not divided by less, or the grain of a pale slide would become stain."""

_CROWD = 5.0

_FIELDS, _FIELD, _FIELD_MPP = 16, 256, 1.0
"""So many fields of so many px at so many um/px, spread over the tissue, speak for the slide."""


@dataclass(frozen=True)
class StainSpace:
    """Colours to amounts.

    Attributes:
        white: of the glass, uint8 [3].
        matrix: optical density (rows: red, green, blue) to both amounts, float32 [3, 2].
        dark: Otsu's threshold of haematoxylin over the slide's tissue.
        crowded: the same of haematoxylin under a Gaussian of 5 um: where nuclei crowd.
    """

    white: NDArray[np.uint8]
    matrix: NDArray[np.float32]
    dark: float = 0.5
    crowded: float = 0.3

    def amounts(self, rgb: NDArray[np.uint8]) -> Plane:
        """Both stains of a picture uint8 [H, W, 3]: float32 [H, W, 2], at least 0."""
        found = cv2.transform(optical_density(rgb, self.white), np.ascontiguousarray(self.matrix.T))
        return np.asarray(np.maximum(found, 0, out=found), np.float32)


def stain_space(slide: Slide, tissue: TissueMask, stain: Stain) -> StainSpace:
    """The stains of a slide, from up to 16 fields spread over its tissue.

    Args:
        slide: with a um/px.
        tissue: where to look.
        stain: H&E or IHC.
    """
    white = np.maximum(tissue.white, 1)
    fields = _fields(slide, tissue)
    density = optical_density(fields.reshape(1, -1, 3), white)[0]
    density = density[~ink_coloured(density[None])[0]]
    stained = density[density.sum(axis=1) > _STAINED]
    if stain is Stain.ihc:
        matrix = UNIT_HED_FROM_RGB[:, [0, 2]].copy()
        matrix[:, 0] /= _full(stained, matrix[:, :1])[0]
    else:
        matrix = np.asarray(np.linalg.pinv(_he_vectors(stained)), np.float64)
        matrix /= _full(stained, matrix)
    space = StainSpace(white, matrix.astype(np.float32), _otsu(stained @ matrix[:, 0]))
    crowds = [crowds_of(space.amounts(field)[..., 0], _FIELD_MPP)[::2, ::2].ravel() for field in fields]
    return replace(space, crowded=_otsu(np.concatenate([np.zeros(0), *crowds])))


def crowds_of(haematoxylin: Plane, mpp: float) -> Plane:
    """Haematoxylin [H, W] under a Gaussian of 5 um."""
    return np.asarray(cv2.GaussianBlur(haematoxylin, (0, 0), _CROWD / mpp), np.float32)


def _otsu(haematoxylin: NDArray[np.floating]) -> float:
    """Otsu's threshold of amounts [n] from 0 to 1."""
    if not len(haematoxylin):
        return 0.5
    grey = np.clip(haematoxylin * 255, 0, 255).astype(np.uint8)
    return float(cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)[0]) / 255


def _fields(slide: Slide, tissue: TissueMask) -> NDArray[np.uint8]:
    """Fields of the tissue [n, side, side, 3] at 1 um/px."""
    inside = np.argwhere(tissue.mask)
    if not len(inside):
        return np.zeros((0, _FIELD, _FIELD, 3), np.uint8)
    side = _FIELD * _FIELD_MPP / slide.require_mpp()  # in level-0 px
    number = min(_FIELDS, max(1, math.ceil(len(inside) * (tissue.downsample / side) ** 2)))
    places = inside[((np.arange(number) + 0.5) / number * len(inside)).astype(np.int64)]
    pixels = []
    for row, column in places:
        x, y = (column + 0.5) * tissue.downsample - side / 2, (row + 0.5) * tissue.downsample - side / 2
        pixels.append(slide.read(x, y, _FIELD, _FIELD, _FIELD_MPP))
    return np.stack(pixels)


def _he_vectors(density: NDArray[np.float32]) -> NDArray[np.float64]:
    """Unit vectors of haematoxylin and eosin [2, 3] in the optical densities [n, 3] of stained pixels."""
    if len(density) < 1000:
        return _REFERENCE
    values = density.astype(np.float64)
    plane = np.linalg.eigh(np.cov(values.T))[1][:, 1:]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    across = values @ plane
    low, high = np.percentile(np.arctan2(across[:, 0], across[:, 1]), _ANGLES)
    found = np.array([[np.sin(angle), np.cos(angle)] for angle in (low, high)]) @ plane.T
    found = np.maximum(found, 0)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    if found[0, 0] < found[1, 0]:  # haematoxylin absorbs red, eosin hardly
        found = found[::-1]
    near = (found * _REFERENCE).sum(axis=1)
    if found[0] @ found[1] > _LEAST_APART or near.min() < _MOST_OFF:
        return _REFERENCE
    return np.asarray(found, np.float64)


def _full(density: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The amounts that count as 1, one a column of ``matrix``."""
    if not len(density):
        return np.ones(matrix.shape[1])
    return np.asarray(np.maximum(np.percentile(density @ matrix, _FULL, axis=0), _LEAST_FULL), np.float64)
