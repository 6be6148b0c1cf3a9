"""``restain import`` as it is typed, and what becomes of the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from restain.cli.main import main
from restain.stainers.cut import Config, Cut

from ..her2.checkpoints import hiding, holding_itself
from ..infer.conftest import he_picture, write_slide
from ..pairs import write_pairs

SETTINGS = [
    "--stainer.generator_width", "4", "--stainer.discriminator_width", "4", "--stainer.embedding_width", "4",
    "--stainer.generator_blocks", "2", "--stainer.nce_layers", "[0, 4]",
]  # fmt: skip
SMALL = Config(
    generator_width=4, discriminator_width=4, embedding_width=4, generator_blocks=2, nce_layers=(0, 4), antialias=True
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / "latest_net_G.pth"
    torch.save(Cut(SMALL).G.state_dict(), path)
    return path


def test_import_prints_a_document_and_says_what_was_loaded(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import", "cut", str(checkpoint), "--out", str(tmp_path / "run"), "--mpp", "0.5", *SETTINGS]
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["task"], document["method"], document["mpp"], document["status"]) == ("stain", "cut", 0.5, "done")
    assert "G: loaded" in captured.err
    assert "F, D: not loaded; staining does not need them." in captured.err

    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*.*") if file.name != ".lock"}
    assert main(words) == 0
    assert "is imported already" in capsys.readouterr().err
    assert before == {file: file.stat().st_mtime_ns for file in before}

    torch.save(Cut(SMALL).G.state_dict(), checkpoint)
    assert main(words) == 2
    assert "holds a run of other settings" in capsys.readouterr().err
    assert main([*words[:4], str(tmp_path), *words[5:]]) == 2
    assert "not empty and not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("form", [hiding, holding_itself])
def test_odd_envelopes_spoil_nothing(form: Any, checkpoint: Path, tmp_path: Path) -> None:
    words = ["import", "cut", str(checkpoint), *SETTINGS]
    assert main([*words, "--out", str(tmp_path / "plain")]) == 0
    torch.save(form(torch.load(checkpoint)), checkpoint)
    assert main([*words, "--out", str(tmp_path / "odd")]) == 0
    plain, odd = (tmp_path / name / "checkpoints" / "final.safetensors" for name in ("plain", "odd"))
    assert plain.read_bytes() == odd.read_bytes()


@pytest.mark.parametrize("form", [hiding, holding_itself])
@pytest.mark.parametrize("method", ["pix2pix", "clam_sb"])
def test_odd_envelopes_of_nothing_are_refused(
    method: str, form: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(form({}), tmp_path / "odd.pt")
    assert main(["import", method, str(tmp_path / "odd.pt"), "--out", str(tmp_path / "run")]) == 1
    assert "holds no tensors by name" in " ".join(capsys.readouterr().err.split())


def test_a_run_without_um_px_stains_patches_and_says_how_slides_would_go(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "cut", str(checkpoint), "--out", str(tmp_path / "run"), *SETTINGS]) == 0
    assert "Give --mpp if you know it" in capsys.readouterr().err
    slide = write_slide(tmp_path / "case.ome.tif", he_picture(700, 600), 0.5)
    cv2.imwrite(str(tmp_path / "patch.png"), he_picture(96, 80)[..., ::-1])
    assert main(["stain", str(tmp_path / "run"), str(tmp_path / "patch.png"), "--out", str(tmp_path / "fake")]) == 0
    assert cv2.imread(str(tmp_path / "fake" / "patch.png")).shape == (80, 96, 3)
    assert main(["stain", str(tmp_path / "run"), str(slide), "--out", str(tmp_path / "virtual")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "knows no um/px" in said
    assert "import" in said
    assert "--mpp" in said
    words = ["import", "cut", str(checkpoint), "--out", str(tmp_path / "with"), "--mpp", "0.5", *SETTINGS]
    assert main(words) == 0
    assert main(["stain", str(tmp_path / "with"), str(slide), "--out", str(tmp_path / "virtual")]) == 0


def test_no_training_goes_on_from_an_imported_run(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", write_pairs(tmp_path / "pairs", side=64)
    assert main(["import", "cut", str(checkpoint), "--out", str(run), "--mpp", "0.5", *SETTINGS]) == 0
    weights = (run / "checkpoints" / "final.safetensors").read_bytes()
    short = ["--batches.workers", "0", "--training.epochs", "1", "--training.epochs_decay", "0"]
    words = ["--data", str(data), "--mpp", "0.5", *SETTINGS, "--batches.augmentation.crop", "64"]
    words += ["--batches.augmentation.resize", "64", *short]
    assert main(["train", "cut", *words, "--out", str(run)]) == 2
    assert "was imported. It stains, but no training goes on from it" in " ".join(capsys.readouterr().err.split())
    assert (run / "checkpoints" / "final.safetensors").read_bytes() == weights
    # Its config.yaml is a recipe of the same architecture, and the other way round.
    again = ["train", "cut", "--config", str(run / "config.yaml"), "--data", str(data), "--out", str(tmp_path / "new")]
    assert main([*again, *words[-10:]]) == 0
    config = str(tmp_path / "new" / "config.yaml")
    assert main(["import", "cut", str(checkpoint), "--config", config, "--out", str(tmp_path / "third")]) == 0


def test_wrong_use(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert main(["import"]) == 2
    assert main(["import", "--help"]) == 0
    assert "restain import METHOD CHECKPOINT --out RUN" in capsys.readouterr().out
    assert main(["import", "--out", "x"]) == 2
    assert main(["import", "cutt", str(checkpoint), *out]) == 2
    assert "Did you mean cut" in capsys.readouterr().err
    assert main(["import", "cut", str(tmp_path / "none.pth"), *out]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["import", "cut", str(checkpoint), *out, "--config", "asp"]) == 2
    assert "is a recipe of asp, not of cut" in capsys.readouterr().err
    assert main(["import", "cut", str(checkpoint), *out]) == 2
    said = capsys.readouterr().err
    assert "--stainer.generator_width 4 --stainer.generator_blocks 2" in said
    assert not (tmp_path / "run").exists()
