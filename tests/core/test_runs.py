from __future__ import annotations

from pathlib import Path

import pytest

from restain.core.errors import RestainError
from restain.core.runs import RunFolder


def test_a_folder_of_other_settings_is_refused_with_the_difference(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    info = {"task": "stain", "method": "m", "mpp": 0.5}
    assert run.start(info, {"a": {"b": 1, "workers": 0}}) is False
    assert run.start(info, {"a": {"b": 1, "workers": 4}}, free=["config.a.workers"]) is True
    with pytest.raises(RestainError, match=r"config\.a\.b: was 1, now 2"):
        run.start(info, {"a": {"b": 2, "workers": 0}})
    with pytest.raises(RestainError, match=r"mpp: was 0\.5, now 0\.25"):
        run.start(info | {"mpp": 0.25}, {"a": {"b": 1, "workers": 0}})
    assert run.config == {"a": {"b": 1, "workers": 0}}


def test_a_folder_with_other_files_and_one_without_a_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RestainError, match="not empty"):
        RunFolder(tmp_path).start({"method": "m"}, {})
    mine = tmp_path / "other"
    mine.mkdir()
    (mine / "config.yaml").write_text("keep")
    with pytest.raises(RestainError, match="not empty"):
        RunFolder(mine).start({"method": "m"}, {})
    assert (mine / "config.yaml").read_text() == "keep"
    (mine / "config.yaml").write_text("a: 1\n")  # what a run with these settings leaves, killed at its first moment
    assert RunFolder(mine).start({"method": "m"}, {"a": 1}) is False
    deep = RunFolder(tmp_path / "deep")
    deep.path.mkdir()
    (deep.path / "config.yaml").write_text("a: " + "[" * 5000)
    with pytest.raises(RestainError, match="not a readable configuration"):
        _ = deep.config
    with pytest.raises(RestainError, match="not a run folder"):
        _ = RunFolder(tmp_path).info
