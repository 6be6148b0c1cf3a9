"""Predictions of the test patients that were made elsewhere, to be compared in the same tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restain.core.errors import RestainError
from restain.core.files import read_csv
from restain.her2.labels import ClassSet


def read_other(file: Path, patients: Sequence[str], classes: ClassSet) -> Any:
    """Probabilities [N, C] of ``patients`` from a CSV: ``p_<class>`` columns, or ``predicted`` (then 0 and 1).

    Raises:
        RestainError: a patient that is missing or there twice, or columns that say nothing.
    """
    rows: dict[str, dict[str, str]] = {}
    for row in read_csv(file, ["patient"]):
        name = row["patient"].strip()
        if name in rows:
            raise RestainError(
                f"{file}: patient {name} is in it more than once. Give one row a patient (of a cross-validation's own "
                "predictions.csv those of one training, or their mean)."
            )
        rows[name] = row
    missing = [name for name in patients if name not in rows]
    if missing:
        raise RestainError(f"{file}: lacks {len(missing)} of the test patients ({', '.join(missing[:5])}).")
    columns = [f"p_{name}" for name in classes.names]
    first = next(iter(rows.values()))
    if not all(column in first for column in columns):
        if "predicted" not in first:
            raise RestainError(f"{file}: has neither the columns {', '.join(columns)} nor predicted.")
        numbers = [classes.number(rows[name]["predicted"] or "", f"{file}: patient {name}") for name in patients]
        return np.eye(len(classes))[numbers]
    try:
        found = np.array([[float(rows[name][column]) for column in columns] for name in patients])
    except (TypeError, ValueError) as error:
        raise RestainError(f"{file}: holds a probability that is no number ({error}).") from error
    if not np.isfinite(found).all() or (found < 0).any() or not np.allclose(found.sum(1), 1, atol=1e-3):
        raise RestainError(f"{file}: probabilities must be at least 0 and add up to 1 in each row.")
    return found
