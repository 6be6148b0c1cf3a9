"""Features of a cohort as bags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from restain.core.errors import RestainError
from restain.core.files import read_csv
from restain.her2.cohort_table import slide_stem
from restain.her2.encoders import Stain, make_encoder
from restain.her2.features_file import FeatureSet, read_features, write_features
from restain.her2.labels import HER2
from restain.her2.slide_set import APART, TILE_PX, SlideSet, drawn, kind_of, read_slide_set
from restain.her2.splits import held_out
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
    with pytest.raises(RestainError, match=r"width 8 and 5.*same encoder and tiles for both"):
        load(tmp_path, ihc=True)


def stain_cohort(root: Path, ihc: FeatureSet) -> None:
    """Two patients whose H&E is of morphometry's kind, and IHC of the kind given."""
    made = make_encoder("morphometry")
    he = replace(ihc, mpp=0.5, tile_px=256, encoder=made.name, encoder_version=made.version, names=made.names)
    for name in ("p", "q"):
        write_features(root / "he" / f"{name}.h5", he)
        write_features(root / "ihc" / f"{name}_i.h5", ihc)
    rows = [{"patient": name, "he": f"{name}.svs", "ihc": f"{name}_i.svs", "her2": "0"} for name in ("p", "q")]
    write_rows(root / "cohort.csv", rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"stain": Stain.he}, None),
        ({"encoder_version": "9-other"}, "version '1.*' and '9-other'"),
        ({"mpp": 2.0}, r"mpp 0.5 and 2.0"),
        ({"tile_px": 512}, "tile_px 256 and 512"),
        ({"encoder": "clip"}, "encoder 'morphometry' and 'clip'"),
    ],
)
def test_ihc_of_another_kind_than_the_he_is_refused(tmp_path: Path, change: dict, message: str | None) -> None:
    made = make_encoder("morphometry", change.pop("stain", Stain.ihc))
    assert made.names is not None
    values, coords = np.ones((3, len(made.names)), np.float32), np.arange(6).reshape(3, 2) * 512
    usual = FeatureSet(values, coords, 512, 0.5, made.name, made.version, made.names, "")
    stain_cohort(tmp_path, replace(usual, **change))
    if message is None:
        assert load(tmp_path, ihc=True).has_ihc
    else:
        with pytest.raises(RestainError, match=rf"p\.h5 and .*p_i\.h5.*{message}"):
            load(tmp_path, ihc=True)


def test_files_that_do_not_say_their_encoder_are_warned_of(tmp_path: Path) -> None:
    write_cohort(tmp_path, 6)
    assert not load(tmp_path).warnings
    for file in (tmp_path / "he").iterdir():
        write(file, np.ones((3, 8), np.float32), encoder="unknown", version="")
    (warning,) = load(tmp_path).warnings
    assert "do not say their encoder; only the width could be checked" in warning
    write(tmp_path / "he" / "p003_he.h5", np.ones((3, 8), np.float32), encoder="conch")
    with pytest.raises(RestainError, match="encoder not said and 'conch'; version not said and '1'"):
        load(tmp_path)


def test_files_that_do_not_say_the_side_of_a_tile_are_refused(tmp_path: Path) -> None:
    write_cohort(tmp_path, 4)
    for file in (tmp_path / "he").iterdir():
        with h5py.File(file, "r+") as opened:
            del opened.attrs["tile_px"], opened["features"].attrs["tile_px"], opened["coords"].attrs["patch_size"]
    with pytest.raises(RestainError, match=r"p000_he\.h5.*restain her2 features.*--h5\.tile-px"):
        load(tmp_path)


def test_slides_of_the_same_file_name_are_told_apart_by_folder(tmp_path: Path) -> None:
    rows = [{"patient": name, "he": f"{name}/slides/he.ome.tif", "her2": "0"} for name in ("P1", "P2")]
    for number, row in enumerate(rows):
        write(tmp_path / "he" / row["patient"] / "slides" / "he.h5", np.full((3, 2), number, np.float32))
    write_rows(tmp_path / "cohort.csv", [*rows, {**rows[1], "her2": "HER2 0"}])
    data = load(tmp_path)
    assert [float(data.bag(name).features.mean()) for name in ("P1", "P2")] == [0, 1]
    assert len(data.patients["P2"].he) == 1
    write_rows(tmp_path / "cohort.csv", rows[1:])  # alone, its name needs no folder: the file is found all the same
    assert float(load(tmp_path).bag("P2").features.mean()) == 1
    (tmp_path / "he" / "P1" / "slides" / "he.h5").rename(tmp_path / "he" / "he.h5")
    write_rows(tmp_path / "cohort.csv", rows)
    with pytest.raises(RestainError, match=r"(?s)P1/slides/he\.h5.*folders' names"):
        load(tmp_path)
    write_rows(tmp_path / "cohort.csv", [rows[0], {**rows[1], "he": "P1/slides/he.svs"}])
    with pytest.raises(RestainError, match=r"he\.ome\.tif and .*he\.svs.*Rename"):
        load(tmp_path)


@pytest.mark.parametrize("labels", [("equivocal", ""), None])
def test_labels_are_not_needed_where_nothing_is_learned_from_them(
    tmp_path: Path, labels: tuple[str, str] | None
) -> None:
    csv = write_cohort(tmp_path, 8)
    rows = [{key: value for key, value in row.items() if key != "her2"} for row in read_csv(csv)]
    if labels:
        rows = [{**row, "her2": labels[number % 2]} for number, row in enumerate(rows)]
    write_rows(csv, rows)
    with pytest.raises(RestainError, match=r"her2|equivocal"):
        load(tmp_path)
    data = read_slide_set(csv, tmp_path / "he", None, None)
    assert len(set(data.labels.values())) == (2 if labels else 1)
    split = held_out(data.labels, None, 0.5, 0)
    assert sorted(data.labels[name] for name in split["val"]) == ([0, 0, 1, 1] if labels else [0] * 4)


def test_what_cannot_be_meant_is_wrong_use(tmp_path: Path) -> None:
    csv = write_cohort(tmp_path, 4)
    for gib in (-1.0, float("nan")):
        with pytest.raises(RestainError, match="--cache-gib"):
            read_slide_set(csv, tmp_path / "he", None, HER2, cache_gib=gib)
    text = csv.read_text()
    for changed, message in (
        (text.replace("he,", "slide,", 1), "no column he"),
        (text.replace("her2", "status", 1), "no column her2"),
        (text.replace(",", ";"), "separated by commas"),
        (text.splitlines()[0], "no rows"),
    ):
        csv.write_text(changed)
        with pytest.raises(RestainError, match=message) as caught:
            load(tmp_path)
        assert caught.value.exit_code == 2


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
        ("new", "slides/p001_he", "0", "p001 as well"),
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


def test_the_least_tissue_of_a_tile_is_kept_and_compared_where_it_is_known(tmp_path: Path) -> None:
    values, coords = np.zeros((2, 3), np.float32), np.array([[0, 0], [256, 0]])
    kinds = []
    for share in (0.5, 0.3, None):
        write_features(tmp_path / "a.h5", FeatureSet(values, coords, 256, 0.5, "e", "1", min_tissue=share))
        kinds.append(kind_of(read_features(tmp_path / "a.h5")))
    half, third, unknown = kinds
    assert half.document()["min_tissue"] == 0.5
    assert half.differs(third.document()) == "min_tissue 0.3 and 0.5"
    assert half.differs(unknown.document()) is None
    assert unknown.differs(half.document()) is None
