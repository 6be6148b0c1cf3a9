"""The viewer in details: sharpness, what the browser keeps, links that say nonsense, small windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.browser.conftest import serious
from tests.browser.looks import address, looks, pixels, settle, whole
from tests.web.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def server(serve: Callable[..., str], workspace: Workspace) -> str:
    return serve(workspace.folder)


def case(space: Workspace, **more: Any) -> dict[str, Any]:
    """The query of the registered case."""
    names = {"he": space.he, "ihc": space.ihc, "registration": space.registration}
    return {key: space.name(path) for key, path in names.items()} | more


def test_one_to_one_is_the_slides_own_pixels(page: Page, server: str, workspace: Workspace) -> None:
    for width, key in ((1400, "z"), (1307, "button")):  # even and odd: whole px from the middle are others
        page.set_viewport_size({"width": width, "height": 800})
        page.goto("about:blank")
        page.goto(address(server, "view", he=workspace.name(workspace.he), x=500.3, y=510.6, z=0.9))
        settle(page)
        if key == "z":
            page.keyboard.press("z")
        else:
            page.get_by_test_id("sharp").click()
        settle(page)
        (look,) = looks(page)
        assert look.scale == 1
        shown = pixels(page.get_by_test_id("stage-he"))[200:500, 200:600].astype(float)
        x, y = np.round(look.to_grid(np.array([[200.0, 200.0]]))[0]).astype(int)
        slide = whole(workspace.he)[y : y + 300, x : x + 400]
        tile = np.abs(shown - slide).mean()
        blurred = np.abs((slide[:, 1:] + slide[:, :-1]) / 2 - slide[:, 1:]).mean()
        assert tile < 0.5 * blurred  # what is left is the JPEG's; half a px beside would be blurred


def test_tiles_are_kept_for_good(page: Page, server: str, workspace: Workspace) -> None:
    kept: dict[str, set[str]] = {"tile": set(), "via": set(), "overlay": set()}

    def heard(url: str, control: str) -> None:
        if "/api/tile/" in url or "/api/overlay/" in url:
            kept["overlay" if "/api/overlay/" in url else "via" if "via=" in url else "tile"].add(control)

    page.on("response", lambda answer: heard(answer.url, answer.headers.get("cache-control", "")))
    page.goto(address(server, "view", **case(workspace, mode="curtain", on="grid")))
    settle(page)
    assert all(control == {"private, max-age=31536000, immutable"} for control in kept.values())


@pytest.mark.parametrize(
    "nonsense",
    [
        {"x": 1e300, "y": -1e300, "z": 1},
        {"x": 5, "y": 5, "z": 1e-300},
        {"x": 5, "y": 5, "z": 1e300},
        {"x": 5, "y": 5, "z": 1, "lock": 0, "own": "0,NaN,1,1,0,0"},
    ],
)
def test_a_link_that_says_nonsense_shows_the_slide(
    page: Page, server: str, workspace: Workspace, nonsense: dict[str, Any]
) -> None:
    page.goto(address(server, "view", **case(workspace, **nonsense)))
    page.wait_for_function("() => window.restain?.stage?.placed")
    for look in looks(page):
        assert np.isfinite(look.centre).all()
        assert 0.01 < look.scale < 40
    ihc = looks(page)[1]
    assert ((ihc.centre >= 0) & (ihc.centre <= 1024)).all()


def test_a_busy_overlay_says_so(page: Page, server: str, workspace: Workspace) -> None:
    held: list[Any] = []
    page.goto(address(server, "view", **case(workspace)))
    settle(page)
    page.route("**/api/overlay/dab/**", lambda route: held.append(route))
    page.keyboard.press("2")
    busy = page.get_by_test_id("busy-1-dab")
    busy.wait_for(state="visible")
    for route in held:
        route.continue_()
    page.unroute("**/api/overlay/dab/**")
    settle(page)
    assert not busy.is_visible()


def test_pages_keep_their_own_look(page: Page, server: str, workspace: Workspace) -> None:
    page.set_viewport_size({"width": 1000, "height": 800})
    run = f"#/runs?path={workspace.name(workspace.run)}"
    page.goto(f"{server}/{run}")
    curves = page.get_by_role("group", name="Curves")
    curves.wait_for()
    before = curves.bounding_box()
    page.evaluate("to => location.hash = to", address("", "view", **case(workspace))[1:])
    settle(page)
    page.evaluate("location.hash = '#/landmarks'")
    page.get_by_role("heading", name="Any two slides").wait_for()
    page.evaluate("to => location.hash = to", run)
    curves.wait_for()
    assert curves.bounding_box() == before  # the files of the other pages are still loaded


def test_a_telephone(page: Page, server: str, workspace: Workspace) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    run = workspace.name(workspace.run)
    he, ihc = workspace.name(workspace.he), workspace.name(workspace.ihc)
    for where in ("/", address("", "runs", path=run), address("", "landmarks", he=he, ihc=ihc)):
        page.goto("about:blank")
        page.goto(server + where)
        page.get_by_role("heading", level=1).wait_for(state="attached")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert serious(page) == []
    page.goto(address(server, "view", **case(workspace)))
    settle(page)
    upper, lower = (page.get_by_test_id(f"stage-{role}").bounding_box() for role in ("he", "ihc"))
    assert upper is not None
    assert lower is not None
    assert upper["width"] == 390
    assert lower["y"] > upper["y"] + upper["height"]
