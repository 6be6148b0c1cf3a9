"""The reading room, driven by the keyboard as a reader does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from restain.cli.main import main
from restain.core.files import read_csv
from restain.slides import read_image
from restain.study.answers import read_answers
from restain.study.design import Design, Made, new_study
from restain.study.files import answer_rows
from tests.browser.conftest import serious
from tests.study.studies import LEVELS, make_study, write_folders

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request, Route

PAIRS = 40

PIXELS = """() => {
  const image = document.querySelector('[data-testid=stage] img');
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
}"""


@dataclass(frozen=True)
class Room:
    """A served study.

    Attributes:
        folder: of the study.
        address: that its readers open.
        made: its codes.
    """

    folder: Path
    address: str
    made: Made

    def login(self, page: Page, reader: str = "alice") -> None:
        """Open the page and go to the first image, without a mouse."""
        page.goto(self.address)
        page.get_by_label("Your code").wait_for()
        page.keyboard.type(self.made.codes[reader])
        page.keyboard.press("Enter")
        start = page.get_by_role("button", name=re.compile("Start|Go on"))
        start.wait_for()
        page.keyboard.press("Tab")
        assert start.evaluate("button => button === document.activeElement")
        page.keyboard.press("Enter")

    def answers(self, reader: str = "alice") -> list[dict[str, str]]:
        """What is stored, in the reader's order, as in ``answers.csv`` of ``study results``."""
        rows = [row for row in answer_rows(read_answers(self.folder)) if row["reader"] == reader]
        return [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]


SMALL = ("back", "codes", "full", "lost", "tabs", "session", "damaged", "zoom")
"""A study of two pairs for each test that writes into one."""


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., str]) -> dict[str, Room]:
    """Studies in one folder, and a server that shows nothing else."""
    folder = tmp_path_factory.mktemp("studies")
    made = {}
    for name, pairs in (("whole", PAIRS), *((name, 2) for name in SMALL)):
        real, fake = write_folders(folder / name, pairs)
        asks = name != "codes"
        design = Design(real, fake, folder / name / "study", pairs, ("alice", "bob"), asks_origin=asks)
        made[name] = new_study(design)
    address = serve(folder, "--reading-room")
    return {name: Room(folder / name / "study", f"{address}/read/{study.id}", study) for name, study in made.items()}


def at(page: Page, place: int, total: int) -> None:
    """Wait until an image is there to be graded."""
    page.get_by_role("heading", name=f"Image {place} of {total}", exact=True).wait_for()
    page.get_by_role("img", name=f"Image {place} of {total}", exact=True).wait_for()


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def stored(request: Request) -> bool:
    return request.method == "PUT"


def test_a_whole_study_with_the_keyboard_alone(page: Page, rooms: dict[str, Room], tmp_path: Path) -> None:
    room = rooms["whole"]
    sources = {
        read_image(file).tobytes(): (file.stem, kind == "real")
        for kind in ("real", "fake")
        for file in (room.folder.parent / kind).iterdir()
    }
    pairs = sorted({name for name, _ in sources.values()})
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    room.login(page)
    given = []
    for place in range(1, 2 * PAIRS + 1):
        at(page, place, 2 * PAIRS)
        if place == 30:  # the browser crashes, or the reader reloads
            page.reload()
            at(page, place, 2 * PAIRS)
        shown = np.array(page.evaluate(PIXELS), np.uint8).reshape(16, 16, 4)[..., :3]
        name, real = sources[shown.tobytes()]
        given.append((name, real))
        press(page, *keys_for(pairs.index(name), real), "Enter")
    page.get_by_text(f"all {2 * PAIRS} images are answered").wait_for()
    assert serious(page) == []
    page.reload()
    page.get_by_text(f"all {2 * PAIRS} images are answered").wait_for()

    out = tmp_path / "results"
    assert main(["study", "results", str(room.folder), "--out", str(out)]) == 0
    rows = [row for row in read_csv(out / "answers.csv") if row["reader"] == "alice"]
    assert [(row["pair"], row["image"] == "real") for row in rows] == given
    for row in rows:
        grade, origin = keys_for(pairs.index(row["pair"]), row["image"] == "real")
        assert (row["grade"], row["origin"]) == (LEVELS[int(grade)], {"r": "real", "g": "generated"}[origin])
        assert row["answers"] == "1"
    summary = json.loads((out / "summary.json").read_text())
    graded = {name for name, _ in given}
    equal = sum(pairs.index(name) % 2 == 0 for name in graded) / PAIRS
    assert summary["accuracy"]["alice"] == pytest.approx(equal)
    assert 0 < equal < 1
    betrayed = [url for url in seen if any(word in url for word in (*pairs, "fake", "real", "generated"))]
    assert betrayed == []


def keys_for(pair: int, real: bool) -> tuple[str, str]:
    """What this reader says: of every second pair the generated image looks one level higher than the real one."""
    level = pair % 4 if real or pair % 2 == 0 else (pair + 1) % 4
    return str(level), "r" if (pair + real) % 3 else "g"


def test_going_back_changes_an_answer(page: Page, rooms: dict[str, Room]) -> None:
    room = rooms["back"]
    room.login(page)
    for place, grade in enumerate("012", 1):
        at(page, place, 4)
        press(page, grade, "r", "Enter")
    at(page, 4, 4)
    press(page, "3")  # chosen, not confirmed
    press(page, "ArrowLeft")
    at(page, 3, 4)
    pressed = page.locator("[aria-pressed=true]")
    assert pressed.all_inner_texts() == ["2+\n2", "Real\nr"]
    press(page, "Backspace")
    at(page, 2, 4)
    press(page, "u", "Enter")  # instead of 1+
    at(page, 3, 4)
    press(page, "Enter")  # as it was: nothing is sent
    at(page, 4, 4)
    assert pressed.all_inner_texts() == ["3+\n3"]
    press(page, "Enter")
    page.get_by_text("Say whether it is real or generated.").first.wait_for()
    press(page, "g", "Enter")
    page.get_by_text("all 4 images are answered").wait_for()
    rows = room.answers()
    assert [row["grade"] for row in rows] == ["0", "", "2+", "3+"]
    assert [row["readable"] for row in rows] == ["yes", "no", "yes", "yes"]
    assert [row["origin"] for row in rows] == ["real", "real", "real", "generated"]
    assert [row["answers"] for row in rows] == ["1", "2", "1", "1"]


def test_a_wrong_code_opens_nothing(page: Page, rooms: dict[str, Room]) -> None:
    room = rooms["codes"]
    page.goto(room.address)
    page.get_by_label("Your code").wait_for()
    assert serious(page) == []
    page.keyboard.type("WRON-GCOD-EEEE")
    page.keyboard.press("Enter")
    problem = page.get_by_role("alert")
    problem.wait_for()
    assert "code" in problem.inner_text()
    assert serious(page) == []
    assert page.locator("img").count() == 0
    page.keyboard.type(room.made.codes["bob"].lower())  # the wrong one is marked, and replaced
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Start").wait_for()
    assert serious(page) == []
    page.get_by_role("button", name="Start").click()
    at(page, 1, 4)
    assert page.get_by_role("button", name="Generated").count() == 0
    assert serious(page) == []
    press(page, "?")
    page.get_by_role("dialog").wait_for()
    assert serious(page) == []
    press(page, "3", "Escape")  # a key in the help grades nothing
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.locator("[aria-pressed=true]").count() == 0


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


def test_zoom_and_moving_by_keys(page: Page, rooms: dict[str, Room]) -> None:
    room = rooms["zoom"]
    room.login(page)
    at(page, 1, 4)
    image = page.locator("[data-testid=stage] img")

    def box() -> tuple[float, float, float]:
        found = image.bounding_box()
        assert found is not None
        return found["width"], found["x"], found["y"]

    fit = box()
    assert fit[0] == 32  # 16 px at a whole multiple
    press(page, "+", "+")
    assert box()[0] == pytest.approx(50)
    press(page, "Shift+ArrowRight", "Shift+ArrowDown")
    assert box()[1] < fit[1]
    press(page, "f")
    assert box() == fit
    assert page.locator("[aria-pressed=true]").count() == 0
