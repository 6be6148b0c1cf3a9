"""Where a slide model looked: the tiles of ``attention.geojson`` in their colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from restain.her2.heat_labels import colours_of
from restain.web.overlays.base import RGBA, Entry, Offer, Scene, Tile, hex_colour
from restain.web.overlays.shapes import Shapes
from restain.web.overlays.vector import Style, draw, drawing_of, shown_shapes

BANDS = 10
_STYLE = Style(fill=(0.5,), edge=0.0, far=0.5)


class AttentionOverlay:
    """See this module's text."""

    kind = "attention"
    label = "HER2 attention"
    needs_source = True

    def offer(self, scene: Scene) -> Offer | None:
        """See ``Overlay``."""
        del scene
        colours = _palette()
        named = {0: "least looked at", BANDS // 2: "middle", BANDS - 1: "looked at most"}
        entries = tuple(Entry(text, hex_colour(colours[band])) for band, text in named.items())
        return Offer(entries, "Tiles by the rank of their attention, in tenths; ranks say nothing of how uneven it is.")

    def render(self, scene: Scene, tile: Tile) -> RGBA | None:
        """See ``Overlay``."""
        return draw(shown_shapes(scene, self.kind, lambda: _banded(scene)), tile, _STYLE)


def _banded(scene: Scene) -> Shapes:
    """The tiles by tenths of their rank; in the file's own colours where one of them has no rank."""
    drawing = drawing_of(scene)
    if not np.isfinite(drawing.ranks).all():
        return drawing.outlines
    band = np.minimum((drawing.ranks * BANDS).astype(np.uint8), BANDS - 1)
    return replace(drawing.outlines, group=band, palette=_palette(), ordered=True)


def _palette() -> NDArray[np.uint8]:
    return np.asarray(np.rint(255 * colours_of((np.arange(BANDS) + 0.5) / BANDS)), np.uint8)
