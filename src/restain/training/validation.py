"""How good a training is on split ``val``, so that the best epoch can be kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from restain.core.errors import RestainError
from restain.data import PairDataset, PairFolder, collate, from_network
from restain.metrics import ImagePair
from restain.metrics.psnr import psnr
from restain.stainers.base import Stainer
from restain.training.batches import BatchOptions

SPLIT = "val"


class Validation:
    """The pairs of split ``val``: whole, resized as in training, nothing random.

    Args:
        folder: the dataset.
        options: of the training.
        stainer: that is trained.

    Raises:
        RestainError: the dataset has no pairs in that split, or they are too small for the stainer.
    """

    def __init__(self, folder: PairFolder, options: BatchOptions, stainer: Stainer) -> None:
        if not folder.split(SPLIT):
            raise RestainError(
                f"{folder.root}: keeping the epoch of the best PSNR needs pairs in split {SPLIT}, and there are none. "
                f"Give some of them split {SPLIT} in pairs.csv (columns name and split), or use --training.keep last."
            )
        self._pairs = PairDataset(folder, SPLIT, options.augmentation.without_chance())
        self._multiple, self._least = stainer.multiple, stainer.least
        self._sides(self._pairs[(0, 0)].he.shape[:2], self._pairs.records[0].name)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._pairs)

    @torch.inference_mode()
    def mean_psnr(self, stainer: Stainer) -> float:
        """The mean PSNR over pairs, dB, of what the stainer, or an average of it, makes in eval mode.

        It is left in the mode that it was in.

        Sides are cropped to the stainer's multiple; infinite values (identical images) count as 100 dB.

        Raises:
            RestainError: an image is too small for the stainer.
        """
        device = next(stainer.parameters()).device
        training = stainer.training
        stainer.eval()
        values = []
        for index in range(len(self)):
            pair = collate([self._pairs[(0, index)]])
            height, width = self._sides(pair.he.shape[2:], pair.names[0])
            fake = stainer.stain(pair.he[..., :height, :width].to(device))
            real = from_network(pair.ihc[..., :height, :width])
            values.append(min(psnr(ImagePair(real[0], from_network(fake)[0])), 100.0))
        stainer.train(training)
        return float(np.mean(values))

    def _sides(self, sides: Sequence[int], name: str) -> list[int]:
        """What is left of an image's sides when they are cropped to the stainer's multiple.

        Raises:
            RestainError: too little.
        """
        cropped = [side // self._multiple * self._multiple for side in sides]
        if min(cropped) < self._least:
            raise RestainError(
                f"{name} of split {SPLIT} is too small to be stained (at least {self._least} px). Use --training.keep "
                "last, or larger images."
            )
        return cropped
