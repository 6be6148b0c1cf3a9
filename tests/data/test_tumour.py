"""Where the tumour is, by polygons and by cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restain.core.errors import ItemError
from restain.data.tumour import CELL_UM, read_tumour
from restain.slides import Slide, open_slide, write_image

SIZE = (1200, 800)


def square(left: float, top: float, side: float) -> list[list[float]]:
    right, bottom = left + side, top + side
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def feature(rings: Any, name: str | None = None, kind: str = "Polygon") -> dict[str, Any]:
    properties = {} if name is None else {"classification": {"name": name}}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": rings}, "properties": properties}


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    write_image(tmp_path / "slide.png", np.full((SIZE[1], SIZE[0], 3), 240, np.uint8))
    return open_slide(tmp_path / "slide.png", 0.5)


@pytest.fixture
def geojson(tmp_path: Path) -> Callable[[Any], Path]:
    def write(document: Any) -> Path:
        path = tmp_path / "tumour.geojson"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


def area(mask: Any) -> float:
    """px^2 of level 0."""
    return float(mask.share * SIZE[0] * SIZE[1])


def test_polygons_with_holes_by_class(slide: Slide, geojson: Callable[[Any], Path]) -> None:
    document = {
        "type": "FeatureCollection",
        "features": [
            feature([square(100, 100, 400), square(200, 200, 100)], "Tumor"),
            feature([[square(700, 100, 200)], [square(700, 500, 100)]], kind="MultiPolygon"),
            feature([square(900, 400, 300)], "Stroma"),
            feature([50, 50], "Tumor", "Point"),
        ],
    }
    mask = read_tumour(geojson(document), slide)
    assert area(mask) == pytest.approx(400**2 - 100**2 + 200**2 + 100**2, rel=0.04)
    assert mask.fraction(110, 110, 80, 380) == pytest.approx(1, abs=0.05)
    assert mask.fraction(210, 210, 80, 80) == pytest.approx(0, abs=0.05)
    assert mask.fraction(910, 410, 200, 200) == 0


@pytest.mark.parametrize("name", ["Tumor", "tumour", "Tumor: HER2", None])
def test_documents_of_all_kinds_count(name: str | None, slide: Slide, geojson: Callable[[Any], Path]) -> None:
    one = feature([square(0, 0, 300)], name)
    for document in (one, [one], {"type": "FeatureCollection", "features": [one]}):
        assert area(read_tumour(geojson(document), slide)) == pytest.approx(300**2, rel=0.04)
    assert area(read_tumour(geojson(one["geometry"]), slide)) == pytest.approx(300**2, rel=0.04)


def test_what_reaches_over_the_edge_is_cut_off(slide: Slide, geojson: Callable[[Any], Path]) -> None:
    assert area(read_tumour(geojson(feature([square(-300, 600, 1e7)])), slide)) == pytest.approx(1200 * 200, rel=0.04)


def test_no_polygon_is_no_tumour(slide: Slide, geojson: Callable[[Any], Path]) -> None:
    assert area(read_tumour(geojson({"type": "FeatureCollection", "features": []}), slide)) == 0


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (feature([square(5000, 5000, 100)]), "none of its tumour lies on"),
        (feature([square(0, 0, 9)], "Stroma"), "no polygon is of class Tumor or without a class; there are Stroma"),
        ("{", "not a readable JSON"),
        ({"features": 3}, "not GeoJSON"),
        (feature([[[0, 0], ["a", 1], [2, 2]]]), "not GeoJSON"),
        (feature([[[0, 0], [1, 1]]]), "at least three"),
        (feature([[[0, 0], [10**400, 1], [2, 2]]]), "not GeoJSON"),
        *(("[" * deep + "3" + "]" * deep, "not GeoJSON|not a readable JSON") for deep in (900, 5000, 200_000)),
    ],
)
def test_bad_polygons(document: Any, words: str, slide: Slide, geojson: Callable[[Any], Path]) -> None:
    with pytest.raises(ItemError, match=words) as caught:
        read_tumour(geojson(document), slide)
    assert "tumour.geojson" in str(caught.value)


def test_cells_of_either_stain(slide: Slide, tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text(
        "kind,x_ihc,y_ihc,x_he,y_he\ntumour,300,300,800,300\nlymphocyte,900,600,900,600\ntumour,,,100,100\n"
    )
    disc = np.pi * (CELL_UM / 0.5) ** 2
    assert area(read_tumour(path, slide)) == pytest.approx(disc, rel=0.25)
    assert read_tumour(path, slide).fraction(290, 290, 20, 20) == 1
    assert area(read_tumour(path, slide, "he")) == pytest.approx(2 * disc, rel=0.25)
    path.write_text("kind,x_ihc,y_ihc\ntumour,a,b\n")
    with pytest.raises(ItemError, match="must be numbers"):
        read_tumour(path, slide)
    with pytest.raises(ItemError, match="no such file"):
        read_tumour(tmp_path / "gone.csv", slide)
