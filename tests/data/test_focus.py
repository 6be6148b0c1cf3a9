"""Sharpness against known blur, on synthetic slides' own defocus and on real images."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from restain.data.focus import focus_reference, sharpness
from restain.data.pairs_config import PairsConfig
from restain.slides import read_image

THRESHOLD = PairsConfig().min_focus


def blurred(rgb: np.ndarray, um: float, mpp: float) -> np.ndarray:
    """What a defocused lens and a noisy sensor leave."""
    noise = np.random.default_rng(0).normal(0, 2, rgb.shape)
    return np.clip(cv2.GaussianBlur(rgb, (0, 0), um / mpp) + noise, 0, 255).astype(np.uint8)


def texture(seed: int = 0) -> np.ndarray:
    """Detail on every scale: noise whose power falls with frequency."""
    rng = np.random.default_rng(seed)
    layers = [cv2.GaussianBlur(rng.normal(0, 1, (256, 256, 3)), (0, 0), sigma) * sigma for sigma in (0.7, 1.5, 3, 6)]
    return np.clip(150 + 40 * sum(layers), 0, 255).astype(np.uint8)


def test_blur_lowers_it_step_by_step() -> None:
    values = [sharpness(blurred(texture(), um, 0.5), 0.5) for um in (0.2, 0.6, 1.0, 1.5, 2.0)]
    assert all(sharper > softer for sharper, softer in itertools.pairwise(values))
    assert values[-1] < THRESHOLD * values[0]


def test_contrast_and_brightness_hardly_matter() -> None:
    rgb = texture()
    pale = (255 - (255 - rgb.astype(np.float64)) * 0.4).round().astype(np.uint8)
    assert sharpness(pale, 0.5) == pytest.approx(sharpness(rgb, 0.5), rel=0.12)


def test_a_picture_without_anything_on_it_is_not_sharp() -> None:
    assert sharpness(np.full((64, 64, 3), 240, np.uint8), 0.5) == 0.0


def test_a_slide_is_compared_with_its_sharp_patches_but_not_with_blur() -> None:
    assert focus_reference([0.1] * 8 + [0.9] * 2) == pytest.approx(0.9)
    assert focus_reference([0.2, 0.2]) == focus_reference([]) == 0.4


def test_real_slides(shared: Path) -> None:
    """Judged as the slide would be: by 256 px patches against the 90th percentile."""
    for path in sorted((shared / "data" / "her2-ihc").glob("*.png"))[::3]:
        rgb = read_image(path)
        patches = [rgb[y : y + 256, x : x + 256] for y in range(0, 1024, 256) for x in range(0, 1024, 256)]
        values = np.array([sharpness(patch, 0.5) for patch in patches])
        reference = focus_reference(values.tolist())
        far = np.array([sharpness(blurred(patch, 1.9, 0.5), 0.5) for patch in patches])
        assert (far / reference < THRESHOLD).mean() > 0.9, path
        assert (values / reference < THRESHOLD).mean() < 0.2, path
