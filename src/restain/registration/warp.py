"""The H&E on the IHC's grid: any region of it, and the whole slide streamed into a pyramid.

Where the IHC shows a place that the H&E slide does not have, colours come from the surroundings (the BCI paper's
refinement, section 3.3): the H&E mirrored at its edge, fading to the colour of the glass. They depend on the position
alone, so tiles fit, and a mask says where they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.core.progress import progress_bar
from restain.core.workers import cpu_threads
from restain.registration.transform import Transform
from restain.slides import PyramidWriter, Slide, glass_colour
from restain.slides.slide import FINER

MASK_FACTOR = 8
"""IHC px per px of the mask of filled places: a mask pixel is set where any pixel below it was filled."""
FADE_UM = 100.0
"""How far beyond the H&E's edge its mirror image has faded to glass."""

_BLOCK = 1024
_TILE = 512


@dataclass(frozen=True)
class Warped:
    """What was written.

    Attributes:
        slide: the H&E on the IHC's grid.
        mask: the mask of filled places.
        filled: share of the slide that the H&E does not have, 0 to 1.
    """

    slide: Path
    mask: Path
    filled: float


class WarpedSlide:
    """An H&E slide as seen on the grid of its IHC.

    Safe to read from threads.

    Args:
        he: the H&E; its um/px must be known.
        transform: the registration.
        white: the colour of the glass, uint8 [3]; None: it is looked for on the whole slide.
        most: H&E px that a px of the output may need, on average over a block; more is refused when it is read. Only
            an absurd registration needs more than two, and memory for it would have no bound. None: any number.
        stored: stored px of the H&E that a block may need (see ``Slide.cost``); more is refused likewise: one that
            squeezes the slide into a column needs few px, out of all strips. None: any number.

    Raises:
        MissingResolutionError: the H&E has no um/px.
        ValueError: the transform is of an H&E of another size.
    """

    def __init__(
        self,
        he: Slide,
        transform: Transform,
        white: NDArray[np.uint8] | None = None,
        most: float | None = None,
        stored: int | None = None,
    ) -> None:
        if he.size != tuple(transform.he_size):
            raise ValueError(f"{he.path} has {he.size} px, the transform's H&E {transform.he_size}")
        self._he, self._transform, self.name = he, transform, he.path.name
        self._he_mpp = he.require_mpp()
        self._fade = FADE_UM / transform.he_mpp
        self._most, self._stored = most, stored
        self.white = glass_colour(he.thumbnail(1024)) if white is None else white

    def read(
        self, x: float, y: float, width: int, height: int, mpp: float | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A region of the IHC's plane, as ``Slide.read``.

        Args:
            x: left edge in IHC level-0 px.
            y: top edge, likewise.
            width: output px.
            height: output px.
            mpp: um/px of the output; None: that of the IHC.

        Returns:
            The H&E there, uint8 [height, width, 3], and where it is real and not filled, bool [height, width].
        """
        step = 1.0 if mpp is None else mpp / self._transform.ihc_mpp
        rgb, real = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.bool_)
        for top in range(0, height, _BLOCK):
            for left in range(0, width, _BLOCK):
                here = np.s_[top : top + _BLOCK, left : left + _BLOCK]
                rows, columns = real[here].shape
                across = x + (left + np.arange(columns) + 0.5) * step
                down = y + (top + np.arange(rows) + 0.5) * step
                rgb[here], real[here] = self._block(across, down, step)
        return rgb, real

    def _block(
        self, across: NDArray[np.floating[Any]], down: NDArray[np.floating[Any]], step: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The H&E at the crossings of IHC positions that are ``step`` px apart."""
        place = self._transform.grid(across, down)
        x, y = place[..., 0], place[..., 1]
        width, height = self._he.size
        if x.min() >= 0 and y.min() >= 0 and x.max() <= width and y.max() <= height:
            return self._sample(x, y, step), np.ones(x.shape, np.bool_)
        beyond = np.hypot(x - np.clip(x, 0, width), y - np.clip(y, 0, height))
        near = beyond < self._fade  # not where the map is undefined, either
        rgb = np.empty((*x.shape, 3), np.uint8)
        rgb[:] = self.white
        if near.any():
            x, y = _mirrored(x, width), _mirrored(y, height)
            t = np.where(near, 1 - beyond / self._fade, 0)[..., None]
            pixels = self._sample(np.where(near, x, x[near][0]), np.where(near, y, y[near][0]), step)
            white = self.white.astype(np.float32)
            rgb[:] = np.rint(white + t * t * (3 - 2 * t) * (pixels - white))
        return rgb, beyond == 0

    def _sample(self, x: NDArray[np.float32], y: NDArray[np.float32], step: float) -> NDArray[np.uint8]:
        """The H&E at positions inside it (px), bicubic; first reduced to the output's um/px where it is finer.

        The reduced picture's pixels lie on one lattice over the slide, so that what is read in parts equals the whole.
        """
        reduce = step * self._transform.ihc_mpp / self._transform.he_mpp
        reduce = 1.0 if reduce < FINER else reduce
        across, down = x / np.float32(reduce) - np.float32(0.5), y / np.float32(reduce) - np.float32(0.5)
        left, columns = _needed(across, self._he.size[0], reduce)
        top, rows = _needed(down, self._he.size[1], reduce)
        many = self._most is not None and columns * rows > self._most * max(x.size, 64 * 64)
        if many or (self._stored is not None and self._he.cost(columns, rows, reduce) > self._stored):
            raise ItemError(
                f"{self.name}: the registration shrinks it beyond measure ({columns} x {rows} px to {x.shape[1]} x "
                f"{x.shape[0]}). Register the slides again."
            )
        mpp = None if reduce == 1 else reduce * self._he_mpp
        pixels = self._he.read(left * reduce, top * reduce, columns, rows, mpp)
        sampled = cv2.remap(
            pixels, across - np.float32(left), down - np.float32(top), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(sampled, np.uint8)


def warp_slide(he: Slide, transform: Transform, out: Path, mask: Path, *, quality: int = 90) -> Warped:
    """Write the H&E on the IHC's grid, and the mask of what was filled, as pyramidal OME-TIFFs.

    Blocks of 1,024 px are read and warped in threads and written in turn: memory holds a few of them, never the slide.
    Both files are reopened and checked before they get their names; after an error neither is left.

    Args:
        he: the H&E; its um/px must be known.
        transform: the registration; gives size and um/px of what is written.
        out: the slide to write, ``*.ome.tif``.
        mask: the mask to write, ``*.ome.tif``: uint8, 255 where a pixel was filled, else 0; at ``MASK_FACTOR`` times
            the IHC's um/px, its size rounded up.
        quality: of the JPEG tiles, 1 to 100.

    Raises:
        ItemError: the H&E cannot be read, or the disk is full.
        MissingResolutionError: the H&E has no um/px.
    """
    warped = WarpedSlide(he, transform)
    for path in (out, mask):  # what an earlier call left belongs to another transform, perhaps
        path.unlink(missing_ok=True)
    try:
        filled = _stream(warped, transform, out, mask, quality)
    except BaseException:
        mask.unlink(missing_ok=True)  # finished before the slide was
        raise
    return Warped(out, mask, filled)


def _stream(warped: WarpedSlide, transform: Transform, out: Path, mask: Path, quality: int) -> float:
    """Write both files; the share that was filled."""
    width, height = transform.ihc_size
    corners = [(x, y) for y in range(0, height, _BLOCK) for x in range(0, width, _BLOCK)]

    def block(corner: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        x, y = corner
        return warped.read(x, y, min(_BLOCK, width - x), min(_BLOCK, height - y))

    red, green, blue = (int(value) for value in warped.white)
    filled, small = 0, (-(-width // MASK_FACTOR), -(-height // MASK_FACTOR))
    threads = cpu_threads()
    with (
        progress_bar(f"warp {warped.name}", len(corners)) as bar,
        ThreadPoolExecutor(threads) as pool,
        PyramidWriter(
            out, (width, height), transform.ihc_mpp, tile=_TILE, quality=quality, fill=(red, green, blue)
        ) as slide,
        PyramidWriter(mask, small, transform.ihc_mpp * MASK_FACTOR, tile=_BLOCK // MASK_FACTOR, fill=0) as flags,
    ):
        pending: deque[Future[tuple[NDArray[np.uint8], NDArray[np.bool_]]]] = deque()
        following = iter(corners)
        try:
            for x, y in corners:
                for corner in _some(following, threads + 2 - len(pending)):
                    pending.append(pool.submit(block, corner))
                rgb, real = pending.popleft().result()
                slide.write(x, y, rgb)
                if not real.all():
                    filled += real.size - int(np.count_nonzero(real))
                    flags.write(x // MASK_FACTOR, y // MASK_FACTOR, _reduced(~real))
                bar.advance()
        finally:
            pool.shutdown(cancel_futures=True)
    return filled / (width * height)


def _some(items: Iterator[tuple[int, int]], count: int) -> Iterator[tuple[int, int]]:
    """Up to ``count`` of the items."""
    for _, item in zip(range(count), items, strict=False):
        yield item


def _mirrored(place: NDArray[np.float32], extent: int) -> NDArray[np.float32]:
    """Positions reflected at 0 and ``extent``; what is further away than the extent ends at the other edge."""
    return np.clip(np.where(place > extent, 2 * extent - place, np.abs(place)), 0, extent)


def _needed(place: NDArray[np.float32], extent: int, reduce: float) -> tuple[int, int]:
    """First pixel and number of pixels that bicubic interpolation at ``place`` needs, within the slide."""
    count = max(1, int(np.ceil(extent / reduce - 0.5)))  # those whose centre lies on the slide
    first = min(max(int(np.floor(place.min())) - 2, 0), count - 1)
    last = min(max(int(np.floor(place.max())) + 4, first + 1), count)
    return first, last - first


def _reduced(filled: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """255 where any pixel of a square is set, uint8 [ceil(h / MASK_FACTOR), ceil(w / MASK_FACTOR)]."""
    height, width = filled.shape
    padded = np.pad(filled, ((0, -height % MASK_FACTOR), (0, -width % MASK_FACTOR)))
    rows, columns = padded.shape[0] // MASK_FACTOR, padded.shape[1] // MASK_FACTOR
    marked = padded.reshape(rows, MASK_FACTOR, columns, MASK_FACTOR).any(axis=(1, 3))
    return np.where(marked, np.uint8(255), np.uint8(0))
