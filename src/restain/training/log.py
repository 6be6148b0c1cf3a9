"""The CSV of losses: one row every few steps, cut back to the checkpoint when a run resumes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from restain.core.files import read_csv, write_csv


class LossLog:
    """Rows ``epoch, step, lr, <loss>...`` appended to a file.

    Args:
        path: the CSV.
        step: the last step of the checkpoint that the run goes on from; later rows are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._columns: list[str] | None = None
        if path.exists():
            rows = [
                row for row in read_csv(path, ["step"]) if (row["step"] or "").isdigit() and int(row["step"]) <= step
            ]
            if rows:
                write_csv(path, list(rows[0]), rows)
            else:
                path.unlink()

    def write(self, row: Mapping[str, float]) -> None:
        """Append a row; a loss that earlier rows do not have (a later phase of a method) becomes a new column."""
        text = {key: str(value) if isinstance(value, int) else f"{value:.6g}" for key, value in row.items()}
        if self._columns is None:
            self._columns = list(read_csv(self._path, ["step"])[0]) if self._path.exists() else []
        new = [key for key in text if key not in self._columns]
        if new:
            earlier = read_csv(self._path, ["step"]) if self._columns else []
            self._columns += new
            write_csv(self._path, self._columns, earlier)
        with self._path.open("a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, self._columns, lineterminator="\n").writerow(text)
