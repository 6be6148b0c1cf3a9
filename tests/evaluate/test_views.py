"""Test-time views beside the numbers, and the warning of blur."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.evaluate.conftest import NAMES, MakeFolder

from restain.cli.main import main
from restain.core.errors import RestainError
from restain.evaluate import evaluate
from restain.infer.record import Origin, write_record
from restain.report import write_evaluation_report
from restain.slides import read_image, write_image


def record(folder: Path, views: int, names: tuple[str, ...] = NAMES, run: str = "/runs/one") -> Path:
    origin = Origin(views, "cut", run, "c0ffee")
    write_record(folder, {}, {folder / f"{name}.png": origin for name in names}, [])
    return folder


def test_views_are_read_from_the_record(folder: MakeFolder, tmp_path: Path) -> None:
    real, plain = folder("real"), record(folder("plain", seed=1), 1)
    averaged, foreign = record(folder("averaged", seed=2), 7), folder("foreign", seed=3)
    summary = evaluate(real, {"plain": plain, "averaged": averaged, "foreign": foreign}, tmp_path / "out")
    assert [summary.views_text(name) for name in summary.views] == ["1", "7", "not stated"]
    assert any("compare like with like" in note for note in summary.notes())
    document = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [method["test_time_views"] for method in document["methods"].values()] == [1, 7, None]
    assert document["test_time_views"] is None
    alone = evaluate(real, averaged)
    assert alone.document()["test_time_views"] == 7
    assert not any("like with like" in note for note in alone.notes())


def test_what_is_stated_is_for_other_programs(folder: MakeFolder) -> None:
    real, averaged, foreign = folder("real"), record(folder("averaged"), 7), folder("foreign")
    assert evaluate(real, foreign, test_time_views=8).views == {"foreign": (8,)}
    assert evaluate(real, {"a": averaged, "b": foreign}, test_time_views=7).views == {"a": (7,), "b": (7,)}
    with pytest.raises(RestainError, match=r"--tta 1: averaged's .*stain\.json says 7"):
        evaluate(real, averaged, test_time_views=1)
    with pytest.raises(RestainError, match="--tta 0"):
        evaluate(real, foreign, test_time_views=0)


def test_a_folder_stained_in_two_ways_is_not_averaged(folder: MakeFolder) -> None:
    real, fake = folder("real"), folder("fake")
    record(fake, 1, NAMES[:1])
    record(fake, 7, NAMES[1:3])
    with pytest.raises(RestainError, match=r"cannot be averaged:\n  fake: .*views differs .*\(1, 7, not stated\)"):
        evaluate(real, fake)
    summary = evaluate(real, fake, mixed=True)
    assert summary.views["fake"] == (1, 7, None)
    assert any("Averaged all the same" in note and "1, 7, not stated" in note for note in summary.notes())
    assert summary.document()["test_time_views"] is None


def test_images_of_other_resolutions_are_not_averaged(folder: MakeFolder, tmp_path: Path) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    table = tmp_path / "pairs.csv"
    rows = [f"{name},test,{0.5 if name == NAMES[0] else 0.25}" for name in NAMES]
    table.write_text("\n".join(["name,split,mpp", *rows]))
    with pytest.raises(RestainError, match=r"have 0\.25 to 0\.5 um/px"):
        evaluate(real, fake, pairs=table)
    assert evaluate(real, fake, pairs=table, mixed=True).document()["mpp"] == [0.25, 0.5]
    assert evaluate(real, fake, pairs=table, mpp=0.3).document()["mpp"] == [0.3]
    with pytest.raises(RestainError, match="--mpp 0"):
        evaluate(real, fake, mpp=0.0)


def test_a_folder_that_two_runs_stained_is_not_averaged(folder: MakeFolder, tmp_path: Path) -> None:
    real, alone, two, foreign = folder("real"), record(folder("alone"), 1), folder("two"), folder("foreign")
    record(two, 1, NAMES[:1])
    record(two, 1, NAMES[1:3], "/runs/two")
    fakes = {"alone": alone, "two": two, "foreign": foreign}
    with pytest.raises(RestainError, match="two: the stainer differs"):
        evaluate(real, fakes, tmp_path, test_time_views=1)
    summary = evaluate(real, fakes, tmp_path, test_time_views=1, mixed=True)
    told = [note for note in summary.notes() if "stainer differs" in note]
    assert len(told) == 1
    assert "run /runs/one; cut, weights c0ffee, run /runs/two; not stated" in told[0]
    methods = json.loads((tmp_path / "summary.json").read_text())["methods"]
    made = {"views": 1, "method": "cut", "run": "/runs/one", "weights": "c0ffee"}
    assert methods["alone"]["stained_by"] == [made]
    assert methods["two"]["stained_by"] == [made, made | {"run": "/runs/two"}]
    assert methods["foreign"]["stained_by"] == []
    write_evaluation_report(summary, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Stained by: alone" in page
    assert "Stained by: foreign" not in page


def test_a_damaged_record_is_wrong_use(folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, fake = folder("real"), folder("fake")
    (fake / "stain.json").write_text("")
    assert main(["evaluate", "--real", str(real), "--fake", str(fake), "--out", str(tmp_path / "out")]) == 2
    assert "stain.json: not a record of `restain stain`. Remove it" in " ".join(capsys.readouterr().err.split())


def test_fakes_after_one_option_or_several(folder: MakeFolder, tmp_path: Path) -> None:
    real, a, b, c = folder("real"), folder("a"), folder("b"), folder("c")
    words = [
        "evaluate",
        "--fake",
        f"A={a}",
        f"B={b}",
        "--real",
        str(real),
        f"--fake=C={c}",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(words) == 0
    assert list(json.loads((tmp_path / "o" / "summary.json").read_text())["methods"]) == ["A", "B", "C"]


def test_the_command_prints_views_and_warns_of_blur(
    folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = folder("real")
    for name in NAMES:
        image = np.ascontiguousarray(np.tile(read_image(real / f"{name}.png"), (3, 3, 1)))
        write_image(tmp_path / "real3" / f"{name}.png", image)
        write_image(tmp_path / "soft" / f"{name}.png", cv2.GaussianBlur(image, (0, 0), 2))
    record(tmp_path / "soft", 7)
    words = ["evaluate", "--real", str(tmp_path / "real3"), "--fake", str(tmp_path / "soft"), "--out"]
    assert main([*words, str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "views" in printed.out
    said = " ".join(printed.err.split())
    assert "Warning: soft: Sharpness ratio" in said
    assert "blurred" in said
    document = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert document["methods"]["soft"]["overall"]["sharpness_ratio"]["mean"] < 0.5
    assert "blurred" in document["warnings"][0]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "blurred (blur raises PSNR and SSIM" in page
    assert "Test-time views averaged: soft" in page
    assert main([*words, str(tmp_path / "old"), "--protocol", "bci"]) == 0
    assert json.loads((tmp_path / "old" / "summary.json").read_text())["warnings"] == []
    assert main([*words, str(tmp_path / "contradicts"), "--tta", "1"]) == 2
    assert "stain.json says 7" in " ".join(capsys.readouterr().err.split())


def test_sharp_images_are_not_warned_of(folder: MakeFolder, tmp_path: Path) -> None:
    summary = evaluate(folder("real"), folder("fake", seed=1))
    assert summary.warnings() == []
    write_evaluation_report(summary, tmp_path / "report.html")
    assert "blurred (" not in (tmp_path / "report.html").read_text()


def test_workers_are_one_or_more(folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--real", str(folder("real")), "--fake", str(folder("fake")), "--out", str(tmp_path / "out")]
    assert main(["evaluate", *words, "--workers", "-1"]) == 2
    assert "--workers -1" in capsys.readouterr().err


def test_identical_images_are_infinite_and_not_few(
    folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = folder("real")
    assert main(["evaluate", "--real", str(real), "--fake", f"same={real}", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "infinite" in printed.out
    assert "PSNR of fewer" not in printed.err
