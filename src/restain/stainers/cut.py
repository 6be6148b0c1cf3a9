"""CUT: one generator whose output must resemble its input patch by patch, trained on unpaired H&E and IHC.

Paper: Park, Efros, Zhang, Zhu, "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020.
Authors' code: BSD (taesungp/contrastive-unpaired-translation). None of it is here.
Differs: the perceptrons exist from the start (the released code makes them at the first batch); ``num_patches`` 0,
which normalises over locations there by mistake, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from restain.core.errors import RestainError
from restain.data import PairBatch
from restain.losses.nce import TEMPERATURE, patch_nce
from restain.nn.discriminators import PatchDiscriminator
from restain.nn.generators import ResnetGenerator
from restain.nn.init import init_xavier
from restain.nn.norms import Norm
from restain.nn.patch_sampler import PatchSampler, random_places
from restain.stainers.base import GanConfig, Stainer, Step, register


@dataclass(frozen=True)
class Config(GanConfig):
    """Settings of CUT.

    Attributes:
        generator_blocks: residual blocks, 9 (appendix C.1).
        antialias: binomial filters around up- and downsampling in both networks (released code).
        nce_layers: modules of the generator whose outputs are compared (released code); 0 is the padded image.
        nce_weight: lambda_X of Eq. 5, 1.
        identity: the second term of Eq. 5, G(y) against y; the mean of both terms is taken, as released.
        flip_equivariance: half of the batches are mirrored, and the output's features mirrored back (FastCUT).
        patches: locations in each layer, 256.
        embedding_width: of the perceptrons, 256.
        temperature: tau of Eq. 2, 0.07.
        across_images: locations of other images of a batch are negatives too.
    """

    generator_blocks: int = 9
    antialias: bool = True
    nce_layers: tuple[int, ...] = (0, 4, 8, 12, 16)
    nce_weight: float = 1.0
    identity: bool = True
    flip_equivariance: bool = False
    patches: int = 256
    embedding_width: int = 256
    temperature: float = TEMPERATURE
    across_images: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be built or trained."""
        super().__post_init__()
        if self.patches < 2 or not self.temperature > 0:
            raise RestainError("patches is at least 2 (a positive and a negative), temperature above 0.")
        if not self.nce_layers or list(self.nce_layers) != sorted(set(self.nce_layers)) or self.nce_layers[0] < 0:
            raise RestainError(f"nce_layers is {list(self.nce_layers)}; give module numbers in ascending order.")


@register("cut", paper="Park et al., ECCV 2020", code_licence="BSD")
class Cut(Stainer):
    """Generator G: H&E to IHC; F embeds patches of its features; discriminator D judges IHC alone."""

    needs = frozenset({"unpaired"})

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config
        self.G = ResnetGenerator(
            width=config.generator_width, blocks=config.generator_blocks, norm=Norm.instance,
            antialias_down=config.antialias, antialias_up=config.antialias,
        )  # fmt: skip
        if config.nce_layers[-1] >= len(self.G.model):
            raise RestainError(f"nce_layers: the generator has modules 0 to {len(self.G.model) - 1}.")
        self.F = PatchSampler(self.G.channels(config.nce_layers), config.embedding_width)
        self.D = self.discriminator()
        self.fit_sides(self.G, self.D)
        for network in (self.G, self.F, self.D):
            init_xavier(network)

    def discriminator(self) -> PatchDiscriminator:
        """The network D."""
        config = self.config
        return PatchDiscriminator(
            3, config.discriminator_width, config.discriminator_layers, Norm.instance, antialias=config.antialias
        )

    def optimizers(self) -> dict[str, Optimizer]:
        """One Adam for D; one for G and its perceptrons, which are always updated together."""
        return {"G": self.adam(self.G, self.F), "D": self.adam(self.D)}

    def training_step(self, batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """D, then G and F (Eq. 1 and 5)."""
        x, y, config = batch.he, batch.ihc, self.config
        flipped = config.flip_equivariance and bool(torch.rand(()) < 0.5)
        inputs = torch.cat([x, y]) if config.identity else x
        outputs = self.G(inputs.flip(3) if flipped else inputs)
        fake = outputs[: len(x)]
        judged = self.discriminator_losses(fake.detach(), batch)
        step.update("D", torch.stack(list(judged.values())).sum())
        with step.frozen(self.D):
            losses = self.adversarial_losses(fake, batch)
            features = self.features(fake, flipped)
            nce = self.contrast(x, features)
            if config.identity:
                nce = (nce + self.contrast(y, self.features(outputs[len(x) :], flipped))) / 2
            losses |= {"NCE": config.nce_weight * nce}
            losses |= self.paired_losses(fake.flip(3) if flipped else fake, features, batch, step)
            step.update("G", torch.stack(list(losses.values())).sum())
        return {**judged, **losses}

    def discriminator_losses(self, fake: Tensor, batch: PairBatch) -> dict[str, Tensor]:
        """What D learns from."""
        return {"D": self.config.gan.discriminator(self.D(fake), self.D(batch.ihc))}

    def adversarial_losses(self, fake: Tensor, batch: PairBatch) -> dict[str, Tensor]:  # noqa: ARG002 (for lifangda)
        """What G learns from D."""
        return {"G_GAN": self.config.gan(self.D(fake), real=True)}

    def paired_losses(
        self,
        fake: Tensor,  # noqa: ARG002 (for methods that use pairs)
        features: list[Tensor],  # noqa: ARG002
        batch: PairBatch,  # noqa: ARG002
        step: Step,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """What G learns from the real IHC of the same place: nothing in CUT.

        Args:
            fake: G(x), the right way round.
            features: of it, as ``features`` gives them.
            batch: the pairs.
            step: where the training stands.
        """
        return {}

    def features(self, image: Tensor, flipped: bool = False) -> list[Tensor]:
        """What leaves the compared layers of the generator's encoder for ``image`` [N, 3, H, W], mirrored back."""
        found: list[Tensor] = self.G.encode(image, self.config.nce_layers)
        return [feature.flip(3) for feature in found] if flipped else found

    def contrast(self, source: Tensor, features: list[Tensor]) -> Tensor:
        """The PatchNCE loss of an output's ``features`` against ``source`` [N, 3, H, W], mean over layers (Eq. 3)."""
        losses = [self.nce(query, key, len(source)).mean() for query, key in self.embedded(source, features)]
        return torch.stack(losses).mean()

    def nce(self, query: Tensor, key: Tensor, images: int) -> Tensor:
        """The InfoNCE of each location, [n] (Eq. 2)."""
        return patch_nce(query, key, images, self.config.temperature, self.config.across_images)

    def embedded(self, source: Tensor, features: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Of each layer the embedded patches of an output and, at the same random places, of ``source``."""
        places = random_places(features, self.config.patches)
        with torch.no_grad():
            keys = self.F(self.features(source), places)
        return list(zip(self.F(features, places), keys, strict=True))

    def stain(self, he: Tensor) -> Tensor:
        """G(x)."""
        out: Tensor = self.G(he)
        return out

    def reference_keys(self) -> dict[str, str]:
        """The released names of the perceptrons."""
        return {key: PatchSampler.reference_key(key) for key in self.state_dict()}
