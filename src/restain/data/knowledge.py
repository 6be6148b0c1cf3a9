"""Knowledge maps of a dataset (TDKstain, Peng 2024, Sec. 2): made once from the real IHC, kept beside the pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from restain.core.errors import ItemError, MissingResolutionError, RestainError
from restain.core.files import remove_stale
from restain.core.items import lock_beside_dataset
from restain.core.progress import console, progress_bar
from restain.core.runs import checked_mpp
from restain.core.workers import cpu_threads
from restain.data.knowledge_index import (
    KnowledgeIndex,
    MapEntry,
    index_file,
    knowledge_folder,
    map_file,
    plain_options,
    read_index,
    why_unusable,
)
from restain.data.layouts import MAPS
from restain.data.loader import DEAD_WORKER, prepare_worker
from restain.data.reading import read_dataset
from restain.data.records import PairFolder, PairRecord, file_stamp
from restain.slides import write_image
from restain.stains import Detector, KnowledgeOptions, NucleusDetector, extract, knowledge_picture, make_detector

SAVE_EVERY_S = 5.0
"""How much work, in seconds, a killed command may lose."""
OVERVIEW_PAIRS = 6
"""Pairs in the overview, where the dataset does not have more levels."""
OVERVIEW_WIDTH = 2048
"""Its largest width, px."""


@dataclass(frozen=True)
class KnowledgeResult:
    """What became of a dataset's knowledge maps.

    Attributes:
        folder: where they lie.
        pairs: pairs that have maps now.
        made: those whose maps were made by this call.
        nuclei: mean number of nuclei a pair, by level (``unknown`` where a pair has none).
        overview: picture of what was extracted from a few pairs; None where no pair has maps.
        failures: reason by file, for IHC images that could not be read.
    """

    folder: str
    pairs: int
    made: int
    nuclei: dict[str, float]
    overview: str | None
    failures: dict[str, str]

    @property
    def exit_code(self) -> int:
        """0, or 1 where a pair failed."""
        return 1 if self.failures else 0

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON document."""
        return asdict(self)


def make_knowledge(
    root: str | Path,
    options: KnowledgeOptions = KnowledgeOptions(),  # noqa: B008 (frozen)
    mpp: float | None = None,
    workers: int | None = None,
) -> KnowledgeResult:
    """Make the knowledge maps of all pairs of the dataset in ``root`` that have none, or none that fit.

    Writes ``knowledge/{dab,dab_mask,nuclei_map}/{split}/NAME.png``, ``knowledge/knowledge.json`` (options, um/px, a
    stamp of each IHC, number of nuclei) and ``knowledge/overview.png``. Called again, it makes what is missing or whose
    IHC has changed; with other options, all. It may be killed at any time: ``knowledge.json`` names what is finished.

    Args:
        root: a patch-pair dataset in any layout. Images without a partner get no maps.
        options: what to extract.
        mpp: um/px of the images, for datasets that do not say it.
        workers: processes; 0 works in this one, None takes one a processor, at most 8. Cellpose works in this one.

    Raises:
        RestainError: no dataset, no pairs, an um/px that contradicts the dataset's, a folder that cannot be written, or
            another command that writes there.
        MissingResolutionError: neither the dataset nor ``mpp`` says the um/px.
    """
    if workers is not None and workers < 0:
        raise RestainError(f"--workers is {workers}; give a number of processes, or 0 to work in this one.")
    if options.cellpose_model is not None and options.detector is not Detector.cellpose:
        raise RestainError("--cellpose-model is of use with --detector cellpose alone. Give both or neither.")
    root = Path(root)
    folder = _with_mpp(read_dataset(root), mpp)
    detector = make_detector(options.detector, options.cellpose_model)
    model = None if options.cellpose_model is None else file_stamp(options.cellpose_model)
    place = knowledge_folder(root)
    with lock_beside_dataset(place, "knowledge maps lie with their dataset"):
        _keep_others(place)
        remove_stale(place)
        plain = plain_options(options)
        index = KnowledgeIndex(plain, model, _finished(folder, KnowledgeIndex(plain, model, {})))
        pending = [record for record in folder.records if (record.split, record.name) not in index.pairs]
        failures: dict[str, str] = {}
        if pending:
            # Two detectors of one GPU would not be faster, and CUDA does not survive a fork.
            count = 0 if options.detector is not Detector.classical else cpu_threads() if workers is None else workers
            task = _Extraction(pending, [_mpp(folder, record) for record in pending], root, options, detector)
            index, failures = _run(task, index, min(count, len(pending)))
        overview = place / "overview.png"
        made = len(pending) - len(failures)
        if index.pairs and (made or not overview.exists()):
            _draw_overview(folder, index, options, detector, overview)
    return KnowledgeResult(
        folder=str(place),
        pairs=len(index.pairs),
        made=made,
        nuclei=_mean_nuclei(folder, index),
        overview=str(overview) if overview.exists() else None,
        failures=failures,
    )


def _keep_others(place: Path) -> None:
    """Refuse a folder of the same name that this command did not make.

    Raises:
        RestainError: there are maps or an overview, but nothing that says where they come from.
    """
    there = [name for name in (*MAPS, "overview.png") if (place / name).exists()]
    if there and not index_file(place.parent).is_file():
        raise RestainError(
            f"{place}: holds {', '.join(there)}, but no knowledge.json, so it may be another's. Move it away."
        )


@dataclass(frozen=True)
class _Extraction(Dataset["_Made"]):
    """The pairs to work on, as a data loader takes them: item i makes the maps of pair i and says what came of it."""

    records: Sequence[PairRecord]
    mpps: Sequence[float]
    root: Path
    options: KnowledgeOptions
    detector: NucleusDetector

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> _Made:
        record, mpp = self.records[index], self.mpps[index]
        try:
            stamp = file_stamp(record.ihc)  # before the image is read: if it changes meanwhile, its maps do not fit
            found = extract(record.read_side("ihc"), mpp, self.options, self.detector)
            for kind in MAPS:
                write_image(map_file(self.root, kind, record.split, record.name), getattr(found, kind))
        except (RestainError, OSError) as error:
            return _Made(record, error)
        return _Made(record, MapEntry(stamp, mpp, len(found.centroids)))


@dataclass(frozen=True)
class _Made:
    """What came of one pair."""

    record: PairRecord
    outcome: MapEntry | RestainError | OSError


def _run(task: _Extraction, index: KnowledgeIndex, workers: int) -> tuple[KnowledgeIndex, dict[str, str]]:
    """Work through ``task``; the index with what is finished, and the reason by file of what failed."""
    if index_file(task.root).exists():
        index.write(task.root)  # first of all, so that it never names a pair whose maps are being written
    pairs, failures, saved = dict(index.pairs), {}, monotonic()
    try:
        with progress_bar("knowledge maps", len(task)) as bar:
            for made in _results(task, workers):
                record = made.record
                if isinstance(made.outcome, MapEntry):
                    pairs[record.split, record.name] = made.outcome
                elif isinstance(made.outcome, ItemError | OSError):
                    failures[str(record.ihc)] = str(made.outcome).removeprefix(f"{record.ihc}: ")
                else:
                    raise made.outcome  # wrong use: it concerns every pair
                bar.note(record.name)
                bar.advance()
                if monotonic() - saved > SAVE_EVERY_S:
                    replace(index, pairs=pairs).write(task.root)
                    saved = monotonic()
    finally:
        index = replace(index, pairs=pairs)
        if pairs:
            index.write(task.root)
    return index, failures


def _results(task: _Extraction, workers: int) -> Iterator[_Made]:
    """What came of each pair, in order. The loader's processes end when this one dies, however it does."""
    loader = DataLoader(
        task,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),
    )
    try:
        yield from loader
    except RuntimeError as error:
        if not str(error).startswith(DEAD_WORKER):
            raise
        raise RestainError(
            f"{task.root}: a process that made knowledge maps was killed, which happens when memory runs out. Run the "
            "command again with fewer --workers; it goes on from here."
        ) from error


def _as_it_is(made: Any) -> Any:
    return made


def _with_mpp(folder: PairFolder, mpp: float | None) -> PairFolder:
    """The dataset with ``mpp`` where it says none.

    Raises:
        RestainError: no pairs, no um/px, or two that differ.
    """
    if not folder.records:
        raise RestainError(f"{folder.root}: no pairs. Knowledge maps are made for pairs, from their IHC.")
    checked_mpp(mpp, "--mpp")
    for record in folder.records:
        if record.mpp is None and mpp is None:
            raise MissingResolutionError(
                f"{folder.root}: {record.name} has no um/px, by which nuclei are told. Give it: `restain dataset "
                f"knowledge {folder.root} --mpp UM_PER_PX`, or as column mpp of pairs.csv."
            )
        if record.mpp is not None and mpp is not None and abs(mpp / record.mpp - 1) > 1e-3:
            raise RestainError(
                f"{folder.root}: says {record.mpp:g} um/px of {record.name}, --mpp says {mpp:g}. Leave --mpp out, or "
                "mend pairs.csv."
            )
    return folder if mpp is None else replace(folder, mpp=mpp)


def _mpp(folder: PairFolder, record: PairRecord) -> float:
    mpp = record.mpp or folder.mpp
    assert mpp is not None  # _with_mpp saw to it
    return mpp


def _finished(folder: PairFolder, wanted: KnowledgeIndex) -> dict[tuple[str, str], MapEntry]:
    """The pairs whose maps can stay, and in words why none can."""
    try:
        index = read_index(folder.root)
    except ItemError as error:
        console.print(f"{error} All maps are made again.", markup=False, soft_wrap=True)
        return {}
    if index is None:
        if any(record.extras for record in folder.records):
            message = "the maps that came with the dataset stay where they are; those made now are used instead."
            console.print(f"{folder.root}: {message}", markup=False, soft_wrap=True)
        return {}
    if index.settings != wanted.settings:
        names = sorted(index.settings.keys() | wanted.settings.keys())
        values = [(name, index.settings.get(name), wanted.settings.get(name)) for name in names]
        changed = ", ".join(f"{name} was {before}, is {now}" for name, before, now in values if before != now)
        console.print(
            f"{index_file(folder.root)}: other options ({changed}): all maps are made again.",
            markup=False,
            soft_wrap=True,
        )
        return {}
    return {
        (record.split, record.name): index.pairs[record.split, record.name]
        for record in folder.records
        if not why_unusable(folder, record, index, MAPS)
    }


def _by_level(folder: PairFolder, index: KnowledgeIndex) -> dict[str, list[PairRecord]]:
    """Pairs that have maps, by level in the levels' order."""
    groups: dict[str, list[PairRecord]] = defaultdict(list)
    for record in folder.records:
        if (record.split, record.name) in index.pairs:
            groups["unknown" if record.level is None else record.level].append(record)
    return {level: groups[level] for level in [*folder.levels, "unknown"] if groups[level]}


def _mean_nuclei(folder: PairFolder, index: KnowledgeIndex) -> dict[str, float]:
    return {
        level: round(sum(index.pairs[record.split, record.name].nuclei for record in records) / len(records), 2)
        for level, records in _by_level(folder, index).items()
    }


def _draw_overview(
    folder: PairFolder, index: KnowledgeIndex, options: KnowledgeOptions, detector: NucleusDetector, file: Path
) -> None:
    """A few pairs of every level below each other: the IHC with its nuclei, and the maps."""
    groups = _by_level(folder, index)
    each = max(1, OVERVIEW_PAIRS // len(groups))
    rows = []
    for level, records in groups.items():
        places = np.linspace(0, len(records) - 1, min(each, len(records))).round().astype(int)
        for record in (records[place] for place in places):
            try:
                ihc = record.read_side("ihc")
            except ItemError:
                continue  # it was readable when its maps were made
            title = record.name if level == "unknown" else f"{record.name} (level {level})"
            rows.append(knowledge_picture(ihc, extract(ihc, _mpp(folder, record), options, detector), title))
    if rows:
        width = min(OVERVIEW_WIDTH, max(row.shape[1] for row in rows))
        write_image(file, np.concatenate([_as_wide(row, width) for row in rows]))


def _as_wide(row: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """A picture scaled to ``width`` px."""
    if row.shape[1] == width:
        return row
    size = (width, max(1, round(row.shape[0] * width / row.shape[1])))
    return np.asarray(cv2.resize(row, size, interpolation=cv2.INTER_AREA), np.uint8)
