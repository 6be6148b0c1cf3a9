"""Quantities on a coarse grid over a slide, sampled at any zoom without steps or specks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
T = TypeVar("T", np.uint8, np.float32)


@dataclass(frozen=True)
class Plane:
    """A quantity over a slide: finest first, each level half of the one before.

    Attributes:
        levels: uint8 or float32 [h, w].
        step: level-0 px per px of the first level; its px (0, 0) begins at ``origin``.
        origin: (x, y) in level-0 px.
    """

    levels: tuple[NDArray[np.uint8] | Values, ...]
    step: float
    origin: tuple[float, float] = (0.0, 0.0)

    @property
    def nbytes(self) -> int:
        """Of memory."""
        return sum(level.nbytes for level in self.levels)

    def sample(self, places: Values, scale: float) -> Values:
        """Bilinear values at places [h, w, 2] (level-0 px) that are ``scale`` level-0 px apart; 0 beyond the grid.

        They come from the coarsest level that is still finer than the places.
        """
        level = int(np.clip(np.floor(np.log2(max(scale / self.step, 1))), 0, len(self.levels) - 1))
        step = self.step * 2**level
        x, y = (places[..., axis] / np.float32(step) - np.float32(self.origin[axis] / step + 0.5) for axis in (0, 1))
        found = cv2.remap(self.levels[level], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        return np.asarray(found, np.float32)


def plane_of(values: NDArray[T], step: float) -> Plane:
    """A plane with its coarser levels, from its finest one."""
    levels = [values]
    while min(levels[-1].shape) > 8:
        levels.append(_halved(levels[-1]))
    return Plane(tuple(levels), step)


def _halved(plane: NDArray[T]) -> NDArray[T]:
    """Means of 2 x 2; an odd last row or column counts twice."""
    even = np.pad(plane, ((0, plane.shape[0] % 2), (0, plane.shape[1] % 2)), mode="edge")
    size = even.shape[1] // 2, even.shape[0] // 2
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA), plane.dtype)
