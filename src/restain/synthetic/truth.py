"""The truth beside a patient's slides: cells, landmarks, deformation and the level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restain.core.files import write_csv, write_json
from restain.synthetic.artefacts import Artefacts
from restain.synthetic.cells import BLOCK, Cells, Kind
from restain.synthetic.deformation import Points
from restain.synthetic.her2 import asco_cap_level
from restain.synthetic.options import GENERATOR_VERSION
from restain.synthetic.world import World

CELL_COLUMNS = (
    "cell",
    "kind",
    "x_ihc",
    "y_ihc",
    "x_he",
    "y_he",
    "area_ihc_um2",
    "area_he_um2",
    "area_um2",
    "membrane_class",
)
LANDMARK_COLUMNS = ("id", "x_ihc", "y_ihc", "x_he", "y_he")

_LANDMARKS_PER_SIDE = 9


def write_truth(world: World, folder: Path, artefacts: dict[str, Artefacts], lab: str) -> dict[str, object]:
    """Write ``cells.csv``, ``landmarks.csv``, ``deformation.npz`` and ``truth.json`` (the maps come with the slides).

    Args:
        world: the patient.
        folder: where to.
        artefacts: those of each slide.
        lab: the laboratory's name.

    Returns:
        The content of ``truth.json``.
    """
    counter = _Counter()
    write_csv(folder / "cells.csv", CELL_COLUMNS, counter.watch(_rows(world)))
    write_csv(folder / "landmarks.csv", LANDMARK_COLUMNS, _landmarks(world))
    world.deformation.save(folder / "deformation.npz")
    total = max(int(counter.classes.sum()), 1)
    shares = [float(count) / total for count in counter.classes]
    patient = world.patient
    truth: dict[str, object] = {
        "generator_version": GENERATOR_VERSION,
        "patient": patient.name,
        "her2": asco_cap_level(shares),
        "tumour_cells": int(counter.classes.sum()),
        "membrane_percent": {str(index): round(100 * share, 4) for index, share in enumerate(shares)},
        "lab": lab,
        "cells": {kind.name.lower(): int(counter.kinds[kind]) for kind in Kind},
        "artefacts": {stain: found.names() for stain, found in artefacts.items()},
        "traits": {
            "nuclear_radius_um": patient.nuclear_radius,
            "pleomorphism": patient.pleomorphism,
            "vesicular": patient.vesicular,
            "solidity": patient.solidity,
            "inflammation": patient.inflammation,
            "necrotic": patient.necrotic,
        },
        "options": asdict(world.options),
    }
    write_json(folder / "truth.json", truth)
    return truth


class _Counter:
    """Counts membrane classes and kinds of the rows that pass by."""

    def __init__(self) -> None:
        self.classes = np.zeros(4, dtype=np.int64)
        self.kinds = np.zeros(max(Kind) + 1, dtype=np.int64)

    def watch(self, rows: Iterator[dict[str, object]]) -> Iterator[dict[str, object]]:
        """Pass rows on and count those whose nucleus is on the IHC."""
        for row in rows:
            if row["x_ihc"] is not None:
                self.kinds[Kind[str(row["kind"]).upper()]] += 1
                if row["membrane_class"] is not None:
                    self.classes[int(str(row["membrane_class"]))] += 1
            yield row


def _rows(world: World) -> Iterator[dict[str, object]]:
    """The rows of ``cells.csv``: every cell whose nucleus shows in either slide, block by block."""
    options = world.options
    blocks = world.block_range(both=True)
    for row in blocks:
        for column in blocks:
            cells = world.block(column, row)
            if len(cells) == 0:
                continue
            place, areas, shown = _in_slides(world, cells)
            classes = world.classes(cells)
            ihc = np.column_stack([cells.x, cells.y]) / options.mpp
            for i in np.flatnonzero(shown.any(axis=1)):
                tumour = cells.kind[i] == Kind.TUMOUR
                yield {
                    "cell": int(cells.id[i]),
                    "kind": Kind(int(cells.kind[i])).name.lower(),
                    "x_ihc": f"{ihc[i, 0]:.3f}" if shown[i, 0] else None,
                    "y_ihc": f"{ihc[i, 1]:.3f}" if shown[i, 0] else None,
                    "x_he": f"{place[i, 0]:.3f}" if shown[i, 1] else None,
                    "y_he": f"{place[i, 1]:.3f}" if shown[i, 1] else None,
                    "area_ihc_um2": f"{areas[i, 0]:.2f}" if shown[i, 0] else None,
                    "area_he_um2": f"{areas[i, 1]:.2f}" if shown[i, 1] else None,
                    "area_um2": f"{np.pi * cells.a[i] * cells.b[i]:.2f}",
                    "membrane_class": int(classes[i]) if tumour else None,
                }


def _in_slides(world: World, cells: Cells) -> tuple[Points, NDArray[np.float64], NDArray[np.bool_]]:
    """H&E pixels [n, 2], outline areas [n, 2] (IHC, H&E) and whether a cell shows in each slide [n, 2]."""
    options = world.options
    points = np.column_stack([cells.x, cells.y])
    he = world.deformation.ihc_to_he_um(points)
    areas = np.stack(
        [cells.section_area(world.section(stain), options.section_thickness) for stain in ("ihc", "he")], 1
    )
    within: NDArray[np.bool_] = np.stack(
        [((place >= 0) & (place < options.side)).all(axis=1) for place in (points, he)], axis=1
    )
    nucleus = (cells.kind != Kind.ADIPOCYTE)[:, None]
    shown: NDArray[np.bool_] = (areas > 0) & within & nucleus
    return he / options.mpp, areas, shown


def _landmarks(world: World) -> Iterator[dict[str, object]]:
    """Nuclei seen in both slides, about one in each square of a coarse grid, in level-0 pixels."""
    options = world.options
    step = options.side / _LANDMARKS_PER_SIDE
    number = 0
    for row in range(_LANDMARKS_PER_SIDE):
        for column in range(_LANDMARKS_PER_SIDE):
            centre = (np.array([column, row]) + 0.5) * step
            cells = world.block(int(centre[0] // BLOCK), int(centre[1] // BLOCK))
            if len(cells) == 0:
                continue
            he, areas, shown = _in_slides(world, cells)
            distance = np.hypot(cells.x - centre[0], cells.y - centre[1])
            usable = shown.all(axis=1) & (areas.min(axis=1) > 12.0) & (distance < step / 2)
            if not usable.any():
                continue
            best = int(np.argmin(np.where(usable, distance, np.inf)))
            yield {
                "id": number,
                "x_ihc": f"{cells.x[best] / options.mpp:.3f}",
                "y_ihc": f"{cells.y[best] / options.mpp:.3f}",
                "x_he": f"{he[best, 0]:.3f}",
                "y_he": f"{he[best, 1]:.3f}",
            }
            number += 1
