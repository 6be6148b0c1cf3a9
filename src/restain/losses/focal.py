"""Focal loss of levels: what is easily told counts less (Lin 2017; Zhu 2023, Eq. 5 to 7)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor


class FocalTerms(StrEnum):
    """Which levels enter: the image's own alone (as released), or all of them (Eq. 5 and 6)."""

    target = "target"
    all_levels = "all_levels"


def focal_loss(
    logits: Tensor,
    level: Tensor,
    alpha: float | Sequence[float],
    gamma: float = 2.0,
    terms: FocalTerms = FocalTerms.target,
    reduction: str = "mean",
) -> Tensor:
    """-alpha_n (1 - p_t,n)^gamma log p_t,n over the images whose level is known; 0 where none is (0-d).

    p is the softmax of the logits; p_t,n is p_n of the image's own level and 1 - p_n of the others (Eq. 6), which
    enter with ``terms`` all_levels, as a mean over levels (Eq. 5).

    Args:
        logits: [N, levels].
        level: int64 [N], -1 where unknown.
        alpha: weight of each level; a single number a means a, 1 - a, 1 - a, ... (as released).
        gamma: how much less easy images count.
        terms: which levels enter.
        reduction: mean or sum over the images whose level is known.
    """
    count = logits.shape[1]
    values = [alpha] + [1 - alpha] * (count - 1) if isinstance(alpha, int | float) else alpha
    weights = logits.new_tensor(values)
    known = level >= 0
    own = F.one_hot(level.clamp_min(0), count).bool()
    log_p = F.log_softmax(logits, 1)
    if terms is FocalTerms.target:
        log_t, weights = log_p[own], weights[level.clamp_min(0)]
        losses = -weights * _left(log_t).pow(gamma) * log_t
    else:
        # log(1 - p) from the other levels' logits, exact where p is nearly 1.
        others = torch.stack([log_p[:, [j for j in range(count) if j != n]].logsumexp(1) for n in range(count)], 1)
        log_t = torch.where(own, log_p, others)
        losses = (-weights * _left(log_t).pow(gamma) * log_t).mean(1)
    total = (losses * known).sum()
    return total / known.sum().clamp_min(1) if reduction == "mean" else total


def _left(log_p: Tensor) -> Tensor:
    """1 - p of log p, never so near 0 that a root of it has no derivative."""
    return (-torch.expm1(log_p)).clamp_min(1e-7)
