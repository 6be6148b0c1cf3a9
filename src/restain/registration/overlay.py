"""A picture to see by eye how the H&E lies on the IHC: before and after, as checkerboard and in red and cyan."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]

LONGEST = 2400
"""Pixels of the longer side at most."""

_LEAST_PANEL = 480
"""Smaller panels are enlarged to this, or the text would not fit."""

_SQUARES = 10
"""Squares of the checkerboard along the longer side."""

_GAP, _BAND = 16, 44
"""Pixels between panels, and for the line of text above or below them."""

_LEAST_RANGE = 64.0
"""Brightness of 0 to 255 is not stretched more than this far apart, or bare glass would show its noise."""

_FONT = 20.0
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


def overlay(
    before_he: Picture, after_he: Picture, ihc: Picture, mpp: float, before: str = "before", after: str = "after"
) -> Picture:
    """Draw H&E and IHC on each other, on the left as they lay before, on the right after.

    Above is a checkerboard of both; below, H&E in red and IHC in green and blue: where both are equally dark it is
    grey, what is dark in the H&E alone is cyan, what is dark in the IHC alone is red.

    Args:
        before_he: uint8 [H, W, 3], the H&E on the IHC's grid, before.
        after_he: uint8 [H, W, 3], the same after.
        ihc: uint8 [H, W, 3].
        mpp: um/px of the three.
        before: what the left side is called, in one or two words.
        after: what the right side is called.

    Returns:
        uint8 RGB, labelled, with a scale bar; the longer side has at most ``LONGEST`` px.

    Raises:
        ValueError: the pictures differ in size, or ``mpp`` is not above 0.
    """
    if not before_he.shape == after_he.shape == ihc.shape or mpp <= 0:
        shapes = f"{before_he.shape}, {after_he.shape} and {ihc.shape}"
        raise ValueError(f"pictures of one size and an mpp above 0 are needed, got {shapes} and {mpp}")
    height, width = ihc.shape[:2]
    scale = max(1.0, _LEAST_PANEL / max(height, width))
    scale = min(scale, (LONGEST - 3 * _GAP) / 2 / width, (LONGEST - 3 * _BAND - 2 * _GAP) / 2 / height)
    size = (max(1, math.floor(width * scale)), max(1, math.floor(height * scale)))
    left, right, fixed = (_scaled(picture, size) for picture in (before_he, after_he, ihc))
    panels = [
        [(f"{before}: H&E and IHC by turns", checkerboard(left, fixed)), (after, checkerboard(right, fixed))],
        [
            (f"{before}: dark in H&E alone cyan, in IHC alone red", red_cyan(left, fixed)),
            (after, red_cyan(right, fixed)),
        ],
    ]
    return _sheet(panels, size, mpp / scale)


def checkerboard(he: Picture, ihc: Picture) -> Picture:
    """H&E and IHC in squares by turns, the H&E at the upper left: uint8 [H, W, 3]."""
    side = max(1, math.ceil(max(he.shape[:2]) / _SQUARES))
    rows, columns = (np.arange(length) // side for length in he.shape[:2])
    odd = (rows[:, None] + columns) % 2 == 1
    return np.where(odd[..., None], ihc, he)


def red_cyan(he: Picture, ihc: Picture) -> Picture:
    """H&E in red, IHC in green and blue: uint8 [H, W, 3].

    The IHC, often pale, is given the H&E's distribution of brightness, so that what lies right is grey.
    """
    first, second = (rgb.mean(axis=2, dtype=np.float32) for rgb in (he, ihc))
    ranks = np.linspace(0, 100, 65)
    target = np.percentile(first, ranks)
    source = np.percentile(second, ranks) + 1e-3 * np.arange(len(ranks))  # rising, as interpolation wants it
    low, high = target[1], max(target[-2], target[1] + _LEAST_RANGE)
    first, second = ((grey - low) * (255 / (high - low)) for grey in (first, np.interp(second, source, target)))
    channels = np.stack([first, second, second], axis=2).round()
    return np.asarray(np.clip(channels, 0, 255), np.uint8)


def _scaled(rgb: Picture, size: tuple[int, int]) -> Picture:
    shrinks = size[0] < rgb.shape[1]
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)


def _sheet(panels: list[list[tuple[str, Picture]]], size: tuple[int, int], mpp: float) -> Picture:
    """Panels in rows, a line of text above each and the scale bar below all."""
    width, height = size
    canvas = Image.new("RGB", (2 * width + 3 * _GAP, 2 * (height + _BAND) + _BAND + _GAP), _PAPER)
    pen = ImageDraw.Draw(canvas)
    for row, line in enumerate(panels):
        top = row * (height + _BAND)
        for column, (text, picture) in enumerate(line):
            x = _GAP + column * (width + _GAP)
            pen.text((x, top + _BAND / 2), text, _INK, _font(pen, text, width), anchor="lm")
            canvas.paste(Image.fromarray(picture), (x, top + _BAND))
    length = _round_length(0.25 * width * mpp)
    x, y = _GAP, 2 * (height + _BAND) + _BAND / 2
    pen.rectangle((x, y - 3, x + max(1, round(length / mpp)), y + 3), fill=_INK)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} um"
    pen.text((x + length / mpp + _GAP, y), text, _INK, ImageFont.load_default(_FONT), anchor="lm")
    return np.asarray(canvas, np.uint8)


def _font(pen: ImageDraw.ImageDraw, text: str, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font at the size at which the text is no wider than ``width``, at least 8 px."""
    needed = pen.textlength(text, ImageFont.load_default(_FONT))
    return ImageFont.load_default(max(8.0, min(_FONT, math.floor(_FONT * width / max(needed, 1)))))


def _round_length(um: float) -> float:
    """The largest of 1, 2, 5, 10, 20 ... that is no longer."""
    power = 10.0 ** math.floor(math.log10(um))
    return float(max(step for step in (1, 2, 5) if step * power <= um * 1.000001) * power)
