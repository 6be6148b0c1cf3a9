"""Where pixels come from: one small reader per kind of file, all with the same few attributes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import openslide
from numpy.typing import NDArray

from restain.core.errors import UnreadableImageError
from restain.slides.decoding import load_image, unreadable
from restain.slides.resolution import Resolution, from_openslide

_BLOCK = 256
"""Side of the blocks in which levels of a broken factor are read."""
_UNKNOWN_BLOCK = 1024
"""Side of the tiles of formats whose tiles OpenSlide does not tell; theirs are smaller."""


@dataclass(frozen=True)
class Level:
    """One level of a pyramid: its size in its own pixels, and level-0 pixels per pixel along x and y."""

    width: int
    height: int
    downsample_x: float
    downsample_y: float


def levels_of(sizes: list[tuple[int, int]]) -> list[Level]:
    """Levels from their (width, height), the finest first.

    A writer that halves rounds up or down, so the quotient of the sizes is not quite the factor; where one whole
    factor explains both sides it is taken, because then pixels of the levels lie exactly over each other.
    """
    width, height = sizes[0]
    levels = []
    for w, h in sizes:
        factor = round((width / w * height / h) ** 0.5)
        whole = factor >= 1 and all(abs(full / factor - part) < 1 for full, part in ((width, w), (height, h)))
        levels.append(Level(w, h, *((factor, factor) if whole else (width / w, height / h))))
    return levels


class Source(Protocol):
    """A file's pixels as they are stored.

    Attributes:
        reader: what reads it, in words.
        levels: the pyramid as it is stored, the finest first.
        bounds: the part of level 0 that is the slide (x, y, width, height), in stored level-0 pixels; all of it but for
            scanners that name the scanned area.
        resolution: um/px of level 0 along x and y; None where the file does not say.
        blocks: (width, height) of the tiles or strips that are decoded whole, for every level; (1, 1): any box.
    """

    reader: str
    levels: list[Level]
    blocks: list[tuple[int, int]]
    bounds: tuple[int, int, int, int]
    resolution: Resolution | None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Stored pixels, uint8 [height, width, 3]; the box (in that level's pixels) lies inside the level."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class OpenSlideSource:
    """Whatever OpenSlide reads: vendors' formats and DICOM.

    As in QuPath, level 0 is the scanned area where the file names one (``openslide.bounds-*``), not the whole glass.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._slide = openslide.OpenSlide(str(path))
        except (openslide.OpenSlideError, OSError) as error:
            raise unreadable(path, error) from error
        properties = self._slide.properties
        self.reader = f"OpenSlide ({properties.get('openslide.vendor', 'unknown vendor')})"
        self.resolution = from_openslide(properties)
        self.levels = levels_of([(int(w), int(h)) for w, h in self._slide.level_dimensions])
        sides = [
            [
                int(properties.get(f"openslide.level[{number}].tile-{name}", _UNKNOWN_BLOCK))
                for name in ("width", "height")
            ]
            for number in range(len(self.levels))
        ]
        self.blocks = [(max(1, width), max(1, height)) for width, height in sides]
        self._downsamples = [float(value) for value in self._slide.level_downsamples]
        whole = (0, 0, *self._slide.dimensions)
        x, y, width, height = (
            int(properties.get(f"openslide.bounds-{name}", default))
            for name, default in zip(("x", "y", "width", "height"), whole, strict=True)
        )
        self.bounds = (x, y, width, height) if width > 0 and height > 0 else whole

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See ``Source.read``. Areas that were never scanned are white.

        OpenSlide takes the corner in whole level-0 pixels. Where its factor is not whole (4.0002), that misses the
        level's grid by a fraction and OpenSlide interpolates; reading on a fixed lattice of blocks keeps at least every
        pixel the same in every region.
        """
        factor = self._downsamples[level]
        if factor == round(factor):
            return self._region(level, x, y, width, height)
        out = np.empty((height, width, 3), np.uint8)
        for top in range(y // _BLOCK * _BLOCK, y + height, _BLOCK):
            for left in range(x // _BLOCK * _BLOCK, x + width, _BLOCK):
                block = self._region(level, left, top, _BLOCK, _BLOCK)
                y0, y1 = max(y, top), min(y + height, top + _BLOCK)
                x0, x1 = max(x, left), min(x + width, left + _BLOCK)
                out[y0 - y : y1 - y, x0 - x : x1 - x] = block[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        factor = self._downsamples[level]
        try:
            region = self._slide.read_region((round(x * factor), round(y * factor)), level, (width, height))
        except openslide.OpenSlideError as error:
            raise unreadable(self._path, error) from error
        samples = np.asarray(region)
        alpha = samples[..., 3:]
        if alpha.min() == 255:
            return np.ascontiguousarray(samples[..., :3])
        weight = alpha.astype(np.uint16)
        return ((samples[..., :3] * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)

    def close(self) -> None:
        """Release the file."""
        self._slide.close()


class ImageSource:
    """A plain image (PNG, JPEG): decoded once, when it is opened, and kept until it is closed."""

    def __init__(self, path: Path) -> None:
        self._image = load_image(path)
        self.reader = "Pillow"
        self.levels = levels_of([self._image.size])
        self.blocks = [(1, 1)]
        self.resolution: Resolution | None = None
        self.bounds = (0, 0, *self._image.size)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See ``Source.read``."""
        del level  # there is one
        return np.asarray(self._image.crop((x, y, x + width, y + height)))

    def close(self) -> None:
        """Forget the pixels."""
        self._image.close()


def openslide_vendor(path: Path) -> str | None:
    """The vendor whose format OpenSlide sees in the file; None where it sees none.

    Raises:
        UnreadableImageError: OpenSlide recognises the format and finds it damaged.
    """
    try:
        vendor = openslide.OpenSlide.detect_format(str(path))
    except openslide.OpenSlideError as error:  # pragma: no cover - detect_format reports nothing today
        raise UnreadableImageError(str(unreadable(path, error))) from error
    return str(vendor) if vendor is not None else None
