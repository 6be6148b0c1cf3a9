"""DAB, the brown stain: how much of it there is at each px, in optical density."""

from __future__ import annotations

import cv2
import numpy as np

from restain.stains import optical_density
from restain.stains.deconvolution import UNIT_HED_FROM_RGB
from restain.web.overlays.base import RGBA, Frame, Offer, Scene, Tile
from restain.web.overlays.canvas import blend
from restain.web.overlays.colours import ramp_legend, table
from restain.web.overlays.overview import white_of

FULL = 1.2
"""Optical density of the last colour."""
FAINT, CLEAR = 0.15, 0.5
"""Optical densities below which nothing is shown, and from which on colours are as opaque as they get.

Unstained tissue has 0.1 to 0.2, for its colours are not quite those of the three stains.
"""
OPACITY = 0.9

_COLOURS = table("viridis")


class DabOverlay:
    """See this module's text."""

    kind = "dab"
    label = "DAB"
    needs_source = False

    def offer(self, scene: Scene) -> Offer | None:
        """See ``Overlay``."""
        if _is_he(scene):
            return None
        note = "Optical density of DAB (Ruifrok and Johnston's vectors) against the colour of the glass."
        return Offer(ramp_legend(_COLOURS, FULL, [0.3, 0.6, 0.9, 1.2], "OD"), note, scene.coarsest_z)

    def render(self, scene: Scene, tile: Tile) -> RGBA | None:
        """See ``Overlay``."""
        if tile.z > scene.coarsest_z:
            return None
        density = optical_density(scene.tile(tile), white_of(scene))
        amount = np.maximum(cv2.transform(density, UNIT_HED_FROM_RGB.T[2:].astype(np.float32)), 0)
        colour = _COLOURS[np.minimum(amount * (255 / FULL), 255).astype(np.uint8)]
        return blend(colour, OPACITY * np.clip((amount - FAINT) / (CLEAR - FAINT), 0, 1))


def _is_he(scene: Scene) -> bool:
    """Whether the slide is the H&E of the registration itself, and no virtual IHC on its px."""
    return (
        scene.part is Frame.he
        and scene.registered is not None
        and scene.slide.path.name in (scene.registered.transform.he_name, "he_registered.ome.tif")
    )
