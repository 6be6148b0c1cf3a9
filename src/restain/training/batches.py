"""The pairs of a training as batches, by epoch, and those that sample pictures show."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from restain.core.errors import ItemError, RestainError
from restain.data import (
    Augmentation,
    EpochBatchSampler,
    PairBatch,
    PairDataset,
    PairFolder,
    QualityFilter,
    Sampling,
    collate,
    make_dataloader,
    require,
)

SAMPLES = 4
"""Pairs in a sample picture."""


@dataclass(frozen=True)
class BatchOptions:
    """How pairs become batches.

    Attributes:
        batch_size: pairs in a batch, on each device.
        augmentation: resize, random crop, flips, turns.
        split: the split to train on.
        workers: processes that read images; 0 reads in the training process.
        cache_gib: GiB of decoded images that may be kept in memory.
        sampling: each pair once an epoch, levels balanced, or pairs whose images agree more often.
        quality: which pairs are left out for their quality, as `restain dataset check --qc` found it.
    """

    batch_size: int = 1
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(horizontal_flip=True))
    split: str = "train"
    workers: int = 0
    cache_gib: float = 0.0
    sampling: Sampling = Sampling.each
    quality: QualityFilter = field(default_factory=QualityFilter)

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant."""
        if self.batch_size < 1 or self.workers < 0 or self.cache_gib < 0:
            raise RestainError("batches: batch_size is at least 1; workers and cache_gib are at least 0.")


class Batches:
    """What a training iterates over.

    Args:
        folder: the dataset.
        options: how pairs become batches.
        seed: of order and augmentation.
        needs: what the method asks of the data.

    Raises:
        RestainError: the dataset lacks something that is needed.
    """

    def __init__(self, folder: PairFolder, options: BatchOptions, seed: int, needs: Collection[str]) -> None:
        self._folder, self._options, self._seed = folder, options, seed
        self._needs, self._multiple, self._smallest = needs, 1, 1
        cache = int(options.cache_gib * 2**30)
        self._dataset = PairDataset(
            folder, options.split, options.augmentation, seed=seed, needs=needs, cache_bytes=cache
        )
        self._weights = options.sampling.weights(self._dataset)
        self.share(0, 1)

    def share(self, rank: int, world_size: int) -> None:
        """Take every ``world_size``-th pair from ``rank`` on (training on several devices)."""
        self._sampler = EpochBatchSampler(
            len(self._dataset),
            self._options.batch_size,
            self._seed,
            rank=rank,
            world_size=world_size,
            weights=self._weights,
        )
        self._loader = make_dataloader(
            self._dataset, self._sampler, workers=self._options.workers, pin_memory=torch.cuda.is_available()
        )

    def __len__(self) -> int:
        """Batches in an epoch, for this process."""
        return self._sampler.batches_per_epoch

    def epoch(self, number: int, start: int = 0) -> Iterator[PairBatch]:
        """The batches of an epoch (counted from 1), from batch ``start`` on."""
        if start < len(self):
            self._sampler.set_epoch(number, start)
            for batch in self._loader:
                height, width = batch.he.shape[2:]
                if not self._fits(height, width):
                    raise ItemError(
                        f"{self._folder.root}: {batch.names[0]} has {width} x {height} px, which does not fit the "
                        f"method (multiples of {self._multiple}, at least {self._smallest} px), though others do. "
                        "Use --batches.augmentation.crop."
                    )
                yield batch

    def _fits(self, height: int, width: int) -> bool:
        return not height % self._multiple and not width % self._multiple and min(height, width) >= self._smallest

    def require_sides(self, multiple: int, smallest: int) -> None:
        """Check that the images, as training sees them, fit the networks.

        Args:
            multiple: their sides must be a multiple of this.
            smallest: least side, px.

        Raises:
            RestainError: they do not; the crop that would is named.
        """
        self._multiple, self._smallest = multiple, smallest
        height, width = self._dataset[(1, 0)].he.shape[:2]
        least = -(-smallest // multiple) * multiple
        if not self._fits(height, width):
            fits = min(height, width) // multiple * multiple
            crop = self._options.augmentation.crop
            fits = least if crop is not None and crop < least else fits
            hint = f"--batches.augmentation.crop {fits}" if fits >= least else f"images of at least {least} px"
            raise RestainError(
                f"{self._folder.root}: images of {width} x {height} px do not fit the method, whose sides must be "
                f"multiples of {multiple} and at least {least} px. Use {hint}."
            )

    @property
    def mpp(self) -> float | None:
        """The um/px that the network sees; None where the dataset does not say its own."""
        return self._dataset.image_mpp()

    @property
    def scale(self) -> float:
        """How large things are to the network, relative to the dataset's images."""
        return self._dataset.image_scale()

    def samples(self, least: int) -> PairBatch:
        """What sample pictures show: the first of split ``val``, else of the training split, unaugmented.

        Args:
            least: least side that the network takes, px; smaller images are continued by reflection.

        Returns:
            The middles of up to ``SAMPLES`` pairs; of unpaired methods each H&E with an IHC of another place.
        """
        there = {record.split for record in self._folder.records} | {image.split for image in self._folder.lone}
        unpaired = {"unpaired"}.intersection(self._needs)
        split = self._options.split
        if "val" in there:
            try:
                require(self._folder, "val", unpaired)
                split = "val"
            except RestainError:
                pass  # it has no pairs, or images of one side alone
        whole = self._options.augmentation.without_chance()
        dataset = PairDataset(self._folder, split, whole, seed=self._seed, needs=unpaired)
        count = min(SAMPLES, len(dataset))
        chosen = [dataset[(0, i * len(dataset) // count)] for i in range(count)]
        side = min(min(image.shape[:2]) for sample in chosen for image in (sample.he, sample.ihc))
        side = min(side, self._options.augmentation.crop or side)  # what the network was made for fits into memory
        side = side // self._multiple * self._multiple or side
        return collate([replace(s, he=_centre(s.he, side, least), ihc=_centre(s.ihc, side, least)) for s in chosen])


def _centre(image: NDArray[np.uint8], side: int, least: int) -> NDArray[np.uint8]:
    """The square of ``side`` px in the middle, continued by reflection to ``least`` px."""
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    more = max(0, least - side)
    return np.pad(image[top : top + side, left : left + side], ((0, more), (0, more), (0, 0)), mode="symmetric")
