"""The landmark picker in a real browser: pairs clicked, dragged, deleted, undone, saved, and registered with."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from restain.cli.main import main
from restain.registration import Transform, read_landmarks
from tests.browser.conftest import serious
from tests.browser.looks import Look, address, agreement, pixels, whole
from tests.web.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.looks import Points

SIDES = ("he", "ihc")


@pytest.fixture(scope="module")
def served(
    serve: Callable[..., str],
    workspace: Workspace,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path]:
    """A folder with two slides that are not registered, into which may be written, and its server."""
    folder = tmp_path_factory.mktemp("picked")
    shutil.copy(workspace.other_he, folder / "he.ome.tif")
    shutil.copy(workspace.other_ihc, folder / "ihc.ome.tif")
    return serve(folder), folder


@pytest.fixture(scope="module")
def truth(workspace: Workspace) -> tuple[Points, Points]:
    """Five true pairs of the second patient, far from each other and inside of both slides."""
    he, ihc = read_landmarks(workspace.landmarks)
    corners = np.array([[150, 250], [850, 200], [800, 900], [250, 850], [500, 500]])
    inside = np.flatnonzero(((he > 60) & (he < 960)).all(axis=1) & ((ihc > 60) & (ihc < 960)).all(axis=1))
    near = [inside[np.argmin(((ihc[inside] - corner) ** 2).sum(axis=1))] for corner in corners]
    assert len(set(near)) == 5
    return he[near], ihc[near]


@pytest.fixture
def picker(page: Page, served: tuple[str, Path]) -> Page:
    page.goto(address(served[0], "landmarks", he="he.ome.tif", ihc="ihc.ome.tif"))
    ready(page)
    return page


def ready(page: Page) -> None:
    """Both slides are drawn."""
    page.wait_for_function(
        "() => window.restain?.panes?.size == 2 && [...restain.panes.values()].every(p => p.settled)"
    )


def look(page: Page, side: str) -> Look:
    code = """side => { const pane = restain.panes.get(side);
        return {...pane.pose(), width: pane.size.x, height: pane.size.y}; }"""
    return Look.of(page.evaluate(code, side))


def on_screen(page: Page, side: str, point: Points) -> tuple[float, float]:
    """Where a level-0 point lies in the window."""
    box = page.get_by_test_id(f"stage-{side}").bounding_box()
    assert box is not None
    x, y = look(page, side).to_screen(point[None])[0]
    return box["x"] + x, box["y"] + y


def click(page: Page, side: str, point: Points) -> None:
    page.mouse.click(*on_screen(page, side, point))
    page.wait_for_timeout(30)


def still(page: Page) -> None:
    """Wait until nothing moves."""
    page.wait_for_function("() => [...restain.panes.values()].every(pane => pane.settled)")


def pick(page: Page, he: Points, ihc: Points) -> None:
    """Click pairs, the H&E first."""
    for one, other in zip(he, ihc, strict=True):
        click(page, "he", one)
        click(page, "ihc", other)


def fitted(page: Page) -> None:
    """The residuals shown are those of the pairs shown."""
    page.wait_for_function("() => document.querySelector('[data-testid=fit]') && !document.querySelector('.stale')")


def pairs(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate("restain.model.pairs")
    return found


def places(page: Page, side: str) -> Points:
    return np.array([[pair[side]["x"], pair[side]["y"]] for pair in pairs(page)])


def test_picks_saves_and_registers(
    picker: Page,
    served: tuple[str, Path],
    truth: tuple[Points, Points],
    workspace: Workspace,
) -> None:
    he, ihc = truth
    says, rows = picker.get_by_test_id("says"), picker.get_by_test_id("pair")
    assert "click a place on either slide" in says.inner_text()
    click(picker, "he", he[0])
    assert "same place on the IHC (pair 1)" in says.inner_text()
    click(picker, "ihc", ihc[0])
    assert "Pair 2" in says.inner_text()
    pick(picker, he[1:4], ihc[1:4])
    scale = min(look(picker, side).scale for side in SIDES)
    for side, true in zip(SIDES, truth, strict=True):  # clicks land on whole screen px
        assert np.abs(places(picker, side) - true[:4]).max() <= 1 / scale
    picker.get_by_text("fix the projective map exactly").wait_for()
    assert [row.get_by_test_id("residual").inner_text() for row in rows.all()] == ["0.0"] * 4
    click(picker, "ihc", ihc[4])  # the other slide first
    assert "same place on the H&E (pair 5)" in says.inner_text()
    click(picker, "he", he[4])
    fitted(picker)
    residuals = [float(row.get_by_test_id("residual").inner_text()) for row in rows.all()]
    assert 0 < max(residuals) < 12

    picker.get_by_test_id("save").click()
    picker.get_by_test_id("save-name").fill("picked by hand")
    picker.get_by_test_id("save-now").click()
    picker.get_by_test_id("saved-path").wait_for()
    file = served[1] / picker.get_by_test_id("saved-path").inner_text()
    with file.open() as stream:
        stored = np.array([[float(value) for value in row.values()] for row in csv.DictReader(stream)])
    assert np.abs(stored[:, :2] - places(picker, "he")).max() < 1e-3
    assert np.abs(stored[:, 2:] - places(picker, "ihc")).max() < 1e-3
    words = shlex.split(picker.get_by_test_id("command").inner_text())
    assert words[0] == "restain"
    picker.get_by_test_id("save-now").click()
    picker.get_by_test_id("replace").click()  # the name is taken now
    picker.get_by_test_id("saved-path").wait_for()

    assert main([*words[1:], "--elastic", "false"]) == 0
    transform = Transform.load(Path(words[words.index("--out") + 1]) / "transform.json")
    grid = np.stack(np.meshgrid([250.0, 500, 750], [250.0, 500, 750]), axis=-1).reshape(-1, 2)
    off = np.linalg.norm(transform.ihc_to_he(grid) - workspace.truth(1).ihc_to_he(grid), axis=1)
    assert off.mean() < 16  # px; the section is also bent, which a projective map does not follow


def test_drag_delete_undo_and_reload(picker: Page, truth: tuple[Points, Points]) -> None:
    he, ihc = truth
    pick(picker, he[:3], ihc[:3])
    start = on_screen(picker, "he", places(picker, "he")[1])
    picker.mouse.move(*start)
    picker.mouse.down()
    picker.mouse.move(start[0] + 30, start[1] - 12, steps=5)
    picker.mouse.up()
    moved = places(picker, "he")[1] - he[1]
    scale = look(picker, "he").scale
    assert np.abs(moved - np.array([30, -12]) / scale).max() <= 1.5 / scale
    assert len(pairs(picker)) == 3  # a drag is no click
    marker = picker.get_by_test_id("marker-he-2").bounding_box()
    assert marker is not None
    picker.keyboard.press("+")  # the marker keeps its size
    still(picker)
    larger = picker.get_by_test_id("marker-he-1").bounding_box()
    assert larger is None or larger["width"] == marker["width"]
    picker.keyboard.press("Control+z")  # the whole drag
    assert np.abs(places(picker, "he")[1] - he[1]).max() <= 1 / scale
    picker.keyboard.press("Control+Shift+z")
    assert np.abs(places(picker, "he")[1] - he[1] - moved).max() < 1e-6
    second = picker.get_by_role("button", name="Look at pair 2")
    second.press("Enter")
    assert second.evaluate("button => button === document.activeElement")  # though the table was drawn anew
    picker.keyboard.press("Delete")
    assert len(pairs(picker)) == 2
    assert np.abs(places(picker, "ihc")[1] - ihc[2]).max() <= 1 / scale
    picker.get_by_test_id("undo").click()
    assert len(pairs(picker)) == 3
    before = pairs(picker)
    picker.reload()
    ready(picker)
    assert pairs(picker) == before
    assert picker.get_by_text("not saved").is_visible()


def test_keyboard_alone(picker: Page) -> None:
    for side, moves in (("h", 3), ("i", 5)):
        picker.keyboard.press(side)
        for _ in range(moves):
            picker.keyboard.press("ArrowRight")
        still(picker)
        picker.keyboard.press("Enter")
        picker.keyboard.press("Escape")
    (pair,) = pairs(picker)
    for side in SIDES:
        assert np.allclose([pair[side]["x"], pair[side]["y"]], look(picker, side).centre, atol=0.01)
    picker.keyboard.press("n")
    still(picker)
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp"):
        picker.keyboard.press(key)
    (moved,) = pairs(picker)
    assert moved["he"]["x"] == pytest.approx(pair["he"]["x"] + 2)
    assert moved["he"]["y"] == pytest.approx(pair["he"]["y"] - 10)
    assert moved["ihc"] == pair["ihc"]
    picker.keyboard.press("Delete")
    assert pairs(picker) == []


def test_locked_panes_and_preview(
    picker: Page,
    served: tuple[str, Path],
    truth: tuple[Points, Points],
    workspace: Workspace,
) -> None:
    lock = picker.get_by_test_id("lock")
    assert lock.is_disabled()
    assert picker.get_by_test_id("preview-button").is_disabled()
    pick(picker, *truth)
    fitted(picker)
    lock.click()
    picker.keyboard.press("h")
    for key in ("+", "+", "Escape", "ArrowDown"):
        picker.keyboard.press(key)
    still(picker)
    he, ihc = look(picker, "he"), look(picker, "ihc")
    there = workspace.truth(1).ihc_to_he(ihc.centre[None])[0]
    assert np.abs(there - he.centre).max() < 16
    assert abs(he.rotation - ihc.rotation) == pytest.approx(21, abs=4)

    picker.get_by_test_id("preview-button").click()
    picker.get_by_test_id("curtain").wait_for()
    picker.wait_for_function("() => restain.preview?.settled")
    code = """() => { const [pane] = restain.preview.drawn[0];
        return {...pane.pose(), width: pane.size.x, height: pane.size.y}; }"""
    seen = Look.of(picker.evaluate(code))
    shown = pixels(picker.get_by_test_id("curtain"))
    assert agreement(shown, served[1] / "ihc.ome.tif", seen, (0.52, 0.8)) > 0.85
    left = np.random.default_rng(0).uniform([0.25, 0.2], [0.48, 0.8], (2000, 2)) * seen.size
    grid = seen.to_grid(left)
    colours, inside = around(served[1] / "he.ome.tif", np.asarray(workspace.truth(1).ihc_to_he(grid), np.float64))
    at = np.floor(left).astype(int)
    near = [shown[at[:, 1] + dy, at[:, 0] + dx].astype(float) for dx in (-4, 0, 4) for dy in (-4, 0, 4)]
    assert np.corrcoef(np.mean(near, axis=0)[inside].ravel(), colours[inside].ravel())[0, 1] > 0.5
    assert serious(picker) == []
    picker.keyboard.press("Escape")
    assert picker.get_by_test_id("stage-he").is_visible()
    assert len(pairs(picker)) == 5


def around(slide: Path, points: Points) -> tuple[Points, NDArray[np.bool_]]:
    """Colours of a slide around level-0 points, blurred over some 8 px."""
    picture = whole(slide)
    height, width = picture.shape[:2]
    inside: NDArray[np.bool_] = np.asarray(((points >= 8) & (points < np.array([width, height]) - 8)).all(axis=1))
    at = np.where(inside[:, None], points, 8).astype(int)
    near = [picture[at[:, 1] + dy, at[:, 0] + dx] for dx in (-5, 0, 5) for dy in (-5, 0, 5)]
    return np.mean(near, axis=0), inside


def test_an_outlier_is_marked_and_files_load(picker: Page, served: tuple[str, Path], workspace: Workspace) -> None:
    he, ihc = read_landmarks(workspace.landmarks)
    he[7] += 120
    keep: NDArray[np.bool_] = np.asarray(((he > 0) & (he < 1024)).all(axis=1))
    keep[12:] = False
    rows = np.concatenate([he, ihc], axis=1)[keep]
    file = served[1] / "given.csv"
    file.write_text("x_he,y_he,x_ihc,y_ihc\n" + "\n".join(",".join(f"{v:.2f}" for v in row) for row in rows) + "\n")
    picker.get_by_test_id("load").click()
    picker.get_by_role("button", name="given.csv").click()
    picker.get_by_text("outlier").first.wait_for()
    fitted(picker)
    assert len(pairs(picker)) == keep.sum()
    wrong = np.flatnonzero(np.flatnonzero(keep) == 7)[0]
    marked = picker.get_by_test_id("pair").filter(has_text="outlier")
    assert marked.count() >= 1
    assert f"Look at pair {wrong + 1}" in [
        row.get_by_role("button").first.get_attribute("aria-label") for row in marked.all()
    ]
    with picker.expect_download() as download:
        picker.get_by_test_id("download").click()
    text = Path(download.value.path()).read_text()
    assert np.allclose(np.loadtxt(text.splitlines()[1:], delimiter=","), rows, atol=0.006)
    assert serious(picker) == []
    picker.keyboard.press("?")
    picker.get_by_role("dialog").wait_for()
    assert serious(picker) == []


def test_which_slides(page: Page, served: tuple[str, Path]) -> None:
    page.goto(address(served[0], "landmarks"))
    page.get_by_label("H&E").select_option("he.ome.tif")
    page.get_by_label("IHC").select_option("ihc.ome.tif")
    assert serious(page) == []
    page.get_by_role("button", name="Open").click()
    ready(page)
    assert json.loads(page.evaluate("JSON.stringify(restain.model.pairs)")) == []
