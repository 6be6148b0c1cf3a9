"""What lies in the served folder, and reports inside the pages."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.browser.conftest import serious
from tests.study.studies import LEVELS, make_study
from tests.web.workspace import HOSTILE, Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Page


@pytest.fixture(scope="module")
def home(workspace: Workspace, serve: Callable[..., str]) -> str:
    return serve(workspace.folder)


def test_the_folder_is_listed(page: Page, home: str, workspace: Workspace) -> None:
    dialogs: list[str] = []

    def heard(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", heard)
    page.goto(home)
    rows = page.get_by_role("region", name="Cases").locator("tbody tr")
    rows.first.wait_for()
    assert rows.count() == 3
    assert rows.locator("th").all_inner_texts() == ["p0000", "p0001", HOSTILE]
    assert page.locator("main img").count() == 0
    assert page.locator("main b").count() == 0  # a laboratory called <b>
    assert dialogs == []
    assert serious(page) == []

    view = rows.nth(0).get_by_role("link", name="View p0000").get_attribute("href")
    assert view is not None
    query = parse_qs(urlsplit(view.lstrip("#")).query)
    assert query["he"] == [workspace.name(workspace.he)]
    assert query["ihc"] == [workspace.name(workspace.ihc)]
    assert query["registration"] == [workspace.name(workspace.registration)]
    assert workspace.name(workspace.virtual) in query["virtual"]
    assert "registered" in rows.nth(0).inner_text()
    assert rows.nth(2).get_by_role("link").all_inner_texts() == ["View"]  # no IHC: no landmarks

    page.get_by_label("Filter cases").fill("p0001")
    assert rows.count() == 1
    page.get_by_label("Filter cases").fill("")
    page.get_by_label("What is there").select_option("virtual")
    assert rows.locator("th").all_inner_texts() == ["p0000"]
    runs = page.get_by_role("region", name="Runs")
    assert runs.get_by_role("link", name=workspace.name(workspace.run), exact=True).count() == 1


def test_a_report_opens_inside(page: Page, home: str, workspace: Workspace) -> None:
    page.goto(home)
    page.get_by_role("region", name="Reports").get_by_role("link").first.click()
    frame = page.frame_locator("iframe")
    frame.locator("h1").wait_for()
    assert f"<title>{html.escape(frame.locator('h1').inner_text())}</title>" in workspace.report.read_text()
    assert page.locator("iframe").get_attribute("sandbox") == ""
    with page.expect_popup() as alone:
        page.get_by_role("link", name="Open alone").click()
    alone.value.locator("h1").wait_for()
    assert serious(page) == []
    page.goto(f"{home}/#/report?path={quote('no/such.html')}")
    page.get_by_role("alert").get_by_text("no/such.html").wait_for()


def test_an_empty_folder_says_what_is_expected(
    page: Page, tmp_path: Path, serve: Callable[..., str], workspace: Workspace
) -> None:
    address = serve(tmp_path)
    page.goto(address)
    page.get_by_text("nothing to show").wait_for()
    assert "restain demo" in page.locator("main").inner_text()
    assert serious(page) == []
    made = make_study(tmp_path, 2, ("alice",))
    page.get_by_role("button", name="Look again").click()
    link = page.get_by_role("region", name="Reading studies").get_by_role("link")
    assert link.get_attribute("href") == f"{address}/read/{made.id}"
    link.click()
    page.get_by_label("Your code").wait_for()
    assert page.get_by_role("navigation").count() == 0  # readers are led nowhere else


def test_five_hundred_cases(page: Page, home: str) -> None:
    def many(place: int) -> dict[str, object]:
        return {
            "patient": f"q{place:04d}", "level": LEVELS[place % 4], "lab": None, "he": f"s/{place}.svs", "ihc": None,
            "he_mpp": 0.25, "ihc_mpp": None, "registration": None, "registration_status": None,
            "registered_he": None, "virtual": [], "from": "cohort.csv",
        }  # fmt: skip

    library = {
        "name": "large", "version": "0", "truncated": True, "cases": [many(place) for place in range(500)],
        "slides": [], "runs": [], "reports": [], "studies": [], "landmarks": [], "problems": ["<i>one</i>", "two"],
    }  # fmt: skip
    page.route("**/api/library", lambda route: route.fulfill(body=json.dumps(library), content_type="application/json"))
    page.goto(home)
    rows = page.get_by_role("region", name="Cases").locator("tbody tr")
    rows.first.wait_for()
    assert rows.count() == 50  # what is not looked at is not made
    page.get_by_role("button", name="Show more").click()
    assert rows.count() == 100
    page.get_by_label("Filter cases").fill("q0477")
    assert rows.locator("th").all_inner_texts() == ["q0477"]
    page.get_by_label("Filter cases").fill("")
    page.get_by_label("Level").select_option("2+")
    assert "125 of 500 cases" in page.locator("main").inner_text()
    assert page.get_by_text("<i>one</i>").count() == 1
    assert serious(page) == []
