"""What can be asked of the generator, and its version."""

from __future__ import annotations

from dataclasses import dataclass

from restain.core.errors import RestainError

GENERATOR_VERSION = "1.0"
"""Raised whenever the pixels or the truth of any seed change; CHANGELOG says what moved."""

_LEAST_SIDE = 200.0


@dataclass(frozen=True)
class SynthOptions:
    """How a cohort of synthetic patients is made. Lengths in um, angles in degrees.

    Attributes:
        size: side of each slide at level 0, in px.
        mpp: um per px of both slides.
        seed: seed of the cohort; patient i depends on (seed, i) and nothing else.
        same_section: H&E and IHC show the very same section (restained), not neighbours.
        no_deformation: the H&E lies exactly on the IHC.
        section_thickness: thickness of a section.
        section_gap: distance between the lower faces of the two sections.
        rotation: largest rotation of the H&E to either side.
        mirrored: share of patients whose H&E section lies upside down on its slide.
        shift: largest shift of the H&E in each direction.
        elastic: root mean square of the elastic displacement.
        levels: how many patients of level 0, 1+, 2+ and 3+ there are in each run of as many patients.
        labs: number of laboratories (stains and scanners) the patients come from.
        necrosis: share of patients with necrosis in large nests.
        folds: share of slides with a tissue fold.
        pen: share of H&E slides with a pen mark.
        bubbles: share of slides with air bubbles.
        out_of_focus: share of slides with a region out of focus.
        dirt: specks of dirt per mm2.
    """

    size: int = 2048
    mpp: float = 0.5
    seed: int = 0
    same_section: bool = False
    no_deformation: bool = False
    section_thickness: float = 4.0
    section_gap: float = 5.0
    rotation: float = 8.0
    mirrored: float = 0.0
    shift: float = 40.0
    elastic: float = 6.0
    levels: tuple[int, int, int, int] = (1, 1, 1, 1)
    labs: int = 6
    necrosis: float = 0.15
    folds: float = 0.1
    pen: float = 0.1
    bubbles: float = 0.08
    out_of_focus: float = 0.15
    dirt: float = 1.5

    def __post_init__(self) -> None:
        """Refuse what cannot be made.

        Raises:
            RestainError: a value out of range, named with the range.
        """
        ranges = {
            "size": (256, 200_000),
            "mpp": (0.1, 2.0),
            "section_thickness": (1.0, 10.0),
            "section_gap": (0.0, 40.0),
            "rotation": (0.0, 180.0),
            "mirrored": (0.0, 1.0),
            "shift": (0.0, 1e5),
            "elastic": (0.0, 60.0),
            "labs": (1, 1000),
            "necrosis": (0.0, 1.0),
            "folds": (0.0, 1.0),
            "pen": (0.0, 1.0),
            "bubbles": (0.0, 1.0),
            "out_of_focus": (0.0, 1.0),
            "dirt": (0.0, 100.0),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise RestainError(f"synthetic patients: {name} must lie between {low} and {high}, got {value}.")
        if min(self.levels) < 0 or not 1 <= sum(self.levels) <= 1000:
            raise RestainError(
                f"synthetic patients: levels must be four numbers from 0 on, not all 0, got {self.levels}."
            )

        if self.side < _LEAST_SIDE:
            raise RestainError(
                f"synthetic patients: size times mpp must be at least {_LEAST_SIDE:g} um for a tumour to fit, "
                f"got {self.size} x {self.mpp} = {self.side:g} um."
            )

    @property
    def side(self) -> float:
        """Side of a slide in um."""
        return self.size * self.mpp
