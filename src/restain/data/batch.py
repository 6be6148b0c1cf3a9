"""What a stainer is fed with: a batch of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restain.core.errors import ItemError


@dataclass(frozen=True)
class PairSample:
    """One pair, ready to be put into a batch.

    Attributes:
        name: the pair's name (of unpaired sampling: the H&E's).
        he: uint8 RGB [H, W, 3].
        ihc: uint8 RGB [H, W, 3].
        level: class number, -1 where unknown.
        extras: the knowledge maps that the method needs, by kind, of the pair's size: ``dab`` uint8 RGB [H, W, 3],
            ``dab_mask`` and ``nuclei_map`` uint8 [H, W, 1].
        image: number of the pair among those of its split, from 0 (of unpaired sampling: of the IHC).
        slide: number of its slide among those of its split, -1 where unknown.
    """

    name: str
    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]
    level: int
    extras: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    image: int = -1
    slide: int = -1


@dataclass(frozen=True)
class PairBatch:
    """A batch of pairs.

    Attributes:
        he: float32 [N, 3, H, W] in [-1, 1].
        ihc: float32 [N, 3, H, W] in [-1, 1].
        level: int64 [N], -1 where unknown.
        names: the pairs' names.
        extras: the knowledge maps that the method needs, by kind: ``dab`` float32 [N, 3, H, W] in [-1, 1],
            ``dab_mask`` and ``nuclei_map`` float32 [N, 1, H, W] in [0, 1]. Empty where it needs none.
        image: int64 [N], number of the pair among those of its split, from 0 (of unpaired sampling: of the IHC).
        slide: int64 [N], number of its slide among those of its split, -1 where unknown. Both are all -1 where the
            batch was made without them.
    """

    he: Tensor
    ihc: Tensor
    level: Tensor
    names: tuple[str, ...]
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    image: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    slide: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        """Fill in -1 for the numbers that were not given."""
        for name in ("image", "slide"):
            if len(getattr(self, name)) != len(self.level):
                object.__setattr__(self, name, torch.full_like(self.level, -1))

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """The batch on ``device``; ``non_blocking`` copies from pinned memory without waiting."""
        return self._each(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PairBatch:
        """The batch in page-locked memory, from which a GPU copies faster (called by the data loader)."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> PairBatch:
        """The batch with each of its tensors changed."""
        extras = {kind: change(maps) for kind, maps in self.extras.items()}
        numbers = (change(self.image), change(self.slide))
        return PairBatch(change(self.he), change(self.ihc), change(self.level), self.names, extras, *numbers)


def collate(samples: Sequence[PairSample]) -> PairBatch:
    """Samples as one batch.

    Raises:
        ItemError: their sizes differ (two of them are named).
    """
    first = samples[0]
    for sample in samples:
        for image in (sample.he, sample.ihc, *sample.extras.values()):
            if image.shape[:2] != first.he.shape[:2]:
                raise ItemError(
                    f"{sample.name}: {image.shape[1]}x{image.shape[0]} px in one batch with {first.name} of "
                    f"{first.he.shape[1]}x{first.he.shape[0]} px. Set the augmentation's crop (pairs: or "
                    "batches of 1)."
                )
    return PairBatch(
        he=to_network([sample.he for sample in samples]),
        ihc=to_network([sample.ihc for sample in samples]),
        level=_numbers([sample.level for sample in samples]),
        names=tuple(sample.name for sample in samples),
        extras={kind: _maps([sample.extras[kind] for sample in samples]) for kind in first.extras},
        image=_numbers([sample.image for sample in samples]),
        slide=_numbers([sample.slide for sample in samples]),
    )


def _numbers(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _maps(maps: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Knowledge maps of one kind as a network sees them: pictures in [-1, 1], grey maps [N, 1, H, W] in [0, 1]."""
    if maps[0].shape[2] == 3:
        return to_network(maps)
    return torch.from_numpy(np.stack([each.transpose(2, 0, 1) for each in maps])).float().div_(255)


def to_network(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Images uint8 [H, W, 3] of one size as float32 [N, 3, H, W] in [-1, 1]: x / 127.5 - 1."""
    # Channels are brought to the front while they are bytes: a quarter of the memory traffic.
    stacked = np.stack([image.transpose(2, 0, 1) for image in images])
    return torch.from_numpy(stacked).float().div_(127.5).sub_(1)


def from_network(images: Tensor) -> NDArray[np.uint8]:
    """Images float [N, 3, H, W] in [-1, 1] as uint8 [N, H, W, 3], rounded; values outside the range are clipped."""
    scaled = images.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
