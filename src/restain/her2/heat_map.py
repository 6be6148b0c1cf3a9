"""Where a slide model looked: attention of tiles as a picture and as QuPath polygons."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from restain.core.files import atomic_path
from restain.her2.features_file import FeatureSet
from restain.her2.heat_labels import colours_of, fitting, head, number_tiles, strip
from restain.her2.picture import scale_bar
from restain.slides import Slide

RGB = NDArray[np.uint8]

PICTURE, POLYGONS = "attention.png", "attention.geojson"
"""Names of the files of one slide."""

SIDE = 1536
"""Longest side of the picture, px."""
LEAST_SIDE = 768
"""Of a slide's shorter side, where the slide is small: it is enlarged."""
LARGEST_TILE = 24
"""Side of a tile in a picture without a slide, px."""
SHOWN = 6
"""Tiles that are shown at their own resolution."""
TENTH = 0.1
BANDS = 10
_DARKEST = 0.4
"""Of the slide under the colours, 0 to 1: lifted, so that nuclei are seen and colours too."""
_BATCH = 4096


@dataclass(frozen=True)
class Heat:
    """What a model looked at on one slide.

    Attributes:
        found: places of the tiles.
        attention: of each [n], at least 0; over all slides of a bag it sums to 1.
        rank: of each [n], 0 to 1, among all tiles of the bag: see ``ranks``.
        summary: how uneven the bag's attention is.
    """

    found: FeatureSet
    attention: NDArray[np.float64]
    rank: NDArray[np.float64]
    summary: Concentration


@dataclass(frozen=True)
class Concentration:
    """How much of a bag's attention its most looked-at tiles have: ranks alone would make any map look sharp.

    Attributes:
        top: number of these tiles, a tenth of all (at least one).
        tiles: of the bag.
        share: of the attention that they have, 0 to 1; ``top / tiles`` where it is even.
    """

    top: int
    tiles: int
    share: float

    @property
    def even(self) -> bool:
        """Whether all tiles weigh the same."""
        return self.share < 1.001 * self.top / self.tiles

    def __str__(self) -> str:
        """In words."""
        if self.even:
            return "All tiles weigh the same: this map shows nothing."
        many = f"{self.top} of {self.tiles} tiles" if self.top > 1 else f"1 of {self.tiles} tiles"
        return f"Looked at most: {many}, with {self.share:.0%} of the attention (evenly: {self.top / self.tiles:.0%})."


def heats(sets: Sequence[FeatureSet], attention: NDArray[np.floating]) -> list[Heat]:
    """The attention of a bag by its slides.

    Args:
        sets: the slides, in the bag's order.
        attention: of all tiles [n].
    """
    values = np.asarray(attention, np.float64)
    cuts = np.cumsum([len(found) for found in sets])[:-1]
    parts = zip(sets, np.split(values, cuts), np.split(ranks(values), cuts), strict=True)
    summary = concentration(values)
    return [Heat(found, own, rank, summary) for found, own, rank in parts]


def ranks(attention: NDArray[np.floating]) -> NDArray[np.float64]:
    """The share of the other tiles that have less attention than each, 0 to 1; equal ones count half.

    Attention itself spans orders of magnitude: most tiles would have one colour. Where all are equal, all are 0.5.
    """
    values = np.asarray(attention, np.float64)
    if len(values) == 1:
        return np.full(1, 0.5)
    return np.asarray((rankdata(values) - 1) / (len(values) - 1), np.float64)


def concentration(attention: NDArray[np.floating]) -> Concentration:
    """Of the attention [n] of a bag."""
    values = np.sort(np.asarray(attention, np.float64))[::-1]
    top = max(1, round(TENTH * len(values)))
    total = float(values.sum())
    return Concentration(top, len(values), float(values[:top].sum()) / total if total > 0 else top / len(values))


def draw(heat: Heat, title: str, slide: Slide | None) -> RGB:
    """The heat map over the slide in grey, and the tiles looked at most; on white where there is no slide.

    Args:
        heat: of the slide.
        title: above the picture.
        slide: that the tiles are of.

    Returns:
        uint8 RGB [h, w, 3].
    """
    found = heat.found
    end = (found.coords.max(0) + found.tile_level0).astype(float)
    width, height = slide.size if slide is not None else (end[0], end[1])
    scale = SIDE / max(width, height)
    if slide is None:
        scale = min(LARGEST_TILE / found.tile_level0, scale)
        under = np.full((max(1, round(height * scale)), max(1, round(width * scale))), 1.0, np.float32)
    else:
        scale = min(scale, max(1.0, LEAST_SIDE / min(width, height)))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        under = _lifted(
            np.asarray(cv2.resize(slide.thumbnail(max(size)), size, interpolation=cv2.INTER_AREA), np.uint8)
        )
    picture = _tinted(under, heat, scale)
    top = head(title, str(heat.summary), picture.shape[1], "grey: no tile" if slide is not None else "")
    wide = max(top.shape[1], picture.shape[1])
    rows = [top, picture]
    if slide is not None:
        many = 0 if heat.summary.even else min(SHOWN, fitting(wide))
        best = np.argsort(-heat.attention, kind="stable")[:many]
        number_tiles(picture, found.coords[best] * scale, found.tile_level0 * scale)
        if slide.mpp is not None:
            scale_bar(picture, slide.mpp / scale)
        rows += [strip(slide, found.coords[best], found.tile_level0, wide)] if many else []
    return np.concatenate([_widened(row, wide) for row in rows], 0)


def _lifted(rgb: RGB) -> NDArray[np.float32]:
    """A slide in grey [h, w], ``_DARKEST`` to 1: glass is white."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(_DARKEST + (1 - _DARKEST) * np.clip(grey / max(1.0, float(np.percentile(grey, 99))), 0, 1))


def _tinted(under: NDArray[np.float32], heat: Heat, scale: float) -> RGB:
    """Grey [h, w] times the colours of the tiles; pale where there is none."""
    number = _tile_at(under.shape[:2], heat, scale)
    colours = np.concatenate([np.ones((1, 3), np.float32), colours_of(heat.rank)])
    grey = np.where(number, under, (1 + under) / 2)
    return np.asarray(255 * grey[..., None] * colours[number], np.uint8)


def _tile_at(shape: tuple[int, ...], heat: Heat, scale: float) -> NDArray[np.int32]:
    """For each pixel the number of its tile, from 1; 0 where there is none.

    Where tiles share a pixel, the one looked at most is seen.
    """
    found = heat.found
    order = np.argsort(heat.rank, kind="stable")
    corners = found.coords[order]
    low = np.rint(corners * scale).astype(np.int32)
    high = np.maximum(np.rint((corners + found.tile_level0) * scale).astype(np.int32), low + 1)
    low, high = (np.clip(part, 0, shape[::-1]).astype(np.int32) for part in (low, high))
    wide, count = high[:, 0] - low[:, 0], (high - low).prod(axis=1)
    tile = np.repeat(np.arange(len(order), dtype=np.int32), count)  # a row for each pixel of each tile
    place = np.arange(len(tile), dtype=np.int32) - np.repeat((np.cumsum(count) - count).astype(np.int32), count)
    rows, columns = low[tile, 1] + place // wide[tile], low[tile, 0] + place % wide[tile]
    numbers = np.zeros(shape, np.int32)
    numbers[rows, columns] = order[tile] + 1  # of several values for one place, NumPy keeps the last
    return numbers


def _widened(picture: RGB, width: int) -> RGB:
    """The picture on white, ``width`` wide."""
    wide = np.full((picture.shape[0], width, 3), 255, np.uint8)
    wide[:, : picture.shape[1]] = picture
    return wide


def write_polygons(path: Path, heat: Heat, size: tuple[int, int] | None = None) -> None:
    """Write each tile as a QuPath detection in level-0 px, with its attention, its rank, and the colour of its tenth.

    Args:
        path: the GeoJSON.
        heat: of the slide.
        size: of the slide, where it is known: tiles end at its border.

    Raises:
        ItemError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        separator = "\n"
        for feature in _tiles(heat, size):
            stream.write(separator + json.dumps(feature, separators=(",", ":"), allow_nan=False))
            separator = ",\n"
        stream.write("\n]}\n")


def _tiles(heat: Heat, size: tuple[int, int] | None) -> Iterator[dict[str, object]]:
    found = heat.found
    band = np.minimum((heat.rank * BANDS).astype(int), BANDS - 1)
    colours = (colours_of((np.arange(BANDS) + 0.5) / BANDS) * 255).astype(int).tolist()
    names = [f"Attention rank {number * 10} to {number * 10 + 10} %" for number in range(BANDS)]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * found.tile_level0
    for start in range(0, len(heat.attention), _BATCH):
        rings = found.coords[start : start + _BATCH, None] + corners
        rings = rings if size is None else np.minimum(rings, size)
        for index, ring in enumerate(rings.round(2).tolist(), start=start):
            number = int(band[index])
            yield {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {
                    "objectType": "detection",
                    "classification": {"name": names[number], "color": colours[number]},
                    "measurements": {
                        "attention": float(heat.attention[index]),
                        "rank": round(float(heat.rank[index]), 5),
                    },
                },
            }
