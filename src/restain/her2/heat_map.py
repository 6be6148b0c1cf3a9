"""Where a slide model looked: attention of tiles as a picture and as QuPath polygons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from restain.core.files import atomic_path
from restain.her2.features_file import FeatureSet
from restain.slides import Slide

COLOURS = "inferno"
OPACITY = 0.55
SIDE = 1536
"""Longest side of the picture, px."""
LARGEST_TILE = 24
"""Side of a tile in a picture without a slide, px."""
HEAD = 64
BANDS = 10
_BATCH = 4096


def ranks(attention: NDArray[np.floating]) -> NDArray[np.float64]:
    """Each tile's share of tiles with at most its attention, in (0, 1]; equal tiles are equal.

    Attention itself spans orders of magnitude: most tiles would have one colour.
    """
    values = np.asarray(attention, np.float64)
    ordered = np.sort(values)
    return np.asarray(np.searchsorted(ordered, values, side="right") / len(values))


def draw(found: FeatureSet, attention: NDArray[np.floating], title: str, slide: Slide | None) -> NDArray[np.uint8]:
    """The heat map over the slide, or on white where there is no slide, with a title, uint8 RGB.

    Args:
        found: places of the tiles.
        attention: of each tile [n].
        title: above the picture.
        slide: that the tiles are of.
    """
    end = (found.coords.max(0) + found.tile_level0).astype(float)
    width, height = slide.size if slide is not None else (end[0], end[1])
    scale = min(1.0 if slide is not None else LARGEST_TILE / found.tile_level0, SIDE / max(width, height))
    if slide is not None:
        picture = slide.thumbnail(max(1, round(max(width, height) * scale)))
        scale = picture.shape[1] / width
    else:
        picture = np.full((max(1, round(height * scale)), max(1, round(width * scale)), 3), 255, np.uint8)
    rank = ranks(attention)
    colours = (np.asarray(mpl.colormaps[COLOURS](rank))[:, :3] * 255).astype(np.uint8)
    layer, there = picture.copy(), np.zeros(picture.shape[:2], bool)
    low = np.floor(found.coords * scale).astype(int)
    high = np.maximum(np.floor((found.coords + found.tile_level0) * scale).astype(int), low + 1)
    for index in np.argsort(rank, kind="stable"):  # where tiles share a pixel, the one looked at most is seen
        place = slice(low[index, 1], high[index, 1]), slice(low[index, 0], high[index, 0])
        layer[place], there[place] = colours[index], True
    mixed = cv2.addWeighted(picture, 1 - OPACITY, layer, OPACITY, 0) if slide is not None else layer
    picture = np.where(there[..., None], mixed, picture)
    return np.asarray(np.concatenate([_head(title, picture.shape[1]), _widened(picture)], 0), np.uint8)


def write_polygons(path: Path, found: FeatureSet, attention: NDArray[np.floating]) -> None:
    """Write each tile as a QuPath detection in level-0 px, with its attention, its rank, and the colour of its tenth.

    Raises:
        ItemError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        separator = "\n"
        for feature in _tiles(found, np.asarray(attention, np.float64)):
            stream.write(separator + json.dumps(feature, separators=(",", ":"), allow_nan=False))
            separator = ",\n"
        stream.write("\n]}\n")


def _tiles(found: FeatureSet, attention: NDArray[np.float64]) -> Iterator[dict[str, object]]:
    rank = ranks(attention)
    band = np.minimum((rank * BANDS - 1e-9).astype(int), BANDS - 1)
    colours = (np.asarray(mpl.colormaps[COLOURS]((np.arange(BANDS) + 0.5) / BANDS))[:, :3] * 255).astype(int).tolist()
    names = [f"Attention {number * 10} to {number * 10 + 10} %" for number in range(BANDS)]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * found.tile_level0
    for start in range(0, len(attention), _BATCH):
        rings = (found.coords[start : start + _BATCH, None] + corners).round(2).tolist()
        for index, ring in enumerate(rings, start=start):
            number = int(band[index])
            yield {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {
                    "objectType": "detection",
                    "classification": {"name": names[number], "color": colours[number]},
                    "measurements": {"attention": float(attention[index]), "rank": round(float(rank[index]), 5)},
                },
            }


def _head(title: str, width: int) -> NDArray[np.uint8]:
    """Title and scale of colours."""
    sheet = Image.new("RGB", (max(width, 480), HEAD), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((8, 4), title, "black", ImageFont.load_default(18))
    pen.text((8, 36), "attention, by rank: low", "black", ImageFont.load_default(14))
    for step in range(100):
        colour = tuple(int(255 * part) for part in mpl.colormaps[COLOURS](step / 99)[:3])
        pen.rectangle((170 + step, 38, 171 + step, 52), fill=colour)
    pen.text((276, 36), "high   (research use only)", "black", ImageFont.load_default(14))
    return np.asarray(sheet)


def _widened(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture on white, at least as wide as the head."""
    wide = np.full((picture.shape[0], max(picture.shape[1], 480), 3), 255, np.uint8)
    wide[:, : picture.shape[1]] = picture
    return wide
