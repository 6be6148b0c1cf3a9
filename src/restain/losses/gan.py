"""Adversarial losses on a discriminator's raw outputs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor


class GANLoss(StrEnum):
    """How a discriminator's raw outputs are judged; calling it gives the loss against one target.

    ``vanilla``: binary cross entropy with logits (Goodfellow 2014; Isola 2017, Eq. 1). ``lsgan``: mean squared error
    (Mao 2017). ``wgangp``: the mean itself (Arjovsky 2017), the gradient penalty being a loss of its own.
    """

    vanilla = "vanilla"
    lsgan = "lsgan"
    wgangp = "wgangp"

    def __call__(self, prediction: Tensor | Sequence[Tensor], real: bool, noise: float = 0.0) -> Tensor:
        """The mean loss of ``prediction`` (any shape, raw outputs) against "all real" or "all fake" (0-d).

        The losses of several scales are summed, as pix2pixHD and TDKstain do.

        Args:
            prediction: raw outputs, of one scale or several.
            real: the target: 1, or 0.
            noise: each output's target is moved towards the other by a number drawn from U(0, noise).
        """
        if not isinstance(prediction, Tensor):
            return torch.stack([self(scale, real, noise) for scale in prediction]).sum()
        target = torch.full_like(prediction, float(real))
        if noise:
            target = (target - noise * torch.rand_like(target)).abs()
        if self is GANLoss.vanilla:
            return F.binary_cross_entropy_with_logits(prediction, target)
        if self is GANLoss.lsgan:
            return F.mse_loss(prediction, target)
        return -prediction.mean() if real else prediction.mean()

    def discriminator(self, fake: Tensor | Sequence[Tensor], real: Tensor | Sequence[Tensor]) -> Tensor:
        """The discriminator's loss, (fake + real) / 2 as in the released pix2pix (0-d)."""
        return 0.5 * (self(fake, real=False) + self(real, real=True))
