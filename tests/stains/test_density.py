"""The density map against a sum of Gaussians, and counts that come back."""

from __future__ import annotations

import numpy as np
import pytest

from restain.stains import DensityScale, count, density_map
from restain.stains.density import COUNT_FULL

NONE = np.zeros((0, 2))


def gaussians(centroids: np.ndarray, size: tuple[int, int], sigma: float) -> np.ndarray:
    """Sum of Gaussians at the middles of the centroids' pixels, far from the edges."""
    x, y = np.arange(size[0]), np.arange(size[1])
    column, row = np.floor(centroids).T[:, :, None]
    across, down = np.exp(-((x - column) ** 2) / 2 / sigma**2), np.exp(-((y - row) ** 2) / 2 / sigma**2)
    return np.einsum("ny,nx->yx", down, across) / (2 * np.pi * sigma**2)


@pytest.mark.parametrize("sigma", [2.0, 5.5])
def test_image_scale_is_min_max(sigma: float) -> None:
    centroids = np.array([[60.2, 40.9], [60.9, 40.1], [90.0, 70.0]])  # two on one pixel
    found = density_map(centroids, (140, 110), sigma)
    expected = gaussians(centroids, (140, 110), sigma)
    assert found.shape == (110, 140)
    assert found.dtype == np.uint8
    assert np.abs(found - 255 * expected / expected.max()).max() < 1.5
    assert found[40, 60] == 255


def test_edge_weighs_more_in_the_image_scale_only() -> None:
    corner, middle = np.array([[0.0, 30.0]]), np.array([[30.0, 30.0]])
    both = np.concatenate([corner, middle])
    as_released = density_map(both, (61, 61), 4)
    assert as_released[30, 0] == 255
    assert as_released[30, 30] < 140
    counted = density_map(both, (61, 61), 4, DensityScale.count)
    assert count(counted, 4) == pytest.approx(2, abs=0.06)


@pytest.mark.parametrize("scale", list(DensityScale))
def test_no_nuclei_is_zero(scale: DensityScale) -> None:
    assert not density_map(NONE, (50, 40), scale=scale).any()


def test_counts_come_back() -> None:
    random = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(8, 250, 16.0), np.arange(8, 190, 16.0))
    grid = np.stack([x.ravel(), y.ravel()], 1)
    for kept in (1, 20, len(grid)):
        chosen = grid[random.permutation(len(grid))[:kept]]
        found = density_map(chosen, (256, 192), scale=DensityScale.count)
        assert count(found) == pytest.approx(kept, rel=0.02, abs=0.1)


def test_count_scale_is_absolute() -> None:
    one = density_map(np.array([[50.0, 50.0]]), (101, 101), scale=DensityScale.count)
    assert one.max() == round(255 / COUNT_FULL)
    many = density_map(np.full((20, 2), 50.0), (101, 101), scale=DensityScale.count)
    assert many.max() == 255  # 20 on one spot are more than full scale


@pytest.mark.parametrize("outside", [[-0.1, 5.0], [5.0, 40.0], [50.0, 5.0]])
def test_outside_is_refused(outside: list[float]) -> None:
    with pytest.raises(ValueError, match="outside"):
        density_map(np.array([outside]), (50, 40))


def test_sigma_must_be_above_0() -> None:
    with pytest.raises(ValueError, match="sigma"):
        density_map(NONE, (5, 5), sigma=0)
