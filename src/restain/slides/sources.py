"""Where pixels come from: one small reader per kind of file, all with the same few attributes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import openslide
from numpy.typing import NDArray

from restain.core.errors import UnreadableImageError
from restain.slides.images import load_image, unreadable
from restain.slides.resolution import Resolution, from_openslide


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
        levels: the pyramid, the finest first.
        resolution: um/px of level 0 along x and y; None where the file does not say.
        offset: where level 0 begins in the scanner's own plane (``openslide.bounds-x``, ``-y``), in level-0 pixels.
    """

    reader: str
    levels: list[Level]
    resolution: Resolution | None
    offset: tuple[int, int]

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
        self._whole = levels_of([(int(w), int(h)) for w, h in self._slide.level_dimensions])
        x, y, width, height = (
            int(properties.get(f"openslide.bounds-{name}", default))
            for name, default in zip(("x", "y", "width", "height"), (0, 0, *self._slide.dimensions), strict=True)
        )
        self.offset = (x, y)
        if (x, y, width, height) == (0, 0, *self._slide.dimensions):
            self.levels = self._whole
        else:
            self.levels = [
                Level(int(width / e.downsample_x), int(height / e.downsample_y), e.downsample_x, e.downsample_y)
                for e in self._whole
                if width >= e.downsample_x and height >= e.downsample_y
            ]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See ``Source.read``. Areas that were never scanned are white."""
        here = self.levels[level]
        corner = (self.offset[0] + round(x * here.downsample_x), self.offset[1] + round(y * here.downsample_y))
        try:
            region = self._slide.read_region(corner, level, (width, height))
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
    """A plain image (PNG, JPEG): decoded once, at the first look at its pixels, and kept until closed."""

    def __init__(self, path: Path) -> None:
        self._image = load_image(path)
        self.reader = "Pillow"
        self.levels = levels_of([self._image.size])
        self.resolution: Resolution | None = None
        self.offset = (0, 0)

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
