"""Reports: shown only where restain wrote them, and so that nothing in them can act."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from restain.report import Section, Text, write_report
from tests.web.serving import client_of
from tests.web.workspace import Workspace

HEAD = '<!DOCTYPE html><html><head><meta name="generator" content="restain 1.0"><title>t</title></head>'


def test_a_report_is_shown_as_it_is_in_a_sandbox(workspace: Workspace) -> None:
    answer = client_of(workspace.folder).get("/api/report", params={"path": "report.html"})
    assert answer.status_code == 200
    assert answer.content == workspace.report.read_bytes()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = [part.strip() for part in answer.headers["content-security-policy"].split(";")]
    assert policy == ["sandbox", "default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_no_other_page_is_shown(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pages = {
        "other.html": "<html><head><title>x</title></head>" + HEAD,
        "late.html": " " * 20_000 + HEAD,
        "quoted.html": HEAD.replace('"restain 1.0"', "'restain 1.0'"),
        "empty.html": "",
        "notes.txt": "plain",
    }
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
    outside = tmp_path_factory.mktemp("outside") / "report.html"
    write_report(outside, "secret", [Section("a", [Text("b")])])
    (tmp_path / "link.html").symlink_to(outside)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.sqlite").touch()
    (tmp_path / "study" / "report.html").write_text(HEAD)
    (tmp_path / "folder.html").mkdir()
    client = client_of(tmp_path)
    for name in (*pages, "link.html", "study/report.html", "folder.html", str(outside), "../" + outside.name, ""):
        answer = client.get("/api/report", params={"path": name})
        assert answer.status_code == 404, name
        assert answer.headers["content-type"] == "application/json"


def test_a_report_of_monstrous_size_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(HEAD)
    os.truncate(tmp_path / "a.html", 2**34)  # sparse
    assert client_of(tmp_path).get("/api/report", params={"path": "a.html"}).status_code == 422
