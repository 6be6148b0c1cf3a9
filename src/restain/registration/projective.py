"""The projective step from point pairs, as the BCI paper (section 3.2) for four and by least squares for more.

A homography maps (x, y, 1) to (x', y', w'); the image is (x' / w', y' / w'). Bounds on what it may do to a section
keep both the hand-picked and the automatic step from absurd warps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from restain.core.errors import RestainError
from restain.registration.transform import project

Matrix = NDArray[np.float64]
Points = NDArray[np.float64]

_COINCIDE = 2e-3
"""Points nearer than this share of the points' extent are one point."""
_FLAT = 0.02
"""Points within a band this narrow, as a share of its length, lie on a line: clicks are no better than that."""
_CHECKED = 60
"""Points that are compared with each other; of more than that, enough are distinct."""
_TRIPLES = np.array(list(combinations(range(4), 3)))
_TRIALS = 1500
"""Quadruples tried in search of outliers; all of them up to 15 points."""


@dataclass(frozen=True)
class Limits:
    """What a projective map may do to a section, in um so that unlike um/px do not count.

    Sections of one block differ by a few per cent; cutting and mounting seldom stretch by more than a tenth.

    Attributes:
        scale: smallest and largest local scale anywhere on the IHC slide, H&E um per IHC um.
        anisotropy: largest ratio of the scales along and across, at any place (a shear counts too).
        perspective: largest ratio of the local scales of two places.
        area: smallest and largest ratio of the slide's area after to that before.
        overlap: smallest share of the smaller slide that lies on the other one.
    """

    scale: tuple[float, float] = (0.8, 1.25)
    anisotropy: float = 1.25
    perspective: float = 1.25
    area: tuple[float, float] = (0.65, 1.55)
    overlap: float = 0.1

    def __post_init__(self) -> None:
        """Refuse bounds that nothing can keep.

        Raises:
            RestainError: which, and what is allowed.
        """
        for name in ("scale", "area"):
            low, high = getattr(self, name)
            if not 0 < low < 1 < high < float("inf"):
                raise RestainError(f"limits.{name} must be two numbers around 1, the smaller first, not {low}, {high}.")
        if not (self.anisotropy > 1 and self.perspective > 1 and 0 <= self.overlap <= 1):
            raise RestainError("limits: anisotropy and perspective must be above 1 and overlap a share from 0 to 1.")


def square_to_quadrilateral(corners: Points) -> Matrix:
    """The homography that maps (0, 0), (1, 0), (1, 1), (0, 1) to four points, in closed form.

    Heckbert, Fundamentals of Texture Mapping and Image Warping (1989), section 2.2.3.

    Args:
        corners: [..., 4, 2], no three on a line.

    Returns:
        float64 [..., 3, 3].
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = np.moveaxis(np.asarray(corners, np.float64), (-2, -1), (0, 1))
    dx1, dx2, sx = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, sy = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    area = dx1 * dy2 - dx2 * dy1
    g = (sx * dy2 - dx2 * sy) / area
    h = (dx1 * sy - sx * dy1) / area
    rows = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0], [y1 - y0 + g * y1, y3 - y0 + h * y3, y0], [g, h, np.ones_like(g)]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quadrilateral_homography(source: Points, target: Points) -> Matrix:
    """The homography of four point pairs: quadrilateral to square to quadrilateral (BCI paper, section 3.2).

    Args:
        source: [4, 2] on the IHC.
        target: [4, 2] on the H&E.

    Returns:
        float64 [3, 3] with a Frobenius norm of 1.

    Raises:
        RestainError: points coincide, three lie on a line, or the quadrilaterals cross.
    """
    _require_general(source, target)
    return _unit(_quadrilateral_maps(source, target, np.arange(4)))


def fit_projective(
    source: Points, target: Points, tolerance: float = 0.0, name: str = "landmarks"
) -> tuple[Matrix, NDArray[np.bool_]]:
    """The homography of point pairs; with more than five, those that contradict the others are left out.

    Four: ``quadrilateral_homography``. More: least median of squares over quadruples finds the pairs that agree
    (threshold 2.5 robust standard deviations, from the data), then least squares of the distances in the target.
    Five pairs leave nothing to judge by, so all are used. Equal input gives equal output.

    Args:
        source: [n, 2] on the IHC, n at least 4 (the messages name the slides).
        target: [n, 2] on the H&E.
        tolerance: a pair nearer to the fit than this, in target px, is never left out.
        name: what the message begins with: the landmarks' file.

    Returns:
        float64 [3, 3] with a Frobenius norm of 1, and bool [n]: the pairs that were used.

    Raises:
        RestainError: fewer than four, or points that coincide, lie on a line, cross or contradict each other.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    count = len(source)
    if source.shape != (count, 2) or target.shape != source.shape:
        raise ValueError(f"expected two arrays [n, 2], not {source.shape} and {target.shape}")
    if count < 4:
        raise RestainError(f"{name}: {count} point pairs; a projective map needs at least four.")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise RestainError(f"{name}: some coordinates are not finite numbers.")
    try:
        if count == 4:
            return quadrilateral_homography(source, target), np.ones(4, np.bool_)
        _require_spread(source, target)
        used = np.ones(count, np.bool_)
        if count > 5:
            used = _agreeing(source, target, tolerance)
            _require_spread(source[used], target[used])
        matrix = _least_squares(source[used], target[used])
        _require_same_side(source[used], matrix)
    except RestainError as error:
        raise RestainError(f"{name}: {error}") from error
    return matrix, used


def local_scales(matrix: Matrix, points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The larger and the smaller scale (singular values of the derivative) of a homography at points [n, 2]."""
    depth = points @ matrix[2, :2] + matrix[2, 2]
    image = project(points, matrix)
    derivative = (matrix[None, :2, :2] - image[:, :, None] * matrix[None, 2:, :2]) / depth[:, None, None]
    values = np.linalg.svd(derivative, compute_uv=False)
    return values[:, 0], values[:, 1]


def check_projective(
    matrix: Matrix,
    ihc_size: tuple[int, int],
    he_size: tuple[int, int],
    ihc_mpp: float,
    he_mpp: float,
    limits: Limits = Limits(),
) -> str | None:
    """Why a homography from IHC px to H&E px is absurd; None where it is not. Mirrored ones are allowed.

    Args:
        matrix: [3, 3].
        ihc_size: (width, height) of the IHC in px.
        he_size: (width, height) of the H&E in px.
        ihc_mpp: um/px of the IHC.
        he_mpp: um/px of the H&E.
        limits: the bounds.
    """
    if not np.isfinite(matrix).all() or np.linalg.matrix_rank(_unit(matrix), tol=1e-14) < 3:
        return "the map is singular"
    across, down = np.meshgrid(np.linspace(0, ihc_size[0], 5), np.linspace(0, ihc_size[1], 5))
    places = np.stack([across.ravel(), down.ravel()], axis=1)
    depth = places @ matrix[2, :2] + matrix[2, 2]
    if depth.min() <= 0 <= depth.max():
        return "the map sends a part of the slide to infinity"
    large, small = (values * he_mpp / ihc_mpp for values in local_scales(matrix, places))
    scale = np.sqrt(large * small)
    low, high = limits.scale
    if small.min() < low or large.max() > high:
        return f"scale {small.min():.3g} to {large.max():.3g} (allowed {low:g} to {high:g})"
    if (large / small).max() > limits.anisotropy:
        return (
            f"stretched {(large / small).max():.3g} times more one way than the other ({limits.anisotropy:g} allowed)"
        )
    if scale.max() / scale.min() > limits.perspective:
        return f"perspective: the scale varies {scale.max() / scale.min():.3g}-fold ({limits.perspective:g} allowed)"
    outline = project(places[[0, 4, 24, 20]], matrix).astype(np.float32)
    area = float(cv2.contourArea(outline)) * he_mpp**2 / (ihc_size[0] * ihc_size[1] * ihc_mpp**2)
    if not limits.area[0] <= area <= limits.area[1]:
        return f"area ratio {area:.3g} (allowed {limits.area[0]:g} to {limits.area[1]:g})"
    width, height = he_size
    slide = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    common = float(cv2.intersectConvexConvex(outline, slide)[0])
    overlap = common / min(width * height, float(cv2.contourArea(outline)))
    if overlap < limits.overlap:
        return f"only {overlap:.1%} of the smaller slide lies on the other ({limits.overlap:.0%} needed)"
    return None


def _quadrilateral_maps(source: Points, target: Points, corners: NDArray[np.int64]) -> Matrix:
    """The homographies [..., 3, 3] of four pairs each, ``corners`` [..., 4] of the point pairs [n, 2]."""
    inner, outer = _normaliser(source), _normaliser(target)
    to_square = _adjoint(square_to_quadrilateral(project(source, inner)[corners]))
    to_target = square_to_quadrilateral(project(target, outer)[corners])
    return np.asarray(np.linalg.inv(outer) @ to_target @ to_square @ inner)


def _adjoint(matrix: Matrix) -> Matrix:
    """The adjoint [..., 3, 3]: the inverse up to a factor, which a homography does not feel."""
    a, b, c = np.moveaxis(matrix, -2, 0)
    return np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=-1)


def _unit(matrix: Matrix) -> Matrix:
    """The same homography with a Frobenius norm of 1 and, as for slides, positive w at the origin where it has one."""
    scaled: Matrix = np.asarray(matrix / np.linalg.norm(matrix), np.float64)
    return scaled if scaled[2, 2] >= 0 else -scaled


def _normaliser(points: Points) -> Matrix:
    """The similarity that brings points to mean 0 and a mean distance of sqrt 2 (Hartley 1997)."""
    centre = points.mean(axis=0)
    scale = np.sqrt(2) / max(float(np.linalg.norm(points - centre, axis=1).mean()), 1e-12)
    return np.array([[scale, 0, -scale * centre[0]], [0, scale, -scale * centre[1]], [0, 0, 1]])


def _require_general(source: Points, target: Points) -> None:
    """Refuse four pairs that coincide, have three on a line, or cross.

    A map that keeps all four points finite turns every triangle of them alike: the same way round, or, mirrored, all
    the other way.
    """
    _require_spread(source, target)
    turns: list[Points] = []
    for points, slide in ((source, "IHC"), (target, "H&E")):
        turn, flat = _turns(points)
        if flat.any():
            numbers = ", ".join(str(index + 1) for index in _TRIPLES[flat.argmax()])
            raise RestainError(
                f"points {numbers} lie on a line on the {slide}; of four, no three may. Move one or add more."
            )
        turns.append(turn)
    if abs(turns[0] @ turns[1]) < 4:
        raise RestainError(
            "the points cross: their order round the H&E is not that round the IHC. Check which belong together."
        )


def _turns(points: Points) -> tuple[Points, NDArray[np.bool_]]:
    """Of the four triangles of four points [..., 4, 2]: which way round they go, -1 or 1, and whether they are flat."""
    corner, one, two = np.moveaxis(points[..., _TRIPLES, :], -2, 0)
    a, b = one - corner, two - corner
    area = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    longest = np.max([(side**2).sum(axis=-1) for side in (a, b, a - b)], axis=0)
    return np.sign(area), np.asarray(np.abs(area) < _FLAT * longest, np.bool_)


def _require_spread(source: Points, target: Points) -> None:
    """Refuse pairs of which fewer than four are distinct, or that lie on a line but for one at most."""
    count = len(source)
    for points, slide in ((source, "IHC"), (target, "H&E")):
        some = points[:_CHECKED]
        distance = np.linalg.norm(some[:, None] - some[None], axis=2)
        twins = np.argwhere(np.triu(distance <= _COINCIDE * float(np.ptp(points, axis=0).max()), 1))
        if len(some) - len(set(twins[:, 1])) < 4:
            one, two = twins[0] + 1
            raise RestainError(f"points {one} and {two} coincide on the {slide}; four distinct ones are needed.")
        if _on_a_line(points):
            raise RestainError(f"the points lie on a line on the {slide}. Spread them over the tissue.")
        # with all but one on a line, the map is not determined
        if 4 < count <= _CHECKED and any(_on_a_line(np.delete(points, index, axis=0)) for index in range(count)):
            raise RestainError(f"all points but one lie on a line on the {slide}. Spread them over the tissue.")


def _on_a_line(points: Points) -> bool:
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(spread[1] < _FLAT * spread[0])


def _require_same_side(source: Points, matrix: Matrix) -> None:
    depth = source @ matrix[2, :2] + matrix[2, 2]
    if depth.min() <= 0 <= depth.max():
        raise RestainError(
            "the points cross: the map through them would tear the slide apart. Check which belong together."
        )


def _direct(source: Points, target: Points) -> Matrix:
    """The direct linear transform of normalised points: the singular vector of the smallest singular value."""
    x, y = source.T
    u, v = target.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate(
        [
            np.stack([x, y, one, zero, zero, zero, -u * x, -u * y, -u], axis=1),
            np.stack([zero, zero, zero, x, y, one, -v * x, -v * y, -v], axis=1),
        ]
    )
    solution: Matrix = np.linalg.svd(rows)[2][-1].reshape(3, 3)
    return solution


def _least_squares(source: Points, target: Points) -> Matrix:
    """The homography with the least sum of squared distances in the target."""
    inner, outer = _normaliser(source), _normaliser(target)
    near, wanted = project(source, inner), project(target, outer)
    start = _direct(near, wanted)
    pivot = int(np.abs(start).argmax())
    free = [index for index in range(9) if index != pivot]

    def matrix_of(values: NDArray[np.float64]) -> Matrix:
        full = start.ravel() / start.flat[pivot]
        full[free] = values
        return full.reshape(3, 3)

    def distances(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.nan_to_num(project(near, matrix_of(values)) - wanted, nan=1e6, posinf=1e6, neginf=-1e6).ravel()

    found = least_squares(distances, (start.ravel() / start.flat[pivot])[free], method="lm").x
    return _unit(np.linalg.inv(outer) @ matrix_of(found) @ inner)


def _agreeing(source: Points, target: Points, tolerance: float) -> NDArray[np.bool_]:
    """The pairs that agree with the best quadruple and then with each other, bool [n].

    Raises:
        RestainError: not even half of them agree.
    """
    count = len(source)
    rank = (count + 5) // 2 - 1  # of the residual to be small (Rousseeuw 1984, for four pairs that fit exactly)
    quadruples = _quadruples(count)
    (turn, flat), (other, bent) = _turns(source[quadruples]), _turns(target[quadruples])
    quadruples = quadruples[~(flat | bent).any(axis=1) & (np.abs((turn * other).sum(axis=1)) == 4)]
    if not len(quadruples):
        raise RestainError("no four of the points make a map: they lie on lines or cross. Check which belong together.")
    candidates = _residuals(source, target, _quadrilateral_maps(source, target, quadruples))
    scores = np.partition(candidates, rank, axis=1)[:, rank]
    best, best_score = candidates[scores.argmin()], float(scores.min())
    # for few points the best quadruple flatters itself (Rousseeuw and Leroy 1987, p. 202)
    sigma = 1.4826 * (1 + 5 / (count - 4)) * best_score
    used = best <= max(2.5 * sigma, tolerance, 1e-6 * float(np.ptp(target)))
    for _ in range(10):
        if used.sum() < 5:
            break
        residuals = _residuals(source, target, _least_squares(source[used], target[used]))
        freedom = 2 * int(used.sum()) - 8
        sigma = np.sqrt((residuals[used] ** 2).sum() / freedom)  # of one coordinate
        again = residuals <= max(3.0 * sigma, tolerance, 1e-6 * float(np.ptp(target)))
        if np.array_equal(again, used) or again.sum() < 5:
            break
        used = again
    if used.sum() < max(4, count // 2):
        raise RestainError(
            f"only {int(used.sum())} of {count} point pairs agree with each other. Check which belong together."
        )
    return np.asarray(used, np.bool_)


def _residuals(source: Points, target: Points, matrix: Matrix) -> NDArray[np.float64]:
    """The distance of each pair in the target, [..., n], for maps [..., 3, 3]; infinite where one does not reach."""
    homogeneous = source @ matrix[..., :2].swapaxes(-1, -2) + matrix[..., None, :, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = homogeneous[..., :2] / homogeneous[..., 2:] - target
    distance: NDArray[np.float64] = np.linalg.norm(difference, axis=-1)
    return np.nan_to_num(distance, nan=np.inf, posinf=np.inf)


def _quadruples(count: int) -> NDArray[np.int64]:
    """Quadruples [q, 4] to try: all of few points, the same random ones of many."""
    if count <= 15:
        return np.array(list(combinations(range(count), 4)))
    rng = np.random.default_rng(0)
    return np.stack([rng.choice(count, 4, replace=False) for _ in range(_TRIALS)])
