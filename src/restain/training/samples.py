"""Sample pictures of a training: H&E, virtual IHC, real IHC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from restain.data import PairBatch, from_network
from restain.slides import write_image
from restain.stainers.base import Stainer


def save_samples(stainer: Stainer, batch: PairBatch, path: Path) -> None:
    """Write one row a pair: H&E, what the stainer makes of it now, the real IHC.

    Args:
        stainer: in any mode; it is left in the mode that it was in.
        batch: a few pairs.
        path: a JPEG or PNG.
    """
    if len(batch.names) == 0:
        return
    device = next(stainer.parameters()).device
    training = stainer.training
    stainer.eval()
    with torch.inference_mode():
        fake = stainer.stain(batch.he.to(device))
    stainer.train(training)
    columns = [from_network(images) for images in (batch.he, fake, batch.ihc)]
    write_image(path, np.concatenate([np.concatenate(list(column), 0) for column in columns], 1))
