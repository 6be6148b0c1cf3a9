"""TIFF and OME-TIFF through tifffile, decoding only the tiles or strips that a region touches."""

from __future__ import annotations

import io
import os
import struct
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from restain.core.errors import UnreadableImageError
from restain.slides.decoding import check_size, no_pillow_limit, readable, to_rgb
from restain.slides.resolution import from_ome, from_tiff
from restain.slides.sources import levels_of

CACHE_BYTES = 64 * 2**20
"""Decoded tiles kept per open file, so that neighbouring regions do not decode them twice."""


@dataclass(frozen=True)
class _Plane:
    """One stored page of a level; ``sample`` says which colour where colours are stored as pages of their own."""

    page: tifffile.TiffPage | tifffile.TiffFrame
    keyframe: tifffile.TiffPage


class TiffSource:
    """Tiled and striped TIFF, BigTIFF and OME-TIFF, with pyramids in SubIFDs or in further pages."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, int, int], NDArray[Any]] = OrderedDict()
        self._cached = 0
        with readable(path):
            # one file is read, never those that its metadata name: they could lie anywhere
            self._tiff = tifffile.TiffFile(path, _multifile=False, is_mmstack=False, is_ndtiff=False)
            try:
                self._open()
            except BaseException:
                self._tiff.close()
                raise

    def _open(self) -> None:
        tiff = self._tiff
        if not tiff.series or self._next_directory() >= self._path.stat().st_size:
            raise UnreadableImageError(
                f"{self._path}: truncated: its directory of pictures leads beyond its end. Copy or download it again."
            )
        # OME-TIFF names its picture first; in others a thumbnail may lead
        series = tiff.series[0] if tiff.is_ome else max(tiff.series, key=lambda item: item.size)
        self._planes: list[list[_Plane]] = []
        self.blocks: list[tuple[int, int]] = []
        sizes = []
        for level in series.levels:
            planes = [_Plane(page, page.keyframe) for page in level.pages if page is not None and page.keyframe]
            if any(plane.page.parent is not tiff for plane in planes):
                raise ValueError("its pictures lie in other files")
            samples = planes[0].keyframe.samplesperpixel
            if not (len(planes) == 1 and samples in (1, 2, 3, 4)) and not (len(planes) == 3 and samples == 1):
                raise UnreadableImageError(
                    f"{self._path}: {len(planes)} planes of {samples} channels (axes {level.axes}). Only grey and RGB "
                    "bright-field pictures with one plane are read; export one as RGB OME-TIFF with QuPath."
                )
            self._planes.append(planes)
            sizes.append((planes[0].keyframe.imagewidth, planes[0].keyframe.imagelength))
        self.levels = levels_of(sizes)
        first = self._planes[0][0].keyframe
        kind = "OME-TIFF" if tiff.is_ome else "BigTIFF" if tiff.is_bigtiff else "TIFF"
        self.reader = f"tifffile ({kind})"
        self.bounds = (0, 0, *sizes[0])
        self.resolution = from_ome(tiff.ome_metadata) if tiff.is_ome and tiff.ome_metadata else None
        if self.resolution is None:
            self.resolution = from_tiff(first, tiff.imagej_metadata if tiff.is_imagej else None)
        length = self._path.stat().st_size
        for planes in self._planes:
            blocks = []
            for plane in planes:
                ends = np.asarray(plane.page.dataoffsets, np.int64) + np.asarray(plane.page.databytecounts, np.int64)
                if ends.size and int(ends.max()) > length:
                    raise UnreadableImageError(
                        f"{self._path}: truncated: it should have at least {int(ends.max()):,} bytes and has "
                        f"{length:,}. Copy or download it again."
                    )
                page = plane.keyframe
                rows, columns = (
                    (page.tilelength, page.tilewidth)
                    if page.is_tiled
                    else (min(page.rowsperstrip, page.imagelength), page.imagewidth)
                )
                check_size(self._path, int(columns), int(rows))
                blocks.append((1, 1) if self._plain(plane) else (int(columns), int(rows)))
                plane.keyframe.decode  # noqa: B018 - builds the decoder here, because that is not safe in threads
            self.blocks.append((max(width for width, _ in blocks), max(height for _, height in blocks)))

    def _next_directory(self) -> int:
        """Where the last directory that could be read says the next one is: 0 in a whole file."""
        layout, stream = self._tiff.tiff, self._tiff.filehandle
        stream.seek(self._tiff.pages[-1].offset)
        (tags,) = struct.unpack(layout.tagnoformat, stream.read(layout.tagnosize))
        stream.seek(tags * layout.tagsize, os.SEEK_CUR)
        return int(struct.unpack(layout.offsetformat, stream.read(layout.offsetsize))[0])

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """See ``Source.read``."""
        with readable(self._path):
            parts = [
                self._read_plane(level, number, plane, x, y, width, height)
                for number, plane in enumerate(self._planes[level])
            ]
            keyframe = self._planes[level][0].keyframe
            palette = keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE
            return to_rgb(
                parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2),
                invert=keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE,
                palette=keyframe.colormap if palette else None,
            )

    def _read_plane(
        self, level: int, number: int, plane: _Plane, x: int, y: int, width: int, height: int
    ) -> NDArray[Any]:
        """The stored samples of a box, [height, width, samples]."""
        keyframe = plane.keyframe
        separate = keyframe.planarconfig == tifffile.PLANARCONFIG.SEPARATE and keyframe.samplesperpixel > 1
        if keyframe.is_tiled:
            tall, wide = keyframe.tilelength, keyframe.tilewidth
        else:
            tall, wide = min(keyframe.rowsperstrip, keyframe.imagelength), keyframe.imagewidth
        across, down = -(-keyframe.imagewidth // wide), -(-keyframe.imagelength // tall)
        if self._plain(plane):
            return self._read_plain(plane, x, y, width, height)
        out = np.zeros((height, width, keyframe.samplesperpixel), keyframe.dtype)
        for sample in range(keyframe.samplesperpixel if separate else 1):
            for row in range(y // tall, (y + height - 1) // tall + 1):
                for column in range(x // wide, (x + width - 1) // wide + 1):
                    tile = self._segment(level, number, plane, (sample * down + row) * across + column)
                    if tile is None:
                        continue
                    top, left = row * tall, column * wide
                    y0, y1 = max(y, top), min(y + height, top + tile.shape[0])
                    x0, x1 = max(x, left), min(x + width, left + tile.shape[1])
                    here = slice(sample, sample + 1) if separate else slice(None)
                    out[y0 - y : y1 - y, x0 - x : x1 - x, here] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    @staticmethod
    def _plain(plane: _Plane) -> bool:
        """Whether the samples lie in one piece, pixel by pixel and not compressed: however large, a box is read."""
        keyframe = plane.keyframe
        separate = keyframe.planarconfig == tifffile.PLANARCONFIG.SEPARATE and keyframe.samplesperpixel > 1
        return bool(plane.page.is_memmappable) and not separate

    def _read_plain(self, plane: _Plane, x: int, y: int, width: int, height: int) -> NDArray[Any]:
        """A box of plain samples. Not mapped into memory: a file cut short meanwhile would end the process."""
        keyframe = plane.keyframe
        stored = np.dtype(keyframe.dtype).newbyteorder(self._tiff.byteorder)
        box = np.empty((height, width, keyframe.samplesperpixel), stored)
        pixel = keyframe.samplesperpixel * stored.itemsize
        start, handle = int(plane.page.dataoffsets[0]) + x * pixel, self._tiff.filehandle.fileno()
        for row in range(height):
            if os.preadv(handle, [box[row].data], start + (y + row) * keyframe.imagewidth * pixel) != width * pixel:
                raise ValueError("the file ends early")
        return box.astype(keyframe.dtype, copy=False)

    def _segment(self, level: int, number: int, plane: _Plane, index: int) -> NDArray[Any] | None:
        """A decoded tile or strip [height, width, samples]; None for one that was never written."""
        key = (level, number, index)
        with self._lock:
            found = self._cache.get(key)
            if found is not None:
                self._cache.move_to_end(key)
                return found
        size = int(plane.page.databytecounts[index])
        if size == 0:
            return None
        offset = int(plane.page.dataoffsets[index])
        data = os.pread(self._tiff.filehandle.fileno(), size, offset)  # leaves no file position to race for
        if len(data) != size:
            raise ValueError(f"tile {index} ends early: {len(data)} of {size} bytes")
        keyframe = plane.keyframe
        _check_announced(data, keyframe, index)
        options = {"jpegtables": keyframe.jpegtables} if keyframe.jpegtables is not None else {}
        decoded = keyframe.decode(data, index, **options)[0]
        if decoded is None:
            return None
        tile: NDArray[Any] = np.asarray(decoded)[0]
        with self._lock:
            if key not in self._cache:
                self._cache[key] = tile
                self._cached += tile.nbytes
                while self._cached > CACHE_BYTES and len(self._cache) > 1:
                    self._cached -= self._cache.popitem(last=False)[1].nbytes
        return tile

    def close(self) -> None:
        """Release the file and the tiles kept."""
        with self._lock:
            self._cache.clear()
            self._cached = 0
        self._tiff.close()


def _check_announced(data: bytes, keyframe: tifffile.TiffPage, index: int) -> None:
    """Refuse a tile that would decode to far more pixels than its place holds (a decompression bomb).

    Other compressions decode into memory of the tile's size; those with a header of their own believe the header.
    """
    if keyframe.compression not in {*tifffile.TIFF.IMAGE_COMPRESSIONS, tifffile.COMPRESSION.LERC}:
        return
    try:
        with no_pillow_limit(), Image.open(io.BytesIO(data), formats=("JPEG", "JPEG2000", "WEBP", "PNG")) as announced:
            width, height = announced.size
    except (OSError, SyntaxError, ValueError) as error:
        # decoders pass over what Pillow stumbles at, or know formats that it does not, and then believe the header
        raise ValueError(f"tile {index} does not say how large it is") from error
    wide, tall = (keyframe.tilewidth, keyframe.tilelength) if keyframe.is_tiled else (keyframe.imagewidth, 0)
    tall = tall or min(keyframe.rowsperstrip, keyframe.imagelength)
    if width * height > 4 * max(wide * tall, 4096):
        raise ValueError(f"tile {index} holds {width} x {height} pixels in place of {wide} x {tall}")
