"""Reading files that anyone may have written: bounded, and of the expected kind, or an error that names the file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from restain.core.errors import ItemError
from restain.core.files import read_json

LONGEST_LINE = 2**20
"""Characters."""


def require_small(path: Path, most: int) -> None:
    """Refuse a file that is larger than what it claims to be ever is.

    Args:
        path: the file.
        most: bytes.

    Raises:
        ItemError: it is larger, no file, or absent.
    """
    try:
        if not path.is_file():
            raise ItemError(f"{path}: no such file.")
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise ItemError(f"{path}: cannot be read ({error}).") from error
    if size > most:
        raise ItemError(f"{path}: {size / 2**20:.0f} MiB are too many for such a file ({most / 2**20:.0f} are read).")


def short_lines(stream: TextIO) -> Iterator[str]:
    """The lines of a text; a table's one line of a hundred million characters would become as many objects.

    Raises:
        ValueError: one has more than ``LONGEST_LINE`` characters.
    """
    while line := stream.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            raise ValueError(f"a line has more than {LONGEST_LINE:,} characters")
        yield line


def small_object(path: Path, most: int = 2**23) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        ItemError: it is larger, cannot be read, or is no object.
    """
    require_small(path, most)
    document = read_json(path)
    if not isinstance(document, dict):
        raise ItemError(f"{path}: not a JSON object.")
    return document


def own_file(path: Path) -> bool:
    """Whether an absolute path is a file by itself, not through a symbolic link, which could lead anywhere."""
    try:
        return path.is_file() and path.resolve() == path
    except (OSError, RuntimeError, ValueError):
        return False


def text(value: object, most: int = 300) -> str:
    """``value`` as text that JSON can carry: no half characters, not longer than ``most``."""
    return str(value)[:most].encode("utf-8", "replace").decode("utf-8")


def message(error: object, folder: Path, most: int = 600) -> str:
    """The first line of an error's message, without the folders above the served one.

    Args:
        error: with a message for people.
        folder: that is served.
        most: characters.
    """
    lines = str(error).replace(f"{folder}/", "").splitlines()
    return text(lines[0] if lines else "an error without a message", most)


def text_or_none(value: object, most: int = 300) -> str | None:
    """``text``; None where there is none."""
    return None if value is None or value == "" else text(value, most)


def number_or_none(value: object) -> float | None:
    """A finite number, or None for whatever else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
