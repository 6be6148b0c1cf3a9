"""Statistics of tiles: of the nuclei that lie in each, and of planes of pixels; no loop over nuclei or pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Values = NDArray[np.float64]

NUCLEAR = ("mean", "deviation", "p10", "p50", "p90", "plump", "plump_deviation")
"""Of each measure of nuclei; ``plump`` ones count by how large and round nuclei are, as those of epithelium are."""

PLUMP = NUCLEAR.index("plump")

_LEVELS = (0.1, 0.5, 0.9)


def of_nuclei(tile: NDArray[np.int64], values: Values, weights: Values, tiles: int) -> Values:
    """``NUCLEAR`` of a measure in each tile.

    Args:
        tile: which tile each nucleus lies in [n]; -1: in none.
        values: the measure [n].
        weights: how plump each is, above 0 [n].
        tiles: how many there are.

    Returns:
        float64 [tiles, 7]; 0 for a tile without nuclei.
    """
    inside = tile >= 0
    tile, values, weights = tile[inside], values[inside], weights[inside]
    order = np.lexsort((values, tile))
    tile, values, weights = tile[order], values[order], weights[order]
    count = np.bincount(tile, minlength=tiles)
    number = np.maximum(count, 1)
    mean = np.bincount(tile, weights=values, minlength=tiles) / number
    spread = np.bincount(tile, weights=(values - mean[tile]) ** 2, minlength=tiles) / number
    weight = np.bincount(tile, weights=weights, minlength=tiles)
    weight = np.where(weight > 0, weight, 1)
    plump = np.bincount(tile, weights=values * weights, minlength=tiles) / weight
    plump_spread = np.bincount(tile, weights=weights * (values - plump[tile]) ** 2, minlength=tiles) / weight
    start = np.cumsum(count) - count
    found = [mean, np.sqrt(spread)]
    if len(values):
        last = len(values) - 1
        for level in _LEVELS:
            place = start + level * (number - 1)
            low = np.minimum(place.astype(np.int64), last)
            high = np.minimum(low + 1, np.maximum(start + count - 1, 0))
            fraction = place - np.floor(place)
            found.append(np.where(count > 0, values[low] * (1 - fraction) + values[high] * fraction, 0))
    else:
        found += [np.zeros(tiles)] * len(_LEVELS)
    return np.stack([*found, plump, np.sqrt(plump_spread)], axis=1)


class Tiles:
    """Square tiles of a field, cut out of its planes at any scale.

    Args:
        corners: (x, y) of the upper left corners [n, 2] in px of the field.
        side: px.
    """

    def __init__(self, corners: NDArray[np.int64], side: int) -> None:
        self.corners, self.side = corners, side

    def __len__(self) -> int:
        return len(self.corners)

    def of(self, plane: NDArray[np.generic], factor: int = 1) -> NDArray[np.generic]:
        """The tiles of a plane [H, W] that is ``factor`` times as coarse as the field: [n, pixels of a tile]."""
        side = max(1, self.side // factor)
        cut = [plane[y : y + side, x : x + side].ravel() for x, y in self.corners // factor]
        return np.stack(cut)

    def containing(self, points: Values) -> NDArray[np.int64]:
        """The tile that each point (x, y) [n, 2] lies in, -1 for none; tiles lie on a grid of their side."""
        origin = self.corners.min(axis=0)
        cells = (self.corners - origin) // self.side
        lookup = np.full(tuple(cells.max(axis=0) + 1), -1, np.int64)
        lookup[cells[:, 0], cells[:, 1]] = np.arange(len(self))
        place = np.floor((points - origin) / self.side).astype(np.int64)
        inside = ((place >= 0) & (place < lookup.shape)).all(axis=1)
        found = np.full(len(points), -1, np.int64)
        found[inside] = lookup[place[inside, 0], place[inside, 1]]
        return found


def quantiles(tiles: NDArray[np.generic], levels: Sequence[float]) -> Values:
    """Quantiles of each row of ``tiles`` [n, pixels], 0 to 1: the order statistic below each level, [n, levels]."""
    places = [int(level * (tiles.shape[1] - 1)) for level in levels]
    return np.asarray(np.partition(tiles, places, axis=1)[:, places], np.float64)


def histograms(tile_codes: NDArray[np.integer], codes: int) -> Values:
    """Share of each code from 0 to ``codes`` - 1 in each row of ``tile_codes`` [n, pixels]: [n, codes]."""
    number, pixels = tile_codes.shape
    place = tile_codes.astype(np.int64) + codes * np.arange(number)[:, None]
    shares = np.bincount(place.ravel(), minlength=number * codes).reshape(number, codes) / pixels
    return np.asarray(shares, np.float64)
