"""Curves and sample pictures of trainings, while they go on and several beside each other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import numpy as np
import pytest

from restain.core.files import read_csv
from restain.core.runs import RunFolder
from restain.slides import write_image
from restain.training.log import LossLog
from tests.browser.conftest import serious

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


class Served(NamedTuple):
    """A folder of runs and its server."""

    folder: Path
    address: str

    def page(self, *names: str) -> str:
        return f"{self.address}/#/runs?{'&'.join(f'path={quote(name)}' for name in names)}"


def make_run(folder: Path, name: str, factor: float, status: str) -> RunFolder:
    """A run of 30 rows; its losses fall with the step, one of them is not there from the beginning."""
    run = RunFolder(folder / name)
    run.start({"task": "stain", "method": "pyramid_pix2pix", "mpp": 0.5}, {})
    log = LossLog(run.metrics, 0)
    for step in range(20, 620, 20):
        log.write(
            {"epoch": 1 + step // 100, "step": step, "lr": 2e-4, "D": factor / step, "L1": factor * 30 - step / 100}
        )
    for epoch in (2, 4):
        write_image(run.samples / f"epoch_{epoch:04d}.jpg", np.full((32, 96, 3), 40 * epoch, np.uint8))
    run.set_status(status=status)
    return run


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., str]) -> Served:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder, "one", 1.0, "running")
    make_run(folder, 'two <b>"&', 1.5, "done")
    make_run(folder, "gone", 1.0, "running")
    return Served(folder, serve(folder))


def chart(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def readout(page: Page, name: str) -> list[str]:
    return chart(page, name).locator(".readout span").all_inner_texts()


def ink(page: Page, name: str) -> int:
    """Pixels of a chart that are drawn on."""
    count: int = (
        chart(page, name)
        .locator("canvas")
        .evaluate(
            "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data"
            ".reduce((sum, value, place) => sum + (place % 4 === 3 && value > 0), 0)"
        )
    )
    return count


def test_curves_grow_while_the_run_goes_on(page: Page, served: Served) -> None:
    page.clock.install()
    page.goto(served.page("one"))
    chart(page, "L1").wait_for()
    assert readout(page, "L1") == ["last", "24"]
    assert page.get_by_role("region", name="lr", exact=True).count() == 0  # not ticked
    assert ink(page, "L1") > 500
    assert serious(page) == []
    log = LossLog(served.folder / "one" / "metrics.csv", 600)
    log.write({"epoch": 7, "step": 620, "lr": 2e-4, "D": 0.1, "L1": 3.25})
    page.clock.run_for(2100)
    page.get_by_text("step 620").first.wait_for()
    assert readout(page, "L1") == ["last", "3.25"]
    log.write({"epoch": 7, "step": 640, "lr": 2e-4, "D": 0.1, "L1": 3, "S1": 7.5})  # a later phase adds a loss
    page.clock.run_for(2100)
    chart(page, "S1").wait_for()
    assert readout(page, "S1") == ["last", "7.5"]
    assert readout(page, "L1") == ["last", "3"]

    LossLog(served.folder / "one" / "metrics.csv", 600)  # resumed from a checkpoint: its table is cut back
    page.clock.run_for(2100)
    page.get_by_text("step 600").first.wait_for()
    assert readout(page, "L1") == ["last", "24"]


def test_nothing_is_asked_while_nobody_looks(page: Page, served: Served) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/run?" in request.url else None)
    page.clock.install()
    page.goto(served.page("one"))
    chart(page, "L1").wait_for()
    with page.expect_response(lambda response: "after=" in response.url):
        page.clock.run_for(2100)
    hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
    page.evaluate(hide + "document.dispatchEvent(new Event('visibilitychange')); }", True)
    before = len(asked)
    page.clock.run_for(60_000)
    assert len(asked) == before
    with page.expect_request(lambda request: "after=" in request.url):
        page.evaluate(hide + "document.dispatchEvent(new Event('visibilitychange')); }", False)


def test_two_runs_beside_each_other(page: Page, served: Served) -> None:
    page.goto(f"{served.address}/#/runs")
    page.get_by_label("Compare one").check()
    page.get_by_label('Compare two <b>"&').check()
    assert serious(page) == []
    page.get_by_role("link", name="Compare 2 runs").click()
    chart(page, "D").wait_for()
    assert readout(page, "L1")[:1] == ["last"]
    rows = read_csv(served.folder / 'two <b>"&' / "metrics.csv")
    assert readout(page, "L1")[2] == f"{float(rows[-1]['L1']):.4g}"
    looks = page.locator(".legend .swatch line").evaluate_all(
        "lines => lines.map(line => [line.getAttribute('stroke'), line.getAttribute('stroke-dasharray')])"
    )
    assert len({color for color, _ in looks}) == len({dash for _, dash in looks}) == 2
    assert page.get_by_role("rowheader", name='two <b>"&').inner_text() == 'two <b>"&'

    # the pointer, and the keyboard, read all charts at one step
    canvas = chart(page, "D").get_by_role("group")
    canvas.hover()
    step = readout(page, "D")[0]
    assert step.startswith("step ")
    assert readout(page, "L1")[0] == step
    page.mouse.move(2, 2)
    canvas.focus()
    page.keyboard.press("Home")
    assert readout(page, "L1")[:1] == ["step 20"]
    page.keyboard.press("ArrowRight")
    assert readout(page, "D") == ["step 40", "0.025", "0.0375"]
    assert "two" in chart(page, "D").locator("[aria-live]").inner_text()

    # pictures: the latest, then an earlier one
    pictures = page.get_by_role("img", name="Sample of")
    assert pictures.count() == 2
    assert "epoch 4" in (pictures.first.get_attribute("alt") or "")
    assert pictures.evaluate_all(
        "images => Promise.all(images.map(image => image.decode().then(() => image.naturalWidth)))"
    ) == [96, 96]
    page.get_by_label("Epoch").press("ArrowLeft")
    assert "epoch 2" in (pictures.first.get_attribute("alt") or "")

    before = ink(page, "L1")
    page.get_by_label("Smoothing").press("Home")
    assert page.locator("output[for=smoothing]").inner_text() == "off"
    assert ink(page, "L1") < before  # one line a run instead of two
    page.get_by_label("Logarithmic").check()
    chart(page, "D").wait_for()
    page.get_by_label("lr").check()
    chart(page, "lr").wait_for()
    assert serious(page) == []
    page.get_by_role("link", name="Take away one").click()
    page.get_by_role("heading", name="Run", exact=True).wait_for()
    chart(page, "L1").wait_for()
    assert len(readout(page, "L1")) == 2


def test_a_run_that_vanishes_is_told(page: Page, served: Served) -> None:
    page.clock.install()
    page.goto(served.page("gone", "one"))
    chart(page, "L1").wait_for()
    shutil.rmtree(served.folder / "gone")
    page.clock.run_for(2100)
    page.get_by_role("alert").get_by_text("gone").wait_for()
    assert len(readout(page, "L1")) == 3  # what was drawn stays
    assert serious(page) == []


def test_a_damaged_run_is_told(page: Page, served: Served) -> None:
    run = make_run(served.folder, "damaged", 1.0, "done")
    (run.path / "run.json").write_text("[" * 50_000)
    page.goto(served.page("damaged"))
    page.get_by_role("alert").get_by_text("damaged").wait_for()
    assert page.locator("canvas").count() == 0
