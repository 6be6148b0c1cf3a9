"""``NAME=PATH`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from restain.cli.named import gathered, named_folders, named_numbers, named_path
from restain.core.errors import RestainError


def test_paths_with_and_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    assert named_path("mine=x/y") == ("mine", Path("x/y"))
    assert named_path(str(tmp_path / "a=b")) == (None, tmp_path / "a=b")  # it exists
    assert named_path("=x") == (None, Path("=x"))
    assert named_folders([f"m={tmp_path}", str(tmp_path / "a=b")], "--fake") == {
        "m": tmp_path, "a=b": tmp_path / "a=b",
    }  # fmt: skip
    with pytest.raises(RestainError, match="--fake: two methods have the same name"):
        named_folders(["m=x", "m=y"], "--fake")


def test_numbers() -> None:
    assert named_numbers(["a=7", "b=c=1"], "--tta") == {"a": 7, "b=c": 1}
    for words in (["7"], ["a="], ["a=-1"], ["a=x"], ["a=1", "a=2"]):
        with pytest.raises(RestainError, match="--tta"):
            named_numbers(words, "--tta")


def test_several_words_after_an_option() -> None:
    words = ["--real", "r", "--fake", "a", "b", "--json", "--fake=c", "--external", "d"]
    assert gathered(words, ["--fake", "--external"]) == [
        "--real", "r", "--json", "--fake+=a", "--fake+=b", "--fake+=c", "--external+=d",
    ]  # fmt: skip
