"""Folders whose names can be listed but that may not be entered: they must not take the rest of the server with them.

Tests may run as root, who may enter all; so the system's answers are replaced by its refusals.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from restain.web.failures import RefusedError
from restain.web.slide_pool import SlidePool
from tests.study.studies import make_study
from tests.web.serving import client_of, get
from tests.web.slides import pattern, pyramid


def refuse(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let nobody look at what lies in ``folder``."""
    for name in ("stat", "lstat"):
        asked = getattr(os, name)

        def answer(path: Any, *args: Any, _asked: Any = asked, **options: Any) -> os.stat_result:
            if isinstance(path, str | Path) and folder in Path(path).parents:
                raise PermissionError(13, "Permission denied", str(path))
            result: os.stat_result = _asked(path, *args, **options)
            return result

        monkeypatch.setattr(os, name, answer)


def test_a_study_that_may_not_be_entered_is_a_line_in_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(tmp_path / "closed", pairs=2)
    pyramid(tmp_path / "a.ome.tif", pattern(300, 200))
    open_study = make_study(tmp_path / "open", pairs=2)
    client = client_of(tmp_path)
    refuse(monkeypatch, tmp_path / "closed" / "study")
    found = get(client, "/api/library")
    assert "a.ome.tif" in [slide["path"] for slide in found["slides"]]
    assert [study["id"] for study in found["studies"]] == [open_study.id]
    assert [line for line in found["problems"] if "closed/study" in line and "Permission denied" in line]
    assert get(client, f"/api/reading/{open_study.id}")["title"]
    assert client.get("/api/reading/other").status_code == 404


def test_a_folder_that_may_not_be_entered_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    pyramid(tmp_path / "closed" / "a.ome.tif", pattern(300, 200))
    client = client_of(tmp_path)
    refuse(monkeypatch, tmp_path / "closed")
    for path in ("closed", "closed/a.ome.tif"):
        answer = client.get("/api/slide", params={"path": path})
        assert answer.status_code == 404
        assert "Reload the page" in answer.json()["error"]


def test_points_are_saved_though_registrations_may_not_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyramid(tmp_path / "he.ome.tif", pattern(300, 200))
    pyramid(tmp_path / "ihc.ome.tif", pattern(300, 200))
    (tmp_path / "registered" / "mine").mkdir(parents=True)
    client = client_of(tmp_path)
    refuse(monkeypatch, tmp_path / "registered")
    given = {"name": "mine", "he": "he.ome.tif", "ihc": "ihc.ome.tif", "points": [[1, 1, 1, 1]]}
    answer = client.post("/api/landmarks/save", json=given)
    assert answer.status_code == 200, answer.text
    assert (tmp_path / answer.json()["path"]).is_file()


def test_what_became_a_link_since_its_name_was_resolved_is_not_opened(tmp_path: Path) -> None:
    outside, served = tmp_path / "outside", tmp_path / "served"
    outside.mkdir()
    served.mkdir()
    pyramid(outside / "a.ome.tif", pattern(300, 200))
    (served / "a.ome.tif").symlink_to(outside / "a.ome.tif")
    (served / "folder").symlink_to(outside)
    pool = SlidePool()
    for path in (served / "a.ome.tif", served / "folder" / "a.ome.tif"):
        with pytest.raises(RefusedError), pool.open(path):
            pass
    assert pool.kept == (0, 0)
