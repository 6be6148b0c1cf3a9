"""Anchors of a slide, and where its tiles lie as seen from them: bins of distance and of direction (Wu 2023, 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import ConvexHull, QhullError, cKDTree
from torch import Tensor

from restain.her2.bag import Bag

DISTANCE_BINS = 64
"""Over the slide's own range of distances; the farthest pair may fall in a bin of its own."""
POLAR_BINS = 8
"""Of 45 degrees."""

_LLOYD = 20
"""Rounds of k-means at most; the centres are snapped to tiles, so that more would change nothing."""
_PAIRS = 2048
"""Tiles among which all pairs are measured for the largest distance."""
_BLOCK = 1 << 20
"""Pairs that are binned at a time."""


@dataclass(frozen=True)
class Positions:
    """Where tokens lie as seen from anchors.

    Attributes:
        distance: [K, n] integers 0 to ``DISTANCE_BINS``.
        polar: [K, n] integers 0 to ``POLAR_BINS - 1``.
    """

    distance: Tensor
    polar: Tensor

    def __len__(self) -> int:
        """Anchors."""
        return self.distance.shape[0]

    def with_class_token(self) -> Positions:
        """With a column in front for the class token, which lies everywhere: the mean bin, cut to an integer."""
        columns = []
        for bins in (self.distance, self.polar):
            # Row by row: summing all at once would hold eight times the bins.
            means = torch.stack([row.sum(dtype=torch.int64) // len(row) for row in bins])
            columns.append(torch.cat([means[:, None].to(bins.dtype), bins], 1))
        return Positions(*columns)

    def select(self, anchors: Tensor | None = None, tokens: Tensor | None = None) -> Positions:
        """Some of the anchors and of the tokens, by their indices."""
        chosen = []
        for bins in (self.distance, self.polar):
            bins = bins if anchors is None else bins[anchors]
            chosen.append(bins if tokens is None else bins[:, tokens])
        return Positions(*chosen)

    def to(self, device: torch.device) -> Positions:
        """The same on ``device``."""
        return Positions(self.distance.to(device), self.polar.to(device))


def find_anchors(places: np.ndarray, tiles_per_anchor: int, most: int) -> np.ndarray:
    """Tiles that stand for their neighbourhoods: k-means of the tiles' places, each centre snapped to a tile.

    The start is evenly spaced along a space-filling curve through the sorted places, so that neither chance nor the
    order of the tiles enters.

    Args:
        places: float64 [n, 2], in sides of a tile.
        tiles_per_anchor: k = n / this + 1 (18 in Wu 2023; the released option goes to 400).
        most: k at most.

    Returns:
        Indices of the anchors in ``places``, int64 [K], K <= k (two centres may share a tile).
    """
    order = np.lexsort((places[:, 0], places[:, 1]))
    points = places[order]
    n = len(points)
    k = min(n // tiles_per_anchor + 1, most, n)
    along = points[np.argsort(_curve(points), kind="stable")]
    centres = along[((np.arange(k) + 0.5) * n / k).astype(np.int64)]
    before = np.full(n, -1)
    for _ in range(_LLOYD):
        nearest = np.asarray(cKDTree(centres).query(points)[1])
        if np.array_equal(nearest, before):
            break
        before = nearest
        counts = np.bincount(nearest, minlength=k)
        sums = np.stack([np.bincount(nearest, points[:, axis], k) for axis in (0, 1)], 1)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    snapped = np.asarray(cKDTree(points).query(centres)[1])
    return np.asarray(order[np.unique(snapped)], np.int64)


def measure(places: np.ndarray, anchors: np.ndarray, polar_bins: int = POLAR_BINS) -> tuple[np.ndarray, np.ndarray]:
    """Bins of distance and direction of each tile as seen from each anchor.

    Args:
        places: float64 [n, 2], (row, column) or (y, x), in any unit.
        anchors: indices [K].
        polar_bins: directions, 8 (or 16).

    Returns:
        uint8 [K, n] twice: distance floor-divided by 1/64 of the largest distance between any two tiles (0 where all
        tiles lie in one place), and the angle atan2(columns, rows) floor-divided by its bin, counted from -180 degrees
        (180 degrees itself falls in the last bin; the anchor itself in the middle one).
    """
    farthest = largest_distance(places)
    step = farthest / DISTANCE_BINS if farthest > 0 else np.inf
    angle = np.pi / (polar_bins / 2)
    distance = np.empty((len(anchors), len(places)), np.uint8)
    polar = np.empty_like(distance)
    rows = max(1, _BLOCK // len(places))
    for start in range(0, len(anchors), rows):
        block = slice(start, start + rows)
        off = places[None] - places[anchors[block], None]
        distance[block] = np.sqrt(off[..., 0] ** 2 + off[..., 1] ** 2) // step
        directions = np.arctan2(off[..., 1], off[..., 0]) // angle + polar_bins // 2
        polar[block] = np.clip(directions, 0, polar_bins - 1)
    return distance, polar


def positions_of(bag: Bag, tiles_per_anchor: int, most: int) -> Positions:
    """The positions of a bag's tiles as seen from its anchors; computed once for a bag."""

    def compute() -> Positions:
        places = np.ascontiguousarray(bag.grid[:, ::-1])
        anchors = find_anchors(places, tiles_per_anchor, most)
        # Bins have no unit: measured in px, which are whole numbers, tiles on a diagonal fall in one bin, not by
        # rounding in the one or the other.
        pixels = np.ascontiguousarray(bag.coords.detach().cpu().numpy().astype(np.float64)[:, ::-1])
        return Positions(*(torch.from_numpy(bins) for bins in measure(pixels, anchors)))

    return bag.remember(f"positions {tiles_per_anchor} {most}", compute).to(bag.features.device)


def largest_distance(places: np.ndarray) -> float:
    """The largest distance between two of the places [n, 2], exactly: only outer ones are compared with each other."""
    outer = np.unique(places, axis=0)
    if len(outer) > _PAIRS:  # the ends of each row and column of a grid
        outer = _ends(outer, 0)
    if len(outer) > _PAIRS:
        outer = _ends(outer, 1)
    if len(outer) > _PAIRS:
        try:
            outer = outer[ConvexHull(outer).vertices]
        except QhullError:  # on one line, which its first and last place in sorted order end
            outer = outer[[0, -1]]
    off = outer[None] - outer[:, None]
    return float(np.sqrt((off[..., 0] ** 2 + off[..., 1] ** 2).max()))


def _ends(places: np.ndarray, axis: int) -> np.ndarray:
    """First and last place of each group of the same coordinate ``axis``; a hull's corners are among them."""
    places = places[np.lexsort((places[:, 1 - axis], places[:, axis]))]
    new = np.flatnonzero(np.diff(places[:, axis]) != 0) + 1
    ends = np.concatenate([[0], new, new - 1, [len(places) - 1]])
    return np.asarray(places[np.unique(ends)])


def _curve(points: np.ndarray) -> np.ndarray:
    """Place of each point along a Z-order curve: bits of both coordinates (in whole tiles) interleaved, uint64 [n]."""
    cells = np.floor(points - points.min(0)).clip(0, 2**31 - 1).astype(np.uint64)
    mixed = np.zeros(len(points), np.uint64)
    for bit in range(31):
        for axis in (0, 1):
            mixed |= ((cells[:, axis] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(2 * bit + axis)
    return mixed
