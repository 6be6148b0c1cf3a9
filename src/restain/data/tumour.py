"""Where the tumour is: from a pathologist's polygons (QuPath GeoJSON), or from the cells of a synthetic patient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.core.files import read_csv, read_json
from restain.slides import CoarseMask, Slide, coarse_downsample

CELL_UM = 12.0
"""Tissue within this distance of the middle of a tumour cell is tumour: nests become one area."""

_FRACTION_BITS = 6
"""Vertices are drawn to 1/64 of a mask pixel."""

Ring = NDArray[np.float64]


def read_tumour(path: Path, slide: Slide, stain: Literal["he", "ihc"] = "ihc") -> CoarseMask:
    """The tumour on a slide.

    Args:
        path: QuPath GeoJSON: its polygons of class ``Tumor`` (or ``Tumour``; ``Tumor: HER2`` too) and those without a
            class, in level-0 px of the slide, holes left out. Or a CSV of cells, ``kind,x_ihc,y_ihc``, of which those
            of kind ``tumour`` count, as synthetic patients have it (``x_he,y_he`` for the H&E).
        slide: open, with an um/px.
        stain: which columns of a CSV belong to the slide.

    Returns:
        The tumour on a grid of at most 8 um. A file without any polygon or cell is a slide without tumour.

    Raises:
        ItemError: the file is missing, cannot be read, is neither, has polygons of other classes only, or none of what
            it shows lies on the slide.
    """
    if not path.is_file():
        raise ItemError(f"{path}: no such file. The cohort's column tumour names it, relative to the table's folder.")
    downsample = coarse_downsample(slide)
    width, height = slide.size
    canvas = np.zeros((math.ceil(height / downsample), math.ceil(width / downsample)), np.uint8)
    if path.suffix.lower() == ".csv":
        places = _cells(path, stain)
        inside = ((places >= 0) & (places < slide.size)).all(axis=1)
        found, on_slide = len(places) > 0, bool(inside.any())
        radius = round(CELL_UM / (slide.require_mpp() * downsample))
        for x, y in np.floor(places[inside] / downsample).astype(np.int64).tolist():
            cv2.circle(canvas, (x, y), radius, 1, -1)
    else:
        polygons = _polygons(path)
        found, on_slide = bool(polygons), False
        for rings in polygons:
            low, high = rings[0].min(axis=0), rings[0].max(axis=0)
            if (high <= 0).any() or (low >= slide.size).any():
                continue
            on_slide = True
            # one call for a polygon and its holes: cv2 fills by the even-odd rule
            cv2.fillPoly(canvas, [_drawn(ring, downsample, canvas.shape) for ring in rings], 1, shift=_FRACTION_BITS)
    if found and not on_slide:
        raise ItemError(
            f"{path}: none of its tumour lies on {slide.path} ({width}x{height} px). It must be in level-0 px of that "
            "slide."
        )
    return CoarseMask(canvas.astype(np.bool_), downsample, slide.size)


def _cells(path: Path, stain: str) -> NDArray[np.float64]:
    """Tumour cells that are on the slide, [n, 2] in level-0 px."""
    columns = (f"x_{stain}", f"y_{stain}")
    rows = read_csv(path, required=["kind", *columns])
    texts = [[row[column] for column in columns] for row in rows if row["kind"] == "tumour" and row[columns[0]]]
    try:
        places = np.array(texts, np.float64).reshape(-1, 2)
    except ValueError as error:
        raise ItemError(f"{path}: {' and '.join(columns)} must be numbers of px ({error}).") from error
    return places


def _polygons(path: Path) -> list[list[Ring]]:
    """Polygons, each its outline and its holes, of class tumour or none.

    Raises:
        ItemError: not GeoJSON, or polygons of other classes only.
    """
    document = read_json(path)
    polygons: list[list[Ring]] = []
    others: set[str] = set()
    try:
        for name, geometry in _geometries(document):
            found = [[_ring(ring) for ring in rings] for rings in _areas(geometry) if rings]
            if name is None or name.lower().startswith(("tumor", "tumour")):
                polygons += found
            elif found:
                others.add(name)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ItemError(f"{path}: not GeoJSON with polygons as QuPath exports it ({error}).") from error
    if others and not polygons:
        raise ItemError(
            f"{path}: no polygon is of class Tumor or without a class; there are {', '.join(sorted(others))}."
        )
    return polygons


def _geometries(node: Any) -> Iterator[tuple[str | None, Any]]:
    """The geometries of a GeoJSON document with the QuPath class of their feature."""
    if isinstance(node, list):
        for item in node:
            yield from _geometries(item)
    elif node["type"] == "FeatureCollection":
        yield from _geometries(node["features"])
    elif node["type"] == "Feature":
        classification = (node.get("properties") or {}).get("classification") or {}
        yield classification.get("name"), node["geometry"]
    else:
        yield None, node


def _areas(geometry: Any) -> Iterator[list[Any]]:
    """The rings of each polygon of a geometry; points and lines have none."""
    if geometry is None:
        return
    kind = geometry["type"]
    if kind == "Polygon":
        yield geometry["coordinates"]
    elif kind == "MultiPolygon":
        yield from geometry["coordinates"]
    elif kind == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _areas(part)


def _ring(positions: Any) -> Ring:
    ring = np.array([position[:2] for position in positions], np.float64)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError("a ring is not a list of at least three positions [x, y]")
    return ring


def _drawn(ring: Ring, downsample: float, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """A ring in the fixed-point mask pixels of OpenCV, which counts from pixel centres."""
    reach = 4.0 * max(shape)  # beyond, numbers that fit no slide would overflow
    pixels = np.clip(ring / downsample - 0.5, -reach, reach)
    return np.rint(pixels * (1 << _FRACTION_BITS)).astype(np.int32)
