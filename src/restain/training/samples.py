"""Sample pictures of a training: H&E, virtual IHC, real IHC."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from restain.data import PairBatch, from_network
from restain.stainers.base import Stainer


def sample_picture(stainer: Stainer, batch: PairBatch) -> NDArray[np.uint8]:
    """One row a pair: H&E, what the stainer makes of it now, the real IHC.

    Args:
        stainer: in any mode; it is left in the mode that it was in.
        batch: a few pairs, [N, 3, H, W].

    Returns:
        uint8 RGB [N H, 3 W, 3].
    """
    device = next(stainer.parameters()).device
    training = stainer.training
    stainer.eval()
    with torch.inference_mode():
        fake = stainer.stain(batch.he.to(device))
    stainer.train(training)
    columns = [from_network(images) for images in (batch.he, fake, batch.ihc)]
    return np.concatenate([np.concatenate(list(column), 0) for column in columns], 1)
