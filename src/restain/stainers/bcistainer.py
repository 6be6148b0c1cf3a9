"""BCIStainer, by team Just4Fun, rank 2 of the BCI challenge: it reads the HER2 level in the H&E and stains by it.

Paper: Zhu et al., "Breast cancer immunohistochemical image generation: a benchmark dataset and challenge review",
2023, section V.B, Eq. 5 to 12. Authors' code: MIT (quqixun/BCIStainer). None of it is here.
Differs: the focal loss takes the image's own level alone, as released; ``focal_terms`` all_levels is Eq. 5 to 7. The
order of the three updates (C, D, G) and the strength of zoom and elastic augmentation, which belong to the recipe, are
decided here. The published 22.929 dB is an average of seven test-time views: ``restain stain --tta``. Levels that are
not known (-1) enter neither classifier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from restain.core.errors import RestainError
from restain.data import PairBatch
from restain.losses.focal import FocalTerms, focal_loss
from restain.losses.gan import GANLoss
from restain.losses.ssim import ssim_loss
from restain.nn.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from restain.nn.level_aware import Comparator, LevelAwareGenerator
from restain.nn.norms import Norm
from restain.stainers.base import GanConfig, Stainer, Step, register


@dataclass(frozen=True)
class Config(GanConfig):
    """Settings of BCIStainer; without another source the default is the released experiment's.

    Attributes:
        generator_width: channels of the generator's first convolution, 32.
        discriminator_width: the same of the discriminator, 32.
        comparator_width: the same of the comparator, 32.
        comparator_widest: most channels of the comparator, 256.
        style_blocks: weight-demodulated blocks, 9 (section V.B).
        side: px of a side of the images that the networks are made for; classifiers shrink them to 8 x 8.
        levels: number of classes; None takes it from the dataset.
        norm: batch, or instance.
        attention: SimAM in the blocks (section V.B).
        style_linear: each modulated convolution sees the style through a linear layer of its own.
        dropout: before the classifiers' linear layers.
        discriminator_scales: full size, half, ...: 2 (Eq. 11).
        label_noise: targets of the GAN losses are off by U(0, this), the generator's too, 0.1.
        focal_alpha: weight of each level in the focal losses, in the order of the levels.
        focal_gamma: gamma of Eq. 5, 2.
        focal_terms: the image's own level alone, or all (Eq. 5 and 6).
        level_weight: lambda_gfocal of Eq. 12, 5.
        similarity_weight: lambda_csim, 1, once the comparator is frozen.
        l1_weight: lambda_mae at full resolution, 10.
        low_l1_weight: lambda_mae at low resolution, 10.
        ssim_weight: lambda_ssim, 1.
        gan_weight: lambda_GAN, 1.
        comparator_epochs: epochs in which the comparator learns from real IHC; then it is frozen and compares, 50.
        learning_rate: of G's and D's AdamW, 1e-3.
        comparator_learning_rate: of the comparator's AdamW, 1e-4; no schedule changes it.
        beta1: first momentum, 0.5.
        beta2: second momentum, 0.9.
        weight_decay: of every AdamW, 0.05.
    """

    generator_width: int = 32
    discriminator_width: int = 32
    comparator_width: int = 32
    comparator_widest: int = 256
    style_blocks: int = 9
    side: int = 1024
    levels: int | None = None
    norm: Norm = Norm.batch
    attention: bool = True
    style_linear: bool = True
    dropout: float = 0.2
    gan: GANLoss = GANLoss.lsgan
    discriminator_scales: int = 2
    label_noise: float = 0.1
    focal_alpha: tuple[float, ...] = (0.5, 0.2, 0.2, 0.1)
    focal_gamma: float = 2.0
    focal_terms: FocalTerms = FocalTerms.target
    level_weight: float = 5.0
    similarity_weight: float = 1.0
    l1_weight: float = 10.0
    low_l1_weight: float = 10.0
    ssim_weight: float = 1.0
    gan_weight: float = 1.0
    comparator_epochs: int = 50
    learning_rate: float = 1e-3
    comparator_learning_rate: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.9
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what cannot be built or trained."""
        super().__post_init__()
        if self.side < 64 or 2 ** round(math.log2(self.side)) != self.side or self.side > 8192:
            raise RestainError(f"side is {self.side}; it is a power of 2 from 64 to 8192.")
        if not (0 <= self.dropout < 1 and 0 <= self.label_noise < 0.5 and 0 <= self.beta2 < 1):
            raise RestainError("dropout and beta2 are in [0, 1), label_noise in [0, 0.5).")
        if self.comparator_widest < 1 or self.comparator_epochs < 0:
            raise RestainError("comparator_widest is at least 1, comparator_epochs at least 0.")
        if not (0 < self.comparator_learning_rate < math.inf and 0 <= self.weight_decay < math.inf):
            raise RestainError("comparator_learning_rate is above 0, weight_decay at least 0.")
        if self.focal_gamma < 0 or any(not 0 <= alpha < math.inf for alpha in self.focal_alpha):
            raise RestainError("focal_gamma and each focal_alpha are at least 0.")
        if self.levels is not None and (self.levels < 2 or self.levels != len(self.focal_alpha)):
            raise RestainError(
                f"{self.levels} levels, but {len(self.focal_alpha)} in focal_alpha: give at least two levels and a "
                f"weight for each, such as --stainer.focal-alpha '{[1.0] * max(2, self.levels)}'."
            )


@register("bcistainer", paper="BCI challenge review 2023, Just4Fun", code_licence="MIT")
class BCIStainer(Stainer):
    """Generator G with a level classifier, discriminator D of IHC alone, comparator C of real and virtual IHC."""

    needs = frozenset({"levels"})
    unscheduled = frozenset({"C"})

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config
        if config.levels is None:
            raise RestainError(
                "bcistainer: the number of HER2 levels is not known. To train, give levels in the dataset's pairs.csv "
                "(columns name and level); to import, --stainer.levels."
            )
        c, levels = config, config.levels
        self.G = LevelAwareGenerator(
            levels, c.generator_width, c.side, blocks=c.style_blocks, norm=c.norm, dropout=c.dropout,
            attention=c.attention, style_linear=c.style_linear,
        )  # fmt: skip
        self.D = MultiScaleDiscriminator(c.discriminator_scales, self._patch_discriminator, aligned=True)
        self.C = Comparator(levels, c.comparator_width, c.side, c.comparator_widest, c.norm, c.dropout)
        self.fit_sides(self.G, self.D)
        # Batch norms of the last stages need more than one value, also of a batch of one image.
        self.smallest = max(self.smallest, c.side // 4)

    def _patch_discriminator(self) -> PatchDiscriminator:
        c = self.config
        return PatchDiscriminator(
            3, c.discriminator_width, c.discriminator_layers, c.norm, norm_first=True, reflect=True
        )

    def optimizers(self) -> dict[str, Optimizer]:
        """An AdamW each; the comparator's has its own rate."""

        def adamw(network: nn.Module, rate: float) -> Optimizer:
            betas, decay = (self.config.beta1, self.config.beta2), self.config.weight_decay
            return AdamW(network.parameters(), lr=rate, betas=betas, weight_decay=decay)

        rate, slow = self.config.learning_rate, self.config.comparator_learning_rate
        return {"G": adamw(self.G, rate), "D": adamw(self.D, rate), "C": adamw(self.C, slow)}

    def training_step(self, batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """C while it learns, then D, then G (Eq. 12)."""
        comparing = step.epoch > self.config.comparator_epochs
        losses = {} if comparing else self.comparator_loss(batch, step)
        stained = self.G(batch.he)
        losses["D"] = 0.5 * (
            self.adversarial(self.D(stained.full.detach()), real=False)
            + self.adversarial(self.D(batch.ihc), real=True)
        )  # fmt: skip
        step.update("D", losses["D"])
        with step.frozen(self.D, self.C):
            generator = {"G_GAN": self.config.gan_weight * self.adversarial(self.D(stained.full), real=True)}
            generator |= self.content_losses(stained.full, stained.low, batch.ihc)
            generator["level"] = self.level_loss(stained.level, batch.level)
            if comparing:
                generator["similarity"] = self.similarity_loss(stained.full, batch.ihc)
            step.update("G", torch.stack(list(generator.values())).sum())
        return losses | generator

    def comparator_loss(self, batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """One update of C on real IHC (L_cfocal)."""
        self.C.train()
        loss = self.level_loss(self.C(batch.ihc)[0], batch.level)
        step.update("C", loss)
        return {"C": loss}

    def level_loss(self, logits: Tensor, level: Tensor) -> Tensor:
        """The weighted focal loss (Eq. 5 to 7)."""
        c = self.config
        return c.level_weight * focal_loss(logits, level, c.focal_alpha, c.focal_gamma, c.focal_terms)

    def similarity_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """Cosine distance between what the frozen C sees in fake and real (Eq. 8)."""
        self.C.eval()
        with torch.no_grad():
            target = self.C(real)[1]
        return self.config.similarity_weight * cosine_distance(self.C(fake)[1], target)

    def content_losses(self, full: Tensor, low: Tensor, ihc: Tensor) -> dict[str, Tensor]:
        """MAE at both resolutions (Eq. 9) and the SSIM loss (Eq. 10)."""
        small = F.interpolate(ihc, low.shape[2:], mode="bilinear", align_corners=True)
        return {
            "L1": self.config.l1_weight * F.l1_loss(full, ihc),
            "low_L1": self.config.low_l1_weight * F.l1_loss(low, small),
            "SSIM": self.config.ssim_weight * ssim_loss(full, ihc),
        }

    def adversarial(self, logits: list[Tensor], real: bool) -> Tensor:
        """The GAN loss against noisy labels, mean over scales (Eq. 11)."""
        return self.config.gan(logits, real, self.config.label_noise) / len(logits)

    def stain(self, he: Tensor) -> Tensor:
        """The full-resolution output of G."""
        out: Tensor = self.G(he).full
        return out

    def reference_keys(self) -> dict[str, str]:
        """The released names."""
        return {key: self._reference_key(key) for key in self.state_dict()}

    def _reference_key(self, key: str) -> str:
        if not key.startswith("D."):
            return LevelAwareGenerator.reference_key(key)
        _, _, scale, _, number, leaf = key.split(".")
        (stage, inside), coarsest = divmod(int(number), 3), self.config.discriminator_scales - 1
        conv = f"conv.{inside + 1}." if stage <= self.config.discriminator_layers else ""
        return f"D.layer{coarsest - int(scale)}.{stage}.{conv}{leaf}"


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """1 - the mean cosine of the angle between rows of x and y [N, C] (Eq. 8; 0-d)."""
    return 1 - F.cosine_similarity(x, y, dim=1, eps=1e-6).mean()
