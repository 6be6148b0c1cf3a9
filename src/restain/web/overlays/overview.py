"""A slide at a glance, read within bounds: the glass's colour and the tissue, once for each slide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.slides import Slide, coarse_downsample, find_tissue, glass_colour, tissue_mask
from restain.slides.tissue import MASK_MPP
from restain.web.overlays.base import Scene
from restain.web.overlays.planes import Plane, plane_of
from restain.web.tiles import BUDGET

_LEAST_SIDE = 64
"""px: a coarser overview says nothing."""
_SPOTS, _SPOT = 5, 192
"""Fields a side, and their side in px, that tell the glass's colour of a slide without a pyramid."""


@dataclass(frozen=True)
class Glass:
    """The colour of empty glass, uint8 [3]."""

    white: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Of memory."""
        return self.white.nbytes


def affordable(slide: Slide, wanted: float) -> float | None:
    """The smallest downsample from ``wanted`` on at which the whole slide may be read; None where there is none."""
    width, height = slide.size
    levels = [max(width / w, height / h) for w, h in slide.levels]
    for downsample in [wanted, *(level for level in levels if level > wanted)]:
        across, down = math.ceil(width / downsample), math.ceil(height / downsample)
        if slide.cost(across, down, downsample) <= BUDGET and max(across, down) >= min(_LEAST_SIDE, width, height):
            return downsample
    return None


def tissue_downsample(slide: Slide) -> float | None:
    """Level-0 px per px of the tissue's mask; None where the slide has no pyramid that allows one."""
    return affordable(slide, coarse_downsample(slide))


def tissue_of(scene: Scene) -> Plane | None:
    """The tissue of the slide on its own px, 0 to 255; None where it has no pyramid that allows to look for it.

    Raises:
        UnreadableImageError: the slide is damaged.
    """
    slide = scene.slide
    downsample = tissue_downsample(slide)
    if downsample is None:
        return None
    return scene.kept.get(("tissue", slide.path, scene.stamp), lambda: _tissue(slide, downsample))


def white_of(scene: Scene) -> NDArray[np.uint8]:
    """The glass's colour of the slide, uint8 [3].

    Raises:
        UnreadableImageError: the slide is damaged.
    """
    slide = scene.slide
    return scene.kept.get(("white", slide.path, scene.stamp), lambda: Glass(_white(slide))).white


def _tissue(slide: Slide, downsample: float) -> Plane:
    if slide.mpp is not None and downsample <= 1.001 * coarse_downsample(slide):
        found = tissue_mask(slide, MASK_MPP)  # as all other commands see it
        mask, downsample = found.mask, found.downsample
    else:
        mask = find_tissue(slide.overview(downsample))
    # softened, so that the outline is no staircase where it is enlarged
    return plane_of(np.asarray(cv2.GaussianBlur(mask.astype(np.uint8) * 255, (0, 0), 0.8), np.uint8), downsample)


def _white(slide: Slide) -> NDArray[np.uint8]:
    downsample = affordable(slide, max(1.0, max(slide.size) / 1024))
    if downsample is not None:
        return glass_colour(slide.overview(downsample))
    width, height = slide.size
    places = (np.arange(_SPOTS) + 0.5) / _SPOTS
    spots = [slide.read(x * (width - _SPOT), y * (height - _SPOT), _SPOT, _SPOT) for y in places for x in places]
    return glass_colour(np.concatenate(spots))
