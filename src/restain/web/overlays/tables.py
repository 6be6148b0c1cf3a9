"""Rows of CSV files that overlays show: cells of a scored slide, patches of a dataset."""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json
from restain.web.outside import own_file, short_lines

LARGEST_FILE = 256 * 2**20
_MOST_ROWS = 4_000_000
_LARGEST_RECORD = 2**24
"""Bytes of a ``build.json``, as in the library."""
_LARGEST_PATCH = 100_000
_FARTHEST = 1e7

T = TypeVar("T")


@dataclass(frozen=True)
class Cells:
    """Centres of cells in level-0 px, float64 [n, 2]."""

    centres: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Of memory."""
        return self.centres.nbytes


@dataclass(frozen=True)
class Patches:
    """Patches of one slide pair.

    Attributes:
        corners: upper left, level-0 px, float64 [n, 2].
        um: length of their sides in um, [n]; NaN where the table does not say it.
        side: [n]: ``he`` or ``ihc`` for a patch of that slide alone, empty for a pair.
        reason: [n]: why a patch was dropped; empty: it was kept.
        aligned: whether the slides of the pair lie on each other px by px.
    """

    corners: NDArray[np.float64]
    um: NDArray[np.float64]
    side: tuple[str, ...]
    reason: tuple[str, ...]
    aligned: bool

    @property
    def nbytes(self) -> int:
        """Of memory."""
        return 200 * len(self.side)


def read_cells(path: Path) -> Cells:
    """The centres in a ``cells.csv``; rows whose numbers make no sense are passed over.

    Raises:
        ItemError: the file cannot be read, is too large, or has no columns ``x`` and ``y``.
    """

    def collected(rows: Iterator[dict[str, str]]) -> Cells:
        places = array("d")
        for row in rows:
            place = _number(row.get("x")), _number(row.get("y"))
            if all(abs(value) < _FARTHEST for value in place):  # also not NaN
                places.extend(place)
        return Cells(np.frombuffer(places, np.float64).reshape(-1, 2))

    return _read(path, ("x", "y"), collected)


def read_patches(path: Path, item: str) -> Patches:
    """The patches of one slide pair in a ``pairs.csv``.

    Args:
        path: the file; ``build.json`` beside it gives the size of patches and whether the slides are aligned.
        item: what the column ``slide`` calls the pair.

    Raises:
        ItemError: the file cannot be read, is too large, or has no columns ``x``, ``y`` and ``slide``.
    """
    size, aligned = _built(path.with_name("build.json"))

    def collected(rows: Iterator[dict[str, str]]) -> Patches:
        places, um, sides, reasons = array("d"), array("d"), [], []
        for row in rows:
            place = _number(row.get("x")), _number(row.get("y"))
            if row.get("slide") != item or not all(abs(value) < _FARTHEST for value in place):
                continue
            places.extend(place)
            um.append(size * _number(row.get("mpp")))
            sides.append((row.get("side") or "").strip())
            dropped = (row.get("kept") or "1").strip().lower() in {"0", "false", "no"}
            reasons.append(((row.get("reason") or "").strip()[:80] or "no reason given") if dropped else "")
        corners = np.frombuffer(places, np.float64).reshape(-1, 2)
        return Patches(corners, np.frombuffer(um, np.float64), tuple(sides), tuple(reasons), aligned)

    return _read(path, ("x", "y", "slide"), collected)


def _read(path: Path, columns: tuple[str, ...], collect: Callable[[Iterator[dict[str, str]]], T]) -> T:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ItemError(f"{path.name}: larger than {LARGEST_FILE >> 20} MiB; show a smaller one.")
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
            reader = csv.reader(short_lines(stream))
            names = next(reader, [])
            missing = [name for name in columns if name not in names]
            if missing:
                raise ItemError(f"{path.name}: no column {', '.join(missing)}. Write the file again with restain.")
            rows = (dict(zip(names, row, strict=False)) for row in _some(reader))
            return collect(rows)
    except (OSError, ValueError, csv.Error) as error:
        raise ItemError(f"{path.name}: not a readable CSV ({error}).") from error


def _some(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    for number, row in enumerate(rows):
        if number >= _MOST_ROWS:
            raise ValueError(f"more than {_MOST_ROWS:,} rows")
        yield row


def _built(path: Path) -> tuple[float, bool]:
    """Side of the patches in px (NaN: not known), and whether the slides were aligned already."""
    try:
        if not own_file(path) or path.stat().st_size > _LARGEST_RECORD:
            return math.nan, False
        config = read_json(path)["settings"]["config"]
        size = config["size"]
        sound = isinstance(size, int) and 0 < size <= _LARGEST_PATCH
        return (float(size) if sound else math.nan), config.get("aligned") is True
    except (RestainError, OSError, KeyError, TypeError, AttributeError):
        return math.nan, False


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
