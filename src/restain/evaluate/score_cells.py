"""Cells of the tables that are ranked: numbers, verdicts, names as people write them; errors name the line."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_csv
from restain.evaluate.folders import printable

YES, NO = frozenset({"yes", "true", "1"}), frozenset({"no", "false", "0"})
Line = tuple[str, dict[str, str]]
"""Where a row of a table stands, for messages, and its cells by column."""
Answer = TypeVar("Answer")


def one_answer(rows: Iterable[Line], column: str, read: Callable[[str, str], Answer], absent: Answer) -> Answer:
    """What a column says of a method whose images all say the same; ``absent`` without such a column.

    Raises:
        RestainError: two images say different things, or one of them nothing that makes sense.
    """
    answers: dict[Answer, str] = {}
    for where, row in rows:
        if column in row:
            answers.setdefault(read(row[column], where), where)
    if len(answers) > 1:
        places = " and ".join(f"{where} says {answer}" for answer, where in list(answers.items())[:2])
        raise RestainError(f"{places} in column {column}: it must be the same for all images of a method.")
    return next(iter(answers), absent)


def mean_sharpness(rows: Iterable[Line]) -> float | None:
    """Mean of the sharpness ratios that are given and finite, as ``restain evaluate`` takes it; None without any."""
    given = [(where, row) for where, row in rows if row.get("sharpness_ratio")]
    values = [number(row, "sharpness_ratio", where, 0, math.inf, infinite=True) for where, row in given]
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def table_rows(path: Path, required: Sequence[str]) -> list[Line]:
    """The rows of a CSV, each with its place for messages; columns in lower case, cells stripped."""
    try:
        found = read_csv(path)
        _distinct(path)
    except ItemError as error:
        raise RestainError(f"{error} Save it as CSV in UTF-8, with commas between cells.") from error
    if not found:
        raise RestainError(f"{path}: no rows. Give a header with {', '.join(required)}, and a line for each entry.")
    rows = []
    for line, row in enumerate(found, start=2):
        where = f"{path}: line {line}"
        if None in row or None in row.values():
            raise RestainError(f"{where}: more or fewer cells than the header has (a decimal comma?).")
        rows.append((where, {column.strip().lower(): cell.strip() for column, cell in row.items()}))
    if missing := [column for column in required if column not in rows[0][1]]:
        raise RestainError(f"{path}: no column {', '.join(missing)}; it has {', '.join(rows[0][1])}.")
    return rows


def _distinct(path: Path) -> None:
    """Refuse columns of one name, in upper or lower case: which of them counts?"""
    with path.open(newline="", encoding="utf-8-sig") as stream:
        columns = next(csv.reader(stream), [])
    counts = Counter(column.strip().lower() for column in columns)
    if twice := [name for name, count in counts.items() if name and count > 1]:
        raise RestainError(f"{path}: several columns are called {', '.join(twice)}. Leave one.")


def number(row: Mapping[str, str], column: str, where: str, low: float, high: float, infinite: bool = False) -> float:
    """The number in a cell, from ``low`` to ``high``."""
    try:
        value = math.nan if "_" in row[column] else float(row[column])  # Python reads 20_0 as 200
    except ValueError:
        value = math.nan
    if not low <= value <= high or (math.isinf(value) and not infinite):
        bounds = f"{low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise RestainError(f"{where}: {column} {row[column]!r} is not a number, {bounds}.")
    return value


def view_count(text: str, where: str) -> int | None:
    """Test-time views; None where a cell is empty."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise RestainError(f"{where}: views {text!r} is not a number of test-time views, 1 or more.")
    return int(text)


def yes_or_no(text: str, where: str) -> bool:
    """Whether a cell says yes."""
    if text.lower() in YES:
        return True
    if text.lower() in NO:
        return False
    raise RestainError(f"{where}: valid {text!r} is neither yes nor no (nor true, false, 1, 0).")


def tidy(name: str) -> str:
    """A name on one line, without control characters."""
    return printable(" ".join("".join(sign if sign.isprintable() else " " for sign in name).split()))


def stem(path: str | Path) -> str:
    """Name of a file of any system without its suffix; of a folder, its name."""
    if isinstance(path, Path):
        return tidy(path.resolve().name)
    name = re.split(r"[\\/]", path)[-1]
    return tidy(re.sub(r"\.(png|jpe?g|tiff?)$", "", name, flags=re.IGNORECASE))
