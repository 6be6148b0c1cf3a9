"""Images with levels for the downstream classifier: from folders, split by patient, scaled into memory."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, RestainError
from restain.core.workers import cpu_threads
from restain.data.split import split_groups
from restain.evaluate.folders import FAKE, RealImage, find_images, printable, real_folder
from restain.evaluate.measure import bounded_map


@dataclass(frozen=True)
class LabelledFolder:
    """The images of a folder whose level is known.

    Attributes:
        folder: the folder.
        images: sorted by name, each with a level.
        unlabelled: names of images whose level is not known: they are not used.
        role: what it holds, ``fake_B``, ``real_B`` or ``real_A``: of a dataset the folder alone does not say it.
        ambiguous: names that several files carry, with the reason why none is used.
    """

    folder: Path
    images: tuple[RealImage, ...]
    unlabelled: tuple[str, ...]
    role: str
    ambiguous: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelledImages:
    """Images in memory.

    Attributes:
        pixels: uint8 RGB [n, size, size, 3].
        names: of the images [n].
        levels: of the images [n].
        patients: of the images, None where unknown [n].
        digest: SHA-256 over names, levels, patients and files.
        failures: the reason, by name, of images that could not be read, or told from others of their name.
    """

    pixels: NDArray[np.uint8]
    names: tuple[str, ...]
    levels: tuple[str, ...]
    patients: tuple[str | None, ...]
    digest: str
    failures: dict[str, str]

    @property
    def units(self) -> tuple[str, ...]:
        """What belongs together: patients where all are known, else the images [n]."""
        return tuple(map(str, self.patients)) if all(self.patients) else self.names


def labelled_folder(folder: Path, split: str, pairs: Path | None, role: str) -> LabelledFolder:
    """The images of ``folder``, or of a patch-pair dataset's ``split``, with their levels.

    Levels come from a ``pairs.csv`` or from the names; generated images are called like the real ones, so theirs are
    the same.

    Args:
        folder: images, a results folder (of which the files of ``role`` are taken), or a dataset.
        split: of a dataset, and of the rows of ``pairs`` where they name several.
        pairs: a ``pairs.csv``; None looks for one.
        role: ``fake_B`` for generated images, ``real_B`` for IHC, ``real_A`` for H&E.

    Raises:
        RestainError: no such folder, no images, a dataset for generated images, or no level is known.
    """
    if role == FAKE and folder.is_dir() and not find_images(folder, FAKE):
        raise RestainError(
            f"{folder}: no generated images in it (looked for PNG, JPEG and TIFF, also in images/ and {FAKE}/). A "
            "dataset holds none: stain its H&E first, or train on its IHC with --real."
        )
    found = real_folder(folder, None, split, pairs, role)
    images = list(found.images.values())
    known = tuple(image for image in images if image.level is not None)
    if not known:
        raise RestainError(
            f"{folder}: no image's level is known. File names carry it (00820_test_2+.png), or a pairs.csv with "
            "columns name and level."
        )
    unlabelled = tuple(image.name for image in images if image.level is None)
    return LabelledFolder(folder, known, unlabelled, role, found.ambiguous)


def same_files(train: LabelledFolder, test: LabelledFolder) -> list[tuple[Path, Path]]:
    """Files of both sets that are equal, byte by byte; blank images (of one colour) may be, and damaged ones."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for image in test.images:
        by_size[_size(image.path)].append(image.path)
    digest = cache(_digest)
    candidates = [(image, by_size[size]) for image in train.images if (size := _size(image.path)) in by_size]
    return [
        (image.path, path)
        for image, paths in candidates
        for path in paths
        if digest(image.path) == digest(path) and _shows_something(image)
    ]


def _size(path: Path) -> int:
    """Bytes; -1 of what is gone, which is said when it is read."""
    return path.stat().st_size if path.is_file() else -1


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else str(path)


def _shows_something(image: RealImage) -> bool:
    try:
        pixels = image.read()
    except (ItemError, OSError):
        return False
    return bool((pixels != pixels[0, 0]).any())


def load_images(labelled: LabelledFolder, size: int, workers: int | None = None) -> LabelledImages:
    """Read the images and scale each, by averaging, to ``size`` x ``size`` px; all of them are held in memory.

    Raises:
        ItemError: none can be read.
    """
    pixels: list[NDArray[np.uint8]] = []
    kept: list[RealImage] = []
    failures = dict(labelled.ambiguous)
    digest = hashlib.sha256()
    read = partial(_read, size=size)
    for image, found in bounded_map(read, labelled.images, workers or cpu_threads()):
        if isinstance(found, str):
            failures[image.name] = found
            continue
        scaled, own = found
        pixels.append(scaled)
        kept.append(image)
        digest.update("\0".join([image.name, str(image.level), str(image.patient), own]).encode("utf-8", "replace"))
    if not pixels:
        raise ItemError(f"{labelled.folder}: none of its images can be read: {next(iter(failures.values()))}")
    return LabelledImages(
        pixels=np.stack(pixels),
        names=tuple(image.name for image in kept),
        levels=tuple(str(image.level) for image in kept),
        patients=tuple(image.patient for image in kept),
        digest=digest.hexdigest(),
        failures=failures,
    )


def _read(image: RealImage, size: int) -> tuple[RealImage, tuple[NDArray[np.uint8], str] | str]:
    """The scaled image and the digest of its file, or why it cannot be read."""
    try:
        scaled = cv2.resize(image.read(), (size, size), interpolation=cv2.INTER_AREA)
        return image, (np.asarray(scaled, np.uint8), hashlib.sha256(image.path.read_bytes()).hexdigest())
    except (ItemError, OSError) as error:
        return image, printable(str(error))


def split_for_validation(
    images: LabelledImages, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the images to train on and of those to choose the epoch by.

    All images of a patient are on one side where patients are known; levels are in proportion on both as far as that
    can be. The same names, levels and patients give the same split, whoever generated the images.

    Args:
        images: the training set.
        share: of the units (patients or images) that validate, in (0, 1).
        seed: of the split.

    Raises:
        RestainError: too few patients or images for two sides.
    """
    levels: dict[str, str] = dict(zip(images.units, images.levels, strict=True))
    chosen = split_groups(levels, {"train": 1 - share, "val": share}, seed)
    side = np.array([chosen[unit] == "val" for unit in images.units])
    train, validation = np.flatnonzero(~side), np.flatnonzero(side)
    if train.size < 2 or not validation.size:
        what = "patients" if all(images.patients) else "images"
        raise RestainError(f"{len(levels)} {what} are too few to train on some and validate on others.")
    return train, validation


def class_numbers(levels: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """The place of each level among ``classes``, int64 [n]."""
    return np.array([list(classes).index(level) for level in levels], np.int64)
