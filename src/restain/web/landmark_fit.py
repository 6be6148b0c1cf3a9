"""What point pairs say while they are being picked: the projective fit of ``restain register``, and how far off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.registration import Transform, check_projective, fit_projective
from restain.registration.transform import project

Points = NDArray[np.float64]

LEAST = 4
"""Pairs that a projective map needs."""


@dataclass(frozen=True)
class Side:
    """A slide on which points are picked.

    Attributes:
        name: of its file.
        size: (width, height) in level-0 px.
        mpp: um/px; None: unknown.
    """

    name: str
    size: tuple[int, int]
    mpp: float | None


@dataclass(frozen=True)
class Similarity:
    """A shift, a rotation, a scale, and perhaps a mirroring.

    Attributes:
        scale: H&E um to an IHC um.
        rotation_degrees: of the IHC's x axis on the H&E, clockwise as seen on the screen (y points down).
        mirrored: whether the section lies upside down.
        residuals_um: distance of each pair on the H&E.
    """

    scale: float
    rotation_degrees: float
    mirrored: bool
    residuals_um: list[float | None]


def describe_fit(he: Side, ihc: Side, points: Sequence[Sequence[float]]) -> dict[str, Any]:
    """How well point pairs agree.

    Args:
        he: the H&E.
        ihc: the IHC.
        points: pairs ``x_he, y_he, x_ihc, y_ihc`` in level-0 px.

    Returns:
        The answer of ``/api/landmarks/fit``. Residuals are distances on the H&E in um; None where nothing is known.
        With exactly four pairs the fit is exact, and those of the similarity are what tells.
    """
    pairs = np.array(points, np.float64).reshape(-1, 4)
    alike = fit_similarity(he, ihc, pairs)
    answer: dict[str, Any] = {
        "residuals_um": [None] * len(pairs),
        "used": [True] * len(pairs),
        "rms_um": None,
        "similarity_residuals_um": alike.residuals_um,
        "absurd": None,
        "error": None,
        "scale": alike.scale,
        "rotation_degrees": alike.rotation_degrees,
        "mirrored": alike.mirrored,
        "matrix": None,
    }
    try:
        matrix, used = fit(he, ihc, pairs)
    except RestainError as error:
        return answer | {"error": str(error)}
    answer |= {"matrix": matrix.tolist(), "used": used.tolist()}
    if he.mpp is None or ihc.mpp is None:
        lacking = he.name if he.mpp is None else ihc.name
        return answer | {"error": f"{lacking}: its um/px is not known, so distances cannot be given in um."}
    distances = np.linalg.norm(project(pairs[:, 2:], matrix) - pairs[:, :2], axis=1) * he.mpp
    return answer | {
        "residuals_um": [_finite(value) for value in distances],
        "rms_um": _finite(np.sqrt((distances[used] ** 2).mean())),
        "absurd": check_projective(matrix, ihc.size, he.size, ihc.mpp, he.mpp),
    }


def fit(he: Side, ihc: Side, pairs: Points) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The homography from IHC px to H&E px, and the pairs that it rests on, as ``restain register`` finds them.

    Raises:
        RestainError: too few pairs, points outside of their slides, or none that make a map.
    """
    missing = LEAST - len(pairs)
    if missing > 0:
        raise RestainError(f"{missing} more pair{'s' * (missing > 1)} of points needed.")
    require_inside(he, ihc, pairs)
    try:
        return fit_projective(pairs[:, 2:], pairs[:, :2], name="")
    except RestainError as error:
        raise RestainError(str(error).removeprefix(": ")) from error


def require_inside(he: Side, ihc: Side, pairs: Points) -> None:
    """Refuse points outside of their slides, as ``restain register`` does.

    Raises:
        RestainError: which.
    """
    for name, side, places in (("H&E", he, pairs[:, :2]), ("IHC", ihc, pairs[:, 2:])):
        outside = np.flatnonzero(((places < 0) | (places > side.size)).any(axis=1))
        if len(outside):
            listed = ", ".join(str(number + 1) for number in outside[:10])
            raise RestainError(f"point {listed} lies outside of the {name}; move it onto the slide or delete it.")


def preview_of(he: Side, ihc: Side, pairs: Points) -> Transform:
    """The projective map as a registration.

    Raises:
        RestainError: see ``fit``; or it cannot be drawn, or a um/px is not known.
    """
    matrix, _ = fit(he, ihc, pairs)
    if he.mpp is None or ihc.mpp is None:
        lacking = he.name if he.mpp is None else ihc.name
        raise RestainError(f"{lacking}: its um/px is not known. Give it in a cohort CSV (column mpp).")
    try:
        return Transform(matrix, None, (0.0, 0.0), 1.0, he.size, ihc.size, he.mpp, ihc.mpp, he.name, ihc.name)
    except ValueError as error:
        raise RestainError(
            f"these points make no map of the whole slide: {error}. Check which belong together."
        ) from error


def fit_similarity(he: Side, ihc: Side, pairs: Points) -> Similarity:
    """The similarity, mirrored where that fits better, with the least sum of squared distances on the H&E.

    Umeyama, IEEE PAMI 13 (1991) 376, without his condition that nothing be mirrored.

    Args:
        he: the H&E.
        ihc: the IHC.
        pairs: [n, 4] px; fewer than two, or all in one place, give neither rotation nor scale.
    """
    none: list[float | None] = [None] * len(pairs)
    target, source = pairs[:, :2] * (he.mpp or 1.0), pairs[:, 2:] * (ihc.mpp or 1.0)
    if len(pairs) < 2 or min(np.ptp(target, axis=0).max(), np.ptp(source, axis=0).max()) < 1e-6:
        return Similarity(1.0, 0.0, False, none)
    to, of = target - target.mean(axis=0), source - source.mean(axis=0)
    left, values, right = np.linalg.svd(to.T @ of)
    turn = left @ right
    if len(pairs) == 2 and np.linalg.det(turn) < 0:  # two points do not tell
        turn = left @ np.diag([1.0, -1.0]) @ right
        values = values * [1, -1]
    scale = float(values.sum() / (of**2).sum())
    distances = np.linalg.norm(to - scale * of @ turn.T, axis=1)
    known = he.mpp is not None and ihc.mpp is not None and len(pairs) > 2
    return Similarity(
        scale,
        math.degrees(math.atan2(turn[1, 0], turn[0, 0])),
        bool(np.linalg.det(turn) < 0),
        [_finite(value) for value in distances] if known else none,
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
