"""Homographies against OpenCV, outliers, and every refusal."""

from __future__ import annotations

from itertools import permutations

import cv2
import numpy as np
import pytest

from restain.core.errors import RestainError
from restain.registration import Limits, check_projective, fit_projective, quadrilateral_homography
from restain.registration.projective import local_scales, square_to_quadrilateral
from restain.registration.transform import project

from .maps import turned

SQUARE = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
CORNERS = np.array([[0.0, 0], [900, 40], [1000, 800], [-60, 700]])


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two matrices are one homography."""
    return bool(np.allclose(one / np.linalg.norm(one), other / np.linalg.norm(other) * np.sign((one * other).sum())))


@pytest.mark.parametrize("seed", range(8))
def test_four_points_as_opencv(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = CORNERS + rng.normal(0, 60, (4, 2))
    target = CORNERS @ [[0.6, 0.5], [-0.5, 0.6]] + rng.normal(0, 60, (4, 2)) + 20_000
    if seed % 2:
        target[:, 0] *= -1  # mirrored
    wanted = cv2.getPerspectiveTransform((source).astype(np.float32), (target).astype(np.float32))
    found = quadrilateral_homography(source, target)
    places = rng.uniform(100, 600, (20, 2))
    np.testing.assert_allclose(project(places, found), project(places, wanted), atol=0.05)  # OpenCV takes float32
    np.testing.assert_allclose(project(source, found), target, atol=1e-7)
    # whatever the order in which they were picked
    for order in list(permutations(range(4)))[:: 5 + seed]:
        again = quadrilateral_homography(source[list(order)], target[list(order)])
        np.testing.assert_allclose(project(places, again), project(places, found), atol=1e-6)
    matrix, used = fit_projective(source, target)
    assert same(matrix, found)
    assert used.tolist() == [True] * 4


def test_square_to_quadrilateral_as_opencv() -> None:
    wanted = cv2.getPerspectiveTransform(SQUARE.astype(np.float32), CORNERS.astype(np.float32))
    np.testing.assert_allclose(square_to_quadrilateral(CORNERS), wanted, rtol=1e-6, atol=1e-9)
    parallelogram = np.array([[1.0, 2], [4, 3], [6, 7], [3, 6]])
    assert square_to_quadrilateral(parallelogram)[2].tolist() == [0, 0, 1]


def test_one_point_inside_the_triangle_of_the_others() -> None:
    source = np.array([[0.0, 0], [1000, 0], [400, 900], [450, 300]])
    matrix = turned(130, (1000, 1000), mirrored=True)
    assert same(quadrilateral_homography(source, project(source, matrix)), matrix)


@pytest.mark.parametrize("count", [5, 6, 12, 60])
def test_exact_points_give_the_exact_map(count: int) -> None:
    source = np.random.default_rng(count).uniform(0, 9000, (count, 2))
    matrix = turned(-50, (9000, 9000), scale=1.1)
    matrix[2] = [1e-6, 2e-6, 1]
    found, used = fit_projective(source, project(source, matrix))
    assert used.all()
    np.testing.assert_allclose(project(source, found), project(source, matrix), atol=1e-4)


def test_noise_is_averaged_as_well_as_opencv_does() -> None:
    rng = np.random.default_rng(1)
    matrix = turned(25, (8000, 6000))
    matrix[2] = [1e-6, 2e-6, 1]
    source = rng.uniform(0, 6000, (24, 2))
    target = project(source, matrix) + rng.normal(0, 8, (24, 2))
    found, used = fit_projective(source, target)
    assert used.sum() >= 23
    if used.all():
        wanted, _ = cv2.findHomography(source, target, 0)
        np.testing.assert_allclose(project(source, found), project(source, wanted), atol=0.5)
        rms = np.linalg.norm(project(source, found) - target)
        assert rms <= np.linalg.norm(project(source, wanted) - target) * (1 + 1e-6)


@pytest.mark.parametrize(("count", "wrong"), [(6, 1), (8, 2), (12, 4), (60, 25)])
def test_outliers_are_left_out(count: int, wrong: int) -> None:
    rng = np.random.default_rng(count)
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)[rng.permutation(count)]
    source = 3000 + np.stack([np.cos(turn), np.sin(turn)], axis=1) * rng.uniform(1500, 2900, (count, 1))
    matrix = turned(100, (6000, 6000))
    matrix[2] = [1e-6, -1e-6, 1]
    target = project(source, matrix) + rng.normal(0, 3, (count, 2))
    target[:wrong] += rng.choice([-1, 1], (wrong, 2)) * rng.uniform(300, 2000, (wrong, 2))
    found, used = fit_projective(source, target)
    assert not used[:wrong].any()
    assert used[wrong:].mean() > 0.85
    np.testing.assert_allclose(project(source, found), project(source, matrix), atol=25)
    again, _ = fit_projective(source, target)
    np.testing.assert_array_equal(again, found)
    kept, _ = fit_projective(source, target, tolerance=1e5)
    assert not same(kept, found)


def test_few_and_unfit_points_are_refused_with_the_reason() -> None:
    line = np.array([[0.0, 0], [300, 303], [600, 599], [0, 900]])
    with pytest.raises(RestainError, match=r"points\.csv: 3 point pairs"):
        fit_projective(CORNERS[:3], CORNERS[:3], name="points.csv")
    for source, target, where in ((line, CORNERS, "IHC"), (CORNERS, line, "H&E")):
        with pytest.raises(RestainError, match=f"points 1, 2, 3 lie on a line on the {where}"):
            fit_projective(source, target)
    with pytest.raises(RestainError, match="points 1 and 3 coincide on the H&E"):
        fit_projective(CORNERS, CORNERS[[0, 1, 0, 3]])
    with pytest.raises(RestainError, match="coincide"):
        fit_projective(np.zeros((4, 2)), CORNERS)
    with pytest.raises(RestainError, match="finite"):
        fit_projective(CORNERS, np.where(CORNERS == 900, np.nan, CORNERS))
    with pytest.raises(RestainError, match="cross"):
        fit_projective(CORNERS, CORNERS[[1, 0, 2, 3]])
    with pytest.raises(RestainError, match="cross"):  # one corner pushed in
        fit_projective(CORNERS, np.array([[0.0, 0], [900, 40], [250, 300], [-60, 700]]))
    straight = np.stack([np.linspace(0, 1000, 9), np.linspace(0, 2000, 9)], axis=1)
    with pytest.raises(RestainError, match="the points lie on a line"):
        fit_projective(straight, straight)
    straight[4] = [800, 0]
    with pytest.raises(RestainError, match="all points but one lie on a line"):
        fit_projective(straight, straight)
    with pytest.raises(RestainError, match="coincide"):
        fit_projective(CORNERS[[0, 1, 2, 0, 1, 2]], CORNERS[[0, 1, 2, 0, 1, 2]])
    with pytest.raises(ValueError, match="two arrays"):
        fit_projective(CORNERS, CORNERS[:, :1])


def test_points_that_contradict_each_other_are_refused_or_bounded() -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(10):
        source, target = rng.uniform(0, 5000, (2, 14, 2))
        try:
            matrix, _ = fit_projective(source, target)
        except RestainError:
            refused += 1
        else:
            refused += check_projective(matrix, (5000, 5000), (5000, 5000), 0.5, 0.5) is not None
    assert refused == 10


def test_local_scales_against_finite_differences() -> None:
    matrix = turned(33, (1000, 800), scale=0.9)
    points = np.random.default_rng(0).uniform(0, 800, (10, 2))
    h = 1e-3
    right, down = np.array([h, 0]), np.array([0, h])
    dx = (project(points + right, matrix) - project(points - right, matrix)) / (2 * h)
    dy = (project(points + down, matrix) - project(points - down, matrix)) / (2 * h)
    wanted = np.linalg.svd(np.stack([dx, dy], axis=2), compute_uv=False)
    np.testing.assert_allclose(np.stack(local_scales(matrix, points), axis=1), wanted, rtol=1e-6)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 45, 180])
def test_plausible_maps_pass_at_any_resolution(degrees: float, mirrored: bool) -> None:
    matrix = turned(degrees, (4000, 4000), scale=1.08, mirrored=mirrored)
    matrix = np.diag([2, 2, 1]) @ matrix @ np.diag([1, 1, 1.0])
    matrix[2, :2] = 0
    assert check_projective(matrix, (4000, 4000), (8000, 8000), 0.5, 0.25) is None
    assert "scale" in str(check_projective(matrix, (4000, 4000), (8000, 8000), 0.5, 0.5))


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.diag([1.4, 1.4, 1]), "scale"),
        (np.diag([0.7, 0.7, 1]), "scale"),
        (np.diag([1.2, 0.85, 1]), "stretched"),
        (np.array([[1, 0.24, 0], [0, 1, 0], [0, 0, 1]]), "stretched"),
        (np.array([[1.1, 0, 0], [0, 1.1, 0], [6e-5, 0, 1]]), "scale|perspective|stretched"),
        (np.array([[1, 0, 0], [0, 1, 0], [-1e-3, 0, 1]]), "infinity"),
        (np.array([[1, 0, 9000], [0, 1, 0], [0, 0, 1]]), "lies on the other"),
        (np.array([[1, 2, 0], [2, 4, 0], [0, 0, 1]]), "singular"),
        (np.full((3, 3), np.nan), "singular"),
    ],
)
def test_absurd_maps_are_named(matrix: np.ndarray, reason: str) -> None:
    found = check_projective(matrix, (4000, 4000), (4000, 4000), 0.5, 0.5)
    assert found is not None
    assert any(word in found for word in reason.split("|")), found


def test_each_limit_can_be_moved() -> None:
    shear = np.array([[1, 0.24, 0], [0, 1, 0], [0, 0, 1]])
    sizes = ((4000, 4000), (4000, 4000), 0.5, 0.5)
    assert check_projective(shear, *sizes, Limits(anisotropy=1.3)) is None
    tilt = np.array([[1, 0, 0], [0, 1, 0], [1.5e-5, 0, 1]])
    assert check_projective(tilt, *sizes) is None
    assert "perspective" in str(check_projective(tilt, *sizes, Limits(perspective=1.05)))
    assert "area" in str(check_projective(np.diag([1.1, 1.1, 1]), *sizes, Limits(area=(0.9, 1.1))))
