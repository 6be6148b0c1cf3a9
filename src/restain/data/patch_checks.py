"""Why a patch is dropped: pen, folds, little tissue, filled borders, no tumour, out of focus, badly aligned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.data.focus import COARSEST_MPP, focus_reference, sharpness
from restain.data.pairs_config import PairsConfig
from restain.data.quality_slide import slide_quality
from restain.registration.alignment import CONTEXT_UM, local_alignment
from restain.slides import CoarseMask, Slide, TissueMask, tissue_and_ink

Stain = Literal["he", "ihc"]
Picture = NDArray[np.uint8]

NAMES: dict[Stain, str] = {"he": "H&E", "ihc": "IHC"}

_ALIGNMENT_MPP = 2.0
"""um/px at which ``local_alignment`` looks; reading finer ones costs time and changes nothing."""

_SAMPLE = 48
"""Patches of a slide that tell how sharp it is."""


@dataclass(frozen=True)
class Sheet:
    """A slide that is being cut, and what is known of it as a whole."""

    slide: Slide
    tissue: TissueMask
    ink: CoarseMask
    artefacts: Mapping[str, CoarseMask]

    @classmethod
    def of(cls, slide: Slide, artefacts: bool = True) -> Sheet:
        """Look for tissue and ink on an open slide, and for folds and bubbles if asked to."""
        tissue, ink = tissue_and_ink(slide)
        found = slide_quality(slide, tissue, focus=False).masks if artefacts else {}
        return cls(slide, tissue, ink, {_ARTEFACTS[kind]: found[kind] for kind in _ARTEFACTS if kind in found})


_ARTEFACTS = {"fold": "fold", "bubble": "air bubble"}
"""What drops a patch beside ink (which has a mask of its own, with a wider margin), as the reason calls it."""


@dataclass(frozen=True)
class PatchChecks:
    """Judges the patches of one slide or of two that lie on each other.

    A patch is a square of ``config.size`` px at ``mpp``; its place is (x, y) in level-0 px.

    Attributes:
        sheets: what is cut, by stain: both stains, or one of them.
        config: the thresholds.
        mpp: um/px of the patches.
        filled: the mask of H&E that registration filled in; None where it was not registered.
        tumour: where the tumour is; None where that is not known.
    """

    sheets: Mapping[Stain, Sheet]
    config: PairsConfig
    mpp: float
    filled: Slide | None = None
    tumour: CoarseMask | None = None

    def coarse(self, places: NDArray[np.int64]) -> list[dict[str, Any]]:
        """What coarse masks say of patches at ``places`` [n, 2].

        The shares ``tissue``, ``pen``, ``artefact``, ``tumour``, and ``reason``.

        Returns:
            One entry a patch, the keys as in ``pairs.csv``; ``reason`` is empty where nothing is wrong so far.
        """
        side = self.config.size * self.mpp / self._mpp()
        boxes = places[:, 0], places[:, 1], side, side
        tissue = {stain: sheet.tissue.fraction(*boxes) for stain, sheet in self.sheets.items()}
        pen = {stain: sheet.ink.fraction(*boxes) for stain, sheet in self.sheets.items()}
        spoilt = {
            f"{kind} on {NAMES[stain]}": mask.fraction(*boxes)
            for stain, sheet in self.sheets.items()
            for kind, mask in sheet.artefacts.items()
        }
        tumour = None if self.tumour is None else self.tumour.fraction(*boxes)
        entries = []
        for index in range(len(places)):
            bare = min(tissue, key=lambda stain: tissue[stain][index])
            inked = max(pen, key=lambda stain: pen[stain][index])
            worst = max(spoilt, key=lambda what: spoilt[what][index], default="")
            entry = {
                "tissue": round(float(tissue[bare][index]), 4),
                "pen": round(float(pen[inked][index]), 4),
                "artefact": round(float(spoilt[worst][index]), 4) if spoilt else None,
                "tumour": None if tumour is None else round(float(tumour[index]), 4),
            }
            entries.append({**entry, "reason": self._coarse_reason(entry, NAMES[bare], NAMES[inked], worst)})
        return entries

    def _coarse_reason(self, entry: Mapping[str, Any], bare: str, inked: str, worst: str) -> str:
        config = self.config
        if entry["pen"] > config.max_pen:
            return f"pen on {inked}"
        if entry["tissue"] < config.min_tissue or entry["tissue"] == 0:
            return f"little tissue in {bare}"
        if entry["artefact"] is not None and entry["artefact"] > config.max_artefact:
            return worst
        if entry["tumour"] is not None and entry["tumour"] < config.min_tumour:
            return "without tumour"
        return ""

    def filled_share(self, x: int, y: int) -> float | None:
        """The share of a patch that registration filled in; None where nothing was registered."""
        if self.filled is None:
            return None
        return float(self._filled(x, y, self.config.size * self.mpp / self._mpp()).mean())

    def references(self, places: NDArray[np.int64]) -> dict[Stain, float]:
        """How sharp each slide is, from some of its patches at ``places`` [n, 2]; empty: focus is not looked at."""
        if self.config.min_focus == 0 or self.mpp > COARSEST_MPP:
            return {}
        chosen = places[np.unique(np.linspace(0, len(places) - 1, _SAMPLE).round().astype(np.int64))]
        return {
            stain: focus_reference([sharpness(self.read(stain, int(x), int(y)), self.mpp) for x, y in chosen])
            for stain in self.sheets
        }

    def read(self, stain: Stain, x: int, y: int) -> Picture:
        """The patch, uint8 [size, size, 3]."""
        return self.sheets[stain].slide.read(x, y, self.config.size, self.config.size, self.mpp)

    def focus(self, patches: Mapping[Stain, Picture], references: Mapping[Stain, float]) -> dict[str, Any]:
        """``focus_he`` and ``focus_ihc`` of a patch, and ``reason`` where one is out of focus."""
        values = {
            stain: round(sharpness(patch, self.mpp) / references[stain], 3)
            for stain, patch in patches.items()
            if stain in references
        }
        scores: dict[str, Any] = {f"focus_{stain}": values.get(stain) for stain in NAMES}
        blurred = [NAMES[stain] for stain, value in values.items() if value < self.config.min_focus]
        return {**scores, "reason": f"out of focus in {' and '.join(blurred)}" if blurred else ""}

    def surroundings(self, x: int, y: int) -> tuple[Picture, Picture, NDArray[np.bool_]] | None:
        """What ``alignment`` wants of a patch: H&E, IHC and where the H&E is real, with what lies around the patch.

        None where alignment is not looked at.
        """
        if self.config.min_alignment == 0 or len(self.sheets) < 2:
            return None
        level0 = self._mpp()
        edge = CONTEXT_UM / level0
        side = self.config.size * self.mpp / level0
        left, top = max(0.0, x - edge), max(0.0, y - edge)
        right, bottom = (min(start + side + edge, end) for start, end in zip((x, y), self._size(), strict=True))
        mpp = max(self.mpp, _ALIGNMENT_MPP)
        width, height = (max(1, int((high - low) * level0 / mpp)) for low, high in ((left, right), (top, bottom)))
        he, ihc = (self.sheets[stain].slide.read(left, top, width, height, mpp) for stain in NAMES)
        real = np.ones((height, width), np.bool_)
        if self.filled is not None:
            filled = self._filled(left, top, right - left, bottom - top).astype(np.uint8)
            real = cv2.resize(filled, (width, height), interpolation=cv2.INTER_NEAREST) == 0
        return he, ihc, real

    def alignment(self, around: tuple[Picture, Picture, NDArray[np.bool_]] | None) -> dict[str, Any]:
        """``shift_um`` and ``alignment`` of a patch, and ``reason`` where H&E and IHC do not lie on each other."""
        if around is None:
            return {"shift_um": None, "alignment": None, "reason": ""}
        he, ihc, real = around
        he_white, ihc_white = (self.sheets[stain].tissue.white for stain in NAMES)
        found = local_alignment(he, ihc, max(self.mpp, _ALIGNMENT_MPP), he_white, ihc_white, real)
        shift = None if found.shift_um is None else round(found.shift_um, 2)
        reason = ""
        if found.score < self.config.min_alignment:
            told = "too plain to tell" if shift is None else f"shift {shift:.0f} um, probability {found.score:.2f}"
            reason = f"badly aligned ({told})"
        return {"shift_um": shift, "alignment": round(found.score, 4), "reason": reason}

    def _mpp(self) -> float:
        """um/px of level 0."""
        return next(iter(self.sheets.values())).slide.require_mpp()

    def _size(self) -> tuple[int, int]:
        return next(iter(self.sheets.values())).slide.size

    def _filled(self, x: float, y: float, width: float, height: float | None = None) -> NDArray[np.bool_]:
        """The pixels of the mask of filled places that a box in level-0 px touches."""
        assert self.filled is not None
        factor = self.filled.require_mpp() / self._mpp()
        ends = (x + width, y + (width if height is None else height))
        left, top = int(x / factor), int(y / factor)
        right, bottom = (min(math.ceil(end / factor), limit) for end, limit in zip(ends, self.filled.size, strict=True))
        mask = self.filled.read(left, top, max(1, right - left), max(1, bottom - top))[..., 0]
        return np.asarray(mask > 127)
