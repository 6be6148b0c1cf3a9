"""Drawing with alpha on tiles, so that neighbouring tiles fit without a seam.

Shapes are placed by their own positions to 1/16 px and drawn on a canvas that is a little larger than its tile: what
lies on the border of two tiles is drawn alike in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.web.overlays.base import RGBA, Tile
from restain.web.tiles import TILE

MARGIN = 16
"""px around the tile that are drawn too."""

_SHIFT = 4
_FARTHEST = 2**26

Colour = tuple[int, int, int]
Rings = Sequence[NDArray[np.floating[Any]]]


class Canvas:
    """A tile to draw on, empty at first.

    OpenCV blends the four channels of an edge alike; over transparent black that makes colours with their alpha
    multiplied in, which ``picture`` takes out again.

    Args:
        tile: the tile.
    """

    def __init__(self, tile: Tile) -> None:
        self._tile = tile
        self._pixels = np.zeros((tile.height + 2 * MARGIN, tile.width + 2 * MARGIN, 4), np.uint8)
        # OpenCV's px have their centres at whole numbers
        self._corner = np.array([tile.x, tile.y]) * TILE - MARGIN + 0.5

    def fill(self, rings: Rings, colour: Colour, opacity: float) -> None:
        """Fill polygons (level-0 px [k, 2] each); where they overlap, they are one."""
        for ring in self._places(rings):
            cv2.fillPoly(self._pixels, [ring], _ink(colour, opacity), cv2.LINE_AA, _SHIFT)

    def outline(self, rings: Rings, colour: Colour, opacity: float, width: int = 1) -> None:
        """Draw the polygons' edges, ``width`` px wide."""
        places = self._places(rings)
        cv2.polylines(self._pixels, places, True, _ink(colour, opacity), width, cv2.LINE_AA, _SHIFT)

    def lay(self, picture: RGBA) -> None:
        """Put a picture of the tile's size (alpha not multiplied in) over what is drawn."""
        here = self._pixels[MARGIN:-MARGIN, MARGIN:-MARGIN].astype(np.float32)
        alpha = picture[..., 3:].astype(np.float32) / 255
        above = np.concatenate([picture[..., :3] * alpha, picture[..., 3:]], axis=2)
        self._pixels[MARGIN:-MARGIN, MARGIN:-MARGIN] = np.rint(above + here * (1 - alpha))

    def picture(self) -> RGBA | None:
        """The tile, uint8 [height, width, 4], alpha not multiplied in; None where nothing is drawn on it."""
        pixels = self._pixels[MARGIN:-MARGIN, MARGIN:-MARGIN]
        alpha = pixels[..., 3]
        if not alpha.any():
            return None
        out = np.empty_like(pixels)
        scale = np.float32(255) / np.maximum(alpha, 1).astype(np.float32)
        out[..., :3] = np.minimum(pixels[..., :3] * scale[..., None] + np.float32(0.5), 255)
        out[..., 3] = alpha
        return out

    def _place(self, points: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
        place = np.rint((np.asarray(points, np.float64) / self._tile.scale - self._corner) * 2**_SHIFT)
        return np.asarray(np.clip(place, -_FARTHEST, _FARTHEST), np.int32)

    def _places(self, rings: Rings) -> list[NDArray[np.int32]]:
        """All rings in the canvas' px; one computation for all of them."""
        if not rings:
            return []
        ends = np.cumsum([len(ring) for ring in rings])
        return np.split(self._place(np.concatenate(rings)), ends[:-1])


def mean_colours(
    tile: Tile,
    centres: NDArray[np.floating[Any]],
    areas: NDArray[np.floating[Any]],
    colours: NDArray[np.uint8],
    values: NDArray[np.uint8] | None,
    spread: float,
    opacity: float,
) -> RGBA | None:
    """Shapes too small to be drawn, as the mean colour of those at each place.

    Args:
        tile: the tile.
        centres: of the shapes in level-0 px [n, 2]; those within ``MARGIN`` px around the tile belong to it.
        areas: of the shapes in level-0 px [n].
        colours: uint8 RGB: of each shape [n, 3]; of the values 0, 1, 2, ... [g, 3] where ``values`` are given.
        values: [n], whose mean is shown in the colour that it has between those; None: colours themselves are mixed.
        spread: sigma of the Gaussian that each shape is drawn with, in px of the tile, at most 5.
        opacity: where shapes cover everything; less where they cover less.

    Returns:
        As ``Canvas.picture``.
    """
    if not len(centres):
        return None
    wide, high = tile.width + 2 * MARGIN, tile.height + 2 * MARGIN
    place = np.floor(np.asarray(centres, np.float64) / tile.scale - (tile.x * TILE - MARGIN, tile.y * TILE - MARGIN))
    inside = ((place >= 0) & (place < (wide, high))).all(axis=1)
    if not inside.any():
        return None
    index = (place[inside, 1] * wide + place[inside, 0]).astype(np.int64)
    weight = np.asarray(areas, np.float64)[inside] / tile.scale**2

    def summed(amount: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        plane = np.bincount(index, amount, wide * high).reshape(high, wide).astype(np.float32)
        reach = 2 * int(np.ceil(3 * spread)) + 1
        smooth = cv2.GaussianBlur(plane, (reach, reach), spread, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(smooth[MARGIN:-MARGIN, MARGIN:-MARGIN], np.float32)

    covered = summed(weight)
    alpha = np.rint(255 * opacity * np.minimum(covered * 1.25, 1))
    if not alpha.any():
        return None
    total = np.maximum(covered, 1e-6)
    out = np.empty((tile.height, tile.width, 4), np.uint8)
    if values is not None:
        mean = summed(weight * values[inside]) / total
        for channel in range(3):
            out[..., channel] = np.rint(np.interp(mean, np.arange(len(colours)), colours[:, channel]))
    else:
        for channel in range(3):
            mixed = summed(weight * colours[inside, channel]) / total
            out[..., channel] = np.rint(np.minimum(mixed, 255))
    out[..., 3] = alpha
    return out


def blend(colour: NDArray[np.uint8] | Colour, alpha: NDArray[np.floating[Any]]) -> RGBA | None:
    """One colour [3], or one for each pixel [h, w, 3], with alpha 0 to 1 [h, w]; None where it is nowhere."""
    amount = np.rint(255 * np.clip(alpha, 0, 1)).astype(np.uint8)
    if not amount.any():
        return None
    out = np.empty((*amount.shape, 4), np.uint8)
    out[..., :3], out[..., 3] = colour, amount
    return out


def contour(values: NDArray[np.float32], level: float, width: float = 1.2) -> NDArray[np.float32]:
    """How much of each px is covered by the line where values cross a level, 0 to 1.

    Args:
        values: [h + 2, w + 2]: with one px more on every side, so that neighbouring tiles agree.
        level: where the line is.
        width: of the line, px.

    Returns:
        float32 [h, w].
    """
    return np.asarray(np.clip(width / 2 + 0.5 - np.abs(beyond(values, level)), 0, 1), np.float32)


def beyond(values: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """About how many px each px lies inside the line where values (as for ``contour``) rise above a level, [h, w]."""
    down, across = np.gradient(values)
    slope = np.hypot(across, down)[1:-1, 1:-1]
    difference = values[1:-1, 1:-1] - np.float32(level)
    # on a plain no line is near, whatever rounding says
    return np.asarray(difference / np.maximum(slope, 1e-4 * max(abs(level), 1e-6)), np.float32)


def encode(picture: RGBA) -> bytes:
    """As PNG, quickly rather than small."""
    bgra = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise ValueError("OpenCV wrote no PNG")
    return data.tobytes()


def _ink(colour: Colour, opacity: float) -> tuple[int, int, int, int]:
    """RGBA with alpha multiplied in."""
    red, green, blue = (round(part * opacity) for part in colour)
    return red, green, blue, round(255 * opacity)
