"""``restain warp``: points and shapes both ways, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from restain.cli.warp import run
from restain.core.errors import ItemError, RestainError

from ..registration.maps import by_scipy, elastic

TRANSFORM = elastic((900, 700), mirrored=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    TRANSFORM.save(tmp_path / "registered" / "transform.json")
    (tmp_path / "ihc.csv").write_text("id,x,y,note\n1,100,200,a\n2,300.5,40,b\n3,-7,40,c\n")
    return tmp_path


def test_there_and_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(folder / "registered"), str(folder / "ihc.csv"), "--out", str(folder / "he.csv"), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"out": str(folder / "he.csv"), "points": 3, "outside": 1, "beyond": 1}
    assert "1 of 3 points lie outside the IHC slide of 900 x 700 px" in printed.err.replace("\n", " ")
    with (folder / "he.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["id"], row["note"]) for row in rows] == [("1", "a"), ("2", "b"), ("3", "c")]
    found = np.array([[row["x"], row["y"]] for row in rows], float)
    np.testing.assert_allclose(found, by_scipy(TRANSFORM, np.array([[100, 200], [300.5, 40], [-7, 40]])), atol=6e-4)
    words = [str(folder / "registered/transform.json"), str(folder / "he.csv"), "--out", str(folder / "back.csv")]
    assert run([*words, "--inverse"]) == 0
    with (folder / "back.csv").open(newline="") as stream:
        back = np.array([[row["x"], row["y"]] for row in csv.DictReader(stream)], float)
    np.testing.assert_allclose(back, [[100, 200], [300.5, 40], [-7, 40]], atol=2e-3)


@pytest.mark.parametrize("name", ["shapes.geojson", "shapes.json", "shapes.txt"])
def test_shapes_are_known_by_their_content(folder: Path, name: str) -> None:
    (folder / name).write_text('\n {"type": "Point", "coordinates": [100, 200]}')
    assert run([str(folder / "registered"), str(folder / name), "--out", str(folder / "he.geojson")]) == 0
    found = json.loads((folder / "he.geojson").read_text())["coordinates"]
    np.testing.assert_allclose([found], by_scipy(TRANSFORM, np.array([[100.0, 200]])), atol=6e-4)


def test_wrong_use(folder: Path) -> None:
    transform, points = str(folder / "registered"), str(folder / "ihc.csv")
    for out in (points, str(folder / "registered" / "transform.json")):
        with pytest.raises(RestainError, match="one of the files read"):
            run([transform, points, "--out", out])
    with pytest.raises(RestainError, match="is a CSV"):
        run([transform, points, "--out", str(folder / "he.geojson")])
    with pytest.raises(ItemError, match=r"missing\.csv"):
        run([transform, str(folder / "missing.csv"), "--out", str(folder / "he.csv")])
    with pytest.raises(ItemError, match=r"transform\.json"):
        run([str(folder), points, "--out", str(folder / "he.csv")])
    assert not (folder / "he.csv").exists()
