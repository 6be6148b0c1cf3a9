"""Colour deconvolution against scikit-image, optical density against its formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.color import hed2rgb, rgb2hed

from restain.slides import read_image
from restain.stains import RGB_FROM_HED, dab, dab_rgb, hed, optical_density

EVERY_VALUE = np.random.default_rng(0).integers(0, 256, (128, 200, 3)).astype(np.uint8)
EVERY_VALUE[0, :, :] = np.array([0, 1, 254, 255])[np.random.default_rng(1).integers(0, 4, (200, 3))]


def _check(rgb: np.ndarray) -> None:
    expected = rgb2hed(rgb)
    amounts = hed(rgb)
    assert amounts.dtype == np.float32
    assert np.abs(amounts - expected).max() < 1e-6
    assert np.abs(dab(rgb) - expected[..., 2]).max() < 1e-6
    zero = np.zeros_like(expected[..., 0])
    brown = hed2rgb(np.stack([zero, zero, expected[..., 2]], axis=2)) * 255
    assert np.abs(dab_rgb(rgb) - brown).max() < 0.501


def test_amounts_are_scikit_images() -> None:
    _check(EVERY_VALUE)


def test_amounts_are_scikit_images_on_real_ihc(shared: Path) -> None:
    _check(read_image(shared / "data/her2-ihc/00006_test_3+.png"))


def test_views_that_are_not_contiguous_are_fine() -> None:
    np.testing.assert_allclose(hed(EVERY_VALUE[::2, ::-1]), hed(EVERY_VALUE)[::2, ::-1], atol=1e-7)
    np.testing.assert_array_equal(optical_density(EVERY_VALUE[:, ::3]), optical_density(EVERY_VALUE)[:, ::3])


@pytest.mark.parametrize("white", [255, 240, (178, 177, 174), np.array([250, 240, 245], np.uint8)])
def test_optical_density_is_its_formula(white: object) -> None:
    light = np.broadcast_to(np.asarray(white, float), (3,))
    expected = np.maximum(-np.log10(np.maximum(EVERY_VALUE, 1) / light), 0)
    found = optical_density(EVERY_VALUE, white)  # type: ignore[arg-type]
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-6


def test_one_unit_of_stain_is_six_optical_densities() -> None:
    brown = np.array([[[150, 100, 60]]], np.uint8)
    density = optical_density(brown)[0, 0] / 6
    np.testing.assert_allclose(hed(brown)[0, 0] @ RGB_FROM_HED, density, atol=0.02)


@pytest.mark.parametrize("bad", [EVERY_VALUE[..., 0], EVERY_VALUE / 255, EVERY_VALUE[..., :2]])
def test_only_uint8_rgb_is_taken(bad: np.ndarray) -> None:
    for function in (hed, dab, dab_rgb, optical_density):
        with pytest.raises(ValueError, match="uint8"):
            function(bad)


def test_black_is_no_light_to_compare_with() -> None:
    with pytest.raises(ValueError, match="white"):
        optical_density(EVERY_VALUE, 0)
