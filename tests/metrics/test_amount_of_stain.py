"""Correlation, divergence and integrated density of DAB against SciPy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from skimage.color import rgb2hed

from restain.metrics import ImagePair
from restain.metrics.dab_kl import BINS, TOP, dab_kl
from restain.metrics.dab_map import LARGEST
from restain.metrics.dab_pearson import dab_pearson
from restain.metrics.iod_error import iod_error

SHAPE = (40, 50, 3)
METRICS = (dab_pearson, dab_kl, iod_error)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, SHAPE, dtype=np.uint8)


def flat(*colour: int) -> np.ndarray:
    return np.full(SHAPE, colour, np.uint8)


def test_agree_with_scipy_on_scikit_images_dab() -> None:
    real, fake = noise(0), np.clip(noise(0) * 0.7 + noise(1) * 0.3, 1, 255).astype(np.uint8)
    pair = ImagePair(real, fake)
    x, y = (rgb2hed(image)[..., 2].ravel() for image in (real, fake))
    assert dab_pearson(pair) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-5)
    p, q = (np.histogram(values, BINS, (0, TOP))[0] + 1 for values in (x, y))
    assert dab_kl(pair) == pytest.approx(stats.entropy(p, q), abs=1e-3)
    assert iod_error(pair) == pytest.approx(abs(y.sum() - x.sum()) / x.size, abs=1e-6)


def test_every_dab_lies_in_a_bin() -> None:
    assert LARGEST < TOP


def test_stain_elsewhere_is_seen_by_the_correlation_alone() -> None:
    real = noise(0)
    pair = ImagePair(real, np.ascontiguousarray(real[::-1]))
    assert abs(dab_pearson(pair)) < 0.1
    assert dab_kl(pair) == pytest.approx(0, abs=1e-12)
    assert iod_error(pair) == pytest.approx(0, abs=1e-9)


def test_less_stain_is_seen_by_the_others_alone() -> None:
    """Half of the optical density everywhere: the same pattern."""
    brown = np.array([0.268, 0.570, 0.776])  # DAB's absorption of R, G and B (Ruifrok 2001)
    amount = np.random.default_rng(0).uniform(0.1, 1, (*SHAPE[:2], 1))
    real, fake = (np.rint(255 * np.exp(-strength * amount * brown)).astype(np.uint8) for strength in (2, 1))
    pair = ImagePair(real, fake)
    assert dab_pearson(pair) > 0.99
    assert iod_error(pair) == pytest.approx(pair.dab_real.mean() / 2, rel=0.02)
    assert dab_kl(pair) > 0.5


def test_flat_images_have_defined_values() -> None:
    white, black, textured = flat(255, 255, 255), flat(0, 0, 0), noise(0)
    assert [metric(ImagePair(white, white)) for metric in METRICS] == [1, 0, 0]
    assert [metric(ImagePair(black, black)) for metric in METRICS] == [1, 0, 0]
    assert dab_pearson(ImagePair(white, black)) == 0
    assert dab_pearson(ImagePair(white, textured)) == dab_pearson(ImagePair(textured, black)) == 0
    pixels = SHAPE[0] * SHAPE[1]
    a, b = (pixels + 1) / (pixels + BINS), 1 / (pixels + BINS)
    assert dab_kl(ImagePair(white, black)) == pytest.approx((a - b) * math.log(a / b))
    assert iod_error(ImagePair(white, black)) == pytest.approx(rgb2hed(flat(1, 1, 1))[0, 0, 2], abs=1e-6)
