from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import cKDTree
from skimage.color import rgb2hed

from restain.synthetic import SlideRenderer, SynthOptions, World
from restain.synthetic.cells import Kind
from restain.synthetic.optics import draw_look, transmit
from restain.synthetic.stamping import Canvas, draw_bodies, draw_nuclei

LEVEL_3 = 3  # index of a patient with level 3+ in the cohort of seed 0


def _canvas(side: float, mpp: float) -> Canvas:
    axis = (np.arange(int(side / mpp)) + 0.5) * mpp
    x, y = np.meshgrid(axis.astype(np.float32), axis.astype(np.float32))
    return Canvas(x, y, (0.0, 0.0), mpp)


def test_cell_bodies_are_the_voronoi_cells_cut_by_the_section(world_of: Callable[..., World]) -> None:
    cells = world_of(1, 1024).cells(0, 255, 0, 255)
    tumour = cells.take(cells.kind == Kind.TUMOUR)
    round_cells = type(tumour)(**{**vars(tumour), "b": tumour.a})
    canvas = _canvas(200.0, 1.0)
    bodies = draw_bodies(canvas, round_cells, 2.0, 0.0)
    inside = bodies.depth > 0.5
    points = np.stack([canvas.x[inside], canvas.y[inside], np.full(inside.sum(), 2.0)], axis=1)
    tree = cKDTree(np.stack([round_cells.x, round_cells.y, round_cells.z], axis=1))
    distance, nearest = tree.query(points, k=2)
    clear = distance[:, 1] - distance[:, 0] > 0.01
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(bodies.owner[inside][clear], nearest[clear, 0])


def test_nuclei_cover_the_area_the_cell_table_says(world_of: Callable[..., World]) -> None:
    world = world_of(1, 1024)
    cells = world.cells(0, 255, 0, 255)
    alone = cells.take(np.flatnonzero((cells.kind == Kind.TUMOUR) & (cells.section_area(0.0, 4.0) > 20))[:1])
    canvas = _canvas(300.0, 0.25)
    seen = draw_nuclei(canvas, alone, 0.0, 4.0)
    covered = (seen.owner == 0).sum() * 0.25**2
    assert covered == pytest.approx(float(alone.section_area(0.0, 4.0)[0]), rel=0.12)
    row, column = np.argwhere(seen.owner == 0).mean(axis=0)
    assert (column + 0.5) * 0.25 == pytest.approx(float(alone.x[0]), abs=1.0)
    assert (row + 0.5) * 0.25 == pytest.approx(float(alone.y[0]), abs=1.0)


def test_any_piece_of_a_slide_equals_the_whole(world_of: Callable[..., World]) -> None:
    world = world_of(2, 1100)
    whole = SlideRenderer(world, "he").region(700, 800, 400, 300)
    fresh = SlideRenderer(World(world.options, 2), "he")
    for x, y, width, height in ((1040, 1030, 60, 70), (1000, 990, 90, 100)):
        piece = fresh.region(x, y, width, height)
        inside = (slice(y - 800, y - 800 + height), slice(x - 700, x - 700 + width))
        np.testing.assert_array_equal(piece.rgb, whole.rgb[inside])
        np.testing.assert_array_equal(piece.nuclei, whole.nuclei[inside])


@pytest.mark.parametrize("stain", ["he", "ihc"])
def test_blocks_meet_without_a_seam(world_of: Callable[..., World], stain: str) -> None:
    """What a place takes up of the stains does not depend on the block it is rendered in."""
    renderer = SlideRenderer(world_of(LEVEL_3, 1200), stain)
    x, y = (np.arange(-30, 700) + 0.5) * 0.5, (np.arange(100, 500) + 0.5) * 0.5
    whole = renderer._pigments(x, y)
    part = renderer._pigments(x[250:600], y[130:])
    for large, small in zip(whole.stains, part.stains, strict=True):
        difference = np.abs(large[130:, 250:600] - small)
        assert (difference < 0.02).mean() > 0.999
    assert (whole.nuclei[130:, 250:600] == part.nuclei).mean() > 0.999
    assert (whole.membrane[130:, 250:600] == part.membrane).mean() > 0.999


def test_no_step_where_blocks_meet(world_of: Callable[..., World]) -> None:
    rgb = SlideRenderer(world_of(2, 1200), "he").region(824, 300, 376, 700).rgb.astype(np.float64)
    steps = np.abs(np.diff(rgb, axis=1)).mean(axis=(0, 2))
    assert steps[1024 - 824 - 1] < 1.35 * np.median(steps)


def test_same_section_without_deformation_is_an_exact_pair(world_of: Callable[..., World]) -> None:
    world = world_of(LEVEL_3, 512, same_section=True, no_deformation=True)
    he, ihc = (SlideRenderer(world, stain).region(0, 0, 512, 512) for stain in ("he", "ihc"))
    np.testing.assert_array_equal(he.nuclei, ihc.nuclei)
    assert (he.nuclei == Kind.TUMOUR).mean() > 0.02
    neighbour = world_of(LEVEL_3, 512, no_deformation=True)
    other = SlideRenderer(neighbour, "he").region(0, 0, 512, 512)
    assert 0.01 < (other.nuclei != ihc.nuclei).mean() < 0.5


def test_membranes_are_brown_where_the_truth_says_so(world_of: Callable[..., World]) -> None:
    ihc = SlideRenderer(world_of(LEVEL_3, 1024), "ihc").region(0, 0, 1024, 1024)
    white = np.percentile(ihc.rgb.reshape(-1, 3), 99, axis=0)
    dab = rgb2hed(np.clip(ihc.rgb / white, 0, 1))[..., 2]
    stained = [float(np.median(dab[ihc.membrane == level])) for level in range(4)]
    assert stained[0] < stained[2] < stained[3]
    assert stained[3] > 3 * max(stained[0], 0.01)
    assert (dab > (stained[0] + stained[3]) / 2)[ihc.membrane == 3].mean() > 0.8


def test_he_shows_nuclei_where_the_deformation_says(world_of: Callable[..., World]) -> None:
    """Truth against pixels: the world's nuclei, moved by the deformation, are the dark places of the H&E."""
    world = world_of(LEVEL_3, 1024, rotation=8.0)
    he = SlideRenderer(world, "he").region(0, 0, 1024, 1024)
    cells = world.cells(0, 511, 0, 511)
    cells = cells.take((cells.kind == Kind.TUMOUR) & (cells.section_area(world.section("he"), 4.0) > 45))
    place = world.deformation.ihc_to_he_um(np.stack([cells.x, cells.y], axis=1)) / world.options.mpp
    column, row = np.floor(place).astype(int).T
    inside = (column >= 0) & (column < 1024) & (row >= 0) & (row < 1024)
    assert inside.sum() > 50
    assert (he.nuclei[row[inside], column[inside]] == Kind.TUMOUR).mean() > 0.97
    red = he.rgb[..., 0].astype(np.float64)
    tissue = he.rgb.min(axis=2) < 200
    assert red[row[inside], column[inside]].mean() < 0.8 * red[tissue].mean()


def test_beer_lambert(world_of: Callable[..., World]) -> None:
    world = world_of(0, 512)
    staining = draw_look(world.options, world.patient, "ihc").staining
    amounts = [np.full((3, 3), 0.3, dtype=np.float32), np.full((3, 3), 0.7, dtype=np.float32)]
    light = transmit(amounts, staining)
    expected = sum(
        amount[0, 0] * factor * vector
        for amount, factor, vector in zip(amounts, staining.strength, staining.vectors, strict=True)
    )
    np.testing.assert_allclose(-np.log10(light[0, 0]), expected, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(staining.vectors, axis=1), 1.0)


def test_half_of_the_labs_scan_ihc_on_grey(world_of: Callable[..., World]) -> None:
    world = world_of(0, 512)
    labs = [type(world.patient)(**{**vars(world.patient), "lab": lab}) for lab in range(200)]
    grey = [max(draw_look(world.options, patient, "ihc").scanner.white) < 225 for patient in labs]
    assert 0.35 < np.mean(grey) < 0.65


def test_artefacts_appear_when_asked_for() -> None:
    plain = SynthOptions(size=512, folds=0, pen=0, bubbles=0, out_of_focus=0)
    spoilt = SynthOptions(size=512, folds=1, pen=1, bubbles=1, out_of_focus=1)
    pictures = [SlideRenderer(World(options, 5), "he").region(0, 0, 512, 512).rgb for options in (plain, spoilt)]
    assert (np.abs(pictures[0].astype(int) - pictures[1]).max(axis=2) > 20).mean() > 0.02
    assert SlideRenderer(World(spoilt, 5), "he").artefacts.names() == ["fold", "pen", "bubble", "out_of_focus"]


def test_memory_of_a_block_is_bounded() -> None:
    renderer = SlideRenderer(World(SynthOptions(size=4096), 1), "ihc")
    tracemalloc.start()
    renderer.block(2, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 700 * 2**20
