"""Small slides of many kinds for these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from restain.registration import Transform
from restain.slides import PyramidWriter


def pattern(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colours under fine noise: every place looks different."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 200 / width, y * 200 / height, (x + y) % 200], axis=2)
    return (smooth + rng.integers(0, 50, (height, width, 3))).astype(np.uint8)


def pyramid(path: Path, pixels: NDArray[np.uint8], mpp: float | None = 0.5, tile: int = 128, **options: Any) -> Path:
    """As restain writes slides, lossless."""
    height, width = pixels.shape[:2]
    with PyramidWriter(path, (width, height), mpp, tile=tile, **({"compression": "deflate"} | options)) as writer:
        writer.write(0, 0, pixels)
    return path


def flat(path: Path, pixels: NDArray[np.uint8], **options: Any) -> Path:
    """One level, no um/px."""
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=None, **options)
    return path


def quartered(path: Path, pixels: NDArray[np.uint8], levels: int = 2) -> Path:
    """Each level a quarter of the one before, as scanners write them, in pages; OpenSlide reads it (Aperio)."""
    height, width = pixels.shape[:2]
    text = f"Aperio Image Library v11\r\n{width}x{height} Q=30|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            if level:
                h, w = pixels.shape[0] // 4, pixels.shape[1] // 4
                pixels = pixels[: 4 * h, : 4 * w].reshape(h, 4, w, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8)
            common: dict[str, Any] = {"photometric": "rgb", "compression": "lzw", "metadata": None}
            tiff.write(pixels, tile=(240, 240), description=text, **common)
            if level == 0:
                tiff.write(pixels[:64, :64], rowsperstrip=16, description=text, **common)
    return path


def damage(path: Path, page: int, tile: int) -> None:
    """Overwrite a tile's middle with zeros: its compressed data make no sense any more."""
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[page]
        offset, size = found.dataoffsets[tile], found.databytecounts[tile]
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\0" * size)


def turned(size: tuple[int, int], mpp: float = 0.5) -> Transform:
    """An H&E of ``size`` on an IHC of 1,100 x 800 px: turned by 30 degrees, shifted, and bent at random."""
    angle = np.deg2rad(30)
    matrix = np.array([[np.cos(angle), -np.sin(angle), 300], [np.sin(angle), np.cos(angle), -150], [0, 0, 1]])
    field = np.random.default_rng(0).uniform(-6, 6, (8, 10, 2)).astype(np.float32)
    return Transform(matrix, field, (0.0, 0.0), 150.0, size, (1100, 800), mpp, 0.5)
