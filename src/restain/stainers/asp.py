"""ASP: CUT with a supervised PatchNCE that trusts the locations where H&E and IHC agree, and a Gaussian pyramid.

Paper: Li, Hu, Chen, Kak, "Adaptive Supervised PatchNCE Loss for Learning H&E-to-IHC Stain Translation with
Inconsistent Groundtruth Image Pairs", MICCAI 2023.
Authors' code: BSD-2-Clause (lifangda01/AdaptiveSupervisedPatchNCE; its perceptual part is NVIDIA's,
non-commercial, and not used). None of it is here.
Differs: the authors' test script keeps train mode, a power iteration of the spectral norm an image; here eval mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from restain.data import PairBatch
from restain.losses.adaptive_nce import Schedule, WeightFunction, adaptive_weights
from restain.losses.gaussian_pyramid import gaussian_pyramid_l1
from restain.nn.spectral import normalise_spectra, reference_spectral
from restain.stainers import cut
from restain.stainers.base import Step, register


@dataclass(frozen=True)
class Config(cut.Config):
    """Settings of ASP: those of CUT and its own.

    Attributes:
        generator_blocks: residual blocks, 6 (released launcher).
        discriminator_width: channels of the discriminator's first convolution, 32 (released launcher).
        discriminator_layers: 5 (released launcher).
        spectral_norm: of both networks (released launcher).
        nce_weight: of PatchNCE against the H&E, 10 (section 2.3).
        asp_weight: of the adaptive supervised PatchNCE, 10 (section 2.3).
        pyramid_weight: of the Gaussian pyramid, 10 (section 2.3).
        schedule: p(t); ``lambda`` is the paper's best with ``linear``.
        weight_function: f of the similarity.
    """

    generator_blocks: int = 6
    discriminator_width: int = 32
    discriminator_layers: int = 5
    spectral_norm: bool = True
    nce_weight: float = 10.0
    asp_weight: float = 10.0
    pyramid_weight: float = 10.0
    schedule: Schedule = Schedule.lambda_
    weight_function: WeightFunction = WeightFunction.linear


@register("asp", paper="Li et al., MICCAI 2023", code_licence="BSD-2-Clause")
class Asp(cut.Cut):
    """CUT whose output is also held to the real IHC, where the two agree."""

    needs = frozenset()

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config
        self.smallest = max(self.smallest, 48)  # the coarsest blurred level of the pyramid must have 3 px
        if config.spectral_norm:
            normalise_spectra(self.G)
            normalise_spectra(self.D)

    def paired_losses(self, fake: Tensor, features: list[Tensor], batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """The adaptive supervised PatchNCE (Eq. 3 to 6) and the Gaussian pyramid (section 2.3)."""
        t, constant = (step.epoch - 1) / step.epochs, 1 - step.epochs_decay / step.epochs
        supervised = [
            (self.agreement(query, key, t, constant) * self.nce(query, key, len(fake))).mean()
            for query, key in self.embedded(batch.ihc, features)
        ]
        return {
            "ASP": self.config.asp_weight * torch.stack(supervised).mean(),
            "pyramid": self.config.pyramid_weight * gaussian_pyramid_l1(fake, batch.ihc),
        }

    def agreement(self, query: Tensor, key: Tensor, t: float, constant: float) -> Tensor:
        """What each location counts (Eq. 4 to 6), [n]."""
        return adaptive_weights(query, key, self.config.schedule, self.config.weight_function, t, constant)

    def reference_keys(self) -> dict[str, str]:
        """The released names: ``enc`` and ``final_conv`` in the discriminator, spectral norm of the older kind."""
        last = f"D.model.{len(self.D.model) - 1}."
        return {
            ours: reference_spectral(theirs.replace(last, "D.final_conv.").replace("D.model.", "D.enc."))
            for ours, theirs in super().reference_keys().items()
        }
