"""The order in which pairs are seen: a function of seed and epoch alone, entered at any batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from restain.core.errors import RestainError

Key = tuple[int, int]
"""What a ``PairDataset`` is indexed with: (epoch, index)."""


class EpochBatchSampler(Sampler[list[Key]]):
    """Batches of (epoch, index) keys, the same for a seed and an epoch on every machine and whatever came before.

    Args:
        n: number of pairs.
        batch_size: pairs a batch (and a process).
        seed: of the order; not negative.
        epoch: the first epoch to be iterated over.
        start_batch: how many batches of that epoch to skip, without reading them (a run that goes on in its middle).
        shuffle: a new order in every epoch; otherwise 0 to n - 1.
        drop_last: leave out the last batch where it is not full.
        rank: the number of this process, where several share the pairs.
        world_size: how many processes share the pairs. They all get the same number of batches: the last ones are
            filled up from the beginning of the order.

    Raises:
        RestainError: no pair, or no full batch with ``drop_last``.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        start_batch: int = 0,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if n < 1:
            raise RestainError("There are no pairs to sample from: this split of the dataset is empty.")
        if batch_size < 1 or seed < 0 or not 0 <= rank < world_size:
            raise RestainError(
                f"batch size {batch_size}, seed {seed}, rank {rank} of {world_size}: the batch size must be at least "
                "1, the seed not negative, and the rank below the number of processes."
            )
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.rank, self.world_size = rank, world_size
        if self.batches_per_epoch == 0:
            raise RestainError(f"{n} pairs do not fill one batch of {batch_size * world_size}; give smaller batches.")
        self.set_epoch(epoch, start_batch)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of a whole epoch, for this process."""
        together = self.batch_size * self.world_size
        return self.n // together if self.drop_last else -(-self.n // together)

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """What the next iteration goes over: ``epoch``, from batch ``start_batch`` (0 to batches_per_epoch) on."""
        if epoch < 0 or not 0 <= start_batch <= self.batches_per_epoch:
            raise ValueError(f"epoch {epoch}, batch {start_batch} of {self.batches_per_epoch}")
        self.epoch, self.start_batch = epoch, start_batch

    def order(self) -> list[int]:
        """The indices of this epoch in the order in which they are seen, over all processes."""
        if not self.shuffle:
            return list(range(self.n))
        return [int(index) for index in np.random.default_rng([self.seed, self.epoch]).permutation(self.n)]

    def __iter__(self) -> Iterator[list[Key]]:
        """The batches from ``start_batch`` on."""
        order, epoch, together = self.order(), self.epoch, self.batch_size * self.world_size
        if self.world_size > 1 and not self.drop_last:
            missing = -len(order) % together
            order += [order[index % self.n] for index in range(missing)]
        for batch in range(self.start_batch, self.batches_per_epoch):
            indices = order[batch * together : (batch + 1) * together]
            yield [(epoch, index) for index in indices[self.rank :: self.world_size]]

    def __len__(self) -> int:
        """Number of batches that the next iteration gives."""
        return self.batches_per_epoch - self.start_batch
