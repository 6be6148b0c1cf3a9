"""``restain her2 train`` and ``mil``: what cannot be meant is refused, and the message says what was wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from restain.cli.main import main


def test_a_method_that_is_not_the_recipes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--cohort", "c.csv", "--features", "f", "--out", str(tmp_path / "run")]
    assert main(["her2", "train", "abmil", *words, "--method", "clam_sb"]) == 2
    assert "--method clam_sb: abmil is a recipe of abmil" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("models", ["", " , ", "abmil,abmil"])
def test_models_that_are_none_or_come_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str], models: str) -> None:
    (tmp_path / "set.csv").write_text("".join(f"{n % 2},b{n},{n}\n" for n in range(8)))
    assert main(["her2", "mil", str(tmp_path / "set.csv"), "--models", models, "--folds", "2", "--runs", "1"]) == 2
    found = capsys.readouterr()
    assert "name one model or more, each once" in found.err
    assert not found.out


def test_a_negative_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--cohort", "c.csv", "--features", "f", "--out", str(tmp_path / "run"), "--cache-gib", "-1"]
    assert main(["her2", "train", "abmil", *words]) == 2
    assert "--cache-gib -1" in capsys.readouterr().err
