"""How good a training is on split ``val``, so that the best epoch can be kept."""

from __future__ import annotations

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

    Raises:
        RestainError: the dataset has no pairs in that split.
    """

    def __init__(self, folder: PairFolder, options: BatchOptions) -> None:
        if not folder.split(SPLIT):
            raise RestainError(
                f"{folder.root}: keeping the epoch of the best PSNR needs pairs in split {SPLIT}, and there are none. "
                f"Give some of them split {SPLIT} in pairs.csv (columns name and split), or use --training.keep last."
            )
        self._pairs = PairDataset(folder, SPLIT, options.augmentation.without_chance())

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._pairs)

    @torch.inference_mode()
    def mean_psnr(self, stainer: Stainer) -> float:
        """The mean PSNR over pairs, dB, of what ``stainer`` makes in eval mode; it is left in the mode that it was in.

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
            height, width = (side // stainer.multiple * stainer.multiple for side in pair.he.shape[2:])
            if min(height, width) < stainer.least:
                raise RestainError(
                    f"{pair.names[0]} of split {SPLIT} is too small to be stained (at least {stainer.least} px). Use "
                    "--training.keep last, or larger images."
                )
            fake = stainer.stain(pair.he[..., :height, :width].to(device))
            real = from_network(pair.ihc[..., :height, :width])
            values.append(min(psnr(ImagePair(real[0], from_network(fake)[0])), 100.0))
        stainer.train(training)
        return float(np.mean(values))
