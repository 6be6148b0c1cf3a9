"""What a patch-pair dataset consists of: pairs, images without a partner, problems, and the folder that holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.core.items import fingerprint
from restain.slides import read_image

Side = Literal["he", "ihc"]
Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class PairRecord:
    """One pair of patches.

    Attributes:
        name: file name without suffix; unique within a split.
        he: the H&E image (in general: the source of the translation).
        ihc: the IHC image (the target); the same file as ``he`` where ``side_by_side``.
        level: the class of the pair (BCI: of its slide), None where unknown.
        split: ``train``, ``val`` or ``test``.
        slide: the slide that the patch was cut from, None where unknown.
        patient: the patient, None where unknown.
        mpp: um/px of both images, None where unknown.
        side_by_side: H&E is the left half of the file and IHC the right half.
        extras: its knowledge maps by kind (``layouts.MAPS``), those that are there.
    """

    name: str
    he: Path
    ihc: Path
    level: str | None
    split: str
    slide: str | None = None
    patient: str | None = None
    mpp: float | None = None
    side_by_side: bool = False
    extras: Mapping[str, Path] = field(default_factory=dict)

    def read(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Both images, uint8 RGB [H, W, 3], of one size.

        Raises:
            UnreadableImageError: one of them cannot be read.
            ItemError: their sizes differ, or a side-by-side image is not twice as wide as high.
        """
        if self.side_by_side:
            he, ihc = halves(self.he, read_image(self.he))
            return he, ihc
        he, ihc = read_image(self.he), read_image(self.ihc)
        if he.shape != ihc.shape:
            raise ItemError(
                f"{self.he}: {_size(he)} px, but its partner {self.ihc} has {_size(ihc)} px. Both images of a pair "
                "must have one size: cut them again from registered slides, or remove the pair."
            )
        return he, ihc

    def read_side(self, side: Side) -> NDArray[np.uint8]:
        """One image of the pair, uint8 RGB [H, W, 3]."""
        if self.side_by_side:
            return halves(self.he, read_image(self.he))[0 if side == "he" else 1]
        return read_image(self.he if side == "he" else self.ihc)

    def read_map(self, kind: str) -> NDArray[np.uint8]:
        """One knowledge map: ``dab`` uint8 RGB [H, W, 3]; the others uint8 [H, W, 1], also where stored as RGB.

        Raises:
            UnreadableImageError: it cannot be read.
        """
        image = read_image(self.extras[kind])
        return image if kind == "dab" else np.ascontiguousarray(image[..., :1])


@dataclass(frozen=True)
class LoneImage:
    """An image without a partner: of no use for paired training, but for unpaired training.

    Attributes:
        name: file name without suffix.
        path: the file.
        split: ``train``, ``val`` or ``test``.
        side: which partner it is.
        level: its level by ``pairs.csv`` or its name, None where unknown.
        mpp: um/px by ``pairs.csv``, None where unknown.
    """

    name: str
    path: Path
    split: str
    side: Side
    level: str | None = None
    mpp: float | None = None

    def read_side(self, side: Side) -> NDArray[np.uint8]:
        """The image, uint8 RGB [H, W, 3]; ``side`` must be its own."""
        if side != self.side:
            raise ValueError(f"{self.path} is the {self.side} image of its pair")
        return read_image(self.path)


@dataclass(frozen=True)
class Problem:
    """Something wrong with a dataset.

    Attributes:
        severity: ``error`` for a bad item (left out, exit code 1), ``warning`` for something to know.
        kind: what it is, one word per kind (``missing-partner``, ``unreadable`` ...).
        file: the file or folder that it is about.
        message: what is wrong and what to do; it does not begin with the file, print it as ``file: message``.
    """

    severity: Severity
    kind: str
    file: str
    message: str


@dataclass(frozen=True)
class PairFolder:
    """A patch-pair dataset as it lies on disk.

    Attributes:
        root: its folder.
        layout: name of the layout it is in.
        records: the pairs, in the order of split and name.
        levels: every level that occurs, in order; their index is the class number. Empty where none is known.
        mpp: um/px of the patches where one is known and the same for all, else None.
        lone: images whose partner is missing.
        problems: what reading the folders (not the images) found wrong; the files concerned are left out.
        dropped: pairs that ``pairs.csv`` lists as not kept.
    """

    root: Path
    layout: str
    records: tuple[PairRecord, ...]
    levels: tuple[str, ...]
    mpp: float | None
    lone: tuple[LoneImage, ...] = ()
    problems: tuple[Problem, ...] = ()
    dropped: int = 0

    def split(self, name: str) -> list[PairRecord]:
        """The pairs of split ``name`` (empty where there are none)."""
        return [record for record in self.records if record.split == name]

    @property
    def splits(self) -> dict[str, int]:
        """Number of pairs by split, in the order train, val, test, others."""
        return {name: len(self.split(name)) for name in ordered_splits({record.split for record in self.records})}


def ordered_splits(names: set[str]) -> list[str]:
    """Split names in the order train, val, test, then the others by name."""
    usual = ("train", "val", "test")
    return sorted(names, key=lambda name: (usual.index(name) if name in usual else len(usual), name))


def halves(path: Path, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The left and the right half [H, W / 2, 3] of a side-by-side image [H, W, 3].

    Raises:
        ItemError: it is not twice as wide as high.
    """
    height, width = image.shape[:2]
    if width != 2 * height:
        raise ItemError(f"{path}: {_size(image)} px is not twice as wide as high, so it is not two images.")
    return image[:, : width // 2], image[:, width // 2 :]


def dataset_fingerprint(folder: PairFolder) -> str:
    """A hash of what the dataset contains: names, splits, levels, um/px, sizes and beginnings of files.

    Neither paths nor dates enter. Of each file its size and its first 16 KiB count, so that large datasets are quick.
    """

    def item(record: PairRecord) -> Sequence[object]:
        files = [file_stamp(path) for path in (record.he, record.ihc)]
        return [record.split, record.name, record.level, record.mpp, *files]

    lone = [[image.split, image.side, image.name, file_stamp(image.path)] for image in folder.lone]
    return fingerprint({"pairs": [item(record) for record in folder.records], "lone": lone})


def file_stamp(path: Path) -> str:
    """Size and hash of the first 16 KiB of a file: what tells a changed image in a large dataset quickly."""
    with path.open("rb") as stream:
        head = stream.read(1 << 14)
    return f"{path.stat().st_size}-{hashlib.sha256(head).hexdigest()[:16]}"


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
