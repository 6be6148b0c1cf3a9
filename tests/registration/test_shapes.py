"""CSV points and QuPath's GeoJSON through a transform, and input that is none."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from restain.core.errors import ItemError, RestainError
from restain.registration import Transform, warp_geojson, warp_points_csv
from restain.registration.shapes import LONGEST_EDGE_UM

from .maps import by_scipy, elastic

TRANSFORM = elastic((2000, 1500), degrees=15, mirrored=True, mpp=(0.25, 0.5), amplitude=20)


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_csv_keeps_rows_order_and_other_columns(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(0, 1500, (40, 2)).round(2)
    lines = [f'{i};a,{y},"cell, ""{i}""",{x},,' for i, (x, y) in enumerate(points)]
    (tmp_path / "in.csv").write_text("\ufeffid,y,name,x,,id\r\n" + "\r\n".join(lines), encoding="utf-8")
    moved = warp_points_csv(TRANSFORM, tmp_path / "in.csv", tmp_path / "out" / "out.csv")
    assert (moved.points, moved.outside) == (40, 0)
    header, *table = rows(tmp_path / "out" / "out.csv")
    assert header == ["id", "y", "name", "x", "", "id"]
    assert [(row[0], row[2], row[4:]) for row in table] == [(f"{i};a", f'cell, "{i}"', ["", ""]) for i in range(40)]
    found = np.array([[row[3], row[1]] for row in table], float)
    np.testing.assert_allclose(found, by_scipy(TRANSFORM, points), atol=6e-4)
    warp_points_csv(TRANSFORM, tmp_path / "out" / "out.csv", tmp_path / "back.csv", inverse=True)
    back = np.array([[row[3], row[1]] for row in rows(tmp_path / "back.csv")[1:]], float)
    np.testing.assert_allclose(back, points, atol=3e-3)


def test_csv_empty_cells_and_points_outside(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("x,y,k\n,,a\n-5,7,b\n10,20\n\n5000,5,d\n")
    moved = warp_points_csv(TRANSFORM, tmp_path / "in.csv", tmp_path / "out.csv")
    assert (moved.points, moved.outside) == (3, 2)
    table = rows(tmp_path / "out.csv")
    assert table[1] == ["", "", "a"]
    assert [row[2:] for row in table] == [["k"], ["a"], ["b"], [], ["d"]]
    (tmp_path / "none.csv").write_text("x,y\n")
    assert warp_points_csv(TRANSFORM, tmp_path / "none.csv", tmp_path / "out.csv").points == 0
    assert rows(tmp_path / "out.csv") == [["x", "y"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n1,b\n", r"line 3: y 'b' is not a number"),
        ('x,y,n\n1,2,"two\nlines"\n1,,\n', r"line 4: y '' is not a number"),
        ("x,y\n1,2\n\n1e9,2\n", r"line 4: x '1e9'"),
        ("x,y\nnan,2\n", r"line 2: x 'nan'"),
        ("x,z\n1,2\n", "no column y; it has x, z"),
        ("", "no column x, y; it has no header"),
        ("x,y\n1,\x80\n", "line 2|readable"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "in.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(RestainError, match=message):
        warp_points_csv(TRANSFORM, tmp_path / "in.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_points_beyond_the_horizon_are_refused(tmp_path: Path) -> None:
    matrix = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 4096, 0, 1]])
    tilted = Transform(matrix, None, (0, 0), 1, (100, 100), (100, 100), 0.5, 0.5)
    (tmp_path / "in.csv").write_text("x,y\n1,2\n4096,2\n")
    with pytest.raises(RestainError, match="line 3"):
        warp_points_csv(tilted, tmp_path / "in.csv", tmp_path / "out.csv")
    (tmp_path / "in.json").write_text('{"type": "Point", "coordinates": [4096, 2]}')
    with pytest.raises(RestainError, match="the geometry"):
        warp_geojson(tilted, tmp_path / "in.json", tmp_path / "out.json")


def carried(tmp_path: Path, document: object, transform: Transform = TRANSFORM, inverse: bool = False) -> object:
    (tmp_path / "in.geojson").write_text(json.dumps(document))
    warp_geojson(transform, tmp_path / "in.geojson", tmp_path / "out.geojson", inverse)
    return json.loads((tmp_path / "out.geojson").read_text())


def moved(points: object) -> list:
    return by_scipy(TRANSFORM, np.array(points, float).reshape(-1, 2)).tolist()


BOX = [[100.0, 100.0], [150.0, 100.0], [150.0, 160.0], [100.0, 160.0], [100.0, 100.0]]
HOLE = [[110.0, 110.0], [120.0, 110.0], [120.0, 130.0], [110.0, 110.0]]


def test_every_geometry_of_short_edges(tmp_path: Path) -> None:
    cases = {
        "Point": (BOX[0], lambda out: [out]),
        "MultiPoint": (BOX[:4], lambda out: out),
        "LineString": (BOX[:3], lambda out: out),
        "MultiLineString": ([BOX[:3], HOLE[:2]], lambda out: [*out[0], *out[1]]),
        "Polygon": ([BOX, HOLE], lambda out: [*out[0], *out[1]]),
        "MultiPolygon": ([[BOX], [BOX, HOLE]], lambda out: [*out[0][0], *out[1][0], *out[1][1]]),
    }
    for kind, (coordinates, flat) in cases.items():
        found = carried(tmp_path, {"type": kind, "coordinates": coordinates, "plane": {"z": 1}, "isEllipse": True})
        assert {key: value for key, value in found.items() if key != "coordinates"} == {
            "type": kind,
            "plane": {"z": 1},
        }
        np.testing.assert_allclose(flat(found["coordinates"]), moved(flat(coordinates)), atol=6e-4)
    assert carried(tmp_path, {"type": "Polygon", "coordinates": []})["coordinates"] == []
    assert carried(tmp_path, {"type": "Point", "coordinates": [*BOX[0], 7]})["coordinates"][2] == 7


def test_features_keep_everything_else(tmp_path: Path) -> None:
    cell = {
        "type": "Feature",
        "id": "5b1e",
        "geometry": {"type": "Polygon", "coordinates": [BOX]},
        "nucleusGeometry": {"type": "Polygon", "coordinates": [HOLE]},
        "properties": {
            "objectType": "cell",
            "classification": {"name": "Tumor", "color": [200, 0, 0]},
            "coordinates": [1, 2],
            "measurements": {"Area µm²": float("nan"), "n": 12345678901234567890},
        },
        "bbox": [0, 0, 1, 1],
    }
    empty = {"type": "Feature", "geometry": None, "properties": None}
    group = {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [5, 6]}]}
    collection = {"type": "FeatureCollection", "crs": "x", "features": [cell, empty, {**empty, "geometry": group}]}
    for document in (collection, collection["features"]):
        found = carried(tmp_path, document)
        features = found["features"] if isinstance(found, dict) else found
        assert "bbox" not in features[0]
        assert json.dumps(features[0]["properties"]) == json.dumps(cell["properties"])
        assert features[0]["id"] == "5b1e"
        np.testing.assert_allclose(features[0]["geometry"]["coordinates"][0], moved(BOX), atol=6e-4)
        np.testing.assert_allclose(features[0]["nucleusGeometry"]["coordinates"][0], moved(HOLE), atol=6e-4)
        assert features[1] == empty
        point = features[2]["geometry"]["geometries"][0]["coordinates"]
        np.testing.assert_allclose([point], moved([5, 6]), atol=6e-4)
    assert carried(tmp_path, collection)["crs"] == "x"
    (tmp_path / "in.geojson").write_text(json.dumps(collection))
    count = warp_geojson(TRANSFORM, tmp_path / "in.geojson", tmp_path / "out.geojson")
    assert (count.points, count.outside) == (len(BOX) + len(HOLE) + 1, 0)


def test_long_edges_bend_with_the_tissue_and_rings_stay_closed(tmp_path: Path) -> None:
    ring = [[50.0, 60.0], [1900.0, 60.0], [1900.0, 1400.0], [50.0, 1400.0], [50.0, 60.0]]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    found = np.array(carried(tmp_path, polygon)["coordinates"][0])
    assert found[0].tolist() == found[-1].tolist()
    assert len(found) == 1 + 2 * np.ceil(1850 * 0.5 / LONGEST_EDGE_UM) + 2 * np.ceil(1340 * 0.5 / LONGEST_EDGE_UM)
    # the true outline, densely; corners alone miss it by far more
    dense = np.concatenate([np.linspace(a, b, 400) for a, b in pairwise(ring)])
    outline = by_scipy(TRANSFORM, dense)

    def farthest(corners: np.ndarray) -> float:
        line = corners.astype(np.float32)[:, None]
        return max(abs(cv2.pointPolygonTest(line, (float(x), float(y)), True)) for x, y in outline)

    assert farthest(found) < 0.4 * farthest(np.array(moved(ring)))
    # a homography alone keeps lines straight
    rigid = replace(TRANSFORM, displacement=None)
    assert len(carried(tmp_path, polygon, rigid)["coordinates"][0]) == 5


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"type": "Feature", "geometry": {"type": "Circle", "coordinates": [1, 2]}}, "feature 1 is not GeoJSON"),
        ({"type": "FeatureCollection"}, "no list of features"),
        ({"hello": 1}, "not GeoJSON"),
        (["text"], "not GeoJSON"),
        ({"type": "Polygon"}, "no list of coordinates"),
        ({"type": "Polygon", "coordinates": [1, 2]}, "no Polygon"),
        ({"type": "LineString", "coordinates": [[1, 2], [3]]}, r"\[3\] is not a position"),
        ({"type": "Point", "coordinates": ["a", 2]}, "'a' is not a number"),
        ({"type": "Point", "coordinates": [1e300, 2]}, "not a number of px"),
        ({"type": "Point", "coordinates": [None, 2]}, "not a number"),
        (
            {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": None}, {"type": "Feature"}, 3]},
            "not GeoJSON",
        ),
    ],
)
def test_bad_geojson(tmp_path: Path, document: object, message: str) -> None:
    (tmp_path / "in.geojson").write_text(json.dumps(document))
    with pytest.raises(RestainError, match=message) as caught:
        warp_geojson(TRANSFORM, tmp_path / "in.geojson", tmp_path / "out.geojson")
    assert "in.geojson" in str(caught.value)
    assert not (tmp_path / "out.geojson").exists()


def test_files_that_are_no_json(tmp_path: Path) -> None:
    for text in ("{", "", "\x00"):
        (tmp_path / "in.geojson").write_text(text)
        with pytest.raises(ItemError, match="not a readable JSON"):
            warp_geojson(TRANSFORM, tmp_path / "in.geojson", tmp_path / "out.geojson")
    (tmp_path / "in.geojson").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(RestainError, match=r"nested|recursion"):
        warp_geojson(TRANSFORM, tmp_path / "in.geojson", tmp_path / "out.geojson")


def test_many_cells_are_quick(tmp_path: Path) -> None:
    corners = np.random.default_rng(0).uniform(0, 1400, (5000, 1, 2)) + np.array(BOX) / 20
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
        for ring in corners.round(2).tolist()
    ]
    found = carried(tmp_path, {"type": "FeatureCollection", "features": features})
    rings = np.array([feature["geometry"]["coordinates"][0] for feature in found["features"]])
    wanted = by_scipy(TRANSFORM, corners.round(2).reshape(-1, 2)).reshape(rings.shape)
    np.testing.assert_allclose(rings, wanted, atol=6e-4)
