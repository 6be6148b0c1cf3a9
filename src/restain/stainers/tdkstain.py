"""TDKstain: a conditional GAN that is told where nuclei lie and where membranes are stained.

Paper: Peng et al., "Advancing H&E-to-IHC Virtual Staining with Task-Specific Domain Knowledge for HER2 Scoring",
MICCAI 2024.
Authors' code: AGPL-3.0 (balball/TDKstain). None of it is here.
Differs: the paper describes the estimator's training as a stage of its own, the released code (and this one) updates
it in every iteration; ``estimator_warmup_epochs`` gives it a stage first. Weights of 0 switch branches off and need no
maps of theirs (the ablations of Table 1). The knowledge maps are made by ``restain dataset knowledge``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from restain.core.errors import RestainError
from restain.data import PairBatch
from restain.nn.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from restain.nn.generators import ResnetBlock, ResnetGenerator
from restain.nn.init import init_normal
from restain.nn.norms import Norm
from restain.stainers.base import GanConfig, Stainer, Step, register


@dataclass(frozen=True)
class Config(GanConfig):
    """Settings of TDKstain (weights, widths and lengths: released code).

    Attributes:
        generator_blocks: residual blocks of G, 9 (section 3).
        downsamplings: stride-2 convolutions of G, 3.
        discriminator_scales: 3 (section 3).
        norm: instance or batch.
        estimator_width: channels inside the density estimator E, 128.
        estimator_blocks: its residual blocks, 4 (section 3).
        estimator_warmup_epochs: epochs in which E alone is trained before G and D begin (section 2); 0 as released.
        l1_weight: lambda_L1 of Eq. 5, 10.
        membrane_weight: lambda_M of Eq. 5, 10; 0 is "w/o L_membrane" of Table 1.
        nuclei_weight: lambda_N of Eq. 5, 10; 0 is "w/o L_nuclei" of Table 1, and E is not trained.
        estimator_weight: lambda_E of E's own loss, 10.
    """

    generator_blocks: int = 9
    downsamplings: int = 3
    discriminator_scales: int = 3
    norm: Norm = Norm.instance
    estimator_width: int = 128
    estimator_blocks: int = 4
    estimator_warmup_epochs: int = 0
    l1_weight: float = 10.0
    membrane_weight: float = 10.0
    nuclei_weight: float = 10.0
    estimator_weight: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot be built or trained."""
        super().__post_init__()
        if self.estimator_warmup_epochs < 0:
            raise RestainError("estimator_warmup_epochs is at least 0.")
        if self.nuclei_weight and not self.estimator_weight:
            raise RestainError("estimator_weight is 0: the nuclei branch needs an estimator that learns.")
        if self.estimator_warmup_epochs and not self.nuclei_weight:
            raise RestainError("estimator_warmup_epochs: with nuclei_weight 0 there is no estimator to warm up.")


class DensityEstimator(nn.Module):
    """E: where nuclei lie, from features of G's encoder (section 2; Fig. 1b).

    Args:
        channels: of the features, all together.
        width: channels inside.
        blocks: residual blocks.
        norm: of all layers but the last.
    """

    def __init__(self, channels: int, width: int = 128, blocks: int = 4, norm: Norm = Norm.instance) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(channels, width, 7, padding=3, bias=norm.conv_bias),
            norm.layer(width),
            nn.ReLU(inplace=True),
            *(ResnetBlock(width, norm) for _ in range(blocks)),
            nn.Conv2d(width, 1, 7, padding=3),
            nn.Sigmoid(),
        )

    def forward(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Features [N, c, h, w], shallow to deep, to the density [N, 1, *size] in (0, 1)."""
        finest = features[0].shape[2:]
        together = torch.cat([_resized(feature, finest) for feature in features], 1)
        return _resized(self.model(together), size)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, list(size), mode="bilinear", align_corners=True)


@register("tdkstain", paper="Peng et al., MICCAI 2024", code_licence="AGPL-3.0")
class TDKStain(Stainer):
    """Generator G: H&E to IHC; discriminator D at three scales; estimator E: nuclei density from G's features."""

    needs = frozenset({"dab", "dab_mask", "nuclei_map"})

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config
        self.G = ResnetGenerator(
            width=config.generator_width, blocks=config.generator_blocks, downsamplings=config.downsamplings,
            norm=config.norm,
        )  # fmt: skip
        patch = partial(PatchDiscriminator, 6, config.discriminator_width, config.discriminator_layers, config.norm)
        self.D = MultiScaleDiscriminator(config.discriminator_scales, patch)
        # Each is initialised where it is made: G and D begin alike with and without E.
        init_normal(self.G)
        init_normal(self.D)
        # The activations after each stride-2 convolution: modules 6, 9, 12 of a generator with three of them.
        self.layers = tuple(range(6, 3 * config.downsamplings + 4, 3))
        self.needs = frozenset({"dab", "dab_mask"} if config.membrane_weight else ())
        if config.nuclei_weight:
            channels = sum(self.G.channels(self.layers))
            self.E = DensityEstimator(channels, config.estimator_width, config.estimator_blocks, config.norm)
            init_normal(self.E)
            self.needs |= {"nuclei_map"}
        self.fit_sides(self.G, self.D)

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network."""
        return {name: self.adam(network) for name, network in self.named_children()}

    def training_step(self, batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """E, D, then G (section 2, "Training Strategy")."""
        x, y, config = batch.he, batch.ihc, self.config
        if config.estimator_warmup_epochs >= step.epochs:
            raise RestainError(
                f"estimator_warmup_epochs: the training has {step.epochs} epochs; leave some for G and D."
            )
        judged = {}
        if config.nuclei_weight:
            with torch.no_grad():
                features = self.G.encode(y, self.layers)
            judged["E"] = config.estimator_weight * self.density_loss(features, batch)  # Eq. 1
            step.update("E", judged["E"])
        if step.epoch <= config.estimator_warmup_epochs:
            return judged
        fake = self.G(x)
        judged["D"] = config.gan.discriminator(
            self.D(torch.cat([x, fake.detach()], 1)), self.D(torch.cat([x, y], 1))
        )  # Eq. 4 as LSGAN
        step.update("D", judged["D"])
        with step.frozen(*(network for name, network in self.named_children() if name != "G")):
            losses = {
                "G_GAN": config.gan(self.D(torch.cat([x, fake], 1)), real=True),
                "L1": config.l1_weight * F.l1_loss(fake, y),
            }
            if config.membrane_weight:  # Eq. 2
                virtual_dab = self.G(x * batch.extras["dab_mask"])
                losses["membrane"] = config.membrane_weight * F.l1_loss(virtual_dab, batch.extras["dab"])
            if config.nuclei_weight:  # Eq. 3: E is frozen, the encoder is not
                losses["nuclei"] = config.nuclei_weight * self.density_loss(self.G.encode(fake, self.layers), batch)
            step.update("G", torch.stack(list(losses.values())).sum())  # Eq. 5
        return {**judged, **losses}

    def density_loss(self, features: Sequence[Tensor], batch: PairBatch) -> Tensor:
        """The mean squared error of E's density against that of the real IHC (0-d)."""
        truth = batch.extras["nuclei_map"]
        return F.mse_loss(self.E(features, truth.shape[2:]), truth)

    def stain(self, he: Tensor) -> Tensor:
        """G(x)."""
        out: Tensor = self.G(he)
        return out

    def reference_keys(self) -> dict[str, str]:
        """The released names: the discriminators counted from the coarsest."""
        return {
            key: f"D.{self.D.reference_key(key.removeprefix('D.'), staged=False)}" if key.startswith("D.") else key
            for key in self.state_dict()
        }
