"""Where a dataset's knowledge maps lie, what ``knowledge.json`` says of them, and whether they still fit their IHC."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from restain import __version__
from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json, write_json
from restain.core.items import fingerprint
from restain.data.layouts import MAPS, image_files
from restain.data.records import PairFolder, PairRecord, file_stamp, ordered_splits
from restain.stains import KnowledgeOptions

Key = tuple[str, str]
"""A pair: its split and its name."""


@dataclass(frozen=True)
class MapEntry:
    """What the maps of one pair were made from.

    Attributes:
        ihc: stamp of the IHC file (``records.file_stamp``).
        mpp: um/px that the nuclei were found at.
        nuclei: how many were found.
    """

    ihc: str
    mpp: float
    nuclei: int


@dataclass(frozen=True)
class KnowledgeIndex:
    """What ``knowledge/knowledge.json`` of a dataset says.

    Attributes:
        options: of the extraction, as ``plain_options`` gives them.
        model: stamp of Cellpose's model file; None without one.
        pairs: those whose maps are finished.
    """

    options: Mapping[str, Any]
    model: str | None
    pairs: Mapping[Key, MapEntry]

    @property
    def settings(self) -> dict[str, Any]:
        """What the maps depend on beside their IHC; the model counts by its content, wherever it lies."""
        return {**self.options, "cellpose_model": self.model}

    def entry(self, record: PairRecord) -> MapEntry | None:
        """What the maps of a pair were made from; None where they are not finished.

        It goes by where they lie, as ``split_records`` may have put the pair into another split since.
        """
        place = next(iter(record.extras.values()), None)
        return None if place is None else self.pairs.get((place.parent.name, place.stem))

    def write(self, root: Path) -> None:
        """Write the index of the dataset in ``root``, atomically."""
        order = ordered_splits({split for split, _ in self.pairs})
        keys = sorted(self.pairs, key=lambda key: (order.index(key[0]), key[1]))
        resolutions = {entry.mpp for entry in self.pairs.values()}
        document = {
            "restain": __version__,
            "options": dict(self.options),
            "model": self.model,
            "mpp": resolutions.pop() if len(resolutions) == 1 else None,
            "pairs": [{"split": key[0], "name": key[1], **asdict(self.pairs[key])} for key in keys],
        }
        write_json(index_file(root), document)


def knowledge_folder(root: Path) -> Path:
    """Where the maps of the dataset in ``root`` lie that restain made."""
    return root / "knowledge"


def index_file(root: Path) -> Path:
    """``knowledge.json`` of the dataset in ``root``."""
    return knowledge_folder(root) / "knowledge.json"


def map_file(root: Path, kind: str, split: str, name: str) -> Path:
    """Where the map ``kind`` of a pair lies."""
    return knowledge_folder(root) / kind / split / f"{name}.png"


def plain_options(options: KnowledgeOptions) -> dict[str, Any]:
    """Options as JSON and the command line hold them: enums by name, paths absolute."""

    def plain(value: Any) -> Any:
        if isinstance(value, Enum):
            return value.name
        return str(value.resolve()) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in asdict(options).items()}


def read_index(root: Path) -> KnowledgeIndex | None:
    """The index of the dataset in ``root``; None where there is none.

    Raises:
        ItemError: it cannot be read.
    """
    file = index_file(root)
    if not file.is_file():
        return None
    document = read_json(file)
    try:
        pairs = {
            (str(row["split"]), str(row["name"])): MapEntry(str(row["ihc"]), float(row["mpp"]), int(row["nuclei"]))
            for row in document["pairs"]
        }
        if not all(0.01 <= entry.mpp <= 1000 and 0 <= entry.nuclei <= 10**9 for entry in pairs.values()):
            raise ValueError("an um/px or a number of nuclei that cannot be")
        return KnowledgeIndex(dict(document["options"]), document["model"], pairs)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ItemError(f"{file}: does not describe knowledge maps ({type(error).__name__}: {error}).") from error


def attach_maps(root: Path, records: Sequence[PairRecord]) -> list[PairRecord]:
    """Records with the maps that restain made, where ``knowledge.json`` is there.

    A dataset's own maps (``train_IHC_dab`` ...) count only as long as it is not: maps of two origins are never mixed.
    """
    if not index_file(root).is_file():
        return list(records)
    places = {(kind, split) for kind in MAPS for split in {record.split for record in records}}
    files = {
        place: {path.name: path for path in image_files(knowledge_folder(root).joinpath(*place))} for place in places
    }
    return [
        replace(
            record,
            extras={
                kind: files[kind, record.split][file]
                for kind in MAPS
                if (file := f"{record.name}.png") in files[kind, record.split]
            },
        )
        for record in records
    ]


def why_unusable(folder: PairFolder, record: PairRecord, index: KnowledgeIndex | None, kinds: Sequence[str]) -> str:
    """What is wrong with the maps of a pair, in words that follow its name; empty where nothing is.

    Quick: files are told by their stamps, no image is decoded. Maps that came with the dataset have no index and are
    taken as they are.
    """
    if missing := [kind for kind in kinds if kind not in record.extras]:
        return f"has no {', '.join(missing)}"
    if index is None:
        return ""
    entry = index.entry(record)
    if entry is None:
        return "has maps that were not finished"
    mpp = record.mpp or folder.mpp
    if mpp is not None and abs(mpp / entry.mpp - 1) > 1e-3:
        return f"is at {mpp:g} um/px, but its maps were made for {entry.mpp:g}"
    try:
        changed = file_stamp(record.ihc) != entry.ihc
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return f"has maps of another image: {record.ihc} has changed since" if changed else ""


def require_maps(folder: PairFolder, split: str, needs: Collection[str]) -> None:
    """Check that each pair of a split has the knowledge maps among ``needs``, and that they are those of its IHC.

    Raises:
        RestainError: they are missing, out of date or of unknown origin; the message names the command that makes them.
    """
    kinds = [kind for kind in MAPS if kind in needs]
    advice = f"Run `{knowledge_command(folder)}`"
    try:
        index = read_index(folder.root)
    except ItemError as error:
        raise RestainError(f"{error} {advice}, which makes the maps again.") from error
    records = folder.split(split)
    if not any(kind in record.extras for record in records for kind in kinds):
        raise RestainError(
            f"{folder.root}: the method needs knowledge maps of the IHC ({', '.join(kinds)}), but split {split} has "
            f"none. {advice}, which makes them."
        )
    bad = [(record, reason) for record in records if (reason := why_unusable(folder, record, index, kinds))]
    if bad:
        first, reason = bad[0]
        raise RestainError(
            f"{folder.root}: the method needs knowledge maps of the IHC ({', '.join(kinds)}); of {len(records)} pairs "
            f"in split {split}, {len(bad)} have none that fit: {first.name} {reason}. {advice}, which makes what is "
            "missing or out of date."
        )


def knowledge_command(folder: PairFolder) -> str:
    """The command that makes the maps of a dataset, with the options that they were made with before."""
    try:
        index = read_index(folder.root)
    except ItemError:
        index = None
    words = ["restain", "dataset", "knowledge", str(folder.root)]
    if any(record.mpp is None for record in folder.records):
        known = {folder.mpp} if index is None else {entry.mpp for entry in index.pairs.values()}
        mpp = folder.mpp or (known.pop() if len(known) == 1 else None)
        words += ["--mpp", "UM_PER_PX" if mpp is None else f"{mpp:g}"]
    usual = plain_options(KnowledgeOptions())
    for name, value in ({} if index is None else index.options).items():
        if name in usual and value != usual[name]:
            words += [f"--{name.replace('_', '-')}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join(words)


def knowledge_fingerprint(folder: PairFolder, split: str) -> str | None:
    """A hash of what the knowledge maps of a split are; None where it has none.

    Of maps that restain made, options, um/px, stamps of the IHC and numbers of nuclei count, so that it is the same on
    every machine; of maps that came with the dataset, their files' sizes and beginnings.

    Raises:
        ItemError: ``knowledge.json`` cannot be read.
    """
    records = [record for record in folder.split(split) if record.extras]
    if not records:
        return None
    index = read_index(folder.root)
    if index is None:
        files = [[record.name, {kind: file_stamp(path) for kind, path in record.extras.items()}] for record in records]
        return fingerprint({"maps": files})
    entries = [index.entry(record) for record in records]
    pairs = [[record.name, asdict(entry)] for record, entry in zip(records, entries, strict=True) if entry is not None]
    return fingerprint({"settings": index.settings, "pairs": pairs})
