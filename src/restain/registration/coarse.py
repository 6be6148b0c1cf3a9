"""The projective step without hands: every rotation, mirrored or not, and matched features; then refined.

1. Search: at 180 px, the H&E is turned in steps of 6 degrees, mirrored too, and for each turn the best shift is where
   the masked normalised cross-correlation (Padfield 2012) of tissue and haematoxylin is highest.
2. Features: SIFT (Lowe 2004), matched both ways, with RANSAC; they also find sections that differ in scale.
3. The best of both are refined to affine maps by maximising the correlation (ECC: Evangelidis and Psarakis 2008) at
   180 px, compared there, and the winner is refined at 400 and 800 px.

How much the winner stands out from the best of all other turns is the confidence: sections of different tissue fit
equally badly at any turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.registration.channels import Plane
from restain.registration.pictures import Picture, Side, band, picture

Matrix = NDArray[np.float64]

_SIDES = (180, 400, 800)
"""Longer side in px of the pictures that are searched and refined at."""
_STEP = 6
"""Degrees; a map refined by correlation is found from twice as far."""
_APART = 20
"""Degrees from the winner at which another turn counts as another alignment."""
_OVERLAP = 0.4
"""Share of the smaller tissue that must lie on the other slide."""
_FINE, _WIDE = 1.0, 12.0
"""Structure that is compared, as standard deviations in px at 180 px."""
_TRIED = 3
"""Turns of the search that are refined and compared."""
_INLIERS = 12
"""Matched features that an alignment must rest on."""


@dataclass(frozen=True)
class Coarse:
    """An alignment and how sure it is.

    Attributes:
        matrix: float64 [3, 3], homography from IHC um to H&E um.
        ncc: correlation of structure, -1 to 1, at the searched resolution.
        rival: that of the best other turn.
        source: what found it.
    """

    matrix: Matrix
    ncc: float
    rival: float
    source: str

    @property
    def confidence(self) -> float:
        """0 to 1: how far the correlation stands out from that of any other turn, of what it could at most."""
        return float(np.clip((self.ncc - self.rival) / max(1 - self.rival, 1e-6), 0, 1))


@dataclass(frozen=True)
class _Turn:
    """A turn of the H&E with its best shift: ``matrix`` IHC um to H&E um."""

    matrix: Matrix
    ncc: float
    mirrored: bool
    degrees: float


def align(he: Side, ihc: Side, given: Matrix | None = None) -> Coarse:
    """Lay the H&E on the IHC.

    Args:
        he: the moving slide.
        ihc: the fixed slide.
        given: a homography from IHC um to H&E um found otherwise (landmarks): it is judged, not changed.

    Returns:
        The alignment; look at its confidence.
    """
    mpps = [max(he.mpp, ihc.mpp, max(*he.extent, *ihc.extent) / side) for side in _SIDES]
    pictures = [(picture(ihc, mpp), picture(he, mpp)) for mpp in mpps]
    first = pictures[0]
    turns = sorted(_search(*first), key=lambda turn: -turn.ncc)
    if given is not None:
        return Coarse(given, _correlation(*first, given), _rival(turns, given), "landmarks")
    starts = [("rotation search", turn.matrix) for turn in _distinct(turns)]
    starts += [("features", matrix) for matrix in _features(*pictures[-1])]
    refined = [(source, _refined(*first, matrix)) for source, matrix in starts]
    scored = [(_correlation(*first, matrix), source, matrix) for source, matrix in refined]
    ncc, source, matrix = max(scored, key=lambda entry: entry[0])
    turned = _angle(matrix)
    rival = max([_rival(turns, matrix), *(other for other, _, its in scored if _far(_angle(its), turned))])
    for pair in pictures[1:]:
        finer = _refined(*pair, matrix)
        if _correlation(*pair, finer) > _correlation(*pair, matrix):
            matrix = finer
    return Coarse(matrix, ncc, rival, source)


def pixels_to_um(mpp: float) -> Matrix:
    """Indices of a picture's pixels to um, homogeneous [3, 3]."""
    return np.array([[mpp, 0, mpp / 2], [0, mpp, mpp / 2], [0, 0, 1.0]])


def _structure(*seen: Picture) -> list[list[Plane]]:
    """What is correlated of each picture: structure of tissue and of haematoxylin, of the same sizes in all."""
    wide = _WIDE * max(max(each.shape) for each in seen) / _SIDES[0]
    return [[band(plane, _FINE, wide) for plane in (each.tissue, each.haematoxylin)] for each in seen]


def _search(ihc: Picture, he: Picture) -> Iterator[_Turn]:
    """The best shift for every turn of the H&E."""
    fixed, moving = _structure(ihc, he)
    height, width = he.shape
    side = int(np.ceil(np.hypot(height, width)))
    size = cv2.getOptimalDFTSize(side + max(ihc.shape))
    correlate = _MaskedCorrelation(fixed, size)
    um = pixels_to_um(ihc.mpp)
    for mirrored in (False, True):
        for degrees in range(0, 360, _STEP):
            turned = _about_centre(degrees, mirrored, (width, height), side)
            planes = [cv2.warpAffine(plane, turned[:2], (side, side)) for plane in moving]
            ones = cv2.warpAffine(np.ones(he.shape, np.float32), turned[:2], (side, side))
            ncc, (right, down) = correlate(planes, ones > 0.99)
            shift = np.array([[1, 0, right], [0, 1, down], [0, 0, 1.0]])
            matrix = um @ np.linalg.inv(shift @ turned) @ np.linalg.inv(um)
            yield _Turn(matrix, ncc, mirrored, degrees)


class _MaskedCorrelation:
    """Normalised cross-correlation at every shift, over the pixels that both pictures have (Padfield 2012)."""

    def __init__(self, fixed: list[Plane], size: int) -> None:
        self._size = size
        self._mask = self._spectrum(np.ones_like(fixed[0]))
        self._fixed = [(self._spectrum(plane), self._spectrum(plane * plane)) for plane in fixed]
        self._energy = [float((plane * plane).sum()) for plane in fixed]

    def __call__(self, moving: list[Any], mask: NDArray[np.bool_]) -> tuple[float, tuple[int, int]]:
        """The highest correlation, averaged over the planes, and the shift (right, down) of the moving picture."""
        there = mask.astype(np.float32)
        inside = np.conj(self._spectrum(there))
        count = np.maximum(self._back(self._mask * inside), 1)
        total = np.zeros((self._size, self._size))
        shared = np.ones_like(total, np.bool_)
        for (plane, square), energy, other in zip(self._fixed, self._energy, moving, strict=True):
            other = np.asarray(other * there, np.float32)
            spectrum, own = np.conj(self._spectrum(other)), float((other * other).sum())
            first, second = self._back(plane * inside), self._back(self._mask * spectrum)
            product = self._back(plane * spectrum) - first * second / count
            one = self._back(square * inside) - first**2 / count
            two = self._back(self._mask * np.conj(self._spectrum(other * other))) - second**2 / count
            least = min(energy, own)
            total += product / np.sqrt(np.maximum(one, 1e-3 * least + 1e-9) * np.maximum(two, 1e-3 * least + 1e-9))
            # what both show must be a good part of what either has
            shared &= (np.minimum(one, two) >= _OVERLAP * least) & (least > 0)
        total = np.where(shared, total / len(moving), -1)
        down, right = (int(place) for place in np.unravel_index(int(total.argmax()), total.shape))
        half = self._size // 2
        shift = (right - self._size if right > half else right, down - self._size if down > half else down)
        return float(np.clip(total.max(), -1, 1)), shift

    def _spectrum(self, plane: NDArray[Any]) -> NDArray[np.complex128]:
        return np.fft.rfft2(plane, (self._size, self._size))

    def _back(self, spectrum: NDArray[np.complex128]) -> NDArray[np.float64]:
        return np.fft.irfft2(spectrum, (self._size, self._size))


def _about_centre(degrees: float, mirrored: bool, size: tuple[int, int], side: int) -> Matrix:
    """Turn a picture of ``size`` about its centre into a square of ``side`` px, mirrored left to right before."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    centre = (np.array(size) - 1) / 2
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = (side - 1) / 2 - turn @ centre
    return matrix


def _angle(matrix: Matrix) -> tuple[bool, float]:
    """(mirrored, degrees) of the turn of the H&E that a map from IHC um to H&E um undoes."""
    turn = np.linalg.inv(matrix / matrix[2, 2])[:2, :2]
    mirrored = bool(np.linalg.det(turn) < 0)
    if mirrored:
        turn = turn @ np.diag([-1.0, 1.0])
    return mirrored, float(np.rad2deg(np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])))


def _far(one: tuple[bool, float], other: tuple[bool, float]) -> bool:
    """Whether two turns, (mirrored, degrees) each, are different alignments."""
    return one[0] != other[0] or abs((one[1] - other[1] + 180) % 360 - 180) > _APART


def _rival(turns: list[_Turn], matrix: Matrix) -> float:
    """The best correlation among turns that are another alignment than ``matrix``."""
    return max(turn.ncc for turn in turns if _far((turn.mirrored, turn.degrees), _angle(matrix)))


def _distinct(turns: list[_Turn]) -> list[_Turn]:
    """The best turns that differ from each other; ``turns`` falls by correlation."""
    chosen: list[_Turn] = []
    for turn in turns:
        if all(_far((turn.mirrored, turn.degrees), (other.mirrored, other.degrees)) for other in chosen):
            chosen.append(turn)
        if len(chosen) == _TRIED:
            break
    return chosen


def _features(ihc: Picture, he: Picture) -> Iterator[Matrix]:
    """Similarities that matched features agree on: of the H&E as it lies, and mirrored."""
    detector = cv2.SIFT.create(nfeatures=4000)
    um = pixels_to_um(ihc.mpp)
    points, descriptors = _described(detector, ihc.tissue)
    flip = np.array([[-1.0, 0, he.shape[1] - 1], [0, 1, 0], [0, 0, 1]])
    for mirrored in (False, True):
        plane = np.ascontiguousarray(he.tissue[:, ::-1]) if mirrored else he.tissue
        others, theirs = _described(detector, plane)
        if descriptors is None or theirs is None:
            return
        pairs = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(descriptors, theirs)
        if len(pairs) < _INLIERS:
            continue
        source = np.array([points[pair.queryIdx] for pair in pairs], np.float32)
        target = np.array([others[pair.trainIdx] for pair in pairs], np.float32)
        cv2.setRNGSeed(0)
        found, inliers = cv2.estimateAffinePartial2D(
            source, target, method=cv2.RANSAC, ransacReprojThreshold=6, maxIters=20000, confidence=0.999
        )
        if found is None or int(inliers.sum()) < _INLIERS:
            continue
        matrix = np.vstack([found, [0, 0, 1]])
        yield um @ (flip @ matrix if mirrored else matrix) @ np.linalg.inv(um)


def _described(detector: Any, plane: Plane) -> tuple[NDArray[np.float32], Any]:
    """Positions [n, 2] and descriptors of a picture's features."""
    points, descriptors = detector.detectAndCompute(np.rint(255 * plane).astype(np.uint8), None)
    return np.array([point.pt for point in points], np.float32).reshape(-1, 2), descriptors


def _refined(ihc: Picture, he: Picture, matrix: Matrix) -> Matrix:
    """The affine map near ``matrix`` with the highest correlation of tissue; ``matrix`` where none is found."""
    um = pixels_to_um(ihc.mpp)
    start = (np.linalg.inv(um) @ matrix @ um)[:2].astype(np.float32)
    (fixed, _), (moving, _) = _structure(ihc, he)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-6)
    try:
        _, found = cv2.findTransformECC(fixed, moving, start, cv2.MOTION_AFFINE, criteria)
    except cv2.error:  # not converged, or nothing in common
        return matrix
    if not np.isfinite(found).all():
        return matrix
    return np.asarray(um @ np.vstack([found, [0, 0, 1]]) @ np.linalg.inv(um), np.float64)


def _correlation(ihc: Picture, he: Picture, matrix: Matrix) -> float:
    """Correlation of structure where both slides are, averaged over tissue and haematoxylin; -1 where they miss."""
    um = pixels_to_um(ihc.mpp)
    to_he = np.linalg.inv(um) @ matrix @ um
    size = (ihc.shape[1], ihc.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    both = cv2.warpPerspective(np.ones(he.shape, np.float32), to_he, size, flags=flags) > 0.99
    values = []
    for fixed, moving in zip(*_structure(ihc, he), strict=True):
        warped = cv2.warpPerspective(moving, to_he, size, flags=flags)
        one, two = fixed[both], warped[both]
        least = min(float((fixed**2).sum()), float((moving**2).sum()))
        if not both.any() or min(float((one**2).sum()), float((two**2).sum())) < _OVERLAP * least or least == 0:
            return -1.0
        values.append(float(np.corrcoef(one, two)[0, 1]))
    return float(np.mean(values))
