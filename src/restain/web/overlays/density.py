"""How dense nuclei lie: all cells that ``restain her2 score`` saw, or the nuclei found where one looks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.web.overlays.base import RGBA, Offer, Points, Scene, Tile
from restain.web.overlays.canvas import blend, contour
from restain.web.overlays.colours import ramp_legend, table
from restain.web.overlays.detect import finest_to, nuclei_in
from restain.web.overlays.planes import Plane, plane_of
from restain.web.overlays.shapes import moved
from restain.web.overlays.tables import Cells, read_cells
from restain.web.overlays.vector import source_of

SIGMA_UM = 30.0
"""Of the Gaussian that each nucleus is spread with."""
STEP_UM = 10.0
FULL = 8000.0
"""Nuclei per mm2 of the last colour: lymphocytes side by side."""
FAINT, CLEAR = 300.0, 2500.0
OPACITY = 0.65
STEPS = (1000.0, 2000.0, 4000.0, 8000.0)
"""Nuclei per mm2 of the legend, and of the lines of equal density."""

_REACH = 3
"""Sigmas at which the Gaussian ends."""
_LONGEST = 3000
"""px of the grid's longer side."""
_LINE = 0.75
_LINES_TO_MPP = 6.0
"""um/px of a tile up to which lines of equal density are drawn; farther away they would cover all."""
_COLOURS = table("GnBu", 0.35)


class DensityOverlay:
    """See this module's text."""

    kind = "density"
    label = "Density of nuclei"
    needs_source = False

    def offer(self, scene: Scene) -> Offer | None:
        """See ``Overlay``."""
        coarsest = None
        note = f"All cells of cells.csv, under a Gaussian of {SIGMA_UM:g} um."
        if scene.source is None:
            coarsest = finest_to(scene)
            if coarsest is None:
                return None
            note = f"Nuclei that restain's classical detector finds, under a Gaussian of {SIGMA_UM:g} um."
        elif scene.mpp is None:
            return None
        return Offer(ramp_legend(_COLOURS, FULL, list(STEPS), "nuclei/mm²"), note, coarsest)

    def render(self, scene: Scene, tile: Tile) -> RGBA | None:
        """See ``Overlay``."""
        mpp = scene.um_per_px(tile) / tile.scale
        if scene.source is not None:
            plane = _of_table(scene, mpp)
        else:
            coarsest = finest_to(scene)
            if coarsest is None or tile.z > coarsest:
                return None
            plane = _around(scene, tile, mpp)
        places = np.stack(np.meshgrid(tile.columns(1), tile.rows(1)), axis=2).astype(np.float32)
        density = plane.sample(places, tile.scale)
        inner = density[1:-1, 1:-1]
        colour = _COLOURS[np.minimum(inner * (255 / FULL), 255).astype(np.uint8)]
        alpha = OPACITY * np.clip((inner - FAINT) / (CLEAR - FAINT), 0, 1)
        if scene.um_per_px(tile) > _LINES_TO_MPP:
            return blend(colour, alpha)
        line = np.max([contour(density, level) for level in STEPS], axis=0)
        colour = np.where(line[..., None] > 0.5, np.uint8(255), colour)
        return blend(colour, np.maximum(alpha, _LINE * line))


def _of_table(scene: Scene, mpp: float) -> Plane:
    """The density over the whole of what is shown, computed once."""
    source = source_of(scene)
    change = scene.to_shown(source.frame)

    def cells() -> Cells:
        return read_cells(source.path)

    def made() -> Plane:
        centres = scene.kept.get(("cells", source.path, source.stamp), cells).centres
        centres = centres if change is None else moved(centres, change)
        step = max(STEP_UM / mpp, max(scene.size) / _LONGEST)
        width, height = (int(np.ceil(side / step)) for side in scene.size)
        return plane_of(_smoothed(centres / step, (width, height), step * mpp), step)

    return scene.kept.get(scene.key("density", source.path, source.stamp, source.frame), made)


def _around(scene: Scene, tile: Tile, mpp: float) -> Plane:
    """The density over a tile, from the nuclei in and around it."""
    step, reach = STEP_UM / mpp, _REACH * SIGMA_UM / mpp + STEP_UM / mpp
    left, top, right, bottom = tile.box()
    # on the one grid of the whole slide, so that tiles fit
    column, row = int(np.floor((left - reach) / step)), int(np.floor((top - reach) / step))
    width, height = int(np.ceil((right + reach) / step)) - column, int(np.ceil((bottom + reach) / step)) - row
    box = column * step, row * step, (column + width) * step, (row + height) * step
    centres = nuclei_in(scene, box)
    values = _smoothed(centres / step - (column, row), (width, height), STEP_UM)
    return Plane((values,), step, (column * step, row * step))


def _smoothed(places: Points, size: tuple[int, int], step_um: float) -> NDArray[np.float32]:
    """Nuclei per mm2 on a grid of ``size`` (width, height), from centres in px of the grid [n, 2]."""
    width, height = size
    place = np.floor(places[np.isfinite(places).all(axis=1)])
    place = place[((place >= 0) & (place < size)).all(axis=1)].astype(np.int64)
    counts = np.bincount(place[:, 1] * width + place[:, 0], minlength=width * height).reshape(height, width)
    sigma = max(SIGMA_UM / step_um, 0.5)
    side = 2 * int(np.ceil(_REACH * sigma)) + 1
    smooth = cv2.GaussianBlur(counts.astype(np.float32), (side, side), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(smooth * np.float32(1e6 / step_um**2), np.float32)
