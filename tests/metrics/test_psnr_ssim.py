"""PSNR and SSIM against scikit-image and against values worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from restain.core.errors import ItemError
from restain.metrics import ImagePair
from restain.metrics.psnr import psnr
from restain.metrics.ssim import ssim
from restain.slides import read_image

Image = NDArray[np.uint8]


def flat(value: int, side: int = 16) -> Image:
    return np.full((side, side, 3), value, np.uint8)


def reference(real: Image, fake: Image) -> tuple[float, float]:
    return (
        peak_signal_noise_ratio(real, fake, data_range=255),
        structural_similarity(real, fake, channel_axis=-1, data_range=255),
    )


@pytest.mark.parametrize("shape", [(7, 7), (7, 50), (64, 8), (33, 41), (400, 90), (30, 4000)])
@pytest.mark.parametrize("brightness", [(0, 256), (240, 256), (0, 4)])
def test_agrees_with_scikit_image(shape: tuple[int, int], brightness: tuple[int, int]) -> None:
    random = np.random.default_rng(shape[0])
    real = random.integers(*brightness, (*shape, 3), dtype=np.uint8)
    noise = random.integers(-2, 3, real.shape)
    fake = np.clip(real.astype(int) + noise, 0, 255).astype(np.uint8)
    pair = ImagePair(real, fake)
    expected = reference(real, fake)
    assert psnr(pair) == pytest.approx(expected[0], abs=1e-9)
    assert ssim(pair) == pytest.approx(expected[1], abs=1e-6)


def test_agrees_on_unrelated_images_and_views_of_arrays() -> None:
    random = np.random.default_rng(1)
    real = random.integers(0, 256, (120, 140, 3), dtype=np.uint8)[::2, ::-1]
    fake = random.integers(0, 256, (120, 140, 3), dtype=np.uint8)[::2]
    assert ssim(ImagePair(real, fake)) == pytest.approx(reference(real, fake)[1], abs=1e-6)
    assert psnr(ImagePair(real, fake)) == pytest.approx(reference(real, fake)[0], abs=1e-9)


@pytest.mark.parametrize("step", [1, 10, 255])
def test_psnr_of_a_constant_difference(step: int) -> None:
    assert psnr(ImagePair(flat(0), flat(step))) == pytest.approx(20 * math.log10(255 / step))


@pytest.mark.parametrize("side", [500, 1000])
def test_white_against_black_is_0_and_not_below(side: int) -> None:
    """OpenCV's sum is the square of a root, and may be larger than the largest that there is."""
    found = psnr(ImagePair(flat(0, side), flat(255, side)))
    assert found == 0
    assert not math.copysign(1, found) < 0


def test_ssim_of_flat_images_is_their_luminance_term() -> None:
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert ssim(ImagePair(flat(100), flat(150))) == pytest.approx(expected, abs=1e-6)


def test_white_and_black_have_defined_values() -> None:
    c1 = (0.01 * 255) ** 2
    for value in (0, 255):
        assert psnr(ImagePair(flat(value), flat(value))) == math.inf
        assert ssim(ImagePair(flat(value), flat(value))) == 1
    assert psnr(ImagePair(flat(0), flat(255))) == 0
    assert ssim(ImagePair(flat(0), flat(255))) == pytest.approx(c1 / (255**2 + c1), abs=1e-9)


def test_the_images_are_left_as_they_are() -> None:
    random = np.random.default_rng(0)
    real, fake = random.integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)
    before = real.copy(), fake.copy()
    ssim(ImagePair(real, fake))
    assert np.array_equal(real, before[0])
    assert np.array_equal(fake, before[1])


def test_smaller_than_the_window_is_refused_with_both_sizes() -> None:
    image = np.zeros((6, 100, 3), np.uint8)
    with pytest.raises(ItemError, match=r"7x7 px, these have 100x6"):
        ssim(ImagePair(image, image))


def test_real_pair_of_bci(shared: Path) -> None:
    folder = shared / "data" / "bci-pairs"
    real = read_image(folder / "IHC" / "test" / "00820_test_2+.png")
    fake = read_image(folder / "generated" / "00820_test_2+.png")
    pair = ImagePair(real, fake)
    assert round(psnr(pair), 4) == 17.2774
    assert round(ssim(pair), 5) == 0.26601
    assert ssim(pair) == pytest.approx(reference(real, fake)[1], abs=1e-6)
