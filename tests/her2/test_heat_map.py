"""The map of attention: colours where they belong, honest about how uneven it is, polygons that end with the slide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from restain.her2.features_file import FeatureSet
from restain.her2.heat_labels import HEAD
from restain.her2.heat_map import concentration, draw, heats, ranks, write_polygons
from restain.slides import Slide, open_slide, write_image

SIDE = 100


def tiles(cells: list[tuple[int, int]], side: float = SIDE) -> FeatureSet:
    coords = np.array(cells, np.int64) * SIDE
    return FeatureSet(np.zeros((len(cells), 1), np.float32), coords, side, 0.5, "morphometry")


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    """800 x 800 px of one pink with dark nuclei every 20 px."""
    rgb = np.full((800, 800, 3), (230, 150, 190), np.uint8)
    for row in range(0, 800, 20):
        rgb[row : row + 6, ::20] = rgb[row : row + 6, 1::20] = rgb[row : row + 6, 2::20] = (60, 30, 90)
    write_image(tmp_path / "he.png", rgb)
    return open_slide(tmp_path / "he.png", mpp=0.5)


def test_ranks() -> None:
    np.testing.assert_allclose(ranks(np.array([0.1, 0.7, 0.1, 0.1])), [1 / 3, 1, 1 / 3, 1 / 3])
    np.testing.assert_allclose(ranks(np.full(7, 1 / 7)), 0.5)
    np.testing.assert_allclose(ranks(np.array([1.0])), [0.5])


def test_concentration() -> None:
    values = np.repeat([3.0, 1.0], [2, 18])  # a tenth of 20 tiles has 6 of 24
    found = concentration(values / values.sum())
    assert (found.top, found.tiles, found.even) == (2, 20, False)
    assert found.share == pytest.approx(6 / 24)
    assert "2 of 20 tiles, with 25% of the attention (evenly: 10%)" in str(found)
    assert concentration(np.full(13, 1 / 13)).even
    assert "nothing" in str(concentration(np.ones(1)))


def test_red_is_looked_at_most_and_tissue_is_seen_through(slide: Slide) -> None:
    cells = [(2, 1), (5, 4), (6, 6)]
    (heat,) = heats([tiles(cells)], np.array([0.1, 0.8, 0.1]))
    picture = draw(heat, "a slide", slide)[HEAD : HEAD + 800].astype(int)
    low, high = (picture[y * SIDE + 30 : y * SIDE + 90, x * SIDE + 30 : x * SIDE + 90] for x, y in cells[:2])
    assert (high[..., 0] > high[..., 2] + 40).all()
    assert (low[..., 2] > low[..., 0]).all()
    outside = picture[450:550, 150:250]
    assert (outside == outside[..., :1]).all()
    assert outside.mean() > max(high.mean(), low.mean())
    for part in (low, high):
        assert part.sum(axis=2).min() < 0.75 * part.sum(axis=2).max()  # nuclei
    assert len(draw(heat, "a slide", slide)) > HEAD + 800 + 200  # the tiles below


def test_where_tiles_overlap_the_one_looked_at_most_is_seen(slide: Slide) -> None:
    found = tiles([(1, 1), (1, 1), (2, 1)], side=200)
    (heat,) = heats([found], np.array([0.7, 0.1, 0.2]))
    picture = draw(heat, "a slide", None).astype(int)[HEAD:]  # 24 px a tile
    assert picture.shape[:2] == (36, 640)
    red = picture[..., 0] > picture[..., 2] + 100
    assert red[13:35, 13:35].all()
    assert not red[:, 37:].any()
    assert not red[:11].any()


def test_even_attention_is_not_made_to_look_sharp(slide: Slide) -> None:
    (heat,) = heats([tiles([(1, 1), (4, 4), (6, 2)])], np.full(3, 1 / 3))
    picture = draw(heat, "a slide", slide)
    assert len(picture) == HEAD + 800
    part = picture[HEAD:].astype(int)
    np.testing.assert_array_equal(part[110:190, 110:190], part[410:490, 410:490])


def test_polygons_are_tiles_that_end_with_the_slide(tmp_path: Path) -> None:
    first, second = tiles([(0, 0), (7, 7)], side=150.5), tiles([(1, 1)])
    heat = heats([first, second], np.array([0.5, 0.2, 0.3]))[0]
    write_polygons(tmp_path / "map.geojson", heat, (800, 780))
    document = json.loads((tmp_path / "map.geojson").read_text())
    assert document["type"] == "FeatureCollection"
    one, two = document["features"]
    assert one["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[0, 0], [150.5, 0], [150.5, 150.5], [0, 150.5], [0, 0]]],
    }
    assert two["geometry"]["coordinates"] == [[[700, 700], [800, 700], [800, 780], [700, 780], [700, 700]]]
    assert [feature["type"] for feature in (one, two)] == ["Feature", "Feature"]
    assert one["properties"]["objectType"] == "detection"
    assert one["properties"]["measurements"] == {"attention": 0.5, "rank": 1}
    assert two["properties"]["measurements"]["rank"] == 0  # of three tiles on two slides
    assert one["properties"]["classification"]["name"] == "Attention rank 90 to 100 %"
    red, _, blue = one["properties"]["classification"]["color"]
    assert red > blue
    write_polygons(tmp_path / "map.geojson", heat)
    whole = json.loads((tmp_path / "map.geojson").read_text())["features"][1]["geometry"]["coordinates"][0]
    assert max(map(max, whole)) == 850.5
