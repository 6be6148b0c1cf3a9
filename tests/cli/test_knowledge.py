"""``restain dataset knowledge``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from restain.cli.main import main

from ..pairs import write_pairs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs", train=3, val=1)


def test_maps_are_made_and_then_kept(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset", "knowledge", str(data), "--mpp", "0.5", "--workers", "0"]
    assert main([*words, "--density-scale", "count", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["pairs"], document["made"], document["failures"]) == (4, 4, {})
    assert list(document["nuclei"]) == ["0", "1+", "2+"]
    assert Image.open(document["overview"]).size[0] > 200
    assert json.loads((data / "knowledge" / "knowledge.json").read_text())["options"]["density_scale"] == "count"
    assert main([*words, "--density_scale=count"]) == 0
    assert "maps of 4 pairs (0 made now, 4 before)" in capsys.readouterr().out
    assert main(words) == 0
    said = capsys.readouterr()
    assert "maps of 4 pairs (4 made now, 0 before)" in said.out
    assert "density_scale was count, is image" in said.err
    assert main(["dataset", "check", str(data)]) == 0
    assert "warnings: 1" in capsys.readouterr().out  # that slides are not known


def test_failures_are_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = sorted((data / "IHC" / "train").iterdir())[1]
    bad.write_bytes(b"broken")
    assert main(["dataset", "knowledge", str(data), "--mpp", "0.5", "--workers", "0"]) == 1
    said = capsys.readouterr()
    assert f"failed: {bad}: " in said.err
    assert "maps of 3 pairs (3 made now, 0 before)" in said.out
    assert main(["dataset", "check", str(data)]) == 1
    said = capsys.readouterr()
    assert "has no dab, dab_mask, nuclei_map. Run `restain dataset knowledge" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--mpp UM_PER_PX"),
        (["--mpp", "-1"], "--mpp"),
        (["--mpp", "0.5", "--threshold", "2"], "threshold"),
        (["--mpp", "0.5", "--detector", "cellpose"], "cellpose_model"),
        (["--mpp", "0.5", "--detector", "cellpose", "--cellpose-model", "gone"], "gone"),
        (["--mpp", "0.5", "--workers", "-2"], "workers"),
    ],
)
def test_wrong_use(data: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "knowledge", str(data), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (data / "knowledge" / "knowledge.json").exists()


def test_help_tells_units_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["dataset", "knowledge", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in ("um/px", "--cellpose-model", "default: 0.15", "--density-scale {image,count}"):
        assert part in text
    assert main(["dataset", "--help"]) == 0
    assert "knowledge" in capsys.readouterr().out
