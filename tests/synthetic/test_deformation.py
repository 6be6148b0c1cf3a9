from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from restain.synthetic.deformation import Deformation, draw_deformation
from restain.synthetic.options import SynthOptions


@pytest.fixture(scope="module")
def warped() -> Deformation:
    return draw_deformation(SynthOptions(size=4000, rotation=25.0, shift=80.0, elastic=12.0), seed=77)


def test_points_come_back(warped: Deformation) -> None:
    points = np.random.default_rng(0).uniform(-200, 4200, size=(500, 2))
    np.testing.assert_allclose(warped.ihc_to_he(warped.he_to_ihc(points)), points, atol=1e-3)
    np.testing.assert_allclose(warped.he_to_ihc(warped.ihc_to_he(points)), points, atol=1e-3)


def test_it_is_more_than_an_affine_map_and_never_folds(warped: Deformation) -> None:
    axis = np.linspace(0, 2000, 60)
    x, y = warped.grid_um(axis, axis)
    step = axis[1] - axis[0]
    xx, xy = np.gradient(x, step, axis=1), np.gradient(x, step, axis=0)
    yx, yy = np.gradient(y, step, axis=1), np.gradient(y, step, axis=0)
    jacobian = xx * yy - xy * yx
    assert 0.6 < jacobian.min() < jacobian.max() < 1.6
    source = np.stack([*np.meshgrid(axis, axis), np.ones((60, 60))], axis=-1).reshape(-1, 3)
    target = np.stack([x, y], axis=-1).reshape(-1, 2)
    fitted = source @ np.linalg.lstsq(source, target, rcond=None)[0]
    assert 2.0 < np.sqrt(((fitted - target) ** 2).sum(axis=1).mean()) < 40.0


def test_the_grid_used_for_rendering_is_the_map(warped: Deformation) -> None:
    x, y = np.arange(300.0, 420.0, 0.5), np.arange(50.0, 120.0, 0.5)
    world_x, world_y = warped.grid_um(x, y)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    exact = warped.he_to_ihc_um(points)
    np.testing.assert_allclose(np.stack([world_x.ravel(), world_y.ravel()], axis=1), exact, atol=0.02)


def test_saved_and_loaded(warped: Deformation, tmp_path: Path) -> None:
    warped.save(tmp_path / "deformation.npz")
    points = np.array([[10.0, 20.0], [1500.0, 3900.5]])
    again = Deformation.load(tmp_path / "deformation.npz")
    np.testing.assert_array_equal(again.he_to_ihc(points), warped.he_to_ihc(points))


def test_without_deformation_points_stay() -> None:
    still = draw_deformation(SynthOptions(size=1000, no_deformation=True), seed=3)
    points = np.random.default_rng(0).uniform(0, 1000, size=(50, 2))
    np.testing.assert_allclose(still.he_to_ihc(points), points, atol=1e-9)
