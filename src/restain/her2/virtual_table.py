"""The scores of virtual IHC by patient (``virtual.csv``), and what made them (``virtual.json``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_csv, read_json, write_csv
from restain.her2.labels import her2_level
from restain.stains.her2_rule import LEVELS, her2_score

TABLE, ABOUT = "virtual.csv", "virtual.json"
COLUMNS = ("patient", "slide", "score", *LEVELS, "positive", "counted", "reason")
ROUNDED = 0.5
"""How far from 100 the percentages of a patient may add up to (they are written with two decimals)."""


@dataclass(frozen=True)
class SlideScore:
    """The score of one virtual slide.

    Attributes:
        name: of the slide's files.
        patient: whose it is.
        he: path of the H&E, with links resolved.
        score: None where there is none.
        cells: counted tumour cells by membrane class 0, 1+, 2+, 3+.
        reason: for the score, or why there is none.
        assumed_mpp: um/px of the run, which the H&E was taken to have because nothing gives its own; else None.
    """

    name: str
    patient: str
    he: str
    score: str | None
    cells: tuple[int, ...]
    reason: str
    assumed_mpp: float | None = None


def require_once(where: str | Path, slides: Iterable[tuple[str, str | Path]]) -> None:
    """Refuse an H&E that would count twice for a patient.

    Args:
        where: what holds them, for the message.
        slides: patient and H&E of each.

    Raises:
        RestainError: two slides of one patient have the same H&E.
    """
    seen: set[tuple[str, Path]] = set()
    for patient, he in slides:
        one = (patient, Path(he).resolve())
        if one in seen:
            raise RestainError(
                f"{where}: {he} is there twice for patient {patient}, and its cells would count twice. Name each H&E "
                "once, and score into another --out."
            )
        seen.add(one)


def write_table(path: Path, slides: Sequence[SlideScore]) -> list[dict[str, object]]:
    """Write ``virtual.csv``, a row a patient, and return its rows.

    A patient's score is that of the cells of all slides together, each cell classified on its own slide; slides
    without a score are left out of it.

    Raises:
        RestainError: two slides of one patient have the same H&E.
    """
    require_once(path, [(one.patient, one.he) for one in slides])
    names = dict.fromkeys(one.patient for one in slides)
    rows = [_row(name, [one for one in slides if one.patient == name]) for name in names]
    write_csv(path, COLUMNS, rows)
    return rows


def _row(patient: str, slides: Sequence[SlideScore]) -> dict[str, object]:
    row: dict[str, object] = {"patient": patient, "slide": "; ".join(one.name for one in slides), "score": None}
    scored = [one for one in slides if one.score is not None]
    without = "; ".join(
        f"{one.name}: {one.reason}" if len(slides) > 1 else one.reason for one in slides if not one.score
    )
    if not scored:
        return (
            row
            | dict.fromkeys((*LEVELS, "positive"))
            | {"counted": sum(map(sum, (one.cells for one in slides)))}
            | {"reason": without}
        )
    cells = [sum(one.cells[number] for one in scored) for number in range(len(LEVELS))]
    percent = [100 * count / sum(cells) for count in cells]
    found = her2_score(percent)
    reason = found.reason if not without else f"{found.reason} (left out: {without})"
    shares = {level: round(share, 2) for level, share in zip(LEVELS, percent, strict=True)}
    shares["positive"] = round(sum(percent[1:]), 2)
    return row | {"score": found.score, **shares, "counted": sum(cells), "reason": reason}


@dataclass(frozen=True)
class Virtual:
    """Scores of patients' virtual IHC.

    Attributes:
        path: of the table.
        scores: level by patient; None where there is no score.
        percent: of tumour cells in class 0, 1+, 2+, 3+ by patient; None where there is no score.
        stainer: what ``virtual.json`` says of the run; empty where it is not there.
        trained_on: patients that the stainer learned from; None where this is not known.
        selected_on: patients whose images chose the stainer's epoch.
        doubts: what makes these two uncertain, in words.
        about: all of ``virtual.json``.
    """

    path: Path
    scores: Mapping[str, str | None]
    percent: Mapping[str, tuple[float, ...] | None]
    stainer: Mapping[str, Any] = field(default_factory=dict)
    trained_on: frozenset[str] | None = None
    selected_on: frozenset[str] = frozenset()
    doubts: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """Where the scores come from, as JSON can hold it."""
        known = {key: self.stainer.get(key) for key in ("run", "method", "weights", "options")}
        return {"table": str(self.path), **known, "scorer": self.about.get("scorer")}


def read_virtual(path: Path) -> Virtual:
    """What ``restain her2 virtual`` wrote.

    Args:
        path: its folder, or a CSV with the columns ``patient, score, 0, 1+, 2+, 3+``; where no ``virtual.json`` lies
            beside it, the stainer is unknown.

    Raises:
        RestainError: a row that makes no sense, by file and line, or a ``virtual.json`` that is none, or in which an
            H&E counts twice for a patient.
        ItemError: no such file, or a column is missing.
    """
    table = path / TABLE if path.is_dir() else path
    scores: dict[str, str | None] = {}
    percent: dict[str, tuple[float, ...] | None] = {}
    for line, row in enumerate(read_csv(table, ["patient", "score", *LEVELS]), start=2):
        where = f"{table}: line {line}"
        name = (row["patient"] or "").strip()
        if not name or name in scores:
            raise RestainError(f"{where}: {f'patient {name} is there twice' if name else 'has no patient'}.")
        scores[name], percent[name] = _scored(row, f"{where}, patient {name}")
    if not scores:
        raise RestainError(f"{table}: has no rows.")
    about = table.with_name(ABOUT)
    return _told(Virtual(table, scores, percent), about) if about.exists() else Virtual(table, scores, percent)


def _scored(row: Mapping[str, str], where: str) -> tuple[str | None, tuple[float, ...] | None]:
    """Level and percentages of a row.

    Raises:
        RestainError: they are none.
    """
    text = (row["score"] or "").strip()
    if not text:
        return None, None
    level = her2_level(text)
    if level is None:
        raise RestainError(
            f"{where}: score {text!r} is none of {', '.join(LEVELS)}; leave it empty where there is none."
        )
    try:
        percent = tuple(float(row[name]) for name in LEVELS)
    except (TypeError, ValueError) as error:
        raise RestainError(f"{where}: its percentages {', '.join(LEVELS)} are no numbers ({error}).") from error
    if not all(map(math.isfinite, percent)) or min(percent) < 0 or abs(sum(percent) - 100) > ROUNDED:
        raise RestainError(f"{where}: percentages {', '.join(f'{value:g}' for value in percent)} do not add up to 100.")
    return level, percent


def _told(found: Virtual, file: Path) -> Virtual:
    """``found`` with what ``virtual.json`` says."""
    document = read_json(file)
    try:
        stainer = dict(document["stainer"])
        trained, selected = stainer["trained_on"], stainer["selected_on"]
        if not isinstance(selected, list) or not isinstance(trained, list | None):
            raise TypeError("patients must be a list")
        slides = [(str(one["patient"]), str(one["he"])) for one in document.get("slides", [])]
        told = Virtual(
            found.path,
            found.scores,
            found.percent,
            stainer,
            None if trained is None else frozenset(map(str, trained)),
            frozenset(map(str, selected)),
            tuple(map(str, stainer["doubts"])),
            document,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ItemError(f"{file}: not what `restain her2 virtual` writes ({error}). Make it again.") from error
    require_once(file, slides)
    return told
