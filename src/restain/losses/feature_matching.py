"""Feature matching: a discriminator should see the same in fake and real (Wang 2018, Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def feature_matching(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """The L1 of every feature but the logits, weighted as in the released code: 4 / (stages) / (scales) each (0-d).

    Args:
        fake: of each scale the features of its stages, the logits last (``MultiScaleDiscriminator.features``).
        real: the same of the real pair; they get no gradient.
    """
    terms = [
        F.l1_loss(ours, theirs.detach()) * 4 / (len(fakes) - 1)
        for fakes, reals in zip(fake, real, strict=True)
        for ours, theirs in zip(fakes[:-1], reals[:-1], strict=True)
    ]
    return sum(terms, fake[0][0].new_zeros(())) / len(fake)
