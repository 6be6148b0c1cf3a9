"""Scores of slides: known synthetic levels, tiles, and images that hold nothing to score."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from restain.core.errors import ItemError, MissingResolutionError, RestainError
from restain.her2 import score as scoring
from restain.her2 import score_images, score_slide
from restain.her2.files import COLUMNS, NAMES, write_geojson
from restain.her2.picture import score_picture
from restain.slides import PyramidWriter, open_slide, read_image, write_image
from restain.stains.her2_rule import LEVELS
from restain.synthetic import SlideRenderer, SynthOptions, World

from ..her2_field import paint

SIZE = 640


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One synthetic IHC slide of each level."""
    folder = tmp_path_factory.mktemp("her2")
    paths = {}
    for number, level in enumerate(LEVELS):
        levels = tuple(int(number == index) for index in range(4))
        options = SynthOptions(size=SIZE, seed=31, levels=levels, folds=0, bubbles=0, out_of_focus=0)  # type: ignore[arg-type]
        renderer = SlideRenderer(World(options, 0), "ihc")
        paths[level] = folder / f"level-{number}.ome.tif"
        with PyramidWriter(paths[level], (SIZE, SIZE), 0.5, quality=90) as slide:
            slide.write(0, 0, renderer.block(0, 0).rgb)
    return paths


def painted(path: Path, density: np.ndarray) -> Path:
    write_image(path, paint(density)[0])
    return path


def test_an_he_is_not_scored(tmp_path: Path) -> None:
    renderer = SlideRenderer(World(SynthOptions(size=SIZE, seed=31), 0), "he")
    path = tmp_path / "he.png"
    write_image(path, renderer.block(0, 0).rgb)
    with open_slide(path, mpp=0.5) as slide, pytest.raises(ItemError, match="looks like an H&E"):
        score_slide(slide)


def test_a_nucleus_lies_in_its_cell(slides: dict[str, Path], tmp_path: Path) -> None:
    with open_slide(slides["3+"]) as slide:
        write_geojson(tmp_path / "cells.geojson", score_slide(slide))
    for cell in json.loads((tmp_path / "cells.geojson").read_text())["features"]:
        outer, inner = (np.array(cell[key]["coordinates"][0]) for key in ("geometry", "nucleusGeometry"))
        assert 0 < _area(inner) <= _area(outer) + 1
        assert outer.min() >= 0
        assert outer.max() <= SIZE


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2


@pytest.mark.parametrize("level", LEVELS)
def test_synthetic_slides_get_their_level(slides: dict[str, Path], level: str) -> None:
    with open_slide(slides[level]) as slide:
        document = score_slide(slide).document
    assert document["score"] == level
    percent = document["percent"]
    assert isinstance(percent, dict)
    assert sum(percent[name] for name in LEVELS) == pytest.approx(100, abs=0.1)
    assert percent["positive"] == pytest.approx(100 - percent["0"], abs=0.1)


def test_tiles_neither_lose_cells_nor_count_them_twice(
    slides: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, percent = [], []
    for tile in (1024, 200):
        monkeypatch.setattr(scoring, "_TILE", tile)
        with open_slide(slides["2+"]) as slide:
            scored = score_slide(slide)
        place = np.column_stack([scored.cells.x, scored.cells.y])[scored.classes.counted]
        distance = np.hypot(*(place[:, None] - place[None]).transpose(2, 0, 1)) + 1e6 * np.eye(len(place))
        assert distance.min() * 0.5 > 3
        counted.append(len(place))
        percent.append(scored.classes.percent() or (0.0,) * 4)
    assert counted[1] == pytest.approx(counted[0], rel=0.1)
    assert np.abs(np.subtract(*percent)).max() < 8


def test_nothing_to_score(tmp_path: Path) -> None:
    for name, value in (("white", 255), ("grey", 176), ("black", 0)):
        path = tmp_path / f"{name}.png"
        write_image(path, np.full((400, 400, 3), value, np.uint8))
        with open_slide(path, 0.5) as slide:
            scored = score_slide(slide)
            assert score_picture(slide, scored).ndim == 3
        assert scored.document["score"] is None
        assert scored.document["reason"] == "no tissue"


def test_a_tiny_image_has_no_tissue(tmp_path: Path) -> None:
    path = tmp_path / "tiny.png"
    write_image(path, np.full((3, 2, 3), 120, np.uint8))
    with open_slide(path, 0.5) as slide:
        scored = score_slide(slide)
        score_picture(slide, scored)
    assert scored.document["score"] is None


def test_tissue_without_tumour_cells(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smear = np.clip(rng.normal(205, 6, (500, 500, 1)) * [1.0, 0.97, 0.93], 0, 255)  # pale brown, no nuclei
    smear[:100] = 245
    path = tmp_path / "smear.png"
    write_image(path, smear.astype(np.uint8))
    with open_slide(path, 0.5) as slide:
        scored = score_slide(slide)
    assert scored.document["score"] is None
    assert "tumour cells" in str(scored.document["reason"])


def test_a_grey_scale_image_is_refused(tmp_path: Path) -> None:
    rgb = paint(np.full((10, 10), 0.5))[0]
    path = tmp_path / "grey.png"
    write_image(path, rgb.mean(axis=2).astype(np.uint8))
    with open_slide(path, 0.5) as slide, pytest.raises(ItemError, match="grey-scale"):
        score_slide(slide)


def test_um_per_px_must_be_known_and_possible(tmp_path: Path) -> None:
    path = painted(tmp_path / "a.png", np.full((4, 4), 0.5))
    with open_slide(path) as slide, pytest.raises(MissingResolutionError, match="--mpp"):
        score_slide(slide)
    with open_slide(path, 4.0) as slide, pytest.raises(RestainError, match=r"0\.05 to 1 um/px"):
        score_slide(slide)


def test_files_of_a_scored_slide(slides: dict[str, Path], tmp_path: Path) -> None:
    outcome = score_images([slides["3+"]], tmp_path)
    assert outcome.exit_code == 0
    folder = tmp_path / "level-3"
    document = json.loads((folder / "score.json").read_text())
    with (folder / "cells.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    counted = [row for row in rows if row["counted"] == "1"]
    assert len(counted) == document["cells"]["counted"]
    shares = [100 * sum(row["class"] == str(number) for row in counted) / len(counted) for number in range(4)]
    assert [document["percent"][level] for level in LEVELS] == pytest.approx(shares, abs=0.01)
    collection = json.loads((folder / "cells.geojson").read_text())
    assert len(collection["features"]) == len(counted)
    feature = collection["features"][0]
    ring = np.array(feature["geometry"]["coordinates"][0])
    assert (ring[0] == ring[-1]).all()
    assert (ring >= 0).all()
    assert (ring <= SIZE).all()
    assert feature["properties"]["classification"]["name"] in NAMES
    assert len(feature["properties"]["classification"]["color"]) == 3
    x, y = ring[:-1].mean(axis=0)
    assert min(np.hypot(float(row["x"]) - x, float(row["y"]) - y) for row in counted) < 8
    picture = read_image(folder / "picture.png")
    assert min(picture.shape[:2]) > 500
    red = (np.abs(picture.astype(int) - [215, 25, 30]).max(axis=2) < 12).mean()
    assert red > 0.002  # cells of class 3 are drawn


def test_an_empty_collection_is_valid_json(tmp_path: Path) -> None:
    path = tmp_path / "white.png"
    write_image(path, np.full((300, 300, 3), 250, np.uint8))
    with open_slide(path, 0.5) as slide:
        write_geojson(tmp_path / "cells.geojson", score_slide(slide))
    assert json.loads((tmp_path / "cells.geojson").read_text())["features"] == []


def test_real_images(shared: Path) -> None:
    with open_slide(shared / "data" / "her2-ihc" / "00006_test_3+.png", 0.46) as slide:
        assert score_slide(slide).document["score"] == "3+"


@pytest.mark.parametrize(
    ("core", "levels"), [("0_9b0f64d1", ("0",)), ("2_0123a214", LEVELS[1:]), ("2_a5593c5e", LEVELS[1:])]
)
def test_real_cores(shared: Path, core: str, levels: tuple[str, ...]) -> None:
    (path,) = (shared / "data" / "her2-cores").glob(f"{core}*.jpg")
    with open_slide(path, 0.25) as slide:
        assert score_slide(slide).document["score"] in levels


def test_the_empty_core(shared: Path) -> None:
    (core,) = (shared / "data" / "her2-cores").glob("3_99b35026*.jpg")
    with open_slide(core, 0.25) as slide:
        document = score_slide(slide).document
    assert (document["score"], document["reason"]) == (None, "no tissue")
