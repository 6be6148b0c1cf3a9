from __future__ import annotations

import shutil
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest
from starlette.testclient import TestClient

from restain.study import database
from restain.study.design import Made
from restain.web import reading as room

from ..study.studies import make_study
from .readers import Reader, Study, client_of, sql


def test_sessions_survive_a_restart_and_end_when_idle(study: Study) -> None:
    reader = study.reader()
    items = reader.items()
    reader.client = client_of(study.folder.parent)
    assert reader.put(items[0]).status_code == 200
    [(token, used)] = sql(study.folder, "SELECT token, used FROM visit")
    assert reader.session not in token
    sql(study.folder, "UPDATE visit SET used = ?", used - 11.9 * 3600)
    assert reader.ask("GET", "/state").status_code == 200  # and goes on from now
    assert sql(study.folder, "SELECT used FROM visit")[0][0] >= used
    sql(study.folder, "UPDATE visit SET used = ?", used - 12.1 * 3600)
    assert reader.ask("GET", "/state").status_code == 401
    assert reader.put(items[1]).status_code == 401
    assert reader.log_in().ask("GET", "/state").json()["answered"] == 1


def test_wrong_codes_are_limited(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(room.Room.__init__, "__defaults__", (lambda: now[0],))
    reader = study.reader()
    stranger = Reader(study.client, study.made.id, "AAAA-BBBB-CCCC")
    for _ in range(10):
        now[0] += 1
        assert stranger.ask("POST", "/login", json={"code": "AAAA-BBBB-CCCC"}).status_code == 401
    refused = stranger.ask("POST", "/login", json={"code": study.made.codes["alice"]})
    assert refused.status_code == 429
    assert "Wait a minute" in refused.json()["error"]
    assert reader.ask("GET", "/state").status_code == 200  # who is in stays in
    now[0] += 51.5
    assert stranger.ask("POST", "/login", json={"code": study.made.codes["alice"]}).status_code == 200


def test_many_wrong_codes_at_once_are_limited_too(study: Study) -> None:
    def guess(_: int) -> int:
        return Reader(study.client, study.made.id, "").ask("POST", "/login", json={"code": "AAAA"}).status_code

    study.client.get(f"/api/reading/{study.made.id}")
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(guess, range(20)))
    assert sorted(statuses) == [401] * 10 + [429] * 10


def test_a_full_disk_changes_nothing_and_is_told(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = study.reader()
    items = reader.items()
    assert reader.put(items[0]).status_code == 200
    pages = sql(study.folder, "PRAGMA page_count")[0][0]
    configured = database._configured

    def full(connection: sqlite3.Connection) -> sqlite3.Connection:
        configured(connection).execute(f"PRAGMA max_page_count={pages}").fetchall()
        return connection

    monkeypatch.setattr(database, "_configured", full)
    revision, answer = 1, reader.put(items[0], "0", 1)
    while answer.status_code == 200:  # until the pages that there are are full
        revision += 1
        answer = reader.put(items[0], "0", revision, key=f"attempt-{revision}")
    assert answer.status_code == 507
    assert "disk is full" in answer.json()["error"]
    assert str(study.folder) not in answer.text
    before = study.rows()
    assert len(before) == revision
    assert reader.ask("GET", f"/answer/{items[0]}").json()["revision"] == revision
    assert reader.ask("GET", f"/image/{items[1]}").status_code == 200
    monkeypatch.setattr(database, "_configured", configured)
    again = reader.put(items[0], "0", revision, key=f"attempt-{revision}")
    assert again.json()["revision"] == revision + 1
    assert study.rows()[:-1] == before


def test_a_file_system_that_is_full(drawn: tuple[Path, Made], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a small file system here")
    try:
        shutil.copytree(drawn[0], disk / "study")
        study = Study(disk / "study", drawn[1], client_of(disk))
        reader = study.reader()
        items = reader.items()
        assert reader.put(items[0]).status_code == 200
        fill(disk / "full")
        assert reader.put(items[1], key="tried-again").status_code == 507
        assert [row[2] for row in study.rows()] == [items[0]]
        assert (
            Reader(study.client, study.made.id, study.made.codes["bob"])
            .ask("POST", "/login", json={"code": study.made.codes["bob"]})
            .status_code
            == 507
        )
        assert reader.ask("GET", "/state").json()["answered"] == 1
        (disk / "full").unlink()
        assert reader.put(items[1], key="tried-again").status_code == 200
        assert [row[2] for row in study.rows()] == items[:2]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 512)


def test_another_program_that_holds_the_database(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = study.reader()
    items = reader.items()
    holder = sqlite3.connect(study.folder / "study.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(database, "WAIT", 0.1)
    assert reader.put(items[0], key="held-up-for-a-while").status_code == 503
    monkeypatch.setattr(database, "WAIT", 10.0)
    with ThreadPoolExecutor(1) as pool:  # a short wait is not even noticed
        waiting = pool.submit(reader.put, items[0], key="held-up-for-a-while")
        assert not waiting.done()
        holder.execute("COMMIT")
        assert waiting.result().status_code == 200
    holder.close()


def test_damage_is_told_and_names_no_file(study: Study) -> None:
    reader = study.reader()
    items = reader.items()
    names = study.answers().images[:, 0]
    places = study.answers().places[0][:, 0]
    changed, gone, escaped = (items[place] for place in places[:3])
    (study.folder / "images" / f"{names[0]}.png").write_bytes(b"another image")
    (study.folder / "images" / f"{names[1]}.png").unlink()
    sql(study.folder, "UPDATE item SET image = '../codes' WHERE id = ?", escaped)
    for item in (changed, gone, escaped):
        answer = reader.ask("GET", f"/image/{item}")
        assert answer.status_code == 422
        assert answer.json() == {"error": "This image is missing or damaged. Nothing was changed. Tell the organiser."}
    (study.folder / "study.sqlite").write_bytes(b"x" * 8192)
    answer = reader.ask("GET", "/state")
    assert answer.status_code == 422
    assert str(study.folder) not in answer.text


def test_a_study_that_vanishes_and_comes_back(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOOK_AGAIN", 0.0)
    reader = study.reader()
    moved = study.folder.rename(study.folder.with_name("moved"))
    assert reader.ask("GET", "/state").status_code == 200  # found where it is now
    moved.rename(study.folder.parents[2] / "out of sight")
    assert reader.ask("GET", "/state").status_code == 404
    assert reader.ask("GET").json()["error"]


def test_only_studies_below_the_served_folder_are_found(study: Study, tmp_path: Path) -> None:
    make_study(tmp_path / "elsewhere", pairs=1)
    hidden = make_study(tmp_path / "served" / ".hidden", pairs=1)
    (tmp_path / "served" / "link").symlink_to(tmp_path / "elsewhere")
    other = sql(tmp_path / "elsewhere" / "study", "SELECT id FROM study")[0][0]
    client = client_of(tmp_path / "served")
    for name in (other, hidden.id, "..", "%2e%2e", "studies%2ffirst", "x" * 500, "<b>"):
        assert client.get(f"/api/reading/{name}").status_code == 404
    assert client.get(f"/api/reading/{study.made.id}").status_code == 200


def test_two_copies_of_one_study_are_refused(study: Study) -> None:
    shutil.copytree(study.folder, study.folder.with_name("copy"))
    answer = study.client.get(f"/api/reading/{study.made.id}")
    assert answer.status_code == 409
    assert "copies" in answer.json()["error"]


def test_a_study_can_be_served_itself(study: Study) -> None:
    assert client_of(study.folder).get(f"/api/reading/{study.made.id}").status_code == 200


def test_one_computer_with_wrong_codes_does_not_lock_out_the_others(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_WRONG", 15)
    app = study.client.app

    def log_in(address: str, code: str) -> int:
        client = TestClient(app, base_url="http://127.0.0.1:8000", client=(address, 5000))
        return Reader(client, study.made.id, "").ask("POST", "/login", json={"code": code}).status_code

    assert [log_in("10.0.0.1", "AAAA") for _ in range(11)] == [401] * 10 + [429]
    assert log_in("10.0.0.1", study.made.codes["alice"]) == 429
    assert log_in("10.0.0.2", study.made.codes["alice"]) == 200
    assert [log_in(f"10.0.1.{number}", "AAAA") for number in range(6)] == [401] * 5 + [429]  # many computers together


def test_a_search_for_an_unknown_study_holds_up_nobody(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = study.reader()
    items = reader.items()
    searching, found = Event(), Event()

    def slow(folder: Path) -> list[Path]:
        searching.set()
        found.wait(20)
        return [study.folder]

    monkeypatch.setattr(room, "LOOK_AGAIN", 0.0)
    monkeypatch.setattr(room, "study_folders", slow)
    with ThreadPoolExecutor(2) as pool:
        stranger = pool.submit(study.client.get, "/api/reading/unknown2")
        assert searching.wait(20)
        answer = pool.submit(reader.put, items[0])
        try:
            assert answer.result(10).status_code == 200
            assert not stranger.done()
        finally:
            found.set()
    assert stranger.result().status_code == 404


def test_links_out_of_the_served_folder_are_not_followed(study: Study, tmp_path: Path) -> None:
    outside = study.folder.rename(tmp_path / "outside")
    study.folder.mkdir()
    (study.folder / "study.sqlite").symlink_to(outside / "study.sqlite")
    (study.folder / "images").symlink_to(outside / "images")
    client = client_of(tmp_path / "served")
    assert client.get(f"/api/reading/{study.made.id}").status_code == 404
    (study.folder / "study.sqlite").unlink()
    shutil.copy(outside / "study.sqlite", study.folder)
    reader = Reader(client_of(tmp_path / "served"), study.made.id, study.made.codes["alice"]).log_in()
    assert reader.ask("GET", f"/image/{reader.items()[0]}").status_code == 422
