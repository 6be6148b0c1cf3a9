"""What decoders give, as uint8 RGB, and what they complain of, as errors that name the file."""

from __future__ import annotations

import logging
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from restain.core.errors import UnreadableImageError

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file is said by our errors, once

MAX_PIXELS = 400_000_000
"""Images without tiles must be decoded whole; above this (20,000 x 20,000, 1.6 GB decoded) they are refused."""

MOST_DIRECTORIES = 1000
"""Pictures in a TIFF: a slide has its levels and some of its label; to list a million takes minutes."""

_pillow_limit = threading.Lock()


def is_tiff(path: Path) -> bool:
    """Whether the file begins as a TIFF or BigTIFF does.

    Raises:
        UnreadableImageError: it is missing, a folder, or may not be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return stream.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    except OSError as error:
        raise UnreadableImageError(f"{path}: cannot be opened ({error.strerror or error}). Check the path.") from error


def check_directories(path: Path) -> None:
    """Refuse a TIFF of more pictures than a slide has, before a reader lists them all.

    What is damaged is passed over here: readers say better what it is.

    Raises:
        UnreadableImageError: it has more than ``MOST_DIRECTORIES``, or one leads back to another.
    """
    with readable(path), Path(path).open("rb") as stream:
        head, length = stream.read(16).ljust(16, b"\0"), os.fstat(stream.fileno()).st_size
        order, big = ("<" if head.startswith(b"II") else ">"), b"+" in head[2:4]
        count, place, entry = (f"{order}Q", f"{order}Q", 20) if big else (f"{order}H", f"{order}I", 12)
        (offset,) = struct.unpack_from(place, head, 8 if big else 4)
        for _ in range(MOST_DIRECTORIES):
            if not 0 < offset < length:
                return
            stream.seek(offset)
            number = stream.read(struct.calcsize(count))
            if len(number) < struct.calcsize(count) or struct.unpack(count, number)[0] * entry > length:
                return
            stream.seek(struct.unpack(count, number)[0] * entry, os.SEEK_CUR)
            following = stream.read(struct.calcsize(place))
            if len(following) < struct.calcsize(place):
                return
            (offset,) = struct.unpack(place, following)
        raise UnreadableImageError(
            f"{path}: holds more than {MOST_DIRECTORIES:,} pictures (or its directories run in a circle), so it is no "
            "slide. Export the one picture as OME-TIFF with QuPath."
        )


FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM", "TIFF", "JPEG2000")
"""What Pillow may decode: formats without programs behind them.

MPO (JPEGs of cameras with several pictures) is opened as JPEG: Pillow refuses the name, for any file that is not one of
those before it.
"""


def load_image(path: Path) -> Image.Image:
    """A PNG, JPEG or other plain image, decoded whole, as a Pillow image in mode RGB.

    Raises:
        UnreadableImageError: as for ``read_image``.
    """
    with readable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata is no reason for a word
        with no_pillow_limit():
            image = Image.open(path, formats=FORMATS)
        with image:
            check_size(path, *image.size)
            image.load()
            return _pillow_rgb(image)


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse an image that would have to be decoded whole and is too large for that (or a decompression bomb).

    Raises:
        UnreadableImageError: it has more than ``MAX_PIXELS`` pixels.
    """
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(
            f"{path}: {width} x {height} pixels are too many for an image without tiles (at most {MAX_PIXELS:,}). "
            "Convert it to a tiled pyramidal TIFF, for example with QuPath or `vips tiffsave --tile --pyramid`."
        )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises inside the block into an ``UnreadableImageError`` that names the file."""
    try:
        yield
    except UnreadableImageError:
        raise
    except MemoryError as error:
        raise UnreadableImageError(f"{path}: not enough memory to decode it.") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            f"{path}: not a slide or image that can be read (not OpenSlide's, TIFF, PNG or JPEG), or its beginning is "
            "damaged. Copy or download it again, or convert it to OME-TIFF with QuPath."
        ) from error
    except Exception as error:  # decoders raise anything on damaged files
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UnreadableImageError:
    """The user's message for a decoder's ``error`` on ``path``."""
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return UnreadableImageError(
        f"{path}: damaged, truncated or of an unsupported kind ({reason}). Copy or download it again; if it opens "
        "elsewhere, convert it to OME-TIFF with QuPath."
    )


def to_rgb(
    data: NDArray[Any],
    *,
    invert: bool = False,
    palette: NDArray[Any] | None = None,
    planar: bool = False,
) -> NDArray[np.uint8]:
    """Decoded TIFF samples as uint8 RGB.

    Args:
        data: [height, width] or [height, width, samples] (``planar``: [samples, height, width]); bool or integers.
        invert: 0 is white (TIFF's MinIsWhite).
        palette: TIFF colour map [3, entries], 16 bit.
        planar: the samples come first.

    Returns:
        uint8 [height, width, 3].

    Raises:
        ValueError: floating-point samples, or 5 channels and more (not a bright-field picture).
    """
    if planar and data.ndim == 3:
        data = np.moveaxis(data, 0, -1)
    if data.ndim not in (2, 3) or (data.ndim == 3 and data.shape[2] > 4):
        raise ValueError(f"not a grey or RGB picture: samples {data.shape}")
    if palette is not None:
        entries: NDArray[np.uint8] = (np.asarray(palette).T // 256).astype(np.uint8)  # writers scale by 256 or 257
        return np.asarray(entries[data[..., 0] if data.ndim == 3 else data])
    if data.dtype == np.bool_:
        data = data.astype(np.uint8) * np.uint8(255)
    elif data.dtype == np.uint16:
        data = ((data.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif data.dtype != np.uint8:
        raise ValueError(f"samples of type {data.dtype}; 8 or 16 bit unsigned are expected")
    if invert:
        data = 255 - data
    if data.ndim == 2:
        data = data[..., None]
    if data.shape[2] in (2, 4):  # the last sample is alpha
        alpha = data[..., -1:].astype(np.uint16)
        if (alpha != 255).any():
            data = ((data[..., :-1] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
        else:
            data = data[..., :-1]
    return np.ascontiguousarray(np.broadcast_to(data, (*data.shape[:2], 3)))


def _pillow_rgb(image: Image.Image) -> Image.Image:
    """``image`` in mode RGB: 16-bit grey scaled, transparency composited on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy() if image.readonly else image
    if image.mode.startswith(("I", "F")):
        samples = np.asarray(image)
        if samples.dtype.kind != "f" and samples.size and samples.max() > 65535:
            raise ValueError("more than 16 bits a sample")
        return Image.fromarray(to_rgb(samples if samples.dtype.kind == "f" else samples.astype(np.uint16)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layered = image.convert("RGBA")
        opaque = Image.new("RGB", image.size, (255, 255, 255))
        opaque.paste(layered, mask=layered.getchannel("A"))
        return opaque
    return image.convert("RGB")


@contextmanager
def no_pillow_limit() -> Iterator[None]:
    """Lift Pillow's own size limit while an image is opened: ``check_size`` judges it, with a better message."""
    with _pillow_limit:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
