"""The library: what is found in a folder, what belongs together, and what damaged or hostile files do to it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restain.core.files import write_csv, write_json
from restain.slides import write_image
from restain.web import scan
from restain.web.scan import Found
from restain.web.sources import SourceKind, sources_for
from tests.web.serving import client_of, context_of, get
from tests.web.workspace import HOSTILE, Workspace


def library(folder: Path) -> dict[str, Any]:
    """What a fresh server of ``folder`` says."""
    return get(client_of(folder), "/api/library")


def slide(path: Path, content: bytes = b"slide") -> Path:
    """A file that is called like a slide; the library opens none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def registration(folder: Path, he: Path, ihc: Path, status: str = "ok") -> Path:
    """A registration of two slides, as far as the library looks."""
    stamps = {
        key: [path.name, path.stat().st_size, path.stat().st_mtime_ns] for key, path in (("he", he), ("ihc", ihc))
    }
    write_json(folder / "quality.json", {"status": status, "reason": "", "stage": "blocks", "settings": stamps})
    if status == "ok":
        write_json(folder / "transform.json", {})
        slide(folder / "he_registered.ome.tif")
    return folder


def stained(path: Path) -> Path:
    """A virtual slide, with its record."""
    made = {"views": 1, "method": "cut", "run": "run", "weights": ""}
    record = path.parent / "stain.json"
    outputs = json.loads(record.read_text())["outputs"] if record.exists() else {}
    slide(path)
    write_json(record, {"outputs": {**outputs, path.name: made}, "last_call": {}})
    return path


def test_a_patients_files_are_joined(workspace: Workspace) -> None:
    found = library(workspace.folder)
    first, second, third = found["cases"]
    assert first == {
        "patient": "p0000", "level": "3+", "lab": "lab2", "he_mpp": 0.5, "ihc_mpp": 0.5,
        "he": workspace.name(workspace.he), "ihc": workspace.name(workspace.ihc),
        "registration": workspace.name(workspace.registration), "registration_status": "ok",
        "registered_he": workspace.name(workspace.registered_he), "from": "cohort.csv",
        "virtual": [
            {"path": workspace.name(workspace.virtual), "label": "virtual IHC, pyramid_pix2pix (virtual)"},
            {"path": workspace.name(workspace.virtual_registered),
             "label": "virtual IHC, pyramid_pix2pix (virtual_registered)"},
        ],
    }  # fmt: skip
    assert (second["patient"], second["registration"], second["virtual"]) == ("p0001", None, [])
    assert (third["patient"], third["he"], third["ihc"]) == (HOSTILE, workspace.name(workspace.hostile), None)
    assert found["problems"] == []
    assert not found["truncated"]
    assert found["runs"] == [
        {"path": "runs/pyramid", "task": "stain", "method": "pyramid_pix2pix", "status": "running"},
        {"path": "runs/status", "task": "her2", "method": "ipca_small", "status": "done"},
    ]
    assert found["reports"] == [{"path": "report.html", "title": "A report & its <title>"}]
    assert [one["path"] for one in found["landmarks"]] == ["truth/p0000/landmarks.csv", "truth/p0001/landmarks.csv"]


def test_slides_are_listed_but_no_patches_masks_or_pictures(workspace: Workspace) -> None:
    listed = {one["path"] for one in library(workspace.folder)["slides"]}
    assert listed == {
        workspace.name(path)
        for path in (
            workspace.he, workspace.ihc, workspace.registered_he, workspace.virtual, workspace.virtual_registered,
            workspace.other_he, workspace.other_ihc, workspace.hostile,
        )
    }  # fmt: skip


def test_whatever_is_listed_is_served(workspace: Workspace) -> None:
    client = client_of(workspace.folder)
    found, root = get(client, "/api/library"), context_of(client).root
    names = [one["path"] for kind in ("slides", "runs", "reports", "landmarks") for one in found[kind]]
    for case in found["cases"]:
        names += [case[key] for key in ("he", "ihc", "registration", "registered_he", "from") if case[key]]
        names += [one["path"] for one in case["virtual"]]
    assert all(root.relative(root.resolve(name)) == name for name in names)


def test_patches_hidden_files_runs_and_studies_are_left_out(tmp_path: Path) -> None:
    for number in range(scan.PATCHES + 1):
        slide(tmp_path / "many" / f"{number}.png")
    slide(tmp_path / "few" / "00001_train_2+.png")
    slide(tmp_path / "bci" / "HE" / "train" / "a.png")
    slide(tmp_path / "bci" / "IHC" / "train" / "a.png")
    slide(tmp_path / ".hidden" / "a.tif")
    slide(tmp_path / "a" / ".b.tif")
    slide(tmp_path / "run" / "samples" / "epoch.png")
    write_json(tmp_path / "run" / "run.json", {"method": "cut"})
    slide(tmp_path / "study" / "images" / "real_3+.tif")
    slide(tmp_path / "study" / "study.sqlite", b"not a database")
    kept = slide(tmp_path / "many" / "whole.svs")
    found = library(tmp_path)
    assert [one["path"] for one in found["slides"]] == [kept.relative_to(tmp_path).as_posix()]
    assert found["studies"] == []
    assert any("study" in problem for problem in found["problems"])


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    outside = slide(tmp_path / "outside" / "secret.svs")
    served = tmp_path / "served"
    slide(served / "own.svs")
    (served / "link.svs").symlink_to(outside)
    (served / "folder").symlink_to(outside.parent)
    (served / "loop").symlink_to(served)
    write_csv(served / "cohort.csv", ("patient", "he", "ihc"), [{"patient": "a", "he": "own.svs", "ihc": "link.svs"}])
    registration(served / "reg", served / "own.svs", outside)
    (served / "reg" / "transform.json").unlink()
    (served / "reg" / "transform.json").symlink_to(outside)
    found = library(served)
    assert [one["path"] for one in found["slides"]] == ["own.svs", "reg/he_registered.ome.tif"]
    (case,) = found["cases"]
    assert (case["he"], case["ihc"], case["registration"]) == ("own.svs", None, None)
    assert any("4 symbolic links" in problem for problem in found["problems"])


def test_too_much_is_cut_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        slide(tmp_path / "deep" / f"{number:02d}.svs")
    slide(tmp_path / "near.svs")
    monkeypatch.setattr(scan, "ENTRIES", 12)
    found = library(tmp_path)
    assert found["truncated"]
    assert "near.svs" in {one["path"] for one in found["slides"]}  # what lies near is looked at first
    assert len(found["slides"]) < 12
    monkeypatch.setattr(scan, "ENTRIES", 1000)
    monkeypatch.setattr(scan, "SECONDS", -1)
    assert library(tmp_path)["truncated"]
    monkeypatch.setattr(scan, "SECONDS", 60)
    monkeypatch.setattr(scan, "DEEPEST", 0)
    found = library(tmp_path)
    assert found["truncated"]
    assert [one["path"] for one in found["slides"]] == ["near.svs"]


DAMAGED = {
    "cohort.csv": [b"patient,he\n,\n", b"patient,he\na,b\n", b"patient,he\na,\xff\n", b"patient,he\na,\0\n",
                   b"patient,he\n" + b"a,b\r" * 20_000, b'patient,he\na,"' + b"x" * 200_000,
                   b"patient,he\na," + b"x" * 10_000],
    "quality.json": [b"{", b"[" * 10**5, b'{"status": "ok", "settings": {"he": ["a", 1]}}',
                     b'{"status": 1, "settings": []}'],
    "stain.json": [b"nothing", b'{"outputs": [1]}', b'{"outputs": {"a.tif": 3}}', b'{"last_call": 1}'],
    "virtual.json": [b"{}", b'{"slides": 4}', b'{"slides": [{"name": "a"}]}'],
    "score.json": [b"{}", b'{"size": [1], "image": 1, "score": 2}', b'{"size": [1e999, 1], "image": "a", "score": 2}'],
    "prediction.json": [b"{}", b'{"model": 1, "status": 1, "slides": "abc"}', b"null"],
    "run.json": [b"{", b"[]", b"\xff\xfe"],
    "build.json": [b"{}", b'{"settings": {"config": {"aligned": 0}}, "plan": [1]}'],
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_a_line_and_no_error(tmp_path: Path, name: str) -> None:
    whole = slide(tmp_path / "whole" / "a.tif")
    write_csv(tmp_path / "whole.csv", ("patient", "he"), [{"patient": "a", "he": "whole/a.tif"}])
    for number, content in enumerate(DAMAGED[name]):
        slide(tmp_path / str(number) / name, content)
        slide(tmp_path / str(number) / "pairs.csv")
        if name == "stain.json":
            slide(tmp_path / str(number) / "a.tif")
    found = library(tmp_path)
    assert [case["he"] for case in found["cases"]] == [whole.relative_to(tmp_path).as_posix()]
    for number in range(len(DAMAGED[name])):
        lines = [line for line in found["problems"] if line.startswith(f"{number}/") and name in line]
        assert len(lines) == 1, found["problems"]
    assert not any(str(tmp_path) in line or "\n" in line for line in found["problems"])


def test_a_file_of_monstrous_size_is_not_read(tmp_path: Path) -> None:
    for name in ("quality.json", "stain.json", "score.json", "cohort.csv"):
        file = slide(tmp_path / name, b"patient,he\n")
        os.truncate(file, 2**34)  # sparse
    found = library(tmp_path)
    assert len(found["problems"]) == 4
    assert all("MiB" in problem for problem in found["problems"])


def test_a_name_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.svs", os.O_CREAT))
    slide(tmp_path / "good.svs")
    found = library(tmp_path)
    assert [one["path"] for one in found["slides"]] == ["good.svs"]
    assert any("\\udcff" in problem for problem in found["problems"])


def test_rows_lead_only_to_served_slides(tmp_path: Path) -> None:
    served = tmp_path / "served"
    slide(tmp_path / "secret.svs")
    slide(tmp_path / "other.svs")
    slide(served / "a.svs")
    slide(served / "study" / "b.svs")
    slide(served / "study" / "study.sqlite")
    rows: list[dict[str, object]] = [
        {"patient": "up", "he": "../secret.svs", "ihc": "a.svs"},
        {"patient": "absolute", "he": str(tmp_path / "other.svs"), "ihc": None},
        {"patient": "study", "he": "study/b.svs", "ihc": None},
        {"patient": "gone", "he": "gone.svs", "ihc": None},
        {"patient": "folder", "he": ".", "ihc": None},
    ]
    write_csv(served / "cohort.csv", ("patient", "he", "ihc"), rows)
    found = library(served)
    assert [(case["patient"], case["he"], case["ihc"]) for case in found["cases"]] == [("up", None, "a.svs")]
    assert any("5 of its slides are not in the served folder" in problem for problem in found["problems"])


def test_a_pair_in_two_tables_is_one_case(tmp_path: Path) -> None:
    he, ihc = slide(tmp_path / "he.svs"), slide(tmp_path / "ihc.svs")
    pair = {"patient": "a", "he": "he.svs", "ihc": "ihc.svs"}
    write_csv(tmp_path / "cohort.csv", ("patient", "he", "ihc"), [pair])
    write_csv(tmp_path / "x" / "status.csv", ("patient", "he", "her2"), [{"patient": "a", "he": str(he), "her2": "2+"}])
    more = {"patient": "a", "he": str(he), "ihc": str(ihc), "her2": "3+", "mpp": "0.25"}
    write_csv(tmp_path / "x" / "more.csv", tuple(more), [more])
    (case,) = library(tmp_path)["cases"]
    assert (case["patient"], case["level"], case["he_mpp"], case["from"]) == ("a", "3+", 0.25, "cohort.csv")


def test_a_registration_belongs_to_the_files_it_was_made_of(tmp_path: Path) -> None:
    he, ihc = slide(tmp_path / "he.svs"), slide(tmp_path / "ihc.svs")
    write_csv(tmp_path / "cohort.csv", ("patient", "he", "ihc"), [{"patient": "a", "he": "he.svs", "ihc": "ihc.svs"}])
    registration(tmp_path / "bad", he, ihc, "rejected")
    (case,) = library(tmp_path)["cases"]
    assert (case["registration"], case["registration_status"], case["registered_he"]) == (None, "rejected", None)
    registration(tmp_path / "good", he, ihc)
    wanted = ("good/transform.json", "ok", "good/he_registered.ome.tif")
    keys = ("registration", "registration_status", "registered_he")
    (case,) = library(tmp_path)["cases"]
    assert tuple(case[key] for key in keys) == wanted
    os.utime(he, ns=(1, 1))  # copied: another time, the same name and size
    (case,) = library(tmp_path)["cases"]
    assert tuple(case[key] for key in keys) == wanted
    he.write_bytes(b"another slide")
    (case,) = library(tmp_path)["cases"]
    assert tuple(case[key] for key in keys) == (None, None, None)


def test_a_registration_without_a_cohort_makes_a_case(tmp_path: Path) -> None:
    he, ihc = slide(tmp_path / "slides" / "1.svs"), slide(tmp_path / "slides" / "2.svs")
    registration(tmp_path / "out" / "patient 7", he, ihc)
    (case,) = library(tmp_path)["cases"]
    assert (case["patient"], case["he"], case["ihc"]) == ("patient 7", "slides/1.svs", "slides/2.svs")
    assert (case["registration"], case["from"]) == ("out/patient 7/transform.json", "out/patient 7")


def two_labs(folder: Path) -> None:
    """Two patients whose slides have one name."""
    for lab in ("a", "b"):
        slide(folder / lab / "1.svs")
    rows = [{"patient": f"{lab}1", "he": f"{lab}/1.svs"} for lab in ("a", "b")]
    write_csv(folder / "cohort.csv", ("patient", "he"), rows)


def test_virtual_slides_go_to_the_nearest_of_their_name_or_to_none(tmp_path: Path) -> None:
    two_labs(tmp_path)
    stained(tmp_path / "b" / "virtual" / "1.ome.tif")
    lost = stained(tmp_path / "virtual" / "1.ome.tif")
    named = stained(tmp_path / "by_patient" / "a1.ome.tif")
    found = library(tmp_path)
    assert {case["patient"]: [one["path"] for one in case["virtual"]] for case in found["cases"]} == {
        "a1": [named.relative_to(tmp_path).as_posix()],
        "b1": ["b/virtual/1.ome.tif"],
    }
    assert any(str(lost.relative_to(tmp_path)) in problem for problem in found["problems"])


def test_virtual_slides_that_are_gone_or_elsewhere_are_left_out(tmp_path: Path) -> None:
    outside = slide(tmp_path / "outside" / "1.ome.tif")
    served = tmp_path / "served"
    slide(served / "1.svs")
    write_csv(served / "cohort.csv", ("patient", "he"), [{"patient": "1", "he": "1.svs"}])
    stained(served / "virtual" / "1.ome.tif").unlink()
    made = {"views": 1, "method": "cut", "run": "run", "weights": ""}
    names = ["1.ome.tif", "../../outside/1.ome.tif", str(outside), "..", ""]
    write_json(served / "virtual" / "stain.json", {"outputs": dict.fromkeys(names, made)})
    found = library(served)
    assert (found["cases"][0]["virtual"], found["problems"]) == ([], [])


def test_virtual_slides_of_her2_virtual_know_their_slide(tmp_path: Path) -> None:
    two_labs(tmp_path)
    stained(tmp_path / "out" / "virtual" / "1.ome.tif")
    slides = [{"name": "1", "he": "/another/computer/b/1.svs"}]
    write_json(tmp_path / "out" / "virtual.json", {"slides": slides})
    found = library(tmp_path)
    assert [len(case["virtual"]) for case in found["cases"]] == [0, 1]


def test_it_looks_again_when_told(tmp_path: Path) -> None:
    client = client_of(tmp_path)
    assert get(client, "/api/library")["slides"] == []
    slide(tmp_path / "new.svs")
    assert get(client, "/api/library")["slides"] == []
    assert [one["path"] for one in get(client, "/api/library", refresh=1)["slides"]] == ["new.svs"]


def test_only_reports_of_restain_are_listed(tmp_path: Path) -> None:
    generator = b'<meta name="generator" content="restain 9.9"><title>One &amp; only</title></head>'
    slide(tmp_path / "ours.html", generator)
    slide(tmp_path / "late.html", b"<html></head>" + generator)
    slide(tmp_path / "theirs.html", b'<meta name="generator" content="other"><title>x</title>')
    slide(tmp_path / "binary.html", bytes(range(256)))
    assert library(tmp_path)["reports"] == [{"path": "ours.html", "title": "One & only"}]


def test_nothing_is_opened_by_the_walk(tmp_path: Path) -> None:
    slide(tmp_path / "a.svs").chmod(0)
    os.mkfifo(tmp_path / "pipe.svs")  # opening it would hang
    found: Found = scan.scan(tmp_path)
    assert [path.name for path in found.slides] == ["a.svs"]


def shown(
    client_folder: Path, path: Path, role: str | None = None, transform: Path | None = None
) -> set[tuple[str, ...]]:
    """What can be drawn on a slide: kind, file and frame."""
    context = context_of(client_of(client_folder))
    found = sources_for(context, path, role, transform)
    return {(one.kind.value, one.path.relative_to(client_folder).as_posix(), one.frame) for one in found}


def test_what_belongs_to_both_slides_of_a_pair_is_found(workspace: Workspace) -> None:
    cells = {("cells", "scores/p0000_ihc/cells.geojson"), ("cell_table", "scores/p0000_ihc/cells.csv")}
    patches, attention = ("patches", "pairs/pairs.csv"), ("attention", "predictions/p0000_he/attention.geojson")
    here = workspace.folder
    assert shown(here, workspace.he) == {(*attention, "own")}
    assert shown(here, workspace.ihc) == {*((*one, "own") for one in cells), (*patches, "own")}
    both = {*((*one, "ihc") for one in cells), (*patches, "ihc")}
    assert shown(here, workspace.he, "he", workspace.registration) == {(*attention, "own"), *both}
    virtual = shown(here, workspace.virtual_registered, "ihc", workspace.registration)
    assert virtual == {(*attention, "he"), *both}
    assert shown(here, workspace.other_he) == set()
    context = context_of(client_of(here))
    (item,) = {one.item for one in sources_for(context, workspace.ihc, None, None) if one.kind is SourceKind.PATCHES}
    assert item == "p0000"


def test_a_score_is_found_by_the_end_of_its_path_and_the_size(tmp_path: Path) -> None:
    """score.json holds the path as it was typed: relative to another folder, or of another computer."""
    for lab, side in (("a", 8), ("b", 16)):
        (tmp_path / lab).mkdir()
        write_image(tmp_path / lab / "ihc.png", np.zeros((side, side, 3), np.uint8))

    def score(image: str, side: int) -> None:
        folder = tmp_path / "scores" / "ihc"
        write_json(folder / "score.json", {"image": image, "score": "2+", "size": [side, side]})
        slide(folder / "cells.csv")

    def shown_on() -> list[str]:
        return [lab for lab in ("a", "b") if shown(tmp_path, tmp_path / lab / "ihc.png")]

    score("../elsewhere/b/ihc.png", 16)
    assert shown_on() == ["b"]
    score("C:\\slides\\a\\ihc.png", 8)
    assert shown_on() == ["a"]
    score("ihc.png", 16)  # of either folder; the size tells
    assert shown_on() == ["b"]
    score("a/ihc.png", 16)  # another slide of that name
    assert shown_on() == []
    shutil.copy(tmp_path / "a" / "ihc.png", tmp_path / "b" / "ihc.png")
    score("ihc.png", 8)  # of either: rather none than the wrong one
    assert shown_on() == []


def test_what_is_drawn_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    write_image(served / "a.png", np.zeros((8, 8, 3), np.uint8))
    secret = slide(tmp_path / "secret" / "attention.geojson")
    write_json(served / "p" / "prediction.json", {"model": "m", "status": "0", "slides": [{"slide": "a.png"}]})
    (served / "p" / "a").symlink_to(secret.parent)
    write_json(served / "s" / "score.json", {"image": "a.png", "score": None, "size": [8, 8]})
    (served / "s" / "cells.geojson").symlink_to(secret)
    assert shown(served, served / "a.png") == set()
    up = {"model": "m", "status": "0", "slides": [{"slide": "../../secret"}]}
    write_json(served / "p" / "prediction.json", up)
    assert shown(served, served / "a.png") == set()
