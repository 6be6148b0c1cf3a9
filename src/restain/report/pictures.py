"""Pictures as they go into a report: encoded into the page itself, with a text for those who cannot see them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray
from PIL import Image

from restain.core.errors import RestainError
from restain.core.files import atomic_path

DIVERGING = "PuOr_r"
"""Purple below zero, white at zero, brown above: told apart by colour-blind readers too, and brown is more DAB."""

STYLE: Any = {  # its type is a list of every setting that this matplotlib has
    "text.parse_math": False,  # a name with dollar signs is a name
    "svg.hashsalt": "restain",  # the same figure gives the same file
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Picture:
    """A picture for a report.

    Attributes:
        source: a ``data:`` URI.
        alt: what it shows, for readers who cannot see it.
        width: in px.
        height: in px.
    """

    source: str
    alt: str
    width: int
    height: int


def photo(rgb: NDArray[np.uint8], alt: str, quality: int = 88) -> Picture:
    """A picture of pixels.

    Args:
        rgb: uint8 RGB [h, w, 3], shown as it is: scale it down before.
        alt: what it shows.
        quality: of the JPEG, whose chroma is not subsampled, because brown membranes are thin.
    """
    buffer = io.BytesIO()
    # Not optimised: Pillow then writes in one go into a buffer that a noisy image overflows.
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality, subsampling=0)
    return Picture(_uri("image/jpeg", buffer.getvalue()), alt, rgb.shape[1], rgb.shape[0])


def signed_map(values: NDArray[np.float32], limit: float, alt: str) -> Picture:
    """A map of signed values: purple below zero, white at zero, brown above.

    Args:
        values: [h, w].
        limit: the absolute value at which the colour is full; 0 shows every value as zero.
        alt: what it shows.
    """
    return photo(signed_rgb(values, limit), alt)


def marked(rgb: NDArray[np.uint8], points: NDArray[np.float64], alt: str) -> Picture:
    """A photo with points on it, each a small green cross, a colour that no stain has.

    Args:
        rgb: uint8 RGB [h, w, 3].
        points: (x, y) in px [n, 2].
        alt: what it shows.
    """
    height, width = rgb.shape[:2]
    column, row = np.clip(points.astype(np.int64), 0, (width - 1, height - 1)).T
    centres = np.zeros((height, width), np.uint8)
    centres[row, column] = 1
    picture = rgb.copy()
    picture[cv2.dilate(centres, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))) > 0] = (0, 200, 0)
    return photo(picture, alt)


def signed_rgb(values: NDArray[np.float32], limit: float) -> NDArray[np.uint8]:
    """Colours of signed values [h, w], as ``signed_map`` shows them: uint8 RGB [h, w, 3]."""
    place = np.clip(values / limit, -1, 1) / 2 + 0.5 if limit > 0 else np.full(values.shape, 0.5)
    colours: NDArray[np.uint8] = mpl.colormaps[DIVERGING](place, bytes=True)[..., :3]
    return np.ascontiguousarray(colours)


def chart(draw: Callable[[Canvas], None], alt: str, width: float = 8.0, height: float = 3.2) -> Picture:
    """A drawing made with matplotlib, as vectors.

    Args:
        draw: draws on an empty figure.
        alt: what it shows.
        width: in inches.
        height: in inches.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        draw(canvas)
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return Picture(_uri("image/svg+xml", buffer.getvalue()), alt, round(width * 96), round(height * 96))


def save_chart(path: Path, draw: Callable[[Canvas], None], width: float = 8.0, height: float = 3.2) -> None:
    """Write a drawing made with matplotlib to a file, atomically.

    Args:
        path: ending in .png (at 200 dots per inch), .svg or .pdf.
        draw: draws on an empty figure.
        width: in inches.
        height: in inches.

    Raises:
        RestainError: another suffix.
        ItemError: the disk is full or the folder cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    dates: dict[str, dict[str, None]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    if kind not in dates:
        raise RestainError(f"{path}: a chart's file ends in .png, .svg or .pdf.")
    with mpl.rc_context(STYLE), atomic_path(path) as temporary:
        canvas = Canvas(figsize=(width, height), layout="constrained")
        draw(canvas)
        canvas.savefig(temporary, format=kind, dpi=200, metadata=dates[kind])


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
