"""Cross entropy of HER2 levels, or of any other classes, that some images do not have."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def level_cross_entropy(logits: Tensor, level: Tensor) -> Tensor:
    """Mean cross entropy over the images whose level is known; 0 where none is (0-d).

    Args:
        logits: [N, classes].
        level: int64 [N], -1 where unknown.
    """
    total = F.cross_entropy(logits, level, ignore_index=-1, reduction="sum")
    return total / (level >= 0).sum().clamp_min(1)
