"""Pretraining of PAMA's encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from restain.cli import her2_pretrain, her2_train
from restain.core.errors import RestainError
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


def words(root: Path, cohort: Path, *more: str) -> list[str]:
    size = ["--model.width", "8", "--model.depth", "1", "--model.heads", "1", "--training.epochs", "1"]
    decoder = ["--model.decoder-width", "8", "--model.decoder-depth", "1", "--model.decoder-heads", "1"]
    return ["--cohort", str(cohort), "--features", str(root / "he"), "--out", str(root / "run"), *size, *decoder, *more]


def test_labels_need_not_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cohort = write_correlated(tmp_path)
    text = cohort.read_text()
    cohort.write_text(text.replace(",3+", ",equivocal"))
    assert her2_pretrain.run(words(tmp_path, cohort, "--json")) == 0
    split = json.loads(capsys.readouterr().out)["split"]
    assert sum(int(name[1:]) % 2 for name in split["val"]) == len(split["val"]) / 2, "half of each"
    cohort.write_text("\n".join(line.rsplit(",", 1)[0] for line in text.splitlines()))
    assert her2_pretrain.run([*words(tmp_path, cohort), "--out", str(tmp_path / "bare")]) == 0


@pytest.mark.parametrize(("ratio", "message"), [("0", "above 0"), ("1", "below 1"), ("0.01", "20 tiles")])
def test_a_ratio_that_hides_nothing_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: str, message: str
) -> None:
    monkeypatch.setattr(her2_pretrain, "pretrain", lambda *_: pytest.fail("trained"))
    with pytest.raises(RestainError, match=message):
        her2_pretrain.run(words(tmp_path, write_correlated(tmp_path), "--model.mask-ratio", ratio))
