"""Quality control of a whole slide: where folds, bubbles and pen are, and how much of its tissue is out of focus."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.data.focus import COARSEST_MPP
from restain.data.quality import COARSEST_TOLD, FLAGGED, TOO_DARK, Usual, judge, measure
from restain.data.quality_maps import ASSUMED_MPP, artefact_maps
from restain.slides import CoarseMask, Slide, TissueMask, open_slide, tissue_mask

SLIDE_MPP = 4.0
"""um/px at which artefacts are looked for on slides."""

_BLOCK, _MARGIN = 1024, 32
"""Side of what is looked at at once, and what is read around it, px of the map: memory does not grow with the slide."""

_SAMPLES, _FIELD = 256, 256
"""Fields that tell focus, and their side in px at the finest um/px that focus needs."""

_FOCUS_MPP = 0.5

KINDS = ("pen", "fold", "bubble")
"""What has a mask."""


@dataclass(frozen=True)
class SlideQuality:
    """The artefacts of a slide.

    Attributes:
        mask: where any is; joins tissue detection where patches are cut.
        masks: by kind.
        shares: by kind, the share of the tissue, 0 to 1; ``blur`` is that of fields read here and there, ``pen`` that
            of the slide, because no tissue is looked for under pen.
        unjudged: by kind, why it cannot be judged.
    """

    mask: CoarseMask
    masks: Mapping[str, CoarseMask]
    shares: Mapping[str, float]
    unjudged: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Shares and what cannot be judged, as a JSON document."""
        return {"shares": dict(self.shares), "unjudged": dict(self.unjudged)}


def slide_quality(slide: Slide, tissue: TissueMask | None = None, *, focus: bool = True) -> SlideQuality:
    """Look for artefacts on a slide.

    Args:
        slide: an open slide; one without um/px is looked at as if it had ``ASSUMED_MPP``.
        tissue: its tissue; None: it is looked for.
        focus: also read fields for their focus (up to 256, a few ms each).

    Raises:
        UnreadableImageError: the slide is damaged.
    """
    tissue = tissue_mask(slide) if tissue is None else tissue
    if tissue.white.max() <= TOO_DARK:
        nowhere = CoarseMask(np.zeros_like(tissue.mask), tissue.downsample, slide.size)
        kinds = (*KINDS, "blur") if focus else KINDS
        return SlideQuality(nowhere, {}, {}, dict.fromkeys(kinds, "too dark: badly exposed"))
    with ExitStack() as stack:
        known = slide.mpp is not None
        read = slide if known else stack.enter_context(open_slide(slide.path, ASSUMED_MPP))
        level0 = read.require_mpp()
        mpp = max(SLIDE_MPP, level0)
        masks, unjudged = {}, {}
        found = _maps(read, tissue, mpp)
        for kind in KINDS:
            if kind == "pen" or mpp <= COARSEST_TOLD:
                masks[kind] = CoarseMask(found[kind], mpp / level0, slide.size)
            else:
                unjudged[kind] = f"{level0:g} um/px is too coarse"
        shares = {kind: _share(mask, tissue, whole=kind == "pen") for kind, mask in masks.items()}
        if focus:
            blur, reason = _blurred(read, tissue) if known else (None, "um/px unknown")
            if blur is None:
                unjudged["blur"] = reason
            else:
                shares["blur"] = blur
    together = np.logical_or.reduce([mask.mask for mask in masks.values()])
    return SlideQuality(CoarseMask(together, mpp / level0, slide.size), masks, shares, unjudged)


def _maps(slide: Slide, tissue: TissueMask, mpp: float) -> dict[str, NDArray[np.bool_]]:
    """The maps of the whole slide at ``mpp``, block by block; folds and bubbles count on tissue alone."""
    factor = mpp / slide.require_mpp()
    width, height = (max(1, math.ceil(side / factor - 1e-9)) for side in slide.size)
    found = {kind: np.zeros((height, width), np.bool_) for kind in KINDS}
    for left, top, right, bottom in _blocks(width, height):
        x, y = left - _MARGIN, top - _MARGIN
        wide, high = right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN
        rgb = slide.read(x * factor, y * factor, wide, high, mpp)
        maps = artefact_maps(rgb, tissue.white, mpp)
        for kind in KINDS:
            inner = getattr(maps, kind)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
            found[kind][top:bottom, left:right] = inner
    inside = _fitted(tissue, width, height, factor)
    found["fold"] &= inside
    found["bubble"] &= cv2.dilate(inside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return found


def _blocks(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    for top in range(0, height, _BLOCK):
        for left in range(0, width, _BLOCK):
            yield left, top, min(left + _BLOCK, width), min(top + _BLOCK, height)


def _fitted(tissue: TissueMask, width: int, height: int, factor: float) -> NDArray[np.bool_]:
    """The tissue at the grid of the maps."""
    columns = ((np.arange(width) + 0.5) * factor / tissue.downsample).astype(np.int64)
    rows = ((np.arange(height) + 0.5) * factor / tissue.downsample).astype(np.int64)
    columns, rows = np.minimum(columns, tissue.mask.shape[1] - 1), np.minimum(rows, tissue.mask.shape[0] - 1)
    return np.asarray(tissue.mask[rows[:, None], columns[None, :]], np.bool_)


def _share(mask: CoarseMask, tissue: TissueMask, whole: bool) -> float:
    if whole:
        return round(float(mask.mask.mean()), 5)
    inside = _fitted(tissue, mask.mask.shape[1], mask.mask.shape[0], mask.downsample)
    return round(float((mask.mask & inside).sum() / max(inside.sum(), 1)), 5)


def _blurred(slide: Slide, tissue: TissueMask) -> tuple[float | None, str]:
    """The share of fields with tissue that are out of focus."""
    mpp = max(slide.require_mpp(), _FOCUS_MPP)
    if mpp > COARSEST_MPP:
        return None, f"{slide.require_mpp():g} um/px is too coarse"
    side = _FIELD * mpp / slide.require_mpp()
    x, y = (axis.ravel() for axis in np.meshgrid(*(np.arange(0, max(1.0, end - side + 1), side) for end in slide.size)))
    enough = np.flatnonzero(tissue.fraction(x, y, side, side) >= 0.5)
    if not len(enough):
        return None, "too little tissue"
    chosen = enough[np.unique(np.linspace(0, len(enough) - 1, _SAMPLES).round().astype(np.int64))]
    fields = [measure(slide.read(float(x[i]), float(y[i]), _FIELD, _FIELD, mpp), mpp) for i in chosen]
    values = [field.sharp for field in fields if field.sharp is not None]
    usual = Usual(float(np.percentile(values, 75))) if len(values) >= 8 else Usual()
    scores = [judge(field, usual).scores["blur"] for field in fields]
    told = [score >= FLAGGED for score in scores if score is not None]
    return (round(float(np.mean(told)), 4), "") if told else (None, "too little tissue")
