"""The picture of before and after."""

from __future__ import annotations

import numpy as np
import pytest

from restain.registration.overlay import LONGEST, checkerboard, overlay, red_cyan


def _noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_checkerboard_shows_both_by_turns() -> None:
    he, ihc = np.full((100, 60, 3), 10, np.uint8), np.full((100, 60, 3), 200, np.uint8)
    board = checkerboard(he, ihc)
    assert board[0, 0, 0] == 10
    assert board[0, 10, 0] == 200
    assert board[10, 0, 0] == 200
    assert board[10, 10, 0] == 10
    assert (board == 10).mean() == pytest.approx(0.5)


def test_equal_pictures_are_grey_and_others_are_not() -> None:
    rgb = _noise(80, 80)
    same = red_cyan(rgb, rgb).astype(int)
    assert np.abs(same[..., 0] - same[..., 1]).max() <= 10
    pale = (200 + rgb.mean(axis=2, keepdims=True) * 0.1).astype(np.uint8).repeat(3, axis=2)
    paler = red_cyan(rgb, pale).astype(int)
    assert np.abs(paler[..., 0] - paler[..., 1]).mean() < 12
    he = np.full((80, 80, 3), 250, np.uint8)
    ihc = he.copy()
    he[:40, :20], ihc[40:, :20] = 50, 50
    picture = red_cyan(he, ihc).astype(int)
    assert picture[10, 10, 0] < picture[10, 10, 1] == picture[10, 10, 2]
    assert picture[60, 10, 0] > picture[60, 10, 1]
    assert picture[60, 60].tolist() == [255, 255, 255]


def test_glass_is_not_stretched_into_noise() -> None:
    glass = np.random.default_rng(0).integers(238, 243, (50, 50, 3)).astype(np.uint8)
    picture = red_cyan(glass, glass[::-1])
    assert int(picture.max()) - int(picture.min()) < 40


@pytest.mark.parametrize(("height", "width"), [(30, 40), (700, 500), (3000, 5000), (4000, 300), (20, 2000)])
def test_size_is_bounded_and_nothing_is_distorted(height: int, width: int) -> None:
    rgb = _noise(height, width)
    picture = overlay(rgb, rgb, rgb, 2.0, "projective", "elastic")
    assert picture.dtype == np.uint8
    assert max(picture.shape) <= LONGEST
    assert max(picture.shape) > 400


def test_the_right_side_shows_after_and_the_left_before() -> None:
    blank, dark = np.full((400, 400, 3), 255, np.uint8), np.zeros((400, 400, 3), np.uint8)
    picture = overlay(blank, dark, blank, 1.0)
    middle = picture.shape[1] // 2
    assert picture[60:400, middle + 20 : -20].mean() < 160 < 250 < picture[60:400, 20 : middle - 20].mean()


def test_wrong_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        overlay(_noise(10, 10), _noise(10, 11), _noise(10, 10), 1.0)
    with pytest.raises(ValueError, match="above 0"):
        overlay(_noise(10, 10), _noise(10, 10), _noise(10, 10), 0.0)
