"""Reports are whole, safe and readable without a network."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from restain.report import (
    Facts,
    Figure,
    Listing,
    Note,
    PictureRow,
    PictureTable,
    Section,
    Table,
    Text,
    chart,
    photo,
    signed_map,
    write_report,
)

HOSTILE = '"><script>alert(1)</script>&{{ 7*7 }}'
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """The tags of a page, its text, and whether every tag that was opened is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def pixels(source: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(source.split(",", 1)[1]))).convert("RGB"))


def test_everything_is_escaped_and_in_the_file(tmp_path: Path) -> None:
    picture = photo(np.zeros((4, 6, 3), np.uint8), HOSTILE)
    sections = [
        Section(HOSTILE, [Text(f"one {HOSTILE}\n\ntwo"), Note(HOSTILE, warning=True)]),
        Section("Tables", [Facts({HOSTILE: HOSTILE}), Table([HOSTILE, "n"], [[HOSTILE, "1\n0 to 2"]], HOSTILE)]),
        Section("Pictures", [Figure(picture, HOSTILE, width=100), Listing([(HOSTILE, HOSTILE)], HOSTILE)]),
        Section("Triptychs", [PictureTable(["a", HOSTILE], [PictureRow(HOSTILE, HOSTILE, [picture, None])], HOSTILE)]),
    ]
    write_report(tmp_path / "deep" / "report.html", HOSTILE, sections, HOSTILE)
    text = (tmp_path / "deep" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(HOSTILE) >= 15
    assert all(image["alt"] == HOSTILE and image["src"].startswith("data:image/") for image in page.attributes("img"))
    assert [link["href"][0] for link in page.attributes("a")] == ["#"] * 4
    assert not re.search(r"(src|href)=.?(https?:)?//|@import|url\(", text)
    assert len(page.attributes("html")) == 1
    assert page.attributes("html")[0]["lang"] == "en"


def test_text_that_utf8_cannot_hold(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", "bad \udcff name", [])
    assert "bad ? name" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_photo_keeps_size_and_colour() -> None:
    rgb = np.zeros((20, 30, 3), np.uint8)
    rgb[:, :15] = (150, 90, 40)
    picture = photo(rgb, "brown")
    assert (picture.width, picture.height) == (30, 20)
    assert np.abs(pixels(picture.source)[1:15, 1:7].astype(int) - (150, 90, 40)).max() < 6


def test_signed_map_tells_too_much_from_too_little() -> None:
    values = np.repeat(np.array([[-0.2, 0.0, 0.2, 9.0]], np.float32), 16, axis=0).repeat(16, axis=1)
    image = pixels(signed_map(values, 0.2, "difference").source).astype(int)[8]
    less, none, more, most = (image[16 * index + 8] for index in range(4))
    assert less[2] > less[0]  # purple
    assert none.min() > 230
    assert more[0] > more[2] + 50  # brown
    assert np.abs(more - most).max() < 12
    flat = pixels(signed_map(np.zeros((8, 8), np.float32), 0.0, "nothing").source)
    assert flat.min() > 230


def test_chart_is_the_same_each_time_and_takes_any_name() -> None:
    def draw(canvas: object) -> None:
        axes = canvas.add_subplot()  # type: ignore[attr-defined]
        axes.plot([1, 2], [3, 4], label="$x_1^{ <b>&")
        axes.set_title("$x_1^{ <b>&")
        axes.legend()

    first, second = chart(draw, "a line"), chart(draw, "a line")
    assert first == second
    ElementTree.fromstring(base64.b64decode(first.source.split(",", 1)[1]))


@pytest.mark.parametrize("count", [0, 2, 3])
def test_contents_are_listed_from_three_sections_on(tmp_path: Path, count: int) -> None:
    write_report(tmp_path / "report.html", "title", [Section(f"part {number}", []) for number in range(count)])
    assert len(Page((tmp_path / "report.html").read_text()).attributes("nav")) == (count > 2)
