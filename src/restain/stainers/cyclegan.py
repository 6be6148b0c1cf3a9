"""CycleGAN: two generators that undo each other, trained on unpaired H&E and IHC.

Paper: Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
ICCV 2017; a benchmark of the BCI and TDKstain papers (512 px crops on BCI).
Authors' code: BSD (junyanz/pytorch-CycleGAN-and-pix2pix). None of it is here.
Differs: each batch draws its H&E and its IHC independently of each other also from paired datasets. On several devices
each has its own pool, of which a checkpoint holds the first one's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from restain.core.errors import RestainError
from restain.data import PairBatch
from restain.nn.discriminators import PatchDiscriminator
from restain.nn.generators import ResnetGenerator
from restain.nn.init import init_normal
from restain.nn.norms import Norm
from restain.stainers.base import GanConfig, Stainer, Step, register


@dataclass(frozen=True)
class Config(GanConfig):
    """Settings of CycleGAN.

    Attributes:
        generator_blocks: residual blocks of both generators, 9 (section 4, for images of 256 px and more).
        norm: instance (section 4) or batch.
        cycle_he_weight: lambda of H&E to IHC and back, 10 (section 4).
        cycle_ihc_weight: lambda of IHC to H&E and back, 10.
        identity_weight: of the identity loss, as a share of the cycle weights, 0.5 (section 5.2); 0 leaves it out.
        pool: fakes that the discriminators remember, 50 (section 4).
    """

    generator_blocks: int = 9
    norm: Norm = Norm.instance
    cycle_he_weight: float = 10.0
    cycle_ihc_weight: float = 10.0
    identity_weight: float = 0.5
    pool: int = 50

    def __post_init__(self) -> None:
        """Refuse what cannot be built or trained."""
        super().__post_init__()
        if not 0 <= self.pool <= 100_000:
            raise RestainError(f"pool is {self.pool}; it is 0 to 100,000.")


class ImagePool:
    """Remembers fakes, so that a discriminator also sees older ones (section 4; Shrivastava 2017).

    Args:
        size: how many; 0 gives back what comes in.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.images: list[Tensor] = []

    def __call__(self, fakes: Tensor) -> Tensor:
        """For each fake itself, or (in one of two cases, once the pool is full) an older one that it replaces."""
        shown = []
        for fake in fakes.detach().contiguous():  # in the order of memory that a checkpoint gives back
            if len(self.images) < self._size:
                self.images.append(fake)
            elif self._size and torch.rand(()) < 0.5:
                place = int(torch.randint(self._size, ()))
                self.images[place], fake = fake, self.images[place].to(fake)
            shown.append(fake)
        return torch.stack(shown)


@register("cyclegan", paper="Zhu et al., ICCV 2017", code_licence="BSD")
class CycleGAN(Stainer):
    """G_A: H&E to IHC, G_B: back; D_A judges IHC, D_B judges H&E (the released names)."""

    needs = frozenset({"unpaired"})
    stains = "G_A"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config

        def generator() -> ResnetGenerator:
            return ResnetGenerator(width=config.generator_width, blocks=config.generator_blocks, norm=config.norm)

        def discriminator() -> PatchDiscriminator:
            return PatchDiscriminator(3, config.discriminator_width, config.discriminator_layers, config.norm)

        self.G_A, self.G_B = generator(), generator()
        self.D_A, self.D_B = discriminator(), discriminator()
        self.fit_sides(self.G_A, self.D_A)
        self.pools = {"ihc": ImagePool(config.pool), "he": ImagePool(config.pool)}
        for network in (self.G_A, self.G_B, self.D_A, self.D_B):
            init_normal(network)

    def optimizers(self) -> dict[str, Optimizer]:
        """One Adam for both generators and one for both discriminators."""
        return {"G": self.adam(self.G_A, self.G_B), "D": self.adam(self.D_A, self.D_B)}

    def training_step(self, batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """Generators, then discriminators on pooled fakes (Eq. 1 to 3; section 4)."""
        he, ihc, config = batch.he, batch.ihc, self.config
        fake_ihc, fake_he = self.G_A(he), self.G_B(ihc)
        with step.frozen(self.D_A, self.D_B):
            losses = {
                "G_A": config.gan(self.D_A(fake_ihc), real=True),
                "G_B": config.gan(self.D_B(fake_he), real=True),
                "cycle_A": config.cycle_he_weight * F.l1_loss(self.G_B(fake_ihc), he),
                "cycle_B": config.cycle_ihc_weight * F.l1_loss(self.G_A(fake_he), ihc),
            }
            if config.identity_weight:
                share = config.identity_weight
                losses["idt_A"] = share * config.cycle_ihc_weight * F.l1_loss(self.G_A(ihc), ihc)
                losses["idt_B"] = share * config.cycle_he_weight * F.l1_loss(self.G_B(he), he)
            step.update("G", torch.stack(list(losses.values())).sum())
        judged = {
            "D_A": config.gan.discriminator(self.D_A(self.pools["ihc"](fake_ihc)), self.D_A(ihc)),
            "D_B": config.gan.discriminator(self.D_B(self.pools["he"](fake_he)), self.D_B(he)),
        }
        step.update("D", torch.stack(list(judged.values())).sum())
        return {**judged, **losses}

    def stain(self, he: Tensor) -> Tensor:
        """G_A(x)."""
        out: Tensor = self.G_A(he)
        return out

    def extra_state(self) -> dict[str, Tensor]:
        """The pools."""
        return {f"{name}.{i}": image for name, pool in self.pools.items() for i, image in enumerate(pool.images)}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """Fill the pools again."""
        for name, pool in self.pools.items():
            pool.images = [state[f"{name}.{i}"] for i in range(len(state)) if f"{name}.{i}" in state]
