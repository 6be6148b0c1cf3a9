"""How a field larger than a network window is cut, stained and put together again.

The field is divided into cores, squares that lie on a fixed grid; each core is stained in a window that is larger by a
halo on every side. With ``discard`` the halo is thrown away, which is exact where the halo covers the receptive field.
With ``blend`` neighbouring windows fade into each other over their overlap, for networks whose output depends on the
whole window. Memory is bounded by ``CANVAS``, never by the field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

CANVAS = 2**24
"""Pixels (of 16 bytes) of a field that are put together at once: the field is worked on in bands of this area."""

RGB = NDArray[np.uint8]
Window = Callable[[int, int, int], "NDArray[np.float32] | None"]
"""Stains the square window at (x, y) of a side, which may reach beyond the field: float32 [side, side, 3] in [0, 255],
or None where it holds nothing to stain."""


class Overlap(StrEnum):
    """What becomes of the overlap of two windows."""

    discard = "discard"
    blend = "blend"


@dataclass(frozen=True)
class Tiling:
    """A grid of windows.

    Attributes:
        core: side of the squares that the windows contribute, px.
        halo: what a window sees beyond its core on each side, px; at most half of the core where it is blended.
        overlap: whether halos are thrown away or blended.
    """

    core: int
    halo: int
    overlap: Overlap

    def __post_init__(self) -> None:
        """Refuse windows of which more than two would overlap."""
        if self.overlap is Overlap.blend and 2 * self.halo > self.core:
            raise ValueError(f"blended windows overlap by {2 * self.halo} px, more than their core of {self.core}")

    @property
    def side(self) -> int:
        """Side of a window, px."""
        return self.core + 2 * self.halo

    @property
    def reach(self) -> int:
        """How far a window contributes beyond its core, px."""
        return self.halo if self.overlap is Overlap.blend else 0

    def profile(self) -> NDArray[np.float32]:
        """Weight of each position along a window's contribution, [core + 2 reach]: linear over the overlap, else 1."""
        ramp = (np.arange(2 * self.reach, dtype=np.float32) + 0.5) / max(2 * self.reach, 1)
        return np.concatenate([ramp, np.ones(self.core - 2 * self.reach, np.float32), ramp[::-1]])

    def run(self, size: tuple[int, int], window: Window, fill: RGB) -> Iterator[tuple[int, int, RGB]]:
        """Stain a field.

        Args:
            size: (width, height) of the field, px.
            window: stains one window; each is asked for once, but for those at the border of two bands.
            fill: colour [3] of what no window stained.

        Yields:
            x, y and uint8 [h, w, 3] of finished pieces on the grid of cores. Pieces in which nothing was stained are
            left out.
        """
        step = max(1, CANVAS // (2 * self.core + self.reach) // self.core) * self.core
        for left in range(0, size[0], step):
            yield from self._band(left, min(size[0], left + step), size, window, fill)

    def _band(
        self, left: int, right: int, size: tuple[int, int], window: Window, fill: RGB
    ) -> Iterator[tuple[int, int, RGB]]:
        """One vertical band. The canvas holds the row of cores above the current one, the current one, and the halo."""
        core, halo, reach, span = self.core, self.halo, self.reach, right - left
        profile = self.profile()
        weight = (profile[:, None] * profile[None, :])[..., None]
        beyond = core if reach else 0  # neighbours of the band fade into it
        columns = range(max(0, left - beyond), min(size[0], right + beyond), core)
        canvas = np.zeros((2 * core + reach, span, 4), np.float32)
        for top in range(0, size[1] + core, core):
            for x in columns if top < size[1] else ():
                piece = window(x - halo, top - halo, self.side)
                if piece is not None:
                    piece = piece[halo - reach : halo + core + reach, halo - reach : halo + core + reach]
                    x0, x1 = max(x - reach, left), min(x + core + reach, right)
                    inside = slice(x0 - x + reach, x1 - x + reach)
                    target = canvas[core - reach :, x0 - left : x1 - left]
                    target[..., :3] += weight[:, inside] * piece[:, inside]
                    target[..., 3:] += weight[:, inside]
            finished = canvas[: min(core, size[1] - (top - core))]
            if top > 0 and finished[..., 3].any():
                yield left, top - core, _resolved(finished, fill)
            canvas[:-core] = canvas[core:]
            canvas[-core:] = 0


def _resolved(canvas: NDArray[np.float32], fill: RGB) -> RGB:
    """Weighted sums [h, w, 3 + weight] to uint8 [h, w, 3]; ``fill`` where there is no weight."""
    out = np.empty((*canvas.shape[:2], 3), np.uint8)
    for top in range(0, len(canvas), 64):
        strip = canvas[top : top + 64]
        weight = strip[..., 3:]
        colour = strip[..., :3] / np.maximum(weight, 1e-6)
        out[top : top + 64] = np.where(weight > 1e-6, np.clip(np.rint(colour), 0, 255), fill)
    return out
