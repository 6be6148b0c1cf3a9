"""On whose pixels a virtual IHC lies: those of the H&E it was stained from, or those of the IHC."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.slides import Slide
from restain.web import tiles
from restain.web.context import Context

Frame = Literal["he", "ihc"]

SIDE = 768
"""Side in px of the pictures that are compared."""
CLEAR = 0.05
"""Difference of two correlations that decides; below, a nearer look is taken where there is one."""
_STEP = 8
"""How much nearer."""


def frame_of(
    context: Context, virtual: Path, he: Path | None, ihc: Path | None, registered: Path | None
) -> Frame | None:
    """On whose pixels a virtual IHC lies.

    Decided by size; where both slides have that of the virtual one, by which of them it looks like. Little is read: a
    slide without small levels is not looked at.

    Args:
        context: of the server.
        virtual: the virtual IHC.
        he: the H&E; None: it is not shown.
        ihc: the IHC; None: it is not shown.
        registered: the H&E on the IHC's pixels, which looks more like a virtual IHC than the IHC does; None without.

    Returns:
        None where it cannot be told.
    """
    try:
        with context.pool.open(virtual) as slide:
            size = slide.size
        shown: list[tuple[Frame, Path | None]] = [("he", he), ("ihc", ihc)]
        fitting = {frame: path for frame, path in shown if path is not None and _size(context, path) == size}
        if len(fitting) < 2:
            return next(iter(fitting), None)
        if registered is not None and _size(context, registered) == size:
            fitting["ihc"] = registered
        return _alike(context, virtual, fitting)
    except RestainError:
        return None


def _size(context: Context, path: Path) -> tuple[int, int] | None:
    try:
        with context.pool.open(path) as slide:
            return slide.size
    except RestainError:
        return None


def _alike(context: Context, virtual: Path, fitting: dict[Frame, Path]) -> Frame | None:
    """Which of two slides of the same size the virtual one looks like; looked at nearer until it is clear."""
    with context.pool.open(virtual) as slide:
        downsample = max(1.0, max(slide.size) / SIDE)
        x, y = 0.0, 0.0
        best: Frame | None = None
        while True:
            seen = _darkness(slide, x, y, downsample)
            if seen is None:
                return best
            scores: dict[Frame, float] = {}
            for frame, path in fitting.items():
                with context.pool.open(path) as other:
                    picture = _darkness(other, x, y, downsample)
                if picture is None:
                    return best
                scores[frame] = _correlation(seen, picture)
            best = "he" if scores["he"] >= scores["ihc"] else "ihc"
            if abs(scores["he"] - scores["ihc"]) > CLEAR or downsample == 1:
                return best
            row, column = np.unravel_index(int(cv2.GaussianBlur(seen, (0, 0), SIDE / 20).argmax()), seen.shape)
            nearer = max(1.0, downsample / _STEP)
            x = max(0.0, x + float(column) * downsample - nearer * SIDE / 2)
            y = max(0.0, y + float(row) * downsample - nearer * SIDE / 2)
            downsample = nearer


def _darkness(slide: Slide, x: float, y: float, downsample: float) -> NDArray[np.float32] | None:
    """How dark a part of a slide is, float32 [h, w] from 0 to 255; None where that would take too much reading."""
    width, height = (
        max(1, min(SIDE, round((side - start) / downsample))) for side, start in zip(slide.size, (x, y), strict=True)
    )
    if slide.cost(width, height, downsample) > tiles.BUDGET:
        return None
    rgb = slide.read_reduced(x, y, width, height, downsample)
    return np.asarray(255 - cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32))


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of two pictures, -1 to 1; 0 where one shows nothing."""
    if min(float(one.std()), float(other.std())) < 1e-3:
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
