"""Which cell got what: the whole slide, and the fields with most cells of each class at full resolution."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from restain.her2.files import COLOURS, NAMES, NOT_COUNTED
from restain.her2.score import Scored
from restain.slides import Slide
from restain.stains.her2_membrane import ANGLES

_OVERVIEW = 1400
_FIELD_UM, _FIELD_PX = 128.0, 512
"""Side of a field in um, and in px of the picture."""
_GAP, _BAR, _HEAD = 12, 40, 96
_BARS_UM = (10000, 5000, 2000, 1000, 500, 200, 100, 50, 20, 10)

RGB = NDArray[np.uint8]


def score_picture(slide: Slide, scored: Scored) -> RGB:
    """The overview with a dot on each counted cell, and up to four fields, as they are and with their cells drawn.

    Args:
        slide: the scored slide, open.
        scored: its result.

    Returns:
        uint8 RGB [h, w, 3].
    """
    overview = _overview(slide, scored)
    fields = _fields(scored)
    columns = [_field(slide, scored, _inside(slide, scored, corner), title) for corner, title in fields]
    width = max(overview.shape[1], len(columns) * (_FIELD_PX + _GAP) - _GAP, 900)
    rows = [_banner(scored, width), overview]
    if columns:
        gap = np.full((columns[0].shape[0], _GAP, 3), 255, np.uint8)
        strip = [part for column in columns for part in (column, gap)][:-1]
        rows.append(np.concatenate(strip, axis=1))
    return np.concatenate([_widened(row, width) for row in rows], axis=0)


def _overview(slide: Slide, scored: Scored) -> RGB:
    image = slide.thumbnail(_OVERVIEW)
    factor = image.shape[1] / slide.size[0]
    if factor >= 1 and max(image.shape[:2]) < _OVERVIEW / 2:  # small images are enlarged
        grow = _OVERVIEW // (2 * max(image.shape[:2])) + 1
        image = np.asarray(cv2.resize(image, None, fx=grow, fy=grow, interpolation=cv2.INTER_CUBIC), np.uint8)
        factor *= grow
    image = np.ascontiguousarray(image)
    cells, classes = scored.cells, scored.classes
    size = float(np.clip(1.6 * factor / scored.mpp, 1, 4))  # a dot of 1.6 um radius, if that can be seen
    for number, colour in enumerate(COLOURS):  # the strongest on top
        chosen = classes.counted & (classes.membrane == number)
        _dots(image, cells.x[chosen] * factor, cells.y[chosen] * factor, size, colour)
    scale_bar(image, scored.mpp / factor)
    return image


def _dots(image: RGB, x: NDArray[np.float64], y: NDArray[np.float64], radius: float, colour: tuple[int, ...]) -> None:
    """Filled circles, all at once."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    mask[y[inside].astype(int), x[inside].astype(int)] = 1
    side = 2 * round(radius) + 1
    image[cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) > 0] = colour


def _fields(scored: Scored) -> list[tuple[tuple[float, float], str]]:
    """Upper left corners (level-0 pixels) of the fields with most cells of class 3, 2, 1 and 0, and their titles."""
    cells, classes = scored.cells, scored.classes
    side = _FIELD_UM / scored.mpp
    found: list[tuple[tuple[float, float], str]] = []
    for number in (3, 2, 1, 0):
        chosen = classes.counted & (classes.membrane == number)
        x, y = cells.x[chosen], cells.y[chosen]
        for (left, top), _ in found:
            free = ~((np.abs(x - left - side / 2) < side) & (np.abs(y - top - side / 2) < side))
            x, y = x[free], y[free]
        if len(x) < 3:
            continue
        column, row = (x / side * 2).astype(int), (y / side * 2).astype(int)
        grid = np.zeros((row.max() + 2, column.max() + 2))
        np.add.at(grid, (row, column), 1)
        sums = cv2.boxFilter(grid, -1, (2, 2), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT)
        best_row, best_column = divmod(int(sums.argmax()), sums.shape[1])
        found.append(((best_column * side / 2, best_row * side / 2), f"most of {NAMES[number]}"))
    return found


def _inside(slide: Slide, scored: Scored, corner: tuple[float, float]) -> tuple[float, float]:
    """The corner, moved so that the field lies on the slide where it is large enough."""
    side = _FIELD_UM / scored.mpp
    x, y = (max(0.0, min(low, extent - side)) for low, extent in zip(corner, slide.size, strict=True))
    return x, y


def _field(slide: Slide, scored: Scored, corner: tuple[float, float], title: str) -> RGB:
    """A field as it is, and below it with every cell's membrane in its class's colour; others have a grey dot."""
    side = _FIELD_UM / scored.mpp
    native = max(8, round(side))
    raw = slide.read(corner[0], corner[1], native, native)
    raw = np.asarray(cv2.resize(raw, (_FIELD_PX, _FIELD_PX), interpolation=cv2.INTER_CUBIC), np.uint8)
    drawn = np.ascontiguousarray(raw.copy())
    factor = _FIELD_PX / side
    cells, classes = scored.cells, scored.classes
    near = (np.abs(cells.x - corner[0] - side / 2) < 0.6 * side) & (np.abs(cells.y - corner[1] - side / 2) < 0.6 * side)
    cells, classes = cells.take(near), classes.take(near)
    x, y = (cells.x - corner[0]) * factor, (cells.y - corner[1]) * factor
    radius = cells.course.astype(np.float64) / scored.mpp * factor
    lines = np.stack([x[:, None] + radius * np.cos(ANGLES), y[:, None] + radius * np.sin(ANGLES)], axis=2)
    for number, colour in enumerate(COLOURS):
        chosen = classes.counted & (classes.membrane == number)
        contours = list(np.rint(lines[chosen] * 16).astype(np.int32))
        cv2.polylines(drawn, contours, True, colour, 2, cv2.LINE_AA, shift=4)
    _dots(drawn, x[~classes.counted], y[~classes.counted], 4, NOT_COUNTED)
    for picture in (raw, drawn):
        scale_bar(picture, scored.mpp / factor)
    head = _text(title, _FIELD_PX, 28, 17)
    return np.concatenate([head, raw, np.full((_GAP, _FIELD_PX, 3), 255, np.uint8), drawn], axis=0)


def scale_bar(image: RGB, mpp: float) -> None:
    """A bar of a round number of um at the lower left; ``mpp`` is the picture's."""
    length = next((um for um in _BARS_UM if um / mpp <= image.shape[1] / 4), _BARS_UM[-1])
    pixels, bottom = round(length / mpp), image.shape[0] - 12
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length} um"
    box = _text(label, max(pixels + 16, 70), 34, 14)
    box[26:30, 8 : 8 + pixels] = 0
    height, width = min(box.shape[0], image.shape[0]), min(box.shape[1], image.shape[1] - 8)
    top = max(0, bottom - height)
    if width > 0:
        image[top : top + height, 8 : 8 + width] = box[:height, :width]


def _banner(scored: Scored, width: int) -> RGB:
    """Name, score, reason and legend."""
    document = scored.document
    name = str(document["image"]).rsplit("/", 1)[-1]
    sheet = Image.new("RGB", (width, _HEAD), "white")
    draw = ImageDraw.Draw(sheet)
    score = document["score"]
    title = f"{name}: HER2 {score}" if score is not None else f"{name}: no score"
    draw.text((8, 4), title, "black", ImageFont.load_default(24))
    draw.text((8, 36), f"{document['reason']}  (research use only)", "black", ImageFont.load_default(16))
    x = 8.0
    percent = document["percent"]
    assert isinstance(percent, dict)
    entries = [
        (colour, f"{label} ({percent.get(label.removeprefix('HER2 '), 0):g} %)")
        for colour, label in zip(COLOURS, NAMES, strict=True)
    ]
    for colour, label in [*entries, (NOT_COUNTED, "not counted")]:
        draw.rectangle((x, 66, x + 18, 84), fill=colour, outline="black")
        font = ImageFont.load_default(16)
        draw.text((x + 24, 75), label, "black", font, anchor="lm")
        x += 24 + draw.textlength(label, font) + 24
    return np.asarray(sheet)


def _text(text: str, width: int, height: int, size: int) -> RGB:
    sheet = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(sheet).text((8, 4), text, "black", ImageFont.load_default(size))
    return np.array(sheet)


def _widened(image: RGB, width: int) -> RGB:
    """The picture on white, ``width`` px wide, with a gap below."""
    sheet = np.full((image.shape[0] + _GAP, width, 3), 255, np.uint8)
    sheet[: image.shape[0], : image.shape[1]] = image
    return sheet
