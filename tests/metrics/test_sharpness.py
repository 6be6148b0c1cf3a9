"""The sharpness ratio against SciPy, and what it must and must not react to."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from scipy import ndimage

from restain.metrics import METRICS, ImagePair
from restain.metrics.psnr import psnr
from restain.metrics.sharpness_ratio import BLURRED, sharpness_ratio
from restain.metrics.ssim import ssim

Image = np.ndarray


def cells(seed: int, side: int = 256) -> Image:
    """Dark discs with a rim on a pale, noisy ground: detail at several scales."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side, 3), (232.0, 226, 222))
    for x, y, radius in zip(*rng.integers(0, side, (2, 60)).tolist(), rng.integers(5, 12, 60).tolist(), strict=True):
        cv2.circle(image, (x, y), radius, rng.uniform(90, 160, 3).tolist(), -1, cv2.LINE_AA)
        cv2.circle(image, (x, y), radius, (120, 70, 30), 2, cv2.LINE_AA)
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


REAL = cells(0)


def ratio(fake: Image, real: Image = REAL) -> float:
    return sharpness_ratio(ImagePair(real, np.ascontiguousarray(fake)))


def reference(image: Image) -> float:
    grey = np.rint(image @ np.array([0.299, 0.587, 0.114]))
    fine, coarse = (
        ndimage.laplace(ndimage.gaussian_filter(grey, sigma, mode="mirror", truncate=6), mode="mirror").var()
        for sigma in (1, 4)
    )
    return float(fine / coarse)


def test_agrees_with_scipy() -> None:
    other = cells(1)
    assert ratio(other) == pytest.approx(reference(other) / reference(REAL), rel=0.02)  # OpenCV's kernels are shorter


def test_an_image_is_as_sharp_as_itself() -> None:
    assert ratio(REAL) == 1
    assert ratio(REAL[:, ::-1], REAL[:, ::-1]) == 1


def test_shrunk_and_enlarged_is_blurred_though_it_may_score_better() -> None:
    """arptidec5's way back to full size, on a neighbouring section: other cells, the same tissue."""
    neighbour = np.roll(REAL, (3, 2), (0, 1))
    small = cv2.resize(neighbour, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC)
    assert ratio(blurred) < BLURRED < ratio(neighbour)
    sharp_pair, blurred_pair = ImagePair(REAL, neighbour), ImagePair(REAL, blurred)
    assert ssim(blurred_pair) > ssim(sharp_pair)
    assert psnr(blurred_pair) > psnr(sharp_pair)


def test_more_blur_is_less_sharp() -> None:
    ratios = [ratio(cv2.GaussianBlur(REAL, (0, 0), sigma)) for sigma in (0.5, 1, 2, 3)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[1] < 0.6
    assert ratios[2] < 0.25


def test_what_is_no_blur() -> None:
    paler = 255 - (255 - REAL.astype(float)) / 2
    noisy = np.clip(REAL + np.random.default_rng(0).normal(0, 4, REAL.shape), 0, 255)
    coded = cv2.imdecode(cv2.imencode(".jpg", REAL, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    for image in (paler, noisy, coded, REAL[..., ::-1]):
        assert 0.8 < ratio(image.astype(np.uint8)) < 1.25


def test_grain_on_an_almost_flat_image_is_no_sharpness() -> None:
    """What an untrained network answers: grey with a faint chequered pattern."""
    flat = np.full_like(REAL, 150)
    flat[::2, ::2] += 4
    assert ratio(flat) < 0.1
    faint = 150 + (REAL.astype(float) - REAL.mean()) / 10
    assert ratio(faint.astype(np.uint8)) < 0.2


def test_flat_images() -> None:
    flat = np.full_like(REAL, 200)
    assert ratio(flat) == 0
    assert ratio(REAL, flat) == math.inf
    assert ratio(flat, flat) == 1
    assert METRICS["sharpness_ratio"].info.infinite_means
