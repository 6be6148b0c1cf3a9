"""Tile grids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restain.slides.tissue import TissueMask


def tile_grid(
    size: tuple[float, float],
    tile: float,
    stride: float | None = None,
    *,
    partial: bool = True,
    tissue: TissueMask | None = None,
    min_tissue: float = 0.5,
) -> NDArray[np.float64]:
    """Origins of square tiles on a regular grid from (0, 0), row by row.

    A tile of ``n`` output pixels at ``mpp`` has a side of ``n * mpp / slide.mpp`` level-0 pixels.

    Args:
        size: (width, height) to cover, in level-0 pixels.
        tile: side of a tile in level-0 pixels; may be fractional.
        stride: from tile to tile; None: ``tile`` (no overlap, no gap).
        partial: also tiles that reach over the right and bottom edge, so that everything is covered; without, only
            tiles that lie inside.
        tissue: with it, only tiles with at least ``min_tissue`` of their area in tissue.
        min_tissue: share, 0 to 1; 0 keeps every tile that touches tissue.

    Returns:
        float64 [n, 2]: x, y in level-0 pixels.

    Raises:
        ValueError: ``tile`` or ``stride`` is not positive, or the stride leaves gaps under ``partial``.
    """
    stride = tile if stride is None else stride
    if tile <= 0 or stride <= 0 or (partial and stride > tile):
        raise ValueError(f"tile {tile} and stride {stride} must be positive, and the stride at most the tile")
    xs, ys = (_starts(extent, tile, stride, partial) for extent in size)
    x, y = (axis.ravel() for axis in np.meshgrid(xs, ys))
    if tissue is not None:
        share = tissue.fraction(x, y, tile, tile)
        keep = share >= min_tissue if min_tissue > 0 else share > 0
        x, y = x[keep], y[keep]
    return np.stack([x, y], axis=1)


def _starts(extent: float, tile: float, stride: float, partial: bool) -> NDArray[np.float64]:
    """Starts along one axis; a thousandth of a pixel more or less, from rounding um/px, makes no tile."""
    steps = (extent - tile) / stride
    count = int(np.ceil(steps - 1e-3 / stride)) + 1 if partial else int(np.floor(steps + 1e-3 / stride)) + 1
    return np.arange(max(count, 1 if partial else 0), dtype=np.float64) * stride
