"""The best constant image against trying all constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from restain.core.errors import ItemError
from restain.evaluate import best_constant
from restain.evaluate.reference import RESOLUTION, dab_histogram
from restain.metrics import ImagePair
from restain.metrics.dab_map import dab_map
from restain.metrics.dab_od_error import dab_od_error


def test_no_constant_is_better(image: Callable[..., np.ndarray]) -> None:
    images = [image(1, 0.1), image(2, 0.5, side=40), image(3, 0.9, side=16)]
    best = best_constant(images)
    maps = [dab_map(item) for item in images]
    constants = np.linspace(0, 0.4, 4001)
    errors = [np.mean([np.abs(values - constant).mean() for values in maps]) for constant in constants]
    assert best.mean_error <= min(errors) + 0.5 / RESOLUTION
    assert best.mean_error == pytest.approx(min(errors), abs=1e-5)
    assert best.mean_error == pytest.approx(np.mean([np.abs(values - best.dab).mean() for values in maps]), abs=1e-7)


def test_no_constant_colour_is_better(image: Callable[..., np.ndarray]) -> None:
    images = [image(seed, brown) for seed, brown in enumerate((0.2, 0.4, 0.6))]
    best = best_constant(iter(images)).mean_error
    for colour in ((255, 255, 255), (220, 200, 180), (190, 160, 130), (170, 140, 110), (120, 70, 30)):
        fake = np.full_like(images[0], colour)
        assert best < np.mean([dab_od_error(ImagePair(real, fake)) for real in images])


def test_white_images_have_an_error_of_zero() -> None:
    best = best_constant([np.full((8, 8, 3), 255, np.uint8)] * 3)
    assert best.dab == 0
    assert best.errors.tolist() == [0, 0, 0]


def test_error_of_a_histogram_is_exact_on_bin_edges(image: Callable[..., np.ndarray]) -> None:
    values = dab_map(image(0))
    histogram = dab_histogram(values)
    for edge in (0, 100, 400, 1600):
        constant = edge / RESOLUTION
        assert histogram.error(constant) == pytest.approx(np.abs(values.astype(float) - constant).mean(), abs=1e-9)


def test_no_images() -> None:
    with pytest.raises(ItemError, match="at least one"):
        best_constant([])
