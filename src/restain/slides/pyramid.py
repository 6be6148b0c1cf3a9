"""Writing a slide: a tiled, pyramidal OME-TIFF from blocks that arrive in any order."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Literal
from xml.sax.saxutils import quoteattr

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.core.files import atomic_path, write_error
from restain.slides.tiff_source import TiffSource

Compression = Literal["jpeg", "deflate"]

_PARENTS_IN_MEMORY = 64
"""Unfinished tiles of coarser levels kept in memory (0.75 MiB each); older ones wait in a temporary file."""

_CLASSIC_TIFF = 3_800_000_000
"""Bytes of tiles that a classic TIFF (4 GiB, directories included) takes; more makes a BigTIFF."""

_THREADS = max(1, min(4, os.cpu_count() or 1))


class PyramidWriter:
    """Writes a tiled pyramidal OME-TIFF (levels in SubIFDs) that OpenSlide, tifffile, Bio-Formats and QuPath read.

    Blocks may come in any order. Each is encoded at once and spooled to a nameless temporary file beside the target;
    coarser levels (means of 2 x 2) grow along. Memory holds a few tiles, never the slide. Leaving the ``with`` block
    assembles the file, reopens and checks it, and gives it its name; after an error nothing is left.

    Equal input gives equal bytes.

        with PyramidWriter(path, size=(20_000, 20_000), mpp=0.5) as writer:
            writer.write(0, 0, block)

    Args:
        path: the slide to write, usually ``*.ome.tif``.
        size: (width, height) of level 0.
        mpp: um/px, or (x, y); None writes no physical size.
        tile: side of the tiles, a multiple of 16.
        compression: "jpeg" (colour only) or "deflate" (lossless). None: jpeg for colour, deflate for masks.
        quality: of JPEG, 1 to 100; chroma is not subsampled.
        fill: what tiles hold that are never written: (r, g, b), or one grey value, which makes the slide a
            single-channel mask. None: white, or 0 once the first block written is a mask.
        description: free text for the OME-XML.

    Raises:
        ValueError: sizes, tile or quality out of range.
        ItemError: the folder cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        mpp: float | tuple[float, float] | None,
        *,
        tile: int = 512,
        compression: Compression | None = None,
        quality: int = 90,
        fill: tuple[int, int, int] | int | None = None,
        description: str = "",
    ) -> None:
        if min(size) < 1 or tile < 16 or tile % 16 or not 1 <= quality <= 100:
            raise ValueError(f"{path}: size {size}, tile {tile} (a multiple of 16) or quality {quality} out of range")
        self.path, self.size, self.tile = Path(path), (int(size[0]), int(size[1])), tile
        self.mpp = (mpp, mpp) if isinstance(mpp, (int, float)) else mpp
        if self.mpp is not None and not all(0 < value < 1000 for value in self.mpp):
            raise ValueError(f"{path}: um/px must lie between 0 and 1000, not {mpp}")
        self._compression, self._quality, self._fill, self._description = compression, quality, fill, description
        self._channels: int | None = 1 if isinstance(fill, int) else 3 if fill is not None else None
        self._sizes = level_sizes(self.size, tile)
        self._grids = [(-(-w // tile), -(-h // tile)) for w, h in self._sizes]
        self._offsets = [np.full((rows, columns), -1, np.int64) for columns, rows in self._grids]
        self._lengths = [np.zeros((rows, columns), np.int64) for columns, rows in self._grids]
        self._encoding: deque[tuple[int, int, int, Future[bytes]]] = deque()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._spool: IO[bytes] = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 - closed on exit
            self._parents = _Parents(self.path.parent, slot=tile * tile * 3)
        except OSError as error:
            raise write_error(self.path, error) from error
        self._spooled = 0
        self._pool = ThreadPoolExecutor(_THREADS)

    def write(self, x: int, y: int, block: NDArray[np.uint8]) -> None:
        """Write a block of whole tiles.

        Args:
            x: left edge in level-0 pixels, a multiple of ``tile``.
            y: top edge, likewise.
            block: uint8 [h, w, 3], or [h, w] for a mask; sides are multiples of ``tile`` or end at the slide's edge.

        Raises:
            ValueError: it does not lie on the tile grid, changes the number of channels, or was written before.
            ItemError: the disk is full.
        """
        height, width = block.shape[:2]
        for start, length, extent in ((x, width, self.size[0]), (y, height, self.size[1])):
            inside = start >= 0 and length > 0 and start + length <= extent
            if not inside or start % self.tile or (length % self.tile and start + length != extent):
                raise ValueError(
                    f"{self.path}: a block of {width} x {height} at ({x}, {y}) does not lie on the grid of "
                    f"{self.tile} px tiles of a slide of {self.size[0]} x {self.size[1]}"
                )
        channels = 1 if block.ndim == 2 else block.shape[2]
        if self._channels is None:
            self._channels = channels
        if self._compression == "jpeg" and channels == 1:
            raise ValueError(f"{self.path}: masks are written without loss; choose compression 'deflate'")
        if channels != self._channels or channels not in (1, 3) or block.dtype != np.uint8:
            raise ValueError(
                f"{self.path}: expected {self._channels} channels of uint8, got {block.dtype} {block.shape}"
            )
        for top in range(0, height, self.tile):
            for left in range(0, width, self.tile):
                part = block[top : top + self.tile, left : left + self.tile]
                self._add(0, (x + left) // self.tile, (y + top) // self.tile, part.reshape(*part.shape[:2], channels))

    def __enter__(self) -> PyramidWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._encoding.clear()
            with contextlib.suppress(OSError):  # closing flushes, which fails again on a full disk
                self._spool.close()
            self._parents.close()

    @property
    def _background(self) -> NDArray[np.uint8]:
        """The fill, uint8 [channels]."""
        if self._fill is not None:
            return np.atleast_1d(np.array(self._fill, np.uint8))
        return np.array([0] if self._channels == 1 else [255, 255, 255], np.uint8)

    def _add(self, level: int, column: int, row: int, pixels: NDArray[np.uint8]) -> None:
        """Encode one tile (smaller at the right and bottom edge) and pass it on to the next level."""
        if self._offsets[level][row, column] != -1:
            raise ValueError(f"{self.path}: the tile at ({column * self.tile}, {row * self.tile}) is written twice")
        self._offsets[level][row, column] = -2  # on its way
        height, width = pixels.shape[:2]
        # the edge is repeated, not filled: a jump there would ring into the picture through JPEG
        padding = ((0, self.tile - height), (0, self.tile - width), (0, 0))
        full = np.pad(pixels, padding, mode="edge") if height < self.tile or width < self.tile else pixels.copy()
        self._encoding.append((level, column, row, self._pool.submit(self._encode, full)))
        while len(self._encoding) > 2 * _THREADS:
            self._store()
        if level + 1 < len(self._sizes):
            self._pass_on(level + 1, column, row, pixels)

    def _pass_on(self, level: int, column: int, row: int, pixels: NDArray[np.uint8]) -> None:
        """Put the halved ``pixels`` of a child into its parent on ``level``; a parent with all children moves on."""
        width, height = self._sizes[level]
        parent = (level, column // 2, row // 2)
        tall = min(self.tile, height - parent[2] * self.tile)
        wide = min(self.tile, width - parent[1] * self.tile)
        columns, rows = self._grids[level - 1]
        children = min(2, columns - 2 * parent[1]) * min(2, rows - 2 * parent[2])
        try:
            canvas, missing = self._parents.take(parent) or (
                np.broadcast_to(self._background, (tall, wide, self._background.size)).copy(),
                children,
            )
            half = halve(pixels)
            top, left = row % 2 * self.tile // 2, column % 2 * self.tile // 2
            canvas[top : top + half.shape[0], left : left + half.shape[1]] = half
            if missing > 1:
                self._parents.put(parent, canvas, missing - 1)
                return
        except OSError as error:
            raise write_error(self.path, error) from error
        self._add(*parent, canvas)

    def _encode(self, pixels: NDArray[np.uint8]) -> bytes:
        if self._jpeg:
            return bytes(
                imagecodecs.jpeg8_encode(
                    pixels, level=self._quality, colorspace="RGB", outcolorspace="YCBCR", subsampling="444"
                )
            )
        return bytes(imagecodecs.deflate_encode(pixels.tobytes(), level=6))

    @property
    def _jpeg(self) -> bool:
        return self._channels == 3 and self._compression != "deflate"

    def _store(self) -> None:
        """Move the oldest encoded tile to the spool."""
        level, column, row, future = self._encoding.popleft()
        data = future.result()
        try:
            self._spool.write(data)
        except OSError as error:
            raise write_error(self.path, error) from error
        self._offsets[level][row, column], self._lengths[level][row, column] = self._spooled, len(data)
        self._spooled += len(data)

    def _finish(self) -> None:
        """Complete the coarser levels, assemble the file, check it, give it its name."""
        if self._channels is None:
            self._channels = 3
        for level in range(1, len(self._sizes)):  # parents of tiles that never came, the finest first
            for parent in self._parents.of_level(level):
                found = self._parents.take(parent)
                if found is not None:
                    self._add(*parent, found[0])
        while self._encoding:
            self._store()
        filled = self._encode(np.broadcast_to(self._background, (self.tile, self.tile, self._channels)).copy())
        total = self._spooled + sum(int((lengths == 0).sum()) for lengths in self._lengths) * len(filled)
        with atomic_path(self.path) as temporary:
            self._spool.flush()
            with tifffile.TiffWriter(temporary, bigtiff=total > _CLASSIC_TIFF) as tiff:
                for level in range(len(self._sizes)):
                    self._write_level(tiff, level, filled)
            self._verify(temporary)

    def _write_level(self, tiff: tifffile.TiffWriter, level: int, filled: bytes) -> None:
        width, height = self._sizes[level]
        colour = self._channels == 3
        tiff.write(
            self._encoded_tiles(level, filled),
            shape=(height, width, 3) if colour else (height, width),
            dtype=np.uint8,
            tile=(self.tile, self.tile),
            photometric="rgb" if colour else "minisblack",
            compression="jpeg" if self._jpeg else "adobe_deflate",
            subsampling=(1, 1) if self._jpeg else None,
            subfiletype=1 if level else 0,
            subifds=len(self._sizes) - 1 if level == 0 else None,
            resolution=None if self.mpp is None else (_per_cm(self.mpp[0] * 2**level), _per_cm(self.mpp[1] * 2**level)),
            resolutionunit=None if self.mpp is None else "CENTIMETER",
            description=self._ome_xml().encode() if level == 0 else None,
            metadata=None,
            software="restain" if level == 0 else None,
        )

    def _encoded_tiles(self, level: int, filled: bytes) -> Iterator[bytes]:
        """The level's encoded tiles from the spool, row by row."""
        for offset, length in zip(self._offsets[level].flat, self._lengths[level].flat, strict=True):
            yield os.pread(self._spool.fileno(), int(length), int(offset)) if length else filled

    def _ome_xml(self) -> str:
        """The OME-XML header (schema 2016-06); no identifiers or dates, so that equal slides are equal files."""
        width, height = self.size
        physical = ""
        if self.mpp is not None:
            x, y = self.mpp
            physical = f' PhysicalSizeX="{x!r}" PhysicalSizeXUnit="µm" PhysicalSizeY="{y!r}" PhysicalSizeYUnit="µm"'
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation='
            '"http://www.openmicroscopy.org/Schemas/OME/2016-06 '
            'http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd" Creator="restain">'
            f'<Image ID="Image:0" Name={quoteattr(self.path.name)}>'
            + (f"<Description>{_escape(self._description)}</Description>" if self._description else "")
            + f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{width}" SizeY="{height}" '
            f'SizeC="{self._channels}" SizeZ="1" SizeT="1" Interleaved="true"{physical}>'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="{self._channels}"/><TiffData IFD="0" PlaneCount="1"/>'
            "</Pixels></Image></OME>"
        )

    def _verify(self, written: Path) -> None:
        """Reopen what was written: sizes, um/px, and the first, middle and last tile of every level must come back.

        Raises:
            ItemError: they do not.
        """
        source = TiffSource(written)
        try:
            sizes = [(level.width, level.height) for level in source.levels]
            if sizes != self._sizes:
                raise ItemError(f"{self.path}: was written with levels {sizes} in place of {self._sizes}.")
            found = source.resolution
            if (found is None) != (self.mpp is None) or (
                found is not None and self.mpp is not None and not np.allclose(found, self.mpp, rtol=1e-9, atol=0)
            ):
                raise ItemError(f"{self.path}: was written with um/px {found} in place of {self.mpp}.")
            for level, (columns, rows) in enumerate(self._grids):
                for index in {0, rows * columns // 2, rows * columns - 1}:
                    x, y = index % columns * self.tile, index // columns * self.tile
                    width, height = min(self.tile, sizes[level][0] - x), min(self.tile, sizes[level][1] - y)
                    source.read(level, x, y, width, height)
        finally:
            source.close()


class _Parents:
    """Unfinished tiles of coarser levels: the latest in memory, the others in a temporary file."""

    def __init__(self, folder: Path, slot: int) -> None:
        self._near: OrderedDict[tuple[int, int, int], tuple[NDArray[np.uint8], int]] = OrderedDict()
        self._far: dict[tuple[int, int, int], tuple[int, tuple[int, ...], int]] = {}
        self._free: list[int] = []
        self._end, self._slot = 0, slot
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by close

    def put(self, key: tuple[int, int, int], canvas: NDArray[np.uint8], missing: int) -> None:
        """Keep an unfinished tile that still misses that many children."""
        self._near[key] = (canvas, missing)
        if len(self._near) <= _PARENTS_IN_MEMORY:
            return
        old, (pixels, lacking) = self._near.popitem(last=False)
        slot = self._free.pop() if self._free else self._end
        self._end = max(self._end, slot + 1)
        data = pixels.tobytes()
        if os.pwrite(self._file.fileno(), data, slot * self._slot) != len(data):
            raise OSError(28, "No space left on device")
        self._far[old] = (slot, pixels.shape, lacking)

    def take(self, key: tuple[int, int, int]) -> tuple[NDArray[np.uint8], int] | None:
        """The unfinished tile and how many children it misses; None for a new one."""
        if key in self._near:
            return self._near.pop(key)
        if key not in self._far:
            return None
        slot, shape, missing = self._far.pop(key)
        self._free.append(slot)
        canvas = np.empty(shape, np.uint8)
        data = os.pread(self._file.fileno(), canvas.size, slot * self._slot)
        canvas.reshape(-1)[:] = np.frombuffer(data, np.uint8)
        return canvas, missing

    def of_level(self, level: int) -> list[tuple[int, int, int]]:
        """The unfinished tiles of a level."""
        return sorted(key for key in (*self._near, *self._far) if key[0] == level)

    def close(self) -> None:
        """Forget all."""
        self._near.clear()
        self._file.close()


def level_sizes(size: tuple[int, int], tile: int) -> list[tuple[int, int]]:
    """(width, height) of every level: halved, rounded up, until one tile holds all."""
    sizes = [size]
    while max(sizes[-1]) > tile:
        width, height = sizes[-1]
        sizes.append((-(-width // 2), -(-height // 2)))
    return sizes


def halve(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of 2 x 2; an odd edge is repeated. uint8 [h, w, c] to [ceil(h/2), ceil(w/2), c].

    Masks (one channel) hold classes, whose mean would be another class: of them every second pixel stays.

    Halves go to the even neighbour: always up would brighten every level by an eighth of a grey level.
    """
    if pixels.shape[2] == 1:
        return pixels[::2, ::2]
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    wide = pixels.astype(np.uint16)
    wide = wide[0::2] + wide[1::2]
    total = wide[:, 0::2] + wide[:, 1::2]
    return ((total + 1 + (total >> 2 & 1)) >> 2).astype(np.uint8)


def _per_cm(mpp: float) -> tuple[int, int]:
    """Pixels per centimetre as a TIFF rational (two unsigned 32-bit integers) within 1e-9."""
    exact = Fraction(10_000) / Fraction(mpp)
    if exact >= 1:
        limited = exact.limit_denominator(max(1, int((2**32 - 1) / exact)))
    else:
        limited = 1 / (1 / exact).limit_denominator(max(1, int((2**32 - 1) * exact)))
    return limited.numerator, limited.denominator


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
