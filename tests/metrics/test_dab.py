"""The DAB metrics against scikit-image's colour deconvolution."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2hed

from restain.metrics import ImagePair
from restain.metrics.dab_map import LARGEST, dab_map
from restain.metrics.dab_mean import dab_mean_fake, dab_mean_real
from restain.metrics.dab_od_error import dab_od_error


def flat(*colour: int) -> np.ndarray:
    return np.full((12, 10, 3), colour, np.uint8)


def test_agrees_with_scikit_image() -> None:
    random = np.random.default_rng(0)
    real, fake = random.integers(1, 256, (2, 40, 50, 3), dtype=np.uint8)
    real_dab, fake_dab = (rgb2hed(image)[..., 2] for image in (real, fake))
    pair = ImagePair(real, fake)
    assert dab_od_error(pair) == pytest.approx(np.abs(fake_dab - real_dab).mean(), abs=1e-6)
    assert dab_mean_real(pair) == pytest.approx(real_dab.mean(), abs=1e-6)
    assert dab_mean_fake(pair) == pytest.approx(fake_dab.mean(), abs=1e-6)


def test_zero_counts_as_one() -> None:
    assert np.array_equal(dab_map(flat(90, 40, 0)), dab_map(flat(90, 40, 1)))


def test_white_and_black() -> None:
    white, black = flat(255, 255, 255), flat(0, 0, 0)
    assert dab_od_error(ImagePair(white, white)) == 0
    assert dab_od_error(ImagePair(black, black)) == 0
    assert dab_mean_real(ImagePair(white, black)) == 0
    expected = rgb2hed(flat(1, 1, 1))[0, 0, 2]
    assert dab_od_error(ImagePair(white, black)) == pytest.approx(expected, abs=1e-6)


def test_no_colour_exceeds_the_range() -> None:
    corners = np.array(np.meshgrid(*[[0, 1, 128, 255]] * 3), np.uint8).reshape(3, 8, 8).transpose(1, 2, 0)
    assert LARGEST - 1e-3 < dab_map(np.ascontiguousarray(corners)).max() <= LARGEST


def test_more_brown_is_more_error() -> None:
    real = flat(235, 230, 225)
    errors = [dab_od_error(ImagePair(real, flat(*brown))) for brown in ((210, 190, 160), (170, 120, 70), (90, 50, 20))]
    assert errors == sorted(errors)
    assert errors[0] > 0
