"""The order in which pairs are seen: a function of seed and epoch alone, entered at any batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from restain.core.errors import RestainError

Key = tuple[int, int] | tuple[int, int, int]
"""What a ``PairDataset`` is indexed with: (epoch, index), and how often the pair came before in that epoch."""


class EpochBatchSampler(Sampler[list[Key]]):
    """Batches of (epoch, index) keys, the same for a seed and an epoch on every machine and whatever came before.

    With weights, pairs come more than once in an epoch: the key of a repetition has its number as a third part, so that
    it is augmented otherwise.

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
        weights: of each pair, at least 0, any sum: an epoch is then ``n`` draws with replacement, in proportion to
            them. None takes every pair once.

    Raises:
        RestainError: no pair, no full batch with ``drop_last``, or weights that are none.
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
        weights: Sequence[float] | NDArray[np.float64] | None = None,
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
        self.shares = None if weights is None else _shares(weights, n, shuffle)
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
        rng = np.random.default_rng([self.seed, self.epoch])
        drawn = rng.permutation(self.n) if self.shares is None else rng.choice(self.n, self.n, p=self.shares)
        return [int(index) for index in drawn]

    def __iter__(self) -> Iterator[list[Key]]:
        """The batches from ``start_batch`` on."""
        keys, together = self._keys(), self.batch_size * self.world_size
        if self.world_size > 1 and not self.drop_last:
            missing = -len(keys) % together
            keys += [keys[place % self.n] for place in range(missing)]
        for batch in range(self.start_batch, self.batches_per_epoch):
            yield keys[batch * together : (batch + 1) * together][self.rank :: self.world_size]

    def __len__(self) -> int:
        """Number of batches that the next iteration gives."""
        return self.batches_per_epoch - self.start_batch

    def _keys(self) -> list[Key]:
        if self.shares is None:
            return [(self.epoch, index) for index in self.order()]
        seen: Counter[int] = Counter()
        keys: list[Key] = []
        for index in self.order():
            keys.append((self.epoch, index, seen[index]) if seen[index] else (self.epoch, index))
            seen[index] += 1
        return keys


def _shares(weights: Sequence[float] | NDArray[np.float64], n: int, shuffle: bool) -> NDArray[np.float64]:
    """Weights as probabilities [n].

    Raises:
        RestainError: there are not ``n``, one is negative or not finite, or all are 0.
        ValueError: the order is not random.
    """
    if not shuffle:
        raise ValueError("weights are of draws: they need shuffle")
    values = np.asarray(weights, np.float64)
    if values.shape != (n,) or not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
        raise RestainError(f"The weights of sampling are {n} numbers of at least 0, not all 0; these are not.")
    shares: NDArray[np.float64] = values / values.sum()
    return shares
