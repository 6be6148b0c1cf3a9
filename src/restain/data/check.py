"""Check a patch-pair dataset: every file that training would stumble over, by name, before it does."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError
from restain.core.workers import cpu_threads
from restain.data.knowledge_index import index_file, knowledge_command, read_index, why_unusable
from restain.data.layouts import MAPS
from restain.data.reading import read_dataset
from restain.data.records import LoneImage, PairFolder, PairRecord, Problem, dataset_fingerprint
from restain.data.scan import ScannedPair, scan


@dataclass(frozen=True)
class DatasetReport:
    """The result of a check.

    Attributes:
        root: the dataset's folder.
        layout: the layout it is in.
        splits: good pairs by split.
        levels: good pairs by level (``unknown`` where a pair has none).
        dropped: pairs that ``pairs.csv`` lists as not kept.
        fingerprint: hash of the dataset's content, as in ``run.json``.
        problems: what is wrong, errors first.
    """

    root: str
    layout: str
    splits: dict[str, int]
    levels: dict[str, int]
    dropped: int
    fingerprint: str
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> list[Problem]:
        """The problems with single items; warnings are left out."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def exit_code(self) -> int:
        """0, or 1 where an item is bad."""
        return 1 if self.errors else 0

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {**asdict(self), "errors": len(self.errors), "warnings": len(self.problems) - len(self.errors)}


def check_dataset(root: str | Path) -> DatasetReport:
    """Read every image of the dataset in ``root`` and list what is wrong.

    Errors concern single items: a missing partner, an unreadable image, different sizes in a pair, two files of one
    name. Warnings concern the whole: mixed sizes or um/px, missing levels, empty splits, the same picture twice, a
    patient or slide in two splits, slides that cannot be told apart, or knowledge maps that are missing or out of date.

    Raises:
        RestainError: the folder is no dataset.
    """
    folder = read_dataset(root)
    scanned = scan(folder, "checking pairs")
    problems = [*folder.problems, *_bad_images(scanned), *_mixed_sizes(scanned), *_repeated(scanned)]
    problems += [*_levels(folder), *_splits(folder), *_origin(folder), *_maps(folder), *_map_images(scanned)]
    problems.sort(key=lambda problem: problem.severity)
    bad = {problem.file for problem in problems if problem.severity == "error"}
    good = [record for record in folder.records if not {str(record.he), str(record.ihc)} & bad]
    return DatasetReport(
        root=str(folder.root),
        layout=folder.layout,
        splits={split: sum(record.split == split for record in good) for split in folder.splits},
        levels=_count_levels(folder, good),
        dropped=folder.dropped,
        fingerprint=dataset_fingerprint(folder),
        problems=tuple(problems),
    )


def without_bad_images(folder: PairFolder) -> PairFolder:
    """``folder`` without the pairs that training would fail on, after decoding every image.

    Pairs with an unreadable image or different sizes, and unreadable images without a partner, are left out; each is
    among the ``problems`` of the result.
    """
    problems = [problem for problem in _bad_images(scan(folder, "looking at pairs")) if problem.severity == "error"]
    bad = {problem.file for problem in problems}
    return replace(
        folder,
        records=tuple(record for record in folder.records if not {str(record.he), str(record.ihc)} & bad),
        lone=tuple(image for image in folder.lone if str(image.path) not in bad),
        problems=(*folder.problems, *problems),
    )


def _count_levels(folder: PairFolder, records: list[PairRecord]) -> dict[str, int]:
    counts = Counter(record.level for record in records)
    known = {level: counts[level] for level in folder.levels}
    return known if not counts[None] else {**known, "unknown": counts[None]}


def _bad_images(scanned: list[ScannedPair]) -> Iterator[Problem]:
    for pair in scanned:
        for path, reason in pair.unreadable:
            yield Problem("error", "unreadable", str(path), reason)
        if pair.he is None or pair.ihc is None:
            continue
        width, height = pair.he.size[0] + pair.ihc.size[0], pair.he.size[1]
        if isinstance(pair.record, PairRecord) and pair.record.side_by_side and width != 2 * height:
            message = f"{_px((width, height))} is not twice as wide as high, so it is not two images."
            yield Problem("error", "not-side-by-side", str(pair.he.path), message)
        elif pair.he.size != pair.ihc.size:
            message = (
                f"{_px(pair.he.size)}, but its partner {pair.ihc.path} has {_px(pair.ihc.size)}. "
                "Cut both from registered slides again, or remove the pair."
            )
            yield Problem("error", "different-sizes", str(pair.he.path), message)
        elif pair.he.digest == pair.ihc.digest:
            message = "H&E and IHC are the same picture."
            yield Problem("warning", "same-picture", str(pair.he.path), message)


def _mixed_sizes(scanned: list[ScannedPair]) -> Iterator[Problem]:
    facts = [image for pair in scanned for image in (pair.he, pair.ihc) if image is not None]
    sizes = Counter(image.size for image in facts)
    if len(sizes) > 1:
        usual, _ = sizes.most_common(1)[0]
        odd = next(image for image in facts if image.size != usual)
        table = ", ".join(f"{_px(size)} ({count})" for size, count in sizes.most_common(5))
        message = (
            f"images of {len(sizes)} sizes: {table}; {odd.path} is one of the fewer. Batches above 1 need the "
            "augmentation's crop."
        )
        yield Problem("warning", "mixed-sizes", str(odd.path), message)


def _repeated(scanned: list[ScannedPair]) -> Iterator[Problem]:
    """Pictures that occur more than once: across splits they make the test set known to the training."""
    seen: dict[str, dict[Path, PairRecord | LoneImage]] = defaultdict(dict)
    for pair in scanned:
        for image in (pair.he, pair.ihc):
            if image is not None:
                seen[image.digest][image.path] = pair.record
    for files in seen.values():
        if len({(record.split, record.name) for record in files.values()}) > 1:
            first, *others = files
            splits = sorted({record.split for record in files.values()})
            where = f"in splits {' and '.join(splits)}" if len(splits) > 1 else f"within {splits[0]}"
            message = f"the same picture {len(files)} times {where}: also {', '.join(map(str, others[:3]))}."
            yield Problem("warning", "repeated-picture", str(first), message)


def _levels(folder: PairFolder) -> Iterator[Problem]:
    unknown = [record for record in folder.records if record.level is None]
    if unknown and not folder.levels:
        message = (
            "no levels in the file names (like 00820_train_2+.png) and none in pairs.csv; methods and "
            "tables by level cannot be used."
        )
        yield Problem("warning", "no-levels", str(folder.root), message)
    elif unknown:
        message = f"{len(unknown)} of {len(folder.records)} pairs have no level; the first is {unknown[0].he}."
        yield Problem("warning", "levels-missing", str(unknown[0].he), message)


def _splits(folder: PairFolder) -> Iterator[Problem]:
    if folder.records and not folder.split("train"):
        have = ", ".join(f"{split} ({count})" for split, count in folder.splits.items())
        message = f"no pairs in split train; there are {have}."
        yield Problem("warning", "no-training-pairs", str(folder.root), message)


def _origin(folder: PairFolder) -> Iterator[Problem]:
    """Patients or slides on both sides of a split, or not known at all; mixed um/px."""
    several = len(folder.splits) > 1
    for kind in ("patient", "slide"):
        splits: dict[str, set[str]] = defaultdict(set)
        for record in folder.records:
            if (origin := getattr(record, kind)) is not None:
                splits[origin].add(record.split)
        shared = [origin for origin, found in sorted(splits.items()) if len(found) > 1]
        if shared:
            message = (
                f"{len(shared)} {kind}s are in more than one split ({', '.join(shared[:5])}): results on the test "
                f"split will be too good. Split by {kind}."
            )
            yield Problem("warning", f"shared-{kind}", str(folder.root), message)
    if several and all(record.patient is None and record.slide is None for record in folder.records):
        message = (
            "slides and patients cannot be told apart (no pairs.csv with columns slide, patient). The "
            "given split is used; it may be by patch, with patches of one slide in training and test."
        )
        yield Problem("warning", "origin-unknown", str(folder.root), message)
    resolutions = {record.mpp for record in folder.records}
    if len(resolutions) > 1:
        table = ", ".join(str(mpp) if mpp is not None else "unknown" for mpp in sorted(resolutions, key=str))
        message = f"patches of different um/px in pairs.csv ({table}); a stainer needs one."
        yield Problem("warning", "mixed-resolution", str(folder.root), message)


def _maps(folder: PairFolder) -> Iterator[Problem]:
    """Knowledge maps that are missing or out of date, where the dataset has any."""
    advice = f"Run `{knowledge_command(folder)}`."
    try:
        index = read_index(folder.root)
    except ItemError as error:
        file = str(index_file(folder.root))
        yield Problem("warning", "maps-unreadable", file, f"{str(error).removeprefix(f'{file}: ')} {advice}")
        return
    kinds = MAPS if index is not None else sorted({kind for record in folder.records for kind in record.extras})
    bad = [(record, reason) for record in folder.records if (reason := why_unusable(folder, record, index, kinds))]
    if bad:
        first, reason = bad[0]
        count = f"{len(bad)} of {len(folder.records)} pairs have no usable knowledge maps"
        message = f"{count}; the first, {first.name}, {reason}. {advice}"
        yield Problem("warning", "maps-unusable", str(first.ihc), message)


def _map_images(scanned: list[ScannedPair]) -> Iterator[Problem]:
    """Knowledge maps that cannot be read, or have another size than their pair."""

    def wrong(pair: ScannedPair) -> list[tuple[Path, str]]:
        found: list[tuple[Path, str]] = []
        if not isinstance(pair.record, PairRecord) or pair.ihc is None:
            return found
        for kind, path in pair.record.extras.items():
            try:
                height, width = pair.record.read_map(kind).shape[:2]
            except ItemError as error:
                found.append((path, str(error).removeprefix(f"{path}: ")))
                continue
            if (width, height) != pair.ihc.size:
                found.append((path, f"{_px((width, height))}, but its pair has {_px(pair.ihc.size)}."))
        return found

    with ThreadPoolExecutor(cpu_threads()) as pool:
        for problems in pool.map(wrong, scanned):
            for path, reason in problems:
                message = f"{reason} Remove it and run `restain dataset knowledge`."
                yield Problem("warning", "map-unusable", str(path), message)


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} px"
