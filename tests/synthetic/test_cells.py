from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import cKDTree

from restain.synthetic import SynthOptions, World
from restain.synthetic.cells import BLOCK, Kind, concatenate
from restain.synthetic.lattice import Box, relaxed_lattice
from restain.synthetic.patient import draw_level, draw_patient


def test_lattice_points_do_not_depend_on_the_box_and_keep_their_distance() -> None:
    spacing = (10.0, 10.0, 10.0)
    whole = relaxed_lattice(4, spacing, Box(0, 400, 0, 400, 0, 9))
    left = relaxed_lattice(4, spacing, Box(0, 200, 0, 400, 0, 9))
    right = relaxed_lattice(4, spacing, Box(200, 400, 0, 400, 0, 9))
    joined = np.concatenate([left.position, right.position])
    assert {tuple(point) for point in joined} == {tuple(point) for point in whole.position}
    inner = whole.position[((whole.position[:, :2] > 20) & (whole.position[:, :2] < 380)).all(axis=1)]
    nearest = cKDTree(whole.position).query(inner, k=2)[0][:, 1]
    assert np.quantile(nearest, 0.02) > 0.55 * 10.0
    assert nearest.mean() > 0.75 * 10.0


def test_a_block_is_the_same_whatever_was_drawn_before() -> None:
    options = SynthOptions(size=1100)
    first, second = World(options, 2), World(options, 2)
    for column, row in ((1, 1), (0, 1), (0, 0), (1, 0)):
        second.block(column, row)
    for column, row in ((0, 0), (1, 1)):
        for name, values in vars(first.block(column, row)).items():
            np.testing.assert_array_equal(values, getattr(second.block(column, row), name))


def test_ids_are_unique_and_cells_lie_in_their_block(world_of: Callable[..., World]) -> None:
    world = world_of(1, 1024)
    cells = [world.block(column, row) for column in (0, 1) for row in (0, 1)]
    table = concatenate(cells)
    assert len(np.unique(table.id)) == len(table)
    block = world.block(1, 0)
    stray = 8.0
    assert block.x.min() > BLOCK - stray
    assert block.x.max() < 2 * BLOCK + stray


def test_nuclei_have_realistic_sizes_and_densities(world_of: Callable[..., World]) -> None:
    world = world_of(1, 1024)
    cells = world.cells(0, 511, 0, 511)
    area = cells.section_area(0.0, 4.0)
    tumour, lymphocyte = (area[(cells.kind == kind) & (area > 5)] for kind in (Kind.TUMOUR, Kind.LYMPHOCYTE))
    assert 35 < tumour.mean() < 110  # um^2; 6.7 to 12 um across
    assert 15 < lymphocyte.mean() < 35
    assert tumour.std() / tumour.mean() > 0.1


def test_the_outline_of_a_spheroid_in_a_slab(world_of: Callable[..., World]) -> None:
    cells = world_of(1, 1024).block(0, 0)
    area = cells.section_area(0.0, 4.0)
    through = (cells.z > 0) & (cells.z < 4)
    np.testing.assert_allclose(area[through], np.pi * (cells.a * cells.b)[through])
    above = cells.z > 4
    missed = above & (cells.z - cells.c >= 4.0)
    assert (area[missed] == 0).all()
    grazed = above & ~missed
    height = cells.z[grazed] - 4.0
    expected = np.pi * (cells.a * cells.b)[grazed] * (1 - (height / cells.c[grazed]) ** 2)
    np.testing.assert_allclose(area[grazed], expected)


def test_neighbouring_sections_share_only_some_nuclei(world_of: Callable[..., World]) -> None:
    world = world_of(1, 1024)
    cells = world.cells(0, 511, 0, 511)
    lower, upper = (cells.section_area(world.section(stain), 4.0) > 0 for stain in ("ihc", "he"))
    shared = (lower & upper).sum() / lower.sum()
    assert 0.2 < shared < 0.9


@pytest.mark.parametrize("seed", [0, 5])
def test_levels_are_balanced_in_every_run_of_four(seed: int) -> None:
    levels = [draw_level(seed, index) for index in range(40)]
    assert all(sorted(levels[start : start + 4]) == [0, 1, 2, 3] for start in range(0, 40, 4))
    assert len({tuple(levels[start : start + 4]) for start in range(0, 40, 4)}) > 4


def test_lab_and_composition_do_not_follow_the_level_but_morphology_does() -> None:
    options = SynthOptions()
    drawn = [draw_patient(options, index) for index in range(600)]
    level = np.array([patient.level for patient in drawn])

    def correlation(name: str) -> float:
        return float(np.corrcoef(level, [getattr(patient, name) for patient in drawn])[0, 1])

    for name in ("lab", "tumour", "fat", "inflammation", "myxoid", "intensity", "necrotic", "cleft"):
        assert abs(correlation(name)) < 0.12, name
    for name in ("nuclear_radius", "pleomorphism", "vesicular", "solidity"):
        assert 0.45 < correlation(name) < 0.75, name
