"""Levels (0, 1+, 2+, 3+ or any other classes) as file names carry them."""

from __future__ import annotations

import re
from collections.abc import Iterable

# NNNNN_train_2+, NNNNN_test_positive: what follows the split's name. Numbers of two digits and more are counters.
_AFTER_SPLIT = re.compile(r"(?:^|_)(?:train|val|valid|test)_(\d\+?|[A-Za-z][^_]*)$")
_GRADE = re.compile(r"_(\d\+?)$")


def levels_from_names(stems: Iterable[str]) -> dict[str, str]:
    """The level that each file name carries.

    A level is the part after the split's name (``00820_test_2+``, ``17_train_negative``). Names without a split's name
    carry one if the last part of every name is a grade and at least one grade is written with a plus
    (``a_0``, ``a_1+``): a bare last digit alone may be a tile's row or column.

    Args:
        stems: file names without suffix, all of one dataset.

    Returns:
        Level by stem; stems that carry none are left out.
    """
    names = list(stems)
    levels = {name: match[1] for name in names if (match := _AFTER_SPLIT.search(name))}
    if levels:
        return levels
    grades = {name: match[1] for name in names if (match := _GRADE.search(name))}
    if len(grades) == len(names) and any(grade.endswith("+") for grade in grades.values()):
        return grades
    return {}


def sorted_levels(levels: Iterable[str]) -> tuple[str, ...]:
    """Distinct levels in order: by their leading number where they have one, then by their text."""

    def key(level: str) -> tuple[float, str]:
        number = re.match(r"\d+", level)
        return (float(number[0]) if number else float("inf"), level)

    return tuple(sorted(set(levels), key=key))
