"""Membrane classes of the tumour cells that ``restain her2 score`` counted, in the colours that QuPath has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from restain.her2.files import COLOURS, NAMES
from restain.web.overlays.base import RGBA, Entry, Offer, Scene, Tile, hex_colour
from restain.web.overlays.geojson import Drawing
from restain.web.overlays.shapes import Shapes
from restain.web.overlays.vector import Style, draw, drawing_of, shown_shapes

_STYLE = Style(fill=(0.12,), halo=0.55)


class MembranesOverlay:
    """See this module's text."""

    kind = "membranes"
    label = "Membrane classes"
    needs_source = True

    def offer(self, scene: Scene) -> Offer | None:
        """See ``Overlay``."""
        del scene
        entries = tuple(Entry(name, hex_colour(colour)) for name, colour in zip(NAMES, COLOURS, strict=True))
        return Offer(entries, "Counted tumour cells; zoomed out, the mean class of those at each place.")

    def render(self, scene: Scene, tile: Tile) -> RGBA | None:
        """See ``Overlay``."""
        return draw(shown_shapes(scene, self.kind, lambda: classed(drawing_of(scene))), tile, _STYLE)


def classed(drawing: Drawing) -> Shapes:
    """The cells' outlines by membrane class; as the file colours them where it has other classes."""
    if not set(drawing.names) <= set(NAMES):
        return drawing.outlines
    number = np.array([NAMES.index(name) for name in drawing.names] or [0], np.uint8)
    shapes = drawing.outlines
    return replace(shapes, group=number[shapes.group], palette=np.array(COLOURS, np.uint8), ordered=True)
