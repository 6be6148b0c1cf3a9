"""The registration as a grid: straight on the slide whose coordinates it shows, bent on the other one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.web.overlays.base import RGBA, Entry, Frame, Offer, Scene, Tile, hex_colour
from restain.web.overlays.canvas import blend
from restain.web.tiles import max_z

COLOUR = (0, 0, 0)
HALO = (255, 255, 255)
APART = 60.0
"""px: lines lie at least so far apart."""

_STEPS = (1.0, 2.0, 5.0)
_CELL = 16
"""px between the places at which the map is evaluated; in between it is bilinear."""
_WIDTH, _HALO_WIDTH = 1.2, 3.2
_OPACITY, _HALO_OPACITY = 0.8, 0.45


class GridOverlay:
    """See this module's text."""

    kind = "grid"
    label = "Registration grid"
    needs_source = False

    def offer(self, scene: Scene) -> Offer | None:
        """See ``Overlay``."""
        if scene.registered is None or Frame.own in (scene.shown, scene.part):
            return None
        spacing = [spacing_um(_mpp(scene) * 2**z) for z in range(max_z(scene.size) + 1)]
        near, far = spacing[0], spacing[-1]
        if scene.via:
            what = "The H&E's own coordinates, bent as its pixels are to lie on the IHC"
        elif scene.part is Frame.ihc:
            what = "The IHC's coordinates, straight; the H&E shows the same lines where the registration puts them"
        else:
            what = "The IHC's coordinates, where the registration puts them on the H&E"
        note = f"{what}. Lines every {near:g} um when zoomed in, up to every {far:g} um when zoomed out."
        return Offer((Entry("line of the grid", hex_colour(COLOUR)),), note, None, {"spacing_um": spacing})

    def render(self, scene: Scene, tile: Tile) -> RGBA | None:
        """See ``Overlay``."""
        if scene.registered is None or Frame.own in (scene.shown, scene.part):
            raise RestainError(f"{scene.slide.path.name}: the grid needs a registration, and what the slide is in it.")
        corners = _coordinates(scene, tile)
        lines = corners / spacing_um(_mpp(scene) * tile.scale)
        distance = np.minimum(_distance(lines[..., 0]), _distance(lines[..., 1]))
        line = _OPACITY * np.clip(_WIDTH / 2 + 0.5 - distance, 0, 1)
        halo = _HALO_OPACITY * np.clip(_HALO_WIDTH / 2 + 0.5 - distance, 0, 1)
        alpha = line + halo * (1 - line)
        grey = 255 * (1 - line / np.maximum(alpha, 1e-6))
        return blend(np.repeat(grey[..., None], 3, axis=2).astype(np.uint8), alpha)


def spacing_um(um_per_px: float) -> float:
    """How far apart lines are, um: the smallest of 1, 2, 5, 10, ... at which they lie ``APART`` px apart."""
    least = APART * um_per_px
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(step * power for step in (*_STEPS, 10.0) if step * power >= least * (1 - 1e-9)))


def _mpp(scene: Scene) -> float:
    """um/px of what is shown, as the registration has it."""
    assert scene.registered is not None
    transform = scene.registered.transform
    return transform.he_mpp if scene.shown is Frame.he else transform.ihc_mpp


def _coordinates(scene: Scene, tile: Tile) -> NDArray[np.float64]:
    """The grid's coordinates in um at the corners of the tile's px, [height + 1, width + 1, 2].

    Neighbouring tiles evaluate the map at the same places: every ``_CELL`` px from the slide's corner on.
    """
    assert scene.registered is not None
    transform = scene.registered.transform
    cells = [-(-side // _CELL) for side in (tile.width, tile.height)]
    left, top, _, _ = tile.box()
    across = left + np.arange(cells[0] + 1) * _CELL * tile.scale
    down = top + np.arange(cells[1] + 1) * _CELL * tile.scale
    places = np.stack(np.meshgrid(across, down), axis=2).reshape(-1, 2).astype(np.float64)
    if scene.via:
        nodes, mpp = transform.ihc_to_he(places), transform.he_mpp
    elif scene.part is Frame.he:
        nodes, mpp = transform.he_to_ihc(places), transform.ihc_mpp
    else:
        nodes, mpp = places, transform.ihc_mpp
    nodes = nodes.reshape(len(down), len(across), 2) * mpp
    return _between(_between(nodes, tile.height, 0), tile.width, 1)


def _between(nodes: NDArray[np.float64], count: int, axis: int) -> NDArray[np.float64]:
    """Values at 0, 1, ..., ``count`` px along an axis, from those at every ``_CELL`` px, linear in between."""
    place = np.arange(count + 1) / _CELL
    cell = np.minimum(place.astype(np.int64), nodes.shape[axis] - 2)
    shape = [-1 if number == axis else 1 for number in range(3)]
    part = (place - cell).reshape(shape)
    return np.asarray(nodes.take(cell, axis) * (1 - part) + nodes.take(cell + 1, axis) * part, np.float64)


def _distance(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Px from each px to the nearest whole number of ``lines``, which are given at the px' corners [h + 1, w + 1]."""
    mean = (lines[1:, 1:] + lines[1:, :-1] + lines[:-1, 1:] + lines[:-1, :-1]) / 4
    across = (lines[1:, 1:] + lines[:-1, 1:] - lines[1:, :-1] - lines[:-1, :-1]) / 2
    down = (lines[1:, 1:] + lines[1:, :-1] - lines[:-1, 1:] - lines[:-1, :-1]) / 2
    off = np.abs(mean - np.rint(mean)) / np.maximum(np.hypot(across, down), 1e-9)
    return np.nan_to_num(off, nan=1e9)
