"""FastCUT: CUT without identity term, with a heavier contrast and mirrored batches; half of the work.

Paper: Park, Efros, Zhang, Zhu, "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020, section 4.
Authors' code: BSD (taesungp/contrastive-unpaired-translation). None of it is here.
"""

from __future__ import annotations

from dataclasses import dataclass

from restain.stainers import cut
from restain.stainers.base import register


@dataclass(frozen=True)
class Config(cut.Config):
    """Settings of FastCUT: those of CUT with other values.

    Attributes:
        nce_weight: lambda_X, 10.
        identity: off.
        flip_equivariance: on (released code).
    """

    nce_weight: float = 10.0
    identity: bool = False
    flip_equivariance: bool = True


@register("fastcut", paper="Park et al., ECCV 2020", code_licence="BSD")
class FastCut(cut.Cut):
    """CUT in its fast settings."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config: Config
