"""What stands around a heat map: title and colours above, numbers on it, the tiles looked at most below."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from restain.slides import Slide

RGB = NDArray[np.uint8]

HEAD = 96
LEAST_WIDTH = 640
COLOURS = "RdYlBu_r"
"""Blue, yellow, red: told apart by the colour blind too, and none of them is a colour of H&E or of glass."""
_ENDS = 0.06
"""Of these colours at either end, too dark to see a nucleus through, are left out."""
_TILE, _GAP, _LINE = 240, 12, 28
"""Side of a tile in the strip, px; what is left between them; a line of text."""


def colours_of(rank: NDArray[np.floating]) -> NDArray[np.float32]:
    """Colours of ranks [n] from 0 to 1: float32 RGB [n, 3], 0 to 1."""
    return np.asarray(mpl.colormaps[COLOURS](_ENDS + (1 - 2 * _ENDS) * np.asarray(rank)), np.float32)[:, :3]


def head(title: str, sentence: str, width: int, grey: str) -> RGB:
    """Title, the scale of colours and a sentence, at least ``LEAST_WIDTH`` wide.

    Args:
        title: first line, in large letters.
        sentence: last line.
        width: of the picture, px.
        grey: what is not coloured, in words.
    """
    sheet = Image.new("RGB", (max(width, LEAST_WIDTH), HEAD), "white")
    pen = ImageDraw.Draw(sheet)
    small = ImageFont.load_default(14)
    pen.text((8, 4), title, "black", ImageFont.load_default(18))
    left = 8
    for text, bar in (("attention, by rank: low", 160), ("high", 0), (f"{grey}   (research use only)".strip(), 0)):
        pen.text((left, 36), text, "black", small)
        left += round(pen.textlength(text, small)) + 10
        for step, (red, green, blue) in enumerate((255 * colours_of(np.linspace(0, 1, bar))).astype(int).tolist()):
            pen.line((left + step, 39, left + step, 52), fill=(red, green, blue))
        left += bar + (10 if bar else 8)
    pen.text((8, 64), sentence, "black", small)
    return np.asarray(sheet)


def number_tiles(picture: RGB, corners: NDArray[np.floating], side: float) -> None:
    """Draw frames and the numbers 1, 2, ... on tiles, in place.

    Args:
        picture: to draw on.
        corners: (x, y) of their upper left corners in the picture [k, 2].
        side: of a tile in the picture, px.
    """
    sheet = Image.fromarray(picture)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    for number, (x, y) in reversed(list(enumerate(corners.tolist(), start=1))):
        pen.rectangle((x, y, x + max(side, 6), y + max(side, 6)), outline="black", width=2)
        place = (x + 5, y + 2) if side > 30 else (x + max(side, 6) + 3, y - 6)
        pen.text(place, str(number), "black", font, stroke_width=2, stroke_fill="white")
    picture[:] = np.asarray(sheet)


def fitting(width: int) -> int:
    """How many tiles a strip of ``width`` px has room for."""
    return max(1, (width + _GAP) // (_TILE + _GAP))


def strip(slide: Slide, coords: NDArray[np.int64], side: float, width: int) -> RGB:
    """Tiles at their own resolution, side by side, each with its number.

    Args:
        slide: that they are of.
        coords: (x, y) of their upper left corners in level-0 px [k, 2], in the order of their numbers.
        side: in level-0 px.
        width: px, with room for all of them.
    """
    sheet = Image.new("RGB", (width, _LINE + _TILE + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for number, (x, y) in enumerate(coords.tolist()):
        pixels = max(1, round(side))
        fine = (
            slide.read(x, y, _TILE, _TILE, slide.mpp * side / _TILE) if slide.mpp else slide.read(x, y, pixels, pixels)
        )
        left = number * (_TILE + _GAP)
        sheet.paste(Image.fromarray(fine).resize((_TILE, _TILE)), (left, _LINE))
        pen.text((left + 2, 6), "looked at most: 1" if number == 0 else str(number + 1), "black", font)
    return np.asarray(sheet)
