"""The reading room when things go wrong: no confirmed answer is lost, none is doubled."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import serious
from tests.browser.reading_room import Room, at, press
from tests.study.studies import make_study

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request, Route


def stored(request: Request) -> bool:
    return request.method == "PUT"


def test_a_full_disk_keeps_the_answer_on_the_page(page: Page, rooms: dict[str, Room]) -> None:
    room = rooms["full"]
    room.login(page)
    at(page, 1, 4)
    full = {"error": "The disk of the server is full. Nothing was changed."}
    tries: list[object] = []

    def refuse(route: Route) -> None:
        if route.request.method != "PUT":
            route.continue_()
            return
        tries.append(route.request.post_data_json)
        route.fulfill(status=507, json=full)

    page.route("**/api/reading/*/answer/*", refuse)
    press(page, "2", "g", "Enter")
    alert = page.get_by_role("alert")
    alert.get_by_text("The disk of the server is full").wait_for()
    assert "not stored" in alert.inner_text()
    assert serious(page) == []
    at(page, 1, 4)
    press(page, "0", "Enter", "ArrowLeft")  # nothing else happens before it is stored
    page.on("dialog", lambda dialog: dialog.accept())  # "leave this page?"
    page.reload()
    alert.get_by_text("The disk of the server is full").wait_for()
    assert page.locator("[aria-pressed=true]").all_inner_texts() == ["2+\n2", "Generated\ng"]
    page.unroute("**/api/reading/*/answer/*")
    page.get_by_role("button", name="Try again now").click()
    at(page, 2, 4)
    assert len(tries) >= 2
    assert tries.count(tries[0]) == len(tries)  # the same key each time
    first, second, *_ = room.answers()
    assert (first["grade"], first["origin"], first["answers"]) == ("2+", "generated", "1")
    assert second["readable"] == ""


def test_an_answer_whose_confirmation_is_lost_is_not_doubled(page: Page, rooms: dict[str, Room]) -> None:
    room = rooms["lost"]
    room.login(page)
    at(page, 1, 4)
    lost: list[int] = []

    def lose(route: Route) -> None:
        if route.request.method == "PUT" and not lost:
            lost.append(route.fetch().status)
            route.abort()
        else:
            route.continue_()

    page.route("**/api/reading/*/answer/*", lose)
    press(page, "3", "r", "Enter")
    at(page, 2, 4)  # by itself, after a second
    assert lost == [200]
    assert [row["answers"] for row in room.answers()][:2] == ["1", "0"]


def test_two_tabs_of_one_reader(page: Page, rooms: dict[str, Room]) -> None:
    room = rooms["tabs"]
    other = page.context.new_page()
    for tab in (page, other):
        room.login(tab)
        at(tab, 1, 4)
    press(page, "2", "g", "Enter")
    at(page, 2, 4)
    press(other, "0", "r", "Enter")
    other.get_by_text("answered elsewhere").first.wait_for()
    assert "2+, generated" in other.locator("p.note").inner_text()
    assert other.locator("[aria-pressed=true]").all_inner_texts() == ["2+\n2", "Generated\ng"]
    assert serious(other) == []
    press(other, "Enter")  # keeps it
    at(other, 2, 4)
    press(other, "1", "r", "Enter")
    at(other, 3, 4)
    press(page, "3", "r", "Enter")
    page.get_by_text("answered elsewhere").first.wait_for()
    press(page, "3", "Enter")  # changes it knowingly
    at(page, 3, 4)
    rows = room.answers()
    assert [(row["grade"], row["origin"], row["answers"]) for row in rows[:3]] == [
        ("2+", "generated", "1"),
        ("3+", "real", "2"),
        ("", "", "0"),
    ]


def test_a_session_that_ends_keeps_the_answer(page: Page, rooms: dict[str, Room]) -> None:
    room = rooms["session"]
    room.login(page)
    at(page, 1, 4)
    expired = {"error": "You are logged out."}
    page.route(
        "**/api/reading/*/answer/*",
        lambda route: route.fulfill(status=401, json=expired) if stored(route.request) else route.continue_(),
    )
    press(page, "1", "g", "Enter")
    page.get_by_text("You were logged out").wait_for()
    assert "not stored yet" in page.locator("main").inner_text()
    assert serious(page) == []
    page.unroute("**/api/reading/*/answer/*")
    page.keyboard.type(room.made.codes["bob"])  # another reader: the answer is not his
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Start").click()
    at(page, 1, 4)
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Your code").wait_for()
    page.keyboard.type(room.made.codes["alice"])
    page.keyboard.press("Enter")
    at(page, 2, 4)
    assert [row["grade"] for row in room.answers()] == ["1+", "", "", ""]
    assert [row["grade"] for row in room.answers("bob")] == ["", "", "", ""]


def test_an_image_that_cannot_be_shown_is_not_graded(page: Page, rooms: dict[str, Room]) -> None:
    room = rooms["damaged"]
    broken = {"error": "The image is damaged."}
    page.route("**/api/reading/*/image/*", lambda route: route.fulfill(status=422, json=broken))
    room.login(page)
    page.get_by_role("alert").get_by_text("The image is damaged").wait_for()
    assert serious(page) == []
    press(page, "3", "r", "Enter")
    assert page.locator("[aria-pressed=true]").count() == 0
    page.unroute("**/api/reading/*/image/*")
    page.route("**/api/reading/*/image/*", lambda route: route.fulfill(body=b"no image", content_type="image/png"))
    page.get_by_role("button", name="Try again now").click()
    page.get_by_role("alert").get_by_text("damaged").wait_for()
    page.unroute("**/api/reading/*/image/*")
    press(page, "u", "Enter")
    at(page, 2, 4)
    assert [row["readable"] for row in room.answers()] == ["no", "", "", ""]


@pytest.fixture
def own_server() -> Iterator[Callable[[Path, int], tuple[subprocess.Popen[str], int]]]:
    """Starts servers that a test may kill."""
    started = []

    def start(folder: Path, port: int) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, "-m", "restain.cli.main", "serve", str(folder), "--port", str(port)]
        process = subprocess.Popen(
            [*command, "--reading-room"], stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        started.append(process)
        assert process.stdout is not None
        found = re.search(r"http://[^\s/]+:(\d+)", process.stdout.readline())
        assert found is not None
        return process, int(found.group(1))

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_killed_server_is_waited_for(
    page: Page, own_server: Callable[[Path, int], tuple[subprocess.Popen[str], int]], tmp_path: Path
) -> None:
    made = make_study(tmp_path, 2, ("alice",))
    process, port = own_server(tmp_path, 0)
    room = Room(tmp_path / "study", f"http://127.0.0.1:{port}/read/{made.id}", made)
    room.login(page)
    at(page, 1, 4)
    press(page, "1", "r", "Enter")
    at(page, 2, 4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    press(page, "2", "g", "Enter")
    page.get_by_role("alert").get_by_text("The server does not answer").wait_for()
    own_server(tmp_path, port)
    page.get_by_role("button", name="Try again now").click()
    for place, grade in ((3, "3"), (4, "0")):
        at(page, place, 4)
        press(page, grade, "r", "Enter")
    page.get_by_text("all 4 images are answered").wait_for()
    rows = room.answers()
    assert [(row["grade"], row["answers"]) for row in rows] == [("1+", "1"), ("2+", "1"), ("3+", "1"), ("0", "1")]
