"""``open_slide``: anything with pixels, read at any um/px."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import MissingResolutionError, RestainError
from restain.slides.decoding import check_directories, is_tiff
from restain.slides.resampling import SUPPORT, resample, span
from restain.slides.resolution import single
from restain.slides.sources import ImageSource, OpenSlideSource, Source, openslide_vendor
from restain.slides.tiff_source import TiffSource

FINER = 1.01
"""A level may be 1 % coarser than asked for and is then enlarged that little, rather than reading 4 times more."""

_BLOCK = 4 * 2**20
"""Stored pixels resampled at once; larger regions are done in parts, so memory does not grow with the slide."""


def open_slide(path: str | Path, mpp: float | None = None) -> Slide:
    """Open a slide or image.

    OpenSlide reads scanners' formats and DICOM; tifffile reads OME-TIFF (pyramids in SubIFDs, which OpenSlide does not
    see) and other TIFF; Pillow reads PNG and JPEG. The content decides, not the suffix.

    Args:
        path: the file.
        mpp: um/px of level 0, in place of what the file says.

    Returns:
        An open slide: close it, or use it in a ``with``.

    Raises:
        UnreadableImageError: missing, damaged, truncated, or of an unsupported kind.
        RestainError: ``mpp`` is not a positive number.
    """
    return Slide(path, mpp)


class Slide:
    """A slide or image: pixels at any um/px.

    Positions are level-0 pixels; pixel i covers [i, i + 1). Where a scanner names the scanned area
    (``openslide.bounds-x``, ``-y``), level 0 begins there, as in QuPath; ``offset`` says where that is on the glass.
    Pixels whose sides differ by less than 2 % count as square at their geometric mean; for others ``mpp`` is None and
    ``mpp_xy`` says what the file states.

    A slide pickles as its path and is opened again by the process that receives it, and also by a forked one.

    Args:
        path: the file.
        mpp: um/px of level 0, in place of what the file says.
    """

    def __init__(self, path: str | Path, mpp: float | None = None) -> None:
        if mpp is not None and not (math.isfinite(mpp) and mpp > 0):
            raise RestainError(f"{path}: um/px must be a positive number, not {mpp}.")
        self.path = Path(path)
        self._override = mpp
        self._closed = False
        self._source = _open_source(self.path)
        self._process = os.getpid()
        self.reader = self._source.reader
        self._levels = self._source.levels
        self._bounds = self._source.bounds
        self.mpp_xy: tuple[float, float] | None = (mpp, mpp) if mpp is not None else self._source.resolution
        self.mpp: float | None = mpp
        if mpp is None and self.mpp_xy is not None:
            self.mpp = single(self.mpp_xy)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of level 0."""
        return self._bounds[2:]

    @property
    def offset(self) -> tuple[int, int]:
        """Where level 0 begins on the scanner's plane (``openslide.bounds-x``, ``-y``), in level-0 pixels."""
        return self._bounds[:2]

    @property
    def levels(self) -> list[tuple[int, int]]:
        """(width, height) of every level, the finest first."""
        whole = self._levels[0]
        if self._bounds == (0, 0, whole.width, whole.height):
            return [(level.width, level.height) for level in self._levels]
        width, height = self.size
        return [(int(width / level.downsample_x), int(height / level.downsample_y)) for level in self._levels]

    def require_mpp(self) -> float:
        """``mpp``.

        Raises:
            MissingResolutionError: the file does not say, or its pixels are not square.
        """
        if self.mpp is None:
            if self.mpp_xy is not None:
                x, y = self.mpp_xy
                wrong = f"its pixels are not square ({x:g} x {y:g} um/px)"
            else:
                wrong = "the file does not say its um/px"
            raise MissingResolutionError(
                f"{self.path}: {wrong}. Give it with --mpp, or in the `mpp` column of a cohort CSV."
            )
        return self.mpp

    def read(self, x: float, y: float, width: int, height: int, mpp: float | None = None) -> NDArray[np.uint8]:
        """A region at a given um/px, from the nearest finer level, antialiased (bicubic).

        Neighbouring regions fit: what is read in parts equals what is read at once.

        Args:
            x: left edge, in level-0 pixels; may be fractional, and outside the slide (outside is white).
            y: top edge, likewise.
            width: output pixels.
            height: output pixels.
            mpp: um/px of the output; None: level-0 pixels as they are.

        Returns:
            uint8 [height, width, 3].

        Raises:
            MissingResolutionError: ``mpp`` is given and the slide has none.
            UnreadableImageError: the file is damaged there.
        """
        if mpp is not None and not mpp > 0:
            raise ValueError(f"um/px must be positive, not {mpp}")
        factor = 1.0 if mpp is None else mpp / self.require_mpp()
        return self._read(x, y, width, height, factor, factor)

    def read_reduced(self, x: float, y: float, width: int, height: int, downsample: float) -> NDArray[np.uint8]:
        """As ``read``, with ``downsample`` level-0 pixels to a pixel; also where nobody knows the um/px."""
        if not (math.isfinite(downsample) and downsample > 0):
            raise ValueError(f"a downsample must be positive, not {downsample}")
        return self._read(x, y, width, height, downsample, downsample)

    def cost(self, width: int, height: int, downsample: float) -> int:
        """Stored pixels that reading such a region decodes, at most: tiles and strips are decoded whole."""
        number = self._level_for(downsample, downsample)
        level, (wide, tall) = self._levels[number], self._source.blocks[number]
        columns = _touched(width, downsample / level.downsample_x, wide, level.width)
        return columns * _touched(height, downsample / level.downsample_y, tall, level.height)

    def thumbnail(self, max_side: int) -> NDArray[np.uint8]:
        """The whole slide, its longest side at most ``max_side`` (never enlarged), uint8 [height, width, 3]."""
        width, height = self.size
        factor = max(1.0, max(width, height) / max_side)
        w, h = max(1, round(width / factor)), max(1, round(height / factor))
        return self._read(0, 0, w, h, width / w, height / h)

    def overview(self, downsample: float) -> NDArray[np.uint8]:
        """The whole slide, ``downsample`` level-0 pixels to a pixel along both sides.

        Returns:
            uint8 [ceil(height / downsample), ceil(width / downsample), 3].
        """
        width, height = (max(1, math.ceil(side / downsample - 1e-9)) for side in self.size)
        return self._read(0, 0, width, height, downsample, downsample)

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        self._closed = True
        if self._process == os.getpid():
            self._source.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Slide], tuple[Path, float | None]]:
        return Slide, (self.path, self._override)

    def __repr__(self) -> str:
        width, height = self.size
        return f"Slide({str(self.path)!r}, {width} x {height}, um/px {self.mpp})"

    def _pixels(self) -> Source:
        if self._closed:
            raise ValueError(f"{self.path} is closed")
        if self._process != os.getpid():  # forked: file positions and decoders' locks must not be shared
            self._source, self._process = _open_source(self.path), os.getpid()
        return self._source

    def _read(self, x: float, y: float, width: int, height: int, fx: float, fy: float) -> NDArray[np.uint8]:
        """Region of output pixels that are ``fx`` by ``fy`` level-0 pixels large."""
        if width <= 0 or height <= 0:
            raise ValueError(f"a region must have a positive size, not {width} x {height}")
        out = np.full((height, width, 3), 255, np.uint8)
        number = self._level_for(fx, fy)
        level = self._levels[number]
        columns, rows = _inside(x, fx, width, self.size[0]), _inside(y, fy, height, self.size[1])
        # in the level's own pixels: left edge and step
        x, sx = (x + self.offset[0]) / level.downsample_x, fx / level.downsample_x
        y, sy = (y + self.offset[1]) / level.downsample_y, fy / level.downsample_y
        side = math.isqrt(_BLOCK)
        across, down = max(1, int(side / sx)), max(1, int(side / sy))
        for top in range(rows.start, rows.stop, down):
            bottom = min(top + down, rows.stop)
            for left in range(columns.start, columns.stop, across):
                right = min(left + across, columns.stop)
                corner, size = (x + left * sx, y + top * sy), (right - left, bottom - top)
                out[top:bottom, left:right] = self._resample(number, corner, (sx, sy), size)
        return out

    def _level_for(self, fx: float, fy: float) -> int:
        """The coarsest level that is no coarser than ``fx`` by ``fy`` level-0 pixels."""
        return max(
            index
            for index, level in enumerate(self._levels)
            if index == 0 or (level.downsample_x <= fx * FINER and level.downsample_y <= fy * FINER)
        )

    def _resample(
        self, number: int, corner: tuple[float, float], step: tuple[float, float], size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Output pixels of ``step`` stored pixels each from ``corner`` on; beyond the level its edge is repeated."""
        level, source = self._levels[number], self._pixels()
        whole = tuple(round(value) for value in corner)
        aligned = all(
            abs(step[axis] - 1) < 1e-9 and abs(corner[axis] - whole[axis]) < 1e-6 for axis in (0, 1)
        )  # nothing to interpolate
        if aligned and whole[0] + size[0] <= level.width and whole[1] + size[1] <= level.height and min(whole) >= 0:
            return source.read(number, whole[0], whole[1], *size)
        left, right = span(corner[0], step[0], size[0], level.width)
        top, bottom = span(corner[1], step[1], size[1], level.height)
        pixels = source.read(number, left, top, right - left, bottom - top)
        return resample(pixels, (left, top), corner, step, size)


def _inside(start: float, step: float, count: int, extent: int) -> range:
    """The output pixels whose centre lies inside [0, extent)."""
    low = math.ceil(-start / step - 0.5 - 1e-9)
    high = math.ceil((extent - start) / step - 0.5 - 1e-9)
    return range(min(count, max(0, low)), max(0, min(count, high)))


def _touched(count: int, step: float, block: int, extent: int) -> int:
    """Stored pixels along one axis of the blocks that ``count`` output pixels of ``step`` touch, at most."""
    stored = math.ceil(count * step) + 2 * math.ceil(SUPPORT * max(1.0, step)) + 2
    return min(-(-(stored - 1) // block) + 1, -(-extent // block)) * block


def _open_source(path: Path) -> Source:
    """The reader for a file, chosen by its content."""
    tiff = is_tiff(path)  # also says when the file is missing
    if tiff:
        check_directories(path)
    vendor = openslide_vendor(path)
    if vendor is not None and vendor != "generic-tiff":
        return OpenSlideSource(path)
    if tiff:
        return TiffSource(path)
    return ImageSource(path)
