"""``stain.json``: what a folder of stained images was made with, for whoever judges them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from restain.core.errors import RestainError
from restain.core.files import read_json, write_json

RECORD = "stain.json"


def write_record(out: Path, facts: Mapping[str, Any], stained: Mapping[Path, int], unfinished: Iterable[Path]) -> None:
    """Write ``stain.json`` into folder ``out``, atomically; what it says of other files there is kept.

    Args:
        out: the folder of the results.
        facts: the run, its weights, the options: those of the last call.
        stained: the results that are there, in ``out``, with the test-time views averaged for each.
        unfinished: results that may be old, half of a call's or absent: the record says nothing of them.
    """
    outputs = {path.name: views for path, views in _outputs(out).items() if path.exists()}
    for path in unfinished:
        outputs.pop(path.name, None)
    outputs |= {path.name: views for path, views in stained.items()}
    write_json(out / RECORD, {**facts, "outputs": {name: outputs[name] for name in sorted(outputs)}})


def recorded_views(files: Iterable[Path]) -> tuple[int | None, ...]:
    """How many test-time views were averaged for these images, as the ``stain.json`` beside each says.

    Returns:
        Each number that occurs, ascending; None, at the end, where some images are in no record (those of other
        programs).

    Raises:
        RestainError: a ``stain.json`` that cannot be read.
    """
    folders: dict[Path, dict[Path, int]] = {}
    found: set[int | None] = set()
    for file in files:
        if file.parent not in folders:
            folders[file.parent] = _outputs(file.parent)
        found.add(folders[file.parent].get(file))
    known = sorted(views for views in found if views is not None)
    return (*known, None) if None in found else tuple(known)


def _outputs(folder: Path) -> dict[Path, int]:
    """The files that the record of a folder names, with their views; none where there is no record.

    Raises:
        RestainError: it cannot be read, or says something else.
    """
    file = folder / RECORD
    if not file.exists():
        return {}
    document = read_json(file)
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(outputs, dict) or not all(type(views) is int and views > 0 for views in outputs.values()):
        raise RestainError(f"{file}: not a record of `restain stain`. Remove it, or stain into another folder.")
    return {folder / name: views for name, views in outputs.items()}
