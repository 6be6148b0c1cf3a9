"""Plain images: PNG, JPEG and TIFF, told apart by their content (BCI's ``.png`` files are JPEG inside)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restain.core.files import atomic_path
from restain.slides.decoding import check_size, is_tiff, load_image
from restain.slides.tiff_source import TiffSource

_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """The whole image as uint8 RGB.

    Grey becomes three equal channels, more than 8 bits are scaled from their full range (65535 to 255), an alpha
    channel is composited on white, palette and CMYK are converted.

    Args:
        path: PNG, JPEG or TIFF, whatever its suffix.

    Returns:
        uint8 [height, width, 3].

    Raises:
        UnreadableImageError: missing, truncated, corrupt, not an image, or above ``MAX_PIXELS``.
    """
    path = Path(path)
    if not is_tiff(path):
        return np.asarray(load_image(path))
    source = TiffSource(path)
    try:
        width, height = source.levels[0].width, source.levels[0].height
        check_size(path, width, height)
        return source.read(0, 0, 0, width, height)
    finally:
        source.close()


def write_image(path: str | Path, image: NDArray[np.uint8], quality: int = 95) -> None:
    """Write an image atomically; the format follows the suffix.

    Args:
        path: ending in .png, .jpg, .jpeg, .tif or .tiff.
        image: uint8 [height, width, 3] RGB, or [height, width] grey.
        quality: of JPEG, 1 to 100; chroma is not subsampled (brown membranes are thin).

    Raises:
        ValueError: another suffix, or not such an image.
        ItemError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: the suffix must be one of {', '.join(_SUFFIXES)}")
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(
            f"{path}: expected uint8 [height, width, 3] or [height, width], got {image.dtype} {image.shape}"
        )
    options: dict[str, Any] = {}
    if kind == "JPEG":
        options = {"quality": quality, "subsampling": 0}
    elif kind == "TIFF":
        options = {"compression": "tiff_adobe_deflate"}
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary, kind, **options)
