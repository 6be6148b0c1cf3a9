"""Rays, outlines and the membrane's course against figures whose geometry is known."""

from __future__ import annotations

import numpy as np
import pytest

from restain.stains.her2_membrane import (
    ANGLES,
    RADII,
    RAYS,
    membrane_course,
    neighbours,
    nucleus_outline,
    own_side,
    polar,
    shape,
)


def test_rays_read_a_plane_where_it_is() -> None:
    row, column = np.indices((80, 90)) + 0.5
    planes = np.dstack([column, row]).astype(np.float32)
    found = polar(planes, np.array([[40.0, 35.0], [50.0, 44.0]]), 0.5)
    reach = RADII <= 12
    x = 40 + np.cos(ANGLES)[:, None] * RADII / 0.5
    y = 35 + np.sin(ANGLES)[:, None] * RADII / 0.5
    assert found.shape == (2, RAYS, len(RADII), 2)
    # OpenCV's bilinear weights have five bits
    assert np.abs(found[0, :, reach, 0] - x[:, reach].T).max() < 0.05
    assert np.abs(found[0, :, reach, 1] - y[:, reach].T).max() < 0.05


@pytest.mark.parametrize(("a", "b"), [(4.0, 4.0), (6.0, 3.0), (5.0, 4.0)])
def test_outline_area_and_elongation_of_an_ellipse(a: float, b: float) -> None:
    edge = a * b / np.hypot(b * np.cos(ANGLES - 0.4), a * np.sin(ANGLES - 0.4))
    inside = (RADII[None] < edge[:, None]).astype(np.float32)
    outline, core, around = nucleus_outline(0.3 * inside[None] + 0.02)
    assert np.abs(outline[0] - edge).mean() < 0.5
    assert core[0] == pytest.approx(0.32)
    assert around[0] == pytest.approx(0.02)
    area, ratio = shape(edge[None].astype(np.float32))
    assert area[0] == pytest.approx(np.pi * a * b, rel=0.01)
    assert ratio[0] == pytest.approx(a / b, rel=0.15)


def test_the_course_follows_a_ring_and_bridges_its_gap() -> None:
    radius = 5 + 1.5 * np.cos(2 * ANGLES)
    ridge = 0.3 * np.exp(-(((RADII[None] - radius[:, None]) / 0.6) ** 2)).astype(np.float32)
    ridge[10:14] = 0  # a stretch that is not stained
    # a darker membrane further out is the neighbour's
    ridge += 0.9 * np.exp(-(((RADII[None] - 10) / 0.6) ** 2))
    own = np.broadcast_to((RADII >= 2) & (RADII <= 8), ridge.shape)
    course = membrane_course(ridge[None].astype(np.float32), own[None])[0]
    assert np.abs(RADII[course] - radius).max() < 1.2
    steps = np.abs(np.diff(np.append(course, course[0])))
    assert steps.max() <= 1


def test_a_cell_looks_no_further_than_its_own_side() -> None:
    centres = np.array([[20.0, 20.0], [40.0, 20.0]])  # 10 um apart at .5 um/px
    own = own_side(centres, neighbours(centres), 0.5)
    assert RADII[own[0, 0]].max() == pytest.approx(5 + 1.5, abs=0.51)
    assert own[0, RAYS // 2, -1]
    assert not own[:, :, RADII < 2].any()


def test_a_cell_on_its_own_has_no_neighbour() -> None:
    assert np.isinf(neighbours(np.array([[3.0, 4.0]]))).all()
