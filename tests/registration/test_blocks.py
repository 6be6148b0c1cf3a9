"""Blocks, blending and composition of displacements."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from restain.registration.blocks import NODE_UM, STRETCH, Box, Lattice, blend, boxes, compose
from restain.registration.elastix import displacement
from restain.registration.transform import Transform

EXTENT = (1000.0, 700.0)


def plain(mpp: float = 2.0) -> Transform:
    size = (round(EXTENT[0] / mpp), round(EXTENT[1] / mpp))
    return Transform(np.eye(3), None, (0.0, 0.0), 1.0, size, size, mpp, mpp)


def field_of(box: Box, lattice: Lattice, values) -> np.ndarray:
    rows, columns = lattice.within(box)
    y, x = np.mgrid[rows, columns] * NODE_UM
    return np.stack(np.broadcast_arrays(*values(x, y)), axis=2).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_blocks_cover_the_slide_and_blend_without_seams(count):
    lattice = Lattice.over(EXTENT)
    assert (lattice.columns - 1) * NODE_UM >= EXTENT[0]

    def smooth(x, y):
        return 3 + 0.01 * x, 2 - 0.02 * y

    parts = [(box, field_of(box, lattice, smooth)) for box in boxes(EXTENT, count)]
    whole = blend(parts, lattice, EXTENT)
    np.testing.assert_allclose(whole, field_of(boxes(EXTENT, 1)[0], lattice, smooth), atol=1e-4)


def test_blocks_that_disagree_are_blended_smoothly():
    lattice = Lattice.over((2000.0, 2000.0))
    parts = []
    for number, box in enumerate(boxes((2000.0, 2000.0), 2)):
        parts.append((box, field_of(box, lattice, lambda x, y, n=number: (10.0 * n + 0 * x, 0 * y))))
    whole = blend(parts, lattice, (2000.0, 2000.0))[..., 0]
    assert whole.min() == pytest.approx(0)
    assert whole.max() == pytest.approx(30)
    # 30 um over two overlaps of 300 um: no step from node to node of more than a few um
    assert max(np.abs(np.diff(whole, axis=0)).max(), np.abs(np.diff(whole, axis=1)).max()) < 5


def test_composition_is_one_map_after_the_other():
    transform, lattice = plain(), Lattice.over(EXTENT)
    box = boxes(EXTENT, 1)[0]
    first = field_of(box, lattice, lambda x, y: (5 + 0 * x, -3 + 0 * y))
    second = field_of(box, lattice, lambda x, y: (0.02 * x, 0.01 * y))
    once, _ = compose(transform, first)
    assert once is not None
    both, smoothed = compose(once, second)
    assert smoothed == 0
    assert both is not None
    points = np.array([[100.0, 50.0], [400.0, 300.0]])  # px of 2 um
    expected = points * [1.02, 1.01] + [2.5, -1.5]
    np.testing.assert_allclose(both.ihc_to_he(points), expected, atol=1e-3)


def test_a_fold_is_smoothed_away_or_refused():
    transform, lattice = plain(), Lattice.over(EXTENT)
    field = np.zeros((lattice.rows, lattice.columns, 2), np.float32)
    field[10:14, 20:22, 0] = 60  # beyond the next node
    folded = Transform(np.eye(3), field / 2, (0.0, 0.0), NODE_UM / 2, (500, 350), (500, 350), 2.0, 2.0)
    assert folded.jacobian().min() < 0
    found, smoothed = compose(transform, field)
    assert found is not None
    assert 0 < smoothed < 0.8
    moved = found.displacement
    assert moved is not None
    np.testing.assert_array_equal(moved[:, 35:], 0)  # far from the fold nothing is touched
    assert found.jacobian().min() > STRETCH[0]
    assert found.jacobian().max() < STRETCH[1]
    x = np.arange(lattice.columns) * NODE_UM
    inverted = np.zeros_like(field)
    inverted[..., 0] = -2 * x  # the slide turned over: no smoothing helps
    assert compose(transform, inverted)[0] is None


def test_elastix_finds_a_known_displacement():
    rng = np.random.default_rng(3)
    big = gaussian_filter(rng.normal(size=(300, 340)), 3).astype(np.float32)
    fixed, moving = big[20:270, 20:310], big[14:264, 29:319]  # moving(p) = fixed(p + (9, -6)); 4 um/px
    everywhere = np.ones(fixed.shape, np.bool_)
    x, y = np.arange(5) * 200.0 + 100, np.arange(4) * 200.0 + 100
    found = displacement(fixed, moving, everywhere, everywhere, 4.0, 400.0, 4, (x, y))
    assert found.shape == (4, 5, 2)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), [-36, 24], atol=2)
    again = displacement(fixed, moving, everywhere, everywhere, 4.0, 400.0, 4, (x, y))
    np.testing.assert_allclose(again, found, atol=0.5)
