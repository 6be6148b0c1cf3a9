"""What the tests of the reading room share: studies, a server that shows nothing else, and what a reader does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from restain.study.answers import read_answers
from restain.study.design import Design, Made, new_study
from restain.study.files import answer_rows
from tests.study.studies import write_folders

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAIRS = 40


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


SMALL = ("back", "codes", "full", "lost", "tabs", "session", "damaged", "zoom", "large")
"""A study of two pairs for each test that writes into one."""


@pytest.fixture(scope="package")
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
