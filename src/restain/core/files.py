"""Atomic writing: a file is there whole or not at all, also after a crash or a full disk."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError

FORMULA = ("=", "+", "-", "@")
"""What spreadsheets take for the beginning of a formula."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it becomes ``path`` when the block ends without an error.

    The temporary file keeps the suffixes of ``path`` (writers choose the format by suffix), is flushed to disk before
    the rename, and is removed when the block fails.

    Args:
        path: where the finished file shall lie; its folder is made if it is missing.

    Yields:
        The temporary path, on the same file system.

    Raises:
        ItemError: the disk is full or the folder cannot be written; the old file, if any, is untouched.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=f"-{path.name}")
    except OSError as error:
        raise write_error(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Remove temporary files that killed commands left below ``folder``; call it under the folder's lock."""
    for path in folder.rglob(".tmp-*"):
        path.unlink(missing_ok=True)


def write_error(path: Path, error: OSError) -> ItemError:
    """The user's message for an ``OSError`` met while writing ``path`` (a full disk, a read-only folder)."""
    return ItemError(
        f"{path}: could not be written ({error.strerror or error}). Nothing was left half-written; free space or "
        "choose another folder, then run the same command again."
    )


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: object) -> None:
    """Write ``document`` to ``path`` atomically, as indented JSON with a final newline (NaN is refused)."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON document in ``path``.

    Raises:
        ItemError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ItemError(f"{path}: not a readable JSON file ({error}).") from error


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write ``rows`` to ``path`` atomically, as CSV with a header; a value of None becomes an empty field."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def not_a_formula(text: str) -> str:
    """``text`` for a CSV's field as a spreadsheet shows it and does not compute it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def read_csv(path: Path, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV with a header.

    Args:
        path: the file; UTF-8, a byte-order mark is ignored.
        required: columns that must be there.

    Raises:
        ItemError: the file cannot be read, or a required column is missing (named, with those that are there,
            and with a hint where columns are separated by something else than commas).
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            columns = list(reader.fieldnames or [])
    except (OSError, ValueError, csv.Error) as error:
        raise ItemError(f"{path}: not a readable CSV ({error}).") from error
    missing = [name for name in required if name not in columns]
    if missing:
        hint = ""
        if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
            hint = " Columns must be separated by commas; save it so."
        raise ItemError(f"{path}: no column {', '.join(missing)}; it has {', '.join(columns) or 'no header'}.{hint}")
    return rows


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
