"""Whether a slide is an H&E: eosin is what an IHC lacks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.slides import Slide, TissueMask
from restain.stains.her2_cells import MPP, optical_density_at

DENSE, PINK = 0.25, 1.15
"""Eosin absorbs green most: where the sum of the densities is above the first, that of green is above the second times
the others in nearly all of an H&E (91 % and more of 50 at hand; 32 and 39 % of two with little eosin) and in hardly any
of an H-DAB (up to 10 % of 44)."""
NOT_HE, HARDLY = 0.15, 0.3
"""Shares of pink below which a slide is taken for no H&E, and below which that is doubted."""

_FIELDS, _FIELD = 16, 384
"""So many fields of so many px at ``MPP``, spread over the tissue, speak for the slide."""
_LEAST = 1000
"""Stained pixels that are needed to tell."""


def pink_pixels(density: NDArray[np.float32]) -> tuple[int, int]:
    """How many stained pixels are pink, and how many there are.

    Args:
        density: decadic optical density [h, w, 3] at ``MPP``; grain of less than 1 um is smoothed.
    """
    smooth = cv2.GaussianBlur(density, (0, 0), 1 / MPP)
    dense = smooth[smooth.sum(axis=2) > DENSE]
    return int((dense[:, 1] > PINK * np.maximum(dense[:, 0], dense[:, 2])).sum()), len(dense)


def pink_share(slide: Slide, tissue: TissueMask) -> float | None:
    """The share of a slide's stained tissue that is pink, as eosin is; None where hardly anything is stained.

    Args:
        slide: with a um/px.
        tissue: where to look.
    """
    inside = np.argwhere(tissue.mask)
    pink = stained = 0
    chosen = inside[((np.arange(_FIELDS) + 0.5) / _FIELDS * len(inside)).astype(np.int64)] if len(inside) else inside
    side = _FIELD * MPP / slide.require_mpp()  # in level-0 px
    for row, column in chosen:
        x, y = (column + 0.5) * tissue.downsample - side / 2, (row + 0.5) * tissue.downsample - side / 2
        rgb = slide.read(x, y, _FIELD, _FIELD, MPP)
        found = pink_pixels(optical_density_at(rgb, MPP, tissue.white))
        pink, stained = pink + found[0], stained + found[1]
    return pink / stained if stained >= _LEAST else None
