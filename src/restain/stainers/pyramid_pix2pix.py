"""Pyramid pix2pix: pix2pix whose L1 also acts at coarser scales, where neighbouring sections agree.

Paper: Liu, Zhu, Xu, Jia, Shi, Jin, "BCI: Breast Cancer Immunohistochemical Image Generation through Pyramid
Pix2pix", CVPR Workshops 2022 (Eq. 1 to 5, section 5.1, Table 3).
Authors' code: BSD-3-Clause (bupt-ai-cz/BCI). None of it is here.
Differs: the released code picks scales by substrings of a pattern and drops those after a gap without a word; here
``scales`` is a count. Its default is the paper's best on BCI, "+S1" (21.160 dB, SSIM 0.477); the released script
uses all three. Training length: 50 + 50 epochs (paper), 100 + 100 in the released script.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from restain.core.errors import RestainError
from restain.losses.pyramid import pyramid_l1
from restain.stainers import pix2pix
from restain.stainers.base import register


@dataclass(frozen=True)
class Config(pix2pix.Config):
    """Settings of pyramid pix2pix: those of pix2pix and the pyramid's.

    Attributes:
        scales: coarser scales S1, S2, ... that enter the loss, 0 to 3 (Table 3); 0 is pix2pix with this L1 weight.
        l1_weight: lambda_1 of Eq. 5, 25 (released code).
        scale_weight: lambda_i of Eq. 2, the same for all scales, 25 (released code).
    """

    scales: int = 1
    l1_weight: float = 25.0
    scale_weight: float = 25.0

    def __post_init__(self) -> None:
        """Refuse a number of scales that the method does not have."""
        super().__post_init__()
        if not 0 <= self.scales <= 3:
            raise RestainError(f"pyramid_pix2pix: scales is {self.scales}; the paper's pyramid has 0 to 3.")


@register("pyramid_pix2pix", paper="Liu et al., CVPR Workshops 2022", code_licence="BSD-3-Clause")
class PyramidPix2Pix(pix2pix.Pix2Pix):
    """pix2pix with L_multi-scale (Eq. 2) beside lambda_1 L_1."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config

    def content_losses(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """lambda_1 L_1 + sum_i lambda_i S_i (Eq. 5), a term a scale."""
        weights = [self.config.l1_weight] + [self.config.scale_weight] * self.config.scales
        return {f"S{i}" if i else "L1": term for i, term in enumerate(pyramid_l1(fake, real, weights))}
