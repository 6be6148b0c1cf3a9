"""Features of a cohort as bags."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from restain.core.errors import RestainError
from restain.core.files import read_csv
from restain.her2.labels import HER2
from restain.her2.slide_set import APART, TILE_PX, SlideSet, drawn, read_slide_set, slide_stem
from tests.her2.cohort import write, write_cohort, write_rows


def load(root: Path, ihc: bool = False, **settings: bool) -> SlideSet:
    return read_slide_set(root / "cohort.csv", root / "he", root / "ihc" if ihc else None, HER2, **settings)


def test_a_bag_holds_what_the_file_holds(tmp_path: Path) -> None:
    write_cohort(tmp_path, 8, ihc=True)
    data = load(tmp_path, ihc=True)
    with h5py.File(tmp_path / "he" / "p003_he.h5") as file:
        features, coords = file["features"][()], file["coords"][()]
    bag = data.bag("p003")
    np.testing.assert_array_equal(bag.features.numpy(), features)
    np.testing.assert_array_equal(bag.coords.numpy(), coords / 512 * TILE_PX)  # a tile is 256 px, whatever level 0
    assert bag.label == 3
    assert bag.ihc is not None
    assert data.has_ihc
    assert load(tmp_path).bag("p003").ihc is None


def test_slides_of_a_patient_lie_side_by_side_in_one_bag(tmp_path: Path) -> None:
    first, second = np.ones((7, 3), np.float32), np.full((4, 3), 2, np.float32)
    write(tmp_path / "he" / "a.h5", first, tile=512)
    write(tmp_path / "he" / "b.h5", second, tile=1024)  # scanned at twice the um/px
    write(tmp_path / "he" / "c.h5", second)
    rows = [{"patient": who, "he": f"{slide}.svs", "her2": level} for who, slide, level in
            (("p", "a", "2+"), ("p", "b", "HER2 2+"), ("q", "c", "0"))]  # fmt: skip
    write_rows(tmp_path / "cohort.csv", rows)
    bag = load(tmp_path).bag("p")
    assert len(bag) == 11
    grid = bag.grid
    np.testing.assert_array_equal(grid[:7], np.stack([np.arange(7) % 5, np.arange(7) // 5], 1))
    np.testing.assert_array_equal(grid[7:] - grid[7], np.stack([np.arange(4), np.zeros(4)], 1))
    assert grid[7, 0] - grid[:7, 0].max() == APART + 1


def test_tiles_are_drawn_from_the_whole_slide_anew_each_time(tmp_path: Path) -> None:
    write(tmp_path / "he" / "a.h5", np.arange(1000, dtype=np.float32)[:, None])
    write(tmp_path / "he" / "b.h5", np.zeros((2, 1), np.float32))
    rows = [{"patient": name, "he": f"{name}.svs", "her2": level} for name, level in (("a", "0"), ("b", "1"))]
    write_rows(tmp_path / "cohort.csv", rows)
    data = load(tmp_path)
    rng = np.random.default_rng(0)
    seen = np.zeros(1000)
    for _ in range(40):
        bag = drawn(data.bag("a"), 100, rng)
        rows_drawn = bag.features[:, 0].numpy().astype(int)
        assert len(np.unique(rows_drawn)) == 100
        np.testing.assert_array_equal(bag.coords[:, 0].numpy(), rows_drawn % 5 * TILE_PX)
        seen[rows_drawn] += 1
    assert seen[500:].sum() / seen.sum() == pytest.approx(0.5, abs=0.05)  # the lower half as often as the upper
    assert (seen > 0).mean() > 0.95
    assert len(drawn(data.bag("b"), 100, rng)) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 5}, "width"),
        ({"encoder": "clip"}, "encoder"),
        ({"version": "2"}, "version"),
    ],
)
def test_features_of_different_kinds_are_refused_with_names(tmp_path: Path, change: dict, message: str) -> None:
    write_cohort(tmp_path, 6)
    settings = {key: value for key, value in change.items() if key != "width"}
    write(tmp_path / "he" / "p004_he.h5", np.ones((3, change.get("width", 8)), np.float32), **settings)
    with pytest.raises(RestainError, match=rf"p000_he.h5 and .*p004_he.h5.*{message}"):
        load(tmp_path)


def test_ihc_of_another_width_is_refused(tmp_path: Path) -> None:
    write_cohort(tmp_path, 4, ihc=True)
    for number in range(4):
        write(tmp_path / "ihc" / f"p{number:03d}_ihc.h5", np.ones((3, 5), np.float32))
    with pytest.raises(RestainError, match="same encoder for both"):
        load(tmp_path, ihc=True)


def test_nan_is_refused_by_name(tmp_path: Path) -> None:
    write_cohort(tmp_path, 6)
    with h5py.File(tmp_path / "he" / "p002_he.h5", "r+") as file:
        file["features"][1, 3] = np.nan
    with pytest.raises(RestainError, match=r"p002_he\.h5.*NaN"):
        load(tmp_path)


def test_missing_features_are_refused_or_left_out_by_name(tmp_path: Path) -> None:
    write_cohort(tmp_path, 6)
    (tmp_path / "he" / "p002_he.h5").unlink()
    with pytest.raises(RestainError, match=r"p002_he\.h5"):
        load(tmp_path)
    data = load(tmp_path, skip_missing=True)
    assert "p002" not in data.patients
    assert "p002" in data.warnings[0]


@pytest.mark.parametrize(
    ("patient", "slide", "label", "message"),
    [
        ("p001", "x_he", "3+", "another one above"),
        ("new", "p001_he", "0", "p001 as well"),
        ("new", "x_he", "equivocal", "line 8.*equivocal"),
        ("new", "x_he", "", "line 8.*no label"),
        ("", "x_he", "0", "needs patient"),
    ],
)
def test_rows_that_contradict_or_cannot_be_read_are_refused(
    tmp_path: Path, patient: str, slide: str, label: str, message: str
) -> None:
    csv = write_cohort(tmp_path, 6)
    write(tmp_path / "he" / "x_he.h5", np.ones((3, 8), np.float32))
    rows = [*read_csv(csv), {"patient": patient, "he": f"{slide}.ome.tif", "her2": label}]
    write_rows(csv, rows)
    with pytest.raises(RestainError, match=message):
        load(tmp_path)


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    csv = write_cohort(tmp_path, 6)
    write(tmp_path / "he" / "x_he.h5", np.ones((3, 8), np.float32))
    rows = [{**row, "split": "train"} for row in read_csv(csv)]
    write_rows(csv, [*rows, {"patient": "p001", "he": "x_he.svs", "her2": "1+", "split": "test"}])
    with pytest.raises(RestainError, match="p001: is in split train and in split test"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("slide", "stem"), [("a/b_he.ome.tif", "b_he"), ("x.svs", "x"), ("x.OME.TIFF", "x"), ("a.b.ndpi", "a.b")]
)
def test_stems(slide: str, stem: str) -> None:
    assert slide_stem(slide) == stem
