"""PatchNCE: a patch of the output should resemble the patch at its place more than patches at others (Park 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.07
_EXCLUDED = -10.0
"""Similarity given to a patch with itself among its negatives; cosines are at least -1."""


def patch_nce(
    query: Tensor, key: Tensor, images: int, temperature: float = TEMPERATURE, across_images: bool = False
) -> Tensor:
    """InfoNCE of each location (Park 2020, Eq. 2 and 3): its key is the positive, the keys at other places negatives.

    Args:
        query: [N S, C] of the output, rows of length 1, the S locations of an image together.
        key: [N S, C] at the same locations; it gets no gradient.
        images: N.
        temperature: tau of Eq. 2.
        across_images: locations of other images of the batch are negatives too.

    Returns:
        [N S], not reduced.
    """
    key = key.detach()
    groups = 1 if across_images else images
    positive = (query * key).sum(1, keepdim=True)
    rows = query.view(groups, -1, query.shape[1])
    negatives = torch.bmm(rows, key.view(groups, -1, key.shape[1]).transpose(1, 2))
    itself = torch.eye(rows.shape[1], dtype=torch.bool, device=query.device)
    negatives = negatives.masked_fill(itself, _EXCLUDED).flatten(0, 1)
    logits = torch.cat([positive, negatives], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device), reduction="none")
