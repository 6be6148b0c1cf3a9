"""U-GAT-IT: CycleGAN with attention and a norm that adapts to the image, trained on unpaired H&E and IHC.

Paper: Kim, Kim, Kang, Lee, "U-GAT-IT: Unsupervised Generative Attentional Networks with Adaptive Layer-Instance
Normalization for Image-to-Image Translation", ICLR 2020.
Authors' code: MIT (taki0112/UGATIT, and znxlwm/UGATIT-pytorch, whose names the networks have). None of it is here.
As in the PyTorch code where the paper differs: AdaLIN begins at rho .9 (paper: 1), weights begin as PyTorch's layers do
(paper: N(0, .02)). Decided here: the light network is the default, since the full one fits a single size of image and
at 512 px needs billions of weights; the rate decays by epoch, not by step; each batch draws its H&E and its IHC
independently of each other also from paired datasets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from restain.core.errors import RestainError
from restain.data import PairBatch
from restain.losses.gan import GANLoss
from restain.nn.attention import AttentionDiscriminator, AttentionGenerator, Judgement
from restain.nn.layer_instance import clip_shares
from restain.stainers.base import GanConfig, Stainer, Step, register


@dataclass(frozen=True)
class Config(GanConfig):
    """Settings of U-GAT-IT.

    Attributes:
        learning_rate: of both Adams, 1e-4 (appendix: training).
        weight_decay: of both Adams, 1e-4 (appendix: training).
        generator_blocks: residual blocks of the encoder, and as many adaptive ones of the decoder, 4.
        light: AdaLIN is driven by the means of the features (released option), not by all of them.
        image_size: without ``light``, the only size of image that the networks take, px; 256.
        discriminator_layers: stride-2 convolutions of the global discriminators, 5 (released count: 7).
        local_layers: stride-2 convolutions of the local discriminators, 3 (released count: 5).
        adversarial_weight: lambda_1 of section 2.2, 1; of the discriminators' auxiliary classifiers too.
        cycle_weight: lambda_2, 10.
        identity_weight: lambda_3, 10; 0 leaves it out.
        cam_weight: lambda_4, 1000, of the generators' auxiliary classifiers.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    generator_blocks: int = 4
    light: bool = True
    image_size: int = 256
    discriminator_layers: int = 5
    local_layers: int = 3
    adversarial_weight: float = 1.0
    cycle_weight: float = 10.0
    identity_weight: float = 10.0
    cam_weight: float = 1000.0

    def __post_init__(self) -> None:
        """Refuse what cannot be built or trained."""
        super().__post_init__()
        if not 0 <= self.weight_decay < math.inf:
            raise RestainError(f"weight_decay is {self.weight_decay}; it is a number of at least 0.")
        if max(self.discriminator_layers, self.local_layers) > 8:
            raise RestainError("discriminator_layers and local_layers are at most 8: channels double at each.")
        if not self.light and (self.image_size % 4 or not 8 <= self.image_size <= 1024):
            raise RestainError(f"image_size is {self.image_size}; it is a multiple of 4, 8 to 1024 px.")


@register("ugatit", paper="Kim et al., ICLR 2020", code_licence="MIT")
class UGATIT(Stainer):
    """genA2B: H&E to IHC, genB2A: back; disGA and disLA judge H&E, disGB and disLB IHC (the released names)."""

    needs = frozenset({"unpaired"})
    stains = "genA2B"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config
        size = None if config.light else config.image_size

        def generator() -> AttentionGenerator:
            return AttentionGenerator(config.generator_width, config.generator_blocks, size)

        self.genA2B, self.genB2A = generator(), generator()
        for side in "AB":
            for name, network in self.discriminators().items():
                setattr(self, name + side, network)
        self.fit_sides(self.genA2B, self.judges("A")[0])

    def discriminators(self) -> dict[str, nn.Module]:
        """The networks that judge one side, by the beginning of their names; the one that sees most comes first."""
        config = self.config
        return {
            "disG": AttentionDiscriminator(config.discriminator_width, config.discriminator_layers),
            "disL": AttentionDiscriminator(config.discriminator_width, config.local_layers),
        }

    def judges(self, side: str) -> list[nn.Module]:
        """The networks that judge side A (H&E) or B (IHC)."""
        return [network for name, network in self.named_children() if name in (f"disG{side}", f"disL{side}")]

    def optimizers(self) -> dict[str, Optimizer]:
        """One Adam for both generators and one for all discriminators."""
        decay = self.config.weight_decay
        return {
            "G": self.adam(self.genA2B, self.genB2A, weight_decay=decay),
            "D": self.adam(*self.judges("A"), *self.judges("B"), weight_decay=decay),
        }

    def training_step(self, batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """Discriminators, then generators (section 2.2), with the same fakes."""
        he, ihc, config = batch.he, batch.ihc, self.config
        fake_ihc, cam_he = self.genA2B.judge(he)
        fake_he, cam_ihc = self.genB2A.judge(ihc)
        judged = self.discriminator_losses("A", fake_he.detach(), he, batch)
        judged |= self.discriminator_losses("B", fake_ihc.detach(), ihc, batch)
        step.update("D", torch.stack(list(judged.values())).sum())
        with step.frozen(*self.judges("A"), *self.judges("B")):
            losses = self.adversarial_losses("A", fake_he, batch) | self.adversarial_losses("B", fake_ihc, batch)
            losses["cycle_A"] = config.cycle_weight * F.l1_loss(self.genB2A(fake_ihc), he)
            losses["cycle_B"] = config.cycle_weight * F.l1_loss(self.genA2B(fake_he), ihc)
            losses |= self.own_side("A", self.genB2A, he, cam_ihc) | self.own_side("B", self.genA2B, ihc, cam_he)
            step.update("G", torch.stack(list(losses.values())).sum())
        for generator in (self.genA2B, self.genB2A):
            clip_shares(generator)
        return {**judged, **losses}

    def own_side(self, side: str, generator: AttentionGenerator, image: Tensor, other: Tensor) -> dict[str, Tensor]:
        """What a generator learns from an image of the side that it makes: leave it as it is, and know it.

        Args:
            side: A or B.
            generator: the one that makes it.
            image: of that side.
            other: the logits of its auxiliary classifier for the image that it translates.
        """
        losses = {}
        if self.config.identity_weight:
            same, cam = generator.judge(image)
            losses[f"idt_{side}"] = self.config.identity_weight * F.l1_loss(same, image)
        else:
            _, cam = generator.attend(image)
        known = GANLoss.vanilla(other, real=True) + GANLoss.vanilla(cam, real=False)
        return losses | {f"cam_{side}": self.config.cam_weight * known}

    def discriminator_losses(
        self,
        side: str,
        fake: Tensor,
        real: Tensor,
        batch: PairBatch,  # noqa: ARG002 (for wecrest)
    ) -> dict[str, Tensor]:
        """What the discriminators of a side learn from, at each place and in their auxiliary classifiers."""
        terms = [
            self.config.gan(judged.logits, real=is_real) + self.attention(judged, is_real)
            for network in self.judges(side)
            for judged, is_real in ((network(fake), False), (network(real), True))
        ]
        return {f"D_{side}": self.config.adversarial_weight * torch.stack(terms).sum()}

    def adversarial_losses(self, side: str, fake: Tensor, batch: PairBatch) -> dict[str, Tensor]:  # noqa: ARG002
        """What a generator learns from the discriminators of its side."""
        judged = [network(fake) for network in self.judges(side)]
        terms = [self.config.gan(one.logits, real=True) + self.attention(one, real=True) for one in judged]
        return {f"G_{side}": self.config.adversarial_weight * torch.stack(terms).sum()}

    def attention(self, judged: Judgement, real: bool) -> Tensor:
        """The loss of a discriminator's auxiliary classifier (0-d; 0 where it has none)."""
        if judged.cam is None:
            return torch.zeros((), device=next(self.parameters()).device)
        return self.config.gan(judged.cam, real=real)

    def stain(self, he: Tensor) -> Tensor:
        """genA2B(x)."""
        out: Tensor = self.genA2B(he)
        return out

    def reference_keys(self) -> dict[str, str]:
        """The released names."""
        return {
            f"{name}.{key}": f"{name}.{network.reference_key(key)}"  # type: ignore[operator]
            for name, network in self.named_children()
            for key in network.state_dict()
        }
