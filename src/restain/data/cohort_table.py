"""The cohort table: one row a slide pair with patient, both slides, um/px, status and laboratory."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from restain.core.errors import RestainError
from restain.core.files import read_csv
from restain.core.resolution import parse_mpp


@dataclass(frozen=True)
class CohortRow:
    """One slide pair of a cohort.

    Attributes:
        name: unique in the cohort and usable as a file name: the patient, with a number where it has several rows.
        patient: as written in the table.
        he: the H&E slide.
        ihc: the IHC slide; None where the table has none.
        he_mpp: um/px given for the H&E slide; None: the slide's own is used.
        ihc_mpp: the same for the IHC slide.
        level: the status of the patient (column ``her2``, or ``level`` for other markers); None where unknown.
        lab: the laboratory, None where unknown.
        tumour: where the tumour is (column ``tumour``): QuPath GeoJSON in level-0 px of the IHC, or a CSV of cells;
            for a synthetic patient ``truth/<patient>/cells.csv``. None where unknown.
        landmarks: CSV or JSON of points that are the same on both slides (column ``landmarks``); None without.
    """

    name: str
    patient: str
    he: Path
    ihc: Path | None
    he_mpp: float | None
    ihc_mpp: float | None
    level: str | None
    lab: str | None
    tumour: Path | None = None
    landmarks: Path | None = None


def read_cohort(path: str | Path) -> list[CohortRow]:
    """The rows of a cohort CSV: ``patient, he, ihc, mpp | he_mpp, ihc_mpp, her2, lab, tumour, landmarks``.

    Only ``patient`` and ``he`` are required. Files are given relative to the CSV's folder, or absolutely. A file that
    is missing is met by the work on its row, which fails by name while others go on; that no slide at all is there is
    wrong use.

    Raises:
        RestainError: not a readable CSV, no rows, an empty patient or H&E, an um/px that is none, a slide under two
            patients (it could be both in training and in test), or none of the slides exists.
    """
    path = Path(path)
    rows = read_csv(path, required=["patient", "he"])
    if not rows:
        raise RestainError(f"{path}: the cohort has no rows.")
    texts = [{key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in rows]
    for line, row in enumerate(texts, start=2):
        empty = [column for column in ("patient", "he") if not row[column]]
        if empty:
            raise RestainError(f"{path}: line {line} has no {' and no '.join(empty)}.")
    names = _names([row["patient"] for row in texts])
    cohort = [_row(path, line, name, row) for line, (name, row) in enumerate(zip(names, texts, strict=True), start=2)]
    _require_own_slides(path, cohort)
    slides = [slide for row in cohort for slide in (row.he, row.ihc) if slide is not None]
    if not any(slide.exists() for slide in slides):
        listed = "\n  ".join(str(slide) for slide in slides[:10])
        raise RestainError(f"{path}: no slide exists; paths are relative to the CSV's folder:\n  {listed}")
    return cohort


def _require_own_slides(path: Path, cohort: list[CohortRow]) -> None:
    """Refuse a slide that belongs to two patients."""
    owners: dict[Path, str] = {}
    for row in cohort:
        for slide in (row.he, row.ihc):
            owner = row.patient if slide is None else owners.setdefault(slide.resolve(), row.patient)
            if owner != row.patient:
                raise RestainError(
                    f"{path}: {slide} is given for patient {owner} and for patient {row.patient}. Name its own slides "
                    "for each patient, or give rows of one patient the same name."
                )


def _row(path: Path, line: int, name: str, row: dict[str, str]) -> CohortRow:
    both = parse_mpp(row.get("mpp"), f"{path}: line {line}: mpp")
    truth = path.parent / "truth" / row["patient"] / "cells.csv"
    return CohortRow(
        name=name,
        patient=row["patient"],
        he=path.parent / row["he"],
        ihc=path.parent / row["ihc"] if row.get("ihc") else None,
        he_mpp=parse_mpp(row.get("he_mpp"), f"{path}: line {line}: he_mpp") or both,
        ihc_mpp=parse_mpp(row.get("ihc_mpp"), f"{path}: line {line}: ihc_mpp") or both,
        level=row.get("her2") or row.get("level") or None,
        lab=row.get("lab") or None,
        tumour=path.parent / row["tumour"] if row.get("tumour") else truth if truth.is_file() else None,
        landmarks=path.parent / row["landmarks"] if row.get("landmarks") else None,
    )


def _names(patients: list[str]) -> list[str]:
    """A file name for each row, by its patient."""
    safe = [re.sub(r"[^\w.+-]", "_", patient).lstrip(".") or "_" for patient in patients]
    shared, seen = Counter(safe), Counter[str]()
    names = []
    for name in safe:
        seen[name] += 1
        names.append(f"{name}-{seen[name]}" if shared[name] > 1 else name)
    if len(set(names)) < len(names):  # "a-1" as a patient beside two rows of "a"
        names = [f"{number:04d}-{name}" for number, name in enumerate(names, start=1)]
    return names
