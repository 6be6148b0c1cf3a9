"""What the tests of slides in a browser share: where panes look, what is on the screen, what should be."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restain.slides import open_slide

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """How a pane looks at its grid: at a screen place q (px from the top left) lies F R s (p - centre) + size / 2.

    Attributes:
        centre: grid px in the middle.
        scale: screen px a grid px.
        rotation: degrees, clockwise.
        flip: mirrored left to right after the rotation.
        size: (width, height) of the pane, CSS px.
    """

    centre: Points
    scale: float
    rotation: float
    flip: bool
    size: Points

    @staticmethod
    def of(found: dict[str, Any]) -> Look:
        """From what the page says."""
        centre, size = np.array([found["x"], found["y"]]), np.array([found["width"], found["height"]])
        return Look(centre, found["scale"], found["rotation"], found["flip"], size)

    @property
    def matrix(self) -> Points:
        """[2, 2], from grid px to screen px."""
        angle = np.radians(self.rotation)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix: Points = np.diag([-1.0 if self.flip else 1.0, 1.0]) @ turn * self.scale
        return matrix

    def to_screen(self, points: Points) -> Points:
        """[n, 2] grid px to px of the pane."""
        screen: Points = (np.asarray(points) - self.centre) @ self.matrix.T + self.size / 2
        return screen

    def to_grid(self, places: Points) -> Points:
        """[n, 2] px of the pane to grid px."""
        grid: Points = (np.asarray(places) - self.size / 2) @ np.linalg.inv(self.matrix).T + self.centre
        return grid


def address(base: str, page: str, **query: Any) -> str:
    """A page of the front end; lists are repeated."""
    return f"{base}/#/{page}?{urlencode({k: v for k, v in query.items() if v is not None}, doseq=True)}"


def settle(page: Page) -> None:
    """Wait until nothing moves and all tiles are drawn."""
    page.wait_for_function("() => window.restain?.settled?.()")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def looks(page: Page) -> list[Look]:
    """How the panes of the viewer look, in the order in which they were made."""
    code = """() => restain.stage.drawn.map(([pane]) =>
        ({...pane.pose(), width: pane.size.x, height: pane.size.y}))"""
    return [Look.of(found) for found in page.evaluate(code)]


def pixels(place: Locator) -> Pixels:
    """What is on the screen there, uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(place.screenshot())).convert("RGB"))


@lru_cache(8)
def whole(slide: Path) -> NDArray[np.float64]:
    """All pixels of a slide, float64 [H, W, 3]."""
    with open_slide(slide) as opened:
        return np.asarray(opened.read(0, 0, *opened.size, opened.require_mpp()), np.float64)


def expected(slide: Path, look: Look, places: Points) -> tuple[Points, NDArray[np.bool_]]:
    """The mean colours that a slide has in 3 x 3 px of a pane around these places, from the slide itself.

    Args:
        slide: whose pixels the pane's grid is.
        look: of the pane.
        places: [n, 2] px of the pane.

    Returns:
        float [n, 3] in 0 to 255; which places lie on the slide.
    """
    picture = whole(slide)
    height, width = picture.shape[:2]
    steps = np.arange(-1.25, 1.5, 0.5)
    around = places[:, None] + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    at = np.floor(look.to_grid(around.reshape(-1, 2))).astype(int).reshape(len(places), -1, 2)
    inside: NDArray[np.bool_] = np.asarray(((at >= 0) & (at < np.array([width, height]))).all(axis=(1, 2)))
    at[~inside] = 0
    colours: Points = picture[at[..., 1], at[..., 0]].mean(axis=1)
    return colours, inside


def agreement(shown: Pixels, slide: Path, look: Look, region: tuple[float, float] = (0.0, 1.0)) -> float:
    """How well a screenshot shows a slide: the correlation of 3,000 places of a pane.

    Args:
        shown: of the whole pane.
        slide: that it should show.
        look: how the pane looks.
        region: columns that count, parts of the width.
    """
    generator = np.random.default_rng(0)
    low, high = np.array([region[0], 0.12]) * look.size, np.array([region[1], 0.9]) * look.size
    places = generator.uniform(low + 2, high - 2, (3000, 2))
    colours, inside = expected(slide, look, places)
    at = np.floor(places).astype(int)
    near = [shown[at[:, 1] + dy, at[:, 0] + dx].astype(float) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    seen = np.mean(near, axis=0)
    assert inside.sum() > 150
    return float(np.corrcoef(seen[inside].ravel(), colours[inside].ravel())[0, 1])


def drag(page: Page, stage: Locator, by: tuple[int, int]) -> None:
    """Drag from the middle of a pane."""
    box = stage.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by[0] / 2, y + by[1] / 2, steps=3)
    page.mouse.move(x + by[0], y + by[1], steps=3)
    page.wait_for_timeout(150)  # no flick
    page.mouse.up()
