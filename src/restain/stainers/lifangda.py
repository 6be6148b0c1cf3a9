"""lifangda02, rank 3 of the BCI challenge: CUT with paired patches, HER2 levels and multi-scale reconstruction.

Paper: Zhu et al., "Breast cancer immunohistochemical image generation: a benchmark dataset and challenge review",
2023, section V.C, Eq. 13. Authors' code: none released.
Decided here, where the review is silent: the level head is a mean over the discriminator's last features and one
linear layer, learns from real IHC and judges the fakes; the multi-scale term is the sum of L1 at S1 to S3 of pyramid
pix2pix in its own proportions (all alike); the optimizer is CUT's, length and crop are those of ASP, by the same
author. Table I says that levels are not used, but Eq. 13 has their term: it is on, ``level_weight`` 0 switches it off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from restain.core.errors import RestainError
from restain.data import PairBatch
from restain.losses.classification import level_cross_entropy
from restain.losses.pyramid import pyramid_l1
from restain.nn.discriminators import PatchDiscriminator
from restain.nn.norms import Norm
from restain.stainers import cut
from restain.stainers.base import Step, register


@dataclass(frozen=True)
class Config(cut.Config):
    """Settings of lifangda02: those of CUT and the weights of Eq. 13.

    Attributes:
        nce_weight: of PatchNCE against the H&E, 10.
        identity: CUT's identity term; not in Eq. 13, off.
        paired_weight: of PatchNCE against the real IHC (paired NCE), 10.
        level_weight: of the HER2 level by the discriminator, 2; 0 needs no levels.
        multi_scale_weight: of the multi-scale reconstruction, 20.
        scales: coarser scales S1, S2, ... in it, 1 to 3.
        levels: number of classes; None takes it from the dataset.
    """

    nce_weight: float = 10.0
    identity: bool = False
    paired_weight: float = 10.0
    level_weight: float = 2.0
    multi_scale_weight: float = 20.0
    scales: int = 3
    levels: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be built or trained."""
        super().__post_init__()
        if not 1 <= self.scales <= 3:
            raise RestainError(f"scales is {self.scales}; the pyramid has 1 to 3 coarser ones.")
        if self.levels is not None and self.levels < 2:
            raise RestainError(f"levels is {self.levels}; classes are at least 2.")


class LevelDiscriminator(PatchDiscriminator):
    """A PatchGAN that also tells the level of an IHC: the mean of its last features through a linear layer."""

    forward_methods = ("judge",)

    def __init__(self, levels: int, width: int, layers: int, antialias: bool) -> None:
        super().__init__(3, width, layers, Norm.instance, antialias=antialias)
        self.level = nn.Linear(self.channels, levels)

    def judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, 3, H, W] to patch logits [N, 1, h, w] and level logits [N, levels]."""
        *_, last, logits = self.features(x)
        return logits, self.level(last.mean((2, 3)))


@register("lifangda", paper="BCI challenge review 2023, lifangda02", code_licence="none released")
class Lifangda(cut.Cut):
    """CUT whose output is also held to the real IHC: patch by patch, in its level, at coarser scales (Eq. 13)."""

    needs = frozenset({"levels"})
    D: Any  # a LevelDiscriminator where the level has a weight

    def __init__(self, config: Config) -> None:
        if config.level_weight and config.levels is None:
            raise RestainError(
                "lifangda: the number of HER2 levels is not known. To train, give levels in the dataset's pairs.csv "
                "(columns name and level), or --stainer.level-weight 0 to do without them; to import, --stainer.levels."
            )
        super().__init__(config)
        self.config: Config
        self.needs = frozenset({"levels"} if config.level_weight else ())

    def discriminator(self) -> PatchDiscriminator:
        """CUT's, with the level head where it has a weight."""
        config = self.config
        if not config.level_weight or config.levels is None:
            return super().discriminator()
        return LevelDiscriminator(
            config.levels, config.discriminator_width, config.discriminator_layers, config.antialias
        )

    def discriminator_losses(self, fake: Tensor, batch: PairBatch) -> dict[str, Tensor]:
        """The GAN's and, on real IHC, that of the level."""
        if not self.config.level_weight:
            return super().discriminator_losses(fake, batch)
        real, level = self.D.judge(batch.ihc)
        return {
            "D": self.config.gan.discriminator(self.D(fake), real),
            "D_level": self.config.level_weight * level_cross_entropy(level, batch.level),
        }

    def adversarial_losses(self, fake: Tensor, batch: PairBatch) -> dict[str, Tensor]:
        """L_GAN and 2 L_dis-clc: the fake should show the level of its IHC."""
        if not self.config.level_weight:
            return super().adversarial_losses(fake, batch)
        logits, level = self.D.judge(fake)
        return {
            "G_GAN": self.config.gan(logits, real=True),
            "level": self.config.level_weight * level_cross_entropy(level, batch.level),
        }

    def paired_losses(
        self,
        fake: Tensor,
        features: list[Tensor],
        batch: PairBatch,
        step: Step,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """10 L_pNCE and 20 L_multi-scale."""
        scales = pyramid_l1(fake, batch.ihc, [0.0] + [1.0] * self.config.scales)
        return {
            "pNCE": self.config.paired_weight * self.contrast(batch.ihc, features),
            "multi_scale": self.config.multi_scale_weight * torch.stack(scales[1:]).sum(),
        }
