"""Cohort tables, and patch pairs cut from aligned slides."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import restain.data.build as build
from restain.core.errors import MissingResolutionError, RestainError
from restain.data import PairsConfig, build_pairs, check_dataset, read_cohort, read_dataset

CONFIG = PairsConfig(
    mpp=0.5, size=64, aligned=True, min_focus=0, min_alignment=0, fractions={"train": 0.5, "test": 0.5}
)
SIDE = 320
TISSUE = np.s_[96:288, 32:224]  # rows, columns


def slide(seed: int, stain: str, side: int = SIDE) -> np.ndarray:
    """White glass with a square of textured, stained tissue."""
    rng = np.random.default_rng([seed, len(stain)])
    colour = np.array([190, 110, 170] if stain == "he" else [200, 180, 170])
    texture = cv2.GaussianBlur(rng.normal(0, 60, (side, side, 3)), (0, 0), 1.5)
    image = np.full((side, side, 3), 244.0)
    image[TISSUE] = (colour + texture)[TISSUE]
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture
def cohort(tmp_path) -> Path:
    """Four patients with slides as PNG and the table."""
    lines = ["patient,he,ihc,mpp,her2,lab"]
    for number in range(4):
        for stain in ("he", "ihc"):
            path = tmp_path / "slides" / f"p{number}_{stain}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(slide(number, stain)).save(path)
        lines.append(f"p{number},slides/p{number}_he.png,slides/p{number}_ihc.png,0.5,{'0' if number < 2 else '3+'},a")
    table = tmp_path / "cohort.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def table_of(out: Path) -> list[dict[str, str]]:
    with (out / "pairs.csv").open() as stream:
        return list(csv.DictReader(stream))


def stamps(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}


def test_patches_are_where_pairs_csv_says(cohort, tmp_path):
    out = tmp_path / "pairs"
    result = build_pairs(read_cohort(cohort), out, CONFIG)
    rows = table_of(out)
    assert result.failures == {}
    assert result.exit_code == 0
    assert len(rows) == 4 * 25
    kept = [row for row in rows if row["kept"] == "1"]
    assert sum(result.splits.values()) == len(kept)
    assert result.dropped == len(rows) - len(kept)
    assert len(list(out.rglob("[HI]*/*/*.png"))) == 2 * len(kept)
    for row in kept:
        assert re.fullmatch(rf"\d{{5}}_{row['split']}_{re.escape(row['level'])}", row["name"])
        x, y = int(row["x"]), int(row["y"])
        for folder, stain in (("HE", "he"), ("IHC", "ihc")):
            patch = np.asarray(Image.open(out / folder / row["split"] / f"{row['name']}.png"))
            assert np.array_equal(patch, slide(int(row["patient"][1:]), stain)[y : y + 64, x : x + 64])
    json.dumps(result.to_json())


def test_tissue_share_is_that_of_the_truth(cohort, tmp_path):
    out = tmp_path / "pairs"
    build_pairs(read_cohort(cohort), out, CONFIG)
    truth = np.zeros((SIDE, SIDE))
    truth[TISSUE] = 1
    for row in table_of(out):
        x, y = int(row["x"]), int(row["y"])
        share = truth[y : y + 64, x : x + 64].mean()
        assert float(row["tissue"]) == pytest.approx(share, abs=0.2)
        assert (row["kept"] == "1") == (float(row["tissue"]) >= 0.5)
        assert bool(row["reason"]) == (row["kept"] == "0")


def test_the_result_is_a_clean_dataset(cohort, tmp_path):
    out = tmp_path / "pairs"
    build_pairs(read_cohort(cohort), out, CONFIG)
    folder = read_dataset(out)
    assert folder.mpp == 0.5
    assert folder.levels == ("0", "3+")
    patients = {split: {record.patient for record in folder.split(split)} for split in folder.splits}
    assert len(patients["train"]) == len(patients["test"]) == 2
    assert not patients["train"] & patients["test"]
    for split in patients:  # one patient of each level
        assert {record.level for record in folder.split(split)} == {"0", "3+"}
    assert check_dataset(out).problems == ()


def test_coarser_patches_cover_more(cohort, tmp_path):
    out = tmp_path / "pairs"
    build_pairs(
        read_cohort(cohort), out, PairsConfig(1.0, 64, 32, aligned=True, min_tissue=0.1, min_focus=0, min_alignment=0)
    )
    rows = table_of(out)
    assert sorted({int(row["x"]) for row in rows}) == [0, 64, 128, 192]
    row = next(row for row in rows if row["kept"] == "1")
    patch = np.asarray(Image.open(out / "HE" / row["split"] / f"{row['name']}.png"))
    x, y = int(row["x"]), int(row["y"])
    region = slide(int(row["patient"][1:]), "he")[y : y + 128, x : x + 128]
    averaged = region.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert patch.shape == (64, 64, 3)
    assert np.abs(patch - averaged)[2:-2, 2:-2].mean() < 3


def test_second_call_changes_nothing(cohort, tmp_path):
    out = tmp_path / "pairs"
    build_pairs(read_cohort(cohort), out, CONFIG)
    before, table = stamps(out), (out / "pairs.csv").read_text()
    lost = next(iter(before))
    lost.unlink()
    build_pairs(read_cohort(cohort), out, CONFIG)
    assert (out / "pairs.csv").read_text() == table
    assert lost.exists()
    patient = next(row["patient"] for row in table_of(out) if row["name"] == lost.stem)
    other = {row["name"] for row in table_of(out) if row["patient"] != patient}
    assert {path: time for path, time in stamps(out).items() if path.stem in other} == {
        path: time for path, time in before.items() if path.stem in other
    }


def test_unaligned_pair_is_refused_and_cut_once_it_is_mended(cohort, tmp_path):
    out = tmp_path / "pairs"
    ihc = tmp_path / "slides/p1_ihc.png"
    Image.fromarray(slide(1, "ihc", 300)).save(ihc)
    result = build_pairs(read_cohort(cohort), out, CONFIG)
    assert result.exit_code == 1
    assert list(result.failures) == ["p1"]
    assert "320x320 px at 0.5 um/px" in result.failures["p1"]
    assert "align them first" in result.failures["p1"]
    assert {row["patient"] for row in table_of(out)} == {"p0", "p2", "p3"}
    before = stamps(out)
    Image.fromarray(slide(1, "ihc")).save(ihc)
    assert build_pairs(read_cohort(cohort), out, CONFIG).exit_code == 0
    assert {path: time for path, time in stamps(out).items() if path in before} == before
    names = [row["name"][:5] for row in table_of(out)]
    assert len(set(names)) == len(names) == 100


def test_changed_slide_is_cut_again(cohort, tmp_path):
    out = tmp_path / "pairs"
    build_pairs(read_cohort(cohort), out, CONFIG)
    Image.fromarray(slide(77, "he")).save(tmp_path / "slides/p0_he.png")
    build_pairs(read_cohort(cohort), out, CONFIG)
    row = next(row for row in table_of(out) if row["patient"] == "p0" and row["kept"] == "1")
    patch = np.asarray(Image.open(out / "HE" / row["split"] / f"{row['name']}.png"))
    x, y = int(row["x"]), int(row["y"])
    assert np.array_equal(patch, slide(77, "he")[y : y + 64, x : x + 64])
    assert check_dataset(out).problems == ()  # nothing of the old one is left


def test_resolutions_must_agree(cohort, tmp_path):
    text = cohort.read_text().replace("mpp,her2", "he_mpp,ihc_mpp,her2").replace(",0.5,", ",0.5,0.46,")
    cohort.write_text(text)
    result = build_pairs(read_cohort(cohort), tmp_path / "pairs", CONFIG)
    assert len(result.failures) == 4
    assert "0.46 um/px" in result.failures["p0"]


def test_no_resolution_is_wrong_use(cohort, tmp_path):
    cohort.write_text(cohort.read_text().replace(",0.5,", ",,"))
    with pytest.raises(MissingResolutionError, match="mpp"):
        build_pairs(read_cohort(cohort), tmp_path / "pairs", CONFIG)


def test_finer_than_the_slide_is_refused(cohort, tmp_path):
    result = build_pairs(read_cohort(cohort), tmp_path / "pairs", PairsConfig(mpp=0.25, size=64, aligned=True))
    assert "too coarse" in result.failures["p0"]


def test_no_tissue_saves_thumbnails(cohort, tmp_path):
    out = tmp_path / "pairs"
    for stain in ("he", "ihc"):
        Image.fromarray(np.full((SIDE, SIDE, 3), 244, np.uint8)).save(tmp_path / f"slides/p2_{stain}.png")
    result = build_pairs(read_cohort(cohort), out, CONFIG)
    assert list(result.failures) == ["p2"]
    assert "min_tissue" in result.failures["p2"]
    assert (out / "thumbnails/p2_he.png").exists()


def test_broken_slide_is_named_and_the_others_are_cut(cohort, tmp_path):
    (tmp_path / "slides/p3_he.png").write_bytes(b"broken")
    result = build_pairs(read_cohort(cohort), tmp_path / "pairs", CONFIG)
    assert list(result.failures) == ["p3"]
    assert "p3_he.png" in result.failures["p3"]
    assert sum(result.splits.values()) > 0


def test_folder_of_other_settings_is_refused(cohort, tmp_path):
    out = tmp_path / "pairs"
    build_pairs(read_cohort(cohort), out, CONFIG)
    with pytest.raises(RestainError, match=r"config\.size: 64 there, 32 now"):
        build_pairs(read_cohort(cohort), out, replace(CONFIG, size=32))
    cohort.write_text(cohort.read_text().replace("3+", "2+"))
    with pytest.raises(RestainError, match=r"cohort\.p2\.level: 3\+ there, 2\+ now"):
        build_pairs(read_cohort(cohort), out, CONFIG)


def test_bad_configs():
    with pytest.raises(RestainError, match="no split validation"):
        PairsConfig(mpp=0.5, fractions={"validation": 1.0})
    with pytest.raises(RestainError, match="above 0"):
        PairsConfig(mpp=0)
    with pytest.raises(RestainError, match="share from 0 to 1"):
        PairsConfig(mpp=0.5, min_tissue=50)

    with pytest.raises(RestainError, match="seed is a whole number from 0"):
        PairsConfig(mpp=0.5, seed=-1)


@pytest.mark.parametrize("text", ["{}", "[]", '{"settings": {}, "plan": {"p0": {}}}', '{"settings": {}, "plan": [1]}'])
def test_a_record_of_something_else_is_refused(cohort, tmp_path, text):
    out = tmp_path / "pairs"
    out.mkdir()
    (out / "build.json").write_text(text)
    with pytest.raises(RestainError, match=r"build\.json: does not say how"):
        build_pairs(read_cohort(cohort), out, CONFIG)


def test_patches_are_by_default_as_coarse_as_the_coarser_stain(cohort, tmp_path):
    config = replace(CONFIG, mpp=None, aligned=False, unpaired=True)
    text = cohort.read_text().replace("mpp,her2", "he_mpp,ihc_mpp,her2")
    cohort.write_text(text.replace(",0.5,", ",1,0.5,"))
    assert build_pairs(read_cohort(cohort), tmp_path / "pairs", config).failures == {}
    assert {row["mpp"] for row in table_of(tmp_path / "pairs")} == {"1.0"}
    cohort.write_text(
        text.replace(",0.5,", ",1,0.5,", 3).replace(",0.5,0\n", ",1,2,0\n").replace("png,0.5,3", "png,1,2,3")
    )
    with pytest.raises(RestainError, match=r"different um/px: 1 \(p0\), 2 \(p3\)"):
        build_pairs(read_cohort(cohort), tmp_path / "other", config)


def test_a_row_without_resolution_fails_alone_and_can_be_mended(cohort, tmp_path):
    out, text = tmp_path / "pairs", cohort.read_text()
    cohort.write_text(text.replace("p1_ihc.png,0.5", "p1_ihc.png,"))
    result = build_pairs(read_cohort(cohort), out, replace(CONFIG, mpp=None))
    assert list(result.failures) == ["p1"]
    assert "cohort's column mpp, or he_mpp" in result.failures["p1"]
    before = stamps(out)
    cohort.write_text(text)
    assert build_pairs(read_cohort(cohort), out, replace(CONFIG, mpp=None)).failures == {}
    assert {path: time for path, time in stamps(out).items() if path in before} == before
    cohort.write_text(text.replace(",0.5,", ",,"))
    with pytest.raises(MissingResolutionError, match="cohort's column mpp"):
        build_pairs(read_cohort(cohort), tmp_path / "other", replace(CONFIG, mpp=None))


def test_a_slide_is_not_both_stains(cohort, tmp_path):
    cohort.write_text(cohort.read_text().replace("p2_ihc.png", "p2_he.png"))
    result = build_pairs(read_cohort(cohort), tmp_path / "pairs", CONFIG)
    assert list(result.failures) == ["p2"]
    assert "p2_he.png: given as H&E and as IHC of p2" in result.failures["p2"]


def test_an_empty_split_is_warned_of(cohort, tmp_path, capsys):
    config = replace(CONFIG, fractions={"val": 0.1, "test": 0.2, "train": 0.7})
    rows = read_cohort(cohort)
    result = build_pairs(rows[:2], tmp_path / "two", config)
    assert (result.splits["val"], bool(result.splits["test"])) == (0, True)
    assert "warning: 2 patients are too few for split val, which is empty." in capsys.readouterr().err
    test = next(row for row in table_of(tmp_path / "two") if row["split"] == "test")
    (tmp_path / f"slides/{test['patient']}_he.png").unlink()
    build_pairs(rows[:2], tmp_path / "one", config)
    assert "warning: nothing was kept for split test: slides failed" in capsys.readouterr().err


def test_odd_content_of_one_row_does_not_stop_the_others(cohort, tmp_path, monkeypatch):
    sound = build.cut_patches

    def odd(cut, out):
        if cut.row.name == "p1":
            raise ValueError("odd")
        return sound(cut, out)

    monkeypatch.setattr(build, "cut_patches", odd)
    result = build_pairs(read_cohort(cohort), tmp_path / "pairs", CONFIG)
    assert list(result.failures) == ["p1"]
    assert "p1_he.png" in result.failures["p1"]
    assert "ValueError: odd" in result.failures["p1"]


def test_cohort_rows(cohort):
    rows = read_cohort(cohort)
    assert [row.name for row in rows] == ["p0", "p1", "p2", "p3"]
    assert rows[3].he == cohort.parent / "slides/p3_he.png"
    assert (rows[3].level, rows[3].lab, rows[3].he_mpp, rows[3].ihc_mpp) == ("3+", "a", 0.5, 0.5)


def test_several_rows_of_a_patient_and_odd_names(tmp_path):
    for name in ("r.png", "s.png"):
        (tmp_path / name).write_bytes(b"")
    path = tmp_path / "cohort.csv"
    path.write_text("patient,he\na b/1,r.png\nx,s.png\nx,s.png\n")
    rows = read_cohort(path)
    assert [row.name for row in rows] == ["a_b_1", "x-1", "x-2"]
    assert rows[0].patient == "a b/1"
    with pytest.raises(RestainError, match="without an IHC slide: a_b_1, x-1, x-2"):
        build_pairs(rows, tmp_path / "pairs", CONFIG)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient,ihc\np,s.png\n", "no column he"),
        ("patient,he\n", "no rows"),
        ("patient,he\n,s.png\n", "line 2 has no patient"),
        ("patient,he,mpp\np,s.png,half\n", "line 2: mpp 'half'"),
        ("patient,he,ihc\np,s.png,t.png\nq,u.png,../%s/s.png\n", r"s\.png is given for patient p and for patient q"),
        ("patient,he\np,gone.png\nq,lost.png\n", r"no slide exists(.|\n)*gone\.png(.|\n)*lost\.png"),
    ],
)
def test_bad_cohorts(tmp_path, text, words):
    (tmp_path / "s.png").write_bytes(b"")
    path = tmp_path / "cohort.csv"
    path.write_text(text.replace("%s", tmp_path.name))
    with pytest.raises(RestainError, match=words):
        read_cohort(path)


def test_a_dataset_that_was_not_built_here_is_kept(cohort: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "HE" / "train" / "00000_train_0.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(RestainError, match="not built here"):
        build_pairs(read_cohort(cohort), tmp_path / "mine", CONFIG)
    assert mine.read_bytes() == b"mine"
