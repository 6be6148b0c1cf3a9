"""What overlays are made of: GeoJSON and tables from anywhere, what is kept, drawing without seams."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from restain.core.errors import ItemError, UnreadableImageError
from restain.web.overlays import geojson, overview, tables
from restain.web.overlays.base import Tile
from restain.web.overlays.canvas import Canvas, encode
from restain.web.overlays.geojson import read_geojson
from restain.web.overlays.grid import spacing_um
from restain.web.overlays.kept import Kept
from restain.web.overlays.shapes import Shapes
from restain.web.overlays.tables import read_cells, read_patches
from restain.web.overlays.vector import Style, draw

RED, BLUE = (215, 25, 30), (70, 130, 235)


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def feature(ring: Any, **more: Any) -> dict[str, Any]:
    properties = {"classification": {"name": "HER2 3+", "color": list(RED)}, **more.pop("properties", {})}
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
        **more,
    }


def written(path: Path, features: list[Any], indent: int | None = None) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}, indent=indent))
    return path


def shapes_of(rings: list[Any], colours: list[tuple[int, int, int]], groups: list[int] | None = None) -> Shapes:
    vertices = np.concatenate([np.asarray(ring, np.float32) for ring in rings])
    starts = np.concatenate([[0], np.cumsum([len(ring) for ring in rings])]).astype(np.int64)
    numbers = np.array(groups if groups is not None else [0] * len(rings), np.uint8)
    return Shapes(vertices, starts, numbers, np.array(colours, np.uint8), ordered=True)


@pytest.mark.parametrize("indent", [None, 2], ids=["one line", "indented"])
def test_geojson_in_any_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None) -> None:
    monkeypatch.setattr(geojson, "_CHUNK", 97)  # a border of two chunks lies everywhere sooner or later
    nucleus = {"nucleusGeometry": {"type": "Polygon", "coordinates": [square(2, 2, 3)]}}
    features = [
        feature(square(0, 0, 10), **nucleus),
        feature(square(20, 5, 4), properties={"classification": {"name": "x", "colorRGB": -16776961}}),
        feature(square(50, 50, 6), properties={"classification": None, "measurements": {"rank": 0.25}}),
        {**feature([]), "geometry": {"type": "MultiPolygon", "coordinates": [[square(1, 1, 2)], [square(9, 9, 1)]]}},
    ]
    found = read_geojson(written(tmp_path / "a.geojson", features, indent))
    assert found.outlines.boxes[:, :2].tolist() == [[0, 0], [20, 5], [50, 50], [1, 1], [9, 9]]
    assert found.outlines.boxes[:, 2:].tolist() == [[10, 10], [24, 9], [56, 56], [3, 3], [10, 10]]
    assert found.outlines.areas.tolist() == [100, 16, 36, 4, 1]
    assert found.nuclei.boxes.tolist() == [[2, 2, 5, 5]]
    colours = found.outlines.palette[found.outlines.group].tolist()
    assert colours[0] == list(RED)
    assert colours[1] == [0, 0, 255]  # -16776961 is 0xff0000ff
    assert np.isnan(found.ranks[[0, 1, 3, 4]]).all()
    assert found.ranks[2] == 0.25
    bare = tmp_path / "bare.geojson"
    bare.write_text(json.dumps(features))  # QuPath also exports a list alone
    assert len(read_geojson(bare).outlines) == 5


def test_features_without_sense_are_passed_over(tmp_path: Path) -> None:
    good = square(3, 3, 5)
    bad: list[Any] = [
        None, 7, "text", [], {}, {"geometry": None}, {"geometry": {"type": "Polygon"}},
        {"geometry": {"type": "Polygon", "coordinates": []}}, {"geometry": {"type": "Polygon", "coordinates": [[]]}},
        {"geometry": {"type": "Point", "coordinates": [1, 2]}},
        feature([[1, 2], [3, 4]]), feature([[1, 2], [3, 4], [5]]), feature([[1, 2], ["a", "b"], [3, 4]]),
        feature([[1, 2], [3, 4], {"x": 1}]), feature([[0, 0], [1e30, 0], [0, 1]]),
        feature([[0, 0], [float("nan"), 0], [0, 1]]),
        feature([[0, 0], [float("inf"), 0], [0, 1]]), feature("abcdef"), feature([[0, 0, 0], [1, 0, 0], [1, 1, 0]]),
    ]  # fmt: skip
    strange = feature(
        good, properties={"classification": {"name": ["x"], "color": ["red", 1e9, None]}, "measurements": 3}
    )
    found = read_geojson(written(tmp_path / "a.geojson", [*bad, strange, *bad]))
    assert found.outlines.boxes.tolist() == [[3, 3, 8, 8]]
    assert len(found.ranks) == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "no json", '{"features": 3}', '{"features": [', '{"features": [{"a": 1}', '{"features": [{"a": }]}',
        '{"features": [' + "[" * 100_000, '{"features": [1 2', '{"features": [' + "9" * 5000 + "]}", "\0\0\0", "[",
    ],
)  # fmt: skip
def test_damaged_geojson_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(ItemError, match=r"a\.geojson"):
        read_geojson(path)


def test_geojson_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.geojson", [feature(square(number, 0, 5)) for number in range(40)])
    with monkeypatch.context() as patch:
        patch.setattr(geojson, "LARGEST_FILE", 1000)
        with pytest.raises(ItemError, match="larger than"):
            read_geojson(path)
    with monkeypatch.context() as patch:
        patch.setattr(geojson, "MOST_VERTICES", 100)
        with pytest.raises(ItemError, match="more than 100 corners"):
            read_geojson(path)
    with monkeypatch.context() as patch:
        patch.setattr(geojson, "_LONGEST_FEATURE", 3000)
        patch.setattr(geojson, "_CHUNK", 100)
        assert len(read_geojson(path).outlines) == 40
        large = feature([[number, number % 7] for number in range(1000)])
        with pytest.raises(ItemError, match="too large"):
            read_geojson(written(tmp_path / "b.geojson", [large]))
    with pytest.raises(ItemError, match=r"missing\.geojson"):
        read_geojson(tmp_path / "missing.geojson")


def test_memory_does_not_hold_the_document(tmp_path: Path) -> None:
    ring = [[round(1000 * number / 7, 1), round(number / 3, 1)] for number in range(40)]
    path = written(tmp_path / "a.geojson", [feature(ring) for _ in range(3000)])
    assert path.stat().st_size > 1.8e6
    tracemalloc.start()
    try:
        found = read_geojson(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.outlines) == 3000
    assert peak < found.nbytes * 2 + 5e6  # json.loads alone takes 17 MB


def test_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = tmp_path / "cells.csv"
    cells.write_text('x,y,why\n1.5,2.5,"a, b"\nnan,3,x\n1e99,1,\nabc,1,\n7\n4,5,ok\n')
    assert read_cells(cells).centres.tolist() == [[1.5, 2.5], [4, 5]]
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(
        "name,side,slide,x,y,mpp,kept,reason\na,,p1,0,0,0.5,1,\nb,,p1,512,0,0.5,0,pen on IHC\nc,,p2,9,9,0.5,1,\n"
        "d,he,p1,3,4,0.5,0,\ne,,p1,x,4,0.5,1,\n"
    )
    (tmp_path / "build.json").write_text('{"settings": {"config": {"size": 512, "aligned": true}}}')
    found = read_patches(pairs, "p1")
    assert found.corners.tolist() == [[0, 0], [512, 0], [3, 4]]
    assert found.um.tolist() == [256, 256, 256]
    assert found.side == ("", "", "he")
    assert found.reason == ("", "pen on IHC", "no reason given")
    assert found.aligned
    (tmp_path / "build.json").write_text('{"settings": {"config": {"size": "many"}}}')
    assert np.isnan(read_patches(pairs, "p1").um).all()
    for text in ("", "a,b\n1,2\n", 'x,y,slide\n"' + "1" * 200_000):
        cells.write_text(text)
        with pytest.raises(ItemError, match=r"cells\.csv"):
            read_cells(cells)
    monkeypatch.setattr(tables, "LARGEST_FILE", 10)
    with pytest.raises(ItemError, match="larger than"):
        read_patches(pairs, "p1")


@dataclass(frozen=True)
class Weight:
    nbytes: int


def test_kept_is_made_once_for_many_at_the_same_time() -> None:
    kept, made, got = Kept(), [], []

    def make() -> Weight:
        made.append(1)
        time.sleep(0.05)
        return Weight(10)

    threads = [threading.Thread(target=lambda: got.append(kept.get("a", make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(got) == 8
    assert all(one is got[0] for one in got)


def test_kept_forgets_what_was_used_least() -> None:
    kept, made = Kept(budget=10_000), []

    def get(name: str, size: int = 4000) -> None:
        kept.get(name, lambda: made.append(name) or Weight(size))  # type: ignore[func-returns-value]

    for name in ("a", "b", "a", "c", "a", "b"):  # c pushes b out
        get(name)
    assert made == ["a", "b", "c", "b"]
    assert kept.nbytes <= 10_000
    get("huge", 99_000)
    get("huge", 99_000)
    assert made.count("huge") == 1


def test_kept_remembers_damage_but_not_mishaps() -> None:
    kept, tries = Kept(), []

    def failing(error: Exception) -> Any:
        def make() -> Weight:
            tries.append(error)
            raise error

        return make

    for error, times in ((ItemError("damaged"), 1), (UnreadableImageError("spoilt"), 3), (OSError("full"), 3)):
        tries.clear()
        for _ in range(3):
            with pytest.raises(type(error)):
                kept.get(str(error), failing(error))
        assert len(tries) == times


@pytest.mark.parametrize("z", [0, 1, 3])
def test_polygons_lie_where_their_coordinates_say(z: int) -> None:
    """Full inside, nothing outside, and in between its middle at the square's; OpenCV widens a square by 0.7 px."""
    scale = 2**z
    x, y, side = 41.3, 77.7, 30.4
    shapes = shapes_of([square(x * scale, y * scale, side * scale)], [RED])
    picture = draw(shapes, Tile(z, 0, 0), Style(fill=(1.0,), edge=0))
    assert picture is not None
    middle = np.arange(256) + 0.5
    inside = [np.minimum(middle - start, start + side - middle) for start in (y, x)]
    depth = np.minimum(inside[0][:, None], inside[1])
    alpha = picture[..., 3] / 255
    assert (alpha[depth > 0.5] == 1).all()
    assert (alpha[depth < -1.5] == 0).all()
    rows, columns = np.indices(alpha.shape) + 0.5
    for start, place in ((x, columns), (y, rows)):
        assert (alpha * place).sum() / alpha.sum() == pytest.approx(start + side / 2, abs=0.1)
    assert np.abs(picture[alpha > 0.3][:, :3].astype(int) - RED).max() <= 8


def test_edges_are_drawn_to_a_part_of_a_pixel() -> None:
    """A line's weighted middle follows its place in steps of a quarter px."""
    for offset in (0.0, 0.25, 0.5, 0.75):
        picture = draw(shapes_of([square(100 + offset, 100, 60)], [RED]), Tile(0, 0, 0), Style(width=1))
        assert picture is not None
        left = picture[130, 90:110, 3].astype(float)
        assert (left * (np.arange(90, 110) + 0.5)).sum() / left.sum() == pytest.approx(100 + offset, abs=0.15)


def scattered(count: int, side: float, extent: float) -> Shapes:
    rng = np.random.default_rng(3)
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    rings = [rng.uniform(0, extent, 2) + circle * side * rng.uniform(0.6, 1.2, (12, 1)) for _ in range(count)]
    return shapes_of(rings, [BLUE, RED], rng.integers(0, 2, count).tolist())


@pytest.mark.parametrize(("side", "count", "z"), [(12, 400, 0), (90, 40, 0), (700, 3, 0), (10, 800, 1), (10, 3000, 3)])
def test_neighbouring_tiles_fit(side: float, count: int, z: int) -> None:
    """2 x 2 tiles side by side equal one picture of all."""
    style = Style(fill=(0.2,), halo=0.5, width=2)
    shapes = scattered(count, side, 512 * 2**z)
    whole = draw(shapes, Tile(z, 0, 0, 512, 512), style)
    assert whole is not None
    parts = [[draw(shapes, Tile(z, x, y), style) for x in (0, 1)] for y in (0, 1)]
    empty = np.zeros((256, 256, 4), np.uint8)
    tiled = np.concatenate([np.concatenate([empty if p is None else p for p in row], 1) for row in parts], 0)
    difference = np.abs(tiled.astype(int) - whole.astype(int)).max(axis=2)
    assert (difference > 8).mean() < 2e-4
    near_seam = difference[:, 250:262].max(), difference[250:262].max()
    assert max(near_seam) <= 40


def test_small_shapes_are_seen_as_colour_from_far() -> None:
    """Cells of a third of a px: a red nest and a blue one, two of each mixed in a third place, nothing elsewhere."""
    across, down = np.meshgrid(np.arange(0, 1600, 24.0), np.arange(0, 1600, 24.0))
    corners = np.stack([across.ravel(), down.ravel()], 1)
    nests = [(corners + offset, group) for offset, group in (((2000, 2000), 1), ((9000, 2000), 0))]
    mixed = corners + np.array([2000, 9000])
    rings = [square(x, y, 22) for places, _ in nests for x, y in places] + [square(x, y, 22) for x, y in mixed]
    groups = [group for places, group in nests for _ in places] + [number % 2 for number in range(len(mixed))]
    shapes = shapes_of(rings, [BLUE, RED], groups)
    picture = draw(shapes, Tile(6, 0, 0), Style(far=0.8))
    assert picture is not None
    place = {"red": (2800, 2800), "blue": (9800, 2800), "mixed": (2800, 9800), "none": (6400, 6400)}
    found = {name: picture[y // 64, x // 64].astype(int) for name, (x, y) in place.items()}
    assert np.abs(found["red"][:3] - RED).max() < 6
    assert np.abs(found["blue"][:3] - BLUE).max() < 6
    assert np.abs(found["mixed"][:3] - (np.array(RED) + BLUE) / 2).max() < 12
    assert found["none"][3] == 0
    assert min(found[name][3] for name in ("red", "blue", "mixed")) > 0.7 * 255


def test_a_single_small_cell_is_pale_from_far() -> None:
    picture = draw(shapes_of([square(4000, 4000, 20)], [RED]), Tile(5, 0, 0), Style(far=0.8))
    assert picture is not None
    assert 5 < picture[..., 3].max() < 100


def test_an_annotation_among_cells_is_drawn_from_far() -> None:
    shapes = shapes_of([square(x, 100, 20) for x in range(100, 3000, 30)] + [square(500, 3000, 3000)], [RED])
    picture = draw(shapes, Tile(5, 0, 0), Style(fill=(0.3,)))
    assert picture is not None
    assert picture[140, 60, 3] == pytest.approx(0.3 * 255, abs=2)


def test_what_covers_everything_many_times_is_drawn_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file made to hold up the server: the largest shapes are drawn, and of a line of many corners some."""
    many: list[int] = []
    outline = Canvas.outline
    monkeypatch.setattr(Canvas, "outline", lambda self, rings, *a: many.append(len(rings)) or outline(self, rings, *a))
    rings = [square(50, 50, 150)] + [square(10 + x / 1000, 10, 20) for x in range(30_000)]
    picture = draw(shapes_of(rings, [RED]), Tile(0, 0, 0), Style())
    assert picture is not None
    assert max(many) == 20_000
    assert picture[100, 50, 3] == 255
    angle = np.linspace(0, 2 * np.pi, 3_000_000, endpoint=False)
    circle = 128 + 100 * np.stack([np.cos(angle), np.sin(angle)], 1)
    picture = draw(shapes_of([circle], [RED]), Tile(0, 0, 0), Style())
    assert picture is not None
    assert (picture[128, 227:230, 3] > 200).any()


def test_png_is_what_was_drawn() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 30, 4), dtype=np.uint8)
    decoded = cv2.imdecode(np.frombuffer(encode(picture), np.uint8), cv2.IMREAD_UNCHANGED)
    assert (cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA) == picture).all()


def test_lines_are_at_round_distances() -> None:
    assert [spacing_um(0.25 * 2**z) for z in range(8)] == [20, 50, 100, 200, 500, 500, 1000, 2000]


def test_a_slide_without_a_pyramid_is_not_read_whole() -> None:
    def slide(levels: list[tuple[int, int]]) -> Any:
        def cost(width: int, height: int, downsample: float) -> int:
            fitting = [w * h for w, h in levels if levels[0][0] / w <= downsample * 1.01]
            return min(fitting)

        return SimpleNamespace(size=levels[0], levels=levels, cost=cost)

    sides = [100_000 // 4**step for step in range(4)]
    assert overview.affordable(slide([(s, s) for s in sides]), 32.0) == pytest.approx(64, rel=0.01)
    assert overview.affordable(slide([(s, s) for s in sides]), 128.0) == 128
    assert overview.affordable(slide([(100_000, 100_000)]), 32.0) is None
    assert overview.affordable(slide([(5000, 5000)]), 9.0) == 9
