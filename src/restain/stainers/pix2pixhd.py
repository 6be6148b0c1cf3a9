"""pix2pixHD: a deeper generator, discriminators at several scales, feature matching.

Paper: Wang, Liu, Zhu, Tao, Kautz, Catanzaro, "High-Resolution Image Synthesis and Semantic Manipulation with
Conditional GANs", CVPR 2018; a benchmark of the BCI and TDKstain papers.
Authors' code: BSD (NVIDIA/pix2pixHD). None of it is here.
Differs: H&E in place of label maps, so no one-hot input, no instance edges and no feature encoder. The VGG term needs
weights of VGG19 on disk; without them it is left out and the log says so. ``enhancers`` trains the coarse-to-fine
generator whole: the authors train its global part first, at half size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from restain.core.errors import RestainError
from restain.core.progress import console
from restain.data import PairBatch
from restain.losses.feature_matching import feature_matching
from restain.losses.perceptual import PerceptualLoss
from restain.nn.backbones import VGG19_FILE
from restain.nn.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from restain.nn.generators import ResnetGenerator
from restain.nn.init import init_normal
from restain.nn.local_enhancer import LocalEnhancer
from restain.nn.norms import Norm
from restain.nn.weights import cached_weights, content_hash
from restain.stainers.base import GanConfig, Stainer, Step, register


@dataclass(frozen=True)
class Config(GanConfig):
    """Settings of pix2pixHD.

    Attributes:
        downsamplings: stride-2 convolutions of the global generator, 4 (released code).
        generator_blocks: its residual blocks, 9 (released code).
        enhancers: local enhancers above the global generator (section 3.2), 0 or more; the paper's 2048 px need 1.
            They go with generator_width 32: each makes the global generator twice as wide.
        enhancer_blocks: residual blocks of each, 3 (released code).
        discriminator_scales: 3 in the paper (section 3.2), 2 in the released code (default); TDKstain's setting is 3.
        norm: instance (released code) or batch.
        feature_weight: of feature matching, lambda of Eq. 5, 10.
        vgg_weight: of the perceptual term, 10 (released code); 0 leaves it out.
        vgg_file: VGG19's ImageNet weights (.pth or .safetensors); None takes vgg19-dcbb9e9d.pth of torch's download
            cache where it is, else there is no perceptual term.
    """

    downsamplings: int = 4
    generator_blocks: int = 9
    enhancers: int = 0
    enhancer_blocks: int = 3
    discriminator_scales: int = 2
    norm: Norm = Norm.instance
    feature_weight: float = 10.0
    vgg_weight: float = 10.0
    vgg_file: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be built or trained."""
        super().__post_init__()
        if not 0 <= self.enhancers <= 4:
            raise RestainError(f"enhancers is {self.enhancers}; it is 0 to 4.")


@register("pix2pixhd", paper="Wang et al., CVPR 2018", code_licence="BSD (NVIDIA)")
class Pix2PixHD(Stainer):
    """Generator G: H&E to IHC; discriminator D: is this IHC the real one of this H&E, at each scale?"""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config
        self.G = (
            LocalEnhancer(
                config.generator_width, config.enhancers, config.downsamplings, config.generator_blocks,
                config.enhancer_blocks, config.norm,
            )
            if config.enhancers
            else ResnetGenerator(
                width=config.generator_width, blocks=config.generator_blocks, downsamplings=config.downsamplings,
                norm=config.norm, bias=True,
            )
        )  # fmt: skip
        patch = partial(
            PatchDiscriminator, 6, config.discriminator_width, config.discriminator_layers, config.norm, padding=2,
            widest=max(512, config.discriminator_width), bias=True,
        )  # fmt: skip
        self.D = MultiScaleDiscriminator(config.discriminator_scales, patch)
        self.fit_sides(self.G, self.D)
        init_normal(self.G)
        init_normal(self.D)
        self._perceptual: list[PerceptualLoss] | None = None  # one, or none; made when the training begins
        self._vgg = 0

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for G and for D."""
        return {"G": self.adam(self.G), "D": self.adam(self.D)}

    def training_step(self, batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """G, then D (as released), on the same fake; LSGAN summed over scales (Eq. 3), feature matching (Eq. 4)."""
        x, y, gan = batch.he, batch.ihc, self.config.gan
        fake = self.G(x)
        real_features = self.D.features(torch.cat([x, y], 1))
        d_loss = gan.discriminator(self.D(torch.cat([x, fake.detach()], 1)), [scale[-1] for scale in real_features])
        with step.frozen(self.D):
            fake_features = self.D.features(torch.cat([x, fake], 1))
            losses = {"G_GAN": gan([scale[-1] for scale in fake_features], real=True)}
            if self.config.feature_weight:
                losses["features"] = self.config.feature_weight * feature_matching(fake_features, real_features)
            for perceptual in self.perceptual():
                losses["VGG"] = self.config.vgg_weight * perceptual(fake, y)
            step.update("G", torch.stack(list(losses.values())).sum())
        step.update("D", d_loss)
        return {"D": d_loss, **losses}

    def perceptual(self) -> list[PerceptualLoss]:
        """The perceptual term, where it has a weight and weights; whether it has is said once.

        Raises:
            ItemError: ``vgg_file`` cannot be read.
        """
        if self._perceptual is None:
            file = self.config.vgg_file or cached_weights(VGG19_FILE)
            self._perceptual = [PerceptualLoss(file)] if self.config.vgg_weight and file else []
            self._vgg = content_hash(file) if self.config.vgg_weight and file else 0
            if self.config.vgg_weight and not file:
                console.print(
                    f"pix2pixhd: trains without its VGG term: {VGG19_FILE} is not in torch's cache. Give the file with "
                    "--stainer.vgg-file.",
                    soft_wrap=True,
                )
        return self._perceptual

    def extra_state(self) -> dict[str, Tensor]:
        """Which weights the VGG term of this training has; 0 where it has none."""
        self.perceptual()
        return {"vgg": torch.tensor(self._vgg)}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """Refuse to go on with another loss than the run began with."""
        self.perceptual()
        if int(state["vgg"]) != self._vgg:
            had = "without" if not state["vgg"] else "with other weights in" if self._vgg else "with"
            raise RestainError(
                f"This run was begun {had} the VGG term. Put {VGG19_FILE} where it was (or away), or begin another run."
            )

    def stain(self, he: Tensor) -> Tensor:
        """G(x)."""
        out: Tensor = self.G(he)
        return out

    def reference_keys(self) -> dict[str, str]:
        """The released names: scales counted from the coarsest, and by stage where features are matched."""
        keys = {}
        for key in self.state_dict():
            network, rest = key.split(".", 1)
            if network == "D":
                rest = self.D.reference_key(rest, staged=self.config.feature_weight > 0)
            else:
                rest = LocalEnhancer.reference_key(rest)
            keys[key] = f"{network}.{rest}"
        return keys
