"""Landmarks from CSV and JSON, and what is wrong with those that are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from restain.core.errors import ItemError, RestainError
from restain.registration import read_landmarks

HE = [[10.5, 20.0], [30.0, 40.0], [5.0, 6.0]]
IHC = [[11.0, 22.0], [33.0, 44.0], [7.0, 8.0]]


def csv(path: Path, rows: str, header: str = "id,x_ihc,y_ihc,x_he,y_he") -> Path:
    path.write_text(f"{header}\n{rows}")
    return path


def test_csv_as_the_synthetic_truth_writes_it(tmp_path: Path) -> None:
    rows = "".join(f"{i},{q[0]},{q[1]},{p[0]},{p[1]}\n" for i, (p, q) in enumerate(zip(HE, IHC, strict=True)))
    he, ihc = read_landmarks(csv(tmp_path / "points.csv", rows), (31, 41), (33, 44))
    np.testing.assert_array_equal(he, HE)
    np.testing.assert_array_equal(ihc, IHC)


@pytest.mark.parametrize("wrapped", [False, True])
def test_json(tmp_path: Path, wrapped: bool) -> None:
    entries = [{"he": p, "ihc": q, "note": "vessel"} for p, q in zip(HE, IHC, strict=True)]
    path = tmp_path / "points.json"
    path.write_text(json.dumps({"landmarks": entries} if wrapped else entries))
    he, ihc = read_landmarks(path)
    np.testing.assert_array_equal(he, HE)
    np.testing.assert_array_equal(ihc, IHC)


def test_none_are_none(tmp_path: Path) -> None:
    he, ihc = read_landmarks(csv(tmp_path / "points.csv", ""))
    assert he.shape == ihc.shape == (0, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,1,2,3,4\n2,1,2,x,4\n", "line 3: x_he 'x'"),
        ("1,1,,3,4\n", "line 2: y_ihc ''"),
        ("1,1,2,3\n", "line 2: y_he None"),
        ("1,1,2,nan,4\n", "line 2: x_he 'nan'"),
        ("1,inf,2,3,4\n", "line 2: x_ihc 'inf'"),
    ],
)
def test_bad_numbers_name_the_line(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(RestainError, match=message):
        read_landmarks(csv(tmp_path / "points.csv", rows))


def test_points_outside_are_all_named(tmp_path: Path) -> None:
    path = csv(tmp_path / "points.csv", "1,10,20,30,40\n2,10,20,-1,40\n3,10,90,30,40\n")
    with pytest.raises(RestainError, match=r"2 points lie outside") as caught:
        read_landmarks(path, (50, 50), (50, 50))
    assert "line 3: (-1, 40) on the H&E of 50 x 50 px" in str(caught.value)
    assert "line 4: (10, 90) on the IHC of 50 x 50 px" in str(caught.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ('{"points": []}', "not landmarks"),
        ("3", "not landmarks"),
        ('[{"he": [1, 2]}]', "landmark 1: ihc is not a point"),
        ('[{"he": [1, 2, 3], "ihc": [1, 2]}]', "landmark 1: he is not a point"),
        ('[{"he": "ab", "ihc": [1, 2]}]', "landmark 1: he is not a point"),
        ('[{"he": [1, true], "ihc": [1, 2]}]', "landmark 1: he True"),
        ("[[1, 2, 3, 4]]", "landmark 1: he is not a point"),
        ("{", "not a readable JSON"),
    ],
)
def test_bad_json(tmp_path: Path, document: str, message: str) -> None:
    (tmp_path / "points.json").write_text(document)
    with pytest.raises(RestainError, match=message):
        read_landmarks(tmp_path / "points.json")


def test_missing_file_and_columns(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=r"missing\.csv"):
        read_landmarks(tmp_path / "missing.csv")
    with pytest.raises(ItemError, match="no column x_ihc, y_ihc; it has x_he, y_he"):
        read_landmarks(csv(tmp_path / "points.csv", "", "x_he,y_he"))
