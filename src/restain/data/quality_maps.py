"""Where folds, pen, bubbles and cracks are in a picture: what patches and slides are judged by.

HistoQC (Janowczyk et al., JCO Clinical Cancer Informatics 2019) is what the challenge's winners used (review, section
V-A); it judges whole slides by such maps. These are simpler and of our own: each looks for what makes the artefact
unlike any stain.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.slides import ink_coloured
from restain.stains import optical_density
from restain.stains.deconvolution import UNIT_HED_FROM_RGB

MAP_MPP = 2.0
"""um/px at which a patch is looked at: nuclei still show, membranes do not."""

ASSUMED_MPP = 0.5
"""um/px that a picture of unknown resolution is looked at as if it had: that of most patch datasets (20x)."""

_FAINT = 0.04
"""Mean optical density below which a place is as good as glass."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ArtefactMaps:
    """Where artefacts are; bool [h, w] each, at the picture's resolution.

    Attributes:
        stained: what absorbs at all.
        pen: ink, with a margin of 8 um.
        fold: tissue that lies double: clearly more of two stains at once than the picture has elsewhere.
        bubble: the rim of an air bubble or of the cover slip: a thin, long, grey line.
        gap: narrow gaps in tissue, up to 16 um wide; None where the tissue is too pale to tell.
    """

    stained: Mask
    pen: Mask
    fold: Mask
    bubble: Mask
    gap: Mask | None


def artefact_maps(rgb: NDArray[np.uint8], white: NDArray[np.uint8], mpp: float) -> ArtefactMaps:
    """Look for folds, pen, bubbles and gaps.

    Args:
        rgb: uint8 [h, w, 3], at ``MAP_MPP`` or up to three times as coarse.
        white: the glass's colour, uint8 [3].
        mpp: um/px of the picture.
    """
    density = optical_density(rgb, white)
    stained = cv2.GaussianBlur(density.mean(axis=2), (0, 0), 2.0 / mpp) > _FAINT
    pen = _pen(density, mpp)
    return ArtefactMaps(
        stained=stained,
        pen=pen,
        fold=_fold(density, stained & ~pen, mpp),
        bubble=_rims(density, mpp) & ~pen,
        gap=_gaps(density, stained & ~pen, mpp),
    )


def shrunk(rgb: NDArray[np.uint8], mpp: float) -> tuple[NDArray[np.uint8], float]:
    """A picture at ``MAP_MPP``, or as it is where it is coarser; and its um/px then."""
    factor = mpp / MAP_MPP
    if factor >= 1:
        return rgb, mpp
    height, width = rgb.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8), MAP_MPP


def _pen(density: NDArray[np.float32], mpp: float) -> Mask:
    """Ink: places of 10 um and more whose colours no stain has; also where stained tissue shows through it.

    Red ink lets red light pass that tissue takes; over tissue it is told from blood, the reddest there is, by how much
    blue it absorbs. Black ink is darker than nuclei in the channel that absorbs least, and hardly coloured.
    """
    smooth = np.asarray(cv2.GaussianBlur(density, (0, 0), 4.0 / mpp), np.float32)
    red, green, blue = np.moveaxis(smooth, 2, 0)
    strongest, weakest = smooth.max(axis=2), smooth.min(axis=2)
    warm = (green > 0.7) & (blue > 0.72 * green) & (green > blue) & (red < 0.35 * green)
    black = (weakest > 0.42) & (strongest < 1.5 * weakest)
    inked = (ink_coloured(smooth) | warm | black).astype(np.uint8)
    core = cv2.morphologyEx(inked, cv2.MORPH_OPEN, _disk(5.0, mpp))
    return np.asarray(cv2.dilate(_larger_than(core, 1000.0, mpp), _disk(8.0, mpp)), np.bool_)


def _fold(density: NDArray[np.float32], stained: Mask, mpp: float) -> Mask:
    """Tissue that lies double.

    Where tissue is folded there is twice as much of *every* stain, where cells are many there is more haematoxylin, and
    where a chromogen is there is more of that alone. So the second largest of the three stains' ratios to what the
    picture has elsewhere (its median) tells; places that are mainly brown say nothing, for DAB is dark enough to show
    in every channel.
    """
    amounts = np.maximum(cv2.transform(density, UNIT_HED_FROM_RGB.T.astype(np.float32)), 0)
    amounts = np.asarray(cv2.GaussianBlur(amounts, (0, 0), 5.0 / mpp), np.float32)
    haematoxylin, eosin, brown = np.moveaxis(amounts, 2, 0)
    mainly_brown = (brown > 0.12) & (brown > 1.5 * haematoxylin) & (brown > 1.5 * eosin)
    mainly_brown = np.asarray(cv2.dilate(mainly_brown.astype(np.uint8), _disk(4.0, mpp)), np.bool_)
    there = stained & ~mainly_brown
    if there.sum() * mpp**2 < 1000:
        return np.zeros(stained.shape, np.bool_)
    usual = np.median(amounts[there], axis=0)
    ratio = np.sort((amounts + _STAIN) / (usual + _STAIN), axis=2)[..., 1]
    ratio = np.where(there, ratio, 1).astype(np.float32)
    beside = cv2.morphologyEx(ratio, cv2.MORPH_OPEN, _disk(_WIDEST, mpp))
    band = (ratio > _DOUBLE) & (ratio > _STEP * beside)
    return np.asarray(band, np.bool_)


_STAIN = 0.03
"""Optical density below which the amount of a stain is mostly noise."""
_DOUBLE, _STEP = 1.7, 1.4
"""Twice the tissue, blurred with what lies beside it: relative to what is usual, and to what lies on both sides."""
_WIDEST = 30.0
"""Half the width in um above which dark tissue is no fold, but a part of the organ."""


def _rims(density: NDArray[np.float32], mpp: float) -> Mask:
    """Thin grey lines of 60 um and more: what absorbs in all channels alike, narrower than 20 um."""
    weakest, strongest = density.min(axis=2), density.max(axis=2)
    colourless = np.maximum(weakest - 0.7 * (strongest - weakest), 0)
    grey = np.asarray(cv2.GaussianBlur(colourless, (0, 0), max(2.0 / mpp, 0.7)), np.float32)
    thin = np.asarray(cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, _disk(12.0, mpp)), np.float32)
    long = np.zeros_like(thin)
    for turn in range(16):
        line = _line(np.pi * turn / 16, 60.0 / mpp)
        long = np.maximum(long, cv2.dilate(cv2.erode(thin, line), line[::-1, ::-1]))
    return np.asarray(long > 0.08, np.bool_)


def _gaps(density: NDArray[np.float32], stained: Mask, mpp: float) -> Mask | None:
    """Gaps of up to 16 um between parts of tissue; larger ones are lumens and fat cells."""
    strongest = cv2.GaussianBlur(density.max(axis=2), (0, 0), 1.0 / mpp)
    if stained.sum() * mpp**2 < 1000 or (usual := float(np.median(strongest[stained]))) < 0.16:
        return None
    tissue = (strongest > min(0.25 * usual, 0.045)).astype(np.uint8)
    closed = cv2.morphologyEx(tissue, cv2.MORPH_CLOSE, _disk(8.0, mpp))
    return np.asarray((closed > 0) & (tissue == 0), np.bool_)


def _larger_than(mask: NDArray[np.uint8] | cv2.typing.MatLike, area: float, mpp: float) -> NDArray[np.uint8]:
    """The mask without connected parts of less than ``area`` um^2."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = statistics[:, cv2.CC_STAT_AREA] * mpp**2 >= area
    keep[0] = False
    return np.asarray(keep[labels], np.uint8)


def _disk(radius: float, mpp: float) -> NDArray[np.uint8]:
    """A disk of ``radius`` um."""
    pixels = max(1, round(radius / mpp))
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1)), np.uint8)


def _line(angle: float, length: float) -> NDArray[np.uint8]:
    """A straight line of ``length`` px as a structuring element."""
    half = max(1, round(length / 2))
    across, down = round(half * np.cos(angle)), round(half * np.sin(angle))
    element = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
    return np.asarray(cv2.line(element, (half - across, half - down), (half + across, half + down), 1), np.uint8)
