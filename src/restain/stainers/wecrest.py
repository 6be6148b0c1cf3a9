"""stan9 with WeCREST, rank 4 of the BCI challenge: U-GAT-IT whose discriminators tell styles and HER2 levels.

Paper: Zhu et al., "Breast cancer immunohistochemical image generation: a benchmark dataset and challenge review",
2023, section V.D, Eq. 14 to 18; after WeCREST (its reference 57). stan9's code: none released; WeCREST's (TABLAB-HKUST
/U-Frame) has no licence, and none of it is here.
Sampling by agreement (Eq. 14) is ``batches.sampling: agreement`` of the recipe and serves any method that uses pairs.
Decided here, where the review is silent or the two differ:

- Discriminators: U-GAT-IT's, global and local, since the review calls the backbone U-GAT-IT's and has L_cam in Eq. 18;
  their maps get N + 1 channels. ``discriminator: multi_scale`` takes WeCREST's own instead, which have no attention.
- Styles: the images of the training split, as coded and as the review's "N is the total number of images";
  ``level`` and ``slide`` pool them. H&E carries the number and the level of its IHC.
- The generator aims at the style of the pair that it was given, as WeCREST's code (Eq. 16 names D's side only).
- The level head: a linear layer on the means of the last features of the network that sees most; as lifangda's it
  learns from real images and judges fakes, on both sides (Fig. 8).
- The weights of Eq. 15 and 18, which were not published: cycle 10 and CAM 1000 are U-GAT-IT's; adversarial and level
  are 1, both being mean cross entropies of the same discriminators, so that neither drowns the other; its auxiliary
  classifiers count with the adversarial loss, by least squares, as in U-GAT-IT. No identity term: Eq. 15 has none.
- Optimizers, widths and blocks are U-GAT-IT's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from restain.core.errors import RestainError
from restain.data import PairBatch
from restain.losses.classification import level_cross_entropy
from restain.losses.style import style_classes, style_loss
from restain.nn.attention import AttentionDiscriminator, Judgement
from restain.nn.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from restain.stainers import ugatit
from restain.stainers.base import register


class Styles(StrEnum):
    """What counts as one style."""

    image = "image"
    level = "level"
    slide = "slide"


class Discriminator(StrEnum):
    """U-GAT-IT's two with attention on each side, or WeCREST's at several scales."""

    attention = "attention"
    multi_scale = "multi_scale"


@dataclass(frozen=True)
class Config(ugatit.Config):
    """Settings of WeCREST: those of U-GAT-IT and the additions of Eq. 15 to 18.

    Attributes:
        identity_weight: U-GAT-IT's identity term; not in Eq. 15, off.
        level_weight: of the HER2 level by the discriminators, 1; 0 leaves their level heads out.
        styles: what the N styles are: images of the training split, levels, or slides.
        focal_gamma: of WeCREST's focal factor (1.01 - p)^gamma, 0 (its code).
        discriminator: attention or multi_scale.
        discriminator_scales: of multi_scale, 3 (WeCREST's code), with ``local_layers`` stride-2 convolutions each.
        levels: number of classes; None takes it from the dataset.
        images: number of pairs in the training split; None takes it from the dataset.
        slides: number of slides in the training split; None takes it from the dataset.
    """

    identity_weight: float = 0.0
    level_weight: float = 1.0
    styles: Styles = Styles.image
    focal_gamma: float = 0.0
    discriminator: Discriminator = Discriminator.attention
    discriminator_scales: int = 3
    levels: int | None = None
    images: int | None = None
    slides: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be built or trained."""
        super().__post_init__()
        if not 0 <= self.focal_gamma <= 10:
            raise RestainError(f"focal_gamma is {self.focal_gamma}; it is 0 to 10.")
        if self.levels is not None and self.levels < 2:
            raise RestainError(f"levels is {self.levels}; classes are at least 2.")
        for name in ("images", "slides"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RestainError(f"{name} is {value}; it is at least 1.")

    @property
    def style_count(self) -> int:
        """N of the N + 1 classes.

        Raises:
            RestainError: neither the settings nor the dataset say it.
        """
        count = {Styles.image: self.images, Styles.level: self.levels, Styles.slide: self.slides}[self.styles]
        if count is None:
            name = f"{self.styles.value}s"
            raise RestainError(
                f"wecrest: the number of {name} is not known. To train with styles {self.styles.value}, give "
                f"{name} in the dataset's pairs.csv (columns name and {self.styles.value}), or choose other "
                f"--stainer.styles; to import, --stainer.{name}."
            )
        return count


class MultiScaleStyles(nn.Module):
    """WeCREST's discriminator: PatchGANs without norm on the image, its half and its quarter, N + 1 logits a patch.

    Args:
        width: channels of the first convolutions, 64.
        layers: stride-2 convolutions, 3.
        scales: 3.
        styles: logits a patch.
        levels: classes that a linear layer tells by the coarsest scale's last features; 0 for none.
    """

    def __init__(self, width: int, layers: int, scales: int, styles: int, levels: int = 0) -> None:
        super().__init__()

        def build() -> PatchDiscriminator:
            return PatchDiscriminator(3, width, layers, norm=None, reflect=True, out_channels=styles)

        self.layers = layers
        self.cnns = MultiScaleDiscriminator(scales, build)
        channels = build().channels
        self.level = nn.Linear(channels, levels) if levels else None
        self.smallest = self.cnns.smallest

    def forward(self, x: Tensor) -> Judgement:
        """Judge images [N, 3, H, W] in [-1, 1]."""
        features = self.cnns.features(x)
        level = None if self.level is None else self.level(features[-1][-2].mean((2, 3)))
        return Judgement([scale[-1] for scale in features], None, level)

    def reference_key(self, key: str) -> str:
        """A state-dict key of ours as WeCREST's code has it."""
        if not key.startswith("cnns."):
            return key
        _, _, scale, _, place, leaf = key.split(".")
        number = (int(place) + 1) // 3  # 0, 2, 5, 8, ...: between convolutions lie a norm and an activation
        last = number == self.layers + 1
        return f"cnns.{scale}.{number}.{leaf}" if last else f"cnns.{scale}.{number}.conv.{leaf}"


@register("wecrest", paper="BCI challenge review 2023, stan9", code_licence="none released (WeCREST: no licence)")
class WeCREST(ugatit.UGATIT):
    """U-GAT-IT on pairs whose discriminators tell N styles from fakes, and the HER2 level (Eq. 15 to 18)."""

    needs = frozenset({"levels"})

    def __init__(self, config: Config) -> None:
        if config.level_weight and config.levels is None:
            raise RestainError(
                "wecrest: the number of HER2 levels is not known. To train, give levels in the dataset's pairs.csv "
                "(columns name and level), or --stainer.level-weight 0 (and --stainer.styles image) to do without "
                "them; to import, --stainer.levels."
            )
        super().__init__(config)
        self.config: Config
        uses_levels = config.level_weight or config.styles is Styles.level
        self.needs = frozenset({"levels"} if uses_levels else ())

    def discriminators(self) -> dict[str, nn.Module]:
        """U-GAT-IT's with N + 1 logits and the level head, or WeCREST's."""
        config = self.config
        width, classes = config.discriminator_width, config.style_count + 1
        levels = (config.levels or 0) if config.level_weight else 0
        if config.discriminator is Discriminator.multi_scale:
            scales = config.discriminator_scales
            return {"disG": MultiScaleStyles(width, config.local_layers, scales, classes, levels)}
        return {
            "disG": AttentionDiscriminator(width, config.discriminator_layers, classes, levels),
            "disL": AttentionDiscriminator(width, config.local_layers, classes),
        }

    def styles(self, batch: PairBatch) -> Tensor:
        """The classes of the pairs' styles, int64 [N]; -1 where unknown."""
        numbers = {Styles.image: batch.image, Styles.level: batch.level, Styles.slide: batch.slide}
        return style_classes(numbers[self.config.styles])

    def discriminator_losses(self, side: str, fake: Tensor, real: Tensor, batch: PairBatch) -> dict[str, Tensor]:
        """Eq. 18: style, level of the real image, and the auxiliary classifiers."""
        styles, config = self.styles(batch), self.config
        both = [(network(fake), network(real)) for network in self.judges(side)]
        terms = [
            style_loss(judged.logits, classes, config.focal_gamma) + self.attention(judged, is_real)
            for pair in both
            for judged, classes, is_real in zip(pair, (torch.zeros_like(styles), styles), (False, True), strict=True)
        ]
        losses = {f"D_{side}": config.adversarial_weight * torch.stack(terms).sum()}
        return losses | self.level_losses(f"D_level_{side}", [judged for _, judged in both], batch)

    def adversarial_losses(self, side: str, fake: Tensor, batch: PairBatch) -> dict[str, Tensor]:
        """L_adv and L_class of Eq. 15: the fake should be of its pair's style and level."""
        styles, config = self.styles(batch), self.config
        judged = [network(fake) for network in self.judges(side)]
        terms = [style_loss(one.logits, styles, config.focal_gamma) + self.attention(one, True) for one in judged]
        losses = {f"G_{side}": config.adversarial_weight * torch.stack(terms).sum()}
        return losses | self.level_losses(f"level_{side}", judged, batch)

    def level_losses(self, name: str, judged: list[Judgement], batch: PairBatch) -> dict[str, Tensor]:
        """L_class: the cross entropy of the level, where it has a weight."""
        told = [level_cross_entropy(one.level, batch.level) for one in judged if one.level is not None]
        return {name: self.config.level_weight * torch.stack(told).sum()} if told else {}
