"""Cells of painted fields, whose densities are known: measured, counted and classed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from restain.core.errors import RestainError
from restain.stains.her2_cells import Cells, haematoxylin_vector, measure_cells, nuclear_colour, optical_density_at
from restain.stains.her2_classes import Why, classify

from ..her2_field import HAEMATOXYLIN, RADIUS, paint


def at(cells: Cells, centres: np.ndarray) -> np.ndarray:
    """The cell nearest to each painted centre; every one must have been found within 2 um."""
    distance, index = cKDTree(np.column_stack([cells.x, cells.y])).query(centres)
    assert distance.max() * 0.5 < 2
    return np.asarray(index)


def steps(rows: int = 10) -> np.ndarray:
    density = np.zeros((rows, 9))
    density[:, 3:6], density[:, 6:] = 0.3, 1.1
    return density


@pytest.mark.parametrize("white", [(250, 248, 244), (176, 174, 170)])
def test_density_does_not_depend_on_the_glass(white: tuple[int, int, int]) -> None:
    rgb, centres = paint(steps(), white)
    cells = measure_cells(rgb, 0.5)
    level = cells.level[at(cells, centres)].reshape(10, 9)
    assert abs(np.median(level[:, :3])) < 0.02
    assert np.median(level[:, 3:6]) == pytest.approx(0.3, abs=0.04)  # read through .5 um of blur
    assert np.median(level[:, 6:]) == pytest.approx(1.1, abs=0.15)


def test_a_membrane_is_found_where_it_is_and_is_complete() -> None:
    rgb, centres = paint(steps())
    cells = measure_cells(rgb, 0.5)
    dark = at(cells, centres).reshape(10, 9)[:, 6:].ravel()
    assert np.abs(cells.course[dark] - RADIUS).mean() < 0.5
    classes = classify(cells, 0.5)
    assert np.median(classes.completeness[dark]) == 1
    assert (classes.membrane[dark] == 3).all()


def test_classes_follow_density() -> None:
    rgb, centres = paint(steps())
    cells = measure_cells(rgb, 0.5)
    membrane = classify(cells, 0.5).membrane[at(cells, centres)].reshape(10, 9)
    assert [np.median(membrane[:, part]) for part in (slice(3), slice(3, 6), slice(6, 9))] == [0, 2, 3]


def test_half_a_membrane_is_half_complete_and_not_complete() -> None:
    density = np.full((10, 10), 0.25)
    density[:, :4] = 0
    rgb, centres = paint(density, share=0.5)
    cells = measure_cells(rgb, 0.5)
    classes = classify(cells, 0.5)
    stained = at(cells, centres).reshape(10, 10)[:, 4:].ravel()
    # a little more than half: the ends of the stretch are blurred
    assert 0.45 < np.median(classes.completeness[stained]) < 0.7
    assert (classes.membrane[stained] == 1).mean() > 0.9


def test_brown_cytoplasm_is_no_membrane() -> None:
    density = np.zeros((10, 10))
    rgb, centres = paint(density, cytoplasm=0.0)
    filled, _ = paint(density, cytoplasm=0.06)
    for picture in (rgb, filled):  # the same in every cell: the slide's own unstained level
        cells = measure_cells(picture, 0.5)
        membrane = classify(cells, 0.5).membrane[at(cells, centres)]
        assert (membrane == 0).mean() > 0.9


def test_a_dark_counterstain_is_no_dab() -> None:
    rgb, centres = paint(np.zeros((8, 8)))
    dark = np.clip(244.0 * (rgb / 244.0) ** 3, 0, 255).astype(np.uint8)  # three times the density
    cells = measure_cells(dark, 0.5)
    assert np.abs(cells.level[at(cells, centres)]).max() < 0.06


def test_haematoxylin_is_estimated() -> None:
    rgb, _ = paint(np.zeros((8, 8)))
    white = np.array([244, 242, 238], np.uint8)
    found = haematoxylin_vector([nuclear_colour(optical_density_at(rgb, 0.5, white))])
    assert float(found @ HAEMATOXYLIN) / np.linalg.norm(HAEMATOXYLIN) > 0.995


def test_few_nuclei_say_nothing_about_haematoxylin() -> None:
    blank = np.full((100, 100, 3), 240, np.uint8)
    found = haematoxylin_vector([nuclear_colour(optical_density_at(blank, 0.5, blank[0, 0]))])
    assert np.linalg.norm(found) == pytest.approx(1)


@pytest.mark.parametrize("mpp", [0.25, 0.46, 0.8])
def test_positions_are_the_images_own_pixels(mpp: float) -> None:
    rgb, centres = paint(np.full((6, 6), 0.8), mpp=mpp)
    cells = measure_cells(rgb, mpp)
    distance, _ = cKDTree(np.column_stack([cells.x, cells.y])).query(centres)
    assert np.median(distance) * mpp < 0.6


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("side", [1, 7, 200])
def test_plain_images_have_no_cells(value: int, side: int) -> None:
    cells = measure_cells(np.full((side, side, 3), value, np.uint8), 0.5)
    assert len(cells) == 0
    classes = classify(cells, 0.5)
    assert classes.percent() is None
    assert np.isfinite(classes.unstained)


@pytest.mark.parametrize("mpp", [0.01, 1.5, 40])
def test_a_resolution_without_membranes_is_refused(mpp: float) -> None:
    with pytest.raises(RestainError, match="um/px"):
        measure_cells(np.full((50, 50, 3), 240, np.uint8), mpp)


def test_a_cell_beside_a_dark_nest_is_not_counted() -> None:
    rgb, centres = paint(steps())
    cells = measure_cells(rgb, 0.5)
    chosen = at(cells, centres)[:3]
    membrane = cells.membrane.copy()
    membrane[chosen] = np.where(np.arange(membrane.shape[1]) < 10, 1.0, 0.0)
    classes = classify(replace(cells, membrane=membrane), 0.5)
    assert not (classes.counted[chosen]).any()


def test_one_nucleus_marked_twice_counts_once() -> None:
    rgb, _ = paint(np.full((8, 8), 0.4))
    cells = measure_cells(rgb, 0.5)
    double = Cells.joined([cells, replace(cells, x=cells.x + 1)])
    once, twice = (classify(table, 0.5) for table in (cells, double))
    assert (twice.why == Why.SAME_NUCLEUS).sum() >= once.counted.sum() * 0.9


@pytest.mark.parametrize(("lower", "upper", "expected"), [(0.3, 0.8, [2, 3]), (0.3, 0.52, [2, 2]), (0.3, 1.3, [2, 3])])
def test_intense_begins_at_the_gap_between_a_slides_two_groups(lower: float, upper: float, expected: list[int]) -> None:
    density = np.zeros((14, 14))
    density[:, 4:9], density[:, 9:] = lower, upper
    rgb, centres = paint(density)
    cells = measure_cells(rgb, 0.5)
    membrane = classify(cells, 0.5).membrane[at(cells, centres)].reshape(14, 14)
    assert [np.median(membrane[:, 4:9]), np.median(membrane[:, 9:])] == expected


@pytest.mark.parametrize(("density", "expected"), [(0.3, 2), (0.5, 2), (1.2, 3)])
def test_a_field_in_which_every_cell_is_stained_alike(density: float, expected: int) -> None:
    rgb, centres = paint(np.full((12, 12), density))
    cells = measure_cells(rgb, 0.5)
    membrane = classify(cells, 0.5).membrane[at(cells, centres)]
    assert (membrane == expected).mean() > 0.9
