"""pix2pix: a conditional GAN with an L1 term.

Paper: Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017; as
benchmarked on BCI by Liu et al., CVPRW 2022, section 5.
Authors' code: BSD (junyanz/pytorch-CycleGAN-and-pix2pix; the BCI copy BSD-3-Clause). None of it is here.
Differs: the authors' test script leaves batch norm in batch mode and dropout on; here staining runs in eval mode, and
``inference_norm: image`` gives the batch norms the statistics of the image (dropout stays off). The random flip
belongs to the recipe's data section.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from restain.data import PairBatch
from restain.losses.gan import GANLoss
from restain.nn.discriminators import PatchDiscriminator
from restain.nn.generators import ResnetGenerator, UnetGenerator
from restain.nn.init import init_normal
from restain.nn.norms import Norm, image_statistics
from restain.stainers.base import GanConfig, Stainer, Step, register


class Generator(StrEnum):
    """The generators of the released code."""

    resnet_9blocks = "resnet_9blocks"
    resnet_6blocks = "resnet_6blocks"
    unet_256 = "unet_256"
    unet_128 = "unet_128"

    def build(self, width: int, norm: Norm, dropout: bool) -> ResnetGenerator | UnetGenerator:
        """The network, with ``width`` channels after its first convolution."""
        if self in (Generator.resnet_9blocks, Generator.resnet_6blocks):
            blocks = 9 if self is Generator.resnet_9blocks else 6
            return ResnetGenerator(width=width, blocks=blocks, norm=norm, dropout=dropout)
        return UnetGenerator(
            width=width, downsamplings=8 if self is Generator.unet_256 else 7, norm=norm, dropout=dropout
        )


class InferenceNorm(StrEnum):
    """Which statistics batch norm uses when staining: those of the training, or those of the image."""

    running = "running"
    image = "image"


@dataclass(frozen=True)
class Config(GanConfig):
    """Settings of pix2pix.

    Attributes:
        generator: BCI compares unet_256 and resnet_9blocks (section 5.1: the residual one is better).
        norm: batch (Isola 6.1) or instance.
        dropout: 0.5 in the generator, the noise z of Isola 3.1; on in the released training.
        gan: vanilla (Isola Eq. 1).
        l1_weight: lambda of Isola Eq. 4, 100.
        inference_norm: running statistics (default) or the image's own, as the authors' test script; it may be changed
            in the config.yaml of a trained run.
    """

    generator: Generator = Generator.resnet_9blocks
    norm: Norm = Norm.batch
    dropout: bool = True
    gan: GANLoss = GANLoss.vanilla
    l1_weight: float = 100.0
    inference_norm: InferenceNorm = InferenceNorm.running


@register("pix2pix", paper="Isola et al., CVPR 2017", code_licence="BSD")
class Pix2Pix(Stainer):
    """Generator G: H&E to IHC; discriminator D: is this IHC the real one of this H&E?"""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config
        self.G: nn.Module = config.generator.build(config.generator_width, config.norm, config.dropout)
        self.D = PatchDiscriminator(6, config.discriminator_width, config.discriminator_layers, config.norm)
        self.fit_sides(self.G, self.D)
        if config.inference_norm is InferenceNorm.image:
            self.margin = None  # statistics of the tile enter every pixel
        init_normal(self.G)
        init_normal(self.D)

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for G and for D."""
        return {"G": self.adam(self.G), "D": self.adam(self.D)}

    def training_step(self, batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """D, then G (Isola 3.3), with the same fake."""
        x, y = batch.he, batch.ihc
        fake = self.G(x)
        d_loss = self.config.gan.discriminator(self.D(torch.cat([x, fake.detach()], 1)), self.D(torch.cat([x, y], 1)))
        step.update("D", d_loss)
        with step.frozen(self.D):
            losses = {"G_GAN": self.config.gan(self.D(torch.cat([x, fake], 1)), real=True)}
            losses |= self.content_losses(fake, y)
            step.update("G", torch.stack(list(losses.values())).sum())
        return {"D": d_loss, **losses}

    def content_losses(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """What holds the fake to the real IHC: lambda L1 (Isola Eq. 3 and 4)."""
        return {"L1": self.config.l1_weight * (fake - real).abs().mean()}

    def stain(self, he: Tensor) -> Tensor:
        """G(x), in the chosen statistics."""
        if self.config.inference_norm is InferenceNorm.running:
            out: Tensor = self.G(he)
            return out
        with image_statistics(self.G):
            return torch.cat([self.G(image) for image in torch.split(he, 1)])
