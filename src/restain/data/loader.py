"""The data loader: batches in the sampler's order, the same with any number of worker processes."""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Iterator

import cv2
import torch
from torch.utils.data import DataLoader

from restain.core.errors import ItemError, RestainError
from restain.data.batch import PairBatch, PairSample, collate
from restain.data.dataset import PairDataset
from restain.data.sampler import EpochBatchSampler

DEAD_WORKER = "DataLoader worker (pid"
"""How torch's message begins when a worker was killed."""


class PairLoader(DataLoader[PairSample]):
    """A torch data loader that gives ``PairBatch``es; an error in a worker reads as it does without workers."""

    def __iter__(self) -> Iterator[PairBatch]:  # type: ignore[override]
        """The batches of the sampler's current epoch, from its start batch on."""
        try:
            yield from super().__iter__()
        except RuntimeError as error:
            if not str(error).startswith(DEAD_WORKER):
                raise
            raise ItemError(
                "A process that reads images was killed, which happens when memory runs out. Run the same command "
                "again with fewer --batches.workers; it goes on from its last checkpoint."
            ) from error
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
    loader = PairLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),
    )
    # Workers ignore the signal by which Python would end them when it exits, and would be waited for.
    atexit.register(_end_workers, weakref.ref(loader))
    return loader


def _end_workers(reference: weakref.ref[PairLoader]) -> None:
    loader = reference()
    if loader is not None and loader._iterator is not None:
        loader._iterator._shutdown_workers()  # type: ignore[attr-defined]


def prepare_worker(_worker: int) -> None:
    """Make a process that reads images one that only reads images.

    Workers share the processors already: OpenCV's own threads would only get into each other's way. A signal to the
    whole group is the main process's to answer; torch ends the workers when it ends.
    """
    cv2.setNumThreads(0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
