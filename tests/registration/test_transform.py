"""The map against SciPy and OpenCV, its inverse, its file, and files that are none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from restain.core.errors import ItemError
from restain.registration import Transform

from .maps import by_scipy, elastic

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 20, 170])
def test_points_go_where_scipy_and_opencv_send_them_and_come_back(degrees: float, mirrored: bool) -> None:
    transform = elastic(degrees=degrees, mirrored=mirrored, mpp=(0.25, 0.5))
    points = RNG.uniform(-150, 850, (500, 2))
    moved = transform.ihc_to_he(points)
    np.testing.assert_allclose(moved, by_scipy(transform, points), atol=1e-6)
    np.testing.assert_allclose(transform.he_to_ihc(moved), points, atol=1e-3)


def test_without_elastic_part_it_is_the_homography() -> None:
    transform = replace(elastic(), displacement=None)
    points = RNG.uniform(0, 600, (50, 2))
    np.testing.assert_allclose(transform.ihc_to_he(points), by_scipy(transform, points), atol=1e-9)
    np.testing.assert_allclose(transform.he_to_ihc(transform.ihc_to_he(points)), points, atol=1e-9)
    assert transform.jacobian().tolist() == [[[1.0] * 4]]
    assert transform.ihc_to_he(np.empty((0, 2))).shape == transform.he_to_ihc(np.empty((0, 2))).shape == (0, 2)


def test_grid_equals_points() -> None:
    transform = elastic(degrees=35)
    for part in (transform, replace(transform, displacement=None)):
        x, y = np.arange(-90, 800, 3.7), np.arange(-80, 700, 2.9)
        across, down = np.meshgrid(x, y)
        found = part.grid(x, y)
        assert found.dtype == np.float32
        wanted = part.ihc_to_he(np.stack([across.ravel(), down.ravel()], axis=1)).reshape(found.shape)
        np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_strong_stretches_are_inverted_and_folds_known(monkeypatch: pytest.MonkeyPatch) -> None:
    steep = np.zeros((3, 6, 2))
    steep[:, :, 0] = [0, 0, 40, 40, 40, 40]  # three times as long between nodes 1 and 2
    transform = Transform(np.eye(3), steep, (0, 0), 20, (100, 100), (100, 100), 0.5, 0.5)
    points = np.stack([np.linspace(1, 60, 200), np.full(200, 20.0)], axis=1)
    np.testing.assert_allclose(transform.he_to_ihc(transform.ihc_to_he(points)), points, atol=1e-3)
    folded = Transform(np.eye(3), -1.6 * steep, (0, 0), 20, (100, 100), (100, 100), 0.5, 0.5)
    assert folded.jacobian().min() < 0
    images = folded.ihc_to_he(points)  # of several places that lie there, one is given
    np.testing.assert_allclose(folded.ihc_to_he(folded.he_to_ihc(images)), images, atol=1e-3)
    monkeypatch.setattr("restain.registration.transform._DAMPED_STEPS", -59)
    with pytest.raises(ItemError, match="no place"):
        transform.he_to_ihc(transform.ihc_to_he(points))


def test_jacobian_is_the_area_of_moved_cells() -> None:
    linear = np.array([[0.1, 0.03], [-0.05, -0.2]])
    nodes = np.stack(np.meshgrid(np.arange(5) * 8.0, np.arange(4) * 8.0), axis=-1)
    transform = Transform(np.eye(3), nodes @ linear.T, (0, 0), 8, (32, 24), (32, 24), 0.5, 0.5)
    assert transform.jacobian().shape == (3, 4, 4)
    np.testing.assert_allclose(transform.jacobian(), np.linalg.det(np.eye(2) + linear), rtol=1e-5)
    # the smallest within a cell: finite differences inside it never come below
    wavy = elastic(amplitude=20)
    field = wavy.displacement
    assert field is not None
    smallest = wavy.jacobian().min(axis=2)
    one_way = replace(wavy, matrix=np.eye(3))
    centre = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2)
    places = (centre + RNG.uniform(0.01, 0.98, centre.shape)) * wavy.spacing + wavy.origin
    h = 1e-3
    right, down = np.array([h, 0]), np.array([0, h])
    dx = (one_way.ihc_to_he(places + right) - one_way.ihc_to_he(places)) / h
    dy = (one_way.ihc_to_he(places + down) - one_way.ihc_to_he(places)) / h
    found = dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]
    cells = centre.astype(int)
    assert (found >= smallest[cells[:, 1], cells[:, 0]] - 1e-4).all()


@pytest.mark.parametrize("name", ["transform.json", "other.json"])
def test_saved_and_loaded_is_the_same(tmp_path: Path, name: str) -> None:
    transform = elastic()
    transform.save(tmp_path / name)
    loaded = Transform.load(tmp_path / name)
    for field in ("origin", "spacing", "he_size", "ihc_size", "he_mpp", "ihc_mpp", "he_name", "ihc_name"):
        assert getattr(loaded, field) == getattr(transform, field)
    np.testing.assert_array_equal(loaded.matrix, transform.matrix)
    np.testing.assert_array_equal(loaded.displacement, transform.displacement)
    assert sorted(path.name for path in tmp_path.iterdir())[0] == ("field.npz" if name[0] == "t" else "other-field.npz")
    replace(transform, displacement=None).save(tmp_path / name)
    assert Transform.load(tmp_path / name).displacement is None


def test_document_says_what_it_is(tmp_path: Path) -> None:
    elastic(mpp=(0.25, 0.5)).save(tmp_path / "transform.json")
    document = json.loads((tmp_path / "transform.json").read_text())
    assert document["format"] == "restain transform"
    assert document["version"] == 1
    assert document["fixed"] == {"slide": "ihc.tif", "size": [700, 600], "mpp": 0.5}
    assert document["moving"] == {"slide": "he.tif", "size": [1400, 1200], "mpp": 0.25}
    assert document["field"]["file"] == "field.npz"
    assert document["field"]["shape"] == [26, 30, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a transform"),
        ({"version": 2}, "version 2"),
        ({"matrix": [[1, 0], [0, 1]]}, "3 x 3"),
        ({"matrix": [[1, 0, 0], [0, 1, 0], [0, "x", 1]]}, "damaged"),
        ({"matrix": [[1, 0, 0], [0, 1, 0], [0, float("nan"), 1]]}, "finite"),
        ({"matrix": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, "invertible"),
        ({"matrix": [[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]]}, "infinity"),
        ({"fixed": {"slide": "a", "size": [0, 5], "mpp": 1}}, "sizes"),
        ({"fixed": {"slide": "a", "size": [5, 5], "mpp": 0}}, "um/px"),
        ({"fixed": {"slide": "a", "size": [5, 5]}}, "no entry 'mpp'"),
        ({"moving": None}, "damaged"),
        ({"field": {"file": "../field.npz"}}, "none"),
        ({"field": {"file": "missing.npz"}}, "missing.npz"),
        ({"field": {"shape": [10**6, 10**6, 2]}}, "too large"),
        ({"field": {"shape": [4, 5, 2]}}, "does not hold"),
        ({"field": {"spacing": 0}}, "grid"),
        ({"field": {"origin": [0, float("inf")]}}, "grid"),
    ],
)
def test_files_that_are_none_are_refused_by_name(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "transform.json"
    elastic().save(path)
    document = json.loads(path.read_text())
    for key, value in change.items():
        if isinstance(value, dict) and key == "field":
            document["field"].update(value)
        else:
            document[key] = value
    path.write_text(json.dumps(document))
    with pytest.raises(ItemError, match=message) as caught:
        Transform.load(path)
    assert str(tmp_path) in str(caught.value)


def test_damaged_fields_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "transform.json"
    transform = elastic()
    field = tmp_path / "field.npz"
    for break_it in (
        lambda: field.write_bytes(field.read_bytes()[:900]),
        lambda: field.write_bytes(b"not a zip"),
        lambda: np.savez(field, other=transform.displacement),
        lambda: np.savez(field, displacement=np.zeros((26, 30, 2), np.int32)),
        lambda: np.savez(field, displacement=np.full((26, 30, 2), np.nan, np.float32)),
        lambda: np.savez(field, displacement=np.array([[[None]]], object)),
    ):
        transform.save(path)
        break_it()
        with pytest.raises(ItemError, match=r"field.npz|transform.json"):
            Transform.load(path)
    path.write_text("[]")
    with pytest.raises(ItemError, match="not a transform"):
        Transform.load(path)
    with pytest.raises(ItemError, match="not a readable JSON"):
        Transform.load(tmp_path / "missing.json")


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="infinity"):
        Transform(np.array([[1, 0, 0], [0, 1, 0], [-0.1, 0, 1]]), None, (0, 0), 1, (9, 9), (99, 9), 1, 1)
    with pytest.raises(ValueError, match="displacement"):
        Transform(np.eye(3), np.zeros((1, 4, 2)), (0, 0), 1, (9, 9), (9, 9), 1, 1)
