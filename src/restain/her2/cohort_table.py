"""The table of a cohort: its patients, and how the features files of their slides are called.

Files are called as the slides are: ``a_he.h5`` for ``slides/a_he.ome.tif``. Slides of the same file name keep as many
of their folders as tell them apart: ``P1/he.h5`` and ``P2/he.h5``.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_csv
from restain.her2.labels import ClassSet
from restain.her2.splits import SPLITS

STAINS = ("he", "ihc")
"""Columns of slides."""


@dataclass(frozen=True)
class Patient:
    """One patient of a cohort.

    Attributes:
        name: as the table has it.
        label: number of the class.
        he: features files of the H&E slides.
        ihc: those of the IHC slides; empty where IHC was not asked for.
        split: train, val or test, where the table says so.
    """

    name: str
    label: int
    he: tuple[Path, ...]
    ihc: tuple[Path, ...] = ()
    split: str | None = None


def read_patients(
    cohort: Path, features: Path, ihc_features: Path | None, classes: ClassSet | None
) -> tuple[dict[str, Patient], ClassSet]:
    """The patients of a cohort CSV with the features files that they must have, and the classes of their labels.

    Args:
        cohort: CSV ``patient,he[,ihc],her2[,split]``; a patient may have several rows.
        features: folder of the H&E's features.
        ihc_features: folder of the IHC's; None leaves IHC out.
        classes: that the labels name; None makes a class of each label as it stands, also of none.

    Raises:
        RestainError: labels that are no class, patients with several labels or splits, a slide of two patients.
    """
    rows = read_cohort(cohort, ["patient", "he"])
    column = next((name for name in ("her2", "level") if name in rows[0]), None)
    if column is None and classes is not None:
        raise RestainError(f"{cohort}: no column her2 (or level) with the status of each patient.")
    learned = classes is not None
    classes = classes or ClassSet.of(row.get(column or "", "") for row in rows)
    files = {
        stain: _files(cohort, folder, rows, stain) if folder else {}
        for stain, folder in zip(STAINS, (features, ihc_features), strict=True)
    }
    found: dict[str, Patient] = {}
    owner: dict[Path, str] = {}
    for line, row in enumerate(rows, start=2):
        name = row["patient"]
        where = f"{cohort}: line {line}, patient {name or '(empty)'}"
        if not name or not row["he"]:
            raise RestainError(f"{where}: a row needs patient and he.")
        label, split = classes.number(row.get(column or "", ""), where), row.get("split", "")
        if split and split not in SPLITS:
            raise RestainError(f"{where}: split {split!r} is none of {', '.join(SPLITS)}.")
        before = found.get(name, Patient(name, label, (), (), split or None))
        if before.label != label and learned:
            raise RestainError(f"{where}: label {classes.names[label]} here and another one above; a patient has one.")
        if (before.split or "") != split:
            raise RestainError(
                f"{where}: is in split {before.split or '(none)'} and in split {split or '(none)'}. Scores would be "
                "too good: put all slides of a patient into one split."
            )
        own = [files[stain].get(row.get(stain, "")) for stain in STAINS]
        for path in own:
            if path is not None and owner.setdefault(path, name) != name:
                raise RestainError(f"{where}: {path} is of patient {owner[path]} as well; a slide has one patient.")
        he, ihc = (
            tuple(dict.fromkeys((*kept, *([path] if path else []))))
            for kept, path in zip((before.he, before.ihc), own, strict=True)
        )
        found[name] = replace(before, he=he, ihc=ihc)
    undecided = sorted(name for name, patient in found.items() if not patient.split)
    if undecided and len(undecided) < len(found):
        raise RestainError(f"{cohort}: column split is empty for {', '.join(undecided[:5])}. Fill it for all, or none.")
    return found, classes


def _files(cohort: Path, features: Path, rows: Sequence[Mapping[str, str]], column: str) -> dict[str, Path]:
    """The features files of the slides in a column, by the slide as the table writes it."""
    slides = {row[column]: cohort.parent / row[column] for row in rows if row.get(column)}
    found = feature_files(features, slides.values())
    return {text: found[slide] for text, slide in slides.items()}


def read_cohort(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a cohort's CSV, cells without outer spaces, empty where a row is short.

    Raises:
        RestainError: it cannot be read, lacks a column of ``required``, or has no rows.
    """
    try:
        rows = read_csv(path, required)
    except ItemError as error:  # one table is all that was given: wrong use, not one item of many
        raise RestainError(str(error)) from error
    if not rows:
        raise RestainError(f"{path}: the cohort has no rows.")
    return [{key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in rows]


def slide_stem(slide: str) -> str:
    """The name of a slide's features file without ``.h5``: the slide's, without ``.ome.tif`` and the like."""
    return re.sub(r"\.ome$", "", Path(slide).stem, flags=re.IGNORECASE)


def feature_names(slides: Iterable[Path]) -> dict[Path, str]:
    """What the features of slides are called, without ``.h5``: with the folders that tell them apart, where any must.

    Args:
        slides: paths of slides; the same path may come more than once.

    Raises:
        RestainError: two slides of one folder differ in nothing but their format.
    """
    tails = {slide: _tails(slide) for slide in slides}
    groups: dict[str, list[Path]] = defaultdict(list)
    for slide, own in tails.items():
        groups[own[-1]].append(slide)
    names: dict[Path, str] = {}
    for stem, members in groups.items():
        different = {tails[slide][0] for slide in members}
        file = {os.path.normpath(slide.absolute()): slide for slide in members}
        if len(different) < len(file):
            listed = " and ".join(str(slide) for slide in file.values())
            raise RestainError(f"{listed}: the features of both would be {stem}.h5. Rename one, or leave it out.")
        depth = 1
        while len({_tail(tails[slide], depth) for slide in members}) < len(different):
            depth += 1
        names |= {slide: _tail(tails[slide], depth) for slide in members}
    return names


def feature_files(folder: Path, slides: Iterable[Path]) -> dict[Path, Path]:
    """The features files of slides in ``folder``, there or not.

    A file that lies there with more of the slide's folders than are needed is taken first: features that were made for
    a larger cohort, in which they were needed, serve a part of it.

    Raises:
        RestainError: as ``feature_names``.
    """
    found: dict[Path, Path] = {}
    for slide, name in feature_names(slides).items():
        tails = _tails(slide)
        longer = (folder / f"{tail}.h5" for tail in tails[: tails.index(name)])
        found[slide] = next((path for path in longer if path.is_file()), folder / f"{name}.h5")
    return found


def _tails(slide: Path) -> list[str]:
    """Names of a slide's features from the longest, with all folders, to the file's alone."""
    whole = Path(os.path.normpath(slide.absolute()))  # links are not followed: their names are what the table says
    parts = [*whole.parent.parts[1:], slide_stem(whole.name)]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _tail(tails: Sequence[str], depth: int) -> str:
    return tails[max(0, len(tails) - depth)]
