"""``restain pairs`` and the chart of ``restain dataset stats``."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from restain.cli.main import main
from restain.slides import write_image


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Two patients whose textured H&E and IHC lie on each other."""
    rng = np.random.default_rng(0)
    lines = ["patient,he,ihc,mpp,her2"]
    for number in range(2):
        texture = cv2.GaussianBlur(rng.normal(0, 60, (256, 256, 3)), (0, 0), 1.5)
        for stain, colour in (("he", (190, 110, 170)), ("ihc", (200, 180, 170))):
            picture = np.clip(np.array(colour) + texture, 0, 255).astype(np.uint8)
            write_image(tmp_path / f"p{number}_{stain}.png", picture)
        lines.append(f"p{number},p{number}_he.png,p{number}_ihc.png,0.5,{number}+")
    table = tmp_path / "cohort.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


WORDS = ("--aligned", "--size", "64", "--min-focus", "0", "--min-alignment", "0")


def test_aligned_slides_become_a_dataset(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["pairs", str(cohort), "--out", str(out), *WORDS, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["failures"] == {}
    assert sum(document["splits"].values()) == len(list(out.glob("HE/*/*.png"))) == 32
    assert main(["pairs", str(cohort), "--out", str(out), *WORDS]) == 0
    assert "32 pairs kept, 0 dropped" in capsys.readouterr().out


def test_one_failure_is_named_and_others_go_on(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p0_ihc.png").unlink()
    assert main(["pairs", str(cohort), "--out", str(tmp_path / "out"), *WORDS]) == 1
    said = capsys.readouterr()
    assert "failed: p0: " in said.err
    assert "16 pairs kept" in said.out


def test_no_resolution_and_wrong_settings_are_wrong_use(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pairs", str(cohort), "--out", str(tmp_path / "a"), *WORDS, "--min-tissue", "3"]) == 2
    assert "min_tissue is a share" in capsys.readouterr().err
    cohort.write_text(cohort.read_text().replace(",0.5,", ",,"))
    assert main(["pairs", str(cohort), "--out", str(tmp_path / "b"), *WORDS]) == 2
    assert "p0_ihc.png" in (said := capsys.readouterr().err)
    assert "column mpp" in said
    assert "--mpp" not in said


def test_nothing_kept_is_said_with_where_to_look(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ring = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 0]]]}
    (tmp_path / "tumour.json").write_text(json.dumps(ring))
    lines = cohort.read_text().splitlines()
    cohort.write_text("\n".join([lines[0] + ",tumour", *(line + ",tumour.json" for line in lines[1:])]) + "\n")
    assert main(["pairs", str(cohort), "--out", str(tmp_path / "a"), *WORDS]) == 0
    assert "no pairs were kept: look at the reasons in" in capsys.readouterr().err
    for path in tmp_path.glob("p?_ihc.png"):
        path.write_bytes(b"broken")
    assert main(["pairs", str(cohort), "--out", str(tmp_path / "b"), *WORDS, "--mpp", "0.5"]) == 1
    said = capsys.readouterr().err
    assert "no pairs were kept: every row of the cohort failed" in said
    assert "pairs.csv" not in said


def test_stats_draw_slides_and_patches_by_level(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["pairs", str(cohort), "--out", str(out), *WORDS, "--fractions", '{"train": 0.5, "test": 0.5}']) == 0
    chart = tmp_path / "charts" / "levels.png"
    assert main(["dataset", "stats", str(out), "--out", str(chart), "--json"]) == 0
    text = capsys.readouterr().out
    splits = json.loads(text[text.index("\n{") :])["splits"]
    assert sorted(split["slide_levels"].popitem() for split in splits.values()) == [("0+", 1), ("1+", 1)]
    picture = np.asarray(Image.open(chart).convert("RGB"))
    assert picture.shape[1] > 2 * picture.shape[0]
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    assert main(["dataset", "stats", str(out), "--out", str(tmp_path / "levels.doc")]) == 2
    assert ".png, .svg or .pdf" in capsys.readouterr().err
