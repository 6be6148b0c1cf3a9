"""Training leaves out the worst pairs, says so in run.json, and resumes only with the same ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restain.cli.main import main
from restain.data import check_quality

from ..pairs import write_pairs


def _command(data: Path, out: Path) -> list[str]:
    small = ["--config", "pix2pix_small", "--stainer.generator_width", "4", "--stainer.discriminator_width", "4"]
    short = [
        "--training.epochs",
        "1",
        "--training.epochs_decay",
        "0",
        "--batches.workers",
        "0",
        "--training.ema",
        "null",
    ]
    crop = ["--batches.augmentation.crop", "32", "--batches.augmentation.resize", "null"]
    return ["train", "pix2pix", "--data", str(data), "--out", str(out), *small, *short, *crop]


def test_the_worst_pairs_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "pairs")
    Image.fromarray(np.full((64, 64, 3), 245, np.uint8)).save(data / "HE/train/00004_train_0.png")
    quality = ["--batches.quality.fraction", "0.2"]
    assert main([*_command(data, tmp_path / "run"), *quality]) == 2
    assert "--qc" in capsys.readouterr().err
    check_quality(data)
    assert main([*_command(data, tmp_path / "run"), *quality]) == 0
    found = json.loads((tmp_path / "run/run.json").read_text())["quality"]
    assert (found["dropped"], found["of"], found["fraction"]) == (1, 6, 0.2)
    assert main([*_command(data, tmp_path / "run"), *quality]) == 0
    assert main(_command(data, tmp_path / "run")) == 2
    assert main(_command(data, tmp_path / "whole")) == 0
    assert "quality" not in json.loads((tmp_path / "whole/run.json").read_text())
