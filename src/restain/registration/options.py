"""How slides are registered, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json
from restain.registration.projective import Limits

CONFIDENCE = 0.25
"""Least confidence of the automatic step. Of 23 pairs of neighbouring sections (3 real, 20 synthetic) all had .54 or
more, of 29 pairs of different tissue none more than .10."""


@dataclass(frozen=True)
class RegisterOptions:
    """How slides are registered.

    Attributes:
        blocks: blocks along each side of the slide for elastix (4: 16 blocks, as in the BCI paper).
        grid: final spacing of the B-spline's control points, um.
        working_mpp: um/px that elastix works at (coarser on the whole slide); never finer than the slides;
            coarser where a block would have more than 4,096 px.
        confidence: least confidence (0 to 1) of the automatic projective step.
        elastic: whether to do the elastic steps after the projective one.
        same_stain: register two slides of one stain too, which is otherwise taken for a mistake.
        limits: what the projective step may do.
        jpeg_quality: of the registered slide, 1 to 100.
    """

    blocks: int = 4
    grid: float = 225.0
    working_mpp: float = 2.0
    confidence: float = CONFIDENCE
    elastic: bool = True
    same_stain: bool = False
    limits: Limits = field(default_factory=Limits)
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        if not 1 <= self.blocks <= 64:
            raise RestainError(f"blocks must lie between 1 and 64, not {self.blocks}.")
        if not (50 <= self.grid < float("inf") and 0 < self.working_mpp < float("inf")):
            raise RestainError(
                f"grid must be at least 50 um and working_mpp above 0, not {self.grid}, {self.working_mpp}."
            )
        if not (0 <= self.confidence <= 1 and 1 <= self.jpeg_quality <= 100):
            raise RestainError(
                f"confidence is 0 to 1 and jpeg_quality 1 to 100, not {self.confidence} and {self.jpeg_quality}."
            )


@dataclass(frozen=True)
class Registration:
    """What became of a slide pair.

    Attributes:
        folder: where everything lies.
        quality: the document ``quality.json``.
    """

    folder: Path
    quality: dict[str, Any]

    @staticmethod
    def load(folder: Path) -> Registration:
        """The registration in a folder.

        Raises:
            ItemError: there is none.
        """
        path = folder / "quality.json"
        quality = read_json(path)
        if not isinstance(quality, dict) or not {"status", "reason", "stage"} <= quality.keys():
            raise ItemError(f"{path}: not written by restain register. Choose another folder.")
        return Registration(folder, quality)

    @property
    def status(self) -> str:
        """``ok`` or ``rejected``."""
        return str(self.quality["status"])

    @property
    def reason(self) -> str:
        """Why it was rejected, or why a stage was not kept; may be empty."""
        return str(self.quality["reason"])

    @property
    def he_registered(self) -> Path:
        """The H&E on the IHC's grid."""
        return self.folder / "he_registered.ome.tif"

    @property
    def filled(self) -> Path:
        """The mask of what the H&E does not have."""
        return self.folder / "filled.ome.tif"

    @property
    def transform(self) -> Path:
        """The transform's file."""
        return self.folder / "transform.json"

    @property
    def exit_code(self) -> int:
        """0, or 1 where it was rejected."""
        return 0 if self.status == "ok" else 1
