"""The demo's own part of its report: held-out patients beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.report import Facts, Note, PictureRow, PictureTable, Section, Table, Text, photo
from restain.slides import open_slide
from restain.stains import dab

PICTURE = 480
"""Side of the pictures, px."""
FIELD = 256
"""Side of the enlarged fields, level-0 px."""
COLUMNS = ["H&E", "virtual IHC", "real IHC"]
MEMBRANE_COLUMNS = ("virtual_on", "virtual_off", "real_on", "real_off")


@dataclass(frozen=True)
class Patient:
    """A held-out patient: name, level by the truth, and files."""

    name: str
    level: str
    he: Path
    ihc: Path
    virtual: Path
    truth: Path

    def stained(self) -> NDArray[np.uint8]:
        """Which membranes the truth says are stained: class 0 to 3 of each pixel, uint8 [H, W]."""
        with open_slide(self.truth / "membrane.ome.tif") as mask:
            return mask.read(0, 0, *mask.size)[..., 0]

    def membranes(self) -> dict[str, float | None]:
        """Mean DAB (HED units) of the virtual and the real slide on complete membranes (class 2, 3) and elsewhere."""
        on = self.stained() >= 2
        found: dict[str, float | None] = {"share_of_pixels": float(on.mean())}
        for name, path in (("virtual", self.virtual), ("real", self.ihc)):
            with open_slide(path) as slide:
                brown = dab(slide.read(0, 0, *slide.size))
            found[f"{name}_on"] = float(brown[on].mean()) if on.any() else None
            found[f"{name}_off"] = float(brown[~on].mean())
        return found

    def overview(self) -> PictureRow:
        """The whole slides."""
        pictures = []
        for title, path in self._columns():
            with open_slide(path) as slide:
                pictures.append(
                    photo(slide.thumbnail(PICTURE), f"{title} of synthetic patient {self.name}, whole slide")
                )
        return PictureRow(f"{self.name} (HER2 {self.level})", "whole slide", pictures)

    def detail(self) -> PictureRow:
        """Where the truth has most stained membranes."""
        density = cv2.boxFilter((self.stained() > 0).astype(np.float32), -1, (FIELD, FIELD))
        half = FIELD // 2
        row, column = np.unravel_index(
            np.argmax(density[half:-half, half:-half]), density[half:-half, half:-half].shape
        )
        pictures = []
        for title, path in self._columns():
            with open_slide(path) as slide:
                field_of_view = slide.read(float(column), float(row), FIELD, FIELD)
            enlarged = cv2.resize(field_of_view, (PICTURE, PICTURE), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
            pictures.append(photo(enlarged, f"{title} of synthetic patient {self.name}, detail"))
        where = f"{FIELD} px wide, at x {int(column)}, y {int(row)} px"
        return PictureRow(f"{self.name} (HER2 {self.level})", where, pictures)

    def _columns(self) -> list[tuple[str, Path]]:
        return [("H&E", self.he), ("virtual IHC", self.virtual), ("real IHC", self.ihc)]


def demo_sections(document: dict[str, Any], patients: Sequence[Patient]) -> list[Section]:
    """What happened, the whole slides, and the fields with most stained membranes."""
    return [_story(document, len(patients)), _slides(patients), _membranes(document, patients)]


def _story(document: dict[str, Any], held_out: int) -> Section:
    own, constant = document["dab_error"]["virtual"], document["dab_error"]["best_constant"]
    verdict = "lower" if document["beats_best_constant"] else "not lower"
    errors = list(document["registration_error_um"].values())
    story = (
        f"restain made synthetic breast-cancer patients, {document['patients']} of them HER2 3+, whose H&E "
        "lies turned, mirrored or bent on its IHC, registered each pair of these (median error "
        f"against the truth over patients: {median(errors):.2f} um, largest {max(errors):.2f} um), cut "
        f"patch pairs from the slides of {document['patients'] - held_out}, trained a small pyramid pix2pix on them, "
        f"stained the whole H&E slides of the other {held_out}, which it had never seen, and "
        "compared the result with their real IHC. On real slides the same commands are restain pairs, restain train, "
        "restain stain and restain evaluate. The HER2 status of patients of all levels is at the end."
    )
    caution = (
        "These patients are synthetic, those that are stained all HER2 3+, H&E and IHC show the same section, and the "
        "network is far smaller than the published one. The numbers say that the chain works, not how well a method "
        "does on patients."
    )
    result = (
        f"The DAB error of the virtual slides is {own:.5f} HED units, {verdict} than that of the best image of one "
        f"colour ({constant:.5f})."
    )
    seconds = [[step, f"{value:.0f}"] for step, value in document["seconds"].items()]
    facts = {
        "seed": str(document["seed"]),
        "generator of patients": document["generator"],
        "recipe": document["recipe"],
    }
    return Section(
        "What happened",
        [Text(story), Note(caution), Text(result), Table(["Step", "seconds"], seconds), Facts(facts)],
    )


def _slides(patients: Sequence[Patient]) -> Section:
    rows = [patient.overview() for patient in patients]
    return Section("Whole slides", [PictureTable(COLUMNS, rows, "Held-out patients.")])


def _membranes(document: dict[str, Any], patients: Sequence[Patient]) -> Section:
    rows = []
    for name, found in document["membranes"].items():
        values = ["" if found[key] is None else f"{found[key]:.4f}" for key in MEMBRANE_COLUMNS]
        rows.append([name, document["held_out"][name], *values])
    headings = [
        "Patient",
        "level",
        "virtual\non membranes",
        "virtual\nelsewhere",
        "real\non membranes",
        "real\nelsewhere",
    ]
    caption = "Mean DAB (HED units) on the membranes that the truth says are completely stained, and elsewhere."
    pictures = PictureTable(
        COLUMNS, [patient.detail() for patient in patients], "The field with most stained membranes."
    )
    return Section("Where membranes are stained", [pictures, Table(headings, rows, caption, labels=2)])
