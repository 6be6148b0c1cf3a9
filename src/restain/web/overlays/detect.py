"""Nuclei found in the shown pixels, where no file says where they are.

They are looked for in blocks that lie fixed on the slide, each with what surrounds it, and belong to the block in which
their centre lies. So every tile shows the same nuclei, whichever was asked for first.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restain.stains import make_detector, optical_density
from restain.web.overlays.base import Points, Scene
from restain.web.overlays.overview import white_of
from restain.web.overlays.shapes import Shapes
from restain.web.tiles import BUDGET

COARSEST_MPP = 1.0
"""um/px of a tile beyond which nuclei are not looked for: there is too much to look at."""
NUCLEI_MPP = 0.5
RADIUS_UM = 3.5
"""Of the circle that is drawn around a centre."""

_BLOCK_UM, _AROUND_UM = 256.0, 24.0
_OFFSET = 0.25
"""Blocks begin by this share of one outside the slide, so that tiles and blocks seldom share a border."""
_EMPTY_OD = 0.06
_CORNERS = 16
_MOST_READ = 2 * BUDGET
"""Stored pixels that a block may need: those of two tiles."""
_AT_ONCE = threading.BoundedSemaphore(2)
"""Detections at a time: other tiles must not wait for them."""


@dataclass(frozen=True)
class Found:
    """Centres of nuclei in shown level-0 px, float64 [n, 2]."""

    centres: Points

    @property
    def nbytes(self) -> int:
        """Of memory."""
        return self.centres.nbytes


def finest_to(scene: Scene) -> int | None:
    """The largest z at which nuclei are looked for; None where they never are."""
    if scene.mpp is None or scene.mpp > COARSEST_MPP:
        return None
    # a file may say any um/px: one far too small would make all of the slide a single block
    factor = max(1.0, NUCLEI_MPP / scene.mpp)
    side = math.ceil((_BLOCK_UM + 2 * _AROUND_UM) / (scene.mpp * factor))
    if scene.slide.cost(side, side, factor) > _MOST_READ:
        return None
    return min(scene.coarsest_z, int(math.log2(COARSEST_MPP / scene.mpp) + 1e-9))


def nuclei_in(scene: Scene, box: tuple[float, float, float, float]) -> Points:
    """Centres of the nuclei in a box.

    Args:
        scene: what is shown; its um/px is known.
        box: (left, top, right, bottom) in shown level-0 px.

    Returns:
        float64 [n, 2] in shown level-0 px.

    Raises:
        UnreadableImageError: the slide is damaged there.
    """
    mpp = scene.mpp or 1.0
    side = _BLOCK_UM / mpp
    low = [max(start, 0) / side + _OFFSET for start in box[:2]]
    high = [min(end, extent - 1) / side + _OFFSET for end, extent in zip(box[2:], scene.size, strict=True)]
    found = [np.zeros((0, 2))]
    for row in range(math.floor(low[1]), math.floor(high[1]) + 1):
        for column in range(math.floor(low[0]), math.floor(high[0]) + 1):
            name = scene.key("detected", column, row)
            found.append(scene.kept.get(name, lambda c=column, r=row: _block(scene, c, r)).centres)  # type: ignore[misc]
    centres = np.concatenate(found)
    inside = ((centres >= box[:2]) & (centres <= box[2:])).all(axis=1)
    return centres[inside]


def circles(centres: Points, radius: float, colour: NDArray[np.uint8]) -> Shapes:
    """Circles around centres [n, 2] as shapes; ``radius`` in the same px."""
    angles = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
    ring = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices = (centres[:, None] + ring).reshape(-1, 2).astype(np.float32)
    starts = np.arange(len(centres) + 1, dtype=np.int64) * _CORNERS
    return Shapes(vertices, starts, np.zeros(len(centres), np.uint8), colour.reshape(1, 3), ordered=True)


def _block(scene: Scene, column: int, row: int) -> Found:
    """The nuclei whose centres lie in a block."""
    mpp = scene.mpp or 1.0
    side, around = _BLOCK_UM / mpp, _AROUND_UM / mpp
    corner = np.array([column - _OFFSET, row - _OFFSET]) * side
    low = np.maximum(np.floor(corner - around), 0)
    high = np.minimum(np.ceil(corner + side + around), scene.size)
    factor = max(1.0, NUCLEI_MPP / mpp)
    width, height = (max(1, round(extent / factor)) for extent in high - low)
    with _AT_ONCE:
        rgb = scene.read(float(low[0]), float(low[1]), width, height, factor)
        red = optical_density(rgb, white_of(scene))[..., 0]
        if np.percentile(red, 99.5) < _EMPTY_OD:  # glass: nothing to look for
            return Found(np.zeros((0, 2)))
        centres = low + make_detector()(rgb, mpp * factor) * factor
    mine = ((centres >= corner) & (centres < corner + side)).all(axis=1)
    return Found(centres[mine])
