"""TDKstain's segmentation against scikit-image's own steps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu
from skimage.morphology import dilation, disk

from restain.stains import haematoxylin_mask

_random = np.random.default_rng(5)
_smooth = ndimage.gaussian_filter(_random.random((120, 150)), 3)
_amount = (_smooth - _smooth.min()) / np.ptp(_smooth)
TISSUE = (np.array([245, 240, 242]) - _amount[..., None] * np.array([150, 130, 60])).astype(np.uint8)


def by_hand(rgb: np.ndarray, percentile: float, hole_area: int, connectivity: int, radius: int) -> np.ndarray:
    amount = rgb2hed(rgb)[..., 0]
    low, high = amount.min(), np.percentile(amount, percentile)
    scaled = (np.clip(amount, low, high) - low) / (high - low) * 255
    mask = scaled > threshold_otsu(scaled)
    labels, n = ndimage.label(~mask, np.ones((3, 3)) if connectivity == 2 else None)
    for hole in range(1, n + 1):
        if (labels == hole).sum() < hole_area:
            mask[labels == hole] = True
    return dilation(mask.astype(np.uint8) * 255, disk(radius))


@pytest.mark.parametrize(
    ("percentile", "hole_area", "connectivity", "radius"),
    [(99, 400, 2, 1), (99, 20, 1, 0), (90, 60, 2, 3), (100, 0, 1, 2)],
)
def test_mask_is_its_steps(percentile: float, hole_area: int, connectivity: int, radius: int) -> None:
    found = haematoxylin_mask(TISSUE, percentile, hole_area, connectivity, radius)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, by_hand(TISSUE, percentile, hole_area, connectivity, radius))


@pytest.mark.parametrize("value", [255, 0, 120])
def test_nothing_there_is_nothing(value: int) -> None:
    assert not haematoxylin_mask(np.full((64, 64, 3), value, np.uint8)).any()
