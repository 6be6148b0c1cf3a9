"""How well an H&E lies on its IHC: figures of pictures of any size; ``alignment`` judges single patches."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from restain.registration.channels import NUCLEI_MPP, darkness, nuclei_density, smooth
from restain.stains import haematoxylin

_LEVELS = 16
"""Classes of equal frequency that darkness is sorted into for the mutual information; at most ln(16) = 2.77 nats."""

_BLUR = 4.0
"""um: neighbouring sections do not share finer detail than about this."""

_LEAST = 400
"""Pixels that a figure must rest on."""


@dataclass(frozen=True)
class Quality:
    """How well an H&E lies on its IHC; what cannot be told is None.

    Attributes:
        mutual_information: of darkness (mean optical density) in both stains, nats, 0 to 2.77.
        haematoxylin_ncc: correlation of haematoxylin, -1 to 1.
        nuclei_density_ncc: correlation of the density of nuclei, -1 to 1; None too where nuclei cannot be seen.
        tissue_dice: Dice coefficient of both tissue masks, 0 to 1.
    """

    mutual_information: float | None
    haematoxylin_ncc: float | None
    nuclei_density_ncc: float | None
    tissue_dice: float | None

    def to_json(self) -> dict[str, float | None]:
        """The figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class Folding:
    """How an elastic map stretches and folds: the determinant of its Jacobian, 1 where areas stay, negative in folds.

    Attributes:
        share: of the corners of the grid's cells at or below 0, 0 to 1.
        least: smallest determinant.
        most: largest determinant.
        p1: 1st percentile.
        p99: 99th percentile.
    """

    share: float
    least: float
    most: float
    p1: float
    p99: float

    def to_json(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class _Planes:
    """What is compared, at the working um/px: [H, W] each, ``both`` where both have tissue and real pixels."""

    tissue: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    both: NDArray[np.bool_]
    darkness: tuple[NDArray[np.float32], NDArray[np.float32]]
    haematoxylin: tuple[NDArray[np.float32], NDArray[np.float32]]
    nuclei: tuple[NDArray[np.float32], NDArray[np.float32]] | None


def measure(
    he_rgb: NDArray[np.uint8],
    ihc_rgb: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    mpp: float,
    he_white: ArrayLike,
    ihc_white: ArrayLike,
    he_tissue: NDArray[np.bool_],
    ihc_tissue: NDArray[np.bool_],
) -> Quality:
    """Compare an H&E with the IHC that it should lie on, pixel by pixel where both have tissue.

    On synthetic neighbouring sections of 1 mm at 1 um/px, displaced by 0, 5, 15 and 30 um, the medians of eight are:
    mutual information .33, .26, .08, .02; haematoxylin .71, .66, .46, .29; Dice .986, .983, .969, .958.

    Args:
        he_rgb: uint8 [H, W, 3], the H&E warped onto the IHC's grid.
        ihc_rgb: uint8 [H, W, 3].
        valid: bool [H, W], where the H&E has pixels of its own.
        mpp: um/px of the pictures.
        he_white: the glass's colour [3] of the H&E.
        ihc_white: the same of the IHC.
        he_tissue: bool [H, W], tissue of the warped H&E.
        ihc_tissue: bool [H, W].

    Returns:
        The figures; all but the Dice coefficient are None where hardly any tissue overlaps.

    Raises:
        ValueError: the arrays differ in height or width, or ``mpp`` is not above 0.
    """
    planes = _planes(he_rgb, ihc_rgb, valid, mpp, he_white, ihc_white, he_tissue, ihc_tissue)
    return _quality(planes)


def folding(determinants: NDArray[np.floating[Any]]) -> Folding:
    """Sum up the determinants (of any shape) that ``Transform.jacobian`` gives; an empty grid neither folds nor bends.

    One that is not finite counts as folded, and the extremes are those of the others.
    """
    finite = determinants[np.isfinite(determinants)].astype(np.float64)
    if determinants.size == 0 or finite.size == 0:
        return Folding(float(determinants.size > 0), 1.0, 1.0, 1.0, 1.0)
    p1, p99 = (float(value) for value in np.percentile(finite, (1, 99)))
    share = 1 - float((finite > 0).sum()) / determinants.size
    return Folding(share, float(finite.min()), float(finite.max()), p1, p99)


def _planes(
    he_rgb: NDArray[np.uint8],
    ihc_rgb: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    mpp: float,
    he_white: ArrayLike,
    ihc_white: ArrayLike,
    he_tissue: NDArray[np.bool_],
    ihc_tissue: NDArray[np.bool_],
) -> _Planes:
    shapes = {a.shape[:2] for a in (he_rgb, ihc_rgb, valid, he_tissue, ihc_tissue)}
    if len(shapes) > 1 or mpp <= 0:
        raise ValueError(f"pictures and masks of one size and an mpp above 0 are needed, got {shapes} and {mpp}")
    pair = ((he_rgb, he_white), (ihc_rgb, ihc_white))
    he_dark, ihc_dark = (smooth(darkness(rgb, white), _BLUR, mpp) for rgb, white in pair)
    he_amount, ihc_amount = (haematoxylin(rgb, white) for rgb, white in pair)
    both = valid & he_tissue & ihc_tissue
    nuclei = None
    if mpp <= NUCLEI_MPP:
        nuclei = (nuclei_density(he_amount, both, mpp), nuclei_density(ihc_amount, both, mpp))
    amounts = (smooth(he_amount, _BLUR, mpp), smooth(ihc_amount, _BLUR, mpp))
    return _Planes((he_tissue & valid, ihc_tissue & valid), both, (he_dark, ihc_dark), amounts, nuclei)


def _quality(planes: _Planes) -> Quality:
    he_tissue, ihc_tissue = planes.tissue
    both = planes.both
    together = int(he_tissue.sum()) + int(ihc_tissue.sum())
    dice = 2 * int(both.sum()) / together if together else None
    if both.sum() < _LEAST:
        return Quality(None, None, None, dice)

    def values(pair: tuple[NDArray[np.float32], NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return [plane[both] for plane in pair]

    return Quality(
        mutual_information=_mutual_information(*values(planes.darkness)),
        haematoxylin_ncc=correlation(*values(planes.haematoxylin)),
        nuclei_density_ncc=None if planes.nuclei is None else correlation(*values(planes.nuclei)),
        tissue_dice=dice,
    )


def correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float | None:
    """Pearson's correlation of two [n]; None where one does not vary."""
    if len(first) < 2:
        return None
    a, b = (values.astype(np.float64) - values.mean(dtype=np.float64) for values in (first, second))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip(a @ b / norm, -1, 1)) if norm > 1e-9 * len(a) else None


def _mutual_information(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Mutual information of two [n] in nats, sorted into ``_LEVELS`` classes of equal frequency."""
    cells = np.bincount(_classes(first) * _LEVELS + _classes(second), minlength=_LEVELS**2)
    joint = cells.reshape(_LEVELS, _LEVELS) / len(first)
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return max(float((joint[seen] * np.log(joint[seen] / independent[seen])).sum()), 0.0)


def _classes(values: NDArray[np.float32]) -> NDArray[np.int64]:
    edges = np.quantile(values, np.arange(1, _LEVELS) / _LEVELS)
    return np.searchsorted(edges, values, side="right").astype(np.int64)
