"""Pretraining of PAMA's encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from restain.cli import her2_pretrain, her2_train
from tests.her2.cohort import write, write_rows


def write_correlated(root: Path) -> Path:
    """Columns of a tile follow from one number of its slide: hidden tiles can be guessed from the others."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(30):
        slide = rng.normal() * np.linspace(-2, 2, 6)
        values = slide + 0.3 * rng.normal(size=(20, 6))
        write(root / "he" / f"p{number}.h5", values.astype(np.float32))
        rows.append({"patient": f"p{number}", "he": f"p{number}.svs", "her2": "03"[number % 2] + "+" * (number % 2)})
    write_rows(root / "cohort.csv", rows)
    return root / "cohort.csv"


def test_it_reconstructs_better_than_the_mean_and_its_encoder_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = write_correlated(tmp_path)
    words = ["--cohort", str(cohort), "--features", str(tmp_path / "he")]
    size = ["--model.width", "16", "--model.depth", "1", "--model.heads", "2"]
    decoder = ["--model.decoder_width", "16", "--model.decoder_depth", "1", "--model.decoder_heads", "2"]
    training = ["--training.epochs", "25", "--training.rate", "0.005", "--training.batch", "4"]
    out = tmp_path / "pretrained"
    assert her2_pretrain.run([*words, *size, *decoder, *training, "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["held_out"] < 0.7 * found["mean_feature"]
    encoder = out / "checkpoints" / "encoder.safetensors"
    more = ["pama", *words, *size, "--init", str(encoder), "--training.epochs", "1", "--out", str(tmp_path / "run")]
    assert her2_train.run([*more, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["init"]
