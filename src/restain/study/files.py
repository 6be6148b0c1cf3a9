"""The results of a study as files."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from restain.core.errors import RestainError
from restain.core.files import not_a_formula, write_csv, write_json
from restain.evaluate.pairing import keep_others
from restain.study.answers import MISSING, NOT_READABLE, SAID_GENERATED, UNSAID, Answers
from restain.study.database import FILE
from restain.study.measures import Measure
from restain.study.results import Results

ANSWER_COLUMNS = (
    "reader", "place", "pair", "image", "patient", "level", "file", "grade", "readable", "origin", "answers", "seconds",
)  # fmt: skip


def write_results(results: Results, out: Path) -> None:
    """Write ``results.csv``, ``confusions.csv``, ``answers.csv`` and ``summary.json`` into folder ``out``.

    Raises:
        ItemError: one could not be written.
    """
    write_csv(out / "results.csv", [field.name for field in fields(Measure)], map(asdict, results.measures))
    write_csv(
        out / "confusions.csv",
        ["matrix", "readers", "row", "column", "count"],
        (
            {"matrix": one.matrix, "readers": one.readers, "row": row, "column": column, "count": int(one.counts[i, j])}
            for one in results.confusions
            for i, row in enumerate(one.rows)
            for j, column in enumerate(one.columns)
        ),
    )
    write_csv(out / "answers.csv", ANSWER_COLUMNS, answer_rows(results.answers))
    write_json(out / "summary.json", results.document())


def keep_apart(out: Path, study: Path) -> None:
    """Refuse a folder for results that is a study's or a run's.

    Raises:
        RestainError: it is.
    """
    keep_others(out, [study])
    inside = out.resolve()
    if any((folder / FILE).exists() for folder in (inside, *inside.parents)):
        raise RestainError(f"{out}: lies in a study's folder. Choose another --out, which no reader can open.")


def answer_rows(answers: Answers) -> list[dict[str, object]]:
    """A row for each reader and image, in the reader's order; what is not answered yet has empty fields."""
    levels = answers.terms.levels
    rows = []
    for reader, name in enumerate(answers.readers):
        order = np.argsort(answers.places[reader], axis=None)
        for pair, side in np.column_stack(np.unravel_index(order, answers.places[reader].shape)).tolist():
            place = (reader, pair, side)
            grade, origin = int(answers.grades[place]), int(answers.origins[place])
            truth, seconds = int(answers.truth[pair]), float(answers.seconds[place])
            patient = answers.patients[pair]
            rows.append(
                {
                    "reader": name,
                    "place": int(answers.places[place]) + 1,
                    "pair": not_a_formula(answers.pairs[pair]),
                    "image": ("real", "generated")[side],
                    "patient": None if patient is None else not_a_formula(patient),
                    "level": levels[truth] if truth >= 0 else None,
                    "file": f"{answers.images[pair, side]}.png",
                    "grade": levels[grade] if grade >= 0 else None,
                    "readable": None if grade == MISSING else "no" if grade == NOT_READABLE else "yes",
                    "origin": None if origin == UNSAID else "generated" if origin == SAID_GENERATED else "real",
                    "answers": int(answers.revisions[place]),
                    "seconds": f"{seconds:.1f}" if math.isfinite(seconds) else None,
                }
            )
    return rows
