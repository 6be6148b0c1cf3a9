"""Patches of feature maps, embedded for the contrastive loss (Park 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PatchSampler(nn.Module):
    """Takes features at random locations and embeds them by a two-layer perceptron, one for each feature map.

    Args:
        channels: of each feature map.
        width: of the embedding; 256 in CUT.
        mlp: without it, features are only normalised (the released code's "sample").
    """

    def __init__(self, channels: Sequence[int], width: int = 256, mlp: bool = True) -> None:
        super().__init__()
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(count, width), nn.ReLU(), nn.Linear(width, width)) for count in channels if mlp
        )

    def forward(self, features: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Embed the features at ``places``.

        Args:
            features: maps [N, C, h, w].
            places: of each map, int64 [S] in 0 to h w - 1 (row by row), the same for all images of a batch.

        Returns:
            Of each map [N S, width] ([N S, C] without perceptron), an image after the other, rows of length 1.
        """
        samples = []
        for number, (feature, place) in enumerate(zip(features, places, strict=True)):
            sample = feature.flatten(2)[:, :, place].transpose(1, 2).flatten(0, 1)
            sample = self.mlps[number](sample) if self.mlps else sample
            samples.append(sample / (sample.norm(dim=1, keepdim=True) + 1e-7))
        return samples

    @staticmethod
    def reference_key(key: str) -> str:
        """A state-dict key of ours as the released codes have it: ``mlp_<map>``."""
        return key.replace("mlps.", "mlp_")


def random_places(features: Sequence[Tensor], count: int) -> list[Tensor]:
    """Locations in feature maps [N, C, h, w], drawn without repetition: int64 [min(count, h w)] of each map."""
    return [torch.randperm(feature.shape[2] * feature.shape[3], device=feature.device)[:count] for feature in features]
