"""The data loader: batches in the sampler's order, the same with any number of worker processes."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import torch
from torch.utils.data import DataLoader

from restain.core.errors import RestainError
from restain.data.batch import PairBatch, PairSample, collate
from restain.data.dataset import PairDataset
from restain.data.sampler import EpochBatchSampler


class PairLoader(DataLoader[PairSample]):
    """A torch data loader that gives ``PairBatch``es; an error in a worker reads as it does without workers."""

    def __iter__(self) -> Iterator[PairBatch]:  # type: ignore[override]
        """The batches of the sampler's current epoch, from its start batch on."""
        try:
            yield from super().__iter__()
        except RestainError as error:
            # torch puts the worker's traceback in front of the message, which comes after the type's name.
            _, _, message = str(error).rpartition(f"{type(error).__name__}: ")
            raise type(error)(message.strip()) from None


def make_dataloader(
    dataset: PairDataset, sampler: EpochBatchSampler, *, workers: int = 0, pin_memory: bool = False
) -> PairLoader:
    """A loader over ``dataset`` in the order of ``sampler``.

    Call ``sampler.set_epoch(epoch, start_batch)`` before each pass over the loader. Torch's global random numbers are
    not touched, so that a run resumed in the middle of an epoch goes on with the same dropout.

    Args:
        dataset: the pairs.
        sampler: the order, and where in an epoch to begin.
        workers: processes that read and augment; 0 does so in this one.
        pin_memory: page-locked memory for a faster copy to a GPU.
    """
    return PairLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),
    )


def _one_thread(_worker: int) -> None:
    """Workers share the processors already: OpenCV's own threads would only get into each other's way."""
    cv2.setNumThreads(0)
