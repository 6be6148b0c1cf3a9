"""Pairs from slides: every reason to drop a patch, registration, resumption, unpaired patches, bad input."""

from __future__ import annotations

import csv
import errno
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import restain.data.build as build
import restain.data.cut as cut
from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json
from restain.data import CohortRow, PairsConfig, build_pairs, check_dataset, read_cohort, read_dataset
from restain.registration.options import RegisterOptions
from restain.slides import PyramidWriter, write_image
from restain.synthetic import SlideRenderer, SynthOptions, World

MPP, SIDE, PATCH = 0.5, 768, 192
CONFIG = PairsConfig(size=PATCH, aligned=True, min_tissue=0.3, fractions={"train": 0.5, "test": 0.5})
Picture = np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def sections() -> tuple[Picture, Picture]:
    """H&E and IHC of neighbouring sections, one exactly on the other, uint8 [SIDE, SIDE, 3]."""
    options = SynthOptions(size=SIDE, mpp=MPP, seed=5, no_deformation=True, pen=0, folds=0, bubbles=0, out_of_focus=0)
    world = World(options, 0)
    he, ihc = (SlideRenderer(world, stain).region(0, 0, SIDE, SIDE).rgb for stain in ("he", "ihc"))
    return he, ihc


Make = Callable[..., Path]


@pytest.fixture
def cohort(tmp_path: Path, sections: tuple[Picture, Picture]) -> Make:
    """``cohort(p0=(he, ihc), ...)``: slides and the table; without arguments two patients with sound slides."""

    def make(columns: str = "", cells: dict[str, str] | None = None, **slides: tuple[Picture, Picture]) -> Path:
        lines = ["patient,he,ihc,mpp,her2" + columns]
        for number, (name, pair) in enumerate((slides or {"p0": sections, "p1": sections}).items()):
            for stain, picture in zip(("he", "ihc"), pair, strict=True):
                write_image(tmp_path / "cohort" / f"{name}_{stain}.png", picture)
            extra = (cells or {}).get(name, "")
            lines.append(f"{name},{name}_he.png,{name}_ihc.png,{MPP},{number % 4}+" + (f",{extra}" if columns else ""))
        table = tmp_path / "cohort" / "cohort.csv"
        table.write_text("\n".join(lines) + "\n")
        return table

    return make


def table_of(out: Path) -> list[dict[str, str]]:
    with (out / "pairs.csv").open() as stream:
        return list(csv.DictReader(stream))


def reasons(out: Path, patient: str = "p0") -> Counter[str]:
    return Counter(row["reason"].partition(" (")[0] for row in table_of(out) if row["patient"] == patient)


def moved(picture: Picture, um: float) -> Picture:
    return np.asarray(np.roll(picture, round(um / MPP), axis=1))


def test_sound_neighbouring_sections_are_kept(cohort: Make, tmp_path: Path) -> None:
    result = build_pairs(read_cohort(cohort()), tmp_path / "out", CONFIG)
    assert result.failures == {}
    rows = table_of(tmp_path / "out")
    kept = [row for row in rows if row["kept"] == "1"]
    dropped_for = Counter(row["reason"] for row in rows if row["kept"] == "0")
    assert len(kept) >= 12
    assert all(reason.startswith("little tissue") for reason in dropped_for)
    for row in kept:
        assert float(row["alignment"]) > 0.9
        assert float(row["shift_um"]) < 4
        assert 0.6 < float(row["focus_he"]) < 1.4
        assert float(row["pen"]) == 0
        assert (row["filled"], row["tumour"], row["side"]) == ("", "", "")
    folder = read_dataset(tmp_path / "out")
    assert (len(folder.records), folder.dropped, folder.mpp) == (len(kept), len(rows) - len(kept), MPP)
    assert result.dropped == sum(result.reasons.values())


def test_displaced_sections_are_dropped(cohort: Make, sections: tuple[Picture, Picture], tmp_path: Path) -> None:
    he, ihc = sections
    table = cohort(p0=(moved(he, 25), ihc), p1=(moved(he, 4), ihc))
    build_pairs(read_cohort(table), tmp_path / "out", CONFIG)
    rows = [row for row in table_of(tmp_path / "out") if row["shift_um"]]
    for row in rows:
        truth = 25 if row["patient"] == "p0" else 4
        assert float(row["shift_um"]) == pytest.approx(truth, abs=3)
        assert row["kept"] == str(int(truth < 10))
        assert row["reason"].startswith("badly aligned (shift 2") == (truth > 10)
    assert {row["patient"] for row in rows} == {"p0", "p1"}
    off = tmp_path / "off"
    build_pairs(read_cohort(table), off, replace(CONFIG, min_alignment=0))
    assert reasons(off)["badly aligned"] == 0
    assert {row["alignment"] for row in table_of(off)} == {""}


def test_places_out_of_focus_are_dropped(cohort: Make, sections: tuple[Picture, Picture], tmp_path: Path) -> None:
    he, ihc = sections
    blurred = ihc.copy()
    blurred[:, : SIDE // 2] = cv2.GaussianBlur(ihc, (0, 0), 1.9 / MPP)[:, : SIDE // 2]
    build_pairs(read_cohort(cohort(p0=(he, blurred), p1=sections)), tmp_path / "out", CONFIG)
    for row in table_of(tmp_path / "out"):
        if row["focus_ihc"]:
            inside = row["patient"] == "p0" and int(row["x"]) < SIDE // 2
            assert (row["reason"] == "out of focus in IHC") == inside, row
    assert reasons(tmp_path / "out")["out of focus in IHC"] >= 4
    # a slide that is blurred all over has no sharp patches to be compared with
    worse = cv2.GaussianBlur(he, (0, 0), 2.5 / MPP)
    build_pairs(read_cohort(cohort(p0=(worse, ihc), p1=sections)), tmp_path / "all", CONFIG)
    assert set(reasons(tmp_path / "all")) <= {"out of focus in H&E", "little tissue in H&E", "little tissue in IHC"}


def test_pen_is_dropped(cohort: Make, sections: tuple[Picture, Picture], tmp_path: Path) -> None:
    he, ihc = sections
    inked = he.copy()
    inked[:, 300:420] = (inked[:, 300:420] * np.array([0.1, 0.65, 0.3])).astype(np.uint8)
    build_pairs(read_cohort(cohort(p0=(inked, ihc), p1=sections)), tmp_path / "out", CONFIG)
    for row in table_of(tmp_path / "out"):
        if row["patient"] == "p0" and int(row["x"]) == 192:
            assert row["reason"] == "pen on H&E"
            assert float(row["pen"]) > 0.3
        elif row["patient"] == "p0" and int(row["x"]) == 576:
            assert row["reason"] != "pen on H&E"
    assert reasons(tmp_path / "out", "p1")["pen on H&E"] == 0


def test_patches_without_tumour_are_dropped(cohort: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ring = [[0, 0], [384, 0], [384, SIDE], [0, SIDE], [0, 0]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    table = cohort(",tumour", {"p0": "left.geojson"})
    (table.parent / "left.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    build_pairs(read_cohort(table), tmp_path / "out", CONFIG)
    for row in table_of(tmp_path / "out"):
        left = int(row["x"]) < 384
        assert row["tumour"] == ("" if row["patient"] == "p1" else row["tumour"])
        if row["patient"] == "p0":
            assert float(row["tumour"]) == pytest.approx(float(left), abs=0.02)
            assert row["kept"] == "0" or left
    assert reasons(tmp_path / "out")["without tumour"] >= 4
    assert reasons(tmp_path / "out", "p1")["without tumour"] == 0
    assert capsys.readouterr().err.count("does not say where the tumour is") == 1


def test_the_truth_of_synthetic_patients_says_where_tumour_is(cohort: Make, tmp_path: Path) -> None:
    table = cohort()
    truth = table.parent / "truth" / "p1" / "cells.csv"
    truth.parent.mkdir(parents=True)
    truth.write_text("kind,x_ihc,y_ihc\n" + "".join(f"tumour,{x},{x}\n" for x in range(10, 250, 16)))
    rows = read_cohort(table)
    assert [row.tumour for row in rows] == [None, truth]
    build_pairs(rows, tmp_path / "out", CONFIG)
    share = {(row["x"], row["y"]): float(row["tumour"]) for row in table_of(tmp_path / "out") if row["tumour"]}
    assert share[("0", "0")] > 0.1
    assert share[("384", "384")] == 0


def test_bad_tumour_files_fail_by_name(cohort: Make, tmp_path: Path) -> None:
    table = cohort(",tumour", {"p0": "gone.geojson", "p1": "far.geojson"})
    ring = [[9000, 9000], [9100, 9000], [9100, 9100], [9000, 9000]]
    (table.parent / "far.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    result = build_pairs(read_cohort(table), tmp_path / "out", CONFIG)
    assert "gone.geojson: no such file" in result.failures["p0"]
    assert "none of its tumour lies on" in result.failures["p1"]


class FakeRegistration:
    """In place of ``registered_row``: copies the H&E moved back by 40 um, filled in where it has no pixels."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.reject: set[str] = set()
        self.interrupt: set[str] = set()

    def __call__(self, row: CohortRow, folder: Path, _: RegisterOptions) -> tuple[CohortRow, Path]:
        self.calls.append(row.name)
        if row.name in self.interrupt:
            raise KeyboardInterrupt
        if row.name in self.reject:
            raise ItemError(f"{row.he} was not registered: no alignment stands out.")
        picture = cv2.cvtColor(cv2.imread(str(row.he)), cv2.COLOR_BGR2RGB)
        filled = np.zeros((SIDE // 8, SIDE // 8), np.uint8)
        filled[:, -10:] = 255
        write_image(folder / "he_registered.png", moved(picture, -40))
        (folder / "quality.json").write_text("{}")
        with PyramidWriter(folder / "filled.ome.tif", (SIDE // 8, SIDE // 8), MPP * 8, fill=0) as writer:
            writer.write(0, 0, filled)
        return replace(row, he=folder / "he_registered.png", he_mpp=MPP), folder / "filled.ome.tif"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRegistration:
    registration = FakeRegistration()
    monkeypatch.setattr(build, "registered_row", registration)
    return registration


REGISTERED = replace(CONFIG, aligned=False)


@pytest.fixture
def displaced(cohort: Make, sections: tuple[Picture, Picture]) -> Path:
    """A cohort of three patients whose H&E lies 40 um beside the IHC."""
    pair = moved(sections[0], 40), sections[1]
    return cohort(p0=pair, p1=pair, p2=pair)


def test_registered_pairs_without_their_filled_borders(displaced: Path, fake: FakeRegistration, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = build_pairs(read_cohort(displaced), out, REGISTERED)
    assert result.failures == {}
    assert fake.calls == ["p0", "p1", "p2"]
    assert sum(result.splits.values()) >= 18
    seen = 0
    for row in table_of(out):
        if row["filled"]:
            seen += 1
            share = 80 / PATCH if int(row["x"]) + PATCH == SIDE else 0
            assert float(row["filled"]) == pytest.approx(share)
            assert (row["reason"] == "filled border") == (share > 0)
    assert seen
    build_pairs(read_cohort(displaced), out, REGISTERED)
    assert len(fake.calls) == 3  # nothing is done twice


def test_a_rejected_registration_is_named_and_the_others_go_on(
    displaced: Path, fake: FakeRegistration, tmp_path: Path
) -> None:
    fake.reject = {"p1"}
    result = build_pairs(read_cohort(displaced), tmp_path / "out", REGISTERED)
    assert result.exit_code == 1
    assert "no alignment stands out" in result.failures["p1"]
    assert {row["patient"] for row in table_of(tmp_path / "out")} == {"p0", "p2"}
    fake.reject = set()
    assert build_pairs(read_cohort(displaced), tmp_path / "out", REGISTERED).exit_code == 0
    assert fake.calls == ["p0", "p1", "p2", "p1"]
    assert check_dataset(tmp_path / "out").exit_code == 0


def test_interrupted_it_goes_on(displaced: Path, fake: FakeRegistration, tmp_path: Path) -> None:
    fake.interrupt = {"p1"}
    with pytest.raises(KeyboardInterrupt):
        build_pairs(read_cohort(displaced), tmp_path / "out", REGISTERED)
    fake.interrupt = set()
    assert build_pairs(read_cohort(displaced), tmp_path / "out", REGISTERED).exit_code == 0
    assert fake.calls == ["p0", "p1", "p1", "p2"]


def test_registrations_are_shared_by_datasets(displaced: Path, fake: FakeRegistration, tmp_path: Path) -> None:
    shared = tmp_path / "registrations"
    build_pairs(read_cohort(displaced), tmp_path / "out", REGISTERED, shared)
    assert sorted(path.name for path in shared.iterdir()) == ["p0", "p1", "p2"]
    assert not (tmp_path / "out" / "registered").exists()


def test_a_registration_is_forgotten_where_its_own_files_change(
    displaced: Path, fake: FakeRegistration, tmp_path: Path
) -> None:
    out, shared, folder = tmp_path / "out", tmp_path / "registrations", displaced.parent
    ring = [[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE], [0, 0]]
    (folder / "p0.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    head, *rows = displaced.read_text().splitlines()
    rows = [row + end for row, end in zip(rows, (",p0.geojson,", ",,", ",,"), strict=True)]
    displaced.write_text("\n".join([head + ",tumour,landmarks", *rows]) + "\n")
    build_pairs(read_cohort(displaced), out, REGISTERED, shared)
    for name in ("p0", "p1", "p2"):
        (shared / name / "mark").write_text("of the first registration")
    (folder / "p0.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}, indent=1))
    picture = cv2.imread(str(folder / "p1_he.png"))
    cv2.imwrite(str(folder / "p1_he.png"), picture[::-1])
    (folder / "points.csv").write_text("x_he,y_he,x_ihc,y_ihc\n")
    displaced.write_text("\n".join([head + ",tumour,landmarks", *rows[:2], rows[2] + "points.csv"]) + "\n")
    build_pairs(read_cohort(displaced), out, REGISTERED, shared)
    assert fake.calls[3:] == ["p0", "p1", "p2"]
    assert [(shared / name / "mark").exists() for name in ("p0", "p1", "p2")] == [True, False, False]


def test_a_full_disk_fails_the_slide_and_leaves_no_patch(
    cohort: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, table = tmp_path / "out", cohort()
    sound = cut.write_image

    def full(path: Path, image: Picture) -> None:
        if "IHC" in path.parts and len(list((out / "HE").rglob("*.png"))) > 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        sound(path, image)

    monkeypatch.setattr(cut, "write_image", full)
    result = build_pairs(read_cohort(table), out, CONFIG)
    assert set(result.failures) == {"p0", "p1"}
    assert "No space left" in result.failures["p0"]
    assert list(out.rglob("*.png")) == []
    monkeypatch.setattr(cut, "write_image", sound)
    assert build_pairs(read_cohort(table), out, CONFIG).exit_code == 0
    assert check_dataset(out).exit_code == 0


def test_unpaired_patches_need_no_alignment(cohort: Make, sections: tuple[Picture, Picture], tmp_path: Path) -> None:
    he, ihc = sections
    blurred = he.copy()
    blurred[: SIDE // 2] = cv2.GaussianBlur(he, (0, 0), 1.9 / MPP)[: SIDE // 2]
    table = cohort(p0=(moved(he, 60), ihc[:600]), p1=(blurred, moved(ihc, 30)))  # sizes may differ, too
    config = replace(CONFIG, aligned=False, unpaired=True)
    result = build_pairs(read_cohort(table), tmp_path / "out", config)
    assert result.failures == {}
    folder = read_dataset(tmp_path / "out")
    assert folder.layout.startswith("ab")
    assert (folder.records, folder.mpp, folder.levels) == ((), MPP, ("0+", "1+"))
    sides = Counter((image.side, image.split) for image in folder.lone)
    assert len(folder.lone) == sum(result.splits.values())
    assert set(sides) == {(side, split) for side in ("he", "ihc") for split in ("train", "test")}
    assert not [problem for problem in folder.problems if problem.severity == "error"]
    rows = table_of(tmp_path / "out")
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        in_blur = row["side"] == "he" and row["patient"] == "p1" and int(row["y"]) < SIDE // 2
        assert in_blur or "focus" not in row["reason"]
        assert (row["focus_he"] == "") or row["side"] == "he"
        assert row["alignment"] == row["shift_um"] == ""
    assert any(row["reason"] == "out of focus in H&E" for row in rows)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    build_pairs(read_cohort(table), tmp_path / "out", config)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")} == before


def test_a_missing_slide_fails_its_row_alone(cohort: Make, tmp_path: Path) -> None:
    table = cohort()
    (table.parent / "p0_he.png").unlink()
    result = build_pairs(read_cohort(table), tmp_path / "out", CONFIG)
    assert list(result.failures) == ["p0"]
    assert "p0_he.png: no such file" in result.failures["p0"]
    assert {row["patient"] for row in table_of(tmp_path / "out")} == {"p1"}


def test_a_slide_that_vanishes_later_keeps_its_patches_listed(cohort: Make, tmp_path: Path) -> None:
    table = cohort()
    build_pairs(read_cohort(table), tmp_path / "out", CONFIG)
    before = table_of(tmp_path / "out")
    (table.parent / "p0_he.png").unlink()
    assert list(build_pairs(read_cohort(table), tmp_path / "out", CONFIG).failures) == ["p0"]
    assert table_of(tmp_path / "out") == before


def test_cohort_and_dataset_may_move_together(cohort: Make, tmp_path: Path) -> None:
    table = cohort()
    out = table.parent / "out"
    build_pairs(read_cohort(table), out, CONFIG)
    before = {path.name: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    table.parent.rename(tmp_path / "elsewhere")
    result = build_pairs(read_cohort(tmp_path / "elsewhere/cohort.csv"), tmp_path / "elsewhere/out", CONFIG)
    assert result.exit_code == 0
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "elsewhere/out").rglob("*.png")} == before
    assert str(tmp_path) not in json.dumps(read_json(tmp_path / "elsewhere/out/build.json"))


def test_resolution_is_taken_from_the_slides_only_if_they_agree(cohort: Make, tmp_path: Path) -> None:
    table = cohort()
    build_pairs(read_cohort(table), tmp_path / "out", CONFIG)
    assert {row["mpp"] for row in table_of(tmp_path / "out")} == {str(MPP)}
    text = table.read_text()
    table.write_text(text.replace("p1_ihc.png,0.5", "p1_ihc.png,0.25"))
    with pytest.raises(RestainError, match=r"different um/px: 0\.25 \(p1\), 0\.5 \(p0\)"):
        build_pairs(read_cohort(table), tmp_path / "other", CONFIG)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_focus": 2}, "min_focus is a share"),
        ({"max_pen": -0.1}, "max_pen is a share"),
        ({"aligned": True, "unpaired": True}, "choose one"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RestainError, match=words):
        PairsConfig(**settings)
