"""How well a registration is: every figure in every block and over all, before and after each stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.registration.pictures import Side, tissue_at
from restain.registration.quality import Quality, measure
from restain.registration.transform import Transform
from restain.registration.warp import WarpedSlide

ASSESS_MPP = 1.5
"""um/px to look at: the coarsest at which nuclei can be told apart."""

_LARGEST = 4096
"""Longest side in px of a block's picture: bounds the memory; blocks of more than 6 mm show no nuclei."""
_LEAST_TISSUE = 0.02
_FIGURES = ("mutual_information", "haematoxylin_ncc", "nuclei_density_ncc", "tissue_dice")


def assess(transform: Transform, he: Side, ihc: Side, count: int) -> list[dict[str, Any]]:
    """The figures of ``count`` x ``count`` blocks of the IHC's grid.

    Args:
        transform: the registration.
        he: the moving slide.
        ihc: the fixed slide.
        count: blocks along each side.

    Returns:
        One entry per block, row by row: ``row``, ``column``, ``x``, ``y``, ``width``, ``height`` (level-0 px of the
        IHC), ``tissue`` (share of the block where both have some) and the figures of ``Quality``, None where there is
        little tissue.
    """
    warped = WarpedSlide(he.slide, transform)
    width, height = ihc.slide.size
    return [
        _block(warped, transform, he, ihc, (row, column), (column * width // count, row * height // count),
               ((column + 1) * width // count, (row + 1) * height // count))
        for row in range(count)
        for column in range(count)
    ]  # fmt: skip


def overall(blocks: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """The means of the figures over blocks, weighted by their tissue; None where no block has any."""
    means: dict[str, float | None] = {}
    for figure in _FIGURES:
        known = [block for block in blocks if block[figure] is not None and block["tissue"] > 0]
        weights = [block["tissue"] * block["width"] * block["height"] for block in known]
        means[figure] = float(np.average([block[figure] for block in known], weights=weights)) if known else None
    return means


def _block(
    warped: WarpedSlide,
    transform: Transform,
    he: Side,
    ihc: Side,
    index: tuple[int, int],
    corner: tuple[int, int],
    end: tuple[int, int],
) -> dict[str, Any]:
    x, y = corner
    wide, high = end[0] - x, end[1] - y
    mpp = max(ASSESS_MPP, ihc.mpp, he.mpp, max(wide, high) * ihc.mpp / _LARGEST)
    size = max(1, round(wide * ihc.mpp / mpp)), max(1, round(high * ihc.mpp / mpp))
    ihc_tissue = tissue_at(ihc, (x * ihc.mpp, y * ihc.mpp), size, mpp) > 0.5
    he_tissue = _warped_tissue(transform, he, corner, size, mpp)
    quality, share = Quality(None, None, None, None), float((ihc_tissue & he_tissue).mean())
    if (ihc_tissue | he_tissue).mean() >= _LEAST_TISSUE:
        he_rgb, real = warped.read(x, y, *size, mpp)
        share = float((ihc_tissue & he_tissue & real).mean())
        ihc_rgb = ihc.slide.read(x, y, *size, mpp)
        quality = measure(he_rgb, ihc_rgb, real, mpp, he.white, ihc.white, he_tissue, ihc_tissue)
    return {
        "row": index[0],
        "column": index[1],
        "x": x,
        "y": y,
        "width": wide,
        "height": high,
        "tissue": round(share, 4),
        **quality.to_json(),
    }


def _warped_tissue(
    transform: Transform, he: Side, corner: tuple[int, int], size: tuple[int, int], mpp: float
) -> NDArray[np.bool_]:
    """The H&E's tissue mask on the IHC's grid, bool [height, width]."""
    step = mpp / transform.ihc_mpp
    x, y = (start + (np.arange(count) + 0.5) * step for start, count in zip(corner, size, strict=True))
    place = transform.grid(x, y) / np.float32(he.tissue.downsample) - np.float32(0.5)
    mask = he.tissue.mask.astype(np.uint8)
    return np.asarray(cv2.remap(mask, place[..., 0], place[..., 1], cv2.INTER_NEAREST), np.bool_)
