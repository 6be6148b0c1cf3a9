"""Points (CSV) and shapes (QuPath's GeoJSON) carried from one slide to the other."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, RestainError
from restain.core.files import atomic_path, read_json, write_text
from restain.registration.transform import Transform

LONGEST_EDGE_UM = 100.0
"""Longer edges are divided, so that they bend with the tissue: over 100 um a displacement is nearly linear."""

_FARTHEST = 1e8
"""Coordinates beyond this many px are an error, not a place."""
_PIECES = 2000
"""At most so many pieces of an edge."""
_DEPTHS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
"""How many lists lie between a geometry's coordinates and a position."""


@dataclass(frozen=True)
class Moved:
    """What was carried over.

    Attributes:
        points: how many points there were (corners of shapes).
        outside: those that lie outside the slide they are given on; they are moved by extrapolation.
        beyond: those that come to lie outside the other slide.
    """

    points: int
    outside: int
    beyond: int


def warp_points_csv(transform: Transform, source: Path, out: Path, inverse: bool = False) -> Moved:
    """Carry the columns ``x`` and ``y`` of a CSV over; rows, their order and other columns stay as they are.

    Rows whose x and y are empty keep them so.

    Args:
        transform: the registration.
        source: the CSV; level-0 px of the IHC.
        out: the CSV to write, px to 0.001; level-0 px of the H&E.
        inverse: from the H&E to the IHC instead.

    Raises:
        ItemError: the CSV cannot be read, has no x or y, or ``out`` cannot be written.
        RestainError: a coordinate is no number (the line is named), or has no place on the other slide.
    """
    header, rows = _table(source)
    missing = [name for name in ("x", "y") if name not in header]
    if missing:
        raise ItemError(f"{source}: no column {', '.join(missing)}; it has {', '.join(header) or 'no header'}.")
    columns = header.index("x"), header.index("y")
    wanted: list[tuple[int, list[str]]] = []
    places: list[tuple[float, float]] = []
    for line, row in rows:
        texts = [row[column].strip() if column < len(row) else "" for column in columns]
        if any(texts):
            wanted.append((line, row))
            x, y = (_coordinate(text, f"{source}: line {line}: {name}") for text, name in zip(texts, "xy", strict=True))
            places.append((x, y))
    points = np.array(places, np.float64).reshape(len(places), 2)
    moved = _move(transform, points, inverse)
    for (line, row), point in zip(wanted, moved, strict=True):
        if not np.isfinite(point).all():
            raise RestainError(f"{source}: line {line} is so far outside the slide that it has no place on the other.")
        for column, value in zip(columns, point, strict=True):
            row[column] = f"{value:.3f}"
    with atomic_path(out) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(row for _, row in rows)
    return _count(transform, points, moved, inverse)


def warp_geojson(transform: Transform, source: Path, out: Path, inverse: bool = False) -> Moved:
    """Carry the shapes of a GeoJSON over, as QuPath writes and reads it.

    FeatureCollections, Features, lists of them, and bare geometries; cells keep their nucleus (``nucleusGeometry``).
    Names, classes, measurements and all else stay; only bounding boxes, and QuPath's mark that a polygon is an upright
    ellipse, are left out because they would no longer be true. Where there is an elastic part, edges longer than
    ``LONGEST_EDGE_UM`` are divided.

    Args:
        transform: the registration.
        source: the GeoJSON; level-0 px of the IHC.
        out: the GeoJSON to write, px to 0.001; level-0 px of the H&E.
        inverse: from the H&E to the IHC instead.

    Raises:
        ItemError: the file is no JSON, or ``out`` cannot be written.
        RestainError: not GeoJSON, or a position is none (the feature is named), or has no place on the other slide.
    """
    edge = math.inf
    if transform.displacement is not None:  # a homography alone keeps lines straight
        edge = LONGEST_EDGE_UM / (transform.he_mpp if inverse else transform.ihc_mpp)
    walk = _Walk(source, edge)
    try:
        document = walk.copy(read_json(source))
    except RecursionError as error:
        raise RestainError(f"{source}: not GeoJSON (nested too deeply).") from error
    points = np.concatenate([np.empty((0, 2)), *(line.points for line in walk.lines)])
    moved = _move(transform, points, inverse)
    start = 0
    for line in walk.lines:
        part = moved[start : start + len(line.points)]
        start += len(line.points)
        if not np.isfinite(part).all():
            raise RestainError(
                f"{source}: {line.name} is so far outside the slide that it has no place on the other one."
            )
        line.fill(part)
    write_text(out, json.dumps(document, ensure_ascii=False) + "\n")  # QuPath's measurements may be NaN
    return _count(transform, points, moved, inverse)


@dataclass
class _Line:
    """Positions that wait to be carried over, and the list that they go to."""

    name: str
    points: NDArray[np.float64]
    rest: list[list[Any]]  # what follows x and y in each position: altitude
    single: bool
    target: list[Any] = field(default_factory=list)

    def fill(self, moved: NDArray[np.float64]) -> None:
        positions = [[*point, *rest] for point, rest in zip(moved.round(3).tolist(), self.rest, strict=True)]
        if len(positions) > 1 and np.array_equal(self.points[0], self.points[-1]):
            positions[-1][:2] = positions[0][:2]  # closed to the last digit
        self.target.extend(positions[0] if self.single else positions)


class _Walk:
    """Copies a GeoJSON and gathers its positions: one call for all of them is what makes a million cells quick."""

    def __init__(self, source: Path, edge: float) -> None:
        self._source, self._edge, self._name = source, edge, "the geometry"
        self._features = 0
        self.lines: list[_Line] = []

    def copy(self, node: Any) -> Any:
        """The document with empty lists where positions go."""
        if isinstance(node, list):
            return [self.copy(item) for item in node]
        kind = node.get("type") if isinstance(node, dict) else None
        if kind == "FeatureCollection":
            return {**_without_box(node), "features": [self.copy(item) for item in self._list(node, "features")]}
        if kind == "Feature":
            self._features += 1
            self._name = f"feature {self._features}"
            return {
                key: self._geometry(value) if key in ("geometry", "nucleusGeometry") else value
                for key, value in _without_box(node).items()
            }
        return self._geometry(node)

    def _geometry(self, node: Any) -> Any:
        if node is None:
            return None
        kind = node.get("type") if isinstance(node, dict) else None
        if kind == "GeometryCollection":
            return {
                **_without_box(node),
                "geometries": [self._geometry(item) for item in self._list(node, "geometries")],
            }
        if not isinstance(kind, str) or kind not in _DEPTHS:
            raise RestainError(f"{self._source}: {self._name} is not GeoJSON (of type {kind!r}).")
        coordinates = self._coordinates(self._list(node, "coordinates"), _DEPTHS[kind], kind)
        return {**_without_box(node), "coordinates": coordinates}

    def _list(self, node: dict[str, Any], key: str) -> list[Any]:
        value = node.get(key)
        if not isinstance(value, list):
            raise RestainError(f"{self._source}: {self._name}: no list of {key}.")
        return value

    def _coordinates(self, value: Any, depth: int, kind: str) -> list[Any]:
        if not isinstance(value, list):
            raise RestainError(f"{self._source}: {self._name}: the coordinates are no {kind}.")
        if depth > 1:
            return [self._coordinates(item, depth - 1, kind) for item in value]
        positions = [value] if depth == 0 else value
        if not positions:
            return []
        points = np.empty((len(positions), 2))
        rest = []
        for index, position in enumerate(positions):
            if not isinstance(position, list) or len(position) < 2:
                raise RestainError(f"{self._source}: {self._name}: {position!r} is not a position [x, y].")
            points[index] = [_coordinate(number, f"{self._source}: {self._name}:") for number in position[:2]]
            rest.append(position[2:])
        if kind not in ("Point", "MultiPoint") and math.isfinite(self._edge):
            points, rest = self._divided(points, rest)
        line = _Line(self._name, points, rest, single=depth == 0)
        self.lines.append(line)
        return line.target

    def _divided(
        self, points: NDArray[np.float64], rest: list[list[Any]]
    ) -> tuple[NDArray[np.float64], list[list[Any]]]:
        """The line with long edges in equal pieces; new positions take what follows x and y from the edge's start."""
        length = np.hypot(*np.diff(points, axis=0).T)
        pieces = np.clip(np.ceil(length / self._edge), 1, _PIECES).astype(np.int64)
        if pieces.sum() == len(pieces):
            return points, rest
        index = np.repeat(np.arange(len(pieces)), pieces)
        share = (np.arange(len(index)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) / pieces[index]
        inner = points[index] + share[:, None] * (points[index + 1] - points[index])
        return np.concatenate([inner, points[-1:]]), [*(rest[i] for i in index), rest[-1]]


def _without_box(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in ("bbox", "isEllipse")}


def _move(transform: Transform, points: NDArray[np.float64], inverse: bool) -> NDArray[np.float64]:
    return transform.he_to_ihc(points) if inverse else transform.ihc_to_he(points)


def _count(transform: Transform, points: NDArray[np.float64], moved: NDArray[np.float64], inverse: bool) -> Moved:
    sizes = (transform.he_size, transform.ihc_size) if inverse else (transform.ihc_size, transform.he_size)
    outside, beyond = (
        int(((places < 0) | (places > size)).any(axis=1).sum())
        for places, size in zip((points, moved), sizes, strict=True)
    )
    return Moved(len(points), outside, beyond)


def _coordinate(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= _FARTHEST:
        raise RestainError(f"{where} {value!r} is not a number of px.")
    return number


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a CSV, and its rows each with the line that it ends on."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            return header, [(reader.line_num, row) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        raise ItemError(f"{path}: not a readable CSV ({error}).") from error
