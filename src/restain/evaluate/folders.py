"""Which images are compared: real and generated folders, as other programs leave them, paired by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.data.layouts import detect_layout, image_files
from restain.data.levels import levels_from_names
from restain.data.pairs_csv import PairsTable, read_pairs_csv
from restain.data.reading import read_dataset
from restain.data.records import Side
from restain.slides import read_image

# How pix2pix, CycleGAN and CUT mark the files, or name the folders, of a results folder.
FAKE, REAL, SOURCE = "fake_B", "real_B", "real_A"
SIDES: Mapping[Side, str] = {"he": "H&E", "ihc": "IHC"}


@dataclass(frozen=True)
class RealImage:
    """One real image to compare with.

    Attributes:
        name: file name without suffix, by which its partners are found.
        path: its file.
        read: reads it, uint8 RGB [H, W, 3].
        level: its level, None where unknown.
        patient: its patient, None where unknown.
        read_he: reads the H&E image it belongs to; None where there is none.
        mpp: its um/px; None where unknown.
        mpp_assumed: nobody says its um/px; the protocol does.
    """

    name: str
    path: Path
    read: Callable[[], NDArray[np.uint8]]
    level: str | None = None
    patient: str | None = None
    read_he: Callable[[], NDArray[np.uint8]] | None = None
    mpp: float | None = None
    mpp_assumed: bool = False


@dataclass(frozen=True)
class RealFolder:
    """The real images.

    Attributes:
        images: by name, sorted.
        ambiguous: names that several files carry, with the reason why none is used.
        dropped: names that ``pairs.csv`` marks as not kept.
    """

    images: Mapping[str, RealImage]
    ambiguous: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NamedFiles:
    """Image files of one folder by name, and the names that several files carry with the reason why none is used."""

    files: Mapping[str, Path]
    ambiguous: Mapping[str, str]


def real_folder(
    real: Path, he: Path | None = None, split: str = "test", pairs: Path | None = None, role: str = REAL
) -> RealFolder:
    """The real images in ``real``.

    Args:
        real: a folder of images (``IHC/test``), a results folder with ``*_real_B`` files, or a patch-pair dataset in
            any layout that ``restain.data`` reads (then the images of ``split``, with their H&E).
        he: folder of H&E images under the same names, for the pictures only; None looks for the dataset that ``real``
            lies in, or the ``*_real_A`` files of a results folder.
        split: which split of a dataset; of generated images, that of their rows in ``pairs.csv`` unless their folder
            has the name of one. Of a folder of real images the folder's name is the split.
        pairs: a ``pairs.csv`` with levels and patients; None looks for one in ``real`` and in the two folders above it.
            Pairs that it marks as not kept are left out.
        role: which files of a results folder: ``real_B``, ``real_A`` (of a dataset, its H&E) or ``fake_B``.

    Raises:
        RestainError: no such folder, or no images in it.
    """
    if not real.is_dir():
        raise RestainError(f"{real}: no such folder. --real wants the folder of real images.")
    found = find_images(real, role)
    he = he or (_he_beside(real) if found else None)
    he_files = named_files(he, SOURCE).files if he else {}
    table = _pairs_table(real, pairs)
    if found:
        listed = _named(found, role)
        images = {name: RealImage(name, path, partial(read_image, path)) for name, path in listed.files.items()}
        ambiguous = listed.ambiguous
        if role != FAKE or (table and any(row.split == real.name for row in table.rows)):
            split = real.name
    else:
        images, ambiguous = _dataset_images(real, split, "he" if role == SOURCE else "ihc"), {}
    images = _with_table(images, table, split)
    dropped = frozenset(row.name for row in table.rows if not row.kept) if table else frozenset()
    return RealFolder({name: _with_he(images[name], he_files.get(name)) for name in sorted(images)}, ambiguous, dropped)


def named_files(folder: Path, role: str) -> NamedFiles:
    """The images of ``folder`` by name.

    Args:
        folder: images, or a results folder of pix2pix, CycleGAN or CUT (``images/NAME_fake_B.png``,
            ``images/fake_B/NAME.png``), of which only the files of ``role`` are taken.
        role: ``fake_B``, ``real_B`` or ``real_A``.

    Raises:
        RestainError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise RestainError(f"{folder}: no such folder.")
    found = find_images(folder, role)
    if not found:
        raise RestainError(f"{folder}: no images in it (looked for PNG, JPEG and TIFF, also in images/ and {role}/).")
    return _named(found, role)


def find_images(folder: Path, role: str) -> list[Path]:
    """The image files in ``folder``, or in the sub-folder where a results folder keeps those of ``role``."""
    for candidate in (folder, folder / role, folder / "images", folder / "images" / role):
        if files := image_files(candidate):
            return files
    return []


def printable(text: str) -> str:
    """``text`` with what UTF-8 cannot hold replaced: on Linux, file names are bytes of any kind."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _named(paths: list[Path], role: str) -> NamedFiles:
    """Files by stem; if some carry the suffix of ``role``, only these, and without it."""
    suffix = f"_{role}"
    marked = [path for path in paths if path.stem.endswith(suffix)]
    files: dict[str, list[Path]] = {}
    for path in marked or paths:
        files.setdefault(printable(path.stem.removesuffix(suffix)), []).append(path)
    ambiguous = {
        name: f"{', '.join(printable(str(path)) for path in same)}: one name but for the suffix. Remove all but one."
        for name, same in files.items()
        if len(same) > 1
    }
    return NamedFiles({name: same[0] for name, same in sorted(files.items()) if len(same) == 1}, ambiguous)


def _dataset_images(root: Path, split: str, side: Side) -> dict[str, RealImage]:
    """The images of one side and split of the dataset in ``root``, also those without a partner."""
    dataset = read_dataset(root)
    images = {
        record.name: RealImage(
            name=record.name,
            path=record.ihc if side == "ihc" else record.he,
            read=partial(record.read_side, side),
            level=record.level,
            patient=record.patient,
            read_he=partial(record.read_side, "he"),
            mpp=record.mpp,
        )
        for record in dataset.split(split)
    }
    for lone in dataset.lone:
        if lone.split == split and lone.side == side:
            images[lone.name] = RealImage(lone.name, lone.path, partial(lone.read_side, side), lone.level, mpp=lone.mpp)
    if not images:
        has = ", ".join(f"{name} ({count})" for name, count in dataset.splits.items()) or "none"
        raise RestainError(
            f"{root}: no {SIDES[side]} images in split {split!r}; it has {has}. Choose one with --split."
        )
    return images


def _he_beside(real: Path) -> Path | None:
    """Where the H&E of ``real`` lies: its own ``*_real_A`` files, or ``HE/test`` beside ``IHC/test`` of a dataset."""
    if any(path.stem.endswith(f"_{SOURCE}") or path.parent.name == SOURCE for path in find_images(real, SOURCE)):
        return real
    for root in real.resolve().parents[:2]:
        try:
            _, splits = detect_layout(root)
        except RestainError:
            continue
        for folders in splits.values():
            if folders.ihc == real.resolve() and image_files(folders.he):
                return folders.he
    return None


def _pairs_table(real: Path, pairs: Path | None) -> PairsTable | None:
    """The table in ``pairs``, or in the first ``pairs.csv`` of ``real`` and the two folders above it; else None."""
    if pairs is not None:
        if not pairs.is_file():
            raise RestainError(f"{pairs}: no such file. --pairs wants a pairs.csv with columns name, level, patient.")
        return read_pairs_csv(pairs)
    candidates = (folder / "pairs.csv" for folder in (real, *real.resolve().parents[:2]))
    return next((table for path in candidates if (table := read_pairs_csv(path))), None)


def _with_table(images: Mapping[str, RealImage], table: PairsTable | None, split: str) -> dict[str, RealImage]:
    """``images`` with the levels of their names, then with what ``table`` says; without the pairs that it drops."""
    levels = levels_from_names(images)
    result = {}
    for name, image in images.items():
        row = table.row(split, name) if table else None
        if row and not row.kept:
            continue
        level = (row and row.level) or image.level or levels.get(name)
        patient = (row and row.patient) or image.patient
        mpp = (row and row.mpp) or image.mpp
        result[name] = replace(image, level=level, patient=patient, mpp=mpp)
    return result


def _with_he(image: RealImage, path: Path | None) -> RealImage:
    """``image`` with the H&E image in ``path``, if there is one."""
    if path is None:
        return image
    return replace(image, read_he=partial(read_image, path))
