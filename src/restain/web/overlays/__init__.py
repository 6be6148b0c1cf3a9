"""Overlays of the viewer; one kind, one file."""

from __future__ import annotations

from restain.web.overlays.attention import AttentionOverlay
from restain.web.overlays.base import Overlay
from restain.web.overlays.dab import DabOverlay
from restain.web.overlays.density import DensityOverlay
from restain.web.overlays.grid import GridOverlay
from restain.web.overlays.membranes import MembranesOverlay
from restain.web.overlays.nuclei import NucleiOverlay
from restain.web.overlays.patches import PatchesOverlay
from restain.web.overlays.tissue import TissueOverlay

OVERLAYS: dict[str, Overlay] = {
    overlay.kind: overlay
    for overlay in (
        TissueOverlay(),
        DabOverlay(),
        MembranesOverlay(),
        NucleiOverlay(),
        DensityOverlay(),
        AttentionOverlay(),
        GridOverlay(),
        PatchesOverlay(),
    )
}
"""All kinds, in the order in which they are offered."""

__all__ = ["OVERLAYS", "Overlay"]
