"""The reading room, driven by the keyboard as a reader does."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from restain.cli.main import main
from restain.core.files import read_csv
from restain.slides import read_image
from tests.browser.conftest import serious
from tests.browser.reading_room import PAIRS, Room, at, press
from tests.study.studies import LEVELS

if TYPE_CHECKING:
    from playwright.sync_api import Page

PIXELS = """() => {
  const image = document.querySelector('[data-testid=stage] img');
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
}"""


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


def test_zooming_does_not_skip_the_images_own_size(page: Page, rooms: dict[str, Room]) -> None:
    large = io.BytesIO()
    Image.new("RGB", (2048, 2048), "brown").save(large, "png")
    page.route("**/api/reading/*/image/*", lambda route: route.fulfill(body=large.getvalue(), content_type="image/png"))
    rooms["large"].login(page)
    at(page, 1, 4)
    width = "image => image.getBoundingClientRect().width"
    image = page.locator("[data-testid=stage] img")
    sizes = [image.evaluate(width)]
    assert sizes[0] < 900
    while sizes[-1] < 3000:
        press(page, "+")
        sizes.append(image.evaluate(width))
    assert 2048 in sizes  # 100 %, where nothing is resampled
