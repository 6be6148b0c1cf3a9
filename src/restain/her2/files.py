"""The cells of a scored image as files: CSV, and GeoJSON that QuPath reads. Both are streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restain.core.files import atomic_path, write_csv
from restain.her2.score import Scored
from restain.stains.her2_classes import WHY, Why
from restain.stains.her2_membrane import ANGLES

COLUMNS = (
    "x",
    "y",
    "class",
    "counted",
    "why",
    "completeness",
    "intensity_od",
    "tumour_probability",
    "nucleus_um2",
    "elongation",
)

NAMES = ("HER2 0", "HER2 1+", "HER2 2+", "HER2 3+")
COLOURS = ((70, 130, 235), (245, 215, 60), (250, 140, 30), (215, 25, 30))
"""Class by class, RGB: as QuPath shows them, and as the picture does."""
NOT_COUNTED = (150, 150, 150)

_BATCH = 5000


def write_cells(path: Path, scored: Scored) -> None:
    """``cells.csv``: one row a cell; x, y in level-0 pixels, densities above the unstained level."""
    write_csv(path, COLUMNS, _rows(scored))


def _rows(scored: Scored) -> Iterator[dict[str, object]]:
    cells, classes = scored.cells, scored.classes
    why = [WHY[Why(number)] for number in range(len(WHY))]
    for i in range(len(cells)):
        yield {
            "x": f"{cells.x[i]:.2f}",
            "y": f"{cells.y[i]:.2f}",
            "class": int(classes.membrane[i]),
            "counted": int(classes.why[i] == Why.COUNTED),
            "why": why[classes.why[i]],
            "completeness": f"{classes.completeness[i]:.3f}",
            "intensity_od": f"{classes.intensity[i]:.4f}",
            "tumour_probability": f"{classes.tumour[i]:.3f}",
            "nucleus_um2": f"{cells.area[i]:.1f}",
            "elongation": f"{cells.elongation[i]:.2f}",
        }


def write_geojson(path: Path, scored: Scored) -> None:
    """Counted tumour cells as QuPath cell objects in level-0 pixels: membrane, nucleus, class and measurements."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        separator = "\n"
        for feature in _features(scored):
            stream.write(separator + json.dumps(feature, separators=(",", ":")))
            separator = ",\n"
        stream.write("\n]}\n")


def _features(scored: Scored) -> Iterator[dict[str, object]]:
    chosen = np.flatnonzero(scored.classes.counted)
    limits = np.array([float(side) for side in scored.document["size"]])  # type: ignore[attr-defined]
    for start in range(0, len(chosen), _BATCH):
        part = chosen[start : start + _BATCH]
        cells, classes = scored.cells.take(part), scored.classes.take(part)
        centres = np.column_stack([cells.x, cells.y]).astype(np.float64)
        # A nucleus lies in its cell: where the outline found for it reaches beyond the membrane's, the latter holds.
        radii = (cells.course, np.minimum(cells.outline, cells.course))
        rings = [_rings(centres, radius.astype(np.float64) / scored.mpp, limits) for radius in radii]
        for i in range(len(cells)):
            number = int(classes.membrane[i])
            yield {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [rings[0][i]]},
                "nucleusGeometry": {"type": "Polygon", "coordinates": [rings[1][i]]},
                "properties": {
                    "objectType": "cell",
                    "classification": {"name": NAMES[number], "color": list(COLOURS[number])},
                    "measurements": {
                        "Membrane completeness": round(float(classes.completeness[i]), 3),
                        "Membrane DAB OD": round(float(classes.intensity[i]), 4),
                        "Tumour probability": round(float(classes.tumour[i]), 3),
                        "Nucleus area um^2": round(float(cells.area[i]), 1),
                    },
                },
            }


def _rings(
    centres: NDArray[np.float64], radii: NDArray[np.float64], limits: NDArray[np.float64]
) -> list[list[list[float]]]:
    """Closed outlines in px around centres (x, y) [n, 2], from radii in px at ``ANGLES`` [n, angles].

    Each ray ends at the image's border (``limits``: width, height), so that a ring stays one whose corners follow each
    other around its centre.
    """
    every = slice(None, None, 2)  # 16 corners are enough
    ways = np.stack([np.cos(ANGLES[every]), np.sin(ANGLES[every])], axis=1)
    room = np.where(ways > 0, limits - centres[:, None], centres[:, None]) / np.maximum(np.abs(ways), 1e-9)
    lengths = np.minimum(radii[:, every], room.min(axis=2))
    ring = np.clip(centres[:, None] + lengths[..., None] * ways, 0, limits).round(1)
    closed: list[list[list[float]]] = np.concatenate([ring, ring[:, :1]], axis=1).tolist()
    return closed
