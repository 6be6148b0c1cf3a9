"""How a patch-pair dataset is cut, and which patches are dropped."""

from __future__ import annotations

from dataclasses import dataclass, field

from restain.core.errors import RestainError
from restain.data.layouts import SPLITS
from restain.registration.options import RegisterOptions


@dataclass(frozen=True)
class PairsConfig:
    """How a dataset is cut.

    Shares are 0 to 1. A ``min_`` of 0 or a ``max_`` of 1 turns that filter off.

    Attributes:
        mpp: um/px of the patches; null: that of the coarser slide of each row, if it is the same for all rows.
        size: side of a patch in px at ``mpp``.
        stride: px at ``mpp`` from one patch to the next; null: ``size``, so that they touch.
        aligned: the slides lie on each other pixel by pixel already: nothing is registered.
        unpaired: each slide is cut by itself, not registered, into trainA (H&E), trainB (IHC), testA and so on, for
            methods that train on unpaired images. Only the filters of single slides are at work; tumour polygons, which
            are the IHC's, drop IHC patches only.
        min_tissue: share of a patch that must be tissue, in the H&E and in the IHC.
        max_pen: share of a patch that may be pen, with 50 um around it, in either.
        max_artefact: share of a patch that may be fold, or rim of an air bubble, in either.
        max_filled: share of a patch that may have no H&E pixel, so that registration filled it in.
        min_tumour: share of a patch that must be tumour; of no effect where the cohort does not say where tumour is.
        min_focus: sharpness that a patch must have relative to its slide's sharp patches, in both stains. Judged on
            synthetic slides with places out of focus and on real ones blurred on purpose: 0.6 drops all that is far
            out of focus (1.9 um Gaussian) and of what is sharp under 1 % (synthetic) and 2 % (real).
        min_alignment: probability that H&E and IHC are less than a cell apart. On synthetic neighbouring sections
            (benchmarks/pair_alignment.py) 0.7 keeps every patch that is displaced by less than 10 um, none that is by
            15 to 60 um, and under 10 % of those that show another place. Patches too plain to tell have 0.5.
        registration: how the slides are registered.
        fractions: share of the patients by split (train, val, test); they add up to 1.
        seed: of the split.
    """

    mpp: float | None = None
    size: int = 256
    stride: int | None = None
    aligned: bool = False
    unpaired: bool = False
    min_tissue: float = 0.5
    max_pen: float = 0.02
    max_artefact: float = 0.15
    max_filled: float = 0.01
    min_tumour: float = 0.1
    min_focus: float = 0.6
    min_alignment: float = 0.7
    registration: RegisterOptions = field(default_factory=RegisterOptions)
    fractions: dict[str, float] = field(default_factory=lambda: {"train": 0.7, "val": 0.1, "test": 0.2})
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be cut.

        Raises:
            RestainError: what is wrong, with what is allowed.
        """
        wrong = [split for split in self.fractions if split not in SPLITS]
        if wrong:
            raise RestainError(f"fractions: there is no split {', '.join(wrong)}; use {', '.join(SPLITS)}.")
        if not (
            (self.mpp is None or 0 < self.mpp < float("inf"))
            and self.size >= 1
            and (self.stride is None or self.stride >= 1)
        ):
            raise RestainError(
                f"patches of {self.size} px at {self.mpp} um/px with stride {self.stride}: all must be above 0."
            )
        for name in ("min_tissue", "max_pen", "max_artefact", "max_filled", "min_tumour", "min_focus", "min_alignment"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise RestainError(f"{name} is a share from 0 to 1, not {value}.")
        if self.seed < 0:
            raise RestainError(f"seed is a whole number from 0, not {self.seed}.")
        if self.aligned and self.unpaired:
            raise RestainError("aligned and unpaired: choose one. Unpaired patches need no alignment.")
