"""The HER2 score of one IHC image or slide, of any size: measured tile by tile, decided over all cells at once.

Memory holds one tile and a table of cells (about 300 bytes each). Tiles overlap, and a cell belongs to the tile whose
core its nucleus lies in, so that none is counted twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from restain import __version__
from restain.core.errors import ItemError
from restain.core.progress import track
from restain.her2.stain_check import pink_pixels
from restain.slides import CoarseMask, Slide, TissueMask, tissue_and_ink
from restain.stains.her2_cells import (
    MPP,
    Cells,
    check_mpp,
    haematoxylin_vector,
    measure_cells,
    nuclear_colour,
    optical_density_at,
)
from restain.stains.her2_classes import VERSION, WHY, Classes, Why, classify
from restain.stains.her2_rule import CUT_OFF, LEVELS, her2_score

_TILE, _MARGIN = 1024, 48
"""Core of a tile and its border on each side, in px at ``MPP``: no cell is seen from farther than 24 um."""
_STAIN_TILES = 12
"""Tiles from which haematoxylin's colour is estimated."""
_LEAST_TISSUE = 2000.0
"""um^2: less tissue than some twenty cells cover is none."""
_LEAST_CELLS = 20
_FEW_CELLS = 100
_NEAR = 3.0
"""Percent from a cut-off within which a share is called borderline."""
_GREY = 0.012
"""Optical density by which colours of the tissue differ at least; grey-scale images have none."""
_MOSTLY = 0.5
"""What is pink in a larger share of its stained tissue is an H&E."""


@dataclass(frozen=True)
class Scored:
    """One image with its cells.

    Attributes:
        document: the result, as JSON holds it.
        cells: those in the tissue; positions in level-0 pixels.
        classes: what became of them.
        mpp: um/px of level 0.
    """

    document: dict[str, object]
    cells: Cells
    classes: Classes
    mpp: float


def score_slide(slide: Slide) -> Scored:
    """Score an IHC image or slide.

    Args:
        slide: open, with um/px.

    Returns:
        The result; ``document["score"]`` is None where there is no tissue or there are no tumour cells.

    Raises:
        MissingResolutionError: the slide has no um/px.
        RestainError: its um/px is out of range.
        ItemError: the slide is damaged, or a grey-scale image.
    """
    mpp = slide.require_mpp()
    check_mpp(mpp, str(slide.path))
    tissue, ink = tissue_and_ink(slide)
    area = tissue.area_um2 or 0.0
    nothing = Cells.joined([])
    if area < _LEAST_TISSUE:
        return _scored(slide, tissue, nothing, classify(nothing, mpp), mpp, None, "no tissue")
    corners = _tiles(slide, tissue, mpp)
    vector = _haematoxylin(slide, tissue, corners, mpp)
    parts = [
        _in_tissue(_measure_tile(slide, corner, tissue.white, vector, mpp), tissue, ink)
        for corner in track(corners, f"cells of {slide.path.name}", len(corners))
    ]
    cells = Cells.joined(parts)
    classes = classify(cells, mpp)
    counted = int(classes.counted.sum())
    if counted < _LEAST_CELLS:
        reason = (
            "no tumour cells" if not counted else f"only {counted} tumour cells, at least {_LEAST_CELLS} are needed"
        )
        return _scored(slide, tissue, cells, classes, mpp, vector, reason)
    return _scored(slide, tissue, cells, classes, mpp, vector, None)


def _tiles(slide: Slide, tissue: TissueMask, mpp: float) -> list[tuple[float, float]]:
    """Upper left corners of the tiles' cores that touch tissue, in level-0 pixels."""
    side = _TILE * MPP / mpp
    width, height = slide.size
    x, y = np.meshgrid(np.arange(0, width, side), np.arange(0, height, side))
    share = tissue.fraction(x.ravel(), y.ravel(), side, side)
    chosen = share > 0
    return list(zip(x.ravel()[chosen].tolist(), y.ravel()[chosen].tolist(), strict=True))


def _read(slide: Slide, corner: tuple[float, float], mpp: float, margin: int) -> NDArray[np.uint8]:
    """A tile at ``MPP`` with a border; beyond the slide its edge is mirrored, not white, which would be an edge."""
    scale = MPP / mpp
    left, top = max(0.0, corner[0] - margin * scale), max(0.0, corner[1] - margin * scale)
    right = min(float(slide.size[0]), corner[0] + (_TILE + margin) * scale)
    bottom = min(float(slide.size[1]), corner[1] + (_TILE + margin) * scale)
    width, height = max(1, round((right - left) / scale)), max(1, round((bottom - top) / scale))
    return slide.read(left, top, width, height, MPP)


def _haematoxylin(
    slide: Slide, tissue: TissueMask, corners: list[tuple[float, float]], mpp: float
) -> NDArray[np.float32]:
    """Haematoxylin's unit vector, from tiles spread over the tissue.

    Raises:
        ItemError: the tissue has no colour, or that of an H&E.
    """
    chosen = np.unique(np.linspace(0, len(corners) - 1, min(_STAIN_TILES, len(corners))).round().astype(int))
    colours, spread = [], 0.0
    pink = stained = 0
    for number in chosen:
        density = optical_density_at(_read(slide, corners[number], mpp, 0), MPP, tissue.white)
        colours.append(nuclear_colour(density))
        spread = max(spread, float(np.percentile(np.ptp(density, axis=2), 99)))
        found = pink_pixels(density)
        pink, stained = pink + found[0], stained + found[1]
    if spread < _GREY:
        raise ItemError(f"{slide.path}: has no colour (grey-scale), so that DAB cannot be told from haematoxylin.")
    if pink > _MOSTLY * stained:
        raise ItemError(f"{slide.path}: looks like an H&E ({pink / stained:.0%} of it is pink); give the HER2 IHC.")
    return haematoxylin_vector(colours)


def _measure_tile(
    slide: Slide, corner: tuple[float, float], white: NDArray[np.uint8], vector: NDArray[np.float32], mpp: float
) -> Cells:
    """The cells whose centre lies in the tile's core, in level-0 pixels."""
    scale = MPP / mpp
    rgb = _read(slide, corner, mpp, _MARGIN)
    cells = measure_cells(rgb, MPP, white, vector)
    left, top = max(0.0, corner[0] - _MARGIN * scale), max(0.0, corner[1] - _MARGIN * scale)
    x, y = left + cells.x * scale, top + cells.y * scale
    side = _TILE * scale
    own = (x >= corner[0]) & (x < corner[0] + side) & (y >= corner[1]) & (y < corner[1] + side)
    return replace(cells, x=x, y=y).take(own)


def _in_tissue(cells: Cells, tissue: TissueMask, ink: CoarseMask) -> Cells:
    """Those that lie in tissue and not under ink."""
    if not len(cells):
        return cells
    inside = _at(tissue, cells) & ~_at(ink, cells)
    return cells.take(inside)


def _at(mask: CoarseMask, cells: Cells) -> NDArray[np.bool_]:
    row = np.clip((cells.y / mask.downsample).astype(int), 0, mask.mask.shape[0] - 1)
    column = np.clip((cells.x / mask.downsample).astype(int), 0, mask.mask.shape[1] - 1)
    return np.asarray(mask.mask[row, column], np.bool_)


def _scored(
    slide: Slide,
    tissue: TissueMask,
    cells: Cells,
    classes: Classes,
    mpp: float,
    vector: NDArray[np.float32] | None,
    missing: str | None,
) -> Scored:
    percent = classes.percent()
    number = np.bincount(classes.membrane[classes.counted], minlength=4)
    document: dict[str, object] = {"image": str(slide.path), "score": None, "percent": {}, "reason": missing}
    if percent is not None:
        shares = {level: round(share, 2) for level, share in zip(LEVELS, percent, strict=True)}
        document["percent"] = shares | {"positive": round(sum(percent[1:]), 2)}
    if missing is None and percent is not None:
        found = her2_score(percent)
        document |= {
            "score": found.score,
            "reason": found.reason,
            "status": found.status,
            "expression": found.expression.value,
            "next_step": found.next_step,
            "h_score": round(sum(index * share for index, share in enumerate(percent)), 1),
        }
    document |= {
        "warnings": _warnings(percent, int(number.sum())) if missing is None else [],
        "cells": {
            "counted": int(number.sum()),
            "by_class": {level: int(count) for level, count in zip(LEVELS, number, strict=True)},
            "not_counted": {WHY[why]: int((classes.why == why).sum()) for why in Why if why != Why.COUNTED},
        },
        "mpp": mpp,
        "size": list(slide.size),
        "tissue_mm2": round((tissue.area_um2 or 0.0) / 1e6, 4),
        "white": [int(value) for value in tissue.white],
        "haematoxylin": None if vector is None else [round(float(value), 4) for value in vector],
        "unstained_dab_od": round(classes.unstained, 4),
        "stained_dab_od": round(classes.stained_from, 4),
        "scorer": VERSION,
        "version": __version__,
        "use": "research use only",
    }
    return Scored(document, cells, classes, mpp)


def _warnings(percent: tuple[float, float, float, float] | None, counted: int) -> list[str]:
    """What a reader should know before trusting a score."""
    found = []
    if counted < _FEW_CELLS:
        found.append(f"only {counted} tumour cells were counted")
    if percent is not None:
        shares = {"intense": percent[3], "complete": percent[2] + percent[3], "stained": sum(percent[1:])}
        found += [
            f"borderline: {share:.1f} % {name}, the cut-off is {CUT_OFF:g} %"
            for name, share in shares.items()
            if abs(share - CUT_OFF) < _NEAR
        ]
    return found
