"""Point pairs that a person picked on both slides, from a CSV or JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.core.files import read_csv, read_json

COLUMNS = ("x_he", "y_he", "x_ihc", "y_ihc")


def read_landmarks(
    path: str | Path, he_size: tuple[int, int] | None = None, ihc_size: tuple[int, int] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The point pairs in a file, in level-0 px.

    Args:
        path: a CSV with the columns ``x_he, y_he, x_ihc, y_ihc`` (others are ignored), or JSON: a list of
            ``{"he": [x, y], "ihc": [x, y]}``, or an object with such a list as ``landmarks``.
        he_size: (width, height) of the H&E in px; points outside are refused.
        ihc_size: likewise of the IHC.

    Returns:
        H&E points [n, 2] and the IHC points [n, 2] that show the same places.

    Raises:
        ItemError: the file cannot be read, or a column is missing.
        RestainError: a coordinate is no number, or points lie outside their slide (all of them named).
    """
    path = Path(path)
    named = _from_json(path) if path.suffix.lower() in (".json", ".geojson") else _from_csv(path)
    points = np.array([row for _, row in named], np.float64).reshape(len(named), 4)
    he, ihc = points[:, :2], points[:, 2:]
    outside = [
        f"{name}: ({x:g}, {y:g}) on the {stain} of {size[0]} x {size[1]} px"
        for stain, places, size in (("H&E", he, he_size), ("IHC", ihc, ihc_size))
        if size is not None
        for (name, _), (x, y) in zip(named, places, strict=True)
        if not (0 <= x <= size[0] and 0 <= y <= size[1])
    ]
    if outside:
        listed = "\n  ".join(outside)
        raise RestainError(
            f"{path}: {len(outside)} points lie outside their slide; coordinates are level-0 px:\n  {listed}"
        )
    return he, ihc


def _from_csv(path: Path) -> list[tuple[str, list[float]]]:
    rows = read_csv(path, COLUMNS)
    return [
        (f"line {line}", [_number(row[column], f"{path}: line {line}: {column}") for column in COLUMNS])
        for line, row in enumerate(rows, start=2)
    ]


def _from_json(path: Path) -> list[tuple[str, list[float]]]:
    document = read_json(path)
    entries = document.get("landmarks") if isinstance(document, Mapping) else document
    if not isinstance(entries, list):
        raise RestainError(f'{path}: not landmarks: expected a list of {{"he": [x, y], "ihc": [x, y]}}.')
    named = []
    for number, entry in enumerate(entries, start=1):
        row: list[float] = []
        for stain in ("he", "ihc"):
            where = f"{path}: landmark {number}: {stain}"
            point = entry.get(stain) if isinstance(entry, Mapping) else None
            if not isinstance(point, Sequence) or isinstance(point, str) or len(point) != 2:
                raise RestainError(f"{where} is not a point [x, y].")
            row += [_number(value, where) for value in point]
        named.append((f"landmark {number}", row))
    return named


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RestainError(f"{where} {value!r} is not a number of px.")
    return number
