"""A real browser against a real server on synthetic slides."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from restain.web.app import STATIC
from tests.browser.reading_room import rooms  # noqa: F401  (here and not in each file: they are made once)
from tests.web.conftest import workspace  # noqa: F401

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(__file__).resolve().parents[2] / "frontend" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="package")  # not longer: a later test's forked process would hold its pipes, and it never end
def browser() -> Iterator[Browser]:
    """Chromium, as Debian ships it."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    if not (STATIC / "index.html").is_file():
        pytest.skip("the pages are not built (Node.js, then `make web`)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        quiet = ["--disable-quic", "--disable-component-update", "--disable-sync", "--disable-background-networking"]
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", *quiet]
        )
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page of 1400 x 900 that has seen nothing; a script's error fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors


@pytest.fixture(scope="package")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Starts ``restain serve FOLDER ...`` and returns its address; all servers end with these tests."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, *words: str) -> str:
        command = [sys.executable, "-m", "restain.cli.main", "serve", str(folder), "--port", "0", *words]
        log = tmp_path_factory.mktemp("serve") / "log.txt"
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log.open("w"), text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"http://[^\s/]+", line)
            if found:
                return found.group()
        raise AssertionError(f"the server said no address: {log.read_text()}")

    yield start
    for process in started:
        process.kill()
        process.wait()


def serious(page: Page) -> list[str]:
    """What axe-core finds on the page that is serious or critical, a line each."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{item['id']}: {item['help']} at {[node['target'] for node in item['nodes'][:3]]}"
        for item in found["violations"]
        if item["impact"] in ("serious", "critical")
    ]
