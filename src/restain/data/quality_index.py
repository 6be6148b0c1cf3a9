"""What ``quality/quality.json`` of a dataset says: of each image its stamp and measures, of each pair its score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restain import __version__
from restain.core.errors import ItemError
from restain.core.files import read_json, write_json
from restain.data.quality import Measures
from restain.data.records import LoneImage, PairRecord, Side

VERSION = 2
"""Raised whenever measures or scores of the same images change; what an older version measured is measured again."""

Key = tuple[str, str, str]
"""An image: split, name, side."""


@dataclass(frozen=True)
class Measured:
    """An image that was measured.

    Attributes:
        stamp: of its file (``records.file_stamp``).
        measures: what was found.
    """

    stamp: str
    measures: Measures


@dataclass(frozen=True)
class Scored:
    """A pair, or an image without a partner, that was judged.

    Attributes:
        stamps: of its files.
        score: 0 good to 1 bad: the worst of both images.
    """

    stamps: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class QualityIndex:
    """What ``quality.json`` says.

    Attributes:
        images: those that were measured.
        items: pairs and lone images that were judged, by split and name.
    """

    images: Mapping[Key, Measured]
    items: Mapping[tuple[str, str], Scored]

    def write(self, root: Path) -> None:
        """Write the index of the dataset in ``root``, atomically."""
        document = {
            "restain": __version__,
            "version": VERSION,
            "images": [
                {"split": split, "name": name, "side": side, "stamp": image.stamp, **asdict(image.measures)}
                for (split, name, side), image in sorted(self.images.items())
            ],
            "items": [
                {"split": split, "name": name, "stamps": list(item.stamps), "score": item.score}
                for (split, name), item in sorted(self.items.items())
            ],
        }
        write_json(index_file(root), document)


def quality_folder(root: Path) -> Path:
    """Where what is known of the quality of the dataset in ``root`` lies."""
    return root / "quality"


def index_file(root: Path) -> Path:
    """``quality.json`` of the dataset in ``root``."""
    return quality_folder(root) / "quality.json"


def read_index(root: Path) -> QualityIndex | None:
    """The index of the dataset in ``root``; None where there is none, or one of another version.

    Raises:
        ItemError: it cannot be read.
    """
    file = index_file(root)
    if not file.is_file():
        return None
    document = read_json(file)
    try:
        if document["version"] != VERSION:
            return None
        images = {
            (str(row["split"]), str(row["name"]), str(row["side"])): Measured(str(row["stamp"]), _measures(row))
            for row in document["images"]
        }
        items = {
            (str(row["split"]), str(row["name"])): Scored(tuple(map(str, row["stamps"])), float(row["score"]))
            for row in document["items"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ItemError(f"{file}: does not describe a dataset's quality ({type(error).__name__}: {error}).") from error
    return QualityIndex(images, items)


def sides(item: PairRecord | LoneImage) -> tuple[tuple[Side, Path], ...]:
    """The images of a pair, or the one of an image without a partner, with their files."""
    if isinstance(item, LoneImage):
        return ((item.side, item.path),)
    return (("he", item.he), ("ihc", item.ihc))


def _measures(row: Mapping[str, Any]) -> Measures:
    """The measures in a row of the index."""
    values = {name: row[name] for name in Measures.__dataclass_fields__}
    colour = values["colour"]
    values["colour"] = None if colour is None else tuple(float(part) for part in colour)
    return Measures(**values)
