"""Where restain sees tissue: its outline, and a shade over the rest."""

from __future__ import annotations

import numpy as np

from restain.web.overlays.base import RGBA, Entry, Offer, Scene, Tile, hex_colour
from restain.web.overlays.canvas import beyond
from restain.web.overlays.overview import tissue_downsample, tissue_of

EDGE = (0, 92, 200)
SHADE = (40, 48, 72)
_SHADE = 0.28
_WIDTH = 2.0
"""px of the line."""


class TissueOverlay:
    """See this module's text."""

    kind = "tissue"
    label = "Tissue"
    needs_source = False

    def offer(self, scene: Scene) -> Offer | None:
        """See ``Overlay``."""
        if tissue_downsample(scene.slide) is None:
            note = "Not available: the slide has no coarse levels, and all of it would have to be read."
            return Offer((), f"{note} Save it as a pyramidal OME-TIFF.")
        entries = Entry("edge of the tissue", hex_colour(EDGE)), Entry("not taken for tissue", hex_colour(SHADE))
        return Offer(entries, "As `restain pairs` and `restain her2` find it.")

    def render(self, scene: Scene, tile: Tile) -> RGBA | None:
        """See ``Overlay``."""
        tissue = tissue_of(scene)
        if tissue is None:
            return None
        share = tissue.sample(scene.own_positions(tile, margin=1), tile.scale) / 255
        distance = beyond(np.asarray(share, np.float32), 0.5)
        line = np.clip(_WIDTH / 2 + 0.5 - np.abs(distance), 0, 1)
        outside = _SHADE * np.clip(0.5 - distance, 0, 1)
        alpha = line + outside * (1 - line)
        if not (alpha > 0.002).any():
            return None
        weight = (line / np.maximum(alpha, 1e-6))[..., None]
        rgb = weight * np.array(EDGE, np.float32) + (1 - weight) * np.array(SHADE, np.float32)
        return np.concatenate([np.rint(rgb), np.rint(255 * alpha)[..., None]], axis=2).astype(np.uint8)
