"""The tile grid of a slide: which pixels a tile shows, what reading them costs, and the tile as JPEG.

Tile (z, x, y) has ``TILE`` px of 2**z level-0 px each and begins at level-0 px (x, y) * ``TILE`` * 2**z; the last of a
row and of a column end at the slide's edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from restain.registration import Transform, WarpedSlide
from restain.slides import Slide

TILE = 256
"""Side of a tile in px."""
BUDGET = 2**25
"""Stored pixels that one tile may need: 4,096 x 4,096 and the tiles of the file that these cut."""
QUALITY = 88
"""Of the JPEGs, 1 to 100."""
_TURNED = 1.5
"""How much wider a square's bounding box is on a slide that lies turned (1.42 at 45 degrees, and a little bent)."""


class NoTileError(ValueError):
    """There is no such tile."""


@dataclass(frozen=True)
class Box:
    """What a tile shows.

    Attributes:
        x: left edge in level-0 px.
        y: top edge in level-0 px.
        width: of the tile in its own px.
        height: of the tile in its own px.
        downsample: level-0 px to a px of the tile.
    """

    x: int
    y: int
    width: int
    height: int
    downsample: int


def max_z(size: tuple[int, int]) -> int:
    """The smallest z at which one tile shows a slide of ``size`` (width, height; level-0 px)."""
    return (-(-max(size) // TILE) - 1).bit_length()


def box(size: tuple[int, int], z: int, x: int, y: int) -> Box:
    """What tile (z, x, y) of a slide of ``size`` (width, height; level-0 px) shows.

    Raises:
        NoTileError: the grid has no such tile.
    """
    if not 0 <= z <= max_z(size):
        raise NoTileError(f"the slide has tiles of z 0 to {max_z(size)}, not {z}")
    factor = 1 << z
    width, height = (-(-side // factor) for side in size)
    if not (0 <= x * TILE < width and 0 <= y * TILE < height):
        raise NoTileError(f"at z {z} the slide has {-(-width // TILE)} x {-(-height // TILE)} tiles, not ({x}, {y})")
    wide, tall = min(TILE, width - x * TILE), min(TILE, height - y * TILE)
    return Box(x * TILE * factor, y * TILE * factor, wide, tall, factor)


def cost(slide: Slide, z: int, transform: Transform | None = None) -> int:
    """Stored pixels that a tile of ``slide`` needs, at most; through a registration, where there is one."""
    if transform is None:
        return slide.cost(TILE, TILE, 1 << z)
    reduce = max(1.0, (1 << z) * transform.ihc_mpp / transform.he_mpp)
    side = round(TILE * _TURNED)
    return slide.cost(side, side, reduce)


def coarsest_z(slide: Slide, transform: Transform | None = None) -> int:
    """The largest z whose tiles stay within ``BUDGET``: ``max_z`` for slides with a pyramid; -1: not even z = 0."""
    last = max_z(slide.size if transform is None else transform.ihc_size)
    return next((z for z in range(last, -1, -1) if cost(slide, z, transform) <= BUDGET), -1)


def render(slide: Slide, z: int, x: int, y: int) -> NDArray[np.uint8]:
    """A tile, uint8 [height, width, 3]; where the pyramid has a level of factor 2**z, its stored pixels.

    Raises:
        NoTileError: the grid has no such tile.
        UnreadableImageError: the file is damaged there.
    """
    part = box(slide.size, z, x, y)
    return slide.read_reduced(part.x, part.y, part.width, part.height, part.downsample)


def render_warped(he: WarpedSlide, transform: Transform, z: int, x: int, y: int) -> NDArray[np.uint8]:
    """A tile of the IHC's grid that shows the H&E there, uint8 [height, width, 3].

    Raises:
        NoTileError: the grid has no such tile.
        UnreadableImageError: the H&E is damaged there.
        ItemError: the registration shrinks the H&E beyond measure.
    """
    part = box(transform.ihc_size, z, x, y)
    pixels, _ = he.read(part.x, part.y, part.width, part.height, part.downsample * transform.ihc_mpp)
    return pixels


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """A tile [height, width, 3] as JPEG. Chroma is not subsampled: brown membranes are thin."""
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(pixels),
            level=QUALITY,
            colorspace="RGB",
            outcolorspace="YCBCR",
            subsampling="444",
        )
    )
