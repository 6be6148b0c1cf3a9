"""``restain her2 score``: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restain.cli.main import main
from restain.slides import write_image

from ..her2_field import paint


@pytest.fixture
def strong(tmp_path: Path) -> Path:
    """An image whose cells all have intense complete membranes."""
    path = tmp_path / "strong.png"
    write_image(path, paint(np.full((12, 12), 1.2))[0])
    return path


def result(text: str) -> dict[str, object]:
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_one_image_prints_its_document(strong: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["her2", "score", str(strong), "--mpp", "0.5", "--out", str(tmp_path / "out"), "--json"]) == 0
    document = result(capsys.readouterr().out)
    assert document["image"] == str(strong)
    assert document["score"] == "3+"
    assert document["percent"]["3+"] > 90  # type: ignore[index]
    assert "intense" in str(document["reason"])
    written = json.loads((tmp_path / "out" / "strong" / "score.json").read_text())
    assert written == document
    for name in ("cells.csv", "cells.geojson", "picture.png"):
        assert (tmp_path / "out" / "strong" / name).stat().st_size > 0


def test_without_um_per_px(strong: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["her2", "score", str(strong), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert "--mpp" in captured.err
    assert "strong.png" in captured.err.replace("\n", "")


def test_no_tissue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "white.png"
    write_image(path, np.full((300, 300, 3), 250, np.uint8))
    assert main(["her2", "score", str(path), "--mpp", "0.5", "--out", str(tmp_path / "out"), "--json"]) == 1
    document = result(capsys.readouterr().out)
    assert document["score"] is None
    assert document["reason"] == "no tissue"


def test_a_corrupted_image_among_good_ones(strong: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(strong.read_bytes()[:2000])
    words = ["her2", "score", str(broken), str(strong), "--mpp", "0.5", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 1
    captured = capsys.readouterr()
    document = result(captured.out)
    assert [entry["score"] for entry in document["results"]] == ["3+"]  # type: ignore[attr-defined]
    assert "broken" in document["failures"]  # type: ignore[operator]
    assert "failed: broken" in captured.err
    white = tmp_path / "white.png"
    write_image(white, np.full((300, 300, 3), 250, np.uint8))
    assert main(["her2", "score", str(white), "--mpp", "0.5", "--out", str(tmp_path / "out")]) == 1
    table = (tmp_path / "out" / "scores.csv").read_text()  # of both calls
    assert "strong.png,3+" in table
    assert "no tissue" in table


def test_what_failed_is_in_the_table(strong: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(strong.read_bytes()[:2000])
    assert main(["her2", "score", str(broken), "--mpp", "0.5", "--out", str(tmp_path / "out")]) == 1
    assert "broken.png" in (tmp_path / "out" / "scores.csv").read_text()


def test_images_of_one_name_do_not_overwrite_each_other(strong: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "strong.png"
    other.parent.mkdir()
    write_image(other, paint(np.zeros((8, 8)))[0])
    assert main(["her2", "score", str(strong), str(other), "--mpp", "0.5", "--out", str(tmp_path / "out")]) in (0, 1)
    first, second = (
        json.loads((tmp_path / "out" / name / "score.json").read_text()) for name in ("strong", "strong-2")
    )
    assert (first["image"], second["image"]) == (str(strong), str(other))


def test_what_is_done_is_not_done_again(strong: Path, tmp_path: Path) -> None:
    words = ["her2", "score", str(strong), "--mpp", "0.5", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    table = tmp_path / "out" / "strong" / "cells.csv"
    before = table.stat().st_mtime_ns
    assert main(words) == 0
    assert table.stat().st_mtime_ns == before
    table.unlink()
    assert main(words) == 0
    assert table.exists()


def test_alpha_and_sixteen_bits(strong: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rgba = tmp_path / "alpha.png"
    Image.open(strong).convert("RGBA").save(rgba)
    assert main(["her2", "score", str(rgba), "--mpp", "0.5", "--out", str(tmp_path / "out"), "--json"]) == 0
    assert result(capsys.readouterr().out)["score"] == "3+"
    grey = tmp_path / "grey16.png"
    Image.fromarray(np.asarray(Image.open(strong).convert("L")).astype(np.uint16) * 257).save(grey)
    assert main(["her2", "score", str(grey), "--mpp", "0.5", "--out", str(tmp_path / "out")]) == 1
    assert "grey-scale" in capsys.readouterr().err


def test_um_per_px_out_of_range(strong: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mpp in ("8", "0.001"):
        assert main(["her2", "score", str(strong), "--mpp", mpp, "--out", str(tmp_path / "out")]) == 2
        assert "um/px" in capsys.readouterr().err


def test_one_damaged_image_has_a_document_too(strong: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strong.write_bytes(strong.read_bytes()[:2000])
    assert main(["her2", "score", str(strong), "--mpp", "0.5", "--out", str(tmp_path / "out"), "--json"]) == 1
    document = result(capsys.readouterr().out)
    assert document["score"] is None
    assert "strong.png" in str(document["reason"])


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["her2", "score", str(tmp_path / "none.png"), "--mpp", "0.5", "--out", str(tmp_path / "out")]) == 1
    assert "none.png" in capsys.readouterr().err


def test_actions_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["her2", "--help"]) == 0
    assert "score" in capsys.readouterr().out
    assert main(["her2"]) == 2
    assert main(["her2", "divine"]) == 2
    assert "score" in capsys.readouterr().err
