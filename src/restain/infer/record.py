"""``stain.json``: what each stained image of a folder was made with, for whoever judges them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json, write_json

RECORD = "stain.json"


@dataclass(frozen=True, order=True)
class Origin:
    """What made a stained image.

    Attributes:
        views: how many test-time views were averaged for it.
        method: the stainer's name.
        run: the run folder.
        weights: SHA-256 of the file of weights.
    """

    views: int
    method: str
    run: str
    weights: str

    def __post_init__(self) -> None:
        """Refuse what no staining writes.

        Raises:
            TypeError: a value of another kind.
        """
        texts = (self.method, self.run, self.weights)
        if type(self.views) is not int or self.views < 1 or not all(type(text) is str for text in texts):
            raise TypeError(f"{self}: not what made an image")


def write_record(
    out: Path, last_call: Mapping[str, Any], stained: Mapping[Path, Origin], unfinished: Iterable[Path]
) -> None:
    """Write ``stain.json`` into folder ``out``, atomically; what it says of other files there is kept.

    Args:
        out: the folder of the results.
        last_call: what is only kept of the last call: its options, versions, um/px.
        stained: the results that are there, in ``out``, with what made each.
        unfinished: results that may be old, half of a call's or absent: the record says nothing of them.
    """
    outputs = {path.name: origin for path, origin in _outputs(out).items() if path.exists()}
    for path in unfinished:
        outputs.pop(path.name, None)
    outputs |= {path.name: origin for path, origin in stained.items()}
    made = {name: asdict(outputs[name]) for name in sorted(outputs)}
    write_json(out / RECORD, {"outputs": made, "last_call": dict(last_call)})


def recorded_origins(files: Iterable[Path]) -> tuple[Origin | None, ...]:
    """What made these images, as the ``stain.json`` beside each says.

    Returns:
        Each origin that occurs, by ascending views; None, at the end, where some images are in no record (those of
        other programs).

    Raises:
        RestainError: a ``stain.json`` that cannot be read.
    """
    folders: dict[Path, dict[Path, Origin]] = {}
    found: set[Origin | None] = set()
    for file in files:
        if file.parent not in folders:
            folders[file.parent] = _outputs(file.parent)
        found.add(folders[file.parent].get(file))
    known = sorted(origin for origin in found if origin is not None)
    return (*known, None) if None in found else tuple(known)


def _outputs(folder: Path) -> dict[Path, Origin]:
    """The files that the record of a folder names, with what made each; none where there is no record.

    Raises:
        RestainError: it cannot be read, or says something else.
    """
    file = folder / RECORD
    if not file.exists():
        return {}
    try:
        return {folder / name: Origin(**made) for name, made in read_json(file)["outputs"].items()}
    except (ItemError, AttributeError, KeyError, TypeError) as error:
        raise RestainError(
            f"{file}: not a record of `restain stain`. Remove it, or stain into another folder."
        ) from error
