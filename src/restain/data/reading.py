"""Read a patch-pair dataset: find its layout, pair the files by name, add what ``pairs.csv`` knows."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path

from restain.core.errors import RestainError
from restain.data.knowledge_index import attach_maps
from restain.data.layouts import SplitFolders, detect_layout, image_files
from restain.data.levels import levels_from_names, sorted_levels
from restain.data.pairs_csv import PairsTable, read_pairs_csv
from restain.data.records import LoneImage, PairFolder, PairRecord, Problem, Side, ordered_splits


def read_dataset(root: str | Path) -> PairFolder:
    """The dataset in folder ``root``, whatever its layout; images are paired by file name without suffix.

    No image is decoded here, but the first one of a side-by-side dataset. What is wrong with the folders is in
    ``problems`` of the result, and the files concerned are left out; ``check_dataset`` looks into the images as well.
    ``pairs.csv`` in ``root`` (as ``build_pairs`` writes it; only ``name`` is required) gives split, level, slide,
    patient and um/px, and drops the pairs with ``kept`` 0; where it is silent, folders and file names decide.

    The knowledge maps in ``extras`` are those of ``root/knowledge`` (made by ``make_knowledge``) where
    ``knowledge.json`` is there; else those that came with the dataset in the he-ihc layout, as they are.

    Raises:
        RestainError: no such folder, no known layout, no image in it, or an unreadable ``pairs.csv``.
    """
    root = Path(root)
    layout, splits = detect_layout(root)
    records: list[PairRecord] = []
    lone: list[LoneImage] = []
    problems: list[Problem] = []
    for split, folders in splits.items():
        found, alone = _read_split(split, folders, problems)
        records += found
        lone += alone
    if not records and not lone:
        raise RestainError(f"{root}: its folders ({layout.name}) hold no images.")
    names = levels_from_names([record.name for record in records] + [image.name for image in lone])
    records = [replace(record, level=names.get(record.name)) for record in records]
    lone = [replace(image, level=names.get(image.name)) for image in lone]
    dropped = 0
    table = read_pairs_csv(root / "pairs.csv")
    if table is not None:
        lone = [_told_of(image, table) for image in lone if table.keeps(image.split, image.name)]
        records, dropped = _apply_table(table, records, {image.name for image in lone}, problems)
    records = attach_maps(root, records)
    order = ordered_splits({record.split for record in records})
    records.sort(key=lambda record: (order.index(record.split), record.name))
    occurring = [record.level for record in records] + [image.level for image in lone]
    resolutions = {record.mpp for record in records} or {image.mpp for image in lone}
    return PairFolder(
        root=root,
        layout=layout.name,
        records=tuple(records),
        levels=sorted_levels(level for level in occurring if level is not None),
        mpp=resolutions.pop() if len(resolutions) == 1 else None,
        lone=tuple(lone),
        problems=tuple(problems),
        dropped=dropped,
    )


def _read_split(split: str, folders: SplitFolders, problems: list[Problem]) -> tuple[list[PairRecord], list[LoneImage]]:
    """The pairs and the partnerless images of one split; what is wrong is added to ``problems``."""
    he, ambiguous = _by_stem(folders.he, problems)
    ihc = he
    if not folders.side_by_side:
        ihc, more = _by_stem(folders.ihc, problems)
        ambiguous = ambiguous | more
        # A partner of an ambiguous file is neither paired nor without a partner.
        he, ihc = ({name: files[name] for name in files if name not in ambiguous} for files in (he, ihc))
    extras = {kind: _by_stem(folder, problems)[0] for kind, folder in folders.extras.items()}
    records = [
        PairRecord(
            name=name,
            he=he[name],
            ihc=ihc[name],
            level=None,
            split=split,
            side_by_side=folders.side_by_side,
            extras={kind: files[name] for kind, files in extras.items() if name in files},
        )
        for name in sorted(he.keys() & ihc.keys())
    ]
    lone = [*_lone(he, ihc, split, "he"), *_lone(ihc, he, split, "ihc")]
    if not he and not ihc and not ambiguous:
        problems.append(
            Problem("warning", "empty-split", str(folders.he), f"split {split} is empty: no images in {folders.he}.")
        )
    elif not records and lone:
        problems.append(_no_pairs(split, folders, he, ihc))
    else:
        problems += [_missing_partner(image, folders) for image in lone]
    return records, lone


def _by_stem(folder: Path, problems: list[Problem]) -> tuple[dict[str, Path], set[str]]:
    """Image files by stem, and the stems that occur twice: reported and left out, as it is not clear which is meant."""
    files: dict[str, list[Path]] = {}
    for path in image_files(folder):
        files.setdefault(path.stem, []).append(path)
    for paths in files.values():
        if len(paths) > 1:
            others = ", ".join(path.name for path in paths[1:])
            message = f"{others} has the same name but for the suffix; none is used. Remove all but one."
            problems.append(Problem("error", "duplicate-stem", str(paths[0]), message))
    ambiguous = {stem for stem, paths in files.items() if len(paths) > 1}
    return {stem: paths[0] for stem, paths in files.items() if stem not in ambiguous}, ambiguous


def _lone(these: Mapping[str, Path], those: Mapping[str, Path], split: str, side: Side) -> list[LoneImage]:
    return [LoneImage(name, these[name], split, side) for name in sorted(these.keys() - those.keys())]


def _missing_partner(image: LoneImage, folders: SplitFolders) -> Problem:
    other = folders.ihc if image.side == "he" else folders.he
    message = f"no partner called {image.name} in {other}; the image is left out of paired training."
    return Problem("error", "missing-partner", str(image.path), message)


def _no_pairs(split: str, folders: SplitFolders, he: Mapping[str, Path], ihc: Mapping[str, Path]) -> Problem:
    """One problem for a split without any pair, instead of one for each image."""
    message = (
        f"split {split}: {len(he)} images in {folders.he} and {len(ihc)} in {folders.ihc}, but no name is in both. "
        "Only methods that train on unpaired images can use them."
    )
    return Problem("warning", "no-pairs", str(folders.he if he else folders.ihc), message)


def _told_of(image: LoneImage, table: PairsTable) -> LoneImage:
    """An image without a partner with what ``pairs.csv`` says of it."""
    row = table.row(image.split, image.name)
    return image if row is None else replace(image, level=row.level or image.level, mpp=row.mpp)


def _apply_table(
    table: PairsTable, records: list[PairRecord], lone: Set[str], problems: list[Problem]
) -> tuple[list[PairRecord], int]:
    """Records with what ``pairs.csv`` says of them, and how many it drops; ``lone``: names without a partner."""
    kept: list[PairRecord] = []
    for record in records:
        if not table.keeps(record.split, record.name):
            continue
        row = table.row(record.split, record.name)
        if row is None:
            message = f"not listed in {table.path}; its slide and patient are unknown."
            problems.append(Problem("warning", "not-listed", str(record.he), message))
            kept.append(record)
        else:
            kept.append(
                replace(
                    record,
                    level=row.level or record.level,
                    split=row.split or record.split,
                    slide=row.slide,
                    patient=row.patient,
                    mpp=row.mpp,
                )
            )
    present = {record.name for record in records}
    reported = {Path(problem.file).stem for problem in problems if problem.severity == "error"}
    for row in table.rows:
        if row.kept and row.name not in present | reported and not (row.side and row.name in lone):
            message = f"listed in {table.path}, but there is no such pair of images."
            problems.append(Problem("error", "missing-pair", row.name, message))
    return kept, sum(not row.kept for row in table.rows)
