"""Quality control of a dataset: measure every image once, judge them by each other, and show the worst."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from restain.core.errors import ItemError, RestainError
from restain.core.files import remove_stale, write_csv
from restain.core.items import lock_beside_dataset
from restain.core.progress import progress_bar
from restain.core.runs import checked_mpp
from restain.core.workers import cpu_threads
from restain.data.quality import FLAGGED, KINDS, Measures, Quality, Usual, judge, kind_name, measure
from restain.data.quality_filter import QualityFilter
from restain.data.quality_index import Key, Measured, QualityIndex, Scored, quality_folder, read_index, sides
from restain.data.quality_sheet import Entry, draw_sheet
from restain.data.reading import read_dataset
from restain.data.records import LoneImage, PairFolder, PairRecord, Side, file_stamp
from restain.slides import write_image

SAVE_EVERY_S = 5.0
"""How much work, in seconds, a killed command may lose."""

_SHARP_FROM, _COLOUR_FROM = 8, 4
"""Images that it takes to say how sharp, and of what colour, they usually are."""

Item = PairRecord | LoneImage


@dataclass(frozen=True)
class QualityReport:
    """The quality of a dataset.

    Attributes:
        folder: where ``quality.csv``, ``quality.json`` and ``contact_sheet.png`` lie.
        pairs: pairs that were judged.
        lone: images without a partner that were judged.
        measured: images that were measured by this call.
        dropped: by split, how many the filter would leave out of training on it.
        flagged: by kind, how many are bad of it (score 0.5 and more in either image).
        unjudged: by kind, in how many images it could not be judged, with the commonest reason.
        sheet: the picture of the worst; None where nothing was judged.
        failures: reason by file, for images that could not be read.
    """

    folder: str
    pairs: int
    lone: int
    measured: int
    dropped: dict[str, int]
    flagged: dict[str, int]
    unjudged: dict[str, str]
    sheet: str | None
    failures: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return asdict(self)


def check_quality(
    root: str | Path,
    quality: QualityFilter = QualityFilter(threshold=FLAGGED),  # noqa: B008 (frozen)
    mpp: float | None = None,
) -> QualityReport:
    """Judge all images of the dataset in ``root``.

    Writes ``quality/quality.csv`` (a row for each pair: score, reason, and each kind's score by stain),
    ``quality/contact_sheet.png`` (the worst pairs, and those at the border) and ``quality/quality.json``, by which
    training leaves pairs out. Called again it measures only images that are new or have changed; it may be killed at
    any time.

    Args:
        root: a patch-pair dataset in any layout.
        quality: where the contact sheet draws the border, and what is counted as dropped.
        mpp: um/px of the images, for datasets that do not say it.

    Raises:
        RestainError: no dataset, an um/px that cannot be or contradicts the dataset's, a folder that cannot be written,
            or another command that writes there.
    """
    checked_mpp(mpp, "--mpp")
    folder = read_dataset(root)
    _require_one_mpp(folder, mpp)
    place = quality_folder(folder.root)
    if place.exists() and not place.is_dir():
        raise RestainError(
            f"{place}: is a file, but what is known of the dataset's quality is written to a folder of this name. "
            "Rename or remove the file."
        )
    with lock_beside_dataset(place, "the quality of a dataset lies with it"):
        remove_stale(place)
        images, done, failures = _measure_all(folder, mpp)
        items = [item for item in _items(folder) if all(_key(item, side) in images for side, _ in sides(item))]
        judged = _judge_all(items, images)
        scored = {
            (item.split, item.name): Scored(
                tuple(images[_key(item, side)].stamp for side, _ in sides(item)),
                max(found.total for found in judged[index].values()),
            )
            for index, item in enumerate(items)
        }
        QualityIndex(images, scored).write(folder.root)
        _write_table(place / "quality.csv", items, judged)
        sheet = _draw(place / "contact_sheet.png", items, judged, quality)
    found = [one for both in judged for one in both.values()]
    return QualityReport(
        folder=str(place),
        pairs=sum(isinstance(item, PairRecord) for item in items),
        lone=sum(isinstance(item, LoneImage) for item in items),
        measured=done,
        dropped=_count_dropped(items, judged, quality),
        flagged={
            kind: sum(any((one.scores[kind] or 0) >= FLAGGED for one in both.values()) for both in judged)
            for kind in KINDS
        },
        unjudged=_unjudged(found),
        sheet=sheet,
        failures=failures,
    )


def _measure_all(folder: PairFolder, mpp: float | None) -> tuple[dict[Key, Measured], int, dict[str, str]]:
    """The measures of all readable images, how many were made now, and the reasons by file for the others."""
    try:
        before = read_index(folder.root)
    except ItemError:
        before = None  # it is made again
    known: dict[Key, Measured] = {} if before is None else dict(before.images)
    work = [(item, side, path) for item in _items(folder) for side, path in sides(item)]
    images: dict[Key, Measured] = {}
    failures: dict[str, str] = {}
    made, saved = 0, monotonic()

    def look(task: tuple[Item, Side, Path]) -> Measured | ItemError | OSError:
        item, side, path = task
        at = item.mpp if item.mpp is not None else mpp
        try:
            stamp = file_stamp(path)  # before it is read: if it changes meanwhile, what was measured does not fit
            there = known.get(_key(item, side))
            if there is not None and there.stamp == stamp and there.measures.mpp == at:
                return there
            return Measured(stamp, measure(item.read_side(side), at))
        except (ItemError, OSError) as error:
            return error

    with progress_bar("quality", len(work)) as bar, ThreadPoolExecutor(cpu_threads()) as pool:
        try:
            for (item, side, path), outcome in zip(work, pool.map(look, work), strict=True):
                if isinstance(outcome, Measured):
                    made += outcome is not known.get(_key(item, side))
                    images[_key(item, side)] = outcome
                else:
                    failures[str(path)] = str(outcome).removeprefix(f"{path}: ")
                bar.advance()
                if made and monotonic() - saved > SAVE_EVERY_S:
                    QualityIndex({**known, **images}, {}).write(folder.root)
                    saved = monotonic()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            QualityIndex({**known, **images}, {}).write(folder.root)
            raise
    return images, made, failures


def _judge_all(items: Sequence[Item], images: Mapping[Key, Measured]) -> list[dict[Side, Quality]]:
    """The judgement of each image of each item, by what is usual on its slide and in the dataset."""
    groups: dict[tuple[Side, str | None], list[Measures]] = defaultdict(list)
    for item in items:
        for side, _ in sides(item):
            measures = images[_key(item, side)].measures
            groups[side, None].append(measures)
            if (slide := getattr(item, "slide", None)) is not None:
                groups[side, slide].append(measures)
    sharp = {group: _usual_sharpness(measures) for group, measures in groups.items()}
    colours = {side: _usual_colour(groups.get((side, None), [])) for side in ("he", "ihc")}
    one, two = (colours[side] for side in ("he", "ihc"))
    alike = one is None or two is None or math.dist(one, two) < 0.05

    def judged(item: Item, side: Side) -> Quality:
        of_slide = sharp.get((side, getattr(item, "slide", None)))
        other: Side = "ihc" if side == "he" else "he"
        usual = Usual(
            sharp=of_slide if of_slide is not None else sharp[side, None],
            colour=None if alike else colours[side],
            other=None if alike else colours[other],
        )
        return judge(images[_key(item, side)].measures, usual)

    return [{side: judged(item, side) for side, _ in sides(item)} for item in items]


def _usual_sharpness(measures: Sequence[Measures]) -> float | None:
    """How sharp good images are: the 75th percentile of those that show tissue, for some may be out of focus."""
    values = [one.sharp for one in measures if one.sharp is not None and (one.blank or 0) < 0.7 and one.pen == 0]
    return float(np.percentile(values, 75)) if len(values) >= _SHARP_FROM else None


def _usual_colour(measures: Sequence[Measures]) -> tuple[float, float, float] | None:
    """The usual colour of a stain: the median of those images that show enough of it."""
    values = [one.colour for one in measures if one.colour is not None and one.density >= 0.03 and one.pen == 0]
    if len(values) < _COLOUR_FROM:
        return None
    red, green, blue = (float(value) for value in np.median(np.asarray(values), axis=0))
    return red, green, blue


def _write_table(file: Path, items: Sequence[Item], judged: Sequence[Mapping[Side, Quality]]) -> None:
    columns = ["name", "split", "level", "score", "reason"]
    columns += [f"{side}_{kind}" for side in ("he", "ihc") for kind in KINDS]

    def rows() -> Iterator[dict[str, object]]:
        for item, both in zip(items, judged, strict=True):
            entry = _entry(item, both)
            row: dict[str, object] = {"name": item.name, "split": item.split, "level": item.level}
            row |= {"score": entry.score, "reason": "; ".join(entry.reasons)}
            yield row | {f"{side}_{kind}": one.scores[kind] for side, one in both.items() for kind in KINDS}

    write_csv(file, columns, rows())


def _entry(item: Item, both: Mapping[Side, Quality]) -> Entry:
    words = {"he": "H&E", "ihc": "IHC"}
    reasons = [f"{words[side]}: {reason}" for side, one in both.items() for reason in one.reasons]
    return Entry(item, max(one.total for one in both.values()), tuple(reasons), _closest(both))


def _closest(both: Mapping[Side, Quality]) -> str:
    """The kind that an item comes closest to being bad of, in words."""
    words = {"he": "H&E", "ihc": "IHC"}
    side, kind, score = max(
        ((side, kind, one.scores[kind] or 0.0) for side, one in both.items() for kind in KINDS), key=lambda row: row[2]
    )
    return f"{words[side]}: {kind_name(kind)} {score:.2f}" if score > 0 else "nothing"


def _draw(
    file: Path, items: Sequence[Item], judged: Sequence[Mapping[Side, Quality]], quality: QualityFilter
) -> str | None:
    """The contact sheet, over all splits: each split's worst as the filter would have them, and those next to them."""
    if not items:
        file.unlink(missing_ok=True)
        return None
    entries = [_entry(item, both) for item, both in zip(items, judged, strict=True)]
    out = set(quality.dropped([entry.score for entry in entries]))
    bad = sorted((entries[index] for index in out), key=lambda entry: -entry.score)
    kept = sorted((e for index, e in enumerate(entries) if index not in out), key=lambda entry: -entry.score)
    write_image(file, draw_sheet(bad, kept))
    return str(file)


def _count_dropped(
    items: Sequence[Item], judged: Sequence[Mapping[Side, Quality]], quality: QualityFilter
) -> dict[str, int]:
    scores: dict[str, list[float]] = defaultdict(list)
    for item, both in zip(items, judged, strict=True):
        scores[item.split].append(max(one.total for one in both.values()))
    return {split: len(quality.dropped(values)) for split, values in scores.items()}


def _unjudged(found: Sequence[Quality]) -> dict[str, str]:
    said: dict[str, Counter[str]] = {
        kind: Counter(one.unjudged[kind] for one in found if kind in one.unjudged) for kind in KINDS
    }
    return {
        kind: f"{reasons.total()} of {len(found)} images: {reasons.most_common(1)[0][0]}"
        for kind, reasons in said.items()
        if reasons
    }


def _require_one_mpp(folder: PairFolder, mpp: float | None) -> None:
    for item in _items(folder) if mpp is not None else ():
        if item.mpp is not None and mpp is not None and abs(mpp / item.mpp - 1) > 1e-3:
            raise RestainError(
                f"{folder.root}: says {item.mpp:g} um/px of {item.name}, --mpp says {mpp:g}. Leave --mpp out, or mend "
                "pairs.csv."
            )


def _items(folder: PairFolder) -> list[Item]:
    return [*folder.records, *folder.lone]


def _key(item: Item, side: Side) -> Key:
    return item.split, item.name, side
