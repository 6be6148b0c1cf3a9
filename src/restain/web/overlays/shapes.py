"""Polygons of a file as arrays: all vertices in one, so that nothing loops over nuclei."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
F = TypeVar("F", np.float32, np.float64)

_CHUNK = 2**19
"""Vertices that are mapped at once: bounds the memory."""
_FARTHEST = 1e7
"""px: no slide is as large; what lies beyond makes no sense."""


@dataclass(frozen=True, eq=False)
class Shapes:
    """Polygons, each of one ring, in px of some slide.

    Attributes:
        vertices: float32 [v, 2] (x, y), ring after ring.
        starts: int64 [n + 1]: ring i has the vertices from ``starts[i]`` to ``starts[i + 1]``.
        group: uint8 [n]: which colour.
        palette: uint8 [g, 3], RGB by group.
        ordered: whether groups go from less to more, so that a mean of them means something.
    """

    vertices: NDArray[np.float32]
    starts: NDArray[np.int64]
    group: NDArray[np.uint8]
    palette: NDArray[np.uint8]
    ordered: bool = False

    def __len__(self) -> int:
        return len(self.group)

    @property
    def nbytes(self) -> int:
        """Of memory, with what is derived."""
        return self.vertices.nbytes + self.starts.nbytes + self.group.nbytes + 28 * len(self)

    @cached_property
    def boxes(self) -> NDArray[np.float32]:
        """(left, top, right, bottom), float32 [n, 4]."""
        if not len(self):
            return np.zeros((0, 4), np.float32)
        first = self.starts[:-1]
        low, high = np.minimum.reduceat(self.vertices, first), np.maximum.reduceat(self.vertices, first)
        return np.asarray(np.concatenate([low, high], axis=1), np.float32)

    @cached_property
    def areas(self) -> NDArray[np.float32]:
        """Of the polygons in px, float32 [n] (shoelace formula)."""
        if not len(self):
            return np.zeros(0, np.float32)
        first, last = self.starts[:-1], self.starts[1:] - 1
        x, y = (self.vertices - np.repeat(self.boxes[:, :2], np.diff(self.starts), axis=0)).T
        following = np.arange(1, len(x) + 1)
        following[last] = first
        twice = np.add.reduceat(x * y[following] - x[following] * y, first)
        return np.asarray(np.abs(twice) / 2, np.float32)

    @cached_property
    def typical(self) -> float:
        """The median of the longer sides of the boxes, px; 0 where there are no shapes."""
        if not len(self):
            return 0.0
        return float(np.median((self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1)))

    @property
    def centres(self) -> NDArray[np.float32]:
        """Of the boxes, float32 [n, 2]."""
        return np.asarray((self.boxes[:, :2] + self.boxes[:, 2:]) / 2, np.float32)

    def within(self, box: tuple[float, float, float, float]) -> NDArray[np.int64]:
        """Numbers of the shapes whose boxes touch ``box``.

        A million boxes take 2 ms: an index would gain nothing.
        """
        left, top, right, bottom = box
        boxes = self.boxes
        seen = (boxes[:, 0] <= right) & (boxes[:, 2] >= left) & (boxes[:, 1] <= bottom) & (boxes[:, 3] >= top)
        return np.flatnonzero(seen)

    def rings(self, numbers: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        """The rings of some shapes, each float32 [k, 2]."""
        bounds = zip(self.starts[numbers].tolist(), self.starts[numbers + 1].tolist(), strict=True)
        return [self.vertices[start:stop] for start, stop in bounds]

    def mapped(self, change: Callable[[Points], Points]) -> Shapes:
        """The shapes with their vertices moved; those that come to lie nowhere are left out.

        Raises:
            ItemError: as ``change``.
        """
        vertices = moved(self.vertices, change)
        return Shapes(vertices, self.starts, self.group, self.palette, self.ordered).only_sound()

    def sound(self) -> NDArray[np.bool_]:
        """Which shapes have no vertex at no place, or farther away than any slide is large, bool [n]."""
        if not len(self):
            return np.zeros(0, np.bool_)
        good = (np.abs(self.vertices) < _FARTHEST).all(axis=1)
        return np.asarray(np.logical_and.reduceat(good, self.starts[:-1]), np.bool_)

    def only_sound(self) -> Shapes:
        """Without the others."""
        return self.take(self.sound())

    def take(self, chosen: NDArray[np.bool_]) -> Shapes:
        """The shapes where ``chosen`` [n] is set."""
        if chosen.all():
            return self
        counts = np.diff(self.starts)
        starts = np.concatenate([[0], np.cumsum(counts[chosen])]).astype(np.int64)
        vertices = self.vertices[np.repeat(chosen, counts)]
        return Shapes(vertices, starts, self.group[chosen], self.palette, self.ordered)


def moved(points: NDArray[F], change: Callable[[Points], Points]) -> NDArray[F]:
    """Points [n, 2] through a map, part by part, so that memory for it is bounded."""
    out = np.empty_like(points)
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = change(points[part].astype(np.float64))
    return out


def no_shapes(palette: NDArray[np.uint8] | None = None) -> Shapes:
    """None at all."""
    colours = np.zeros((1, 3), np.uint8) if palette is None else palette
    return Shapes(np.zeros((0, 2), np.float32), np.zeros(1, np.int64), np.zeros(0, np.uint8), colours)
