"""Wavelet pix2pix: pix2pix whose generator sees the sub-bands of a wavelet transform.

Paper: team vivek23 (challenge rank 6) in Zhu et al., "Breast Cancer Immunohistochemical Image Generation: a Benchmark
Dataset and Challenge Review", 2023, section V.E, Eq. 19 and 20.
Authors' code: none released. None is here.
The paper leaves open, and here is decided:
- Wavelet and depth: Haar, one transform (``wavelet``, ``level``). Four bands of an RGB image: its grey one is
  transformed (Fig. 9 shows four channels; the weights are Rec. 601).
- The scales: one transform halves the image, two transposed convolutions double it twice, and a whole ResNet-18 would
  halve it three times more. So that the sizes close, one stage of ResNet-18 keeps its stride of 2 (``strided_stage``,
  the second, as the cheapest); with ``level`` 2 none does.
- "9 residual blocks" of ResNet-18, which has 8: a ninth of the same kind follows, without ImageNet weights
  (``more_residual``).
- ResNet-18's stem takes three channels: the paper's 7x7 convolution stands in its place.
- After the transposed convolutions a 7x7 convolution and tanh, as in the generator that the paper cites (Johnson 2016).
- z of Eq. 19: the paper does not say how it enters; there is none.
- Eq. 20 weighs the fake term of D by the lambda of Eq. 19, a likely misprint: ``fake_factor`` is 1, 100 is as printed.
- Optimizer and length are those of pix2pix.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from restain.core.errors import RestainError
from restain.core.progress import console
from restain.data import PairBatch
from restain.losses.gan import GANLoss
from restain.nn.init import init_normal
from restain.nn.resnet import RESNET18_FILE, BasicBlock, ResNet18Stages
from restain.nn.wavelets import dwt, grey, known_wavelet
from restain.nn.weights import cached_weights, content_hash
from restain.stainers.base import GanConfig, Stainer, Step, register

IMAGENET_WIDTH = 64
"""Channels of the first stage that ImageNet's weights are for."""


@dataclass(frozen=True)
class Config(GanConfig):
    """Settings of wavelet pix2pix (section V.E where it says something, else see above).

    Attributes:
        wavelet: a discrete wavelet of PyWavelets.
        level: transforms, 1 or 2.
        strided_stage: the stage of ResNet-18 that keeps its stride of 2, 2 to 4; not used with level 2.
        more_residual: residual blocks after ResNet-18's eight, 1; 0 for ResNet-18 as it is.
        encoder_weights: ImageNet weights of ResNet-18 (.pth or .safetensors); None takes resnet18-f37072fd.pth of
            torch's download cache where it is, else the encoder begins at random. run.json says which.
        discriminator_layers: 4x4 convolutions of stride 2, five with the one that judges.
        gan: vanilla, the binary cross entropy of Eq. 19 and 20.
        l1_weight: lambda of Eq. 19, 100.
        fake_factor: of the fake term in Eq. 20; 1, or 100 as printed.
    """

    wavelet: str = "haar"
    level: int = 1
    strided_stage: int = 2
    more_residual: int = 1
    encoder_weights: Path | None = None
    discriminator_layers: int = 5
    gan: GANLoss = GANLoss.vanilla
    l1_weight: float = 100.0
    fake_factor: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be built or trained."""
        super().__post_init__()
        known_wavelet(self.wavelet)
        if self.level not in (1, 2) or self.strided_stage not in (2, 3, 4):
            raise RestainError("wavelet_pix2pix: level is 1 or 2, strided_stage 2, 3 or 4.")
        if self.discriminator_layers < 2:
            raise RestainError(f"wavelet_pix2pix: discriminator_layers is {self.discriminator_layers}; 2 or more.")
        if not 0 <= self.more_residual <= 64:
            raise RestainError(f"wavelet_pix2pix: more_residual is {self.more_residual}; it is 0 to 64.")
        if not 0 < self.fake_factor <= 1e6:
            raise RestainError(f"wavelet_pix2pix: fake_factor is {self.fake_factor}; a number above 0.")
        if self.encoder_weights is not None and self.generator_width != IMAGENET_WIDTH:
            raise RestainError(f"encoder_weights are for generator_width {IMAGENET_WIDTH}, not {self.generator_width}.")


class WaveletGenerator(nn.Module):
    """Sub-bands, 7x7 convolution, residual blocks of a ResNet-18, two transposed convolutions, 7x7 convolution."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.wavelet, self.level, width = config.wavelet, config.level, config.generator_width
        strides = [2 if self.level == 1 and stage == config.strided_stage else 1 for stage in range(1, 5)]
        self.stem = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(4, width, 7), nn.InstanceNorm2d(width), nn.ReLU(inplace=True)
        )
        self.encoder = ResNet18Stages(width, strides)
        c = self.encoder.channels
        self.more = nn.Sequential(*(BasicBlock(c, c) for _ in range(config.more_residual)))
        ups: list[nn.Module] = []
        for _ in range(2):
            ups += [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, output_padding=1)]
            ups += [nn.InstanceNorm2d(c // 2), nn.ReLU(inplace=True)]
            c //= 2
        self.decoder = nn.Sequential(*ups, nn.ReflectionPad2d(3), nn.Conv2d(c, 3, 7), nn.Tanh())
        self.multiple = 4
        self.least = 4 * 2**self.level  # reflection padding of the sub-bands needs 4 px
        self.margin = None  # instance norm brings the whole image into every pixel

    def forward(self, x: Tensor) -> Tensor:
        """Image [N, 3, H, W] in [-1, 1], H and W multiples of 4, to an image of the same size in (-1, 1)."""
        height, width = (side // 2**self.level for side in x.shape[2:])
        bands = dwt(grey(x), self.wavelet, self.level)
        # Filters longer than Haar's give a few more values: as many too many on either side.
        top, left = ((more - side) // 2 for more, side in zip(bands.shape[2:], (height, width), strict=True))
        bands = bands[:, :, top : top + height, left : left + width]
        out: Tensor = self.decoder(self.more(self.encoder(self.stem(bands))))
        return out


class StridedDiscriminator(nn.Module):
    """4x4 convolutions of stride 2, all but the last with batch norm and LeakyReLU; the sigmoid is in the loss.

    Args:
        width: channels of the first convolution, doubled by each of the next up to 8 times.
        layers: how many, with the one that judges.
    """

    def __init__(self, width: int = 64, layers: int = 5) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = 6
        for number in range(layers - 1):
            wider = width * min(2**number, 8)
            stages += [nn.Conv2d(channels, wider, 4, 2, 1, bias=False), nn.BatchNorm2d(wider), nn.LeakyReLU(0.2, True)]
            channels = wider
        self.model = nn.Sequential(*stages, nn.Conv2d(channels, 1, 4, 2, 1))
        self.smallest = 2**layers

    def forward(self, x: Tensor) -> Tensor:
        """H&E and IHC [N, 6, H, W] in [-1, 1] to logits [N, 1, h, w]."""
        out: Tensor = self.model(x)
        return out


@register("wavelet_pix2pix", paper="Zhu et al., challenge review 2023 (team vivek23)", code_licence="none released")
class WaveletPix2Pix(Stainer):
    """Generator G: H&E to IHC; discriminator D: is this IHC the real one of this H&E?"""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config
        self.G = WaveletGenerator(config)
        self.D = StridedDiscriminator(config.discriminator_width, config.discriminator_layers)
        self.fit_sides(self.G, self.D)
        init_normal(self.G)
        init_normal(self.D)

    def begin(self) -> dict[str, Any]:
        """Give the encoder ImageNet's weights, where there are some; which they are goes into run.json."""
        file = self.config.encoder_weights
        if file is None and self.config.generator_width == IMAGENET_WIDTH:
            file = cached_weights(RESNET18_FILE)
        if file is None:
            console.print(
                f"wavelet_pix2pix: the encoder begins at random. The method begins with {RESNET18_FILE} (ImageNet, "
                f"generator_width {IMAGENET_WIDTH}): put it into torch's cache, or give --stainer.encoder-weights.",
                soft_wrap=True,
            )
            return {"encoder_weights": "random"}
        self.G.encoder.load_imagenet(file)
        return {"encoder_weights": f"{file.name}, {content_hash(file):x}"}

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for G and for D."""
        return {"G": self.adam(self.G), "D": self.adam(self.D)}

    def training_step(self, batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """D (Eq. 20), then G (Eq. 19), on the same fake."""
        x, y, gan = batch.he, batch.ihc, self.config.gan
        fake = self.G(x)
        d_loss = gan(self.D(torch.cat([x, y], 1)), real=True)
        d_loss = d_loss + self.config.fake_factor * gan(self.D(torch.cat([x, fake.detach()], 1)), real=False)
        step.update("D", d_loss)
        with step.frozen(self.D):
            losses = {
                "G_GAN": gan(self.D(torch.cat([x, fake], 1)), real=True),
                "L1": self.config.l1_weight * (fake - y).abs().mean(),
            }
            step.update("G", torch.stack(list(losses.values())).sum())
        return {"D": d_loss, **losses}

    def stain(self, he: Tensor) -> Tensor:
        """G(x)."""
        out: Tensor = self.G(he)
        return out
