"""The viewer in a real browser: what is drawn, what follows what, what a link keeps, what keys and mouse do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from restain.registration import Transform
from tests.browser.conftest import CHROMIUM, serious
from tests.browser.looks import address, agreement, drag, looks, pixels, settle
from tests.web.workspace import HOSTILE, Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

Serve = Callable[..., str]


@pytest.fixture(scope="module")
def server(serve: Serve, workspace: Workspace) -> str:
    return serve(workspace.folder)


def case(space: Workspace, *virtual: Path, **more: Any) -> dict[str, Any]:
    """The query of the registered case."""
    names = {"he": space.he, "ihc": space.ihc, "registration": space.registration}
    found: dict[str, Any] = {key: space.name(path) for key, path in names.items()}
    return {**found, "virtual": [space.name(path) for path in virtual], **more}


def test_draws_slides_where_it_says_and_locks_them(page: Page, server: str, workspace: Workspace) -> None:
    page.goto(address(server, "view", **case(workspace)))
    settle(page)
    transform = Transform.load(workspace.registration)
    stages = [page.get_by_test_id("stage-he"), page.get_by_test_id("stage-ihc")]
    before = looks(page)
    for step in range(3):
        he, ihc = looks(page)
        for stage, slide, look in zip(stages, (workspace.he, workspace.ihc), (he, ihc), strict=True):
            assert agreement(pixels(stage), slide, look) > 0.9
        # what lies in the middle of one lies in the middle of the other, and what is beside it beside it
        assert np.abs(he.to_screen(transform.ihc_to_he(ihc.centre[None])) - he.size / 2).max() < 2
        around = ihc.size / 2 + np.array([[80.0, 0], [0, 80], [-80, 0], [0, -80]])
        there = he.to_screen(transform.ihc_to_he(ihc.to_grid(around))) - he.size / 2
        assert np.abs(there - (around - ihc.size / 2)).max() < 6
        assert he.flip
        if step == 0:  # the user moves the IHC, then the H&E
            drag(page, stages[1], (-60, 45))
        elif step == 1:
            box = stages[0].bounding_box()
            assert box is not None
            page.mouse.move(box["x"] + 200, box["y"] + 300)
            page.mouse.wheel(0, -500)
            page.wait_for_timeout(100)
        settle(page)
    for now, then in zip(looks(page), before, strict=True):
        assert now.scale > 1.15 * then.scale
        assert np.abs(now.centre - then.centre).max() > 30


def test_maps_points_as_python_does(page: Page, server: str, workspace: Workspace) -> None:
    page.goto(address(server, "view", **case(workspace)))
    settle(page)
    transform = Transform.load(workspace.registration)
    ihc = np.random.default_rng(0).uniform(-200, 1224, (200, 2))
    he = transform.ihc_to_he(ihc)
    code = "points => points.map(([x, y]) => {{ const p = restain.scene.transform.{}({{x, y}}); return [p.x, p.y]; }})"
    assert np.abs(np.array(page.evaluate(code.format("toHe"), ihc.tolist())) - he).max() < 0.01
    back = np.array(page.evaluate(code.format("toIhc"), he.tolist()))
    assert np.abs(transform.ihc_to_he(back) - he).max() < 0.01


def test_curtain_moves_by_mouse_and_keyboard(page: Page, server: str, workspace: Workspace) -> None:
    page.goto(address(server, "view", **case(workspace, workspace.virtual)))
    settle(page)
    page.keyboard.press("c")
    settle(page)
    curtain, handle = page.get_by_test_id("curtain"), page.get_by_test_id("curtain-handle")
    below, above = looks(page)
    assert np.allclose(below.centre, above.centre)
    assert below.scale == above.scale
    both = (workspace.registered_he, workspace.ihc)

    def hangs(split: float) -> None:
        assert handle.get_attribute("aria-valuenow") == str(round(100 * split))
        shown = pixels(curtain)
        for slide, region in zip(both, ((0.25, split - 0.02), (split + 0.02, 0.75)), strict=True):
            assert agreement(shown, slide, looks(page)[0], region) > 0.85

    hangs(0.5)
    box, at = curtain.bounding_box(), handle.bounding_box()
    assert box is not None
    assert at is not None
    page.mouse.move(at["x"] + at["width"] / 2, 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], 320, steps=4)
    page.mouse.up()
    hangs(0.6)
    for _ in range(5):  # the handle has the focus now
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    hangs(0.4)
    page.keyboard.press("]")
    assert handle.get_attribute("aria-valuenow") == "45"
    handle.press("End")
    assert handle.get_attribute("aria-valuenow") == "100"
    handle.press("Home")
    assert handle.get_attribute("aria-valuenow") == "0"
    page.get_by_test_id("curtain-left").select_option("1")  # the IHC, which hung on the right: they change places
    settle(page)
    both = (workspace.ihc, workspace.registered_he)
    for _ in range(10):
        page.keyboard.press("]")
    hangs(0.5)
    page.keyboard.press("s")
    settle(page)
    assert page.get_by_test_id("side").is_visible()
    assert len(looks(page)) == 3


def test_overlays_switch_on_and_draw(page: Page, server: str, workspace: Workspace) -> None:
    page.goto(address(server, "view", **case(workspace)))
    settle(page)
    stage = page.get_by_test_id("stage-ihc")
    plain = pixels(stage).astype(int)
    box = page.get_by_test_id("overlay-1-dab")
    box.check()
    settle(page)
    coloured = pixels(stage).astype(int)
    green = (coloured[..., 1] > coloured[..., 0] + 20) & (plain[..., 1] < plain[..., 0])
    assert green.sum() > 1000  # brown became green and yellow, as the legend says
    assert page.get_by_text("1.2 OD and more").is_visible()
    page.keyboard.press("2")
    settle(page)
    assert not box.is_checked()
    assert np.abs(pixels(stage).astype(int) - plain).max() < 3
    page.keyboard.press("g")  # the grid, on both
    settle(page)
    assert page.get_by_test_id("overlay-0-grid").is_checked()
    assert page.get_by_test_id("overlay-1-grid").is_checked()
    assert (np.abs(pixels(stage).astype(int) - plain).max(axis=2) > 30).sum() > 1000


def test_overlays_stay_with_their_case(page: Page, server: str, workspace: Workspace) -> None:
    page.goto(address(server, "view", **case(workspace, on="membranes,tissue")))
    settle(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/overlay/" in request.url else None)
    page.get_by_test_id("panel-slides").click()
    page.get_by_test_id("filter").fill("p0001")
    page.get_by_test_id("case").click()
    page.wait_for_function("() => restain.state.he.includes('p0001') && restain.settled?.()")
    settle(page)
    assert page.get_by_test_id("overlay-1-tissue").is_checked()  # what was on stays on, where the new case has it
    assert page.get_by_test_id("overlay-0-membranes").count() == 0
    assert asked
    assert all("/api/overlay/tissue/" in url and "p0001" in url and "p0000" not in url for url in asked)


def test_a_copied_link_shows_the_same(page: Page, server: str, workspace: Workspace) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for mode in ("side", "curtain"):
        page.goto("about:blank")
        page.goto(address(server, "view", **case(workspace, workspace.virtual, mode=mode)))
        settle(page)
        for key in ("ArrowRight", "ArrowDown", "+", "+", "ArrowDown", "r", "1"):
            page.keyboard.press(key)
        settle(page)
        if mode == "curtain":
            page.keyboard.press("[")
        page.get_by_test_id("copy-link").click()
        page.get_by_text("Link copied.").wait_for()
        link = page.evaluate("navigator.clipboard.readText()")
        before = looks(page), page.evaluate("restain.stage.drawn.map(([pane]) => pane.viewer.world.getItemCount())")
        other = page.context.new_page()
        other.set_default_timeout(15_000)
        other.goto(link)
        settle(other)
        other.wait_for_function(f"() => restain.stage.drawn[0][0].viewer.world.getItemCount() == {before[1][0]}")
        after = looks(other), other.evaluate("restain.stage.drawn.map(([pane]) => pane.viewer.world.getItemCount())")
        assert before[1] == after[1]
        assert max(before[1]) > 1
        assert len(before[0]) == {"side": 3, "curtain": 2}[mode]
        for one, two in zip(before[0], after[0], strict=True):
            assert np.abs(one.to_screen(two.centre[None]) - one.size / 2).max() < 1
            assert abs(two.scale / one.scale - 1) < 1e-3
            assert abs(two.rotation - one.rotation) < 0.1
            assert two.flip == one.flip
        ihc = before[0][0] if mode == "curtain" else before[0][1]
        assert ihc.rotation == pytest.approx(90)
        assert ihc.scale > 0.6
        if mode == "curtain":
            assert other.get_by_test_id("curtain-handle").get_attribute("aria-valuenow") == "45"
        assert json.loads(other.evaluate("JSON.stringify(restain.state.on)"))
        other.close()


def test_mouse_tells_places_on_both_slides(page: Page, server: str, workspace: Workspace) -> None:
    page.goto(address(server, "view", **case(workspace)))
    settle(page)
    he, ihc = looks(page)
    box = page.get_by_test_id("stage-ihc").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 380)
    here = ihc.to_grid(np.array([[300.0, 380.0]]))
    there = Transform.load(workspace.registration).ihc_to_he(here)
    for role, point in (("ihc", here), ("he", there)):
        words = page.get_by_test_id(f"stage-{role}").get_by_test_id("coordinates").inner_text()
        x, y = (float(word) for word in words.split(" px")[0].split(","))
        assert np.abs(np.array([x, y]) + 0.5 - point).max() < 1.5
        um = [float(word) for word in words.split("· ")[1].removesuffix(" um").split(",")]
        assert np.abs(np.array(um) - 0.5 * point).max() < 0.8
    cross = page.get_by_test_id("stage-he").get_by_test_id("cross").bounding_box()
    stage = page.get_by_test_id("stage-he").bounding_box()
    assert cross is not None
    assert stage is not None
    assert np.abs(he.to_screen(there)[0] - [cross["x"] - stage["x"], cross["y"] - stage["y"]]).max() < 1.5
    assert page.get_by_test_id("stage-ihc").get_by_test_id("cross").is_hidden()
    bar = page.get_by_test_id("stage-ihc").get_by_test_id("scalebar")
    length = float(bar.get_attribute("data-um") or 0) / 0.5 * ihc.scale
    assert bar.locator(".bar").evaluate("bar => bar.offsetWidth") == pytest.approx(length, abs=1)


def test_names_are_text(page: Page, server: str, workspace: Workspace) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.goto(address(server, "view", he=workspace.name(workspace.hostile)))
    settle(page)
    assert page.locator(".pane-head .name").inner_text() == workspace.hostile.name
    page.get_by_test_id("panel-slides").click()
    page.get_by_test_id("filter").fill("müller")
    assert page.get_by_test_id("case").locator("strong").inner_text() == HOSTILE
    assert page.locator("img[src='x'], .patient img").count() == 0
    assert not dialogs
    page.get_by_test_id("filter").fill("p0000")
    page.get_by_test_id("case").first.click()  # the whole case opens, with its virtual slides
    page.wait_for_function("() => restain.stage.drawn.length > 2 && restain.settled()")
    assert page.evaluate("restain.scene.transform !== null")


def test_unregistered_slides_move_alone(page: Page, server: str, workspace: Workspace) -> None:
    names = [workspace.name(path) for path in (workspace.other_he, workspace.other_ihc)]
    page.goto(address(server, "view", he=names[0], ihc=names[1]))
    settle(page)
    assert page.get_by_test_id("mode-curtain").is_disabled()
    landmarks = page.get_by_role("link", name="mark landmarks")
    assert "p0001_ihc" in (landmarks.get_attribute("href") or "")
    before = looks(page)
    drag(page, page.get_by_test_id("stage-he"), (80, 30))
    settle(page)
    after = looks(page)
    assert np.abs(after[0].centre - before[0].centre).max() > 40
    assert np.allclose(after[1].centre, before[1].centre)
    page.wait_for_function("() => location.hash.includes('own=')")
    page.reload()
    settle(page)
    for one, two in zip(after, looks(page), strict=True):
        assert np.abs(one.centre - two.centre).max() < 0.5
        assert one.scale == pytest.approx(two.scale, rel=1e-3)


def test_without_webgl(browser: Browser, server: str, workspace: Workspace) -> None:
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-3d-apis", "--disable-webgl"]
    plain = browser.browser_type.launch(executable_path=CHROMIUM, args=flags)
    try:
        page = plain.new_page(viewport={"width": 1400, "height": 900})
        page.goto(address(server, "view", **case(workspace)))
        settle(page)
        assert page.evaluate("document.createElement('canvas').getContext('webgl2')") is None
        he, _ = looks(page)
        assert agreement(pixels(page.get_by_test_id("stage-he")), workspace.he, he) > 0.9
    finally:
        plain.close()


def test_a_slide_without_small_copies_waits_for_zoom(page: Page, server: str, workspace: Workspace) -> None:
    """As the server says it of a huge slide with one level: ``coarsest_z`` below what the view needs."""
    asked: list[str] = []

    def flat(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["layers"][0]["slide"] |= {"coarsest_z": 0, "problem": "No pyramid: convert it."}
        route.fulfill(response=answer, json=body)

    page.route("**/api/case?*", flat)
    page.on("request", lambda request: asked.append(request.url) if "/api/tile/" in request.url else None)
    page.goto(address(server, "view", he=workspace.name(workspace.he), x=512, y=512, z=4))
    page.get_by_text("No pyramid: convert it.").wait_for()
    page.wait_for_timeout(300)
    assert len(asked) == 0
    page.get_by_role("button", name="Zoom in to").click()
    settle(page)
    assert {url.split("/api/tile/")[1][:2] for url in asked} == {"0/"}
    assert page.get_by_text("No pyramid").is_hidden()


def test_a_server_that_is_away_for_a_while(page: Page, server: str, workspace: Workspace) -> None:
    page.goto(address(server, "view", **case(workspace, x=512, y=512, z=5)))
    settle(page)
    gone = page.get_by_test_id("server-gone")
    assert gone.is_hidden()
    page.route("**/*", lambda route: route.abort())
    for _ in range(6):
        page.keyboard.press("+")
    gone.wait_for()
    page.unroute("**/*")
    gone.wait_for(state="hidden")
    settle(page)
    assert agreement(pixels(page.get_by_test_id("stage-ihc")), workspace.ihc, looks(page)[1]) > 0.9


def test_keys_help_and_accessibility(page: Page, server: str, workspace: Workspace) -> None:
    page.goto(address(server, "view", **case(workspace, workspace.virtual, on="tissue,dab")))
    settle(page)
    page.get_by_test_id("panel-slides").click()
    page.get_by_test_id("case").first.wait_for()
    assert serious(page) == []
    before = looks(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("-")
    settle(page)
    page.keyboard.press("l")  # unlocked: only one moves from now on
    middle = looks(page)
    assert all(now.scale < then.scale for now, then in zip(middle, before, strict=True))
    page.keyboard.press("+")
    settle(page)
    moved = [abs(now.scale / then.scale - 1) > 0.1 for now, then in zip(looks(page), middle, strict=True)]
    assert sum(moved) == 1
    page.keyboard.press("l")
    settle(page)
    assert all(abs(now.scale / then.scale - 1) > 0.1 for now, then in zip(looks(page), middle, strict=True))
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    assert serious(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    settle(page)
    assert serious(page) == []
