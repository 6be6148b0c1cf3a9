"""Nuclei: as ``restain her2 score`` outlined them, or found in the tile that is looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from restain.web.overlays.base import RGBA, Entry, Offer, Scene, Tile, hex_colour
from restain.web.overlays.canvas import MARGIN
from restain.web.overlays.detect import RADIUS_UM, circles, finest_to, nuclei_in
from restain.web.overlays.shapes import Shapes
from restain.web.overlays.vector import Style, draw, drawing_of, shown_shapes

COLOUR = np.array([70, 235, 255], np.uint8)
_STYLE = Style(width=1, halo=0.5, behind=(0, 45, 70), far=0.7)


class NucleiOverlay:
    """See this module's text."""

    kind = "nuclei"
    label = "Nuclei"
    needs_source = False

    def offer(self, scene: Scene) -> Offer | None:
        """See ``Overlay``."""
        if scene.source is not None:
            entry = Entry("nucleus of a counted tumour cell", hex_colour(COLOUR))
            return Offer((entry,), "As `restain her2 score` outlined them.")
        coarsest = finest_to(scene)
        if coarsest is None:
            return None
        note = "Found by restain's classical detector and checked by nobody; circles mark their centres."
        return Offer((Entry("nucleus", hex_colour(COLOUR)),), note, coarsest)

    def render(self, scene: Scene, tile: Tile) -> RGBA | None:
        """See ``Overlay``."""
        if scene.source is not None:
            return draw(shown_shapes(scene, self.kind, lambda: _outlined(scene)), tile, _STYLE)
        coarsest = finest_to(scene)
        if coarsest is None or tile.z > coarsest or scene.mpp is None:
            return None
        centres = nuclei_in(scene, tile.box(MARGIN))
        return draw(circles(centres, RADIUS_UM / scene.mpp, COLOUR), tile, _STYLE) if len(centres) else None


def _outlined(scene: Scene) -> Shapes:
    nuclei = drawing_of(scene).nuclei
    return replace(nuclei, group=np.zeros(len(nuclei), np.uint8), palette=COLOUR.reshape(1, 3), ordered=True)
