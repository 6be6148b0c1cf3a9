"""The contact sheet of quality control: the worst pairs with their reasons, and those at the border."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from restain.core.errors import ItemError
from restain.data.quality_index import sides
from restain.data.records import LoneImage, PairRecord, Side

_SIDE, _GAP, _TEXT, _COLUMNS = 160, 10, 66, 5
"""Sizes in px, and pairs in a row."""
_WORST, _BORDER = 30, 10
"""How many are shown."""


@dataclass(frozen=True)
class Entry:
    """A pair, or an image without a partner, and what was said of it.

    Attributes:
        item: the pair.
        score: 0 good to 1 bad.
        reasons: what is bad, in words; may be empty.
        closest: what it comes closest to being bad of.
    """

    item: PairRecord | LoneImage
    score: float
    reasons: tuple[str, ...]
    closest: str


def draw_sheet(dropped: Sequence[Entry], kept: Sequence[Entry]) -> NDArray[np.uint8]:
    """A picture of the worst, of those that are just dropped, and of those that are just kept.

    Args:
        dropped: those beyond the border, the worst first.
        kept: the others, the worst first.

    Returns:
        uint8 RGB [h, w, 3].
    """
    parts = [(f"The worst of {len(dropped)} dropped", dropped[:_WORST])]
    if len(dropped) > _WORST:
        parts.append(("Just dropped", dropped[max(_WORST, len(dropped) - _BORDER) :]))
    parts.append((f"Just kept, of {len(kept)}", kept[:_BORDER]))
    return np.concatenate([_section(title, entries) for title, entries in parts])


def _section(title: str, entries: Sequence[Entry]) -> NDArray[np.uint8]:
    width = _COLUMNS * (2 * _SIDE + 3 * _GAP)
    bar = Image.new("RGB", (width, 30), "white")
    ImageDraw.Draw(bar).text((_GAP, 15), title, "black", ImageFont.load_default(18), anchor="lm")
    rows = [np.asarray(bar)]
    for start in range(0, len(entries), _COLUMNS):
        cells = [_cell(entry) for entry in entries[start : start + _COLUMNS]]
        row = np.full((cells[0].shape[0], width, 3), 255, np.uint8)
        for index, cell in enumerate(cells):
            row[:, index * cell.shape[1] : (index + 1) * cell.shape[1]] = cell
        rows.append(row)
    return np.concatenate(rows)


def _cell(entry: Entry) -> NDArray[np.uint8]:
    """A pair side by side on its half of the cell, with name, score and reasons below."""
    cell = np.full((_SIDE + _TEXT, 2 * _SIDE + 3 * _GAP, 3), 255, np.uint8)
    for side, _ in sides(entry.item):
        try:
            rgb = entry.item.read_side(side)
        except ItemError:
            continue  # it was readable when it was judged
        factor = _SIDE / max(rgb.shape[:2])
        size = max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor))
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST)
        left = _left(side)
        cell[: size[1], left : left + size[0]] = small
    picture = Image.fromarray(cell)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    if isinstance(entry.item, LoneImage):
        middle = _left("ihc" if entry.item.side == "he" else "he") + _SIDE // 2
        draw.text((middle, _SIDE // 2), "no partner", "black", font, anchor="mm")
    said = "; ".join(entry.reasons) or f"closest: {entry.closest}"
    lines = [f"{entry.score:.2f}  {entry.item.split}/{entry.item.name}", *textwrap.wrap(said, 54)[:3]]
    draw.multiline_text(
        (_GAP, _SIDE + 3), "\n".join(_shortened(line, font) for line in lines), "black", font, spacing=3
    )
    return np.asarray(picture)


def _left(side: Side) -> int:
    """Where an image begins in its cell."""
    return _GAP if side == "he" else _GAP + _SIDE + 2


def _shortened(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """A line of text, cut and ended with dots where it is wider than both images."""
    if font.getlength(line) <= 2 * _SIDE:
        return line
    while line and font.getlength(f"{line}...") > 2 * _SIDE:
        line = line[:-1]
    return f"{line}..."
