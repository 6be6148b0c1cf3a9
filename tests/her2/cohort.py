"""A tiny cohort of features whose label is written in a few of the tiles, for the tests of training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from restain.her2.features_file import FeatureSet, write_features

LEVELS = ("0", "1+", "2+", "3+")


def write_cohort(
    root: Path,
    patients: int = 40,
    width: int = 8,
    tiles: int = 12,
    signal: float = 3.0,
    ihc: bool = False,
    labels: tuple[str, ...] = LEVELS,
    seed: int = 0,
) -> Path:
    """Features and cohort.csv; column k of a third of the tiles is raised for label k. Returns the CSV."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(patients):
        label = number % len(labels)
        row = {"patient": f"p{number:03d}", "he": f"slides/p{number:03d}_he.ome.tif", "her2": labels[label]}
        stains = ["he"]
        if ihc:
            row["ihc"] = f"slides/p{number:03d}_ihc.ome.tif"
            stains.append("ihc")
        for stain in stains:
            count = int(rng.integers(tiles // 2 + 1, tiles + 1))
            values = rng.normal(size=(count, width)).astype(np.float32)
            values[: max(1, count // 3), label] += signal
            write(root / stain / f"p{number:03d}_{stain}.h5", values)
        rows.append(row)
    write_rows(root / "cohort.csv", rows)
    return root / "cohort.csv"


def write(path: Path, values: np.ndarray, encoder: str = "morphometry", version: str = "1", tile: float = 512) -> None:
    """One features file; tiles lie on a grid of five columns."""
    place = np.arange(len(values))
    coords = np.stack([place % 5, place // 5], 1) * int(tile)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_features(path, FeatureSet(values, coords, tile, 0.5, encoder, version, None, path.stem))


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """A CSV with the columns of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
