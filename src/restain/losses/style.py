"""The N + 1 classes of WeCREST's discriminator: 0 is fake, the others are the styles of real images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def style_classes(numbers: Tensor) -> Tensor:
    """Numbers of styles from 0, -1 where unknown, as classes beside the fake's: int64 [N], -1 where unknown."""
    return torch.where(numbers < 0, -1, numbers + 1)


def style_loss(logits: Tensor | Sequence[Tensor], classes: Tensor, gamma: float = 0.0) -> Tensor:
    """The cross entropy at each place, focal where ``gamma`` is above 0 (0-d).

    That of BCI challenge review 2023, Eq. 16 and 17, against one class; the factor is WeCREST's, (1.01 - p)^gamma.

    Args:
        logits: [N, N_styles + 1, h, w]; the losses of several scales are summed.
        classes: int64 [N], of each image; -1 where unknown, which counts nothing.
        gamma: of the focal factor.
    """
    if not isinstance(logits, Tensor):
        return torch.stack([style_loss(scale, classes, gamma) for scale in logits]).sum()
    target = classes[:, None, None].expand(len(classes), *logits.shape[2:])
    entropy = F.cross_entropy(logits, target, ignore_index=-1, reduction="none")
    if gamma:
        entropy = (1.01 - torch.exp(-entropy)) ** gamma * entropy
    return entropy.sum() / (target >= 0).sum().clamp_min(1)
