"""Polygons out of GeoJSON as QuPath and restain write it, feature by feature: memory does not hold the document.

Files may come from anywhere. Features that make no sense are passed over; a file that is no GeoJSON, ends early, or is
too large is refused.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.web.overlays.shapes import Shapes, no_shapes

LARGEST_FILE = 512 * 2**20
MOST_VERTICES = 24_000_000
"""Of all rings (192 MiB); our cells have 34."""

_CHUNK = 2**20
_LONGEST_FEATURE = 8 * 2**20
"""Characters: an annotation of 400,000 corners."""
_HEAD = re.compile(r'"features"\s*:\s*\[')
_SEPARATOR = re.compile(r"[\s,]*")
_MOST_CLASSES = 64
_UNCLASSIFIED = (150, 150, 150)


@dataclass(frozen=True)
class Drawing:
    """What a GeoJSON shows.

    Attributes:
        names: of the classes, by group.
        outlines: the features' own polygons.
        nuclei: those of their nuclei, where they are cells.
        ranks: ``rank`` among the measurements of each outline [n], NaN where there is none.
    """

    names: tuple[str, ...]
    outlines: Shapes
    nuclei: Shapes
    ranks: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Of memory."""
        return self.outlines.nbytes + self.nuclei.nbytes + self.ranks.nbytes


def read_geojson(path: Path) -> Drawing:
    """The polygons of a GeoJSON.

    Args:
        path: a FeatureCollection, or a list of features. Of polygons with holes the outline is taken; each part of a
            multipolygon is a shape of its own; points and lines are passed over.

    Raises:
        ItemError: the file cannot be read, is damaged or too large, or is no GeoJSON.
    """
    classes = _Classes()
    outlines, nuclei = _Rings(path), _Rings(path)
    ranks = array("f")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ItemError(f"{path.name}: larger than {LARGEST_FILE >> 20} MiB; show a smaller part of it.")
        with path.open(encoding="utf-8", errors="replace") as stream:
            for feature in _features(stream):
                if not isinstance(feature, dict):
                    continue
                properties = feature.get("properties")
                properties = properties if isinstance(properties, dict) else {}
                group = classes.group(properties.get("classification"))
                added = outlines.add(feature.get("geometry"), group)
                ranks.extend([_rank(properties.get("measurements"))] * added)
                nuclei.add(feature.get("nucleusGeometry"), group)
    except (OSError, ValueError, RecursionError) as error:
        raise ItemError(f"{path.name}: not a readable GeoJSON ({error}). Write it again.") from error
    palette = np.array(classes.colours or [_UNCLASSIFIED], np.uint8)
    shapes = outlines.shapes(palette)
    sound = shapes.sound()
    values = np.frombuffer(ranks, np.float32)
    return Drawing(tuple(classes.names), shapes.take(sound), nuclei.shapes(palette).only_sound(), values[sound])


def _features(stream: TextIO) -> Iterator[Any]:
    """The features of a document one by one."""
    text = stream.read(_CHUNK)
    head = _HEAD.search(text)
    if head is not None:
        place = head.end()
    elif text.lstrip().startswith("["):
        place = text.index("[") + 1
    else:
        raise ValueError('no list of "features" at its beginning')
    decoder = json.JSONDecoder()
    while True:
        separator = _SEPARATOR.match(text, place)
        place = separator.end() if separator is not None else place
        if text.startswith("]", place):
            return
        try:
            feature, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError:
            more = stream.read(max(_CHUNK, len(text) - place))
            text, place = text[place:] + more, 0
            if not more:
                raise ValueError("it ends early, or is damaged") from None
            if len(text) > _LONGEST_FEATURE:
                raise ValueError("a feature is damaged or too large") from None
            continue
        yield feature


class _Classes:
    """Names and colours of the classes that were met."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.colours: list[tuple[int, int, int]] = []
        self._numbers: dict[tuple[str, tuple[int, int, int]], int] = {}

    def group(self, classification: object) -> int:
        """The number of a feature's class; of those beyond the most that are told apart, the last one."""
        found = classification if isinstance(classification, dict) else {}
        name = str(found.get("name", ""))[:80]
        key = (name, _colour(found))
        number = self._numbers.get(key)
        if number is None:
            number = len(self.names)
            if number >= _MOST_CLASSES:
                return _MOST_CLASSES - 1
            self._numbers[key] = number
            self.names.append(name)
            self.colours.append(key[1])
        return number


@dataclass
class _Rings:
    """Rings as they are collected."""

    path: Path
    numbers: array[float] = field(default_factory=lambda: array("f"))
    counts: array[int] = field(default_factory=lambda: array("q"))
    groups: array[int] = field(default_factory=lambda: array("B"))

    def add(self, geometry: object, group: int) -> int:
        """Take the polygons of a geometry; how many they were."""
        if not isinstance(geometry, dict):
            return 0
        kind, parts = geometry.get("type"), geometry.get("coordinates")
        if not isinstance(parts, list):
            return 0
        polygons = parts if kind == "MultiPolygon" else [parts] if kind == "Polygon" else []
        added = 0
        for polygon in polygons:
            ring = _flat(polygon)
            if ring is not None:
                self.numbers.extend(ring)
                self.counts.append(len(ring) // 2)
                self.groups.append(group)
                added += 1
        if len(self.numbers) > 2 * MOST_VERTICES:
            raise ItemError(f"{self.path.name}: has more than {MOST_VERTICES:,} corners; show a smaller part of it.")
        return added

    def shapes(self, palette: NDArray[np.uint8]) -> Shapes:
        """As arrays."""
        if not self.groups:
            return no_shapes(palette)
        starts = np.concatenate([[0], np.cumsum(np.frombuffer(self.counts, np.int64))])
        vertices = np.frombuffer(self.numbers, np.float32).reshape(-1, 2)
        return Shapes(vertices, starts, np.frombuffer(self.groups, np.uint8), palette)


def _flat(polygon: object) -> array[float] | None:
    """x, y, x, y ... of a polygon's outline; None where it is none."""
    ring = polygon[0] if isinstance(polygon, list) and polygon else None
    if not isinstance(ring, list) or len(ring) < 3:
        return None
    try:
        numbers = array("f", chain.from_iterable(ring))
    except (TypeError, OverflowError, ValueError):
        return None
    return numbers if len(numbers) == 2 * len(ring) else None


def _colour(classification: dict[str, Any]) -> tuple[int, int, int]:
    """``color`` [r, g, b], or ``colorRGB`` as older QuPath writes it: red, green and blue as bytes of an integer."""
    given = classification.get("color")
    if isinstance(given, list) and len(given) == 3 and all(isinstance(part, int) for part in given):
        red, green, blue = (min(max(part, 0), 255) for part in given)
        return red, green, blue
    packed = classification.get("colorRGB")
    if isinstance(packed, int):
        return (packed >> 16) & 255, (packed >> 8) & 255, packed & 255
    return _UNCLASSIFIED


def _rank(measurements: object) -> float:
    value = measurements.get("rank") if isinstance(measurements, dict) else None
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= 1 else float("nan")
