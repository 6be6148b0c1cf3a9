"""The viewer when slides vanish, are damaged, cannot be read, or say no um/px."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from restain.slides import open_slide, write_image
from tests.browser.conftest import serious
from tests.browser.looks import address, agreement, looks, pixels, settle
from tests.web.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Page

Serve = Callable[..., str]


@pytest.fixture(scope="module")
def fragile(serve: Serve, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A folder of its own, whose slides may be broken, and its server."""
    folder = tmp_path_factory.mktemp("fragile")
    shutil.copy(workspace.ihc, folder / "vanishing.ome.tif")
    shutil.copy(workspace.he, folder / "damaged.ome.tif")
    with tifffile.TiffFile(folder / "damaged.ome.tif") as file:
        offset, size = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]  # 512 px: four tiles of a pane
    with (folder / "damaged.ome.tif").open("r+b") as stream:
        stream.seek(offset)
        stream.write(bytes(size))
    with open_slide(workspace.he) as slide:
        write_image(folder / "plain.png", slide.read(0, 0, 1024, 1024, 0.5))
    return serve(folder), folder


def test_a_slide_that_cannot_be_opened(page: Page, fragile: tuple[str, Path]) -> None:
    base, folder = fragile
    (folder / "junk.ome.tif").write_bytes(b"II*\0" + bytes(2000))
    page.goto(address(base, "view", he="plain.png", ihc="junk.ome.tif", virtual="nowhere.ome.tif", mode="curtain"))
    settle(page)
    assert len(looks(page)) == 1
    for index, name in ((1, "junk.ome.tif"), (2, "nowhere.ome.tif")):
        pane = page.get_by_test_id(f"pane-{index}")
        assert name in pane.get_by_role("alert").inner_text()
        assert pane.get_by_role("button", name="Reload").is_visible()
    assert serious(page) == []


def test_a_slide_that_vanishes(page: Page, fragile: tuple[str, Path]) -> None:
    base, folder = fragile
    slide = folder / "vanishing.ome.tif"
    page.goto(address(base, "view", ihc=slide.name, x=512, y=512, z=4))
    settle(page)
    slide.rename(folder / "elsewhere")
    for _ in range(5):
        page.keyboard.press("+")
    banner = page.get_by_role("alert").filter(has=page.get_by_role("button", name="Reload"))
    banner.wait_for()
    banner.get_by_role("button").click()  # still gone: said, not shown as if it were there
    page.get_by_role("alert").filter(has_text="vanishing.ome.tif").wait_for()
    (folder / "elsewhere").rename(slide)
    page.get_by_role("button", name="Reload").click()
    settle(page)
    assert agreement(pixels(page.get_by_test_id("stage-ihc")), slide, looks(page)[0]) > 0.9
    assert page.get_by_role("alert").filter(visible=True).count() == 0


def test_a_damaged_tile_is_hatched_and_counted(page: Page, fragile: tuple[str, Path]) -> None:
    base, _ = fragile
    page.goto(address(base, "view", he="damaged.ome.tif", x=512, y=400, z=0.7))
    page.get_by_test_id("damaged").wait_for()
    settle(page)
    assert "4 tiles could not be read" in page.get_by_test_id("damaged").inner_text()
    (look,) = looks(page)
    shown = pixels(page.get_by_test_id("stage-he"))
    x, y = look.to_screen(np.array([[128.0, 128.0]]))[0].astype(int)
    grey = shown[y - 30 : y + 30, x - 30 : x + 30].astype(int)
    assert np.ptp(grey, axis=2).max() < 16
    assert grey.std() > 15  # lines, not glass
    x, y = look.to_screen(np.array([[700.0, 300.0]]))[0].astype(int)
    assert np.ptp(shown[y - 30 : y + 30, x - 30 : x + 30].astype(int), axis=2).max() > 30  # its neighbour is drawn


def test_um_per_px_unknown(page: Page, fragile: tuple[str, Path]) -> None:
    base, _ = fragile
    page.goto(address(base, "view", he="plain.png"))
    settle(page)
    bar = page.get_by_test_id("scalebar")
    assert "um/px unknown" in bar.inner_text()
    assert bar.locator(".bar").is_hidden()
    assert "um/px unknown" in page.locator(".pane-head").inner_text()
    page.mouse.move(500, 450)
    assert " um" not in page.get_by_test_id("coordinates").inner_text()
