"""Images with levels for the downstream classifier: from folders, split by patient, scaled into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, RestainError
from restain.core.workers import cpu_threads
from restain.data.levels import levels_from_names
from restain.data.pairs_csv import read_pairs_csv
from restain.data.split import split_groups
from restain.evaluate.folders import FAKE, RealImage, find_images, named_files, printable, real_folder
from restain.evaluate.measure import bounded_map
from restain.slides import read_image


@dataclass(frozen=True)
class LabelledFolder:
    """The images of a folder whose level is known.

    Attributes:
        folder: the folder.
        images: sorted by name, each with a level.
        unlabelled: names of images whose level is not known: they are not used.
    """

    folder: Path
    images: tuple[RealImage, ...]
    unlabelled: tuple[str, ...]


@dataclass(frozen=True)
class LabelledImages:
    """Images in memory.

    Attributes:
        pixels: uint8 RGB [n, size, size, 3].
        names: of the images [n].
        levels: of the images [n].
        patients: of the images, None where unknown [n].
        digest: SHA-256 over names, levels, patients and files.
        failures: the reason, by name, of images that could not be read.
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


def labelled_folder(folder: Path, split: str, pairs: Path | None) -> LabelledFolder:
    """The images of ``folder`` (real or generated ones, or a patch-pair dataset's ``split``) with their levels.

    Levels come from a ``pairs.csv`` or from the names; generated images are called like the real ones, so theirs are
    the same. Of a results folder with ``*_fake_B`` files, these alone are taken.

    Raises:
        RestainError: no such folder, no images, or no level is known.
    """
    if any(path.stem.endswith(f"_{FAKE}") for path in find_images(folder, FAKE)):
        images = _generated(folder, pairs)
    else:
        images = list(real_folder(folder, None, split, pairs).images.values())
    known = tuple(image for image in images if image.level is not None)
    if not known:
        raise RestainError(
            f"{folder}: no image's level is known. File names carry it (00820_test_2+.png), or a pairs.csv with "
            "columns name and level."
        )
    return LabelledFolder(folder, known, tuple(image.name for image in images if image.level is None))


def _generated(folder: Path, pairs: Path | None) -> list[RealImage]:
    """The ``*_fake_B`` files of a results folder, with the levels of their names or of the table given."""
    files = named_files(folder, FAKE).files
    levels = levels_from_names(files)
    table = read_pairs_csv(pairs) if pairs is not None else None
    images = []
    for name, path in files.items():
        row = table.row(folder.name, name) if table else None
        image = RealImage(name, path, partial(read_image, path), levels.get(name))
        images.append(replace(image, level=row.level or image.level, patient=row.patient) if row else image)
    return images


def load_images(labelled: LabelledFolder, size: int, workers: int | None = None) -> LabelledImages:
    """Read the images and scale each, by averaging, to ``size`` x ``size`` px; all of them are held in memory.

    Raises:
        ItemError: none can be read.
    """
    pixels: list[NDArray[np.uint8]] = []
    kept: list[RealImage] = []
    failures: dict[str, str] = {}
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
