"""Fréchet distance and MMD against SciPy and against their formulas."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest
from scipy import linalg

from restain.core.errors import ItemError
from restain.metrics.fid import frechet_distance
from restain.metrics.kid import Kid, squared_mmd


def features(count: int, dimensions: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """Correlated features."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions)) / math.sqrt(dimensions)
    return (random.normal(size=(count, dimensions)) @ mixing + shift).astype(np.float32)


def by_matrix_root(x: np.ndarray, y: np.ndarray) -> float:
    """Heusel 2017, Eq. 6, as it stands."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(first @ second)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first + second) - 2 * np.trace(root).real)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 12), (40, 200, 30), (13, 13, 12), (100, 35, 34)])
def test_frechet_distance_is_that_of_the_matrix_root(n: int, m: int, d: int) -> None:
    x, y = features(n, d), features(m, d, seed=1, shift=0.3)
    assert frechet_distance(x, y) == pytest.approx(by_matrix_root(x, y), rel=1e-6)
    assert frechet_distance(y, x) == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_frechet_distance_of_known_normal_distributions() -> None:
    """Diagonal covariances a^2 and b^2: |m|^2 + sum (a - b)^2."""
    signs = np.array(list(product((-1.0, 1.0), repeat=3)))
    scale = math.sqrt(7 / 8)  # so that the sample variance of +-1 is 1
    a, b, shift = np.array([1.0, 2, 3]), np.array([2.0, 2, 0.5]), np.array([0.5, -1, 2])
    expected = (shift**2).sum() + ((a - b) ** 2).sum()
    assert frechet_distance(signs * a * scale, signs * b * scale + shift) == pytest.approx(expected, rel=1e-12)


def test_fewer_images_than_dimensions_is_exact_and_finite() -> None:
    """In 40 dimensions of which 5 vary the distance is that of the 5."""
    x, y = features(9, 5), features(7, 5, seed=1, shift=1)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0][:5]
    few = frechet_distance(x.astype(np.float64) @ turned, y.astype(np.float64) @ turned)
    assert few == pytest.approx(by_matrix_root(x, y), rel=1e-6)
    wide, other = features(10, 2048), features(12, 2048, seed=1)
    assert math.isfinite(frechet_distance(wide, other))
    assert frechet_distance(wide, other) > 0
    assert frechet_distance(wide, wide) == pytest.approx(0, abs=1e-6)


def test_one_image_has_no_spread() -> None:
    x, y = features(1, 8), features(1, 8, seed=1)
    assert frechet_distance(x, y) == pytest.approx(((x.astype(float) - y) ** 2).sum(), rel=1e-6)
    many = features(30, 8, seed=2)
    spread = np.trace(np.cov(many.astype(float), rowvar=False))
    expected = ((x[0].astype(float) - many.mean(0, dtype=float)) ** 2).sum() + spread
    assert frechet_distance(x, many) == pytest.approx(expected, rel=1e-6)


def test_further_away_is_more() -> None:
    x = features(60, 20)
    assert frechet_distance(x, x.copy()) < 1e-9
    for metric in (frechet_distance, squared_mmd):
        values = [metric(x, features(60, 20, seed=1, shift=shift)) for shift in (0, 0.5, 1, 2)]
        assert values == sorted(values)


def test_mmd_is_its_formula() -> None:
    x, y = features(6, 4), features(5, 4, seed=1)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / 4 + 0.5) ** 2

    within = [np.mean([kernel(a, b) for a, b in permutations(z, 2)]) for z in (x, y)]
    across = np.mean([kernel(a, b) for a, b in product(x, y)])
    assert squared_mmd(x, y, degree=2, coefficient=0.5) == pytest.approx(sum(within) - 2 * across)


def kid(real: np.ndarray, fake: np.ndarray) -> float:
    return Kid.distance(Kid.__new__(Kid), real, fake)


def test_kid_is_unbiased_where_fid_is_not() -> None:
    same = [kid(features(40, 16, seed), features(40, 16, seed + 100)) for seed in range(12)]
    assert abs(np.mean(same)) < 2 * np.std(same)
    assert min(same) < 0 < max(same)
    assert min(frechet_distance(features(40, 16, s), features(40, 16, s + 100)) for s in range(12)) > 0.5


def test_kid_repeats_and_takes_subsets() -> None:
    x, y = features(300, 8), features(250, 8, seed=1, shift=0.5)
    assert kid(x, y) == kid(x.copy(), y.copy())
    assert kid(x, y) == pytest.approx(squared_mmd(x, y), rel=0.2)
    few = features(20, 8, seed=1, shift=0.5)
    assert kid(x[:20], few) == pytest.approx(squared_mmd(x[:20], few)), "every subset is the whole set"


def test_kid_of_one_image_is_refused() -> None:
    with pytest.raises(ItemError, match="at least 2 images of each kind, there are 5 and 1"):
        kid(features(5, 8), features(1, 8))
