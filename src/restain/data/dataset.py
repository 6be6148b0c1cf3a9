"""Pairs as training sees them: read, augmented under a seed of their own, cached where memory allows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from restain.core.errors import ItemError, RestainError, UnreadableImageError
from restain.core.progress import track
from restain.core.workers import cpu_threads
from restain.data.augment import Augmentation
from restain.data.batch import PairSample
from restain.data.knowledge_index import knowledge_command, require_maps
from restain.data.layouts import MAPS
from restain.data.records import LoneImage, PairFolder, PairRecord, Side
from restain.data.sampler import Key

Image = NDArray[np.uint8]
_Key = tuple[Literal["pair", "he", "ihc"], int]
"""What is read at once: a pair with its maps, or of unpaired sampling an image of one side; and its number."""


class PairDataset(Dataset[PairSample]):
    """The pairs of one split of a dataset.

    It is indexed with (epoch, index): what augmentation draws depends on seed, epoch and index alone, so that the
    samples are the same bit by bit with any number of workers, in any order, and after a run was resumed.

    Args:
        folder: the dataset.
        split: which of its splits.
        augmentation: None uses the images as they are.
        seed: of augmentation and unpaired sampling; not negative.
        needs: what the method asks for: ``levels`` (some pairs must have one; the others have level -1),
            ``unpaired`` (H&E and IHC are drawn independently of each other, images without a partner too), and kinds
            of knowledge maps (``dab``, ``dab_mask``, ``nuclei_map``), which are read and augmented with their pair.
        cache_bytes: how much memory decoded images may take. They are read at once, in the order of the records, and
            are shared by workers that are forked; the rest is read from disk each time.

    Raises:
        RestainError: the split has no pairs, or the dataset does not have what is needed.
    """

    def __init__(
        self,
        folder: PairFolder,
        split: str,
        augmentation: Augmentation | None = None,
        *,
        seed: int = 0,
        needs: Collection[str] = (),
        cache_bytes: int = 0,
    ) -> None:
        require(folder, split, needs)
        self.folder, self.split, self.seed = folder, split, seed
        self.augmentation = augmentation or Augmentation()
        self.records: Sequence[PairRecord] = folder.split(split)
        self.unpaired = "unpaired" in needs
        self.maps = tuple(kind for kind in MAPS if kind in needs)
        self._sides: dict[Side, list[PairRecord | LoneImage]] = {
            "he": _images(folder, split, "he"),
            "ihc": _images(folder, split, "ihc"),
        }
        self._class = {level: number for number, level in enumerate(folder.levels)}
        number = {slide: number for number, slide in enumerate(slides_of(self.records))}
        # An image without a partner comes from no known slide.
        slides = (image.slide if isinstance(image, PairRecord) else None for image in self._sides["ihc"])
        self._slide = [-1 if slide is None else number[slide] for slide in slides]
        self._cache = self._read_cache(cache_bytes) if cache_bytes > 0 else {}

    def __len__(self) -> int:
        """Number of pairs; of unpaired sampling the number of images on the larger side."""
        if not self.unpaired:
            return len(self.records)
        return max(len(images) for images in self._sides.values())

    def __getitem__(self, key: Key) -> PairSample:
        """The sample at (epoch, index).

        Raises:
            ItemError: an image cannot be read, or the sizes of the pair or its maps differ.
        """
        epoch, index, *repetition = key
        rng = np.random.default_rng([self.seed, epoch, index, *repetition])
        if not self.unpaired:
            record: PairRecord | LoneImage = self.records[index]
            target = index
            he, ihc, *maps = self.augmentation(self._images(("pair", index)), rng)
        else:
            source, target = index % len(self._sides["he"]), int(rng.integers(len(self._sides["ihc"])))
            record, maps = self._sides["he"][source], []
            (he,) = self.augmentation(self._images(("he", source)), rng)
            (ihc,) = self.augmentation(self._images(("ihc", target)), rng)
        extras, slide = dict(zip(self.maps, maps, strict=True)), self._slide[target]
        return PairSample(record.name, he, ihc, self._level_of(record), extras, image=target, slide=slide)

    @property
    def levels(self) -> NDArray[np.int64]:
        """The class number of what each index gives (of unpaired sampling: its H&E), -1 where unknown: [n]."""
        sources = self._sides["he"] if self.unpaired else self.records
        return np.array([self._level_of(sources[index % len(sources)]) for index in range(len(self))], np.int64)

    def pair(self, index: int) -> tuple[Image, Image]:
        """H&E and IHC of a pair as they are, uint8 [H, W, 3]; from memory where they are held there.

        Raises:
            ItemError: an image cannot be read, or their sizes differ.
        """
        held = self._cache.get(("pair", index))
        return (held[0], held[1]) if held else self.records[index].read()

    def image_mpp(self) -> float | None:
        """The um/px that the network sees: the dataset's, changed by the augmentation's resize; None where unknown."""
        return None if self.folder.mpp is None else self.folder.mpp / self.image_scale()

    def image_scale(self) -> float:
        """How large things are to the network, relative to the dataset's (first) image: the augmentation's resize."""
        if self.augmentation.resize is None:
            return 1.0
        first = self.records[0] if self.records else self._sides["he"][0]
        height, width = first.read_side("he").shape[:2]
        return self.augmentation.scale((width, height))

    def cached(self) -> int:
        """Number of pairs (of unpaired sampling: images) that are held in memory."""
        return len(self._cache)

    def __getstate__(self) -> dict[str, Any]:
        """Workers that are not forked get no copy of the cache: it would be as many times as large."""
        return {**self.__dict__, "_cache": {}}

    def _level_of(self, record: PairRecord | LoneImage) -> int:
        return -1 if record.level is None else self._class[record.level]

    def _images(self, what: _Key) -> Sequence[Image]:
        return self._cache[what] if what in self._cache else self._read(what)

    def _read(self, what: _Key) -> Sequence[Image]:
        """H&E, IHC and the maps that are needed, all of one size; of a single side its image alone."""
        side, index = what
        if side != "pair":
            return [self._sides[side][index].read_side(side)]
        record = self.records[index]
        pair = record.read()
        maps = [self._read_map(record, kind, pair[0].shape[:2]) for kind in self.maps]
        return [*pair, *maps]

    def _read_map(self, record: PairRecord, kind: str, shape: tuple[int, ...]) -> Image:
        try:
            image = record.read_map(kind)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{error} {self._advice()}") from error
        if image.shape[:2] != shape:
            raise ItemError(
                f"{record.extras[kind]}: {image.shape[1]}x{image.shape[0]} px, but its pair {record.ihc} has "
                f"{shape[1]}x{shape[0]} px. {self._advice()}"
            )
        return image

    def _advice(self) -> str:
        return f"Remove it and run `{knowledge_command(self.folder)}`."

    def _read_cache(self, limit: int) -> dict[_Key, Sequence[Image]]:
        """As many pairs (of unpaired sampling: images of either side in turn) as fit into ``limit`` bytes."""
        keys: list[_Key] = [("pair", index) for index in range(len(self.records))]
        if self.unpaired:
            numbered = [(index, side) for side, images in self._sides.items() for index in range(len(images))]
            keys = [(side, index) for index, side in sorted(numbered)]
        count = min(len(keys), limit // sum(image.nbytes for image in self._read(keys[0])))
        cache: dict[_Key, Sequence[Image]] = {}
        left = limit
        with ThreadPoolExecutor(cpu_threads()) as pool:
            read = pool.map(self._read, keys[:count])
            for key, images in zip(keys, track(read, f"reading {self.split}", count), strict=False):
                left -= sum(image.nbytes for image in images)
                if left < 0:
                    break
                cache[key] = images
        return cache


def slides_of(records: Sequence[PairRecord]) -> tuple[str, ...]:
    """The slides that pairs were cut from, in order; their index is the number of the slide."""
    return tuple(sorted({record.slide for record in records if record.slide is not None}))


def require(folder: PairFolder, split: str, needs: Collection[str]) -> None:
    """Check that a split of a dataset has what a method needs; knowledge maps by their stamps, none is decoded.

    Raises:
        RestainError: it has not; the message says what is missing and how to give it.
    """
    for need in needs:
        if need not in NEEDS:
            raise RestainError(f"{folder.root}: no dataset provides {need!r}; known: {', '.join(sorted(NEEDS))}.")
    if not folder.split(split) and "unpaired" not in needs:
        have = ", ".join(f"{name} ({count})" for name, count in folder.splits.items()) or "none"
        lone = " It has images without a partner, which only methods for unpaired images use." if folder.lone else ""
        raise RestainError(f"{folder.root}: no pairs in split {split}; splits with pairs: {have}.{lone}")
    maps = [kind for kind in MAPS if kind in needs]
    if maps and "unpaired" in needs:
        raise RestainError(f"{folder.root}: {', '.join(maps)} are maps of pairs; unpaired images have none.")
    for check in dict.fromkeys(NEEDS[need] for need in sorted(needs)):
        check(folder, split, needs)


def _require_levels(folder: PairFolder, split: str, _needs: Collection[str]) -> None:
    if not folder.levels:
        raise RestainError(
            f"{folder.root}: the method needs levels, but this dataset has no levels in its file names "
            "(like 00820_train_2+.png). Give them in pairs.csv, columns name and level, in that folder."
        )
    levels = {record.level for record in folder.split(split)}
    levels |= {image.level for image in folder.lone if image.split == split}
    if levels <= {None}:
        raise RestainError(
            f"{folder.root}: the method needs levels, but no pair of split {split} has one (other splits do). Give "
            "them in pairs.csv, columns name and level, in that folder."
        )


def _require_unpaired(folder: PairFolder, split: str, _needs: Collection[str]) -> None:
    sides: tuple[tuple[Side, str], ...] = (("he", "H&E"), ("ihc", "IHC"))
    for side, word in sides:
        if not _images(folder, split, side):
            raise RestainError(f"{folder.root}: no {word} images in split {split}.")


NEEDS: Mapping[str, Callable[[PairFolder, str, Collection[str]], None]] = {
    "levels": _require_levels,
    "unpaired": _require_unpaired,
    **dict.fromkeys(MAPS, require_maps),
}
"""What a method may ask for, and the check that a split provides it."""


def _images(folder: PairFolder, split: str, side: Side) -> list[PairRecord | LoneImage]:
    """All images of one side of a split, with and without a partner."""
    lone = [image for image in folder.lone if image.split == split and image.side == side]
    return [*folder.split(split), *lone]
