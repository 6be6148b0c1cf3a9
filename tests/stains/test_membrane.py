"""DAB, membrane mask and membrane ratio against scikit-image's colour spaces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.color import hed2rgb, rgb2hed, rgb2hsv

from restain.slides import read_image
from restain.stains import dab_only, dab_saturation, membrane_mask, membrane_ratio

COLOURS = np.random.default_rng(3).integers(0, 256, (90, 120, 3)).astype(np.uint8)
WHITE = np.full((20, 30, 3), 255, np.uint8)


def theirs(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    amounts = rgb2hed(rgb)
    amounts[..., :2] = 0
    brown = hed2rgb(amounts)
    return brown, rgb2hsv(brown)[..., 1]


@pytest.mark.parametrize("rgb", [COLOURS, WHITE, np.zeros_like(WHITE)], ids=["colours", "white", "black"])
def test_dab_and_its_saturation_are_scikit_images(rgb: np.ndarray) -> None:
    brown, saturation = theirs(rgb)
    np.testing.assert_allclose(dab_only(rgb), brown, atol=1e-12)
    np.testing.assert_allclose(dab_saturation(rgb), saturation, atol=1e-12)


def test_real_ihc_too(shared: Path) -> None:
    rgb = read_image(shared / "data/her2-ihc/00006_test_3+.png")[:400]
    brown, saturation = theirs(rgb)
    np.testing.assert_allclose(dab_only(rgb), brown, atol=1e-12)
    np.testing.assert_array_equal(membrane_mask(rgb, 0.15, blur=False), (saturation > 0.15) * 255)


@pytest.mark.parametrize("threshold", [0.0, 0.15, 0.4])
def test_mask_is_a_threshold_and_a_gaussian(threshold: float) -> None:
    hard = membrane_mask(COLOURS, threshold, blur=False)
    np.testing.assert_array_equal(hard, (theirs(COLOURS)[1] > threshold) * 255)
    taps = cv2.getGaussianKernel(9, 3)
    soft = cv2.sepFilter2D(hard.astype(np.float64), -1, taps, taps, borderType=cv2.BORDER_REFLECT_101)
    assert np.abs(membrane_mask(COLOURS, threshold) - soft).max() <= 2  # OpenCV blurs bytes in fixed point


def test_ratio_is_the_share_above_each_threshold() -> None:
    thresholds = [0.3, 0.1, 0.5, 0.0]
    found = membrane_ratio(COLOURS, thresholds)
    assert found.dtype == np.float32
    saturation = theirs(COLOURS)[1]
    np.testing.assert_allclose(found, [(saturation > threshold).mean() for threshold in thresholds], atol=1e-6)
    assert len(membrane_ratio(COLOURS)) == 21
    assert not membrane_ratio(WHITE).any()


def test_no_pixels_no_ratio() -> None:
    with pytest.raises(ValueError, match="pixels"):
        membrane_ratio(np.zeros((0, 4, 3), np.uint8))
